"""Figures as files for papers."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def pdf(fig: Figure) -> bytes:
    """The figure as PDF bytes with its TrueType fonts embedded, the same bytes for the same figure: no date, no tool.

    >>> from workbench.plots import figure
    >>> content = pdf(figure()[0])
    >>> content[:5], b"CreationDate" in content
    (b'%PDF-', False)
    """
    import matplotlib

    file = io.BytesIO()
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        fig.savefig(file, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return file.getvalue()
