"""``folder:PATH``: pictures in a folder with ``captions.csv``, ``captions.jsonl`` or ``captions.parquet``."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from workbench.datasets.cards import card_of, refuse_link_outside
from workbench.datasets.collection import BadItem, Collection, Side
from workbench.datasets.tables import READABLE, metadata_columns, read_rows, require_columns, shown
from workbench.types import Relevance

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}


def load_folder(path: Path, *, split: str = "", on_bad: str = "fail") -> Collection:
    """Images and captions from a folder.

    The table has the columns ``image`` (a path inside the folder, or inside its ``images`` subfolder) and ``caption``,
    one row per caption; ``split``, ``caption_id``, ``language``, ``group`` and any others are optional and kept as
    metadata of the texts. Pictures without a caption stay in the gallery as distractors; a row whose ``image`` is empty
    is a text without an image. A file that the table names and the folder lacks is an error, or with
    ``on_bad="record"`` a recorded bad item whose captions are left out. Names match in either Unicode form (composed
    or, as on a Mac, decomposed). Links out of the folder are not followed, nor are links to other folders.
    """
    if not os.path.isdir(path):
        raise FileNotFoundError(f"folder:{path}: no such folder; give a folder of images with a captions.csv in it")
    tables = [path / f"captions{ending}" for ending in READABLE if (path / f"captions{ending}").is_file()]
    if len(tables) != 1:
        found = ", ".join(table.name for table in tables) or "none"
        raise ValueError(f"folder:{path} needs exactly one of captions.csv, .jsonl or .parquet; found: {found}")
    refuse_link_outside(tables[0], path)
    rows = read_rows(tables[0])
    require_columns(rows, ("caption",) if rows else ("caption", "image"), tables[0].name)
    if not any("image" in row for row in rows):
        require_columns(rows, ("image",), tables[0].name)
    rows = [{**row, "image": "" if row.get("image") is None else str(row["image"])} for row in rows]
    if not any(row["image"].strip() for row in rows):
        raise ValueError(f"{tables[0].name}: no row names an image; fill the column 'image' with the pictures' names")
    elsewhere = {row["image"] for row in rows}
    rows = choose_split(rows, split, tables[0].name)
    root = path / "images" if (path / "images").is_dir() else path
    refuse_link_outside(root, path)
    return _collect(path, root, rows, elsewhere, on_bad)


def choose_split(rows: Sequence[dict[str, Any]], split: str, where: str) -> list[dict[str, Any]]:
    """The rows of one split. Several splits and no choice is an error: a score on all of them is nobody's protocol."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[str(row.get("split") or "")] = counts.get(str(row.get("split") or ""), 0) + 1
    listed = ", ".join(
        f"{name[:80]!r} ({number} row{'s' * (number != 1)})" for name, number in list(counts.items())[:12]
    )
    if split and split != "all":
        if split not in counts:
            raise ValueError(f"{where} has no split {split!r}; it has {listed}; choose one of these")
        return [row for row in rows if str(row.get("split") or "") == split]
    if len(counts) > 1 and split != "all":
        raise ValueError(
            f"{where} holds several splits {listed}; choose one with split=NAME, or split=all for everything"
        )
    return list(rows)


def _collect(path: Path, root: Path, rows: list[dict[str, Any]], elsewhere: set[str], on_bad: str) -> Collection:
    files = _Files(path, root)
    named = dict.fromkeys(row["image"] for row in rows if row["image"].strip())
    names = {name: files.locate(name) for name in named}
    missing = [name for name, found in names.items() if found is None]
    if missing and on_bad != "record":
        raise FileNotFoundError(
            f"{len(missing)} of {len(names)} images named in the captions table are not in folder:{path}; the first "
            f"are {shown(missing, most=3)}{_linked(root, missing)}; correct the table, or use bad_images=record to "
            "list and leave them out"
        )
    kept = [row for row in rows if names.get(row["image"], "") is not None]
    if not any(names.values()):
        raise ValueError(
            f"none of the {len(names)} images named in the captions table is in folder:{path}; the first are "
            f"{shown(names, most=3)}{_linked(root, names)}; correct the table or the folder"
        )
    own_ids = dict.fromkeys(name for name in names.values() if name is not None)
    listed = {files.locate(name) for name in elsewhere}
    ids = tuple(own_ids) + tuple(name for name in files.by_id if name not in own_ids and name not in listed)
    position = {name: index for index, name in enumerate(ids)}
    text_image = np.array([position.get(names.get(row["image"]) or "", -1) for row in kept])
    bad = tuple(BadItem(name, _why_missing(name)) for name in missing)
    images = Side("image", ids, [files.by_id[name] for name in ids])
    return pair_up(
        card_of(path, f"folder {path.resolve().name}"), images, text_side(kept, text_image, ids), text_image, bad
    )


class _Files:
    """The pictures below a folder: by_id maps their path inside it, with slashes, to the file."""

    def __init__(self, path: Path, root: Path) -> None:
        self.path, self.root = path, root
        self.by_id = {_printable(file.relative_to(root).as_posix()): file for file in _pictures(root)}
        self.composed: dict[str, str] = {}
        for name in self.by_id:
            self.composed.setdefault(unicodedata.normalize("NFC", name), name)

    def locate(self, name: str) -> str | None:
        """The id of the picture that a table row names, or None; never a file outside the folder."""
        plain = name.replace("\\", "/").removeprefix("./")
        inner = plain.removeprefix("images/") if self.root != self.path else plain
        for candidate in (plain, inner):
            if candidate in self.by_id:
                return candidate
        composed = (unicodedata.normalize("NFC", candidate) for candidate in (plain, inner))
        return next((self.composed[candidate] for candidate in composed if candidate in self.composed), None)


def _pictures(root: Path) -> Iterator[Path]:
    """Every picture below the folder, in name order; no link to a folder is entered, no link out of it is followed."""
    top = root.resolve()
    for folder, below, names in os.walk(root):
        below.sort()
        for name in sorted(names):
            file = Path(folder, name)
            if file.suffix.lower() in PICTURES and lies_inside(file, top):
                yield file


def lies_inside(file: Path, top: Path) -> bool:
    """Whether this is an ordinary file below ``top`` (resolved), also after its links are followed."""
    try:
        return file.is_file() and file.resolve().is_relative_to(top)
    except (OSError, RuntimeError, ValueError):  # a name too long, a loop of links, a NUL byte
        return False


def _printable(name: str) -> str:
    """A file name whose bytes are no UTF-8 with those bytes spelt out, so that it can be an id."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _linked(root: Path, names: Iterable[str]) -> str:
    return " (links out of the folder are not followed)" if any(os.path.islink(root / name) for name in names) else ""


def _why_missing(name: str) -> str:
    plain = name.replace("\\", "/")
    absolute = PurePosixPath(plain).is_absolute() or PureWindowsPath(name).drive or "://" in plain
    if absolute or ".." in PurePosixPath(plain).parts or plain.lower().startswith("file:"):
        return "named in the captions table, but it lies outside the folder, where nothing is read"
    return "named in the captions table, but there is no such file"


def text_side(rows: Sequence[Mapping[str, Any]], text_image: np.ndarray, image_ids: Sequence[str]) -> Side:
    """Captions with ids (``caption_id``, or image id and running number) and their unused columns as metadata."""
    seen: dict[int, int] = {}
    ids = []
    for row, image in zip(rows, text_image.tolist(), strict=True):
        number = seen.get(image, 0)
        seen[image] = number + 1
        owner = image_ids[image] if image >= 0 else "no image"
        given = row.get("caption_id")
        ids.append(str(given) if given is not None and given != "" else f"{owner}#{number}")
    captions = [str(row["caption"]) for row in rows]
    empty = [name for name, caption in zip(ids, captions, strict=True) if not caption.strip()]
    if empty:
        raise ValueError(f"{len(empty)} captions are empty, the first has the id {empty[0][:120]!r}; remove these rows")
    return Side("text", tuple(ids), captions, metadata_columns(rows, ("image", "caption", "caption_id", "split")))


def pair_up(
    card: Any, images: Side, texts: Side, text_image: np.ndarray, bad: tuple[BadItem, ...] = (),
    notes: tuple[str, ...] = (),
) -> Collection:  # fmt: skip
    """A collection in which the only right image of a text is the one it was written for."""
    own = np.flatnonzero(text_image >= 0)
    relevance = Relevance.from_pairs(own, text_image[own], n_queries=len(texts), n_gallery=len(images))
    return Collection(card, images, texts, relevance, text_image, {}, bad, notes=notes)
