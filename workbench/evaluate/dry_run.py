"""What a run would cost, from two encoded batches: nothing is written but a throw-away measurement."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.datasets import Side, count
from workbench.encoders.encode import encode
from workbench.evaluate.prepare import check_kinds, load_collection, load_encoder
from workbench.meter import tree_memory
from workbench.metrics import parse_metric

SECONDS_PER_MILLION_PAIRS = 0.15
FIXED_SECONDS = 25.0


def dry_run(parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, answer): counts, card, minutes, memory and disk that the run is expected to take."""
    collection = load_collection(parameters)
    model = load_encoder(parameters["encoder"], collection, parameters)
    for name in parameters["metrics"]:
        parse_metric(name)
    if model is not None:
        check_kinds(model, collection)
    counts = count(collection)
    rows = [("data", collection.card.name), ("counts", counts.line())]
    rows += [("card", f"{name}: {text}") for name, text in collection.card.rows()[1:6]]
    rows += [("mismatch", text) for text in counts.mismatches]
    seconds, dim = FIXED_SECONDS, 512
    if model is not None:
        for side in (collection.images, collection.texts):
            per_item, dim = _rate(model, side, parameters["batch_size"])
            seconds += per_item * len(side)
            minutes = per_item * len(side) / 60
            rows.append((f"encoding {side.modality}s", f"{1 / per_item:,.0f} per second, {minutes:.1f} minutes"))
    pairs = len(collection.images) * len(collection.texts)
    seconds += (
        (1 if collection.one_way else 2) * (1 + len(parameters["repairs"])) * pairs / 1e6 * SECONDS_PER_MILLION_PAIRS
    )
    items = len(collection.images) + len(collection.texts)
    disk = items * (4 * dim + 64 + 60 * parameters["depth"])
    memory = tree_memory() + parameters["memory_mb"] * 2**20 + 3 * 4 * dim * items
    return [
        *rows,
        ("time", f"about {max(seconds, 1) / 60:.1f} minutes without a cache, report included"),
        ("memory", f"about {memory / 2**30:.1f} GB at the peak, and as much again for drawing"),
        ("disk", f"about {disk / 1e6:,.0f} MB for vectors and run folder"),
    ]


def _rate(model: Any, side: Side, batch_size: int) -> tuple[float, int]:
    """Seconds per item and dimensions, from the second of two batches, without the store."""
    rows = np.linspace(0, len(side) - 1, min(len(side), 2 * batch_size)).astype(int)
    parts = [part for part in (rows[:batch_size], rows[batch_size:]) if len(part)]
    for part in parts:
        some = Side(side.modality, tuple(str(i) for i in range(len(part))), [side.content[i] for i in part])
        start = time.perf_counter()
        encoded = encode(model, some, batch_size=batch_size, store="off", progress=False)
        seconds = time.perf_counter() - start
    return seconds / len(parts[-1]), encoded.embeddings.dim
