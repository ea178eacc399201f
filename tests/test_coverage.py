"""Text coverage: shares by hand, Wilson's interval against its definition, and which group decides the verdict."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from scipy.stats import binomtest

from workbench.diagnostics.coverage import text_coverage, wilson


def flags(n_true: int, n: int) -> np.ndarray:
    return np.arange(n) < n_true


def test_shares_by_hand() -> None:
    cut = np.array([True, True, False, False, False, True])
    unknown = np.array([False, True, False, False, False, False])
    found = text_coverage(cut, unknown, ["de", "de", "de", "en", "en", "zh"])
    rows = {row.group: (row.n, row.truncated, row.unknown) for row in found.rows}
    assert rows == {
        "all": (6, 0.5, 1 / 6),
        "de": (3, 2 / 3, 1 / 3),
        "en": (2, 0.0, 0.0),
        "zh": (1, 1.0, 0.0),
    }
    assert found.flat()["text/truncated(group=de)"] == 2 / 3
    assert found.flat()["text/unknown"] == 1 / 6
    assert found.table().loc["zh", "n"] == 1


@pytest.mark.parametrize(("count", "n"), [(0, 10), (3, 17), (17, 17), (1, 1), (250, 1000)])
def test_wilson_against_scipy_and_its_definition(count: int, n: int) -> None:
    low, high = wilson(count, n)
    other = binomtest(count, n).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((other.low, other.high), abs=1e-12)
    for end in (low, high):
        if 0 < end < 1:
            assert abs(end - count / n) == pytest.approx(1.959964 * sqrt(end * (1 - end) / n), abs=1e-6)


@pytest.mark.parametrize(
    ("n_cut", "verdict", "threshold"),
    [(0, "ok", 0.01), (9, "ok", 0.01), (10, "look", 0.01), (99, "look", 0.01), (100, "problem", 0.1)],
)
def test_thresholds(n_cut: int, verdict: str, threshold: float) -> None:
    finding = text_coverage(flags(n_cut, 1000)).findings()[0]
    assert (finding.verdict, finding.threshold, finding.value) == (verdict, threshold, n_cut / 1000)
    assert finding.interval == wilson(n_cut, 1000)


def test_one_language_decides_where_the_mean_hides_it() -> None:
    """2 % of all captions, but half of the Thai ones."""
    groups = np.array(["en"] * 960 + ["th"] * 40)
    unknown = np.zeros(1000, bool)
    unknown[960:980] = True
    finding = text_coverage(np.zeros(1000, bool), unknown, groups).findings()[1]
    assert finding.verdict == "problem"
    assert finding.value == 0.5
    assert "'th' (40)" in finding.advice


def test_tiny_groups_do_not_decide() -> None:
    groups = np.array(["en"] * 990 + ["th"] * 10)
    finding = text_coverage(flags(1000, 1000)[::-1] & (groups == "th") & flags(991, 1000), None, groups).findings()[0]
    assert finding.verdict == "ok"
    assert "of all captions (1,000)" in finding.advice


def test_tokenizers_without_unknown_words() -> None:
    found = text_coverage(flags(3, 50), None, ["a", "b"] * 25)
    finding = found.findings()[1]
    assert (finding.verdict, finding.value) == ("not measurable", None)
    assert "text/unknown" not in found.flat()
    assert "not known" in found._repr_html_()


def test_one_caption() -> None:
    found = text_coverage([True], [False])
    assert found.flat() == {"text/truncated": 1.0, "text/unknown": 0.0}
    assert found.rows[0].truncated_interval[0] > 0.2


def test_errors_say_what_came() -> None:
    with pytest.raises(ValueError, match="0 truncated flags"):
        text_coverage(np.zeros(0, bool))
    with pytest.raises(ValueError, match="3 truncated flags and 2 unknown flags"):
        text_coverage(flags(1, 3), flags(1, 2))
    with pytest.raises(ValueError, match="3 captions but groups of shape"):
        text_coverage(flags(1, 3), None, ["en"])
    with pytest.raises(ValueError, match="array of bool; got int64"):
        text_coverage(np.array([0, 3, 7]))
