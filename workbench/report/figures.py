"""The figures of an executed notebook as files: each as PDF, beside the numbers it draws as CSV."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

from workbench.files import write_atomically
from workbench.html.display import DRAWINGS


def take_figures(notebook: Path, folder: Path) -> tuple[str, ...]:
    """Take the vector figures out of a notebook's outputs into ``folder/NAME.pdf`` and ``NAME.csv``; their names.

    A figure is named after the call that drew it: ``report.hubness(report.first)`` becomes ``hubness-first``. Files of
    an earlier drawing are removed first; the notebook keeps its pictures and tables.
    """
    import nbformat

    nb = nbformat.read(notebook, as_version=4)
    found: dict[str, Any] = {}
    for cell in nb.cells:
        drawn = [one for output in cell.get("outputs", ()) for one in output.get("data", {}).pop(DRAWINGS, ())]
        for output in cell.get("outputs", ()):
            output.get("metadata", {}).pop(DRAWINGS, None)
        for number, one in enumerate(drawn, start=1):
            found[_free(_called(cell.source) + (f"-{number}" if len(drawn) > 1 else ""), found)] = one
    for old in [*folder.glob("*.pdf"), *folder.glob("*.csv")]:
        old.unlink()
    for name, one in found.items():
        write_atomically(folder / f"{name}.pdf", base64.b64decode(one["pdf"]))
        write_atomically(folder / f"{name}.csv", one["csv"].encode())
    if found:
        nbformat.write(nb, notebook)
    return tuple(found)


def _called(source: str) -> str:
    """A file name from the last line of a cell.

    >>> _called('report.look("hubs " + report.first)'), _called("audit.curve()")
    ('look-hubs-first', 'curve')
    """
    last = (source.strip().splitlines() or [""])[-1]
    words = re.findall(r"\w+", re.sub(r"\b\w+\.(?=\w)", "", last))
    return "-".join(words).lower()[:60] or "figure"


def _free(name: str, taken: dict[str, Any]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free
