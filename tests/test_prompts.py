"""Templates: spread against chance, the flattery of choosing on the test, planted gains and none."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from worlds import paired_vectors

from workbench import codec
from workbench.diagnostics.prompts import PromptSensitivity, prompt_sensitivity
from workbench.evaluate import completed, prepare
from workbench.evaluate.integrity import consistency as section
from workbench.evaluate.ranking import rank
from workbench.plots import figure
from workbench.report import schema_of
from workbench.statistics import Interval, PairedDifference
from workbench.types import Relevance

HOW = {"n_resamples": 200, "n_null": 199, "n_splits": 50}


def world(
    seed: int,
    *,
    better: float = 0.0,
    n_templates: int = 4,
    n_images: int = 90,
    direction: str = "t2i",
    **changed: object,
) -> PromptSensitivity:
    """Templates that add noise of equal size to the texts; the third adds less of it by the share ``better``."""
    rng = np.random.default_rng(seed)
    given = paired_vectors(n_images=n_images, noise=2.0, seed=seed)
    own, text = given["text_image"], given["text"]
    vectors = {}
    for t in range(n_templates):
        size = 0.3 * (1 - better * (t == 2))
        vectors[f"{t}: {{}}"] = text + size * rng.normal(size=text.shape).astype(np.float32)
    right = Relevance.from_pairs(np.arange(len(own)), own, n_queries=len(own), n_gallery=n_images)
    clusters = own if direction == "t2i" else np.arange(n_images)
    how = {**HOW, "metrics": ("hit@1",), "clusters": clusters, "direction": direction, "seed": seed, **changed}
    return prompt_sensitivity(vectors, given["image"], right, **how)["hit@1"]


@pytest.mark.parametrize("direction", ["t2i", "i2t"])
def test_values_are_those_of_a_full_matrix(direction: str) -> None:
    given = paired_vectors(noise=2.0)
    own, image = given["text_image"], given["image"]
    vectors = {"{}": given["text"], "x {}": np.roll(given["text"], 5, axis=1)}
    right = Relevance.from_pairs(np.arange(180), own, n_queries=180, n_gallery=60)
    clusters = own if direction == "t2i" else np.arange(60)
    found = prompt_sensitivity(
        vectors, image, right, clusters=clusters, direction=direction, metrics=("hit@1", "MRR"), **HOW
    )
    for t, text in enumerate(vectors.values()):
        scores = text.astype(float) @ image.T.astype(float)
        hits = (scores.argmax(1) == own) if direction == "t2i" else (own[scores.argmax(0)] == np.arange(60))
        assert found["hit@1"].values[:, t].tolist() == hits.astype(float).tolist()
    one = found["hit@1"]
    assert one.scores[0].value == pytest.approx(one.values[:, 0].mean())
    assert one.against_first[0] is None
    assert one.against_first[1].value == pytest.approx(one.values[:, 1].mean() - one.values[:, 0].mean())
    assert one.spread == pytest.approx(np.ptp(one.values.mean(axis=0)))
    assert set(found) == {"hit@1", "MRR"}


def test_equal_templates_neither_spread_nor_flatter() -> None:
    given = paired_vectors()
    right = Relevance.from_pairs(np.arange(180), given["text_image"], n_queries=180, n_gallery=60)
    vectors = dict.fromkeys(("{}", "a {}", "b {}"), given["text"])
    found = prompt_sensitivity(vectors, given["image"], right, clusters=given["text_image"], **HOW)["hit@1"]
    assert (found.spread, found.spread_null, found.spread_p) == (0, (0, 0), 1)
    assert found.rank_spread.value == 0
    assert found.optimism == pytest.approx(0, abs=1e-3)
    assert found.findings()[0].verdict == "ok"


def test_the_flattery_of_choosing_on_the_test_is_seen() -> None:
    """Eight templates that are equal in truth: the best of them reads too high by what fresh data take back."""
    gains, estimates = [], []
    for seed in range(12):
        found = world(seed, n_templates=8, n_images=40)
        truth = found.values.mean()
        gains.append(found.scores[found.best].value - truth)
        estimates.append(found.optimism)
    assert np.mean(gains) > 0.01
    assert 0.7 * np.mean(gains) < np.mean(estimates) < 2.2 * np.mean(gains), (np.mean(gains), np.mean(estimates))


def test_chance_spread_is_that_of_exchanged_templates() -> None:
    """Values of one cluster change template together: two clusters of two templates, all four outcomes by hand."""
    from workbench.diagnostics.prompts import _exchanged

    drawn = _exchanged(np.array([[3.0, 1.0], [1.0, 0.0]]), 4, 4000, 0)
    assert sorted(set(drawn.tolist())) == [0.25, 0.75]
    assert (drawn == 0.75).mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"metrics": ("MeanR",)}, "better when it is lower"),
        ({"direction": "q2d"}, "a direction from t or i"),
        ({"n_templates": 1}, "two templates or more"),
    ],
)
def test_what_cannot_be_compared_is_refused(changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        world(0, **changed)


def test_nothing_right_is_refused_and_one_image_is_not_measurable() -> None:
    given = paired_vectors(n_images=5)
    vectors = {"{}": given["text"], "a {}": given["text"]}
    nothing = Relevance.from_pairs([], [], n_queries=15, n_gallery=5)
    with pytest.raises(ValueError, match="no query has a right item"):
        prompt_sensitivity(vectors, given["image"], nothing, clusters=given["text_image"], **HOW)
    one = Relevance.from_pairs([0, 1], [0, 0], n_queries=15, n_gallery=5)
    found = prompt_sensitivity(vectors, given["image"], one, clusters=given["text_image"], **HOW)["hit@1"]
    assert len(found.values) == 2
    assert found.findings()[0].verdict == "not measurable"


def test_results_survive_being_written_and_draw() -> None:
    found = world(0, better=0.9)
    types = {kind.__name__: kind for kind in (PromptSensitivity, PairedDifference, Interval)}
    again = codec.from_plain(codec.to_plain(found), types)
    assert again.table().equals(found.table())
    ax = found.plot()
    drawn = sorted(x for line in ax.lines[1:] for x in np.atleast_1d(line.get_xdata()).tolist())
    assert drawn == pytest.approx(sorted(100 * one.value for one in found.against_first[1:]))


def test_fires_on_a_better_template_and_is_quiet_when_all_are_equal() -> None:
    missed = sum(world(seed, better=0.9).findings()[0].verdict != "look" for seed in range(20))
    false = sum(world(seed).findings()[0].verdict != "ok" for seed in range(20))
    assert max(missed, false - 2) <= 0, f"of 20 worlds each: better template missed {missed}, false alarms {false}"


def test_an_interval_that_touches_zero_is_drawn_hollow() -> None:
    from workbench.plots import consistency

    ends = {
        "clear": (0.1, 0.3),
        "below": (-0.3, -0.1),
        "touches": (-0.2, 0.0),
        "nothing": (0.0, 0.0),
        "one": (np.nan,) * 2,
    }
    made = [SimpleNamespace(value=np.nanmean([low, high, 0]), low=low, high=high) for low, high in ends.values()]
    ax = consistency._differences(figure()[1], tuple(ends), made, -1.0, "points")
    filled, hollow = ([line for line in ax.lines if line.get_marker() == "o"][i].get_ydata().tolist() for i in (0, 1))
    assert filled == [4, 3]
    assert hollow == [2, 1, 0]


def test_the_template_in_use_alone_is_no_comparison() -> None:
    found = section._prompts(
        SimpleNamespace(judged=True), (), {"templates": ["{}"], "templated": {"{}": np.eye(3)}}
    )  # fmt: skip
    assert "name another" in found["templates not measured"]


@pytest.mark.slow
def test_an_encoder_is_asked_again_under_every_template() -> None:
    asked = completed(
        {**schema_of("integrity").defaults, "n_images": 20, "n_resamples": 100, "templates": ["zz zz {}"]}
    )
    prepared = prepare(asked, progress=False)
    ranked, _ = rank(prepared, asked)
    results = section.analyse(prepared, ranked, asked)
    found = results["templates t2i/hit@1"]
    assert found.templates == ("{}", "zz zz {}")
    assert found.scores[0].value == pytest.approx(ranked[0].values["hit@1"].expected.mean())
    assert (found.values[:, 0] != found.values[:, 1]).any()
    assert "templates i2t/hit@1" in results
    assert not any(
        name.startswith("templates") for name in section.analyse(prepared, ranked, {**asked, "templates": []})
    )
