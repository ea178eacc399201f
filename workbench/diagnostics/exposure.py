"""Exposure of groups: which declared groups of items hold the places in result lists, against a stated reference.

It counts places and says what they are held against: the gallery, or what is relevant to the queries. It does not say
why they differ, nor whether they should. Groups come from a declared column, never from guessing at pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import nan
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from workbench.diagnostics.random_lists import ndkl, ndkl_of_random_lists, random_places
from workbench.diagnostics.slices import LEVEL, MISSING, group_labels, natural, nothing_to_compare
from workbench.statistics import holm
from workbench.types import Finding, Relevance, Verdict

if TYPE_CHECKING:
    import pandas as pd

LOOK, PROBLEM = 1.25, 2.0
SMALLEST = 5
SMALLEST_P = 1e-9
EXPOSURE_SOURCE = (
    "convention of this project: a share of places beyond 1.25 times (or below 0.8 of) its reference is 'look' when "
    "the corrected p-value is below 5 %, its interval leaves out the reference, and the share of the relevant does not "
    "explain it; 'problem' beyond 2 times (or below half) of both the gallery and the relevant; groups of fewer than "
    "5 items are shown, never judged"
)


@dataclass(frozen=True, eq=False)
class Exposure:
    """Shares of groups of items in the first k places; arrays are (n_groups,), most over-represented first.

    n_items, n_places : items in the gallery, places held. share_top : of all places, with the interval low, high over
    queries (clustered t interval). share_gallery : of the items. share_relevant : of the positives, every query counted
    once; NaN without any. excess, excess_low, excess_high : per query share of its places minus share of its positives,
    averaged over queries that have both. null_low, null_high : where share_top would lie if every list were drawn at
    random from the gallery. p, p_holm : two-sided; against random lists, or with reference "relevant" of excess = 0;
    NaN where not judged. ndkl : mean over lists, with mean and band under random lists and its one-sided p; NaN where a
    group has no share in the reference. lists_per_draw : lists that stand for n_lists in one of n_null.
    """

    column: str
    direction: str
    k: int
    reference: str
    groups: tuple[str, ...]
    n_items: np.ndarray
    n_places: np.ndarray
    share_top: np.ndarray
    low: np.ndarray
    high: np.ndarray
    share_gallery: np.ndarray
    share_relevant: np.ndarray
    excess: np.ndarray
    excess_low: np.ndarray
    excess_high: np.ndarray
    null_low: np.ndarray
    null_high: np.ndarray
    p: np.ndarray
    p_holm: np.ndarray
    ndkl: float
    ndkl_null: tuple[float, float, float]
    ndkl_p: float
    n_lists: int
    n_scored: int
    n_null: int
    lists_per_draw: int
    level: float
    rule: str
    reason: str

    @property
    def share_reference(self) -> np.ndarray:
        """What share_top is held against."""
        return self.share_gallery if self.reference == "gallery" else self.share_relevant

    @property
    def ratio(self) -> np.ndarray:
        """share_top / reference share; 0 for a group that holds no place."""
        return _ratio(self.share_top, self.share_reference)

    @property
    def skew(self) -> np.ndarray:
        """skew@k = ln(share_top / reference share), pooled over lists; minus infinity for a group without a place."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.ratio))

    def table(self) -> pd.DataFrame:
        """One row per group: shares, skew, band of random lists, excess over the relevant."""
        import pandas as pd

        band = f"random lists {100 * self.level:g} %"
        columns = {
            "items": self.n_items, "share of places": self.share_top, "low": self.low, "high": self.high,
            "share of gallery": self.share_gallery, "share of relevant": self.share_relevant,
            f"skew@{self.k}": self.skew, f"{band}, low": self.null_low, f"{band}, high": self.null_high,
            "over relevant": self.excess, "over relevant, low": self.excess_low,
            "over relevant, high": self.excess_high, "p_holm": self.p_holm, "note": [*map(self.note, self.groups)],
        }  # fmt: skip
        return pd.DataFrame(columns, index=pd.Index(self.groups, name=f"{self.direction} by {self.column}"))

    def note(self, group: str) -> str:
        """What keeps a group from being judged, or ""."""
        if group == MISSING:
            return "no value stated, not judged"
        return "" if self.n_items[self.groups.index(group)] >= SMALLEST else "too few items, not judged"

    def plot(self, ax: Any = None) -> Any:
        """Share of places with interval beside share of the gallery and of the relevant, per group."""
        from workbench.plots import groups

        return groups.exposure_shares(self, ax)

    def findings(self) -> list[Finding]:
        """One finding: the group whose places are furthest from the reference."""
        return [_finding(self)]

    def flat(self) -> dict[str, float]:
        """Shares and skews by ``direction/share@k column=group``, and the NDKL; what is not finite is left out."""
        place = f"{self.direction}/%s@{self.k} {self.column}"
        named = {f"{place % 'NDKL'}": self.ndkl}
        for name, values in (("share", self.share_top), ("skew", self.skew)):
            named |= {f"{place % name}={group}": float(v) for group, v in zip(self.groups, values, strict=True)}
        return {name: float(value) for name, value in named.items() if np.isfinite(value)}

    def _repr_html_(self) -> str:
        if self.reason:
            return f"<p>{escape(self.reason)}</p>"
        return str(self.table().to_html(float_format=lambda value: f"{value:.4g}", na_rep="", escape=True))


def exposure(
    neighbours: Any,
    item_groups: npt.ArrayLike | Sequence[Any],
    relevance: Relevance | None = None,
    *,
    column: str,
    direction: str,
    k: int,
    reference: Literal["gallery", "relevant"] = "gallery",
    clusters: npt.ArrayLike | None = None,
    n_null: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Exposure:
    """Report how places in the first k are shared among declared groups of the gallery.

        skew@k = ln(share of places / reference share)
        NDKL = (1 / Z) sum_{i=1..k} KL(groups in the first i || reference) / log2(i + 1),   Z = sum_i 1 / log2(i + 1)

    neighbours : (n_queries, >= k) gallery indices, best first; or Neighbours; or RankedLists, whose lists may be
    shorter than k or empty. item_groups (n_gallery,): text or numbers (cut, see :func:`group_labels`). relevance:
    (n_queries, n_gallery) or None. reference: shares of the gallery, or of the relevant. clusters (n_queries,): queries
    that belong together; None takes each on its own. KL has natural logarithms. Random lists: every list draws its
    length from the gallery without replacement; the places of a group are then a sum of hypergeometric numbers, whose
    law is computed, not simulated; NDKL is simulated n_null times (its mean is exact) from lists_per_draw lists, scaled
    to n_lists. p-values below 1e-9 are given as 1e-9. Errors: k above the gallery or the lists, indices outside the
    gallery or repeated in a list, sizes that differ, reference "relevant" without positives.
    S. C. Geyik, S. Ambler & K. Kenthapadi, "Fairness-Aware Ranking in Search & Recommendation Systems with Application
    to LinkedIn Talent Search", KDD 2019, https://doi.org/10.1145/3292500.3330691; differs in pooling skew over lists:
    per list it is minus infinity whenever a group is absent.

    >>> lists = [[0, 1], [0, 2], [1, 0]]
    >>> found = exposure(lists, ["a", "a", "b", "b"], column="maker", direction="t2i", k=2)
    >>> found.groups, found.share_top.round(3), found.skew.round(3)
    (('a', 'b'), array([0.833, 0.167]), array([ 0.511, -1.099]))
    """
    labels, rule = group_labels(item_groups)
    padded = _padded(neighbours, k, len(labels))
    if relevance is not None and (relevance.n_queries, relevance.n_gallery) != (len(padded), len(labels)):
        raise ValueError(
            f"relevance is ({relevance.n_queries}, {relevance.n_gallery}) for {len(padded)} lists and {len(labels)} "
            "items; rows are queries, columns gallery items"
        )
    if reference not in ("gallery", "relevant") or n_null < 1 or not 0 < level < 1:
        raise ValueError(
            f"reference must be 'gallery' or 'relevant', n_null at least 1, level between 0 and 1; got {reference!r}, "
            f"{n_null}, {level}"
        )
    if reference == "relevant" and (relevance is None or not relevance.n_positives):
        raise ValueError("reference='relevant' needs at least one relevant item; use reference='gallery'")
    owner = np.arange(len(padded)) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
    if owner.shape != padded.shape[:1]:
        raise ValueError(f"{len(padded)} lists but clusters of shape {owner.shape}; one label per query is needed")
    names = np.unique(labels).tolist()
    reason = nothing_to_compare(column, names)
    if not reason and len(np.unique(owner.ravel()[(padded >= 0).any(axis=1)])) < 2:
        reason = "Fewer than two queries returned anything, so there is nothing to count."
    return _measured(padded, labels, [] if reason else names, relevance, reference, owner.ravel(), n_null, seed,
                     named=(column, direction, k, level, rule, reason))  # fmt: skip


def _padded(neighbours: Any, k: int, n_gallery: int) -> np.ndarray:
    """(n_queries, k) gallery indices, -1 after the end of a short list."""
    if not 1 <= k <= n_gallery:
        raise ValueError(f"k must lie in 1..{n_gallery}, the size of the gallery; got {k}")
    if hasattr(neighbours, "indptr"):
        starts, depths, place = neighbours.indptr[:-1, None], np.diff(neighbours.indptr)[:, None], np.arange(k)
        where = np.minimum(starts + place, max(len(neighbours.items) - 1, 0))
        inside = place < depths
        items = neighbours.items if len(neighbours.items) else np.zeros(1, np.int64)
        found = np.where(inside, items[where], -1)
    else:
        found = np.asarray(getattr(neighbours, "indices", neighbours))
        if found.ndim != 2 or found.dtype.kind not in "iu" or found.shape[1] < k:
            raise ValueError(f"lists must be whole numbers of shape (n_queries, at least {k}); got {found.shape}")
        found = found[:, :k].astype(np.int64)
        inside = np.ones(found.shape, dtype=bool)
    if inside.any() and not (0 <= found[inside].min() and found[inside].max() < n_gallery):
        raise ValueError(
            f"indices must lie in 0..{n_gallery - 1}; got {found[inside].min()}..{found[inside].max()} (approximate "
            "indexes pad short lists with -1: give RankedLists instead)"
        )
    ordered = np.sort(found, axis=1)
    repeats = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1)
    if repeats.any():
        raise ValueError(f"{int(repeats.sum())} lists hold an item twice (first: query {int(repeats.argmax())})")
    return found


def _measured(
    padded: np.ndarray, labels: np.ndarray, names: list[str], relevance: Relevance | None, reference: str,
    owner: np.ndarray, n_null: int, seed: int, *, named: tuple[str, str, int, float, str, str],
) -> Exposure:  # fmt: skip
    column, direction, k, level, rule, reason = named
    n_groups, code_of = len(names), np.searchsorted(names, labels) if names else np.zeros(len(labels), np.int64)
    codes = np.where(padded >= 0, code_of[padded], -1)
    depths = (padded >= 0).sum(axis=1)
    counts = _count(np.repeat(np.arange(len(padded)), depths), codes[codes >= 0], (len(padded), n_groups))
    sizes = np.bincount(code_of, minlength=n_groups)[:n_groups]
    places = counts.sum(axis=0)
    share_top = places / max(depths.sum(), 1)
    half = _half_width(counts - share_top * depths[:, None], owner, depths > 0, level) / max(depths.sum(), 1)
    wanted, scored = _relevant(relevance, code_of, counts.shape)
    share_relevant = wanted[scored].mean(axis=0) if scored.any() else np.full(n_groups, np.nan)
    excess, spread, p_excess = _excess(counts, depths, wanted, scored, owner, level)
    share_gallery = sizes / len(labels)
    null = np.array(
        [_against_random(int(x), int(size), len(labels), depths, level) for x, size in zip(places, sizes, strict=True)]
    ).reshape(n_groups, 3)
    judged = np.array([name != MISSING for name in names], dtype=bool) & (sizes >= SMALLEST)
    p = np.where(judged, null[:, 2] if reference == "gallery" else p_excess, np.nan)
    against = share_gallery if reference == "gallery" else share_relevant
    value, band, p_ndkl, per_draw = nan, (nan, nan, nan), nan, 0
    if names and (against > 0).all():
        value = float(np.nanmean(ndkl(codes, against)))
        draws, expected, per_draw = ndkl_of_random_lists(sizes, against, depths[depths > 0], n_null, seed)
        ends = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
        band, p_ndkl = (expected, *map(float, ends)), (1 + int((draws >= value).sum())) / (1 + n_null)
    order = sorted(
        range(n_groups), key=lambda g: (names[g] == MISSING, -_ratio(share_top, against)[g], natural(names[g]))
    )
    arrays = (
        sizes,
        places,
        share_top,
        np.maximum(share_top - half, 0),
        np.minimum(share_top + half, 1),
        share_gallery,
        share_relevant,
        excess,
        excess - spread,
        excess + spread,
        null[:, 0],
        null[:, 1],
        p,
        _corrected(p),
    )
    return Exposure(
        column, direction, k, reference, tuple(names[g] for g in order), *(array[order] for array in arrays),
        value, band, p_ndkl, int((depths > 0).sum()), int(scored.sum()),
        n_null, per_draw, level, rule, reason,
    )  # fmt: skip


def _count(rows: np.ndarray, groups: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    if not shape[1]:
        return np.zeros(shape, np.int64)
    return np.bincount(rows * shape[1] + groups, minlength=shape[0] * shape[1]).reshape(shape)


def _ratio(share: np.ndarray, reference: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(share / reference)


def _half_width(residuals: np.ndarray, owner: np.ndarray, used: np.ndarray, level: float) -> np.ndarray:
    """Half of a clustered t interval of a total whose residuals per query are (n_queries, n_groups)."""
    clusters, codes = np.unique(owner[used], return_inverse=True)
    if len(clusters) < 2:
        return np.full(residuals.shape[1], np.nan)
    sums = np.zeros((len(clusters), residuals.shape[1]))
    np.add.at(sums, codes.ravel(), residuals[used])
    error = np.sqrt(len(clusters) / (len(clusters) - 1) * (sums**2).sum(axis=0))
    return np.asarray(student.ppf((1 + level) / 2, len(clusters) - 1) * error)


def _relevant(relevance: Relevance | None, code_of: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, Any]:
    """Per query the shares of its positives, and which queries have any."""
    if relevance is None:
        return np.zeros(shape), np.zeros(shape[0], dtype=bool)
    right = relevance.grades > 0
    counts = _count(relevance.queries[right], code_of[relevance.items[right]], shape)
    totals = relevance.positives_per_query
    return counts / np.maximum(totals, 1)[:, None], totals > 0


def _excess(
    counts: np.ndarray, depths: np.ndarray, wanted: np.ndarray, scored: np.ndarray, owner: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of (share of places - share of positives) over queries with both, half its interval, two-sided p."""
    used = scored & (depths > 0)
    if not used.any():
        return tuple(np.full(counts.shape[1], np.nan) for _ in range(3))  # type: ignore[return-value]
    apart = counts / np.maximum(depths, 1)[:, None] - wanted
    mean = apart[used].mean(axis=0)
    half = _half_width(apart - mean, owner, used, level) / used.sum()
    df = len(np.unique(owner[used])) - 1
    error = half / student.ppf((1 + level) / 2, max(df, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * student.sf(np.abs(mean) / error, max(df, 1))
    return mean, half, np.where(mean == 0, 1.0, np.maximum(p, SMALLEST_P))


def _against_random(x: int, size: int, n_gallery: int, depths: np.ndarray, level: float) -> tuple[float, float, float]:
    """Band of a group's share of places under random lists, and the two-sided p of x places, from the exact law."""
    first, chance = random_places(size, n_gallery, depths)
    below = np.cumsum(chance)
    low, high = (first + int(np.searchsorted(below, tail)) for tail in ((1 - level) / 2, (1 + level) / 2))
    at = x - first
    at_most = float(below[min(at, len(below) - 1)]) if at >= 0 else 0.0
    at_least = float(chance[max(at, 0) :].sum()) if at < len(chance) else 0.0
    total = max(int(depths.sum()), 1)
    return low / total, high / total, float(np.clip(2 * min(at_most, at_least), SMALLEST_P, 1.0))


def _corrected(p: np.ndarray) -> np.ndarray:
    """Holm over the judged groups; two groups in all mirror each other and count once."""
    return p.copy() if len(p) == 2 else np.asarray(holm(p))


def _finding(found: Exposure) -> Finding:
    name = f"{found.direction}/exposure by {found.column}"
    judged = np.isfinite(found.p)
    if found.reason or not judged.any():
        reason = found.reason or f"No group of {found.column!r} has {SMALLEST} items: single items are no group."
        return Finding(name, None, None, None, EXPOSURE_SOURCE, "not measurable", reason)
    ratio, relevant = found.ratio, _ratio(found.share_top, found.share_relevant)
    outside = (found.low > found.share_reference) | (found.high < found.share_reference)
    shown = judged & (found.p_holm < LEVEL) & outside
    off = shown & _beyond(ratio, LOOK)
    known = bool(found.n_scored)
    open_ = off & (_beyond(relevant, LOOK) if known else True)
    worst = open_ & _beyond(_ratio(found.share_top, found.share_gallery), PROBLEM) & _beyond(relevant, PROBLEM)
    verdict: Verdict = "problem" if worst.any() else "look" if open_.any() else "ok"
    among = np.flatnonzero(worst if worst.any() else open_ if open_.any() else off if off.any() else judged)
    with np.errstate(divide="ignore"):
        g = int(among[np.argmax(np.abs(np.log(ratio[among])))])
    low, high = (_ratio(end, found.share_reference)[g] for end in (found.low, found.high))
    limit = PROBLEM if verdict == "problem" else LOOK
    advice = f"{_words(found, g, bool(off[g]), bool(open_[g]))}{_ndkl_words(found)}"
    return Finding(
        name, float(ratio[g]), (float(low), float(high)), limit if ratio[g] >= 1 else 1 / limit, EXPOSURE_SOURCE,
        verdict, advice,
    )  # fmt: skip


def _beyond(ratio: np.ndarray, limit: float) -> np.ndarray:
    return np.asarray((ratio > limit) | (ratio < 1 / limit))


def _words(found: Exposure, g: int, off: bool, open_: bool) -> str:
    """What one group holds, against what, and how that reads."""
    top, gallery, relevant = (100 * float(part[g]) for part in
                              (found.share_top, found.share_gallery, found.share_relevant))  # fmt: skip
    known = f" and {relevant:.3g} % of what is relevant" if np.isfinite(relevant) else ""
    said = (
        f"Items of {found.groups[g]} hold {top:.3g} % of the top-{found.k} places and are {gallery:.3g} % of the "
        f"gallery{known}. "
    )
    more = "more" if found.ratio[g] > 1 else "less"
    if not off:
        return said + f"No group is shown to lie far from its share of the {found.reference}."
    if not open_:
        return said + f"That is {more} than the gallery holds, and about what the queries ask for."
    if not known:
        return said + f"That is {more} than its share; whether the queries ask for it is not known without relevance."
    return said + f"That is {more} than its share of either: look at these lists. The count does not say why."


def _ndkl_words(found: Exposure) -> str:
    if not np.isfinite(found.ndkl):
        return ""
    _, low, high = found.ndkl_null
    return f" NDKL {found.ndkl:.3g} against the {found.reference}; random lists give {low:.3g} to {high:.3g}."
