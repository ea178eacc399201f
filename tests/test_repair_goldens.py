"""Every repair that is a bias, or a gated one, against the official code of its paper; deviations are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp

from workbench.normalize import Bank, BankStatistic, Repair, bank_bias, search_all
from workbench.types import Relevance

CASES = ("random_small", "duplicates", "clip_coco_t2i")
WORLD = ("Q", "G", "BQ", "BG")


class World:
    """The fixed inputs of the official outputs: test queries, gallery, and a bank of either kind, as float64."""

    def __init__(self, shared: Callable[[str], Path], case: str) -> None:
        with np.load(shared(f"golden/inputs__{case}.npz")) as inputs:
            self.queries, self.gallery, self.bank, self.others = (inputs[name].astype(np.float64) for name in WORLD)
        self.case, self.shared = case, shared
        self.scores = self.queries @ self.gallery.T
        self.tolerance = 1e-4 if case == "clip_coco_t2i" else 1e-9

    def golden(self, kind: str) -> dict[str, np.ndarray]:
        with np.load(self.shared(f"golden/norm_{kind}__{self.case}.npz")) as stored:
            return {name: stored[name].astype(np.float64) for name in stored.files}

    def fit(self, name: str, **parameters: float) -> Repair:
        # The official inputs hold gallery rows that are also in the gallery bank; that is asked for here.
        banks = Bank(self.bank, "transductive"), Bank(self.others, "transductive")
        return Repair(name, **parameters).fit(self.gallery, *banks)

    def repaired(self, name: str, **parameters: float) -> np.ndarray:
        """Scores after a repair that subtracts something, one bias per query where it is gated."""
        found = self.fit(name, **parameters).transform(self.queries)
        assert found.bias is not None
        return self.scores - (found.bias if found.bias_row is None else found.bias[found.bias_row])


@pytest.fixture(params=CASES)
def world(request: pytest.FixtureRequest, shared: Callable[[str], Path]) -> World:
    return World(shared, request.param)


def agree(ours: np.ndarray, official: np.ndarray, tolerance: float, scale: float = 1.0) -> None:
    """Equal up to a constant per query, and in the same order wherever the official gap is larger than the tolerance.

    scale : official units per unit of ours, such as the beta of exponentials.
    """
    assert len(ours) > 0
    apart = official - scale * ours
    np.testing.assert_allclose(apart - apart.mean(axis=1, keepdims=True), 0, atol=tolerance)
    order = np.argsort(-official, axis=1)
    gaps = -np.diff(np.take_along_axis(official, order, axis=1), axis=1)
    in_our_order = -np.diff(np.take_along_axis(ours, order, axis=1), axis=1)
    clear = gaps > 4 * tolerance
    assert clear.any()
    assert (in_our_order[clear] > 0).all()


DUAL = [("b0.5025_3", 1 / 1.99, 3.0), ("b20_20", 20.0, 20.0), ("b50_10", 50.0, 10.0)]


@pytest.mark.parametrize(("key", "beta"), [("20", 20.0), ("14.29", 1 / 0.07), ("1.99", 1.99)])
def test_inverted_softmax_is_dbnorms(world: World, key: str, beta: float) -> None:
    official = np.log(world.golden("is_dbnorm")[f"is_beta{key}"])
    agree(world.repaired("inverted softmax", beta=beta), official, world.tolerance, beta)


@pytest.mark.parametrize(("key", "beta", "beta_gallery"), DUAL)
def test_dualis_is_the_papers(world: World, key: str, beta: float, beta_gallery: float) -> None:
    official = np.log(world.golden("is_dbnorm")[f"dualis_paper_{key}"])
    ours = world.repaired("dualis", beta=beta, beta_gallery=beta_gallery)
    agree(ours, official, world.tolerance, beta + beta_gallery)


def test_the_official_dualis_never_looks_at_the_test_queries(world: World) -> None:
    """Unused test matrix: what it normalises, and gives back, is the gallery bank's scores."""
    official = np.log(world.golden("is_dbnorm")["dualis_official_b0.5025_3"])
    assert official.shape == (len(world.others), len(world.gallery)) != world.scores.shape
    bias = world.fit("dualis", beta=1 / 1.99, beta_gallery=3.0).bias
    agree(world.others @ world.gallery.T - bias, official, world.tolerance, 1 / 1.99 + 3)


def test_the_copy_of_dualis_in_dbsn_gives_the_gallery_bank_a_hundredth(world: World) -> None:
    weights = BankStatistic("log-sum-exp", 50.0, 1.0), BankStatistic("log-sum-exp", 50.0, 0.01, "gallery bank")
    bias = bank_bias(world.gallery, world.bank, world.others, weights)
    agree(world.scores - bias, world.golden("dbsn")["dualis_main_embs"], world.tolerance)


def test_the_copy_of_dualdis_in_dbsn_has_no_gates(world: World) -> None:
    official = np.log(world.golden("dbsn")["dualdis_main_embs_b0.02_1"])
    agree(world.repaired("dualis", beta=50.0, beta_gallery=1.0), official, world.tolerance, 51.0)


@pytest.mark.parametrize(
    ("key", "beta", "k"), [("beta20_k1", 20.0, 1), ("beta14.29_k1", 1 / 0.07, 1), ("beta50_k1", 50.0, 1),
                           ("beta20_k5", 20.0, 5)],
)  # fmt: skip
def test_qb_norm_is_the_official_one_row_by_row(world: World, key: str, beta: float, k: int) -> None:
    """Mixed row scales: active rows hold exponentials, the others raw scores, in one matrix."""
    golden = world.golden("qbnorm")
    official, active = golden[f"qbnorm_{key}"], golden[f"active_{key}"].astype(bool)
    repair = world.fit("qb-norm", beta=beta, k=k)
    np.testing.assert_array_equal(repair.transform(world.queries).bias_row, active)
    ours = world.repaired("qb-norm", beta=beta, k=k)
    agree(ours[active], np.log(official[active]), world.tolerance, beta)
    np.testing.assert_allclose(ours[~active], official[~active], atol=1e-7)
    if not active.all():
        assert np.median(official[active]) < np.median(official[~active]) / 2


@pytest.mark.parametrize(("key", "beta", "beta_gallery"), DUAL)
def test_dualdis_is_the_papers_but_for_queries_with_one_open_gate(
    world: World, key: str, beta: float, beta_gallery: float
) -> None:
    """With one factor on, the official matrix is an exponential times a raw score; with none, a score times itself."""
    official = world.golden("is_dbnorm")[f"dualdis_paper_{key}"]
    repaired = world.fit("dualdis", beta=beta, beta_gallery=beta_gallery).transform(world.queries)
    row, ours = repaired.bias_row, world.repaired("dualdis", beta=beta, beta_gallery=beta_gallery)
    agree(ours[row == 3], np.log(official[row == 3]), world.tolerance, beta + beta_gallery)
    np.testing.assert_allclose(official[row == 0], world.scores[row == 0] ** 2, atol=1e-6)
    np.testing.assert_array_equal(ours[row == 0], world.scores[row == 0])
    one = np.exp(beta * (world.scores - world.fit("inverted softmax", beta=beta).bias))[row == 1]
    np.testing.assert_allclose(official[row == 1], one * world.scores[row == 1], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("tau", [0.01, 0.02, 0.05])
@pytest.mark.parametrize(("name", "key"), [("sinkhorn", "sn"), ("dbsn", "dbsn")])
def test_sinkhorn_is_the_official_one_when_stopped_after_ten_iterations(
    world: World, name: str, key: str, tau: float
) -> None:
    golden = world.golden("dbsn")
    stopped = world.fit(name, beta=1 / tau, max_iter=10, tolerance=0)
    np.testing.assert_allclose(stopped.bias, golden[f"{key}_thub_tau{tau}"][: len(world.gallery)], atol=1e-7)
    agree(world.scores - stopped.bias, golden[f"{key}_scores_tau{tau}"], world.tolerance)
    assert stopped.note.startswith("10 iterations, not converged")


def test_ten_iterations_are_not_enough(shared: Callable[[str], Path]) -> None:
    """At the released temperature of 0.01 the bias still moves by more than a two-hundredth."""
    world = World(shared, "clip_coco_t2i")
    stopped = world.fit("sinkhorn", beta=100.0, max_iter=10, tolerance=0)
    settled = world.fit("sinkhorn", beta=100.0, max_iter=1000, tolerance=1e-7)
    assert settled.note.endswith("converged")
    assert np.abs(settled.bias - stopped.bias).max() > 0.005
    exponents = 100 * (world.bank @ world.gallery.T - settled.bias)
    plan = np.exp(exponents - logsumexp(exponents, axis=1, keepdims=True))
    np.testing.assert_allclose(plan.sum(axis=0), len(world.bank) / len(world.gallery), rtol=1e-4)


@pytest.mark.parametrize(("k", "alpha"), [(1, 0.5), (8, 0.75), (16, 1.0)])
def test_nnn_is_the_official_one(world: World, k: int, alpha: float) -> None:
    """What the official code calls its bias is not yet weighted by alpha."""
    golden = world.golden("nnn")
    if f"nnn_k{k}_a{alpha}_bias" not in golden:
        assert k > len(world.bank)
        return
    repair = world.fit("nnn", k=k, alpha=alpha)
    np.testing.assert_allclose(repair.bias, alpha * golden[f"nnn_k{k}_a{alpha}_bias"], atol=1e-6)
    ours = np.take_along_axis(world.scores - repair.bias, golden[f"nnn_k{k}_a{alpha}_index"].astype(int), axis=1)
    np.testing.assert_allclose(ours, golden[f"nnn_k{k}_a{alpha}_scores"], atol=1e-6)


@pytest.mark.parametrize("k", [1, 3])
def test_csls_with_the_test_queries_as_its_bank_is_muses(world: World, k: int) -> None:
    golden = world.golden("csls")
    repair = Repair("csls", k=k).fit(world.gallery, Bank(world.queries, "transductive"))
    agree(world.scores - repair.transform(world.queries).bias, golden[f"csls_k{k}_scores"], 1e-6, 2.0)


def test_precision_of_muse_is_our_hit(shared: Callable[[str], Path]) -> None:
    world = World(shared, "clip_coco_t2i")
    golden, n = world.golden("csls"), len(world.queries)
    pairs = Relevance.from_pairs(np.arange(n), np.arange(n), n_queries=n, n_gallery=len(world.gallery))
    banks = Bank(world.queries, "transductive"), None
    names = {"csls_knn_10": Repair("csls", k=10), "csls_knn_3": Repair("csls", k=3),
             "invsm_beta_30": Repair("inverted softmax", beta=30.0)}  # fmt: skip
    several = [each.fit(world.gallery, *banks).transform(world.queries) for each in names.values()]
    for key, (_, ranks) in zip(names, search_all(several, 1, pairs), strict=True):
        hits = [100 * float(np.mean(ranks.better < k)) for k in (1, 5, 10)]
        assert hits == pytest.approx(golden[f"precision_{key}"], abs=1e-3)


def test_nothing_is_overwritten(shared: Callable[[str], Path]) -> None:
    """In-place overwrite: the official qb-norm writes its result into the matrix it was given; ours only read."""
    world = World(shared, "clip_coco_t2i")
    for each in (world.queries, world.gallery, world.bank, world.others):
        each.flags.writeable = False
    before = [each.copy() for each in (world.queries, world.gallery, world.bank, world.others)]
    for name in ("qb-norm", "dualdis", "dbsn", "inverted softmax"):
        world.repaired(name)
    for each, copy in zip((world.queries, world.gallery, world.bank, world.others), before, strict=True):
        np.testing.assert_array_equal(each, copy)
