"""The queries on which a system and the baseline differ most, with the pictures that their runs kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.evaluate.comparison.same_test import Aligned, Evidence
from workbench.evaluate.examples import SHOWN, Example, Examples
from workbench.evaluate.scores import higher_is_better
from workbench.runs import Run

if TYPE_CHECKING:
    from workbench.evaluate.comparison import Compared


def changed_queries(found: Compared) -> dict[str, Any]:
    """``examples wins LABEL t2i`` and ``examples losses LABEL t2i`` for every candidate, and ``pictures`` they show."""
    pictures: dict[str, bytes] = {}
    for run in found.runs:
        pictures |= run.thumbnails
    texts = _texts(found.runs)
    shown: dict[str, Any] = {}
    for one in found.directions:
        right = _right(found.runs[0], one.direction)
        firsts = {place: _firsts(found.runs[place], one.direction) for place in range(len(found.runs))}
        for place in found.candidates:
            for kind in ("wins", "losses"):
                order = _largest(one, place, found.baseline, kind, right, pictures)
                title = f"{found.labels[place]}, {one.direction}: largest {kind}"
                cards = [
                    card for query in order
                    for card in _cards(one, query, (found.baseline, place), right, firsts, texts, found.labels)
                ]  # fmt: skip
                rule = f"up to {SHOWN} queries whose first right result moves most; equal moves: those with a picture"
                shown[f"examples {kind} {found.labels[place]} {one.direction}"] = Examples(title, rule, tuple(cards))
    wanted = {card.image_id for grid in shown.values() for card in grid.cards}
    return {**shown, "pictures": {name: pictures[name] for name in sorted(wanted & pictures.keys())}}


def _texts(runs: tuple[Run, ...]) -> dict[str, str]:
    """Image id -> a caption, as far as the runs show one beside the picture."""
    found: dict[str, str] = {}
    for run in runs:
        for name, grid in run.results.items():
            if name in ("examples data", "examples hubs t2i"):
                found.update({card.image_id: card.text for card in grid.cards if card.image_id and card.text})
    return found


def _right(run: Run, direction: str) -> dict[str, str]:
    """Query -> its best-judged item, the first by id among equals."""
    evidence = Evidence(run)
    forward = direction == next(iter(evidence.queries))
    best: dict[str, tuple[float, str]] = {}
    for (query, item), grade in evidence.relevance.items():
        mine, other = (query, item) if forward else (item, query)
        if grade > 0:
            best[mine] = min(best.get(mine, (0.0, "")), (-grade, other))
    return {query: item for query, (_, item) in best.items()}


def _firsts(run: Run, direction: str) -> dict[str, str]:
    table = run.neighbours(direction)
    rows = zip(table["query_id"], table["item_id"], table["rank"], strict=True)
    return {query: item for query, item, rank in rows if rank == 1}


def _largest(
    one: Aligned, place: int, base: int, kind: str, right: dict[str, str], pictures: dict[str, bytes]
) -> list[int]:
    """Queries that the first metric calls won (or lost), the largest moves of the first right result first."""
    name = next(iter(one.values))
    sign = (1 if higher_is_better(name) else -1) * (1 if kind == "wins" else -1)
    change = sign * (one.values[name][place] - one.values[name][base])
    ends = np.where(np.isnan(one.places), np.inf, one.places)
    with np.errstate(invalid="ignore"):
        moved = np.nan_to_num(np.abs(np.log(ends[base]) - np.log(ends[place])), nan=0.0, posinf=99.0)
    seen = np.array([right.get(query, query) in pictures or query in pictures for query in one.ids])
    order = np.lexsort((np.arange(len(one.ids)), ~seen, -moved.round(9), -np.nan_to_num(change).round(9)))
    return [int(query) for query in order[:SHOWN] if change[query] > 0]


def _cards(
    one: Aligned, query: int, pair: tuple[int, int], right: dict[str, str], firsts: dict[int, dict[str, str]],
    texts: dict[str, str], labels: list[str],
) -> list[Example]:  # fmt: skip
    """The right item with its two places, and what the worse of the two systems returned first instead."""
    base, place = pair
    name, own = one.ids[query], right.get(one.ids[query], "")
    before, after = (_place(one.places[system][query]) for system in pair)
    worse = base if np.nan_to_num(one.places[base][query], nan=np.inf) > one.places[place][query] else place
    note = f"right: {before} → {after}"
    if one.direction.startswith("i"):
        first = firsts[worse].get(name, "nothing")
        return [Example(name, f"query {name}", f"{note}; {labels[worse]} returned {first}")]
    instead = firsts[worse].get(name, "")
    cards = [Example(own, f"query {name}", note, 1)]
    if instead and instead != own:
        cards.append(Example(instead, texts.get(instead, instead), f"{labels[worse]} returned this first", 0))
    return cards


def _place(value: float) -> str:
    return "not in the list" if np.isnan(value) else f"place {value:g}"
