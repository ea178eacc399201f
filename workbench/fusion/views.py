"""Several views of an item, each with a hierarchy of labels, as one vector whose dot product is the weighted score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from workbench.types import FloatArray

Views = Mapping[str, Sequence[npt.ArrayLike]]
LevelWeights = Literal["label count", "equal"]


def multiview_vectors(
    labels: Views, weights: Mapping[str, float], *, levels: LevelWeights = "label count"
) -> FloatArray:
    """Vectors whose dot products are the hierarchical similarity of two items, so that any search can use them.

        s(a, b) = sum_v w_v sum_l u_vl cos(a_vl, b_vl)        u_vl = n_vl / sum_m n_vm, or 1 / number of levels

    A view is a topic under which items are alike (facts, issue in dispute, statute), a level one depth of its tree of
    labels. The dot product of ``sqrt(w_v u_vl) a_vl / |a_vl|``, put side by side, is s; an item without any label on a
    level has cosine 0 there.

    labels : view -> for each level an array (n_items, n_vl) of zeros and ones, or of weights of labels, not negative.
    weights : view -> w_v, not negative. levels : "label count" lets the finest level count most, as it has most labels.
    Returns (n_items, sum of n_vl), float64. Errors: views that differ from the weights, numbers of items that differ,
    negative or NaN labels.
    Source: Q. Li et al., "MUSER: A Multi-View Similar Case Retrieval Dataset", CIKM 2023,
    https://doi.org/10.1145/3583780.3615125, with weights 0.5, 0.4 and 0.1.

    >>> views = {"fact": [[[1, 0], [1, 0]], [[1, 0, 0, 1], [1, 1, 0, 0]]], "law": [[[1], [0]]]}
    >>> vectors = multiview_vectors(views, {"fact": 0.6, "law": 0.4})
    >>> round(float(vectors[0] @ vectors[1]), 4)  # 0.6 (2/6 x 1 + 4/6 x 1/2) + 0.4 x 0
    0.4
    """
    if levels not in ("label count", "equal"):
        raise ValueError(f"levels must be 'label count' or 'equal'; got {levels!r}")
    if set(labels) != set(weights) or not labels:
        raise ValueError(f"one weight per view is needed; got views {sorted(labels)} and weights {sorted(weights)}")
    parts = []
    for view, given in labels.items():
        arrays = [_checked(view, level) for level in given]
        if not arrays:
            raise ValueError(f"the view {view!r} has no level")
        counts = [one.shape[1] if levels == "label count" else 1 for one in arrays]
        if weights[view] < 0 or not np.isfinite(weights[view]):
            raise ValueError(f"the weight of {view!r} must be 0 or more; got {weights[view]}")
        parts += [
            np.sqrt(weights[view] * count / sum(counts)) * _unit(one) for one, count in zip(arrays, counts, strict=True)
        ]
    if len({len(part) for part in parts}) > 1:
        raise ValueError(f"the levels have different numbers of items: {sorted({len(part) for part in parts})}")
    return np.concatenate(parts, axis=1)


def _checked(view: str, level: npt.ArrayLike) -> FloatArray:
    found = np.asarray(level, np.float64)
    if found.ndim != 2 or 0 in found.shape:
        raise ValueError(f"a level of {view!r} must have shape (n_items, n_labels); got {found.shape}")
    if not np.isfinite(found).all() or (found < 0).any():
        raise ValueError(f"labels of {view!r} must be 0 or more; got NaN, infinity or a negative number")
    return found


def _unit(rows: FloatArray) -> FloatArray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
