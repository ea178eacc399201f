"""``folder:PATH``: pictures in a folder with ``captions.csv``, ``captions.jsonl`` or ``captions.parquet``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workbench.datasets.cards import card_of
from workbench.datasets.collection import BadItem, Collection, Side
from workbench.datasets.tables import READABLE, metadata_columns, read_rows, require_columns
from workbench.types import Relevance

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}


def load_folder(path: Path, *, split: str = "", on_bad: str = "fail") -> Collection:
    """Images and captions from a folder.

    The table has the columns ``image`` (a path inside the folder, or inside its ``images`` subfolder) and ``caption``,
    one row per caption; ``split``, ``caption_id``, ``language``, ``group`` and any others are optional and kept as
    metadata of the texts. Pictures without a caption stay in the gallery as distractors. A file that the table names
    and the folder lacks is an error, or with ``on_bad="record"`` a recorded bad item whose captions are left out.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"folder:{path}: no such folder; give a folder of images with a captions.csv in it")
    tables = [path / f"captions{ending}" for ending in READABLE if (path / f"captions{ending}").exists()]
    if len(tables) != 1:
        found = ", ".join(table.name for table in tables) or "none"
        raise ValueError(f"folder:{path} needs exactly one of captions.csv, .jsonl or .parquet; found: {found}")
    rows = read_rows(tables[0])
    require_columns(rows, ("image", "caption"), tables[0].name)
    elsewhere = {str(row["image"]) for row in rows}
    rows = choose_split(rows, split, tables[0].name)
    root = path / "images" if (path / "images").is_dir() else path
    return _collect(path, root, rows, elsewhere, on_bad)


def choose_split(rows: Sequence[dict[str, Any]], split: str, where: str) -> list[dict[str, Any]]:
    """The rows of one split. Several splits and no choice is an error: a score on all of them is nobody's protocol."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[str(row.get("split") or "")] = counts.get(str(row.get("split") or ""), 0) + 1
    if split and split != "all":
        if split not in counts:
            raise ValueError(f"{where} has no split {split!r}; it has {counts}")
        return [row for row in rows if str(row.get("split") or "") == split]
    if len(counts) > 1 and split != "all":
        raise ValueError(
            f"{where} holds several splits {counts}; choose one with split=NAME, or split=all for everything"
        )
    return list(rows)


def _collect(path: Path, root: Path, rows: list[dict[str, Any]], elsewhere: set[str], on_bad: str) -> Collection:
    files = {file.relative_to(root).as_posix(): file for file in _pictures(root)}
    names = {name: _locate(str(name), path, root, files) for name in dict.fromkeys(row["image"] for row in rows)}
    missing = [str(name) for name, found in names.items() if found is None]
    if missing and on_bad != "record":
        raise FileNotFoundError(
            f"{len(missing)} of {len(names)} images named in the captions table are not in folder:{path}; the first "
            f"are {missing[:3]}; correct the table, or use bad_images=record to list and leave them out"
        )
    kept = [row for row in rows if names[row["image"]] is not None]
    if not kept:
        raise ValueError(f"none of the {len(names)} images named in the captions table is in folder:{path}")
    own_ids = dict.fromkeys(str(names[row["image"]]) for row in kept)
    listed = {_locate(name, path, root, files) for name in elsewhere}
    ids = tuple(own_ids) + tuple(name for name in files if name not in own_ids and name not in listed)
    position = {name: index for index, name in enumerate(ids)}
    text_image = np.array([position[str(names[row["image"]])] for row in kept])
    bad = tuple(BadItem(name, "named in the captions table, but there is no such file") for name in missing)
    images = Side("image", ids, [files[name] for name in ids])
    return pair_up(
        card_of(path, f"folder {path.resolve().name}"), images, text_side(kept, text_image, ids), text_image, bad
    )


def _pictures(root: Path) -> list[Path]:
    """Every picture below the folder, in name order, without following links out of it."""
    top = root.resolve()
    found = (file for file in sorted(root.rglob("*")) if file.suffix.lower() in PICTURES and file.is_file())
    return [file for file in found if file.resolve().is_relative_to(top)]


def _locate(name: str, path: Path, root: Path, files: Mapping[str, Path]) -> str | None:
    """The id of the picture that a table row names, or None; never a file outside the folder."""
    plain = name.replace("\\", "/").removeprefix("./")
    if plain in files:
        return plain
    if root != path and plain.startswith("images/") and plain.removeprefix("images/") in files:
        return plain.removeprefix("images/")
    return None


def text_side(rows: Sequence[Mapping[str, Any]], text_image: np.ndarray, image_ids: Sequence[str]) -> Side:
    """Captions with ids (``caption_id``, or image id and running number) and their unused columns as metadata."""
    seen: dict[int, int] = {}
    ids = []
    for row, image in zip(rows, text_image.tolist(), strict=True):
        number = seen.get(image, 0)
        seen[image] = number + 1
        ids.append(str(row["caption_id"]) if row.get("caption_id") else f"{image_ids[image]}#{number}")
    captions = [str(row["caption"]) for row in rows]
    empty = [name for name, caption in zip(ids, captions, strict=True) if not caption.strip()]
    if empty:
        raise ValueError(f"{len(empty)} captions are empty, the first has the id {empty[0]!r}; remove these rows")
    return Side("text", tuple(ids), captions, metadata_columns(rows, ("image", "caption", "caption_id", "split")))


def pair_up(card: Any, images: Side, texts: Side, text_image: np.ndarray, bad: tuple[BadItem, ...] = ()) -> Collection:
    """A collection in which the only right image of a text is the one it was written for."""
    own = np.flatnonzero(text_image >= 0)
    relevance = Relevance.from_pairs(own, text_image[own], n_queries=len(texts), n_gallery=len(images))
    return Collection(card, images, texts, relevance, text_image, {}, bad)
