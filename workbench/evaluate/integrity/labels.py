"""Missing positives: candidates, sharp bounds of every metric, and an estimate from a judged sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from workbench import encoders
from workbench.datasets import Collection, Side
from workbench.datasets.embeddings import load_embeddings
from workbench.datasets.qrels import match_ids
from workbench.diagnostics.label_bounds import Bound, LabelBounds, label_bounds
from workbench.diagnostics.positives import (
    MissingPositives,
    PairJudge,
    caption_judge,
    missing_positives,
    vector_judge,
    word_overlap,
)
from workbench.encoders.encode import encode
from workbench.evaluate.examples import SHOWN, Example, Examples, _cut, _words
from workbench.evaluate.prepare import Prepared, check_kinds
from workbench.evaluate.ranking import Ranked
from workbench.evaluate.share import FILE, private_parameters
from workbench.judging import Judged, JudgedEstimate, estimable, estimate_from_judged, pool, read_judged
from workbench.judging.reach import with_pairs
from workbench.metrics import METRICS, Metric, parse_metric
from workbench.metrics.extremes import judged_wrong
from workbench.search import RankPositives, TopK, scan
from workbench.statistics import Interval
from workbench.statistics.judged_sample import SampledMean
from workbench.types import Embeddings, Neighbours, Ranks, Relevance, unit_vectors

TYPES: tuple[type, ...] = (MissingPositives, LabelBounds, Bound, Interval, JudgedEstimate, SampledMean)
MISSING_SHARES = (0.01, 0.05, 0.1, 0.25, 0.5)
OWN, OWN_CAPTIONS, WORDS = "the encoder", "its caption vectors", "caption words"


@dataclass(frozen=True, eq=False)
class Evidence:
    """What speaks about unlabelled pairs beside the audited encoder. It is never written.

    judges : name -> (vectors of the images, vectors of the texts). words : similarity of two texts, None without texts.
    groups : (n_texts,) texts of different groups share no words, such as languages; None: one group.
    judged : what a person said. image_ids, text_ids : as that file spells them.
    """

    judges: Mapping[str, tuple[np.ndarray, np.ndarray]]
    words: PairJudge | None
    groups: np.ndarray | None
    judged: Judged | None
    image_ids: tuple[str, ...]
    text_ids: tuple[str, ...]

    def ids(self, texts_ask: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(of the queries, of the items)."""
        return (self.text_ids, self.image_ids) if texts_ask else (self.image_ids, self.text_ids)

    def speaks_of(self, texts_ask: bool) -> bool:
        """Whether the judgements are of this direction: a session's file says so, of other qrels more ids fit it."""
        if self.judged is None or not self.judged.entries:
            return False
        if self.judged.design is not None:
            return self.judged.design.direction == ("t2i" if texts_ask else "i2t")
        here, there = (self._fitting(asked) for asked in (texts_ask, not texts_ask))
        return here > 0 and here >= there

    def _fitting(self, texts_ask: bool) -> int:
        """How many of the judged queries and items there are in a direction."""
        given = self.judged.judgements() if self.judged else None
        sides = (given.queries, given.items) if given else ((), ())
        return sum(len(match_ids(names, set(ids))) for names, ids in zip(sides, self.ids(texts_ask), strict=True))


def check_judges(parameters: Mapping[str, Any]) -> None:
    """Refuse judges that cannot work, before anything is encoded: repeated ones, files that are not there."""
    sources = list(parameters.get("judges", ()))
    for source in sources:
        kind, _, where = source.partition(":")
        if not source or sources.count(source) > 1 or source == (parameters["encoder"] or "tiny-clip"):
            raise ValueError(
                f"judges: {source!r} is {'empty' if not source else 'given twice, or is the audited encoder itself'}; "
                "each judge must be another system"
            )
        if kind == "embeddings" and not Path(where).exists():
            raise ValueError(f"judges: {source!r}: no such file; give vectors of the same item ids")


def gather(prepared: Prepared, parameters: Mapping[str, Any], *, progress: bool | None = None) -> Evidence:
    """Read the judgements and the words, encode the collection with every judge: before anything is withheld.

    Raises ValueError for a judge that does not know every item or cannot read it, and for judgements of other data.
    """
    check_judges(parameters)
    images, texts = prepared.collection.images, prepared.collection.texts
    languages = np.array([str(value) for value in texts.columns.get("language", ())])
    evidence = Evidence(
        {},
        word_overlap([str(text) for text in texts.content]) if texts.kind == "text" else None,
        np.unique(languages, return_inverse=True)[1] if len(set(languages.tolist())) > 1 else None,
        read_judged(parameters["judged"]) if parameters.get("judged") else None,
        images.ids, texts.ids,
    )  # fmt: skip
    _check_judged(prepared, evidence)
    judges: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for source in parameters.get("judges", ()):
        name = private_parameters({**parameters, "encoder": source})["encoder"]
        known = sum(other.partition(" #")[0] == name for other in judges)
        judges[f"{name} #{known + 1}" if known else name] = _vectors(source, prepared, parameters, progress)
    return replace(evidence, judges=judges)


def _check_judged(prepared: Prepared, evidence: Evidence) -> None:
    judged = evidence.judged
    spoken = [evidence.speaks_of(one.queries is prepared.texts) for one in prepared.directions()]
    if judged is not None and sum(spoken) > 1:
        raise ValueError(
            f"judged: the ids in {judged.name} fit both directions; give images and texts ids of their own, or judge "
            "in a session, whose file says which side asks"
        )
    if judged is None or any(spoken):
        return
    first = judged.entries[0].query[:80] if judged.entries else "(none)"
    raise ValueError(
        f"judged: {judged.name} is of other data: its first query is {first!r}, while the ids here look like "
        f"{evidence.text_ids[0][:80]!r} and {evidence.image_ids[0][:80]!r}"
    )


def _vectors(
    source: str, prepared: Prepared, parameters: Mapping[str, Any], progress: bool | None
) -> tuple[np.ndarray, np.ndarray]:
    collection = prepared.collection
    sides = collection.images, collection.texts
    kind, _, where = source.partition(":")
    if kind == "embeddings":
        given = load_embeddings(Path(where)).embeddings
        matched = [_matched(given.get(side.modality), side, source) for side in sides]
        scaled = [unit_vectors(one) if parameters["similarity"] == "cosine" else one for one in matched]
        return scaled[0], scaled[1]
    if not all(side.kind for side in sides):
        raise ValueError(
            f"judges: {source!r} cannot encode {collection.card.name!r}, which holds no pictures and captions to read; "
            "bring the judge's vectors of the same items as embeddings:FILE"
        )
    model = encoders.load(source, **{name: parameters[name] for name in ("precision", "text_template")})
    check_kinds(model, collection)
    how = {name: parameters[name] for name in ("batch_size", "similarity")}
    images, texts = (encode(model, side, progress=progress, **how) for side in sides)
    return images.embeddings.vectors, texts.embeddings.vectors


def _matched(given: Embeddings | None, side: Side, source: str) -> np.ndarray:
    """The rows of the given vectors in the order of the side's items."""
    row = {name: number for number, name in enumerate(given.ids)} if given is not None else {}
    missing = [name for name in side.ids if name not in row]
    if missing or given is None:
        raise ValueError(
            f"judges: {source!r} lacks {len(missing):,} of {len(side):,} {side.modality} items, the first is "
            f"{missing[0][:80]!r}; its ids look like {list(row)[:3]}; a judge must know the same items by the same ids"
        )
    return np.asarray(given.vectors)[[row[name] for name in side.ids]]


def analyse(prepared: Prepared, ranked: tuple[Ranked, ...], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Candidates, their first ones to look at, bounds, the plan of a judging session, and what a finished one says.

    parameters["evidence"] : what :func:`gather` found before anything was withheld; gathered here without.
    """
    if not prepared.judged:
        return {}
    evidence = parameters.get("evidence") or gather(prepared, parameters)
    results: dict[str, Any] = {}
    for one in ranked:
        name, found = one.direction.name, candidates(prepared, one, evidence, parameters)
        results |= {f"missing {name}": found, f"examples missing {name}": _examples(prepared, one, found, evidence)}
        results |= _bounds(one, parameters) | _plan(one, parameters) | _estimates(prepared, one, evidence, parameters)
    return results


def candidates(prepared: Prepared, one: Ranked, evidence: Evidence, parameters: Mapping[str, Any]) -> MissingPositives:
    """The unlabelled pairs of one direction that look most like missing positives."""
    direction, texts_ask = one.direction, one.direction.queries is prepared.texts
    k = min(parameters["k"], len(direction.gallery))
    lists: dict[str, Neighbours] = {OWN: one.lists}  # type: ignore[dict-item]
    judges = {OWN: vector_judge(direction.queries.vectors, direction.gallery.vectors)}  # type: ignore[union-attr]
    for name, (images, texts) in evidence.judges.items():
        queries, gallery = (texts, images) if texts_ask else (images, texts)
        consumers = [TopK(k, ids=direction.gallery.ids)]
        lists[name] = scan(queries, gallery, consumers, memory=parameters["memory_mb"] * 2**20)[0]
        judges[name] = vector_judge(queries, gallery)
    judges |= _captions(prepared, evidence, texts_ask)
    return missing_positives(
        lists, _with_judged(one, evidence, texts_ask), one.ranks, judges=judges, k=k,
        independent=[OWN, *evidence.judges, WORDS], query_ids=direction.queries.ids, item_ids=direction.gallery.ids,
        what=direction.name,
    )  # fmt: skip


def _with_judged(one: Ranked, evidence: Evidence, texts_ask: bool) -> Relevance:
    """The labels; what a person judged, right or wrong, is no candidate any more."""
    relevance = one.direction.relevance
    if evidence.judged is None or not evidence.speaks_of(texts_ask):
        return relevance
    given, rows = evidence.judged.judgements(), []
    for names, ids in zip((given.queries, given.items), evidence.ids(texts_ask), strict=True):
        row = {name: number for number, name in enumerate(ids)}
        meant = match_ids(names, row)
        rows.append([row[meant[name]] if name in meant else -1 for name in names])
    pairs = np.array(rows, np.int64).T
    pairs = pairs[(pairs >= 0).all(axis=1)]
    return with_pairs(relevance, pairs[:, 0], pairs[:, 1], np.zeros(len(pairs)))


def _bounds(one: Ranked, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The bounds as asked for; the ends of the first metric for a few totals; (metric, why) where there are none."""
    name, wrong = one.direction.name, _wrong_ranks(one, parameters)
    how = {"wrong": wrong, "clusters": one.direction.clusters, "direction": name, "seed": parameters["seed"],
           "n_resamples": parameters["n_resamples"]}  # fmt: skip
    found: list[LabelBounds] = []
    refused: list[tuple[str, str]] = []
    for metric in parameters["metrics"]:
        try:
            found.append(
                label_bounds(one.ranks, [metric], extra_positives=parameters["extra_positives"] or None, **how)
            )
        except ValueError as error:
            refused.append((metric, str(error)))
    if not found:
        return {f"no bounds {name}": tuple(refused)}
    whole = replace(found[0], bounds=tuple(each.bounds[0] for each in found))
    rows = []
    if METRICS[parse_metric(whole.bounds[0].metric).name].aggregator != "median":
        for share in MISSING_SHARES:
            most = round(share * len(one.ranks.items))
            try:
                bound = label_bounds(one.ranks, [whole.bounds[0].metric], in_total=most, **how).bounds[0]
            except ValueError as error:  # too many ways to share so large a budget
                refused.append((f"{whole.bounds[0].metric} with {most:,} labels missing in all", str(error)))
                continue
            rows.append((share, most, bound.lowest, bound.highest))
    return {f"no bounds {name}": tuple(refused), f"bounds {name}": whole, f"limits {name}": tuple(rows)}


def _wrong_ranks(one: Ranked, parameters: Mapping[str, Any]) -> Ranks | None:
    """Where the items lie that the data judge not relevant; None if there are none."""
    direction = one.direction
    wrong = judged_wrong(direction.relevance)
    if not len(wrong.items):
        return None
    sides = direction.queries.vectors, direction.gallery.vectors  # type: ignore[union-attr]
    ranks: Ranks = scan(*sides, [RankPositives(wrong)], memory=parameters["memory_mb"] * 2**20)[0]
    return ranks


def _estimable(one: Ranked, parameters: Mapping[str, Any]) -> list[Metric]:
    """The metrics that judging the kept places can tell."""
    found = []
    for name in parameters["metrics"]:
        try:
            found.append(estimable(parse_metric(name)))
        except ValueError:
            continue
    return [metric for metric in found if metric.k is not None and metric.k <= one.lists.k]  # type: ignore[union-attr]


def _plan(one: Ranked, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """(metric, queries that judging could move, queries and pairs to judge for +-2 points)."""
    direction, metrics = one.direction, _estimable(one, parameters)
    if not metrics:
        return {}
    ids = {"query_ids": direction.queries.ids, "item_ids": direction.gallery.ids}
    made = pool(one.lists, direction.relevance, metrics[0], **ids)  # type: ignore[arg-type]
    plan = made.plan()
    return {f"plan {direction.name}": (str(metrics[0]), made.n_open, plan.queries, plan.pairs)}


def _estimates(prepared: Prepared, one: Ranked, evidence: Evidence, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The estimate of every metric that the judgements can tell; (metric, why) of the others."""
    texts_ask, name = one.direction.queries is prepared.texts, one.direction.name
    if evidence.judged is None or not evidence.speaks_of(texts_ask):
        return {}
    queries, items = evidence.ids(texts_ask)
    hide = parameters["share"] == "no-content"
    found: dict[str, Any] = {}
    refused: list[tuple[str, str]] = []
    for metric in _estimable(one, parameters):
        try:
            made = estimate_from_judged(
                one.lists, one.direction.relevance, evidence.judged, metric, query_ids=queries, item_ids=items,
                seed=parameters["seed"],
            )  # fmt: skip
        except ValueError as error:
            refused.append((str(metric), "run with share=full to read why" if hide else str(error)))
            continue
        found[f"judged {name} {metric}"] = replace(made, judge=FILE if hide else made.judge, direction=name)
    if not found:
        why = "; ".join(f"{metric}: {reason}" for metric, reason in refused) or "no metric has a cutoff that fits"
        raise ValueError(f"judged: nothing can be estimated from these judgements. {why}")
    return found | {f"not judged {name}": tuple(refused)}


def _captions(prepared: Prepared, evidence: Evidence, texts_ask: bool) -> dict[str, PairJudge]:
    """Judges that compare a text with the captions of the image; none where images have no second caption."""
    own = prepared.collection.text_image
    if evidence.words is None or not (np.bincount(own[own >= 0], minlength=1) > 1).any():
        return {}
    vectors = prepared.texts.vectors  # type: ignore[union-attr]
    return {
        OWN_CAPTIONS: caption_judge(own, vector_judge(vectors, vectors), texts_ask=texts_ask),
        WORDS: caption_judge(own, evidence.words, texts_ask=texts_ask, groups=evidence.groups),
    }


def _examples(
    prepared: Prepared, one: Ranked, found: MissingPositives, evidence: Evidence, n: int = 2 * SHOWN
) -> Examples:
    """The first candidates of different queries and items, each with a caption that the image has."""
    collection, queries, gallery = prepared.collection, *_sides(prepared, one)
    cards: list[Example] = []
    seen: set[tuple[str, int]] = set()
    for row, (query, item) in enumerate(zip(found.queries.tolist(), found.items.tolist(), strict=True)):
        if len(cards) == n or {("query", query), ("item", item)} & seen:
            continue
        seen |= {("query", query), ("item", item)}
        place = f"place {found.rank[row]}" if found.rank[row] else "beyond the list"
        best = found.positive_rank[row]
        note = f"{place}, " + ("no label" if np.isnan(best) else f"best labelled {best:g}")
        if gallery.kind == queries.kind:
            cards.append(Example("", _words(queries, query), f"{note}; unlabelled: {_cut(_words(gallery, item))}"))
            continue
        image, text = (item, query) if gallery is collection.images else (query, item)
        own = _cut(_own_caption(collection, evidence, image, text))
        cards.append(
            Example(collection.images.ids[image], _words(collection.texts, text), f"{note}; own caption: {own}")
        )
    rule = "most evidence first, each query and each item once; whether it is right is for you to say"
    return Examples(f"Unlabelled {gallery.plural} that look right", rule, tuple(cards))


def _own_caption(collection: Collection, evidence: Evidence, image: int, text: int) -> str:
    """A caption of the image, in the language of the text where it has one."""
    own = np.flatnonzero(collection.text_image == image)
    if not len(own):
        return "none"
    alike = own if evidence.groups is None else own[evidence.groups[own] == evidence.groups[text]]
    return _words(collection.texts, int(alike[0] if len(alike) else own[0]))


def _sides(prepared: Prepared, one: Ranked) -> tuple[Side, Side]:
    texts, images = prepared.collection.texts, prepared.collection.images
    return (texts, images) if one.direction.queries is prepared.texts else (images, texts)
