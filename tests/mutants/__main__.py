"""Does the suite notice a wrong operator? A seeded sample of mutants of metrics, statistics and search.

    python -m tests.mutants [--seed 0] [--n 300] [--jobs 2] [--only PATH ...] [--json FILE] [--list]

Each mutant changes one operator, constant or bound in a private copy of the package, and the suite, without torch and
numba, is run on it until a test fails. Exit code 0: at least 85 % are killed and every survivor is in accepted.toml
with a reason; 1: not so; 2: the suite does not pass to begin with. POSIX only (the runs are forks).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.find import Mutant, mutants_of, sample
from tests.mutants.report import Accepted, as_json, read_accepted, summary, verdict_lines
from tests.mutants.targets import package_of, skipped_names, source_files
from tests.mutants.trial import Clean, TrialError, Verdict, clean_run, copy_of, estimate, try_all, workers

ROOT = Path(__file__).resolve().parent.parent.parent
ACCEPTED = Path(__file__).with_name("accepted.toml")


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        return _main(asked, copy_of(ROOT, Path(folder)), Path(folder))


def _main(asked: argparse.Namespace, frozen: Path, folder: Path) -> int:
    """All that follows sees the checkout as it was at the start, whoever edits it meanwhile."""
    try:
        files = source_files(frozen, asked.only)
        accepted = read_accepted(ACCEPTED)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    sources = {file: (frozen / file).read_bytes() for file in files}
    population = [m for file in files for m in mutants_of(file, sources[file], skipped=skipped_names(file))]
    mutants = sample(population, asked.n, asked.seed)
    print(f"{len(mutants)} of {len(population)} mutants in {len(files)} files, seed {asked.seed}")
    if asked.list:
        print("\n".join(f"{m.id}\n    - {m.source}\n    + {m.changed}" for m in mutants))
        return 0
    began = time.perf_counter()
    try:
        verdicts, clean = _try(mutants, sources, frozen, folder, asked.jobs)
    except TrialError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    stale = [entry for entry in accepted if entry.file in files and not any(map(entry.fits, population))]
    return _tell(verdicts, clean, accepted, stale, time.perf_counter() - began, asked.json)


def _try(
    mutants: Sequence[Mutant], sources: dict[str, bytes], frozen: Path, folder: Path, jobs: int
) -> tuple[list[Verdict], dict[str, Clean]]:
    clean: dict[str, Clean] = {}
    with workers(frozen, folder, jobs) as started:
        for package in dict.fromkeys(package_of(mutant.file) for mutant in mutants):
            clean[package] = run = clean_run(started, package)
            times = f"{run.seconds:.1f} s ({run.processor:.1f} s of processor)"
            print(f"suite of {package}: {len(run.tests)} tests pass in {times}", flush=True)
            slowest = dict(list(run.tests.items())[:-4:-1])
            for name, seconds in {**run.by_file(), **slowest}.items():
                print(f"    {seconds:5.2f} s {name}", flush=True)
        print(f"about {estimate(mutants, clean, jobs) / 60:.1f} minutes with {jobs} jobs", flush=True)
        count: Counter[str] = Counter()

        def progress(verdict: Verdict) -> None:
            count[verdict.status] += 1
            if sys.stderr.isatty():
                done = f"{count.total()}/{len(mutants)}"
                print(f"\r{done} {dict(count)} {verdict.mutant.id[-60:]:60s}", end="", file=sys.stderr, flush=True)

        verdicts = try_all(started, mutants, sources, clean, progress)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return verdicts, clean


def _tell(
    verdicts: Sequence[Verdict], clean: dict[str, Clean], accepted: Sequence[Accepted], stale: Sequence[Accepted],
    seconds: float, file: Path | None,
) -> int:  # fmt: skip
    print("\n".join(verdict_lines(verdicts, accepted)))
    for entry in stale:
        print(f"accepted.toml: no mutant fits any more: {entry.file} {entry.operator}: {entry.source}")
    found = summary(verdicts, accepted)
    print(
        f"{found.killed} of {found.n} killed ({found.share:.1%}; {found.timeouts} of them by time), "
        f"{found.accepted} accepted, {found.open} open; {seconds / 60:.1f} minutes"
    )
    if file is not None:
        tests = {package: run.tests for package, run in clean.items()}
        file.write_text(json.dumps(as_json(verdicts, accepted, tests, seconds), indent=1) + "\n", encoding="utf-8")
    return 0 if found.passes else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=300, help="mutants in the sample")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument(
        "--only", action="append", default=[], metavar="PATH", help="files or folders, as workbench/search"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every verdict there")
    parser.add_argument("--list", action="store_true", help="print the sample and stop")
    return parser


if __name__ == "__main__":
    sys.exit(main())
