"""There and back: does the best image of a text have that text as its best text?

A cycle uses no labels. That is its use where nothing is labelled, and its limit: it reads the same when every image has
changed places with another, so it shows that two sides agree, never that they are right. Nor is a small share a fault:
five systems fitted on Flickr8k that are right in first place 26 to 37 times as often as by chance close no more cycles
than their own vectors do after one side is turned at random, because hubs break cycles. The part that goes over items
labelled right is what rises with quality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from workbench.search import TopK, scan
from workbench.statistics import Interval, cluster_bootstrap
from workbench.types import Finding, FloatArray, IntArray, Neighbours, Relevance, Verdict

if TYPE_CHECKING:
    import pandas as pd

MOST_TIED = 1024
Pairs = tuple[IntArray, IntArray]
Hops = tuple[Pairs, Pairs]
SOURCE = (
    "the same vectors with one side turned at random, which keeps each side as it is and takes the pairing away; "
    "'problem' when the cycles over right items do not lie above every turn; without labels 'ok' when all cycles do"
)


@dataclass(frozen=True, eq=False)
class CycleConsistency:
    """How many queries come back after one step there and one step back.

    direction : "t2i2t" or "i2t2i". itself : chance per query to come back to that very query, same_item : to a query of
    the same item (captions of one image), over random tie order. closed_right, closed_wrong : the parts of same_item
    that went over an item labelled right and over another one; NaN where nothing is labelled.
    chance : itself, of scores drawn independently, n_gallery / (n_gallery + n_queries - 1).
    turned, turned_same_item, turned_right (n_turns,) : itself, same_item, closed_right with one side turned at random.
    """

    direction: str
    itself: Interval
    same_item: Interval
    closed_right: Interval
    closed_wrong: Interval
    chance: float
    turned: FloatArray
    turned_same_item: FloatArray
    turned_right: FloatArray
    n_queries: int
    n_gallery: int
    seed: int

    def table(self) -> pd.DataFrame:
        """One row per share, with interval and what vectors without a pairing reach."""
        import pandas as pd

        nothing = np.full(1, np.nan)
        rows = [
            (name, found.value, found.low, found.high, float(turned.mean()), float(turned.max()))
            for name, found, turned in (
                ("back at itself", self.itself, self.turned),
                ("back at the same item", self.same_item, self.turned_same_item),
                ("... over a right item", self.closed_right, self.turned_right),
                ("... over a wrong item", self.closed_wrong, nothing),
            )
        ]
        names = ["cycle", "value", "low", "high", "without pairing", "most without pairing"]
        return pd.DataFrame(rows, columns=names).set_index("cycle")

    def plot(self, ax: Any = None) -> Any:
        """Shares with intervals beside what is left without a pairing."""
        from workbench.plots import consistency

        return consistency.cycles([self], ax)

    def findings(self) -> list[Finding]:
        """One finding: whether the two sides choose each other, and whether over right items."""
        return [_finding(self)]

    def flat(self) -> dict[str, float]:
        """Shares by ``cycle/direction name``; undefined values are left out."""
        values = {
            "itself": self.itself.value, "same_item": self.same_item.value, "closed_right": self.closed_right.value,
            "closed_wrong": self.closed_wrong.value, "chance": self.chance,
        }  # fmt: skip
        return {f"cycle/{self.direction} {name}": value for name, value in values.items() if np.isfinite(value)}

    def _repr_html_(self) -> str:
        return str(self.table().to_html(float_format=lambda value: f"{value:.3g}", na_rep=""))


def cycle_consistency(
    queries: npt.ArrayLike,
    gallery: npt.ArrayLike,
    items: npt.ArrayLike,
    *,
    relevance: Relevance | None = None,
    direction: str = "t2i2t",
    n_turns: int = 3,
    n_resamples: int = 2000,
    seed: int = 0,
) -> CycleConsistency:
    """Follow every query to its best item and from there to that item's best query.

    itself_q    = mean over q's best items g of  [q in best(g)] / |best(g)|
    same_item_q = mean over q's best items g of  |best(g) with q's item| / |best(g)|      best: all in first place

    Chance is not 1 / n_queries: the best score of a query is high for its item too, and of independent scores
    n_gallery / (n_gallery + n_queries - 1) of the queries come back. Vectors share more than that (hubs, narrow cones),
    so the value is held against the same vectors after ``n_turns`` random rotations of the gallery, which leave
    distances within each side as they are.

    queries (n_queries, dim), gallery (n_gallery, dim) : scored by dot product. items (n_queries,) : the item of each
    query, also the cluster of intervals. relevance (n_queries, n_gallery) : splits closed cycles into right and wrong.
    Errors: fewer than two of either, shapes that do not fit, more than 1,024 items that share a first place.
    Idea: T. Zhou et al., "Learning Dense Correspondence via 3D-Guided Cycle Consistency", CVPR 2016,
    https://arxiv.org/abs/1604.05383; for nearest neighbours across two sides D. Dwibedi et al., "Temporal
    Cycle-Consistency Learning", CVPR 2019, https://arxiv.org/abs/1904.07846.

    >>> found = cycle_consistency([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]], [0, 0, 1])
    >>> round(found.itself.value, 3), found.same_item.value, found.chance
    (0.667, 1.0, 0.5)
    """
    right = np.asarray(gallery)
    return cycles_both_ways(
        queries, right, items, np.arange(len(right)), relevance=relevance,
        names=tuple(direction.split("2")[:2]), n_turns=n_turns, n_resamples=n_resamples, seed=seed,
    )[0]  # fmt: skip


def cycles_both_ways(
    queries: npt.ArrayLike,
    gallery: npt.ArrayLike,
    items: npt.ArrayLike,
    gallery_items: npt.ArrayLike,
    *,
    relevance: Relevance | None = None,
    names: Sequence[str] = ("t", "i"),
    n_turns: int = 3,
    n_resamples: int = 2000,
    seed: int = 0,
) -> tuple[CycleConsistency, CycleConsistency]:
    """:func:`cycle_consistency` from the queries and from the gallery, searched once.

    gallery_items (n_gallery,) : the item of each gallery entry. names : of the two sides, for "t2i2t" and "i2t2i".

    >>> to, fro = cycles_both_ways([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]], [0, 0, 1], [0, 1])
    >>> to.direction, round(to.itself.value, 3), fro.direction, fro.itself.value
    ('t2i2t', 0.667, 'i2t2i', 1.0)
    """
    left, right = np.asarray(queries), np.asarray(gallery)
    own = np.asarray(items, np.int64), np.asarray(gallery_items, np.int64)
    _check(left, right, own, relevance, n_turns)
    hops = first_places(left, right)
    turned = [first_places(left, _turned(right, turn)) for turn in np.random.SeedSequence(seed).spawn(n_turns)]
    labels = (None, None) if relevance is None else (relevance, relevance.T)
    ways = ("2".join((names[0], names[1], names[0])), "2".join((names[1], names[0], names[1])))
    to, fro = (
        _measured(ways[side], hops[::step], [pair[::step] for pair in turned], own[side], labels[side],
                  len(own[1 - side]), n_resamples, seed)
        for side, step in ((0, 1), (1, -1))
    )  # fmt: skip
    return to, fro


def _check(left: Any, right: Any, own: tuple[IntArray, IntArray], relevance: Relevance | None, n_turns: int) -> None:
    sizes = len(left), len(right)
    if n_turns < 1:
        raise ValueError(f"n_turns must be at least 1, a turn to hold the cycles against; got {n_turns}")
    if left.ndim != 2 or right.ndim != 2 or min(sizes) < 2 or tuple(map(len, own)) != sizes:
        raise ValueError(
            f"queries {left.shape} and gallery {right.shape} must be (n, dim) with two rows or more, and items need "
            f"one entry per row; got {own[0].shape} and {own[1].shape}"
        )
    if relevance is not None and (relevance.n_queries, relevance.n_gallery) != sizes:
        raise ValueError(
            f"relevance is {relevance.n_queries} x {relevance.n_gallery}, but there are {sizes[0]} queries and "
            f"{sizes[1]} gallery items; is it for the other direction (relevance.T)?"
        )


def _measured(
    direction: str, hops: Hops, turned: list[Hops], items: IntArray, relevance: Relevance | None, n_gallery: int,
    n_resamples: int, seed: int,
) -> CycleConsistency:  # fmt: skip
    itself, same, over_right = _followed(*hops, items, relevance)
    unknown = np.full(len(items), np.nan)
    parts = (over_right, same - over_right) if relevance is not None else (unknown, unknown)
    intervals = [
        cluster_bootstrap(values, items, n_resamples=n_resamples, seed=seed) for values in (itself, same, *parts)
    ]
    without = np.array([[part.mean() for part in _followed(*pair, items, relevance)] for pair in turned])
    if relevance is None:
        without[:, 2] = np.nan
    return CycleConsistency(
        direction,
        *intervals,
        n_gallery / (n_gallery + len(items) - 1),
        *without.T,
        len(items),
        n_gallery,
        seed,
    )


class NoBestItem(ValueError):
    """So many items share the first place that there is none to go to."""


def first_places(queries: Any, gallery: Any) -> Hops:
    """Pairs (query, item in its first place) and (item, query in its first place), all that share it, exactly."""
    sizes = {"queries": len(gallery), "gallery": len(queries)}
    found: dict[str, Neighbours] = {}
    todo, depth = list(sizes), 2
    while todo:
        consumers = [TopK(min(depth, sizes[of]), of=of) for of in todo]  # type: ignore[arg-type]
        found |= zip(todo, scan(queries, gallery, consumers), strict=True)
        todo = [of for of in todo if _open(found[of])]
        if todo and depth >= MOST_TIED:
            raise NoBestItem(
                f"more than {MOST_TIED:,} items share a first place, so there is no best item to go to: are the "
                "vectors of one side all alike?"
            )
        depth *= 8
    return _best(found["queries"]), _best(found["gallery"])


def _open(lists: Neighbours) -> bool:
    """Whether a first place may be shared by items beyond the list."""
    return lists.k < lists.n_gallery and bool((lists.scores[:, 0] == lists.scores[:, -1]).any())


def _best(lists: Neighbours) -> Pairs:
    row, place = np.nonzero(lists.scores == lists.scores[:, :1])
    return row, lists.indices[row, place]


def _followed(
    there: Pairs, back: Pairs, items: IntArray, relevance: Relevance | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Per query: chance to come back to itself, to its item, and to its item over a right one."""
    (query, over), n = there, len(items)
    code = np.unique(items, return_inverse=True)[1]
    choices, ends = np.bincount(query, minlength=n), np.bincount(back[0])
    own = np.isin(over * n + query, back[0] * n + back[1]) / ends[over]
    keys, times = np.unique(back[0] * n + code[back[1]], return_counts=True)
    wanted = over * n + code[query]
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    same = np.where(keys[at] == wanted, times[at], 0) / ends[over]
    right = np.zeros(len(query))
    if relevance is not None:
        labelled = relevance.positives
        width = relevance.n_gallery
        right = np.isin(query * width + over, labelled.queries * width + labelled.items)
    itself, closed, over_right = (np.bincount(query, part, n) / choices for part in (own, same, same * right))
    return itself, closed, over_right


def _turned(vectors: Any, seed: np.random.SeedSequence) -> Any:
    """The vectors after a random rotation, drawn evenly from all."""
    dim = vectors.shape[1]
    square, upper = np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))
    return np.asarray(vectors @ (square * np.sign(np.diag(upper))), vectors.dtype)


def _finding(found: CycleConsistency) -> Finding:
    name, labelled = f"{found.direction}/cycle", bool(np.isfinite(found.closed_right.value))
    value, turned = (found.closed_right, found.turned_right) if labelled else (found.same_item, found.turned_same_item)
    bound, most = float(turned.max()), float(found.turned_same_item.max())
    said = (
        f"{found.itself.value:.0%} of the queries come back to themselves, {found.same_item.value:.0%} to their item "
        f"(without a pairing up to {most:.0%})."
    )
    if not np.isfinite(value.low):
        why = "There is one item only, so how much this would vary is unknown."
        return Finding(name, None, None, bound, SOURCE, "not measurable", why, "%")
    if not labelled and not value.low > bound:
        why = said + " Without labels that says nothing: working systems with hubs read like this too."
        return Finding(name, None, None, bound, SOURCE, "not measurable", why, "%")
    verdict: Verdict = "ok" if value.low > bound else "problem"
    wrong = f"{value.value:.0%} close over a right item, {found.closed_wrong.value:.0%} over another"
    if verdict == "problem" and found.same_item.low > most:
        advice = f"{wrong}: both sides agree, on something else than the labels. Look for a wrong pairing of rows."
    elif verdict == "problem":
        advice = f"{wrong}: not shown to be more over right items than the {bound:.0%} without any pairing."
    elif labelled:
        advice = f"{wrong}; only the first part is about being right."
    else:
        advice = "Agreement is not being right: a cycle reads the same when all items have changed places."
    return Finding(name, value.value, (value.low, value.high), bound, SOURCE, verdict, f"{said} {advice}", "%")
