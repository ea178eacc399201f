"""Copies and leaks, and what each is worth in points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import html, plots
from workbench.plots import copies
from workbench.report.audit import AuditReport, note

if TYPE_CHECKING:
    from workbench.html import Display

LONGEST = 10


class CopiesSection(AuditReport):
    """This part of the report; nothing is computed here."""

    def copy_levels(self) -> Display:
        """How many copies each way of telling them finds."""
        found = [self.results[name] for name in ("copies images", "copies texts") if name in self.results]
        if not found:
            return note(_NOT_ASKED)
        parts = [html.table(_levels(found), caption="Copies within the scored split, strictest test first")]
        if not any(level.name == "looks" for level in found[0].levels):
            parts.append(note("Looks are not compared: there are no pictures here, or share= keeps them out."))
        return html.together(parts)

    def look_alikes(self) -> Display:
        """Pairs of pictures against the threshold, within the split."""
        return self._curve("look-alikes")

    def close_captions(self) -> Display:
        """Captions that say the same, or nearly, of different images."""
        repeated, near = self.results.get("repeated captions"), self.results.get("near captions")
        if repeated is None:
            return note("Captions are not compared: there are none, or texts of these data have no image of their own.")
        rows = {
            "captions": ["equal but for case and punctuation"], "found": [f"{len(repeated.captions):,}"],
            "texts concerned": [f"{repeated.n_affected:,}"],
        }  # fmt: skip
        if near is not None:
            least = "" if near.complete else "at least "
            rows["captions"].append(f"equal in {near.threshold:.0%} of their letters")
            rows["found"].append(f"{least}{len(near.pairs):,} pairs")
            rows["texts concerned"].append(f"{least}{near.n_affected:,}")
        parts = [html.table(rows, caption="Captions of different images that are not labelled right for one another")]
        if near is None:
            parts.append(note("Captions that nearly agree are not looked for: share= keeps their words out."))
        elif near.pairs:
            shown = near.pairs[:LONGEST]
            pairs = {"caption": [a for a, _, _ in shown], "other": [b for _, b, _ in shown],
                     "similarity": [f"{value:.3f}" for _, _, value in shown]}  # fmt: skip
            parts.append(
                html.table(pairs, caption=f"The closest {len(shown)} of these pairs; one word can change the meaning")
            )
        return html.together(parts)

    def copies_impact(self) -> Display:
        """What copies are worth."""
        return self._impact("copies impact")

    def leaks(self) -> Display:
        """What is also in the other split, how it looks, and what it is worth."""
        found = [self.results[name] for name in ("leaks images", "leaks texts") if name in self.results]
        if not found:
            return note("Not asked for: other_split=NAME holds this split against another one, such as train.")
        if found[0].reason:
            return note(f"Not measurable: {found[0].reason}")
        caption = f"Also in the split {found[0].other}, strictest test first; short captions agree by chance"
        parts = [html.table(_levels(found), caption=caption)]
        parts += [self._curve("leaks look-alikes")] if "leaks look-alikes" in self.results else []
        parts += [self.look("leaks")] if "examples leaks" in self.results else []
        return html.together([*parts, self._impact("leaks impact")])

    def _curve(self, name: str) -> Display:
        found = self.results.get(name)
        if found is None:
            return note(_NOT_ASKED)
        fig, ax = plots.figure("small")
        copies.hamming_curve(found, ax)
        against = f"{found.n:,} against {found.n_other:,} pictures" if found.n_other else f"{found.n:,} pictures"
        return html.figure(
            fig,
            alt=f"{found.n_pairs:,} pairs of {against} at {found.threshold} bits or fewer with colours that agree.",
            caption=plots.caption(
                "A flat stretch left of the rise holds the copies; in the rise pictures are only similar.",
                data=against,
            ),
            table={
                "bits at most": found.curve_bits.tolist(), "pairs, outline alone": found.curve_outline.tolist(),
                "pairs, and colours": found.curve_pairs.tolist(),
            },
        )  # fmt: skip

    def _impact(self, name: str) -> Display:
        found = self.results.get(name)
        if found is None:
            return note("Not asked for, or not measurable here.")
        rows, known = found.rows, found.known
        if not known:
            return note(f"Not measurable: {rows[0].reason if rows else 'no metric is a share'}.")
        moved = [row for row in known if row.moved]
        if not moved:
            return note(f"No {found.name} change any metric: every difference is exactly 0.")
        parts = [html.table(_differences(moved), caption=_CAPTION), self._impact_figure(found)]
        if len(moved) < len(known):
            parts.append(note(f"{len(known) - len(moved)} of {len(known)} differences are exactly 0 and not listed."))
        missing: dict[str, list[str]] = {}
        for row in rows:
            if row.reason:
                missing.setdefault(row.reason, []).append(f"{row.direction}/{row.metric}, {row.level}, {row.change}")
        parts += [note(f"Not measurable: {'; '.join(names)}: {reason}.") for reason, names in missing.items()]
        if found.name == "copies" and not any(row.change == "itself excluded" for row in rows):
            parts.append(note("Self-matches do not arise: no query is, by its id, an item of its own gallery."))
        return html.together(parts)

    def _impact_figure(self, found: Any) -> Display:
        rows = [row for row in found.known if row.metric == found.known[0].metric]
        fig, ax = plots.figure("wide")
        fig.set_figheight(1 + copies.INCHES * len(rows))
        copies.impact(found, ax)
        return html.figure(
            fig,
            alt="; ".join(f"{row.direction} {row.level} {row.change} {100 * row.difference:+.1f}" for row in rows),
            caption=plots.caption(
                "Right of the line the metric rises when it is done; filled where the interval excludes 0.",
                n=rows[0].n_before, interval=f"{self.intervals}, paired, copies in one cluster",
            ),
            table=_differences(rows),
        )  # fmt: skip


def _levels(found: list[Any]) -> dict[str, list[Any]]:
    """One row per kind of item and level."""
    rows = [(one, level) for one in found for level in one.levels]
    table: dict[str, list[Any]] = {
        "items": [f"{one.n:,} {one.plural}" for one, _ in rows],
        "told by": [level.name for _, level in rows],
        "rule": [level.rule for _, level in rows],
        "pairs": [f"{level.n_pairs:,}" for _, level in rows],
        "items concerned": [f"{len(level.items):,}" for _, level in rows],
        "new at this level": [f"{level.n_new:,}" for _, level in rows],
    }
    if found[0].other:
        return table | {f"of {found[0].other}": [f"{level.n_others:,}" for _, level in rows]}
    return table | {
        "groups": [f"{level.n_groups:,}" for _, level in rows],
        "largest": [f"{level.largest:,}" for _, level in rows],
        "chained pairs": [f"{level.n_chained:,}" for _, level in rows],
    }


def _differences(rows: Any) -> dict[str, list[str]]:
    return {
        "metric": [f"{row.direction}/{row.metric}" for row in rows],
        "held to be the same": [row.level for row in rows],
        "change": [row.change for row in rows],
        "as it is": [f"{100 * row.before:.2f}" for row in rows],
        "then": [f"{100 * row.after:.2f}" for row in rows],
        "difference": [f"{100 * row.difference:+.2f}" for row in rows],
        "95 % interval": [_interval(row) for row in rows],
        "queries": [_counts(row) for row in rows],
        "items": [f"{row.n_items:,}" for row in rows],
    }


def _interval(row: Any) -> str:
    return f"{100 * row.low:+.2f} to {100 * row.high:+.2f}" if np.isfinite(row.low) else "—"


def _counts(row: Any) -> str:
    return f"{row.n_before:,}" if row.n_before == row.n_after else f"{row.n_before:,} → {row.n_after:,}"


_NOT_ASKED = "Not measured: there is nothing here to compare, or share= keeps it out."
_CAPTION = "What each is worth: per cent as it is and then, difference in points"
