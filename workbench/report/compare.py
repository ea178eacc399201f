"""What the comparison notebook shows: each method reads the finished run and returns one thing to display."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workbench import html, plots
from workbench.evaluate.comparison.tables import shown_direction, shown_metric
from workbench.evaluate.scores import higher_is_better
from workbench.plots import comparison, curves
from workbench.report.audit import AuditReport, note
from workbench.runs import Run

if TYPE_CHECKING:
    from workbench.html import Display

NO_SHARE = "Only metrics of which more is better are shown here: add hit@1 or MRR to metrics=."
ONE = "There is one run: nothing to hold it against. Give two or more."
INTERVALS = "95 % cluster bootstrap, paired"


class CompareReport(AuditReport):
    """A finished comparison. It draws; nothing is computed here."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.results = run.results
        self.names = str(run.manifest["parameters"]["names"])
        self.labels = [one.label for one in self.results["systems"]]
        self.baseline = str(self.results["baseline"])
        self.candidates = [label for label in self.labels if label != self.baseline]
        metrics = list(dict.fromkeys(one.metric for one in self.results["scores"]))
        self.metrics = metrics
        self.directions = tuple(dict.fromkeys(metric.partition("/")[0] for metric in metrics))
        self.first, self.second = (*self.directions, "", "")[:2]

    def summary(self) -> Display:
        """What was compared; each run by the digest of its manifest."""
        manifest = self.run.manifest
        rows = {
            "data": manifest["card"]["name"],
            "baseline": self.baseline,
            **{f"run {place}": f"{one.label}: {one.folder}, manifest {one.manifest_sha256[:12]}"
               for place, one in enumerate(self.results["systems"], start=1)},
            "workbench": f"{manifest['workbench']} ({manifest['git_revision'][:12]})",
            "seed": manifest["parameters"]["seed"],
        }  # fmt: skip
        rows |= {f"note {place}": text for place, text in enumerate(self.results["notes"], start=1)}
        return html.table({"what": list(rows), "value": [str(value) for value in rows.values()]}, caption="Compared")

    def table(self) -> Display:
        """Every system in every metric, published rows beneath."""
        return html.together([self._table(direction) for direction in self.directions])

    def _table(self, direction: str) -> Display:
        metrics = [name for name in self.metrics if name.startswith(f"{direction}/")]
        scores = {(one.system, one.metric): one for one in self.results["scores"]}
        gains = {(one.system, one.metric): one for one in self.results["gains"]}
        rows: dict[str, list[str]] = {"system": list(self.labels)}
        for metric in metrics:
            cells = [_cell(scores[label, metric], gains.get((label, metric))) for label in self.labels]
            cells += [_amount(metric, one.values[metric]) if metric in one.values else "—" for one in self._published()]
            rows[self._title(metric)] = cells
        rows["system"] += [f"{one.name} ({one.source or 'published'}; unpaired)" for one in self._published()]
        size = next(one for one in self.results["scores"] if one.metric == metrics[0])
        caption = (
            f"{self._way(direction)}, {size.n:,} queries in {size.clusters:,} clusters. Per cent (ranks as ranks) with "
            f"95 % intervals of each system alone; * better, † worse than {self.baseline}, p (Holm) at most 0.05"
        )
        return html.table(rows, caption=caption)

    def _published(self) -> Sequence[Any]:
        return tuple(self.results["published"])

    def gains(self, direction: str) -> Display:
        """Differences to the baseline with interval, corrected test, queries won and lost."""
        mine = [one for one in self.results["gains"] if one.metric.startswith(f"{direction}/")]
        if not mine:
            return note(ONE if direction else "These data are asked in one direction only.")
        rows = {
            "system": [one.system for one in mine],
            "metric": [self._title(one.metric) for one in mine],
            "difference (points)": [_signed(one.metric, one.difference) for one in mine],
            "95 % interval": [
                f"{_signed(one.metric, one.low)} to {_signed(one.metric, one.high)}" if math.isfinite(one.low) else "—"
                for one in mine
            ],
            "p (Holm)": [_p(one.p_holm) for one in mine],
            "better / alike / worse": [f"{one.wins:,} / {one.ties:,} / {one.losses:,}" for one in mine],
            "reading": [f"{_VERDICTS[one.verdict]}; detectable: {_amount(one.metric, one.minimum_detectable)}"
                        for one in mine],
        }  # fmt: skip
        caption = (
            f"{self._way(direction)} against {self.baseline}, paired on the same queries. Holm's correction is over "
            f"all {len(self.results['gains'])} comparisons of this report; detectable: the smallest true difference "
            "found four times in five"
        )
        parts = [html.table(rows, caption=caption)]
        warned = {text: ", ".join(f"{one.system} {one.metric}" for one in mine if text in one.warnings)
                  for text in dict.fromkeys(text for one in mine for text in one.warnings)}  # fmt: skip
        if warned:
            careful = {"comparison": list(warned.values()), "caution": list(warned)}
            parts.append(html.table(careful, caption="Read these with care"))
        return html.together(parts)

    def differences(self, direction: str) -> Display:
        """The differences in the first metric of a direction, with intervals."""
        mine = self._headline(direction)
        if not mine:
            return note("Nothing to draw.")
        metric = mine[0].metric
        factor = 100 if _is_share(metric) else 1
        fig, ax = plots.figure("wide" if len(mine) <= 8 else "tall")
        values = [[factor * getattr(one, name) for one in mine] for name in ("difference", "low", "high")]
        unit = f"difference in {self._title(metric)} ({'points' if factor == 100 else 'places'})"
        curves.paired_differences([one.system for one in mine], *values, ax=ax, unit=unit)
        return html.figure(
            fig,
            alt="; ".join(f"{one.system}: {_signed(metric, one.difference)} {_VERDICTS[one.verdict]}" for one in mine),
            caption=plots.caption(
                f"Against {self.baseline}. Filled dots are clear of zero before the correction for many comparisons.",
                n=mine[0].n, interval=INTERVALS,
            ),
            table={"system": [one.system for one in mine], "difference": values[0], "low": values[1],
                   "high": values[2]},
        )  # fmt: skip

    def outcomes(self, direction: str) -> Display:
        """How many queries each system wins and loses."""
        mine = self._headline(direction)
        if not mine:
            return note("Nothing to draw.")
        fig, ax = plots.figure("wide" if len(mine) <= 6 else "tall")
        counts = [[getattr(one, name) for one in mine] for name in ("wins", "ties", "losses")]
        comparison.outcomes([one.system for one in mine], *counts, ax)
        return html.figure(
            fig,
            alt="; ".join(f"{one.system}: {one.wins:,} better, {one.losses:,} worse" for one in mine),
            caption=plots.caption(
                f"Queries on which {self._title(mine[0].metric)} is better or worse than with {self.baseline}. A small "
                "difference can hide many changes in both directions.", n=mine[0].n,
            ),
            table={"system": [one.system for one in mine], "better": counts[0], "alike": counts[1],
                   "worse": counts[2]},
        )  # fmt: skip

    def changed(self, direction: str) -> Display:
        """The largest wins and losses of every system, with the pictures that the runs kept."""
        if not self.candidates or not direction:
            return note(ONE if direction else "These data are asked in one direction only.")
        best = [one.system for one in sorted(self._headline(direction), key=lambda one: -abs(one.difference))][:3]
        return html.together([self._changed(label, direction) for label in best])

    def _changed(self, label: str, direction: str) -> Display:
        """Pictures where the runs kept some, else one table of both kinds."""
        both = {kind: self.results[f"examples {kind} {label} {direction}"] for kind in ("wins", "losses")}
        if any(card.image_id in self.run.thumbnails for found in both.values() for card in found.cards):
            return html.together([
                self.look(f"{kind} {label} {direction}") if found.cards else note(f"{found.title}: none.")
                for kind, found in both.items()
            ])  # fmt: skip
        cards = [(kind, card) for kind, found in both.items() for card in found.cards if card.right != 0]
        if not cards:
            return note(f"{label}, {direction}: no query changes.")
        rows = {
            "query": [card.text.removeprefix("query ") for _, card in cards],
            "": [{"wins": "better", "losses": "worse"}[kind] for kind, _ in cards],
            "first right result": [card.note.removeprefix("right: ") for _, card in cards],
        }
        caption = f"{label}, {direction}: {both['wins'].rule}. The runs kept no picture of these."
        return html.table(rows, caption=caption)

    def places(self, direction: str) -> Display:
        """The places each system could hold in the first metric."""
        metric = next((name for name in self.metrics if name.startswith(f"{direction}/")), "")
        found = self.results["places"].get(metric)
        if found is None:
            return note("Nothing to rank: it takes two systems and two clusters of queries.")
        fig, ax = plots.figure("small" if len(self.labels) <= 8 else "tall")
        comparison.places(self.labels, found.low, found.high, found.ranks, ax)
        words = [
            f"{label}: {low} to {high}" for label, low, high in zip(self.labels, found.low, found.high, strict=True)
        ]
        return html.figure(
            fig,
            alt="Places. " + "; ".join(words),
            caption=plots.caption(
                f"Places by {self._title(metric)}: the dot is the place in these data, the bar all places that the "
                "true order could give; all bars hold at once with 95 %. Overlapping bars: the order is not settled.",
                n=found.n, interval="simultaneous, step-down, signs of clusters flipped",
            ),
            table={"system": self.labels, "place": found.ranks.tolist(), "from": found.low.tolist(),
                   "to": found.high.tolist()},
        )  # fmt: skip

    def seeds(self) -> Display:
        """Systems with several seeds: spread, mean, and what reporting the best seed adds."""
        found = self.results["seeds"]
        if not found:
            return note("No two runs differ by a seed alone." if self._rising() else NO_SHARE)
        rows = {
            "system": [one.name for one in found],
            "metric": [self._title(one.metric, way=True) for one in found],
            "seeds": [len(one.values) for one in found],
            "mean (%)": [_with(one.summary.value, one.summary.low, one.summary.high) for one in found],
            "sd (points)": [f"{100 * one.sd:.2f}" for one in found],
            "best seed (%)": [f"{100 * one.best:.2f}" for one in found],
            "reporting the best adds (points)": [f"{100 * one.optimism:+.2f}" for one in found],
        }
        parts = [html.table(rows, caption="Runs that differ by a seed alone; intervals over seeds and queries")]
        heads = [one for one in found if one.metric == found[0].metric]
        fig, ax = plots.figure("small")
        values = [[100 * value for value in one.values] for one in heads]
        ends = [[100 * getattr(one.summary, name) for one in heads] for name in ("value", "low", "high")]
        unit = f"{self._title(heads[0].metric, way=True)} (%)"
        comparison.seed_values([one.name for one in heads], values, *ends, ax, unit=unit)
        parts.append(html.figure(
            fig,
            alt="; ".join(f"{one.name}: mean of {len(one.values)} {100 * one.summary.value:.2f} %" for one in heads),
            caption=plots.caption(
                "Grey: single seeds. Blue: their mean. A gain no larger than their spread can be a lucky seed.",
                n=heads[0].summary.n_queries, interval="crossed random effects of seeds and clusters",
            ),
            table={
                "system": [one.name for one in heads for _ in one.values],
                "seed": [seed for one in heads for seed in one.seeds],
                "value": [value for each in values for value in each],
            },
        ))  # fmt: skip
        return html.together([*parts, self._seed_gains()])

    def _seed_gains(self) -> Display:
        found = self.results["seed gains"]
        if not found:
            return note("The baseline or its rivals have one seed each: the test above is over queries only.")
        rows = {
            "system": [f"{one.second} over {one.first}" for one in found],
            "metric": [self._title(one.metric, way=True) for one in found],
            "difference (points)": [
                _signed(one.metric, one.difference)
                + (f" ({100 * one.low:+.2f} to {100 * one.high:+.2f})" if math.isfinite(one.low) else "")
                for one in found
            ],
            "p, seeds and queries": [_p(one.p_value) for one in found],
            "Welch's t, seeds alone": [
                f"{one.welch_t:.2f} (df {one.welch_df:.1f}, p {_p(one.welch_p)})" if math.isfinite(one.welch_t) else "—"
                for one in found
            ],
        }
        return html.table(rows, caption="Means over seeds held against each other, not corrected")

    def factors(self) -> Display:
        """Which choice moves the metric: shares of the variance between crossed runs."""
        found = self.results["factors"]
        if not found:
            crossed = "The runs do not cross two or more fields: every combination must occur, equally often."
            return note(crossed if self._rising() else NO_SHARE)
        return html.together([self._factor(metric) for metric in dict.fromkeys(one.metric for one in found)])

    def _factor(self, metric: str) -> Display:
        mine = [one for one in self.results["factors"] if one.metric == metric]
        fig, ax = plots.figure("small")
        comparison.shares([one.name for one in mine], [one.share for one in mine], ax)
        rows = {
            "factor": [one.name for one in mine],
            "share of variance": [f"{one.share:.1%}" for one in mine],
            "levels": [
                ", ".join(f"{level or '(empty)'} {100 * mean:.2f} %"
                          for level, mean in zip(one.levels, one.means, strict=True)) or "—"
                for one in mine
            ],
            "best minus worst (points)": [
                f"{100 * one.difference:+.2f} ({100 * one.low:+.2f} to {100 * one.high:+.2f})"
                if math.isfinite(one.difference) else "—" for one in mine
            ],
        }  # fmt: skip
        drawn = html.figure(
            fig,
            alt="; ".join(f"{one.name}: {one.share:.0%} of the variance" for one in mine),
            caption=plots.caption(
                f"{self._title(metric, way=True)}: how much of the variance between these runs goes with each field. "
                "The shares describe these runs and levels, not others.",
            ),
            table={"factor": [one.name for one in mine], "share": [one.share for one in mine]},
        )
        return html.together([drawn, html.table(rows, caption="Averages over all other fields, paired over queries")])

    def courses(self) -> Display:
        """The metric along a field, with the point that validation chose and the one the test would choose."""
        found = self.results.get("courses", ())
        if not found:
            return note("No field was named: -p over=step draws the metric along it.")
        return html.together([self._course(one) for one in found])

    def _course(self, one: Any) -> Display:
        fig, ax = plots.figure("wide")
        percent = [[100 * value for value in getattr(one, name)] for name in ("value", "low", "high", "validation")]
        title = self._title(one.metric, way=True)
        comparison.course(
            one.x, one.labels, *percent, ax, chosen=one.chosen, best=one.best, unit=f"{title} (%)", field=one.field
        )
        choice = (
            "No validation score is known, so nothing says which point may be reported."
            if one.chosen < 0 else
            f"Validation chose {one.labels[one.chosen]}; the test would choose {one.labels[one.best]}, "
            f"{100 * one.optimism:.2f} points higher."
        )  # fmt: skip
        return html.figure(
            fig,
            alt=f"{title} along {one.field}, best at {one.labels[one.best]}. {choice}",
            caption=plots.caption(choice, interval="95 % cluster bootstrap of each run alone"),
            table={one.field: list(one.labels), "value": percent[0], "low": percent[1], "high": percent[2]}
            | ({"validation": percent[3]} if one.validation else {}),
        )

    def policy(self) -> Display:
        """Every requirement: met, not met, undecided."""
        found = self.results["policy"]
        if not found:
            return note("No policy was given: -p policy=FILE.json holds requirements against the runs.")
        rows = {
            "system": [one.system for one in found],
            "requirement": [str(one.requirement) for one in found],
            "value": [_amount(one.requirement.metric, one.value) for one in found],
            "95 % interval": [
                f"{_amount(one.requirement.metric, one.low)} to {_amount(one.requirement.metric, one.high)}"
                for one in found
            ],
            "n": [one.n for one in found],
            "answer": [one.answer for one in found],
            "reason": [one.requirement.reason for one in found],
        }
        return html.table(
            rows, caption="Met: the whole interval keeps the bound. Undecided: the interval holds both answers"
        )

    def certificates(self) -> Display:
        """Which layer tells each run from the baseline first, and where the change dies out."""
        found = self.results["certificates"]
        if not found:
            return note(ONE)
        rows = {
            "system": list(found),
            "first layer that differs": [one["first"] or "none" for one in found.values()],
            "last layer that differs": [one["last"] or "—" for one in found.values()],
            "verdict": [one["verdict"] for one in found.values()],
            "what its own report found": [one["findings"] for one in found.values()],
        }
        return html.table(rows, caption=f"Layer by layer against {self.baseline}")

    def files(self) -> Display:
        """What lies beside the report."""
        kept = {name: text for name, text in _FILES.items() if (self.run.path / name).exists()}
        rows = kept | {"figures": _FIGURES}
        return html.table({"file": list(rows), "holds": list(rows.values())}, caption="Beside this report")

    def _rising(self) -> bool:
        return any(map(_is_share, self.metrics))

    def _headline(self, direction: str) -> list[Any]:
        """The comparisons of a direction in its first metric."""
        metric = next((name for name in self.metrics if direction and name.startswith(f"{direction}/")), "")
        return [one for one in self.results["gains"] if one.metric == metric]

    def _title(self, metric: str, *, way: bool = False) -> str:
        direction, _, name = metric.partition("/")
        return (f"{self._way(direction)} " if way else "") + shown_metric(name, self.names)

    def _way(self, direction: str) -> str:
        return curves.WORDS.get(direction, shown_direction(direction, "clip"))


_VERDICTS = {
    "gain": "the gain is real",
    "loss": "a loss",
    "not shown": "not shown",
    "identical": "no query differs",
}
_FIGURES = "every figure as PDF, beside the numbers it draws as CSV"
_FILES = {
    "table.csv": "every number of this report in full precision",
    "table.tex": "the table for a paper (booktabs)",
    "metrics.json": "the differences with interval and p",
    "findings.json": "the verdicts above",
    "per_query.parquet": "one row per direction and query, one column per system and metric",
    "results.json": "what the figures draw",
    "manifest.json": "what was compared, parameters, versions, timings",
}


def _is_share(metric: str) -> bool:
    return higher_is_better(metric.rpartition("/")[2])


def _amount(metric: str, value: float) -> str:
    if not math.isfinite(value):
        return "—"
    return f"{100 * value:.2f}" if _is_share(metric) else f"{value:.2f}"


def _signed(metric: str, value: float) -> str:
    if not math.isfinite(value):
        return "—"
    return f"{100 * value:+.2f}" if _is_share(metric) else f"{value:+.2f}"


def _with(value: float, low: float, high: float) -> str:
    return f"{100 * value:.2f} ({100 * low:.2f} to {100 * high:.2f})"


def _cell(score: Any, gain: Any) -> str:
    text = _amount(score.metric, score.value)
    if math.isfinite(score.low):
        text += f" ({_amount(score.metric, score.low)} to {_amount(score.metric, score.high)})"
    return text + ("" if gain is None else {"gain": " *", "loss": " †"}.get(gain.verdict, ""))


def _p(value: float) -> str:
    return "—" if not math.isfinite(value) else f"{value:.3f}" if value >= 0.001 else "< 0.001"
