"""Commands that write and read the formats of other tools."""

from __future__ import annotations

import click


@click.command("export")
@click.argument("paths", nargs=-1)
def export(paths: tuple[str, ...]) -> None:
    """Write a run in the format of another tool."""
    raise click.UsageError("is reserved for a later version")


@click.command("import")
@click.argument("paths", nargs=-1)
def import_(paths: tuple[str, ...]) -> None:
    """Read the results of another tool."""
    raise click.UsageError("is reserved for a later version")
