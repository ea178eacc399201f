"""Loaders by format, cards and counts, on small files made here."""

from __future__ import annotations

import json
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
    with pytest.raises(ValueError, match="3 images and 2 texts but no 'text_image'"):
        load(write_npz(tmp_path / "w.npz", image=np.eye(3), text=np.eye(3)[:2]))


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
