"""A parameter chosen on validation data, and what choosing it on the test data would have pretended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from workbench.metrics import aggregate, per_query
from workbench.normalize.bank import Bank, cross_fit_folds
from workbench.normalize.registry import METHODS
from workbench.normalize.repair import Repair
from workbench.normalize.repaired import Repaired, search_all
from workbench.types import FloatArray, Relevance

Vectors = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Tuned:
    """A choice among values of one parameter.

    values, scores : what was tried, and the mean metric of the validation queries. chosen : the value with the best
    score, of equal ones the first. raw : the score without any repair, on the same queries.
    """

    name: str
    parameter: str
    metric: str
    values: tuple[float, ...]
    scores: tuple[float, ...]
    chosen: float
    raw: float

    def optimism(self, on_test: npt.ArrayLike) -> float:
        """What choosing on the test data would have added: its best score there minus that of the chosen value.

        on_test : the score of every value on the test queries, parallel to ``values``.

        >>> Tuned("nnn", "alpha", "hit@1", (0.5, 1.0), (0.61, 0.60), 0.5, 0.58).optimism([0.40, 0.43]).__round__(2)
        0.03
        """
        found = np.asarray(on_test, np.float64)
        if found.shape != (len(self.values),):
            raise ValueError(f"one test score per value is needed, ({len(self.values)},); got {found.shape}")
        return float(found.max() - found[self.values.index(self.chosen)])


def tune(
    name: str,
    queries: Vectors,
    gallery: Vectors,
    relevance: Relevance,
    clusters: npt.ArrayLike,
    gallery_clusters: npt.ArrayLike,
    *,
    metric: str = "hit@1",
    seed: int = 0,
    memory: int = 2**28,
    **fixed: float,
) -> Tuned:
    """Choose the parameter of a repair that has one to choose, on validation queries that are not those reported.

    queries (n, dim), gallery (n_gallery, dim), relevance : validation data, such as the bank itself. They are split in
    two by cluster; either half is scored with the other half as its bank (:func:`cross_fit_folds`), and the value with
    the best mean metric over both is chosen. clusters, gallery_clusters : the image of every query and every item, in
    one numbering. fixed : parameters that keep a value of their own.
    """
    grid = METHODS[name].grid
    if grid is None:
        raise ValueError(f"{name!r} has no parameter to choose")
    parameter, candidates = grid
    halves = _halves(queries, gallery, relevance, clusters, gallery_clusters, seed)
    values = tuple(value for value in candidates if all(_possible(parameter, value, half) for half in halves))
    if not values:
        raise ValueError(f"no value of {parameter} of {name!r} can be tried: the halves are too small")
    found = np.stack([_scores(name, [{parameter: each, **fixed} for each in values], half, metric, memory)
                      for half in halves])  # fmt: skip
    weights = np.array([half.n_scored for half in halves], np.float64)
    means = np.average(found, axis=0, weights=weights)
    scores = tuple(float(score) for score in means[1:])
    return Tuned(name, parameter, metric, values, scores, values[int(np.argmax(scores))], float(means[0]))


@dataclass(frozen=True, eq=False)
class _Half:
    queries: Vectors
    gallery: Vectors
    relevance: Relevance
    bank: Bank
    gallery_bank: Bank | None

    @property
    def n_scored(self) -> int:
        return int((self.relevance.positives_per_query > 0).sum())


def _halves(
    queries: Vectors, gallery: Vectors, relevance: Relevance, clusters: npt.ArrayLike, gallery_clusters: npt.ArrayLike,
    seed: int,
) -> list[_Half]:  # fmt: skip
    of_query, of_item = np.asarray(clusters), np.asarray(gallery_clusters)
    folds = cross_fit_folds(np.concatenate([of_query, of_item]), seed)
    query_fold, item_fold = folds[: len(of_query)], folds[len(of_query) :]
    halves = []
    for fold in (0, 1):
        own, items = np.flatnonzero(query_fold == fold), np.flatnonzero(item_fold == fold)
        other, others = queries[query_fold != fold], gallery[item_fold != fold]
        if not (len(own) and len(items) and len(other) and len(others)):
            raise ValueError("a half of the validation data has no queries or no items; more images are needed")
        bank, more = Bank(other, "cross-fit"), Bank(others, "cross-fit")
        rest = more.without(gallery[items]) if more.overlap(gallery[items]) < len(more) else None
        halves.append(_Half(queries[own], gallery[items], relevance.take(own, items), bank.without(queries[own]), rest))
    return halves


def _possible(parameter: str, value: float, half: _Half) -> bool:
    return parameter != "k" or value <= min(len(half.bank), len(half.gallery))


def _scores(name: str, settings: list[dict[str, Any]], half: _Half, metric: str, memory: int) -> FloatArray:
    """The mean metric of a half without a repair, and with it at each of the settings."""
    several = [Repaired(half.queries, half.gallery)]
    for each in settings:
        fitted = Repair(name, **each).fit(half.gallery, half.bank, half.gallery_bank, memory=memory)
        several.append(fitted.transform(half.queries, memory=memory))
    return np.array(
        [
            aggregate(metric, per_query(metric, ranks).expected)
            for _, ranks in search_all(several, 1, half.relevance, memory=memory)
        ]
    )
