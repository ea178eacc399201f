"""Near-copies: pictures that look the same in other bytes, size or compression, and captions that read the same.

For pictures a hash of the outline proposes pairs and a coarse look at the colours confirms them: the outline alone
takes hearts of two colours for one, the colours alone take two beaches for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from workbench.datasets import content_digest
from workbench.datasets.counts import normalized_caption
from workbench.datasets.pictures import open_picture
from workbench.diagnostics.duplicates import PairScan, all_right
from workbench.types import Finding, FloatArray, IntArray, Relevance, check_unique

if TYPE_CHECKING:
    import pandas as pd

THUMB, LOW, COLOURS = 32, 16, 8
BITS = LOW * LOW - 1
THRESHOLD = 48
AGREEMENT = 0.9
MARGIN = 2.0
CURVE = np.arange(0, 97, 4)
_LUMA = np.array([0.299, 0.587, 0.114])
NEAR_SOURCE = (
    "convention of this project: any is worth a look. Of 1,000 photographs no two came below 62 of 255 bits, while "
    "copies at JPEG quality 50, half the size or a fifth more light nearly all stayed at 30 or below"
)


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """What is kept of each picture to tell whether it is there twice.

    ids : n. pixels : SHA-256 of the upright RGB pixels with their size: other file, same pixels, same digest.
    hashes, mirrored (n, 4) uint64 : the outline in 255 bits, of the picture and of its mirror image.
    colours (n, 192) float32 : 8 x 8 RGB with mean 0 and length 1; zero for a picture of one colour.
    """

    ids: tuple[str, ...]
    pixels: tuple[str, ...]
    hashes: npt.NDArray[np.uint64]
    mirrored: npt.NDArray[np.uint64]
    colours: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def flipped(self) -> npt.NDArray[np.float32]:
        """The colours of the mirror images."""
        return np.ascontiguousarray(self.colours.reshape(-1, COLOURS, COLOURS, 3)[:, :, ::-1]).reshape(len(self), -1)


def fingerprints(contents: Sequence[Any], *, ids: Sequence[str]) -> Fingerprints:
    """Open each picture once and keep what tells copies.

        hash bit (u, v) = [C(u, v) > median C + 2],   C = 16 x 16 lowest coefficients, without the mean, of the cosine
        transform of the 32 x 32 grey picture, in grey levels; the 2 keep the noise of smooth pictures out

    contents : n files, archive members or uint8 pixels (height, width, 3), as :func:`open_picture` reads them.
    Errors: those of :func:`open_picture`. About 6 ms for a photograph of 500 x 375 pixels.
    C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", thesis, Hagenberg 2010,
    https://www.phash.org/docs/pubs/thesis_zauner.pdf, section 3.2.1; differs in keeping 255 bits, not 64.

    >>> ramp = np.tile(np.arange(64, dtype=np.uint8)[:, None, None], (1, 64, 3))
    >>> found = fingerprints([ramp, ramp + 9], ids=["a", "b"])
    >>> bool((found.hashes[0] == found.hashes[1]).all()), found.pixels[0] == found.pixels[1]
    (True, False)
    """
    names = check_unique(ids, "picture")
    if len(names) != len(contents):
        raise ValueError(f"{len(contents)} pictures but {len(names)} ids; one id per picture is needed")
    kept = [_looked_at(content) for content in contents]
    digests, hashes, mirrored, colours = zip(*kept, strict=True) if kept else ((), (), (), ())
    words = LOW * LOW // 64
    return Fingerprints(
        names, tuple(digests), np.array(hashes, np.uint64).reshape(-1, words),
        np.array(mirrored, np.uint64).reshape(-1, words), np.array(colours, np.float32).reshape(-1, 3 * COLOURS**2),
    )  # fmt: skip


def _looked_at(content: Any) -> tuple[str, npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.float32]]:
    """(digest of the pixels, hash, hash of the mirror image, colours) of one picture."""
    from PIL import Image

    picture = open_picture(content)
    small = np.asarray(picture.resize((THUMB, THUMB), Image.Resampling.LANCZOS))
    grey = small @ _LUMA
    coarse = small.reshape(COLOURS, THUMB // COLOURS, COLOURS, -1, 3).mean(axis=(1, 3)).ravel()
    centred = coarse - coarse.mean()
    length = float(np.linalg.norm(centred))
    colours = (centred / length if length > 1e-6 else np.zeros_like(centred)).astype(np.float32)
    return content_digest(np.asarray(picture)), _hash(grey), _hash(grey[:, ::-1]), colours


def _hash(grey: FloatArray) -> npt.NDArray[np.uint64]:
    """255 bits in four words."""
    from scipy.fft import dctn

    low = dctn(grey, norm="ortho")[:LOW, :LOW].ravel()
    bits = low > np.median(low[1:]) + MARGIN
    bits[0] = False
    return np.packbits(bits).view(np.uint64)


@dataclass(frozen=True, eq=False)
class LookAlikes:
    """Pairs of pictures with other pixels that look the same.

    n, n_other : pictures; n_other is 0 within one set. n_pairs, n_items : pairs at the threshold, exact, and pictures
    (of the first set) in them. first, second (n_pairs,) : their positions. distance (n_pairs,) : differing bits.
    near : the closest as (id, id, bits), at most ``max_listed``. borderline : those nearest the threshold, either side.
    curve_bits, curve_pairs, curve_outline : pairs at most so many bits apart, confirmed by colour and by outline alone.
    """

    what: str
    n: int
    n_other: int
    threshold: int
    agreement: float
    mirror: bool
    first: IntArray
    second: IntArray
    near: tuple[tuple[str, str, float], ...]
    borderline: tuple[tuple[str, str, float], ...]
    curve_bits: IntArray
    curve_pairs: IntArray
    curve_outline: IntArray

    @property
    def n_pairs(self) -> int:
        return len(self.first)

    @property
    def items(self) -> IntArray:
        """Positions in the first set of the pictures that have a look-alike."""
        both = [self.first] if self.n_other else [self.first, self.second]
        return np.unique(np.concatenate(both))

    def table(self) -> pd.DataFrame:
        """The closest pairs, and those at the threshold."""
        import pandas as pd

        rows = [(*pair, "near") for pair in self.near] + [(*pair, "at the threshold") for pair in self.borderline]
        return pd.DataFrame(rows, columns=["item", "other", "bits", "kind"])

    def plot(self, ax: Any = None) -> Any:
        """Number of pairs against the threshold."""
        from workbench.plots import copies

        return copies.hamming_curve(self, ax)

    def findings(self) -> list[Finding]:
        """One finding: the share of pictures with a look-alike."""
        return [_near_finding(self)]

    def flat(self) -> dict[str, float]:
        """Counts by ``copies/near_name`` or ``leaks/near_name``."""
        label = "leaks" if self.n_other else "copies"
        return {f"{label}/near_pairs": float(self.n_pairs), f"{label}/near_items": float(len(self.items))}

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False)


def look_alikes(
    pictures: Fingerprints,
    other: Fingerprints | None = None,
    *,
    threshold: int = THRESHOLD,
    agreement: float = AGREEMENT,
    mirror: bool = False,
    max_listed: int = 100,
    what: str = "image",
    block: int = 1024,
) -> LookAlikes:
    """Find pairs of pictures with different pixels that look the same, within one set or between two.

    near : hamming(hash_i, hash_j) <= threshold  and  colours_i . colours_j >= agreement  and  pixels_i != pixels_j
    threshold : 0..255 bits. agreement : correlation of the coarse colours, -1..1; 0.9 leaves room for JPEG at quality
    50, for half the size and for a fifth more or less light.
    mirror : take mirror images for copies, too. block : pictures per step; memory is about block x block x 12 bytes and
    every pair found. Time grows as the number of pairs: 0.05 s for 1,000 pictures, 1 s for 10,000.
    Raises ValueError when a threshold is out of range.

    >>> rng = np.random.default_rng(0)
    >>> dark = np.kron(rng.integers(0, 200, (4, 4, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    >>> found = look_alikes(fingerprints([dark, dark[:, ::-1], dark + 5], ids=["a", "b", "c"]))
    >>> found.n_pairs, found.near[0][:2]
    (1, ('a', 'c'))
    """
    if not 0 <= threshold <= BITS or not -1 <= agreement <= 1:
        raise ValueError(f"threshold lies in 0..{BITS} bits and agreement in -1..1; got {threshold} and {agreement}")
    reach = np.unique(np.append(CURVE, [threshold, min(threshold + 16, BITS)]))
    names = pictures.ids, pictures.ids if other is None else other.ids
    scan = PairScan(names, -float(threshold), -reach[::-1].astype(np.float64), max_listed, best=0.0)
    outline = np.zeros(int(reach[-1]) + 1, np.int64)
    kept: list[npt.NDArray[np.int64]] = []
    for first, second, nearest, bits in _blocks(pictures, other, int(reach[-1]), agreement, mirror, block):
        outline += np.bincount(nearest, minlength=len(outline))
        confirmed = bits <= reach[-1]
        first, second, bits = first[confirmed], second[confirmed], bits[confirmed]
        scan.add(first, second, -bits.astype(np.float64))
        kept.append(np.stack([first, second])[:, bits <= threshold])
    pairs = np.concatenate(kept, axis=1) if kept else np.zeros((2, 0), np.int64)
    order = np.lexsort(pairs[::-1])
    listed, borderline = (
        tuple((a, b, -value) for a, b, value in scan.listed(found)) for found in (scan.closest, scan.nearest)
    )
    return LookAlikes(
        what, len(pictures), 0 if other is None else len(other), threshold, agreement, mirror,
        pairs[0, order], pairs[1, order], listed, borderline, reach,
        scan.at_or_above()[::-1].copy(), np.cumsum(outline)[reach],
    )  # fmt: skip


def _blocks(
    pictures: Fingerprints, other: Fingerprints | None, reach: int, agreement: float, mirror: bool, block: int
) -> Iterator[tuple[IntArray, IntArray, IntArray, IntArray]]:
    """(i, j, bits by outline alone, bits where the colours agree) of pairs of different pixels, the first <= ``reach``.

    Bits are those of the nearer view, as it is or mirrored; without a view whose colours agree they are BITS + 1.
    """
    right = pictures if other is None else other
    codes = np.unique([*pictures.pixels, *right.pixels], return_inverse=True)[1].ravel()
    left_code, right_code = codes[: len(pictures)], codes[len(pictures) :]
    views = [(right.hashes, right.colours), *([(right.mirrored, right.flipped)] if mirror else [])]
    for start in range(0, len(pictures), block):
        for begin in range(start if other is None else 0, len(right), block):
            rows, columns = slice(start, start + block), slice(begin, begin + block)
            bits = [_hamming(pictures.hashes[rows], hashes[columns]) for hashes, _ in views]
            nearest = np.minimum.reduce(bits)
            i, j = np.nonzero(nearest <= reach)
            keep = left_code[i + start] != right_code[j + begin]
            keep &= (i + start < j + begin) | (other is not None)
            i, j = i[keep], j[keep]
            confirmed = [
                np.where(_dots(pictures.colours, colours, i + start, j + begin) >= agreement, one[i, j], BITS + 1)
                for one, (_, colours) in zip(bits, views, strict=True)
            ]
            yield i + start, j + begin, nearest[i, j].astype(np.int64), np.minimum.reduce(confirmed).astype(np.int64)


def _hamming(left: npt.NDArray[np.uint64], right: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint16]:
    """(m, n) bits that differ."""
    total = np.zeros((len(left), len(right)), np.uint16)
    for word in range(left.shape[1]):
        total += np.bitwise_count(left[:, None, word] ^ right[None, :, word])
    return total


def _dots(left: npt.NDArray[np.float32], right: npt.NDArray[np.float32], i: IntArray, j: IntArray) -> FloatArray:
    parts = [np.einsum("ij,ij->i", left[i[p : p + 65_536]], right[j[p : p + 65_536]]) for p in range(0, len(i), 65_536)]
    return np.concatenate(parts).astype(np.float64) if parts else np.zeros(0)


def _near_finding(found: LookAlikes) -> Finding:
    name = "leaks/near" if found.n_other else "copies/near"
    share, items = len(found.items) / max(found.n, 1), len(found.items)
    where = "pictures of the other split" if found.n_other else "others"
    if not items:
        advice = f"No picture of {found.n:,} looks like one of the {where} while its pixels differ."
        return Finding(name, 0.0, None, 0.0, NEAR_SOURCE, "ok", advice, "%")
    advice = (
        f"{items:,} of {found.n:,} pictures look like {where} with other pixels ({found.n_pairs:,} pairs, at most "
        f"{found.threshold} of {BITS} bits and colours that agree to {found.agreement:g}). Look at them: re-encoded "
        "copies are one picture, but drawings of one kind, such as clock faces, also come this close."
    )
    return Finding(name, share, None, 0.0, NEAR_SOURCE, "look", advice, "%")


@dataclass(frozen=True, eq=False)
class NearCaptions:
    """Captions of different images that nearly agree, letter by letter.

    pairs : (caption, caption, similarity) in normalised form, closest first. n_affected : texts with such a caption.
    They are listed, never merged: one word can change what a caption means.
    complete : False where captions of one form, such as numbered ones, make more pairs than are looked for: the search
    ended there, both counts are the least there are, and closer pairs may not be listed.
    """

    n_texts: int
    threshold: float
    pairs: tuple[tuple[str, str, float], ...]
    n_affected: int
    complete: bool = True

    def table(self) -> pd.DataFrame:
        """One row per pair."""
        import pandas as pd

        return pd.DataFrame(self.pairs, columns=["caption", "other", "similarity"])

    def flat(self) -> dict[str, float]:
        """Counts by ``duplicates/captions_near_name``."""
        return {
            "duplicates/captions_near_pairs": float(len(self.pairs)),
            "duplicates/captions_near_texts": float(self.n_affected),
        }

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False)


def near_captions(
    texts: Sequence[str], text_image: npt.ArrayLike, relevance: Relevance | None = None, *, threshold: float = 0.9,
    most: int = 20_000,
) -> NearCaptions:  # fmt: skip
    """Find pairs of different captions, of different images, that are the same but for a few letters.

    similarity = 1 - edits / length of the longer one >= threshold, where an edit inserts, drops or changes one
    character of the :func:`normalized_caption`. Exact: captions whose counts of three-letter pieces differ by more
    than 6 per edit allowed are not compared letter by letter, and no pair is lost by that.
    texts, text_image, relevance : as in :func:`repeated_captions`. threshold : 0.5..1. most : pairs after which
    the search ends; of n numbered captions all n (n - 1) / 2 would be near. A second for 5,000 captions.
    E. Ukkonen, "Approximate string-matching with q-grams and maximal matches", Theoretical Computer Science 92, 1992,
    https://doi.org/10.1016/0304-3975(92)90143-4 (the bound).

    >>> near_captions(["a dog runs fast", "a dog run fast.", "a cat"], [0, 1, 2]).pairs
    (('a dog run fast', 'a dog runs fast', 0.9333333333333333),)
    """
    if not 0.5 <= threshold <= 1:
        raise ValueError(f"threshold is a share of equal letters in 0.5..1; got {threshold}")
    own = np.asarray(text_image, np.int64)
    places: dict[str, list[int]] = {}
    for index in np.flatnonzero(own >= 0).tolist():
        places.setdefault(normalized_caption(texts[index]), []).append(index)
    captions = sorted((caption for caption in places if caption), key=lambda caption: (len(caption), caption))
    found, affected, complete = [], set(), True
    for first, second, similarity in close_strings(captions, threshold):
        where = places[captions[first]] + places[captions[second]]
        images = tuple(sorted({int(own[index]) for index in where}))
        if len(images) > 1 and not all_right(relevance, where, images):
            if len(found) == most:
                complete = False
                break
            found.append((*sorted((captions[first], captions[second])), similarity))
            affected.update(where)
    pairs = tuple(sorted(found, key=lambda pair: (-pair[2], pair[0], pair[1])))
    return NearCaptions(len(texts), threshold, pairs, len(affected), complete)  # type: ignore[arg-type]


def close_strings(strings: Sequence[str], threshold: float, block: int = 512) -> Iterator[tuple[int, int, float]]:
    """(i, j, similarity) of strings that agree to the threshold; ``strings`` differ and ascend in length."""
    from scipy.spatial.distance import cdist

    length = np.array([len(one) for one in strings], np.int64)
    codes = np.zeros((len(strings), int(length.max(initial=0))), np.int32)
    for row, one in enumerate(strings):
        codes[row, : len(one)] = np.frombuffer(one.encode("utf-32-le", "surrogatepass"), np.int32)
    pieces, allowed = _pieces(codes, length), np.floor((1 - threshold) * length + 1e-9)
    for start in range(0, len(strings), block):
        stop = min(start + block, len(strings))
        end = int(np.searchsorted(length - allowed, length[stop - 1], side="right"))
        for begin in range(start, end, block):
            columns = slice(begin, min(begin + block, end))
            i, j = np.nonzero(cdist(pieces[start:stop], pieces[columns], "cityblock") <= 6 * allowed[columns])
            i, j = i + start, j + begin
            i, j = i[i < j], j[i < j]
            for part in range(0, len(i), 4096):
                a, b = i[part : part + 4096], j[part : part + 4096]
                edits = _edits(codes[a], length[a], codes[b], length[b])
                near = edits <= allowed[b]
                yield from zip(a[near].tolist(), b[near].tolist(), (1 - edits / length[b])[near].tolist(), strict=True)


def _pieces(codes: npt.NDArray[np.int32], length: IntArray, buckets: int = 128) -> FloatArray:
    """(n, buckets) counts of three-letter pieces, several pieces to a bucket."""
    counts = np.zeros((len(codes), buckets))
    for at in range(codes.shape[1] - 2):
        inside = np.flatnonzero(length >= at + 3)
        one, two, three = codes[inside, at : at + 3].T.astype(np.int64)
        counts[inside, (one * 961 + two * 31 + three) % buckets] += 1
    return counts


def _edits(a: npt.NDArray[np.int32], a_length: IntArray, b: npt.NDArray[np.int32], b_length: IntArray) -> IntArray:
    """(n,) edits between the rows of two padded arrays: insertions, deletions and changes (Levenshtein)."""
    width = int(b_length.max(initial=0))
    place = np.arange(width + 1)
    row, rows = np.tile(place, (len(a), 1)), np.arange(len(a))
    edits = row[rows, b_length].copy()
    for at in range(int(a_length.max(initial=0))):
        step = np.minimum(row[:, 1:] + 1, row[:, :-1] + (b[:, :width] != a[:, at, None]))
        row = np.column_stack([np.full(len(a), at + 1), step])
        row = np.minimum.accumulate(row - place, axis=1) + place
        edits = np.where(a_length == at + 1, row[rows, b_length], edits)
    return edits
