"""Questions of the form "which of these is closer?", in a world where content, style and wear of an image are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workbench.types import FloatArray, IntArray

CONTENT, STYLE, WEAR = 12, 6, 6
DIM = CONTENT + STYLE + WEAR
TASKS = ("same content", "style in words", "caption", "wear")
FORMS = ("same content, new styles", "odd one out")
"""The two that no model is trained on: the first task in styles it has not seen, and another form of question."""


@dataclass(frozen=True, eq=False)
class Choice:
    """Questions with one right candidate.

    reference (n, dim), candidates (n, m, dim), right (n,) : place of the right one. images : which of the two hold
    images, "reference", "candidates" or "both"; the rest are texts. pairs : the question is which of three candidates
    is odd, and the reference is not looked at.
    """

    reference: FloatArray
    candidates: FloatArray
    right: IntArray
    images: str
    pairs: bool = False

    def scores(self, head: npt.ArrayLike | None = None) -> FloatArray:
        """(n, m) cosines of the reference with the candidates, images taken through a linear head (dim, dim) first.

        For the odd one out the score of an item is the cosine of the *other two*: the closest pair leaves it out.
        """
        turn = (lambda x: x) if head is None else (lambda x: x @ np.asarray(head, np.float64))
        items = _unit(turn(self.candidates) if self.images != "reference" else self.candidates)
        if self.pairs:
            a, b, c = items[:, 0], items[:, 1], items[:, 2]
            return np.stack([(b * c).sum(1), (a * c).sum(1), (a * b).sum(1)], axis=1)
        own = _unit(turn(self.reference) if self.images != "candidates" else self.reference)
        return np.asarray(np.einsum("nd,nmd->nm", own, items))


class ChoiceWorld:
    """Encoders of images and texts that agree by and large, and questions about six things.

    An image is content, style and wear, put side by side and turned by one rotation for all; a text says content or
    style in the same space, less exactly. The tasks conflict: in "same content" the wrong candidate has the style of
    the reference, so that style must be ignored; "style in words" asks for nothing else.
    same content : image, and two images; the right one shows nearly the same content in another style.
    style in words : text that names a style, and two images. caption : image, and two texts, one of which says a part
    of the content wrongly. wear : the text of a new image, and one image with little and one with much wear.

    >>> found = ChoiceWorld(seed=0).questions("caption", 5, seed=1)
    >>> found.reference.shape, found.candidates.shape, found.images
    ((5, 24), (5, 2, 24), 'reference')
    """

    def __init__(self, *, seed: int = 0) -> None:
        dice = np.random.default_rng([seed, 0])
        self._turn = np.linalg.qr(dice.standard_normal((DIM, DIM)))[0]
        self._styles = dice.standard_normal((24, STYLE))
        self._worn = _unit(dice.standard_normal(WEAR))

    def questions(self, task: str, n: int, *, seed: int) -> Choice:
        """n questions of a task out of TASKS and FORMS; the same seed gives the same questions."""
        if task not in (*TASKS, *FORMS):
            raise ValueError(f"no task {task!r}; there is {', '.join((*TASKS, *FORMS))}")
        dice = np.random.default_rng([seed, 1 + (*TASKS, *FORMS).index(task)])
        make = {"same content": self._same, "style in words": self._style, "caption": self._caption,
                "wear": self._wear, "same content, new styles": self._new, "odd one out": self._odd}[task]  # fmt: skip
        return make(n, dice)

    def _image(self, content: FloatArray, style: FloatArray, wear: FloatArray) -> FloatArray:
        return np.concatenate([content, 1.2 * style, wear], axis=-1) @ self._turn

    def _text(self, dice: np.random.Generator, content: FloatArray, style: FloatArray) -> FloatArray:
        said = np.concatenate([content, 1.2 * style, np.zeros((*content.shape[:-1], WEAR))], axis=-1)
        return (said + 0.35 * dice.standard_normal(said.shape)) @ self._turn

    def _some(
        self, dice: np.random.Generator, n: int, *, new: bool = False
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        pool = self._styles[12:] if new else self._styles[:12]
        style = pool[dice.integers(len(pool), size=n)] + 0.3 * dice.standard_normal((n, STYLE))
        return dice.standard_normal((n, CONTENT)), style, 0.5 * dice.standard_normal((n, WEAR))

    def _same(self, n: int, dice: np.random.Generator, *, new: bool = False) -> Choice:
        content, style, wear = self._some(dice, n, new=new)
        near = content + 0.6 * dice.standard_normal(content.shape)
        far = content + 1.8 * dice.standard_normal(content.shape)
        _, other, more = self._some(dice, n, new=new)
        right = self._image(near, other, more)
        wrong = self._image(far, style + 0.8 * dice.standard_normal(style.shape), more)
        return _shuffled(dice, self._image(content, style, wear), right, wrong, "both")

    def _new(self, n: int, dice: np.random.Generator) -> Choice:
        return self._same(n, dice, new=True)

    def _style(self, n: int, dice: np.random.Generator) -> Choice:
        content, style, wear = self._some(dice, n)
        others, another, more = self._some(dice, n)
        asked = self._text(dice, np.zeros_like(content), style)
        return _shuffled(
            dice, asked, self._image(content, style, wear), self._image(others, another, more), "candidates"
        )

    def _caption(self, n: int, dice: np.random.Generator) -> Choice:
        content, style, wear = self._some(dice, n)
        wrong = content.copy()
        wrong[:, :3] = dice.standard_normal((n, 3))
        said = [self._text(dice, one, np.zeros_like(style)) for one in (content, wrong)]
        return _shuffled(dice, self._image(content, style, wear), said[0], said[1], "reference")

    def _wear(self, n: int, dice: np.random.Generator) -> Choice:
        content, style, _ = self._some(dice, n)
        prompt = np.concatenate([np.zeros((n, CONTENT + STYLE)), -np.broadcast_to(self._worn, (n, WEAR))], axis=1)
        asked = (prompt + 0.35 * dice.standard_normal(prompt.shape)) @ self._turn
        amount = dice.random((2, n, 1))
        less, more = np.minimum(*amount), np.maximum(*amount)
        worn = [self._image(content, style, 2 * one * self._worn + 0.5 * dice.standard_normal((n, WEAR)))
                for one in (less, more)]  # fmt: skip
        return _shuffled(dice, asked, worn[0], worn[1], "candidates")

    def _odd(self, n: int, dice: np.random.Generator) -> Choice:
        content, style, wear = self._some(dice, n)
        other, another, more = self._some(dice, n)
        near = content + 0.8 * dice.standard_normal(content.shape)
        _, third, less = self._some(dice, n)
        both = np.stack([self._image(content, style, wear), self._image(near, third, less)], axis=1)
        place = dice.integers(3, size=n)
        found = np.empty((n, 3, DIM))
        odd = self._image(other, another, more)
        for odd_at in range(3):
            rest = [i for i in range(3) if i != odd_at]
            rows = place == odd_at
            found[rows, odd_at], found[rows, rest[0]], found[rows, rest[1]] = odd[rows], both[rows, 0], both[rows, 1]
        return Choice(np.zeros((n, DIM)), found, place, "both", pairs=True)


def _shuffled(
    dice: np.random.Generator, reference: FloatArray, right: FloatArray, wrong: FloatArray, images: str
) -> Choice:
    place = dice.integers(2, size=len(reference))
    first = np.where(place[:, None] == 0, right, wrong)
    second = np.where(place[:, None] == 0, wrong, right)
    return Choice(reference, np.stack([first, second], axis=1), place, images)


def _unit(vectors: FloatArray) -> FloatArray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))
