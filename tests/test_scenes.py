"""The procedural scenes: pixels and captions that never change, a truth that holds, dials that do what they say."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from workbench.datasets import scenes as module
from workbench.datasets.collection import content_digest
from workbench.datasets.scenes import (
    LANGUAGES,
    Dice,
    Mention,
    Object,
    Scene,
    SceneCollection,
    Statement,
    caption,
    relevance,
    render,
    sample_scene,
    sample_statement,
    scenes,
    training_batch,
    training_stream,
    truth,
    vocabulary,
    words,
)
from workbench.datasets.scenes.world import BACKGROUNDS, COLORS, GRID, RELATIONS, SHAPES, SIZES, TEXTURES

ALL = tuple(LANGUAGES)


def small(**options: object) -> SceneCollection:
    return scenes(**{"n_images": 60, "size": 32, **options})  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------- never changes

GOLDEN = "65b56f0a33c408d2"
GOLDEN_STREAM = "3ccf51c1481dd4f2"


def stream_hash() -> str:
    images, captions = training_batch(5, batch_size=16, languages={"en": 0.5, "ja": 0.3, "de": 0.2})
    return hashlib.sha256(images.tobytes() + "\n".join(captions).encode()).hexdigest()[:16]


def test_pixels_and_captions_are_the_stored_ones_on_every_machine() -> None:
    world = scenes(
        n_images=40, languages=ALL, captions_per_image=7, mismatched=0.1, duplicates=0.1, near_duplicates=0.1,
        split_leaks=0.1,
    )  # fmt: skip
    assert world.card.content_hash[:16] == GOLDEN
    assert stream_hash() == GOLDEN_STREAM


def test_another_process_with_another_hash_seed_gives_the_same_bytes() -> None:
    code = (
        "from workbench.datasets.scenes import scenes; "
        "print(scenes(n_images=9, languages=('fr', 'ja')).card.content_hash)"
    )
    here = scenes(n_images=9, languages=("fr", "ja")).card.content_hash
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert there.stdout.strip() == here


def test_seeds_differ_and_a_longer_collection_begins_with_the_shorter_one() -> None:
    one, longer, other = small(), small(n_images=90), small(seed=1)
    assert one.texts.content == longer.texts.content[: len(one.texts)]
    assert all(np.array_equal(a, b) for a, b in zip(one.images.content, longer.images.content, strict=False))
    assert one.card.content_hash != other.card.content_hash
    assert sum(a == b for a, b in zip(one.texts.content, other.texts.content, strict=True)) < 10


# ------------------------------------------------------------------------------------------------------- truth


def thing(shape: str, color: str = "red", row: int = 0, column: int = 0, size: str = "small") -> Object:
    return Object(shape, color, size, "plain", row, column)


TRIO = Scene((thing("circle"), thing("circle", "blue", 0, 2), thing("star", "red", 2, 1)), "gray")


@pytest.mark.parametrize(
    ("mentions", "background", "relation", "expected"),
    [
        ([Mention("circle", "red")], None, None, True),
        ([Mention("circle", "green")], None, None, False),
        ([Mention("circle")], "gray", None, True),
        ([Mention("circle")], "pink", None, False),
        ([Mention("circle", count=2)], None, None, True),
        ([Mention("circle", count=3)], None, None, False),
        ([Mention(count=3)], None, None, True),
        ([Mention(count=4)], None, None, False),
        ([Mention("circle"), Mention("circle", "red")], None, None, True),
        ([Mention("star"), Mention("star", "red")], None, None, False),
        ([Mention("circle", count=2), Mention(color="red")], None, None, True),
        ([Mention("circle", count=2), Mention(color="red"), Mention()], None, None, False),
        ([Mention("circle", "red"), Mention("star")], None, "left of", True),
        ([Mention("circle", "blue"), Mention("star")], None, "left of", False),
        ([Mention("circle"), Mention("star")], None, "right of", True),
        ([Mention("star"), Mention("circle")], None, "below", True),
        ([Mention("star"), Mention("circle")], None, "above", False),
        ([Mention("circle"), Mention("circle")], None, "above", False),
        ([Mention("circle", count=2), Mention("star")], None, "above", True),
        ([Mention("circle", count=2), Mention("star")], None, "left of", False),
    ],
)
def test_rules_of_truth_on_a_scene_drawn_by_hand(mentions, background, relation, expected) -> None:
    statement = Statement(tuple(mentions), background, relation)
    assert statement.true_of(TRIO) is expected
    assert relevance([statement], [TRIO, TRIO]).n_positives == 2 * expected


def true_by_trying_everything(statement: Statement, scene: Scene) -> bool:
    """The rules read literally: some way of giving each mention its own objects makes every part of it hold."""
    if statement.background not in (None, scene.background):
        return False
    slots = [m for m, mention in enumerate(statement.mentions) for _ in range(mention.count)]
    for chosen in itertools.permutations(scene.objects, len(slots)):
        good = True
        for slot, picked in zip(slots, chosen, strict=True):
            mention = statement.mentions[slot]
            for name in ("shape", "color", "size", "texture"):
                good &= getattr(mention, name) in (None, getattr(picked, name))
        if good and statement.relation:
            sign, axis = {
                "left of": (1, "column"),
                "right of": (-1, "column"),
                "above": (1, "row"),
                "below": (-1, "row"),
            }[statement.relation]
            firsts, seconds = ([getattr(o, axis) for s, o in zip(slots, chosen, strict=True) if s == m] for m in (0, 1))
            good = all(sign * (b - a) > 0 for a in firsts for b in seconds)
        if good:
            return True
    return False


def loosened(statement: Statement, dice: Dice) -> Statement:
    """A statement that is true more often: attributes dropped, counts and relations made up."""
    mentions = tuple(
        Mention(m.shape if dice.chance(0.4) else None, m.color if dice.chance(0.4) else None, count=1 + dice.below(2))
        for m in statement.mentions[:2]
    )
    return Statement(mentions, None, RELATIONS[dice.below(4)] if len(mentions) == 2 else None)


def test_relevance_agrees_with_trying_every_assignment() -> None:
    dice = Dice(11)
    images = [sample_scene(dice, objects=(1, 5)) for _ in range(70)]
    statements = [sample_statement(dice, scene, completeness=0.35) for scene in images for _ in range(2)]
    statements += [loosened(statement, dice) for statement in statements]
    expected = np.array([[true_by_trying_everything(s, scene) for scene in images] for s in statements])
    found = relevance(statements, images)
    dense = np.zeros_like(expected)
    dense[found.queries, found.items] = True
    assert (dense == expected).all()
    assert expected.shape == (280, 70)
    assert 0.02 < expected.mean() < 0.5


def test_every_caption_of_a_clean_collection_is_true_of_its_image() -> None:
    world = small(objects=(1, 4))
    assert all(world.text_image[q] in world.relevance.row(q)[0] for q in range(len(world.texts)))
    assert world.relevance.n_positives == truth(world).n_positives


def test_default_difficulty_has_single_and_multiple_positives() -> None:
    counts = scenes(size=16).relevance.positives_per_query
    assert counts.shape == (5000,)
    assert 0.5 < np.mean(counts == 1) < 0.8
    assert np.mean(counts <= 3) > 0.6
    assert np.mean(counts > 10) > 0.05


def test_truth_needs_a_collection_made_here() -> None:
    plain = small()
    bare = module.Collection(plain.card, plain.images, plain.texts, plain.relevance, plain.text_image)
    with pytest.raises(TypeError, match=r"collections made by scenes\(\)"):
        truth(bare)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Mention("cirle"),
        lambda: Mention("circle", count=0),
        lambda: Statement(()),
        lambda: Statement((Mention(),), relation="above"),
        lambda: Statement((Mention(), Mention()), relation="near"),
        lambda: Statement((Mention(),), background="red"),
        lambda: Object("circle", "red", "small", "plain", 3, 0),
        lambda: Scene((thing("circle"), thing("star")), "gray"),
        lambda: Scene((), "gray"),
        lambda: relevance([], [TRIO]),
    ],
)
def test_what_cannot_be_is_refused(make) -> None:
    with pytest.raises(ValueError, match=r"."):
        make()


# ---------------------------------------------------------------------------------------------------- languages

AGREEMENT = [
    (
        Statement((Mention("star", "green", "large", "striped"),), "light blue"),
        "a large striped green star on a light blue background",
        "ein großer gestreifter grüner Stern auf einem hellblauen Hintergrund",
        "une grande étoile verte à rayures sur un fond bleu clair",
        "una gran estrella verde a rayas sobre un fondo azul claro",
        "水色の背景に縞模様の大きな緑の星",
    ),
    (
        Statement((Mention("diamond", "white", "small", "plain", 2), Mention("cross", "black")), None),
        "two small plain white diamonds and a black cross",
        "zwei kleine einfarbige weiße Rauten und ein schwarzes Kreuz",
        "deux petits losanges blancs unis et une croix noire",
        "dos pequeños rombos blancos lisos y una cruz negra",
        "2つの無地の小さな白いひし形と、黒い十字",
    ),
    (
        Statement(
            (Mention("heart", "purple"), Mention("moon", texture="dotted"), Mention("square")), "gray", "left of"
        ),
        "a purple heart to the left of a dotted moon, plus a square on a gray background",
        "ein violettes Herz links von einem gepunkteten Mond sowie ein Quadrat auf einem grauen Hintergrund",
        "un cœur violet à gauche d'un croissant de lune à pois, ainsi qu'un carré sur un fond gris",
        "un corazón morado a la izquierda de una luna de lunares, además de un cuadrado sobre un fondo gris",
        "灰色の背景に水玉模様の三日月の左にある紫のハート、それに四角",
    ),
    (
        Statement((Mention(color="orange"), Mention("diamond", size="large")), None, "below"),
        "an orange shape below a large diamond",
        "eine orangefarbene Form unter einer großen Raute",
        "une forme orange au-dessous d'un grand losange",
        "una figura naranja debajo de un gran rombo",
        "大きなひし形の下にあるオレンジ色の図形",
    ),
    (
        Statement((Mention("cross", "white", count=3), Mention("moon", "orange", count=2), Mention("circle")), "pink"),
        "three white crosses, two orange moons and a circle on a pink background",
        "drei weiße Kreuze, zwei orangefarbene Monde und ein Kreis auf einem rosafarbenen Hintergrund",
        "trois croix blanches, deux croissants de lune orange et un cercle sur un fond rose",
        "tres cruces blancas, dos lunas naranjas y un círculo sobre un fondo rosa",
        "ピンクの背景に3つの白い十字と、2つのオレンジ色の三日月と、丸",
    ),
    (
        Statement((Mention(size="small", texture="checked"),), "beige"),
        "a small checked shape on a beige background",
        "eine kleine karierte Form auf einem beigefarbenen Hintergrund",
        "une petite forme à carreaux sur un fond beige",
        "una pequeña figura a cuadros sobre un fondo beige",
        "ベージュの背景に市松模様の小さな図形",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "en", "de", "fr", "es", "ja"), AGREEMENT)
def test_canonical_captions_agree_in_gender_number_and_case(statement, en, de, fr, es, ja) -> None:
    expected = {"en": en, "de": de, "fr": fr, "es": es, "ja": ja}
    assert {language: caption(statement, language) for language in ALL} == expected


def wordings(statement: Statement, language: str, n: int = 200) -> set[str]:
    return {caption(statement, language, dice=Dice(i), paraphrase=1.0) for i in range(n)}


def test_german_cases_follow_the_frame() -> None:
    star = wordings(Statement((Mention("star", "red"),)), "de")
    assert star == {
        "ein Bild mit einem roten Stern", "das Bild zeigt einen roten Stern", "man sieht einen roten Stern",
        "zu sehen ist ein roter Stern",
    }  # fmt: skip
    hearts = wordings(Statement((Mention("star", "red", count=2), Mention("heart", "blue"))), "de")
    assert hearts == {
        "ein Bild mit zwei roten Sternen und einem blauen Herzen",
        "das Bild zeigt zwei rote Sterne und ein blaues Herz",
        "man sieht zwei rote Sterne und ein blaues Herz",
        "zu sehen sind zwei rote Sterne und ein blaues Herz",
    }  # fmt: skip


@pytest.mark.parametrize("language", ALL)
def test_no_caption_has_two_meanings(language: str) -> None:
    """Whatever the wording, the meaning can be read back: equal texts come from equal statements."""
    dice = Dice(3)
    meaning: dict[str, frozenset] = {}
    for _ in range(3000):
        statement = sample_statement(dice, sample_scene(dice), completeness=0.5, relations=0.5)
        if statement.relation is None:  # the order of mentions carries no meaning, and none is stated twice
            key = frozenset([*statement.mentions, statement.background])
        else:
            pair = (statement.mentions[:2], statement.relation)
            key = frozenset([pair, *statement.mentions[2:], statement.background])
        text = caption(statement, language, dice=dice, paraphrase=0.5)
        assert meaning.setdefault(text, key) == key, text


@pytest.mark.parametrize("language", ALL)
def test_no_form_of_a_word_serves_two_values(language: str) -> None:
    values = [("color", c) for c in COLORS] + [("size", z) for z in SIZES] + [("texture", t) for t in TEXTURES]
    meaning: dict[str, Statement] = {}
    for shape, (name, value), count in itertools.product((*SHAPES, None), values, (1, 2)):
        statement = Statement((Mention(**{"shape": shape, name: value}, count=count),))
        for text in wordings(statement, language, n=12):
            assert meaning.setdefault(text, statement) == statement, text


PHRASE_START = re.compile(r"\b(?=(?:une?|una|deux|dos|trois|tres) )")
ROMANCE = {  # feminine nouns, then adjectives as (masculine, feminine)
    "fr": (
        {"étoile", "croix", "lune", "forme", "figure", "image"}, ("un", "une"),
        "vert/verte bleu/bleue violet/violette noir/noire blanc/blanche uni/unie rayé/rayée petit/petite grand/grande "
        "gros/grosse",
    ),
    "es": (
        {"estrella", "cruz", "luna", "figura", "forma", "imagen"}, ("un", "una"),
        "rojo/roja amarillo/amarilla morado/morada negro/negra blanco/blanca liso/lisa pequeño/pequeña",
    ),
}  # fmt: skip


@pytest.mark.parametrize("language", ["fr", "es"])
def test_romance_articles_and_adjectives_take_the_gender_of_the_noun(language: str) -> None:
    feminine_nouns, (masculine, feminine), pairs = ROMANCE[language]
    seen = Counter()
    for text in scenes(n_images=300, size=16, languages=(language,), paraphrase=0.7).texts.content:
        for phrase in PHRASE_START.split(text.replace("croissant de lune", "croissant")):
            parts = words(re.split(" sur | sobre | avec | con ", phrase)[0], language)
            if parts and parts[0] in (masculine, feminine):
                is_feminine = bool(feminine_nouns & set(parts))
                wrong = {pair.split("/")[not is_feminine] for pair in pairs.split()}
                assert (parts[0] == feminine) == is_feminine, phrase
                assert not wrong & set(parts[1:]), phrase
                seen[is_feminine] += 1
    assert min(seen.values()) > 500


GERMAN_GENDER = {
    "Kreis": "m", "Quadrat": "n", "Dreieck": "n", "Stern": "m", "Herz": "n", "Herzen": "n", "Kreuz": "n", "Raute": "f",
    "Rhombus": "m", "Mond": "m", "Halbmond": "m", "Mondsichel": "f", "Form": "f", "Figur": "f", "Objekt": "n",
    "Bild": "n", "Hintergrund": "m",
}  # fmt: skip
GERMAN_ENDINGS = {
    ("ein", "m"): "er", ("einen", "m"): "en", ("einem", "m"): "en", ("eine", "f"): "e", ("einer", "f"): "en",
    ("ein", "n"): "es", ("einem", "n"): "en",
}  # fmt: skip


def test_german_articles_adjectives_and_nouns_agree() -> None:
    seen = Counter()
    for text in scenes(n_images=300, size=16, languages=("de",), paraphrase=0.7).texts.content:
        for article, adjectives, noun in re.findall(
            r"\b(ein|eine|einen|einem|einer)((?: [a-zäöüß]+)*) ([A-Z]\w+)", text
        ):
            ending = GERMAN_ENDINGS[article, GERMAN_GENDER[noun]]
            stems = [re.sub("(er|es|en|em|e)$", "", word) for word in adjectives.split()]
            assert adjectives.split() == [stem + ending for stem in stems], text
            assert (noun == "Herzen") <= (article == "einem"), text
            seen[article] += 1
    assert min(seen[article] for article in ("ein", "eine", "einen", "einem", "einer")) > 50


@pytest.mark.parametrize("language", ALL)
def test_vocabulary_is_what_captions_use(language: str) -> None:
    dice = Dice(4)
    used: Counter[str] = Counter()
    for _ in range(1500):
        statement = sample_statement(dice, sample_scene(dice, objects=(1, 9)), completeness=dice.below(10) / 10)
        used.update(words(caption(statement, language, dice=dice, paraphrase=0.7), language))
    known = vocabulary(language)
    assert set(used) <= known
    rare = {"four", "five", "six", "seven", "eight", "nine"} if language == "en" else set()
    assert len(set(used) - rare) > 0.85 * len(known)


@pytest.mark.parametrize("language", ALL)
def test_captions_are_clean_text(language: str) -> None:
    for text in small(languages=(language,), paraphrase=0.8).texts.content:
        assert text == text.strip()
        assert "  " not in text
        assert not re.search(r"[{}_]|None|,,", text)
        if language == "ja":
            assert " " not in text
        if language == "en":
            assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text)
        if language == "fr":
            assert not re.search(r"\b(de|que) une?\b", text)


def test_the_same_statements_in_every_language() -> None:
    worlds = [small(languages=(language,)) for language in ALL]
    assert all(world.statements == worlds[0].statements for world in worlds)
    assert all(np.array_equal(world.relevance.items, worlds[0].relevance.items) for world in worlds)
    assert len({world.texts.content[7] for world in worlds}) == 5


def test_languages_take_turns_and_five_of_each_is_possible() -> None:
    turns = small(languages=("en", "de", "ja"))
    assert turns.texts.columns["language"][:6].tolist() == ["en", "de", "ja", "en", "de", "de"]
    assert np.bincount(turns.text_image).tolist() == [5] * 60
    full = small(languages=("en", "de"), captions_per_image=10)
    for image in range(60):
        assert Counter(full.texts.columns["language"][full.text_image == image]) == {"en": 5, "de": 5}


def test_caption_refuses_what_it_does_not_know() -> None:
    statement = Statement((Mention("star"),))
    with pytest.raises(ValueError, match="'it'"):
        caption(statement, "it")
    with pytest.raises(ValueError, match="dice"):
        caption(statement, "en", paraphrase=0.5)


# ------------------------------------------------------------------------------------------------------- pixels


def test_every_pair_of_looks_differs_visibly() -> None:
    looks = list(itertools.product(SHAPES, COLORS, SIZES, TEXTURES))
    pictures = np.array([
        render(Scene((Object(*look[:3], look[3], 1, 1),), "gray"))[20:44, 20:44].reshape(-1) for look in looks
    ]).astype(np.float32)  # fmt: skip
    squares = (pictures**2).sum(1)
    distance = squares[:, None] + squares[None, :] - 2 * pictures @ pictures.T
    np.fill_diagonal(distance, np.inf)
    # at least as far apart as four pixels that change by 100 in each channel
    assert distance.min() > 4 * 3 * 100**2


def test_every_object_stands_out_from_every_background() -> None:
    for shape, color, background in itertools.product(SHAPES, COLORS, BACKGROUNDS):
        empty = render(Scene((thing(shape, color, 0, 0),), background)).astype(int)
        shown = render(Scene((thing(shape, color, 0, 0), thing(shape, color, 2, 2)), background)).astype(int)
        changed = np.abs(shown - empty).sum(2)
        assert (changed > 90).sum() >= 20, (shape, color, background)
        assert changed[:43].max() == 0
        assert changed[:, :43].max() == 0


@pytest.mark.parametrize("size", [16, 33, 64, 224])
def test_objects_never_overlap_or_leave_the_picture(size: int) -> None:
    """In a full grid with shifts towards each other, the order of painting does not matter."""
    for scale, reach in (("large", 1), ("small", 3)):
        for signs in itertools.product((-1, 1), repeat=2):
            grid = [
                Object("square", COLORS[(r * GRID + c) % 8], scale, "plain", r, c,
                       (signs[0] * reach * (-1) ** r, signs[1] * reach * (-1) ** c))
                for r in range(GRID) for c in range(GRID)
            ]  # fmt: skip
            forwards = render(Scene(tuple(grid), "gray"), size)
            assert forwards.shape == (size, size, 3)
            assert forwards.dtype == np.uint8
            if size >= 64:
                assert np.array_equal(forwards, render(Scene(tuple(grid[::-1]), "gray"), size))


def test_left_and_above_are_where_people_see_them() -> None:
    picture = render(Scene((thing("square", "black", 0, 2, "large"),), "light blue")).astype(int)
    dark = np.argwhere(picture.sum(2) < 200).mean(0)
    assert dark[0] < 20  # row 0 is at the top
    assert dark[1] > 44  # column 2 is on the right


def test_a_shift_and_brightness_move_and_lighten() -> None:
    plain = render(TRIO)
    moved = render(TRIO, shift=(1, -2))
    assert np.array_equal(moved[1:, :-2], plain[:-1, 2:])
    brighter = render(TRIO, brightness=8).astype(int)
    assert np.array_equal(brighter, np.minimum(plain.astype(int) * 108 // 100, 255))


def test_render_does_not_hand_out_its_own_memory() -> None:
    first = render(TRIO)
    copy = first.copy()
    first[:] = 0
    assert np.array_equal(render(TRIO), copy)


def test_too_small_a_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16"):
        render(TRIO, 8)


# ------------------------------------------------------------------------------------- dials, measured in the output


@pytest.mark.parametrize("objects", [(1, 1), (2, 3), (4, 4)])
def test_objects_per_scene(objects: tuple[int, int]) -> None:
    world = small(objects=objects, completeness=1.0, paraphrase=0.0)
    assert set(world.images.columns["n_objects"].tolist()) == set(range(objects[0], objects[1] + 1))
    numbers = {"a": 1, "an": 1, "two": 2, "three": 3, "four": 4}
    for text, image in zip(world.texts.content, world.text_image, strict=True):
        said = re.sub("on a [a-z ]+ background|to the (left|right) of", "", text)
        counted = sum(numbers.get(word, 0) for word in words(said, "en"))
        assert counted == world.images.columns["n_objects"][image]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.6, 0.9, 1.0])
def test_completeness_is_the_share_of_attributes_in_the_words(share: float) -> None:
    world = scenes(n_images=150, size=16, objects=(1, 1), completeness=share, paraphrase=0.0)
    values = {*SHAPES, *COLORS, *SIZES, *TEXTURES}
    said = [
        sum(word in values for word in words(text.split(" on a ")[0], "en")) + ("background" in text)
        for text in world.texts.content
    ]
    assert np.mean(said) / 5 == pytest.approx(share, abs=0.02)
    assert np.array_equal(said, world.texts.columns["n_stated"])


def test_completeness_with_several_objects() -> None:
    world = scenes(n_images=300, size=16, completeness=0.5)
    possible = 4 * world.images.columns["n_objects"][world.text_image] + 1
    assert world.texts.columns["n_stated"].sum() / possible.sum() == pytest.approx(0.5, abs=0.02)


def test_less_complete_captions_have_more_true_images() -> None:
    positives = [scenes(n_images=300, size=16, completeness=c).relevance.n_positives for c in (0.3, 0.6, 1.0)]
    assert positives[0] > 2 * positives[1] > 2 * positives[2] >= 2 * 1500


def test_paraphrase_is_the_share_of_choices_that_depart() -> None:
    canonical = dict.fromkeys((0.0, 0.5, 1.0), 0.0)
    for rate in canonical:
        world = scenes(n_images=200, size=16, paraphrase=rate)
        plain = [caption(statement) for statement in world.statements]
        canonical[rate] = np.mean([a == b for a, b in zip(world.texts.content, plain, strict=True)])
        opening = re.compile("^(an image of|a picture of|a drawing with|there (is|are)|on a )|against a ")
        departed = np.mean([bool(opening.search(text)) for text in world.texts.content])
        assert departed == pytest.approx(rate, abs=0.05)
    assert canonical[0.0] == 1.0
    assert 0.02 < canonical[0.5] < 0.4
    assert canonical[1.0] == 0.0


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_mismatched_texts_are_false_of_the_image_they_are_labelled_with(share: float) -> None:
    world, clean = small(mismatched=share), small()
    false_own = np.array([
        not true_by_trying_everything(statement, world.scenes[image])
        for statement, image in zip(world.statements, world.text_image, strict=True)
    ])  # fmt: skip
    assert false_own.sum() == round(share * 300)
    assert np.array_equal(false_own, world.texts.columns["planted"] == "mismatched")
    assert all(world.text_image[q] in world.relevance.row(q)[0] for q in range(300))
    assert world.relevance.n_positives == truth(world).n_positives + false_own.sum()
    assert truth(world).positives_per_query.min() >= 1  # another image is right
    same = np.array([a == b for a, b in zip(world.texts.content, clean.texts.content, strict=True)])
    assert same[~false_own].all()


def test_own_labels_leave_the_other_true_pairs_unjudged() -> None:
    world = small(labels="own", mismatched=0.2)
    assert world.relevance.items.tolist() == world.text_image.tolist()
    assert world.relevance.n_positives == 300
    assert truth(world).n_positives > 350


def test_duplicates_are_counted_by_their_pixels() -> None:
    clean, world = small(), small(duplicates=0.2)
    digests = Counter(content_digest(image) for image in world.images.content)
    assert sum(count - 1 for count in digests.values()) == 12
    assert max(Counter(content_digest(image) for image in clean.images.content).values()) == 1
    position = {name: i for i, name in enumerate(world.images.ids)}
    for i in np.flatnonzero(world.images.columns["planted"] == "duplicate"):
        original = position[world.images.columns["source_id"][i]]
        assert original != i
        assert np.array_equal(world.images.content[i], world.images.content[original])
    untouched = world.images.columns["planted"] == ""
    assert all(np.array_equal(world.images.content[i], clean.images.content[i]) for i in np.flatnonzero(untouched))
    shared = world.relevance.T
    for i in np.flatnonzero(~untouched):
        original = position[world.images.columns["source_id"][i]]
        assert shared.row(i)[0].tolist() == shared.row(original)[0].tolist()


def nearest_arrangement(world: SceneCollection) -> int:
    """How many images show an arrangement that an earlier image shows already."""
    return len(world.scenes) - len({scene.arrangement for scene in world.scenes})


def test_near_duplicates_have_other_pixels_and_the_same_meaning() -> None:
    world = scenes(n_images=60, near_duplicates=0.2)
    assert len({content_digest(image) for image in world.images.content}) == 60
    assert nearest_arrangement(world) == 12
    assert nearest_arrangement(scenes(n_images=60)) == 0
    position = {name: i for i, name in enumerate(world.images.ids)}
    for i in np.flatnonzero(world.images.columns["planted"] == "near-duplicate"):
        original = world.images.content[position[world.images.columns["source_id"][i]]].astype(float)
        copy = world.images.content[i].astype(float)
        ratio = copy[20:-20].mean() / original[20:-20].mean()
        assert 0.02 < abs(ratio - 1) < 0.1
        assert np.abs(copy - original).mean() < 30


def test_split_leaks_are_counted_by_pixels_found_in_train() -> None:
    train = {content_digest(image) for image in small(split="train").images.content}
    assert sum(content_digest(image) in train for image in small(split="test").images.content) == 0
    leaky = small(split="test", split_leaks=0.15)
    found = [content_digest(image) in train for image in leaky.images.content]
    assert sum(found) == 9
    assert np.array_equal(found, leaky.images.columns["planted"] == "leak")
    assert sum(content_digest(image) in train for image in small(split="val", split_leaks=0.15).images.content) == 9


def test_all_defects_at_once_keep_their_counts() -> None:
    world = small(duplicates=0.1, near_duplicates=0.2, split_leaks=0.1, mismatched=0.1)
    assert Counter(world.images.columns["planted"].tolist()) == {
        "": 36,
        "duplicate": 6,
        "near-duplicate": 12,
        "leak": 6,
    }
    digests = Counter(content_digest(image) for image in world.images.content)
    assert sum(count - 1 for count in digests.values()) == 6
    assert len(world.images) == 60


# ------------------------------------------------------------------------------------- splits, names, training stream


def test_splits_share_no_content() -> None:
    content = {
        split: {scene.content for seed in (0, 1) for scene in small(split=split, seed=seed, objects=(1, 2)).scenes}
        for split in ("train", "val", "test")
    }
    for first, second in itertools.combinations(content, 2):
        assert not content[first] & content[second]
    drawn = Counter(sample_scene(Dice(5, i)).split for i in range(2000))
    assert drawn["train"] / 2000 == pytest.approx(0.75, abs=0.04)
    assert drawn["val"] / 2000 == pytest.approx(0.125, abs=0.03)


def test_ids_are_unique_across_splits_and_legal_everywhere() -> None:
    worlds = [small(split=split, languages=("en", "fr")) for split in ("train", "val", "test")]
    names = [name for world in worlds for name in (*world.images.ids, *world.texts.ids)]
    assert len(set(names)) == len(names) == 3 * (60 + 300)
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in names)
    assert list(worlds[0].images.ids) == sorted(worlds[0].images.ids)
    assert (worlds[2].images.ids[59], worlds[2].texts.ids[6]) == ("test-000059", "test-000001-en-1")


def test_card_states_what_is_there() -> None:
    world = small(captions_per_image=3)
    assert world.card.expected == {"images": len(world.images.content), "texts": len(world.texts.content)}
    assert (len(world.images), len(world.texts)) == (60, 180)
    assert world.card.captions_per_image == "3"
    assert "CC0" in world.card.licence
    assert "not stated" not in dict(world.card.rows())["source"]


def test_training_batches_depend_on_the_step_alone() -> None:
    images, captions = training_batch(3, batch_size=8, size=32)
    again, same = training_batch(3, batch_size=8, size=32)
    assert np.array_equal(images, again)
    assert captions == same
    stream = training_stream(start=2, batch_size=8, size=32)
    assert next(stream)[1] != captions
    assert next(stream)[1] == captions
    assert training_batch(3, seed=1, batch_size=8, size=32)[1] != captions
    assert len(set(training_batch(0, batch_size=200, size=16)[1])) > 190


def test_training_shows_train_scenes_with_true_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Scene] = []
    stated: list[Statement] = []
    monkeypatch.setattr(module, "render", lambda scene, size: drawn.append(scene) or render(scene, size))
    monkeypatch.setattr(
        module, "caption", lambda statement, *a, **k: stated.append(statement) or caption(statement, *a, **k)
    )
    training_batch(0, batch_size=150, size=16)
    assert {scene.split for scene in drawn} == {"train"}
    assert all(true_by_trying_everything(s, scene) for s, scene in zip(stated, drawn, strict=True))


def test_training_languages_come_with_their_probabilities() -> None:
    _, captions = training_batch(0, batch_size=1500, size=16, languages={"ja": 0.2, "en": 0.8})
    assert np.mean([bool(re.search("[ぁ-ん]", text)) for text in captions]) == pytest.approx(0.2, abs=0.04)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "dev"}, "'dev'"),
        ({"languages": ("en", "it")}, "it"),
        ({"languages": "en"}, "sequence"),
        ({"languages": ()}, "sequence"),
        ({"objects": (0, 3)}, "1..9"),
        ({"objects": (3, 2)}, "1..9"),
        ({"completeness": 1.5}, "completeness"),
        ({"mismatched": -0.1}, "mismatched"),
        ({"duplicates": float("nan")}, "duplicate"),
        ({"duplicates": 0.3, "near_duplicates": 0.3}, "0.5"),
        ({"split": "train", "split_leaks": 0.1}, "split_leaks"),
        ({"labels": "all"}, "'all'"),
        ({"n_images": 0}, "at least 1"),
        ({"n_images": 4000, "objects": (1, 1)}, "fewer images"),
        ({"n_images": 1, "mismatched": 1.0}, "more images"),
    ],
)
def test_errors_say_what_came_and_what_to_try(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        small(**options)


def test_one_image_is_enough() -> None:
    world = small(n_images=1, captions_per_image=2)
    assert world.relevance.positives_per_query.tolist() == [1, 1]


def test_training_refuses_an_unknown_language() -> None:
    with pytest.raises(ValueError, match="it"):
        training_batch(0, languages={"it": 1.0})
