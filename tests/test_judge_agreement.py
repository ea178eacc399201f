"""Agreement of judges: against scikit-learn, Krippendorff's published examples and a slow loop over all pairs."""

from __future__ import annotations

import math
from itertools import combinations, permutations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from workbench.datasets.qrels import Judgements
from workbench.diagnostics.judge_agreement import judge_agreement, krippendorff_alpha
from workbench.judging import Entry, Judged, believed, estimates_by_judge

NAN = np.nan


def slow_alpha(ratings: np.ndarray, level: str) -> float:
    """Observed over expected disagreement, judgement by judgement."""
    units = [[grade for grade in row if not np.isnan(grade)] for row in ratings]
    units = [unit for unit in units if len(unit) > 1]
    every = [grade for unit in units for grade in unit]

    def distance(first: float, second: float) -> float:
        if level == "nominal":
            return float(first != second)
        low, high = sorted((first, second))
        between = sum(low <= grade <= high for grade in every)
        return (between - (every.count(low) + every.count(high)) / 2) ** 2 if low != high else 0.0

    observed = sum(sum(distance(a, b) for a, b in permutations(unit, 2)) / (len(unit) - 1) for unit in units)
    expected = sum(distance(a, b) for a, b in permutations(every, 2)) / (len(every) - 1)
    return 1 - observed / expected if expected else NAN


def qrels(grades: np.ndarray, name: str, per_query: int = 5) -> Judgements:
    kept = np.flatnonzero(~np.isnan(grades))
    queries = tuple(f"q{row // per_query}" for row in kept)
    return Judgements(queries, tuple(f"i{row}" for row in kept), grades[kept], name)


def judged_by(n: int, error: float, seed: int, *, share: float = 0.4) -> dict[str, Judgements]:
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < share
    return {name: qrels((truth ^ (rng.random(n) < error)).astype(float), name) for name in "ab"}


def test_krippendorffs_published_examples() -> None:
    """K. Krippendorff, "Computing Krippendorff's alpha-reliability", 2011: binary data of two observers, 0.095."""
    two = [[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]]
    assert krippendorff_alpha(np.transpose(two)) == pytest.approx(0.095, abs=5e-4)


@pytest.mark.parametrize("level", ["nominal", "ordinal"])
@pytest.mark.parametrize("n_judges", [2, 3, 5])
def test_alpha_equals_a_slow_loop(level: str, n_judges: int) -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        ratings = rng.integers(0, 4, (30, 1)) + rng.integers(-1, 2, (30, n_judges)) * (rng.random((30, n_judges)) < 0.5)
        ratings = np.where(rng.random((30, n_judges)) < 0.25, NAN, ratings)
        assert krippendorff_alpha(ratings, level=level) == pytest.approx(slow_alpha(ratings, level), abs=1e-12)


def test_result_equals_the_parts() -> None:
    rng = np.random.default_rng(1)
    ratings = rng.integers(0, 3, (60, 1)) * np.ones((1, 3))
    ratings = np.where(rng.random(ratings.shape) < 0.2, rng.integers(0, 3, ratings.shape), ratings).astype(float)
    ratings[rng.random(ratings.shape) < 0.15] = NAN
    found = judge_agreement({name: qrels(ratings[:, column], name) for column, name in enumerate("abc")}, seed=0)
    kept = ratings[(~np.isnan(ratings)).sum(axis=1) > 1]
    assert found.n_pairs == len(kept)
    assert found.alpha_nominal[0] == pytest.approx(slow_alpha(ratings, "nominal"), abs=1e-12)
    assert found.alpha_ordinal[0] == pytest.approx(slow_alpha(ratings, "ordinal"), abs=1e-12)
    for (first, second), (_, _, value, low, high) in zip(combinations(range(3), 2), found.kappas, strict=True):
        both = ~np.isnan(ratings[:, [first, second]]).any(axis=1)
        assert value == pytest.approx(cohen_kappa_score(ratings[both, first], ratings[both, second]), abs=1e-12)
        assert low < value < high
    equal = [np.mean([a == b for a, b in combinations(row[~np.isnan(row)], 2)]) for row in kept]
    weights = (~np.isnan(kept)).sum(axis=1)
    assert found.agreement[0] == pytest.approx(np.average(equal, weights=weights), abs=1e-12)
    assert found.prevalence == pytest.approx([np.mean(column[~np.isnan(column)] > 0) for column in kept.T])
    differ = [row for row in kept if np.nanmin(row) < np.nanmax(row)]
    assert len(found.disagreements) == len(differ) == len(found.disagreement_table())


def test_intervals_are_those_of_redrawn_queries() -> None:
    judges = judged_by(300, 0.15, 3)
    found = judge_agreement(judges, n_resamples=2000, seed=0)
    first, second = (np.asarray(one.grades).reshape(60, 5) for one in judges.values())
    rng, drawn = np.random.default_rng(9), []
    for _ in range(400):
        rows = rng.integers(0, 60, 60)
        drawn.append(cohen_kappa_score(first[rows].ravel(), second[rows].ravel()))
    np.testing.assert_allclose(found.kappas[0][3:], np.quantile(drawn, [0.025, 0.975]), atol=0.025)


def test_one_grade_cannot_be_told_from_chance() -> None:
    same = qrels(np.zeros(20), "a")
    found = judge_agreement({"a": same, "b": same})
    assert found.agreement == (1.0, 1.0, 1.0)
    assert all(math.isnan(value) for value in (*found.alpha_nominal, *found.alpha_ordinal, found.kappas[0][2]))
    finding = found.findings()[0]
    assert finding.verdict == "not measurable"
    assert "all judgements are 0" in finding.advice
    assert "judges/alpha_nominal" not in found.flat()
    assert "<table" in found._repr_html_()


def test_one_pair_has_no_interval() -> None:
    one, other = (Judgements(("q",), ("i",), np.array([grade]), "a") for grade in (0.0, 1.0))
    found = judge_agreement({"a": one, "b": other})
    assert found.agreement[0] == 0
    assert found.alpha_nominal[0] == 0
    assert math.isnan(found.alpha_nominal[1])
    assert found.findings()[0].verdict == "not measurable"
    assert math.isnan(krippendorff_alpha([[1.0, NAN]]))


def test_too_little_to_compare_is_refused() -> None:
    one = qrels(np.ones(5), "a")
    with pytest.raises(ValueError, match="at least two judges"):
        judge_agreement({"a": one})
    with pytest.raises(ValueError, match="no pair was judged by two"):
        judge_agreement({"a": one, "b": Judgements(("x",), ("y",), np.ones(1), "b")})
    with pytest.raises(ValueError, match="level"):
        krippendorff_alpha([[1, 2]], level="ratio")  # type: ignore[arg-type]


def test_the_finding_fires_on_careless_judges_and_stays_quiet_on_careful_ones() -> None:
    def verdict(error: float, seed: int) -> str:
        return judge_agreement(judged_by(400, error, seed), n_resamples=300).findings()[0].verdict

    fires = sum(verdict(0.25, seed) == "problem" for seed in range(20))
    quiet = sum(verdict(0.01, seed) != "ok" for seed in range(20))
    words = f"problem for {fires} of 20 pairs of judges who err 25 % of the time, not ok for {quiet} of 20 who err 1 %"
    assert fires >= 19, words
    assert quiet <= 1, words


def test_how_far_the_metric_moves_with_the_judge() -> None:
    from test_judged_sample import World, pool

    from workbench.judging import Design, estimate_from_judged

    world = World(0.5, 21)
    made = pool(world.lists, world.labels, "hit@1", **world.ids)
    design = Design.of(made, seed=0, n_queries=120, controls=0.0, judge="a")
    strict = world.answers(made, made.drawn(120, seed=0), design)
    rng = np.random.default_rng(0)
    mild = [
        Entry(
            entry.query, {item: (0, float(grade > 0 or rng.random() < 0.2)) for item, (_, grade) in entry.pairs.items()}
        )
        for entry in strict.entries
    ]
    missing_some = Judged("b", tuple(mild[5:]), design)
    judges = {"strict": strict, "mild": missing_some}
    found = estimates_by_judge(world.lists, world.labels, judges, "hit@1", **world.ids)
    assert found["any judge"].value == found["mild"].value > found["strict"].value == found["all judges"].value
    assert {one.mean.n_seen for one in found.values()} == {115}
    alone = estimate_from_judged(world.lists, world.labels, missing_some, "hit@1", **world.ids)
    assert alone.interval == found["mild"].interval
    estimates = {name: (one.value, *one.interval) for name, one in found.items()}
    qrels_of = {name: one.judgements() for name, one in judges.items()}
    agreed = judge_agreement(qrels_of, estimates=estimates, metric="hit@1")
    assert agreed.movement == found["mild"].value - found["strict"].value > 0.02
    finding = agreed.findings()[1]
    assert finding.verdict == "look"
    assert "by mild" in finding.advice
    assert set(agreed.table().index) >= {"hit@1, mild", "hit@1, any judge"}
    same = dict.fromkeys(("strict", "again"), estimates["strict"])
    assert judge_agreement(qrels_of, estimates=same, metric="hit@1").findings()[1].verdict == "ok"


def test_judges_of_different_samples_are_not_mixed() -> None:
    one = Judged("a", (Entry("x", {"1": (0, 1.0)}),))
    with pytest.raises(ValueError, match="two judges or more"):
        believed({"a": one})
    with pytest.raises(ValueError, match="no query was judged by all"):
        believed({"a": one, "b": Judged("b", (Entry("y", {"1": (0, 1.0)}),))})
