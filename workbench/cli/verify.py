"""The command that re-checks a run folder."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("verify")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
def verify(runs: tuple[Path, ...]) -> None:
    """Is a run folder whole and unchanged, and do its numbers follow from what it keeps? One line per check.

    \b
    workbench verify runs/audit__scenes__tiny-clip__1a2b3c4d
    workbench verify runs/*          every run; the exit code says whether all are good

    \b
    ok   checked, and as it should be
    BAD  the file named there was changed, damaged, mixed up or is missing
    --   could not be checked, and why; `-p keep_embeddings=true` keeps the vectors, which lets all be checked

    Exit codes: 0 no check failed, 1 a check failed, 2 what was given is no run folder, or its manifest.json cannot be
    read. A check is no signature: who changes every file alike, digests included, makes another run.
    """
    unreadable = failed = 0
    for path in runs:
        try:
            failed += not _show(path)
        except (ValueError, OSError) as error:
            unreadable += 1
            click.echo(f"error: {error}", err=True)
    raise SystemExit(2 if unreadable else 1 if failed else 0)


def _show(path: Path) -> bool:
    """Print the checks of one run; whether none failed."""
    from workbench.runs.verify import verify as checked

    found = checked(path)
    click.echo(f"{path}")
    signs = {True: "ok ", False: "BAD", None: "-- "}
    for line in found.lines:
        click.echo(f"  {signs[line.ok]}  {line.name}: {line.text}")
    unchecked = f", {len(found.unchecked)} not checked" if found.unchecked else ""
    passed = len(found.lines) - len(found.failed) - len(found.unchecked)
    click.echo(f"  {'good' if found.ok else 'not good'}: {passed} checks passed, {len(found.failed)} failed{unchecked}")
    return found.ok
