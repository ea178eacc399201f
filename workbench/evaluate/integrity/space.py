"""The shape of the space: gap, alignment, and what closing the gap does to the ranking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workbench.diagnostics.closing import Closed, Closing, close_the_gap
from workbench.diagnostics.gap import ModalityGap, modality_gap
from workbench.diagnostics.mixed_gallery import MixedGallery, MixedPlaces, mixed_gallery
from workbench.diagnostics.similarity_of_spaces import SpaceSimilarity, similarity_of_spaces
from workbench.diagnostics.space import SpaceMeasures, Uniformity, space_measures
from workbench.evaluate.prepare import Direction, Prepared
from workbench.evaluate.ranking import Ranked
from workbench.evaluate.scores import higher_is_better
from workbench.metrics import parse_metric
from workbench.statistics import Interval
from workbench.types import Finding, unit_vectors


@dataclass(frozen=True)
class NotMeasured:
    """Parts of the section that could not be measured, each with the reason."""

    reasons: Mapping[str, str] = field(default_factory=dict)

    def findings(self) -> list[Finding]:
        """One per part."""
        return [
            Finding(f"space/{name}", None, None, None, "", "not measurable", reason)
            for name, reason in self.reasons.items()
        ]


TYPES: tuple[type, ...] = (
    Closed, Closing, Interval, MixedGallery, MixedPlaces, ModalityGap, NotMeasured, SpaceMeasures, SpaceSimilarity,
    Uniformity,
)  # fmt: skip


def analyse(prepared: Prepared, ranked: tuple[Ranked, ...], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Results of this section by name: "gap", "space", "cka", "closing DIRECTION", "mixed galleries" (by direction;
    a system need not search both modalities together, so they give no finding), "space not measured"."""
    how = {"seed": parameters["seed"], "n_resamples": parameters["n_resamples"]}
    results, reasons = _of_the_space(prepared, how)
    mixed: dict[str, MixedGallery] = {}
    for one in ranked:
        name = one.direction.name
        if not prepared.judged:
            reasons[f"closing {name}"] = "Nothing is known to be right, so no metric can change."
        else:
            try:
                results[f"closing {name}"] = _closed(one, parameters, how)
            except ValueError as error:
                reasons[f"closing {name}"] = f"{error}."
        try:
            mixed[name] = _mixed(one.direction, prepared, parameters, how)
        except ValueError as error:
            reasons[f"mixed gallery {name}"] = f"{error}."
    if "evidence" in parameters and "cka" in results:
        results["cka judges"] = _with_judges(prepared, parameters["evidence"].judges, parameters["seed"], reasons)
    return {**results, "mixed galleries": mixed, "space not measured": NotMeasured(reasons)}


def _of_the_space(prepared: Prepared, how: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    images, texts, own = prepared.images.vectors, prepared.texts.vectors, prepared.collection.text_image
    if not (images.any(axis=1).all() and texts.any(axis=1).all()):
        return {}, {"gap": "A vector is zero: it has dot products, but no direction and no cosine."}
    if min(len(images), len(texts)) < 2 or not (own >= 0).any():
        return {}, {"gap": "It takes two images and two texts, and a text that belongs to one of them."}
    results: dict[str, Any] = {
        "gap": modality_gap(images, texts, own, **how), "space": space_measures(images, texts, own, **how),
    }  # fmt: skip
    place = _one_text_per_image(own, how["seed"])
    try:
        names = (prepared.images.modality, prepared.texts.modality)
        pairs = unit_vectors(images[own[place]]), unit_vectors(texts[place])
        results["cka"] = similarity_of_spaces(*pairs, names=names, seed=how["seed"])
    except ValueError as error:
        return results, {"cka": f"{error}."}
    return results, {}


def _with_judges(
    prepared: Prepared, judges: Mapping[str, tuple[np.ndarray, np.ndarray]], seed: int, reasons: dict[str, str]
) -> tuple[SpaceSimilarity, ...]:
    """The audited encoder's space of each side beside that of every further encoder; ``reasons`` says what lacks."""
    found = []
    for name, sides in judges.items():
        for own, theirs in zip((prepared.images, prepared.texts), sides, strict=True):
            try:
                spaces = unit_vectors(own.vectors), unit_vectors(theirs)
                found.append(similarity_of_spaces(*spaces, names=(f"{own.modality}s", name), seed=seed))
            except ValueError as error:
                reasons[f"cka {own.modality}s, {name}"] = f"{error}."
    return tuple(found)


def _one_text_per_image(own: np.ndarray, seed: int) -> np.ndarray:
    """A text of every image that has one, drawn with the seed; in the order of the images."""
    drawn = np.random.default_rng(seed).permutation(np.flatnonzero(own >= 0))
    return drawn[np.unique(own[drawn], return_index=True)[1]]


def _closed(one: Ranked, parameters: Mapping[str, Any], how: Mapping[str, Any]) -> Closing:
    """Every metric of which higher is better and whose cutoff a half of the gallery reaches."""
    direction = one.direction
    half = len(np.unique(direction.gallery_clusters)) // 2
    metrics = [name for name in one.values if higher_is_better(name) and (parse_metric(name).k or 1) <= half]
    if not metrics:
        raise ValueError(f"No metric of {', '.join(one.values)} is higher for better and within a half of the gallery")
    return close_the_gap(
        direction.queries.vectors, direction.gallery.vectors, direction.relevance, direction.clusters,
        direction.gallery_clusters, direction=direction.name, metrics=metrics, memory=parameters["memory_mb"] * 2**20,
        **how,
    )  # fmt: skip


def _mixed(
    direction: Direction, prepared: Prepared, parameters: Mapping[str, Any], how: Mapping[str, Any]
) -> MixedGallery:
    modalities = direction.queries.modality, direction.gallery.modality
    if modalities[0] == modalities[1]:
        raise ValueError(f"queries and gallery are both of modality {modalities[0]!r}")
    half = len(np.unique(np.concatenate([direction.clusters, direction.gallery_clusters]))) // 2
    return mixed_gallery(
        direction.queries.vectors, direction.gallery.vectors, direction.clusters, direction.gallery_clusters,
        relevance=direction.relevance if prepared.judged else None, query_ids=direction.queries.ids,
        direction=direction.name, modalities=modalities, ks=sorted({1, min(parameters["k"], max(half, 1))}),
        memory=parameters["memory_mb"] * 2**20, **how,
    )  # fmt: skip
