"""Is the gain real? Finished runs held against a baseline on the same queries, into a run folder of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from workbench.diagnostics.finding_changes import compare_findings, findings_in_words
from workbench.evaluate.comparison import factors
from workbench.evaluate.comparison.examples import changed_queries
from workbench.evaluate.comparison.factors import Course, Factor, GroupGain, SeedGroup, Selection
from workbench.evaluate.comparison.policy import Judged, Requirement, judge, read_policy
from workbench.evaluate.comparison.published import PublishedRow, read_published
from workbench.evaluate.comparison.same_test import Aligned, System, aligned, baseline_of, fields, open_runs, systems
from workbench.evaluate.comparison.writing import comparison_name, write_comparison
from workbench.evaluate.scores import higher_is_better
from workbench.files import canonical_hash
from workbench.meter import Meter
from workbench.runs import Run, RunFolder
from workbench.statistics import RankSets, SeedSummary, cluster_bootstrap, holm, paired_difference, rank_sets
from workbench.threads import limited_threads

LEVEL = 0.05
FLIPS_PER_TEST = 200  # so that the smallest possible p, times the number of tests, is a tenth of LEVEL
VALIDATION = ("val", "valid", "validation", "dev")


@dataclass(frozen=True)
class SystemScore:
    """What one system reaches in one metric, as its own run says. Fractions, or ranks."""

    system: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    clusters: int


@dataclass(frozen=True)
class Gain:
    """One system against the baseline in one metric, on the same queries.

    difference : system minus baseline, in the metric's own sense (ranks fall when they get better). wins, losses :
    queries where the system is better, worse. p_holm : corrected over all comparisons of the report.
    minimum_detectable : the smallest true difference found in 80 % of repetitions at 5 %, before the correction.
    verdict : "gain", "loss", "not shown", or "identical" when no query differs.
    """

    system: str
    baseline: str
    metric: str
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float
    wins: int
    ties: int
    losses: int
    n: int
    n_clusters: int
    minimum_detectable: float
    verdict: str
    warnings: tuple[str, ...]


#: What a comparison keeps in results.json.
COMPARISON_TYPES: tuple[type, ...] = (
    Course, Factor, Gain, GroupGain, Judged, PublishedRow, RankSets, Requirement, SeedGroup, SeedSummary, Selection,
    System, SystemScore,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Compared:
    """All runs of a comparison, lined up for every analysis. validation : runs set aside, which only choose."""

    runs: tuple[Run, ...]
    systems: tuple[System, ...]
    baseline: int
    directions: tuple[Aligned, ...]
    validation: tuple[Run, ...]
    notes: tuple[str, ...]

    @property
    def labels(self) -> list[str]:
        return [one.label for one in self.systems]

    @property
    def candidates(self) -> list[int]:
        """The places of all runs but the baseline."""
        return [place for place in range(len(self.runs)) if place != self.baseline]

    def measured(self, *, rising: bool = False) -> list[tuple[Aligned, str]]:
        """Every direction with every metric; rising : only metrics of which more is better."""
        return [(one, name) for one in self.directions for name in one.values if not rising or higher_is_better(name)]


def compare_into(
    out: Path, parameters: Mapping[str, Any], *, say: Callable[[str], None] = lambda line: None
) -> RunFolder:  # fmt: skip
    """Compare the runs that ``parameters["runs"]`` names and write ``out/NAME.partial``; the caller renames it.

    parameters : those of ``notebooks/reports/compare.ipynb``, already checked. Errors before anything is written:
    folders that are no runs, runs of different tests, a metric, field, policy or table that does not fit them.
    """
    with limited_threads(), Meter() as meter:
        with meter.stage("reading the runs"):
            found = lined_up(parameters)
            say(f"{len(found.runs)} runs, {sum(len(one.ids) for one in found.directions):,} queries, paired")
            results = _inputs(found, parameters)
        folder = RunFolder(out, comparison_name(found, parameters), meter)
        try:
            with meter.stage("comparing"):
                say("differences, tests, places")
                results |= analyse_runs(found, parameters)
            with meter.stage("writing"):
                write_comparison(folder.path, found, results, parameters, meter)
        except BaseException as error:
            folder.__exit__(type(error), error, None)
            raise
    return folder


def lined_up(parameters: Mapping[str, Any]) -> Compared:
    """The runs on the same queries. Runs of a validation split, when others have another one, are set aside."""
    runs = open_runs(parameters["runs"])
    aside = [run for run in runs if run.manifest["parameters"].get("split") in VALIDATION]
    if len(aside) == len(runs):
        aside = []
    tested = [run for run in runs if run not in aside]
    named = systems(tested)
    directions, notes = aligned(tested, parameters["metrics"], common=parameters["common"])
    if aside:
        notes.append(f"{len(aside)} runs of a validation split choose; they are not compared.")
    place = baseline_of(named, parameters["baseline"])
    return Compared(tuple(tested), named, place, tuple(directions), tuple(aside), tuple(notes))


def analyse_runs(found: Compared, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that is computed from the lined-up runs, by name."""
    how = {"n_resamples": parameters["n_resamples"], "seed": parameters["seed"]}
    results: dict[str, Any] = {
        "scores": _scores(found, how),
        "gains": _gains(found, how),
        "places": _places(found, how),
        "selection": _selection(found, parameters["seed"]),
        **_repetitions(found, parameters["seed_word"]),
        "factors": _factors(found, parameters["seed_word"], how),
    }
    if parameters["over"] or parameters["validation"] or found.validation:
        results["courses"] = _courses(found, results["scores"], parameters)
    results |= changed_queries(found)
    results["certificates"] = _certificates(found)
    return results


def _inputs(found: Compared, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What comes from files beside the runs: read and checked before anything is written."""
    wanted = [f"{one.direction}/{name}" for one, name in found.measured()]
    rows, notes = read_published(parameters["published"], wanted) if parameters["published"] else ((), [])
    judged: tuple[Judged, ...] = ()
    if parameters["policy"]:
        which = found.candidates or [found.baseline]
        chosen, labels = [found.runs[place] for place in which], [found.labels[place] for place in which]
        how = {"n_resamples": parameters["n_resamples"], "seed": parameters["seed"]}
        judged = judge(chosen, labels, read_policy(parameters["policy"]), **how)
    if parameters["over"]:
        factors.along(found.runs, parameters["over"])
        if not _headlines(found):
            raise ValueError("over= draws a metric of which more is better; add hit@1 or MRR to metrics=")
    return {
        "systems": found.systems, "baseline": found.systems[found.baseline].label, "published": rows,
        "policy": judged, "notes": (*found.notes, *notes), "counts": found.runs[0].results.get("counts"),
    }  # fmt: skip


def _scores(found: Compared, how: Mapping[str, int]) -> tuple[SystemScore, ...]:
    return tuple(
        _score(found, place, one, name, how)
        for place in range(len(found.runs)) for one, name in found.measured()
    )  # fmt: skip


def _score(found: Compared, place: int, one: Aligned, name: str, how: Mapping[str, int]) -> SystemScore:
    key, label = f"{one.direction}/{name}", found.labels[place]
    if one.whole:
        entry = found.runs[place].metrics[key]
        known = [float("nan") if entry[part] is None else entry[part] for part in ("value", "low", "high")]
        return SystemScore(label, key, *known, entry["n"], entry["clusters"])
    mean = cluster_bootstrap(one.values[name][place], one.clusters, **how)
    return SystemScore(label, key, mean.value, mean.low, mean.high, mean.n, mean.n_clusters)


def _gains(found: Compared, how: Mapping[str, int]) -> tuple[Gain, ...]:
    """Every candidate against the baseline, with flips enough that the smallest p stays far below 5 % after Holm."""
    asked = [(place, one, name) for place in found.candidates for one, name in found.measured()]
    flips = {"n_permutations": max(9999, FLIPS_PER_TEST * len(asked))}
    raw = [_gain(found, place, one, name, {**how, **flips}) for place, one, name in asked]
    corrected = holm([one.p_value for one in raw])
    return tuple(_decided(replace(one, p_holm=float(p))) for one, p in zip(raw, corrected, strict=True))


def _gain(found: Compared, place: int, one: Aligned, name: str, how: Mapping[str, int]) -> Gain:
    mine, base = one.values[name][place], one.values[name][found.baseline]
    pair = paired_difference(base, mine, one.clusters, **how)
    better = (pair.wins, pair.losses) if higher_is_better(name) else (pair.losses, pair.wins)
    return Gain(
        found.labels[place], found.labels[found.baseline], f"{one.direction}/{name}", pair.value, pair.low, pair.high,
        pair.p_value, pair.p_value, better[0], pair.ties, better[1], pair.n, pair.n_clusters, pair.minimum_detectable,
        "", pair.warnings,
    )  # fmt: skip


def _decided(one: Gain) -> Gain:
    rises = one.difference > 0 if higher_is_better(one.metric.partition("/")[2]) else one.difference < 0
    if one.n and not one.wins and not one.losses:
        return replace(one, verdict="identical")
    shown = one.p_holm <= LEVEL
    return replace(one, verdict=("gain" if rises else "loss") if shown else "not shown")


def _places(found: Compared, how: Mapping[str, int]) -> dict[str, Any]:
    """Metric -> the places each system could hold; none for one run or one cluster."""
    places = {}
    for one, name in found.measured():
        known = one.clusters[~np.isnan(one.values[name][0])]
        if len(found.runs) > 1 and len(np.unique(known)) > 1:
            sign = 1 if higher_is_better(name) else -1
            places[f"{one.direction}/{name}"] = rank_sets(sign * one.values[name], one.clusters, **how)
    return places


def _selection(found: Compared, seed: int) -> tuple[Selection, ...]:
    """What choosing the best of two or more candidates by these queries adds, per direction, first metric."""
    chosen = []
    for one, name in _headlines(found):
        if len(found.candidates) > 1:
            values = one.values[name][found.candidates]
            optimism = factors.selection_optimism(values, one.clusters, seed=seed)
            means = np.nanmean(values, axis=1)
            gain = float(means.max() - np.nanmean(one.values[name][found.baseline]))
            winner = found.labels[found.candidates[int(np.argmax(means))]]
            chosen.append(Selection(f"{one.direction}/{name}", winner, len(values), gain, optimism))
    return tuple(chosen)


def _headlines(found: Compared) -> list[tuple[Aligned, str]]:
    """The first metric of which more is better, in each direction."""
    first: dict[str, tuple[Aligned, str]] = {}
    for one, name in found.measured(rising=True):
        first.setdefault(one.direction, (one, name))
    return list(first.values())


def _repetitions(found: Compared, word: str) -> dict[str, tuple[Any, ...]]:
    groups = factors.seed_groups(found.runs, found.labels, word)
    seeds = {name: factors.seed_names(found.runs, places, word) for name, places in groups.items()}
    summaries: list[SeedGroup] = []
    gains: list[GroupGain] = []
    home = next((name for name, places in groups.items() if found.baseline in places), None)
    for one, name in found.measured(rising=True) if groups else []:
        if len(np.unique(one.clusters[~np.isnan(one.values[name][0])])) > 1:
            summaries += factors.summarise_seeds(one, name, groups, found.labels, seeds)
            others = [other for other in groups if home is not None and other != home]
            gains += [factors.group_gain(one, name, (str(home), groups[home]), (other, groups[other]))
                      for other in others if home is not None]  # fmt: skip
    return {"seeds": tuple(summaries), "seed gains": tuple(gains)}


def _factors(found: Compared, word: str, how: Mapping[str, int]) -> tuple[Factor, ...]:
    crossed = factors.crossed_factors(found.runs, word)
    return tuple(
        effect for one, name in _headlines(found) if crossed
        for effect in factors.ablation(one, name, crossed, **how)
    )  # fmt: skip


def _courses(
    found: Compared, scores: Sequence[SystemScore], parameters: Mapping[str, Any]
) -> tuple[Course, ...]:  # fmt: skip
    field, x = factors.along(found.runs, parameters["over"]) if parameters["over"] else ("run", found.labels)
    courses = []
    for one, name in _headlines(found):
        key = f"{one.direction}/{name}"
        mine = [(each.value, each.low, each.high) for each in scores if each.metric == key]
        courses.append(factors.course(field, x, key, mine, _validated(found, key, parameters)))
    return tuple(courses)


def _validated(found: Compared, key: str, parameters: Mapping[str, Any]) -> list[float]:
    """The validation score of each run: from a field of its manifest, or from its twin on the validation split."""
    if parameters["validation"]:
        name, values = factors.along(found.runs, parameters["validation"])
        try:
            scores = [float(value) for value in values]
        except ValueError:
            scores = [float("nan")]
        if not np.isfinite(scores).all():
            raise ValueError(f"validation={name!r} must hold a number in every manifest; got {values}")
        return scores
    if not found.validation:
        return []
    over = parameters["over"]
    points = _points([*found.runs, *found.validation], over)
    tested, tried = points[: len(found.runs)], points[len(found.runs) :]
    if sorted(tested) != sorted(tried) or len(set(tested)) < len(tested):
        what = f"the same {over}" if over else "the same system (name the field that numbers them with over=)"
        raise ValueError(f"every run needs one twin with {what} on the validation split; got {tested} and {tried}")
    entries = [found.validation[tried.index(point)].metrics.get(key) for point in tested]
    if any(entry is None or entry["value"] is None for entry in entries):
        raise ValueError(f"the runs of the validation split lack {key}; evaluate them again with metrics=")
    return [float(entry["value"]) for entry in entries if entry]


def _points(runs: Sequence[Run], over: str) -> list[str]:
    if over:
        return factors.along(runs, over)[1]
    known = [{name: value for name, value in fields(run).items() if name.startswith("encoder.")} for run in runs]
    return [
        canonical_hash(each | {"encoder": run.manifest["parameters"]["encoder"]})
        for each, run in zip(known, runs, strict=True)
    ]


def _certificates(found: Compared) -> dict[str, Any]:
    """Which layer tells each run from the baseline first: label -> verdict and rows."""
    from workbench.runs import certify

    base, certificates = found.runs[found.baseline], {}
    for place in found.candidates:
        one = certify(base, found.runs[place])
        certificates[found.labels[place]] = {
            "verdict": one.verdict, "first": one.first_observed, "last": one.dies_out_after,
            "findings": findings_in_words(compare_findings(base.findings, found.runs[place].findings)),
        }  # fmt: skip
    return certificates
