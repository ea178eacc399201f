"""What the hubness report shows: how uneven retrieval is, what goes with it, and which repair is worth having."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from workbench.diagnostics.coverage import TextCoverage
from workbench.diagnostics.dimension import mle_dimension, two_nn
from workbench.diagnostics.hub_causes import hub_causes, shared_words
from workbench.diagnostics.hubness import Hubness, hubness
from workbench.evaluate import examples
from workbench.evaluate.banks import parts_of
from workbench.evaluate.outcome import Analysis
from workbench.evaluate.prepare import Direction, Prepared
from workbench.evaluate.ranking import Ranked, first_places, rank
from workbench.evaluate.repairs import Repairs, Tuning, compare_repairs
from workbench.meter import Meter
from workbench.normalize import METHODS, BankDomain, Repair, bank_domain
from workbench.search import TopK, same_items, scan
from workbench.types import Embeddings, Finding, FloatArray, IntArray

SHOWN_BIAS = "inverted softmax"
MOST_POINTS = 20_000
"""Items of which the intrinsic dimension is estimated; it looks at all pairs."""


@dataclass(frozen=True, eq=False)
class BiasAndOccurrence:
    """The bias that a repair gives each item beside how often it is retrieved: the picture that explains both.

    items : indices in the gallery (of one half, where banks are cross-fitted). correlation : Spearman's.
    """

    direction: str
    repair: str
    items: IntArray
    bias: FloatArray
    occurrence: IntArray
    correlation: float


@dataclass(frozen=True, eq=False)
class Domains:
    """Per direction, whether the bank comes from where the queries come from."""

    of: Mapping[str, BankDomain]

    def findings(self) -> list[Finding]:
        return [_domain_finding(name, found) for name, found in self.of.items()]


def chosen_methods(parameters: Mapping[str, Any]) -> list[str]:
    """The repairs asked for; "all" is every one in the registry."""
    asked = parameters["methods"]
    return list(METHODS) if "all" in asked else list(asked)


def analyse_hubness(
    prepared: Prepared, parameters: Mapping[str, Any], *, bank: Prepared | None = None,
    read: TextCoverage | None = None, meter: Meter, say: Callable[[str], None] = lambda line: None,
) -> Analysis:  # fmt: skip
    """Rankings, results, findings and pictures of the report. bank : another split that estimates the repairs."""
    if not isinstance(prepared.images, Embeddings) or not isinstance(prepared.texts, Embeddings):
        raise ValueError("the hubness report repairs vectors, and these data are ranked lists; use the audit report")
    results: dict[str, Any] = {"counts": prepared.counts, "unreadable": prepared.collection.bad}
    say("searching, exactly")
    with meter.stage("searching"):
        ranked, _ = rank(prepared, parameters)
    with meter.stage("diagnosing"):
        say("hubness between and within the two sides")
        results |= {f"scores {one.direction.name}": one.scores for one in ranked}
        results |= _diagnosed(ranked, prepared, parameters)
    with meter.stage("repairing"):
        names = chosen_methods(parameters)
        say("repairs: " + ", ".join(names))
        results |= _repaired(ranked, names, bank, parameters)
    with meter.stage("choosing examples"):
        shown = _hub_examples(ranked, results, prepared)
        results |= {f"examples {name}": grid for name, grid in shown.items()}
        pictures = examples.thumbnails(prepared.collection, shown)
    findings = [said for name, result in results.items() if isinstance(result, Hubness) for said in result.findings()]
    findings += [*results["repairs"].findings(), *results["domains"].findings(), *_optimism(results["tunings"])]
    return Analysis.of(ranked, results, findings, pictures)


def _diagnosed(ranked: tuple[Ranked, ...], prepared: Prepared, parameters: Mapping[str, Any]) -> dict[str, Any]:
    seed, results = parameters["seed"], {}
    for one in ranked:
        _, lists = first_places(one, parameters["k"])
        if lists is None:
            continue
        direction, name = one.direction, one.direction.name
        results[f"hubness {name}"] = hubness(lists, direction=name, clusters=direction.clusters, seed=seed)
        if _describable(direction):
            scored = one.values.get(parameters["metrics"][0])
            results[f"causes {name}"] = hub_causes(
                lists, direction.gallery.vectors, direction.queries.vectors, direction=name,  # type: ignore[union-attr]
                clusters=direction.clusters, gallery_clusters=direction.gallery_clusters,
                relevance=direction.relevance, values=None if scored is None else scored.expected,
                n_resamples=parameters["n_resamples"], seed=seed,
            )  # fmt: skip
        words = _words(direction, results[f"hubness {name}"], prepared)
        if words is not None:
            results[f"words {name}"] = words
    for side in (prepared.images, prepared.texts):
        assert isinstance(side, Embeddings)
        results |= _within(side, parameters)
    return results


def _describable(direction: Direction) -> bool:
    """Whether every vector has a direction, and there are two of each kind: else there is nothing to correlate."""
    sides = direction.queries, direction.gallery
    return all(len(side) > 1 and bool(side.vectors.any(axis=1).all()) for side in sides)  # type: ignore[union-attr]


def _within(side: Embeddings, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Hubness of one side among itself, without self-matches, and its intrinsic dimension."""
    k, letter = parameters["k"], side.modality[0]
    if len(side) <= k + 1:
        return {}
    wanted = TopK(k, ids=side.ids, exclude=same_items(side.ids, side.ids))
    (lists,) = scan(side.vectors, side.vectors, [wanted], memory=parameters["memory_mb"] * 2**20)
    found: dict[str, Any] = {
        f"hubness {letter}2{letter}": hubness(lists, direction=f"{letter}2{letter}", seed=parameters["seed"])
    }
    points = side.vectors[:MOST_POINTS]
    for name, estimate in (("two-nn", two_nn), ("mle", mle_dimension)):
        try:
            found[f"dimension {side.modality} {name}"] = estimate(points)
        except ValueError:  # too few different vectors
            continue
    return found


def _words(direction: Direction, found: Hubness, prepared: Prepared) -> Any:
    """Words that the captions of hubs share; of a picture, the captions that belong to it."""
    texts, own = prepared.collection.texts.content, prepared.collection.text_image
    if not len(texts) or not len(found.hubs):
        return None
    items = np.arange(len(texts)) if direction.gallery.modality == prepared.texts.modality else own
    known = np.flatnonzero(items >= 0)
    try:
        return shared_words([str(texts[i]) for i in known], found.hubs, item_of=items[known])
    except ValueError:  # no hub, or nothing but hubs, has a caption
        return None


def _repaired(
    ranked: tuple[Ranked, ...], names: list[str], bank: Prepared | None, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    outcomes, notes, tunings, domains, results = [], [], [], {}, {}
    for one in ranked:
        if not one.direction.relevance.n_positives:
            notes.append(f"{one.direction.name}: nothing is known to be right, so no repair can be judged.")
            continue
        found, said, chosen = compare_repairs(
            one.direction, parameters["metrics"], names, parameters, bank=bank, tuning=parameters["tune"]
        )
        outcomes, notes, tunings = outcomes + found, notes + said, tunings + chosen
        try:
            part = parts_of(one.direction, bank, parameters)[0]
            scored = one.direction.queries.vectors[part.queries]  # type: ignore[union-attr]
            domains[one.direction.name] = bank_domain(
                part.validation.queries, scored, bank_clusters=part.validation.clusters,
                clusters=one.direction.clusters[part.queries], seed=parameters["seed"],
            )  # fmt: skip
            results[f"bias {one.direction.name}"] = _bias_and_occurrence(one.direction, part, parameters)
        except ValueError as error:
            notes.append(f"{one.direction.name}: {error}.")
    repairs = Repairs(tuple(outcomes), tuple(notes)).corrected()
    return {"repairs": repairs, "tunings": tuple(tunings), "domains": Domains(domains), **results}


def _bias_and_occurrence(direction: Direction, part: Any, parameters: Mapping[str, Any]) -> BiasAndOccurrence:
    queries, gallery = direction.queries.vectors[part.queries], direction.gallery.vectors[part.items]  # type: ignore[union-attr]
    bias = Repair(SHOWN_BIAS).fit(gallery, part.bank).bias
    (lists,) = scan(queries, gallery, [TopK(min(parameters["k"], len(gallery)))])
    counts = np.bincount(lists.indices.ravel(), minlength=len(gallery))
    constant = np.ptp(bias) == 0 or np.ptp(counts) == 0
    correlation = float("nan") if constant else float(spearmanr(bias, counts).statistic)
    return BiasAndOccurrence(direction.name, SHOWN_BIAS, part.items, bias, counts, correlation)


def _hub_examples(ranked: tuple[Ranked, ...], results: Mapping[str, Any], prepared: Prepared) -> dict[str, Any]:
    collection, shown = prepared.collection, {}
    for number, one in enumerate(ranked):
        found = results.get(f"hubness {one.direction.name}")
        if found is not None:
            sides = (collection.texts, collection.images) if number == 0 else (collection.images, collection.texts)
            items, counts = found.worst(examples.SHOWN)
            places = (items.tolist(), counts.tolist(), found.k, found.mean_occurrence)
            shown[f"hubs {one.direction.name}"] = examples.hubs(collection, sides[1], *places)
    return shown


def _domain_finding(direction: str, found: BankDomain) -> Finding:
    told = f"A classifier tells bank and scored queries apart with a held-out AUC of {found.auc:.2f} (0.5: not at all)"
    source = "convention of this project: kernel two-sample p above 0.01, or a held-out AUC below 0.6"
    if found.in_domain:
        return Finding(f"{direction}/bank domain", found.auc, None, 0.6, source, "ok", f"{told}.")
    advice = f"{told}, so the bank is of another kind: a repair from it can hurt. Use queries like those to be scored."
    return Finding(f"{direction}/bank domain", found.auc, None, 0.6, source, "look", advice)


def _optimism(tunings: tuple[Tuning, ...]) -> list[Finding]:
    """One finding: the most that choosing a parameter on the scored queries would have pretended."""
    if not tunings:
        return []
    worst = max(tunings, key=lambda one: one.optimism)
    if worst.optimism <= 0:
        advice = "No setting would have scored better on the scored queries than the one chosen on validation data."
        return [Finding("repairs/optimism", worst.optimism, None, None, "for information", "ok", advice, "points")]
    advice = (
        f"Choosing {worst.parameter} of {worst.repair} on the scored queries ({worst.direction}) would have added "
        f"{100 * worst.optimism:.2f} points of {worst.metric} that new queries need not show; here it is chosen on "
        "validation data, so the numbers above do not hold it."
    )
    return [Finding("repairs/optimism", worst.optimism, None, None, "for information", "ok", advice, "points")]
