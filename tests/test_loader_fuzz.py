"""Every loader on files nobody would send: a Collection comes back, or a sentence of ours, in bounded time and memory.

Three kinds of input: random bytes; sound files with flipped, cut, repeated or exchanged bytes; sound files whose
content is hostile. The ordinary run makes about 200 examples, always the same. For more, with new ones each time::

    WORKBENCH_FUZZ=10000 python -m pytest tests/test_loader_fuzz.py

makes that many over all loaders together (about a quarter of an hour on one core).
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
import time
import traceback
import tracemalloc
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import workbench
from workbench.datasets import Collection, load

OWN_CODE = str(Path(workbench.__file__).parent)
ALLOWED = (ValueError, FileNotFoundError, OSError)
SECONDS = 5.0
BYTES = 64 * 2**20
TOTAL = int(os.environ.get("WORKBENCH_FUZZ", "210"))
Files = dict[str, bytes]


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2), (9, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def jsonl(rows: list[Any]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def parquet(columns: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    pd.DataFrame(columns).to_parquet(buffer)
    return buffer.getvalue()


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def tar(entries: list[tuple[tarfile.TarInfo | str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in entries:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def safetensors(**arrays: Any) -> bytes:
    from safetensors.numpy import save

    return save(arrays)


CAPTIONS = [{"image": f"{n % 2}.png", "caption": f"caption {n}", "split": "test", "language": "en"} for n in range(3)]
KARPATHY = {
    "dataset": "x",
    "images": [
        {"filename": f"{n}.png", "split": "test", "sentences": [{"raw": "a", "sentid": n}, {"raw": "b"}]}
        for n in range(2)
    ],
}
VECTORS = np.arange(12, dtype=np.float32).reshape(3, 4) + 1
ITEMS = [{"modality": "image", "id": f"i{n}"} for n in range(3)] + [
    {"modality": "text", "id": f"t{n}", "caption": "c"} for n in range(2)
]
CSV = b"image,caption,language\n0.png,a cat,en\n1.png,\"a, dog\",de\n0.png,again,en\n"  # fmt: skip
QRELS = b"q1 0 d1 1\nq1 0 d2 0\nq2 0 d2 2\n"
RUN = b"q1 Q0 d1 1 9.5 tag\nq1 Q0 d2 2 9.0 tag\nq2 Q0 d2 1 3.5 tag\n"
DOCUMENTS = b".I 1\n.T\ntitle one\n.A\nauthor\n.B\nsource\n.W\ntitle one words\n.I 2\n.T\nt\n.A\n.B\n.W\nmore\n"


@cache
def sound() -> dict[str, tuple[str, str, Files]]:
    """Name -> (source with {0} for the folder, qrels, files): the first file is the one most often spoilt."""
    pictures = {"0.png": picture(), "1.png": picture()}
    table = parquet({"image_path": list("abc"), "caption": list("xyz")})
    clip = {f"metadata/metadata_{n}.parquet": table for n in (0, 1)}
    clip |= {f"{side}/{side}_{n}.npy": npy(VECTORS) for n in (0, 1) for side in ("img_emb", "text_emb")}
    shard = tar([("0.png", picture()), ("0.txt", b"a"), ("0.json", b'{"u": 1}'), ("1.png", picture()), ("1.txt", b"b")])
    arrays = {"image": VECTORS, "text": VECTORS[:2], "text_image": np.array([1, 0])}
    strings = {"caption": np.array(["a", "b"]), "label": np.array(["x", "", "x"])}
    corpus = jsonl([{"_id": f"d{n}", "title": "t", "text": "words"} for n in (1, 2)])
    beir = {"corpus.jsonl": corpus, "queries.jsonl": jsonl([{"_id": "q1", "text": "w"}])}
    judged = {**beir, "qrels/test.tsv": b"query-id\tcorpus-id\tscore\nq1\td1\t1\n"}
    cranfield = {"cran.all.1400": DOCUMENTS, "cran.qry": b".I 001\n.W\nwhat\n", "cranqrel": b"1 1 2\n1 2 -1\n"}
    card = {"card.json": b'{"name": "n", "expected": {"images": 2}}', "captions.csv": CSV}
    parts = {"items.jsonl": jsonl(ITEMS), **{f"{name}.npy": npy(one) for name, one in arrays.items()}}
    tensors = {"v.safetensors": safetensors(**arrays), "v.jsonl": jsonl(ITEMS)}
    return {
        "folder csv": ("folder:{0}", "", {"captions.csv": CSV, **pictures}),
        "folder jsonl": ("folder:{0}", "", {"captions.jsonl": jsonl(CAPTIONS), **pictures}),
        "folder parquet": ("folder:{0}", "", {"captions.parquet": parquet(dict(pd.DataFrame(CAPTIONS))), **pictures}),
        "card": ("folder:{0}", "", {**card, **pictures}),
        "karpathy": ("karpathy:{0}/d.json,{0}", "", {"d.json": json.dumps(KARPATHY).encode(), **pictures}),
        "npz": ("embeddings:{0}/v.npz", "", {"v.npz": npz(**arrays, **strings)}),
        "safetensors": ("embeddings:{0}/v.safetensors", "", tensors),
        "npy folder": ("embeddings:{0}", "", parts),
        "run": ("run:{0}/l.trec", "{0}/q.qrels", {"l.trec": RUN, "q.qrels": QRELS}),
        "qrels": ("beir:{0}", "{0}/q.qrels", {"q.qrels": b"q1 0 d1 1\nq1 0 d2 0\n", **beir}),
        "beir": ("beir:{0}", "", judged),
        "cranfield": ("cranfield:{0}", "", cranfield),
        "webdataset": ("webdataset:{0}/s.tar", "", {"s.tar": shard}),
        "clip-retrieval": ("clip-retrieval:{0}", "", clip),
    }


def loaded(source: str, qrels: str, files: Files, on_bad: str) -> str:
    """Load the files and return "" or the message; what no user should see is an AssertionError."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, data in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        tracemalloc.start()
        begin = time.perf_counter()
        try:
            found = load(source.format(folder), on_bad=on_bad, qrels=qrels.format(folder))
            assert isinstance(found, Collection)
            message = ""
        except Exception as error:
            message = ours(error)
        finally:
            seconds, peak = time.perf_counter() - begin, tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert seconds < SECONDS, f"{seconds:.1f} s"
        assert peak < BYTES + 200 * sum(map(len, files.values())), f"{peak / 2**20:.0f} MiB"
        return message


def ours(error: Exception) -> str:
    """The message of an exception that our own code raised, with a sentence a user can read."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    assert last.filename.startswith(OWN_CODE), f"raised by {last.filename}:{last.lineno}: {error!r}"
    assert isinstance(error, ALLOWED), repr(error)
    assert type(error).__module__ == "builtins" or type(error).__module__.startswith("workbench."), repr(error)
    message = str(error)
    assert len(message.split()) >= 4, repr(message)
    assert "Traceback" not in message, message
    assert "\n" not in message, message
    assert len(message) < 1500, f"{len(message)} characters: {message[:300]}"
    return message


@st.composite
def spoilt(draw: st.DrawFn, data: bytes, other: bytes) -> bytes:
    """Sound bytes after one to four accidents."""
    for _ in range(draw(st.integers(1, 4))):
        accident = draw(st.sampled_from(["flip", "set", "cut", "repeat", "exchange", "insert", "drop"]))
        at, to = sorted(draw(st.tuples(st.integers(0, max(len(data) - 1, 0)), st.integers(0, max(len(data) - 1, 0)))))
        if accident in ("flip", "set") and data:
            value = draw(st.integers(1, 255)) ^ (data[at] if accident == "flip" else 0)
            data = data[:at] + bytes([value]) + data[at + 1 :]
        elif accident == "cut":
            data = data[:at]
        elif accident == "repeat":
            data = data[:to] + data[at:to] * draw(st.integers(1, 20)) + data[to:]
        elif accident == "exchange":
            data = data[:at] + other[at:to] + data[to:]
        elif accident == "insert":
            data = data[:at] + draw(st.binary(max_size=40)) + data[at:]
        elif accident == "drop":
            data = data[:at] + data[to:]
    return data


UGLY = st.sampled_from(
    ["", " ", "0.png", "1.png", "../0.png", "/etc/passwd", "C:\\x.png", "file:///etc/passwd", "é", "e\u0301",
     "\u2028", "\ud800", "\x00", "\x1f", "\ufeff", "nan", "NaN", "Infinity", "1e999", "-1", "0", "1", "9" * 40,
     "9" * 5000, "a" * 9000, "q1", "d1", "q1 0 d1 1",
     "<script>", "](javascript:x)", "%s%n", "{0}", '"', "'", ";", "\t", ",", "image", "text", "test", "__proto__"]
)  # fmt: skip
SCALARS = st.one_of(
    UGLY, st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just(10**400), st.just([])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(UGLY, inner, max_size=3)),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["image", "caption", "caption_id", "split", "modality", "id", "_id", "text", "title", "label", "status", "name",
     "share", "expected", "query-id", "corpus-id", "score", "filename", "filepath", "sentences", "raw", "sentid",
     "images", "dataset", ""]
)  # fmt: skip
ROWS = st.lists(st.one_of(st.dictionaries(KEYS, VALUES, max_size=6), VALUES), max_size=5)


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


@st.composite
def hostile_text(draw: st.DrawFn, sound_bytes: bytes) -> bytes:
    """A table whose words are ugly ones: lines of the sound file with some of its fields exchanged."""
    between = draw(st.sampled_from([",", " ", "\t", ";"]))
    lines = [line.split(between) for line in sound_bytes.decode("utf-8", "replace").split("\n")]
    for _ in range(draw(st.integers(1, 4))):
        line = draw(st.sampled_from(lines))
        if line:
            line[draw(st.integers(0, len(line) - 1))] = draw(UGLY)
    if draw(st.booleans()):
        lines = lines + draw(st.lists(st.sampled_from(lines), max_size=4))
    text = draw(st.sampled_from(["\n", "\r\n", "\r"])).join(between.join(line) for line in lines)
    return text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"])), "replace")


@st.composite
def hostile_json(draw: st.DrawFn, sound_bytes: bytes) -> bytes:
    """Values of any kind under known keys: one value, one per line, or the sound rows with some replaced."""
    try:
        rows = [json.loads(line) for line in sound_bytes.decode().split("\n")]
    except ValueError:
        rows = []
    kind = draw(st.sampled_from(["lines", "value", "replaced", "deep", "twice"]))
    if kind == "value":
        return dumped(draw(VALUES))
    if kind == "deep":
        return draw(st.sampled_from([b"[", b'{"a":'])) * draw(st.integers(500, 60_000))
    if kind == "twice":
        return b'{"image": "0.png", "image": "1.png", "caption": "x"}'
    if kind == "lines" or not rows:
        return b"\n".join(map(dumped, draw(ROWS)))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(rows))
        while isinstance(place, dict | list) and place:
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
            if not isinstance(place[key], dict | list) or draw(st.booleans()):
                place[key] = draw(VALUES)
                break
            place = place[key]
    return b"\n".join(map(dumped, rows))


@st.composite
def array(draw: st.DrawFn) -> Any:
    shape = draw(st.sampled_from([(), (0,), (2,), (3,), (0, 4), (3, 0), (2, 4), (3, 4), (3, 5), (3, 4, 1)]))
    kind = draw(
        st.sampled_from(
            ["f2", "f4", "f8", ">f4", "i8", "u8", "i1", "b1", "c8", "O", "U3", "S3", "M8[s]", "V2", "i4,f4"]
        )
    )
    fill = draw(st.sampled_from([0, 1, -1, np.nan, np.inf, 1e300, 2**63, "\u0130", b"\xff"]))
    try:
        with np.errstate(all="ignore"):
            return np.full(shape, fill).astype(kind)
    except (ValueError, TypeError, OverflowError, UnicodeError):
        return np.zeros(shape, kind)


NAMES = ["image", "text", "text_image", "image_id", "text_id", "caption", "label", "extra", "image:x", "text:y", ""]


@st.composite
def hostile_npz(draw: st.DrawFn, _: bytes) -> bytes:
    arrays = {
        "image": VECTORS,
        "text": VECTORS[:2],
        **draw(st.dictionaries(st.sampled_from(NAMES), array(), max_size=3)),
    }
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        draw(st.sampled_from([np.savez, np.savez_compressed]))(buffer, **arrays)
    return buffer.getvalue()


@st.composite
def hostile_npy(draw: st.DrawFn, _: bytes) -> bytes:
    return npy(draw(array()))


@st.composite
def hostile_safetensors(draw: st.DrawFn, _: bytes) -> bytes:
    """A header of our own making: types, shapes and offsets that need not fit the bytes."""
    header = {}
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True)):
        kind = draw(st.sampled_from(["F32", "BF16", "F16", "I64", "U8", "F8_E4M3", "BOOL", "C64", "X"]))
        shape = draw(st.sampled_from([[3, 4], [2, 4], [3], [0, 4], [], [2**40, 2**40], [-1]]))
        header[name] = {
            "dtype": kind,
            "shape": shape,
            "data_offsets": [0, draw(st.sampled_from([0, 12, 24, 48, 2**60]))],
        }
    text = json.dumps(header).encode()
    length = len(text) if draw(st.booleans()) else draw(st.integers(0, 2**63))
    return (
        length.to_bytes(8, "little") + text + draw(st.sampled_from([b"", b"\x80\x3f" * 12, b"\0" * 48, b"\xff" * 24]))
    )


@st.composite
def hostile_parquet(draw: st.DrawFn, _: bytes) -> bytes:
    columns = {}
    for name in draw(
        st.lists(st.one_of(KEYS, st.just("image_path"), st.just("caption")), min_size=1, max_size=4, unique=True)
    ):
        columns[name] = draw(
            st.sampled_from(
                [["0.png", "1.png", "0.png"], ["a", None, "b"], [1, 2, 3], [1.5, float("nan"), 2.0],
                 [b"a", b"\xff", b""], [["a"], [], ["b", "c"]], [{"x": 1}, {"x": 2}, None], [True, False, None],
                 list(pd.to_datetime(["2020-01-01", None, "1690-09-21"])), ["", "", ""], ["image", "text", "text"]]
            )
        )  # fmt: skip
    return parquet(columns)


MEMBER_NAMES = st.one_of(
    UGLY.map(lambda name: name.replace("\0", "") or "x"),
    st.sampled_from(
        [
            "0.png",
            "0.txt",
            "0.json",
            "1.png",
            "../0.png",
            "/0.png",
            "./0.txt",
            "a/b/0.jpg",
            ".hidden",
            "x" * 300 + ".png",
        ]
    ),
)


KINDS = [b"0"] * 5 + [bytes([kind]) for kind in b"123567SxgLKZ"]
PAX = ["size", "path", "GNU.sparse.size", "GNU.sparse.map", "GNU.sparse.major", "comment"]


@st.composite
def hostile_tar(draw: st.DrawFn, _: bytes) -> bytes:
    form = draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, encoding="utf-8") as archive:
        for name in draw(st.lists(MEMBER_NAMES, max_size=6)):
            info = tarfile.TarInfo(name.encode("utf-8", "replace").decode())
            info.type = draw(st.sampled_from(KINDS))
            if draw(st.booleans()):
                value = draw(st.sampled_from(["-1", "-4096", "9" * 30, "1", "../x", "0,1,2", "x"]))
                info.pax_headers = {draw(st.sampled_from(PAX)): value}
            text = UGLY.map(lambda word: word.encode("utf-8", "replace"))
            content = draw(st.one_of(st.just(picture()), text, VALUES.map(dumped)))
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def hostile(name: str, data: bytes) -> st.SearchStrategy[bytes]:
    ending = Path(name).suffix
    kinds: dict[str, Callable[[bytes], st.SearchStrategy[bytes]]] = {
        ".jsonl": hostile_json, ".json": hostile_json, ".npz": hostile_npz, ".npy": hostile_npy, ".tar": hostile_tar,
        ".parquet": hostile_parquet, ".safetensors": hostile_safetensors,
    }  # fmt: skip
    return kinds.get(ending, hostile_text)(data)


FORMATS = tuple(sound())


@pytest.mark.parametrize("name", FORMATS)
def test_sound_files_load(name: str) -> None:
    assert loaded(*sound()[name], "fail") == ""


@pytest.mark.parametrize("name", FORMATS)
@settings(
    max_examples=max(1, TOTAL // len(FORMATS)), deadline=None, derandomize="WORKBENCH_FUZZ" not in os.environ,
    database=None, suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(draw=st.data())
def test_a_collection_or_a_sentence(name: str, draw: st.DataObject) -> None:
    source, qrels, files = sound()[name]
    readable = [file for file in files if not file.endswith(".png")]
    changed = dict(files)
    for target in draw.draw(st.sampled_from([readable[:1], readable[:1], readable[-1:], readable]), label="files"):
        kind = draw.draw(st.sampled_from(["random", "spoilt", "spoilt", "hostile", "hostile"]), label="kind")
        if kind == "random":
            changed[target] = draw.draw(st.binary(max_size=300))
        elif kind == "spoilt":
            other = draw.draw(st.sampled_from(sorted(files.values())))
            changed[target] = draw.draw(spoilt(files[target], other))
        else:
            changed[target] = draw.draw(hostile(target, files[target]))
    loaded(source, qrels, changed, draw.draw(st.sampled_from(["fail", "record"]), label="on_bad"))
