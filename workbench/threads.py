"""How many threads the numeric libraries may use: ``WORKBENCH_THREADS=n``, for a class on one machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

VARIABLE = "WORKBENCH_THREADS"
_READ_WHEN_LOADED = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def asked_threads() -> int | None:
    """The value of ``WORKBENCH_THREADS``; None when it is unset or empty, ValueError when it is no positive integer."""
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError(
            f"{VARIABLE} is {text!r}; expected a positive integer such as 2, or unset it to let the libraries choose"
        )
    return int(text)


@contextmanager
def limited_threads() -> Iterator[int | None]:
    """Hold numpy's BLAS, OpenMP and torch to ``WORKBENCH_THREADS`` threads inside the block, and restore them after it.

    Libraries loaded inside the block (torch is loaded late) are limited too. Without the variable nothing changes.
    """
    number = asked_threads()
    if number is None:
        yield None
        return
    from threadpoolctl import threadpool_limits

    torch_before = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else _default_threads()
    with _environment(dict.fromkeys(_READ_WHEN_LOADED, str(number))), threadpool_limits(limits=number):
        _limit_torch(number)
        try:
            yield number
        finally:
            _limit_torch(torch_before)


def thread_count() -> int:
    """The most threads that any numeric library loaded in this process may use now."""
    from threadpoolctl import threadpool_info

    counts = [pool["num_threads"] for pool in threadpool_info()]
    if "torch" in sys.modules:
        counts.append(sys.modules["torch"].get_num_threads())
    return max(counts, default=_default_threads())


def _limit_torch(number: int) -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(number)


def _default_threads() -> int:
    import psutil

    chosen = os.environ.get("OMP_NUM_THREADS", "")
    return int(chosen) if chosen.isdigit() and int(chosen) else psutil.cpu_count(logical=False) or 1


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
