"""What the README shows must run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.worlds import paired_vectors
from workbench.datasets.world import hubby_world

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")


def test_python_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"## From Python\n\n```python\n(.*?)```", README, re.DOTALL)
    np.savez(tmp_path / "vectors.npz", **paired_vectors())
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert "Interval(value=" in capsys.readouterr().out
    assert len(code.strip().splitlines()) <= 14


def test_commands_exist() -> None:
    from workbench.cli import main

    named = set(re.findall(r"^workbench ([a-z]+) ", README, re.MULTILINE))
    assert {"report", "list", "notebooks", "compare", "verify"} <= named <= set(main.commands)


def test_parameters_named_are_parameters() -> None:
    from workbench.report import notebooks, schema_of

    known = {name for report in notebooks() for name in schema_of(report).defaults}
    assert set(re.findall(r"-p (\w+)=", README)) <= known


def test_local_links_and_pictures_exist() -> None:
    root = Path(__file__).resolve().parent.parent
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (root / target).exists(), target


def test_the_example_of_a_repair_runs() -> None:
    (code,) = re.findall(r"serves them all:\n\n```python\n(.*?)```", README, re.DOTALL)
    world = hubby_world(n_gallery=40, seed=3)
    names = {"train_texts": world.query_bank, "images": world.gallery, "texts": world.queries,
             "relevance": world.relevance}  # fmt: skip
    exec(compile(code, "README.md", "exec"), names)
    assert names["lists"].k == 10
    assert names["ranks"].n_queries == len(world.queries)
