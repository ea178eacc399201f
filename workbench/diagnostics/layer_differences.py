"""Two runs held against each other, layer by layer: items, truth, inputs, embeddings, scores, ranks, metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isnan, nan
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from workbench.diagnostics.run_evidence import Answers, Evidence, Items, Match, Truth, matches
from workbench.types import FloatArray, IntArray

LAYERS = ("items", "truth", "inputs", "embeddings", "scores", "ranks", "per-query", "aggregate")
Status = Literal["same", "differs", "not comparable"]
Metrics = Mapping[str, Mapping[str, float | None]]
MEASURED = ("value", "low", "high", "worst", "best", "chance", "n", "clusters")
KEEP = "keep_embeddings=true measures it"


@dataclass(frozen=True)
class LayerDifference:
    """One layer of two runs.

    n_compared, n_changed : how many things (``unit``) both runs have, and how many of them differ; in the layer
    "items" the things of either run. largest, mean : size of the change over what was compared, NaN where it has none.
    ``largest`` and ``mean`` are degrees for embeddings, score differences, 1 - overlap of the lists for ranks, metric
    differences for per-query and aggregate. text : one sentence.
    """

    layer: str
    status: Status
    n_compared: int
    n_changed: int
    largest: float
    mean: float
    unit: str
    text: str


def compared(first: Evidence, second: Evidence) -> tuple[LayerDifference, ...]:
    """All layers in order. Below "items" only what both runs have is compared."""
    sides = matches(first, second)
    items = _items(first, second, sides)
    empty = [side.modality for side, found in zip(first.sides, sides, strict=True) if not len(found.first)]
    if empty:
        reason = f"the runs have no {' and no '.join(empty)} in common"
        return items, *(_incomparable(layer, reason) for layer in LAYERS[1:])
    searched = [
        pair
        for pair in ((a, b) for a in first.answers for b in second.answers)
        if pair[0].direction == pair[1].direction
    ]
    depth = min(first.depth, second.depth)
    lists = [_shared_lists(pair, first, sides, depth) for pair in searched]
    return (
        items,
        _truth(first, second, sides),
        _inputs(first, second, sides),
        _embeddings(first, second, sides),
        _scores(lists),
        _ranks(lists),
        _per_query(searched, sides),
        _aggregate(first.metrics, second.metrics),
    )


def _incomparable(layer: str, reason: str, unit: str = "") -> LayerDifference:
    return LayerDifference(layer, "not comparable", 0, 0, nan, nan, unit, f"Not comparable: {reason}.")


def _status(changed: int | bool) -> Status:
    return "differs" if changed else "same"


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "query"), counted(1200, "query"), counted(2, "text")
    ('1 query', '1,200 queries', '2 texts')
    """
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number:,} {noun if number == 1 else plural}"


def named(names: Sequence[Any], most: int = 3) -> str:
    """The first names, and how many more."""
    shown = ", ".join(repr(name)[:60] for name in names[:most])
    return shown + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _items(first: Evidence, second: Evidence, sides: tuple[Match, Match]) -> LayerDifference:
    changes, total, changed = [], 0, 0
    for side, found in zip(first.sides, sides, strict=True):
        total += len(found.first) + len(found.removed) + len(found.added)
        renamed = [f"{before} -> {after}" for before, after in found.renamed]
        kinds = {"edited": found.edited, "renamed": renamed, "removed": found.removed, "added": found.added}
        changed += len({*found.edited, *(before for before, _ in found.renamed)}) + len(found.removed + found.added)
        changes += [
            f"{counted(len(names), side.modality)} {what} ({named(names)})" for what, names in kinds.items() if names
        ]
        if found.moved:
            changes.append(f"{counted(found.moved, side.modality)} at another place in the order")
            changed += found.moved * (not any(kinds.values()))
    hidden = any(one.declared.get("parameters.share") == "no-content" for one in (first, second))
    sizes = ", ".join(counted(len(found.first), side.modality) for side, found in zip(first.sides, sides, strict=True))
    text = "; ".join(changes) or f"{sizes}, all the same"
    if hidden:
        text += "; contents were withheld, so items are told apart by id only"
    return LayerDifference("items", _status(bool(changes)), total, changed, nan, nan, "items", f"{text}.")


def _truth(first: Evidence, second: Evidence, sides: tuple[Match, Match]) -> LayerDifference:
    """The grade of every labelled pair whose two items both runs have."""
    if first.truth is None or second.truth is None:
        return _incomparable("truth", "a run kept no relevance (layers/relevance.parquet)", "pairs")
    images, texts = sides
    numbers = (np.arange(len(first.sides[1])), np.arange(len(first.sides[0]))), (texts.number, images.number)
    one, two = (
        _grades(truth, *number, sides) for truth, number in zip((first.truth, second.truth), numbers, strict=True)
    )
    union = sorted({*one, *two})
    changed = [pair for pair in union if one.get(pair) != two.get(pair)]
    total = counted(len(union), "labelled pair")
    if not changed:
        return LayerDifference("truth", "same", len(union), 0, 0.0, 0.0, "pairs", f"{total}, all the same.")
    sizes = [abs(one.get(pair, 0.0) - two.get(pair, 0.0)) for pair in changed]
    alone = [sum(pair not in other for pair in changed) for other in (two, one)]
    names = [f"{first.sides[1].ids[query]} - {first.sides[0].ids[item]}" for query, item in changed]
    text = (
        f"{alone[0]} of {total} only in the first run, {alone[1]} only in the second, "
        f"{len(changed) - sum(alone)} with another grade: {named(names)}."
    )
    return LayerDifference(
        "truth", "differs", len(union), len(changed), max(sizes), sum(sizes) / len(union), "pairs", text
    )


def _grades(truth: Truth, query: IntArray, item: IntArray, sides: tuple[Match, Match]) -> dict[tuple[int, int], float]:
    """(query, item) -> grade for the pairs of common items, in the numbering of the first run."""
    queries, items = query[truth.queries], item[truth.items]
    common = np.isin(queries, sides[1].first) & np.isin(items, sides[0].first)
    pairs = zip(queries[common].tolist(), items[common].tolist(), strict=True)
    return dict(zip(pairs, truth.grades[common].tolist(), strict=True))


def _inputs(first: Evidence, second: Evidence, sides: tuple[Match, Match]) -> LayerDifference:
    """What entered the model: pixels after preprocessing, token ids."""
    parts, compared_, changed = [], 0, 0
    for mine, theirs, found in zip(first.sides, second.sides, sides, strict=True):
        pairs = _known(mine.inputs, theirs.inputs, found)
        different = [name for name, before, after in pairs if before != after]
        compared_, changed = compared_ + len(pairs), changed + len(different)
        if different:
            parts.append(f"{len(different):,} of {counted(len(pairs), mine.modality)} ({_ids(mine, different)})")
    if not compared_:
        return _incomparable("inputs", "a run does not say what entered the model (no encoder ran, or it was withheld)")
    what = "what entered the model changed for " + " and ".join(parts) if parts else (
        f"what entered the model is the same for all {compared_:,} items"
    )  # fmt: skip
    return LayerDifference("inputs", _status(changed), compared_, changed, nan, nan, "items", _sentence(what))


def _known(first: Sequence[str], second: Sequence[str], found: Match) -> list[tuple[int, str, str]]:
    """(position, digest, digest) of the common items of which both runs have one."""
    pairs = zip(found.first.tolist(), found.second.tolist(), strict=True)
    return [(a, first[a], second[b]) for a, b in pairs if first[a] and second[b]]


def _ids(side: Items, places: Sequence[int]) -> str:
    return named([side.ids[place] for place in places])


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _embeddings(first: Evidence, second: Evidence, sides: tuple[Match, Match]) -> LayerDifference:
    """Angles where both runs kept their vectors, else only whether the digests agree."""
    parts: list[str] = []
    angles: list[FloatArray] = []
    compared_, changed = 0, 0
    for mine, theirs, found in zip(first.sides, second.sides, sides, strict=True):
        n, different, measured, text = _moved_vectors(mine, theirs, found)
        compared_, changed, angles = compared_ + n, changed + different, [*angles, measured]
        if different:
            parts.append(text)
    if not compared_:
        lists = "lists" in (first.kind, second.kind)
        why = "a run knows ranked lists only, no vectors" if lists else "the runs kept no digests of common vectors"
        return _incomparable("embeddings", why, "degrees")
    text = "; ".join(parts) or f"the vectors of all {compared_:,} compared are the same, bit by bit"
    sizes = np.concatenate(angles)
    sizes = sizes if np.isfinite(sizes).all() else np.full(1, nan)  # one unknown angle may be the largest
    return _measured("embeddings", compared_, changed, sizes, "degrees", _sentence(text))


def _measured(layer: str, n: int, changed: int, sizes: FloatArray, unit: str, text: str) -> LayerDifference:
    finite = sizes[np.isfinite(sizes)]
    largest, mean = (float(finite.max()), float(finite.mean())) if len(finite) else (nan, nan)
    return LayerDifference(layer, _status(changed), n, changed, largest, mean, unit, text)


def _moved_vectors(mine: Items, theirs: Items, found: Match) -> tuple[int, int, FloatArray, str]:
    """(compared, changed, angles in degrees where both kept vectors, text) of one side."""
    if mine.vectors is not None and theirs.vectors is not None and mine.vectors.shape[1] == theirs.vectors.shape[1]:
        one, two = mine.vectors[found.first], theirs.vectors[found.second]
        moved = (one != two).any(axis=1)
        angles = np.where(moved, angles_between(one, two), 0.0)
        n, different = len(one), int(moved.sum())
        places = found.first[np.argsort(-angles, kind="stable")[: min(3, different)]].tolist()
        known = n > 0 and bool(np.isfinite(angles).all())
        size = f"angle at most {angles.max():.3g}, mean {angles.mean():.3g} degrees" if known else "without an angle"
        text = f"{different:,} of {counted(n, mine.modality + ' vector')} changed, {size} (most: {_ids(mine, places)})"
        return n, different, angles, text
    pairs = _known(mine.vector_digests, theirs.vector_digests, found)
    unknown = np.array([nan if before != after else 0.0 for _, before, after in pairs])
    dims = [None if side.vectors is None else side.vectors.shape[1] for side in (mine, theirs)]
    why = f"{dims[0]} and {dims[1]} dimensions have no angle" if None not in dims else f"size unknown; {KEEP}"
    if pairs:
        different = sum(before != after for _, before, after in pairs)
        text = f"{different:,} of {counted(len(pairs), mine.modality + ' vector')} changed, {why}"
        return len(pairs), different, unknown, text
    if not (mine.vectors_digest and theirs.vectors_digest) or mine.ids != theirs.ids:
        return 0, 0, unknown, ""
    same = mine.vectors_digest == theirs.vectors_digest
    n = len(mine)
    return n, 0 if same else n, np.full(n, 0.0 if same else nan), f"{mine.modality} vectors changed, {why}"


def angles_between(first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
    """Angle of every row of one array and the same row of the other, in degrees, (n,), from 0 to 180.

    ``2 atan2(|a - b|, |a + b|)`` of the unit vectors a and b: exact for small angles, where the arc cosine of a dot
    product loses half of the digits. Rows that are equal give 0; a zero row gives NaN.
    Source: W. Kahan, "How Futile are Mindless Assessments of Roundoff in Floating-Point Computation?", 2006, section
    12, https://people.eecs.berkeley.edu/~wkahan/Mindless.pdf

    >>> angles_between([[1.0, 0.0], [2.0, 0.0]], [[0.0, 3.0], [2.0, 0.0]]).round(9)
    array([90.,  0.])
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (
            wide / np.linalg.norm(wide, axis=1, keepdims=True)
            for wide in (np.asarray(rows, np.float64) for rows in (first, second))
        )
        half = np.arctan2(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1))
    return np.asarray(np.degrees(2 * half))


@dataclass(frozen=True, eq=False)
class _Shared:
    """The lists of one direction of two runs, for the queries of both.

    queries : positions of the common queries. order_changed, overlap : per common query. score_pairs : (n, 2) scores of
    the pairs that both lists hold.
    """

    direction: str
    queries: IntArray
    names: tuple[str, ...]
    order_changed: npt.NDArray[np.bool_]
    overlap: FloatArray
    score_pairs: FloatArray


def _shared_lists(pair: tuple[Answers, Answers], first: Evidence, found: tuple[Match, Match], depth: int) -> _Shared:
    asked, searched = (found[1], found[0]) if pair[0].forward else (found[0], found[1])
    names = first.sides[1 if pair[0].forward else 0].ids
    mine = _cut(pair[0].queries, pair[0].items, pair[0].scores, depth)
    theirs = _cut(asked.number[pair[1].queries], searched.number[pair[1].items], pair[1].scores, depth)
    mine, theirs = (
        tuple(part[np.isin(one[0], asked.first)] for part in one)
        for one in (mine, theirs)  # only common queries
    )
    n_items = int(max(one[1].max(initial=0) for one in (mine, theirs))) + 1
    keys = [one[0] * n_items + one[1] for one in (mine, theirs)]
    both, left, right = np.intersect1d(keys[0], keys[1], assume_unique=True, return_indices=True)
    size = int(asked.first.max()) + 1
    lengths = [np.bincount(one[0], minlength=size)[asked.first] for one in (mine, theirs)]
    shared = np.bincount(both // n_items, minlength=size)[asked.first]
    longest = np.maximum(*lengths)
    placed = [np.stack([one[0], one[3], one[1]], axis=1) for one in (mine, theirs)]
    kept = _same_rows(placed[0], placed[1], size)[asked.first]
    return _Shared(
        pair[0].direction,
        asked.first,
        names,
        order_changed=(kept != longest),
        overlap=np.where(longest > 0, shared / np.maximum(longest, 1), 1.0),
        score_pairs=np.stack([mine[2][left], theirs[2][right]], axis=1),
    )


def _cut(queries: IntArray, items: IntArray, scores: FloatArray, depth: int) -> tuple[Any, ...]:
    """(queries, items, scores, place) of the first ``depth`` results of every query, places from 0."""
    order = np.argsort(queries, kind="stable")
    queries, items, scores = queries[order], items[order], scores[order]
    starts = np.searchsorted(queries, queries)
    place = np.arange(len(queries)) - starts
    kept = place < depth
    return queries[kept], items[kept], scores[kept], place[kept]


def _same_rows(first: IntArray, second: IntArray, size: int) -> IntArray:
    """How many (query, place, item) both hold, per query."""
    joined = np.concatenate([first, second])
    rows, times = np.unique(joined, axis=0, return_counts=True)
    return np.bincount(rows[times > 1, 0], minlength=size)


def _scores(lists: Sequence[_Shared]) -> LayerDifference:
    """Scores of the pairs that the kept lists of both runs hold."""
    if not sum(len(one.score_pairs) for one in lists):
        return _incomparable("scores", "no pair of query and item is in the lists of both runs", "score")
    pairs = np.concatenate([one.score_pairs for one in lists])
    sizes = np.abs(pairs[:, 1] - pairs[:, 0])
    changed = int((pairs[:, 1] != pairs[:, 0]).sum())
    what = f"{changed:,} of {counted(len(pairs), 'score')} in the lists of both runs changed"
    text = (
        f"{what}, by at most {sizes.max():.3g}."
        if changed
        else f"All {len(pairs):,} scores in the lists of both runs are the same."
    )
    return _measured("scores", len(pairs), changed, sizes, "score", text)


def _ranks(lists: Sequence[_Shared]) -> LayerDifference:
    if not lists or not sum(map(len, (one.queries for one in lists))):
        return _incomparable("ranks", "the runs have no direction in common", "queries")
    changed = np.concatenate([one.order_changed for one in lists])
    overlap = np.concatenate([one.overlap for one in lists])
    parts = [
        f"{one.direction}: {int(one.order_changed.sum()):,} of {len(one.queries):,} lists changed, mean overlap "
        f"{one.overlap.mean():.3f} (such as {named([one.names[q] for q in one.queries[one.order_changed]])})"
        for one in lists if one.order_changed.any()
    ]  # fmt: skip
    text = "In " + "; ".join(parts) if parts else f"all {len(changed):,} lists hold the same items in the same order"
    return _measured("ranks", len(changed), int(changed.sum()), 1 - overlap, "queries", _sentence(text))


def _per_query(searched: Sequence[tuple[Answers, Answers]], sides: tuple[Match, Match]) -> LayerDifference:
    """Every metric of every common query; metrics of one run only are left out."""
    parts, sizes, n, n_changed = [], [np.zeros(0)], 0, 0
    for mine, theirs in searched:
        found = sides[1] if mine.forward else sides[0]
        names = [name for name in mine.per_query if name in theirs.per_query]
        if not names:
            continue
        one, two = (
            np.stack([answers.per_query[name][places] for name in names])
            for answers, places in ((mine, found.first), (theirs, found.second))
        )
        changed = (one != two) & ~(np.isnan(one) & np.isnan(two))
        rows, size = changed.any(axis=0), np.abs(two - one)
        n, n_changed = n + len(rows), n_changed + int(rows.sum())
        sizes.append(size[_fractions(one, two)].ravel())
        moved = [f"{name} of {int(line.sum()):,}" for name, line in zip(names, changed, strict=True) if line.any()]
        if moved:
            parts.append(f"{mine.direction}: {int(rows.sum()):,} of {counted(len(rows), 'query')} ({', '.join(moved)})")
    if not n:
        return _incomparable("per-query", "the runs share no metric", "queries")
    text = f"metrics changed in {'; '.join(parts)}" if parts else f"every metric of all {n:,} queries is the same"
    return _measured("per-query", n, n_changed, np.concatenate(sizes), "queries", _sentence(text))


def _fractions(one: FloatArray, two: FloatArray) -> npt.NDArray[np.bool_]:
    """Which rows are shares from 0 to 1; the others count places. All of them when none is."""
    inside = ~((np.abs(one) > 1) | (np.abs(two) > 1)).any(axis=1)
    return np.asarray(inside if inside.any() else ~inside)


def _aggregate(first: Metrics, second: Metrics) -> LayerDifference:
    """Metrics of the whole collection with their intervals; a metric of one run only counts as changed."""
    names = [name for name in first if name in second]
    alone = [name for name in (*first, *second) if (name in first) != (name in second)]
    if not names:
        return _incomparable("aggregate", "the runs share no metric", "metrics")
    changed = [name for name in names if any(first[name].get(part) != second[name].get(part) for part in MEASURED)]
    moved = [name for name in changed if first[name].get("value") != second[name].get("value")]
    values = np.array([[_number(one[name].get("value")) for name in names] for one in (first, second)])
    size = np.abs(values[1] - values[0])[_fractions(values[0][:, None], values[1][:, None])]
    parts = []
    if moved:
        largest = max(moved, key=lambda name: _moved_by(first, second, name))
        before, after = (_number(one[largest].get("value")) for one in (first, second))
        parts.append(
            f"{len(moved)} of {counted(len(names), 'metric')} changed (such as {largest}: {before:.4g} -> {after:.4g})"
        )
    if len(changed) > len(moved):
        parts.append(f"{counted(len(changed) - len(moved), 'metric')} kept the value with another interval, bound or n")
    if alone:
        parts.append(f"{counted(len(alone), 'metric')} in one run only ({named(alone)})")
    text = "; ".join(parts) or f"all {len(names)} metrics are the same, with their intervals"
    return _measured("aggregate", len(names) + len(alone), len(changed) + len(alone), size, "metrics", _sentence(text))


def _number(value: float | None) -> float:
    return nan if value is None else float(value)


def _moved_by(first: Metrics, second: Metrics, name: str) -> float:
    before, after = (_number(one[name].get("value")) for one in (first, second))
    if isnan(before) or isnan(after):
        return inf
    return abs(after - before) / max(abs(before), abs(after), 1.0)
