"""A judge's file: qrels that every tool reads, with the design of the sample in comment lines before them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import numpy as np

from workbench.datasets.qrels import Judgements, finite, match_ids, read_qrels, shortened, stream_lines
from workbench.files import canonical_hash, canonical_json
from workbench.judging.pool import Pool
from workbench.types import IntArray

MAGIC = "# retrieval-workbench judgements, format 1"
POOL, LABELLED, RANDOM = 0, 1, 2
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_WIDTH = 1000


@dataclass(frozen=True, eq=False)
class Design:
    """How the queries of a file were drawn: enough to estimate from the file alone.

    pool : digest of the pool. seed, n_queries, controls, judge : as the session was opened. queries : digest of the ids
    of all queries in order. strata (n_queries of the test set,) : -1 where nothing was to be judged.
    """

    metric: str
    direction: str
    pool: str
    seed: int
    n_queries: int
    controls: float
    judge: str
    queries: str
    stratum_names: tuple[str, ...]
    strata: IntArray

    @classmethod
    def of(cls, pool: Pool, *, seed: int, n_queries: int, controls: float, judge: str) -> Design:
        """The design of a sample from a pool."""
        return cls(
            pool.metric, pool.direction, pool.digest, seed, n_queries, controls, judge, ids_digest(pool.query_ids),
            pool.stratum_names, pool.strata,
        )  # fmt: skip

    def lines(self) -> list[str]:
        """The comment lines that hold it."""
        plain = {name: value for name, value in vars(self).items() if name != "strata"}
        written = "".join("-" if label < 0 else _DIGITS[label] for label in self.strata)
        parts = [written[start : start + _WIDTH] for start in range(0, len(written), _WIDTH)]
        design = canonical_json({**plain, "stratum_names": list(self.stratum_names)}).decode()
        return [MAGIC, f"# design {design}", *(f"# strata {part}" for part in parts)]


class Entry(NamedTuple):
    """One query as a judge left it: item -> (kind of pair, grade); no pairs where it was skipped."""

    query: str
    pairs: Mapping[str, tuple[int, float]]


@dataclass(frozen=True, eq=False)
class Judged:
    """What one judge said: :func:`read_judged`.

    entries : query by query, in the order in which they were judged. design : None for qrels from elsewhere, whose
    judged queries must be a random sample of the queries that judging could move.
    """

    name: str
    entries: tuple[Entry, ...]
    design: Design | None = None
    warnings: tuple[str, ...] = field(default=())

    @property
    def skipped(self) -> tuple[str, ...]:
        """Queries that the judge could not decide."""
        return tuple(entry.query for entry in self.entries if not entry.pairs)

    def judgements(self) -> Judgements:
        """All pairs but the controls, as :func:`workbench.datasets.qrels.read_qrels` returns them."""
        rows = [
            (one.query, item, grade) for one in self.entries for item, (kind, grade) in one.pairs.items() if not kind
        ]
        queries, items, grades = zip(*rows, strict=True) if rows else ((), (), ())
        return Judgements(queries, items, np.array(grades, np.float64), self.name, self.warnings)

    def controls(self) -> dict[str, tuple[int, int]]:
        """(as expected, shown) of the control pairs: labelled ones should be right, random ones wrong."""
        pairs = [pair for entry in self.entries for pair in entry.pairs.values()]
        right = [grade > 0 for kind, grade in pairs if kind == LABELLED]
        wrong = [grade <= 0 for kind, grade in pairs if kind == RANDOM]
        return {"labelled right": (sum(right), len(right)), "random wrong": (sum(wrong), len(wrong))}


def read_judged(path: Path | str) -> Judged:
    """The judgements of a session's file, or of any qrels that :func:`workbench.datasets.qrels.read_qrels` reads.

    Errors: those of read_qrels; a design that is damaged; a pair that is judged twice.
    """
    path = Path(path)
    design: dict[str, Any] = {}
    strata: list[str] = []
    entries: dict[str, dict[str, tuple[int, float]]] = {}
    for number, raw in stream_lines(path):
        line, place = raw.decode("utf-8", "replace").strip(), f"{path.name} line {number}"
        if number == 1 and line != MAGIC:
            return _from_qrels(path)
        if line.startswith("# design "):
            design = _json(line.removeprefix("# design "), place)
        elif line.startswith("# strata "):
            strata.append(line.removeprefix("# strata "))
        elif line.startswith("# skipped "):
            entries[unquote(line.removeprefix("# skipped "))] = {}
        elif line and not line.startswith("#"):
            _add(entries, line.split(), place)
    written = tuple(Entry(query, pairs) for query, pairs in entries.items())
    return Judged(path.name, written, _design(design, "".join(strata), path.name))


def written(design: Design, entries: Sequence[Entry]) -> bytes:
    """The bytes of a judge's file; the second column of the qrels is the kind of pair (0 pool, 1 and 2 controls)."""
    lines = design.lines()
    for query, pairs in entries:
        name = quote(query, safe="")
        lines += [f"{name} {kind} {quote(item, safe='')} {grade:g}" for item, (kind, grade) in pairs.items()]
        if not pairs:
            lines.append(f"# skipped {name}")
    return ("\n".join(lines) + "\n").encode()


def ids_digest(ids: Sequence[str]) -> str:
    """A hash of ids in their order."""
    return canonical_hash(list(ids))


def rows_of(names: Sequence[str], ids: Sequence[str], what: str, judged: Judged) -> IntArray:
    """The row of each name among the ids; an error that shows both where one is unknown."""
    row = {name: number for number, name in enumerate(ids)}
    if judged.design is None:
        meant = match_ids(names, row)
        names = [meant.get(name, name) for name in names]
    if unknown := [name for name in names if name not in row]:
        raise ValueError(
            f"{len(set(unknown))} {what} in {judged.name} are not among the {len(ids)} {what} scored here, the first "
            f"are {shortened(unknown)}; the ids here look like {shortened(ids)}. Is the file of the other direction, "
            "or of another data set?"
        )
    return np.array([row[name] for name in names], np.int64)


def _from_qrels(path: Path) -> Judged:
    found = read_qrels(path)
    entries: dict[str, dict[str, tuple[int, float]]] = {}
    for query, item, grade in zip(found.queries, found.items, found.grades, strict=True):
        entries.setdefault(query, {})[item] = (POOL, float(grade))
    return Judged(found.name, tuple(Entry(*entry) for entry in entries.items()), None, found.warnings)


def _add(entries: dict[str, dict[str, tuple[int, float]]], fields: list[str], place: str) -> None:
    if len(fields) != 4 or fields[1] not in ("0", "1", "2"):
        raise ValueError(f"{place}: expected query, kind (0, 1 or 2), item, grade; got {len(fields)} fields")
    query, item = unquote(fields[0]), unquote(fields[2])
    pairs = entries.setdefault(query, {})
    if item in pairs:
        raise ValueError(f"{place}: query {query[:80]!r} and item {item[:80]!r} are judged twice; keep one of the two")
    pairs[item] = (int(fields[1]), finite(fields[3], f"{place}: the grade", "0 is wrong, 1 is right"))


def _json(text: str, place: str) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except ValueError as error:
        raise ValueError(f"{place}: the design of the sample is damaged ({error}); restore the file") from None


def _design(plain: dict[str, Any], strata: str, name: str) -> Design:
    expected = set(Design.__dataclass_fields__) - {"strata"}
    labels = [("-" + _DIGITS).find(letter) - 1 for letter in strata]
    names = tuple(plain.get("stratum_names", ()))
    if set(plain) != expected or not labels or not -1 <= min(labels) <= max(labels) < len(names):
        raise ValueError(f"{name}: the design of the sample is damaged or incomplete; restore the file")
    return Design(**{**plain, "stratum_names": names}, strata=np.array(labels, np.int64))
