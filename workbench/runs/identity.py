"""What a run is a run of: the hash of its content and the digits in its name, from what the folder keeps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.files import canonical_hash
from workbench.runs.world import Sides, places

if TYPE_CHECKING:
    from workbench.runs.reading import Run


class NotChecked(Exception):
    """Why a check could not be made."""


def content_hash(run: Run, sides: Sides, *, listed: bool) -> str:
    """The hash of ids, digests and judgements, and of the lists where only lists are known.

    NotChecked where the folder does not keep all of it.
    """
    judged, shown = run.relevance, "layers/relevance.parquet"
    queries = places(judged["query_id"], sides.texts, f"{shown}: the query_id").tolist()
    items = places(judged["item_id"], sides.images, f"{shown}: the item_id").tolist()
    images = list(zip(sides.images, sides.image_digests, strict=True))
    texts = list(zip(sides.texts, sides.text_digests, strict=True))
    grades = np.asarray(judged["grade"], np.float64).tolist()
    return canonical_hash([images, texts, queries, items, grades, *(_lists(run, sides) if listed else ())])


def _lists(run: Run, sides: Sides) -> list[list[Any]]:
    columns, depth = run.neighbours(sides.forward), run.manifest["parameters"].get("depth", 0)
    shown = f"layers/neighbours_{sides.forward}.parquet"
    queries = places(columns["query_id"], sides.texts, f"{shown}: the query_id")
    items = places(columns["item_id"], sides.images, f"{shown}: the item_id")
    depths = np.bincount(queries, minlength=len(sides.texts))
    if (depths >= depth).any():
        raise NotChecked(f"the lists were kept to depth {depth}, and the hash is of the whole lists")
    return [depths.tolist(), items.tolist(), list(map(float, columns["score"]))]


def name_digits(run: Run, sides: Sides) -> str:
    """The eight digits of the folder's name, from parameters, content hash, encoder and metadata columns."""
    from workbench.evaluate import completed
    from workbench.evaluate.writing import NOT_HASHED

    parameters = completed(run.manifest["parameters"])
    hashed = {name: value for name, value in parameters.items() if name not in NOT_HASHED}
    content, about = run.manifest["card"].get("content hash"), run.manifest.get("encoder", {})
    return canonical_hash([hashed, content, about, *_columns(run, sides)])[:8]


def not_in_the_folder(run: Run, sides: Sides) -> str:
    """What the name covers and the folder may lack, in words; empty when it has all."""
    import workbench
    from workbench.evaluate import completed

    if set(completed(run.manifest["parameters"])) != set(run.manifest["parameters"]) and (
        run.manifest.get("workbench") != workbench.__version__
    ):
        return f"the defaults of workbench {run.manifest.get('workbench')} for parameters this report does not have"
    if len(set(run.per_query["direction"])) < 2 or sides.modalities[0] == sides.modalities[1]:
        return "metadata columns of what is only searched, never asks"
    return ""


def _columns(run: Run, sides: Sides) -> Iterator[list[Any]]:
    """Metadata columns, the searched side first, with the values of its items as they stand in per_query.parquet."""
    table = run.per_query
    directions = np.asarray(table["direction"], dtype=object)
    for modality, direction in zip(sides.modalities, (sides.forward[::-1], sides.forward), strict=True):
        rows = np.flatnonzero(directions == direction)
        for column in sorted(name for name in table if name.startswith(f"{modality}:")):
            values = [table[column][row] for row in rows]
            if values:
                yield [modality, column.removeprefix(f"{modality}:"), values]
