"""The estimator of all repairs: its contract, its banks, the choice of a parameter, the search of repaired scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.base import clone

from workbench.metrics import per_query
from workbench.normalize import METHODS, Bank, Repair, Repaired, Tuned, bank_domain, search_all, tune
from workbench.normalize.bank import fingerprints
from workbench.normalize.repaired import score_blocks
from workbench.search import RankPositives, TopK, scan
from workbench.types import Relevance, unit_vectors

N_QUERIES, N_GALLERY, DIM = 60, 41, 16


class World:
    """Queries around gallery items that share a direction, and banks of other queries and items."""

    def __init__(self, seed: int = 0, *, n_gallery: int = N_GALLERY, hub: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        centre = np.ones(DIM)
        items = unit_vectors(centre + 2.0 * rng.standard_normal((n_gallery, DIM)))
        others = unit_vectors(centre + 2.0 * rng.standard_normal((30, DIM)))
        own = rng.integers(0, n_gallery, N_QUERIES)
        self.queries = unit_vectors(items[own] + 0.3 * rng.standard_normal((N_QUERIES, DIM)))
        self.bank = unit_vectors(others[rng.integers(0, 30, 80)] + 0.3 * rng.standard_normal((80, DIM)))
        if hub:
            items[0] = unit_vectors((1 - hub) * items[:1] + hub * self.queries.mean(axis=0, keepdims=True))[0]
        self.gallery, self.others = items, others
        self.relevance = Relevance.from_pairs(np.arange(N_QUERIES), own, n_queries=N_QUERIES, n_gallery=n_gallery)

    def repaired(self, name: str, gallery: np.ndarray | None = None, **parameters: float) -> Repaired:
        items = self.gallery if gallery is None else gallery
        banks = Bank(self.bank, "inductive"), Bank(self.others, "inductive")
        return Repair(name, **parameters).fit(items, *banks).transform(self.queries)


@pytest.mark.parametrize("name", METHODS)
def test_repairs_leave_their_inputs_alone(name: str) -> None:
    world = World()
    inputs = (world.queries, world.gallery, world.bank, world.others)
    before = [each.copy() for each in inputs]
    for each in inputs:
        each.flags.writeable = False
    world.repaired(name).search(3, world.relevance)
    for each, copy in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(each, copy)


@pytest.mark.parametrize("name", METHODS)
def test_the_order_of_the_gallery_does_not_matter(name: str) -> None:
    world, order = World(1), np.random.default_rng(4).permutation(N_GALLERY)
    back = np.argsort(order)
    turned = Relevance.from_pairs(
        world.relevance.queries, back[world.relevance.items], n_queries=N_QUERIES, n_gallery=N_GALLERY
    )
    ids = [f"{place:03d}" for place in range(N_GALLERY)]
    lists, ranks = world.repaired(name).search(5, world.relevance, ids=ids)
    moved, moved_ranks = world.repaired(name, world.gallery[order]).search(5, turned, ids=[ids[i] for i in order])
    np.testing.assert_array_equal(order[moved.indices], lists.indices)
    np.testing.assert_array_equal(moved_ranks.better, ranks.better)


@pytest.mark.parametrize("name", METHODS)
def test_items_that_are_all_alike_stay_tied(name: str) -> None:
    world = World(2)
    alike = np.tile(world.gallery[:1], (N_GALLERY, 1))
    lists, ranks = world.repaired(name, alike).search(3, world.relevance)
    assert lists.kth_tied.all()
    assert (ranks.better == 0).all()
    assert (ranks.tied == N_GALLERY - 1).all()


@pytest.mark.parametrize("name", METHODS)
def test_equal_items_stay_tied(name: str) -> None:
    world = World(3)
    items = world.gallery.copy()
    items[20:30] = items[5]
    _, ranks = world.repaired(name, items).search(3, world.relevance)
    twins = np.isin(world.relevance.items, [5, *range(20, 30)])
    assert twins.any()
    assert (ranks.tied[twins] == 10).all()


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if "beta" in method.defaults])
def test_a_huge_beta_does_not_overflow(name: str) -> None:
    world = World(4)
    with np.errstate(all="raise", under="ignore"):
        found = world.repaired(name, beta=1000.0)
    assert found.bias is not None
    assert np.isfinite(found.bias).all()


@pytest.mark.parametrize("name", METHODS)
def test_one_item_and_many_queries(name: str) -> None:
    world = World(5, n_gallery=1)
    if name in ("local scaling", "nicdm"):
        with pytest.raises(ValueError, match="exceeds the 1 items of the gallery; use k <= 1"):
            world.repaired(name).search(1, world.relevance)
    lists, ranks = world.repaired(name, **({"k": 1} if "k" in METHODS[name].defaults else {})).search(
        1, world.relevance
    )
    assert (lists.indices == 0).all()
    assert (ranks.better == 0).all()


# The estimator


def test_the_estimator_is_one_of_scikit_learn() -> None:
    repair = Repair("nnn", k=3)
    copy = clone(repair)
    assert copy is not repair
    assert copy.get_params() == repair.get_params() == {"name": "nnn", "k": 3}
    assert copy.settings == {"k": 3, "alpha": 0.75}
    assert repair.set_params(alpha=1.0).settings == {"k": 3, "alpha": 1.0}
    assert repair.set_params(name="csls").get_params() == {"name": "csls"}
    assert repr(Repair("csls")) == "Repair('csls', k=10)"


def test_every_method_says_what_it_is() -> None:
    for name, method in METHODS.items():
        assert method.summary.endswith("."), name
        assert "http" in method.source, name
        assert method.cost, name
        if method.grid:
            assert method.grid[0] in method.defaults, name


def fit_on_itself() -> object:
    world = World()
    return Repair("csls").fit(world.gallery, Bank(world.queries, "inductive")).transform(world.queries)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Repair("cls"), "no repair 'cls'; there are inverted softmax, csls"),
        (lambda: Repair("csls", beta=3), "'csls' has no parameter 'beta'; its parameters: k"),
        (lambda: Repair("csls").fit(np.eye(3)), "'csls' needs a query bank; give fit"),
        (lambda: Repair("dualis").fit(np.eye(3), Bank(np.ones((2, 3)), "inductive")), "needs a gallery bank"),
        (lambda: Repair("csls").transform(np.eye(3)), "is not fitted; call fit"),
        (lambda: Repair("csls").bias, "has no bias: it is not fitted"),
        (fit_on_itself, "60 of 60 rows of the bank are also among the scored queries, so it is not inductive"),
        (lambda: Repair("dualis").fit(np.eye(3), Bank(np.ones((2, 3)), "inductive"), Bank(np.eye(3), "cross-fit")),
         "3 of 3 rows of the bank are also among the gallery items, so it is not cross-fit"),
        (lambda: Bank(np.eye(3), "test"), "provenance must be one of inductive, cross-fit, transductive; got 'test'"),
        (lambda: Bank(np.eye(3)[:0], "inductive"), "at least one row"),
        (lambda: Bank(np.eye(3), "inductive").without(np.eye(3)), "at least one row"),
        (lambda: Bank(np.eye(3), "inductive").overlap(np.eye(4)), "the bank has 3 dimensions"),
        (lambda: Repair("sinkhorn", max_iter=0).fit(np.eye(3), Bank(np.ones((2, 3)), "inductive")), "at least 1"),
        (lambda: tune("mean centering", *[np.eye(2)] * 2, World().relevance, [0, 1], [0, 1]), "no parameter to choose"),
        (lambda: bank_domain(np.eye(3), np.eye(30)[:, :3]), "at least 10 rows"),
    ],
)  # fmt: skip
def test_errors_say_what_came(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_transductive_bank_may_hold_the_scored_queries() -> None:
    world = World()
    repair = Repair("csls").fit(world.gallery, Bank(world.queries, "transductive"))
    assert repair.transform(world.queries).bias is repair.bias


def test_rows_are_told_by_content_in_either_precision() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((9000, 7)).astype(np.float32)
    assert len(np.unique(fingerprints(rows))) == 9000
    np.testing.assert_array_equal(fingerprints(rows, np.float64), fingerprints(rows.astype(np.float64)))
    bank = Bank(rows, "inductive")
    assert bank.overlap(rows[17:20].astype(np.float64)) == 3
    assert len(bank.without(rows[::2])) == 4500


# The search of repaired scores


@pytest.mark.parametrize("k", [1, 4, N_GALLERY])
def test_a_search_in_blocks_is_that_of_the_scan(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small whole numbers, so that scores are exact and ties are many."""
    monkeypatch.setattr("workbench.normalize.repaired._NUMBERS", 5 * N_GALLERY)
    rng = np.random.default_rng(7)
    queries, gallery = (rng.integers(-2, 3, (n, 5)).astype(np.float32) for n in (N_QUERIES, N_GALLERY))
    pairs = rng.random((N_QUERIES, N_GALLERY)) < 0.08
    truth = Relevance.from_pairs(*np.nonzero(pairs), n_queries=N_QUERIES, n_gallery=N_GALLERY)
    ids = [f"item {i}" for i in rng.permutation(N_GALLERY)]
    lists, ranks = Repaired(queries, gallery, transform=lambda scores: 3 * scores).search(k, truth, ids=ids)
    found, wanted = scan(queries, gallery, [TopK(k, ids=ids), RankPositives(truth)])
    for name in ("indices", "kth_tied"):
        np.testing.assert_array_equal(getattr(lists, name), getattr(found, name))
    np.testing.assert_allclose(lists.scores, 3 * found.scores)
    for name in ("indptr", "items", "grades", "better", "tied", "depth"):
        np.testing.assert_array_equal(getattr(ranks, name), getattr(wanted, name))


def test_repairs_searched_together_are_those_searched_alone() -> None:
    world = World(6)
    several = [world.repaired(name) for name in METHODS] + [Repaired(world.queries, world.gallery)]
    together = search_all(several, 4, world.relevance, memory=10 * 2**20)
    crowded = search_all(several, 4, world.relevance, memory=9 * 2**20)
    for one, other in zip(together, crowded, strict=True):
        np.testing.assert_array_equal(one[0].indices, other[0].indices)
    for one, (lists, ranks) in zip(several, together, strict=True):
        alone, alone_ranks = one.search(4, world.relevance)
        np.testing.assert_array_equal(lists.indices, alone.indices)
        np.testing.assert_array_equal(ranks.better, alone_ranks.better)


def test_blocks_are_the_scores_and_equal_items_score_equal() -> None:
    rng = np.random.default_rng(8)
    queries, gallery = (unit_vectors(rng.standard_normal((n, 300))) for n in (33, 57))
    gallery[40:] = gallery[3]
    scores = np.concatenate(list(score_blocks(queries, gallery)))
    np.testing.assert_allclose(scores, queries.astype(np.float64) @ gallery.astype(np.float64).T, atol=2e-10)
    assert (scores[:, 40:] == scores[:, 3:4]).all()


# Choosing a parameter


def clustered_world(seed: int, n_images: int = 120) -> tuple[np.ndarray, np.ndarray, Relevance, np.ndarray]:
    """(texts, images, truth, image of each text) with hubs: a part of every image's score is the same for all texts."""
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((n_images, 24))
    centre = 3 * np.ones(24) / np.sqrt(24)
    own = np.repeat(np.arange(n_images), 3)
    texts = unit_vectors(images[own] + centre + rng.standard_normal((3 * n_images, 24)))
    images = 0.5 * (unit_vectors(images) + rng.uniform(0, 0.3, (n_images, 1)) * centre).astype(np.float32)
    truth = Relevance.from_pairs(np.arange(3 * n_images), own, n_queries=3 * n_images, n_gallery=n_images)
    return texts, images, truth, own


def test_the_value_chosen_is_the_best_on_the_validation_halves() -> None:
    texts, images, truth, own = clustered_world(0)
    chosen = tune("inverted softmax", texts, images, truth, own, np.arange(120), seed=2)
    assert chosen.scores[chosen.values.index(chosen.chosen)] == max(chosen.scores)
    assert chosen.raw < max(chosen.scores)
    assert tune("inverted softmax", texts, images, truth, own, np.arange(120), seed=2) == chosen
    folds = np.random.default_rng(2).permutation(120)[:60]
    first = ~np.isin(np.arange(120), folds)
    hits = []
    for side in (first, ~first):
        rows, items = np.flatnonzero(side[own]), np.flatnonzero(side)
        bank = Bank(texts[~side[own]], "cross-fit")
        repaired = Repair("inverted softmax", beta=chosen.values[2]).fit(images[items], bank).transform(texts[rows])
        hits.append(per_query("hit@1", repaired.search(1, truth.take(rows, items))[1]).expected)
    assert chosen.scores[2] == pytest.approx(np.concatenate(hits).mean())


def test_optimism_is_what_the_test_optimum_adds() -> None:
    chosen = Tuned("csls", "k", "hit@1", (1, 3, 10), (0.5, 0.6, 0.55), 3, 0.4)
    assert chosen.optimism([0.5, 0.5, 0.52]) == pytest.approx(0.02)
    assert chosen.optimism([0.5, 0.6, 0.52]) == 0
    with pytest.raises(ValueError, match="one test score per value"):
        chosen.optimism([0.5])


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.grid])
def test_every_grid_can_be_tried(name: str) -> None:
    texts, images, truth, own = clustered_world(1, n_images=50)
    chosen = tune(name, texts, images, truth, own, np.arange(50))
    assert chosen.chosen in METHODS[name].grid[1]
    assert len(chosen.scores) == len(chosen.values) >= 2


# Is the bank from where the queries are?


def test_a_bank_of_the_same_kind_is_in_domain_and_another_is_not() -> None:
    rng = np.random.default_rng(3)
    sample = lambda n, shift: unit_vectors(rng.standard_normal((n, 20)) + shift * np.eye(20)[0])  # noqa: E731
    p_values = [bank_domain(sample(60, 1.0), sample(80, 1.0), seed=i).p_value for i in range(40)]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.2
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.15)
    moved = bank_domain(sample(200, 3.0), sample(150, 0.0))
    assert not moved.in_domain
    assert moved.auc > 0.9
    assert moved.p_value == 1 / 200
    same = bank_domain(sample(200, 1.0), sample(150, 1.0))
    assert same.in_domain
    assert abs(same.auc - 0.5) < 0.15


def test_captions_of_one_image_do_not_make_a_domain() -> None:
    """Two halves of the same images, five near-copies each: told apart by the copies unless clusters are known."""
    rng = np.random.default_rng(4)
    images = unit_vectors(rng.standard_normal((80, 20)))
    own = np.repeat(np.arange(80), 5)
    texts = unit_vectors(images[own] + 0.05 * rng.standard_normal((400, 20)))
    first = own < 40
    careless = bank_domain(texts[first], texts[~first])
    careful = bank_domain(texts[first], texts[~first], bank_clusters=own[first], clusters=own[~first])
    assert not careless.in_domain
    assert careful.in_domain


def test_the_kernel_distance_is_its_textbook_sum() -> None:
    from workbench.normalize.domain import _kernel, _mmd

    rng = np.random.default_rng(5)
    rows, label = rng.standard_normal((25, 3)), np.repeat([0, 1], [14, 11])
    kernel = _kernel(rows, rng)
    x, y = kernel[:14, :14], kernel[14:, 14:]
    slow = (x.sum() - 14) / (14 * 13) + (y.sum() - 11) / (11 * 10) - 2 * kernel[:14, 14:].mean()
    assert _mmd(kernel, label) == pytest.approx(slow, rel=1e-12)
