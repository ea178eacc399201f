"""Conditional similarity: a reference image, a condition, and a gallery in which neither alone finds the target.

A *template* asks for the image that keeps something of the reference and meets a condition. Four tasks, after S. Vaze,
N. Carion, I. Misra, "GeneCIS: A Benchmark for General Conditional Image Similarity", CVPR 2023,
https://arxiv.org/abs/2306.07969, with everything that is true known from the scenes:

    focus/attribute  condition "color" or "texture"; the target has the reference's shape, and its colour (texture)
    change/attribute condition "a red shape"; the target has the reference's shape, in red, which the reference is not
    focus/object     condition "a red star", which the reference holds; the target holds one too, and keeps the place
    change/object    condition "a red star", which the reference lacks; the target holds one, and keeps the place

To keep the place is to have the same background and to hold a shape that the reference holds. The attribute tasks use
scenes of one object. A gallery has one target, *image distractors*, which keep what the target keeps, are at least as
like the reference as the target is, and do not meet the condition; *text distractors*, which meet the condition and
do not keep; and *fillers*, which do neither. So who looks at the image alone or at the text alone has to guess.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from workbench.compose import Mixing
from workbench.datasets.scenes.language import caption
from workbench.datasets.scenes.world import BACKGROUNDS, COLORS, SHAPES, SIZES, TEXTURES, Mention, Scene, Statement
from workbench.metrics import MetricValues, per_query, ranks_from_scores
from workbench.types import IntArray, Relevance, unit_vectors

Task = Literal["focus/attribute", "change/attribute", "focus/object", "change/object"]
TASKS: tuple[Task, ...] = ("focus/attribute", "change/attribute", "focus/object", "change/object")
KINDS = ("target", "image distractor", "text distractor", "filler")
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Templates:
    """Templates of one task over a list of scenes; T of them, galleries of G.

    reference (T,), gallery (T, G) : numbers of scenes. target (T,) : the target's place in its gallery, at random.
    kinds (T, G) : what each place holds, an index into ``KINDS``. conditions : T texts. spare (T, S) : fillers that are
    in no gallery yet, for :meth:`without`.
    """

    task: Task
    reference: IntArray
    conditions: tuple[str, ...]
    gallery: IntArray
    target: IntArray
    kinds: IntArray
    spare: IntArray

    def __len__(self) -> int:
        return len(self.reference)

    def without(self, *kinds: str) -> Templates:
        """The same templates with every place of these kinds given to a spare filler: galleries stay as large.

        "filler" exchanges as many fillers as there are image distractors, the control for the exchange itself.
        """
        gallery, known = self.gallery.copy(), self.kinds.copy()
        if len(set(kinds)) != len(kinds) or len(kinds) > 2 or not set(kinds) <= set(KINDS[1:]):
            raise ValueError(f"one can do without one or two of {', '.join(KINDS[1:])}; got {', '.join(kinds)}")
        n = int((self.kinds[0] == 1).sum())
        for row in range(len(self)):
            places = [place for name in kinds for place in np.flatnonzero(self.kinds[row] == KINDS.index(name))[:n]]
            gallery[row, places], known[row, places] = self.spare[row, : len(places)], 3
        return replace(self, gallery=gallery, kinds=known)


class _Question(NamedTuple):
    """What a template asks of a pool: the reference, the words, and which scenes keep and which meet."""

    reference: int
    condition: str
    keeps: Bools
    meets: Bools


def make_templates(
    scenes: Sequence[Scene],
    task: Task,
    *,
    n_templates: int = 200,
    n_gallery: int = 15,
    n_distractors: int = 4,
    seed: int = 0,
) -> Templates:
    """Templates of a task with galleries drawn from the scenes; no scene twice in a template, the reference nowhere.

    n_distractors : of each of the two kinds; the rest of the gallery are fillers. References are tried in random
    order, as often as it takes, each time with another condition; one that the pool has no full gallery for is left.
    Errors: an unknown task, a gallery too small for both kinds, a pool that yields fewer templates.

    >>> from workbench.datasets.scenes import scenes
    >>> made = make_templates(scenes(n_images=600).scenes, "change/object", n_templates=3, n_gallery=15)
    >>> made.gallery.shape, [int((made.kinds[0] == kind).sum()) for kind in range(4)]
    ((3, 15), [1, 4, 4, 6])
    """
    if task not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}; got {task!r}")
    n_fillers = n_gallery - 1 - 2 * n_distractors
    if n_distractors < 1 or n_fillers < n_distractors:
        raise ValueError(
            f"a gallery of {n_gallery} has no room for the target, 2 x {n_distractors} distractors and {n_distractors} "
            f"fillers; ask for {1 + 3 * max(1, n_distractors)} places or more"
        )
    rng, pool = np.random.default_rng(seed), _Pool(scenes)
    found = []
    for question in _questions(pool, task, rng, tries=40 * n_templates):
        filled = _filled(question, pool, n_distractors, n_fillers, rng)
        if filled is not None:
            found.append((question, *filled))
        if len(found) == n_templates:
            return _templates(task, found, rng)
    raise ValueError(
        f"{len(scenes)} scenes give {len(found)} templates of {task}, not {n_templates}; give more scenes, or ask for "
        "fewer templates or distractors"
    )


class _Pool:
    """Scenes as counts of parts, so that what is shared can be added up."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        if not scenes:
            raise ValueError("templates need scenes; got none")
        self.scenes = scenes
        pairs = [("shape", s) for s in SHAPES] + [(s, v) for s in SHAPES for v in (*COLORS, *TEXTURES, *SIZES)]
        self.column = {part: index for index, part in enumerate([("background", b) for b in BACKGROUNDS] + pairs)}
        self.parts = np.zeros((len(scenes), len(self.column)), np.int64)
        for row, scene in enumerate(scenes):
            self.parts[row, self.column["background", scene.background]] += 1
            for thing in scene.objects:
                self.parts[row, self.column["shape", thing.shape]] += 1
                for value in (thing.color, thing.texture, thing.size):
                    self.parts[row, self.column[thing.shape, value]] += 1
        self.single = np.array([len(scene.objects) == 1 for scene in scenes])
        self.values = {
            name: np.array([getattr(scene.objects[0], name) for scene in scenes]) for name in ("color", "texture")
        }

    def has(self, kind: str, value: str) -> Bools:
        """Which scenes have a part."""
        return np.asarray(self.parts[:, self.column[kind, value]] > 0)

    def likeness(self, scene: int) -> IntArray:
        """Parts shared with a scene: the background, and of each object its shape and that with each attribute."""
        return np.asarray(np.minimum(self.parts, self.parts[scene]).sum(axis=1))


def _questions(pool: _Pool, task: Task, rng: np.random.Generator, *, tries: int) -> Iterator[_Question]:
    about = task.endswith("attribute")
    eligible = np.flatnonzero(pool.single if about else ~pool.single)
    order = np.concatenate([rng.permutation(eligible) for _ in range(-(-tries // max(1, len(eligible))))])
    for reference in order[:tries].tolist():
        yield (_attribute if about else _object)(pool, reference, task.startswith("focus"), rng)


def _attribute(pool: _Pool, reference: int, focus: bool, rng: np.random.Generator) -> _Question:
    thing = pool.scenes[reference].objects[0]
    name = str(rng.choice(["color", "texture"]))
    own = getattr(thing, name)
    value = own if focus else str(rng.choice([v for v in (COLORS if name == "color" else TEXTURES) if v != own]))
    words = name if focus else caption(Statement((Mention(**{name: value}),)))
    keeps = pool.single & pool.has("shape", thing.shape)
    return _Question(reference, words, keeps, pool.single & (pool.values[name] == value))


def _object(pool: _Pool, reference: int, focus: bool, rng: np.random.Generator) -> _Question:
    scene = pool.scenes[reference]
    shapes = sorted({thing.shape for thing in scene.objects})
    kept = str(rng.choice(shapes))
    if focus:
        thing = scene.objects[int(rng.integers(len(scene.objects)))]
        shape, color = thing.shape, thing.color
    else:
        shape, color = str(rng.choice([s for s in SHAPES if s not in shapes])), str(rng.choice(COLORS))
    keeps = ~pool.single & pool.has("background", scene.background) & pool.has("shape", kept)
    meets = ~pool.single & pool.has(shape, color)
    if shape == kept:  # what is kept has to be another object than the one asked for
        keeps = np.zeros_like(keeps)
    return _Question(reference, caption(Statement((Mention(shape, color),))), keeps, meets)


def _filled(
    question: _Question, pool: _Pool, n_distractors: int, n_fillers: int, rng: np.random.Generator
) -> tuple[int, IntArray, IntArray, IntArray] | None:
    """(target, image distractors, text distractors, fillers with spare ones), or None where the pool lacks them."""
    keeps, meets = question.keeps.copy(), question.meets.copy()
    like = pool.likeness(question.reference)
    fits = pool.single == pool.single[question.reference]
    fits &= (pool.parts != pool.parts[question.reference]).any(axis=1)  # neither the reference nor its copies
    targets = np.flatnonzero(keeps & meets & fits)
    if not len(targets):
        return None
    target = int(rng.choice(targets))
    wanted = (
        (keeps & ~meets & fits & (like >= like[target]), n_distractors),
        (meets & ~keeps & fits, n_distractors),
        (~keeps & ~meets & fits, n_fillers + 2 * n_distractors),
    )
    if any(mask.sum() < n for mask, n in wanted):
        return None
    image, text, fillers = (rng.choice(np.flatnonzero(mask), n, replace=False) for mask, n in wanted)
    return target, image, text, fillers


def _templates(
    task: Task, found: Sequence[tuple[_Question, int, IntArray, IntArray, IntArray]], rng: np.random.Generator
) -> Templates:
    rows, kinds, spare = [], [], []
    for _, target, image, text, fillers in found:
        used = len(fillers) - len(image) - len(text)
        rows.append(np.concatenate([[target], image, text, fillers[:used]]))
        kinds.append(np.repeat(np.arange(4), (1, len(image), len(text), used)))
        spare.append(fillers[used:])
    order = rng.permuted(np.tile(np.arange(len(rows[0])), (len(rows), 1)), axis=1)
    gallery, known = (np.take_along_axis(np.array(part), order, axis=1) for part in (rows, kinds))
    reference = np.array([question.reference for question, *_ in found])
    conditions = tuple(question.condition for question, *_ in found)
    return Templates(task, reference, conditions, gallery, np.argmin(known, axis=1), known, np.array(spare))


def evaluate_templates(
    queries: npt.ArrayLike, gallery: npt.ArrayLike, target: npt.ArrayLike, *, ks: Sequence[int] = (1, 2, 3)
) -> dict[str, MetricValues]:
    """hit@k of every template over its own gallery, by cosine; ties are counted by their expectation.

    queries (T, dim), one composed vector a template; gallery (T, G, dim); target (T,), the place of the target.
    Returns "hit@1", ... -> values (T,), each with expected, worst and best. A constant scorer gets k / G; sorting its
    equal scores by place gives 100 % where the target comes first, as it does in the published files.
    Errors: shapes that differ, a place that does not exist, NaN, a zero vector.

    >>> evaluate_templates([[1.0, 0.0]], [[[0.0, 1.0], [1.0, 1.0]]], [1], ks=(1,))["hit@1"].expected
    array([1.])
    """
    vectors = np.asarray(gallery, np.float64)
    if vectors.ndim != 3 or np.ndim(queries) != 2 or len(vectors) != len(np.asarray(queries)):
        raise ValueError(
            f"queries must be (T, dim) and gallery (T, G, dim) of the same T; got {np.shape(queries)}, {vectors.shape}"
        )
    n, size, dim = vectors.shape
    own = np.asarray(unit_vectors(queries), np.float64)
    others = np.asarray(unit_vectors(vectors.reshape(n * size, dim)), np.float64).reshape(n, size, dim)
    return evaluate_scores(np.einsum("td,tgd->tg", own, others), target, ks=ks)


def evaluate_scores(
    scores: npt.ArrayLike, target: npt.ArrayLike, *, ks: Sequence[int] = (1, 2, 3)
) -> dict[str, MetricValues]:
    """:func:`evaluate_templates` from scores (T, G), higher is closer.

    >>> evaluate_scores([[0.0, 0.0, 0.0, 0.0]], [2], ks=(1, 2))["hit@2"].expected
    array([0.5])
    """
    places, table = np.asarray(target, np.int64), np.asarray(scores, np.float64)
    if table.ndim != 2 or places.shape != table.shape[:1]:
        raise ValueError(f"scores must be (T, G) with one target each; got {table.shape} and {places.shape}")
    right = Relevance.from_pairs(np.arange(len(places)), places, n_queries=len(places), n_gallery=table.shape[1])
    ranks = ranks_from_scores(table, right)
    return {f"hit@{k}": per_query(f"hit@{k}", ranks) for k in ks}


@dataclass(frozen=True)
class ShortcutReport:
    """hit@1 of the queries that use half of the question, or nothing of it, and of the plain average of both.

    chance : 1 / G. n : templates.
    """

    image_only: float
    text_only: float
    average: float
    random: float
    constant: float
    chance: float
    n: int

    def table(self) -> list[dict[str, Any]]:
        """One row per query, in per cent."""
        names = ("image_only", "text_only", "average", "random", "constant")
        return [{"query": name.replace("_", " "), "hit@1 %": 100 * getattr(self, name)} for name in names]


def shortcut_report(
    references: npt.ArrayLike,
    conditions: npt.ArrayLike,
    gallery: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    mixing: Mixing | None = None,
    seed: int = 0,
) -> ShortcutReport:
    """Does a benchmark need its conditions and its references? What each finds alone, beside the average of both.

    references, conditions (T, dim); gallery (T, G, dim); target (T,). mixing : the average, ``Mixing()`` by default.

    >>> gallery = [[[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]]
    >>> report = shortcut_report([[1.0, 0.0]], [[0.0, 1.0]], gallery, [0])
    >>> report.image_only, report.text_only, report.average, report.constant
    (0.0, 0.0, 1.0, 0.25)
    """
    places, size = np.asarray(target), np.shape(gallery)[1]
    mixed = (mixing or Mixing())(references, conditions)
    noise = np.random.default_rng(seed).random((len(places), size))
    first = [evaluate_templates(q, gallery, places, ks=(1,)) for q in (references, conditions, mixed)]
    first += [evaluate_scores(scores, places, ks=(1,)) for scores in (noise, np.zeros_like(noise))]
    hits = [float(one["hit@1"].expected.mean()) for one in first]
    return ShortcutReport(*hits, chance=1 / size, n=len(places))
