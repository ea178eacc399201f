"""A metric under complete labels from judged queries: against planted truth, loops and exact distributions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from workbench.judging import Entry, Judged, JudgedEstimate, NotCovered, estimable, estimate_from_judged, pool, reach
from workbench.judging.estimate import POINTS
from workbench.judging.judged import Design
from workbench.metrics import per_query, ranks_from_lists
from workbench.statistics import judgements_for, stratified_mean, stratified_order
from workbench.types import RankedLists, Relevance

N_QUERIES, N_GALLERY, DEPTH = 320, 140, 12
METRICS = ("hit@10", "hit@1", "P@10", "RR@10")


class World:
    """Complete truth, labels that hide a share of it (each query keeps its own item), and one system's lists."""

    def __init__(self, hidden: float, seed: int, *, strength: float = 2.0, n_queries: int = N_QUERIES) -> None:
        rng = np.random.default_rng(seed)
        truth = rng.random((n_queries, N_GALLERY)) < rng.gamma(0.7, 0.04, n_queries)[:, None]
        own = rng.integers(0, N_GALLERY, n_queries)
        truth[np.arange(n_queries), own] = True
        shown = truth & (rng.random(truth.shape) >= hidden * truth.sum() / max(truth.sum() - n_queries, 1))
        shown[np.arange(n_queries), own] = True
        scores = rng.normal(size=truth.shape) + strength * truth * rng.random((n_queries, 1))
        order = np.argsort(-scores, axis=1)[:, :DEPTH]
        self.scores = scores
        self.lists = RankedLists(
            np.arange(n_queries + 1) * DEPTH, order.ravel(), np.take_along_axis(scores, order, 1).ravel(), N_GALLERY
        )
        self.truth, self.labels = _relevance(truth), _relevance(shown)
        self.matrix = truth
        self.queries = tuple(f"q{row}" for row in range(n_queries))
        self.items = tuple(f"i{row}" for row in range(N_GALLERY))
        self.ids = {"query_ids": self.queries, "item_ids": self.items}

    def values(self, metric: str, *, labelled: bool = False) -> np.ndarray:
        return per_query(metric, ranks_from_lists(self.lists, self.labels if labelled else self.truth)).expected

    def answers(self, made, rows, design=None) -> Judged:
        """A judge who knows the truth."""
        entries = [
            Entry(self.queries[q], {self.items[i]: (0, float(self.matrix[q, i])) for i in made.row(q)}) for q in rows
        ]
        return Judged("all-knowing", tuple(entries), design)

    def estimate(self, metric: str, n: int, seed: int, **how):
        made = pool(self.lists, self.labels, metric, **self.ids)
        design = Design.of(made, seed=seed, n_queries=n, controls=0.0, judge="a")
        judged = self.answers(made, made.drawn(n, seed=seed), design)
        return estimate_from_judged(self.lists, self.labels, judged, metric, **self.ids, **how)


def _relevance(matrix: np.ndarray) -> Relevance:
    rows, columns = np.nonzero(matrix)
    return Relevance.from_pairs(rows, columns, n_queries=matrix.shape[0], n_gallery=matrix.shape[1])


# the order of drawing


def test_every_beginning_is_proportional_and_nested() -> None:
    strata = np.array([-1] * 7 + [0] * 60 + [1] * 30 + [2] * 10)
    order = stratified_order(strata, seed=3)
    assert sorted(order) == list(range(7, 107))
    for n in (6, 10, 20, 50, 99):
        drawn = np.bincount(strata[order[:n]], minlength=3)
        share = n * np.array([60, 30, 10]) / 100
        assert (drawn >= 2).all(), (n, drawn)
        assert (np.abs(drawn - np.maximum(share, 2)) <= 2).all(), (n, drawn)


def test_units_of_a_stratum_are_drawn_equally_often() -> None:
    strata, times = np.array([0] * 12 + [1] * 5 + [-1] * 3), np.zeros(20)
    for seed in range(4000):
        times[stratified_order(strata, seed=seed)[:8]] += 1
    first, second = times[:12], times[12:17]
    assert times[17:].sum() == 0
    for part in (first, second):
        assert stats.chisquare(part).pvalue > 1e-4, part


def test_same_seed_same_order_other_seed_another() -> None:
    strata = np.zeros(30, int)
    assert (stratified_order(strata, seed=1) == stratified_order(strata, seed=1)).all()
    assert (stratified_order(strata, seed=1) != stratified_order(strata, seed=2)).any()


# the mean and its interval


def test_the_estimate_is_the_stratified_mean() -> None:
    rng = np.random.default_rng(0)
    values, strata = rng.random(90), rng.integers(-1, 3, 90)
    seen = (strata == -1) | (rng.random(90) < 0.5)
    total = 0.0
    for label in range(-1, 3):
        inside = [value for value, one, known in zip(values, strata, seen, strict=True) if one == label and known]
        total += (strata == label).sum() * sum(inside) / len(inside)
    found = stratified_mean(np.where(seen, values, np.nan), strata)
    assert found.value == pytest.approx(total / 90, abs=1e-12)
    assert found.low < found.value < found.high
    assert (found.n_known, found.n_seen) == ((strata == -1).sum(), (seen & (strata != -1)).sum())


@pytest.mark.parametrize(("size", "seen", "right"), [(300, 40, 0), (300, 40, 3), (80, 60, 25), (500, 100, 100)])
def test_one_stratum_of_hits_is_the_beta_binomial_of_jeffreys(size: int, seen: int, right: int) -> None:
    values = np.full(size, np.nan)
    values[:seen] = np.arange(seen) < right
    found = stratified_mean(values, np.zeros(size, int), n_draws=40_000)
    rest = stats.betabinom(size - seen, right + 0.5, seen - right + 0.5)
    assert found.low * size == pytest.approx(min(right + rest.ppf(0.025), size * right / seen), abs=2.01)
    assert found.high * size == pytest.approx(max(right + rest.ppf(0.975), size * right / seen), abs=2.01)


def test_everything_seen_leaves_no_doubt_and_nothing_right_leaves_some() -> None:
    every = stratified_mean([0.0, 1.0, 1.0, 0.5], [0, 0, 1, -1])
    assert (every.low, every.value, every.high) == (0.625, 0.625, 0.625)
    assert not every.warnings
    none = stratified_mean([0.0] * 20 + [np.nan] * 180, [0] * 200)
    assert none.value == none.low == 0
    assert 0.05 < none.high < 0.2
    known = stratified_mean([1.0, 0.0], [-1, -1])
    assert (known.low, known.value, known.high, known.n_open) == (0.5, 0.5, 0.5, 0)


def test_what_cannot_be_estimated_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing was judged in 1 of 2 strata"):
        stratified_mean([1.0, np.nan, np.nan], [0, 0, 1])
    with pytest.raises(ValueError, match="known"):
        stratified_mean([np.nan, 1.0], [-1, 0])
    with pytest.raises(ValueError, match="bounds"):
        stratified_mean([2.0, 1.0], [0, 0])
    with pytest.raises(ValueError, match="one stratum per value"):
        stratified_mean([], np.zeros(0, int))
    with pytest.raises(ValueError, match="whole number"):
        stratified_order([0.5, 1.0], seed=0)
    with pytest.raises(ValueError, match="half_width"):
        judgements_for(0.0, 10)


def test_few_judged_say_so() -> None:
    found = stratified_mean([1.0, 0.0, np.nan, np.nan, 1.0, np.nan], [0, 0, 0, 0, 1, 1])
    assert "Only 3 queries" in found.warnings[0]
    assert "strata have fewer" in found.warnings[1]


# planning


@pytest.mark.parametrize("n_open", [200, 600, 2000])
@pytest.mark.parametrize("half_width", [0.02, 0.05])
def test_the_planned_number_gives_the_planned_width(n_open: int, half_width: float) -> None:
    n = judgements_for(half_width, 2000, n_open=n_open)
    widths = []
    for seed in range(20):
        values = np.random.default_rng(seed).permutation(np.arange(n_open) % 2).astype(float)
        values[n:] = np.nan
        known = np.zeros(2000 - n_open)
        found = stratified_mean(np.r_[values, known], np.r_[np.zeros(n_open, int), known.astype(int) - 1], seed=seed)
        widths.append((found.high - found.low) / 2)
    if n >= 50:
        assert np.mean(widths) == pytest.approx(half_width, rel=0.08), (n, np.mean(widths))
    else:
        assert np.mean(widths) < 1.1 * half_width


def test_planning_falls_with_what_is_known_and_never_exceeds_what_there_is() -> None:
    assert judgements_for(0.02, 1000, n_open=0) == 0
    assert judgements_for(1e-6, 1000, n_open=300) == 300
    numbers = [judgements_for(0.02, 1000, n_open=n) for n in (100, 300, 600, 1000)]
    assert numbers == sorted(numbers)


# from lists, labels and judgements


@pytest.mark.parametrize("metric", [*METRICS, "AP(norm=hits)@10"])
def test_judging_everything_gives_the_score_under_complete_labels(metric: str) -> None:
    world = World(0.5, 1)
    made = pool(world.lists, world.labels, metric, **world.ids)
    found = world.estimate(metric, made.n_open, seed=0)
    truth = world.values(metric).mean()
    assert found.value == pytest.approx(truth, abs=1e-12)
    assert found.interval == pytest.approx((truth, truth), abs=1e-12)
    assert found.as_labelled == pytest.approx(world.values(metric, labelled=True).mean(), abs=1e-12)


def test_known_queries_are_those_that_no_labelling_moves() -> None:
    world, rng = World(0.5, 2, n_queries=25), np.random.default_rng(0)
    for metric in (*METRICS, "P@3", "RR@2"):
        found = reach(world.lists, world.labels, metric)
        lowest, highest = np.full(25, np.inf), np.full(25, -np.inf)
        for share in (0.0, 1.0, *rng.random(60)):
            extra = rng.random((25, N_GALLERY)) < share
            labels = np.zeros((25, N_GALLERY), bool)
            labels[world.labels.queries, world.labels.items] = True
            values = per_query(metric, ranks_from_lists(world.lists, _relevance(labels | extra))).expected
            lowest, highest = np.minimum(lowest, values), np.maximum(highest, values)
        assert (found.open == (highest > lowest)).all(), metric
        np.testing.assert_allclose([found.lowest, found.highest], [lowest, highest])


def test_the_pool_holds_the_unlabelled_first_places_of_open_queries_only() -> None:
    world = World(0.3, 3)
    made = pool(world.lists, world.labels, "hit@5", **world.ids)
    for query in range(N_QUERIES):
        top = set(np.argsort(-world.scores[query])[:5])
        labelled = set(world.labels.row(query)[0])
        expected = [] if top & labelled else sorted(top)
        assert made.row(query).tolist() == expected
        assert (made.strata[query] == -1) == (not expected)
    assert made.n_pairs == 5 * made.n_open


def test_one_file_serves_several_metrics_and_systems() -> None:
    world, other = World(0.4, 4), World(0.4, 4, strength=0.5)
    metrics = ["hit@1", "hit@10", "P@10"]
    made = pool([world.lists, other.lists], world.labels, metrics, **world.ids)
    rows = made.drawn(made.n_open, seed=0)
    judged = world.answers(made, rows, Design.of(made, seed=0, n_queries=made.n_open, controls=0.0, judge="a"))
    for lists in (world.lists, other.lists):
        for metric in metrics:
            truth = per_query(metric, ranks_from_lists(lists, world.truth)).expected.mean()
            found = estimate_from_judged(lists, world.labels, judged, metric, **world.ids)
            assert found.value == pytest.approx(truth, abs=1e-12)


def test_what_the_file_does_not_cover_is_refused() -> None:
    world, other = World(0.4, 5), World(0.4, 99)
    made = pool(world.lists, world.labels, "hit@10", **world.ids)
    judged = world.answers(made, made.drawn(40, seed=0), Design.of(made, seed=0, n_queries=40, controls=0.0, judge="a"))
    with pytest.raises(NotCovered, match="never draws"):
        estimate_from_judged(world.lists, world.labels, judged, "hit@1", **world.ids)
    with pytest.raises(NotCovered, match="not in its pool"):
        estimate_from_judged(other.lists, world.labels, Judged("plain", judged.entries), "hit@10", **world.ids)
    ids = {**world.ids, "query_ids": world.queries[::-1]}
    with pytest.raises(ValueError, match="drawn from other queries"):
        estimate_from_judged(world.lists, world.labels, judged, "hit@10", **ids)
    wrong = Judged("plain", (Entry("q0", {"nothing": (0, 1.0)}),))
    with pytest.raises(ValueError, match="not among the 140 items"):
        estimate_from_judged(world.lists, world.labels, wrong, "hit@10", **world.ids)
    for metric in ("R@10", "AP@10", "nDCG@10", "MRR", "MedR", "R-precision", "mAP@R", "AP"):
        with pytest.raises(ValueError, match="cannot be estimated by judging"):
            estimable(metric)
    assert str(estimable("R@10", "pool")) == "R@10"


def test_recall_of_the_pool_when_asked_for() -> None:
    world = World(0.4, 6)
    made = pool(world.lists, world.labels, "R@10", labels="pool", **world.ids)
    judged = world.answers(
        made, made.drawn(made.n_open, seed=0), Design.of(made, seed=0, n_queries=made.n_open, controls=0.0, judge="a")
    )
    found = estimate_from_judged(world.lists, world.labels, judged, "R@10", labels="pool", **world.ids)
    values = []
    for query in range(N_QUERIES):
        top = set(np.argsort(-world.scores[query])[:10])
        known = set(world.labels.row(query)[0]) | {item for item in top if world.matrix[query, item]}
        values.append(len(top & known) / len(known))
    assert found.value == pytest.approx(np.mean(values), abs=1e-12)


def test_queries_without_a_label_are_left_out_or_counted() -> None:
    labels = Relevance.from_pairs([0, 2], [3, 1], n_queries=3, n_gallery=4)
    lists = [([3, 1], [0.9, 0.5]), ([2, 3], [0.9, 0.5]), ([0, 1], [0.9, 0.5])]
    judged = Judged("a", (Entry("b", {"2": (0, 1.0)}), Entry("c", {"0": (0, 0.0)})))
    ids = {"query_ids": "abc", "item_ids": "0123"}
    left_out = estimate_from_judged(lists, labels, judged, "hit@1", **ids)
    counted = estimate_from_judged(lists, labels, judged, "hit@1", unlabelled="count", **ids)
    assert (left_out.value, left_out.n_left_out) == (0.5, 1)
    assert counted.value == pytest.approx(2 / 3)
    assert counted.n_left_out == 0
    assert pool(lists, labels, "hit@1", **ids).strata.tolist() == [-1, -1, 0]
    assert pool(lists, labels, "hit@1", unlabelled="count", **ids).strata.tolist() == [-1, 0, 0]
    nothing = Relevance.from_pairs([], [], n_queries=3, n_gallery=4)
    with pytest.raises(ValueError, match="count"):
        estimate_from_judged(lists, nothing, judged, "hit@1", **ids)


def test_ties_at_the_cutoff_belong_to_the_pool_and_labels_hold_against_judgements() -> None:
    labels = Relevance.from_pairs([0, 0, 1], [0, 2, 0], [1, 0, 1], n_queries=2, n_gallery=5)
    lists = [([4, 1, 3, 2], [0.9, 0.5, 0.5, 0.5]), ([0], [1.0])]
    assert reach(lists, labels, "hit@2", short_lists="as is").items.tolist() == [1, 3, 4]
    entry = Entry("a", {"1": (0, 1.0), "2": (0, 1.0), "3": (0, 0.0), "4": (0, 0.0)})
    found = estimate_from_judged(
        lists, labels, Judged("j", (entry,)), "hit@2", query_ids="ab", item_ids="01234", short_lists="as is"
    )
    assert found.value == pytest.approx((1 / 3 + 1) / 2)  # item 1 is one of three that share the second place


def test_skipped_queries_are_told_and_bounded() -> None:
    world = World(0.4, 7)
    made = pool(world.lists, world.labels, "hit@10", **world.ids)
    rows = made.drawn(made.n_open, seed=0)
    answered = world.answers(made, rows, Design.of(made, seed=0, n_queries=len(rows), controls=0.0, judge="a"))
    entries = [Entry(entry.query, {}) if n < 10 else entry for n, entry in enumerate(answered.entries)]
    judged = Judged("a", tuple(entries), answered.design)
    found = estimate_from_judged(world.lists, world.labels, judged, "hit@10", **world.ids)
    assert found.n_skipped == 10
    assert found.mean.n_seen == made.n_open - 10
    assert found.skipped_high - found.skipped_low == pytest.approx(10 / N_QUERIES)
    assert found.skipped_low <= world.values("hit@10").mean() <= found.skipped_high
    assert "10 queries were skipped" in found.warnings[-1]


# coverage, and what it is compared with


def _simulate(metric: str, hidden: float, n: int, *, worlds: int, draws: int) -> dict[str, np.ndarray]:
    """Per simulation: whether the interval covers, its width, and the errors of three estimators."""
    rows = {"covers": [], "width": [], "stratified": [], "random": [], "naive": []}
    for seed in range(worlds):
        world = World(hidden, 1000 + seed)
        truth, labelled = world.values(metric), world.values(metric, labelled=True)
        made = pool(world.lists, world.labels, metric, **world.ids)
        change, is_open = truth - labelled, made.strata != -1
        found = reach(world.lists, world.labels, metric)
        bounds = (0.0, float((found.highest - found.lowest).max()))
        for draw in range(draws):
            drawn = made.drawn(n, seed=seed * draws + draw)
            seen = np.zeros(N_QUERIES, bool)
            seen[drawn] = True
            mean = stratified_mean(np.where(seen | ~is_open, change, np.nan), made.strata, bounds=bounds, seed=draw)
            simple = np.random.default_rng([seed, draw]).choice(N_QUERIES, n, replace=False)
            rows["covers"].append(mean.low <= change.mean() + 1e-12 and change.mean() <= mean.high + 1e-12)
            rows["width"].append(mean.high - mean.low)
            rows["stratified"].append(mean.value - change.mean())
            rows["random"].append(truth[simple].mean() - truth.mean())
            rows["naive"].append(labelled.mean() - truth.mean())
    return {name: np.array(values) for name, values in rows.items()}


def _report(metric: str, hidden: float, found: dict[str, np.ndarray]) -> str:
    error = {name: np.sqrt((found[name] ** 2).mean()) for name in ("stratified", "random", "naive")}
    return (
        f"{metric}, {hidden:.0%} hidden: covers {found['covers'].mean():.2%} of {len(found['covers'])}, half width "
        f"{found['width'].mean() / 2:.4f}, rms error {error['stratified']:.4f} (simple random sample "
        f"{error['random']:.4f}, unlabelled taken for wrong {error['naive']:.4f})"
    )


def test_the_interval_covers_and_the_naive_score_does_not() -> None:
    found = _simulate("hit@10", 0.3, 60, worlds=6, draws=50)
    assert 0.91 <= found["covers"].mean() <= 0.985, _report("hit@10", 0.3, found)
    assert (found["stratified"] ** 2).mean() < 0.5 * (found["random"] ** 2).mean(), _report("hit@10", 0.3, found)
    assert abs(found["naive"]).min() > abs(found["stratified"].mean()), _report("hit@10", 0.3, found)


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("metric", METRICS)
def test_the_interval_covers_as_often_as_it_says(metric: str, hidden: float) -> None:
    found = _simulate(metric, hidden, 60, worlds=80, draws=30)
    words = _report(metric, hidden, found)
    assert len(found["covers"]) >= 2000
    assert 0.935 <= found["covers"].mean() <= 0.965, words
    assert (found["stratified"] ** 2).mean() <= (found["random"] ** 2).mean(), words
    assert abs(found["stratified"].mean()) < 0.1 * abs(found["naive"].mean()) + 0.002, words


def test_the_simulation_runs_what_users_run() -> None:
    world = World(0.3, 1000)
    found = world.estimate("RR@10", 60, seed=11)
    made = pool(world.lists, world.labels, "RR@10", **world.ids)
    change = world.values("RR@10") - world.values("RR@10", labelled=True)
    seen = np.isin(np.arange(N_QUERIES), made.drawn(60, seed=11))
    values = np.where(seen | (made.strata == -1), change, np.nan)
    around = reach(world.lists, world.labels, "RR@10")
    bounds = (0.0, float((around.highest - around.lowest)[made.strata != -1].max()))
    direct = stratified_mean(values, made.strata, bounds=bounds)
    assert found.value == pytest.approx(direct.value + found.as_labelled, abs=1e-12)
    assert found.interval == pytest.approx((direct.low + found.as_labelled, direct.high + found.as_labelled), abs=1e-12)


def test_evidence_makes_strata_that_pay() -> None:
    world = World(0.5, 8)
    truth, labelled = world.values("P@10"), world.values("P@10", labelled=True)
    evidence = (truth - labelled) + np.random.default_rng(0).normal(scale=0.02, size=N_QUERIES)
    errors = {}
    for name, given in (("with", evidence), ("without", None)):
        made = pool(world.lists, world.labels, "P@10", evidence=given, n_strata=5, **world.ids)
        values = []
        for seed in range(60):
            seen = np.isin(np.arange(N_QUERIES), made.drawn(60, seed=seed)) | (made.strata == -1)
            values.append(stratified_mean(np.where(seen, truth - labelled, np.nan), made.strata, n_draws=100).value)
        errors[name] = np.std(values)
    assert errors["with"] < 0.6 * errors["without"], errors
    with pytest.raises(ValueError, match="evidence must be one number per query"):
        pool(world.lists, world.labels, "P@10", evidence=[1.0], **world.ids)


# the finding


def _verdict(hidden: float, seed: int) -> str:
    return World(hidden, 5000 + seed).estimate("hit@1", 120, seed=seed).findings()[0].verdict


def test_the_finding_fires_on_hidden_positives_and_stays_quiet_without() -> None:
    fires = sum(_verdict(0.5, seed) == "look" for seed in range(20))
    quiet = sum(_verdict(0.0, seed) == "look" for seed in range(20))
    words = f"look in {fires} of 20 worlds with half of the positives hidden, in {quiet} of 20 with complete labels"
    assert fires >= 18, words
    assert quiet == 0, words


def test_the_finding_asks_for_more_where_it_cannot_tell() -> None:
    found = World(0.05, 9).estimate("P@10", 8, seed=0)
    finding = found.findings()[0]
    assert finding.verdict == "not measurable"
    gap = POINTS - found.gain
    assert f"judge {found.plan(gap).queries}" in finding.advice
    assert found.plan(gap).queries > 8
    assert set(found.flat()) >= {"judged/estimate", "judged/as_labelled", "judged/gain"}
    assert found.table()["judged"].sum() == 8
    assert "<table" in found._repr_html_()


def _with_interval(low: float, value: float, high: float, *, n_seen: int, spread: float = 0.05) -> JudgedEstimate:
    """An estimate from a metric that judging can lower as well, at some distance from the value as labelled."""
    found = World(0.05, 9).estimate("AP(norm=hits)@10", 8, seed=0)
    at, sizes, seen = found.as_labelled, np.array([300]), np.array([n_seen])
    mean = replace(found.mean, value=at + value, low=at + low, high=at + high, n_seen=n_seen, sizes=sizes, seen=seen,
                   spread=spread)  # fmt: skip
    return replace(found, mean=mean)


def test_an_interval_that_holds_no_change_is_no_reason_to_look() -> None:
    assert _with_interval(-0.05, 0.0, 0.05, n_seen=50).findings()[0].verdict == "not measurable"
    assert _with_interval(-0.015, 0.0, 0.015, n_seen=50).findings()[0].verdict == "ok"
    assert _with_interval(0.03, 0.04, 0.05, n_seen=50).findings()[0].verdict == "look"
    assert _with_interval(-0.05, -0.04, -0.03, n_seen=50).findings()[0].verdict == "look"


def test_to_tell_takes_more_judgements_than_there_are() -> None:
    """0.021 of 0.02, known to half a point: 2 points of accuracy is had already, and tells nothing."""
    found = _with_interval(0.015, 0.021, 0.027, n_seen=200)
    assert found.plan().queries < 200
    assert found.findings()[0].verdict == "not measurable"
    wanted = found.plan(found.gain - POINTS).queries
    assert wanted > 200
    assert f"judge {wanted} queries in all" in found.findings()[0].advice


def test_recall_of_the_pool_can_fall_where_a_tie_crosses_the_cutoff() -> None:
    """The label is found; one of three that share place 2 is right as well: (1 + 1/3) / 2."""
    labels = Relevance.from_pairs([0, 1], [0, 0], n_queries=2, n_gallery=5)
    lists = [([0, 1, 2, 3], [0.9, 0.5, 0.5, 0.5]), ([0, 1, 2, 3], [0.9, 0.5, 0.4, 0.3])]
    found = reach(lists, labels, "R@2", labels="pool")
    assert found.open.tolist() == [True, False]
    judged = Judged("a", (Entry("x", {"1": (0, 1.0), "2": (0, 0.0), "3": (0, 0.0)}),))
    made = estimate_from_judged(lists, labels, judged, "R@2", query_ids="xy", item_ids="01234", labels="pool")
    assert made.value == pytest.approx((2 / 3 + 1) / 2)
