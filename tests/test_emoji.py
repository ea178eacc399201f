"""Emoji: names against CLDR, pictures against Noto's own PNGs, families, what a font lacks, the cache, and training."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import re
import subprocess
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont, features

from workbench.adapt import tiny_clip
from workbench.adapt.tiny_clip import recipe_for, train_tiny_clip
from workbench.datasets import emoji as package
from workbench.datasets import load
from workbench.datasets.collection import Collection, content_digest
from workbench.datasets.emoji import fonts, load_emoji, stored
from workbench.datasets.emoji import render as drawing
from workbench.datasets.emoji.families import TONES, base_of, gender_of, inventory, tone_of
from workbench.datasets.emoji.names import LANGUAGES, names
from workbench.datasets.emoji.render import IN_PIECES, NO_GLYPH, STAND_IN, WITHOUT_TAGS, render

Shared = Callable[[str], Path]


NO_PLACE = "🏴\U000e0078\U000e0078\U000e007f"


@pytest.fixture(scope="module")
def font() -> Path:
    """The machine's font; without one the tests of pictures skip, without text shaping only where CI does not ask."""
    try:
        found = fonts.find_font()
    except fonts.NoFont as error:
        pytest.skip(str(error))
    if not features.check("raqm"):
        assert os.environ.get("CI") != "true", "Pillow without Raqm, and CI=true asks for it"
        pytest.skip("Pillow without Raqm")
    return found


@pytest.fixture(scope="module")
def everything(font: Path) -> Collection:
    return load_emoji(split="all", variants="all", labels="graded", languages=("en", "ko"))


@pytest.fixture(scope="module")
def base_forms(font: Path) -> Collection:
    return load("emoji", split="all")


def column(collection: Collection, name: str) -> np.ndarray:
    return np.asarray(collection.images.columns[name])


def spoken(text: str) -> str:
    """Words only: the package writes no colons between the parts of a name, CLDR does."""
    return " ".join(re.sub(r"[^\w\s#*]", " ", unicodedata.normalize("NFKC", text).casefold()).split())


# Names


@pytest.mark.parametrize(("language", "least"), [("en", 0.99), ("de", 0.98), ("fr", 0.98), ("ja", 0.98), ("ru", 0.95)])
def test_names_are_those_of_cldr(shared: Shared, language: str, least: float) -> None:
    with gzip.open(shared("data/emoji_noto/annotations.jsonl.gz"), "rt", encoding="utf-8") as file:
        stated = {row["emoji"].replace("\ufe0f", ""): row["name"] for row in map(json.loads, file)}
    known = [one for one in inventory() if not one.tone and one.text.replace("\ufe0f", "") in stated]
    ours = names(known, language)
    same = [
        spoken(name) == spoken(stated[one.text.replace("\ufe0f", "")][language])
        for one, name in zip(known, ours, strict=True)
    ]
    assert len(same) > 1600
    assert np.mean(same) >= least, f"{language}: {np.mean(same):.3f} of {len(same)} names agree"


def test_names_are_words_in_every_language() -> None:
    for language in LANGUAGES:
        found = names(inventory(), language)
        assert len(set(found)) == len(found), f"{language}: a name twice"
        assert not [name for name in found if not name or "_" in name or name != name.strip() or "  " in name]
    place = [one for one in inventory() if one.text in ("🇵🇪", "🏴󠁧󠁢󠁷󠁬󠁳󠁿")]
    assert names(place, "en") == ["flag Peru", "flag Wales"]
    assert names(place, "zh")[0] == "旗 秘鲁"
    assert names(place, "de")[0] == "flagge peru"
    with pytest.raises(ValueError, match="no names in 'xx'"):
        names(place, "xx")


# Families


def test_the_base_takes_away_tone_and_gender_and_nothing_else() -> None:
    """Against the English names: a family has one name when the words for tone and gender are left out."""
    gone = re.compile(
        r"\b(light|medium-light|medium|medium-dark|dark) skin tone\b|\b(wo)?m[ae]n\b|\b(person|people|boy|girl|child)\b"
    )
    families, bases = defaultdict(set), defaultdict(set)
    for one, name in zip(inventory(), names(inventory(), "en"), strict=True):
        rest = " ".join(gone.sub("", name).split())
        families[one.base].add(rest)
        bases[rest].add(one.base)
    several = {base: found for base, found in families.items() if len(found) > 1}
    assert len(several) <= 12, several  # prince and princess, Santa and Mrs. Claus have words of their own
    apart = {rest: found for rest, found in bases.items() if len(found) > 1}
    assert len(apart) <= 5, apart  # adults and children, families, rooms of one and the other
    pairs = [
        ("🏃🏽‍♀️", "🏃"), ("👩🏽‍🦰", "🧑‍🦰"), ("👨‍👩‍👧", "🧑‍🧑‍🧒"), ("🏴‍☠️", "🏴‍☠"), ("♂️", "♂"), ("🫱🏻‍🫲🏿", "🤝"),
        ("👩🏻‍🐰‍👩🏿", "👯"),
    ]  # fmt: skip
    for text, base in pairs:
        assert base_of(text) == base
    assert base_of("👨‍🦰") != base_of("👨‍🦱") != base_of("👨")


def test_tone_and_gender_follow_from_the_name(base_forms: Collection) -> None:
    for one, name in zip(inventory(), names(inventory(), "en"), strict=True):
        stated = set(re.findall(r"(medium-light|medium-dark|light|medium|dark) skin tone", name))
        assert tone_of(one.text) == ("several" if len(stated) > 1 else "".join(stated)), name
        if re.search(r"\bwom[ae]n\b", name) and not re.search(r"\b(m[ae]n|boy)\b", name):
            assert one.gender == ("" if re.search("wom[ae]n’s|headscarf", name) else "woman"), name
    assert gender_of("👫") == "both"
    assert {"people", "face", "flag", "keycap", "clock", "moon", "symbol", "picture"} == set(
        column(base_forms, "group")
    )
    counted = Counter(column(base_forms, "group"))
    assert (counted["keycap"], counted["clock"]) == (12, 24)
    assert counted["flag"] >= 258


# Pictures


def test_pictures_are_those_that_noto_publishes(shared: Shared, base_forms: Collection) -> None:
    """The stored PNG of the same emoji is the nearest by pixels, among those of 1,650."""
    folder = shared("data/emoji_noto/png72")
    if "Noto" not in base_forms.card.title:
        pytest.skip("the stored pictures are Noto's, this machine has another font")
    stated = {path.stem.removeprefix("emoji_u"): path for path in sorted(folder.glob("*.png"))}
    ours = {name.replace("-fe0f", "").replace("-", "_"): row for row, name in enumerate(base_forms.images.ids)}
    shared_names = sorted(set(stated) & set(ours))
    assert len(shared_names) > 1300
    theirs = np.stack([_flat(_on_white(stated[name])) for name in shared_names])
    sample = np.random.default_rng(0).choice(len(shared_names), 400, replace=False)
    mine = np.stack([_flat(np.asarray(base_forms.images.content[ours[shared_names[i]]])) for i in sample])
    distance = (mine**2).sum(1)[:, None] + (theirs**2).sum(1) - 2 * mine @ theirs.T
    right = np.mean(distance.argmin(axis=1) == sample)
    assert right >= 0.95, f"{right:.3f} of {len(sample)} pictures are nearest to their own"


def _on_white(path: Path) -> np.ndarray:
    image = Image.open(path).convert("RGBA")
    side = max(image.size)
    square = Image.new("RGBA", (side, side), "white")
    square.alpha_composite(image, ((side - image.width) // 2, (side - image.height) // 2))
    return np.asarray(square.convert("RGB"))


def _flat(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((24, 24), Image.Resampling.BOX), np.float64).ravel() / 255


def test_what_the_font_lacks_is_left_out_with_its_reason(font: Path) -> None:
    opened = fonts.open_font(font)
    one = inventory()[0]
    # no emoji: a joined pair, a tone on a cat, an unassigned country, tags that spell no flag, a private character
    made = {"😀‍🚲": IN_PIECES, "🐈🏿": IN_PIECES, "🇽🇽": STAND_IN, NO_PLACE: STAND_IN}
    if "Noto" not in opened.name:
        pytest.skip("the reasons are those of Noto")
    asked = [dataclasses.replace(one, text=text) for text in [*made, "\ue123", "😀", "👩🏽‍🚀", "🏴󠁧󠁢󠁷󠁬󠁳󠁿", "🇳🇴"]]
    drawn = render(opened, asked, size=32, progress=False)
    assert dict(drawn.left_out) == {**made, "\ue123": NO_GLYPH}
    assert drawn.texts == ("😀", "👩🏽‍🚀", "🏴󠁧󠁢󠁷󠁬󠁳󠁿", "🇳🇴")
    assert drawn.pixels.shape == (4, 32, 32, 3)
    assert drawn.pixels[0, 16, 16, 0] > 200 > drawn.pixels[0, 16, 16, 2]  # a yellow face
    assert (drawn.pixels[:, 0, 0] == 255).all()


def test_a_flag_without_its_tags_is_left_out(font: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a font draws it that has a black flag and knows no tags."""
    opened, drawn = fonts.open_font(font), drawing._drawn
    monkeypatch.setattr(drawing, "_drawn", lambda font, text: drawn(font, text[0]))
    wales = [one for one in inventory() if one.text == "🏴󠁧󠁢󠁷󠁬󠁳󠁿"]
    assert dict(render(opened, wales, size=16, progress=False).left_out) == {wales[0].text: WITHOUT_TAGS}


def test_versions_that_are_lacking_are_in_order(font: Path) -> None:
    lacking = {one.text: NO_GLYPH for one in inventory() if one.version in (2.0, 4.0, 13.0)}
    drawn = package._Drawn(
        fonts.open_font(font), (), np.zeros(0, int), drawing.Pictures(np.zeros((0, 1, 1, 3)), (), lacking), (), ()
    )
    (said,) = package._notes(drawn, ())
    assert re.findall(r"of Emoji (\d+)", said) == ["2", "4", "13"]


def test_left_out_and_twins_are_in_the_notes(everything: Collection) -> None:
    known = len(inventory())
    left = known - len(everything.images)
    assert (f"{left} of {known} emoji are left out" in " ".join(everything.notes)) == (left > 0)
    digests = [content_digest(np.asarray(pixels)) for pixels in everything.images.content]
    twins = len(digests) - sum(count == 1 for count in Counter(digests).values())
    assert (f"{twins} pictures equal another one" in " ".join(everything.notes)) == (twins > 0)


# Relevance and splits


def test_graded_relevance_is_the_family(everything: Collection) -> None:
    """A slow loop over a sample of texts."""
    digests = [content_digest(np.asarray(pixels)) for pixels in everything.images.content]
    family = column(everything, "family")
    for text in np.random.default_rng(1).choice(len(everything.texts), 150, replace=False).tolist():
        own = everything.text_image[text]
        wanted = {
            i: 2.0 if digests[i] == digests[own] else 1.0
            for i in range(len(digests)) if digests[i] == digests[own] or family[i] == family[own]
        }  # fmt: skip
        items, grades = everything.relevance.row(text)
        assert dict(zip(items.tolist(), grades.tolist(), strict=True)) == wanted
    woman = everything.images.ids.index("1f469-1f3fd")
    grades = dict(zip(*(part.tolist() for part in everything.relevance.T.row(woman)), strict=True))
    assert sorted(Counter(grades.values())) == [1.0, 2.0]
    assert {one.base for one in inventory() if one.text == "👩🏽"} == {"🧑"}


def test_exact_labels_count_the_own_picture_only(font: Path, base_forms: Collection) -> None:
    exact = load("emoji", split="all", options={"variants": "all", "languages": ("en",)})
    assert set(exact.relevance.grades.tolist()) == {1.0}
    alone = np.flatnonzero(exact.relevance.positives_per_query == 1)
    assert len(alone) > 0.98 * len(exact.texts)
    assert [int(exact.relevance.row(text)[0][0]) for text in alone[:50]] == exact.text_image[alone[:50]].tolist()
    assert len(base_forms.images) < len(exact.images) / 2
    assert len(set(column(base_forms, "family"))) == len(base_forms.images)
    assert set(column(base_forms, "tone")) == {"none"}
    norway, bouvet = (exact.texts.ids.index(f"{name}-en") for name in ("1f1f3-1f1f4", "1f1e7-1f1fb"))
    if exact.relevance.positives_per_query[norway] > 1:
        assert exact.relevance.row(norway)[0].tolist() == exact.relevance.row(bouvet)[0].tolist()


def test_no_family_and_no_picture_is_in_two_splits(font: Path) -> None:
    of_family, of_picture, sizes = defaultdict(set), defaultdict(set), {}
    for split in package.SPLITS:
        part = load_emoji(split=split, variants="all", languages=("en",))
        sizes[split] = len(set(column(part, "family")))
        for family, pixels in zip(column(part, "family"), part.images.content, strict=True):
            of_family[family].add(split)
            of_picture[content_digest(np.asarray(pixels))].add(split)
    assert {len(found) for found in of_family.values()} == {1}
    assert {len(found) for found in of_picture.values()} == {1}
    share = {split: size / len(of_family) for split, size in sizes.items()}
    assert share == pytest.approx({"train": 0.6, "val": 0.15, "test": 0.25}, abs=0.03)


def test_shape_of_the_collection(font: Path) -> None:
    some = load("emoji", n_images=30, options={"languages": ("de", "ja")})
    assert (len(some.images), len(some.texts)) == (30, 60)
    assert some.texts.columns["language"].tolist()[:2] == ["de", "ja"]
    assert some.images.ids == load("emoji").images.ids[:30]
    assert len(set(column(some, "group"))) > 3  # a fair sample, not the first thirty code points
    assert some.images.content[0].shape == (72, 72, 3)
    assert {"BSD", "Unicode"} <= set(some.card.licence.split())
    assert load("emoji").card.content_hash == load("emoji").card.content_hash


@pytest.mark.parametrize(
    ("dials", "said"),
    [
        ({"split": "tset"}, "split is 'tset'"), ({"languages": ("en", "xx")}, "no names in xx"),
        ({"languages": "en"}, "sequence of different names"), ({"languages": ("en", "en")}, "different names"),
        ({"languages": ()}, "different names"), ({"variants": "some"}, "expected one of none, all"),
        ({"labels": "soft"}, "expected one of exact, graded"), ({"labels": "graded"}, "pass variants='all'"),
        ({"size": 8}, "16..512"),
    ],
)  # fmt: skip
def test_dials_out_of_range(dials: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load_emoji(**dials)  # type: ignore[arg-type]


# Font and cache


def test_errors_say_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fonts, "_PLACES", {"linux": ()})
    monkeypatch.setattr(fonts, "_HOW", {})
    monkeypatch.setattr(fonts, "_matched", lambda: None)
    with pytest.raises(FileNotFoundError, match="apt install fonts-noto-color-emoji"):
        load("emoji")
    with pytest.raises(FileNotFoundError, match=r"there is no font file 'none\.ttf'"):
        load("emoji:none.ttf")
    (tmp_path / "text.ttf").write_text("no font")
    with pytest.raises(FileNotFoundError, match=r"text\.ttf opens at none of the sizes"):
        load(f"emoji:{tmp_path / 'text.ttf'}")
    with pytest.raises(ValueError, match=r"belong to scenes and emoji, not to folder"):
        load("folder:x", options={"languages": ("en",)})


def test_a_font_without_colour_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib

    if not features.check("raqm"):
        pytest.skip("Pillow without Raqm")
    plain = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    with pytest.raises(FileNotFoundError, match=r"DejaVuSans\.ttf has no 😀 in colour"):
        fonts.open_font(plain)
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(fonts.NoShaping, match="FriBiDi"):
        fonts.open_font(plain)


def test_a_font_that_is_not_free_keeps_its_pictures_here(font: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load("emoji").card.share == ("full" if fonts.open_font(font).licence else "no-images")
    monkeypatch.setattr(fonts, "_OPEN", {})
    assert load("emoji").card.share == "no-images"


def test_cache_is_read_verified_and_repaired(font: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, some = fonts.open_font(font), inventory()[500:530]
    first = stored.pictures(opened, some, size=24, root=tmp_path)
    (folder,) = (tmp_path / "emoji").iterdir()
    assert {path.suffix for path in folder.iterdir()} == {".json", ".npy"}
    index = json.loads((folder / "pictures.json").read_text())
    assert index["key"]["font_sha256"] == opened.sha256
    assert not [place for place in (tmp_path, font) if str(place) in json.dumps(index)]
    drawn = []
    monkeypatch.setattr(stored, "render", lambda *given, **how: drawn.append(1) or render(*given, **how))
    again = stored.pictures(opened, some, size=24, root=tmp_path)
    assert (again.pixels == first.pixels).all()
    assert again.texts == first.texts
    assert not drawn
    array = next(folder.glob("*.npy"))
    kept = np.array(first.pixels)
    for spoil in (lambda: array.write_bytes(array.read_bytes()[:-1] + b"x"), array.unlink,
                  lambda: (folder / "pictures.json").write_text("{")):  # fmt: skip
        before = len(drawn)
        spoil()
        assert (stored.pictures(opened, some, size=24, root=tmp_path).pixels == kept).all()
        assert len(drawn) == before + 1
    stored.pictures(opened, some, size=20, root=tmp_path)
    assert len(list((tmp_path / "emoji").iterdir())) == 2


def test_a_cache_that_cannot_be_written_says_so(font: Path, tmp_path: Path) -> None:
    (tmp_path / "emoji").write_text("a file where a folder should be")
    with pytest.raises(OSError, match="set WORKBENCH_CACHE"):
        stored.pictures(fonts.open_font(font), inventory()[:2], size=24, root=tmp_path)


def test_fc_match_is_asked_last(font: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_PLACES", {"linux": ()})
    said = subprocess.CompletedProcess([], 0, f"True\t{font}", "")
    monkeypatch.setattr(fonts.shutil, "which", lambda name: "fc-match")
    monkeypatch.setattr(fonts.subprocess, "run", lambda *given, **how: said)
    monkeypatch.setattr(sys, "platform", "linux")
    assert fonts.find_font() == font
    said.stdout = f"False\t{font}"
    with pytest.raises(fonts.NoFont):
        fonts.find_font()


def test_debians_noto_opens_at_its_only_size(font: Path) -> None:
    opened = fonts.open_font(font)
    if "Noto" not in opened.name:
        pytest.skip("another font")
    with pytest.raises(OSError, match="invalid pixel size"):
        ImageFont.truetype(str(font), 72)
    assert opened.opened.size == 109


# Training


def test_lessons_are_a_function_of_the_step(font: Path) -> None:
    taught = package.lessons(languages=("en", "tr"))
    images, captions = taught.batch(3, batch_size=40)
    again = taught.batch(3, batch_size=40)
    assert (images == again[0]).all()
    assert captions == again[1]
    assert images.shape == (40, 64, 64, 3)
    assert taught.batch(4, batch_size=40)[1] != captions
    known = {name: row for found in taught.names.values() for row, name in enumerate(found)}
    assert len({known[caption] for caption in captions}) == 40
    for image, caption in zip(images, captions, strict=True):  # moved by at most 4 pixels of 64
        whole = taught.pixels[known[caption]]
        moved = [
            np.abs(image[8:56, 8:56].astype(int) - whole[8 - d : 56 - d, 8 - r : 56 - r]).sum()
            for d in range(-4, 5) for r in range(-4, 5)
        ]  # fmt: skip
        assert min(moved) == 0
    only = taught.batch(0, batch_size=40, languages={"tr": 1.0})[1]
    assert set(only) <= set(taught.names["tr"])
    test = load("emoji", options={"languages": ("en",)})
    assert not set(taught.names["en"]) & set(test.texts.content)


def test_tiny_clip_learns_from_emoji(font: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_clip, "EMOJI_MERGES", 100)
    recipe = dataclasses.replace(
        recipe_for("emoji", steps=20, batch_size=16, threads=1), embed_dim=16,
        vision={"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
        text={"context_length": 64, "width": 16, "heads": 2, "layers": 1}, languages={"en": 1.0, "id": 1.0},
    )  # fmt: skip
    whole, halves = train_tiny_clip(tmp_path / "whole", recipe=recipe), tmp_path / "halves"
    train_tiny_clip(halves, recipe=recipe, stop_after=10)
    train_tiny_clip(halves, recipe=recipe)
    weights = "open_clip_model.safetensors"
    assert (halves / weights).read_bytes() == (whole.folder / weights).read_bytes()
    manifest = json.loads((whole.folder / "training.json").read_text(encoding="utf-8"))
    assert manifest["recipe"]["dataset"] == "emoji"
    assert (manifest["data"]["name"], manifest["data"]["split"]) == ("emoji", "train")
    assert "vocabulary" not in manifest  # names of emoji are any words
    assert manifest["loss"][-1]["loss"] < manifest["loss"][0]["loss"]
    named = tiny_clip._plain(dataclasses.replace(recipe, dataset="emoji:/somewhere/My.ttf"))
    assert named["dataset"] == "emoji:My.ttf"
    with pytest.raises(ValueError, match="learns from scenes or emoji"):
        train_tiny_clip(tmp_path / "other", dataset="folder:x")


def test_recipes_of_scenes_are_written_as_before() -> None:
    from workbench.shipped import find

    shipped = json.loads((find("data/models/tiny-clip") / "training.json").read_text(encoding="utf-8"))
    assert set(tiny_clip._plain(recipe_for("scenes"))) == set(shipped["recipe"])


@pytest.mark.slow
def test_audit_of_emoji(font: Path, tmp_path: Path) -> None:
    """The built-in model learned coloured shapes: on emoji it is at chance, in every language."""
    from workbench.evaluate import evaluate

    run = evaluate(dataset="emoji", out=tmp_path, n_resamples=300)
    entry = run.metrics["t2i/hit@10"]
    assert entry["value"] < 2 * entry["chance"]
    assert len(run.results["slices t2i language"].groups) == len(LANGUAGES)


def test_tones_are_the_five_of_fitzpatrick() -> None:
    assert [unicodedata.name(letter)[-3:] for letter in TONES] == ["1-2", "E-3", "E-4", "E-5", "E-6"]
