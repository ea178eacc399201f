"""Repairs for hubness: a bias for a large index, all repairs of one data set, and the recipe of published codes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.inputs import Array, World, directions, near, write_gallery
from tests.benchmarks.measure import LATE_IMPORTS, Checked, Competitor, Group, Row
from workbench.normalize import METHODS, Bank, Repair, Repaired, inverted_softmax, search_all
from workbench.types import Relevance

LARGE = {"tiny": (200, 1_000, 16), "small": (10_000, 100_000, 64), "full": (100_000, 1_000_000, 64)}
"""Bank queries, gallery items and dimensions of the large index."""
SIZES = {"tiny": (50, 40, 16), "small": (1_000, 1_000, 512), "full": (5_000, 5_000, 512)}
"""Images (five captions each), bank captions and dimensions: full is COCO's test split of 5,000 images."""
CAPTIONS = 5
BETA = 50.0
SAMPLE = 20
_OURS = ("workbench.normalize", "workbench.metrics")
_TOO_LARGE = ("keep", "share")
"""Words with which a repair says that a bank is too large for it."""


def groups(size: str, world: World, folder: Path) -> Iterator[Group]:
    n_bank, n_items, dim = LARGE[size]
    rng = np.random.default_rng(n_items)
    write_gallery(folder / "gallery.npy", rng, n_items, dim, world)
    write_gallery(folder / "bank.npy", rng, n_bank, dim, world)
    also = () if size == "tiny" else LATE_IMPORTS
    yield Group(
        f"inverted softmax of a large index: {n_bank} bank queries x {n_items} items x {dim}, mapped ({world})",
        (Competitor("workbench", load_large, large_bias, check_large, {"folder": str(folder)}, _OURS, also),),
    )
    n_images, n_other, dim = SIZES[size]
    write(folder, n_images, n_other, dim, world)
    shape = f"{CAPTIONS * n_images} captions x {n_images} images x {dim}, bank of {n_other} captions ({world})"
    settings = {"folder": str(folder)}
    yield Group(
        f"all {len(METHODS)} repairs, both directions: {shape}",
        (Competitor("workbench", load, all_repairs, check_all, settings, _OURS, also),),
    )
    yield Group(
        f"inverted softmax and hit@1, 5, 10, text to image: {shape}",
        (
            Competitor("workbench", load, one_repair, check_one, settings, _OURS, also),
            Competitor("numpy, as published codes do", load, published, check_published, settings),
        ),
        tolerance=2e-3,
        facts=_facts,
    )


def load_large(*, folder: str) -> dict[str, Any]:
    return {name: np.load(Path(folder) / f"{name}.npy", mmap_mode="r") for name in ("bank", "gallery")}


def large_bias(inputs: Mapping[str, Any]) -> Array:
    return Repair("inverted softmax", beta=BETA).fit(inputs["gallery"], Bank(inputs["bank"], "inductive")).bias


def check_large(inputs: Mapping[str, Any], bias: Array) -> Checked:
    items = np.linspace(0, len(bias) - 1, SAMPLE).astype(int)
    bank = np.asarray(inputs["bank"], np.float64)
    slow = inverted_softmax(bank @ np.asarray(inputs["gallery"][items], np.float64).T, beta=BETA)
    apart = float(np.abs(bias[items] - slow).max())
    return Checked(apart < 1e-9, f"{SAMPLE} biases at most {apart:.0e} from the formula")


def write(folder: Path, n_images: int, n_bank: int, dim: int, world: World) -> None:
    rng = np.random.default_rng(n_images)
    images, others = directions(rng, n_images, dim, world), directions(rng, n_images, dim, world)
    np.save(folder / "images.npy", images)
    np.save(folder / "texts.npy", near(rng, images[np.arange(CAPTIONS * n_images) // CAPTIONS], 4.0, world))
    np.save(folder / "other_images.npy", others)
    np.save(folder / "other_texts.npy", near(rng, others[np.arange(n_bank) % n_images], 4.0, world))


def load(*, folder: str) -> dict[str, Any]:
    found = {name: np.load(Path(folder) / f"{name}.npy") for name in ("images", "texts", "other_images", "other_texts")}
    n = len(found["texts"])
    own = np.arange(n) // CAPTIONS
    truth = Relevance.from_pairs(np.arange(n), own, n_queries=n, n_gallery=len(found["images"]))
    return {**found, "own": own, "relevance": truth}


def all_repairs(inputs: Mapping[str, Any]) -> dict[str, float]:
    """hit@1 of every repair in both directions; those that refuse so large a bank are left out."""
    hits: dict[str, float] = {}
    for direction, (asked, kept) in {"t2i": ("texts", "images"), "i2t": ("images", "texts")}.items():
        queries, gallery = inputs[asked], inputs[kept]
        banks = Bank(inputs[f"other_{asked}"], "inductive"), Bank(inputs[f"other_{kept}"], "inductive")
        truth = inputs["relevance"] if direction == "t2i" else inputs["relevance"].T
        repaired: dict[str, Repaired] = {"nothing": Repaired(queries, gallery)}
        for name in METHODS:
            try:
                repaired[name] = Repair(name).fit(gallery, *banks).transform(queries)
            except ValueError as error:
                if not any(word in str(error) for word in _TOO_LARGE):
                    raise
        for name, (_, ranks) in zip(repaired, search_all(list(repaired.values()), 10, truth), strict=True):
            best = np.minimum.reduceat(ranks.better, ranks.indptr[:-1])
            hits[f"{direction} {name}"] = float(np.mean(best == 0))
    return hits


def check_all(inputs: Mapping[str, Any], hits: Mapping[str, float]) -> Checked:
    words = ", ".join(f"{name} {100 * value:.1f}" for name, value in hits.items() if name.startswith("t2i"))
    return Checked(all(0 <= value <= 1 for value in hits.values()), f"{len(hits)} hit@1: {words}")


def one_repair(inputs: Mapping[str, Any]) -> dict[str, float]:
    repair = Repair("inverted softmax", beta=BETA).fit(inputs["images"], Bank(inputs["other_texts"], "inductive"))
    _, ranks = repair.transform(inputs["texts"]).search(10, inputs["relevance"])
    return {f"hit@{k}": float(np.mean(ranks.better < k)) for k in (1, 5, 10)}


def check_one(inputs: Mapping[str, Any], hits: Mapping[str, float]) -> Checked:
    return Checked(True, "held against the other", dict(hits))


def published(inputs: Mapping[str, Any]) -> dict[str, float]:
    """Whole matrices of exponentials, every row sorted, the right item looked for in it."""
    bank = np.exp(BETA * (inputs["other_texts"] @ inputs["images"].T))
    scores = np.exp(BETA * (inputs["texts"] @ inputs["images"].T)) / bank.sum(axis=0, keepdims=True)
    places = np.array([np.where(np.argsort(row)[::-1] == own)[0][0] for row, own in zip(scores, inputs["own"])])  # noqa: B905
    return {f"hit@{k}": float(np.mean(places < k)) for k in (1, 5, 10)}


def check_published(inputs: Mapping[str, Any], hits: Mapping[str, float]) -> Checked:
    return Checked(True, "held against the first", dict(hits))


def _facts(rows: Mapping[str, Row]) -> dict[str, float]:
    ours, theirs = rows["workbench"], rows["numpy, as published codes do"]
    return {"numpy, as published codes do / workbench, seconds": theirs.over(ours)}
