"""The ledger as one offline page: per paper the claim, the picture, the verdict, the conditions and the cost."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from workbench import html
from workbench.files import write_atomically, write_json
from workbench.html import ledger as pieces
from workbench.machine import git_revision, hardware, versions
from workbench.report import studies as shown
from workbench.shipped import find

if TYPE_CHECKING:
    from workbench.html import Display
    from workbench.studies import StudyResult, Verdict

TITLE = "Ledger of claims"
OPENING = (
    "Each paper's mechanism was built in its honest form and held against controls, over several seeds. The verdict "
    "follows from one rule that knows no names: an effect is the difference to the *strongest* control, and a claim "
    "holds when the whole 95 % interval over seeds lies at or above the least difference that counts, which was "
    "written down before anything ran. A claim that does not hold stays here, with the conditions under which it "
    "would. The worlds are small: a verdict is about the mechanism at this size, not about the paper's systems."
)


def measure_and_write(
    keys: Sequence[str], *, size: str, n_seeds: int | None, dataset: str, out: Path, progress: bool
) -> Path:
    """Run studies and write ``ledger.json`` and ``ledger.html`` into ``out``; returns the page.

    With a data set, studies that build their own worlds are left out unless they are asked for by name.
    """
    from workbench import __version__
    from workbench.studies import STUDIES, Size, ledger, run_studies

    started = time.perf_counter()
    data = shown.own_data(dataset) if dataset else None
    chosen = [STUDIES[key] for key in keys if data is None or STUDIES[key].own is not None or len(keys) < len(STUDIES)]
    results = run_studies(
        chosen, size=cast(Size, size), n_seeds=n_seeds, folder=out / "seeds", data=data, progress=progress
    )
    manifest = {
        "workbench": __version__, "git_revision": git_revision(), "size": size, "versions": versions(),
        "hardware": hardware(), "seconds": round(time.perf_counter() - started, 1),
    }  # fmt: skip
    write_json(out / "ledger.json", ledger(results, manifest))
    write_atomically(out / "ledger.html", page(results, manifest).encode())
    return out / "ledger.html"


def _read(path: Path | None) -> tuple[dict[str, Any], tuple[StudyResult, ...]]:
    from workbench.studies import read_ledger

    return read_ledger(find("data/ledger.json") if path is None else path)


def lines(path: Path | None = None) -> list[str]:
    """One line per result of a ledger, the shipped one when no path is given: key, answer, title."""
    found = _read(path)[1]
    answers = [_short(one.verdict) for one in found]
    width = max(map(len, answers), default=0)
    return [
        f"{one.card.key}  {answer:<{width}}  {one.card.title}{_where(one)}{_outdated(one)}"
        for one, answer in zip(found, answers, strict=True)
    ]


def _short(verdict: Verdict) -> str:
    """The answer, with how many of the claims hold where only some do."""
    claims = [one for one in verdict.claims if not one.claim.check]
    holding = sum(one.answer == "holds" for one in claims)
    partly = verdict.answer not in ("holds", "fails", "inconclusive")
    return f"{holding} of {len(claims)} claims hold" if partly else verdict.answer


def _outdated(found: StudyResult) -> str:
    """A word where the numbers were measured with other code than is installed."""
    from workbench.studies import STUDIES
    from workbench.studies.identity import code_digest

    known = STUDIES.get(found.card.key)
    same = known is not None and code_digest(known.measure.__module__) == found.code
    return "" if same else " (measured with other code)"


def described(key: str, path: Path | None = None) -> str:
    """Everything that the page says of one paper, as text."""
    found = [one for one in _read(path)[1] if one.card.key == key]
    if not found:
        raise ValueError(f"this ledger has no {key}; `workbench studies run {key}` measures it")
    return "\n\n".join("\n\n".join(display.text for display in section(one)) for one in found)


def page(results: Sequence[StudyResult], manifest: Mapping[str, Any]) -> str:
    """The whole page as HTML, one file that loads nothing."""
    import nbformat.v4 as v4

    cells: list[Any] = [v4.new_markdown_cell(f"# {TITLE}\n\n{OPENING}")]
    cells.append(_cell(v4, pieces.overview([_line(one) for one in results])))
    for one in results:
        cells.append(v4.new_markdown_cell(f"## {_heading(one)}"))
        cells += [_cell(v4, display) for display in section(one)]
    cells.append(v4.new_markdown_cell("## How this ledger was made"))
    cells.append(_cell(v4, html.protocol_card(_flattened(manifest), title="Manifest")))
    return html.render(v4.new_notebook(cells=cells), title=TITLE)


def section(found: StudyResult) -> list[Display]:
    """All that the page says of one study."""
    card = found.card
    byline = f"{', '.join(card.authors)}. {card.venue} {card.year}."
    verdict = found.verdict
    return [
        pieces.paper(byline, card.link, card.claim, _short(verdict), verdict.answer),
        shown.claims(found),
        shown.arms(found),
        pieces.facts(
            [("expected", [card.expected]), ("conditions", [card.conditions]), ("baselines", [card.tuned]),
             ("an imitation", [card.refuses, shown.fake(found).text]), ("tried before", [card.prior]),
             ("paper and code", card.deviations), ("measured on", [_measured(found)]), ("cost", [_cost(found)]),
             ("to be read in", [f"notebooks/studies/{found.family}.ipynb"])],
            title="About this experiment",
        ),
    ]  # fmt: skip


def decisive(found: StudyResult) -> str:
    """The claim nearest to its bar, in words: what the verdict hangs on."""
    open_claims = [one for one in found.verdict.claims if not one.claim.check] or list(found.verdict.claims)
    one = min(open_claims, key=lambda c: abs(c.effect - c.claim.least) / (abs(c.claim.least) + c.high - c.low + 1e-12))
    number = html.number
    effect = f"{number(one.effect)} ({number(one.low)} to {number(one.high)}) {one.claim.unit}"
    return (
        f"{one.claim.says}: {effect}, held against \u201c{one.control}\u201d; {number(one.claim.least)} or more counts"
    )


def _line(found: StudyResult) -> tuple[str, str, str, str, str]:
    return _anchor(found), _heading(found), found.card.claim, _short(found.verdict), decisive(found)


def _heading(found: StudyResult) -> str:
    plain = "".join(" " if letter in "<>[]*_`$#|\\&" else letter for letter in found.card.title)
    where = "".join(" " if letter in "<>[]*_`$#|\\&" else letter for letter in found.data)
    return f"{found.card.key} {plain}" + (f" on {where}" if where else "")


def _cell(v4: Any, display: Display) -> Any:
    """A notebook cell without code that shows a display."""
    shown_as = v4.new_output("display_data", data={"text/html": display.body, "text/plain": display.text})
    return v4.new_code_cell("", outputs=[shown_as])


def _where(found: StudyResult) -> str:
    return f" (on {found.data})" if found.data else ""


def _anchor(found: StudyResult) -> str:
    """The id that the page gives to the heading."""
    return html.anchor(_heading(found))


def _measured(found: StudyResult) -> str:
    where = found.data or f"its own world at size {found.size}"
    published = f"; published numbers for {', '.join(found.facts)}" if found.facts else ""
    return f"{where}, {len(found.seeds)} seeds{published}; code {found.code[:12]}"


def _cost(found: StudyResult) -> str:
    return f"{sum(found.seconds):.0f} s of processor time for all seeds; {found.stated:g} s promised"


def _flattened(manifest: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, value in manifest.items():
        if isinstance(value, Mapping):
            rows |= _flattened(value, f"{prefix}{name} ")
        else:
            rows[f"{prefix}{name}"] = value
    return rows
