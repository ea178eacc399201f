"""The JSON that CLIP_benchmark's ``eval`` writes and its ``build`` gathers into a CSV (clip_benchmark 1.6.2).

``{"dataset", "model", "pretrained", "task": "zeroshot_retrieval", "metrics": {...}, "language"}``. Two metrics, whose
names say what is *returned*:

image_retrieval_recall@k = ``t2i/hit@k``: share of captions with a right image in the first k places
text_retrieval_recall@k  = ``i2t/hit@k``: share of images with at least one of their captions in the first k places

Both count any positive, so they are our ``hit@k``, never ``R@k``. A query without a positive counts as a miss there and
is left out here; where a run has one, the definitions differ and nothing is written. Equal scores are broken there as
``torch.topk`` happens to, while our value is the mean over all orders.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.runs.exchange.answers import Numbers, finite_score
from workbench.runs.exchange.names import Renamed, language_of, renamed, system_of
from workbench.runs.formats import safe_name
from workbench.runs.reading import Run

DIRECTIONS = {"t2i": "image_retrieval_recall@", "i2t": "text_retrieval_recall@"}
TASK = "zeroshot_retrieval"
NAMED = ("dataset", "pretrained", "model", "language", "task")


def files(run: Run) -> tuple[dict[str, bytes], list[str]]:
    """File name -> content, and sentences on what was left out. Error: no ``hit@k`` of images and texts."""
    found = {direction: renamed(run, direction, {"hit": DIRECTIONS[direction]}) for direction in DIRECTIONS}
    notes = [note for one in found.values() for note in one.notes]
    metrics = {name: value for direction, one in found.items() for name, value in _same(run, direction, one, notes)}
    if not metrics:
        why = f" ({' '.join(notes)})" if notes else ""
        raise ValueError(
            f"{run.path.name} has no t2i/hit@k or i2t/hit@k that means the same in CLIP_benchmark{why}; evaluate "
            "images and texts with hit@5 among the metrics"
        )
    model, pretrained = system_of(run)
    content = {
        "dataset": run.manifest["card"]["name"], "model": model, "pretrained": pretrained, "task": TASK,
        "metrics": metrics, "language": language_of(run),
    }  # fmt: skip
    name = "_".join(safe_name(content[part]) for part in NAMED if content[part])
    return {f"{name}.json": json.dumps(content, ensure_ascii=False, allow_nan=False).encode()}, notes


def _same(run: Run, direction: str, one: Renamed, notes: list[str]) -> list[tuple[str, float]]:
    """The values, if every query has a positive."""
    asked = sum(of == direction for of in run.per_query["direction"])
    scored = {run.metrics[name]["n"] for name in one.names.values()}
    if scored - {asked}:
        notes.append(
            f"{direction}: {asked - min(scored):,} of {asked:,} queries have no right item; CLIP_benchmark would count "
            "them as misses, so its recall is not written."
        )
        return []
    return list(one.values.items())


def is_result(content: Any) -> bool:
    """Whether a JSON value looks like one of these files."""
    return isinstance(content, Mapping) and {"dataset", "model", "task", "metrics"} <= content.keys()


def read(path: Path, content: Any) -> Numbers:
    """The numbers of a file's JSON value, under our names. Errors: another task or shape, a value that is no number."""
    if not is_result(content) or not isinstance(content["metrics"], Mapping):
        raise ValueError(
            f"{path.name} is no CLIP_benchmark result: an object with dataset, model, task and metrics was expected"
        )
    if content["task"] != TASK:
        raise ValueError(f"{path.name} is of the task {str(content['task'])[:80]!r}; only {TASK} can be read")
    values, left = {}, []
    for name, value in content["metrics"].items():
        match = re.fullmatch(r"(image|text)_retrieval_recall@([1-9]\d{0,8})", name)
        if match is None:
            left.append(name)
            continue
        direction = "t2i" if match[1] == "image" else "i2t"
        values[f"{direction}/hit@{match[2]}"] = finite_score(value, f"{path.name}: {name}")
    system = " ".join(str(content[part]) for part in ("model", "pretrained") if content.get(part))
    return Numbers(system, f"CLIP_benchmark on {content['dataset']}", values, tuple(left))
