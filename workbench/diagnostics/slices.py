"""Scores by group: every metric for each value of a metadata column, the gallery left whole.

Groups come from a declared column, never from guessing. Each group is compared with all other queries that state a
group; the p-values of a column are corrected together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from workbench.statistics import cluster_bootstrap, group_difference, holm
from workbench.types import Finding, Verdict

if TYPE_CHECKING:
    import pandas as pd

MISSING = "(none)"
MOST_GROUPS = 100
FEW_VALUES = 12
LEVEL = 0.05
NAMED = 3
SLICE_SOURCE = (
    "'look' when a group is worse than the rest at 5 % after Holm's correction over all groups and metrics of the "
    "column; 'problem' when a group's interval does not exclude chance while another group's does; groups of fewer "
    "than {smallest} clusters (independent images or queries) are shown, never judged: convention of this project"
)


@dataclass(frozen=True, eq=False)
class SliceScores:
    """Metrics in groups of queries; arrays are (n_groups, n_metrics), groups worst first by the first metric.

    value, low, high : mean and its interval. n, n_clusters : scored queries and their clusters. difference,
    difference_low, difference_high : group minus rest with its interval. p, p_holm : two-sided, raw and corrected, NaN
    where not tested. detectable : smallest true difference found at 5 %, before correction, in 80 % of repetitions.
    too_small : fewer than ``smallest`` clusters. overall : (n_metrics,) mean over all queries. chance : (n_metrics,),
    NaN where not given. rule : how the groups were made. reason : why nothing can be said, or "".
    """

    column: str
    direction: str
    metrics: tuple[str, ...]
    groups: tuple[str, ...]
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n: np.ndarray
    n_clusters: np.ndarray
    difference: np.ndarray
    difference_low: np.ndarray
    difference_high: np.ndarray
    p: np.ndarray
    p_holm: np.ndarray
    detectable: np.ndarray
    too_small: np.ndarray
    overall: np.ndarray
    chance: np.ndarray
    smallest: int
    level: float
    rule: str
    reason: str

    @property
    def tested(self) -> np.ndarray:
        """(n_groups, n_metrics) bool: compared with the rest."""
        return np.isfinite(self.p)

    def table(self, metric: str = "") -> pd.DataFrame:
        """One row per group for a metric (the first by default), worst group first."""
        import pandas as pd

        m = self._position(metric)
        names = ("value", "low", "high", "n", "n_clusters", "difference", "difference_low", "difference_high", "p_holm")
        columns: dict[str, Any] = {name: getattr(self, name)[:, m] for name in names}
        columns["note"] = [self.note(g, m) for g in range(len(self.groups))]
        return pd.DataFrame(columns, index=pd.Index(self.groups, name=f"{self.direction}/{self.metrics[m]}"))

    def note(self, group: int, metric: int = 0) -> str:
        """What keeps a group from being judged, or what was found: worse, better, or nothing."""
        if self.groups[group] == MISSING:
            return "no value stated, not tested"
        if self.too_small[group, metric]:
            return "too small, not tested"
        if not self.tested[group, metric]:
            return "not tested"
        if not self.p_holm[group, metric] < LEVEL:
            return ""
        return "worse than the rest" if self.difference[group, metric] < 0 else "better than the rest"

    def plot(self, ax: Any = None, *, metric: str = "") -> Any:
        """Dots and intervals, worst on top, the mean over all queries as a line; hollow grey where too small."""
        from workbench.plots import groups

        return groups.slice_scores(self, ax, metric=self._position(metric))

    def findings(self) -> list[Finding]:
        """One finding, for the first metric."""
        return [_finding(self)]

    def flat(self) -> dict[str, float]:
        """Values by ``direction/metric column=group``; what is not scored is left out."""
        return {
            f"{self.direction}/{metric} {self.column}={group}": float(self.value[g, m])
            for m, metric in enumerate(self.metrics)
            for g, group in enumerate(self.groups)
            if np.isfinite(self.value[g, m])
        }

    def _position(self, metric: str) -> int:
        if metric and metric not in self.metrics:
            raise KeyError(f"no metric {metric!r} in these slices; there are {', '.join(self.metrics)}")
        return self.metrics.index(metric) if metric else 0

    def _repr_html_(self) -> str:
        if self.reason:
            return f"<p>{escape(self.reason)}</p>"
        return str(self.table().to_html(float_format=lambda value: f"{value:.4g}", na_rep="", escape=True))


def group_labels(values: npt.ArrayLike | Sequence[Any], *, n_bins: int = 4) -> tuple[np.ndarray, str]:
    """One label per item from a column, and the rule in words. Missing values ("", None, NaN) become "(none)".

    A column of numbers (or of text that reads as finite numbers throughout) with more than 12 different values is cut
    at its quantiles 1/n_bins, 2/n_bins, ...; a value equal to a cut belongs to the lower bin, equal cuts are merged,
    and a bin is named by the smallest and largest value in it. Anything else is taken as it stands.

    >>> group_labels(["de", "", "en"])[0].tolist()
    ['de', '(none)', 'en']
    >>> labels, rule = group_labels(range(1, 17), n_bins=2)
    >>> sorted(set(labels.tolist())), rule
    (['1 to 8', '9 to 16'], 'cut at the quantiles 0.5 (8); a value equal to a cut belongs to the lower group')
    """
    if n_bins < 2:
        raise ValueError(f"n_bins must be at least 2; got {n_bins}")
    given = np.asarray(values)
    if given.ndim != 1:
        raise ValueError(f"a column holds one value per item; got shape {given.shape}")
    texts = np.array([_text(value) for value in given.tolist()], dtype=object)
    stated = texts != MISSING
    numbers = None if given.dtype.kind == "b" else _numbers(texts[stated])
    if numbers is None or len(np.unique(numbers)) <= FEW_VALUES:
        return texts.astype(str), "one group per value"
    cuts, rule = _cuts(numbers, n_bins)
    codes = np.searchsorted(cuts, numbers, side="left")
    names = [_span(numbers[codes == code]) for code in range(len(cuts) + 1)]
    texts[stated] = [names[code] for code in codes]
    return texts.astype(str), rule


def slice_scores(
    column: str,
    groups: npt.ArrayLike | Sequence[Any],
    values: Mapping[str, npt.ArrayLike],
    clusters: npt.ArrayLike,
    *,
    direction: str,
    chance: Mapping[str, float] | None = None,
    smallest: int = 30,
    n_bins: int = 4,
    level: float = 0.95,
    seed: int = 0,
    n_resamples: int = 2000,
) -> SliceScores:
    """Score every group of queries that a column declares, and compare each with the rest.

    groups (n_queries,): text or numbers (binned, see :func:`group_labels`). values: metric -> (n_queries,) values where
    higher is better, NaN = not scored. clusters (n_queries,). chance: metric -> value of a constant scorer.
    The rest are all other queries that state a group, of too small groups too. With two groups, one comparison is
    counted, as the other is its mirror image. More than 100 groups are not scored: the column names items, not groups.
    Errors: no metric, lengths that differ, smallest below 2. Intervals: :func:`workbench.statistics.cluster_bootstrap`;
    tests: :func:`workbench.statistics.group_difference`; correction: :func:`workbench.statistics.holm`.

    >>> right = {"hit@1": [1.0] * 30 + [0.0] * 40}
    >>> found = slice_scores("language", ["en"] * 30 + ["fr"] * 40, right, range(70), direction="t2i")
    >>> found.groups, found.value[:, 0].tolist(), found.note(0)
    (('fr', 'en'), [0.0, 1.0], 'worse than the rest')
    """
    labels, rule = group_labels(groups, n_bins=n_bins)
    arrays = {name: np.asarray(given, dtype=np.float64) for name, given in values.items()}
    owner = np.asarray(clusters)
    _check(labels, arrays, owner, smallest)
    names = np.unique(labels).tolist()
    reason = nothing_to_compare(column, names)
    if len(names) > MOST_GROUPS:
        names = []
    how = {"level": level, "seed": seed, "n_resamples": n_resamples}
    rows = [
        [_cell(labels, name, scored, owner, smallest if not reason else None, how) for scored in arrays.values()]
        for name in names
    ]
    table = np.array(rows, dtype=np.float64).reshape(len(names), len(arrays), 10)
    too_small = table[..., 4] < smallest
    order = sorted(
        range(len(names)),
        key=lambda g: (bool(too_small[g, 0]), names[g] == MISSING, _last(table[g, 0, 0]), natural(names[g])),
    )
    table, too_small = table[order], too_small[order]
    p = table[..., 8]
    chances = chance or {}
    return SliceScores(
        column, direction, tuple(arrays), tuple(names[g] for g in order), *(table[..., i] for i in range(3)),
        table[..., 3].astype(np.int64), table[..., 4].astype(np.int64), *(table[..., i] for i in range(5, 8)),
        p, _corrected(p, names), table[..., 9], too_small,
        np.array([scored[~np.isnan(scored)].mean() if not np.isnan(scored).all() else np.nan
                  for scored in arrays.values()]),
        np.array([chances.get(name, np.nan) for name in arrays], dtype=np.float64), smallest, level, rule, reason,
    )  # fmt: skip


def _text(value: Any) -> str:
    """The label of a value; missing ones, and a literal "(none)", are one label."""
    if value is None or value != value:
        return MISSING
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text.strip() or MISSING


def _numbers(texts: np.ndarray) -> np.ndarray | None:
    """The texts as finite numbers, or None when one of them is something else."""
    try:
        numbers = np.array([float("x" if "_" in text else text) for text in texts], dtype=np.float64)
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _cuts(numbers: np.ndarray, n_bins: int) -> tuple[np.ndarray, str]:
    """Where a column is cut, and the sentence that says so. The largest value is never a cut: nothing would lie above.

    Cuts are values of the column, so that ties fall on one side.
    """
    shares = np.arange(1, n_bins) / n_bins
    cuts = np.quantile(numbers, shares, method="inverted_cdf")
    below = numbers[numbers < numbers.max()].max()
    cuts = np.minimum(cuts, below)
    said = ", ".join(f"{share:.3g} ({cut:.6g})" for share, cut in zip(shares, cuts, strict=True))
    merged = "" if (np.diff(cuts) > 0).all() else "; equal cuts are merged"
    return np.unique(cuts), f"cut at the quantiles {said}; a value equal to a cut belongs to the lower group{merged}"


def _span(numbers: np.ndarray) -> str:
    low, high = float(numbers.min()), float(numbers.max())
    first, last = f"{low:.6g}", f"{high:.6g}"
    if low != high and first == last:
        first, last = repr(low), repr(high)
    return first if low == high else f"{first} to {last}"


def _check(labels: np.ndarray, arrays: Mapping[str, np.ndarray], owner: np.ndarray, smallest: int) -> None:
    if not arrays:
        raise ValueError("no metric to slice: give at least one array of per-query values, such as {'hit@1': values}")
    for name, scored in arrays.items():
        if scored.shape != labels.shape or owner.shape != labels.shape:
            raise ValueError(
                f"{len(labels)} groups, values of {name} {scored.shape} and clusters {owner.shape}; one entry per "
                "query is needed in each"
            )
    if smallest < 2:
        raise ValueError(f"smallest must be at least 2 clusters, 30 is usual; got {smallest}")


def nothing_to_compare(column: str, names: list[str]) -> str:
    """Why groups of these names cannot be compared, or "" when they can."""
    if len(names) > MOST_GROUPS:
        return (
            f"{column!r} has {len(names):,} different values, more than {MOST_GROUPS}: it names items rather than "
            "groups. Give a column with fewer values, or a numeric one, which is cut into ranges."
        )
    stated = [name for name in names if name != MISSING]
    if len(stated) < 2:
        said = f"the same value ({stated[0]}) wherever it is stated" if stated else "no value at all"
        return f"{column!r} holds {said}, so there is nothing to compare."
    return ""


def _cell(
    labels: np.ndarray, name: str, scored: np.ndarray, owner: np.ndarray, smallest: int | None, how: Mapping[str, Any]
) -> list[float]:
    """value, low, high, n, n_clusters, difference, its low and high, p, detectable: NaN from there when not tested."""
    mine = labels == name
    found = cluster_bootstrap(scored[mine], owner[mine], **how)
    cell = [found.value, found.low, found.high, found.n, found.n_clusters]
    if smallest is None or name == MISSING or found.n_clusters < 2:
        return [*cell, *[np.nan] * 5]
    stated = labels != MISSING
    against = group_difference(scored[stated], mine[stated], owner[stated], level=how["level"])
    if found.n_clusters < smallest:
        return [*cell, against.value, *[np.nan] * 4]
    return [*cell, against.value, against.low, against.high, against.p_value, against.minimum_detectable]


def natural(label: str) -> tuple[float, str]:
    """A sort key for group names: numbers (or the first number of a span) in their order, then everything else.

    >>> sorted(["b", "10 to 12", "9", "a"], key=natural)
    ['9', '10 to 12', 'a', 'b']
    """
    try:
        return float(label.split(" to ")[0]), label
    except ValueError:
        return np.inf, label


def _last(value: float) -> float:
    return value if np.isfinite(value) else np.inf


def _corrected(p: np.ndarray, names: list[str]) -> np.ndarray:
    """Holm over every group and metric of the column; of two groups that mirror each other one is counted."""
    corrected = np.full(p.shape, np.nan)
    if len([name for name in names if name != MISSING]) == 2:
        tested = np.isfinite(p)
        corrected[:] = holm(np.fmin.reduce(p, axis=0))
        return np.where(tested, corrected, np.nan)
    corrected[:] = holm(p.ravel()).reshape(p.shape)
    return corrected


def _finding(found: SliceScores) -> Finding:
    name = f"{found.direction}/{found.metrics[0]} by {found.column}"
    source = SLICE_SOURCE.format(smallest=found.smallest)
    judged = found.tested[:, 0]
    if found.reason or not judged.any():
        reason = found.reason or (
            f"No group of {found.column!r} has {found.smallest} clusters with others to compare with; the values are "
            "shown, but differences between such small groups are mostly chance."
        )
        return Finding(name, None, None, None, source, "not measurable", reason)
    worse = np.flatnonzero(judged & (found.p_holm[:, 0] < LEVEL) & (found.difference[:, 0] < 0))
    alive = judged & (found.low[:, 0] > found.chance[0])
    lost = np.flatnonzero(judged & ~alive) if alive.any() and np.isfinite(found.chance[0]) else np.zeros(0, np.int64)
    verdict: Verdict = "problem" if len(lost) else "look" if len(worse) else "ok"
    shown = int(lost[0] if len(lost) else worse[0] if len(worse) else np.flatnonzero(judged)[0])
    interval = (float(found.difference_low[shown, 0]), float(found.difference_high[shown, 0]))
    advice = " ".join(part for part in (_lost(found, lost), _worse(found, worse), _limits(found)) if part)
    return Finding(name, float(found.difference[shown, 0]), interval, None, source, verdict, advice, "points")


def _lost(found: SliceScores, lost: np.ndarray) -> str:
    if not len(lost):
        return ""
    said = [f"{found.groups[g]} ({100 * found.value[g, 0]:.1f} %)" for g in lost]
    return f"Not told from chance ({100 * found.chance[0]:.2g} %), while others are: {_listed(said)}."


def _worse(found: SliceScores, worse: np.ndarray) -> str:
    metric = found.metrics[0]
    if not len(worse):
        return f"No group is shown to be worse than the rest in {metric}."
    percent = {part: 100 * getattr(found, part)[:, 0] for part in ("value", "difference")}
    low, high = -100 * found.difference_high[:, 0], -100 * found.difference_low[:, 0]
    said = [
        f"{found.groups[g]} ({percent['value'][g]:.1f} %, {-percent['difference'][g]:.1f} points below the rest, "
        f"{100 * found.level:g} % interval {low[g]:.1f} to {high[g]:.1f})"
        for g in worse
    ]
    return f"{metric} is lower for {_listed(said)}. Report the groups separately: the mean over all hides this."


def _limits(found: SliceScores) -> str:
    """What these sizes cannot show."""
    visible = 100 * found.detectable[found.tested[:, 0], 0]
    small = int((found.too_small[:, 0] & np.array([group != MISSING for group in found.groups])).sum())
    words, stated = [], len(found.groups) - (MISSING in found.groups)
    if np.isfinite(visible).any():
        ends = sorted({f"{np.nanmin(visible):.1f}", f"{np.nanmax(visible):.1f}"}, key=float)
        words.append(
            f"A group must lie {' to '.join(ends)} points off to be shown by data of this size in four cases of five, "
            "further off when several groups are compared."
        )
    if small:
        are = "is" if small == 1 else "are"
        words.append(f"{small} of {stated} groups {are} too small to judge (under {found.smallest} clusters).")
    if MISSING in found.groups:
        words.append(f"{found.n[found.groups.index(MISSING), 0]:,} queries state no value.")
    return " ".join(words)


def _listed(said: Sequence[str]) -> str:
    """The first few in words, and how many more.

    >>> _listed(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    shown, more = list(said[:NAMED]), len(said) - NAMED
    if more > 0:
        return f"{', '.join(shown)} and {more} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
