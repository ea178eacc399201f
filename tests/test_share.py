"""What may leave the machine: planted secrets are looked for in every byte of every file, in whatever wrapping."""

from __future__ import annotations

import base64
import contextlib
import csv
import functools
import hashlib
import html
import io
import json
import re
import shutil
import socket
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image, PngImagePlugin

from workbench import evaluate as evaluation
from workbench import report
from workbench.datasets import BadItem, Card, Collection, Side, load
from workbench.diagnostics.duplicates import duplicates, repeated_captions
from workbench.evaluate import audit_schema, evaluate
from workbench.evaluate.prepare import Prepared, prepare
from workbench.evaluate.share import NamedEncoder, check_share, private_encoder, private_parameters, withheld
from workbench.failures import EvaluationFailed, ReportFailed
from workbench.runs import Run, read_parquet
from workbench.types import Embeddings, RankedLists, Relevance

WIDTHS = ("full", "no-images", "no-content")
FAST = {"n_resamples": 100, "repairs": []}
# Words that occur nowhere else; every file name, caption, ... holds its own.
NAME, FOLDER, CAPTION, CAPTION_ID, VALUE = "heronwick", "kestrelford", "otterburn", "wrenfield", "ploverton"
BAD, HOME, USER, ABOVE = "lapwinghall", "ibisgate", "dunlinmoor", "siskinbury"
COMMENT, SERIAL, PLACE, XMP, PNG_TEXT = "curlewtarn", "snipe-88-1412", "whimbrelstow", "dotterelcombe", "godwitlea"
NEVER = (HOME, USER, ABOVE, COMMENT, SERIAL, PLACE, XMP, PNG_TEXT)
CONTENT = (NAME, FOLDER, CAPTION, CAPTION_ID, VALUE, BAD)
OWNER = "Waders of the estuary, 1998"


# ---------------------------------------------------------------------------------------------------- the search


def views(data: bytes, depth: int = 0) -> Iterator[bytes]:
    """The bytes and everything that can be unwrapped from them: text escapes, base64, deflate streams, tables."""
    yield data
    if depth > 3:
        return
    if data[:4] == b"PAR1":
        yield from table_views(data, depth)
    elif b"\0" in data:
        for found in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", data):
            with contextlib.suppress(zlib.error):
                yield from views(zlib.decompressobj().decompress(data[found.start() :], 2**24), depth + 1)
    else:
        for found in re.finditer(rb"[A-Za-z0-9+/]{40,}", re.sub(rb"\\n|\s", b"", data)):
            run = found[0][: len(found[0]) // 4 * 4 + (len(found[0]) % 4 > 1) * (len(found[0]) % 4)]
            yield from views(base64.b64decode(run + b"=" * (-len(run) % 4)), depth + 1)
        yield unquote_to_bytes(data)
        yield html.unescape(data.decode("utf-8", "replace")).encode("utf-8", "replace")
        yield re.sub(rb"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)).encode("utf-8", "replace"), data)


@functools.cache
def unwrapped(path: Path) -> bytes:
    """Name and all views of a file in one lower-case string; finished runs do not change."""
    return b"\0".join([path.name.encode(), *(views(path.read_bytes()) if path.is_file() else ())]).lower()


def table_views(data: bytes, depth: int) -> Iterator[bytes]:
    table = pyarrow.parquet.read_table(io.BytesIO(data))
    yield repr(pyarrow.parquet.read_metadata(io.BytesIO(data)).metadata).encode()
    for column in table.columns:
        for value in column.to_pylist():
            yield from views(value, depth + 1) if isinstance(value, bytes) else (str(value).encode(),)


def forms(word: str) -> set[bytes]:
    plain = word.encode()
    encoded = {plain, word.encode("utf-16-le"), word.encode("utf-16-be"), plain.hex().encode(), quote(word).encode()}
    return {form.lower() for form in encoded}


def found_in(folder: Path, words: Mapping[str, set[bytes]]) -> set[tuple[str, str]]:
    """(word, file) for every file of a folder whose name or content holds a word, wrapped or not."""
    return {
        (word, path.relative_to(folder).as_posix())
        for path in [folder, *sorted(folder.rglob("*"))] for word, known in words.items()
        if any(form in unwrapped(path) for form in known)
    }  # fmt: skip


def needles(*words: str) -> dict[str, set[bytes]]:
    return {word: forms(word) for word in words}


def hashes(texts: list[str]) -> dict[str, set[bytes]]:
    """Digests of whole captions: guessable, so as good as the caption."""
    return {
        f"sha256 of {text!r}": {digest.hexdigest().encode(), digest.digest().lower(), digest.hexdigest()[:16].encode()}
        for text in texts for digest in (hashlib.sha256(text.encode()),)
    }  # fmt: skip


def png(text: str = "", *, compressed: bool = False) -> bytes:
    info = PngImagePlugin.PngInfo()
    if text:
        info.add_text("Comment", text, zip=compressed)
    sink = io.BytesIO()
    Image.new("RGB", (9, 7), "red").save(sink, "PNG", pnginfo=info)
    return sink.getvalue()


def wrapped(word: str) -> dict[str, bytes]:
    inside = base64.b64encode(png(word * 30, compressed=True))
    table = io.BytesIO()
    pyarrow.parquet.write_table(
        pyarrow.table({"a": [word] * 90, "b": [png(word)] * 90}), table, compression="zstd", use_dictionary=False
    )
    return {
        "raw": word.encode(),
        "utf-16": f"x{word}".encode("utf-16-le"),
        "html": "".join(f"&#{ord(letter)};" for letter in word).encode(),
        "json": json.dumps({"a": "".join(word)}).replace(word[0], f"\\u{ord(word[0]):04x}").encode(),
        "percent": "".join(f"%{ord(letter):02X}" for letter in word).encode(),
        "hex": word.encode().hex().upper().encode(),
        "png": png(word),
        "ztxt": png(word * 30, compressed=True),
        "base64": b'<img src="data:image/png;base64,' + inside + b'">',
        "notebook": json.dumps({"image/png": inside.decode()[:60] + "\n" + inside.decode()[60:]}).encode(),
        "parquet": table.getvalue(),
    }


@pytest.mark.parametrize("wrapping", list(wrapped("x")))
def test_the_search_finds_what_is_wrapped(wrapping: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(wrapped("ouzelbridge")[wrapping])
    assert found_in(tmp_path, needles("ouzelbridge")) == {("ouzelbridge", "file")}
    assert found_in(tmp_path, needles("ouzelbridges")) == set()


# ---------------------------------------------------------------------------------------------------- the secrets


def picture(path: Path, number: int) -> None:
    """A picture full of things a camera and an editor write into it."""
    rng = np.random.default_rng(number)
    image = Image.fromarray(rng.integers(0, 255, (48 + number, 64, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x013B], exif[0x010E] = PLACE, COMMENT
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0" + COMMENT.encode()
    exif.get_ifd(0x8769)[0xA431] = SERIAL
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 58.0, 14.12), 29: PLACE})
    xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><dc:creator>{XMP}</dc:creator></x:xmpmeta>'.encode()
    if path.suffix == ".png":
        info = PngImagePlugin.PngInfo()
        info.add_text("Author", PNG_TEXT)
        info.add_itxt("XML:com.adobe.xmp", xmp.decode(), zip=True)
        image.resize((24, 24)).save(path, exif=exif, pnginfo=info)
    else:
        image.save(path, exif=exif, xmp=xmp, comment=COMMENT.encode())


def captions_of(number: int) -> list[str]:
    colour = ("red", "green", "blue", "yellow")[number % 4]
    shape = ("circle", "square", "triangle")[number % 3]
    same = f"{CAPTION} twice" if number in (3, 5) else f"a {colour} {shape} at {CAPTION} {number}"
    return [f"A {colour} {shape}, {CAPTION} & <{number}> Größe", same.upper() if number == 5 else same]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with a telling name, an account with a telling name; nothing of either may leave."""
    import matplotlib

    path = tmp_path_factory.mktemp("people") / HOME
    path.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLCONFIGDIR", matplotlib.get_configdir())
        patch.setenv("HOME", str(path))
        patch.setenv("USERPROFILE", str(path))
        for name in ("USER", "LOGNAME", "USERNAME"):
            patch.setenv(name, USER)
        yield path


@pytest.fixture(scope="module")
def folder(home: Path) -> Path:
    """24 pictures, 48 captions, one file that is no picture; two pictures are the same, two captions nearly so."""
    path = home / ABOVE / FOLDER
    (path / "images").mkdir(parents=True)
    rows = []
    for number in range(24):
        name = f"{NAME}-{number * 7 % 24:02d}.{'png' if number % 3 == 0 else 'jpg'}"
        picture(path / "images" / name, number)
        for order, caption in enumerate(captions_of(number)):
            rows.append({
                "image": name, "caption": caption, "caption_id": f"{CAPTION_ID}-{number * 5 % 24}-{order}",
                "language": f"{VALUE}-{'cab'[number % 3]}", "altitude": str((number * 37) % 10 - 2.5),
            })  # fmt: skip
    shutil.copy(path / "images" / rows[0]["image"], path / "images" / f"{NAME}-copy.png")
    rows.append({**rows[0], "image": f"{NAME}-copy.png", "caption": f"{CAPTION} copied", "caption_id": CAPTION_ID})
    (path / "images" / f"{BAD}.png").write_bytes(png()[:40])
    rows.append({**rows[0], "image": f"{BAD}.png", "caption": f"{CAPTION} lost", "caption_id": f"{CAPTION_ID}-lost"})
    rows.append({**rows[0], "image": f"{BAD}-2.png", "caption": f"{CAPTION} gone", "caption_id": f"{CAPTION_ID}-gone"})
    with (path / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def given(folder: Path, share: str, **more: Any) -> dict[str, Any]:
    """Checked parameters of an audit of the folder."""
    changed = {"dataset": f"folder:{folder}", "bad_images": "record", "share": share, **FAST, **more}
    return audit_schema().check({**audit_schema().defaults, **changed})


@pytest.fixture(scope="module")
def runs(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run for every share value, and nothing else done differently."""
    out = tmp_path_factory.mktemp("runs")
    return {
        share: evaluate(f"folder:{folder}", out=out / share, bad_images="record", share=share, **FAST).path
        for share in WIDTHS
    }


@pytest.fixture(scope="module")
def reports(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same with reports, by the one call that makes both."""
    out = tmp_path_factory.mktemp("reports")
    return {
        share: report.report("audit", given(folder, share), out=out / share, progress=False).folder for share in WIDTHS
    }


def machine() -> dict[str, set[bytes]]:
    """What names this machine: its host, its folders."""
    host = socket.gethostname()
    places = {str(Path.home()), str(Path(report.__file__).parents[2]), sys.prefix, str(Path.cwd())}
    return needles(*NEVER, *(name for name in (host,) if len(name) > 4), *(place for place in places if len(place) > 4))


# ---------------------------------------------------------------------------------------------------- whole reports


def assert_withheld(runs: Mapping[str, Path], folder: Path) -> None:
    """What may be in no run, and in no run without content."""
    for share in WIDTHS:
        assert found_in(runs[share].parent, machine()) == set(), share
    captions = [text for number in range(24) for text in captions_of(number)]
    files = {
        path.name: {digest.hexdigest().encode(), digest.digest().lower()}
        for path in (folder / "images").iterdir() for digest in (hashlib.sha256(path.read_bytes()),)
    }  # fmt: skip
    assert found_in(runs["no-content"].parent, needles(*CONTENT) | hashes(captions) | files) == set()
    assert {file for _, file in found_in(runs["full"], files)} == {"layers/items.parquet"}


def test_no_run_names_the_machine_and_no_content_means_none(runs: dict[str, Path], folder: Path) -> None:
    assert_withheld(runs, folder)


@pytest.mark.slow
def test_no_report_names_the_machine_and_no_content_means_none(reports: dict[str, Path], folder: Path) -> None:
    assert_withheld(reports, folder)
    found = found_in(reports["full"], needles(*CONTENT))
    assert {"report.html", "report.ipynb"} <= {file for word, file in found if word == CAPTION}
    assert {"report.html", "report.ipynb"} <= {file for word, file in found if word == BAD}


def test_the_full_run_holds_it_all_where_it_should(runs: dict[str, Path]) -> None:
    found = found_in(runs["full"], needles(*CONTENT))
    assert "results.json" in {file for word, file in found if word == CAPTION}
    by_id = {"run_t2i.trec", "run_i2t.trec", "per_query.parquet", "layers/items.parquet", "thumbnails.parquet"}
    assert by_id <= {file for word, file in found if word == NAME}
    assert (FOLDER, ".") in found
    assert (VALUE, "per_query.parquet") in found
    assert (BAD, "findings.json") in found


def pictures_in(folder: Path) -> int:
    """Embedded photographs of a page; figures are drawn at least 400 pixels wide."""
    page = (folder / "report.html").read_text(encoding="utf-8")
    sources = re.findall(r'src="data:image/\w+;base64,([^"]+)"', page)
    images = [Image.open(io.BytesIO(base64.b64decode(source))) for source in sources]
    return sum(max(image.size) < 400 for image in images)


@pytest.mark.slow
def test_pages_show_pictures_only_in_the_full_report(reports: dict[str, Path]) -> None:
    assert pictures_in(reports["full"]) > 10
    for share in ("no-images", "no-content"):
        assert pictures_in(reports[share]) == 0


def test_pictures_are_kept_only_in_the_full_run(runs: dict[str, Path]) -> None:
    kept = {share: (path / "thumbnails.parquet").exists() for share, path in runs.items()}
    assert kept == {"full": True, "no-images": False, "no-content": False}
    assert {CAPTION, NAME} <= {word for word, _ in found_in(runs["no-images"], needles(*CONTENT))}


def test_thumbnails_hold_nothing_but_pixels(runs: dict[str, Path]) -> None:
    for picture in Run(runs["full"]).thumbnails.values():
        image = Image.open(io.BytesIO(picture))
        assert not image.getexif()
        assert not {"exif", "xmp", "icc_profile", "comment", "Author", "XML:com.adobe.xmp"} & set(image.info)


def test_all_numbers_are_the_same_for_every_share(runs: dict[str, Path]) -> None:
    read = {share: Run(path) for share, path in runs.items()}
    full = read["full"]
    named = {"query_id", "text:language", "text:altitude"}
    for share in ("no-images", "no-content"):
        assert (read[share].path / "metrics.json").read_bytes() == (full.path / "metrics.json").read_bytes()
        for name, column in full.per_query.items():
            if name not in named:
                np.testing.assert_array_equal(read[share].per_query[name], column, err_msg=name)
        for one, other in zip(full.findings, read[share].findings, strict=True):
            assert replace(one, advice="") == replace(other, advice="")
        for direction in ("t2i", "i2t"):
            one, other = full.neighbours(direction), read[share].neighbours(direction)
            np.testing.assert_array_equal(one["score"], other["score"])
            back = dict(zip(other["item_id"], one["item_id"], strict=True))
            assert [back[name] for name in other["item_id"]] == one["item_id"]
    assert read["no-content"].per_query["query_id"] != full.per_query["query_id"]


def test_pseudonyms_are_said_and_readable(runs: dict[str, Path]) -> None:
    run = Run(runs["no-content"])
    ids = set(run.per_query["query_id"])
    assert {"image-01", "image-25", "text-01", "text-49"} <= ids
    assert run.manifest["parameters"]["dataset"] == "folder:(withheld)"
    assert run.manifest["card"]["name"] == "withheld"
    assert run.path.name.startswith("audit__withheld__tiny-clip__")
    repeated = run.results["repeated captions"].captions
    assert [(len(texts), len(images)) for _, texts, images in repeated] == [(2, 2)]
    assert re.fullmatch(r"caption-\d\d", repeated[0][0])
    assert set(run.per_query["text:language"]) - {None} == {"language-1", "language-2", "language-3"}
    assert {item.id for item in run.results["unreadable"]} == {"unreadable-1", "unreadable-2"}


def test_content_hash_is_that_of_the_true_content(runs: dict[str, Path]) -> None:
    stated = {share: Run(path).manifest["card"]["content hash"] for share, path in runs.items()}
    assert len(set(stated.values())) == 1
    assert len({path.name[-8:] for path in runs.values()}) == 3  # share is a parameter: three different runs


# ---------------------------------------------------------------------------------------------------- failing runs


def test_a_run_that_fails_half_way_keeps_its_secrets(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, prepared: Prepared, *_: Any) -> None:
        side = prepared.collection.texts
        told = (prepared.images.ids[0], side.ids[0], side.content[0], prepared.about, prepared.notes, side.columns)
        raise ValueError(f"{told} in {folder}/x.png of {Path.home()} on {socket.gethostname()}")

    monkeypatch.setattr(evaluation, "write_run", fail)
    with pytest.raises(EvaluationFailed):
        evaluate(f"folder:{folder}", out=tmp_path, share="no-content", bad_images="record", **FAST)
    assert (next(tmp_path.iterdir()) / "failure.json").exists()
    shown = needles(NAME, CAPTION, CAPTION_ID, VALUE, BAD, ABOVE, HOME, USER)
    assert found_in(tmp_path, shown | machine()) == set()


@pytest.mark.slow
def test_a_drawing_that_fails_keeps_its_secrets(runs: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(runs["no-content"], path)
    (path / "results.json").write_text('{"schema": 99}')
    with pytest.raises(ReportFailed):
        report.draw("audit", path, progress=False)
    assert (path / "report.failed.ipynb").exists()
    words = machine() | needles(*CONTENT, str(tmp_path), "/site-packages/", ".partial")
    assert found_in(path, words) == set()


# ---------------------------------------------------------------------------------------------------- the parts


@pytest.fixture(scope="module")
def prepared(folder: Path) -> Prepared:
    return prepare(given(folder, "full"), progress=False)


def test_what_is_withheld_is_absent(prepared: Prepared, folder: Path) -> None:
    hidden = withheld(prepared, given(folder, "no-content"))
    images, texts = hidden.collection.images, hidden.collection.texts
    told = repr([
        images, texts, hidden.collection.card, hidden.collection.bad, hidden.collection.notes, hidden.about,
        hidden.notes, hidden.images, hidden.texts, hidden.image_digests, hidden.text_digests, hidden.image_inputs,
        hidden.text_inputs, list(texts.columns.values()), hidden.encoder,
    ])  # fmt: skip
    assert not [word for word in (*CONTENT, *NEVER) if word in told.casefold()]
    assert not re.search(r"[0-9a-f]{64}", told.replace(hidden.about["weights_sha256"], "").replace(
        hidden.about["tokenizer_sha256"], ""))  # fmt: skip
    assert images.content == ()
    assert len(texts.content) == len(prepared.texts)
    assert isinstance(hidden.encoder, NamedEncoder)
    assert hidden.images.ids == images.ids
    assert hidden.counts is prepared.counts
    assert hidden.images.vectors is prepared.images.vectors
    assert prepared.collection.texts.content[0].startswith("A red")  # the input is not changed


def test_pseudonyms_sort_like_the_true_values(prepared: Prepared, folder: Path) -> None:
    hidden = withheld(prepared, given(folder, "no-content"))
    for side in ("images", "texts"):
        true, shown = getattr(prepared, side).ids, getattr(hidden, side).ids
        assert np.argsort(true).tolist() == np.argsort(shown).tolist()
    columns, other = prepared.collection.texts.columns, hidden.collection.texts.columns
    assert (
        np.argsort(columns["language"], kind="stable").tolist() == np.argsort(other["language"], kind="stable").tolist()
    )
    true, shown = columns["altitude"].astype(float), other["altitude"].astype(float)
    assert (np.subtract.outer(true, true) > 0).tolist() == (np.subtract.outer(shown, shown) > 0).tolist()
    for q in (0.2, 0.25, 1 / 3, 0.5, 0.9):
        assert ((true <= np.quantile(true, q)) == (shown <= np.quantile(shown, q))).all()


def test_equal_things_are_still_equal(prepared: Prepared, folder: Path) -> None:
    hidden = withheld(prepared, given(folder, "no-content"))
    found = [duplicates(one.image_digests, one.images.vectors, ids=one.images.ids).groups for one in (prepared, hidden)]
    assert [len(group) for group in found[0]] == [len(group) for group in found[1]] == [2]
    repeated = [
        repeated_captions(one.collection.texts.content, one.collection.text_image, one.collection.relevance)
        for one in (prepared, hidden)
    ]
    assert [entry[1:] for entry in repeated[0].captions] == [entry[1:] for entry in repeated[1].captions]
    assert len(repeated[0].captions) == 1


def test_bad_items_tell_only_the_kind_of_reason(prepared: Prepared, folder: Path) -> None:
    hidden = withheld(prepared, given(folder, "no-content"))
    assert {(item.id, item.reason) for item in hidden.collection.bad} == {
        ("unreadable-1", "there is no such file"),
        ("unreadable-2", "it is cut off or damaged"),
    }


def test_no_images_keeps_words_and_drops_pictures(prepared: Prepared, folder: Path) -> None:
    hidden = withheld(prepared, given(folder, "no-images"))
    assert len(hidden.collection.images.content) == 0
    assert hidden.collection.texts is prepared.collection.texts
    assert hidden.images.vectors is prepared.images.vectors
    assert hidden.images.ids == prepared.images.ids
    assert hidden.image_digests == prepared.image_digests


def listed() -> Prepared:
    """A system known by its lists, 3 queries over 5 documents; one id is on both sides."""
    queries = Side("query", ("b", "c", "a"), ["old Ships", "old ships.", "new"], {"year": np.array([1998, 2003, 1998])})
    documents = Side("document", ("v", "z", "a", "x", "w"), ["1", "2", "3", "4", "5"])
    judged = Relevance.from_pairs([0, 2], [1, 3], n_queries=3, n_gallery=5)
    lists = RankedLists(np.array([0, 2, 3, 3]), np.array([1, 4, 0]), np.array([3.0, 2.0, 9.0]), 5)
    collection = Collection(
        Card("run lists"), documents, queries, judged, np.full(3, -1), bad=(BadItem("q9", "no idea at x.png"),),
        lists=lists, one_way=True, notes=("judged: d17",),
    )  # fmt: skip
    nothing: dict[str, Any] = dict.fromkeys(("text_digests", "text_inputs"), ("",) * 3)
    return Prepared(
        collection=collection, counts=None, images=documents, texts=queries, image_digests=("",) * 5,
        image_inputs=("",) * 5, **nothing, encoder=None, about={"source": "ranked lists only", "file": "secret"},
        invariance=None, norms={}, n_cached=0, n_encoded=0, notes=("x", "y"),
    )  # type: ignore[arg-type]  # fmt: skip


def test_lists_without_vectors_are_withheld_too() -> None:
    before = listed()
    after = withheld(before, {"share": "no-content", "dataset": "run:lists.trec", "encoder": ""})
    assert after.texts.ids == ("query-2", "query-3", "query-1")
    assert after.images.ids == ("document-2", "document-5", "document-1", "document-4", "document-3")
    assert after.texts is after.collection.texts
    assert after.collection.texts.content[0] == after.collection.texts.content[1] != after.collection.texts.content[2]
    assert after.collection.texts.columns["year"].tolist() == [1.0, 2.0, 1.0]
    assert after.collection.lists is before.collection.lists
    assert after.about == {"source": "ranked lists only"}
    assert after.collection.card.name == "withheld"
    assert after.collection.bad == (BadItem("unreadable-1", "it could not be read"),)
    assert after.notes == ("2 notes on the data withheld (share=no-content).",)
    assert after.collection.notes == ("1 note on the data withheld (share=no-content).",)
    assert after.image_digests == ("",) * 5
    same = withheld(before, {"share": "no-images", "dataset": "run:lists.trec", "encoder": ""})
    assert same.images.content == before.images.content  # documents are words


def test_one_id_on_two_like_sides_stays_one() -> None:
    before = listed()
    items = replace(before.collection.images, modality="query", content=())
    collection = replace(before.collection, images=items)
    after = withheld(replace(before, collection=collection, images=items), {
        "share": "no-content", "dataset": "run:x", "encoder": ""})  # fmt: skip
    assert after.texts.ids[2] == after.images.ids[2] == "query-1"
    assert after.texts.ids[0] == "query-2"


def test_ready_made_vectors_lose_their_file(tmp_path: Path) -> None:
    from tests.worlds import write_vectors

    source = write_vectors(tmp_path / "heronwick.npz", n_images=7)
    hidden = withheld(prepare(given(tmp_path, "full", dataset=source)), given(tmp_path, "no-content", dataset=source))
    assert isinstance(hidden.images, Embeddings)
    assert {modality: dict(one.source) for modality, one in hidden.collection.embeddings.items()} == {
        "image": {}, "text": {}}  # fmt: skip
    assert hidden.collection.embeddings["text"].ids == hidden.texts.ids
    assert hidden.texts.ids[0] == "text-01"
    assert hidden.collection.card.name == "withheld"


def test_empty_and_missing_values_stay_missing() -> None:
    values = {"a": np.array(["x", "", "y"]), "b": np.array([2.5, np.nan, -1.0]), "c": np.array(["10", "9", ""])}
    before = listed()
    side = replace(before.collection.texts, columns=values)
    after = withheld(replace(before, collection=replace(before.collection, texts=side), texts=side), {
        "share": "no-content", "dataset": "run:x", "encoder": ""})  # fmt: skip
    shown = after.collection.texts.columns
    assert shown["a"].tolist() == ["a-1", "", "a-2"]
    np.testing.assert_array_equal(shown["b"], [2.0, np.nan, 1.0])
    assert shown["c"].tolist() == ["2", "1", ""]


@pytest.mark.parametrize(
    ("name", "source", "kept"),
    [
        ("folder kestrelford", "folder:/x/kestrelford", False),
        ("kestrelford", "folder:/x/kestrelford/", False),
        ("vectors", "embeddings:/x/y/vectors.npz", False),
        ("y", "embeddings:/x/y/vectors.npz", False),
        ("karpathy split", "karpathy:/x/split.json,/x/pictures", False),
        ("anything", "", False),
        (OWNER, "folder:/x/kestrelford", True),
        ("cats", "folder:/x/cat", True),
        ("scenes", "scenes", True),
    ],
)
def test_names_made_from_files_go_and_stated_names_stay(name: str, source: str, kept: bool) -> None:
    before = listed()
    collection = replace(before.collection, card=Card(name, title=OWNER, licence="CC0"))
    after = withheld(replace(before, collection=collection), {"share": "no-content", "dataset": source, "encoder": ""})
    assert after.collection.card == Card(name if kept else "withheld", title=OWNER, licence="CC0")


def test_a_shipped_card_stays() -> None:
    from workbench.datasets.cards import shipped_cards

    card = next(iter(shipped_cards().values()))
    before = listed()
    collection = replace(before.collection, card=card)
    after = withheld(replace(before, collection=collection), {"share": "no-content", "dataset": "", "encoder": ""})
    assert after.collection.card == card


def test_own_encoders_lose_unknown_facts_and_places() -> None:
    class Own:
        name = "/home/ada/acme-v3"

    about = {
        "source": "x",
        "name": "y",
        "dim": 3,
        "arch": "../acme",
        "secret": 1,
        "versions": {"torch": "2", "a/b": "c"},
    }
    parameters = {"share": "no-content", "dataset": "run:x", "encoder": ""}
    after = withheld(replace(listed(), encoder=Own(), about=about), parameters)
    assert after.encoder == NamedEncoder("(withheld)")
    assert after.about == {
        "source": "(withheld)", "name": "(withheld)", "arch": "(withheld)", "dim": 3,
        "versions": {"torch": "2", "(withheld)": "c"}, "withheld facts": 1,
    }  # fmt: skip
    Own.name = "acme v3"
    assert withheld(replace(listed(), encoder=Own(), about=about), parameters).encoder == NamedEncoder("acme v3")
    parameters = {**parameters, "encoder": "open_clip:ViT-B-32@./acme"}
    Own.name = "open_clip:ViT-B-32@acme"
    assert (
        withheld(replace(listed(), encoder=Own(), about=about), parameters).about["name"] == "open_clip:ViT-B-32@(file)"
    )


# ---------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("source", "shown", "hidden"),
    [
        ("scenes", "scenes", "scenes"),
        ("folder:/home/ada/cats", "folder:.../cats", "folder:(withheld)"),
        ("folder:/home/ada, and/cats", "folder:.../cats", "folder:(withheld)"),
        ("folder:~", "folder:...", "folder:(withheld)"),
        ("folder:~/cats/", "folder:.../cats", "folder:(withheld)"),
        ("folder:../../ada/cats", "folder:.../cats", "folder:(withheld)"),
        ("folder:data/cats", "folder:data/cats", "folder:(withheld)"),
        (r"folder:C:\Users\ada\cats", "folder:.../cats", "folder:(withheld)"),
        (r"folder:\\server\ada\cats", "folder:.../cats", "folder:(withheld)"),
        ("karpathy:/home/ada/a.json,/home/ada/b", "karpathy:.../a.json,.../b", "karpathy:(withheld)"),
        ("run:/home/ada/lists.trec", "run:.../lists.trec", "run:(withheld)"),
        ("webdataset:/home/ada/s/{000..012}.tar", "webdataset:.../{000..012}.tar", "webdataset:(withheld)"),
    ],
)
def test_data_sources_lose_their_place(source: str, shown: str, hidden: str) -> None:
    for share, expected in (("full", shown), ("no-images", shown), ("no-content", hidden)):
        once = private_parameters({"share": share, "dataset": source, "encoder": "", "run": "/x"})
        assert once == {"share": share, "dataset": expected, "encoder": "", "run": ""}
        assert private_parameters(once) == once


@pytest.mark.parametrize(
    ("source", "shown", "hidden"),
    [
        ("", "", ""),
        ("tiny-clip", "tiny-clip", "tiny-clip"),
        ("open_clip:ViT-B-32@openai", "open_clip:ViT-B-32@openai", "open_clip:ViT-B-32@openai"),
        ("open_clip:ViT-B-32@/home/ada/acme.pt", "open_clip:ViT-B-32@.../acme.pt", "open_clip:ViT-B-32@(file)"),
        ("open_clip:ViT-B-32@./acme", "open_clip:ViT-B-32@./acme", "open_clip:ViT-B-32@(file)"),
        (r"open_clip:ViT-B-32@C:\ada\acme.pt", "open_clip:ViT-B-32@.../acme.pt", "open_clip:ViT-B-32@(file)"),
        ("open_clip:local-dir:/home/ada/acme", "open_clip:local-dir:.../acme", "open_clip:local-dir:(file)"),
        ("open_clip:local-dir:acme", "open_clip:local-dir:acme", "open_clip:local-dir:(file)"),
        ("open_clip:hf-hub:org/name", "open_clip:hf-hub:org/name", "open_clip:hf-hub:org/name"),
        ("sentence-transformers:all-MiniLM", "sentence-transformers:all-MiniLM", "sentence-transformers:all-MiniLM"),
        ("sentence-transformers:/home/ada/m", "sentence-transformers:.../m", "sentence-transformers:(file)"),
        ("embeddings:vectors.npz", "embeddings:vectors.npz", "embeddings:(file)"),
        ("embeddings:vectors", "embeddings:vectors", "embeddings:(file)"),
    ],
)
def test_encoder_sources_lose_their_place(source: str, shown: str, hidden: str) -> None:
    for share, expected in (("full", shown), ("no-content", hidden)):
        once = private_parameters({"share": share, "dataset": "scenes", "encoder": source})
        assert once["encoder"] == expected
        assert private_parameters(once) == once
    assert private_encoder(private_encoder(source)) == hidden


def test_other_parameters_that_name_files_or_values() -> None:
    defaults = audit_schema().defaults
    paths = {"qrels": "/home/ada/q.txt", "metadata": "../x/m.csv", "split": "otterburn", "bank": "wrenfield"}
    mine = {**defaults, **paths, "text_template": "a photo of {}", "slices": ["language"]}
    shown = private_parameters({**mine, "share": "full"})
    assert (shown["qrels"], shown["metadata"], shown["split"]) == (".../q.txt", ".../m.csv", "otterburn")
    hidden = private_parameters({**mine, "share": "no-content"})
    assert [hidden[name] for name in paths] == ["(file)", "(file)", "(withheld)", "(withheld)"]
    assert (hidden["text_template"], hidden["slices"]) == ("a photo of {}", ["language"])
    assert audit_schema().check(hidden) == hidden
    usual = private_parameters({**defaults, "share": "no-content", "split": "val", "bank": "train"})
    assert (usual["split"], usual["bank"]) == ("val", "train")


@pytest.mark.parametrize(
    ("asked", "allowed", "message"),
    [
        ("full", "full", ""),
        ("no-content", "full", ""),
        ("no-images", "no-images", ""),
        ("full", "no-images", r"share='full' is more than the card of 'c' allows \(share='no-images'\); pass "
         r"share=no-images or share=no-content"),
        ("no-images", "no-content", r"more than the card of 'c' allows .*; pass share=no-content$"),
        ("no-content", "everything", "share='everything'; write one of full, no-images, no-content"),
    ],
)  # fmt: skip
def test_the_card_sets_the_widest_value(asked: str, allowed: str, message: str) -> None:
    parameters = {"share": asked, "keep_embeddings": False}
    if message:
        with pytest.raises(ValueError, match=message):
            check_share(parameters, Card("c", share=allowed))
    else:
        check_share(parameters, Card("c", share=allowed))


class Refusing:
    """An encoder that must not be reached."""

    name = "refusing"

    def encode_image(self, images: Any) -> np.ndarray:
        raise AssertionError("encoded before the card was asked")

    encode_text = encode_image


@pytest.mark.parametrize(
    ("share", "more", "message"),
    [
        ("full", {}, "more than the card of"),
        ("no-content", {"keep_embeddings": True}, "vectors can be turned back into captions"),
    ],
)
def test_asking_for_too_much_stops_before_any_work(
    folder: Path, tmp_path: Path, share: str, more: dict[str, Any], message: str
) -> None:
    guarded = tmp_path / "guarded"
    shutil.copytree(folder, guarded)
    (guarded / "card.json").write_text(json.dumps({"name": OWNER, "share": "no-content"}))
    with pytest.raises(ValueError, match=message):
        evaluate(
            f"folder:{guarded}", Refusing(), out=tmp_path / "runs", share=share, bad_images="record", **FAST, **more
        )
    assert not (tmp_path / "runs").exists()


def test_what_the_owner_states_is_stated(folder: Path, tmp_path: Path) -> None:
    stated = tmp_path / "stated"
    shutil.copytree(folder, stated)
    (stated / "card.json").write_text(json.dumps({"name": OWNER, "source": "own survey", "share": "no-content"}))
    run = evaluate(f"folder:{stated}", out=tmp_path / "runs", share="no-content", bad_images="record", **FAST)
    assert run.manifest["card"]["name"] == OWNER
    assert run.manifest["card"]["source"] == "own survey"
    assert found_in(run.path, needles(*CONTENT, *NEVER)) == set()
    assert load(f"folder:{stated}", on_bad="record").card.name == OWNER
    assert "image-01" in read_parquet(run.path / "layers" / "items.parquet")["id"]
