"""What the integrity report shows: what labels, copies, the space and the wording do to the number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from workbench.diagnostics.coverage import TextCoverage
from workbench.evaluate import examples
from workbench.evaluate.integrity import consistency, copies, label_sets, labels, space
from workbench.evaluate.outcome import Analysis
from workbench.evaluate.prepare import Prepared
from workbench.evaluate.ranking import rank
from workbench.meter import Meter
from workbench.types import Embeddings, Finding

SECTIONS = {
    "labels": (labels, "answers that may be right and are not labelled"),
    "label sets": (label_sets, "the same ranking under other labels"),
    "copies": (copies, "copies and leaks, with what each is worth"),
    "space": (space, "the modality gap, and what closing it does"),
    "consistency": (consistency, "whether queries that ask for the same image agree"),
}
INTEGRITY_TYPES = tuple(kind for section, _ in SECTIONS.values() for kind in section.TYPES)


def check_integrity(parameters: Mapping[str, Any]) -> None:
    """Refuse what cannot work before anything is encoded."""
    if "judges" in parameters:
        labels.check_judges(parameters)


def gather(
    report: str, prepared: Prepared, parameters: Mapping[str, Any], *, progress: bool | None = None
) -> dict[str, Any]:
    """What has to be seen before anything is withheld. Of the audit: the words of the captions. Of the integrity
    report also files of labels and judgements, other encoders, the look of the pictures, the split to share nothing."""
    vectors = isinstance(prepared.images, Embeddings) and isinstance(prepared.texts, Embeddings)
    if report not in ("audit", "integrity") or not vectors:
        return {}
    evidence = {"evidence": labels.gather(prepared, parameters, progress=progress)}
    if report == "audit":
        return evidence
    return evidence | {
        "label files": label_sets.gather(prepared, parameters),
        "seen": copies.gather(prepared, parameters, progress=progress),
        "templated": consistency.gather(prepared, parameters, progress=progress),
    }


def analyse_integrity(
    prepared: Prepared, parameters: Mapping[str, Any], *, bank: Prepared | None = None,
    read: TextCoverage | None = None, meter: Meter, say: Callable[[str], None] = lambda line: None,
) -> Analysis:  # fmt: skip
    """Every section on one ranking. ``bank`` and ``read`` are those of other reports, unused."""
    if not isinstance(prepared.images, Embeddings) or not isinstance(prepared.texts, Embeddings):
        raise ValueError("the integrity report compares vectors, and these data are ranked lists; use the audit report")
    results: dict[str, Any] = {"counts": prepared.counts, "unreadable": prepared.collection.bad}
    say("searching, exactly")
    with meter.stage("searching"):
        ranked, _ = rank(prepared, parameters)
    results |= {f"scores {one.direction.name}": one.scores for one in ranked}
    findings: list[Finding] = [said for one in ranked for said in one.scores.findings()]
    for name, (section, sentence) in SECTIONS.items():
        with meter.stage(name):
            say(sentence)
            found = section.analyse(prepared, ranked, parameters)
        results |= found
        findings += [said for one in found.values() if hasattr(one, "findings") for said in one.findings()]
    shown = {name.removeprefix("examples "): grid for name, grid in results.items() if name.startswith("examples ")}
    return Analysis.of(ranked, results, findings, examples.thumbnails(prepared.collection, shown))
