"""Data sets: loaders by format, cards, and counts. ``load("folder:my-photos")`` is the door."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from workbench.datasets.collection import BadItem, Card, Collection, Side, content_digest, take_images
from workbench.datasets.counts import Counts, count

__all__ = [
    "FORMATS", "BadItem", "Card", "Collection", "Counts", "Side", "content_digest", "count", "load", "take_images",
]  # fmt: skip

FORMATS = {
    "scenes": "procedural pictures with complete ground truth, made on the spot",
    "folder": "folder:PATH  images with captions.csv, .jsonl or .parquet (columns image, caption)",
    "karpathy": "karpathy:JSON,IMAGES  a Karpathy split file and its image folder",
    "embeddings": "embeddings:PATH  .npz or .safetensors with image, text and text_image",
}


def load(
    source: str, *, split: str = "", n_images: int = 0, on_bad: str = "fail", options: dict[str, Any] | None = None
) -> Collection:
    """A collection from ``format`` or ``format:where``, split at the first colon; relative paths start at the caller.

    n_images : keep only this many images, in the order of the source, with their captions; 0 keeps all.
    on_bad : "fail" or "record": what happens when a listed image does not exist.
    options : dials of ``scenes`` (see :func:`workbench.datasets.scenes.scenes`); refused elsewhere.
    """
    name, _, where = source.partition(":")
    if name not in FORMATS:
        nearest = get_close_matches(name, FORMATS, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise ValueError(f"unknown data set {source!r}; {hint}known are: " + "; ".join(FORMATS.values()))
    if options and name != "scenes":
        raise ValueError(f"the options {sorted(options)} belong to scenes, not to {name}")
    if not where and name != "scenes":
        raise ValueError(f"{name}: needs a path after the colon: {FORMATS[name]}")
    collection = _load(name, where, split, n_images, on_bad, options or {})
    if 0 < n_images < len(collection.images):
        collection = take_images(collection, np.arange(n_images))
    return collection


def _load(name: str, where: str, split: str, n_images: int, on_bad: str, options: dict[str, Any]) -> Collection:
    if name == "scenes":
        from workbench.datasets.scenes import scenes

        size = {"n_images": n_images} if n_images else {}
        return scenes(split=split or "test", **size, **options)
    if name == "folder":
        from workbench.datasets.folder import load_folder

        return load_folder(Path(where), split=split, on_bad=on_bad)
    if name == "karpathy":
        from workbench.datasets.karpathy import load_karpathy

        return load_karpathy(where, split=split, on_bad=on_bad)
    from workbench.datasets.embeddings import load_embeddings

    if split:
        raise ValueError(f"embeddings: files have no splits; got split={split!r}")
    return load_embeddings(Path(where))
