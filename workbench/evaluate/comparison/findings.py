"""What a comparison ends in: is the gain real, what could have been seen at all, and what choosing has added."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from workbench.evaluate.outcome import ORDER
from workbench.evaluate.scores import higher_is_better
from workbench.types import Finding

TESTED = "no difference; paired randomisation test at 5 %, Holm over all comparisons of this report"


def findings(results: Mapping[str, Any]) -> list[Finding]:
    """All findings of a comparison, worst first."""
    heads = {one.metric for one in results["selection"]} | _first_metrics(results)
    twins = _repetitions_of_the_baseline(results)
    judged = [_gain(one) for one in results["gains"] if one.metric in heads and one.system not in twins]
    judged += _detectable(results, heads)
    judged += [_selected(one) for one in results["selection"]]
    judged += [_lucky(one) for one in results["seeds"] if one.metric in heads]
    judged += [_seeded(one) for one in results["seed gains"] if one.metric in heads]
    judged += [_chosen(one) for one in results.get("courses", ()) if one.chosen >= 0]
    judged += [one.finding() for one in results["policy"]]
    return sorted(judged, key=lambda one: ORDER[one.verdict])


def _repetitions_of_the_baseline(results: Mapping[str, Any]) -> set[str]:
    """Other seeds of the baseline: no gain is claimed for them, and their spread has a finding of its own."""
    return {label for one in results["seeds"] if results["baseline"] in one.systems for label in one.systems}


def _first_metrics(results: Mapping[str, Any]) -> set[str]:
    first: dict[str, str] = {}
    for one in results["scores"]:
        first.setdefault(one.metric.partition("/")[0], one.metric)
    return set(first.values())


def _unit(metric: str) -> Any:
    return "points" if higher_is_better(metric.partition("/")[2]) else ""


def _amount(metric: str, value: float, *, signed: bool = False) -> str:
    """A difference in words."""
    sign = "+" if signed else ""
    if not math.isfinite(value):
        return "unknown"
    return f"{100 * value:{sign}.2f} points" if _unit(metric) else f"{value:{sign}.2f} places"


def _gain(one: Any) -> Finding:
    name = f"{one.system}: {one.metric}"
    counts = f"{one.wins:,} queries better, {one.ties:,} alike, {one.losses:,} worse"
    evidence = f"against {one.baseline}: {counts}; {_p(one.p_holm)} after Holm"
    words = {
        "gain": f"The gain is real on these queries ({evidence}). For other data or other seeds it takes other runs.",
        "loss": f"A loss ({evidence}).",
        "identical": f"No difference at all: every query is scored alike ({evidence}).",
        "not shown": (
            f"Not shown ({evidence}): these data cannot tell the two apart. A true difference below "
            f"{_amount(one.metric, one.minimum_detectable)} would often go unnoticed here."
        ),
    }[one.verdict]
    interval = (one.low, one.high) if math.isfinite(one.low) else None
    if not one.n:
        return Finding(name, None, None, None, TESTED, "not measurable", "No query has a right item in these runs.")
    verdict: Any = {"gain": "ok", "loss": "problem", "identical": "ok", "not shown": "look"}[one.verdict]
    return Finding(name, one.difference, interval, 0.0, TESTED, verdict, words, _unit(one.metric))


def _detectable(results: Mapping[str, Any], heads: set[str]) -> list[Finding]:
    """Per direction the largest of the smallest detectable differences, held against the differences seen."""
    found = []
    for metric in dict.fromkeys(one.metric for one in results["gains"] if one.metric in heads):
        known = [one for one in results["gains"] if one.metric == metric and math.isfinite(one.minimum_detectable)]
        name, source = f"{metric}/detectable difference", "the largest difference seen"
        if not known:
            advice = "No query differs between any two runs, so nothing says how much a difference would vary."
            found.append(Finding(name, None, None, None, source, "not measurable", advice))
            continue
        widest = max(known, key=lambda one: one.minimum_detectable)
        seen = max(abs(one.difference) for one in known)
        small = widest.minimum_detectable <= seen
        advice = (
            f"A true difference of {_amount(metric, widest.minimum_detectable)} or more would be found four times in "
            f"five with these {widest.n:,} queries in {widest.n_clusters:,} clusters (5 %, before the correction). "
        ) + ("" if small else "What was seen is smaller: use more queries before claiming or denying a difference.")
        found.append(
            Finding(name, widest.minimum_detectable, None, seen, source, "ok" if small else "look", advice.strip(),
                    _unit(metric))
        )  # fmt: skip
    return found


def _selected(one: Any) -> Finding:
    name, source = f"{one.metric}/test-selected", "the gain of the best run over the baseline"
    if not math.isfinite(one.optimism):
        advice = "Too few clusters to halve: how much choosing on the test adds is unknown."
        return Finding(name, None, None, None, source, "not measurable", advice)
    advice = (
        f"Were {one.winner} picked as the best of {one.n_candidates} runs by these very queries, its value would be "
        f"about {_amount(one.metric, one.optimism)} too high; its gain over the baseline is "
        f"{_amount(one.metric, one.gain, signed=True)}. Choose on validation data and the test has nothing to add."
    )
    small = one.optimism <= max(one.gain, 0.0) / 2 or one.optimism <= 0
    return Finding(name, one.optimism, None, one.gain, source, "ok" if small else "look", advice, _unit(one.metric))


def _lucky(one: Any) -> Finding:
    n, summary = len(one.values), one.summary
    advice = (
        f"{n} seeds of {one.name}: mean {100 * summary.value:.2f} %, sd {100 * one.sd:.2f} points. Reporting the best "
        f"instead of the mean adds {_amount(one.metric, one.optimism)}; the best of {n} new seeds would reach "
        f"{100 * one.typical_best:.2f} % half of the time. Report the mean with its interval and the number of seeds."
    )
    half = (summary.high - summary.low) / 2
    verdict: Any = "look" if one.optimism > half or n < 3 else "ok"
    interval = None if not math.isfinite(summary.low) else (one.best - summary.high, one.best - summary.low)
    return Finding(
        f"{one.name}: {one.metric}/best of {n} seeds", one.optimism, interval, half,
        "half the width of the interval of the mean over seeds and queries", verdict, advice, "points",
    )  # fmt: skip


def _seeded(one: Any) -> Finding:
    shown = math.isfinite(one.p_value) and one.p_value <= 0.05
    seeds = (
        f"Welch's t over seeds alone = {one.welch_t:.2f} ({_p(one.welch_p)})"
        if math.isfinite(one.welch_t) else "seeds alone do not differ"
    )  # fmt: skip
    said = "Not shown" if not shown else "The gain is real" if one.difference > 0 else "A loss"
    advice = (
        f"{said} over seeds and queries together ({_p(one.p_value)}); {seeds}. Differences of single runs, above, "
        "say nothing about other seeds."
    )
    verdict: Any = "look" if not shown else "ok" if one.difference > 0 else "problem"
    interval = (one.low, one.high) if math.isfinite(one.low) else None
    source = "no difference; seeds and queries both vary, Student's t at 5 %"
    return Finding(
        f"{one.second} over {one.first}: {one.metric}/seeds", one.difference, interval, 0.0, source, verdict, advice,
        "points",
    )  # fmt: skip


def _chosen(one: Any) -> Finding:
    same = one.chosen == one.best
    advice = (
        f"Validation and test choose the same point, {one.labels[one.best]}."
        if same else
        f"Validation chooses {one.labels[one.chosen]}, the test would choose {one.labels[one.best]} and look "
        f"{_amount(one.metric, one.optimism)} better. Report {one.labels[one.chosen]}."
    )  # fmt: skip
    return Finding(
        f"{one.metric}/chosen over {one.field}", one.optimism, None, 0.0, "the point that validation chose",
        "ok" if same else "look", advice, "points",
    )  # fmt: skip


def _p(value: float) -> str:
    return "p unknown" if not math.isfinite(value) else f"p = {value:.3f}" if value >= 0.001 else "p < 0.001"
