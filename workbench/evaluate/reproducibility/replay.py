"""A run repeated from its own manifest, and a certificate of what came out the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.diagnostics.finding_changes import compare_findings, findings_in_words
from workbench.diagnostics.reproducibility import Certificate
from workbench.evaluate import ANALYSES, audit_schema, evaluate_into
from workbench.evaluate.share import FILE, WITHHELD
from workbench.parameters import read_schema
from workbench.runs import Run, certify
from workbench.shipped import find

PLACES = ("dataset", "encoder", "qrels", "metadata", "against", "split", "bank")
"""Parameters that a manifest may state without the place, and that may therefore be given again."""
HIDDEN = "..."
CIRCUMSTANCES = ("versions.", "encoder.versions.", "workbench", "git_revision", "hardware.")


@dataclass(frozen=True, eq=False)
class Replay:
    """What came out. run : the new one. certificate : the old run against it. findings : which are new, worse, gone.
    notes : what could not be reproduced."""

    run: Run
    certificate: Certificate
    findings: str
    notes: tuple[str, ...]


def replay(
    run: Run | str | Path,
    *,
    out: str | Path = "runs",
    given: Mapping[str, Any] | None = None,
    encoder: Any = None,
    progress: bool | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Replay:
    """Repeat a run from the parameters in its manifest, and hold the old run against the new one, layer by layer.

    given : values of :data:`PLACES` that the manifest does not hold, such as ``{"dataset": "folder:/data/photos"}``: it
    names no place on a machine, and with share=no-content no file at all. encoder : the object that the run was made
    with, if it was given one in Python.
    Raises ValueError when something that the run needs is not stated and not given, before anything is computed.
    """
    old = run if isinstance(run, Run) else Run(run)
    report = old.report
    if report not in ANALYSES:
        raise ValueError(
            f"{old.path.name} is a run of the {report} report, which reads other runs; make it again with "
            f"`workbench {report}`"
        )
    parameters, notes = _parameters(old, dict(given or {}), encoder)
    folder = evaluate_into(
        Path(out), parameters, report=report, encoder=encoder, progress=progress, say=say
    )  # fmt: skip
    with folder:
        new = Run(folder.finish())
    found = certify(old, new)
    changed = [str(one) for one in found.declared if one.name.startswith(CIRCUMSTANCES)]
    findings = findings_in_words(compare_findings(old.findings, new.findings))
    return Replay(new, found, findings, (*notes, *(f"not as it was: {text}" for text in changed)))


def _parameters(old: Run, given: dict[str, Any], encoder: Any) -> tuple[dict[str, Any], list[str]]:
    """The parameters to run with, and what had to be taken otherwise. ValueError names everything that is missing."""
    schema = audit_schema() if old.report == "audit" else read_schema(find(f"notebooks/reports/{old.report}.ipynb"))
    other = sorted(set(given) - set(PLACES))
    if other:
        raise ValueError(
            f"replay repeats a run as it was, so {other[0]} cannot be changed; only {', '.join(PLACES)} may be given "
            "again, where the manifest does not say where they lie. To change more, use workbench evaluate"
        )
    stated = dict(old.manifest["parameters"])
    missing = [text for name in PLACES if name not in given for text in _unstated(name, stated.get(name, ""))]
    missing += _unnamed_encoder(old, stated, given, encoder)
    if missing:
        raise ValueError(f"{old.path.name} cannot be repeated from its manifest alone: {'; '.join(missing)}")
    notes = [f"parameter {name} is not known to this version" for name in stated if name not in schema.defaults]
    notes += [
        f"parameter {name} is new in this version: {value!r}"
        for name, value in schema.defaults.items() if name not in stated
    ]  # fmt: skip
    known = {name: value for name, value in {**stated, **given}.items() if name in schema.defaults}
    return schema.check({**schema.defaults, **known, "run": ""}), notes


def _unstated(name: str, value: Any) -> list[str]:
    """Why a value cannot be used as it is stated; nothing if it can."""
    text = str(value)
    if FILE in text or WITHHELD in text:
        return [f"{name} was withheld by share=no-content; give it again with -p {name}=..."]
    if HIDDEN in text:
        return [f"the manifest does not say where {name}={text} lies; give it again with -p {name}=..."]
    if name in ("qrels", "metadata") and text and not Path(text).exists():
        return [f"there is no {text} in this folder; give it again with -p {name}=FILE"]
    if name == "against" and text and not Path(text).exists():
        return [f"the run {text} is not in this folder; give it again with -p against=RUN"]
    return []


def _unnamed_encoder(old: Run, stated: Mapping[str, Any], given: Mapping[str, Any], encoder: Any) -> list[str]:
    """An encoder given as a Python object leaves no source that could be loaded."""
    source = old.manifest.get("encoder", {}).get("source", "")
    if stated.get("encoder") or "encoder" in given or encoder is not None:
        return []
    if source in ("", "tiny-clip", "ready-made vectors", "ranked lists only"):
        return []
    return [
        f"the encoder {source!r} was an object given in Python, which no manifest can hold; call "
        "workbench.evaluate.reproducibility.replay.replay(run, encoder=...) with it"
    ]
