"""The mutation tester finds what it should, leaves alone what it should, and tells a killed mutant from a survivor."""

from __future__ import annotations

import ast
import re
import shutil
import types
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mutants import __main__ as command
from tests.mutants import targets
from tests.mutants.find import Mutant, mutants_of, sample
from tests.mutants.report import Accepted, read_accepted, summary, verdict_lines
from tests.mutants.trial import Clean, TrialError, Verdict, Worker, _callers, clean_run, try_all, workers

ROOT = Path(__file__).resolve().parent.parent


def changes(line: str) -> set[str]:
    """What the body of a function can become."""
    return {mutant.changed for mutant in mutants_of("f.py", f"def f(a, b, c):\n    {line}\n".encode())}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("return a < b", {"return a <= b"}),
        ("return a >= b", {"return a > b"}),
        ("return a == b", {"return a != b"}),
        ("return a < b <= c", {"return a <= b <= c", "return a < b < c"}),
        ("return a not in b", {"return a in b"}),
        ("return a - (b + c)", {"return a + (b + c)", "return a - (b - c)"}),
        ("return (a) * b / c", {"return (a) / b / c", "return (a) * b * c"}),
        ("return a // b", {"return (-(-(a) // (b)))"}),
        ("return a**2", {"return a*2", "return a**3", "return a**1"}),
        ("a += b", {"a -= b"}),
        ("return 0", {"return 1"}),
        ("return 3", {"return 4", "return 2"}),
        ("return 0.5", {"return 0.25"}),
        ("return 0.0", {"return 1.0"}),
        ("return -a", {"return a"}),
        ("return ~a", {"return a"}),
        ("return not a", {"return a"}),
        ("return a and b or c", {"return a or b or c", "return a and b and c"}),
        ("return a[b:c]", {"return a[(b) + 1:c]", "return a[b:(c) + 1]"}),
        ("return a[1:]", {"return a[2:]", "return a[0:]"}),
        ("return a[::-1]", {"return a[::1]", "return a[::-2]", "return a[::-0]"}),
        ("return max(a, b)", {"return min(a, b)"}),
        ("return np.minimum(a, b)", {"return np.maximum(a, b)"}),
        ("return a.any()", {"return a.all()"}),
        ("return a.sum(axis=0)", {"return a.sum(axis=1)"}),
        ("return a.sum(axis=-1)", {"return a.sum(axis=0)"}),
        ("return np.sort(a)", {"return np.sort(a)[::-1]"}),
        ("return sorted(a)", {"return sorted(a)[::-1]"}),
        ("return np.cumsum(a)", {"return np.cumsum(a)[::-1]"}),
        ("return np.lexsort((a, -b))", {"return np.lexsort((-b, a))", "return np.lexsort((a, b))"}),
        ('return np.argsort(a, kind="stable")', {
            'return np.argsort(a, kind="quicksort")', 'return np.argsort(a, kind="stable")[::-1]',
        }),
        ('return np.searchsorted(a, b, "left")', {'return np.searchsorted(a, b, "right")'}),
        ("return np.searchsorted(a, b)", {'return np.searchsorted(a, b, side="right")'}),
        ("return a.searchsorted(b)", {'return a.searchsorted(b, side="right")'}),
        ("return a if b else c", {"return a if not (b) else c"}),
        ("return [x for x in a if x]", {"return [x for x in a if True]"}),
        ("return f(flag=True)", {"return f(flag=False)"}),
    ],
)  # fmt: skip
def test_what_a_line_can_become(line: str, expected: set[str]) -> None:
    assert changes(line) == expected


def test_guards_and_branches_are_taken_out() -> None:
    guard = 'if a < 0:\n        raise ValueError("at least 0")'
    assert 'if False: raise ValueError("at least 0")' not in changes(guard)
    found = {mutant.operator: mutant.changed for mutant in mutants_of("f.py", f"def f(a):\n    {guard}\n".encode())}
    assert found == {"guard": "if False:", "comparison": "if a <= 0:", "number+1": "if a < 1:"}
    assert {"if False:"} == changes("if a:\n        b = c")


def test_multiple_lines_stay_one_change() -> None:
    (found,) = [m for m in mutants_of("f.py", b"x = (a\n     < b)\n") if m.operator == "comparison"]
    assert (found.line, found.source, found.changed) == (2, "< b)", "<= b)")


@pytest.mark.parametrize(
    "line",
    [
        '"""Values in 0 .. 1, a < b."""', 'return f"{a + 1}"', 'raise ValueError(f"{a}" + b)', "return a",
        "from a import b", "x: Literal[3] | None", "return zip(a, b, strict=True)", "return a.astype(b, copy=False)",
        'return "a" + b', "return [a] * b",
    ],
)  # fmt: skip
def test_what_is_left_alone(line: str) -> None:
    assert changes(line) == set()


def test_decorators_annotations_exports_and_printing_are_left_alone() -> None:
    text = (
        b"from typing import Literal\n__all__ = ['a'][0:1]\nSide = Literal[1] | None\n"
        b"@dataclass(frozen=True)\nclass C:\n    def __repr__(self):\n        return 1 + 2\n"
        b"def f(a: Literal[1]) -> Literal[2]: ...\nif TYPE_CHECKING:\n    x = 3\n"
    )
    assert mutants_of("f.py", text) == []


def test_named_places_are_left_alone() -> None:
    text = b"A = 1\nclass C:\n    def f(self, k=1, n=2):\n        step = 3\n        return 4\n"
    sources = [mutant.source for mutant in mutants_of("f.py", text, skipped=["A", "C.f.k", "*.step"])]
    assert sources == ["def f(self, k=1, n=2):"] * 2 + ["return 4"] * 2
    assert mutants_of("f.py", text, skipped=["A", "*.f"]) == []


def test_the_scope_is_where_python_says_a_function_begins() -> None:
    text = "A = 1\n\n\n@staticmethod\ndef f(k=1):\n    def g():\n        return 2\n    return g\n"
    scopes = {mutant.line: mutant.scope for mutant in mutants_of("f.py", text.encode())}
    code = next(part for part in compile(text, "f.py", "exec").co_consts if isinstance(part, types.CodeType))
    assert (code.co_name, code.co_firstlineno) == ("f", 4)
    assert scopes == {1: 0, 5: 4, 7: 4}


def test_columns_count_bytes_so_that_other_letters_do_no_harm() -> None:
    source = 'x = "ä€", a < b\n'.encode()
    (found,) = mutants_of("f.py", source)
    assert found.apply(source).decode() == 'x = "ä€", a <= b\n'


def population() -> list[Mutant]:
    files = targets.source_files(ROOT)
    return [
        mutant for file in files
        for mutant in mutants_of(file, (ROOT / file).read_bytes(), skipped=targets.skipped_names(file))
    ]  # fmt: skip


def test_every_file_on_trial_gives_mutants_that_differ_and_compile() -> None:
    everything = population()
    assert len(everything) > 1000
    assert len({mutant.id for mutant in everything}) == len(everything)
    for mutant in sample(everything, 60, seed=1):
        source = (ROOT / mutant.file).read_bytes()
        changed = mutant.apply(source)
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source)), mutant.id
        assert mutant.source != mutant.changed


def test_the_sample_is_seeded_and_in_proportion() -> None:
    everything = mutants_of("a.py", b"x = a < b\n" * 300) + mutants_of("b.py", b"x = a < b\n" * 100)
    chosen = sample(everything, 40, seed=3)
    assert Counter(mutant.file for mutant in chosen) == {"a.py": 30, "b.py": 10}
    assert chosen == sample(everything, 40, seed=3) != sample(everything, 40, seed=4)
    assert len(set(chosen)) == 40
    assert sample(everything, 1000, seed=0) == everything
    longer = mutants_of("a.py", b"x = a < b\n" * 600) + mutants_of("b.py", b"x = a < b\n" * 200)
    assert sample(longer, 80, seed=3)[60:80] == sample(longer, 80, seed=3)[-20:]


def test_names_that_are_skipped_exist() -> None:
    for (path, name), reason in targets.SKIPPED_NAMES.items():
        last = name.split(".")[-1]
        found = [file for file in ROOT.glob(path) if last in file.read_text(encoding="utf-8")]
        assert found, f"targets.py: no {name} in {path} ({reason})"


@pytest.mark.parametrize("package", targets.PACKAGES)
def test_the_suite_of_a_package_begins_with_its_own_tests(package: str) -> None:
    files = targets.suite(ROOT, package)
    assert files[0].startswith(f"tests/test_{package}")
    assert any(file.startswith(f"workbench/{package}") for file in files)
    assert all((ROOT / file).exists() for file in files)


def test_an_unknown_path_is_an_error() -> None:
    with pytest.raises(ValueError, match="no file to mutate below nowhere"):
        targets.source_files(ROOT, ["nowhere"])


def a_mutant(line: bytes = b"x = a < b\n") -> Mutant:
    return mutants_of("f.py", line)[0]


def entry(**changed: str) -> Accepted:
    fields = {"file": "f.py", "operator": "comparison", "source": "x = a < b", "changed": "x = a <= b", "reason": "so"}
    return Accepted(**{**fields, **changed})


def test_survivors_without_a_reason_are_open_and_fail() -> None:
    killed = [Verdict(a_mutant(), "killed", "t", 1.0)] * 8 + [Verdict(a_mutant(), "timeout", "", 9.0)]
    survivor = Verdict(a_mutant(), "survived", "", 1.0)
    found = summary([*killed, survivor], [])
    assert (found.n, found.killed, found.timeouts, found.accepted, found.open) == (10, 9, 1, 0, 1)
    assert not found.passes
    assert summary([*killed, survivor], [entry()]).passes
    assert not summary([*killed, survivor, survivor], [entry()]).passes  # 9 of 11
    lines = verdict_lines([*killed, survivor], [entry(source="other")])
    assert lines[1].split() == ["f.py", "8", "1", "1"]
    assert lines[2:] == ["OPEN f.py:1:6:comparison", "    - x = a < b", "    + x = a <= b"]
    assert verdict_lines([survivor], [entry()])[-1].strip() == "so"


def test_accepted_mutants_are_matched_by_text_not_by_line() -> None:
    moved = a_mutant(b"\n\n    \nx = a < b\n")
    assert moved.line == 4
    assert entry().fits(moved)
    for other in (entry(file="g.py"), entry(operator="guard"), entry(source="y"), entry(changed="y")):
        assert not other.fits(moved)


def test_the_list_of_accepted_mutants_is_complete_and_its_reasons_are_not_empty(tmp_path: Path) -> None:
    read_accepted(command.ACCEPTED)
    bad = tmp_path / "accepted.toml"
    bad.write_text('[[accepted]]\nfile = "f.py"\noperator = "x"\nsource = "a"\nchanged = "b"\nreason = " "\n')
    with pytest.raises(ValueError, match="an entry needs"):
        read_accepted(bad)


def test_calls_at_collection_and_in_shared_fixtures_count_for_all_tests_they_serve() -> None:
    tests = ["a.py::slow", "a.py::quick", "b.py::one"]
    calls = {"collection": ["f:1"], "a.py": ["f:2"], "a.py::quick": ["f:3"], "b.py::one": ["f:3"]}
    assert _callers(calls, tests) == {"f:1": tests, "f:2": tests[:2], "f:3": tests[1:]}


def test_times_are_summed_by_file() -> None:
    clean = Clean({"tests/a.py::x": 1.0, "workbench/m.py::m.f": 2.5, "tests/a.py::y": 2.0}, {}, [], 1.0, 1.0)
    assert list(clean.by_file().items()) == [("tests/a.py", 3.0), ("doctests", 2.5)]


def test_a_mutant_outside_of_functions_meets_every_test() -> None:
    clean = Clean({"t": 1.0}, {"f.py:1": ["t"]}, [], 1.0, 1.0)
    assert clean.tests_of(a_mutant()) is None
    inside = mutants_of("f.py", b"def f(a):\n    return a < 0\n")[0]
    assert clean.tests_of(inside) == ["t"]


CODE = '''
def clip(x, low=0):
    """
    >>> clip(-1), clip(2)
    (0, 2)
    """
    if x != x:
        raise ValueError("NaN")
    while x < low:
        x = x + 1
    return x


def unused(x):
    return x + 1
'''
TESTS = """
import sys
import pytest
from workbench.metrics import clip

def test_small():
    assert clip(-2) == 0

@pytest.mark.slow
def test_never():
    raise AssertionError
"""


def small_checkout(root: Path) -> Path:
    for name, text in {
        "workbench/__init__.py": "", "workbench/metrics/__init__.py": CODE, "tests/test_metrics.py": TESTS,
        "pyproject.toml": '[tool.pytest.ini_options]\naddopts = "--doctest-modules"\nmarkers = ["slow"]\n',
    }.items():  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    shutil.copytree(Path(command.__file__).parent, root / "tests" / "mutants")
    return root


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    folder = tmp_path_factory.mktemp("mutants")
    with workers(small_checkout(folder / "main"), folder, 1) as (started,):
        yield started


def test_mutants_are_killed_survive_or_never_end(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    file = "workbench/metrics/__init__.py"
    source = (worker.checkout / file).read_bytes()
    monkeypatch.setattr("tests.mutants.trial._GRACE", 1.0)
    clean = clean_run([worker], "metrics")
    mutants = mutants_of(file, source)
    verdicts = try_all([worker], mutants, {file: source}, {"metrics": clean}, lambda verdict: None)
    assert set(clean.tests) == {f"{file}::workbench.metrics.clip", "tests/test_metrics.py::test_small"}
    found = {verdict.mutant.id.removeprefix(file): verdict.status for verdict in verdicts}
    assert found == {
        ":2:16:number+1": "killed", ":7:7:guard": "survived", ":7:9:comparison": "killed",
        ":9:12:comparison": "killed", ":10:14:arithmetic": "timeout", ":10:16:number+1": "killed",
        ":10:16:number-1": "timeout", ":15:13:arithmetic": "survived", ":15:15:number+1": "survived",
        ":15:15:number-1": "survived",
    }  # fmt: skip
    assert (worker.checkout / file).read_bytes() == source


def test_what_is_absent_looks_as_if_it_were_not_installed(worker: Worker) -> None:
    path = worker.checkout / "tests" / "test_absent.py"
    path.write_text(
        "import importlib.util, sys\nimport pytest\n"
        "def test_it():\n    assert importlib.util.find_spec('torch') is None\n    assert 'torch' not in sys.modules\n"
        "    with pytest.raises(ModuleNotFoundError):\n        import torch\n"
    )
    assert worker.run(["tests/test_absent.py"])["status"] == "survived"
    path.unlink()


def test_the_test_that_kills_is_named(worker: Worker) -> None:
    file = "workbench/metrics/__init__.py"
    found = worker.run(["tests/test_metrics.py"], write={file: CODE.replace("low=0", "low=1")})
    assert (found["status"], found["failed"]) == ("killed", "tests/test_metrics.py::test_small")
    assert worker.run(["tests/test_metrics.py"], write={file: "def ("})["status"] == "killed"
    assert worker.run(["tests/test_metrics.py"], write={file: "import os; os._exit(3)"})["status"] == "killed"
    assert worker.run(["tests/test_metrics.py"], only=["no such test"])["status"] == "no tests"
    assert worker.run(["tests/test_metrics.py"])["status"] == "survived"


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        (
            TESTS.replace("== 0", "== 1"),
            r"metrics does not pass .*\(killed after \d+ s\): tests/test_metrics.py::test_small",
        ),
        (TESTS.replace("import sys", "import torch"), r"metrics does not pass .*torch"),
        ("from workbench import metrics", "does not pass"),
    ],
)
def test_a_suite_that_fails_or_needs_torch_stops_before_anything_is_changed(
    worker: Worker, tests: str, message: str
) -> None:
    path = worker.checkout / "tests" / "test_metrics.py"
    path.write_text(tests)
    doctests = worker.checkout / "workbench" / "metrics" / "__init__.py"
    doctests.write_text(CODE if "clip" in tests else "")
    try:
        with pytest.raises(TrialError, match=re.compile(message, re.DOTALL)):
            clean_run([worker], "metrics")
    finally:
        path.write_text(TESTS)
        doctests.write_text(CODE)


def test_the_command_lists_its_sample(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list", "--n", "5", "--only", "workbench/metrics"]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("5 of ")
    assert len(rest) == 15
    assert all(line.startswith("workbench/metrics/") for line in rest[::3])
    assert command.main(["--list", "--only", "nowhere"]) == 2
