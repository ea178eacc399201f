"""Failures that leave something behind: they say what was being done and where what there was is kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TERMINATED = 143


class EvaluationFailed(RuntimeError):
    """A computation that stopped half-way: which stage, why, and where the partial run folder was kept."""

    def __init__(self, stage: str, folder: Path, error: Exception) -> None:
        super().__init__(f"stopped while {stage}: {type(error).__name__}: {error}\nwhat there was is kept in {folder}")
        self.stage, self.folder = stage, folder


class ReportFailed(RuntimeError):
    """The notebook stopped: what happened, and where it and the computed run are kept."""

    def __init__(self, message: str, folder: Path) -> None:
        super().__init__(message)
        self.folder = folder


@contextmanager
def terminate_politely() -> Iterator[None]:
    """Inside the block SIGTERM raises SystemExit(143) in the main thread, so that what runs can clean up after itself.

    A second SIGTERM does not interrupt the cleaning; SIGKILL still ends everything. Does nothing in other threads.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _stop(*_: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(TERMINATED)


def described(error: BaseException) -> str:
    """An exception as one line of a ``failure.json``."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, SystemExit):
        return "terminated" if error.code == TERMINATED else f"stopped with exit code {error.code}"
    return f"{type(error).__name__}: {error}"
