"""Other people's labels: what the files say, whose ids they name, and what another set does to every metric.

The metrics are recomputed by slow loops written from the definitions; rankings are planted, so that outcomes are known.
"""

from __future__ import annotations

import csv
import gzip
import json
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from workbench import codec
from workbench.datasets import Card, Collection, Side
from workbench.datasets import label_sets as module
from workbench.datasets.label_sets import (
    OWN,
    LabelSet,
    coco_number,
    label_set,
    label_sets,
    matched,
    read_cxc,
    read_label_map,
    read_labels,
)
from workbench.evaluate.integrity import label_sets as section
from workbench.evaluate.integrity.label_sets import LabelSets, analyse, compare_labels
from workbench.evaluate.prepare import Prepared
from workbench.evaluate.ranking import Ranked, rank
from workbench.plots.label_sets import label_scores
from workbench.report.integrity.label_sets import LabelSetsSection
from workbench.types import Embeddings, Relevance

Shared = Callable[[str], Path]
Pairs = set[tuple[str, str]]
IMAGES, TEXTS = ("i0", "i1", "i2"), ("t0", "t1", "t2", "t3", "t4")
OWN_IMAGE = [0, 0, 1, 1, 2]
ANALYSIS = {"depth": 5, "k": 3, "seed": 0, "metrics": ["hit@1", "R@2"], "n_resamples": 200, "memory_mb": 64}


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def as_json(path: Path, content: Any) -> Path:
    text = json.dumps(content)
    return write(path, gzip.compress(text.encode()) if path.suffix == ".gz" else text)


def collection(
    images: Sequence[str] = IMAGES, texts: Sequence[str] = TEXTS, own: Sequence[int] = OWN_IMAGE
) -> Collection:
    relevance = Relevance.from_pairs(np.arange(len(texts)), own, n_queries=len(texts), n_gallery=len(images))
    sides = Side("image", tuple(images)), Side("text", tuple(texts))
    return Collection(Card("ours"), *sides, relevance, np.array(own))


def prepared(data: Collection, images: np.ndarray, texts: np.ndarray) -> Prepared:
    given = Embeddings(images, data.images.ids, "image"), Embeddings(texts, data.texts.ids, "text")
    empty = ("",)
    return Prepared(
        data, SimpleNamespace(), *given, empty * len(images), empty * len(texts), empty * len(images),  # type: ignore[arg-type]
        empty * len(texts), None, {}, None, {}, 0, 0, (),
    )  # fmt: skip


def ranked_of(data: Collection, images: np.ndarray, texts: np.ndarray) -> tuple[Ranked, ...]:
    return rank(prepared(data, images, texts), ANALYSIS)[0]


def right(relevance: Relevance | None, queries: Sequence[str], items: Sequence[str]) -> Pairs:
    assert relevance is not None
    rows = relevance.queries[relevance.grades > 0]
    return {(queries[q], items[i]) for q, i in zip(rows, relevance.items[relevance.grades > 0], strict=True)}


def random_world(
    seed: int, n_images: int = 40, captions: int = 3, noise: float = 1.0
) -> tuple[Collection, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    own = np.repeat(np.arange(n_images), captions)
    images = rng.normal(size=(n_images, 12))
    texts = images[own] + noise * rng.normal(size=(len(own), 12))
    ids = [f"i{i:02d}" for i in range(n_images)], [f"t{t:03d}" for t in range(len(own))]
    return collection(*ids, own=own.tolist()), images, texts


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_map_says_what_it_lists(tmp_path: Path) -> None:
    content = {"t1": ["i0", "i2"], "t0": ["i1", "i1"], "t2": [], "7": [8]}
    for name in ("a.json", "a.json.gz"):
        found = read_label_map(as_json(tmp_path / name, content))
        assert list(zip(found.queries, found.items, strict=True)) == [
            ("t1", "i0"), ("t1", "i2"), ("t0", "i1"), ("7", "8"),
        ]  # fmt: skip
        assert found.grades.tolist() == [1.0] * 4
        assert found.warnings == (
            f"1 judgements of {name} repeat a pair with the same grade; each pair counts once.",
            f"1 of 4 queries of {name} have an empty list, so they are left out.",
        )
    assert read_labels(tmp_path / "a.json.gz")[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1, 2]", r"must hold one JSON object \{query id: \[item ids\]\}; got list"),
        (b'{"a": "b"}', r"entry 1 \('a'\) must be a list of item ids; got str"),
        (b'{"a": [1], "b": [1.5]}', r"entry 2 \('b'\) lists '1.5'; an item id is text or a whole number"),
        (b'{"a": [true]}', "lists 'True'"),
        (b'{"a": [null]}', "lists 'None'"),
        (b'{"a": [], "b": []}', "holds no judgement"),
        (b"{}", "holds no judgement"),
        (b'{"a": [1], "a": [2]}', "the key 'a' occurs twice"),
        (b'{"a": [NaN]}', "NaN is no JSON value"),
        (b'{"a": [' + b"[" * 100_000, "nested too deeply|not JSON"),
        (b'{"a": [' + b"9" * 5000 + b"]}", "is not JSON"),
        (b'{"a": ["\xff"]}', "is not UTF-8 text"),
        (b"", "is not JSON"),
        (b"\x1f\x8b" + b"0" * 30, "cannot be unpacked"),
        (gzip.compress(b'{"a": [1]}')[:-6], "cannot be unpacked"),
    ],
)
def test_maps_that_cannot_be_read(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_label_map(write(tmp_path / "x.json", content))


def test_a_bomb_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    bomb = write(tmp_path / "bomb.json.gz", gzip.compress(b'{"a": [' + b"1," * (40 * 2**20)))
    tracemalloc.start()
    with pytest.raises(ValueError, match="holds more than 16 MiB of text; is it"):
        read_label_map(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 2**20, peak


def test_a_missing_file_is_no_file_of_labels(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_label_map(tmp_path / "none.json")
    with pytest.raises(FileNotFoundError, match="is not an ordinary file"):
        label_set(str(tmp_path), collection())


CXC = "caption,image,agg_score,sampling_method\nt0,i0,4.97,a\nt0,i1,3.0,b\nt1,i2,2.99,b\n\n"


def test_graded_pairs_with_a_stated_threshold(tmp_path: Path) -> None:
    path = write(tmp_path / "sits.csv.gz", gzip.compress(CXC.encode()))
    judgements, one_way = read_labels(path)
    assert not one_way
    assert judgements.grades.tolist() == [4.97, 3.0, 0.0]
    assert judgements.warnings == ("A pair of sits.csv.gz is right from a score of 3: 2 of 3 pairs.",)
    assert read_cxc(path, threshold=4).grades.tolist() == [4.97, 0.0, 0.0]
    found = label_set(str(path), collection())
    assert right(found.forward, TEXTS, IMAGES) == {("t0", "i0"), ("t0", "i1")}
    assert right(found.backward, IMAGES, TEXTS) == {("i0", "t0"), ("i1", "t0")}
    assert found.forward is not None
    assert len(found.forward.items) == 3  # the third pair is judged, and not relevant


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("caption1,caption2,agg_score,s\na,b,3,x\n", r"judges pairs of one side \(caption1, caption2\)"),
        ("caption,image,agg_score,s\na,b,3\n", "line 2 has 3 fields; the header has 4"),
        ("caption,image,agg_score\na,,3\n", "line 2 has 3 fields; the header has 3"),
        ("caption,image,agg_score\na,b,much\n", "line 2: the grade is 'much', which is no finite number"),
        ("caption,image,agg_score\na,b,nan\n", "no finite number"),
        ("caption,image,agg_score\na,b,3\na,b,4\n", "are judged twice, as 3 and as 4"),
        ("caption,image,agg_score\n", "holds no judgement"),
        ("a,b,c\nx,y,1\n", "needs a column 'query'"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_labels(write(tmp_path / "x.csv", content))


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan"), float("inf")])
def test_a_threshold_that_is_none(tmp_path: Path, threshold: float) -> None:
    with pytest.raises(ValueError, match="finite number above 0"):
        read_cxc(write(tmp_path / "x.csv", CXC), threshold=threshold)


# --- ids and directions ----------------------------------------------------------------------------------------------


def test_each_direction_has_its_own_file(tmp_path: Path) -> None:
    texts = as_json(tmp_path / "ours_caption_to_image.json", {"t0": ["i0", "i1"], "t3": ["i1"]})
    images = as_json(tmp_path / "ours_image_to_caption.json.gz", {"i2": ["t4", "t0"]})
    expected = {("t0", "i0"), ("t0", "i1"), ("t3", "i1")}, {("i2", "t4"), ("i2", "t0")}
    for source in (f"{texts},{images}", f"{images},{texts}"):
        found = label_set(source, collection())
        assert found.name == "ours"
        assert (right(found.forward, TEXTS, IMAGES), right(found.backward, IMAGES, TEXTS)) == expected
    alone = label_set(str(texts), collection())
    assert right(alone.forward, TEXTS, IMAGES) == expected[0]
    assert alone.backward is None  # nothing is transposed: the file does not judge the other direction
    assert label_set(str(images), collection()).forward is None
    with pytest.raises(ValueError, match="both judge text to image; of two files joined by a comma each gives one"):
        label_set(f"{texts},{as_json(tmp_path / 'again.json', {'t0': ['i0']})}", collection())


def test_qrels_judge_both_directions(tmp_path: Path) -> None:
    path = write(tmp_path / "x.qrels", "t0 0 i1 1\nt1 0 i0 0\n")
    found = label_set(str(path), collection())
    assert found.name == "x"
    assert right(found.forward, TEXTS, IMAGES) == {("t0", "i1")}
    assert right(found.backward, IMAGES, TEXTS) == {("i1", "t0")}
    with pytest.raises(ValueError, match="most of these are images: exchange queries and items in the file"):
        label_set(str(write(tmp_path / "y.qrels", "i0 0 t1 1\n")), collection())


def test_ids_that_fit_both_ways_are_told_by_the_file_name(tmp_path: Path) -> None:
    data = collection(("0", "1", "2"), ("0", "1", "2", "3"), (0, 1, 2, 2))
    content = {"0": ["1"]}
    assert label_set(str(as_json(tmp_path / "x_i2t.json", content)), data).forward is None
    assert label_set(str(as_json(tmp_path / "x_text_to_image.json", content)), data).backward is None
    for name in ("x.json", "i2t_t2i.json"):
        with pytest.raises(ValueError, match="fit both ways"):
            label_set(str(as_json(tmp_path / name, content)), data)
    # the fourth text settles it, whatever the name says
    assert label_set(str(as_json(tmp_path / "y_t2i.json", {"1": ["3"]})), data).forward is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", {"t0": ["i0", "i7"], "t9": ["i8"]}, "1 of 2 texts in a.json are not in 'ours', the first are"),
        (
            "a.json",
            {"t0": ["i0", "i7", "i8"]},
            r"2 of 3 images in a.json are not in 'ours', the first are \['i7', 'i8'\]",
        ),
        (
            "a.json",
            {"i0": ["t0", "t9"]},
            r"1 of 2 texts in a.json are not in 'ours', the first are \['t9'\].*n_images=0",
        ),
        ("a.json", {"x": ["y"]}, r"1 of 1 texts .* the first are \['x'\]; the text ids look like \['t0', 't1', 't2'\]"),
        ("a.qrels", "t0 0 i0 1\nt8 0 i0 1\n", "1 of 2 texts in a.qrels are not in 'ours'"),
    ],
)
def test_unknown_ids_are_counted(tmp_path: Path, name: str, content: Any, message: str) -> None:
    path = write(tmp_path / name, content) if isinstance(content, str) else as_json(tmp_path / name, content)
    with pytest.raises(ValueError, match=message):
        label_set(str(path), collection())


def test_coco_numbers() -> None:
    names = {
        "val2014/COCO_val2014_000000391895.jpg": "391895", "COCO_val2014_000000391895.jpg": "391895",
        "000000000139.jpg": "139", "a\\b\\000000000139.PNG": "139", "COCO_val2014:sentid:770337": "770337",
        "391895": "391895", "000": "0", "COCO_val2014_391895.jpg": "", "cat.jpg": "", "": "", "1.5": "", "x391895": "",
        "٣": "", "1" * 13: "",
    }  # fmt: skip
    assert {name: coco_number(name) for name in names} == names
    known = ["val2014/COCO_val2014_000000000012.jpg", "13", "a"]
    assert matched(["12", "13", "a", "14"], known) == {"13": "13", "a": "a", "12": known[0]}
    # two ways to write one image: the first takes it, the other is unknown, and no pair is counted twice
    assert matched(["12", "000000000012.jpg"], known) == {"12": known[0]}
    assert matched(["12"], [known[0], "train2014/COCO_train2014_000000000012.jpg"]) == {}
    assert matched(["cat.jpg"], ["dog.jpg"]) == {}  # no number is not the same as an equal number


def test_names_of_sets(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    paths = [
        as_json(tmp_path / name, {"t0": ["i0"]}) for name in ("a.json", "b/a.json.gz", "b/c,d.json", "own labels.json")
    ]
    found = label_sets([str(path) for path in paths], collection())
    assert [one.name for one in found] == ["a (1)", "a (2)", "c,d", "own labels (4)"]
    other = as_json(tmp_path / "cap.json", {"i0": ["t0"]})
    assert label_set(f"{other}, {paths[0]}", collection()).name == "cap + a"
    with pytest.raises(ValueError, match="is given twice"):
        label_sets([str(paths[0])] * 2, collection())
    with pytest.raises(ValueError, match="an entry is empty"):
        label_sets([""], collection())
    with pytest.raises(FileNotFoundError, match=r"nothing\.json does not exist"):
        label_set(f"{paths[0]},{tmp_path / 'nothing.json'}", collection())


def test_the_two_captions_beyond_five_are_left_out_only_where_they_are_not(tmp_path: Path) -> None:
    content = {"575916": [1, 144675], "421999": [467259, 2], "5": [1]}
    path = as_json(tmp_path / "eccv_image_to_caption.json", content)
    images, texts = ("575916", "421999", "5"), ("1", "2", "9", "10")
    found = label_set(str(path), collection(images, texts, (0, 1, 2, 2)))
    assert right(found.backward, images, texts) == {("575916", "1"), ("421999", "2"), ("5", "1")}
    assert "2 pairs of eccv_image_to_caption.json are left out" in found.notes[0]
    whole = (*texts, "144675", "467259")
    kept = label_set(str(path), collection(images, whole, (0, 1, 2, 2, 0, 1)))
    assert len(right(kept.backward, images, whole)) == 5
    assert kept.notes == ()
    as_json(path, {"5": [1, 144675]})  # the same caption for another image is an unknown id like any other
    with pytest.raises(ValueError, match="1 of 2 texts"):
        label_set(str(path), collection(images, texts, (0, 1, 2, 2)))


# --- the published files ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coco(shared: Shared) -> dict[str, tuple[Pairs, Pairs]]:
    """Name -> pairs (image, caption) of the image file and of the caption file, read by the standard library alone."""
    found = {}
    for name in ("original", "cxc", "eccv"):
        by_image, by_text = (
            json.loads(gzip.decompress(shared(f"data/eccv_caption/{name}_{way}.json.gz").read_bytes()))
            for way in ("image_to_caption", "caption_to_image")
        )
        found[name] = (
            {(image, str(text)) for image, texts in by_image.items() for text in texts},
            {(str(image), text) for text, images in by_text.items() for image in images},
        )
    return found


@pytest.fixture(scope="module")
def coco_split(coco: dict[str, tuple[Pairs, Pairs]]) -> Collection:
    """The 5K split with ids as the Karpathy file gives them: image paths, caption numbers."""
    pairs = sorted(coco["original"][0], key=lambda pair: (int(pair[0]), int(pair[1])))
    images = list(dict.fromkeys(image for image, _ in pairs))
    place = {image: number for number, image in enumerate(images)}
    ids = [f"val2014/COCO_val2014_{int(image):012d}.jpg" for image in images]
    return collection(ids, [text for _, text in pairs], [place[image] for image, _ in pairs])


def both(shared: Shared, name: str) -> str:
    folder = shared("data/eccv_caption")
    return f"{folder}/{name}_image_to_caption.json.gz,{folder}/{name}_caption_to_image.json.gz"


def numbered(data: Collection) -> tuple[list[str], list[str]]:
    return [coco_number(name) for name in data.images.ids], list(data.texts.ids)


@pytest.mark.parametrize(
    ("name", "n_images", "n_texts", "n_backward", "n_forward"),
    [("original", 5000, 25000, 25000, 25000), ("cxc", 5000, 24972, 35585, 35585), ("eccv", 1261, 1332, 22548, 11279)],
)
def test_published_counts(
    shared: Shared, coco: dict[str, tuple[Pairs, Pairs]], coco_split: Collection, name: str, n_images: int,
    n_texts: int, n_backward: int, n_forward: int,
) -> None:  # fmt: skip
    """Counts of the table in the README of ECCV Caption; two of its 22,550 captions are not in the 25,000."""
    found = label_set(both(shared, name), coco_split)
    assert found.name == name
    assert found.forward is not None
    assert found.backward is not None
    assert ((found.backward.positives_per_query > 0).sum(), (found.forward.positives_per_query > 0).sum()) == (
        n_images, n_texts,
    )  # fmt: skip
    assert (found.backward.n_positives, found.forward.n_positives) == (n_backward, n_forward)
    images, texts = numbered(coco_split)
    assert right(found.backward, images, texts) == coco[name][0] - module.BEYOND_FIVE
    assert {(image, text) for text, image in right(found.forward, texts, images)} == coco[name][1]
    assert len(found.notes) == (name == "eccv")


def test_eccv_files_are_not_transposes_of_each_other(coco: dict[str, tuple[Pairs, Pairs]]) -> None:
    for name, (by_image, by_text) in coco.items():
        assert (by_image == by_text) == (name != "eccv")
    by_image, by_text = coco["eccv"]
    assert (len(by_image), len(by_text), len(by_image & by_text)) == (22550, 11279, 6089)
    asked_images, asked_texts = {image for image, _ in by_image}, {text for _, text in by_text}
    assert round(len(by_image) / len(asked_images), 2) == 17.88
    assert round(len(by_text) / len(asked_texts), 2) == 8.47
    # each file lists the pairs of its own queries; where image and caption are both asked about, the two agree
    assert by_image & by_text == {
        pair for pair in by_image | by_text if pair[0] in asked_images and pair[1] in asked_texts
    }
    # of the original pairs of its queries, nine captions of images are not right in ECCV, and no image of a caption
    original = coco["original"][0]
    assert sum(pair[0] in asked_images for pair in original - by_image) == 9
    assert sum(pair[1] in asked_texts for pair in original - by_text) == 0


def test_the_threshold_is_the_one_behind_the_published_positives(
    shared: Shared, coco: dict[str, tuple[Pairs, Pairs]], coco_split: Collection
) -> None:
    path = shared("data/cxc/sits_test.csv.gz")
    found = label_set(str(path), coco_split)
    assert found.forward is not None
    texts, images = numbered(coco_split)[::-1]
    assert {(image, text) for text, image in right(found.forward, texts, images)} == coco["cxc"][0]
    assert len(found.forward.items) == 44833
    with gzip.open(path, "rt", encoding="utf-8") as file:
        scores = [float(row["agg_score"]) for row in csv.DictReader(file)]
    for threshold in (2.5, 3.0, 3.5):
        grades = read_cxc(path, threshold=threshold).grades
        assert (grades > 0).sum() == sum(score >= threshold for score in scores)
        assert np.array_equal(grades[grades > 0], [score for score in scores if score >= threshold])


def test_other_files_of_cxc_are_refused_by_name(shared: Shared, coco_split: Collection) -> None:
    with pytest.raises(ValueError, match=r"judges pairs of one side \(image1, image2\)"):
        label_set(str(shared("data/cxc/sis_test.csv.gz")), coco_split)
    with pytest.raises(ValueError, match=r"texts in sits_val.csv.gz are not in 'ours'"):
        label_set(str(shared("data/cxc/sits_val.csv.gz")), coco_split)


# --- metrics, by loops written from the definitions ------------------------------------------------------------------


def average_precision_at_r(order: Sequence[int], positives: set[int]) -> float:
    """1 / R sum over the first R places of the precision there, where the place holds a positive."""
    found, total = 0, 0.0
    for place, item in enumerate(order[: len(positives)], start=1):
        if item in positives:
            found += 1
            total += found / place
    return total / len(positives)


LOOPS: Mapping[str, Callable[[Sequence[int], set[int]], float]] = {
    "hit@1": lambda order, positives: float(order[0] in positives),
    "R@10": lambda order, positives: len(positives.intersection(order[:10])) / len(positives),
    "mAP@R": average_precision_at_r,
    "R-precision": lambda order, positives: len(positives.intersection(order[: len(positives)])) / len(positives),
}


def by_loop(scores: np.ndarray, relevance: Relevance, metric: str) -> np.ndarray:
    """(n_queries,) NaN without a positive; the scores must be free of ties."""
    found = np.full(len(scores), np.nan)
    for query in np.flatnonzero(relevance.positives_per_query):
        items, grades = relevance.row(query)
        found[query] = LOOPS[metric](np.argsort(-scores[query]).tolist(), set(items[grades > 0].tolist()))
    return found


def random_labels(data: Collection, seed: int, name: str = "other") -> LabelSet:
    """Random pairs, other ones for each direction; some queries have none, some are judged and have nothing right."""
    rng = np.random.default_rng(seed)
    sides = []
    for shape in ((len(data.texts), len(data.images)), (len(data.images), len(data.texts))):
        judged = rng.random(shape) < 0.1
        judged[rng.random(shape[0]) < 0.3] = False
        rows, columns = np.nonzero(judged)
        grades = (rng.random(len(rows)) < 0.8).astype(float)
        sides.append(Relevance.from_pairs(rows, columns, grades, n_queries=shape[0], n_gallery=shape[1]))
    return LabelSet(name, *sides)


@pytest.mark.parametrize("seed", [0, 1])
def test_every_metric_under_every_set(seed: int) -> None:
    data, images, texts = random_world(seed)
    sets = [random_labels(data, 10 + seed, "one"), random_labels(data, 20 + seed, "two")]
    ranked = ranked_of(data, images, texts)
    found = compare_labels(ranked, sets, ["hit@1", "MedR", "R@500"], n_resamples=100)
    scores = texts @ images.T
    relevances = (
        {OWN: data.relevance} | {one.name: one.forward for one in sets},
        {OWN: data.relevance.T} | {one.name: one.backward for one in sets},
    )
    seen = 0
    for place, (matrix, under) in enumerate(zip((scores, scores.T), relevances, strict=True)):
        for metric in LOOPS:
            values = {name: by_loop(matrix, relevance, metric) for name, relevance in under.items() if relevance}
            common = np.isfinite(np.stack(list(values.values()))).all(axis=0)
            assert 5 < common.sum() < len(matrix)
            for name, expected in values.items():
                (one,) = (
                    row for row in found.of(ranked[place].direction.name)
                    if (row.metric, row.labels) == (metric, name)
                )  # fmt: skip
                seen += 1
                assert (one.n, one.n_common) == (np.isfinite(expected).sum(), common.sum())
                assert one.value == pytest.approx(np.nanmean(expected), abs=1e-12)
                assert one.common == pytest.approx(expected[common].mean(), abs=1e-12)
                assert one.low <= one.value <= one.high
                if name == OWN:
                    assert np.isnan([one.difference, one.difference_low, one.p_holm]).all()
                else:
                    gap = (expected - values[OWN])[common].mean()
                    assert one.difference == pytest.approx(gap, abs=1e-12)
                    assert one.difference_low <= gap <= one.difference_high
    assert seen == len(found.scores) == 24
    assert found.notes == (
        "MedR is left out: only means of shares are compared.", "R@500 is left out: a gallery has only 40 items.",
    )  # fmt: skip


def test_counts_and_agreement_by_sets_of_pairs() -> None:
    data, images, texts = random_world(3)
    other = random_labels(data, 7)
    found = compare_labels(ranked_of(data, images, texts), [other], ["hit@1"], n_resamples=100)
    assert len(found.counts) == 4
    assert len(found.overlaps) == 2
    for place, (mine, theirs) in enumerate(((data.relevance, other.forward), (data.relevance.T, other.backward))):
        assert theirs is not None
        pairs = [
            [
                {(q, i) for q, i, g in zip(one.queries, one.items, one.grades, strict=True) if (g > 0) == positive}
                for positive in (True, False)
            ]
            for one in (mine, theirs)
        ]  # fmt: skip
        asked = {q for q, _ in pairs[0][0]} & {q for q, _ in pairs[1][0]}
        (a, _), (b, no) = ([{pair for pair in part if pair[0] in asked} for part in one] for one in pairs)
        overlap = found.overlaps[place]
        assert (overlap.n_queries, overlap.n_first, overlap.n_second) == (len(asked), len(a), len(b))
        assert (overlap.n_both, overlap.n_denied, overlap.n_denied_by_first) == (len(a & b), len(a & no), 0)
        assert overlap.jaccard == len(a & b) / len(a | b)
        counts = found.counts[2 * place + 1]
        per_query = [sum(pair[0] == q for pair in pairs[1][0]) for q in {q for q, _ in pairs[1][0]}]
        assert (counts.labels, counts.n_queries, counts.n_scored) == ("other", theirs.n_queries, len(per_query))
        assert (counts.n_positives, counts.n_denied, counts.most) == (
            len(pairs[1][0]),
            len(pairs[1][1]),
            max(per_query),
        )
        assert (counts.mean, counts.median) == (np.mean(per_query), np.median(per_query))
    assert found.overlaps[0].n_denied > 0


def test_the_labels_of_the_data_brought_as_a_file_change_nothing(tmp_path: Path) -> None:
    data, images, texts = random_world(4)
    content = {t: [data.images.ids[i]] for t, i in zip(data.texts.ids, data.text_image, strict=True)}
    (own,) = label_sets([str(as_json(tmp_path / "same.json", content))], data)
    found = compare_labels(ranked_of(data, images, texts), [own], ["hit@1"], n_resamples=100)
    for one in found.of("t2i"):
        if one.labels == "same":
            assert (one.difference, one.difference_low, one.difference_high, one.p_holm) == (0, 0, 0, 1)
    assert found.overlaps[0].jaccard == 1
    assert [(finding.name, finding.verdict) for finding in found.findings()] == [
        ("t2i/labels/sets", "ok"), ("i2t/labels/sets", "not measurable"),
    ]  # fmt: skip
    assert "same knows nothing to be right in i2t." in found.notes


# --- planted rankings under the published labels ---------------------------------------------------------------------


def restricted(
    data: Collection, coco: dict[str, tuple[Pairs, Pairs]], n_images: int
) -> tuple[Collection, dict[str, LabelSet]]:
    """The first images that ECCV asks about, all their captions, and each published set cut to them."""
    asked = {image for image, _ in coco["eccv"][0]}
    by_number = {coco_number(name): place for place, name in enumerate(data.images.ids)}
    keep = sorted(asked, key=lambda image: by_number[image])[:n_images]
    place = {image: number for number, image in enumerate(keep)}
    own = [(text, place[image]) for image, text in sorted(coco["original"][0]) if image in place]
    text_place = {text: number for number, (text, _) in enumerate(own)}
    part = collection(keep, list(text_place), [image for _, image in own])
    sets = {}
    for name, (by_image, by_text) in coco.items():
        backward, forward = (
            [(place[image], text_place[text]) for image, text in pairs if image in place and text in text_place]
            for pairs in (by_image, by_text)
        )
        sets[name] = LabelSet(
            name,
            Relevance.from_pairs(*np.array(forward).T[::-1], n_queries=len(own), n_gallery=len(keep)),
            Relevance.from_pairs(*np.array(backward).T, n_queries=len(keep), n_gallery=len(own)),
        )
    return part, sets


def value(found: LabelSets, direction: str, metric: str, labels: str, what: str = "value") -> float:
    (one,) = (row for row in found.of(direction) if (row.metric, row.labels) == (metric, labels))
    return float(getattr(one, what))


def test_an_oracle_of_the_original_pairs_then_those_of_eccv(
    coco: dict[str, tuple[Pairs, Pairs]], coco_split: Collection
) -> None:
    """One axis per image; a caption has 1 on its own, 1/2 where ECCV's caption file says it is right too."""
    data, sets = restricted(coco_split, coco, 300)
    images, texts = np.eye(300), np.eye(300)[data.text_image]
    eccv = sets["eccv"].forward
    assert eccv is not None
    extra = np.zeros_like(texts)
    extra[eccv.queries, eccv.items] = 0.5
    texts = np.maximum(texts, extra)
    ranked = ranked_of(data, images, texts)
    found = compare_labels(ranked, [sets["cxc"], sets["eccv"]], ["hit@1"], n_resamples=100)
    assert value(found, "t2i", "hit@1", OWN) == 1
    for metric in ("hit@1", "mAP@R", "R-precision"):  # every original image of a caption is right in ECCV too
        assert value(found, "t2i", metric, "eccv") == 1
    assert value(found, "t2i", "hit@1", "cxc") == 1  # CxC denies pairs, but of no caption with another right one here
    both_know = found.overlaps[1]
    assert (both_know.first, both_know.second, both_know.n_first - both_know.n_both) == (OWN, "eccv", 0)

    plain = compare_labels(
        ranked_of(data, images, np.eye(300)[data.text_image]), [sets["eccv"]], ["hit@1"], n_resamples=100
    )
    own, n_right = data.relevance, eccv.positives_per_query
    # own image first, the other 299 in a tie: a further right image is at each of those places with the same chance
    expected = []
    for right_images in n_right[n_right > 0]:
        r, rest = int(right_images), int(right_images) - 1
        expected.append((1 + sum(rest / 299 for _ in range(r - 1))) / r)
    assert value(plain, "t2i", "R-precision", "eccv") == pytest.approx(np.mean(expected), abs=1e-12)
    assert own.n_positives == len(texts)
    finding = plain.findings()[0]
    assert (finding.name, finding.verdict, finding.unit) == ("t2i/labels/sets", "look", "points")
    assert value(plain, "t2i", "hit@1", "eccv", "difference") == 0
    assert "comparisons differ" in finding.advice


@pytest.mark.parametrize("seed", range(3))
def test_more_right_pairs_can_only_raise_a_hit(
    coco: dict[str, tuple[Pairs, Pairs]], coco_split: Collection, seed: int
) -> None:
    """Random vectors: where a set holds another one, no query loses its hit; a fraction may well fall."""
    data, sets = restricted(coco_split, coco, 200)
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(200, 8))
    texts = images[data.text_image] + rng.normal(size=(len(data.texts), 8)) * 1.5
    found = compare_labels(ranked_of(data, images, texts), [sets["eccv"]], ["hit@1", "hit@5"], n_resamples=100)
    for metric in ("hit@1", "hit@5"):
        assert value(found, "t2i", metric, "eccv", "common") >= value(found, "t2i", metric, OWN, "common")
    assert value(found, "t2i", "hit@5", "eccv", "difference") > 0
    assert value(found, "t2i", "R@10", "eccv", "common") < value(found, "t2i", "R@10", OWN, "common")


@pytest.mark.slow
def test_the_whole_split_against_the_official_loops(
    shared: Shared, coco: dict[str, tuple[Pairs, Pairs]], coco_split: Collection
) -> None:
    """25,000 x 5,000 planted vectors; the values of ECCV's own definition, also with the two pairs it cannot find."""
    rng = np.random.default_rng(5)
    images = rng.normal(size=(5000, 16)).astype(np.float32)
    texts = (images[coco_split.text_image] + 1.2 * rng.normal(size=(25000, 16))).astype(np.float32)
    ranked = ranked_of(coco_split, images, texts)
    sets = label_sets([both(shared, "eccv"), both(shared, "cxc")], coco_split)
    found = compare_labels(ranked, sets, ["hit@1"], n_resamples=100)
    names = numbered(coco_split)
    matrices = texts.astype(float) @ images.T.astype(float), images.astype(float) @ texts.T.astype(float)
    for direction, matrix, pairs, (items, queries) in (
        ("t2i", matrices[0], {(t, i) for i, t in coco["eccv"][1]}, names),
        ("i2t", matrices[1], coco["eccv"][0], names[::-1]),
    ):
        row, column = ({name: place for place, name in enumerate(given)} for given in (queries, items))
        positives: dict[str, set[int]] = {}
        stray: dict[str, int] = {}
        for query, item in pairs:
            positives.setdefault(query, set())
            if item in column:
                positives[query].add(column[item])
            else:
                stray[query] = stray.get(query, 0) + 1
        orders = {query: np.argsort(-matrix[row[query]]).tolist() for query in positives}
        for metric, loop in LOOPS.items():
            mine = {query: loop(orders[query], known) for query, known in positives.items()}
            assert value(found, direction, metric, "eccv") == pytest.approx(np.mean(list(mine.values())), abs=1e-9)
        # the official R counts the two pairs that cannot be found: two of 1,261 queries differ, by at most 1 / R
        official = {
            query: average_precision_at_r(orders[query], known | set(range(-stray.get(query, 0), 0)))
            for query, known in positives.items()
        }
        mine = {query: average_precision_at_r(orders[query], known) for query, known in positives.items()}
        assert {query for query in mine if official[query] != mine[query]} <= set(stray)
        assert len(stray) == (2 if direction == "i2t" else 0)
    assert [one.n_scored for one in found.counts] == [25000, 1332, 24972, 5000, 1261, 5000]
    assert value(found, "t2i", "hit@1", "eccv", "common") > value(found, "t2i", "hit@1", OWN, "common")
    assert {finding.verdict for finding in found.findings()} == {"look"}


# --- fires and stays quiet -------------------------------------------------------------------------------------------


def unlabelled(data: Collection, full: Relevance, share: float, seed: int) -> Relevance:
    """The full labels without a random share, but never without the last one of a query."""
    keep = np.random.default_rng(seed).random(len(full.items)) >= share
    keep |= full.items == data.text_image[full.queries]
    return Relevance.from_pairs(
        full.queries[keep], full.items[keep], n_queries=full.n_queries, n_gallery=full.n_gallery
    )


def twins(seed: int) -> tuple[Collection, Relevance, tuple[Ranked, ...]]:
    """120 images in pairs of the same content: a caption is right for both, and the scorer cannot tell them apart."""
    rng = np.random.default_rng(seed)
    own = np.repeat(np.arange(120), 3)
    content = rng.normal(size=(60, 16))
    images = content[np.arange(120) // 2] + 0.3 * rng.normal(size=(120, 16))
    texts = content[own // 2] + 0.8 * rng.normal(size=(360, 16))
    data = collection([f"i{i}" for i in range(120)], [f"t{t}" for t in range(360)], own.tolist())
    rows = np.repeat(np.arange(360), 2)
    full = Relevance.from_pairs(rows, np.stack([own, own ^ 1], axis=1).ravel(), n_queries=360, n_gallery=120)
    return data, full, ranked_of(data, images, texts)


@pytest.mark.slow
def test_fires_and_stays_quiet() -> None:
    """Planted: the data label half of what is right. Clean: two sets, each missing another random tenth of it."""
    fired, alarms = 0, 0
    for seed in range(20):
        data, full, ranked = twins(seed)
        complete = LabelSet("complete", full, full.T)
        fired += sum(finding.verdict == "look" for finding in compare_labels(ranked, [complete], ["hit@1"]).findings())
        pair = [unlabelled(data, full, 0.1, 100 * seed + number) for number in range(2)]
        one, other = (LabelSet(f"set {number}", part, part.T) for number, part in enumerate(pair))
        blank = [
            Relevance.from_pairs([], [], n_queries=part.n_queries, n_gallery=part.n_gallery) for part in (full, full.T)
        ]
        unjudged = [
            replace(one, direction=replace(one.direction, relevance=nothing))
            for one, nothing in zip(ranked, blank, strict=True)
        ]
        alarms += sum(
            finding.verdict == "look" for finding in compare_labels(unjudged, [one, other], ["hit@1"]).findings()
        )
    message = f"missed {40 - fired} of 40 planted; false alarms {alarms} of 40"
    assert fired == 40, message
    assert alarms <= 6, message  # nominal 5 % in each direction: 2 expected, 7 or more once in 200


# --- the section -----------------------------------------------------------------------------------------------------


def parameters(**given: Any) -> dict[str, Any]:
    return {**ANALYSIS, "labels": [], "share": "full", **given}


class Section(LabelSetsSection):
    """The section on results in memory."""

    def __init__(self, results: Mapping[str, Any]) -> None:
        self.results, self.directions, self.intervals = dict(results), ("t2i", "i2t"), "95 % cluster bootstrap"


def analysed(tmp_path: Path, **given: Any) -> dict[str, Any]:
    data, images, texts = random_world(6)
    forward = as_json(tmp_path / "x_t2i.json", {"t000": ["i00", "i05"], "t010": ["i03"], "t020": ["i01", "i09"]})
    backward = as_json(tmp_path / "x_i2t.json", {"i00": ["t000", "t004"], "i01": ["t003"]})
    ready = prepared(data, images, texts)
    sources = [f"{forward},{backward}"]
    return analyse(ready, rank(ready, ANALYSIS)[0], parameters(labels=sources, **given))


def test_nothing_was_asked_for() -> None:
    data, images, texts = random_world(6)
    ready = prepared(data, images, texts)
    assert analyse(ready, rank(ready, ANALYSIS)[0], parameters()) == {}
    shown = Section({})
    for display in (shown.label_sets("t2i"), shown.label_sets_plot("i2t"), shown.label_agreement()):
        assert "No other labels were brought" in display.text


def test_with_no_content_the_sets_are_numbered_and_the_numbers_are_the_same(tmp_path: Path) -> None:
    hidden, shown = (analysed(tmp_path, share=share)["label sets"] for share in ("no-content", "full"))
    assert {one.labels for one in hidden.scores} == {section.OWN, "labels 1"}
    assert [one.value for one in hidden.scores] == [one.value for one in shown.scores]
    assert "x_t2i" not in json.dumps(codec.to_plain(hidden))
    assert [one.name for one in hidden.findings()] == ["t2i/labels/sets", "i2t/labels/sets"]


def test_a_file_called_as_its_user_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "adalovelace")
    data, images, texts = random_world(6)
    path = as_json(tmp_path / "adalovelace.json", {"t000": ["i00", "i05"]})
    (found,) = section.gather(prepared(data, images, texts), parameters(labels=[str(path)]))
    assert found.name == "(user)"


def test_what_is_shown(tmp_path: Path) -> None:
    results = analysed(tmp_path)
    types = {kind.__name__: kind for kind in section.TYPES}
    found = codec.from_plain(json.loads(json.dumps(codec.to_plain(results["label sets"]))), types)
    np.testing.assert_equal(codec.to_plain(found), codec.to_plain(results["label sets"]))
    shown = Section({"label sets": found})
    table = shown.label_sets("t2i").text
    assert "own labels" in table
    assert " x " in table
    assert "mAP@R" in table
    figure = shown.label_sets_plot("i2t")
    assert figure.drawings
    assert "under x" in figure.text
    agreement = shown.label_agreement().text
    assert "117" in agreement  # of 120 captions three are judged
    assert "Jaccard" in agreement
    assert shown.label_sets("t2t").text == "These data are asked in one direction only."
    assert str(tmp_path) not in json.dumps(codec.to_plain(found))
    assert found.table().loc[("t2i", "hit@1", "x"), "n"] == 3
    assert found.flat()["t2i/hit@1 (x)"] == value(found, "t2i", "hit@1", "x")


def test_no_other_section_takes_a_name_of_this_one() -> None:
    from workbench.report.integrity import IntegrityReport

    for name, made in vars(LabelSetsSection).items():
        if not name.startswith("__"):
            assert getattr(IntegrityReport, name) is made, name


def test_the_drawing_is_of_the_numbers(tmp_path: Path) -> None:
    found = analysed(tmp_path)["label sets"]
    scores = found.of("t2i")
    ax = label_scores(scores)
    drawn = {line.get_label(): np.asarray(line.get_xdata(), float) for line in ax.get_lines()}
    for name in (OWN, "x"):
        assert drawn[name].tolist() == [100 * one.common for one in scores if one.labels == name]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == list(dict.fromkeys(one.metric for one in scores))
    assert found.plot().get_figure() is not None


def test_data_without_labels_of_their_own(tmp_path: Path) -> None:
    """The first set that is brought takes the place of those of the data."""
    data, images, texts = random_world(8)
    bare = Collection(
        data.card, data.images, data.texts, Relevance.from_pairs([], [], n_queries=120, n_gallery=40), data.text_image
    )
    one, other = random_labels(data, 1, "one"), random_labels(data, 2, "two")
    found = compare_labels(ranked_of(bare, images, texts), [one, other], ["hit@1"], n_resamples=100)
    assert [one.labels for one in found.counts] == ["one", "two"] * 2
    assert np.isnan(value(found, "t2i", "hit@1", "one", "difference"))
    assert np.isfinite(value(found, "t2i", "hit@1", "two", "difference"))
    alone = compare_labels(ranked_of(bare, images, texts), [one], ["hit@1"], n_resamples=100)
    assert {finding.verdict for finding in alone.findings()} == {"not measurable"}


def test_sets_that_share_no_query(tmp_path: Path) -> None:
    data, images, texts = random_world(9)
    first, second = (
        LabelSet(name, Relevance.from_pairs([row], [0], n_queries=120, n_gallery=40), None)
        for name, row in (("a", 0), ("b", 7))
    )
    found = compare_labels(ranked_of(data, images, texts), [first, second], ["hit@1"], n_resamples=100)
    assert value(found, "t2i", "hit@1", "a", "n_common") == 0
    assert np.isnan(value(found, "t2i", "hit@1", "a", "common"))
    assert "No query has a right item in every set" in found.findings()[0].advice
    assert "nothing to draw" in Section({"label sets": found}).label_sets_plot("t2i").text
    single = compare_labels(ranked_of(data, images, texts), [first], ["hit@1"], n_resamples=100)
    assert "belong to one image" in single.findings()[0].advice
    assert single.findings()[0].verdict == "not measurable"
    assert Section({"label sets": single}).label_sets("t2i").text
    with pytest.raises(ValueError, match="needs a name of its own"):
        compare_labels(ranked_of(data, images, texts), [first, first], ["hit@1"])


def test_unknown_labels_stop_the_report(tmp_path: Path) -> None:
    data, images, texts = random_world(6)
    ready = prepared(data, images, texts)
    path = as_json(tmp_path / "x.json", {"t000": ["i99"]})
    with pytest.raises(ValueError, match=r"1 of 1 images in x\.json are not in 'ours'"):
        analyse(ready, rank(ready, ANALYSIS)[0], parameters(labels=[str(path)]))
