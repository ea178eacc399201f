"""The shape of the space: gap, alignment, and what closing the gap does to the ranking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import html, plots
from workbench.diagnostics.closing import CLOSINGS
from workbench.plots import curves, space
from workbench.report.audit import AuditReport, note

if TYPE_CHECKING:
    from workbench.diagnostics.closing import Closed
    from workbench.diagnostics.mixed_gallery import MixedPlaces
    from workbench.html import Display


class SpaceSection(AuditReport):
    """This part of the report; nothing is computed here. The histograms and the map are those of the audit."""

    def space_measures(self) -> Display:
        """Gap, alignment, uniformity, effective rank and CKA in one table."""
        if "gap" not in self.results:
            return note(self._why("gap"))
        found = [self.results[name] for name in ("gap", "space")]
        rows = [row for one in found for row in one.table().reset_index().itertuples(index=False)]
        table = {
            "measure": [row.measure for row in rows],
            "value": [html.number(row.value) for row in rows],
            "95 % interval": [_between(row.low, row.high) for row in rows],
            "how to read it": [row.note for row in rows],
        }
        similar = self.results.get("cka")
        if similar is None:
            return html.together([html.table(table, caption=_MEASURED), note(f"CKA: {self._why('cka')}")])
        low, high = np.quantile(similar.null_plain, [0.025, 0.975])
        for name, value, words in (
            ("CKA, debiased", similar.debiased, f"shuffled rows: {_between(*similar.band)}; {similar.n:,} pairs"),
            ("CKA, plain", similar.plain, f"shuffled rows: {_between(low, high)}: bias, where items are few"),
        ):
            for column, cell in zip(table, (name, html.number(value), "", words), strict=True):
                table[column].append(cell)
        parts = [html.table(table, caption=_MEASURED)]
        if others := self.results.get("cka judges"):
            beside = {
                "of the same": [one.first for one in others],
                "encoder": [one.second for one in others],
                "CKA, debiased": [html.number(one.debiased) for one in others],
                "shuffled rows": [_between(*one.band) for one in others],
                "items": [f"{one.n:,}" for one in others],
            }
            parts.append(html.table(beside, caption="How alike other encoders lay out the same items; 1 is the same"))
        return html.together(parts)

    def gap_map(self) -> Display:
        """Both sides on the two main directions of their common space: the map of the audit."""
        return self.space()

    def closing(self, direction: str) -> Display:
        """Every metric before and after closing the gap."""
        found = self.results.get(f"closing {direction}")
        if found is None:
            return note(self._why(f"closing {direction}"))
        metrics = list(dict.fromkeys(one.metric for one in found.outcomes))
        at: dict[tuple[str, str], Closed] = {(one.way, one.metric): one for one in found.outcomes}
        ways = [one.way for one in found.first]
        rows: dict[str, list[str]] = {
            "gap": ["as it is", *ways],
            "centroids apart": [f"{found.first[0].gap_before:.2f}", *(f"{one.gap_after:.2f}" for one in found.first)],
        }
        for metric in metrics[:4]:
            raw = f"{100 * at[ways[0], metric].before:.1f}"
            rows[f"{metric} (%)"] = [raw, *(_changed(at[way, metric]) for way in ways)]
        caption = (
            f"{curves.WORDS.get(direction, direction)}, {found.first[0].n:,} queries, {found.provenance}, means of "
            f"{found.n_bank:,} other queries. Difference in points, paired 95 % interval; * p (Holm, all cells) at "
            "most 0.05"
        )
        words = {"way": ways, "what it does": [CLOSINGS[way].summary for way in ways]}
        shown = [html.table(rows, caption=caption)]
        if direction == self.directions[0]:
            shown.append(html.table(words, caption="Ways of closing a gap"))
        return html.together(shown)

    def closing_plot(self, direction: str) -> Display:
        """Differences in the first metric, with intervals."""
        found = self.results.get(f"closing {direction}")
        if found is None:
            return note(self._why(f"closing {direction}"))
        fig, ax = plots.figure("small")
        space.closing_differences(found, ax)
        return html.figure(
            fig,
            alt="; ".join(f"{one.way}: {100 * one.difference:+.1f} points" for one in found.first),
            caption=plots.caption(
                "Left of the line closing the gap costs, right of it it helps. Moving the items alone cancels by "
                "algebra: what every item shares changes no order. Whitening is in the table only.",
                n=found.first[0].n, interval=f"{self.intervals}, paired",
            ),
            table=found.table(),
        )  # fmt: skip

    def mixed_galleries(self) -> Display:
        """Who holds the first places when both modalities are searched together."""
        galleries = self.results.get("mixed galleries", {})
        lacking = [self._why(f"mixed gallery {name}") for name in self.directions if name not in galleries]
        if not galleries:
            return note(" ".join(dict.fromkeys(lacking)))
        fig, ax = plots.figure("wide")
        space.wrong_modality(list(galleries.values()), ax)
        drawn = html.figure(
            fig,
            alt="; ".join(
                f"{name}: {one.wrong:.1%} of the first {one.k} places{f' with {one.way}' if one.way else ''}"
                for name, found in galleries.items() for one in found.places
            ),
            caption=plots.caption(
                "A gap that does no harm in a gallery of one modality can push the other out of a common one. Grey "
                "strokes: what a ranking blind to modality gives.",
                n=next(iter(galleries.values())).places[0].n, interval=self.intervals,
            ),
            table=[row for found in galleries.values() for row in found.table().to_dict("records")],
        )  # fmt: skip
        rows: dict[str, list[str]] = {name: [] for name in ("queries, asked for", "gap", *_MIXED)}
        for found in galleries.values():
            for one in found.places:
                rows["queries, asked for"].append(f"{found.asking} asks for {found.asked}, k = {one.k}")
                rows["gap"].append(one.way or "as it is")
                for name, cell in zip(_MIXED, _cells(one), strict=True):
                    rows[name].append(cell)
        caption = (
            "Images and texts in one gallery, the query itself left out. Ways of closing in halves, cross-fitted, "
            "against the same halves. Queries that ask for their own modality have the rest as wrong places"
        )
        return html.together([drawn, html.table(rows, caption=caption), *map(note, dict.fromkeys(lacking))])

    def _why(self, part: str) -> str:
        reasons = getattr(self.results.get("space not measured"), "reasons", {})
        if part in reasons:
            return f"Not measurable: {reasons[part]}"
        return "The data are one-way: there is no second direction."


_MEASURED = (
    "The space, all vectors scaled to length one. None of these numbers says how good retrieval is: compare encoders "
    "on the same items"
)
_MIXED = ("wrong modality (%)", "blind (%)", "before (%)", "hit@k (%)", "hit@k against (%)")


def _cells(one: MixedPlaces) -> tuple[str, ...]:
    before = "" if np.isnan(one.wrong_before) else f"{100 * one.wrong_before:.1f}"
    shares = f"{100 * one.wrong:.1f} ({100 * one.low:.1f} to {100 * one.high:.1f})", f"{100 * one.blind:.1f}", before
    if np.isnan(one.hit):
        return (*shares, "—", "—")
    what = "open gap" if one.way else f"one modality{'' if np.isfinite(one.hit_low) else ', one image'}"
    return (*shares, f"{100 * one.hit:.1f}, {_points(one.hit_change, one.hit_low, one.hit_high)}",
            f"{100 * one.hit_before:.1f} ({what})")  # fmt: skip


def _changed(one: Any) -> str:
    star = " *" if one.p_holm <= 0.05 else ""
    return f"{100 * one.after:.1f}, {_points(one.difference, one.low, one.high)}{star}"


def _points(value: float, low: float, high: float) -> str:
    return f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _between(low: float, high: float) -> str:
    return "" if np.isnan(low) else f"{low:.3f} to {high:.3f}"
