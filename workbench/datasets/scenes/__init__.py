"""A procedural world of coloured shapes with captions in five languages, where everything that is true is known.

``scenes`` makes a collection with dials for its difficulty and its defects; ``training_batch`` is an endless stream
from the training split. What a caption means, and when it is true, is in ``world``; pictures are in ``render``; wording
is in ``language``.

Everything follows from integers: the same arguments give the same pixels and captions on every machine. The splits
share no content: which split a set of objects with a background belongs to follows from a checksum of it. Within a
collection no two images have the same arrangement (unless planted), a longer collection begins with the shorter one,
and turning a dial of defects leaves the items it does not replace as they were.

The dials of difficulty
    objects : fewest and most objects of an image.
    completeness : share of the attributes (shape, colour, size, texture of every object, and the background) that a
    caption states. The less is stated, the more images a caption is true of.
    paraphrase : probability that a choice of wording departs from the canonical one; 0 gives one wording per meaning.
    languages, captions_per_image : captions take turns, so that ``captions_per_image`` is the total over all languages;
    five times the number of languages gives five of each. The same call with other languages gives the same statements,
    translated.

The dials of defects, each a share with a known place (columns ``planted`` and, for images, ``source_id``). They replace
items, so that ``n_images`` stays; the three shares of images add up to 0.5 at most.
    labels : "complete" marks every true pair and every text's own image; "own" marks the own image only, as most
    published data sets do, and leaves the other true pairs unjudged. ``truth(collection)`` has the truth in any case.
    mismatched : texts that describe another image and are false of their own, which stays labelled as right.
    duplicates : images that repeat another one pixel by pixel, with their own captions.
    near_duplicates : the same scene shifted by a pixel (per 64) and lighter or darker by 3-8 %.
    split_leaks : images of val or test that are also in ``scenes(split="train")`` with the same seed, size and objects
    and at least as many images. ``training_batch`` does not show them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from workbench.datasets.collection import Card, Collection, Side, content_digest
from workbench.datasets.scenes.language import LANGUAGES, caption, vocabulary, words
from workbench.datasets.scenes.render import render
from workbench.datasets.scenes.world import (
    MAX_OBJECTS,
    SPLITS,
    Dice,
    Mention,
    Object,
    Scene,
    Statement,
    relevance,
    sample_in_split,
    sample_scene,
    sample_statement,
)
from workbench.types import Relevance

__all__ = [
    "LANGUAGES", "SPLITS", "Dice", "Mention", "Object", "Scene", "SceneCollection", "Statement", "caption", "relevance",
    "render", "sample_scene", "sample_statement", "scenes", "training_batch", "training_stream", "truth", "vocabulary",
    "words",
]  # fmt: skip

COMPLETENESS = 0.6
PARAPHRASE = 0.5
_SCENE, _MEANING, _WORDING, _IMAGE_DEFECT, _TEXT_DEFECT, _STREAM = range(6)  # kinds of random streams


@dataclass(frozen=True, eq=False)
class SceneCollection(Collection):
    """A collection that keeps what its images show and its texts mean: a Scene per image, a Statement per text."""

    scenes: tuple[Scene, ...] = ()
    statements: tuple[Statement, ...] = ()


def scenes(
    *,
    n_images: int = 1000,
    seed: int = 0,
    split: str = "test",
    size: int = 64,
    languages: Sequence[str] = ("en",),
    captions_per_image: int = 5,
    objects: tuple[int, int] = (1, 4),
    completeness: float = COMPLETENESS,
    paraphrase: float = PARAPHRASE,
    labels: str = "complete",
    mismatched: float = 0.0,
    duplicates: float = 0.0,
    near_duplicates: float = 0.0,
    split_leaks: float = 0.0,
) -> SceneCollection:
    """Images of coloured shapes with captions, and all that is true between them; the dials are explained above.

    size : pixels per side. objects : fewest and most per image. languages : caption j of image i is in language
    (i + j) modulo their number. ``completeness``, ``paraphrase`` and the defects are shares in 0..1.

    >>> world = scenes(n_images=20, languages=("en", "de"))
    >>> world.texts.ids[5], world.texts.content[5]
    ('test-000001-de-0', 'das Bild zeigt einen gestreiften orangefarbenen Mond')
    """
    _check(n_images, split, languages, captions_per_image, objects, labels)
    shares = {"duplicate": duplicates, "near-duplicate": near_duplicates, "leak": split_leaks}
    _check_shares(shares, split, completeness=completeness, paraphrase=paraphrase, mismatched=mismatched)
    source = _Source(seed, split, objects, completeness, paraphrase)
    views = _views(_distinct_scenes(n_images, source), shares, source)
    shown = tuple(view.scene for view in views)
    statements = _statements(shown, captions_per_image, source)
    wrong = _mismatch(statements, shown, mismatched, source)
    images = _image_side(views, source, size)
    texts = _text_side(statements, wrong, images.ids, languages, source)
    owner = np.repeat(np.arange(n_images), captions_per_image)
    known = _labelled(statements, shown, owner, labels)
    card = _card(images, texts, captions_per_image)
    return SceneCollection(card, images, texts, known, owner, scenes=shown, statements=tuple(statements))


def truth(collection: Collection) -> Relevance:
    """Every true (text, image) pair of a collection made by ``scenes``, whatever its labels say.

    >>> noisy = scenes(n_images=20, mismatched=0.2)
    >>> noisy.relevance.n_positives - truth(noisy).n_positives  # 20 of 100 own pairs are labelled right but false
    20
    """
    if not isinstance(collection, SceneCollection):
        raise TypeError(f"the truth is known for collections made by scenes(); got {collection.card.name!r}")
    return relevance(collection.statements, collection.scenes)


def training_batch(
    step: int,
    *,
    seed: int = 0,
    batch_size: int = 256,
    languages: Mapping[str, float] | None = None,
    size: int = 64,
    objects: tuple[int, int] = (1, 4),
    completeness: float = COMPLETENESS,
    paraphrase: float = PARAPHRASE,
) -> tuple[np.ndarray, list[str]]:
    """Batch number ``step`` of the training stream: a pure function of its arguments, so that training can restart.

    languages : language -> probability (default English only). Returns images uint8 (batch_size, size, size, 3) and one
    caption for each. All scenes have content of the train split, which no test or val scene has.

    >>> images, captions = training_batch(3, batch_size=2)
    >>> images.shape, captions == training_batch(3, batch_size=2)[1]
    ((2, 64, 64, 3), True)
    """
    shares = {"en": 1.0} if languages is None else dict(languages)
    names, weights = list(shares), [round(share * 1_000_000) for share in shares.values()]
    _check(batch_size, "train", names, 1, objects, "complete")
    _check_shares({}, "train", completeness=completeness, paraphrase=paraphrase, **shares)
    dice = Dice(seed, _STREAM, step)
    images = np.empty((batch_size, size, size, 3), np.uint8)
    captions = []
    for row in range(batch_size):
        scene = sample_in_split(dice, "train", objects=objects)
        statement = sample_statement(dice, scene, completeness=completeness)
        captions.append(caption(statement, names[dice.weighted(weights)], dice=dice, paraphrase=paraphrase))
        images[row] = render(scene, size)
    return images, captions


def training_stream(*, start: int = 0, seed: int = 0, **options: object) -> Iterator[tuple[np.ndarray, list[str]]]:
    """``training_batch(step, ...)`` for step = start, start + 1, ... without end; options as there."""
    step = start
    while True:
        yield training_batch(step, seed=seed, **options)  # type: ignore[arg-type]
        step += 1


@dataclass(frozen=True)
class _Source:
    """Where a collection's randomness comes from and what it is asked for."""

    seed: int
    split: str
    objects: tuple[int, int]
    completeness: float
    paraphrase: float

    def dice(self, kind: int, *key: int) -> Dice:
        """The stream for one purpose, so that drawing more in one place changes nothing elsewhere."""
        return Dice(self.seed, kind, SPLITS.index(self.split), *key)

    def image_id(self, index: int) -> str:
        return f"{self.split}-{index:06d}"

    def statement(self, dice: Dice, scene: Scene) -> Statement:
        return sample_statement(dice, scene, completeness=self.completeness)


@dataclass(frozen=True)
class _View:
    """How one image of a collection comes about: a scene, and what was done to it."""

    scene: Scene
    planted: str = ""
    source_id: str = ""
    shift: tuple[int, int] = (0, 0)
    brightness: int = 0


def _distinct_scenes(n: int, source: _Source) -> list[Scene]:
    """The first n scenes of a split, no two with the same arrangement. A longer list starts with the shorter one."""
    dice = source.dice(_SCENE)
    found: dict[tuple[object, ...], Scene] = {}
    misses = 0
    while len(found) < n:
        scene = sample_in_split(dice, source.split, objects=source.objects)
        misses = misses + 1 if scene.arrangement in found else 0
        found.setdefault(scene.arrangement, scene)
        if misses == 200:
            raise ValueError(
                f"n_images is {n}, but after {len(found)} scenes hardly any new ones with {source.objects[0]} to "
                f"{source.objects[1]} objects exist in the split {source.split!r}; ask for fewer images or allow "
                "more objects"
            )
    return list(found.values())


def _views(clean: list[Scene], shares: Mapping[str, float], source: _Source) -> list[_View]:
    """The images to draw: clean scenes, some of them replaced by copies, near-copies and scenes of the train split."""
    n = len(clean)
    views = [_View(scene) for scene in clean]
    dice = source.dice(_IMAGE_DEFECT)
    order = dice.sample(n, n)  # defects take places from its start, originals come from its end
    kinds = [kind for kind, share in shares.items() for _ in range(round(share * n))]
    train_source = replace(source, split="train")
    train = _distinct_scenes(n, train_source) if "leak" in kinds else []
    for place, original, kind in zip(order, order[::-1], kinds, strict=False):
        if kind == "leak":
            views[place] = _View(train[original], kind, train_source.image_id(original))
        elif kind == "duplicate":
            views[place] = _View(clean[original], kind, source.image_id(original))
        else:
            brightness = (1 if dice.chance(0.5) else -1) * (3 + dice.below(6))
            shift = ((-1, 0), (1, 0), (0, -1), (0, 1))[dice.below(4)]
            views[place] = _View(clean[original], kind, source.image_id(original), shift, brightness)
    return views


def _statements(shown: Sequence[Scene], per_image: int, source: _Source) -> list[Statement]:
    """``per_image`` true statements about each scene, in order of the images."""
    found = []
    for index, scene in enumerate(shown):
        dice = source.dice(_MEANING, index)
        found += [source.statement(dice, scene) for _ in range(per_image)]
    return found


def _mismatch(statements: list[Statement], shown: Sequence[Scene], share: float, source: _Source) -> set[int]:
    """Replace a share of the statements, in place, by ones that are true of another scene and false of their own."""
    dice = source.dice(_TEXT_DEFECT)
    wrong = dice.sample(len(statements), round(share * len(statements)))
    per_image = len(statements) // len(shown)
    for text in wrong:
        for _ in range(1000):
            statement = source.statement(dice, shown[dice.below(len(shown))])
            if not statement.true_of(shown[text // per_image]):
                statements[text] = statement
                break
        else:
            raise ValueError(f"no statement about another image is false of image {text // per_image}; use more images")
    return set(wrong)


def _labelled(statements: Sequence[Statement], shown: Sequence[Scene], owner: np.ndarray, labels: str) -> Relevance:
    """What the labels say: every true pair and every own pair, or the own pairs only."""
    n_texts, n_images = len(statements), len(shown)
    own = np.arange(n_texts) * n_images + owner
    if labels == "complete":
        true = relevance(statements, shown)
        own = np.union1d(true.queries * n_images + true.items, own)
    return Relevance.from_pairs(own // n_images, own % n_images, n_queries=n_texts, n_gallery=n_images)


def _image_side(views: Sequence[_View], source: _Source, size: int) -> Side:
    step = max(1, size // 64)
    pictures = [
        render(view.scene, size, shift=(view.shift[0] * step, view.shift[1] * step), brightness=view.brightness)
        for view in views
    ]
    columns = {
        "n_objects": np.array([len(view.scene.objects) for view in views]),
        "background": np.array([view.scene.background for view in views]),
        "planted": np.array([view.planted for view in views]),
        "source_id": np.array([view.source_id for view in views]),
    }
    return Side("image", tuple(source.image_id(i) for i in range(len(views))), pictures, columns)


def _text_side(
    statements: Sequence[Statement],
    wrong: set[int],
    image_ids: Sequence[str],
    languages: Sequence[str],
    source: _Source,
) -> Side:
    per_image = len(statements) // len(image_ids)
    order = list(LANGUAGES)
    ids, texts, spoken = [], [], []
    for image, image_id in enumerate(image_ids):
        for j in range(per_image):
            language = languages[(image + j) % len(languages)]
            statement = statements[image * per_image + j]
            dice = source.dice(_WORDING, image, j, order.index(language))
            ids.append(f"{image_id}-{language}-{j}")
            texts.append(caption(statement, language, dice=dice, paraphrase=source.paraphrase))
            spoken.append(language)
    columns = {
        "language": np.array(spoken),
        "n_mentions": np.array([len(statement.mentions) for statement in statements]),
        "n_stated": np.array([statement.n_stated for statement in statements]),
        "relation": np.array([statement.relation or "" for statement in statements]),
        "planted": np.array(["mismatched" if text in wrong else "" for text in range(len(statements))]),
    }
    return Side("text", tuple(ids), texts, columns)


def _card(images: Side, texts: Side, per_image: int) -> Card:
    digest = hashlib.sha256()
    for content in (*images.content, *texts.content):
        digest.update(content_digest(content).encode())
    return Card(
        name="scenes",
        title="Procedural scenes of coloured shapes, captioned in up to five languages",
        source="procedural, this package",
        licence="CC0-1.0 (generated content); the generator is Apache-2.0 like this package",
        captions_per_image=str(per_image),
        expected={"images": len(images), "texts": len(texts)},
        content_hash=digest.hexdigest(),
        notes="Fully determined by its arguments; the truth of every pair is known.",
    )


def _check(
    n_images: int, split: str, languages: Sequence[str], per_image: int, objects: tuple[int, int], labels: str
) -> None:
    if n_images < 1 or per_image < 1:
        raise ValueError(f"at least 1 image and 1 caption are needed; got {n_images} and {per_image}")
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(SPLITS)}")
    if isinstance(languages, str) or not languages or len(set(languages)) != len(languages):
        raise ValueError(f"languages must be a sequence of different names such as ('en', 'de'); got {languages!r}")
    unknown = [language for language in languages if language not in LANGUAGES]
    if unknown:
        raise ValueError(f"no captions in {', '.join(unknown)}; there are {', '.join(LANGUAGES)}")
    if not 1 <= objects[0] <= objects[1] <= MAX_OBJECTS:
        raise ValueError(f"objects must be (fewest, most) within 1..{MAX_OBJECTS}; got {objects}")
    if labels not in ("complete", "own"):
        raise ValueError(f"labels is {labels!r}; expected 'complete' or 'own'")


def _check_shares(planted: Mapping[str, float], split: str, **shares: float) -> None:
    for name, share in {**planted, **shares}.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is {share}; a share lies in 0..1")
    if sum(planted.values()) > 0.5:
        raise ValueError(f"the planted shares {dict(planted)} add up to more than 0.5; too few clean images remain")
    if planted.get("leak") and split == "train":
        raise ValueError("split_leaks puts train images into val or test; with split='train' it has no meaning")
