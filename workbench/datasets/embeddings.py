"""``embeddings:PATH``: vectors somebody already has, as ``.npz``, or as safetensors or npy with a table beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from workbench.datasets.cards import card_of
from workbench.datasets.collection import Collection, Side
from workbench.datasets.tables import READABLE, read_rows
from workbench.types import Embeddings, Relevance

_USED = {"image", "text", "text_image", "image_id", "text_id", "caption", "label"}


def load_embeddings(path: Path) -> Collection:
    """A collection of ready-made vectors.

    ``.npz`` or ``.safetensors`` with ``image (n, dim)``, ``text (m, dim)`` and ``text_image (m,)``, the row of the
    right image, which may be absent when n == m and row i pairs with row i. Optional ``image_id (n,)``,
    ``text_id (m,)``, ``caption (m,)`` and ``label``: with one label per image, every image that shares a non-empty
    label with a text's own image is right for that text. Other arrays of length n or m are kept as metadata.
    Files without strings (safetensors) take them from a sibling table ``NAME.jsonl`` or ``NAME.parquet`` whose rows
    carry ``modality`` ("image" or "text") and then ``id``, ``caption``, ``label``, ... in row order.
    A folder may hold ``image.npy`` and ``text.npy`` (and ``text_image.npy``) with ``items.jsonl`` beside them.
    """
    arrays = read_arrays(path)
    lacking = [name for name in ("image", "text") if name not in arrays]
    if lacking:
        raise ValueError(f"{path.name} needs arrays 'image' and 'text'; it lacks {lacking} and has {sorted(arrays)}")
    n_images, n_texts = len(arrays["image"]), len(arrays["text"])
    text_image = _own_image(arrays, n_images, n_texts, path.name)
    image_ids = _ids(arrays, "image_id", n_images, "image")
    text_ids = _ids(arrays, "text_id", n_texts, "text")
    captions = [str(text) for text in arrays["caption"]] if "caption" in arrays else ()
    if captions and len(captions) != n_texts:
        raise ValueError(f"{path.name}: {len(captions)} captions for {n_texts} text vectors")
    columns = _metadata(arrays, n_images, n_texts, path.name)
    embeddings = {
        modality: Embeddings(arrays[modality], ids, modality, {"file": path.name})
        for modality, ids in (("image", image_ids), ("text", text_ids))
    }
    if embeddings["image"].dim != embeddings["text"].dim:
        raise ValueError(
            f"{path.name}: image vectors have {embeddings['image'].dim} dimensions, text vectors "
            f"{embeddings['text'].dim}; both sides must live in one space"
        )
    return Collection(
        card_of(path if path.is_dir() else path.parent, path.stem),
        Side("image", image_ids, (), columns["image"]), Side("text", text_ids, captions, columns["text"]),
        _relevance(arrays, text_image, n_images, path.name), text_image, embeddings,
    )  # fmt: skip


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Named arrays from .npz, .safetensors or a folder of .npy; pickled objects are refused, never loaded."""
    if not path.exists():
        raise FileNotFoundError(
            f"embeddings:{path}: no such file; give an .npz, a .safetensors or a folder of .npy files"
        )
    try:
        if path.is_dir():
            arrays = {
                file.stem: np.load(file, mmap_mode="r", allow_pickle=False) for file in sorted(path.glob("*.npy"))
            }
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        elif path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            arrays = dict(load_file(path))
        else:
            raise ValueError(f"embeddings:{path.name} must end in .npz or .safetensors, or be a folder of .npy files")
    except ValueError as error:
        if "allow_pickle" not in str(error) and "Object arrays" not in str(error):
            raise
        raise ValueError(
            f"{path.name} holds Python objects, which are refused because loading them can run code; save strings as "
            "fixed-width text (np.array(captions, dtype=str)) and numbers as plain arrays"
        ) from None
    return {**arrays, **_strings_beside(path)}


def _strings_beside(path: Path) -> dict[str, np.ndarray]:
    """Strings of a sibling table: ``id`` becomes image_id/text_id, ``caption`` the captions, the rest metadata."""
    stem = path / "items" if path.is_dir() else path.with_suffix("")
    table = next((stem.with_suffix(ending) for ending in READABLE[1:] if stem.with_suffix(ending).exists()), None)
    if table is None:
        return {}
    found: dict[str, np.ndarray] = {}
    rows = read_rows(table)
    for modality in ("image", "text"):
        part = [row for row in rows if row.get("modality") == modality]
        for name in dict.fromkeys(key for row in part for key in row if key != "modality"):
            key = f"{modality}_id" if name == "id" else name if name in ("caption", "label") else f"{modality}:{name}"
            found[key] = np.array(["" if row.get(name) is None else str(row[name]) for row in part])
    if not found:
        raise ValueError(f'{table.name}: every row needs a \'modality\' of "image" or "text"')
    return found


def _own_image(arrays: Mapping[str, np.ndarray], n_images: int, n_texts: int, name: str) -> np.ndarray:
    if "text_image" not in arrays:
        if n_images != n_texts:
            raise ValueError(
                f"{name} has {n_images} images and {n_texts} texts but no 'text_image'; add text_image ({n_texts},), "
                "the row of the right image of each text"
            )
        return np.arange(n_texts)
    own = np.asarray(arrays["text_image"])
    if own.shape != (n_texts,) or own.dtype.kind not in "iu":
        raise ValueError(f"{name}: text_image must be {n_texts} integers; got shape {own.shape} of {own.dtype}")
    own = own.astype(np.int64)
    if own.min() < -1 or own.max() >= n_images:
        raise ValueError(
            f"{name}: text_image must lie in 0..{n_images - 1} (-1: no image); got {own.min()}..{own.max()}"
        )
    return own


def _ids(arrays: Mapping[str, np.ndarray], key: str, n: int, modality: str) -> tuple[str, ...]:
    if key not in arrays:
        width = len(str(n - 1))
        return tuple(f"{modality}-{row:0{width}d}" for row in range(n))
    if len(arrays[key]) != n:
        raise ValueError(f"{key} has {len(arrays[key])} entries for {n} {modality} vectors")
    return tuple(str(value) for value in arrays[key])


def _relevance(arrays: Mapping[str, np.ndarray], own: np.ndarray, n_images: int, name: str) -> Relevance:
    texts = np.flatnonzero(own >= 0)
    pairs = np.stack([texts, own[texts]], axis=1)
    if "label" in arrays:
        labels = np.array([str(value) for value in arrays["label"]])
        if len(labels) != n_images:
            raise ValueError(f"{name}: label must have one entry per image ({n_images}); got {len(labels)}")
        members = {label: np.flatnonzero(labels == label) for label in np.unique(labels)}
        same = [np.stack(np.broadcast_arrays(t, members[labels[own[t]]]), axis=1) for t in texts if labels[own[t]]]
        pairs = np.unique(np.concatenate([pairs, *same]), axis=0)
    return Relevance.from_pairs(pairs[:, 0], pairs[:, 1], n_queries=len(own), n_gallery=n_images)


def _metadata(arrays: Mapping[str, Any], n_images: int, n_texts: int, name: str) -> dict[str, dict[str, np.ndarray]]:
    """Unused arrays, given to the side whose length they have; with equal lengths the prefix image:/text: decides."""
    columns: dict[str, dict[str, np.ndarray]] = {"image": {}, "text": {}}
    for key, values in arrays.items():
        if key in _USED and key != "label":
            continue
        prefix, _, rest = key.partition(":")
        side = prefix if rest and prefix in columns else "image" if len(values) == n_images else "text"
        if np.ndim(values) != 1 or len(values) != (n_images if side == "image" else n_texts):
            raise ValueError(
                f"{name}: array {key!r} of shape {np.shape(values)} fits neither {n_images} images nor {n_texts} "
                "texts; give it one value per item, or remove it"
            )
        columns[side][rest or key] = np.asarray(values)
    return columns
