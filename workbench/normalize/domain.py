"""Does a bank come from where the queries come from? Two tests that do not look at a label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workbench.types import FloatArray

Vectors = npt.NDArray[np.floating]


@dataclass(frozen=True)
class BankDomain:
    """Whether bank and queries can be told apart.

    auc : of a logistic regression on held-out rows, 0.5 where they cannot be told apart. mmd : squared kernel distance
    of the two sets, with ``p_value`` of a permutation test. in_domain : p_value above 0.01, or an AUC below 0.6: with
    thousands of rows any two splits differ a little, and a little does not matter to a repair.
    """

    auc: float
    mmd: float
    p_value: float
    n_bank: int
    n_queries: int

    @property
    def in_domain(self) -> bool:
        return self.p_value > 0.01 or self.auc < 0.6


def bank_domain(
    bank: Vectors,
    queries: Vectors,
    *,
    bank_clusters: npt.ArrayLike | None = None,
    clusters: npt.ArrayLike | None = None,
    seed: int = 0,
    most: int = 1000,
    n_permutations: int = 199,
) -> BankDomain:
    """Hold a bank (n_bank, dim) against the scored queries (n_queries, dim): one population, or two?

    bank_clusters, clusters : labels of rows that belong together, such as the captions of one image. One row of each is
    used, or two halves of one population would be told apart by the images they hold. At most ``most`` random rows of
    each side are used. The classifier is scored on five held-out folds. The kernel is
    Gaussian with the median distance as its width; its unbiased squared distance is that of Gretton et al., A kernel
    two-sample test, JMLR 13, 2012, https://jmlr.org/papers/v13/gretton12a.html.
    Raises ValueError with fewer than 10 rows on a side.
    """
    rng = np.random.default_rng(seed)
    sides = [np.asarray(side, np.float64) for side in (bank, queries)]
    if min(len(side) for side in sides) < 10:
        raise ValueError(f"at least 10 rows a side are needed; got {len(bank)} in the bank and {len(queries)} queries")
    sides = [_drawn(side, labels, most, rng) for side, labels in zip(sides, (bank_clusters, clusters), strict=True)]
    if min(len(side) for side in sides) < 10:
        raise ValueError("at least 10 clusters a side are needed; there are fewer")
    rows, label = np.concatenate(sides), np.repeat([0, 1], [len(side) for side in sides])
    kernel = _kernel(rows, rng)
    observed = _mmd(kernel, label)
    drawn = np.array([_mmd(kernel, rng.permutation(label)) for _ in range(n_permutations)])
    p_value = (1 + int((drawn >= observed).sum())) / (1 + n_permutations)
    return BankDomain(_held_out_auc(rows, label, seed), observed, p_value, len(bank), len(queries))


def _drawn(rows: FloatArray, clusters: npt.ArrayLike | None, most: int, rng: np.random.Generator) -> FloatArray:
    """At most so many random rows, one of each cluster."""
    order = rng.permutation(len(rows))
    if clusters is not None:
        _, first = np.unique(np.asarray(clusters)[order], return_index=True)
        order = rng.permutation(order[first])
    return rows[np.sort(order[:most])]


def _held_out_auc(rows: FloatArray, label: npt.NDArray[np.int_], seed: int) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500, class_weight="balanced"))
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    said = cross_val_predict(model, rows, label, cv=folds, method="decision_function")
    return float(roc_auc_score(label, said))


def _kernel(rows: FloatArray, rng: np.random.Generator) -> FloatArray:
    squares = np.einsum("ij,ij->i", rows, rows)
    distances = np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0)
    i, j = rng.integers(len(rows), size=(2, 5000))
    width = float(np.median(distances[i[i != j], j[i != j]]))
    return np.exp(-distances / (2 * width)) if width > 0 else np.ones_like(distances)


def _mmd(kernel: FloatArray, label: npt.NDArray[np.int_]) -> float:
    """The unbiased squared distance of two sets of rows in the space of the kernel, whose diagonal is 1."""
    one = label.astype(np.float64)
    other = 1 - one
    n, m = one.sum(), other.sum()
    of_one, of_other = kernel @ one, kernel @ other
    within = (one @ of_one - n) / (n * (n - 1)) + (other @ of_other - m) / (m * (m - 1))
    return float(within - 2 * (one @ of_other) / (n * m))
