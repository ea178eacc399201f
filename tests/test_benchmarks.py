"""The benchmarks run at a tiny size with right numbers, and a wrong number is seen."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks import __main__ as command
from tests.benchmarks import bench_evaluate, bench_metrics, bench_search, bench_statistics
from tests.benchmarks.inputs import defined_ranks, defined_top_k
from tests.benchmarks.measure import Competitor, Group, Row, _compared
from tests.benchmarks.recipes import clip_recipe, metrics_of_ranks
from tests.benchmarks.table import lines
from tests.reference import search_ranks, search_scores, search_top_k
from workbench.evaluate import audit_schema
from workbench.types import Relevance

ROOT = Path(__file__).resolve().parent.parent
GROUPS = command.BENCHMARKS


def installed(competitor: Competitor) -> bool:
    return not competitor.missing


def ran(groups: Iterator[Group]) -> dict[str, tuple[Competitor, Any, Any]]:
    """Every competitor in this process: title and name -> (competitor, inputs, result). ranx alone takes half a minute
    to compile and is left to the slow test."""
    found = {}
    for group in groups:
        for each in filter(installed, group.competitors):
            if each.name != "ranx":
                inputs = each.prepare(**each.settings)
                result = each.run(inputs)
                checked = each.check(inputs, result)
                assert checked.equal, (group.title, each.name, checked.words)
                found[f"{group.title.split(':')[0]} | {each.name}"] = each, inputs, result
    return found


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("world", ["sphere", "cone"])
def test_every_benchmark_is_right_at_a_tiny_size(name: str, world: str, tmp_path: Path) -> None:
    found = ran(GROUPS[name]("tiny", world, tmp_path))
    assert sum("workbench" in key or "captions" in key for key in found) >= 1


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return ran(bench_search.groups("tiny", "sphere", tmp_path_factory.mktemp("search")))


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return ran(bench_evaluate.groups("tiny", "sphere", tmp_path_factory.mktemp("evaluate")))


def one(found: Mapping[str, Any], name: str) -> tuple[Competitor, Any, Any]:
    return next(value for key, value in found.items() if name in key)


def test_one_wrong_last_bit_of_a_score_is_seen(searched: dict[str, Any]) -> None:
    each, inputs, (ids, scores) = one(searched, "| workbench")
    nudged = scores.copy()
    nudged[2, 1] = np.nextafter(nudged[2, 1], 2)
    assert not each.check(inputs, (ids, nudged)).equal
    swapped = ids.copy()
    swapped[0, [0, 1]] = swapped[0, [1, 0]]
    assert not each.check(inputs, (swapped, scores)).equal


def test_a_peer_may_move_inside_ties_and_nowhere_else(searched: dict[str, Any]) -> None:
    each, inputs, (ids, scores) = one(searched, "numpy, full matrix")
    far, twice = ids.copy(), ids.copy()
    far[5, -1] = np.argmin(inputs["gallery"] @ inputs["queries"][5])
    twice[0, 1] = twice[0, 0]
    assert not each.check(inputs, (far, scores)).equal
    assert not each.check(inputs, (twice, scores)).equal
    assert "missed" in each.check(inputs, (ids, scores)).words
    assert (ids[:3] != one(searched, "| workbench")[2][0][:3]).any(), "no near-tie is planted"


@pytest.mark.parametrize("name", ["float32 product only", "bf16 product only"])
def test_a_wrong_product_is_seen(searched: dict[str, Any], name: str) -> None:
    if not any(name in key for key in searched):
        pytest.skip(f"no {name} on this machine")
    each, inputs, result = one(searched, name)
    wrong = result.copy()
    wrong[1, -1] += 0.05
    assert not each.check(inputs, wrong).equal


def test_the_definition_equals_a_loop() -> None:
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(4, 7)).astype(np.float32), rng.normal(size=(31, 7)).astype(np.float32)
    gallery[20:] = gallery[:11]
    gallery[3] = np.nextafter(gallery[2], np.float32(9))
    scores = search_scores(queries, gallery)
    ids, best = defined_top_k(queries, gallery, 5)
    expected = search_top_k(scores, 5)
    assert (ids == expected[0]).all()
    assert (best == expected[1]).all()
    own = np.tile([2, 3, 8], (4, 1))
    relevance = Relevance.from_pairs(np.repeat(np.arange(4), 3), own.ravel(), n_queries=4, n_gallery=31)
    better, tied = defined_ranks(queries, gallery, own)
    assert (np.stack([better.ravel(), tied.ravel()]) == search_ranks(scores, relevance)).all()


def test_wrong_ranks_lists_and_log_sums_are_seen(evaluated: dict[str, Any]) -> None:
    each, inputs, result = one(evaluated, "| workbench")
    ranks, lists = result["i2t"]["ranks"], result["i2t"]["lists"]
    better, ids = ranks.better.copy(), lists.indices.copy()
    better[0] += 1
    ids[0, 0] = ids[0, 9]
    for wrong in ({"ranks": replace(ranks, better=better)}, {"lists": replace(lists, indices=ids)},
                  {"log_sum": result["i2t"]["log_sum"] * (1 + 1e-6)}):  # fmt: skip
        assert not each.check(inputs, {**result, "i2t": {**result["i2t"], **wrong}}).equal
    spoiled = {**result["t2i"], "log_sum": np.full(len(result["t2i"]["log_sum"]), np.nan)}
    assert not each.check(inputs, {**result, "t2i": spoiled}).equal
    each, inputs, result = one(evaluated, "5 positives")
    ranks = result["t2i"]
    assert not each.check(inputs, {**result, "t2i": replace(ranks, tied=ranks.tied + 1)}).equal


def test_wrong_ranks_of_a_dense_recipe_are_seen(evaluated: dict[str, Any]) -> None:
    for name in ("dense numpy, sorted", "dense numpy, counted"):
        each, inputs, result = one(evaluated, name)
        ranks = result["t2i"]["ranks"].copy()
        ranks[7] += 1
        assert not each.check(inputs, {**result, "t2i": {**result["t2i"], "ranks": ranks}}).equal


def test_recipes_score_a_case_done_by_hand() -> None:
    found = metrics_of_ranks(np.array([[4, 1], [30, 20]]))
    assert found["hit@1"] == found["R@5"] == 0.5
    assert found["R@1"] == 0.25
    assert found["MRR"] == pytest.approx((1 + 1 / 20) / 2)
    assert found["MedR"] == found["MeanR"] == 10.5
    assert found["AP@10"] == pytest.approx((1 + 2 / 4) / 2 / 2)
    assert found["nDCG@10"] == pytest.approx((1 + 1 / np.log2(5)) / (1 + 1 / np.log2(3)) / 2)
    torch = pytest.importorskip("torch")
    texts = torch.tensor([[1, 0, 0], [0.9, 0.1, 0], [0, 1, 0], [0, 0, 1]])
    recall = clip_recipe(texts, torch.eye(3), torch.tensor([0, 1, 1, 2]), batch=3)
    assert recall["t2i"]["hit@1"] == 0.75
    assert recall["i2t"]["hit@1"] == 1.0


def test_a_wrong_metric_is_seen(tmp_path: Path) -> None:
    each, inputs, result = one(ran(bench_metrics.groups("tiny", "sphere", tmp_path)), "workbench")
    wrong = result["nDCG@10"].copy()
    wrong[11] = 1 - wrong[11]
    assert not each.check(inputs, {**result, "nDCG@10": wrong}).equal
    wrong[11] = np.nan
    assert not each.check(inputs, {**result, "nDCG@10": wrong}).equal


@pytest.mark.parametrize("name", ["value", "low", "high", "p"])
def test_a_wrong_test_or_interval_is_seen(name: str, tmp_path: Path) -> None:
    each, inputs, result = one(ran(bench_statistics.groups("tiny", "sphere", tmp_path)), "workbench")
    shift = 1e-6 if name == "value" else (result["high"] - result["low"]) / 4 if name != "p" else 0.2
    assert not each.check(inputs, {**result, name: result[name] + shift}).equal


def test_defaults_of_an_audit_are_what_is_timed() -> None:
    assert audit_schema().defaults["metrics"] == list(bench_evaluate.METRICS)


# ---- the command ----


def test_numbers_are_compared_with_the_first_that_has_them() -> None:
    rows = [Row(name, (1.0,), 0.0, 0, 0, True, "", numbers) for name, numbers in
            (("a", {"x": 1.0}), ("b", {"y": 2.0}), ("c", {"x": 1.0 + 1e-9, "y": 2.1}))]  # fmt: skip
    assert _compared(rows[2], rows, 0.1).equal
    assert "y is 2.1, but 2 in b" in _compared(rows[2], rows, 1e-6).words
    assert not _compared(replace(rows[0], numbers={"x": float("nan")}), rows, 1e-6).equal


def test_exit_codes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad, absent = (Competitor(name, len, len, len, {}, ()) for name in ("good", "bad", "absent"))
    absent = replace(absent, modules=("no_such_library",))

    def run(*competitors: Competitor, options: tuple[str, ...] = ()) -> int:
        monkeypatch.setitem(command.BENCHMARKS, "search", lambda *_: iter([Group("one", competitors)]))
        return command.main(["search", *options])

    def rows(group: Group, *, threads: int, repeats: int) -> list[Row]:
        assert (threads, repeats) == (2, 5)
        return [Row(each.name, (1.0,), 0.0, 0, 0, each.name != "bad", "", {}) for each in group.competitors]

    monkeypatch.setattr(command, "measure", rows)
    assert run(good, bad, options=("--json", str(tmp_path / "r.json"))) == 1
    assert "wrong numbers from bad" in capsys.readouterr().err
    (group,) = json.loads((tmp_path / "r.json").read_text())["groups"]
    assert [row["equal"] for row in group["rows"]] == [True, False]
    assert run(good, absent) == 2
    said = capsys.readouterr().err
    assert "no_such_library" in said
    assert "retrieval-workbench[bench]" in said
    assert run(good, absent, options=("--skip-missing",)) == 0
    assert "left out: absent needs no_such_library" in capsys.readouterr().out


def test_columns_are_aligned() -> None:
    rows = [Row("short", (1.0,), 0.0, 10**6, 2 * 10**6, True, "", {}), Row("longer", (250.0,), 9, 0, 0, False, "n", {})]
    title, head, *table, fact, _ = lines("t", rows, {"ratio": 250.0})
    assert title == "t"
    assert [line.index(text) for line, text in zip([head, *table], ("equal", "yes", "NO: n"), strict=True)] == [
        head.index("equal")
    ] * 3
    assert fact == "  ratio: 250"


@pytest.mark.slow
@pytest.mark.parametrize("name", GROUPS)
def test_from_the_command_line(name: str) -> None:
    line = [sys.executable, "-m", "tests.benchmarks", name, "--size", "tiny", "--threads", "1", "--skip-missing"]
    found = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "workbench" in found.stdout
