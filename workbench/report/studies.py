"""What a notebook of studies shows, and the words that the ledger page shares with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import html
from workbench.html import ledger as pieces
from workbench.parameters import Schema, read_schema
from workbench.plots import caption
from workbench.plots import studies as plots
from workbench.report.audit import note
from workbench.shipped import find

if TYPE_CHECKING:
    from workbench.html import Display
    from workbench.studies import StudyResult
    from workbench.studies.verdict import Judged

SEEDS = Path("runs") / "studies" / "seeds"


class Lab:
    """The studies of one notebook, measured when they are first shown; seeds that are kept are not run again.

    paper : measure this one only, "" for all. seeds : 0 for as many as the study asks for. dataset : somebody's own
    embeddings, "" for the worlds of the studies.
    """

    def __init__(self, *, paper: str = "", seeds: int = 0, size: str = "small", dataset: str = "") -> None:
        from workbench.studies import STUDIES

        if paper and paper not in STUDIES:
            raise ValueError(f"no study of {paper!r}; there is {', '.join(STUDIES)}")
        self.paper, self.seeds, self.size, self.dataset = paper, seeds, size, dataset
        self._done: dict[str, StudyResult] = {}

    def __repr__(self) -> str:
        seeds = f"{self.seeds} seeds each" if self.seeds else "as many seeds as each study asks for"
        where = self.dataset or "the studies' own worlds"
        return f"{self.paper or 'all studies of this notebook'} at size {self.size}, {seeds}, on {where}"

    def result(self, key: str) -> StudyResult | None:
        """The measured study; None when the notebook was asked for another paper, or the study takes no embeddings."""
        from workbench.studies import STUDIES, run_study

        study = STUDIES[key]
        if (self.paper and self.paper != key) or (self.dataset and study.own is None):
            return None
        if key not in self._done:
            data = own_data(self.dataset) if self.dataset else None
            self._done[key] = run_study(study, size=self.size, n_seeds=self.seeds or None, folder=SEEDS, data=data)  # type: ignore[arg-type]
        return self._done[key]

    def card(self, key: str) -> Display:
        """The paper and what it says."""
        from workbench.studies import STUDIES

        card = STUDIES[key].card
        return pieces.facts(
            [("paper", [f"{', '.join(card.authors)}: {card.title}. {card.venue} {card.year}.", card.link]),
             ("claim", [card.claim]), ("conditions", [card.conditions]), ("expected", [card.expected]),
             ("not this", [card.refuses]), ("baselines", [card.tuned]), ("in the code", card.deviations)],
            title=card.key,
        )  # fmt: skip

    def arms(self, key: str) -> Display:
        """Every arm of every condition, seed by seed."""
        found = self.result(key)
        return self._left_out(key) if found is None else arms(found)

    def verdict(self, key: str) -> Display:
        """Every claim with its effect over the strongest control, and what follows."""
        found = self.result(key)
        return self._left_out(key) if found is None else html.together([verdict(found), fake(found)])

    def _left_out(self, key: str) -> Display:
        if self.paper and self.paper != key:
            return note(f"{key} was not asked for: paper={self.paper}.")
        return note(f"{key} builds its own world and cannot be asked of given embeddings; leave dataset empty.")


def own_data(source: str) -> tuple[str, Any, Any, Any]:
    """Name, texts, images and relevance of a collection of embeddings, for the studies that take them."""
    from workbench.datasets import load
    from workbench.types import Embeddings

    found = load(source)
    if not isinstance(found.images, Embeddings) or not isinstance(found.texts, Embeddings):
        raise ValueError(f"a study takes embeddings, such as dataset=embeddings:vectors.npz; got {source!r}")
    return found.card.name, found.texts, found.images, found.relevance


def families() -> dict[str, Path]:
    """The notebooks of studies by family."""
    return {path.stem: path for path in sorted(find("notebooks/studies").glob("*.ipynb"))}


def schema_of(family: str) -> Schema:
    """The parameters of a notebook of studies."""
    return read_schema(families()[family])


def start(family: str, namespace: Mapping[str, Any]) -> Lab:
    """Check the parameters of a notebook of studies and open its lab."""
    given = schema_of(family).check(namespace)
    return Lab(paper=given["paper"], seeds=given["seeds"], size=given["size"], dataset=given["dataset"])


def arms(found: StudyResult) -> Display:
    """Every arm of every condition, seed by seed, with the numbers folded beneath."""
    n = len(found.seeds)
    reading = "Each small mark is a seed, each large one the mean of its arm; every condition has its own scale."
    return html.figure(
        plots.arms(found.values(), found.roles(), found.units()),
        alt=f"{found.card.key}: the value of every arm under {len(found.values())} conditions",
        caption=caption(reading, data=found.data or f"{found.size} size, {n} seeds"),
        table=found.table(),
    )


def verdict(found: StudyResult) -> Display:
    """The verdict in a sentence, and the claims."""
    return html.together([note(f"{found.card.key}: {found.verdict.answer}."), claims(found)])


def claims(found: StudyResult) -> Display:
    """The claims as a figure, with a table of their numbers."""
    judged = found.verdict
    return html.figure(
        plots.claims(judged.claims),
        alt=f"{found.card.key}: effect of {len(judged.claims)} claims; verdict {judged.answer}",
        caption=caption(
            "The bar is the least difference that counts: a claim holds where its whole interval lies at it or right "
            "of it.", interval="95 %, Student's t over seeds, paired",
        ),
        table=[_row(one) for one in judged.claims],
    )  # fmt: skip


def fake(found: StudyResult) -> Display:
    """What the same rule says when the imitation stands in the place of the mechanism."""
    lost = [
        one.claim.says
        for one, other in zip(found.verdict.claims, found.fake.claims, strict=True)
        if one.answer == "holds" and other.answer != "holds"
    ]
    if not any(one.answer == "holds" for one in found.verdict.claims):
        return note("Could it fail? No claim holds at this size, so the imitation has nothing to lose.")
    said = "; ".join(lost) if lost else "none of them"
    return note(f"Could it fail? With the imitation in place, of the claims that hold these no longer do: {said}.")


def _row(one: Judged) -> dict[str, Any]:
    return {
        "claim": one.claim.says + (" (check)" if one.claim.check else ""), "condition": one.claim.condition,
        "arm": f"{one.claim.arm}: {html.number(one.value)}",
        "strongest control": f"{one.control}: {html.number(one.control_value)}",
        "effect": f"{html.number(one.effect)} ({html.number(one.low)} to {html.number(one.high)})",
        "least": html.number(one.claim.least), "unit": one.claim.unit, "answer": one.answer,
    }  # fmt: skip
