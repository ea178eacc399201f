"""Sharp bounds over all labellings, held against every labelling there is."""

from __future__ import annotations

from functools import partial
from itertools import combinations, permutations, product

import numpy as np
import pytest

from workbench.codec import from_plain, to_plain
from workbench.datasets.scenes import scenes, truth
from workbench.diagnostics.label_bounds import Bound, LabelBounds, label_bounds
from workbench.metrics import aggregate, per_query, per_query_all, ranks_from_lists, ranks_from_scores
from workbench.metrics.extremes import NEVER_FALLS, course, extremes, judged_wrong
from workbench.metrics.named import METRICS as KNOWN
from workbench.metrics.named import parse_metric
from workbench.plots import png
from workbench.statistics import Interval
from workbench.statistics.allocation import allocate
from workbench.types import Ranks, Relevance

METRICS = (
    "hit@1", "hit@3", "R@1", "R@3", "P@1", "P@4", "R-precision", "mAP@R", "AP", "AP@2", "AP@4", "AP(norm=min)@3",
    "AP(norm=hits)", "AP(norm=hits)@3", "nDCG", "nDCG@2", "nDCG@4", "nDCG(gain=exp)@3", "MRR", "RR@2", "MedR", "MeanR",
    "mINP",
)  # fmt: skip
#: Two seeds with every change, the others with the slow tests.
SEEDS = [seed if seed < 2 else pytest.param(seed, marks=pytest.mark.slow) for seed in range(20)]
COMPLETE = ("MedR", "MeanR", "mINP")
World = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]


def relevance_of(rows: list[list[int]], n_gallery: int) -> Relevance:
    queries = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    return Relevance.from_pairs(queries, np.concatenate([[], *rows]).astype(int), n_queries=len(rows),
                                n_gallery=n_gallery)  # fmt: skip


def ranks_of(scores: np.ndarray, rows: list[list[int]], depth: int | None = None) -> Ranks:
    """Ranks of one query under several labellings, from all scores or from the first ``depth`` of them."""
    relevance = relevance_of(rows, len(scores))
    if depth is None:
        return ranks_from_scores(np.tile(scores, (len(rows), 1)), relevance)
    order = np.argsort(-scores)[:depth]
    return ranks_from_lists([(order, scores[order])] * len(rows), relevance)


def usable(n_gallery: int, short: bool) -> list[str]:
    named = [(name, parse_metric(name)) for name in METRICS]
    return [
        name for name, metric in named
        if (short and metric.name not in COMPLETE) or (not short and (metric.k or 0) <= n_gallery)
    ]  # fmt: skip


def random_world(rng: np.random.Generator, most: int = 8, *, values: int = 0, fewest: int = 0) -> World:
    """scores, labelled, judged wrong, unjudged and the limit (-1: none)."""
    n = int(rng.integers(1, most + 1))
    items, labelled = rng.permutation(n), int(rng.integers(min(fewest, n), min(n, 4) + 1))
    bad = int(rng.integers(0, n - labelled + 1)) if rng.random() < 0.5 else 0
    scores = rng.integers(0, values, n) if values else rng.permutation(n)
    parts = items[:labelled], items[labelled : labelled + bad], items[labelled + bad :]
    return (scores.astype(float), *parts, int(rng.integers(-2, 5)))


def labellings(labelled: np.ndarray, unjudged: np.ndarray, limit: int) -> list[list[int]]:
    most = len(unjudged) if limit < 0 else min(limit, len(unjudged))
    chosen = (extra for j in range(most + 1) for extra in combinations(unjudged.tolist(), j))
    return [sorted([*labelled.tolist(), *extra]) for extra in chosen]


def check_world(world: World, depth: int | None = None) -> int:
    """Both ends of all metrics equal the extremes over all labellings; returns how many were held against them."""
    scores, labelled, bad, unjudged, limit = world
    rows = [row for row in labellings(labelled, unjudged, limit) if row]
    policy = "refuse" if depth is None else "as is"
    ranks, wrong = ranks_of(scores, [sorted(labelled.tolist())], depth), ranks_of(scores, [sorted(bad.tolist())], depth)
    names = usable(len(scores), depth is not None)
    values = per_query_all(names, ranks_of(scores, rows, depth), short_lists=policy) if rows else {}
    extra = np.array([len(row) - len(labelled) for row in rows])
    for name in names:
        found = extremes(name, ranks, extra_positives=None if limit < 0 else limit, wrong=wrong, short_lists=policy)
        assert np.isnan(found.labelled[0]) == (len(labelled) == 0)
        if not rows:
            assert np.isnan([found.lowest[0], found.highest[0]]).all()
            continue
        every = values[name].expected
        for got, want, used, best in (
            (found.lowest, every.min(), found.lowest_extra, np.min),
            (found.highest, every.max(), found.highest_extra, np.max),
        ):
            assert got[0] == pytest.approx(want, abs=1e-12), (name, world, depth)
            assert best(every[extra == used[0]]) == pytest.approx(want, abs=1e-12), (name, world, used)
    return len(names) * len(rows)


@pytest.mark.parametrize("seed", range(2))
def test_the_ends_are_the_extremes_over_every_labelling(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert sum(check_world(random_world(rng)) for _ in range(40)) > 5000


@pytest.mark.parametrize("seed", range(2))
def test_short_lists_with_unjudged_items_outside(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    worlds = [random_world(rng) for _ in range(40)]
    assert sum(check_world(world, int(rng.integers(0, len(world[0]) + 1))) for world in worlds) > 5000


def test_a_moving_cutoff_that_meets_extras_behind_a_wrong_item_in_a_short_list() -> None:
    """Labelled, labelled, wrong, labelled, free, free, and two free outside: three extras reach 5/6, four 5/7."""
    scores = np.arange(8.0)[::-1]
    check_world((scores, np.array([0, 1, 3]), np.array([2]), np.array([4, 5, 6, 7]), 4), 6)
    ranks, wrong = ranks_of(scores, [[0, 1, 3]], 6), ranks_of(scores, [[2]], 6)
    found = extremes("R-precision", ranks, extra_positives=4, wrong=wrong, short_lists="as is")
    assert (found.highest[0], found.highest_extra[0]) == (pytest.approx(5 / 6), 3)


def test_an_empty_list_that_counts_as_deep_holds_no_missing_positive() -> None:
    """The report gives an empty list the depth of the longest, so that it is not called short."""
    ranks = Ranks(np.array([0, 1]), np.array([0]), np.ones(1), np.array([4]), np.array([0]), np.array([4]), 4)
    found = extremes("R@1", ranks)
    assert (found.labelled[0], found.lowest[0], found.highest[0]) == (0.0, 0.0, 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_the_ends_are_the_extremes_over_every_labelling_of_many_worlds(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    for _ in range(250):
        world = random_world(rng)
        check_world(world)
        check_world(world, int(rng.integers(0, len(world[0]) + 1)))


def orders(scores: np.ndarray) -> list[np.ndarray]:
    """Scores without ties for every order of the tied."""
    found = {}
    for order in permutations(range(len(scores))):
        if (np.diff(scores[list(order)]) <= 0).all():
            strict = np.empty(len(scores))
            strict[list(order)] = -np.arange(len(scores))
            found[strict.tobytes()] = strict
    return list(found.values())


def test_with_ties_the_ends_are_those_over_labellings_and_orders() -> None:
    """And so they hold for the expected value under every labelling, which need not attain them."""
    rng, loose, held = np.random.default_rng(5), 0, 0
    for _ in range(30):
        scores, labelled, bad, unjudged, limit = random_world(rng, 5, values=3, fewest=1)
        rows = labellings(labelled, unjudged, limit)
        names = usable(len(scores), short=False)
        expected = per_query_all(names, ranks_of(scores, rows))
        strict = [per_query_all(names, ranks_of(order, rows)) for order in orders(scores)]
        ranks, wrong = ranks_of(scores, rows[:1]), ranks_of(scores, [sorted(bad.tolist())])
        for name in names:
            found = extremes(name, ranks, extra_positives=None if limit < 0 else limit, wrong=wrong)
            every, now = expected[name].expected, expected[name].expected[0]
            joint = np.array([now, *np.concatenate([values[name].expected[1:] for values in strict])])
            low, high = found.lowest[0], found.highest[0]
            assert low <= every.min() + 1e-12, (name, scores, rows)
            assert high >= every.max() - 1e-12, (name, scores, rows)
            held += 1
            loose += high > every.max() + 1e-9 or low < every.min() - 1e-9
            if parse_metric(name).params == (("norm", "hits"),):
                continue
            falls, never = KNOWN[parse_metric(name).name].lower_is_better, parse_metric(name).name in NEVER_FALLS
            assert low == pytest.approx(now if never and not falls else joint.min(), abs=1e-12), (name, scores, rows)
            assert high == pytest.approx(now if never and falls else joint.max(), abs=1e-12), (name, scores, rows)
    assert 0 < loose < held / 2


def several(rng: np.random.Generator, n_queries: int = 3, n: int = 5) -> tuple[np.ndarray, list[list[int]], list[int]]:
    scores = np.array([rng.permutation(n) for _ in range(n_queries)], float)
    return scores, [sorted(rng.choice(n, rng.integers(1, 4), replace=False).tolist()) for _ in scores], [n]


@pytest.mark.parametrize("seed", range(6))
def test_a_budget_for_all_queries_is_shared_exactly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, rows, (n,) = several(rng)
    ranks = ranks_from_scores(scores, relevance_of(rows, n))
    names = [name for name in usable(n, short=False) if name != "MedR"]
    tables: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for row, labelled in zip(scores, rows, strict=True):
        free = np.setdiff1d(np.arange(n), labelled)
        every = labellings(np.array(labelled), free, -1)
        extra = np.array([len(one) - len(labelled) for one in every])
        for name, values in per_query_all(names, ranks_of(row, every)).items():
            tables[name].append(
                np.array([[f(values.expected[extra <= j]) for f in (np.min, np.max)] for j in range(5)])
            )
    for name, total in product(names, range(6)):
        shared = [split for split in product(range(5), repeat=3) if sum(split) <= total]
        means = np.array(
            [np.mean([t[j] for t, j in zip(tables[name], split, strict=True)], axis=0) for split in shared]
        )
        found = label_bounds(ranks, [name], in_total=total, n_resamples=100)[name]
        assert found.lowest == pytest.approx(means[:, 0].min(), abs=1e-12), (name, total)
        assert found.highest == pytest.approx(means[:, 1].max(), abs=1e-12), (name, total)
        assert max(found.lowest_extra.sum(), found.highest_extra.sum()) <= total


def test_allocation_equals_trying_all() -> None:
    rng = np.random.default_rng(0)
    for trial in range(1500):
        counts, total = rng.integers(0, 5, rng.integers(0, 5)), int(rng.integers(0, 9))
        draw = rng.random if trial % 2 else lambda k: rng.integers(0, 4, k).astype(float)
        tables = [np.asarray(draw(k + 1)) for k in counts]
        units = allocate(np.concatenate([[], *tables]), counts, total)
        splits = product(*(range(k + 1) for k in counts))
        best = max(sum(t[j] for t, j in zip(tables, s, strict=True)) for s in splits if sum(s) <= total)
        assert units.sum() <= total
        assert sum(t[j] for t, j in zip(tables, units, strict=True)) == pytest.approx(best, abs=1e-12)


def test_allocation_says_what_it_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="3 values for 1 tables of 2 entries"):
        allocate([0, 1, 2], [1], 1)
    monkeypatch.setattr("workbench.statistics.allocation.MOST_CHOICES", 1)
    with pytest.raises(ValueError, match="lower the budget"):
        allocate([0, 0, 1] * 9, [2] * 9, 3)


def hidden(complete: Relevance, share: float, rng: np.random.Generator) -> Relevance:
    keep = rng.permutation(complete.n_positives) >= round(share * complete.n_positives)
    sizes = {"n_queries": complete.n_queries, "n_gallery": complete.n_gallery}
    return Relevance.from_pairs(complete.queries[keep], complete.items[keep], **sizes)


PLANTED = ("hit@1", "hit@10", "R@1", "R@10", "P@5", "R-precision", "mAP@R", "AP", "AP(norm=min)@10", "AP(norm=hits)@10",
           "nDCG@10", "nDCG", "MRR", "MedR", "MeanR", "mINP")  # fmt: skip


def assert_truth_inside(scores: np.ndarray, complete: Relevance, share: float, rng: np.random.Generator) -> int:
    partly = hidden(complete, share, rng)
    full, ranks = ranks_from_scores(scores, complete), ranks_from_scores(scores, partly)
    missing = complete.positives_per_query - partly.positives_per_query
    kept = partly.positives_per_query > 0
    limits = [
        (None, None, "left out"), (int(missing[kept].max()), None, "left out"),
        (None, int(missing[kept].sum()), "left out"),
        (None, None, "may enter"), (int(missing.max()), None, "may enter"),
    ]  # fmt: skip
    for each, total, unscored in limits:
        names = [name for name in PLANTED if total is None or name != "MedR"]
        found = label_bounds(
            ranks,
            names,
            extra_positives=each,
            in_total=total,
            unscored=unscored,
            n_resamples=100,  # type: ignore[arg-type]
        )
        for name in names:
            values = per_query(name, full).expected
            score = aggregate(name, np.where(kept, values, np.nan) if unscored == "left out" else values)
            one = found[name]
            assert one.lowest - 1e-12 <= score <= one.highest + 1e-12, (name, each, total, unscored)
            assert one.lowest <= one.labelled <= one.highest
    return int(missing.sum())


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_full_label_score_lies_inside(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    n_queries, n = 40, 30
    true = rng.random((n_queries, n)) < 0.12
    complete = Relevance.from_pairs(*np.nonzero(true), n_queries=n_queries, n_gallery=n)
    assert assert_truth_inside(rng.normal(size=true.shape) + 1.2 * true, complete, share, rng) > 10


@pytest.mark.parametrize("seed", SEEDS)
def test_the_truth_of_scenes_lies_inside(seed: int) -> None:
    """Labels "own", and the truth with shares hidden, both ways of asking."""
    world = scenes(n_images=24, seed=seed, captions_per_image=2, size=16, labels="own", completeness=0.3)
    rng, complete = np.random.default_rng(seed), truth(world)
    near = np.zeros((complete.n_queries, complete.n_gallery))
    near[complete.queries, complete.items] = 1.0
    scores = rng.normal(size=near.shape) + near
    for given, relevance, true in ((scores, world.relevance, complete), (scores.T, world.relevance.T, complete.T)):
        found = label_bounds(ranks_from_scores(given, relevance), PLANTED, n_resamples=100)
        for name, values in per_query_all(PLANTED, ranks_from_scores(given, true)).items():
            assert found[name].lowest - 1e-12 <= aggregate(name, values.expected) <= found[name].highest + 1e-12
        for share in (0.1, 0.3, 0.5):
            assert_truth_inside(given, true, share, rng)


def some_ranks(seed: int = 0, n_queries: int = 12, n: int = 9, *, values: int = 0) -> tuple[np.ndarray, Relevance]:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, values, (n_queries, n)) if values else rng.random((n_queries, n))
    labels = rng.random((n_queries, n)) < 0.25
    labels[:, 0] |= ~labels.any(axis=1)
    return scores.astype(float), Relevance.from_pairs(*np.nonzero(labels), n_queries=n_queries, n_gallery=n)


@pytest.mark.parametrize("values", [0, 4])
def test_wider_with_every_positive_more_and_exact_with_none(values: int) -> None:
    ranks = ranks_from_scores(*some_ranks(values=values))
    for name in METRICS:
        labelled = per_query(name, ranks).expected
        before = extremes(name, ranks, extra_positives=0)
        assert (before.lowest == labelled).all()
        assert (before.highest == labelled).all()
        for limit in (1, 2, 3, 5, None):
            now = extremes(name, ranks, extra_positives=limit)
            assert (now.lowest <= before.lowest + 1e-13).all()
            assert (now.highest >= before.highest - 1e-13).all()
            before = now
        assert (before.highest > labelled).any() or (before.lowest < labelled).any()


def test_the_order_of_queries_does_not_matter() -> None:
    scores, labels = some_ranks(3)
    order = np.random.default_rng(0).permutation(len(scores))
    shuffled = labels.take(order, np.arange(labels.n_gallery))
    for total in (None, 4):
        make = partial(label_bounds, metrics=["R@3", "AP", "mINP"], in_total=total, n_resamples=100)
        first, second = make(ranks_from_scores(scores, labels)), make(ranks_from_scores(scores[order], shuffled))
        for one, other in zip(first.bounds, second.bounds, strict=True):
            assert (one.lowest, one.highest) == pytest.approx((other.lowest, other.highest), abs=1e-15)
            if total is None:
                assert (one.per_highest[order] == other.per_highest).all()


def test_the_median_of_the_ends_is_the_end_of_the_median() -> None:
    rng = np.random.default_rng(2)
    for _ in range(15):
        scores, rows, (n,) = several(rng)
        ranks = ranks_from_scores(scores, relevance_of(rows, n))
        choices = []
        for row, labelled in zip(scores, rows, strict=True):
            every = labellings(np.array(labelled), np.setdiff1d(np.arange(n), labelled), 2)
            choices.append(per_query("MedR", ranks_of(row, every)).expected)
        medians = [float(np.median(pick)) for pick in product(*choices)]
        found = label_bounds(ranks, ["MedR"], extra_positives=2, n_resamples=100)["MedR"]
        assert (found.lowest, found.highest) == (min(medians), max(medians))


@pytest.mark.parametrize("name", ["hit@2", "R@2", "AP", "MRR", "mINP", "MedR", "MeanR", "AP(norm=hits)@2"])
def test_queries_without_a_label_left_out_or_let_in(name: str) -> None:
    rng = np.random.default_rng(4)
    for _ in range(12):
        n = 4
        scores = np.array([rng.permutation(n) for _ in range(4)], float)
        rows = [rng.choice(n, rng.integers(0, 2), replace=False).tolist() for _ in scores[:2]] + [[], [1]]
        ranks = ranks_from_scores(scores, relevance_of(rows, n))
        choices = []
        for row, labelled in zip(scores, rows, strict=True):
            every = labellings(np.array(labelled, int), np.setdiff1d(np.arange(n), labelled), 2)
            choices.append(per_query(name, ranks_of(row, every)).expected)
        every_mean = [aggregate(name, pick) for pick in product(*map(np.unique, choices))]
        let_in = label_bounds(ranks, [name], extra_positives=2, unscored="may enter", n_resamples=100)[name]
        assert let_in.lowest == pytest.approx(np.nanmin(every_mean), abs=1e-12)
        assert let_in.highest == pytest.approx(np.nanmax(every_mean), abs=1e-12)
        left_out = label_bounds(ranks, [name], extra_positives=2, n_resamples=100)
        unlabelled = np.array([not row for row in rows])
        assert np.isnan(left_out[name].per_lowest[unlabelled]).all()
        assert left_out[name].highest_extra[unlabelled].sum() == 0
        assert left_out.n_unscored == unlabelled.sum()
        assert "without a labelled answer are left out" in left_out.findings()[0].advice


def test_a_query_enters_an_end_only_where_it_moves_it() -> None:
    """Query 1 has no label and its first place is judged wrong: it could only lower hit@1, never raise it."""
    scores = np.tile([4.0, 3, 2, 1], (3, 1))
    ranks, wrong = (ranks_from_scores(scores, relevance_of(rows, 4)) for rows in ([[0], [], [1]], [[], [0], [0]]))
    found = label_bounds(ranks, ["hit@1"], wrong=wrong, unscored="may enter", n_resamples=100)["hit@1"]
    assert (found.lowest, found.labelled, found.highest) == (pytest.approx(1 / 3), 0.5, 0.5)
    assert np.isnan(found.per_highest[1])
    assert found.lowest_extra.tolist() == [0, 1, 0]


def test_nothing_labelled_at_all() -> None:
    ranks = ranks_from_scores(np.eye(2, 3), relevance_of([[], []], 3))
    found = label_bounds(ranks, ["R@1"], n_resamples=100)
    assert np.isnan(found["R@1"].lowest)
    assert found.findings()[0].verdict == "not measurable"
    assert found.flat() == {}
    assert label_bounds(ranks, ["R@1"], unscored="may enter", n_resamples=100)["R@1"].highest == 1.0


def test_one_item() -> None:
    labelled = ranks_from_scores(np.ones((2, 1)), relevance_of([[0], [0]], 1))
    for name in ("hit@1", "AP", "mINP", "nDCG", "MedR"):
        found = extremes(name, labelled)
        assert (found.lowest == 1).all()
        assert (found.highest == 1).all()
        assert found.highest_extra.sum() == 0


def test_a_cutoff_beyond_the_gallery_is_refused_unless_lists_count_as_they_are() -> None:
    ranks = ranks_from_scores(*some_ranks(n=5))
    with pytest.raises(ValueError, match="needs 7 ranked items"):
        extremes("P@7", ranks)
    found = extremes("P@7", ranks, short_lists="as is")
    assert found.highest == pytest.approx(np.full(12, 5 / 7))


def test_the_judged_wrong_stay_wrong() -> None:
    scores, labels = np.array([[5.0, 4, 3, 2, 1]]), Relevance.from_pairs([0, 0, 0], [0, 1, 3], [0, 1, 0], n_queries=1,
                                                                         n_gallery=5)  # fmt: skip
    ranks, wrong = ranks_from_scores(scores, labels), ranks_from_scores(scores, judged_wrong(labels))
    assert extremes("hit@1", ranks).highest[0] == 1
    assert extremes("hit@1", ranks, wrong=wrong).highest[0] == 0
    assert label_bounds(ranks, ["hit@1"], wrong=wrong, n_resamples=100).n_unjudged == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": []}, "at least one metric"),
        ({"metrics": ["R@1"], "extra_positives": -1}, "whole number >= 0"),
        ({"metrics": ["R@1"], "in_total": -1}, "whole number >= 0"),
        ({"metrics": ["MedR"], "in_total": 1}, "is a median"),
        ({"metrics": ["R@1"], "in_total": 1, "unscored": "may enter"}, "cannot be had together"),
        ({"metrics": ["R@1"], "unscored": "in"}, "left out"),
        ({"metrics": ["judged@1"]}, "unknown metric"),
    ],
)
def test_errors_say_what_was_expected(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        label_bounds(ranks_from_scores(*some_ranks()), **arguments)  # type: ignore[arg-type]


def test_grades_and_other_searches_are_refused() -> None:
    graded = Relevance.from_pairs([0, 0], [0, 1], [1, 2], n_queries=1, n_gallery=3)
    ranks = ranks_from_scores(np.array([[3.0, 2, 1]]), graded)
    assert extremes("AP", ranks).lowest[0] == 1
    with pytest.raises(ValueError, match=r"unequal grades \(1 to 2\)"):
        extremes("nDCG@2", ranks)
    with pytest.raises(ValueError, match="both must come from one search"):
        extremes("AP", ranks, wrong=ranks_from_scores(*some_ranks()))
    with pytest.raises(ValueError, match="contradict"):
        extremes("AP", ranks, wrong=ranks)


def test_inputs_stay_and_results_come_back_from_a_run_folder() -> None:
    scores, labels = some_ranks()
    found = label_bounds(ranks_from_scores(scores, labels), ["R@3", "MedR"], direction="t2i", n_resamples=100)
    types = {kind.__name__: kind for kind in (LabelBounds, Bound, Interval)}
    back = from_plain(to_plain(found), types)
    assert back.flat() == found.flat()
    assert (back["R@3"].per_highest == found["R@3"].per_highest).all()
    assert set(found.flat()) == {f"t2i/{name}/{end}" for name in ("R@3", "MedR") for end in ("lowest", "highest")}
    assert list(found.table().index) == ["R@3", "MedR"]
    assert "labels leave open" in found._repr_html_()
    with pytest.raises(KeyError, match="no bound of 'R@9'"):
        found["R@9"]


def test_the_picture_draws_the_ends_in_per_cent() -> None:
    ranks = ranks_from_scores(*some_ranks())
    found = label_bounds(ranks, ["R@3", "AP", "MedR"], direction="t2i", n_resamples=100)
    ax = found.plot()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["R@3", "AP"]
    bars = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches]
    assert bars == [pytest.approx((100 * one.lowest, 100 * one.highest)) for one in found.bounds[:2]]
    assert png(ax.figure).startswith(b"\x89PNG")
    assert "rank" in label_bounds(ranks, ["MedR"], n_resamples=100).plot().get_xlabel()


def test_findings_tell_limits_apart() -> None:
    ranks = ranks_from_scores(*some_ranks())
    unlimited, none = (
        label_bounds(ranks, ["hit@3"], extra_positives=m, n_resamples=100).findings()[0] for m in (None, 0)
    )
    assert unlimited.verdict == "not measurable"
    assert unlimited.value is not None
    assert "only have made it look worse" in unlimited.advice
    assert (none.verdict, none.value) == ("ok", 0.0)
    flattered = label_bounds(ranks, ["R@3"], n_resamples=100, direction="t2i").findings()[0]
    assert flattered.name == "t2i/labels/bounds"
    assert "can flatter" in flattered.advice
    alone = label_bounds(ranks, ["R@3"], extra_positives=1, clusters=np.zeros(12), n_resamples=100).findings()[0]
    assert (alone.verdict, alone.threshold) == ("not measurable", None)


def test_fires_where_labels_are_missing_and_stays_quiet_where_few_can_be() -> None:
    """Planted: five right answers, one labelled, m = 4. Clean: all judged; or m = 2 of 200 queries in all."""
    fired = quiet = close = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scores = rng.normal(size=(200, 60))
        scores[:, :5] += 2
        one = relevance_of([[0]] * 200, 60)
        ranks = ranks_from_scores(scores, one)
        rest = Relevance.from_pairs(np.repeat(np.arange(200), 59), np.tile(np.arange(1, 60), 200), n_queries=200,
                                    n_gallery=60)  # fmt: skip
        verdict = lambda **limit: label_bounds(ranks, ["R@5"], n_resamples=200, **limit).findings()[0].verdict  # noqa: B023, E731
        fired += verdict(extra_positives=4) == "look"
        quiet += verdict(wrong=ranks_from_scores(scores, rest)) == "ok"
        close += verdict(in_total=2) == "ok"
    assert (fired, quiet, close) == (20, 20, 20), f"fires in {fired}/20 planted, quiet in {quiet} and {close}/20 clean"


def test_courses_end_where_the_ends_are() -> None:
    ranks = ranks_from_scores(*some_ranks(7, values=5))
    for name, high in product(METRICS, (False, True)):
        found = extremes(name, ranks)
        values, counts = course(found, ranks, 99, high=high)
        last = np.cumsum(counts + 1) - 1
        assert (values[last] == (found.highest if high else found.lowest)).all()
        assert (values[last - counts] == found.labelled).all()


def test_courses_too_long_to_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """12 queries, at most 5 unjudged behind place 3 each: the lowest R@3 under a budget of 7 is 12 courses."""
    ranks = ranks_from_scores(*some_ranks())
    found = label_bounds(ranks, ["R@3"], in_total=7, n_resamples=100)
    monkeypatch.setattr("workbench.metrics.extremes.MOST_VALUES", 20)
    with pytest.raises(ValueError, match=r"a budget of 7 .* values of R@3, too many to hold"):
        label_bounds(ranks, ["R@3"], in_total=7, n_resamples=100)
    assert found["R@3"].lowest < found["R@3"].labelled


@pytest.mark.slow
def test_a_large_gallery_takes_seconds() -> None:
    """25,000 queries over 5,000 items without a limit: no loop over the gallery."""
    from time import perf_counter

    rng = np.random.default_rng(0)
    n_queries, n = 25_000, 5_000
    places = np.sort(rng.integers(0, n, n_queries))
    ranks = Ranks(np.arange(n_queries + 1), np.zeros(n_queries, int), np.ones(n_queries), places,
                  np.zeros(n_queries, int), np.full(n_queries, n), n)  # fmt: skip
    start = perf_counter()
    for name in METRICS:
        extremes(name, ranks)
    assert perf_counter() - start < 30
