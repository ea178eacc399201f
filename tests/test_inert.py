"""Hostile text stays text: a report on hostile names has, tag by tag, the structure of one on harmless names."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from PIL import Image

from workbench import html, report
from workbench.evaluate import audit_schema, evaluate
from workbench.html.export import render

PAYLOADS = [
    "<script>document.title='pwned'</script>",
    '"><img src=x onerror="document.title=\'pwned\'">',
    "' onmouseover='document.title=1' x='",
    "[click](javascript:document.title='pwned')",
    "![x](http://127.0.0.1:9/pwned.png)",
    "<a href=\"javascript:document.title='pwned'\">pwned</a>",
    "</style></script></title></pre></table></figure><h1 id=pwned>pwned</h1>",
    "<svg onload=\"document.title='pwned'\"></svg>",
    "${document.title='pwned'} {{ 7*7 }} {% raw %} {%%} #{7*7}",
    "$\\href{javascript:alert(1)}{pwned}$ and $$\\pwned$$ \\(x\\) \\[y\\]",
    "<!-- pwned --> ]]> <![CDATA[ <?php pwned ?>",
    "\x1b[31mred\x1b[0m \x1b]8;;http://pwned\x07link\x1b]8;;\x07 \x9b31m",
    "\u202eevil\u202c \u2066isolate\u2069 \u200f",
    "nul \x00 vertical \x0b delete \x7f next \x85",
    "lone \ud800 and \udcff surrogates",
    "# heading\n\n- list\n\n| a | b |\n|---|---|\n``` \n</code>",
    "&lt;script&gt; &amp;amp; &#60;b&#62; &nbsp",
    "javascript:document.title='pwned'",
    "<style>body{display:none}</style><base href=//pwned><meta http-equiv=refresh content=0>",
    "<iframe srcdoc='<script>top.document.title=1</script>'></iframe><math><mi xlink:href=javascript:1>",
]
WORDS = ("red", "green", "blue")


class Colours:
    """A user's own encoder with a name of its own choice."""

    def __init__(self, name: str) -> None:
        self.name = name

    def encode_image(self, images: list[Image.Image]) -> np.ndarray:
        return np.array([np.asarray(image, float).mean((0, 1)) for image in images]) + 1

    def encode_text(self, texts: list[str]) -> np.ndarray:
        return np.array([[255.0 * (word in text) + len(text.split("|")[0]) for word in WORDS] for text in texts]) + 1


def said(number: int, *, hostile: bool) -> str:
    """The n-th payload, or the harmless text that takes its place; both sort alike."""
    return f"{number:02d} {PAYLOADS[number % len(PAYLOADS)] if hostile else 'harmless'}"


def file_name(number: int, *, hostile: bool) -> str:
    """A payload as the name of a file: without slashes, NUL and surrogates, and short enough for a file system."""
    return re.sub(r"[/\\\x00\ud800-\udfff]", "-", said(number, hostile=hostile))[:80] + ".png"


def world(path: Path, *, hostile: bool) -> Path:
    """22 pictures and 44 captions; every text that a user can bring is a payload, or its harmless twin."""
    folder = path / (file_name(0, hostile=hostile) if hostile else "harmless.png")
    folder.mkdir()
    column = f"kind {PAYLOADS[1] + PAYLOADS[3] if hostile else 'plain'}"
    rows = []
    for number in range(22):
        colour = tuple(40 + (number * step) % 200 for step in (37, 61, 89))
        name = file_name(number, hostile=hostile)
        Image.new("RGB", (40, 40), colour).save(folder / name)
        for order in range(2):
            text = f"{WORDS[number % 3]} {'on' * (order + 1)} {WORDS[(number + order) % 3]} {number:02d} | "
            rows.append({
                "image": name, "caption": text + said(number, hostile=hostile),
                "caption_id": f"{number:02d}-{order}{PAYLOADS[(number + order) % len(PAYLOADS)] if hostile else ''}",
                column: f"{'ab'[number % 2]} {PAYLOADS[number % 2] if hostile else 'group'}",
                "language": f"{'xy'[number % 2]} {PAYLOADS[9 - number % 2] if hostile else 'language'}",
            })  # fmt: skip
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    fields = ("name", "title", "source", "licence", "citation", "captions_per_image", "notes")
    card = {field: said(place, hostile=hostile) for place, field in enumerate(fields)}
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    (folder / (file_name(6, hostile=hostile)[:60] + ".bad.png")).write_bytes(b"no picture")
    return folder


def reported(path: Path, *, hostile: bool) -> Path:
    folder = world(path, hostile=hostile)
    columns = [name for name in json.loads((folder / "captions.jsonl").read_text().split("\n")[0]) if "kind" in name]
    changed = {"dataset": f"folder:{folder}", "slices": [*columns, "language"], "n_resamples": 100, "k": 5,
               "bad_images": "record", "smallest_group": 2}  # fmt: skip
    parameters = audit_schema().check({**audit_schema().defaults, **changed})
    encoder = Colours(PAYLOADS[0] + PAYLOADS[5] if hostile else "harmless")
    return report.report("audit", parameters, out=path / "runs", encoder=encoder, progress=False).folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(hostile, harmless) run folders with reports."""
    return tuple(  # type: ignore[return-value]
        reported(tmp_path_factory.mktemp(name), hostile=name == "hostile") for name in ("hostile", "harmless")
    )


class Skeleton(HTMLParser):
    """Elements with their attributes (but for what alt texts and pictures say), comments, and the text between."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, tuple[tuple[str, str], ...]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        shown = tuple((name, "..." if name in ("alt", "src") else value or "") for name, value in attrs)
        self.elements.append((tag, shown))

    def handle_endtag(self, tag: str) -> None:
        self.elements.append((f"/{tag}", ()))

    def handle_comment(self, data: str) -> None:
        self.elements.append(("!--", (("data", data),)))

    def handle_decl(self, decl: str) -> None:
        self.elements.append(("!", (("data", decl),)))

    def handle_pi(self, data: str) -> None:
        self.elements.append(("?", (("data", data),)))

    def unknown_decl(self, data: str) -> None:
        self.elements.append(("!cdata", (("data", data),)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def skeleton(page: str) -> Skeleton:
    reader = Skeleton()
    reader.feed(page)
    reader.close()
    return reader


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def assert_same_structure(hostile: str, harmless: str) -> None:
    one, other = skeleton(hostile), skeleton(harmless)
    for place, (found, expected) in enumerate(zip(one.elements, other.elements, strict=False)):
        assert found == expected, (place, one.elements[max(0, place - 4) : place + 3])
    assert len(one.elements) == len(other.elements)


CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")

# ---------------------------------------------------------------------------------------------------- fast: displays


def displays(*, hostile: bool) -> Iterator[html.Display]:
    """Everything a report cell can end with, full of one payload after another."""
    from workbench import plots
    from workbench.types import Finding

    for number in range(len(PAYLOADS)):
        text = said(number, hostile=hostile)
        yield html.table({text: [text, text], "n": [1, 2]}, caption=text)
        yield html.findings([Finding(text, 0.5, (0.4, 0.6), 1.0, text, "look", text)])
        yield html.protocol_card({text: text, "list": [text], "map": {text: text}}, title=text)
        card = html.Thumbnail(np.zeros((4, 4, 3), np.uint8), text, text, True)
        yield html.thumbnails([card, html.Thumbnail(None, text, text, None)], caption=text)
        fig, ax = plots.figure("small")
        ax.plot([0, 1], [1, 0])
        yield html.figure(fig, alt=text, caption=text, table={text: [text]})


def test_every_display_keeps_its_structure() -> None:
    for hostile, harmless in zip(displays(hostile=True), displays(hostile=False), strict=True):
        assert_same_structure(hostile._repr_html_(), harmless._repr_html_())
        assert not CONTROL.search(hostile._repr_html_())
        assert not CONTROL.search(repr(hostile))


def test_every_display_is_kept_from_being_typeset() -> None:
    for display in displays(hostile=True):
        first = next(element for element in skeleton(display._repr_html_()).elements if element[0] == "div")
        assert {"mathjax_ignore", "tex2jax_ignore"} <= set(dict(first[1])["class"].split())


def page_of(*, hostile: bool) -> str:
    """A page of all displays, with payloads in title, parameters, stdout and a traceback."""
    from nbformat.v4 import new_code_cell, new_notebook, new_output

    text = html.display.clean(said(0, hostile=hostile) + (" ".join(PAYLOADS) if hostile else ""))
    parameters = 'dataset = "scenes"  # data'
    cells = [new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    cells += [new_code_cell(f"dataset = {json.dumps(text)}", metadata={"tags": ["injected-parameters"]})]
    for display in displays(hostile=hostile):
        data = {"text/html": display._repr_html_(), "text/plain": repr(display)}
        cells.append(new_code_cell("shown", outputs=[new_output("execute_result", data=data)]))
    for output in (
        new_output("stream", name="stdout", text=text), new_output("execute_result", data={"text/plain": text}),
        new_output("error", ename=text, evalue=text, traceback=[text]),
    ):  # fmt: skip
        cells.append(new_code_cell("said", outputs=[output]))
    return render(new_notebook(cells=cells), title=text, language="en")


def test_a_page_of_payloads_keeps_its_structure() -> None:
    page = page_of(hostile=True)
    assert_same_structure(page, page_of(hostile=False))
    assert html.loaded_resources(page) == []
    assert "<script>document" in "".join(skeleton(page).words)


# ---------------------------------------------------------------------------------------------------- whole reports


@pytest.mark.slow
def test_the_report_has_the_structure_of_a_harmless_one(pair: tuple[Path, Path]) -> None:
    pages = [(path / "report.html").read_text(encoding="utf-8") for path in pair]
    assert_same_structure(*pages)
    assert html.loaded_resources(pages[0]) == []
    assert not CONTROL.search(pages[0])
    shown = "".join(skeleton(pages[0]).words)
    for told in ("<script>document.title", "](javascript:", "onerror=", "{{ 7*7 }}", "${document", "\\href{"):
        assert told in shown, told


@pytest.mark.slow
def test_the_notebook_has_the_structure_of_a_harmless_one(pair: tuple[Path, Path]) -> None:
    notebooks = [nbformat.read(path / "report.ipynb", as_version=4) for path in pair]
    template = nbformat.read(report.notebooks()["audit"], as_version=4)
    for hostile, harmless in zip(notebooks[0].cells, notebooks[1].cells, strict=True):
        assert hostile.cell_type == harmless.cell_type
        if hostile.cell_type == "markdown":  # rendered by every frontend: only what we wrote ourselves
            assert hostile.source in [cell.source for cell in template.cells]
            continue
        for one, other in zip(hostile.outputs, harmless.outputs, strict=True):
            assert set(one.data) == set(other.data) <= {"text/html", "text/plain"}
            assert_same_structure(one.data.get("text/html", ""), other.data.get("text/html", ""))
    assert not [text for text in strings(json.loads((pair[0] / "report.ipynb").read_text())) if CONTROL.search(text)]


@pytest.mark.slow
def test_parameters_are_literals(pair: tuple[Path, Path]) -> None:
    cells = nbformat.read(pair[0] / "report.ipynb", as_version=4).cells
    (injected,) = [cell.source for cell in cells if "injected-parameters" in cell.metadata.get("tags", [])]
    for statement in ast.parse(injected).body:
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)


@pytest.mark.slow
def test_run_folder_names_are_plain(pair: tuple[Path, Path]) -> None:
    for path in [pair[0], *pair[0].rglob("*")]:
        assert re.fullmatch(r"[A-Za-z0-9_@.-]+", path.name), path.name


def test_ids_that_no_text_file_can_hold_survive_an_evaluation(tmp_path: Path) -> None:
    folder = world(tmp_path, hostile=True)
    run = evaluate(f"folder:{folder}", Colours("x"), out=tmp_path, bad_images="record", n_resamples=100, repairs=[])
    lines = (run.path / "run_t2i.trec").read_text(encoding="ascii").splitlines()
    assert {len(line.split()) for line in lines} == {6}
    assert len({line.split()[0] for line in lines}) == 44
    assert len(run.per_query["query_id"]) == 44 + 22


# ---------------------------------------------------------------------------------------------------- in a browser

MARKER = re.compile(r"pwned|81450625")
PROBE = "<script>document.title='pwned'</script>"


def dumped(page: Path) -> str:
    """The page's DOM after its scripts had three seconds."""
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--virtual-time-budget=3000"]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    return done.stdout


@pytest.fixture(scope="module")
def browser() -> None:
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not on PATH")


def title(dom: str) -> str:
    return dom.partition("<title>")[2].partition("</title>")[0]


@pytest.mark.slow
@pytest.mark.usefixtures("browser")
def test_the_browser_runs_a_payload_that_is_not_escaped(tmp_path: Path) -> None:
    (tmp_path / "live.html").write_text(f"<!DOCTYPE html><title>calm</title><p>{''.join(PAYLOADS[:2])}</p>", "utf-8")
    assert title(dumped(tmp_path / "live.html")) == "pwned"


@pytest.mark.slow
@pytest.mark.usefixtures("browser")
def test_nothing_happens_in_a_browser(pair: tuple[Path, Path], tmp_path: Path) -> None:
    doms = [dumped(path / "report.html") for path in pair]
    for dom in doms:
        assert "pwned" not in re.sub(r"&lt;.*?(?=&gt;)|document\.title=.{0,12}", "", title(dom))
    assert_same_structure(*doms)
    assert 'id="pwned"' not in doms[0]


@pytest.mark.slow
@pytest.mark.usefixtures("browser")
def test_nothing_happens_when_outputs_are_shown_by_a_frontend(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """A trusting frontend puts text/html into the page as it is."""
    found = []
    for path in pair:
        cells = nbformat.read(path / "report.ipynb", as_version=4).cells
        bodies = [one.data.get("text/html", "") for cell in cells for one in cell.get("outputs", [])]
        page = tmp_path / f"{len(found)}.html"
        page.write_text("<!DOCTYPE html><meta charset=utf-8><title>calm</title>" + "\n".join(bodies), "utf-8")
        found.append(dumped(page))
    assert [title(dom) for dom in found] == ["calm", "calm"]
    assert_same_structure(*found)
