"""Missing positives: candidates, sharp bounds of every metric, and an estimate from a judged sample."""

from __future__ import annotations

from workbench.report.audit import AuditReport


class LabelsSection(AuditReport):
    """This part of the report; nothing is computed here."""
