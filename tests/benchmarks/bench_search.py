"""Exact top-k: this package, faiss.IndexFlatIP, a numpy matrix, and the bare products that select nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.benchmarks.inputs import Array, World, defined_scores, defined_top_k, near, plant_ties, write_gallery
from tests.benchmarks.measure import LATE_IMPORTS, Checked, Competitor, Group, Row
from tests.benchmarks.table import machine
from workbench.search import TopK, scan

FLOAT32_ROUNDING = 1e-6
"""Two scores of unit vectors closer than this may be in either order in a float32 product."""
BF16_ROUNDING = 2**-7
_DENSE_BYTES = 4 * 10**9
_TILE = (1024, 8192)
_OURS = ("workbench.search",)


class Size(NamedTuple):
    """planted : queries with more near-ties around them than the largest k."""

    queries: int
    galleries: tuple[int, ...]
    dim: int
    ks: tuple[int, ...]
    planted: int
    sample: int
    also: tuple[str, ...] = LATE_IMPORTS


SIZES = {
    "tiny": Size(60, (400,), 32, (3, 10), 3, 60, ()),
    "small": Size(2000, (20_000, 100_000), 512, (10, 100), 20, 60),
    "full": Size(10_000, (100_000, 1_000_000), 512, (10, 100), 20, 40),
}


def groups(size: str, world: World, folder: Path) -> Iterator[Group]:
    """One group per gallery and k, then the largest gallery read from a memory map."""
    asked = SIZES[size]
    for n_gallery in asked.galleries:
        write(folder, asked, n_gallery, world)
        for k in asked.ks:
            settings = {"folder": str(folder), "k": k, "sample": asked.sample}
            shape = f"{asked.queries} queries x {n_gallery} items x {asked.dim}"
            yield Group(f"top-{k}: {shape} ({world})", _competitors(settings, asked, n_gallery), facts=_facts)
    mapped = {"folder": str(folder), "k": asked.ks[0], "sample": asked.sample}
    yield Group(
        f"memory-mapped gallery, top-{asked.ks[0]}: {shape} ({world})",
        tuple(
            Competitor(name, partial(load, mapped=is_mapped), search, check_exact, mapped, _OURS, asked.also)
            for name, is_mapped in (("workbench", False), ("workbench, memory map", True))
        ),
    )


def write(folder: Path, size: Size, n_gallery: int, world: World) -> None:
    """queries.npy and gallery.npy; the first queries have near-ties and copies around every k."""
    rng = np.random.default_rng(n_gallery)
    gallery = write_gallery(folder / "gallery.npy", rng, n_gallery, size.dim, world)
    own = rng.permutation(n_gallery)[: size.queries]
    queries = near(rng, np.array(gallery[np.sort(own)]), 1.5, world)
    plant_ties(rng, gallery, queries[: size.planted], max(size.ks) * 13 // 10)
    np.save(folder / "queries.npy", queries)


def _competitors(settings: Mapping[str, Any], size: Size, n_gallery: int) -> tuple[Competitor, ...]:
    blocks = max(1, min(size.queries, _DENSE_BYTES // (12 * n_gallery)))
    naive = "numpy, full matrix" if blocks == size.queries else f"numpy, {blocks} queries at a time"
    found = [
        Competitor("workbench", load, search, check_exact, settings, _OURS, size.also),
        Competitor("faiss.IndexFlatIP", load_faiss, search_faiss, check_rounded, settings, ("faiss",)),
        Competitor(naive, partial(load, blocks=blocks), search_dense, check_rounded, settings),
        Competitor("float32 product only", load, product, check_product, settings),
    ]
    if machine(1)["bf16"]:
        found.append(Competitor("bf16 product only", load_bf16, product_bf16, check_product, settings, ("torch",)))
    return tuple(found)


def load(*, folder: str, k: int, sample: int, mapped: bool = False, blocks: int = 0) -> dict[str, Any]:
    """The vectors, in memory or as a map."""
    gallery = np.load(Path(folder) / "gallery.npy", mmap_mode="r" if mapped else None)
    queries = np.load(Path(folder) / "queries.npy")
    return {"queries": queries, "gallery": gallery, "k": k, "sample": sample, "blocks": blocks}


def search(inputs: Mapping[str, Any]) -> tuple[Array, Array]:
    (nearest,) = scan(inputs["queries"], inputs["gallery"], [TopK(inputs["k"])])
    return nearest.indices, nearest.scores


def load_faiss(*, folder: str, k: int, sample: int) -> dict[str, Any]:
    import faiss

    found = load(folder=folder, k=k, sample=sample)
    index = faiss.IndexFlatIP(found["gallery"].shape[1])
    index.add(found["gallery"])
    del found["gallery"]
    return {**found, "index": index, "folder": folder}


def search_faiss(inputs: Mapping[str, Any]) -> tuple[Array, Array]:
    scores, ids = inputs["index"].search(inputs["queries"], inputs["k"])
    return ids, scores


def search_dense(inputs: Mapping[str, Any]) -> tuple[Array, Array]:
    parts = []
    for start in range(0, len(inputs["queries"]), inputs["blocks"]):
        scores = inputs["queries"][start : start + inputs["blocks"]] @ inputs["gallery"].T
        ids = np.argpartition(scores, -inputs["k"], axis=1)[:, -inputs["k"] :]
        best = np.take_along_axis(scores, ids, axis=1)
        order = np.argsort(-best, axis=1)
        parts.append((np.take_along_axis(ids, order, axis=1), np.take_along_axis(best, order, axis=1)))
    return np.concatenate([ids for ids, _ in parts]), np.concatenate([best for _, best in parts])


def product(inputs: Mapping[str, Any]) -> Array:
    """Every score, tile by tile into one buffer; the scores of the sample are kept for the check."""
    queries, gallery = inputs["queries"], inputs["gallery"]
    kept, buffer = np.empty((min(inputs["sample"], _TILE[0]), len(gallery)), np.float32), np.empty(_TILE, np.float32)
    for row in range(0, len(queries), _TILE[0]):
        part = queries[row : row + _TILE[0]]
        for column in range(0, len(gallery), _TILE[1]):
            block = gallery[column : column + _TILE[1]]
            out = buffer.ravel()[: len(part) * len(block)].reshape(len(part), len(block))
            np.matmul(part, block.T, out=out)
            if row == 0:
                kept[:, column : column + len(block)] = out[: len(kept)]
    return kept


def load_bf16(*, folder: str, k: int, sample: int) -> dict[str, Any]:
    import torch

    found = load(folder=folder, k=k, sample=sample)
    sides = {name: torch.from_numpy(found.pop(name)).to(torch.bfloat16) for name in ("queries", "gallery")}
    return {**found, "folder": folder, "bf16": sides}


def product_bf16(inputs: Mapping[str, Any]) -> Array:
    import torch

    queries, gallery = inputs["bf16"]["queries"], inputs["bf16"]["gallery"]
    kept = torch.empty((min(inputs["sample"], _TILE[0]), len(gallery)), dtype=torch.bfloat16)
    buffer = torch.empty(_TILE[0] * _TILE[1], dtype=torch.bfloat16)
    for row in range(0, len(queries), _TILE[0]):
        part = queries[row : row + _TILE[0]]
        for column in range(0, len(gallery), _TILE[1]):
            block = gallery[column : column + _TILE[1]]
            out = buffer[: len(part) * len(block)].view(len(part), len(block))
            torch.mm(part, block.T, out=out)
            if row == 0:
                kept[:, column : column + len(block)] = out[: len(kept)]
    return np.asarray(kept.float().numpy())


def _sampled(inputs: Mapping[str, Any]) -> tuple[Array, Array]:
    """(first queries, gallery), read again where the competitor keeps them in a form of its own."""
    if "gallery" in inputs:
        return inputs["queries"][: inputs["sample"]], inputs["gallery"]
    folder = Path(inputs["folder"])
    return np.load(folder / "queries.npy")[: inputs["sample"]], np.load(folder / "gallery.npy", mmap_mode="r")


def check_exact(inputs: Mapping[str, Any], result: tuple[Array, Array]) -> Checked:
    """The definition to the last bit: ids and scores."""
    queries, gallery = _sampled(inputs)
    ids, scores = defined_top_k(queries, gallery, inputs["k"])
    wrong_ids = int((result[0][: len(ids)] != ids).sum())
    wrong_scores = int((result[1][: len(ids)] != scores).sum())
    words = f"{wrong_ids} of {ids.size} ids and {wrong_scores} scores differ from the definition"
    return Checked(not wrong_ids and not wrong_scores, words)


def check_rounded(inputs: Mapping[str, Any], result: tuple[Array, Array]) -> Checked:
    """Ids may differ from the definition inside ties and where float32 cannot tell, and nowhere else."""
    queries, gallery = _sampled(inputs)
    ids, scores = defined_top_k(queries, gallery, inputs["k"])
    given = result[0][: len(ids)]
    theirs = np.stack([gallery[row].astype(np.float64) @ query for row, query in zip(given, queries, strict=True)])
    distinct = all(len(set(row)) == len(row) for row in given.tolist())
    in_reach = np.abs(theirs - scores) <= FLOAT32_ROUNDING
    moved, missed = int((given != ids).sum()), int(sum(len(set(a) - set(b)) for a, b in zip(ids, given, strict=True)))
    words = f"{moved} of {ids.size} ids elsewhere, {missed} missed, in ties or float32 rounding"
    return Checked(bool(distinct and in_reach.all()), words)


def check_product(inputs: Mapping[str, Any], result: Array) -> Checked:
    """The scores are those of the vectors, to the rounding of the precision."""
    queries, gallery = _sampled(inputs)
    rounding = BF16_ROUNDING if "bf16" in inputs else FLOAT32_ROUNDING
    apart = float(np.abs(result - defined_scores(queries[: len(result)], gallery)).max())
    return Checked(apart <= rounding, f"scores at most {apart:.1g} apart")


def _facts(rows: Mapping[str, Row]) -> dict[str, float]:
    ours = rows["workbench"]
    return {f"{name} / workbench, seconds": row.over(ours) for name, row in rows.items() if row is not ours}
