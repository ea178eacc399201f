"""Fifty evaluations in one process against fifty times one: seconds each, growth of memory, processes started.

    python tests/benchmarks/many_evaluations.py [N] [--profile] [--memory]

Prints one line per ten runs and a summary; ``--profile`` adds the functions that took longest, ``--memory`` the lines
that hold what was allocated since the warm-up (slow).
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import sys
import tempfile
import time
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tests.worlds import write_vectors
from workbench.evaluate import evaluate

WARM_UP = 3


@dataclass(frozen=True)
class Cost:
    """seconds : processor time of each run, so that other work on the machine does not count. resident : MB after each.

    started : most child processes seen after a run.
    """

    seconds: tuple[float, ...]
    resident: tuple[float, ...]
    started: int

    def ratio(self) -> float:
        """All runs against as many times the median of the first five."""
        first = sorted(self.seconds[:5])[2]
        return sum(self.seconds) / (len(self.seconds) * first)

    def growth(self, start: int) -> float:
        """MB between the run with that number and the last one."""
        return self.resident[-1] - self.resident[start - 1]


def resident_mb() -> float:
    gc.collect()
    return float(psutil.Process().memory_info().rss / 1e6)


def measure(root: Path, n: int, **parameters: object) -> Cost:
    """n evaluations of one small embeddings file after a warm-up, each with another seed."""
    source = write_vectors(root / "vectors.npz", n_images=40)
    seconds, resident, started = [], [], 0
    there = set(psutil.Process().children(recursive=True))
    for number in range(-WARM_UP, n):
        begin = time.process_time()
        evaluate(source, out=root / "runs", seed=number + WARM_UP, n_resamples=200, **parameters)
        if number >= 0:
            seconds.append(time.process_time() - begin)
            resident.append(resident_mb())
            started = max(started, len(set(psutil.Process().children(recursive=True)) - there))
    return Cost(tuple(seconds), tuple(resident), started)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("n", nargs="?", type=int, default=50)
    asked.add_argument("--profile", action="store_true")
    asked.add_argument("--memory", action="store_true")
    chosen = asked.parse_args()
    profile = cProfile.Profile()
    with tempfile.TemporaryDirectory() as folder:
        if chosen.memory:
            tracemalloc.start()
            measure(Path(folder), 2)
            before = tracemalloc.take_snapshot()
        if chosen.profile:
            profile.enable()
        cost = measure(Path(folder), chosen.n)
        profile.disable()
    for first in range(0, chosen.n, 10):
        part = cost.seconds[first : first + 10]
        print(f"runs {first + 1:>3}-{first + len(part):<3} {sum(part) / len(part):.3f} s each, "
              f"{cost.resident[first + len(part) - 1]:.1f} MB")  # fmt: skip
    print(
        f"{chosen.n} runs cost {cost.ratio():.2f} times {chosen.n} x one; grew {cost.growth(min(10, chosen.n)):.1f} MB "
        f"from run 10; {cost.started} processes started"
    )
    if chosen.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(20)
    if chosen.memory:
        for line in tracemalloc.take_snapshot().compare_to(before, "lineno")[:15]:
            print(line)


if __name__ == "__main__":
    main()
