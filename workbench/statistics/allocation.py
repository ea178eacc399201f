"""A budget shared between many: the largest sum when each gains by its own table, exactly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from workbench.types import FloatArray, IntArray

#: Entries of the table of choices; a budget that needs more is refused.
MOST_CHOICES = 200_000_000


def allocate(values: npt.ArrayLike, counts: npt.ArrayLike, total: int) -> IntArray:
    """How much each of n should get of a budget, so that the sum of what they are worth is largest.

        max sum_i values_i[t_i]   over   0 <= t_i <= counts_i,  sum_i t_i <= total

    values : flat, ``counts[i] + 1`` numbers for i: what it is worth with 0, 1, ... units; any course, concave or not.
    counts (n,), total : whole numbers >= 0. Returns t (n,); exact to rounding (1e-12 of the sum).
    A price per unit bounds the sum from above (Lagrange) and leaves a good allocation; where they differ, as they can
    for courses that are not concave, the choices that the bound does not rule out are searched (max-plus, by budget).
    Errors: lengths that do not fit, NaN, or a search of more than 2e8 table entries.
    Source: the multiple-choice knapsack problem, H. Kellerer, U. Pferschy & D. Pisinger, Knapsack Problems, Springer
    2004, chapter 11.

    >>> allocate([0, 1, 5, 0, 3], [2, 1], 2)  # 5 for two units together, or 3 + 1
    array([2, 0])
    """
    table, sizes = np.asarray(values, np.float64), np.asarray(counts, np.int64)
    if total < 0 or (sizes < 0).any() or len(table) != int((sizes + 1).sum()) or np.isnan(table).any():
        raise ValueError(
            f"{len(table)} values for {len(sizes)} tables of {int((sizes + 1).sum())} entries and a budget of {total}; "
            "give counts + 1 numbers each, none NaN, and a budget >= 0"
        )
    if not len(sizes):
        return np.empty(0, np.int64)
    course = _Courses(table, sizes)
    price = course.price(total)
    spent, bound = course.filled(price, total), course.bound(price, total)
    gap = bound - course.worth(spent)
    slack = 1e-12 * (1 + float(np.abs(table).sum()))
    return spent if gap <= slack else course.searched(price, gap + slack, total)


class _Courses:
    """Tables of values, one after the other."""

    def __init__(self, values: FloatArray, counts: IntArray) -> None:
        self.values, self.first = values, np.cumsum(counts + 1) - counts - 1
        self.owner = np.repeat(np.arange(len(counts)), counts + 1)
        self.units = np.arange(len(values)) - self.first[self.owner]

    def net(self, price: float) -> tuple[FloatArray, FloatArray]:
        """(value - price x units, the best of each table)."""
        net = self.values - price * self.units
        return net, np.maximum.reduceat(net, self.first)

    def choice(self, price: float, *, fewest: bool) -> IntArray:
        """The units that are best at a price, the fewest or the most of them."""
        net, best = self.net(price)
        units = np.where(net == best[self.owner], self.units, len(net) if fewest else -1)
        return np.asarray((np.minimum if fewest else np.maximum).reduceat(units, self.first))

    def price(self, total: int) -> float:
        """The lowest price, to rounding, at which the fewest best units fit the budget."""
        if self.choice(0.0, fewest=True).sum() <= total:
            return 0.0
        rise = (self.values - self.values[self.first][self.owner]) / np.maximum(self.units, 1)
        low, high = 0.0, 2 * float(rise.max())
        for _ in range(100):
            middle = (low + high) / 2
            if not low < middle < high:
                break
            fits = self.choice(middle, fewest=True).sum() <= total
            low, high = (low, middle) if fits else (middle, high)
        return high

    def bound(self, price: float, total: int) -> float:
        return float(price * total + self.net(price)[1].sum())

    def worth(self, units: IntArray) -> float:
        return float(self.values[self.first + units].sum())

    def filled(self, price: float, total: int) -> IntArray:
        """The best units at the price; what is left of the budget goes to those that are nearly as good with more."""
        units, more = self.choice(price, fewest=True), self.choice(price * (1 - 1e-12), fewest=False)
        left = total - int(units.sum())
        for i in np.argsort(more - units, kind="stable"):
            if left and more[i] > units[i]:
                reach = self.first[i] + units[i] + np.arange(min(left, more[i] - units[i]) + 1)
                step = int(np.argmax(self.values[reach]))
                units[i], left = units[i] + step, left - step
        return units

    def searched(self, price: float, gap: float, total: int) -> IntArray:
        """The best allocation among choices that lose no more than the gap at the price."""
        net, best = self.net(price)
        kept = np.flatnonzero(net >= best[self.owner] - gap)
        opens = np.flatnonzero(np.diff(self.owner[kept], prepend=-1))
        units = self.units[kept[opens]]
        left = total - int(units.sum())
        many = np.flatnonzero(np.diff(np.append(opens, len(kept))) > 1)
        if len(many) * (left + 1) > MOST_CHOICES:
            raise ValueError(
                f"{len(many):,} tables share {left:,} units in a gap of {gap:.3g}, too many to search; lower the budget"
            )
        reached, steps = np.zeros(left + 1), []
        for i in many:
            options = kept[opens[i] : opens[i + 1] if i + 1 < len(opens) else len(kept)]
            reached, step = _added(reached, self.units[options] - units[i], self.values[options])
            steps.append(step)
        for i, step in zip(many[::-1], steps[::-1], strict=True):
            units[i], left = units[i] + step[left], left - int(step[left])
        return units


def _added(reached: FloatArray, units: IntArray, values: FloatArray) -> tuple[FloatArray, IntArray]:
    """The largest sum within each budget with one more table, and the units it takes of it."""
    found, step = reached + values[0], np.zeros(len(reached), np.int64)
    for more, value in zip(units[1:], values[1:], strict=True):
        if more < len(reached):
            tried = reached[: len(reached) - more] + value
            better = np.flatnonzero(tried > found[more:]) + more
            found[better], step[better] = tried[better - more], more
    return found, step
