"""Named arrays from files of strangers: .npz, .safetensors or a folder of .npy, never unpickled, never inflated."""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from workbench.datasets.tables import READABLE, metadata_columns, read_rows, reading, refuse_inflation, require_file

MEMBERS = 10_000
PLAIN = "biufcUSMm"
BFLOAT16 = "BF16"


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Named arrays from .npz, .safetensors or a folder of .npy; pickled objects are refused, never loaded.

    Before an array is read, the shape its header states is held against the bytes that are there. bfloat16 in
    safetensors becomes float32. Strings of a sibling table are added (see :func:`load_embeddings`).
    """
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"embeddings:{path}: no such file; give an .npz, a .safetensors or a folder of .npy files"
        )
    if path.is_dir():
        arrays = {file.stem: read_npy(file) for file in sorted(path.glob("*.npy"))}
    elif path.suffix == ".npz":
        arrays = _read_npz(path)
    elif path.suffix == ".safetensors":
        arrays = _read_safetensors(path)
    else:
        raise ValueError(
            f"embeddings:{path.name} must end in .npz or .safetensors, or be a folder of .npy files; "
            "numpy.savez writes one"
        )
    return {**arrays, **_strings_beside(path)}


def read_npy(path: Path) -> np.ndarray:
    """One .npy file, memory-mapped and read-only."""
    require_file(path)
    with reading(path.name, "an array", "save it again with numpy.save"), path.open("rb") as file:
        _check_header(file, path.stat().st_size)
        return np.load(path, mmap_mode="r", allow_pickle=False)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    advice = "save it again with numpy.savez"
    require_file(path)
    with reading(path.name, "an .npz archive", advice), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) > MEMBERS:
            raise ValueError(f"it holds {len(members):,} arrays, more than {MEMBERS:,}")
        if len({member.filename for member in members}) != len(members):
            raise ValueError("it holds two arrays of one name")
    refuse_inflation(
        path.name, sum(member.file_size for member in members), path.stat().st_size,
        "save the arrays uncompressed (numpy.savez) to read them all the same",
    )  # fmt: skip
    arrays = {}
    for member in members:
        name = member.filename.removesuffix(".npy")
        with reading(f"{path.name}: the array {name[:80]!r}", "an array", advice), zipfile.ZipFile(path) as archive:
            with archive.open(member) as file:
                _check_header(file, member.file_size)
            with archive.open(member) as file:
                arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
    return arrays


def _check_header(file: IO[bytes], size: int) -> None:
    """The header of an array is held against the number of bytes the file has."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"it has version {version} of the array format; plain arrays have 1.0 or 2.0")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError(
            "it holds Python objects, which are refused because loading them can run code; save strings as "
            "np.array(captions, dtype=str)"
        )
    if dtype.kind not in PLAIN or dtype.itemsize == 0:
        raise ValueError(f"its type {dtype.str!r} is no plain number or text; bfloat16 must be saved as float32")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size - file.tell():
        raise ValueError(
            f"its header states {str(shape)[:80]} of {dtype}, which is not the {size - file.tell():,} bytes that are "
            "there: the file is cut off or its header is wrong"
        )


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import deserialize, safe_open

    require_file(path)
    with reading(path.name, "safetensors", "save it again with safetensors.numpy.save_file"):
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            types = {name: file.get_slice(name).get_dtype() for name in names}
            arrays = {name: file.get_tensor(name) for name in names if types[name] != BFLOAT16}
        if len(arrays) < len(names):
            arrays |= {
                name: _widened(tensor["data"]).reshape(tensor["shape"])
                for name, tensor in deserialize(path.read_bytes()) if tensor["dtype"] == BFLOAT16
            }  # fmt: skip
    return arrays


def _widened(data: bytes) -> np.ndarray:
    """float32 numbers of bfloat16 bytes: the upper halves of their bits, so exact."""
    return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)


def _strings_beside(path: Path) -> dict[str, np.ndarray]:
    """Strings of a sibling table: ``id`` becomes image_id/text_id, ``caption`` the captions, the rest metadata."""
    tables = [
        path / f"items{ending}" if path.is_dir() else path.with_name(path.stem + ending) for ending in READABLE[1:]
    ]
    table = next((table for table in tables if table.exists()), None)
    if table is None:
        return {}
    found: dict[str, np.ndarray] = {}
    rows = read_rows(table)
    for modality in ("image", "text"):
        part = [row for row in rows if row.get("modality") == modality]
        for name, values in metadata_columns(part, ("modality",)).items():
            key = f"{modality}_id" if name == "id" else name if name in ("caption", "label") else f"{modality}:{name}"
            found[key] = values
    if not found:
        raise ValueError(f'{table.name}: every row needs a \'modality\' of "image" or "text"')
    return found
