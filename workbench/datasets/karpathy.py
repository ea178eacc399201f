"""``karpathy:JSON,IMAGES``: the split files most image-captioning and retrieval papers use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from workbench.datasets.cards import shipped_cards
from workbench.datasets.collection import BadItem, Card, Collection, Side
from workbench.datasets.folder import choose_split, pair_up, text_side


def load_karpathy(source: str, *, split: str = "test", on_bad: str = "fail") -> Collection:
    """Images and captions listed in a Karpathy split file (``dataset_coco.json``, ``dataset_flickr30k.json``, ...).

    source : ``JSON,IMAGES``: the split file and the folder its ``filepath/filename`` entries are relative to.
    The default split is "test"; all the captions that the file lists are used, also a sixth or seventh one.
    """
    file, _, folder = source.rpartition(",")
    if not file or not folder:
        raise ValueError(f"karpathy: needs JSON,IMAGES (the split file, a comma, the image folder); got {source!r}")
    listing, root = Path(file), Path(folder)
    if not listing.is_file() or not root.is_dir():
        lacking = listing if not listing.is_file() else root
        raise FileNotFoundError(f"karpathy: {lacking} does not exist; give karpathy:dataset.json,folder-of-images")
    data = json.loads(listing.read_text(encoding="utf-8"))
    entries = data.get("images") if isinstance(data, dict) else None
    if not isinstance(entries, list) or not all("filename" in entry and "sentences" in entry for entry in entries):
        raise ValueError(
            f"{listing.name} is no Karpathy split file: it needs a list 'images' with filename and sentences"
        )
    chosen = choose_split(entries, split or "test", listing.name)
    card = shipped_cards().get(f"{data.get('dataset', '')}-{split or 'test'}", Card(name=f"karpathy {listing.stem}"))
    return _collect(card, root, chosen, on_bad)


def _collect(card: Card, root: Path, entries: list[dict[str, Any]], on_bad: str) -> Collection:
    names = [f"{entry.get('filepath', '')}/{entry['filename']}".lstrip("/") for entry in entries]
    present = [_inside(root, name) for name in names]
    missing = [name for name, there in zip(names, present, strict=True) if not there]
    if missing and on_bad != "record":
        raise FileNotFoundError(
            f"{len(missing)} of {len(names)} listed images are not under {root.name}/; the first are {missing[:3]}; "
            "correct the folder, or use bad_images=record to list and leave them out"
        )
    kept = [(name, entry) for name, entry, there in zip(names, entries, present, strict=True) if there]
    rows = [
        {"caption": " ".join(str(sentence["raw"]).split()), "caption_id": sentence.get("sentid")}
        for _, entry in kept for sentence in entry["sentences"]
    ]  # fmt: skip
    text_image = np.repeat(np.arange(len(kept)), [len(entry["sentences"]) for _, entry in kept])
    images = Side("image", tuple(name for name, _ in kept), [root / name for name, _ in kept])
    bad = tuple(BadItem(name, "listed in the split file, but there is no such file") for name in missing)
    return pair_up(card, images, text_side(rows, text_image, images.ids), text_image, bad)


def _inside(root: Path, name: str) -> bool:
    path = root / name
    return path.is_file() and path.resolve().is_relative_to(root.resolve())
