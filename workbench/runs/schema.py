"""What the files of a run folder must look like: keys, types and columns, checked whenever one is read.

Every check names the file, what came and what was expected. A folder may come from a stranger: nothing here opens a
file outside of it, and nothing in it is ever executed.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from workbench.types import VERDICTS

SCORED = ("audit", "hubness", "reproducibility")
"""Reports whose metrics are means over their own per-query values."""
SLACK = 1e-9
_SHA256 = re.compile(r"[0-9a-f]{64}")

_MANIFEST: Mapping[str, type | tuple[type, ...]] = {"parameters": dict, "card": dict}
_MANIFEST_IF_THERE: Mapping[str, type | tuple[type, ...]] = {
    "workbench": str, "git_revision": str, "report": str, "files": dict, "encoder": dict, "protocol": dict,
    "notes": list, "vectors": dict, "versions": dict, "hardware": dict, "finished": str, "seconds": dict,
    "peak_memory_bytes": (int, float),
}  # fmt: skip
_FINDING: Mapping[str, type | tuple[type, ...]] = {
    "name": str, "verdict": str, "value": (int, float, type(None)), "interval": (list, type(None)),
    "threshold": (int, float, type(None)), "threshold_source": str, "advice": str,
}  # fmt: skip
_WORDS = {dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number", type(None): "null"}

TEXT, NUMBER, WHOLE, BYTES = "text", "number", "whole number", "bytes"
TABLES: Mapping[str, Mapping[str, str]] = {
    "per_query.parquet": {"direction": TEXT, "query_id": TEXT, "cluster_id": WHOLE},
    "layers/items.parquet": {"modality": TEXT, "id": TEXT, "content_sha256": TEXT, "input_sha256": TEXT},
    "layers/relevance.parquet": {"query_id": TEXT, "item_id": TEXT, "grade": NUMBER},
    "layers/neighbours_*.parquet": {"query_id": TEXT, "item_id": TEXT, "rank": WHOLE, "score": NUMBER},
    "thumbnails.parquet": {"id": TEXT, "picture": BYTES},
}
TABLES_IF_THERE: Mapping[str, Mapping[str, str]] = {"layers/items.parquet": {"vector_digest": TEXT}}
PER_QUERY_OF_SCORED = {"best_place": NUMBER, "n_better": WHOLE, "n_tied": WHOLE}


def inside(folder: Path, name: str) -> Path:
    """The path of a file of a folder; ValueError when the name or a link in the folder leads out of it.

    >>> inside(Path("runs/one"), "../two/metrics.json")
    Traceback (most recent call last):
    ValueError: one/../two/metrics.json lies outside of the run folder ...
    """
    path, root = folder / name, os.path.realpath(folder)
    if not os.path.realpath(path).startswith(os.path.join(root, "")):
        raise ValueError(
            f"{folder.name}/{name} lies outside of the run folder (a link, or a name with '..'), and nothing outside "
            "is read; take a folder that holds its own files"
        )
    return path


def plain_files(folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Plain files by their name in the folder, and what is none, with why. No link is followed."""
    files: dict[str, Path] = {}
    odd: dict[str, str] = {}
    todo = [folder]
    while todo:
        for entry in sorted(os.scandir(todo.pop()), key=lambda entry: entry.name):
            path = Path(entry.path)
            name = path.relative_to(folder).as_posix()
            if entry.is_symlink():
                odd[name] = "is a link, which no run writes; it is not followed"
            elif entry.is_dir(follow_symlinks=False):
                todo.append(path)
            elif entry.is_file(follow_symlinks=False):
                files[name] = path
            else:
                odd[name] = "is neither a file nor a folder"
    return files, odd


def stays_inside(name: str) -> bool:
    """Whether a name stays in the folder, on every system.

    >>> [stays_inside(name) for name in ("layers/items.parquet", "../x", "/etc/passwd", "C:\\\\x", "a/../../b", "")]
    [True, False, False, False, False, False]
    """
    parts = PurePosixPath(name).parts
    return bool(name) and not name.startswith("/") and ".." not in parts and not set(name) & set("\\:\0")


def parse_json(text: str) -> Any:
    """Strict JSON: NaN, Infinity and nesting beyond all reason are ValueErrors.

    >>> parse_json('{"value": NaN}')
    Traceback (most recent call last):
    ValueError: NaN is no JSON number
    """
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def check_manifest(content: Mapping[str, Any], shown: str) -> None:
    """Keys and types of manifest.json; ``shown`` names the file in errors."""
    if all(name not in content for name in _MANIFEST):
        raise ValueError(f"{shown} lacks 'parameters' or 'card', so it is not whole; evaluate again")
    _check_keys(content, _MANIFEST, shown)
    _check_keys(content, {name: kind for name, kind in _MANIFEST_IF_THERE.items() if name in content}, shown)
    for name, digest in content.get("files", {}).items():
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise ValueError(f"{shown}: files[{name!r}] is {digest!r:.80}; expected a SHA-256, 64 hexadecimal digits")


def check_metrics(content: Mapping[str, Any], shown: str, *, report: str) -> None:
    """Entries of metrics.json: finite numbers or null, low <= value <= high, whole n and clusters.

    >>> entry = {"value": 0.5, "low": 0.6, "high": 0.7, "n": 2, "clusters": 2}
    >>> check_metrics({"t2i/hit@1": entry}, "m", report="audit")
    Traceback (most recent call last):
    ValueError: m: t2i/hit@1 has value 0.5 outside of low 0.6 .. high 0.7; expected low <= value <= high
    """
    required = ("value", "low", "high", "n", "clusters") if report in SCORED else ("value",)
    for name, entry in content.items():
        if name == "schema":
            continue
        if not isinstance(entry, dict):
            raise ValueError(f"{shown}: {name} is {entry!r:.60}; expected an object with {', '.join(required)}")
        missing = [key for key in required if key not in entry]
        if missing:
            raise ValueError(f"{shown}: {name} lacks {', '.join(missing)}; expected {', '.join(required)}")
        for key, value in entry.items():
            _check_number(value, f"{shown}: {name} has {key}", whole=key in ("n", "clusters"))
        _check_order(entry, f"{shown}: {name}", report)


def _check_number(value: Any, what: str, *, whole: bool) -> None:
    if whole:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{what} = {value!r:.60}; expected a whole number from 0")
    elif value is not None and (isinstance(value, bool | str) or not _finite(value)):
        raise ValueError(f"{what} = {value!r:.60}; expected a finite number or null")


def _finite(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:
        return False


def _check_order(entry: Mapping[str, Any], what: str, report: str) -> None:
    value, low, high = (entry.get(key) for key in ("value", "low", "high"))
    if report not in SCORED or value is None:
        return
    slack = SLACK * max(1.0, abs(value))
    if (low is not None and low > value + slack) or (high is not None and high < value - slack):
        raise ValueError(f"{what} has value {value} outside of low {low} .. high {high}; expected low <= value <= high")


def check_findings(content: Mapping[str, Any], shown: str) -> None:
    """The list of findings: names, verdicts, finite numbers and intervals of two."""
    found = content.get("findings")
    if not isinstance(found, list):
        raise ValueError(f"{shown} is damaged ('findings' is {_word(found)}; expected a list); evaluate again")
    for place, entry in enumerate(found):
        where = f"{shown}: finding {place}"
        if not isinstance(entry, dict):
            raise ValueError(f"{where} is {entry!r:.60}; expected an object")
        _check_keys(entry, _FINDING, where)
        if entry["verdict"] not in VERDICTS:
            raise ValueError(f"{where} has the verdict {entry['verdict']!r:.60}; expected one of {', '.join(VERDICTS)}")
        interval = entry["interval"]
        if interval is not None and len(interval) != 2:
            raise ValueError(f"{where} has the interval {interval!r:.60}; expected two numbers or null")
        for value in (entry["value"], entry["threshold"], *(interval or ())):
            _check_number(value, f"{where} has a number", whole=False)


def check_embeddings(content: Mapping[str, Any], shown: str) -> None:
    """Digest, sizes and type of each side's vectors in layers/embeddings.json."""
    for name, entry in content.items():
        if name not in ("schema", "encoder"):
            if not isinstance(entry, dict):
                raise ValueError(f"{shown}: {name!r} is {_word(entry)}; expected an object")
            _check_keys(entry, {"sha256": str, "n": int, "dim": int, "dtype": str}, f"{shown}: {name}")


def _check_keys(content: Mapping[str, Any], expected: Mapping[str, Any], shown: str) -> None:
    for name, kind in expected.items():
        kinds = kind if isinstance(kind, tuple) else (kind,)
        words = " or ".join(dict.fromkeys(_WORDS[one] for one in kinds))
        if name not in content:
            raise ValueError(f"{shown} lacks {name!r} ({words}), so it is not whole; evaluate again")
        if not isinstance(content[name], kinds) or isinstance(content[name], bool):
            raise ValueError(f"{shown}: {name!r} is {_word(content[name])}; expected {words}")


def _word(value: Any) -> str:
    return f"{value!r:.40}" if isinstance(value, bool) else _WORDS.get(type(value), type(value).__name__)


def check_columns(columns: Any, name: str, shown: str, *, report: str) -> None:
    """Columns of a table and their types. columns : a pyarrow schema. name : a key of :data:`TABLES`."""
    wanted = dict(TABLES.get(name, {}))
    if name == "per_query.parquet" and report in SCORED:
        wanted |= PER_QUERY_OF_SCORED
    twice = {one for one in columns.names if columns.names.count(one) > 1}
    if twice:
        raise ValueError(f"{shown} has the column {min(twice)!r} twice; expected every name once")
    missing = [one for one in wanted if one not in columns.names]
    if missing:
        raise ValueError(
            f"{shown} lacks the column {missing[0]!r}; it has {', '.join(columns.names)[:200] or 'none'}, expected are "
            f"{', '.join(wanted)}"
        )
    wanted |= {one: kind for one, kind in TABLES_IF_THERE.get(name, {}).items() if one in columns.names}
    for one, kind in wanted.items():
        if not _IS[kind](columns.field(one).type):
            raise ValueError(f"{shown}: the column {one!r} holds {columns.field(one).type}; expected {kind}")


def check_texts(columns: Mapping[str, Any], name: str, shown: str) -> None:
    """Columns of text have a text in every row."""
    for one, kind in {**TABLES.get(name, {}), **TABLES_IF_THERE.get(name, {})}.items():
        values = columns.get(one, []) if kind == TEXT else []
        if None in values:
            raise ValueError(f"{shown}: the column {one!r} has nothing in row {values.index(None)}; expected a text")


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind))


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_floating(kind) or types.is_integer(kind) or types.is_null(kind))


def _is_whole(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind))


def _is_bytes(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


_IS: Mapping[str, Callable[[Any], bool]] = {TEXT: _is_text, NUMBER: _is_number, WHOLE: _is_whole, BYTES: _is_bytes}
