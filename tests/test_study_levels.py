"""S15: the arms are what they are called, the truth is counted as the metrics count it, and the study can fail."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.datasets.scenes.clips import clips
from workbench.fusion import fuse_levels, level_scores
from workbench.metrics import aggregate, per_query, ranks_from_scores
from workbench.studies.hubness import levels
from workbench.studies.hubness.levels import STUDY, Part
from workbench.studies.ledger import StudyResult, run_study
from workbench.types import Relevance

RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def tiny() -> StudyResult:
    return run_study(STUDY, size="tiny")


def part(n_queries: int = 30, n_gallery: int = 12, n_bank: int = 25, hubs: float = 0.0) -> Part:
    """Items with a score of one for their own queries, noise, and hubs that bank and test share."""
    truth = np.zeros((n_queries, n_gallery), bool)
    truth[np.arange(n_queries), np.arange(n_queries) % n_gallery] = True
    loud = hubs * RNG.normal(size=(3, 1, n_gallery))
    own = np.zeros((n_bank, n_gallery))
    own[np.arange(n_bank), np.arange(n_bank) % n_gallery] = 0.5
    scores = 0.5 * truth + 0.1 * RNG.normal(size=(3, n_queries, n_gallery)) + loud
    return Part(scores, own + 0.1 * RNG.normal(size=(3, n_bank, n_gallery)) + loud, truth)


def slow_bias(bank: np.ndarray, beta: float, rounds: int = 4) -> np.ndarray:
    plan = np.exp(beta * bank)
    b = 1 / plan.sum(axis=0)
    for _ in range(rounds):
        b = 1 / ((1 / (plan @ b)) @ plan)
    return -np.log(b) / beta


def same_order(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for a constant."""
    np.testing.assert_allclose(found - found[0, 0], expected - expected[0, 0], atol=1e-9)


def test_hits_are_those_of_the_metrics_with_ties() -> None:
    given = part()
    scores = RNG.integers(0, 4, (30, 12)).astype(float)
    rows, columns = np.nonzero(given.truth)
    ranks = ranks_from_scores(scores, Relevance.from_pairs(rows, columns, n_queries=30, n_gallery=12))
    assert given.hit(scores) == pytest.approx(100 * aggregate("hit@1", per_query("hit@1", ranks).expected))
    assert given.hit(np.ones((30, 12))) == pytest.approx(100 / 12)


def test_arms_are_their_formulas() -> None:
    given = part(hubs=0.3)
    biases = np.array([slow_bias(one, 20.0) for one in given.bank])
    same_order(levels.per_level(given, (20.0,)), (given.levels - biases[:, None]).mean(axis=0))
    none = np.array([slow_bias(one, 20.0, 0) for one in given.bank])
    same_order(levels.per_level(given, (20.0,), rounds=0), (given.levels - none[:, None]).mean(axis=0))
    same_order(levels.after_sum(given, (20.0,)), given.levels.mean(axis=0) - slow_bias(given.bank.mean(axis=0), 20.0))
    same_order(levels.ARMS["Sinkhorn, best level alone"][0](given, (1.0, 20.0)), given.levels[1] - biases[1])
    powers = np.exp(20 * given.levels)
    same_order(levels.row_softmax(given, (20.0,)), (powers / powers.sum(axis=2, keepdims=True)).mean(axis=0))


def test_with_one_temperature_for_a_single_level_before_and_after_the_sum_are_one() -> None:
    given = part(hubs=0.3)
    alike = Part(np.stack([given.levels[0]] * 3), np.stack([given.bank[0]] * 3), given.truth)
    same_order(levels.per_level(alike, (50.0,)), levels.after_sum(alike, (50.0,)))


def test_planted_hubs_are_taken_off_and_the_imitation_leaves_them() -> None:
    given = part(n_queries=120, n_gallery=40, n_bank=200, hubs=0.4)
    plain = given.hit(fuse_levels(given.levels))
    assert given.hit(levels.per_level(given, (20.0,))) > plain + 20
    assert given.hit(levels.row_softmax(given, (20.0,))) < plain + 5
    assert given.hit(levels._shuffled(given, (20.0,), 0)) < plain


def test_dials_are_chosen_on_the_validation_part_only() -> None:
    test, val = part(hubs=0.3), part(hubs=0.3)
    found = levels._arms(test, val, 0)[1]
    blind = Part(test.levels, test.bank, RNG.permutation(test.truth, axis=1))
    for arm, scores in levels._arms(blind, val, 0)[1].items():
        np.testing.assert_array_equal(scores, found[arm])


def test_busy_cells_are_those_with_objects() -> None:
    world = clips(n_clips=6, n_scenes=2, objects=(1, 3))
    for clip in range(6):
        frames = world.frames(clip, size=48)
        copies = levels._busiest(frames)
        for frame, scene in enumerate(world.scenes[clip]):
            shown = set()
            for copy in copies:
                changed = (copy[frame] == frames[frame]).all(axis=-1)
                cells = changed.reshape(3, 16, 3, 16).all(axis=(1, 3))
                assert cells.sum() >= 1
                shown |= {(int(i), int(j)) for i, j in np.argwhere(cells)}
            assert {(thing.row, thing.column) for thing in scene.objects} <= shown


def test_no_scene_of_the_bank_is_scored() -> None:
    contents = [{s.content for clip in one.scenes for s in clip} for one in levels._sets(0, (30, 20, 40))]
    assert not contents[0] & contents[2]
    assert not contents[1] & contents[2]
    assert not contents[0] & contents[1]


def test_levels_of_the_study_are_those_of_the_scores() -> None:
    world = clips(n_clips=7)
    texts, shown = levels._drawn(world, levels.NOISE, (0.1, 0.1, 0.1), 0)
    whole = next(level_scores(texts.sentences, texts.words, shown.clips, shown.frames, shown.patches,
                              word_mask=texts.mask, block=100))  # fmt: skip
    np.testing.assert_allclose(levels._levels(texts, shown), whole, atol=1e-12)
    assert whole.shape == (3, 14, 7)


# ----------------------------------------------------------------------------------------------------------- the study


def test_the_study_answers_and_the_imitation_changes_the_answers(tiny: StudyResult) -> None:
    answers = {one.claim.says: one.answer for one in tiny.verdict.claims}
    fakes = {one.claim.says: one.answer for one in tiny.fake.claims}
    lifted = "Sinkhorn per level lifts the sum where hubs are stronger"
    assert answers[lifted] == "holds"
    assert fakes[lifted] == "fails"
    assert answers["the sum of levels finds more than the best of them even if one is junk"] != "holds"


def test_every_claim_is_about_arms_that_are_measured(tiny: StudyResult) -> None:
    measured = tiny.values()
    for one in STUDY.claims:
        assert {one.arm, one.fake, *one.controls} <= set(measured[one.condition]), one.says
    assert measured["no hubs"].keys() == measured["hubs 0.3"].keys() == measured["one junk level"].keys()


def test_turning_hubs_up_lowers_the_sum_and_not_sinkhorn(tiny: StudyResult) -> None:
    means = {(row["condition"], row["arm"]): row["mean"] for row in tiny.table()}
    assert means["no hubs", "plain sum"] > means["hubs 0.2", "plain sum"] > means["hubs 0.3", "plain sum"] + 1
    assert means["hubs 0.3", "Sinkhorn per level"] > means["no hubs", "Sinkhorn per level"] - 8
    assert means["no hubs", "Sinkhorn per level"] < means["frames, no hubs", "best frame"] + 30


@pytest.mark.slow
def test_rendered_clips_are_measured_from_small_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(levels.CLIPS, "small", (20, 15, 25))  # type: ignore[arg-type]
    monkeypatch.setitem(levels.RENDERED, "small", (12, 8, 20))  # type: ignore[arg-type]
    found = STUDY.measure(0, "small")
    hits = found["rendered clips, not judged"]
    assert hits["plain sum"] > 100 / 12
    assert hits["best level alone"] > 100 / 12
    assert hits.keys() == found["no hubs"].keys()
