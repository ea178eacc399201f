"""The command line: argument parsing only. Progress goes to stderr, results and paths to stdout.

Exit codes: 0 done (whatever the verdicts), 1 failed (what there was is kept), 2 usage or bad input, 3 only with
``--fail-on``, when a finding is at least that bad.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import workbench
from workbench.cli.compare import cite, compare
from workbench.cli.exchange import export, import_
from workbench.cli.group import Group, dry_run, fail_on, out_option, parameters_option, quiet, say
from workbench.cli.replay import replay
from workbench.cli.studies import studies
from workbench.cli.verify import verify

LISTED = ["all", "datasets", "encoders", "metrics", "repairs", "reports", "studies", "parameters"]
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(cls=Group, context_settings=CONTEXT)
@click.version_option(workbench.__version__, prog_name="workbench")
def main() -> None:
    """Audit image-text retrieval: what the numbers are, how sure they are, what distorts them, what repairs them.

    \b
    workbench report audit                                     the built-in data and model, in about a minute
    workbench report audit -p dataset=folder:photos            photos/ with a captions.csv (image,caption)
    workbench report audit -p dataset=embeddings:vectors.npz   vectors you already have
    workbench report audit -p encoder=open_clip:ViT-B-32@openai -p dataset=folder:photos
    """


@main.command()
@click.argument("name", default="audit")
@parameters_option
@out_option
@dry_run
@fail_on
@quiet
def report(name: str, assignments: Sequence[str], out: Path, dry_run: bool, fail_on: str | None, quiet: bool) -> None:
    """Compute a run and write its offline HTML report; prints the path.

    \b
    workbench report audit -p dataset=scenes -p n_images=200
    workbench report audit -p run=runs/audit__scenes__tiny-clip__1a2b3c4d    draw a finished run again
    workbench report audit -p dataset=folder:photos -p bad_images=record --fail-on problem
    """
    from workbench import report as reports

    parameters = reports.schema_of(name).parse(assignments)
    if parameters["run"] and len(assignments) > 1:
        raise click.UsageError("run= draws a finished run and takes no other parameter: they are those of the run")
    if dry_run and "dataset" not in parameters:
        raise click.UsageError(f"--dry-run tells what encoding would cost, and {name} only reads finished runs")
    if dry_run:
        return _dry_run(parameters)
    written = reports.report(name, parameters, out=out, progress=False if quiet else None, say=say(quiet))
    click.echo(f"{written.page}")
    say(quiet)(f"report.html: {written.size / 1e6:.1f} MB, one file, opens offline")
    _exit_by_verdict(written.folder, fail_on)


@main.command()
@parameters_option
@out_option
@dry_run
@fail_on
@quiet
def evaluate(assignments: Sequence[str], out: Path, dry_run: bool, fail_on: str | None, quiet: bool) -> None:
    """Do all the work without a notebook; prints the run folder.

    \b
    workbench evaluate -p dataset=folder:photos -p encoder=tiny-clip
    workbench report audit -p run=runs/NAME      draws it later, without model or data
    """
    from workbench.evaluate import audit_schema, evaluate_into

    parameters = audit_schema().parse(assignments)
    if parameters["run"]:
        raise click.UsageError("run= belongs to `workbench report`, which draws finished runs")
    if dry_run:
        return _dry_run(parameters)
    with evaluate_into(out, parameters, progress=False if quiet else None, say=say(quiet)) as folder:
        path = folder.finish()
    click.echo(f"{path}")
    _exit_by_verdict(path, fail_on)


@main.command("list")
@click.argument("what", default="all", type=click.Choice(LISTED))
def list_(what: str) -> None:
    """What there is to choose from: datasets, encoders, metrics, repairs, reports, studies, parameters of the audit."""
    from workbench import listing

    for title, rows in listing.sections().items():
        if what in ("all", title):
            width = max(len(name) for name, _ in rows)
            click.echo(f"{title}\n" + "\n".join(f"  {name:<{width}}  {text}" for name, text in rows) + "\n")


@main.command()
@parameters_option
@quiet
def encode(assignments: Sequence[str], quiet: bool) -> None:
    """Fill the cache with the vectors of a data set, so that later runs start at once. Resumable.

    \b
    workbench encode -p dataset=folder:photos -p encoder=tiny-clip
    """
    from workbench.evaluate import audit_schema, prepare

    prepared = prepare(audit_schema().parse(assignments), progress=False if quiet else None)
    for note in prepared.notes:
        click.echo(f"warning: {note}", err=True)
    click.echo(prepared.counts.line())
    click.echo(f"vectors: {prepared.n_cached:,} from the cache, {prepared.n_encoded:,} encoded now")


@main.command()
@click.argument("model", type=click.Choice(["tiny-clip"]))
@click.option("--out", type=click.Path(path_type=Path), default=Path("tiny-clip"), show_default=True, help="Folder.")
@click.option("--dataset", default="scenes", show_default=True, help="What it learns from: scenes, emoji, emoji:FONT.")
@click.option("--steps", type=click.IntRange(1), default=None, help="Optimiser steps; default: as the shipped model.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--fresh", is_flag=True, help="Start anew even if the folder holds an unfinished training.")
@quiet
def train(model: str, out: Path, dataset: str, steps: int | None, seed: int, fresh: bool, quiet: bool) -> None:
    """Train the built-in model on a data set made here; minutes on two cores, continues where it stopped.

    \b
    workbench train tiny-clip --out my-clip
    workbench report audit -p encoder=open_clip:local-dir:my-clip
    workbench train tiny-clip --dataset emoji --steps 600 --out my-emoji
    workbench report audit -p dataset=emoji -p encoder=open_clip:local-dir:my-emoji
    """
    from workbench.adapt.tiny_clip import train_tiny_clip

    chosen = {} if steps is None else {"steps": steps}
    train_tiny_clip(out, dataset=dataset, seed=seed, resume=not fresh, progress=not quiet, **chosen)
    click.echo(f"{out}")


@main.command()
@click.option("--list", "show", is_flag=True, help="What is stored, by encoder.")
@click.option("--clean", is_flag=True, help="Delete all stored vectors.")
def cache(show: bool, clean: bool) -> None:
    """The store of vectors (WORKBENCH_CACHE chooses its folder)."""
    from workbench.encoders.store import Store

    store = Store()
    if clean:
        freed = store.clean()
        click.echo(f"{freed / 1e6:,.1f} MB freed")
        return
    entries = store.list_entries()
    for entry in entries:
        click.echo(f"{entry.encoder}  {entry.modality}  {entry.items:,} items  {entry.bytes / 1e6:,.1f} MB")
    click.echo(f"{sum(entry.items for entry in entries):,} items in {store.root}")


@main.command()
@click.argument("target", type=click.Path(path_type=Path), default=Path("workbench-notebooks"))
def notebooks(target: Path) -> None:
    """Copy the notebooks into a folder, to be opened in JupyterLab and changed at will."""
    from workbench.files import write_atomically
    from workbench.shipped import find

    root = find("notebooks")
    sources = [path for path in sorted(root.rglob("*.ipynb")) if ".ipynb_checkpoints" not in path.parts]
    places = [target / source.relative_to(root) for source in sources]
    for place in places:
        if place.exists():
            raise FileExistsError(f"{place} exists; choose another folder, or move it away: nothing is overwritten")
    for source, place in zip(sources, places, strict=True):
        write_atomically(place, source.read_bytes())
        click.echo(f"{place}")


@main.command()
def doctor() -> None:
    """Is this installation whole? Versions, shipped files, cache, and whether another `workbench` is in the way."""
    from workbench import listing

    checks = listing.examine()
    for good, name, text in checks:
        click.echo(f"{'ok ' if good else 'BAD'}  {name}: {text}")
    if not all(good for good, _, _ in checks):
        raise SystemExit(1)


def _dry_run(parameters: dict[str, Any]) -> None:
    from workbench.evaluate import completed
    from workbench.evaluate.dry_run import dry_run

    for name, text in dry_run(completed(parameters)):
        click.echo(f"{name}: {text}")


def _exit_by_verdict(folder: Path, fail_on: str | None) -> None:
    if fail_on is None:
        return
    from workbench.runs import Run

    bad = {"problem"} if fail_on == "problem" else {"problem", "look"}
    found = [one.name for one in Run(folder).findings if one.verdict in bad]
    if found:
        click.echo(f"--fail-on {fail_on}: {len(found)} findings: {', '.join(found)}", err=True)
        sys.exit(3)


for command in (compare, cite, replay, verify, export, import_, studies):
    main.add_command(command)
