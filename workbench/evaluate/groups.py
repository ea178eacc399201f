"""Which group each query and each item belongs to, for the columns asked for, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench.datasets import Collection, Side
from workbench.diagnostics.exposure import exposure
from workbench.diagnostics.slices import slice_scores
from workbench.evaluate.prepare import columns_asked_for
from workbench.evaluate.ranking import Ranked, first_places
from workbench.evaluate.scores import higher_is_better

HEADLINES = ("hit@1", "hit@10")


def slices_of(ranked: Sequence[Ranked], collection: Collection, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of groups of queries and exposure of groups of items, per column and direction."""
    results: dict[str, Any] = {}
    for column in columns_asked_for(collection, parameters):
        for number, one in enumerate(ranked):
            sides = (collection.texts, collection.images) if number == 0 else (collection.images, collection.texts)
            asking, answering = (groups_of(collection, side, column) for side in sides)
            judged = one.direction.relevance.n_positives and any(map(higher_is_better, one.values))
            if asking is not None and judged:
                results[f"slices {one.direction.name} {column}"] = _scored(one, column, asking, parameters)
            if answering is not None and (shown := _exposed(one, column, answering, parameters)) is not None:
                results[f"exposure {one.direction.name} {column}"] = shown
    return results


def groups_of(collection: Collection, side: Side, column: str) -> np.ndarray | None:
    """The values of a column for the items of a side; its own, or handed on between an image and its texts.

    A text takes the value of its image. An image takes the value that all its texts share: where texts of one image
    differ (five languages), or no text has an image, the column says nothing about this side: the answer is None.
    """
    if column in side.columns:
        return np.asarray(side.columns[column])
    own = collection.text_image
    if not (own >= 0).any():
        return None
    if side is collection.texts and column in collection.images.columns:
        values = np.append(np.asarray(collection.images.columns[column]).astype(str), "")
        return values[own]
    if side is collection.images and column in collection.texts.columns:
        return _shared(np.asarray(collection.texts.columns[column]).astype(str), own, len(side))
    return None


def _shared(values: np.ndarray, own: np.ndarray, n_images: int) -> np.ndarray | None:
    pairs = {(image, value) for image, value in zip(own.tolist(), values.tolist(), strict=True) if image >= 0}
    by_image = dict(pairs)
    if len(by_image) != len(pairs) or not by_image:
        return None
    return np.array([by_image.get(image, "") for image in range(n_images)])


def _scored(one: Ranked, column: str, groups: np.ndarray, parameters: Mapping[str, Any]) -> Any:
    headlines = [name for name in one.values if name in HEADLINES]
    names = headlines or [name for name in one.values if higher_is_better(name)][:2]
    return slice_scores(
        column, groups, {name: one.values[name].expected for name in names}, one.direction.clusters,
        direction=one.direction.name, smallest=parameters["smallest_group"], seed=parameters["seed"],
        n_resamples=parameters["n_resamples"],
        chance={name: float(one.scores.chance[one.scores.metrics.index(name)]) for name in names},
    )  # fmt: skip


def _exposed(one: Ranked, column: str, groups: np.ndarray, parameters: Mapping[str, Any]) -> Any:
    queries, lists = first_places(one, parameters["k"])
    if lists is None:
        return None
    relevance = one.direction.relevance
    return exposure(
        lists.indices, groups, relevance.take(queries, np.arange(relevance.n_gallery)),
        column=column, direction=one.direction.name, k=parameters["k"], seed=parameters["seed"],
        clusters=one.direction.clusters[queries],
    )  # fmt: skip
