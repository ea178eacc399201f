"""Scores, diagnostics, repairs and examples of a prepared collection, collected into results and findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from workbench.datasets import BadItem, Counts
from workbench.diagnostics.coverage import CoverageRow, TextCoverage, text_coverage
from workbench.diagnostics.dimension import IntrinsicDimension
from workbench.diagnostics.duplicates import Duplicates, RepeatedCaptions, duplicates, repeated_captions
from workbench.diagnostics.exposure import Exposure
from workbench.diagnostics.gap import ModalityGap, modality_gap
from workbench.diagnostics.hub_causes import Cause, HubCauses, SharedWords
from workbench.diagnostics.hubness import Hubness, hubness
from workbench.diagnostics.hubness import Measure as HubnessMeasure
from workbench.diagnostics.slices import SliceScores
from workbench.encoders import EncoderError
from workbench.encoders.encode import BatchInvariance
from workbench.evaluate import examples
from workbench.evaluate.comparison import COMPARISON_TYPES
from workbench.evaluate.data_findings import data_findings
from workbench.evaluate.examples import Example, Examples
from workbench.evaluate.groups import slices_of
from workbench.evaluate.hub_analysis import BiasAndOccurrence, Domains
from workbench.evaluate.instrument import Check, Instrument
from workbench.evaluate.integrity import INTEGRITY_TYPES
from workbench.evaluate.integrity.labels import candidates
from workbench.evaluate.outcome import Analysis
from workbench.evaluate.prepare import Prepared
from workbench.evaluate.ranking import Ranked, first_places, rank
from workbench.evaluate.repairs import RepairOutcome, Repairs, Tuning, repair_direction
from workbench.evaluate.reproducibility import REPRODUCIBILITY_TYPES
from workbench.evaluate.scores import Scores, higher_is_better, hit_curve, tie_exposure
from workbench.meter import Meter
from workbench.normalize import BankDomain
from workbench.statistics import GroupDifference, Interval
from workbench.types import Embeddings, Finding

RESULT_TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        BadItem, BankDomain, BatchInvariance, BiasAndOccurrence, Cause, Check, Counts, CoverageRow, Domains, Duplicates,
        Example, Examples, Exposure, GroupDifference, HubCauses, Hubness, HubnessMeasure, Instrument, Interval,
        IntrinsicDimension, ModalityGap, RepairOutcome, Repairs, RepeatedCaptions, Scores, SharedWords, SliceScores,
        TextCoverage, Tuning, *COMPARISON_TYPES, *INTEGRITY_TYPES,
        *REPRODUCIBILITY_TYPES,
    )
}  # fmt: skip
SAY_SOMETHING = {"missing", "gap", "duplicates", "repeated", "coverage", "slices", "exposure", "repairs", "instrument"}
POOL = (
    "The gallery of the system is not known item by item; here it is what was returned or judged, which no random list "
    "is drawn from, so this is not judged. "
)


def analyse(
    prepared: Prepared,
    parameters: Mapping[str, Any],
    *,
    bank: Prepared | None = None,
    read: TextCoverage | None = None,
    meter: Meter,
    say: Callable[[str], None] = lambda line: None,
) -> Analysis:
    """Run every analysis of the audit on prepared vectors or lists.

    bank : another split that estimates the repairs. read : how the encoder read the texts (:func:`coverage`).
    """
    results: dict[str, Any] = {"counts": prepared.counts, "invariance": prepared.invariance}
    results["unreadable"] = prepared.collection.bad
    if read is not None:
        results["coverage"] = read
    say("searching, exactly" if prepared.collection.lists is None else "reading the ranked lists")
    with meter.stage("searching"):
        ranked, checks = rank(prepared, parameters)
    with meter.stage("diagnosing"):
        say("hubness, modality gap, duplicates, captions")
        results.update(_scores(ranked, prepared, parameters))
        results.update(_diagnose(ranked, prepared, parameters))
        results.update(slices_of(ranked, prepared.collection, parameters))
        if checks:
            results["instrument"] = Instrument(tuple(checks))
    with meter.stage("repairing"):
        say("repairs: " + (", ".join(parameters["repairs"]) or "none asked for"))
        results["repairs"] = _repair(ranked, bank, parameters)
    with meter.stage("choosing examples"):
        shown = _examples(ranked, results, prepared)
        results.update({f"examples {name}": grid for name, grid in shown.items()})
        pictures = examples.thumbnails(prepared.collection, shown)
    found = _findings(ranked, results, prepared)
    return Analysis.of(ranked, results, found, pictures)


def _scores(ranked: tuple[Ranked, ...], prepared: Prepared, parameters: Mapping[str, Any]) -> dict[str, Any]:
    how = {"seed": parameters["seed"], "n_resamples": parameters["n_resamples"]}
    results: dict[str, Any] = {}
    for one in ranked:
        name = one.direction.name
        results[f"scores {name}"] = one.scores
        if prepared.judged:
            lists = {"short_lists": parameters["short_lists"], "gallery_known": one.gallery_known}
            results[f"curve {name}"] = hit_curve(name, one.ranks, one.direction.clusters, **how, **lists)
    return results


def _diagnose(ranked: tuple[Ranked, ...], prepared: Prepared, parameters: Mapping[str, Any]) -> dict[str, Any]:
    seed, collection = parameters["seed"], prepared.collection
    results: dict[str, Any] = {}
    for one in ranked:
        queries, lists = first_places(one, parameters["k"])
        if lists is not None:
            name, clusters = one.direction.name, one.direction.clusters[queries]
            draws = 1000 if one.gallery_known else 100  # of a gallery of unknown size only the counts are shown
            results[f"hubness {name}"] = hubness(lists, direction=name, clusters=clusters, seed=seed, n_null=draws)
        if prepared.judged and "evidence" in parameters:
            results[f"missing {one.direction.name}"] = candidates(prepared, one, parameters["evidence"], parameters)
    images, texts = prepared.images, prepared.texts
    if isinstance(images, Embeddings) and isinstance(texts, Embeddings) and _all_point_somewhere(images, texts):
        if len(images) >= 2 and (collection.text_image >= 0).any():
            results["gap"] = modality_gap(
                images.vectors, texts.vectors, collection.text_image, seed=seed, n_resamples=parameters["n_resamples"]
            )
        threshold = parameters["near_duplicate"]
        results["duplicates"] = duplicates(
            prepared.image_digests, images.vectors, ids=images.ids, threshold=threshold, what=images.modality
        )
    if len(collection.texts.content) and not collection.one_way:
        results["repeated captions"] = repeated_captions(
            collection.texts.content, collection.text_image, collection.relevance
        )
    return results


def _all_point_somewhere(*sides: Embeddings) -> bool:
    """Whether no vector is zero: such a one has dot products, but no direction and no cosine."""
    return all(bool(side.vectors.any(axis=1).all()) for side in sides)


def coverage(prepared: Prepared, shown: Prepared) -> TextCoverage | None:
    """Shares of captions cut or with unknown words, where the encoder can tell; groups are named as in ``shown``."""
    encoder, texts = prepared.encoder, list(prepared.collection.texts.content)
    if not hasattr(encoder, "truncated") or not texts:
        return None
    try:
        unknown = np.array([len(words) > 0 for words in encoder.unknown_words(texts)])
    except (EncoderError, AttributeError):  # the vocabulary of the training is not stated
        unknown = None
    languages = shown.collection.texts.columns.get("language")
    return text_coverage(encoder.truncated(texts), unknown, languages)


def _repair(ranked: tuple[Ranked, ...], bank: Prepared | None, parameters: Mapping[str, Any]) -> Repairs:
    metric = next((name for name in ranked[0].values if higher_is_better(name)), None)
    if metric is None or not parameters["repairs"] or not isinstance(ranked[0].direction.queries, Embeddings):
        return Repairs(())
    if not ranked[0].direction.relevance.n_positives:
        return Repairs((), ("Nothing is known to be right, so no repair can be judged.",))
    tried = [repair_direction(one.direction, metric, parameters, bank=bank) for one in ranked]
    outcomes = tuple(outcome for found, _ in tried for outcome in found)
    return Repairs(outcomes, tuple(note for _, notes in tried for note in notes)).corrected()


def _examples(ranked: tuple[Ranked, ...], results: Mapping[str, Any], prepared: Prepared) -> dict[str, Examples]:
    collection = prepared.collection
    shown = {"data": examples.first_items(collection)}
    for number, one in enumerate(ranked):
        name = one.direction.name
        sides = (collection.texts, collection.images) if number == 0 else (collection.images, collection.texts)
        queries, lists = first_places(one, 1)
        if lists is not None:
            first = np.full(one.ranks.n_queries, -1)
            first[queries] = lists.indices[:, 0]
            shown[f"worst {name}"] = examples.worst_queries(*sides, one.direction.relevance, one.ranks, first)
        found = results.get(f"hubness {name}")
        if found is not None:
            items, counts = found.worst(examples.SHOWN)
            places = (items.tolist(), counts.tolist(), found.k, found.mean_occurrence)
            shown[f"hubs {name}"] = examples.hubs(collection, sides[1], *places)
    if "duplicates" in results and results["duplicates"].near:
        shown["pairs"] = examples.close_pairs(collection.images, results["duplicates"].near)
    return shown


def _unmeasured(name: str, advice: str) -> Finding:
    return Finding(name, None, None, None, "", "not measurable", advice)


def _findings(ranked: tuple[Ranked, ...], results: Mapping[str, Any], prepared: Prepared) -> list[Finding]:
    found = data_findings(prepared)
    for one in ranked:
        found += [*one.scores.findings(), *_crowding(one, results), tie_exposure(one.direction.name, one.ranks)]
    if "gap" not in results:
        found.append(
            _unmeasured(
                "gap/separation", "It takes two images and a text of one of them, as vectors, none of them zero."
            )
        )
    if "duplicates" not in results:
        found.append(
            _unmeasured("duplicates/items", "Copies are told by vectors: there are none here, or one is zero.")
        )
    for name, result in results.items():
        if name.split()[0] in SAY_SOMETHING:
            said = result.findings()
            if isinstance(result, Exposure) and prepared.collection.lists is not None:
                said = [_of_a_pool(one) for one in said]
            found += said
    return found


def _of_a_pool(one: Finding) -> Finding:
    """Exposure in lists, without a verdict: shares of a gallery that only the lists make known."""
    if one.value is None:
        return one
    return replace(one, verdict="not measurable", threshold=None, advice=POOL + one.advice)


def _crowding(one: Ranked, results: Mapping[str, Any]) -> list[Finding]:
    """The verdict on hubness; of a gallery of unknown size only what was counted."""
    label, found = f"{one.direction.name}/hubness", results.get(f"hubness {one.direction.name}")
    if found is None:
        return [_unmeasured(label, "Lists as long as asked for (k) do not exist here: choose a smaller k.")]
    if one.gallery_known:
        return list(found.findings())
    share, source = found.measure("hub_share").value, "unknown: the gallery of the system is not stated"
    advice = (
        f"Among the {found.n_gallery:,} items that were returned or judged, {len(found.hubs):,} are in "
        f"{found.hub_threshold:,} or more of {found.n_queries:,} lists of {found.k} and hold {share:.1%} of all "
        "places. Whether chance gives as much depends on the size of the gallery: pass gallery_size=N if you know it."
    )
    return [Finding(label, share, None, None, source, "not measurable", advice, "%")]
