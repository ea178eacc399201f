"""S11: what a benchmark with exhaustive labels measures, and what a judge's ties do to a reranker that helps.

World: scenes whose captions say little, so that each is true of one up to a quarter of the images, and every true pair
is known. A caption is a query; its own image is the one label that a data set of pairs would have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workbench.datasets.scenes import scenes, truth
from workbench.metrics import aggregate, per_query, ranks_from_scores
from workbench.studies.study import Arms, Card, Claim, Facts, Size, Study
from workbench.types import FloatArray, Relevance

IMAGES: Mapping[Size, int] = {"tiny": 80, "small": 400, "full": 1000}
COMPLETENESS, ACCURACY, DEPTH, CUT = 0.25, 0.8, 100, 50
METRIC = f"AP(norm=min)@{CUT}"


@dataclass(frozen=True, eq=False)
class World:
    """all, own : every true pair, and each query's own image only; own_image (n_queries,)."""

    all: Relevance
    own: Relevance
    own_image: np.ndarray


def measure(seed: int, size: Size) -> Arms:
    """One seed: two systems under two kinds of labels, and one judge under several rules for its ties."""
    world, dice = _world(seed, IMAGES[size]), np.random.default_rng([seed, 11])
    return {
        "one label a query": _systems(world, world.own, np.random.default_rng([seed, 12])),
        "all labels": _systems(world, world.all, np.random.default_rng([seed, 12])),
        "a judge on a fixed hundred": _judged(world, dice),
    }


def _world(seed: int, n: int) -> World:
    """Every second caption, of queries with no more than a quarter of the images."""
    made = scenes(n_images=n, seed=seed, captions_per_image=2, completeness=COMPLETENESS, objects=(1, 3), size=64)
    known = truth(made)
    kept = np.flatnonzero((np.arange(len(made.texts)) % 2 == 0) & (known.positives_per_query <= n // 4))
    own_image = np.asarray(made.text_image)[kept]
    own = Relevance.from_pairs(np.arange(len(kept)), own_image, n_queries=len(kept), n_gallery=n)
    return World(known.take(kept, np.arange(n)), own, own_image)


def _mean_ap(scores: npt.ArrayLike, relevance: Relevance) -> float:
    return 100.0 * aggregate(METRIC, per_query(METRIC, ranks_from_scores(scores, relevance)).expected)


def _right(relevance: Relevance) -> FloatArray:
    found = np.zeros((relevance.n_queries, relevance.n_gallery))
    found[relevance.queries, relevance.items] = relevance.grades > 0
    return found


def _systems(world: World, labels: Relevance, dice: np.random.Generator) -> dict[str, float]:
    """One system knows which image a caption was written for and little of its meaning; the other the meaning only."""
    own, right = _right(world.own), _right(world.all)
    noise = dice.standard_normal(right.shape)
    shuffled = right[dice.permutation(len(right))]
    return {
        "knows the pair": _mean_ap(2.5 * own + 0.5 * right + noise, labels),
        "knows the meaning": _mean_ap(2.0 * right + noise, labels),
        "knows another query's meaning": _mean_ap(2.0 * shuffled + noise, labels),
        "random": _mean_ap(dice.standard_normal(right.shape), labels),
    }


def _judged(world: World, dice: np.random.Generator) -> dict[str, float]:
    """The same yes-or-no answers on a fixed hundred, ordered in several ways; an answer is right four times of five."""
    right = _right(world.all)
    first = 1.2 * right + dice.standard_normal(right.shape)
    hundred = np.argsort(-first, axis=1, kind="stable")[:, :DEPTH]
    found = np.take_along_axis(right, hundred, axis=1)
    found = found[found.any(axis=1)]  # positives are counted inside the hundred; a query without one has no score
    rows, columns = np.nonzero(found)
    inside = Relevance.from_pairs(rows, columns, n_queries=len(found), n_gallery=found.shape[1])
    yes = np.where(dice.random(found.shape) < ACCURACY, found, 1 - found)
    down = -np.arange(found.shape[1], dtype=np.float64) / found.shape[1]
    return {
        "first stage": _mean_ap(np.broadcast_to(down, found.shape), inside),
        "judge, ties keep the first order": _mean_ap(2 * yes + down, inside),
        "judge, ties by chance": _mean_ap(yes, inside),
        "judge, ties in reverse order": _mean_ap(2 * yes - down, inside),
        "judge with fine scores": _mean_ap(found + 0.6 * dice.standard_normal(found.shape), inside),
        "another query's answers": _mean_ap(2 * yes[dice.permutation(len(yes))] + down, inside),
        "random order of the hundred": _mean_ap(dice.random(found.shape), inside),
    }


def normalisers() -> Facts:
    """AP@50 of two rankings that can be checked by hand, under three denominators, in points."""
    one_hit = _ap_of_ranking(hits=(1,), n_positives=100)
    perfect = _ap_of_ranking(hits=tuple(range(1, CUT + 1)), n_positives=1500)
    return {"one hit, of 100 positives": one_hit, "a perfect list, of 1,500 positives": perfect}


def _ap_of_ranking(*, hits: tuple[int, ...], n_positives: int) -> dict[str, tuple[float, ...]]:
    """hits : places, from 1, of the positives within the cutoff; the others come right after it."""
    n = CUT + 2 * n_positives
    places = np.concatenate([hits, CUT + 1 + np.arange(n_positives - len(hits))])
    relevance = Relevance.from_pairs(np.zeros(n_positives, int), places - 1, n_queries=1, n_gallery=n)
    ranks = ranks_from_scores(-np.arange(n, dtype=np.float64)[None], relevance)
    names = {"over min(k, positives)": "(norm=min)", "over hits found": "(norm=hits)", "over all positives": ""}
    return {said: (100.0 * float(per_query(f"AP{norm}@{CUT}", ranks).expected[0]),) for said, norm in names.items()}


CARD = Card(
    key="S11",
    title="INQUIRE: A Natural World Text-to-Image Retrieval Benchmark",
    authors=("Edward Vendrow", "Omiros Pantazis", "Alexander Shepard", "Gabriel Brostow", "Kate E. Jones",
             "Oisin Mac Aodha", "Sara Beery", "Grant Van Horn"),
    venue="NeurIPS Datasets and Benchmarks",
    year=2024,
    link="https://arxiv.org/abs/2411.02537",
    claim="Queries with exhaustive labels, scored by AP@50 over min(50, positives), measure retrieval that pairs of "
    "one image and one caption cannot, and reranking the first hundred by a yes-or-no judge improves it.",
    conditions="All true pairs are labelled; queries have between one and a quarter of the images as answers. The "
    "judge's answers take two values, four of five are right: it helps only if its ties keep the first stage's order.",
    expected="One label a query prefers the system that knows the pair, all labels the one that knows the meaning. A "
    "judge that is right four times of five adds 5 points or more when ties keep the first order, and helps nothing "
    "when they are turned round. AP over the hits found calls a list perfect that found one of a hundred.",
    refuses="AP over the hits found only, and a tie rule that nobody states.",
    tuned="The judge's answers are the same in all arms; the first stage and the random order have nothing to choose.",
    deviations=(
        "The released scorer samples at temperature 0.5 before it reads the scores of yes and no.",
        "An answer without a listed yes scores 0, one without a listed no scores 1, so that ties are common.",
        "The order of the second stage is a flipped ascending sort: tied items come in reverse order, and AP inside a "
        "tie takes the precision at the end of the block.",
    ),
    prior="A judge that is right four times of five, on 100 items (AP@50): first stage 53.0, released tie handling "
    "34.6, random 41.4, ties in the first stage's order 71.8.",
)  # fmt: skip
POINTS = f"points of {METRIC}"
JUDGE, KEPT, TURNED = "a judge on a fixed hundred", "judge, ties keep the first order", "judge, ties in reverse order"
OTHERS, MEANING, PAIR = "another query's answers", "knows the meaning", "knows the pair"
FIRST = "first stage"
HITS, LEAST, ALL = "over hits found", "over min(k, positives)", "over all positives"

STUDY = Study(
    card=CARD,
    claims=(
        Claim("one label a query prefers the system that knows the pair", "one label a query", PAIR, (MEANING,),
              "random", POINTS, 5),
        Claim("all labels prefer the system that knows the meaning", "all labels", MEANING, (PAIR,),
              "knows another query's meaning", POINTS, 5),
        Claim("the judge helps when ties keep the first order", JUDGE, KEPT, (FIRST, OTHERS), OTHERS, POINTS, 5),
        Claim("the judge helps under the released rule for ties", JUDGE, TURNED, (FIRST,), OTHERS, POINTS, 0),
        Claim("the rule for ties alone is worth more than the judge", JUDGE, KEPT, (TURNED,), OTHERS, POINTS, 10),
        Claim("AP over hits calls one of a hundred found perfect", "one hit, of 100 positives", HITS, (LEAST, ALL), ALL,
              "points of AP@50", 90),
        Claim("AP over all positives hides a perfect list", "a perfect list, of 1,500 positives", LEAST, (ALL,), ALL,
              "points of AP@50", 90),
    ),
    measure=measure,
    seconds={"tiny": 4, "small": 20, "full": 150},
    blind=("random", "knows another query's meaning", OTHERS, "random order of the hundred"),
    facts=normalisers,
)  # fmt: skip
