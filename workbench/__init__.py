"""An audit bench for multimodal retrieval: what the numbers are, how sure they are, what distorts them.

Importing the package imports nothing heavy; parts are loaded when they are first used (``workbench.report.start``).
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
_PARTS = (
    "adapt", "datasets", "diagnostics", "encoders", "evaluate", "metrics", "normalize", "plots", "report", "runs",
    "search", "statistics", "types",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return importlib.import_module(f"workbench.{name}")
    raise AttributeError(f"module 'workbench' has no attribute {name!r}; its parts are {', '.join(_PARTS)}")


def __dir__() -> list[str]:
    return [*globals(), *_PARTS]
