"""Speed and memory beside what people use.

    python -m tests.benchmarks search|evaluate|metrics|statistics|hubness [--size tiny|small|full] [--json FILE]

Every competitor runs in a process of its own and in turn with the others; every one is held against the definition, and
a number that is wrong ends with exit code 1. Peers come with ``pip install 'retrieval-workbench[bench]'``.

Columns: median seconds and their range; how many times the first row's seconds (median over rounds); seconds to load
or convert the inputs; peak memory over what the imports hold, inputs included: anonymous, and all that is resident.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tests.benchmarks import bench_evaluate, bench_hubness, bench_metrics, bench_search, bench_statistics
from tests.benchmarks.measure import BenchmarkError, Group, Row, measure
from tests.benchmarks.table import lines, machine, machine_line

BENCHMARKS = {
    "search": bench_search.groups,
    "evaluate": bench_evaluate.groups,
    "metrics": bench_metrics.groups,
    "statistics": bench_statistics.groups,
    "hubness": bench_hubness.groups,
}
REPEATS = {"tiny": 1, "small": 5, "full": 3}
SIZES = tuple(REPEATS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 every number is right, 1 one is not, 2 something cannot be run."""
    asked = _parser().parse_args(arguments)
    found = machine(asked.threads)
    print(machine_line(found), flush=True)
    report: dict[str, Any] = {"benchmark": asked.benchmark, "size": asked.size, "machine": found, "groups": []}
    wrong = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            for group in BENCHMARKS[asked.benchmark](asked.size, asked.world, Path(folder)):
                if asked.only in group.title:
                    rows, facts = _one(group, asked)
                    wrong += [row.name for row in rows if not row.equal]
                    report["groups"].append({"title": group.title, "rows": [asdict(r) for r in rows], "facts": facts})
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if asked.json:
        asked.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if wrong:
        print(f"error: wrong numbers from {', '.join(dict.fromkeys(wrong))}", file=sys.stderr)
    return int(bool(wrong))


def _one(group: Group, asked: argparse.Namespace) -> tuple[list[Row], dict[str, float]]:
    missing = {each.name: each.missing for each in group.competitors if each.missing}
    if missing and not asked.skip_missing:
        names = ", ".join(dict.fromkeys(name for some in missing.values() for name in some))
        raise BenchmarkError(
            f"{names} not installed; install the peers with pip install 'retrieval-workbench[bench]', "
            "or leave them out with --skip-missing"
        )
    kept = replace(group, competitors=tuple(each for each in group.competitors if each.name not in missing))
    rows = measure(kept, threads=asked.threads, repeats=asked.repeats or REPEATS[asked.size])
    facts = group.facts({row.name: row for row in rows}) if group.facts else {}
    left_out = [f"left out: {name} needs {', '.join(some)}" for name, some in missing.items()]
    print("\n".join(["", *lines(group.title, rows, facts)[:-1], *left_out]), flush=True)
    return rows, facts


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmark", choices=BENCHMARKS)
    parser.add_argument("--size", choices=SIZES, default="small", help="tiny: seconds, to see that it runs")
    parser.add_argument("--world", choices=("sphere", "cone"), default="sphere",
                        help="vectors in all directions alike, or in a narrow cone as CLIP's are")  # fmt: skip
    parser.add_argument("--threads", type=int, default=2, help="of every library of every competitor")
    parser.add_argument("--repeats", type=int, default=0, help="timed runs of each, after one that is not timed")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the tables with this in their title")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it, for comparing two versions")
    parser.add_argument("--skip-missing", action="store_true", help="leave out peers that are not installed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
