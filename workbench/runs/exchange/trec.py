"""TREC runs and judgements, with the ir_metadata header of a run.

A run has six fields per line, ``query Q0 item rank score tag``; judgements four, ``query iteration item grade``. Our
files percent-encode ids, because blanks separate fields, and say so where every reader looks away: the tag of the run
and the second column of the judgements are ``workbench``. Scores have all their digits.

The header follows the schema of Breuer, Keller and Schaer (SIGIR 2022, https://www.ir-metadata.org/): YAML in lines
that begin with ``#``, in the order platform, research goal, implementation, method, data; *actor* is left out, so that
no person is named. trec_eval skips such lines, ir_measures and ranx do not: ``header="beside"`` writes a YAML file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from workbench.datasets.qrels import Judgements, collect, decoded, read_qrels, stream_lines
from workbench.datasets.tables import read_rows
from workbench.datasets.trec import read_run
from workbench.files import scrubbed
from workbench.runs.exchange.answers import Answers, answers_of, collected
from workbench.runs.reading import Run

ENCODED = "workbench"
START, END = "ir_metadata.start", "ir_metadata.end"
HEADER_LINES = 10_000
_FILES = ("dataset", "qrels", "metadata")
_FOLDERS = re.compile(r"(?<![\w.])\.{1,2}[/\\](?:[^:,@/\\]+[/\\])*")
_ENDING = re.compile(r"(\.(trec|run|res|txt|tsv))?(\.gz)?$")
_NEEDS_CODE = re.compile(r"[\t\n\v\f\r ]|^[#\ufeff]")


def files(run: Run, *, header: str = "top") -> tuple[dict[str, bytes], list[str]]:
    """File name -> content of a run as TREC files, and sentences on what these cannot say.

    header : "top" (as comments in the run) or "beside" (``run_t2i.ir_metadata.yaml``).
    """
    found: dict[str, bytes] = {}
    notes: list[str] = []
    for answers in answers_of(run):
        metadata = yaml(ir_metadata(run, answers.name))
        top = f"{START}\n{metadata}{END}\n"
        if header == "top":
            answers = replace(answers, header=tuple(f"# {line}" for line in top.splitlines()))
        else:
            found[f"run_{answers.name}.ir_metadata.yaml"] = metadata.encode()
        found[f"run_{answers.name}.trec"] = run_bytes(answers, encoded=True)
        if answers.right:
            found[f"qrels_{answers.name}.txt"] = qrels_bytes(answers)
        notes += _cannot_say(answers)
    return found, notes


def _cannot_say(answers: Answers) -> Iterator[str]:
    empty = sum(not found for found in answers.results.values())
    if empty:
        yield (
            f"{answers.name}: {empty:,} queries without an answer are in no line of the run; read with the judgements, "
            "the judged ones come back empty."
        )
    if any(not grade.is_integer() for _, _, grade in answers.graded()):
        yield f"{answers.name}: some grades are no whole numbers, which trec_eval and ir_measures refuse."


def run_bytes(answers: Answers, *, encoded: bool) -> bytes:
    """A run file; ids percent-encoded throughout, or as :func:`spelt` has them."""
    names = (name for query, found in answers.results.items() for name in (query, *found))
    spelling = {name: quote(name, safe="") for name in names} if encoded else spelt(answers)
    tag = ENCODED if encoded else quote(answers.tag or "imported", safe="/:@()=,")
    tag = f"{tag}-imported" if tag == ENCODED and not encoded else tag
    lines = [f"{line}\n" for line in answers.header] + [
        f"{spelling[query]} Q0 {spelling[item]} {rank} {score!r} {tag}\n"
        for query, found in answers.results.items()
        for rank, (item, score) in enumerate(found.items(), start=1)
    ]
    return "".join(lines).encode()


def qrels_bytes(answers: Answers) -> bytes:
    """Judgements as a TREC file, ids percent-encoded; whole grades without a decimal point, for ir_measures."""
    lines = (
        f"{quote(query, safe='')} {ENCODED} {quote(item, safe='')} {_shortest(grade)}\n"
        for query, item, grade in answers.graded()
    )
    return "".join(lines).encode()


def _shortest(grade: float) -> str:
    return str(int(grade)) if grade.is_integer() else repr(grade)


def spelt(answers: Answers) -> dict[str, str]:
    """Every id -> how a run file that ``dataset=run:`` reads has it: as it is, or percent-encoded where it must be.

    Ids with blanks are encoded, and then also those with ``%``, so that decoding is never ambiguous.

    >>> spelt(Answers("x", {"q 1": {"50%": 1.0, "d": 0.5}}))
    {'q 1': 'q%201', '50%': '50%25', 'd': 'd'}
    """
    rows = [*answers.rows(), *answers.graded()]
    names = dict.fromkeys(name for query, item, _ in rows for name in (query, item))
    if not any(map(_NEEDS_CODE.search, names)):
        return {name: name for name in names}
    return {name: quote(name, safe="") if "%" in name or _NEEDS_CODE.search(name) else name for name in names}


def read(path: Path) -> Answers:
    """A run from elsewhere, or one of ours; comment lines at its top are kept as the header.

    Errors: those of :func:`workbench.datasets.trec.read_run`; an item that is twice in one list.
    """
    run = read_run(path)
    if run.lint.n_repeated:
        raise ValueError(
            f"{path.name}: {run.lint.n_repeated:,} results in {run.lint.n_lists_with_repeats:,} lists repeat an item; "
            "remove them, or audit the file as it is (dataset=run:FILE keeps the best score and says so)"
        )
    plain = unquote if run.tag == ENCODED else str
    queries, items = [plain(name) for name in run.queries], [plain(name) for name in run.items]
    lists = [run.lists.row(number) for number in range(len(queries))]
    rows = (
        (query, items[item], score)
        for query, (found, scores) in zip(queries, lists, strict=True)
        for item, score in zip(found.tolist(), scores.tolist(), strict=True)
    )
    notes = replace(run.lint, n_comments=0).sentences()
    name = _ENDING.sub("", path.name)
    return Answers(name, collected(rows, path.name), tag=run.tag, header=read_header(path), notes=notes)


def read_header(path: Path) -> tuple[str, ...]:
    """The comment lines at the top of a file, as text; nothing in them is interpreted."""
    kept = []
    for _, line in islice(stream_lines(path), HEADER_LINES):
        if not line.startswith(b"#"):
            break
        kept.append(decoded(line.rstrip(b"\r"), path.name))
    return tuple(kept)


def read_judgements(path: Path, queries: Iterable[str] = ()) -> Judgements:
    """Judgements in any format of :func:`workbench.datasets.qrels.read_qrels`, or a run folder's ``relevance.parquet``.

    queries : those of the lists; when they are the *items* of a ``relevance.parquet``, it is turned round and
    ``warnings`` says so.
    """
    if path.is_dir() and (path / "layers" / "relevance.parquet").is_file():
        path = path / "layers" / "relevance.parquet"
    if path.suffix == ".parquet":
        rows = read_rows(path)
        if rows and {"query_id", "item_id", "grade"} <= rows[0].keys():
            return _relevance(rows, path.name, set(queries))
    judgements = read_qrels(path)
    lines = (line.split() for _, line in stream_lines(path)) if path.suffix != ".parquet" else iter(())
    first = next((fields for fields in lines if fields and not fields[0].startswith(b"#")), [])
    if len(first) != 4 or first[1] != ENCODED.encode():
        return judgements
    triples = zip(judgements.queries, judgements.items, judgements.grades.tolist(), strict=True)
    told = ((number, unquote(q), unquote(item), repr(grade)) for number, (q, item, grade) in enumerate(triples, 1))
    return replace(collect(told, path.name), warnings=judgements.warnings)


def _relevance(rows: list[dict[str, Any]], name: str, queries: set[str]) -> Judgements:
    ends, hits = ("query_id", "item_id"), [sum(row[end] in queries for row in rows) for end in ("query_id", "item_id")]
    turned = hits[1] > hits[0]
    first, second = reversed(ends) if turned else ends
    judged = (
        (number, str(row[first]), str(row[second]), repr(float(row["grade"]))) for number, row in enumerate(rows, 1)
    )
    judgements = collect(judged, name, "row")
    said = f"{name} is read in the other direction: the queries of the lists are its items."
    return replace(judgements, warnings=(*judgements.warnings, *([said] * turned)))


def ir_metadata(run: Run, direction: str) -> dict[str, Any]:
    """The header of a run, from its manifest: no person, no machine's name, no folder."""
    manifest = run.manifest
    hardware, versions, protocol = manifest["hardware"], dict(manifest["versions"]), manifest["protocol"]
    system, _, architecture = str(hardware["system"]).partition(" ")
    python = versions.pop("python", "")
    libraries = [f"{name}=={version}" for name, version in versions.items() if version != "not installed"]
    measures = [name.partition("/")[2] for name in run.metrics if name.startswith(f"{direction}/")]
    encoder, card = manifest["encoder"], manifest["card"]
    return {
        "schema-version": 0.1,
        "run-version": 1.0,
        "tag": ENCODED,
        "platform": {
            "hardware": {
                "cpu": {"architecture": architecture, "number of cores": hardware["cores"]},
                "ram": f"{hardware['memory_bytes'] / 1e9:.0f} GB",
            },
            "operating system": {"kernel": system},
            "software": {
                "libraries": {"python": [f"python=={python}", *libraries]},
                "retrieval toolkit": [f"retrieval-workbench=={manifest['workbench']}"],
            },
        },
        "research goal": {"evaluation": {"reported measures": measures}},
        "implementation": {
            "executable": {"cmd": _command(manifest)},
            "source": {"lang": ["python"], "commit": manifest["git_revision"]},
        },
        "method": {
            "automatic": True,
            "score ties": protocol["ties"],
            "indexing": {"tokenizer": encoder.get("tokenizer", "not stated")},
            "retrieval": [{"name": encoder.get("source", "not stated"), "method": protocol["search"]}],
        },
        "data": {
            "test collection": {
                "name": card["name"], "source": card["source"], "qrels": f"qrels_{direction}.txt",
                "direction": direction, "counts": protocol["data"], "content hash": protocol["content hash"],
            }
        },
    }  # fmt: skip


def _command(manifest: Mapping[str, Any]) -> str:
    """The parameters as they were set; of files the name alone."""
    shown = {name: value for name, value in manifest["parameters"].items() if value not in ("", 0, [])}
    shown |= {name: re.sub(r"[^:,/\\]*[/\\]", "", shown[name]) for name in _FILES if name in shown}
    words = [f"-p {name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in shown.items()]
    return " ".join([f"workbench report {manifest['report']}", *words])


def yaml(content: Any, indent: int = 0) -> str:
    """Nested mappings and lists as YAML; strings are quoted, so nothing in them can be taken for structure.

    >>> print(yaml({"data": {"name": "my: photos", "sizes": [3, 2.5]}}), end="")
    data:
      name: "my: photos"
      sizes:
        - 3
        - 2.5
    """
    pad = "  " * indent
    if isinstance(content, Mapping):
        parts = [
            f"{pad}{key}:\n{yaml(value, indent + 1)}" if isinstance(value, Mapping | list) and value
            else f"{pad}{key}: {_scalar(value)}\n" for key, value in content.items()
        ]  # fmt: skip
        return "".join(parts)
    if isinstance(content, list):
        return "".join(f"{pad}- {yaml(one, indent + 1).lstrip(' ')}" for one in content)
    return f"{pad}{_scalar(content)}\n"


def _scalar(value: Any) -> str:
    text = json.dumps(scrubbed(_FOLDERS.sub("", value)) if isinstance(value, str) else value, ensure_ascii=False)
    return "".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in text)
