"""The comparison as ``table.csv`` (every number, full precision) and ``table.tex`` (booktabs, for a paper)."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.evaluate.scores import definitions, higher_is_better
from workbench.files import write_atomically
from workbench.metrics import parse_metric

COLUMNS = (
    "system", "role", "direction", "metric", "value", "low", "high", "n", "clusters", "difference", "difference_low",
    "difference_high", "p", "p_holm", "wins", "ties", "losses", "minimum_detectable", "verdict", "place_low",
    "place_high", "source",
)  # fmt: skip
MARKS = {"gain": "$^{*}$", "loss": "$^{\\dagger}$"}
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "–": "--", "—": "---", "→": r"$\rightarrow$", "≥": r"$\geq$",
    "≤": r"$\leq$", "×": r"$\times$", "±": r"$\pm$", "…": r"\ldots{}", "\N{RIGHT SINGLE QUOTATION MARK}": "'",
}  # fmt: skip
_NOT_IN_T1 = "\xad\u0126\u0127\u0138\u013f\u0140\u0149\u0166\u0167\u017f"
_TREC = {"MRR": "recip_rank", "R-precision": "Rprec"}
_TREC_CUT = {"hit": "success_{k}", "R": "recall_{k}", "P": "P_{k}", "AP": "map_cut_{k}", "nDCG": "ndcg_cut_{k}"}


def write_tables(path: Path, results: Mapping[str, Any], *, names: str) -> None:
    """``table.csv`` and ``table.tex`` into a run folder; names : "workbench", "clip" or "trec"."""
    write_atomically(path / "table.csv", csv_table(results).encode())
    write_atomically(path / "table.tex", latex_table(results, names=names).encode())


def csv_table(results: Mapping[str, Any]) -> str:
    """One row per system and metric; values are those of the runs' metrics.json, digit by digit."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    gains = {(one.system, one.metric): one for one in results["gains"]}
    for one in results["scores"]:
        place = _places(results, one.system, one.metric)
        role = "baseline" if one.system == results["baseline"] else "paired"
        row = _named(one.system, role, one.metric) | {"n": one.n, "clusters": one.clusters}
        row |= {name: _exact(getattr(one, name)) for name in ("value", "low", "high")}
        row |= {"place_low": place[0], "place_high": place[1]} if place else {}
        writer.writerow(row | _gain_cells(gains.get((one.system, one.metric))))
    for published in results["published"]:
        for metric, value in published.values.items():
            row = _named(published.name, "unpaired", metric)
            writer.writerow(row | {"value": _exact(value), "source": _no_formula(published.source)})
    return file.getvalue()


def _named(system: str, role: str, metric: str) -> dict[str, Any]:
    direction, _, name = metric.partition("/")
    return {"system": _no_formula(system), "role": role, "direction": direction, "metric": name}


def _no_formula(text: str) -> str:
    """Text that a spreadsheet does not compute."""
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _gain_cells(one: Any) -> dict[str, Any]:
    if one is None:
        return {}
    floats = {
        "difference": one.difference, "difference_low": one.low, "difference_high": one.high, "p": one.p_value,
        "p_holm": one.p_holm, "minimum_detectable": one.minimum_detectable,
    }  # fmt: skip
    counts = {"wins": one.wins, "ties": one.ties, "losses": one.losses, "verdict": one.verdict}
    return {name: _exact(value) for name, value in floats.items()} | counts


def _exact(value: float) -> str:
    return repr(float(value)) if math.isfinite(value) else ""


def _places(results: Mapping[str, Any], system: str, metric: str) -> tuple[int, int] | None:
    found = results["places"].get(metric)
    if found is None:
        return None
    row = [one.label for one in results["systems"]].index(system)
    return int(found.low[row]), int(found.high[row])


def shown_metric(metric: str, names: str) -> str:
    """A metric as the people of CLIP (R@k for any hit) or of TREC (trec_eval's names) print it.

    What has no name there keeps its own.

    >>> [shown_metric(name, "clip") for name in ("hit@1", "R@1", "MedR")]
    ['R@1', 'R@1 (share of positives)', 'MedR']
    >>> [shown_metric(name, "trec") for name in ("hit@1", "AP@10", "AP", "AP(norm=min)@10")]
    ['success_1', 'map_cut_10', 'map', 'AP(norm=min)@10']
    """
    parsed = parse_metric(metric)
    if names == "clip" and parsed.name in ("hit", "R"):
        return f"R@{parsed.k}" + (" (share of positives)" if parsed.name == "R" else "")
    if names == "trec" and not parsed.params:
        if parsed.k is None:
            return {"AP": "map", "nDCG": "ndcg", **_TREC}.get(parsed.name, metric)
        return _TREC_CUT.get(parsed.name, metric).format(k=parsed.k)
    return metric


def shown_direction(direction: str, names: str) -> str:
    """>>> shown_direction("t2i", "clip"), shown_direction("t2i", "trec")
    ('text → image', 't2i')
    """
    words = {"t": "text", "i": "image", "q": "query", "d": "document", "v": "video", "a": "audio"}
    asks, _, answers = direction.partition("2")
    return f"{words[asks]} → {words[answers]}" if names == "clip" and {asks, answers} <= set(words) else direction


def escaped(text: object) -> str:
    r"""Text as LaTeX prints it; a letter that pdflatex cannot set with T1 fonts becomes its code point.

    >>> print(escaped("50 % of a_b & {c} 名"))
    50 \% of a\_b \& \{c\} [U+540D]
    """
    plain = re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", str(text))
    return "".join(_LATEX.get(c, c if ord(c) < 0x180 and c not in _NOT_IN_T1 else f"[U+{ord(c):04X}]") for c in plain)


def latex_table(results: Mapping[str, Any], *, names: str) -> str:
    """A ``table`` environment for ``\\usepackage{booktabs}``: a row per system, a column per direction and metric."""
    metrics = list(dict.fromkeys(one.metric for one in results["scores"]))
    systems = [one.label for one in results["systems"]]
    scores = {(one.system, one.metric): one for one in results["scores"]}
    gains = {(one.system, one.metric): one for one in results["gains"]}
    lines = [
        line for system in systems
        for line in (
            [escaped(system) + (r" \emph{(baseline)}" if system == results["baseline"] and len(systems) > 1 else "")]
            + [_value(scores[system, metric], gains.get((system, metric))) for metric in metrics],
            ["", *(_interval(scores[system, metric]) for metric in metrics)],
        )
    ]  # fmt: skip
    published = [
        [escaped(one.name) + (f" ({escaped(one.source)})" if one.source else "") + r" \emph{(unpaired)}"]
        + [_number(one.values[metric], metric) if metric in one.values else "--" for metric in metrics]
        for one in results["published"]
    ]
    rows = [_row(line) for line in lines] + ([r"\midrule"] if published else [])
    rows += [_row(line) for line in published]
    body = [
        "% \\usepackage{booktabs}", r"\begin{table}", r"\centering\small",
        rf"\begin{{tabular}}{{l{'c' * len(metrics)}}}", r"\toprule", *_head(metrics, names), r"\midrule", *rows,
        r"\bottomrule", r"\end{tabular}", "", r"\smallskip", r"\parbox{\linewidth}{\footnotesize",
        *_notes(results, metrics, names), "}", r"\end{table}",
    ]  # fmt: skip
    return "\n".join(body) + "\n"


def _row(cells: Sequence[str]) -> str:
    """A line of the table; a bracket or star at its start would be an argument of the line break before it."""
    guard = "{}" if cells[0].startswith(("[", "*")) else ""
    return guard + " & ".join(cells) + r" \\"


def _head(metrics: Sequence[str], names: str) -> list[str]:
    """Two lines: directions that span their metrics, then the metrics."""
    directions = [metric.partition("/")[0] for metric in metrics]
    spans = [(name, directions.count(name)) for name in dict.fromkeys(directions)]
    first = " & ".join(
        rf"\multicolumn{{{count}}}{{c}}{{{escaped(shown_direction(name, names))}}}" for name, count in spans
    )
    rules, start = [], 2
    for _, count in spans:
        rules.append(rf"\cmidrule(lr){{{start}-{start + count - 1}}}")
        start += count
    second = " & ".join(escaped(shown_metric(metric.partition("/")[2], names)) for metric in metrics)
    return [f" & {first} \\\\", "".join(rules), f"system & {second} \\\\"]


def _value(score: Any, gain: Any) -> str:
    mark = MARKS.get(gain.verdict, "") if gain is not None else ""
    return _number(score.value, score.metric) + mark


def _interval(score: Any) -> str:
    if not math.isfinite(score.low):
        return ""
    return rf"{{\scriptsize [{_number(score.low, score.metric)}, {_number(score.high, score.metric)}]}}"


def _number(value: float, metric: str) -> str:
    if not math.isfinite(value):
        return "--"
    return f"{100 * value:.1f}" if _is_share(metric) else f"{value:.1f}"


def _is_share(metric: str) -> bool:
    return higher_is_better(metric.partition("/")[2])


def _notes(results: Mapping[str, Any], metrics: Sequence[str], names: str) -> list[str]:
    """The footnote: unit, intervals, n, tests, and what every metric means."""
    scored = {one.metric.partition("/")[0]: one for one in results["scores"]}
    sizes = "; ".join(f"{name}: n = {one.n:,} queries in {one.clusters:,} clusters" for name, one in scored.items())
    words = [
        "Per cent (ranks as ranks), with 95 % cluster-bootstrap intervals in brackets. " + sizes + ".",
        "Expected values under random tie order.",
    ]
    notes = [escaped(sentence) for sentence in words]
    if results["gains"]:
        notes.append(
            rf"$^{{*}}$ better, $^{{\dagger}}$ worse than {escaped(results['baseline'])}: paired randomisation test "
            rf"over clusters, $p \leq 0.05$ after Holm's correction over {len(results['gains'])} comparisons; no mark: "
            "not shown."
        )
    if results["published"]:
        notes.append("Rows marked unpaired are as published: on other scores per query, so no test is possible.")
    plain = list(dict.fromkeys(metric.partition("/")[2] for metric in metrics))
    for family, meaning in definitions(plain).items():
        members = ", ".join(shown_metric(name, names) for name in plain if name in family.split(", "))
        notes.append(f"{escaped(members)}: {escaped(meaning)}.")
    return notes
