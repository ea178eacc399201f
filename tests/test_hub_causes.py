"""Hub causes: equal to slow loops, zero where nothing is planted, found where it is; the words hubs share."""

from __future__ import annotations

from math import isnan, log, sqrt

import numpy as np
import pytest
from scipy.stats import spearmanr

from workbench.diagnostics.hub_causes import hub_causes, shared_words
from workbench.search import TopK, k_occurrence, same_items, scan
from workbench.types import Neighbours, Relevance, unit_vectors


def nearest(queries: np.ndarray, gallery: np.ndarray, k: int, *, alone: bool = False) -> Neighbours:
    ids = [str(i) for i in range(len(queries))]
    (found,) = scan(queries, gallery, [TopK(k, exclude=same_items(ids, ids) if alone else None)])
    return found


def world(seed: int, n_queries: int = 150, n_gallery: int = 110, dim: int = 24) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return unit_vectors(rng.normal(size=(n_queries, dim))), unit_vectors(rng.normal(size=(n_gallery, dim)))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / sqrt(float(a @ a)) / sqrt(float(b @ b)))


# --- correlations ---------------------------------------------------------------------------------


def test_correlations_equal_slow_loops() -> None:
    """Two clusters of queries: the halves can only be the two clusters, so the held-out part is known too."""
    queries, gallery = world(0)
    gallery = gallery * np.random.default_rng(1).uniform(0.5, 2, size=(110, 1))
    queries, gallery = queries.astype(np.float64), gallery.astype(np.float64)
    side = np.arange(150) % 3 == 0
    lists = nearest(queries, gallery, 7)
    found = hub_causes(lists, gallery, queries, clusters=np.where(side, "b", "a"), n_resamples=100)
    units = np.array([g / sqrt(g @ g) for g in gallery])
    counts = [sum(j in row for row in lists.indices.tolist()) for j in range(110)]
    near = [cosine(g, units.mean(axis=0)) for g in units]
    assert found.occurrence.tolist() == counts
    assert found.cause("gallery_centroid").correlation == pytest.approx(spearmanr(counts, near)[0], abs=1e-12)
    norms = [sqrt(g @ g) for g in gallery]
    assert found.cause("norm").correlation == pytest.approx(spearmanr(counts, norms)[0], abs=1e-12)
    parts = []
    for mine in (side, ~side):
        own = [sum(j in row for row in lists.indices[mine].tolist()) for j in range(110)]
        parts.append(spearmanr(own, [cosine(g, queries[~mine].mean(axis=0)) for g in units])[0])
    assert found.cause("query_centroid").correlation == pytest.approx(np.mean(parts), abs=1e-12)


def test_intervals_equal_a_slow_bootstrap_over_item_clusters() -> None:
    queries, gallery = world(2)
    owner = np.arange(110) // 4
    lists = nearest(queries, gallery, 5)
    found = hub_causes(lists, gallery, queries, gallery_clusters=owner, n_resamples=150, seed=3, level=0.9)
    counts, near = k_occurrence(lists), gallery @ gallery.mean(axis=0, dtype=np.float64)
    rng, drawn = np.random.default_rng(3), []
    for _ in range(150):
        rows = np.concatenate([np.flatnonzero(owner == c) for c in rng.integers(28, size=28)])
        drawn.append(spearmanr(counts[rows], near[rows])[0])
    cause = found.cause("gallery_centroid")
    assert (cause.low, cause.high) == pytest.approx(tuple(np.quantile(drawn, [0.05, 0.95])), abs=1e-9)


def test_held_out_is_zero_where_the_plain_correlation_is_not() -> None:
    """Random directions have no preferred place; with the same queries on both sides it would read 0.3."""
    plain, held_out = [], []
    for seed in range(8):
        queries, gallery = world(seed, 300, 200, 48)
        lists = nearest(queries, gallery, 8)
        plain.append(spearmanr(k_occurrence(lists), gallery @ queries.mean(axis=0))[0])
        held_out.append(hub_causes(lists, gallery, queries, n_resamples=100).cause("query_centroid").correlation)
    assert np.mean(plain) > 0.25
    assert abs(np.mean(held_out)) < 0.08


def test_hubs_near_the_queries_are_found_across_a_gap() -> None:
    """Queries around one direction, gallery around another: what counts is the closeness to the queries."""
    rng = np.random.default_rng(4)
    queries = unit_vectors(rng.normal(size=(400, 32)) + 4 * np.eye(32)[0])
    gallery = unit_vectors(rng.normal(size=(300, 32)) + 4 * np.eye(32)[1] + rng.normal(size=(300, 1)) * np.eye(32)[0])
    found = hub_causes(nearest(queries, gallery, 10), gallery, queries, direction="t2i")
    near = found.cause("query_centroid")
    assert near.low > 0.5
    assert near.low < near.correlation < near.high
    assert abs(found.cause("gallery_centroid").correlation) < 0.3
    assert found.flat()["t2i/occurrence_by_query_centroid@10"] == near.correlation
    assert "held out" in found._repr_html_()


def test_length_counts_where_scores_are_products() -> None:
    rng = np.random.default_rng(5)
    queries, gallery = world(5, 200, 160)
    long = gallery * rng.uniform(0.3, 3, size=(160, 1)).astype(np.float32)
    by_product = hub_causes(nearest(queries, long, 5), long, queries, n_resamples=100)
    by_cosine = hub_causes(nearest(queries, gallery, 5), long, queries, n_resamples=100)
    assert by_product.cause("norm").low > 0.7
    assert abs(by_cosine.cause("norm").correlation) < 0.25
    of_units = hub_causes(nearest(queries, gallery, 5), gallery, queries, n_resamples=100).cause("norm")
    assert isnan(of_units.correlation)
    assert isnan(of_units.low)


def test_a_gallery_that_searches_itself_has_one_centroid_without_the_item() -> None:
    _, vectors = world(6)
    vectors = vectors.astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    side = np.arange(110) < 40
    lists = nearest(vectors, vectors, 6, alone=True)
    found = hub_causes(lists, vectors, vectors.copy(), clusters=side, n_resamples=100)
    assert [cause.name for cause in found.causes] == ["query_centroid", "norm"]
    parts = []
    for mine in (side, ~side):
        own = [sum(j in row for row in lists.indices[mine].tolist()) for j in range(110)]
        others = [[i for i in np.flatnonzero(~mine) if i != j] for j in range(110)]
        near = [cosine(vectors[j], vectors[others[j]].mean(axis=0)) for j in range(110)]
        parts.append(spearmanr(own, near)[0])
    assert found.cause("query_centroid").correlation == pytest.approx(np.mean(parts), abs=1e-10)
    with pytest.raises(KeyError, match="no cause 'gallery_centroid'; there are query_centroid, norm"):
        found.cause("gallery_centroid")


def test_constant_counts_have_no_correlation() -> None:
    queries, gallery = world(7, 40, 6)
    found = hub_causes(nearest(queries, gallery, 6), gallery, queries, n_resamples=100)
    assert all(isnan(cause.correlation) and isnan(cause.low) for cause in found.causes)
    assert set(found.flat()) == {"hub_places@6"}
    assert found.table().shape == (3, 3)


# --- who suffers ----------------------------------------------------------------------------------


def planted() -> tuple[Neighbours, np.ndarray, np.ndarray]:
    """Two hubs: item 3 in every list, item 8 in the lists of the first hundred queries."""
    rng = np.random.default_rng(8)
    scores = rng.random((240, 90))
    scores[:, 3] += 2
    scores[:100, 8] += 1.5
    order = np.argsort(-scores, axis=1)[:, :4]
    lists = Neighbours(order, np.take_along_axis(scores, order, axis=1), 90, True, np.zeros(240, bool))
    return lists, *world(8, 240, 90)[::-1]


def test_the_queries_that_get_hubs() -> None:
    lists, gallery, queries = planted()
    found = hub_causes(lists, gallery, queries, n_resamples=100)
    assert found.hubs.tolist() == [3, 8]
    by_hand = [sum(item in (3, 8) for item in row) / 4 for row in lists.indices.tolist()]
    assert found.hub_places.tolist() == by_hand
    indices, shares = found.worst_queries(5)
    assert indices.tolist() == [i for i in range(240) if by_hand[i] == 0.5][:5]
    assert shares.tolist() == [0.5] * 5
    assert found.flat()["hub_places@4"] == pytest.approx(np.mean(by_hand))


def test_queries_whose_first_wrong_item_is_a_hub() -> None:
    """Every third query is about item 3: its first wrong item is the next one. Query 1 is right four times; for query
    200 item 3 is judged, and wrong."""
    lists, gallery, queries = planted()
    pairs = [(q, 3) for q in range(0, 240, 3)] + [(1, int(item)) for item in lists.indices[1]] + [(200, 3)]
    grades = [1.0] * (len(pairs) - 1) + [0.0]
    relevance = Relevance.from_pairs(*zip(*pairs, strict=True), grades, n_queries=240, n_gallery=90)
    values = np.random.default_rng(9).random(240)
    values[17] = np.nan
    found = hub_causes(
        lists, gallery, queries, relevance=relevance, values=values, clusters=np.arange(240) // 2, n_resamples=100
    )
    right = {pair for pair, grade in zip(pairs, grades, strict=True) if grade > 0}
    expected = []
    for q, row in enumerate(lists.indices.tolist()):
        wrong = [item for item in row if (q, item) not in right]
        expected.append(-1 if not wrong else int(wrong[0] in (3, 8)))
    assert found.first_wrong.tolist() == expected
    assert expected[1] == -1
    groups = [[v for v, e in zip(values, expected, strict=True) if e == want and v == v] for want in (1, 0)]
    assert found.difference is not None
    assert found.difference.value == pytest.approx(np.mean(groups[0]) - np.mean(groups[1]))
    assert (found.difference.n, found.difference.n_rest) == (len(groups[0]), len(groups[1]))
    assert found.difference.n_clusters < found.difference.n
    assert found.flat()["hub_first_wrong_difference@4"] == found.difference.value
    without = hub_causes(lists, gallery, queries, n_resamples=100)
    assert without.difference is None
    assert set(without.first_wrong) == {-1}


def test_result_is_a_function_of_the_seed_and_leaves_its_input() -> None:
    lists, gallery, queries = planted()
    before = gallery.copy(), queries.copy()
    first, again, other = (hub_causes(lists, gallery, queries, n_resamples=100, seed=s) for s in (1, 1, 2))
    assert repr(first.causes) == repr(again.causes) != repr(other.causes)
    assert (before[0] == gallery).all()
    assert (before[1] == queries).all()


def test_errors_say_what_came() -> None:
    lists, gallery, queries = planted()
    with pytest.raises(ValueError, match=r"240 queries on 90 items, but .* are queries and gallery swapped"):
        hub_causes(lists, queries, gallery)
    with pytest.raises(ValueError, match="1 of length zero or not finite"):
        hub_causes(lists, np.where(np.arange(90)[:, None] == 4, 0, gallery), queries)
    with pytest.raises(ValueError, match=r"clusters must hold one label for each of 240 queries; got shape \(90,\)"):
        hub_causes(lists, gallery, queries, clusters=np.arange(90))
    with pytest.raises(ValueError, match="come with relevance"):
        hub_causes(lists, gallery, queries, values=np.zeros(240))
    with pytest.raises(ValueError, match=r"relevance is \(90, 240\)"):
        hub_causes(lists, gallery, queries, relevance=Relevance.from_pairs([0], [0], n_queries=90, n_gallery=240))
    with pytest.raises(ValueError, match=r"got 0\.95, 10"):
        hub_causes(lists, gallery, queries, n_resamples=10)
    one = Neighbours(lists.indices[:1], lists.scores[:1], 90, True, lists.kth_tied[:1])
    with pytest.raises(ValueError, match="at least two queries and two items; got 1 and 90"):
        hub_causes(one, gallery, queries[:1])


# --- words ----------------------------------------------------------------------------------------


def slow_z(hub_texts: list[set[str]], rest_texts: list[set[str]], word: str, prior: float) -> tuple[float, float]:
    """Log odds ratio with a Dirichlet prior and its z, one word at a time."""
    y = sum(word in text for text in hub_texts)
    x = sum(word in text for text in rest_texts)
    n_y, n_x = sum(map(len, hub_texts)), sum(map(len, rest_texts))
    a = prior * (y + x) / (n_y + n_x)
    ratio = log((y + a) / (n_y + prior - y - a)) - log((x + a) / (n_x + prior - x - a))
    return ratio, ratio / sqrt(1 / (y + a) + 1 / (x + a))


def test_words_equal_the_slow_formula() -> None:
    rng = np.random.default_rng(10)
    vocabulary = [f"w{i}" for i in range(30)]
    captions = [" ".join(rng.choice(vocabulary, size=rng.integers(1, 8))) for _ in range(120)]
    item_of = rng.integers(0, 40, size=120)
    hubs = [1, 5, 17, 30]
    texts: dict[int, set[str]] = {}
    for item, caption in zip(item_of.tolist(), captions, strict=True):
        texts.setdefault(item, set()).update(caption.split())
    sides = [texts[i] for i in texts if i in hubs], [texts[i] for i in texts if i not in hubs]
    for prior in (None, 3.5):
        found = shared_words(captions, hubs, item_of=item_of, n=100, prior=prior)
        weight = prior or min(sum(map(len, sides[0])), sum(map(len, sides[1])))
        assert (found.n_hubs, found.n_rest, found.n_words) == (len(sides[0]), len(sides[1]), len(found.words))
        assert found.prior == weight
        for word, ratio, z in zip(found.words, found.log_odds, found.z, strict=True):
            assert (ratio, z) == pytest.approx(slow_z(*sides, word, weight), abs=1e-12)
        assert (np.diff(found.z) <= 0).all()


def test_a_planted_word_is_found_and_function_words_are_not() -> None:
    rng = np.random.default_rng(11)
    vocabulary = np.array([f"thing{i}" for i in range(200)])
    captions = [f"A photo of {' and '.join(rng.choice(vocabulary, 3))}." for _ in range(300)]
    for item in range(0, 40, 2):
        captions[item] += " Blank wall"
    found = shared_words(captions, range(40), n=5)
    assert set(found.words[:2]) == {"blank", "wall"}
    assert found.p_holm[0] < 1e-3 < found.p_holm[2]
    assert found.in_hubs[0] == 20
    assert not {"a", "of", "photo", "and"} & set(found.words)
    nothing = shared_words(captions[40:], range(40))
    assert nothing.p_holm.min() > 0.05


def test_a_word_counts_once_per_item() -> None:
    """Five captions of one picture that say the same are one witness."""
    once = shared_words(["cat", "dog", "bird", "cow"], [0], item_of=[0, 1, 2, 3])
    often = shared_words(["cat cat", "Cat", "cat!", "dog", "bird", "cow"], [0], item_of=[0, 0, 0, 1, 2, 3])
    assert (once.words, once.z.tolist()) == (often.words, often.z.tolist())


def test_words_of_other_scripts_and_html() -> None:
    found = shared_words(["l'été <b>déjà</b>", "Σίσυφος don’t", "собака"], [0], n=50)
    assert {"l'été", "déjà", "b", "σίσυφος", "don’t", "собака"} == set(found.words)
    assert "<b>" not in shared_words(["<b>x</b> a", "y"], [0])._repr_html_()
    assert found.table().index.name == "word"
    assert set(found.flat()) == {f"shared_words/{word}" for word in found.words}


def test_word_errors_say_what_came() -> None:
    with pytest.raises(ValueError, match="0 of 2 items with captions are hubs"):
        shared_words(["a", "b"], [7])
    with pytest.raises(ValueError, match="2 of 2 items with captions are hubs"):
        shared_words(["a", "b"], [0, 1])
    with pytest.raises(ValueError, match="hold no word"):
        shared_words(["!", "?"], [0])
    with pytest.raises(ValueError, match="list of texts"):
        shared_words("a cat", [0])
    with pytest.raises(ValueError, match="list of texts"):
        shared_words(["a", "b"], [0], item_of=[0])
    with pytest.raises(ValueError, match="got 0 and None"):
        shared_words(["a", "b"], [0], n=0)
