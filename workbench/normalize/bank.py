"""Banks: the other queries and items from which a repair is estimated, and where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from workbench.types import IntArray

Provenance = Literal["inductive", "cross-fit", "transductive"]
"""Where bank queries come from: another split, the other fold of the images, or the scored queries themselves."""
_ROWS = 4096


@dataclass(frozen=True, eq=False)
class Bank:
    """Vectors (n, dim) that a repair learns from, with their provenance, which every result carries along.

    provenance : "inductive" (another split), "cross-fit" (the other fold, see :func:`cross_fit_folds`) or
    "transductive" (the scored queries themselves). name : where from, for tables. keys : (n,) what tells items apart,
    such as hashes of their contents; without them, or without keys on the other side, equal vectors are equal items.

    >>> bank = Bank(np.eye(3), "inductive", "train")
    >>> bank.overlap([[0.0, 1.0, 0.0], [0.6, 0.8, 0.0]]), len(bank.without([[0.0, 1.0, 0.0]]))
    (1, 2)
    """

    vectors: npt.NDArray[np.floating]
    provenance: Provenance
    name: str = ""
    keys: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.provenance not in get_args(Provenance):
            raise ValueError(f"provenance must be one of {', '.join(get_args(Provenance))}; got {self.provenance!r}")
        vectors = np.asanyarray(self.vectors)  # a mapped file stays one
        if vectors.ndim != 2 or 0 in vectors.shape:
            raise ValueError(f"a bank needs vectors (n, dim) with at least one row; got {vectors.shape}")
        if self.keys is not None and len(self.keys) != len(vectors):
            raise ValueError(f"{len(self.keys)} keys for a bank of {len(vectors)} rows")
        object.__setattr__(self, "vectors", vectors)

    def __len__(self) -> int:
        return len(self.vectors)

    def overlap(self, vectors: npt.ArrayLike, keys: Sequence[str] | None = None) -> int:
        """How many rows of the bank are also rows of the vectors."""
        return int(self._shared(vectors, keys).sum())

    def without(self, vectors: npt.ArrayLike, keys: Sequence[str] | None = None) -> Bank:
        """The bank without the rows it shares with the vectors; an error if none is left."""
        left = np.flatnonzero(~self._shared(vectors, keys))
        kept = None if self.keys is None else [self.keys[row] for row in left.tolist()]
        return Bank(self.vectors[left], self.provenance, self.name, kept)

    def refuse_overlap(self, vectors: npt.ArrayLike, what: str, keys: Sequence[str] | None = None) -> None:
        """An error if the bank holds scored rows without saying so: then the numbers would not be of new queries."""
        if self.provenance == "transductive":
            return
        if shared := self.overlap(vectors, keys):
            raise ValueError(
                f"{shared} of {len(self)} rows of the bank are also among the {what}, so it is not {self.provenance}; "
                "take them out (bank.without(...)), or call it what it is: provenance='transductive'"
            )

    def _shared(self, vectors: npt.ArrayLike, keys: Sequence[str] | None) -> npt.NDArray[np.bool_]:
        others = np.asanyarray(vectors)
        if others.ndim != 2 or others.shape[1] != self.vectors.shape[1]:
            raise ValueError(f"the bank has {self.vectors.shape[1]} dimensions; got vectors of shape {others.shape}")
        if self.keys is not None and keys is not None:
            known = set(keys)
            return np.array([key in known for key in self.keys], np.bool_)
        dtype = np.result_type(self.vectors, others)
        return np.isin(fingerprints(self.vectors, dtype), fingerprints(others, dtype))


def fingerprints(vectors: npt.NDArray[np.floating], dtype: npt.DTypeLike | None = None) -> npt.NDArray[np.uint64]:
    """(n,) a number per row that equal rows share and others, but for one pair in 10^19, do not; 0.0 equals -0.0.

    >>> same = fingerprints(np.array([[0.0, 1.0], [-0.0, 1.0], [1.0, 0.0]]))
    >>> bool(same[0] == same[1]), bool(same[0] == same[2])
    (True, False)
    """
    wide = np.dtype(dtype or vectors.dtype)
    n_words = vectors.shape[1] * wide.itemsize // 2
    weights = np.random.default_rng(0).integers(1, 2**64, n_words, dtype=np.uint64, endpoint=False) | np.uint64(1)
    found = np.empty(len(vectors), np.uint64)
    for start in range(0, len(vectors), _ROWS):
        rows = np.ascontiguousarray(vectors[start : start + _ROWS], wide) + wide.type(0)
        found[start : start + _ROWS] = (rows.view(np.uint16).astype(np.uint64) * weights).sum(axis=1)
    return found


def cross_fit_folds(clusters: npt.ArrayLike, seed: int) -> IntArray:
    """Two folds of clusters, 0 and 1, of equal size (fold 0 one larger if the number is odd).

    For data without a training split: each fold is a small test set of its own, repaired with the queries of the other.
    Score the queries of fold f against the gallery items *of fold f only*, with a bias estimated from the queries of
    fold ``1 - f`` against these items, and compare with the raw scores *of the same halves*. No label then touches the
    repair: neither the right item nor any of its competitors has a query of its own in the bank, as with a bank from
    another split. The gain is that of a gallery of half the size.

    Do not score against the whole gallery with such a bias: the fold of a query then tells where its answer is. All
    competitors in the other fold have their own queries in the bank and are marked down for it, the right item never
    is; that alone can be worth several points of hit@1. Leaving the pairs of an item and its own queries out of the
    bank (``exclude=`` of the bank statistics) turns the error round where items resemble each other: the queries of a
    look-alike in the other fold count against the right item, and not the other way about.

    clusters : one label per image (or per cluster of images that belong together). Captions take the fold of their
    image: ``folds[text_image]``. seed : of the draw; folds depend on it and on the set of labels, not on their order.
    Returns (n,) int64, parallel to ``clusters``.

    >>> cross_fit_folds(["b", "a", "c", "a"], seed=0)
    array([0, 0, 1, 0])
    """
    labels = np.asarray(clusters)
    if labels.ndim != 1:
        raise ValueError(f"clusters must be one label per item, (n,); got {labels.shape}")
    names, place = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"two folds need at least 2 clusters; got {len(names)}")
    fold = np.zeros(len(names), np.int64)
    fold[np.random.default_rng(seed).permutation(len(names))[: len(names) // 2]] = 1
    return fold[place]
