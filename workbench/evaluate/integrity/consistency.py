"""Whether queries that ask for the same image agree: languages, paraphrases, templates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workbench.datasets import Collection
from workbench.diagnostics.consistency import Consistency, by_group, consistency, own_places
from workbench.diagnostics.cycle import CycleConsistency, NoBestItem, cycles_both_ways
from workbench.diagnostics.prompts import PromptSensitivity, prompt_sensitivity
from workbench.diagnostics.slices import MISSING, group_labels, natural, nothing_to_compare, slice_scores
from workbench.encoders.encode import encode
from workbench.encoders.template import templated
from workbench.evaluate.examples import Example, Examples
from workbench.evaluate.groups import groups_of
from workbench.evaluate.prepare import Prepared
from workbench.evaluate.ranking import Ranked
from workbench.evaluate.scores import higher_is_better
from workbench.metrics import aggregate, parse_metric, per_query
from workbench.search import RankPositives, scan
from workbench.statistics import PairedDifference
from workbench.types import Ranks

TYPES: tuple[type, ...] = (Consistency, CycleConsistency, PairedDifference, PromptSensitivity)
SHOWN = 5
FEWEST_ROWS = 2


def analyse(prepared: Prepared, ranked: tuple[Ranked, ...], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Results of this section by name; "consistency not measured" says why one of them is missing."""
    results: dict[str, Any] = {}
    asked = _asked(prepared, parameters)
    if isinstance(asked, str):
        results["consistency not measured"] = asked
    else:
        results |= _by_group(prepared, ranked, asked, parameters)
    return results | _cycles(prepared, ranked, parameters) | _prompts(prepared, ranked, parameters)


@dataclass(frozen=True, eq=False)
class _Asked:
    """Texts that ask for the same image in every group: rows (n_rows, n_groups) of texts, and the image of each row."""

    column: str
    names: tuple[str, ...]
    labels: np.ndarray
    rows: np.ndarray
    images: np.ndarray
    n_left_out: int


def _asked(prepared: Prepared, parameters: Mapping[str, Any]) -> _Asked | str:
    """What is asked for by which text of which group, or why nothing can be compared."""
    collection = prepared.collection
    column = parameters["groups"] or "language"
    labels = _labels(collection, column, named=bool(parameters["groups"]))
    if labels is None:
        return "The texts state no language; name a column of theirs with groups=COLUMN (see metadata=FILE)."
    if not prepared.judged:
        return "Nothing is known to be right, so no rank can be compared."
    names = sorted(set(labels.tolist()) - {MISSING}, key=natural)
    if reason := nothing_to_compare(column, names):
        return reason
    image = _own_image(prepared)
    rows, left_out = by_group(image, labels, names)
    if len(rows) < FEWEST_ROWS:
        return (
            f"Only {len(rows)} {collection.images.plural} are asked for by a text of every group of {column!r} "
            f"({', '.join(names[:5])}{', ...' if len(names) > 5 else ''}): there are no ranks to compare."
        )
    return _Asked(column, tuple(names), labels, rows, image[rows[:, 0]], len(left_out))


def _labels(collection: Collection, column: str, *, named: bool) -> np.ndarray | None:
    values = groups_of(collection, collection.texts, column)
    if values is not None:
        return group_labels(values)[0]
    if not named:
        return None
    known = [*collection.texts.columns, *collection.images.columns]
    have = ", ".join(dict.fromkeys(known)) or "none; bring some with metadata=FILE"
    raise ValueError(f"groups={column!r}: the texts have no such column; the data have {have}")


def _own_image(prepared: Prepared) -> np.ndarray:
    """The image that each text asks for: its own if that is right, else its only right one, else -1."""
    relevance = prepared.collection.relevance.positives
    own = prepared.collection.text_image.copy()
    single = relevance.positives_per_query == 1
    own[single & (own < 0)] = relevance.items[relevance.indptr[:-1][single & (own < 0)]]
    width = relevance.n_gallery
    right = np.isin(np.arange(len(own)) * width + own, relevance.queries * width + relevance.items)
    return np.where(right, own, -1)


def _by_group(
    prepared: Prepared, ranked: tuple[Ranked, ...], asked: _Asked, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Spread of ranks, recall by group, and the items on which groups disagree most, for every direction."""
    how = {"seed": parameters["seed"], "n_resamples": parameters["n_resamples"]}
    forward = ranked[0].direction.name
    places = _places(ranked[0].ranks, asked.rows, asked.images[:, None])
    what: dict[str, Any] = {"column": asked.column, "items": asked.images, "n_left_out": asked.n_left_out, **how}
    found = consistency(places, asked.names, n_gallery=len(prepared.images), direction=forward, **what)
    results: dict[str, Any] = {f"consistency {forward}": found}
    values = {name: ranked[0].values[name].expected for name in _headlines(ranked[0])}
    if values:
        chance = dict(zip(ranked[0].scores.metrics, ranked[0].scores.chance.tolist(), strict=True))
        results[f"recall by group {forward}"] = slice_scores(
            asked.column, asked.labels, values, ranked[0].direction.clusters, direction=forward, chance=chance, **how
        )
    results[f"examples apart {forward}"] = _apart(prepared, found, asked)
    return results | (_backward(prepared, ranked[1].direction.name, asked, tuple(values), what) if ranked[1:] else {})


def _headlines(one: Ranked) -> list[str]:
    """The first metric of which more is better, and the one that looks deepest into the lists."""
    names = [name for name in one.values if higher_is_better(name)]
    return list(dict.fromkeys([*names[:1], *sorted(names, key=lambda name: -(parse_metric(name).k or 0))[:1]]))


def _places(ranks: Ranks, queries: np.ndarray, items: np.ndarray) -> np.ndarray:
    """The place of given positives among what is not right for their query; the two are broadcast."""
    keys = ranks.queries * ranks.n_gallery + ranks.items
    order = np.argsort(keys, kind="stable")
    at = order[np.searchsorted(keys[order], queries * ranks.n_gallery + items)]
    return own_places(ranks)[at]


def _backward(
    prepared: Prepared, direction: str, asked: _Asked, metrics: tuple[str, ...], what: Mapping[str, Any]
) -> dict[str, Any]:
    """Images ask; the gallery of each group holds its texts of the rows only, so that all are of one size."""
    images, code = np.unique(asked.images, return_inverse=True)
    n_rows = len(asked.rows)
    metrics = tuple(name for name in metrics if (parse_metric(name).k or 1) <= n_rows)
    places, values, chance = [], {name: [] for name in metrics}, {name: [] for name in metrics}  # type: ignore[var-annotated]
    for texts in asked.rows.T:
        right = prepared.collection.relevance.take(texts, images).T
        vectors = prepared.texts.vectors[texts], prepared.images.vectors[images]  # type: ignore[union-attr]
        (ranks,) = scan(*vectors, [RankPositives(right, of="gallery")])
        places.append(_places(ranks, code, np.arange(n_rows)))
        tied = replace(ranks, better=np.zeros_like(ranks.better), tied=np.full_like(ranks.tied, n_rows - 1))
        for name in metrics:
            values[name].append(per_query(parse_metric(name), ranks).expected)
            chance[name].append(aggregate(parse_metric(name), per_query(parse_metric(name), tied).expected))
    found = consistency(
        np.stack(places, axis=1), asked.names, n_gallery=n_rows, position=np.arange(n_rows), direction=direction, **what
    )
    results: dict[str, Any] = {f"consistency {direction}": found}
    if metrics:
        results[f"recall by group {direction}"] = slice_scores(
            asked.column, np.repeat(asked.names, len(images)), {name: np.concatenate(values[name]) for name in metrics},
            np.tile(images, len(asked.names)), direction=direction,
            chance={name: float(np.mean(chance[name])) for name in metrics},
            **{name: what[name] for name in ("seed", "n_resamples")},
        )  # fmt: skip
    return results


def _apart(prepared: Prepared, found: Consistency, asked: _Asked) -> Examples:
    """The images on which groups disagree most, each with the text that finds it worst."""
    images, texts = prepared.collection.images, prepared.collection.texts
    cards = []
    for row in found.most_apart(SHOWN).tolist():
        best, worst = int(np.argmin(found.ranks[row])), int(np.argmax(found.ranks[row]))
        said = [_words(texts, int(asked.rows[row, g])) for g in (best, worst)]
        note = ", ".join(f"{name} {place:g}" for name, place in zip(found.groups, found.ranks[row], strict=True))
        text = f"{found.groups[best]}: {said[0]} / {found.groups[worst]}: {said[1]}"
        cards.append(Example(images.ids[int(asked.images[row])] if images.modality == "image" else "", text, note))
    rule = (
        f"the {len(cards)} {images.plural} whose ranks by {found.column} have the widest spread of the logarithm; text "
        "of the best and of the worst group, ranks beneath"
    )
    return Examples("Where groups disagree most", rule, tuple(cards))


def _words(side: Any, row: int) -> str:
    return str(side.content[row]) if len(side.content) else side.ids[row]


def _cycles(prepared: Prepared, ranked: tuple[Ranked, ...], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """There and back from either side; from the queries alone where data are asked one way."""
    way = ranked[0].direction
    start, end = way.name.split("2")
    if min(len(way.queries), len(way.gallery)) < 2:
        return {"cycles not measured": "It takes two queries and two items: of one there is nothing to choose from."}
    try:
        both = cycles_both_ways(
            way.queries.vectors, way.gallery.vectors, way.clusters, way.gallery_clusters,  # type: ignore[union-attr]
            relevance=way.relevance if prepared.judged else None, names=(start, end),
            n_resamples=parameters["n_resamples"], seed=parameters["seed"],
        )  # fmt: skip
    except NoBestItem as error:
        return {"cycles not measured": str(error)}
    return {f"cycle {found.direction}": found for found in both[: len(ranked)]}


def gather(prepared: Prepared, parameters: Mapping[str, Any], *, progress: bool | None = None) -> dict[str, Any]:
    """Template -> vectors of the texts under it, the own one first; encoded before the words are withheld. Empty where
    no template is asked for, or there is no encoder or nothing to encode."""
    wanted, texts = parameters.get("templates", []), prepared.collection.texts
    if not wanted or prepared.encoder is None or not len(texts.content):
        return {}
    outer = parameters["text_template"] or "{}"
    vectors: dict[str, Any] = {outer: prepared.texts.vectors}  # type: ignore[union-attr]
    how = {"batch_size": parameters["batch_size"], "similarity": parameters["similarity"], "progress": progress}
    for template in wanted:
        encoded = encode(templated(prepared.encoder, template), texts, **how)
        vectors.setdefault(outer.replace("{}", template), encoded.embeddings.vectors)
    return vectors


def _prompts(prepared: Prepared, ranked: tuple[Ranked, ...], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The same texts under every template that is asked for, as :func:`gather` encoded them; gathered here without."""
    if not parameters.get("templates"):
        return {}
    vectors = parameters["templated"] if "templated" in parameters else gather(prepared, parameters, progress=False)
    if not vectors or not prepared.judged:
        return {
            "templates not measured": "It takes an encoder, the words of the texts, and something known to be right."
        }
    if len(vectors) < 2:
        return {"templates not measured": "Only the template in use was asked for: name another to compare it with."}
    results = {}
    for one in ranked:
        metrics = [name for name in one.values if higher_is_better(name)][:1]
        found = prompt_sensitivity(
            vectors, prepared.images.vectors, prepared.collection.relevance,  # type: ignore[union-attr]
            clusters=one.direction.clusters, direction=one.direction.name, metrics=metrics,
            n_resamples=parameters["n_resamples"], seed=parameters["seed"],
        )  # fmt: skip
        results |= {f"templates {one.direction.name}/{name}": result for name, result in found.items()}
    return results
