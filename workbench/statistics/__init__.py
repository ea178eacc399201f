"""How sure a number is: intervals, paired comparisons and corrections that respect clusters.

Plain arrays in, frozen results out. Queries that share an image (five captions of one picture) are one cluster: they
are drawn, and change sign, together. Results depend on the seed and on the values in each cluster, not on what the
clusters are called nor on the order of the rows: clusters are first put into an order that depends on their values.
"""

from __future__ import annotations

from workbench.statistics.bootstrap import Interval, cluster_bootstrap
from workbench.statistics.clusters import cluster_standard_error
from workbench.statistics.gallery_size import GallerySize, gallery_curve, gallery_extrapolation, hits_at_size
from workbench.statistics.groups import GroupDifference, group_difference
from workbench.statistics.judged_sample import SampledMean, judgements_for, stratified_mean, stratified_order
from workbench.statistics.multiplicity import benjamini_hochberg, holm
from workbench.statistics.paired import PairedDifference, paired_difference
from workbench.statistics.planning import clusters_needed, minimum_detectable, minimum_detectable_hits
from workbench.statistics.randomization import EXACT_CLUSTERS, RandomizationTest, randomization_test
from workbench.statistics.regimes import FEW_CLUSTERS, FEW_EVENTS
from workbench.statistics.seeds import BestOfSeeds, SeedSummary, best_of_reported, best_of_seeds, seed_summary
from workbench.statistics.systems import RankSets, rank_sets

__all__ = [
    "EXACT_CLUSTERS", "FEW_CLUSTERS", "FEW_EVENTS", "BestOfSeeds", "GallerySize", "GroupDifference", "Interval",
    "PairedDifference", "RandomizationTest", "RankSets", "SampledMean", "SeedSummary", "benjamini_hochberg",
    "best_of_reported", "best_of_seeds", "cluster_bootstrap", "cluster_standard_error", "clusters_needed",
    "gallery_curve", "gallery_extrapolation", "group_difference", "hits_at_size", "holm", "judgements_for",
    "minimum_detectable", "minimum_detectable_hits", "paired_difference", "randomization_test", "rank_sets",
    "seed_summary", "stratified_mean", "stratified_order",
]  # fmt: skip
