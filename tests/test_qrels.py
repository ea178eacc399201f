"""Judgements from files: one meaning in every format, one sentence for everything that is wrong with them."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from workbench.datasets import Card, Collection, Side, load
from workbench.datasets import qrels as module
from workbench.datasets.qrels import judged_by, match_ids, read_qrels
from workbench.types import Relevance

Shared = Callable[[str], Path]

PAIRS = [("q1", "d1", 2.0), ("q1", "d2", 0.0), ("q2", "d1", -1.0), ("q2", "Bär", 0.5)]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def plain(judgements: module.Judgements) -> list[tuple[str, str, float]]:
    return list(zip(judgements.queries, judgements.items, judgements.grades.tolist(), strict=True))


def collection(text_image: list[int] | None = None) -> Collection:
    """Three texts on four images; a percent sign, a blank and a slash in the ids."""
    images, texts = ("a", "b c", "50%25", "x/y"), ("t1", "t 2", "t3")
    own = np.array([0, 1, 1] if text_image is None else text_image)
    relevance = Relevance.from_pairs(np.arange(3), own, n_queries=3, n_gallery=4)
    sides = Side("image", images), Side("text", texts, ["one", "two", "three"])
    return Collection(Card("ours"), *sides, relevance, own, notes=("Before.",))


# --- formats ---------------------------------------------------------------------------------------------------------


def in_every_format(folder: Path) -> list[Path]:
    trec = "".join(f"{query} 0 {item} {grade:g}\n" for query, item, grade in PAIRS)
    tabs = "\ufeff" + trec.replace(" ", "\t").replace("\n", "\r\n") + "\r\n"
    beir = "query-id\tcorpus-id\tscore\n" + "".join(f"{q}\t{d}\t{g:g}\n" for q, d, g in PAIRS)
    rows = [{"grade": grade, "item": item, "query": query, "by": "me"} for query, item, grade in PAIRS]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "j.parquet")
    return [
        write(folder / "j.qrels", trec),
        write(folder / "windows.txt", tabs),
        write(folder / "no-newline.txt", trec.rstrip()),
        write(folder / "j.txt.gz", gzip.compress(trec.encode())),
        write(folder / "packed-under-another-name.txt", gzip.compress(trec.encode())),
        write(folder / "test.tsv", beir),
        write(folder / "test.tsv.gz", gzip.compress(beir.encode())),
        write(folder / "j.csv", "query,item,grade\n" + "".join(f"{q},{d},{g}\n" for q, d, g in PAIRS)),
        write(folder / "j.jsonl", "".join(json.dumps(row) + "\n" for row in rows)),
        folder / "j.parquet",
    ]  # fmt: skip


def test_every_format_says_the_same(tmp_path: Path) -> None:
    for path in in_every_format(tmp_path):
        found = read_qrels(path)
        assert plain(found) == PAIRS, path.name
        assert (found.name, found.warnings, len(found)) == (path.name, (), 4)


def test_beir_ids_may_hold_blanks_and_trec_ids_other_spaces(tmp_path: Path) -> None:
    beir = write(tmp_path / "a.tsv", "query-id\tcorpus-id\tscore\nmy query\ta doc\t1\n")
    assert plain(read_qrels(beir)) == [("my query", "a doc", 1.0)]
    trec = write(tmp_path / "a.txt", "q\u00a01 0 d\u3000\u0085x 1\n")
    assert plain(read_qrels(trec)) == [("q\u00a01", "d\u3000\u0085x", 1.0)]


def test_four_columns_with_tabs_are_trec_whatever_the_ending(tmp_path: Path) -> None:
    assert plain(read_qrels(write(tmp_path / "qrels.dev.tsv", "7\t0\td\t1\n"))) == [("7", "d", 1.0)]


def test_a_real_file_against_a_slow_reading(shared: Shared) -> None:
    path = shared("data/trec_robust03/qrels.txt.gz")
    with gzip.open(path, "rt") as file:
        rows = [line.split() for line in file]
    found = read_qrels(path)
    assert plain(found) == [(query, item, float(grade)) for query, _, item, grade in rows]
    assert Counter(found.grades.tolist()) == {0.0: 122722, 1.0: 5667, 2.0: 407}
    assert len(set(found.queries)) == 100


def test_comments_of_trec_eval(shared: Shared) -> None:
    found = read_qrels(shared("data/trec_eval_golden/qrels.test.with-comments"))
    without = read_qrels(shared("data/trec_eval_golden/qrels.test"))
    spelt = {"CR93E-1860": "CR#93E-1860"}
    assert plain(found) == [(query, spelt.get(item, item), grade) for query, item, grade in plain(without)]
    assert found.warnings == ("3 lines of qrels.test.with-comments begin with # and were taken as comments.",)
    ids_with_a_sign = read_qrels(shared("data/trec_eval_golden/qrels.comment.test"))
    assert ids_with_a_sign.items[0] == "msmarco_v2.1_doc_00_880019750#4_1633802806"


def test_a_pair_given_twice(tmp_path: Path) -> None:
    found = read_qrels(write(tmp_path / "j.txt", "q 0 d 1\nq 0 e 1\nq 1 d 1.0\n"))
    assert plain(found) == [("q", "d", 1.0), ("q", "e", 1.0)]
    assert found.warnings == ("1 judgements of j.txt repeat a pair with the same grade; each pair counts once.",)


def test_nothing_relevant_is_said(tmp_path: Path) -> None:
    found = read_qrels(write(tmp_path / "j.txt", "q 0 d 0\nq 0 e -2\n"))
    assert found.warnings == ("No grade in j.txt is above 0, so no item is relevant to any query.",)


# --- what is refused -------------------------------------------------------------------------------------------------

REFUSED = {
    "three.txt": (b"q 0 d 1\nq d 1\n", "three.txt line 2 has 3 fields; TREC qrels have four: query iter item grade"),
    "run.txt": (b"\nq Q0 d 1 0.5 me\n", "run.txt line 2 has 6 fields; six are a ranked list .* dataset=run:FILE"),
    "five.txt": (b"q 0 d 1 x\n", "five.txt line 1 has 5 fields; judgements are TREC qrels"),
    "words.txt": (b"q 0 d good\n", "words.txt line 1: the grade is 'good', which is no finite number; 0 and below"),
    "nan.txt": (b"q 0 d 1\nq 0 e nan\n", "nan.txt line 2: the grade is 'nan'"),
    "inf.txt": (b"q 0 d -inf\n", "inf.txt line 1: the grade is '-inf'"),
    "under.txt": (b"q 0 d 1_0\n", "under.txt line 1: the grade is '1_0'"),
    "twice.txt": (b"q 0 d 1\nq 0 e 1\nq 0 d 2\n", "twice.txt line 3: query 'q' and item 'd' are judged twice"),
    "empty.txt": (b"", "empty.txt holds no judgement; judgements are TREC qrels"),
    "blank.txt": (b"\n \n\n", "blank.txt holds no judgement"),
    "latin.txt": (b"q 0 B\xe4r 1\n", "latin.txt line 1 is not UTF-8 text .* save the file as UTF-8"),
    "wide.txt": ("q 0 d 1\n".encode("utf-16"), "wide.txt line 1"),
    "head.tsv": (b"query-id\tcorpus-id\tscore\n", "head.tsv holds no judgement"),
    "two.tsv": (b"query-id\tcorpus-id\tscore\nq\td\n", "two.tsv line 2 has 2 fields between tabs; a BEIR table has"),
    "hole.tsv": (b"query-id\tcorpus-id\tscore\nq\t\t1\n", "hole.tsv line 2 has 2 fields between tabs"),
    "comma.txt": (b"query,item,grade\nq,d,1\n", "comma.txt line 1 has 1 fields; judgements are"),
    "long.txt": (b"x" * 2_000_000, "long.txt line 1 is longer than 65,536 bytes"),
    "cut.gz": (gzip.compress(b"q 0 d 1\n" * 50_000)[:-30], "cut.gz cannot be unpacked after line .*; copy it again"),
    "bad.gz": (gzip.compress(b"q 0 d 1\n" * 50)[:20] + b"\xff" * 30, "bad.gz cannot be unpacked after line 0"),
    "miss.csv": (b"query,doc,grade\nq,d,1\n", "miss.csv needs a column 'item'"),
    "grade.csv": (b"query,item,grade\nq,d,1\nq,e,\n", "grade.csv row 2: the grade is '', which is no finite number"),
    "bool.jsonl": (b'{"query": "q", "item": "d", "grade": true}\n', "bool.jsonl row 1: the grade is 'True'"),
    "list.jsonl": (b'{"query": "q", "item": "d", "grade": [1]}\n', r"list.jsonl row 1: the grade is '\[1\]'"),
    "rows.csv": (b"query,item,grade\n", "rows.csv holds no rows"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_file_line_and_advice(tmp_path: Path, name: str) -> None:
    content, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        read_qrels(write(tmp_path / name, content))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.txt", tmp_path, tmp_path / "nothing.csv"):
        with pytest.raises(FileNotFoundError, match=path.name):
            read_qrels(path)


def test_an_archive_that_unfolds_without_end_is_left_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "bomb.gz", gzip.compress(b"q 0 d 1\n" * 500_000))
    assert path.stat().st_size < 10_000
    assert len(read_qrels(path)) == 1
    monkeypatch.setattr(module, "LARGEST", 2**21)
    with pytest.raises(ValueError, match=r"bomb.gz holds more than 2 MiB of text; cut it into several files"):
        read_qrels(path)


# --- matched with data -----------------------------------------------------------------------------------------------


def test_ids_are_matched_as_spelt_and_else_decoded() -> None:
    known = {"a", "b c", "50%25", "50%", "Bär/1"}
    assert match_ids(["a", "b%20c", "50%25", quote("Bär/1", safe="")], known) == {
        "a": "a", "b%20c": "b c", "50%25": "50%25", "B%C3%A4r%2F1": "Bär/1"
    }  # fmt: skip
    assert match_ids(["b c", "b%20c"], known) == {"b c": "b c"}  # two names never mean one item
    assert match_ids(["b%20c", "%62%20c"], known) == {"b%20c": "b c"}
    assert match_ids(["%zz", "100%", "%ff"], known) == {}


def test_judgements_take_the_place_of_the_relevance(tmp_path: Path) -> None:
    given = collection()
    path = write(tmp_path / "j.txt", "t1 0 b%20c 2\nt1 0 a 0\nt%202 0 50%25 -1\nt%202 0 x%2Fy 0\n")
    found = judged_by(given, read_qrels(path))
    dense = np.full((3, 4), np.nan)
    for query in range(3):
        items, grades = found.relevance.row(query)
        dense[query, items] = grades
    expected = [[0, 2, np.nan, np.nan], [np.nan, np.nan, -1, 0], [np.nan] * 4]
    np.testing.assert_array_equal(dense, expected)
    np.testing.assert_array_equal(found.text_image, given.text_image)
    assert found.notes == (
        "Before.",
        "Of 3 queries j.txt leaves 1 without a judgement and 1 without a relevant item among the judged: "
        "they are in no mean.",
    )
    assert given.relevance.n_positives == 3
    assert (found.images, found.texts, found.card) == (given.images, given.texts, given.card)


def test_complete_judgements_leave_no_note_and_repairs_leave_theirs(tmp_path: Path) -> None:
    complete = "t1 0 a 1\nt%202 0 a 1\nt3 0 a 1\n"
    assert judged_by(collection(), read_qrels(write(tmp_path / "j.txt", complete))).notes == ("Before.",)
    twice = read_qrels(write(tmp_path / "twice.txt", complete + "t1 0 a 1\n"))
    assert "repeat a pair" in judged_by(collection(), twice).notes[1]


def test_a_table_may_spell_ids_plainly(tmp_path: Path) -> None:
    found = judged_by(collection(), read_qrels(write(tmp_path / "j.csv", "query,item,grade\nt 2,b c,1\nt3,50%25,1\n")))
    assert found.relevance.positives_per_query.tolist() == [0, 1, 1]
    assert found.relevance.items.tolist() == [1, 2]


def test_unknown_ids_are_counted_and_shown(tmp_path: Path) -> None:
    path = write(tmp_path / "j.txt", "t1 0 a 1\nt1 0 u1 1\nt1 0 u2 1\nt1 0 u3 1\nt1 0 u4 1\n")
    expected = (
        "4 of 5 items in j.txt are not in 'ours', the first are ['u1', 'u2', 'u3']; the image ids look like "
        "['a', 'b c', '50%25']"
    )
    with pytest.raises(ValueError) as raised:
        judged_by(collection(), read_qrels(path))
    assert str(raised.value) == expected
    with pytest.raises(ValueError, match=r"1 of 2 queries in k.txt are not in 'ours', the first are \['t9'\]"):
        judged_by(collection(), read_qrels(write(tmp_path / "k.txt", "t1 0 a 1\nt9 0 a 1\n")))


def test_exchanged_columns_have_their_own_hint(tmp_path: Path) -> None:
    path = write(tmp_path / "j.txt", "a 0 t1 1\nb%20c 0 t%202 1\nnone 0 t3 1\n")
    with pytest.raises(ValueError, match=r"3 of 3 queries .* are exchanged in the file: swap the two columns"):
        judged_by(collection(), read_qrels(path))
    with pytest.raises(ValueError, match="2 of 2 queries") as raised:  # items on both sides are not an exchange
        judged_by(collection(), read_qrels(write(tmp_path / "k.txt", "a 0 a 1\nb%20c 0 a 1\n")))
    assert "exchanged" not in str(raised.value)


def test_very_long_ids_do_not_flood_the_message(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as raised:
        judged_by(collection(), read_qrels(write(tmp_path / "j.txt", f"t1 0 {'x' * 50_000} 1\n")))
    assert len(str(raised.value)) < 400


def test_one_query_and_one_item(tmp_path: Path) -> None:
    one = replace(
        collection(), images=Side("image", ("a",)), texts=Side("text", ("t1",)), text_image=np.array([-1]),
        relevance=Relevance.from_pairs([], [], n_queries=1, n_gallery=1),
    )  # fmt: skip
    found = judged_by(one, read_qrels(write(tmp_path / "j.txt", "t1 0 a 3")))
    assert found.relevance.row(0)[1].tolist() == [3.0]


def test_through_the_door(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "v.npz", image=np.eye(3), text=np.eye(3)[[0, 1, 2, 0]], text_image=np.array([0, 1, 2, 0]),
        image_id=["i1", "i2", "i3"], text_id=["c1", "c2", "c3", "c4"],
    )  # fmt: skip
    path = write(tmp_path / "j.csv", "query,item,grade\nc1,i2,1\nc4,i3,2\n")
    found = load(f"embeddings:{tmp_path / 'v.npz'}", qrels=str(path))
    assert found.relevance.positives_per_query.tolist() == [1, 0, 0, 1]
    assert found.text_image.tolist() == [0, 1, 2, 0]
    assert found.notes == ("Of 4 queries j.csv leaves 2 without a judgement: they are in no mean.",)
