"""Loaders by format, cards and counts, on small files made here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from workbench.datasets import Collection, count, load, take_images
from workbench.datasets.cards import shipped_cards
from workbench.datasets.collection import content_digest
from workbench.types import Embeddings, Relevance


def picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), (shade, 0, 0)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures: a and b with captions, c a copy of a without one, d in another split."""
    for name, shade in (("a", 1), ("b", 2), ("c", 1), ("d", 4)):
        picture(tmp_path / "images" / f"{name}.png", shade)
    rows = [
        "image,caption,split,language,caption_id,mood",
        "a.png,A cat,test,en,t1,calm", "a.png,Eine Katze,test,de,t2,calm", "b.png,a  CAT,test,en,t3,wild",
        "d.png,A dog,train,en,t4,calm",
    ]  # fmt: skip
    (tmp_path / "captions.csv").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path


def test_folder(folder: Path) -> None:
    found = load(f"folder:{folder}", split="test")
    assert found.images.ids == ("a.png", "b.png", "c.png")  # c is a distractor, d belongs to another split
    assert found.texts.ids == ("t1", "t2", "t3")
    assert found.text_image.tolist() == [0, 0, 1]
    assert found.texts.columns["mood"].tolist() == ["calm", "calm", "wild"]
    assert found.texts.columns["language"].tolist() == ["en", "de", "en"]
    counts = count(found)
    assert (counts.images, counts.texts, counts.pairs, counts.images_without_text) == (3, 3, 3, 1)
    assert (counts.duplicate_images, counts.duplicate_texts) == (1, 1)  # c copies a; "a  CAT" repeats "A cat"
    assert dict(found.card.rows())["licence"] == "not stated"


def test_folder_refuses_a_guess_between_splits(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"several splits .*split=NAME"):
        load(f"folder:{folder}")
    assert len(load(f"folder:{folder}", split="all").texts) == 4
    with pytest.raises(ValueError, match="no split 'val'"):
        load(f"folder:{folder}", split="val")


def test_folder_missing_image(folder: Path) -> None:
    (folder / "images" / "b.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 images .*b\.png.*bad_images=record"):
        load(f"folder:{folder}", split="test")
    found = load(f"folder:{folder}", split="test", on_bad="record")
    assert found.texts.ids == ("t1", "t2")
    assert [item.id for item in found.bad] == ["b.png"]


def test_folder_never_leaves_itself(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.png"
    picture(outside, 9)
    (folder / "images" / "link.png").symlink_to(outside)
    (folder / "captions.csv").write_text(f"image,caption\n../{outside.name},x\nlink.png,y\na.png,z\n")
    found = load(f"folder:{folder}", on_bad="record")
    assert {item.id for item in found.bad} == {f"../{outside.name}", "link.png"}
    assert "link.png" not in found.images.ids


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image,captoin\na.png,x\n", "needs a column 'caption'.*did you mean 'captoin'"),
        ("image,caption\na.png,\n", "1 captions are empty"),
        ("image,caption\na.png,one, two\n", "row 2 has more fields"),
        ("image,caption\n", "holds no rows"),
        ("image,caption,caption_id\na.png,x,1\na.png,y,1\n", "ids must be unique.*'1'"),
    ],
)
def test_folder_bad_tables(folder: Path, table: str, message: str) -> None:
    (folder / "captions.csv").write_text(table)
    with pytest.raises(ValueError, match=message):
        load(f"folder:{folder}")


def test_folder_jsonl_and_parquet_agree_with_csv(folder: Path) -> None:
    import pandas as pd

    table = pd.read_csv(folder / "captions.csv")
    expected = load(f"folder:{folder}", split="test")
    (folder / "captions.csv").unlink()
    table.to_json(folder / "captions.jsonl", orient="records", lines=True, force_ascii=False)
    from_jsonl = load(f"folder:{folder}", split="test")
    (folder / "captions.jsonl").unlink()
    table.to_parquet(folder / "captions.parquet")
    for found in (from_jsonl, load(f"folder:{folder}", split="test")):
        assert (found.texts.ids, list(found.texts.content)) == (expected.texts.ids, list(expected.texts.content))
        assert found.text_image.tolist() == expected.text_image.tolist()


def test_card_beside_the_data(folder: Path) -> None:
    (folder / "card.json").write_text(json.dumps({"name": "pets", "expected": {"images": 5, "texts": 3}}))
    found = load(f"folder:{folder}", split="test")
    assert found.card.name == "pets"
    assert count(found).mismatches == ("the card promises 5 images, found 3",)
    (folder / "card.json").write_text(json.dumps({"licens": "CC0"}))
    with pytest.raises(ValueError, match="unknown field 'licens'; did you mean 'licence'"):
        load(f"folder:{folder}", split="test")


def test_karpathy(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        picture(tmp_path / "val2014" / f"{name}.jpg", len(name))
    entries = [
        {"filepath": "val2014", "filename": "one.jpg", "split": "test",
         "sentences": [{"raw": "A  dog\n", "sentid": 7}, {"raw": "Dog", "sentid": 8}]},
        {"filepath": "val2014", "filename": "two.jpg", "split": "test", "sentences": [{"raw": "A bus", "sentid": 9}]},
        {"filepath": "val2014", "filename": "three.jpg", "split": "train", "sentences": [{"raw": "Sea", "sentid": 1}]},
    ]  # fmt: skip
    listing = tmp_path / "dataset.json"
    listing.write_text(json.dumps({"images": entries, "dataset": "coco"}))
    found = load(f"karpathy:{listing},{tmp_path}")
    assert found.images.ids == ("val2014/one.jpg", "val2014/two.jpg")
    assert (found.texts.ids, found.texts.content[0]) == (("7", "8", "9"), "A dog")
    assert found.card.name == "coco-test"
    assert count(found).mismatches[0] == "the card promises 5,000 images, found 2"
    assert len(load(f"karpathy:{listing},{tmp_path}", split="train").texts) == 1


def write_npz(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return f"embeddings:{path}"


def test_embeddings(tmp_path: Path) -> None:
    source = write_npz(
        tmp_path / "v.npz", image=np.eye(3, 4), text=np.ones((5, 4)), text_image=np.array([0, 0, 2, 1, -1]),
        caption=np.array(["a", "b", "c", "d", "e"]), label=np.array(["x", "y", "x"]), tone=np.arange(5),
    )  # fmt: skip
    found = load(source)
    assert (len(found.images), len(found.texts), found.images.ids[0]) == (3, 5, "image-0")
    rows = [found.relevance.row(query)[0].tolist() for query in range(5)]
    assert rows == [[0, 2], [0, 2], [0, 2], [1], []]  # images 0 and 2 share the label x
    assert found.texts.columns["tone"].tolist() == [0, 1, 2, 3, 4]
    assert found.images.columns["label"].tolist() == ["x", "y", "x"]
    assert found.embeddings["text"].vectors.shape == (5, 4)


def test_an_empty_label_is_no_label(tmp_path: Path) -> None:
    found = load(
        write_npz(
            tmp_path / "v.npz", image=np.eye(4), text=np.ones((2, 4)), text_image=np.array([0, 2]),
            label=np.array(["", "", "x", "x"]),
        )
    )  # fmt: skip
    assert [found.relevance.row(query)[0].tolist() for query in range(2)] == [[0], [2, 3]]


def test_embeddings_pair_by_row_only_when_sizes_agree(tmp_path: Path) -> None:
    assert load(write_npz(tmp_path / "v.npz", image=np.eye(3), text=np.eye(3))).text_image.tolist() == [0, 1, 2]
    note = "v.npz has no text_image (the row of each text's right image): text i was paired with image i"
    assert load(f"embeddings:{tmp_path / 'v.npz'}").notes[0].startswith(note)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": np.eye(3)}, "lacks \\['text'\\]"),
        ({"image": np.eye(3), "text": np.eye(2, 3), "text_image": [0, 3]}, "must lie in 0..2"),
        ({"image": np.eye(3), "text": np.eye(2, 3), "text_image": [0.0, 1.0]}, "must be 2 integers"),
        ({"image": np.eye(3), "text": np.eye(3, 2)}, "image vectors have 3 dimensions, text vectors 2"),
        ({"image": np.eye(3) * np.nan, "text": np.eye(3)}, "3 of 3 image vectors hold NaN"),
        ({"image": np.eye(3), "text": np.eye(3), "extra": np.arange(7)}, "'extra' of shape \\(7,\\) fits neither"),
        ({"image": np.eye(3), "text": np.eye(3), "caption": np.array(["a", None, 3], object)}, "holds Python objects"),
    ],
)
def test_embeddings_bad_input(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(write_npz(tmp_path / "v.npz", **arrays))


def test_embeddings_from_safetensors_and_npy_folder(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    images, texts = np.eye(2, 3, dtype=np.float32), np.eye(3, dtype=np.float32)
    own = np.array([1, 0, 1])
    rows = [{"modality": "image", "id": f"i{n}"} for n in range(2)]
    rows += [{"modality": "text", "id": f"t{n}", "caption": f"c{n}", "language": "en"} for n in range(3)]
    lines = "\n".join(json.dumps(row) for row in rows)
    save_file({"image": images, "text": texts, "text_image": own}, tmp_path / "v.safetensors")
    (tmp_path / "v.jsonl").write_text(lines)
    parts = tmp_path / "parts"
    parts.mkdir()
    for name, array in (("image", images), ("text", texts), ("text_image", own)):
        np.save(parts / f"{name}.npy", array)
    (parts / "items.jsonl").write_text(lines)
    for source in (tmp_path / "v.safetensors", parts):
        found = load(f"embeddings:{source}")
        assert (found.images.ids, found.texts.ids) == (("i0", "i1"), ("t0", "t1", "t2"))
        assert list(found.texts.content) == ["c0", "c1", "c2"]
        assert found.texts.columns["language"].tolist() == ["en"] * 3


@pytest.mark.parametrize(
    ("source", "message"),
    [("fodler:x", "did you mean 'folder'"), ("folder:", "needs a path"), ("nothing", "known are")],
)
def test_unknown_source(source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(source)


def small() -> Collection:
    from workbench.datasets import Card, Side

    relevance = Relevance.from_pairs([0, 1, 2, 2], [0, 1, 1, 2], n_queries=3, n_gallery=3)
    vectors = {"image": Embeddings(np.eye(3), ("a", "b", "c"), "image"), "text": Embeddings(np.eye(3), "xyz", "text")}
    return Collection(
        Card("small"), Side("image", ("a", "b", "c")), Side("text", ("x", "y", "z")), relevance, np.array([0, 1, -1]),
        vectors,
    )  # fmt: skip


def test_take_images_keeps_what_belongs_together() -> None:
    part = take_images(small(), np.array([1, 2]))
    assert (part.images.ids, part.texts.ids) == (("b", "c"), ("y", "z"))  # z has no own image, but right ones
    assert part.text_image.tolist() == [0, -1]
    assert [part.relevance.row(query)[0].tolist() for query in range(2)] == [[0], [0, 1]]
    assert part.embeddings["image"].ids == ("b", "c")
    assert part.embeddings["text"].vectors.tolist() == [[0, 1, 0], [0, 0, 1]]
    with pytest.raises(ValueError, match="no image of 3 is left"):
        take_images(small(), np.array([], dtype=int))


def test_digest_tells_contents_apart(tmp_path: Path) -> None:
    flat, tall = np.zeros((2, 3, 3), np.uint8), np.zeros((3, 2, 3), np.uint8)
    assert content_digest(flat) != content_digest(tall)
    picture(tmp_path / "x.png", 3)
    (tmp_path / "y.png").write_bytes((tmp_path / "x.png").read_bytes())
    assert content_digest(tmp_path / "x.png") == content_digest(tmp_path / "y.png")


def test_shipped_cards_state_the_known_counts() -> None:
    cards = shipped_cards()
    assert cards["coco-test"].expected == {"images": 5000, "texts": 25010}
    assert all(card.source and card.licence and card.citation for card in cards.values())


def test_real_folder(shared: Any) -> None:
    found = load(f"folder:{shared('data/flickr8k_1000')}")
    counts = count(found)
    assert (counts.images, counts.texts, counts.pairs) == (1000, 5000, 5000)
    assert (counts.duplicate_images, counts.captions_per_image) == (0, "5")


# ---------------------------------------------------------------------- files of strangers: tables and folders


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"image;caption\na.png;A cat\n", "captions.csv .*separated by semicolons, not by commas"),
        (b"image\tcaption\na.png\tA cat\n", "separated by tabs"),
        ("image,caption\na.png,caf\xe9\n".encode("latin-1"), "UTF-8 CSV .*can't decode.*comma-separated UTF-8"),
        ("image,caption\na.png,A cat\n".encode("utf-16"), "UTF-8 CSV"),
        (b"image,caption\na.png,A\0cat\n", "holds NUL bytes"),
        (b"image,caption,caption\na.png,x,y\n", "more than one column 'caption'"),
        (b"a.png,A cat\nb.png,A dog\n", r"it has \['a.png', 'A cat'\]; the first line must name"),
        (b'image,caption\na.png,"A cat\nb.png,A dog\n', "UTF-8 CSV .unexpected end of data"),
        (b"image,caption\na.png," + b"x" * 10_000_000 + b"\n", r"field larger than field limit \(131072\)"),
        (b"", "holds no rows; it needs the columns caption"),
        (b"image,caption\n,A cat\n", "no row names an image"),
    ],
)  # fmt: skip
def test_tables_that_are_no_plain_csv(folder: Path, table: bytes, message: str) -> None:
    (folder / "captions.csv").write_bytes(table)
    with pytest.raises(ValueError, match=message):
        load(f"folder:{folder}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"image": "a.png", "caption": ' + "[" * 50_000, "line 2 is nested too deeply"),
        ('{"image": "a.png", "caption": NaN}', "line 2 is not JSON: NaN is no JSON value; write null"),
        ('{"image": "a.png", "image": "b.png", "caption": "x"}', "the key 'image' occurs twice in one object"),
        ('["a.png", "x"]', "line 2 must be a JSON object; got list"),
        ("{'image': 'a.png'}", "line 2 is not JSON"),
        ('{"n": ' + "9" * 5000 + "}", "line 2 is not JSON: Exceeds the limit"),
    ],
)
def test_lines_that_are_no_json_objects(folder: Path, line: str, message: str) -> None:
    (folder / "captions.csv").unlink()
    (folder / "captions.jsonl").write_text('{"image": "a.png", "caption": "x"}\n' + line)
    with pytest.raises(ValueError, match=message):
        load(f"folder:{folder}")


def test_a_line_separator_inside_a_caption_is_no_new_line(folder: Path) -> None:
    (folder / "captions.csv").unlink()
    (folder / "captions.jsonl").write_text('{"image": "a.png", "caption": "one\u2028two\x85three"}\n', encoding="utf-8")
    assert list(load(f"folder:{folder}").texts.content) == ["one\u2028two\x85three"]


def test_a_mark_of_byte_order_and_windows_lines_do_not_matter(folder: Path) -> None:
    table = (folder / "captions.csv").read_bytes()
    expected = load(f"folder:{folder}", split="test")
    (folder / "captions.csv").write_bytes(b"\xef\xbb\xbf" + table.replace(b"\n", b"\r\n"))
    found = load(f"folder:{folder}", split="test")
    assert (found.texts.ids, list(found.texts.content)) == (expected.texts.ids, list(expected.texts.content))


def test_rows_without_an_image_are_texts_without_one(folder: Path) -> None:
    (folder / "captions.csv").write_text("image,caption\n,nobody\na.png,A cat\n,nothing\nb.png,A dog\n")
    found = load(f"folder:{folder}")
    assert found.text_image.tolist() == [-1, 0, -1, 1]
    assert found.texts.ids == ("no image#0", "a.png#0", "no image#1", "b.png#0")
    assert found.relevance.positives_per_query.tolist() == [0, 1, 0, 1]
    assert len(found.images) == 4
    (folder / "captions.csv").unlink()
    rows = [{"image": None, "caption": "nobody"}, {"image": "a.png", "caption": "A cat"}, {"caption": "nothing"}]
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert load(f"folder:{folder}").text_image.tolist() == [-1, 0, -1]


@pytest.mark.parametrize("table_form", ["NFC", "NFD"])
def test_names_match_in_either_unicode_form(folder: Path, table_form: Any) -> None:
    import unicodedata

    on_disk = unicodedata.normalize("NFD" if table_form == "NFC" else "NFC", "Käse.png")
    picture(folder / "images" / on_disk, 5)
    name = unicodedata.normalize(table_form, "Käse.png")
    (folder / "captions.csv").write_text(f"image,caption\n{name},cheese\n", encoding="utf-8")
    assert load(f"folder:{folder}").images.ids[0] == on_disk


@pytest.mark.parametrize(
    "name", ["../{0}", "images/../../{0}", "/{0}", "C:\\\\{0}", "file:///{0}", "..\\\\{0}", "\\\\\\\\host\\\\{0}"]
)
def test_names_that_lead_out_of_the_folder(folder: Path, name: str) -> None:
    outside = folder.parent / "outside.png"
    picture(outside, 9)
    row = json.dumps({"image": "X", "caption": "x"}).replace("X", name.format("outside.png"))
    (folder / "captions.csv").unlink()
    (folder / "captions.jsonl").write_text(row + '\n{"image": "a.png", "caption": "y"}')
    found = load(f"folder:{folder}", on_bad="record")
    assert len(found.bad) == 1
    assert "lies outside the folder" in found.bad[0].reason
    assert all("outside" not in str(content) for content in found.images.content)


def test_links_are_not_followed_out_of_the_folder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    picture(outside / "deep" / "secret.png", 9)
    (folder / "images" / "linked").symlink_to(outside, target_is_directory=True)
    (folder / "images" / "loop").symlink_to(folder / "images", target_is_directory=True)
    (folder / "images" / "self.png").symlink_to(folder / "images" / "self.png")
    (folder / "images" / "inside.png").symlink_to(folder / "images" / "a.png")
    found = load(f"folder:{folder}", split="test")
    assert found.images.ids == ("a.png", "b.png", "c.png", "inside.png")
    (folder / "captions.csv").rename(outside / "captions.csv")
    (folder / "captions.csv").symlink_to(outside / "captions.csv")
    with pytest.raises(ValueError, match=r"captions\.csv is a link that leads out of its folder"):
        load(f"folder:{folder}", split="test")


def test_a_folder_of_images_that_is_a_link(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "images"
    (folder / "images").rename(outside)
    (folder / "images").symlink_to(outside, target_is_directory=True)
    with pytest.raises(ValueError, match="images is a link that leads out of its folder"):
        load(f"folder:{folder}", split="test")


def test_very_long_names(folder: Path, tmp_path: Path) -> None:
    (folder / "captions.csv").write_text(f"image,caption\n{'x' * 5000}.png,y\na.png,z\n")
    with pytest.raises(FileNotFoundError, match="1 of 2 images") as caught:
        load(f"folder:{folder}")
    assert len(str(caught.value)) < 600
    for source in ("folder:", "embeddings:", "webdataset:", "clip-retrieval:", "karpathy:x,"):
        with pytest.raises(FileNotFoundError, match=r"no such|does not exist|needs the folders"):
            load(source + "y" * 5000)


def test_many_different_keys_are_no_columns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.datasets.tables.EMPTY_CELLS", 100)
    rows = [{"image": "a.png", "caption": str(n), f"only {n}": n} for n in range(90)]
    (folder / "captions.csv").unlink()
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match="90 rows have 90 different columns, nearly all empty"):
        load(f"folder:{folder}")


def test_one_long_value_does_not_pad_the_others(folder: Path) -> None:
    from workbench.datasets.tables import PADDED_BYTES, strings

    values = ["x" * (PADDED_BYTES // 400), *["y"] * 200]
    found = strings(values)
    assert (found.dtype, found.tolist()) == (np.dtype(object), values)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ('{"share": "everything"}', "'share' must be one of full, no-images, no-content; got 'everything'"),
        ('{"share": "no-image"}', "did you mean 'no-images'"),
        ('{"share": 1}', "'share' must be text; got int"),
        ('{"licence": null}', "'licence' must be text; got NoneType"),
        ('{"expected": {"images": "many"}}', "'expected' must hold whole numbers .*got 'many' for 'images'"),
        ('{"expected": {"images": true}}', "got True for 'images'"),
        ('{"expected": [5]}', "'expected' must be an object of counts .*got list"),
        ("[]", "must hold one JSON object; got list"),
        ("[" * 90_000, "nested too deeply"),
        ('{"name": "a", "name": "b"}', "the key 'name' occurs twice"),
        ("{", r"card\.json is not JSON"),
        (" " * 2**20 + "{}", "has 1,048,578 bytes; at most 1,048,576 are read"),
    ],
)
def test_cards_of_wrong_types(folder: Path, card: str, message: str) -> None:
    (folder / "card.json").write_text(card)
    with pytest.raises(ValueError, match=message):
        load(f"folder:{folder}", split="test")
    (folder / "card.json").write_text('{"share": "no-content"}')
    assert load(f"folder:{folder}", split="test").card.share == "no-content"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (3, "image 0 must be an object; got int"), ({"filename": 3, "sentences": []}, "needs a 'filename'"),
        ({"filename": "a", "sentences": "x"}, "needs a list 'sentences'"),
        ({"filename": "a", "sentences": [{"raw": None}]}, "a sentence without a text 'raw'"),
        ({"filename": "x" * 5000, "sentences": [{"raw": "a"}], "split": "test"}, "1 of 1 listed images are not under"),
        ({"filename": "../a.png", "sentences": [{"raw": "a"}], "split": "test"}, "1 of 1 listed images are not under"),
    ],
)  # fmt: skip
def test_karpathy_entries_of_wrong_types(tmp_path: Path, entry: Any, message: str) -> None:
    (tmp_path / "d.json").write_text(json.dumps({"images": [entry]}))
    (tmp_path / "pictures").mkdir()
    picture(tmp_path / "a.png", 1)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load(f"karpathy:{tmp_path / 'd.json'},{tmp_path / 'pictures'}")


# ----------------------------------------------------------------------------------- files of strangers: arrays


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint16, ">f4"])
def test_embeddings_of_any_real_type(tmp_path: Path, dtype: Any) -> None:
    values = np.array([[1, 2], [3, 4], [5, 6]])
    found = load(write_npz(tmp_path / "v.npz", image=values.astype(dtype), text=values[:2].astype(dtype)))
    assert found.embeddings["image"].vectors.tolist() == values.tolist()
    assert found.embeddings["image"].vectors.dtype in (np.float32, np.float64)


def test_bfloat16_is_widened_exactly(tmp_path: Path) -> None:
    values = np.array([[1.0, -2.5], [0.15625, 3.0e38], [0.0, 7.0]], np.float32)
    halves = (values.view(np.uint32) >> 16).astype("<u2")
    expected = (halves.astype(np.uint32) << 16).view(np.float32)
    header = json.dumps({name: {"dtype": "BF16", "shape": [3, 2], "data_offsets": [12 * place, 12 * place + 12]}
                         for place, name in enumerate(("image", "text"))}).encode()  # fmt: skip
    data = len(header).to_bytes(8, "little") + header + halves.tobytes() * 2
    (tmp_path / "v.safetensors").write_bytes(data)
    found = load(f"embeddings:{tmp_path / 'v.safetensors'}")
    assert found.embeddings["image"].vectors.tolist() == expected.tolist()
    assert found.embeddings["image"].vectors[0].tolist() == [1.0, -2.5]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": np.eye(3), "text": np.zeros((0, 3))}, r"v.npz: 'text' must hold vectors .*got \(0, 3\)"),
        ({"image": np.eye(3), "text": np.float32(1)}, r"'text' must hold vectors .*got \(\)"),
        ({"image": np.eye(3), "text": np.ones((2, 3, 1))}, r"'text' must hold vectors .*got \(2, 3, 1\)"),
        ({"image": np.eye(3) * 1j, "text": np.eye(3)}, "v.npz: image vectors must be real numbers; got dtype complex"),
        ({"image": np.eye(3), "text": np.full((2, 3), "a")}, "v.npz: text vectors must be real numbers; got dtype <U1"),
        ({"image": np.eye(3), "text": np.eye(3) == 1}, "must be real numbers; got dtype bool"),
        ({"image": np.zeros((3, 2), "V2"), "text": np.eye(3)}, "bfloat16 must be saved as float32"),
        ({"image": np.eye(3), "text": np.eye(3), "text_image": np.array([0, 1, 2**63], np.uint64)}, "must lie in 0..2"),
        ({"image": np.eye(3), "text": np.eye(3), "caption": np.array([b"\xff"] * 3)}, "caption holds what is no text"),
        ({"image": np.eye(3), "text": np.eye(3), "extra": np.array(1)}, r"'extra' of shape \(\) fits neither"),
        ({"image": np.eye(3), "text": np.eye(2, 3) + np.diag([np.inf, 0])[:, [0, 1, 1]]},
         r"v.npz: 1 of 2 text vectors hold NaN or infinity, the first are \['text-0'\]; drop these"),
    ],
)  # fmt: skip
def test_embeddings_of_no_use(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(write_npz(tmp_path / "v.npz", **arrays))


def test_pairs_that_are_not_stated_are_noted(tmp_path: Path) -> None:
    found = load(write_npz(tmp_path / "v.npz", image=np.eye(3), text=np.eye(2, 3)))
    assert (found.text_image.tolist(), found.relevance.n_positives) == ([-1, -1], 0)
    assert found.notes[0].startswith(
        "v.npz has no text_image (the row of each text's right image): 3 images and 2 texts"
    )
    stated = load(write_npz(tmp_path / "v.npz", image=np.eye(3), text=np.eye(2, 3), text_image=np.array([2, 0])))
    assert (stated.text_image.tolist(), stated.notes) == ([2, 0], ())


def test_vectors_of_length_zero_are_noted(tmp_path: Path) -> None:
    images = np.eye(3)
    images[1] = 0
    found = load(write_npz(tmp_path / "v.npz", image=images, text=np.eye(2, 3), text_image=np.array([0, 1])))
    assert found.notes == (
        "1 of 3 image vectors have length zero, the first is 'image-1': similarity=cosine is undefined for them",
    )


def test_equal_labels_do_not_multiply_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.datasets.embeddings.PAIRS", 100)
    label = np.array(["x"] * 40 + [""] * 60)
    source = write_npz(
        tmp_path / "v.npz", image=np.ones((100, 2)), text=np.ones((3, 2)), text_image=np.arange(3), label=label
    )
    with pytest.raises(ValueError, match="equal labels make 120 right pairs, more than 100"):
        load(source)


@pytest.mark.parametrize("share_kept", [0.0, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("name", ["v.npz", "v.safetensors", "captions.parquet", "image.npy"])
def test_files_that_are_cut_off(tmp_path: Path, name: str, share_kept: float) -> None:
    import pandas as pd
    from safetensors.numpy import save_file

    path, source = tmp_path / name, f"embeddings:{tmp_path / name}"
    if name == "v.npz":
        np.savez(path, image=np.eye(30), text=np.eye(30))
    elif name == "v.safetensors":
        save_file({"image": np.eye(30), "text": np.eye(30)}, path)
    elif name == "image.npy":
        for side in ("image", "text"):
            np.save(tmp_path / f"{side}.npy", np.eye(30))
        source = f"embeddings:{tmp_path}"
    else:
        pd.DataFrame({"image": ["a.png"] * 99, "caption": [str(n) for n in range(99)]}).to_parquet(path)
        source = f"folder:{tmp_path}"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share_kept)])
    with pytest.raises(ValueError, match=rf"^{name}.* cannot be read as .*; (save|write) it again"):
        load(source)


def npy_header(shape: tuple[int, ...]) -> bytes:
    import io

    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def test_files_that_unfold_into_more_than_memory(tmp_path: Path) -> None:
    """With the limit lowered to 64 MiB each of these would take at least 80 MB, two of them 4 TB."""
    import zipfile

    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in ("npy", "long", "empty"):
        (tmp_path / name).mkdir()
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("image.npy", npy_header((2**11, 10**4)) + bytes(2**13 * 10**4))
    lie = npy_header((10**6, 10**6)) + bytes(64)
    with zipfile.ZipFile(tmp_path / "lie.npz", "w") as archive:
        archive.writestr("image.npy", lie)
    (tmp_path / "npy" / "image.npy").write_bytes(lie)
    long = pa.table({"caption": ["x" * 10**6] * 80, "image": ["a.png"] * 80})
    pq.write_table(long, tmp_path / "long" / "captions.parquet")
    pq.write_table(pa.table({"caption": pa.nulls(10**7, pa.int8())}), tmp_path / "empty" / "captions.parquet")
    code = (
        "import resource, sys; from workbench.datasets import load, tables; import pyarrow.parquet, pyarrow.compute\n"
        "tables.INFLATED_BYTES = 2**26\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 3 * 2**26,) * 2)\n"
        "for source in sys.argv[1:]:\n"
        "    try: load(source); print('loaded')\n"
        "    except ValueError as error: print(error)\n"
    )
    expected = {
        f"embeddings:{tmp_path}/bomb.npz": "unfolds into", f"embeddings:{tmp_path}/lie.npz": "the file is cut off",
        f"embeddings:{tmp_path}/npy": "the file is cut off", f"folder:{tmp_path}/long": "unfolds into",
        f"folder:{tmp_path}/empty": "unfolds into",
    }  # fmt: skip
    arguments = [sys.executable, "-c", code, *expected]
    said = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=True).stdout.splitlines()
    assert len(said) == len(expected)
    for line, part in zip(said, expected.values(), strict=True):
        assert part in line
