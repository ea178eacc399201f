"""The same ranking under several sets of labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import html, plots
from workbench.report.audit import AuditReport, _p, note

if TYPE_CHECKING:
    from workbench.html import Display

NOT_ASKED = (
    'No other labels were brought. labels=["FILE"] scores the same ranking under each file of judgements: TREC qrels, '
    "a table of query, item, grade, or {id: [ids]} in JSON, such as those of ECCV Caption and CxC for COCO."
)


class LabelSetsSection(AuditReport):
    """This part of the report; nothing is computed here."""

    def under_labels(self) -> Display:
        """Everything about other labels, or one sentence where none were brought."""
        if self.results.get("label sets") is None:
            return note(NOT_ASKED)
        parts = [(self.label_sets(direction), self.label_sets_plot(direction)) for direction in self.directions]
        return html.together([self.label_agreement(), *(part for pair in parts for part in pair)])

    def label_sets(self, direction: str) -> Display:
        """Every metric under every set of labels."""
        missing = self._why_no_label_sets(direction)
        if missing:
            return note(missing)
        found = self.results["label sets"].of(direction)
        rows = {
            "metric": [one.metric for one in found],
            "labels": [one.labels for one in found],
            "on its own queries (%)": [_value(one.value, one.low, one.high) for one in found],
            "n": [one.n for one in found],
            "on those of all sets (%)": [_value(one.common, one.common_low, one.common_high) for one in found],
            "of all": [one.n_common for one in found],
            f"against {found[0].labels} (points)": [_gap(one) for one in found],
            "p (Holm)": [_p(one.p_holm) for one in found],
        }
        caption = f"{direction}: the same ranking under each set of labels; intervals: {self.intervals}, paired"
        return html.table(rows, caption=caption)

    def label_sets_plot(self, direction: str) -> Display:
        """The metrics on the queries that every set judges."""
        missing = self._why_no_label_sets(direction)
        found = () if missing else self.results["label sets"].of(direction)
        drawn = [one for one in found if np.isfinite(one.common)]
        if not drawn:
            return note(missing or f"{direction}: nothing to draw, no query has a right item in every set.")
        from workbench.plots.label_sets import height, label_scores

        fig, ax = plots.figure("wide")
        fig.set_figheight(height(drawn))
        label_scores(drawn, ax)
        first = drawn[0].metric
        columns = ("metric", "labels", "common", "common_low", "common_high", "n_common")
        return html.figure(
            fig,
            alt=f"{direction}/{first}: "
            + "; ".join(f"{one.common:.1%} under {one.labels}" for one in drawn if one.metric == first),
            caption=plots.caption(
                "Grey: the first set. Bars that overlap do not say that two sets agree: see the paired differences.",
                n=drawn[0].n_common, interval=self.intervals,
            ),
            table={name: [getattr(one, name) for one in drawn] for name in columns},
        )  # fmt: skip

    def label_agreement(self) -> Display:
        """How much each set judges, and how far two sets agree."""
        found = self.results.get("label sets")
        if found is None:
            return note(NOT_ASKED)
        counts = {
            "direction": [one.direction for one in found.counts],
            "labels": [one.labels for one in found.counts],
            "queries scored": [one.n_scored for one in found.counts],
            "left out": [one.n_queries - one.n_scored for one in found.counts],
            "right pairs": [one.n_positives for one in found.counts],
            "right per query": [
                f"{one.mean:.2f} (median {one.median:g}, most {one.most:,})" for one in found.counts
            ],
            "judged not right": [one.n_denied for one in found.counts],
        }  # fmt: skip
        parts = [html.table(counts, caption="What each set of labels judges; a query with nothing right is left out")]
        if found.overlaps:
            parts.append(
                html.table(_overlaps(found.overlaps), caption="Right pairs of the queries that both sets score")
            )
        return html.together([*parts, *map(note, found.notes)])

    def _why_no_label_sets(self, direction: str) -> str:
        """Why there is nothing to show of a direction, "" where there is."""
        if direction not in self.directions:
            return "These data are asked in one direction only."
        found = self.results.get("label sets")
        if found is None:
            return NOT_ASKED
        if len({one.labels for one in found.of(direction)}) < 2:
            return f"{direction}: fewer than two sets know a right item; bring a file that judges it."
        return ""


def _overlaps(found: Any) -> dict[str, list[Any]]:
    return {
        "direction": [one.direction for one in found],
        "first": [one.first for one in found],
        "second": [one.second for one in found],
        "queries": [one.n_queries for one in found],
        "in both": [one.n_both for one in found],
        "Jaccard": [one.jaccard for one in found],
        "first only": [one.n_first - one.n_both for one in found],
        "… judged not right by second": [one.n_denied for one in found],
        "second only": [one.n_second - one.n_both for one in found],
        "… judged not right by first": [one.n_denied_by_first for one in found],
    }


def _value(value: float, low: float, high: float) -> str:
    return "—" if not np.isfinite(value) else f"{100 * value:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _gap(one: Any) -> str:
    if not np.isfinite(one.difference):
        return "—"
    low, high = 100 * one.difference_low, 100 * one.difference_high
    return f"{100 * one.difference:+.1f} ({low:+.1f} to {high:+.1f})"
