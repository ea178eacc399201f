"""What the reproducibility notebook shows, beyond what the audit's report can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import html, plots
from workbench.evaluate.reproducibility.probes import VISIBLE
from workbench.plots import curves
from workbench.plots import protocols as drawn
from workbench.report.audit import AuditReport, note

if TYPE_CHECKING:
    from workbench.html import Display


class ReproducibilityReport(AuditReport):
    """A finished run of the reproducibility report. It draws; nothing is computed here."""

    def certificate(self) -> Display:
        """This run against the other one, layer by layer."""
        found = self.results.get("certificate")
        if found is None:
            return note("Not asked for: against=RUN holds this run against a finished one, layer by layer.")
        rows = {
            "layer": [one.layer for one in found.layers],
            "": [one.status for one in found.layers],
            "compared": [f"{one.n_compared:,}" if one.n_compared else "—" for one in found.layers],
            "changed": [f"{one.n_changed:,}" if one.n_compared else "—" for one in found.layers],
            "what was seen": [one.text for one in found.layers],
        }
        parts = [note(found.verdict), html.table(rows, caption=f"{found.first} against {found.second}")]
        if found.declared:
            facts = {
                "declared": [one.name for one in found.declared],
                found.first: [_stated(one.first) for one in found.declared],
                found.second: [_stated(one.second) for one in found.declared],
            }
            parts.append(html.table(facts, caption="What the two runs themselves say is different"))
        parts += [_agreement(name, one) for name, one in self.results.get("agreement", {}).items()]
        parts += [_parts_of(name.split()[1], one) for name, one in self.results.items() if name.startswith("change ")]
        parts.append(
            note("Time, timings, memory and what came from the cache differ between any two runs and prove nothing.")
        )
        return html.together([*parts, *(note(text) for text in found.notes)])

    def protocols(self, direction: str) -> Display:
        """Every metric under every protocol that applies."""
        groups = [rows for rows in self.results["protocols"].groups() if rows[0].direction == direction]
        if not groups:
            return note(self._no_protocols(direction))
        alike: dict[tuple[Any, ...], list[Sequence[Any]]] = {}
        for rows in groups:
            alike.setdefault(
                tuple((row.value, row.low, row.high, row.second) for row in rows if not row.reason), []
            ).append(rows)
        return html.together(
            [self._protocol_table(same[0], [rows[0].metric for rows in same]) for same in alike.values()]
        )

    def _protocol_table(self, rows: Sequence[Any], metrics: Sequence[str]) -> Display:
        """One table for all metrics that read the same."""
        second, known = self.results["protocols"].second, [row for row in rows if not row.reason]
        if not known:
            return note(f"{rows[0].direction}/{rows[0].metric}: not measurable: {rows[0].reason}.")
        show = _ranks if known[0].metric.startswith(("MedR", "MeanR")) else _percent
        table: dict[str, list[Any]] = {
            "protocol": [row.protocol for row in known],
            "value": [show(row.value) for row in known],
            "95 % interval": [f"{show(row.low)} to {show(row.high)}" for row in known],
            "queries": [f"{row.n:,}" for row in known],
            "against the whole gallery": ["", *(_moved(row, show) for row in known[1:])],
        }
        if second:
            table["the other run"] = [show(row.second) for row in known]
            table["other minus this"] = [_gap(row, show) for row in known]
        where = curves.WORDS.get(rows[0].direction, rows[0].direction)
        return html.table(table, caption=f"{where}: {' and '.join(metrics)}, per cent; differences in points, paired")

    def not_applicable(self) -> Display:
        """The protocols that say nothing here, each with its reason, once."""
        found = [row for rows in self.results["protocols"].groups() for row in rows if row.reason]
        if not found:
            return note("Every protocol applies to every metric.")
        every = [f"{rows[0].direction}/{rows[0].metric}" for rows in self.results["protocols"].groups()]
        reasons: dict[tuple[str, str], list[str]] = {}
        for row in found:
            what = "other definition of the name" if row.question == "definition" else row.protocol
            reasons.setdefault((what, row.reason), []).append(f"{row.direction}/{row.metric}")
        merged: dict[tuple[str, str], list[str]] = {}
        for (what, reason), names in reasons.items():
            of = "every metric" if len(names) == len(every) else ", ".join(names)
            merged.setdefault((reason, of), []).append(what)
        rows = {
            "protocol": ["; ".join(names) for names in merged.values()],
            "why it is not in the tables": [reason for reason, _ in merged],
            "of": [of for _, of in merged],
        }
        return html.table(rows, caption="Not applicable here, or without any effect by definition")

    def protocol_plot(self, direction: str) -> Display:
        """The first metric under every protocol."""
        protocols = self.results["protocols"]
        groups = [rows for rows in protocols.groups() if rows[0].direction == direction]
        known = [row for row in groups[0] if not row.reason] if groups else []
        if not known:
            return note(self._no_protocols(direction))
        fig, ax = plots.figure("wide")
        fig.set_figheight(1 + drawn.INCHES * len(known))
        values = [[100 * getattr(row, name) for row in known] for name in ("value", "low", "high", "second")]
        other = values[3] if protocols.second else ()
        drawn.protocol_values(
            [row.protocol for row in known], *values[:3], ax=ax, unit=f"{known[0].metric} (%)", other=other
        )
        return html.figure(
            fig,
            alt="; ".join(f"{row.protocol}: {_percent(row.value)} %" for row in known),
            caption=plots.caption(
                "The same vectors, another question: what lies outside the grey band is not comparable with the first "
                "line." + (f" Triangles: {protocols.second}." if protocols.second else ""),
                data=curves.WORDS.get(direction, direction), n=known[0].n, interval=self.intervals,
            ),
            table={"protocol": [row.protocol for row in known],
                   **dict(zip(("value", "low", "high", "other run"), values, strict=True))},
        )  # fmt: skip

    def sizes(self) -> Display:
        """The hit rate against the size of the gallery."""
        found = {name: points for name, points in self.results["protocols"].curves.items() if points}
        if not found:
            return note("Not measurable: nothing is known to be right.")
        fig, ax = plots.figure("small")
        drawn.gallery_sizes(found, ax)
        points = [(name, point) for name, each in found.items() for point in each]
        return html.figure(
            fig,
            alt="; ".join(f"{name} in {one.size:,} items: {_percent(one.value)} %" for name, one in points),
            caption=plots.caption(
                "Exact for a random gallery of each size, every right item kept: a rate without the number of items "
                "searched says nothing.",
                n=points[0][1].n, interval=self.intervals,
            ),
            table={"direction": [name for name, _ in points], "items": [one.size for _, one in points],
                   "value": [one.value for _, one in points], "low": [one.low for _, one in points],
                   "high": [one.high for _, one in points]},
        )  # fmt: skip

    def order(self) -> Display:
        """Whether two systems keep their order under every protocol."""
        protocols = self.results["protocols"]
        if not protocols.second:
            return html.together([note(text) for text in protocols.notes] or [note("No second system.")])
        rows: dict[str, list[str]] = {
            name: [] for name in ("metric", "ahead on the whole gallery", "protocols", "turned round", "of these clear")
        }
        ahead = {1: protocols.second, -1: "this run", 0: "not told apart"}
        for group in protocols.groups():
            known = [row for row in group if np.isfinite(row.gap)]
            if not known:
                continue
            turned = [row for row in known if row.gap * known[0].gap < 0]
            rows["metric"].append(f"{group[0].direction}/{group[0].metric}")
            rows["ahead on the whole gallery"].append(ahead[known[0].leader])
            rows["protocols"].append(f"{len(known)}")
            rows["turned round"].append(", ".join(row.protocol for row in turned) or "none")
            rows["of these clear"].append(f"{sum(row.leader * known[0].leader < 0 for row in turned)}")
        return html.table(rows, caption=f"This run against {protocols.second}: the same queries and items")

    def probes(self) -> Display:
        """What each small change did, at the metric that it moved most."""
        found = self.results["probes"]
        if not found.rows:
            return note(
                'Off: each probe encodes everything again. probes=["precision","resize"] or ["all"] asks for them.'
            )
        rows = [row for row in found.largest() if not row.reason]
        table = {
            "probe": [row.probe for row in rows],
            "changed": [row.changed for row in rows],
            "metric": [f"{row.direction}/{row.metric}" for row in rows],
            "moves by (points)": [_change(row) for row in rows],
            "lists": [f"{row.lists:,}" for row in rows],
            "with other items": [f"{row.replaced:,}" for row in rows],
            "in another order": [f"{row.reordered:,}" for row in rows],
            "angle up to": [f"{html.number(row.angle)}°" for row in rows],
        }
        k = next((row.k for row in rows), 0)
        caption = f"{found.n_images:,} images with their texts; lists of {k}; the metric that moved most, 95 % interval"
        missing: dict[str, list[str]] = {}
        for row in found.rows:
            if row.reason:
                missing.setdefault(row.reason, []).append(row.probe)
        said = [note(f"Not measurable: {', '.join(names)}: {reason}.") for reason, names in missing.items()]
        return html.together([html.table(table, caption=caption), *said])

    def statement(self) -> Display:
        """Which choices have to stand beside the number, and which change nothing here."""
        groups = self.results["protocols"].groups()
        if not groups:
            return note("Nothing was scored, so there is nothing to state.")
        rows: dict[str, list[str]] = {"choice": [], "made here": [], "farthest it moves": [], "": []}
        for question, made in _CHOICES.items():
            moved = [
                (row, abs(row.difference) > (group[0].high - group[0].low) / 2)
                for group in groups for row in group if row.question == question and not row.reason
            ]  # fmt: skip
            rows["choice"].append(question)
            rows["made here"].append(made)
            rows["farthest it moves"].append(_farthest([row for row, _ in moved]))
            must = "must be stated" if any(far for _, far in moved) else "state it anyway"
            rows[""].append(must if moved else "not applicable here")
        for name, made in self._settings().items():
            probed = [row for row in self.results["probes"].rows if row.probe == name and row.size > 0]
            if probed:
                most = max(probed, key=lambda one: abs(one.difference))
                rows["choice"].append(name)
                rows["made here"].append(made)
                rows["farthest it moves"].append(
                    f"{most.direction}/{most.metric}, {most.changed}: {_change(most)} points"
                )
                rows[""].append("must be stated" if abs(most.difference) >= VISIBLE else "state it anyway")
        return html.table(
            rows,
            caption="Must be stated: a metric moves by more than half of its interval, or a probe by a printed digit",
        )

    def _settings(self) -> dict[str, str]:
        """What the probes change, as it was in this run."""
        manifest, encoder = self.run.manifest, self.run.manifest["encoder"]
        parameters = manifest["parameters"]
        return {
            "seed": str(parameters["seed"]),
            "threads": str(manifest["hardware"]["threads"]),
            "batch_size": str(parameters["batch_size"]),
            "precision": parameters["precision"] if encoder.get("preprocess") else "float32",
            "resize": str(encoder.get("preprocess", {}).get("interpolation", "not stated")),
            "item_order": "the order of the data",
            "tie_order": manifest["protocol"]["ties"],
        }

    def _no_protocols(self, direction: str) -> str:
        if direction not in self.directions:
            return "These data are asked in one direction only."
        return "; ".join(self.results["protocols"].notes) or f"{direction}: no metric is measurable."


_CHOICES = {
    "gallery": "every item of the other side is searched",
    "captions": "every caption asks, and every caption is found",
    "definition": "as the name says: hit is any right item, R the share of them",
    "ties": "expected value under random order of equal scores",
    "lists": "whole rankings",
    "duplicates": "copies are kept",
    "own item": "kept",
}


def _percent(value: float) -> str:
    return "—" if not np.isfinite(value) else f"{100 * value:.2f}".replace("-0.00", "0.00")


def _ranks(value: float) -> str:
    return "—" if not np.isfinite(value) else f"{value:,.2f}"


def _signed(value: float, show: Any) -> str:
    return f"{'+' if value > 0 else ''}{show(value)}"


def _moved(row: Any, show: Any) -> str:
    if row.difference == row.difference_low == row.difference_high == 0:
        return "0"
    ends = f"{_signed(row.difference_low, show)} to {_signed(row.difference_high, show)}"
    return f"{_signed(row.difference, show)} ({ends})"


def _gap(row: Any, show: Any) -> str:
    if not np.isfinite(row.gap):
        return "—"
    return f"{_signed(row.gap, show)} ({_signed(row.gap_low, show)} to {_signed(row.gap_high, show)})"


def _change(row: Any) -> str:
    if row.reason or not np.isfinite(row.difference):
        return "—"
    if row.difference == row.low == row.high == 0:
        return "0"
    return f"{100 * row.difference:+.2f} ({100 * row.low:+.2f} to {100 * row.high:+.2f})"


def _farthest(rows: Sequence[Any]) -> str:
    if not rows:
        return "—"
    row = max(rows, key=lambda one: abs(one.difference))
    return f"{row.direction}/{row.metric}, {row.protocol}: {_signed(row.difference, _percent)} points"


def _stated(value: Any) -> str:
    text = (
        "not stated" if value is None else ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    )
    return text if len(text) <= 60 else text[:57] + "..."


def _agreement(direction: str, found: Any) -> Display:
    """How alike the lists of the two runs are."""
    if isinstance(found, str):
        return note(f"{direction}: {found}")
    known = [row for row in found if row["n"]]
    if not known:
        return note(f"{direction}: neither run returned anything to a query that both have.")
    rows = {
        "lists": [row["measure"] for row in known],
        "mean": [f"{row['mean']:.3f}" for row in known],
        "lowest": [f"{row['lowest']:.3f}" for row in known],
        "of the query": [row["query"] for row in known],
    }
    words = curves.WORDS.get(direction, direction)
    return html.table(rows, caption=f"{words}: how alike the kept lists of {known[0]['n']:,} queries are; 1: the same")


def _parts_of(direction: str, found: Any) -> Display:
    """What the change of a metric since the other run is made of."""
    if isinstance(found, str):
        return note(f"{direction}: {found}")
    show = _ranks if found.metric == "MeanR" else _percent
    lines = (*found.parts, found.total)
    rows = {
        "part": [one.name for one in lines],
        "change in ranks" if show is _ranks else "change in points": [_signed(one.value, show) for one in lines],
        "95 % interval": [
            f"{_signed(one.low, show)} to {_signed(one.high, show)}" if np.isfinite(one.low) else "—" for one in lines
        ],
        "queries": [f"{one.n_queries:,}" for one in lines],
    }
    common = f"{found.common[0]:,} queries and {found.common[1]:,} items are in both runs"
    words = curves.WORDS.get(direction, direction)
    return html.table(rows, caption=f"{words}: what the change of {found.metric} is made of; {common}")
