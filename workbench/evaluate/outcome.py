"""What an analysis ends in, whichever report it is for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from workbench.evaluate.ranking import Ranked
from workbench.types import Finding

ORDER = {"problem": 0, "look": 1, "not measurable": 2, "ok": 3}


@dataclass(frozen=True, eq=False)
class Analysis:
    """Everything a run folder is written from; findings worst first."""

    ranked: tuple[Ranked, ...]
    results: Mapping[str, Any]
    findings: tuple[Finding, ...]
    pictures: Mapping[str, bytes]

    @classmethod
    def of(
        cls,
        ranked: tuple[Ranked, ...],
        results: Mapping[str, Any],
        findings: Iterable[Finding],
        pictures: Mapping[str, bytes],
    ) -> Analysis:
        """With the findings, in the order in which they were made, sorted by verdict."""
        return cls(ranked, results, tuple(sorted(findings, key=lambda one: ORDER[one.verdict])), pictures)
