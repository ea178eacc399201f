"""Tar shards and clip-retrieval folders: the layout other tools write, and everything hostile that fits into it."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import workbench.datasets.webdataset as webdataset
from workbench.datasets import Collection, load
from workbench.datasets.pictures import open_picture


def picture(shade: int = 7) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (5, 4), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


Entry = tuple[str, bytes] | tarfile.TarInfo


def tar(path: Path, entries: Sequence[Entry]) -> Path:
    with tarfile.open(path, "w") as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                archive.addfile(info, io.BytesIO(entry[1]))
    return path


def as_json(**values: Any) -> bytes:
    return json.dumps(values).encode()


GOOD: list[Entry] = [
    ("000.png", picture(1)), ("000.txt", b" a cat\n"), ("000.json", as_json(caption="not this", url="u0")),
    ("001.png", picture(2)), ("001.json", as_json(caption=["one", "two"], width=5)), ("002.png", picture(3)),
]  # fmt: skip


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    tar(tmp_path / "00000.tar", GOOD)
    tar(tmp_path / "00001.tar", [("./000.png", picture(4)), ("./000.txt", b"a dog"), ("000.cls", b"3"), ("x", b"")])
    return tmp_path


def test_layout(shards: Path) -> None:
    found = load(f"webdataset:{shards}")
    assert found.images.ids == ("00000/000", "00000/001", "00000/002", "00001/000")
    assert list(found.texts.content) == ["a cat", "one", "two", "a dog"]  # .txt wins over the caption in .json
    assert found.texts.ids == ("00000/000#0", "00000/001#0", "00000/001#1", "00001/000#0")
    assert found.text_image.tolist() == [0, 1, 1, 3]  # picture 2 has no caption and stays as a distractor
    assert found.relevance.n_positives == 4
    assert found.images.columns["url"].tolist() == ["u0", "", "", ""]
    assert found.texts.columns["width"].tolist() == ["", "5", "5", ""]
    assert found.notes == ("members with other endings (1 x .cls, 1 x no ending) were not read",)
    assert [open_picture(content).getpixel((0, 0))[0] for content in found.images.content] == [1, 2, 3, 4]


def test_members_are_read_where_they_lie(shards: Path) -> None:
    before = sorted(shards.rglob("*"))
    found = load(f"webdataset:{shards / '00000.tar'}")
    with tarfile.open(shards / "00000.tar") as archive:
        expected = {info.name: info.offset_data for info in archive}
    assert {content.name: content.offset for content in found.images.content} == {
        name: offset for name, offset in expected.items() if name.endswith(".png")
    }
    assert sorted(shards.rglob("*")) == before  # nothing was unpacked


@pytest.mark.parametrize(
    "pattern", ["{0}", "{0}/{{00000..00001}}.tar", "{0}/00000.tar,{0}/00001.tar", "{0}/0000{{0,1}}.tar"]
)
def test_ways_to_name_shards(shards: Path, pattern: str) -> None:
    assert len(load("webdataset:" + pattern.format(shards)).images) == 4


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("{0}/{{00000..00002}}.tar", "00002.tar does not exist"),
        ("{0}/{{5..2}}.tar", "must rise and hold at most 100,000 shards"),
        ("{0}/{{0..99999999}}.tar", "must rise and hold at most 100,000 shards"),
        ("{0}/{{0..99999}}{{0..99999}}.tar", "names more than 100,000 shards"),
        ("pipe:cat x", "is not a local path; download the shards first"),
        ("https://example.org/0.tar", "is not a local path"),
        ("{0}/empty", "holds no .tar file"),
        (",", "names no archive"),
    ],
)
def test_shards_that_are_not_there(shards: Path, where: str, message: str) -> None:
    (shards / "empty").mkdir()
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load("webdataset:" + where.format(shards))


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


HOSTILE: dict[str, tuple[list[Entry], str]] = {
    "parent folder": ([("../../etc/x.png", picture())], "its name leads out of the archive"),
    "absolute": ([("/etc/x.png", picture())], "its name leads out of the archive"),
    "drive": ([("C:\\x.png", picture())], "its name leads out of the archive"),
    "symbolic link": ([special("x.png", tarfile.SYMTYPE, "/etc/passwd")], "it is a link"),
    "hard link": ([special("x.png", tarfile.LNKTYPE, "000.png")], "it is a link"),
    "device": ([special("x.png", tarfile.CHRTYPE)], "it is a special file"),
    "pipe": ([special("x.txt", tarfile.FIFOTYPE)], "it is a special file"),
    "long caption": ([("x.png", picture()), ("x.txt", b"a" * (2**20 + 1))], "the limit for .txt is 1,048,576"),
    "caption not UTF-8": ([("x.png", picture()), ("x.txt", b"caf\xe9")], "its .txt cannot be read"),
    "no JSON": ([("x.png", picture()), ("x.json", b"{")], "x.json is not JSON"),
    "deep JSON": ([("x.png", picture()), ("x.json", b'{"a":' + b"[" * 10**5)], "nested too deeply"),
    "list": ([("x.png", picture()), ("x.json", b"[1]")], "its .json must be an object; got list"),
    "two captions": ([("x.png", picture()), ("x.txt", b"a"), ("x.txt", b"b")], "its .txt occurs twice"),
    "two pictures": ([("x.png", picture()), ("x.jpg", picture())], "it has two pictures"),
    "no picture": ([("x.txt", b"a")], "there is no picture with its key"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_members(tmp_path: Path, name: str) -> None:
    entries, message = HOSTILE[name]
    path = tar(tmp_path / "s.tar", [*GOOD, *entries])
    with pytest.raises(ValueError, match=rf"1 items cannot be read, the first is 's/.*{message}.*bad_images=record"):
        load(f"webdataset:{path}")
    found = load(f"webdataset:{path}", on_bad="record")
    assert len(found.bad) == 1
    assert message in found.bad[0].reason
    assert [content.name for content in found.images.content] == ["000.png", "001.png", "002.png"]


def test_failed_downloads_are_recorded_whatever_the_policy(tmp_path: Path) -> None:
    failed = as_json(status="failed_to_download", error_message="HTTP Error 404: Not Found", caption="gone")
    found = load(f"webdataset:{tar(tmp_path / 's.tar', [*GOOD, ('003.json', failed)])}")
    assert [(item.id, item.reason) for item in found.bad] == [
        ("s/003", "img2dataset could not download it: HTTP Error 404: Not Found")
    ]


def damaged(data: bytes, name: str) -> bytes:
    changed = bytearray(data)
    changed[data.index(name.encode())] ^= 1  # the checksum of this header no longer fits
    return bytes(changed)


def test_damaged_archives(tmp_path: Path) -> None:
    whole = tar(tmp_path / "whole.tar", GOOD).read_bytes()
    end = whole.index(b"002.png") + 512 + 20
    cases = {
        "cut inside a member": (whole[:end], "the archive ends inside it", 2),
        "cut between members": (whole[: whole.index(b"002.png")], "it has no end mark", 2),
        "cut inside a header": (whole[: whole.index(b"002.png") + 99], "the header at byte .* is damaged", 2),
        "damaged header": (damaged(whole, "002.png"), "the header at byte .* is damaged", 2),
    }
    for data, message, left in cases.values():
        (tmp_path / "s.tar").write_bytes(data)
        with pytest.raises(ValueError, match=message):
            load(f"webdataset:{tmp_path / 's.tar'}")
        assert len(load(f"webdataset:{tmp_path / 's.tar'}", on_bad="record").images) == left


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty file"), (b"x" * 2000, "cannot be read further"), (b"\0" * 10240, "no picture in 1 archives"),
        (gzip.compress(b"x"), "compressed with gzip.*decompress it to a plain .tar"),
        (b"BZh91AY", "compressed with bzip2"), (b"\xfd7zXZ\0", "compressed with xz"),
    ],
)  # fmt: skip
def test_what_is_no_plain_tar(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "s.tar").write_bytes(data)
    for policy in ("fail", "record"):
        with pytest.raises(ValueError, match=message):
            load(f"webdataset:{tmp_path / 's.tar'}", on_bad=policy)


def test_a_header_cannot_ask_for_much(tmp_path: Path) -> None:
    info = special("PaxHeader", tarfile.XHDTYPE)
    info.size = 8 * 2**30 - 1
    (tmp_path / "s.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"30 path=x\n" + b"\0" * 2048)
    with pytest.raises(ValueError, match=r"a header claims .* bytes, at most 1,048,576 are read"):
        load(f"webdataset:{tmp_path / 's.tar'}")


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("-1536", "claims a size of -1536"),
        ("-1024", "claims a size of -1024"),
        ("9" * 30, "the archive ends inside it"),
    ],
)
def test_a_size_that_leads_back_or_nowhere(
    tmp_path: Path, size: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """-1536 leads back to the first byte, round and round."""
    monkeypatch.setattr(webdataset, "MEMBERS", 100)
    info = tarfile.TarInfo("x.png")
    info.pax_headers = {"size": size}
    block = info.tobuf(tarfile.PAX_FORMAT)
    whole = tar(tmp_path / "s.tar", GOOD).read_bytes()
    (tmp_path / "s.tar").write_bytes(block + whole)
    with pytest.raises(ValueError, match=message):
        load(f"webdataset:{tmp_path / 's.tar'}")


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webdataset, "MEMBERS", 3)
    with pytest.raises(ValueError, match="more than 3 members; give fewer shards"):
        load(f"webdataset:{tar(tmp_path / 's.tar', GOOD)}", on_bad="record")


def test_one_key_in_two_archives(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        tar(tmp_path / name / "0.tar", GOOD)
    with pytest.raises(ValueError, match=r"the key '0/000' is in .* and in .*; rename one of the two archives"):
        load(f"webdataset:{tmp_path}/{{a,b}}/0.tar", on_bad="record")


# ------------------------------------------------------------------------------------------------- clip-retrieval


def clip_folder(path: Path, parts: Sequence[int] = (0, 2, 10), dtype: Any = np.float16) -> Path:
    rng = np.random.default_rng(5)
    for name in ("img_emb", "text_emb", "metadata"):
        (path / name).mkdir(parents=True)
    for part in parts:
        images, texts = rng.normal(size=(3, 4)).astype(dtype), rng.normal(size=(3, 4)).astype(dtype)
        images[1] = images[0]
        np.save(path / "img_emb" / f"img_emb_{part}.npy", images)
        np.save(path / "text_emb" / f"text_emb_{part}.npy", texts)
        table = {
            "image_path": [f"/home/ada/p/{part}/{name}.jpg" for name in "aab"],
            "caption": ["a one", "a two", "b"], "url": ["u", "u", "v"],
        }  # fmt: skip
        pd.DataFrame(table).to_parquet(path / "metadata" / f"metadata_{part}.parquet")
    return path


def test_clip_retrieval(tmp_path: Path) -> None:
    found = load(f"clip-retrieval:{clip_folder(tmp_path / 'out')}")
    assert found.images.ids == ("0/a.jpg", "0/b.jpg", "2/a.jpg", "2/b.jpg", "10/a.jpg", "10/b.jpg")  # numeric order
    assert found.texts.ids[:3] == ("0/a.jpg#0", "0/a.jpg#1", "0/b.jpg#0")
    assert found.text_image.tolist() == [0, 0, 1, 2, 2, 3, 4, 4, 5]
    assert list(found.texts.content[:3]) == ["a one", "a two", "b"]
    assert found.images.columns["url"].tolist() == ["u", "v"] * 3
    expected = np.load(tmp_path / "out" / "img_emb" / "img_emb_10.npy").astype(np.float32)[[0, 2]]
    assert found.embeddings["image"].vectors.dtype == np.float32
    assert np.array_equal(found.embeddings["image"].vectors[4:], expected)
    assert found.notes == ("images are named by image_path without the folder that all of them share",)
    assert "somebody" not in repr((found.images, found.texts))


def test_one_partition_is_memory_mapped(tmp_path: Path) -> None:
    path = clip_folder(tmp_path / "out", (0,), np.float32)
    vectors = load(f"clip-retrieval:{path}").embeddings["text"].vectors
    base: Any = vectors
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)


def spoil(path: Path, name: str) -> None:
    table = path / "metadata" / "metadata_2.parquet"
    if name == "unequal vectors":
        vectors = np.load(path / "img_emb" / "img_emb_2.npy")
        vectors[1, 0] += 1
        np.save(path / "img_emb" / "img_emb_2.npy", vectors)
    elif name == "no texts":
        for file in (path / "text_emb").iterdir():
            file.unlink()
        (path / "text_emb").rmdir()
    elif name == "lost partition":
        table.unlink()
    elif name == "lost row":
        pd.read_parquet(table).iloc[:2].to_parquet(table)
    elif name == "cut vectors":
        file = path / "img_emb" / "img_emb_0.npy"
        file.write_bytes(file.read_bytes()[:-3])
    elif name == "other width":
        np.save(path / "img_emb" / "img_emb_0.npy", np.ones((3, 5), np.float16))
    elif name == "no captions":
        for part in (0, 2, 10):
            file = path / "metadata" / f"metadata_{part}.parquet"
            pd.read_parquet(file).assign(caption="").to_parquet(file)
    elif name == "complex":
        np.save(path / "text_emb" / "text_emb_0.npy", np.ones((3, 4), np.complex64))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unequal vectors", "rows 3 and 4 name the same image '2/a.jpg' but have different vectors"),
        ("no texts", "it lacks text_emb .run the inference with --enable_text=True"),
        ("lost partition", r"the partitions differ: img_emb has \[0, 2, 10\].*metadata has \[0, 10\]"),
        ("lost row", r"img_emb_2.npy has shape \(3, 4\) but metadata_2 has 2 rows"),
        ("cut vectors", "img_emb_0.npy cannot be read as an array .*cut off"),
        ("other width", r"partitions of img_emb have \[4, 5\] dimensions"),
        ("no captions", "every caption in the metadata is empty"),
        ("complex", "expected one width and real numbers"),
    ],
)
def test_clip_retrieval_refusals(tmp_path: Path, name: str, message: str) -> None:
    path = clip_folder(tmp_path / "out")
    spoil(path, name)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load(f"clip-retrieval:{path}")


def test_rows_without_a_caption_have_no_text(tmp_path: Path) -> None:
    path = clip_folder(tmp_path / "out", (0,))
    file = path / "metadata" / "metadata_0.parquet"
    pd.read_parquet(file).assign(caption=["x", None, "z"]).to_parquet(file)
    found: Collection = load(f"clip-retrieval:{path}")
    assert (found.texts.ids, found.text_image.tolist()) == (("a.jpg#0", "b.jpg#0"), [0, 1])
    expected = np.load(path / "text_emb" / "text_emb_0.npy").astype(np.float32)[[0, 2]]
    assert np.array_equal(found.embeddings["text"].vectors, expected)
    assert "1 rows have no caption" in found.notes[1]


def test_no_damage_to_a_parquet_footer_ends_the_process(tmp_path: Path) -> None:
    """pyarrow ends the process when it is asked for the metadata of a column that is damaged in the footer."""
    code = (
        "import io, sys\n"
        "from pathlib import Path\n"
        "import pyarrow as pa, pyarrow.parquet as pq\n"
        "from workbench.datasets.tables import read_rows\n"
        "table = pa.table({'image': ['a', 'b'] * 3, 'caption': ['one', 'two', 'three'] * 2, 'n': [1, 2] * 3})\n"
        "sink = io.BytesIO()\n"
        "pq.write_table(table, sink)\n"
        "data, path = sink.getvalue(), Path(sys.argv[1]) / 'captions.parquet'\n"
        "for place in range(len(data) - 8 - int.from_bytes(data[-8:-4], 'little'), len(data) - 8):\n"
        "    for value in (0, 21, 28, 76, 255):\n"
        "        path.write_bytes(data[:place] + bytes([value]) + data[place + 1:])\n"
        "        try:\n"
        "            read_rows(path)\n"
        "        except ValueError as error:\n"
        "            assert 'captions.parquet' in str(error), error\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_parquet_columns_of_lists_are_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from workbench.datasets.tables import read_rows

    pq.write_table(pa.table({"image": ["a"], "tags": [["x", "y"]]}), tmp_path / "captions.parquet")
    with pytest.raises(ValueError, match=r"captions\.parquet: column 'tags' holds lists or records; give plain values"):
        read_rows(tmp_path / "captions.parquet")
