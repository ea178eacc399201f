"""The judging session: blind, resumable, one file that other tools read, and nothing from a caption becomes markup."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from workbench.datasets import Collection, Side
from workbench.datasets.collection import Card
from workbench.datasets.qrels import judged_by, read_qrels
from workbench.datasets.scenes import scenes, truth
from workbench.judging import JudgingSession, estimate_from_judged, pool, read_judged
from workbench.metrics import per_query, ranks_from_lists
from workbench.types import RankedLists, Relevance

K, SEED = 5, 0


def lists_for(collection: Collection, *, swapped: bool = False) -> RankedLists:
    """A mediocre system: the truth and much noise."""
    relevance = truth(collection).T if swapped else truth(collection)
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(relevance.n_queries, relevance.n_gallery))
    scores[relevance.queries, relevance.items] += 1.5
    order = np.argsort(-scores, axis=1)[:, :8]
    indptr = np.arange(relevance.n_queries + 1) * 8
    return RankedLists(indptr, order.ravel(), np.take_along_axis(scores, order, 1).ravel(), relevance.n_gallery)


@pytest.fixture(scope="module")
def world() -> Collection:
    return scenes(n_images=40, captions_per_image=3, size=32, labels="own")


@pytest.fixture(scope="module")
def made(world):
    ids = {"query_ids": world.texts.ids, "item_ids": world.images.ids}
    return pool(lists_for(world), world.relevance, f"hit@{K}", **ids)


@pytest.fixture(scope="module")
def backwards(world):
    ids = {"query_ids": world.images.ids, "item_ids": world.texts.ids, "direction": "i2t"}
    return pool(lists_for(world, swapped=True), world.relevance.T, f"P@{K}", **ids)


def shown_items(session: JudgingSession) -> list[int]:
    session.show()
    return session._batch(session._next())[0].tolist()


def right_answer(session: JudgingSession, complete: Relevance) -> str:
    query, items = session._next(), shown_items(session)
    return " ".join(str(n) for n, item in enumerate(items, start=1) if item in complete.row(query)[0])


def judge(session: JudgingSession, complete: Relevance, n: int) -> None:
    for _ in range(n):
        session.mark(right_answer(session, complete), batch=session.n_done + 1)


def test_a_session_to_the_end_gives_the_score_under_complete_labels(tmp_path, world, made) -> None:
    path = tmp_path / "judge-a.qrels.tsv"
    session = JudgingSession.open(path, made, world, n_queries=made.n_open)
    judge(session, truth(world), made.n_open)
    assert session.n_left == 0
    assert "is complete" in repr(session.show())
    with pytest.raises(ValueError, match="queries are judged or skipped; open"):
        session.mark("")
    found = estimate_from_judged(
        lists_for(world), world.relevance, read_judged(path), f"hit@{K}", query_ids=world.texts.ids,
        item_ids=world.images.ids,
    )  # fmt: skip
    values = per_query(f"hit@{K}", ranks_from_lists(lists_for(world), truth(world))).expected
    labelled = world.relevance.positives_per_query > 0
    assert found.value == pytest.approx(values[labelled].mean(), abs=1e-12)
    assert found.value > found.as_labelled + 0.05


def test_the_file_is_qrels_for_everybody(tmp_path, world, made) -> None:
    path = tmp_path / "a.tsv"
    session = JudgingSession.open(path, made, world, n_queries=12)
    judge(session, truth(world), 5)
    session.skip(batch=6)
    read = read_qrels(path)
    complete = {(q, i) for q, i in zip(truth(world).queries, truth(world).items, strict=True)}
    rows, columns = ({name: n for n, name in enumerate(side.ids)} for side in (world.texts, world.images))
    assert len(read) == len(session.judged.judgements()) == 5 * K
    for query, item, grade in zip(read.queries, read.items, read.grades, strict=True):
        assert (grade > 0) == ((rows[query], columns[item]) in complete)
    assert judged_by(world, read).relevance.n_positives == (read.grades > 0).sum()
    assert read_judged(path).skipped == (session.judged.entries[5].query,)


def test_a_session_goes_on_where_it_stopped(tmp_path, world, made) -> None:
    one = JudgingSession.open(tmp_path / "one.tsv", made, world, n_queries=20)
    judge(one, truth(world), 20)
    broken = tmp_path / "two.tsv"
    for n in (3, 9, 8):
        judge(JudgingSession.open(broken, made, world, n_queries=20), truth(world), n)
    again = read_judged(broken)
    assert {entry.query for entry in again.entries} == {entry.query for entry in one.judged.entries}
    assert [entry.query for entry in again.entries] != [entry.query for entry in one.judged.entries]
    assert {entry.query: dict(entry.pairs) for entry in again.entries} == {
        entry.query: dict(entry.pairs) for entry in one.judged.entries
    }
    assert JudgingSession.open(broken, made, world).n_left == 0
    longer = JudgingSession.open(broken, made, world, n_queries=25)
    assert longer.n_left == 5
    judge(longer, truth(world), 5)
    queries = {made.query_ids[row] for row in made.drawn(25, seed=SEED)}
    assert {entry.query for entry in read_judged(broken).entries} == queries
    assert read_judged(broken).design.n_queries == 25


def test_what_belongs_to_something_else_is_refused(tmp_path, world, made, backwards) -> None:
    path = tmp_path / "a.tsv"
    judge(JudgingSession.open(path, made, world, n_queries=10), truth(world), 2)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="belongs to another pool"):
        JudgingSession.open(path, replace(made, metric="hit@4"), world)
    with pytest.raises(ValueError, match="begun with seed=0"):
        JudgingSession.open(path, made, world, seed=1)
    with pytest.raises(ValueError, match="controls"):
        JudgingSession.open(path, made, world, controls=0.5)
    with pytest.raises(ValueError, match="is fewer"):
        JudgingSession.open(path, made, world, n_queries=5)
    with pytest.raises(ValueError, match="is the direction right"):
        JudgingSession.open(tmp_path / "b.tsv", replace(made, direction="i2t"), world)
    with pytest.raises(ValueError, match="nothing to look at"):
        JudgingSession.open(tmp_path / "b.tsv", made, replace(world, images=Side("image", world.images.ids)))
    with pytest.raises(ValueError, match="n_queries must lie in"):
        JudgingSession.open(tmp_path / "b.tsv", made, world, n_queries=made.n_open + 1)
    with pytest.raises(ValueError, match="nothing to judge"):
        JudgingSession.open(tmp_path / "b.tsv", replace(made, strata=np.full(len(made.strata), -1)), world)
    with pytest.raises(ValueError, match="qrels, not a table"):
        JudgingSession.open(tmp_path / "b.csv", made, world)
    other = tmp_path / "other.qrels"
    other.write_text("q 0 i 1\n")
    with pytest.raises(ValueError, match="not a judging session's file"):
        JudgingSession.open(other, made, world)
    assert other.read_text() == "q 0 i 1\n"
    assert path.read_bytes() == before
    assert not (tmp_path / "b.tsv").exists()


def test_answers_that_do_not_fit_change_nothing(tmp_path, world, made) -> None:
    path = tmp_path / "a.tsv"
    session = JudgingSession.open(path, made, world, n_queries=10)
    with pytest.raises(ValueError, match="nothing has been shown"):
        session.mark("1")
    session.show()
    before = path.read_bytes()
    for wrong, words in (("6", "1 to 5 are shown"), ("0", "1 to 5"), ("a", "numbers of what is right"), ("-1", "numb")):
        with pytest.raises(ValueError, match=words):
            session.mark(wrong)
    with pytest.raises(ValueError, match="not the next one"):
        session.mark("1", batch=3)
    with pytest.raises(ValueError, match="nothing to take back"):
        session.undo()
    assert path.read_bytes() == before
    assert session.mark("2, 5") is session
    assert [grade for _, grade in session.judged.entries[0].pairs.values()] == [0, 1, 0, 0, 1]
    with pytest.raises(ValueError, match="nothing has been shown"):
        session.mark("1")


def test_a_notebook_can_be_run_again(tmp_path, world, made) -> None:
    def cells() -> bytes:
        session = JudgingSession.open(tmp_path / "a.tsv", made, world, n_queries=10)
        session._repr_html_()
        session.mark("2 5", batch=1)._repr_html_()
        session.mark("", batch=2)._repr_html_()
        session.skip(batch=3)._repr_html_()
        return (tmp_path / "a.tsv").read_bytes()

    assert cells() == cells() == cells()
    session = JudgingSession.open(tmp_path / "a.tsv", made, world)
    assert session.n_done == 3
    with pytest.raises(ValueError, match="2 5 right"):
        session.mark("2", batch=1)
    with pytest.raises(ValueError, match="skipped"):
        session.mark("", batch=3)
    with pytest.raises(ValueError, match="judged already"):
        session.skip(batch=1)


def test_undo_takes_back_the_last_answer_and_shows_the_same_query(tmp_path, world, made) -> None:
    session = JudgingSession.open(tmp_path / "a.tsv", made, world, n_queries=10)
    first = session.show().body
    session.mark("1").undo()
    assert session.show().body == first
    session.mark("1", batch=1)
    session.show()
    session.undo().mark("1", batch=1)
    with pytest.raises(ValueError, match="nothing has been shown"):
        session.mark("1")
    reopened = JudgingSession.open(tmp_path / "a.tsv", made, world)
    reopened.undo()
    assert reopened.show().body == first
    assert not read_judged(tmp_path / "a.tsv").entries


def test_two_sessions_cannot_overwrite_each_other(tmp_path, world, made) -> None:
    path = tmp_path / "a.tsv"
    one, two = (JudgingSession.open(path, made, world, n_queries=10) for _ in range(2))
    judge(one, truth(world), 1)
    with pytest.raises(ValueError, match="changed or removed by another session"):
        two.mark("", batch=1)
    path.unlink()
    with pytest.raises(ValueError, match="changed or removed"):
        one.mark("", batch=2)


# blind


def test_nothing_that_is_shown_tells_system_rank_id_or_label(tmp_path, world, made, backwards) -> None:
    for which, name in ((made, "a.tsv"), (backwards, "b.tsv")):
        session = JudgingSession.open(tmp_path / name, which, world, controls=1.0, n_queries=8)
        for _ in range(8):
            display = session.show()
            words = re.sub(r'src="[^"]*"', "", display.body) + display.text
            for told in (*world.images.ids, *world.texts.ids, "rank", "score", "wb-right", "wb-wrong", "label", "✓"):
                assert told not in words
            session.mark("")


def test_the_order_shown_tells_nothing_of_the_rank(tmp_path, world, made) -> None:
    lists, places = lists_for(world), []
    for name in range(6):
        session = JudgingSession.open(tmp_path / f"{name}.tsv", made, world, n_queries=made.n_open)
        for query in session._order:
            items = session._batch(query)[0].tolist()
            ranks = {item: rank for rank, item in enumerate(lists.row(query)[0].tolist())}
            places += [(place, ranks[item]) for place, item in enumerate(items)]
    place, rank = np.array(places).T
    assert len(places) > 800
    assert abs(np.corrcoef(place, rank)[0, 1]) < 3.5 / np.sqrt(len(places))
    counts = np.zeros((K, K))
    np.add.at(counts, (place, rank), 1)
    assert counts.min() > 0.6 * counts.mean()


def test_the_order_of_queries_tells_nothing_of_their_stratum(tmp_path, world, backwards) -> None:
    early = []
    for seed in range(40):
        session = JudgingSession.open(tmp_path / f"{seed}.tsv", backwards, world, seed=seed, n_queries=16)
        strata = backwards.strata[session._order]
        early.append((strata[:8] == 1).mean() - (strata[8:] == 1).mean())
    assert len(set(backwards.strata) - {-1}) == 2
    assert abs(np.mean(early)) < 3.5 * np.std(early) / np.sqrt(40) + 1e-9


def test_two_judges_see_the_same_queries_in_their_own_order(tmp_path, world, made) -> None:
    a, b = (JudgingSession.open(tmp_path / f"{name}.tsv", made, world, n_queries=15) for name in "ab")
    assert sorted(a._order) == sorted(b._order)
    assert a._order != b._order
    both = [[session._batch(query)[0].tolist() for query in sorted(a._order)] for session in (a, b)]
    assert both[0] != both[1]
    assert [sorted(items) for items in both[0]] == [sorted(items) for items in both[1]]


def test_controls_measure_the_judge_and_stay_out_of_the_estimate(tmp_path, world, made) -> None:
    careful = JudgingSession.open(tmp_path / "a.tsv", made, world, n_queries=20, controls=0.5)
    judge(careful, truth(world), 20)
    careless = JudgingSession.open(tmp_path / "b.tsv", made, world, n_queries=20, controls=0.5)
    while careless.n_left:
        careless.mark("", batch=careless.n_done + 1)
    good, shown = read_judged(tmp_path / "a.tsv").controls()["labelled right"]
    assert good == shown
    assert 4 <= shown <= 16
    assert read_judged(tmp_path / "b.tsv").controls()["labelled right"][0] == 0
    assert f"{good} of {shown} labelled items marked right" in repr(careful.show())
    assert len(careful.judged.judgements()) == 20 * K
    for entry in careful.judged.entries:
        query = world.texts.ids.index(entry.query)
        labelled = {world.images.ids[item] for item in world.relevance.row(query)[0]}
        pooled = {world.images.ids[item] for item in made.row(query)}
        for item, (kind, _) in entry.pairs.items():
            assert (item in labelled) == (kind == 1)
            assert (item in pooled) == (kind == 0)


# untrusted


def test_captions_stay_text_and_odd_ids_survive(tmp_path) -> None:
    nasty = '<script>alert("x")</script><img src=http://evil.example/x.png> $\\href{http://evil}{y}$'
    ids = ("a b", "50%25", "50%", "ä#1", "# skipped a")
    texts = Side("text", ids, [nasty] * 5)
    images = Side("image", ("x y", "%20", "z"), [np.full((20, 20, 3), n * 60, np.uint8) for n in range(3)])
    labels = Relevance.from_pairs(range(5), [0] * 5, n_queries=5, n_gallery=3)
    world = Collection(Card("nasty"), images, texts, labels, np.zeros(5, np.int64))
    lists = [([1, 2], [0.9, 0.5])] * 5
    made = pool(lists, labels, "hit@2", query_ids=ids, item_ids=images.ids)
    session = JudgingSession.open(tmp_path / "a.tsv", made, world)
    for number in range(1, 6):
        body = session._repr_html_()
        assert "<script" not in body
        assert "<img src=http" not in body
        assert "&lt;script&gt;" in body
        assert "mathjax_ignore" in body
        session.mark("1", batch=number)
    again = read_judged(tmp_path / "a.tsv")
    assert {entry.query for entry in again.entries} == set(ids)
    assert {item for entry in again.entries for item in entry.pairs} == {"%20", "z"}
    found = estimate_from_judged(lists, labels, again, "hit@2", query_ids=ids, item_ids=images.ids)
    assert found.value == 1.0
    turned = pool([([0, 1, 2], [3, 2, 1.0])] * 3, labels.T.take(range(3), range(3)), "P@2",
                  query_ids=images.ids, item_ids=ids[:3], direction="i2t", unlabelled="count")  # fmt: skip
    body = JudgingSession.open(tmp_path / "b.tsv", turned, world)._repr_html_()
    assert "<script" not in body
    assert "&lt;script&gt;" in body


def test_pictures_lose_their_metadata(tmp_path, world, made) -> None:
    from PIL import Image

    secret = Image.Exif()
    secret[0x010E] = "SECRET PLACE"
    path = tmp_path / "photo.jpg"
    Image.fromarray(np.full((400, 300, 3), 90, np.uint8)).save(path, exif=secret)
    images = Side("image", world.images.ids, [path] * len(world.images))
    body = JudgingSession.open(tmp_path / "a.tsv", made, replace(world, images=images)).show().body
    pictures = [base64.b64decode(data) for data in re.findall(r"base64,([^\"]+)", body)]
    assert len(pictures) == K
    assert not any(b"SECRET" in picture for picture in pictures)
    assert str(tmp_path) not in body
    assert "photo" not in body


# damaged files


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text.replace('"seed":0', '"seed":'), "damaged"),
        (lambda text: re.sub("# strata .*\n", "", text), "damaged or incomplete"),
        (lambda text: re.sub("# strata .*\n", "# strata 0-Z0\n", text), "damaged or incomplete"),
        (lambda text: text + "q 0 i\n", "expected query, kind"),
        (lambda text: text + "q 0 i x\n", "no finite number"),
        (lambda text: text + "q 0 i 1\nq 0 i 1\n", "judged twice"),
    ],
)
def test_a_damaged_file_is_refused_with_a_reason(tmp_path: Path, world, made, damage, words: str) -> None:
    path = tmp_path / "a.tsv"
    judge(JudgingSession.open(path, made, world, n_queries=10), truth(world), 2)
    path.write_text(damage(path.read_text()))
    with pytest.raises(ValueError, match=words):
        read_judged(path)


def test_a_design_that_lost_a_line_serves_nobody(tmp_path: Path, world, made) -> None:
    path, ids = tmp_path / "a.tsv", {"query_ids": world.texts.ids, "item_ids": world.images.ids}
    judge(JudgingSession.open(path, made, world, n_queries=10), truth(world), 10)
    path.write_text(re.sub("(# strata .{20}).*\n", r"\1\n", path.read_text()))
    with pytest.raises(ValueError, match="belongs to another pool"):
        JudgingSession.open(path, made, world)
    with pytest.raises(ValueError, match=r"drawn from other queries \(20, here 120\)"):
        estimate_from_judged(lists_for(world), world.relevance, read_judged(path), f"hit@{K}", **ids)


def test_qrels_of_other_tools_serve_too(tmp_path, world, made) -> None:
    complete, lines = truth(world), []
    for row in made.drawn(30, seed=4):
        right = set(complete.row(int(row))[0].tolist())
        lines += [
            f"{world.texts.ids[row]}\t0\t{world.images.ids[item]}\t{int(item in right)}" for item in made.row(int(row))
        ]
    path = tmp_path / "theirs.qrels"
    path.write_text("\n".join(lines) + "\n")
    ids = {"query_ids": world.texts.ids, "item_ids": world.images.ids}
    found = estimate_from_judged(lists_for(world), world.relevance, read_judged(path), f"hit@{K}", **ids)
    assert found.mean.n_seen == 30
    assert "taken as a random sample" in found.design
    values = per_query(f"hit@{K}", ranks_from_lists(lists_for(world), complete)).expected
    assert found.mean.low <= values[world.relevance.positives_per_query > 0].mean() <= found.mean.high


def test_a_notebook_runs_without_widgets(tmp_path, world, made) -> None:
    body = JudgingSession.open(tmp_path / "a.tsv", made, world)._repr_html_()
    for forbidden in ("<script", "onclick", "widget", "<button", "<input"):
        assert forbidden not in body
