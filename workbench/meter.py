"""What a computation cost: seconds per stage and the peak memory of the whole process tree."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil


def tree_memory() -> int:
    """Resident bytes of this process and its descendants now."""
    root = psutil.Process()
    total = 0
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_info().rss
        except psutil.Error:  # a child that ended between the listing and the reading holds nothing any more
            continue
    return total


class Meter:
    """Names the stage that is running, adds up its seconds, and samples memory ten times a second.

    Use as a context manager: ``with Meter() as meter: with meter.stage("search"): ...``.
    """

    def __init__(self, *, interval: float = 0.1) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_bytes = 0
        self.current = "start"
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Meter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the sampling of memory, with a last sample; stages can still be named and timed."""
        if self._thread.is_alive():
            self._stop.set()
            self._thread.join()
            self.peak_bytes = max(self.peak_bytes, tree_memory())

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage; after an error ``current`` still names it."""
        self.current = name
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def _sample(self) -> None:
        while not self._stop.wait(self._interval):
            self.peak_bytes = max(self.peak_bytes, tree_memory())
