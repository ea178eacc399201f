"""One file, offline, accessible, and never fooled by its content: read back with another parser."""

from __future__ import annotations

import base64
import io
import xml.etree.ElementTree as ET
from pathlib import Path

import bs4
import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from workbench import html, plots
from workbench.html.export import render
from workbench.html.mathml import mathml
from workbench.html.pictures import encoded
from workbench.types import Finding

NASTY = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "كلب يركض على الشاطئ",
    "👩‍🚀 family 👨‍👩‍👧",
    "x" * 500,
    "\u202eevil override",
    "nul \x00 bell \x07 escape \x1b[31m lone \ud800",
    "</style></figure></details><h1>out</h1>",
    "",
]  # fmt: skip


def soup(display: html.Display) -> bs4.BeautifulSoup:
    return bs4.BeautifulSoup(display.body, "html.parser")


def small_figure() -> html.Display:
    fig, ax = plots.figure("small")
    ax.plot([0, 1, 2], [1.0, 4.0, 9.0], **plots.IMAGE.line)
    return html.figure(fig, alt="A rising curve.", caption="Higher is better.", table={"x": [0, 1, 2], "y": [1, 4, 9]})


def finding(verdict: str, name: str = "t2i/hubness", **changes: object) -> Finding:
    values = {"value": 0.5, "interval": (0.4, 0.6), "threshold": 1.2, "threshold_source": "null", "advice": "Look."}
    return Finding(name=name, verdict=verdict, **{**values, **changes})  # type: ignore[arg-type]


def notebook(
    *displays: html.Display, markdown: str = "# Title\n\n## One\n\n### Two\n\n## One"
) -> nbformat.NotebookNode:
    defaults = 'dataset = "scenes"  # data <set>\nk = 10  # 1..99 neighbours'
    nb = new_notebook(cells=[new_markdown_cell(markdown), new_code_cell(defaults, metadata={"tags": ["parameters"]})])
    injected = new_code_cell('# Parameters\ndataset = "<b>mine</b>"\nk = 10\n')
    injected.metadata["tags"] = ["injected-parameters"]
    nb.cells.append(injected)
    for display in displays:
        data = {"text/html": display._repr_html_(), "text/plain": repr(display)}
        nb.cells.append(new_code_cell("display # code", outputs=[new_output("execute_result", data=data)]))
    return nb


def everything() -> list[html.Display]:
    picture = np.arange(130 * 97 * 3, dtype=np.uint8).reshape(130, 97, 3)
    cards = [html.Thumbnail(picture, text, text, index % 2 == 0) for index, text in enumerate(NASTY)]
    return [
        html.findings([finding("problem", text, advice=text, threshold_source=text) for text in NASTY]),
        html.protocol_card({text or "empty": text for text in NASTY}, title=NASTY[0]),
        small_figure(),
        html.table({text or "empty": NASTY for text in NASTY}, caption=NASTY[7]),
        html.thumbnails(cards, caption=NASTY[1]),
    ]


@pytest.fixture(scope="module")
def page() -> str:
    return render(notebook(*everything()), title="Audit of <tiny>")


def test_nothing_is_loaded_or_run_whatever_the_texts_are(page: str) -> None:
    tree = bs4.BeautifulSoup(page, "html.parser")
    assert tree.find_all(["script", "link", "iframe", "object", "embed"]) == []
    for element in tree.find_all(True):
        addresses = [str(element.get(name, "")) for name in ("src", "srcset", "poster", "data", "xlink:href")]
        assert all(address == "" or address.startswith("data:image/") for address in addresses)
        assert [name for name in element.attrs if name.startswith("on")] == []
    styles = "".join(style.get_text() for style in tree.find_all("style"))
    assert "url(" not in styles
    assert "@import" not in styles
    assert len(tree.find_all("h1")) == 1  # the caption that tries to close everything stays a text
    assert NASTY[0] in tree.get_text()


def test_the_page_is_a_whole_accessible_document(page: str) -> None:
    tree = bs4.BeautifulSoup(page, "html.parser")
    assert tree.html["lang"] == "en"
    assert tree.title.get_text() == "Audit of <tiny>"
    assert tree.find("meta", attrs={"name": "viewport"})["content"].startswith("width=device-width")
    assert all(image["alt"].strip() and "No description" not in image["alt"] for image in tree.find_all("img"))
    assert {cell.get("scope") for cell in tree.find_all("th")} == {"row", "col"}
    ids = [element["id"] for element in tree.find_all(id=True)]
    assert len(ids) == len(set(ids))


def test_headings_make_a_table_of_contents_with_working_anchors(page: str) -> None:
    tree = bs4.BeautifulSoup(page, "html.parser")
    links = tree.nav.find_all("a")
    assert [(link.get_text(), link["href"]) for link in links] == [("One", "#one"), ("Two", "#two"), ("One", "#one-2")]
    assert [tree.find(id=link["href"][1:]).name for link in links] == ["h2", "h3", "h2"]


def test_code_and_data_are_folded_and_parameters_are_a_table(page: str) -> None:
    tree = bs4.BeautifulSoup(page, "html.parser")
    code = tree.find_all("details", class_="code")
    assert len(code) == len(everything())
    assert not [details for details in tree.find_all("details") if details.has_attr("open")]
    parameters = tree.find("details", class_="parameters")
    assert parameters.summary.get_text() == 'Parameters: dataset = "<b>mine</b>"'
    rows = [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in parameters.tbody.find_all("tr")]
    assert rows == [
        ["dataset", '"<b>mine</b>" (default "scenes")', "data <set>"],
        ["k", "10", "neighbours; 1..99"],
    ]


def test_the_style_of_the_displays_is_there_once(page: str) -> None:
    assert page.count(".wb-findings ol {") == 1


def test_the_same_notebook_gives_the_same_bytes(tmp_path: Path) -> None:
    nbformat.write(notebook(*everything()), tmp_path / "n.ipynb")
    sizes = [html.export(tmp_path / "n.ipynb", tmp_path / name, title="T") for name in ("a.html", "b.html")]
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert sizes == [(tmp_path / "a.html").stat().st_size] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html", "n.ipynb"]


def test_messages_are_folded_and_escaped_not_red_blocks() -> None:
    nb = notebook()
    outputs = [new_output("stream", name=name, text=f"{name} <b>&\n") for name in ("stdout", "stderr")]
    nb.cells.append(new_code_cell("1", outputs=[*outputs, new_output("display_data", data={"text/plain": "<i>"})]))
    tree = bs4.BeautifulSoup(render(nb, title="T"), "html.parser")
    assert tree.find("details", class_="messages").pre.get_text() == "stderr <b>&\n"
    assert [pre.get_text() for pre in tree.select("section > pre, .output > pre")] == ["stdout <b>&\n", "<i>"]


@pytest.mark.parametrize(
    ("markdown", "found"),
    [
        ("![a](https://example.org/x.png)", 'src="https://example.org/x.png"'),
        ("![a](local.png)", 'src="local.png"'),
        ('<img alt="a" srcset="x.png 2x">', "srcset"),
        ("<script>1</script>", "<script>"),
        ('<a href=" java\tscript:alert(1)">x</a>', "<a href=...>"),
        ('<p onclick="x()">x</p>', "<p onclick=...>"),
        ('<p style="background:url(//x.org/a)">x</p>', "url(//x.org/a"),
        ("<style>@import 'x.css';</style>", "@import"),
        ('<link rel="stylesheet" href="x.css">', "<link href"),
        ('<iframe srcdoc="x"></iframe>', "<iframe>"),
        ('<meta http-equiv="refresh" content="0">', "refresh"),
        ("![](data:image/png;base64,AAAA)", "no alt text"),
        (r"$\unknown{x}$", r"\unknown in the TeX"),
        (r"\begin{align}x\end{align}", "'align' is not supported"),
    ],
)
def test_what_an_offline_report_cannot_hold_is_refused(markdown: str, found: str) -> None:
    with pytest.raises(html.ExportError) as caught:
        render(notebook(markdown=markdown), title="T")
    assert found in str(caught.value)


def test_a_bare_picture_output_needs_alt_text() -> None:
    nb = notebook()
    nb.cells.append(new_code_cell("1", outputs=[new_output("display_data", data={"image/png": "AAAA"})]))
    with pytest.raises(html.ExportError, match=r"end the cell with workbench\.html\.figure"):
        render(nb, title="T")
    nb.cells[-1].outputs[0].metadata = {"image/png": {"alt": "a curve"}}
    assert 'alt="a curve"' in render(nb, title="T")


def test_links_are_allowed_and_money_is_not_a_formula() -> None:
    page = render(notebook(markdown="From $5 to $6, [see](https://example.org), with $n_k$ items."), title="T")
    assert html.loaded_resources(page) == []
    tree = bs4.BeautifulSoup(page, "html.parser")
    assert tree.find("a", string="see")["href"] == "https://example.org"
    assert "From $5 to $6, see, with" in tree.get_text()
    assert tree.math.get_text() == "nk"


@pytest.mark.parametrize(
    ("tex", "tags", "text"),
    [
        (r"\sum_{q \in Q}^{N} x_q^2", ["munderover", "msubsup"], "∑q∈QNxq2"),
        (r"\frac{a+1}{\sqrt{2.5}}", ["mfrac", "msqrt"], "a+12.5"),
        (r"\mathbb{R}^d \to \mathbb{1}", ["msup"], "ℝd→𝟙"),
        (r"\text{hit at } k < \hat{x}", ["mtext", "mover"], "hit at k<x^"),
        (r"\left( \langle x_i, y_j \rangle \right.", ["msub"], "(⟨xi,yj⟩"),
        (r"x' \le -1", ["msup"], "x′≤−1"),
    ],
)
def test_formulas_become_well_formed_mathml(tex: str, tags: list[str], text: str) -> None:
    tree = ET.fromstring(mathml(tex))
    assert set(tags) <= {element.tag for element in tree.iter()}
    assert "".join(tree.itertext()) == text


@pytest.mark.parametrize("tex", [r"\frac{1}", "{x", "x_", "x}", r"\sqrt", "a & b", r"\mathbb{ab}"])
def test_broken_formulas_are_refused(tex: str) -> None:
    with pytest.raises(ValueError, match="TeX"):
        mathml(tex)


def test_findings_are_sorted_worst_first_and_told_in_words() -> None:
    shown = html.findings(
        [
            finding("ok", "a"),
            finding("not measurable", "b", value=None, interval=None),
            finding("look", "c"),
            finding("problem", "d", interval=(-0.25, 0.75)),
            finding("problem", "e", threshold=None, threshold_source=""),
        ]
    )
    items = soup(shown).ol.find_all("li")
    assert [item.find(class_="wb-verdict").get_text() for item in items] == [
        "✗ problem", "✗ problem", "! look", "? not measurable", "✓ ok",
    ]  # fmt: skip
    assert [item.find(class_="wb-name").get_text().split()[0] for item in items] == ["d", "e", "c", "b", "a"]
    assert items[0].find(class_="wb-interval").get_text() == "(-0.250 to 0.750)"
    assert items[1].find(class_="wb-against") is None
    assert items[3].find(class_="wb-value") is None
    assert soup(shown).find(class_="wb-summary").get_text() == "2 problems · 1 look · 1 not measurable · 1 ok"
    assert repr(shown).splitlines()[1].startswith("✗ problem: d = 0.500 (-0.250 to 0.750), held against 1.20 (null).")
    assert "no findings" in html.findings([]).body


def test_tables_align_numbers_name_rows_and_say_what_is_left_out() -> None:
    frame = pd.DataFrame(
        {"value": [0.123456, None, 1e6], "interval": ["0.10 to 0.14", "(-1.5 to 2)", "—"], "kind": ["1st", "x", "y"]},
        index=pd.Index(["a", "b", "c"], name="method"),
    )
    tree = soup(html.table(frame, caption="C", longest=2))
    assert tree.caption.get_text() == "C (first 2 of 3 rows)"
    head = tree.thead.find_all("th")
    assert [cell.get_text() for cell in head] == ["method", "value", "interval", "kind"]
    assert ["wb-num" in cell.get("class", []) for cell in head] == [False, True, True, False]
    rows = [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in tree.tbody.find_all("tr")]
    assert rows == [["a", "0.123", "0.10 to 0.14", "1st"], ["b", "—", "(-1.5 to 2)", "x"]]


def test_the_three_forms_of_a_table_are_one() -> None:
    rows = [{"m": "a", "v": 1}, {"m": "b", "v": 2}]
    forms = [rows, {"m": ["a", "b"], "v": [1, 2]}, pd.DataFrame(rows)]
    assert len({html.table(form, caption="C").body for form in forms}) == 1
    with pytest.raises(ValueError, match=r"equally long; got \{'m': 1, 'v': 2\}"):
        html.table({"m": ["a"], "v": [1, 2]}, caption="C")


def test_a_figure_carries_alt_text_caption_and_its_numbers() -> None:
    tree = soup(small_figure())
    image = tree.figure.img
    assert (image["alt"], tree.figcaption.p.get_text()) == ("A rising curve.", "Higher is better.")
    picture = Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2])))
    assert picture.size == (2 * int(image["width"]), 2 * int(image["height"])) == (900, 640)
    cells = [cell.get_text() for cell in tree.find("details").tbody.find_all(["th", "td"])]
    assert cells == ["0", "1", "1", "4", "2", "9"]
    with pytest.raises(ValueError, match="alt text"):
        html.figure(plots.figure()[0], alt=" ", caption="x", table={})


def test_figures_have_no_date_no_version_and_leave_no_global_state() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    assert small_figure().body == small_figure().body
    fig, _ = plots.figure("tall")
    info = Image.open(io.BytesIO(plots.png(fig, description="what it is ü"))).info
    assert (info["Description"], "Software" in info) == ("what it is ü", False)
    assert plots.svg(fig) == plots.svg(fig)
    assert not [word for word in (b"<dc:date>", b"Matplotlib v") if word in plots.svg(fig)]
    assert dict(matplotlib.rcParams) == before


def test_panels_share_limits_and_sizes_are_named() -> None:
    fig, (left, right) = plots.panels("wide", 2)
    left.set_xlim(0, 7)
    assert right.get_xlim() == (0, 7)
    assert tuple(fig.get_size_inches()) == (9.0, 3.2)
    with pytest.raises(ValueError, match="one of small, wide, tall; got 'huge'"):
        plots.figure("huge")  # type: ignore[arg-type]


def test_no_two_meanings_share_a_colour_and_opposites_differ_without_colour() -> None:
    assert len({style.color for style in plots.STYLES.values()}) == len(plots.STYLES)
    assert plots.RELEVANT.linestyle != plots.NOT_RELEVANT.linestyle
    assert plots.BEFORE.linestyle != plots.AFTER.linestyle
    assert plots.IMAGE.marker != plots.TEXT.marker


def test_thumbnails_fit_their_square_and_lose_what_the_camera_wrote(tmp_path: Path) -> None:
    pixels = np.zeros((120, 200, 3), dtype=np.uint8)
    pixels[:, :100] = (255, 0, 0)  # left half red; stored so that it must be turned by 90 degrees
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x9286] = 6, "CameraMaker", "secret place"
    Image.fromarray(pixels).save(tmp_path / "p.jpg", exif=exif, quality=95, comment=b"secret comment")
    kind, data, size = encoded(tmp_path / "p.jpg")
    assert (kind, size) == ("jpeg", (58, 96))
    assert [word for word in (b"Exif", b"Camera", b"secret") if word in data] == []
    small = np.asarray(Image.open(io.BytesIO(data)))
    assert small[10, 29, 0] > 200  # turned upright, red is on top
    assert small[86, 29, 0] < 50
    assert encoded(tmp_path / "p.jpg")[1] == data


def test_pixel_art_is_kept_exact_and_transparency_becomes_white() -> None:
    art = np.random.default_rng(3).integers(0, 255, (9, 16, 3)).astype(np.uint8)
    kind, data, size = encoded(art)
    assert (kind, size) == ("png", (96, 54))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), art)
    clear = np.zeros((16, 16, 4), dtype=np.uint8)
    assert np.asarray(Image.open(io.BytesIO(encoded(clear)[1]))).min() == 255


def test_cards_tell_correctness_in_words_and_hide_pictures_when_asked() -> None:
    picture = np.zeros((100, 120, 3), dtype=np.uint8)
    cards = [
        html.Thumbnail(picture, "x" * 400, "rank 1", True),
        html.Thumbnail(None, "b", "rank 2", False, alt="unused"),
        html.Thumbnail(picture, "", "rank 3", alt="a dog"),
    ]
    items = soup(html.thumbnails(cards, caption="Rule: worst ranks.")).find_all("li")
    assert [item.find(class_="wb-line").get_text() for item in items] == [
        "✓relevant rank 1", "✗not relevant rank 2", "rank 3",
    ]  # fmt: skip
    assert items[0].find(class_="wb-caption")["dir"] == "auto"
    assert items[0].find(class_="wb-caption").get_text() == "x" * 160 + "… (400 characters)"
    assert (items[1].img, items[1].find(class_="wb-frame").get_text()) == (None, "picture not shown")
    assert (items[2].img["alt"], items[2].find(class_="wb-caption")) == ("a dog", None)
    with pytest.raises(ValueError, match="rule"):
        html.thumbnails(cards, caption=" ")


def test_a_protocol_card_reads_the_same_as_list_and_as_text() -> None:
    card = html.protocol_card([("cutoffs", [1, 5]), ("seed", 0), ("alpha", 0.05), ("bank", None), ("exact", True)])
    tree = soup(card)
    pairs = [(term.get_text(), term.find_next("dd").get_text()) for term in tree.find_all("dt")]
    assert pairs == [("cutoffs", "1, 5"), ("seed", "0"), ("alpha", "0.0500"), ("bank", "—"), ("exact", "yes")]
    assert tree.pre.get_text() == repr(card)
    assert [line.split(":", 1)[1].strip() for line in repr(card).splitlines()[1:]] == [value for _, value in pairs]


def test_texts_can_be_stored_whatever_they_hold() -> None:
    for display in everything():
        for text in (display._repr_html_(), repr(display)):
            text.encode("utf-8")
            assert not set("\x00\x07\x1b") & set(text)


def test_control_characters_of_terminals_and_lone_surrogates_become_marks() -> None:
    assert html.display.clean("\x9b31m \x85 \x1b[0m \ud800 é") == "\ufffd31m \ufffd \ufffd[0m \ufffd é"
    fig, ax = plots.figure("small")
    ax.plot([0, 1], [1, 0])
    shown = html.figure(fig, alt="down", caption="lone \udcff", table={"x": [0]})
    data = base64.b64decode(soup(shown).img["src"].partition("base64,")[2])
    assert Image.open(io.BytesIO(data)).info["Description"] == "lone \ufffd"


def test_jupyter_is_told_to_set_no_formula_in_a_display() -> None:
    outer = bs4.BeautifulSoup(html.table({"caption": ["$5 and $6"]}, caption="c")._repr_html_(), "html.parser").div
    assert outer["class"] == ["mathjax_ignore", "tex2jax_ignore"]
    assert "$5 and $6" in outer.get_text()
