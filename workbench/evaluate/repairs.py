"""Repairs of one direction, held against doing nothing: same queries, paired, with a bank that has not seen them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.diagnostics.hubness import hubness
from workbench.evaluate.prepare import Direction, Prepared
from workbench.metrics import parse_metric, per_query
from workbench.normalize import STATISTICS, BankStatistic, cross_fit_folds
from workbench.search import LogSumExp, RankPositives, TopK, TopKMean, scan
from workbench.statistics import holm, paired_difference
from workbench.types import Embeddings, Finding, Neighbours, Ranks, Relevance

if TYPE_CHECKING:
    import pandas as pd

    from workbench.evaluate.analysis import Ranked


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
        return (
            f"Paired on the same queries; 95 % cluster bootstrap; a true difference of {100 * smallest:.1f} points or "
            "more would be found four times in five. " + " ".join(self.skipped)
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


def repair_direction(
    ranked: Ranked, parameters: Mapping[str, Any], *, bank: Prepared | None
) -> tuple[list[RepairOutcome], list[str]]:
    """Every repair asked for in one direction, and a sentence for each that cannot be estimated."""
    direction, notes = ranked.direction, []
    metric = next((name for name in parameters["metrics"] if name in ranked.values and _is_share(name)), None)
    if not parameters["repairs"] or metric is None:
        return [], []
    folds = _folds(ranked, parameters["seed"]) if bank is None else None
    if bank is None and folds is None:
        return [], [f"{direction.name}: no repair, cross-fitting needs queries of at least two images."]
    statistics = {name: STATISTICS[name]() for name in parameters["repairs"]}
    biases: dict[str, np.ndarray] = {}
    for name, statistic in statistics.items():
        try:
            biases[name] = _biases(direction, statistic, folds, bank)
        except ValueError as error:
            notes.append(f"{direction.name}: {name} could not be estimated: {error}.")
    n_bank = len(_bank_queries(direction, bank)) if bank else int(np.bincount(folds, minlength=2).min())
    provenance = "cross-fit" if bank is None else f"inductive ({parameters['bank']})"
    after = _search(direction, list(biases.values()), folds, parameters) if biases else []
    outcomes = [
        _outcome(ranked, name, statistics[name], found, metric, provenance, n_bank, parameters)
        for name, found in zip(biases, after, strict=True)
    ]
    return outcomes, notes


def _is_share(name: str) -> bool:
    return parse_metric(name).name not in ("MedR", "MeanR")


def _folds(ranked: Ranked, seed: int) -> np.ndarray | None:
    clusters = ranked.direction.clusters
    return cross_fit_folds(clusters, seed) if len(np.unique(clusters)) >= 2 else None


def _biases(
    direction: Direction, statistic: BankStatistic, folds: np.ndarray | None, bank: Prepared | None
) -> np.ndarray:
    """(n_biases, n_gallery): one row from another split, or one row per fold from the queries of the other fold.

    In cross-fitting, pairs of an item with its own queries are left out, or the fold would give the answer away.
    """
    if bank is not None:
        return _bias(_bank_queries(direction, bank), direction.gallery.vectors, statistic, None)[None]
    assert folds is not None
    rows = []
    for fold in (0, 1):
        members = np.flatnonzero(folds != fold)
        own = _rows(direction.relevance, members).T
        rows.append(_bias(direction.queries.vectors[members], direction.gallery.vectors, statistic, own))
    return np.stack(rows)


def _bias(queries: np.ndarray, gallery: np.ndarray, statistic: BankStatistic, exclude: Relevance | None) -> np.ndarray:
    consumer: Any
    if statistic.kind == "log-sum-exp":
        consumer = LogSumExp(statistic.parameter, of="gallery", exclude=exclude)
    else:
        consumer = TopKMean(int(statistic.parameter), of="gallery", exclude=exclude)
    return statistic.bias(scan(queries, gallery, [consumer])[0])


def _bank_queries(direction: Direction, bank: Prepared) -> np.ndarray:
    sides: dict[str, Embeddings] = {side.modality: side for side in (bank.images, bank.texts)}
    return sides[direction.queries.modality].vectors


def _rows(relevance: Relevance, rows: np.ndarray) -> Relevance:
    place = np.full(relevance.n_queries, -1)
    place[rows] = np.arange(len(rows))
    inside = place[relevance.queries] >= 0
    return Relevance.from_pairs(
        place[relevance.queries[inside]], relevance.items[inside], relevance.grades[inside],
        n_queries=len(rows), n_gallery=relevance.n_gallery,
    )  # fmt: skip


def _search(
    direction: Direction, biases: Sequence[np.ndarray], folds: np.ndarray | None, parameters: Mapping[str, Any]
) -> list[tuple[Neighbours, Ranks]]:
    """Lists and ranks under every bias, from one scan."""
    row = np.zeros(len(direction.queries), np.int64) if folds is None else folds
    depth = min(parameters["k"], len(direction.gallery))
    consumers: list[Any] = []
    for bias in biases:
        consumers += [
            TopK(depth, bias=bias, bias_row=row, ids=direction.gallery.ids),
            RankPositives(direction.relevance, bias=bias, bias_row=row),
        ]
    memory = parameters["memory_mb"] * 2**20
    found = scan(direction.queries.vectors, direction.gallery.vectors, consumers, memory=memory)
    return list(zip(found[::2], found[1::2], strict=True))


def _outcome(
    ranked: Ranked, name: str, statistic: BankStatistic, after: tuple[Neighbours, Ranks], metric: str,
    provenance: str, n_bank: int, parameters: Mapping[str, Any],
) -> RepairOutcome:  # fmt: skip
    lists, ranks = after
    before, repaired = ranked.values[metric].expected, per_query(metric, ranks).expected
    paired = paired_difference(
        before, repaired, ranked.direction.clusters, n_resamples=parameters["n_resamples"], seed=parameters["seed"]
    )
    from workbench.evaluate.analysis import shortened

    skewness = [
        _skewness(shortened(found, min(parameters["k"], found.k)), ranked.direction.name)
        for found in (ranked.lists, lists)
    ]
    letter = "beta" if statistic.kind == "log-sum-exp" else "k"
    return RepairOutcome(
        repair=name, setting=f"{letter} = {statistic.parameter:g}", direction=ranked.direction.name, metric=metric,
        provenance=provenance, n_bank=n_bank, before=float(np.nanmean(before)), after=float(np.nanmean(repaired)),
        difference=paired.value, low=paired.low, high=paired.high, p_value=paired.p_value, p_holm=paired.p_value,
        wins=paired.wins, losses=paired.losses, n=paired.n, minimum_detectable=paired.minimum_detectable,
        skewness_before=skewness[0], skewness_after=skewness[1],
    )  # fmt: skip


def _skewness(lists: Neighbours, direction: str) -> float:
    return hubness(lists, direction=direction, n_null=100).measure("skewness").value


def _verdict(direction: str, outcomes: Sequence[RepairOutcome]) -> Finding:
    best = max(outcomes, key=lambda one: one.difference)
    name, source = f"{direction}/repair", "no difference; paired randomisation test at 5 %, Holm over all repairs"
    interval = (best.low, best.high)
    if best.p_holm <= 0.05 and best.difference > 0:
        advice = (
            f"{best.repair} ({best.provenance} bank) changes {best.metric} by {100 * best.difference:+.1f} points: "
            f"{best.wins:,} queries better, {best.losses:,} worse. Hubness costs this system; if you deploy the "
            "repair, report both numbers and where the bank comes from."
        )
        return Finding(name, best.difference, interval, 0.0, source, "look", advice)
    harmful = [one.repair for one in outcomes if one.p_holm <= 0.05 and one.difference < 0]
    advice = f"Do nothing: no repair has been shown to raise {best.metric}."
    if harmful:
        advice += f" Shown to lower it: {', '.join(harmful)}."
    advice += f" Differences below {100 * best.minimum_detectable:.1f} points would often go unnoticed here."
    return Finding(name, best.difference, interval, 0.0, source, "ok", advice)


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"
