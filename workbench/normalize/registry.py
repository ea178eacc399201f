"""All repairs by name."""

from __future__ import annotations

from workbench.normalize import bias
from workbench.normalize.methods import (
    Method,
    _dual_sinkhorn,
    _gated,
    _sinkhorn,
    _statistical,
)

_BETAS = (5.0, 10.0, 20.0, 30.0, 50.0, 80.0, 120.0)
_ONE_PASS = "one pass of the bank over the gallery; one number per item"

METHODS: dict[str, Method] = {
    "inverted softmax": Method(
        "bias", "Items that many other queries like are marked down.", ("query bank",), {"beta": 20.0}, _ONE_PASS,
        "Smith et al., ICLR 2017, https://arxiv.org/abs/1702.03859",
        _statistical(bias.inverted_softmax_statistics), ("beta", _BETAS),
    ),
    "csls": Method(
        "bias", "Items are marked down by half their mean score with their nearest bank queries.", ("query bank",),
        {"k": 10}, _ONE_PASS, "Conneau et al., ICLR 2018, https://arxiv.org/abs/1710.04087",
        _statistical(bias.csls_statistics), ("k", (1, 3, 10, 30)),
    ),
    "nnn": Method(
        "bias", "As csls, with a weight that is chosen.", ("query bank",), {"k": 16, "alpha": 0.75}, _ONE_PASS,
        "Chowdhury et al., EMNLP 2024, https://arxiv.org/abs/2410.24114",
        _statistical(bias.nnn_statistics), ("alpha", (0.25, 0.375, 0.5, 0.625, 0.75, 1.0, 1.25)),
    ),
    "mean centering": Method(
        "bias", "Queries lose their common mean.", ("query bank",), {}, "one product with the mean of the bank",
        "Suzuki et al., EMNLP 2013, https://aclanthology.org/D13-1058", _statistical(bias.centering_statistics),
    ),
    "dualis": Method(
        "bias", "Inverted softmax over a bank of queries and one of items.", ("query bank", "gallery bank"),
        {"beta": 20.0, "beta_gallery": 20.0}, "one pass of each bank over the gallery; one number per item",
        "Wang et al., EMNLP 2023, https://arxiv.org/abs/2310.11612",
        _statistical(bias.dual_statistics), ("beta_gallery", (1.0, 3.0, 10.0, 20.0, 50.0)),
    ),
    "sinkhorn": Method(
        "bias", "Every item gets the same share of what the bank queries give.", ("query bank",),
        {"beta": 50.0, "max_iter": 100, "tolerance": 1e-4}, "one pass of the bank over the gallery per iteration",
        "Cuturi, NIPS 2013, https://arxiv.org/abs/1306.0895; Huang et al., ACL 2019", _sinkhorn, ("beta", _BETAS),
    ),
    "dbsn": Method(
        "bias", "Sinkhorn with the gallery bank's items beside those of the gallery.", ("query bank", "gallery bank"),
        {"beta": 50.0, "max_iter": 100, "tolerance": 1e-4},
        "one pass of the bank over the gallery and its bank per iteration", "https://github.com/ppanzx/DBSN",
        _dual_sinkhorn, ("beta", _BETAS),
    ),
    "qb-norm": Method(
        "gated", "Inverted softmax for queries whose nearest item is also the nearest of a bank query.",
        ("query bank",), {"beta": 20.0, "k": 1}, "two passes of the bank, one of the queries",
        "Bogolin et al., CVPR 2022, https://arxiv.org/abs/2112.12777", _gated, ("beta", _BETAS),
    ),
    "dualdis": Method(
        "gated", "Both factors of dualis, each only where its own bank's nearest items hold the query's nearest.",
        ("query bank", "gallery bank"), {"beta": 20.0, "beta_gallery": 20.0, "k": 1},
        "two passes of each bank, one of the queries", "Wang et al., EMNLP 2023, https://arxiv.org/abs/2310.11612",
        _gated, ("beta_gallery", (1.0, 3.0, 10.0, 20.0, 50.0)),
    ),
}  # fmt: skip
