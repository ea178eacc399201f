"""``karpathy:JSON,IMAGES``: the split files most image-captioning and retrieval papers use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from workbench.datasets.cards import shipped_cards
from workbench.datasets.collection import BadItem, Card, Collection, Side
from workbench.datasets.folder import choose_split, lies_inside, pair_up, text_side
from workbench.datasets.tables import read_json, shown


def load_karpathy(source: str, *, split: str = "test", on_bad: str = "fail") -> Collection:
    """Images and captions listed in a Karpathy split file (``dataset_coco.json``, ``dataset_flickr30k.json``, ...).

    source : ``JSON,IMAGES``: the split file and the folder its ``filepath/filename`` entries are relative to.
    The default split is "test"; all the captions that the file lists are used, also a sixth or seventh one.
    """
    file, _, folder = source.rpartition(",")
    if not file or not folder:
        raise ValueError(f"karpathy: needs JSON,IMAGES (the split file, a comma, the image folder); got {source!r}")
    listing, root = Path(file), Path(folder)
    if not os.path.isfile(listing) or not os.path.isdir(root):
        lacking = listing if not os.path.isfile(listing) else root
        raise FileNotFoundError(f"karpathy: {lacking} does not exist; give karpathy:dataset.json,folder-of-images")
    data = read_json(listing)
    entries = data.get("images") if isinstance(data, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ValueError(
            f"{listing.name} is no Karpathy split file: it needs a list 'images' with filename and sentences"
        )
    for number, entry in enumerate(entries):
        if wrong := _what_is_wrong(entry):
            raise ValueError(f"{listing.name} is no Karpathy split file: image {number} {wrong}")
    chosen = choose_split(entries, split or "test", listing.name)
    card = shipped_cards().get(f"{data.get('dataset', '')}-{split or 'test'}", Card(name=f"karpathy {listing.stem}"))
    return _collect(card, root, chosen, on_bad)


def _what_is_wrong(entry: Any) -> str:
    """Why an entry of the list cannot be used, "" when it can."""
    if not isinstance(entry, dict):
        return f"must be an object; got {type(entry).__name__}"
    if not isinstance(entry.get("filename"), str) or not isinstance(entry.get("filepath", ""), str):
        return "needs a 'filename' (and, where it has one, a 'filepath') of text"
    sentences = entry.get("sentences")
    if not isinstance(sentences, list):
        return "needs a list 'sentences'"
    if not all(isinstance(one, dict) and isinstance(one.get("raw"), str) for one in sentences):
        return "has a sentence without a text 'raw'"
    return ""


def _collect(card: Card, root: Path, entries: list[dict[str, Any]], on_bad: str) -> Collection:
    names = [f"{entry.get('filepath', '')}/{entry['filename']}".lstrip("/") for entry in entries]
    top = root.resolve()
    present = [lies_inside(root / name, top) for name in names]
    missing = [name for name, there in zip(names, present, strict=True) if not there]
    if missing and on_bad != "record":
        raise FileNotFoundError(
            f"{len(missing)} of {len(names)} listed images are not under {root.name}/; the first are "
            f"{shown(missing, most=3)}; correct the folder, or use bad_images=record to list and leave "
            "them out"
        )
    kept = [(name, entry) for name, entry, there in zip(names, entries, present, strict=True) if there]
    rows = [
        {"caption": " ".join(sentence["raw"].split()), "caption_id": sentence.get("sentid")}
        for _, entry in kept for sentence in entry["sentences"]
    ]  # fmt: skip
    if not rows:
        raise ValueError(f"none of the {len(names)} listed images is under {root.name}/ with a sentence of its own")
    text_image = np.repeat(np.arange(len(kept)), [len(entry["sentences"]) for _, entry in kept])
    images = Side("image", tuple(name for name, _ in kept), [root / name for name, _ in kept])
    bad = tuple(BadItem(name, "listed in the split file, but there is no such file") for name in missing)
    return pair_up(card, images, text_side(rows, text_image, images.ids), text_image, bad)
