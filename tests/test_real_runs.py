"""Real published runs: printed cells from per-query hits, what can be told apart, and lists of unlike length."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from workbench.diagnostics.rank_agreement import rank_agreement
from workbench.metrics import per_query, ranks_from_lists
from workbench.statistics import RankSets, holm, paired_difference, rank_sets
from workbench.types import RankedLists, Relevance

Shared = Callable[[str], Path]
MODELS = [
    "ctrl_lxmert", "ctrl_muniter", "ctrl_uniter", "ctrl_vilbert", "ctrl_visualbert", "ctrl_vl-bert", "ctrl_xuniter",
    "m3p", "uc2",
]  # fmt: skip
LANGUAGES = ["en", "de_mt", "es_mt", "id_mt", "ja_mt", "ru_mt", "tr_mt", "zh_mt"]


# ---- nine models in eight languages: E. Bugliarello et al., "IGLUE", ICML 2022 --------------------------------------


@pytest.fixture(scope="module")
def iglue(request: pytest.FixtureRequest) -> Path:
    locate: Shared = request.getfixturevalue("shared")
    return locate("data/iglue_real_ranks")


@pytest.fixture(scope="module")
def hits(iglue: Path) -> dict[str, np.ndarray]:
    """Per-query hits by ``xflickrco/model/language/hit1``; 2,000 captions of 2,000 images."""
    with np.load(iglue / "hits.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def test_every_printed_cell_follows_from_its_per_query_hits(iglue: Path, hits: dict[str, np.ndarray]) -> None:
    """100 runs, three cells each, to the printed hundredth of a per cent."""
    printed = json.loads((iglue / "printed_tables.json").read_text(encoding="utf-8"))
    cells = 0
    for run in printed:
        for k in (1, 5, 10):
            found = hits[f"{run['dataset']}/{run['model']}/{run['lang']}/hit{k}"]
            assert found.shape == (run["n"],)
            assert 100 * found.mean() == pytest.approx(run["image_retrieval"][f"R{k}"], abs=1e-9), (run, k)
            cells += 1
    assert cells == 300


def test_hits_are_nested(hits: dict[str, np.ndarray]) -> None:
    for name in {name.rpartition("/")[0] for name in hits}:
        one, five, ten = (hits[f"{name}/hit{k}"] for k in (1, 5, 10))
        assert (one <= five).all()
        assert (five <= ten).all()


@pytest.mark.parametrize("name", ["ir_0", "ir_0.mt"])
def test_the_tables_of_the_paper_follow_too(iglue: Path, hits: dict[str, np.ndarray], name: str) -> None:
    header, *rows = (line.split(",") for line in (iglue / f"paper_xFlickrCO_{name}.csv").read_text().split())
    suffix = "_mt" if name.endswith("mt") else ""
    for model, *cells in rows:
        for language, cell in zip(header[1:-1], cells, strict=False):
            key = f"xflickrco/{model}/{language if language == 'en' else language + suffix}/hit1"
            assert 100 * hits[key].mean() == pytest.approx(float(cell), abs=1e-9)


def places(found: RankSets) -> dict[str, tuple[int, int]]:
    return {model: (int(low), int(high)) for model, low, high in zip(MODELS, found.low, found.high, strict=True)}


def test_what_can_be_told_apart_in_each_language(hits: dict[str, np.ndarray]) -> None:
    """Of 36 pairs of models 13 to 25 are shown to differ in a language, at 95 % for all pairs of it at once.

    In every language M3P is last and nobody else may be; muniter, uniter and visualbert may all be first, and no
    language names a single best model. Indonesian separates fewest, Japanese most.
    """
    separated, first = {}, {}
    for language in LANGUAGES:
        table = np.array([hits[f"xflickrco/{model}/{language}/hit1"] for model in MODELS], float)
        found = rank_sets(table, range(2000))
        order = found.values[:, None] > found.values
        assert not (found.beats & ~order).any()
        separated[language] = int(found.beats.sum())
        held = places(found)
        assert held["m3p"] == (9, 9)
        assert [model for model, (_, high) in held.items() if high == 9] == ["m3p"]
        first[language] = {model for model, (low, _) in held.items() if low == 1}
        assert {"ctrl_muniter", "ctrl_uniter", "ctrl_visualbert"} <= first[language]
    assert separated == {
        "en": 22, "de_mt": 22, "es_mt": 22, "id_mt": 13, "ja_mt": 25, "ru_mt": 23, "tr_mt": 21, "zh_mt": 19
    }  # fmt: skip
    assert min(map(len, first.values())) == 3


def test_all_languages_together_make_groups_but_no_single_winner(hits: dict[str, np.ndarray]) -> None:
    """The eight translations of a caption are one cluster: 16,000 hits, 2,000 clusters. 28 of 36 pairs are separable:
    {visualbert, muniter, uniter} before {vl-bert, vilbert, xuniter, uc2, lxmert}, m3p last."""
    table = np.array([[hits[f"xflickrco/{m}/{lang}/hit1"] for lang in LANGUAGES] for m in MODELS], float)
    found = rank_sets(table.reshape(9, -1), np.tile(np.arange(2000), 8))
    assert (found.n, found.n_clusters) == (16000, 2000)
    assert int(found.beats.sum()) == 28
    assert places(found) == {
        "ctrl_visualbert": (1, 3), "ctrl_muniter": (1, 3), "ctrl_uniter": (1, 3), "ctrl_vl-bert": (4, 5),
        "ctrl_vilbert": (4, 7), "ctrl_xuniter": (5, 7), "uc2": (5, 8), "ctrl_lxmert": (7, 8), "m3p": (9, 9),
    }  # fmt: skip


def test_rank_sets_agree_with_pairs_tested_one_by_one(hits: dict[str, np.ndarray]) -> None:
    """The simultaneous test never separates a pair that its own paired test would not, and loses few pairs."""
    table = np.array([hits[f"xflickrco/{model}/en/hit1"] for model in MODELS], float)
    found = rank_sets(table, range(2000))
    pairs = list(itertools.combinations(range(9), 2))
    p = np.array([
        paired_difference(table[i], table[j], range(2000), n_resamples=100, n_permutations=4999).p_value
        for i, j in pairs
    ])  # fmt: skip
    together = np.array([found.beats[i, j] or found.beats[j, i] for i, j in pairs])
    assert p[together].max() < 0.05
    assert abs(int((holm(p) < 0.05).sum()) - int(together.sum())) <= 2


# ---- nine runs of the TREC 2003 Robust track ------------------------------------------------------------------------

Runs = tuple[Relevance, dict[str, RankedLists]]


def words(path: Path, width: int) -> list[list[str]]:
    """The columns of a gzipped file of so many words a line."""
    found = gzip.decompress(path.read_bytes()).decode().split()
    return [found[i::width] for i in range(width)]


@pytest.fixture(scope="module")
def trec(request: pytest.FixtureRequest) -> Runs:
    locate: Shared = request.getfixturevalue("shared")
    folder = locate("data/trec_robust03")
    topic, _, judged, grade = words(folder / "qrels.txt.gz", 4)
    tables = {path.name.split(".")[1]: words(path, 6) for path in sorted((folder / "runs").glob("input.*.gz"))}
    number: dict[str, int] = {}
    for name in itertools.chain(judged, *(table[2] for table in tables.values())):
        number.setdefault(name, len(number))
    topics = {name: i for i, name in enumerate(dict.fromkeys(topic))}
    runs = {}
    for name, table in tables.items():
        query, item = np.array([topics[t] for t in table[0]]), np.array([number[d] for d in table[2]])
        scores = np.array(table[4], float)
        order = np.lexsort((-scores, query))
        indptr = np.concatenate([[0], np.cumsum(np.bincount(query, minlength=len(topics)))])
        runs[name] = RankedLists(indptr, item[order], scores[order], len(number))
    pairs = [topics[t] for t in topic], [number[d] for d in judged], np.array(grade, float)
    return Relevance.from_pairs(*pairs, n_queries=len(topics), n_gallery=len(number)), runs


def score(trec: Runs, name: str, metric: str, **how: str) -> np.ndarray:
    return per_query(metric, ranks_from_lists(trec[1][name], trec[0]), **how).expected  # type: ignore[arg-type]


def test_nine_runs_compared_on_the_depth_that_all_have(trec: Runs) -> None:
    """nDCG@10 on 100 topics needs ten documents, which all have. 16 of 36 pairs are separable: rutcor03100 is last,
    humR03dc before it, and the other seven, the one of ten documents among them, cannot be put in order: the two best
    differ by 0.010, where 100 topics would show 0.063.
    """
    depths = {name: (int(lists.depths.min()), int(lists.depths.max())) for name, lists in trec[1].items()}
    assert len(depths) == 9
    assert depths.pop("NLPR03vb10") == (10, 12)
    assert depths.pop("humR03dc") == (100, 100)
    assert set(depths.values()) == {(1000, 1000)}
    names = list(trec[1])
    table = np.array([score(trec, name, "nDCG@10") for name in names])
    assert table.shape == (9, 100)
    assert not np.isnan(table).any()
    found = rank_sets(table, range(100))
    held = {name: (int(low), int(high)) for name, low, high in zip(names, found.low, found.high, strict=True)}
    assert held["rutcor03100"] == (9, 9)
    assert held["humR03dc"] == (8, 8)
    assert all(
        low <= 2 and 6 <= high <= 7 for name, (low, high) in held.items() if name not in ("rutcor03100", "humR03dc")
    )
    assert int(found.beats.sum()) == 16
    first = paired_difference(table[names.index("uwmtCR0")], table[names.index("pircRBa1")], range(100))
    assert 0 < first.value < first.minimum_detectable
    assert first.low < 0 < first.high


def test_a_depth_that_a_run_does_not_have_is_refused(trec: Runs) -> None:
    for name, metric, short in (("NLPR03vb10", "nDCG@20", 10), ("humR03dc", "AP@1000", 100), ("humR03dc", "AP", 100)):
        with pytest.raises(ValueError, match=rf"more than its list of {short} items .* 100 of 100 queries") as error:
            score(trec, name, metric)
        assert "short_lists='as is'" in str(error.value)
    assert not np.isnan(score(trec, "humR03dc", "nDCG@100")).any()
    with pytest.raises(ValueError, match="complete rankings"):
        score(trec, "humR03dc", "MedR", short_lists="as is")


def test_a_single_ragged_list_is_refused_and_named(trec: Runs) -> None:
    """997 of 1,000 documents for one topic: that topic is named; for another with none at all likewise."""
    relevance, runs = trec
    whole = runs["pircRBa1"]
    for topic, length in ((7, 997), (8, 0)):
        kept = np.ones(len(whole.items), bool)
        kept[whole.indptr[topic] + length : whole.indptr[topic + 1]] = False
        depths = whole.depths.copy()
        depths[topic] = length
        indptr = np.concatenate([[0], np.cumsum(depths)])
        ragged = RankedLists(indptr, whole.items[kept], whole.scores[kept], whole.n_gallery)
        ranks = ranks_from_lists(ragged, relevance)
        with pytest.raises(ValueError, match=rf"list of {length} items \(query {topic}; 1 of 100 queries"):
            per_query("AP@1000", ranks)
        as_is = per_query("AP@1000", ranks, short_lists="as is").expected
        np.testing.assert_array_equal(np.delete(as_is, topic), np.delete(score(trec, "pircRBa1", "AP@1000"), topic))
        assert as_is[topic] <= score(trec, "pircRBa1", "AP@1000")[topic]


def test_short_lists_taken_as_they_are_can_only_lose(trec: Runs) -> None:
    """A run cut at ten documents and scored as it is: what it does not list counts as not found, never as right."""
    relevance, runs = trec
    cut = ranks_from_lists(runs["pircRBa1"].shortened(10), relevance)
    whole = score(trec, "pircRBa1", "AP@1000")
    short = per_query("AP@1000", cut, short_lists="as is").expected
    assert (short <= whole + 1e-12).all()
    assert short.mean() < 0.6 * whole.mean()
    np.testing.assert_allclose(per_query("nDCG@10", cut).expected, score(trec, "pircRBa1", "nDCG@10"))


def test_runs_of_unlike_length_agree_where_they_can_be_compared(trec: Runs) -> None:
    """Agreement of the first ten, and of lists of 10 and 100: bounds say how much is not known."""
    runs = trec[1]
    same = rank_agreement(runs["humR03dc"], runs["humR03dc"])
    assert same.identical.all()
    assert set(same.rbo) == set(same.overlap) == {1.0}
    short, long = runs["NLPR03vb10"], runs["humR03dc"]
    found = rank_agreement(short, long)
    assert (found.rbo_low <= found.rbo + 1e-12).all()
    assert (found.rbo <= found.rbo_high + 1e-12).all()
    at_ten = rank_agreement(short, long.shortened(10))
    assert (at_ten.residual >= found.residual - 1e-12).all(), "a longer list leaves less unknown"
    near = rank_agreement(runs["pircRBa1"].shortened(10), runs["uwmtCR0"].shortened(10))
    far = rank_agreement(runs["pircRBa1"].shortened(10), runs["rutcor03100"].shortened(10))
    assert near.rbo.mean() == pytest.approx(0.385, abs=5e-4)
    assert far.rbo.mean() == pytest.approx(0.080, abs=5e-4)
    assert near.tau_ap.mean() > far.tau_ap.mean() + 0.5
