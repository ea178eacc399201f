"""What several runs say together: repetitions with other seeds, crossed factors, a metric along a field, selection."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from workbench.evaluate.comparison.same_test import Aligned, fields, identity
from workbench.runs import Run
from workbench.statistics import SeedSummary, best_of_reported, cluster_standard_error, paired_difference, seed_summary
from workbench.types import FloatArray

NUMBER = r"[-_ =.:]?(\d+(?:\.\d+)?)"


@dataclass(frozen=True)
class SeedGroup:
    """Runs of one system that differ in nothing but a seed, in one metric.

    values : of each seed. typical_best : what the best of as many new seeds reaches half of the time. optimism : how
    far the best of these seeds lies above their mean, which is what reporting the best one adds.
    """

    name: str
    metric: str
    systems: tuple[str, ...]
    seeds: tuple[str, ...]
    values: tuple[float, ...]
    sd: float
    best: float
    optimism: float
    typical_best: float
    summary: SeedSummary


@dataclass(frozen=True)
class GroupGain:
    """The difference of two systems with several seeds each: second minus first.

    welch_t, welch_df, welch_p : seeds alone, on these queries. low, high, p_value : seeds and queries together:
    se^2 = s_1^2 / n_1 + s_2^2 / n_2 + (clustered standard error of the difference of the queries' means)^2, Student's t
    with Satterthwaite's degrees of freedom. The noise of single queries is in both terms, so this is cautious.
    """

    first: str
    second: str
    metric: str
    difference: float
    low: float
    high: float
    p_value: float
    df: float
    welch_t: float
    welch_df: float
    welch_p: float


@dataclass(frozen=True)
class Factor:
    """What one field of the manifests, or several together, does to a metric in a crossed set of runs.

    name : the field, or fields joined by " x "; "rest" for what is left. levels, means : of a single field. share : of
    the variance between the runs. difference, low, high, p_value : best level minus worst, paired over the queries.
    """

    metric: str
    name: str
    levels: tuple[str, ...]
    means: tuple[float, ...]
    share: float
    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Course:
    """A metric along a field. x, labels, value, low, high : one entry per run, in the order of x.

    validation : what the validation data gave at each point, empty without any. chosen, best : places of the point that
    validation chose (-1: nothing is known) and of the best one on the test. optimism : best minus chosen, NaN without.
    """

    field: str
    metric: str
    x: tuple[float, ...]
    labels: tuple[str, ...]
    value: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    validation: tuple[float, ...]
    chosen: int
    best: int
    optimism: float


@dataclass(frozen=True)
class Selection:
    """What choosing the best of several runs on the very queries that are reported adds: :func:`selection_optimism`."""

    metric: str
    winner: str
    n_candidates: int
    gain: float
    optimism: float


def seed_of(run: Run, word: str) -> tuple[str, tuple[str, ...]]:
    """(the system without its seeds, the seeds), by fields whose name, or whose text, holds the word and a number.

    A field ``parameters.seed`` counts, and so does ``seed-3`` or ``seed3`` in the source of an encoder or data set.
    """
    pattern, seeds, rest = re.compile(rf"{re.escape(word)}{NUMBER}", re.IGNORECASE), [], []
    for name, value in identity(run).items():
        if word.lower() in name.rpartition(".")[2].lower():
            seeds.append(str(value))
            continue
        found = pattern.findall(str(value))
        seeds += found
        rest.append((name, pattern.sub("*", str(value)) if found else str(value)))
    return repr(rest), tuple(seeds)


def seed_names(runs: Sequence[Run], places: Sequence[int], word: str) -> tuple[str, ...]:
    """The seeds of some repetitions, of those fields in which they differ."""
    columns = zip(*(seed_of(runs[place], word)[1] for place in places), strict=True)
    return tuple(", ".join(row) for row in zip(*(each for each in columns if len(set(each)) > 1), strict=True))


def seed_groups(runs: Sequence[Run], labels: Sequence[str], word: str) -> dict[str, list[int]]:
    """Name of a system -> places of its runs, for systems with at least two runs that differ only by a seed."""
    keyed: dict[str, list[int]] = {}
    for place, run in enumerate(runs):
        keyed.setdefault(seed_of(run, word)[0], []).append(place)
    found = {}
    for places in keyed.values():
        if len({seed_of(runs[place], word)[1] for place in places}) == len(places) > 1:
            name = re.sub(rf"[-_ ,]*{re.escape(word)}{NUMBER}| #\d+$", "", labels[places[0]], flags=re.IGNORECASE)
            found[name.strip() if name.strip() not in found else f"{name} ({len(found) + 1})"] = places
    return found


def summarise_seeds(
    one: Aligned,
    metric: str,
    groups: Mapping[str, Sequence[int]],
    labels: Sequence[str],
    seeds: Mapping[str, tuple[str, ...]],
) -> list[SeedGroup]:
    """Each group of repetitions in one metric of which more is better."""
    return [
        _group(one, metric, name, places, tuple(labels[place] for place in places), seeds[name])
        for name, places in groups.items()
    ]


def _group(
    one: Aligned, metric: str, name: str, places: Sequence[int], labels: tuple[str, ...], seeds: tuple[str, ...]
) -> SeedGroup:
    values = one.values[metric][list(places)]
    means = np.nanmean(values, axis=1)
    sd, mean, best = float(means.std(ddof=1)), float(means.mean()), float(means.max())
    typical = best if sd == 0 else best_of_reported(mean, sd, len(means), best, best_of=len(means)).typical_best
    return SeedGroup(
        name, f"{one.direction}/{metric}", labels, seeds, tuple(means.tolist()), sd, best, best - mean, typical,
        seed_summary(values, one.clusters),
    )  # fmt: skip


def group_gain(
    one: Aligned, metric: str, first: tuple[str, Sequence[int]], second: tuple[str, Sequence[int]]
) -> GroupGain:
    """Two systems with several seeds each, held against each other: :class:`GroupGain`.

    B. L. Welch, "The generalization of 'Student's' problem", Biometrika 34, 1947,
    https://doi.org/10.1093/biomet/34.1-2.28.
    """
    tables = [one.values[metric][list(places)] for _, places in (first, second)]
    means = [np.nanmean(table, axis=1) for table in tables]
    parts = [float(each.var(ddof=1)) / len(each) for each in means]
    freedoms = [len(each) - 1 for each in means]
    difference = float(means[1].mean() - means[0].mean())
    queries = cluster_standard_error(tables[1].mean(axis=0) - tables[0].mean(axis=0), one.clusters) ** 2
    n_clusters = len(np.unique(one.clusters[~np.isnan(tables[0][0])]))
    t, df, p_seeds = _t(difference, parts, freedoms)
    _, df_all, p_all = _t(difference, [*parts, queries], [*freedoms, n_clusters - 1])
    half = float(stdtrit(df_all, 0.975) * np.sqrt(sum(parts) + queries)) if np.isfinite(df_all) else float("nan")
    return GroupGain(
        first[0], second[0], f"{one.direction}/{metric}", difference, difference - half, difference + half, p_all,
        df_all, t, df, p_seeds,
    )  # fmt: skip


def _t(difference: float, parts: Sequence[float], freedoms: Sequence[float]) -> tuple[float, float, float]:
    """Student's t of a difference with independent parts of its variance, Satterthwaite's df, two-sided p."""
    total = sum(parts)
    if not total > 0:
        return float("nan"), float("nan"), float("nan")
    df = total**2 / sum(part**2 / freedom for part, freedom in zip(parts, freedoms, strict=True))
    t = difference / np.sqrt(total)
    return float(t), float(df), float(2 * stdtr(df, -abs(t)))


def crossed_factors(runs: Sequence[Run], word: str) -> dict[str, list[str]]:
    """Field -> its level in each run, for two or more fields that vary in a crossed way; empty when there are none.

    Fields that vary together are one (the first named). A field that settles another one, such as a source that is
    different in every run, is left out. Crossed: every combination of levels occurs, and equally often.
    """
    known = [identity(run) for run in runs]
    patterns: dict[tuple[int, ...], str] = {}
    for name in dict.fromkeys(name for each in known for name in each):
        levels = [str(each.get(name, "")) for each in known]
        pattern = tuple(levels.index(level) for level in levels)
        if 1 < len(set(pattern)) and word.lower() not in name.lower():
            patterns.setdefault(pattern, name)
    kept: dict[str, tuple[int, ...]] = {}
    for pattern in sorted(patterns, key=lambda each: len(set(each))):
        if all(len(set(zip(pattern, other, strict=True))) > len(set(pattern)) for other in kept.values()):
            kept[patterns[pattern]] = pattern
    cells = list(zip(*kept.values(), strict=True))
    counts = {cells.count(cell) for cell in cells}
    whole = len(set(cells)) == np.prod([len(set(each)) for each in kept.values()])
    if len(kept) < 2 or not whole or len(counts) != 1:
        return {}
    return {name: [str(each.get(name, "")) for each in known] for name in kept}


def ablation(
    one: Aligned, metric: str, factors: Mapping[str, Sequence[str]], *, n_resamples: int, seed: int
) -> list[Factor]:
    """Shares of the variance between runs by factor, by their interactions, and by what is left (repetitions).

        share_A = n sum_a (mean_a - mean)^2 / SS_total,   an interaction: its cell means less all that is inside it

    R. A. Fisher, Statistical Methods for Research Workers, 1925, chapter 8. The factors are balanced
    (:func:`crossed_factors`), so the shares add up to one; they describe these runs and levels, not others.
    """
    values = one.values[metric]
    means, names = np.nanmean(values, axis=1), list(factors)
    total = float(((means - means.mean()) ** 2).sum())
    effects: dict[tuple[str, ...], FloatArray] = {(): np.full(len(means), means.mean())}
    for size in range(1, len(names) + 1):
        for chosen in itertools.combinations(names, size):
            inside = [effect for other, effect in effects.items() if set(other) < set(chosen)]
            effects[chosen] = _cell_means(means, [factors[name] for name in chosen]) - sum(inside)
    squares = {chosen: float((effect**2).sum()) for chosen, effect in effects.items() if chosen}
    key, found = f"{one.direction}/{metric}", []
    for chosen, square in squares.items():
        share = square / total if total > 0 else float("nan")
        name = " x ".join(part.rpartition(".")[2] for part in chosen)
        found.append(
            _main(one, metric, name, factors[chosen[0]], share, n_resamples=n_resamples, seed=seed)
            if len(chosen) == 1 else _unpaired(key, name, share)
        )  # fmt: skip
    rest = total - sum(squares.values())
    if len(set(zip(*factors.values(), strict=True))) < len(means):
        found.append(_unpaired(key, "rest", max(rest, 0.0) / total if total > 0 else float("nan")))
    return found


def _unpaired(metric: str, name: str, share: float) -> Factor:
    return Factor(metric, name, (), (), share, *[float("nan")] * 4)


def _cell_means(means: FloatArray, levels: Sequence[Sequence[str]]) -> FloatArray:
    cells = list(zip(*levels, strict=True))
    return np.array([means[[other == cell for other in cells]].mean() for cell in cells])


def _main(
    one: Aligned, metric: str, name: str, levels: Sequence[str], share: float, *, n_resamples: int, seed: int
) -> Factor:
    values, distinct = one.values[metric], list(dict.fromkeys(levels))
    by_level = [values[[level == each for each in levels]].mean(axis=0) for level in distinct]
    means = [float(np.nanmean(each)) for each in by_level]
    worst, best = int(np.argmin(means)), int(np.argmax(means))
    paired = paired_difference(by_level[worst], by_level[best], one.clusters, n_resamples=n_resamples, seed=seed)
    return Factor(
        f"{one.direction}/{metric}", name, tuple(distinct), tuple(means), share, paired.value, paired.low, paired.high,
        paired.p_value,
    )  # fmt: skip


def along(runs: Sequence[Run], field: str) -> tuple[str, list[str]]:
    """A field's full name and its value in each run, as text.

    field : a dotted name, the last part of one, or a word that stands before a number in the source of an encoder or
    data set (``step`` finds 1000 in ``open_clip:local-dir:ckpt/step-1000``). The number in a source also goes before
    a field of that last part that is the same in every run. ValueError for a run whose manifest lacks the field.
    """
    known = [fields(run) for run in runs]
    names = list(dict.fromkeys(name for each in known for name in each))
    ends = [name for name in names if name.rpartition(".")[2] == field]
    if field in names or len(ends) == 1:
        name = field if field in names else ends[0]
        lacking = [run.path.name for run, each in zip(runs, known, strict=True) if name not in each]
        if lacking:
            raise ValueError(f"{name} is not in the manifest of {', '.join(lacking)}; leave these runs out")
        given = [str(each[name]) for each in known]
        if field in names or len(set(given)) > 1:
            return name, given
    if len(ends) > 1:
        raise ValueError(f"over={field!r} is ambiguous: {', '.join(ends)}; give one of these dotted names")
    pattern = re.compile(rf"{re.escape(field)}{NUMBER}", re.IGNORECASE)
    for name in names:
        found = [pattern.search(str(each.get(name, ""))) for each in known]
        if all(found):
            return f"{field} in {name}", [one[1] for one in found if one]
    if ends:
        return ends[0], [str(each[ends[0]]) for each in known]
    near = difflib.get_close_matches(field, [*names, *(name.rpartition(".")[2] for name in names)], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    some = ", ".join(name for name in names if len({str(each.get(name)) for each in known}) > 1)
    raise ValueError(f"no field {field!r} in the manifests; {hint}these differ between the runs: {some or 'none'}")


def course(
    field: str, x: Sequence[str], metric: str, scores: Sequence[tuple[float, float, float]],
    validation: Sequence[float],
) -> Course:  # fmt: skip
    """A metric of which more is better along a field, runs in the order of the field.

    x : one text per run; numbers are ordered as such, other words by the alphabet and evenly spaced. scores :
    (value, low, high) per run. validation : a score per run, more is better, or empty. Of equal validation scores the
    first counts; of equal best points the one that validation chose.
    """
    try:
        at = [float(value) for value in x]
        if not np.isfinite(at).all():
            raise ValueError("not a place on an axis")
    except ValueError:
        words = sorted(set(x))
        at = [float(words.index(value)) for value in x]
    order = sorted(range(len(x)), key=lambda place: (at[place], place))
    value, low, high = (tuple(scores[place][part] for place in order) for part in range(3))
    tried = tuple(validation[place] for place in order) if len(validation) else ()
    chosen = int(np.argmax(tried)) if tried else -1
    best = chosen if tried and value[chosen] == max(value) else int(np.argmax(value))
    return Course(
        field, metric, tuple(at[place] for place in order), tuple(x[place] for place in order), value, low, high,
        tried, chosen, best, value[best] - value[chosen] if tried else float("nan"),
    )  # fmt: skip


def selection_optimism(
    values: FloatArray, clusters: np.ndarray, *, n_splits: int = 1000, seed: int = 0
) -> float:  # fmt: skip
    """How much higher the best of several systems looks because the queries that chose it also report it.

        optimism = mean over random halves (A, B) of the clusters [ m_A(w) - m_B(w) ] / sqrt(2),   w = argmax_k m_A(k)

    Halves vary sqrt(2) times as much as the whole, hence the factor; for systems that are equally good it is then the
    expected height of the best above the truth, and 0 where one system wins in every half. values (n_systems,
    n_queries), higher is better, NaN left out; clusters (n_queries,). NaN for fewer than four clusters or two systems.
    The idea of the two halves: R. Tibshirani & R. Tibshirani, "A bias correction for the minimum error rate in
    cross-validation", Annals of Applied Statistics 3, 2009, https://doi.org/10.1214/08-AOAS224.

    >>> selection_optimism(np.array([[1.0] * 20, [0.0] * 20]), np.arange(20))
    0.0
    """
    known = ~np.isnan(values).any(axis=0)
    codes = np.unique(clusters[known], return_inverse=True)[1].ravel()
    n_clusters = int(codes.max(initial=-1)) + 1
    if n_clusters < 4 or len(values) < 2:
        return float("nan")
    sums = np.stack([np.bincount(codes, row[known], n_clusters) for row in values], axis=1)
    sizes = np.bincount(codes, minlength=n_clusters).astype(np.float64)
    rng = np.random.default_rng(seed)
    first = (np.argsort(rng.random((n_splits, n_clusters)), axis=1) < n_clusters // 2).astype(np.float64)
    halves = [(half @ sums) / (half @ sizes)[:, None] for half in (first, 1 - first)]
    winners = halves[0].argmax(axis=1)
    apart = [np.take_along_axis(half, winners[:, None], axis=1)[:, 0] for half in halves]
    return float(np.mean(apart[0] - apart[1]) / np.sqrt(2))
