"""What distorts the numbers. Each function returns a frozen result that can tabulate, plot and judge itself."""

from __future__ import annotations

from workbench.diagnostics.coverage import TextCoverage, text_coverage
from workbench.diagnostics.dimension import IntrinsicDimension, mle_dimension, two_nn
from workbench.diagnostics.duplicates import Duplicates, RepeatedCaptions, duplicates, repeated_captions
from workbench.diagnostics.gap import ModalityGap, modality_gap
from workbench.diagnostics.hub_causes import HubCauses, SharedWords, hub_causes, shared_words
from workbench.diagnostics.hubness import Hubness, hubness

__all__ = [
    "Duplicates",
    "HubCauses",
    "Hubness",
    "IntrinsicDimension",
    "ModalityGap",
    "RepeatedCaptions",
    "SharedWords",
    "TextCoverage",
    "duplicates",
    "hub_causes",
    "hubness",
    "mle_dimension",
    "modality_gap",
    "repeated_captions",
    "shared_words",
    "text_coverage",
    "two_nn",
]
