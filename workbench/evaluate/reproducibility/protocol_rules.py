"""Every protocol in use, as a function from one exactly ranked direction to one value per query."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from workbench.datasets.collection import READ_AS_TEXT
from workbench.evaluate.prepare import Direction
from workbench.metrics import METRICS, Metric, MetricValues, parse_metric, per_query, per_query_all, ranks_from_lists
from workbench.search import RankPositives, TopK, scan
from workbench.types import FloatArray, IntArray, Ranks, Relevance

DEFAULT = "whole gallery"
SHA256 = 64
"""Hexadecimal digits of a digest; where contents are withheld, numbers of groups take their place."""
Values = Mapping[str, FloatArray]


@dataclass(frozen=True, eq=False)
class Asked:
    """One direction with its exact ranks and the per-query values of every metric: what a protocol starts from.

    forward : whether the queries are the texts. n_images : clusters below it are images, those from it on are texts
    that belong to none. memory : bytes.
    """

    direction: Direction
    metrics: tuple[str, ...]
    ranks: Ranks
    values: Mapping[str, MetricValues]
    forward: bool
    n_images: int
    memory: int


class Protocol(NamedTuple):
    """One line of :data:`PROTOCOLS`: what it decides, how it is called, and its values per query (NaN: not scored).

    score raises ValueError with the reason where the protocol does not apply.
    """

    question: str
    name: str
    score: Callable[[Asked], Values]


def asked(
    direction: Direction, ranks: Ranks, metrics: Sequence[str], *, forward: bool, memory: int = 256 * 2**20
) -> Asked:
    """A direction ready for every protocol. Metrics that are medians, or need more places than there are, are left out.

    ranks : exact ranks of all positives of this direction. forward : whether its queries are the texts.
    """
    names = [parse_metric(name) for name in metrics]
    fit = [m for m in names if METRICS[m.name].aggregator == "mean" and (m.k or 0) <= ranks.n_gallery]
    n_images = len(direction.gallery if forward else direction.queries)
    return Asked(direction, tuple(map(str, fit)), ranks, per_query_all(fit, ranks), forward, n_images, memory)


def _default(world: Asked) -> Values:
    return {name: values.expected for name, values in world.values.items()}


def _parts(
    world: Asked, parts: Iterable[tuple[IntArray, IntArray]], relevance: Relevance | None = None
) -> dict[str, FloatArray]:
    """Some queries against some items, part by part; metrics that look deeper than the smallest part are left out."""
    parts, direction = list(parts), world.direction
    relevance = direction.relevance if relevance is None else relevance
    smallest = min(len(items) for _, items in parts)
    names = [name for name in world.metrics if (parse_metric(name).k or 0) <= smallest]
    found = {name: np.full(relevance.n_queries, np.nan) for name in names}
    for queries, items in parts:
        vectors = direction.queries.vectors[queries], direction.gallery.vectors[items]  # type: ignore[union-attr]
        (ranks,) = scan(*vectors, [RankPositives(relevance.take(queries, items))], memory=world.memory)
        for name, values in per_query_all(names, ranks).items():
            found[name][queries] = values.expected
    return found


def _fifths(world: Asked) -> Values:
    """Images in the order of the data in five parts (1,000 of 5,000), captions with their image; then the mean."""
    direction, n_texts = world.direction, max(len(world.direction.queries), len(world.direction.gallery))
    if world.n_images < 10:
        raise ValueError(f"there are only {world.n_images} images to be cut into five parts")

    def fold(labels: np.ndarray) -> np.ndarray:
        return np.where(labels < world.n_images, 5 * labels // world.n_images, 5 * (labels - world.n_images) // n_texts)

    of_query, of_item = fold(direction.clusters), fold(direction.gallery_clusters)
    parts = [(np.flatnonzero(of_query == part), np.flatnonzero(of_item == part)) for part in range(5)]
    return _parts(world, [part for part in parts if len(part[0]) and len(part[1])])


def _texts_first(world: Asked) -> tuple[IntArray, IntArray]:
    """(images that have a text, the first text of each), both as positions."""
    labels = world.direction.clusters if world.forward else world.direction.gallery_clusters
    images, first = np.unique(labels, return_index=True)
    return images[images < world.n_images], first[images < world.n_images]


def _first_caption(world: Asked) -> Values:
    labels = world.direction.clusters if world.forward else world.direction.gallery_clusters
    images, first = _texts_first(world)
    if not len(images) or len(images) == int((labels < world.n_images).sum()):
        raise ValueError("no image has a second caption of its own")
    everything = np.arange(world.n_images)
    return _parts(world, [(first, everything) if world.forward else (everything, first)])


def _in_batch(size: int) -> Callable[[Asked], Values]:
    """Batches of pairs (an image, its first caption) in the order of the data; the last is filled up from before."""

    def score(world: Asked) -> Values:
        images, first = _texts_first(world)
        if len(images) <= size:
            raise ValueError(f"there are only {len(images)} pairs of an image and its caption")
        sides = (first, images) if world.forward else (images, first)
        starts = [min(start, len(images) - size) for start in range(0, len(images), size)]
        edges = [*range(0, len(images), size), len(images)]
        return _parts(
            world,
            [
                (sides[0][begin:end], sides[1][start : start + size])
                for start, (begin, end) in zip(starts, pairwise(edges), strict=True)
            ],
        )

    return score


def other_reading(metric: Metric) -> Metric | None:
    """What others print under the same name.

    >>> str(other_reading(parse_metric("hit@5"))), str(other_reading(parse_metric("AP@10")))
    ('R@5', 'AP(norm=min)@10')
    """
    if metric.name in ("hit", "R"):
        return replace(metric, name={"hit": "R", "R": "hit"}[metric.name])
    if metric.name == "AP" and metric.k is not None and not metric.params:
        return replace(metric, params=(("norm", "min"),))
    if metric.name == "nDCG" and not metric.params:
        return replace(metric, params=(("gain", "exp"),))
    return None


def _other_definition(world: Asked) -> Values:
    others = {name: other_reading(parse_metric(name)) for name in world.metrics}
    found = {name: per_query(other, world.ranks).expected for name, other in others.items() if other is not None}
    usual = {name: values.expected for name, values in world.values.items()}
    differ = {name for name in found if not np.array_equal(found[name], usual[name], equal_nan=True)}
    if not differ:
        raise ValueError("no other definition goes by this name, or it gives the same for these data")
    return {name: values for name, values in found.items() if name in differ}


def _ties(which: str) -> Callable[[Asked], Values]:
    def score(world: Asked) -> Values:
        if not world.ranks.tied.any():
            raise ValueError("no right item shares its score with another one")
        return {name: getattr(values, which) for name, values in world.values.items()}

    return score


def _truncated(depth: int) -> Callable[[Asked], Values]:
    """Lists of ``depth`` places; what is not in them counts as never found."""

    def score(world: Asked) -> Values:
        direction = world.direction
        if len(direction.gallery) <= depth:
            raise ValueError(f"the gallery has only {len(direction.gallery)} items")
        deep = [parse_metric(name) for name in world.metrics]
        names = [m for m in deep if not METRICS[m.name].complete and (m.k is None or m.k > depth)]
        if not names:
            raise ValueError(f"the metric looks at no more than {depth} places, or needs complete rankings")
        vectors = direction.queries.vectors, direction.gallery.vectors  # type: ignore[union-attr]
        (lists,) = scan(*vectors, [TopK(depth, ids=direction.gallery.ids)], memory=world.memory)
        ranks = ranks_from_lists(lists, direction.relevance)
        found = per_query_all(names, ranks, short_lists="as is")
        return {name: values.expected for name, values in found.items()}

    return score


def _copies_merged(world: Asked) -> Values:
    """Items of equal content as one, right for whatever any of them is right for."""
    direction = world.direction
    queries, items = (_firsts(digests) for digests in (direction.query_digests, direction.gallery_digests))
    if not len(queries) or not len(items):
        raise ValueError("the contents are not known")
    if (queries == np.arange(len(queries))).all() and (items == np.arange(len(items))).all():
        raise ValueError("no two items have the same content")
    truth = direction.relevance.positives
    grades: dict[tuple[int, int], float] = {}
    pairs = zip(queries[truth.queries].tolist(), items[truth.items].tolist(), truth.grades.tolist(), strict=True)
    for query, item, grade in pairs:
        grades[query, item] = max(grade, grades.get((query, item), 0.0))
    rows, columns = (np.array([pair[side] for pair in grades], np.int64) for side in (0, 1))
    merged = Relevance.from_pairs(
        rows, columns, list(grades.values()), n_queries=truth.n_queries, n_gallery=truth.n_gallery
    )
    return _parts(world, [(np.unique(queries), np.unique(items))], merged)


def _firsts(digests: Sequence[str]) -> IntArray:
    """For each item the first one of the same content; nothing where contents are not known.

    >>> _firsts(["a", "b", "a"])
    array([0, 1, 0])
    """
    if not digests or not all(digests):
        return np.zeros(0, np.int64)
    place: dict[str, int] = {}
    return np.array([place.setdefault(digest, number) for number, digest in enumerate(digests)], np.int64)


def _own_item_removed(world: Asked) -> Values:
    """The gallery of each query without the query itself: composed queries, sets searched in themselves."""
    direction, pairs = world.direction, own_items(world.direction)
    if not len(pairs):
        raise ValueError("no query is itself an item of the gallery")
    n_queries, n_gallery = len(direction.queries), len(direction.gallery)
    out = Relevance.from_pairs(pairs[:, 0], pairs[:, 1], n_queries=n_queries, n_gallery=n_gallery)
    truth = direction.relevance.positives
    stays = ~np.isin(truth.queries * n_gallery + truth.items, out.queries * n_gallery + out.items)
    left = Relevance.from_pairs(
        truth.queries[stays], truth.items[stays], truth.grades[stays], n_queries=n_queries, n_gallery=n_gallery
    )
    vectors = direction.queries.vectors, direction.gallery.vectors  # type: ignore[union-attr]
    (ranks,) = scan(*vectors, [RankPositives(left, exclude=out)], memory=world.memory)
    return {name: values.expected for name, values in per_query_all(world.metrics, ranks).items()}


def own_items(direction: Direction) -> IntArray:
    """(n, 2) pairs of a query and the item that it is: the same content or, where both are texts, the same id."""
    sides = ((direction.queries, direction.query_digests), (direction.gallery, direction.gallery_digests))
    keys = [[(place, key) for place, key in enumerate(digests) if len(key) == SHA256] for _, digests in sides]
    if all(side.modality in READ_AS_TEXT for side, _ in sides):
        keys = [[*known, *enumerate(side.ids)] for known, (side, _) in zip(keys, sides, strict=True)]
    items: dict[str, list[int]] = {}
    for place, key in keys[1]:
        items.setdefault(key, []).append(place)
    pairs = {(query, item) for query, key in keys[0] for item in items.get(key, ())}
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


#: Every protocol: key -> the choice it stands for, its name, and how it scores. The default is first.
PROTOCOLS: dict[str, Protocol] = {
    "default": Protocol("default", DEFAULT, _default),
    "fifth": Protocol("gallery", "fifth of the gallery, mean of five", _fifths),
    "batch 64": Protocol("gallery", "batches of 64 pairs", _in_batch(64)),
    "batch 128": Protocol("gallery", "batches of 128 pairs", _in_batch(128)),
    "first caption": Protocol("captions", "first caption only", _first_caption),
    "other definition": Protocol("definition", "other definition of the name", _other_definition),
    "ties against": Protocol("ties", "ties count against (strict)", _ties("worst")),
    "ties in favour": Protocol("ties", "ties count in favour (optimistic)", _ties("best")),
    "top 100": Protocol("lists", "lists cut at 100", _truncated(100)),
    "top 128": Protocol("lists", "lists cut at 128", _truncated(128)),
    "copies merged": Protocol("duplicates", "copies merged", _copies_merged),
    "own item removed": Protocol("own item", "query's own item removed", _own_item_removed),
}
