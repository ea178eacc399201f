"""A small trained reader of figures: what is seen in their pixels, held against the words of a question."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

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
from workbench.types import FloatArray

Setting = tuple[float, ...]
#: What validation chooses among: weight of what is said of one object together, power of the length that a figure is
#: divided by.
PIXELS = tuple((pairs, length) for pairs in (0.5, 1.0, 2.0, 4.0) for length in (0.0, 0.5, 1.0))
_WINDOW = 24
_TRAINING = 64  # kind of random stream
_FACTS = [
    *((name,) for name in SHAPES), *((name,) for name in COLORS), *((name,) for name in SIZES),
    *((name,) for name in TEXTURES), *((color, shape) for color in COLORS for shape in SHAPES),
    *((texture, shape) for texture in TEXTURES for shape in SHAPES),
]  # fmt: skip
_PLACE = {fact: place for place, fact in enumerate(_FACTS)}
_N = len(_FACTS)


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
        self.filters = rng.standard_normal((windows.shape[1], n_features), np.float32) / float(
            np.sqrt(windows.shape[1])
        )
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
    def scores(asked: FloatArray, seen: FloatArray, setting: Setting) -> FloatArray:
        """asked (n_facts,) against seen (n_figures, n_facts)."""
        weights = np.where([len(fact) > 1 for fact in _FACTS] + [False] * len(BACKGROUNDS), setting[0], 1.0)
        length = np.linalg.norm(seen * weights, axis=1) ** setting[1]
        return np.asarray(np.round(seen @ (weights * asked) / np.maximum(length, 1e-6), 5))


def _terms(text: str) -> list[str]:
    words = re.findall(r"[a-z]+", text.lower())
    return words + [f"{a} {b}" for a, b in pairwise(words)]


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
    square = (inputs.T @ inputs).astype(np.float64) + penalty * np.eye(inputs.shape[1])
    return np.asarray(np.linalg.solve(square, inputs.T @ targets), np.float32)
