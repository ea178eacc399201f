"""The command that repeats a run from its manifest."""

from __future__ import annotations

import click


@click.command("replay")
@click.argument("paths", nargs=-1)
def replay(paths: tuple[str, ...]) -> None:
    """Repeat a run from its manifest."""
    raise click.UsageError("is reserved for a later version")
