"""Metrics per query of a run of ranked lists: this package, ranx (compiled before it is timed) and ir_measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.inputs import Array, World
from tests.benchmarks.measure import Checked, Competitor, Group, Row
from tests.reference import metric_of_list
from workbench.metrics import per_query_all, ranks_from_lists
from workbench.types import RankedLists, Relevance

SIZES = {"tiny": (200, 20, 500), "small": (10_000, 100, 100_000), "full": (50_000, 100, 100_000)}
"""Queries, results per query, items in the gallery."""
SAMPLE = 200
SLACK = 1e-9
NAMES = {
    "hit@10": ("hit_rate@10", "Success@10"),
    "R@10": ("recall@10", "R@10"),
    "P@10": ("precision@10", "P@10"),
    "AP": ("map", "AP"),
    "nDCG@10": ("ndcg@10", "nDCG@10"),
    "MRR": ("mrr", "RR"),
}
"""Our name -> that of ranx and that of ir_measures."""


def groups(size: str, world: World, folder: Path) -> Iterator[Group]:
    n_queries, depth, n_gallery = SIZES[size]
    write(folder, n_queries, depth, n_gallery)
    settings = {"folder": str(folder)}
    yield Group(
        f"{len(NAMES)} metrics per query: {n_queries} queries x {depth} results (prepare s: conversion from arrays)",
        (
            Competitor("workbench", prepare_ours, ours, check, settings, ("workbench.metrics",)),
            Competitor("ranx", prepare_ranx, with_ranx, check_ranx, settings, ("ranx",), (), compile_ranx),
            Competitor("ir_measures", prepare_ir, with_ir, check_ir, settings, ("ir_measures",)),
        ),
        facts=_facts,
    )


def write(folder: Path, n_queries: int, depth: int, n_gallery: int) -> None:
    """Distinct scores, so that no tie rule matters; 1 to 5 positives per query, about half of them in the list."""
    rng = np.random.default_rng(n_queries)
    first, step = rng.integers(0, n_gallery, (n_queries, 1)), rng.integers(1, n_gallery // (2 * depth), (n_queries, 1))
    items = (first + step * np.arange(depth)) % n_gallery
    falling = -np.cumsum(rng.random((n_queries, depth)) + 1e-3, axis=1)
    own, place = np.divmod(np.arange(5 * n_queries), 5)
    place = 2 * depth * place // 5 + rng.integers(0, 2 * depth // 5, len(place))
    positives = (first[own, 0] + step[own, 0] * place) % n_gallery
    kept = rng.random(len(own)) < 0.6
    kept[::5] = True
    np.savez(folder / "lists.npz", items=items, scores=falling, queries=own[kept], positives=positives[kept],
             n_gallery=n_gallery)  # fmt: skip


def _arrays(folder: str) -> dict[str, Array]:
    with np.load(Path(folder) / "lists.npz") as file:
        return dict(file)


def _query(number: int) -> str:
    """All of one length: ranx compiles its conversion again for every length of an id."""
    return f"q{number:06d}"


def _item(number: int) -> str:
    return f"d{number:06d}"


def _judgements(a: Mapping[str, Array]) -> dict[str, dict[str, int]]:
    judged: dict[str, dict[str, int]] = {}
    for query, item in zip(a["queries"].tolist(), a["positives"].tolist(), strict=True):
        judged.setdefault(_query(query), {})[_item(item)] = 1
    return judged


def _run(a: Mapping[str, Array]) -> dict[str, dict[str, float]]:
    return {
        _query(query): {_item(item): score for item, score in zip(items, scores, strict=True)}
        for query, (items, scores) in enumerate(zip(a["items"].tolist(), a["scores"].tolist(), strict=True))
    }


def prepare_ours(*, folder: str) -> dict[str, Any]:
    a = _arrays(folder)
    n_queries, depth = a["items"].shape
    n_gallery = int(a["n_gallery"])
    lists = RankedLists(np.arange(n_queries + 1) * depth, a["items"].ravel(), a["scores"].ravel(), n_gallery)
    relevance = Relevance.from_pairs(a["queries"], a["positives"], n_queries=n_queries, n_gallery=n_gallery)
    return {"folder": folder, "lists": lists, "relevance": relevance}


def ours(inputs: Mapping[str, Any]) -> dict[str, Array]:
    ranks = ranks_from_lists(inputs["lists"], inputs["relevance"])
    return {name: found.expected for name, found in per_query_all(list(NAMES), ranks, short_lists="as is").items()}


def prepare_ranx(*, folder: str) -> dict[str, Any]:
    import ranx

    a = _arrays(folder)
    return {"folder": folder, "qrels": ranx.Qrels(_judgements(a)), "run": ranx.Run(_run(a))}


def check_ranx(inputs: Mapping[str, Any], result: Mapping[str, Array]) -> Checked:
    by_query = np.argsort([int(query[1:]) for query in inputs["run"].keys()])  # noqa: SIM118 (not a dict)
    return check(inputs, {name: result[theirs][by_query] for name, (theirs, _) in NAMES.items()})


def compile_ranx() -> None:
    """Its functions are compiled at the first call, for half a minute; users pay that once a session."""
    import ranx

    run = {_query(n): {_item(1): 1.0, _item(2): 0.5} for n in range(2)}
    judged = {query: {_item(1): 1} for query in run}
    with_ranx({"qrels": ranx.Qrels(judged), "run": ranx.Run(run)})


def with_ranx(inputs: Mapping[str, Any]) -> dict[str, Array]:
    from ranx import evaluate

    theirs = [name for name, _ in NAMES.values()]
    found: dict[str, Array] = evaluate(
        inputs["qrels"], inputs["run"], theirs, return_mean=False, save_results_in_run=False
    )
    return found


def prepare_ir(*, folder: str) -> dict[str, Any]:
    import ir_measures

    a = _arrays(folder)
    theirs = {ir_measures.parse_measure(key): name for name, (_, key) in NAMES.items()}
    judged = ir_measures.evaluator(list(theirs), _judgements(a))
    return {"folder": folder, "measures": theirs, "evaluator": judged, "run": _run(a)}


def with_ir(inputs: Mapping[str, Any]) -> list[Any]:
    return list(inputs["evaluator"].iter_calc(inputs["run"]))


def check_ir(inputs: Mapping[str, Any], result: list[Any]) -> Checked:
    values = {name: np.full(len(inputs["run"]), np.nan) for name in NAMES}
    for found in result:
        values[inputs["measures"][found.measure]][int(found.query_id[1:])] = found.value
    return check(inputs, values)


def check(inputs: Mapping[str, Any], result: Mapping[str, Array]) -> Checked:
    """A sample of queries counted place by place; the means are held against the other competitors'."""
    a = _arrays(inputs["folder"])
    positives = [a["positives"][a["queries"] == query] for query in range(min(SAMPLE, len(a["items"])))]
    apart = {name: np.zeros(len(positives)) for name in result}
    for query, own in enumerate(positives):
        grades = np.isin(a["items"][query], own).astype(float).tolist()
        for name, values in result.items():
            apart[name][query] = abs(values[query] - metric_of_list(name, grades, len(own), [1.0] * len(own)))
    wrong = [name for name, values in apart.items() if not values.max() <= SLACK]
    largest = np.max([values.max() for values in apart.values()])
    words = (
        f"{len(positives)} queries recounted, largest difference {largest:.1g}{' in ' * bool(wrong)}{', '.join(wrong)}"
    )
    return Checked(not wrong, words, {name: float(values.mean()) for name, values in result.items()})


def _facts(rows: Mapping[str, Row]) -> dict[str, float]:
    ours_row = rows["workbench"]
    others = {name: row for name, row in rows.items() if row is not ours_row}
    return {f"{name} / workbench, seconds": row.over(ours_row) for name, row in others.items()} | {
        f"{name} / workbench, conversion included": (row.median + row.prepare_seconds)
        / (ours_row.median + ours_row.prepare_seconds)
        for name, row in others.items()
    }
