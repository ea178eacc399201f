"""Finding the mutants of a source file: every place where one operator, constant or bound can be another."""

from __future__ import annotations

import ast
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

COMPARE = {
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"), ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="), ast.Is: ("is", "is not"), ast.IsNot: ("is not", "is"), ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}  # fmt: skip
ARITHMETIC = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"), ast.Mod: ("%", "//"),
    ast.Pow: ("**", "*"), ast.BitAnd: ("&", "|"), ast.BitOr: ("|", "&"), ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
}  # fmt: skip
_PAIRS = (
    ("min", "max"), ("minimum", "maximum"), ("fmin", "fmax"), ("argmin", "argmax"), ("nanmin", "nanmax"),
    ("floor", "ceil"), ("any", "all"), ("zeros", "ones"), ("logical_and", "logical_or"), ("less", "less_equal"),
    ("greater", "greater_equal"), ("log1p", "log"), ("expm1", "exp"),
)  # fmt: skip
NAMES = dict(_PAIRS) | {second: first for first, second in _PAIRS}
ORDERED = {"sort", "argsort", "cumsum"}
SIDES = {"left": "right", "right": "left"}
#: Keyword arguments whose values are not mutated: safety nets, copies and how a class is called: they change no result.
QUIET_KEYWORDS = {"strict", "copy", "stacklevel", "kw_only", "repr"}
#: Functions that print, not compute.
PRINTING = {"__repr__", "_repr_html_"}


@dataclass(frozen=True)
class Mutant:
    """One changed place: bytes ``start`` to ``end`` of the file become ``text``.

    source, changed : the lines touched, before and after, without indentation. scope : first line of the function
    (its first decorator), 0 outside of functions.
    """

    file: str
    line: int
    column: int
    operator: str
    start: int
    end: int
    text: str
    source: str
    changed: str
    scope: int

    @property
    def id(self) -> str:
        return f"{self.file}:{self.line}:{self.column}:{self.operator}"

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.text.encode() + source[self.end :]


def mutants_of(file: str, source: bytes, *, skipped: Iterable[str] = ()) -> list[Mutant]:
    """Every mutant of a file, in the order of the text. ``skipped`` : dotted names, or patterns, left alone.

    >>> [mutant.changed for mutant in mutants_of("f.py", b"def f(a, b):\\n    return a < b\\n")]
    ['return a <= b']
    """
    finder = _Finder(file, source, frozenset(skipped))
    finder.visit(ast.parse(source))
    return sorted({mutant.id: mutant for mutant in finder.found}.values(), key=lambda m: (m.start, m.end, m.operator))


def sample(population: Sequence[Mutant], n: int, seed: int) -> list[Mutant]:
    """A seeded sample, every file in proportion to its mutants; the order in which one gives them is its own.

    n at least the population: everything.
    """
    files = sorted({mutant.file for mutant in population})
    groups = [[mutant for mutant in population if mutant.file == file] for file in files]
    chosen: list[Mutant] = []
    for file, group, share in zip(files, groups, _shares([len(group) for group in groups], n), strict=True):
        order = np.random.default_rng([seed, zlib.crc32(file.encode())]).permutation(len(group))
        chosen += [group[i] for i in sorted(order[:share])]
    return chosen


def _shares(sizes: Sequence[int], n: int) -> list[int]:
    """n split in proportion to the sizes, largest remainders first."""
    total, n = sum(sizes), min(n, sum(sizes))
    exact = np.array(sizes) * n / max(total, 1)
    shares = np.floor(exact).astype(int)
    shares[np.argsort(shares - exact, kind="stable")[: n - shares.sum()]] += 1
    return [int(share) for share in shares]


class _Finder(ast.NodeVisitor):
    def __init__(self, file: str, source: bytes, skipped: frozenset[str]) -> None:
        self.file, self.source, self.skipped = file, source, skipped
        self.starts = np.cumsum([0, *map(len, source.splitlines(keepends=True))]).tolist()
        self.path: list[str] = []
        self.scope = 0
        self.found: list[Mutant] = []

    def _at(self, node: ast.expr | ast.stmt) -> int:
        return int(self.starts[node.lineno - 1]) + node.col_offset

    def _end(self, node: ast.expr | ast.stmt) -> int:
        return int(self.starts[(node.end_lineno or 0) - 1]) + (node.end_col_offset or 0)

    def _text(self, node: ast.expr) -> str:
        return self.source[self._at(node) : self._end(node)].decode()

    def _add(self, operator: str, start: int, end: int, text: str) -> None:
        line = int(np.searchsorted(self.starts, start, "right"))
        first = self.starts[line - 1]
        last = self.source.find(b"\n", end)
        last = len(self.source) if last < 0 else last
        changed = _one_line(self.source[first:start] + text.encode() + self.source[end:last])
        place = (self.file, line, start - first, operator, start, end, text)
        self.found.append(Mutant(*place, _one_line(self.source[first:last]), changed, self.scope))

    def _replace(self, operator: str, node: ast.expr, text: str) -> None:
        self._add(operator, self._at(node), self._end(node), text)

    def _between(self, operator: str, left: ast.expr | int, right: ast.expr, old: str, new: str) -> None:
        """Replace the operator sign between two operands."""
        start = left if isinstance(left, int) else self._end(left)
        gap = self.source[start : self._at(right)]
        at = gap.find(old.encode())
        if at >= 0 and b"#" not in gap:
            self._add(operator, start + at, start + at + len(old), new)

    def _is_skipped(self, name: str = "") -> bool:
        dotted = ".".join([*self.path, *([name] if name else [])])
        return any(fnmatchcase(dotted, pattern) for pattern in self.skipped)

    @contextmanager
    def _inside(self, name: str, scope: int) -> Iterator[None]:
        before, self.scope = self.scope, scope
        self.path.append(name)
        yield
        self.path.pop()
        self.scope = before

    # What is not mutated: messages, annotations, decorators, exports.

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None: ...

    def visit_Raise(self, node: ast.Raise) -> None: ...

    def visit_Import(self, node: ast.Import) -> None: ...

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None and not self._is_skipped(getattr(node.target, "id", "")):
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        names = [getattr(target, "id", "") for target in node.targets]
        if "__all__" in names or any(self._is_skipped(name) for name in names):
            return
        if not self.path and isinstance(node.value, ast.Subscript | ast.BinOp) and _is_type(node.value):
            return
        self.visit(node.value)
        for target in node.targets:
            self.visit(target)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if self._is_skipped(node.name):
            return
        with self._inside(node.name, 0):
            for child in node.body:
                self.visit(child)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name in PRINTING or self._is_skipped(node.name):
            return
        own = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        with self._inside(node.name, self.scope if self.scope else own):
            arguments = node.args
            plain = [*arguments.posonlyargs, *arguments.args]
            defaults = zip(plain[len(plain) - len(arguments.defaults) :], arguments.defaults, strict=True)
            for argument, default in [*defaults, *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]:
                if default is not None and not self._is_skipped(argument.arg):
                    self.visit(default)
            for child in node.body:
                self.visit(child)

    # What is.

    def visit_If(self, node: ast.If) -> None:
        if getattr(node.test, "id", "") == "TYPE_CHECKING":
            return
        guard = not node.orelse and all(isinstance(child, ast.Raise) for child in node.body)
        self._replace("guard" if guard else "branch", node.test, "False")
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._replace("condition", node.test, f"not ({self._text(node.test)})")
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for condition in node.ifs:
            self._replace("filter", condition, "True")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, operator, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
            old, new = COMPARE[type(operator)]
            self._between("comparison", left, right, old, new)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._between("boolean", left, right, old, new)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if isinstance(node.op, ast.FloorDiv):
            self._replace("rounding", node, f"(-(-({self._text(node.left)}) // ({self._text(node.right)})))")
        elif type(node.op) in ARITHMETIC and not _is_text(node.left) and not _is_text(node.right):
            self._between("arithmetic", node.left, node.right, *ARITHMETIC[type(node.op)])
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if type(node.op) in ARITHMETIC and not _is_text(node.value):
            old, new = ARITHMETIC[type(node.op)]
            self._between("arithmetic", self._end(node.target), node.value, old + "=", new + "=")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        sign = {ast.USub: ("minus", "-"), ast.Not: ("not", "not"), ast.Invert: ("invert", "~")}.get(type(node.op))
        if sign:
            start = self._at(node)
            self._add(sign[0], start, start + len(sign[1]), "")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._replace("truth", node, str(not value))
        elif isinstance(value, int):
            self._replace("number+1", node, str(value + 1))
            if value > 0:
                self._replace("number-1", node, str(value - 1))
        elif isinstance(value, float):
            self._replace("number/2", node, repr(value / 2 if value else 1.0))

    def visit_Slice(self, node: ast.Slice) -> None:
        for bound in (node.lower, node.upper):
            if bound is not None and not isinstance(bound, ast.Constant):
                self._replace("bound", bound, f"({self._text(bound)}) + 1")
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in ("min", "max", "any", "all") and isinstance(node.ctx, ast.Load):
            self._replace("name", node, NAMES[node.id])

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in NAMES and isinstance(node.ctx, ast.Load):
            self._add("name", self._end(node) - len(node.attr), self._end(node), NAMES[node.attr])
        self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        base = getattr(getattr(node.func, "value", None), "id", "")
        if name == "sorted" or (name in ORDERED and base == "np") or name == "cumsum":
            self._replace("order", node, self._text(node) + "[::-1]")
        if name == "lexsort" and isinstance(node.args[0], ast.Tuple) and len(node.args[0].elts) > 1:
            keys = [self._text(key) for key in node.args[0].elts]
            self._replace("order", node.args[0], f"({', '.join(reversed(keys))})")
        if name == "searchsorted":
            self._side(node, given=2 if base == "np" else 1)
        self.visit(node.func)
        for argument in node.args:
            self.visit(argument)
        for keyword in node.keywords:
            self._keyword(keyword)

    def _side(self, node: ast.Call, *, given: int) -> None:
        for value in [*node.args[given:], *(keyword.value for keyword in node.keywords)]:
            if isinstance(value, ast.Constant) and value.value in SIDES:
                self._replace("side", value, f'"{SIDES[value.value]}"')
                return
        end = self._end(node)
        if len(node.args) == given and not node.keywords and self.source[end - 2 : end - 1] != b",":
            self._add("side", end - 1, end, ', side="right")')

    def _keyword(self, keyword: ast.keyword) -> None:
        value = keyword.value
        if keyword.arg in QUIET_KEYWORDS:
            return
        if keyword.arg == "axis" and isinstance(value, ast.Constant | ast.UnaryOp):
            self._replace("axis", value, "1" if self._text(value) == "0" else "0")
        elif keyword.arg == "kind" and isinstance(value, ast.Constant) and value.value == "stable":
            self._replace("stable", value, '"quicksort"')
        else:
            self.visit(value)


def _is_text(node: ast.expr) -> bool:
    """Sums of strings, repetitions of lists: not arithmetic."""
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) or _is_text(node.right)
    return isinstance(node, ast.JoinedStr | ast.List | ast.Tuple) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _is_type(node: ast.expr) -> bool:
    """A module-level alias such as ``Literal["a"]`` or ``A | None``."""
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.BitOr)
    names = {"Literal", "tuple", "dict", "list", "Callable", "NDArray", "Sequence", "Mapping"}
    return isinstance(node, ast.Subscript) and getattr(node.value, "attr", getattr(node.value, "id", "")) in names


def _one_line(text: bytes) -> str:
    return " ".join(text.decode().split())
