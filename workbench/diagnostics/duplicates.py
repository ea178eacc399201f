"""Duplicates: items that are there twice, items an encoder cannot tell apart, captions repeated for other images.

A copy of the right item is as good an answer as the right item, but counts as wrong. These are causes of wrong scores
in the data, not in the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from workbench.datasets.counts import normalized_caption
from workbench.types import Finding, FloatArray, IntArray, Relevance, Verdict, check_unique, unit_vectors

if TYPE_CHECKING:
    import pandas as pd

PROBLEM_SHARE = 0.01
EXACT_SOURCE = (
    "convention of this project: any copy is worth a look; above 1 % of the items the copies alone can move hit@1 by "
    "the half point that papers report as progress"
)
NEAR_SOURCE = "the cosine threshold of the call; what two items at that cosine have in common depends on the encoder"
CROWDED_SHARE = 0.01
N_BORDERLINE = 20
N_AT_ONCE, N_NUMBERS = 65_536, 2**20
CURVE = np.round(np.arange(0.80, 0.9999, 0.005), 3)


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Exact copies by digest, near-duplicates by cosine.

    groups : ids of each set of items with one digest, larger sets first. n_exact_pairs : pairs among them.
    n_near_pairs : pairs of items of different digest with cosine >= threshold (exact count).
    near : the closest of these as (id, id, cosine), at most ``max_listed``.
    borderline : pairs of different digest nearest the threshold, on either side, to judge it by eye.
    curve_thresholds, curve_pairs : pairs of different digest at or above each cosine.
    """

    what: str
    n: int
    threshold: float
    groups: tuple[tuple[str, ...], ...]
    n_near_pairs: int
    n_near_items: int
    near: tuple[tuple[str, str, float], ...]
    borderline: tuple[tuple[str, str, float], ...]
    curve_thresholds: FloatArray
    curve_pairs: IntArray

    @property
    def n_exact_pairs(self) -> int:
        return sum(len(group) * (len(group) - 1) // 2 for group in self.groups)

    @property
    def n_exact_items(self) -> int:
        """Items that share their digest with another item."""
        return sum(len(group) for group in self.groups)

    @property
    def n_pairs(self) -> int:
        """All pairs of different items."""
        return self.n * (self.n - 1) // 2

    def table(self) -> pd.DataFrame:
        """The listed pairs: exact copies first, then near-duplicates, closest first."""
        import pandas as pd

        exact = [(group[0], other, "exact copy", 1.0) for group in self.groups for other in group[1:]]
        near = [(first, second, "near", cosine) for first, second, cosine in self.near]
        return pd.DataFrame(exact + near, columns=["item", "other", "kind", "cosine"])

    def plot(self, ax: Any = None) -> Any:
        """Number of pairs at or above each cosine."""
        from workbench.plots import curves

        return curves.duplicate_curve(self, ax)

    def findings(self) -> list[Finding]:
        """One finding about exact copies, one about near-duplicates."""
        return [_exact_finding(self), _near_finding(self)]

    def flat(self) -> dict[str, float]:
        """Counts by ``duplicates/what_name``."""
        values = {
            "exact_pairs": self.n_exact_pairs, "exact_items": self.n_exact_items,
            "near_pairs": self.n_near_pairs, "near_items": self.n_near_items,
        }  # fmt: skip
        return {f"duplicates/{self.what}_{name}": float(value) for name, value in values.items()}

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, float_format=lambda value: f"{value:.4f}")


@dataclass(frozen=True, eq=False)
class RepeatedCaptions:
    """Captions that say the same for different images.

    captions : (normalised caption, indices of the texts, indices of their images), most images first.
    """

    n_texts: int
    captions: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    @property
    def n_affected(self) -> int:
        """Texts whose caption is also that of another image."""
        return sum(len(texts) for _, texts, _ in self.captions)

    def table(self) -> pd.DataFrame:
        """One row per repeated caption."""
        import pandas as pd

        rows = [(caption, len(texts), len(images), list(images)) for caption, texts, images in self.captions]
        return pd.DataFrame(rows, columns=["caption", "texts", "images", "image indices"])

    def plot(self, ax: Any = None) -> Any:
        """How many images share each repeated caption."""
        from workbench.plots import curves

        return curves.repeated_captions(self, ax)

    def findings(self) -> list[Finding]:
        """One finding: how many texts do not say which image is meant."""
        return [_caption_finding(self)]

    def flat(self) -> dict[str, float]:
        """Counts by ``duplicates/captions_name``."""
        return {
            "duplicates/captions_repeated": float(len(self.captions)),
            "duplicates/captions_affected_texts": float(self.n_affected),
        }

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False)


def duplicates(
    digests: Sequence[str],
    vectors: npt.ArrayLike,
    *,
    ids: Sequence[str],
    threshold: float = 0.98,
    max_listed: int = 100,
    what: str = "image",
    block: int = 2048,
) -> Duplicates:
    """Find items with the same digest, and pairs of other items whose vectors nearly agree.

    near-duplicate: cosine(vector_i, vector_j) >= threshold and digest_i != digest_j, counted once per pair.
    digests : n content digests. vectors : (n, dim). ids : n unique ids. what : the kind of item, for names.
    block : rows per matrix product; memory is about block x block x 9 bytes. Time grows as n^2 dim.
    A cosine is measured in one encoder: a weak one maps different items together, so this is a list to look at.
    Raises ValueError when lengths differ or the threshold lies outside (-1, 1].

    >>> found = duplicates(["x", "x", "y"], [[1.0, 0.0], [1.0, 0.0], [0.99, 0.1]], ids=["a", "b", "c"])
    >>> found.groups, found.n_near_pairs, found.near[0][:2]
    ((('a', 'b'),), 2, ('a', 'c'))
    """
    names = check_unique(ids, what)
    unit = unit_vectors(vectors)
    if not len(digests) == len(unit) == len(names):
        raise ValueError(f"{len(digests)} digests, {len(unit)} vectors and {len(names)} ids; one of each per item")
    if not -1 < threshold <= 1:
        raise ValueError(f"threshold is a cosine in (-1, 1]; got {threshold}")
    digest_code = np.unique(np.asarray(digests, dtype=str), return_inverse=True)[1].ravel()
    thresholds = np.unique(np.append(CURVE, threshold))
    scan = PairScan((names, names), threshold, thresholds, max_listed)
    for start in range(0, len(unit), block):
        for other in range(start, len(unit), block):
            for found in _close_pairs(unit, digest_code, start, other, block, min(thresholds[0], threshold - 0.05)):
                scan.add(*found)
    return Duplicates(
        what=what, n=len(unit), threshold=threshold, groups=_groups(digest_code, names),
        n_near_pairs=scan.n_near, n_near_items=len(scan.near_items), near=scan.listed(scan.closest),
        borderline=scan.listed(scan.nearest), curve_thresholds=thresholds, curve_pairs=scan.at_or_above(),
    )  # fmt: skip


class PairScan:
    """What is kept while pairs stream by: counts per threshold, the closest pairs, those nearest the threshold.

    names : ids of the two sides. thresholds : ascending. best : the value of two equal items. Higher is closer.
    """

    def __init__(
        self, names: tuple[Sequence[str], Sequence[str]], threshold: float, thresholds: FloatArray, max_listed: int,
        *, best: float = 1.0,
    ) -> None:  # fmt: skip
        self.names, self.threshold, self.thresholds = names, threshold, thresholds
        self.max_listed, self.best = max_listed, best
        self.per_bin = np.zeros(len(thresholds), dtype=np.int64)
        self.near_items: set[int] = set()
        self.n_near = 0
        self.closest = self.nearest = np.empty((0, 3))

    def add(self, first: IntArray, second: IntArray, value: FloatArray) -> None:
        bins = np.searchsorted(self.thresholds, value, side="right")
        self.per_bin += np.bincount(bins, minlength=len(self.thresholds) + 1)[1:]
        is_near = value >= self.threshold
        self.n_near += int(is_near.sum())
        self.near_items.update(np.unique(np.concatenate([first[is_near], second[is_near]])).tolist())
        pairs = np.column_stack([first, second, value])
        self.closest = _first(self.closest, pairs[is_near], self.max_listed, target=self.best)
        self.nearest = _first(self.nearest, pairs, N_BORDERLINE, target=self.threshold)

    def at_or_above(self) -> IntArray:
        return np.cumsum(self.per_bin[::-1])[::-1]

    def listed(self, pairs: FloatArray) -> tuple[tuple[str, str, float], ...]:
        left, right = self.names
        return tuple((left[int(i)], right[int(j)], float(value)) for i, j, value in pairs)


def _first(kept: FloatArray, new: FloatArray, size: int, *, target: float) -> FloatArray:
    """The ``size`` pairs of (i, j, cosine) nearest the target cosine; equal ones by i, then j."""
    pairs = np.concatenate([kept, new])
    key = np.abs(pairs[:, 2] - target)
    if len(key) > size:
        keep = key <= np.partition(key, size)[size]
        pairs, key = pairs[keep], key[keep]
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0], key))][:size]


def _close_pairs(
    unit: npt.NDArray[np.float32], digest_code: IntArray, start: int, other: int, block: int, floor: float
) -> Iterator[tuple[IntArray, IntArray, FloatArray]]:
    """(i, j, cosine) with i < j, different digests and cosine >= floor, between two blocks, some rows at a time.

    The float32 product only screens; the cosines returned are float64, to nine decimals (equal vectors give 1).
    """
    near = unit[start : start + block] @ unit[other : other + block].T >= np.float32(floor - 1e-4)
    step = max(1, N_AT_ONCE // near.shape[1])
    for row in range(0, len(near), step):
        rows, columns = np.nonzero(near[row : row + step])
        first, second = rows + row + start, columns + other
        keep = (first < second) & (digest_code[first] != digest_code[second])
        first, second = first[keep], second[keep]
        cosine = exact_cosines(unit, unit, first, second)
        keep = cosine >= floor
        yield first[keep], second[keep], cosine[keep]


def exact_cosines(
    left: npt.NDArray[np.float32], right: npt.NDArray[np.float32], i: IntArray, j: IntArray
) -> FloatArray:
    """(n_pairs,) cosines of rows i of one set and rows j of another, in float64 to nine decimals, few at a time."""
    cosine, step = np.empty(len(i)), max(1, N_NUMBERS // left.shape[1])
    for part in range(0, len(i), step):
        where = slice(part, part + step)
        one, other = left[i[where]].astype(np.float64), right[j[where]].astype(np.float64)
        length = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        cosine[where] = np.round(np.einsum("ij,ij->i", one, other) / length, 9)
    return cosine


def _groups(digest_code: IntArray, names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    members: dict[int, list[str]] = {}
    for code, name in zip(digest_code.tolist(), names, strict=True):
        members.setdefault(code, []).append(name)
    repeated = [tuple(group) for group in members.values() if len(group) > 1]
    return tuple(sorted(repeated, key=lambda group: -len(group)))


def repeated_captions(
    texts: Sequence[str], text_image: npt.ArrayLike, relevance: Relevance | None = None
) -> RepeatedCaptions:
    """Find captions that are the same, after :func:`normalized_caption`, for two or more different images.

    texts : n_texts strings. text_image : (n_texts,) image of each text; texts with -1 (no image) are left out.
    relevance : (n_texts, n_images); a caption whose images are all labelled right for all its texts is no conflict.
    The same caption twice for one image is no conflict and is not counted.

    >>> repeated_captions(["A dog.", "a dog", "a cat", "a cat"], [0, 1, 2, 2]).captions
    (('a dog', (0, 1), (0, 1)),)
    """
    own = np.asarray(text_image, np.int64)
    if own.shape != (len(texts),):
        raise ValueError(f"{len(texts)} texts but text_image of shape {own.shape}; one image index per text is needed")
    places: dict[str, list[int]] = {}
    for index in np.flatnonzero(own >= 0).tolist():
        places.setdefault(normalized_caption(texts[index]), []).append(index)
    found = []
    for caption, where in places.items():
        images = tuple(sorted({int(own[index]) for index in where}))
        if len(images) > 1 and not all_right(relevance, where, images):
            found.append((caption, tuple(where), images))
    return RepeatedCaptions(len(texts), tuple(sorted(found, key=lambda entry: (-len(entry[2]), entry[0]))))


def all_right(relevance: Relevance | None, texts: Sequence[int], images: Sequence[int]) -> bool:
    """Whether every text of a repeated caption has every image of it labelled right."""
    if relevance is None:
        return False
    right = (relevance.row(text) for text in texts)
    return all(set(images) <= set(items[grades > 0].tolist()) for items, grades in right)


def _exact_finding(found: Duplicates) -> Finding:
    share = found.n_exact_items / max(found.n, 1)
    verdict: Verdict = "ok" if not found.groups else "problem" if share > PROBLEM_SHARE else "look"
    threshold = PROBLEM_SHARE if verdict == "problem" else 0.0
    if not found.groups:
        advice = f"No two of the {found.n:,} {found.what} items are the same."
    else:
        advice = (
            f"{found.n_exact_items:,} of {found.n:,} {found.what} items are copies of one another "
            f"({found.n_exact_pairs:,} pairs in {len(found.groups):,} groups). A copy of the right item counts as "
            "a wrong answer: keep one of each, or mark all of a group as right."
        )
    return Finding(f"duplicates/{found.what}_exact", share, None, threshold, EXACT_SOURCE, verdict, advice, "%")


def _near_finding(found: Duplicates) -> Finding:
    name, pairs = f"duplicates/{found.what}_near", found.n_near_pairs
    where = f"{pairs:,} pairs of different {found.what} items have a cosine of {found.threshold:g} or more"
    if not pairs:
        return Finding(name, 0.0, None, found.threshold, NEAR_SOURCE, "ok", f"No {where[len(str(pairs)) + 1 :]}.")
    if pairs > CROWDED_SHARE * found.n_pairs and found.n > 20:
        advice = (
            f"{where}, {100 * pairs / found.n_pairs:.3g} % of all pairs. That many are a trait of the encoder, which "
            "maps different items together, not of the data: take a higher threshold from the curve."
        )
    else:
        advice = (
            f"{where} ({found.n_near_items:,} items). Look at them: a weak encoder maps different items together, so "
            "this is no proof. True copies among them make ambiguous positives."
        )
    return Finding(name, float(pairs), None, found.threshold, NEAR_SOURCE, "look", advice)


def _caption_finding(found: RepeatedCaptions) -> Finding:
    share = found.n_affected / max(found.n_texts, 1)
    verdict: Verdict = "ok" if not found.captions else "problem" if share > PROBLEM_SHARE else "look"
    if not found.captions:
        advice = f"None of the {found.n_texts:,} captions is also that of another image that is not labelled right."
    else:
        advice = (
            f"{found.n_affected:,} of {found.n_texts:,} captions are, but for case and punctuation, those of another "
            f"image that is not labelled right ({len(found.captions):,} different captions). They do not say which "
            "image is meant: an ambiguous positive, where a right answer is scored as wrong. Mark all their images as "
            "right, or leave these queries out."
        )
    threshold = PROBLEM_SHARE if verdict == "problem" else 0.0
    return Finding("duplicates/captions", share, None, threshold, EXACT_SOURCE, verdict, advice, "%")
