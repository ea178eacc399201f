"""The embedding store and `encode`: what is stored is what was encoded, whatever happened in between."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.datasets.collection import Side, content_digest
from workbench.encoders import encode as encode_module
from workbench.encoders import store as store_module
from workbench.encoders.encode import batch_invariance, encode
from workbench.encoders.store import Store, cache_folder, key_name
from workbench.files import canonical_json, write_atomically

KEY = {"encoder": {"name": "toy"}, "modality": "text", "batch_size": 4}


def digest(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def vectors_of(numbers: list[int]) -> np.ndarray:
    """Three coordinates that name the item, so that a swap is seen."""
    return np.array([[number, number + 0.5, -number] for number in numbers], np.float32)


def put(store: Store, numbers: list[int]) -> None:
    store.append(KEY, [digest(n) for n in numbers], [digest(n + 1000) for n in numbers], vectors_of(numbers))


class Letters:
    """A two-stage encoder that counts letters, remembers its batches, and can be told to die."""

    name = "letters"

    def __init__(self, die_after: int | None = None, weights: str = "a") -> None:
        self.batches: list[int] = []
        self.die_after, self.weights = die_after, weights

    def prepare(self, modality: str, items: list) -> np.ndarray:
        if modality == "image":
            return np.stack([np.asarray(image.resize((4, 4)), np.float32) for image in items])
        return np.array([[text.count(letter) for letter in "abcdefgh"] for text in items], np.int64)

    def forward(self, modality: str, array: np.ndarray) -> np.ndarray:
        self.batches.append(len(array))
        if self.die_after is not None and len(self.batches) > self.die_after:
            raise KeyboardInterrupt
        return array.reshape(len(array), -1).astype(np.float32) + 1

    def encode_image(self, images: list) -> np.ndarray:
        return self.forward("image", self.prepare("image", images))

    def encode_text(self, texts: list[str]) -> np.ndarray:
        return self.forward("text", self.prepare("text", texts))

    def describe(self) -> dict:
        return {"name": self.name, "weights_sha256": self.weights}


class Bare:
    """The least an encoder can be: no description, hence no store."""

    name = "bare"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def encode_image(self, images: list) -> np.ndarray:
        self.batches.append(len(images))
        return np.array([np.asarray(image, np.float64).mean(axis=(0, 1)) + 1 for image in images])

    def encode_text(self, texts: list[str]) -> np.ndarray:
        self.batches.append(len(texts))
        return np.array([[len(text) + 1.0, text.count("a"), 1.0] for text in texts])


def texts_side(n: int, start: int = 0) -> Side:
    numbers = range(start, start + n)
    return Side("text", tuple(f"t{i}" for i in numbers), tuple("abcdefgh"[i % 8] * (i // 8 + 1) for i in numbers))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_rows_come_back_in_the_order_asked(store: Store) -> None:
    put(store, [3, 1, 2])
    put(store, [7, 5])
    found = store.lookup(KEY, [digest(n) for n in (5, 9, 1, 3, 5)])
    assert found.rows.tolist() == [0, 2, 3, 4]
    np.testing.assert_array_equal(found.vectors, vectors_of([5, 1, 3, 5]))
    assert found.input_digests == tuple(digest(n + 1000) for n in (5, 1, 3, 5))
    assert found.warnings == ()


def test_nothing_stored_finds_nothing(store: Store) -> None:
    found = store.lookup(KEY, [digest(1)])
    assert len(found.rows) == 0
    assert not store.root.exists(), "looking must not create folders"


def test_another_key_is_another_folder(store: Store) -> None:
    put(store, [1])
    for change in ({"modality": "image"}, {"batch_size": 8}, {"encoder": {"name": "toy", "weights": "b"}}):
        assert len(store.lookup({**KEY, **change}, [digest(1)]).rows) == 0


def test_key_name_is_the_hash_of_canonical_json() -> None:
    text = '{"batch_size":4,"encoder":{"name":"toy"},"modality":"text"}'
    assert canonical_json(KEY).decode() == text
    assert key_name(dict(reversed(KEY.items()))) == hashlib.sha256(text.encode()).hexdigest()[:16]
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"x": float("nan")})


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_damaged_shard_is_set_aside_and_reported(store: Store, damage: str) -> None:
    put(store, [1, 2])
    put(store, [3])
    path = next(p for p in store.folder(KEY).glob("shard-*") if p.stat().st_size == _largest(store))
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
    path.write_bytes({"flip": data, "truncate": data[:-4], "empty": b""}[damage])
    found = store.lookup(KEY, [digest(n) for n in (1, 2, 3)])
    assert found.rows.tolist() == [2]
    assert len(found.warnings) == 1
    assert path.name in found.warnings[0]
    assert not path.exists()
    assert store.lookup(KEY, [digest(1)]).warnings == (), "a shard set aside is reported once"
    put(store, [1, 2])
    assert store.lookup(KEY, [digest(n) for n in (1, 2, 3)]).rows.tolist() == [0, 1, 2]


def _largest(store: Store) -> int:
    return max(path.stat().st_size for path in store.folder(KEY).glob("shard-*"))


def test_damaged_shard_is_replaced_by_writing_the_same_again(store: Store) -> None:
    put(store, [1, 2])
    path = next(store.folder(KEY).glob("shard-*"))
    path.write_bytes(b"")
    put(store, [1, 2])
    assert store.lookup(KEY, [digest(1), digest(2)]).rows.tolist() == [0, 1]


def test_shards_hold_the_same_bytes_each_time_and_no_path_or_time(tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        store = Store(tmp_path / name)
        put(store, [4, 2])
        files.append({path.name: path.read_bytes() for path in store.folder(KEY).iterdir()})
        assert files[-1].pop(".lock") == b""
    assert files[0] == files[1]
    assert all(str(tmp_path).encode() not in data for data in files[0].values())
    assert sorted(name.split("-")[0] for name in files[0]) == ["key.json", "shard"]


def test_concurrent_writers_of_equal_and_different_items(store: Store) -> None:
    def work() -> None:
        for first in range(0, 40, 4):
            put(store, list(range(first, first + 4)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = store.lookup(KEY, [digest(n) for n in range(40)])
    np.testing.assert_array_equal(found.vectors, vectors_of(list(range(40))))
    assert found.warnings == ()
    assert sorted(path.suffix for path in store.folder(KEY).iterdir()) == ["", ".json"] + [".safetensors"] * 10


def test_a_leftover_temporary_file_is_ignored_and_cleaned(store: Store) -> None:
    put(store, [1])
    (store.folder(KEY) / ".shard-0123456789abcdef.safetensors.99-ab.tmp").write_bytes(b"half")
    assert store.lookup(KEY, [digest(1)]).warnings == ()
    store.clean()
    assert list(store.root.iterdir()) == []


def test_failed_write_leaves_the_old_file_and_no_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    write_atomically(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


def test_list_and_clean_touch_only_what_is_ours(store: Store) -> None:
    put(store, [1, 2])
    put(store, [2, 3])
    store.append({**KEY, "modality": "image"}, [digest(1)], [digest(1)], vectors_of([1]))
    note = store.folder(KEY) / "note.txt"
    note.write_text("mine")
    (store.root / "other").mkdir()
    entries = store.list_entries()
    assert [(e.encoder, e.modality, e.items) for e in entries] == [("toy", "image", 1), ("toy", "text", 3)]
    on_disk = sum(p.stat().st_size for p in store.root.rglob("*") if p.is_file() and p.name != "note.txt")
    assert sum(entry.bytes for entry in entries) == on_disk
    assert store.clean() == on_disk
    assert note.read_text() == "mine"
    assert {path.name for path in store.root.iterdir()} == {"other", key_name(KEY)}


def test_lengths_must_agree(store: Store) -> None:
    with pytest.raises(ValueError, match="2 digests, 1 input digests, 2 vectors"):
        store.append(KEY, [digest(1), digest(2)], [digest(1)], vectors_of([1, 2]))


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "here"))
    assert Store().root == tmp_path / "here" / "embeddings"
    monkeypatch.delenv("WORKBENCH_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "workbench"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder() == tmp_path / "local" / "workbench"


def test_unwritable_store_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="WORKBENCH_CACHE"):
        put(Store(tmp_path / "file"), [1])


def test_encode_equals_the_encoder_called_directly(store: Store) -> None:
    side = texts_side(11)
    expected = Letters().encode_text(list(side.content))
    for _ in range(2):
        got = encode(Letters(), side, batch_size=4, similarity="dot", store=store)
        np.testing.assert_array_equal(got.embeddings.vectors, expected)
        assert got.digests == tuple(content_digest(text) for text in side.content)
    lengths = np.linalg.norm(encode(Letters(), side, batch_size=4, store=store).embeddings.vectors, axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


def test_every_batch_has_one_shape_and_the_second_run_encodes_nothing(store: Store) -> None:
    first, second, more = Letters(), Letters(), Letters()
    one = encode(first, texts_side(10), batch_size=4, store=store)
    two = encode(second, texts_side(10), batch_size=4, store=store)
    three = encode(more, texts_side(13), batch_size=4, store=store)
    assert (first.batches, second.batches, more.batches) == ([4, 4, 4], [], [4])
    assert (one.n_cached, one.n_encoded) == (0, 10)
    assert (two.n_cached, two.n_encoded) == (10, 0)
    assert (three.n_cached, three.n_encoded) == (10, 3)
    np.testing.assert_array_equal(one.embeddings.vectors, two.embeddings.vectors)
    assert one.input_digests == two.input_digests


def test_other_weights_or_batch_size_are_not_mixed(store: Store) -> None:
    encode(Letters(), texts_side(5), batch_size=4, store=store)
    for encoder, size in ((Letters(weights="b"), 4), (Letters(), 8)):
        assert encode(encoder, texts_side(5), batch_size=size, store=store).n_encoded == 5


def test_equal_contents_are_encoded_once(store: Store) -> None:
    side = Side("text", ("x", "y", "z", "w"), ("aa", "b", "aa", "aa"))
    got = encode(Letters(), side, batch_size=2, store=store)
    assert got.n_encoded == 2
    np.testing.assert_array_equal(got.embeddings.vectors[0], got.embeddings.vectors[2])
    assert got.embeddings.ids == ("x", "y", "z", "w")


def test_order_and_place_of_files_do_not_matter(store: Store, tmp_path: Path) -> None:
    paths = [picture(tmp_path / "a" / f"{i}.png", i * 20) for i in range(5)]
    one = encode(Letters(), Side("image", tuple("abcde"), paths), batch_size=2, store=store)
    moved = tmp_path / "b"
    moved.mkdir()
    renamed = [path.rename(moved / f"renamed-{path.name}") for path in paths][::-1]
    two = encode(Letters(), Side("image", tuple("edcba"), renamed), batch_size=2, store=store)
    assert (two.n_cached, two.n_encoded) == (5, 0)
    np.testing.assert_array_equal(one.embeddings.vectors, two.embeddings.vectors[::-1])


def test_killed_run_continues(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode_module, "SHARD_ITEMS", 8)
    whole = encode(Letters(), texts_side(30), batch_size=4, store="off")
    with pytest.raises(KeyboardInterrupt):
        encode(Letters(die_after=5), texts_side(30), batch_size=4, store=store)
    resumed = Letters()
    got = encode(resumed, texts_side(30), batch_size=4, store=store)
    assert (got.n_cached, got.n_encoded) == (16, 14)
    assert resumed.batches == [4, 4, 4, 4]
    np.testing.assert_array_equal(got.embeddings.vectors, whole.embeddings.vectors)


KILLED = """
import os, sys
sys.path.insert(0, {tests!r})
import test_store as t
from workbench.encoders import encode as e
from workbench.encoders.store import Store
class Dying(t.Letters):
    def forward(self, modality, array):
        if len(self.batches) == 3:
            os.kill(os.getpid(), 9)
        return super().forward(modality, array)
e.SHARD_ITEMS = 4
e.encode(Dying(), t.texts_side(30), batch_size=4, store=Store({root!r}))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_process_killed_outright_keeps_finished_shards(store: Store) -> None:
    code = KILLED.format(tests=str(Path(__file__).parent), root=str(store.root))
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    got = encode(Letters(), texts_side(30), batch_size=4, store=store)
    assert got.n_cached == 12
    assert got.warnings == ()


def test_damage_is_repaired_by_encoding_again(store: Store) -> None:
    one = encode(Letters(), texts_side(6), batch_size=4, store=store)
    next(store.root.glob("*/shard-*")).write_bytes(b"")
    two = encode(Letters(), texts_side(6), batch_size=4, store=store)
    assert (two.n_cached, two.n_encoded, len(two.warnings)) == (0, 6, 1)
    np.testing.assert_array_equal(one.embeddings.vectors, two.embeddings.vectors)
    assert encode(Letters(), texts_side(6), batch_size=4, store=store).n_cached == 6


def test_encoder_without_description_is_never_stored(store: Store) -> None:
    for _ in range(2):
        encoder = Bare()
        got = encode(encoder, texts_side(5), batch_size=4, store=store)
        assert (got.n_cached, got.n_encoded, encoder.batches) == (0, 5, [4, 4])
    assert not store.root.exists()


def picture(path: Path, shade: int, size: tuple[int, int] = (12, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((*size, 3), shade, np.uint8)
    pixels[: size[0] // 2] //= 2
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def mixed(tmp_path: Path) -> Side:
    """Good images around a truncated one, a text file, a missing file, a copy of the truncated one."""
    good = [picture(tmp_path / f"good{i}.png", 40 * i) for i in range(3)]
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    cut, copy, text = tmp_path / "cut.jpg", tmp_path / "copy.jpg", tmp_path / "text.png"
    cut.write_bytes(whole[: len(whole) // 2])
    copy.write_bytes(whole[: len(whole) // 2])
    text.write_text("no image")
    paths = [good[0], cut, good[1], text, tmp_path / "missing.png", copy, good[2]]
    return Side("image", ("g0", "cut", "g1", "text", "missing", "copy", "g2"), paths)


def test_bad_images_are_listed(mixed: Side, store: Store) -> None:
    for _ in range(2):
        got = encode(Letters(), mixed, batch_size=4, on_bad="record", store=store)
        assert got.kept.tolist() == [0, 2, 6]
        assert got.embeddings.ids == ("g0", "g1", "g2")
        assert [item.id for item in got.bad] == ["cut", "text", "missing", "copy"]
    reasons = {item.id: item.reason for item in got.bad}
    assert "truncated" in reasons["cut"]
    assert reasons["text"].startswith("text.png: the file begins with the bytes")
    assert "No such file" in reasons["missing"]
    folder = str(mixed.content[0].parent)
    assert not any(folder in reason for reason in reasons.values()), "no folder leaves the machine"


@pytest.mark.parametrize(
    ("row", "message"), [(1, "truncated"), (3, "the file begins with the bytes"), (4, "No such file")]
)
def test_bad_image_fails_and_names_the_file(mixed: Side, row: int, message: str) -> None:
    side = Side("image", ("ok", "the-id"), [mixed.content[0], mixed.content[row]])
    with pytest.raises(ValueError, match=rf"image 'the-id' cannot be read: {mixed.content[row].name}.*{message}"):
        encode(Letters(), side, store="off")


def test_nothing_readable_is_an_error(mixed: Side) -> None:
    side = Side("image", ("a",), [mixed.content[1]])
    with pytest.raises(ValueError, match="none of the 1 image items could be read"):
        encode(Letters(), side, on_bad="record", store="off")


def test_decompression_bomb_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = picture(tmp_path / "large.png", 10, (40, 40))
    monkeypatch.setattr("workbench.datasets.pictures.MEGAPIXELS", 0.001)
    with pytest.raises(ValueError, match=r"large\.png.*40 x 40 pixels"):
        encode(Letters(), Side("image", ("large",), [path]), store="off")


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    upright = np.zeros((20, 10, 3), np.uint8)
    upright[:10] = 200
    lying = Image.fromarray(np.rot90(upright))  # turned left; orientation 6 says: turn right to see it
    exif = Image.Exif()
    exif[0x0112] = 6
    lying.save(tmp_path / "lying.png", exif=exif)
    side = Side("image", ("file", "array"), [tmp_path / "lying.png", upright])
    got = encode(Letters(), side, similarity="dot", store="off").embeddings.vectors
    np.testing.assert_array_equal(got[0], got[1])


def test_grey_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    Image.new("L", (5, 5), 77).save(tmp_path / "grey.png")
    Image.new("RGBA", (5, 5), (77, 77, 77, 10)).save(tmp_path / "alpha.png")
    side = Side("image", ("g", "a"), [tmp_path / "grey.png", tmp_path / "alpha.png"])
    got = encode(Letters(), side, similarity="dot", store="off").embeddings.vectors
    np.testing.assert_array_equal(got, np.full((2, 48), 78, np.float32))


@pytest.mark.parametrize(
    ("side", "message"),
    [
        (Side("text", ("a",), (b"bytes",)), "expected a string; got bytes"),
        (Side("image", ("a",), [np.zeros((3, 3), np.uint8)]), r"uint8 array .*got ndarray of uint8 \(3, 3\)"),
        (Side("image", ("a",), ["path.png"]), "expected a Path"),
        (Side("text", ("a",)), "no content to encode"),
    ],
)
def test_wrong_content_is_refused(side: Side, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode(Letters(), side, store="off")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_bad": "skip"}, "on_bad must be one of 'fail', 'record'; got 'skip'"),
        ({"similarity": "l2"}, "similarity must be one of"),
        ({"batch_size": 0}, "at least 1; got 0"),
        ({"store": "none"}, "store must be one of"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode(Letters(), texts_side(3), **options)


def test_nan_from_the_encoder_is_an_error_and_not_stored(store: Store) -> None:
    class Broken(Letters):
        def forward(self, modality: str, array: np.ndarray) -> np.ndarray:
            vectors = super().forward(modality, array)
            vectors[1, 0] = np.nan
            return vectors

    with pytest.raises(ValueError, match="NaN or infinity for 1 of 3 items, the first is 't1'"):
        encode(Broken(), texts_side(3), store=store)
    assert not list(store.root.glob("*/shard-*"))


def test_wrong_shape_from_the_encoder_is_an_error() -> None:
    class Short(Bare):
        def encode_text(self, texts: list[str]) -> np.ndarray:
            return super().encode_text(texts)[1:]

    with pytest.raises(ValueError, match=r"must return \(4, dim\) for 4 items; got shape \(3, 3\)"):
        encode(Short(), texts_side(2), batch_size=4)


def test_images_are_opened_one_batch_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [picture(tmp_path / f"{i}.png", i) for i in range(9)]
    events: list[str] = []
    opened = encode_module._opened
    monkeypatch.setattr(encode_module, "_opened", lambda *a: (events.append("open"), opened(*a))[1])

    class Watching(Letters):
        def forward(self, modality: str, array: np.ndarray) -> np.ndarray:
            events.append("forward")
            return super().forward(modality, array)

    encode(Watching(), Side("image", tuple("abcdefghi"), paths), batch_size=4, store="off")
    assert events == (["open"] * 4 + ["forward"]) * 2 + ["open", "forward"]


def test_progress_is_quiet_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    encode(Letters(), texts_side(5), store="off")
    assert capsys.readouterr().err == ""
    encode(Letters(), texts_side(5), store="off", progress=True)
    captured = capsys.readouterr()
    assert "encode text" in captured.err
    assert captured.out == ""


def test_batch_invariance_is_zero_for_a_row_by_row_encoder_and_not_for_a_leaky_one() -> None:
    assert batch_invariance(Letters(), texts_side(7), batch_size=16).max_cosine_error == 0.0

    class Leaky(Letters):
        def forward(self, modality: str, array: np.ndarray) -> np.ndarray:
            vectors = super().forward(modality, array)
            return vectors + 0.1 * vectors.mean(axis=0)

    class Placed(Letters):
        def forward(self, modality: str, array: np.ndarray) -> np.ndarray:
            return super().forward(modality, array) + np.arange(len(array))[:, None] * 0.01

    leaky = batch_invariance(Leaky(), texts_side(7), batch_size=16)
    assert leaky.max_cosine_error == leaky.by_variant["alone"] > 1e-4
    placed = batch_invariance(Placed(), texts_side(7), batch_size=16)
    assert placed.by_variant["reversed"] > 0
    assert placed.by_variant["at the end of the batch"] > 0


def test_batch_invariance_against_an_angle_known_by_hand() -> None:
    class Turning(Letters):
        """Gives (1, 0) in the first half of the batch and a vector 60 degrees from it in the second."""

        def forward(self, modality: str, array: np.ndarray) -> np.ndarray:
            late = np.arange(len(array)) >= len(array) // 2
            return np.where(late[:, None], [[0.5, np.sqrt(0.75)]], [[1.0, 0.0]]).astype(np.float32)

    got = batch_invariance(Turning(), texts_side(3), batch_size=8)
    assert got.max_angle == pytest.approx(60, abs=1e-4)
    assert got.max_cosine_error == pytest.approx(0.5, abs=1e-6)
    assert got.n_items == 3


def test_json_key_on_disk_names_encoder_and_modality(store: Store) -> None:
    encode(Letters(), texts_side(2), batch_size=4, store=store)
    key = json.loads(next(store.root.glob("*/key.json")).read_bytes())
    assert (key["encoder"]["name"], key["modality"], key["batch_size"]) == ("letters", "text", 4)
    assert [(e.encoder, e.items) for e in store.list_entries()] == [("letters", 2)]


def contents(store: Store) -> dict[str, bytes]:
    return {str(p.relative_to(store.root)): p.read_bytes() for p in sorted(store.root.rglob("*")) if p.is_file()}


def spoiled(tmp_path: Path, n: int = 30) -> Side:
    """Pictures with unreadable ones early and late, and one content that comes twice."""
    paths = [picture(tmp_path / f"{row:02}.png", 5 * row) for row in range(n)]
    for row in (1, 2, 9, 28):
        paths[row].write_bytes(paths[row].read_bytes()[:60])
    paths[20].write_bytes(paths[3].read_bytes())
    return Side("image", tuple(f"i{row}" for row in range(n)), paths)


@pytest.mark.parametrize("batches", range(7))
def test_continued_runs_leave_the_same_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    monkeypatch.setattr(encode_module, "SHARD_ITEMS", 8)
    side, whole, store = spoiled(tmp_path), Store(tmp_path / "whole"), Store(tmp_path / "store")
    expected = encode(Letters(), side, batch_size=4, on_bad="record", store=whole)
    with pytest.raises(KeyboardInterrupt):
        encode(Letters(die_after=batches), side, batch_size=4, on_bad="record", store=store)
    got = encode(Letters(), side, batch_size=4, on_bad="record", store=store)
    assert contents(store) == contents(whole)
    np.testing.assert_array_equal(got.embeddings.vectors, expected.embeddings.vectors)
    assert got.bad == expected.bad


def test_leftovers_of_a_killed_writer_go_when_the_next_one_comes(store: Store) -> None:
    put(store, [1])
    left = store.folder(KEY) / ".shard-0123456789abcdef.safetensors.99-ab.tmp"
    left.write_bytes(b"half")
    store.lookup(KEY, [digest(1)])
    assert left.exists(), "reading must not remove what another run may be writing"
    put(store, [2])
    assert not left.exists()


def test_second_run_waits_says_so_and_encodes_nothing(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    started, go = threading.Event(), threading.Event()

    class Slow(Letters):
        def forward(self, modality: str, array: np.ndarray) -> np.ndarray:
            started.set()
            assert go.wait(20)
            return super().forward(modality, array)

    results: dict[str, object] = {}

    def work(name: str, encoder: Letters) -> None:
        results[name] = encode(encoder, texts_side(9), batch_size=4, store=Store(store.root), progress=True)

    first = threading.Thread(target=work, args=("first", Slow()))
    first.start()
    assert started.wait(20)
    idle = Letters()
    second = threading.Thread(target=work, args=("second", idle))
    second.start()
    second.join(0.5)
    assert second.is_alive(), "the second run must wait"
    assert store.clean() == 0, "a folder in use is left alone"
    go.set()
    first.join(20)
    second.join(20)
    one, two = results["first"], results["second"]
    assert isinstance(one, encode_module.Encoded)
    assert isinstance(two, encode_module.Encoded)
    assert idle.batches == []
    assert (two.n_cached, two.n_encoded) == (9, 0)
    np.testing.assert_array_equal(one.embeddings.vectors, two.embeddings.vectors)
    assert two.warnings == ("another run was encoding these items; this one waited for it",)
    assert "another run is encoding these items; waiting" in capsys.readouterr().err


def test_reading_waits_for_nobody(store: Store) -> None:
    encode(Letters(), texts_side(5), batch_size=4, store=store)
    key = encode_module._Shelf(Letters(), "text", 4, store, shown=False).key
    other = Store(store.root)
    with other.locked(key):
        found = encode(Letters(), texts_side(5), batch_size=4, store=store)
    assert (found.n_cached, found.warnings) == (5, ())


def test_full_disk_costs_the_cache_not_the_vectors(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/home/ada/cache/shard")

    monkeypatch.setattr(store_module, "write_atomically", full)
    got = encode(Letters(), texts_side(10), batch_size=4, store=store)
    assert got.n_encoded == 10
    assert len(got.warnings) == 1
    assert "no space left on device" in got.warnings[0]
    assert "10 vectors were not kept" in got.warnings[0]
    assert "ada" not in got.warnings[0]


def test_cache_below_a_file_costs_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    got = encode(Letters(), texts_side(10), batch_size=4, store=Store(tmp_path / "file"))
    assert got.n_encoded == 10
    assert "the cache cannot be written" in got.warnings[0]
    assert str(tmp_path) not in got.warnings[0]


def test_shared_cache_is_read_first_and_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = Store(tmp_path / "teacher" / "embeddings")
    encode(Letters(), texts_side(6), batch_size=4, store=teacher)
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("WORKBENCH_SHARED_CACHE", str(tmp_path / "teacher"))
    before = contents(teacher)
    got = encode(Letters(), texts_side(10), batch_size=4)
    assert (got.n_cached, got.n_encoded) == (6, 4)
    assert encode(Letters(), texts_side(10), batch_size=4).n_cached == 10
    assert [entry.items for entry in Store().list_entries()] == [4]
    next(teacher.root.glob("*/shard-*")).write_bytes(b"")
    again = encode(Letters(), texts_side(10), batch_size=4)
    assert (again.n_cached, again.n_encoded) == (4, 6)
    assert "of the shared cache is damaged" in again.warnings[0]
    assert contents(teacher).keys() == before.keys(), "a damaged shard of the shared cache is not touched"
    monkeypatch.setenv("WORKBENCH_SHARED_CACHE", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"WORKBENCH_SHARED_CACHE is .* no folder that can be read"):
        Store()


def test_shards_without_the_wanted_items_are_not_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        put(store, [number])
    whole: list[int] = []
    monkeypatch.setattr(
        store_module, "_shard_name", lambda data, real=store_module._shard_name: whole.append(1) or real(data)
    )
    assert store.lookup(KEY, [digest(3), digest(7), digest(99)]).rows.tolist() == [0, 1]
    assert len(whole) == 2
