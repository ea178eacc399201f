"""Pictures on disk, drawn once: a folder for each font, Pillow, size and list of emoji.

``pictures.json`` names the array by the hash of its bytes. The array is written first and both under temporary names,
so a killed run leaves nothing half-written; what does not have its hash is drawn again.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workbench.datasets.emoji.families import Emoji
from workbench.datasets.emoji.fonts import Font
from workbench.datasets.emoji.render import Pictures, render
from workbench.files import cache_folder, canonical_hash, canonical_json, write_atomically

SCHEMA = 1
INDEX = "pictures.json"


def pictures(
    font: Font, emoji: Sequence[Emoji], *, size: int, root: Path | None = None, progress: bool | None = None
) -> Pictures:
    """The pictures, from the cache where they are there and whole; else drawn, and kept for the next time.

    root : the cache, by default :func:`workbench.files.cache_folder`. The array is read as it is needed.
    """
    key = key_of(font, emoji, size)
    folder = (root or cache_folder()) / "emoji" / canonical_hash(key)[:16]
    kept = _read(folder)
    if kept is None:
        _write(folder, key, render(font, emoji, size=size, progress=progress))
        kept = _read(folder)
    if kept is None:
        raise OSError(f"the pictures written into {folder} cannot be read back; set WORKBENCH_CACHE to another folder")
    return kept


def key_of(font: Font, emoji: Sequence[Emoji], size: int) -> dict[str, Any]:
    """All that the pixels depend on."""
    import PIL
    from PIL import features

    libraries = {name: str(features.version(name)) for name in ("freetype2", "raqm", "harfbuzz")}
    listed = canonical_hash([one.text for one in emoji])
    return {
        "schema": SCHEMA, "font": font.name, "font_sha256": font.sha256, "size": size, "emoji": listed,
        "pillow": PIL.__version__, **libraries,
    }  # fmt: skip


def _write(folder: Path, key: dict[str, Any], drawn: Pictures) -> None:
    buffer = io.BytesIO()
    np.save(buffer, drawn.pixels, allow_pickle=False)
    data = buffer.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    index = {"key": key, "sha256": digest, "texts": list(drawn.texts), "left_out": dict(drawn.left_out)}
    try:
        write_atomically(folder / _array(digest), data)
        write_atomically(folder / INDEX, canonical_json(index))
    except OSError as error:
        raise OSError(
            f"the emoji pictures cannot be kept in {folder} ({error}); set WORKBENCH_CACHE to a folder with "
            "100 MB of space"
        ) from error


def _array(digest: str) -> str:
    return f"pixels-{digest[:16]}.npy"


def _read(folder: Path) -> Pictures | None:
    """What is there and has the hash it was written with."""
    try:
        index = json.loads((folder / INDEX).read_bytes())
        path = folder / _array(index["sha256"])
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != index["sha256"]:
                return None
        pixels = np.load(path, mmap_mode="r", allow_pickle=False)
        kept = Pictures(pixels, tuple(index["texts"]), index["left_out"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return kept if len(kept.texts) == len(pixels) else None
