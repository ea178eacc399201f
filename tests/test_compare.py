"""Is the gain real: planted differences found and nothing else, refusals, selection, requirements, tables."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from workbench.cli import main
from workbench.evaluate import evaluate
from workbench.evaluate.comparison import compare_into
from workbench.evaluate.comparison.factors import along, course, crossed_factors, seed_of, selection_optimism
from workbench.evaluate.comparison.policy import Requirement, answer, read_policy
from workbench.evaluate.comparison.published import read_published
from workbench.evaluate.comparison.tables import escaped, latex_table, shown_metric
from workbench.files import canonical_hash
from workbench.report import load_report, schema_of
from workbench.report.cite import bibtex, citation, measured
from workbench.runs import Run

N_IMAGES, CAPTIONS = 40, 2
ALL = N_IMAGES * CAPTIONS


def basis(wrong: Sequence[int], *, n_images: int = N_IMAGES) -> dict[str, np.ndarray]:
    """Two captions per image; those in ``wrong`` lie on the next image, the right one second."""
    images = np.eye(n_images, dtype=np.float32)
    own = np.repeat(np.arange(n_images), CAPTIONS)
    texts = images[own].copy()
    for row in wrong:
        texts[row] = 0.5 * images[own[row]] + images[(own[row] + 1) % n_images]
    return {"image": images, "text": texts, "text_image": own,
            "caption": np.array([f"caption {row}" for row in range(len(own))])}  # fmt: skip


def system(folder: Path, name: str, wrong: Sequence[int], *, change: Any = None, **parameters: Any) -> Run:
    """A run of a system that gets the queries in ``wrong`` wrong, and no other."""
    world = basis(wrong)
    if change is not None:
        change(world)
    np.savez(folder / f"{name}.npz", **world)
    how: dict[str, Any] = {"n_resamples": 100, "repairs": [], "metrics": ["hit@1", "hit@5", "MRR", "MedR", "MeanR"]}
    return evaluate(f"embeddings:{folder / f'{name}.npz'}", out=folder / "runs", **{**how, **parameters})


def compared(out: Path, runs: Sequence[Run], **parameters: Any) -> Run:
    schema = schema_of("compare")
    given = {"n_resamples": 200, **parameters, "runs": [str(run.path) for run in runs]}
    with compare_into(out, schema.check({**schema.defaults, **given})) as folder:
        return Run(folder.finish())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compare")


@pytest.fixture(scope="module")
def base(place: Path) -> Run:
    """Wrong on the first caption of images 0 to 13."""
    return system(place, "base", range(0, 28, 2))


@pytest.fixture(scope="module")
def better(place: Path) -> Run:
    """Wrong on those of images 10 to 13 only: ten known queries better."""
    return system(place, "better", range(20, 28, 2))


@pytest.fixture(scope="module")
def twin(place: Path) -> Run:
    return system(place, "twin", range(0, 28, 2))


@pytest.fixture(scope="module")
def three(place: Path, base: Run, better: Run, twin: Run) -> Run:
    return compared(place / "out", [base, better, twin])


def gain(run: Run, system: str, metric: str) -> Any:
    return next(one for one in run.results["gains"] if (one.system, one.metric) == (system, metric))


# --------------------------------------------------------------------------------------------------- planted truths


def test_a_planted_gain_is_found_query_by_query(three: Run) -> None:
    found = gain(three, "better", "t2i/hit@1")
    assert found.difference == pytest.approx(10 / ALL)
    assert (found.wins, found.ties, found.losses) == (10, ALL - 10, 0)
    assert found.p_value == 2 / 2**10  # ten clusters differ, all with the same sign
    assert found.verdict == "gain"
    assert found.low > 0
    finding = next(one for one in three.findings if one.name == "better: t2i/hit@1")
    assert finding.verdict == "ok"
    assert "The gain is real" in finding.advice
    assert "10 queries better" in finding.advice
    shown = three.results["examples wins better t2i"].cards
    names = {card.text.removeprefix("query ") for card in shown if card.right == 1}
    assert names <= {f"text-{row:02d}" for row in range(0, 20, 2)}
    assert len(names) == 5


def test_a_loss_is_a_problem(place: Path, base: Run, better: Run) -> None:
    run = compared(place / "out", [base, better], baseline="better")
    found = gain(run, "base", "t2i/hit@1")
    assert (found.verdict, found.wins, found.losses) == ("loss", 0, 10)
    assert next(one for one in run.findings if one.name == "base: t2i/hit@1").verdict == "problem"


def test_ranks_that_fall_are_gains(place: Path, base: Run, better: Run) -> None:
    found = gain(compared(place / "out", [base, better], metrics=["MeanR"]), "better", "t2i/MeanR")
    assert found.difference == pytest.approx(-10 / ALL)  # one place each
    assert (found.wins, found.losses, found.verdict) == (10, 0, "gain")


def test_identical_systems_show_nothing(three: Run) -> None:
    for metric in ("t2i/hit@1", "i2t/hit@1", "t2i/MRR"):
        found = gain(three, "twin", metric)
        assert (found.verdict, found.p_value, found.p_holm, found.difference) == ("identical", 1.0, 1.0, 0.0)
    assert all(one.verdict != "problem" for one in three.findings)


def test_holm_is_over_every_comparison(three: Run) -> None:
    gains = three.results["gains"]
    assert len(gains) == 2 * 2 * 2  # two systems, two directions, hit@1 and MRR
    running, expected = 0.0, {}
    for rank, one in enumerate(sorted(gains, key=lambda one: one.p_value)):
        running = max(running, min(1.0, (len(gains) - rank) * one.p_value))
        expected[one.system, one.metric] = running
    for one in gains:
        assert one.p_holm == pytest.approx(expected[one.system, one.metric])


def test_detectable_difference_by_its_formula(three: Run) -> None:
    found = gain(three, "better", "t2i/hit@1")
    sums = np.zeros(N_IMAGES)
    sums[:10] = 1.0
    residuals = sums - CAPTIONS * 10 / ALL
    error = math.sqrt(N_IMAGES / (N_IMAGES - 1) * (residuals**2).sum()) / ALL
    assert found.minimum_detectable == pytest.approx((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * error)
    assert any(one.name == "t2i/hit@1/detectable difference" for one in three.findings)


def test_places(three: Run) -> None:
    places = three.results["places"]["t2i/hit@1"]
    assert places.low.tolist() == [2, 1, 2]
    assert places.high.tolist() == [3, 1, 3]


def test_the_folder_is_evidence_and_names_no_place(three: Run, base: Run, place: Path) -> None:
    import hashlib

    recorded = three.manifest["compared"]
    assert [one["label"] for one in recorded] == ["base", "better", "twin"]
    assert recorded[0]["manifest_sha256"] == hashlib.sha256((base.path / "manifest.json").read_bytes()).hexdigest()
    assert three.manifest["parameters"]["runs"][0] == base.path.name
    for name, digest in three.manifest["files"].items():
        assert hashlib.sha256((three.path / name).read_bytes()).hexdigest() == digest
    for path in three.path.rglob("*"):
        if path.is_file():
            assert str(place).encode() not in path.read_bytes(), path.name
    assert three.per_query["better/hit@1"].sum() == base.per_query["hit@1"].sum() + 10  # i2t is alike
    assert set(three.results["certificates"]) == {"better", "twin"}


def test_same_inputs_same_results(place: Path, base: Run, better: Run, twin: Run, three: Run) -> None:
    again = compared(place / "again", [base, better, twin])
    assert again.path.name == three.path.name
    for name in three.manifest["files"]:
        assert (again.path / name).read_bytes() == (three.path / name).read_bytes(), name


# --------------------------------------------------------------------------------------------------------- refusals


def drop_last(world: dict[str, np.ndarray]) -> None:
    for name in ("text", "text_image", "caption"):
        world[name] = world[name][:-1]


def other_words(world: dict[str, np.ndarray]) -> None:
    world["text_image"] = np.roll(world["text_image"], 1)


def test_other_queries_are_refused_and_paired_only_when_asked(place: Path, base: Run) -> None:
    short = system(place, "short", [0], change=drop_last)
    with pytest.raises(ValueError, match=r"1 queries are only in audit__base.*reproducibility.*common=true"):
        compared(place / "out", [base, short])
    run = compared(place / "out", [base, short], common=True)
    found = gain(run, "short", "t2i/hit@1")
    assert found.n == ALL - 1
    assert found.wins == 13
    assert {one.metric.partition("/")[0] for one in run.results["gains"]} == {"t2i"}  # the texts are i2t's gallery
    assert any("i2t is left out" in text for text in run.results["notes"])
    score = next(one for one in run.results["scores"] if (one.system, one.metric) == ("base", "t2i/hit@1"))
    assert score.value == pytest.approx(1 - 14 / (ALL - 1))


def test_other_truth_and_other_gallery_are_refused(place: Path, base: Run) -> None:
    with pytest.raises(ValueError, match="judgements differ"):
        compared(place / "out", [base, system(place, "truth", [0], change=other_words)])

    def grown(world: dict[str, np.ndarray]) -> None:
        world["image"] = np.vstack([world["image"], np.full((1, N_IMAGES), 0.1, np.float32)])

    with pytest.raises(ValueError, match="1 items of the gallery are only in audit__grown"):
        compared(place / "out", [base, system(place, "grown", [0], change=grown)])


def test_other_contents_under_the_same_ids_are_refused(place: Path, base: Run, better: Run) -> None:
    from workbench.runs import read_parquet, write_parquet

    copies = []
    for number, run in enumerate((base, better)):
        path = place / "contents" / run.path.name
        shutil.copytree(run.path, path)
        items = read_parquet(path / "layers" / "items.parquet")
        items["input_sha256"] = ["0" * 64] * len(items["id"])  # as if an encoder had read them
        items["content_sha256"][3] = str(number)
        write_parquet(path / "layers" / "items.parquet", items)
        manifest = json.loads((path / "manifest.json").read_text())
        manifest["card"]["content hash"] = str(number)
        (path / "manifest.json").write_text(json.dumps(manifest))
        copies.append(Run(path))
    with pytest.raises(ValueError, match="1 items of the same id have another content"):
        compared(place / "out", copies)


def test_other_vectors_are_another_system_and_not_another_test(place: Path, base: Run) -> None:
    """Ready-made vectors are all that is known of an item: their digests tell systems apart, not contents."""

    def turned(world: dict[str, np.ndarray]) -> None:
        for name in ("image", "text"):
            world[name] = world[name][:, ::-1].copy()

    other = system(place, "turned", range(0, 28, 2), change=turned)
    assert other.manifest["card"]["content hash"] != base.manifest["card"]["content hash"]
    assert gain(compared(place / "out", [base, other]), "turned", "t2i/hit@1").verdict == "identical"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"baseline": "nobody"}, "baseline='nobody' names 0 of the runs; give one of 'base', 'better'"),
        ({"metrics": ["hit@7"]}, "has no t2i/hit@7; it has hit@1"),
        ({"metrics": ["hits@1"]}, "unknown metric"),
        ({"metrics": ["MedR"]}, "is a median.*MeanR"),
        ({"over": "stepp"}, "no field 'stepp' in the manifests; .*parameters.dataset"),
        ({"over": "dataset", "metrics": ["MeanR"]}, "over= draws a metric of which more is better"),
    ],
)
def test_bad_requests_write_nothing(
    place: Path, tmp_path: Path, base: Run, better: Run, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        compared(tmp_path / "out", [base, better], **parameters)
    assert not (tmp_path / "out").exists()


def test_queries_that_only_two_of_three_share_are_refused(place: Path) -> None:
    def parts(*rows: int) -> Any:
        def change(world: dict[str, np.ndarray]) -> None:
            for name in ("text", "text_image", "caption"):
                world[name] = world[name][list(rows)]
            world["text_id"] = np.array([f"query {row}" for row in rows])

        return change

    runs = [system(place, f"part{n}", [0], change=parts(*rows)) for n, rows in enumerate(((2, 4), (2, 6), (4, 6)))]
    with pytest.raises(ValueError, match="no t2i query is in all of the 3 runs"):
        compared(place / "out", runs, common=True)


def test_metrics_that_a_small_gallery_does_not_have_are_not_asked_for(place: Path, tmp_path: Path) -> None:
    """hit@10 of two pictures and four captions: named in metrics.json without a value, and not query by query."""
    runs = []
    for name, wrong in (("right", []), ("wrong", [0])):
        np.savez(place / f"{name}.npz", **basis(wrong, n_images=2))
        runs.append(evaluate(f"embeddings:{place / f'{name}.npz'}", out=place / "few", n_resamples=100, repairs=[]))
    assert runs[0].metrics["t2i/hit@10"]["value"] is None
    run = compared(place / "out", runs)
    assert {one.metric for one in run.results["gains"]} == {f"{way}/{name}" for way in ("t2i", "i2t")
                                                            for name in ("hit@1", "MRR")}  # fmt: skip
    with pytest.raises(ValueError, match=r"has no t2i/hit@10; it has (?!.*hit@10)"):
        compared(place / "out", runs, metrics=["hit@10"])
    with pytest.raises(ValueError, match="t2i/hit@10, which could not be measured"):
        compared(place / "out", runs, policy=written(tmp_path / "p.json", [{**RULE, "metric": "hit@10"}]))


def test_a_run_twice_and_a_comparison_are_refused(place: Path, base: Run, three: Run) -> None:
    with pytest.raises(ValueError, match="named twice"):
        compared(place / "out", [base, base])
    with pytest.raises(ValueError, match="runs must be a list of one or more"):
        compared(place / "out", [])
    with pytest.raises(ValueError, match="run of the compare report"):
        compared(place / "out", [base, three])


# ------------------------------------------------------------------------------------------- seeds, factors, choosing


@pytest.fixture(scope="module")
def seeded(place: Path) -> Run:
    """Two systems with three seeds; the second is better by ten queries under each."""
    rng, runs = np.random.default_rng(5), []
    for name, n_wrong in (("old", 30), ("new", 20)):
        for seed in range(3):
            runs.append(system(place, f"{name}-seed{seed}", rng.permutation(ALL)[: n_wrong + 2 * seed].tolist()))
    return compared(place / "out", runs)


def test_seeds_are_grouped_and_the_best_is_told_from_the_mean(seeded: Run) -> None:
    groups = {one.name: one for one in seeded.results["seeds"] if one.metric == "t2i/hit@1"}
    assert set(groups) == {"old", "new"}
    old = groups["old"]
    expected = [1 - n / ALL for n in (30, 32, 34)]
    assert old.values == pytest.approx(expected)
    assert old.seeds == ("0", "1", "2")
    assert old.optimism == pytest.approx(expected[0] - expected[1])
    assert old.sd == pytest.approx(np.std(expected, ddof=1))
    assert old.summary.value == pytest.approx(expected[1])
    assert any(one.name == "old: t2i/hit@1/best of 3 seeds" for one in seeded.findings)
    assert not any(one.name == "old-seed1: t2i/hit@1" for one in seeded.findings)


def test_welch_is_scipys(seeded: Run) -> None:
    found = next(one for one in seeded.results["seed gains"] if one.metric == "t2i/hit@1")
    groups = {one.name: one.values for one in seeded.results["seeds"] if one.metric == "t2i/hit@1"}
    reference = stats.ttest_ind(groups["new"], groups["old"], equal_var=False)
    assert (found.first, found.second) == ("old", "new")
    assert (found.welch_t, found.welch_p) == pytest.approx((reference.statistic, reference.pvalue))
    assert found.welch_df == pytest.approx(reference.df)
    assert found.p_value > found.welch_p  # queries vary too
    assert found.low < found.difference < found.high


def test_seeds_need_the_word_and_a_number(place: Path, base: Run) -> None:
    assert seed_of(base, "seed")[1] == ("0",)  # the parameter of that name
    assert seed_of(Run(next((place / "runs").glob("*new-seed2*"))), "seed")[1] == ("2", "0")
    assert seed_of(base, "seed")[0] != seed_of(base, "dataset")[0]


def test_optimism_of_equal_systems_is_the_expected_maximum() -> None:
    """Ten equal systems on 400 queries: the best of them lies 1.539 standard errors above the truth."""
    found = []
    for seed in range(60):
        values = np.random.default_rng(seed).standard_normal((10, 400))
        found.append(selection_optimism(values, np.arange(400), n_splits=100, seed=seed))
    maximum = np.random.default_rng(0).standard_normal((20_000, 10)).max(axis=1).mean()
    error = np.std(found) / math.sqrt(len(found))
    assert np.mean(found) == pytest.approx(maximum / math.sqrt(400), abs=3 * error)
    assert error < 0.1 * maximum / math.sqrt(400)


def test_optimism_is_nothing_where_one_system_always_wins() -> None:
    values = np.vstack([np.ones(30), np.zeros(30), np.full(30, 0.5)])
    values[:, 3] = np.nan
    assert selection_optimism(values, np.repeat(np.arange(15), 2)) == 0.0
    assert math.isnan(selection_optimism(values[:, :3], np.arange(3)))


@pytest.fixture(scope="module")
def crossed(place: Path, base: Run) -> list[Run]:
    """Two fields crossed: the first costs 16 queries, the second 4, nothing interacts."""
    runs = []
    for similarity, more in (("cosine", 0), ("dot", 16)):
        for batch, fewer in ((32, 0), (64, 4)):
            wrong = [*range(more), *range(40, 40 + fewer)]
            runs.append(system(place, "cross", wrong, similarity=similarity, batch_size=batch))
    return runs


def test_shares_of_variance_add_up(place: Path, crossed: list[Run]) -> None:
    assert set(crossed_factors(crossed, "seed")) == {"parameters.similarity", "parameters.batch_size"}
    assert crossed_factors(crossed[:3], "seed") == {}
    found = {one.name: one for one in compared(place / "out", crossed).results["factors"] if one.metric == "t2i/hit@1"}
    assert found["similarity"].share == pytest.approx(16**2 / (16**2 + 4**2))
    assert found["batch_size"].share == pytest.approx(4**2 / (16**2 + 4**2))
    assert found[
        "batch_size x similarity" if "batch_size x similarity" in found else "similarity x batch_size"
    ].share == (pytest.approx(0, abs=1e-12))
    assert found["similarity"].difference == pytest.approx(16 / ALL)
    assert "rest" not in found


@pytest.fixture(scope="module")
def steps(place: Path) -> list[Run]:
    """Test: best at 400. Validation (other images): best at 200."""
    runs = [system(place, f"m-step-{step}", range(n)) for step, n in ((100, 20), (200, 12), (400, 8), (1600, 10))]
    for step, n in ((100, 14), (200, 3), (400, 6), (1600, 7)):
        np.savez(place / f"v-step-{step}.npz", **basis(range(n), n_images=30))
        run = evaluate(f"embeddings:{place / f'v-step-{step}.npz'}", out=place / "val", n_resamples=100, repairs=[])
        manifest = json.loads((run.path / "manifest.json").read_text())
        manifest["parameters"]["split"] = "val"
        (run.path / "manifest.json").write_text(json.dumps(manifest))
        runs.append(Run(run.path))
    return runs


def test_what_validation_chose_and_what_the_test_would_choose(place: Path, steps: list[Run]) -> None:
    run = compared(place / "out", steps[::-1], over="step", baseline="m-step-100")
    found = next(one for one in run.results["courses"] if one.metric == "t2i/hit@1")
    assert found.x == (100, 200, 400, 1600)  # as numbers, not as words
    assert found.value == pytest.approx([1 - n / ALL for n in (20, 12, 8, 10)])
    assert found.validation == pytest.approx([1 - n / 60 for n in (14, 3, 6, 7)])
    assert (found.labels[found.chosen], found.labels[found.best]) == ("200", "400")
    assert found.optimism == pytest.approx(4 / ALL)
    finding = next(one for one in run.findings if one.name.startswith("t2i/hit@1/chosen over"))
    assert finding.verdict == "look"
    assert "Report 200" in finding.advice
    assert len(run.results["systems"]) == 4


def test_along_a_field_that_some_runs_lack_or_that_never_changes(place: Path, steps: list[Run]) -> None:
    path = place / "lacking" / steps[1].path.name
    shutil.copytree(steps[1].path, path)
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["parameters"]["similarity"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=f"parameters.similarity is not in the manifest of {path.name}"):
        along([steps[0], Run(path)], "similarity")
    seeds = [system(place, f"along-seed{seed}", [seed]) for seed in (3, 4)]
    name, values = along(seeds, "seed")  # parameters.seed is 0 in both
    assert (name, values) == ("seed in parameters.dataset", ["3", "4"])
    assert along(seeds, "parameters.seed")[1] == ["0", "0"]
    assert along(steps[:2], "similarity")[1] == ["cosine", "cosine"]


def test_course_with_equal_points_and_words() -> None:
    flat = [(0.5, 0.4, 0.6), (0.7, 0.6, 0.8), (0.7, 0.6, 0.8)]
    found = course("step", ["1", "2", "3"], "t2i/hit@1", flat, [0.1, 0.2, 0.3])
    assert (found.chosen, found.best, found.optimism) == (2, 2, 0.0)  # as good as the first of the best
    assert course("step", ["nan", "2", "1"], "t2i/hit@1", flat, []).labels == ("1", "2", "nan")


def test_validation_from_a_field_and_twins_that_do_not_match(place: Path, steps: list[Run]) -> None:
    run = compared(place / "out", steps[:4], over="step", validation="step")
    assert run.results["courses"][0].chosen == 3
    path = place / "unknown" / steps[0].path.name
    shutil.copytree(steps[0].path, path)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["encoder"]["val"] = "nan"
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="must hold a number in every manifest"):
        compared(place / "out", [Run(path)], validation="encoder.val")
    with pytest.raises(ValueError, match="one twin with the same step"):
        compared(place / "out", steps[:5], over="step")


# --------------------------------------------------------------------------------------------- published, requirements


def written(path: Path, content: Any) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


def test_published_rows_stand_unpaired(place: Path, tmp_path: Path, base: Run, better: Run) -> None:
    table = "system,source,year,t2i/hit@1,t2i/MRR,i2t/hit@10\nOld & Good,Smith,2019,61.5,,70\n"
    run = compared(place / "out", [base, better], published=written(tmp_path / "old.csv", table))
    (row,) = run.results["published"]
    assert row.values == {"t2i/hit@1": 0.615}
    assert len(run.results["gains"]) == 4  # never tested
    assert "columns not compared here: i2t/hit@10" in " ".join(run.results["notes"])
    rows = list(csv.DictReader((run.path / "table.csv").open()))
    assert [(one["role"], one["value"], one["p"]) for one in rows if one["system"] == "Old & Good"] == [
        ("unpaired", "0.615", "")
    ]
    assert r"Old \& Good (Smith) \emph{(unpaired)}" in (run.path / "table.tex").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,t2i/hit@1\nx,1\n", "column 'system'"),
        ("system,t2i/hit@1\n", "column 'system'"),
        ("system,t2i/hit@1\nx,about 60\n", "line 2: t2i/hit@1 = 'about 60' is no number"),
        ("system,t2i/hit@1\n,60\n", "line 2: the system has no name"),
        ("system,R@1\nx,60\n", "cannot read the column 'R@1'"),
        ("system,t2i/hit@9\nx,60\n", "no column is one of the compared metrics"),
        ("system,t2i/hit@1\nx,160\n", "per cent"),
        ("system,t2i/hit@1\nx,-1\n", "must lie in"),
        ("system,t2i/hit@1\n\nx,60\nSmith, Jones,60\n", "line 4: 3 cells under 2 columns"),
        ("system,source,t2i/hit@1\nx,60\n", "line 2: 2 cells under 3 columns"),
        ("system,t2i/hit@1,t2i/hit@1\nx,60,70\n", "two columns have the same name"),
        ("system,t2i/hit@1,t2i/hit@01\nx,60,70\n", "two columns hold the same metric"),
        ("system,t2i/hit@1\nx," + "6" * 200_000 + "\n", "is no CSV"),
    ],
)
def test_bad_published_tables(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_published(written(tmp_path / "old.csv", text), ["t2i/hit@1"])


def test_published_fractions_and_per_cent(tmp_path: Path) -> None:
    for text, value, word in (("0.6", 0.6, "fractions"), ("60", 0.6, "per cent"), ("60 %", 0.6, "per cent"),
                              ("0.8 %", 0.008, "per cent")):  # fmt: skip
        rows, notes = read_published(written(tmp_path / "a.csv", f"system,t2i/hit@1\nx,{text}\n"), ["t2i/hit@1"])
        assert rows[0].values["t2i/hit@1"] == pytest.approx(value)
        assert word in notes[0]


@pytest.mark.parametrize(
    ("side", "low", "high", "expected"),
    [
        ("at least", 0.5, 0.7, "met"),
        ("at least", 0.4999, 0.7, "undecided"),
        ("at least", 0.3, 0.5, "undecided"),
        ("at least", 0.3, 0.4999, "not met"),
        ("at most", 0.3, 0.5, "met"),
        ("at most", 0.3, 0.5001, "undecided"),
        ("at most", 0.5, 0.7, "undecided"),
        ("at most", 0.5001, 0.7, "not met"),
        ("at least", 0.5, 0.5, "met"),
        ("at least", math.nan, math.nan, "undecided"),
    ],
)
def test_three_answers_at_the_edge(side: Any, low: float, high: float, expected: str) -> None:
    assert answer(Requirement("hit@1", "t2i", (), side, 0.5, "contract"), low, high) == expected


RULE = {"metric": "hit@1", "direction": "t2i", "at least": 0.5, "reason": "contract"}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"metric": "hit@1"}, "expected a list"),
        ('[{"metric": "hit@1", "direction": "t2i", "at least": 0.9, "at least": 0.1}]', "a field stands twice"),
        ([], "expected a list"),
        ([{**RULE, "at most": 1}], "exactly one of"),
        ([{k: v for k, v in RULE.items() if k != "reason"}], "needs the text of reason"),
        ([{**RULE, "metric": "hits@1"}], "requirement 1: unknown metric"),
        ([{**RULE, "metrc": "hit@1"}], "unknown field 'metrc'; did you mean 'metric'"),
        ([RULE, {**RULE, "at least": 80}], "requirement 2: bounds of hit@1 are fractions"),
        ([{**RULE, "at least": True}], "must be a number"),
        ([{**RULE, "slice": "de"}], "slice must be an object"),
    ],
)
def test_bad_policies(tmp_path: Path, rules: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_policy(written(tmp_path / "policy.json", rules))


@pytest.fixture(scope="module")
def sliced(place: Path) -> Run:
    """Queries 0 to 39 are "de", the others "en"; wrong on ten of the German ones."""

    def languages(world: dict[str, np.ndarray]) -> None:
        world["language"] = np.repeat(["de", "en"], ALL // 2)

    run = system(place, "sliced", range(0, 20, 2), change=languages)
    assert any(name.endswith("language") for name in run.per_query)
    return run


def test_slices_of_a_policy(place: Path, tmp_path: Path, sliced: Run) -> None:
    rules = [{**RULE, "slice": {"language": language}, "at least": 0.9} for language in ("de", "en")]
    run = compared(place / "out", [sliced], policy=written(tmp_path / "p.json", rules))
    german, english = run.results["policy"]
    assert (german.value, german.n, german.answer) == (0.75, 40, "not met" if german.high < 0.9 else "undecided")
    assert (english.value, english.answer) == (1.0, "met")
    for bad, message in (({"colour": "red"}, "slices by 'colour'"), ({"language": "fr"}, "there is de, en")):
        with pytest.raises(ValueError, match=message):
            compared(place / "out", [sliced], policy=written(tmp_path / "q.json", [{**RULE, "slice": bad}]))
    with pytest.raises(ValueError, match="the policy asks for t2v/hit@1"):
        compared(place / "out", [sliced], policy=written(tmp_path / "q.json", [{**RULE, "direction": "t2v"}]))


def command(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["compare", *map(str, arguments), "--no-page", "-q"], catch_exceptions=False)


def test_one_run_and_exit_codes(tmp_path: Path, base: Run, better: Run) -> None:
    policy = written(tmp_path / "p.json", [RULE])
    common = ["--out", tmp_path, "-p", f"policy={policy}", "-p", "n_resamples=200"]
    done = command(base.path, *common, "--fail-on-policy")
    assert done.exit_code == 0, done.output
    assert Run(done.stdout.strip()).results["policy"][0].answer == "met"
    assert Run(done.stdout.strip()).results["gains"] == ()
    written(tmp_path / "p.json", [{**RULE, "at least": 0.95}])
    done = command(base.path, better.path, *common, "--fail-on-policy")
    assert done.exit_code == 3
    assert "better: t2i/hit@1 at least 0.95" in done.stderr
    assert command(base.path, better.path, *common).exit_code == 0
    written(tmp_path / "p.json", [{**RULE, "metric": "hit@9"}])
    done = command(base.path, *common)
    assert (done.exit_code, "error: the policy asks for t2i/hit@9" in done.stderr) == (2, True)
    assert command(base.path, "--fail-on-policy").exit_code == 2
    assert command(tmp_path / "nowhere").exit_code == 2


# ----------------------------------------------------------------------------------------------------- tables, citing


def test_table_holds_the_numbers_of_the_runs(three: Run, base: Run, better: Run) -> None:
    rows = list(csv.DictReader((three.path / "table.csv").open()))
    assert len(rows) == 3 * 4
    for row in rows:
        if row["system"] in ("base", "better"):
            entry = (base if row["system"] == "base" else better).metrics[f"{row['direction']}/{row['metric']}"]
            assert [float(row[name]) for name in ("value", "low", "high")] == [
                entry[name] for name in ("value", "low", "high")
            ]
            assert (int(row["n"]), int(row["clusters"])) == (entry["n"], entry["clusters"])
        if row["role"] == "paired":
            mine = three.metrics[f"{row['direction']}/{row['metric']} gain({row['system']})"]
            assert (float(row["difference"]), float(row["p_holm"])) == (mine["value"], mine["p_holm"])


def balanced(text: str) -> bool:
    plain = re.sub(r"\\.", "", text)
    depth = 0
    for letter in plain:
        depth += (letter == "{") - (letter == "}")
        assert depth >= 0
    return depth == 0


def test_latex_is_escaped_and_says_how(three: Run) -> None:
    text = (three.path / "table.tex").read_text()
    assert balanced(text)
    assert r"92.5$^{*}$" not in text.splitlines()[7]
    assert "95.0$^{*}$" in text
    for words in ("hit@1", "share of queries with at least one positive", "n = 80 queries in 40 clusters", "Holm"):
        assert words in text
    clip, trec = (latex_table(three.results, names=names) for names in ("clip", "trec"))
    assert "R@1" in clip
    assert "text $\\rightarrow$ image" in clip
    assert "success\\_1" in trec
    assert "recip\\_rank" in trec


def test_names_of_metrics_do_not_collide() -> None:
    names = ["hit@1", "R@1", "P@1", "AP@1", "AP", "AP(norm=min)@1", "nDCG@1", "nDCG(gain=exp)@1", "MRR", "RR@1"]
    for kind in ("clip", "trec", "workbench"):
        assert len({shown_metric(name, kind) for name in names}) == len(names)


HOSTILE = 'a_b & 50% #1 $x$ {y} ~^ \\input{/etc/passwd} <|"> 名前 é'


def test_hostile_names_are_text(place: Path, tmp_path: Path, base: Run) -> None:
    assert "\\input" not in escaped(HOSTILE)
    table = f'system,source,t2i/hit@1\n"{HOSTILE.replace(chr(34), chr(34) * 2)}",,60\n=1+1,=2+2,50\n'
    run = compared(place / "out", [base], published=written(tmp_path / "h.csv", table))
    assert balanced((run.path / "table.tex").read_text())
    assert "\n'=1+1," in (run.path / "table.csv").read_text()
    assert ",'=2+2\n" in (run.path / "table.csv").read_text()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(place: Path, tmp_path: Path, base: Run, better: Run) -> None:
    letters = "".join(map(chr, range(0xA1, 0x180)))
    names = [HOSTILE.replace('"', '""'), "[1] first", "名前", "*best", letters]
    table = "system,t2i/hit@1\n" + "".join(f'"{name}",60\n' for name in names)
    run = compared(place / "out", [base, better], published=written(tmp_path / "h.csv", table), names="clip")
    body = (run.path / "table.tex").read_text()
    packages = "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs}"
    (tmp_path / "paper.tex").write_text(f"{packages}\\begin{{document}}\n{body}\\end{{document}}\n")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").exists()


def test_citing(three: Run, base: Run) -> None:
    for run in (three, base):
        entries = bibtex(run)
        assert all(balanced(entry) for entry in entries.values())
        assert all(re.match(r"@\w+\{[\w-]+,\n", entry) for entry in entries.values())
        text = citation(run)
        assert text.startswith("How this was measured\n\n")
        assert "Intervals: 95 %" in measured(run)
        assert "share of queries with at least one positive" in text
    assert "holm1979" in bibtex(three)
    assert "holm1979" not in bibtex(base)  # nothing was tested there
    done = CliRunner().invoke(main, ["cite", str(three.path)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "@article{holm1979," in done.stdout
    assert canonical_hash(citation(three)) == canonical_hash(citation(Run(three.path)))


def test_a_baseline_is_recorded_by_its_folder(place: Path, base: Run, better: Run) -> None:
    slashed = system(place, "slashed", [0])
    manifest = json.loads((slashed.path / "manifest.json").read_text())
    manifest["card"]["name"] = "lab/model"
    (slashed.path / "manifest.json").write_text(json.dumps(manifest))
    run = compared(place / "out", [base, Run(slashed.path)], baseline="lab/model")
    assert run.manifest["parameters"]["baseline"] == slashed.path.name


def test_a_title_with_marks_is_one_entry(place: Path, base: Run) -> None:
    path = place / "titled" / base.path.name
    shutil.copytree(base.path, path)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["card"] |= {"title": "Cats & dogs }, author = {a_b", "citation": "by {us}, 100 %"}
    (path / "manifest.json").write_text(json.dumps(manifest))
    (entry,) = (entry for key, entry in bibtex(Run(path)).items() if key.startswith("data-"))
    assert r"title = {Cats \& dogs ), author = (a\_b}" in entry
    assert r"note = {by (us), 100 \%}" in entry


def test_the_report_does_not_say_that_seeds_are_missing_where_ranks_are(place: Path, seeded: Run) -> None:
    runs = [Run(next((place / "runs").glob(f"*old-seed{seed}*"))) for seed in range(2)]
    shown = load_report(compared(place / "out", runs, metrics=["MeanR"]).path, "compare")
    assert "No two runs differ" not in shown.seeds().text
    assert "add hit@1 or MRR" in shown.seeds().text
    assert "add hit@1 or MRR" in shown.factors().text


def test_seeds_that_say_the_same_are_drawn_without_nan(place: Path) -> None:
    runs = [system(place, f"{name}-seed{seed}", range(4)) for name in ("left", "right") for seed in range(2)]
    shown = load_report(compared(place / "out", runs).path, "compare")
    assert "+0.00" in shown.seeds()._repr_html_()
    assert "nan" not in shown._seed_gains()._repr_html_()


def test_many_comparisons_get_more_flips_so_that_holm_can_still_find_a_gain(tmp_path: Path) -> None:
    names = [f"hit@{k}" for k in range(1, 31)]
    wrong = range(0, ALL, 2)  # one caption of every image
    runs = [system(tmp_path, name, rows, metrics=names) for name, rows in (("poor", wrong), ("good", []))]
    gains = compared(tmp_path / "out", runs, metrics=names).results["gains"]
    assert len(gains) == 60, [one.metric for one in gains]
    first = next(one for one in gains if one.metric == "t2i/hit@1")
    assert first.p_value == pytest.approx(1 / 12_001)
    assert first.p_holm == pytest.approx(60 / 12_001)
    assert first.verdict == "gain"
