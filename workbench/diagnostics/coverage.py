"""Text coverage: how much of the captions the tokenizer really passed to the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from workbench.types import Finding, Verdict

if TYPE_CHECKING:
    import pandas as pd

TRUNCATED = (0.01, 0.10)
UNKNOWN = (0.01, 0.10)
COVERAGE_SOURCE = (
    "convention of this project: from one caption in a hundred on ('look') the affected captions can move a score by a "
    "reported digit, from one in ten on ('problem') they decide it"
)
MIN_GROUP = 30


@dataclass(frozen=True)
class CoverageRow:
    """Captions of one group (a language, or all): number, share cut, share with an unknown word (None: not known)."""

    group: str
    n: int
    truncated: float
    truncated_interval: tuple[float, float]
    unknown: float | None
    unknown_interval: tuple[float, float] | None


@dataclass(frozen=True)
class TextCoverage:
    """Shares of captions that were cut or hold unknown words; the first row is all captions, then one per group."""

    rows: tuple[CoverageRow, ...]

    def table(self) -> pd.DataFrame:
        """One row per group: n, shares and their 95 % Wilson intervals."""
        import pandas as pd

        def span(interval: tuple[float, float] | None) -> str:
            return "not known" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"

        rows = [
            {"captions": row.group, "n": row.n, "cut": row.truncated, "cut, 95 %": span(row.truncated_interval),
             "unknown words": row.unknown, "unknown words, 95 %": span(row.unknown_interval)}
            for row in self.rows
        ]  # fmt: skip
        return pd.DataFrame(rows).set_index("captions")

    def plot(self, ax: Any = None) -> Any:
        """Shares per group with intervals."""
        from workbench.plots import curves

        return curves.coverage_shares(self, ax)

    def findings(self) -> list[Finding]:
        """One finding about cut captions, one about unknown words."""
        return [_truncated_finding(self.rows), _unknown_finding(self.rows)]

    def flat(self) -> dict[str, float]:
        """Shares by ``text/name`` for all captions and ``text/name(group=...)`` for each group."""
        values: dict[str, float] = {}
        for position, row in enumerate(self.rows):
            suffix = f"(group={row.group})" if position else ""
            values[f"text/truncated{suffix}"] = row.truncated
            if row.unknown is not None:
                values[f"text/unknown{suffix}"] = row.unknown
        return values

    def _repr_html_(self) -> str:
        return self.table().to_html(float_format=lambda value: f"{value:.3f}", na_rep="not known")


def text_coverage(
    truncated: npt.ArrayLike, unknown: npt.ArrayLike | None = None, groups: Sequence[str] | npt.ArrayLike | None = None
) -> TextCoverage:
    """Report what share of captions was cut by the tokenizer or holds words it does not know, per group.

    truncated : (n_texts,) bool, the caption was longer than the encoder reads. unknown : (n_texts,) bool, at least one
    word became the unknown token; None for tokenizers that spell every word (bytes, characters). groups : (n_texts,)
    labels such as languages. Intervals are Wilson's at 95 %, one caption one observation.
    Raises ValueError for no captions or different lengths.
    Reference: E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22, 1927,
    https://doi.org/10.1080/01621459.1927.10502953 (the interval).

    >>> text_coverage([True, False, False, False], groups=["de", "de", "en", "en"]).flat()
    {'text/truncated': 0.25, 'text/truncated(group=de)': 0.5, 'text/truncated(group=en)': 0.0}
    """
    cut = _flags(truncated, "truncated")
    known = None if unknown is None else _flags(unknown, "unknown")
    if len(cut) == 0 or (known is not None and len(known) != len(cut)):
        raise ValueError(
            f"{len(cut)} truncated flags and {'no' if known is None else len(known)} unknown flags; one per caption is "
            "needed, and at least one caption"
        )
    rows = [_row("all", cut, known)]
    if groups is not None:
        labels = np.asarray(groups, dtype=str)
        if labels.shape != cut.shape:
            raise ValueError(f"{len(cut)} captions but groups of shape {labels.shape}; one label per caption is needed")
        for group in np.unique(labels):
            inside = labels == group
            rows.append(_row(str(group), cut[inside], None if known is None else known[inside]))
    return TextCoverage(tuple(rows))


def wilson(count: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion: where |p - count/n| is within z standard errors of p.

    >>> low, high = wilson(0, 10)
    >>> round(low, 3), round(high, 3)
    (0.0, 0.278)
    """
    z = float(norm.isf((1 - level) / 2))
    share, spread = count / n, z * z / n
    centre = share + spread / 2
    half = z * sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(0.0, (centre - half) / (1 + spread)), min(1.0, (centre + half) / (1 + spread))


def _flags(values: npt.ArrayLike, what: str) -> npt.NDArray[np.bool_]:
    flags = np.asarray(values)
    if flags.ndim != 1 or (flags.size and flags.dtype != np.bool_):
        raise ValueError(f"{what} must be a one-dimensional array of bool; got {flags.dtype} of shape {flags.shape}")
    return flags.astype(bool)


def _row(group: str, cut: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_] | None) -> CoverageRow:
    n = len(cut)
    lost = None if known is None else float(known.mean())
    interval = None if known is None else wilson(int(known.sum()), n)
    return CoverageRow(group, n, float(cut.mean()), wilson(int(cut.sum()), n), lost, interval)


def _grade(value: float, limits: tuple[float, float]) -> tuple[Verdict, float]:
    if value >= limits[1]:
        return "problem", limits[1]
    return ("look", limits[0]) if value >= limits[0] else ("ok", limits[0])


def _worst(rows: tuple[CoverageRow, ...], name: str) -> CoverageRow:
    """The row with the largest share among all captions and the groups of at least MIN_GROUP captions."""
    return max((row for row in rows if row is rows[0] or row.n >= MIN_GROUP), key=lambda row: getattr(row, name))


def _truncated_finding(rows: tuple[CoverageRow, ...]) -> Finding:
    worst = _worst(rows, "truncated")
    verdict, threshold = _grade(worst.truncated, TRUNCATED)
    where = "of all captions" if worst is rows[0] else f"of the captions in group {worst.group!r}"
    advice = (
        f"{100 * worst.truncated:.3g} % {where} ({worst.n:,}) are longer than the encoder reads and were cut. "
        + {
            "ok": "That cannot matter much.",
            "look": "What is said at their end is lost: look at recall with and without them.",
            "problem": "What is said at their end is lost: use an encoder that reads more, or report these apart.",
        }[verdict]
    )
    return Finding(
        "text/truncated", worst.truncated, worst.truncated_interval, threshold, COVERAGE_SOURCE, verdict, advice, "%"
    )


def _unknown_finding(rows: tuple[CoverageRow, ...]) -> Finding:
    name = "text/unknown_words"
    if rows[0].unknown is None:
        advice = (
            "This tokenizer reports no unknown words: tokenizers over bytes spell every word, known or not. Coverage "
            "of a language then shows in its recall only."
        )
        return Finding(name, None, None, UNKNOWN[0], COVERAGE_SOURCE, "not measurable", advice)
    worst = _worst(rows, "unknown")
    assert worst.unknown is not None
    verdict, threshold = _grade(worst.unknown, UNKNOWN)
    where = "of all captions" if worst is rows[0] else f"of the captions in group {worst.group!r}"
    advice = (
        f"{100 * worst.unknown:.3g} % {where} ({worst.n:,}) hold a word outside the stated vocabulary of the encoder. "
        + {
            "ok": "That cannot matter much.",
            "look": "The encoder sees no difference between such words: look at these captions.",
            "problem": "The encoder cannot tell such words apart: this vocabulary does not fit these texts.",
        }[verdict]
    )
    return Finding(name, worst.unknown, worst.unknown_interval, threshold, COVERAGE_SOURCE, verdict, advice, "%")
