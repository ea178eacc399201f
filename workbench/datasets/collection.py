"""What every loader returns: two sides, the relevance between them, and the card that says where they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from workbench.types import Embeddings, RankedLists, Relevance, check_unique

NOT_STATED = "not stated"
READ_AS_TEXT = ("text", "query", "document")


@dataclass(frozen=True)
class Card:
    """What is known about a data set; an empty field prints as *not stated*.

    expected : counts the source promises, such as ``{"images": 1000, "texts": 5000}``; a mismatch is reported.
    share : the most that a report on these data may show: "full", "no-images" or "no-content".
    """

    name: str
    title: str = ""
    source: str = ""
    licence: str = ""
    citation: str = ""
    captions_per_image: str = ""
    share: str = "full"
    expected: Mapping[str, int] = field(default_factory=dict)
    content_hash: str = ""
    notes: str = ""

    def rows(self) -> list[tuple[str, str]]:
        """(field, value) pairs for display, with *not stated* where nothing is known."""
        expected = ", ".join(f"{count:,} {what}" for what, count in self.expected.items())
        pairs = [
            ("name", self.name), ("title", self.title), ("source", self.source), ("licence", self.licence),
            ("citation", self.citation), ("captions per image", self.captions_per_image),
            ("expected counts", expected), ("may be shared", self.share),
            ("content hash", self.content_hash), ("notes", self.notes),
        ]  # fmt: skip
        return [(name, value or NOT_STATED) for name, value in pairs]


@dataclass(frozen=True)
class Member:
    """A file inside an uncompressed tar archive: read where it lies, so nothing is ever unpacked."""

    archive: Path
    name: str
    offset: int
    size: int

    def read(self) -> bytes:
        """Its bytes; a shortened archive is an OSError."""
        with self.archive.open("rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) != self.size:
            raise OSError(f"{self.archive.name} ends inside its member {self.name}")
        return data


@dataclass(frozen=True, eq=False)
class Side:
    """One modality of a collection.

    ids : unique strings. content : one entry per item: for images a ``Path``, a ``Member`` of an archive or a uint8
    array (height, width, 3); for texts a string; empty when only vectors or only ids are known.
    columns : metadata, name -> one value per item.
    """

    modality: str
    ids: tuple[str, ...]
    content: Sequence[Any] = ()
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", check_unique(self.ids, self.modality))
        if len(self.content) not in (0, len(self.ids)):
            raise ValueError(f"{len(self.ids)} {self.modality} ids but {len(self.content)} contents")
        for name, values in self.columns.items():
            if len(values) != len(self.ids):
                raise ValueError(f"column {name!r} has {len(values)} values for {len(self.ids)} {self.modality} items")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def plural(self) -> str:
        """What several of its items are called.

        >>> Side("query", ("q1", "q2")).plural
        'queries'
        """
        return "queries" if self.modality == "query" else f"{self.modality}s"

    @property
    def kind(self) -> str:
        """How an encoder reads the content: "text" (also of queries and documents), "image", "" where there is none."""
        if not len(self.content):
            return ""
        return "text" if self.modality in READ_AS_TEXT else "image"


@dataclass(frozen=True)
class BadItem:
    """An item that could not be read, kept so that the report can list it."""

    id: str
    reason: str


@dataclass(frozen=True, eq=False)
class Collection:
    """Images and texts (or any two modalities) with the truth between them.

    images, texts : the two sides; "images" is the name of the first side whatever its modality.
    relevance : (n_texts, n_images), so that rows are the queries of text-to-image retrieval; ``.T`` is the other one.
    text_image : (n_texts,) the image each text was written for, -1 for a text without one. It defines the clusters of
        the bootstrap: captions of one image are one cluster.
    embeddings : modality -> Embeddings when the data set brings its own vectors.
    lists : what a system returned for each text, when nothing else is known of it; lint : what was irregular there
        (:class:`workbench.datasets.trec.RunLint`).
    one_way : only the first side's items are ever returned (queries and documents, or lists): the other direction
        would be a question that nobody asks.
    notes : sentences on what the source does not hold together, such as judged items that no list can return.
    """

    card: Card
    images: Side
    texts: Side
    relevance: Relevance
    text_image: np.ndarray
    embeddings: Mapping[str, Embeddings] = field(default_factory=dict)
    bad: tuple[BadItem, ...] = ()
    lists: RankedLists | None = None
    lint: Any = None
    one_way: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        expected = (len(self.texts), len(self.images))
        found = (self.relevance.n_queries, self.relevance.n_gallery)
        if expected != found:
            raise ValueError(f"relevance must be (n_texts, n_images) = {expected}; got {found}")
        if self.text_image.shape != (len(self.texts),):
            raise ValueError(f"text_image must be ({len(self.texts)},); got {self.text_image.shape}")


def content_digest(content: Path | Member | np.ndarray | str) -> str:
    """SHA-256 of an item: of the file's bytes, of an array's shape and pixels, or of a text's UTF-8 bytes.

    >>> content_digest("a cat")[:12]
    '51e467415607'
    """
    if isinstance(content, Path):
        with content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if isinstance(content, Member):
        return hashlib.sha256(content.read()).hexdigest()
    if isinstance(content, str):
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()
    pixels = np.ascontiguousarray(content)
    return hashlib.sha256(f"{pixels.dtype.str}{pixels.shape}".encode() + pixels.tobytes()).hexdigest()


def take_images(collection: Collection, keep: np.ndarray) -> Collection:
    """The part of a collection that these images span: they, the texts written for them, the relevance between them.

    keep : indices of images, ascending. Texts without an image of their own stay only if a kept image is right for
    them. Nothing is renumbered: ids, contents and columns stay with their items.
    """
    keep = np.asarray(keep, dtype=np.int64)
    if collection.lists is not None:
        raise ValueError("n_images cannot shorten ranked lists; cut the lists themselves, or leave it at 0")
    if len(keep) == 0:
        raise ValueError(f"no image of {len(collection.images)} is left in {collection.card.name!r}")
    new_column = np.full(len(collection.images), -1)
    new_column[keep] = np.arange(len(keep))
    own = np.where(collection.text_image >= 0, new_column[collection.text_image], -1)
    judged = collection.relevance
    rows, columns = judged.queries, new_column[judged.items]
    reaches = np.bincount(rows[(columns >= 0) & (judged.grades > 0)], minlength=len(collection.texts)) > 0
    texts = np.flatnonzero(np.where(collection.text_image >= 0, own >= 0, reaches))
    if len(texts) == 0:
        raise ValueError(f"none of the {len(keep)} images kept of {collection.card.name!r} has a caption")
    relevance = judged.take(texts, keep)
    embeddings = {
        modality: Embeddings(given.vectors[part], [given.ids[i] for i in part], modality, given.source)  # type: ignore[arg-type]
        for (modality, given), part in (
            (pair, keep if pair[0] == collection.images.modality else texts) for pair in collection.embeddings.items()
        )
    }
    return replace(
        collection, images=_take(collection.images, keep), texts=_take(collection.texts, texts), relevance=relevance,
        text_image=own[texts], embeddings=embeddings,
    )  # fmt: skip


def _take(side: Side, keep: np.ndarray) -> Side:
    content = [side.content[i] for i in keep] if len(side.content) else ()
    columns = {name: np.asarray(values)[keep] for name, values in side.columns.items()}
    return Side(side.modality, tuple(side.ids[i] for i in keep), content, columns)
