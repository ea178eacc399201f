"""Slow, obvious loops: what the fast code must equal. Never optimised, never imported by the package."""

from __future__ import annotations

import itertools
import math

import numpy as np

from workbench.search import pair_scores

# ---- metrics: one ordered list at a time, then every order of the tied items ----


def metric_of_list(text: str, grades: list[float], n_positives: int, all_grades: list[float]) -> float:
    """One metric of one ordered list of grades (best first), by counting.

    text : the metric's printed name. n_positives : positives there are, in the list or not. all_grades : their grades.
    """
    name, _, cutoff = text.partition("@")
    name, _, options = name.partition("(")
    if text in ("R-precision", "mAP@R"):
        cutoff = str(n_positives)
    k = int(cutoff) if cutoff else len(grades)
    top = grades[:k]
    hits = sum(1 for grade in top if grade > 0)
    if name == "hit":
        return 1.0 if hits else 0.0
    if name in ("R", "R-precision"):
        return hits / n_positives
    if name == "P":
        return hits / k
    if name in ("RR", "MRR", "MedR", "MeanR"):
        for rank, grade in enumerate(top, start=1):
            if grade > 0:
                return float(rank) if name in ("MedR", "MeanR") else 1 / rank
        return 0.0
    if name == "mINP":
        return n_positives / max(rank for rank, grade in enumerate(grades, start=1) if grade > 0)
    if name in ("AP", "mAP"):
        return _metric_summed_precision(top) / {
            "norm=min)": min(k, n_positives),
            "norm=hits)": max(hits, 1),
        }.get(options, n_positives)
    if name == "nDCG":
        exponential = options == "gain=exp)"
        ideal = sorted(all_grades, reverse=True)[: k if cutoff else None]
        return _metric_discounted(top, exponential) / _metric_discounted(ideal, exponential)
    raise AssertionError(f"no reference for {text}")


def _metric_summed_precision(grades: list[float]) -> float:
    total, hits = 0.0, 0
    for rank, grade in enumerate(grades, start=1):
        if grade > 0:
            hits += 1
            total += hits / rank
    return total


def _metric_discounted(grades: list[float], exponential: bool) -> float:
    total = 0.0
    for rank, grade in enumerate(grades, start=1):
        if grade > 0:
            total += (2**grade - 1 if exponential else grade) / math.log2(rank + 1)
    return total


def metric_over_orders(
    text: str,
    scores: list[float],
    grades: list[float],
    missing: list[float] | None = None,
    judged: list[bool] | None = None,
) -> tuple[float, float, float]:
    """(mean, smallest, largest) of a metric over every order of the items that sorts the scores; few items only.

    missing : grades of positives that are not in the list at all. judged : which items are left in the list.
    """
    everything = [grade for grade in [*grades, *(missing or [])] if grade > 0]
    values = []
    for order in metric_orders(scores):
        ordered = [grades[item] for item in order if judged is None or judged[item]]
        values.append(metric_of_list(text, ordered, len(everything), everything))
    return sum(values) / len(values), min(values), max(values)


def metric_orders(scores: list[float]) -> list[tuple[int, ...]]:
    """Every order of the items in which the scores fall or stay."""
    falling = sorted(scores, reverse=True)
    orders = itertools.permutations(range(len(scores)))
    return [order for order in orders if [scores[item] for item in order] == falling]


def metric_places(items, scores, wanted: int) -> tuple[int, int] | None:
    """(better, tied) of one item in a list by comparing it with every other one, None if it is not there."""
    listed = dict(zip(items, scores, strict=True))
    if wanted not in listed:
        return None
    others = [score for item, score in listed.items() if item != wanted]
    return sum(s > listed[wanted] for s in others), sum(s == listed[wanted] for s in others)


# ---- search: every pair of two sides, one row after the other ----


def search_scores(queries, gallery):
    """Every pair score by the definition, as a dense matrix."""
    rows, columns = np.divmod(np.arange(len(queries) * len(gallery)), len(gallery))
    return pair_scores(queries, gallery, rows, columns).reshape(len(queries), len(gallery))


def search_top_k(scores, k, ids=None):
    """Sort every row by (score descending, id ascending), one row after the other."""
    names = list(range(scores.shape[1])) if ids is None else list(ids)
    indices, best, tied = [], [], []
    for row in scores.tolist():
        order = sorted(range(len(row)), key=lambda j: (-row[j], names[j]))
        indices.append(order[:k])
        best.append([row[j] for j in order[:k]])
        tied.append(any(row[j] == row[order[k - 1]] for j in order[k:]))
    return np.array(indices), np.array(best), np.array(tied)


def search_ranks(scores, relevance):
    """(better, tied) of every positive by comparing it with every other item."""
    better, tied = [], []
    for query in range(relevance.n_queries):
        items, grades = relevance.row(query)
        for item in items[grades > 0]:
            others = np.delete(scores[query], item)
            better.append(int((others > scores[query, item]).sum()))
            tied.append(int((others == scores[query, item]).sum()))
    return np.array(better, np.int64), np.array(tied, np.int64)


def search_log_sum_exp(scores, beta):
    """Per row, with exactly rounded sums from the standard library."""
    results = []
    for row in scores.tolist():
        top = max(row)
        results.append((beta * top + math.log(math.fsum(math.exp(beta * (s - top)) for s in row))) / beta)
    return np.array(results)
