"""Copies told in several ways, from equal bytes to nearly equal vectors, within one split or between two.

Between two splits a copy is a leak: what was trained or tuned on the other split has seen the answer.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from workbench.datasets import Side
from workbench.diagnostics.duplicates import PROBLEM_SHARE, exact_cosines
from workbench.types import Finding, IntArray, Verdict, unit_vectors

if TYPE_CHECKING:
    import pandas as pd

LEAK_SOURCE = (
    "convention of this project: any shared item is worth a look; above 1 % of the items they alone can move a score "
    "by the half point that papers report as progress"
)
CHAINED = 0.1
LOOKS = "looks"
"""The level whose pairs are joined into groups without being transitive."""


@dataclass(frozen=True, eq=False)
class CopyLevel:
    """Copies told in one way.

    name, rule : what is held to be the same, in words. n_pairs : pairs of different items. items : positions of the
    items concerned. n_new : of these, those that no stricter level told. n_groups, largest : sets of items linked by
    pairs; n_chained : pairs within such sets that are linked only through others, though not equal. Within one set
    only; between two sets they are 0 and n_others counts the items of the other set.
    """

    name: str
    rule: str
    n_pairs: int
    items: IntArray
    n_new: int = 0
    n_groups: int = 0
    largest: int = 0
    n_chained: int = 0
    n_others: int = 0


@dataclass(frozen=True, eq=False)
class CopyLevels:
    """One kind of item held against itself, or against another split.

    what : kind of item. n, n_other : items, and items of the other split (0: within one). other : its name.
    levels : strictest first. leaked : positions of the items that are also in the other split, equal in content;
    None where nothing is judged, as for texts. reason : why there are no levels.
    """

    what: str
    n: int
    levels: tuple[CopyLevel, ...]
    other: str = ""
    n_other: int = 0
    leaked: tuple[int, ...] | None = None
    reason: str = ""

    @property
    def plural(self) -> str:
        """What several of its items are called."""
        return Side(self.what, ()).plural

    def table(self) -> pd.DataFrame:
        """One row per level."""
        import pandas as pd

        rows = [
            (self.what, level.name, level.rule, level.n_pairs, len(level.items), level.n_new,
             *((level.n_others,) if self.other else (level.n_groups, level.largest, level.n_chained)))
            for level in self.levels
        ]  # fmt: skip
        last = (f"{self.other} items",) if self.other else ("groups", "largest", "chained pairs")
        return pd.DataFrame(rows, columns=["items", "told by", "rule", "pairs", "concerned", "new here", *last])

    def plot(self, ax: Any = None) -> Any:
        """Items concerned per level."""
        from workbench.plots import copies

        return copies.copy_levels(self, ax)

    def findings(self) -> list[Finding]:
        """Between splits: one about items that are in both. Within one: one if look-alikes form chains."""
        if self.reason:
            return [Finding("leaks/items", None, None, None, LEAK_SOURCE, "not measurable", self.reason)]
        if self.leaked is not None:
            return [_leak_finding(self, len(self.leaked))]
        return [_chain_finding(level) for level in self.levels if _long(level)]

    def flat(self) -> dict[str, float]:
        """Counts by ``copies/what_level_name`` or ``leaks/...``."""
        label = "leaks" if self.other else "copies"
        return {
            f"{label}/{self.what}_{level.name.replace(' ', '_')}_{name}": float(value)
            for level in self.levels for name, value in (("pairs", level.n_pairs), ("items", len(level.items)))
        }  # fmt: skip

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False)


def joined(n: int, *pairs: tuple[npt.ArrayLike, npt.ArrayLike]) -> IntArray:
    """(n,) the group of each item, named by its first member: items linked by pairs, directly or through others.

    pairs : parallel arrays (first, second) of positions; any number of such lists.

    >>> joined(5, ([0, 3], [3, 4]), ([1], [1]))
    array([0, 1, 2, 0, 0])
    """
    first, second = (np.concatenate([np.asarray(part[side], np.int64) for part in pairs]) for side in (0, 1))
    ends = np.concatenate([first, second])
    if len(ends) and not (0 <= ends.min() <= ends.max() < n):
        raise ValueError(f"pairs must lie in 0..{n - 1}; got {ends.min()}..{ends.max()}")
    links = coo_array((np.ones(len(first), bool), (first, second)), shape=(n, n))
    label = connected_components(links, directed=False)[1]
    leader = np.full(n, n)
    np.minimum.at(leader, label, np.arange(n))
    return leader[label].astype(np.int64)


def equal_items(keys: Sequence[Hashable]) -> IntArray:
    """(n,) the first item with the same key; an item whose key is "" equals only itself.

    >>> equal_items(["x", "y", "x", "", ""])
    array([0, 1, 0, 3, 4])
    """
    place: dict[Hashable, int] = {}
    return np.array([at if key == "" else place.setdefault(key, at) for at, key in enumerate(keys)], np.int64)


def level_of_groups(name: str, rule: str, groups: IntArray, *, told: IntArray | None = None) -> CopyLevel:
    """A level whose pairs are all pairs within groups, such as items of one digest. told : items of stricter levels."""
    leaders, size = np.unique(groups, return_counts=True)
    items = np.flatnonzero(np.isin(groups, leaders[size > 1]))
    return CopyLevel(name, rule, _pairs(size), items, _new(items, told), int((size > 1).sum()), _largest(size))


def level_of_pairs(
    name: str, rule: str, n: int, first: IntArray, second: IntArray, *, told: IntArray | None = None,
    same: IntArray | None = None,
) -> CopyLevel:  # fmt: skip
    """A level given by its pairs, which need not be transitive.

    same (n,) : groups of equal items by their first, whose pairs are not among those given: two copies of one item that
    are both near a third are no chain.
    """
    groups = joined(n, (first, second))
    size = np.unique(groups, return_counts=True)[1]
    equal = np.unique(n * groups + (np.arange(n) if same is None else same), return_counts=True)[1]
    items, chained = np.unique(np.concatenate([first, second])), _pairs(size) - _pairs(equal) - len(first)
    return CopyLevel(
        name, rule, len(first), items, _new(items, told), int((size > 1).sum()), _largest(size), chained
    )  # fmt: skip


def level_between(
    name: str, rule: str, first: IntArray, second: IntArray, *, told: IntArray | None = None
) -> CopyLevel:
    """A level given by the pairs (item, item of the other set)."""
    items = np.unique(first)
    return CopyLevel(name, rule, len(first), items, _new(items, told), n_others=len(np.unique(second)))


def shared_keys(keys: Sequence[str], others: Sequence[str]) -> tuple[IntArray, IntArray]:
    """All pairs (item, other item) with equal keys; the key "" equals nothing.

    >>> shared_keys(["x", "y", ""], ["y", "y", ""])
    (array([1, 1]), array([0, 1]))
    """
    places: dict[str, list[int]] = {}
    for at, key in enumerate(others):
        if key:
            places.setdefault(key, []).append(at)
    pairs = [(at, other) for at, key in enumerate(keys) for other in places.get(key, ())]
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    return first, second


def level_close(
    name: str, rule: str, vectors: npt.ArrayLike, others: npt.ArrayLike, *, threshold: float,
    told: IntArray | None = None, block: int = 2048,
) -> CopyLevel:  # fmt: skip
    """A level of the pairs between two sets of vectors with cosine >= threshold.

    vectors (n, dim), others (m, dim). Pairs are counted, not kept: memory is about block x block x 8 bytes however many
    there are. The float32 product decides, but within 0.0001 of the threshold float64 to nine decimals.

    >>> level = level_close("vectors", "", [[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.1]], threshold=0.98)
    >>> level.n_pairs, level.items, level.n_others
    (1, array([0]), 1)
    """
    left, right = unit_vectors(vectors), unit_vectors(others)
    mine, theirs, pairs = np.zeros(len(left), bool), np.zeros(len(right), bool), 0
    for start in range(0, len(left), block):
        for begin in range(0, len(right), block):
            product = left[start : start + block] @ right[begin : begin + block].T
            near = product >= np.float32(threshold + 1e-4)
            i, j = np.nonzero((product >= np.float32(threshold - 1e-4)) & ~near)
            near[i, j] = exact_cosines(left, right, i + start, j + begin) >= threshold
            pairs += int(near.sum())
            mine[start : start + block] |= near.any(axis=1)
            theirs[begin : begin + block] |= near.any(axis=0)
    items = np.flatnonzero(mine)
    return CopyLevel(name, rule, pairs, items, _new(items, told), n_others=int(theirs.sum()))


def _pairs(size: IntArray) -> int:
    return int((size * (size - 1) // 2).sum())


def _new(items: IntArray, told: IntArray | None) -> int:
    return len(items) if told is None else int((~np.isin(items, told)).sum())


def _largest(size: IntArray) -> int:
    largest = int(size.max(initial=0))
    return largest if largest > 1 else 0


def _long(level: CopyLevel) -> bool:
    """Whether joining look-alikes into groups joined many items that are no pairs."""
    return level.name == LOOKS and level.n_chained > CHAINED * max(level.n_pairs, 1)


def _chain_finding(level: CopyLevel) -> Finding:
    share = level.n_chained / (level.n_pairs + level.n_chained)
    advice = (
        f"{level.n_chained:,} pairs are in one group only through others (largest group: {level.largest:,} items): a "
        "is near b and b near c, but a is not near c. Such chains can join what nobody would call the same: look at "
        "the largest group, or take a stricter threshold, before trusting what copies are worth."
    )
    source = "convention of this project: more than one such pair for ten true ones"
    return Finding("copies/chains", share, None, CHAINED / (1 + CHAINED), source, "look", advice, "%")


def _leak_finding(found: CopyLevels, leaked: int) -> Finding:
    share = leaked / max(found.n, 1)
    if not leaked:
        advice = f"None of the {found.n:,} {found.what} items is also in the split {found.other!r}, equal in content."
        return Finding("leaks/items", 0.0, None, 0.0, LEAK_SOURCE, "ok", advice, "%")
    verdict: Verdict = "problem" if share > PROBLEM_SHARE else "look"
    advice = (
        f"{leaked:,} of {found.n:,} {found.what} items are also in the split {found.other!r}, equal in content. "
        "What was trained or tuned there has seen them: leave them out, and see what that is worth."
    )
    threshold = PROBLEM_SHARE if verdict == "problem" else 0.0
    return Finding("leaks/items", share, None, threshold, LEAK_SOURCE, verdict, advice, "%")
