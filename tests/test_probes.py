"""Stability probes: each finds the change that was planted in the encoder, the null control reads zero."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.worlds import write_vectors
from workbench.datasets import Side
from workbench.encoders import load
from workbench.evaluate import Prepared, audit_schema, prepare
from workbench.evaluate.reproducibility.probe_changes import PROBES, _seeded
from workbench.evaluate.reproducibility.probes import NULL, ProbeRow, Probes, check_probes, probe
from workbench.evaluate.reproducibility.resized import resized
from workbench.metrics import ranks_from_lists
from workbench.types import Neighbours, Relevance

HOW: dict[str, Any] = {"metrics": ["hit@1", "MRR"], "n_resamples": 100, "n_images": 20, "k": 5, "batch_size": 16}


class Planted:
    """Pictures and texts as vectors from their own content; one thing spoils them."""

    name = "planted"

    def __init__(self, spoil: str = "") -> None:
        self.spoil, self.calls = spoil, 0

    def _vectors(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        self.calls += 1
        noise = np.zeros((len(rows), 8))
        if self.spoil == "batch":
            noise += len(rows) / 16 * np.arange(8)
        if self.spoil == "seed":
            noise += np.random.normal(size=noise.shape)  # noqa: NPY002
        if self.spoil == "order":
            noise[:, 0] += 3 * np.arange(len(rows))
        if self.spoil == "calls":
            noise += self.calls * np.arange(8)
        return np.stack(rows) + noise

    def encode_image(self, images: Sequence[Any]) -> np.ndarray:
        return self._vectors([np.resize(np.asarray(image, float).mean((0, 1)), 8) / 60 for image in images])

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        return self._vectors([np.bincount([ord(c) % 8 for c in text], minlength=8).astype(float) for text in texts])


def world(encoder: Any, **parameters: Any) -> tuple[Prepared, dict[str, Any]]:
    chosen = {**audit_schema().defaults, "probe_images": 0, **HOW, **parameters}
    return prepare(chosen, encoder), chosen


def probed(encoder: Any, names: Sequence[str], **parameters: Any) -> Probes:
    prepared, chosen = world(encoder, **parameters)
    return probe(prepared, names, chosen)


def moved(found: Probes) -> set[str]:
    return {row.probe for row in found.rows if not row.reason and not row.still}


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        ("", set()),
        ("batch", {"batch_size"}),
        ("order", {"batch_size", "item_order"}),
        ("calls", {NULL, "batch_size", "item_order"}),
    ],
)
def test_what_was_planted_is_what_moves(spoil: str, expected: set[str]) -> None:
    names = ["batch_size", "item_order", "tie_order"] if spoil else ["batch_size", "item_order", "threads", "seed"]
    found = probed(Planted(spoil), names)
    assert moved(found) == expected
    findings = {one.name: one for one in found.findings()}
    assert findings[f"probe/{NULL}"].verdict == ("problem" if NULL in expected else "ok")
    if not spoil:
        assert all(row.angle == 0 and row.difference == 0 for row in found.rows)


def test_hidden_randomness_is_found_and_the_generators_are_put_back() -> None:
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    with _seeded(7):
        assert np.random.random() != expected  # noqa: NPY002
    assert np.random.random() == expected  # noqa: NPY002
    assert {NULL, "seed"} <= moved(probed(Planted("seed"), ["seed"]))


def test_precision_of_ready_made_vectors_is_float16_by_hand(tmp_path: Path) -> None:
    source = write_vectors(tmp_path / "v.npz", n_images=30, captions=2, noise=2.0)
    chosen = {**audit_schema().defaults, **HOW, "dataset": source, "n_images": 0, "probe_images": 0}
    prepared = prepare(chosen)
    found = probe(prepared, ["precision"], chosen)
    images, texts = (side.vectors.astype(np.float64) for side in (prepared.images, prepared.texts))
    halves = [side.astype(np.float16).astype(np.float64) for side in (images, texts)]
    halves = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in halves]
    cosines = [(a * b).sum(1) / np.linalg.norm(a, axis=1) for a, b in zip((images, texts), halves, strict=True)]
    row = next(row for row in found.rows if row.probe == "precision")
    angle = np.degrees(np.arccos(np.minimum(1, np.concatenate(cosines)))).max()
    assert row.angle == pytest.approx(angle, rel=0.02)
    assert row.n == 60
    before, after = np.argsort(-(texts @ images.T), 1)[:, :5], np.argsort(-(halves[1] @ halves[0].T), 1)[:, :5]
    assert row.replaced == (np.sort(before, 1) != np.sort(after, 1)).any(1).sum()
    assert row.replaced + row.reordered == (before != after).any(1).sum()


def test_truncation_and_tie_order_by_hand(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, own = (
        np.repeat(np.eye(8), 3, axis=0).astype(np.float32),
        np.repeat(np.arange(24), 2),
    )  # groups of three ties
    texts = (images[own] + 0.7 * rng.normal(size=(48, 8))).astype(np.float32)
    np.savez(tmp_path / "v.npz", image=images, text=texts, text_image=own)
    chosen = {
        **audit_schema().defaults, **HOW, "dataset": f"embeddings:{tmp_path / 'v.npz'}", "n_images": 0, "depth": 6,
        "metrics": ["hit@1", "MRR"],
    }  # fmt: skip
    prepared = prepare(chosen)
    rows = {(row.probe, row.direction, row.metric): row for row in
            probe(prepared, ["tie_order", "truncation"], chosen).rows}  # fmt: skip
    scores = texts.astype(np.float64) @ images.T
    right = own[:, None] == np.arange(24)

    up = np.mean([right[q, np.lexsort((np.arange(24), -scores[q].round(9)))[0]] for q in range(48)])
    down = np.mean([right[q, np.lexsort((-np.arange(24), -scores[q].round(9)))[0]] for q in range(48)])
    tied = rows["tie_order", "t2i", "hit@1"]
    assert (tied.before, tied.after) == (pytest.approx(up), pytest.approx(down))
    assert tied.replaced + tied.reordered > 0
    assert tied.angle == 0
    assert ("tie_order", "t2i", "MRR") not in rows  # looks at no fixed number of places
    short = rows["truncation", "t2i", "MRR"]
    order = np.argsort(-scores, 1, kind="stable")[:, :6]
    lists = Neighbours(order, np.take_along_axis(scores.round(9), order, 1), 24, True, np.zeros(48, bool))
    ranks = ranks_from_lists(lists, Relevance.from_pairs(np.arange(48), own, n_queries=48, n_gallery=24))
    inside = ranks.better < 24
    places = [
        np.mean(1 / (b + 1 + np.arange(t + 1))) for b, t in zip(ranks.better[inside], ranks.tied[inside], strict=True)
    ]
    assert short.after == pytest.approx(sum(places) / 48)
    assert short.difference < 0


def test_ready_made_vectors_have_no_encoder_to_probe(tmp_path: Path) -> None:
    source = write_vectors(tmp_path / "v.npz", n_images=12, captions=2)
    chosen = {**audit_schema().defaults, **HOW, "dataset": source, "n_images": 0}
    lines: list[str] = []
    found = probe(prepare(chosen), ["all"], chosen, say=lines.append)
    reasons = {row.probe for row in found.rows if row.reason}
    assert reasons == {"seed", "batch_size", "resize"}
    assert lines[0] == "probes: 12 images and 24 texts searched 9 times, seconds"
    assert {row.probe for row in found.rows} == {NULL, *PROBES}


def test_off_by_default_and_names_are_checked() -> None:
    assert probe(None, [], {}).rows == ()  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no probe is called 'sede'"):
        check_probes(["sede"])


def test_the_first_images_only() -> None:
    found = probed(Planted(), ["truncation"], probe_images=7)
    assert found.n_images == 7
    assert {row.n for row in found.rows if row.direction == "i2t"} == {7}


def test_an_encoder_that_says_nothing_of_its_preprocessing_is_not_resized() -> None:
    found = probed(Planted(), ["resize"])
    (row,) = [row for row in found.rows if row.probe == "resize"]
    assert "does not say how it resizes" in row.reason


def noisy_pictures(n: int = 4) -> Side:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 96, 96, 3), dtype=np.uint8)
    return Side("image", tuple(f"i{place}" for place in range(n)), list(pixels))


def test_another_interpolation_is_that_of_torchvision() -> None:
    encoder, side = load("tiny-clip"), noisy_pictures()
    other, what = resized(encoder, side)
    assert what == "resized bicubic → bilinear"
    from PIL import Image
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import normalize, resize, to_tensor

    stated = encoder.describe()["preprocess"]  # type: ignore[attr-defined]
    picture = Image.fromarray(side.content[0])
    small = resize(picture, [64, 64], interpolation=InterpolationMode.BILINEAR)
    expected = normalize(to_tensor(small), stated["mean"], stated["std"]).numpy()
    assert np.array_equal(other.prepare("image", [picture])[0], expected)
    assert not np.array_equal(encoder.prepare("image", [picture])[0], expected)  # type: ignore[attr-defined]
    assert np.array_equal(other.prepare("text", ["a dot"]), encoder.prepare("text", ["a dot"]))  # type: ignore[attr-defined]
    assert other.describe()["preprocess"]["interpolation"] == "bilinear"


def test_preprocessing_that_is_not_the_described_one_is_refused() -> None:
    encoder = load("tiny-clip")
    about = encoder.describe()  # type: ignore[attr-defined]
    about["preprocess"]["mean"] = [0.1, 0.1, 0.1]
    encoder.describe = lambda: about  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="does not give its own pixels"):
        resized(encoder, noisy_pictures())


def test_the_built_in_model_under_bfloat16_turns_its_vectors() -> None:
    found = probed(None, ["precision"], n_images=12)
    rows = [row for row in found.rows if row.probe == "precision"]
    assert all(0.01 < row.angle < 5 for row in rows)
    assert moved(found) == {"precision"}
    assert "torch" in sys.modules


def test_withheld_contents_cannot_be_encoded_again() -> None:
    from workbench.evaluate.share import withheld

    prepared, chosen = world(Planted(), share="no-content")
    found = probe(withheld(prepared, chosen), ["batch_size", "truncation"], chosen)
    reasons = {row.probe: row.reason for row in found.rows}
    assert "share=no-content keeps the contents" in reasons["batch_size"]
    assert not reasons["truncation"]


def test_without_a_right_pair_no_number_is_claimed_to_move(tmp_path: Path) -> None:
    write_vectors(tmp_path / "world.npz", n_images=9, captions=2, dim=4)
    arrays = dict(np.load(tmp_path / "world.npz"))
    np.savez(tmp_path / "world.npz", **{**arrays, "text_image": np.full_like(arrays["text_image"], -1)})
    found = probed(None, ["precision", "tie_order"], dataset=f"embeddings:{tmp_path / 'world.npz'}", n_images=0)
    assert {one.verdict for one in found.findings()} == {"not measurable"}
    assert all("nan" not in one.advice for one in found.findings())


def test_a_null_control_that_moves_is_a_problem_without_any_right_pair_too() -> None:
    row = ProbeRow(NULL, "searched twice", "t2i", "hit@1", lists=7, k=3, replaced=2, angle=0.0)
    (found,) = Probes((row,)).findings()
    assert (found.verdict, found.value, found.unit) == ("problem", 2, "")
    assert "2 of 7 lists of 3 change" in found.advice
    assert "nan" not in found.advice


def test_changed_lists_are_counted_among_all_lists(tmp_path: Path) -> None:
    write_vectors(tmp_path / "world.npz", n_images=9, captions=2, dim=4)
    arrays = dict(np.load(tmp_path / "world.npz"))
    arrays["text_image"][3:] = -1
    arrays["image"][:] = arrays["image"][0]
    np.savez(tmp_path / "world.npz", **arrays)
    found = probed(None, ["tie_order"], dataset=f"embeddings:{tmp_path / 'world.npz'}", n_images=0)
    (row,) = [row for row in found.rows if (row.probe, row.direction, row.metric) == ("tie_order", "t2i", "hit@1")]
    assert (row.n, row.lists, row.replaced) == (3, 18, 18)
    assert "18 of 18 lists of 5" in found.findings()[1].advice


def test_a_batch_larger_than_the_data_is_cut_nonetheless() -> None:
    found = probed(Planted("batch"), ["batch_size"], batch_size=4096)
    assert moved(found) == {"batch_size"}
    (what,) = {row.changed for row in found.rows if row.probe == "batch_size"}
    assert what == "batches of 4096 → 10"


def test_autocast_that_reaches_no_vector_is_no_evidence() -> None:
    pytest.importorskip("torch")
    found = {one.name: one for one in probed(Planted(), ["precision"]).findings()}
    assert found["probe/precision"].verdict == "not measurable"
