"""Space measures and CKA against slow definitions, planted structure and noise; the section from vectors to tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from workbench import codec
from workbench.diagnostics.similarity_of_spaces import linear_cka, similarity_of_spaces
from workbench.diagnostics.space import alignment, effective_rank, space_measures, uniformity
from workbench.evaluate.integrity import space as section
from workbench.metrics import per_query_all
from workbench.report.integrity.space import SpaceSection
from workbench.search import RankPositives, scan
from workbench.types import Embeddings, Relevance

RNG = np.random.default_rng


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


# Alignment, uniformity, effective rank


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_alignment_by_loop(alpha: float) -> None:
    x, y = RNG(0).normal(size=(2, 7, 3))
    expected = [sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) ** (alpha / 2) for p, q in zip(x, y, strict=True)]
    assert alignment(x, y, alpha=alpha) == pytest.approx(expected)


@pytest.mark.parametrize("t", [0.5, 2.0])
def test_uniformity_by_loop(t: float) -> None:
    x = unit(RNG(1).normal(size=(11, 4)))
    pairs = [np.exp(-t * np.sum((x[i] - x[j]) ** 2)) for i in range(11) for j in range(i)]
    found = uniformity(x, t=t)
    assert found.value == pytest.approx(np.log(np.mean(pairs)))
    assert (found.n_pairs, found.n_possible, found.sampled) == (55, 55, False)


def test_uniformity_of_far_and_of_equal_vectors() -> None:
    """Far apart, the pair (i, i) is all there would be: it must not be counted, nor leave rounding behind."""
    assert uniformity([[4.0], [-4.0]], t=1.0).value == pytest.approx(-64)
    assert uniformity(np.ones((5, 3))).value == 0
    assert uniformity([[1e3], [-1e3]]).value == -np.inf


def test_sampled_uniformity_is_near_the_exact_one_and_says_so() -> None:
    x = unit(RNG(2).normal(size=(300, 8)))
    exact, drawn = uniformity(x), uniformity(x, max_pairs=20_000, seed=1)
    assert drawn.value == pytest.approx(exact.value, abs=0.05)
    assert drawn.value != exact.value
    assert (drawn.n_pairs, drawn.n_possible, drawn.sampled) == (20_000, 44_850, True)
    assert uniformity(x, max_pairs=20_000, seed=1) == drawn


def test_uniform_points_read_what_they_should() -> None:
    """Two random vectors of a wide space are at distance sqrt(2): -2 t."""
    assert uniformity(unit(RNG(3).normal(size=(400, 2000)))).value == pytest.approx(-4, abs=0.02)


@pytest.mark.parametrize("shape", [(30, 8), (8, 30), (5, 5)])
def test_effective_rank_by_singular_values(shape: tuple[int, int]) -> None:
    x = RNG(4).normal(size=shape)
    singular = np.linalg.svd(x, compute_uv=False)
    p = singular / singular.sum()
    assert effective_rank(x) == pytest.approx(np.exp(-np.sum(p * np.log(p))))


def test_effective_rank_of_known_matrices() -> None:
    assert effective_rank(np.eye(7)) == pytest.approx(7)
    assert effective_rank(np.outer(np.arange(1, 9), [1.0, 2.0, 3.0])) == pytest.approx(1, abs=1e-6)
    three = RNG(5).normal(size=(40, 3)) @ RNG(6).normal(size=(3, 90))
    assert 1 < effective_rank(three) <= 3
    assert np.isnan(effective_rank(np.zeros((3, 2))))
    assert effective_rank(5 * three) == pytest.approx(effective_rank(three))


def test_both_sides_weigh_one_half() -> None:
    """Every text five times over changes nothing of the rank of both sides together."""
    x, y, own = RNG(7).normal(size=(12, 6)), RNG(8).normal(size=(20, 6)), np.arange(20) % 12
    once, often = (
        space_measures(x, np.repeat(y, n, axis=0), np.repeat(own, n), n_resamples=100).effective_rank["both"]
        for n in (1, 5)
    )
    assert once == pytest.approx(often)
    ux, uy = unit(x), unit(y)
    center = (ux.mean(0) + uy.mean(0)) / 2
    stacked = np.concatenate([(ux - center) / np.sqrt(12), (uy - center) / np.sqrt(20)])
    singular = np.linalg.svd(stacked, compute_uv=False)
    p = singular / singular.sum()
    assert once == pytest.approx(np.exp(-np.sum(p * np.log(p))), rel=1e-5)


def test_space_measures_hold_together() -> None:
    x, y, own = RNG(9).normal(size=(10, 5)), RNG(10).normal(size=(23, 5)), np.arange(23) % 11 - 1
    found = space_measures(x, y, own, n_resamples=100)
    ux, uy = unit(x), unit(y)
    apart = [np.sum((ux[i] - uy[t]) ** 2) for t, i in enumerate(own) if i >= 0]
    assert found.alignment.value == pytest.approx(np.mean(apart), abs=1e-6)
    assert found.alignment.n_clusters == 10
    across = np.mean([np.exp(-2 * np.sum((a - b) ** 2)) for a in ux for b in uy])
    within = [np.exp(found.uniformity[side].value) for side in ("images", "texts")]
    assert found.uniformity["both"].value == pytest.approx(np.log(across / 2 + sum(within) / 4), abs=1e-6)
    assert found.flat()["space/effective_rank_texts"] == found.effective_rank["texts"]
    assert "<table" in found._repr_html_()
    assert found.plot() is not None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: alignment(np.ones((3, 2)), np.ones((4, 2))), "one shape"),
        (lambda: alignment(np.ones((3, 2)), np.ones((3, 2)), alpha=0), "alpha"),
        (lambda: uniformity(np.ones((1, 2))), "pairs of different rows"),
        (lambda: uniformity(np.array([[np.nan, 0], [1, 0]])), "all finite"),
        (lambda: uniformity(np.ones((3, 2)), t=0), "t must be above 0"),
        (lambda: effective_rank(np.full((2, 2), np.nan)), "finite"),
        (lambda: space_measures(np.ones((3, 2)), np.ones((4, 2)), [0, 1, 2, 3]), r"images 0\.\.2"),
        (lambda: space_measures(np.ones((3, 2)), np.ones((4, 2)), [-1] * 4), "at least one"),
        (lambda: space_measures(np.ones((3, 2)), np.ones((4, 5)), [0] * 4), "do not fit"),
        (lambda: linear_cka(np.ones((5, 2)), np.ones((6, 2))), "same n >= 4"),
        (lambda: linear_cka(np.ones((3, 2)), np.ones((3, 2))), "same n >= 4"),
        (lambda: linear_cka(np.ones((5, 2)), np.eye(5)), "without variation"),
        (lambda: linear_cka(np.full((5, 2), np.nan), np.eye(5)), "NaN"),
        (lambda: similarity_of_spaces(np.eye(5), np.eye(5), n_null=3), "n_null"),
    ],
)
def test_errors_say_what_came(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# CKA


def kernel_cka(x: np.ndarray, y: np.ndarray, *, debiased: bool) -> float:
    """By the definitions, with n x n kernels of the vectors as they are."""
    n, ones = len(x), np.ones(len(x))

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        k, m = a @ a.T, b @ b.T
        if not debiased:
            h = np.eye(n) - 1 / n
            return float(np.trace(k @ h @ m @ h)) / (n - 1) ** 2
        np.fill_diagonal(k, 0)
        np.fill_diagonal(m, 0)
        corner = (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2))
        return float(np.trace(k @ m) + corner - 2 / (n - 2) * ones @ k @ m @ ones) / (n * (n - 3))

    return hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("shape", [(40, 5, 9), (10, 30, 50), (12, 4, 60), (4, 3, 2)])
def test_cka_by_kernels(shape: tuple[int, int, int], debiased: bool) -> None:
    n, left, right = shape
    x = RNG(sum(shape)).normal(size=(n, left)) + 3
    y = np.pad(x, ((0, 0), (0, right)))[:, :right] + RNG(1).normal(size=(n, right)) - 1
    if shape == (4, 3, 2) and debiased:
        assert kernel_cka(x, y, debiased=True) == pytest.approx(linear_cka(x, y), nan_ok=True)
        return
    assert linear_cka(x, y, debiased=debiased) == pytest.approx(kernel_cka(x, y, debiased=debiased), abs=1e-9)


@pytest.mark.parametrize("debiased", [False, True])
def test_cka_does_not_see_turning_scaling_and_moving(debiased: bool) -> None:
    x = RNG(0).normal(size=(30, 6))
    y = x @ RNG(1).normal(size=(6, 4)) + RNG(2).normal(size=(30, 4))
    turn = np.linalg.qr(RNG(3).normal(size=(6, 6)))[0]
    same = linear_cka(x, y, debiased=debiased)
    assert linear_cka(1e-4 * x @ turn + 7, 100 * y - 3, debiased=debiased) == pytest.approx(same, abs=1e-6)
    assert linear_cka(y, x, debiased=debiased) == pytest.approx(same)
    assert linear_cka(x, 5 * x @ turn, debiased=debiased) == pytest.approx(1)
    stretched = x * np.array([30.0, 1, 1, 1, 1, 1])
    assert abs(linear_cka(stretched, y, debiased=debiased) - same) > 0.01  # stretching is seen


def test_debiased_is_about_zero_for_noise_and_plain_is_not() -> None:
    found = np.array(
        [
            [linear_cka(*RNG(seed).normal(size=(2, 60, 400)), debiased=how) for how in (False, True)]
            for seed in range(40)
        ]
    )
    assert found[:, 0].min() > 0.8
    assert abs(found[:, 1].mean()) < 3 * found[:, 1].std() / np.sqrt(40) + 1e-4
    assert np.abs(found[:, 1]).max() < 0.1


def test_shuffled_control_and_drawn_items() -> None:
    x = RNG(0).normal(size=(300, 8))
    found = similarity_of_spaces(x, x + RNG(1).normal(size=x.shape), max_items=100, seed=3)
    assert (found.n, found.n_possible, len(found.null_debiased)) == (100, 300, 50)
    assert found.band[0] < 0 < found.band[1] < 0.1 < found.debiased
    assert abs(found.null_debiased.mean()) < 0.02 < found.null_plain.mean()
    again = similarity_of_spaces(x, x + RNG(1).normal(size=x.shape), max_items=100, seed=3)
    assert (found.null_debiased == again.null_debiased).all()
    assert found.flat()["space/cka"] == found.debiased
    assert "<table" in found._repr_html_()
    assert found.plot() is not None


@pytest.mark.parametrize("n", [5, 6, 7, 10, 50])
def test_items_equally_far_from_each_other_have_no_debiased_cka(n: int) -> None:
    """0 / 0, which rounding turned into 1, 0 or -3e-8; the plain value is defined."""
    turned = np.linalg.qr(RNG(1).normal(size=(64, 64)))[0][:n]
    other = RNG(0).normal(size=(n, 4))
    for simplex in (np.eye(n), turned):
        assert np.isnan([linear_cka(simplex, simplex), linear_cka(simplex, other), linear_cka(other, simplex)]).all()
        assert linear_cka(simplex, simplex, debiased=False) == pytest.approx(1)
    found = similarity_of_spaces(np.eye(n), other)
    assert found.findings()[0].verdict == "not measurable"
    assert found.plot() is not None


def test_cka_fires_and_stays_quiet() -> None:
    """Planted: rows of one side in another order. Clean: noisy copies. A band of 95 % lets 2.5 % of the planted by."""
    fired = quiet = 0
    for seed in range(20):
        rng = RNG(seed)
        x = rng.normal(size=(120, 20))
        y = x @ rng.normal(size=(20, 15)) + 3 * rng.normal(size=(120, 15))
        quiet += similarity_of_spaces(x, y, seed=seed).findings()[0].verdict == "ok"
        fired += similarity_of_spaces(x, y[rng.permutation(120)], seed=seed).findings()[0].verdict == "look"
    assert fired >= 18, f"missed {20 - fired} of 20 planted"
    assert quiet == 20, f"{20 - quiet} false alarms in 20"


@pytest.mark.parametrize(
    ("name", "debiased"), [("clip", 0.605), ("convirt", 0.406), ("clip_random_init", 0.026), ("convirt_random_init", 0)]
)
def test_cka_of_real_sides(shared: Callable[[str], Path], name: str, debiased: float) -> None:
    """Random networks are near zero, and only the debiased value says so: the plain one of ConVIRT reads 0.14."""
    pairs = np.load(shared(f"data/pairs_modality_gap/{name}.npz"))
    assert linear_cka(pairs["image"], pairs["text"]) == pytest.approx(debiased, abs=0.005)
    assert linear_cka(pairs["image"], pairs["text"], debiased=False) > debiased + 0.004


# The section of the report


def prepared(n: int = 12, *, judged: bool = True, zero: bool = False, own: np.ndarray | None = None) -> Any:
    """Two texts per image, as the section reads a prepared collection, and its rankings."""
    rng = RNG(0)
    images = unit(rng.normal(size=(n, 6)))
    texts = unit(np.repeat(images, 2, axis=0) + 0.3 * rng.normal(size=(2 * n, 6)))
    if zero:
        images[0] = 0
    sides = [
        Embeddings(vectors.astype(np.float32), [f"{name}{i}" for i in range(len(vectors))], name, "made")
        for name, vectors in (("image", images), ("text", texts))
    ]
    whose = np.repeat(np.arange(n), 2)
    truth = Relevance.from_pairs(np.arange(2 * n), whose, n_queries=2 * n, n_gallery=n)
    ranked = []
    for name, queries, gallery, relevance, of_query, of_item in (
        ("t2i", sides[1], sides[0], truth, whose, np.arange(n)),
        ("i2t", sides[0], sides[1], truth.T, np.arange(n), whose),
    ):
        (ranks,) = scan(queries.vectors, gallery.vectors, [RankPositives(relevance)])
        values = per_query_all(["hit@1", "MRR", "MedR", *(["R@10"] if n >= 10 else [])], ranks)
        direction = SimpleNamespace(
            name=name, queries=queries, gallery=gallery, relevance=relevance, clusters=of_query,
            gallery_clusters=of_item,
        )  # fmt: skip
        ranked.append(SimpleNamespace(direction=direction, values=values))
    collection = SimpleNamespace(text_image=whose if own is None else own)
    world = SimpleNamespace(images=sides[0], texts=sides[1], collection=collection, judged=judged)
    return world, tuple(ranked)


PARAMETERS = {"seed": 0, "n_resamples": 100, "memory_mb": 64, "k": 10}


def report(results: dict[str, Any]) -> SpaceSection:
    """Through the run folder's JSON and back."""
    plain = json.loads(json.dumps(codec.to_plain(results)))
    drawn = SpaceSection.__new__(SpaceSection)
    drawn.results = codec.from_plain(plain, {kind.__name__: kind for kind in section.TYPES})
    drawn.directions, drawn.intervals = ("t2i", "i2t"), "95 % cluster bootstrap"
    return drawn


def shown(drawn: SpaceSection) -> str:
    parts = [drawn.space_measures(), drawn.gap(), drawn.gap_map(), drawn.mixed_galleries()]
    parts += [call(name) for name in drawn.directions for call in (drawn.closing, drawn.closing_plot)]
    return "\n".join(repr(part) for part in parts)


def test_section_from_vectors_to_tables() -> None:
    results = section.analyse(*prepared(), PARAMETERS)
    assert set(results) == {
        "gap", "space", "cka", "closing t2i", "closing i2t", "mixed galleries", "space not measured",
    }  # fmt: skip
    metrics = {one.metric for one in results["closing t2i"].outcomes}
    assert metrics == {"hit@1", "MRR"}  # six images in a half: no R@10; higher is not better for MedR
    assert results["cka"].n == 12
    names = [found.name for one in results.values() if hasattr(one, "findings") for found in one.findings()]
    assert names == ["gap/centre_ratio", "gap/separation", "space/cka", "space/closing t2i", "space/closing i2t"]
    text = shown(report(results))
    for words in ("relative gap", "effective rank, both", "CKA, debiased", "items moved", "text asks for image, k = 6"):
        assert words in text


def test_section_without_labels_still_sees_the_mixed_gallery() -> None:
    results = section.analyse(*prepared(judged=False), PARAMETERS)
    assert "closing t2i" not in results
    assert np.isnan(results["mixed galleries"]["t2i"].places[0].hit)
    assert {one.verdict for one in results["space not measured"].findings()} == {"not measurable"}
    assert "Nothing is known to be right" in shown(report(results))


def test_section_says_why_it_cannot() -> None:
    zero = section.analyse(*prepared(zero=True), PARAMETERS)
    assert "gap" not in zero
    assert "A vector is zero" in shown(report(zero))
    lonely = section.analyse(*prepared(own=np.full(24, -1)), PARAMETERS)
    assert "belongs to one of them" in lonely["space not measured"].reasons["gap"]
    few = section.analyse(*prepared(1), PARAMETERS)
    assert "within a half of the gallery" in few["space not measured"].reasons["closing t2i"]
    assert "2 clusters" in few["space not measured"].reasons["mixed gallery t2i"]
    assert "Not measurable" in shown(report(few))
    alone, ranked = prepared()
    alone.texts = Embeddings(alone.texts.vectors[:1], alone.texts.ids[:1], "text", "made")
    alone.collection.text_image = np.zeros(1, int)
    assert "two texts" in section.analyse(alone, (), PARAMETERS)["space not measured"].reasons["gap"]
    same, ranked = prepared()
    ranked[0].direction.gallery = Embeddings(same.images.vectors, same.images.ids, "text", "made")
    assert "both of modality 'text'" in section.analyse(same, ranked, PARAMETERS)["space not measured"].reasons[
        "mixed gallery t2i"
    ]  # fmt: skip


def test_further_encoders_are_laid_beside_the_audited_one() -> None:
    one, ranked = prepared()
    turn = np.linalg.qr(np.random.default_rng(4).normal(size=(one.images.vectors.shape[1],) * 2))[0]
    noise = np.random.default_rng(5).normal(size=one.texts.vectors.shape)
    judges = {"turned": (one.images.vectors @ turn, one.texts.vectors @ turn), "noise": (one.images.vectors, noise)}
    asked = {**PARAMETERS, "evidence": SimpleNamespace(judges=judges)}
    found = section.analyse(one, ranked, asked)["cka judges"]
    assert [(each.first, each.second) for each in found] == [
        (side, name) for name in judges for side in ("images", "texts")
    ]
    assert [each.debiased for each in found[:3]] == pytest.approx([1, 1, 1])
    assert found[3].debiased < 0.2


def test_the_space_of_the_table_is_that_of_unit_vectors() -> None:
    """With similarity=dot vectors keep their lengths, which say nothing of the shape the table speaks of."""
    one, ranked = prepared()
    judges = {"own": (one.images.vectors, one.texts.vectors)}
    asked = {**PARAMETERS, "evidence": SimpleNamespace(judges=judges)}
    found = section.analyse(one, ranked, asked)
    for side in ("images", "texts"):
        given = getattr(one, side)
        lengths = RNG(3).uniform(0.1, 9, size=(len(given), 1)).astype(np.float32)
        setattr(one, side, Embeddings(given.vectors * lengths, given.ids, given.modality, "made"))
    longer = section.analyse(one, ranked, asked)
    assert longer["cka"].debiased == pytest.approx(found["cka"].debiased, abs=1e-5)
    assert [each.debiased for each in longer["cka judges"]] == pytest.approx([1, 1], abs=1e-5)


def test_an_encoder_without_a_space_is_named_and_the_others_stay() -> None:
    one, ranked = prepared()
    judges = {"dead": (np.ones((12, 5)), np.ones((24, 5))), "own": (one.images.vectors, one.texts.vectors)}
    results = section.analyse(one, ranked, {**PARAMETERS, "evidence": SimpleNamespace(judges=judges)})
    assert [each.second for each in results["cka judges"]] == ["own", "own"]
    reasons = results["space not measured"].reasons
    assert "without variation" in reasons["cka images, dead"]
    assert "without variation" in reasons["cka texts, dead"]
