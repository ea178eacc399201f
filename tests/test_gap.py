"""Modality gap: planted shifts come back, noise reads as noise, and the published size on real CLIP pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from workbench.diagnostics.gap import modality_gap, share_below


def unit(vectors: np.ndarray) -> np.ndarray:
    wide = np.asarray(vectors, dtype=np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def world(
    n_images: int, n_texts: int, *, shift: float, noise: float, seed: int, dim: int = 48
) -> tuple[np.ndarray, ...]:
    """Texts are noisy copies of their images in all but the last dimension, where the sides are ``shift`` apart."""
    rng = np.random.default_rng(seed)
    owner = rng.integers(n_images, size=n_texts)
    images = rng.normal(size=(n_images, dim))
    texts = images[owner] + noise * rng.normal(size=(n_texts, dim))
    images[:, -1] = texts[:, -1] = 0
    images, texts = unit(images), unit(texts)
    images[:, -1], texts[:, -1] = shift / 2, -shift / 2
    return images, texts, owner


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5])
def test_planted_shift_comes_back(shift: float) -> None:
    """Unit vectors with +-shift/2 in one more dimension: after scaling the centroids differ there by shift / length."""
    images, texts, owner = world(2000, 3000, shift=shift, noise=0.3, seed=0)
    gap = modality_gap(images, texts, owner, n_resamples=100)
    expected = shift / np.sqrt(1 + shift**2 / 4)
    assert gap.centroid_distance == pytest.approx(expected, abs=0.02 if shift else 0.06)
    assert gap.findings()[1].verdict == "ok"


def test_numbers_by_plain_loops() -> None:
    images, texts, owner = world(7, 11, shift=0.4, noise=0.8, seed=1, dim=5)
    gap = modality_gap(images, texts, owner, n_resamples=100)
    x, y = unit(images), unit(texts)
    paired = [float(x[i] @ y[t]) for t, i in enumerate(owner)]
    wrong = [float(x[i] @ y[t]) for t in range(11) for i in range(7) if i != owner[t]]
    assert gap.paired == pytest.approx(paired, abs=1e-6)
    assert sorted(gap.unpaired) == pytest.approx(sorted(wrong), abs=1e-6)
    assert not gap.sampled
    assert gap.n_unpaired_possible == len(wrong) == 66
    assert gap.separation.value == pytest.approx(roc_auc_score([1] * 11 + [0] * 66, [*paired, *wrong]), abs=1e-9)
    within = [float(x[i] @ x[j]) for i in range(7) for j in range(7) if i != j]
    assert gap.within_image == pytest.approx(np.mean(within), abs=1e-6)
    assert gap.centroid_distance == pytest.approx(np.linalg.norm(x.mean(0) - y.mean(0)), abs=1e-6)
    assert gap.centre_spread_image == pytest.approx(np.std([row @ y.mean(0) for row in x]), abs=1e-6)
    assert gap.centre_spread_text == pytest.approx(np.std([row @ x.mean(0) for row in y]), abs=1e-6)


def test_sampled_wrong_pairs_are_wrong_pairs_with_the_right_mean() -> None:
    images, texts, owner = world(40, 130, shift=0.3, noise=0.5, seed=2)
    everything = modality_gap(images, texts, owner, n_resamples=100)
    sample = modality_gap(images, texts, owner, max_pairs=2000, seed=4, n_resamples=100)
    again = modality_gap(images, texts, owner, max_pairs=2000, seed=4, n_resamples=100)
    other = modality_gap(images, texts, owner, max_pairs=2000, seed=5, n_resamples=100)
    assert sample.sampled
    assert len(sample.unpaired) == 2000
    assert (sample.unpaired == again.unpaired).all()
    assert (sample.unpaired != other.unpaired).any()
    spread = everything.unpaired.std() / np.sqrt(2000)
    assert abs(sample.unpaired.mean() - everything.unpaired.mean()) < 4 * spread
    possible = np.round(everything.unpaired, 6)
    assert np.isin(np.round(sample.unpaired, 6), possible).all()
    assert "a sample of 2,000 wrong pairs" in sample.findings()[1].advice
    assert "2,000 of 5,070 wrong pairs, sample" in sample.table()["note"].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_noise_reads_as_noise(seed: int) -> None:
    """Without a gap the held-out classifier is at chance, even with more dimensions than items."""
    rng = np.random.default_rng(seed)
    images, texts = rng.normal(size=(90, 300)), rng.normal(size=(210, 300))
    gap = modality_gap(images, texts, rng.integers(90, size=210), n_resamples=200)
    assert abs(gap.modality_auc - 0.5) < 0.17
    ratio, separation = gap.findings()
    assert ratio.verdict == "not measurable"
    assert separation.verdict == "problem"
    assert separation.interval is not None
    assert separation.interval[0] <= 0.5


def test_the_held_out_classifier_is_not_the_in_sample_one() -> None:
    """Fitted and scored on the same noise, the same projection separates almost perfectly: why it is held out."""
    rng = np.random.default_rng(0)
    images, texts = unit(rng.normal(size=(90, 300))), unit(rng.normal(size=(210, 300)))
    direction = images.mean(axis=0) - texts.mean(axis=0)
    assert share_below(images @ direction, texts @ direction).mean() > 0.9
    held_out = [
        modality_gap(images, texts, np.arange(210) % 90, seed=seed, n_resamples=100).modality_auc for seed in range(8)
    ]
    assert abs(np.mean(held_out) - 0.5) < 0.1


def test_captions_stay_on_the_side_of_their_image() -> None:
    """Each image and its texts share one private direction: a split by item would leak it, a split by pair does not."""
    rng = np.random.default_rng(3)
    owner = np.repeat(np.arange(40), 5)
    images = np.eye(40)
    texts = -np.eye(40)[owner] + 0.01 * rng.normal(size=(200, 40))
    auc = [modality_gap(images, texts, owner, seed=seed, n_resamples=100).modality_auc for seed in range(6)]
    assert np.mean(auc) < 0.9  # knows nothing of the held-out directions; with leaked images it would be 1


def test_a_gap_that_biases_the_ranking_is_found() -> None:
    """Same centroid distance, but in one world half of the images lean towards the texts: that adds to every query."""
    images, texts, owner = world(300, 700, shift=1.0, noise=0.4, seed=5)
    fair = modality_gap(images, texts, owner, n_resamples=100)
    leaning = images.copy()
    leaning[::2, -1] -= 1.5
    leaning[1::2, -1] += 1.5
    unfair = modality_gap(leaning, texts, owner, n_resamples=100)
    assert fair.findings()[0].verdict == "ok"
    assert unfair.findings()[0].verdict == "look"
    assert unfair.centre_ratio > 3 * fair.centre_ratio


def test_texts_without_an_image_count_for_their_side_only() -> None:
    images, texts, owner = world(20, 50, shift=0.4, noise=0.4, seed=6)
    lonely = np.where(np.arange(50) < 10, -1, owner)
    gap = modality_gap(images, texts, lonely, n_resamples=100)
    assert len(gap.paired) == 40
    assert gap.n_texts == len(gap.map_texts) == 50
    assert gap.n_unpaired_possible == 40 * 19
    assert gap.centroid_distance == modality_gap(images, texts, owner, n_resamples=100).centroid_distance


def test_map_is_a_projection_with_a_fixed_sign() -> None:
    images, texts, owner = world(30, 70, shift=1.5, noise=0.4, seed=7, dim=9)
    gap = modality_gap(images, texts, owner, n_resamples=100)
    assert (gap.map_images.shape, gap.map_texts.shape) == ((30, 2), (70, 2))
    x, y = unit(images), unit(texts)
    both = np.concatenate([x - (x.mean(0) + y.mean(0)) / 2, y - (x.mean(0) + y.mean(0)) / 2])
    weights = np.sqrt(np.concatenate([np.full(30, 1 / 60), np.full(70, 1 / 140)]))[:, None]
    _, singular, axes = np.linalg.svd(both * weights, full_matrices=False)
    projected = both @ axes[:2].T
    found = np.concatenate([gap.map_images, gap.map_texts])
    assert np.abs(found) == pytest.approx(np.abs(projected), abs=1e-5)
    assert gap.map_variance == pytest.approx(tuple((singular**2 / (singular**2).sum())[:2]), abs=1e-6)
    loadings = (both * weights**2).T @ found
    assert (loadings[np.abs(loadings).argmax(axis=0), [0, 1]] > 0).all()
    flipped = modality_gap(images[::-1], texts, 29 - owner, n_resamples=100)
    assert flipped.map_images[::-1] == pytest.approx(gap.map_images, abs=1e-6)
    assert (gap.map_images[:, 0].mean() > 0) != (gap.map_texts[:, 0].mean() > 0)


def test_one_dimension_has_a_map_too() -> None:
    gap = modality_gap([[1.0], [-1.0], [2.0]], [[1.0], [1.0]], [0, 2], n_resamples=100)
    assert gap.map_images[:, 1].tolist() == [0, 0, 0]
    assert gap.map_variance == (1.0, 0.0)


@pytest.mark.parametrize(
    ("images", "texts", "owner", "message"),
    [
        (np.ones((3, 4)), np.ones((5, 4)), [0, 1, 2, 3, 0], r"-1..2 .-1: no image.; got 0..3"),
        (np.ones((3, 4)), np.ones((5, 4)), [0, 1], r"text_image \(2,\) do not fit"),
        (np.ones((3, 4)), np.ones((5, 6)), [0, 1, 2, 0, 0], r"images \(3, 4\), texts \(5, 6\)"),
        (np.ones((1, 4)), np.ones((5, 4)), [0] * 5, "at least two images"),
        (np.ones((3, 4)), np.ones((5, 4)), [-1] * 5, "0 texts with an image"),
        (np.zeros((3, 4)), np.ones((5, 4)), [0] * 5, "length zero"),
        (np.full((3, 4), np.nan), np.ones((5, 4)), [0] * 5, "NaN"),
    ],
)
def test_errors_say_what_came(images: np.ndarray, texts: np.ndarray, owner: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        modality_gap(images, texts, owner)


def test_inputs_are_left_alone_and_results_hold_together() -> None:
    images, texts, owner = world(20, 50, shift=0.4, noise=0.4, seed=8)
    copies = images.copy(), texts.copy(), owner.copy()
    gap = modality_gap(images, texts, owner, n_resamples=100)
    for before, after in zip(copies, (images, texts, owner), strict=True):
        assert (before == after).all()
    assert gap.flat() == modality_gap(images, texts, owner, n_resamples=100).flat()
    assert gap.flat()["gap/centroid_distance"] == gap.centroid_distance
    assert "<table" in gap._repr_html_()
    assert gap.table().loc["distance of the centroids", "value"] == gap.centroid_distance


def test_constant_vectors_have_no_margin() -> None:
    gap = modality_gap(np.ones((4, 3)), np.ones((9, 3)), np.arange(9) % 4, n_resamples=100)
    assert gap.separation.value == 0.5
    assert [finding.verdict for finding in gap.findings()] == ["not measurable", "problem"]


def test_separation_is_that_of_pairs_and_says_so() -> None:
    """Texts at different distances from all images: every text finds its image, yet pairs overlap across texts."""
    rng = np.random.default_rng(0)
    own = unit(rng.normal(size=(200, 64)))
    common, share = np.eye(64)[0], rng.uniform(-1, 1, size=(200, 1))
    images, texts = unit(0.6 * own + 0.8 * common), unit(np.sqrt(1 - share**2) * own + share * common)
    gap = modality_gap(images, texts, np.arange(200), n_resamples=100)
    scores = texts @ images.T
    assert (scores.argmax(axis=1) == np.arange(200)).mean() > 0.95
    within = np.mean([(row[i] > np.delete(row, i)).mean() for i, row in enumerate(scores)])
    wrong = scores[~np.eye(200, dtype=bool)]
    pooled = np.mean([(right > wrong).mean() for right in np.diag(scores)])
    assert gap.separation.value == pytest.approx(pooled, abs=1e-4)
    assert within > 0.99 > 0.8 > pooled
    said = gap.findings()[1].advice
    assert "A right pair is closer than a wrong one, of whichever text" in said
    assert "which no ranking of images sees" in said


def test_texts_of_one_image_give_no_interval() -> None:
    gap = modality_gap(np.eye(3), np.eye(3)[[1, 1]], [1, 1], n_resamples=100)
    assert [finding.verdict for finding in gap.findings()] == ["not measurable"] * 2
    assert "All texts belong to one image" in gap.findings()[1].advice


def test_published_size_on_clip(shared: Callable[[str], Path]) -> None:
    """The paper gives 0.82 for CLIP on 5,000 COCO pairs; these are 500 of such pairs."""
    pairs = np.load(shared("data/pairs_modality_gap/clip.npz"))
    gap = modality_gap(pairs["image"], pairs["text"][:450], np.arange(450))
    assert gap.centroid_distance == pytest.approx(0.82, abs=0.05)
    assert gap.modality_auc == 1.0
    assert gap.separation.value > 0.98
    assert [finding.verdict for finding in gap.findings()] == ["ok", "ok"]
    assert "neither good nor bad" in gap.findings()[0].advice


@pytest.mark.parametrize("name", ["clip_random_init", "convirt_random_init"])
def test_random_networks_have_a_gap_and_a_perfect_classifier_too(shared: Callable[[str], Path], name: str) -> None:
    pairs = np.load(shared(f"data/pairs_modality_gap/{name}.npz"))
    gap = modality_gap(pairs["image"], pairs["text"][:450], np.arange(450))
    assert gap.centroid_distance > 1
    assert gap.modality_auc == pytest.approx(1.0, abs=1e-3)
    assert [finding.verdict for finding in gap.findings()] == ["not measurable", "problem"]
    assert abs(gap.separation.value - 0.5) < 0.03


@pytest.mark.parametrize("seed", range(3))
def test_relative_gap_by_plain_loops(seed: int) -> None:
    """The authors' arithmetic: distances (1 - cosine) / 2, means over pairs and over different items of a side."""
    images, texts, owner = world(9, 14, shift=0.8, noise=0.5, seed=seed, dim=6)
    x, y = unit(images), unit(texts)
    matching = np.mean([(1 - x[i] @ y[t]) / 2 for t, i in enumerate(owner)])
    within = [
        np.mean([(1 - side[i] @ side[j]) / 2 for i in range(len(side)) for j in range(len(side)) if i != j])
        for side in (x, y)
    ]
    gap = modality_gap(images, texts, owner, n_resamples=100)
    assert gap.relative_gap == pytest.approx(matching / (matching + sum(within) / 2), abs=1e-6)
    assert gap.flat()["gap/relative"] == gap.relative_gap == gap.table().loc["relative gap", "value"]


def test_relative_gap_at_its_ends() -> None:
    same = np.eye(4)[[0, 1, 2, 3]]
    assert modality_gap(same, same, np.arange(4), n_resamples=100).relative_gap == pytest.approx(0)
    assert np.isnan(modality_gap(np.ones((4, 3)), np.ones((9, 3)), np.arange(9) % 4, n_resamples=100).relative_gap)
    rng = np.random.default_rng(0)
    unrelated = modality_gap(rng.normal(size=(300, 200)), rng.normal(size=(400, 200)), np.arange(400) % 300)
    assert unrelated.relative_gap == pytest.approx(0.5, abs=0.01)
    cones = modality_gap(rng.normal(size=(30, 9)) + 500, rng.normal(size=(40, 9)) - 500, np.arange(40) % 30)
    assert cones.relative_gap > 0.99


@pytest.mark.slow
def test_centre_ratio_fires_and_stays_quiet() -> None:
    """Planted: half of the images lean over the gap. Clean: a gap of the same kind that all items share."""
    fired = quiet = 0
    for seed in range(20):
        images, texts, owner = world(150, 400, shift=1.0, noise=0.4, seed=seed)
        quiet += modality_gap(images, texts, owner, n_resamples=100).findings()[0].verdict == "ok"
        images[::2, -1] -= 1.5
        images[1::2, -1] += 1.5
        fired += modality_gap(images, texts, owner, n_resamples=100).findings()[0].verdict == "look"
    assert (fired, quiet) == (20, 20), f"missed {20 - fired} of 20 planted, {20 - quiet} false alarms in 20"
