"""A thousand runs: no growth, no kernels, one table of all of them, threads that stay within their limit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.benchmarks.many_evaluations import measure
from tests.worlds import write_vectors
from workbench.evaluate import evaluate
from workbench.files import write_json
from workbench.runs import Run, RunFolder, table
from workbench.threads import asked_threads, limited_threads, thread_count

FAST = {"n_resamples": 100}


@pytest.mark.slow
def test_fifty_evaluations_cost_fifty_times_one_and_keep_nothing(tmp_path: Path) -> None:
    cost = measure(tmp_path, 50)
    assert cost.ratio() <= 1.3
    assert cost.growth(10) < 8
    assert cost.started == 0
    assert len(list((tmp_path / "runs").iterdir())) == 53


def test_ten_evaluations_keep_nothing(tmp_path: Path) -> None:
    cost = measure(tmp_path, 10, repairs=[])
    assert cost.growth(4) < 8
    assert cost.started == 0


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs, and one of every kind that is not."""
    root = tmp_path_factory.mktemp("table")
    source = write_vectors(root / "vectors.npz", n_images=12)
    for seed, k in ((0, 5), (1, 7)):
        evaluate(source, out=root / "runs", seed=seed, k=k, metrics=["hit@1", "hit@20"], **FAST)
    for name in ("a.partial", "b.failed", "c.failed", "damaged__v__00000000", "newer__v__00000001"):
        (root / "runs" / name).mkdir()
    write_json(root / "runs" / "b.failed" / "failure.json", {"schema": 1, "stage": "searching", "error": "boom"})
    (root / "runs" / "damaged__v__00000000" / "manifest.json").write_text("{")
    write_json(root / "runs" / "newer__v__00000001" / "manifest.json", {"schema": 99})
    empty = root / "runs" / "empty__v__00000002"
    empty.mkdir()
    for name in ("manifest.json", "findings.json"):
        (empty / name).write_bytes((next(finished(root)) / name).read_bytes())
    return root


def finished(root: Path):  # type: ignore[no-untyped-def]
    return iter(sorted((root / "runs").glob("audit__*")))


def test_table_has_a_row_for_every_folder(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)
    frame = table("runs/**")
    assert list(frame["path"]) == sorted(path.relative_to(runs).as_posix() for path in (runs / "runs").iterdir())
    whole, broken = frame[frame["error"] == ""], frame[frame["error"] != ""].set_index("path")["error"]
    assert len(whole) == 2
    assert "still writing it, or was killed" in broken["runs/a.partial"]
    assert broken["runs/b.failed"] == "failed while searching: boom"
    assert broken["runs/c.failed"] == "failed"
    assert "manifest.json is damaged" in broken["runs/damaged__v__00000000"]
    assert "schema 99, this version reads 1" in broken["runs/newer__v__00000001"]
    assert "metrics.json" in broken["runs/empty__v__00000002"]
    assert len(broken) == 6


def test_table_holds_what_the_runs_hold(runs: Path) -> None:
    folders = list(finished(runs))
    frame = table(folders, intervals=True)
    assert list(frame["error"]) == ["", ""]
    assert list(frame["path"]) == [f".../runs/{path.name}" for path in folders]
    for row, path in zip(frame.to_dict("records"), folders, strict=True):
        run = Run(path)
        assert {row["seed"], row["k"]} == {run.manifest["parameters"]["seed"], run.manifest["parameters"]["k"]}
        assert row["t2i/hit@1"] == run.metrics["t2i/hit@1"]["value"]
        assert (row["t2i/hit@1 low"], row["t2i/hit@1 high"]) == (
            run.metrics["t2i/hit@1"]["low"], run.metrics["t2i/hit@1"]["high"],
        )  # fmt: skip
        assert np.isnan(row["t2i/hit@20"])
        assert row["problems"] == sum(finding.verdict == "problem" for finding in run.findings)
        assert row["seconds"] == pytest.approx(sum(run.manifest["seconds"].values()), abs=1e-3)
        assert row["content"] == run.manifest["protocol"]["content hash"]
    assert "metrics" not in frame.columns, "equal parameters are no columns"
    assert "t2i/hit@1 low" not in table(folders).columns
    assert table(runs / "runs")["path"].tolist() == table(str(runs / "runs" / "*"))["path"].tolist()
    assert isinstance(table(folders[0]), pd.DataFrame)


def test_nothing_found_says_where() -> None:
    with pytest.raises(FileNotFoundError, match=r"no run folder in 'nowhere/\*\*'"):
        table("nowhere/**")


def test_a_thousand_folders_in_seconds(runs: Path, tmp_path: Path) -> None:
    import time

    source = next(finished(runs))
    kept = {name: (source / name).read_bytes() for name in ("metrics.json", "findings.json")}
    manifest = json.loads((source / "manifest.json").read_text())
    for number in range(1000):
        folder = tmp_path / f"audit__v__{number:08x}"
        folder.mkdir()
        for name, data in kept.items():
            (folder / name).write_bytes(data)
        manifest["parameters"]["seed"] = number
        (folder / "manifest.json").write_text(json.dumps(manifest))
    start = time.process_time()
    frame = table(tmp_path)
    assert time.process_time() - start < 3
    assert sorted(frame["seed"]) == list(range(1000))


def test_the_clock_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_vectors(tmp_path / "vectors.npz", n_images=12)
    found = []
    for now in (0.0, 32_503_680_000.0):
        monkeypatch.setattr("time.time", lambda now=now: now)
        run = evaluate(source, out=tmp_path / str(now), **FAST)
        found.append({path.name: path.read_bytes() for path in run.path.rglob("*") if path.is_file()})
        monkeypatch.undo()
    for one in found:
        del one["manifest.json"]
    assert found[0] == found[1]


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "٣"])
def test_threads_must_be_a_positive_integer(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_THREADS", text)
    with pytest.raises(ValueError, match=r"WORKBENCH_THREADS is .*; expected a positive integer such as 2"):
        asked_threads()


THREADS = """
import os
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.pop(name, None)
import numpy
from workbench.threads import limited_threads, thread_count
before = thread_count()
os.environ["WORKBENCH_THREADS"] = "1"
with limited_threads() as number:
    inside = thread_count()
    import torch
    late = torch.get_num_threads()
after = thread_count()
print(before, number, inside, late, after, "OMP_NUM_THREADS" in os.environ)
"""


@pytest.mark.slow
def test_threads_are_limited_also_in_libraries_loaded_late_and_restored() -> None:
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=True)
    before, number, inside, late, after, left = done.stdout.split()
    assert (number, inside, late, left) == ("1", "1", "1", "False")
    assert int(before) == int(after) == os.cpu_count()


def test_threads_of_loaded_libraries_are_limited_and_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKBENCH_THREADS", raising=False)
    with limited_threads() as number:
        assert number is None
    before = thread_count()
    monkeypatch.setenv("WORKBENCH_THREADS", "3")
    with limited_threads() as number:
        assert (number, thread_count()) == (3, 3)
        assert os.environ["OMP_NUM_THREADS"] == "3"
    assert thread_count() == before


def test_fifty_open_folders_leave_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(50):
        RunFolder(tmp_path, "run").finish()
        RunFolder(tmp_path, "run").fail("somewhere", "boom")
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after == before
    assert len(list(tmp_path.iterdir())) == 100
