"""Every repair on real vectors, with banks that have not seen what is scored: where it helps and where it hurts.

    python -m tests.benchmarks.repairs_on_real_vectors FOLDER [splits, default 5]

FOLDER holds vectors of trained systems: pairs_modality_gap (CLIP on COCO, ConVIRT), clip_flickr8k_100x5,
clip_photos_290, derived_flickr8k_cca, clip_text_classnames. Sets without a training part are split in halves by image,
each half scored with the other as its bank (cross-fit); the derived systems have one, of which each split takes half
(inductive). A parameter that has a grid is chosen on the bank's own halves. Differences in R@1, text to image, in
points: every query's mean over the splits, interval and test over images, Holm over all cells of the first table.

Then three claims about two-bank normalisation (Wang et al., EMNLP 2023): the released temperatures; tuned against plain
inverted softmax, tuned as hard; and a query bank from elsewhere, with and without a gallery bank.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workbench.metrics import per_query
from workbench.normalize import METHODS, Bank, Repair, Repaired, cross_fit_folds, tune
from workbench.statistics import holm, paired_difference
from workbench.types import Relevance, unit_vectors

Array = np.ndarray[Any, Any]
DUAL_BETAS = (1.0, 3.0, 10.0, 20.0, 30.0, 50.0)


@dataclass(frozen=True, eq=False)
class System:
    """Texts, images, the image of each text; bank_images : images (indices) that are only ever a bank."""

    name: str
    texts: Array
    images: Array
    own: Array
    bank_images: Array | None = None


@dataclass(frozen=True, eq=False)
class Part:
    """What is scored (indices) and what is the bank."""

    texts: Array
    images: Array
    bank_texts: Array
    bank_images: Array


def systems(folder: Path) -> Iterator[System]:
    for name in ("clip", "convirt"):
        with np.load(folder / f"pairs_modality_gap/{name}.npz") as stored:
            yield _system(f"{name} pairs", stored["text"], stored["image"], np.arange(len(stored["text"])))
    with np.load(folder / "clip_flickr8k_100x5/embeddings.npz") as stored:
        yield _system("clip flickr 100x5", stored["text"], stored["image"], stored["text_image"])
    with np.load(folder / "clip_photos_290/embeddings.npz") as stored:
        yield _system("clip photos", stored["text"], stored["image"], np.arange(len(stored["text"])))
    with np.load(folder / "derived_flickr8k_cca/embeddings.npz") as stored:
        for name in sorted(key.removesuffix("/image") for key in stored.files if key.endswith("/image")):
            sides = stored[f"{name}/text"], stored[f"{name}/image"], stored["text_image"]
            yield _system(name.split("_quant")[0], *sides, bank_images=stored["train_images"])


def _system(name: str, texts: Array, images: Array, own: Array, bank_images: Array | None = None) -> System:
    return System(name, unit_vectors(texts), unit_vectors(images), own.astype(np.int64), bank_images)


def parts(system: System, seed: int) -> list[Part]:
    """Two halves, each the bank of the other; or the test part with a random half of the training part."""
    n = len(system.images)
    if system.bank_images is not None:
        bank = np.random.default_rng(seed).permutation(system.bank_images)[: len(system.bank_images) // 2]
        scored = np.setdiff1d(np.arange(n), system.bank_images)
        return [_part(system, scored, np.sort(bank))]
    folds = cross_fit_folds(np.arange(n), seed)
    return [_part(system, np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)) for fold in (0, 1)]


def _part(system: System, images: Array, bank_images: Array) -> Part:
    texts, bank_texts = (np.flatnonzero(np.isin(system.own, own)) for own in (images, bank_images))
    return Part(texts, images, bank_texts, bank_images)


def truth(system: System, texts: Array, images: Array) -> Relevance:
    place = np.searchsorted(images, system.own[texts])
    return Relevance.from_pairs(np.arange(len(texts)), place, n_queries=len(texts), n_gallery=len(images))


def hits(system: System, part: Part, repaired: Repaired) -> Array:
    _, ranks = repaired.search(1, truth(system, part.texts, part.images))
    return per_query("R@1", ranks).expected


def repaired_by(system: System, part: Part, repair: Repair, bank_texts: Array | None = None) -> Repaired:
    """By the part's own bank, or by other texts; texts that are also scored are left out."""
    queries, gallery = system.texts[part.texts], system.images[part.images]
    bank = system.texts[part.bank_texts] if bank_texts is None else bank_texts
    others = Bank(system.images[part.bank_images], "cross-fit").without(gallery)  # a set may hold a picture twice
    return repair.fit(gallery, Bank(bank, "cross-fit").without(queries), others).transform(queries)


def chosen(system: System, part: Part, name: str, seed: int, **fixed: float) -> Repair:
    """With the parameter of its grid chosen on the bank alone."""
    if METHODS[name].grid is None:
        return Repair(name)
    sides = system.texts[part.bank_texts], system.images[part.bank_images]
    known = truth(system, part.bank_texts, part.bank_images)
    own = system.own[part.bank_texts]
    found = tune(name, *sides, known, own, part.bank_images, metric="R@1", seed=seed, **fixed)
    return Repair(name, **{found.parameter: found.chosen}, **fixed)


def tuned_dual(system: System, part: Part, seed: int) -> Repair:
    """Both temperatures of the two-bank repair chosen on the bank alone."""
    sides = system.texts[part.bank_texts], system.images[part.bank_images]
    known, own = truth(system, part.bank_texts, part.bank_images), system.own[part.bank_texts]
    tried = [tune("dualis", *sides, known, own, part.bank_images, metric="R@1", seed=seed, beta=b) for b in DUAL_BETAS]
    best = max(range(len(tried)), key=lambda i: max(tried[i].scores))
    return Repair("dualis", beta=DUAL_BETAS[best], beta_gallery=tried[best].chosen)


def gains(system: System, n_splits: int, arms: Mapping[str, Any]) -> dict[str, tuple[Array, Array]]:
    """(raw, repaired) R@1 of every scored text, mean over the splits; arms : name -> (part, seed) -> Repaired."""
    total: dict[str, Array] = {name: np.full((n_splits, len(system.texts)), np.nan) for name in ("", *arms)}
    for seed in range(n_splits):
        for part in parts(system, seed):
            raw = Repaired(system.texts[part.texts], system.images[part.images])
            total[""][seed, part.texts] = hits(system, part, raw)
            for name, arm in arms.items():
                total[name][seed, part.texts] = hits(system, part, arm(part, seed))
    scored = ~np.isnan(total[""]).all(axis=0)
    means = {name: np.nanmean(values[:, scored], axis=0) for name, values in total.items()}
    return {name: (means[""], means[name]) for name in arms}


def main(folder: Path, n_splits: int) -> None:
    cells = []
    for system in systems(folder):
        arms = {name: _arm(system, name) for name in METHODS}
        for name, (raw, after) in gains(system, n_splits, arms).items():
            cells.append((system.name, name, raw, _difference(system, raw, after)))
    corrected = holm([cell[3].p_value for cell in cells])
    print("system | repair | R@1 | difference | 95 % interval | p (Holm)")
    for (system_name, name, raw, found), p in zip(cells, corrected, strict=True):
        star = " *" if p <= 0.05 else ""
        print(f"{system_name} | {name} | {100 * raw.mean():.1f} | {_points(found)} | {p:.3f}{star}")
    claims(folder, n_splits)


def _arm(system: System, name: str) -> Any:
    return lambda part, seed: repaired_by(system, part, chosen(system, part, name, seed))


def claims(folder: Path, n_splits: int) -> None:
    print("\nsystem | arm | R@1 | difference | 95 % interval")
    with np.load(folder / "clip_text_classnames/detic_clip_text.npz") as stored:
        elsewhere = unit_vectors(stored["lvis1203"].astype(np.float32))
    for system in systems(folder):
        if system.bank_images is not None:
            continue
        arms: dict[str, Any] = {
            "released temperatures (1/1.99, 3)": lambda part, seed, s=system: repaired_by(
                s, part, Repair("dualis", beta=1 / 1.99, beta_gallery=3.0)
            ),
            "two banks, both tuned": lambda part, seed, s=system: repaired_by(s, part, tuned_dual(s, part, seed)),
            "inverted softmax, tuned": _arm(system, "inverted softmax"),
        }
        if system.name == "clip photos":
            arms["bank of class names, inverted softmax"] = lambda part, seed, s=system: repaired_by(
                s, part, Repair("inverted softmax"), elsewhere
            )
            arms["bank of class names, and a gallery bank"] = lambda part, seed, s=system: repaired_by(
                s, part, Repair("dualis", beta_gallery=3.0), elsewhere
            )
        for name, (raw, after) in gains(system, n_splits, arms).items():
            found = _difference(system, raw, after)
            print(f"{system.name} | {name} | {100 * raw.mean():.1f} | {_points(found)}")


def _difference(system: System, raw: Array, after: Array) -> Any:
    own = system.own
    if system.bank_images is not None:
        own = own[~np.isin(own, system.bank_images)]
    return paired_difference(raw, after, own, seed=0)


def _points(found: Any) -> str:
    return f"{100 * found.value:+.1f} | {100 * found.low:+.1f} to {100 * found.high:+.1f}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5)
