"""Which items the report shows, chosen by printed rules, and their thumbnails."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.datasets import Collection, Member
from workbench.datasets.pictures import open_picture
from workbench.types import Neighbours, Ranks

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
    """Images at even steps through the collection, each with its first caption."""
    images = np.unique(np.linspace(0, len(collection.images) - 1, n).astype(int))
    cards = []
    for image in images.tolist():
        texts = np.flatnonzero(collection.text_image == image)
        caption = _text(collection, int(texts[0])) if len(texts) else "(no caption)"
        cards.append(Example(collection.images.ids[image], caption, collection.images.ids[image]))
    return Examples("What is in it", f"{len(images)} images at even steps, each with its first caption", tuple(cards))


def worst_text_queries(collection: Collection, ranks: Ranks, lists: Neighbours, n: int = SHOWN) -> Examples:
    """The texts whose best right image lands last, with that image and the one returned first instead."""
    best = _best_positive(ranks)
    rank = best["better"] + 1 + best["tied"] / 2
    order = _worst(best, rank)[:n]
    cards = []
    for query in order:
        right, first = int(best["item"][query]), int(lists.indices[query, 0])
        note = f"right image, rank {rank[query]:g} of {ranks.n_gallery:,}"
        cards.append(Example(collection.images.ids[right], _text(collection, query), note, 1))
        was_right = first in collection.relevance.row(query)[0]
        cards.append(Example(collection.images.ids[first], "", "returned first instead", int(was_right)))
    return Examples(
        "Where text to image fails", f"the {len(order)} texts whose best right image has the worst rank", tuple(cards)
    )


def worst_image_queries(collection: Collection, ranks: Ranks, lists: Neighbours, n: int = SHOWN) -> Examples:
    """The images whose best right text lands last, with the text returned first instead."""
    best = _best_positive(ranks)
    rank = best["better"] + 1 + best["tied"] / 2
    order = _worst(best, rank)[:n]
    cards = tuple(
        Example(
            collection.images.ids[query], _text(collection, int(lists.indices[query, 0])),
            f"returned first for this image; its best own text has rank {rank[query]:g} of {ranks.n_gallery:,}", 0,
        )
        for query in order
    )  # fmt: skip
    rule = f"the {len(order)} images whose best right text has the worst rank"
    return Examples("Where image to text fails", rule, cards)


def hub_images(collection: Collection, items: Sequence[int], counts: Sequence[int], k: int, mean: float) -> Examples:
    """The images that turn up in most lists, with a caption of their own."""
    cards = []
    for item, found in zip(items, counts, strict=True):
        texts = np.flatnonzero(collection.text_image == item)
        caption = _text(collection, int(texts[0])) if len(texts) else "(no caption)"
        cards.append(Example(collection.images.ids[item], caption, f"in {found:,} lists of {k} (mean {mean:.1f})"))
    return Examples("Images that crowd the lists", f"the {len(cards)} images in most top-{k} lists", tuple(cards))


def hub_texts(collection: Collection, items: Sequence[int], counts: Sequence[int], k: int, mean: float) -> Examples:
    """The texts that turn up in most lists."""
    cards = tuple(
        Example("", _text(collection, item), f"in {found:,} lists of {k} (mean {mean:.1f})")
        for item, found in zip(items, counts, strict=True)
    )
    return Examples("Texts that crowd the lists", f"the {len(cards)} texts in most top-{k} lists", cards)


def close_pairs(pairs: Sequence[tuple[str, str, float]], n: int = SHOWN // 2) -> Examples:
    """The closest pairs of different images."""
    cards = []
    for first, second, cosine in pairs[:n]:
        cards += [Example(first, "", f"cosine {cosine:.4f} with the next"), Example(second, "", "its near-duplicate")]
    return Examples("Closest pairs of different images", "highest cosine first; judge them by eye", tuple(cards))


def thumbnails(collection: Collection, shown: Mapping[str, Examples]) -> dict[str, bytes]:
    """Image id -> PNG (small pictures, unchanged) or JPEG (longest edge 192), without any metadata of the original."""
    if not len(collection.images.content):
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


def _worst(best: dict[str, np.ndarray], rank: np.ndarray) -> list[int]:
    """Queries with a right item that is not first, worst rank first."""
    order = np.lexsort((np.arange(len(rank)), -rank)).tolist()
    return [query for query in order if best["item"][query] >= 0 and rank[query] > 1]


def _best_positive(ranks: Ranks) -> dict[str, np.ndarray]:
    """Per query the positive with the fewest items above it; item -1 without a positive."""
    found = {name: np.full(ranks.n_queries, -1) for name in ("item", "better", "tied")}
    order = np.lexsort((ranks.items, ranks.better, ranks.queries))
    queries, starts = np.unique(ranks.queries[order], return_index=True)
    for name, values in (("item", ranks.items), ("better", ranks.better), ("tied", ranks.tied)):
        found[name][queries] = values[order][starts]
    return found


def _text(collection: Collection, row: int) -> str:
    return str(collection.texts.content[row]) if len(collection.texts.content) else collection.texts.ids[row]
