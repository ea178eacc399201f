"""Scores, diagnostics, repairs and examples of a prepared collection, collected into results and findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workbench.datasets import Counts
from workbench.diagnostics.coverage import CoverageRow, TextCoverage, text_coverage
from workbench.diagnostics.duplicates import Duplicates, RepeatedCaptions, duplicates, repeated_captions
from workbench.diagnostics.gap import ModalityGap, modality_gap
from workbench.diagnostics.hubness import Hubness, hubness
from workbench.diagnostics.hubness import Measure as HubnessMeasure
from workbench.encoders import EncoderError
from workbench.encoders.encode import BatchInvariance
from workbench.evaluate import examples
from workbench.evaluate.examples import Example, Examples
from workbench.evaluate.instrument import (
    LEVEL,
    Check,
    Instrument,
    random_lists_check,
    shuffled_check,
    shuffled_truth,
)  # fmt: skip
from workbench.evaluate.prepare import Direction, Prepared
from workbench.evaluate.repairs import RepairOutcome, Repairs, repair_direction
from workbench.evaluate.scores import GroupScores, Scores, by_group, higher_is_better, hit_curve, score, tie_exposure
from workbench.meter import Meter
from workbench.metrics import MetricValues
from workbench.search import RankPositives, TopK, scan
from workbench.statistics import Interval
from workbench.types import Finding, Neighbours, Ranks

RESULT_TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        BatchInvariance, Check, Counts, CoverageRow, Duplicates, Example, Examples, GroupScores, Hubness,
        HubnessMeasure, Instrument, Interval, ModalityGap, RepairOutcome, Repairs, RepeatedCaptions, Scores,
        TextCoverage,
    )
}  # fmt: skip
ORDER = {"problem": 0, "look": 1, "not measurable": 2, "ok": 3}


@dataclass(frozen=True, eq=False)
class Ranked:
    """One direction after the scan: lists, ranks, scores, and the values of every metric per query."""

    direction: Direction
    lists: Neighbours
    ranks: Ranks
    scores: Scores
    values: Mapping[str, MetricValues]


@dataclass(frozen=True, eq=False)
class Analysis:
    """Everything a run folder is written from."""

    ranked: tuple[Ranked, Ranked]
    results: Mapping[str, Any]
    findings: tuple[Finding, ...]
    pictures: Mapping[str, bytes]


def analyse(
    prepared: Prepared,
    parameters: Mapping[str, Any],
    *,
    bank: Prepared | None = None,
    meter: Meter,
    say: Callable[[str], None] = lambda line: None,
) -> Analysis:
    """Run every analysis of the audit on prepared vectors; ``bank``: another split that estimates the repairs."""
    results: dict[str, Any] = {"counts": prepared.counts, "invariance": prepared.invariance}
    say("searching, exactly, in both directions")
    with meter.stage("searching"):
        ranked, checks = _search(prepared, parameters)
    with meter.stage("diagnosing"):
        say("hubness, modality gap, duplicates, captions")
        results.update(_scores(ranked, prepared, parameters))
        results.update(_diagnose(ranked, prepared, parameters))
        results["instrument"] = Instrument(tuple(checks))
    with meter.stage("repairing"):
        say("repairs: " + (", ".join(parameters["repairs"]) or "none asked for"))
        results["repairs"] = _repair(ranked, bank, parameters)
    with meter.stage("choosing examples"):
        shown = _examples(ranked, results, prepared)
        results.update({f"examples {name}": grid for name, grid in shown.items()})
        pictures = examples.thumbnails(prepared.collection, shown)
    found = _findings(ranked, results, prepared)
    return Analysis(ranked, results, tuple(sorted(found, key=lambda one: ORDER[one.verdict])), pictures)


def _search(prepared: Prepared, parameters: Mapping[str, Any]) -> tuple[tuple[Ranked, Ranked], list[Check]]:
    """One scan for both directions and for the shuffled truth of the instrument check."""
    forward, back = prepared.directions()
    seed = parameters["seed"]
    consumers: list[Any] = []
    for direction, of in ((forward, "queries"), (back, "gallery")):
        depth = min(max(parameters["depth"], parameters["k"]), len(direction.gallery))
        consumers += [
            TopK(depth, of=of, ids=direction.gallery.ids),  # type: ignore[arg-type]
            RankPositives(direction.relevance, of=of),  # type: ignore[arg-type]
            RankPositives(shuffled_truth(direction.relevance, seed=seed), of=of),  # type: ignore[arg-type]
        ]
    memory = parameters["memory_mb"] * 2**20
    found = scan(forward.queries.vectors, forward.gallery.vectors, consumers, memory=memory)
    ranked, checks = [], []
    how = {"seed": seed, "n_resamples": parameters["n_resamples"]}
    for direction, (lists, ranks, shuffled) in zip((forward, back), (found[:3], found[3:]), strict=True):
        scores, values = score(direction.name, ranks, direction.clusters, parameters["metrics"], **how)
        ranked.append(Ranked(direction, lists, ranks, scores, values))
        k = min(10, len(direction.gallery))
        on_shuffled, _ = score(direction.name, shuffled, direction.clusters, [f"hit@{k}"], **how, level=LEVEL)
        checks.append(shuffled_check(on_shuffled))
        if parameters["k"] <= len(direction.gallery):
            sizes = (len(direction.queries), len(direction.gallery), parameters["k"])
            checks.append(random_lists_check(*sizes, direction=direction.name, seed=seed))
    return (ranked[0], ranked[1]), checks


def _scores(ranked: tuple[Ranked, Ranked], prepared: Prepared, parameters: Mapping[str, Any]) -> dict[str, Any]:
    how = {"seed": parameters["seed"], "n_resamples": parameters["n_resamples"]}
    results: dict[str, Any] = {}
    for one in ranked:
        name = one.direction.name
        results[f"scores {name}"] = one.scores
        results[f"curve {name}"] = hit_curve(name, one.ranks, one.direction.clusters, **how)
    languages = prepared.collection.texts.columns.get("language")
    first = ranked[0]
    if languages is not None and len(set(languages.tolist())) > 1 and "hit@1" in first.values:
        label = f"{first.direction.name}/hit@1"
        results["languages"] = by_group(
            label, first.values["hit@1"].expected, languages.astype(str), first.direction.clusters, **how
        )
    return results


def _diagnose(ranked: tuple[Ranked, Ranked], prepared: Prepared, parameters: Mapping[str, Any]) -> dict[str, Any]:
    seed, collection = parameters["seed"], prepared.collection
    results: dict[str, Any] = {}
    for one in ranked:
        if parameters["k"] <= one.lists.k:
            name, lists = one.direction.name, shortened(one.lists, parameters["k"])
            results[f"hubness {name}"] = hubness(lists, direction=name, clusters=one.direction.clusters, seed=seed)
    if len(prepared.images) >= 2 and (collection.text_image >= 0).any():
        results["gap"] = modality_gap(
            prepared.images.vectors, prepared.texts.vectors, collection.text_image, seed=seed,
            n_resamples=parameters["n_resamples"],
        )  # fmt: skip
    results["duplicates"] = duplicates(
        prepared.image_digests, prepared.images.vectors, ids=prepared.images.ids, threshold=parameters["near_duplicate"]
    )
    if len(collection.texts.content):
        results["repeated captions"] = repeated_captions(
            collection.texts.content, collection.text_image, collection.relevance
        )
        coverage = _coverage(prepared)
        if coverage is not None:
            results["coverage"] = coverage
    return results


def _coverage(prepared: Prepared) -> TextCoverage | None:
    """Shares of captions cut or with unknown words, where the encoder can tell."""
    encoder, texts = prepared.encoder, list(prepared.collection.texts.content)
    if not hasattr(encoder, "truncated"):
        return None
    try:
        unknown = np.array([len(words) > 0 for words in encoder.unknown_words(texts)])
    except EncoderError:  # the vocabulary of the training is not stated
        unknown = None
    languages = prepared.collection.texts.columns.get("language")
    return text_coverage(encoder.truncated(texts), unknown, languages)


def shortened(lists: Neighbours, k: int) -> Neighbours:
    """The first k of longer lists; the k-th place is tied when the next one has its score."""
    if k == lists.k:
        return lists
    tied = lists.scores[:, k - 1] == lists.scores[:, k]
    return replace(lists, indices=lists.indices[:, :k], scores=lists.scores[:, :k], kth_tied=tied)


def _repair(ranked: tuple[Ranked, Ranked], bank: Prepared | None, parameters: Mapping[str, Any]) -> Repairs:
    metric = next((name for name in ranked[0].values if higher_is_better(name)), None)
    if metric is None or not parameters["repairs"]:
        return Repairs(())
    tried = [repair_direction(one.direction, metric, parameters, bank=bank) for one in ranked]
    outcomes = tuple(outcome for found, _ in tried for outcome in found)
    return Repairs(outcomes, tuple(note for _, notes in tried for note in notes)).corrected()


def _examples(ranked: tuple[Ranked, Ranked], results: Mapping[str, Any], prepared: Prepared) -> dict[str, Examples]:
    collection = prepared.collection
    forward, back = ranked
    shown = {
        "data": examples.first_items(collection),
        f"worst {forward.direction.name}": examples.worst_text_queries(collection, forward.ranks, forward.lists),
        f"worst {back.direction.name}": examples.worst_image_queries(collection, back.ranks, back.lists),
    }
    for one, show in ((forward, examples.hub_images), (back, examples.hub_texts)):
        found = results.get(f"hubness {one.direction.name}")
        if found is not None:
            items, counts = found.worst(examples.SHOWN)
            shown[f"hubs {one.direction.name}"] = show(
                collection, items.tolist(), counts.tolist(), found.k, found.mean_occurrence
            )
    if results["duplicates"].near:
        shown["pairs"] = examples.close_pairs(results["duplicates"].near)
    return shown


def _chance(scores: Scores, metric: str) -> float:
    return float(scores.chance[scores.metrics.index(metric)])


def _unmeasured(name: str, advice: str) -> Finding:
    return Finding(name, None, None, None, "", "not measurable", advice)


def _findings(ranked: tuple[Ranked, Ranked], results: Mapping[str, Any], prepared: Prepared) -> list[Finding]:
    from workbench.evaluate.data_findings import data_findings

    found: list[Finding] = []
    for one in ranked:
        found += one.scores.findings()
        if f"hubness {one.direction.name}" not in results:
            advice = f"Lists as long as asked for (k) do not exist in a gallery of {len(one.direction.gallery)} items."
            found.append(_unmeasured(f"{one.direction.name}/hubness", advice))
        found.append(tie_exposure(one.direction.name, one.ranks))
    found += data_findings(prepared)
    if "gap" not in results:
        found.append(_unmeasured("gap/separation", "It takes two images, and a text with an image of its own."))
    if "languages" in results:
        found.append(results["languages"].finding("language", _chance(ranked[0].scores, "hit@1")))
    for name, result in results.items():
        if name.startswith("hubness") or name in (
            "gap", "duplicates", "repeated captions", "coverage", "repairs", "instrument",
        ):  # fmt: skip
            found += result.findings()
    return found
