"""An executed notebook as one HTML file that reads the same with the network unplugged, in ten years, and on paper."""

from __future__ import annotations

import ast
import html
import os
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from workbench import __version__
from workbench.html.display import TEMPLATE, escape, stylesheet
from workbench.html.mathml import mathml
from workbench.parameters import Parameter, literal, parse_cell

_LOADING = {"src", "srcset", "poster", "background", "data", "action", "formaction", "ping", "srcdoc", "manifest"}
_HREF_LOADS = {"link", "use", "image", "base", "feimage"}
_CSS_URL = re.compile(r"url\(\s*['\"]?(?!data:|#)([^'\")]*)|@import\s+([^;]*)", re.IGNORECASE)


class ExportError(ValueError):
    """The notebook holds something a one-file, offline, accessible report cannot show."""


def export(notebook_path: Path | str, html_path: Path | str, *, title: str, language: str = "en") -> int:
    """Write an executed notebook as one offline HTML file; return its size in bytes.

    Code is folded, headings become a table of contents, the parameters cell a table. No scripts, no loaded resource,
    no time stamp: the same notebook gives the same bytes. ExportError for a picture without alt text, anything loaded
    from elsewhere, or TeX outside the supported part (:mod:`workbench.html.mathml`).
    title : the page's title. language : code of the content's language, for screen readers and hyphenation.
    """
    import nbformat

    nb = nbformat.read(notebook_path, as_version=4)
    page = render(nb, title=title, language=language)
    data = page.encode("utf-8", "replace")
    target = Path(html_path)
    partial = target.with_name(target.name + ".partial")
    partial.write_bytes(data)
    os.replace(partial, target)
    return len(data)


def render(nb: Any, *, title: str, language: str = "en") -> str:
    """The page of :func:`export`, from a notebook in memory, which is not changed."""
    from nbconvert.exporters import HTMLExporter, TemplateExporter
    from nbconvert.filters import Highlight2HTML

    nb = _with_parameter_table(nb)
    toc: list[dict[str, Any]] = []
    markdown = _markdown(toc)
    exporter = HTMLExporter(template_name="template", extra_template_basedirs=[str(TEMPLATE.parent)])
    exporter.register_filter("highlight_code", Highlight2HTML(pygments_lexer="python3"))
    exporter.register_filter("markdown_cell", lambda cell: markdown(cell.source, cell.get("attachments", {})))
    exporter.register_filter("contents", lambda _: toc)  # resources are copied before the cells are rendered
    exporter.register_filter("output_html", lambda output: _output(output, markdown))
    resources = {
        "title": title,
        "language": language,
        "version": __version__,
        "page_style": (TEMPLATE / "page.css").read_text("utf-8").strip(),
        "display_style": stylesheet(),
    }
    # Not HTMLExporter's own method: it parses the page again and invents alt texts.
    page, _ = TemplateExporter.from_notebook_node(exporter, nb, resources)
    problems = [f"loaded from elsewhere or run: {found}" for found in loaded_resources(page)]
    problems += [f"no alt text: {found}; end the cell with workbench.html.figure(...)" for found in _silent(page)]
    if problems:
        raise ExportError("this notebook cannot become an offline report:\n  - " + "\n  - ".join(problems))
    return page


def loaded_resources(page: str) -> list[str]:
    """Everything in an HTML page that a browser would load or run; ordinary links and ``data:`` URLs are neither.

    >>> loaded_resources('<a href="https://a.org">a</a><img src="https://a.org/x.png"><script>1</script>')
    ['<img src="https://a.org/x.png">', '<script>']
    """
    return [found for tag, attributes, css in _elements(page) for found in _loads(tag, attributes, css)]


def _loads(tag: str, attributes: dict[str, str], css: str) -> Iterator[str]:
    if tag in ("script", "iframe", "object", "embed", "applet"):
        yield f"<{tag}>"
    for name, value in attributes.items():
        address = value.strip().lower()
        loads = name in _LOADING or (name in ("href", "xlink:href") and tag in _HREF_LOADS)
        if loads and not address.startswith(("data:", "#")):
            yield f'<{tag} {name}="{value[:80]}">'
        elif name.startswith("on") or "".join(address.split()).startswith(("javascript:", "vbscript:")):
            yield f"<{tag} {name}=...>"
    if tag == "meta" and attributes.get("http-equiv", "").lower() == "refresh":
        yield "<meta http-equiv=refresh>"
    for found in _CSS_URL.finditer(css + " " + attributes.get("style", "")):
        yield f"<{tag}> style {found[0][:80]}"


def _silent(page: str) -> list[str]:
    pictures = [attributes for tag, attributes, _ in _elements(page) if tag == "img"]
    return [f'<img src="{a.get("src", "")[:40]}">' for a in pictures if not a.get("alt", "").strip()]


def _elements(page: str) -> list[tuple[str, dict[str, str], str]]:
    """(tag, attributes, text of a style element) of every element of a page."""
    found: list[tuple[str, dict[str, str], str]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, {name: value or "" for name, value in attrs}, ""))

        def handle_data(self, data: str) -> None:
            if self.cdata_elem == "style":
                found.append(("style", {}, data))

    reader = Reader()
    reader.feed(page)
    reader.close()
    return found


def _output(output: Any, markdown: Callable[..., str]) -> str:
    """The richest form of an output that needs no script."""
    data = output.data
    if "text/html" in data:
        return data["text/html"].replace(f"<style>{stylesheet()}</style>", "").strip()
    for kind in ("image/svg+xml", "image/png", "image/jpeg"):
        if kind in data:
            return _image(kind, data[kind], output.get("metadata", {}).get(kind, {}))
    if "text/markdown" in data:
        return markdown(data["text/markdown"], {})
    return f'<pre class="text" tabindex="0">{escape(data.get("text/plain", ""))}</pre>'


def _image(kind: str, data: str, metadata: Any) -> str:
    import base64

    encoded = base64.b64encode(data.encode("utf-8")).decode() if kind == "image/svg+xml" else "".join(data.split())
    return f'<img alt="{escape(metadata.get("alt", ""))}" src="data:{kind};base64,{encoded}">'


def _markdown(toc: list[dict[str, Any]]) -> Callable[..., str]:
    """A function (source, attachments) -> HTML that collects headings of level 2 and 3, each with an id of its own."""
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    used = {"content"}

    class Renderer(IPythonRenderer):  # type: ignore[misc]
        def heading(self, text: str, level: int, **attrs: Any) -> str:
            words = html.unescape(re.sub(r"<[^>]+>", "", text)).strip()
            name = _unused(anchor(words), used)
            if level in (2, 3):
                toc.append({"level": level, "id": name, "html": escape(words)})
            return f'<h{level} id="{escape(name)}">{text}</h{level}>\n'

        def inline_math(self, body: str) -> str:
            if body != body.strip():  # "between $5 and $6" is about money
                return escape(f"${body}$")
            return _formula(body, block=False)

        def block_math(self, body: str) -> str:
            return _formula(body, block=True)

        def latex_environment(self, name: str, body: str) -> str:
            raise ExportError(f"the TeX environment {name!r} is not supported; write the formula between $$ and $$")

        def block_mermaidjs(self, code: str) -> str:
            return f"<pre><code>{escape(code)}</code></pre>"

    def convert(source: str, attachments: Any) -> str:
        return MarkdownWithMath(renderer=Renderer(escape=False, attachments=attachments)).render(source)

    return convert


def anchor(heading: str) -> str:
    """The id that a heading gets in a page, where no heading before it has the same.

    >>> anchor("S06 Dual banks: a study")
    's06-dual-banks-a-study'
    """
    return re.sub(r"\W+", "-", heading.lower()).strip("-") or "section"


def _formula(tex: str, *, block: bool) -> str:
    try:
        return mathml(html.unescape(tex), block=block)
    except ValueError as error:
        raise ExportError(str(error)) from None


def _unused(name: str, used: set[str]) -> str:
    candidate, count = name, 1
    while candidate in used:
        count += 1
        candidate = f"{name}-{count}"
    used.add(candidate)
    return candidate


def _with_parameter_table(nb: Any) -> Any:
    """A copy in which the parameters cell carries its table and the injected cell is gone, its values in that table."""
    import copy

    nb = copy.deepcopy(nb)
    defaults = next((cell for cell in nb.cells if "parameters" in cell.metadata.get("tags", [])), None)
    injected = [cell for cell in nb.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    if defaults is None:
        return nb
    try:
        parameters = parse_cell(defaults.source, "notebook").parameters
        values = {name: value for cell in injected for name, value in _assigned(cell.source)}
    except ValueError:
        return nb  # not a schema: both cells stay as folded code
    if set(values) <= {parameter.name for parameter in parameters}:
        defaults.metadata["workbench_html"] = _parameter_table(parameters, values)
        nb.cells = [cell for cell in nb.cells if cell not in injected]
    return nb


def _assigned(source: str) -> list[tuple[str, Any]]:
    found = []
    for statement in ast.parse(source).body:
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            raise ValueError(f"not an assignment of a literal: {ast.unparse(statement)}")
        found.append((statement.targets[0].id, ast.literal_eval(statement.value)))
    return found


def _parameter_table(parameters: tuple[Parameter, ...], values: dict[str, Any]) -> str:
    changed = [p.name for p in parameters if values.get(p.name, p.default) != p.default]
    summary = "Parameters: " + (
        ", ".join(f"<b>{escape(name)} = {escape(literal(values[name]))}</b>" for name in changed) or "the defaults"
    )
    lines = []
    for p in parameters:
        mark = ' class="changed"' if p.name in changed else ""
        notes = "; ".join(part for part in (p.help, p.constraint) if part)
        default = f" (default {escape(literal(p.default))})" if p.name in changed else ""
        lines.append(
            f'<tr{mark}><th scope="row">{escape(p.name)}</th><td>{escape(literal(values.get(p.name, p.default)))}'
            f"{default}</td><td>{escape(notes)}</td></tr>"
        )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("parameter", "value", "meaning"))
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    table = f'<div class="wb wb-table"><table>{body}</table></div>'
    return f'<details class="parameters"><summary>{summary}</summary>{table}</details>'
