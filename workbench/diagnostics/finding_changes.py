"""Two audits side by side: which findings are new, which resolved, which worse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from workbench.types import Finding

Status = Literal["new", "worse", "better", "resolved", "unchanged", "unknown"]
STATUSES: tuple[Status, ...] = ("new", "worse", "unknown", "better", "resolved", "unchanged")
_SEVERITY = {"ok": 0, "look": 1, "problem": 2}


@dataclass(frozen=True)
class FindingChange:
    """One finding in two audits; None where an audit does not have it."""

    name: str
    status: Status
    first: Finding | None
    second: Finding | None

    def row(self) -> dict[str, Any]:
        """Name, status, and verdict and value of both."""
        cells: dict[str, Any] = {"name": self.name, "status": self.status}
        for side, found in (("first", self.first), ("second", self.second)):
            cells[f"{side} verdict"] = "" if found is None else found.verdict
            cells[f"{side} value"] = None if found is None else found.value
        return cells


def compare_findings(first: Sequence[Finding], second: Sequence[Finding]) -> tuple[FindingChange, ...]:
    """What did an audit find that an earlier one did not? Findings are matched by name, verdicts are compared.

    new : "look" or "problem" now; "ok", not measurable or absent before. worse, better : "look" became "problem", or
    the other way. resolved : "look" or "problem" before, "ok" now. unknown : was measured, and now is not measurable or
    absent, so that nothing is known to be resolved. unchanged : everything else, whatever its value did.
    Several findings of one name are matched in their order. Returns new ones first, then worse, unknown, better,
    resolved, unchanged; within a status in the order of the second audit.

    >>> was = Finding("t2i/hubness", 2.0, None, 1.0, "", "look", "")
    >>> now = Finding("t2i/hubness", 0.1, None, 1.0, "", "ok", "")
    >>> [(one.name, one.status) for one in compare_findings([was], [now])]
    [('t2i/hubness', 'resolved')]
    """
    before, after = _numbered(first), _numbered(second)
    keys = [*after, *(key for key in before if key not in after)]
    changes = [
        FindingChange(key[0], _status(before.get(key), after.get(key)), before.get(key), after.get(key)) for key in keys
    ]
    return tuple(sorted(changes, key=lambda change: STATUSES.index(change.status)))


def findings_in_words(changes: Iterable[FindingChange]) -> str:
    """How many findings of each status, with the names of those that ask for a look.

    >>> findings_in_words([])
    'no findings'
    """
    by_status: dict[str, list[str]] = {}
    for one in changes:
        by_status.setdefault(one.status, []).append(one.name)
    parts = [
        f"{len(names)} {status}" + (f" ({', '.join(names)})" if status != "unchanged" else "")
        for status, names in by_status.items()
    ]
    return "; ".join(parts) or "no findings"


def _numbered(findings: Iterable[Finding]) -> dict[tuple[str, int], Finding]:
    seen: Counter[str] = Counter()
    numbered = {}
    for one in findings:
        numbered[one.name, seen[one.name]] = one
        seen[one.name] += 1
    return numbered


def _status(first: Finding | None, second: Finding | None) -> Status:
    before = None if first is None else _SEVERITY.get(first.verdict)
    after = None if second is None else _SEVERITY.get(second.verdict)
    if after is None:
        return "unchanged" if before is None else "unknown"
    if not before:
        return "new" if after else "unchanged"
    if after == before:
        return "unchanged"
    return "resolved" if not after else "worse" if after > before else "better"
