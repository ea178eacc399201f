"""What a benchmark says about memory and turns is true, and a competitor that breaks off is an error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks.measure import BenchmarkError, Checked, Competitor, Group, measure


def nothing(**settings: Any) -> dict[str, Any]:
    return settings


def use_memory(inputs: Mapping[str, Any]) -> int:
    if "path" in inputs:
        return int(np.memmap(inputs["path"], np.uint8, "r").sum(dtype=np.int64))
    return int(np.ones(inputs["bytes"], np.uint8).sum(dtype=np.int64))


def note_turn(inputs: Mapping[str, Any]) -> None:
    with open(inputs["log"], "a") as file:
        file.write(inputs["own"])


def crash(inputs: Mapping[str, Any]) -> None:
    raise ZeroDivisionError("no such thing")


def end(inputs: Mapping[str, Any]) -> None:
    os._exit(3)


def say(inputs: Mapping[str, Any], result: Any, *, equal: bool = True, number: float = 1.0) -> Checked:
    return Checked(equal, "as it is", {"x": number})


def competitor(name: str, run: Callable[..., Any], check: Callable[..., Checked] = say, **given: Any) -> Competitor:
    return Competitor(name, nothing, run, check, given)


def test_memory_turns_and_numbers(tmp_path: Path) -> None:
    size = 80 * 10**6
    (tmp_path / "file").write_bytes(bytes(size))
    log = str(tmp_path / "log")
    rows = measure(
        Group("one", (
            competitor("anonymous", use_memory, bytes=size),
            competitor("mapped", use_memory, partial(say, number=1.1), path=str(tmp_path / "file")),
            competitor("A", note_turn, log=log, own="A"),
            competitor("B", note_turn, partial(say, equal=False), log=log, own="B"),
        )), threads=1, repeats=2,
    )  # fmt: skip
    anonymous, mapped, _, wrong = rows
    assert (tmp_path / "log").read_text() == "ABABAB"
    assert [len(row.seconds) for row in rows] == [2] * 4
    assert 0.99 * size <= anonymous.resident < 1.3 * size
    assert 0.99 * size <= mapped.resident < 1.3 * size
    if sys.platform == "linux":
        assert 0.9 * size < anonymous.anonymous < 1.3 * size
        assert mapped.anonymous < 0.3 * size
    assert not mapped.equal
    assert mapped.words.startswith("x is 1.1, but 1 in anonymous")
    assert not wrong.equal


@pytest.mark.parametrize(("run", "words"), [(crash, "ZeroDivisionError: no such thing"), (end, "exit code 3")])
def test_a_competitor_that_breaks_off_is_an_error(run: Callable[..., Any], words: str) -> None:
    with pytest.raises(BenchmarkError, match=words):
        measure(Group("one", (competitor("bad", run),)), threads=1, repeats=1)
