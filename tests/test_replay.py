"""A run repeated from its manifest: identical when nothing changed, and told apart when something did."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.worlds import write_vectors
from workbench.cli import main
from workbench.evaluate import evaluate
from workbench.evaluate.reproducibility.replay import replay
from workbench.runs import Run

FAST: dict[str, Any] = {"n_resamples": 100, "metrics": ["hit@1", "MRR"], "repairs": []}


class Bytes:
    """An encoder of the user's own."""

    name = "bytes"

    def encode_image(self, images: Sequence[Any]) -> np.ndarray:
        return np.stack([np.asarray(image, float).mean((0, 1)) for image in images])

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([np.bincount([ord(c) % 3 for c in text], minlength=3) + 0.1 for text in texts])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder: sources relative to it are stated as they are."""
    monkeypatch.chdir(tmp_path)
    write_vectors(tmp_path / "vectors.npz", n_images=15, captions=2)
    return tmp_path


@pytest.fixture
def run(here: Path) -> Run:
    return evaluate("embeddings:vectors.npz", out=here / "runs", **FAST)


def test_the_same_again_is_identical_and_says_what_differs_anyway(run: Run, here: Path) -> None:
    found = replay(run, out=here / "again")
    assert found.certificate.identical, str(found.certificate)
    assert found.certificate.declared == ()
    assert found.notes == ()
    assert "seconds" in {one.name.split(".")[0] for one in found.certificate.legitimate}
    assert found.run.path.parent == here / "again"
    assert found.run.metrics == run.metrics
    done = CliRunner().invoke(main, ["replay", str(run.path), "--out", str(here / "third"), "-q"])
    assert done.exit_code == 0, done.output
    assert "Identical in all" in done.output


def test_data_that_changed_meanwhile_are_found_in_their_layer(run: Run, here: Path) -> None:
    arrays = dict(np.load(here / "vectors.npz"))
    arrays["image"][2] += 0.05
    np.savez(here / "vectors.npz", **arrays)
    done = CliRunner().invoke(main, ["replay", str(run.path), "--out", str(here / "again"), "-q"])
    assert done.exit_code == 1, done.output
    assert "First observed in embeddings" in done.output


def test_other_versions_are_named(run: Run, here: Path) -> None:
    path = run.path / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["versions"]["numpy"] = "1.0.0"
    del manifest["parameters"]["short_lists"]
    manifest["parameters"]["forgotten"] = 3
    path.write_text(json.dumps(manifest), encoding="utf-8")
    found = replay(run.path, out=here / "again")
    assert found.certificate.identical
    assert any(note.startswith("not as it was: versions.numpy: '1.0.0' -> ") for note in found.notes)
    assert "parameter forgotten is not known to this version" in found.notes
    assert "parameter short_lists is new in this version: 'refuse'" in found.notes


def test_a_place_that_no_manifest_states_must_be_given(here: Path) -> None:
    absolute = f"embeddings:{here / 'vectors.npz'}"
    run = evaluate(absolute, out=here / "runs", **FAST)
    with pytest.raises(ValueError, match=r"does not say where dataset=embeddings:\.\.\./vectors\.npz lies"):
        replay(run, out=here / "again")
    assert not (here / "again").exists()
    assert replay(run, out=here / "again", given={"dataset": absolute}).certificate.identical
    done = CliRunner().invoke(main, ["replay", str(run.path), "-q", "-p", f"dataset={absolute}"])
    assert done.exit_code == 0, done.output


def test_a_source_that_is_gone_is_bad_input(run: Run, here: Path) -> None:
    (here / "vectors.npz").unlink()
    done = CliRunner().invoke(main, ["replay", str(run.path), "-q"])
    assert done.exit_code == 2
    assert "vectors.npz" in done.output


def test_withheld_names_must_be_given(here: Path) -> None:
    run = evaluate("embeddings:vectors.npz", out=here / "runs", share="no-content", **FAST)
    with pytest.raises(ValueError, match="dataset was withheld by share=no-content"):
        replay(run)
    assert replay(run, out=here / "again", given={"dataset": "embeddings:vectors.npz"}).certificate.identical


def test_an_encoder_object_must_be_passed_again(here: Path) -> None:
    run = evaluate("scenes", Bytes(), n_images=12, out=here / "runs", **FAST)
    with pytest.raises(ValueError, match="the encoder 'bytes' was an object given in Python"):
        replay(run)
    assert replay(run, out=here / "again", encoder=Bytes()).certificate.identical


def test_a_replay_changes_no_setting(run: Run) -> None:
    with pytest.raises(ValueError, match="replay repeats a run as it was, so n_resamples cannot be changed"):
        replay(run, given={"n_resamples": 200})
    done = CliRunner().invoke(main, ["replay", str(run.path), "-p", "dataset"])
    assert done.exit_code == 2
    assert "has no '='" in done.output


def test_a_comparison_is_made_again_by_its_own_command(run: Run, here: Path) -> None:
    other = here / "runs" / "other"
    shutil.copytree(run.path, other)
    manifest = json.loads((other / "manifest.json").read_text(encoding="utf-8"))
    (other / "manifest.json").write_text(json.dumps({**manifest, "report": "compare"}), encoding="utf-8")
    with pytest.raises(ValueError, match="make it again with `workbench compare`"):
        replay(other)


def test_help_says_the_exit_codes() -> None:
    words = CliRunner().invoke(main, ["replay", "--help"]).output
    assert "0 identical, 1 something differs" in words
    assert "workbench replay runs/NAME" in words
