"""Is a run folder still what was written? Its digests, its form, and every number that can be counted again.

A folder may come from a stranger: links and names that lead out of it are failures and are not followed, nothing is
unpickled or executed. A check is no signature: who changes every file alike, digests included, changes the run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.runs import recount
from workbench.runs.formats import DRAWN, SCHEMA
from workbench.runs.identity import NotChecked, content_hash, name_digits, not_in_the_folder
from workbench.runs.reading import Run
from workbench.runs.schema import SCORED, parse_json, plain_files, stays_inside
from workbench.runs.world import Sides, lists_of, sides_of, world_of

if TYPE_CHECKING:
    import pandas as pd

_NAMED = re.compile(r".+__.+__(?P<digest>[0-9a-f]{8})(-\d+)?")
_SAID = 5
_ALWAYS = ("metrics.json", "findings.json", "results.json", "per_query.parquet")
_ALWAYS_SCORED = ("layers/items.parquet", "layers/embeddings.json")


@dataclass(frozen=True)
class Line:
    """One check. ok : True, False, or None where it could not be made; ``text`` says what was found, or why not."""

    name: str
    ok: bool | None
    text: str


@dataclass(frozen=True)
class Verification:
    """What was re-checked of a run folder, in the order in which it was.

    >>> found = Verification("one", (Line("files", True, "12 files"), Line("vectors", None, "were not kept")))
    >>> found.ok, [line.name for line in found.unchecked]
    (True, ['vectors'])
    """

    run: str
    lines: tuple[Line, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[Line, ...]:
        return tuple(line for line in self.lines if line.ok is False)

    @property
    def unchecked(self) -> tuple[Line, ...]:
        return tuple(line for line in self.lines if line.ok is None)

    def table(self) -> pd.DataFrame:
        """Columns check, result ("ok", "failed", "not checked") and text."""
        import pandas as pd

        words = {True: "ok", False: "failed", None: "not checked"}
        rows = [(line.name, words[line.ok], line.text) for line in self.lines]
        return pd.DataFrame(rows, columns=["check", "result", "text"])

    def flat(self) -> dict[str, float]:
        """Numbers of checks: ``{"passed": 14.0, "failed": 0.0, "not checked": 1.0}``."""
        n, failed, unchecked = len(self.lines), len(self.failed), len(self.unchecked)
        return {"passed": float(n - failed - unchecked), "failed": float(failed), "not checked": float(unchecked)}

    def _repr_html_(self) -> str:
        return str(self.table().to_html(index=False))


def verify(run: Run | str | Path) -> Verification:
    """Re-check a run folder: digests of its files, their form, and the numbers that follow from what was kept.

    Checked are: the SHA-256 of every file; keys, columns and types; values, intervals, chance and tie brackets of
    metrics.json and values per query, from lists, judgements and (kept) vectors; the order of the lists and their TREC
    copies; the digests of vectors; the hash of the content and the eight digits in the folder's name; headline numbers
    in findings and results. Numbers agree within 1e-9, scores and lists exactly.

    run : a run or its folder. What could not be checked is a line with ``ok=None`` that says why. Errors only for what
    is no run folder: FileNotFoundError without a manifest.json, ValueError when that is damaged or of another schema.

    >>> verify("no-such-folder")
    Traceback (most recent call last):
    FileNotFoundError: no-such-folder is no run folder (it has no manifest.json); give one that ...
    """
    run = Run(run if isinstance(run, str | Path) else run.path)  # what is on the disk now, not what was read before
    return Verification(run.path.resolve().name, tuple(_Checks(run).lines()))


class _Checks:
    """The checks of one run and what they share."""

    def __init__(self, run: Run) -> None:
        self.run, self.parameters = run, run.manifest["parameters"]
        self.files, self.odd = plain_files(run.path)
        self.damaged: dict[str, str] = {}  # what was said of a file -> its name

    def lines(self) -> Iterator[Line]:
        yield self._line("finished", self._finished)
        yield self._line("files", self._digests)
        scored = self.run.report in SCORED
        expected = {*self.files, *_ALWAYS, *(_ALWAYS_SCORED if scored else ())}
        form = [self._line(name, lambda name=name: self._read(name)) for name in sorted(expected)]
        bad = [line for line in form if not line.ok]
        yield from bad
        self.damaged = {line.text: line.name for line in bad}
        if not bad:
            yield Line("form", True, f"{len(form)} files have the form of schema {SCHEMA}")
        if not scored:
            why = f"a run of the {self.run.report} report counts on other runs: verify those that it names"
            yield Line("numbers", None, why)
            return
        yield from self._items()
        for name, check in (
            ("content hash", self._content_hash), ("name", self._name), ("findings", self._findings),
            ("results", self._results),
        ):  # fmt: skip
            yield self._line(name, check)

    def _line(self, name: str, check: Callable[[], str]) -> Line:
        """Whatever a damaged file makes a check raise is a failed check, not a crash."""
        try:
            return Line(name, True, check())
        except NotChecked as why:
            return Line(name, None, str(why))
        except Exception as error:
            plain = isinstance(error, ValueError | OSError)
            text = str(error).replace(f"{self.run.path.name}/", "") if plain else f"{type(error).__name__}: {error}"
            if text in self.damaged:
                return Line(name, None, f"it rests on {self.damaged[text]}, which is missing or damaged")
            return Line(name, False, text)

    def _finished(self) -> str:
        path = self.run.path.resolve()
        if "failure.json" in self.files:
            failure = self.run._json("failure.json")
            raise ValueError(f"the run stopped while {failure.get('stage')}: {failure.get('error')} (failure.json)")
        if path.suffix in (".partial", ".failed"):
            raise ValueError(f"{path.name} is unfinished: a run is still writing it, was killed, or failed")
        return f"{self.run.report} run, finished {self.run.manifest.get('finished', 'at an unknown time')}"

    def _digests(self) -> str:
        stated = self.run.manifest.get("files")
        wrong = [f"{name} {why}" for name, why in self.odd.items()]
        if stated is None:
            if wrong:
                raise ValueError("; ".join(wrong))
            raise NotChecked("manifest.json has no digests of the files: it is of an older version, which wrote none")
        wrong += [f"{name!r} leads out of the folder" for name in stated if not stays_inside(name)]
        here = {name for name in self.files if not _is_drawn(name)}
        wrong += [f"{name} is missing" for name in sorted(set(stated) - set(self.files)) if stays_inside(name)]
        wrong += [f"{name} is extra: not in manifest.json" for name in sorted(here - set(stated))]
        changed = [name for name in sorted(set(self.files) & set(stated)) if _digest(self.files[name]) != stated[name]]
        wrong += [f"{name} is changed: another SHA-256 than in manifest.json" for name in changed]
        if wrong:
            more = f"; and {len(wrong) - _SAID} more" if len(wrong) > _SAID else ""
            raise ValueError("; ".join(wrong[:_SAID]) + more)
        return f"{len(stated)} files have the SHA-256 that manifest.json states, none is missing or extra"

    def _read(self, name: str) -> str:
        run = self.run
        if name == "results.json":
            run.results  # noqa: B018
        elif name in ("metrics.json", "findings.json"):
            getattr(run, name.removesuffix(".json"))
        elif name == "layers/embeddings.json":
            run.embeddings  # noqa: B018
        elif name.startswith("layers/neighbours_") and name.endswith(".parquet"):
            run.columns(name, like="layers/neighbours_*.parquet")
        elif name.endswith(".parquet"):
            run.columns(name)
        elif name.endswith(".json") and name != "manifest.json":
            parse_json(self.files[name].read_text(encoding="utf-8"))
        return name

    def _items(self) -> Iterator[Line]:
        """Every direction: its items, headline numbers, lists, values, and vectors."""
        sides: Sides | None = None

        def items() -> str:
            nonlocal sides
            sides = sides_of(self.run)
            unknown = sorted(_named(self.run) - set(sides.images) - set(sides.texts))
            if unknown:
                raise ValueError(f"layers/items.parquet does not know {unknown[0]!r:.80}, which the report shows")
            return f"{len(sides.images):,} and {len(sides.texts):,} ids, each once"

        yield self._line("items", items)
        if sides is None:
            return
        vectors: dict[str, Any] = {}

        def stored() -> str:
            found, text = self._vectors()
            vectors.update(found)
            return text

        yield self._line("vectors", stored)
        for direction in self._directions(sides):
            yield from self._direction(direction, sides, vectors)

    def _directions(self, sides: Sides) -> list[str]:
        """Those that any file speaks of, so that none can be left out."""
        found = {key.partition("/")[0] for key in _quietly(lambda: self.run.metrics, {})}
        found |= set(_quietly(lambda: self.run.per_query["direction"], ()))
        found |= {match[1] for name in self.files if (match := re.fullmatch(r"layers/neighbours_(.+)\.parquet", name))}
        found |= {match[1] for name in self.files if (match := re.fullmatch(r"run_(.+)\.trec", name))}
        return sorted(map(str, found), key=lambda name: (name != sides.forward, name))

    def _direction(self, direction: str, sides: Sides, vectors: dict[str, Any]) -> Iterator[Line]:
        found: dict[str, Any] = {}

        def world() -> str:
            found["world"] = world_of(self.run, direction, sides, listed=self._listed())
            return recount.headline(self.run, found["world"])

        def lists() -> str:
            found["lists"] = lists_of(self.run, _have(found, "world"))
            kept = found["lists"]
            return f"{kept.n_queries:,} lists, {len(kept.items):,} places: in order, each item known and once"

        def values() -> str:
            _have(found, "lists")
            if found["world"].relevance is None:
                raise NotChecked("there is no layers/relevance.parquet: the folder is of an older version")
            return recount.from_lists(self.run, found["world"], found["lists"])

        def scores() -> str:
            if not vectors:
                raise NotChecked("no vectors to compute them from")
            _have(found, "lists")
            asks, searched = sides.modalities[::-1] if direction == sides.forward else sides.modalities
            return recount.from_vectors(self.run, found["world"], found["lists"], vectors[asks], vectors[searched])

        yield self._line(f"{direction} metrics", world)
        yield self._line(f"{direction} lists", lists)
        yield self._line(f"{direction} trec", lambda: self._trec(direction))
        yield self._line(f"{direction} values", values)
        yield self._line(f"{direction} scores", scores)

    def _listed(self) -> bool:
        return not self.run.embeddings

    def _vectors(self) -> tuple[dict[str, Any], str]:
        name = "layers/embeddings.safetensors"
        if self._listed() and name not in self.files:
            raise NotChecked("the run is of ranked lists: there never were vectors")
        if name not in self.files:
            raise NotChecked("vectors were not kept (keep_embeddings=false), so scores cannot be computed again")
        return recount.stored_vectors(self.run, self.files[name])

    def _trec(self, direction: str) -> str:
        from urllib.parse import quote

        name, columns = f"run_{direction}.trec", self.run.neighbours(direction)
        if name not in self.files:
            raise ValueError(f"{name} is missing; expected the lists of layers/neighbours_{direction}.parquet in it")
        safe = {one: quote(one, safe="") for part in ("query_id", "item_id") for one in set(columns[part])}
        rows = zip(*(list(columns[part]) for part in ("query_id", "item_id", "rank", "score")), strict=True)
        expected = [f"{safe[q]} Q0 {safe[i]} {int(rank)} {float(score)!r} workbench" for q, i, rank, score in rows]
        try:
            lines = self.files[name].read_text(encoding="utf-8").splitlines()
        except ValueError as error:
            raise ValueError(f"{name} is damaged ({error}); expected UTF-8") from error
        if lines != expected:
            row = next((n for n, pair in enumerate(zip(lines, expected, strict=False)) if pair[0] != pair[1]), -1)
            came = f"line {row + 1} is {lines[row]!r:.100}" if row >= 0 else f"it has {len(lines)} lines"
            wanted = f"{expected[row]!r:.100}" if row >= 0 else f"{len(expected)}"
            raise ValueError(f"{name}: {came}; expected {wanted}, as in layers/neighbours_{direction}.parquet")
        return f"{name} holds the same {len(lines):,} lines"

    def _content_hash(self) -> str:
        stated = self.run.manifest["card"].get("content hash")
        if not isinstance(stated, str):
            raise NotChecked("manifest.json states none")
        short = self.run.manifest.get("protocol", {}).get("content hash")
        if short != stated[:16]:
            raise ValueError(f"manifest.json: the protocol has the content hash {short!r:.40}, the card {stated!r:.40}")
        if self.parameters.get("share") == "no-content":
            raise NotChecked("it is of ids and items that share=no-content withholds")
        sides = sides_of(self.run)
        if "layers/relevance.parquet" not in self.files:
            raise NotChecked("there is no layers/relevance.parquet: the folder is of an older version")
        if content_hash(self.run, sides, listed=self._listed()) != stated:
            if any("\\" in name for name in (*sides.images, *sides.texts)):
                raise NotChecked("some ids were rewritten because they could not be written as UTF-8")
            raise ValueError(
                f"items, digests or judgements in layers/items.parquet and layers/relevance.parquet are not those of "
                f"the content hash {stated:.16} in manifest.json; a file of another run?"
            )
        return f"{stated:.16} is the hash of items, digests and judgements"

    def _name(self) -> str:
        path = self.run.path.resolve()
        match = _NAMED.fullmatch(path.name.removesuffix(".partial").removesuffix(".failed"))
        if not match:
            raise NotChecked(f"{path.name} is not named like a run folder (report__data__encoder__8 digits)")
        sides = sides_of(self.run)
        found = name_digits(self.run, sides)
        if found == match["digest"]:
            return f"{found} follows from parameters, content and encoder"
        why = f"parameters, content and encoder in manifest.json give {found}, the folder is named {match['digest']}"
        unknown = not_in_the_folder(self.run, sides)
        if unknown:
            raise NotChecked(f"{why}; but the name also covers {unknown}")
        raise ValueError(f"{why}: manifest.json was edited, or the folder renamed")

    def _findings(self) -> str:
        found = [one for one in self.run.findings if one.name in self.run.metrics]
        for one in found:
            entry = self.run.metrics[one.name]
            interval = None if None in (entry["low"], entry["high"]) else (entry["low"], entry["high"])
            if one.value not in (entry["value"], None) or (one.interval is not None and one.interval != interval):
                raise ValueError(
                    f"findings.json: {one.name} is {one.value} {one.interval}, but metrics.json has {entry['value']} "
                    f"{interval}"
                )
        return f"{len(self.run.findings)} findings, {len(found)} of them headline numbers as in metrics.json"

    def _results(self) -> str:
        found = [one for name, one in self.run.results.items() if name.startswith("scores ")]
        for one in found:
            for name, entry in one.entries().items():
                if entry != self.run.metrics.get(name):
                    raise ValueError(
                        f"results.json: {name} is {entry}, but metrics.json has {self.run.metrics.get(name)}"
                    )
        if {name for one in found for name in one.entries()} != set(self.run.metrics):
            raise ValueError("results.json and metrics.json do not hold the same metrics; a file of another run?")
        return f"the scores of {len(found)} directions are those of metrics.json; what else it holds is not recomputed"


def _have(found: dict[str, Any], name: str) -> Any:
    if name not in found:
        raise NotChecked("what it rests on failed above")
    return found[name]


def _quietly(read: Callable[[], Any], instead: Any) -> Any:
    try:
        return read()
    except Exception:  # the file has its own line
        return instead


def _is_drawn(name: str) -> bool:
    return any(name == one or (one.endswith("/") and name.startswith(one)) for one in DRAWN)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _named(run: Run) -> set[str]:
    """Ids of pictures that the report shows: thumbnails, and examples in results.json."""
    found, todo = set(run.thumbnails), [run.results]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            todo += value.values()
        elif isinstance(value, list | tuple):
            todo += value
        else:
            todo += [value.cards] if hasattr(value, "cards") else []
            found |= {value.image_id} if hasattr(value, "image_id") else set()
    return found - {""}
