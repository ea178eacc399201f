"""Do queries that ask for the same item agree? Ranks by item and group: languages, paraphrases, prompts, augmentations.

Recall per group says how well each group does on average; it cannot see whether the groups find the *same* items. The
spread of an item's ranks over the groups can, but it grows with the mean rank too: a worse system has a larger one. So
every spread here stands beside the one that groups with the same ranks would have if they had nothing to do with each
other, and the share of it that is missing is the agreement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from workbench.metrics import rank_dispersion
from workbench.statistics import FEW_CLUSTERS, Interval, cluster_bootstrap, holm
from workbench.types import Finding, FloatArray, IntArray, Ranks, Verdict

if TYPE_CHECKING:
    import pandas as pd

KINDS = {
    "std": "standard deviation of the ranks; code that prints a Mean Rank Variance computes this",
    "var": "variance of the ranks, which is what that name says",
    "clamped": "standard deviation, ranks beyond the clamp counted as the clamp",
    "log": "standard deviation of the logarithm of the rank: 1 and 2 differ as much as 500 and 1,000",
}
LEVEL = 0.05
SOURCE = (
    "0 is groups that have nothing in common but need not be a fault; 'look' when a group's correlation with the rest "
    "lies below half of the median group's (5 %, Fisher's z, Bonferroni over groups), or the interval below 0"
)
NAMED = 3


@dataclass(frozen=True, eq=False)
class Consistency:
    """How far apart the ranks of one item are over groups of queries, against groups that ignore each other.

    ranks (n_rows, n_groups) : place of the item, from 1. items (n_rows,) : which item, also the cluster of intervals.
    position (n_rows,) : where the item stands in the gallery. clamp : see ``KINDS``.
    dispersion : mean over rows by kind, with interval. independent : (mean, low, high) of the same mean when the ranks
        of each group are dealt to the items anew, which keeps every recall as it is; low to high hold 95 %.
    concordance : 1 - observed / independent variance of the log ranks: 1 every group ranks an item alike, 0 nothing in
        common, below 0 where one finds, the other does not. NaN when every rank is the same.
    with_rest (n_groups,) : correlation of a group's log ranks with the mean of the others; with_rest_p : one-sided
        permutation p-values, corrected by Holm. NaN for a group, or others, of constant rank.
    n_left_out : items that some group does not ask for.
    """

    direction: str
    column: str
    groups: tuple[str, ...]
    ranks: FloatArray
    items: IntArray
    position: IntArray
    n_gallery: int
    clamp: int
    dispersion: Mapping[str, Interval]
    independent: Mapping[str, tuple[float, float, float]]
    concordance: Interval
    with_rest: FloatArray
    with_rest_p: FloatArray
    n_left_out: int
    seed: int

    def table(self) -> pd.DataFrame:
        """One row per kind of spread: mean with interval, and what independent groups of the same recall would give."""
        import pandas as pd

        rows = [
            (kind, found.value, found.low, found.high, *self.independent[kind], self._share(kind), KINDS[kind])
            for kind, found in self.dispersion.items()
        ]
        names = ["kind", "value", "low", "high", "independent", "independent low", "independent high", "share", "what"]
        return pd.DataFrame(rows, columns=names).set_index("kind")

    def group_table(self) -> pd.DataFrame:
        """One row per group: its ranks, and whether it goes with the rest."""
        import pandas as pd

        return pd.DataFrame(
            {
                "median rank": np.median(self.ranks, axis=0),
                "mean rank": self.ranks.mean(axis=0),
                "in first place": (self.ranks <= 1).mean(axis=0),
                "correlation with the rest": self.with_rest,
                "p (Holm)": self.with_rest_p,
            },
            index=pd.Index(self.groups, name=self.column),
        )

    def found_by(self, k: int = 1) -> tuple[IntArray, FloatArray]:
        """Items found in the first k places by 0, 1, ..., all groups: counted, and expected of independent groups.

        A group finds an item when its expected place is at most k. Both (n_groups + 1,).
        """
        hits = self.ranks <= k
        expected = np.ones(1)
        for rate in hits.mean(axis=0):
            expected = np.convolve(expected, [1 - rate, rate])
        return np.bincount(hits.sum(axis=1), minlength=len(self.groups) + 1), expected * len(hits)

    def most_apart(self, n: int = 5) -> IntArray:
        """Rows on which the groups disagree most, by the spread of the log ranks, one per item."""
        spread = rank_dispersion(self.ranks, kind="log")
        order = np.lexsort((np.arange(len(spread)), -spread))
        order = order[spread[order] > 0]
        return order[np.sort(np.unique(self.items[order], return_index=True)[1])][:n]

    def truncation(self, depths: Sequence[int] = ()) -> pd.DataFrame:
        """What cutting the lists does to each kind: exact ranks, and lists cut at a depth and filled (:func:`cut`).

        depths : without any, the share of the gallery that 128 of 2,000 are, and 128 where the gallery is larger.
        """
        import pandas as pd

        usual = {max(2, round(self.n_gallery * 128 / 2000)), 128}
        cuts = [depth for depth in (depths or sorted(usual)) if depth < self.n_gallery]
        rows = [("exact", "", self.ranks)]
        for depth in cuts:
            filled = cut(self.ranks, self.position, depth=depth, n_gallery=self.n_gallery)
            rows += [
                (f"first {depth:,}", "rest in gallery order", filled),
                (f"first {depth:,}", f"rest counted as {depth + 1:,}", np.minimum(self.ranks, depth + 1)),
            ]
        kinds = ("std", "var", "log")
        means = [
            [lists, rest, *(float(rank_dispersion(ranks, kind=kind).mean()) for kind in kinds)]  # type: ignore[arg-type]
            for lists, rest, ranks in rows
        ]
        return pd.DataFrame(means, columns=["lists", "rest", *kinds])

    def plot(self, ax: Any = None) -> Any:
        """Each kind of spread as a share of the independent one, with its interval and the band of chance."""
        from workbench.plots import consistency

        return consistency.spreads(self, ax)

    def findings(self) -> list[Finding]:
        """One finding: whether the groups agree on which items are easy."""
        return [_finding(self)]

    def flat(self) -> dict[str, float]:
        """Numbers by ``consistency/direction column name``; undefined values are left out."""
        values = {f"mrv_{kind}": found.value for kind, found in self.dispersion.items()}
        values |= {"concordance": self.concordance.value, "n_rows": float(len(self.ranks))}
        return {
            f"consistency/{self.direction} {self.column} {name}": float(value)
            for name, value in values.items()
            if np.isfinite(value)
        }

    @property
    def level_share(self) -> float:
        """Share of the variance of log ranks within an item that is level: some groups rank everything lower."""
        logs = np.log(self.ranks)
        within = float(logs.var(axis=1).mean())
        return float(logs.mean(axis=0).var()) / within if within > 0 else float("nan")

    def _share(self, kind: str) -> float:
        expected = self.independent[kind][0]
        return self.dispersion[kind].value / expected if expected > 0 else float("nan")

    def _repr_html_(self) -> str:
        return str(self.table().to_html(float_format=lambda value: f"{value:.3g}", na_rep=""))


def consistency(
    ranks: npt.ArrayLike,
    groups: Sequence[str],
    *,
    n_gallery: int,
    items: npt.ArrayLike | None = None,
    position: npt.ArrayLike | None = None,
    direction: str = "t2i",
    column: str = "group",
    clamp: int = 101,
    n_left_out: int = 0,
    n_null: int = 999,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Consistency:
    """Spread of each item's ranks over groups of queries, and the spread of groups that have nothing in common.

    spread      = mean over items i of sd_g(r_ig)    ("std"; "var", "log" and "clamped": :func:`rank_dispersion`)
    concordance = 1 - mean_i var_g(log r_ig) / E[the same, ranks dealt anew within each group]

    The spread under "std" with the ranks of four languages is the "Mean Rank Variance" of Nie et al., whose code
    averages standard deviations although the name says variance: name the kind beside the number. A spread falls when
    every rank falls, so compare it between systems of one recall only; the concordance is free of that. It is the
    overall concordance correlation coefficient of the log ranks.

    ranks (n_rows, n_groups) : expected places from 1; finite, for what was not found must be given a place
    (:func:`cut` shows what that does). groups : names. items (n_rows,) : the item of each row; rows of one item stay
    together in intervals and permutations; without it every row is an item. position (n_rows,) : where the item stands
    in the gallery, items if not given. Intervals: cluster bootstrap over items. n_null : permutations.
    Errors: fewer than two groups or rows, names that do not fit, ranks below 1, NaN, infinite or beyond the gallery.
    Sources: Z. Nie et al., "Improving the Consistency in Cross-Lingual Cross-Modal Retrieval with 1-to-K Contrastive
    Learning", KDD 2024, https://arxiv.org/abs/2406.18254; H. Barnhart, M. Haber & J. Song, "Overall Concordance
    Correlation Coefficient for Evaluating Agreement among Multiple Observers", Biometrics 58, 2002,
    https://doi.org/10.1111/j.0006-341X.2002.01020.x.

    >>> found = consistency([[1, 1], [1, 5], [9, 9]], ["en", "de"], n_gallery=10)
    >>> round(found.dispersion["std"].value, 3), round(found.dispersion["var"].value, 3)
    (0.667, 1.333)
    """
    table, own, where = _checked(ranks, groups, n_gallery, items, position)
    views = {
        "std": table, "var": table, "clamped": np.minimum(table, clamp), "log": np.log(table),
    }  # fmt: skip
    spreads = {kind: _spread(view, kind) for kind, view in views.items()}
    how: dict[str, Any] = {"seed": seed, "n_resamples": n_resamples}
    null, chance = _dealt_anew(views, own, n_null, seed)
    with_rest = _with_rest(views["log"])
    p = (1 + (chance >= with_rest - 1e-12).sum(axis=0)) / (n_null + 1)
    return Consistency(
        direction=direction, column=column, groups=tuple(map(str, groups)), ranks=table, items=own, position=where,
        n_gallery=n_gallery, clamp=clamp,
        dispersion={kind: cluster_bootstrap(values, own, **how) for kind, values in spreads.items()},
        independent={
            kind: (float(drawn.mean()), *map(float, np.quantile(drawn, [0.025, 0.975]))) for kind, drawn in null.items()
        },
        concordance=_concordance(views["log"], own, **how),
        with_rest=with_rest, with_rest_p=holm(np.where(np.isfinite(with_rest), p, np.nan)),
        n_left_out=n_left_out, seed=seed,
    )  # fmt: skip


def own_places(ranks: Ranks) -> FloatArray:
    """The place of every positive among what is *not* right for its query, expected under random tie order.

    place = 1 + (better items that are no positives) + (tied items that are no positives) / 2

    Other right answers do not push it down, so that queries with one and with many positives are comparable; with one
    positive per query it is the usual expected rank. Infinite for a positive that was not retrieved. (n_positives,), in
    the order of ``ranks``.

    >>> from workbench.metrics import ranks_from_scores
    >>> from workbench.types import Relevance
    >>> right = Relevance.from_pairs([0, 0], [1, 3], n_queries=1, n_gallery=4)
    >>> own_places(ranks_from_scores([[0.5, 0.9, 0.1, 0.5]], right))
    array([1. , 1.5])
    """
    order = np.lexsort((ranks.better, ranks.queries))
    query, better = ranks.queries[order], ranks.better[order]
    opens = np.ones(len(order), bool)
    opens[1:] = (query[1:] != query[:-1]) | (better[1:] != better[:-1])
    group = np.cumsum(opens) - 1
    size, first = np.bincount(group), np.flatnonzero(opens)
    ahead = first[group] - ranks.indptr[query]
    places = np.empty(len(order))
    places[order] = 1 + better - ahead + (ranks.tied[order] + 1 - size[group]) / 2
    places[ranks.better >= ranks.n_gallery] = np.inf
    return places


def by_group(items: npt.ArrayLike, groups: npt.ArrayLike, names: Sequence[str]) -> tuple[IntArray, IntArray]:
    """Which query of each group asks for which item: rows of queries that belong together, and how many items are left.

    An item with several queries in every group gives several rows: the first of each group together, the second of each
    together, up to what the poorest group has. That is right where the i-th texts are translations of each other; where
    their order means nothing it is one pairing drawn from all, and the mean is not biased by it. Items that some group
    does not ask for, and queries without an item (-1), are left out.

    items (n_queries,), groups (n_queries,) labels, names : of the groups wanted, in the order of the columns. Returns
    (rows (n_rows, n_groups) of query numbers, ascending by item; the items left out).

    >>> rows, left_out = by_group([7, 7, 7, 8, 9, 9], ["en", "de", "de", "en", "de", "en"], ["de", "en"])
    >>> rows.tolist(), left_out.tolist()
    ([[1, 0], [4, 5]], [8])
    """
    own, labels = np.asarray(items, np.int64), np.asarray(groups).astype(str)
    column = np.full(len(own), -1)
    for g, name in enumerate(names):
        column[labels == name] = g
    used = np.flatnonzero((own >= 0) & (column >= 0))
    order = used[np.lexsort((used, column[used], own[used]))]
    known, code = np.unique(own[order], return_inverse=True)
    counts = np.zeros((len(known), len(names)), np.int64)
    np.add.at(counts, (code, column[order]), 1)
    starts = (np.cumsum(counts) - counts.ravel()).reshape(counts.shape)
    depth = counts.min(axis=1)
    item = np.repeat(np.arange(len(known)), depth)
    nth = np.arange(len(item)) - np.repeat(np.cumsum(depth) - depth, depth)
    return order[starts[item] + nth[:, None]], known[depth == 0]


def cut(ranks: npt.ArrayLike, position: npt.ArrayLike, *, depth: int, n_gallery: int) -> FloatArray:
    """Ranks as an evaluation reads them that scores the first ``depth`` items only and gives all others one low score.

    What is not among the first then ties with everything else that is not, and a sort leaves it where it stood:
    depth + 1 + floor(position * (n_gallery - depth) / n_gallery), the place a gallery order without meaning gives it.
    An item that is just behind the cut can move to the end of the gallery: a spread of such ranks measures the cut.

    ranks (n_rows, n_groups), position (n_rows,) in 0..n_gallery - 1. Same shape.

    >>> cut([[1, 4], [5, 100]], [99, 50], depth=10, n_gallery=100)
    array([[ 1.,  4.],
           [ 5., 56.]])
    """
    table = np.asarray(ranks, np.float64)
    filled = depth + 1 + np.asarray(position, np.int64) * (n_gallery - depth) // n_gallery
    return np.where(table <= depth, table, filled[:, None].astype(np.float64))


def _checked(
    ranks: npt.ArrayLike, groups: Sequence[str], n_gallery: int, items: Any, position: Any
) -> tuple[FloatArray, IntArray, IntArray]:
    table = np.asarray(ranks, np.float64)
    if table.ndim != 2 or table.shape[1] != len(groups) or len(set(groups)) != len(groups) or min(table.shape) < 2:
        raise ValueError(
            f"ranks must be (n_rows, n_groups), two or more of each, with a name of its own per group; got "
            f"{table.shape} and {len(groups)} names ({', '.join(map(str, groups))[:80]})"
        )
    if not ((table >= 1) & (table <= n_gallery)).all():
        row = int(np.argmax(~((table >= 1) & (table <= n_gallery)).all(axis=1)))
        raise ValueError(
            f"ranks must lie in 1..{n_gallery} (n_gallery), but row {row} has {table[row].tolist()}; what was not "
            "found must be given a place, such as the depth of the list + 1"
        )
    own = np.arange(len(table)) if items is None else np.asarray(items, np.int64)
    where = own if position is None else np.asarray(position, np.int64)
    if own.shape != table.shape[:1] or where.shape != own.shape:
        raise ValueError(f"items {own.shape} and position {where.shape} need one entry for each of {len(table)} rows")
    return table, own, where


def _spread(view: FloatArray, kind: str) -> FloatArray:
    """Over the last axis; the view has the clamp and the logarithm applied."""
    spread = view.var(axis=-1)
    return np.asarray(spread if kind == "var" else np.sqrt(spread))


def _deals(items: IntArray, n_groups: int, rng: np.random.Generator) -> Iterator[IntArray]:
    """(n_rows, n_groups) rows to take the ranks from, each group's items exchanged, the rows of an item together."""
    code = np.unique(items, return_inverse=True)[1]
    order = np.argsort(code, kind="stable")
    starts = np.cumsum(np.bincount(code)) - np.bincount(code)
    nth = np.empty(len(items), np.int64)
    nth[order] = np.arange(len(items)) - starts[code[order]]
    alike = [np.flatnonzero(nth == n) for n in range(int(nth.max()) + 1)]
    while True:
        keys = rng.random((len(starts), n_groups))
        source = np.empty((len(items), n_groups), np.int64)
        for rows in alike:
            source[rows] = rows[np.argsort(keys[code[rows]], axis=0)]
        yield source


def _dealt_anew(
    views: Mapping[str, FloatArray], items: IntArray, n_null: int, seed: int
) -> tuple[dict[str, FloatArray], FloatArray]:
    """Of groups that share nothing: mean spreads (n_null,) by kind, correlations with the rest (n_null, n_groups)."""
    n_groups = views["log"].shape[1]
    drawn = {kind: np.empty(n_null) for kind in views}
    correlations, column = np.empty((n_null, n_groups)), np.arange(n_groups)
    for n, source in zip(range(n_null), _deals(items, n_groups, np.random.default_rng(seed)), strict=False):
        for kind, view in views.items():
            drawn[kind][n] = _spread(view[source, column], kind).mean()
        correlations[n] = _with_rest(views["log"][source, column])
    return drawn, correlations


def _with_rest(view: FloatArray) -> FloatArray:
    """Correlation of each column with the mean of the others; NaN where either is constant."""
    mine = view - view.mean(axis=0)
    rest = mine.sum(axis=1, keepdims=True) - mine
    scale = np.sqrt((mine**2).sum(axis=0) * (rest**2).sum(axis=0))
    known = scale > 1e-9
    return np.where(known, (mine * rest).sum(axis=0) / np.where(known, scale, 1), np.nan)


def _concordance(view: FloatArray, items: IntArray, *, seed: int, n_resamples: int, level: float = 0.95) -> Interval:
    """1 - mean variance within a row / what it is when columns are independent, in closed form, with its bootstrap."""
    k, code = view.shape[1], np.unique(items, return_inverse=True)[1]
    columns = np.column_stack([view.var(axis=1), (view**2).mean(axis=1), view, np.ones(len(view))])
    sums = np.stack([np.bincount(code, column) for column in columns.T], axis=1)

    def value(totals: FloatArray) -> FloatArray:
        within, square, means = totals[..., 0], totals[..., 1], totals[..., 2:-1]
        n = totals[..., -1:]
        means, square = means / n, square / n[..., 0]
        apart = (k - 1) / k * (square - (means**2).mean(axis=-1)) + means.var(axis=-1)
        known = apart > 1e-12
        return np.where(known, 1 - within / n[..., 0] / np.where(known, apart, 1), np.nan)

    rng, n_items = np.random.default_rng(seed), len(sums)
    drawn = [value(sums[rng.integers(0, n_items, n_items)].sum(axis=0)) for _ in range(n_resamples)]
    known = np.asarray(drawn)[np.isfinite(drawn)]
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2]) if len(known) and n_items > 1 else [np.nan] * 2
    method = f"percentile bootstrap over items, {n_resamples} resamples, seed {seed}"
    return Interval(float(value(sums.sum(axis=0))), float(low), float(high), level, len(view), n_items, 0, method, ())


def _finding(found: Consistency) -> Finding:
    name, value = f"{found.direction}/consistency by {found.column}", found.concordance
    if value.n_clusters < FEW_CLUSTERS or not np.isfinite(value.value):
        why = (
            f"Only {value.n_clusters} items are asked for by every group; {FEW_CLUSTERS} are needed."
            if value.n_clusters < FEW_CLUSTERS
            else "Every rank is the same, so no group can agree more or less with another than by chance."
        )
        return Finding(name, None, None, None, SOURCE, "not measurable", why)
    apart = [found.groups[g] for g in _apart(found)]
    verdict: Verdict = "look" if value.high < 0 or apart else "ok"
    return Finding(name, value.value, (value.low, value.high), None, SOURCE, verdict, _advice(found, apart))


def _apart(found: Consistency) -> IntArray:
    """Groups whose correlation with the rest is shown to be below half of the median group's, if that is above 0."""
    known = np.isfinite(found.with_rest)
    r = np.clip(found.with_rest, -0.999, 0.999)
    half = float(np.median(r[known])) / 2 if known.sum() > 2 else 0.0
    if half <= 0:
        return np.zeros(0, np.int64)
    z = (np.arctanh(half) - np.arctanh(r)) * np.sqrt(found.concordance.n_clusters - 3)
    return np.flatnonzero(known & (z > -ndtri(LEVEL / known.sum())))


def _advice(found: Consistency, apart: list[str]) -> str:
    value, std = found.concordance, found.dispersion["std"]
    counted, expected = found.found_by(1)
    some, by_chance = counted[1:-1].sum() / counted.sum(), expected[1:-1].sum() / expected.sum()
    words = [
        f"Mean rank spread {std.value:.3g} (standard deviation; independent groups of the same recall: "
        f"{found.independent['std'][0]:.3g}). {some:.0%} of the items are first for some groups and not for others "
        f"({by_chance:.0%} if groups had nothing in common); {found.level_share:.0%} of the variance of log ranks "
        "within an item is that some groups rank everything lower."
    ]
    if value.high < 0:
        words.append("Where one group finds an item, another does not, more than chance makes it so.")
    elif not value.low > 0:
        words.append("Groups are not shown to agree on which items are easy: the spread only restates their recall.")
    if apart:
        shown = ", ".join(apart[:NAMED]) + (f" and {len(apart) - NAMED} more" if len(apart) > NAMED else "")
        words.append(
            f"What {shown} finds has less to do with the other groups than theirs with each other: see whether "
            "the encoder reads it at all before averaging over groups."
        )
    if value.low > 0 and not apart:
        words.append(
            f"That is {value.value:.0%} of the way from nothing in common to rank for rank (logarithms of ranks). "
            "Where texts of one item do not say the same, what they say is part of the spread."
        )
    return " ".join(words)
