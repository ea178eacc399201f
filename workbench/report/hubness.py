"""What the hubness notebook shows, beyond what the audit's report can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import html, plots
from workbench.normalize import METHODS
from workbench.plots import curves
from workbench.report.audit import AuditReport, note

if TYPE_CHECKING:
    from workbench.html import Display


class HubnessReport(AuditReport):
    """A finished run of the hubness report. It draws; nothing is computed here."""

    def uneven(self) -> Display:
        """Every measure, in both directions and within either side, beside chance."""
        found = {
            name.removeprefix("hubness "): one for name, one in self.results.items() if name.startswith("hubness ")
        }
        if not found:
            return note("Not measurable: no list has the k places that are counted. Choose a smaller k.")
        rows: dict[str, list[Any]] = {name: [] for name in ("who asks whom", "items", *_MEASURES.values())}
        for name, one in found.items():
            rows["who asks whom"].append(curves.WORDS.get(name, name))
            rows["items"].append(f"{one.n_gallery:,}")
            for measure, title in _MEASURES.items():
                entry, share = one.measure(measure), measure.endswith("share")
                shown = [f"{100 * value:.1f} %" if share else f"{value:.2f}" for value in (entry.value, entry.chance)]
                rows[title].append(f"{shown[0]} ({shown[1]})")
        caption = f"Top-{next(iter(found.values())).k} lists; in brackets the mean under chance for the same sizes."
        return html.table(rows, caption=caption)

    def causes(self, direction: str) -> Display:
        """What goes with being retrieved often, and who suffers."""
        found = self.results.get(f"causes {direction}")
        if found is None:
            return note(f"{direction}: not measurable: no list has k places, a vector is zero, or there is one item.")
        known = [one for one in found.causes if np.isfinite(one.correlation)]
        rows = {
            "property of an item": [_CAUSES[one.name] for one in known],
            "rank correlation with how often it is retrieved": [f"{one.correlation:.2f}" for one in known],
            "95 % interval": [f"{one.low:.2f} to {one.high:.2f}" for one in known],
        }
        suffering = float(np.mean(found.hub_places > 0.5))
        parts = [
            html.table(rows, caption=f"{curves.WORDS.get(direction, direction)}: what hubs have in common"),
            note(f"{suffering:.1%} of the queries have more than half of their {found.k} places held by hubs."),
        ]
        words = self.results.get(f"words {direction}")
        if words is not None and len(words.words):
            parts.append(html.table(_word_rows(words), caption=f"Words in the captions of {words.n_hubs} hubs, "
                                    f"against those of {words.n_rest} other items"))  # fmt: skip
        return html.together(parts)

    def dimension(self) -> Display:
        """Intrinsic dimension of either side, by two estimators."""
        found = {name: one for name, one in self.results.items() if name.startswith("dimension ")}
        if not found:
            return note("Not measurable: too few different vectors.")
        rows: dict[str, list[str]] = {"side": [], "estimator": [], "dimension": [], "95 % interval": [], "of": []}
        for name, one in found.items():
            _, side, estimator = name.split(" ", 2)
            rows["side"].append(side)
            rows["estimator"].append({"two-nn": "TwoNN (Facco 2017)", "mle": "MLE (Levina & Bickel 2004)"}[estimator])
            rows["dimension"].append(f"{one.value:.1f}")
            rows["95 % interval"].append(f"{one.low:.1f} to {one.high:.1f}")
            rows["of"].append(str(one.n_dimensions))
        return html.table(rows, caption="High intrinsic dimension alone makes hubs; the interval holds no bias")

    def domains(self) -> Display:
        """Whether the bank comes from where the queries come from."""
        found = self.results["domains"].of
        if not found:
            return note("Not measured: fewer than ten queries or bank queries.")
        rows = {
            "direction": [curves.WORDS.get(name, name) for name in found],
            "bank": [f"{one.n_bank:,}" for one in found.values()],
            "scored": [f"{one.n_queries:,}" for one in found.values()],
            "held-out AUC": [f"{one.auc:.3f}" for one in found.values()],
            "kernel two-sample p": [f"{one.p_value:.3f}" for one in found.values()],
            "": ["in domain" if one.in_domain else "of another kind" for one in found.values()],
        }
        return html.table(rows, caption="Can bank and scored queries be told apart? 0.5 and a large p: no")

    def bias(self, direction: str) -> Display:
        """The bias of the inverted softmax against how often an item is retrieved."""
        found = self.results.get(f"bias {direction}")
        if found is None:
            return note(f"{direction}: not measurable, there is no bank.")
        fig, ax = plots.figure("small")
        curves.bias_and_occurrence(found.bias, found.occurrence, direction, ax)
        return html.figure(
            fig,
            alt=f"{direction}: rank correlation {found.correlation:.2f} between bias and times retrieved.",
            caption=plots.caption(
                "A repair marks down the items that other queries also like: the further right, the more it takes off. "
                f"Rank correlation {found.correlation:.2f}; where it is near zero the bank does not know these hubs.",
                n=len(found.bias), data=f"{found.repair}, from bank queries that are not scored",
            ),
            table={"item": found.items.tolist(), "bias": found.bias.tolist(), "times": found.occurrence.tolist()},
        )  # fmt: skip

    def comparison(self, direction: str) -> Display:
        """All repairs side by side on the same queries."""
        mine = [one for one in self.results["repairs"].outcomes if one.direction == direction]
        if not mine:
            return note(f"{direction}: no repair could be estimated. {' '.join(self.results['repairs'].skipped)}")
        metrics, names = (
            list(dict.fromkeys(one.metric for one in mine)),
            list(dict.fromkeys(one.repair for one in mine)),
        )
        at = {(one.repair, one.metric): one for one in mine}
        main = [at[name, metrics[0]] for name in names]
        first = main[0]
        rows: dict[str, list[str]] = {"repair": ["nothing", *names]}
        for metric in metrics:
            raw = f"{100 * at[names[0], metric].before:.1f}"
            rows[f"{metric} (%)"] = [raw, *(_changed(at[name, metric]) for name in names)]
        caption = (
            f"{curves.WORDS.get(direction, direction)}, {first.n:,} queries, bank: {first.provenance}, "
            f"{first.n_bank:,} queries. Difference in points with its paired 95 % interval; * p (Holm, all comparisons "
            "of this report) at most 0.05"
        )
        more = {
            "repair": ["nothing", *names],
            f"better / worse ({metrics[0]})": ["", *(f"{one.wins:,} / {one.losses:,}" for one in main)],
            "skewness": [f"{first.skewness_before:.2f}", *(f"{one.skewness_after:.2f}" for one in main)],
            "places held by hubs": [f"{first.hub_share_before:.1%}", *(f"{one.hub_share_after:.1%}" for one in main)],
            "setting": ["", *(_setting(one) for one in main)],
        }
        return html.together(
            [html.table(rows, caption=caption), html.table(more, caption="The same repairs: queries, hubs, settings")]
        )

    def gains(self, direction: str) -> Display:
        """Differences in the first metric, with intervals."""
        found = self.results["repairs"].outcomes
        mine = [one for one in found if one.direction == direction and one.metric == found[0].metric]
        if not mine:
            return note("Nothing to draw.")
        fig, ax = plots.figure("small" if len(mine) <= 8 else "tall")
        values = [[100 * getattr(one, name) for one in mine] for name in ("difference", "low", "high")]
        curves.paired_differences(
            [one.repair for one in mine], *values, ax=ax, unit=f"difference in {mine[0].metric} (points)"
        )
        return html.figure(
            fig,
            alt="; ".join(f"{one.repair}: {100 * one.difference:+.1f} points" for one in mine),
            caption=plots.caption(
                "Filled dots are clear of zero before the correction for many comparisons.", n=mine[0].n,
                interval=f"{self.intervals}, paired",
            ),
            table={"repair": [one.repair for one in mine], "difference": values[0], "low": values[1],
                   "high": values[2]},
        )  # fmt: skip

    def tuning(self) -> Display:
        """What was chosen on validation data, and what the test would have chosen."""
        found = self.results["tunings"]
        if not found:
            return note("Every repair has its default setting: tune=False, or no validation data.")
        rows = {
            "repair": [f"{one.direction} {one.repair}" for one in found],
            "parameter": [one.parameter for one in found],
            "tried": [", ".join(f"{value:g}" for value in one.values) for one in found],
            "chosen on validation": [" / ".join(f"{value:g}" for value in one.chosen) for one in found],
            "best on test": [f"{one.values[int(np.argmax(one.test))]:g}" for one in found],
            "reported (%)": [f"{100 * one.reported:.2f}" for one in found],
            "optimism of the test optimum (points)": [f"{100 * one.optimism:+.2f}" for one in found],
        }
        return html.table(rows, caption=f"Settings, chosen by {found[0].metric}")

    def needs(self) -> Display:
        """What each repair is, needs and costs."""
        names = list(dict.fromkeys(one.repair for one in self.results["repairs"].outcomes))
        rows = {
            "repair": names,
            "what it is": [f"{METHODS[name].kind}: {METHODS[name].summary}" for name in names],
            "needs": [", ".join(METHODS[name].needs) or "the gallery alone" for name in names],
            "costs, beyond a search": [METHODS[name].cost for name in names],
            "source": [METHODS[name].source for name in names],
        }
        return html.table(rows, caption="What one buys")


_MEASURES = {
    "skewness": "skewness",
    "gini": "Gini",
    "max_occurrence": "most often retrieved",
    "hub_share": "places held by hubs",
    "antihub_share": "never retrieved",
}
_CAUSES = {
    "gallery_centroid": "close to the centre of the gallery",
    "query_centroid": "close to the centre of the queries (held out)",
    "norm": "length of the vector",
}


def _word_rows(words: Any) -> dict[str, list[str]]:
    shown = range(min(8, len(words.words)))
    return {
        "word": [words.words[i] for i in shown],
        "hubs with it": [f"{words.in_hubs[i]} of {words.n_hubs}" for i in shown],
        "others with it": [f"{words.in_rest[i]} of {words.n_rest}" for i in shown],
        "z": [f"{words.z[i]:.1f}" for i in shown],
        "p (Holm)": [f"{words.p_holm[i]:.3f}" if words.p_holm[i] >= 0.001 else "< 0.001" for i in shown],
    }


def _changed(one: Any) -> str:
    star = " *" if one.p_holm <= 0.05 else ""
    return f"{100 * one.after:.1f}, {100 * one.difference:+.1f} ({100 * one.low:+.1f} to {100 * one.high:+.1f}){star}"


def _setting(one: Any) -> str:
    return f"{one.setting}; {one.note}" if one.note else one.setting
