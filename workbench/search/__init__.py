"""Exact search: one streaming pass over all pairs that feeds any number of consumers.

>>> import numpy as np
>>> queries, gallery = np.eye(3)[:2], np.eye(3)
>>> nearest, smooth = scan(queries, gallery, [TopK(1), LogSumExp(1.0, of="gallery")])
>>> nearest.indices.ravel(), smooth.round(3)
(array([0, 1]), array([1.313, 1.313, 0.693]))
"""

from workbench.search.consumers import LogSumExp, RankPositives, TopK, TopKMean, k_occurrence
from workbench.search.exact import Accumulator, Consumer, Tile, error_factor, pair_scores, scan, tiles

__all__ = [
    "Accumulator",
    "Consumer",
    "LogSumExp",
    "RankPositives",
    "Tile",
    "TopK",
    "TopKMean",
    "error_factor",
    "k_occurrence",
    "pair_scores",
    "scan",
    "tiles",
]
