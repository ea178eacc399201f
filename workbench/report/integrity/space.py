"""The shape of the space: gap, alignment, and what closing the gap does to the ranking."""

from __future__ import annotations

from workbench.report.audit import AuditReport


class SpaceSection(AuditReport):
    """This part of the report; nothing is computed here."""
