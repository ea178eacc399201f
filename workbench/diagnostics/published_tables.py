"""Published tables of results: what in them cannot be true, what is unlikely, and whether two sets of seeds differ."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit
from scipy.stats import binom

from workbench.types import Finding, Verdict

Certainty = Literal["proof", "suspicion"]
Kind = Literal[
    "non-numeric cell", "value out of range", "impossible order", "wrong average", "repeated row", "bent curve"
]
#: What is looked for, how certain it is, and what it means.
KINDS: dict[Kind, tuple[Certainty, str]] = {
    "non-numeric cell": ("proof", "a cell is no number, so nothing can be computed from it; ask for the number"),
    "value out of range": ("proof", "a value lies outside what the metric can be"),
    "impossible order": ("proof", "recall cannot fall when more places count: one of the two cells is wrong"),
    "wrong average": ("proof", "a printed mean or sum does not follow from its own row, whatever the rounding"),
    "repeated row": ("suspicion", "two rows agree in every cell: a copied line, or one run counted twice"),
    "bent curve": ("suspicion", "recall gains more per place further down: look at the cell in the middle"),
}
MISSING = frozenset({"", "-", "–", "—", "n/a", "na", "nan", "none"})
FEWEST_CELLS = 3
ALARM = 0.01
_CURVE = re.compile(
    r"^(?P<group>.*?(?:\bR|\brecall|\bhit|\bhits|\bsuccess))\s*@\s*(?P<k>\d+)(?P<rest>.*)$", re.IGNORECASE
)
_NUMBER = re.compile(r"^[+-]?(\d+\.?(?P<decimals>\d*)|\.\d+)(e[+-]?\d+)?$", re.IGNORECASE)


@dataclass(frozen=True)
class TableDefect:
    """One place of a table: rows and columns it concerns, what is there, and how certain it is that it is wrong."""

    kind: Kind
    certainty: Certainty
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    what: str


@dataclass(frozen=True)
class TableAudit:
    """What is wrong, or likely to be, in a table of results: :func:`audit_table`.

    defects : proofs first. checked : for each kind, how many things were held against the rule (0 : not looked for).
    """

    defects: tuple[TableDefect, ...]
    checked: tuple[tuple[str, int], ...]
    n_rows: int
    n_columns: int

    def rows(self) -> list[dict[str, str]]:
        """One row per defect."""
        return [
            {"kind": one.kind, "certainty": one.certainty, "rows": ", ".join(one.rows),
             "columns": ", ".join(one.columns), "what": one.what}
            for one in self.defects
        ]  # fmt: skip

    def findings(self) -> list[Finding]:
        """One finding per kind: "problem" for a proof, "look" for a suspicion, "not measurable" if nothing was held."""
        return [self._finding(kind, count) for kind, count in self.checked]

    def _finding(self, kind: str, count: int) -> Finding:
        certainty, meaning = KINDS[kind]  # type: ignore[index]
        found = [one for one in self.defects if one.kind == kind]
        bad: Verdict = "problem" if certainty == "proof" else "look"
        verdict: Verdict = "not measurable" if not count else bad if found else "ok"
        said = (
            f"{meaning[0].upper()}{meaning[1:]}: {found[0].what}." if found else f"None in {count:,} places looked at."
        )
        return Finding(
            f"table/{kind}", float(len(found)) if count else None, None, 0.0, f"a {certainty}: {meaning}", verdict,
            said if count else "The table holds nothing that this rule applies to.",
        )  # fmt: skip


@dataclass(frozen=True)
class _Cell:
    """A printed number, and half of its last printed unit; ``value`` None where nothing or no number is printed."""

    text: str
    value: float | None
    decimals: int = 0
    half: float = 0.0


Cells = Mapping[str, Sequence[_Cell]]


def audit_table(
    table: Mapping[str, Iterable[Any]],
    *,
    label: str | Sequence[str] = (),
    averages: Mapping[str, Sequence[str]] | None = None,
    sums: Mapping[str, Sequence[str]] | None = None,
    other: Sequence[str] = (),
    low: float = 0.0,
    high: float = 100.0,
    n_queries: int = 100,
) -> TableAudit:
    """What in a published table cannot be true, or is unlikely? Cells as printed; text keeps the zero of "68.40".

    *Proofs*: a cell that is no number; a value outside low..high; R@k above R@m for k < m; a printed mean or sum that
    is further from that of its row than all rounding allows (half a unit of its own, plus that of every cell).
    *Suspicions*: two rows equal in every cell, of at least three and not all at the ends of the range; a hit curve that
    bends upwards: with fewer first right answers per place from place k to m than from m to n, although nearer places
    hold more of them in any ranking better than chance. That is counted only where a binomial test, n_queries
    behind each cell, rejects equal gain per place at 1 % over all curves of the table: with an unknown number keep
    the cautious 100.

    table : column -> cells; a pandas frame, or rows by ``{name: [row[name] for row in rows]}``. label : the column or
    columns that name the rows. averages, sums : a column -> the columns it is the mean or sum of. other : columns that
    are left alone, such as years, sizes and ranks. low, high : range of all cells but sums; 0 and 1 for fractions.
    Curves are the columns named like "i2t R@1", "hit@5" or "Recall@10" that differ in the number only. Missing: empty,
    "-", "n/a", None, NaN. Bold marks, daggers, "%" and "± spread" are dropped.
    Errors: columns of unlike length, unknown column names, no row, a column of text only, low not below high.
    Such slips found in the literature: J. Rao et al., "Where does the performance improvement come from?", SIGIR 2022,
    https://arxiv.org/abs/2203.03853 (its tables); rounding as in N. J. L. Brown & J. A. J. Heathers, "The GRIM test",
    Social Psychological and Personality Science 8, 2017, https://doi.org/10.1177/1948550616673876.

    >>> found = audit_table({"name": ["A", "B"], "R@1": ["50.1", "48"], "R@5": ["49.9", "71.2"]}, label="name")
    >>> [(one.kind, one.rows, one.what) for one in found.defects]
    [('impossible order', ('A',), 'R@1 is 50.1, above R@5 with 49.9')]
    """
    labels = [label] if isinstance(label, str) else list(label)
    columns = {str(name): [_text(cell) for cell in cells] for name, cells in table.items()}
    made_of = {**dict(averages or {}), **dict(sums or {})}
    _check(columns, [*labels, *other, *made_of, *(part for parts in made_of.values() for part in parts)], low, high)
    names = _row_names(columns, labels)
    cells = {name: _cells(texts) for name, texts in columns.items() if name not in (*labels, *other)}
    _check_numbers(cells)
    plain = {name: column for name, column in cells.items() if name not in (sums or {})}
    found = [
        _non_numeric(names, cells), _out_of_range(names, plain, low, high), _disorder(names, cells),
        _averages(names, cells, averages or {}, sums or {}), _repeated(names, cells, (low, high)),
        _bent(names, cells, n_queries, high),
    ]  # fmt: skip
    defects = tuple(one for part, _ in found for one in part)
    checked = tuple((kind, count) for kind, (_, count) in zip(KINDS, found, strict=True))
    return TableAudit(defects, checked, len(names), len(cells))


def _text(cell: Any) -> str:
    """A cell as printed, without marks that are not part of the number."""
    if cell is None or cell != cell:
        return ""
    text = re.sub(r"[*_%†‡§\s]|\\textbf\{|\\underline\{|[{}]", "", str(cell))
    return re.split(r"±|\+-|\+/-|\\pm|\$", text)[0] if re.match(r"[\d.+-]", text) else str(cell).strip()


def _check(columns: Mapping[str, list[str]], named: list[str], low: float, high: float) -> None:
    lengths = {name: len(cells) for name, cells in columns.items()}
    if not lengths or len(set(lengths.values())) != 1 or not max(lengths.values()):
        raise ValueError(f"every column needs the same number of cells, at least one; got {lengths}")
    unknown = [name for name in named if name not in columns]
    if unknown:
        raise ValueError(f"no column {unknown[0]!r} in the table; there are {', '.join(columns)}")
    if not low < high:
        raise ValueError(f"low must be below high; got {low} and {high}")


def _check_numbers(cells: Cells) -> None:
    for name, column in cells.items():
        printed = [cell for cell in column if cell.text.lower() not in MISSING]
        if len(printed) > 1 and all(cell.value is None for cell in printed):
            raise ValueError(
                f"column {name!r} holds no number (first cell: {printed[0].text[:40]!r}); name it in label= if it "
                "names the rows, else in other="
            )


def _row_names(columns: Mapping[str, list[str]], labels: Sequence[str]) -> list[str]:
    n = len(next(iter(columns.values())))
    return [" ".join(columns[name][row] for name in labels) or f"row {row + 1}" for row in range(n)]


def _cells(texts: list[str]) -> list[_Cell]:
    """The numbers of a column. One with fewer decimals than most has lost its trailing zeros."""
    matches = [None if text.lower() in MISSING else _NUMBER.match(text) for text in texts]
    decimals = [len(match["decimals"] or "") for match in matches if match]
    usual = max(sorted(set(decimals)), key=decimals.count, default=0)
    return [
        _cell(text, max(usual, len(match["decimals"] or ""))) if match else _Cell(text, None)
        for text, match in zip(texts, matches, strict=True)
    ]


def _cell(text: str, decimals: int) -> _Cell:
    return _Cell(text, float(text), decimals, 0.5 * 10.0**-decimals)


Found = tuple[list[TableDefect], int]


def _defect(kind: Kind, rows: Iterable[str], columns: Iterable[str], what: str) -> TableDefect:
    return TableDefect(kind, KINDS[kind][0], tuple(rows), tuple(columns), what)


def _non_numeric(names: Sequence[str], cells: Cells) -> Found:
    printed = [(n, c, x) for c, column in cells.items() for n, x in zip(names, column, strict=True)
               if x.text.lower() not in MISSING]  # fmt: skip
    bad = [(n, c, x) for n, c, x in printed if x.value is None]
    return [_defect("non-numeric cell", [n], [c], f"{c} of {n} is {x.text!r}") for n, c, x in bad], len(printed)


def _out_of_range(names: Sequence[str], cells: Cells, low: float, high: float) -> Found:
    numbers = [
        (n, c, x) for c, column in cells.items() for n, x in zip(names, column, strict=True) if x.value is not None
    ]
    bad = [one for one in numbers if not low <= (one[2].value or 0.0) <= high]
    said = [
        _defect("value out of range", [n], [c], f"{c} of {n} is {x.text}, outside {low:g}..{high:g}") for n, c, x in bad
    ]
    return said, len(numbers)


def _curves(cells: Cells) -> list[list[tuple[int, str]]]:
    """Columns that differ only in the cutoff, in its order."""
    groups: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for name in cells:
        match = _CURVE.match(name)
        if match:
            groups.setdefault((match["group"].strip().lower(), match["rest"].strip().lower()), []).append(
                (int(match["k"]), name)
            )
    return [sorted(group) for group in groups.values() if len(group) > 1]


def _disorder(names: Sequence[str], cells: Cells) -> Found:
    found, count = [], 0
    for curve in _curves(cells):
        for row, name in enumerate(names):
            known = [(column, cells[column][row]) for _, column in curve if cells[column][row].value is not None]
            for (before, x), (after, y) in pairwise(known):
                count += 1
                slack = 0.0 if x.decimals == y.decimals else x.half + y.half
                if (x.value or 0.0) > (y.value or 0.0) + slack:
                    what = f"{before} is {x.text}, above {after} with {y.text}"
                    found.append(_defect("impossible order", [name], [before, after], what))
    return found, count


def _averages(
    names: Sequence[str], cells: Cells, averages: Mapping[str, Sequence[str]], sums: Mapping[str, Sequence[str]]
) -> Found:
    found, count = [], 0
    wanted = [(c, parts, len(parts)) for c, parts in averages.items()] + [(c, parts, 1) for c, parts in sums.items()]
    for column, parts, divisor in wanted:
        for row, name in enumerate(names):
            printed, made_of = cells[column][row], [cells[part][row] for part in parts]
            if printed.value is None or any(cell.value is None for cell in made_of):
                continue
            count += 1
            follows = sum(cell.value or 0.0 for cell in made_of) / divisor
            slack = printed.half + sum(cell.half for cell in made_of) / divisor
            if abs(printed.value - follows) > slack + 1e-9 * (1 + abs(follows)):
                what = f"{column} of {name} is {printed.text}, but its row gives {follows:.{printed.decimals + 1}f}"
                found.append(_defect("wrong average", [name], [column, *parts], what))
    return found, count


def _repeated(names: Sequence[str], cells: Cells, ends: tuple[float, float]) -> Found:
    """Rows equal in all cells; the next closest pair of rows says how unusual that is."""
    values = np.array([[np.nan if x.value is None else x.value for x in column] for column in cells.values()]).T
    full = [
        r for r, row in enumerate(values) if (~np.isnan(row)).sum() >= FEWEST_CELLS and not np.isin(row, ends).all()
    ]
    alike = {(a, b): int((values[a] == values[b]).sum()) for a, b in combinations(full, 2)}
    equal = [(a, b) for (a, b), n in alike.items() if np.array_equal(values[a], values[b], equal_nan=True)]
    rest = max((n for pair, n in alike.items() if pair not in equal), default=0)
    found = []
    for a, b in equal:
        size = int((~np.isnan(values[a])).sum())
        what = f"{names[a]} and {names[b]} agree in all {size} cells; no other two rows agree in more than {rest}"
        found.append(_defect("repeated row", [names[a], names[b]], list(cells), what))
    return found, len(alike)


def _bent(names: Sequence[str], cells: Cells, n_queries: int, high: float) -> Found:
    """Curves that gain more per place further down than chance explains."""
    steps = []
    for curve in _curves(cells):
        for row, name in enumerate(names):
            known = [(k, c, cells[c][row]) for k, c in curve if cells[c][row].value is not None]
            steps += [(name, triple) for triple in zip(known, known[1:], known[2:], strict=False)]
    found = []
    for name, ((k, _, x), (m, middle, y), (n, _, z)) in steps:
        early, late = ((b.value or 0.0) - (a.value or 0.0) for a, b in ((x, y), (y, z)))
        early += x.half + y.half
        if late <= 0 or early < 0 or early / (m - k) >= late / (n - m):
            continue
        first, drawn = (round(gain / high * n_queries) for gain in (early, early + late))
        if binom.cdf(first, drawn, (m - k) / (n - k)) < ALARM / len(steps):
            what = (
                f"{middle} of {name} is {y.text} between {x.text} and {z.text}: {early / (m - k):.2g} per place, then "
                f"{late / (n - m):.2g}"
            )
            found.append(_defect("bent curve", [name], [middle], what))
    return found, len(steps)


@dataclass(frozen=True)
class WelchTest:
    """Difference of two means of independent samples: :func:`welch`. Above zero the second mean is higher."""

    difference: float
    low: float
    high: float
    level: float
    t: float
    df: float
    p_value: float
    n_first: int
    n_second: int

    def flat(self) -> dict[str, float]:
        """Plain values, in a fixed order."""
        return asdict(self)


def welch(first: npt.ArrayLike, second: npt.ArrayLike, *, level: float = 0.95) -> WelchTest:
    """Do two systems differ by more than their seeds? From the scores of several seeds of each, printed or own.

        t = (mean_2 - mean_1) / sqrt(v);   v = s_1^2 / n_1 + s_2^2 / n_2
        df = v^2 / (s_1^4 / (n_1^2 (n_1 - 1)) + s_2^4 / (n_2^2 (n_2 - 1)))

    It answers for new seeds on the *same* queries; whether other queries would agree is another question (interval over
    queries). first, second : at least two finite scores each, normal across seeds, not paired. p_value two-sided.
    Errors: fewer than two scores, values that are not finite, both without any variation.
    B. L. Welch, "The generalization of 'Student's' problem", Biometrika 34, 1947,
    https://doi.org/10.1093/biomet/34.1-2.28.

    >>> found = welch([1.0, 2.0, 3.0], [2.0, 3.0, 4.0])      # variances 1, so v = 2/3 and df = 4
    >>> round(found.t, 4), round(found.df, 4), round(found.p_value, 4)
    (1.2247, 4.0, 0.2879)
    """
    samples = [np.asarray(scores, dtype=np.float64) for scores in (first, second)]
    if not 0 < level < 1 or any(s.ndim != 1 or len(s) < 2 or not np.isfinite(s).all() for s in samples):
        raise ValueError(
            f"two or more finite scores of each system are needed, and 0 < level < 1; got {samples}, {level}"
        )
    sizes = [len(s) for s in samples]
    parts = [float(s.var(ddof=1)) / len(s) for s in samples]
    if not sum(parts) > 0:
        raise ValueError("neither system varies over its seeds, so nothing says how much chance could do")
    difference = float(samples[1].mean() - samples[0].mean())
    error = float(np.sqrt(sum(parts)))
    df = sum(parts) ** 2 / sum(part**2 / (n - 1) for part, n in zip(parts, sizes, strict=True))
    half = float(stdtrit(df, (1 + level) / 2)) * error
    t = difference / error
    return WelchTest(
        difference, difference - half, difference + half, level, t, df, float(2 * stdtr(df, -abs(t))), *sizes
    )
