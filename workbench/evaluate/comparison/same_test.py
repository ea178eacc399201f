"""Finished runs brought onto the same queries: refused when they were scored on different tests, named, lined up."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from workbench.files import canonical_json
from workbench.metrics import METRICS, parse_metric
from workbench.runs import Run, read_parquet
from workbench.types import FloatArray

ELSEWHERE = "`workbench report reproducibility` compares runs of different tests layer by layer"
NOT_IDENTITY = {
    "run", "memory_mb", "keep_embeddings", "share", "n_resamples", "depth", "k", "metrics", "slices", "smallest_group",
    "repairs", "bank", "near_duplicate", "methods", "tune", "metadata", "gallery_size",
}  # fmt: skip
NO_MODEL = ("ready-made vectors", "ranked lists only")


@dataclass(frozen=True)
class System:
    """One of the compared runs. label : its name in every table. manifest_sha256 : which run it was, exactly."""

    label: str
    folder: str
    manifest_sha256: str
    content_hash: str
    encoder: str


@dataclass(frozen=True, eq=False)
class Aligned:
    """Several systems on the same queries of one direction.

    ids (n,), clusters (n,), values : metric -> (n_systems, n), NaN for a query without a right item. places
    (n_systems, n) : of the first right result. whole : no query was left out, so metrics.json holds the means.
    """

    direction: str
    ids: tuple[str, ...]
    clusters: np.ndarray
    values: Mapping[str, FloatArray]
    places: FloatArray
    whole: bool


class Evidence:
    """What a run folder says about its test, read once."""

    def __init__(self, run: Run) -> None:
        self.run = run

    @cached_property
    def queries(self) -> dict[str, dict[str, int]]:
        """Direction -> query id -> row of the per-query table."""
        table = self.run.per_query
        found: dict[str, dict[str, int]] = {}
        for row, (direction, query) in enumerate(zip(table["direction"], table["query_id"], strict=True)):
            found.setdefault(direction, {})[query] = row
        return found

    @cached_property
    def relevance(self) -> dict[tuple[str, str], float]:
        table = read_parquet(self.run.path / "layers" / "relevance.parquet")
        pairs = zip(table["query_id"], table["item_id"], strict=True)
        return dict(zip(pairs, map(float, table["grade"]), strict=True))

    @cached_property
    def items(self) -> dict[str, dict[str, str]]:
        """First letter of the modality -> id -> digest of the content; "" where only a vector was known."""
        table, found = read_parquet(self.run.path / "layers" / "items.parquet"), {}
        columns = (table[name] for name in ("modality", "id", "content_sha256", "input_sha256"))
        for modality, name, content, read in zip(*columns, strict=True):
            found.setdefault(modality[0], {})[name] = content if read else ""
        return found

    @property
    def content_hash(self) -> str:
        return str(self.run.manifest.get("card", {}).get("content hash", ""))


def open_runs(paths: Sequence[Any]) -> list[Run]:
    """The run folders, each once; an error for none, for one named twice and for a folder that cannot be compared."""
    if not paths or not all(isinstance(path, str | Path) for path in paths):
        raise ValueError(f"runs must be a list of one or more run folders; got {list(paths)!r}; see `ls runs`")
    if len({Path(path).resolve() for path in paths}) < len(paths):
        raise ValueError("a run folder is named twice; a run compared with itself shows nothing, so name each once")
    runs = [Run(path) for path in paths]
    for run in runs:
        kind = run.manifest.get("report", "audit")
        if not (run.path / "per_query.parquet").is_file() or kind in ("compare", "reproducibility"):
            raise ValueError(
                f"{run.path.name} is a run of the {kind} report without values per query; give runs of "
                "`workbench evaluate`"
            )
    return runs


def differing_tests(first: Evidence, second: Evidence, *, common: bool = False) -> dict[str, list[str]]:
    """Direction -> what tells the two tests apart, in words; empty lists: the same test."""
    one, two = (evidence.run.path.name for evidence in (first, second))
    found: dict[str, list[str]] = {}
    for direction in dict.fromkeys([*first.queries, *second.queries]):
        if direction not in first.queries or direction not in second.queries:
            only = one if direction in first.queries else two
            found[direction] = [f"{direction} is asked in {only} only"]
            continue
        a, b = set(first.queries[direction]), set(second.queries[direction])
        words = [] if common and a & b else _only("queries", a, b, one, two)
        same_hash = first.content_hash and first.content_hash == second.content_hash
        found[direction] = words if same_hash and not words else words + _contents(first, second, direction, a & b)
    return found


def _only(what: str, a: set[str], b: set[str], one: str, two: str) -> list[str]:
    counts = ((len(a - b), one), (len(b - a), two))
    return [f"{count:,} {what} are only in {name}" for count, name in counts if count]


def _contents(first: Evidence, second: Evidence, direction: str, shared: set[str]) -> list[str]:
    asks, _, answers = direction.partition("2")
    one, two = (evidence.run.path.name for evidence in (first, second))
    galleries = [evidence.items.get(answers, {}) for evidence in (first, second)]
    words = _only("items of the gallery", set(galleries[0]), set(galleries[1]), one, two)
    truths = [_judged(evidence, direction, shared) for evidence in (first, second)]
    judged = sum(truths[0].get(pair) != truths[1].get(pair) for pair in truths[0].keys() | truths[1].keys())
    words += [f"{judged:,} judgements differ"] if judged else []
    for side, ids in ((answers, galleries[0].keys() & galleries[1].keys()), (asks, shared)):
        mine, yours = first.items.get(side, {}), second.items.get(side, {})
        changed = sum(1 for name in ids if mine.get(name) and yours.get(name) and mine[name] != yours[name])
        words += [f"{changed:,} items of the same id have another content"] if changed else []
    return words


def _judged(evidence: Evidence, direction: str, shared: set[str]) -> dict[tuple[str, str], float]:
    """The judged pairs of some queries; the stored table is in the run's first direction."""
    forward = direction == next(iter(evidence.queries))
    return {pair: grade for pair, grade in evidence.relevance.items() if pair[0 if forward else 1] in shared}


def aligned(runs: Sequence[Run], metrics: Sequence[str], *, common: bool = False) -> tuple[list[Aligned], list[str]]:
    """The runs on the same queries, direction by direction, and notes on what was left out.

    ValueError names what differs between runs that were not scored on the same test. common : compare on the queries
    that all runs have, in the directions whose gallery and judgements agree.
    """
    known = [Evidence(run) for run in runs]
    apart = [differing_tests(known[0], other, common=common) for other in known[1:]]
    left_out = {name: words for found in apart for name, words in found.items() if words}
    directions = [name for name in known[0].queries if name not in left_out]
    if left_out and (not common or not directions):
        raise ValueError(_refusal(runs, apart, common=common))
    notes = [f"{name} is left out: {'; '.join(words)}." for name, words in left_out.items()]
    asked = [str(parse_metric(name)) for name in metrics] or shared_metrics(runs)
    found = [_lined_up(known, name, asked) for name in directions]
    for one in found:
        notes += [] if one.whole else [f"{one.direction}: only the {len(one.ids):,} queries that all runs have."]
    return found, notes


def _refusal(runs: Sequence[Run], apart: Sequence[Mapping[str, Sequence[str]]], *, common: bool) -> str:
    which, words = next(
        (run.path.name, [f"{name}: {'; '.join(said)}" for name, said in found.items() if said])
        for run, found in zip(runs[1:], apart, strict=True) if any(found.values())
    )  # fmt: skip
    hint = "" if common else "; common=true compares on the queries they share, where the gallery is the same"
    return (
        f"{runs[0].path.name} and {which} were not scored on the same test, so their numbers cannot be paired "
        f"({'. '.join(words)}). {ELSEWHERE}{hint}"
    )


def shared_metrics(runs: Sequence[Run]) -> list[str]:
    """The headline metrics that all runs have: hit@1, hit@10 and MRR, or else the first three."""
    mine = [name for name in _measured(runs[0]) if METRICS[parse_metric(name).name].aggregator == "mean"]
    shared = [name for name in mine if all(name in _measured(run) for run in runs[1:])]
    if not shared:
        raise ValueError("the runs have no metric in common; evaluate them again with the same metrics=")
    return [name for name in ("hit@1", "hit@10", "MRR") if name in shared] or shared[:3]


def _measured(run: Run) -> list[str]:
    """The metrics that a run holds query by query; metrics.json also names those that could not be measured."""
    names = dict.fromkeys(name.partition("/")[2] for name in run.metrics)
    return [name for name in names if name in run.per_query]


def _lined_up(known: Sequence[Evidence], direction: str, metrics: Sequence[str]) -> Aligned:
    rows = [evidence.queries[direction] for evidence in known]
    ids = tuple(name for name in rows[0] if all(name in other for other in rows[1:]))
    if not ids:
        raise ValueError(f"no {direction} query is in all of the {len(known)} runs; compare fewer of them. {ELSEWHERE}")
    places = [np.array([row[name] for name in ids]) for row in rows]
    clusters = [_column(evidence, "cluster_id", where) for evidence, where in zip(known, places, strict=True)]
    for evidence, other in zip(known[1:], clusters[1:], strict=True):
        if len(set(zip(clusters[0], other, strict=True))) != len(set(clusters[0])) or len(set(other)) != len(
            set(clusters[0])
        ):
            raise ValueError(f"{evidence.run.path.name} groups the {direction} queries by other images; {ELSEWHERE}")
    pairs = list(zip(known, places, strict=True))
    values = {name: np.stack([_metric(each, direction, name, where) for each, where in pairs]) for name in metrics}
    best = np.stack([_column(evidence, "best_place", where) for evidence, where in pairs])
    whole = all(len(ids) == len(other) for other in rows)
    return Aligned(direction, ids, clusters[0], values, best.astype(np.float64), whole)


def _column(evidence: Evidence, name: str, where: np.ndarray) -> np.ndarray:
    return np.asarray(evidence.run.per_query[name])[where]


def _metric(evidence: Evidence, direction: str, name: str, where: np.ndarray) -> FloatArray:
    metric = parse_metric(name)
    if METRICS[metric.name].aggregator != "mean":
        raise ValueError(f"{name} is a median, which has no paired difference of means; ask for MeanR or MRR instead")
    if name not in evidence.run.per_query:
        raise ValueError(
            f"{evidence.run.path.name} has no {direction}/{name}; it has {', '.join(_measured(evidence.run))}; "
            "choose among these, or evaluate it again with metrics="
        )
    return _column(evidence, name, where).astype(np.float64)


def fields(run: Run) -> dict[str, Any]:
    """Every plain value of the manifest by its dotted name, such as ``parameters.precision`` and ``encoder.dim``.

    Digests of files, timings and the machine are left out.
    """
    out: dict[str, Any] = {}
    for part in ("parameters", "encoder", "card", "versions", "workbench", "git_revision"):
        _flatten(part, run.manifest.get(part), out)
    return out


def _flatten(name: str, value: Any, out: dict[str, Any]) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _flatten(f"{name}.{key}", inner, out)
    elif isinstance(value, list):
        out[name] = canonical_json(value).decode()
    elif value is not None:
        out[name] = value


def identity(run: Run) -> dict[str, Any]:
    """The fields that say which system was measured: parameters and encoder, without bookkeeping and digests."""
    return {
        name: value for name, value in fields(run).items()
        if name.startswith(("parameters.", "encoder."))
        and name.split(".", 1)[1] not in NOT_IDENTITY and "sha256" not in name
    }  # fmt: skip


def systems(runs: Sequence[Run]) -> tuple[System, ...]:
    """The runs with a short name each: the encoder's, with the fields that tell equal names apart."""
    plain = [_plain_name(run) for run in runs]
    known = [identity(run) for run in runs]
    labels = [_told_apart(number, plain, known) for number in range(len(runs))]
    counted = [f"{label} #{labels[:n].count(label) + 1}" if labels.count(label) > 1 else label
               for n, label in enumerate(labels)]  # fmt: skip
    return tuple(
        System(label, run.path.resolve().name, manifest_digest(run), Evidence(run).content_hash, name)
        for label, run, name in zip(counted, runs, plain, strict=True)
    )


def manifest_digest(run: Run) -> str:
    return hashlib.sha256((run.path / "manifest.json").read_bytes()).hexdigest()


def _plain_name(run: Run) -> str:
    about = run.manifest.get("encoder", {})
    source = str(about.get("source", ""))
    given = str(run.manifest["card"]["name"] if source in NO_MODEL or not source else about.get("name", source))
    return re.sub(r"^open_clip:(local-dir:|hf-hub:)?", "", given)


def _told_apart(number: int, names: Sequence[str], known: Sequence[Mapping[str, Any]]) -> str:
    """The name of a run, with as many of its fields as its namesakes need."""
    rivals = [other for other, name in enumerate(names) if name == names[number] and other != number]
    words = []
    for field in known[number]:
        if not rivals:
            break
        differing = [other for other in rivals if known[other].get(field) != known[number][field]]
        if differing:
            name, value = field.rpartition(".")[2], known[number][field]
            words.append(f"no {name}" if value == "" else f"{name}={value}")
            rivals = [other for other in rivals if other not in differing]
    return ", ".join([names[number], *words])


def baseline_of(systems: Sequence[System], name: str) -> int:
    """The place of the run that a baseline names: by label or by folder; empty: the first."""
    if not name:
        return 0
    name = Path(name).name if Path(name).name in {one.folder for one in systems} else name
    found = [place for place, one in enumerate(systems) if name in (one.label, one.folder, one.encoder)]
    if len(found) != 1:
        known = ", ".join(repr(one.label) for one in systems)
        raise ValueError(f"baseline={name!r} names {len(found)} of the runs; give one of {known}, or a folder name")
    return found[0]
