"""Copies and leaks, and what each is worth in points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workbench.datasets import Collection, Side, content_digest
from workbench.datasets.collection import READ_AS_TEXT
from workbench.datasets.counts import normalized_caption
from workbench.diagnostics.copies_impact import (
    CopiesImpact,
    ImpactRow,
    World,
    copies_impact,
    removal_impact,
    self_match_impact,
)
from workbench.diagnostics.duplicates import Duplicates, duplicates, repeated_captions
from workbench.diagnostics.leaks import (
    LOOKS,
    CopyLevel,
    CopyLevels,
    equal_items,
    joined,
    level_between,
    level_close,
    level_of_groups,
    level_of_pairs,
    shared_keys,
)
from workbench.diagnostics.perceptual import (
    BITS,
    Fingerprints,
    LookAlikes,
    NearCaptions,
    fingerprints,
    look_alikes,
    near_captions,
)
from workbench.encoders.encode import encode
from workbench.evaluate.examples import SHOWN, Example, Examples
from workbench.evaluate.prepare import Direction, Prepared, load_collection
from workbench.evaluate.ranking import Ranked
from workbench.evaluate.scores import higher_is_better
from workbench.evaluate.share import encodable_side
from workbench.types import Embeddings, IntArray

TYPES: tuple[type, ...] = (CopiesImpact, CopyLevel, CopyLevels, ImpactRow, LookAlikes, NearCaptions)
SAME_PICTURE, SAME_LOOKS, SAME_WORDING = "same content", "same looks", "same wording"
MOST_PAIRS = 100_000


@dataclass(frozen=True, eq=False)
class OtherSplit:
    """A split that must share nothing with the scored one. vectors : of its images, None where no encoder can run."""

    name: str
    images: Side
    texts: Side
    digests: tuple[str, ...]
    vectors: Embeddings | None


@dataclass(frozen=True, eq=False)
class Seen:
    """What has to be seen before anything is withheld: the look of the pictures, and the split that may share none."""

    prints: Fingerprints | None = None
    other: OtherSplit | None = None


def gather(prepared: Prepared, parameters: Mapping[str, Any], *, progress: bool | None = None) -> Seen:
    """Fingerprints and the other split; neither with share=no-content, whose report may not tell what they show."""
    if parameters["share"] == "no-content":
        return Seen()
    other = load_other(prepared, parameters, progress=progress) if parameters.get("other_split") else None
    return Seen(_fingerprints(prepared.collection.images), other)


def analyse(prepared: Prepared, ranked: tuple[Ranked, ...], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Copies by level, look-alikes, repeated and near captions, leaks, and what each is worth.

    parameters["seen"] : what :func:`gather` saw before anything was withheld; gathered here without.
    """
    collection = prepared.collection
    seen = parameters["seen"] if "seen" in parameters else gather(prepared, parameters)
    prints = None if seen.prints is None else replace(seen.prints, ids=collection.images.ids)
    results = _within(prepared, prints, parameters)
    looks = results.get("look-alikes")
    groups = {"exact": equal_items(prints.pixels if prints else prepared.image_digests)}
    groups["near"] = groups["exact"]
    if looks is not None and looks.n_pairs:
        exact = np.arange(len(groups["exact"])), groups["exact"]
        groups["near"] = joined(looks.n, exact, (looks.first, looks.second))
    worlds = [_world(one, groups["near"], parameters) for one in ranked]
    results["copies impact"] = _impact(prepared, worlds, groups)
    if parameters.get("other_split"):
        results |= _leaks(prepared, prints, worlds, parameters, seen.other)
    return results | _examples(collection, results)


def load_other(prepared: Prepared, parameters: Mapping[str, Any], *, progress: bool | None = None) -> OtherSplit:
    """The split named by ``other_split``, whole, with digests and, where an encoder is at hand, vectors of its images.

    ``n_images`` shortens what is scored: of a shortened other split it could not be said that it shares nothing.
    """
    name = parameters["other_split"]
    if prepared.collection.one_way:
        raise ValueError(
            f"other_split={name!r}: all splits of these data are searched in one gallery, so no item can leak; leave "
            "it empty"
        )
    try:
        collection = load_collection({**parameters, "n_images": 0}, split=name)
    except (OSError, ValueError) as error:
        raise ValueError(f"other_split={name!r}: {error}; or leave it empty") from error
    images, texts = encodable_side(collection.images), encodable_side(collection.texts)
    vectors, model = None, prepared.encoder
    if hasattr(model, "encode_image") and images.kind == "image":
        how: dict[str, Any] = {
            "batch_size": parameters["batch_size"], "on_bad": parameters["bad_images"],
            "similarity": parameters["similarity"], "progress": progress,
        }  # fmt: skip
        encoded = encode(model, images, **how)
        vectors, kept = encoded.embeddings, encoded.kept.tolist()
        images = Side(images.modality, encoded.embeddings.ids, [images.content[row] for row in kept])
        return OtherSplit(name, images, texts, encoded.digests, vectors)
    return OtherSplit(name, images, texts, tuple(map(content_digest, images.content)), None)


def _fingerprints(side: Side) -> Fingerprints | None:
    return fingerprints(side.content, ids=side.ids) if side.kind == "image" else None


def _within(prepared: Prepared, prints: Fingerprints | None, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Everything about copies within the scored split, before any score."""
    collection, results = prepared.collection, {}  # type: ignore[var-annotated]
    images, texts = collection.images, collection.texts
    pixels = prints.pixels if prints else prepared.image_digests
    same = level_of_groups("content", _rule(images), equal_items(prepared.image_digests))
    levels = [same]
    if prints is not None:
        levels.append(level_of_groups("pixels", "equal once decoded", equal_items(prints.pixels), told=same.items))
        looks = results["look-alikes"] = look_alikes(prints, what=images.modality)
        told = np.unique(np.concatenate([level.items for level in levels]))
        levels.append(level_of_pairs(LOOKS, _looks_rule(looks), len(images), looks.first, looks.second, told=told,
                                     same=equal_items(prints.pixels)))  # fmt: skip
    if isinstance(prepared.images, Embeddings) and prepared.images.vectors.any(axis=1).all():
        threshold = parameters["near_duplicate"]
        close = duplicates(
            pixels, prepared.images.vectors, ids=prepared.images.ids, threshold=threshold, what=images.modality,
            max_listed=MOST_PAIRS,
        )  # fmt: skip
        levels.append(_vector_level(close, images, levels, equal_items(pixels)))
        results["duplicates"] = replace(close, near=close.near[:100])
    results["copies images"] = CopyLevels(images.modality, len(images), tuple(levels))
    if texts.kind == "text":
        wording = [normalized_caption(text) for text in texts.content]
        level = level_of_groups("wording", "equal but for case and punctuation", equal_items(wording))
        results["copies texts"] = CopyLevels(texts.modality, len(texts), (level,))
        if not collection.one_way:
            own = collection.text_image, collection.relevance
            results["repeated captions"] = repeated_captions(texts.content, *own)
            if parameters["share"] != "no-content":  # else contents are numbers, and nearly equal ones say nothing
                results["near captions"] = near_captions(texts.content, *own)
    return results


def _rule(side: Side) -> str:
    return {"image": "equal bytes of the file", "text": "equal text"}.get(side.kind, "equal content")


def _vector_level(close: Duplicates, images: Side, levels: Sequence[CopyLevel], same: IntArray) -> CopyLevel:
    """Pairs by cosine. Of more than can be kept the closest make the groups, and the rule says so."""
    place = {name: row for row, name in enumerate(images.ids)}
    pairs = np.array([(place[a], place[b]) for a, b, _ in close.near], np.int64).reshape(-1, 2)
    told = np.unique(np.concatenate([level.items for level in levels]))
    rule = f"cosine of {close.threshold:g} or more"
    if len(pairs) < close.n_near_pairs:
        rule += f", the closest {len(pairs):,} of {close.n_near_pairs:,} pairs"
    return level_of_pairs("vectors", rule, close.n, pairs[:, 0], pairs[:, 1], told=told, same=same)


def _world(ranked: Ranked, picture_groups: IntArray, parameters: Mapping[str, Any]) -> World:
    """A direction whose clusters are pictures with their copies: what one draw moves, the other moves too."""
    direction, n = ranked.direction, len(picture_groups)
    clusters = direction.clusters
    merged = np.where(clusters < n, picture_groups[np.minimum(clusters, n - 1)], clusters)
    return World(
        direction.name, direction.queries.vectors, direction.gallery.vectors,  # type: ignore[union-attr]
        direction.relevance, merged, tuple(parameters["metrics"]), n_resamples=parameters["n_resamples"],
        seed=parameters["seed"], memory=parameters["memory_mb"] * 2**20,
        measured={name: values.expected for name, values in ranked.values.items() if higher_is_better(name)},
    )  # fmt: skip


def _impact(prepared: Prepared, worlds: Sequence[World], groups: Mapping[str, IntArray]) -> CopiesImpact:
    """Every metric with copies counted as right, with one of each kept, and without self-matches."""
    texts = prepared.collection.texts
    alone = np.arange(len(texts)), np.arange(len(prepared.collection.images))
    levels = {SAME_PICTURE: (alone[0], groups["exact"])}
    if (groups["near"] != groups["exact"]).any():
        levels[SAME_LOOKS] = alone[0], groups["near"]
    if texts.kind == "text":
        levels[SAME_WORDING] = equal_items([normalized_caption(text) for text in texts.content]), alone[1]
    rows: list[ImpactRow] = []
    for number, (world, direction) in enumerate(zip(worlds, prepared.directions(), strict=True)):
        for level, sides in levels.items():
            rows += copies_impact(world, level, *(sides if number == 0 else sides[::-1]))
        own = _own_ids(direction)
        rows += self_match_impact(world, *own) if own else []
    return CopiesImpact("copies", tuple(rows), worlds[0].level)


def _own_ids(direction: Direction) -> tuple[Sequence[str], Sequence[str]] | None:
    """Ids of both sides, such that equal ones name one item; None where no query can be an item.

    Within one modality they do. A query and a document of one id are one item only if they say the same.
    """
    queries, items = direction.queries, direction.gallery
    if queries.modality == items.modality:
        return queries.ids, items.ids
    if not {queries.modality, items.modality} <= set(READ_AS_TEXT):
        return None
    content = dict(zip(items.ids, direction.gallery_digests, strict=True))
    said = zip(queries.ids, direction.query_digests, strict=True)
    return [name if content.get(name) == digest else f"\0{row}" for row, (name, digest) in enumerate(said)], items.ids


def _leaks(
    prepared: Prepared, prints: Fingerprints | None, worlds: Sequence[World], parameters: Mapping[str, Any],
    other: OtherSplit | None,
) -> dict[str, Any]:  # fmt: skip
    """What is also in the other split, level by level, and the metrics without it."""
    collection, name = prepared.collection, parameters["other_split"]
    images, texts = collection.images, collection.texts
    if other is None:
        reason = "share=no-content keeps contents from this report, so they cannot be held against another split."
        return {"leaks images": CopyLevels(images.modality, len(images), (), name, reason=reason)}
    levels = [level_between("content", _rule(images), *shared_keys(prepared.image_digests, other.digests))]
    exact, results = levels[0].items, {}  # type: ignore[var-annotated]
    looks = None
    if prints is not None:
        theirs = fingerprints(other.images.content, ids=other.images.ids)
        pixels = shared_keys(prints.pixels, theirs.pixels)
        levels.append(level_between("pixels", "equal once decoded", *pixels, told=exact))
        exact = np.union1d(exact, levels[-1].items)
        looks = results["leaks look-alikes"] = look_alikes(prints, theirs, what=images.modality)
        levels.append(level_between(LOOKS, _looks_rule(looks), looks.first, looks.second, told=exact))
    if other.vectors is not None and isinstance(prepared.images, Embeddings):
        threshold = parameters["near_duplicate"]
        told = np.union1d(exact, levels[-1].items)
        vectors = prepared.images.vectors, other.vectors.vectors
        rule = f"cosine of {threshold:g} or more"
        levels.append(level_close("vectors", rule, *vectors, threshold=threshold, told=told))
    gone = tuple(exact.tolist())
    results["leaks images"] = CopyLevels(images.modality, len(images), tuple(levels), name, len(other.images), gone)
    if texts.kind == "text" and other.texts.kind == "text":
        wordings = [[normalized_caption(text) for text in side.content] for side in (texts, other.texts)]
        level = level_between("wording", "equal but for case and punctuation", *shared_keys(*wordings))
        results["leaks texts"] = CopyLevels(texts.modality, len(texts), (level,), name, len(other.texts))
    removed = {SAME_PICTURE: exact}
    if looks is not None and len(near := np.union1d(exact, looks.items)) > len(exact):
        removed[SAME_LOOKS] = near
    results["leaks impact"] = _without(collection, worlds, removed)
    return results


def _looks_rule(looks: LookAlikes) -> str:
    return f"at most {looks.threshold} of {BITS} bits, colours agree to {looks.agreement:g}"


def _without(collection: Collection, worlds: Sequence[World], leaked: Mapping[str, IntArray]) -> CopiesImpact:
    """The metrics without leaked images and the texts written for them, level by level."""
    rows: list[ImpactRow] = []
    for number, world in enumerate(worlds):
        for level, gone in leaked.items():
            image, text = np.isin(np.arange(len(collection.images)), gone), np.isin(collection.text_image, gone)
            queries, items = (text, image) if number == 0 else (image, text)
            rows += removal_impact(world, level, queries=queries, items=items)
    return CopiesImpact("leaks", tuple(rows), worlds[0].level)


def _examples(collection: Collection, results: Mapping[str, Any]) -> dict[str, Examples]:
    """The closest look-alikes and those at the threshold; leaked items with what they equal."""
    shown = {}
    looks, leaked = results.get("look-alikes"), results.get("leaks look-alikes")
    if looks is not None and looks.n_pairs:
        cards = [card for pair in _chosen(looks) for card in _pair(collection, *pair)]
        rule = f"the closest, and those nearest the threshold of {looks.threshold} bits; judge them by eye"
        shown["examples pairs"] = Examples("Pictures that look the same", rule, tuple(cards))
    if leaked is not None and leaked.n_pairs:
        name = results["leaks images"].other
        cards = [Example(a, "", f"{bits:g} of {BITS} bits from {b} of {name}") for a, b, bits in _chosen(leaked)]
        shown["examples leaks"] = Examples(f"Pictures that look like one of {name}", "closest first", tuple(cards))
    return shown


def _chosen(looks: LookAlikes, n: int = SHOWN) -> list[tuple[str, str, float]]:
    """Some of the closest pairs, then some of those nearest the threshold below it."""
    below = [pair for pair in looks.borderline if pair[2] <= looks.threshold]
    return list(dict.fromkeys([*looks.near[: (n + 1) // 2], *below[: n // 2]]))


def _pair(collection: Collection, first: str, second: str, bits: float) -> tuple[Example, Example]:
    return Example(first, "", f"{bits:g} of {BITS} bits from the next"), Example(second, "", "its look-alike")
