"""Commands that set finished runs side by side."""

from __future__ import annotations

import click


@click.command("compare")
@click.argument("paths", nargs=-1)
def compare(paths: tuple[str, ...]) -> None:
    """Compare finished runs, paired."""
    raise click.UsageError("is reserved for a later version")


@click.command("cite")
@click.argument("paths", nargs=-1)
def cite(paths: tuple[str, ...]) -> None:
    """BibTeX and a paragraph on how a run was measured."""
    raise click.UsageError("is reserved for a later version")
