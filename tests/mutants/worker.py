"""A warm process that runs the suite once per line of input: libraries are loaded once, each run is a fork.

    python -m tests.mutants.worker        (in a private copy of the checkout; speaks JSON, one line per job)

Job: {"write": {path: text}, "files": [...], "only": [test ids] or null, "record": bool, "timeout": processor seconds,
"limits": {test id: processor seconds}}. The files written are restored afterwards. Answer: {"status", "seconds" on the
clock, "processor" seconds, "failed", "tests", "calls", "told", "imported", "loaded"}.
A job {"preload": [modules]} loads libraries that a run was seen to import, so that later ones need not.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import resource
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.mutants.targets import ABSENT, MARKERS, WORDS

#: Address space of one run, so that a mutant that asks for everything is stopped, not the machine.
_MOST_BYTES = 16 * 2**30
#: How much longer than its processor time a run may take, on a busy machine, or asleep.
_CLOCK = 6.0
_TOO_LONG = (signal.SIGXCPU, signal.SIGPROF)
_STATUS = {0: "survived", 1: "killed", 2: "killed", 5: "no tests"}


class Notes:
    """Pytest plugin: runs the chosen tests in the order given; notes their time, the first failure, what they call."""

    def __init__(self, only: Sequence[str] | None, record: bool, limits: Mapping[str, float]) -> None:
        self.limits = limits
        self.only = None if only is None else {name: place for place, name in enumerate(only)}
        self.record, self.now = record, "collection"
        self.failed, self.told = "", ""
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, set[str]] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self.only is not None:
            place = self.only
            items[:] = sorted((item for item in items if item.nodeid in place), key=lambda item: place[item.nodeid])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.now = item.nodeid
        if item.nodeid in self.limits:
            signal.setitimer(signal.ITIMER_PROF, self.limits[item.nodeid])
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        """What a shared fixture calls belongs to every test of the file."""
        before, self.now = self.now, self.now if fixturedef.scope == "function" else self.now.split("::")[0]
        try:
            return (yield)
        finally:
            self.now = before

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        self._note_failure(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note_failure(report)

    def _note_failure(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.failed and not self.failed:
            self.failed, self.told = report.nodeid or "collection", str(report.longrepr)[-2000:]

    def trace(self, frame: Any, event: str, argument: Any) -> None:
        code = frame.f_code
        if "/workbench/" in code.co_filename:
            self.calls.setdefault(self.now, set()).add(f"{code.co_filename}:{code.co_firstlineno}")


class Without:
    """A finder of modules that does not know the absent ones, as if they were not installed."""

    def __init__(self, finder: Any) -> None:
        self.finder = finder

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return None if name.split(".")[0] in ABSENT else self.finder.find_spec(name, path, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.finder, name)


def warm_up() -> None:
    """Settings of every run; what must be absent cannot be imported any more."""
    import hypothesis

    hypothesis.settings.register_profile(
        "mutants", derandomize=True, database=None, deadline=None, print_blob=False,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    hypothesis.settings.load_profile("mutants")
    sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]


def _run_here(job: dict[str, Any]) -> dict[str, Any]:
    """The suite in this process; never returns to the server's state, so it is called in a fork."""
    notes = Notes(job["only"], job["record"], job["limits"])
    options = [
        "-x", "-q", "--tb=line", "--assert=plain", "--capture=sys", "-p", "no:cacheprovider", "-m", MARKERS,
        "-k", WORDS, f"--basetemp={Path.cwd().parent / 'tmp'}",
    ]  # fmt: skip
    if job["record"]:
        threading.settrace(notes.trace)
        sys.settrace(notes.trace)
    code = int(pytest.main([*options, *job["files"]], plugins=[notes]))
    sys.settrace(None)
    loaded = sorted(name for name in ABSENT if sys.modules.get(name) is not None)
    root = f"{Path.cwd()}/"
    foreign = [name for name, module in sys.modules.items() if _is_foreign(module, root)]
    calls = {test: sorted(name.removeprefix(root) for name in names) for test, names in notes.calls.items()}
    return {
        "status": _STATUS.get(code, "killed"), "failed": notes.failed, "told": notes.told, "tests": notes.seconds,
        "calls": calls, "loaded": loaded, "imported": foreign,
    }  # fmt: skip


def _is_foreign(module: Any, root: str) -> bool:
    return not (getattr(module, "__file__", None) or root).startswith(root)


def _preload(names: Sequence[str]) -> dict[str, Any]:
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    return {"status": "loaded"}


def _fork(job: dict[str, Any]) -> dict[str, Any]:
    reader, writer = os.pipe()
    began = time.perf_counter()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.close(reader)
            _isolate(job["timeout"])
            try:
                answer = _run_here(job)
            except BaseException:
                answer = {"status": "killed", "failed": "the run itself", "told": traceback.format_exc()[-2000:]}
            with os.fdopen(writer, "w") as pipe:
                json.dump(answer, pipe)
        os._exit(0)
    os.close(writer)
    text = _read(reader, _CLOCK * job["timeout"])
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    _, code, usage = os.wait4(child, 0)
    times = {"seconds": time.perf_counter() - began, "processor": usage.ru_utime + usage.ru_stime}
    if text is None or (not text and os.WIFSIGNALED(code) and os.WTERMSIG(code) in _TOO_LONG):
        return {"status": "timeout", "failed": "", **times}
    crashed = {"status": "killed", "failed": "the process ended", "told": ""}
    return {**(json.loads(text) if text else crashed), **times}


def _isolate(processor: float) -> None:
    os.setsid()
    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(quiet, stream)
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(processor), math.ceil(processor) + 2))


def _read(pipe: int, timeout: float) -> str | None:
    """All that comes until the other end closes; None when that takes too long."""
    until, parts = time.monotonic() + timeout, []
    with os.fdopen(pipe, "rb") as stream:
        while True:
            left = until - time.monotonic()
            if left <= 0 or not select.select([stream], [], [], left)[0]:
                return None
            part = os.read(stream.fileno(), 2**16)
            if not part:
                return b"".join(parts).decode()
            parts.append(part)


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """One run with some files changed, which are as before when it returns."""
    if "preload" in job:
        return _preload(job["preload"])
    before = {path: Path(path).read_bytes() for path in job["write"]}
    try:
        for path, text in job["write"].items():
            Path(path).write_text(text, encoding="utf-8")
        return _fork(job)
    finally:
        for path, content in before.items():
            Path(path).write_bytes(content)


def main() -> None:
    warm_up()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
