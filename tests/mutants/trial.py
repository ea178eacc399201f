"""Private copies of the checkout, the clean run, and the trial of each mutant."""

from __future__ import annotations

import compileall
import json
import os
import py_compile
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mutants.find import Mutant
from tests.mutants.targets import package_of, suite

#: A test may take this many times as long as on the clean code, and this many seconds more, of processor time.
_PATIENCE, _GRACE = 5.0, 4.0


class TrialError(Exception):
    """The suite does not pass, or does not run, before anything was changed."""


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant. status : killed, survived or timeout; by : the first test that failed."""

    mutant: Mutant
    status: str
    by: str
    seconds: float


@dataclass(frozen=True)
class Clean:
    """The clean run of a package's suite: seconds per test, tests per function (file:line), seconds in all.

    processor : of the seconds, those that the processor worked for it.
    """

    tests: dict[str, float]
    callers: dict[str, list[str]]
    files: list[str]
    seconds: float
    processor: float

    def by_file(self) -> dict[str, float]:
        """Seconds of the tests of each file, longest first, doctests together."""
        found: dict[str, float] = {}
        for test, seconds in self.tests.items():
            file = test.split("::")[0]
            name = file if file.startswith("tests/") else "doctests"
            found[name] = found.get(name, 0.0) + seconds
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def tests_of(self, mutant: Mutant) -> list[str] | None:
        """Tests that enter the mutant's function, quickest first; None (all) for what belongs to no function."""
        if not mutant.scope:
            return None
        return self.callers.get(f"{mutant.file}:{mutant.scope}", [])


class Worker:
    """A process of :mod:`tests.mutants.worker` in its own copy of the checkout."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.checkout = compiled(copy_of(root, folder))
        environment = {key: value for key, value in os.environ.items() if key not in ("CI", "PYTEST_ADDOPTS")}
        environment |= {
            "PYTHONPATH": str(self.checkout), "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.mutants.worker"], cwd=self.checkout, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.jobs, self.answers = self.process.stdin, self.process.stdout
        if self.answers.readline().strip() != "ready":
            raise TrialError("the worker did not start; its message is above")

    def run(
        self, files: Sequence[str], *, write: dict[str, str] | None = None, only: Sequence[str] | None = None,
        record: bool = False, timeout: float = 600.0, limits: Mapping[str, float] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        asked = {"files": list(files), "only": only, "record": record, "timeout": timeout}
        return self._ask({**asked, "write": write or {}, "limits": dict(limits or {})})

    def preload(self, names: Sequence[str]) -> None:
        self._ask({"preload": list(names)})

    def _ask(self, job: dict[str, Any]) -> dict[str, Any]:
        self.jobs.write(json.dumps(job) + "\n")
        self.jobs.flush()
        line = self.answers.readline()
        if not line:
            raise TrialError("the worker ended without an answer")
        return dict(json.loads(line))

    def close(self) -> None:
        self.jobs.close()
        self.process.wait(timeout=60)


def copy_of(root: Path, folder: Path) -> Path:
    """The package, the tests and the settings in ``folder/checkout``, the reference data linked beside them."""
    checkout = folder / "checkout"
    checkout.mkdir(parents=True)
    ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for name in ("workbench", "tests"):
        shutil.copytree(root / name, checkout / name, ignore=ignore)
    shutil.copy(root / "pyproject.toml", checkout)
    if (root.parent / "shared").exists():
        (folder / "shared").symlink_to((root.parent / "shared").resolve())
    return checkout


def compiled(checkout: Path) -> Path:
    """Byte code in advance, checked by content: a changed file is never mistaken for the old one."""
    mode = py_compile.PycInvalidationMode.CHECKED_HASH
    for name in ("workbench", "tests"):
        compileall.compile_dir(checkout / name, quiet=2, invalidation_mode=mode)
    return checkout


@contextmanager
def workers(root: Path, folder: Path, jobs: int) -> Iterator[list[Worker]]:
    with ExitStack() as stack:
        started = []
        for number in range(jobs):
            worker = Worker(root, folder / str(number))
            stack.callback(worker.close)
            started.append(worker)
        yield started


def clean_run(started: Sequence[Worker], package: str) -> Clean:
    """The suite of a package on the code as it is, twice: once to note which test calls what, once to take the time."""
    files = suite(started[0].checkout, package)
    first = _passed(started[0].run(files, record=True), package)
    for worker in started:
        worker.preload(first["imported"])
    second = _passed(started[0].run(files), package)
    tests = dict(sorted(second["tests"].items(), key=lambda item: item[1]))
    return Clean(tests, _callers(first["calls"], list(tests)), files, second["seconds"], second["processor"])


def _passed(answer: dict[str, Any], package: str) -> dict[str, Any]:
    if answer["status"] != "survived":
        raise TrialError(
            f"the suite of {package} does not pass before anything is changed ({answer['status']} after "
            f"{answer['seconds']:.0f} s): {answer['failed']}\n{answer.get('told', '')}"
        )
    if answer["loaded"]:
        raise TrialError(f"the suite of {package} is not free of {', '.join(answer['loaded'])}")
    return answer


def _callers(calls: dict[str, list[str]], tests: Sequence[str]) -> dict[str, list[str]]:
    """Function -> tests that enter it. Calls at collection or in shared fixtures count for every test they serve."""
    found: dict[str, set[str]] = {}
    for who, functions in calls.items():
        mine = [who] if who in tests else [test for test in tests if who in ("collection", test.split("::")[0])]
        for function in functions:
            found.setdefault(function, set()).update(mine)
    return {function: [test for test in tests if test in those] for function, those in found.items()}


def try_one(worker: Worker, mutant: Mutant, source: bytes, clean: Clean) -> Verdict:
    """First the tests that enter the function; what survives them meets the others of its package."""
    write = {mutant.file: mutant.apply(source).decode()}
    chosen, seconds = clean.tests_of(mutant), 0.0
    others = None if chosen is None else [test for test in clean.tests if test not in set(chosen)]
    for only in [chosen] if chosen is None else [chosen, others]:
        tests = list(clean.tests) if only is None else only
        files = [file for file in clean.files if any(test.startswith(f"{file}::") for test in tests)]
        if files:
            limits = {test: _GRACE + _PATIENCE * clean.tests[test] for test in tests}
            timeout = 10 * _GRACE + _PATIENCE * sum(clean.tests[test] for test in tests)
            answer = worker.run(files, write=write, only=only, timeout=timeout, limits=limits)
            seconds += answer["seconds"]
            if answer["status"] != "survived":
                return Verdict(mutant, answer["status"], answer["failed"], seconds)
    return Verdict(mutant, "survived", "", seconds)


def try_all(
    started: Sequence[Worker], mutants: Sequence[Mutant], sources: dict[str, bytes], clean: dict[str, Clean],
    progress: Callable[[Verdict], None],
) -> list[Verdict]:  # fmt: skip
    """Every mutant in a free worker; the verdicts in the order of the mutants."""
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for place in range(len(mutants)):
        waiting.put(place)
    verdicts: dict[int, Verdict] = {}
    errors: list[BaseException] = []

    def work(worker: Worker) -> None:
        try:
            while not errors:
                place = waiting.get_nowait()
                mutant = mutants[place]
                verdicts[place] = try_one(worker, mutant, sources[mutant.file], clean[package_of(mutant.file)])
                progress(verdicts[place])
        except queue.Empty:
            return
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in started]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [verdicts[place] for place in sorted(verdicts)]


def estimate(mutants: Sequence[Mutant], clean: dict[str, Clean], jobs: int, share: float = 0.15) -> float:
    """Seconds: a start each, half of the chosen tests, and the whole suite for the share that survives."""
    total = 0.0
    for mutant in mutants:
        run = clean[package_of(mutant.file)]
        chosen = run.tests_of(mutant)
        tests = run.tests if chosen is None else chosen
        total += 1.0 + 0.5 * sum(run.tests[test] for test in tests) + share * run.seconds
    return total / jobs
