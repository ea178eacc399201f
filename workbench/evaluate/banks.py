"""Which queries and items are scored together, and which others may teach a repair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workbench.evaluate.prepare import Direction, Prepared
from workbench.evaluate.share import withheld
from workbench.metrics import per_query_all
from workbench.normalize import Bank, Repair, Repaired, Tuned, cross_fit_folds, search_all, tune
from workbench.types import FloatArray, Neighbours, Ranks, Relevance


@dataclass(frozen=True, eq=False)
class Validation:
    """Queries and items that are not scored, with their truth: what :func:`workbench.normalize.tune` takes."""

    queries: np.ndarray
    gallery: np.ndarray
    relevance: Relevance
    clusters: np.ndarray
    gallery_clusters: np.ndarray
    query_keys: Sequence[str] | None
    gallery_keys: Sequence[str] | None


@dataclass(frozen=True, eq=False)
class Part:
    """Some queries and items (indices) to be scored together, and the banks that repair them.

    n_shared : bank queries left out because they are among the scored ones, such as repeated captions.
    """

    queries: np.ndarray
    items: np.ndarray
    bank: Bank
    gallery_bank: Bank | None
    validation: Validation
    n_shared: int


@dataclass(frozen=True, eq=False)
class Scored:
    """All metrics of every query, and all lists, of one repair (or none) over all parts. settings : one per part."""

    values: Mapping[str, FloatArray]
    lists: Neighbours
    settings: tuple[Mapping[str, float], ...] = ()
    notes: tuple[str, ...] = ()


def parts_of(direction: Direction, bank: Prepared | None, parameters: Mapping[str, Any]) -> list[Part]:
    """With a bank from another split, everything at once. Without one, *halves*.

    Images are split in two, the queries of a half are scored against the items of that half, and the other half is the
    bank. Scoring the whole gallery with such a bank would give the answer away: see
    :func:`workbench.normalize.cross_fit_folds`.
    """
    if bank is not None:
        return [_whole(direction, bank, parameters["bank"])]
    both = np.concatenate([direction.clusters, direction.gallery_clusters])
    folds = cross_fit_folds(both, parameters["seed"])
    of_query, of_item = folds[: len(direction.clusters)], folds[len(direction.clusters) :]
    halves = [(np.flatnonzero(of_query == fold), np.flatnonzero(of_item == fold)) for fold in (0, 1)]
    return [_half(direction, *halves[fold], *halves[1 - fold]) for fold in (0, 1)]


def _half(
    direction: Direction, queries: np.ndarray, items: np.ndarray, others: np.ndarray, other_items: np.ndarray
) -> Part:
    validation = Validation(
        direction.queries.vectors[others], direction.gallery.vectors[other_items],
        direction.relevance.take(others, other_items), direction.clusters[others],
        direction.gallery_clusters[other_items], _keys(direction.query_digests, others),
        _keys(direction.gallery_digests, other_items),
    )  # fmt: skip
    return _part(direction, queries, items, validation, "cross-fit", "other half")


def _whole(direction: Direction, bank: Prepared, split: str) -> Part:
    other = next(one for one in bank.directions() if one.name == direction.name)
    validation = Validation(
        other.queries.vectors, other.gallery.vectors, other.relevance, other.clusters, other.gallery_clusters,
        _keys(other.query_digests, np.arange(len(other.queries))),
        _keys(other.gallery_digests, np.arange(len(other.gallery))),
    )  # fmt: skip
    everything = np.arange(len(direction.queries)), np.arange(len(direction.gallery))
    return _part(direction, *everything, validation, "inductive", split)


def _part(
    direction: Direction, queries: np.ndarray, items: np.ndarray, validation: Validation, provenance: Any, name: str
) -> Part:
    scored = direction.queries.vectors[queries], _keys(direction.query_digests, queries)
    gallery = direction.gallery.vectors[items], _keys(direction.gallery_digests, items)
    bank = Bank(validation.queries, provenance, name, validation.query_keys)
    others = Bank(validation.gallery, provenance, name, validation.gallery_keys)
    shared = bank.overlap(*scored)
    gallery_bank = others.without(*gallery) if others.overlap(*gallery) < len(others) else None
    return Part(queries, items, bank.without(*scored), gallery_bank, validation, shared)


def _keys(digests: Sequence[str], places: np.ndarray) -> list[str] | None:
    return [digests[place] for place in places] if all(digests) and digests else None


def tuned(parts: Sequence[Part], name: str, parameters: Mapping[str, Any], metric: str) -> list[Tuned]:
    """The parameter of a repair, chosen for each part on its own validation data."""
    memory = parameters["memory_mb"] * 2**20
    return [
        tune(
            name, part.validation.queries, part.validation.gallery, part.validation.relevance,
            part.validation.clusters, part.validation.gallery_clusters, metric=metric, seed=parameters["seed"],
            memory=memory,
        )
        for part in parts
    ]  # fmt: skip


def score_parts(
    direction: Direction,
    parts: Sequence[Part],
    wanted: Mapping[str, Sequence[Repair]],
    metrics: Sequence[str],
    parameters: Mapping[str, Any],
) -> tuple[Scored, dict[str, Scored], dict[str, str]]:
    """Without a repair; with each of those wanted (one estimator per part); and why some could not be estimated."""
    memory, k = parameters["memory_mb"] * 2**20, min(parameters["k"], *(len(part.items) for part in parts))
    failed: dict[str, str] = {}
    sides = [(direction.queries.vectors[part.queries], direction.gallery.vectors[part.items]) for part in parts]
    repaired = {"": [Repaired(queries, gallery) for queries, gallery in sides]}
    for name, estimators in wanted.items():
        try:
            repaired[name] = [
                one.fit(
                    gallery,
                    part.bank,
                    part.gallery_bank,
                    keys=_keys(direction.gallery_digests, part.items),
                    memory=memory,
                ).transform(queries, keys=_keys(direction.query_digests, part.queries), memory=memory)
                for one, part, (queries, gallery) in zip(estimators, parts, sides, strict=True)
            ]
        except ValueError as error:
            failed[name] = str(error)
    scored: dict[str, Scored] = {}
    alone = [name for name in repaired if any(one.transform is not None for one in repaired[name])]
    for names in ([name for name in repaired if name not in alone], *([name] for name in alone)):
        try:
            scored |= _searched(direction, parts, {name: repaired[name] for name in names}, k, metrics, memory)
        except ValueError as error:
            if names[0] not in alone:
                raise
            failed[names[0]] = str(error)
    raw = scored.pop("")
    for name, found in scored.items():
        settings = tuple(one.settings for one in wanted[name])
        notes = tuple(dict.fromkeys(one.note for one in wanted[name] if one.note))
        scored[name] = Scored(found.values, found.lists, settings, notes)
    return raw, scored, failed


def _searched(
    direction: Direction, parts: Sequence[Part], repaired: Mapping[str, Sequence[Repaired]], k: int,
    metrics: Sequence[str], memory: int,
) -> dict[str, Scored]:  # fmt: skip
    """Every repair over all parts; those that share their vectors share one pass over the pairs."""
    found = [
        search_all(
            [each[i] for each in repaired.values()], k, direction.relevance.take(part.queries, part.items),
            ids=[direction.gallery.ids[item] for item in part.items], memory=memory,
        )
        for i, part in enumerate(parts)
    ]  # fmt: skip
    return {
        name: _gathered(direction, parts, [of_part[place] for of_part in found], metrics)
        for place, name in enumerate(repaired)
    }


def _gathered(
    direction: Direction, parts: Sequence[Part], found: Sequence[tuple[Neighbours, Ranks]], metrics: Sequence[str]
) -> Scored:
    """Results of the parts in the order of the queries, with items numbered as in the whole gallery."""
    n, k = len(direction.queries), found[0][0].k
    values = {name: np.full(n, np.nan) for name in metrics}
    indices, scores, tied = np.zeros((n, k), np.int64), np.zeros((n, k)), np.zeros(n, bool)
    for part, (lists, ranks) in zip(parts, found, strict=True):
        for name, each in per_query_all(metrics, ranks).items():
            values[name][part.queries] = each.expected
        indices[part.queries], scores[part.queries] = part.items[lists.indices], lists.scores
        tied[part.queries] = lists.kth_tied
    return Scored(values, Neighbours(indices, scores, len(direction.gallery), True, tied))


def withheld_bank(bank: Prepared, prepared: Prepared, shown: Prepared, parameters: Mapping[str, Any]) -> Prepared:
    """As :func:`withheld`, for another split: what it shares with the scored one (``shown``) keeps the same name."""
    hidden = withheld(bank, parameters)
    if parameters["share"] != "no-content":
        return hidden
    renamed = {
        name: _named_as(getattr(bank, name), getattr(prepared, name), getattr(shown, name))
        for name in ("image_digests", "text_digests")
    }
    return replace(hidden, **renamed)


def _named_as(digests: Sequence[str], known: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """The names of digests that are known, and others for the rest.

    >>> _named_as(["ff", "0b"], ["0a", "ff"], ["content-1", "content-2"])
    ('content-2', 'bank-2')
    """
    name = dict(zip(known, names, strict=True))
    return tuple(name.get(digest, f"bank-{place}") for place, digest in enumerate(digests, start=1))
