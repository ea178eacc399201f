"""Small retrievers for pages: late interaction or one vector over letters, and a trained reader of pixels."""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.datasets.scenes.document_channels import read_words
from workbench.datasets.scenes.documents import Documents
from workbench.datasets.scenes.language import caption
from workbench.datasets.scenes.render import render
from workbench.datasets.scenes.world import (
    BACKGROUNDS,
    COLORS,
    GRID,
    SHAPES,
    SIZES,
    TEXTURES,
    Dice,
    Mention,
    Object,
    Scene,
    sample_in_split,
    sample_statement,
)
from workbench.types import FloatArray, IntArray

GRAMS = 512
#: (sharpness of a match, power of the rarity of a word) and (power of counts, power of rarity).
LATE = tuple((sharp, rare) for sharp in (1, 2, 4) for rare in (0, 1))
SINGLE = tuple((count, rare) for count in (0.5, 1.0) for rare in (0, 1, 2))
_WINDOW = 24
_TRAINING = 64  # kind of random stream


@functools.lru_cache(maxsize=200_000)
def _grams(word: str) -> tuple[int, ...]:
    padded = f"<{word}>"
    return tuple(zlib.crc32(padded[i : i + 3].encode()) % GRAMS for i in range(len(padded) - 2))


def word_vectors(words: Sequence[str]) -> FloatArray:
    """Counts of groups of three letters, (n, GRAMS) of length one: words misread in a letter stay close.

    >>> vectors = word_vectors(["budget", "budgef", "staff"])
    >>> [round(float(vectors[0] @ other), 2) for other in vectors]
    [1.0, 0.67, 0.0]
    """
    vectors = np.zeros((len(words), GRAMS), np.float32)
    for row, word in enumerate(words):
        for gram in _grams(word):
            vectors[row, gram] += 1
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9))


@dataclass(frozen=True, eq=False)
class Channel:
    """What one channel says about the questions of a world.

    best (n_words, n_blocks) : closest match of every word of a question in every block. counts (n_blocks, n_vocabulary)
    sparse, vectors (n_vocabulary, GRAMS) : the words of the blocks. asked : per question its rows of ``best``.
    """

    best: FloatArray
    counts: Any
    vectors: FloatArray
    word_vectors: FloatArray
    asked: tuple[IntArray, ...]

    @classmethod
    def of(cls, world: Documents, texts: Sequence[Sequence[str]]) -> Channel:
        """From the text of every block of every document."""
        from scipy.sparse import csr_array

        blocks = [["", *read_words(text)] for document in texts for text in document]
        known: dict[str, int] = {}
        ids = [np.array([known.setdefault(word, len(known)) for word in words]) for words in blocks]
        asking: dict[str, int] = {}
        asked = tuple(
            np.array([asking.setdefault(word, len(asking)) for word in dict.fromkeys(read_words(question.text))])
            for question in world.questions
        )
        vectors, wanted = word_vectors(list(known)), word_vectors(list(asking))
        like = wanted @ vectors.T
        best = np.concatenate([_strongest(like, part) for part in _parts(ids, texts)], axis=1)
        indptr = np.concatenate([[0], np.cumsum([len(one) for one in ids])])
        flat = np.concatenate(ids)
        counts = csr_array((np.ones(len(flat), np.float32), flat, indptr), shape=(len(ids), len(known)))
        counts.sum_duplicates()
        return cls(best, counts, vectors, wanted, asked)

    def late(self, question: int, units: IntArray, starts: IntArray, setting: tuple[float, float]) -> FloatArray:
        """Late interaction: sum over the words of the question of their best match in each unit, rare words first.

        units : the blocks looked at, in order; starts : where each unit begins among them (a page is several blocks).
        """
        found = self.best[np.ix_(self.asked[question], units)]
        found = np.maximum.reduceat(found, starts, axis=1) ** setting[0]
        weight = np.log1p(len(starts) / np.maximum(found.sum(axis=1), 1e-9)) ** setting[1]
        return np.asarray(np.round(weight @ found, 5))

    def single(self, question: int, units: IntArray, starts: IntArray, setting: tuple[float, float]) -> FloatArray:
        """One vector per unit and one per question: weighted sums of their words' vectors, compared by cosine."""
        part = self.counts[units]
        sums = np.add.reduceat(part.toarray()[:, columns := np.unique(part.indices)], starts, axis=0)
        own = self.vectors[columns]
        rare = np.log1p(len(starts) / np.maximum((sums > 0).sum(axis=0), 1)) ** setting[1]
        wanted = self.word_vectors[self.asked[question]]
        close = wanted @ own.T
        weight = rare[close.argmax(axis=1)]
        pages = (sums ** setting[0] * rare) @ own
        query = weight @ wanted
        norms = np.linalg.norm(pages, axis=1) * np.linalg.norm(query)
        return np.asarray(np.round(pages @ query / np.maximum(norms, 1e-9), 5))


def _parts(ids: Sequence[IntArray], texts: Sequence[Sequence[str]]) -> list[Sequence[IntArray]]:
    ends = np.cumsum([len(document) for document in texts])
    return [ids[end - len(document) : end] for end, document in zip(ends, texts, strict=True)]


def _strongest(like: FloatArray, blocks: Sequence[IntArray]) -> FloatArray:
    starts = np.cumsum([0, *(len(one) for one in blocks[:-1])])
    return np.asarray(np.maximum.reduceat(like[:, np.concatenate(blocks)], starts, axis=1))


# -------------------------------------------------------------------------------------------------------------- pixels

_FACTS = [
    *((name,) for name in SHAPES), *((name,) for name in COLORS), *((name,) for name in SIZES),
    *((name,) for name in TEXTURES), *((color, shape) for color in COLORS for shape in SHAPES),
    *((texture, shape) for texture in TEXTURES for shape in SHAPES),
]  # fmt: skip
_PLACE = {fact: place for place, fact in enumerate(_FACTS)}
_N = len(_FACTS)
#: (weight of what is said of one object together, exponent of the length a figure is divided by).
PIXELS = tuple((pairs, length) for pairs in (0.5, 1.0, 2.0) for length in (0.0, 1.0))


def _facts(thing: Object | Mention) -> list[int]:
    """Values, and pairs of a colour or a texture with a shape."""
    said = {(value,) for value in (thing.shape, thing.color, thing.size, thing.texture) if value}
    said |= {(value, thing.shape) for value in (thing.color, thing.texture) if value and thing.shape}  # type: ignore[arg-type]
    return [_PLACE[fact] for fact in said]


class PixelReader:
    """Reads facts off the nine fields of a figure and off the words of a question; both are taught on other figures."""

    def __init__(self, n_figures: int, *, seed: int, n_features: int = 500, penalty: float = 10.0) -> None:
        rng = np.random.default_rng([seed, 12])
        dice = Dice(seed, _TRAINING)
        scenes = [sample_in_split(dice, "train", objects=(1, 3)) for _ in range(n_figures)]
        windows = _windows(scenes)
        self.mean = windows.mean(axis=0)
        self.filters = rng.standard_normal((windows.shape[1], n_features), np.float32) / np.sqrt(windows.shape[1])
        self.bias = rng.standard_normal(n_features, np.float32) * 0.2
        self.seen = _ridge(self._features(windows), _fields(scenes), penalty)
        behind = np.array([BACKGROUNDS.index(scene.background) for scene in scenes])
        self.behind = np.stack([windows[np.repeat(behind, GRID * GRID) == b].mean(axis=0) if (behind == b).any() else
                                self.mean for b in range(len(BACKGROUNDS))])  # fmt: skip
        self._learn_words(scenes, dice)

    def _learn_words(self, scenes: Sequence[Scene], dice: Dice) -> None:
        statements = [sample_statement(dice, scene) for scene in scenes for _ in range(2)]
        texts = [_terms(caption(one, dice=dice, paraphrase=0.5)) for one in statements]
        self.known = {term: i for i, term in enumerate(sorted({term for text in texts for term in text}))}
        said = np.zeros((len(statements), _N + len(BACKGROUNDS)), np.float32)
        for row, statement in enumerate(statements):
            for mention in statement.mentions:
                said[row, _facts(mention)] += mention.count
            if statement.background is not None:
                said[row, _N + BACKGROUNDS.index(statement.background)] = 1
        self.said = _ridge(self._words(texts), said, 1.0)

    def _features(self, windows: FloatArray) -> FloatArray:
        hidden = np.maximum((windows - self.mean) @ self.filters * 8 + self.bias, 0)
        return np.concatenate([hidden, np.ones((len(hidden), 1), np.float32)], axis=1)

    def _words(self, texts: Sequence[Sequence[str]]) -> FloatArray:
        counts = np.zeros((len(texts), len(self.known) + 1), np.float32)
        for row, text in enumerate(texts):
            counts[row, [self.known[term] for term in text if term in self.known]] = 1
        counts[:, -1] = 1
        return counts

    def figures(self, scenes: Sequence[Scene]) -> FloatArray:
        """What is seen in the pictures of scenes, (n, n_facts): over the nine fields, and the background."""
        windows = _windows(scenes)
        fields = np.clip(self._features(windows) @ self.seen, 0, 1).reshape(len(scenes), GRID * GRID, _N)
        far = ((windows[:, None, :] - self.behind[None]) ** 2).mean(axis=2).reshape(len(scenes), GRID * GRID, -1)
        behind = np.median(far, axis=1)
        nearest = (behind == behind.min(axis=1, keepdims=True)).astype(np.float32)
        return np.concatenate([fields.sum(axis=1), nearest], axis=1)

    def questions(self, texts: Sequence[str]) -> FloatArray:
        """What is asked for, (n, n_facts)."""
        return np.asarray(np.clip(self._words([_terms(text) for text in texts]) @ self.said, 0, None))

    @staticmethod
    def scores(asked: FloatArray, seen: FloatArray, setting: tuple[float, float]) -> FloatArray:
        """asked (n_facts,) against seen (n_figures, n_facts)."""
        weights = np.where([len(fact) > 1 for fact in _FACTS] + [False] * len(BACKGROUNDS), setting[0], 1.0)
        length = np.linalg.norm(seen * weights, axis=1) ** setting[1]
        return np.asarray(np.round(seen @ (weights * asked) / np.maximum(length, 1e-6), 5))


def _terms(text: str) -> list[str]:
    words = re.findall(r"[a-z]+", text.lower())
    return words + [f"{a} {b}" for a, b in zip(words, words[1:], strict=False)]


def _windows(scenes: Sequence[Scene]) -> FloatArray:
    """(n * 9, pixels) float32 in 0..1: what surrounds the nine places of every picture."""
    pictures = np.stack([render(scene) for scene in scenes]).astype(np.float32) / 255
    padded = np.pad(pictures, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    corners = [64 * (2 * cell + 1) // (2 * GRID) - _WINDOW // 2 + 2 for cell in range(GRID)]
    cut = [padded[:, top : top + _WINDOW, left : left + _WINDOW] for top in corners for left in corners]
    return np.stack(cut, axis=1).reshape(len(scenes) * GRID * GRID, -1)


def _fields(scenes: Sequence[Scene]) -> FloatArray:
    """(n * 9, n_facts) what is true of the object at each place."""
    found = np.zeros((len(scenes), GRID * GRID, _N), np.float32)
    for row, scene in enumerate(scenes):
        for thing in scene.objects:
            found[row, thing.row * GRID + thing.column, _facts(thing)] = 1
    return found.reshape(-1, _N)


def _ridge(inputs: FloatArray, targets: FloatArray, penalty: float) -> FloatArray:
    square = inputs.T @ inputs + penalty * np.eye(inputs.shape[1], dtype=inputs.dtype)
    return np.asarray(np.linalg.solve(square, inputs.T @ targets))
