"""What a manifest says of the machine and the software: versions, hardware, revision; no names and no places."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import workbench
from workbench.threads import thread_count

REPORTED_VERSIONS = (
    "numpy", "scipy", "scikit-learn", "torch", "torchvision", "open_clip_torch", "pillow", "matplotlib", "pandas",
    "pyarrow", "papermill", "nbconvert", "umap-learn",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in REPORTED_VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def hardware() -> dict[str, Any]:
    """System, cores, memory and threads in use."""
    import psutil

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "threads": thread_count(),
    }


def git_revision() -> str:
    """The revision of a checkout, with ``+changes`` when files differ from it; "not a checkout" in a wheel."""
    root = Path(workbench.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return "not a checkout"
    try:
        revision = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty=+changes", "--abbrev=40"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "git did not answer"
    return revision.stdout.strip()
