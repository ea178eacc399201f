"""All the work of an audit, without a notebook: data in, run folder out.

    from workbench.evaluate import evaluate
    run = evaluate(dataset="folder:my-photos", encoder="tiny-clip")

The parameters are those of the parameters cell of ``notebooks/reports/audit.ipynb``, which is their only definition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from workbench.diagnostics.coverage import TextCoverage
from workbench.evaluate.analysis import RESULT_TYPES, analyse, coverage
from workbench.evaluate.banks import withheld_bank
from workbench.evaluate.hub_analysis import analyse_hubness, chosen_methods
from workbench.evaluate.integrity import analyse_integrity, check_integrity, gather
from workbench.evaluate.outcome import Analysis
from workbench.evaluate.prepare import Prepared, load_collection, load_encoder, prepare, prepare_bank
from workbench.evaluate.reproducibility import analyse_reproducibility, check_asked, private_against
from workbench.evaluate.share import check_share, private_parameters, withheld
from workbench.evaluate.writing import run_name, write_manifest, write_run
from workbench.failures import EvaluationFailed
from workbench.meter import Meter
from workbench.metrics import parse_metric
from workbench.parameters import Schema, read_schema
from workbench.runs import Run, RunFolder
from workbench.shipped import find
from workbench.threads import limited_threads

__all__ = [
    "RESULT_TYPES",
    "Analysis",
    "EvaluationFailed",
    "Prepared",
    "analyse",
    "audit_schema",
    "completed",
    "evaluate",
    "evaluate_into",
    "load_collection",
    "load_encoder",
    "prepare",
]  # fmt: skip


ANALYSES: Mapping[str, Callable[..., Analysis]] = {
    "audit": analyse, "hubness": analyse_hubness, "integrity": analyse_integrity,
    "reproducibility": analyse_reproducibility,
}  # fmt: skip


def audit_schema() -> Schema:
    """The parameters of the audit, read from its notebook."""
    return read_schema(find("notebooks/reports/audit.ipynb"))


def evaluate(
    dataset: str = "scenes", encoder: Any = "", *, out: str | Path = "runs", quiet: bool = True, **parameters: Any
) -> Run:
    """Audit a data set and write the run folder (without ``report.*``).

    dataset, encoder : sources such as ``"folder:photos"`` and ``"open_clip:ViT-B-32@openai"``; ``encoder`` may also be
    any object with ``name``, ``encode_image(images)`` and ``encode_text(texts)``.
    out : where run folders go. parameters : any other line of the audit notebook's parameters cell, by its name.
    Raises ParameterError or ValueError for bad input before anything is written, EvaluationFailed with the kept folder
    when the computation stops.
    """
    source = encoder if isinstance(encoder, str) else ""
    chosen = audit_schema().check({**audit_schema().defaults, **parameters, "dataset": dataset, "encoder": source})
    folder = evaluate_into(
        Path(out), chosen, encoder=None if isinstance(encoder, str) else encoder, progress=None if not quiet else False
    )
    with folder:
        return Run(folder.finish())


def evaluate_into(
    out: Path,
    parameters: Mapping[str, Any],
    *,
    report: str = "audit",
    encoder: Any = None,
    progress: bool | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> RunFolder:
    """Compute and write into ``out/NAME.partial``; the caller renames it when all is done.

    parameters : already checked; those that the report does not have are the audit's. report : a key of ``ANALYSES``.
    encoder : an object that takes the place of ``parameters["encoder"]``.
    progress : bars on stderr; None shows them only on a terminal. say : receives one line per stage.
    """
    asked = parameters
    parameters = completed(parameters)
    for name in parameters["metrics"]:
        parse_metric(name)
    check_share(parameters)
    check_asked(parameters)
    check_integrity(parameters)
    with limited_threads(), Meter() as meter:
        with meter.stage("loading and encoding"):
            prepared, bank, read, before = _prepared(report, parameters, encoder, progress, say)
        open_parameters, parameters = parameters, private_against(private_parameters(parameters))
        folder = RunFolder(out, run_name(parameters, prepared, report), meter)
        try:
            with folder:
                asked_of = {**parameters, "against": open_parameters.get("against", ""), **before}
                analysis = ANALYSES[report](prepared, asked_of, bank=bank, read=read, meter=meter, say=say)
                with meter.stage("writing"):
                    write_run(folder.path, prepared, analysis, parameters)
                meter.stop()
                write_manifest(folder.path, prepared, parameters, meter, report=report, shown=asked)
        except Exception as error:
            raise EvaluationFailed(meter.current, folder.path, error) from error
    return folder


def completed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with those of the audit that this report leaves as they are."""
    completed = {**audit_schema().defaults, **parameters}
    if {"probes", "judges"} & set(parameters):
        return completed | {"repairs": []}
    return completed | ({"repairs": chosen_methods(parameters)} if "methods" in parameters else {})


def _prepared(
    report: str, parameters: Mapping[str, Any], encoder: Any, progress: bool | None, say: Callable[[str], None]
) -> tuple[Prepared, Prepared | None, TextCoverage | None, dict[str, Any]]:
    """What is scored, without what must not be shown; the bank of the repairs; how the encoder read the texts; and what
    the report has to see before anything is withheld."""
    prepared = prepare(parameters, encoder, progress=progress)
    say(prepared.counts.line())
    bank = prepare_bank(prepared, parameters, progress=progress)
    say(f"vectors: {prepared.n_cached:,} from the cache, {prepared.n_encoded:,} encoded now")
    before = gather(report, prepared, parameters, progress=progress)
    shown = withheld(prepared, parameters)
    kept = None if bank is None else withheld_bank(bank, prepared, shown, parameters)
    return shown, kept, coverage(prepared, shown), before
