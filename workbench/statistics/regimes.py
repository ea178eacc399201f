"""Where an interval from drawn clusters should not be trusted."""

from __future__ import annotations

import numpy as np

from workbench.statistics.clusters import Clusters
from workbench.types import FloatArray

FEW_CLUSTERS = 30
FEW_EVENTS = 10
FEW_CARRIERS = 15
GIANT = 0.6


def few_clusters(n_clusters: int) -> list[str]:
    """A sentence when there are too few clusters for their spread to be known."""
    if n_clusters >= FEW_CLUSTERS:
        return []
    return [
        f"Only {n_clusters} clusters (fewer than {FEW_CLUSTERS}): the interval is probably too narrow; "
        "read it as a lower bound on the uncertainty."
    ]


def carriers(rows: Clusters, influence: FloatArray) -> float:
    """How many equal clusters would make the same fluctuation: (sum r^2)^2 / sum r^4, r a cluster's summed residual."""
    squares = (rows.sums(influence) - rows.counts * influence.mean()) ** 2
    largest = squares.max()
    return float((squares / largest).sum() ** 2 / ((squares / largest) ** 2).sum()) if largest > 0 else float("inf")


def unequal(rows: Clusters, influence: FloatArray) -> list[str]:
    """A sentence when few clusters, large or extreme, decide where the mean of ``influence`` falls."""
    sizes = rows.counts.astype(np.float64)
    effective, giant = carriers(rows, influence), sizes.max() ** 2 > GIANT * (sizes**2).sum()
    if effective >= FEW_CARRIERS and not giant:
        return []
    holds = 100 * sizes.max() / sizes.sum()
    return [
        f"A few of the {len(sizes)} clusters decide this number (they vary like {min(effective, len(sizes)):.0f} equal "
        f"ones; the largest holds {holds:.2g} % of the values): the interval is probably too narrow."
    ]


def regime(rows: Clusters, values: FloatArray, influence: FloatArray, *, rates: bool = True) -> list[str]:
    """Sentences about where a percentile bootstrap over these clusters should not be trusted.

    influence (n,) : how far each value moves the statistic: the values for a mean, their side of it for a median.
    rates : values in 0..1 are hits, not differences.
    """
    n_clusters = len(rows.counts)
    if not len(values):
        return ["No value is scored, so there is nothing to estimate."]
    if n_clusters == 1:
        return ["All values come from one cluster: how much they would vary is unknown, so there is no interval."]
    words = few_clusters(n_clusters)
    if values.min() == values.max():
        words.append(
            "All values are equal, so every resample is the same: the width of zero is not evidence of certainty."
        )
    rare = min(values.mean(), 1 - values.mean()) * n_clusters
    if rates and values.min() >= 0 and values.max() <= 1 and rare < FEW_EVENTS:
        words.append(
            f"The rate is close to 0 or 1 for {n_clusters} clusters: percentile intervals miss the "
            "truth too often there (at rates near 0.97 with 100 clusters a nominal 95 % interval covers 80 to 95 %, "
            "88 % on average)."
        )
    return words or unequal(rows, influence)
