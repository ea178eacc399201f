"""Training triplets out of captions alone: reference image, condition, target image, mined from scene graphs.

S. Vaze, N. Carion, I. Misra, "GeneCIS: A Benchmark for General Conditional Image Similarity", CVPR 2023,
https://arxiv.org/abs/2306.07969.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from workbench.datasets.scenes.language import caption
from workbench.datasets.scenes.world import Statement
from workbench.types import IntArray


class Edge(NamedTuple):
    """An edge of a caption's scene graph: the image it was written for, and subject, predicate, object."""

    image: int
    subject: str
    predicate: str
    object: str


@dataclass(frozen=True, eq=False)
class Triplets:
    """n triplets: reference (n,) and target (n,) are numbers of images, conditions n texts."""

    reference: IntArray
    conditions: tuple[str, ...]
    target: IntArray

    def __len__(self) -> int:
        return len(self.conditions)


def caption_graph(statements: Sequence[Statement], images: Sequence[int]) -> tuple[Edge, ...]:
    """The edges that captions state, in English; ``images`` says which image each was written for.

    (subject, relation, object) where a relation is stated, (subject, "with", object) between other mentions, and
    (subject, "on", background). A subject is the bare shape; a mention without a shape ("a red object") names no thing
    and has no edges. Colours and textures are no edges: parsers return them as attributes, not as predicates.

    >>> from workbench.datasets.scenes.world import Mention
    >>> said = Statement((Mention("star", "red"), Mention("moon")), "gray", "above")
    >>> [edge[1:] for edge in caption_graph([said], [7])][:2]
    [('star', 'above', 'a moon'), ('star', 'on', 'a gray background')]
    """
    if len(statements) != len(images):
        raise ValueError(f"{len(statements)} statements but {len(images)} images; one image for each is needed")
    return tuple(edge for said, image in zip(statements, images, strict=True) for edge in _edges(said, int(image)))


def mine_triplets(
    edges: Sequence[Edge],
    *,
    n: int,
    seed: int = 0,
    least_images: int = 5,
    least_objects: int = 2,
    concreteness: Mapping[str, float] | None = None,
    least_concreteness: float = 4.8,
) -> Triplets:
    """Pairs of images that share a subject and differ in what is said of it; the condition is what the target says.

    Subjects need ``least_images`` images and ``least_objects`` objects and are drawn by their number of images. The
    target's edge has the reference's subject, another object and another image; condition = predicate + object.
    concreteness : rating of subjects and objects; a pair is kept when the mean over its two subjects and two objects is
    above ``least_concreteness``; None keeps all. Pairs may repeat.
    Errors: no such subject; a thousand draws in a row without a pair (the published code goes on with a message).

    >>> said = [Edge(i, "star", "on", f"a {color} background") for i, color in enumerate(["gray", "pink"] * 3)]
    >>> mined = mine_triplets(said, n=2)
    >>> all((r - t) % 2 for r, t in zip(mined.reference, mined.target)), mined.conditions[0][:5]
    (True, 'on a ')
    """
    by_subject: dict[str, list[Edge]] = defaultdict(list)
    for edge in edges:
        by_subject[edge.subject].append(edge)
    n_images = {name: len({edge.image for edge in found}) for name, found in by_subject.items()}
    kept = [
        name for name, found in by_subject.items()
        if n_images[name] >= least_images and len({edge.object for edge in found}) >= least_objects
    ]  # fmt: skip
    if not kept:
        raise ValueError(f"no subject has {least_images} images and {least_objects} objects; give more captions")
    rng, weights = np.random.default_rng(seed), np.array([n_images[name] for name in kept], np.float64)
    pairs = []
    for subject in rng.choice(len(kept), n, p=weights / weights.sum()).tolist():
        pairs.append(_pair(by_subject[kept[subject]], rng, concreteness, least_concreteness))
    return Triplets(
        np.array([one.image for one, _ in pairs]),
        tuple(f"{other.predicate} {other.object}" for _, other in pairs),
        np.array([other.image for _, other in pairs]),
    )


def _pair(
    found: Sequence[Edge], rng: np.random.Generator, concreteness: Mapping[str, float] | None, least: float
) -> tuple[Edge, Edge]:
    for _ in range(1000):
        one, other = (found[int(index)] for index in rng.integers(len(found), size=2))
        if one.image == other.image or one.object == other.object:
            continue
        named = (one.subject, one.object, other.subject, other.object)
        if concreteness is None or np.mean([concreteness.get(name, 0.0) for name in named]) > least:
            return one, other
    raise ValueError(
        f"a thousand draws gave no pair for {found[0].subject!r}: its edges share their objects or images, or are not "
        f"concrete enough (above {least} on average)"
    )


def _edges(said: Statement, image: int) -> list[Edge]:
    phrases = [caption(Statement((mention,))) for mention in said.mentions]
    found = []
    for place, mention in enumerate(said.mentions):
        if mention.shape is None:
            continue
        for other, thing in enumerate(said.mentions):
            if other == place or thing.shape is None:
                continue
            related = said.relation is not None and {place, other} == {0, 1}
            if related and place == 1:
                continue  # the caption says it of the first, not of the second
            found.append(Edge(image, mention.shape, said.relation if related and said.relation else "with",
                              phrases[other]))  # fmt: skip
        if said.background is not None:
            found.append(Edge(image, mention.shape, "on", f"a {said.background} background"))
    return found
