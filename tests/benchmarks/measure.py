"""Seconds and memory of several ways to do the same thing, each in a process of its own, in turn.

All competitors of a group are started, then run A B A B, so that a drift of the machine hits all of them. The first run
of each is a warm-up; memory is sampled while it loads its inputs and during that run, so that sampling never disturbs a
timed run. A competitor says itself, before it ends, whether its numbers are right.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import multiprocessing
import os
import statistics
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

SAMPLE_SECONDS = 0.02
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip
LATE_IMPORTS = ("torch", "numba")
"""What a scan may import late, as a competitor's ``also``: an import is not working memory."""


class BenchmarkError(Exception):
    """A competitor broke off, or cannot be run here."""


@dataclass(frozen=True)
class Checked:
    """What a competitor says of its own result, before it ends.

    equal : whether the numbers are right. words : how that was seen, or what differs. numbers : name -> value, held
    against those of the other competitors of the group.
    """

    equal: bool
    words: str
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Competitor:
    """One way to do it: ``inputs = prepare(**settings)``; ``result = run(inputs)``; ``check(inputs, result)``.

    The three are functions of a module, so that a new process finds them. modules : what they import, loaded before
    memory is counted; one that is not installed is an error that names the extra ``bench``. also : loaded where
    installed. before : done once before anything is counted, such as compiling.
    """

    name: str
    prepare: Callable[..., Any]
    run: Callable[[Any], Any]
    check: Callable[[Any, Any], Checked]
    settings: Mapping[str, Any] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    before: Callable[[], object] | None = None

    @property
    def missing(self) -> list[str]:
        return [name for name in self.modules if importlib.util.find_spec(name.split(".")[0]) is None]


@dataclass(frozen=True)
class Group:
    """Competitors that are timed against each other; the first is the one that the others are held against.

    tolerance : relative, for ``Checked.numbers`` that two of them share. facts : the figures that the rows are for.
    """

    title: str
    competitors: tuple[Competitor, ...]
    tolerance: float = 1e-6
    facts: Callable[[Mapping[str, Row]], dict[str, float]] | None = None


@dataclass(frozen=True)
class Row:
    """Seconds of every timed run and of preparing; peak bytes over what was resident after the imports."""

    name: str
    seconds: tuple[float, ...]
    prepare_seconds: float
    anonymous: int
    resident: int
    equal: bool
    words: str
    numbers: Mapping[str, float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def over(self, other: Row) -> float:
        """How many times as long as the other: the median over the rounds, whose runs lie next to each other."""
        return statistics.median(a / b for a, b in zip(self.seconds, other.seconds, strict=True))


def measure(group: Group, *, threads: int, repeats: int) -> list[Row]:
    """One row per competitor. Errors: a competitor breaks off. Wrong numbers are no error here but ``equal=False``."""
    with ExitStack() as stack, _thread_variables(threads):
        children = [stack.enter_context(_Child(each)) for each in group.competitors]
        for child in children:
            child.wait_until_ready(threads)
        for child in children:
            child.load()
        for _ in range(repeats):
            for child in children:
                child.timed()
        rows = [child.row() for child in children]
    return [_compared(row, rows, group.tolerance) for row in rows]


def _compared(row: Row, rows: Sequence[Row], tolerance: float) -> Row:
    """The row, no longer equal if a number of it differs from that of the first row that has it."""
    for name, value in row.numbers.items():
        first = next(other for other in rows if name in other.numbers)
        expected = first.numbers[name]
        if not abs(value - expected) <= tolerance * max(abs(value), abs(expected)):
            words = f"{name} is {value:.9g}, but {expected:.9g} in {first.name}; {row.words}"
            return Row(**{**vars(row), "equal": False, "words": words})
    return row


@contextmanager
def _thread_variables(threads: int) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


class _Child:
    """The parent's hold on one process: it starts on entry and is gone on exit."""

    def __init__(self, competitor: Competitor) -> None:
        context = multiprocessing.get_context("spawn")
        self.competitor = competitor
        self.connection, self._other = context.Pipe()
        self.process = context.Process(target=_serve, args=(self._other, competitor), daemon=True)
        self.seconds: list[float] = []

    def __enter__(self) -> _Child:
        self.process.start()
        self._other.close()
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def _ask(self, what: str) -> Any:
        self.connection.send(what)
        return self._answer()

    def _answer(self) -> Any:
        try:
            kind, value = self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join(5)
            raise BenchmarkError(
                f"{self.competitor.name} ended with exit code {self.process.exitcode} (-9: killed, probably for want "
                "of memory; use a smaller --size)"
            ) from None
        if kind == "error":
            raise BenchmarkError(f"{self.competitor.name} broke off:\n{value}")
        return value

    def wait_until_ready(self, threads: int) -> None:
        most, self.start = self._answer()
        if most > threads:
            raise BenchmarkError(f"{self.competitor.name} would use {most} threads instead of {threads}")

    def load(self) -> None:
        with _Sampler(self.process.pid or 0) as sampler:
            self.prepare_seconds = self._ask("prepare")
            self._ask("run")
        self.anonymous = sampler.anonymous - self.start["anonymous"]
        self.resident = sampler.resident - self.start["resident"]

    def timed(self) -> None:
        self.seconds.append(self._ask("run"))

    def row(self) -> Row:
        resident = max(self.resident, self._ask("peak") - self.start["resident"])
        checked: Checked = self._ask("check")
        return Row(
            self.competitor.name, tuple(self.seconds), self.prepare_seconds, max(self.anonymous, 0), max(resident, 0),
            checked.equal, checked.words, checked.numbers,
        )  # fmt: skip


class _Sampler:
    """Most memory of a process and its descendants while the block runs."""

    def __init__(self, pid: int) -> None:
        self.process = psutil.Process(pid)
        self.anonymous = self.resident = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            memory = _tree_memory(self.process)
            self.anonymous = max(self.anonymous, memory["anonymous"])
            self.resident = max(self.resident, memory["resident"])
            if self._stop.wait(SAMPLE_SECONDS):
                return


def _tree_memory(root: psutil.Process) -> dict[str, int]:
    """Bytes now: resident, and the part of it that no file and no shared memory backs (all of it, outside Linux)."""
    total = {"anonymous": 0, "resident": 0}
    try:
        processes = [root, *root.children(recursive=True)]
    except psutil.Error:
        return total
    for process in processes:
        try:
            memory = process.memory_info()
        except psutil.Error:
            continue
        total["resident"] += memory.rss
        total["anonymous"] += memory.rss - getattr(memory, "shared", 0)
    return total


def _serve(connection: Connection, competitor: Competitor) -> None:
    """The process of one competitor: does what the parent asks until the parent hangs up."""
    inputs = result = None
    try:
        connection.send(("ready", _import(competitor)))
        while True:
            asked = connection.recv()
            start = time.perf_counter()
            if asked == "prepare":
                inputs = competitor.prepare(**competitor.settings)
                value: Any = time.perf_counter() - start
            elif asked == "run":
                result = None
                gc.collect()
                start = time.perf_counter()
                result = competitor.run(inputs)
                value = time.perf_counter() - start
            else:
                value = _peak_resident() if asked == "peak" else competitor.check(inputs, result)
            connection.send(("done", value))
    except (EOFError, ConnectionError):
        return
    except BaseException:
        connection.send(("error", traceback.format_exc()))


def _import(competitor: Competitor) -> tuple[int, dict[str, int]]:
    """Load the libraries; (most threads that one of them would use, memory then)."""
    for name in (*competitor.modules, *competitor.also):
        if name in competitor.modules or importlib.util.find_spec(name) is not None:
            importlib.import_module(name)
    if competitor.before is not None:
        competitor.before()
    from threadpoolctl import threadpool_info

    most = max((pool["num_threads"] for pool in threadpool_info()), default=1)
    gc.collect()
    _forget_peak()
    return most, _tree_memory(psutil.Process())


def _forget_peak() -> None:
    """Start the kernel's record of the peak anew; where it cannot, the record includes the imports."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_resident() -> int:
    """The kernel's own record of this process, which no sampling can miss; 0 where there is none."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
