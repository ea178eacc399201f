"""Whether queries that ask for the same image agree: languages, paraphrases, templates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench import html, plots
from workbench.plots import consistency
from workbench.report.audit import AuditReport, note

if TYPE_CHECKING:
    from workbench.html import Display

ONE_WAY = "These data are asked in one direction only."
NO_TEMPLATES = 'No templates were asked for: templates=["a photo of {}", ...] scores the same texts under each.'
NAMES = (
    "The name Mean Rank Variance is printed for the mean standard deviation (the code of its authors) and promises the "
    "mean variance: say which."
)


class ConsistencySection(AuditReport):
    """This part of the report; nothing is computed here."""

    def agreement(self, direction: str) -> Display:
        """How far apart the ranks of one item are over groups, against groups that have nothing in common."""
        found = self._grouped(direction)
        if isinstance(found, str):
            return note(found)
        fig, ax = plots.figure("wide")
        consistency.spreads(found, ax)
        table, left_out = found.table(), found.n_left_out
        missing = f" {left_out:,} items that some group does not ask for are left out." if left_out else ""
        drawn = html.figure(
            fig,
            alt="; ".join(f"{kind}: {row.value:.3g}, independent {row.independent:.3g}" for kind, row in
                          zip(table.index, table.itertuples(), strict=True)),
            caption=plots.caption(
                "Left of the band: groups agree on which items are easy, more than their recall makes them; on it, the "
                f"spread only restates the recall. {NAMES}{missing}",
                data=f"ranks by {found.column} ({', '.join(found.groups)}) among {found.n_gallery:,}, other right "
                "answers not counted", n=len(found.ranks), interval="95 % cluster bootstrap over items; band: 95 % of "
                "permutations",
            ),
            table=table.reset_index(),
        )  # fmt: skip
        caption = (
            f"{direction}: ranks by {found.column}, and whether a group finds easy what the others find easy; "
            f"concordance of all: {found.concordance.value:.2f} ({found.concordance.low:.2f} to "
            f"{found.concordance.high:.2f}; 1 alike, 0 nothing in common); {found.level_share:.0%} of the variance of "
            "log ranks within an item is a difference in level between groups"
        )
        return html.together([drawn, html.table(found.group_table().reset_index(), caption=caption)])

    def found_together(self, direction: str, k: int = 1) -> Display:
        """How many groups find the same item."""
        found = self._grouped(direction)
        if isinstance(found, str):
            return note(found)
        fig, ax = plots.figure("small")
        consistency.found_by(found, ax, k=k)
        counted, expected = found.found_by(k)
        return html.figure(
            fig,
            alt=f"{direction}: {counted[-1]:,} of {counted.sum():,} items are found by every group, {counted[0]:,} by "
            f"none; groups with nothing in common would give {expected[-1]:.0f} and {expected[0]:.0f}.",
            caption=plots.caption(
                "Bars above the dashes at both ends: the groups succeed and fail on the same items.", n=len(found.ranks)
            ),
            table={"groups": list(range(len(counted))), "items": counted.tolist(), "independent": expected.tolist()},
        )

    def cut_lists(self, direction: str) -> Display:
        """What cutting the ranked lists does to the spread of ranks."""
        found = self._grouped(direction)
        if isinstance(found, str):
            return note(found)
        caption = (
            f"{direction}: mean spread of an item's ranks from exact ranks and from lists that are cut. Filled with "
            "one low score, what is behind the cut lands wherever it stood in the gallery: the spread measures the cut"
        )
        return html.table(found.truncation(), caption=caption)

    def group_recall(self, direction: str) -> Display:
        """Headline metrics by group, worst first, each against the rest, paired by image."""
        if direction not in self.directions:
            return note(ONE_WAY)
        found = self.results.get(f"recall by group {direction}")
        if found is None:
            return note(self.results.get("consistency not measured", "No metric of which more is better is measured."))
        return html.together(self._sliced(found))

    def cycles(self) -> Display:
        """There and back: do the two sides choose each other?"""
        found = [one for name, one in self.results.items() if name.startswith("cycle ")]
        if not found:
            return note(f"Not measurable: {self.results['cycles not measured']}")
        fig, ax = plots.figure("small")
        consistency.cycles(found, ax)
        tables = [one.table().reset_index().assign(direction=one.direction) for one in found]
        rows = {
            name: [value for table in tables for value in table[name]]
            for name in ["direction", *tables[0].columns[:-1]]
        }
        return html.figure(
            fig,
            alt="; ".join(
                f"{one.direction}: {one.same_item.value:.0%} come back to their item, {one.closed_wrong.value:.0%} "
                "over a wrong one" for one in found
            ),
            caption=plots.caption(
                "A cycle uses no labels: it reads the same when all items have changed places, so only the part over "
                "right items is about being right. The grey mark is the most that the same vectors reach after one "
                f"side is turned at random. Of {found[0].n_queries:,} queries with independent scores "
                f"{found[0].chance:.1%} come back to themselves, far more than one.",
                n=found[0].n_queries, interval=self.intervals,
            ),
            table=rows,
        )  # fmt: skip

    def templates(self) -> Display:
        """How far the score moves with the sentence around the texts."""
        found = [
            one for name, one in self.results.items() if name.startswith("templates ") and not isinstance(one, str)
        ]
        if not found:
            return note(self.results.get("templates not measured", NO_TEMPLATES))
        return html.together([self._template(one) for one in found])

    def _template(self, found: Any) -> Display:
        fig, ax = plots.figure("wide")
        found.plot(ax)
        return html.figure(
            fig,
            alt=f"{found.direction}/{found.metric}: templates lie {100 * found.spread:.1f} points apart.",
            caption=plots.caption(
                "The highest of several means is too high: chosen on these data the best template reads about "
                f"{100 * max(found.optimism, 0):.1f} points better than it is. Equal templates would lie "
                f"{100 * found.spread_null[0]:.1f} points apart by chance; these lie {100 * found.spread:.1f} apart.",
                n=len(found.values), interval=f"{self.intervals}, paired",
            ),
            table=found.table().reset_index(),
        )  # fmt: skip

    def _grouped(self, direction: str) -> Any:
        """The result of a direction, or the sentence that stands in its place."""
        if direction not in self.directions:
            return ONE_WAY
        return self.results.get(f"consistency {direction}") or self.results["consistency not measured"]
