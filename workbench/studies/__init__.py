"""Papers as experiments that can fail: one module per paper, one rule for every verdict, one ledger of the answers.

A study is data and one function. Its module holds a :class:`Card` (what the paper says), :class:`Claim` objects (what
has to be larger than what, by how much, under which condition) and ``measure(seed, size)``, which returns the value of
every arm: the mechanism, its controls, its imitation. The verdict follows by the rule in
:mod:`workbench.studies.verdict`.

    studies/FAMILY/IDEA.py      card, claims, measure, STUDY = Study(...); listed in STUDIES below
    notebooks/studies/FAMILY    one section: mechanism, experiment, controls, verdict

The arithmetic of a paper lives in the part of the package it belongs to (``normalize``, ``metrics``, ``adapt`` and so
on), where it is useful without the study.
"""

from __future__ import annotations

from workbench.studies.composed import conditions
from workbench.studies.documents import answers, pages
from workbench.studies.hubness import dual_banks, levels
from workbench.studies.ledger import StudyResult, ledger, read_ledger, restored, run_studies, run_study
from workbench.studies.losses import one_to_k
from workbench.studies.measuring import exhaustive, forced_choice, seed_noise, views
from workbench.studies.study import SIZES, Arms, Card, Claim, Facts, Size, Study
from workbench.studies.verdict import Judged, Verdict, judge, with_fake

__all__ = [
    "SIZES", "STUDIES", "Arms", "Card", "Claim", "Facts", "Judged", "Size", "Study", "StudyResult", "Verdict", "judge",
    "ledger", "read_ledger", "restored", "run_studies", "run_study", "with_fake",
]  # fmt: skip

_MODULES = (dual_banks, seed_noise, exhaustive, levels, one_to_k, forced_choice, views, conditions, answers, pages)
STUDIES: dict[str, Study] = {one.STUDY.key: one.STUDY for one in sorted(_MODULES, key=lambda one: one.STUDY.key)}
