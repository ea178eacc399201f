"""What distorts the numbers. Each function returns a frozen result that can tabulate, plot and judge itself."""

from __future__ import annotations

from workbench.diagnostics.coverage import TextCoverage, text_coverage
from workbench.diagnostics.duplicates import Duplicates, RepeatedCaptions, duplicates, repeated_captions
from workbench.diagnostics.gap import ModalityGap, modality_gap
from workbench.diagnostics.hubness import Hubness, hubness

__all__ = [
    "Duplicates",
    "Hubness",
    "ModalityGap",
    "RepeatedCaptions",
    "TextCoverage",
    "duplicates",
    "hubness",
    "modality_gap",
    "repeated_captions",
    "text_coverage",
]
