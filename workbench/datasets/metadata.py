"""Columns from a table beside the data: language, category, year, ... of queries or items, joined by id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from workbench.datasets.collection import Collection, Side
from workbench.datasets.tables import metadata_columns, read_rows, require_columns


def described_by(collection: Collection, path: Path) -> Collection:
    """The collection with the columns of a table (.csv, .jsonl, .parquet) added to the side whose ids its rows name.

    The table has a column ``id`` and any others; a row may name a query or an item. Items without a row get "".
    Errors: ids that the collection does not have, an id twice, a column that is there already. Where items could not
    be read, an unknown id may be one of them or one of their texts: such rows are counted in the notes instead.
    """
    rows = read_rows(path)
    require_columns(rows, ("id",), path.name)
    ids = [str(row["id"]) for row in rows]
    if len(set(ids)) != len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise ValueError(f"{path.name} has two rows with the id {twice!r}; give each query or item one row")
    sides = (collection.images, collection.texts)
    known = {name for side in sides for name in side.ids}
    unknown = [name for name in ids if name not in known]
    if unknown and not (collection.bad and len(unknown) < len(ids)):
        shown = ", ".join(f"{side.modality}: {side.ids[0]!r}" for side in sides if len(side))
        raise ValueError(
            f"{path.name}: {len(unknown)} of {len(ids)} ids are in neither side of the data, the first are "
            f"{unknown[:3]}; ids there look like {shown}"
        )
    by_id = dict(zip(ids, rows, strict=True))
    images, texts = (_with_columns(side, by_id, path.name) for side in sides)
    left = f"{len(unknown)} of {len(ids)} rows of {path.name} name items that are not there, as some were not readable."
    notes = (*collection.notes, left) if unknown else collection.notes
    return replace(collection, images=images, texts=texts, notes=notes)


def _with_columns(side: Side, by_id: Mapping[str, Mapping[str, Any]], name: str) -> Side:
    if not any(one in by_id for one in side.ids):
        return side
    named: Sequence[Mapping[str, Any]] = [by_id.get(one, {}) for one in side.ids]
    added: dict[str, np.ndarray] = metadata_columns(named, ("id",))
    clash = sorted(set(added) & set(side.columns))
    if clash:
        raise ValueError(f"{name}: the column {clash[0]!r} of the {side.modality} side exists already; rename it")
    return replace(side, columns={**side.columns, **added})
