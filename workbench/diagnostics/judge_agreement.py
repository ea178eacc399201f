"""Do two judges say the same, and does it matter to the metric which of them is believed?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from workbench.datasets.qrels import Judgements
from workbench.types import Finding, FloatArray, IntArray, Verdict

if TYPE_CHECKING:
    import pandas as pd

RELIABLE, TENTATIVE = 0.8, 0.667
SOURCE = "Krippendorff, Content Analysis, 2004, chapter 11: rely on 0.8 and above, 0.667 for tentative conclusions"
POINTS = 0.02
POINTS_SOURCE = "convention of this project: gains that are published are often of two points"

Level = Literal["nominal", "ordinal"]
Estimate = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class JudgeAgreement:
    """How far judges agree on the pairs that at least two of them judged: :func:`judge_agreement`.

    judges : names. n_pairs, n_queries : judged by two or more. agreement : share of pairs of judgements that are equal.
    alpha_nominal, alpha_ordinal : Krippendorff's alpha, 1 perfect, 0 as by chance, NaN where undefined (``reason``).
    kappas : Cohen's kappa of each two judges, (first, second, value, low, high). prevalence : per judge, the share of
    the pairs of ``n_pairs`` judged by this judge that are right. Each measure is (value, low, high), from drawing
    queries with replacement. disagreements : (query, item, grade of each judge, NaN where not judged).
    estimates : name -> (value, low, high) of a metric if this judge, any judge, or only all of them are believed.
    """

    judges: tuple[str, ...]
    n_pairs: int
    n_queries: int
    agreement: Estimate
    alpha_nominal: Estimate
    alpha_ordinal: Estimate
    kappas: tuple[tuple[str, str, float, float, float], ...]
    prevalence: tuple[float, ...]
    disagreements: tuple[tuple[str, str, tuple[float, ...]], ...]
    estimates: Mapping[str, Estimate]
    metric: str
    level: float
    n_resamples: int
    reason: str

    @property
    def movement(self) -> float:
        """Largest estimate minus smallest; NaN without estimates."""
        values = [value for value, _, _ in self.estimates.values()]
        return max(values) - min(values) if values else float("nan")

    def table(self) -> pd.DataFrame:
        """One row per measure with its interval, then the metric under each judge."""
        import pandas as pd

        rows = [("equal judgements", *self.agreement), ("Krippendorff's alpha, nominal", *self.alpha_nominal)]
        rows += [("Krippendorff's alpha, ordinal", *self.alpha_ordinal)]
        rows += [(f"Cohen's kappa, {first} and {second}", *kappa) for first, second, *kappa in self.kappas]
        nan = float("nan")
        rows += [
            (f"share right, {name}", share, nan, nan) for name, share in zip(self.judges, self.prevalence, strict=True)
        ]
        rows += [(f"{self.metric}, {name}", *estimate) for name, estimate in self.estimates.items()]
        return pd.DataFrame(rows, columns=["measure", "value", "low", "high"]).set_index("measure")

    def disagreement_table(self) -> pd.DataFrame:
        """The pairs on which judges differ, with the grade that each gave."""
        import pandas as pd

        rows = [(query, item, *grades) for query, item, grades in self.disagreements]
        return pd.DataFrame(rows, columns=["query", "item", *self.judges])

    def findings(self) -> list[Finding]:
        """One finding about the agreement, and one about the metric where estimates were given."""
        return [_agreement_finding(self), *([_movement_finding(self)] if self.estimates else [])]

    def flat(self) -> dict[str, float]:
        """Numbers by ``judges/name``; undefined values are left out."""
        values = {
            "agreement": self.agreement[0], "alpha_nominal": self.alpha_nominal[0],
            "alpha_ordinal": self.alpha_ordinal[0], "movement": self.movement, "pairs": float(self.n_pairs),
            "disagreements": float(len(self.disagreements)),
            **{f"kappa {first} {second}": value for first, second, value, _, _ in self.kappas},
        }  # fmt: skip
        return {f"judges/{name}": float(value) for name, value in values.items() if np.isfinite(value)}

    def _repr_html_(self) -> str:
        return self.table().to_html(float_format=lambda value: f"{value:.3g}", na_rep="")


def judge_agreement(
    judges: Mapping[str, Judgements],
    *,
    estimates: Mapping[str, Estimate] | None = None,
    metric: str = "",
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> JudgeAgreement:
    """Hold two or more judges' qrels against each other; a pair need not be judged by all of them.

    alpha = 1 - observed / expected disagreement (:func:`krippendorff_alpha`)
    kappa = (p - p_chance) / (1 - p_chance),   p = share of equal judgements, p_chance = sum_g first_g * second_g

    judges : name -> judgements, two or more. estimates, metric : from :func:`workbench.judging.estimates_by_judge`, to
    see how far the metric moves with the judge. Intervals: whole queries drawn with replacement, NaN with fewer than
    two queries. Few right pairs make alpha and kappa small even when nearly all judgements are equal (A. R. Feinstein
    & D. V. Cicchetti, "High agreement but low kappa", Journal of Clinical Epidemiology 43, 1990,
    https://doi.org/10.1016/0895-4356(90)90158-L): read them with the share right.
    Errors: fewer than two judges; no pair that two of them judged.
    J. Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20, 1960,
    https://doi.org/10.1177/001316446002000104.

    >>> first = Judgements(("q", "q", "r", "r"), ("1", "2", "1", "2"), np.array([1, 0, 1, 0]), "a")
    >>> second = Judgements(("q", "q", "r", "r"), ("1", "2", "1", "2"), np.array([1, 0, 0, 0]), "b")
    >>> found = judge_agreement({"a": first, "b": second}, seed=0)
    >>> found.agreement[0], found.kappas[0][2], found.disagreements
    (0.75, 0.5, (('r', '1', (1.0, 0.0)),))
    """
    if len(judges) < 2:
        raise ValueError(f"agreement needs at least two judges; got {len(judges)}")
    pairs, ratings = _ratings(judges)
    queries = np.unique([query for query, _ in pairs], return_inverse=True)[1].ravel()
    values, codes = _coded(ratings)
    names, times = tuple(judges), _times(int(queries.max()) + 1, n_resamples, seed)
    coincidences = _coincidences(codes, queries, len(values))
    kappas = []
    for first, second in combinations(range(len(names)), 2):
        tables = _contingencies(codes[:, first], codes[:, second], queries, len(values))
        kappas.append((names[first], names[second], *_interval(_kappa, tables, times, level)))
    nominal = _interval(lambda counts: _alpha(counts, "nominal"), coincidences, times, level)
    return JudgeAgreement(
        judges=names, n_pairs=len(pairs), n_queries=int(queries.max()) + 1,
        agreement=_interval(_equal, coincidences, times, level), alpha_nominal=nominal,
        alpha_ordinal=_interval(lambda counts: _alpha(counts, "ordinal"), coincidences, times, level),
        kappas=tuple(kappas), prevalence=tuple(_shares_right(ratings)), disagreements=_disagreements(pairs, ratings),
        estimates=dict(estimates or {}), metric=metric, level=level, n_resamples=n_resamples,
        reason="" if np.isfinite(nominal[0]) else _one_grade(values),
    )  # fmt: skip


def krippendorff_alpha(ratings: npt.ArrayLike, *, level: Level = "nominal") -> float:
    """Agreement beyond chance of any number of judges, some of whose judgements may be missing.

        alpha = 1 - (n - 1) * sum_{c<k} o_ck d_ck / sum_{c<k} n_c n_k d_ck
        o_ck = sum over units of (ordered pairs of judgements c, k) / (m_u - 1)
        d_ck = 1 (nominal),   (n_c / 2 + n_{c+1} + ... + n_{k-1} + n_k / 2)^2 (ordinal)

    ratings (n_units, n_judges) : grades, NaN where a judge did not judge; units with fewer than two judgements do not
    count. m_u : judgements of a unit; n_c : judgements of grade c; n : all of them. 1 is perfect, 0 as by chance, below
    0 systematic disagreement; NaN where all judgements are the same grade, as nothing could then tell agreement from
    chance, and where no unit has two.
    K. Krippendorff, "Computing Krippendorff's alpha-reliability", 2011,
    https://repository.upenn.edu/asc_papers/43 (his worked example with missing judgements is the one below).

    >>> nan = np.nan
    >>> four = [[1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan], [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
    ...         [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan], [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan]]
    >>> [round(krippendorff_alpha(np.transpose(four), level=level), 3) for level in ("nominal", "ordinal")]
    [0.743, 0.815]
    """
    if level not in ("nominal", "ordinal"):
        raise ValueError(f"level must be 'nominal' or 'ordinal'; got {level!r}")
    grades = np.asarray(ratings, np.float64)
    if grades.ndim != 2:
        raise ValueError(f"ratings must be (n_units, n_judges); got {grades.shape}")
    grades = grades[(~np.isnan(grades)).sum(axis=1) > 1]
    if not len(grades):
        return float("nan")
    values, codes = _coded(grades)
    return float(_alpha(_coincidences(codes, np.zeros(len(codes), np.int64), len(values)), level)[0])


def _ratings(judges: Mapping[str, Judgements]) -> tuple[list[tuple[str, str]], FloatArray]:
    """Pairs that two or more judged, and their grades (n_pairs, n_judges), NaN where not judged."""
    given = [dict(zip(zip(one.queries, one.items, strict=True), one.grades, strict=True)) for one in judges.values()]
    every = dict.fromkeys(pair for one in given for pair in one)
    pairs = [pair for pair in every if sum(pair in one for one in given) > 1]
    if not pairs:
        counts = ", ".join(f"{name} {len(one):,}" for name, one in zip(judges, given, strict=True))
        raise ValueError(f"no pair was judged by two judges (pairs: {counts}); give them the same pool and seed")
    return pairs, np.array([[one.get(pair, np.nan) for one in given] for pair in pairs], np.float64)


def _coded(ratings: FloatArray) -> tuple[FloatArray, IntArray]:
    """The grades that occur, ascending, and for each judgement which of them it is, -1 where there is none."""
    values = np.unique(ratings[~np.isnan(ratings)])
    return values, np.where(np.isnan(ratings), -1, np.searchsorted(values, ratings))


def _coincidences(codes: IntArray, groups: IntArray, n_values: int) -> FloatArray:
    """(n_groups, n_values, n_values): ordered pairs of judgements of one unit, each weighed 1 / (judgements - 1)."""
    counts = np.stack([(codes == value).sum(axis=1) for value in range(n_values)], axis=1).astype(np.float64)
    given = counts.sum(axis=1)
    units = counts[:, :, None] * counts[:, None, :] - np.eye(n_values) * counts[:, :, None]
    found = np.zeros((int(groups.max()) + 1, n_values, n_values))
    np.add.at(found, groups, units / (given - 1)[:, None, None])
    return found


def _contingencies(first: IntArray, second: IntArray, groups: IntArray, n_values: int) -> FloatArray:
    """(n_groups, n_values, n_values): pairs by the grade of the first judge and of the second."""
    both = (first >= 0) & (second >= 0)
    found = np.zeros((int(groups.max()) + 1, n_values, n_values))
    np.add.at(found, (groups[both], first[both], second[both]), 1.0)
    return found


def _alpha(coincidences: FloatArray, level: Level) -> FloatArray:
    """(n,) from (n, n_values, n_values)."""
    marginals = coincidences.sum(axis=2)
    distance = _distance(marginals, level)
    observed = (coincidences * distance).sum(axis=(1, 2))
    expected = (marginals[:, :, None] * marginals[:, None, :] * distance).sum(axis=(1, 2))
    total = marginals.sum(axis=1)
    return 1 - (total - 1) * observed / np.where(expected > 0, expected, np.nan)


def _distance(marginals: FloatArray, level: Level) -> FloatArray:
    """(n, n_values, n_values) squared differences between grades."""
    n_values = marginals.shape[1]
    if level == "nominal":
        return np.broadcast_to(1 - np.eye(n_values), (len(marginals), n_values, n_values))
    middle = np.cumsum(marginals, axis=1) - marginals / 2
    return np.asarray((middle[:, :, None] - middle[:, None, :]) ** 2)


def _equal(coincidences: FloatArray) -> FloatArray:
    total = coincidences.sum(axis=(1, 2))
    return np.trace(coincidences, axis1=1, axis2=2) / np.where(total > 0, total, np.nan)


def _kappa(tables: FloatArray) -> FloatArray:
    total = tables.sum(axis=(1, 2))
    total = np.where(total > 0, total, np.nan)
    agreed = np.trace(tables, axis1=1, axis2=2) / total
    chance = (tables.sum(axis=1) * tables.sum(axis=2)).sum(axis=1) / total**2
    return (agreed - chance) / np.where(chance < 1, 1 - chance, np.nan)


def _times(n_queries: int, n_resamples: int, seed: int) -> IntArray:
    """(n_resamples, n_queries) how often each query is drawn; no rows where there is one query only."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_queries, np.full(n_queries, 1 / n_queries), size=n_resamples if n_queries > 1 else 0)


def _interval(
    measure: Callable[[FloatArray], FloatArray], tables: FloatArray, times: IntArray, level: float
) -> Estimate:
    """(value, low, high) of a measure of summed tables; resamples in which it is undefined are left out."""
    value = float(measure(tables.sum(axis=0, keepdims=True))[0])
    drawn = measure((times @ tables.reshape(len(tables), -1)).reshape(-1, *tables.shape[1:]))
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn) or not np.isfinite(value):
        return value, float("nan"), float("nan")
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return value, float(low), float(high)


def _shares_right(ratings: FloatArray) -> list[float]:
    shares = []
    for column in ratings.T:
        given = column[~np.isnan(column)]
        shares.append(float((given > 0).mean()) if len(given) else float("nan"))
    return shares


def _disagreements(
    pairs: Sequence[tuple[str, str]], ratings: FloatArray
) -> tuple[tuple[str, str, tuple[float, ...]], ...]:
    differ = np.flatnonzero(np.nanmin(ratings, axis=1) < np.nanmax(ratings, axis=1))
    return tuple((*pairs[row], tuple(ratings[row].tolist())) for row in differ)


def _one_grade(values: FloatArray) -> str:
    return f"all judgements are {values[0]:g}: without a second grade agreement cannot be told from chance"


def _agreement_finding(found: JudgeAgreement) -> Finding:
    value, low, high = found.alpha_nominal
    equal = f"{100 * found.agreement[0]:.1f} % of the judgements are equal ({found.n_pairs:,} pairs)"
    if not np.isfinite(value):
        words = f"{equal}, but {found.reason or 'the agreement is undefined'}; judge pairs of which some are right."
        return Finding("labels/judges", None, None, RELIABLE, SOURCE, "not measurable", words)
    unsettled = not np.isfinite(low) or (low < TENTATIVE and high >= RELIABLE)
    verdict: Verdict = (
        "not measurable" if unsettled else "ok" if value >= RELIABLE else "look" if value >= TENTATIVE else "problem"
    )
    advice = {
        "ok": "The judges mean the same by right.",
        "look": "Talk about the pairs they disagree on, and judge again by a written rule.",
        "problem": "The judges do not mean the same by right: agree on a rule from the pairs they disagree on, and "
        "judge again before any number is quoted.",
        "not measurable": "Too few queries to tell whether the judges agree: judge more.",
    }[verdict]
    interval = (low, high) if np.isfinite(low) else None
    return Finding("labels/judges", value, interval, RELIABLE, SOURCE, verdict, f"{advice} {equal}.")


def _movement_finding(found: JudgeAgreement) -> Finding:
    lowest, highest = (pick(found.estimates, key=lambda name: found.estimates[name][0]) for pick in (min, max))
    verdict: Verdict = "ok" if found.movement <= POINTS else "look"
    words = (
        f"{found.metric} is {found.estimates[lowest][0]:.3f} by {lowest} and {found.estimates[highest][0]:.3f} by "
        f"{highest}" + (": it does not matter who is believed." if verdict == "ok" else ": say whose judgement counts.")
    )
    return Finding("labels/judge", found.movement, None, POINTS, POINTS_SOURCE, verdict, words, "points")
