"""S38: a linter for generated answers, support of citations, and an arena with error bars.

Worlds: records with ten planted defects; topics whose facts are known, with near-copies of segments; battles between
four systems of known strength, and between two equal ones.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from workbench.datasets.answers import AnswerWorld, answer_world, clean_records, spoiled
from workbench.datasets.battles import battles
from workbench.diagnostics.answers import FIELDS, citation_support, validate_answers
from workbench.statistics.arena import bradley_terry, elo
from workbench.studies.study import Arms, Card, Claim, Facts, Size, Study
from workbench.types import FloatArray, IntArray

BATTLES: Mapping[Size, int] = {"tiny": 600, "small": 2000, "full": 8000}
STRENGTHS = (1060.0, 1020.0, 980.0, 940.0)
ORDERS, EQUAL_BATTLES = 30, 1000
REFERENCE = r"doc-[\w-]+#\d+"


def measure(seed: int, size: Size) -> Arms:
    """One seed of the three parts."""
    return {
        "ten planted defects": _linted(seed),
        "answers that copy": _support(seed),
        "four systems": _order(seed, BATTLES[size]),
        "the same battles in other orders": _orders(seed, BATTLES[size]),
        "two equal systems": _equal(seed),
    }


def _linted(seed: int) -> dict[str, float]:
    """F1 of the defects found, in points; a clean file must give nothing, so its issues count as false ones."""
    world = answer_world(n_topics=20, seed=seed)
    clean = clean_records(world, seed=seed)
    bad, planted = spoiled(clean, seed=seed)
    false = len(validate_answers(clean, world.topics, reference=REFERENCE))
    found = {(one.line, one.kind) for one in validate_answers(bad, world.topics, reference=REFERENCE) if one.line}
    schema = {(line, "missing field") for line, one in enumerate(bad, 1) if any(name not in one for name in FIELDS)}
    dice = np.random.default_rng([seed, 38])
    kinds = list(planted.values())
    guessed = {(int(line), kind) for line, kind in zip(1 + dice.permutation(len(bad)), kinds, strict=False)}
    right = set(planted.items())
    return {"linter": _f1(found, right, false), "schema check": _f1(schema, right, 0), "random": _f1(guessed, right, 0)}


def _f1(found: set[tuple[int, str]], right: set[tuple[int, str]], false: int) -> float:
    return 200.0 * len(found & right) / (len(found) + false + len(right))


def _support(seed: int) -> dict[str, float]:
    """Recall of a list of segments, in points: counted by segment, after removing copies, and by fact.

    The system knows a fact that was copied five times as one that was not: it finds half of the facts, the copied ones
    first.
    """
    world = answer_world(n_topics=40, copies=1.0, seed=seed)
    dice = np.random.default_rng([seed, 39])
    answers = [_answer(world, t, dice) for t in range(len(world.topics))]
    by_segment = _recall(world, answers, copies=True)
    shuffled = [answers[i] for i in dice.permutation(len(answers))]
    return {
        "recall by segment": by_segment,
        "recall by segment without copies": _recall(world, answers, copies=False),
        "recall by fact": 100.0 * citation_support(answers, world.evidence, world.facts).found,
        "another topic's answer": 100.0 * citation_support(shuffled, world.evidence, world.facts).found,
    }


def _answer(world: AnswerWorld, topic: int, dice: np.random.Generator) -> list[tuple[str, list[str]]]:
    """Half of the facts, those with copies first, each with all segments that hold it."""
    held: dict[str, list[str]] = {}
    for one in world.segments[topic]:
        for fact in world.evidence[one]:
            held.setdefault(fact, []).append(one)
    order = sorted(held, key=lambda fact: (-len(held[fact]), dice.random()))
    return [(fact, held[fact]) for fact in order[: len(order) // 2]]


def _recall(world: AnswerWorld, answers: list[list[tuple[str, list[str]]]], *, copies: bool) -> float:
    found, total = 0, 0
    for answer, segments in zip(answers, world.segments, strict=True):
        relevant = {one for one in segments if world.evidence[one] and (copies or one not in world.copy_of)}
        found, total = found + len(relevant & {one for _, cited in answer for one in cited}), total + len(relevant)
    return 100.0 * found / total


def _order(seed: int, n: int) -> dict[str, float]:
    """Kendall's correlation of the ratings with the true strengths."""
    from scipy.stats import kendalltau

    pairs, outcomes = battles(STRENGTHS, n, seed=seed)
    names = tuple("abcd")
    dice = np.random.default_rng([seed, 40])
    found = bradley_terry(pairs, outcomes, names, n_resamples=200, seed=seed)
    shuffled = bradley_terry(pairs, dice.permutation(outcomes), names, n_resamples=0)
    inside = (found.low <= np.array(STRENGTHS)) & (np.array(STRENGTHS) <= found.high)
    return {
        "Bradley-Terry": float(kendalltau(found.rating, STRENGTHS).statistic),
        "Elo": float(kendalltau(elo(pairs, outcomes, 4), STRENGTHS).statistic),
        "share of wins": float(kendalltau(_shares(pairs, outcomes), STRENGTHS).statistic),
        "outcomes shuffled": float(kendalltau(shuffled.rating, STRENGTHS).statistic),
        "no information": 0.0,
        "share of strengths inside their intervals": float(inside.mean()),
    }


def _shares(pairs: IntArray, outcomes: FloatArray) -> FloatArray:
    won = np.bincount(pairs[:, 0], outcomes, 4) + np.bincount(pairs[:, 1], 1 - outcomes, 4)
    return np.asarray(won / np.bincount(pairs.ravel(), minlength=4))


def _orders(seed: int, n: int) -> dict[str, float]:
    """Standard deviation of the ratings, in points, when the same battles are put in other orders."""
    pairs, outcomes = battles(STRENGTHS, n, ties=0.1, seed=seed)
    dice = np.random.default_rng([seed, 41])
    orders = [dice.permutation(n) for _ in range(ORDERS)]
    rated = {
        "Elo": [elo(pairs[order], outcomes[order], 4) for order in orders],
        "Elo, K = 1": [elo(pairs[order], outcomes[order], 4, k=1.0) for order in orders],
        "Bradley-Terry": [bradley_terry(pairs[order], outcomes[order], tuple("abcd"), n_resamples=0).rating
                          for order in orders[:5]],
        "constant": [np.full(4, 1000.0)] * 2,
    }  # fmt: skip
    return {name: float(np.std(found, axis=0).mean()) for name, found in rated.items()}


def _equal(seed: int) -> dict[str, float]:
    """Points between two equal systems after a thousand battles: how far the second falls behind, and points lost."""
    pairs, outcomes = battles((1000.0, 1000.0), EQUAL_BATTLES, seed=seed)
    fixed = np.where(pairs[:, :1] == 0, pairs, pairs[:, ::-1])  # the first system always on the left
    won = np.where(pairs[:, 0] == 0, outcomes, 1 - outcomes)
    plain, wrong = elo(fixed, won, 2), elo(fixed, np.where(won == 0, 0.5, won), 2)
    cut = _truncated(fixed, won)
    return {
        "lead of the first, Elo": float(plain[0] - plain[1]),
        "lead of the first, a win of the second as a tie": float(wrong[0] - wrong[1]),
        "sum of ratings, Elo": float(plain.sum()),
        "sum of ratings, truncated to whole points": float(cut.sum()),
        "no battles": 0.0,
    }


def _truncated(pairs: IntArray, outcomes: FloatArray) -> FloatArray:
    ratings = np.full(2, 1000.0)
    for pair, outcome in zip(pairs, outcomes, strict=True):
        ratings = np.floor(ratings)
        one, other = pair
        moved = 5.0 * (outcome - 1.0 / (1.0 + 10.0 ** ((ratings[other] - ratings[one]) / 400.0)))
        ratings[one], ratings[other] = ratings[one] + moved, ratings[other] - moved
    return ratings


def released() -> Facts:
    """Sum of the ratings in the released table of five systems, which began with 1000 points each."""
    return {"released table of five systems": {"sum as released": (4975.4,), "sum of correct Elo": (5000.0,)}}


CARD = Card(
    key="S38",
    title="Ragnarok: A Reusable RAG Framework and Baselines for TREC 2024 Retrieval-Augmented Generation Track",
    authors=("Ronak Pradeep", "Nandan Thakur", "Sahel Sharifymoghaddam", "Eric Zhang", "Ryan Nguyen", "Daniel Campos",
             "Nick Craswell", "Jimmy Lin"),
    venue="ECIR",
    year=2025,
    link="https://arxiv.org/abs/2406.16828",
    claim="Answers with citations can be checked by a validator, and systems ranked by blind battles in an arena.",
    conditions="The validator knows topics and limits; battles are fought by systems whose strength stays the same, "
    "and ratings are computed without rounding on outcomes as they were. Elo is fair to systems that change; for "
    "systems that do not, the order of the battles is noise.",
    expected="Ten planted defects are found, and none in a clean file. Bradley-Terry has the order of four systems "
    "right (Kendall 0.9 or more), Elo less so. Elo moves with the order of the battles by a point or more, "
    "Bradley-Terry not at all. Copies of segments inflate recall by 5 points or more until they are counted once.",
    refuses="A check of the schema alone, and ratings without a bootstrap.",
    tuned="Elo has the K of the paper, and a smaller one beside it; Bradley-Terry has nothing to choose.",
    deviations=(
        "A win of the second answer on evidence scores half a point, as a tie does.",
        "Ratings are truncated to whole points before each update, so that points are lost.",
        "The test of who may enter one leaderboard compares a field with itself.",
        "The writer of records counts words after replacing commas and semicolons by blanks, the checker does not.",
        "Dropping references that are not used can leave a citation that points beyond the list.",
    ),
    prior="Two equal systems, 1,000 battles, 20 seeds: correct Elo 1001 and 999; a win of the second as a tie 1097 and "
    "903; truncation loses about 1,000 points in all.",
)  # fmt: skip
FOUR, ORDERED, EQUAL = "four systems", "the same battles in other orders", "two equal systems"
FACT, COPIED, OTHER = "recall by fact", "recall by segment", "another topic's answer"

STUDY = Study(
    card=CARD,
    claims=(
        Claim("the linter finds what a schema check does not", "ten planted defects", "linter",
              ("schema check", "random"), "schema check", "points of F1", 50),
        Claim("copies inflate recall until they are counted once", "answers that copy", COPIED,
              (FACT, "recall by segment without copies"), OTHER, "points of recall", 5),
        Claim("Bradley-Terry has the order of four systems", FOUR, "Bradley-Terry", ("no information",),
              "outcomes shuffled", "Kendall's tau", 0.9),
        Claim("Bradley-Terry orders better than Elo", FOUR, "Bradley-Terry", ("Elo",), "outcomes shuffled",
              "Kendall's tau", 0.05),
        Claim("Elo moves with the order of the battles", ORDERED, "Elo", ("Bradley-Terry", "constant"), "constant",
              "points of rating", 1),
        Claim("a win scored as a tie pulls equal systems apart", EQUAL,
              "lead of the first, a win of the second as a tie", ("lead of the first, Elo",), "no battles",
              "points of rating", 50),
        Claim("truncation loses points", EQUAL, "sum of ratings, truncated to whole points", ("sum of ratings, Elo",),
              "sum of ratings, Elo", "points of rating", 500, better="lower"),
        Claim("the released table has lost points", "released table of five systems", "sum as released",
              ("sum of correct Elo",), "sum of correct Elo", "points of rating", 1, better="lower"),
    ),
    measure=measure,
    seconds={"tiny": 6, "small": 30, "full": 200},
    seeds={"tiny": 5, "small": 20, "full": 50},
    blind=("random", OTHER, "outcomes shuffled", "constant", "no battles"),
    facts=released,
)  # fmt: skip
