"""Unusual combinations of data and options, against slow obvious references: nothing breaks, nothing misleads."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.test_own_data import FirstPixels, WordCounts, write_folder
from tests.worlds import paired_vectors
from workbench import datasets
from workbench.datasets import Card, Collection, Side
from workbench.evaluate import _prepared, audit_schema, evaluate
from workbench.evaluate.groups import groups_of
from workbench.evaluate.ranking import first_places
from workbench.report import load_report
from workbench.runs import Run
from workbench.types import Finding, RankedLists, Relevance

FAST = {"n_resamples": 100}


def vectors(path: Path, *, n_images: int = 40, **changes: Any) -> str:
    world = {**paired_vectors(n_images=n_images), **changes}
    np.savez(path, **{name: value for name, value in world.items() if value is not None})
    return f"embeddings:{path}"


def finding(run: Run, name: str) -> Finding:
    return next(one for one in run.findings if one.name == name)


def words(part: Any) -> str:
    return str(part._repr_html_())


# --- ranked lists ----------------------------------------------------------------------------------------------------

SCORES = {  # query -> what was returned, best first, with ties
    "q4": {"d3": 9},
    "q1": {"d1": 3, "d2": 2, "d3": 2, "d4": 2, "d5": 1},
    "q2": {"d6": 1, "d2": 1, "d7": 1},
    "q3": {"d8": 5, "d9": 4, "d1": 4, "d2": 0.5},
}
RIGHT = {"q4": {"d6": 1}, "q1": {"d3": 1, "d4": 2, "d9": 1}, "q2": {"d2": 1, "d7": 3}, "q3": {"d1": 2}}


@pytest.fixture
def listed(tmp_path: Path) -> Callable[..., Run]:
    def audit(**parameters: Any) -> Run:
        lines = [f"{q} Q0 {d} 0 {s} sys\n" for q, returned in SCORES.items() for d, s in returned.items()]
        (tmp_path / "lists.trec").write_text("".join(lines))
        lines = [f"{q} 0 {d} {grade}\n" for q, right in RIGHT.items() for d, grade in right.items()]
        (tmp_path / "truth.qrels").write_text("".join(lines))
        chosen = {"qrels": str(tmp_path / "truth.qrels"), "k": 3, "depth": 3, "short_lists": "as is", **FAST}
        return evaluate(f"run:{tmp_path / 'lists.trec'}", out=tmp_path / "runs", **{**chosen, **parameters})

    return audit


def orders(returned: dict[str, float]) -> list[list[str]]:
    """Every order of a list that its scores allow."""
    levels = sorted(set(returned.values()), reverse=True)
    tied = [itertools.permutations([d for d, s in returned.items() if s == level]) for level in levels]
    return [[d for part in parts for d in part] for parts in itertools.product(*tied)]


def by_hand(name: str, k: int, ranked: Sequence[str], right: dict[str, int]) -> float:
    places = [place for place, item in enumerate(ranked[:k], 1) if item in right]
    if name == "hit":
        return float(bool(places))
    if name == "R":
        return len(places) / len(right)
    if name == "RR":
        return 1 / places[0] if places else 0.0
    if name == "AP":
        return sum(n / place for n, place in enumerate(places, 1)) / len(right)
    ideal = sorted(right.values(), reverse=True)[:k]
    gained = sum(right[ranked[place - 1]] / math.log2(place + 1) for place in places)
    return gained / sum(grade / math.log2(place + 1) for place, grade in enumerate(ideal, 1))


def test_tied_lists_equal_every_order_tried(listed: Callable[..., Run]) -> None:
    names = [(name, k) for name in ("hit", "R", "RR", "AP", "nDCG") for k in (1, 2, 3, 4)]
    run = listed(metrics=[f"{name}@{k}" for name, k in names], gallery_size=50)
    for name, k in names:
        tried = [[by_hand(name, k, ranked, RIGHT[q]) for ranked in orders(SCORES[q])] for q in SCORES]
        entry = run.metrics[f"q2d/{name}@{k}"]
        assert entry["value"] == pytest.approx(np.mean([np.mean(one) for one in tried]), abs=1e-12), (name, k)
        assert entry["worst"] == pytest.approx(np.mean([min(one) for one in tried]), abs=1e-12), (name, k)
        assert entry["best"] == pytest.approx(np.mean([max(one) for one in tried]), abs=1e-12), (name, k)
    place = dict(zip(run.per_query["query_id"], run.per_query["best_place"], strict=True))
    for query, right in RIGHT.items():
        firsts = [next((p for p, d in enumerate(r, 1) if d in right), None) for r in orders(SCORES[query])]
        expected = np.nan if None in firsts else np.mean(firsts)
        assert place[query] == pytest.approx(expected, nan_ok=True), query


def test_chance_in_a_stated_gallery_is_hypergeometric(listed: Callable[..., Run]) -> None:
    run = listed(metrics=["hit@1", "hit@3"], gallery_size=50)
    for k in (1, 3):
        miss = [math.comb(50 - len(right), k) / math.comb(50, k) for right in RIGHT.values()]
        assert run.metrics[f"q2d/hit@{k}"]["chance"] == pytest.approx(1 - np.mean(miss), abs=1e-12)
    curve = run.results["curve q2d"]
    assert curve.metrics == ("hit@1", "hit@2", "hit@3", "hit@5")  # the longest list has five places
    assert curve.chance[0] == run.metrics["q2d/hit@1"]["chance"]


def test_the_curve_ends_with_the_shortest_list(listed: Callable[..., Run]) -> None:
    run = listed(metrics=["hit@1", "hit@2"], short_lists="refuse")
    assert run.results["curve q2d"].metrics == ("hit@1",)
    assert run.metrics["q2d/hit@2"]["value"] is None
    page = words(load_report(run.path).scores())
    assert page.count("unaffected") + page.count(" to ") > 0
    assert "unaffected" not in page.split("q2d/hit@2")[1]


def test_groups_in_lists(listed: Callable[..., Run], tmp_path: Path) -> None:
    """Queries without k places are in no list that is counted; documents hand nothing on to queries."""
    group = {f"d{n}": "ab"[n % 2] for n in range(1, 10)}
    (tmp_path / "groups.csv").write_text("id,kind\n" + "\n".join(f"{item},{name}" for item, name in group.items()))
    run = listed(metadata=str(tmp_path / "groups.csv"), slices=["kind"], metrics=["hit@1"])
    assert not [name for name in run.results if name.startswith("slices")]
    shown = run.results["exposure q2d kind"]
    tops = [sorted(SCORES[q].items(), key=lambda pair: (-pair[1], pair[0]))[:3] for q in ("q1", "q2", "q3")]
    places = [group[item] for top in tops for item, _ in top]
    assert dict(zip(shown.groups, shown.n_places.tolist(), strict=True)) == {g: places.count(g) for g in "ab"}
    wanted = [np.mean([group[d] == "a" for d in RIGHT[q]]) for q in ("q1", "q2", "q3")]
    assert shown.share_relevant[shown.groups.index("a")] == pytest.approx(np.mean(wanted))
    assert finding(run, "q2d/exposure by kind").verdict == "not measurable"
    assert "returned or judged" in finding(run, "q2d/exposure by kind").advice


def test_report_on_lists_says_what_is_missing(listed: Callable[..., Run]) -> None:
    audit = load_report(listed(metrics=["hit@1"]).path)
    assert "1 more have no right item in their list" in words(audit.ranks("q2d"))
    assert audit.run.results["hubness q2d"].occurrence.sum() == 3 * 3
    written = [line.split()[0] for line in (audit.run.path / "run_q2d.trec").read_text().splitlines()]
    assert [written.count(query) for query in SCORES] == [1, 3, 3, 3]  # depth=3
    assert ">document<" in words(audit.look("hubs q2d"))
    assert ">query<" in words(audit.look("worst q2d"))
    long = load_report(listed(metrics=["hit@1"], k=6).path)
    assert "no list has the k places" in words(long.hubness("q2d"))
    assert listed(gallery_size=77, metrics=["hit@1"]).results["hubness q2d"].n_gallery == 77


def test_same_lists_same_bytes(listed: Callable[..., Run]) -> None:
    first, second = listed(), listed()
    assert second.path.name == f"{first.path.name}-2"
    files = sorted(path.relative_to(first.path) for path in first.path.rglob("*") if path.is_file())
    for name in files:
        if name.name != "manifest.json":
            assert (first.path / name).read_bytes() == (second.path / name).read_bytes(), name


def test_other_scores_other_name(listed: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    first = listed().path.name
    monkeypatch.setitem(SCORES, "q4", {"d3": 8})
    assert listed().path.name.rpartition("-2")[0] != first
    assert listed().path.name.removesuffix("-2") != first


def test_the_last_place_is_tied_with_the_next_one_only() -> None:
    lists = RankedLists([0, 1, 4, 7], [3, 0, 1, 2, 0, 1, 2], [1, 3, 2, 2, 2, 2, 1], 4)
    queries, first = first_places(SimpleNamespace(lists=lists), 2)  # type: ignore[arg-type]
    assert queries.tolist() == [1, 2]
    assert first is not None
    assert (first.indices.tolist(), first.kth_tied.tolist()) == ([[0, 1], [0, 1]], [True, False])


def test_dot_products_rank_by_length_too(tmp_path: Path) -> None:
    world = paired_vectors(n_images=30, noise=1.6)
    images = world["image"] * np.linspace(0.5, 3, 30, dtype=np.float32)[:, None]
    source = vectors(tmp_path / "w.npz", n_images=30, image=images, text=world["text"])
    run = evaluate(source, out=tmp_path, similarity="dot", repairs=[], metrics=["hit@1"], **FAST)
    best = (world["text"].astype(float) @ images.astype(float).T).argmax(axis=1)
    assert run.metrics["t2i/hit@1"]["value"] == pytest.approx(np.mean(best == world["text_image"]))


def test_one_list_alone(tmp_path: Path) -> None:
    (tmp_path / "one.trec").write_text("q Q0 d1 1 2 s\nq Q0 d2 2 1 s\n")
    (tmp_path / "one.qrels").write_text("q 0 d1 1\n")
    run = evaluate(
        f"run:{tmp_path / 'one.trec'}", out=tmp_path, qrels=str(tmp_path / "one.qrels"), k=1, metrics=["hit@1"], **FAST
    )
    assert "only one independent query" in finding(run, "q2d/hit@1").advice


# --- groups of one side and of the other -----------------------------------------------------------------------------


def collection(own: list[int], images: dict[str, list[Any]], texts: dict[str, list[Any]]) -> Collection:
    n_images, n_texts = 3, len(own)
    return Collection(
        Card("world"),
        Side("image", ("a", "b", "c"), (), {name: np.array(values) for name, values in images.items()}),
        Side("text", tuple(f"t{n}" for n in range(n_texts)), (), {name: np.array(v) for name, v in texts.items()}),
        Relevance.from_pairs([], [], n_queries=n_texts, n_gallery=n_images), np.array(own),
    )  # fmt: skip


def test_groups_are_handed_on_between_an_image_and_its_texts() -> None:
    world = collection([2, 0, -1, 2], {"kind": ["x", "y", "z"]}, {"who": ["p", "q", "r", "p"], "lang": list("abcd")})
    assert groups_of(world, world.images, "kind").tolist() == ["x", "y", "z"]
    assert groups_of(world, world.texts, "kind").tolist() == ["z", "x", "", "z"]
    assert groups_of(world, world.images, "who").tolist() == ["q", "", "p"]
    assert groups_of(world, world.images, "lang") is None  # two texts of image c differ
    loose = collection([-1, -1], {"kind": ["x", "y", "z"]}, {"who": ["p", "q"]})
    assert groups_of(loose, loose.texts, "kind") is None
    assert groups_of(loose, loose.images, "who") is None


def test_slices_and_exposure_equal_loops(tmp_path: Path) -> None:
    kind, world = np.array(["x", "y", "y", "z"] * 10), paired_vectors(n_images=40, noise=1.6)
    source = vectors(tmp_path / "w.npz", text=world["text"], kind=kind)
    run = evaluate(source, out=tmp_path, slices=["kind"], smallest_group=5, k=4, **FAST)
    scores = world["text"].astype(float) @ world["image"].astype(float).T
    own = world["text_image"]
    order = np.argsort(-scores, axis=1)
    found = run.results["slices t2i kind"]
    assert (found.smallest, run.results["slices i2t kind"].smallest) == (5, 5)
    for row, group in enumerate(found.groups):
        mine = [order[q, 0] == own[q] for q in range(120) if kind[own[q]] == group]
        assert (found.value[row, 0], found.n[row, 0]) == (pytest.approx(np.mean(mine)), len(mine))
    shown = run.results["exposure t2i kind"]
    places = [kind[item] for q in range(120) for item in order[q, :4]]
    assert dict(zip(shown.groups, shown.n_places.tolist(), strict=True)) == {g: places.count(g) for g in "xyz"}
    back = run.results["exposure i2t kind"]  # texts take the kind of their image
    places = [kind[own[text]] for i in range(40) for text in np.argsort(-scores[:, i])[:4]]
    assert dict(zip(back.groups, back.n_places.tolist(), strict=True)) == {g: places.count(g) for g in "xyz"}


ODD = {
    "constant": np.array(["x"] * 40), "idlike": np.array([f"z{n}" for n in range(120)]),
    "missing": np.array(["u", "", "v", "w"] * 30), "number": np.arange(40.0), "truth": np.arange(120) % 2 == 0,
}  # fmt: skip


@pytest.mark.parametrize("metrics", [["MedR"], ["nDCG(gain=exp)@10", "MeanR"]])
def test_odd_columns(metrics: list[str], tmp_path: Path) -> None:
    source = vectors(tmp_path / "odd.npz", **ODD)
    run = evaluate(source, out=tmp_path, slices=list(ODD), smallest_group=5, metrics=metrics, similarity="dot", **FAST)
    sliced = [name for name in run.results if name.startswith("slices t2i")]
    audit = load_report(run.path)
    if metrics == ["MedR"]:
        assert not sliced
        assert "no metric of which more is better" in " ".join(words(audit.slices()).split())
        assert run.results["repairs"].outcomes == ()
    else:
        assert len(sliced) == len(ODD)
        assert "constant" in words(audit.slices())
    assert "number" in words(audit.exposure())
    assert "t2i by constant: not measurable" in words(load_report(run.path).exposure())
    assert len(run.results["exposure t2i number"].groups) == 4


# --- one of everything -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_images", "k"), [(1, 1), (1, 10), (2, 1), (2, 2), (12, 12)])
def test_tiny_worlds_raise_no_false_alarm(n_images: int, k: int, tmp_path: Path) -> None:
    run = evaluate(vectors(tmp_path / "w.npz", n_images=n_images), out=tmp_path, k=k, depth=1, **FAST)
    assert not [one for one in run.findings if one.name == "instrument" and one.verdict != "ok"]
    audit = load_report(run.path)
    for part in (
        audit.instrument,
        audit.gap,
        audit.space,
        audit.curve,
        audit.repairs,
        audit.duplicates,
        audit.findings,
    ):
        assert words(part())
    assert run.neighbours("t2i")["item_id"]


@pytest.mark.parametrize("seed", range(3))
def test_few_judgements_in_a_large_gallery_raise_no_false_alarm(seed: int, tmp_path: Path) -> None:
    source = vectors(tmp_path / "w.npz", n_images=400)
    (tmp_path / "few.qrels").write_text("".join(f"text-{3 * n:04d} 0 image-{n:03d} {1 + n % 2}\n" for n in range(20)))
    run = evaluate(source, out=tmp_path, qrels=str(tmp_path / "few.qrels"), seed=seed, repairs=[], **FAST)
    assert run.metrics["t2i/hit@1"]["n"] == run.metrics["i2t/hit@1"]["n"] == 20
    assert finding(run, "instrument").verdict == "ok"
    assert finding(run, "data/relevance").verdict == "look"
    assert "1,180 without a judgement" in finding(run, "data/relevance").advice


def test_the_first_place_of_tied_right_items_is_the_mean_rank(tmp_path: Path) -> None:
    same = np.ones((6, 4), np.float32)
    source = vectors(tmp_path / "flat.npz", n_images=6, image=same, text=np.ones((9, 4), np.float32),
                     text_image=np.arange(9) % 6, caption=None, label=np.array(list("aabbbc")))  # fmt: skip
    run = evaluate(source, out=tmp_path, metrics=["MeanR", "hit@1"], k=2, **FAST)
    mine = [p for p, way in zip(run.per_query["best_place"], run.per_query["direction"], strict=True) if way == "t2i"]
    right = [2, 2, 3, 3, 3, 1, 2, 2, 3]
    assert mine == pytest.approx([7 / (n + 1) for n in right])
    assert np.mean(mine) == pytest.approx(run.metrics["t2i/MeanR"]["value"])
    cards = run.results["examples worst t2i"].cards
    assert {card.right for card in cards if card.note == "returned first"} <= {1}
    assert {card.right for card in cards if card.note == "returned first instead"} <= {0}
    back = run.results["examples worst i2t"].cards
    assert {card.right for card in back} == {int(0 in (n, n + 6)) or card.right for n, card in enumerate(back)}


# --- columns and judgements where the data are cut -------------------------------------------------------------------


def test_columns_and_judgements_may_name_what_is_cut(tmp_path: Path) -> None:
    source = vectors(tmp_path / "w.npz")
    rows = [f"text-{n:03d},{'ab'[n % 2]}" for n in range(120)] + [f"image-{n:02d},{'xyz'[n % 3]}" for n in range(40)]
    (tmp_path / "columns.csv").write_text("id,kind\n" + "\n".join(rows))
    (tmp_path / "all.qrels").write_text("".join(f"text-{n:03d} 0 image-{n // 3:02d} 1\n" for n in range(120)))
    files = {"metadata": str(tmp_path / "columns.csv"), "qrels": str(tmp_path / "all.qrels")}
    run = evaluate(source, out=tmp_path / "cut", n_images=20, **files, **FAST)
    plain = evaluate(source, out=tmp_path / "cut", n_images=20, **FAST)
    assert run.metrics == plain.metrics
    assert run.metrics["t2i/hit@1"]["n"] == 60
    assert run.per_query["text:kind"][:60] == ["a", "b"] * 30
    (tmp_path / "columns.csv").write_text("id,kind\n" + "\n".join(reversed(rows)).replace(",a", ",c"))
    other = evaluate(source, out=tmp_path / "cut", n_images=20, **files, **FAST)
    assert other.path.name.removesuffix("-2") != run.path.name  # another table is another input


@pytest.mark.parametrize("share", ["full", "no-content"])
def test_another_split_as_bank_needs_no_columns_and_no_judgements(share: str, tmp_path: Path) -> None:
    how = {"n_images": 25, "bank": "val", "k": 5, "share": share, "scenes_languages": ["en", "de"], **FAST}
    world = datasets.load("scenes", n_images=25, options={"languages": ("en", "de"), "seed": 0})
    right = world.relevance
    (tmp_path / "columns.csv").write_text(
        "id,kind\n" + "\n".join(f"{name},{'ab'[n % 2]}" for n, name in enumerate(world.images.ids))
    )
    pairs = zip(right.queries.tolist(), right.items.tolist(), strict=True)
    judged = [f"{world.texts.ids[text]} 0 {world.images.ids[image]} 1\n" for text, image in pairs]
    (tmp_path / "own.qrels").write_text("".join(judged))
    files = {"metadata": str(tmp_path / "columns.csv"), "qrels": str(tmp_path / "own.qrels"), "slices": ["kind"]}
    run = evaluate("scenes", FirstPixels(), out=tmp_path, **files, **how)
    plain = evaluate("scenes", FirstPixels(), out=tmp_path, **how)
    assert {one.provenance for one in run.results["repairs"].outcomes} == {"inductive (val)"}
    assert run.results["repairs"].flat() == pytest.approx(plain.results["repairs"].flat(), nan_ok=True)
    assert run.results["slices i2t kind"].n.sum() == 2 * 25
    assert (run.path / "thumbnails.parquet").exists() == (share == "full")


def test_unreadable_items_are_all_listed(tmp_path: Path) -> None:
    names = [f"p{n:02d}.png" for n in range(20)]
    source = write_folder(tmp_path / "data", names, [(f"p{n:02d}.png", f"n {n}") for n in range(22)])
    for n in (2, 3, 4, 5):
        (tmp_path / "data" / names[n]).write_bytes(b"" if n % 2 else b"junk")
    (tmp_path / "columns.csv").write_text("id,kind\n" + "\n".join(f"p{n:02d}.png,{'ab'[n % 2]}" for n in range(22)))
    how = {"bad_images": "record", "k": 3, "slices": ["kind"], **FAST}
    run = evaluate(source, FirstPixels(), out=tmp_path, metadata=str(tmp_path / "columns.csv"), **how)
    expected = {f"p{n:02d}.png" for n in (2, 3, 4, 5, 20, 21)}
    written = json.loads((run.path / "findings.json").read_text())["unreadable"]
    assert {one["id"] for one in written} == expected
    assert all(one["reason"] for one in written)
    page = words(load_report(run.path).unreadable())
    assert all(name in page for name in expected)
    assert finding(run, "data/unreadable").value == 6 / 22
    assert "2 of 22 rows of columns.csv name items that are not there" in finding(run, "data/relevance").advice
    (tmp_path / "columns.csv").write_text("id,kind\nnobody,a\n")
    with pytest.raises(ValueError, match="1 of 1 ids are in neither side"):
        evaluate(source, FirstPixels(), out=tmp_path, metadata=str(tmp_path / "columns.csv"), **how)


def test_the_bank_is_hidden_too_and_may_not_hold_the_test() -> None:
    chosen = {"dataset": "scenes", "n_images": 12, "scenes_languages": ["en"], "share": "no-content", "bank": "val"}
    parameters = {**audit_schema().defaults, **chosen}
    shown, bank, *_ = _prepared("audit", parameters, FirstPixels(), False, lambda line: None)
    for side in (shown.images, shown.texts, bank.images, bank.texts):
        assert side.ids[0].startswith(f"{side.modality}-")
    with pytest.raises(ValueError, match="12 images of the bank split 'test' are also in the scored split"):
        _prepared("audit", {**parameters, "bank": "test"}, FirstPixels(), False, lambda line: None)


# --- share, encoders, documents --------------------------------------------------------------------------------------


def numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [numbers(item) for item in value]
    return None if isinstance(value, str) else value


def test_every_number_is_the_same_without_content(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    source = vectors(
        tmp_path / "w.npz", image_id=rng.permutation([f"i{n}" for n in range(40)]),
        text_id=rng.permutation([f"t{n}" for n in range(120)]), lang=np.array(["de", "en", "en", "fr"] * 30),
        year=1990.0 + np.arange(40), missing=np.array(["u", "", "v", "w", "w"] * 24),
    )  # fmt: skip
    (tmp_path / "w.qrels").write_text("".join(f"t{t} 0 i{(t * 7) % 40} {1 + t % 3}\n" for t in range(0, 120, 2)))
    how = {"qrels": str(tmp_path / "w.qrels"), "slices": ["lang", "year", "missing"], "smallest_group": 3, "k": 5}
    full, hidden = (evaluate(source, out=tmp_path, share=share, **how, **FAST) for share in ("full", "no-content"))
    assert (full.path / "metrics.json").read_bytes() == (hidden.path / "metrics.json").read_bytes()
    for name in ("results.json", "findings.json"):
        one, other = (numbers(json.loads((run.path / name).read_text())) for run in (full, hidden))
        assert one == other, name
    for name in ("best_place", "n_better", "cluster_id", "nDCG@10"):
        assert np.array_equal(full.per_query[name], hidden.per_query[name], equal_nan=True)


def test_a_template_reaches_an_encoder_object(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "data", ["a.png", "b.png", "c.png"], [("a.png", "n 1"), ("b.png", "n 2")])
    seen: set[str] = set()

    class Bare:
        name = "bare"

        def encode_image(self, images: Sequence[Any]) -> np.ndarray:
            return FirstPixels().encode_image(images)

        def encode_text(self, texts: Sequence[str]) -> np.ndarray:
            seen.update(texts)
            return FirstPixels().encode_text(texts)

    how = {"k": 1, "metrics": ["hit@1"], **FAST}
    run = evaluate(source, Bare(), out=tmp_path, text_template="a photo of {}.", **how)
    assert seen == {"a photo of n 1.", "a photo of n 2."}
    assert run.manifest["encoder"]["text_template"] == "a photo of {}."
    assert run.path.name != evaluate(source, Bare(), out=tmp_path, **how).path.name


def test_an_encoder_of_texts_is_refused_for_pictures(tmp_path: Path) -> None:
    encoder = WordCounts(["a b"])
    encoder.kinds = ("text",)  # type: ignore[attr-defined]
    source = write_folder(tmp_path / "data", ["a.png"], [("a.png", "n 1")])
    with pytest.raises(ValueError, match=r"word counts reads text only, but the image side of .* holds images"):
        evaluate(source, encoder, out=tmp_path, **FAST)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("audit")]


def test_documents_are_called_documents(tmp_path: Path) -> None:
    documents = {f"d{n}": f"word{n} wing flow" for n in range(14)} | {
        "d98": "same thing here",
        "d99": "here same thing",
    }
    (tmp_path / "qrels").mkdir()
    rows = [json.dumps({"_id": name, "title": "", "text": text}) for name, text in documents.items()]
    (tmp_path / "corpus.jsonl").write_text("\n".join(rows))
    rows = [json.dumps({"_id": f"q{n}", "text": f"wing word{n}"}) for n in range(5)]
    (tmp_path / "queries.jsonl").write_text("\n".join(rows))
    judged = [f"q{n}\td{(n + n % 2) % 14}\t1" for n in range(5)]
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(judged))
    encoder = WordCounts(list(documents.values()))
    runs = [evaluate(f"beir:{tmp_path}", encoder, out=tmp_path / "runs", k=3, **FAST) for _ in range(2)]
    for name in ("metrics.json", "findings.json", "results.json", "per_query.parquet", "run_q2d.trec"):
        assert (runs[0].path / name).read_bytes() == (runs[1].path / name).read_bytes()
    pairs = words(load_report(runs[0].path).look("pairs"))
    assert "Closest pairs of different documents" in pairs
    assert "same thing here" in pairs
    assert ">document<" in pairs


def test_a_zero_vector_has_no_direction(tmp_path: Path) -> None:
    world = paired_vectors(n_images=30)
    world["image"][7] = 0
    np.savez(tmp_path / "zero.npz", **world)
    run = evaluate(f"embeddings:{tmp_path / 'zero.npz'}", out=tmp_path, similarity="dot", n_resamples=100)
    found = {one.name: one.verdict for one in run.findings}
    assert found["gap/separation"] == found["duplicates/items"] == "not measurable"
    assert run.metrics["t2i/hit@1"]["n"] == 90


def test_a_distractor_of_both_splits_is_no_leak(tmp_path: Path) -> None:
    """A picture that no caption names is in the gallery of every split, but asks nothing as a bank."""
    rng = np.random.default_rng(0)
    rows = ["image,caption,split"]
    for row in range(21):
        Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)).save(tmp_path / f"{row}.png")
        rows += [f"{row}.png,text {row},{'test' if row < 10 else 'val'}"] * (row < 20)
    (tmp_path / "captions.csv").write_text("\n".join(rows))

    class Own:
        name = "own"

        def encode_image(self, images: Any) -> np.ndarray:
            return np.array([np.asarray(image, float)[0].ravel() + 1 for image in images])

        def encode_text(self, texts: Any) -> np.ndarray:
            return np.array([np.arange(1.0, 19.0) * (1 + int(text.split()[1])) % 7 + 1 for text in texts])

    how = {"split": "test", "bank": "val", "k": 3, "metrics": ["hit@1"], "n_resamples": 100}
    run = evaluate(f"folder:{tmp_path}", Own(), out=tmp_path / "runs", **how)
    assert run.results["counts"].images == 11
    assert {one.n_bank for one in run.results["repairs"].outcomes} == {10}
