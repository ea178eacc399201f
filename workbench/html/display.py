"""What a report cell ends with: figures, tables, findings and cards that read well in Jupyter, in HTML and on paper.

Every text from outside is escaped, every figure carries alt text and its data, no verdict is told by colour alone.
"""

from __future__ import annotations

import base64
import csv
import html
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from workbench.types import Finding

TEMPLATE = Path(__file__).resolve().parent / "template"
MISSING = "—"
DRAWINGS = "application/vnd.workbench.drawings+json"
VERDICTS = {"problem": "✗", "look": "!", "not measurable": "?", "ok": "✓"}  # worst first, as they are sorted
_UNSAFE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_NUMBER_LIKE = re.compile(r"(?=.*\d)[\d.,:;%±×eE+\-−–…()\[\]<>≤≥~ ]+")


@dataclass(frozen=True)
class Display:
    """Something to end a cell with: ``body`` for HTML, ``text`` for terminals and diffs.

    drawings : the figures inside as {"pdf": base64, "csv": text}; a report takes them out of its notebook into files.
    """

    body: str = field(repr=False)
    text: str
    drawings: tuple[Mapping[str, str], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", clean(self.text))

    def _repr_html_(self) -> str:
        # Jupyter would set what stands between dollar signs of a caption as a formula, with macros that may hold links.
        return f'<style>{stylesheet()}</style>\n<div class="mathjax_ignore tex2jax_ignore">{self.body}</div>'

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {DRAWINGS: list(self.drawings)} if self.drawings else {}

    def __repr__(self) -> str:
        return self.text


def stylesheet() -> str:
    """The style of all displays. Each display brings it along for Jupyter; an exported page holds it once."""
    return (TEMPLATE / "display.css").read_text("utf-8").strip()


def escape(text: object) -> str:
    """Text made safe for HTML content and quoted attributes; characters that HTML cannot hold become U+FFFD.

    >>> escape('<b title="x">')
    '&lt;b title=&quot;x&quot;&gt;'
    """
    return html.escape(clean(text))


def clean(text: object) -> str:
    """Text without lone surrogates and control characters, which neither HTML nor a notebook file can hold.

    >>> clean("a\\x00b")
    'a\N{REPLACEMENT CHARACTER}b'
    """
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", str(text))


def number(value: object, *, digits: int = 3) -> str:
    """A value for reading: significant digits, thousands separated, a dash where nothing was measured.

    >>> [number(value) for value in (0.5, 0.01234, 1234567, 999.96, 1e-7, None, float("nan"), True, "7 %")]
    ['0.500', '0.0123', '1,234,567', '1,000', '1.00e-07', '—', '—', 'yes', '7 %']
    """
    if value is None:
        return MISSING
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return f"{int(value):,}"
    if not isinstance(value, Real):
        return str(value)
    amount = float(value)
    if math.isnan(amount):
        return MISSING
    if amount == 0 or math.isinf(amount):
        return f"{amount:.0f}".lstrip("-") if amount == 0 else ("∞" if amount > 0 else "-∞")
    text = f"{amount:#.{digits}g}".rstrip(".")
    return f"{amount:,.0f}" if "e+" in text else text


def figure(fig: Figure, *, alt: str, caption: str, table: Any) -> Display:
    """A figure with alt text, a caption and the data it draws, folded beneath.

    fig : a matplotlib figure (:func:`workbench.plots.figure`). alt : what a reader who cannot see it should know.
    caption : one sentence on how to read it, then data, n, interval method (:func:`workbench.plots.caption`).
    table : the numbers drawn: a DataFrame, a mapping of columns, or rows as mappings.
    """
    from workbench import plots
    from workbench.plots.vector import pdf

    if not alt.strip() or not caption.strip():
        raise ValueError("a figure needs alt text and a caption; say what it shows and how to read it")
    width, height = (round(edge * plots.DPI) for edge in fig.get_size_inches())
    style = f"width:{width / 16:.6g}em"  # as large beside the text on paper as on the screen
    data = base64.b64encode(plots.png(fig, description=clean(caption))).decode()
    rows, note = _columns(table, longest=200)
    body = (
        f'<figure class="wb wb-figure">'
        f'<img alt="{escape(alt)}" width="{width}" height="{height}" style="{style}" '
        f'src="data:image/png;base64,{data}">'
        f"<figcaption><p>{escape(caption)}</p>"
        f'<details class="wb-data"><summary>Data behind this figure{escape(note)}</summary>'
        f"{_table(rows, caption='', digits=4, row_header=True)}</details></figcaption></figure>"
    )
    drawing = {"pdf": base64.b64encode(pdf(fig)).decode(), "csv": _csv(_columns(table, longest=10**9)[0])}
    return Display(body, f"[figure] {alt}\n{caption}", (drawing,))


def table(rows: Any, *, caption: str, digits: int = 3, row_header: bool = True, longest: int = 500) -> Display:
    """A table with headers that screen readers can follow and numbers aligned to the right.

    rows : a DataFrame (a named or text index becomes the first column), a mapping of columns, or rows as mappings.
    caption : what the table shows, units included. row_header : the first column names the row. longest : rows shown;
    what is left out is said.

    >>> table({"metric": ["hit@1", "hit@5"], "value": [0.5, 0.75]}, caption="Scenes, text to image")
    Scenes, text to image
    metric  value
    hit@1   0.500
    hit@5   0.750
    """
    columns, note = _columns(rows, longest=longest)
    caption = caption.strip() + note
    body = f'<div class="wb wb-table">{_table(columns, caption=caption, digits=digits, row_header=row_header)}</div>'
    return Display(body, _plain_table(columns, caption=caption, digits=digits))


def together(shown: Sequence[Display]) -> Display:
    """Several displays as one, in their order."""
    return Display(
        '<div class="wb wb-gap"></div>\n'.join(one.body for one in shown),
        "\n\n".join(one.text for one in shown),
        tuple(drawing for one in shown for drawing in one.drawings),
    )


def findings(items: Iterable[Finding]) -> Display:
    """Findings, worst first: verdict in word and sign, value with interval, what it was held against, what to do.

    >>> from workbench.types import Finding
    >>> findings([Finding("t2i/ties", 0.01, (0.0, 0.02), 0.05, "convention", "ok", "Ties do not matter here.")])
    1 ok
    ✓ ok: t2i/ties = 0.0100 (0 to 0.0200), held against 0.0500 (convention). Ties do not matter here.
    """
    order = list(VERDICTS)
    ranked = sorted(items, key=lambda finding: order.index(finding.verdict))
    counts = {verdict: sum(finding.verdict == verdict for finding in ranked) for verdict in order}
    summary = " · ".join(f"{count} {_plural(verdict, count)}" for verdict, count in counts.items() if count)
    summary = summary or "no findings"
    body = (
        f'<div class="wb wb-findings"><p class="wb-summary">{summary}</p>'
        f"<ol>{''.join(_finding(finding) for finding in ranked)}</ol></div>"
    )
    return Display(body, "\n".join([summary, *(_finding_text(finding) for finding in ranked)]))


def protocol_card(rows: Mapping[str, Any] | Iterable[tuple[str, Any]], *, title: str = "Protocol") -> Display:
    """How the numbers were made, as a list to read and as text to paste into a paper.

    >>> protocol_card({"tie rule": "expected value", "cutoffs": [1, 5, 10]})
    Protocol
    tie rule: expected value
    cutoffs:  1, 5, 10
    """
    pairs = [(str(name), _words(value)) for name, value in dict(rows).items()]
    width = max((len(name) for name, _ in pairs), default=0) + 1
    text = "\n".join([title, *(f"{name + ':':<{width}} {value}" for name, value in pairs)])
    items = "".join(f'<div><dt>{escape(name)}</dt><dd dir="auto">{escape(value)}</dd></div>' for name, value in pairs)
    body = (
        f'<div class="wb wb-card"><p class="wb-title">{escape(title)}</p><dl>{items}</dl>'
        f'<details class="wb-copy"><summary>Copy as text</summary><pre tabindex="0">{escape(text)}</pre></details>'
        f"</div>"
    )
    return Display(body, text)


def _finding(finding: Finding) -> str:
    kind = finding.verdict.replace(" ", "-")
    value = f'<b class="wb-value">{_shown(finding.value, finding.unit)}</b>' if finding.value is not None else ""
    interval = f' <span class="wb-interval">{_interval(finding)}</span>' if finding.interval else ""
    against = f'<p class="wb-against">{escape(_against(finding))}</p>' if _against(finding) else ""
    return (
        f'<li class="wb-{kind}"><span class="wb-verdict"><span aria-hidden="true">{VERDICTS[finding.verdict]}</span> '
        f'{finding.verdict}</span><div><p class="wb-name"><span dir="auto">{escape(finding.name)}</span> {value}'
        f'{interval}</p><p class="wb-advice" dir="auto">{escape(finding.advice)}</p>{against}</div></li>'
    )


def _finding_text(finding: Finding) -> str:
    value = "" if finding.value is None else f" = {_shown(finding.value, finding.unit)}"
    interval = f" {_interval(finding)}" if finding.interval else ""
    against = _against(finding)
    against = f", {against[0].lower()}{against[1:]}" if against else ""
    return f"{VERDICTS[finding.verdict]} {finding.verdict}: {finding.name}{value}{interval}{against}. {finding.advice}"


def _interval(finding: Finding) -> str:
    low, high = finding.interval or (math.nan, math.nan)
    return f"({_shown(low, finding.unit)} to {_shown(high, finding.unit)})"


def _shown(value: float | None, unit: str) -> str:
    """A value in its unit: shares in per cent, differences of shares in points with their sign."""
    if value is None or not unit or not math.isfinite(value):
        return number(value)
    sign = "+" if unit == "points" and value > 0 else ""
    return f"{sign}{number(100 * value)} {unit}"


def _against(finding: Finding) -> str:
    source = finding.threshold_source.strip()
    if finding.threshold is None:
        return f"Held against: {source}" if source else ""
    shown = _shown(finding.threshold, finding.unit)
    return f"Held against {shown}" + (f" ({source})" if source else "")


def _plural(verdict: str, count: int) -> str:
    return "problems" if verdict == "problem" and count > 1 else verdict


def _words(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_words(item) for item in value) or MISSING
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(item)}" for name, item in value.items()) or MISSING
    return number(value) if isinstance(value, (bool, float)) or value is None else str(value)


def _columns(rows: Any, *, longest: int) -> tuple[dict[str, Sequence[Any]], str]:
    """Columns by name, cut to the longest, and the words that say so."""
    if hasattr(rows, "to_dict") and hasattr(rows, "index"):
        default_index = rows.index.name is None and rows.index.dtype.kind in "iu"
        columns = (rows if default_index else rows.reset_index()).to_dict("list")
    elif isinstance(rows, Mapping):
        columns = {name: list(values) for name, values in rows.items()}
    else:
        rows = list(rows)
        names = dict.fromkeys(name for row in rows for name in row)
        columns = {name: [row.get(name) for row in rows] for name in names}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns of a table must be equally long; got {lengths}")
    total = next(iter(lengths.values()), 0)
    note = f" (first {longest:,} of {total:,} rows)" if total > longest else ""
    return {str(name): values[:longest] for name, values in columns.items()}, note


def _csv(columns: Mapping[str, Sequence[Any]]) -> str:
    """The numbers of a figure in full precision; a text that a spreadsheet would compute gets a quote before it."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(_inert, columns))
    writer.writerows([_inert(value) for value in row] for row in zip(*columns.values(), strict=True))
    return clean(file.getvalue())


def _inert(value: Any) -> Any:
    if isinstance(value, Real) and not isinstance(value, Integral):
        return "" if math.isnan(float(value)) else repr(float(value))
    text = "" if value is None else str(value)
    return "'" + text if text[:1] in ("=", "+", "-", "@") and not isinstance(value, Real) else text


def _table(columns: Mapping[str, Sequence[Any]], *, caption: str, digits: int, row_header: bool) -> str:
    cells = {name: [number(value, digits=digits) for value in values] for name, values in columns.items()}
    numeric = {name for name, texts in cells.items() if _is_numeric(columns[name], texts)}
    head = "".join(f'<th scope="col"{_numeric(name in numeric)}>{escape(name)}</th>' for name in cells)
    lines = []
    for row in zip(*cells.values(), strict=True):
        parts = [_cell(text, name in numeric) for name, text in zip(cells, row, strict=True)]
        if row_header and parts:
            parts[0] = f'<th scope="row" dir="auto">{escape(row[0])}</th>'
        lines.append(f"<tr>{''.join(parts)}</tr>")
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    short = ' class="wb-short"' if len(lines) <= 20 else ""
    return f"<table{short}>{title}<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _cell(text: str, numeric: bool) -> str:
    return f'<td class="wb-num">{escape(text)}</td>' if numeric else f'<td dir="auto">{escape(text)}</td>'


def _numeric(numeric: bool) -> str:
    return ' class="wb-num"' if numeric else ""


def _is_numeric(values: Sequence[Any], texts: Sequence[str]) -> bool:
    known = [(value, text) for value, text in zip(values, texts, strict=True) if text != MISSING]
    return bool(known) and all(
        not isinstance(value, bool)
        and (isinstance(value, Real) or bool(_NUMBER_LIKE.fullmatch(text.replace(" to ", " "))))
        for value, text in known
    )


def _plain_table(columns: Mapping[str, Sequence[Any]], *, caption: str, digits: int) -> str:
    texts = [[name, *(number(value, digits=digits) for value in values)] for name, values in columns.items()]
    widths = [max(len(text) for text in column) for column in texts]
    rows = (zip(row, widths, strict=True) for row in zip(*texts, strict=True))
    return "\n".join([caption, *("  ".join(text.ljust(width) for text, width in row).rstrip() for row in rows)])
