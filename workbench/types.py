"""The nouns of the workbench: frozen, validated on construction, without behaviour beyond accessors.

Orientation is the same everywhere: rows are queries, columns are gallery items, and a higher score is closer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Verdict = Literal["ok", "look", "problem", "not measurable"]
Unit = Literal["", "%", "points"]
VERDICTS: tuple[Verdict, ...] = ("ok", "look", "problem", "not measurable")


def _frozen(values: npt.ArrayLike, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """A read-only array of the given type; the caller's array is never made read-only."""
    array = np.asarray(values, dtype=dtype)
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array


def check_unique(ids: Sequence[str], what: str) -> tuple[str, ...]:
    """The ids as a tuple of strings, or an error that names the first repeated one."""
    names = tuple(str(name) for name in ids)
    if len(set(names)) != len(names):
        seen: set[str] = set()
        repeated = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(
            f"{what} ids must be unique, but {repeated!r} occurs {names.count(repeated)} times; "
            "give each item its own id (results are keyed and ties are ordered by id)"
        )
    return names


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors that know which items they belong to and where they came from.

    vectors : (n, dim) float32 or float64, finite. The score of a pair is the dot product of these, so normalise first
        when cosine similarity is meant (:func:`unit_vectors`).
    ids : n unique strings.
    modality : "image", "text", "video", "audio", "document", ...
    source : how the vectors were made (encoder, checkpoint, precision, preprocessing); only plain JSON values.
    """

    vectors: npt.NDArray[Any]
    ids: tuple[str, ...]
    modality: str
    source: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        vectors = np.asarray(self.vectors)
        if vectors.ndim != 2 or 0 in vectors.shape:
            raise ValueError(f"{self.modality} vectors must have shape (n, dim) with n, dim >= 1; got {vectors.shape}")
        if vectors.dtype not in (np.float32, np.float64):
            if vectors.dtype.kind not in "fiu":
                raise ValueError(f"{self.modality} vectors must be real numbers; got dtype {vectors.dtype}")
            vectors = vectors.astype(np.float32 if vectors.dtype == np.float16 else np.float64)
        ids = check_unique(self.ids, self.modality)
        if len(ids) != len(vectors):
            raise ValueError(f"{len(vectors)} {self.modality} vectors but {len(ids)} ids; one id per row is needed")
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            first = int(np.flatnonzero(~finite)[0])
            raise ValueError(
                f"{int((~finite).sum())} of {len(vectors)} {self.modality} vectors hold NaN or infinity, the first is "
                f"{ids[first]!r} (row {first}); drop these items or encode them again"
            )
        object.__setattr__(self, "vectors", _frozen(vectors, vectors.dtype))
        object.__setattr__(self, "ids", ids)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])


def unit_vectors(vectors: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Rows scaled to length one: norms in float64, result in float32. A zero row is an error, never a NaN.

    >>> unit_vectors([[3.0, 4.0]])
    array([[0.6, 0.8]], dtype=float32)
    """
    wide = np.asarray(vectors, dtype=np.float64)
    if wide.ndim != 2:
        raise ValueError(f"vectors must have shape (n, dim); got {wide.shape}")
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    if not np.isfinite(norms).all() or (norms == 0).any():
        bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)).ravel())
        raise ValueError(
            f"{len(bad)} of {len(wide)} vectors have length zero, NaN or infinity (first row: {bad[0]}), so cosine "
            "similarity is undefined for them; drop these items or use similarity='dot'"
        )
    return np.asarray(wide / norms, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Relevance:
    """Which gallery items are right for which query, sparse and graded: compressed rows of (item, grade).

    indptr (n_queries + 1,), items (n_judged,), grades (n_judged,), n_gallery. Items ascend within a row. A grade above
    zero is a positive; a stored grade of zero or less is *judged and not relevant*; what is not stored is unjudged.

    >>> Relevance.from_pairs([0, 1, 1], [2, 0, 3], n_queries=2, n_gallery=4).T.positives_per_query
    array([1, 0, 1, 1])
    """

    indptr: IntArray
    items: IntArray
    grades: FloatArray
    n_gallery: int

    def __post_init__(self) -> None:
        indptr, items = np.asarray(self.indptr, np.int64), np.asarray(self.items, np.int64)
        grades = np.asarray(self.grades, np.float64)
        if indptr.ndim != 1 or len(indptr) < 2 or indptr[0] != 0 or (np.diff(indptr) < 0).any():
            raise ValueError("indptr must rise from 0 and have n_queries + 1 >= 2 entries")
        if indptr[-1] != len(items) or len(items) != len(grades):
            raise ValueError(f"indptr ends at {indptr[-1]} but there are {len(items)} items and {len(grades)} grades")
        if len(items) and not (0 <= items.min() and items.max() < self.n_gallery):
            raise ValueError(
                f"items must lie in 0..{self.n_gallery - 1} (n_gallery = {self.n_gallery}); "
                f"got {items.min()}..{items.max()}; are queries and gallery swapped?"
            )
        if not np.isfinite(grades).all():
            raise ValueError("grades must be finite numbers")
        rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        same_row = rows[1:] == rows[:-1]
        if (np.diff(items)[same_row] <= 0).any():
            raise ValueError("items must ascend without repeats within each query; use Relevance.from_pairs")
        object.__setattr__(self, "indptr", _frozen(indptr, np.int64))
        object.__setattr__(self, "items", _frozen(items, np.int64))
        object.__setattr__(self, "grades", _frozen(grades, np.float64))
        object.__setattr__(self, "n_gallery", int(self.n_gallery))

    @classmethod
    def from_pairs(
        cls,
        queries: npt.ArrayLike,
        items: npt.ArrayLike,
        grades: npt.ArrayLike | None = None,
        *,
        n_queries: int,
        n_gallery: int,
    ) -> Relevance:
        """From parallel arrays of judged pairs in any order. A pair may be given once only."""
        rows, columns = np.asarray(queries, np.int64).ravel(), np.asarray(items, np.int64).ravel()
        values = np.ones(len(rows)) if grades is None else np.asarray(grades, np.float64).ravel()
        if not len(rows) == len(columns) == len(values):
            raise ValueError(f"{len(rows)} queries, {len(columns)} items and {len(values)} grades; lengths must agree")
        if len(rows) and not (0 <= rows.min() and rows.max() < n_queries):
            raise ValueError(f"queries must lie in 0..{n_queries - 1}; got {rows.min()}..{rows.max()}")
        order = np.lexsort((columns, rows))
        rows, columns, values = rows[order], columns[order], values[order]
        if ((np.diff(rows) == 0) & (np.diff(columns) == 0)).any():
            raise ValueError("a (query, item) pair is judged twice; keep one grade per pair")
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n_queries))])
        return cls(indptr, columns, values, n_gallery)

    @property
    def n_queries(self) -> int:
        return len(self.indptr) - 1

    @property
    def n_positives(self) -> int:
        return int((self.grades > 0).sum())

    @property
    def queries(self) -> IntArray:
        """The query of each stored pair, parallel to ``items``."""
        return np.repeat(np.arange(self.n_queries), np.diff(self.indptr))

    @property
    def positives_per_query(self) -> IntArray:
        return np.bincount(self.queries[self.grades > 0], minlength=self.n_queries)

    @property
    def positives(self) -> Relevance:
        """The same relevance without the pairs judged not relevant."""
        keep = self.grades > 0
        return Relevance.from_pairs(
            self.queries[keep], self.items[keep], self.grades[keep],
            n_queries=self.n_queries, n_gallery=self.n_gallery,
        )  # fmt: skip

    @property
    def T(self) -> Relevance:
        """The other direction: gallery items become queries."""
        return Relevance.from_pairs(
            self.items, self.queries, self.grades, n_queries=self.n_gallery, n_gallery=self.n_queries
        )

    def take(self, queries: npt.ArrayLike, items: npt.ArrayLike) -> Relevance:
        """The part between some queries and some items, renumbered in the order in which they are given.

        >>> part = Relevance.from_pairs([0, 1, 1], [2, 0, 3], n_queries=2, n_gallery=4).take([1], [3, 2])
        >>> part.row(0)[0], part.n_gallery
        (array([0]), 2)
        """
        rows, columns = np.asarray(queries, np.int64), np.asarray(items, np.int64)
        new_row, new_column = np.full(self.n_queries, -1), np.full(self.n_gallery, -1)
        new_row[rows], new_column[columns] = np.arange(len(rows)), np.arange(len(columns))
        row, column = new_row[self.queries], new_column[self.items]
        inside = (row >= 0) & (column >= 0)
        return Relevance.from_pairs(
            row[inside], column[inside], self.grades[inside], n_queries=len(rows), n_gallery=len(columns)
        )

    def row(self, query: int) -> tuple[IntArray, FloatArray]:
        """(items, grades) judged for one query."""
        where = slice(self.indptr[query], self.indptr[query + 1])
        return self.items[where], self.grades[where]


@dataclass(frozen=True, eq=False)
class Ranks:
    """Where every positive of every query landed, with its ties: all that a metric needs to know.

    Compressed rows: the positives of query q are ``indptr[q]:indptr[q + 1]``. For each of them
    ``items`` (gallery index), ``grades`` (> 0), ``better`` (items with a strictly higher score) and ``tied`` (*other*
    items with exactly the same score). Under random tie order its rank is uniform on better + 1 .. better + tied + 1.
    Two positives of one query belong to the same tie group exactly when their ``better`` agrees.
    ``depth`` (n_queries,) is how many items were ranked: n_gallery for a scan, the list length for a result list.
    A positive missing from a list has ``better == n_gallery`` and ``tied == 0``: it is behind every cutoff.
    """

    indptr: IntArray
    items: IntArray
    grades: FloatArray
    better: IntArray
    tied: IntArray
    depth: IntArray
    n_gallery: int

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in ("items", "grades", "better", "tied")}
        if len(set(lengths.values())) != 1 or self.indptr[-1] != lengths["items"]:
            raise ValueError(f"one entry per positive is needed: indptr ends at {self.indptr[-1]}, lengths {lengths}")
        if len(self.depth) != len(self.indptr) - 1:
            raise ValueError(f"{len(self.depth)} depths for {len(self.indptr) - 1} queries")
        if (np.asarray(self.grades) <= 0).any():
            raise ValueError("ranks are kept for positives only (grade > 0)")
        for name in ("indptr", "items", "better", "tied", "depth"):
            object.__setattr__(self, name, _frozen(getattr(self, name), np.int64))
        object.__setattr__(self, "grades", _frozen(self.grades, np.float64))

    @property
    def n_queries(self) -> int:
        return len(self.indptr) - 1

    @property
    def queries(self) -> IntArray:
        """The query of each positive, parallel to ``items``."""
        return np.repeat(np.arange(self.n_queries), np.diff(self.indptr))

    @property
    def positives_per_query(self) -> IntArray:
        return np.diff(self.indptr)


@dataclass(frozen=True, eq=False)
class RankedLists:
    """What a system returned, of any length per query: all that is known of a search service.

    Compressed rows: query q returned ``items[indptr[q]:indptr[q + 1]]`` with ``scores``, best first, no item twice.
    The scores decide (higher is closer); equal scores are ties.
    """

    indptr: IntArray
    items: IntArray
    scores: FloatArray
    n_gallery: int

    def __post_init__(self) -> None:
        for name, kind in (("indptr", np.int64), ("items", np.int64), ("scores", np.float64)):
            object.__setattr__(self, name, _frozen(getattr(self, name), kind))
        if len(self.items) != len(self.scores) or self.indptr[-1] != len(self.items):
            raise ValueError(
                f"indptr ends at {self.indptr[-1]} for {len(self.items)} items and {len(self.scores)} scores"
            )
        if len(self.items) and not (0 <= self.items.min() and self.items.max() < self.n_gallery):
            raise ValueError(f"items {self.items.min()}..{self.items.max()} lie outside 0..{self.n_gallery - 1}")

    @property
    def n_queries(self) -> int:
        return len(self.indptr) - 1

    @property
    def depths(self) -> IntArray:
        """Items per query, (n_queries,)."""
        return np.diff(self.indptr)

    def row(self, query: int) -> tuple[IntArray, FloatArray]:
        """(items, scores) of one query, best first."""
        where = slice(self.indptr[query], self.indptr[query + 1])
        return self.items[where], self.scores[where]

    def shortened(self, depth: int) -> RankedLists:
        """The first ``depth`` items of every list.

        >>> RankedLists([0, 3, 4], [2, 0, 1, 2], [3, 2, 1, 5], 4).shortened(2).items
        array([2, 0, 2])
        """
        place = np.arange(len(self.items)) - np.repeat(self.indptr[:-1], self.depths)
        kept = place < depth
        indptr = np.concatenate([[0], np.cumsum(np.minimum(self.depths, depth))])
        return RankedLists(indptr, self.items[kept], self.scores[kept], self.n_gallery)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The k closest gallery items of every query, best first; equal scores in ascending order of item id.

    indices (n_queries, k), scores (n_queries, k) float64, n_gallery (so that items never retrieved can be counted),
    exact (False for approximate indexes), kth_tied (n_queries,): an item outside the list scores the same as the last
    item inside, so that the list itself depends on the tie rule.
    """

    indices: IntArray
    scores: FloatArray
    n_gallery: int
    exact: bool
    kth_tied: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.indices.shape != self.scores.shape or self.indices.ndim != 2:
            raise ValueError(f"indices {self.indices.shape} and scores {self.scores.shape} must both be (n_queries, k)")
        if self.k > self.n_gallery:
            raise ValueError(f"k = {self.k} exceeds the gallery of {self.n_gallery} items")
        object.__setattr__(self, "indices", _frozen(self.indices, np.int64))
        object.__setattr__(self, "scores", _frozen(self.scores, np.float64))
        object.__setattr__(self, "kth_tied", _frozen(self.kth_tied, np.bool_))

    @property
    def k(self) -> int:
        return int(self.indices.shape[1])

    @property
    def n_queries(self) -> int:
        return int(self.indices.shape[0])

    def row(self, query: int) -> tuple[IntArray, FloatArray]:
        """(items, scores) of one query, best first."""
        return self.indices[query], self.scores[query]


def _finite(number: float | None) -> float | None:
    return float(number) if number is not None and math.isfinite(number) else None


@dataclass(frozen=True)
class Finding:
    """One sentence an auditor can act on.

    name : what was looked at, such as "t2i/hubness".
    value, interval : the measured number (None if not measurable) and its (low, high), or None with no interval.
    threshold, threshold_source : what the value was held against, and where that number comes from.
    verdict : "ok", "look", "problem" or "not measurable".
    advice : what it means and what to do, in one or two plain sentences that hold for *this* value.
    unit : how the value is shown: "%" for a share (0.25 shows as 25 %), "points" for a difference of shares.
    """

    name: str
    value: float | None
    interval: tuple[float, float] | None
    threshold: float | None
    threshold_source: str
    verdict: Verdict
    advice: str
    unit: Unit = ""

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict must be one of {VERDICTS}; got {self.verdict!r}")
        if self.verdict != "not measurable" and self.value is None:
            raise ValueError(f"finding {self.name!r} has the verdict {self.verdict!r} but no value")

    def flat(self) -> dict[str, Any]:
        """Plain JSON values, in a fixed order; what is not finite becomes None."""
        low, high = (None, None) if self.interval is None else map(_finite, self.interval)
        return {
            "name": self.name,
            "verdict": self.verdict,
            "value": _finite(self.value),
            "interval": None if low is None or high is None else [low, high],
            "threshold": _finite(self.threshold),
            "threshold_source": self.threshold_source,
            "advice": self.advice,
            "unit": self.unit,
        }
