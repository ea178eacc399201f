"""What the change of a metric between two runs is made of, from the vectors that both kept."""

from __future__ import annotations

from workbench.diagnostics.change import Change, Version, split_change
from workbench.diagnostics.run_evidence import Evidence, Items
from workbench.runs.evidence import evidence
from workbench.runs.reading import Run
from workbench.types import Embeddings, Relevance


def change_between(
    first: Run, second: Run, direction: str, metric: str, *, n_resamples: int = 2000, seed: int = 0
) -> Change:
    """How much of a change comes from the queries, the gallery, the labels, the encoder?

    direction : such as "t2i". metric : a mean over queries, such as "hit@1". Items are matched by what they are (the
    digest of their content), or by id where a run knows only their vectors. Captions of one image are one cluster.
    See :func:`workbench.diagnostics.change.split_change`. Raises ValueError when a run kept no vectors
    (``keep_embeddings=true`` keeps them), or for a direction that a run does not have.
    """
    both = evidence(first), evidence(second)
    by_content = [all(all(side.contents) for side in sides) for sides in zip(*(one.sides for one in both), strict=True)]
    versions = [
        _version(run, one, direction, by_content) for run, one in zip((first, second), both, strict=True)
    ]  # fmt: skip
    return split_change(*versions, metric, n_resamples=n_resamples, seed=seed)


def _version(run: Run, found: Evidence, direction: str, by_content: list[bool]) -> Version:
    images, texts = (_side(run.path.name, side) for side in found.sides)
    digests = [side.contents if known else side.ids for side, known in zip(found.sides, by_content, strict=True)]
    known = [one for one in found.answers if one.direction == direction]
    if not known or found.truth is None:
        have = ", ".join(one.direction for one in found.answers) if found.truth is not None else "no stored relevance"
        raise ValueError(f"{run.path.name} has no judged direction {direction!r}; it has {have}")
    truth, shape = found.truth, (len(texts), len(images))
    relevance = Relevance.from_pairs(
        truth.queries, truth.items, truth.grades, n_queries=shape[0], n_gallery=shape[1]
    )  # fmt: skip
    clusters = _clusters(run, direction, texts.ids if known[0].forward else images.ids)
    if known[0].forward:
        return Version(texts, images, digests[1], digests[0], relevance, clusters)
    return Version(images, texts, digests[0], digests[1], relevance.T, clusters)


def _side(name: str, side: Items) -> Embeddings:
    if side.vectors is None:
        raise ValueError(f"{name} kept no {side.modality} vectors; evaluate again with keep_embeddings=true")
    return Embeddings(side.vectors, side.ids, side.modality)


def _clusters(run: Run, direction: str, ids: tuple[str, ...]) -> tuple[str, ...]:
    table = run.per_query
    rows = zip(table["direction"], table["query_id"], table["cluster_id"], strict=True)
    cluster = {query: str(own) for way, query, own in rows if way == direction}
    return tuple(cluster.get(name, f"alone {name}") for name in ids)
