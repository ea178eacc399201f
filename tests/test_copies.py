"""Near-copies: planted ones come back, different pictures do not; the section computes, keeps and draws them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance, PngImagePlugin
from scipy.fft import dctn

from workbench.datasets import content_digest
from workbench.datasets.pictures import open_picture
from workbench.datasets.scenes import scenes
from workbench.diagnostics.copies_impact import World, copies_impact
from workbench.diagnostics.leaks import joined
from workbench.diagnostics.perceptual import (
    BITS,
    Fingerprints,
    LookAlikes,
    close_strings,
    fingerprints,
    look_alikes,
    near_captions,
)
from workbench.evaluate import evaluate_into
from workbench.evaluate.integrity import copies as section
from workbench.plots import copies as drawn
from workbench.report import schema_of
from workbench.report.integrity.copies import CopiesSection
from workbench.runs import Run
from workbench.types import Relevance

Shared = Callable[[str], Path]


def names(n: int) -> list[str]:
    return [f"p{i:04d}" for i in range(n)]


def photo(seed: int, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    """A smooth picture of many frequencies, different for each seed."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(30, 200, (6, 8, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(blocks).resize(size[::-1], Image.Resampling.BICUBIC))


def pairs_of(found: LookAlikes) -> set[tuple[int, int]]:
    return {(int(i), int(j)) for i, j in zip(found.first, found.second, strict=True)}


def as_jpeg(picture: Any, quality: int = 50) -> np.ndarray:
    sink = io.BytesIO()
    Image.fromarray(np.asarray(picture)).save(sink, "JPEG", quality=quality)
    return np.asarray(Image.open(sink).convert("RGB"))


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "jpeg 50": as_jpeg,
    "half": lambda p: np.asarray(Image.fromarray(p).resize((p.shape[1] // 2, p.shape[0] // 2))),
    "lighter": lambda p: np.asarray(ImageEnhance.Brightness(Image.fromarray(p)).enhance(1.2)),
    "darker": lambda p: np.asarray(ImageEnhance.Brightness(Image.fromarray(p)).enhance(0.8)),
}


# ---- one picture ----------------------------------------------------------------------------------------------------


def test_bits_are_the_lowest_cosines_above_their_median() -> None:
    picture = photo(0)
    found = fingerprints([picture], ids=["a"])
    small = np.asarray(Image.fromarray(picture).resize((32, 32), Image.Resampling.LANCZOS), float)
    low = dctn(small @ [0.299, 0.587, 0.114], norm="ortho")[:16, :16].ravel()
    bits = np.unpackbits(found.hashes[0].view(np.uint8)).astype(bool)
    assert bits[1:].tolist() == (low[1:] > np.median(low[1:]) + 2).tolist()
    assert not bits[0]
    assert np.linalg.norm(found.colours[0]) == pytest.approx(1, abs=1e-6)
    assert found.pixels == (content_digest(picture),)


def test_the_mirror_image_has_the_hash_and_the_colours_called_so() -> None:
    pictures = [photo(1), photo(1)[:, ::-1]]
    found = fingerprints(pictures, ids=["a", "b"])
    assert np.bitwise_count(found.mirrored[0] ^ found.hashes[1]).sum() <= 2
    assert found.flipped[0] == pytest.approx(found.colours[1], abs=0.02)


def test_other_bytes_same_pixels(tmp_path: Path) -> None:
    picture = Image.fromarray(photo(2))
    about = PngImagePlugin.PngInfo()
    about.add_text("Author", "somebody")
    picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "b.png", pnginfo=about)
    picture.save(tmp_path / "c.bmp")
    picture.save(tmp_path / "d.jpg", quality=50)
    paths = sorted(tmp_path.iterdir())
    found = fingerprints(paths, ids=[path.name for path in paths])
    assert len({content_digest(path) for path in paths}) == 4
    assert len(set(found.pixels[:3])) == 1 != len(set(found.pixels))
    alike = look_alikes(found)
    assert pairs_of(alike) == {(0, 3), (1, 3), (2, 3)}


def test_pictures_of_one_colour_are_never_look_alikes() -> None:
    flat = [np.full((40, 50, 3), value, np.uint8) for value in (0, 90, 90, 255)]
    noisy = np.full((40, 50, 3), 90, np.uint8)
    noisy[3, 3] = 91
    found = fingerprints([*flat, noisy], ids=names(5))
    assert not look_alikes(found).n_pairs
    assert found.pixels[1] == found.pixels[2]
    assert not found.colours[:4].any()


def test_bad_input_is_refused() -> None:
    found = fingerprints([photo(0)], ids=["a"])
    with pytest.raises(ValueError, match="2 pictures but 1 ids"):
        fingerprints([photo(0), photo(1)], ids=["a"])
    with pytest.raises(ValueError, match=r"0\.\.255 bits"):
        look_alikes(found, threshold=256)
    with pytest.raises(ValueError, match=r"0\.\.255 bits"):
        look_alikes(found, agreement=1.5)
    assert look_alikes(found).n_pairs == 0
    assert look_alikes(fingerprints([], ids=[])).n_pairs == 0


# ---- pairs, by plain loops ------------------------------------------------------------------------------------------


def random_prints(n: int, seed: int, *, flips: int = 45) -> Fingerprints:
    """Hashes that lie at all distances, colours that agree for some pairs, a few equal pixels."""
    rng = np.random.default_rng(seed)
    base, shared = rng.integers(0, 2, 256), rng.normal(size=(8, 8, 3))
    bits = np.array([np.where(rng.random(256) < flips / 256, 1 - base, base) for _ in range(n)]).astype(bool)
    other = np.array([np.where(rng.random(256) < flips / 256, 1 - base, base) for _ in range(n)]).astype(bool)
    bits[:, 0] = other[:, 0] = False
    hashes, mirrored = (np.packbits(part, axis=1).view(np.uint64) for part in (bits, other))
    colours = rng.normal(size=(n, 192)) + 1.8 * (shared + shared[:, ::-1]).ravel()
    colours = (colours / np.linalg.norm(colours, axis=1, keepdims=True)).astype(np.float32)
    return Fingerprints(tuple(names(n)), tuple(str(i % (n - 3)) for i in range(n)), hashes, mirrored, colours)


def apart(left: np.ndarray, right: np.ndarray) -> int:
    return sum(int(a) != int(b) for a, b in zip(*(np.unpackbits(h.view(np.uint8)) for h in (left, right)), strict=True))


@pytest.mark.parametrize("block", [1, 7, 1024])
@pytest.mark.parametrize("between", [False, True])
@pytest.mark.parametrize("mirror", [False, True])
def test_pairs_and_curve_by_plain_loops(block: int, between: bool, mirror: bool) -> None:
    left = random_prints(23, 0)
    right = random_prints(17, 0) if between else None
    second = right or left
    found = look_alikes(left, right, threshold=78, agreement=0.87, mirror=mirror, max_listed=6, block=block)
    near, confirmed, outlined = set(), [], []
    for i in range(len(left)):
        for j in range(len(second)):
            if left.pixels[i] == second.pixels[j] or (not between and j <= i):
                continue
            views = [(apart(left.hashes[i], second.hashes[j]), float(left.colours[i] @ second.colours[j]))]
            if mirror:
                views += [(apart(left.hashes[i], second.mirrored[j]), float(left.colours[i] @ second.flipped[j]))]
            good = [bits for bits, agree in views if agree >= 0.87]
            confirmed += [min(good)] if good else []
            outlined.append(min(bits for bits, _ in views))
            if good and min(good) <= 78:
                near.add((i, j))
    assert 0 < len(near) == found.n_pairs
    assert pairs_of(found) == near
    for bits, count in zip(found.curve_bits, found.curve_pairs, strict=True):
        assert count == sum(one <= bits for one in confirmed)
    assert found.n_other == (17 if between else 0)
    assert set(found.items) == {i for i, _ in near} | (set() if between else {j for _, j in near})
    assert [bits for *_, bits in found.near] == sorted(bits for *_, bits in found.near)
    assert len(found.near) == min(6, len(near))
    for bits, count in zip(found.curve_bits, found.curve_outline, strict=True):
        assert count == sum(one <= bits for one in outlined)
    assert sum(one <= 78 for one in outlined) > len(near)


def test_the_outline_alone_is_not_enough() -> None:
    """The same drawing in two colours of one brightness."""
    shape = photo(5)
    grey = (shape @ [0.299, 0.587, 0.114])[..., None]
    red, blue = (np.clip(grey + np.array(tint), 0, 255).astype(np.uint8) for tint in ((50, -25, -2), (-50, 25, 2)))
    found = look_alikes(fingerprints([red, blue, photo(6)], ids=names(3)))
    assert found.n_pairs == 0
    assert found.curve_outline[-1] >= 1
    assert look_alikes(fingerprints([red, blue, photo(6)], ids=names(3)), agreement=-1).near[0][:2] == (
        "p0000",
        "p0001",
    )


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found_and_nothing_else(change: str) -> None:
    pictures = [photo(seed) for seed in range(60)]
    changed = [CHANGES[change](picture) for picture in pictures[:25]]
    found = look_alikes(fingerprints([*pictures, *changed], ids=names(85)))
    truth = {(i, 60 + i) for i in range(25)}
    got = pairs_of(found)
    recall, precision = len(truth & got) / 25, len(truth & got) / max(len(got), 1)
    assert recall >= 0.9, recall
    assert precision >= 0.9, precision


def test_mirrored_copies_only_when_asked_for() -> None:
    pictures = [photo(seed) for seed in range(20)]
    prints = fingerprints([*pictures, *(picture[:, ::-1] for picture in pictures[:8])], ids=names(28))
    assert look_alikes(prints).n_pairs == 0
    assert pairs_of(look_alikes(prints, mirror=True)) == {(i, 20 + i) for i in range(8)}


def classes(collection: Any, kinds: set[str]) -> np.ndarray:
    """The planted groups: images linked to their source by defects of these kinds."""
    place = {name: row for row, name in enumerate(collection.images.ids)}
    columns = collection.images.columns
    rows = [row for row, kind in enumerate(columns["planted"]) if kind in kinds]
    return joined(len(place), (rows, [place[str(columns["source_id"][row])] for row in rows]))


def rates(seeds: range) -> dict[str, tuple[float, float]]:
    """kind -> (precision, recall) of pairs over several worlds of 300 scenes, 30 copies and 30 near-copies each."""
    counts = {"exact": np.zeros(3), "near": np.zeros(3)}
    for seed in seeds:
        world = scenes(n_images=300, duplicates=0.1, near_duplicates=0.1, seed=seed)
        prints = fingerprints(world.images.content, ids=world.images.ids)
        pixel = np.unique(prints.pixels, return_inverse=True)[1]
        i, j = np.triu_indices(300, 1)
        same = {kind: classes(world, kinds) for kind, kinds in
                (("exact", {"duplicate"}), ("near", {"duplicate", "near-duplicate"}))}  # fmt: skip
        equal = pixel[i] == pixel[j]
        looks = np.isin(i * 300 + j, [a * 300 + b for a, b in pairs_of(look_alikes(prints))])
        for kind, told, scope in (("exact", equal, np.ones(len(i), bool)), ("near", looks, ~equal)):
            true = (same[kind][i] == same[kind][j]) & scope
            counts[kind] += (told & true).sum(), told.sum(), true.sum()
    return {kind: (both / told, both / true) for kind, (both, told, true) in counts.items()}


def test_planted_scenes_precision_and_recall() -> None:
    found = rates(range(4))
    assert min(found["exact"]) >= 0.98, found
    assert min(found["near"]) >= 0.9, found


def test_fires_and_stays_quiet_on_look_alikes() -> None:
    fired = quiet = 0
    for seed in range(20):
        clean = [photo(1000 * seed + k, (60, 80)) for k in range(60)]
        planted = [*clean[:-2], as_jpeg(clean[0]), CHANGES["half"](clean[1])]
        fired += look_alikes(fingerprints(planted, ids=names(60))).findings()[0].verdict == "look"
        quiet += look_alikes(fingerprints(clean, ids=names(60))).findings()[0].verdict == "ok"
    assert (fired, quiet) == (20, 20), f"missed {20 - fired} of 20, false alarms {20 - quiet} of 20"


# ---- captions -------------------------------------------------------------------------------------------------------


def levenshtein(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[-1]


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.9, 1.0])
@pytest.mark.parametrize("block", [3, 512])
def test_close_strings_by_plain_loops(threshold: float, block: int) -> None:
    rng = np.random.default_rng(0)
    strings = {"a", "ab", "日本語の犬", "日本語の猫"}
    for _ in range(25):
        word = "".join(rng.choice(list("abcd "), rng.integers(4, 30)))
        strings.add(word)
        for _ in range(2):
            cut = int(rng.integers(len(word)))
            strings.add(word[:cut] + str(rng.choice(list("abcd"))) + word[cut + int(rng.integers(2)) :])
    ordered = sorted(strings, key=lambda one: (len(one), one))
    truth = {
        (i, j): 1 - levenshtein(a, ordered[j]) / len(ordered[j])
        for i, a in enumerate(ordered) for j in range(i + 1, len(ordered))
    }  # fmt: skip
    truth = {pair: value for pair, value in truth.items() if value >= threshold - 1e-9}
    assert {(i, j): value for i, j, value in close_strings(ordered, threshold, block)} == pytest.approx(truth)
    assert threshold == 1 or truth


def test_numbered_captions_end_the_search() -> None:
    texts = [f"photo number {number:04d} of the set from our trip" for number in range(300)]
    found = near_captions(texts, np.arange(300), most=500)
    assert (len(found.pairs), found.complete) == (500, False)
    assert all(1 - levenshtein(a, b) / len(b) == pytest.approx(value) for a, b, value in found.pairs[:20])
    assert near_captions(texts[:20], np.arange(20), most=190).complete
    assert len(near_captions(texts[:20], np.arange(20), most=190).pairs) == 190


def test_near_captions_of_one_image_or_labelled_right_are_no_conflict() -> None:
    texts = ["a dog runs fast", "a dog run fast", "a red cat sleeps", "A red cat sleep.", "x", ""]
    own = [0, 1, 2, 2, 3, 4]
    found = near_captions(texts, own)
    assert [pair[:2] for pair in found.pairs] == [("a dog run fast", "a dog runs fast")]
    assert (found.n_affected, found.n_texts) == (2, 6)
    both = Relevance.from_pairs([0, 0, 1, 1], [0, 1, 0, 1], n_queries=6, n_gallery=5)
    assert near_captions(texts, own, both).pairs == ()
    assert found.flat()["duplicates/captions_near_texts"] == 2
    with pytest.raises(ValueError, match=r"0\.5\.\.1"):
        near_captions(texts, own, threshold=0.2)
    assert near_captions([], []).pairs == ()


# ---- real pictures --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_photographs_have_no_look_alikes_and_every_changed_copy_is_found(shared: Shared) -> None:
    paths = sorted(shared("data/flickr8k_1000/images").iterdir())
    prints = fingerprints(paths, ids=[path.stem for path in paths])
    found = look_alikes(prints, max_listed=1000)
    assert len(set(prints.pixels)) == len(paths) >= 1000
    assert found.n_pairs == 0, f"{found.n_pairs} false alarms among {len(paths):,} photographs: {found.near}"
    assert look_alikes(prints, agreement=-1, threshold=61).n_pairs == 0
    chosen = np.random.default_rng(0).choice(len(paths), 60, replace=False)
    for name, change in CHANGES.items():
        made = [change(np.asarray(open_picture(paths[row]))) for row in chosen]
        got = pairs_of(look_alikes(fingerprints(made, ids=names(60)), prints, threshold=30))
        assert len(got & set(enumerate(chosen.tolist()))) >= 59, name
        assert len(got) <= 60, name


@pytest.mark.slow
def test_emoji_of_one_drawing_are_near_and_of_another_colour_are_not(shared: Shared) -> None:
    """Looked at: firefighters, guards, clock faces and families differ in a detail; circles differ in their colour."""
    paths = sorted(shared("data/emoji_noto/png72").iterdir())
    prints = fingerprints(paths, ids=[path.stem for path in paths])
    found = look_alikes(prints, max_listed=10_000)
    got = {frozenset(pair[:2]) for pair in found.near}
    detail = [("emoji_u1f9d1_200d_1f692", "emoji_u1f468_200d_1f692"), ("emoji_u1f552", "emoji_u1f55b"),
              ("emoji_u1f9b8", "emoji_u1f9b8_200d_2640"), ("emoji_u1f620", "emoji_u1f621")]  # fmt: skip
    colour = [("emoji_u1f534", "emoji_u1f535"), ("emoji_u1f49a", "emoji_u1f90d"), ("emoji_u1f7e5", "emoji_u1f7e9")]
    assert {frozenset(pair) for pair in detail} <= got
    assert not {frozenset(pair) for pair in colour} & got
    assert 200 < found.n_pairs < 350
    assert found.curve_outline[found.curve_bits.tolist().index(48)] > 2 * found.n_pairs


@pytest.mark.slow
def test_captions_of_photographs_hardly_repeat(shared: Shared) -> None:
    with shared("data/flickr8k_1000/captions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    image = {name: number for number, name in enumerate(dict.fromkeys(row["image"] for row in rows))}
    found = near_captions([row["caption"] for row in rows], [image[row["image"]] for row in rows])
    assert 1 <= len(found.pairs) <= 10
    for first, second, similarity in found.pairs:
        assert 1 - levenshtein(first, second) / max(len(first), len(second)) == pytest.approx(similarity)


# ---- drawing and the section ----------------------------------------------------------------------------------------


def test_the_curve_draws_what_the_result_holds() -> None:
    found = look_alikes(fingerprints([*map(photo, range(8)), as_jpeg(photo(0))], ids=names(9)))
    outline, confirmed, line = found.plot().get_lines()
    assert np.asarray(outline.get_ydata()).tolist() == found.curve_outline.tolist()
    assert np.asarray(confirmed.get_ydata()).tolist() == found.curve_pairs.tolist()
    assert line.get_xdata()[0] == found.threshold == 48
    assert found.curve_pairs[found.curve_bits.tolist().index(48)] == found.n_pairs == 1
    assert drawn.hamming_curve(look_alikes(fingerprints([], ids=[]))).get_xlabel()
    assert found.flat() == {"copies/near_pairs": 1.0, "copies/near_items": 2.0}
    assert BITS == 255


class Pixels:
    """An encoder without weights: coarse pixels for images, letters for texts."""

    name = "pixels"

    def encode_image(self, images: list[Any]) -> np.ndarray:
        return np.stack([np.asarray(one.convert("RGB").resize((8, 8)), np.float32).ravel() - 90 for one in images])

    def encode_text(self, texts: list[str]) -> np.ndarray:
        rows = [np.bincount([ord(letter) % 192 for letter in text], minlength=192) for text in texts]
        return np.asarray(rows, np.float32)


def folder_of(path: Path) -> str:
    """30 pictures with two captions each: one copied, one re-encoded, one mirrored; a train split with three leaks."""
    pictures = path / "test"
    pictures.mkdir(parents=True)
    rows = []
    for number in range(30):
        Image.fromarray(photo({28: 0}.get(number, number), (60, 80))).save(pictures / f"i{number:02d}.png")
    Image.fromarray(photo(1, (60, 80))).save(pictures / "i29.jpg", quality=50)
    (pictures / "i29.png").unlink()
    for number, file in enumerate(sorted(pictures.iterdir())):
        rows += [(f"test/{file.name}", f"picture number {number} seen {way}", "test") for way in ("near", "from afar")]
    (path / "train").mkdir()
    for number in range(20):
        Image.fromarray(photo({0: 5, 1: 6}.get(number, 500 + number), (60, 80))).save(path / "train" / f"t{number}.png")
        rows.append((f"train/t{number}.png", f"training picture {number}", "train"))
    Image.fromarray(photo(7, (60, 80))).save(path / "train" / "t2.jpg", quality=50)
    rows.append(("train/t2.jpg", "training picture again", "train"))
    with (path / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "caption", "split"), *rows])
    return f"folder:{path}"


def computed(source: str, out: Path, **parameters: Any) -> Run:
    schema = schema_of("integrity")
    small = {"n_resamples": 100, "metrics": ["hit@1", "MRR"], "split": "test"}
    chosen = schema.check({**schema.defaults, "dataset": source, **small, **parameters})
    with evaluate_into(out, chosen, report="integrity", encoder=Pixels()) as folder:
        return Run(folder.finish())


def prepared_of(source: str, **parameters: Any) -> tuple[Any, Any, dict[str, Any]]:
    from workbench.evaluate import completed, prepare
    from workbench.evaluate.ranking import rank
    from workbench.evaluate.share import withheld

    schema = schema_of("integrity")
    small = {"n_resamples": 100, "metrics": ["hit@1", "MRR"], "split": "test"}
    asked = completed(schema.check({**schema.defaults, "dataset": source, **small, **parameters}))
    prepared = withheld(prepare(asked, Pixels(), progress=False), asked)
    return prepared, rank(prepared, asked)[0], asked


def test_the_section_finds_what_was_planted(tmp_path: Path) -> None:
    prepared, ranked, asked = prepared_of(folder_of(tmp_path / "data"), other_split="train")
    found = section.analyse(prepared, ranked, asked)
    levels = {level.name: level for level in found["copies images"].levels}
    assert levels["content"].items.tolist() == [0, 28]
    assert levels["pixels"].items.tolist() == [0, 28]
    assert levels["looks"].items.tolist() == [1, 29]
    assert (levels["pixels"].n_new, levels["looks"].n_new) == (0, 2)
    assert found["leaks images"].leaked == (5, 6)
    assert found["leaks look-alikes"].items.tolist() == [7]
    assert {row.level for row in found["copies impact"].rows} == {"same content", "same looks", "same wording"}
    kept = {row.n_items for row in found["copies impact"].known if row.change == "one of each kept"}
    assert kept >= {29, 28}
    gone = {(row.direction, row.level, row.n_after) for row in found["leaks impact"].rows}
    assert gone == {("t2i", "same content", 56), ("t2i", "same looks", 54), ("i2t", "same content", 28),
                    ("i2t", "same looks", 27)}  # fmt: skip
    assert {card.image_id for card in found["examples pairs"].cards} == {prepared.images.ids[i] for i in (1, 29)}
    assert [card.image_id for card in found["examples leaks"].cards] == [prepared.images.ids[7]]
    verdicts = {one.name: one.verdict for result in found.values() if hasattr(result, "findings")
                for one in result.findings()}  # fmt: skip
    assert verdicts["leaks/items"] == "problem"
    assert verdicts["duplicates/image_exact"] == "problem"
    assert verdicts["copies/near"] == verdicts["leaks/near"] == "look"


def test_given_values_are_those_of_a_new_search(tmp_path: Path) -> None:
    prepared, ranked, asked = prepared_of(folder_of(tmp_path / "data"))
    found = section.analyse(prepared, ranked, asked)["copies impact"]
    for one in ranked:
        for row in found.known:
            if row.direction == one.direction.name:
                assert row.before == pytest.approx(np.nanmean(one.values[row.metric].expected), abs=1e-12)


def test_a_picture_and_its_copies_are_one_cluster(tmp_path: Path) -> None:
    """Intervals of both directions draw texts and pictures with all copies of their picture, near ones too."""
    prepared, ranked, asked = prepared_of(folder_of(tmp_path / "data"))
    found = section.analyse(prepared, ranked, asked)["copies impact"]
    own = np.where(np.arange(30) == 28, 0, np.where(np.arange(30) == 29, 1, np.arange(30)))
    for one, clusters in zip(ranked, (np.repeat(own, 2), own), strict=True):
        alone = np.arange(len(one.direction.queries)), np.arange(len(one.direction.gallery))
        sides = (alone[0], own) if one.direction.name == "t2i" else (own, alone[1])
        queries, gallery = one.direction.queries.vectors, one.direction.gallery.vectors  # type: ignore[union-attr]
        world = World(one.direction.name, queries, gallery, one.direction.relevance, clusters, ("hit@1", "MRR"),
                      n_resamples=100)  # fmt: skip
        wanted = copies_impact(world, "same looks", *sides)
        assert [
            row for row in found.rows if row.level == "same looks" and row.direction == one.direction.name
        ] == wanted
        assert any(row.difference for row in wanted if not row.reason)


@pytest.mark.parametrize("share", ["no-images", "no-content"])
def test_what_must_stay_is_not_read(tmp_path: Path, share: str) -> None:
    prepared, ranked, asked = prepared_of(folder_of(tmp_path / "data"), other_split="train", share=share)
    found = section.analyse(prepared, ranked, asked)
    assert "look-alikes" not in found
    assert "examples pairs" not in found
    assert found["copies images"].levels[0].items.tolist() == [0, 28]
    if share == "no-content":
        (finding,) = found["leaks images"].findings()
        assert (finding.name, finding.verdict) == ("leaks/items", "not measurable")
        assert "leaks impact" not in found
    else:
        assert found["leaks images"].leaked == (5, 6)


def test_two_copies_and_a_look_alike_are_no_chain(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "data")
    Image.fromarray(photo(1, (60, 80))).save(tmp_path / "data" / "test" / "i27.png")
    prepared, ranked, asked = prepared_of(source)
    found = section.analyse(prepared, ranked, asked)["copies images"]
    levels = {level.name: level for level in found.levels}
    assert levels["pixels"].items.tolist() == [0, 1, 27, 28]
    assert (levels["looks"].n_pairs, levels["looks"].largest, levels["looks"].n_chained) == (2, 3, 0)
    assert found.findings() == []


def test_the_other_split_is_read_whole(tmp_path: Path) -> None:
    """A scored split cut to its first images is still held against everything that was trained on."""
    source = folder_of(tmp_path / "data")
    Image.fromarray(photo(3, (60, 80))).save(tmp_path / "data" / "train" / "t19.png")
    prepared, ranked, asked = prepared_of(source, other_split="train", n_images=7)
    found = section.analyse(prepared, ranked, asked)["leaks images"]
    assert (found.n, found.n_other, found.leaked) == (7, 21, (3, 5, 6))


def test_numbers_in_the_place_of_captions_are_not_compared(tmp_path: Path) -> None:
    """caption-01 and caption-02 agree in nine of ten letters, whatever the captions said."""
    prepared, ranked, asked = prepared_of(folder_of(tmp_path / "data"), share="no-content")
    found = section.analyse(prepared, ranked, asked)
    assert "near captions" not in found
    shown = CopiesSection(computed(f"folder:{tmp_path / 'data'}", tmp_path / "runs", share="no-content"))
    assert "keeps their words out" in shown.close_captions().text


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    (tmp_path / "im").mkdir()
    names = [f"i{number:02d}.png" for number in range(9)]
    for number, name in enumerate(names):
        Image.fromarray(photo(number, (60, 80))).save(tmp_path / "im" / name)
    try:
        (tmp_path / "im" / "x\udcff.jpg").write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with (tmp_path / "im" / "x\udcff.jpg").open("wb") as file:
        Image.fromarray(photo(2, (60, 80))).save(file, "JPEG", quality=50)
    entries = [(name, "test") for name in (*names, "x\udcff.jpg")] + [(names[3], "train"), ("x\udcff.jpg", "train")]
    listed = [{"filename": name, "split": split, "sentences": [{"raw": f"one of {split}"}]} for name, split in entries]
    (tmp_path / "k.json").write_text(json.dumps({"images": listed}))
    run = computed(f"karpathy:{tmp_path / 'k.json'},{tmp_path / 'im'}", tmp_path / "runs", other_split="train")
    assert run.results["look-alikes"].near[0][:2] == ("i02.png", "x\\udcff.jpg")
    assert run.results["leaks look-alikes"].near[0][:2] == ("i02.png", "x\\udcff.jpg")
    assert "x\\udcff.jpg" in CopiesSection(run).look("pairs").text


def test_splits_that_share_one_gallery_cannot_leak(tmp_path: Path) -> None:
    documents = [{"_id": f"d{number}", "text": f"about {number}"} for number in range(5)]
    asked_for = [{"_id": f"q{number}", "text": f"{number}"} for number in range(4)]
    for name, rows in (("corpus", documents), ("queries", asked_for)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "qrels").mkdir()
    for split, numbers in (("test", (0, 1)), ("train", (2, 3))):
        rows_of = [f"q{number}\td{number}\t1" for number in numbers]
        (tmp_path / "qrels" / f"{split}.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows_of]))
    with pytest.raises(ValueError, match=r"other_split='train'.*one gallery.*leave it empty"):
        computed(f"beir:{tmp_path}", tmp_path / "runs", other_split="train")
    shown = CopiesSection(computed(f"beir:{tmp_path}", tmp_path / "runs")).copy_levels().text
    assert "2 queries" in shown
    assert "querys" not in shown


def test_a_misspelt_split_is_an_error(tmp_path: Path) -> None:
    prepared, ranked, asked = prepared_of(folder_of(tmp_path / "data"), other_split="trian")
    with pytest.raises(ValueError, match=r"other_split='trian'.*leave it empty"):
        section.analyse(prepared, ranked, asked)


CALLS = ("copy_levels", "look_alikes", "close_captions", "copies_impact", "leaks")


def test_the_report_draws_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    report = CopiesSection(computed("folder:data", tmp_path / "runs", other_split="train"))
    shown = {call: getattr(report, call)() for call in CALLS}
    assert "at most 48 of 255 bits" in shown["copy_levels"].text
    assert "<img" in shown["look_alikes"].body
    assert "one of each kept" in shown["copies_impact"].text
    assert "Self-matches do not arise" in shown["copies_impact"].text
    assert "of train" in shown["leaks"].text
    assert "leaked items removed" in shown["leaks"].text
    assert "54" in shown["leaks"].text
    assert "its look-alike" in report.look("pairs").text
    assert "of train" in report.look("leaks").text


def test_the_report_says_what_was_not_asked_for(tmp_path: Path) -> None:
    arrays = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    texts = np.repeat(arrays, 2, axis=0)
    np.savez(tmp_path / "world.npz", image=arrays, text=texts, text_image=np.repeat(np.arange(12), 2))
    schema = schema_of("integrity")
    chosen = schema.check({**schema.defaults, "dataset": f"embeddings:{tmp_path / 'world.npz'}", "n_resamples": 100})
    with evaluate_into(tmp_path, chosen, report="integrity") as folder:
        report = CopiesSection(Run(folder.finish()))
    shown = {call: getattr(report, call)().text for call in CALLS}
    assert "Looks are not compared" in shown["copy_levels"]
    assert "other_split=NAME" in shown["leaks"]
    assert "Captions are not compared" in shown["close_captions"]
    assert "every difference is exactly 0" in shown["copies_impact"]
