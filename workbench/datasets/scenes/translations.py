"""The same statements in several languages, translated with errors whose places are known.

A corpus in many languages is mostly one language and what a machine made of it. Here a statement about a scene is
worded in each of the five languages, each with its own words, agreement and word order, and then every word is
replaced, with a probability that is the language's own, by another word of that language: a language with more noise is
worse, and by how much is known. Errors of one language do not depend on those of another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from workbench.datasets.scenes.language import LANGUAGES, caption, vocabulary, words
from workbench.datasets.scenes.world import (
    ATTRIBUTES,
    BACKGROUNDS,
    GRID,
    MAX_OBJECTS,
    SPLITS,
    VALUES,
    Dice,
    Scene,
    Statement,
    sample_in_split,
    sample_statement,
)
from workbench.types import FloatArray, IntArray

_SCENE, _MEANING, _WORDING, _NOISE = range(20, 24)


@dataclass(frozen=True, eq=False)
class Translations:
    """Scenes with one statement each, and what every language makes of it.

    languages : names, in the order of ``noise``. captions : language -> one per
    scene. n_words, n_wrong (n_languages, n_scenes) : words of a caption (Japanese: characters), and how many were
    replaced.
    """

    scenes: tuple[Scene, ...]
    statements: tuple[Statement, ...]
    languages: tuple[str, ...]
    captions: Mapping[str, tuple[str, ...]]
    n_words: IntArray
    n_wrong: IntArray

    def __len__(self) -> int:
        return len(self.scenes)


def translations(
    *,
    n_scenes: int,
    noise: Mapping[str, float],
    seed: int = 0,
    split: str = "train",
    objects: tuple[int, int] = (2, 4),
    completeness: float = 0.6,
    paraphrase: float = 0.5,
) -> Translations:
    """Scenes of a split with one statement each in all languages of ``noise``: language -> share of wrong words.

    No two scenes have the same arrangement; the splits share no content. Other dials as in :func:`scenes`; the same
    call with other noise gives the same scenes, statements and wording. Errors: no scene or language, a language or
    split that does not exist, noise outside 0..1, more scenes than exist.

    >>> made = translations(n_scenes=2, noise={"en": 0.0, "de": 0.5}, paraphrase=0.0)
    >>> made.captions["en"][0], made.captions["de"][0]
    ('two large dotted stars', 'zwei große Kreise Sterne')
    >>> int(made.n_wrong[1, 0]), int(made.n_words[1, 0])
    (1, 4)
    """
    _check(n_scenes, noise, split, objects, completeness, paraphrase)
    part = SPLITS.index(split)
    shown = _distinct(n_scenes, Dice(seed, _SCENE, part), split, objects)
    meant = tuple(
        sample_statement(Dice(seed, _MEANING, part, i), scene, completeness=completeness)
        for i, scene in enumerate(shown)
    )
    captions, counts = {}, []
    for language, share in noise.items():
        number, garbled = list(LANGUAGES).index(language), []
        for i, statement in enumerate(meant):
            dice = Dice(seed, _WORDING, part, i, number)
            text = caption(statement, language, dice=dice, paraphrase=paraphrase)
            garbled.append(garble(text, language, share=share, dice=Dice(seed, _NOISE, part, i, number)))
        captions[language] = tuple(text for text, _ in garbled)
        counts.append([(len(words(text, language)), wrong) for text, wrong in garbled])
    n_words, n_wrong = np.asarray(counts, np.int64).transpose(2, 0, 1)
    return Translations(shown, meant, tuple(noise), captions, n_words, n_wrong)


def garble(text: str, language: str, *, share: float, dice: Dice) -> tuple[str, int]:
    """The caption with each word (Japanese: character) replaced with probability ``share`` by another of its language.

    The new word is drawn evenly from the vocabulary and never the old one. Returns (caption, number of words replaced).

    >>> garble("a red star", "en", share=0.0, dice=Dice(0))
    ('a red star', 0)
    >>> garble("a red star", "en", share=1.0, dice=Dice(0))[1]
    3
    """
    if share == 0:
        return text, 0
    known, n_wrong = _known_words(language), 0

    def replace(match: re.Match[str]) -> str:
        nonlocal n_wrong
        word = match.group()
        if not dice.chance(share):
            return word
        n_wrong += 1
        others = [other for other in known if other != word] if word in known else known
        return others[dice.below(len(others))]

    return re.sub(r"\w" if language == "ja" else r"\w+", replace, text), n_wrong


def visible_facts(scenes: Sequence[Scene]) -> FloatArray:
    """What is to be seen in each scene, as counts: (n_scenes, 187), columns as in :func:`fact_names`.

    How many objects have each attribute value, each shape with each colour, size, texture, row and column, and which
    background there is: what a perfect picture encoder would report, short of which object has which three things.

    >>> from workbench.datasets.scenes import Object, Scene
    >>> red, blue = Object("star", "red", "small", "plain", 0, 2), Object("star", "blue", "small", "plain", 1, 1)
    >>> counts = visible_facts([Scene((red, blue), "gray")])[0]
    >>> names = fact_names()
    >>> [int(counts[names.index(one)]) for one in (("star",), ("star", "red"), ("star", "plain"), ("gray",))]
    [2, 1, 2, 1]
    """
    column = {name: i for i, name in enumerate(fact_names())}
    counts = np.zeros((len(scenes), len(column)))
    for row, scene in enumerate(scenes):
        counts[row, column[scene.background,]] = 1
        for thing in scene.objects:
            values = [getattr(thing, name) for name in ATTRIBUTES]
            places = [f"row {thing.row}", f"column {thing.column}"]
            for fact in [*((value,) for value in values), *((thing.shape, other) for other in (*values[1:], *places))]:
                counts[row, column[fact]] += 1
    return counts


def fact_names() -> list[tuple[str, ...]]:
    """The columns of :func:`visible_facts`.

    >>> len(fact_names()), fact_names()[0]
    (187, ('circle',))
    """
    single = [(value,) for name in ATTRIBUTES for value in VALUES[name]] + [(ground,) for ground in BACKGROUNDS]
    others = [value for name in ATTRIBUTES[1:] for value in VALUES[name]]
    others += [f"{line} {number}" for line in ("row", "column") for number in range(GRID)]
    return single + [(shape, other) for shape in VALUES["shape"] for other in others]


@lru_cache(maxsize=8)
def _known_words(language: str) -> tuple[str, ...]:
    return tuple(sorted(vocabulary(language)))


def _check(n_scenes: int, noise: Mapping[str, float], split: str, objects: tuple[int, int], *shares: float) -> None:
    if n_scenes < 1 or not noise:
        raise ValueError(f"at least 1 scene and 1 language are needed; got {n_scenes} and {len(noise)}")
    unknown = [language for language in noise if language not in LANGUAGES]
    if unknown:
        raise ValueError(f"no captions in {', '.join(unknown)}; there are {', '.join(LANGUAGES)}")
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(SPLITS)}")
    if not 1 <= objects[0] <= objects[1] <= MAX_OBJECTS:
        raise ValueError(f"objects must be (fewest, most) within 1..{MAX_OBJECTS}; got {objects}")
    wrong = [share for share in (*noise.values(), *shares) if not 0 <= share <= 1]
    if wrong:
        raise ValueError(f"noise, completeness and paraphrase are shares in 0..1; got {wrong[0]}")


def _distinct(n: int, dice: Dice, split: str, objects: tuple[int, int]) -> tuple[Scene, ...]:
    """The first n scenes of the stream that differ in arrangement."""
    found: dict[tuple[object, ...], Scene] = {}
    misses = 0
    while len(found) < n:
        scene = sample_in_split(dice, split, objects=objects)
        misses = misses + 1 if scene.arrangement in found else 0
        found.setdefault(scene.arrangement, scene)
        if misses == 200:
            raise ValueError(
                f"n_scenes is {n}, but after {len(found)} scenes hardly any new ones with {objects[0]} to {objects[1]} "
                f"objects exist in the split {split!r}; ask for fewer scenes or allow more objects"
            )
    return tuple(found.values())
