"""A world in which methods are trained again and again, so that it is known how much of a difference is luck."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workbench.types import IntArray, Relevance

Vectors = npt.NDArray[np.float32]
FEATURES, MEANING = 32, 16
"""Numbers that describe a picture or a caption, and numbers that both have in common."""
_TEMPERATURE, _RATE, _DECAY, _BATCH, _FIRST, _EVERY = 0.1, 0.5, 0.007, 32, 300, 25
_TRAIN, _VALIDATION, _TEST, _FRESH = range(1, 5)


@dataclass(frozen=True, eq=False)
class Captioned:
    """Features of pictures (n_images, 32) and of their captions (n_texts, 32), float32; the first caption comes first.

    text_image (n_texts,) : the picture of each caption, also its cluster. relevance : the same, captions ask.
    """

    images: Vectors
    texts: Vectors
    text_image: IntArray
    relevance: Relevance


@dataclass(frozen=True, eq=False)
class RivalWorld:
    """Captioned pictures drawn alike: to train on, to choose on, to test on, and fresh ones for the truth."""

    train: Captioned
    validation: Captioned
    test: Captioned
    fresh: tuple[Captioned, ...]


@dataclass(frozen=True, eq=False)
class Heads:
    """Checkpoints of one training: linear maps of either side, image and text (n_checkpoints, 32, 16) float32."""

    image: Vectors
    text: Vectors

    def __len__(self) -> int:
        return len(self.image)


def rival_world(*, n_images: int = 300, n_train: int = 300, n_fresh: int = 5, seed: int = 0) -> RivalWorld:
    """Captioned pictures on which small encoders are trained in a tenth of a second, as often as luck has to be seen.

        picture = M_i m + 0.5 e,    caption = M_t (m + 0.4 e') + 0.7 e''        m : 16 numbers, what is to be seen

    e, e', e'' are standard normal; the maps M_i and M_t belong to the world. Five captions per picture; the five differ
    in e' and e''. validation, test and each of ``n_fresh`` fresh sets have n_images pictures, so that their hit rates
    can be compared. n_images >= 2, n_train >= 32 (a batch), n_fresh >= 1. Same arguments, same features; the sets
    share no picture. Raises ValueError for a size below these.

    >>> world = rival_world(n_images=40, seed=3)
    >>> world.test.images.shape, world.test.texts.shape, len(world.fresh)
    ((40, 32), (200, 32), 5)
    """
    for name, value, least in (
        ("n_images", n_images, 2), ("n_train", n_train, _BATCH), ("n_fresh", n_fresh, 1), ("seed", seed, 0)
    ):  # fmt: skip
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{name} must be a whole number, at least {least}; got {value!r}")
    maps = np.random.default_rng([seed, 0]).normal(size=(2, MEANING, FEATURES)) / np.sqrt(MEANING)
    return RivalWorld(
        train=_captioned(maps, n_train, [seed, _TRAIN]), validation=_captioned(maps, n_images, [seed, _VALIDATION]),
        test=_captioned(maps, n_images, [seed, _TEST]),
        fresh=tuple(_captioned(maps, n_images, [seed, _FRESH, number]) for number in range(n_fresh)),
    )  # fmt: skip


def _captioned(maps: npt.NDArray[np.float64], n: int, stream: list[int]) -> Captioned:
    rng, own = np.random.default_rng(stream), np.repeat(np.arange(n), 5)
    meaning = rng.normal(size=(n, MEANING))
    images = meaning @ maps[0] + 0.5 * rng.normal(size=(n, FEATURES))
    said = meaning[own] + 0.4 * rng.normal(size=(len(own), MEANING))
    texts = said @ maps[1] + 0.7 * rng.normal(size=(len(own), FEATURES))
    relevance = Relevance.from_pairs(np.arange(len(own)), own, n_queries=len(own), n_gallery=n)
    return Captioned(images.astype(np.float32), texts.astype(np.float32), own, relevance)


def train_heads(data: Captioned, *, seed: int, n_checkpoints: int = 12) -> Heads:
    """One training of two linear heads: the seed decides the start and the order of the pictures, and nothing else.

        loss = mean of the cross-entropies of softmax(cosines / 0.1) over a batch of 32 pairs, captions and pictures
        step = 0.5 (gradient + 0.007 weights)

    A checkpoint every 25 steps from step 300 on, when the mean hit rate no longer rises: later checkpoints are not
    better, only other. Trainings that differ in the seed are draws of the same method, so the true difference of two
    groups of them is zero. n_checkpoints >= 1. Loss: A. Radford et al., "Learning transferable visual models from
    natural language supervision", ICML 2021, https://arxiv.org/abs/2103.00020.

    >>> heads = train_heads(rival_world(n_images=40).train, seed=1, n_checkpoints=2)
    >>> len(heads), heads.text.shape
    (2, (2, 32, 16))
    """
    if n_checkpoints < 1:
        raise ValueError(f"n_checkpoints must be at least 1; got {n_checkpoints}")
    kept = list(_trained(data, np.random.default_rng(seed), n_checkpoints))
    return Heads(np.stack([image for image, _ in kept]), np.stack([text for _, text in kept]))


def _trained(data: Captioned, rng: np.random.Generator, n_checkpoints: int) -> Iterator[tuple[Vectors, Vectors]]:
    image, text = (rng.normal(size=(2, FEATURES, MEANING)) / np.sqrt(FEATURES)).astype(np.float32)
    for step in range(_FIRST + (n_checkpoints - 1) * _EVERY + 1):
        if step >= _FIRST and (step - _FIRST) % _EVERY == 0:
            yield image.copy(), text.copy()
        pictures = rng.choice(len(data.images), _BATCH, replace=False)
        captions = 5 * pictures + rng.integers(5, size=_BATCH)
        to_image, to_text = _gradients(data.images[pictures], data.texts[captions], image, text)
        image = image - _RATE * (to_image + _DECAY * image)
        text = text - _RATE * (to_text + _DECAY * text)


def _gradients(pictures: Vectors, captions: Vectors, image: Vectors, text: Vectors) -> tuple[Vectors, Vectors]:
    """Of the symmetric contrastive loss of a batch of pairs, with respect to both heads."""
    (u, long_u), (v, long_v) = _unit(pictures @ image), _unit(captions @ text)
    powers = np.exp((v @ u.T - 1) / _TEMPERATURE)
    wanted = (powers / powers.sum(1, keepdims=True) + powers / powers.sum(0, keepdims=True)) / 2
    wanted = (wanted - np.eye(len(u), dtype=np.float32)) / np.float32(len(u) * _TEMPERATURE)
    along_u, along_v = wanted.T @ v, wanted @ u
    return (
        pictures.T @ ((along_u - (along_u * u).sum(1, keepdims=True) * u) / long_u),
        captions.T @ ((along_v - (along_v * v).sum(1, keepdims=True) * v) / long_v),
    )


def _unit(rows: Vectors) -> tuple[Vectors, Vectors]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / lengths, lengths


def averaged(heads: Heads, *, last: int = 3) -> Heads:
    """One checkpoint whose weights are the mean of the last few: an improvement that is real in this world.

    last 1..n_checkpoints. P. Izmailov, D. Podoprikhin, T. Garipov, D. Vetrov & A. G. Wilson, "Averaging weights leads
    to wider optima and better generalization", UAI 2018, https://arxiv.org/abs/1803.05407.

    >>> import numpy as np
    >>> two = Heads(np.float32([[[1.0]], [[3.0]]]), np.float32([[[0.0]], [[1.0]]]))
    >>> averaged(two, last=2).image.ravel(), averaged(two, last=2).text.ravel()
    (array([2.], dtype=float32), array([0.5], dtype=float32))
    """
    if not 1 <= last <= len(heads):
        raise ValueError(f"last must lie in 1..{len(heads)}, the number of checkpoints; got {last}")
    return Heads(heads.image[-last:].mean(axis=0, keepdims=True), heads.text[-last:].mean(axis=0, keepdims=True))


def cosines(heads: Heads, data: Captioned, *, checkpoint: int = -1) -> Vectors:
    """Scores of all captions with all pictures under one checkpoint: (n_texts, n_images), higher is closer.

    >>> world = rival_world(n_images=40)
    >>> cosines(train_heads(world.train, seed=0, n_checkpoints=1), world.test).shape
    (200, 40)
    """
    return _unit(data.texts @ heads.text[checkpoint])[0] @ _unit(data.images @ heads.image[checkpoint])[0].T


def hit_rates(heads: Heads, data: Captioned) -> npt.NDArray[np.float64]:
    """Expected hit@1 of every caption under every checkpoint: (n_checkpoints, n_texts), as ``per_query("hit@1")``.

    >>> world = rival_world(n_images=40)
    >>> hit_rates(train_heads(world.train, seed=0), world.test).shape
    (12, 200)
    """
    found = np.empty((len(heads), len(data.texts)))
    for number, row in enumerate(found):
        scores = cosines(heads, data, checkpoint=number)
        own = scores[np.arange(len(row)), data.text_image][:, None]
        row[:] = (scores <= own).all(axis=1) / (scores == own).sum(axis=1)
    return found
