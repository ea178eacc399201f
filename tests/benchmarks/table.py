"""The machine in one line, and measured rows as an aligned table."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Row

LIBRARIES = ("numpy", "scipy", "torch", "numba", "faiss-cpu", "ranx", "ir-measures")
COLUMNS = ("", "seconds", "min-max", "x first", "prepare s", "anon MB", "total MB", "equal numbers")


def machine(threads: int) -> dict[str, Any]:
    """Processor, cores, units for 16-bit products, versions, threads; nothing that names a host or a user."""
    flags, model = _processor()
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "bf16": [flag for flag in ("amx_bf16", "avx512_bf16", "bf16") if flag in flags],
        "threads": threads,
        "python": platform.python_version(),
        **versions,
    }


def _processor() -> tuple[set[str], str]:
    """(flags, model name), as far as the system says."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    pairs = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set((pairs.get("flags") or pairs.get("features") or "").split())
    return flags, pairs.get("model name") or platform.processor() or platform.machine()


def machine_line(found: Mapping[str, Any]) -> str:
    """The same for people.

    >>> machine_line({"cpu": "X", "cores": 2, "bf16": [], "threads": 1, "python": "3.11", "numpy": "2.4"})
    'X, 2 cores, no bf16 units, 1 thread each; python 3.11, numpy 2.4'
    """
    bf16 = f"bf16 units ({', '.join(found['bf16'])})" if found["bf16"] else "no bf16 units"
    threads = f"{found['threads']} thread{'s' * (found['threads'] != 1)} each"
    versions = [f"{name} {value}" for name, value in found.items() if name not in ("cpu", "cores", "bf16", "threads")]
    return f"{found['cpu']}, {found['cores']} cores, {bf16}, {threads}; {', '.join(versions)}"


def lines(title: str, rows: Sequence[Row], facts: Mapping[str, float]) -> list[str]:
    """Title, table, what differs, and the figures drawn from the rows."""
    cells = [COLUMNS, *(_cells(row, rows[0]) for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(COLUMNS))]
    table = []
    for line in cells:
        first, *rest = (f"{text:<{w}}" if place in (0, 7) else f"{text:>{w}}"
                        for place, (text, w) in enumerate(zip(line, widths, strict=True)))  # fmt: skip
        table.append("  ".join([first, *rest]).rstrip())
    notes = [f"  {name}: {value:.3g}" for name, value in facts.items()]
    return [title, *table, *notes, ""]


def _cells(row: Row, first: Row) -> tuple[str, ...]:
    return (
        row.name,
        _seconds(row.median),
        f"{_seconds(min(row.seconds))}-{_seconds(max(row.seconds))}",
        f"{row.over(first):.2f}",
        _seconds(row.prepare_seconds),
        f"{row.anonymous / 1e6:.0f}",
        f"{row.resident / 1e6:.0f}",
        ("yes" if row.equal else "NO") + (f": {row.words}" if row.words else ""),
    )


def _seconds(value: float) -> str:
    return f"{value:.1f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.3f}"
