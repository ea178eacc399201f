"""Running a notebook: this interpreter, right types, nothing of the machine left, and failures that tell where."""

from __future__ import annotations

import getpass
import json
import socket
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from workbench.report.execute import Executed, NotebookFailed, execute

PARAMETERS = {
    "name": 'a "quoted" \\ text\nwith {braces}, ümlaut and \N{PILE OF POO}', "digits": "007", "flag": True,
    "other": False, "k": 7, "alpha": 1e-7, "items": [1, "two", True, [0.5]], "none_given": [],
}  # fmt: skip
DEFAULTS = 'name = ""\ndigits = ""\nflag = False\nother = True\nk = 1\nalpha = 0.5\nitems = []\nnone_given = [1]'


def write(path: Path, *sources: str) -> Path:
    cells = [new_markdown_cell("# Title"), new_code_cell(DEFAULTS, metadata={"tags": ["parameters"]})]
    nb = new_notebook(cells=cells + [new_code_cell(source) for source in sources])
    nb.metadata["kernelspec"] = {"name": "kernel-of-elsewhere", "display_name": "Elsewhere", "language": "python"}
    nbformat.write(nb, path)
    return path


def run(tmp: Path, *sources: str, **options: object) -> Executed:
    notebook = write(tmp / "audit.ipynb", *sources)
    return execute(notebook, tmp / "run {x}" / "report.ipynb", PARAMETERS, cwd=tmp, progress=False, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Executed:
    """A run whose IPython profile and registered kernels would break it, if they were used."""
    tmp = tmp_path_factory.mktemp("good")
    (tmp / "kernels" / "python3").mkdir(parents=True)
    (tmp / "kernels" / "python3" / "kernel.json").write_text(
        json.dumps({"argv": ["/nowhere/python", "{connection_file}"], "display_name": "trap", "language": "python"})
    )
    startup = tmp / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("from_profile = 1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(tmp))
        patch.setenv("IPYTHONDIR", str(tmp / "ipython"))
        return run(
            tmp,
            "import json, os, sys, warnings\nwarnings.warn('look at me')\nprint('noise', file=sys.stderr)",
            "json.dump([name, digits, flag, other, k, alpha, items, none_given], open('seen.json', 'w'))",
            "json.dump([sys.executable, os.getcwd(), 'from_profile' in globals()], open('where.json', 'w'))",
            "print('kept')\nk + 1",
        )


def test_parameters_arrive_with_their_types(done: Executed) -> None:
    seen = json.loads((done.path.parent.parent / "seen.json").read_text())
    assert seen == list(PARAMETERS.values())
    assert [type(value) for value in seen] == [type(value) for value in PARAMETERS.values()]


def test_the_kernel_is_this_interpreter_in_the_given_folder_without_a_profile(done: Executed) -> None:
    folder = done.path.parent.parent
    assert json.loads((folder / "where.json").read_text()) == [sys.executable, str(folder.resolve()), False]


def test_the_result_holds_nothing_of_the_machine_or_the_hour(done: Executed) -> None:
    text = done.path.read_text("utf-8")
    facts = [str(done.path.parent.parent), sys.prefix, "kernel-of-elsewhere", "papermill", "start_time", "UserWarning"]
    facts += [socket.gethostname(), f"/{getpass.getuser()}/", sys.version.split()[0], "iopub"]
    assert [fact for fact in facts if fact in text] == []
    nb = nbformat.read(done.path, as_version=4)
    nbformat.validate(nb)
    assert nb.cells[-1].outputs[0].text == "kept\n"
    assert nb.cells[-1].outputs[1].data["text/plain"] == "8"
    assert [cell.id for cell in nb.cells if "injected-parameters" in cell.metadata.get("tags", [])] == ["cell-2"]


def test_stderr_is_taken_out_and_handed_over(done: Executed) -> None:
    assert [count for count, _ in done.messages] == [3] * len(done.messages)
    text = "".join(text for _, text in done.messages)
    assert "look at me" in text
    assert "noise" in text


def test_only_the_finished_notebook_is_left(done: Executed) -> None:
    assert [path.name for path in done.path.parent.iterdir()] == ["report.ipynb"]


def test_two_runs_give_the_same_bytes_and_no_noise(
    done: Executed, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    sources = [cell.source for cell in nbformat.read(done.path, as_version=4).cells[3:]]
    again = run(tmp_path, *sources)
    ids = [cell.id for cell in nbformat.read(done.path, as_version=4).cells]
    nb = nbformat.read(again.path, as_version=4)
    for cell, cell_id in zip(nb.cells, ids, strict=True):  # the sources were written twice, with ids of their own
        cell.id = cell_id
    assert nbformat.writes(nb).strip() == done.path.read_text("utf-8").strip()
    assert capfd.readouterr() == ("", "")


def test_a_failing_cell_is_named_and_the_notebook_kept(tmp_path: Path) -> None:
    with pytest.raises(NotebookFailed) as caught:
        run(tmp_path, "def broken():\n    return 1 / 0", "x = 1\nbroken()  # here", "print('never')")
    error = caught.value
    assert (error.cell, error.line, error.source) == (4, 2, "broken()  # here")
    assert (error.error, error.message) == ("ZeroDivisionError", "division by zero")
    assert error.kept.name == "report.failed.ipynb"
    assert [path.name for path in error.kept.parent.iterdir()] == ["report.failed.ipynb"]
    assert "ZeroDivisionError" in error.kept.read_text("utf-8")
    assert str(error.kept) in str(error)


def test_leaving_the_kernel_early_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(NotebookFailed, match="2 of 4 code cells did not finish"):
        run(tmp_path, "raise SystemExit(0)", "print('never')")


@pytest.mark.slow
def test_a_slow_cell_and_a_dead_kernel_are_failures(tmp_path: Path) -> None:
    with pytest.raises(NotebookFailed) as caught:
        run(tmp_path, "import time", "time.sleep(60)", timeout_per_cell=1)
    assert (caught.value.cell, caught.value.source) == (4, "time.sleep(60)")
    assert caught.value.error == "CellTimeoutError"
    with pytest.raises(NotebookFailed, match="DeadKernelError"):
        run(tmp_path, "import os", "os._exit(3)")


def test_a_missing_notebook_is_a_failure_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.ipynb"):
        execute(tmp_path / "nowhere.ipynb", tmp_path / "out.ipynb", {}, cwd=tmp_path)
