"""Copies and leaks, and what each is worth in points."""

from __future__ import annotations

from workbench.report.audit import AuditReport


class CopiesSection(AuditReport):
    """This part of the report; nothing is computed here."""
