"""Small retrievers for pages of documents: late interaction, or one vector, over groups of letters; or pixels."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from workbench.datasets.scenes.document_channels import described_text, ocr_text, read_words
from workbench.datasets.scenes.documents import Document, Documents
from workbench.metrics import per_query, ranks_from_lists
from workbench.studies.documents.pixels import PixelReader
from workbench.types import FloatArray, IntArray

OCR, CAPTIONS, FIGURES_ONLY = "OCR text", "captions", "captions of figures only"
Item = tuple[IntArray, FloatArray]
GRAMS = 512
#: Words of grammar, left out of pages and questions alike, as search by words usually does.
GRAMMAR = frozenset({
    "a", "an", "and", "are", "for", "in", "is", "it", "no", "of", "on", "the", "there", "this", "to", "was", "what",
    "which", "with",
})  # fmt: skip
#: What validation chooses among, by retriever. Late interaction: sharpness of a match, power of the rarity of a word.
#: One vector: power of counts, power of rarity. Both: is a page as good as its best block, or looked at as a whole?
LATE = tuple((sharp, rare, whole) for sharp in (1, 4) for rare in (0, 1, 2) for whole in (0, 1))
SINGLE = tuple((count, rare, whole) for count in (0.5, 1.0) for rare in (0, 1, 2) for whole in (0, 1))
Setting = tuple[float, ...]
Place = tuple[bytes, bytes]


@functools.lru_cache(maxsize=200_000)
def _grams(word: str) -> tuple[int, ...]:
    padded = f"<{word}>"
    return tuple(zlib.crc32(padded[i : i + 3].encode()) % GRAMS for i in range(len(padded) - 2))


def word_vectors(words: Sequence[str]) -> FloatArray:
    """Counts of groups of three letters, (n, GRAMS) of length one: words misread in a letter stay close.

    >>> vectors = word_vectors(["budget", "budgef", "staff"])
    >>> [round(float(vectors[0] @ other), 2) for other in vectors]
    [1.0, 0.67, 0.0]
    """
    vectors = np.zeros((len(words), GRAMS), np.float32)
    for row, word in enumerate(words):
        for gram in _grams(word):
            vectors[row, gram] += 1
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9))


@dataclass(frozen=True, eq=False)
class Channel:
    """What one channel says about the questions of a world.

    best (n_words, n_blocks) : closest match of every word of a question in every block. counts (n_blocks, n_vocabulary)
    sparse, vectors (n_vocabulary, GRAMS) : the words of the blocks. asked : per question its rows of ``best``.
    """

    best: FloatArray
    counts: Any
    vectors: FloatArray
    word_vectors: FloatArray
    asked: tuple[IntArray, ...]
    known: dict[Place, tuple[Any, FloatArray, IntArray]] = field(default_factory=dict, repr=False)
    pooled: dict[tuple[Place, Setting], tuple[FloatArray, FloatArray]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, world: Documents, texts: Sequence[Sequence[str]]) -> Channel:
        """From the text of every block of every document."""
        blocks = [["", *_content(text)] for document in texts for text in document]
        known: dict[str, int] = {}
        ids = [np.array([known.setdefault(word, len(known)) for word in words]) for words in blocks]
        asking: dict[str, int] = {}
        asked = tuple(
            np.array([asking.setdefault(word, len(asking)) for word in dict.fromkeys(_content(question.text))])
            for question in world.questions
        )
        vectors, wanted = word_vectors(list(known)), word_vectors(list(asking))
        like = wanted @ vectors.T
        best = np.concatenate([_strongest(like, part) for part in _parts(ids, texts)], axis=1)
        indptr = np.concatenate([[0], np.cumsum([len(one) for one in ids])])
        flat = np.concatenate(ids)
        counts = csr_array((np.ones(len(flat), np.float32), flat, indptr), shape=(len(ids), len(known)))
        counts.sum_duplicates()
        return cls(best, counts, vectors, wanted, asked)

    def late(self, question: int, units: IntArray, starts: IntArray, setting: Setting) -> FloatArray:
        """Late interaction: sum over the words of the question of their best match in each page, rare words first.

        units : the blocks looked at, in order; starts : where each page begins among them.
        """
        found = self.best[np.ix_(self.asked[question], units)]
        if setting[2]:
            found = np.maximum.reduceat(found, starts, axis=1)
        found **= setting[0]
        weight = _rarity(found.sum(axis=1), found.shape[1]) ** setting[1]
        return _by_page(weight @ found, starts, setting)

    def single(self, question: int, units: IntArray, starts: IntArray, setting: Setting) -> FloatArray:
        """One vector per page or block and one per question: weighted sums of their words' vectors, by cosine."""
        firsts = starts if setting[2] else np.arange(len(units))
        pages, weight = self._pooled(units, firsts, setting)
        rows = self.asked[question]
        query = weight[rows] @ self.word_vectors[rows]
        return _by_page(pages @ query / max(float(np.linalg.norm(query)), 1e-9), starts, setting)

    def _pooled(self, units: IntArray, firsts: IntArray, setting: Setting) -> tuple[FloatArray, FloatArray]:
        """The vector of every unit, of length one, and the weight of every word that questions use."""
        place = (units.tobytes(), firsts.tobytes())
        if place not in self.known:
            part = self.counts[units]
            columns = np.unique(part.indices)
            sums = csr_array(np.add.reduceat(part[:, columns].toarray(), firsts, axis=0))
            own = self.vectors[columns]
            self.known[place] = (sums, own, (self.word_vectors @ own.T).argmax(axis=1))
        if (place, setting) not in self.pooled:
            sums, own, nearest = self.known[place]
            rare = _rarity(np.bincount(sums.indices, minlength=len(own)), sums.shape[0]) ** setting[1]
            weighted = csr_array((sums.data ** setting[0] * rare[sums.indices], sums.indices, sums.indptr), sums.shape)
            found = weighted @ own
            found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)
            self.pooled[place, setting] = found, rare[nearest]
        return self.pooled[place, setting]


def _content(text: str) -> list[str]:
    return [word for word in read_words(text) if word not in GRAMMAR]


def _rarity(n_with: FloatArray, n: int) -> FloatArray:
    """Almost 0 for a word that is everywhere, log(n) for one that is in a single place."""
    return np.asarray(np.maximum(np.log(n / np.clip(n_with, 1, n)), 1e-3))


def _by_page(scores: FloatArray, starts: IntArray, setting: Setting) -> FloatArray:
    return np.asarray(np.round(scores if setting[2] else np.maximum.reduceat(scores, starts), 5))


def _parts(ids: Sequence[IntArray], texts: Sequence[Sequence[str]]) -> list[Sequence[IntArray]]:
    ends = np.cumsum([len(document) for document in texts])
    return [ids[end - len(document) : end] for end, document in zip(ends, texts, strict=True)]


def _strongest(like: FloatArray, blocks: Sequence[IntArray]) -> FloatArray:
    starts = np.cumsum([0, *(len(one) for one in blocks[:-1])])
    return np.asarray(np.maximum.reduceat(like[:, np.concatenate(blocks)], starts, axis=1))


def _figures_only(document: Document) -> list[str]:
    return described_text(document, kinds=("figure",))


class Part:
    """A world under every channel, with the scores of the pages of each question's own document."""

    def __init__(self, world: Documents, reader: PixelReader) -> None:
        self.world, self.relevance = world, world.relevance
        self.kinds = np.array([asked.kind for asked in world.questions])
        self.owner = np.array([asked.document for asked in world.questions])
        self.page_start = world.page_start
        sizes = [len(document.blocks) for document in world.documents]
        self.block_start = np.concatenate([[0], np.cumsum(sizes)])
        self.page_firsts = [np.searchsorted(one.block_page, np.arange(one.n_pages)) for one in world.documents]
        self.channels = {
            name: Channel.of(world, [say(document) for document in world.documents])
            for name, say in ((OCR, ocr_text), (CAPTIONS, described_text), (FIGURES_ONLY, _figures_only))
        }
        self.seen = [reader.figures([block.scene for block in one.blocks if block.scene]) if self._figures(d).size else
                     np.zeros((0, 0)) for d, one in enumerate(world.documents)]  # fmt: skip
        self.asked = reader.questions([asked.text for asked in world.questions])

    def _figures(self, document: int, kinds: Sequence[str] = ("figure",)) -> IntArray:
        return np.array([i for i, b in enumerate(self.world.documents[document].blocks) if b.kind in kinds], np.int64)

    def units(self, document: int) -> IntArray:
        """The blocks of a document."""
        return np.arange(self.block_start[document], self.block_start[document + 1])

    def lists(self, scores: Callable[[int], FloatArray]) -> list[Item]:
        """The pages of its own document with their scores, for each question."""
        owned = [np.arange(*self.page_start[d : d + 2]) for d in self.owner]
        return [(pages, scores(q)) for q, pages in enumerate(owned)]

    def late(self, channel: str, setting: Setting) -> list[Item]:
        say = self.channels[channel].late
        return self.lists(lambda q: say(q, self.units(self.owner[q]), self.page_firsts[self.owner[q]], setting))

    def single(self, channel: str, setting: Setting) -> list[Item]:
        say = self.channels[channel].single
        return self.lists(lambda q: say(q, self.units(self.owner[q]), self.page_firsts[self.owner[q]], setting))

    def shuffled(self, setting: Setting, rng: np.random.Generator) -> list[Item]:
        """Late interaction with the descriptions of figures and tables handed round inside each document."""
        order = [self.units(d) for d in range(len(self.world.documents))]
        for document, units in enumerate(order):
            for kind in ("figure", "table"):
                places = self._figures(document, (kind,))
                units[places] = units[rng.permutation(places)]
        say = self.channels[CAPTIONS].late
        return self.lists(lambda q: say(q, order[self.owner[q]], self.page_firsts[self.owner[q]], setting))

    def everywhere(self, setting: Setting) -> list[Item]:
        """Late interaction over the pages of all documents."""
        firsts = np.concatenate([first + start for first, start in zip(self.page_firsts, self.block_start[:-1],
                                                                       strict=True)])  # fmt: skip
        blocks, pages = np.arange(self.block_start[-1]), np.arange(self.page_start[-1])
        say = self.channels[CAPTIONS].late
        return [
            (pages, say(q, blocks, firsts, setting)) if kind == "figure" else (pages[:0], np.zeros(0))
            for q, kind in enumerate(self.kinds)
        ]

    def pixels(self, setting: Setting, rng: np.random.Generator | None = None) -> list[Item]:
        """The best figure of each page; pages without one are tied behind all others. rng : hands the figures round."""
        orders = [np.arange(len(seen)) if rng is None else rng.permutation(len(seen)) for seen in self.seen]

        def scores(q: int) -> FloatArray:
            document = self.owner[q]
            found = np.full(self.world.documents[document].n_pages, -1e3)
            if len(orders[document]):
                values = PixelReader.scores(self.asked[q], self.seen[document][orders[document]], setting)
                pages = self.world.documents[document].block_page[self._figures(document)]
                np.maximum.at(found, pages, values)
            return found

        return self.lists(scores)

    def recall(self, lists: Sequence[Item], k: int = 1) -> FloatArray:
        """Page recall of every question in points; a list shorter than k finds nothing more."""
        ranks = ranks_from_lists(lists, self.relevance)
        return np.asarray(100 * per_query(f"R@{k}", ranks, short_lists="as is").expected)

    def best(self, ranked: Callable[[Setting], list[Item]], settings: Sequence[Setting],
             kinds: Sequence[str] = ("text", "figure", "table")) -> Setting:  # fmt: skip
        """The setting with the highest recall at 1 of the questions of these kinds."""
        rows = np.isin(self.kinds, kinds)
        return max(settings, key=lambda one: float(self.recall(ranked(one))[rows].mean()) if rows.any() else 0.0)
