"""From parameters to an offline report: check, compute, run the notebook, export one HTML file.

In a notebook, ``run = workbench.report.start("audit", globals())`` is the second cell: it checks the parameters in the
kernel, so that bare papermill is as safe as the command line, and computes or loads the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.failures import ReportFailed
from workbench.parameters import Schema, read_schema
from workbench.report.audit import AuditReport
from workbench.report.compare import CompareReport
from workbench.report.hubness import HubnessReport
from workbench.report.integrity import IntegrityReport
from workbench.report.reproducibility import ReproducibilityReport
from workbench.runs import Run, RunFolder
from workbench.shipped import find

__all__ = [
    "AuditReport", "CompareReport", "HubnessReport", "IntegrityReport", "ReportFailed", "Written", "draw",
    "load_report", "notebooks", "report", "schema_of", "start",
]  # fmt: skip
KINDS: dict[str, type[AuditReport]] = {
    "audit": AuditReport,
    "compare": CompareReport,
    "hubness": HubnessReport,
    "integrity": IntegrityReport,
    "reproducibility": ReproducibilityReport,
}


@dataclass(frozen=True)
class Written:
    """A finished report: its run folder, the HTML file in it and that file's size in bytes."""

    folder: Path
    page: Path
    size: int


def notebooks() -> dict[str, Path]:
    """The report notebooks by name."""
    return {path.stem: path for path in sorted(find("notebooks/reports").glob("*.ipynb"))}


def schema_of(name: str) -> Schema:
    """The parameters of a report notebook."""
    known = notebooks()
    if name not in known:
        raise ValueError(f"no report is called {name!r}; there is {', '.join(known)}")
    return read_schema(known[name])


def start(name: str, namespace: Mapping[str, Any]) -> AuditReport:
    """Check the notebook's parameters and compute the run, or load the one that ``run`` names."""
    parameters = schema_of(name).check(namespace)
    if parameters["run"]:
        return load_report(parameters["run"], name)
    folder = _compute(name, Path("runs"), parameters, say=_teller())
    with folder:
        return load_report(folder.finish(), name)


def load_report(path: str | Path, name: str = "audit") -> AuditReport:
    """The report object of a finished run folder; an error if the folder is that of another report."""
    run = Run(path)
    _check_kind(run, name)
    return KINDS[name](run)


def _compute(
    name: str, out: Path, parameters: Mapping[str, Any], *, encoder: Any = None, progress: bool | None = None,
    say: Callable[[str], None],
) -> RunFolder:  # fmt: skip
    """The unfinished run folder of a report: from data and an encoder, or from finished runs."""
    if name == "compare":
        from workbench.evaluate.comparison import compare_into

        return compare_into(out, parameters, say=say)
    from workbench.evaluate import evaluate_into

    return evaluate_into(out, parameters, report=name, encoder=encoder, progress=progress, say=say)


def _check_kind(run: Run, name: str) -> None:
    written = run.manifest.get("report", "audit")
    if written != name:
        raise ValueError(f"{run.path.name} is a run of the {written} report, not of {name}; draw it with that one")


def _teller() -> Callable[[str], None]:
    """Shows lines of progress below the running cell; silent outside a kernel."""
    from IPython import get_ipython
    from IPython.display import display

    if get_ipython() is None:
        return lambda line: None
    lines: list[str] = []
    place = display({"text/plain": "starting"}, raw=True, display_id=True)

    def tell(line: str) -> None:
        lines.append(line)
        place.update({"text/plain": "\n".join(lines)}, raw=True)

    return tell


def report(
    name: str,
    parameters: Mapping[str, Any],
    *,
    out: Path,
    encoder: Any = None,
    progress: bool | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Written:
    """Compute a run (unless ``parameters["run"]`` names one) and draw its report into the run folder."""
    if parameters["run"]:
        path = Path(parameters["run"])
        return _finished(draw(name, path, progress=progress is not False, say=say), path)
    folder = _compute(name, out, parameters, encoder=encoder, progress=progress, say=say)
    unfinished = str(folder.path)
    try:
        with folder, folder.meter.stage("drawing"):
            size = draw(name, folder.path, progress=progress is not False, say=say)
            return _finished(size, folder.finish())
    except ReportFailed as error:
        raise ReportFailed(str(error).replace(unfinished, str(folder.path)), folder.path) from error


def _finished(size: int, path: Path) -> Written:
    return Written(path, path / "report.html", size)


def draw(name: str, path: Path, *, progress: bool = True, say: Callable[[str], None] = lambda line: None) -> int:
    """Run the notebook on a finished run folder and export ``report.html``; returns its size in bytes."""
    from workbench import html
    from workbench.report.execute import NotebookFailed, execute
    from workbench.report.figures import take_figures

    run = Run(path)
    if not isinstance(run.manifest.get("parameters"), dict) or not isinstance(run.manifest.get("card"), dict):
        raise ValueError(f"{path.name}/manifest.json lacks 'parameters' or 'card', so it is not whole; evaluate again")
    _check_kind(run, name)
    say("drawing the report")
    try:
        # The folder itself is the working directory, so that neither its place nor its unfinished name is written.
        shown = {**run.manifest["parameters"], "run": "."}
        execute(notebooks()[name], path / "report.ipynb", shown, cwd=path, progress=progress)
        take_figures(path / "report.ipynb", path / "figures")
        title = f"{name.capitalize()}: {run.manifest['card']['name']}"
        return html.export(path / "report.ipynb", path / "report.html", title=title)
    except (NotebookFailed, html.ExportError) as error:
        raise ReportFailed(str(error), path) from error
