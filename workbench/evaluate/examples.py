"""Which items the report shows, chosen by printed rules, and their thumbnails."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.datasets import Collection, Member, Side
from workbench.datasets.pictures import open_picture
from workbench.evaluate.scores import first_positive
from workbench.types import Ranks, Relevance

SHOWN = 5
EDGE = 192


@dataclass(frozen=True)
class Example:
    """One picture or text to show. right : 1 right, 0 wrong, -1 no judgement. image_id "" : a text alone."""

    image_id: str
    text: str
    note: str
    right: int = -1


@dataclass(frozen=True)
class Examples:
    """A grid of examples and the rule that chose them."""

    title: str
    rule: str
    cards: tuple[Example, ...]


def first_items(collection: Collection, n: int = SHOWN) -> Examples:
    """Items at even steps through the collection, each with its first text."""
    images, texts = collection.images, collection.texts
    if collection.one_way:
        rows = np.unique(np.linspace(0, len(texts) - 1, n).astype(int)).tolist()
        cards = [Example("", _words(texts, row), f"right: {_right(collection, row)}") for row in rows]
        rule = f"{len(rows)} {texts.plural} at even steps, each with its best-judged {images.modality}"
        return Examples("What is in it", rule, tuple(cards))
    rows = np.unique(np.linspace(0, len(images) - 1, n).astype(int)).tolist()
    cards = [Example(images.ids[row], _caption(collection, row), images.ids[row]) for row in rows]
    return Examples("What is in it", f"{len(rows)} images at even steps, each with its first caption", tuple(cards))


def worst_queries(
    queries: Side, gallery: Side, relevance: Relevance, ranks: Ranks, first: np.ndarray, n: int = SHOWN
) -> Examples:
    """The queries whose best right item lands last, with what was returned first instead.

    first (n_queries,): the item in first place, -1 for an empty list.
    """
    best = first_positive(ranks)
    place = best["place"]
    order = _worst(best["item"], place)[:n]
    cards: list[Example] = []
    for query in order:
        right, wrong = int(best["item"][query]), int(first[query])
        note = _place(place[query], int(ranks.depth[query]), ranks.n_gallery)
        known = bool(wrong in relevance.positives.row(query)[0])
        if gallery.modality == "image":
            cards.append(Example(gallery.ids[right], _words(queries, query), f"right image, {note}", 1))
            if wrong >= 0:
                cards.append(
                    Example(gallery.ids[wrong], "", f"returned first{'' if known else ' instead'}", int(known))
                )
            continue
        returned = _words(gallery, wrong) if wrong >= 0 else "(nothing was returned)"
        best_own = f"its best right {gallery.modality}: {note}"
        if queries.modality == "image":
            cards.append(
                Example(queries.ids[query], returned, f"returned first for this image; {best_own}", int(known))
            )
        else:
            cards.append(
                Example("", _words(queries, query), f"{best_own}; returned first: {_cut(returned)}", int(known))
            )
    title = f"Where {queries.modality} to {gallery.modality} fails"
    rule = f"the {len(order)} {queries.plural} whose best right {gallery.modality} has the worst rank"
    return Examples(title, rule, tuple(cards))


def hubs(
    collection: Collection, gallery: Side, items: Sequence[int], counts: Sequence[int], k: int, mean: float
) -> Examples:
    """The items that turn up in most lists; images with a caption of their own."""
    cards = []
    for item, found in zip(items, counts, strict=True):
        note = f"in {found:,} lists of {k} (mean {mean:.1f})"
        if gallery.modality == "image":
            cards.append(Example(gallery.ids[item], _caption(collection, item), note))
        else:
            cards.append(Example("", _words(gallery, item), note))
    kind = gallery.plural
    return Examples(
        f"{kind.capitalize()} that crowd the lists", f"the {len(cards)} {kind} in most top-{k} lists", tuple(cards)
    )


def close_pairs(side: Side, pairs: Sequence[tuple[str, str, float]], n: int = SHOWN // 2) -> Examples:
    """The closest pairs of different items of a side."""
    cards, rows = [], {name: row for row, name in enumerate(side.ids)}
    for first, second, cosine in pairs[:n]:
        for name, note in ((first, f"cosine {cosine:.4f} with the next"), (second, "its near-duplicate")):
            pictured = side.modality == "image"
            cards.append(Example(name, "", note) if pictured else Example("", _cut(_words(side, rows[name])), note))
    title = f"Closest pairs of different {side.plural}"
    return Examples(title, "highest cosine first; judge them by eye", tuple(cards))


def thumbnails(collection: Collection, shown: Mapping[str, Examples]) -> dict[str, bytes]:
    """Image id -> PNG (small pictures, unchanged) or JPEG (longest edge 192), without any metadata of the original."""
    if collection.images.kind != "image":
        return {}
    wanted = {card.image_id for examples in shown.values() for card in examples.cards if card.image_id}
    position = {name: row for row, name in enumerate(collection.images.ids)}
    return {name: _picture(collection.images.content[position[name]]) for name in sorted(wanted)}


def _picture(content: Path | Member | np.ndarray) -> bytes:
    image = open_picture(content)
    image.info = {}
    sink = io.BytesIO()
    if max(image.size) <= EDGE // 2:
        image.save(sink, "PNG")
    else:
        image.thumbnail((EDGE, EDGE))
        image.save(sink, "JPEG", quality=85)
    return sink.getvalue()


def _worst(best: np.ndarray, rank: np.ndarray) -> list[int]:
    """Queries with a right item that is not first, worst rank first."""
    order = np.lexsort((np.arange(len(rank)), -rank)).tolist()
    return [query for query in order if best[query] >= 0 and rank[query] > 1]


def _place(place: float, depth: int, n_gallery: int) -> str:
    if place > n_gallery:
        return "not in the list"
    return f"rank {place:g} of {n_gallery:,}" if depth == n_gallery else f"place {place:g} of a list of {depth:,}"


def _words(side: Side, row: int) -> str:
    """The text of an item, or its id where there is no text."""
    return str(side.content[row]) if side.kind == "text" else side.ids[row]


def _caption(collection: Collection, image: int) -> str:
    texts = np.flatnonzero(collection.text_image == image)
    return _words(collection.texts, int(texts[0])) if len(texts) else "(no caption)"


def _right(collection: Collection, text: int) -> str:
    items, grades = collection.relevance.positives.row(text)
    return _cut(_words(collection.images, int(items[np.argmax(grades)]))) if len(items) else "nothing known"


def _cut(text: str, longest: int = 120) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
