"""1-to-K against its baselines: what is measured is what is named, nobody is favoured, and the imitation shows."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from workbench.adapt.contrastive import TwoMaps
from workbench.diagnostics.consistency import consistency
from workbench.studies.ledger import run_study
from workbench.studies.losses import one_to_k as study
from workbench.studies.losses.one_to_k import (
    CLEAN,
    CONSTANT,
    NOISE,
    NOISY,
    OBJECTIVES,
    ONE_TO_K,
    PIVOT,
    SEPARATE,
    SHARE_T2I,
    SHUFFLED,
    SIZES,
    STUDY,
    T2I,
    Found,
    concordance,
)


def unit(*shape: int, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).normal(size=shape)
    return (made / np.linalg.norm(made, axis=-1, keepdims=True)).astype(np.float32)


def test_ranks_and_recall_are_the_loop() -> None:
    """Four of five items are asked for; every rank counted one by one, in both directions and in the mixed gallery."""
    n, n_languages = 20, 5
    images, texts = unit(n, 6), unit(n_languages, n, 6, seed=1)
    texts[:, :10] = 0.7 * images[:10] + 0.3 * texts[:, :10]
    found = Found.of(images, texts)
    wide, others = images.astype(float), texts.astype(float)
    for direction in (T2I, study.I2T):
        assert found.ranks[direction].shape == (16, n_languages)
        for i in range(16):
            for k in range(n_languages):
                rivals = wide @ others[k, i] if direction == T2I else others[k] @ wide[i]
                assert found.ranks[direction][i, k] == 1 + (rivals > rivals[i]).sum()
    first = np.mean([(found.ranks[way] == 1).mean(axis=0) for way in found.ranks], axis=0)
    assert np.allclose(found.recall, 100 * first)
    shares = []
    for i in range(16):
        order = np.argsort(-(others.reshape(-1, 6) @ wide[i]))[:n_languages]
        shares.append((order % n == i).mean())
    assert found.mixed == pytest.approx(100 * np.mean(shares))


def test_concordance_is_that_of_the_diagnostic() -> None:
    ranks = np.random.default_rng(0).integers(1, 30, size=(25, 4)).astype(float)
    whole = consistency(ranks, list("abcd"), n_gallery=30, n_null=1, n_resamples=100)
    assert concordance(ranks) == pytest.approx(whole.concordance.value, abs=1e-12)


def test_a_model_that_knows_nothing_has_no_dispersion() -> None:
    """Why dispersion never stands alone: equal scores give every language the same rank."""
    found = Found.of(np.ones((20, 1), np.float32), np.ones((5, 20, 1), np.float32))
    assert found.dispersion() == 0
    assert (found.ranks[T2I] == 10.5).all()
    assert np.allclose(found.recall, 5.0)
    assert found.mixed == pytest.approx(5.0)


def test_cutting_lists() -> None:
    """Ranks 1 and 40 of a gallery of 100, cut after 6: item 0 is filled in at 7, item 1 at 7 + floor(94 / 100)."""
    ranks = np.array([[1.0, 40.0], [1.0, 1.0]])
    found = Found({T2I: ranks, study.I2T: ranks}, np.zeros(2), 0.0, 100)
    shares = study._cutting(found)
    assert shares == {study.EXACT: 100.0, study.FILLED: pytest.approx(100 * 3 / 19.5), study.NEXT: shares[study.FILLED]}


def test_worlds_have_the_same_share_of_errors_in_all() -> None:
    assert np.mean(list(NOISE[CLEAN].values())) == pytest.approx(np.mean(list(NOISE[NOISY].values())))
    assert NOISE[CLEAN]["en"] == 0
    assert len(set(NOISE[NOISY].values())) == 1


@pytest.mark.parametrize("arm", [name for name in OBJECTIVES if name != study.FEWER])
def test_every_arm_sees_as_many_pairs(arm: str) -> None:
    """Texts compared in one step; the arm that is given fewer says so in its name."""
    counted = _texts_in_a_step(arm)
    assert counted == 6 * 5
    assert _texts_in_a_step(study.FEWER) * 5 == counted
    assert "fifth" in study.FEWER


def _texts_in_a_step(arm: str) -> int:
    import torch

    class Counting(TwoMaps):
        n = 0

        def texts(self, terms: torch.Tensor) -> torch.Tensor:
            self.n += int(np.prod(terms.shape[:-1]))
            return super().texts(terms)

    model = Counting(4, 7, dim=3, seed=0)
    pictures, terms = torch.randn(40, 4), torch.rand(5, 40, 7)
    OBJECTIVES[arm](model, pictures, terms, np.random.default_rng(0), 6, 0.2)
    return model.n


def test_tuning_tries_every_temperature_and_rate_on_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The winner is the best on the validation part, and the same settings are tried for every objective."""
    train, validation, _ = study._world(NOISE[NOISY], 0, SIZES["tiny"])
    tried: list[tuple[float, float]] = []
    truth = {(0.1, 0.2): 0.3, (0.1, 0.4): 0.6, (0.5, 0.4): 0.5}
    sizes = study._Sizes(40, 12, 24, 1, 8, 8, 60, (0.1, 0.5), (0.2, 0.4))

    def trained(part: object, objective: object, sizes: object, rate: float, tau: float, seed: int) -> TwoMaps:
        tried.append((rate, tau))
        model = TwoMaps(validation.pictures.shape[1], validation.terms.shape[2], dim=2)
        model.setting = (rate, tau)  # type: ignore[attr-defined]
        return model

    monkeypatch.setattr(study, "_trained", trained)
    monkeypatch.setattr(study, "_quick_recall", lambda images, texts: truth[tried[-1]])
    best = study._tuned(train, validation, OBJECTIVES[PIVOT], sizes, 0)
    assert tried == [(0.1, 0.2), (0.1, 0.4), (0.5, 0.4)]
    assert best.setting == (0.1, 0.4)


def test_tiny_is_deterministic_and_complete() -> None:
    first, again = STUDY.measure(1, "tiny"), STUDY.measure(1, "tiny")
    assert first == again
    for claim in STUDY.claims:
        assert {claim.arm, claim.fake, *claim.controls} <= set(first[claim.condition])
    assert all(np.isfinite(value) for arms in first.values() for value in arms.values())
    assert first[f"{SHARE_T2I}, {CLEAN}"][PIVOT] == 100.0
    assert first[f"MRV, {T2I}, {NOISY}"][CONSTANT] == 0.0
    assert first != STUDY.measure(2, "tiny")


@pytest.mark.slow
def test_with_the_imitation_the_verdict_changes() -> None:
    """Shuffled captions lose every claim on recall; separate denominators do what 1-to-K does, and no better."""
    result = run_study(STUDY, size="small", n_seeds=2)
    lost = [
        claim.claim.says
        for claim, fake in zip(result.verdict.claims, result.fake.claims, strict=True)
        if claim.effect >= claim.claim.least and fake.effect < fake.claim.least
    ]
    assert "average recall does not pay for it" in lost
    assert "training teaches something" in lost
    dispersion = {arm: np.mean(values) for arm, values in result.values()[f"{SHARE_T2I}, {NOISY}"].items()}
    assert dispersion[ONE_TO_K] == pytest.approx(dispersion[SEPARATE], abs=5.0)
    assert dispersion[SHUFFLED] > 300
