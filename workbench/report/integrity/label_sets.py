"""The same ranking under several sets of labels."""

from __future__ import annotations

from workbench.report.audit import AuditReport


class LabelSetsSection(AuditReport):
    """This part of the report; nothing is computed here."""
