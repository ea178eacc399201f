"""Captions in five languages with planted errors: what is said is known, and so is what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.datasets.scenes import LANGUAGES, Dice, Mention, relevance, vocabulary, words
from workbench.datasets.scenes.translations import fact_names, garble, translations, visible_facts

CLEAN = dict.fromkeys(LANGUAGES, 0.0)


def test_same_arguments_same_world_and_no_noise_no_error() -> None:
    made, again = (translations(n_scenes=30, noise=CLEAN) for _ in range(2))
    assert made.scenes == again.scenes
    assert made.captions == again.captions
    assert len(made) == 30
    assert made.languages == tuple(LANGUAGES)
    assert not made.n_wrong.any()
    assert made.n_words.shape == (5, 30)
    assert translations(n_scenes=12, noise=CLEAN).captions["fr"] == made.captions["fr"][:12]
    assert translations(n_scenes=30, noise=CLEAN, seed=1).captions != made.captions


def test_noise_changes_words_and_nothing_else() -> None:
    clean, noisy = translations(n_scenes=40, noise=CLEAN), translations(n_scenes=40, noise={**CLEAN, "de": 0.4})
    assert noisy.scenes == clean.scenes
    assert noisy.statements == clean.statements
    for k, language in enumerate(LANGUAGES):
        for i in range(40):
            before, after = (words(one.captions[language][i], language) for one in (clean, noisy))
            assert len(before) == len(after) == clean.n_words[k, i]
            assert sum(a != b for a, b in zip(before, after, strict=True)) == noisy.n_wrong[k, i]
    assert set(np.flatnonzero(noisy.n_wrong.any(axis=1))) == {list(LANGUAGES).index("de")}


def test_share_of_wrong_words_is_the_one_asked_for() -> None:
    noise = {"en": 0.0, "de": 0.1, "fr": 0.2, "es": 0.3, "ja": 0.4}
    made = translations(n_scenes=400, noise=noise)
    shares = made.n_wrong.sum(axis=1) / made.n_words.sum(axis=1)
    spread = np.sqrt(np.array(list(noise.values())) * 0.9 / made.n_words.sum(axis=1))
    assert (np.abs(shares - list(noise.values())) <= 4 * spread).all(), shares


def test_errors_of_languages_are_unrelated() -> None:
    made = translations(n_scenes=600, noise={"en": 0.3, "es": 0.3})
    shares = made.n_wrong / made.n_words
    assert abs(np.corrcoef(shares)[0, 1]) < 0.15


def test_statements_are_true_and_splits_share_no_content() -> None:
    parts = {split: translations(n_scenes=60, noise={"en": 0.0}, split=split) for split in ("train", "val", "test")}
    for split, made in parts.items():
        true = relevance(made.statements, made.scenes)
        assert all(i in true.row(i)[0] for i in range(60))
        assert {scene.split for scene in made.scenes} == {split}
        assert len({scene.arrangement for scene in made.scenes}) == 60


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_replaced(language: str) -> None:
    text = translations(n_scenes=1, noise=CLEAN).captions[language][0]
    wrong, n = garble(text, language, share=1.0, dice=Dice(3))
    before, after = words(text, language), words(wrong, language)
    assert n == len(before) == len(after)
    assert all(a != b for a, b in zip(before, after, strict=True))
    assert set(after) <= vocabulary(language)


def test_visible_facts_count_by_the_statement_s_own_rule() -> None:
    """A single fact is there as often as objects fit the mention of it: counted by the rule of truth."""
    made = translations(n_scenes=50, noise={"en": 0.0})
    counts, names = visible_facts(made.scenes), fact_names()
    assert counts.shape == (50, 187)
    assert len(set(names)) == 187
    for i, scene in enumerate(made.scenes):
        for shape in ("star", "moon"):
            for color in ("red", "blue"):
                fits = sum(Mention(shape, color).fits(thing) for thing in scene.objects)
                assert counts[i, names.index((shape, color))] == fits
        column = sum(thing.shape == "star" and thing.column == 2 for thing in scene.objects)
        assert counts[i, names.index(("star", "column 2"))] == column
        assert counts[i, names.index((scene.background,))] == 1
        assert counts[i, :22].sum() == 4 * len(scene.objects)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_scenes": 0}, "at least 1 scene"),
        ({"noise": {}}, "at least 1 scene"),
        ({"noise": {"xx": 0.1}}, "no captions in xx"),
        ({"noise": {"en": 1.5}}, "shares in 0..1"),
        ({"paraphrase": -0.1}, "shares in 0..1"),
        ({"split": "dev"}, "expected one of train, val, test"),
        ({"objects": (0, 2)}, "fewest, most"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        translations(**{"n_scenes": 3, "noise": {"en": 0.0}, **options})  # type: ignore[arg-type]


def test_more_scenes_than_exist() -> None:
    with pytest.raises(ValueError, match="hardly any new ones"):
        translations(n_scenes=3000, noise={"en": 0.0}, objects=(1, 1), split="test")
