"""The command that re-checks a run folder."""

from __future__ import annotations

import click


@click.command("verify")
@click.argument("paths", nargs=-1)
def verify(paths: tuple[str, ...]) -> None:
    """Re-check the hashes and numbers of a run."""
    raise click.UsageError("is reserved for a later version")
