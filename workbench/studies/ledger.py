"""Running studies seed by seed, keeping what is done, and the ledger: every paper with its numbers and its verdict."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from workbench.files import canonical_hash, write_json
from workbench.studies.identity import code_digest
from workbench.studies.study import Arms, Card, Claim, Facts, Size, Study
from workbench.studies.verdict import Verdict, judge, with_fake
from workbench.types import Embeddings, Relevance

SCHEMA = 1


@dataclass(frozen=True, eq=False)
class StudyResult:
    """A study measured: the arms of every seed, the published numbers, the verdict, and the verdict on the fake.

    family : the notebook it is told in. blind : arms that know nothing. seconds : of processor, per seed. stated : what
    the study promises for all of them together. code : digest of the sources the numbers follow from. data : what the
    numbers were measured on, "" for the worlds of the study itself.
    """

    card: Card
    family: str
    claims: tuple[Claim, ...]
    blind: tuple[str, ...]
    size: Size
    seeds: tuple[Arms, ...]
    facts: Facts
    seconds: tuple[float, ...]
    stated: float
    code: str
    data: str = ""

    @property
    def verdict(self) -> Verdict:
        """What follows from the numbers."""
        return judge(self.claims, self.seeds, self.facts)

    @property
    def fake(self) -> Verdict:
        """What would follow, had the imitation been measured in the place of the mechanism."""
        return judge([with_fake(one) for one in self.claims], self.seeds, self.facts)

    def values(self) -> dict[str, dict[str, tuple[float, ...]]]:
        """condition -> arm -> value of every seed, published values after the measured ones."""
        measured = {
            condition: {arm: tuple(one[condition][arm] for one in self.seeds) for arm in arms}
            for condition, arms in (self.seeds[0] if self.seeds else {}).items()
        }
        return measured | {condition: dict(arms) for condition, arms in self.facts.items()}

    def roles(self) -> dict[tuple[str, str], str]:
        """(condition, arm) -> what the arm is to the claims: mechanism, imitation, knows nothing, or control."""
        found = {(condition, arm): "knows nothing" for condition, arms in self.values().items() for arm in arms
                 if arm in self.blind}  # fmt: skip
        found |= {(one.condition, one.fake): "imitation" for one in self.claims if one.fake not in self.blind}
        return found | {(one.condition, one.arm): "mechanism" for one in self.claims}

    def units(self) -> dict[str, str]:
        """condition -> the unit of its claims, where they have one."""
        found = {one.condition: one.unit for one in self.claims}
        mixed = {one.condition for one in self.claims if one.unit != found[one.condition]}
        return {condition: unit for condition, unit in found.items() if condition not in mixed}

    def table(self) -> list[dict[str, Any]]:
        """One row per condition and arm: mean and standard deviation over seeds; published values are marked."""
        return [
            _row(condition, arm, values, "published" if condition in self.facts else "measured")
            for condition, arms in self.values().items()
            for arm, values in arms.items()
        ]

    def flat(self) -> dict[str, Any]:
        """What the ledger keeps of it: plain values, and the verdicts that follow from them."""
        return {
            "card": asdict(self.card), "family": self.family, "size": self.size, "data": self.data,
            "verdict": self.verdict.flat(), "fake": self.fake.flat(), "blind": list(self.blind),
            "claims": [asdict(one) for one in self.claims],
            "seeds": [{condition: dict(arms) for condition, arms in one.items()} for one in self.seeds],
            "facts": {name: {arm: list(v) for arm, v in arms.items()} for name, arms in self.facts.items()},
            "seconds": list(self.seconds), "stated": self.stated, "code": self.code,
        }  # fmt: skip


def restored(entry: Mapping[str, Any]) -> StudyResult:
    """A result from what the ledger keeps of it; its verdict is computed anew."""
    card = {**entry["card"], "authors": tuple(entry["card"]["authors"])}
    card["deviations"] = tuple(card["deviations"])
    claims = tuple(Claim(**{**one, "controls": tuple(one["controls"])}) for one in entry["claims"])
    facts = {name: {arm: tuple(v) for arm, v in arms.items()} for name, arms in entry["facts"].items()}
    return StudyResult(
        Card(**card), entry["family"], claims, tuple(entry["blind"]), entry["size"], tuple(entry["seeds"]), facts,
        tuple(entry["seconds"]), entry["stated"], entry["code"], entry["data"],
    )  # fmt: skip


def _row(condition: str, arm: str, values: Sequence[float], source: str) -> dict[str, Any]:
    import numpy as np

    sd = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return {
        "condition": condition, "arm": arm, "mean": float(np.mean(values)), "sd": sd, "n": len(values),
        "source": source,
    }  # fmt: skip


def run_study(
    study: Study, *, size: Size = "small", n_seeds: int | None = None, folder: Path | None = None,
    data: tuple[str, Embeddings, Embeddings, Relevance] | None = None, done: Callable[[int, bool], None] | None = None,
) -> StudyResult:  # fmt: skip
    """Measure a study, one seed after the other; seeds that are in ``folder`` under the same code are not run again.

    data : name, texts, images, relevance (n_texts, n_images) to ask the study's question of somebody's embeddings.
    done : told after each seed (number, whether it was there already). Errors: a study that takes no data.
    """
    if data is not None and study.own is None:
        raise ValueError(f"{study.key} builds its own world and cannot be asked of given embeddings")
    code, seeds, seconds = code_digest(study.measure.__module__), [], []
    about = {"study": study.key, "size": size, "data": _digest(data)}
    place = None if folder is None else folder / study.key / canonical_hash({**about, "code": code})[:12]
    for seed in range(n_seeds or study.seeds[size]):
        path = None if place is None else place / f"seed-{seed}.json"
        kept = json.loads(path.read_text(encoding="utf-8")) if path is not None and path.exists() else None
        if kept is None:
            started = time.process_time()
            arms = _plain(study.measure(seed, size) if data is None else cast(Any, study.own)(*data[1:], seed))
            kept = {**about, "seed": seed, "arms": arms, "seconds": round(time.process_time() - started, 2)}
            if path is not None:
                write_json(path, kept)
            known = False
        else:
            known = True
        seeds.append(kept["arms"])
        seconds.append(kept["seconds"])
        if done is not None:
            done(seed, known)
    facts = study.facts() if study.facts is not None and data is None else {}
    claims = study.claims if data is None else study.own_claims
    return StudyResult(
        study.card, study.family, claims, study.blind, size, tuple(seeds), facts, tuple(seconds), study.seconds[size],
        code, "" if data is None else data[0],
    )  # fmt: skip


def _plain(arms: Arms) -> dict[str, dict[str, float]]:
    return {condition: {arm: float(value) for arm, value in found.items()} for condition, found in arms.items()}


def _digest(data: tuple[str, Embeddings, Embeddings, Relevance] | None) -> str:
    import hashlib

    if data is None:
        return ""
    whole = hashlib.sha256()
    for part in (data[1].vectors, data[2].vectors, data[3].indptr, data[3].items):
        whole.update(part.tobytes())
    return whole.hexdigest()[:16]


def run_studies(
    studies: Sequence[Study], *, size: Size, n_seeds: int | None = None, folder: Path | None = None,
    data: tuple[str, Embeddings, Embeddings, Relevance] | None = None, progress: bool = True,
) -> tuple[StudyResult, ...]:  # fmt: skip
    """Several studies with a bar over all their seeds; each finished seed is kept at once."""
    from tqdm import tqdm

    total = sum(n_seeds or one.seeds[size] for one in studies)
    results = []
    with tqdm(total=total, desc="studies", unit="seed", disable=not progress, file=sys.stderr) as bar:
        for study in studies:
            bar.set_postfix_str(study.key)
            told = lambda seed, known: bar.update()  # noqa: E731
            results.append(run_study(study, size=size, n_seeds=n_seeds, folder=folder, data=data, done=told))
    return tuple(results)


def ledger(results: Sequence[StudyResult], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The ledger as plain values: all results by paper with the manifest of the run that made them."""
    entries: dict[str, list[dict[str, Any]]] = {}
    for one in results:
        entries.setdefault(one.card.key, []).append(one.flat())
    return {"schema": SCHEMA, "manifest": dict(manifest), "studies": dict(sorted(entries.items()))}


def read_ledger(path: Path) -> tuple[dict[str, Any], tuple[StudyResult, ...]]:
    """Manifest and results of a ledger file. Errors: another schema, a file that is no ledger."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise ValueError(f"{path.name} has schema {content['schema']}; this version reads {SCHEMA}")
        return content["manifest"], tuple(restored(one) for found in content["studies"].values() for one in found)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path.name} is no ledger of studies ({error}); `workbench studies run` writes one"
        ) from error
