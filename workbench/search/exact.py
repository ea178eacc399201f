"""One exact pass over all pairs of two sides that feeds any number of consumers, without the full score matrix."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from workbench.search import definition
from workbench.search.definition import Array, Screen
from workbench.search.kernels import Kernels
from workbench.search.plain import Plain
from workbench.search.restrict import Which
from workbench.search.side import LARGEST_NORM, Side
from workbench.search.tile import Tile, tiles
from workbench.threads import thread_count

_COMPILE_FROM = 20_000_000
"""Pairs from which loading the compiled kernels (about a second) pays."""
_BFLOAT16_FROM = 4e11
"""Multiplications from which loading torch (about two seconds) pays, where it is not loaded yet."""
_SCREENS: tuple[Screen, ...] = ("bfloat16", "float32", "float64")


class Accumulator(Protocol):
    """The running state of one consumer. ``merge`` takes the state of the same consumer over other tiles."""

    def update(self, tile: Tile) -> None: ...
    def merge(self, other: Any) -> None: ...
    def finish(self) -> Any: ...


class Consumer(Protocol):
    """What a scan feeds. ``of`` says whose items are the rows; the consumer itself never changes."""

    @property
    def of(self) -> Which: ...
    @property
    def screen(self) -> Screen: ...
    def state_bytes(self, n_rows: int, n_columns: int) -> int: ...
    def begin(self, rows: Side, columns: Side, kernels: Kernels) -> Accumulator: ...


def scan(
    queries: Array,
    gallery: Array,
    consumers: Sequence[Consumer],
    *,
    memory: int = 256 * 2**20,
    screen: Screen | Literal["auto"] = "auto",
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> list[Any]:
    """Stream all pairs once and return the result of each consumer, in the order given.

    queries (n_queries, dim), gallery (n_gallery, dim) : float32 or float64, finite; a ``np.memmap`` is read in blocks
    and may be larger than memory.
    consumers : :class:`TopK`, :class:`RankPositives`, :class:`LogSumExp`, :class:`TopKMean`, :class:`ScoreHistogram`,
    any number of each.
    memory : bytes of working memory, consumers' state included, inputs not. It changes the speed, not the results
    (sums of floats: 1e-12).
    screen : the coarsest precision of the matrix product; a finer one is taken where a consumer needs it, or where the
    vectors are so long or short that float32 could overflow. "auto": bfloat16 in large searches on processors with
    units for it, else float32. Results are the same in every precision.
    device : "cpu", or a device of torch such as "cuda", on which the products are then computed.
    progress : called as ``progress(tiles_done, tiles_in_all)``.

    >>> from workbench.search import TopK
    >>> nearest, = scan(np.eye(2), np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), [TopK(2)])
    >>> nearest.indices
    array([[1, 2],
           [0, 2]])
    """
    if np.ndim(queries) == np.ndim(gallery) == 2 and np.shape(queries)[1] != np.shape(gallery)[1]:
        raise ValueError(
            f"queries have {np.shape(queries)[1]} dimensions and the gallery has {np.shape(gallery)[1]}; "
            "both sides must come from the same embedding space"
        )
    chosen = _choose_screen(screen, consumers, np.size(queries), len(gallery), device)
    with _kernels(len(queries) * len(gallery), chosen) as kernels:
        left, right = Side.of(queries, "queries", kernels, chosen), Side.of(gallery, "gallery", kernels, chosen)
        if max(left.longest, right.longest) > LARGEST_NORM[chosen]:
            chosen = "float64"
        shape = _tile_shape(left, right, consumers, memory, kernels, chosen)
        sides = {"queries": (left, right), "gallery": (right, left)}
        states = [each.begin(*sides[each.of], kernels) for each in consumers]
        total = -(-len(left.vectors) // shape[0]) * -(-len(right.vectors) // shape[1])
        stream = tiles(left, right, shape=shape, screen=chosen, kernels=kernels, device=device)
        for done, tile in enumerate(stream, start=1):
            for consumer, state in zip(consumers, states, strict=True):
                state.update(tile if consumer.of == "queries" else tile.T)
            if progress is not None:
                progress(done, total)
        return [state.finish() for state in states]


def _choose_screen(
    screen: Screen | Literal["auto"], consumers: Sequence[Consumer], n_numbers: int, n_gallery: int, device: str
) -> Screen:
    if screen not in ("auto", *_SCREENS):
        raise ValueError(f"screen must be 'auto', 'bfloat16', 'float32' or 'float64'; got {screen!r}")
    if screen == "auto":
        worth = n_numbers * n_gallery >= (_BFLOAT16_FROM / 100 if "torch" in sys.modules else _BFLOAT16_FROM)
        able = worth and device == "cpu" and _has_bfloat16_units() and _installed("torch") and _installed("numba")
        screen = "bfloat16" if able else "float32"
    elif screen == "bfloat16" and not (_installed("torch") and _installed("numba")):
        raise ValueError("screen='bfloat16' needs torch and numba; install both or use screen='auto'")
    if screen == "bfloat16" and device != "cpu":
        raise ValueError(f"screen='bfloat16' is for the processor; use screen='auto' with device={device!r}")
    return _SCREENS[max(_SCREENS.index(each) for each in (screen, *(consumer.screen for consumer in consumers)))]


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # someone keeps it from being imported
        return False


def _has_bfloat16_units() -> bool:
    """Whether this processor multiplies bfloat16 matrices in hardware; known on Linux only."""
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(words)


@contextmanager
def _kernels(n_pairs: int, screen: Screen) -> Iterator[Kernels]:
    """The compiled kernels where they pay (bfloat16 has no others), else those in numpy; results are the same."""
    if screen == "bfloat16" or (n_pairs >= _COMPILE_FROM and _installed("numba")):
        from workbench.search.compiled import Compiled

        with Compiled(thread_count()) as compiled:
            yield compiled
    else:
        yield Plain()


def _state_bytes(consumers: Sequence[Consumer], n_queries: int, n_gallery: int) -> int:
    sizes = {"queries": (n_queries, n_gallery), "gallery": (n_gallery, n_queries)}
    return 16 * (n_queries + n_gallery) + sum(each.state_bytes(*sizes[each.of]) for each in consumers)


def _tile_shape(
    left: Side, right: Side, consumers: Sequence[Consumer], memory: int, kernels: Kernels, screen: Screen
) -> tuple[int, int]:
    """Rows and columns of a tile whose pairs and cast vectors fit into the memory that the states leave."""
    n_queries, n_gallery, dim = len(left.vectors), len(right.vectors), left.vectors.shape[1]
    states = _state_bytes(consumers, n_queries, n_gallery)
    per_pair, most = kernels.tile_limits(screen, consumers)
    per_item = 8 * dim
    room = memory - states - 4 * 8 * definition.CHUNK_NUMBERS
    side = int((math.sqrt(4 * per_item**2 + 4 * per_pair * max(room, 0)) - 2 * per_item) / (2 * per_pair))
    if side < 1:
        needed = memory - room + per_pair + 4 * per_item
        raise ValueError(
            f"memory={memory} bytes is too little: the results and the smallest tile need about {needed} bytes"
        )
    rows = min(n_queries, side)
    columns = min(n_gallery, max(side, (room - rows * per_item) // (rows * per_pair + per_item)))
    rows = min(n_queries, max(rows, (room - columns * per_item) // (columns * per_pair + per_item)))
    return min(rows, most[0]), min(columns, most[1])
