"""Many run folders as one table; what cannot be read is a row that says why."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.runs.reading import Run

if TYPE_CHECKING:
    import pandas as pd

_NAMED = re.compile(r".+__.+__[0-9a-f]{8}(-\d+)?(\.partial|\.failed)?")
_ENDINGS = {
    ".partial": "unfinished: a run is still writing it, or was killed",
    ".failed": "failed",
}
_OWN_COLUMN = ("dataset", "encoder", "run")


def table(runs: str | Path | Iterable[str | Path] = "runs/**", *, intervals: bool = False) -> pd.DataFrame:
    """One row per run folder, to compare many runs at once; sorted by path.

    runs : a folder, a pattern such as ``"runs/**"``, or several of these. intervals : also ``t2i/hit@1 low`` and
    ``t2i/hit@1 high``, the ends of the 95 % interval.

    Columns: ``path`` (relative to the working directory when it lies below it, else the last two parts), ``error``,
    ``dataset``, ``encoder``, ``content`` (16 hexadecimal digits; runs with the same one were scored on the same test,
    others must not be compared), every other parameter that differs between the runs, one column per metric (fractions
    0-1, NaN where not measurable), ``problems`` and ``looks`` (findings with these verdicts), ``finished`` (UTC),
    ``seconds``, ``peak_memory_mb`` and ``workbench`` (version).
    A folder that is unfinished, failed, damaged or of another schema is a row with only ``path`` and ``error``; for
    the others ``error`` is empty. FileNotFoundError when there is no run folder at all.

    >>> table("no-such-runs/**")
    Traceback (most recent call last):
    FileNotFoundError: no run folder in 'no-such-runs/**'; give a folder with runs, or a pattern such as 'runs/**'
    """
    import pandas as pd

    given = [runs] if isinstance(runs, str | Path) else list(runs)
    found = sorted({path for one in given for path in _folders(str(one))})
    if not found:
        asked = ", ".join(repr(str(one)) for one in given) or "an empty list"
        raise FileNotFoundError(f"no run folder in {asked}; give a folder with runs, or a pattern such as 'runs/**'")
    read = [_read(path, intervals) for path in found]
    differing = _differing([parameters for _, parameters, _ in read if parameters])
    rows = [
        {**about, **{name: parameters.get(name) for name in differing if parameters}, **values}
        for about, parameters, values in read
    ]
    frame = pd.DataFrame(rows, columns=_columns(read, differing))
    return frame.sort_values("path", kind="stable", ignore_index=True)


def _folders(asked: str) -> Iterator[Path]:
    """Run folders: matches of a pattern; a folder that is one, or those below a folder that is none."""
    if glob.has_magic(asked) and not os.path.isdir(asked):
        for match in glob.iglob(asked, recursive=True):
            path = Path(match)
            if path.name == "manifest.json":
                yield path.parent
            elif _is_run(path):
                yield path
    elif _is_run(Path(asked)):
        yield Path(asked)
    elif os.path.isdir(asked):
        for place, names, _ in os.walk(asked):
            inside = {name for name in names if _is_run(Path(place, name))}
            yield from (Path(place, name) for name in inside)
            names[:] = sorted(set(names) - inside)
    elif os.path.lexists(asked):
        yield Path(asked)


def _is_run(path: Path) -> bool:
    """Named like a run, or holding the manifest of one."""
    named = _NAMED.fullmatch(path.name) or path.name.endswith(tuple(_ENDINGS))
    return bool(path.is_dir() and (named or (path / "manifest.json").is_file()))


Read = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]  # path and error, parameters, values


def _read(path: Path, intervals: bool) -> Read:
    """What the table needs of one folder: manifest, metrics and findings."""
    about = {"path": _shown(path), "error": ""}
    try:
        if path.suffix in _ENDINGS:
            raise ValueError(_why(path))
        run = Run(path)
        return {**about, **_identity(run)}, _plain(run.manifest["parameters"]), _values(run, intervals)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}" if isinstance(error, KeyError | TypeError | AttributeError) else error
        return {**about, "error": str(what)}, {}, {}


def _why(path: Path) -> str:
    """What is known of a folder that did not become a run."""
    try:
        failure = json.loads((path / "failure.json").read_text(encoding="utf-8"))
        return f"failed while {failure['stage']}: {failure['error']}"
    except (OSError, ValueError, KeyError, TypeError):
        return _ENDINGS[path.suffix]


def _identity(run: Run) -> dict[str, Any]:
    manifest = run.manifest
    parameters, protocol = manifest["parameters"], manifest.get("protocol", {})
    return {
        "dataset": parameters["dataset"],
        "encoder": manifest.get("encoder", {}).get("source") or parameters["encoder"],
        "content": protocol.get("content hash", ""),
    }


def _values(run: Run, intervals: bool) -> dict[str, Any]:
    ends = ("low", "high") if intervals else ()
    verdicts = [one.verdict for one in run.findings]
    seconds, memory = run.manifest.get("seconds", {}), run.manifest.get("peak_memory_bytes")
    values: dict[str, Any] = {}
    for name, entry in run.metrics.items():
        values[name] = _number(entry["value"])
        values.update({f"{name} {end}": _number(entry.get(end)) for end in ends})
    return values | {
        "problems": verdicts.count("problem"),
        "looks": verdicts.count("look"),
        "finished": run.manifest.get("finished", ""),
        "seconds": round(sum(seconds.values()), 3),
        "peak_memory_mb": float("nan") if memory is None else round(memory / 1e6, 1),
        "workbench": run.manifest.get("workbench", ""),
    }


_LAST = ("problems", "looks", "finished", "seconds", "peak_memory_mb", "workbench")


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters by name; lists as JSON text, so that a column can be sorted and grouped by."""
    return {
        name: json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
        for name, value in parameters.items()
        if name not in _OWN_COLUMN
    }


def _differing(parameters: list[dict[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for one in parameters for name in one)
    return [name for name in names if len({json.dumps(one.get(name)) for one in parameters}) > 1]


def _columns(read: list[Read], differing: list[str]) -> list[str]:
    metrics = dict.fromkeys(name for _, _, values in read for name in values if name not in _LAST)
    return ["path", "error", "dataset", "encoder", "content", *differing, *metrics, *_LAST]


def _shown(path: Path) -> str:
    """Below the working directory the relative path, elsewhere the last two parts."""
    absolute = Path(os.path.abspath(path))
    here = Path.cwd()
    if absolute.is_relative_to(here):
        return absolute.relative_to(here).as_posix()
    return "/".join((".../" + absolute.parent.name, absolute.name))
