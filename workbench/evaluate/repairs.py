"""Repairs of one direction, held against doing nothing: same queries, paired, with a bank that has not seen them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.diagnostics.hubness import hubness
from workbench.evaluate.banks import Part, Scored, parts_of, score_parts, tuned
from workbench.evaluate.prepare import Direction, Prepared
from workbench.normalize import METHODS, Repair, Tuned
from workbench.statistics import holm, paired_difference
from workbench.types import Finding

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RepairOutcome:
    """One repair in one direction. difference : after minus before on the same queries, with interval and p-value.

    minimum_detectable : the smallest true difference these queries would show four times in five. wins, losses :
    queries that got better and worse. skewness : of the k-occurrence, before and after. p_holm : corrected for all the
    comparisons of the report.
    """

    repair: str
    setting: str
    direction: str
    metric: str
    provenance: str
    n_bank: int
    before: float
    after: float
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float
    wins: int
    losses: int
    n: int
    minimum_detectable: float
    skewness_before: float
    skewness_after: float
    hub_share_before: float
    hub_share_after: float
    note: str

    @property
    def label(self) -> str:
        return f"{self.direction} {self.repair}"


@dataclass(frozen=True)
class Repairs:
    """All outcomes of a report. skipped : sentences on repairs that could not be estimated."""

    outcomes: tuple[RepairOutcome, ...]
    skipped: tuple[str, ...] = ()

    def corrected(self) -> Repairs:
        """The same outcomes with Holm's correction over all of them."""
        if not self.outcomes:
            return self
        adjusted = holm([one.p_value for one in self.outcomes])
        pairs = zip(self.outcomes, adjusted, strict=True)
        return replace(self, outcomes=tuple(replace(one, p_holm=float(p)) for one, p in pairs))

    def table(self) -> pd.DataFrame:
        import pandas as pd

        rows = [
            (
                one.label, f"{100 * one.before:.1f} → {100 * one.after:.1f}",
                f"{100 * one.difference:+.2f} ({100 * one.low:+.2f} to {100 * one.high:+.2f})",
                _p(one.p_holm), f"{one.wins:,} / {one.losses:,}",
                f"{one.skewness_before:.2f} → {one.skewness_after:.2f}",
                f"{one.setting}; {one.provenance}, {one.n_bank:,} queries",
            )
            for one in self.outcomes
        ]  # fmt: skip
        metric = self.outcomes[0].metric if self.outcomes else "metric"
        columns = [
            "repair", f"{metric} (%)", "difference (points)", "p (Holm)", "better / worse", "skewness",
            "setting and bank",
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=columns)

    def caption(self) -> str:
        """What the table shows, with the smallest difference it could have shown."""
        if not self.outcomes:
            return "No repair was estimated. " + " ".join(self.skipped)
        smallest = max(one.minimum_detectable for one in self.outcomes)
        halves = any("halves" in one.provenance for one in self.outcomes)
        size = "Both values are those of a gallery of half the size, so they lie above the headline. " if halves else ""
        return (
            f"Paired on the same queries; 95 % cluster bootstrap; a true difference of {100 * smallest:.1f} points or "
            "more would be found four times in five. " + size + " ".join(self.skipped)
        )

    def plot(self, ax: Any = None) -> Any:
        from workbench.plots.curves import paired_differences

        values = [[100 * getattr(one, name) for one in self.outcomes] for name in ("difference", "low", "high")]
        unit = f"difference in {self.outcomes[0].metric} (points)"
        return paired_differences([one.label for one in self.outcomes], *values, ax=ax, unit=unit)

    def flat(self) -> dict[str, float]:
        return {f"{one.direction}/{one.metric} gain({one.repair})": one.difference for one in self.outcomes}

    def findings(self) -> list[Finding]:
        """One per direction: the best repair by the first metric, or do nothing."""
        judged = [one for one in self.outcomes if one.metric == self.outcomes[0].metric]
        directions = dict.fromkeys(one.direction for one in judged)
        return [_verdict(name, [one for one in judged if one.direction == name]) for name in directions]

    def _repr_html_(self) -> str:
        return str(self.table().to_html(index=False))


@dataclass(frozen=True)
class Tuning:
    """How one parameter of a repair was chosen. values, validation, test : what was tried, the mean metric of the
    validation queries (of all parts) and of the scored ones. chosen : one value per part. optimism : what choosing the
    best value on the scored queries would have added to the reported number."""

    repair: str
    direction: str
    metric: str
    parameter: str
    values: tuple[float, ...]
    validation: tuple[float, ...]
    test: tuple[float, ...]
    chosen: tuple[float, ...]
    reported: float
    optimism: float


def repair_direction(
    direction: Direction, metric: str, parameters: Mapping[str, Any], *, bank: Prepared | None
) -> tuple[list[RepairOutcome], list[str]]:
    """Every repair asked for in one direction, and a sentence for each that cannot be estimated.

    bank : another split, or None for halves; see :func:`workbench.evaluate.banks.parts_of`.
    """
    names = parameters["repairs"]
    outcomes, notes, _ = compare_repairs(direction, [metric], names, parameters, bank=bank)
    return outcomes, notes


def compare_repairs(
    direction: Direction, metrics: Sequence[str], names: Sequence[str], parameters: Mapping[str, Any], *,
    bank: Prepared | None, tuning: bool = False,
) -> tuple[list[RepairOutcome], list[str], list[Tuning]]:  # fmt: skip
    """Repairs of one direction held against doing nothing, in every metric; see :class:`RepairOutcome`.

    tuning : choose the parameter that has a grid on the validation data of each part, by the first metric, and score
    all values of the grid to say what choosing among them on the test would have pretended.
    """
    try:
        parts = parts_of(direction, bank, parameters)
    except ValueError as error:
        return [], [f"{direction.name}: no repair could be estimated: {error}."], []
    notes, choices = _shared(direction, parts), {}
    for name in names:
        if tuning and METHODS[name].grid:
            try:
                choices[name] = tuned(parts, name, parameters, metrics[0])
            except ValueError as error:
                notes.append(f"{direction.name}: {name} keeps its defaults: {error}.")
    raw, after, failed = score_parts(direction, parts, _estimators(names, parts, choices), metrics, parameters)
    notes += [f"{direction.name}: {name} could not be estimated: {why}." for name, why in failed.items()]
    before, outcomes = _uneven(direction, raw), []
    for name, found in after.items():
        now = _uneven(direction, found)
        outcomes += [_outcome(direction, name, (raw, found), (before, now), m, parts, parameters) for m in metrics]
    tunings = [
        _tuning(direction, name, chosen, after[name], parts, metrics[0], parameters)
        for name, chosen in choices.items() if name in after
    ]  # fmt: skip
    return outcomes, notes, tunings


def _estimators(
    names: Sequence[str], parts: Sequence[Part], choices: Mapping[str, Sequence[Tuned]]
) -> dict[str, list[Repair]]:
    chosen = {name: [{one.parameter: one.chosen} for one in found] for name, found in choices.items()}
    return {name: [Repair(name, **each) for each in chosen.get(name, [{}] * len(parts))] for name in names}


def _shared(direction: Direction, parts: Sequence[Part]) -> list[str]:
    shared = sum(part.n_shared for part in parts)
    if not shared:
        return []
    return [f"{direction.name}: {shared:,} bank queries that are also scored were left out of the bank."]


def _tuning(
    direction: Direction, name: str, chosen: Sequence[Tuned], after: Scored, parts: Sequence[Part], metric: str,
    parameters: Mapping[str, Any],
) -> Tuning:  # fmt: skip
    parameter, values = chosen[0].parameter, [value for value in chosen[0].values if value in chosen[-1].values]
    wanted = {str(value): [Repair(name, **{parameter: value}) for _ in parts] for value in values}
    _, found, _ = score_parts(direction, parts, wanted, [metric], parameters)
    test = [float(np.nanmean(found[str(value)].values[metric])) for value in values]
    validation = [float(np.mean([one.scores[one.values.index(value)] for one in chosen])) for value in values]
    reported = float(np.nanmean(after.values[metric]))
    return Tuning(
        name, direction.name, metric, parameter, tuple(values), tuple(validation), tuple(test),
        tuple(one.chosen for one in chosen), reported, max(test) - reported,
    )  # fmt: skip


def _uneven(direction: Direction, scored: Scored) -> tuple[float, float]:
    """Skewness of the k-occurrence, and the share of places held by hubs."""
    found = hubness(scored.lists, direction=direction.name, n_null=20)
    return found.measure("skewness").value, found.measure("hub_share").value


def _outcome(
    direction: Direction, name: str, scored: tuple[Scored, Scored], uneven: tuple[tuple[float, float], ...],
    metric: str, parts: Sequence[Part], parameters: Mapping[str, Any],
) -> RepairOutcome:  # fmt: skip
    (raw, after), (before, now), bank = scored, uneven, parts[0].bank
    paired = paired_difference(
        raw.values[metric], after.values[metric], direction.clusters, n_resamples=parameters["n_resamples"],
        seed=parameters["seed"],
    )  # fmt: skip
    return RepairOutcome(
        repair=name, setting=_setting(after), direction=direction.name, metric=metric,
        provenance="cross-fit, in halves" if len(parts) > 1 else f"{bank.provenance} ({bank.name})",
        n_bank=min(len(part.bank) for part in parts), before=float(np.nanmean(raw.values[metric])),
        after=float(np.nanmean(after.values[metric])), difference=paired.value, low=paired.low, high=paired.high,
        p_value=paired.p_value, p_holm=paired.p_value, wins=paired.wins, losses=paired.losses, n=paired.n,
        minimum_detectable=paired.minimum_detectable, skewness_before=before[0],
        skewness_after=now[0], hub_share_before=before[1], hub_share_after=now[1], note="; ".join(after.notes),
    )  # fmt: skip


def _setting(after: Scored) -> str:
    """Every parameter with its value, or its values where the parts chose different ones."""
    names = after.settings[0]
    shown = {name: dict.fromkeys(f"{each[name]:g}" for each in after.settings) for name in names}
    return ", ".join(f"{name} = {' / '.join(values)}" for name, values in shown.items()) or "nothing to set"


def _verdict(direction: str, outcomes: Sequence[RepairOutcome]) -> Finding:
    best = max(outcomes, key=lambda one: one.difference)
    name, source = f"{direction}/repair", "no difference; paired randomisation test at 5 %, Holm over all repairs"
    interval = (best.low, best.high)
    if best.p_holm <= 0.05 and best.difference > 0:
        advice = (
            f"{best.repair} ({best.provenance}) changes {best.metric} by {100 * best.difference:+.1f} points: "
            f"{best.wins:,} queries better, {best.losses:,} worse. Hubness costs this system; if you deploy the "
            "repair, report both numbers and where the bank comes from."
        )
        return Finding(name, best.difference, interval, 0.0, source, "look", advice, "points")
    harmful = [one.repair for one in outcomes if one.p_holm <= 0.05 and one.difference < 0]
    advice = f"Do nothing: no repair has been shown to raise {best.metric}."
    if harmful:
        advice += f" Shown to lower it: {', '.join(harmful)}."
    if np.isfinite(best.minimum_detectable):
        advice += f" Differences below {100 * best.minimum_detectable:.1f} points would often go unnoticed here."
    return Finding(name, best.difference, interval, 0.0, source, "ok", advice, "points")


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"
