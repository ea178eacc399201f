"""Scenes seen from three sides, each with coarse and fine labels, and grades of how much two scenes have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np

from workbench.datasets.scenes.world import BACKGROUNDS, COLORS, SHAPES, TEXTURES, Object, Scene
from workbench.types import FloatArray, Relevance

Labels = dict[str, tuple[FloatArray, ...]]
_FAMILY = {"gray": 0, "beige": 0, "pink": 1, "light blue": 2, "light green": 2}
MOST = {"objects": 4, "relations": 3, "background": 1}
"""How many points of a grade each view can give; a grade is their rounded sum, 0 to 8."""


def view_labels(scenes: Sequence[Scene]) -> Labels:
    """view -> its levels, coarse to fine, as arrays (n_scenes, n_labels) of zeros and ones.

    objects : shape (8); shape and color (64); shape, color and texture (256). relations : "a <shape> is left of" or
    "above" something (16); the same with the shape of the other (128). background : family (3), background (5).

    >>> objects = [Object(shape, "red", "small", "plain", 0, column) for column, shape in enumerate(("circle", "star"))]
    >>> one = Scene(tuple(objects), "pink")
    >>> {view: [int(level.sum()) for level in levels] for view, levels in view_labels([one]).items()}
    {'objects': [2, 2, 2], 'relations': [1, 1], 'background': [1, 1]}
    """
    shape, color, texture = ({name: i for i, name in enumerate(names)} for names in (SHAPES, COLORS, TEXTURES))
    ground = {name: i for i, name in enumerate(BACKGROUNDS)}

    def numbers(scene: Scene) -> dict[str, list[set[int]]]:
        kinds = [(shape[o.shape], color[o.color], texture[o.texture]) for o in scene.objects]
        pairs = [(kind, shape[a.shape], shape[b.shape]) for kind, a, b in _relations(scene.objects)]
        return {
            "objects": [{s for s, _, _ in kinds}, {8 * s + c for s, c, _ in kinds},
                        {4 * (8 * s + c) + t for s, c, t in kinds}],
            "relations": [{8 * kind + a for kind, a, _ in pairs}, {8 * (8 * kind + a) + b for kind, a, b in pairs}],
            "background": [{_FAMILY[scene.background]}, {ground[scene.background]}],
        }  # fmt: skip

    found = [numbers(scene) for scene in scenes]
    widths = {"objects": (8, 64, 256), "relations": (16, 128), "background": (3, 5)}
    return {
        view: tuple(_hot([one[view][level] for one in found], width) for level, width in enumerate(sizes))
        for view, sizes in widths.items()
    }


def _relations(objects: Sequence[Object]) -> list[tuple[int, Object, Object]]:
    pairs = list(permutations(objects, 2))
    left = [(0, a, b) for a, b in pairs if a.column < b.column]
    return left + [(1, a, b) for a, b in pairs if a.row < b.row]


def _hot(numbers: Sequence[set[int]], width: int) -> FloatArray:
    found = np.zeros((len(numbers), width))
    for row, chosen in enumerate(numbers):
        found[row, sorted(chosen)] = 1.0
    return found


def view_grades(queries: Sequence[Scene], documents: Sequence[Scene]) -> Relevance:
    """Every pair graded 0 to 8 by what the two scenes really share; grade 0 is stored as judged and not relevant.

        grade = round( sum over views of  most points of the view x mean over its levels of |A and B| / |A or B| )

    Two scenes without any relation share nothing there.
    """
    mine, theirs = view_labels(queries), view_labels(documents)
    total = np.zeros((len(queries), len(documents)))
    for view, most in MOST.items():
        overlaps = [_jaccard(a, b) for a, b in zip(mine[view], theirs[view], strict=True)]
        total += most * np.mean(overlaps, axis=0)
    grades = np.round(total)
    rows, columns = np.indices(grades.shape).reshape(2, -1)
    shape = {"n_queries": len(queries), "n_gallery": len(documents)}
    return Relevance.from_pairs(rows, columns, grades.ravel(), **shape)


def _jaccard(a: FloatArray, b: FloatArray) -> FloatArray:
    both = a @ b.T
    either = a.sum(1)[:, None] + b.sum(1)[None] - both
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)


def misread(scenes: Sequence[Scene], share: float, seed: int) -> tuple[Scene, ...]:
    """The scenes as a labeller sees them who errs: each shape, color, texture and background is read anew by chance.

    share : probability, 0 to 1, that one of these is replaced by a random value (which may be the right one).
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in 0..1; got {share}")
    dice = np.random.default_rng(seed)

    def read(value: str, known: Sequence[str]) -> str:
        return str(known[dice.integers(len(known))]) if dice.random() < share else value

    def seen(one: Object) -> Object:
        return replace(one, shape=read(one.shape, SHAPES), color=read(one.color, COLORS),
                       texture=read(one.texture, TEXTURES))  # fmt: skip

    return tuple(
        Scene(tuple(seen(one) for one in scene.objects), read(scene.background, BACKGROUNDS)) for scene in scenes
    )
