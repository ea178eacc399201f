"""Whether two sets of vectors of the same items have the same shape: centred kernel alignment, plain and debiased."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from workbench.types import Finding, FloatArray, IntArray, Verdict

if TYPE_CHECKING:
    import pandas as pd

_NOTHING = 1e-10
NULL_SOURCE = "the upper end of the band of the same vectors with their rows shuffled (95 %)"


@dataclass(frozen=True, eq=False)
class SpaceSimilarity:
    """Linear CKA of two spaces over the same items, beside what shuffled rows read.

    plain, debiased : near 1 for the same shape up to turning and scale. null_plain, null_debiased (n_null,) : the same
    with one side's rows shuffled. n : items compared, of n_possible.
    """

    first: str
    second: str
    plain: float
    debiased: float
    null_plain: FloatArray
    null_debiased: FloatArray
    n: int
    n_possible: int
    dims: tuple[int, int]

    @property
    def band(self) -> tuple[float, float]:
        """2.5 and 97.5 per cent of the debiased value under shuffling."""
        low, high = np.quantile(self.null_debiased, [0.025, 0.975])
        return float(low), float(high)

    def table(self) -> pd.DataFrame:
        """Plain and debiased value, and the band of the shuffled control."""
        import pandas as pd

        rows = [
            (name, value, *map(float, np.quantile(null, [0.025, 0.975])))
            for name, value, null in (
                ("debiased CKA", self.debiased, self.null_debiased), ("plain CKA", self.plain, self.null_plain),
            )
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=["measure", "value", "shuffled, low", "shuffled, high"]).set_index("measure")

    def plot(self, ax: Any = None) -> Any:
        """The debiased value beside its shuffled band."""
        from workbench.plots import space

        return space.similarity(self, ax)

    def findings(self) -> list[Finding]:
        """Whether the two spaces have more in common than shuffled rows."""
        high = self.band[1]
        if not np.isfinite(self.debiased):
            why = "All items of one side lie equally far from each other: a space without a shape resembles nothing."
            return [Finding("space/cka", None, None, None, NULL_SOURCE, "not measurable", why)]
        verdict: Verdict = "ok" if self.debiased > high else "look"
        advice = {
            "ok": f"{self.first} and {self.second} of the same items vary together; how much is no measure of quality.",
            "look": f"{self.first} and {self.second} share no more linear structure than with their rows shuffled: "
            "check that rows are in the same order; an encoder that has learned the pairs reads above the band.",
        }[verdict]
        return [Finding("space/cka", self.debiased, None, high, NULL_SOURCE, verdict, advice)]

    def flat(self) -> dict[str, float]:
        """Numbers by ``space/cka...``."""
        return {"space/cka": self.debiased, "space/cka_plain": self.plain, "space/cka_shuffled": self.band[1]}

    def _repr_html_(self) -> str:
        return str(self.table().to_html(float_format=lambda value: f"{value:.3g}"))


def similarity_of_spaces(
    first: npt.ArrayLike, second: npt.ArrayLike, *, names: tuple[str, str] = ("first", "second"),
    n_null: int = 50, max_items: int = 2000, seed: int = 0,
) -> SpaceSimilarity:  # fmt: skip
    """Compare two spaces over the same items (two encoders, or images and their texts) by :func:`linear_cka`.

    first (n, dim_1), second (n, dim_2) : row i of both is one item; n >= 4. Take one text per image: repeated rows are
    no new items, and the debiased value is no longer unbiased. n_null >= 20 : shuffled controls. max_items : of more,
    so many are drawn with the seed. Raises ValueError as :func:`linear_cka`.
    Sources: those of :func:`linear_cka`.

    >>> x = np.random.default_rng(0).normal(size=(50, 4))
    >>> found = similarity_of_spaces(x, 3 * x[:, ::-1])
    >>> round(found.debiased, 6), found.findings()[0].verdict
    (1.0, 'ok')
    """
    if n_null < 20:
        raise ValueError(f"n_null must be at least 20: a band of fewer shuffles has no ends; got {n_null}")
    left, right = _checked(first, second)
    possible, rng = len(left), np.random.default_rng(seed)
    if possible > max_items:
        chosen = np.sort(rng.permutation(possible)[:max_items])
        left, right = left[chosen], right[chosen]
    sides = _Centred.of(left), _Centred.of(right)
    null = np.array([_cka(*sides, rng.permutation(len(left))) for _ in range(n_null)])
    plain, debiased = _cka(*sides, np.arange(len(left)))
    return SpaceSimilarity(
        names[0], names[1], plain, debiased, null[:, 0], null[:, 1], len(left), possible,
        (left.shape[1], right.shape[1]),
    )  # fmt: skip


def linear_cka(first: npt.ArrayLike, second: npt.ArrayLike, *, debiased: bool = True) -> float:
    """Linear centred kernel alignment of two sets of vectors of the same items.

        plain     |X^T Y|^2 / (|X^T X| |Y^T Y|)                          X, Y about their means, Frobenius norms
        debiased  h(X, Y) / sqrt(h(X, X) h(Y, Y)),   a_i = |x_i|^2, b_i = |y_i|^2:
                  h = |X^T Y|^2 - n / (n - 2) a . b + sum(a) sum(b) / ((n - 1)(n - 2))

    h / (n (n - 3)) is the unbiased estimate of HSIC for X X^T and Y Y^T: with centred vectors all its sums reduce to
    dim x dim products, and no n x n kernel is needed where n > dim. The plain value of unrelated vectors goes to 1 as
    dim grows beyond n; the debiased one stays about 0, and may lie below it.

    first (n, dim_1), second (n, dim_2) with n >= 4. Unchanged by turning, scaling and moving either side.
    Returns a number, plain 0 to 1, debiased at most about 1, NaN where all rows of one side lie equally far from each
    other (one-hot vectors): centred without bias nothing of it is left. Raises ValueError for other shapes, NaN, or
    vectors that do not vary.
    Sources: S. Kornblith, M. Norouzi, H. Lee, G. Hinton, "Similarity of Neural Network Representations Revisited",
    ICML 2019, https://arxiv.org/abs/1905.00414; debiased as in T. Nguyen, M. Raghu, S. Kornblith, "Do Wide and Deep
    Networks Learn the Same Things?", ICLR 2021, https://arxiv.org/abs/2010.15327, with the estimator of L. Song,
    A. Smola, A. Gretton, J. Bedo, K. Borgwardt, "Feature Selection via Dependence Maximization", JMLR 13, 2012,
    https://jmlr.org/papers/v13/song12a.html.

    >>> x = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> round(linear_cka(x, x[:, :1], debiased=False), 6)  # 2^2 / (sqrt(8) * 2)
    0.707107
    """
    left, right = _checked(first, second)
    return _cka(_Centred.of(left), _Centred.of(right), np.arange(len(left)))[int(debiased)]


@dataclass(frozen=True, eq=False)
class _Centred:
    """Rows about their mean, their squared lengths, and the sum of squares of the products of all pairs of rows."""

    rows: FloatArray
    squares: FloatArray
    total: float

    @classmethod
    def of(cls, vectors: FloatArray) -> _Centred:
        rows = vectors - vectors.mean(axis=0)
        if not (np.abs(rows) > 1e-12 * max(np.abs(vectors).max(), np.finfo(float).tiny)).any():
            raise ValueError("all rows of one side are equal: a space without variation resembles nothing")
        rows = rows / np.sqrt(np.mean(rows**2))
        return cls(rows, np.sum(rows**2, axis=1), _product(rows, rows))


def _cka(left: _Centred, right: _Centred, order: IntArray) -> tuple[float, float]:
    """(plain, debiased) with the right side's rows in another order."""
    together = _product(left.rows, right.rows[order])
    plain = together / np.sqrt(left.total * right.total)
    own = [_unbiased(side.total, side.squares, side.squares) for side in (left, right)]
    if min(one / side.total for one, side in zip(own, (left, right), strict=True)) <= _NOTHING:
        return float(plain), float("nan")
    return float(plain), _unbiased(together, left.squares, right.squares[order]) / float(np.sqrt(own[0] * own[1]))


def _unbiased(product: float, a: FloatArray, b: FloatArray) -> float:
    n = len(a)
    return float(product - n / (n - 2) * (a @ b) + a.sum() * b.sum() / ((n - 1) * (n - 2)))


def _product(left: FloatArray, right: FloatArray) -> float:
    """|X^T Y|^2, through the smaller of the two ways to form it."""
    if len(left) < min(left.shape[1], right.shape[1]):
        return float(np.sum((left @ left.T) * (right @ right.T)))
    return float(np.sum((left.T @ right) ** 2))


def _checked(first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    left, right = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if left.ndim != 2 or right.ndim != 2 or len(left) != len(right) or len(left) < 4:
        raise ValueError(
            f"two spaces need vectors (n, dim) of the same n >= 4 items, row by row; got {left.shape} and {right.shape}"
        )
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise ValueError("vectors hold NaN or infinity; drop these items or encode them again")
    return left, right
