"""``beir:FOLDER``: documents, queries and judgements as the BEIR benchmark lays them out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from workbench.datasets.cards import card_of
from workbench.datasets.collection import Collection, Side
from workbench.datasets.qrels import judged_by, match_ids, read_qrels, shortened
from workbench.datasets.tables import metadata_columns, read_rows, require_columns
from workbench.types import Relevance

_LAYOUT = "beir: needs a folder with corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv"


def load_beir(path: Path, *, split: str = "") -> Collection:
    """Documents (the first side) and queries of a BEIR folder.

    ``corpus.jsonl`` has ``_id``, ``text`` and perhaps ``title``; the content of a document is its title, a space and
    its text, as in BEIR's own code. ``queries.jsonl`` has ``_id`` and ``text``. Other fields that are a number or a
    text are kept as columns. ``qrels/SPLIT.tsv`` is read by :func:`~workbench.datasets.qrels.read_qrels`; split ""
    means "test", or the only one there is. Queries that the split does not judge are left out, and counted in
    ``notes``; without any ``qrels`` folder all queries stay and nothing is judged. An empty document stays in the
    gallery with an empty text; an empty query is an error.
    Source: Thakur et al. 2021, BEIR, https://arxiv.org/abs/2104.08663
    """
    documents, asked = _rows(path, "corpus.jsonl"), _rows(path, "queries.jsonl")
    file = _qrels_file(path, split)
    judgements = None if file is None else read_qrels(file)
    notes = [] if judgements else [f"{path.resolve().name} has no qrels folder, so nothing is judged."]
    if judgements:
        judged = set(match_ids(judgements.queries, {str(row["_id"]) for row in asked}).values())
        unjudged = [row for row in asked if str(row["_id"]) not in judged]
        asked = [row for row in asked if str(row["_id"]) in judged] or asked
        if unjudged:
            notes.append(f"{len(unjudged):,} queries are not judged in {judgements.name} and left out.")
    images, texts = _side("document", documents), _side("query", asked)
    _check_queries(texts)
    notes += _oddities(images, texts)
    collection = Collection(
        card_of(path, f"beir {path.resolve().name}"), images, texts,
        Relevance.from_pairs([], [], n_queries=len(texts), n_gallery=len(images)), np.full(len(texts), -1),
        one_way=True, notes=tuple(notes),
    )  # fmt: skip
    return collection if judgements is None else judged_by(collection, judgements)


def _rows(path: Path, name: str) -> list[dict[str, Any]]:
    file = path / name
    if not file.is_file():
        there = sorted(entry.name for entry in path.iterdir())[:8] if path.is_dir() else "no such folder"
        packed = f"; unpack {name}.gz first" if (path / f"{name}.gz").is_file() else ""
        raise FileNotFoundError(f"{file} is missing (found: {there}); {_LAYOUT}{packed}")
    rows = read_rows(file)
    require_columns(rows, ("_id", "text"), name)
    return rows


def _qrels_file(path: Path, split: str) -> Path | None:
    files = {file.stem: file for file in sorted((path / "qrels").glob("*.tsv"))}
    if not files and not split:
        return None
    chosen = split or ("test" if "test" in files else "")
    if not chosen and len(files) == 1:
        return next(iter(files.values()))
    if chosen not in files:
        raise ValueError(f"{path.name}/qrels has no split {split!r} but {list(files)}; choose one with split=NAME")
    return files[chosen]


def _side(modality: str, rows: list[dict[str, Any]]) -> Side:
    used = ("_id", "text")
    opening = "title" if modality == "document" else ""
    content = [f"{row.get(opening) or ''} {row['text']}".strip() for row in rows]
    plain = [{name: value for name, value in row.items() if isinstance(value, str | int | float)} for row in rows]
    return Side(modality, tuple(str(row["_id"]) for row in rows), content, metadata_columns(plain, used))


def _check_queries(queries: Side) -> None:
    empty = [name for name, text in zip(queries.ids, queries.content, strict=True) if not text]
    if empty:
        raise ValueError(f"{len(empty):,} queries have no text, the first are {shortened(empty)}; remove them")


def _oddities(documents: Side, queries: Side) -> list[str]:
    empty = sum(not text for text in documents.content)
    same = len(set(documents.ids) & set(queries.ids))
    said = {
        f"{empty:,} documents have no text; they stay in the gallery as empty texts.": empty,
        f"{same:,} queries share their id with a document; BEIR's own scores leave that document out of the query's "
        "results, these do not.": same,
    }
    return [sentence for sentence, holds in said.items() if holds]
