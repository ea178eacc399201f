"""The hubness report: what it computes, recommends and shows, from a world with planted hubs and from one without."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from workbench.cli import main
from workbench.datasets.world import HubbyWorld, hubby_world
from workbench.evaluate import evaluate_into
from workbench.evaluate.hub_analysis import chosen_methods
from workbench.html import loaded_resources
from workbench.normalize import METHODS
from workbench.report import load_report, schema_of
from workbench.runs import Run

FAST: dict[str, Any] = {"n_resamples": 200, "metrics": ["R@1", "R@5"]}


def saved(path: Path, world: HubbyWorld) -> str:
    """The world as vectors; images are its gallery."""
    np.savez(path, image=world.gallery, text=world.queries, text_image=world.query_item)
    return f"embeddings:{path}"


def computed(source: str, out: Path, **parameters: Any) -> Run:
    chosen = schema_of("hubness").check({**schema_of("hubness").defaults, "dataset": source, **FAST, **parameters})
    with evaluate_into(out, chosen, report="hubness") as folder:
        return Run(folder.finish())


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Additive hubs: a part of some images' scores is the same for all texts, which a bias can take off."""
    folder = tmp_path_factory.mktemp("planted")
    rng = np.random.default_rng(0)
    images, own = rng.standard_normal((120, 32)), np.repeat(np.arange(120), 4)
    texts = images[own] + 0.9 * rng.standard_normal((480, 32))
    common = rng.uniform(0, 1, (120, 1)) ** 6
    vectors = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (images, texts)]
    np.savez(
        folder / "world.npz", image=np.hstack([vectors[0], common]).astype(np.float32), text_image=own,
        text=np.hstack([vectors[1], np.full((480, 1), 0.5)]).astype(np.float32),
    )  # fmt: skip
    return computed(f"embeddings:{folder / 'world.npz'}", folder / "runs", similarity="dot")


def test_a_gain_is_found_and_recommended(planted: Run) -> None:
    findings = {one.name: one for one in planted.findings}
    assert findings["t2i/hubness"].verdict in ("look", "problem")
    repair = findings["t2i/repair"]
    assert repair.verdict == "look"
    assert repair.value > 0.05
    outcomes = [one for one in planted.results["repairs"].outcomes if one.direction == "t2i" and one.metric == "R@1"]
    assert {one.repair for one in outcomes} == {"inverted softmax", "csls", "nnn", "dbsn", "qb-norm"}
    best = max(outcomes, key=lambda one: one.difference)
    assert repair.value == best.difference
    assert repair.advice.startswith(best.repair)
    assert best.hub_share_after < best.hub_share_before
    assert best.wins > best.losses


def test_settings_are_chosen_without_the_scored_queries(planted: Run) -> None:
    for one in planted.results["tunings"]:
        assert len(one.chosen) == 2  # one per half, each on the other half
        assert set(one.chosen) <= set(METHODS[one.repair].grid[1])
        assert one.reported <= max(one.test) + 1e-12 or len(set(one.chosen)) > 1
        assert one.optimism == pytest.approx(max(one.test) - one.reported)
    assert any(one.name == "repairs/optimism" for one in planted.findings)


def test_halves_of_one_population_are_in_domain(planted: Run) -> None:
    assert all(one.in_domain for one in planted.results["domains"].of.values())


def test_either_side_is_asked_for_its_own_kind_without_itself(planted: Run) -> None:
    within = planted.results["hubness i2i"]
    assert within.occurrence.sum() == 10 * 120
    assert within.n_gallery == 120
    assert planted.results["hubness t2t"].n_gallery == 480


def test_the_report_is_drawn_and_loads_nothing(planted: Run) -> None:
    done = CliRunner().invoke(main, ["report", "hubness", "-p", f"run={planted.path}", "-q"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    page = (planted.path / "report.html").read_text(encoding="utf-8")
    assert loaded_resources(page) == []
    for words in ("How uneven is retrieval?", "inverted softmax", "Smith et al., ICLR 2017", "never retrieved"):
        assert words in page
    assert not re.search(r">\s*[+-]?nan\b", page)


def test_no_gain_reads_do_nothing(tmp_path: Path) -> None:
    world = hubby_world(n_hubs=0, n_gallery=60, queries_per_item=3, seed=1)
    run = computed(saved(tmp_path / "world.npz", world), tmp_path, methods=["csls"], tune=False)
    findings = {one.name: one for one in run.findings}
    assert findings["t2i/repair"].advice.startswith("Do nothing")
    assert run.results["tunings"] == ()
    assert {one.setting for one in run.results["repairs"].outcomes} == {"k = 10"}


def test_all_methods_are_the_registry_and_each_is_judged_or_excused(tmp_path: Path) -> None:
    world = hubby_world(n_gallery=40, queries_per_item=2, seed=2)
    run = computed(saved(tmp_path / "world.npz", world), tmp_path, methods=["all"], tune=False, metrics=["R@1"])
    assert chosen_methods({"methods": ["all"]}) == list(METHODS)
    judged = {one.repair for one in run.results["repairs"].outcomes if one.direction == "t2i"}
    excused = {name for name in METHODS if any(f" {name} could not" in note for note in run.results["repairs"].skipped)}
    assert judged | excused == set(METHODS)
    assert len(judged) >= 20


def test_a_vector_of_zeros_stops_nothing_but_the_correlations(tmp_path: Path) -> None:
    world = hubby_world(n_gallery=30, queries_per_item=2, seed=4)
    gallery = world.gallery.copy()
    gallery[3] = 0
    np.savez(tmp_path / "world.npz", image=gallery, text=world.queries, text_image=world.query_item)
    how: dict[str, Any] = {"methods": ["csls"], "tune": False, "similarity": "dot", "k": 5}
    run = computed(f"embeddings:{tmp_path / 'world.npz'}", tmp_path, **how)
    assert "causes t2i" not in run.results
    assert run.results["hubness t2i"].n_gallery == 30


def test_reports_do_not_draw_each_others_runs(planted: Run) -> None:
    with pytest.raises(ValueError, match="is a run of the hubness report, not of audit"):
        load_report(planted.path)


def test_ranked_lists_are_sent_to_the_audit(tmp_path: Path) -> None:
    (tmp_path / "lists.trec").write_text("q1 Q0 d1 1 0.5 x\nq1 Q0 d2 2 0.4 x\n", encoding="utf-8")
    with pytest.raises(Exception, match="these data are ranked lists; use the audit report"):
        computed(f"run:{tmp_path / 'lists.trec'}", tmp_path)
