"""``clip-retrieval:FOLDER``: vectors and metadata in the folders that clip-retrieval's inference writes."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from workbench.datasets.arrays import read_npy
from workbench.datasets.cards import card_of
from workbench.datasets.collection import Collection, Side
from workbench.datasets.embeddings import checked_embeddings, zero_vectors
from workbench.datasets.tables import metadata_columns, read_rows
from workbench.types import Relevance

PARTS = {"img_emb": ("img_emb_", ".npy"), "text_emb": ("text_emb_", ".npy"), "metadata": ("metadata_", ".parquet")}
NAMES = ("image_path", "key", "url")


def load_clip_retrieval(path: Path) -> Collection:
    """A collection from ``img_emb/img_emb_0.npy``, ``text_emb/text_emb_0.npy``, ``metadata/metadata_0.parquet``, ...

    Row i of the image vectors, of the text vectors and of the metadata belong together; the partitions 0, 1, 2, ... are
    joined in the order of their numbers. Images are named by ``image_path`` (below the folder that all of them share,
    so that no name of a home folder gets in), else ``key``, else ``url``, else by their row. Rows with the same image
    are captions of one image, whose vectors must then be equal. Rows with an empty caption have no text. One partition
    is memory-mapped; float16 becomes float32.
    Errors: a missing folder, partition numbers or row counts that differ, equal images with unequal vectors.
    """
    parts = {name: _partitions(path, name) for name in PARTS}
    numbers = {name: sorted(files) for name, files in parts.items()}
    if len({tuple(found) for found in numbers.values()}) != 1:
        shown = ", ".join(f"{name} has {found[:10]}" for name, found in numbers.items())
        raise ValueError(f"clip-retrieval: the partitions differ: {shown}; every folder needs the same numbers")
    rows: list[dict[str, Any]] = []
    vectors: dict[str, list[np.ndarray]] = {"img_emb": [], "text_emb": []}
    for number in numbers["metadata"]:
        arrays = {name: read_npy(parts[name][number]) for name in vectors}
        table = read_rows(parts["metadata"][number])
        for name, array in arrays.items():
            if array.ndim != 2 or len(array) != len(table):
                raise ValueError(
                    f"clip-retrieval: {parts[name][number].name} has shape {array.shape} but metadata_{number} has "
                    f"{len(table)} rows; expected one vector per row; run the inference of this partition again"
                )
            vectors[name].append(array)
        rows += table
    if not rows:
        raise ValueError(f"clip-retrieval: the metadata in {path.name} hold no rows; run the inference again")
    return _collection(path, rows, _joined(vectors["img_emb"], "img_emb"), _joined(vectors["text_emb"], "text_emb"))


def _partitions(path: Path, name: str) -> dict[int, Path]:
    """Partition number -> file."""
    start, ending = PARTS[name]
    if not os.path.isdir(path / name):
        needs = {"text_emb": " (run the inference with --enable_text=True, or bring the texts' vectors as embeddings:)"}
        there = sorted(child.name for child in path.iterdir())[:10] if os.path.isdir(path) else "no such folder"
        raise FileNotFoundError(
            f"clip-retrieval:{path} needs the folders {', '.join(PARTS)}; it lacks {name}{needs.get(name, '')}; "
            f"found: {there}"
        )
    pattern = re.compile(re.escape(start) + r"(\d{1,9})" + re.escape(ending))
    found = [(match, file) for file in sorted((path / name).iterdir()) if (match := pattern.fullmatch(file.name))]
    files = {int(match[1]): file for match, file in found}
    if not files or len(files) != len(found):
        what = "two files of one number" if files else f"no file {start}0{ending}"
        raise ValueError(f"clip-retrieval: {name} holds {what}; expected {start}0{ending}, {start}1{ending}, ...")
    return files


def _joined(parts: Sequence[np.ndarray], name: str) -> np.ndarray:
    """The partitions below each other; a single one stays memory-mapped."""
    shapes = {part.shape[1] for part in parts}
    kinds = {part.dtype.kind for part in parts}
    if len(shapes) != 1 or not kinds <= set("fiu"):
        raise ValueError(
            f"clip-retrieval: the partitions of {name} have {sorted(shapes)} dimensions and types "
            f"{sorted({str(part.dtype) for part in parts})}; expected one width and real numbers"
        )
    if len(parts) == 1:
        return parts[0]
    dtype = np.result_type(np.float32, *parts)
    joined = np.empty((sum(map(len, parts)), shapes.pop()), dtype)
    end = 0
    for part in parts:
        joined[end : end + len(part)] = part
        end += len(part)
    return joined


def _collection(path: Path, rows: list[dict[str, Any]], images: np.ndarray, texts: np.ndarray) -> Collection:
    names, notes = _names(rows)
    first: dict[str, int] = {}
    owner = np.array([first.setdefault(name, row) for row, name in enumerate(names)])
    _check_equal(images, owner, names)
    kept = np.unique(owner)
    text_rows = [row for row, one in enumerate(rows) if "caption" not in one or str(one["caption"] or "").strip()]
    if not text_rows:
        raise ValueError("clip-retrieval: every caption in the metadata is empty; run the inference with captions")
    if len(text_rows) < len(rows):
        notes += (f"{len(rows) - len(text_rows)} rows have no caption; their text vectors are left out",)
    text_image = np.searchsorted(kept, owner[text_rows])
    used = (*NAMES[:1], "caption")
    image_ids, text_ids = tuple(names[row] for row in kept), _text_ids(names, text_rows)
    embeddings = {
        "image": checked_embeddings(images if len(kept) == len(rows) else images[kept], image_ids, "image", "img_emb"),
        "text": checked_embeddings(
            texts if len(text_rows) == len(rows) else texts[text_rows], text_ids, "text", "text_emb"
        ),
    }
    if embeddings["image"].dim != embeddings["text"].dim:
        raise ValueError(
            f"clip-retrieval: image vectors have {embeddings['image'].dim} dimensions, text vectors "
            f"{embeddings['text'].dim}; both sides must come from one model"
        )
    captions = [str(rows[row]["caption"]) for row in text_rows] if "caption" in rows[0] else ()
    return Collection(
        card_of(path, f"clip-retrieval {path.resolve().name}"),
        Side("image", image_ids, (), metadata_columns([rows[row] for row in kept], used)),
        Side("text", text_ids, captions, metadata_columns([rows[row] for row in text_rows], used)),
        Relevance.from_pairs(np.arange(len(text_rows)), text_image, n_queries=len(text_rows), n_gallery=len(kept)),
        text_image, embeddings, notes=notes + zero_vectors(embeddings),
    )  # fmt: skip


def _names(rows: Sequence[dict[str, Any]]) -> tuple[list[str], tuple[str, ...]]:
    """One image name per row and a sentence when folders were cut from them."""
    column = next((name for name in NAMES if all(row.get(name) not in (None, "") for row in rows)), None)
    if column is None:
        return [f"row-{row}" for row in range(len(rows))], (f"images are named by row: no {', '.join(NAMES)}",)
    names = [str(row[column]).replace("\\", "/") if column == "image_path" else str(row[column]) for row in rows]
    if column != "image_path":
        return names, ()
    folders = [PurePosixPath(name).parts[:-1] for name in set(names)]
    shared = 0
    while all(len(folder) > shared and folder[shared] == folders[0][shared] for folder in folders):
        shared += 1
    if not shared:
        return names, ()
    return ["/".join(PurePosixPath(name).parts[shared:]) for name in names], (
        "images are named by image_path without the folder that all of them share",
    )


def _check_equal(images: np.ndarray, owner: np.ndarray, names: Sequence[str]) -> None:
    for row in np.flatnonzero(owner != np.arange(len(owner))):
        if not np.array_equal(images[row], images[owner[row]]):
            raise ValueError(
                f"clip-retrieval: rows {owner[row]} and {row} name the same image {names[row][:120]!r} but have "
                "different vectors; give each image its own name, or run the inference again"
            )


def _text_ids(names: Sequence[str], rows: Sequence[int]) -> tuple[str, ...]:
    seen: dict[str, int] = {}
    ids = []
    for row in rows:
        seen[names[row]] = seen.get(names[row], -1) + 1
        ids.append(f"{names[row]}#{seen[names[row]]}")
    return tuple(ids)
