"""Data sets: loaders by format, cards, and counts. ``load("folder:my-photos")`` is the door."""

from __future__ import annotations

import os
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from workbench.datasets.collection import BadItem, Card, Collection, Member, Side, content_digest, take_images
from workbench.datasets.counts import Counts, count

__all__ = [
    "FORMATS", "BadItem", "Card", "Collection", "Counts", "Member", "Side", "content_digest", "count", "load",
    "take_images",
]  # fmt: skip

FORMATS = {
    "scenes": "procedural pictures with complete ground truth, made on the spot",
    "emoji": "emoji or emoji:FONT.ttf  pictures from the colour-emoji font of this machine, names in 14 languages",
    "folder": "folder:PATH  images with captions.csv, .jsonl or .parquet (columns image, caption)",
    "karpathy": "karpathy:JSON,IMAGES  a Karpathy split file and its image folder",
    "embeddings": "embeddings:PATH  .npz or .safetensors with image, text and text_image",
    "run": "run:LISTS.trec  ranked lists of a system that is known only by its answers",
    "beir": "beir:FOLDER  corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv",
    "cranfield": "cranfield:FOLDER  a SMART collection: cran.all.1400, cran.qry, cranqrel",
    "webdataset": "webdataset:SHARDS  tar files with pictures and .txt or .json beside them; {000..012} is a range",
    "clip-retrieval": "clip-retrieval:FOLDER  img_emb, text_emb and metadata as clip-retrieval writes them",
}

MADE_HERE = ("scenes", "emoji")
WITHOUT_SPLITS = ("embeddings", "run", "cranfield", "webdataset", "clip-retrieval")


def load(
    source: str, *, split: str = "", n_images: int = 0, on_bad: str = "fail", qrels: str = "",
    options: dict[str, Any] | None = None,
) -> Collection:  # fmt: skip
    """A collection from ``format`` or ``format:where``, split at the first colon; relative paths start at the caller.

    n_images : keep only this many images, in the order of the source, with their captions; 0 keeps all.
    on_bad : "fail" or "record": what happens when a listed image does not exist.
    qrels : a file of judgements that takes the place of the source's own relevance (:mod:`workbench.datasets.qrels`).
    options : dials of ``scenes`` (see :func:`workbench.datasets.scenes.scenes`) and of ``emoji``
    (:func:`workbench.datasets.emoji.load_emoji`); refused elsewhere.
    """
    name, _, where = source.partition(":")
    if name not in FORMATS:
        forms = ", ".join(text.split()[0] if ":" in text else form for form, text in FORMATS.items())
        raise ValueError(
            f"unknown data set {source!r}; {_meant(source)}known are: {forms}; see `workbench list datasets`"
        )
    if options and name not in MADE_HERE:
        raise ValueError(f"the options {sorted(options)} belong to {' and '.join(MADE_HERE)}, not to {name}")
    if not where and name not in MADE_HERE:
        raise ValueError(f"{name}: needs a path after the colon: {FORMATS[name]}")
    if split and name in WITHOUT_SPLITS:
        raise ValueError(f"{name}: files have no splits; got split={split!r}; leave it empty")
    collection = _load(name, where, split, n_images, on_bad, qrels, options or {})
    if qrels and name != "run":
        from workbench.datasets.qrels import judged_by, read_qrels

        collection = judged_by(collection, read_qrels(Path(qrels)))
    if 0 < n_images < len(collection.images):
        collection = take_images(collection, np.arange(n_images))
    return collection


def _meant(source: str) -> str:
    """The format that was forgotten or misspelt, as a question."""
    endings = {".npz": "embeddings", ".safetensors": "embeddings", ".trec": "run", ".tar": "webdataset"}
    forgotten = "folder" if os.path.isdir(source) else endings.get(Path(source).suffix, "")
    nearest = get_close_matches(source.partition(":")[0], FORMATS, n=1)
    meant = f"{forgotten}:{source}" if forgotten and ":" not in source else nearest[0] if nearest else ""
    return f"did you mean {meant!r}? " if meant else ""


def _load(
    name: str, where: str, split: str, n_images: int, on_bad: str, qrels: str, options: dict[str, Any]
) -> Collection:
    if name == "scenes":
        from workbench.datasets.scenes import scenes

        size = {"n_images": n_images} if n_images else {}
        return scenes(split=split or "test", **size, **options)
    if name == "emoji":
        from workbench.datasets.emoji import load_emoji

        return load_emoji(where, split=split or "test", **options)
    if name == "folder":
        from workbench.datasets.folder import load_folder

        return load_folder(Path(where), split=split, on_bad=on_bad)
    if name == "karpathy":
        from workbench.datasets.karpathy import load_karpathy

        return load_karpathy(where, split=split, on_bad=on_bad)
    if name == "webdataset":
        from workbench.datasets.webdataset import load_webdataset

        return load_webdataset(where, on_bad=on_bad)
    if name == "beir":
        from workbench.datasets.beir import load_beir

        return load_beir(Path(where), split=split)
    if name == "run":
        from workbench.datasets.trec import load_run

        return load_run(Path(where), Path(qrels) if qrels else None)
    return _path_only(name)(Path(where))


def _path_only(name: str) -> Callable[[Path], Collection]:
    if name == "cranfield":
        from workbench.datasets.cranfield import load_cranfield

        return load_cranfield
    if name == "clip-retrieval":
        from workbench.datasets.clip_retrieval import load_clip_retrieval

        return load_clip_retrieval
    from workbench.datasets.embeddings import load_embeddings

    return load_embeddings
