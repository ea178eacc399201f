"""The parameters cell of a notebook is its schema: read without running it, and enforced wherever values come in.

A report notebook begins with one code cell tagged ``parameters``: plain literals, one per line::

    dataset = "scenes"  # data set, or folder:PATH
    share = "full"  # what may leave this machine; one of: full, no-images, no-content
    k = 10  # 1..1000 neighbours per query
    cutoffs = [1, 5, 10]  # 1..1000

The type of a parameter is the type of its default. A comment part ``one of: a, b`` or a leading ``1..1000`` is a
constraint, the rest is the help. There is no None: use ``""`` or ``0``.
"""

from __future__ import annotations

import ast
import copy
import difflib
import io
import json
import math
import re
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TYPES = (bool, int, float, str, list)
Bounds = tuple[float | None, float | None]
_RANGE = re.compile(r"^(-?\d+(?:\.\d+)?)\.\.(-?\d+(?:\.\d+)?)(?:\s+(.*))?$", re.ASCII)
_INT = re.compile(r"^[+-]?\d+$", re.ASCII)
_FLOAT = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$", re.ASCII)
_EXPECTED = {
    bool: "true or false",
    int: "a whole number such as 10",
    float: "a finite number such as 0.5",
    list: 'a list in JSON such as [1, 5, 10] or ["a", "b"]',
}


class ParameterError(ValueError):
    """Everything that is wrong with the given parameters, at once.

    >>> print(ParameterError("audit", ["k = 0 is outside 1..1000"]))
    audit: 1 problem with its parameters
      - k = 0 is outside 1..1000
    """

    def __init__(self, notebook: str, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        count = f"{len(self.problems)} problem{'s' * (len(self.problems) != 1)}"
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"{notebook}: {count} with its parameters{lines}")


@dataclass(frozen=True)
class Parameter:
    """One line of the parameters cell: name, default (which gives the type), help and constraint."""

    name: str
    default: Any
    help: str = ""
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None

    @property
    def type(self) -> type:
        return type(self.default)

    @property
    def constraint(self) -> str:
        """The constraint in words, or an empty string."""
        if self.choices:
            return "one of: " + ", ".join(str(choice) or '""' for choice in self.choices)
        return "" if self.low is None else f"{self.low:.15g}..{self.high:.15g}"

    def parse(self, text: str) -> Any:
        """The value of a command-line text, or a ValueError that says what was expected."""
        if self.type is str:
            return self.checked(text)
        try:
            value = _READERS[self.type](text)
        except ValueError as error:
            raise ValueError(f"{self.name} = {text!r} is not {_EXPECTED[self.type]}{_hint(self, error)}") from None
        return self.checked(value)

    def checked(self, value: Any) -> Any:
        """The same Python value (an int becomes a float where a float is expected), or a ValueError."""
        value = _as_type(self.name, value, self.default)
        for item in value if self.type is list else [value]:
            if self.choices and item not in self.choices:
                near = difflib.get_close_matches(str(item), [str(choice) for choice in self.choices], n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"{self.name} = {_short(item)} is not {self.constraint}{hint}")
            if self.low is not None and self.high is not None and not self.low <= item <= self.high:
                raise ValueError(f"{self.name} = {_short(item)} is outside {self.constraint}")
        return value


@dataclass(frozen=True)
class Schema:
    """The parameters of one notebook, in the order of its parameters cell."""

    notebook: str
    parameters: tuple[Parameter, ...]

    @property
    def defaults(self) -> dict[str, Any]:
        return copy.deepcopy({parameter.name: parameter.default for parameter in self.parameters})

    def parse(self, assignments: Iterable[str]) -> dict[str, Any]:
        """All parameters, the defaults replaced by command-line texts ``name=value``.

        A text is split at its first ``=``. str verbatim (even ``007`` or ``true``), bool ``true|false``, int, float,
        list as JSON. ParameterError lists every problem.

        >>> schema = Schema("audit", (Parameter("k", 10, low=1, high=1000), Parameter("dataset", "scenes")))
        >>> schema.parse(["dataset=embeddings:a=b", "k=5"])
        {'k': 5, 'dataset': 'embeddings:a=b'}
        """
        given: dict[str, str] = {}
        problems = []
        for assignment in assignments:
            name, equals, text = assignment.partition("=")
            if not equals:
                problems.append(f"{assignment!r} has no '='; write it as name=value")
            elif name in given:
                problems.append(f"{name} is given twice; keep one")
            elif name not in self.defaults:
                problems.append(self._unknown(name))
            else:
                given[name] = text
        return self._collect(lambda parameter: parameter.parse(given[parameter.name]), given, problems)

    def check(self, namespace: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters as found in a notebook's ``globals()``; ParameterError lists every problem.

        Types are exact: a tuple, a numpy scalar, a Path, None or the text ``"true"`` is refused by name. A misspelt
        parameter, which papermill injects as one more global with no more than a logged line, is refused with the
        nearest name (:func:`injected_names`).

        >>> Schema("audit", (Parameter("k", 10),)).check({"k": 7})
        {'k': 7}
        """
        problems = [f"{name} is missing" for name in self.defaults if name not in namespace]
        problems += [self._unknown(name) for name in injected_names(namespace) if name not in self.defaults]
        return self._collect(lambda parameter: parameter.checked(namespace[parameter.name]), namespace, problems)

    def help(self) -> list[tuple[str, str, str, str]]:
        """Rows (name, type, default, help) for ``--help``.

        >>> Schema("audit", (Parameter("k", 10, "neighbours", low=1, high=99),)).help()
        [('k', 'int', '10', 'neighbours; 1..99')]
        """
        return [
            (p.name, p.type.__name__, literal(p.default), "; ".join(part for part in (p.help, p.constraint) if part))
            for p in self.parameters
        ]

    def _collect(self, value_of: Any, given: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
        values = self.defaults
        for parameter in self.parameters:
            if parameter.name in given:
                try:
                    values[parameter.name] = value_of(parameter)
                except ValueError as error:
                    problems.append(str(error))
        if problems:
            raise ParameterError(self.notebook, problems)
        return values

    def _unknown(self, name: str) -> str:
        near = difflib.get_close_matches(name.strip().replace("-", "_").lower(), self.defaults, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(self.defaults)
        return f"unknown parameter {name!r}; {hint}"


def read_schema(notebook: Path | str) -> Schema:
    """The schema of a notebook, from its one code cell tagged ``parameters``; nothing is executed.

    ValueError names the line for anything but a plain literal (annotations, calls, tuples, None, two on a line).
    """
    path = Path(notebook)
    cells = [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    tagged = [cell for cell in cells if "parameters" in cell.get("metadata", {}).get("tags", [])]
    if len(tagged) != 1 or cells[0] is not tagged[0]:
        raise ValueError(
            f"{path.name}: the first code cell, and no other, must be tagged 'parameters'; {len(tagged)} of "
            f"{len(cells)} code cells have the tag"
        )
    source = tagged[0]["source"]
    return parse_cell(source if isinstance(source, str) else "".join(source), path.stem)


def parse_cell(source: str, notebook: str) -> Schema:
    """The schema written in the source of a parameters cell.

    >>> parse_cell('k = 10  # 1..1000 neighbours', "audit").parameters[0]
    Parameter(name='k', default=10, help='neighbours', choices=(), low=1.0, high=1000.0)
    """
    try:
        statements = ast.parse(source).body
        comments = _comments(source)
    except (SyntaxError, tokenize.TokenError) as error:
        raise ValueError(f"{notebook}: the parameters cell is not plain Python: {error}") from None
    problems, parameters, seen = [], [], {}
    for statement in statements:
        try:
            parameters.append(_read_line(statement, comments, seen))
        except ValueError as error:
            problems.append(f"line {statement.lineno} of the parameters cell: {error}")
    if problems:
        raise ParameterError(notebook, problems)
    return Schema(notebook, tuple(parameters))


def injected_names(namespace: Mapping[str, Any]) -> list[str]:
    """The names that the parameters cell and the cell papermill injects after it have set.

    In a kernel these are the names assigned by the cells that ran before the first one holding anything but
    assignments of literals. Without an IPython history: every public global that holds plain data.

    >>> injected_names({"In": ["", "k = 10", "# Parameters\\nkk = 5", "import workbench; n = 3"], "n": 3})
    ['k', 'kk']
    >>> injected_names({"k": 10, "_hidden": 1, "Path": Path})
    ['k']
    """
    history = [cell for cell in namespace.get("In", []) if isinstance(cell, str) and cell.strip()]
    if not history:
        plain = (str, bool, int, float, list, tuple, dict, type(None))
        public = (name for name in namespace if not name.startswith("_") and name not in ("In", "Out"))
        return [name for name in public if type(namespace[name]) in plain]
    names: dict[str, None] = {}
    for cell in history:
        assigned = _literal_assignments(cell)
        if assigned is None:
            break
        names |= dict.fromkeys(assigned)
    return list(names)


def literal(value: Any) -> str:
    """A value as it is written in the parameters cell, with double quotes.

    >>> literal(["a", True, 1.5])
    '["a", true, 1.5]'
    """
    return repr(value) if type(value) is float else json.dumps(value, ensure_ascii=False)


def _read_line(statement: ast.stmt, comments: Mapping[int, str], seen: dict[str, int]) -> Parameter:
    if isinstance(statement, ast.AnnAssign):
        name = ast.unparse(statement.target)
        raise ValueError(f"{name} has an annotation; the type is the default's, so write {name} = default")
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        raise ValueError(f"expected name = default; got {ast.unparse(statement)}")
    target = statement.targets[0]
    if not isinstance(target, ast.Name) or target.id.startswith("_"):
        raise ValueError(f"expected one public name on the left; got {ast.unparse(target)}")
    if target.id in seen:
        raise ValueError(f"{target.id} is set twice")
    if statement.end_lineno != statement.lineno or statement.lineno in seen.values():
        raise ValueError(f"{target.id}: one parameter per line, each on one line")
    seen[target.id] = statement.lineno
    default = _literal_default(target.id, statement.value)
    text, choices, bounds = _read_comment(target.id, default, comments.get(statement.lineno, ""))
    parameter = Parameter(target.id, default, text, choices, *bounds)
    parameter.checked(default)
    return parameter


def _literal_default(name: str, node: ast.expr) -> Any:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        raise ValueError(f"{name} must be a plain literal; got {ast.unparse(node)}") from None
    if type(value) not in TYPES:
        none = '; there is no None, use "" or 0' if value is None else ""
        raise ValueError(f"{name} must be str, bool, int, float or list; got {type(value).__name__}{none}")
    return value


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("#").strip() for t in tokens if t.type == tokenize.COMMENT}


def _read_comment(name: str, default: Any, comment: str) -> tuple[str, tuple[Any, ...], Bounds]:
    words: list[str] = []
    choices: tuple[Any, ...] = ()
    bounds: Bounds = (None, None)
    kind = type(default[0]) if isinstance(default, list) and default else type(default)
    for part in (part.strip() for part in comment.split(";")):
        found = _RANGE.match(part)
        if part.startswith("one of:"):
            reader = _READERS.get(kind, lambda text: text.strip("\"'"))
            choices = tuple(reader(choice.strip()) for choice in part.removeprefix("one of:").split(","))
        elif found and kind in (int, float):
            bounds = (float(found[1]), float(found[2]))
            words += [found[3]] if found[3] else []
        elif "one of:" in part or re.search(r"\d\.\.\d", part):
            raise ValueError(f"{name}: {part!r} would not be enforced; put the constraint first or after a semicolon")
        elif part:
            words.append(part)
    return "; ".join(words), choices, bounds


def _as_type(name: str, value: Any, default: Any) -> Any:
    expected, got = type(default), type(value)
    if expected is float and got is int:
        value = float(value)
    elif got is not expected:
        kind = "path" if isinstance(value, Path) else "numpy" if got.__module__ == "numpy" else got.__name__
        hint = "; put it in double quotes" if expected is str and kind in ("int", "float") else _HINTS.get(kind, "")
        raise ValueError(f"{name} must be {expected.__name__}; got {_short(value)} of type {got.__name__}{hint}")
    if expected is float and not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number; got {value}")
    return _as_items(name, value, default) if expected is list else value


def _as_items(name: str, value: list[Any], default: list[Any]) -> list[Any]:
    """The items of a list, each of the one type all default items have, or of any plain type."""
    alike = len({type(item) for item in default}) == 1 and type(default[0]) in TYPES
    items = []
    for position, item in enumerate(value):
        if type(item) not in TYPES and not alike:
            raise ValueError(f"{name}[{position}] must be str, bool, int, float or list; got {_short(item)}")
        items.append(_as_type(f"{name}[{position}]", item, default[0] if alike else item))
    return items


def _read_bool(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


def _read_int(text: str) -> int:
    if not _INT.match(text):
        raise ValueError(text)
    return int(text)


def _read_float(text: str) -> float:
    if not _FLOAT.match(text) or not math.isfinite(float(text)):
        raise ValueError(text)
    return float(text)


def _read_list(text: str) -> list[Any]:
    value = json.loads(text, parse_constant=_read_float)
    if not isinstance(value, list):
        raise ValueError(f"this is a {type(value).__name__}")
    return value


def _hint(parameter: Parameter, error: ValueError) -> str:
    """For a list: what is wrong with it, or that the shell has taken its quotation marks."""
    if parameter.type is not list or not isinstance(error, json.JSONDecodeError):
        return f" ({error})" if parameter.type is list else ""
    return f"; single quotes around it keep the double ones: -p '{parameter.name}=[...]'"


def _literal_assignments(cell: str) -> list[str] | None:
    """The names a cell assigns, or None when it does anything but assign literals to names."""
    try:
        statements = ast.parse(cell).body
    except SyntaxError:
        return None
    names: list[str] = []
    for statement in statements:
        if not isinstance(statement, ast.Assign) or not _is_literal(statement.value):
            return None
        found = [target.id for target in statement.targets if isinstance(target, ast.Name)]
        if len(found) < len(statement.targets):
            return None
        names += found
    return names


def _is_literal(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):  # papermill writes float('nan') and float('inf')
        return ast.unparse(node.func) == "float"
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_READERS: dict[type, Any] = {bool: _read_bool, int: _read_int, float: _read_float, list: _read_list}
_HINTS = {
    "tuple": "; use a list",
    "path": "; pass str(path)",
    "numpy": "; pass a plain Python value, .item()",
    "NoneType": '; there is no None, use "" or 0',
    "str": "; papermill's own -p passes text, `workbench report -p` reads it by the schema",
}
