"""What a user sees who gives the command line something it cannot use: one table of inputs and exact messages.

Each case runs the command in a folder of its own and then holds the whole folder against what it was: no file is
changed, lost or half-written. Every message is read by these questions: what came, what was expected, what to try?
The table is kept for reading in ``bad_inputs.md``; after a change write it anew: ``python -m tests.test_bad_inputs``.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from workbench.cli import main
from workbench.evaluate import audit_schema
from workbench.shipped import find

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the messages hold paths with slashes")
MARKDOWN = Path(__file__).with_name("bad_inputs.md")
Make = Callable[[], None]
PARAMETERS = ", ".join(audit_schema().defaults)


def nothing() -> None:
    """No file is needed."""


@dataclass(frozen=True)
class Bad:
    """One bad input: what a person would call it, the command, and exactly what is on stderr.

    command : ``dataset=folder:photos k=3`` is short for an evaluation of these; other commands begin with their name.
    make : writes the input files into the current folder. encoder : takes the place of the one that is asked for.
    message : without the two lines of usage that come before a mistake in the command itself; PLACE is the current
    folder.
    """

    given: str
    command: str
    make: Make
    message: str
    exit: int = 2
    environment: Mapping[str, str] = field(default_factory=dict)
    encoder: Any = None

    @property
    def arguments(self) -> list[str]:
        words = self.command.split(" ")
        if "=" not in words[0]:
            return words
        return ["evaluate", "-q", *(part for word in words for part in ("-p", word))]


# How the files of a case are made.


def photos() -> None:
    """A folder of four pictures, with five captions for three of them."""
    from PIL import Image

    Path("photos").mkdir()
    for number, name in enumerate(("cat", "dog", "cow", "extra")):
        Image.new("RGB", (8, 8), (60 * number, 90, 200 - 60 * number)).save(f"photos/{name}.png")
    lines = ("image,caption", "cat.png,a cat", "cat.png,one cat", "dog.png,a dog", "dog.png,one dog", "cow.png,a cow")
    Path("photos/captions.csv").write_text("\n".join(lines) + "\n")


def file(name: str, content: str | bytes, before: Make = nothing) -> Make:
    """After ``before``, a file with this content."""

    def make() -> None:
        before()
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def drop(name: str) -> Make:
    return lambda: Path(name).unlink()


def captions(content: str | bytes) -> Make:
    """The folder of pictures with another table."""
    return file("photos/captions.csv", content, photos)


def both(*makes: Make) -> Make:
    def make() -> None:
        for one in makes:
            one()

    return make


def arrays(**changes: Any) -> dict[str, Any]:
    """Vectors of four images and five captions; a change of None leaves an array out."""
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {
        "image": rng.normal(size=(4, 3)).astype(np.float32),
        "text": rng.normal(size=(5, 3)).astype(np.float32),
        "text_image": np.array([0, 0, 1, 1, 2]),
    }
    found.update(changes)
    return {name: values for name, values in found.items() if values is not None}


def vectors(**changes: Any) -> Make:
    return lambda: np.savez("vectors.npz", **arrays(**changes))


def changed(name: str, place: Any, value: float) -> dict[str, np.ndarray]:
    """One array of the vectors with another value somewhere."""
    values = arrays()[name].copy()
    values[place] = value
    return {name: values}


def inflated() -> None:
    """Few bytes that claim to be 4 GiB of numbers: zeros, deflated."""
    with zipfile.ZipFile("vectors.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("image", "text"):
            archive.writestr(f"{name}.npy", bytes(2**20))
    data = bytearray(Path("vectors.npz").read_bytes())
    place = -1
    while (place := data.find(b"PK\x01\x02", place + 1)) >= 0:
        data[place + 24 : place + 28] = (2**31).to_bytes(4, "little")
    Path("vectors.npz").write_bytes(data)


def shortened(name: str, make: Make, keep: float = 0.5) -> Make:
    """The file that ``make`` writes, without its end."""

    def cut() -> None:
        make()
        data = Path(name).read_bytes()
        Path(name).write_bytes(data[: int(len(data) * keep)])

    return cut


RUN = "q1 Q0 d1 1 3.0 mine\nq1 Q0 d2 2 2.0 mine\nq2 Q0 d3 1 1.0 mine\n"
QRELS = "q1 0 d1 1\nq2 0 d2 1\n"


def run(content: str = RUN, qrels: str | None = None) -> Make:
    lists = file("lists.trec", content)
    return lists if qrels is None else file("qrels.txt", qrels, lists)


def beir(**changes: str | None) -> Make:
    """A BEIR folder of three documents and two queries; a change of None leaves a file out."""
    files: dict[str, str | None] = {
        "corpus": "".join(f'{{"_id": "d{n}", "title": "", "text": "about {n}"}}\n' for n in (1, 2, 3)),
        "queries": '{"_id": "q1", "text": "one"}\n{"_id": "q2", "text": "two"}\n',
        "qrels": "query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t1\n",
        **changes,
    }
    places = {"corpus": "corpus.jsonl", "queries": "queries.jsonl", "qrels": "qrels/test.tsv"}
    return both(*(file(f"beir/{places[name]}", text) for name, text in files.items() if text is not None))


def picture(side: int = 8) -> bytes:
    """A PNG of random pixels."""
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)).save(data, "PNG")
    return data.getvalue()


def huge() -> bytes:
    """The first bytes of a PNG that states 30,000 x 30,000 pixels."""
    data = bytearray(picture())
    data[16:24] = struct.pack(">II", 30_000, 30_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def picture_by_link() -> None:
    captions("image,caption\nlink.png,a cat\ndog.png,a dog\n")()
    Path("secret.png").write_bytes(picture())
    Path("photos/link.png").symlink_to("../secret.png")


def table_by_link() -> None:
    photos()
    Path("photos/captions.csv").rename("elsewhere.csv")
    Path("photos/captions.csv").symlink_to("../elsewhere.csv")


def broken_lines() -> None:
    file("photos/captions.jsonl", '{"image": "cat.png", "caption": "a cat"}\n{"image": "dog.png"\n', photos)()
    Path("photos/captions.csv").unlink()


def leaky() -> None:
    """A bank that holds a picture of the test split under another name."""
    captions("image,caption,split\ncat.png,a cat,test\ndog.png,a dog,test\ncopy.png,one cat,train\n")()
    shutil.copy("photos/cat.png", "photos/copy.png")
    for name in ("cow", "extra"):
        Path(f"photos/{name}.png").unlink()


def twice() -> None:
    """An archive with two members of one name."""
    members = [("1.png", picture()), ("1.txt", b"a cat"), ("1.txt", b"one cat")]
    with tarfile.open("shard.tar", "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def tar(name: str = "shard.tar", members: Mapping[str, bytes] | None = None) -> Make:
    """An archive of two pictures with captions, or of these members."""

    def make() -> None:
        found = members
        if found is None:
            found = {"1.png": picture(), "1.txt": b"a cat", "2.png": picture(), "2.txt": b"a dog"}
        with tarfile.open(name, "w:gz" if name.endswith("gz") else "w") as archive:
            for member, data in found.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))

    return make


def clip_retrieval(**rows: int) -> Make:
    """The three folders of clip-retrieval with so many rows each; 0 leaves a folder out."""

    def make() -> None:
        import pandas as pd

        n = {"img_emb": 3, "text_emb": 3, "metadata": 3, **rows}
        for name in ("img_emb", "text_emb"):
            if n[name]:
                Path("clip", name).mkdir(parents=True)
                np.save(f"clip/{name}/{name}_0.npy", np.ones((n[name], 2), np.float32))
        Path("clip/metadata").mkdir()
        names = [f"{row}.jpg" for row in range(n["metadata"])]
        table = pd.DataFrame({"image_path": names, "caption": [f"picture {name}" for name in names]})
        table.to_parquet("clip/metadata/metadata_0.parquet")

    return make


def model(weights: bytes | Callable[[Path], None] = b"") -> Make:
    """The pictures, and beside them the built-in model in a folder ``clip`` with other weights."""

    def make() -> None:
        photos()
        folder = Path("clip")
        folder.mkdir()
        built_in = find("data/models/tiny-clip")
        for name in ("open_clip_config.json", "bpe_merges.txt.gz"):
            shutil.copy(built_in / name, folder)
        target = folder / "open_clip_model.safetensors"
        target.write_bytes(weights) if isinstance(weights, bytes) else weights(target)

    return make


def pickled_model() -> None:
    """A model whose weights hold an object that torch would build by running code."""
    import torch

    model()()
    Path("clip/open_clip_model.safetensors").unlink()
    torch.save({"weights": Path("cat.png")}, "clip/open_clip_pytorch_model.bin")


def narrower(path: Path) -> None:
    """The weights of a model with half as many words."""
    from safetensors.numpy import load_file, save_file

    weights = load_file(find("data/models/tiny-clip") / "open_clip_model.safetensors")
    name = next(key for key in weights if key.endswith("token_embedding.weight"))
    save_file({**weights, name: weights[name][: len(weights[name]) // 2].copy()}, path)


class Sentences:
    """An encoder of texts alone."""

    name, kinds = "sentence-transformers:mine", ("text",)


def altered() -> None:
    """The built-in model with one number of its weights changed, beside the hash of the training."""
    from safetensors.numpy import load_file, save_file

    photos()
    shutil.copytree(find("data/models/tiny-clip"), "clip")
    weights = load_file("clip/open_clip_model.safetensors")
    name = next(key for key in weights if key.endswith("token_embedding.weight"))
    weights[name][0, 0] += 1
    save_file(weights, "clip/open_clip_model.safetensors")


def finished_run(**manifest: Any) -> Make:
    return file("runs/audit__x/manifest.json", json.dumps({"schema": 1, **manifest}))


def karpathy(content: str) -> Make:
    return file("split.json", content, photos)


def entry(name: str = "cat.png", **changes: Any) -> str:
    one = {"filename": name, "split": "test", "sentences": [{"raw": "a cat", "sentid": 1}], **changes}
    return json.dumps({"images": [one]})


DATA = (
    "known are: scenes, emoji, folder:PATH, karpathy:JSON,IMAGES, embeddings:PATH, run:LISTS.trec, beir:FOLDER, "
    "cranfield:FOLDER, webdataset:SHARDS, clip-retrieval:FOLDER; see `workbench list datasets`"
)
JUDGED = (
    "judgements are TREC qrels (query iter item grade), a BEIR table (query-id, corpus-id, score, tabs "
    "between), or a table .csv, .jsonl, .parquet with the columns query, item, grade"
)
TREC = "a TREC run has six per line: query Q0 item rank score tag"
FORMS = (
    "Forms: tiny-clip, open_clip:ARCH@TAG, open_clip:ARCH@./file, open_clip:local-dir:PATH, "
    "open_clip:hf-hub:ORG/NAME, sentence-transformers:NAME, sentence-transformers:./folder"
)
RECORD = "; correct the table, or use bad_images=record to list and leave them out"
REPAIR = "; repair the archive, or use bad_images=record to list and leave them out"
PICTURE = "; repair or remove it, or pass bad_images=record to leave such items out and list them"
BEIR = "beir: needs a folder with corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv"
CRAN = "cranfield: needs a folder with cran.all.1400, cran.qry and cranqrel"
CSV = "; save it as comma-separated UTF-8"
UNIQUE = "give each item its own id (results are keyed and ties are ordered by id)"


def problems(*texts: str) -> str:
    """All that is wrong with the parameters, in one message."""
    lines = "".join(f"\n  - {text}" for text in texts)
    return f"error: audit: {len(texts)} problem{'s' * (len(texts) > 1)} with its parameters{lines}"


# fmt: off
CASES: dict[str, tuple[Bad, ...]] = {
    "Commands and parameters": (
        Bad("a misspelt command", "evalute", nothing, "Error: no command 'evalute'; did you mean 'evaluate'?"),
        Bad("a study that does not exist", "studies run s06", nothing, "Error: no study of 's06'; did you mean S06?"),
        Bad("a study of a misspelt command", "studies lst", nothing, "Error: no command 'lst'; did you mean 'list'?"),
        Bad("too few seeds", "studies run S06 --seeds 1", nothing,
            "Error: Invalid value for '--seeds': 1 is not in the range x>=2."),
        Bad("an unknown report", "report adit", nothing, "error: no report is called 'adit'; there is audit, compare, "
            "hubness, integrity, reproducibility"),
        Bad("a dry run of what computes nothing", """report compare --dry-run -p runs=["a"]""", nothing,
            "Error: --dry-run tells what encoding would cost, and compare only reads finished runs"),
        Bad("a choice that is none", "evaluate --fail-on never", nothing,
            "Error: Invalid value for '--fail-on': 'never' is not one of 'look', 'problem'."),
        Bad("a misspelt parameter", "datset=scenes", nothing,
            problems("unknown parameter 'datset'; did you mean 'dataset'?")),
        Bad("a parameter like no other", "colour=red", nothing,
            problems(f"unknown parameter 'colour'; known: {PARAMETERS}")),
        Bad("a parameter twice", "k=5 k=10", nothing, problems("k is given twice; keep one")),
        Bad("a parameter without a value", "evaluate -q -p k", nothing,
            problems("'k' has no '='; write it as name=value")),
        Bad("a word for a number", "k=many", nothing, problems("k = 'many' is not a whole number such as 10")),
        Bad("a fraction for a whole number", "seed=1.5", nothing,
            problems("seed = '1.5' is not a whole number such as 10")),
        Bad("NaN for a number", "near_duplicate=nan", nothing,
            problems("near_duplicate = 'nan' is not a finite number such as 0.5")),
        Bad("a number below its range", "n_images=-1", nothing, problems("n_images = -1 is outside 0..100000000")),
        Bad("k above its range", "k=1001", nothing, problems("k = 1001 is outside 1..1000")),
        Bad("too little memory", "memory_mb=1", nothing, problems("memory_mb = 1 is outside 16..1000000")),
        Bad("yes for true", "keep_embeddings=yes", nothing, problems("keep_embeddings = 'yes' is not true or false")),
        Bad("a list without brackets", "slices=language", nothing,
            problems("slices = 'language' is not a list in JSON such as [1, 5, 10] or [\"a\", \"b\"]; single quotes "
            "around it keep the double ones: -p 'slices=[...]'")),
        Bad("a list without quotation marks", "slices=[language]", nothing,
            problems("slices = '[language]' is not a list in JSON such as [1, 5, 10] or [\"a\", \"b\"]; single "
            "quotes around it keep the double ones: -p 'slices=[...]'")),
        Bad("a list of the wrong type", "metrics=[1,5]", nothing,
            problems("metrics[0] must be str; got 1 of type int; put it in double quotes")),
        Bad("something not among the choices", "similarity=euclid", nothing,
            problems("similarity = 'euclid' is not one of: cosine, dot")),
        Bad("a list item that is not among the choices", 'scenes_languages=["en","nl"]', nothing,
            problems("scenes_languages = 'nl' is not one of: en, de, fr, es, ja")),
        Bad("an unknown repair", 'repairs=["csl"]', nothing,
            problems("repairs = 'csl' is not one of: inverted softmax, csls; did you mean 'csls'?")),
        Bad("several mistakes at once", "datset=scenes k=0 seed=many", nothing,
            problems("unknown parameter 'datset'; did you mean 'dataset'?", "k = 0 is outside 1..1000",
                     "seed = 'many' is not a whole number such as 10")),
        Bad("an unknown metric", 'metrics=["hti@1"]', nothing,
            "error: unknown metric 'hti'; did you mean 'hit'? allowed: hit, R, P, R-precision, AP, mAP@R, nDCG, "
            "MRR, RR, MedR, MeanR, mINP"),
        Bad("a metric without its cutoff", 'metrics=["hit"]', nothing, "error: hit needs a cutoff, such as hit@10"),
        Bad("a metric with a cutoff of zero", 'metrics=["hit@0"]', nothing,
            "error: the cutoff of hit must be a whole number >= 1; got 0"),
        Bad("a metric that is not spelt like one", 'metrics=["recall_at_5"]', nothing,
            "error: cannot read the metric 'recall_at_5'; expected name[(param=value,...)]@k, such as hit@10 or "
            "AP(norm=min)@50"),
        Bad("a metric with an unknown option", 'metrics=["AP(norm=max)@10"]', nothing,
            "error: unknown value of norm in AP 'max'; allowed: all, min, hits"),
        Bad("WORKBENCH_THREADS=zero", "k=5", nothing,
            "error: WORKBENCH_THREADS is 'zero'; expected a positive integer such as 2, or unset it to let the "
            "libraries choose", environment={"WORKBENCH_THREADS": "zero"}),
        Bad("a shared cache that is not there", "encode -q -p dataset=folder:photos", photos,
            "error: WORKBENCH_SHARED_CACHE is 'nowhere', which is no folder that can be read; give the folder "
            "that was WORKBENCH_CACHE when it was filled, or unset it",
            environment={"WORKBENCH_SHARED_CACHE": "nowhere"}),
        Bad("a file where the run folders should go", "evaluate -q --out taken -p k=5", file("taken", "mine"),
            "Error: Invalid value for '--out': Directory 'taken' is a file."),
        Bad("an output folder that cannot be made", "evaluate -q -p dataset=embeddings:vectors.npz --out taken/runs",
            file("taken", "mine", vectors()),
            "error: taken/runs: not a directory; check the path, its permissions and the space on the disk"),
        Bad("a folder that is there already", "notebooks mine", file("mine/reports/audit.ipynb", "{}"),
            "error: mine/reports/audit.ipynb exists; choose another folder, or move it away: nothing is "
            "overwritten"),
        Bad("a file where the cache should be, to be filled", "encode -q -p dataset=folder:photos",
            both(photos, file("taken", "mine")),
            "warning: the cache cannot be written (not a directory): 4 vectors were not kept and will be encoded "
            "again next time; make space or set WORKBENCH_CACHE to a folder that can be written\nwarning: the "
            "cache cannot be written (not a directory): 5 vectors were not kept and will be encoded again next "
            "time; make space or set WORKBENCH_CACHE to a folder that can be written",
            exit=0, environment={"WORKBENCH_CACHE": "taken"}),
    ),
    "Which data": (
        Bad("an unknown format", "dataset=flder:photos", photos,
            "error: unknown data set 'flder:photos'; did you mean 'folder'? " + DATA),
        Bad("a folder without its format", "dataset=photos", photos,
            "error: unknown data set 'photos'; did you mean 'folder:photos'? " + DATA),
        Bad("a format without a path", "dataset=folder", photos,
            "error: folder: needs a path after the colon: folder:PATH  images with captions.csv, .jsonl or "
            ".parquet (columns image, caption)"),
        Bad("a split where there are none", "dataset=embeddings:vectors.npz split=test", vectors(),
            "error: embeddings: files have no splits; got split='test'; leave it empty"),
        Bad("an unknown split of scenes", "dataset=scenes split=tset n_images=2", nothing,
            "error: split is 'tset'; expected one of train, val, test"),
        Bad("a column for slices that is not there", 'dataset=folder:photos slices=["langage"]',
            captions("image,caption,language\ncat.png,a cat,en\ndog.png,un chien,fr\n"),
            "error: slices: there is no column 'langage'; the data have language"),
        Bad("slices of data without columns", 'dataset=folder:photos slices=["language"]', photos,
            "error: slices: there is no column 'language'; the data have none; bring some with metadata=FILE"),
        Bad("the size of a gallery that is counted", "dataset=embeddings:vectors.npz gallery_size=100", vectors(),
            "error: gallery_size belongs to dataset=run:..., elsewhere the gallery is counted; got 100; leave it "
            "at 0"),
        Bad("a bank that is no split", "dataset=folder:photos bank=train",
            captions("image,caption,split\ncat.png,a cat,test\ndog.png,a dog,test\n"),
            "error: bank='train': captions.csv has no split 'train'; it has 'test' (2 rows); choose one of "
            "these; or use bank=cross-fit, which needs no second split"),
        Bad("a bank of vectors without splits", "dataset=embeddings:vectors.npz bank=train", vectors(),
            "error: bank='train': embeddings: files have no splits; got split='train'; leave it empty; or use "
            "bank=cross-fit, which needs no second split"),
        Bad("a file without its format", "dataset=vectors.npz", vectors(),
            "error: unknown data set 'vectors.npz'; did you mean 'embeddings:vectors.npz'? " + DATA),
        Bad("a bank that holds the scored images", "dataset=folder:photos split=test bank=train", leaky,
            "error: 1 images of the bank split 'train' are also in the scored split (same content), so it has "
            "seen the test. Remove them, or use bank=cross-fit"),
    ),
    "Finished runs": (
        Bad("a run to be evaluated", "evaluate -q -p run=runs/audit__x", finished_run(),
            "Error: run= belongs to `workbench report`, which draws finished runs"),
        Bad("a run and another parameter", "report audit -p run=runs/audit__x -p k=5", finished_run(),
            "Error: run= draws a finished run and takes no other parameter: they are those of the run"),
        Bad("a run that is not there", "report -q -p run=runs/audit__y", finished_run(),
            "error: runs/audit__y is no run folder (it has no manifest.json); give one that `workbench evaluate` "
            "wrote"),
        Bad("a failed run", "report -q -p run=runs/audit__x.failed", file("runs/audit__x.failed/failure.json", "{}"),
            "error: runs/audit__x.failed is no run folder (it has no manifest.json); give one that `workbench "
            "evaluate` wrote; it is that of a run that stopped: failure.json there says why"),
        Bad("a run of another version", "report -q -p run=runs/audit__x", finished_run(schema=2),
            "error: audit__x/manifest.json has schema 2, this version reads 1; draw it with the version of "
            "workbench named in its manifest.json"),
        Bad("a run whose manifest is not whole", "report -q -p run=runs/audit__x", finished_run(),
            "error: audit__x/manifest.json lacks 'parameters' or 'card', so it is not whole; evaluate again"),
        Bad("a run with a damaged manifest", "report -q -p run=runs/audit__x", file("runs/audit__x/manifest.json", "{"),
            "error: audit__x/manifest.json is damaged (Expecting property name enclosed in double quotes: line 1 "
            "column 2 (char 1)); evaluate again"),
    ),
    "Pictures and captions in a folder": (
        Bad("a folder that is not there", "dataset=folder:fotos", photos,
            "error: folder:fotos: no such folder; give a folder of images with a captions.csv in it"),
        Bad("a file instead of a folder", "dataset=folder:photos/captions.csv", photos,
            "error: folder:photos/captions.csv: no such folder; give a folder of images with a captions.csv in it"),
        Bad("no table", "dataset=folder:photos", file("photos/cat.png", ""),
            "error: folder:photos needs exactly one of captions.csv, .jsonl or .parquet; found: none"),
        Bad("two tables", "dataset=folder:photos", file("photos/captions.jsonl", "{}", photos),
            "error: folder:photos needs exactly one of captions.csv, .jsonl or .parquet; found: captions.csv, "
            "captions.jsonl"),
        Bad("an empty table", "dataset=folder:photos", captions(""),
            "error: captions.csv holds no rows; it needs the columns caption, image and one row per item"),
        Bad("a table with its header only", "dataset=folder:photos", captions("image,caption\n"),
            "error: captions.csv holds no rows; it needs the columns caption, image and one row per item"),
        Bad("a missing column", "dataset=folder:photos", captions("image,language\ncat.png,en\n"),
            "error: captions.csv needs a column 'caption'; it has ['image', 'language']; the first line must "
            "name the columns"),
        Bad("a misspelt column", "dataset=folder:photos", captions("image,captoin\ncat.png,a cat\n"),
            "error: captions.csv needs a column 'caption'; it has ['image', 'captoin']; did you mean 'captoin'? "
            "then rename it"),
        Bad("no header", "dataset=folder:photos", captions("cat.png,a cat\ndog.png,a dog\n"),
            "error: captions.csv needs a column 'caption'; it has ['cat.png', 'a cat']; the first line must name "
            "the columns"),
        Bad("a column twice", "dataset=folder:photos", captions("image,caption,caption\ncat.png,a cat,one cat\n"),
            "error: captions.csv has more than one column 'caption'; give each column its own name"),
        Bad("an empty caption", "dataset=folder:photos", captions("image,caption\ncat.png,a cat\ndog.png, \n"),
            "error: 1 captions are empty, the first has the id 'dog.png#0'; remove these rows"),
        Bad("no image named", "dataset=folder:photos", captions("image,caption\n,a cat\n"),
            "error: captions.csv: no row names an image; fill the column 'image' with the pictures' names"),
        Bad("a caption with a comma and no quotation marks", "dataset=folder:photos",
            captions("image,caption\ncat.png,a cat, asleep\n"),
            "error: captions.csv row 2 has more fields than the header ['image', 'caption']; put values that "
            "hold commas in double quotes"),
        Bad("a row that is too short", "dataset=folder:photos", captions("image,caption\ncat.png,a cat\ndog.png\n"),
            "error: captions.csv row 3 has fewer fields than the header ['image', 'caption']; a value that is "
            "missing still has its comma"),
        Bad("a quotation mark that is never closed", "dataset=folder:photos",
            captions('image,caption\ncat.png,"a cat\n'),
            "error: captions.csv cannot be read as UTF-8 CSV (unexpected end of data: a double quote opens a "
            "value and is never closed)" + CSV),
        Bad("a table in UTF-16", "dataset=folder:photos", captions("image,caption\ncat.png,a cat\n".encode("utf-16")),
            "error: captions.csv cannot be read as UTF-8 CSV (it is UTF-16)" + CSV),
        Bad("a table in Latin-1", "dataset=folder:photos",
            captions("image,caption\ncat.png,un félin\n".encode("latin-1")),
            "error: captions.csv cannot be read as UTF-8 CSV (can't decode byte 0xe9 at position 26 as UTF-8)" + CSV),
        Bad("semicolons for commas", "dataset=folder:photos", captions("image;caption\ncat.png;a cat\n"),
            "error: captions.csv cannot be read as UTF-8 CSV (its columns are separated by semicolons, not by "
            "commas)" + CSV),
        Bad("NUL bytes", "dataset=folder:photos", captions("image,caption\ncat.png,a\0cat\n"),
            "error: captions.csv cannot be read as UTF-8 CSV (it holds NUL bytes, as UTF-16 and binary files do)"
            + CSV),
        Bad("one caption_id for two captions", "dataset=folder:photos",
            captions("image,caption,caption_id\ncat.png,a cat,1\ndog.png,a dog,1\n"),
            "error: text ids must be unique, but '1' occurs 2 times; " + UNIQUE),
        Bad("an image above the folder", "dataset=folder:photos",
            both(captions("image,caption\n../secret.png,a cat\ndog.png,a dog\n"), file("secret.png", picture())),
            "error: 1 of 2 images named in the captions table are not in folder:photos; the first are "
            "['../secret.png']" + RECORD),
        Bad("an absolute path", "dataset=folder:photos", captions("image,caption\n/etc/passwd,a cat\ndog.png,a dog\n"),
            "error: 1 of 2 images named in the captions table are not in folder:photos; the first are "
            "['/etc/passwd']" + RECORD),
        Bad("a link out of the folder", "dataset=folder:photos", picture_by_link,
            "error: 1 of 2 images named in the captions table are not in folder:photos; the first are "
            "['link.png'] (links out of the folder are not followed)" + RECORD),
        Bad("a table that is a link out of the folder", "dataset=folder:photos", table_by_link,
            "error: captions.csv is a link that leads out of its folder, which is not followed; put a copy there"),
        Bad("images that are not there", "dataset=folder:photos",
            captions("image,caption\ncat.png,a cat\nbird.png,a bird\nfish.png,a fish\n"),
            "error: 2 of 3 images named in the captions table are not in folder:photos; the first are "
            "['bird.png', 'fish.png']" + RECORD),
        Bad("no image is there, all recorded", "dataset=folder:photos bad_images=record",
            captions("image,caption\nbird.png,a bird\nfish.png,a fish\n"),
            "error: none of the 2 images named in the captions table is in folder:photos; the first are "
            "['bird.png', 'fish.png']; correct the table or the folder"),
        Bad("several splits", "dataset=folder:photos",
            captions("image,caption,split\ncat.png,a cat,train\ndog.png,a dog,test\ncow.png,a cow,test\n"),
            "error: captions.csv holds several splits 'train' (1 row), 'test' (2 rows); choose one with "
            "split=NAME, or split=all for everything"),
        Bad("an unknown split", "dataset=folder:photos split=val",
            captions("image,caption,split\ncat.png,a cat,train\ndog.png,a dog,test\ncow.png,a cow,test\n"),
            "error: captions.csv has no split 'val'; it has 'train' (1 row), 'test' (2 rows); choose one of these"),
        Bad("broken JSON lines", "dataset=folder:photos", broken_lines,
            "error: captions.jsonl line 2 is not JSON: Expecting ',' delimiter at column 20; correct it there"),
        Bad("a Parquet file that is none", "dataset=folder:photos",
            both(file("photos/captions.parquet", "image,caption\n", photos), drop("photos/captions.csv")),
            "error: captions.parquet cannot be read as Parquet (Parquet magic bytes not found in footer. Either "
            "the file is corrupted or this is not a parquet file.); write it again, for example with "
            "pandas.DataFrame.to_parquet"),
        Bad("a card with a misspelt field", "dataset=folder:photos",
            file("photos/card.json", '{"name": "ours", "license": "CC0"}', photos),
            "error: card.json: unknown field 'license'; did you mean 'licence'?"),
        Bad("a card with an unknown share", "dataset=folder:photos",
            file("photos/card.json", '{"share": "none"}', photos),
            "error: card.json: 'share' must be one of full, no-images, no-content; got 'none'"),
        Bad("a cut-off picture", "dataset=folder:photos", file("photos/dog.png", picture(64)[:9000], photos),
            "error: image 'dog.png' cannot be read: dog.png: the PNG file is cut off or damaged (image file is "
            "truncated); copy or download it again" + PICTURE),
        Bad("an empty picture", "dataset=folder:photos", file("photos/dog.png", "", photos),
            "error: image 'dog.png' cannot be read: dog.png: the file is empty (0 bytes); copy or download it "
            "again" + PICTURE),
        Bad("text that is called a picture", "dataset=folder:photos",
            file("photos/dog.png", "<html>404</html>", photos),
            "error: image 'dog.png' cannot be read: dog.png: the file is text, not a picture: it begins with "
            "'<html>404</html>' and is none of the formats that are read (JPEG, PNG, WEBP, GIF, BMP, TIFF, PPM, "
            "AVIF); convert or remove it" + PICTURE),
        Bad("a picture of 900 megapixels", "dataset=folder:photos", file("photos/dog.png", huge(), photos),
            "error: image 'dog.png' cannot be read: dog.png: the picture has 30,000 x 30,000 pixels = 900.0 "
            "megapixels, the limit is 100; save it smaller, encoders see a few hundred pixels a side" + PICTURE),
        Bad("no picture can be read, all recorded", "dataset=folder:photos bad_images=record",
            both(photos, *(file(f"photos/{name}.png", "") for name in ("cat", "dog", "cow", "extra"))),
            "error: none of the 4 image items could be read; the first: cat.png: the file is empty (0 bytes); "
            "copy or download it again"),
    ),
    "Karpathy split files": (
        Bad("only one path", "dataset=karpathy:split.json", karpathy(entry()),
            "error: karpathy: needs JSON,IMAGES (the split file, a comma, the image folder); got 'split.json'"),
        Bad("a file that is not there", "dataset=karpathy:splits.json,photos", karpathy(entry()),
            "error: karpathy: splits.json does not exist; give karpathy:dataset.json,folder-of-images"),
        Bad("broken JSON", "dataset=karpathy:split.json,photos", karpathy(entry()[:-2]),
            "error: split.json is not JSON: Expecting ',' delimiter at column 99; correct it there"),
        Bad("no list of images", "dataset=karpathy:split.json,photos", karpathy('{"annotations": []}'),
            "error: split.json is no Karpathy split file: it needs a list 'images' with filename and sentences"),
        Bad("an image without sentences", "dataset=karpathy:split.json,photos", karpathy(entry(sentences=None)),
            "error: split.json is no Karpathy split file: image 0 needs a list 'sentences'"),
        Bad("no split of that name", "dataset=karpathy:split.json,photos", karpathy(entry(split="train")),
            "error: split.json has no split 'test'; it has 'train' (1 row); choose one of these"),
        Bad("an image that is not there", "dataset=karpathy:split.json,photos", karpathy(entry("bird.png")),
            "error: 1 of 1 listed images are not under photos/; the first are ['bird.png']; correct the folder, "
            "or use bad_images=record to list and leave them out"),
    ),
    "Ready-made vectors": (
        Bad("a file that is not there", "dataset=embeddings:vector.npz", vectors(),
            "error: embeddings:vector.npz: no such file; give an .npz, a .safetensors or a folder of .npy files"),
        Bad("another ending", "dataset=embeddings:vectors.csv", file("vectors.csv", "1,2"),
            "error: embeddings:vectors.csv must end in .npz or .safetensors, or be a folder of .npy files; "
            "numpy.savez writes one"),
        Bad("an encoder beside vectors", "dataset=embeddings:vectors.npz encoder=tiny-clip", vectors(),
            "error: dataset='vectors' brings its own vectors, so encoder must stay empty; got 'tiny-clip'"),
        Bad("a precision beside vectors", "dataset=embeddings:vectors.npz precision=bf16", vectors(),
            "error: precision='bf16' has no effect: no encoder runs on ready-made vectors; leave it out"),
        Bad("no vectors of texts", "dataset=embeddings:vectors.npz", vectors(text=None),
            "error: vectors.npz needs arrays 'image' and 'text'; it lacks ['text'] and has ['image', "
            "'text_image']; save both sides under these names"),
        Bad("one vector that is no table", "dataset=embeddings:vectors.npz", vectors(image=np.ones(3, np.float32)),
            "error: vectors.npz: 'image' must hold vectors of shape (n, dim) with n, dim >= 1; got (3,); save "
            "one row per item"),
        Bad("sides of different dimensions", "dataset=embeddings:vectors.npz",
            vectors(text=np.ones((5, 2), np.float32)),
            "error: vectors.npz: image vectors have 3 dimensions, text vectors 2; both sides must live in one "
            "space"),
        Bad("NaN", "dataset=embeddings:vectors.npz", vectors(**changed("image", (2, 1), np.nan)),
            "error: vectors.npz: 1 of 4 image vectors hold NaN or infinity, the first are ['image-2']; drop "
            "these items or encode them again"),
        Bad("a vector of length zero", "dataset=embeddings:vectors.npz", vectors(**changed("image", 3, 0)),
            "error: 1 of 4 vectors have length zero, NaN or infinity (first row: 3), so cosine similarity is "
            "undefined for them; drop these items or use similarity='dot'"),
        Bad("words for vectors", "dataset=embeddings:vectors.npz", vectors(image=np.array([["a", "b", "c"]] * 4)),
            "error: vectors.npz: image vectors must be real numbers; got dtype <U1"),
        Bad("Python objects", "dataset=embeddings:vectors.npz",
            vectors(caption=np.array(["a", None, "b", "c", "d"], object)),
            "error: vectors.npz: the array 'caption' cannot be read as an array (it holds Python objects, which "
            "are refused because loading them can run code; save strings as np.array(captions, dtype=str)); save "
            "it again with numpy.savez"),
        Bad("text_image beyond the images", "dataset=embeddings:vectors.npz",
            vectors(text_image=np.array([0, 0, 1, 1, 4])),
            "error: vectors.npz: text_image must lie in 0..3 (-1: no image); got 0..4"),
        Bad("text_image counted in fractions", "dataset=embeddings:vectors.npz",
            vectors(text_image=np.array([0, 0, 1, 1, 2.0])),
            "error: vectors.npz: text_image must be 5 integers; got shape (5,) of float64"),
        Bad("text_image that is too short", "dataset=embeddings:vectors.npz",
            vectors(text_image=np.array([0, 0, 1, 1])),
            "error: vectors.npz: text_image must be 5 integers; got shape (4,) of int64"),
        Bad("an id twice", "dataset=embeddings:vectors.npz", vectors(image_id=np.array(["a", "b", "a", "c"])),
            "error: vectors.npz: image ids must be unique, but 'a' occurs 2 times; " + UNIQUE),
        Bad("too few captions", "dataset=embeddings:vectors.npz", vectors(caption=np.array(["a cat"])),
            "error: caption must hold one value for each of the 5 text vectors; got shape (1,)"),
        Bad("an array that fits neither side", "dataset=embeddings:vectors.npz",
            vectors(language=np.array(["en", "fr"])),
            "error: vectors.npz: array 'language' of shape (2,) fits neither 4 images nor 5 texts; give it one "
            "value per item, or remove it"),
        Bad("a cut-off archive", "dataset=embeddings:vectors.npz", shortened("vectors.npz", vectors()),
            "error: vectors.npz cannot be read as an .npz archive (File is not a zip file); save it again with "
            "numpy.savez"),
        Bad("no archive at all", "dataset=embeddings:vectors.npz", file("vectors.npz", "not a zip"),
            "error: vectors.npz cannot be read as an .npz archive (File is not a zip file); save it again with "
            "numpy.savez"),
        Bad("an archive that unfolds into gigabytes", "dataset=embeddings:vectors.npz", inflated,
            "error: vectors.npz has 2,274 bytes but unfolds into 4,294,967,296; more than 2,147,483,648 bytes "
            "and 20 times the file are refused, because so much may not fit into memory; save the arrays "
            "uncompressed (numpy.savez) to read them all the same"),
        Bad("garbage for safetensors", "dataset=embeddings:vectors.safetensors",
            file("vectors.safetensors", "garbage!" * 20),
            "error: vectors.safetensors cannot be read as safetensors (Error while deserializing header: header "
            "too large); save it again with safetensors.numpy.save_file"),
        Bad("a folder without arrays", "dataset=embeddings:photos", photos,
            "error: photos needs arrays 'image' and 'text'; it lacks ['image', 'text'] and has []; save both "
            "sides under these names"),
    ),
    "Judgements": (
        Bad("a file that is not there", "dataset=embeddings:vectors.npz qrels=qrel.txt",
            file("qrels.txt", "text-0 0 image-0 1\n", vectors()),
            "error: qrel.txt does not exist; give the path of a file"),
        Bad("unknown queries", "dataset=embeddings:vectors.npz qrels=qrels.txt",
            file("qrels.txt", "q1 0 image-0 1\n", vectors()),
            "error: 1 of 1 queries in qrels.txt are not in 'vectors', the first are ['q1']; the text ids look "
            "like ['text-0', 'text-1', 'text-2']"),
        Bad("unknown items", "dataset=embeddings:vectors.npz qrels=qrels.txt",
            file("qrels.txt", "text-0 0 picture-7 1\n", vectors()),
            "error: 1 of 1 items in qrels.txt are not in 'vectors', the first are ['picture-7']; the image ids "
            "look like ['image-0', 'image-1', 'image-2']"),
        Bad("queries and items exchanged", "dataset=embeddings:vectors.npz qrels=qrels.txt",
            file("qrels.txt", "image-0 0 text-0 1\nimage-1 0 text-1 1\n", vectors()),
            "error: 2 of 2 queries in qrels.txt are not in 'vectors', the first are ['image-0', 'image-1']; the "
            "text ids look like ['text-0', 'text-1', 'text-2']; queries and items are exchanged in the file: "
            "swap the two columns"),
        Bad("a line that is too short", "dataset=embeddings:vectors.npz qrels=qrels.txt",
            file("qrels.txt", "text-0 0 image-0 1\ntext-1 image-1 1\n", vectors()),
            "error: qrels.txt line 2 has 3 fields; TREC qrels have four: query iter item grade; put a 0 in the "
            "second place (" + JUDGED + ")"),
        Bad("a grade that is no number", "dataset=embeddings:vectors.npz qrels=qrels.txt",
            file("qrels.txt", "text-0 0 image-0 yes\n", vectors()),
            "error: qrels.txt line 1: the grade is 'yes', which is no finite number; 0 and below is not "
            "relevant, above 0 is"),
        Bad("one pair with two grades", "dataset=embeddings:vectors.npz qrels=qrels.txt",
            file("qrels.txt", "text-0 0 image-0 1\ntext-0 0 image-0 2\n", vectors()),
            "error: qrels.txt line 2: query 'text-0' and item 'image-0' are judged twice, as 1 and as 2; keep "
            "one of the two"),
        Bad("an empty file", "dataset=embeddings:vectors.npz qrels=qrels.txt", file("qrels.txt", "", vectors()),
            "error: qrels.txt holds no judgement; " + JUDGED),
        Bad("a run for judgements", "dataset=embeddings:vectors.npz qrels=qrels.txt", file("qrels.txt", RUN, vectors()),
            "error: qrels.txt line 1 has 6 fields; six are a ranked list (query Q0 item rank score tag), which "
            "belongs into dataset=run:FILE"),
        Bad("a damaged gzip file", "dataset=embeddings:vectors.npz qrels=qrels.gz",
            file("qrels.gz", gzip.compress(b"text-0 0 image-0 1\n" * 9)[:-12], vectors()),
            "error: qrels.gz cannot be unpacked after line 0 (Compressed file ended before the end-of-stream "
            "marker was reached); copy it again"),
        Bad("a table without grades", "dataset=embeddings:vectors.npz qrels=qrels.csv",
            file("qrels.csv", "query,item\ntext-0,image-0\n", vectors()),
            "error: qrels.csv needs a column 'grade'; it has ['query', 'item']; the first line must name the "
            "columns"),
    ),
    "Ranked lists": (
        Bad("a file that is not there", "dataset=run:list.trec", run(),
            "error: list.trec does not exist; give the path of a file"),
        Bad("an encoder for lists", "dataset=run:lists.trec encoder=tiny-clip", run(),
            "error: dataset='run lists' brings its own ranked lists, so encoder must stay empty; got 'tiny-clip'"),
        Bad("judgements for lists", "dataset=run:lists.trec", run(QRELS),
            "error: lists.trec line 1 has 4 fields; " + TREC
            + "; four are judgements (query iter item grade), which belong into qrels=FILE"),
        Bad("a score of NaN", "dataset=run:lists.trec", run(RUN.replace("2.0", "nan")),
            "error: lists.trec line 2: the score is 'nan', which is no finite number; the fourth field is a "
            "whole number, the fifth a finite one (" + TREC + ")"),
        Bad("a rank that is no number", "dataset=run:lists.trec", run(RUN.replace(" 2 2.0", " second 2.0")),
            "error: lists.trec line 2: the rank is 'second', which is no whole number; the fourth field is a "
            "whole number, the fifth a finite one (" + TREC + ")"),
        Bad("a line that is too short", "dataset=run:lists.trec", run(RUN + "q2 Q0 d1 2 0.5\n"),
            "error: lists.trec line 4 has 5 fields; " + TREC),
        Bad("an id with a blank", "dataset=run:lists.trec", run(RUN + "q2 Q0 d 1 2 0.5 mine\n"),
            "error: lists.trec line 4 has 7 fields; " + TREC + "; write a blank inside an id or tag as %20"),
        Bad("the lists of two systems", "dataset=run:lists.trec", run(RUN + "q2 Q0 d1 2 0.5 theirs\n"),
            "error: lists.trec line 4 has the tag 'theirs' after 'mine'; give each system its own file"),
        Bad("an empty file", "dataset=run:lists.trec", run(""), "error: lists.trec holds no results; " + TREC),
        Bad("judgements of other queries", "dataset=run:lists.trec qrels=qrels.txt", run(qrels="101 0 d1 1\n"),
            "error: none of the 2 queries in lists.trec is judged in qrels.txt: the run has ['q1', 'q2'], the "
            "judgements ['101']"),
        Bad("a gallery that is too small", "dataset=run:lists.trec gallery_size=2", run(),
            "error: gallery_size=2, but the lists and judgements name 3 different items; give the number of "
            "items that the system searches, or 0 when it is not known"),
        Bad("the first n images of lists", "dataset=run:lists.trec n_images=2", run(),
            "error: n_images cannot shorten ranked lists; cut the lists themselves, or leave it at 0"),
        Bad("a split of lists", "dataset=run:lists.trec split=test", run(),
            "error: run: files have no splits; got split='test'; leave it empty"),
    ),
    "Collections of documents": (
        Bad("BEIR: a folder that is not there", "dataset=beir:bier", beir(),
            "error: bier/corpus.jsonl is missing (found: no such folder); " + BEIR),
        Bad("BEIR: no corpus", "dataset=beir:beir", beir(corpus=None),
            "error: beir/corpus.jsonl is missing (found: ['qrels', 'queries.jsonl']); " + BEIR),
        Bad("BEIR: a broken line", "dataset=beir:beir",
            beir(corpus='{"_id": "d1", "text": "one"}\n{"_id": "d2", text}\n'),
            "error: corpus.jsonl line 2 is not JSON: Expecting property name enclosed in double quotes at column "
            "15; correct it there"),
        Bad("BEIR: no texts", "dataset=beir:beir", beir(queries='{"_id": "q1", "question": "one"}\n'),
            "error: queries.jsonl needs a column 'text'; it has ['_id', 'question']; add it"),
        Bad("BEIR: a query without words", "dataset=beir:beir",
            beir(queries='{"_id": "q1", "text": " "}\n{"_id": "q2", "text": "two"}\n'),
            "error: 1 queries have no text, the first are ['q1']; remove them"),
        Bad("BEIR: an id twice", "dataset=beir:beir",
            beir(corpus='{"_id": "d1", "text": "one"}\n{"_id": "d1", "text": "two"}\n'),
            "error: document ids must be unique, but 'd1' occurs 2 times; " + UNIQUE),
        Bad("BEIR: an unknown split", "dataset=beir:beir split=dev", beir(),
            "error: beir/qrels has no split 'dev' but ['test']; choose one with split=NAME"),
        Bad("BEIR: judgements of unknown documents", "dataset=beir:beir",
            beir(qrels="query-id\tcorpus-id\tscore\nq1\td9\t1\n"),
            "error: 1 of 1 items in test.tsv are not in 'beir beir', the first are ['d9']; the document ids look "
            "like ['d1', 'd2', 'd3']"),
        Bad("Cranfield: a folder that is not there", "dataset=cranfield:cran", nothing,
            "error: cran is no folder; " + CRAN),
        Bad("Cranfield: no queries", "dataset=cranfield:cran", file("cran/cran.all.1400", ".I 1\n.W\nwings\n"),
            "error: cran must hold one file *.qry; found none; " + CRAN),
        Bad("Cranfield: a file of another kind", "dataset=cranfield:cran",
            both(file("cran/cran.all.1400", "wings\n"), file("cran/cran.qry", ".I 1\n.W\nwhy?\n")),
            "error: cran.all.1400 line 1 stands before the first .I; a SMART file opens with '.I 1'"),
    ),
    "Archives and clip-retrieval": (
        Bad("a compressed archive", "dataset=webdataset:shard.tar.gz", tar("shard.tar.gz"),
            "error: webdataset: shard.tar.gz is compressed with gzip, so its pictures cannot be read where they "
            "lie; decompress it to a plain .tar"),
        Bad("an archive that is not there", "dataset=webdataset:shards/{0..2}.tar", tar(),
            "error: shards/0.tar does not exist; give the path of a file"),
        Bad("a folder without archives", "dataset=webdataset:photos", photos,
            "error: webdataset:photos holds no .tar file; give a folder of shards"),
        Bad("an address", "dataset=webdataset:https://example.org/shard.tar", nothing,
            "error: webdataset:https://example.org/shard.tar is not a local path; download the shards first"),
        Bad("a member that leads out of the archive", "dataset=webdataset:shard.tar",
            tar(members={"../1.png": picture(), "2.png": picture(), "2.txt": b"a dog"}),
            "error: webdataset: 1 items cannot be read, the first is 'shard/../1': 1.png: its name leads out of "
            "the archive" + REPAIR),
        Bad("a cut-off archive", "dataset=webdataset:shard.tar",
            shortened("shard.tar", tar(members={"1.png": picture(), "1.txt": b"a cat" * 900}), 0.3),
            "error: webdataset: 1 items cannot be read, the first is 'shard/1': 1.txt: the archive ends inside "
            "it; copy it again" + REPAIR),
        Bad("an archive without pictures", "dataset=webdataset:shard.tar", tar(members={"1.mp3": b"", "2.mp3": b""}),
            "error: webdataset: no picture in 1 archives (members with other endings (2 x .mp3)); expected "
            "members KEY.jpg, .png or .webp with KEY.txt or KEY.json"),
        Bad("pictures without captions", "dataset=webdataset:shard.tar", tar(members={"1.png": picture()}),
            "error: webdataset: none of the 1 pictures has a caption; add KEY.txt or KEY.json"),
        Bad("a caption without a picture", "dataset=webdataset:shard.tar",
            tar(members={"1.png": picture(), "1.txt": b"a cat", "2.txt": b"a dog"}),
            "error: webdataset: 1 items cannot be read, the first is 'shard/2': there is no picture with its key"
            + REPAIR),
        Bad("a key twice", "dataset=webdataset:shard.tar", twice,
            "error: webdataset: 1 items cannot be read, the first is 'shard/1': 1.txt: its .txt occurs twice" + REPAIR),
        Bad("one shard twice", "dataset=webdataset:a/shard.tar,b/shard.tar",
            both(file("a/x", ""), file("b/x", ""), tar("a/shard.tar"), tar("b/shard.tar")),
            "error: webdataset: the key 'shard/1' is in a/shard.tar and in b/shard.tar; rename one of the two "
            "archives"),
        Bad("clip-retrieval: no vectors of texts", "dataset=clip-retrieval:clip", clip_retrieval(text_emb=0),
            "error: clip-retrieval:clip needs the folders img_emb, text_emb, metadata; it lacks text_emb (run "
            "the inference with --enable_text=True, or bring the texts' vectors as embeddings:); found: "
            "['img_emb', 'metadata']"),
        Bad("clip-retrieval: numbers of rows differ", "dataset=clip-retrieval:clip", clip_retrieval(metadata=4),
            "error: clip-retrieval: img_emb_0.npy has shape (3, 2) but metadata_0 has 4 rows; expected one "
            "vector per row; run the inference of this partition again"),
    ),
    "Columns from a table": (
        Bad("a table that is not there", "dataset=embeddings:vectors.npz metadata=column.csv", vectors(),
            "error: column.csv does not exist; give the path of a file"),
        Bad("another ending", "dataset=embeddings:vectors.npz metadata=columns.xlsx",
            file("columns.xlsx", "", vectors()),
            "error: columns.xlsx: a table must end in .csv, .jsonl, .parquet; got '.xlsx'"),
        Bad("no ids", "dataset=embeddings:vectors.npz metadata=columns.csv",
            file("columns.csv", "name,language\ntext-0,en\n", vectors()),
            "error: columns.csv needs a column 'id'; it has ['name', 'language']; the first line must name the "
            "columns"),
        Bad("an id twice", "dataset=embeddings:vectors.npz metadata=columns.csv",
            file("columns.csv", "id,language\ntext-0,en\ntext-0,fr\n", vectors()),
            "error: columns.csv has two rows with the id 'text-0'; give each query or item one row"),
        Bad("ids of other data", "dataset=embeddings:vectors.npz metadata=columns.csv",
            file("columns.csv", "id,language\ncaption-1,en\n", vectors()),
            "error: columns.csv: 1 of 1 ids are in neither side of the data, the first are ['caption-1']; ids "
            "there look like image: 'image-0', text: 'text-0'"),
        Bad("a column that is there already", "dataset=embeddings:vectors.npz metadata=columns.csv",
            file("columns.csv", "id,language\ntext-0,en\n", vectors(language=np.array(["en"] * 5))),
            "error: columns.csv: the column 'language' of the text side exists already; rename it"),
    ),
    "Encoders": (
        Bad("an unknown name", "dataset=folder:photos encoder=tiny-clop", photos,
            "error: unknown encoder 'tiny-clop': did you mean 'tiny-clip'? " + FORMS),
        Bad("the built-in model with something behind it", "dataset=folder:photos encoder=tiny-clip:large", photos,
            "error: 'tiny-clip' takes nothing after it; got 'tiny-clip:large'"),
        Bad("open_clip without weights", "dataset=folder:photos encoder=open_clip:RN50x64", photos,
            "error: open_clip:RN50x64 names no weights; write open_clip:ARCH@TAG or open_clip:ARCH@./file; "
            "weights for it: openai"),
        Bad("a misspelt architecture", "dataset=folder:photos encoder=open_clip:ViT-B32@openai", photos,
            "error: open_clip has no architecture 'ViT-B32': did you mean 'ViT-B-32'?"),
        Bad("a misspelt tag", "dataset=folder:photos encoder=open_clip:RN50x64@opanai", photos,
            "error: open_clip has no weights 'opanai' for RN50x64: did you mean 'openai'? All: openai"),
        Bad("a precision that is none", "dataset=folder:photos precision=fp8", photos,
            problems("precision = 'fp8' is not one of: fp32, bf16, fp16")),
        Bad("sentence-transformers for pictures", "dataset=folder:photos encoder=mine", photos,
            "error: sentence-transformers:mine reads text only, but the image side of 'folder photos' holds "
            "images; choose an encoder for both, such as open_clip:ARCH@TAG", encoder=Sentences()),
        Bad("a hub name without its owner", "dataset=folder:photos encoder=open_clip:hf-hub:siglip", photos,
            "error: a hub source is open_clip:hf-hub:ORG/NAME; got 'siglip'"),
        Bad("a file that is not there", "dataset=folder:photos encoder=open_clip:ViT-B-32@./weights.pt", photos,
            "error: no checkpoint file at PLACE/weights.pt; the path after '@' is relative to the current folder"),
        Bad("a folder that is not there", "dataset=folder:photos encoder=open_clip:local-dir:klip", photos,
            "error: no folder PLACE/klip; relative paths are relative to the current folder"),
        Bad("a folder without a configuration", "dataset=folder:photos encoder=open_clip:local-dir:photos", photos,
            "error: PLACE/photos has no open_clip_config.json; a local model needs it beside "
            "open_clip_model.safetensors"),
        Bad("a folder without weights", "dataset=folder:photos encoder=open_clip:local-dir:clip",
            both(model(b"x"), drop("clip/open_clip_model.safetensors")),
            "error: no weights in PLACE/clip; expected open_clip_model.safetensors (or one of "
            "open_clip_pytorch_model.safetensors, open_clip_pytorch_model.bin, open_clip_pytorch_model.pth, "
            "model.safetensors, pytorch_model.bin, pytorch_model.pth, model.pth)"),
        Bad("a configuration that is no JSON", "dataset=folder:photos encoder=open_clip:local-dir:clip",
            both(model(b"x"), drop("clip/open_clip_config.json"), file("clip/open_clip_config.json", "{")),
            "error: open_clip_config.json in PLACE/clip cannot be read as JSON (Expecting property name enclosed "
            "in double quotes: line 1 column 2 (char 1)); copy it again"),
        Bad("weights of zero bytes", "dataset=folder:photos encoder=open_clip:local-dir:clip", model(b""),
            "error: open_clip:local-dir:clip cannot be loaded: open_clip_model.safetensors holds no weights: it "
            "is empty (0 bytes); copy or download it again"),
        Bad("a git-lfs pointer", "dataset=folder:photos encoder=open_clip:local-dir:clip",
            model(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 605157884\n"),
            "error: open_clip:local-dir:clip cannot be loaded: open_clip_model.safetensors holds no weights: "
            "this is a git-lfs pointer; fetch the real file with git lfs pull"),
        Bad("a web page for weights", "dataset=folder:photos encoder=open_clip:local-dir:clip",
            model(b"<!DOCTYPE html><html><body>Sign in</body></html>"),
            "error: open_clip:local-dir:clip cannot be loaded: open_clip_model.safetensors holds no weights: "
            "this is a web page; the download needs another address or a login"),
        Bad("a folder whose weights were changed", "dataset=folder:photos encoder=open_clip:local-dir:clip", altered,
            "error: open_clip:local-dir:clip: the weights hash to 57fa9275f6e20f9a..., but training.json states "
            "a8a13a67e61c2700...; they were changed or damaged, so copy the folder again"),
        Bad("a text file for weights", "dataset=folder:photos encoder=open_clip:local-dir:clip",
            model(b"weights will follow"),
            "error: open_clip:local-dir:clip cannot be loaded: open_clip_model.safetensors holds no weights: "
            "this is text, beginning 'weights will follow'; a safetensors or torch file is needed"),
        Bad("a pickle of Python objects", "dataset=folder:photos encoder=open_clip:local-dir:clip", pickled_model,
            "error: open_clip:local-dir:clip cannot be loaded: open_clip_pytorch_model.bin holds Python objects "
            "(pathlib.PosixPath), which would run code when read; load it where it is trusted and save only the "
            "state_dict, or convert it to safetensors"),
        Bad("cut-off weights", "dataset=folder:photos encoder=open_clip:local-dir:clip",
            shortened("clip/open_clip_model.safetensors", model(narrower)),
            "error: open_clip:local-dir:clip cannot be loaded: open_clip_model.safetensors (3,756,850 bytes) is "
            "cut short or damaged: Error while deserializing header: incomplete metadata, file not fully "
            "covered; copy or download it again"),
        Bad("weights of another architecture", "dataset=folder:photos encoder=open_clip:local-dir:clip",
            model(narrower),
            "error: open_clip:local-dir:clip: only 152 of 153 tensors of the model match "
            "open_clip_model.safetensors: 1 of another kind (token_embedding.weight is (698, 128) in the weights "
            "but (1396, 128) by the configuration). The weights are of another architecture, or incomplete"),
        Bad("a text_template without a place for the text", "dataset=folder:photos text_template=photo", photos,
            "error: text_template must hold {} exactly once, where the text goes; got 'photo' with 0 of them; "
            "write for example 'a photo of {}', or leave it empty"),
        Bad("a text_template with two places", "dataset=folder:photos text_template={}and{}", photos,
            "error: text_template must hold {} exactly once, where the text goes; got '{}and{}' with 2 of them; "
            "write for example 'a photo of {}', or leave it empty"),
        Bad("sentence-transformers without a name", "dataset=folder:photos encoder=sentence-transformers:", photos,
            "error: sentence-transformers: needs a name or a folder, such as sentence-transformers:./my-model"),
        Bad("sentence-transformers: no such folder", "dataset=folder:photos encoder=sentence-transformers:./mine",
            photos,
            "error: no folder PLACE/mine; relative paths are relative to the current folder"),
        Bad("sentence-transformers: another folder", "dataset=folder:photos encoder=sentence-transformers:./photos",
            photos,
            "error: sentence-transformers:photos has no modules.json, so its pooling would be a guess; save it "
            "with SentenceTransformer.save"),
    ),
    "What may be shown": (
        Bad("more than the card allows", "dataset=folder:photos",
            file("photos/card.json", '{"name": "ours", "share": "no-images"}', photos),
            "error: share='full' is more than the card of 'ours' allows (share='no-images'); pass "
            "share=no-images or share=no-content"),
        Bad("pictures where the card allows numbers only", "dataset=folder:photos share=no-images",
            file("photos/card.json", '{"name": "ours", "share": "no-content"}', photos),
            "error: share='no-images' is more than the card of 'ours' allows (share='no-content'); pass "
            "share=no-content"),
        Bad("vectors, but no content", "dataset=embeddings:vectors.npz share=no-content keep_embeddings=true",
            vectors(),
            "error: keep_embeddings=true with share=no-content: vectors can be turned back into captions; drop "
            "one of the two"),
        Bad("a misspelt share", "dataset=embeddings:vectors.npz share=no-contents", vectors(),
            problems("share = 'no-contents' is not one of: full, no-images, no-content; did you mean "
            "'no-content'?")),
    ),
}
# fmt: on


def everything(root: Path) -> dict[str, Any]:
    """What is below a folder, with the time of every change: of files the bytes, of links where they point."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
        found[str(path.relative_to(root))] = content, path.lstat().st_mtime_ns
    return found


def said(text: str, root: Path) -> str:
    """stderr without the lines of usage, and without the place of this test on this machine."""
    text = text[text.index("Error: ") :] if text.startswith("Usage: ") else text
    return text.replace(str(root.resolve()), "PLACE")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{group}: {case.given}") for group, cases in CASES.items() for case in cases]
)
def test_bad_input_gets_its_message_and_changes_nothing(
    case: Bad, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.make()
    for name, value in case.environment.items():
        monkeypatch.setenv(name, value)
    if case.encoder is not None:
        monkeypatch.setattr("workbench.encoders.load", lambda source, **how: case.encoder)
    before = everything(place)
    done = CliRunner().invoke(main, case.arguments, prog_name="workbench")
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    assert said(done.stderr, place) == case.message + "\n"
    assert done.exit_code == case.exit
    assert everything(place) == before
    assert not list(Path(os.environ["WORKBENCH_CACHE"]).rglob("*.tmp"))
    assert bool(done.stdout) == (case.exit == 0)


def test_what_stops_half_way_is_kept_and_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos()
    vectors()()
    before = everything(place)
    monkeypatch.setattr("workbench.evaluate.write_run", lambda *_, **__: {}["lists"])
    done = CliRunner().invoke(main, ["evaluate", "-q", "-p", "dataset=embeddings:vectors.npz"])
    (kept,) = Path("runs").iterdir()
    assert done.exit_code == 1
    assert done.stderr == f"failed: stopped while writing: KeyError: 'lists'\nwhat there was is kept in {kept}\n"
    assert kept.name.endswith(".failed")
    assert [path.name for path in kept.iterdir()] == ["failure.json"]
    failure = json.loads((kept / "failure.json").read_bytes())
    assert failure == {"schema": 1, "stage": "writing", "error": "KeyError: 'lists'"}
    after = everything(place)
    assert {name: after[name] for name in before} == before


def test_the_table_is_large_and_its_messages_are_ours() -> None:
    cases = [case for group in CASES.values() for case in group]
    assert len(cases) >= 60
    assert all(len({case.given for case in group}) == len(group) for group in CASES.values())
    for case in cases:
        assert re.match(r"(error|Error|warning): ", case.message), case.given
        assert not re.search(r"Traceback|Errno|<class|object at 0x|NoneType|/tmp/|/home/", case.message), case.given


def markdown() -> str:
    """The table for reading."""
    lines = [
        "# Bad inputs and what a user sees",
        "",
        f"{sum(map(len, CASES.values()))} inputs that the command line cannot use, each of them a test: the message",
        "is exactly this one, the exit code is this one, and no file in the folder was changed, lost, or left",
        "half-written. `name=value` stands for `workbench evaluate -p name=value`, PLACE for the current folder.",
        "Exit code 2: what was given cannot be used, and nothing was begun. 0: the work goes on, with a warning.",
        "(1, which has no row here: the work stopped half-way, and what there is of it is kept in `NAME.failed`.)",
        "",
        "Made from the table in `test_bad_inputs.py` by `python -m tests.test_bad_inputs`; do not edit.",
    ]
    for group, cases in CASES.items():
        lines += ["", f"## {group}", "", "| What was given | Exit | Message |", "|---|---|---|"]
        lines += [f"| {_given(case)} | {case.exit} | {_shown(case.message)} |" for case in cases]
    return "\n".join(lines) + "\n"


def _given(case: Bad) -> str:
    settings = "".join(f"{name}={value} " for name, value in case.environment.items())
    start = "" if "=" in case.command.split(" ")[0] else "workbench "
    return f"{case.given}<br>{_shown(settings + start + case.command)}"


def _shown(text: str) -> str:
    """Text as code, also with backticks, bars and several lines in it."""
    quoted = (line.strip().replace("|", "\\|") for line in text.split("\n"))
    return "<br>".join(f"`` {line} ``" if "`" in line else f"`{line}`" for line in quoted)


def test_the_markdown_is_that_of_the_table() -> None:
    assert MARKDOWN.read_text(encoding="utf-8") == markdown(), "run `python -m tests.test_bad_inputs`"


if __name__ == "__main__":
    MARKDOWN.write_text(markdown(), encoding="utf-8")
