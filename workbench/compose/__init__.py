"""Composed queries: one vector out of two, such as a reference picture and a sentence that says what to change."""

from __future__ import annotations

from workbench.compose.mixing import Mixing, effective_weight, slerp

__all__ = ["Mixing", "effective_weight", "slerp"]
