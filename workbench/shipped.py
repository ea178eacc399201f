"""Where the files that travel with the package lie: in an installed wheel, or in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def find(name: str) -> Path:
    """The path of a shipped file or folder such as ``"data/models/tiny-clip"`` or ``"notebooks/reports/audit.ipynb"``.

    An installed wheel keeps them in ``workbench/_shipped``; a checkout has them beside the package.
    """
    for root in (_PACKAGE / "_shipped", _PACKAGE.parent):
        if (root / name).exists():
            return root / name
    raise FileNotFoundError(
        f"{name!r} is missing from this installation of workbench; reinstall the package, or run `workbench doctor`"
    )
