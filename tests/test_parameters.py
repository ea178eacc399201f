"""The parameters cell is the schema: what it accepts, what it refuses, and that it says so by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from workbench.parameters import ParameterError, Schema, injected_names, parse_cell, read_schema

CELL = """
# what is audited
dataset = "scenes"  # data set; folder:PATH or embeddings:PATH
share = "full"  # what may leave this machine; one of: full, no-images, no-content
k = 10  # 1..1000 neighbours per query
shift = -1  # -5..5
alpha = 0.05  # level of the intervals; 0.0..1.0
keep = False  # keep the vectors
cutoffs = [1, 5, 10]  # 1..1000
notes = "a # is no comment here"
anything = []
"""


@pytest.fixture
def schema() -> Schema:
    return parse_cell(CELL, "audit")


def problems(schema: Schema, *assignments: str) -> str:
    with pytest.raises(ParameterError) as caught:
        schema.parse(assignments)
    return "\n".join(caught.value.problems)


def found(schema: Schema, **changes: object) -> str:
    with pytest.raises(ParameterError) as caught:
        schema.check({**schema.defaults, **changes})
    return "\n".join(caught.value.problems)


def write_notebook(path: Path, *cells: tuple[str, list[str]]) -> Path:
    code = [{"cell_type": "code", "source": source, "metadata": {"tags": tags}} for source, tags in cells]
    path.write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": "# T"}, *code]}), "utf-8")
    return path


def test_the_cell_is_read_with_types_help_and_constraints(schema: Schema) -> None:
    assert schema.defaults == {
        "dataset": "scenes", "share": "full", "k": 10, "shift": -1, "alpha": 0.05, "keep": False,
        "cutoffs": [1, 5, 10], "notes": "a # is no comment here", "anything": [],
    }  # fmt: skip
    by_name = {p.name: p for p in schema.parameters}
    assert by_name["dataset"].help == "data set; folder:PATH or embeddings:PATH"
    assert by_name["share"].choices == ("full", "no-images", "no-content")
    assert by_name["share"].help == "what may leave this machine"
    assert (by_name["k"].low, by_name["k"].high, by_name["k"].help) == (1, 1000, "neighbours per query")
    assert (by_name["shift"].low, by_name["shift"].high) == (-5, 5)
    assert (by_name["alpha"].low, by_name["alpha"].high) == (0, 1)
    assert by_name["notes"].help == ""


def test_help_has_a_row_per_parameter_in_order(schema: Schema) -> None:
    rows = schema.help()
    assert [row[0] for row in rows] == list(schema.defaults)
    assert rows[1] == ("share", "str", '"full"', "what may leave this machine; one of: full, no-images, no-content")
    assert rows[4] == ("alpha", "float", "0.05", "level of the intervals; 0..1")


@pytest.mark.parametrize(
    ("assignment", "name", "value"),
    [
        ("dataset=007", "dataset", "007"),
        ("dataset=true", "dataset", "true"),
        ("dataset=embeddings:a=b", "dataset", "embeddings:a=b"),
        ("dataset=", "dataset", ""),
        ("dataset= padded ", "dataset", " padded "),
        ("keep=true", "keep", True),
        ("keep=false", "keep", False),
        ("k=007", "k", 7),
        ("shift=-5", "shift", -5),
        ("alpha=1", "alpha", 1.0),
        ("alpha=5e-2", "alpha", 0.05),
        ("cutoffs=[2]", "cutoffs", [2]),
        ("cutoffs=[]", "cutoffs", []),
        ('anything=["x", 1, true, [2.5]]', "anything", ["x", 1, True, [2.5]]),
    ],
)
def test_command_line_texts_become_the_type_of_the_default(
    schema: Schema, assignment: str, name: str, value: object
) -> None:
    values = schema.parse([assignment])
    assert values == {**schema.defaults, name: value}
    assert type(values[name]) is type(value)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("keep=True", "keep = 'True' is not true or false"),
        ("keep=1", "keep = '1'"),
        ("k=1e3", "k = '1e3' is not a whole number"),
        ("k=1_000", "k = '1_000'"),
        ("k=٣", "k = '٣'"),
        ("k=", "k = ''"),
        ("k=0", "k = 0 is outside 1..1000"),
        ("k=1001", "k = 1001 is outside"),
        ("alpha=nan", "alpha = 'nan' is not a finite number"),
        ("alpha=1e999", "alpha = '1e999'"),
        ("alpha=1.01", "alpha = 1.01 is outside 0..1"),
        ("share=no-image", "did you mean 'no-images'?"),
        ("cutoffs=(1, 2)", "cutoffs = '(1, 2)' is not a list in JSON"),
        ("cutoffs=5", "this is a int"),
        ("cutoffs=[1, 0]", "cutoffs = 0 is outside"),
        ("cutoffs=[true]", "cutoffs[0] must be int; got True of type bool"),
        ("anything=[null]", "anything[0] must be str, bool, int, float or list; got None"),
        ("anything=[NaN]", "is not a list in JSON"),
        ("datset=x", "unknown parameter 'datset'; did you mean 'dataset'?"),
        ("Cut-offs=[1]", "did you mean 'cutoffs'?"),
        ("zzzzzz=1", "unknown parameter 'zzzzzz'; known: dataset, share"),
        ("k 5", "'k 5' has no '='"),
    ],
)
def test_bad_texts_are_refused_by_name(schema: Schema, assignment: str, message: str) -> None:
    assert message in problems(schema, assignment)


def test_all_problems_are_shown_together(schema: Schema) -> None:
    text = problems(schema, "k=0", "kk=3", "keep=maybe", "alpha=0.1", "alpha=0.2", "share")
    assert [word in text for word in ("k = 0", "'kk'", "keep = 'maybe'", "alpha is given twice", "'share' has no")] == (
        [True] * 5
    )
    assert len(text.splitlines()) == 5


def test_a_list_default_is_never_shared(schema: Schema) -> None:
    schema.parse([])["cutoffs"].append(99)
    assert schema.defaults["cutoffs"] == [1, 5, 10]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keep": "true"}, "keep must be bool; got 'true' of type str; papermill's own -p passes text"),
        ({"keep": 1}, "keep must be bool; got 1 of type int"),
        ({"k": True}, "k must be int; got True of type bool"),
        ({"k": 3.0}, "k must be int; got 3.0 of type float"),
        ({"k": np.int64(3)}, "k must be int; got np.int64(3) of type int64; pass a plain Python value"),
        ({"alpha": np.float64(0.5)}, "alpha must be float; got np.float64(0.5) of type float64"),
        ({"alpha": float("nan")}, "alpha must be a finite number"),
        ({"dataset": Path("data")}, "; pass str(path)"),
        ({"dataset": 7}, "dataset must be str; got 7 of type int"),
        ({"dataset": None}, 'there is no None, use "" or 0'),
        ({"cutoffs": (1, 5)}, "cutoffs must be list; got (1, 5) of type tuple; use a list"),
        ({"cutoffs": "(1, 5)"}, "cutoffs must be list; got '(1, 5)' of type str"),
        ({"cutoffs": [1, "5"]}, "cutoffs[1] must be int; got '5' of type str"),
        ({"share": "none"}, "share = 'none' is not one of: full, no-images, no-content"),
        ({"datset": "mine"}, "unknown parameter 'datset'; did you mean 'dataset'?"),
    ],
)
def test_values_in_a_kernel_are_checked_exactly(schema: Schema, change: dict[str, object], message: str) -> None:
    assert message in found(schema, **change)


def test_an_integer_is_a_fine_float_in_a_kernel(schema: Schema) -> None:
    value = schema.check({**schema.defaults, "alpha": 1})["alpha"]
    assert (value, type(value)) == (1.0, float)


def test_missing_names_are_reported(schema: Schema) -> None:
    with pytest.raises(ParameterError, match="k is missing"):
        schema.check({name: value for name, value in schema.defaults.items() if name != "k"})


def test_injected_names_come_from_the_history_not_from_imports_or_later_cells(schema: Schema) -> None:
    start = "from math import pi\nimport workbench\nrun = workbench.report.start('audit', globals())"
    namespace = {
        **schema.defaults,
        "pi": 3.14,
        "n": 5,
        "In": ["", CELL, "# Parameters\nk = 7\n", start, "n = 5", start],
    }
    assert schema.check(namespace) == schema.defaults
    namespace["In"] = ["", CELL, "# Parameters\nK_ = 7\nkep = float('nan')\n", start]
    with pytest.raises(ParameterError) as caught:
        schema.check(namespace)
    assert [line.split(";")[0] for line in caught.value.problems] == [
        "unknown parameter 'K_'", "unknown parameter 'kep'",
    ]  # fmt: skip


@pytest.mark.parametrize("cell", ["%matplotlib inline", "import os", "x = open('f')", "x.y = 1", "def f(): pass"])
def test_cells_that_do_more_than_assign_literals_end_the_search(cell: str) -> None:
    assert injected_names({"In": ["", "a = 1", cell, "b = 2"]}) == ["a"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("k: int = 10", "k has an annotation"),
        ("k: 'Literal[1, 2]' = 1", "k has an annotation"),
        ("k = None", 'there is no None, use "" or 0'),
        ("k = (1, 2)", "k must be str, bool, int, float or list; got tuple"),
        ("k = {}", "got dict"),
        ("k = [None]", "k[0] must be"),
        ("k = Path('x')", "k must be a plain literal; got Path('x')"),
        ("k = __import__('os').system('x')", "k must be a plain literal"),
        ("k = 1; j = 2", "j: one parameter per line"),
        ("k = [1,\n 2]", "k: one parameter per line"),
        ("k = j = 1", "expected name = default"),
        ("k += 1", "expected name = default"),
        ("import os", "expected name = default; got import os"),
        ("_k = 1", "expected one public name"),
        ("k = 1\nk = 2", "line 2 of the parameters cell: k is set twice"),
        ("k = 0  # 1..10", "k = 0 is outside 1..10"),
        ("k = 'c'  # one of: a, b", "k = 'c' is not one of: a, b"),
        ("k = 5  # neighbours, 1..10", "would not be enforced"),
        ("k = 'a'  # must be one of: a, b", "would not be enforced"),
        ("k = 'a'  # 1..10", "would not be enforced"),
        ("k = = 1", "not plain Python"),
    ],
)
def test_a_cell_that_is_no_schema_is_refused(line: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_cell(line, "audit")
    assert message in str(caught.value)


def test_choices_have_the_type_of_the_default() -> None:
    schema = parse_cell('k = 5  # one of: 1, 5\nname = ""  # one of: "", a', "audit")
    assert schema.parse(["k=1", "name=a"]) == {"k": 1, "name": "a"}
    assert "k = 2 is not one of: 1, 5" in problems(schema, "k=2")


def test_the_notebook_is_read_and_not_run(tmp_path: Path) -> None:
    path = write_notebook(tmp_path / "audit.ipynb", ("k = 10\n", ["parameters"]), ("raise SystemExit", []))
    assert (read_schema(path).notebook, read_schema(path).defaults) == ("audit", {"k": 10})


@pytest.mark.parametrize("tags", [([], []), (["parameters"], ["parameters"]), ([], ["parameters"])])
def test_exactly_the_first_code_cell_is_tagged(tmp_path: Path, tags: tuple[list[str], list[str]]) -> None:
    path = write_notebook(tmp_path / "n.ipynb", ("k = 1", tags[0]), ("j = 2", tags[1]))
    with pytest.raises(ValueError, match=r"n\.ipynb: the first code cell, and no other"):
        read_schema(path)
