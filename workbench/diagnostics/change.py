"""Why did the number change? Two systems on two versions of a collection, split into what changed between them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from workbench.metrics import METRICS, parse_metric, per_query
from workbench.search import RankPositives, scan
from workbench.statistics import paired_difference
from workbench.statistics.bootstrap import percentiles
from workbench.statistics.regimes import few_clusters
from workbench.types import Embeddings, FloatArray, IntArray, Relevance

_DRAWN = 500_000


@dataclass(frozen=True, eq=False)
class Version:
    """One version of a collection under one encoder.

    queries, gallery : vectors and ids. query_digests, gallery_digests : what each item is (a hash of its bytes or its
    text, never of its vector), by which items of two versions are matched. relevance (n_queries, n_gallery). clusters
    (n_queries,) : queries that belong together, such as captions of one image; each its own where not given.
    """

    queries: Embeddings
    gallery: Embeddings
    query_digests: tuple[str, ...]
    gallery_digests: tuple[str, ...]
    relevance: Relevance
    clusters: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        shape = (len(self.queries), len(self.gallery))
        if (self.relevance.n_queries, self.relevance.n_gallery) != shape:
            got = (self.relevance.n_queries, self.relevance.n_gallery)
            raise ValueError(f"relevance is {got} for {shape[0]} queries and {shape[1]} items; are they swapped?")
        for side, n in (("query_digests", shape[0]), ("gallery_digests", shape[1]), ("clusters", shape[0])):
            values = getattr(self, side)
            if values is None:
                continue
            object.__setattr__(self, side, tuple(str(value) for value in values))
            if len(values) != n or not all(getattr(self, side)):
                raise ValueError(f"{side} must hold {n} texts, none of them empty; got {len(values)}")


@dataclass(frozen=True)
class ChangePart:
    """One part of a change: value and interval, in units of the metric.

    low, high : NaN where the part cannot vary or be estimated. p_value : two-sided paired randomisation test; NaN for
    parts between different queries, which have no pairs. n_queries : queries it rests on.
    """

    name: str
    value: float
    low: float
    high: float
    p_value: float
    n_queries: int
    paired: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """A change of a metric and its parts: :func:`split_change`. The parts add up to ``total.value``.

    path : (what is scored, value) for each step from the first system to the second. common, only_first, only_second :
    numbers of queries and of gallery items. n_unscored : common queries without a positive at some step, which count
    with the queries of one version.
    """

    metric: str
    total: ChangePart
    parts: tuple[ChangePart, ...]
    path: tuple[tuple[str, float], ...]
    common: tuple[int, int]
    only_first: tuple[int, int]
    only_second: tuple[int, int]
    n_unscored: int
    level: float

    def part(self, name: str) -> ChangePart:
        """The part of this name: queries, gallery, labels or encoder."""
        found = {part.name: part for part in (*self.parts, self.total)}
        if name not in found:
            raise KeyError(f"no part {name!r} in this change; there are {', '.join(found)}")
        return found[name]

    def rows(self) -> list[dict[str, Any]]:
        """One row per part and one for the total."""
        return [asdict(part) for part in (*self.parts, self.total)]

    def flat(self) -> dict[str, float]:
        """Values by part."""
        return {f"{self.metric} {part.name}": part.value for part in (*self.parts, self.total)}


def split_change(
    first: Version, second: Version, metric: str, *, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> Change:
    """How much of a change comes from the encoder, the gallery, the queries, the labels? Two versions, two systems.

        old encoder, old gallery, old queries      -> the common queries      queries (first half)
                                                   -> the common gallery      gallery (first half)
                                                   -> the new labels          labels
        new encoder on the common part                                        encoder
                                                   -> the new gallery         gallery (second half)
                                                   -> the new queries         queries (second half)

    Every step changes one thing, so that the parts add up to the whole difference. Items are matched by their digests;
    items of equal digest first by id, then in order of id. The encoder is compared on the common part alone, where
    both systems face the same items. Another path may share the change out differently where parts interact (a better
    encoder loses less in a larger gallery); this one takes the encoder where both versions can be scored.
    gallery, labels, encoder : interval and test of :func:`workbench.statistics.paired_difference`, over clusters, on
    the common queries that have a positive at every step. queries, total : bootstrap over the clusters of both versions
    together, so that what both share moves together; two-version clusters are joined through their common queries. A
    part in which nothing changed has the value 0, exactly.
    metric : a mean over queries, such as "hit@1" or "nDCG@10". Errors: a metric of medians, no common query or item, a
    cutoff beyond one of the galleries (the common one included). Same seed, same bytes.
    Telescoping as in the decomposition of R. Oaxaca, International Economic Review 14, 1973,
    https://doi.org/10.2307/2525981, and A. S. Blinder, Journal of Human Resources 8, 1973.

    >>> old = Embeddings([[1.0, 0.0], [0.0, 1.0]], ("p", "q"), "text")
    >>> pictures = Embeddings([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]], ("a", "b", "c"), "image")
    >>> kept = Embeddings(pictures.vectors[:2], ("a", "b"), "image")
    >>> right = Relevance.from_pairs([0, 1], [0, 1], n_queries=2, n_gallery=2)
    >>> more = Relevance.from_pairs([0, 1], [0, 1], n_queries=2, n_gallery=3)
    >>> before = Version(old, kept, ("P", "Q"), ("A", "B"), right)
    >>> after = Version(old, pictures, ("P", "Q"), ("A", "B", "C"), more)
    >>> {part.name: part.value for part in split_change(before, after, "hit@1").parts}
    {'queries': 0.0, 'gallery': -0.5, 'labels': 0.0, 'encoder': 0.0}
    """
    if METRICS[parse_metric(metric).name].aggregator != "mean":
        raise ValueError(
            f"{metric} is a median, whose differences do not add up over queries; use a mean such as MeanR"
        )
    queries = _matched(first.queries.ids, first.query_digests, second.queries.ids, second.query_digests, "query")
    gallery = _matched(first.gallery.ids, first.gallery_digests, second.gallery.ids, second.gallery_digests, "gallery")
    steps = _steps(first, second, queries, gallery, metric)
    scored = np.isfinite(np.stack([steps[name] for name in _COMMON])).all(axis=0).ravel()
    if not scored.any():
        raise ValueError(
            f"none of the {len(scored)} common queries has a positive in both versions and in their common gallery of "
            f"{len(gallery[0])} items; nothing can be compared query by query"
        )
    kept = tuple(side[scored] for side in queries)
    steps = {name: values[scored] if name in _COMMON else values for name, values in steps.items()}
    clusters, universe = _universe(first, second, queries, kept, steps)
    paired = clusters[kept[0]]
    how = {"level": level, "n_resamples": n_resamples, "seed": seed}
    parts = (
        _unpaired("queries", universe, clusters, _QUERIES, how),
        _paired("gallery", [("q", "g"), ("e", "G")], steps, paired, how),
        _paired("labels", [("g", "l")], steps, paired, how),
        _paired("encoder", [("l", "e")], steps, paired, how),
    )
    means = {name: _mean(values) for name, values in steps.items()}
    sizes = (len(queries[0]), len(gallery[0]))
    return Change(
        metric, _unpaired("total", universe, clusters, _TOTAL, how), parts,
        tuple((_PATH[name], means[name]) for name in _PATH), sizes,
        (len(first.queries) - sizes[0], len(first.gallery) - sizes[1]),
        (len(second.queries) - sizes[0], len(second.gallery) - sizes[1]), int((~scored).sum()), level,
    )  # fmt: skip


_PATH = {
    "Q": "first system, all of its queries and gallery",
    "q": "first system, common queries, all of its gallery",
    "g": "first system, common queries and gallery",
    "l": "first system, common queries and gallery, labels of the second version",
    "e": "second system, common queries and gallery",
    "G": "second system, common queries, all of its gallery",
    "R": "second system, all of its queries and gallery",
}
_COMMON = ("q", "g", "l", "e", "G")
_QUERIES = {"Q": -1, "q": 1, "G": -1, "R": 1}
_TOTAL = {"Q": -1, "R": 1}


def _matched(
    first_ids: Sequence[str], first: Sequence[str], second_ids: Sequence[str], second: Sequence[str], what: str
) -> tuple[IntArray, IntArray]:
    """Positions of the common items in both versions, in the order of the second."""
    places: dict[str, list[int]] = {}
    for place in sorted(range(len(first)), key=lambda i: first_ids[i]):
        places.setdefault(first[place], []).append(place)
    by_name = {(digest, first_ids[place]): place for digest, held in places.items() for place in held}
    partner = {j: by_name[key] for j, key in enumerate(zip(second, second_ids, strict=True)) if key in by_name}
    taken = set(partner.values())
    for j in sorted((j for j in range(len(second)) if j not in partner), key=lambda j: second_ids[j]):
        free = [place for place in places.get(second[j], ()) if place not in taken]
        if free:
            partner[j] = free[0]
            taken.add(free[0])
    if not partner:
        raise ValueError(
            f"no {what} item is in both versions (digests of {len(first)} and {len(second)} items share none); are "
            "the digests made from the same bytes? Without a common part a change cannot be split"
        )
    right = np.array(sorted(partner), np.int64)
    return np.array([partner[int(j)] for j in right], np.int64), right


def _steps(
    first: Version, second: Version, queries: tuple[IntArray, IntArray], gallery: tuple[IntArray, IntArray], metric: str
) -> dict[str, FloatArray]:
    """Per-query values at every step; those of the common queries in one order."""
    old, new = _scores(first, metric), _scores(second, metric)
    labels = second.relevance.take(queries[1], gallery[1])
    return {
        "Q": old,
        "q": old[queries[0]],
        "g": _part(first, queries[0], gallery[0], first.relevance.take(queries[0], gallery[0]), metric),
        "l": _part(first, queries[0], gallery[0], labels, metric),
        "e": _part(second, queries[1], gallery[1], labels, metric),
        "G": new[queries[1]],
        "R": new,
    }


def _scores(version: Version, metric: str) -> FloatArray:
    everything = np.arange(len(version.queries)), np.arange(len(version.gallery))
    return _part(version, *everything, version.relevance, metric)


def _part(version: Version, queries: IntArray, gallery: IntArray, relevance: Relevance, metric: str) -> FloatArray:
    """The metric of some queries in a part of the gallery."""
    vectors = version.queries.vectors[queries], version.gallery.vectors[gallery]
    (ranks,) = scan(*vectors, [RankPositives(relevance)])
    return per_query(metric, ranks).expected


def _universe(
    first: Version,
    second: Version,
    matched: tuple[IntArray, IntArray],
    kept: tuple[IntArray, ...],
    steps: Mapping[str, FloatArray],
) -> tuple[IntArray, dict[str, FloatArray]]:
    """A cluster for every query of either version, and the values of each step over all of them, NaN where it has none.

    Rows: the queries of the first version, then those of the second that are not compared one to one.
    """
    n = len(first.queries)
    row = np.full(len(second.queries), -1)
    row[kept[1]] = kept[0]
    row[row < 0] = n + np.arange((row < 0).sum())
    values = {name: np.full(max(n, int(row.max()) + 1), np.nan) for name in steps}
    for name, given in steps.items():
        values[name][{"Q": np.arange(n), "R": row}.get(name, kept[0])] = given
    old, new = (one.queries.ids if one.clusters is None else one.clusters for one in (first, second))
    return _joined(old, new, matched, row), values


def _joined(first: Sequence[str], second: Sequence[str], matched: tuple[IntArray, IntArray], row: IntArray) -> IntArray:
    """Clusters of both versions, joined where they share a query; one number per row of the universe."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    old, new = (np.unique(np.asarray(names), return_inverse=True)[1].ravel() for names in (first, second))
    new = new + old.max() + 1
    edges = (np.ones(len(matched[0])), (old[matched[0]], new[matched[1]]))
    n = int(new.max()) + 1
    part = connected_components(coo_array(edges, shape=(n, n)), directed=False)[1]
    clusters = np.empty(max(len(old), int(row.max()) + 1), np.int64)
    clusters[: len(old)] = part[old]
    clusters[row] = part[new]
    return clusters


def _paired(
    name: str, moves: list[tuple[str, str]], steps: Mapping[str, FloatArray], clusters: IntArray, how: Mapping[str, Any]
) -> ChangePart:
    """The sum of some moves, query by query."""
    moved = np.sum([steps[end] - steps[start] for start, end in moves], axis=0)
    found = paired_difference(np.zeros(len(moved)), moved, clusters, **how)
    value = sum(_mean(steps[end]) - _mean(steps[start]) for start, end in moves)
    return ChangePart(name, value, found.low, found.high, found.p_value, found.n, True, found.warnings)


def _unpaired(
    name: str, values: Mapping[str, FloatArray], clusters: IntArray, signs: Mapping[str, int], how: Mapping[str, Any]
) -> ChangePart:
    """A signed sum of means over different queries, with whole clusters drawn from both versions together."""
    value = sum(sign * _mean(values[step]) for step, sign in signs.items())
    n_clusters = int(clusters.max()) + 1
    low = high = float("nan")
    if n_clusters > 1:
        drawn = np.concatenate(list(_drawn_sums([values[step] for step in signs], clusters, how)))
        with np.errstate(invalid="ignore"):
            resampled = (drawn[:, 0] / drawn[:, 1]) @ np.array(list(signs.values()), np.float64)
        resampled = resampled[~np.isnan(resampled)]
        low, high = percentiles(resampled, how["level"]) if len(resampled) else (low, high)
    n = int((~np.isnan(values["Q"]) | ~np.isnan(values["R"])).sum())
    return ChangePart(name, value, low, high, float("nan"), n, False, tuple(few_clusters(n_clusters)))


def _drawn_sums(columns: list[FloatArray], clusters: IntArray, how: Mapping[str, Any]) -> Iterator[FloatArray]:
    """(rows, 2, n_columns) sums of the scored values and their numbers, for clusters drawn with replacement."""
    n_clusters, rng = int(clusters.max()) + 1, np.random.default_rng(how["seed"])
    cells = [(np.nan_to_num(column), (~np.isnan(column)).astype(np.float64)) for column in columns]
    sums = np.array([[np.bincount(clusters, part, n_clusters) for part, _ in cells],
                     [np.bincount(clusters, part, n_clusters) for _, part in cells]])  # fmt: skip
    rows = max(1, _DRAWN // n_clusters)
    for start in range(0, how["n_resamples"], rows):
        n = min(rows, how["n_resamples"] - start)
        picked = rng.integers(0, n_clusters, size=(n, n_clusters)) + np.arange(n)[:, None] * n_clusters
        times = np.bincount(picked.ravel(), minlength=n * n_clusters).reshape(n, n_clusters)
        yield np.moveaxis(sums @ times.T.astype(np.float64), 2, 0)


def _mean(values: FloatArray) -> float:
    """Mean of the scored values, rounded once, so that their order plays no part."""
    scored = values[~np.isnan(values)]
    return math.fsum(scored.tolist()) / len(scored) if len(scored) else float("nan")
