"""A judging session in a notebook: one query at a time, its pictures or texts numbered, marked by typing numbers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from workbench.datasets.collection import Collection, Side
from workbench.datasets.tables import READABLE
from workbench.files import write_atomically
from workbench.html.display import Display
from workbench.judging.judged import LABELLED, POOL, RANDOM, Design, Entry, Judged, read_judged, written
from workbench.judging.pool import Pool
from workbench.judging.sheet import finished, sheet
from workbench.types import IntArray

USUAL = 100


class JudgingSession:
    """Judge a sample of a pool by eye; end a cell with the session to see what comes next.

    Nothing that is shown tells the system, the rank, the score, an id or a label: queries and items come in a random
    order of each judge's own. Every answer is written at once, so a session can be left and opened again at any time;
    stopping early leaves a smaller random sample. It needs no widget: text is typed, HTML is shown.

    session = JudgingSession.open("judge-a.qrels.tsv", pool, collection)
    session                             # the first query
    session.mark("2 5", batch=1)        # numbers 2 and 5 are right, the others shown are wrong; shows the next
    session.mark("", batch=2)           # none is right
    session.skip(batch=3)               # cannot be decided
    session.undo()                      # back to the query before
    """

    def __init__(self, path: Path, pool: Pool, sides: tuple[Side, Side], design: Design, entries: Sequence[Entry]):
        """Use :meth:`open`."""
        self.path, self.pool, self.design = path, pool, design
        self._sides, self._entries, self._shown = sides, list(entries), 0
        drawn = pool.drawn(design.n_queries, seed=design.seed)
        self._order = [int(row) for row in _rng(design).permutation(drawn)]

    @classmethod
    def open(
        cls, path: Path | str, pool: Pool, collection: Collection, *, seed: int = 0, n_queries: int | None = None,
        controls: float | None = None,
    ) -> JudgingSession:  # fmt: skip
        """Begin a session, or go on with the one that the file holds.

        path : the judge's file, qrels with comment lines; each judge has an own one, and its name decides the order in
        which this judge sees things. pool : :func:`workbench.judging.pool`. collection : brings the pictures and texts.
        seed : with the same seed two judges see the same queries. n_queries : to judge in all, 100 or all there are;
        more than before continues a finished session. controls : share of queries to which a labelled positive and a
        random item are added unmarked, to see whether the judge looks; 0 without.
        Errors: a file of another pool, seed or share of controls, or one that is no session's; fewer queries than the
        file has; a collection without the ids or without anything to look at; nothing to judge.
        """
        path = Path(path)
        if path.suffix in READABLE:
            raise ValueError(
                f"{path.name}: the file holds qrels, not a table; give it a name such as judge-a.qrels.tsv"
            )
        if not pool.n_open:
            raise ValueError(f"nothing to judge: no unlabelled item can move {pool.metric} of these lists")
        sides = _sides(pool, collection)
        if not path.exists():
            n, share = min(USUAL, pool.n_open) if n_queries is None else n_queries, controls or 0.0
            if not 0 <= share <= 1:
                raise ValueError(f"controls is a share of the queries, 0 to 1; got {controls}")
            design = Design.of(pool, seed=seed, n_queries=n, controls=float(share), judge=path.name)
            session = cls(path, pool, sides, design, ())
            write_atomically(path, written(design, ()))
            return session
        before = read_judged(path)
        design = _same(before, pool, seed, controls)
        wanted = design.n_queries if n_queries is None else n_queries
        if wanted < design.n_queries:
            raise ValueError(
                f"{path.name} is a sample of {design.n_queries} queries, and n_queries={wanted} is fewer; stop when "
                "you like, what is judged by then is a random sample too"
            )
        return cls(path, pool, sides, replace(design, n_queries=wanted), before.entries)

    @property
    def n_done(self) -> int:
        """Queries judged or skipped."""
        return len(self._entries)

    @property
    def n_left(self) -> int:
        """Queries still to come."""
        return len(self._order) - self.n_done

    @property
    def judged(self) -> Judged:
        """What has been said so far, as :func:`read_judged` reads it from the file."""
        return Judged(self.path.name, tuple(self._entries), self.design)

    def mark(self, right: str = "", *, batch: int | None = None) -> JudgingSession:
        """Say which numbers are right: "2 5" or "2, 5"; all others that are shown are wrong; "" is none.

        batch : the number of the query as shown. With it, a notebook can be run again: an answer that is in the file
        already changes nothing. Without it the answer is for what this session showed last.
        Errors: numbers that are not shown; an answer that differs from the one in the file (undo first); nothing shown.
        """
        numbers = _numbers(right)
        if batch is not None and 1 <= batch <= self.n_done:
            return self._again(batch, numbers)
        query, items, kinds = self._current(batch)
        if wrong := sorted(number for number in numbers if not 1 <= number <= len(items)):
            raise ValueError(f"numbers 1 to {len(items)} are shown, got {wrong[0]}; nothing was written")
        ids = self.pool.item_ids
        pairs = {
            ids[item]: (kind, float(place in numbers))
            for place, (item, kind) in enumerate(zip(items, kinds, strict=True), start=1)
        }
        return self._write([*self._entries, Entry(self.pool.query_ids[query], pairs)])

    def skip(self, *, batch: int | None = None) -> JudgingSession:
        """Leave this query undecided; the estimate says how much the skipped ones could matter."""
        if batch is not None and 1 <= batch <= self.n_done:
            if self._entries[batch - 1].pairs:
                raise ValueError(f"query {batch} is judged already; undo() back to it to change that")
            return self
        query, _, _ = self._current(batch)
        return self._write([*self._entries, Entry(self.pool.query_ids[query], {})])

    def undo(self) -> JudgingSession:
        """Take back the last answer, also one of an earlier session; the query is shown again."""
        if not self._entries:
            raise ValueError("nothing is judged yet, so there is nothing to take back")
        return self._write(self._entries[:-1])

    def show(self) -> Display:
        """What is to be judged next, or what to do when all is judged."""
        if not self.n_left:
            return finished(self.path.name, self.n_done, self.judged.controls())
        self._shown = self.n_done + 1
        query = self._next()
        items, _ = self._batch(query)
        return sheet(
            self._sides, query, items.tolist(), batch=self._shown, n_batches=len(self._order),
            n_skipped=len(self.judged.skipped),
        )  # fmt: skip

    def _repr_html_(self) -> str:
        return self.show()._repr_html_()

    def __repr__(self) -> str:
        return f"{self.path.name}: {self.n_done} of {len(self._order)} queries judged or skipped"

    def _next(self) -> int:
        done = {entry.query for entry in self._entries}
        return next(row for row in self._order if self.pool.query_ids[row] not in done)

    def _current(self, batch: int | None) -> tuple[int, IntArray, IntArray]:
        """(query, items, kinds) that an answer is for."""
        if not self.n_left:
            raise ValueError(
                f"all {self.n_done} queries are judged or skipped; open the session with a larger n_queries for more"
            )
        if batch is not None and batch != self.n_done + 1:
            raise ValueError(f"query {batch} is not the next one to judge, which is {self.n_done + 1}")
        if batch is None and self._shown != self.n_done + 1:
            raise ValueError("nothing has been shown since the last answer; end a cell with the session to see it")
        query = self._next()
        return query, *self._batch(query)

    def _batch(self, query: int) -> tuple[IntArray, IntArray]:
        """Items of a query, controls among them, in this judge's random order, and what kind of pair each is."""
        rng, items = _rng(self.design, query), self.pool.row(query)
        kinds = np.full(len(items), POOL)
        if rng.random() < self.design.controls:
            labelled, grades = self.pool.labels.row(query)
            outside = np.setdiff1d(np.arange(len(self.pool.item_ids)), np.concatenate([labelled, items]))
            for kind, choice in ((LABELLED, labelled[grades > 0]), (RANDOM, outside)):
                if len(choice):
                    items, kinds = np.append(items, rng.choice(choice)), np.append(kinds, kind)
        order = rng.permutation(len(items))
        return items[order], kinds[order]

    def _again(self, batch: int, numbers: set[int]) -> JudgingSession:
        entry = self._entries[batch - 1]
        given = {place for place, (_, grade) in enumerate(entry.pairs.values(), start=1) if grade > 0}
        if not entry.pairs or given != numbers:
            before = f"{' '.join(map(str, sorted(given))) or 'none'} right" if entry.pairs else "skipped"
            raise ValueError(f"query {batch} is in the file already ({before}); undo() back to it to change that")
        return self

    def _write(self, entries: list[Entry]) -> JudgingSession:
        """The file as a whole, unless somebody else has changed it since."""
        now = read_judged(self.path) if self.path.exists() else None
        if now is None or now.entries != tuple(self._entries):
            raise ValueError(f"{self.path.name} was changed or removed by another session; open it again")
        write_atomically(self.path, written(self.design, entries))
        self._entries, self._shown = entries, 0
        return self


def _rng(design: Design, *more: int) -> np.random.Generator:
    """Random numbers of one judge: which order, not which queries."""
    name = int.from_bytes(hashlib.sha256(design.judge.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    return np.random.default_rng([design.seed, name, *more])


def _numbers(right: str) -> set[int]:
    if not re.fullmatch(r"[\d\s,]*", right, re.ASCII):
        raise ValueError(f"give the numbers of what is right, such as '2 5', or '' for none; got {right[:80]!r}")
    return {int(number) for number in re.findall(r"\d+", right)}


def _same(before: Judged, pool: Pool, seed: int, controls: float | None) -> Design:
    """The design of an existing file, held against what the session is opened with."""
    design = before.design
    if design is None:
        raise ValueError(f"{before.name} is not a judging session's file; give a name that does not exist yet")
    if design.pool != pool.digest or not np.array_equal(design.strata, pool.strata):
        raise ValueError(
            f"{before.name} belongs to another pool (made for {design.metric}, {design.direction}): other lists, "
            "labels or metrics; open it with the pool it was begun with, or give another file name"
        )
    share = design.controls if controls is None else controls
    if (seed, share) != (design.seed, design.controls):
        raise ValueError(
            f"{before.name} was begun with seed={design.seed} and controls={design.controls:g}; got seed={seed} and "
            f"controls={share:g}"
        )
    return design


def _sides(pool: Pool, collection: Collection) -> tuple[Side, Side]:
    """(queries, items) of the collection, in the order of the pool."""
    sides = (collection.texts, collection.images)
    queries, items = sides if pool.direction == "t2i" else sides[::-1]
    return _ordered(queries, pool.query_ids, "queries"), _ordered(items, pool.item_ids, "items")


def _ordered(side: Side, ids: tuple[str, ...], what: str) -> Side:
    if not side.kind:
        raise ValueError(f"the {side.modality} side of this collection holds nothing to look at, only ids or vectors")
    row = {name: number for number, name in enumerate(side.ids)}
    if unknown := [name for name in ids if name not in row]:
        raise ValueError(
            f"{len(unknown)} of {len(ids)} {what} of the pool are not among the {side.plural} of this collection (the "
            f"first is {unknown[0][:80]!r}); is the direction right?"
        )
    return Side(side.modality, ids, [side.content[row[name]] for name in ids])
