"""The API reference opens offline: every public module has a page, and no page loads anything from outside."""

from __future__ import annotations

import importlib.util
import re
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytest.importorskip("pdoc", reason="pdoc writes the reference; pip install 'retrieval-workbench[dev]'")
LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src",
           "embed": "src", "object": "data", "link": "href", "image": "href", "use": "href"}  # fmt: skip


def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Loaded(HTMLParser):
    """What a browser would fetch from outside: tags that load, and addresses in styles and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.inside = tag if tag in ("script", "style") else ""
        for name, value in attributes:
            loads = name in (LOADING.get(tag), "srcset", "poster", "background")
            if loads and re.match(r"\s*(https?:)?//", value or ""):
                self.found.append(f"<{tag} {name}={value}>")
            if name == "style":
                self.handle_style(value or "")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "style":
            self.handle_style(data)
        if self.inside == "script":
            self.found += re.findall(r"""(?:import|fetch|src|href|open)\W{0,20}["'`](?:https?:)?//[^"'`]+""", data)

    def handle_style(self, text: str) -> None:
        self.found += re.findall(r"""(?:url\(|@import)\s*["']?(?:https?:)?//[^\s"')]+""", text)


def loaded(folder: Path) -> list[str]:
    return [hit for page in folder.rglob("*.html") for hit in Loaded(page.read_text(encoding="utf-8")).found]


def check(folder: Path) -> None:
    assert loaded(folder) == []
    for page in [*folder.rglob("*.html"), *folder.rglob("*.js")]:
        text = page.read_text(encoding="utf-8")
        assert str(ROOT) not in text, f"{page.name} names a folder of this machine"


def test_metrics_and_types(tmp_path: Path) -> None:
    import workbench.metrics

    reference().write(tmp_path, ["workbench.metrics", "workbench.types"])
    check(tmp_path)
    page = (tmp_path / "workbench" / "metrics.html").read_text(encoding="utf-8")
    for name in workbench.metrics.__all__:
        assert f'id="{name}"' in page
    assert "<strong>short_lists</strong> :" in page
    assert '<span class="gp">&gt;&gt;&gt; </span>' in page
    assert ":func:`" not in page
    assert 'href="types.html#Ranks"' in page
    assert "_SupportsArray" not in page


@pytest.mark.parametrize("bad", [
    '<script src="https://a.org/x.js"></script>', '<link rel="stylesheet" href="//a.org/x.css">',
    '<img alt="" src="http://a.org/x.png">', "<style>p { background: url(https://a.org/x.png) }</style>",
    '<style>@import "https://a.org/x.css";</style>', '<script>fetch("https://a.org/x.json")</script>',
    "<p style=\"background: url('//a.org/x.png')\">",
])  # fmt: skip
def test_a_resource_from_outside_is_seen(bad: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(f"<html>{bad}</html>")
    assert len(loaded(tmp_path)) == 1


def test_a_link_is_no_resource(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text('<a href="https://a.org">a</a><pre>&lt;img src="https://a.org/x.png"&gt;</pre>')
    assert loaded(tmp_path) == []


def test_lists_leave_examples_formulas_and_tables_alone() -> None:
    listed = reference().listed
    for text in ("    value = a;   p : q", ">>> {1 : 2}\n{1: 2}", "| a | k : b |", "Prose with a colon: no list."):
        assert listed(text) == text
    assert listed("k : 1.. Gives a table.") == "- **k** : 1..\n\nGives a table."
    assert listed("scores (m, n) : numbers, a\nlong line. low, high : ends.") == (
        "- **scores (m, n)** : numbers, a long line.\n- **low, high** : ends."
    )


@pytest.mark.slow
def test_every_public_module_has_a_page(tmp_path: Path) -> None:
    module = reference()
    module.write(tmp_path, module.public())
    check(tmp_path)
    for path in sorted((ROOT / "workbench").rglob("*.py")):
        parts = [part for part in path.relative_to(ROOT).with_suffix("").parts if part != "__init__"]
        if not any(part.startswith("_") for part in parts):
            page = tmp_path.joinpath(*parts).with_suffix(".html")
            assert page.is_file(), f"{'.'.join(parts)} has no page"
