"""Both directions ranked: by one exact scan of the vectors, or as a system's own lists say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workbench.evaluate.instrument import LEVEL, Check, random_lists_check, shuffled_check, shuffled_truth
from workbench.evaluate.prepare import Direction, Prepared
from workbench.evaluate.scores import Scores, score
from workbench.metrics import MetricValues, ranks_from_lists
from workbench.search import RankPositives, TopK, scan
from workbench.types import Neighbours, RankedLists, Ranks, Relevance

FEWEST_HITS = 5  # expected hits and misses by chance: with fewer, all queries often agree and the interval has no width
FEWEST_LISTS = 10  # random lists: with fewer, skewness takes a handful of values


@dataclass(frozen=True, eq=False)
class Ranked:
    """One direction after the search: lists, ranks, scores, and the values of every metric per query.

    gallery_known : False for the lists of a system whose gallery is only known by what it returned.
    """

    direction: Direction
    lists: Neighbours | RankedLists
    ranks: Ranks
    scores: Scores
    values: Mapping[str, MetricValues]
    gallery_known: bool = True


def rank(prepared: Prepared, parameters: Mapping[str, Any]) -> tuple[tuple[Ranked, ...], list[Check]]:
    """Every direction ranked and scored, and the readings of the instrument on worlds with a known answer."""
    if prepared.collection.lists is not None:
        return _as_listed(prepared, prepared.collection.lists, parameters)
    return _searched(prepared, parameters)


def _searched(prepared: Prepared, parameters: Mapping[str, Any]) -> tuple[tuple[Ranked, ...], list[Check]]:
    """One scan for all directions and for the shuffled truth of the instrument check."""
    directions, seed = prepared.directions(), parameters["seed"]
    consumers: list[Any] = []
    for direction, of in zip(directions, ("queries", "gallery"), strict=False):
        depth = min(max(parameters["depth"], parameters["k"]), len(direction.gallery))
        consumers += [
            TopK(depth, of=of, ids=direction.gallery.ids),  # type: ignore[arg-type]
            RankPositives(direction.relevance, of=of),  # type: ignore[arg-type]
            RankPositives(shuffled_truth(direction.relevance, seed=seed), of=of),  # type: ignore[arg-type]
        ]
    forward = directions[0]
    vectors = forward.queries.vectors, forward.gallery.vectors  # type: ignore[union-attr]
    found = scan(*vectors, consumers, memory=parameters["memory_mb"] * 2**20)
    ranked, checks = [], []
    for number, direction in enumerate(directions):
        lists, ranks, shuffled = found[3 * number : 3 * number + 3]
        scores, values = score(direction.name, ranks, direction.clusters, parameters["metrics"], **_how(parameters))
        ranked.append(Ranked(direction, lists, ranks, scores, values))
        checks += _checks(direction, shuffled, parameters)
    return tuple(ranked), checks


def _as_listed(
    prepared: Prepared, lists: RankedLists, parameters: Mapping[str, Any]
) -> tuple[tuple[Ranked, ...], list[Check]]:
    """The metrics of given lists. Without the size of the gallery nothing can be held against chance."""
    (direction,), size = prepared.directions(), parameters["gallery_size"]
    n_gallery = size or lists.n_gallery
    judged = direction.relevance
    wider = Relevance.from_pairs(
        judged.queries, judged.items, judged.grades, n_queries=judged.n_queries, n_gallery=n_gallery
    )
    lists = replace(lists, n_gallery=n_gallery)
    ranks = ranks_from_lists(lists, wider)
    # A query without an answer found nothing, however deep one looks: it is no short list.
    ranks = replace(ranks, depth=np.where(ranks.depth > 0, ranks.depth, ranks.depth.max(initial=0)))
    scores, values = score(
        direction.name, ranks, direction.clusters, parameters["metrics"], **_how(parameters),
        short_lists=parameters["short_lists"], gallery_known=bool(size),
    )  # fmt: skip
    return (Ranked(direction, lists, ranks, scores, values, bool(size)),), []


def _how(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {"seed": parameters["seed"], "n_resamples": parameters["n_resamples"]}


def _checks(direction: Direction, shuffled: Ranks, parameters: Mapping[str, Any]) -> list[Check]:
    n_queries, n_gallery, checks = len(direction.queries), len(direction.gallery), []
    if direction.relevance.n_positives:
        names = [f"hit@{min(10, n_gallery)}"]
        scores, _ = score(direction.name, shuffled, direction.clusters, names, **_how(parameters), level=LEVEL)
        chance = float(scores.chance[0])
        if scores.clusters[0] * min(chance, 1 - chance) >= FEWEST_HITS:
            checks.append(shuffled_check(scores))
    if parameters["k"] < n_gallery and n_queries >= FEWEST_LISTS:
        sizes = (n_queries, n_gallery, parameters["k"])
        checks.append(random_lists_check(*sizes, direction=direction.name, seed=parameters["seed"]))
    return checks


def first_places(one: Ranked, k: int) -> tuple[np.ndarray, Neighbours | None]:
    """(queries, their first k places): every query, but of given lists only those that have k; None if none has."""
    lists = one.lists
    if isinstance(lists, Neighbours):
        return np.arange(lists.n_queries), shortened(lists, k) if k <= lists.k else None
    long = np.flatnonzero(lists.depths >= k)
    if not len(long):
        return long, None
    rows = [lists.row(query) for query in long]
    tied = np.array([len(scores) > k and scores[k - 1] == scores[k] for _, scores in rows])
    items, scores = (np.stack([row[part][:k] for row in rows]) for part in (0, 1))
    return long, Neighbours(items, scores, lists.n_gallery, True, tied)


def shortened(lists: Neighbours, k: int) -> Neighbours:
    """The first k of longer lists; the k-th place is tied when the next one has its score."""
    if k == lists.k:
        return lists
    tied = lists.scores[:, k - 1] == lists.scores[:, k]
    return replace(lists, indices=lists.indices[:, :k], scores=lists.scores[:, :k], kth_tied=tied)
