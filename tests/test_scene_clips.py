"""Clips of scenes: sentences are about what they say they are about, splits share nothing, dials do what they say."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pytest

from workbench.datasets.scenes import render
from workbench.datasets.scenes.clips import Clips, clip_vectors, clips

SMALL = clips(n_clips=15, n_scenes=3, frames_per_scene=2, sentences_per_clip=2, seed=3)
QUIET = {"noise": (0.0, 0.0, 0.0), "text_noise": 0.0, "cone": 0.0}
GOLDEN = "080f30b99db150be"


def test_clips_are_the_stored_ones_on_every_machine() -> None:
    pictures = b"".join(SMALL.frames(clip, size=32).tobytes() for clip in range(3))
    found = hashlib.sha256(pictures + "\n".join(SMALL.sentences).encode()).hexdigest()[:16]
    assert found == GOLDEN


def test_a_sentence_is_true_of_the_scene_it_is_about() -> None:
    assert len(SMALL) == 15
    assert len(SMALL.sentences) == 30
    assert len(set(SMALL.about.tolist())) == 3
    for statement, owner, about in zip(SMALL.statements, SMALL.owner, SMALL.about, strict=True):
        assert statement.true_of(SMALL.scenes[owner][about])


def test_truth_is_that_of_asking_every_pair() -> None:
    true = SMALL.relevance
    assert (true.n_queries, true.n_gallery) == (30, 15)
    for q, statement in enumerate(SMALL.statements):
        expected = [c for c, clip in enumerate(SMALL.scenes) if any(statement.true_of(scene) for scene in clip)]
        assert true.row(q)[0].tolist() == expected
        scenes = [c * 3 + j for c, clip in enumerate(SMALL.scenes) for j in range(3) if statement.true_of(clip[j])]
        assert SMALL.scene_relevance.row(q)[0].tolist() == scenes


def test_frames_are_pictures_of_the_scenes_in_order() -> None:
    frames = SMALL.frames(4, size=64)
    assert frames.shape == (6, 64, 64, 3)
    assert frames.dtype == np.uint8
    assert SMALL.frame_scene.tolist() == [0, 0, 1, 1, 2, 2]
    for place, scene in enumerate(SMALL.scenes[4]):
        np.testing.assert_array_equal(frames[2 * place], render(scene))
        np.testing.assert_array_equal(frames[2 * place + 1], render(scene, shift=(0, 1)))
    assert (SMALL.frames(4, size=128)[1][:, 2:] == SMALL.frames(4, size=128)[0][:, :-2]).all()


def test_splits_share_no_scene_and_more_clips_begin_with_the_fewer() -> None:
    contents = {
        split: {scene.content for clip in clips(n_clips=40, split=split).scenes for scene in clip}
        for split in ("train", "val", "test")
    }
    assert not contents["train"] & contents["test"]
    assert not contents["val"] & contents["test"]
    fewer, more = clips(n_clips=5, seed=2), clips(n_clips=9, seed=2)
    assert more.scenes[:5] == fewer.scenes
    assert more.sentences[:10] == fewer.sentences
    assert clips(n_clips=5, seed=3).scenes != fewer.scenes


# ------------------------------------------------------------------------------------------------------------- vectors


def cosines(world: Clips, **dials: object) -> tuple[np.ndarray, np.ndarray]:
    """Of every sentence with the frames of its own clip, and how loud each clip is, per level."""
    found = clip_vectors(world, **dials)  # type: ignore[arg-type]
    return np.einsum("qd,qfd->qf", found.sentences, found.frames[world.owner]), found.loudness


def test_without_noise_the_frame_a_sentence_is_about_is_usually_the_closest() -> None:
    world = clips(n_clips=60, frames_per_scene=1)
    best = cosines(world, **QUIET)[0].argmax(axis=1)
    true = world.scene_relevance
    allowed = [set((true.row(q)[0] - 3 * world.owner[q]).tolist()) for q in range(len(best))]
    assert np.mean([int(f) in fine for f, fine in zip(best, allowed, strict=True)]) > 0.9


def test_a_phrase_and_the_object_it_states_in_full_are_one_vector() -> None:
    world = clips(n_clips=30, completeness=1.0, objects=(1, 1))
    found = clip_vectors(world, **QUIET)  # type: ignore[arg-type]
    for q, (owner, about) in enumerate(zip(world.owner, world.about, strict=True)):
        np.testing.assert_allclose(found.words[q, 0] @ found.patches[owner, about, 1], 1)
        np.testing.assert_allclose(found.sentences[q] @ found.frames[owner, about], 1)
        np.testing.assert_allclose(found.patches[owner, about, 0], found.frames[owner, about])


def test_all_vectors_have_length_one_and_missing_words_are_zeros() -> None:
    found = clip_vectors(SMALL, hubs=(0.3, 0.2, 0.1))
    for part in (found.sentences, found.clips, found.frames, found.patches, found.words[found.word_mask]):
        np.testing.assert_allclose(np.linalg.norm(part, axis=-1), 1)
    assert not found.words[~found.word_mask].any()
    assert found.word_mask.any(axis=1).all()
    counts = [len(one.mentions) + (one.background is not None) for one in SMALL.statements]
    assert found.word_mask.sum(axis=1).tolist() == counts


def test_frames_of_one_scene_mean_the_same() -> None:
    found = clip_vectors(SMALL, **QUIET)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.frames[:, 0], found.frames[:, 1])
    noisy = clip_vectors(SMALL)
    assert (noisy.frames[:, 0] != noisy.frames[:, 1]).any(axis=1).all()


@pytest.mark.parametrize("level", range(3))
def test_a_hub_dial_moves_the_scores_of_its_level_and_no_other(level: int) -> None:
    world = clips(n_clips=80)
    strength = [0.0, 0.0, 0.0]
    strength[level] = 0.5
    plain, hubs = clip_vectors(world), clip_vectors(world, hubs=strength)
    texts = (hubs.sentences, hubs.sentences, hubs.words[hubs.word_mask])
    for i, part in enumerate(("clips", "frames", "patches")):
        before, after = getattr(plain, part), getattr(hubs, part)
        if i != level:
            np.testing.assert_array_equal(before, after)
            continue
        lift = np.tensordot(after, texts[i].mean(axis=0), 1) - np.tensordot(before, texts[i].mean(axis=0), 1)
        per_clip = lift.reshape(80, -1).mean(axis=1)
        assert np.corrcoef(per_clip, hubs.loudness[level])[0, 1] > 0.95
    np.testing.assert_array_equal(plain.sentences, hubs.sentences)
    np.testing.assert_array_equal(plain.loudness, hubs.loudness)


def test_noise_of_one_level_leaves_the_others_and_the_truth_of_codes() -> None:
    plain, noisy = clip_vectors(SMALL), clip_vectors(SMALL, noise=(5.0, 1.0, 1.0))
    np.testing.assert_array_equal(plain.frames, noisy.frames)
    np.testing.assert_array_equal(plain.patches, noisy.patches)
    clean = clip_vectors(SMALL, **QUIET).clips  # type: ignore[arg-type]
    assert (noisy.clips * clean).sum(axis=1).mean() < 0.4 < 0.6 < (plain.clips * clean).sum(axis=1).mean()


def test_loudness_differs_between_levels_clips_and_splits_and_codes_do_not() -> None:
    test, val = (clips(n_clips=200, split=split) for split in ("test", "val"))
    loud = [clip_vectors(one).loudness for one in (test, val)]
    assert np.abs(np.corrcoef([*loud[0], *loud[1]]) - np.eye(6)).max() < 0.3
    phrases = [
        {(m.shape, m.color, m.size, m.texture): found.words[q, i]
         for q, one in enumerate(world.statements) for i, m in enumerate(one.mentions)}
        for world in (test, val) for found in [clip_vectors(world, **QUIET)]  # type: ignore[arg-type]
    ]  # fmt: skip
    shared = phrases[0].keys() & phrases[1].keys()
    assert len(shared) > 5
    for key in shared:
        np.testing.assert_allclose(phrases[0][key], phrases[1][key])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: clips(n_clips=0), "n_clips must be at least 1; got 0"),
        (lambda: clips(n_clips=2, frames_per_scene=0), "frames_per_scene must be at least 1"),
        (lambda: clips(n_clips=2, split="dev"), "split is 'dev'; expected one of train, val, test"),
        (lambda: clip_vectors(SMALL, dim=7), "dim must be at least 8"),
        (lambda: clip_vectors(SMALL, noise=(1.0, 1.0)), "one number per level"),
        (lambda: clip_vectors(SMALL, hubs=(0.0, -0.1, 0.0)), "must not be negative"),
    ],
)
def test_errors_say_what_came(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
