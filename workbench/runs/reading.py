"""Finished run folders, read lazily and validated on reading."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from workbench.codec import from_plain
from workbench.runs.formats import SCHEMA, read_parquet
from workbench.types import Finding


class Run:
    """A finished run folder, read lazily and validated on reading.

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

    def __repr__(self) -> str:
        return f"Run({self.path.name!r}, {len(self.metrics)} metrics, {len(self.findings)} findings)"

    def _json(self, name: str) -> dict[str, Any]:
        try:
            content = json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self.path.name} has no {name}: the run was not finished, or files were removed; evaluate again"
            ) from None
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

    @cached_property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """``"t2i/hit@1"`` -> value, low, high, worst, best, n, clusters."""
        return {name: entry for name, entry in self._json("metrics.json").items() if name != "schema"}

    @cached_property
    def findings(self) -> list[Finding]:
        try:
            return [
                Finding(**{**entry, "interval": None if entry["interval"] is None else tuple(entry["interval"])})
                for entry in self._json("findings.json")["findings"]
            ]
        except (KeyError, TypeError) as error:
            raise ValueError(f"{self.path.name}/findings.json is damaged ({error}); evaluate again") from error

    @cached_property
    def results(self) -> dict[str, Any]:
        """The results behind the report's pictures, restored as the dataclasses that computed them."""
        from workbench.evaluate import RESULT_TYPES

        return dict(from_plain(self._json("results.json")["results"], RESULT_TYPES))

    @cached_property
    def thumbnails(self) -> dict[str, bytes]:
        """Image id -> JPEG or PNG bytes, for the pictures that were kept."""
        path = self.path / "thumbnails.parquet"
        if not path.exists():
            return {}
        columns = read_parquet(path)
        return dict(zip(columns["id"], columns["picture"], strict=True))

    @cached_property
    def per_query(self) -> dict[str, Any]:
        return read_parquet(self.path / "per_query.parquet")

    def neighbours(self, direction: str) -> dict[str, Any]:
        """Columns query_id, item_id, rank, score of the kept lists."""
        return read_parquet(self.path / "layers" / f"neighbours_{direction}.parquet")
