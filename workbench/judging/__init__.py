"""Judge by eye, blind to system and rank: a sample of pairs, shown as thumbnails in a notebook, kept as qrels.

A pool is every unlabelled item that could change a metric; whole queries are drawn from it, stratified; a session shows
them and writes one file per judge; the file and the lists give the metric as complete labels would have it.
"""

from __future__ import annotations

from workbench.judging.believed import believed, estimates_by_judge
from workbench.judging.estimate import JudgedEstimate, NotCovered, estimate_from_judged
from workbench.judging.judged import Design, Entry, Judged, read_judged
from workbench.judging.pool import Plan, Pool, pool
from workbench.judging.reach import Reach, estimable, reach
from workbench.judging.session import JudgingSession

__all__ = [
    "Design", "Entry", "Judged", "JudgedEstimate", "JudgingSession", "NotCovered", "Plan", "Pool", "Reach",
    "believed", "estimable", "estimate_from_judged", "estimates_by_judge", "pool", "reach", "read_judged",
]  # fmt: skip
