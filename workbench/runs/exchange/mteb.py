"""mteb's two files: the aggregate ``TASK.json`` (TaskResult) and ``TASK_predictions.json`` (mteb 2.26).

Predictions are ``{"mteb_model_meta": {...}, SUBSET: {SPLIT: {query: {item: score}}}}``; files that lack one or both of
the outer levels are read too. A task has one direction, so a run becomes two tasks.

ndcg_at_k = ``nDCG@k``     map_at_k = ``AP@k``        recall_at_k = ``R@k``  (fraction of the positives)
precision_at_k = ``P@k``   mrr_at_k = ``RR@k``        hit_rate_at_k = ``hit@k``  (any positive: CLIP papers' R@k)

All are those of trec_eval. mteb breaks equal scores by descending id, our value is the mean over all orders. mteb
leaves out queries without a list, here they score 0. ``model_meta.json`` names the system for both directions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workbench.datasets.tables import read_json
from workbench.runs.exchange.answers import Answers, Numbers, answers_of, check_size, collected, finite_score
from workbench.runs.exchange.names import Renamed, language_of, original, renamed, system_of
from workbench.runs.formats import safe_name
from workbench.runs.reading import Run

PREFIXES = {
    "nDCG": "ndcg_at_", "AP": "map_at_", "R": "recall_at_", "P": "precision_at_", "RR": "mrr_at_",
    "hit": "hit_rate_at_",
}  # fmt: skip
MAIN, META, SUBSET, DEEPEST = "ndcg_at_10", "mteb_model_meta", "default", 4
LANGUAGES = {
    "ar": "ara-Arab", "de": "deu-Latn", "en": "eng-Latn", "es": "spa-Latn", "fr": "fra-Latn", "hi": "hin-Deva",
    "it": "ita-Latn", "ja": "jpn-Jpan", "ko": "kor-Hang", "nl": "nld-Latn", "pl": "pol-Latn", "pt": "por-Latn",
    "ru": "rus-Cyrl", "tr": "tur-Latn", "zh": "zho-Hans",
}  # fmt: skip
_DIRECTION = re.compile(r"(?<![A-Z])([A-Z])2([A-Z])Retrieval$")


def files(run: Run) -> tuple[dict[str, bytes], list[str]]:
    """File name -> content, and sentences on what was left out."""
    found: dict[str, bytes] = {}
    notes: list[str] = []
    split = run.manifest["parameters"].get("split") or "test"
    model, revision = system_of(run)
    revision = revision or str(run.manifest["encoder"].get("weights_sha256") or "unstated")
    about = {"model_name": model, "revision": revision}
    folder = f"results/{safe_name(model.replace('/', '__'))}/{safe_name(revision)}"
    for answers in answers_of(run):
        task = f"{safe_name(run.manifest['card']['name'])}{answers.name.upper()}Retrieval"
        lists = {META: about, SUBSET: {split: answers.results}}
        found[f"predictions/{task}_predictions.json"] = _json(lists)
        one = renamed(run, answers.name, PREFIXES)
        notes += one.notes
        if MAIN in one.values:
            found[f"{folder}/{task}.json"] = _json(_task_result(run, task, split, one))
            found[f"{folder}/model_meta.json"] = _json(_model_meta(run, model, revision))
        else:
            notes.append(f"{answers.name}: no {task}.json, which needs nDCG@10: evaluate with it among the metrics.")
    return found, notes


def _json(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False).encode()


def _task_result(run: Run, task: str, split: str, one: Renamed) -> dict[str, Any]:
    """What mteb's TaskResult holds; it was not computed by mteb, so there is no mteb_version."""
    accuracy = {"accuracy": one.values["recall_at_1"]} if "recall_at_1" in one.values else {}
    languages = [LANGUAGES.get(language_of(run), "und-Zyyy")]
    scores = {**one.values, **accuracy, "main_score": one.values[MAIN], "hf_subset": SUBSET, "languages": languages}
    return {
        "dataset_revision": run.manifest["card"]["content hash"], "task_name": task, "mteb_version": None,
        "scores": {split: [scores]}, "evaluation_time": round(sum(run.manifest["seconds"].values()), 3),
        "kg_co2_emissions": None, "date": None,
    }  # fmt: skip


def _model_meta(run: Run, model: str, revision: str) -> dict[str, Any]:
    """mteb's ModelMeta, all of whose fields must be there, known or not."""
    unknown = (
        "loader", "release_date", "languages", "n_parameters", "memory_usage_mb", "max_tokens", "embed_dim", "license",
        "open_weights", "public_training_code", "public_training_data", "similarity_fn_name", "use_instructions",
        "training_datasets",
    )  # fmt: skip
    similarity = {"similarity_fn_name": run.manifest["parameters"].get("similarity")}
    return {**dict.fromkeys(unknown), "name": model, "revision": revision, "framework": [], **similarity}


def is_result(content: Any) -> bool:
    """Whether a JSON value looks like a TaskResult."""
    return isinstance(content, Mapping) and {"task_name", "scores"} <= content.keys()


def read_predictions(path: Path, content: Any) -> tuple[Answers, ...]:
    """One entry for every subset and split of a file's JSON value. Errors: another shape, a score that is no number."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{path.name}: an object query -> item -> score was expected; got {type(content).__name__}")
    about = content.get(META)
    lists = {name: value for name, value in content.items() if name != META}
    depth = _depth(lists)
    if not 2 <= depth <= DEEPEST:
        raise ValueError(
            f"{path.name} holds no ranked lists: numbers were expected 2 to {DEEPEST} levels deep (subset, split, "
            f"query, item); got {depth or 'none'}; give the predictions of a retrieval task"
        )
    stem = path.stem.removesuffix("_predictions")
    tag = str(about.get("model_name") or "") if isinstance(about, Mapping) else ""
    parts = list(_parts(lists, depth - 2, (), path.name))
    return tuple(
        Answers("-".join([stem, *(names if len(parts) > 1 else ())]), _lists(part, f"{path.name}{_at(names)}"), tag=tag)
        for names, part in parts
    )


def _depth(value: Any, most: int = DEEPEST + 1) -> int:
    """Levels above the first number, 0 where there is none; nothing deeper than ``most`` is looked at."""
    if not isinstance(value, Mapping) or not most:
        return 0
    for inner in value.values():
        if not isinstance(inner, Mapping):
            return 1
        if below := _depth(inner, most - 1):
            return below + 1
    return 0


def _at(names: tuple[str, ...]) -> str:
    return f" ({', '.join(names)})" if names else ""


def _parts(value: Any, levels: int, names: tuple[str, ...], where: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}{_at(names)}: an object was expected; got {type(value).__name__}")
    if not levels:
        yield names, value
        return
    for name, inner in value.items():
        yield from _parts(inner, levels - 1, (*names, name), where)


def _lists(part: Mapping[str, Any], where: str) -> dict[str, dict[str, float]]:
    for query, found in part.items():
        if not isinstance(found, Mapping):
            raise ValueError(f"{where}: the list of query {query[:80]!r} is no object item -> score")
    rows = ((query, item, score) for query, found in part.items() for item, score in found.items())
    full = collected(rows, where)
    return {query: full.get(query, {}) for query in part}


def read_result(path: Path, content: Any, direction: str = "") -> tuple[Numbers, ...]:
    """The numbers of a TaskResult's JSON value, one entry for every split and subset.

    direction : such as "t2i"; empty: as the task's name ends (``Flickr30kT2IRetrieval``), else an error asks for it.
    """
    scores = content["scores"] if is_result(content) else None
    if not isinstance(scores, Mapping) or not all(isinstance(one, list) for one in scores.values()):
        raise ValueError(f"{path.name} is no mteb TaskResult: task_name and scores (split -> list) were expected")
    task = str(content["task_name"])
    found = _DIRECTION.search(task)
    direction = direction or (f"{found[1]}2{found[2]}".lower() if found else "")
    if not direction:
        raise ValueError(
            f"{path.name}: the task {task[:80]!r} does not say what is asked for what; add --direction t2i or i2t"
        )
    entries = [(split, one) for split, several in scores.items() for one in several]
    return tuple(_numbers(path, task, direction, split, one, len(entries) > 1) for split, one in entries)


def _numbers(path: Path, task: str, direction: str, split: str, scores: Any, several: bool) -> Numbers:
    if not isinstance(scores, Mapping):
        raise ValueError(f"{path.name}: the scores of split {split[:80]!r} are no objects")
    ours = {name: original(name, PREFIXES) for name in scores}
    values = {
        f"{direction}/{metric}": finite_score(scores[name], f"{path.name}: {name}")
        for name, metric in ours.items() if metric
    }  # fmt: skip
    system = _system(path) + (f" ({scores.get('hf_subset', SUBSET)}, {split})" if several else "")
    return Numbers(system, f"mteb {task}", values, tuple(name for name, metric in ours.items() if not metric))


def _system(path: Path) -> str:
    """The name in the ``model_meta.json`` that mteb writes beside a result, else the name of the file."""
    beside = path.with_name("model_meta.json")
    if beside.is_file():
        check_size(beside)
        about = read_json(beside)
        if isinstance(about, Mapping) and isinstance(about.get("name"), str):
            return str(about["name"])
    return path.stem
