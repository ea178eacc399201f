"""CIRCO: composed image retrieval, a reference image and a sentence that changes it, with several right images a query.

The 220 validation queries come with their right images; those of the 800 test queries are kept by the authors' server,
to which a file of lists is sent: :func:`check_submission` reads it first. Pictures are not read here: the gallery is
the COCO 2017 unlabeled set, 123,403 images.

A. Baldrati et al., "Zero-Shot Composed Image Retrieval with Textual Inversion", ICCV 2023,
https://arxiv.org/abs/2303.15247. The rules are those of https://github.com/miccunifi/CIRCO, CC BY-NC 4.0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.datasets.label_sets import read_safely
from workbench.metrics import per_query, ranks_from_lists
from workbench.types import RankedLists, Relevance

if TYPE_CHECKING:
    import pandas as pd

CUTOFFS = (5, 10, 25, 50)
DEPTH = 50
ASPECTS = (
    "cardinality", "addition", "negation", "direct_addressing", "compare_change", "comparative_statement",
    "statement_with_conjunction", "spatial_relations_background", "viewpoint",
)  # fmt: skip
ASPECT_CUTOFF = 10
SHOWN = 5


@dataclass(frozen=True)
class CircoQuery:
    """One query: what to change (caption) of which image (reference), and what both have in common (concept).

    right : every right image, the target, for which the caption was written, first; empty in the test split.
    aspects : of the caption, from ``ASPECTS``.
    """

    id: int
    reference: int
    caption: str
    concept: str
    right: tuple[int, ...] = ()
    aspects: tuple[str, ...] = ()

    @property
    def target(self) -> int | None:
        """The image for which the caption was written, None where it is not told."""
        return self.right[0] if self.right else None


@dataclass(frozen=True, eq=False)
class Circo:
    """The queries of one split, ascending by id."""

    name: str
    queries: tuple[CircoQuery, ...]

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def judged(self) -> bool:
        """Whether the right images are known: in val, not in test."""
        return any(query.right for query in self.queries)

    def relevance(self, gallery: Sequence[int]) -> Relevance:
        """Which images of the gallery are right, (n_queries, n_gallery); a right image that is not there is an error.

        >>> one = Circo("val", (CircoQuery(0, 7, "is red", "a car", (9, 8)),))
        >>> one.relevance([7, 8, 9]).row(0)[0]
        array([1, 2])
        """
        return self._pairs([query.right for query in self.queries], gallery, "right images")

    def references(self, gallery: Sequence[int]) -> Relevance:
        """The reference image of every query, by id: ``exclude=`` of a search that must not return it.

        It is part of the official gallery, is never a right answer, and the official evaluation does not take it out:
        leaving it out raises a score by whatever place it held. Say which of the two a number is. A reference that the
        gallery does not hold is an error.
        """
        return self._pairs([(query.reference,) for query in self.queries], gallery, "reference images")

    def _pairs(self, images: Sequence[Sequence[int]], gallery: Sequence[int], what: str) -> Relevance:
        place = {image: number for number, image in enumerate(gallery)}
        if len(place) != len(gallery):
            raise ValueError(f"the gallery names {len(gallery) - len(place)} images twice; give each image once")
        unknown = list(dict.fromkeys(image for row in images for image in row if image not in place))
        if unknown:
            raise ValueError(
                f"{len(unknown):,} {what} of {self.name} are not in the gallery of {len(place):,}, the first are "
                f"{unknown[:3]}; the gallery is the COCO 2017 unlabeled set, as whole numbers"
            )
        rows = np.repeat(np.arange(len(images)), [len(row) for row in images])
        columns = [place[image] for row in images for image in row]
        return Relevance.from_pairs(rows, columns, n_queries=len(images), n_gallery=len(place))


@dataclass(frozen=True)
class SubmissionCheck:
    """What is wrong with a file of lists.

    problems : what makes it unusable. remarks : what is allowed but worth knowing. Both name query and place, from 1.
    n_lists : lists that were read. n_references : lists that name their reference.
    """

    problems: tuple[str, ...]
    remarks: tuple[str, ...]
    n_lists: int
    n_references: int

    @property
    def ok(self) -> bool:
        return not self.problems

    def require(self) -> None:
        """An error with the first problems, where there are any."""
        if self.problems:
            more = f"; and {len(self.problems) - SHOWN:,} more" if len(self.problems) > SHOWN else ""
            raise ValueError(f"{len(self.problems):,} problems: {'; '.join(self.problems[:SHOWN])}{more}")


@dataclass(frozen=True)
class CircoScores:
    """The numbers that the official evaluation prints, as fractions.

    mean_ap : cutoff -> mAP@k over all right images. recall : cutoff -> share of queries whose *target* is in the first
    k. by_aspect : aspect -> mAP@10 of the queries that have it. n : queries; n_by_aspect : of them, by aspect.
    """

    mean_ap: Mapping[int, float]
    recall: Mapping[int, float]
    by_aspect: Mapping[str, float]
    n: int
    n_by_aspect: Mapping[str, int]

    def flat(self) -> dict[str, float]:
        """``{"AP(norm=min)@5": 0.11, ..., "negation AP(norm=min)@10": 0.09}``"""
        named = {f"AP(norm=min)@{k}": value for k, value in self.mean_ap.items()}
        named |= {f"target hit@{k}": value for k, value in self.recall.items()}
        return named | {f"{name} AP(norm=min)@{ASPECT_CUTOFF}": value for name, value in self.by_aspect.items()}

    def table(self) -> pd.DataFrame:
        import pandas as pd

        values = self.flat()
        queries = [self.n] * (len(self.mean_ap) + len(self.recall)) + list(self.n_by_aspect.values())
        return pd.DataFrame({"value": list(values.values()), "queries": queries}, pd.Index(values, name="metric"))

    def _repr_html_(self) -> str:
        return str(self.table().round(4).to_html())


def read_circo(path: Path) -> Circo:
    """The queries of ``val.json`` or ``test.json`` of CIRCO, gzip-compressed or not.

    Errors name the entry: a field that is missing or of another type, an id that occurs twice, a target that is not the
    first of its right images, a right image twice, a reference among its own right images. Right images for
    some queries only are an error too.
    """
    content = read_safely(path)
    if not isinstance(content, list) or not content:
        what = "an empty list" if content == [] else type(content).__name__
        raise ValueError(f"{path.name} must be a JSON list of queries, as val.json of CIRCO; got {what}")
    queries = [_query(entry, f"{path.name} entry {number}") for number, entry in enumerate(content, start=1)]
    repeated = [name for name, times in Counter(query.id for query in queries).items() if times > 1]
    if repeated:
        raise ValueError(f"{path.name} has more than one query {repeated[0]}; give each its own id")
    lacking = [query.id for query in queries if not query.right]
    if 0 < len(lacking) < len(queries):
        raise ValueError(
            f"{path.name}: {len(lacking):,} of {len(queries):,} queries have no right image (gt_img_ids), the first is "
            f"query {lacking[0]}; a split is judged or it is not"
        )
    return Circo(path.name, tuple(sorted(queries, key=lambda query: query.id)))


def read_submission(path: Path) -> Any:
    """The JSON value of a submission file, gzip-compressed or not; :func:`check_submission` judges it."""
    return read_safely(path)


def check_submission(
    submission: Any, circo: Circo, *, gallery: Collection[int] | None = None, depth: int = DEPTH,
) -> SubmissionCheck:  # fmt: skip
    """What the server, or a reader of its numbers, would find wrong with ``{query id: [image ids]}``.

    Problems: a query without a list, a list for no query, another number of images than ``depth``, something that is no
    whole number, an image twice (the official code would count a right one twice), an image that is not in the gallery
    (where one is given). Remark: a list that names its own reference image, which is allowed and never right.

    >>> circo = Circo("val", (CircoQuery(0, 7, "is red", "a car", (9, 8)),))
    >>> check_submission({"0": [7, 8, 8]}, circo, depth=3).problems
    ('query 0 place 3: image 8 is already at place 2',)
    """
    if not isinstance(submission, Mapping):
        said = f"a submission is one JSON object {{query id: [image ids]}}; got {type(submission).__name__}"
        return SubmissionCheck((said,), (), 0, 0)
    known = {str(query.id): query for query in circo.queries}
    given = {str(name): images for name, images in submission.items()}
    missing, strange = [name for name in known if name not in given], [name for name in given if name not in known]
    problems = [f"{len(missing):,} of {len(known):,} queries have no list: {_some(missing)}"] * bool(missing)
    problems += [f"{len(strange):,} lists are for no query of {circo.name}: {_some(strange)}"] * bool(strange)
    places = None if gallery is None else frozenset(gallery)
    remarks = []
    for name, query in known.items():
        if name in given:
            problems += _problems(name, given[name], places, depth)
            remarks += _remarks(name, given[name], query)
    return SubmissionCheck(tuple(problems), tuple(remarks), len(given), len(remarks))


def score_submission(submission: Mapping[Any, Sequence[int]], circo: Circo, *, depth: int = DEPTH) -> CircoScores:
    """The official numbers of a file of lists, for a split whose right images are known.

        AP@k = 1 / min(R, k) sum over i <= k of precision@i [image i is right],   R = number of right images

    averaged over queries: ``AP(norm=min)@k`` of this package. Errors: what :func:`check_submission` finds, and a split
    without right images (the test set is scored by the server alone).

    >>> circo = Circo("val", (CircoQuery(0, 7, "is red", "a car", (9, 8), ("addition",)),))
    >>> scores = score_submission({"0": [8, 7, 9, 1, 2]}, circo, depth=5)
    >>> round(scores.mean_ap[5], 4), scores.recall[5]
    (0.8333, 1.0)
    """
    if not circo.judged:
        raise ValueError(
            f"the right images of {circo.name} are not public; send the file to https://circo.micc.unifi.it"
        )
    check_submission(submission, circo, depth=depth).require()
    given = {str(name): images for name, images in submission.items()}
    rows = [list(given[str(query.id)]) for query in circo.queries]
    gallery = sorted({image for row in rows for image in row} | {i for query in circo.queries for i in query.right})
    lists = _lists(rows, gallery)
    ranks = ranks_from_lists(lists, circo.relevance(gallery))
    first = ranks_from_lists(lists, circo._pairs([query.right[:1] for query in circo.queries], gallery, "targets"))
    cutoffs = [k for k in CUTOFFS if k <= depth]
    precise = {k: per_query(f"AP(norm=min)@{k}", ranks).expected for k in {*cutoffs, min(ASPECT_CUTOFF, depth)}}
    hits = {k: per_query(f"hit@{k}", first).expected for k in cutoffs}
    has = {name: np.array([name in query.aspects for query in circo.queries]) for name in ASPECTS}
    held = precise[min(ASPECT_CUTOFF, depth)]
    return CircoScores(
        {k: float(precise[k].mean()) for k in cutoffs}, {k: float(hits[k].mean()) for k in cutoffs},
        {name: float(held[mine].mean()) if mine.any() else float("nan") for name, mine in has.items()},
        len(circo), {name: int(mine.sum()) for name, mine in has.items()},
    )  # fmt: skip


def as_submission(
    lists: RankedLists, circo: Circo, gallery: Sequence[int], *, depth: int = DEPTH
) -> dict[str, list[int]]:
    """What is sent to the server: ``{query id: the first 50 image ids}``, from lists whose items count in the gallery.

    Errors: another number of lists than queries, a list of fewer than ``depth`` items.
    """
    if lists.n_queries != len(circo) or lists.n_gallery != len(gallery):
        raise ValueError(
            f"lists of {lists.n_queries:,} queries over {lists.n_gallery:,} images for {len(circo):,} queries and a "
            f"gallery of {len(gallery):,}; one list per query, in the order of their ids, is needed"
        )
    short = np.flatnonzero(lists.depths < depth)
    if len(short):
        raise ValueError(
            f"{len(short):,} lists are shorter than {depth}, the first is that of query {circo.queries[short[0]].id}; "
            f"search {depth} images deep"
        )
    return {
        str(query.id): [int(gallery[item]) for item in lists.row(row)[0][:depth]]
        for row, query in enumerate(circo.queries)
    }


def _lists(rows: Sequence[Sequence[int]], gallery: Sequence[int]) -> RankedLists:
    place = {image: number for number, image in enumerate(gallery)}
    lengths = [len(row) for row in rows]
    items = np.array([place[image] for row in rows for image in row], dtype=np.int64)
    scores = np.concatenate([-np.arange(length, dtype=np.float64) for length in lengths])
    return RankedLists(np.concatenate([[0], np.cumsum(lengths)]), items, scores, len(gallery))


def _problems(name: str, images: Any, gallery: frozenset[int] | None, depth: int) -> Iterator[str]:
    if not isinstance(images, list | tuple):
        yield f"query {name}: a list of image ids is needed; got {type(images).__name__}"
        return
    if len(images) != depth:
        yield f"query {name}: {len(images)} images; exactly {depth} are sent"
    seen: dict[int, int] = {}
    for place, image in enumerate(images, start=1):
        if not _whole(image):
            yield f"query {name} place {place}: {str(image)[:40]!r} is no whole number"
            continue
        if gallery is not None and image not in gallery:
            yield f"query {name} place {place}: image {image} is not in the gallery"
        if seen.setdefault(image, place) != place:
            yield f"query {name} place {place}: image {image} is already at place {seen[image]}"


def _remarks(name: str, images: Any, query: CircoQuery) -> list[str]:
    if not isinstance(images, list | tuple) or query.reference not in images:
        return []
    place = list(images).index(query.reference) + 1
    return [f"query {name} place {place}: image {query.reference} is the query's own reference, which is never right"]


def _query(entry: Any, where: str) -> CircoQuery:
    if not isinstance(entry, dict):
        raise ValueError(f"{where} must be an object; got {type(entry).__name__}")
    wanted = {"id": int, "reference_img_id": int, "relative_caption": str, "shared_concept": str}
    for name, kind in wanted.items():
        if not _is(entry.get(name), kind):
            what = "whole number" if kind is int else "text"
            raise ValueError(f"{where} needs a {what} {name!r}; got {str(entry.get(name))[:40]!r}")
    right, aspects = entry.get("gt_img_ids", []), entry.get("semantic_aspects", [])
    for name, values, kind in (("gt_img_ids", right, int), ("semantic_aspects", aspects, str)):
        if not isinstance(values, list) or not all(_is(value, kind) for value in values):
            raise ValueError(f"{where}: {name} must be a list of {'whole numbers' if kind is int else 'texts'}")
    if len(set(right)) != len(right) or entry["reference_img_id"] in right:
        raise ValueError(f"{where}: gt_img_ids name an image twice, or the reference image itself")
    if "target_img_id" in entry and [entry["target_img_id"]] != right[:1]:
        raise ValueError(f"{where}: target_img_id is not the first of gt_img_ids")
    return CircoQuery(
        entry["id"], entry["reference_img_id"], entry["relative_caption"], entry["shared_concept"], tuple(right),
        tuple(aspects),
    )  # fmt: skip


def _is(value: Any, kind: type) -> bool:
    return _whole(value) if kind is int else isinstance(value, kind)


def _whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(name[:40] for name in names[:SHOWN])
    return shown + (", ..." if len(names) > SHOWN else "")
