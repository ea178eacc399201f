"""The papers as experiments: run them, list what came out, show one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from workbench.cli.group import Group, quiet

KEYS = click.argument("keys", nargs=-1, metavar="[S06 ...]")
LEDGER = click.option(
    "--ledger", type=click.Path(path_type=Path, exists=True), help="Another ledger.json than the shipped one."
)


@click.group("studies", cls=Group)
def studies() -> None:
    """Each paper's mechanism as an experiment that can fail, and the ledger of what came out.

    \b
    workbench studies list                       every paper with its verdict
    workbench studies show S06                   the claims, the numbers, the conditions
    workbench studies run S06 --size tiny        measure it here, in seconds
    workbench studies run --size small           all of them, with one page to read
    """


@studies.command("run")
@KEYS
@click.option("--seeds", "n_seeds", type=click.IntRange(min=2), help="How many seeds; each study has its own number.")
@click.option("--size", type=click.Choice(["tiny", "small", "full"]), default="small", show_default=True)
@click.option(
    "--dataset", default="", help="Ask the question of embeddings of your own, such as embeddings:vectors.npz."
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("runs") / "studies", show_default=True,
    help="Folder for ledger.json, ledger.html and the finished seeds.",
)  # fmt: skip
@quiet
def run(keys: Sequence[str], n_seeds: int | None, size: str, dataset: str, out: Path, quiet: bool) -> None:
    """Measure studies, all of them or those named; prints the path of the ledger page.

    Finished seeds are kept in the folder and not run again until the code they follow from changes, so an interrupted
    run goes on where it stopped.

    \b
    workbench studies run S06 S11 --size tiny
    workbench studies run S06 --dataset embeddings:vectors.npz
    """
    from workbench.report.ledger import measure_and_write

    page = measure_and_write(_chosen(keys), size=size, n_seeds=n_seeds, dataset=dataset, out=out, progress=not quiet)
    click.echo(f"{page}")


@studies.command("list")
@LEDGER
def list_(ledger: Path | None) -> None:
    """Every paper with the verdict of the shipped ledger, or of another one."""
    from workbench.report.ledger import lines

    for line in lines(ledger):
        click.echo(line)


@studies.command("show")
@click.argument("key")
@LEDGER
def show(key: str, ledger: Path | None) -> None:
    """One paper: claim, conditions, every claim with its effect, and the verdict."""
    from workbench.report.ledger import described

    _chosen([key])
    click.echo(described(key, ledger))


def _chosen(keys: Sequence[str]) -> tuple[str, ...]:
    import difflib

    from workbench.studies import STUDIES

    for key in keys:
        if key not in STUDIES:
            near = difflib.get_close_matches(key.upper(), STUDIES, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; there is {', '.join(STUDIES)}"
            raise click.UsageError(f"no study of {key!r}{hint}")
    return tuple(dict.fromkeys(keys)) or tuple(STUDIES)
