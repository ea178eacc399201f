"""The command line: what it prints where, and its exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.worlds import write_vectors
from workbench.cli import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def vectors(tmp_path: Path) -> str:
    return write_vectors(tmp_path / "vectors.npz", n_images=15)


def test_help_teaches() -> None:
    for command in ((), ("report",), ("evaluate",), ("encode",), ("train",), ("cache",), ("notebooks",), ("doctor",)):
        done = run(*command, "--help")
        assert done.exit_code == 0
    assert "workbench report audit -p dataset=folder:photos" in run("--help").output
    assert "-p bad_images=record" in run("report", "--help").output


def test_results_to_stdout_progress_to_stderr(vectors: str, tmp_path: Path) -> None:
    done = run("evaluate", "-p", f"dataset={vectors}", "-p", "n_resamples=200", "--out", str(tmp_path / "runs"))
    assert done.exit_code == 0
    assert Path(done.stdout.strip()).is_dir()
    assert "15 images, 45 texts" in done.stderr
    assert run("evaluate", "-q", "-p", f"dataset={vectors}", "--out", str(tmp_path / "runs")).stderr == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("reprot",), "did you mean 'report'"),
        (("report", "audit", "-p", "datset=x"), "did you mean 'dataset'"),
        (("report", "audit", "-p", "seed=many", "-p", "k=0"), "2 problems"),
        (("report", "nothing"), "no report is called 'nothing'"),
        (("report", "audit", "-p", "dataset=folder:/no/such/folder"), "no such folder"),
        (("report", "audit", "-p", "run=x", "-p", "seed=1"), "takes no other parameter"),
        (("evaluate", "-p", "run=x"), "belongs to `workbench report`"),
        (("evaluate", "-p", 'metrics=["hti@1"]'), "hit"),
        (("evaluate", "-p", "encoder=tiny-clop"), "tiny-clip"),
    ],
)
def test_bad_input_exits_with_2(arguments: tuple[str, ...], words: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert words in done.stderr
    assert "Traceback" not in done.output


def test_failure_exits_with_1(vectors: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.evaluate.analysis.hubness", None)
    done = run("evaluate", "-p", f"dataset={vectors}", "--out", str(tmp_path / "runs"))
    assert done.exit_code == 1
    assert ".failed" in done.stderr


def test_fail_on(vectors: str, tmp_path: Path) -> None:
    import numpy as np

    with np.load(vectors.partition(":")[2]) as file:
        world = {name: file[name] for name in file.files}
    world["text_image"] = world["text_image"][::-1].copy()
    np.savez(tmp_path / "wrong.npz", **world)
    arguments = ["evaluate", "-q", "-p", f"dataset=embeddings:{tmp_path / 'wrong.npz'}", "--out", str(tmp_path / "r")]
    assert run(*arguments).exit_code == 0
    failed = run(*arguments, "--fail-on", "problem")
    assert failed.exit_code == 3
    assert "t2i/hit@1" in failed.stderr


@pytest.mark.parametrize("report", ["audit", "hubness", "integrity", "reproducibility"])
def test_dry_run_writes_nothing(report: str, tmp_path: Path) -> None:
    done = run("report", report, "--dry-run", "-p", "n_images=20", "--out", str(tmp_path / "runs"))
    assert done.exit_code == 0, done.stderr
    for word in ("counts: 20 images", "encoding images", "time: about", "memory: about", "disk: about", "licence"):
        assert word in done.stdout
    assert not (tmp_path / "runs").exists()


def test_encode_fills_the_cache_that_evaluate_uses(tmp_path: Path) -> None:
    arguments = ["-p", "n_images=10", "-p", "seed=77", "-p", "n_resamples=200"]
    assert "60 encoded now" in run("encode", *arguments).stdout
    done = run("evaluate", *arguments, "--out", str(tmp_path))
    assert "60 from the cache, 0 encoded now" in done.stderr
    assert "tiny-clip" in run("cache", "--list").stdout
    assert "MB freed" in run("cache", "--clean").stdout
    assert "60 encoded now" in run("encode", *arguments).stdout


def test_list_and_doctor() -> None:
    listed = run("list").stdout
    for word in ("folder:PATH", "tiny-clip", "hit@10", "inverted softmax", "audit", "coco-test", "near_duplicate"):
        assert word in listed
    done = run("doctor")
    assert done.exit_code == 0, done.output
    assert "BAD" not in done.stdout


def test_notebooks_are_copied_once(tmp_path: Path) -> None:
    assert run("notebooks", str(tmp_path / "mine")).exit_code == 0
    assert (tmp_path / "mine" / "reports" / "audit.ipynb").exists()
    again = run("notebooks", str(tmp_path / "mine"))
    assert again.exit_code == 2
    assert "nothing is overwritten" in again.stderr
