"""From values by seed to a verdict, by one rule for all papers, fixed before anything is run.

    effect of a claim = mean over seeds of (arm - strongest control), the other way round where lower is better
    holds         the 95 % interval of the effect lies at or above the least difference that counts
    fails         it lies below
    inconclusive  otherwise

The strongest control is the one with the best mean over the seeds. The interval is Student's t over seeds, paired by
seed; for published values, which are not paired, Welch's; a published single value has no interval and is compared as
it is. A study holds where all of its claims hold, fails where all fail, holds under the conditions it names where some
hold, and is inconclusive otherwise, or where one of its checks does not hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy.special import stdtrit

from workbench.studies.study import Arms, Claim, Facts
from workbench.types import FloatArray

Answer = Literal["holds", "fails", "inconclusive"]
LEVEL = 0.95


@dataclass(frozen=True)
class Judged:
    """One claim after measuring: effect over the strongest control with its interval, and the answer.

    value, control_value : means of the arm and of that control, in the claim's unit. n_seeds : 0 for published values.
    """

    claim: Claim
    control: str
    value: float
    control_value: float
    effect: float
    low: float
    high: float
    n_seeds: int
    answer: Answer

    def flat(self) -> dict[str, Any]:
        """Plain values, the claim's own among them."""
        shown = asdict(self)
        return {**shown.pop("claim"), **shown}


@dataclass(frozen=True)
class Verdict:
    """The verdict on a study, and the claims it follows from."""

    answer: str
    claims: tuple[Judged, ...]

    def flat(self) -> dict[str, Any]:
        """Plain values."""
        return {"answer": self.answer, "claims": [one.flat() for one in self.claims]}


def judge(claims: Sequence[Claim], seeds: Sequence[Arms], facts: Facts | None = None) -> Verdict:
    """Judge claims on what was measured: ``seeds`` holds the arms of every seed.

    A claim's condition is looked up among the facts first. Errors: fewer than two seeds, a condition or an arm that was
    not measured, a value that is not finite.

    >>> claim = Claim("new beats old", "plain", "new", ("old",), fake="shuffled", unit="points", least=1.0)
    >>> seeds = [{"plain": {"new": 12.0 + s, "old": 9.0 + s, "shuffled": 1.0}} for s in (0.0, 0.1, 0.4)]
    >>> found = judge([claim], seeds)
    >>> found.answer, found.claims[0].effect
    ('holds', 3.0)
    >>> judge([with_fake(claim)], seeds).answer
    'fails'
    """
    judged = tuple(_judged(one, seeds, facts or {}) for one in claims)
    return Verdict(_answer(judged), judged)


def with_fake(claim: Claim) -> Claim:
    """The claim with its fake in the place of the mechanism; it keeps its controls but for the fake itself."""
    controls = tuple(one for one in claim.controls if one != claim.fake) or (claim.arm,)
    return replace(claim, arm=claim.fake, fake=claim.arm, controls=controls)


def _judged(claim: Claim, seeds: Sequence[Arms], facts: Facts) -> Judged:
    published = claim.condition in facts
    values = _published(claim, facts) if published else _measured(claim, seeds)
    sign = 1.0 if claim.better == "higher" else -1.0
    control = max(claim.controls, key=lambda name: sign * float(values[name].mean()))
    own, other = values[claim.arm], values[control]
    effect = sign * float(own.mean() - other.mean())
    half = _welch(own, other) if published else _paired(own - other)
    low, high = effect - half, effect + half
    answer: Answer = "holds" if low >= claim.least else "fails" if high < claim.least else "inconclusive"
    return Judged(
        claim, control, float(own.mean()), float(other.mean()), effect, low, high, 0 if published else len(own), answer
    )


def _named(claim: Claim) -> tuple[str, ...]:
    return (claim.arm, *claim.controls)


def _measured(claim: Claim, seeds: Sequence[Arms]) -> dict[str, FloatArray]:
    if len(seeds) < 2:
        raise ValueError(f"a verdict needs two seeds or more (and means something from five on); got {len(seeds)}")
    try:
        found = {name: np.array([float(one[claim.condition][name]) for one in seeds]) for name in _named(claim)}
    except KeyError as missing:
        raise ValueError(
            f"{claim.says!r} needs {claim.condition!r} with {', '.join(_named(claim))}; {missing} was not measured"
        ) from None
    return _finite(claim, found)


def _published(claim: Claim, facts: Facts) -> dict[str, FloatArray]:
    given = facts[claim.condition]
    missing = [name for name in _named(claim) if name not in given]
    if missing:
        raise ValueError(f"{claim.says!r}: no published value of {', '.join(missing)} under {claim.condition!r}")
    return _finite(claim, {name: np.array(given[name], dtype=np.float64) for name in _named(claim)})


def _finite(claim: Claim, values: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    bad = [name for name, found in values.items() if not len(found) or not np.isfinite(found).all()]
    if bad:
        raise ValueError(f"{claim.says!r}: {', '.join(bad)} has a value that is not finite")
    return dict(values)


def _paired(differences: FloatArray) -> float:
    n = len(differences)
    return float(stdtrit(n - 1, (1 + LEVEL) / 2) * differences.std(ddof=1) / np.sqrt(n))


def _welch(own: FloatArray, other: FloatArray) -> float:
    """Half the interval of a difference of two means; a single value is taken as exact."""
    parts = [(one.var(ddof=1) / len(one), len(one) - 1) for one in (own, other) if len(one) > 1]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return 0.0
    freedom = variance**2 / sum(part**2 / df for part, df in parts)
    return float(stdtrit(freedom, (1 + LEVEL) / 2) * np.sqrt(variance))


def _answer(judged: Sequence[Judged]) -> str:
    if any(one.claim.check and one.answer != "holds" for one in judged):
        return "inconclusive"
    answers = [one.answer for one in judged if not one.claim.check]
    if set(answers) in ({"holds"}, {"fails"}):
        return answers[0]
    holding = dict.fromkeys(one.claim.condition for one in judged if not one.claim.check and one.answer == "holds")
    broken = {one.claim.condition for one in judged if not one.claim.check and one.answer != "holds"}
    whole = [name for name in holding if name not in broken]
    if whole:
        return f"holds under {', '.join(whole)}"
    return "holds in part" if holding else "inconclusive"
