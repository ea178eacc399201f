"""A whole evaluation of images with five captions each, beside dense recipes, and how its time grows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.inputs import Array, World, defined_ranks, defined_scores, defined_top_k, directions, near
from tests.benchmarks.measure import LATE_IMPORTS, Checked, Competitor, Group, Row
from tests.benchmarks.recipes import DIRECTIONS, clip_recipe, counted_recipe, sorted_recipe
from workbench.metrics import aggregate, per_query_all
from workbench.search import LogSumExp, RankPositives, TopK, k_occurrence, scan
from workbench.types import Neighbours, Ranks, Relevance

SIZES = {"tiny": (60, 16), "small": (1000, 512), "full": (5000, 512)}
"""Images and dimensions; five captions per image, so that full is COCO's test split of 5,000 images."""
CAPTIONS = 5
METRICS = ("hit@1", "hit@5", "hit@10", "R@1", "R@5", "R@10", "MRR", "MedR", "MeanR", "AP@10", "nDCG@10")
"""The defaults of an audit."""
BETAS = (50.0, 20.0, 100.0)
K = 10
SAMPLE = 40
FLOAT32_ROUNDING = 1e-6
_OURS = ("workbench.search", "workbench.metrics")


def groups(size: str, world: World, folder: Path) -> Iterator[Group]:
    n_images, dim = SIZES[size]
    n_texts, also = CAPTIONS * n_images, () if size == "tiny" else LATE_IMPORTS
    write(folder, n_images, dim, world)
    shape = f"{n_texts} captions x {n_images} images x {dim} ({world})"
    yield Group(
        f"both directions of {shape}: {len(METRICS)} metrics, k-occurrence, log-sum-exp",
        _competitors({"folder": str(folder)}, also),
        tolerance=max(2e-3, 3 / n_images),
        facts=_facts,
    )
    for name, sizes in (("captions", _sizes(n_texts)), ("images", _sizes(n_images))):
        several = [{"folder": str(folder), f"n_{name}": n} for n in sizes]
        rows = tuple(
            Competitor(f"{n} {name}", load, evaluate, check_lists, settings, _OURS, also)
            for n, settings in zip(sizes, several, strict=True)
        )
        yield Group(f"time against {name}: {shape}", rows, facts=_growth)
    for what, work in (("ranks only", rank), ("with all metrics", rank_and_score)):
        rows = tuple(
            Competitor(f"{p} positives", load, work, check_ranks, {"folder": str(folder), "positives": p}, _OURS, also)
            for p in (1, 5, min(50, n_images - 1))
        )
        yield Group(f"time against positives per caption, {what}: {shape}", rows, facts=_growth)


def _sizes(n: int) -> tuple[int, ...]:
    return (n, n // 2, n // 4)


def write(folder: Path, n_images: int, dim: int, world: World) -> None:
    rng = np.random.default_rng(n_images)
    images = directions(rng, n_images, dim, world)
    np.save(folder / "images.npy", images)
    np.save(folder / "texts.npy", near(rng, images[np.arange(CAPTIONS * n_images) // CAPTIONS], 4.0, world))


def _competitors(settings: Mapping[str, Any], also: tuple[str, ...]) -> tuple[Competitor, ...]:
    more = {**settings, "n_betas": len(BETAS)}
    return (
        Competitor("workbench", load, evaluate, check_exact, settings, _OURS, also),
        Competitor(f"workbench, {len(BETAS)} temperatures", load, evaluate, check_exact, more, _OURS, also),
        Competitor("float32 product only", load_with_room, product, check_product, settings),
        Competitor("dense numpy, sorted", load, dense_sorted, check_dense, settings, ("scipy.special",)),
        Competitor("dense numpy, counted", load, dense_counted, check_dense, settings, ("scipy.special",)),
        Competitor("CLIP_benchmark's recipe (recall only)", load, dense_clip, check_numbers, settings, ("torch",)),
    )


def load(
    *, folder: str, n_captions: int | None = None, n_images: int | None = None, positives: int = 1, n_betas: int = 1
) -> dict[str, Any]:
    """Vectors, the images (n_texts, positives) of each caption, and the same as Relevance."""
    texts = np.load(Path(folder) / "texts.npy")[:n_captions]
    images = np.load(Path(folder) / "images.npy")[:n_images]
    spread = max(1, len(images) // positives)
    own = (np.arange(len(texts))[:, None] // CAPTIONS + spread * np.arange(positives)) % len(images)
    relevance = Relevance.from_pairs(
        np.repeat(np.arange(len(texts)), positives), own.ravel(), n_queries=len(texts), n_gallery=len(images)
    )
    return {"texts": texts, "images": images, "own": own, "relevance": relevance, "betas": BETAS[:n_betas]}


def evaluate(inputs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """One scan, then metrics and k-occurrence of both directions."""
    relevance = inputs["relevance"]
    consumers: list[Any] = []
    for side, truth in (("queries", relevance), ("gallery", relevance.T)):
        consumers += [RankPositives(truth, of=side), TopK(K, of=side)]
        consumers += [LogSumExp(beta, of=side) for beta in inputs["betas"]]
    found = scan(inputs["texts"], inputs["images"], consumers)
    half = len(found) // 2
    parts = found[:half], found[half:]
    return {name: _finished(*part) for name, part in zip(DIRECTIONS, parts, strict=True)}


def _finished(ranks: Ranks, lists: Neighbours, *log_sums: Array) -> dict[str, Any]:
    return {"ranks": ranks, "lists": lists, "log_sum": log_sums[0], "metrics": _metrics(ranks),
            "occurrence": k_occurrence(lists)}  # fmt: skip


def _metrics(ranks: Ranks) -> dict[str, float]:
    return {name: aggregate(name, found.expected) for name, found in per_query_all(METRICS, ranks).items()}


def rank(inputs: Mapping[str, Any]) -> dict[str, Ranks]:
    relevance = inputs["relevance"]
    wanted = [RankPositives(relevance), RankPositives(relevance.T, of="gallery")]
    return dict(zip(DIRECTIONS, scan(inputs["texts"], inputs["images"], wanted), strict=True))


def rank_and_score(inputs: Mapping[str, Any]) -> dict[str, Ranks]:
    found = rank(inputs)
    for ranks in found.values():
        _metrics(ranks)
    return found


def load_with_room(*, folder: str) -> dict[str, Any]:
    found = load(folder=folder)
    return {**found, "room": np.empty((len(found["texts"]), len(found["images"])), np.float32)}


def product(inputs: Mapping[str, Any]) -> Array:
    """Into memory that is there already: what no evaluation with a matrix product can do without."""
    return np.asarray(np.matmul(inputs["texts"], inputs["images"].T, out=inputs["room"]))


def _both(inputs: Mapping[str, Any], recipe: Any) -> dict[str, dict[str, Any]]:
    scores = inputs["texts"] @ inputs["images"].T
    captions = np.arange(len(inputs["texts"])).reshape(-1, CAPTIONS)
    beta = inputs["betas"][0]
    return {"t2i": recipe(scores, inputs["own"], beta), "i2t": recipe(scores.T, captions, beta)}


def dense_sorted(inputs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return _both(inputs, sorted_recipe)


def dense_counted(inputs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return _both(inputs, counted_recipe)


def dense_clip(inputs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    import torch

    texts, images, own = (torch.from_numpy(inputs[name]) for name in ("texts", "images", "own"))
    return {name: {"metrics": found} for name, found in clip_recipe(texts, images, own[:, 0]).items()}


def _numbers(result: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """What competitors must agree on, to the float32 rounding of a few ranks."""
    numbers = {}
    for name, found in result.items():
        numbers |= {f"{name}/{metric}": float(value) for metric, value in found["metrics"].items()}
        if "occurrence" in found:
            numbers[f"{name}/k-occurrence, mean square"] = float((found["occurrence"].astype(float) ** 2).mean())
            numbers[f"{name}/log-sum-exp, mean"] = float(np.mean(found["log_sum"]))
    return numbers


def _sides(inputs: Mapping[str, Any], name: str) -> tuple[Array, Array]:
    """(first queries, gallery) of a direction."""
    sides = inputs["texts"], inputs["images"]
    queries, gallery = sides if name == "t2i" else sides[::-1]
    return queries[:SAMPLE], gallery


def check_numbers(inputs: Mapping[str, Any], result: Mapping[str, Any]) -> Checked:
    return Checked(True, "", _numbers(result))


def _log_sum_apart(inputs: Mapping[str, Any], name: str, given: Array) -> float:
    from scipy.special import logsumexp

    beta = inputs["betas"][0]
    expected = logsumexp(beta * defined_scores(*_sides(inputs, name)), axis=1) / beta
    return float(np.abs(given[: len(expected)] - expected).max())


def _wrong_ranks(inputs: Mapping[str, Any], found: Mapping[str, Ranks]) -> int:
    """Positives of the first queries of both directions whose counts are not those of the definition."""
    wrong = 0
    for name, ranks in found.items():
        queries, gallery = _sides(inputs, name)
        for query in range(len(queries)):
            part = slice(ranks.indptr[query], ranks.indptr[query + 1])
            better, tied = defined_ranks(queries[query : query + 1], gallery, ranks.items[part][None])
            wrong += int(((ranks.better[part] != better[0]) | (ranks.tied[part] != tied[0])).sum())
    return wrong


def check_ranks(inputs: Mapping[str, Any], result: Mapping[str, Ranks]) -> Checked:
    wrong = _wrong_ranks(inputs, result)
    return Checked(not wrong, f"{wrong} ranks of the first {SAMPLE} queries differ from the definition")


def check_exact(inputs: Mapping[str, Any], result: Mapping[str, Any]) -> Checked:
    return replace(check_lists(inputs, result), numbers=_numbers(result))


def check_lists(inputs: Mapping[str, Any], result: Mapping[str, Any]) -> Checked:
    """Ranks and lists of the first queries to the last bit, log-sums to 1e-9."""
    ranks = _wrong_ranks(inputs, {name: found["ranks"] for name, found in result.items()})
    ids, apart = 0, 0.0
    for name, found in result.items():
        expected, scores = defined_top_k(*_sides(inputs, name), K)
        given = found["lists"]
        ids += int((given.indices[: len(expected)] != expected).sum() + (given.scores[: len(scores)] != scores).sum())
        apart = float(np.maximum(apart, _log_sum_apart(inputs, name, found["log_sum"])))
    words = f"{ranks} ranks and {ids} list entries differ from the definition, log-sums by {apart:.1g}"
    return Checked(not ranks and not ids and apart <= 1e-9, words)


def check_dense(inputs: Mapping[str, Any], result: Mapping[str, Any]) -> Checked:
    """Ranks may be off where float32 cannot tell two scores apart, and nowhere else."""
    impossible, moved, apart = 0, 0, 0.0
    for name, found in result.items():
        queries, gallery = _sides(inputs, name)
        scores = defined_scores(queries, gallery)
        positives = inputs["own"] if name == "t2i" else np.arange(len(inputs["texts"])).reshape(-1, CAPTIONS)
        for row, items, ranks in zip(scores, positives, found["ranks"], strict=False):
            least = (row > row[items][:, None] + FLOAT32_ROUNDING).sum(axis=1) + 1
            most = (row > row[items][:, None] - FLOAT32_ROUNDING).sum(axis=1)
            impossible += int(((ranks < least) | (ranks > most)).sum())
            moved += int((ranks != (row > row[items][:, None]).sum(axis=1) + 1).sum())
        apart = float(np.maximum(apart, _log_sum_apart(inputs, name, found["log_sum"])))
    words = f"{moved} ranks moved by float32 rounding, {impossible} wrong, log-sums {apart:.1g} apart"
    return Checked(not impossible and apart <= FLOAT32_ROUNDING, words, _numbers(result))


def check_product(inputs: Mapping[str, Any], result: Array) -> Checked:
    apart = float(np.abs(result[:SAMPLE] - defined_scores(*_sides(inputs, "t2i"))).max())
    return Checked(apart <= FLOAT32_ROUNDING, f"scores at most {apart:.1g} apart")


def _facts(rows: Mapping[str, Row]) -> dict[str, float]:
    ours, dot = rows["workbench"], rows["float32 product only"]
    more = rows[f"workbench, {len(BETAS)} temperatures"]
    facts = {
        "workbench / one float32 product, seconds": ours.over(dot),
        "each further temperature in both directions / one float32 product": (more.over(dot) - ours.over(dot))
        / (len(BETAS) - 1),
    }
    for name, row in rows.items():
        if not name.startswith("workbench") and row is not dot:
            facts[f"{name} / workbench, seconds"] = row.over(ours)
            facts[f"{name} / workbench, memory"] = row.resident / max(ours.resident, 1)
    return facts


def _growth(rows: Mapping[str, Row]) -> dict[str, float]:
    """Seconds per unit beside those of the first row; for positives per caption, plain seconds."""
    first, *others = rows.values()
    facts = {}
    for row in others:
        facts[f"{row.name} / {first.name}, seconds"] = row.over(first)
        if "positives" not in row.name:
            share = int(row.name.split()[0]) / int(first.name.split()[0])
            facts[f"{row.name} / {first.name}, seconds per item"] = row.over(first) / share
    return facts
