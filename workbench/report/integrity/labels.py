"""Missing positives: candidates, sharp bounds of every metric, and an estimate from a judged sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import html, plots
from workbench.metrics import METRICS, parse_metric
from workbench.plots import curves
from workbench.plots import label_bounds as drawn_bounds
from workbench.plots import positives as drawn
from workbench.report.audit import AuditReport, note

if TYPE_CHECKING:
    from workbench.html import Display

LONGEST = 20


class LabelsSection(AuditReport):
    """This part of the report; nothing is computed here."""

    def missing(self, direction: str) -> Display:
        """The unlabelled pairs that look most like missing positives, in the eyes of each judge."""
        found = self.results.get(f"missing {direction}")
        if found is None:
            return note(self._no_labels(direction))
        rows: dict[str, list[Any]] = {
            "query": list(found.query_ids[:LONGEST]),
            "unlabelled item": list(found.item_ids[:LONGEST]),
            "evidence": [f"{100 * value:.0f}" for value in found.combined[:LONGEST]],
        }
        for number, judge in enumerate(found.judges):
            rows[judge] = [
                "—" if np.isnan(value) else f"{100 * value:.0f}" for value in found.evidence[:LONGEST, number]
            ]
        rows["place"] = [f"{place}" if place else "beyond" for place in found.rank[:LONGEST]]
        rows["best labelled"] = ["—" if np.isnan(place) else f"{place:g}" for place in found.positive_rank[:LONGEST]]
        where = curves.WORDS.get(direction, direction)
        caption = (
            f"{where}: the first {len(rows['query']):,} of {found.n_pool:,} unlabelled pairs that were looked at. "
            "Evidence: per cent of the labelled pairs that look no more right, mean of the judges"
        )
        return html.table(rows, caption=caption)

    def missing_plot(self, direction: str) -> Display:
        """How fast the evidence falls along the list."""
        found = self.results.get(f"missing {direction}")
        if found is None or not len(found):
            return note(self._no_labels(direction) if found is None else "Every pair that was looked at has a label.")
        fig, ax = plots.figure("wide")
        drawn.candidate_evidence(found, ax)
        return html.figure(
            fig,
            alt=f"Evidence falls from {100 * found.combined[0]:.0f} to {100 * found.combined[-1]:.0f} per cent over "
            f"{len(found):,} pairs; the judges agree on {int(found.agreed.sum()):,} of them",
            caption=plots.caption(
                "Line: the mean of the judges, each a grey dot; green: no independent judge prefers a labelled item.",
                data=curves.WORDS.get(direction, direction), n=found.n_pool,
            ),
            table={"place": list(range(1, len(found) + 1)), "evidence": found.combined.tolist(),
                   **{name: found.evidence[:, number].tolist() for number, name in enumerate(found.judges)},
                   "agreed": found.agreed.tolist()},
        )  # fmt: skip

    def bounds(self, direction: str) -> Display:
        """How far the metrics can lie from what the labels say: sharp, whatever the unlabelled pairs are."""
        found = self.results.get(f"bounds {direction}")
        refused = [
            note(f"{metric} has no bounds: {why}.") for metric, why in self.results.get(f"no bounds {direction}", ())
        ]
        if found is None:
            return html.together(refused) if refused else note(self._no_labels(direction))
        where = curves.WORDS.get(direction, direction)
        fig, ax = plots.figure("wide")
        drawn_bounds.label_bounds(found, ax)
        figure = html.figure(
            fig,
            alt="; ".join(
                f"{one.metric} as labelled {_value(one.labelled, one)}, between {_value(one.lowest, one)} and "
                f"{_value(one.highest, one)}" for one in found.bounds
            ),
            caption=plots.caption(
                f"No labelling of the unjudged pairs ({found.limit} missing) takes a metric outside its bar.",
                data=where, n=found.n_queries, interval=self.intervals,
            ),
            table=found.table(),
        )  # fmt: skip
        rows = {
            "metric": [one.metric for one in found.bounds],
            "as labelled": [_value(one.labelled, one) for one in found.bounds],
            "lowest": [_value(one.lowest, one) for one in found.bounds],
            "highest": [_value(one.highest, one) for one in found.bounds],
            "labels leave open": [_value(one.width, one) for one in found.bounds],
            "sampling leaves open": [_value(one.sampling_width, one) for one in found.bounds],
        }
        title = f"{where}: per cent, ranks as ranks; {found.limit} of right answers not labelled"
        return html.together([figure, html.table(rows, caption=title), *self._limits(direction, found), *refused])

    def _limits(self, direction: str, found: Any) -> list[Display]:
        """The first metric if only so many answers are missing in all."""
        first, rows = found.bounds[0], self.results.get(f"limits {direction}", ())
        table = {
            "labels missing, of those there are": [f"{100 * share:g} %" for share, *_ in rows],
            "pairs": [f"{most:,}" for _, most, _, _ in rows],
            "lowest": [_value(low, first) for *_, low, _ in rows],
            "highest": [_value(high, first) for *_, high in rows],
        }
        caption = f"{first.metric} if no more right answers than that lack their label, wherever they are"
        return [html.table(table, caption=caption)] if rows else []

    def judged(self, direction: str) -> Display:
        """The metrics under complete labels, estimated from what a person judged; without that, how much to judge."""
        if f"missing {direction}" not in self.results:
            return note(self._no_labels(direction))
        start = f"judged {direction} "
        found = [one for name, one in self.results.items() if name.startswith(start)]
        if not found:
            return note(self._to_judge(direction))
        rows = {
            "metric": [one.metric for one in found],
            "as labelled": [_percent(one.as_labelled) for one in found],
            "with complete labels": [_percent(one.value) for one in found],
            "95 % interval": [f"{_percent(one.mean.low)} to {_percent(one.mean.high)}" for one in found],
            "queries judged": [f"{one.mean.n_seen:,} of {one.mean.n_open:,} open" for one in found],
            "pairs, right": [f"{one.n_pairs:,}, {one.n_right:,}" for one in found],
            "for ± 2 points": [f"{one.plan().queries:,} queries" for one in found],
        }
        where = curves.WORDS.get(direction, direction)
        said = [
            f"{found[0].judge}: {found[0].design}.",
            *dict.fromkeys(words for one in found for words in one.warnings),
        ]
        said += [
            f"{metric} is not estimated: {why}." for metric, why in self.results.get(f"not judged {direction}", ())
        ]
        caption = f"{where}: estimated from what was judged, per cent; the interval is about which queries were judged"
        return html.together([html.table(rows, caption=caption), *map(note, said)])

    def _to_judge(self, direction: str) -> str:
        plan = self.results.get(f"plan {direction}")
        if plan is None:
            return "No metric here can be told by judging the first places: ask for hit@k, P@k or RR@k."
        metric, n_open, queries, pairs = plan
        return (
            f"Nobody has judged these lists (judged=FILE). {n_open:,} queries could be moved in {metric} by a missing "
            f"label; judging {queries:,} of them, drawn at random, about {pairs:,} pairs, gives it within ± 2 points "
            "at worst. Less does for less."
        )

    def _no_labels(self, direction: str) -> str:
        if direction not in self.directions:
            return "These data are asked in one direction only."
        return "Not measurable: nothing is known to be right, so there is nothing to hold a candidate against."


def _value(value: float, bound: Any) -> str:
    if METRICS[parse_metric(bound.metric).name].lower_is_better:
        return f"{value:,.1f}"
    return _percent(value)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
