"""Hubness against scikit-hubness and hub-toolbox: equal where they are right, each difference named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import skew

from workbench.diagnostics.hubness import Hubness, hubness
from workbench.search import TopK, k_occurrence, same_items, scan
from workbench.types import Neighbours

Shared = Callable[[str], Path]
SQUARE = [("clip_coco_t2i", 1), ("clip_coco_t2i", 5), ("clip_coco_t2i", 10)]
RECTANGLE = [("random_small", 1), ("random_small", 5)]
DUPLICATES = [("duplicates", 1), ("duplicates", 5)]


def unit(vectors: np.ndarray) -> np.ndarray:
    wide = vectors.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def nearest(queries: np.ndarray, gallery: np.ndarray, k: int, *, alone: bool = False) -> Neighbours:
    """k closest by the scan; ``alone``: a set in itself, every item left out of its own list."""
    ids = [str(i) for i in range(len(gallery))]
    return scan(queries, gallery, [TopK(k, exclude=same_items(ids, ids) if alone else None)])[0]


class Golden:
    """What scikit-hubness gives for one case and k, and the two sides it was given."""

    def __init__(self, shared: Shared, case: str, k: int, metric: str = "cosine") -> None:
        self.values, self.prefix = np.load(shared(f"golden/hubness_skhubness__{case}.npz")), f"{metric}_k{k}"
        inputs = np.load(shared(f"golden/inputs__{case}.npz"))
        self.queries, self.gallery, self.k = unit(inputs["Q"]), unit(inputs["G"]), k

    def __call__(self, name: str) -> np.ndarray:
        return self.values[f"{self.prefix}__{name}"]

    def ours(self) -> Hubness:
        return hubness(nearest(self.queries, self.gallery, self.k), direction="t2i", n_null=20)


# --- equal ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(("case", "k"), SQUARE + RECTANGLE)
def test_what_does_not_depend_on_the_shape_is_equal(shared: Shared, case: str, k: int, metric: str) -> None:
    """Counts, skewness, Gini, Robin Hood, the never retrieved: also on 12 queries x 9 items."""
    golden = Golden(shared, case, k, metric)
    ours = golden.ours()
    assert ours.tied_share == 0
    assert ours.occurrence.tolist() == golden("k_occurrence").tolist()
    assert ours.antihubs.tolist() == golden("antihubs").tolist()
    names = {
        "skewness": "k_skewness", "gini": "gini", "robin_hood": "robinhood", "antihub_share": "antihub_occurrence",
    }  # fmt: skip
    for mine, theirs in names.items():
        assert ours.measure(mine).value == pytest.approx(float(golden(theirs)), abs=1e-12), mine
    most = ours.measure("max_occurrence").value / (k * ours.n_queries)
    assert most == pytest.approx(float(golden("groupie_ratio")), abs=1e-12)


@pytest.mark.parametrize(("case", "k"), DUPLICATES)
def test_the_gini_of_equal_counts_is_equal_however_ties_fall(shared: Shared, case: str, k: int) -> None:
    """10 queries, 8 items, equal rows: here both count the first of equal items; our verdict is withheld."""
    golden = Golden(shared, case, k)
    ours = golden.ours()
    assert ours.measure("gini").value == pytest.approx(float(golden("gini")), abs=1e-12)
    assert ours.tied_share > 0.01
    assert [finding.verdict for finding in ours.findings()] == ["not measurable"] * 2


@pytest.mark.parametrize(("case", "k"), [("random_small", 5), ("random_small", 10), ("clip_coco_t2i", 5), ("clip_coco_t2i", 10)])  # fmt: skip # noqa: E501
def test_a_set_in_itself_equals_hub_toolbox(shared: Shared, case: str, k: int) -> None:
    """hub-toolbox leaves every item out of its own list, as we do by id: counts and skewness are the same."""
    golden = np.load(shared(f"golden/hubness_hubtoolbox__{case}.npz"))
    vectors = golden["X"]
    ours = hubness(nearest(vectors, vectors, k, alone=True), direction="i2i", n_null=20)
    assert ours.occurrence.tolist() == golden[f"hubness_k{k}_nk"].tolist()
    assert ours.measure("skewness").value == pytest.approx(float(golden[f"hubness_k{k}_skew"]), abs=1e-12)


def test_gini_by_adding_up_all_pairs() -> None:
    """60 queries on 23 items; one item in every list; none never retrieved and some never retrieved."""
    rng = np.random.default_rng(0)
    for n_gallery, k in ((23, 4), (90, 2), (5, 5), (1, 1)):
        scores = rng.random((60, n_gallery))
        scores[:, 0] += 1
        order = np.argsort(-scores, axis=1)[:, :k]
        lists = Neighbours(order, np.zeros(order.shape), n_gallery, True, np.zeros(60, bool))
        counts = [sum(item in row for row in order.tolist()) for item in range(n_gallery)]
        pairs = sum(abs(a - b) for a in counts for b in counts) / (2 * n_gallery * sum(counts))
        measure = hubness(lists, direction="t2i", n_null=20).measure("gini")
        assert measure.value == pytest.approx(pairs, abs=1e-14)


# --- different, and why ---------------------------------------------------------------------------


@pytest.mark.parametrize(("case", "k"), SQUARE)
def test_difference_hubs_of_a_square_are_items_beyond_chance(shared: Shared, case: str, k: int) -> None:
    """Their rule is count >= 2 k; ours asks for more than chance gives as well, so our hubs are some of theirs.

    On a square their share of places is a share: from our counts and their rule it comes out the same.
    """
    golden = Golden(shared, case, k)
    ours = golden.ours()
    theirs = ours.occurrence >= 2 * k
    assert np.flatnonzero(theirs).tolist() == golden("hubs").tolist()
    assert ours.occurrence[theirs].sum() / (k * ours.n_queries) == pytest.approx(float(golden("hub_occurrence")))
    assert ours.hub_threshold > 2 * k
    assert set(ours.hubs) < set(golden("hubs"))
    assert ours.measure("hub_share").value < float(golden("hub_occurrence"))


@pytest.mark.parametrize(("k", "given", "right"), [(1, 11 / 9, 11 / 12), (5, 21 / 45, 21 / 60)])
def test_difference_on_rectangles_their_hub_share_has_the_wrong_divisor(
    shared: Shared, k: int, given: float, right: float
) -> None:
    """12 queries x 9 items have 12 k places; scikit-hubness divides by 9 k, and at k = 1 the "share" is 1.22.

    Its rule for hubs forgets the shape too: the fair share is 12 k / 9, so 2 k is 1.5 times of it, not twice.
    """
    golden = Golden(shared, "random_small", k)
    ours = golden.ours()
    assert float(golden("hub_occurrence")) == pytest.approx(given)
    held = ours.occurrence[golden("hubs")].sum()
    assert held / (k * ours.n_gallery) == pytest.approx(given)
    assert held / (k * ours.n_queries) == pytest.approx(right)
    assert 2 * k / ours.mean_occurrence == pytest.approx(1.5)
    assert ours.hub_threshold >= 2 * ours.mean_occurrence
    beyond = ours.occurrence >= ours.hub_threshold
    assert ours.measure("hub_share").value == ours.occurrence[beyond].sum() / (k * ours.n_queries) <= right


@pytest.mark.parametrize(("case", "k"), [*SQUARE, *RECTANGLE])
def test_difference_score_none_counts_every_item_as_its_own_neighbour(shared: Shared, case: str, k: int) -> None:
    """score(None) is our search without exclusion: every item comes first for itself, so k - 1 real places are left.

    Their counts are those of k - 1 neighbours plus one for everybody: at k = 1 all are 1 and nothing is measured, and
    the Gini of the k - 1 real places is shrunk by (k - 1) / k.
    """
    golden = Golden(shared, case, k)
    theirs = golden.values[f"{golden.prefix}_self__k_occurrence"]
    assert k_occurrence(nearest(golden.gallery, golden.gallery, k)).tolist() == theirs.tolist()
    right = hubness(nearest(golden.gallery, golden.gallery, k, alone=True), direction="i2i", n_null=20)
    assert right.occurrence.tolist() != theirs.tolist()
    if k == 1:
        assert set(theirs.tolist()) == {1}
        assert np.isnan(golden.values[f"{golden.prefix}_self__k_skewness"])
        assert right.measure("skewness").value == pytest.approx(skew(right.occurrence), abs=1e-12)
        return
    fewer = hubness(nearest(golden.gallery, golden.gallery, k - 1, alone=True), direction="i2i", n_null=20)
    assert (fewer.occurrence + 1).tolist() == theirs.tolist()
    shrunk = fewer.measure("gini").value * (k - 1) / k
    assert float(golden.values[f"{golden.prefix}_self__gini"]) == pytest.approx(shrunk, abs=1e-12)
