"""How much of what was retrieved did anybody judge?"""

from __future__ import annotations

from typing import Literal

import numpy as np

from workbench.metrics.kernels import TiedValues, positives_within, tie_groups
from workbench.metrics.lists import Lists, compressed, ranks_from_lists
from workbench.types import Relevance


def judged_share(
    lists: Lists, relevance: Relevance, k: int, *, short_lists: Literal["refuse", "as is"] = "refuse"
) -> TiedValues:
    """judged@k: the share of the first k places that hold an item with a judgement, relevant or not.

    What is below 1 is the part of a metric that rests on the assumption that unjudged means not relevant. A query
    without any judgement has 0. Returns three (n_queries,) arrays in 0..1: expected under random order of equal scores,
    worst, best. lists and errors as for :func:`workbench.metrics.ranks_from_lists`.
    short_lists : "refuse" lists of fewer than k items, or take them "as is": the places they lack are not judged.

    >>> relevance = Relevance.from_pairs([0, 0], [1, 3], [1, 0], n_queries=1, n_gallery=5)
    >>> judged_share([([4, 1, 2, 3], [0.9, 0.8, 0.7, 0.6])], relevance, 2).expected
    array([0.5])
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"the cutoff of judged must be a whole number >= 1; got {k!r}")
    if short_lists not in ("refuse", "as is"):
        raise ValueError(f"short_lists must be 'refuse' or 'as is'; got {short_lists!r}")
    rows = compressed(lists, relevance)
    short = np.flatnonzero(rows.depths < k)
    if len(short) and short_lists == "refuse":
        raise ValueError(
            f"judged@{k} needs {k} ranked items, more than the list of {rows.depths[short[0]]} items of query "
            f"{short[0]} ({len(short)} of {len(rows.depths)} lists are this short); use a smaller cutoff, or count the "
            "places they lack as not judged with short_lists='as is'"
        )
    judged = Relevance(relevance.indptr, relevance.items, np.ones(len(relevance.items)), relevance.n_gallery)
    groups = tie_groups(ranks_from_lists(rows, judged))
    taken = positives_within(groups, np.full(relevance.n_queries, k, dtype=np.int64))
    expected, worst, best = (places / k for places in taken)
    return TiedValues(expected, worst, best)
