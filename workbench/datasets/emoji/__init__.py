"""Emoji: pictures from the colour-emoji font of this machine, names in fourteen languages; nothing is downloaded.

    load("emoji"), load("emoji", split="all"), load("emoji:My.ttf", options={"variants": "all", "labels": "graded"})

Each emoji is one image and has one text per language, its short name. What the font lacks is left out and said so in
the notes. Emoji differ in skin tone and gender only where their code points say so: those of one base are a *family*.

The dials
    languages : any of ``LANGUAGES``. size : pixels per side.
    variants : "none" takes one form of every family, without tone and, where there is one, without gender; "all" takes
    every emoji.
    labels : which pictures are right for a name, with variants="all". "exact": the emoji of that name, so that every
    metric asks for the very picture; the other forms stay unjudged. "graded": the other forms of its family are half
    right, grade 1 against 2. Metrics of graded relevance (nDCG) weigh that; hit@k, R@k, MRR and AP do not, for them
    *every* grade above zero is right, so that they count any form of the family as found.
    With either, an emoji whose picture is the same to the last pixel is as right as the own one: the flag of Bouvet
    Island is that of Norway. A name that means another emoji in another language (Spanish and English "pie") is right
    for its own only; of base forms there are some two dozen such names.

Splits are drawn by family from a checksum of its base (60 % train, 15 % val, 25 % test), so that no form of a test
emoji is in training; families with the same picture stay together, which is the one thing about splits that depends on
the font. The order is mixed by the same checksum: the first n images are a fair sample.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product

import numpy as np

from workbench.datasets.collection import Card, Collection, Side, content_digest
from workbench.datasets.emoji.families import Emoji, inventory
from workbench.datasets.emoji.fonts import Font, NoFont, NoShaping, find_font, open_font
from workbench.datasets.emoji.names import LANGUAGES, names
from workbench.datasets.emoji.render import Pictures
from workbench.datasets.emoji.stored import pictures
from workbench.datasets.emoji.stream import Lessons, lessons_from
from workbench.types import Relevance

__all__ = ["LANGUAGES", "SPLITS", "Emoji", "Lessons", "NoFont", "NoShaping", "lessons", "load_emoji"]

SIZE = 72
SPLITS = ("train", "val", "test")
_TRAIN, _VAL = 60, 75  # per cent below which a checksum belongs to train, to val
_VARIANTS, _LABELS = ("none", "all"), ("exact", "graded")


@dataclass(frozen=True, eq=False)
class _Drawn:
    """What one font has: emoji, their pixels and splits, in the mixed order; and what was left out."""

    font: Font
    emoji: tuple[Emoji, ...]
    rows: np.ndarray
    kept: Pictures
    digests: tuple[str, ...]
    splits: tuple[str, ...]


def load_emoji(
    font: str = "", *, split: str = "test", languages: Sequence[str] = LANGUAGES, variants: str = "none",
    labels: str = "exact", size: int = SIZE, progress: bool | None = None,
) -> Collection:  # fmt: skip
    """The collection of one split, or of "all"; the dials are explained above.

    font : a file; "" finds the one of this machine. Columns of images: group, tone, gender, family (its English name),
    version (of Emoji), characters, split; of texts: language. Raises :class:`NoFont` or :class:`NoShaping`, which say
    what to install, and ValueError for a dial.
    """
    _check(split, languages, variants, labels, size)
    drawn = _draw(font, size, progress)
    wanted = _representatives(drawn.emoji) if variants == "none" else set(range(len(drawn.emoji)))
    keep = [i for i in sorted(wanted) if split in ("all", drawn.splits[i])]
    emoji = [drawn.emoji[i] for i in keep]
    content = [drawn.kept.pixels[drawn.rows[i]] for i in keep]
    columns = _columns(emoji, _family_names(drawn.emoji), [drawn.splits[i] for i in keep])
    images = Side("image", tuple(one.id for one in emoji), content, columns)
    texts = _texts(emoji, languages)
    owner = np.repeat(np.arange(len(emoji)), len(languages))
    relevance = _relevance(emoji, [drawn.digests[i] for i in keep], owner, labels)
    card = _card(drawn, images, texts, split)
    return Collection(card, images, texts, relevance, owner, notes=_notes(drawn, keep))


def lessons(font: str = "", *, size: int = 64, languages: Sequence[str] = LANGUAGES) -> Lessons:
    """The train split as an endless stream of batches of pictures with one name each."""
    return lessons_from(load_emoji(font, split="train", languages=languages), size=size)


def _check(split: str, languages: Sequence[str], variants: str, labels: str, size: int) -> None:
    if isinstance(languages, str) or not languages or len(set(languages)) != len(languages):
        raise ValueError(f"languages must be a sequence of different names such as ('en', 'ko'); got {languages!r}")
    unknown = [language for language in languages if language not in LANGUAGES]
    if unknown:
        raise ValueError(f"no names in {', '.join(map(str, unknown))}; there are {', '.join(LANGUAGES)}")
    for name, value, known in (
        ("split", split, (*SPLITS, "all")), ("variants", variants, _VARIANTS), ("labels", labels, _LABELS),
    ):  # fmt: skip
        if value not in known:
            raise ValueError(f"emoji: {name} is {value!r}; expected one of {', '.join(known)}")
    if labels == "graded" and variants == "none":
        raise ValueError("emoji: labels='graded' is about the forms of a family; pass variants='all' with it")
    if not 16 <= size <= 512:
        raise ValueError(f"emoji: size is {size} pixels; expected 16..512")


def _draw(font: str, size: int, progress: bool | None) -> _Drawn:
    opened = open_font(find_font(font))
    kept = pictures(opened, inventory(), size=size, progress=progress)
    place = {text: row for row, text in enumerate(kept.texts)}
    emoji = sorted((one for one in inventory() if one.text in place), key=lambda one: (_checksum(one.base), one.text))
    rows = np.array([place[one.text] for one in emoji])
    digests = tuple(content_digest(kept.pixels[row]) for row in rows)
    return _Drawn(opened, tuple(emoji), rows, kept, digests, _splits(emoji, digests))


def _checksum(base: str) -> str:
    return hashlib.sha256(base.encode()).hexdigest()


def _splits(emoji: Sequence[Emoji], digests: Sequence[str]) -> tuple[str, ...]:
    """By the checksum of the first base among all families that are linked by equal pictures."""
    linked: dict[str, set[str]] = {one.base: {one.base} for one in emoji}
    sharing = defaultdict(set)
    for one, digest in zip(emoji, digests, strict=True):
        sharing[digest].add(one.base)
    for bases in sharing.values():
        if len(bases) > 1:
            merged = set().union(*(linked[base] for base in bases))
            linked.update(dict.fromkeys(merged, merged))
    return tuple(_split_of(min(linked[one.base])) for one in emoji)


def _split_of(base: str) -> str:
    """The split of a family.

    >>> _split_of("🐢"), _split_of("🧑")
    ('train', 'val')
    """
    place = int(_checksum(base), 16) % 100
    return "train" if place < _TRAIN else "val" if place < _VAL else "test"


def _representatives(emoji: Sequence[Emoji]) -> set[int]:
    """One form of every family: the one without tone and gender, else the first without tone."""
    best: dict[str, int] = {}
    for i, one in enumerate(emoji):
        rank = (bool(one.tone), one.gender not in ("", "neutral"), i)
        other = best.get(one.base)
        if other is None or rank < (bool(emoji[other].tone), emoji[other].gender not in ("", "neutral"), other):
            best[one.base] = i
    return set(best.values())


def _family_names(emoji: Sequence[Emoji]) -> dict[str, str]:
    """What a family is called: the English name of its base form."""
    chosen = [emoji[i] for i in _representatives(emoji)]
    return dict(zip((one.base for one in chosen), names(chosen, "en"), strict=True))


def _columns(emoji: Sequence[Emoji], family: Mapping[str, str], splits: Sequence[str]) -> dict[str, np.ndarray]:
    return {
        "group": np.array([one.group for one in emoji]),
        "tone": np.array([one.tone or "none" for one in emoji]),
        "gender": np.array([one.gender or "none" for one in emoji]),
        "family": np.array([family[one.base] for one in emoji]),
        "version": np.array([f"E{one.version:.1f}" for one in emoji]),
        "characters": np.array([one.text for one in emoji]),
        "split": np.array(splits),
    }


def _texts(emoji: Sequence[Emoji], languages: Sequence[str]) -> Side:
    by_language = {language: names(emoji, language) for language in languages}
    pairs = list(product(range(len(emoji)), languages))
    ids = tuple(f"{emoji[i].id}-{language}" for i, language in pairs)
    content = [by_language[language][i] for i, language in pairs]
    return Side("text", ids, content, {"language": np.array([language for _, language in pairs])})


def _relevance(emoji: Sequence[Emoji], digests: Sequence[str], owner: np.ndarray, labels: str) -> Relevance:
    """(n_texts, n_images): 1 for the own picture and its equals; with graded labels 2, and 1 for the family."""
    alike, families = defaultdict(list), defaultdict(list)
    for i, (one, digest) in enumerate(zip(emoji, digests, strict=True)):
        alike[digest].append(i)
        families[one.base].append(i)
    graded = labels == "graded"
    pairs: list[tuple[int, int, float]] = []
    for text, image in enumerate(owner.tolist()):
        grades = dict.fromkeys(families[emoji[image].base], 1.0) if graded else {}
        grades |= dict.fromkeys(alike[digests[image]], 2.0 if graded else 1.0)
        pairs += [(text, item, grade) for item, grade in grades.items()]
    queries, items, values = zip(*pairs, strict=True)
    return Relevance.from_pairs(queries, items, values, n_queries=len(owner), n_gallery=len(emoji))


def _card(drawn: _Drawn, images: Side, texts: Side, split: str) -> Card:
    digest = hashlib.sha256()
    for content in (*images.content, *texts.content):
        digest.update(content_digest(content).encode())
    licence = drawn.font.licence or "not known to be free, so pictures stay on this machine"
    return Card(
        name="emoji",
        title=f"Emoji of {drawn.font.name}, named in up to {len(LANGUAGES)} languages; split {split}",
        source=f"pictures drawn from the font {drawn.font.name} (SHA-256 {drawn.font.sha256[:16]}...) of this machine; "
        f"names from the Python package emoji {version('emoji')}, which has them from Unicode CLDR",
        licence=f"pictures: {licence}; names: Unicode License v3; package emoji: BSD 3-Clause",
        citation="Unicode Technical Standard 51, Unicode Emoji, https://www.unicode.org/reports/tr51/",
        captions_per_image=str(len(texts) // len(images)),
        share="full" if drawn.font.licence else "no-images",
        content_hash=digest.hexdigest(),
        notes="Pictures, counts and content hash depend on the version of the font and a little on Pillow; the list of "
        "emoji and a few names on that of the package, which writes some Russian and Arabic names without their marks.",
    )


def _notes(drawn: _Drawn, keep: Sequence[int]) -> tuple[str, ...]:
    """What the font lacks, and which pictures are the same."""
    notes = []
    missing = [one for one in inventory() if one.text in drawn.kept.left_out]
    if missing:
        newest = Counter(one.version for one in missing)
        of_which = ", ".join(f"{count} of Emoji {number:g}" for number, count in sorted(newest.items()))
        reasons = Counter(drawn.kept.left_out.values())
        why = ", ".join(f"{reason}: {count}" for reason, count in sorted(reasons.items()))
        notes.append(
            f"{len(missing)} of {len(inventory())} emoji are left out, {drawn.font.name} has no picture of them: "
            f"{of_which} ({why})."
        )
    alike = defaultdict(list)
    for i in keep:
        alike[drawn.digests[i]].append(drawn.emoji[i])
    twins = [names(some, "en") for some in alike.values() if len(some) > 1]
    if twins:
        listed = "; ".join([" = ".join(some) for some in twins[:8]] + ["..."] * (len(twins) > 8))
        notes.append(
            f"{sum(map(len, twins))} pictures equal another one to the last pixel, and are right for its names: "
            f"{listed}."
        )
    return tuple(notes)
