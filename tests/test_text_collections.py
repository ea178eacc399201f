"""Ranked lists of other systems and collections of documents and queries: what is read, and what is said about it."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.test_metrics_golden import TREC_NAMES
from workbench.datasets import Collection, count, load
from workbench.datasets.beir import load_beir
from workbench.datasets.cranfield import load_cranfield
from workbench.datasets.qrels import read_qrels
from workbench.datasets.trec import RunLint, lint_run, load_run, read_run
from workbench.metrics import aggregate, per_query, ranks_from_lists
from workbench.runs import write_trec
from workbench.types import Neighbours, Ranks

Shared = Callable[[str], Path]


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(collection: Collection) -> list[tuple[Any, Any]]:
    assert collection.lists is not None
    return [collection.lists.row(query) for query in range(collection.lists.n_queries)]


def named(collection: Collection) -> dict[str, list[str]]:
    """Query id -> item ids, best first."""
    ids = collection.images.ids
    return {
        query: [ids[i] for i in items] for query, (items, _) in zip(collection.texts.ids, rows(collection), strict=True)
    }


def ranks_of(collection: Collection, *, trec_order: bool = False) -> Ranks:
    """Ranks of a run; with ``trec_order`` ties are broken as trec_eval does, larger document id first."""
    lists = rows(collection)
    if trec_order:
        lists = [(items[np.lexsort((items, scores))], np.arange(len(items))) for items, scores in lists]
    return ranks_from_lists(lists, collection.relevance)


# --- runs: the loader against trec_eval ------------------------------------------------------------------------------

QUICK = ("NLPR03vb10", "humR03dc", "aplrob03a")
LONG = ("UIUC03Rd1", "VTcdhgp1", "fub03IeOLKe3", "pircRBa1", "rutcor03100", "uwmtCR0")
RUNS = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in LONG)]


@pytest.mark.parametrize("name", RUNS)
def test_a_real_run_scores_as_trec_eval_says_topic_by_topic(shared: Shared, name: str) -> None:
    folder = shared("data/trec_robust03")
    golden = np.load(shared("golden/ir_pytrec_eval__robust03.npz"), allow_pickle=False)
    collection = load(f"run:{folder}/runs/input.{name}.gz", qrels=str(folder / "qrels.txt.gz"))
    assert (collection.images.modality, collection.texts.modality) == ("document", "query")
    assert (collection.images.kind, collection.texts.kind, collection.one_way) == ("", "", True)
    assert list(collection.images.ids) == sorted(collection.images.ids)
    assert sorted(collection.texts.ids) == sorted(golden["topics"].tolist())
    assert (collection.text_image == -1).all()
    assert collection.notes == ()
    order = [golden["topics"].tolist().index(topic) for topic in collection.texts.ids]
    ranks, ordered = ranks_of(collection), ranks_of(collection, trec_order=True)
    tied = np.bincount(ranks.queries, ranks.tied, minlength=ranks.n_queries) > 0
    for trec_name, ours in TREC_NAMES.items():
        expected = golden[f"run/{name}"][order, golden["measures"].tolist().index(trec_name)]
        values = per_query(ours, ranks, short_lists="as is")
        np.testing.assert_allclose(values.expected[~tied], expected[~tied], atol=1e-12, rtol=0, err_msg=trec_name)
        assert (values.worst - 1e-12 <= expected).all(), trec_name
        assert (expected <= values.best + 1e-12).all(), trec_name
        exact = per_query(ours, ordered, short_lists="as is").expected
        np.testing.assert_allclose(exact, expected, atol=1e-12, rtol=0, err_msg=trec_name)


def test_all_stored_runs_are_named_here(shared: Shared) -> None:
    stored = {path.name.split(".")[1] for path in shared("data/trec_robust03/runs").iterdir()}
    assert stored == {*QUICK, *LONG}


def test_the_lists_hold_what_a_slow_reading_finds(shared: Shared) -> None:
    path = shared("data/trec_robust03/runs/input.humR03dc.gz")
    slow: dict[str, list[tuple[float, str]]] = {}
    with gzip.open(path, "rt") as file:
        for line in file:
            query, _, item, _, score, _ = line.split()
            slow.setdefault(query, []).append((-float(score), item))
    run = load_run(path)
    assert named(run) == {query: [item for _, item in sorted(found)] for query, found in slow.items()}
    assert run.relevance.n_positives == 0
    assert len(run.images) == len({item for found in slow.values() for _, item in found})


def test_the_example_of_trec_eval_itself(shared: Shared) -> None:
    """Its lines are in no order and its ranks have gaps; per topic to its four printed digits."""
    folder = shared("data/trec_eval_golden")
    collection = load_run(folder / "results.test", folder / "qrels.test")
    printed = {}
    for line in (folder / "out.test.aq").read_text().splitlines():
        name, topic, value = line.split()
        printed[name, topic] = value
    ranks = ranks_of(collection, trec_order=True)
    wanted = {"map": "AP", "Rprec": "R-precision", "recip_rank": "MRR", "P_10": "P@10", "P_1000": "P@1000"}
    for trec_name, ours in wanted.items():
        values = per_query(ours, ranks, short_lists="as is").expected
        for topic, value in zip(collection.texts.ids, values, strict=True):
            assert float(printed[trec_name, topic]) == pytest.approx(value, abs=5.1e-5), (trec_name, topic)
    assert collection.notes == ()


# --- runs: what the lines mean ---------------------------------------------------------------------------------------

RUN = """
q2 Q0 d1 1 0.5 us
q1 Q0 d3 1 9 us
q1\tQ0\td1  2 8e0\tus\r
q1 Q0 d2 3 8 us
q1 Q0 Bär 4 -1.5 us
"""
QRELS = "q0 0 d1 1\nq1 0 d2 2\nq1 0 d9 1\nq1 0 d3 0\nq3 0 d3 0\n"


def test_a_small_run_by_hand(tmp_path: Path) -> None:
    run = load_run(write(tmp_path / "r.trec", RUN), write(tmp_path / "j.txt", QRELS))
    assert run.images.ids == ("Bär", "d1", "d2", "d3", "d9")
    assert run.texts.ids == ("q0", "q1", "q3", "q2")
    assert named(run) == {"q0": [], "q1": ["d3", "d1", "d2", "Bär"], "q3": [], "q2": ["d1"]}
    assert rows(run)[1][1].tolist() == [9.0, 8.0, 8.0, -1.5]
    assert run.relevance.positives_per_query.tolist() == [1, 2, 0, 0]
    assert (run.card.name, run.one_way) == ("run r", True)
    assert run.notes == (
        "2 judged queries have no list and score 0: q0, q3.",
        "Of 4 queries j.txt leaves 1 without a judgement and 1 without a relevant item among the judged: "
        "they are in no mean.",
    )
    values = per_query("MRR", ranks_of(run), short_lists="as is").expected
    assert values[0] == 0.0  # judged, nothing returned
    assert values[1] == pytest.approx((1 / 2 + 1 / 3) / 2)  # tied with one other on places 2 and 3
    assert np.isnan(values[2:]).all()
    assert aggregate("MRR", values) == pytest.approx((0 + 5 / 12) / 2)


def test_without_judgements_queries_stand_as_in_the_run(tmp_path: Path) -> None:
    run = load_run(write(tmp_path / "r.trec", RUN))
    assert (run.texts.ids, run.images.ids) == (("q2", "q1"), ("Bär", "d1", "d2", "d3"))
    assert (run.relevance.n_positives, run.notes) == (0, ())
    assert named(run) == {"q2": ["d1"], "q1": ["d3", "d1", "d2", "Bär"]}
    assert count(run).pairs == 0


def test_the_order_of_the_lines_does_not_matter(tmp_path: Path) -> None:
    lines = RUN.strip().splitlines()
    qrels = write(tmp_path / "j.txt", QRELS)
    runs = [
        load_run(write(tmp_path / f"{number}.trec", "\n".join(lines[::step])), qrels)
        for number, step in enumerate((1, -1))
    ]
    assert named(runs[0]) == named(runs[1])
    np.testing.assert_array_equal(runs[0].lists.scores, runs[1].lists.scores)


def test_repeats_keep_the_best_score_and_are_counted(tmp_path: Path) -> None:
    text = "q Q0 a 1 5 us\nq Q0 b 2 4 us\nq Q0 a 3 3 us\nq Q0 a 4 6 us\nr Q0 a 1 1 us\nr Q0 a 1 1 us\ns Q0 c 1 1 us\n"
    run = read_run(write(tmp_path / "r.trec", text))
    assert run.lint == RunLint(n_lists=3, n_results=7, n_repeated=3, n_lists_with_repeats=2, n_rank_disagreements=3)
    assert [run.lists.row(query)[0].tolist() for query in range(3)] == [[0, 1], [0], [2]]
    assert run.lists.row(0)[1].tolist() == [6.0, 4.0]
    note = "3 results in 2 of 3 lists repeat an item already in the list; the best-scored one is kept."
    assert load_run(tmp_path / "r.trec").notes[0] == note


def slow_disagreements(lines: list[tuple[str, int, float]]) -> int:
    return sum(
        any(query == other and better > score and rank <= before for other, before, better in lines)
        for query, rank, score in lines
    )


def test_the_rank_column_is_held_against_the_scores(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for trial in range(30):
        n = int(rng.integers(1, 25))
        lines = [(f"q{rng.integers(3)}", int(rng.integers(8)), float(rng.integers(6))) for _ in range(n)]
        text = "".join(f"{query} Q0 d{i} {rank} {score} us\n" for i, (query, rank, score) in enumerate(lines))
        lint = read_run(write(tmp_path / f"{trial}.trec", text)).lint
        assert lint.n_rank_disagreements == slow_disagreements(lines)


def test_ties_may_have_any_rank_and_ranks_may_start_anywhere(tmp_path: Path) -> None:
    text = "q Q0 a 7 2 us\nq Q0 b 9 1 us\nq Q0 c 8 1 us\nr Q0 a 0 2 us\nr Q0 b 1 1.5 us\n"
    text += "t Q0 a 3 1 us\nt Q0 b 2 1 us\nt Q0 c 1 1 us\n"
    lint = read_run(write(tmp_path / "r.trec", text)).lint
    assert (lint.n_rank_disagreements, lint.n_lists_reversed) == (0, 0)


def test_distances_instead_of_scores_are_suspected(tmp_path: Path) -> None:
    text = "".join(f"{q} Q0 d{rank} {rank} {rank / 10} us\n" for q in ("p", "q") for rank in range(1, 6))
    text += "r Q0 d1 1 2 us\nr Q0 d2 2 1 us\nr Q0 d3 3 0 us\n"
    run = load_run(write(tmp_path / "r.trec", text))
    assert run.notes == (
        "The rank column disagrees with the scores at 8 of 13 results; the scores decide.",
        "In 2 of 3 lists the score rises with the rank: are these distances? A higher score must be a better one, so "
        "write the negative distance.",
    )
    assert named(run)["p"] == ["d5", "d4", "d3", "d2", "d1"]


def test_lint_names_the_queries_of_one_file_only(tmp_path: Path) -> None:
    run = read_run(write(tmp_path / "r.trec", "# made by us\n" + RUN))
    assert (run.tag, run.name, run.queries, run.lint.n_comments) == ("us", "r.trec", ("q2", "q1"), 1)
    assert lint_run(run) == run.lint
    lint = lint_run(run, read_qrels(write(tmp_path / "j.txt", QRELS)))
    assert (lint.missing_queries, lint.unjudged_queries) == (("q0", "q3"), ("q2",))
    assert lint.sentences()[0] == "1 lines that begin with # were taken as comments."
    many = RunLint(1, 1, 0, 0, 0, missing_queries=tuple(f"m{i}" for i in range(1234)))
    assert many.sentences() == ("1,234 judged queries have no list and score 0: m0, m1, m2 and 1,231 more.",)


def test_our_own_lists_come_back(tmp_path: Path) -> None:
    """Ids percent-encoded in the run and plain in the judgements, the other way round, and on both sides."""
    queries, items = ("a cat & 50%", "ein Bär"), ("x/1.jpg", "y 2.jpg", "%41")
    lists = Neighbours(np.array([[1, 0], [2, 1]]), np.array([[0.75, 0.1], [2.0, 1 / 3]]), 3, True, np.zeros(2, bool))
    write_trec(tmp_path / "ours.trec", lists, queries, items)
    plain = "query,item,grade\na cat & 50%,y 2.jpg,1\nein Bär,x/1.jpg,1\nein Bär,%41,2\n"
    run = load_run(tmp_path / "ours.trec", write(tmp_path / "j.csv", plain))
    assert named(run) == {queries[0]: ["y 2.jpg", "x/1.jpg"], queries[1]: ["%41", "y 2.jpg"]}
    assert rows(run)[1][1].tolist() == [2.0, 1 / 3]
    assert run.notes == ()
    encoded = "a%20cat%20%26%2050%25 0 y%202.jpg 1\n"
    both = load_run(tmp_path / "ours.trec", write(tmp_path / "j.txt", encoded))
    assert named(both)["a%20cat%20%26%2050%25"] == ["y%202.jpg", "x%2F1.jpg"]
    reverse = load_run(
        write(tmp_path / "plain.trec", "Bär Q0 Elch 1 1 us\n"), write(tmp_path / "k.txt", "B%C3%A4r 0 Elch 1\n")
    )
    assert named(reverse) == {"Bär": ["Elch"]}
    ties = write(tmp_path / "ties.trec", "q Q0 %C3%A9 1 1 us\nq Q0 d 2 1 us\n")
    assert named(load_run(ties)) == {"q": ["%C3%A9", "d"]}
    assert named(load_run(ties, write(tmp_path / "l.txt", "q 0 é 1\n"))) == {"q": ["d", "é"]}
    assert reverse.relevance.n_positives == 1


def test_one_query_and_one_result(tmp_path: Path) -> None:
    run = load_run(write(tmp_path / "r.trec", "q Q0 d 1 0 us"), write(tmp_path / "j.txt", "q 0 d 1"))
    assert per_query("hit@1", ranks_of(run)).expected.tolist() == [1.0]


def test_nothing_judged_among_the_returned_is_said(tmp_path: Path) -> None:
    run = load_run(write(tmp_path / "r.trec", "q Q0 doc-1 1 0 us"), write(tmp_path / "j.txt", "q 0 1 1"))
    assert run.notes == ("No item that r.trec returns is judged in j.txt: do both name items alike?",)
    assert per_query("MRR", ranks_of(run), short_lists="as is").expected.tolist() == [0.0]


REFUSED = {
    "five": ("q Q0 d 1 2\n", "r.trec line 1 has 5 fields; a TREC run has six per line: query Q0 item rank score tag"),
    "qrels": ("q 0 d 1\n", "r.trec line 1 has 4 fields; .* four are judgements .* qrels=FILE"),
    "blank id": ("q Q0 my photo 1 2 us\n", "r.trec line 1 has 7 fields; .* write a blank inside an id or tag as %20"),
    "later": ("q Q0 d 1 2 us\n\nq Q0 e 2\n", "r.trec line 3 has 4 fields"),
    "nan": ("q Q0 d 1 2 us\nq Q0 e 2 nan us\n", "r.trec line 2: the score is 'nan', which is no finite number"),
    "inf": ("q Q0 d 1 -inf us\n", "r.trec line 1: the score is '-inf'"),
    "word": ("q Q0 d 1 high us\n", "r.trec line 1: the score is 'high'"),
    "huge": ("q Q0 d 1 1e999 us\n", "r.trec line 1: the score is '1e999'"),
    "rank": ("q Q0 d first 1 us\n", "r.trec line 1: the rank is 'first', which is no whole number"),
    "two systems": ("q Q0 d 1 2 us\nq Q0 e 2 1 them\n", "r.trec line 2 has the tag 'them' after 'us'; give each"),
    "empty": ("", "r.trec holds no results; a TREC run has six per line"),
    "only comments": ("# nothing\n\n", "r.trec holds no results"),
    "latin": (b"q Q0 B\xe4r 1 2 us\n", "r.trec line 1 is not UTF-8 text"),
    "latin tag": (b"q Q0 d 1 2 \xe4\n", "r.trec line 1 is not UTF-8 text"),
    "half a letter": (b"q\xc3 Q0 \xa4r 1 2 us\n", "r.trec line 1 is not UTF-8 text"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 400, "r.trec line"),
    "cut archive": (gzip.compress(RUN.encode() * 9000)[:-40], "r.trec cannot be unpacked"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_run_is_refused_with_file_line_and_advice(tmp_path: Path, case: str) -> None:
    content, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        load_run(write(tmp_path / "r.trec", content))


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    run = write(tmp_path / "r.trec", RUN)
    with pytest.raises(ValueError) as raised:
        load_run(run, write(tmp_path / "j.txt", "t1 0 d1 1\n"))
    assert str(raised.value) == (
        "none of the 2 queries in r.trec is judged in j.txt: the run has ['q2', 'q1'], the judgements ['t1']"
    )
    with pytest.raises(ValueError, match="its items are queries of the run: swap the two columns"):
        load_run(run, write(tmp_path / "j.txt", "d1 0 q1 1\n"))
    with pytest.raises(FileNotFoundError, match=r"nothing.trec does not exist"):
        load_run(tmp_path / "nothing.trec")


# --- BEIR ------------------------------------------------------------------------------------------------------------

CORPUS = [
    {"_id": "d1", "title": "Slip flow", "text": "In a tube.", "year": 1959, "metadata": {"url": "x"}},
    {"_id": "d2", "title": "", "text": "Ein Bär im Windkanal.", "year": None},
    {"_id": "d3", "title": "", "text": "", "kind": "note"},
    {"_id": "d4", "text": "No title at all."},
]
QUERIES = [
    {"_id": "q1", "text": "flow in tubes", "metadata": {}},
    {"_id": "q2", "text": "bears", "title": "not read"},
    {"_id": "q3", "text": "of the training split"},
]
HEADER = "query-id\tcorpus-id\tscore\n"


def beir(folder: Path, **files: str) -> Path:
    write(folder / "corpus.jsonl", "".join(json.dumps(row) + "\n" for row in CORPUS))
    write(folder / "queries.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in QUERIES))
    for split, lines in files.items():
        write(folder / "qrels" / f"{split}.tsv", HEADER + lines)
    return folder


TEST, TRAIN = "q2\td2\t1\nq1\td1\t2\nq1\td4\t0\n", "q3\td4\t1\n"


def test_a_beir_folder(tmp_path: Path) -> None:
    found = load(f"beir:{beir(tmp_path / 'tiny', test=TEST, train=TRAIN)}")
    assert found.images.ids == ("d1", "d2", "d3", "d4")
    assert list(found.images.content) == ["Slip flow In a tube.", "Ein Bär im Windkanal.", "", "No title at all."]
    assert {name: list(values) for name, values in found.images.columns.items()} == {
        "title": ["Slip flow", "", "", ""], "year": ["1959", "", "", ""], "kind": ["", "", "note", ""],
    }  # fmt: skip
    assert (found.texts.ids, list(found.texts.content)) == (("q1", "q2"), ["flow in tubes", "bears"])
    assert (found.images.kind, found.texts.kind, found.one_way) == ("text", "text", True)
    assert found.relevance.row(0)[0].tolist() == [0, 3]
    assert found.relevance.row(0)[1].tolist() == [2.0, 0.0]
    assert (found.text_image == -1).all()
    assert found.card.name == "beir tiny"
    assert found.notes == (
        "1 queries are not judged in test.tsv and left out.",
        "1 documents have no text; they stay in the gallery as empty texts.",
    )
    assert count(found).pairs == 2


def test_beir_splits(tmp_path: Path) -> None:
    both = beir(tmp_path / "both", test=TEST, train=TRAIN)
    assert load_beir(both, split="train").texts.ids == ("q3",)
    assert load_beir(beir(tmp_path / "one", train=TRAIN)).texts.ids == ("q3",)
    with pytest.raises(ValueError, match=r"both/qrels has no split 'dev' but \['test', 'train'\]; choose one with spl"):
        load_beir(both, split="dev")
    with pytest.raises(ValueError, match=r"two/qrels has no split '' but \['dev', 'train'\]"):
        load_beir(beir(tmp_path / "two", train=TRAIN, dev=TRAIN))
    unjudged = load_beir(beir(tmp_path / "none"))
    assert (unjudged.texts.ids, unjudged.relevance.n_positives) == (("q1", "q2", "q3"), 0)
    assert unjudged.notes[0] == "none has no qrels folder, so nothing is judged."


def test_queries_that_are_documents_are_said(tmp_path: Path) -> None:
    folder = beir(tmp_path, test="d1\td2\t1\n")
    write(folder / "queries.jsonl", json.dumps({"_id": "d1", "text": "counter this"}) + "\n")
    assert "1 queries share their id with a document; BEIR's own scores leave" in load_beir(folder).notes[1]


BROKEN = {
    "no corpus": ("corpus.jsonl", None, "corpus.jsonl is missing .* beir: needs a folder with corpus.jsonl, queries"),
    "no queries": ("queries.jsonl", None, "queries.jsonl is missing"),
    "no text": ("corpus.jsonl", '{"_id": "d1", "body": "x"}\n', "corpus.jsonl needs a column 'text'"),
    "no id": ("queries.jsonl", '{"id": "q1", "text": "x"}\n', "queries.jsonl needs a column '_id'"),
    "empty query": ("queries.jsonl", '{"_id": "q1", "text": " "}\n{"_id": "q2", "text": "x"}\n', "1 queries have no"),
    "id twice": ("corpus.jsonl", '{"_id": "d1", "text": "x"}\n' * 2, "document ids must be unique, but 'd1' occurs 2"),
    "not JSON": ("corpus.jsonl", "{", "corpus.jsonl line 1 is not JSON"),
    "unknown document": ("corpus.jsonl", '{"_id": "e", "text": "x"}\n', "3 of 3 items in test.tsv are not in 'beir t'"),
    "unknown query": ("queries.jsonl", '{"_id": "e", "text": "x"}\n', "2 of 2 queries in test.tsv are not in 'beir t'"),
    "qrels": ("qrels/test.tsv", HEADER + "q1\td1\n", "test.tsv line 2 has 2 fields"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_beir_folders(tmp_path: Path, case: str) -> None:
    name, content, message = BROKEN[case]
    folder = beir(tmp_path / "t", test=TEST)
    if content is None:
        (folder / name).rename(folder / f"{name}.gz")
        message = f"{name} is missing.*unpack {name}.gz first" if case == "no queries" else message
    else:
        write(folder / name, content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_beir(folder)


def test_no_beir_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"corpus.jsonl is missing \(found: no such folder\)"):
        load_beir(tmp_path / "nothing")


# --- Cranfield -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cranfield(request: pytest.FixtureRequest) -> Collection:
    locate: Shared = request.getfixturevalue("shared")
    return load(f"cranfield:{locate('data/cranfield')}")


def test_cranfield_counts(cranfield: Collection) -> None:
    assert (len(cranfield.images), len(cranfield.texts), cranfield.relevance.n_positives) == (1400, 225, 1837)
    assert cranfield.images.ids == tuple(str(number) for number in range(1, 1401))
    assert cranfield.texts.ids == tuple(str(number) for number in range(1, 226))
    assert list(cranfield.texts.columns["number"][[0, 2, 224]]) == ["001", "004", "365"]
    assert (cranfield.one_way, cranfield.images.kind, cranfield.texts.kind) == (True, "text", "text")
    assert cranfield.relevance.positives_per_query.min() > 0
    assert cranfield.notes == (
        "2 documents have no text and stay in the gallery as empty texts: 471, 995.",
        "225 pairs with the unexplained grade -1 count as the best grade, 5.",
    )
    assert count(cranfield).duplicate_images == 1


def test_cranfield_texts(cranfield: Collection, shared: Shared) -> None:
    content = dict(zip(cranfield.images.ids, cranfield.images.content, strict=True))
    opening = "experimental investigation of the aerodynamics of a wing in a slipstream . an experimental study of a"
    assert content["1"].startswith(opening)
    assert cranfield.texts.content[2] == "what problems of heat conduction in composite slabs have been solved so far ."
    assert cranfield.images.columns["author"][0] == "brenckman,m."
    assert cranfield.images.columns["source"][0] == "j. ae. scs. 25, 1958, 324."
    assert "unity in low-speed flow without injection . all calculations are" in content["240"]
    assert content["1400"].endswith("for panels with ratios of width to stiffener spacing of graphical forms .")
    words = {word for text in content.values() for word in text.split()}
    raw = set(shared("data/cranfield/cran.all.1400").read_text().split())
    assert not {".I", ".T", ".A", ".B", ".W"} & words
    assert words < raw


def test_cranfield_grades_are_those_of_the_corrected_file(cranfield: Collection, shared: Shared) -> None:
    folder = shared("data/cranfield")
    corrected = load(f"cranfield:{folder}", qrels=str(folder / "QRelsCorrectedforTRECeval"))
    for part in ("indptr", "items", "grades"):
        np.testing.assert_array_equal(getattr(cranfield.relevance, part), getattr(corrected.relevance, part))
    grades, counts = np.unique(cranfield.relevance.grades, return_counts=True)
    assert dict(zip(grades.tolist(), counts.tolist(), strict=True)) == {1: 363, 2: 734, 3: 387, 4: 128, 5: 225}


def similarity(queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
    """Cosines of words weighted (1 + log tf) log(n / df)."""
    tokens = [Counter(re.findall(r"[a-z]{2,}", text)) for text in (*documents, *queries)]
    spread = Counter(word for text in tokens[: len(documents)] for word in text)
    number = {word: column for column, word in enumerate(spread)}
    vectors = np.zeros((len(tokens), len(number)), dtype=np.float32)
    for row, text in enumerate(tokens):
        for word, times in text.items():
            if word in number:
                vectors[row, number[word]] = (1 + np.log(times)) * np.log(len(documents) / spread[word])
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return vectors[len(documents) :] @ vectors[: len(documents)].T


def test_cranfield_grades_follow_the_similarity_of_the_texts(cranfield: Collection) -> None:
    """The evidence for reading 1 as the best grade and -1 as a better one still."""
    scores = similarity(cranfield.texts.content, cranfield.images.content)
    places = (-scores).argsort(axis=1, kind="stable").argsort(axis=1) + 1
    judged = cranfield.relevance
    found = places[judged.queries, judged.items]
    medians = [float(np.median(found[judged.grades == grade])) for grade in (5, 4, 3, 2, 1)]
    assert medians == sorted(medians)
    assert medians[:2] == [3.0, 14.0]
    assert (np.bincount(judged.queries[judged.grades == 5]) == 1).all()


SMART = """.I 1
.T
a title
.W
the abstract
.I 2
.T
same words here
.A
nobody
.W
same words here
and  more
.A
left over
"""


def smart(folder: Path, **files: str | None) -> Path:
    given = {"x.all": SMART, "X.QRY": ".I 7\n.W\none\r\n.I 9\n.W\ntwo\n", "xqrel": "1 2 -1\n2 1 4 \n1 1 1\n", **files}
    folder.mkdir(exist_ok=True)
    for name, content in given.items():
        if content is not None:
            write(folder / name, content)
    return folder


def test_another_collection_in_this_layout(tmp_path: Path) -> None:
    found = load_cranfield(smart(tmp_path / "s"))
    assert list(found.images.content) == ["a title the abstract", "same words here and more left over"]
    assert (found.texts.ids, list(found.texts.columns["number"])) == (("1", "2"), ["7", "9"])
    assert found.relevance.grades.tolist() == [4.0, 5.0, 1.0]
    assert found.card.name == "s"
    assert list(found.images.columns["author"]) == ["", "nobody"]


def test_cranfield_without_judgements_or_with_repeated_ones(tmp_path: Path) -> None:
    found = load_cranfield(smart(tmp_path / "s", xqrel=None))
    assert (found.relevance.n_positives, found.notes) == (0, ("s has no file NAMEqrel, so nothing is judged.",))
    again = load_cranfield(smart(tmp_path / "t", xqrel="1 2 3\n1 2 3\n"))
    assert again.notes[0] == "1 judgements of xqrel repeat a pair with the same grade; each pair counts once."


BROKEN_SMART = {
    "no queries": ({"X.QRY": None}, r"must hold one file \*.qry; found none; cranfield: needs a folder with cran.all"),
    "two corpora": ({"y.all.2": SMART}, r"must hold one file \*.all\*; found \['x.all', 'y.all.2'\]"),
    "no record": ({"x.all": "\n\n"}, "x.all holds no record; a SMART file opens with '.I 1'"),
    "prose": ({"x.all": "Dear reader,\n"}, "x.all line 1 stands before the first .I"),
    "no number": ({"x.all": ".I\n.W\nx\n"}, "x.all line 1 has .I without a number"),
    "no field": ({"x.all": ".I 1\nwords\n"}, "x.all line 2 belongs to no field"),
    "id twice": ({"x.all": ".I 1\n.W\nx\n.I 1\n.W\ny\n"}, "document ids must be unique, but '1' occurs 2 times"),
    "empty query": ({"X.QRY": ".I 7\n.W\none\n.I 9\n.W\n\n"}, r"query 2 \(by position\) has no text"),
    "TREC judgements": ({"xqrel": "1 0 2 1\n"}, r"xqrel line 1 must hold query, document and grade \(-1, 1, 2, 3, 4\)"),
    "grade": ({"xqrel": "1 2 3\n1 1 0\n"}, "xqrel line 2 must hold .* got '1 1 0'; .* load with qrels=FILE"),
    "number of the query": (
        {"xqrel": "7 2 3\n1 1 1\n"},
        r"1 of 2 queries in xqrel are not in 's', the first are \['7'",
    ),
    "document": ({"xqrel": "1 3 3\n"}, "1 of 1 items in xqrel are not in 's'"),
    "twice": ({"xqrel": "1 2 3\n1 2 1\n"}, "xqrel line 2: query '1' and item '2' are judged twice, as 2 and as 4"),
    "latin": ({"x.all": ".I 1\n.W\nB\udce4r\n"}, "x.all line 3 is not UTF-8 text"),
}


@pytest.mark.parametrize("case", BROKEN_SMART)
def test_broken_cranfield_folders(tmp_path: Path, case: str) -> None:
    files, message = BROKEN_SMART[case]
    encoded = {name: content and content.encode("utf-8", "surrogateescape") for name, content in files.items()}
    folder = smart(tmp_path / "s", **encoded)  # type: ignore[arg-type]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_cranfield(folder)


def test_no_cranfield_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing is no folder; cranfield: needs a folder with cran.all.1400"):
        load_cranfield(tmp_path / "nothing")
