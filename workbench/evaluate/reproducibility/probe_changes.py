"""What each stability probe changes: the world before it, and both directions measured after it."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from workbench.datasets import Side, take_images
from workbench.encoders.encode import encode
from workbench.evaluate.prepare import Direction, Prepared
from workbench.evaluate.reproducibility.resized import resized
from workbench.metrics import METRICS, Metric, parse_metric, per_query_all, ranks_from_lists
from workbench.search import RankPositives, TopK, scan
from workbench.threads import thread_count
from workbench.types import Embeddings, FloatArray, IntArray, Neighbours, Ranks, unit_vectors


@dataclass(frozen=True, eq=False)
class Measured:
    """Both directions: (n_queries, k) lists, and every metric per query."""

    lists: tuple[IntArray, ...]
    values: tuple[Mapping[str, FloatArray], ...]


@dataclass(frozen=True, eq=False)
class World:
    """What a probe starts from. images, texts are scored as they are; ``encoder`` is None for ready-made vectors."""

    prepared: Prepared
    metrics: tuple[Metric, ...]
    k: int
    depth: int
    batch_size: int
    memory: int
    similarity: str
    encoder: Any
    withheld: str = ""
    before: Measured = field(default=Measured((), ()))


@dataclass(frozen=True, eq=False)
class Changed:
    """The world after a change. vectors : (images, texts), None if they stay. before : another base if needed."""

    what: str
    measured: Measured
    vectors: tuple[np.ndarray, np.ndarray] | None = None
    before: Measured | None = None


class Probe(NamedTuple):
    """One line of :data:`PROBES`: what it changes, whether it encodes everything again, and how."""

    summary: str
    encodes: bool
    run: Callable[[World], Changed]


def world_of(prepared: Prepared, parameters: Mapping[str, Any]) -> World:
    """The part of the data that is probed, and what it measures before any change."""
    part = _first_images(prepared, parameters.get("probe_images", 0))
    shortest = min(len(part.images), len(part.texts) if not part.collection.one_way else len(part.images))
    asked = [parse_metric(name) for name in parameters["metrics"]]
    fit = tuple(m for m in asked if METRICS[m.name].aggregator == "mean" and (m.k or 0) <= shortest)
    hidden = prepared.encoder is not None and not (
        len(part.collection.images.content) and hasattr(prepared.encoder, "encode_text")
    )
    world = World(
        part, fit, min(parameters["k"], shortest), min(parameters["depth"], shortest), parameters["batch_size"],
        parameters["memory_mb"] * 2**20, parameters["similarity"], prepared.encoder,
        f"share={parameters['share']} keeps the contents from this report; run it with share=full" if hidden else "",
    )  # fmt: skip
    return replace(world, before=measure(world, part))


def _first_images(prepared: Prepared, n: int) -> Prepared:
    if not 0 < n < len(prepared.images):
        return prepared
    collection = take_images(prepared.collection, np.arange(n))
    place = {name: row for row, name in enumerate(prepared.texts.ids)}
    rows = np.array([place[name] for name in collection.texts.ids])
    images, texts = prepared.images, prepared.texts
    assert isinstance(images, Embeddings)
    assert isinstance(texts, Embeddings)
    return replace(
        prepared, collection=collection,
        images=replace(images, vectors=images.vectors[:n], ids=images.ids[:n]),
        texts=replace(texts, vectors=texts.vectors[rows], ids=tuple(texts.ids[row] for row in rows)),
        image_digests=prepared.image_digests[:n], text_digests=tuple(prepared.text_digests[row] for row in rows),
    )  # fmt: skip


def _with(world: World, images: np.ndarray, texts: np.ndarray) -> Prepared:
    part = world.prepared
    return replace(
        part, images=replace(part.images, vectors=images), texts=replace(part.texts, vectors=texts)  # type: ignore[arg-type]
    )  # fmt: skip


def _ranked(
    world: World, part: Prepared, depth: int, *, backwards: bool = False
) -> list[tuple[Direction, Neighbours, Ranks]]:
    """Lists and exact ranks of every direction. backwards : equal scores in descending order of id."""
    directions = part.directions()
    consumers: list[Any] = []
    for direction, of in zip(directions, ("queries", "gallery"), strict=False):
        ids: Sequence[str] = direction.gallery.ids
        if backwards:
            order = sorted(range(len(ids)), key=ids.__getitem__, reverse=True)
            ids = [f"{place:09d}" for place in np.argsort(order).tolist()]
        consumers += [TopK(depth, of=of, ids=ids), RankPositives(direction.relevance, of=of)]  # type: ignore[arg-type]
    forward = directions[0]
    vectors = forward.queries.vectors, forward.gallery.vectors  # type: ignore[union-attr]
    found = scan(*vectors, consumers, memory=world.memory)
    return list(zip(directions, found[::2], found[1::2], strict=True))


def measure(world: World, part: Prepared) -> Measured:
    found = _ranked(world, part, world.k)
    values = [per_query_all(world.metrics, ranks) for _, _, ranks in found]
    return Measured(
        tuple(lists.indices for _, lists, _ in found),
        tuple({name: one.expected for name, one in each.items()} for each in values),
    )


def _encoded(world: World, encoder: Any = None, *, batch_size: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Both sides from the encoder, without the store."""
    if world.encoder is None:
        raise ValueError("the data bring ready-made vectors, so no encoder runs")
    if world.withheld:
        raise ValueError(world.withheld)
    images, texts = (
        encode(
            world.encoder if encoder is None else encoder, side, batch_size=batch_size or world.batch_size,
            similarity=world.similarity, store="off", progress=False,  # type: ignore[arg-type]
        ).embeddings.vectors
        for side in (world.prepared.collection.images, world.prepared.collection.texts)
    )  # fmt: skip
    return images, texts


def _of(world: World, what: str, images: np.ndarray, texts: np.ndarray) -> Changed:
    return Changed(what, measure(world, _with(world, images, texts)), (images, texts))


def own_vectors(world: World) -> tuple[np.ndarray, np.ndarray]:
    return world.prepared.images.vectors, world.prepared.texts.vectors  # type: ignore[union-attr]


def again(world: World) -> Changed:
    if world.encoder is None:
        return Changed("searched twice", measure(world, world.prepared))
    return _of(world, "encoded and searched twice", *_encoded(world))


def _other_seed(world: World) -> Changed:
    with _seeded(20_011):
        return _of(world, "seeds of torch, numpy and random set to another number", *_encoded(world))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Every global generator at another place inside the block, and back where it was after it."""
    torch = sys.modules.get("torch")
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng() if torch is not None else contextlib.nullcontext():
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        if torch is not None:
            torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


def _other_threads(world: World) -> Changed:
    now = thread_count()
    other = 1 if now > 1 else 2
    with _threads(other):
        what = "another number of threads: one, or two where it was one"
        return (
            Changed(what, measure(world, world.prepared))
            if world.encoder is None
            else _of(world, what, *_encoded(world))
        )


@contextmanager
def _threads(number: int) -> Iterator[None]:
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch is not None else 0
    with threadpool_limits(limits=number):
        if torch is not None:
            torch.set_num_threads(number)
        try:
            yield
        finally:
            if torch is not None:
                torch.set_num_threads(before)


def _other_batch(world: World) -> Changed:
    """Half a batch, or half of what there is of the smaller side: both are cut elsewhere than before."""
    fewest = min(world.batch_size, *map(len, own_vectors(world)))
    other = max(1, fewest // 2) if world.batch_size > 1 else 2
    return _of(world, f"batches of {world.batch_size} → {other}", *_encoded(world, batch_size=other))


def _other_precision(world: World) -> Changed:
    """An encoder under torch's autocast in bfloat16, as benchmarks run it by default; ready-made vectors as float16."""
    if world.encoder is None:
        rounded = [vectors.astype(np.float16).astype(np.float32) for vectors in own_vectors(world)]
        if not all(np.isfinite(vectors).all() for vectors in rounded):
            raise ValueError("some numbers are too large for float16")
        scaled = [unit_vectors(vectors) for vectors in rounded] if world.similarity == "cosine" else rounded
        return _of(world, "vectors rounded to float16", *scaled)
    torch = sys.modules.get("torch")
    if torch is None:
        raise ValueError("the encoder does not compute with torch, whose autocast this probe uses")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        changed = _encoded(world)
    if all(np.array_equal(old, new) for old, new in zip(own_vectors(world), changed, strict=True)):
        raise ValueError(
            "torch's autocast turns no vector of this encoder: it computes elsewhere or sets its precision"
        )
    return _of(world, "as asked → bfloat16 autocast", *changed)


def _other_resize(world: World) -> Changed:
    if world.encoder is None or world.withheld:
        _encoded(world)
    other, what = resized(world.encoder, world.prepared.collection.images)
    return _of(world, what, *_encoded(world, other))


def _other_order(world: World) -> Changed:
    """Items of both sides backwards, encoded and searched in that order; results are read in the old one."""
    part, backwards = world.prepared, _backwards(world.prepared)
    turned = replace(world, prepared=backwards)
    vectors = own_vectors(turned) if world.encoder is None else _encoded(turned)
    found = measure(turned, _with(turned, *vectors))
    sizes = [len(direction.gallery) for direction in part.directions()]
    lists = tuple((n - 1 - lists)[::-1] for n, lists in zip(sizes, found.lists, strict=True))
    values = tuple({name: each[::-1] for name, each in one.items()} for one in found.values)
    return Changed("order of the items reversed", Measured(lists, values), (vectors[0][::-1], vectors[1][::-1]))


def _backwards(part: Prepared) -> Prepared:
    collection = part.collection
    images, texts = (np.arange(len(side))[::-1] for side in (collection.images, collection.texts))
    own = np.where(collection.text_image >= 0, len(images) - 1 - collection.text_image, -1)[::-1]
    turned = replace(
        collection, images=_turned(collection.images), texts=_turned(collection.texts), embeddings={},
        relevance=collection.relevance.take(texts, images), text_image=own,
    )  # fmt: skip
    sides = [replace(side, vectors=side.vectors[::-1], ids=side.ids[::-1]) for side in (part.images, part.texts)]  # type: ignore[union-attr,arg-type]
    return replace(
        part, collection=turned, images=sides[0], texts=sides[1], image_digests=part.image_digests[::-1],
        text_digests=part.text_digests[::-1],
    )  # fmt: skip


def _turned(side: Side) -> Side:
    return Side(side.modality, side.ids[::-1], list(side.content)[::-1])


def _other_ties(world: World) -> Changed:
    """Equal scores in ascending against descending order of id, in lists and in metrics that look no deeper."""
    deep = max([world.k, *(m.k for m in world.metrics if m.k is not None)])
    shallow = [m for m in world.metrics if m.k is not None]
    before, after = (
        _as_listed(_ranked(world, world.prepared, deep, backwards=turned), shallow, world.k) for turned in (False, True)
    )
    return Changed("equal scores by ascending → descending id", after, before=before)


def _as_listed(found: Sequence[tuple[Direction, Neighbours, Ranks]], metrics: Sequence[Metric], k: int) -> Measured:
    """Metrics of the lists in exactly the order in which they stand."""
    values = []
    for direction, lists, _ in found:
        places = np.broadcast_to(-np.arange(lists.k, dtype=np.float64), lists.scores.shape)
        ranks = ranks_from_lists(replace(lists, scores=places), direction.relevance)
        each = per_query_all(metrics, ranks, short_lists="as is")
        values.append({name: one.expected for name, one in each.items()})
    return Measured(tuple(lists.indices[:, :k] for _, lists, _ in found), tuple(values))


def _truncated(world: World) -> Changed:
    """Metrics from the lists that the run keeps, instead of from whole rankings."""
    metrics = [m for m in world.metrics if not METRICS[m.name].complete]
    values = []
    for direction, lists, _ in _ranked(world, world.prepared, world.depth):
        each = per_query_all(metrics, ranks_from_lists(lists, direction.relevance), short_lists="as is")
        values.append({name: one.expected for name, one in each.items()})
    return Changed(f"whole rankings → lists of {world.depth}", Measured(world.before.lists, tuple(values)))


#: Every probe: name -> what it changes, whether it encodes everything again, and how it is run.
PROBES: dict[str, Probe] = {
    "seed": Probe("every global random number generator", True, _other_seed),
    "threads": Probe("threads of torch and the numeric libraries", True, _other_threads),
    "batch_size": Probe("items per batch of the encoder", True, _other_batch),
    "precision": Probe("numbers the encoder computes in", True, _other_precision),
    "resize": Probe("interpolation with which pictures are resized", True, _other_resize),
    "item_order": Probe("order of the items in the data", True, _other_order),
    "tie_order": Probe("order of items with equal scores", False, _other_ties),
    "truncation": Probe("length of the lists that are scored", False, _truncated),
}
