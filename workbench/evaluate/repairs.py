"""Repairs of one direction, held against doing nothing: same queries, paired, with a bank that has not seen them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.diagnostics.hubness import hubness
from workbench.evaluate.prepare import Direction, Prepared
from workbench.metrics import per_query
from workbench.normalize import STATISTICS, BankStatistic, cross_fit_folds
from workbench.search import LogSumExp, RankPositives, TopK, TopKMean, scan
from workbench.statistics import holm, paired_difference
from workbench.types import Finding, Neighbours

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
        """One per direction: the best repair, or do nothing."""
        directions = dict.fromkeys(one.direction for one in self.outcomes)
        return [_verdict(name, [one for one in self.outcomes if one.direction == name]) for name in directions]

    def _repr_html_(self) -> str:
        return str(self.table().to_html(index=False))


@dataclass(frozen=True, eq=False)
class _Part:
    """Some queries and items (indices) to be scored together, with the bank queries (n_bank, dim) that repair them."""

    queries: np.ndarray
    items: np.ndarray
    bank: np.ndarray


@dataclass(frozen=True, eq=False)
class _Scored:
    """The metric of every query, and all lists, of one method (or none) over all parts."""

    values: np.ndarray
    lists: Neighbours


def repair_direction(
    direction: Direction, metric: str, parameters: Mapping[str, Any], *, bank: Prepared | None
) -> tuple[list[RepairOutcome], list[str]]:
    """Every repair asked for in one direction, and a sentence for each that cannot be estimated.

    With a bank from another split the whole gallery is scored. Without one, in *halves*: images are split in two, the
    queries of a half are scored against the items of that half, and the other half's queries are the bank. Scoring
    the whole gallery with such a bank would give the answer away: see :func:`workbench.normalize.cross_fit_folds`.
    """
    try:
        parts = _halves(direction, parameters["seed"]) if bank is None else [_whole(direction, bank)]
        raw = _score(direction, parts, None, metric, parameters)
    except ValueError as error:
        return [], [f"{direction.name}: no repair could be estimated: {error}."]
    outcomes, notes = [], []
    for name in parameters["repairs"]:
        statistic = STATISTICS[name]()
        try:
            after = _score(direction, parts, statistic, metric, parameters)
        except ValueError as error:
            notes.append(f"{direction.name}: {name} could not be estimated: {error}.")
            continue
        provenance = "cross-fit, in halves" if bank is None else f"inductive ({parameters['bank']})"
        n_bank = min(len(part.bank) for part in parts)
        outcomes.append(_outcome(direction, name, statistic, raw, after, metric, provenance, n_bank, parameters))
    return outcomes, notes


def _halves(direction: Direction, seed: int) -> list[_Part]:
    both = np.concatenate([direction.clusters, direction.gallery_clusters])
    folds = cross_fit_folds(both, seed)
    of_query, of_item = folds[: len(direction.clusters)], folds[len(direction.clusters) :]
    return [
        _Part(np.flatnonzero(of_query == f), np.flatnonzero(of_item == f), direction.queries.vectors[of_query != f])
        for f in (0, 1)
    ]


def _whole(direction: Direction, bank: Prepared) -> _Part:
    sides = {side.modality: side.vectors for side in (bank.images, bank.texts)}
    everything = np.arange(len(direction.queries)), np.arange(len(direction.gallery))
    return _Part(*everything, sides[direction.queries.modality])


def _score(
    direction: Direction, parts: Sequence[_Part], statistic: BankStatistic | None, metric: str,
    parameters: Mapping[str, Any],
) -> _Scored:  # fmt: skip
    """The metric and the lists under one repair, or raw without a statistic."""
    k = min(parameters["k"], *(len(part.items) for part in parts))
    values = np.full(len(direction.queries), np.nan)
    indices = np.zeros((len(direction.queries), k), np.int64)
    scores, tied = np.zeros(indices.shape), np.zeros(len(indices), bool)
    for part in parts:
        queries, gallery = direction.queries.vectors[part.queries], direction.gallery.vectors[part.items]
        bias = None if statistic is None else _bias(part.bank, gallery, statistic)
        ids = [direction.gallery.ids[item] for item in part.items]
        wanted = [
            TopK(k, bias=bias, ids=ids),
            RankPositives(direction.relevance.take(part.queries, part.items), bias=bias),
        ]
        lists, ranks = scan(queries, gallery, wanted, memory=parameters["memory_mb"] * 2**20)
        values[part.queries] = per_query(metric, ranks).expected
        indices[part.queries], scores[part.queries] = part.items[lists.indices], lists.scores
        tied[part.queries] = lists.kth_tied
    return _Scored(values, Neighbours(indices, scores, len(direction.gallery), True, tied))


def _bias(bank: np.ndarray, gallery: np.ndarray, statistic: BankStatistic) -> np.ndarray:
    """(n_gallery,) to subtract, from one pass of the bank over the gallery."""
    consumer: Any
    if statistic.kind == "log-sum-exp":
        consumer = LogSumExp(statistic.parameter, of="gallery")
    else:
        consumer = TopKMean(int(statistic.parameter), of="gallery")
    return statistic.bias(scan(bank, gallery, [consumer])[0])


def _outcome(
    direction: Direction, name: str, statistic: BankStatistic, raw: _Scored, after: _Scored, metric: str,
    provenance: str, n_bank: int, parameters: Mapping[str, Any],
) -> RepairOutcome:  # fmt: skip
    paired = paired_difference(
        raw.values, after.values, direction.clusters, n_resamples=parameters["n_resamples"], seed=parameters["seed"]
    )
    letter = "beta" if statistic.kind == "log-sum-exp" else "k"
    return RepairOutcome(
        repair=name, setting=f"{letter} = {statistic.parameter:g}", direction=direction.name, metric=metric,
        provenance=provenance, n_bank=n_bank, before=float(np.nanmean(raw.values)),
        after=float(np.nanmean(after.values)), difference=paired.value, low=paired.low, high=paired.high,
        p_value=paired.p_value, p_holm=paired.p_value, wins=paired.wins, losses=paired.losses, n=paired.n,
        minimum_detectable=paired.minimum_detectable, skewness_before=_skewness(raw.lists, direction.name),
        skewness_after=_skewness(after.lists, direction.name),
    )  # fmt: skip


def _skewness(lists: Neighbours, direction: str) -> float:
    return hubness(lists, direction=direction, n_null=100).measure("skewness").value


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
