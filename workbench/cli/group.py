"""The command group and the options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


class Group(click.Group):
    """Suggests the nearest command, and turns bad input into exit code 2 with its message."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        import difflib

        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in self.commands:
            near = difflib.get_close_matches(name, self.commands, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "see `workbench --help`"
            raise click.UsageError(f"no command {name!r}; {hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        from workbench.failures import EvaluationFailed, ReportFailed, terminate_politely
        from workbench.threads import limited_threads

        try:
            with terminate_politely(), limited_threads():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)
        except (EvaluationFailed, ReportFailed) as error:
            click.echo(f"failed: {error}", err=True)
            ctx.exit(1)
        except (ValueError, TypeError, OSError) as error:
            click.echo(f"error: {_message(error)}", err=True)
            ctx.exit(2)


def _message(error: Exception) -> str:
    """Our own words; the system's, such as on a folder that may not be written, with what to look at."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror.lower()}; check the path, its permissions and the space on the disk"
    return str(error)


def parameters_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "-p", "--parameter", "assignments", multiple=True, metavar="NAME=VALUE",
        help="A parameter of the notebook; repeat for more. `workbench list parameters` shows them all.",
    )(command)  # fmt: skip


def out_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("runs"), show_default=True,
        help="Folder in which the run folder is made.",
    )(command)  # fmt: skip


fail_on = click.option(
    "--fail-on", type=click.Choice(["look", "problem"]), help="Exit with 3 when a finding is at least this bad."
)
dry_run = click.option("--dry-run", is_flag=True, help="Check everything, encode two batches, say what it would cost.")
quiet = click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")


def say(quiet: bool) -> Callable[[str], None]:
    """Receives lines of progress: shows them on stderr, or not."""
    return (lambda line: None) if quiet else (lambda line: click.echo(line, err=True))
