"""Run a notebook with papermill in this interpreter, and leave nothing of this machine in the result."""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.files import scrubbed

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_LINE = re.compile(r"Cell In\[(\d+)\], line (\d+)")


@dataclass(frozen=True)
class Executed:
    """A finished notebook: where it is, and what its cells wrote to stderr (taken out of it), by execution count."""

    path: Path
    messages: tuple[tuple[int, str], ...]


class NotebookFailed(RuntimeError):
    """A cell raised, took too long, or its kernel died. The notebook is kept as it was at that moment.

    cell : execution count, the n of ``In [n]`` in the kept notebook (0: no cell was started). line, source : the line
    that failed, 1-based, and its text. error, message : the exception's name and text. kept : path of the notebook.
    """

    def __init__(
        self, notebook: str, *, cell: int, line: int, source: str, error: str, message: str, kept: Path
    ) -> None:
        self.cell, self.line, self.source = cell, line, source
        self.error, self.message, self.kept = error, message, kept
        where = f"cell In [{cell}], line {line}: {source.strip()}" if cell else "before its first cell"
        super().__init__(
            f"{notebook} failed in {where}\n{error}: {message}\nThe notebook is kept as it was at that point: {kept}"
        )


def execute(
    notebook: Path | str,
    output: Path | str,
    parameters: Mapping[str, Any],
    *,
    cwd: Path | str,
    timeout_per_cell: float | None = None,
    progress: bool = True,
) -> Executed:
    """Run a notebook from top to bottom with the given parameters and write the executed one to ``output``.

    The kernel is this very interpreter, whatever kernels are registered, with a clean IPython profile. While running
    the file is ``NAME.partial.ipynb``, after a failure ``NAME.failed.ipynb``; ``output`` appears only at success.
    parameters : plain JSON values, checked before (:class:`workbench.parameters.Schema`). cwd : working directory of
    the cells. timeout_per_cell : seconds, None for no limit. progress : a bar on stderr, if that is a terminal.
    Times, paths, versions and stderr do not enter the file; NotebookFailed tells what went wrong.
    """
    notebook, output = Path(notebook), Path(output)
    partial, failed = (output.with_suffix(f".{state}.ipynb") for state in ("partial", "failed"))
    if not notebook.is_file():
        raise FileNotFoundError(f"there is no notebook {notebook}")
    partial.parent.mkdir(parents=True, exist_ok=True)
    failed.unlink(missing_ok=True)
    try:
        _run(notebook, partial, parameters, Path(cwd).resolve(), timeout_per_cell, progress)
        messages = _clean(notebook, partial)
    except Exception as error:
        if partial.exists():
            os.replace(partial, failed)
        failure = _failure(notebook, failed, error)
        _without_places(failed)
        raise failure from error
    except BaseException:
        partial.unlink(missing_ok=True)  # interrupted: papermill's own file names this machine's folders
        raise
    os.replace(partial, output)
    return Executed(output, messages)


def _run(
    notebook: Path, partial: Path, parameters: Mapping[str, Any], cwd: Path, timeout: float | None, progress: bool
) -> None:
    import papermill

    with _quiet("papermill"), tempfile.TemporaryDirectory(prefix="workbench-ipython-") as profile:
        papermill.execute_notebook(
            _unformatted(notebook),
            _unformatted(partial),
            dict(parameters),
            kernel_name=KERNEL["name"],
            language=KERNEL["language"],
            kernel_manager_class=_kernel_manager(profile),
            resources={"metadata": {"path": str(cwd)}},
            execution_timeout=timeout,
            record_timing=False,
            progress_bar={"desc": notebook.stem, "leave": False, "disable": None if progress else True},
        )


def _kernel_manager(profile: str) -> type:
    """A kernel manager class whose only kernel is this interpreter, with an empty IPython profile."""
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from traitlets import default

    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=CRITICAL"]
    environment = {"PYDEVD_DISABLE_FILE_VALIDATION": "1", "IPYTHONDIR": profile, "TQDM_DISABLE": "1"}

    class ThisInterpreter(KernelSpecManager):  # type: ignore[misc]
        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            return KernelSpec(argv=argv, env=environment, display_name=KERNEL["display_name"], language="python")

    class Manager(AsyncKernelManager):  # type: ignore[misc]
        @default("transport")
        def _own_transport(self) -> str:
            return "tcp" if os.name == "nt" else "ipc"  # sockets in a private folder, not open ports

        @default("ip")
        def _own_address(self) -> str:
            return "127.0.0.1" if os.name == "nt" else str(Path(profile) / "socket")

        @default("connection_file")
        def _own_connection_file(self) -> str:
            return str(Path(profile) / "kernel.json")

        @default("kernel_spec_manager")
        def _own_kernel_specs(self) -> KernelSpecManager:
            return ThisInterpreter(parent=self)

    return Manager


def _clean(notebook: Path, path: Path) -> tuple[tuple[int, str], ...]:
    """Take times, paths, versions and stderr out of an executed notebook; return what was on stderr."""
    import nbformat

    nb = nbformat.read(path, as_version=4)
    _complete(nb)
    nb.metadata = nbformat.from_dict(
        {"kernelspec": KERNEL, "language_info": {"name": "python", "pygments_lexer": "python3"}}
    )
    known = {cell.get("id") for cell in nbformat.read(notebook, as_version=nbformat.NO_CONVERT).get("cells", [])}
    messages: list[tuple[int, str]] = []
    for position, cell in enumerate(nb.cells):
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]
        if cell.id not in known:  # papermill gives random ids to new cells
            cell.id = f"cell-{position}"
        if cell.cell_type == "code":
            messages += [(cell.execution_count or 0, o.text) for o in cell.outputs if o.get("name") == "stderr"]
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    nbformat.write(nb, path)
    return tuple(messages)


def _complete(nb: Any) -> None:
    """papermill takes ``exit()`` in a cell for success: here every code cell must have run."""
    code = [cell for cell in nb.cells if cell.cell_type == "code" and cell.source.strip()]
    left = [cell for cell in code if cell.execution_count is None or "error" in {o.output_type for o in cell.outputs}]
    if left:
        raise RuntimeError(f"the kernel was left early: {len(left)} of {len(code)} code cells did not finish")


def _failure(notebook: Path, kept: Path, error: Exception) -> NotebookFailed:
    name, message = type(error).__name__, str(error).strip()
    cell, line, source, traceback = 0, 1, "", ""
    if hasattr(error, "exec_count"):  # papermill's account of a cell that raised
        cell, source, traceback = error.exec_count, error.source, "\n".join(error.traceback)
        name, message = error.ename, error.evalue
    elif kept.exists():
        cell, source = _last_started(kept)
    frames = [int(n) for count, n in _LINE.findall(_ANSI.sub("", traceback)) if int(count) == cell]
    lines = source.splitlines() or [""]
    line = min(frames[0], len(lines)) if frames else line
    return NotebookFailed(
        notebook.name, cell=cell, line=line, source=lines[line - 1], error=name, message=message, kept=kept
    )


def _without_places(path: Path) -> None:
    """Take papermill's file names, and the folders in tracebacks, out of a notebook that failed."""
    import nbformat

    if not path.exists():
        return
    nb = nbformat.read(path, as_version=4)
    nb.metadata.pop("papermill", None)
    for cell in nb.cells:
        cell.metadata.pop("papermill", None)
        for output in cell.get("outputs", ()):
            if output.output_type == "error":
                output.evalue = scrubbed(output.evalue)
                output.traceback = [scrubbed(_ANSI.sub("", line)) for line in output.traceback]
            elif "text" in output:
                output.text = scrubbed(output.text)
    nbformat.write(nb, path)


def _last_started(path: Path) -> tuple[int, str]:
    import nbformat

    started = [
        cell
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code" and cell.metadata.get("papermill", {}).get("start_time")
    ]
    return (len(started), started[-1].source) if started else (0, "")


def _unformatted(path: Path) -> str:
    """papermill formats paths as templates; braces in a folder name are meant as braces."""
    return str(path.resolve()).replace("{", "{{").replace("}", "}}")


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
