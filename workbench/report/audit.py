"""What the audit notebook shows: each method reads the finished run and returns one thing to display."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import html, plots
from workbench.html.display import escape
from workbench.plots import curves, space
from workbench.runs import Run

if TYPE_CHECKING:
    from workbench.html import Display

EDGE = 128
GROUP_INCHES = 0.24


class AuditReport:
    """A finished run and the pictures and tables of its report. It draws; nothing is computed here."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.results = run.results
        self.directions = tuple(name.removeprefix("scores ") for name in self.results if name.startswith("scores "))
        self.first, self.second = (*self.directions, "")[:2]
        protocol = run.manifest["protocol"]
        self.listed = "gallery" in protocol
        clustered = "captions of one image are one cluster" if "captions" in protocol["intervals"] else "by query"
        self.intervals = f"95 % cluster bootstrap ({clustered})"

    def __repr__(self) -> str:
        return repr(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def summary(self) -> Display:
        """What ran, on what, with what; time and machine stay in the manifest, so equal runs have equal reports."""
        manifest = self.run.manifest
        versions, shown = manifest["versions"], ("python", "numpy", "torch", "open_clip_torch")
        headline = {
            name: f"{_percent(entry['value'])} % ({_between(entry['low'], entry['high'], _percent)})"
            for name, entry in self.run.metrics.items()
            if name.endswith(("/hit@1", "/hit@10"))
        }
        rows = headline | {
            "data": manifest["card"]["name"],
            "licence of the data": manifest["card"]["licence"],
            "encoder": manifest["encoder"].get("source", "not stated"),
            "workbench": f"{manifest['workbench']} ({manifest['git_revision'][:12]})",
            "versions": ", ".join(f"{name} {versions[name]}" for name in shown),
            "seed": manifest["parameters"]["seed"],
        }
        return html.table({"what": list(rows), "value": [str(value) for value in rows.values()]}, caption="This run")

    def findings(self) -> Display:
        """Every verdict, worst first."""
        return html.findings(self.run.findings)

    def protocol(self) -> Display:
        """What must be said beside the numbers."""
        return html.protocol_card(self.run.manifest["protocol"])

    def card(self) -> Display:
        """What the source says about the data."""
        rows = self.run.manifest["card"]
        return html.table({"field": list(rows), "stated": list(rows.values())}, caption="Data card")

    def counts(self) -> Display:
        """What was found in the data."""
        what, how_many = zip(*self.results["counts"].rows(), strict=True)
        return html.table({"what": list(what), "found": list(how_many)}, caption="Counted, not taken from the card")

    def unreadable(self) -> Display:
        """Every item that could not be read, with its reason."""
        bad = self.results["unreadable"]
        if not bad:
            return note("Nothing was left out as unreadable.")
        rows = {"item": [item.id for item in bad], "reason": [item.reason for item in bad]}
        return html.table(rows, caption="Left out because they could not be read")

    def look(self, name: str) -> Display:
        """A grid of examples: "data", "pairs", or "worst" or "hubs" and a direction, such as "worst t2i"."""
        if name.endswith(" "):
            return note(_ONE_WAY)
        shown = self.results.get(f"examples {name}")
        if shown is None or not shown.cards:
            return note(f"Nothing to show: {_WHY_EMPTY.get(name.split()[0], 'not measurable here')}.")
        caption = f"{shown.title}: {shown.rule}."
        if not any(card.image_id for card in shown.cards):
            counts, items = self.results["counts"], name.split()[0] in ("hubs", "pairs")
            kind = "text" if counts.texts_are == "texts" else counts.images_are[:-1] if items else "query"
            texts = {kind: [card.text for card in shown.cards], "found": [card.note for card in shown.cards]}
            return html.table(texts, caption=caption)
        cards = [
            html.Thumbnail(
                self._thumbnail(card.image_id), card.text or card.image_id, card.note,
                None if card.right < 0 else bool(card.right),
            )
            for card in shown.cards
        ]  # fmt: skip
        return html.thumbnails(cards, caption=caption, edge=EDGE)

    def scores(self) -> Display:
        """All metrics in all directions, with interval, tie bracket and chance."""
        columns = ("metric", "value", "95 % interval", "under ties", "chance", "n")
        rows: dict[str, list[Any]] = {name: [] for name in columns}
        for name, entry in self.run.metrics.items():
            show = _formatter(name)
            rows["metric"].append(name)
            rows["value"].append(show(entry["value"]))
            rows["95 % interval"].append(_between(entry["low"], entry["high"], show))
            same = entry["value"] is not None and entry["worst"] == entry["best"]
            rows["under ties"].append("unaffected" if same else _between(entry["worst"], entry["best"], show))
            rows["chance"].append(show(entry["chance"]))
            rows["n"].append(entry["n"])
        caption = "Per cent, ranks as ranks. Value: expected under random tie order; under ties: worst to best order."
        return html.table(rows, caption=caption)

    def cautions(self) -> Display:
        """Where an interval above is outside the regime in which it is valid."""
        notes = [note.partition(": ") for name in self.directions for note in self.results[f"scores {name}"].notes]
        if not notes:
            return note("No interval above is outside the regime in which it is valid.")
        by_text: dict[str, list[str]] = {}
        for metric, _, text in notes:
            by_text.setdefault(text, []).append(metric)
        rows = {"metrics": [", ".join(metrics) for metrics in by_text.values()], "caution": list(by_text)}
        return html.table(rows, caption="Read these intervals with care")

    def curve(self) -> Display:
        """hit@k against k in both directions."""
        curved = [self.results.get(f"curve {direction}") for direction in self.directions]
        drawn = [one for one in curved if one is not None and one.metrics]
        if not drawn:
            return note("Not measurable: nothing is known to be right, or no list reaches a place.")
        fig, ax = plots.figure("wide")
        curves.metric_curve(drawn, ax)
        words = "; ".join(
            f"{one.direction} from {one.value[0]:.1%} at k = 1 to {one.value[-1]:.1%} at k = {one.metrics[-1][4:]}"
            for one in drawn
        )
        return html.figure(
            fig,
            alt=f"Share of queries with a right result among the first k: {words}.",
            caption=plots.caption(
                "Higher is better; the thin grey lines are chance, and a curve near its grey line has learned nothing."
                if np.isfinite(drawn[0].chance).all() else "Higher is better. Chance is not known for these lists.",
                n=int(drawn[0].n[0]), interval=self.intervals,
            ),
            table=_stacked(drawn),
        )  # fmt: skip

    def ranks(self, direction: str) -> Display:
        """Where the first right result lands."""
        if direction not in self.directions:
            return note(_ONE_WAY)
        table = self.run.per_query
        mine = np.array([name == direction for name in table["direction"]])
        places = np.asarray(table["best_place"], dtype=float)[mine]
        if not np.isfinite(places).any():
            return note(f"{direction}: not measurable, no query has a right item in its list.")
        n_gallery = int(np.nanmax(places)) if self.listed else self._gallery(direction)
        edges = curves.rank_edges(n_gallery)
        fig, ax = plots.figure("small")
        curves.rank_histogram(places, ax, direction=direction, n_gallery=n_gallery)
        counts = np.histogram(places[np.isfinite(places)], edges)[0]
        last = [edge - 1 for edge in edges[1:]]
        missing = int(self.results[f"scores {direction}"].n.max(initial=0)) - int(counts.sum())
        nowhere = f" {missing:,} more have no right item in their list." if missing > 0 else ""
        return html.figure(
            fig,
            alt=f"{direction}: {counts[0]:,} of {counts.sum():,} queries have a right result in first place.{nowhere}",
            caption=plots.caption(
                f"A heavy right end is what a mean rank reports and a recall at 10 does not see.{nowhere}",
                n=int(counts.sum()),
            ),
            table={"from place": list(edges[:-1]), "to place": last, "queries": counts.tolist()},
        )  # fmt: skip

    def slices(self) -> Display:
        """Headline metrics by group, worst group first, for every column and direction."""
        found = [result for name, result in self.results.items() if name.startswith("slices ")]
        if not found:
            return note(_NO_GROUPS)
        return html.together([part for one in found for part in self._sliced(one)])

    def _sliced(self, found: Any) -> list[Display]:
        if found.reason:
            return [note(f"{found.direction} by {found.column}: not measurable. {found.reason}")]
        fig, ax = plots.figure("wide")
        fig.set_figheight(max(fig.get_figheight(), 1 + GROUP_INCHES * len(found.groups)))
        found.plot(ax)
        metric, worst = f"{found.direction}/{found.metrics[0]}", found.groups[0]
        drawn = html.figure(
            fig,
            alt=f"{metric} by {found.column}: lowest {found.value[0, 0]:.1%} ({worst}), mean {found.overall[0]:.1%}.",
            caption=plots.caption(
                "Worst group on top; the line is the mean over all queries; hollow: too small to be judged.",
                data=f"groups: {found.rule}", n=int(found.n[:, 0].sum()), interval=self.intervals,
            ),
            table=found.table().reset_index(),
        )  # fmt: skip
        return [drawn, *(self._slice_table(found, metric) for metric in found.metrics)]

    def _slice_table(self, found: Any, metric: str) -> Display:
        table = found.table(metric)
        rows = {
            found.column: list(table.index),
            f"{found.direction}/{metric} (%)": [_percent(value) for value in table["value"]],
            "95 % interval": [_between(*pair, _percent) for pair in zip(table["low"], table["high"], strict=True)],
            "n": table["n"].astype(int).tolist(),
            "against the rest (points)": [_points(row) for row in table.itertuples()],
            "p (Holm)": [_p(value) for value in table["p_holm"]],
            "": table["note"].tolist(),
        }
        return html.table(rows, caption=f"{found.direction}/{metric} by {found.column}, the gallery left whole")

    def exposure(self) -> Display:
        """Which groups of items fill the lists, against their share of the gallery and of what is right."""
        found = [result for name, result in self.results.items() if name.startswith("exposure ")]
        if not found:
            return note("No groups of gallery items are declared by the data.")
        return html.together([self._exposed(one) for one in found])

    def _exposed(self, found: Any) -> Display:
        if found.reason:
            return note(f"{found.direction} by {found.column}: not measurable. {found.reason}")
        fig, ax = plots.figure("wide")
        fig.set_figheight(max(fig.get_figheight(), 1 + GROUP_INCHES * len(found.groups)))
        found.plot(ax)
        whole = "all returned or judged" if self.listed else "the gallery"
        return html.figure(
            fig,
            alt=f"{found.direction}: share of the first {found.k} places by {found.column} of the items.",
            caption=plots.caption(
                f"Share of the places against share of {whole}; the band is what lists drawn at random give.",
                interval=f"{found.level:.0%} band",
            ),
            table=found.table().reset_index(),
        )

    def coverage(self) -> Display:
        """Shares of captions the tokenizer cut or whose words it never saw."""
        found = self.results.get("coverage")
        if found is None:
            return note("Not measurable: the encoder does not say how it reads texts (or there is no encoder).")
        return html.table(
            found.table().reset_index(),
            caption="Shares (0 to 1) of captions that lost their end, or hold unknown words",
        )

    def hubness(self, direction: str) -> Display:
        """The k-occurrence histogram against its chance band."""
        if direction not in self.directions:
            return note(_ONE_WAY)
        found = self.results.get(f"hubness {direction}")
        if found is None:
            return note(f"{direction}: not measurable, no list has the k places that are counted. Choose a smaller k.")
        fig, ax = plots.figure("small")
        found.plot(ax)
        skewness, hubs = found.measure("skewness"), found.measure("hub_share")
        return html.figure(
            fig,
            alt=(
                f"{direction}: skewness {skewness.value:.2f} (chance {skewness.chance:.2f}); "
                f"{len(found.hubs)} hubs hold {hubs.value:.1%} of the places."
            ),
            caption=plots.caption(
                "The band takes the gallery for what was returned or judged, because its real size is not known."
                if self._unknown_gallery()
                else "Points beyond the grey band: items that turn up more (or less) often than chance allows.",
                data=f"top-{found.k} lists of {found.n_queries:,} queries over {found.n_gallery:,} items",
                interval=f"{found.level:.0%} chance band from {found.n_null:,} simulated draws",
            ),
            table=found.table().reset_index(),
        )

    def gap(self) -> Display:
        """Cosines of right and wrong pairs."""
        found = self.results.get("gap")
        if found is None:
            return note(_NO_VECTORS)
        fig, ax = plots.figure("small")
        space.cosine_histograms(found, ax)
        return html.figure(
            fig,
            alt=(
                f"Right pairs have a mean cosine of {found.paired.mean():.3f}, wrong pairs "
                f"{found.unpaired.mean():.3f}; the two centres are {found.centroid_distance:.3f} apart."
            ),
            caption=plots.caption(
                "What matters for ranking is how far the two histograms are apart, not where they lie. "
                f"A linear classifier tells the sides apart with a held-out AUC of {html.number(found.modality_auc)}, "
                "which says nothing about quality: it is 1.000 for trained and for random networks alike.",
                n=len(found.paired),
            ),
            table=found.table().reset_index(),
        )

    def space(self) -> Display:
        """Both sides on the two main directions of their common space."""
        found = self.results.get("gap")
        if found is None:
            return note(_NO_VECTORS)
        fig, ax = plots.figure("small")
        found.plot_map(ax)
        return html.figure(
            fig,
            alt=f"The two main directions hold {sum(found.map_variance):.0%} of the variance of both sides together.",
            caption=plots.caption("A map for orientation: distances in it are not the distances that rank.",
                                  n=len(found.map_images) + len(found.map_texts)),
            table={"axis": ["first", "second"], "share of variance": list(found.map_variance)},
        )  # fmt: skip

    def duplicates(self) -> Display:
        """Copies, near-copies, and captions that fit several images."""
        found, repeated = self.results.get("duplicates"), self.results.get("repeated captions")
        if found is None:
            return note("Not measurable: copies are told by vectors, and there are none here, or one is zero.")
        rows = {
            f"groups of identical {found.what}s": len(found.groups),
            f"pairs of different {found.what}s with cosine ≥ {found.threshold:g}": found.n_near_pairs,
            "captions written for more than one image": len(repeated.captions) if repeated else "not measurable",
            "texts concerned": repeated.n_affected if repeated else "not measurable",
        }
        return html.table({"what": list(rows), "count": list(rows.values())}, caption="Duplicates in the scored set")

    def repairs(self) -> Display:
        """Before and after, paired, per direction and method."""
        if not self.results["repairs"].outcomes and not self.results["repairs"].skipped:
            return note("No repair was estimated: none was asked for, or there are no vectors to repair.")
        return html.table(self.results["repairs"].table(), caption=self.results["repairs"].caption())

    def repair_plot(self) -> Display:
        """Differences that the repairs make, with intervals."""
        found = self.results["repairs"]
        if not found.outcomes:
            return note("Nothing to draw.")
        fig, ax = plots.figure("small")
        found.plot(ax)
        return html.figure(
            fig,
            alt="; ".join(f"{one.label}: {100 * one.difference:+.1f} points" for one in found.outcomes),
            caption=plots.caption(
                "Filled dots are clear of zero; a repair whose interval holds zero has not been shown to help.",
                n=found.outcomes[0].n, interval=f"{self.intervals}, paired",
            ),
            table=found.table(),
        )  # fmt: skip

    def instrument(self) -> Display:
        """The meter on worlds with a known answer."""
        if "instrument" not in self.results:
            return note("Nothing was searched here, or too little for readings that chance would not move.")
        return html.table(self.results["instrument"].table(), caption="Readings where the answer is known")

    def files(self) -> Display:
        """What lies beside the report."""
        rows = {name: text for name, text in _FILES.items() if (self.run.path / name).exists()}
        return html.table({"file": list(rows), "holds": list(rows.values())}, caption="Beside this report")

    def _thumbnail(self, image_id: str) -> Any:
        """The kept picture, or None where none was kept."""
        from PIL import Image

        kept = self.run.thumbnails.get(image_id)
        return None if kept is None else Image.open(io.BytesIO(kept))

    def _unknown_gallery(self) -> bool:
        return self.listed and not self.run.manifest["parameters"]["gallery_size"]

    def _gallery(self, direction: str) -> int:
        counts = self.results["counts"]
        return int(counts.images if direction == self.first else counts.texts)


_NO_VECTORS = "Not measurable: it takes vectors, two images, and a text with an image of its own."
_NO_GROUPS = (
    "No groups of queries are scored: the data state no language and slices= names no column of the queries, or no "
    "metric of which more is better is measurable."
)
_ONE_WAY = "These data are asked in one direction only."
_WHY_EMPTY = {
    "pairs": "no pair of different images is that close",
    "hubs": "hubness was not measurable",
    "worst": "no query has a right item that is not in first place",
}
_FILES = {
    "metrics.json": "every metric with interval, tie bracket and chance",
    "findings.json": "the verdicts above",
    "per_query.parquet": "one row per direction and query, one column per metric",
    "run_t2i.trec": "ranked lists, text to image (TREC format)",
    "run_i2t.trec": "ranked lists, image to text (TREC format)",
    "run_q2d.trec": "ranked lists, query to document (TREC format)",
    "layers": "the truth, hashes of every item before and after preprocessing and of the vectors, neighbour lists",
    "results.json": "what the figures draw",
    "manifest.json": "parameters, versions, hardware, timings",
}


def note(text: str) -> Display:
    """A sentence where there is nothing to draw."""
    return html.Display(f'<p class="wb">{escape(text)}</p>', text)


def _points(row: Any) -> str:
    if not np.isfinite(row.difference) or not np.isfinite(row.p_holm):
        return "—"
    return f"{100 * row.difference:+.1f} ({100 * row.difference_low:+.1f} to {100 * row.difference_high:+.1f})"


def _p(value: float) -> str:
    return "—" if not np.isfinite(value) else f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _formatter(name: str) -> Any:
    return _rank if name.endswith(("MedR", "MeanR")) else _percent


def _percent(value: float | None) -> str:
    return "—" if value is None or not np.isfinite(value) else f"{100 * value:.2f}"


def _rank(value: float | None) -> str:
    return "—" if value is None else f"{value:,.2f}"


def _between(low: float | None, high: float | None, show: Any) -> str:
    return "—" if low is None or high is None else f"{show(low)} to {show(high)}"


def _stacked(drawn: Sequence[Any]) -> dict[str, list[Any]]:
    rows = [(one.direction, name, i, one) for one in drawn for i, name in enumerate(one.metrics)]
    table: dict[str, list[Any]] = {"metric": [f"{direction}/{name}" for direction, name, _, _ in rows]}
    for column in ("value", "low", "high", "chance"):
        table[column] = [float(getattr(one, column)[i]) for _, _, i, one in rows]
    return table
