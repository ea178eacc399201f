"""Prompt sensitivity: how far a score moves with the sentence that is put around the texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from workbench.diagnostics.consistency import own_places
from workbench.metrics import METRICS, parse_metric, per_query, rank_dispersion
from workbench.search import RankPositives, scan
from workbench.statistics import Interval, PairedDifference, cluster_bootstrap, holm, paired_difference
from workbench.types import Finding, FloatArray, Relevance, Verdict

if TYPE_CHECKING:
    import pandas as pd

#: Sentences to try where none are named: the texts as they are, the usual one, and two that say the same.
TEMPLATES = ("{}", "a photo of {}", "a picture showing {}", "this is {}")
LEVEL = 0.05
MOVES = 0.005
SOURCE = (
    "half a point, what papers report as progress: 'look' when templates are told apart (5 %, permutations) and lie "
    "further apart than chance puts them, by more than this; convention of this project"
)


@dataclass(frozen=True, eq=False)
class PromptSensitivity:
    """One metric of one direction under several templates of the texts.

    values (n_queries, n_templates) : of the metric, higher is better. scores : mean with interval by template.
    against_first : each template minus the first, paired; None for the first. p_holm (n_templates,) : of these,
    corrected; NaN for the first. apart : the best minus the worst, paired, chosen after the fact.
    spread_null : (mean, 95 % quantile) of the spread when templates are exchangeable (values of one cluster change
    template together); spread_p : its p-value.
    chosen : the best template on a random half of the clusters, scored on the other half, minus the first template
    there, mean over halves. optimism : the best template on all data minus what choosing by halves gets.
    rank_spread : mean over queries of the standard deviation over templates of the logarithm of the place of the first
    right item.
    """

    direction: str
    metric: str
    templates: tuple[str, ...]
    values: FloatArray
    scores: tuple[Interval, ...]
    against_first: tuple[PairedDifference | None, ...]
    p_holm: FloatArray
    apart: PairedDifference
    spread_null: tuple[float, float]
    spread_p: float
    chosen: float
    optimism: float
    rank_spread: Interval
    seed: int

    @property
    def spread(self) -> float:
        """Highest minus lowest mean."""
        return self.apart.value

    @property
    def best(self) -> int:
        """The template with the highest mean, the first of several."""
        return int(np.argmax([found.value for found in self.scores]))

    def table(self) -> pd.DataFrame:
        """One row per template: mean with interval, and its paired difference from the first."""
        import pandas as pd

        nothing = float("nan")
        rows = [
            (template, score.value, score.low, score.high,
             *((nothing,) * 3 if paired is None else (paired.value, paired.low, paired.high)), p)
            for template, score, paired, p in zip(
                self.templates, self.scores, self.against_first, self.p_holm, strict=True
            )
        ]  # fmt: skip
        names = ["template", "value", "low", "high", "difference", "difference low", "difference high", "p (Holm)"]
        return pd.DataFrame(rows, columns=names).set_index("template")

    def plot(self, ax: Any = None) -> Any:
        """Difference of each template from the first, with paired intervals."""
        from workbench.plots import consistency

        return consistency.templates(self, ax)

    def findings(self) -> list[Finding]:
        """One finding: whether the choice of a template moves the score."""
        return [_finding(self)]

    def flat(self) -> dict[str, float]:
        """Numbers by ``prompts/direction/metric name``."""
        values = {"spread": self.spread, "optimism": self.optimism, "chosen": self.chosen}
        return {f"prompts/{self.direction}/{self.metric} {name}": value for name, value in values.items()}

    def _repr_html_(self) -> str:
        return str(self.table().to_html(float_format=lambda value: f"{value:.4g}", na_rep="", escape=True))


def prompt_sensitivity(
    texts: Mapping[str, npt.ArrayLike],
    images: npt.ArrayLike,
    relevance: Relevance,
    *,
    clusters: npt.ArrayLike,
    direction: str = "t2i",
    metrics: Sequence[str] = ("hit@1",),
    n_splits: int = 200,
    n_null: int = 999,
    n_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, PromptSensitivity]:
    """Score the same texts as encoded under several templates; one result per metric.

    texts : template -> (n_texts, dim) vectors; the first is the one others are held against. images (n_images, dim).
    relevance (n_texts, n_images), for direction "i2t" as well: the images ask, the texts are the gallery.
    clusters (n_queries,) : the image of each query. metrics : names of which more is better.
    The highest of several means is too high even if all templates are equal: ``optimism`` says by how much choosing on
    the test data flatters it, estimated on random halves (twice as noisy as on data of full size, so rather too large).
    Errors: fewer than two templates, shapes that do not fit, a metric of which less is better, no positives.

    >>> vectors = {"{}": np.eye(3), "a photo of {}": np.eye(3)[[0, 2, 1]]}
    >>> right = Relevance.from_pairs([0, 1, 2], [0, 1, 2], n_queries=3, n_gallery=4)
    >>> found = prompt_sensitivity(vectors, np.eye(4, 3), right, clusters=[0, 1, 2])["hit@1"]
    >>> [round(score.value, 3) for score in found.scores], round(found.spread, 3)
    ([1.0, 0.333], 0.667)
    """
    ranks = _ranked(texts, images, relevance, direction)
    owner, found = np.asarray(clusters), {}
    places = np.stack([_first_place(one) for one in ranks], axis=1)
    asked = np.isfinite(places).all(axis=1)
    if not asked.any():
        raise ValueError("no query has a right item, so no template can be scored; bring judgements")
    how: dict[str, Any] = {"seed": seed, "n_resamples": n_resamples}
    rank_spread = cluster_bootstrap(rank_dispersion(places[asked], kind="log"), owner[asked], **how)
    for name in metrics:
        metric = parse_metric(name)
        if METRICS[metric.name].lower_is_better:
            raise ValueError(f"{name} is better when it is lower; give metrics of which more is better, such as MRR")
        values = np.stack([per_query(metric, one).expected for one in ranks], axis=1)
        found[str(metric)] = _compared(
            direction, str(metric), tuple(texts), values[asked], owner[asked], rank_spread, n_splits, n_null, how
        )
    return found


def _ranked(texts: Mapping[str, Any], images: Any, relevance: Relevance, direction: str) -> list[Any]:
    if len(texts) < 2 or not direction.startswith(("t", "i")):
        raise ValueError(
            f"two templates or more are needed, and a direction from t or i; got {len(texts)} and {direction!r}"
        )
    of = "queries" if direction.startswith("t") else "gallery"
    right = relevance if of == "queries" else relevance.T
    pictures = np.asarray(images)
    return [scan(np.asarray(given), pictures, [RankPositives(right, of=of)])[0] for given in texts.values()]  # type: ignore[arg-type]


def _first_place(ranks: Any) -> FloatArray:
    """(n_queries,) expected place of the best right item, infinite without one."""
    first = np.full(ranks.n_queries, np.inf)
    np.minimum.at(first, ranks.queries, own_places(ranks))
    return first


def _compared(
    direction: str, metric: str, templates: tuple[str, ...], values: FloatArray, owner: np.ndarray,
    rank_spread: Interval, n_splits: int, n_null: int, how: Mapping[str, Any],
) -> PromptSensitivity:  # fmt: skip
    scores = tuple(cluster_bootstrap(column, owner, **how) for column in values.T)
    paired = [paired_difference(values[:, 0], column, owner, **how) for column in values.T[1:]]
    means, seed = values.mean(axis=0), how["seed"]
    apart = paired_difference(values[:, np.argmin(means)], values[:, np.argmax(means)], owner, **how)
    sums, counts = _by_cluster(values, owner)
    null = _exchanged(sums, len(values), n_null, seed)
    chosen_first, chosen_best = _by_halves(sums, counts, n_splits, seed)
    return PromptSensitivity(
        direction, metric, templates, values, scores, (None, *paired),
        np.append(np.nan, holm([found.p_value for found in paired])),
        apart, (float(null.mean()), float(np.quantile(null, 0.95))),
        float((1 + (null >= apart.value - 1e-12).sum()) / (n_null + 1)),
        chosen_best - chosen_first, float(means.max()) - chosen_best, rank_spread, seed,
    )  # fmt: skip


def _by_cluster(values: FloatArray, owner: np.ndarray) -> tuple[FloatArray, FloatArray]:
    """Sums (n_clusters, n_templates) and sizes (n_clusters,)."""
    code = np.unique(owner, return_inverse=True)[1].ravel()
    return np.stack([np.bincount(code, column) for column in values.T], axis=1), np.bincount(code).astype(np.float64)


def _exchanged(sums: FloatArray, n: int, n_null: int, seed: int) -> FloatArray:
    """Spreads (n_null,) when each cluster's templates change names at random."""
    rng = np.random.default_rng(seed)
    return np.array([np.ptp(rng.permuted(sums, axis=1).sum(axis=0) / n) for _ in range(n_null)])


def _by_halves(sums: FloatArray, counts: FloatArray, n_splits: int, seed: int) -> tuple[float, float]:
    """Mean score on the unseen half of the first template, and of the template that is best on the other half."""
    if len(sums) < 2:
        return float("nan"), float("nan")
    rng, scores = np.random.default_rng(seed), []
    for _ in range(n_splits):
        half = rng.permutation(len(sums))[: len(sums) // 2]
        seen = np.zeros(len(sums), bool)
        seen[half] = True
        for mine in (seen, ~seen):
            best = int(np.argmax(sums[mine].sum(axis=0)))
            unseen = sums[~mine].sum(axis=0) / counts[~mine].sum()
            scores.append((unseen[0], unseen[best]))
    first, best_unseen = np.mean(scores, axis=0)
    return float(first), float(best_unseen)


def _finding(found: PromptSensitivity) -> Finding:
    name = f"{found.direction}/{found.metric} by template"
    best = found.templates[found.best]
    if not np.isfinite(found.optimism):
        why = "All queries belong to one image, so how much a template gains elsewhere is unknown."
        return Finding(name, None, None, MOVES, SOURCE, "not measurable", why, "points")
    excess = found.spread - found.spread_null[0]
    verdict: Verdict = "look" if found.spread_p < LEVEL and excess > MOVES else "ok"
    said = (
        f"Equal templates lie {100 * found.spread_null[0]:.1f} points apart by chance (p = {found.spread_p:.3f}). "
        f"The best here is {best!r}; quoting it because it is flatters the score by about "
        f"{100 * max(found.optimism, 0):.1f} points."
    )
    if verdict == "look":
        said += " Choose the template on a split that is not scored, and name it beside the number."
    apart = found.apart
    return Finding(name, apart.value, (apart.low, apart.high), MOVES, SOURCE, verdict, said, "points")
