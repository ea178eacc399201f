"""The command that repeats a run from its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from workbench.cli.group import out_option, quiet, say


@click.command("replay")
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@click.option(
    "-p", "--parameter", "assignments", multiple=True, metavar="NAME=VALUE",
    help="Where the dataset, the encoder, qrels, metadata or the run `against` lie, when the manifest does not say.",
)  # fmt: skip
@out_option
@quiet
def replay(run: Path, assignments: Sequence[str], out: Path, quiet: bool) -> None:
    """Repeat a run from its manifest, into a new run folder, and print a certificate of what came out the same.

    \b
    workbench replay runs/audit__scenes__tiny-clip__1a2b3c4d
    workbench replay runs/NAME -p dataset=folder:/data/photos     a manifest never says where files lie
    workbench replay runs/NAME --out elsewhere

    The certificate lists what the two runs declare differently (versions, hardware), then every layer from the items
    to the aggregate. The page is not drawn: `workbench report NAME -p run=FOLDER` draws it.

    Exit codes: 0 identical, 1 something differs (or the run failed), 2 bad input, or something that the run needs is
    neither stated nor given.
    """
    from workbench.evaluate.reproducibility.replay import replay as repeated

    pairs = [text.partition("=") for text in assignments]
    wrong = [name for name, equals, _ in pairs if not equals]
    if wrong:
        raise click.UsageError(f"{wrong[0]!r} has no '='; write it as name=value")
    found = repeated(
        run, out=out, given={name: value for name, _, value in pairs}, progress=False if quiet else None, say=say(quiet)
    )
    click.echo(f"{found.run.path}")
    for note in found.notes:
        click.echo(note, err=True)
    click.echo(f"{found.certificate}")
    click.echo(f"findings: {found.findings}")
    raise SystemExit(0 if found.certificate.identical else 1)
