"""Commands that write and read the formats of other tools."""

from __future__ import annotations

from pathlib import Path

import click

TARGETS = ["trec", "mteb", "clip-benchmark", "sentence-transformers", "parquet"]
_file = click.Path(path_type=Path)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace files of the same name; else they are kept.")


@click.command("export")
@click.argument("run", type=_file, metavar="RUN")
@click.option("--to", required=True, type=click.Choice(TARGETS), help="The format.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder; default: RUN-FORMAT in the current one."
)
@click.option(
    "--header", type=click.Choice(["top", "beside"]), default="top", show_default=True,
    help="trec: the ir_metadata as comments in the run, or in a file of its own for readers that know no comments.",
)  # fmt: skip
@overwrite_option
def export(run: Path, to: str, out: Path | None, header: str, overwrite: bool) -> None:
    """Write a finished run in the format of another tool; prints the files.

    \b
    workbench export runs/NAME --to trec                     run_t2i.trec with ir_metadata header, qrels_t2i.txt
    workbench export runs/NAME --to trec --header beside     for ir_measures and ranx, which read no comments
    workbench export runs/NAME --to mteb                     results/.../TASK.json (TaskResult), TASK_predictions.json
    workbench export runs/NAME --to clip-benchmark           one JSON for `clip_benchmark build`
    workbench export runs/NAME --to sentence-transformers    predictions (JSON lines) and results (CSV)
    workbench export runs/NAME --to parquet                  one row per query, and a page on its columns

    A metric is written only where both definitions are the same: recall@k of CLIP_benchmark is hit@k here,
    recall_at_k of mteb is R@k. What cannot be said in a format is said on stderr.
    Lists are as long as the run kept them: `-p depth=1000` when it is evaluated keeps more.
    """
    from workbench.runs import Run
    from workbench.runs.exchange import export_run

    written = export_run(Run(run), to, out or Path(f"{run.resolve().name}-{to}"), header=header, overwrite=overwrite)
    _show(written.notes)
    for path in written.paths:
        click.echo(f"{path}")


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=_file, metavar="FILE...")
@click.option("--qrels", type=_file, help="Judgements: TREC, BEIR, a table query, item, grade, or a run folder.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("imported"), show_default=True,
    help="Folder for the files.",
)  # fmt: skip
@click.option("--direction", metavar="A2B", default="", help="Of numbers whose file does not say it, such as t2i.")
@overwrite_option
def import_(files: tuple[Path, ...], qrels: Path | None, out: Path, direction: str, overwrite: bool) -> None:
    """Read the results of other tools; prints the command that audits them.

    \b
    workbench import Flickr30kT2IRetrieval_predictions.json --qrels qrels.tsv     mteb
    workbench import theirs.trec ours.run.gz --qrels qrels.txt --out both         TREC runs, one file per system
    workbench import Information-Retrieval_evaluation_predictions_cosine.jsonl    sentence-transformers
    workbench import results/*.json                                               TaskResults, CLIP_benchmark

    Ranked lists become NAME.trec and NAME.qrels.jsonl, which every diagnostic reads (dataset=run:NAME.trec). Files
    that hold only numbers become published.csv, for the table of `workbench compare`, where they stand unpaired.
    The content of a file says which format it is. Refused: an item twice in one list, a score that is no number.
    """
    from workbench.runs.exchange import import_files

    _check_direction(direction)
    written = import_files(files, out, qrels=qrels, direction=direction, overwrite=overwrite)
    _show(written.notes)
    for path in written.paths:
        click.echo(f"{path}", err=bool(written.commands))
    for command in written.commands:
        click.echo(command)


def _check_direction(direction: str) -> None:
    import re

    if direction and not re.fullmatch(r"[a-z]2[a-z]", direction):
        raise click.UsageError(f"--direction {direction!r}: write what is asked for what, such as t2i or i2t")


def _show(notes: tuple[str, ...]) -> None:
    for note in notes:
        click.echo(f"note: {note}", err=True)
