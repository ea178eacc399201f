"""Metrics of one direction with their intervals, their tie brackets and the value that chance would give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workbench.metrics import METRICS, Metric, MetricValues, aggregate, definition, parse_metric, per_query
from workbench.statistics import cluster_bootstrap
from workbench.types import Finding, Ranks

if TYPE_CHECKING:
    import pandas as pd

CURVE_DEPTHS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True, eq=False)
class Scores:
    """Metrics of one direction; all arrays have one entry per metric.

    value : expected value under random tie order. low, high : interval from the cluster bootstrap. worst, best : over
    all tie orders. chance : value of a scorer that gives every item the same score. n : queries scored.
    """

    direction: str
    metrics: tuple[str, ...]
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    worst: np.ndarray
    best: np.ndarray
    chance: np.ndarray
    n: np.ndarray
    clusters: np.ndarray
    level: float
    notes: tuple[str, ...]

    def flat(self) -> dict[str, float]:
        """``{"t2i/hit@1": 0.42, ...}``"""
        return {f"{self.direction}/{name}": float(value) for name, value in zip(self.metrics, self.value, strict=True)}

    def entries(self) -> dict[str, dict[str, Any]]:
        """The lines of ``metrics.json``: NaN becomes null."""
        names = ("value", "low", "high", "worst", "best", "chance")
        return {
            f"{self.direction}/{metric}": {
                **{name: _plain(getattr(self, name)[i]) for name in names},
                "n": int(self.n[i]),
                "clusters": int(self.clusters[i]),
            }
            for i, metric in enumerate(self.metrics)
        }

    def table(self) -> pd.DataFrame:
        import pandas as pd

        columns = {name: getattr(self, name) for name in ("value", "low", "high", "worst", "best", "chance", "n")}
        return pd.DataFrame(columns, index=pd.Index(self.metrics, name=f"{self.direction} metric"))

    def plot(self, ax: Any = None) -> Any:
        from workbench.plots.curves import metric_curve

        return metric_curve([self], ax)

    def findings(self) -> list[Finding]:
        """The headline metric held against chance."""
        where = next((i for i, name in enumerate(self.metrics) if higher_is_better(name)), None)
        return [] if where is None else [_headline(self, where)]

    def _repr_html_(self) -> str:
        return str(self.table().round(4).to_html())


def score(
    direction: str,
    ranks: Ranks,
    clusters: np.ndarray,
    metrics: Sequence[str],
    *,
    seed: int,
    n_resamples: int,
    level: float = 0.95,
    short_lists: Literal["refuse", "as is"] = "refuse",
    gallery_known: bool = True,
) -> tuple[Scores, dict[str, MetricValues]]:
    """Score one direction. A metric that cannot be measured is NaN with a note: never a smaller k.

    short_lists : as in :func:`workbench.metrics.per_query`. gallery_known : False when the ranks come from lists of a
    gallery of unknown size, so that chance is not known either.
    """
    floor, rows, values, notes = _constant_scorer(ranks), [], {}, []
    for name in metrics:
        metric = parse_metric(name)
        try:
            found = _values(metric, ranks, short_lists)
        except ValueError as why:
            notes.append(f"{direction}/{metric}: not measurable, {str(why).removeprefix(f'{metric} ')}")
            rows.append([np.nan] * 6 + [0, 0])
            continue
        statistic = "median" if metric.name == "MedR" else "mean"
        interval = cluster_bootstrap(
            found.expected, clusters, statistic=statistic, level=level, n_resamples=n_resamples, seed=seed
        )
        notes += [f"{direction}/{metric}: {warning}" for warning in interval.warnings]
        brackets = [aggregate(metric, found.worst), aggregate(metric, found.best)]
        chance = aggregate(metric, per_query(metric, floor).expected) if gallery_known else np.nan
        rows.append([interval.value, interval.low, interval.high, *brackets, chance, interval.n, interval.n_clusters])
        values[str(metric)] = found
    table = np.array(rows, dtype=np.float64).reshape(len(rows), 8)
    names = tuple(str(parse_metric(name)) for name in metrics)
    counts = table[:, 6:].astype(np.int64)
    unique = tuple(dict.fromkeys(notes))
    return Scores(direction, names, *table[:, :6].T.copy(), counts[:, 0], counts[:, 1], level, unique), values


def _values(metric: Metric, ranks: Ranks, short_lists: Literal["refuse", "as is"]) -> MetricValues:
    if metric.k is not None and metric.k > ranks.n_gallery:
        raise ValueError(f"the gallery has only {ranks.n_gallery} items")
    return per_query(metric, ranks, short_lists=short_lists)


def hit_curve(
    direction: str, ranks: Ranks, clusters: np.ndarray, *, seed: int, n_resamples: int,
    short_lists: Literal["refuse", "as is"] = "refuse", gallery_known: bool = True,
) -> Scores:  # fmt: skip
    """hit@k at round depths, as far as the rankings of the scored queries reach."""
    scored = ranks.depth[ranks.positives_per_query > 0]
    reach = 0 if not len(scored) else int(scored.min() if short_lists == "refuse" else scored.max())
    names = [f"hit@{k}" for k in CURVE_DEPTHS if k <= reach]
    how: dict[str, Any] = {"seed": seed, "n_resamples": n_resamples}
    return score(direction, ranks, clusters, names, **how, short_lists=short_lists, gallery_known=gallery_known)[0]


def tie_exposure(direction: str, ranks: Ranks) -> Finding:
    """The share of queries whose best positive shares its score with another item."""
    best = first_positive(ranks)
    tied = best["n_tied"][best["n_better"] >= 0] > 0
    share = float(tied.mean()) if len(tied) else None
    if share is None:
        source = "convention of this report"
        return Finding(f"{direction}/ties", None, None, 0.01, source, "not measurable", "No query has a right item.")
    if share == 0:
        advice = "No right item shares its score with another one: every tie rule gives the same numbers."
    else:
        advice = (
            f"{share:.2%} of the queries have a tie at their best right item. Values are expectations over random tie "
            "order, with worst and best case beside them; another tool's tie rule may print anything in between."
        )
    verdict = "ok" if share <= 0.01 else "look" if share <= 0.1 else "problem"
    source = "convention of this report: above 1 % a tie rule can move the second digit"
    return Finding(f"{direction}/ties", share, None, 0.01, source, verdict, advice, "%")  # type: ignore[arg-type]


def first_positive(ranks: Ranks) -> dict[str, np.ndarray]:
    """For each query the best-placed positive, -1 without one: items above it, others tied with it, and its place.

    place : the expected one of the first positive, better + (tied + 2) / (positives in the tie + 1).
    """
    found = {name: np.full(ranks.n_queries, -1) for name in ("item", "n_better", "n_tied", "n_right")}
    order = np.lexsort((ranks.items, ranks.better, ranks.queries))
    queries, starts = np.unique(ranks.queries[order], return_index=True)
    for name, values in (("item", ranks.items), ("n_better", ranks.better), ("n_tied", ranks.tied)):
        found[name][queries] = values[order][starts]
    beside = ranks.better == found["n_better"][ranks.queries]
    found["n_right"][queries] = np.bincount(ranks.queries[beside], minlength=ranks.n_queries)[queries]
    place = found["n_better"] + (found["n_tied"] + 2) / (np.where(found["n_tied"] > 0, found["n_right"], 1) + 1)
    return {**found, "place": np.where(found["item"] >= 0, place, -1.0)}


def definitions(metrics: Sequence[str]) -> Mapping[str, str]:
    """One sentence per metric for the protocol card; cutoffs of one metric share a line.

    >>> definitions(["hit@1", "MRR", "hit@10"])["hit@1, hit@10"]
    'share of queries with at least one positive in the first k places (also printed as R@k or success@k)'
    """
    families: dict[Metric, list[Metric]] = {}
    for metric in map(parse_metric, metrics):
        families.setdefault(replace(metric, k=None if metric.k is None else 999), []).append(metric)
    return {
        ", ".join(map(str, members)): definition(family if len(members) > 1 else members[0]).replace("999", "k")
        for family, members in families.items()
    }


def _constant_scorer(ranks: Ranks) -> Ranks:
    """The ranks if every item of the gallery had the same score."""
    n = len(ranks.items)
    return Ranks(
        ranks.indptr, ranks.items, ranks.grades, np.zeros(n, np.int64), np.full(n, ranks.n_gallery - 1),
        np.full(ranks.n_queries, ranks.n_gallery), ranks.n_gallery,
    )  # fmt: skip


def higher_is_better(metric: str) -> bool:
    """False for ranks, where first is best."""
    return not METRICS[parse_metric(metric).name].lower_is_better


def _headline(scores: Scores, i: int) -> Finding:
    name, value, low, high, chance = (
        scores.metrics[i], *(float(getattr(scores, part)[i]) for part in ("value", "low", "high", "chance")),
    )  # fmt: skip
    label, source = f"{scores.direction}/{name}", "the exact value of a scorer that ties everything (chance)"
    if not np.isfinite(value):
        notes = [note.partition(": ")[2] for note in scores.notes if note.startswith(f"{label}: not measurable")]
        nothing = "No query has a right item, so nothing can be scored: bring judgements with qrels=FILE."
        return Finding(label, None, None, None, source, "not measurable", (notes or [nothing])[0])
    if not np.isfinite(low):
        advice = (
            "There is only one independent query, or one image with its texts: how much the value would vary is "
            "unknown, so nothing can be claimed."
        )
        return Finding(label, value, None, chance, source, "look", advice, "%")
    if not np.isfinite(chance):
        advice = (
            "Quote the value with its interval and the protocol card below. Chance is unknown, because lists do not "
            "say how large the gallery is; if you know, pass gallery_size=N."
        )
        return Finding(label, value, (low, high), None, "chance, which is unknown here", "not measurable", advice, "%")
    if not low > chance:
        verdict, advice = "problem", (
            "Not told from chance. Look for a wrong pairing of rows, a wrong checkpoint or preprocessing, a language "
            "or domain the model does not know; no repair below can rescue this."
        )  # fmt: skip
    elif value < 10 * chance and value < 0.5:
        verdict, advice = "problem", (
            f"Above chance, but only {value / chance:.1f} times: the model hardly knows these data. Use an encoder "
            "trained on such images and texts before reading anything else into this report."
        )  # fmt: skip
    elif low > 0.98:
        verdict, advice = "look", "Saturated: this set can no longer tell good systems apart. Use a harder one."
    else:
        times = "" if chance <= 0 else f"{value / chance:,.0f} times chance. "
        verdict, advice = "ok", f"{times}Quote the value with its interval and the protocol card below."
    return Finding(label, value, (low, high), chance, source, verdict, advice, "%")  # type: ignore[arg-type]


def _plain(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None
