"""How the vectors fill their space: how close right pairs are, how evenly a side is spread, over how many directions.

None of these is good or bad by itself, and none has a verdict: a network that has learned nothing can be as uniform as
one that has. They say what kind of space the scores come from, and compare encoders on the same items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from workbench.statistics import Interval, cluster_bootstrap
from workbench.types import FloatArray, IntArray, unit_vectors

if TYPE_CHECKING:
    import pandas as pd

SAMPLED = 200_000
_NUMBERS = 2**20


@dataclass(frozen=True)
class Uniformity:
    """log mean exp(-t |x - y|^2) over pairs: 0 when all vectors are one, more negative the more evenly they spread.

    n_pairs : pairs looked at, of n_possible. Two vectors of length one in random directions of a wide space read -2 t.
    """

    value: float
    t: float
    n_pairs: int
    n_possible: int

    @property
    def sampled(self) -> bool:
        return self.n_pairs < self.n_possible


@dataclass(frozen=True)
class SpaceMeasures:
    """Alignment of right pairs, uniformity and effective rank of either side and of both together.

    alignment : mean |image - text|^alpha over right pairs of unit vectors, clustered by image, 0 to 2^alpha.
    uniformity, effective_rank : by "images", "texts", "both". dim : the width of the vectors, the most a rank can be.
    """

    n_images: int
    n_texts: int
    dim: int
    alpha: float
    alignment: Interval
    uniformity: dict[str, Uniformity]
    effective_rank: dict[str, float]

    def table(self) -> pd.DataFrame:
        """One row per number."""
        import pandas as pd

        blank, found = float("nan"), self.alignment
        rows = [
            (f"alignment, mean distance^{self.alpha:g} of right pairs", found.value, found.low, found.high,
             f"{found.n:,} pairs; 0: they coincide"),
            *((f"uniformity, {side}", one.value, blank, blank, _pairs(one)) for side, one in self.uniformity.items()),
            *((f"effective rank, {side}", rank, blank, blank, f"of {self.dim} dimensions")
              for side, rank in self.effective_rank.items()),
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=["measure", "value", "low", "high", "note"]).set_index("measure")

    def plot(self, ax: Any = None) -> Any:
        """Effective rank of each side and of both."""
        from workbench.plots import space

        return space.effective_ranks(self.effective_rank, self.dim, ax)

    def flat(self) -> dict[str, float]:
        """Numbers by ``space/name``."""
        return {
            "space/alignment": self.alignment.value,
            **{f"space/uniformity_{side}": one.value for side, one in self.uniformity.items()},
            **{f"space/effective_rank_{side}": rank for side, rank in self.effective_rank.items()},
        }

    def _repr_html_(self) -> str:
        return str(self.table().to_html(float_format=lambda value: f"{value:.3g}", na_rep=""))


def space_measures(
    images: npt.ArrayLike, texts: npt.ArrayLike, text_image: npt.ArrayLike, *,
    alpha: float = 2.0, t: float = 2.0, max_pairs: int = 5_000_000, n_resamples: int = 2000, seed: int = 0,
) -> SpaceMeasures:  # fmt: skip
    """Alignment, uniformity and effective rank of two sides of pairs, all vectors scaled to length one.

    images (n_images, dim), texts (n_texts, dim); text_image (n_texts,) : the image of each text, -1 for none. alpha,
    t > 0 : as in :func:`alignment` and :func:`uniformity`. "both" weighs each side one half: the rank counts the
    direction between the sides, and the pairs of its uniformity are drawn from a pool in which each side has half.
    Effective ranks are those of vectors about their mean. Raises ValueError where the parts do.
    Sources: those of :func:`alignment`, :func:`uniformity`, :func:`effective_rank`.

    >>> found = space_measures(np.eye(2), np.eye(2)[[0, 0, 1]], [0, 0, 1], n_resamples=100)
    >>> found.alignment.value, round(found.uniformity["images"].value, 3)  # one pair, at distance sqrt(2)
    (0.0, -4.0)
    """
    image_vectors, text_vectors = unit_vectors(images).astype(np.float64), unit_vectors(texts).astype(np.float64)
    own = np.asarray(text_image, np.int64)
    with_image = _with_image(image_vectors, text_vectors, own)
    aligned = alignment(image_vectors[own[with_image]], text_vectors[with_image], alpha=alpha)
    how: dict[str, Any] = {"t": t, "max_pairs": max_pairs, "seed": seed}
    sides = {"images": image_vectors, "texts": text_vectors}
    spread = {name: uniformity(side, **how) for name, side in sides.items()}
    weights = np.concatenate([np.full(len(side), 1 / len(side)) for side in sides.values()])
    together = np.concatenate(list(sides.values()))
    return SpaceMeasures(
        n_images=len(image_vectors), n_texts=len(text_vectors), dim=image_vectors.shape[1], alpha=float(alpha),
        alignment=cluster_bootstrap(aligned, own[with_image], n_resamples=n_resamples, seed=seed),
        uniformity={**spread, "both": _uniformity_of_both(image_vectors, text_vectors, spread, **how)},
        effective_rank={
            **{name: effective_rank(side - side.mean(axis=0)) for name, side in sides.items()},
            "both": effective_rank((together - weights @ together / 2) * np.sqrt(weights)[:, None]),
        },
    )  # fmt: skip


def alignment(left: npt.ArrayLike, right: npt.ArrayLike, *, alpha: float = 2.0) -> FloatArray:
    """How far each right pair is apart, |left_i - right_i|^alpha; the mean is the alignment of Wang and Isola.

    left, right (n_pairs, dim), usually of length one; row i of both is a pair. alpha > 0. Returns (n_pairs,), at least
    0; with alpha = 2 and length one it is 2 - 2 cosine.
    Source: T. Wang, P. Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity on
    the Hypersphere", ICML 2020, https://arxiv.org/abs/2005.10242.

    >>> alignment([[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]).round(6)
    array([0., 2.])
    """
    first, second = np.asarray(left, np.float64), np.asarray(right, np.float64)
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(f"pairs need two arrays of one shape (n_pairs, dim); got {first.shape} and {second.shape}")
    if not alpha > 0:
        raise ValueError(f"alpha must be above 0, 2 in the paper; got {alpha!r}")
    return np.asarray(np.sum((first - second) ** 2, axis=1) ** (alpha / 2), np.float64)


def uniformity(vectors: npt.ArrayLike, *, t: float = 2.0, max_pairs: int = 5_000_000, seed: int = 0) -> Uniformity:
    """How evenly vectors are spread: the log of the mean Gaussian potential of two different rows.

        log mean_{i < j} exp(-t |x_i - x_j|^2)

    vectors (n, dim), n >= 2, usually of length one. t > 0, 2 in the paper. max_pairs : all pairs up to so many, else
    200,000 (or max_pairs, if fewer) drawn with the seed, with replacement. Between -4 t and 0 for length one.
    Source: Wang & Isola 2020, as :func:`alignment`.

    >>> round(uniformity([[1.0, 0.0], [-1.0, 0.0]], t=1.0).value, 6)  # one pair at distance 2
    -4.0
    """
    rows = np.asarray(vectors, np.float64)
    if rows.ndim != 2 or len(rows) < 2 or not np.isfinite(rows).all():
        raise ValueError(f"uniformity looks at pairs of different rows, all finite; got vectors of shape {rows.shape}")
    if not t > 0 or max_pairs < 1:
        raise ValueError(f"t must be above 0 and max_pairs at least 1; got {t!r} and {max_pairs!r}")
    n, possible = len(rows), len(rows) * (len(rows) - 1) // 2
    if possible <= max_pairs:
        return Uniformity(_log(_total(rows, rows, t, itself=False) / (2 * possible)), float(t), possible, possible)
    rng, size = np.random.default_rng(seed), min(SAMPLED, max_pairs)
    first, second = rng.integers(n, size=size), rng.integers(n - 1, size=size)
    second += second >= first
    return Uniformity(_log(_potential(rows, rows, first, second, t)), float(t), size, possible)


def effective_rank(vectors: npt.ArrayLike) -> float:
    """Over how many directions a matrix spreads: 1 for one direction, dim when all singular values are equal.

        exp(-sum_k p_k log p_k),   p_k = s_k / sum_j s_j,   s = singular values

    vectors (n, dim), taken as they are: subtract the mean first to count the directions in which they *vary*. Singular
    values below 1e-7 of the largest count as zero (they come from a dim x dim or n x n product). NaN for zeros only.
    Source: O. Roy, M. Vetterli, "The effective rank: A measure of effective dimensionality", EUSIPCO 2007,
    https://ieeexplore.ieee.org/document/7098875.

    >>> round(effective_rank([[3.0, 0.0], [0.0, 3.0]]), 6), round(effective_rank([[1.0, 1.0], [2.0, 2.0]]), 6)
    (2.0, 1.0)
    """
    rows = np.asarray(vectors, np.float64)
    if rows.ndim != 2 or 0 in rows.shape or not np.isfinite(rows).all():
        raise ValueError(f"effective rank needs finite vectors (n, dim), n, dim >= 1; got {rows.shape}")
    squares = np.linalg.eigvalsh(rows.T @ rows if len(rows) >= rows.shape[1] else rows @ rows.T)
    values = np.sqrt(squares[squares > 1e-14 * max(squares[-1], 0.0)])
    if not len(values):
        return float("nan")
    shares = values / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _with_image(images: FloatArray, texts: FloatArray, own: IntArray) -> IntArray:
    """Texts that have an image, or an error."""
    if images.shape[1] != texts.shape[1] or own.shape != (len(texts),):
        raise ValueError(
            f"images {images.shape}, texts {texts.shape} and text_image {own.shape} do not fit: the vectors need one "
            "width, text_image one entry per text"
        )
    if not (own >= 0).any() or own.min() < -1 or own.max() >= len(images):
        raise ValueError(f"text_image must name images 0..{len(images) - 1} (-1: none), at least one; got {own!r:.80}")
    return np.flatnonzero(own >= 0)


def _uniformity_of_both(
    images: FloatArray, texts: FloatArray, spread: dict[str, Uniformity], *, t: float, max_pairs: int, seed: int
) -> Uniformity:
    """A quarter of the pairs within each side, half of them across."""
    possible = len(images) * len(texts)
    if possible <= max_pairs:
        across, n = _total(images, texts, t) / possible, possible
    else:
        rng, n = np.random.default_rng([seed, 1]), min(SAMPLED, max_pairs)
        across = _potential(images, texts, rng.integers(len(images), size=n), rng.integers(len(texts), size=n), t)
    within = [np.exp(spread[side].value) for side in ("images", "texts")]
    pairs = n + sum(one.n_pairs for one in spread.values())
    return Uniformity(
        _log(across / 2 + sum(within) / 4), float(t), pairs, possible + sum(one.n_possible for one in spread.values())
    )


def _total(left: FloatArray, right: FloatArray, t: float, *, itself: bool = True) -> float:
    """Sum of exp(-t |x - y|^2) over all pairs, a block of rows at a time; itself=False leaves out pairs (i, i)."""
    lengths, total = np.sum(right**2, axis=1), 0.0
    step = max(1, _NUMBERS // len(right))
    for start in range(0, len(left), step):
        rows = left[start : start + step]
        apart = np.maximum(np.sum(rows**2, axis=1)[:, None] + lengths - 2 * rows @ right.T, 0)
        potential = np.exp(-t * apart)
        if not itself:
            potential[np.arange(len(rows)), start + np.arange(len(rows))] = 0
        total += float(potential.sum())
    return total


def _potential(left: FloatArray, right: FloatArray, first: IntArray, second: IntArray, t: float) -> float:
    """Mean of exp(-t |x - y|^2) over some pairs."""
    total, step = 0.0, max(1, _NUMBERS // left.shape[1])
    for start in range(0, len(first), step):
        part = slice(start, start + step)
        total += float(np.exp(-t * np.sum((left[first[part]] - right[second[part]]) ** 2, axis=1)).sum())
    return total / len(first)


def _log(value: float) -> float:
    return float(np.log(value)) if value > 0 else float("-inf")


def _pairs(one: Uniformity) -> str:
    which = f"{one.n_pairs:,} of {one.n_possible:,} pairs, sample" if one.sampled else f"all {one.n_possible:,} pairs"
    return f"{which}; t = {one.t:g}, 0: all in one place"
