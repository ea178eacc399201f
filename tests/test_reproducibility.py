"""Certificates of hand-made evidence: matching, each layer against a slow loop, causes, verdicts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from workbench.codec import from_plain, to_plain
from workbench.diagnostics.layer_differences import compared, counted
from workbench.diagnostics.reproducibility import (
    CAUSES,
    LAYERS,
    Answers,
    Certificate,
    Difference,
    Evidence,
    Items,
    LayerDifference,
    Truth,
    angles_between,
    cause_of,
    certificate,
    explain,
)
from workbench.diagnostics.run_evidence import match

N_IMAGES, N_TEXTS, DEPTH = 5, 9, 3


def side(modality: str, n: int, seed: int) -> Items:
    rng = np.random.default_rng(seed)
    ids = tuple(f"{modality[0]}{k}" for k in range(n))
    told = [tuple(f"{what}-{name}" for name in ids) for what in ("content", "input", "vector")]
    return Items(modality, ids, *told, vectors=rng.normal(size=(n, 4)), vectors_digest=modality)


def answers(direction: str, forward: bool, scores: np.ndarray) -> Answers:
    order = np.argsort(-scores, axis=1)[:, :DEPTH]
    rows = np.repeat(np.arange(len(scores)), order.shape[1])
    metric = {"hit@1": (order[:, 0] == np.arange(len(scores)) % scores.shape[1]).astype(float)}
    return Answers(direction, forward, rows, order.ravel(), scores[rows, order.ravel()], metric)


def evidence(**changes: Any) -> Evidence:
    scores = np.random.default_rng(1).normal(size=(N_TEXTS, N_IMAGES))
    both = answers("t2i", True, scores), answers("i2t", False, scores.T)
    truth = Truth(np.arange(N_TEXTS), np.arange(N_TEXTS) % N_IMAGES, np.ones(N_TEXTS))
    metrics = {"t2i/hit@1": {"value": 0.5, "low": 0.25, "high": 0.75, "n": 9}, "t2i/MedR": {"value": 4.0, "low": None}}
    sides = side("image", N_IMAGES, 2), side("text", N_TEXTS, 3)
    whole = Evidence("run", "encoder", {}, {}, sides, truth, both, metrics, {"metrics.json": "m"}, DEPTH)
    return replace(whole, **changes)


def moved(found: Certificate) -> list[str]:
    return [one.layer for one in found.observed]


# ---------------------------------------------------------------------------------------------------------- matching


def items(**content: str) -> Items:
    empty = ("",) * len(content)
    return Items("text", tuple(content), tuple(content.values()), empty, empty)


def test_match_prefers_id_and_content_then_content_then_id() -> None:
    found = match(items(a="x", b="y", c="z", d="w"), items(b="x", a="q", c="z", e="v"))
    assert dict(zip(found.first.tolist(), found.second.tolist(), strict=True)) == {0: 0, 2: 2}
    assert found.renamed == (("a", "b"),)
    assert (found.removed, found.added) == (("b", "d"), ("a", "e"))
    swapped = match(items(a="x", b="y"), items(a="y", b="x"))
    assert set(swapped.renamed) == {("a", "b"), ("b", "a")}
    assert swapped.edited == ()
    edited = match(items(a="x", b="x"), items(a="x", b="y"))
    assert (edited.edited, edited.renamed) == (("b",), ())


def test_match_covers_every_item_once() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        one, two = (
            items(**{f"n{k}": f"c{rng.integers(5)}" for k in rng.permutation(9)[: rng.integers(1, 9)]})
            for _ in range(2)
        )
        found = match(one, two)
        assert len({*found.first.tolist()}) == len(found.first) == len({*found.second.tolist()})
        assert len(found.first) + len(found.removed) == len(one)
        assert len(found.second) + len(found.added) == len(two)
        assert sorted(found.number.tolist()) == sorted({*found.number.tolist()})
        assert found.number[found.second].tolist() == found.first.tolist()
        for a, b in zip(found.first.tolist(), found.second.tolist(), strict=True):
            assert one.ids[a] == two.ids[b] or one.contents[a] == two.contents[b]


def test_equal_captions_of_renamed_images_keep_their_images() -> None:
    """Two images with one caption each, of equal words; everything renamed, and the texts in another order."""
    none = ("", "")
    first, second = (
        evidence(
            sides=(Items("image", images, ("A", "B"), none, none), Items("text", texts, ("w", "w"), none, none)),
            truth=Truth(np.array([0, 1]), np.array(right), np.ones(2)),
            answers=(),
        )
        for images, texts, right in ((("i", "j"), ("p", "q"), [0, 1]), (("k", "l"), ("r", "s"), [1, 0]))
    )
    found = certificate(first, second)
    assert found.layer("truth").status == "same"
    assert "p -> s" in found.layer("items").text


# ------------------------------------------------------------------------------------------------------------ layers


def test_equal_evidence_is_identical() -> None:
    found = certificate(evidence(), evidence())
    assert found.identical
    assert [layer.layer for layer in found.layers] == list(LAYERS)
    assert found.first_observed == found.dies_out_after == ""
    assert found.flat() == {f"changed/{name}": 0.0 for name in LAYERS}
    assert "nothing declared differs" in found.verdict


def test_files_that_differ_spoil_identity_although_no_layer_moved() -> None:
    found = certificate(evidence(), evidence(files={"metrics.json": "other"}))
    assert not found.identical
    assert found.verdict == "No layer moved, but metrics.json differ; nothing declared differs."


@pytest.mark.parametrize("angle", [1e-9, 1e-5, 0.3, 45.0, 179.0])
def test_angles_of_planted_turns(angle: float) -> None:
    one, two = np.array([[3.0, 0.0]]), np.array([[2 * np.cos(np.radians(angle)), 2 * np.sin(np.radians(angle))]])
    assert angles_between(one, two)[0] == pytest.approx(angle, rel=1e-9)
    assert np.isnan(angles_between(one, [[0.0, 0.0]])[0])


def test_a_vector_of_another_length_changed_without_an_angle() -> None:
    first, second = evidence(), evidence()
    longer = first.sides[0].vectors.copy()  # type: ignore[union-attr]
    longer[2] *= 2
    second = replace(second, sides=(replace(first.sides[0], vectors=longer), second.sides[1]))
    layer = certificate(first, second).layer("embeddings")
    assert (layer.n_changed, layer.n_compared, layer.status) == (1, N_IMAGES + N_TEXTS, "differs")
    assert layer.largest == pytest.approx(0, abs=1e-6)


def test_vectors_of_length_zero_or_other_dimensions_have_no_angle() -> None:
    whole = evidence()
    image, text = whole.sides
    nothing = replace(image, vectors=np.zeros((N_IMAGES, 4)))
    layer = certificate(whole, evidence(sides=(nothing, text))).layer("embeddings")
    assert (layer.n_changed, np.isnan(layer.largest)) == (N_IMAGES, True)
    assert "without an angle" in layer.text
    wider = replace(image, vectors=np.ones((N_IMAGES, 7)), vector_digests=("other",) * N_IMAGES)
    layer = certificate(whole, evidence(sides=(wider, text))).layer("embeddings")
    assert layer.n_changed == N_IMAGES
    assert np.isnan(layer.largest)
    assert "4 and 7 dimensions have no angle" in layer.text


def test_older_runs_have_one_digest_per_side() -> None:
    def older(digest: str, image: Items) -> Evidence:
        bare = [replace(one, vectors=None, vector_digests=("",) * len(one)) for one in (image, evidence().sides[1])]
        return evidence(sides=(replace(bare[0], vectors_digest=digest), bare[1]), truth=None, answers=())

    image = evidence().sides[0]
    assert certificate(older("a", image), older("a", image)).layer("embeddings").status == "same"
    layer = certificate(older("a", image), older("b", image)).layer("embeddings")
    assert (layer.status, layer.n_changed, np.isnan(layer.largest)) == ("differs", N_IMAGES, True)
    assert "size unknown" in layer.text
    fewer = replace(image, **{name: getattr(image, name)[:-1] for name in ("ids", "contents", "inputs")})
    assert certificate(older("a", image), older("b", fewer)).layer("embeddings").n_compared == N_TEXTS


def test_scores_and_ranks_equal_a_slow_loop() -> None:
    first = evidence()
    scores = np.random.default_rng(1).normal(size=(N_TEXTS, N_IMAGES))
    scores[[0, 4]] += np.random.default_rng(5).normal(size=(2, N_IMAGES))
    second = evidence(answers=(answers("t2i", True, scores), answers("i2t", False, scores.T)))
    found = certificate(first, second)
    assert (found.first_observed, found.dies_out_after) == ("scores", "ranks")
    differences, changed, losses = [], 0, []
    for mine, theirs in zip(first.answers, second.answers, strict=True):
        for query in range(N_TEXTS if mine.forward else N_IMAGES):
            one, two = (
                dict(
                    zip(
                        part.items[part.queries == query].tolist(),
                        part.scores[part.queries == query].tolist(),
                        strict=True,
                    )
                )
                for part in (mine, theirs)
            )
            differences += [abs(one[item] - two[item]) for item in one if item in two]
            changed += list(one) != list(two)
            losses.append(1 - len({*one} & {*two}) / max(len(one), len(two)))
    layer, ranks = found.layer("scores"), found.layer("ranks")
    assert (layer.n_compared, layer.n_changed) == (len(differences), sum(np.array(differences) > 0))
    assert (layer.largest, layer.mean) == pytest.approx((max(differences), np.mean(differences)))
    assert (ranks.n_compared, ranks.n_changed) == (N_TEXTS + N_IMAGES, changed)
    assert (ranks.largest, ranks.mean) == pytest.approx((max(losses), np.mean(losses)))
    assert changed > 0


def test_ragged_and_empty_lists() -> None:
    """Query 0: one list is a prefix of the other. Query 1: empty in the second run. Query 2: empty in both."""
    sides = side("document", 4, 1), side("query", 3, 2)
    lists = [
        Answers("q2d", True, np.array(queries, int), np.array(found, int), np.ones(len(found)), {})
        for queries, found in (([0, 0, 1], [2, 1, 3]), ([0], [2]))
    ]
    runs = [evidence(sides=sides, answers=(one,), truth=None, metrics={}) for one in lists]
    ranks = certificate(*runs).layer("ranks")
    assert (ranks.n_compared, ranks.n_changed) == (3, 2)
    assert (ranks.largest, ranks.mean) == pytest.approx((1.0, 1.5 / 3))


def test_lists_are_cut_to_the_depth_of_both() -> None:
    scores = np.random.default_rng(1).normal(size=(N_TEXTS, N_IMAGES))
    order = np.argsort(-scores, axis=1)
    rows = np.repeat(np.arange(N_TEXTS), N_IMAGES)
    deep = Answers("t2i", True, rows, order.ravel(), scores[rows, order.ravel()], {})
    found = certificate(evidence(), evidence(answers=(deep,), depth=N_IMAGES))
    assert found.layer("ranks").status == "same"
    assert found.layer("scores").n_compared == N_TEXTS * DEPTH


def test_truth_counts_new_gone_and_regraded_pairs() -> None:
    changed = Truth(np.append(np.arange(1, 9), 8), np.append(np.arange(1, 9) % 5, 0), np.array([1.0] * 7 + [2.0, 1.0]))
    layer = certificate(evidence(), evidence(truth=changed)).layer("truth")
    assert (layer.n_compared, layer.n_changed, layer.largest) == (10, 3, 1.0)
    assert layer.text.startswith(
        "1 of 10 labelled pairs only in the first run, 1 only in the second, 1 with another grade"
    )
    assert certificate(evidence(), evidence(truth=None)).layer("truth").status == "not comparable"


def test_nan_equals_nan_and_differs_from_a_number() -> None:
    def run(values: list[float]) -> Evidence:
        return evidence(
            answers=tuple(replace(one, per_query={"hit@1": np.array(values)}) for one in evidence().answers[:1])
        )

    nan = [np.nan] * N_TEXTS
    assert certificate(run(nan), run(nan)).layer("per-query").status == "same"
    layer = certificate(run(nan), run([0.5, *nan[1:]])).layer("per-query")
    assert (layer.n_changed, layer.n_compared) == (1, N_TEXTS)
    none = {"t2i/hit@1": {"value": None}}
    assert certificate(evidence(metrics=none), evidence(metrics=none)).layer("aggregate").status == "same"
    layer = certificate(evidence(metrics=none), evidence()).layer("aggregate")
    assert (layer.status, layer.n_changed, layer.n_compared) == ("differs", 2, 2)


def test_places_do_not_drown_shares_in_the_aggregate() -> None:
    metrics = {"t2i/hit@1": {"value": 0.75, "low": 0.25, "high": 0.75, "n": 9}, "t2i/MedR": {"value": 9.0, "low": None}}
    layer = certificate(evidence(), evidence(metrics=metrics)).layer("aggregate")
    assert (layer.n_changed, layer.largest) == (2, 0.25)


# ---------------------------------------------------------------------------------------------------- causes, verdicts


def layers(**status: str) -> list[LayerDifference]:
    given = {name.replace("_", "-"): value for name, value in status.items()}
    return [LayerDifference(name, given.get(name, "same"), 1, 0, 0.0, 0.0, "", "") for name in LAYERS]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fact", "layer", "cause"),
    [
        ("encoder.precision", "embeddings", "precision"),
        ("parameters.batch_size", "embeddings", "batch size"),
        ("encoder.preprocess.interpolation", "inputs", "resize filter"),
        ("protocol.ties", "ranks", "tie order"),
        ("card.content hash", "items", "data"),
        ("parameters.qrels", "truth", "judgements"),
        ("encoder.context_length", "inputs", "context length"),
        ("encoder.tokenizer_sha256", "inputs", "tokenizer"),
        ("encoder.weights_sha256", "embeddings", "checkpoint"),
        ("hardware.threads", "scores", "threads"),
        ("parameters.n_resamples", "aggregate", "resamples"),
        ("versions.numpy", "per-query", "software versions"),
        ("encoder.versions.torch", "inputs", "software versions"),
    ],
)
def test_causes_touch_the_layers_of_the_table(fact: str, layer: str, cause: str) -> None:
    declared = [Difference(fact, 1, 2)]
    assert explain(declared, layers(**{layer: "differs", "aggregate": "differs"})) == (cause,)
    assert layer in cause_of(fact).first_touches
    if cause != "software versions":
        wrong = next(name for name in LAYERS if name not in cause_of(fact).first_touches)
        assert explain(declared, layers(**{wrong: "differs"})) == ()


def test_a_layer_that_cannot_be_compared_may_hide_the_first_one() -> None:
    declared = [Difference("encoder.precision", "fp32", "bf16")]
    hidden = layers(inputs="not comparable", embeddings="not comparable", scores="differs")
    assert explain(declared, hidden) == ("precision",)
    assert explain(declared, layers(scores="differs")) == ()
    assert explain(declared, layers()) == ()
    resized = [Difference("encoder.preprocess.interpolation", "bicubic", "box")]
    assert explain(resized, layers(inputs="not comparable", scores="differs")) == (), "the embeddings are the same"


def test_software_comes_after_what_is_specific_and_drawing_explains_nothing() -> None:
    declared = [Difference(name, 1, 2) for name in ("git_revision", "versions.matplotlib", "encoder.precision")]
    assert explain(declared, layers(embeddings="differs")) == ("precision", "software versions")
    assert explain(declared[1:2], layers(embeddings="differs")) == ()


def test_every_cause_names_layers_that_exist() -> None:
    assert {name for cause in CAUSES for name in cause.first_touches} <= set(LAYERS)
    assert len({cause.name for cause in CAUSES}) == len(CAUSES)


def test_verdicts() -> None:
    threads = {"hardware.threads": 1}, {"hardware.threads": 4}
    still = certificate(*(evidence(declared=facts) for facts in threads))
    assert still.identical
    assert still.verdict == "Identical in all 8 layers that can be compared; declared, nothing moved: threads."
    turned = replace(evidence().sides[0], vectors=evidence().sides[0].vectors + 0.01)  # type: ignore[operator]
    other = evidence(sides=(turned, evidence().sides[1]), declared=threads[1])
    assert "Nothing declared explains it." in certificate(evidence(declared=threads[1]), other).verdict
    found = certificate(evidence(declared=threads[0]), other)
    assert moved(found) == ["embeddings"]
    assert "dies out after embeddings" in found.verdict
    assert found.verdict.endswith("Declared and able to explain it: threads (hardware.threads: 1 -> 4).")


def test_only_what_was_compared_is_said_not_to_have_moved() -> None:
    metrics = {"t2i/hit@1": {"value": 0.25}}
    found = certificate(evidence(metrics={"t2i/hit@1": {"value": 0.5}}), evidence(metrics=metrics))
    assert moved(found) == ["aggregate"]
    assert "; nothing before it moved." in found.verdict
    hidden = certificate(evidence(metrics={"t2i/hit@1": {"value": 0.5}}, truth=None), evidence(metrics=metrics))
    assert hidden.layer("truth").status == "not comparable"
    assert "; nothing before it that can be compared moved." in hidden.verdict


def test_a_certificate_survives_the_run_folder_and_shows_itself() -> None:
    found = certificate(evidence(declared={"x": "<b>"}), evidence(truth=None, declared={"x": "y"}))
    types = {one.__name__: one for one in (Certificate, Difference, LayerDifference)}
    back = from_plain(json.loads(json.dumps(to_plain(found), allow_nan=False)), types)
    assert str(back) == str(found)
    assert back.verdict == found.verdict
    assert [row["layer"] for row in found.rows()] == list(LAYERS)
    assert list(found.table().index) == list(LAYERS)
    assert "&lt;b&gt;" in found._repr_html_()
    assert "<b>" not in found._repr_html_()
    with pytest.raises(KeyError, match="no layer 'pixels'; there are items"):
        found.layer("pixels")


def test_order_of_the_runs_does_not_matter_for_what_moved() -> None:
    first, second = (
        evidence(),
        evidence(truth=Truth(np.array([0]), np.array([1]), np.ones(1)), metrics={"t2i/hit@1": {"value": 0.1}}),
    )
    one, two = compared(first, second), compared(second, first)
    assert [(a.status, a.n_changed, a.n_compared) for a in one] == [(b.status, b.n_changed, b.n_compared) for b in two]


def test_counted() -> None:
    assert counted(1, "labelled pair") == "1 labelled pair"
    assert counted(0, "query") == "0 queries"
