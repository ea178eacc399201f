"""Learn byte-pair merges and write them in the file format of open_clip's ``SimpleTokenizer``.

Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units", ACL 2016,
https://aclanthology.org/P16-1162. The alphabet is the 256 bytes, so that any text can be written.
"""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

from workbench.encoders import words

HEADER = '"bpe_merges: learned from captions of the scenes data set, workbench"'
MAX_MERGES = 49152 - 256 - 2  # SimpleTokenizer reads no more lines than this after the header


def byte_letters() -> dict[int, str]:
    """One printable letter per byte, the mapping of GPT-2: printable Latin-1 stays, the others follow from 256 on.

    >>> byte_letters()[65], byte_letters()[32]
    ('A', 'Ġ')
    """
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = [byte for byte in range(256) if byte not in set(kept)]
    return {byte: chr(byte) for byte in kept} | {byte: chr(256 + place) for place, byte in enumerate(moved)}


def learn_merges(texts: Iterable[str], *, n_merges: int = 4000) -> list[tuple[str, str]]:
    """The merges, most frequent pair first, ties in alphabetical order; stops when every word is one token.

    >>> learn_merges(["red red", "bed"])  # "ed" occurs three times, then "red" twice, then "bed"
    [('e', 'd</w>'), ('r', 'ed</w>'), ('b', 'ed</w>')]
    """
    counts = Counter(word for text in texts for word in words(text))
    letters = byte_letters()
    spelled = {word: [letters[byte] for byte in word.encode()] for word in counts}
    parts = {word: (*symbols[:-1], symbols[-1] + "</w>") for word, symbols in spelled.items()}
    merges: list[tuple[str, str]] = []
    while len(merges) < min(n_merges, MAX_MERGES):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, symbols in parts.items():
            for pair in pairwise(symbols):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        parts = {word: _merged(symbols, best) for word, symbols in parts.items()}
    return merges


def merges_file(merges: Sequence[tuple[str, str]]) -> bytes:
    """The gzipped file: a header line that the reader skips, then one merge per line; equal merges give equal bytes."""
    lines = [HEADER, *(f"{first} {second}" for first, second in merges)]
    return gzip.compress("\n".join(lines).encode(), mtime=0)


def _merged(symbols: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """The symbols with every occurrence of the pair joined, from left to right."""
    joined: list[str] = []
    for symbol in symbols:
        if joined and (joined[-1], symbol) == pair:
            joined[-1] += symbol
        else:
            joined.append(symbol)
    return tuple(joined)
