"""Clips: several scenes one after the other, sentences about one of them each, and vectors of it all at three levels.

Known of every sentence: the clip and the scene it was made from, all clips it is true of, and all scenes. Clips come as
pictures (``Clips.frames``) and, for experiments with a dial for every level, as vectors (``clip_vectors``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.datasets.scenes.language import caption
from workbench.datasets.scenes.render import render
from workbench.datasets.scenes.world import (
    ATTRIBUTES,
    BACKGROUNDS,
    SPLITS,
    VALUES,
    Dice,
    Mention,
    Object,
    Scene,
    Statement,
    relevance,
    sample_in_split,
    sample_statement,
)
from workbench.types import FloatArray, IntArray, Relevance

N_LEVELS = 3
CONE = 0.7
_CLIP_SCENES, _CLIP_SENTENCES, _CLIP_WORDING, _CLIP_VECTORS, _CLIP_CODES = range(16, 21)  # kinds of random streams


@dataclass(frozen=True, eq=False)
class Clips:
    """Clips of scenes and sentences about them.

    scenes : per clip its scenes in order, as many in each. statements, sentences : meaning and English wording of every
    sentence. owner, about (n_sentences,) : the clip it was made from and which of its scenes. frames_per_scene :
    pictures of each scene, each moved by a pixel (per 64) against the one before. seed, split : where it came from.
    """

    scenes: tuple[tuple[Scene, ...], ...]
    statements: tuple[Statement, ...]
    sentences: tuple[str, ...]
    owner: IntArray
    about: IntArray
    frames_per_scene: int
    seed: int
    split: str

    def __len__(self) -> int:
        return len(self.scenes)

    @property
    def n_scenes(self) -> int:
        """Scenes of a clip."""
        return len(self.scenes[0])

    @property
    def frame_scene(self) -> IntArray:
        """(n_frames,) which scene of its clip a frame shows."""
        return np.repeat(np.arange(self.n_scenes), self.frames_per_scene)

    @property
    def scene_relevance(self) -> Relevance:
        """Every true (sentence, scene) pair; scene j of clip c is number c * n_scenes + j of n_clips * n_scenes."""
        return relevance(self.statements, [scene for clip in self.scenes for scene in clip])

    @property
    def relevance(self) -> Relevance:
        """Every (sentence, clip) pair such that the sentence is true of a scene of the clip, (n_sentences, n_clips)."""
        true = self.scene_relevance
        pairs = np.unique(true.queries * len(self) + true.items // self.n_scenes)
        return Relevance.from_pairs(
            pairs // len(self), pairs % len(self), n_queries=len(self.statements), n_gallery=len(self)
        )

    def frames(self, clip: int, *, size: int = 64) -> np.ndarray:
        """The pictures of one clip, uint8 (n_frames, size, size, 3)."""
        step = max(1, size // 64)
        moves = [(0, step * move) for move in range(self.frames_per_scene)]
        return np.stack([render(scene, size, shift=move) for scene in self.scenes[clip] for move in moves])


def clips(
    *, n_clips: int = 200, n_scenes: int = 3, frames_per_scene: int = 1, sentences_per_clip: int = 2, seed: int = 0,
    split: str = "test", objects: tuple[int, int] = (1, 3), completeness: float = 0.6, paraphrase: float = 0.5,
) -> Clips:  # fmt: skip
    """Clips of ``n_scenes`` scenes each, with sentences that are each true of the scene they were made from.

    objects, completeness, paraphrase : as for ``scenes``. The scenes of a split share no content with those of another.
    The same arguments give the same clips on every machine, and more clips begin with the fewer.

    >>> world = clips(n_clips=20, seed=1)
    >>> world.sentences[0], int(world.owner[0]), int(world.about[0])
    ('an image of a white cross on a grey background', 0, 1)
    """
    for name, value in {"n_clips": n_clips, "n_scenes": n_scenes, "frames_per_scene": frames_per_scene,
                        "sentences_per_clip": sentences_per_clip}.items():  # fmt: skip
        if value < 1:
            raise ValueError(f"{name} must be at least 1; got {value}")
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(SPLITS)}")
    part = SPLITS.index(split)
    shown = tuple(
        tuple(sample_in_split(dice, split, objects=objects) for _ in range(n_scenes))
        for dice in (Dice(seed, _CLIP_SCENES, part, clip) for clip in range(n_clips))
    )
    statements, said, about = [], [], []
    for clip, scenes in enumerate(shown):
        dice = Dice(seed, _CLIP_SENTENCES, part, clip)
        for place in range(sentences_per_clip):
            about.append(dice.below(n_scenes))
            statements.append(sample_statement(dice, scenes[about[-1]], completeness=completeness))
            wording = Dice(seed, _CLIP_WORDING, part, clip, place)
            said.append(caption(statements[-1], "en", dice=wording, paraphrase=paraphrase))
    owner = np.repeat(np.arange(n_clips), sentences_per_clip)
    return Clips(shown, tuple(statements), tuple(said), owner, np.array(about), frames_per_scene, seed, split)


@dataclass(frozen=True, eq=False)
class ClipVectors:
    """Unit vectors of sentences and clips at three levels, and the hubs that were planted.

    sentences (n_sentences, dim), words (n_sentences, n_words, dim) one per noun phrase with word_mask (n_sentences,
    n_words), zeros where there is none; clips (n_clips, dim), frames (n_clips, n_frames, dim), patches (n_clips,
    n_frames, n_patches, dim): the whole frame, then one per object, the empty background where there are fewer.
    loudness (3, n_clips) : how far each level of a clip leans towards all sentences alike, in standard deviations.
    """

    sentences: FloatArray
    words: FloatArray
    word_mask: np.ndarray
    clips: FloatArray
    frames: FloatArray
    patches: FloatArray
    loudness: FloatArray


def clip_vectors(
    given: Clips, *, dim: int = 64, noise: Sequence[float] = (1.0, 1.0, 1.0), text_noise: float = 0.5,
    hubs: Sequence[float] = (0.0, 0.0, 0.0), cone: float = CONE, seed: int = 0,
) -> ClipVectors:  # fmt: skip
    """What an encoder might make of clips, with a dial for noise and for hubs at every level: clip, frame, patch.

        object = sum of the codes of its attributes        frame = sum of its objects and the background
        clip = mean of its frames                          phrase = codes stated;  sentence = sum of its phrases

    each scaled to length one, plus noise of the given length, plus ``hubs[level] * loudness`` along a direction of that
    level which every text leans to by ``cone``; then scaled to length one. A sum of codes does not know which colour
    goes with which shape; only patches and phrases do. Codes follow from ``seed``, noise and loudness (standard normal,
    of every clip and level its own) from ``seed`` and the split, so that turning ``noise`` or ``hubs`` changes nothing
    else. Three of the ``dim`` >= 8 coordinates are the directions of the levels.

    >>> vectors = clip_vectors(clips(n_clips=20), noise=(0, 0, 0), text_noise=0, cone=0)
    >>> vectors.clips.shape, vectors.frames.shape, vectors.patches.shape
    ((20, 64), (20, 3, 64), (20, 3, 4, 64))
    """
    _check_dials(dim, noise, hubs, text_noise, cone)
    codes = _codes(dim - N_LEVELS, seed)
    rng = np.random.default_rng([seed, _CLIP_VECTORS, SPLITS.index(given.split)])
    sentences, words, mask = _text_meanings(given.statements, codes)
    frames, patches = _picture_meanings(given, codes)
    loudness = rng.standard_normal((N_LEVELS, len(given)))
    seen = [
        _seen(part, noise[level], [level], hubs[level] * loudness[level], rng)
        for level, part in enumerate((_unit(frames.mean(axis=1)), frames, patches))
    ]
    leaning = np.full(len(sentences), cone)
    sentences = _seen(sentences, text_noise, (0, 1), leaning, rng)
    words = _seen(words, text_noise, (2,), leaning, rng) * mask[:, :, None]
    return ClipVectors(sentences, words, mask, seen[0], seen[1], seen[2], loudness)


Codes = dict[tuple[str, str], FloatArray]


def _codes(dim: int, seed: int) -> Codes:
    """A random unit vector for every value of every attribute and every background."""
    rng = np.random.default_rng([seed, _CLIP_CODES])
    names = [(name, value) for name in ATTRIBUTES for value in VALUES[name]]
    names += [("background", value) for value in BACKGROUNDS]
    return dict(zip(names, _unit(rng.standard_normal((len(names), dim))), strict=True))


def _object_code(thing: Object, codes: Codes) -> FloatArray:
    return np.asarray(np.sum([codes[name, getattr(thing, name)] for name in ATTRIBUTES], axis=0))


def _mention_code(mention: Mention, codes: Codes) -> FloatArray:
    return np.asarray(np.sum([codes[pair] for pair in mention.stated], axis=0))


def _text_meanings(statements: Sequence[Statement], codes: Codes) -> tuple[FloatArray, FloatArray, np.ndarray]:
    """Sentences (n, dim), phrases (n, n_words, dim) and which of them there are (n, n_words)."""
    longest = max(len(one.mentions) + (one.background is not None) for one in statements)
    dim = len(next(iter(codes.values())))
    sentences, words = np.zeros((len(statements), dim)), np.zeros((len(statements), longest, dim))
    mask = np.zeros((len(statements), longest), bool)
    for row, one in enumerate(statements):
        phrases = [(_mention_code(mention, codes), mention.count) for mention in one.mentions]
        if one.background is not None:
            phrases.append((codes["background", one.background], 1))
        sentences[row] = np.sum([code * count for code, count in phrases], axis=0)
        words[row, : len(phrases)] = [code for code, _ in phrases]
        mask[row, : len(phrases)] = True
    words[mask] = _unit(words[mask])
    return _unit(sentences), words, mask


def _picture_meanings(given: Clips, codes: Codes) -> tuple[FloatArray, FloatArray]:
    """Frames (n_clips, n_frames, dim), patches (n_clips, n_frames, n_patches, dim); frames of one scene are alike."""
    most = max(len(scene.objects) for clip in given.scenes for scene in clip)
    dim = len(next(iter(codes.values())))
    shape = (len(given), given.n_scenes)
    frames, patches = np.zeros((*shape, dim)), np.zeros((*shape, 1 + most, dim))
    for row, clip in enumerate(given.scenes):
        for place, scene in enumerate(clip):
            behind = codes["background", scene.background]
            objects = [_object_code(thing, codes) for thing in scene.objects]
            frames[row, place] = behind + np.sum(objects, axis=0)
            patches[row, place] = [frames[row, place], *objects, *[behind] * (most - len(objects))]
    return _unit(frames)[:, given.frame_scene], _unit(patches)[:, given.frame_scene]


def _seen(
    meaning: FloatArray, strength: float, levels: Sequence[int], lean: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Meaning plus noise of the given expected length, leaning (n,) towards the directions of levels; length one."""
    noise = rng.standard_normal(meaning.shape) * (strength / np.sqrt(meaning.shape[-1]))
    places = np.zeros((*meaning.shape[:-1], N_LEVELS))
    places[..., list(levels)] = lean.reshape(-1, *[1] * (meaning.ndim - 1))
    return _unit(np.concatenate([meaning + noise, places], axis=-1))


def _unit(vectors: FloatArray) -> FloatArray:
    """Rows of length one; rows of zeros stay."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1.0))


def _check_dials(dim: int, noise: Sequence[float], hubs: Sequence[float], text_noise: float, cone: float) -> None:
    if dim < N_LEVELS + 5:
        raise ValueError(f"dim must be at least {N_LEVELS + 5}, three of it for the levels; got {dim}")
    if len(noise) != N_LEVELS or len(hubs) != N_LEVELS:
        raise ValueError(f"noise and hubs need one number per level: clip, frame, patch; got {noise} and {hubs}")
    if min(*noise, *hubs, text_noise, cone) < 0:
        raise ValueError("noise, text_noise, hubs and cone must not be negative")
