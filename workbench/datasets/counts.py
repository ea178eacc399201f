"""What is in a collection, counted: the line that must stand beside every score."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.datasets.collection import Collection, content_digest


@dataclass(frozen=True)
class Counts:
    """Numbers of a collection. A *duplicate* is an item beyond the first of its equals: three equal images count two.

    mismatches : sentences where the card promises another number than was found. images_are, texts_are : what the
    items of the two sides are called, in the plural.
    """

    images: int
    texts: int
    pairs: int
    images_without_text: int
    texts_without_image: int
    duplicate_images: int | None
    duplicate_texts: int | None
    bad: int
    captions_per_image: str
    positives_per_text: str
    mismatches: tuple[str, ...]
    images_are: str = "images"
    texts_are: str = "texts"

    def rows(self) -> list[tuple[str, str]]:
        """(what, how many) for display; what was not measurable says so."""
        unknown, images, texts = "not measurable (no contents)", self.images_are, self.texts_are
        captions = [("captions per image", self.captions_per_image)] if images == "images" else []
        return [
            (images, f"{self.images:,}"),
            (texts, f"{self.texts:,}"),
            ("labelled pairs", f"{self.pairs:,}"),
            *captions,
            (f"right {images} per scored text or query", self.positives_per_text),
            (f"{images} that are right for nothing (distractors)", f"{self.images_without_text:,}"),
            (f"{texts} without a right item", f"{self.texts_without_image:,}"),
            (f"duplicate {images}", unknown if self.duplicate_images is None else f"{self.duplicate_images:,}"),
            (f"duplicate {texts}", unknown if self.duplicate_texts is None else f"{self.duplicate_texts:,}"),
            ("items that could not be read", f"{self.bad:,}"),
        ]

    def line(self) -> str:
        """One line for a terminal.

        >>> Counts(2, 3, 3, 0, 0, 0, 1, 0, "1 to 2", "1", ()).line()
        '2 images, 3 texts, 3 pairs, 0 duplicate images, 1 duplicate texts, 0 images right for nothing, 0 unreadable'
        """

        def said(number: int | None) -> str:
            return "unknown" if number is None else f"{number:,}"

        images, texts = self.images_are, self.texts_are
        return (
            f"{self.images:,} {images}, {self.texts:,} {texts}, {self.pairs:,} pairs, "
            f"{said(self.duplicate_images)} duplicate {images}, {said(self.duplicate_texts)} duplicate {texts}, "
            f"{self.images_without_text:,} {images} right for nothing, {self.bad:,} unreadable"
        )


def normalized_caption(text: str) -> str:
    """A caption without differences in case, Unicode form, spacing and closing punctuation.

    >>> normalized_caption("  A Dog   runs. ")
    'a dog runs'
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split()).rstrip(".!?;,。！？ ")


def count(collection: Collection, image_digests: Sequence[str] | None = None) -> Counts:
    """Count a collection. Images are compared by content, texts in :func:`normalized_caption` form.

    image_digests : digests of the images when they are known already; else the contents are read and hashed.
    """
    if image_digests is None and collection.images.kind:
        image_digests = [content_digest(content) for content in collection.images.content]
    captions = [normalized_caption(text) for text in collection.texts.content]
    positives = collection.relevance.positives_per_query
    per_image = np.bincount(collection.text_image[collection.text_image >= 0], minlength=len(collection.images))
    captioned = collection.relevance.T.positives_per_query > 0
    found = {"images": len(collection.images), "texts": len(collection.texts)}
    return Counts(
        images=found["images"],
        texts=found["texts"],
        pairs=collection.relevance.n_positives,
        images_without_text=int((~captioned).sum()),
        texts_without_image=int((positives == 0).sum()),
        duplicate_images=None if image_digests is None else len(image_digests) - len(set(image_digests)),
        duplicate_texts=len(captions) - len(set(captions)) if captions else None,
        bad=len(collection.bad),
        captions_per_image=_range(per_image[per_image > 0]),
        positives_per_text=_range(positives[positives > 0]),
        mismatches=tuple(
            f"the card promises {promised:,} {what}, found {found[what]:,}"
            for what, promised in collection.card.expected.items() if what in found and promised != found[what]
        ),
        images_are=collection.images.plural,
        texts_are=collection.texts.plural,
    )  # fmt: skip


def _range(counts: np.ndarray) -> str:
    if len(counts) == 0:
        return "none"
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high} (mean {counts.mean():.2f})"
