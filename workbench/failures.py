"""Failures that leave something behind: they say what was being done and where what there was is kept."""

from __future__ import annotations

from pathlib import Path


class EvaluationFailed(RuntimeError):
    """A computation that stopped half-way: which stage, why, and where the partial run folder was kept."""

    def __init__(self, stage: str, folder: Path, error: Exception) -> None:
        super().__init__(f"stopped while {stage}: {type(error).__name__}: {error}\nwhat there was is kept in {folder}")
        self.stage, self.folder = stage, folder


class ReportFailed(RuntimeError):
    """The notebook stopped: what happened, and where it and the computed run are kept."""

    def __init__(self, message: str, folder: Path) -> None:
        super().__init__(message)
        self.folder = folder
