"""``embeddings:PATH``: vectors somebody already has, as ``.npz``, or as safetensors or npy with a table beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from workbench.datasets.arrays import read_arrays
from workbench.datasets.cards import card_of
from workbench.datasets.collection import Collection, Side
from workbench.datasets.tables import plain_reason, shown, strings
from workbench.types import Embeddings, Relevance

__all__ = ["checked_embeddings", "load_embeddings", "read_arrays", "zero_vectors"]

PAIRS = 50_000_000
_USED = {"image", "text", "text_image", "image_id", "text_id", "caption", "label"}


def load_embeddings(path: Path) -> Collection:
    """A collection of ready-made vectors.

    ``.npz`` or ``.safetensors`` with ``image (n, dim)``, ``text (m, dim)`` and ``text_image (m,)``, the row of the
    right image (-1: none). Without it, row i pairs with row i when n == m, and nothing is right for anything when the
    numbers differ; the notes of the collection say which. Optional ``image_id (n,)``, ``text_id (m,)``,
    ``caption (m,)`` and ``label``: with one label per image, every image that shares a non-empty label with a text's
    own image is right for that text. Other arrays of length n or m are kept as metadata.
    Files without strings (safetensors) take them from a sibling table ``NAME.jsonl`` or ``NAME.parquet`` whose rows
    carry ``modality`` ("image" or "text") and then ``id``, ``caption``, ``label``, ... in row order.
    A folder may hold ``image.npy`` and ``text.npy`` (and ``text_image.npy``) with ``items.jsonl`` beside them.
    """
    arrays = read_arrays(path)
    lacking = [name for name in ("image", "text") if name not in arrays]
    if lacking:
        raise ValueError(
            f"{path.name} needs arrays 'image' and 'text'; it lacks {lacking} and has {shown(sorted(arrays))}; save "
            "both sides under these names"
        )
    n_images, n_texts = (_length(arrays[name], name, path.name) for name in ("image", "text"))
    text_image, notes = _own_image(arrays, n_images, n_texts, path.name)
    image_ids = _ids(arrays, "image_id", n_images, "image")
    text_ids = _ids(arrays, "text_id", n_texts, "text")
    captions = _strings(arrays["caption"], "caption", n_texts, "text") if "caption" in arrays else ()
    columns = _metadata(arrays, n_images, n_texts, path.name)
    embeddings = {
        modality: checked_embeddings(arrays[modality], ids, modality, path.name)
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
        notes=notes + zero_vectors(embeddings),
    )  # fmt: skip


def checked_embeddings(vectors: np.ndarray, ids: tuple[str, ...], modality: str, where: str) -> Embeddings:
    """Embeddings from one file, which every error names; up to three items whose vectors hold NaN are named too."""
    if vectors.dtype.kind == "f" and vectors.ndim == 2:
        wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(wrong):
            raise ValueError(
                f"{where}: {len(wrong)} of {len(vectors)} {modality} vectors hold NaN or infinity, the first are "
                f"{shown(ids[row] for row in wrong[:3])}; drop these items or encode them again"
            )
    try:
        return Embeddings(vectors, ids, modality, {"file": where})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def zero_vectors(embeddings: Mapping[str, Embeddings]) -> tuple[str, ...]:
    """A sentence per modality that has vectors of length zero: cosine similarity will refuse them."""
    notes = []
    for modality, given in embeddings.items():
        zero = np.flatnonzero(~given.vectors.any(axis=1))
        if len(zero):
            notes.append(
                f"{len(zero)} of {len(given)} {modality} vectors have length zero, the first is "
                f"{given.ids[zero[0]][:80]!r}: similarity=cosine is undefined for them"
            )
    return tuple(notes)


def _length(vectors: np.ndarray, name: str, where: str) -> int:
    if vectors.ndim != 2 or 0 in vectors.shape:
        raise ValueError(
            f"{where}: {name!r} must hold vectors of shape (n, dim) with n, dim >= 1; got {vectors.shape}; save one "
            "row per item"
        )
    return len(vectors)


def _own_image(
    arrays: Mapping[str, np.ndarray], n_images: int, n_texts: int, name: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    if "text_image" not in arrays:
        said = f"{name} has no text_image (the row of each text's right image): "
        if n_images == n_texts:
            return np.arange(n_texts), (f"{said}text i was paired with image i, because both sides have {n_texts}",)
        return np.full(n_texts, -1), (
            f"{said}{n_images} images and {n_texts} texts cannot be paired by row, so nothing is known to be right",
        )
    own = np.asarray(arrays["text_image"])
    if own.shape != (n_texts,) or own.dtype.kind not in "iu":
        raise ValueError(f"{name}: text_image must be {n_texts} integers; got shape {own.shape} of {own.dtype}")
    if own.min() < -1 or own.max() >= n_images:
        raise ValueError(
            f"{name}: text_image must lie in 0..{n_images - 1} (-1: no image); got {own.min()}..{own.max()}"
        )
    return own.astype(np.int64), ()


def _ids(arrays: Mapping[str, np.ndarray], key: str, n: int, modality: str) -> tuple[str, ...]:
    if key not in arrays:
        width = len(str(n - 1))
        return tuple(f"{modality}-{row:0{width}d}" for row in range(n))
    return tuple(_strings(arrays[key], key, n, modality))


def _strings(values: np.ndarray, key: str, n: int, modality: str) -> list[str]:
    """One string per item; bytes are read as UTF-8."""
    if values.shape != (n,):
        raise ValueError(f"{key} must hold one value for each of the {n} {modality} vectors; got shape {values.shape}")
    try:
        return [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{key} holds what is no text ({plain_reason(error)}); save it as dtype=str") from None


def _relevance(arrays: Mapping[str, np.ndarray], own: np.ndarray, n_images: int, name: str) -> Relevance:
    texts = np.flatnonzero(own >= 0)
    pairs = np.stack([texts, own[texts]], axis=1)
    if "label" in arrays:
        if arrays["label"].shape != (n_images,):
            got = arrays["label"].shape
            raise ValueError(f"{name}: label must have one entry per image ({n_images}); got shape {got}")
        labels = np.array(_strings(arrays["label"], "label", n_images, "image"))
        found, number = np.unique(labels, return_inverse=True)
        sizes = np.bincount(number) * (found != "")
        if (total := int(sizes[number[own[texts]]].sum())) > PAIRS:
            raise ValueError(
                f"{name}: equal labels make {total:,} right pairs, more than {PAIRS:,}; use finer labels or leave "
                "'label' out"
            )
        members = {label: np.flatnonzero(number == index) for index, label in enumerate(found) if sizes[index]}
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
        side = prefix if rest and prefix in columns else "image" if values.shape == (n_images,) else "text"
        if values.shape != (n_images if side == "image" else n_texts,):
            raise ValueError(
                f"{name}: array {key[:80]!r} of shape {values.shape} fits neither {n_images} images nor {n_texts} "
                "texts; give it one value per item, or remove it"
            )
        text = values.dtype.kind == "S"
        columns[side][rest or key] = strings(_strings(values, key, len(values), side)) if text else np.asarray(values)
    return columns
