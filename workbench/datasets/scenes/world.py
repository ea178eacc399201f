"""What a scene is, what a statement about it means, and when the one is true of the other.

A scene holds objects on a three by three grid in front of a background. A statement lists *mentions* of objects with
the attributes that are actually stated. The rules of truth, for every language alike:

1. A mention with count 1 ("a red circle") needs one object with all stated attributes; what is not stated may be
   anything.
2. "two red circles" means *at least* two; other objects never make a statement false.
3. Different mentions refer to different objects: "a circle and a red circle" needs two circles.
4. "A left of B" needs the column of A to be smaller than the column of B, whatever the rows; "above" needs a smaller
   row, whatever the columns. Mentions with a count above one need it of every pair.
5. A stated background must be the background.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.types import Relevance

SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "diamond", "moon")
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "black", "white")
SIZES = ("small", "large")
TEXTURES = ("plain", "striped", "dotted", "checked")
BACKGROUNDS = ("gray", "beige", "pink", "light blue", "light green")
RELATIONS = ("left of", "right of", "above", "below")
ATTRIBUTES = ("shape", "color", "size", "texture")
VALUES = {"shape": SHAPES, "color": COLORS, "size": SIZES, "texture": TEXTURES}
GRID = 3
MAX_OBJECTS = GRID * GRID

SPLITS = ("train", "val", "test")
_SPLIT_OF_EIGHTH = ("train",) * 6 + ("val", "test")
_WEIGHTS = {"shape": 6, "color": 4, "size": 2, "texture": 2, "background": 2}
_NUDGE = {"small": 3, "large": 1}


class Dice:
    """A stream of random decisions that depends on the given integers only.

    The raw 64-bit output of PCG64 is used, which numpy keeps the same for ever, while ``Generator`` methods may change.

    >>> [Dice(7, 1).below(6) for _ in range(2)], Dice(7, 2).below(6)
    ([3, 3], 3)
    """

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence([int(part) for part in key]))
        self._stock: list[int] = []

    def _next(self) -> int:
        if not self._stock:
            self._stock = self._bits.random_raw(64).tolist()
        return self._stock.pop()

    def below(self, n: int) -> int:
        """A whole number 0 .. n - 1."""
        return self._next() % n

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self._next() < probability * 18446744073709551616.0

    def choose(self, options: Sequence[str]) -> str:
        """One of the options."""
        return options[self._next() % len(options)]

    def sample(self, n: int, k: int) -> list[int]:
        """k different numbers out of 0 .. n - 1, in random order."""
        pool = list(range(n))
        return [pool.pop(self.below(len(pool))) for _ in range(k)]

    def weighted(self, weights: Sequence[int]) -> int:
        """An index, with probability proportional to its whole-number weight."""
        left = self.below(sum(weights))
        for index, weight in enumerate(weights):
            left -= weight
            if left < 0:
                return index
        raise AssertionError("weights must be positive")


def _check_value(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(known)}")


@dataclass(frozen=True, slots=True)
class Object:
    """One object: four attributes, its place on the grid, and a shift in 64ths of the image that means nothing."""

    shape: str
    color: str
    size: str
    texture: str
    row: int
    column: int
    nudge: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        for name in ATTRIBUTES:
            _check_value(name, getattr(self, name), VALUES[name])
        if not (0 <= self.row < GRID and 0 <= self.column < GRID):
            raise ValueError(f"row and column must lie in 0..{GRID - 1}; got {self.row} and {self.column}")


@dataclass(frozen=True, slots=True)
class Scene:
    """Objects in front of a background: everything there is to know about an image."""

    objects: tuple[Object, ...]
    background: str

    def __post_init__(self) -> None:
        _check_value("background", self.background, BACKGROUNDS)
        if not self.objects or len({(o.row, o.column) for o in self.objects}) < len(self.objects):
            raise ValueError("a scene needs at least one object, and each object its own place on the grid")

    @property
    def content(self) -> tuple[object, ...]:
        """The meaning without places: the background and the objects' attributes in sorted order."""
        return (self.background, *sorted((o.shape, o.color, o.size, o.texture) for o in self.objects))

    @property
    def arrangement(self) -> tuple[object, ...]:
        """The meaning with places: two scenes with the same arrangement make the same statements true."""
        objects = sorted((o.shape, o.color, o.size, o.texture, o.row, o.column) for o in self.objects)
        return (self.background, *objects)

    @property
    def split(self) -> str:
        """Which split this content belongs to: a checksum sends 6/8 to train, 1/8 to val, 1/8 to test."""
        return _SPLIT_OF_EIGHTH[zlib.crc32(repr(self.content).encode()) >> 5 & 7]


@dataclass(frozen=True, slots=True)
class Mention:
    """``count`` objects with the stated attributes; None is not stated."""

    shape: str | None = None
    color: str | None = None
    size: str | None = None
    texture: str | None = None
    count: int = 1

    def __post_init__(self) -> None:
        for name, value in self.stated:
            _check_value(name, value, VALUES[name])
        if self.count < 1:
            raise ValueError(f"a mention counts at least one object; got {self.count}")

    @property
    def stated(self) -> tuple[tuple[str, str], ...]:
        """(attribute, value) of what is stated."""
        pairs = (("shape", self.shape), ("color", self.color), ("size", self.size), ("texture", self.texture))
        return tuple((name, value) for name, value in pairs if value is not None)

    def fits(self, thing: Object) -> bool:
        """Does one object have all stated attributes?"""
        return (
            (self.shape is None or self.shape == thing.shape)
            and (self.color is None or self.color == thing.color)
            and (self.size is None or self.size == thing.size)
            and (self.texture is None or self.texture == thing.texture)
        )


@dataclass(frozen=True, slots=True)
class Statement:
    """The meaning of a caption. ``relation`` holds between the first and the second mention.

    >>> circle, star = Object("circle", "red", "small", "plain", 0, 0), Object("star", "red", "large", "plain", 0, 2)
    >>> Statement((Mention("circle"), Mention("star")), relation="left of").true_of(Scene((circle, star), "gray"))
    True
    >>> needs_three = Statement((Mention(color="red", count=2), Mention("star")))
    >>> needs_three.true_of(Scene((circle, star), "gray"))
    False
    """

    mentions: tuple[Mention, ...]
    background: str | None = None
    relation: str | None = None

    def __post_init__(self) -> None:
        if len(self.mentions) < (1 if self.relation is None else 2):
            raise ValueError("a statement needs at least one mention, and two for a relation")
        if self.background is not None:
            _check_value("background", self.background, BACKGROUNDS)
        if self.relation is not None:
            _check_value("relation", self.relation, RELATIONS)

    @property
    def n_stated(self) -> int:
        """How many attributes of objects are stated (counted per object), plus one for the background."""
        return sum(m.count * len(m.stated) for m in self.mentions) + (self.background is not None)

    def true_of(self, scene: Scene) -> bool:
        """Is there a way to give every mention its own objects so that all that is stated holds?"""
        if self.background is not None and self.background != scene.background:
            return False
        slots = [index for index, mention in enumerate(self.mentions) for _ in range(mention.count)]
        return len(slots) <= len(scene.objects) and _assign(self, slots, scene.objects, ())


def _assign(statement: Statement, slots: list[int], objects: tuple[Object, ...], used: tuple[int, ...]) -> bool:
    """Can the remaining slots be filled, each with its own object? Depth first, relations checked on the way."""
    if len(used) == len(slots):
        return True
    slot = slots[len(used)]
    for index, thing in enumerate(objects):
        if index in used or not statement.mentions[slot].fits(thing):
            continue
        if statement.relation is not None and slot == 1:
            firsts = [objects[i] for i, s in zip(used, slots, strict=False) if s == 0]
            if not all(related(first, statement.relation, thing) for first in firsts):
                continue
        if _assign(statement, slots, objects, (*used, index)):
            return True
    return False


def related(first: Object, relation: str, second: Object) -> bool:
    """Does the relation hold between two objects? Columns decide left and right, rows decide above and below."""
    if relation == "left of":
        return first.column < second.column
    if relation == "right of":
        return first.column > second.column
    return first.row < second.row if relation == "above" else first.row > second.row


def relevance(statements: Sequence[Statement], scenes: Sequence[Scene]) -> Relevance:
    """All true (statement, scene) pairs, with grade 1: (n_texts, n_images), sparse.

    Bit i of a per-image mask says that object i has a value. A mention is possible where the masks of what it states
    have at least ``count`` bits in common; only images where every mention is possible are looked at one by one.
    """
    if not statements or not scenes:
        raise ValueError(f"statements and scenes must not be empty; got {len(statements)} and {len(scenes)}")
    masks = _masks(scenes)
    n_objects = np.array([len(scene.objects) for scene in scenes])
    possible: dict[Mention, np.ndarray] = {}
    hits: dict[Statement, np.ndarray] = {}
    for statement in statements:
        if statement not in hits:
            hits[statement] = _true_scenes(statement, scenes, masks, n_objects, possible)
    lengths = [len(hits[statement]) for statement in statements]
    items = np.concatenate([hits[statement] for statement in statements])
    rows = np.repeat(np.arange(len(statements)), lengths)
    return Relevance.from_pairs(rows, items, n_queries=len(statements), n_gallery=len(scenes))


def _masks(scenes: Sequence[Scene]) -> dict[tuple[str, str], np.ndarray]:
    """(attribute, value) -> (n_images,): bit i is set where object i has the value; backgrounds are 0 or 1."""
    names = [(name, value) for name, values in VALUES.items() for value in values]
    masks = {name: np.zeros(len(scenes), np.uint16) for name in names}
    for row, scene in enumerate(scenes):
        for bit, thing in enumerate(scene.objects):
            for name in ATTRIBUTES:
                masks[name, getattr(thing, name)][row] |= 1 << bit
    for background in BACKGROUNDS:
        masks["background", background] = np.array([scene.background == background for scene in scenes])
    return masks


def _true_scenes(
    statement: Statement,
    scenes: Sequence[Scene],
    masks: dict[tuple[str, str], np.ndarray],
    n_objects: np.ndarray,
    possible: dict[Mention, np.ndarray],
) -> np.ndarray:
    """Indices of the scenes a statement is true of."""
    keep = n_objects >= sum(mention.count for mention in statement.mentions)
    if statement.background is not None:
        keep = keep & masks["background", statement.background]
    for mention in statement.mentions:
        if mention not in possible:
            common = np.full(len(scenes), 0xFFFF, np.uint16)
            for pair in mention.stated:
                common = common & masks[pair]
            possible[mention] = np.bitwise_count(common) >= mention.count
        keep = keep & possible[mention]
    found = np.flatnonzero(keep)
    if len(statement.mentions) == 1:
        return found
    return np.array([i for i in found.tolist() if statement.true_of(scenes[i])], dtype=np.int64)


def sample_scene(dice: Dice, *, objects: tuple[int, int] = (1, 4)) -> Scene:
    """A random scene: uniform number of objects, attributes and places.

    A quarter of the objects after the first repeat an earlier one in some attributes, so that counting ("two stars")
    and telling apart what differs in one attribute only are needed.
    """
    n = objects[0] + dice.below(objects[1] - objects[0] + 1)
    things: list[Object] = []
    for place in dice.sample(MAX_OBJECTS, n):
        values = {name: dice.choose(VALUES[name]) for name in ATTRIBUTES}
        if things and dice.chance(0.25):
            model = things[dice.below(len(things))]
            values.update({name: getattr(model, name) for name in ATTRIBUTES if dice.chance(0.6)})
        reach = _NUDGE[values["size"]]
        nudge = (dice.below(2 * reach + 1) - reach, dice.below(2 * reach + 1) - reach)
        things.append(Object(**values, row=place // GRID, column=place % GRID, nudge=nudge))
    return Scene(tuple(things), dice.choose(BACKGROUNDS))


def sample_in_split(dice: Dice, split: str, *, objects: tuple[int, int] = (1, 4)) -> Scene:
    """A random scene whose content belongs to the split."""
    while True:
        scene = sample_scene(dice, objects=objects)
        if scene.split == split:
            return scene


def sample_statement(dice: Dice, scene: Scene, *, completeness: float = 0.6, relations: float = 0.3) -> Statement:
    """A random true statement about a scene.

    ``completeness`` is the share of the 4 * n_objects + 1 attributes (those of the objects and the background) that is
    stated, rounded at random, at least one shape; objects of which nothing is stated are not mentioned. Shapes are
    stated more often than colours, these more often than the rest. ``relations`` is the probability of a stated
    relation where there are two single mentions.
    """
    stated, background = _choose_stated(dice, scene, completeness)
    mentions: dict[Mention, list[Object]] = {}
    for index, thing in enumerate(scene.objects):
        for earlier in range(index):  # say "two stars" now and then, not "a star and a red star"
            model, names = scene.objects[earlier], stated[earlier]
            same = names and stated[index] and all(getattr(thing, name) == getattr(model, name) for name in names)
            if same and dice.chance(0.5):
                stated[index] = names
        if stated[index]:
            mention = Mention(**{name: getattr(thing, name) for name in ATTRIBUTES if name in stated[index]})
            mentions.setdefault(mention, []).append(thing)
    return _phrase(dice, mentions, scene.background if background else None, relations)


def _choose_stated(dice: Dice, scene: Scene, completeness: float) -> tuple[list[set[str]], bool]:
    """Which attributes of which object are stated, and whether the background is."""
    facts = [(index, name) for index in range(len(scene.objects)) for name in ATTRIBUTES] + [(-1, "background")]
    number, rest = divmod(completeness * len(facts), 1)
    number = int(number) + dice.chance(rest)
    stated: list[set[str]] = [set() for _ in scene.objects]
    first = dice.below(len(scene.objects))
    stated[first].add("shape")
    facts.remove((first, "shape"))
    background = False
    for _ in range(min(number - 1, len(facts))):
        index, name = facts.pop(dice.weighted([_WEIGHTS[name] for _, name in facts]))
        if index < 0:
            background = True
        else:
            stated[index].add(name)
    return stated, background


def _phrase(dice: Dice, mentions: dict[Mention, list[Object]], background: str | None, relations: float) -> Statement:
    """Put the mentions in order, those in a relation first, and count the objects of each."""
    singles = [mention for mention, things in mentions.items() if len(things) == 1]
    relation = None
    order = list(mentions)
    if len(singles) > 1 and dice.chance(relations):
        picked = [singles[i] for i in dice.sample(len(singles), 2)]
        first, second = (mentions[mention][0] for mention in picked)
        relation = dice.choose([name for name in RELATIONS if related(first, name, second)])
        order = picked + [mention for mention in order if mention not in picked]
    counted = [Mention(m.shape, m.color, m.size, m.texture, len(mentions[m])) for m in order]
    return Statement(tuple(counted), background, relation)
