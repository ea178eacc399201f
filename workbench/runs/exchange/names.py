"""Which metric of another tool means the same as one of ours, and what a run calls its system and language."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from workbench.runs.reading import Run

SEVERAL, UNSTATED = "multilingual", "unstated"


@dataclass(frozen=True)
class Renamed:
    """values : under the other tool's names, as far as both mean the same. names : their name -> direction/ours."""

    values: Mapping[str, float]
    names: Mapping[str, str]
    notes: tuple[str, ...]


def renamed(run: Run, direction: str, prefixes: Mapping[str, str]) -> Renamed:
    """The metrics ``NAME@k`` of one direction under other names. prefixes : ours (without @k) -> theirs (before k)."""
    values, names, tied, missing = {}, {}, [], []
    for full, entry in run.metrics.items():
        of, _, metric = full.partition("/")
        base, at, k = metric.rpartition("@")
        if of != direction or not at or base not in prefixes:
            continue
        if entry["value"] is None:
            missing.append(full)
            continue
        values[f"{prefixes[base]}{k}"], names[f"{prefixes[base]}{k}"] = entry["value"], full
        if entry["worst"] != entry["best"] and abs(entry["worst"] - entry["best"]) > 1e-12:
            tied.append(f"{full} {entry['worst']:.4g} to {entry['best']:.4g}")
    said = {
        "Equal scores touch a right item; written is the mean over all orders, another tool may give anything in": tied,
        "Not measurable in this run, so not written:": missing,
    }
    return Renamed(values, names, tuple(f"{text} {', '.join(which)}." for text, which in said.items() if which))


def original(name: str, prefixes: Mapping[str, str]) -> str | None:
    """Our name of another tool's metric, None where there is none.

    >>> original("hit_rate_at_10", {"hit": "hit_rate_at_"})
    'hit@10'
    """
    for ours, theirs in prefixes.items():
        if match := re.fullmatch(rf"{re.escape(theirs)}([1-9]\d{{0,8}})", name):
            return f"{ours}@{match[1]}"
    return None


def system_of(run: Run) -> tuple[str, str]:
    """(model, checkpoint): ``open_clip:ARCH@TAG`` is cut at the last @, other encoders have no second part."""
    source = str(run.manifest.get("encoder", {}).get("source") or "unstated")
    kind, _, rest = source.partition(":")
    model, at, tag = rest.rpartition("@")
    return (model, tag) if kind == "open_clip" and at else (source, "")


def language_of(run: Run) -> str:
    """The language that the texts state: one, "multilingual", or "unstated"."""
    stated = {str(one) for one in run.per_query.get("text:language", ()) if one not in (None, "")}
    return stated.pop() if len(stated) == 1 else SEVERAL if stated else UNSTATED
