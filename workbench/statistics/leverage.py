"""What a mean owes to a single group: macro and micro averages, and both without each group in turn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workbench.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class GroupedMean:
    """Averages over groups of values: :func:`grouped_mean`.

    macro : mean of the groups' means. micro : mean of all values. names (n_groups,), means (n_groups,), n (n_groups,)
    of the groups, in sorted order. macro_without, micro_without (n_groups,) : the averages with that group left out.
    """

    macro: float
    micro: float
    names: npt.NDArray[np.generic]
    means: FloatArray
    n: IntArray
    macro_without: FloatArray
    micro_without: FloatArray
    n_missing: int

    @property
    def macro_leverage(self) -> FloatArray:
        """(n_groups,) how far each group moves the macro average: macro - macro_without."""
        return np.asarray(self.macro - self.macro_without)

    @property
    def value_weight(self) -> FloatArray:
        """(n_groups,) weight of one value of each group in the macro average, in units of its weight in the micro."""
        return np.asarray(self.n.sum() / (len(self.n) * self.n))


def grouped_mean(values: npt.ArrayLike, groups: npt.ArrayLike) -> GroupedMean:
    """Macro and micro average of values in groups, and what is left of them when a group is left out.

        micro = sum_g n_g m_g / sum_g n_g;   macro = sum_g m_g / G
        macro - macro_without_g = (m_g - macro_without_g) / G

    values (n,), NaN left out; groups (n,) labels. A group of few values has the same say in the macro average as any
    other, so each of its values weighs ``value_weight`` times as much. Errors: lengths that differ, infinite values,
    fewer than two groups with values.

    >>> found = grouped_mean([1.0, 1.0, 1.0, 0.0, 0.0], ["reports", "reports", "reports", "laws", "news"])
    >>> found.micro, round(found.macro, 3), found.names.tolist(), found.macro_without.tolist()
    (0.6, 0.333, ['laws', 'news', 'reports'], [0.5, 0.5, 0.0])
    """
    numbers, labels = np.asarray(values, dtype=np.float64), np.asarray(groups)
    if numbers.ndim != 1 or labels.shape != numbers.shape:
        raise ValueError(f"values and groups must be (n,) both; got {numbers.shape} and {labels.shape}")
    if np.isinf(numbers).any():
        raise ValueError(f"{int(np.isinf(numbers).sum())} values are infinite; a mean of them says nothing")
    scored = ~np.isnan(numbers)
    names, codes = np.unique(labels[scored], return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"leaving a group out needs two groups with values; got {len(names)}")
    n, sums = np.bincount(codes), np.bincount(codes, numbers[scored])
    means = sums / n
    return GroupedMean(
        float(means.mean()), float(sums.sum() / n.sum()), names, means, n, (means.sum() - means) / (len(n) - 1),
        (sums.sum() - sums) / (n.sum() - n), int((~scored).sum()),
    )  # fmt: skip
