"""The reproducibility report: what it computes, what it keeps to itself, and the page that it draws."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.worlds import paired_vectors
from workbench.cli import main
from workbench.diagnostics.run_evidence import Answers, Evidence, Items
from workbench.evaluate import evaluate, evaluate_into
from workbench.evaluate.reproducibility.agreement import agreement
from workbench.html import loaded_resources
from workbench.plots.protocols import gallery_sizes, protocol_values
from workbench.report import schema_of
from workbench.runs import Run

FAST: dict[str, Any] = {"n_resamples": 100, "metrics": ["hit@1", "MRR"], "k": 5}


def computed(source: str, out: Path, **parameters: Any) -> Run:
    schema = schema_of("reproducibility")
    chosen = schema.check({**schema.defaults, "dataset": source, **FAST, **parameters})
    with evaluate_into(out, chosen, report="reproducibility") as folder:
        return Run(folder.finish())


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Run]:
    """(folder, source of a world, a finished audit of the same items by another system, with its vectors)."""
    folder = tmp_path_factory.mktemp("reproducibility")
    arrays = paired_vectors(n_images=80, captions=3, dim=12, noise=1.6)
    np.savez(folder / "world.npz", **arrays)
    noise = np.random.default_rng(1).normal(size=arrays["text"].shape).astype(np.float32)
    np.savez(folder / "worse.npz", **{**arrays, "text": arrays["text"] + 0.3 * noise})
    how: dict[str, Any] = {"n_resamples": 100, "repairs": [], "keep_embeddings": True, "out": folder / "runs"}
    return folder, f"embeddings:{folder / 'world.npz'}", evaluate(f"embeddings:{folder / 'worse.npz'}", **how)


@pytest.fixture(scope="module")
def run(sources: tuple[Path, str, Run]) -> Run:
    folder, source, other = sources
    return computed(source, folder / "runs", against=str(other.path), probes=["precision", "truncation", "resize"])


def test_the_numbers_are_those_of_the_audit(run: Run, sources: tuple[Path, str, Run]) -> None:
    folder, source, _ = sources
    audit = evaluate(source, out=folder / "audits", n_resamples=100, repairs=[], metrics=["hit@1", "MRR"])
    assert run.metrics == audit.metrics
    for row in run.results["protocols"].rows:
        if row.protocol == "whole gallery":
            entry = run.metrics[f"{row.direction}/{row.metric}"]
            assert (row.value, row.low, row.high) == (entry["value"], entry["low"], entry["high"])


def test_certificate_and_order_of_the_two_systems(run: Run, sources: tuple[Path, str, Run]) -> None:
    other = sources[2]
    found = run.results["certificate"]
    assert (found.first, found.second) == (other.path.name, "this run")
    assert found.first_observed == "embeddings"
    assert found.layer("embeddings").n_changed == 240
    assert "data" in found.causes
    protocols = run.results["protocols"]
    assert protocols.second == other.path.name
    default = protocols.group("t2i", "MRR")[0]
    assert default.second == pytest.approx(other.metrics["t2i/MRR"]["value"])
    assert default.leader == -1
    findings = {one.name: one for one in run.findings}
    assert findings["certificate/layers"].verdict == "look"  # it differs, and the declared data explain it
    assert findings["t2i/order of two systems"].verdict in ("ok", "look")
    assert findings["t2i/hit@1 by protocol"].verdict == "look"
    assert findings["probe/the same again"].verdict == "ok"
    assert findings["probe/resize"].verdict == "not measurable"


def test_agreement_of_the_lists_is_that_of_the_kept_neighbours(run: Run, sources: tuple[Path, str, Run]) -> None:
    other = sources[2]
    for direction in ("t2i", "i2t"):
        tops = []
        for one in (other, run):
            columns = one.neighbours(direction)
            first: dict[str, set[str]] = {}
            for query, item, rank in zip(columns["query_id"], columns["item_id"], columns["rank"], strict=True):
                if rank <= 5:
                    first.setdefault(query, set()).add(item)
            tops.append(first)
        expected = np.mean([len(top & tops[1][query]) / 5 for query, top in tops[0].items()])
        rows = {row["measure"]: row for row in run.results["agreement"][direction]}
        assert rows["overlap@5"]["mean"] == pytest.approx(expected)
        assert rows["overlap@5"]["n"] == len(tops[0])
        assert rows["RBO(p=0.9) lower bound"]["mean"] < rows["RBO(p=0.9)"]["mean"] < 1
        assert -1 < rows["tau-ap"]["mean"] < 1


def test_lists_of_renamed_items_agree_and_are_cut_to_the_common_length(tmp_path: Path) -> None:
    def side(modality: str, ids: str) -> Items:
        contents = tuple(name.lower() for name in ids)
        return Items(modality, tuple(ids), contents, ("",) * len(ids), ("",) * len(ids))

    def one(ids: str, texts: str, items: list[int], depth: int) -> Evidence:
        kept = [np.repeat([0, 1], len(items) // 2), np.array(items), -np.arange(len(items), dtype=float)]
        answers = Answers("t2i", True, *kept, {})  # type: ignore[arg-type]
        sides = side("image", ids), side("text", texts)
        return Evidence(texts, "encoder", {}, {}, sides, None, (answers,), {}, depth=depth)

    first, second = one("abc", "xy", [0, 1, 2, 0], 2), one("CBAD", "yx", [0, 2, 3, 2, 1, 3], 3)
    rows = agreement(first, second, k=2)["t2i"]
    assert {row["measure"]: (row["mean"], row["n"]) for row in rows} == {  # type: ignore[index]
        "RBO(p=0.9)": (1, 2), "RBO(p=0.9) upper bound": (1, 2), "tau-ap": (1, 2), "overlap@2": (1, 2),
        "RBO(p=0.9) lower bound": (pytest.approx(rows[1]["mean"]), 2),  # type: ignore[index]
    }  # fmt: skip
    apart = agreement(first, one("abc", "vw", [0, 1, 2, 0], 2), k=2)["t2i"]
    assert apart == "Not comparable: no common query among 2 and 2; are both of one collection?."


def test_other_contents_under_the_same_names_are_no_second_system(tmp_path: Path) -> None:
    how: dict[str, Any] = {"n_images": 12, "n_resamples": 100}
    other = evaluate("scenes", seed=5, repairs=[], keep_embeddings=True, out=tmp_path / "other", **how)
    run = computed("scenes", tmp_path / "runs", against=str(other.path), seed=6, **how)
    assert run.results["protocols"].second == ""
    assert "other contents under" in run.results["protocols"].notes[0]


def test_against_itself_nothing_differs(sources: tuple[Path, str, Run]) -> None:
    folder, source, _ = sources
    audit = evaluate(source, out=folder / "same", n_resamples=100, repairs=[], keep_embeddings=True,
                     metrics=["hit@1", "MRR"], k=5)  # fmt: skip
    run = computed(source, folder / "runs", against=str(audit.path))
    found = run.results["certificate"]
    assert found.identical, str(found)
    assert found.declared == ()
    assert {one.name: one.verdict for one in run.findings}["certificate/layers"] == "ok"
    assert "very same vectors" in run.results["protocols"].notes[0]
    assert run.results["probes"].rows == ()


def test_nothing_but_the_manifest_knows_time_and_place(run: Run, sources: tuple[Path, str, Run]) -> None:
    folder, source, other = sources
    again = computed(source, folder / "twice", against=str(other.path), probes=["precision", "truncation", "resize"])
    assert again.manifest["files"] == run.manifest["files"]
    assert again.path.name == run.path.name
    for name in ("manifest.json", "results.json"):
        assert str(folder) not in (run.path / name).read_text(encoding="utf-8")
    assert run.manifest["parameters"]["against"] == f".../{other.path.name}"


def test_the_page_is_drawn_and_loads_nothing(run: Run) -> None:
    done = CliRunner().invoke(
        main, ["report", "reproducibility", "-p", f"run={run.path}", "-q"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert loaded_resources(page) == []
    for words in (
        "First observed in embeddings", "fifth of the gallery, mean of five", "first caption only", "must be stated",
        "no query is itself an item of the gallery", "vectors rounded to float16", "the data bring ready-made vectors",
        "What the two runs themselves say is different", "RBO(p=0.9)", "tau-ap",
    ):  # fmt: skip
        assert words in page, words
    assert not re.search(r">\s*[+-]?nan\b", page)


def test_a_run_without_vectors_is_certified_but_no_second_system(sources: tuple[Path, str, Run]) -> None:
    folder, source, _ = sources
    audit = evaluate(source, out=folder / "bare", n_resamples=100, repairs=[])
    run = computed(source, folder / "runs", against=str(audit.path))
    assert run.results["certificate"].first_observed in ("", "aggregate")
    assert run.results["protocols"].second == ""
    assert "kept no vectors" in run.results["protocols"].notes[0]


def test_bad_requests_are_refused_before_any_work(sources: tuple[Path, str, Run], tmp_path: Path) -> None:
    _, source, other = sources
    with pytest.raises(ValueError, match="no probe is called 'sede'"):
        computed(source, tmp_path, probes=["sede"])
    with pytest.raises(FileNotFoundError, match="is no run folder"):
        computed(source, tmp_path, against="nowhere")
    with pytest.raises(ValueError, match="share=no-content keeps"):
        computed(source, tmp_path, against=str(other.path), share="no-content")
    assert list(tmp_path.iterdir()) == []


def test_ranked_lists_are_sent_to_the_audit(tmp_path: Path) -> None:
    (tmp_path / "lists.trec").write_text("q1 Q0 d1 1 0.5 x\nq1 Q0 d2 2 0.4 x\n", encoding="utf-8")
    with pytest.raises(Exception, match="protocols re-score vectors, and these data are ranked lists"):
        computed(f"run:{tmp_path / 'lists.trec'}", tmp_path)


def test_without_a_right_pair_there_is_nothing_to_score(tmp_path: Path) -> None:
    arrays = paired_vectors(n_images=12, captions=2)
    arrays["text_image"] = np.full(24, -1)
    np.savez(tmp_path / "world.npz", **arrays)
    run = computed(f"embeddings:{tmp_path / 'world.npz'}", tmp_path, metrics=["hit@1"])
    assert run.results["protocols"].rows == ()
    assert all(one.verdict != "ok" for one in run.findings if "hit@1" in one.name)


def test_parameters_that_the_audit_has_too_mean_the_same() -> None:
    mine, audit = schema_of("reproducibility"), schema_of("audit")
    of_audit = {parameter.name: parameter for parameter in audit.parameters}
    for parameter in mine.parameters:
        if parameter.name in of_audit and parameter.name != "metrics":
            other = of_audit[parameter.name]
            assert (parameter.default, parameter.choices, parameter.low, parameter.high) == (
                other.default, other.choices, other.low, other.high,
            )  # fmt: skip
    assert set(mine.defaults) - set(of_audit) == {"against", "probes", "probe_images"}


def test_the_pictures_show_what_they_are_given(run: Run) -> None:
    ax = protocol_values(["a", "b"], [10, 20], [8, 15], [12, 25], unit="hit@1 (%)", other=[11, 9])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"]
    drawn = {tuple(line.get_xdata()) for line in ax.lines}
    assert {(10.0, 20.0), (11.0, 9.0)} <= drawn
    curves = run.results["protocols"].curves
    ax = gallery_sizes(curves)
    assert ax.get_xscale() == "log"
    assert list(ax.lines[0].get_xdata()) == [point.size for point in curves["t2i"]]


def test_results_are_plain_json(run: Run) -> None:
    text = (run.path / "results.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert json.loads(text)["schema"] == 1
