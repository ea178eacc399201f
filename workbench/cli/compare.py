"""Commands that set finished runs side by side, and say how a run is to be cited."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from workbench.cli.group import out_option, parameters_option, quiet, say

PATHS = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")


@click.command("compare")
@PATHS
@parameters_option
@click.option("--over", help="Draw the first metric of which more is better along this field, such as step.")
@click.option("--names", type=click.Choice(["workbench", "clip", "trec"]), help="How the tables print metrics.")
@click.option("--fail-on-policy", is_flag=True, help="Exit with 3 unless every requirement of the policy is met.")
@click.option("--no-page", is_flag=True, help="Compute and write the tables; draw no report.")
@out_option
@quiet
def compare(
    paths: tuple[Path, ...], assignments: Sequence[str], over: str | None, names: str | None, fail_on_policy: bool,
    no_page: bool, out: Path, quiet: bool,
) -> None:  # fmt: skip
    """Is the gain real? Hold finished runs against the first one, paired; prints the path of the report.

    \b
    workbench compare runs/BASELINE runs/NEW
    workbench compare runs/*__scenes__* -p baseline=tiny-clip -p 'metrics=["hit@1","MRR"]'
    workbench compare runs/step-* --over step                     and the point that validation chose
    workbench compare runs/A runs/B -p published=papers.csv --names clip
    workbench compare runs/NEW -p policy=release.json --fail-on-policy
    """
    from workbench import report as reports

    given = [("over", over), ("names", names), ("runs", json.dumps([str(path) for path in paths]))]
    chosen = [f"{name}={value}" for name, value in given if value is not None]
    parameters = reports.schema_of("compare").parse([*assignments, *chosen])
    if parameters["run"]:
        raise click.UsageError("run= draws a finished comparison: workbench report compare -p run=FOLDER")
    if fail_on_policy and not parameters["policy"]:
        raise click.UsageError("--fail-on-policy needs a policy: -p policy=FILE.json")
    if no_page:
        from workbench.evaluate.comparison import compare_into

        with compare_into(out, parameters, say=say(quiet)) as unfinished:
            folder = shown = unfinished.finish()
    else:
        written = reports.report("compare", parameters, out=out, progress=False if quiet else None, say=say(quiet))
        folder, shown = written.folder, written.page
    click.echo(f"{shown}")
    if fail_on_policy:
        _exit_by_policy(folder)


def _exit_by_policy(folder: Path) -> None:
    from workbench.runs import Run

    failed = [one for one in Run(folder).results["policy"] if one.answer != "met"]
    for one in failed:
        click.echo(f"{one.answer}: {one.system}: {one.requirement} ({one.requirement.reason})", err=True)
    if failed:
        sys.exit(3)


@click.command("cite")
@click.argument("path", type=click.Path(path_type=Path), metavar="RUN|STUDY")
def cite(path: Path) -> None:
    """Print how a run was measured, as a paragraph, and BibTeX of the methods that it used; or cite a studied paper.

    \b
    workbench cite runs/NAME
    workbench cite runs/NAME > measured.txt
    workbench cite S06
    """
    from workbench.report.cite import citation, study_citation
    from workbench.runs import Run
    from workbench.studies import STUDIES

    known = str(path) in STUDIES and not path.exists()
    click.echo(study_citation(str(path)) if known else citation(Run(path)))
