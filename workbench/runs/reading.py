"""Finished run folders, read lazily and validated on reading."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from workbench.codec import from_plain
from workbench.runs.formats import SCHEMA, read_parquet
from workbench.runs.schema import (
    check_columns,
    check_embeddings,
    check_findings,
    check_manifest,
    check_metrics,
    check_texts,
    inside,
    parse_json,
)  # fmt: skip
from workbench.types import Finding


class Run:
    """A finished run folder, read lazily and validated on reading.

    Each file is checked when it is first asked for: its schema version, its keys or columns, their types, and numbers
    where numbers must be. FileNotFoundError or ValueError name the file, what came and what was expected. Nothing
    outside of the folder is read, not even through a link in it.

    >>> Run("no-such-folder")
    Traceback (most recent call last):
    FileNotFoundError: no-such-folder is no run folder (it has no manifest.json); give one that ...
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / "manifest.json").is_file():
            stopped = "; it is that of a run that stopped: failure.json there says why"
            raise FileNotFoundError(
                f"{self.path} is no run folder (it has no manifest.json); give one that `workbench evaluate` wrote"
                + stopped * (self.path / "failure.json").is_file()
            )
        self.manifest = self._json("manifest.json")
        check_manifest(self.manifest, f"{self.path.name}/manifest.json")

    def __repr__(self) -> str:
        return f"Run({self.path.name!r}, {len(self.metrics)} metrics, {len(self.findings)} findings)"

    @property
    def report(self) -> str:
        """Which report the run is of: "audit", "hubness", ..."""
        return str(self.manifest.get("report", "audit"))

    def _json(self, name: str) -> dict[str, Any]:
        try:
            content = parse_json(inside(self.path, name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise self._missing(name) from None
        except ValueError as error:
            raise ValueError(f"{self.path.name}/{name} is damaged ({error}); evaluate again") from error
        if not isinstance(content, dict):
            raise ValueError(f"{self.path.name}/{name} is damaged (no JSON object); evaluate again")
        if content.get("schema") != SCHEMA:
            raise ValueError(
                f"{self.path.name}/{name} has schema {content.get('schema')!r}, this version reads {SCHEMA}; "
                "draw it with the version of workbench named in its manifest.json"
            )
        return dict(content)

    def _missing(self, name: str) -> FileNotFoundError:
        return FileNotFoundError(
            f"{self.path.name} has no {name}: the run was not finished, or files were removed; evaluate again"
        )

    def columns(self, name: str, *, like: str = "") -> dict[str, Any]:
        """The columns of a table of the folder by its name in it, held against the schema of that table."""
        import pyarrow
        import pyarrow.parquet

        path, shown = inside(self.path, name), f"{self.path.name}/{name}"
        try:
            found = pyarrow.parquet.read_schema(path)
            check_columns(found, like or name, shown, report=self.report)
            columns = read_parquet(path)
        except FileNotFoundError:
            raise self._missing(name) from None
        except (OSError, pyarrow.ArrowException) as error:
            raise ValueError(f"{shown} is damaged ({error}); evaluate again") from error
        check_texts(columns, like or name, shown)
        return columns

    @cached_property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """``"t2i/hit@1"`` -> value, low, high, worst, best, n, clusters."""
        content = self._json("metrics.json")
        check_metrics(content, f"{self.path.name}/metrics.json", report=self.report)
        return {name: entry for name, entry in content.items() if name != "schema"}

    @cached_property
    def findings(self) -> list[Finding]:
        content, shown = self._json("findings.json"), f"{self.path.name}/findings.json"
        check_findings(content, shown)
        try:
            return [
                Finding(**{**entry, "interval": None if entry["interval"] is None else tuple(entry["interval"])})
                for entry in content["findings"]
            ]
        except (TypeError, ValueError) as error:
            raise ValueError(f"{shown} is damaged ({error}); evaluate again") from error

    @cached_property
    def results(self) -> dict[str, Any]:
        """The results behind the report's pictures, restored as the dataclasses that computed them."""
        from workbench.evaluate import RESULT_TYPES

        return dict(from_plain(self._results, RESULT_TYPES))

    @cached_property
    def _results(self) -> dict[str, Any]:
        found = self._json("results.json").get("results")
        if not isinstance(found, dict):
            raise ValueError(f"{self.path.name}/results.json is damaged (no 'results' object); evaluate again")
        return found

    @cached_property
    def thumbnails(self) -> dict[str, bytes]:
        """Image id -> JPEG or PNG bytes, for the pictures that were kept."""
        if not (self.path / "thumbnails.parquet").exists():
            return {}
        columns = self.columns("thumbnails.parquet")
        return dict(zip(columns["id"], columns["picture"], strict=True))

    @cached_property
    def per_query(self) -> dict[str, Any]:
        return self.columns("per_query.parquet")

    @cached_property
    def items(self) -> dict[str, Any]:
        """Columns modality, id, content_sha256, input_sha256 of everything that was searched or asked."""
        return self.columns("layers/items.parquet")

    @cached_property
    def relevance(self) -> dict[str, Any]:
        """Columns query_id, item_id, grade of the judged pairs; FileNotFoundError in folders of older versions."""
        return self.columns("layers/relevance.parquet")

    @cached_property
    def embeddings(self) -> dict[str, dict[str, Any]]:
        """Modality -> sha256, n, dim and dtype of its vectors; empty where only ranked lists are known."""
        content = self._json("layers/embeddings.json")
        check_embeddings(content, f"{self.path.name}/layers/embeddings.json")
        return {name: entry for name, entry in content.items() if name not in ("schema", "encoder")}

    def neighbours(self, direction: str) -> dict[str, Any]:
        """Columns query_id, item_id, rank, score of the kept lists."""
        return self.columns(f"layers/neighbours_{direction}.parquet", like="layers/neighbours_*.parquet")
