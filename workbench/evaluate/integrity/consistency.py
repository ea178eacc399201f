"""Whether queries that ask for the same image agree: languages, paraphrases, templates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.evaluate.prepare import Prepared
from workbench.evaluate.ranking import Ranked

TYPES: tuple[type, ...] = ()


def analyse(prepared: Prepared, ranked: tuple[Ranked, ...], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Results of this section by name."""
    return {}
