"""Putting several scores of the same pair together."""

from __future__ import annotations

from workbench.fusion.levels import (
    LEVELS,
    Pool,
    clip_vectors_of,
    fuse_levels,
    isa_weights,
    level_scores,
    pool_isa,
    pool_max,
    pool_mean,
)

__all__ = [
    "LEVELS", "Pool", "clip_vectors_of", "fuse_levels", "isa_weights", "level_scores", "pool_isa", "pool_max",
    "pool_mean",
]  # fmt: skip
