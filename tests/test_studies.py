"""What every study owes: a whole card, five seeds, an arm that knows nothing, a claim that can be lost, a cost kept."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from workbench.studies import STUDIES, Card, Claim, Study, ledger, read_ledger, run_studies, run_study, with_fake
from workbench.studies.identity import code_digest
from workbench.studies.verdict import judge

KEYS = list(STUDIES)
TINY_SECONDS = 8


@pytest.fixture(scope="module")
def libraries() -> None:
    """Loading torch, the built-in encoder and compiled kernels is no cost of a study."""
    for key in KEYS:
        STUDIES[key].measure(0, "tiny")


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("key", KEYS)
def test_tiny_is_whole_and_quick(key: str) -> None:
    study, started = STUDIES[key], time.process_time()
    found = run_study(study, size="tiny")
    spent = time.process_time() - started
    assert spent <= TINY_SECONDS, f"{key} took {spent:.1f} s of processor time at size tiny"
    assert study.seconds["tiny"] <= TINY_SECONDS
    assert len(found.seeds) >= 5
    first = {(condition, arm) for condition, arms in found.seeds[0].items() for arm in arms}
    for arms in found.seeds:
        assert {(condition, arm) for condition, given in arms.items() for arm in given} == first
        assert all(math.isfinite(value) for given in arms.values() for value in given.values())
    assert {arm for _, arm in first} & set(study.blind)
    assert found.verdict.answer
    for condition, arm in found.roles():
        assert arm in found.values().get(condition, {}) or any(c.fake == arm for c in found.claims)


@pytest.mark.parametrize("key", KEYS)
def test_same_seed_same_numbers(key: str) -> None:
    study = STUDIES[key]
    assert study.measure(3, "tiny") == study.measure(3, "tiny")
    assert study.measure(3, "tiny") != study.measure(4, "tiny")


@pytest.mark.parametrize("key", KEYS)
def test_the_card_says_all(key: str) -> None:
    study = STUDIES[key]
    assert study.key == key
    assert len({(one.says, one.condition) for one in study.claims}) == len(study.claims)
    for text in (study.card.claim, study.card.conditions, study.card.expected, study.card.refuses, study.card.tuned):
        assert text == text.strip()
        assert text.endswith((".", "?")), text
        assert "[code]" not in text
    assert study.seconds["tiny"] <= study.seconds["small"] <= study.seconds["full"]


@pytest.mark.slow
@pytest.mark.parametrize("key", KEYS)
def test_with_the_imitation_the_verdict_changes(key: str) -> None:
    started = time.process_time()
    found = run_study(STUDIES[key], size="small")
    spent = time.process_time() - started
    holding = {(one.claim.says, one.claim.condition) for one in found.verdict.claims if one.answer == "holds"}
    still = {(one.claim.says, one.claim.condition) for one in found.fake.claims if one.answer == "holds"}
    assert holding - still, f"{key}: every claim that holds also holds with the imitation"
    assert spent <= 1.5 * STUDIES[key].seconds["small"], f"{key} took {spent:.0f} s of processor time at size small"


# --- the rule ---------------------------------------------------------------------------------------------------------

CLAIM = Claim("new beats old", "plain", "new", ("old", "older"), fake="shuffled", unit="points", least=1.0)


def seeds(new: list[float], old: list[float], older: list[float]) -> list[dict[str, dict[str, float]]]:
    return [
        {"plain": {"new": a, "old": b, "older": c, "shuffled": 0.0}} for a, b, c in zip(new, old, older, strict=True)
    ]


def test_effect_is_over_the_strongest_control_paired_by_seed() -> None:
    new, old, older = [10.0, 12.0, 11.5, 14.0, 9.0], [8.0, 10.5, 9.0, 12.5, 7.5], [1.0, 30.0, 1.0, 1.0, 1.0]
    one = judge([CLAIM], seeds(new, old, older)).claims[0]
    expected = stats.ttest_rel(new, old).confidence_interval(0.95)
    assert one.control == "old"
    assert (one.low, one.high) == pytest.approx((expected.low, expected.high))
    assert one.answer == "holds"


@pytest.mark.parametrize(("least", "answer"), [(1.0, "holds"), (1.71, "inconclusive"), (3.0, "fails")])
def test_the_whole_interval_decides(least: float, answer: str) -> None:
    found = judge([replace(CLAIM, least=least)], seeds([10, 12, 11.5, 14, 9], [8, 10.5, 9, 12.5, 7.5], [0] * 5))
    assert found.claims[0].answer == answer


def test_lower_is_better_turns_everything_round() -> None:
    claim = replace(CLAIM, better="lower")
    one = judge([claim], seeds([1, 1.5, 1.2, 1.1, 1.3], [4, 4.5, 4.2, 4.1, 4.0], [9, 9, 9, 9, 9])).claims[0]
    assert (one.control, one.answer) == ("old", "holds")
    assert one.effect == pytest.approx(2.94)


def test_published_values_use_welch_and_single_values_are_exact() -> None:
    a, b = (71.0, 68.0, 66.0, 65.0), (66.2, 66.0, 65.8)
    claim = replace(CLAIM, condition="published", controls=("old",))
    one = judge([claim], [], {"published": {"new": a, "old": b}}).claims[0]
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert (one.low, one.high, one.n_seeds) == pytest.approx((expected.low, expected.high, 0))
    exact = judge([claim], [], {"published": {"new": (3.0,), "old": (1.0,)}}).claims[0]
    assert (exact.effect, exact.low, exact.high, exact.answer) == (2.0, 2.0, 2.0, "holds")


def answers(*given: tuple[str, float, bool]) -> str:
    """The study's verdict for claims with an effect well above (1) or below (-1) the bar, or across it (0)."""
    claims = [
        replace(CLAIM, says=f"claim {i}", condition=f"{name} {i}" if name == "own" else name, controls=("old",),
                least=0.0, check=check)
        for i, (name, _, check) in enumerate(given)
    ]  # fmt: skip
    noise = np.linspace(-1, 1, 5)
    found = [
        {claim.condition: {"new": 5 * size + float(wobble), "old": 0.0} for claim, (_, size, _) in
         zip(claims, given, strict=True)}
        for wobble in noise
    ]  # fmt: skip
    return judge(claims, found).answer


def test_verdict_of_the_whole_study() -> None:
    assert answers(("own", 1, False), ("own", 1, False)) == "holds"
    assert answers(("own", -1, False), ("own", -1, False)) == "fails"
    assert answers(("own", 1, False), ("own", -1, False)) == "holds under own 0"
    assert answers(("own", 0, False), ("own", -1, False)) == "inconclusive"
    assert answers(("own", 1, False), ("own", 0, True)) == "inconclusive"
    assert answers(("own", -1, False), ("own", 1, True)) == "fails"


def test_the_imitation_takes_the_place_of_the_mechanism() -> None:
    assert with_fake(CLAIM).arm == "shuffled"
    assert with_fake(CLAIM).controls == ("old", "older")
    own = replace(CLAIM, controls=("shuffled",))
    assert with_fake(own).controls == ("new",)
    assert judge([with_fake(CLAIM)], seeds([10] * 5, [8] * 5, [1] * 5)).answer == "fails"


def test_what_was_not_measured_is_named() -> None:
    with pytest.raises(ValueError, match="'older' was not measured"):
        judge([CLAIM], [{"plain": {"new": 1.0, "old": 0.0}}] * 5)
    with pytest.raises(ValueError, match="new has a value that is not finite"):
        judge([CLAIM], seeds([math.nan] * 5, [0] * 5, [0] * 5))
    with pytest.raises(ValueError, match="two seeds or more"):
        judge([CLAIM], seeds([1], [0], [0]))


# --- cards, seeds that are kept, the ledger ---------------------------------------------------------------------------

CARD = Card("S99", "A title", ("A. Author",), "Venue", 2024, "https://example.org", "It helps.", "Always.", "Up by 1.",
            "A shuffle.", "Not tuned.")  # fmt: skip


def measured(seed: int, size: str) -> dict[str, dict[str, float]]:
    CALLS.append(seed)
    return {"plain": {"new": 10.0 + seed, "old": 8.0 + seed / 2, "shuffled": 0.1 * seed}}


CALLS: list[int] = []
COST = {"tiny": 1.0, "small": 1.0, "full": 1.0}
STUDY = Study(CARD, (replace(CLAIM, controls=("old",)),), measured, COST, blind=("shuffled",))


def test_cards_and_studies_that_lack_something_are_refused() -> None:
    with pytest.raises(ValueError, match="the card of S99 lacks claim"):
        replace(CARD, claim="")
    with pytest.raises(ValueError, match="S and two digits"):
        replace(CARD, key="S6")
    with pytest.raises(ValueError, match="an arm that knows nothing"):
        replace(STUDY, blind=())
    with pytest.raises(ValueError, match="5 seeds or more"):
        replace(STUDY, seeds={"tiny": 3, "small": 5, "full": 5})
    with pytest.raises(ValueError, match="controls other than its own arm"):
        replace(CLAIM, controls=("new",))


def test_finished_seeds_are_not_run_again_and_a_broken_run_goes_on(tmp_path: Path) -> None:
    CALLS.clear()
    first = run_study(STUDY, size="small", n_seeds=3, folder=tmp_path)
    assert CALLS == [0, 1, 2]
    more = run_study(STUDY, size="small", n_seeds=5, folder=tmp_path)
    assert CALLS == [0, 1, 2, 3, 4]
    assert more.seeds[:3] == first.seeds
    run_study(STUDY, size="tiny", n_seeds=2, folder=tmp_path)
    assert CALLS[5:] == [0, 1]


def test_the_ledger_gives_back_what_it_was_given(tmp_path: Path) -> None:
    results = run_studies([STUDY], size="tiny", progress=False)
    path = tmp_path / "ledger.json"
    path.write_text(json.dumps(ledger(results, {"size": "tiny"})), encoding="utf-8")
    manifest, again = read_ledger(path)
    assert manifest == {"size": "tiny"}
    assert json.dumps(again[0].flat()) == json.dumps(results[0].flat())
    assert again[0].verdict == results[0].verdict
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="no ledger of studies"):
        read_ledger(path)


def test_a_study_of_its_own_world_takes_no_embeddings() -> None:
    with pytest.raises(ValueError, match="builds its own world"):
        run_study(STUDY, data=("x", None, None, None))  # type: ignore[arg-type]


def test_code_digest_follows_imports_at_any_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_digest("workbench.studies.verdict")
    assert before != code_digest("workbench.studies.study")
    import workbench.studies.identity as identity

    real = identity._source
    touched = lambda name: real(name) + ("\n# new" if name == "workbench.types" else "")  # noqa: E731
    monkeypatch.setattr(identity, "_source", touched)
    assert code_digest("workbench.studies.verdict") != before
    unrelated = lambda name: real(name) + ("\n# new" if name == "workbench.cli" else "")  # noqa: E731
    monkeypatch.setattr(identity, "_source", unrelated)
    assert code_digest("workbench.studies.verdict") == before
