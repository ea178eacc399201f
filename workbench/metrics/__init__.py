"""Retrieval metrics from the ranks of the positives, one value per query, with ties counted.

A metric's name is a value: ``name[(param=value,...)]@k``. Every metric is given three times: its expected value when
items of equal score are in random order, and its worst and best value over all such orders. Everything is computed
from the tie groups that hold a positive, so the cost depends on the number of positives, never on the gallery.
"""

from workbench.metrics.choice import forced_choice
from workbench.metrics.explanation import Explanation, Ranking, explain
from workbench.metrics.judged import judged_share
from workbench.metrics.kernels import TiedValues
from workbench.metrics.lists import condensed, ranks_from_lists, ranks_from_scores
from workbench.metrics.named import (
    METRICS,
    Definition,
    Metric,
    MetricValues,
    aggregate,
    definition,
    parse_metric,
    per_query,
    per_query_all,
)
from workbench.metrics.summaries import r_sum, rank_dispersion

__all__ = [
    "METRICS",
    "Definition",
    "Explanation",
    "Metric",
    "MetricValues",
    "Ranking",
    "TiedValues",
    "aggregate",
    "condensed",
    "definition",
    "explain",
    "forced_choice",
    "judged_share",
    "parse_metric",
    "per_query",
    "per_query_all",
    "r_sum",
    "rank_dispersion",
    "ranks_from_lists",
    "ranks_from_scores",
]
