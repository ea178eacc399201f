"""One direction of a run folder as numbered arrays: who asked, what was searched, returned and right.

Whatever does not fit together is a ValueError that names the file at fault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.types import FloatArray, IntArray, RankedLists, Relevance

if TYPE_CHECKING:
    from workbench.runs.reading import Run


@dataclass(frozen=True, eq=False)
class Sides:
    """What layers/items.parquet lists: first the side that is searched, then the one that asks, with their digests."""

    images: tuple[str, ...]
    texts: tuple[str, ...]
    image_digests: tuple[str, ...]
    text_digests: tuple[str, ...]
    modalities: tuple[str, str]

    @property
    def forward(self) -> str:
        return f"{self.modalities[1][:1]}2{self.modalities[0][:1]}"


@dataclass(frozen=True, eq=False)
class World:
    """One direction of a run, numbered. table : its rows of per_query.parquet. listed : only lists are known of it."""

    name: str
    queries: tuple[str, ...]
    gallery: tuple[str, ...]
    table: Mapping[str, np.ndarray]
    relevance: Relevance | None
    n_gallery: int
    listed: bool
    gallery_known: bool

    def values(self, metric: str) -> FloatArray:
        """A column of numbers, NaN where the table has none."""
        return self.table.get(metric, np.full(len(self.queries), np.nan))


def sides_of(run: Run) -> Sides:
    """The items of both sides; their ids must be unique."""
    items, shown = run.items, "layers/items.parquet"
    if not items["id"]:
        raise ValueError(f"{shown} is empty; expected the items of both sides")
    modalities = items["modality"][0], items["modality"][-1]
    n_texts = items["modality"].count(modalities[1])
    if modalities[0] == modalities[1]:
        n_texts = len(run.per_query["query_id"])
    cut = len(items["id"]) - n_texts
    if [modalities[0]] * cut + [modalities[1]] * n_texts != items["modality"]:
        raise ValueError(f"{shown} mixes its modalities; expected all of one side, then all of the other")
    parts = [(tuple(items[name][:cut]), tuple(items[name][cut:])) for name in ("id", "content_sha256")]
    for ids in parts[0]:
        _check_unique(ids, f"{shown}: the id")
    return Sides(*parts[0], *parts[1], modalities)


def _check_unique(names: Sequence[Any], what: str) -> None:
    if len(set(names)) < len(names):
        seen: set[Any] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"{what} {twice!r:.80} occurs {names.count(twice)} times; expected each once")


def world_of(run: Run, direction: str, sides: Sides, *, listed: bool) -> World:
    """One direction of a run; its queries must be the items of the side that asks, in their order."""
    forward = direction == sides.forward
    if not forward and direction != sides.forward[::-1]:
        raise ValueError(
            f"per_query.parquet has the direction {direction!r:.40}; the sides of layers/items.parquet are "
            f"{' and '.join(sides.modalities)}"
        )
    queries, gallery = (sides.texts, sides.images) if forward else (sides.images, sides.texts)
    columns = run.per_query
    rows = np.flatnonzero(np.asarray(columns["direction"], dtype=object) == direction)
    asked = [columns["query_id"][row] for row in rows]
    _check_unique(asked, f"per_query.parquet: in {direction} the query id")
    if tuple(asked) != queries:
        place = next((i for i, pair in enumerate(zip(asked, queries, strict=False)) if pair[0] != pair[1]), -1)
        came = f"row {place} is {asked[place]!r:.60}" if place >= 0 else f"{len(asked)} rows"
        raise ValueError(
            f"per_query.parquet: the queries of {direction} are not those of layers/items.parquet: {came}; expected "
            f"its {len(queries)} in their order"
        )
    stated = run.manifest["parameters"].get("gallery_size", 0) if listed else 0
    known = bool(stated) or not listed
    n_gallery = max(len(gallery), stated if isinstance(stated, int) else 0)
    relevance = _relevance(run, sides, forward, n_gallery if listed else 0)
    numbers = {name: _numbers(column, rows) for name, column in columns.items() if ":" not in name}
    return World(direction, queries, gallery, numbers, relevance, n_gallery, listed, known)


def _numbers(column: Any, rows: IntArray) -> np.ndarray:
    """Some rows of a column as float64, nothing as NaN; a column of text as it is."""
    if isinstance(column, list):
        if any(isinstance(value, str | bytes) for value in column):
            return np.asarray(column, dtype=object)[rows]
        column = np.array(column, dtype=np.float64)
    return np.asarray(column[rows], dtype=np.float64)


def _relevance(run: Run, sides: Sides, forward: bool, n_listed: int) -> Relevance | None:
    shown = "layers/relevance.parquet"
    if not (run.path / shown).exists():
        return None
    columns = run.relevance
    found = [
        places(columns[name], ids, f"{shown}: the {name}")
        for name, ids in (("query_id", sides.texts), ("item_id", sides.images))
    ]
    sizes = {"n_queries": len(sides.texts), "n_gallery": n_listed or len(sides.images)}
    try:
        relevance = Relevance.from_pairs(*found, np.asarray(columns["grade"], np.float64), **sizes)
    except ValueError as error:
        raise ValueError(f"{shown}: {error}") from error
    return relevance if forward else relevance.T


def places(names: Sequence[str], ids: tuple[str, ...], what: str) -> IntArray:
    """The place of each name among the ids; a name that is not among them is an error that begins with ``what``."""
    place = {name: number for number, name in enumerate(ids)}
    found = np.array([place.get(name, -1) for name in names], dtype=np.int64)
    if (found < 0).any():
        raise ValueError(
            f"{what} {names[int(np.argmax(found < 0))]!r:.80} is not in layers/items.parquet; is the file of another "
            "run?"
        )
    return found


def lists_of(run: Run, world: World, *, any_ties: bool = False) -> RankedLists:
    """The kept lists: known ids, queries in order, ranks from 1, scores finite and falling, ties by ascending id.

    any_ties : of equal scores any order will do: another version may have had another rule.
    """
    shown = f"layers/neighbours_{world.name}.parquet"
    columns = run.neighbours(world.name)
    query = places(columns["query_id"], world.queries, f"{shown}: the query_id")
    item = places(columns["item_id"], world.gallery, f"{shown}: the item_id")
    score, rank = (np.asarray(columns[name], np.float64) for name in ("score", "rank"))
    if not np.isfinite(score).all():
        row = int(np.argmin(np.isfinite(score)))
        raise ValueError(f"{shown}: the score in row {row} is {score[row]}; expected a finite number")
    lengths = np.bincount(query, minlength=len(world.queries))
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    place = np.arange(len(query)) - np.repeat(indptr[:-1], lengths)
    wrong = (rank != place + 1) | (query != np.repeat(np.arange(len(lengths)), lengths))
    same = query[1:] == query[:-1]
    wrong[1:] |= same & (score[1:] > score[:-1])
    for row in np.flatnonzero(same & (score[1:] == score[:-1]) & (not any_ties)):
        wrong[row + 1] |= not columns["item_id"][row] < columns["item_id"][row + 1]
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{shown}: row {row} (query {columns['query_id'][row]!r:.60}, rank {rank[row]:g}, score {score[row]}) is "
            "out of order; expected queries in order, ranks 1, 2, ..., falling scores, equal ones by ascending id"
        )
    if len(np.unique(query * len(world.gallery) + item)) < len(query):
        raise ValueError(f"{shown}: a list holds an item twice; expected each once")
    _check_depth(run.manifest["parameters"], lengths, world, shown)
    return RankedLists(indptr, item, score, world.n_gallery)


def _check_depth(parameters: Mapping[str, Any], lengths: IntArray, world: World, shown: str) -> None:
    depth, k = (parameters.get(name) for name in ("depth", "k"))
    if not isinstance(depth, int) or not isinstance(k, int):
        return
    most = depth if world.listed else min(max(depth, k), world.n_gallery)
    wrong = lengths > most if world.listed else lengths != most
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{shown}: the list of query {world.queries[row]!r:.60} has {lengths[row]} items; expected "
            f"{'at most ' if world.listed else ''}{most}"
        )
