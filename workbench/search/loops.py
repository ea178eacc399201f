"""The loops that numba compiles: on parts of the rows, without the interpreter's lock, nothing but arrays in and out.

A block of scores is looked at as a whole first, which the compiler turns into vector instructions, and number by number
only where something in it matters. Loops over blocks of fixed width without a bound check are what it recognises, which
is why they are written out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.extending import overload

_FEW = 16
_BUCKETS = 4
_TURN = 16
GROUPS = 16


def _cached(function: Callable[..., Any]) -> Any:
    """Compiled without the interpreter's lock, and kept on disk where a folder can be written."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)


def _key(x):
    """An order-preserving key of a score: itself, or for the bits of a bfloat16 an integer."""


def _number(x):
    """The score that is stored: itself, or what the bits of a bfloat16 stand for."""


def _bits(x):
    """The nearest bfloat16 of a score, ties to even, as bits."""


@overload(_key)
def _(x):
    if isinstance(x, numba.types.Integer):
        return lambda x: np.int16(x ^ np.int16(np.int16(x >> 15) & np.int16(0x7FFF)))
    return lambda x: x


@overload(_number)
def _(x):
    if isinstance(x, numba.types.Integer):
        return lambda x: np.int32(np.int32(x) << np.int32(16)).view(np.float32)
    return lambda x: x


@overload(_bits)
def _(x):
    def nearest_even(x):
        bits = np.uint32(np.float32(x).view(np.uint32))
        even = np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(1))
        return np.int16(np.uint32(np.uint32(np.uint32(bits + np.uint32(0x7FFF)) + even) >> np.uint32(16)))

    return nearest_even


@_cached
def cast(vectors, bits, start, stop):
    for i in range(start, stop):
        source, target = vectors[i], bits[i]
        for d in range(source.shape[0]):
            target[d] = _bits(source[d])


@_cached
def measure(vectors, narrow, norms, moved, start, stop):
    for i in range(start, stop):
        square, apart, source = 0.0, 0.0, vectors[i]
        for d in range(source.shape[0]):
            x = np.float64(source[d])
            square += x * x
            if narrow:
                lost = np.float64(_number(_bits(source[d]))) - x
                apart += lost * lost
        norms[i] = np.sqrt(square)
        moved[i] = np.sqrt(apart) * (1 + 1e-6) + 1e-30 if narrow else 0.0


@_cached
def _excluded(items, first, last, column):
    while first < last:
        middle = (first + last) // 2
        if items[middle] < column:
            first = middle + 1
        else:
            last = middle
    return first


@_cached
def _permitted(row, column, indptr, items, allow, mask):
    if allow.shape[0] and not allow[mask[row], column]:
        return False
    if len(items):
        place = _excluded(items, indptr[row], indptr[row + 1], column)
        return place == indptr[row + 1] or items[place] != column
    return True


@_cached
def collect(scores, n, least, begin, at, indptr, items, allow, mask, columns, values, count, start, stop):
    row_start, column_start = at
    capacity, width = columns.shape[1], scores.shape[2]
    for i in range(start, stop):
        row, t, c, until = row_start + i, least[i], count[row_start + i], n
        for b in range(begin[i] // width, scores.shape[1]):
            block, offset = scores[i, b], b * width
            left = np.int32(0)
            for j in range(block.shape[0]):
                left += np.int32(_key(block[j]) >= t)
            for j in range(width if left else 0):
                if _key(block[j]) < t:
                    continue
                left -= 1
                inside = begin[i] <= offset + j < n
                if inside and _permitted(row, column_start + offset + j, indptr, items, allow, mask):
                    if c == capacity:
                        until = offset + j
                        break
                    columns[row, c] = column_start + offset + j
                    values[row, c] = _number(block[j])
                    c += 1
                if left == 0:
                    break
            if until < n:
                break
        count[row] = c
        begin[i] = until


@_cached
def group_maxima(scores, n, best, start, stop):
    for i in range(start, stop):
        for b in range(n // scores.shape[2]):
            block, largest = scores[i, b], best[i, b]
            for g in range(largest.shape[0]):
                largest[g] = _key(block[g])
            for s in range(GROUPS, block.shape[0], GROUPS):
                part = block[s : s + GROUPS]
                for g in range(largest.shape[0]):
                    largest[g] = max(largest[g], _key(part[g]))


@_cached
def drop(rows, k, relative, columns, values, count, error, floor, start, stop):
    for r in range(start, stop):
        row = rows[r]
        own, size = values[row], count[row]
        kth = np.partition(own[:size], size - k)[size - k]
        floor[row] = max(floor[row], kth - error[row] - relative * abs(kth))
        c = 0
        for j in range(size):
            if own[j] + error[row] + relative * abs(own[j]) >= floor[row]:
                own[c], columns[row, c] = own[j], columns[row, j]
                c += 1
        count[row] = c


@_cached
def _count_few(block, lows, highs, above, offset, found, m):
    """Compare the whole block with every threshold; what is undecided for one is taken off the counts of all."""
    unsure = False
    for p in range(lows.shape[0]):
        over, reached = np.int32(0), np.int32(0)
        for j in range(block.shape[0]):
            over += np.int32(block[j] > highs[p])
            reached += np.int32(block[j] >= lows[p])
        above[p] += over
        unsure |= over != reached
    for j in range(block.shape[0] if unsure else 0):
        near = False
        for p in range(lows.shape[0]):
            near |= lows[p] <= block[j] <= highs[p]
        if near:
            found[m] = offset + j
            m += 1
            for p in range(lows.shape[0]):
                above[p] -= np.int64(block[j] > highs[p])
    return m


@_cached
def _bucket(x, least, scale, n):
    """1 .. n for the range of the thresholds, 0 and n + 1 around it; it never falls as the score rises."""
    at = (np.float64(x) - least) * scale + 1.0
    at = at if at > 0.0 else 0.0
    return np.uint32(at if at < n + 1.0 else n + 1.0)


@_cached
def _set_buckets(lows, highs, mixed, ended):
    """Which buckets a threshold or its uncertainty touches, and how many thresholds end before each; the scale."""
    n = _BUCKETS * lows.shape[0]
    least, span = np.float64(lows[0]), np.float64(highs[-1]) - np.float64(lows[0])
    scale = (n - 1) / span if span > 0 else 0.0
    mixed[: n + 2], ended[: n + 3] = 0, 0
    for p in range(lows.shape[0]):
        last = _bucket(highs[p], least, scale, n)
        for b in range(_bucket(lows[p], least, scale, n), last + 1):
            mixed[b] = 1
        ended[last + 1] += 1
    for b in range(1, n + 3):
        ended[b] += ended[b - 1]
    return scale


@_cached
def _count_many(block, lows, highs, buckets, scale, tally, offset, allowed, found, m):
    """Count the columns of each bucket; only those in buckets that a threshold touches are placed one by one."""
    mixed, ended, counts, own, close = buckets
    n, least, n_close = _BUCKETS * lows.shape[0], np.float64(lows[0]), np.uint32(0)
    for j in range(block.shape[0]):
        own[j] = _bucket(block[j], least, scale, n)
    for j in range(block.shape[0]):
        if allowed.shape[0] and not allowed[offset + j]:
            continue
        close[n_close] = j
        n_close += np.uint32(mixed[own[j]])
        counts[own[j]] += np.uint32(1) - np.uint32(mixed[own[j]])
    for c in range(n_close):
        score, bucket = block[close[c]], own[close[c]]
        below, last = np.uint32(ended[bucket]), np.uint32(ended[bucket + np.uint32(1)])
        while below < last and highs[below] < score:
            below += np.uint32(1)
        if below < lows.shape[0] and lows[below] <= score:
            found[m] = offset + close[c]
            m += 1
        else:
            tally[below] += 1
    return m


@_cached
def count(scores, n, first, size, low, high, above, allow, mask, column, block_of, found_i, found_j, start, stop):
    width, m = scores.shape[2], 0
    tally = np.zeros(above.shape[1] + 1, np.int64)
    most = _BUCKETS * above.shape[1] + 3
    mixed, ended, counts = np.zeros(most, np.uint32), np.zeros(most, np.uint32), np.zeros(most, np.uint32)
    buckets = mixed, ended, counts, np.zeros(width, np.uint32), np.zeros(width, np.uint32)
    for i in range(start, stop):
        lows, highs = low[first[i] : first[i] + size[i]], high[first[i] : first[i] + size[i]]
        few = size[i] <= _FEW and allow.shape[0] == 0
        scale = 0.0 if few or block_of[i] == scores.shape[1] else _set_buckets(lows, highs, mixed, ended)
        allowed = allow[mask[i], column : column + n] if allow.shape[0] else np.zeros(0, np.bool_)
        while block_of[i] < scores.shape[1] and m + width <= len(found_j):
            offset, seen = block_of[i] * width, m
            block = scores[i, block_of[i]][: n - offset]
            if few:
                m = _count_few(block, lows, highs, above[i], offset, found_j, m)
            else:
                m = _count_many(block, lows, highs, buckets, scale, tally, offset, allowed, found_j, m)
            found_i[seen:m] = i
            block_of[i] += 1
        for b in range(0 if few else _BUCKETS * size[i] + 2):
            tally[ended[b]] += counts[b]
            counts[b] = 0
        total = 0
        for p in range(size[i] - 1, -1, -1):
            total += tally[p + 1]
            above[i, p] += total
        tally[:] = 0
        if block_of[i] < scores.shape[1]:
            break
    return m


@_cached
def pair_scores(queries, gallery, rows, columns, scores, start, stop):
    dim = queries.shape[1]
    half = dim // 2
    sums = np.empty(dim - half)
    for p in range(start, stop):
        a, b = queries[rows[p]], gallery[columns[p]]
        if dim > 2 * half:
            sums[half] = np.float64(a[half]) * np.float64(b[half])
        head_a, head_b, tail_a, tail_b = a[:half], b[:half], a[dim - half :], b[dim - half :]
        for d in range(half):
            late = np.float64(tail_a[d]) * np.float64(tail_b[d])
            sums[d] = np.float64(head_a[d]) * np.float64(head_b[d]) + late
        width = dim - half
        while width > 1:
            fewer = width // 2
            head, tail = sums[:fewer], sums[width - fewer : width]
            for d in range(fewer):
                head[d] += tail[d]
            width -= fewer
        scores[p] = sums[0]


@_cached
def places(targets, first, last, scores, reached, passed, start, stop):
    for p in range(start, stop):
        low, high = first[p], last[p]
        while low < high:
            middle = (low + high) // 2
            if targets[middle] < scores[p]:
                low = middle + 1
            else:
                high = middle
        reached[p], high = low, last[p]
        while low < high:
            middle = (low + high) // 2
            if targets[middle] <= scores[p]:
                low = middle + 1
            else:
                high = middle
        passed[p] = low


@_cached
def settle(best_columns, best_scores, left_out, order, rows, columns, scores, start, stop):
    k = best_columns.shape[1]
    for p in range(start, stop):
        row, column, score = rows[p], columns[p], scores[p]
        place = k
        while place > 0:
            other, other_score = best_columns[row, place - 1], best_scores[row, place - 1]
            if other >= 0 and (other_score > score or (other_score == score and order[other] < order[column])):
                break
            place -= 1
        if place == k:
            left_out[row] = max(left_out[row], score)
            continue
        if best_columns[row, k - 1] >= 0:
            left_out[row] = max(left_out[row], best_scores[row, k - 1])
        for q in range(k - 1, place, -1):
            best_columns[row, q], best_scores[row, q] = best_columns[row, q - 1], best_scores[row, q - 1]
        best_columns[row, place], best_scores[row, place] = column, score


@_cached
def transpose(scores, out, start, stop):
    for i in range(0, scores.shape[0], _TURN):
        for j in range(start, stop, _TURN):
            source = scores[i : i + _TURN, j : min(j + _TURN, stop)]
            target = out[j : min(j + _TURN, stop), i : i + _TURN]
            if source.shape[0] == _TURN and source.shape[1] == _TURN:
                for b in range(_TURN):
                    for a in range(_TURN):
                        target[b, a] = source[a, b]
            else:
                for b in range(source.shape[1]):
                    for a in range(source.shape[0]):
                        target[b, a] = source[a, b]
