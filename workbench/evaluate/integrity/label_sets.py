"""The same ranking under several sets of labels: each metric on the queries that all of them judge, paired.

S. Chun et al., "ECCV Caption", ECCV 2022, https://arxiv.org/abs/2204.03359, re-score 25 models so: the order of systems
survives another set under R@1 and changes under mAP@R.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.datasets.label_sets import OWN, LabelSet, label_sets
from workbench.evaluate.prepare import Direction, Prepared
from workbench.evaluate.ranking import Ranked
from workbench.files import scrubbed
from workbench.metrics import METRICS, parse_metric, per_query_all
from workbench.search import RankPositives, scan
from workbench.search.restrict import pair_keys
from workbench.statistics import cluster_bootstrap, holm, paired_difference
from workbench.types import Embeddings, Finding, Ranks, Relevance

if TYPE_CHECKING:
    import pandas as pd

ALWAYS = ("hit@1", "R@10", "mAP@R", "R-precision")
LEVEL = 0.95
FLIPS = 9999
SOURCE = "no difference, Holm over all metrics and sets of this direction"
Values = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class LabelScore:
    """One metric of one direction under one set of labels.

    value, low, high, n : on the n queries for which this set knows a right item. common, ... : on the n_common queries
    for which every set does. difference, ... : common minus that of the first set, paired; NaN for the first set.
    p_holm : of the difference, corrected over all metrics and sets of the direction.
    """

    direction: str
    labels: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    common: float
    common_low: float
    common_high: float
    n_common: int
    difference: float
    difference_low: float
    difference_high: float
    p_holm: float

    @property
    def differs(self) -> bool:
        """Whether the interval is clear of zero, and stays so with every metric and set counted."""
        return self.p_holm < 1 - LEVEL and (self.difference_low > 0 or self.difference_high < 0)


@dataclass(frozen=True)
class LabelCounts:
    """How much one set judges in one direction. n_scored : queries with a right item; the other queries of n_queries
    are left out under this set. n_denied : pairs that the set judges not relevant."""

    direction: str
    labels: str
    n_queries: int
    n_scored: int
    n_positives: int
    n_denied: int
    mean: float
    median: float
    most: int


@dataclass(frozen=True)
class LabelOverlap:
    """The right pairs of two sets, of the n_queries for which both know a right item.

    n_first, n_second, n_both : right pairs of each, and of both. n_denied : right in the first set and judged not
    relevant in the second; what is not denied is merely not listed. n_denied_by_first : the other way round.
    """

    direction: str
    first: str
    second: str
    n_queries: int
    n_first: int
    n_second: int
    n_both: int
    n_denied: int
    n_denied_by_first: int

    @property
    def jaccard(self) -> float:
        """Pairs that are right in both, of those that are right in either; NaN without a query."""
        either = self.n_first + self.n_second - self.n_both
        return self.n_both / either if either else float("nan")


@dataclass(frozen=True)
class LabelSets:
    """One ranking under several sets of labels."""

    scores: tuple[LabelScore, ...]
    counts: tuple[LabelCounts, ...]
    overlaps: tuple[LabelOverlap, ...]
    notes: tuple[str, ...] = ()

    def of(self, direction: str) -> tuple[LabelScore, ...]:
        """The scores of one direction, metric by metric."""
        return tuple(one for one in self.scores if one.direction == direction)

    def table(self) -> pd.DataFrame:
        import pandas as pd

        columns = list(LabelScore.__dataclass_fields__)
        rows = [asdict(one) for one in self.scores]
        return pd.DataFrame(rows, columns=columns).set_index(["direction", "metric", "labels"])

    def plot(self, ax: Any = None) -> Any:
        from workbench.plots.label_sets import label_scores

        return label_scores(self.of(self.scores[0].direction), ax)

    def flat(self) -> dict[str, float]:
        return {f"{one.direction}/{one.metric} ({one.labels})": one.value for one in self.scores}

    def findings(self) -> list[Finding]:
        """One per direction: whether any metric depends on whose labels are used."""
        directions = dict.fromkeys(one.direction for one in self.counts)
        return [_finding(name, self.of(name), self._n_sets(name)) for name in directions]

    def _n_sets(self, direction: str) -> int:
        return sum(one.direction == direction for one in self.counts)

    def _repr_html_(self) -> str:
        return str(self.table().round(4).to_html())


TYPES: tuple[type, ...] = (LabelScore, LabelCounts, LabelOverlap, LabelSets)


def gather(prepared: Prepared, parameters: Mapping[str, Any]) -> tuple[LabelSet, ...]:
    """The label files, matched by ids before anything is withheld; with share=no-content the sets are only numbered."""
    sets = label_sets(parameters["labels"], prepared.collection)
    if parameters["share"] != "no-content":
        return tuple(replace(one, name=scrubbed(one.name), notes=tuple(map(scrubbed, one.notes))) for one in sets)
    return tuple(replace(one, name=f"labels {place}", notes=()) for place, one in enumerate(sets, 1))


def analyse(prepared: Prepared, ranked: tuple[Ranked, ...], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """``{"label sets": LabelSets}``, or nothing where no labels are brought.

    parameters["label files"] : what :func:`gather` read before anything was withheld; read here without.
    """
    if not parameters["labels"]:
        return {}
    sets = parameters["label files"] if "label files" in parameters else gather(prepared, parameters)
    how = {"seed": parameters["seed"], "n_resamples": parameters["n_resamples"]}
    found = compare_labels(ranked, sets, parameters["metrics"], memory=parameters["memory_mb"] * 2**20, **how)
    return {"label sets": found}


def compare_labels(
    ranked: Sequence[Ranked], sets: Sequence[LabelSet], metrics: Sequence[str], *, n_resamples: int = 1000,
    seed: int = 0, memory: int = 256 * 2**20,
) -> LabelSets:  # fmt: skip
    """Score one ranking under the labels of the data and under each further set, and compare them pairwise.

    ranked : one or two directions, text to image first. metrics : names; hit@1, R@10, mAP@R and R-precision are added.
    Metrics that are no means of shares (MedR, MeanR) and cutoffs beyond the gallery are left out with a note. One scan
    ranks the positives of all sets. Where the data know nothing to be right, the first of ``sets`` is the first set.
    """
    called = [OWN, *(one.name for one in sets)]
    if len(set(called)) < len(called):
        raise ValueError(f"every set of labels needs a name of its own, other than {OWN!r}; got {called[1:]}")
    names, notes = _names(metrics, min(len(one.direction.gallery) for one in ranked))
    notes += [f"{one.name}: {note}" for one in sets for note in one.notes]
    judged = [_judged(one.direction, place, sets) for place, one in enumerate(ranked)]
    ranks = _ranks(ranked, judged, memory)
    scores: list[LabelScore] = []
    for one, placed in zip(ranked, ranks, strict=True):
        values = {who: _values(names, found) for who, found in placed.items()}
        scores += _scores(one.direction, values, n_resamples, seed)
    for one, under in zip(ranked, judged, strict=True):
        silent = [found.name for found in sets if found.name not in under]
        notes += [f"{who} knows nothing to be right in {one.direction.name}." for who in silent]
    counts = [
        _counts(one.direction.name, who, relevance)
        for one, under in zip(ranked, judged, strict=True) for who, relevance in under.items()
    ]  # fmt: skip
    overlaps = [
        _overlap(one.direction.name, first, second)
        for one, under in zip(ranked, judged, strict=True) for first, second in combinations(under.items(), 2)
    ]  # fmt: skip
    return LabelSets(tuple(scores), tuple(counts), tuple(overlaps), tuple(dict.fromkeys(notes)))


def _names(metrics: Sequence[str], n_gallery: int) -> tuple[list[str], list[str]]:
    """The metrics that can be compared, and a sentence for each that cannot."""
    kept, notes = [], []
    for metric in dict.fromkeys(map(parse_metric, (*metrics, *ALWAYS))):
        if METRICS[metric.name].lower_is_better:
            notes.append(f"{metric} is left out: only means of shares are compared.")
        elif metric.k is not None and metric.k > n_gallery:
            notes.append(f"{metric} is left out: a gallery has only {n_gallery:,} items.")
        else:
            kept.append(str(metric))
    return kept, notes


def _judged(direction: Direction, place: int, sets: Sequence[LabelSet]) -> dict[str, Relevance]:
    """Name -> relevance, of the sets that know something to be right in the direction; those of the data first."""
    given = {OWN: direction.relevance} | {one.name: (one.forward, one.backward)[place] for one in sets}
    return {name: relevance for name, relevance in given.items() if relevance is not None and relevance.n_positives}


def _ranks(ranked: Sequence[Ranked], judged: Sequence[Mapping[str, Relevance]], memory: int) -> list[dict[str, Ranks]]:
    found: list[dict[str, Ranks]] = [
        {OWN: one.ranks} if OWN in under else {} for one, under in zip(ranked, judged, strict=True)
    ]
    wanted = [(place, name) for place, under in enumerate(judged) for name in under if name != OWN]
    if not wanted:
        return found
    consumers = [RankPositives(judged[place][name], of=("queries", "gallery")[place]) for place, name in wanted]
    queries, gallery = ranked[0].direction.queries, ranked[0].direction.gallery
    if not isinstance(queries, Embeddings) or not isinstance(gallery, Embeddings):
        raise ValueError(
            "other labels are scored on vectors, and these data are ranked lists; give the labels as qrels"
        )
    for (place, name), ranks in zip(
        wanted, scan(queries.vectors, gallery.vectors, consumers, memory=memory), strict=True
    ):
        found[place][name] = ranks
    return found


def _values(names: Sequence[str], ranks: Ranks) -> dict[str, np.ndarray]:
    return {name: found.expected for name, found in per_query_all(names, ranks).items()}


def _scores(direction: Direction, values: Mapping[str, Values], n_resamples: int, seed: int) -> list[LabelScore]:
    """Every metric under every set, metric by metric; p-values corrected over all of them."""
    if not values:
        return []
    how: dict[str, Any] = {"level": LEVEL, "n_resamples": n_resamples, "seed": seed}
    metrics = list(next(iter(values.values())))
    rows = [
        _score(direction, metric, who, [under[metric] for under in values.values()], place, how)
        for metric in metrics for place, who in enumerate(values)
    ]  # fmt: skip
    tested = [place for place, row in enumerate(rows) if np.isfinite(row["p_holm"])]
    if tested:
        for place, p in zip(tested, holm([rows[place]["p_holm"] for place in tested]), strict=True):
            rows[place]["p_holm"] = float(p)
    return [LabelScore(**row) for row in rows]


def _score(
    direction: Direction, metric: str, who: str, values: Sequence[np.ndarray], place: int, how: Mapping[str, Any]
) -> dict[str, Any]:
    everywhere = np.isfinite(np.stack(values)).all(axis=0)
    first, mine = (np.where(everywhere, part, np.nan) for part in (values[0], values[place]))
    own = cluster_bootstrap(values[place], direction.clusters, **how)
    common = cluster_bootstrap(mine, direction.clusters, **how)
    gap, p = (np.nan,) * 3, np.nan
    if place and everywhere.any():
        paired = paired_difference(first, mine, direction.clusters, n_permutations=FLIPS, **how)
        gap, p = (paired.value, paired.low, paired.high), paired.p_value
    return {
        "direction": direction.name, "labels": who, "metric": metric,
        "value": own.value, "low": own.low, "high": own.high, "n": own.n,
        "common": common.value, "common_low": common.low, "common_high": common.high, "n_common": common.n,
        "difference": gap[0], "difference_low": gap[1], "difference_high": gap[2], "p_holm": p,
    }  # fmt: skip


def _counts(direction: str, name: str, relevance: Relevance) -> LabelCounts:
    positives = relevance.positives_per_query
    scored = positives[positives > 0]
    return LabelCounts(
        direction, name, relevance.n_queries, len(scored), int(scored.sum()),
        len(relevance.items) - relevance.n_positives, float(scored.mean()), float(np.median(scored)), int(scored.max()),
    )  # fmt: skip


def _overlap(direction: str, one: tuple[str, Relevance], other: tuple[str, Relevance]) -> LabelOverlap:
    (first, mine), (second, theirs) = one, other
    both = (mine.positives_per_query > 0) & (theirs.positives_per_query > 0)
    (right, wrong), (also_right, also_wrong) = (_pairs(relevance, both) for relevance in (mine, theirs))
    return LabelOverlap(
        direction, first, second, int(both.sum()), len(right), len(also_right), len(np.intersect1d(right, also_right)),
        len(np.intersect1d(right, also_wrong)), len(np.intersect1d(wrong, also_right)),
    )  # fmt: skip


def _pairs(relevance: Relevance, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys of the right pairs and of those judged not relevant, of some queries."""
    keys, asked = pair_keys(relevance.queries, relevance.items), queries[relevance.queries]
    return keys[asked & (relevance.grades > 0)], keys[asked & (relevance.grades <= 0)]


def _finding(direction: str, scores: Sequence[LabelScore], n_sets: int) -> Finding:
    name, compared = f"{direction}/labels/sets", [one for one in scores if np.isfinite(one.difference)]
    known = [one for one in compared if np.isfinite(one.difference_low)]
    if not known:
        return Finding(name, None, None, 0.0, SOURCE, "not measurable", _why_not(compared, n_sets))
    differing = [one for one in known if one.differs]
    said = max(differing or known, key=lambda one: abs(one.difference))
    first = next(one for one in scores if one.metric == said.metric)
    values = (
        f"{said.metric} is {first.common:.1%} under {first.labels} and {said.common:.1%} under {said.labels}, on the "
        f"same {said.n_common:,} queries"
    )
    interval = (said.difference_low, said.difference_high)
    if not differing:
        advice = f"Whose labels are used was not seen to matter here; the largest difference: {values}."
        return Finding(name, said.difference, interval, 0.0, SOURCE, "ok", advice, "points")
    advice = (
        f"{values}; {len(differing)} of {len(known)} comparisons differ. Say whose labels a number is under, and "
        "compare it only with numbers under the same."
    )
    return Finding(name, said.difference, interval, 0.0, SOURCE, "look", advice, "points")


def _why_not(compared: Sequence[LabelScore], n_sets: int) -> str:
    if n_sets < 2:
        return "Only one set of labels knows a right item in this direction: bring a file that judges it."
    if compared:
        return "All queries that every set judges belong to one image: how much a difference would vary is unknown."
    return "No query has a right item in every set: bring the sets one at a time."
