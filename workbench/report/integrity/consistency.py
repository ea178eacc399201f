"""Whether queries that ask for the same image agree: languages, paraphrases, templates."""

from __future__ import annotations

from workbench.report.audit import AuditReport


class ConsistencySection(AuditReport):
    """This part of the report; nothing is computed here."""
