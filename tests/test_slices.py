"""Scores by group: the difference against Welch, brute force and planted truth; grouping rules; verdicts."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from workbench.codec import from_plain, to_plain
from workbench.diagnostics.slices import MISSING, SliceScores, group_labels, slice_scores
from workbench.statistics import GroupDifference, cluster_bootstrap, group_difference, holm


def bell_mccaffrey(values: np.ndarray, member: np.ndarray, clusters: np.ndarray) -> tuple[float, float]:
    """Standard error and degrees of freedom of the group's coefficient by full matrices, as in the paper.

    The working model for the degrees of freedom: one error per cluster and side.
    """
    n = len(values)
    design = np.column_stack([np.ones(n), member]).astype(float)
    bread = np.linalg.inv(design.T @ design)
    hat = design @ bread @ design.T
    residual = values - design @ bread @ design.T @ values
    contrast, vectors, total = np.array([0.0, 1.0]), [], 0.0
    for cluster in np.unique(clusters):
        mine = np.flatnonzero(clusters == cluster)
        eigenvalues, axes = np.linalg.eigh(np.eye(len(mine)) - hat[np.ix_(mine, mine)])
        adjust = axes @ np.diag(eigenvalues**-0.5) @ axes.T
        weight = adjust @ design[mine] @ bread @ contrast
        total += float(weight @ residual[mine]) ** 2
        vectors.append((np.eye(n) - hat)[:, mine] @ weight)
    shared = (clusters[:, None] == clusters[None, :]) & (member[:, None] == member[None, :])
    matrix = np.stack(vectors) @ shared.astype(float) @ np.stack(vectors).T
    return float(np.sqrt(total)), float(np.trace(matrix) ** 2 / (matrix**2).sum())


def error_of(found: GroupDifference) -> float:
    return (found.high - found.value) / stats.t.ppf(0.975, found.df)


def mixed_world(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(40), rng.integers(1, 6, 40))
    member = np.where(clusters < 12, True, np.where(clusters < 25, False, rng.random(len(clusters)) < 0.4))
    values = rng.normal(size=40)[clusters] + rng.normal(size=len(clusters)) * np.where(member, 3.0, 1.0)
    return values, member, clusters


def test_robust_error_and_degrees_of_freedom_equal_the_full_matrices() -> None:
    values, member, clusters = mixed_world()
    error, df = bell_mccaffrey(values, member, clusters)
    found = group_difference(values, member, clusters)
    assert found.value == pytest.approx(values[member].mean() - values[~member].mean())
    assert found.df == pytest.approx(df, rel=1e-9)
    assert error_of(found) == pytest.approx(error, rel=1e-9)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(found.value) / error, df))


def test_without_clusters_the_error_is_welchs() -> None:
    rng = np.random.default_rng(1)
    group, rest = rng.normal(size=25) * 3, rng.normal(size=40)
    found = group_difference(np.r_[group, rest], np.r_[np.ones(25), np.zeros(40)], np.arange(65))
    welch = stats.ttest_ind(group, rest, equal_var=False)
    assert error_of(found) == pytest.approx(abs(found.value / welch.statistic))


def test_two_queries_per_cluster_one_on_each_side_are_the_paired_t_test() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 30)) + 3 * rng.normal(size=30)
    found = group_difference(np.r_[a, b], np.repeat([True, False], 30), np.tile(np.arange(30), 2))
    paired = stats.ttest_rel(a, b)
    # The pooled error (labels change places inside pairs) is the root mean square of the differences.
    pooled = np.sqrt(((a - b) ** 2).sum()) / 30
    assert error_of(found) == pytest.approx(max(abs(found.value / paired.statistic), pooled))
    assert found.df == pytest.approx(29)


def test_pooled_error_is_that_of_permuted_labels() -> None:
    values, member, clusters = mixed_world(3)
    values = np.where(member, 1.0, values)  # the group does not vary, so the pooled error decides
    centred, n_group, n_rest = values - values.mean(), member.sum(), (~member).sum()
    straddles = np.isin(clusters, np.intersect1d(clusters[member], clusters[~member]))
    rng, totals = np.random.default_rng(0), []
    for _ in range(2000):
        taken = member.copy()
        for cluster in np.unique(clusters[straddles]):
            mine = clusters == cluster
            taken[mine] = rng.permutation(member[mine])
        totals.append([
            centred[mine & taken].sum() / n_group - centred[mine & ~taken].sum() / n_rest
            for mine in (clusters == cluster for cluster in np.unique(clusters[straddles]))
        ])  # fmt: skip
    pure = [cluster for cluster in np.unique(clusters) if cluster not in clusters[straddles]]
    per_query = sum(centred[clusters == cluster].sum() ** 2 for cluster in pure) / (~straddles).sum()
    among = per_query * sum((side & ~straddles).sum() / side.sum() ** 2 for side in (member, ~member))
    expected = np.sqrt(np.square(totals).mean(axis=0).sum() + among)
    assert error_of(group_difference(values, member, clusters)) == pytest.approx(expected, rel=0.02)


def test_a_group_without_events_does_not_look_certain() -> None:
    values = np.r_[np.zeros(30), np.zeros(980), np.ones(20)]
    found = group_difference(values, np.arange(1030) < 30, np.arange(1030))
    assert found.p_value > 0.3
    assert found.high > 0


def test_p_is_never_zero_and_equal_values_give_one() -> None:
    member = np.arange(40_000) < 20_000
    apart = group_difference(member.astype(float), member, np.arange(40_000))
    assert 0 < apart.p_value < 1e-100
    assert group_difference(np.ones(40_000), member, np.arange(40_000)).p_value == 1.0


def test_one_cluster_on_a_side_cannot_be_tested() -> None:
    found = group_difference([1.0, 1.0, 0.0, 0.0], [1, 1, 0, 0], [0, 0, 1, 2])
    assert found.value == 1.0
    assert np.isnan([found.p_value, found.low, found.minimum_detectable]).all()


def test_names_order_and_missing_values_play_no_part() -> None:
    values, member, clusters = mixed_world()
    shuffle = np.random.default_rng(0).permutation(len(values))
    names = np.random.default_rng(1).permutation(40)
    first = group_difference(np.r_[values, np.nan], np.r_[member, True], np.r_[clusters, 99])
    second = group_difference(values[shuffle], member[shuffle], names[clusters[shuffle]])
    assert first.n_missing == 1
    assert first.p_value == second.p_value
    assert first.low == second.low


def test_group_difference_refuses_what_is_no_group() -> None:
    with pytest.raises(ValueError, match="True or False"):
        group_difference([1.0, 0.0], [1, 2], [0, 1])
    with pytest.raises(ValueError, match="True or False"):
        group_difference([1.0, 0.0], [1], [0, 1])


def test_minimum_detectable_is_detected_in_four_of_five() -> None:
    rng, detected = np.random.default_rng(0), []
    member = np.arange(240) < 80
    shift = group_difference(rng.normal(size=240), member, np.arange(240)).minimum_detectable
    for _ in range(400):
        detected.append(group_difference(rng.normal(size=240) - shift * member, member, np.arange(240)).p_value < 0.05)
    assert 0.72 < np.mean(detected) < 0.88


@pytest.mark.parametrize("straddling", [True, False])
def test_false_alarms_stay_at_the_level(straddling: bool) -> None:
    rng, alarms = np.random.default_rng(5), []
    clusters = np.repeat(np.arange(120), 5)
    member = np.arange(600) % 5 == 0 if straddling else clusters < 40
    for _ in range(400):
        common = rng.random(120) < 0.3
        values = np.where(rng.random(600) < 0.6, common[clusters], rng.random(600) < 0.3)
        alarms.append(group_difference(values.astype(float), member, clusters).p_value < 0.05)
    assert sum(alarms) <= stats.binom.isf(0.001, 400, 0.05)
    assert sum(alarms) >= stats.binom.isf(0.999, 400, 0.02)


def world(seed: int = 0, gap: float = 0.1, n_images: int = 600) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Five languages in turn on every image; b is worse by ``gap``."""
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(n_images), 5)
    groups = np.array(["a", "b", "c", "d", "e"])[np.arange(5 * n_images) % 5]
    easy = rng.normal(size=n_images)[clusters] * 0.1
    rate = 0.5 + easy - gap * (groups == "b")
    return groups, {"hit@1": (rng.random(5 * n_images) < rate).astype(float), "MRR": np.clip(rate, 0, 1)}, clusters


def sliced(**options: object) -> SliceScores:
    groups, values, clusters = world(**{k: options.pop(k) for k in ("seed", "gap", "n_images") if k in options})  # type: ignore[arg-type]
    return slice_scores("language", groups, values, clusters, direction="t2i", n_resamples=200, **options)  # type: ignore[arg-type]


def test_a_planted_difference_is_found_and_named_first() -> None:
    found = sliced()
    assert found.groups[0] == "b"
    assert found.note(0) == "worse than the rest"
    assert found.difference_low[0, 0] < -0.1 < found.difference_high[0, 0]
    finding = found.findings()[0]
    assert finding.verdict == "look"
    assert finding.name == "t2i/hit@1 by language"
    assert "lower for b (" in finding.advice
    assert finding.value == found.difference[0, 0]


def test_values_are_means_and_intervals_cluster_bootstraps() -> None:
    groups, values, clusters = world()
    found = sliced()
    for g, group in enumerate(found.groups):
        mine = groups == group
        expected = cluster_bootstrap(values["hit@1"][mine], clusters[mine], n_resamples=200)
        against = group_difference(values["hit@1"], mine, clusters)
        assert (found.value[g, 0], found.low[g, 0], found.high[g, 0]) == (expected.value, expected.low, expected.high)
        assert (found.difference[g, 0], found.p[g, 0]) == (against.value, against.p_value)
    np.testing.assert_array_equal(found.p_holm.ravel(), holm(found.p.ravel()))
    assert found.overall[0] == values["hit@1"].mean()


def test_without_a_difference_false_alarms_stay_at_five_per_cent() -> None:
    alarms = sum((sliced(seed=seed, gap=0.0, n_images=60).p_holm[:, 0] < 0.05).any() for seed in range(60))
    assert alarms <= stats.binom.isf(0.001, 60, 0.05)


def test_two_groups_are_one_comparison() -> None:
    groups, values, clusters = world()
    found = slice_scores(
        "b",
        np.where(groups == "b", "yes", "no"),
        {"hit@1": values["hit@1"]},
        clusters,
        direction="t2i",
        n_resamples=100,
    )
    np.testing.assert_allclose(found.p_holm, found.p)
    assert found.p[0, 0] == pytest.approx(found.p[1, 0])


def test_small_groups_and_missing_values_are_shown_and_not_judged() -> None:
    groups, values, clusters = world(gap=0.0)
    groups = groups.astype(object)
    groups[:20], groups[20:200], right = "tiny", None, values["hit@1"].copy()
    right[:20] = 0.0
    found = slice_scores("language", groups, {"hit@1": right}, clusters, direction="t2i", n_resamples=100)
    tiny, none = found.groups.index("tiny"), found.groups.index(MISSING)
    assert tiny == len(found.groups) - 1
    assert found.too_small[tiny, 0]
    assert found.value[tiny, 0] == 0
    assert np.isnan(found.p[[tiny, none], 0]).all()
    assert found.n[none, 0] == 180
    assert found.note(tiny).startswith("too small")
    assert "not tested" in found.note(none)
    finding = found.findings()[0]
    assert finding.verdict == "ok"
    assert "1 of 6 groups is too small" in finding.advice
    assert "180 queries" in finding.advice
    stated = np.array([g is not None for g in groups])
    mine = groups[stated] == "a"
    assert found.difference[found.groups.index("a"), 0] == pytest.approx(
        right[stated][mine].mean() - right[stated][~mine].mean()
    )


def test_a_group_at_chance_is_a_problem() -> None:
    groups, values, clusters = world(gap=0.0)
    right = np.where(groups == "d", 0.0, values["hit@1"])
    found = slice_scores(
        "language", groups, {"hit@1": right}, clusters, direction="t2i", n_resamples=100, chance={"hit@1": 0.01}
    )
    finding = found.findings()[0]
    assert finding.verdict == "problem"
    assert "Not told from chance (1 %), while others are: d (0.0 %)" in finding.advice
    everywhere = slice_scores(
        "language", groups, {"hit@1": 0 * right}, clusters, direction="t2i", n_resamples=100, chance={"hit@1": 0.01}
    )
    assert everywhere.findings()[0].verdict == "ok"


def test_unscored_queries_are_left_out() -> None:
    groups, values, clusters = world()
    right = values["hit@1"].copy()
    right[groups == "c"] = np.nan
    found = slice_scores("language", groups, {"hit@1": right}, clusters, direction="t2i", n_resamples=100)
    c = found.groups.index("c")
    assert found.n[c, 0] == 0
    assert np.isnan(found.value[c, 0])
    assert np.isnan(found.p[c, 0])
    assert c == 4
    assert "t2i/hit@1 language=c" not in found.flat()
    assert found.flat()["t2i/hit@1 language=b"] == found.value[0, 0]


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (["en"] * 3000, "the same value (en)"),
        ([""] * 3000, "no value at all"),
        ([f"id {i}" for i in range(3000)], "3,000 different values"),
    ],
)
def test_what_is_no_grouping_is_not_measurable(column: list[str], words: str) -> None:
    _, values, clusters = world()
    found = slice_scores("x", column, values, clusters, direction="t2i", n_resamples=100)
    finding = found.findings()[0]
    assert finding.verdict == "not measurable"
    assert words in finding.advice
    assert words in found._repr_html_()


def test_all_groups_too_small_is_not_measurable() -> None:
    found = slice_scores(
        "x", ["a"] * 20 + ["b"] * 9, {"hit@1": [1.0] * 29}, range(29), direction="t2i", n_resamples=100
    )
    assert found.findings()[0].verdict == "not measurable"
    assert found.too_small.all()


def test_groups_of_one() -> None:
    found = slice_scores("x", list("abc"), {"hit@1": [1.0, 0.0, 1.0]}, range(3), direction="t2i", n_resamples=100)
    assert found.value[:, 0].tolist() == [0.0, 1.0, 1.0]
    assert np.isnan(found.low).all()


def test_numbers_are_cut_at_their_quantiles() -> None:
    numbers = np.random.default_rng(0).permutation(np.arange(100)) / 4
    labels, rule = group_labels(numbers)
    assert sorted(set(labels)) == ["0 to 6", "12.25 to 18", "18.25 to 24.75", "6 to 12"] or len(set(labels)) == 4
    assert np.unique(labels, return_counts=True)[1].tolist() == [25] * 4
    assert "quantiles 0.25 (6), 0.5 (12.25), 0.75 (18.5)" in rule
    as_text, same = group_labels([str(number) for number in numbers])
    assert as_text.tolist() == labels.tolist()
    assert same == rule


def test_ties_merge_cuts_and_never_split() -> None:
    many_zeros = np.r_[np.zeros(80), np.arange(1, 21)]
    labels, rule = group_labels(many_zeros)
    assert set(labels[:80]) == {"0"}
    assert set(labels[80:]) == {"1 to 20"}
    assert "merged" in rule
    many_tops = np.r_[np.arange(20), np.full(80, 99)]
    assert set(group_labels(many_tops)[0]) == {"0 to 19", "99"}


def test_few_numbers_words_truths_and_missing_stay_as_they_are() -> None:
    assert group_labels([3, 1, 3])[0].tolist() == ["3", "1", "3"]
    assert group_labels([True, False])[0].tolist() == ["True", "False"]
    assert set(group_labels(["1_0", *map(str, range(20))])[0]) == {"1_0", *map(str, range(20))}
    mixed = group_labels([np.nan, *range(20)])[0]
    assert mixed[0] == MISSING
    assert set(mixed[1:]) == {"0 to 4", "5 to 9", "10 to 14", "15 to 19"}
    assert group_labels([b"de", None, " "])[0].tolist() == ["de", MISSING, MISSING]
    close = group_labels(1e9 + np.arange(20) / 1000)[0]
    assert len(set(close)) == 4


def test_round_trip_through_a_run_folder() -> None:
    for found in (sliced(), slice_scores("x", [""] * 9, {"hit@1": [1.0] * 9}, range(9), direction="t2i")):
        plain = json.loads(json.dumps(to_plain(found), allow_nan=False))
        again = from_plain(plain, {"SliceScores": SliceScores})
        assert to_plain(again) == to_plain(found)
        assert again.findings() == found.findings()
        assert again.flat() == found.flat()


def test_table_and_markup() -> None:
    found = sliced()
    table = found.table("MRR")
    assert table.index.name == "t2i/MRR"
    assert table.loc["b", "value"] == found.value[0, 1]
    with pytest.raises(KeyError, match="there are hit@1, MRR"):
        found.table("nDCG")
    hostile = slice_scores("x", ["<script>"] * 40 + ["b"] * 40, {"h": [1.0] * 80}, range(80), direction="t2i")
    assert "<script>" not in hostile._repr_html_()


def test_plot_draws_the_values() -> None:
    found = sliced()
    ax = found.plot(metric="hit@1")
    drawn = {float(x): y for line in ax.lines for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)}
    for place, value in enumerate(found.value[::-1, 0]):
        assert drawn[100 * value] == place
    assert ax.get_yticklabels()[-1].get_text() != ax.get_yticklabels()[0].get_text() == "b (n = 600, worse)"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"values": {}}, "no metric to slice"),
        ({"groups": ["a"]}, "one entry per query"),
        ({"smallest": 1}, "at least 2 clusters"),
        ({"n_bins": 1}, "n_bins must be at least 2"),
        ({"groups": np.zeros((3, 2))}, "one value per item"),
    ],
)
def test_refusals(change: dict[str, object], words: str) -> None:
    given = {"groups": list("abc"), "values": {"hit@1": [1.0, 0.0, 1.0]}, "clusters": range(3)} | change
    with pytest.raises(ValueError, match=words):
        slice_scores("x", direction="t2i", **given)  # type: ignore[arg-type]
