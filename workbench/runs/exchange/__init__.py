"""Runs in the formats of other tools, and the answers of other tools for every diagnostic of ours.

    export_run(Run("runs/NAME"), "trec", Path("exchange"))
    import_files([Path("theirs_predictions.json")], Path("imported"), qrels=Path("qrels.tsv"))

trec                   run with ir_metadata header, judgements         lists in and out
mteb                   TaskResult and predictions                      lists and numbers in and out
sentence-transformers  predictions as JSON lines, results as CSV       lists and numbers in and out
clip-benchmark         one JSON of recalls                             numbers in and out
parquet                one row per query, with a page on its columns   out

A format lives in one module and maps a metric only where both definitions are the same. Numbers without lists cannot be
diagnosed; they become a table of published numbers, which stands beside measured runs, unpaired.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.datasets.tables import read_json, require_file
from workbench.files import write_atomically
from workbench.runs.exchange import clip_benchmark, mteb, sentence_transformers, trec
from workbench.runs.exchange.answers import Answers, Numbers, answers_of, check_size, judged_by
from workbench.runs.formats import SCHEMA, safe_name
from workbench.runs.reading import Run

__all__ = [
    "FORMATS", "Answers", "Exchanged", "Numbers", "answers_of", "export_run", "import_files", "judged_by",
    "read_source",
]  # fmt: skip

PUBLISHED = "published.csv"
Files = tuple[dict[str, bytes], list[str]]


@dataclass(frozen=True)
class Exchanged:
    """paths : files written. notes : sentences on what was left out or irregular. commands : what to run next."""

    paths: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


def _per_query(run: Run) -> Files:
    """The table of a run folder and a page on its columns."""
    columns = "".join(f"| `{name}` | {_meaning(run, name)} |\n" for name in run.per_query)
    page = (
        f"# {run.path.name}: one row per direction and query\n\n"
        "`import pandas; pandas.read_parquet('per_query.parquet')`\n\n"
        f"Every metric is the mean over all orders of equal scores; empty where it cannot be measured.\n\n"
        f"| column | meaning |\n|---|---|\n{columns}"
    )
    table = (run.path / "per_query.parquet").read_bytes()
    return {"per_query.parquet": table, "per_query.md": page.encode()}, []


_COLUMNS = {
    "direction": "what is asked for what: t2i is text to image",
    "query_id": "of the query",
    "cluster_id": "queries of one image share it; resample these, not the rows",
    "best_place": "place of the first right item, from 1, mean over ties; empty: there is none",
    "n_better": "items with a strictly higher score than the first right one",
    "n_tied": "other items with its score",
}


def _meaning(run: Run, name: str) -> str:
    if name in _COLUMNS:
        return _COLUMNS[name]
    said = {one.strip(): text for key, text in run.manifest["protocol"].items() for one in key.split(",")}
    return str(said.get(name, "metadata of the query")).replace("|", "/")


FORMATS: Mapping[str, Callable[[Run], Files]] = {
    "trec": trec.files,
    "mteb": mteb.files,
    "clip-benchmark": clip_benchmark.files,
    "sentence-transformers": sentence_transformers.files,
    "parquet": _per_query,
}


def export_run(run: Run, to: str, out: Path, *, header: str = "top", overwrite: bool = False) -> Exchanged:
    """Write a finished run in another format: everything comes from its folder, so nothing that was withheld gets out.

    to : a key of FORMATS. header : "top" or "beside", where the ir_metadata of a TREC run goes. overwrite : replace
    files of the same names. Errors: a format or header that does not exist, a file that does.
    """
    if to not in FORMATS:
        raise ValueError(f"to={to!r} is no format; choose one of {', '.join(FORMATS)}")
    if header not in ("top", "beside"):
        raise ValueError(f"header={header!r}; choose 'top' (comments in the run) or 'beside' (a file of its own)")
    try:
        files, notes = trec.files(run, header=header) if to == "trec" else FORMATS[to](run)
    except KeyError as error:
        raise ValueError(
            f"{run.path.name} lacks {error}, which {to} needs: files were edited; evaluate again"
        ) from error
    return Exchanged(_write(out, files, overwrite), tuple(notes))


def import_files(
    sources: Sequence[Path], out: Path, *, qrels: Path | None = None, direction: str = "", overwrite: bool = False
) -> Exchanged:
    """Read results of other tools and write what this package reads.

    Lists become ``NAME.trec``, with judgements ``NAME.qrels.jsonl`` and, on where they came from, ``NAME.source.json``;
    ``commands`` audit them. Numbers become ``published.csv``. The content of a file says which format it is.
    qrels : judgements in any format of ours, or a run folder. direction : of numbers whose file does not say it.
    """
    files: dict[str, bytes] = {}
    notes, numbers, commands = [], [], []
    for source in sources:
        for one in read_source(source, direction):
            if isinstance(one, Numbers):
                if not one.values:
                    raise ValueError(
                        f"{source.name} has no metric that means the same as one of ours; it has "
                        f"{', '.join(one.left_out[:5]) or 'none at all'}"
                    )
                numbers.append(one)
                continue
            if qrels is not None:
                one = judged_by(one, trec.read_judgements(qrels, one.results))
            made = _lists(one, source)
            if made.keys() & files.keys():
                raise ValueError(f"two of the sources are called {safe_name(one.name)!r}; import them into two folders")
            files |= made
            notes += [f"{one.name}: {note}" for note in one.notes]
            commands.append(_audit(out, made))
    if numbers:
        files[PUBLISHED] = _published(numbers)
        left = {name: None for one in numbers for name in one.left_out}
        notes += [f"{PUBLISHED}: {len(left):,} entries mean nothing of ours: {', '.join(list(left)[:5])}."] * bool(left)
    return Exchanged(_write(out, files, overwrite), tuple(notes), tuple(commands))


def read_source(path: Path, direction: str = "") -> tuple[Answers | Numbers, ...]:
    """Whatever a file of another tool holds: ranked lists, or numbers."""
    require_file(path)
    check_size(path)
    if path.suffix == ".json":
        content = read_json(path)
        if clip_benchmark.is_result(content):
            return (clip_benchmark.read(path, content),)
        if mteb.is_result(content):
            return mteb.read_result(path, content, direction)
        return mteb.read_predictions(path, content)
    if path.suffix == ".jsonl":
        return (sentence_transformers.read_predictions(path),)
    if path.suffix == ".csv" and sentence_transformers.is_results(path):
        return sentence_transformers.read_results(path, direction)
    return (trec.read(path),)


def _lists(answers: Answers, source: Path) -> dict[str, bytes]:
    """The files of one imported system."""
    name, spelling = safe_name(answers.name), trec.spelt(answers)
    changed = sum(plain != written for plain, written in spelling.items())
    about = {
        "schema": SCHEMA, "file": source.name, "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "system": answers.tag, "queries": len(answers.results), "results": sum(map(len, answers.results.values())),
        "judgements": sum(map(len, answers.right.values())), "ids percent-encoded": changed, "notes": answers.notes,
    }  # fmt: skip
    files = {f"{name}.trec": trec.run_bytes(answers, encoded=False), f"{name}.source.json": _json(about)}
    if answers.right:
        plain = not any("%" in one for one in spelling)
        rows = (
            {"query": query if plain else spelling[query], "item": item if plain else spelling[item], "grade": grade}
            for query, item, grade in answers.graded()
        )
        files[f"{name}.qrels.jsonl"] = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()
    return files


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _audit(out: Path, made: Mapping[str, bytes]) -> str:
    words = ["workbench", "report", "audit"]
    for ending, parameter in ((".trec", "dataset=run:"), (".qrels.jsonl", "qrels=")):
        words += [word for name in made if name.endswith(ending) for word in ("-p", f"{parameter}{out / name}")]
    return shlex.join(words)


def _published(numbers: Sequence[Numbers]) -> bytes:
    """One row per system; the directions of one system share it."""
    columns = list(dict.fromkeys(name for one in numbers for name in one.values))
    rows: dict[str, dict[str, Any]] = {}
    for one in numbers:
        row = rows.setdefault(one.system, {"system": one.system, "source": one.source})
        repeated = row.keys() & one.values.keys()
        if repeated:
            raise ValueError(
                f"{one.system!r} has {min(repeated)} twice, from {row['source']} and {one.source}; import one at a time"
            )
        sources = dict.fromkeys([*row["source"].split("; "), one.source])
        row |= {**one.values, "source": "; ".join(sources)}
    text = io.StringIO()
    writer = csv.DictWriter(text, ["system", "source", *columns], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows.values())
    return text.getvalue().encode()


def _write(out: Path, files: Mapping[str, bytes], overwrite: bool) -> tuple[Path, ...]:
    paths = {out / name: content for name, content in files.items()}
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        more = f" and {len(there) - 1} more" * (len(there) > 1)
        raise FileExistsError(f"{there[0]}{more} exists; choose another --out, or pass --overwrite")
    for path, content in paths.items():
        write_atomically(path, content)
    return tuple(paths)
