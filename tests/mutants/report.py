"""What is said at the end: a table by module, the survivors, and which of them are accepted with a reason."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mutants.find import Mutant
from tests.mutants.trial import Verdict

LEAST_KILLED = 0.85


@dataclass(frozen=True)
class Accepted:
    """A mutant that may survive: it changes no result, for the reason given."""

    file: str
    operator: str
    source: str
    changed: str
    reason: str

    def fits(self, mutant: Mutant) -> bool:
        mine = (self.file, self.operator, self.source, self.changed)
        return mine == (mutant.file, mutant.operator, mutant.source, mutant.changed)


@dataclass(frozen=True)
class Summary:
    n: int
    killed: int
    timeouts: int
    accepted: int
    open: int

    @property
    def share(self) -> float:
        """Killed of all; accepted survivors count as survivors."""
        return self.killed / self.n if self.n else 0.0

    @property
    def passes(self) -> bool:
        return self.share >= LEAST_KILLED and not self.open


def read_accepted(path: Path) -> list[Accepted]:
    """The accepted mutants of a file of ``[[accepted]]`` tables. Errors: a key missing or unknown, an empty reason."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("accepted", [])
    keys = set(Accepted.__dataclass_fields__)
    for entry in entries:
        if set(entry) != keys or not str(entry["reason"]).strip():
            raise ValueError(f"{path.name}: an entry needs {', '.join(sorted(keys))}; got {entry}")
    return [Accepted(**entry) for entry in entries]


def reason_of(mutant: Mutant, accepted: Sequence[Accepted]) -> str:
    return next((entry.reason for entry in accepted if entry.fits(mutant)), "")


def summary(verdicts: Sequence[Verdict], accepted: Sequence[Accepted]) -> Summary:
    survivors = [v.mutant for v in verdicts if v.status == "survived"]
    known = sum(bool(reason_of(mutant, accepted)) for mutant in survivors)
    timeouts = sum(v.status == "timeout" for v in verdicts)
    return Summary(len(verdicts), len(verdicts) - len(survivors), timeouts, known, len(survivors) - known)


def verdict_lines(verdicts: Sequence[Verdict], accepted: Sequence[Accepted]) -> list[str]:
    """The table by module and the survivors, those without a reason marked OPEN."""
    files = sorted({verdict.mutant.file for verdict in verdicts})
    width = max([len(file) for file in files], default=6)
    lines = [f"{'module':{width}} {'killed':>7} {'timeout':>8} {'survived':>9}"]
    for file in files:
        mine = [verdict.status for verdict in verdicts if verdict.mutant.file == file]
        lines.append(f"{file:{width}} {mine.count('killed'):7d} {mine.count('timeout'):8d} {mine.count('survived'):9d}")
    for verdict in verdicts:
        if verdict.status == "survived":
            mutant, reason = verdict.mutant, reason_of(verdict.mutant, accepted)
            lines += [
                f"{'accepted' if reason else 'OPEN'} {mutant.id}", f"    - {mutant.source}", f"    + {mutant.changed}",
            ]  # fmt: skip
            lines += [f"    {reason}"] if reason else []
    return lines


def as_json(
    verdicts: Sequence[Verdict], accepted: Sequence[Accepted], tests: Mapping[str, Mapping[str, float]], seconds: float
) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "killed": summary(verdicts, accepted).share,
        "mutants": [
            {
                "id": v.mutant.id, "status": v.status, "by": v.by, "seconds": round(v.seconds, 2),
                "operator": v.mutant.operator, "source": v.mutant.source, "changed": v.mutant.changed,
                "reason": reason_of(v.mutant, accepted),
            }
            for v in verdicts
        ],
        "tests": {package: dict(sorted(found.items(), key=lambda item: -item[1])) for package, found in tests.items()},
    }  # fmt: skip
