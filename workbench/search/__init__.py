"""Exact search: one streaming pass over all pairs that feeds any number of consumers.

>>> import numpy as np
>>> queries, gallery = np.eye(3)[:2], np.eye(3)
>>> nearest, smooth = scan(queries, gallery, [TopK(1), LogSumExp(1.0, of="gallery")])
>>> nearest.indices.ravel(), smooth.round(3)
(array([0, 1]), array([1.313, 1.313, 0.693]))
"""

from workbench.search.definition import error_factor, pair_scores
from workbench.search.exact import Accumulator, Consumer, scan
from workbench.search.nearest import TopK, TopKMean, k_occurrence
from workbench.search.ranks import RankPositives, ScoreHistogram
from workbench.search.restrict import same_items
from workbench.search.smooth import LogSumExp
from workbench.search.tile import Tile, tiles

__all__ = [
    "Accumulator",
    "Consumer",
    "LogSumExp",
    "RankPositives",
    "ScoreHistogram",
    "Tile",
    "TopK",
    "TopKMean",
    "error_factor",
    "k_occurrence",
    "pair_scores",
    "same_items",
    "scan",
    "tiles",
]
