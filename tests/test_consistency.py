"""Agreement of grouped queries: spreads against the authors' own numbers, chance by algebra, cuts planted."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from workbench import codec
from workbench.diagnostics.consistency import Consistency, by_group, consistency, cut, own_places
from workbench.evaluate import completed, prepare
from workbench.evaluate.integrity import consistency as section
from workbench.evaluate.ranking import rank
from workbench.metrics import rank_dispersion, ranks_from_scores
from workbench.plots import consistency as drawn
from workbench.report import schema_of
from workbench.search import RankPositives, scan
from workbench.statistics import Interval
from workbench.types import Relevance

Shared = Callable[[str], Path]
LANGUAGES = ("en", "de", "ja", "zh")


def planted(
    seed: int, *, n_items: int = 300, n_groups: int = 5, broken: bool = False, shared: float = 0.7, alike: bool = True
) -> Consistency:
    """Items of one difficulty for every group, noise of their own; a broken group ranks at random.

    alike False : every group has difficulties of its own.
    """
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(size=(n_items, 1 if alike else n_groups))
    logs = 1.5 + shared * 1.5 * difficulty + (1 - shared) * 1.5 * rng.normal(size=(n_items, n_groups))
    ranks = np.clip(np.round(np.exp(logs)), 1, 1000)
    if broken:
        ranks[:, 2] = rng.integers(1, 1001, n_items)
    return consistency(ranks, [f"g{g}" for g in range(n_groups)], n_gallery=1000, n_null=199, n_resamples=200)


# ---- the numbers of others, and algebra -----------------------------------------------------------------------------


def test_the_authors_number_is_the_kind_called_std_and_the_name_promises_another(shared: Shared) -> None:
    with np.load(shared("golden/metrics_mrv.npz"), allow_pickle=False) as file:
        ranks = np.stack([file[name] for name in LANGUAGES], axis=1) + 1
        official, promised = float(file["official"]), float(file["mean_variance"])
    found = consistency(ranks, LANGUAGES, n_gallery=2000, n_null=99, n_resamples=100)
    assert found.dispersion["std"].value == pytest.approx(official, rel=1e-12)
    assert found.dispersion["var"].value == pytest.approx(promised, rel=1e-12)
    assert promised > 50 * official
    assert "Mean Rank Variance" in (consistency.__doc__ or "")


def test_independent_groups_have_the_variance_that_algebra_gives_them() -> None:
    """E var_g of independent draws = (K-1)/K mean_g var_g + var_g of the means; the deals keep every group's ranks."""
    rng = np.random.default_rng(0)
    ranks = np.round(np.exp(rng.normal([1.0, 2.0, 3.0], 1.0, size=(400, 3)) + rng.normal(size=(400, 1)))).clip(1, 5000)
    found = consistency(ranks, "abc", n_gallery=5000, n_null=999, n_resamples=100)
    expected = 2 / 3 * ranks.var(axis=0).mean() + ranks.mean(axis=0).var()
    mean, low, high = found.independent["var"]
    assert mean == pytest.approx(expected, rel=0.01)
    assert low < expected < high
    logs = np.log(ranks)
    apart = 2 / 3 * logs.var(axis=0).mean() + logs.mean(axis=0).var()
    assert found.concordance.value == pytest.approx(1 - logs.var(axis=1).mean() / apart, rel=1e-12)
    assert found.dispersion["var"].value < low


def test_the_share_of_the_level_by_hand() -> None:
    """Logs 0 1, 0 1, 1 0 in units of log 2: means 1/3 and 2/3, variance of these 1/36; within an item always 1/4."""
    found = consistency([[1, 2], [1, 2], [2, 1]], "ab", n_gallery=3, n_null=9, n_resamples=100)
    assert found.level_share == pytest.approx(1 / 9)


def test_concordance_is_lins_coefficient_for_two_groups() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(3, 1, 50).clip(0.1)
    y = (x + rng.normal(0.5, 0.7, 50)).clip(0.1)
    found = consistency(np.exp(np.column_stack([x, y])), "xy", n_gallery=10**6, n_null=99, n_resamples=100)
    lin = 2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    assert found.concordance.value == pytest.approx(lin, rel=1e-9)
    assert found.with_rest == pytest.approx([np.corrcoef(x, y)[0, 1]] * 2, rel=1e-9)


def test_groups_that_agree_rank_for_rank_have_no_spread_and_full_concordance() -> None:
    found = consistency(np.tile(np.arange(1, 41), (3, 1)).T, "abc", n_gallery=50, n_null=99, n_resamples=100)
    assert [one.value for one in found.dispersion.values()] == pytest.approx([0, 0, 0, 0], abs=1e-12)
    assert found.concordance.value == pytest.approx(1)
    assert found.findings()[0].verdict == "ok"


def test_perfect_ranks_say_nothing_about_agreement() -> None:
    found = consistency(np.ones((60, 4)), LANGUAGES, n_gallery=70, n_null=99, n_resamples=100)
    (finding,) = found.findings()
    assert finding.verdict == "not measurable"
    assert "Every rank is the same" in finding.advice
    assert np.isnan(found.with_rest).all()


def test_fewer_than_thirty_items_are_not_judged() -> None:
    found = planted(0, n_items=29)
    assert found.findings()[0].verdict == "not measurable"
    assert planted(0, n_items=30).findings()[0].verdict != "not measurable"


def test_rows_of_one_item_stay_together_in_the_deals_and_in_the_intervals() -> None:
    """Doubling every row changes no estimate and narrows no band; taken for other items it would by a factor 1.4."""
    rng = np.random.default_rng(2)
    ranks = rng.integers(1, 500, size=(200, 3)).astype(float)
    how = {"n_gallery": 500, "n_null": 999, "n_resamples": 999}
    once = consistency(ranks, "abc", **how)
    twice = consistency(np.repeat(ranks, 2, axis=0), "abc", items=np.repeat(np.arange(200), 2), **how)
    apart = consistency(np.repeat(ranks, 2, axis=0), "abc", **how)
    width = {name: one.independent["std"][2] - one.independent["std"][1] for name, one in
             (("once", once), ("twice", twice), ("apart", apart))}  # fmt: skip
    assert width["twice"] == pytest.approx(width["once"], rel=0.1)
    assert width["apart"] < 0.8 * width["once"]
    assert np.ptp([twice.concordance.low, once.concordance.low]) < 0.02
    assert apart.concordance.high - apart.concordance.low < 0.8 * (once.concordance.high - once.concordance.low)


def test_items_found_together_against_independent_groups() -> None:
    found = consistency([[1, 1], [1, 1], [5, 9], [1, 3]], ["en", "de"], n_gallery=9, n_null=99, n_resamples=100)
    counted, expected = found.found_by(1)
    assert counted.tolist() == [1, 1, 2]
    assert expected == pytest.approx([4 * 0.25 * 0.5, 4 * (0.25 * 0.5 + 0.75 * 0.5), 4 * 0.75 * 0.5])
    assert found.most_apart().tolist() == [3, 2]
    assert found.most_apart(1).tolist() == [3]


# ---- the cut --------------------------------------------------------------------------------------------------------


def test_filling_cut_lists_in_gallery_order_inflates_the_spread_of_a_planted_world() -> None:
    """2,000 items; most ranks lie on either side of place 128 by a little, so filling throws them anywhere."""
    rng = np.random.default_rng(3)
    ranks = np.clip(np.round(np.exp(rng.normal(4.6, 0.8, size=(2000, 1)) + rng.normal(0, 0.4, (2000, 4)))), 1, 2000)
    found = consistency(ranks, LANGUAGES, n_gallery=2000, n_null=99, n_resamples=100)
    table = found.truncation([128]).set_index(["lists", "rest"])
    exact, filled, clamped = (table.loc[row, "std"] for row in
        (("exact", ""), ("first 128", "rest in gallery order"), ("first 128", "rest counted as 129")))  # fmt: skip
    assert exact == pytest.approx(rank_dispersion(ranks).mean())
    assert filled > 3 * exact
    assert clamped < exact
    assert found.truncation()["lists"].tolist() == ["exact", "first 128", "first 128"]


def test_a_cut_is_what_a_sort_of_truncated_scores_gives() -> None:
    """Scores beyond the first d are -100; a stable sort then leaves them where they stood in the gallery."""
    rng = np.random.default_rng(4)
    n_gallery, depth, errors = 400, 40, []
    for _ in range(200):
        scores, target = rng.normal(size=n_gallery), int(rng.integers(n_gallery))
        exact = 1 + int((scores > scores[target]).sum())
        kept = np.where(scores >= np.sort(scores)[-depth], scores, -100.0)
        sorted_place = 1 + int(np.flatnonzero(np.argsort(-kept, kind="stable") == target)[0])
        mine = cut([[exact, exact]], [target], depth=depth, n_gallery=n_gallery)[0, 0]
        if exact <= depth:
            assert mine == sorted_place
        errors.append(mine - sorted_place)
    assert np.abs(errors).max() <= 20
    assert abs(np.mean(errors)) < 2


def test_a_gallery_smaller_than_the_cut_has_nothing_to_cut() -> None:
    found = consistency([[1, 2], [3, 1]], "ab", n_gallery=3, n_null=99, n_resamples=100)
    assert found.truncation([128])["lists"].tolist() == ["exact"]
    assert found.truncation()["lists"].tolist() == ["exact", "first 2", "first 2"]


# ---- places and rows ------------------------------------------------------------------------------------------------


def test_places_among_the_wrong_by_a_slow_loop_with_ties() -> None:
    rng = np.random.default_rng(5)
    scores = rng.integers(0, 6, size=(30, 17)).astype(float)
    right = rng.random((30, 17)) < 0.2
    right[0] = False
    pairs = Relevance.from_pairs(*np.nonzero(right), n_queries=30, n_gallery=17)
    found = own_places(ranks_from_scores(scores, pairs))
    for value, q, g in zip(found, pairs.queries, pairs.items, strict=True):
        others = scores[q][~right[q]]
        assert value == 1 + (others > scores[q, g]).sum() + (others == scores[q, g]).sum() / 2


def test_places_of_one_positive_are_its_expected_rank() -> None:
    rng = np.random.default_rng(6)
    queries, gallery = rng.normal(size=(20, 4)), np.repeat(rng.normal(size=(6, 4)), 2, axis=0)
    pairs = Relevance.from_pairs(np.arange(20), np.arange(20) % 12, n_queries=20, n_gallery=12)
    (ranks,) = scan(queries, gallery, [RankPositives(pairs)])
    assert own_places(ranks).tolist() == (1 + ranks.better + ranks.tied / 2).tolist()
    assert (ranks.tied == 1).all()


def test_rows_of_queries_that_belong_together_by_a_slow_loop() -> None:
    rng = np.random.default_rng(7)
    items, labels = rng.integers(-1, 12, 90), rng.choice(["a", "b", "c", "x"], 90)
    rows, left_out = by_group(items, labels, ["c", "a", "b"])
    expected = []
    for item in range(12):
        each = [np.flatnonzero((items == item) & (labels == name)).tolist() for name in "cab"]
        expected += [list(row) for row in zip(*each, strict=False)]
    assert rows.tolist() == expected
    complete = {int(items[row[0]]) for row in expected}
    asked = set(items[(items >= 0) & np.isin(labels, list("abc"))].tolist())
    assert left_out.tolist() == sorted(asked - complete)


def test_pairing_by_order_has_the_mean_of_all_pairings_where_order_means_nothing() -> None:
    """Two texts per language, in any order: by order on average what all combinations give."""
    rng = np.random.default_rng(8)
    pool = rng.integers(1, 100, size=(40, 3, 2)).astype(float)
    every = [
        rank_dispersion(np.stack([pool[:, g, c] for g, c in enumerate(chosen)], axis=1)).mean()
        for chosen in itertools.product(range(2), repeat=3)
    ]
    ordered = []
    for _ in range(400):
        mixed = rng.permuted(pool, axis=2)
        ordered.append(rank_dispersion(np.moveaxis(mixed, 2, 1).reshape(80, 3)).mean())
    assert np.mean(ordered) == pytest.approx(np.mean(every), rel=0.003)


@pytest.mark.parametrize(
    ("ranks", "groups", "options", "message"),
    [
        ([[1, 2]], "ab", {}, r"two or more of each.*got \(1, 2\)"),
        ([[1], [2]], "a", {}, r"got \(2, 1\) and 1 names"),
        ([[1, 2], [1, 2]], "aa", {}, "a name of its own"),
        ([[1, 2], [1, 11]], "ab", {}, r"1..10.*row 1 has \[1.0, 11.0\]"),
        ([[1, 2], [1, np.nan]], "ab", {}, "row 1"),
        ([[0.5, 2], [1, 1]], "ab", {}, "row 0"),
        ([[1, 2], [1, np.inf]], "ab", {}, "must be given a place"),
        ([[1, 2], [1, 2]], "ab", {"items": [0]}, r"items \(1,\).*each of 2 rows"),
    ],
)
def test_what_cannot_be_compared_is_refused(ranks: list, groups: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        consistency(ranks, groups, n_gallery=10, **options)


# ---- fires and stays quiet ------------------------------------------------------------------------------------------


def test_fires_on_a_broken_group_and_is_quiet_when_all_are_equal() -> None:
    missed = [seed for seed in range(20) if planted(seed, broken=True).findings()[0].verdict != "look"]
    false = [seed for seed in range(20) if planted(seed).findings()[0].verdict != "ok"]
    strangers = [seed for seed in range(20) if planted(seed, alike=False).findings()[0].verdict != "ok"]
    assert max(len(missed), len(false), len(strangers) - 1) <= 0, (
        f"of 20 worlds each: broken group missed {len(missed)}; false alarms {len(false)} where groups agree, "
        f"{len(strangers)} where they have nothing in common"
    )


def test_the_broken_group_is_named() -> None:
    (finding,) = planted(0, broken=True).findings()
    assert "What g2 finds has less to do" in finding.advice


def test_groups_that_exclude_each_other_are_looked_at() -> None:
    turns = np.arange(60) % 2 == 0
    ranks = np.column_stack([np.where(turns, 1, 40), np.where(turns, 40, 1)])
    (finding,) = consistency(ranks, "ab", n_gallery=70, n_null=99, n_resamples=100).findings()
    assert finding.value == pytest.approx(-1)
    assert finding.verdict == "look"
    assert "another does not" in finding.advice


def test_where_all_groups_are_against_each_other_none_is_named() -> None:
    """Half of a median below 0 lies above it: the median group itself would be the odd one."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        values = rng.normal(size=(400, 3))
        values += 0.3 * rng.normal(size=values.shape) - values.mean(axis=1, keepdims=True)
        ranks = 1 + values.argsort(axis=0).argsort(axis=0)
        (finding,) = consistency(ranks, "abc", n_gallery=400, n_null=99, n_resamples=100).findings()
        assert finding.verdict == "look"
        assert "another does not" in finding.advice
        assert "has less to do" not in finding.advice


# ---- real systems ---------------------------------------------------------------------------------------------------


def test_nine_published_models_by_language(shared: Shared) -> None:
    """E. Bugliarello et al., "IGLUE", ICML 2022: text to image on 2,000 items, ranks known within two places.

    UC2 in eight languages: machine translations into English lie far closer together than the languages themselves,
    and lists cut at 128 and filled double either spread.
    """
    with np.load(shared("data/iglue_real_ranks") / "hits.npz", allow_pickle=False) as file:
        names = ["en", "de", "es", "id", "ja", "ru", "tr", "zh"]
        tables = {
            suffix: np.stack(
                [file[f"xflickrco/uc2/{name}{suffix if name != 'en' else ''}/rank_approx"] for name in names], axis=1
            )
            for suffix in ("", "_mt")
        }
    found = {
        suffix: consistency(table.clip(1), names, n_gallery=2000, n_null=99, n_resamples=200)
        for suffix, table in tables.items()
    }
    std = {suffix: one.dispersion["std"] for suffix, one in found.items()}
    assert std["_mt"].high < std[""].low
    for suffix, one in found.items():
        assert one.dispersion["log"].high < one.independent["log"][1], suffix
        assert one.findings()[0].verdict == "ok"
        exact, filled, _ = one.truncation([128])["std"]
        assert 2 < filled / exact < 2.5
        blurred = tables[suffix] + np.random.default_rng(0).integers(-2, 3, tables[suffix].shape)
        shaken = rank_dispersion(blurred.clip(1)).mean()
        assert shaken == pytest.approx(std[suffix].value, abs=2.5), "the places are known within two only"
    assert found["_mt"].concordance.low > found[""].concordance.high


# ---- in the report --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parameters() -> dict:
    return completed({**schema_of("integrity").defaults, "n_resamples": 200, "metrics": ["hit@1", "R@10", "MRR"]})


def world(broken: bool, seed: int = 0, n_images: int = 120) -> tuple:
    """Texts in three languages, one of them (asked for) without any relation to the images."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(n_images, 16))
    own = np.repeat(np.arange(n_images), 3)
    texts = images[own] + 0.9 * rng.normal(size=(len(own), 16))
    languages = np.tile(["en", "de", "fr"], n_images)
    if broken:
        texts[languages == "fr"] = rng.normal(size=(n_images, 16))
    return images, texts, own, languages


def results_of(parameters: dict, folder: Path, given: tuple, **changed: object) -> dict:
    images, texts, own, languages = given
    np.savez(folder / "e.npz", image=images, text=texts, text_image=own, language=languages)
    asked = {**parameters, "dataset": f"embeddings:{folder / 'e.npz'}", **changed}
    prepared = prepare(asked, progress=False)
    ranked, _ = rank(prepared, asked)
    return section.analyse(prepared, ranked, asked)


def test_image_to_text_ranks_each_language_in_a_gallery_of_its_own(parameters: dict, tmp_path: Path) -> None:
    given = world(False)
    results = results_of(parameters, tmp_path, given)
    images, texts, _, languages = given
    for g, name in enumerate(("de", "en", "fr")):
        mine = texts[languages == name].astype(np.float32)
        unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (images.astype(np.float32), mine)]
        scores = unit[0] @ unit[1].T
        assert (
            results["consistency i2t"].ranks[:, g].tolist() == (1 + (scores > np.diag(scores)[:, None]).sum(1)).tolist()
        )
        assert results["consistency t2i"].ranks[:, g].tolist() == (1 + (scores > np.diag(scores)).sum(0)).tolist()
    recall = results["recall by group i2t"]
    for g, name in enumerate(recall.groups):
        column = results["consistency i2t"].groups.index(name)
        assert recall.value[g, 0] == (results["consistency i2t"].ranks[:, column] == 1).mean()
    assert recall.chance[0] == pytest.approx(1 / 120)
    assert results["consistency t2i"].n_gallery == results["consistency i2t"].n_gallery == 120


def test_what_lacks_a_language_is_left_out_and_said(parameters: dict, tmp_path: Path) -> None:
    images, texts, own, languages = world(False)
    kept = np.ones(len(own), bool)
    kept[[0, 10, 11]] = False
    results = results_of(parameters, tmp_path, (images, texts[kept], own[kept], languages[kept]))
    found = results["consistency t2i"]
    assert found.n_left_out == 2
    assert len(found.ranks) == 118
    assert found.n_gallery == 120
    assert results["consistency i2t"].n_gallery == 118
    assert 0 not in found.items
    assert 3 not in found.items


@pytest.mark.parametrize(
    ("language", "changed", "reason"),
    [
        ("", {}, "no value at all"),
        ("en", {}, "the same value"),
        (None, {}, "state no language"),
        ("one each", {}, "Only 0 images"),
    ],
)
def test_no_groups_to_compare_is_said(
    parameters: dict, tmp_path: Path, language: str | None, changed: dict, reason: str
) -> None:
    images, texts, own, _ = world(False, n_images=40)
    given = {
        "one each": np.where(own < 20, "en", "de"), None: np.arange(len(own)),
    }.get(language, np.full(len(own), language))  # fmt: skip
    np.savez(tmp_path / "e.npz", image=images, text=texts, text_image=own,
             **{"number" if language is None else "language": given})  # fmt: skip
    asked = {**parameters, "dataset": f"embeddings:{tmp_path / 'e.npz'}", **changed}
    prepared = prepare(asked, progress=False)
    ranked, _ = rank(prepared, asked)
    results = section.analyse(prepared, ranked, asked)
    assert reason in results["consistency not measured"]
    assert not any(name.startswith("consistency t2i") for name in results)
    assert "cycle t2i2t" in results


def test_a_column_that_is_not_there_is_an_error(parameters: dict, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"groups='tongue'.*language"):
        results_of(parameters, tmp_path, world(False, n_images=40), groups="tongue")


def test_results_survive_being_written_and_draw(parameters: dict, tmp_path: Path) -> None:
    types = {kind.__name__: kind for kind in (*section.TYPES, Interval)}
    for name, one in results_of(parameters, tmp_path, world(True)).items():
        if not isinstance(one, Consistency):
            continue
        again = codec.from_plain(codec.to_plain(one), types)
        assert again.table().equals(one.table()), name
        assert again.findings() == one.findings()
        ax = one.plot()
        shown = ax.lines[0].get_xdata()
        assert shown == pytest.approx(100 * one.table()["share"].to_numpy())
        bars = [bar.get_height() for bar in drawn.found_by(one).patches]
        assert bars == pytest.approx((100 * one.found_by(1)[0] / len(one.ranks)).tolist())


@pytest.mark.slow
def test_the_section_fires_on_one_broken_language_and_is_quiet_when_all_are_equal(
    parameters: dict, tmp_path: Path
) -> None:
    """Either finding in either direction: recall by language, or agreement."""

    def alarms(seed: int, broken: bool) -> list[str]:
        results = results_of(parameters, tmp_path, world(broken, seed))
        mine = [result for name, result in results.items() if name.startswith(("consistency ", "recall "))]
        found = [one for result in mine for one in result.findings()]
        assert all(one.verdict != "not measurable" for one in found)
        return [one.name for one in found if one.verdict in ("look", "problem")]

    recall = ("t2i/hit@1 by language", "i2t/hit@1 by language")
    missed = sum(not set(recall) <= set(alarms(seed, True)) for seed in range(20))
    wrong = sum(bool(alarms(seed, False)) for seed in range(20))
    assert max(missed, wrong - 2) <= 0, (
        f"of 20 worlds each: broken language missed in either direction {missed}; any false alarm among four {wrong}"
    )


@pytest.mark.slow
def test_scenes_in_five_languages(parameters: dict) -> None:
    """The tiny encoder has never seen Japanese: it must be named in both directions."""
    asked = {**parameters, "n_images": 60}
    prepared = prepare(asked, progress=False)
    ranked, _ = rank(prepared, asked)
    results = section.analyse(prepared, ranked, asked)
    for direction in ("t2i", "i2t"):
        recall = results[f"recall by group {direction}"]
        assert recall.groups[0] == "ja"
        assert recall.findings()[0].verdict in ("look", "problem")
        found = results[f"consistency {direction}"]
        assert found.ranks.shape == (60, 5)
        assert found.ranks.mean(axis=0).argmax() == found.groups.index("ja")
    assert len(results["examples apart t2i"].cards) == 5


def test_one_image_or_one_text_has_no_cycle(parameters: dict, tmp_path: Path) -> None:
    for n_images, n_texts in ((1, 2), (3, 1)):
        rng = np.random.default_rng(0)
        given = rng.normal(size=(n_images, 4)), rng.normal(size=(n_texts, 4)), np.zeros(n_texts, int), ["en"] * n_texts
        results = results_of(parameters, tmp_path, given, metrics=["hit@1"])
        assert "two queries and two items" in results["cycles not measured"]
