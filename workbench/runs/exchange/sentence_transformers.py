"""Files of sentence-transformers' InformationRetrievalEvaluator (6.2): predictions as JSON lines, results as CSV.

A line of the predictions is ``{"query_id", "query", "results": [{"corpus_id", "score"}, ...]}``, best first, equal
scores by ascending id; ``text`` beside a result is read over. A run folder has ids, never texts: ``query`` is written
empty. The columns of the CSV begin with the name of the similarity:

Accuracy@k = ``hit@k``   Precision@k = ``P@k``   Recall@k = ``R@k``   MRR@k = ``RR@k``
MAP@k = ``AP(norm=min)@k``   NDCG@k = ``nDCG@k`` where all grades are 0 or 1, which is all that it knows

Values are ours, the mean over all orders of equal scores. Columns of metrics that the run does not have are left out.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.datasets.tables import read_rows
from workbench.runs.exchange.answers import Answers, Numbers, answers_of, check_ids, check_size, collected, finite_score
from workbench.runs.exchange.names import original, renamed
from workbench.runs.reading import Run

PREFIXES = {
    "hit": "Accuracy@", "P": "Precision@", "R": "Recall@", "RR": "MRR@", "nDCG": "NDCG@", "AP(norm=min)": "MAP@",
}  # fmt: skip
STEM = "Information-Retrieval_evaluation"


def files(run: Run) -> tuple[dict[str, bytes], list[str]]:
    """File name -> content, and sentences on what was left out."""
    found: dict[str, bytes] = {}
    notes: list[str] = []
    vectors = run.manifest["encoder"].get("source") != "ranked lists only"
    similarity = run.manifest["parameters"].get("similarity", "cosine") if vectors else "score"
    for answers in answers_of(run):
        found[f"{STEM}_{answers.name}_predictions_{similarity}.jsonl"] = predictions_bytes(answers)
        one = renamed(run, answers.name, _known(answers))
        notes += one.notes
        if one.values:
            names = ["epoch", "steps", *(f"{similarity}-{name}" for name in one.values)]
            table = f"{','.join(names)}\n{','.join(map(str, (-1, -1, *one.values.values())))}\n"
            found[f"{STEM}_{answers.name}_results.csv"] = table.encode()
    return found, notes


def _known(answers: Answers) -> dict[str, str]:
    binary = all(grade <= 0 or grade == 1 for _, _, grade in answers.graded())
    return {ours: theirs for ours, theirs in PREFIXES.items() if binary or ours != "nDCG"}


def predictions_bytes(answers: Answers) -> bytes:
    """One JSON object per query; an empty list stays."""
    rows = (
        {"query_id": query, "query": "", "results": [{"corpus_id": name, "score": at} for name, at in found.items()]}
        for query, found in answers.results.items()
    )
    return "".join(f"{json.dumps(row, allow_nan=False)}\n" for row in rows).encode()


def read_predictions(path: Path) -> Answers:
    """The lists of a file of predictions. Errors name the line: another shape, a query or an item twice, no number."""
    check_size(path)
    lines = [(_query(row, f"{path.name} line {n}"), row, n) for n, row in enumerate(read_rows(path), start=1)]
    repeated, times = Counter(query for query, _, _ in lines).most_common(1)[0] if lines else ("", 1)
    if times > 1:
        raise ValueError(
            f"{path.name}: query {repeated[:80]!r} has two lines; one list per query was expected: keep one"
        )
    check_ids((query for query, _, _ in lines), path.name)
    full = collected(
        (one for query, row, n in lines for one in _results(query, row, f"{path.name} line {n}")), path.name
    )
    if not full:
        raise ValueError(f"{path.name} holds no results: lines with query_id and results were expected")
    stem = path.stem.removeprefix(f"{STEM}_").replace("_predictions", "")
    return Answers(stem, {query: full.get(query, {}) for query, _, _ in lines}, tag=stem)


def _query(row: dict[str, Any], place: str) -> str:
    if not {"query_id", "results"} <= row.keys() or not isinstance(row["results"], list):
        raise ValueError(f"{place} has {sorted(row)[:5]}; an object with query_id and a list of results was expected")
    return _id(row["query_id"], place)


def _results(query: str, row: dict[str, Any], place: str) -> Iterator[tuple[str, str, float]]:
    for result in row["results"]:
        if not isinstance(result, dict) or not {"corpus_id", "score"} <= result.keys():
            raise ValueError(f"{place}: a result is no object with corpus_id and score; got {str(result)[:60]!r}")
        yield query, _id(result["corpus_id"], place), finite_score(result["score"], place)


def _id(value: Any, place: str) -> str:
    """Ids are strings; whole numbers are taken as they are written."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{place} has the id {str(value)[:40]!r}; a string or a whole number was expected")
    return str(value)


def read_results(path: Path, direction: str) -> tuple[Numbers, ...]:
    """The last row of a results CSV, one entry per similarity. direction : such as "t2i"; the file does not say."""
    check_size(path)
    rows = read_rows(path)
    if not rows or not {"epoch", "steps"} <= rows[0].keys():
        raise ValueError(f"{path.name} is no result of sentence-transformers: a CSV with epoch and steps was expected")
    if not direction:
        raise ValueError(f"{path.name} does not say what is asked for what; add --direction t2i or i2t")
    found: dict[str, dict[str, float]] = {}
    left = []
    for column, written in rows[-1].items():
        similarity, _, name = column.partition("-")
        metric = original(name, PREFIXES)
        if metric is None:
            left += [column] if column not in ("epoch", "steps") else []
            continue
        found.setdefault(similarity, {})[f"{direction}/{metric}"] = _number(written, f"{path.name}: {column}")
    stem = path.stem.removeprefix(f"{STEM}_").removesuffix("_results")
    return tuple(
        Numbers(f"{stem} ({one})", f"sentence-transformers {stem}", values, tuple(left))
        for one, values in found.items()
    )


def _number(written: str, place: str) -> float:
    try:
        return finite_score(float(written), place)
    except ValueError:
        return finite_score(written, place)


def is_results(path: Path) -> bool:
    """Whether a CSV begins like one of these."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return next(csv.reader(io.StringIO(file.readline(2**16))), [])[:2] == ["epoch", "steps"]
