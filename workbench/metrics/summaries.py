"""Numbers over several rankings of the same items: both directions, languages, prompts, seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from workbench.types import FloatArray


def r_sum(values: Mapping[str, float], *, cutoffs: Sequence[int] = (1, 5, 10)) -> float:
    """The sum that image-text papers print as rSum: R@1 + R@5 + R@10 of both directions, in per cent.

    What those papers call R@k is the share of queries with *any* right item in the first k places, so the sum is over
    ``hit@k``; with five captions an image the R@k of this package is another number. The range is 0..600.

    values : direction/metric -> fraction in 0..1, of exactly two opposite directions, such as ``t2i/hit@1`` and
    ``i2t/hit@1``; other metrics are ignored.
    Errors: a missing cutoff, other than two opposite directions, a value that is NaN or outside 0..1.
    Source: printed by the evaluation code of F. Faghri et al., "VSE++: Improving Visual-Semantic Embeddings with Hard
    Negatives", BMVC 2018, https://arxiv.org/abs/1707.05612, and by the papers that compare with it.

    >>> r_sum({"t2i/hit@1": 0.5, "t2i/hit@5": 0.75, "i2t/hit@1": 0.25, "i2t/hit@5": 1.0}, cutoffs=(1, 5))
    250.0
    """
    names = {f"hit@{k}" for k in cutoffs}
    directions = sorted({key.partition("/")[0] for key in values if key.partition("/")[2] in names})
    if len(directions) != 2 or directions[0].split("2") != directions[1].split("2")[::-1]:
        raise ValueError(
            f"rSum needs {', '.join(sorted(names))} of two opposite directions, such as t2i and i2t; got "
            f"{', '.join(directions) or 'no direction'} (keys look like 't2i/hit@1'; R@k is another metric)"
        )
    total = 0.0
    for key in (f"{direction}/hit@{k}" for direction in directions for k in cutoffs):
        if key not in values:
            raise ValueError(f"rSum needs {key}, which is not among the values; compute it or choose other cutoffs")
        if not 0 <= values[key] <= 1:
            raise ValueError(f"{key} is {values[key]}, but fractions in 0..1 are expected; divide per cents by 100")
        total += 100 * values[key]
    return total


def rank_dispersion(
    ranks: npt.ArrayLike, *, kind: Literal["std", "var", "log"] = "std", clamp: float | None = None
) -> FloatArray:
    """How far apart one item's ranks are over the versions of its query: languages, prompts, augmentations, seeds.

    "std" and "var" : population standard deviation and variance of the ranks, over versions. "log" : population
    standard deviation of the natural logarithm of the rank, for which 1 and 2 are as far apart as 500 and 1,000.
    The mean over items of "std" is what the code behind "Mean Rank Variance" computes; the name promises "var".
    A few items far down decide both, so print a clamped or a log version beside them.

    ranks (n_items, n_versions) : from 1, fractions allowed (expected ranks under ties). clamp : ranks beyond it count
    as this rank, and so may ranks that are infinite because the item was not retrieved. Returns (n_items,), >= 0.
    Errors: fewer than two versions, NaN, a rank below 1, an infinite rank without clamp.
    Source: Z. Nie et al., "Improving the Consistency in Cross-Lingual Cross-Modal Retrieval with 1-to-K Contrastive
    Learning", KDD 2024, https://arxiv.org/abs/2406.18254.

    >>> rank_dispersion([[1, 1, 1], [1, 3, 5]], kind="var").round(3), rank_dispersion([[1, 900]], clamp=101)
    (array([0.   , 2.667]), array([50.]))
    """
    table = np.asarray(ranks, dtype=np.float64)
    if kind not in ("std", "var", "log"):
        raise ValueError(f"kind must be 'std', 'var' or 'log'; got {kind!r}")
    if table.ndim != 2 or table.shape[1] < 2:
        raise ValueError(f"ranks must be (n_items, n_versions) with two versions or more; got {table.shape}")
    if np.isnan(table).any() or (table < 1).any():
        wrong = int(np.argmax((np.isnan(table) | (table < 1)).any(axis=1)))
        raise ValueError(f"ranks count from 1 and may not be NaN, but item {wrong} has {table[wrong].tolist()}")
    if clamp is not None:
        if not clamp >= 1:
            raise ValueError(f"clamp must be a rank, 1 or more; got {clamp}")
        table = np.minimum(table, clamp)
    if np.isinf(table).any():
        raise ValueError("an infinite rank has no dispersion; give complete rankings or a finite clamp")
    return np.asarray(table.var(axis=1) if kind == "var" else (np.log(table) if kind == "log" else table).std(axis=1))
