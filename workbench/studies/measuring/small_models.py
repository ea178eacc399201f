"""Small two-sided models of pictures and captions, trained from nothing, many at a time.

A picture is the objects of a scene as a faulty detector reports them, a caption is its words; each becomes one vector
by a linear map of the parts and their mean or maximum. Models with other seeds, rates and margins are trained side by
side, as one batch of matrices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from workbench.adapt.contrastive import info_nce
from workbench.adapt.hinge import hardest_hinge, sum_hinge
from workbench.datasets.scenes import SceneCollection, scenes, words
from workbench.datasets.scenes.world import ATTRIBUTES, BACKGROUNDS, GRID, VALUES, Scene
from workbench.metrics import per_query
from workbench.search import RankPositives, scan
from workbench.types import FloatArray, Relevance

Floats = npt.NDArray[np.float32]

LOSSES = ("sum hinge", "hardest negative", "InfoNCE")
STARTS = ("taught words", "random words")
FUSIONS = ("mean", "maximum")

_VALUES = [value for name in ATTRIBUTES for value in VALUES[name]]
_PLACES = [f"{line} {i}" for line in ("row", "column") for i in range(GRID)]
_COLUMN = {name: i for i, name in enumerate([*_VALUES, *_PLACES, *BACKGROUNDS])}
DETECTOR_NOISE = 0.4


@dataclass(frozen=True)
class Sizes:
    """Images of each part, seeds per combination, steps, pairs in a batch, dimension, and what is tried in tuning."""

    train: int
    validation: int
    test: int
    taught: int
    seeds: int
    steps: int
    batch: int
    dim: int
    rates: tuple[float, ...]
    margins: tuple[float, ...] = (0.2,)
    temperatures: tuple[float, ...] = (0.1,)


@dataclass(frozen=True, eq=False)
class Part:
    """Pictures (n, n_regions, n_facts) with ``seen`` (n, n_regions); texts (n_texts, n_words) of word numbers, 0 for
    none; owner (n_texts,) the picture a text was written for; relevance (n_texts, n_images), all that is true."""

    pictures: Floats
    seen: npt.NDArray[np.bool_]
    texts: npt.NDArray[np.int64]
    owner: npt.NDArray[np.int64]
    relevance: Relevance


def _regions(shown: tuple[Scene, ...], rng: np.random.Generator) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Each object and the background as a row of facts, with the noise of a detector."""
    most = 1 + max(len(scene.objects) for scene in shown)
    facts, seen = np.zeros((len(shown), most, len(_COLUMN))), np.zeros((len(shown), most), bool)
    for i, scene in enumerate(shown):
        facts[i, 0, _COLUMN[scene.background]] = 1
        seen[i, : 1 + len(scene.objects)] = True
        for place, thing in enumerate(scene.objects, start=1):
            named = [getattr(thing, name) for name in ATTRIBUTES]
            for fact in (*named, f"row {thing.row}", f"column {thing.column}"):
                facts[i, place, _COLUMN[fact]] = 1
    facts += DETECTOR_NOISE * rng.standard_normal(facts.shape)
    return (facts * seen[..., None]).astype(np.float32), seen


def _part(made: SceneCollection, known: Mapping[str, int], rng: np.random.Generator) -> Part:
    pictures, seen = _regions(made.scenes, rng)
    spoken = [[known[word] for word in words(text, "en") if word in known] for text in made.texts.content]
    texts = np.zeros((len(spoken), max(map(len, spoken))), np.int64)
    for row, numbers in enumerate(spoken):
        texts[row, : len(numbers)] = numbers
    return Part(pictures, seen, texts, np.asarray(made.text_image, np.int64), made.relevance)


@dataclass(frozen=True, eq=False)
class World:
    """Pictures and captions of the three splits, and word vectors (n_words, n_facts) taught by simple pictures."""

    train: Part
    validation: Part
    test: Part
    taught: FloatArray


def make_world(seed: int, sizes: Sizes) -> World:
    shown: dict[str, Any] = {"seed": seed, "size": 16, "captions_per_image": 2}
    made = [
        scenes(n_images=n, split=split, **shown)
        for split, n in (("train", sizes.train), ("val", sizes.validation), ("test", sizes.test))
    ]
    simple = scenes(
        n_images=sizes.taught, split="train", objects=(1, 1), completeness=1.0, **shown | {"seed": seed + 1}
    )
    spoken = {word for one in (made[0], simple) for text in one.texts.content for word in words(text, "en")}
    known = {word: i for i, word in enumerate(sorted(spoken), start=1)}
    rng = np.random.default_rng([seed, 8])
    train, validation, test, lessons = (_part(one, known, rng) for one in (*made, simple))
    return World(train, validation, test, _taught(lessons, len(known) + 1))


def _taught(lessons: Part, n_words: int) -> FloatArray:
    """What each word says about a picture, by ridge regression of what is seen on the words of the caption."""
    said = np.zeros((len(lessons.texts), n_words))
    np.add.at(said, (np.arange(len(said))[:, None], lessons.texts), 1.0)
    said[:, 0] = 1.0
    facts = lessons.pictures.sum(axis=1)[lessons.owner]
    weights = np.linalg.solve(said.T @ said + np.eye(n_words), said.T @ facts)
    weights[0] = 0.0
    return np.asarray(weights, np.float64)


@dataclass(frozen=True)
class Setting:
    """A combination of the three choices, learning rate and margin (InfoNCE: temperature), and the seed of a run."""

    loss: str
    start: str
    fusion: str
    rate: float
    sharpness: float
    seed: int


class Models:
    """Several models side by side, alike in loss and fusion: pictures and words as vectors of length one."""

    def __init__(self, settings: list[Setting], world: World, dim: int, seed: int) -> None:
        import torch

        self.settings, self.fusion = settings, settings[0].fusion
        n_words, n_facts = world.taught.shape
        taught = world.taught @ np.random.default_rng([seed, 88]).standard_normal((n_facts, dim))
        taught /= np.sqrt(dim) * taught.std()
        seen, said = [], []
        for one in settings:
            rng = np.random.default_rng([seed, one.seed, 108])
            seen.append(rng.standard_normal((n_facts, dim)) / np.sqrt(dim))
            fresh = rng.standard_normal((n_words, dim)) / np.sqrt(dim)
            said.append(taught if one.start == STARTS[0] else fresh)
        self.seen = torch.tensor(np.array(seen, np.float32), requires_grad=True)
        self.said = torch.tensor(np.array(said, np.float32), requires_grad=True)

    def images(self, part: Part, rows: npt.NDArray[np.int64]) -> Any:
        """rows (n_models, n) -> (n_models, n, dim)."""
        import torch

        seen = torch.from_numpy(part.seen[rows])
        facts = torch.from_numpy(part.pictures[rows])
        return self._fused((facts.flatten(1, 2) @ self.seen).unflatten(1, seen.shape[1:]), seen)

    def texts(self, part: Part, rows: npt.NDArray[np.int64]) -> Any:
        """rows (n_models, n) -> (n_models, n, dim)."""
        import torch
        from torch.nn.functional import embedding

        numbers = torch.from_numpy(part.texts[rows])
        shift = torch.arange(len(self.said))[:, None, None] * self.said.shape[1]
        return self._fused(embedding(numbers + shift, self.said.flatten(0, 1)), numbers > 0)

    def _fused(self, vectors: Any, there: Any) -> Any:
        from torch.nn.functional import normalize

        there = there.unsqueeze(-1)
        if self.fusion == "mean":
            return normalize((vectors * there).sum(dim=2), dim=-1)
        return normalize(vectors.masked_fill(~there, -1e4).amax(dim=2), dim=-1)

    def losses(self, images: Any, texts: Any) -> Any:
        """The sum over the models, which do not touch each other."""
        import torch

        if self.settings[0].loss == "InfoNCE":
            pairs = zip(images, texts, self.settings, strict=True)
            return sum(info_nce(image, text, one.sharpness) for image, text, one in pairs)
        hinge = sum_hinge if self.settings[0].loss == "sum hinge" else hardest_hinge
        return hinge(images, texts, torch.tensor([one.sharpness for one in self.settings])).sum()


def trained(settings: list[Setting], world: World, sizes: Sizes, seed: int) -> Models:
    import torch

    models = Models(settings, world, sizes.dim, seed)
    weights = (models.seen, models.said)
    memory = [(torch.zeros_like(one), torch.zeros_like(one)) for one in weights]
    rates = torch.tensor([one.rate for one in settings])[:, None, None]
    dice = [np.random.default_rng([seed, one.seed, 208]) for one in settings]
    n_images = len(world.train.pictures)
    for step in range(sizes.steps):
        rows = np.stack([rng.choice(n_images, sizes.batch, replace=False) for rng in dice])
        texts = 2 * rows + np.stack([rng.integers(2, size=sizes.batch) for rng in dice])
        loss = models.losses(models.images(world.train, rows), models.texts(world.train, texts))
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for weight, gradient, moments in zip(weights, gradients, memory, strict=True):
                _adam(weight, gradient, moments, step, rates * min(1.0, 2 * (1 - step / sizes.steps)))
    return models


def _adam(weight: Any, gradient: Any, moments: tuple[Any, Any], step: int, rate: Any) -> None:
    """One step of Adam, in place. ``torch.optim`` takes longer to import than a small run of this study."""
    first, second = moments
    first.lerp_(gradient, 0.1)
    second.lerp_(gradient.square(), 0.001)
    spread = (second / (1 - 0.999 ** (step + 1))).sqrt_().add_(1e-8)
    weight.sub_(rate * first / (1 - 0.9 ** (step + 1)) / spread)


def recalls(models: Models, part: Part) -> FloatArray:
    """R@1 of each model in per cent, mean of both directions."""
    import torch

    n_models = len(models.settings)
    with torch.no_grad():
        images = models.images(part, np.tile(np.arange(len(part.pictures)), (n_models, 1))).numpy()
        texts = models.texts(part, np.tile(np.arange(len(part.texts)), (n_models, 1))).numpy()
    turned = part.relevance.T
    return np.array(
        [(_hits(t, i, part.relevance) + _hits(i, t, turned)) / 2 for t, i in zip(texts, images, strict=True)]
    )


def _hits(queries: Floats, gallery: Floats, relevance: Relevance) -> float:
    ranks = scan(queries, gallery, [RankPositives(relevance)])[0]
    return 100.0 * float(per_query("hit@1", ranks).expected.mean())
