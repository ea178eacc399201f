"""What the reproducibility report shows: the same numbers again, under other protocols, and after small changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from workbench.diagnostics.change import Change, ChangePart
from workbench.diagnostics.coverage import TextCoverage
from workbench.diagnostics.reproducibility import Certificate, Difference, LayerDifference, certificate
from workbench.diagnostics.run_evidence import Evidence, Items
from workbench.evaluate.outcome import Analysis
from workbench.evaluate.prepare import Prepared
from workbench.evaluate.ranking import Ranked, rank
from workbench.evaluate.reproducibility.agreement import agreement
from workbench.evaluate.reproducibility.probes import ProbeRow, Probes, check_probes, probe
from workbench.evaluate.reproducibility.protocols import Asked, ProtocolRow, Protocols, asked, under_protocols
from workbench.evaluate.scores import tie_exposure
from workbench.meter import Meter
from workbench.metrics import METRICS, parse_metric
from workbench.search import RankPositives, scan
from workbench.statistics import GallerySize
from workbench.types import Embeddings, Finding, FloatArray

REPRODUCIBILITY_TYPES = (
    Certificate, Change, ChangePart, Difference, GallerySize, LayerDifference, ProbeRow, Probes, ProtocolRow, Protocols
)  # fmt: skip
THIS = "this run"
NOT_OF_THE_NUMBERS = (
    "report", *(f"parameters.{name}" for name in (
        "keep_embeddings", "memory_mb", "repairs", "methods", "tune", "bank", "near_duplicate", "slices",
        "smallest_group", "against", "probes", "probe_images",
    )),
)  # fmt: skip
"""What a run may declare and no layer can show."""


def check_asked(parameters: Mapping[str, Any]) -> None:
    """Refuse, before any work, a probe that does not exist, and another run that is none or may not be named."""
    check_probes(parameters.get("probes", ()))
    if not parameters.get("against"):
        return
    from workbench.runs import Run

    if parameters["share"] == "no-content":
        raise ValueError(
            "against= holds contents against each other and names the items that differ, which share=no-content keeps "
            "on this machine; leave against empty, or use share=no-images"
        )
    Run(parameters["against"])


def private_against(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters without the place of the other run: a path from the caller's folder stays, others end in its name.

    >>> private_against({"against": "/home/ada/runs/audit__scenes__tiny-clip__1a2b3c4d"})["against"]
    '.../audit__scenes__tiny-clip__1a2b3c4d'
    """
    shown = dict(parameters)
    path = Path(shown.get("against", ""))
    return shown | ({"against": f".../{path.name}"} if path.is_absolute() or ".." in path.parts else {})


def analyse_reproducibility(
    prepared: Prepared, parameters: Mapping[str, Any], *, bank: Prepared | None = None,
    read: TextCoverage | None = None, meter: Meter, say: Callable[[str], None] = lambda line: None,
) -> Analysis:  # fmt: skip
    """Certificate against another run, protocols, probes. ``bank`` and ``read`` are those of other reports, unused."""
    if not isinstance(prepared.images, Embeddings) or not isinstance(prepared.texts, Embeddings):
        raise ValueError("protocols re-score vectors, and these data are ranked lists; use the audit report")
    results: dict[str, Any] = {"counts": prepared.counts, "unreadable": prepared.collection.bad}
    say("searching, exactly")
    with meter.stage("searching"):
        ranked, _ = rank(prepared, parameters)
    results |= {f"scores {one.direction.name}": one.scores for one in ranked}
    findings = [said for one in ranked for said in one.scores.findings()]
    findings += [tie_exposure(one.direction.name, one.ranks) for one in ranked]
    both: tuple[Evidence, Evidence] | None = None
    if parameters["against"]:
        with meter.stage("comparing"):
            say("this run against the other one, layer by layer")
            results["certificate"], both, changes = _certified(prepared, ranked, parameters, meter)
            results |= {"agreement": agreement(*both, k=parameters["k"])} | changes
            findings.append(_of_certificate(results["certificate"]))
    with meter.stage("protocols"):
        say("the same vectors under every protocol")
        results["protocols"] = _protocols(prepared, ranked, parameters, both)
        findings += results["protocols"].findings()
    with meter.stage("probing"):
        results["probes"] = probe(prepared, parameters["probes"], parameters, say=say)
        findings += results["probes"].findings()
    return Analysis.of(ranked, results, findings, {})


def _certified(
    prepared: Prepared, ranked: tuple[Ranked, ...], parameters: Mapping[str, Any], meter: Meter
) -> tuple[Certificate, tuple[Evidence, Evidence], dict[str, Change | str]]:
    """This run, as it would be written, held against the other one on what both declare; the evidence of the other and
    of this one; and what the change of the first metric is made of, by direction."""
    from workbench.evaluate.writing import write_manifest, write_run
    from workbench.runs import Run, evidence

    other = Run(parameters["against"])
    first = evidence(other)
    with TemporaryDirectory() as place:
        folder = Path(place) / THIS
        folder.mkdir()
        write_run(folder, prepared, Analysis.of(ranked, {}, [], {}), {**parameters, "keep_embeddings": True})
        write_manifest(folder, prepared, parameters, meter)
        second = evidence(Run(folder))
        changes = {f"change {one.direction.name}": _change(other, Run(folder), one, parameters) for one in ranked}
    pair = [replace(one, declared=_comparable(one, (first, second)), files={}) for one in (first, second)]
    return _timeless(certificate(*pair)), (first, second), changes


def _change(other: Any, this: Any, one: Ranked, parameters: Mapping[str, Any]) -> Change | str:
    """The parts of the change of the first metric that is a mean, or why they cannot be told apart."""
    from workbench.runs.change import change_between

    means = [name for name in parameters["metrics"] if METRICS[parse_metric(name).name].aggregator == "mean"]
    if not means:
        return "No metric of this run is a mean over queries, so its change has no parts that add up."
    how = {"n_resamples": parameters["n_resamples"], "seed": parameters["seed"]}
    try:
        return change_between(other, this, one.direction.name, means[0], **how)
    except ValueError as error:
        return f"The change cannot be split: {error}."


def _comparable(one: Evidence, both: tuple[Evidence, Evidence]) -> dict[str, Any]:
    """What a run declares, without what the other report cannot declare because it has no such parameter."""
    return {
        name: value for name, value in one.declared.items()
        if (all(name in other.declared for other in both) and name not in NOT_OF_THE_NUMBERS)
        or not name.startswith(("report", "parameters.", "protocol."))
    }  # fmt: skip


def _timeless(found: Certificate) -> Certificate:
    """Without time, memory and cache, which differ by chance and which only a manifest may hold."""
    return replace(found, legitimate=(), notes=tuple(note for note in found.notes if not note.startswith(THIS)))


def _of_certificate(found: Certificate) -> Finding:
    label, source = "certificate/layers", "no layer may differ"
    compared = [layer for layer in found.layers if layer.status != "not comparable"]
    if not compared:
        return Finding(label, None, None, 0, source, "not measurable", found.verdict)
    value, explained = float(len(found.observed)), bool(found.causes)
    verdict = "ok" if not found.observed else "look" if explained else "problem"
    return Finding(label, value, None, 0, source, verdict, found.verdict)  # type: ignore[arg-type]


def _protocols(
    prepared: Prepared, ranked: tuple[Ranked, ...], parameters: Mapping[str, Any],
    both: tuple[Evidence, Evidence] | None,
) -> Protocols:  # fmt: skip
    if not prepared.judged:
        return Protocols((), {}, notes=("Nothing is known to be right, so no protocol can score.",))
    memory = parameters["memory_mb"] * 2**20
    worlds = [
        asked(one.direction, one.ranks, parameters["metrics"], forward=place == 0, memory=memory)
        for place, one in enumerate(ranked)
    ]
    others, name, notes = _other_system(prepared, parameters, both, memory)
    how = {"n_resamples": parameters["n_resamples"], "seed": parameters["seed"]}
    return replace(under_protocols(worlds, others, second=name, **how), notes=notes)


def _other_system(
    prepared: Prepared, parameters: Mapping[str, Any], both: tuple[Evidence, Evidence] | None, memory: int
) -> tuple[list[Asked], str, tuple[str, ...]]:
    """The other run's vectors for the same items, ranked; or a sentence on why there is no second system."""
    if both is None:
        return [], "", ("No second system: against=RUN names one, of the same data, with keep_embeddings=true.",)
    rival, sides = both[0], []
    for own, side, here in zip((prepared.images, prepared.texts), rival.sides, both[1].sides, strict=True):
        assert isinstance(own, Embeddings)
        place = {name: row for row, name in enumerate(side.ids)}
        reason = _unpaired(side, here, place)
        if reason or side.vectors is None:
            return [], "", (f"{rival.name} {reason}.",)
        vectors = side.vectors[[place[name] for name in own.ids]]
        sides.append(replace(own, vectors=vectors, source={}))
    if all(_same(one.vectors, own.vectors) for one, own in zip(sides, (prepared.images, prepared.texts), strict=True)):  # type: ignore[union-attr]
        return [], "", (f"{rival.name} has the very same vectors: it is no second system.",)
    directions = replace(prepared, images=sides[0], texts=sides[1]).directions()
    wanted = [RankPositives(one.relevance, of=of) for one, of in zip(directions, ("queries", "gallery"), strict=False)]  # type: ignore[arg-type]
    found = scan(sides[1].vectors, sides[0].vectors, wanted, memory=memory)
    pairs = enumerate(zip(directions, found, strict=True))
    others = [
        asked(one, ranks, parameters["metrics"], forward=place == 0, memory=memory) for place, (one, ranks) in pairs
    ]
    return others, rival.name, ()


def _unpaired(side: Items, here: Items, place: Mapping[str, int]) -> str:
    """Why one side of the other run cannot stand beside that of this one; "" where it can."""
    if side.vectors is None:
        return "kept no vectors, so it cannot be re-scored: make it with keep_embeddings=true"
    if side.modality != here.modality or not set(here.ids) <= set(place):
        return f"lacks some of these {here.modality} items, so the two cannot be paired"
    known = [(side.contents[place[name]], own) for name, own in zip(here.ids, here.contents, strict=True)]
    edited = sum(bool(one and two and one != two) for one, two in known)
    return f"has other contents under {edited:,} of these {here.modality} ids: the two cannot be paired" * bool(edited)


def _same(first: FloatArray, second: FloatArray) -> bool:
    return first.shape == second.shape and bool(np.array_equal(first, second))
