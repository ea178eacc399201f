"""The labels section of the integrity report: judges from outside, judgements, what stays private, what is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worlds import paired_vectors, write_vectors

from workbench.codec import from_plain, to_plain
from workbench.datasets.scenes import scenes, truth
from workbench.evaluate import completed, evaluate_into
from workbench.evaluate.integrity import labels
from workbench.evaluate.prepare import Prepared, load_collection, vectors_of
from workbench.evaluate.ranking import Ranked, rank
from workbench.evaluate.share import FILE, private_parameters, withheld
from workbench.judging import Design, Entry, Judged, estimable
from workbench.metrics import per_query, ranks_from_scores
from workbench.report import schema_of
from workbench.report.integrity.labels import LabelsSection
from workbench.runs import Run
from workbench.types import Relevance

World = tuple[Prepared, tuple[Ranked, ...], dict[str, Any]]


def parameters(dataset: str, **changed: Any) -> dict[str, Any]:
    schema = schema_of("integrity")
    return completed(schema.check({**schema.defaults, "dataset": dataset, "n_resamples": 100, **changed}))


def world(tmp_path: Path, **changed: Any) -> World:
    """60 images, 180 captions, vectors of a system that is right in most cases."""
    asked = parameters(write_vectors(tmp_path / "vectors.npz", noise=1.6), **changed)
    prepared = vectors_of(load_collection(asked), None, asked)
    return prepared, rank(prepared, asked)[0], asked


def restored(results: dict[str, Any]) -> dict[str, Any]:
    """As after a run folder: JSON, with only the types that the section states."""
    types = {kind.__name__: kind for kind in labels.TYPES}
    types |= {"Examples": labels.Examples, "Example": labels.Example}
    return {name: from_plain(json.loads(json.dumps(to_plain(one))), types) for name, one in results.items()}


def shown(results: dict[str, Any], *directions: str) -> Any:
    section = object.__new__(LabelsSection)
    section.results, section.directions, section.intervals = results, directions or ("t2i", "i2t"), "95 % bootstrap"
    return section


def test_both_directions_and_back_from_a_run_folder(tmp_path: Path) -> None:
    results = restored(labels.analyse(*world(tmp_path)))
    for direction, n_queries in (("t2i", 180), ("i2t", 60)):
        found = results[f"missing {direction}"]
        assert found.judges == ("the encoder", "its caption vectors", "caption words")
        assert found.independent == ("the encoder", "caption words")
        assert (found.n_queries, found.what) == (n_queries, direction)
        assert found.findings()[0].name == f"{direction}/labels/missing"
        cards = results[f"examples missing {direction}"].cards
        assert len({card.image_id for card in cards}) == len({card.text for card in cards}) == len(cards) > 3
        assert all(card.right == -1 and "own caption: caption" in card.note for card in cards)


def test_candidates_are_unlabelled_and_ids_are_of_their_side(tmp_path: Path) -> None:
    prepared, ranked, asked = world(tmp_path)
    found = labels.analyse(prepared, ranked, asked)["missing i2t"]
    own = prepared.collection.text_image
    assert (own[found.items] != found.queries).all()
    assert [prepared.images.ids[row] for row in found.queries] == list(found.query_ids)
    assert [prepared.texts.ids[row] for row in found.items] == list(found.item_ids)


# ------------------------------------------------------------------------------------------------------- judges


def save(path: Path, order_of: tuple[np.ndarray, np.ndarray], **changed: Any) -> str:
    """Another system's vectors of the same items, in some order."""
    data = paired_vectors(noise=1.0, seed=5)
    images, texts = order_of
    np.savez(
        path, image=data["image"][images], text=data["text"][texts],
        image_id=np.array([f"image-{row:02d}" for row in images]),
        text_id=np.array([f"text-{row:03d}" for row in texts]),
        text_image=np.full(len(texts), -1), **changed,
    )  # fmt: skip
    return f"embeddings:{path}"


def test_a_judge_is_matched_by_id(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    straight = save(tmp_path / "a.npz", (np.arange(60), np.arange(180)))
    mixed = save(tmp_path / "b.npz", (rng.permutation(60), rng.permutation(180)))
    prepared, ranked, asked = world(tmp_path)
    alone = labels.analyse(prepared, ranked, asked)["missing t2i"]
    first, second = (
        labels.analyse(prepared, ranked, asked | {"judges": [source]})["missing t2i"] for source in (straight, mixed)
    )
    assert len(first.judges) == 4
    assert first.n_pool > alone.n_pool, "what only the judge finds is a candidate too"
    assert (first.queries.tolist(), first.items.tolist()) == (second.queries.tolist(), second.items.tolist())
    assert first.combined == pytest.approx(second.combined)
    assert first.independent == ("the encoder", f"embeddings:.../{'a.npz'}", "caption words")
    assert (first.rank == 0).any()


def test_judges_that_cannot_work_are_refused(tmp_path: Path) -> None:
    prepared, ranked, asked = world(tmp_path)

    def refused(*judges: str, **changed: Any) -> str:
        with pytest.raises(ValueError, match="judges") as caught:
            labels.analyse(prepared, ranked, asked | {"judges": list(judges)} | changed)
        return str(caught.value)

    fewer = save(tmp_path / "fewer.npz", (np.arange(59), np.arange(180)))
    assert "lacks 1 of 60 image items, the first is 'image-59'" in refused(fewer)
    assert "no such file" in refused(f"embeddings:{tmp_path / 'gone.npz'}")
    assert "given twice" in refused(fewer, fewer)
    assert "audited encoder" in refused("tiny-clip", encoder="")
    assert "empty" in refused("")
    assert "bring the judge's vectors" in refused("tiny-clip", encoder="open_clip:other")


def test_what_cannot_work_is_refused_before_any_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, ranked, asked = world(tmp_path)
    monkeypatch.setattr(labels, "_vectors", lambda *_: pytest.fail("encoded first"))
    good = save(tmp_path / "good.npz", (np.arange(60), np.arange(180)))
    with pytest.raises(ValueError, match="no such file"):
        labels.analyse(prepared, ranked, asked | {"judges": [good, "embeddings:nowhere.npz"]})
    (tmp_path / "other.qrels").write_text("somebody 0 something 1\n")
    with pytest.raises(ValueError, match=r"other\.qrels is of other data: its first query is 'somebody'"):
        labels.analyse(prepared, ranked, asked | {"judges": [good], "judged": str(tmp_path / "other.qrels")})


def test_two_judges_of_one_hidden_name_stay_apart(tmp_path: Path) -> None:
    sources = [save(tmp_path / f"{name}.npz", (np.arange(60), np.arange(180))) for name in "ab"]
    prepared, _, asked = world(tmp_path, share="no-content")
    found = labels.gather(prepared, asked | {"judges": sources})
    assert list(found.judges) == [f"embeddings:{FILE}", f"embeddings:{FILE} #2"]


class Colours:
    """An encoder in no time: the mean colour of an image, letters of a text."""

    name = "colours"

    def encode_image(self, images: Any) -> np.ndarray:
        return np.array([np.append(np.asarray(image).mean(axis=(0, 1)), 1.0) for image in images])

    def encode_text(self, texts: Any) -> np.ndarray:
        return np.array([[1 + text.count(letter) for letter in "aeio"] for text in texts], float)


def test_an_encoder_can_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vectors of a judge are those that it would have if it were audited; languages are told apart."""
    asked = parameters("scenes", n_images=6)
    prepared = vectors_of(load_collection(asked), Colours(), asked)
    given = []
    monkeypatch.setattr(labels.encoders, "load", lambda source, **how: given.append((source, how)) or Colours())
    evidence = labels.gather(prepared, asked | {"judges": ["open_clip:A@b"]})
    assert given == [("open_clip:A@b", {"precision": "fp32", "text_template": ""})]
    ((name, (images, texts)),) = evidence.judges.items()
    assert name == "open_clip:A@b"
    assert (images == prepared.images.vectors).all()
    assert (texts == prepared.texts.vectors).all()
    assert evidence.groups is not None
    assert len(set(evidence.groups.tolist())) == 5


# --------------------------------------------------------------------------------------------------- judgements


def true_pairs(prepared: Prepared, seed: int = 3) -> np.ndarray:
    """(n_texts, n_images): the own pair, and one pair in eight."""
    right = np.random.default_rng(seed).random((len(prepared.texts), len(prepared.images))) < 1 / 8
    right[np.arange(len(prepared.texts)), prepared.collection.text_image] = True
    return right


def written(
    path: Path, prepared: Prepared, right: np.ndarray, *, texts_ask: bool, kept: np.ndarray | None = None
) -> str:
    """Every pair judged, as TREC qrels."""
    sides = (prepared.texts.ids, prepared.images.ids) if texts_ask else (prepared.images.ids, prepared.texts.ids)
    right = right if texts_ask else right.T
    rows, columns = np.indices(right.shape)
    chosen = np.ones(right.shape, bool) if kept is None else kept if texts_ask else kept.T
    lines = [
        f"{sides[0][q]} 0 {sides[1][i]} {int(right[q, i])}" for q, i in zip(rows[chosen], columns[chosen], strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.mark.parametrize("texts_ask", [True, False])
def test_everything_judged_gives_the_score_under_complete_labels(tmp_path: Path, texts_ask: bool) -> None:
    prepared, ranked, asked = world(tmp_path, metrics=["hit@1", "hit@10", "MRR"])
    right = true_pairs(prepared)
    path = written(tmp_path / "all.qrels", prepared, right, texts_ask=texts_ask)
    results = restored(labels.analyse(prepared, ranked, asked | {"judged": path}))
    direction, other = ("t2i", "i2t") if texts_ask else ("i2t", "t2i")
    scores = prepared.texts.vectors.astype(float) @ prepared.images.vectors.astype(float).T
    true, scores = (right, scores) if texts_ask else (right.T, scores.T)
    full = relevance_of(true)
    for metric in ("hit@1", "hit@10"):
        found = results[f"judged {direction} {metric}"]
        expected = float(np.mean(per_query(estimable(metric), ranks_from_scores(scores, full)).expected))
        assert found.value == pytest.approx(expected)
        assert found.mean.low == found.mean.high == pytest.approx(expected)
        assert found.as_labelled < expected or metric == "hit@10"
    assert not any(name.startswith(f"judged {other}") for name in results)
    assert results[f"missing {direction}"].n_pool == 0, "what was judged is no candidate any more"
    assert results[f"missing {direction}"].n_labelled == 180, "nor does it count as a label"
    assert results[f"missing {other}"].n_pool > 0
    assert "hit@10" in repr(shown(results).judged(direction))
    assert "Nobody has judged" in repr(shown(results).judged(other))


def named(tmp_path: Path, image: str, text: str, *, one_each: bool = False) -> World:
    """The world with ids of a pattern; one caption per image if asked for."""
    data, n_texts = paired_vectors(noise=1.6), 60 if one_each else 180
    owner = data["text_image"]
    kept = np.unique(owner, return_index=True)[1] if one_each else np.arange(180)
    data |= {name: data[name][kept] for name in ("text", "text_image", "caption")}
    data |= {"image_id": np.array([image.format(n) for n in range(60)]),
             "text_id": np.array([text.format(n) for n in range(n_texts)])}  # fmt: skip
    np.savez(tmp_path / "named.npz", **data)
    asked = parameters(f"embeddings:{tmp_path / 'named.npz'}", metrics=["hit@1"])
    prepared = vectors_of(load_collection(asked), None, asked)
    return prepared, rank(prepared, asked)[0], asked


@pytest.mark.parametrize("texts_ask", [True, False])
def test_qrels_speak_of_the_direction_that_their_ids_fit(tmp_path: Path, texts_ask: bool) -> None:
    """Numbers for ids on both sides: the first query exists in either direction, the others do not."""
    prepared, ranked, asked = named(tmp_path, "{}", "{}")
    path = written(tmp_path / "x.qrels", prepared, true_pairs(prepared), texts_ask=texts_ask)
    results = labels.analyse(prepared, ranked, asked | {"judged": path})
    direction = "t2i" if texts_ask else "i2t"
    assert [name for name in results if name.startswith("judged ")] == [f"judged {direction} hit@1"]
    assert results[f"missing {direction}"].n_pool == 0
    same, again, asked = named(tmp_path, "{}", "{}", one_each=True)
    path = written(tmp_path / "y.qrels", same, true_pairs(same), texts_ask=texts_ask)
    with pytest.raises(ValueError, match="fit both directions"):
        labels.analyse(same, again, asked | {"judged": path})


def test_percent_encoded_judgements_are_no_candidates(tmp_path: Path) -> None:
    prepared, ranked, asked = named(tmp_path, "image {}", "text {}")
    right = true_pairs(prepared)
    lines = [f"text%20{q} 0 image%20{i} {int(right[q, i])}" for q, i in np.ndindex(right.shape)]
    (tmp_path / "x.qrels").write_text("\n".join(lines) + "\n")
    results = labels.analyse(prepared, ranked, asked | {"judged": str(tmp_path / "x.qrels")})
    assert results["judged t2i hit@1"].mean.low == results["judged t2i hit@1"].mean.high
    assert results["missing t2i"].n_pool == 0


@pytest.mark.parametrize("texts_ask", [True, False])
def test_a_session_speaks_of_the_side_that_asks_whatever_it_is_called(texts_ask: bool) -> None:
    """Documents and queries, q2d: a session calls the directions t2i and i2t."""
    design = Design("hit@1", "t2i" if texts_ask else "i2t", "", 0, 1, 0.0, "a", "", ("x",), np.zeros(1, np.int64))
    evidence = labels.Evidence({}, None, None, Judged("a", (Entry("q", {"d": (0, 1.0)}),), design), ("d",), ("q",))
    assert evidence.speaks_of(texts_ask)
    assert not evidence.speaks_of(not texts_ask)


def test_a_query_without_a_label_shows_no_nan(tmp_path: Path) -> None:
    prepared, _, asked = world(tmp_path)
    own = prepared.collection.relevance
    kept = own.queries >= 30
    few = Relevance.from_pairs(own.queries[kept], own.items[kept], n_queries=180, n_gallery=60)
    partly = replace(prepared, collection=replace(prepared.collection, relevance=few))
    results = labels.analyse(partly, rank(partly, asked)[0], asked)
    assert np.isnan(results["missing t2i"].positive_rank[:20]).any()
    assert "nan" not in repr(shown(results).missing("t2i"))
    notes = [card.note for card in results["examples missing t2i"].cards]
    assert any("no label" in each for each in notes)
    assert not any("nan" in each for each in notes)


def test_judged_wrong_in_the_data_is_no_candidate(tmp_path: Path) -> None:
    prepared, ranked, asked = world(tmp_path)
    before = labels.analyse(prepared, ranked, asked)["missing t2i"]
    own, pair = prepared.collection.relevance, (before.queries[0], before.items[0])
    wrong = Relevance.from_pairs(
        [*own.queries, pair[0]], [*own.items, pair[1]], [*own.grades, 0], n_queries=180, n_gallery=60
    )  # fmt: skip
    judged = replace(prepared, collection=replace(prepared.collection, relevance=wrong))
    again = rank(judged, asked)[0]
    after = labels.analyse(judged, again, asked)["missing t2i"]
    assert after.n_pool == before.n_pool - 1
    assert pair not in set(zip(after.queries, after.items, strict=True))


def test_metrics_that_the_judgements_cannot_tell_are_named(tmp_path: Path) -> None:
    """Only first places judged: hit@1 can be told, hit@10 cannot, and the report says why."""
    prepared, ranked, asked = world(tmp_path, metrics=["hit@1", "hit@10", "R@10", "MRR"])
    first = np.zeros((len(prepared.texts), len(prepared.images)), bool)
    first[np.arange(len(first)), ranked[0].lists.indices[:, 0]] = True
    path = written(tmp_path / "first.qrels", prepared, true_pairs(prepared), texts_ask=True, kept=first)
    results = labels.analyse(prepared, ranked, asked | {"judged": path})
    assert {name for name in results if name.startswith("judged ")} == {"judged t2i hit@1"}
    (refused,) = results["not judged t2i"]
    assert refused[0] == "hit@10"
    assert "hit@10 is not estimated" in repr(shown(results).judged("t2i"))
    with pytest.raises(ValueError, match=r"judged: nothing can be estimated.*hit@10"):
        labels.analyse(prepared, ranked, asked | {"judged": path, "metrics": ["hit@10"]})


# ------------------------------------------------------------------------------------------------------- bounds


def relevance_of(right: np.ndarray, wrong: np.ndarray | None = None) -> Relevance:
    judged = right if wrong is None else right | wrong
    rows, columns = np.nonzero(judged)
    return Relevance.from_pairs(
        rows, columns, right[rows, columns] * 1.0, n_queries=len(right), n_gallery=right.shape[1]
    )


@pytest.mark.parametrize("seed", range(3))
def test_the_bounds_hold_the_score_under_complete_labels(tmp_path: Path, seed: int) -> None:
    prepared, ranked, asked = world(tmp_path, metrics=["hit@1", "R@1", "nDCG@10", "MRR"])
    results = restored(labels.analyse(prepared, ranked, asked))
    right = true_pairs(prepared, seed)
    scores = prepared.texts.vectors.astype(float) @ prepared.images.vectors.astype(float).T
    for direction, true, of in (("t2i", right, scores), ("i2t", right.T, scores.T)):
        ranks = ranks_from_scores(of, relevance_of(true))
        for bound in results[f"bounds {direction}"].bounds:
            full = float(np.mean(per_query(bound.metric, ranks).expected))
            assert bound.lowest <= full <= bound.highest, (direction, bound.metric)
        assert results[f"bounds {direction}"].findings()[0].name == f"{direction}/labels/bounds"
        rows = results[f"limits {direction}"]
        assert [most for _, most, _, _ in rows] == [2, 9, 18, 45, 90]
        hits = results[f"bounds {direction}"].bounds[0]
        assert [row[3] for row in rows] == pytest.approx([min(1, hits.labelled + row[1] / len(true)) for row in rows])
        text = repr(shown(results).bounds(direction))
        assert all(name in text for name in ("nDCG@10", "labels leave open", "any number"))


def test_judged_wrong_and_a_limit_tighten_the_bounds(tmp_path: Path) -> None:
    prepared, ranked, asked = world(tmp_path, metrics=["P@10", "nDCG@10"])
    wide = labels.analyse(prepared, ranked, asked)
    own = np.zeros((180, 60), bool)
    own[np.arange(180), prepared.collection.text_image] = True
    wrong = ~own & (np.random.default_rng(0).random(own.shape) < 0.5)
    judged = replace(prepared, collection=replace(prepared.collection, relevance=relevance_of(own, wrong)))
    known = labels.analyse(judged, rank(judged, asked)[0], asked)
    limited = labels.analyse(prepared, ranked, asked | {"extra_positives": 3})
    ends = [one["bounds t2i"].bounds[0].highest for one in (wide, known, limited)]
    assert ends[0] == pytest.approx(1)
    assert ends[1] < 0.75
    assert ends[2] == pytest.approx(wide["bounds t2i"].bounds[0].labelled + 0.3)
    assert wide["no bounds t2i"] == ()
    grades = Relevance.from_pairs(*np.nonzero(own), np.arange(180) + 1, n_queries=180, n_gallery=60)
    graded = replace(prepared, collection=replace(prepared.collection, relevance=grades))
    unequal = labels.analyse(graded, rank(graded, asked)[0], asked)
    ((metric, why),) = unequal["no bounds t2i"]
    assert metric == "nDCG@10"
    assert why in repr(shown(unequal).bounds("t2i"))


# ------------------------------------------------------------------------------------------------ what is shared


def test_no_content_gives_the_same_numbers_and_no_name(tmp_path: Path) -> None:
    data = paired_vectors(noise=1.6)
    secret = np.array([f"heronwick-{number:02d}-otterburn" for number in range(60)])
    np.savez(
        tmp_path / "kestrelford.npz",
        **{**data, "image_id": secret, "caption": np.array([f"plover {n}" for n in range(180)])},
    )
    source = f"embeddings:{tmp_path / 'kestrelford.npz'}"
    judge = save(tmp_path / "lapwing.npz", (np.arange(60), np.arange(180)))
    with np.load(tmp_path / "lapwing.npz") as file:
        np.savez(tmp_path / "lapwing.npz", **{**{name: file[name] for name in file.files}, "image_id": secret})
    found = {}
    for share in ("full", "no-content"):
        asked = parameters(source, share=share, judges=[judge])
        prepared = vectors_of(load_collection(asked), None, asked)
        asked["judged"] = written(tmp_path / "siskin.qrels", prepared, true_pairs(prepared), texts_ask=True)
        evidence = labels.gather(prepared, asked)
        hidden = withheld(prepared, asked)
        private = {**private_parameters(asked), "judges": [], "judged": "", "evidence": evidence}
        found[share] = labels.analyse(hidden, rank(hidden, asked)[0], private)
    text = json.dumps([to_plain(one) for one in found["no-content"].values()])
    assert "heronwick" in json.dumps([to_plain(one) for one in found["full"].values()])
    for word in ("heronwick", "otterburn", "kestrelford", "lapwing", "plover", "siskin", str(tmp_path)):
        assert word not in text
    for direction in ("t2i", "i2t"):
        full, hidden_one = (found[share][f"missing {direction}"] for share in ("full", "no-content"))
        assert full.combined.tolist() == hidden_one.combined.tolist()
        assert np.array_equal(full.evidence, hidden_one.evidence, equal_nan=True)
        assert full.items.tolist() == hidden_one.items.tolist()
    assert found["full"]["judged t2i hit@1"].value == found["no-content"]["judged t2i hit@1"].value


# ---------------------------------------------------------------------------------------------------- the report


def test_the_tables_say_what_the_results_hold(tmp_path: Path) -> None:
    results = restored(labels.analyse(*world(tmp_path)))
    found, section = results["missing t2i"], shown(results)
    text = repr(section.missing("t2i"))
    assert f"{found.n_pool:,} unlabelled pairs" in text
    assert found.query_ids[0] in text
    assert f"{100 * found.combined[0]:.0f}" in text
    figure = section.missing_plot("t2i")
    assert figure.text.startswith("[figure]")
    assert len(figure.drawings) == 1
    metric, n_open, _, _ = results["plan t2i"]
    assert metric == "hit@1"
    assert f"{n_open:,} queries could be moved" in repr(section.judged("t2i"))


def test_without_labels_or_direction_a_sentence_says_why(tmp_path: Path) -> None:
    prepared, ranked, asked = world(tmp_path)
    nothing = Relevance.from_pairs([], [], n_queries=180, n_gallery=60)
    blank = replace(prepared, collection=replace(prepared.collection, relevance=nothing))
    assert labels.analyse(blank, ranked, asked) == {}
    for method in ("missing", "missing_plot", "bounds", "judged"):
        assert "nothing is known to be right" in repr(getattr(shown({}), method)("t2i"))
        assert "one direction only" in repr(getattr(shown({}, "q2d"), method)(""))


@pytest.fixture(scope="module")
def vague() -> Callable[[str], World]:
    from workbench import encoders

    def made(labelled: str) -> World:
        asked = parameters("scenes", n_images=60)
        collection = scenes(n_images=60, seed=1, completeness=0.3, labels=labelled)
        prepared = vectors_of(collection, encoders.load("tiny-clip"), asked)
        return prepared, rank(prepared, asked)[0], asked

    return made


@pytest.mark.slow
def test_own_labels_only_on_scenes(vague: Callable[[str], World]) -> None:
    """Captions that say little, own pairs labelled: the first 30 candidates are nearly all true."""
    prepared, ranked, asked = vague("own")
    found = labels.analyse(prepared, ranked, asked)["missing t2i"]
    true = truth(prepared.collection)
    known = set(zip(true.queries.tolist(), true.items.tolist(), strict=True))
    pairs = list(zip(found.queries.tolist(), found.items.tolist(), strict=True))[:30]
    precision = np.mean([pair in known for pair in pairs])
    chance = (true.n_positives - 300) / (300 * 59)
    assert precision > 0.8 > 10 * chance, f"precision at 30: {precision:.2f}, among all unlabelled {chance:.3f}"
    assert found.findings()[0].verdict == "look"


def test_what_needs_content_is_done_before_it_is_withheld(tmp_path: Path) -> None:
    schema, shown = schema_of("integrity"), {}
    how = {"n_images": 12, "scenes_languages": ["en"], "n_resamples": 100, "metrics": ["hit@1"], "k": 5}
    how |= {"templates": ["a photo of {}"], "other_split": "train"}
    for share in ("full", "no-images", "no-content"):
        asked = schema.check({**schema.defaults, **how, "share": share})
        with evaluate_into(tmp_path, asked, report="integrity") as folder:
            shown[share] = Run(folder.finish())
    templates = [to_plain(run.results["templates t2i/hit@1"]) for run in shown.values()]
    assert templates[0] == templates[1] == templates[2]
    full, fewer, least = (run.results for run in shown.values())
    assert len(full["leaks images"].levels) == len(fewer["leaks images"].levels) > len(least["leaks images"].levels)
    missing = [one["missing t2i"].combined.tolist() for one in (full, fewer, least)]
    assert missing[0] == missing[1] == missing[2]
    caption = str(scenes(n_images=12, captions_per_image=5).texts.content[0])
    for path in shown["no-content"].path.rglob("*"):
        assert not path.is_file() or caption.encode() not in path.read_bytes(), path.name
