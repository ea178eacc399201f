"""What the integrity notebook shows, beyond what the audit's report can."""

from __future__ import annotations

from workbench.report.integrity.consistency import ConsistencySection
from workbench.report.integrity.copies import CopiesSection
from workbench.report.integrity.label_sets import LabelSetsSection
from workbench.report.integrity.labels import LabelsSection
from workbench.report.integrity.space import SpaceSection


class IntegrityReport(LabelsSection, LabelSetsSection, CopiesSection, SpaceSection, ConsistencySection):
    """A finished run of the integrity report. It draws; nothing is computed here."""
