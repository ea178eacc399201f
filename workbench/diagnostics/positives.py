"""Candidates for missing positives: pairs without a label that several judges find as right as the labelled ones.

Data sets label a few right answers of each query and leave the others unlabelled, so a better system can score worse.
This names the pairs to look at first: a pair on the list is unlabelled and looks right, nothing more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from workbench.datasets.counts import normalized_caption
from workbench.search import pair_scores
from workbench.types import Finding, FloatArray, IntArray, Neighbours, Ranks, Relevance, Verdict

if TYPE_CHECKING:
    import pandas as pd

PairJudge = Callable[[IntArray, IntArray], FloatArray]
"""(queries, items) of n pairs -> (n,) scores, higher is more right, NaN where the judge has no opinion."""
RULES = ("labelled share", "mean rank", "reciprocal rank")
Rule = Literal["labelled share", "mean rank", "reciprocal rank"]
RRF = 60.0
AGREED_SHARE = 0.1
AGREED_SOURCE = (
    "convention of this project: one query in ten; with complete labels an encoder and the captions' words agreed "
    "by mistake in 0 to 5.2 % of the queries of scenes, and in about 30 % where captions say little"
)
_CHUNK = 65_536
MOST_CAPTIONS = 20
_WORD = re.compile(r"[^\W_]+")
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")


@dataclass(frozen=True, eq=False)
class MissingPositives:
    """Unlabelled pairs, most evidence first.

    judges : names, the audited system first. n_labelled : labelled positives they were held against.
    n_pool : unlabelled pairs looked at. n_queries : queries with a labelled positive; of these n_above have an
    unlabelled item above or level with their best labelled one, n_agreed one on which the judges agree.
    query_ids, item_ids, queries, items : the listed pairs. evidence (n_listed, n_judges) : share of the labelled
    positives that the judge scores no higher than the pair, 0 to 1, NaN without an opinion. combined : by ``rule``.
    rank : place in the audited list, 0 beyond it. positive_rank : of the query's best labelled positive, NaN without.
    agreed : the ``independent`` judges can compare the pair with the query's best labelled positive, two of them at
    least, and none of them rates it lower; a list cannot compare two pairs that it does not hold, and rates one that
    it does not hold below all it does. n_compared : pairs that at least two of them can compare.
    """

    what: str
    judges: tuple[str, ...]
    independent: tuple[str, ...]
    rule: str
    k: int
    n_queries: int
    n_labelled: int
    n_pool: int
    n_compared: int
    n_above: int
    n_agreed: int
    query_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    queries: IntArray
    items: IntArray
    evidence: FloatArray
    combined: FloatArray
    rank: IntArray
    positive_rank: FloatArray
    agreed: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def share_agreed(self) -> float:
        """Share of the queries with an unlabelled item that every judge rates at least as high as the labelled one."""
        return self.n_agreed / self.n_queries if self.n_queries else float("nan")

    def table(self) -> pd.DataFrame:
        """The listed pairs, most evidence first: one column per judge."""
        import pandas as pd

        judged = {f"as right as: {name}": self.evidence[:, place] for place, name in enumerate(self.judges)}
        columns = {
            "query": self.query_ids, "item": self.item_ids, "evidence": self.combined, **judged, "place": self.rank,
            "best labelled": self.positive_rank, "all agree": self.agreed,
        }  # fmt: skip
        return pd.DataFrame(columns)

    def plot(self, ax: Any = None) -> Any:
        """How much evidence the listed pairs have, in the eyes of every judge."""
        from workbench.plots import positives

        return positives.candidate_evidence(self, ax)

    def findings(self) -> list[Finding]:
        """One finding: in how many queries all judges prefer an unlabelled item."""
        return [_finding(self)]

    def flat(self) -> dict[str, float]:
        """Counts by ``missing/what_name``."""
        values = {
            "queries": self.n_queries, "pool": self.n_pool, "above": self.n_above, "agreed": self.n_agreed,
            "share_agreed": self.share_agreed,
        }  # fmt: skip
        return {f"missing/{self.what}_{name}": float(value) for name, value in values.items() if np.isfinite(value)}

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False, float_format=lambda value: f"{value:.3f}", na_rep="")


def missing_positives(
    lists: Mapping[str, Neighbours],
    relevance: Relevance,
    ranks: Ranks,
    *,
    judges: Mapping[str, PairJudge] | None = None,
    k: int = 10,
    rule: Rule = "labelled share",
    independent: Sequence[str] = (),
    query_ids: Sequence[str] = (),
    item_ids: Sequence[str] = (),
    max_listed: int = 200,
    what: str = "t2i",
) -> MissingPositives:
    """Name the unlabelled pairs that look most like missing positives.

    Candidates are the unlabelled pairs within the first k of any list, or in the first (audited) list above or level
    with a labelled positive of their query. A pair judged not relevant (a stored grade of 0 or less) is no candidate.
    evidence of a judge = #{labelled positives that it scores no higher than the pair} / #{labelled positives}
    combined, over the judges with an opinion:
      "labelled share"   mean evidence
      "mean rank"        mean of 1 - (rank of the pair's score among all candidates - 1/2) / number of candidates
      "reciprocal rank"  sum of 1 / (60 + rank of the pair's score among all candidates)

    lists : judge -> its lists for the same queries and items, the audited system first. A pair that is not in a list
        counts as that list's last item. relevance, ranks : of the audited system.
    judges : name -> function of (queries, items) that scores any pair; one with the name of a list takes its place
        (:func:`vector_judge`, :func:`caption_judge`). query_ids, item_ids : names for the tables; empty: positions.
    independent : judges whose agreement counts for ``agreed``; empty: all. Leave out what shares its errors with
        another one, such as caption vectors of the audited encoder.
    max_listed : pairs kept, most evidence first, equal ones by query, then item. Memory grows with candidates x judges.
    Raises ValueError when there is no list, shapes disagree, k < 1, or a rule is not known.
    The rules recover nearly alike where the truth is known, and all of them far more than one encoder or random order:
    the default was ahead on hidden CxC positives of 1,000 COCO images (captions as judges; precision at 100), the mean
    rank on hidden ECCV Caption positives, reciprocal rank on hidden pairs of ``scenes``, each by a point or so. Only
    the default reads the same for any number of candidates.
    Reference: S. Chun, W. Kim, S. Park, M. Chang, S. J. Oh, "ECCV Caption: Correcting False Negatives by Collecting
    Machine-and-Human-verified Image-Caption Associations for MS-COCO", ECCV 2022, https://arxiv.org/abs/2204.03359
    (candidates from several models); G. V. Cormack, C. L. A. Clarke, S. Buettcher, "Reciprocal rank fusion outperforms
    Condorcet and individual rank learning methods", SIGIR 2009, https://doi.org/10.1145/1571941.1572114.

    >>> from workbench.search import RankPositives, TopK, scan
    >>> queries, items = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.7]])
    >>> known = Relevance.from_pairs([0, 1], [1, 2], n_queries=2, n_gallery=3)
    >>> nearest, ranks = scan(queries, items, [TopK(2), RankPositives(known)])
    >>> found = missing_positives({"clip": nearest, "copy": nearest}, known, ranks, k=1)
    >>> found.queries, found.items, found.combined, found.agreed
    (array([0]), array([0]), array([1.]), array([ True]))
    """
    _check(lists, relevance, ranks, k, rule)
    queries, items = _pool(lists, relevance, ranks, k)
    opinions = {name: _list_judge(one) for name, one in lists.items()} | dict(judges or {})
    labelled = relevance.positives
    said = np.array([_said(name, judge, queries, items) for name, judge in opinions.items()])
    held = np.array([_said(name, judge, labelled.queries, labelled.items) for name, judge in opinions.items()])
    evidence = np.array([_share_below(of_pool, of_known) for of_pool, of_known in zip(said, held, strict=True)])
    combined = evidence_rule(said, held, rule)
    asked = np.isin(list(opinions), tuple(independent) or list(opinions))
    for row, name in enumerate(opinions):
        if name in lists and name not in (judges or {}):
            said[row] = _in_list(lists[name], queries, items, said[row])
            held[row] = _in_list(lists[name], labelled.queries, labelled.items, held[row])
    agreed, compared = _agreed(said[asked], held[asked], queries, labelled)
    audited = next(iter(lists.values()))
    place = _places(audited, queries, items)
    above = (place > 0) & (place <= _reach(ranks)[queries])
    kept = np.lexsort((items, queries, -combined))[:max_listed]
    return MissingPositives(
        what=what, judges=tuple(opinions), independent=tuple(np.array(list(opinions))[asked].tolist()), rule=rule, k=k,
        n_queries=int((relevance.positives_per_query > 0).sum()), n_labelled=len(labelled.items), n_pool=len(queries),
        n_compared=int((compared > 1).sum()), n_above=len(np.unique(queries[above])),
        n_agreed=len(np.unique(queries[agreed])),
        query_ids=_names(query_ids, queries[kept]), item_ids=_names(item_ids, items[kept]),
        queries=queries[kept], items=items[kept], evidence=evidence[:, kept].T.copy(), combined=combined[kept],
        rank=place[kept], positive_rank=_best_rank(ranks)[queries[kept]], agreed=agreed[kept],
    )  # fmt: skip


def evidence_rule(said: npt.ArrayLike, held: npt.ArrayLike, rule: Rule = "labelled share") -> FloatArray:
    """The opinions of several judges on n candidates as one number each; higher is more evidence.

    said (n_judges, n) : scores of the candidates, held (n_judges, m) : of the labelled positives, NaN for no opinion.
    The rules are those of :func:`missing_positives`. A candidate on which no judge has an opinion gets 0.

    >>> said, held = [[3.0, 1.0, 2.0], [0.0, np.nan, 5.0]], [[2.0, 4.0], [1.0, 6.0]]
    >>> evidence_rule(said, held), evidence_rule(said, held, "mean rank").round(3)
    (array([0.25, 0.  , 0.5 ]), array([0.542, 0.167, 0.625]))
    """
    from scipy.stats import rankdata

    scores, known = np.atleast_2d(np.asarray(said, np.float64)), np.atleast_2d(np.asarray(held, np.float64))
    speaks = ~np.isnan(scores)
    if rule == "labelled share":
        votes = np.array([_share_below(of_pool, of_known) for of_pool, of_known in zip(scores, known, strict=True)])
    else:
        ranks = np.full(scores.shape, np.nan)
        for row, has in zip(range(len(scores)), speaks, strict=True):
            ranks[row, has] = rankdata(-scores[row, has])
        if rule == "reciprocal rank":
            return np.asarray(np.nansum(1 / (RRF + ranks), axis=0), np.float64)
        votes = 1 - (ranks - 0.5) / np.maximum(speaks.sum(axis=1, keepdims=True), 1)
    speaks &= ~np.isnan(votes)
    return np.asarray(np.where(speaks, votes, 0.0).sum(axis=0) / np.maximum(speaks.sum(axis=0), 1), np.float64)


def recovery(evidence: npt.ArrayLike, hidden: npt.ArrayLike, n: int, *, n_hidden: int = 0) -> tuple[float, float]:
    """(precision, recall) of the n candidates with most evidence, expected under random order of equal evidence.

    precision = hidden positives among the first n / n; recall = the same / all hidden positives.
    evidence, hidden (n_candidates,) : numbers, and whether the candidate is a positive that was hidden.
    n_hidden : hidden positives in all, also those that are no candidates; 0: those among the candidates.
    Constant evidence gives the precision of random sampling. Raises ValueError for n outside 1..n_candidates.

    >>> recovery([3.0, 2.0, 2.0, 1.0], [True, True, False, False], 2, n_hidden=4)
    (0.75, 0.375)
    """
    values, right = np.asarray(evidence, np.float64), np.asarray(hidden, np.float64)
    if not 1 <= n <= len(values) or len(values) != len(right):
        raise ValueError(f"n = {n} of {len(values)} candidates and {len(right)} marks; n must lie in 1..n_candidates")
    least = np.sort(values)[-n]
    surely, tied = values > least, values == least
    found = float(right[surely].sum() + (n - surely.sum()) * right[tied].mean())
    return found / n, found / max(n_hidden or right.sum(), 1)


def vector_judge(queries: npt.NDArray[Any], items: npt.NDArray[Any]) -> PairJudge:
    """An encoder as a judge: the exact score of any pair. queries (n_queries, dim), items (n_items, dim).

    >>> vector_judge(np.eye(2), np.array([[0.6, 0.8]]))(np.array([1, 0]), np.array([0, 0]))
    array([0.8, 0.6])
    """
    return lambda rows, columns: pair_scores(queries, items, rows, columns)


def caption_judge(
    text_image: npt.ArrayLike, similarity: PairJudge, *, texts_ask: bool = True, groups: npt.ArrayLike | None = None
) -> PairJudge:
    """The captions as a judge: does the text say what the image's own captions say?

    score(text, image) = max over the first 20 captions c of the image, c != text, of similarity(text, c)

    text_image : (n_texts,) image of each text, -1 for none. similarity : of two texts, :func:`word_overlap` or
    ``vector_judge(texts, texts)``. texts_ask : the pairs are (text, image); False: (image, text).
    groups : (n_texts,) such as languages; only texts of one group are compared. No caption to compare with: NaN.
    """
    own = np.asarray(text_image, np.int64)
    n_images = int(own.max(initial=-1)) + 1
    written = np.flatnonzero(own >= 0)
    written = written[np.argsort(own[written], kind="stable")]
    first = np.searchsorted(own[written], np.arange(n_images + 1))
    group = np.zeros(len(own), np.int64) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]

    def judge(rows: IntArray, columns: IntArray) -> FloatArray:
        texts, images = (rows, columns) if texts_ask else (columns, rows)
        parts = [slice(start, start + _CHUNK) for start in range(0, len(texts), _CHUNK)]
        return np.concatenate([np.empty(0), *(best_of(texts[part], images[part]) for part in parts)])

    def best_of(texts: IntArray, images: IntArray) -> FloatArray:
        begin = first[np.minimum(images, n_images)]
        size = np.minimum(first[np.minimum(images + 1, n_images)] - begin, MOST_CAPTIONS)
        pair = np.repeat(np.arange(len(texts)), size)
        other = written[np.arange(len(pair)) - np.repeat(np.cumsum(size) - size - begin, size)]
        keep = (other != texts[pair]) & (group[other] == group[texts[pair]])
        best = np.full(len(texts), np.nan)
        np.fmax.at(best, pair[keep], similarity(texts[pair[keep]], other[keep]))
        return best

    return judge


def word_overlap(texts: Sequence[str]) -> PairJudge:
    """The words that two texts share, without any encoder: (first, second) -> 0 to 1, NaN if neither has a word.

    sum of idf over the words of both / sum of idf over the words of either, idf(w) = ln((1 + n) / (1 + n_w)) + 1
    n texts, n_w of them with the word; a word counts once per text. In scripts without spaces pairs of neighbouring
    characters take the place of words.

    >>> overlap = word_overlap(["a red cat", "The RED cat.", "a dog"])
    >>> overlap(np.array([0, 0]), np.array([1, 2])).round(3)
    array([0.464, 0.232])
    """
    from scipy.sparse import csr_array

    words = [sorted(set(_words(text))) for text in texts]
    number = {word: place for place, word in enumerate(sorted({word for of in words for word in of}))}
    rows = np.repeat(np.arange(len(words)), [len(of) for of in words])
    columns = np.array([number[word] for of in words for word in of], np.int64)
    idf = np.log((1 + len(words)) / (1 + np.bincount(columns, minlength=len(number)))) + 1
    table = csr_array((np.sqrt(idf[columns]), (rows, columns)), shape=(len(words), max(len(number), 1)))
    weight = np.bincount(rows, idf[columns], len(words))

    def similarity(first: IntArray, second: IntArray) -> FloatArray:
        shared = np.empty(len(first))
        for start in range(0, len(first), _CHUNK):
            part = slice(start, start + _CHUNK)
            shared[part] = table[first[part]].multiply(table[second[part]]).sum(axis=1)
        either = weight[first] + weight[second] - shared
        overlap: FloatArray = np.divide(shared, either, out=np.full(len(first), np.nan), where=either > 0)
        return overlap

    return similarity


def _words(text: str) -> list[str]:
    found: list[str] = []
    for word in _WORD.findall(normalized_caption(text)):
        pairs = [word[place : place + 2] for place in range(max(1, len(word) - 1))]
        found += pairs if _UNSPACED.search(word) else [word]
    return found


def _check(lists: Mapping[str, Neighbours], relevance: Relevance, ranks: Ranks, k: int, rule: str) -> None:
    if not lists:
        raise ValueError("no list was given; the audited system's own list comes first, further judges after it")
    shape = (relevance.n_queries, relevance.n_gallery)
    for name, one in lists.items():
        if (one.n_queries, one.n_gallery) != shape:
            raise ValueError(
                f"the lists of {name!r} are for {one.n_queries} queries and {one.n_gallery} items, the labels for "
                f"{shape[0]} and {shape[1]}; every judge must answer the same queries over the same items"
            )
    if (ranks.n_queries, ranks.n_gallery) != shape:
        raise ValueError(f"ranks are for {(ranks.n_queries, ranks.n_gallery)}, labels for {shape}; use one ranking")
    if k < 1:
        raise ValueError(f"k is the number of places looked at, at least 1; got {k}")
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}; got {rule!r}")


def _pool(lists: Mapping[str, Neighbours], relevance: Relevance, ranks: Ranks, k: int) -> tuple[IntArray, IntArray]:
    """Candidates as parallel arrays, by query, then item."""
    reach = np.maximum(_reach(ranks, worst=True), k)
    keys = []
    for number, one in enumerate(lists.values()):
        inside = np.arange(one.k) < (reach[:, None] if number == 0 else k)
        rows, places = np.nonzero(np.broadcast_to(inside, one.indices.shape))
        keys.append(rows * one.n_gallery + one.indices[rows, places])
    judged = relevance.queries * relevance.n_gallery + relevance.items
    queries, items = np.divmod(np.setdiff1d(np.concatenate(keys), judged), relevance.n_gallery)
    return queries, items


def _reach(ranks: Ranks, *, worst: bool = False) -> IntArray:
    """(n_queries,) places above or level with the best (or the worst) labelled positive; 0 without one."""
    places = ranks.better + ranks.tied + 1
    reach = np.full(ranks.n_queries, 0 if worst else np.iinfo(np.int64).max)
    (np.maximum if worst else np.minimum).at(reach, ranks.queries, places)
    return np.where(ranks.positives_per_query > 0, reach, 0)


def _best_rank(ranks: Ranks) -> FloatArray:
    best = np.full(ranks.n_queries, np.inf)
    np.minimum.at(best, ranks.queries, ranks.better + ranks.tied / 2 + 1)
    return np.where(np.isfinite(best), best, np.nan)


def _located(one: Neighbours, queries: IntArray, items: IntArray) -> tuple[npt.NDArray[np.bool_], IntArray]:
    """Whether each pair is in the lists, and its place from 0."""
    keys = (np.arange(one.n_queries)[:, None] * one.n_gallery + one.indices).ravel()
    order, wanted = np.argsort(keys), queries * one.n_gallery + items
    at = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    return keys[at] == wanted, at % one.k


def _places(one: Neighbours, queries: IntArray, items: IntArray) -> IntArray:
    inside, place = _located(one, queries, items)
    return np.where(inside, place + 1, 0)


def _list_judge(one: Neighbours) -> PairJudge:
    def judge(queries: IntArray, items: IntArray) -> FloatArray:
        inside, place = _located(one, queries, items)
        return np.asarray(one.scores[queries, np.where(inside, place, one.k - 1)], np.float64)

    return judge


def _in_list(one: Neighbours, queries: IntArray, items: IntArray, scores: FloatArray) -> FloatArray:
    """The scores, -inf for pairs that the list does not hold."""
    return np.where(_located(one, queries, items)[0], scores, -np.inf)


def _said(name: str, judge: PairJudge, queries: IntArray, items: IntArray) -> FloatArray:
    scores = np.asarray(judge(queries, items), np.float64)
    if scores.shape != queries.shape:
        raise ValueError(f"judge {name!r} gave {scores.shape} scores for {len(queries)} pairs; one per pair is needed")
    return scores


def _share_below(scores: FloatArray, known: FloatArray) -> FloatArray:
    """Share of the known scores that are no higher; NaN where either side has no opinion."""
    ordered = np.sort(known[~np.isnan(known)])
    share = np.searchsorted(ordered, scores, side="right") / max(len(ordered), 1)
    return np.where(np.isnan(scores) | (len(ordered) == 0), np.nan, share)


def _agreed(
    said: FloatArray, held: FloatArray, queries: IntArray, labelled: Relevance
) -> tuple[npt.NDArray[np.bool_], IntArray]:
    """Whether no judge rates the query's best labelled positive higher, and how many judges can compare."""
    agree, compared = np.ones(len(queries), bool), np.zeros(len(queries), np.int64)
    for of_pool, of_known in zip(said, held, strict=True):
        best = np.full(labelled.n_queries, np.nan)
        np.fmax.at(best, labelled.queries, of_known)
        can = ~np.isnan(of_pool) & ~np.isnan(best[queries]) & (np.fmax(of_pool, best[queries]) > -np.inf)
        agree &= ~can | (of_pool >= best[queries])
        compared += can
    return agree & (compared > 1), compared


def _names(ids: Sequence[str], rows: IntArray) -> tuple[str, ...]:
    return tuple(ids[row] if len(ids) else str(row) for row in rows.tolist())


def _finding(found: MissingPositives) -> Finding:
    name, wanted = f"{found.what}/labels/missing", "bring captions, or further encoders with judges=[...]"
    if not found.n_queries:
        return Finding(name, None, None, None, "", "not measurable", "No query has a labelled positive.")
    if not found.n_compared:
        advice = f"Fewer than two independent judges can compare a candidate with a labelled positive: {wanted}."
        return Finding(name, None, None, None, "", "not measurable", advice)
    share, who = found.share_agreed, " and ".join(found.independent)
    verdict: Verdict = "look" if share > AGREED_SHARE else "ok"
    many = f"{found.n_agreed:,} of {found.n_queries:,} queries"
    said = f"In {many} {who} put an unlabelled item above or level with every labelled one"
    advice = (
        f"{said}. Judge the first of the list: they are missing labels, or errors that the judges share. Until then "
        "read the bounds, not the number alone."
        if verdict == "look"
        else f"{said}: few, but what no judge finds is not ruled out."
    )
    return Finding(name, share, None, AGREED_SHARE, AGREED_SOURCE, verdict, advice, "%")
