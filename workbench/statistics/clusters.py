"""Scored queries, cluster by cluster: what moves together is kept together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workbench.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Clusters:
    """Scored rows, cluster by cluster: columns (n, n_columns), ``starts`` of the clusters, rows per cluster."""

    columns: FloatArray
    starts: IntArray
    counts: IntArray
    n_missing: int

    def sums(self, values: FloatArray) -> FloatArray:
        """Sum of the values of each cluster, (n_clusters,)."""
        return np.add.reduceat(values, self.starts) if len(self.starts) else np.zeros(0)


def clustered(columns: list[npt.ArrayLike], clusters: npt.ArrayLike) -> Clusters:
    """Check, drop unscored rows, order clusters by size and content: their names and the row order play no part."""
    values = np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=-1)
    labels = np.asarray(clusters)
    if values.ndim != 2 or labels.shape != values.shape[:1]:
        raise ValueError(
            f"values and clusters must be one-dimensional and of equal length; got values {values.shape[:-1]} and "
            f"clusters {labels.shape}; without clusters give one label per value, such as range(n)"
        )
    if np.isinf(values).any():
        raise ValueError(f"{int(np.isinf(values).sum())} values are infinite; a mean of them says nothing")
    if (labels != labels).any():
        raise ValueError("some cluster labels are NaN; give every value a cluster, its own if it has no partner")
    scored = ~np.isnan(values).any(axis=1)
    values, codes = values[scored], np.unique(labels[scored], return_inverse=True)[1].ravel()
    rows = np.lexsort((*values.T[::-1], codes))
    values, counts = values[rows], np.bincount(codes)
    starts, order = np.cumsum(counts) - counts, np.argsort(counts, kind="stable")
    same_size = np.split(order, np.flatnonzero(np.diff(counts[order])) + 1)
    order = np.concatenate([_by_content(values, alike, starts, counts) for alike in same_size])
    starts, counts = starts[order], counts[order]
    placed = np.cumsum(counts) - counts
    flat = values[np.repeat(starts - placed, counts) + np.arange(len(values))]
    return Clusters(flat, placed, counts, int((~scored).sum()))


def _by_content(values: FloatArray, alike: IntArray, starts: IntArray, counts: IntArray) -> IntArray:
    """Clusters of one size, in the order of their sorted content."""
    if len(alike) < 2:
        return alike
    content = values[starts[alike, None] + np.arange(counts[alike[0]])].reshape(len(alike), -1)
    return alike[np.lexsort(content.T[::-1])]


def cluster_standard_error(values: npt.ArrayLike, clusters: npt.ArrayLike) -> float:
    """Standard error of a mean whose values come in clusters; the naive one ignores that they move together.

        se = sqrt( C / (C - 1) * sum_c (sum_{i in c} (x_i - mean))^2 ) / n

    values (n,), NaN left out; clusters (n,) labels. NaN with fewer than two clusters. With one value per cluster it is
    the usual sd / sqrt(n). Linearised ratio estimator: W. G. Cochran, Sampling Techniques, 3rd edition, 1977, ch. 6.

    >>> round(cluster_standard_error([1.0, 1.0, 0.0, 0.0], [0, 0, 1, 1]), 3)
    0.5
    """
    rows = clustered([values], clusters)
    return standard_error(rows, rows.columns[:, 0])


def standard_error(rows: Clusters, values: FloatArray) -> float:
    n_clusters = len(rows.counts)
    if n_clusters < 2:
        return float("nan")
    residuals = rows.sums(values) - rows.counts * values.mean()
    return float(np.sqrt(n_clusters / (n_clusters - 1) * (residuals**2).sum()) / len(values))
