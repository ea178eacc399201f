"""All repairs by name."""

from __future__ import annotations

from workbench.normalize import bias, embedding, proximity, scaling
from workbench.normalize.methods import (
    Method,
    by_dual_sinkhorn,
    by_gates,
    by_scores,
    by_sinkhorn,
    by_statistics,
    by_vectors,
)

_BETAS = (5.0, 10.0, 20.0, 50.0, 100.0)
_ONE_PASS = "one pass of the bank over the gallery; one number per item"

_WHOLE_ROWS = "one pass of the bank over the gallery; no screening, so about five times a search"
_WHOLE_BANK = "the scores of the whole bank in memory; a binary search per score"

METHODS: dict[str, Method] = {
    "inverted softmax": Method(
        "bias", "Items that many other queries like are marked down.", ("query bank",), {"beta": 20.0}, _ONE_PASS,
        "Smith et al., ICLR 2017, https://arxiv.org/abs/1702.03859",
        by_statistics(bias.inverted_softmax_statistics), ("beta", _BETAS),
    ),
    "csls": Method(
        "bias", "Items are marked down by half their mean score with their nearest bank queries.", ("query bank",),
        {"k": 10}, _ONE_PASS, "Conneau et al., ICLR 2018, https://arxiv.org/abs/1710.04087",
        by_statistics(bias.csls_statistics), ("k", (1, 3, 10, 30)),
    ),
    "nnn": Method(
        "bias", "As csls, with a weight that is chosen.", ("query bank",), {"k": 16, "alpha": 0.75}, _ONE_PASS,
        "Chowdhury et al., EMNLP 2024, https://arxiv.org/abs/2410.24114",
        by_statistics(bias.nnn_statistics), ("alpha", (0.25, 0.5, 0.75, 1.0, 1.25)),
    ),
    "mean centering": Method(
        "bias", "Queries lose their common mean.", ("query bank",), {}, "one product with the mean of the bank",
        "Suzuki et al., EMNLP 2013, https://aclanthology.org/D13-1058", by_statistics(bias.centering_statistics),
    ),
    "dualis": Method(
        "bias", "Inverted softmax over a bank of queries and one of items.", ("query bank", "gallery bank"),
        {"beta": 20.0, "beta_gallery": 20.0}, "one pass of each bank over the gallery; one number per item",
        "Wang et al., EMNLP 2023, https://arxiv.org/abs/2310.11612",
        by_statistics(bias.dual_statistics), ("beta_gallery", (1.0, 3.0, 10.0, 20.0, 50.0)),
    ),
    "sinkhorn": Method(
        "bias", "Every item gets the same share of what the bank queries give.", ("query bank",),
        {"beta": 50.0, "max_iter": 50, "tolerance": 1e-3}, "one pass of the bank over the gallery per iteration",
        "Cuturi, NIPS 2013, https://arxiv.org/abs/1306.0895; Huang et al., ACL 2019", by_sinkhorn,
        ("beta", (20.0, 50.0, 100.0)),
    ),
    "dbsn": Method(
        "bias", "Sinkhorn with the gallery bank's items beside those of the gallery.", ("query bank", "gallery bank"),
        {"beta": 50.0, "max_iter": 50, "tolerance": 1e-3},
        "one pass of the bank over the gallery and its bank per iteration", "https://github.com/ppanzx/DBSN",
        by_dual_sinkhorn, ("beta", (20.0, 50.0, 100.0)),
    ),
    "qb-norm": Method(
        "gated", "Inverted softmax for queries whose nearest item is also the nearest of a bank query.",
        ("query bank",), {"beta": 20.0, "k": 1}, "two passes of the bank, one of the queries",
        "Bogolin et al., CVPR 2022, https://arxiv.org/abs/2112.12777", by_gates, ("beta", _BETAS),
    ),
    "dualdis": Method(
        "gated", "Both factors of dualis, each only where its own bank's nearest items hold the query's nearest.",
        ("query bank", "gallery bank"), {"beta": 20.0, "beta_gallery": 20.0, "k": 1},
        "two passes of each bank, one of the queries", "Wang et al., EMNLP 2023, https://arxiv.org/abs/2310.11612",
        by_gates, ("beta_gallery", (1.0, 3.0, 10.0, 20.0, 50.0)),
    ),
    "local scaling": Method(
        "score transform", "Distances in units of both ends' own neighbourhoods.", ("query bank",), {"k": 7},
        _WHOLE_ROWS, "Zelnik-Manor & Perona, NIPS 2004, "
        "https://papers.nips.cc/paper/2619-self-tuning-spectral-clustering", by_scores(scaling.LocalScaling),
        ("k", (1, 3, 7, 10, 30)),
    ),
    "nicdm": Method(
        "score transform", "As local scaling, with the mean distance of the neighbours as the unit.", ("query bank",),
        {"k": 10}, _WHOLE_ROWS, "Jegou et al., CVPR 2007, https://doi.org/10.1109/CVPR.2007.382970",
        by_scores(scaling.Nicdm), ("k", (1, 3, 10, 30)),
    ),
    "mutual proximity": Method(
        "score transform", "Chance, for Gaussian scores, that others are farther from either end.", ("query bank",), {},
        _WHOLE_ROWS, "Schnitzer et al., JMLR 2012, https://jmlr.org/papers/v13/schnitzer12a.html",
        by_scores(proximity.MutualProximityGaussian),
    ),
    "mutual proximity, counted": Method(
        "score transform", "Share of others that are farther from either end.", ("query bank",), {}, _WHOLE_BANK,
        "Schnitzer et al., JMLR 2012, https://jmlr.org/papers/v13/schnitzer12a.html",
        by_scores(proximity.MutualProximityEmpirical),
    ),
    "rank correction": Method(
        "score transform", "A query's rank among the bank queries of the item decides, then the score.",
        ("query bank",), {}, _WHOLE_BANK, "Dinu et al., ICLR workshop 2015, https://arxiv.org/abs/1412.6568",
        by_scores(proximity.RankCorrection),
    ),
    "invgc": Method(
        "embedding transform", "Items move away from bank items and bank queries that they resemble.",
        ("query bank", "gallery bank"), {"rate_gallery": 1.0, "rate_query": 1.0}, "one product with dim x dim moments",
        "Jian & Wang, Findings of EMNLP 2023, https://arxiv.org/abs/2310.13276", by_vectors(embedding.fit_invgc),
        ("rate_query", (0.5, 1.0, 2.0, 4.0, 8.0)),
    ),
    "invgc, local": Method(
        "embedding transform", "As invgc, with the nearest bank rows of each item only.",
        ("query bank", "gallery bank"), {"rate_gallery": 1.0, "rate_query": 1.0, "share": 0.1},
        "one pass of each bank over the gallery", "Jian & Wang, Findings of EMNLP 2023, "
        "https://arxiv.org/abs/2310.13276", by_vectors(embedding.fit_invgc_local),
        ("rate_query", (0.25, 0.5, 1.0, 2.0, 4.0)),
    ),
    "renormalized centering": Method(
        "embedding transform", "Either side loses its mean and is scaled to length one again.", ("query bank",), {},
        "the means", "Suzuki et al., EMNLP 2013, https://aclanthology.org/D13-1058",
        by_vectors(embedding.fit_renormalized_centering),
    ),
    "all-but-the-top": Method(
        "embedding transform", "Either side loses its mean and its strongest directions.", ("query bank",),
        {"n_components": 3}, "one decomposition of dim x dim", "Mu & Viswanath, ICLR 2018, "
        "https://arxiv.org/abs/1702.01417", by_vectors(embedding.fit_all_but_the_top),
        ("n_components", (1, 2, 3, 5, 8)),
    ),
    "whitening": Method(
        "embedding transform", "Either side is centred and scaled to equal variance in all directions.",
        ("query bank",), {"n_components": 0}, "one decomposition of dim x dim",
        "Su et al., 2021, https://arxiv.org/abs/2103.15316", by_vectors(embedding.fit_whitening),
    ),
    "gap shift": Method(
        "embedding transform", "Both sides move towards each other along the modality gap.", ("query bank",),
        {"amount": 0.5}, "the means", "Liang et al., NeurIPS 2022, https://arxiv.org/abs/2203.02053",
        by_vectors(embedding.fit_gap_shift), ("amount", (0.25, 0.5, 0.75, 1.0)),
    ),
    "dissim": Method(
        "embedding transform", "Distances lose the distance to the common centre.", ("query bank",), {"share": 0.5},
        "the means", "Hara et al., AAAI 2016, https://doi.org/10.1609/aaai.v30i1.10240",
        by_vectors(embedding.fit_dissim_global),
    ),
    "dissim, local": Method(
        "embedding transform", "Distances lose the distance to the centre of the nearest bank queries.",
        ("query bank",), {"k": 10}, "one pass of the bank over the gallery",
        "Hara et al., AAAI 2016, https://doi.org/10.1609/aaai.v30i1.10240", by_vectors(embedding.fit_dissim_local),
        ("k", (3, 10, 30)),
    ),
}  # fmt: skip
