"""From a run folder to the evidence that two runs are compared by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workbench.diagnostics.reproducibility import Answers, Certificate, Evidence, Items, Truth, certificate
from workbench.runs.reading import Run
from workbench.runs.schema import inside
from workbench.runs.world import Sides, lists_of, places, sides_of, world_of

INCIDENTAL = ("finished", "seconds", "peak_memory_bytes", "vectors", "hardware.memory_bytes", "parameters.run")
RESTATED = ("schema", "files", "notes", "card.title", "card.notes", "card.expected counts")
PROTOCOL_RESTATED = ("data", "content hash", "relevance", "encoder", "intervals", "repairs", "short lists")
_NO_METRIC = ("direction", "query_id", "cluster_id", "best_place", "n_better", "n_tied")
_DIGEST = frozenset("0123456789abcdef")


def certify(first: Run | str | Path, second: Run | str | Path) -> Certificate:
    """Compare two run folders layer by layer: the declared difference, the first layer that moved, where it dies out.

    first, second : runs or their folders. Angles between vectors need ``keep_embeddings=true`` in both runs; without,
    changed vectors are counted by their digests.
    Raises FileNotFoundError or ValueError for a folder that is no run, or is damaged.

    >>> certify("no-such-folder", "no-such-folder")
    Traceback (most recent call last):
    FileNotFoundError: no-such-folder is no run folder (it has no manifest.json); give one that ...
    """
    runs = [one if isinstance(one, Run) else Run(one) for one in (first, second)]
    return certificate(*(evidence(run) for run in runs))


def evidence(run: Run) -> Evidence:
    """What a run folder declares and holds, ready to be compared.

    Raises FileNotFoundError or ValueError when a file of a layer is missing or does not fit the others. Runs of an
    earlier version without ``layers/relevance.parquet`` or without digests of single vectors are read; these layers are
    then not comparable, or only as a whole.
    """
    parameters, kind = run.manifest["parameters"], _kind(run)
    sides = _sides(run, kind)
    facts = dict(_flat(run.manifest))
    incidental = {
        "folder": run.path.name,
        **{name: value for name, value in facts.items() if _within(name, INCIDENTAL)},
    }
    return Evidence(
        name=run.path.name,
        kind=kind,
        declared={name: value for name, value in facts.items() if _is_declared(name)},
        incidental=incidental,
        sides=sides,
        truth=_truth(run, sides),
        answers=tuple(_answers(run)),
        metrics=run.metrics,
        files=run.manifest.get("files", {}),
        depth=_depth(parameters),
    )


def _depth(parameters: Mapping[str, Any]) -> int:
    """How long the kept lists are at most."""
    stated = {name: parameters.get(name, 0) for name in ("depth", "k")}
    for name, value in stated.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"manifest.json: the parameter {name} is {value!r:.40}; expected a whole number")
    return max(stated.values()) or Evidence.depth


def _kind(run: Run) -> Any:
    source = run.manifest.get("encoder", {}).get("source", "")
    return {"ready-made vectors": "vectors", "ranked lists only": "lists"}.get(source, "encoder")


def _flat(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Nested facts by dotted name; a list is one fact."""
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{above}{key}.")
        else:
            yield f"{above}{key}", tuple(item) if isinstance(item, list) else item


def _within(name: str, names: Sequence[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in names)


def _is_declared(name: str) -> bool:
    """Whether a fact is a choice or a circumstance; results and second tellings are not."""
    restated = [*RESTATED, *(f"protocol.{one}" for one in PROTOCOL_RESTATED)]
    return not _within(name, (*INCIDENTAL, *restated))


def _sides(run: Run, kind: str) -> tuple[Items, Items]:
    """Images (or documents) first. Where only a vector tells items apart, it is no content."""
    found, columns = sides_of(run), run.items
    digests, n = columns.get("vector_digest") or [""] * len(columns["id"]), len(found.images)
    kept = _vectors(run, found)
    sides = []
    for place, (ids, contents) in enumerate(((found.images, found.image_digests), (found.texts, found.text_digests))):
        name, rows = found.modalities[place], slice(n) if place == 0 else slice(n, None)
        about = run.embeddings.get(name, {}) if len(set(found.modalities)) == 2 else {}
        known = kind != "vectors" or about.get("told_apart_by") == "content"
        contents = tuple(one if known and _DIGEST.issuperset(one) else "" for one in contents)
        inputs, own = tuple(columns["input_sha256"][rows]), tuple(digests[rows])
        sides.append(Items(name, ids, contents, inputs, own, kept.get(name), about.get("sha256", "")))
    return sides[0], sides[1]


def _vectors(run: Run, sides: Sides) -> dict[str, np.ndarray]:
    """The vectors of a run that kept them, by modality; none when both sides are of one modality and share the name."""
    path = inside(run.path, "layers/embeddings.safetensors")
    if not path.is_file() or len(set(sides.modalities)) == 1:
        return {}
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        found = dict(load(path.read_bytes()))
    except SafetensorError as error:
        raise ValueError(f"{run.path.name}/layers/{path.name} is damaged ({error}); evaluate again") from error
    sizes = dict(zip(sides.modalities, map(len, (sides.images, sides.texts)), strict=True))
    wrong = [name for name, rows in found.items() if rows.ndim != 2 or len(rows) != sizes.get(name)]
    if wrong:
        raise ValueError(
            f"{run.path.name}/layers/{path.name} holds an array {wrong[0]!r:.40} of shape {found[wrong[0]].shape}; "
            f"expected one row per item, {sizes}; is the file of another run?"
        )
    return found


def _truth(run: Run, sides: tuple[Items, Items]) -> Truth | None:
    if not (run.path / "layers" / "relevance.parquet").is_file():
        return None
    ids = (run.relevance["query_id"], sides[1]), (run.relevance["item_id"], sides[0])
    queries, items = (places(names, side.ids, "layers/relevance.parquet: the id") for names, side in ids)
    return Truth(queries, items, np.asarray(run.relevance["grade"], float))


def _answers(run: Run) -> Iterator[Answers]:
    """Text to image first. Lists out of order, with an item twice or a score that is no number are ValueErrors."""
    found, listed = sides_of(run), not run.embeddings
    metrics = [name for name in run.per_query if name not in _NO_METRIC and ":" not in name]
    for direction in dict.fromkeys(run.per_query["direction"]):
        world = world_of(run, direction, found, listed=listed)
        lists = lists_of(run, world, any_ties=True)
        queries = np.repeat(np.arange(lists.n_queries), lists.depths)
        values = {name: world.values(name) for name in metrics}
        yield Answers(direction, direction == found.forward, queries, lists.items, lists.scores, values)
