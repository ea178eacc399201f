"""The meter on worlds with a known answer, at the sizes of this very run: an auditor trusts one seen to read zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.diagnostics.hubness import Measure, hubness
from workbench.evaluate.scores import Scores
from workbench.types import Finding, Neighbours, Relevance

if TYPE_CHECKING:
    import pandas as pd


LEVEL = 0.998
"""Of the intervals here: a report makes about four checks, and a false alarm on a sound one must be rare."""


@dataclass(frozen=True)
class Check:
    """One reading against what it must be; passed when the interval (low, high) of the reading holds it."""

    name: str
    expected: float
    measured: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        return self.low <= self.expected <= self.high


@dataclass(frozen=True)
class Instrument:
    """All readings of the checks."""

    checks: tuple[Check, ...]

    def table(self) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(
            [(c.name, c.expected, c.measured, c.low, c.high, "yes" if c.passed else "NO") for c in self.checks],
            columns=["check", "must read", "reads", "low", "high", "passed"],
        )

    def findings(self) -> list[Finding]:
        failed = [check.name for check in self.checks if not check.passed]
        share = (len(self.checks) - len(failed)) / len(self.checks)
        advice = (
            "Every check on a world with a known answer reads what it must."
            if not failed
            else f"Reads off: {'; '.join(failed)}. At 99.8 % intervals one reading in five hundred is off by chance; "
            "run again with another seed, and distrust this report if it stays."
        )
        verdict = "problem" if failed else "ok"
        return [
            Finding("instrument", share, None, 1.0, "known answers", verdict, advice, "%"),  # type: ignore[arg-type]
        ]


def shuffled_truth(relevance: Relevance, *, seed: int) -> Relevance:
    """As many positives for every query, drawn at random: whatever the scores, chance is the right answer.

    Each query draws on its own. One renaming of all items would keep queries together that share their positives
    (photographs of one class), and the interval of the check would be too narrow.
    """
    rng, truth = np.random.default_rng([seed, 17]), relevance.positives
    drawn = [rng.choice(truth.n_gallery, size=size, replace=False) for size in np.diff(truth.indptr).tolist()]
    return Relevance.from_pairs(
        truth.queries, np.concatenate(drawn) if drawn else truth.items, truth.grades,
        n_queries=truth.n_queries, n_gallery=truth.n_gallery,
    )  # fmt: skip


def shuffled_check(scores: Scores) -> Check:
    """Deepest hit@k under shuffled truth against chance."""
    i = len(scores.metrics) - 1
    return Check(
        f"{scores.direction}/{scores.metrics[i]} with shuffled truth = chance",
        float(scores.chance[i]), float(scores.value[i]), float(scores.low[i]), float(scores.high[i]),
    )  # fmt: skip


def random_lists_check(n_queries: int, n_gallery: int, k: int, *, direction: str, seed: int) -> Check:
    """Hubness of lists drawn at random: the skewness must lie where chance puts it."""
    rng = np.random.default_rng([seed, 29])
    indices = np.stack([rng.choice(n_gallery, size=k, replace=False) for _ in range(n_queries)])
    lists = Neighbours(indices, np.zeros(indices.shape), n_gallery, True, np.zeros(n_queries, bool))
    read = hubness(lists, direction=direction, seed=seed, n_null=1000, level=LEVEL).measure("skewness")
    name = f"{direction} hubness of random lists: skewness in the chance band"
    return Check(name, read.chance, read.value, *_centred(read))


def _centred(read: Measure) -> tuple[float, float]:
    """The chance band moved from its own centre to the reading, so that every check reads the same way."""
    return read.value + read.low - read.chance, read.value + read.high - read.chance
