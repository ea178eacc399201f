"""The table auditor on tables with known slips, on real published tables, and on tables without any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workbench.diagnostics.published_tables import KINDS, audit_table, welch

PUBLISHED = Path(__file__).parent / "published"
METRICS = [f"{direction} R@{k}" for direction in ("i2t", "t2i") for k in (1, 5, 10)]


def published(name: str) -> pd.DataFrame:
    """A transcribed table, every cell as it is printed; the first line says where it comes from."""
    path = PUBLISHED / f"{name}.csv"
    assert path.read_text(encoding="utf-8").startswith("# ")
    return pd.read_csv(path, comment="#", dtype=str, keep_default_na=False)


def kinds(table, **how) -> list[str]:  # type: ignore[no-untyped-def]
    return [one.kind for one in audit_table(table, **how).defects]


# ---- real tables: J. Rao et al., SIGIR 2022 -------------------------------------------------------------------------


def test_the_ten_seeds_hold_one_run_twice() -> None:
    audit = audit_table(published("rao2022_ten_seeds"), label=["system", "seed"])
    (found,) = audit.defects
    assert (found.kind, found.certainty) == ("repeated row", "suspicion")
    assert found.rows == ("SGRAF-SGR 2", "SGRAF-SGR 6")
    assert found.columns == tuple(METRICS)
    assert found.what.endswith("agree in all 6 cells; no other two rows agree in more than 2")
    assert dict(audit.checked) == {
        "non-numeric cell": 480, "value out of range": 480, "impossible order": 320, "wrong average": 0,
        "repeated row": 3160, "bent curve": 160,
    }  # fmt: skip


def test_the_results_hold_a_formula_and_an_impossible_looking_cell() -> None:
    """What the rows print as measured by the authors themselves; the ``original`` ones are quoted."""
    table = published("rao2022_results")
    audit = audit_table(table[table["value"] != "original"], label=["dataset", "method", "value"])
    formula, bent = audit.defects
    assert (formula.kind, formula.certainty) == ("non-numeric cell", "proof")
    assert (formula.rows, formula.columns) == (("COCO 5K SGRAF SGR third",), ("t2i R@1",))
    assert "'3+D119:G1208.7'" in formula.what
    assert (bent.kind, bent.certainty) == ("bent curve", "suspicion")
    assert (bent.rows, bent.columns) == (("COCO 5K CAMERA random BERT third",), ("i2t R@5",))
    assert "32.4 between 32.0 and 75.2" in bent.what


def test_quoted_results_stand_in_two_rows() -> None:
    """Both variants of SAEM and of CAMERA quote the same original numbers: five pairs of equal rows, and no more.

    (SAEM on COCO 5K quotes nothing.)
    """
    table = published("rao2022_results")
    audit = audit_table(table[table["value"] == "original"], label=["dataset", "method"], other=["value"])
    assert {one.kind for one in audit.defects} == {"repeated row"}
    assert len(audit.defects) == 5
    for one in audit.defects:
        assert one.rows[0].replace(" random BERT", "") == one.rows[1]


def test_the_same_results_without_the_slips_pass() -> None:
    table = published("rao2022_results")
    slips = (table["dataset"] == "COCO 5K") & table["method"].isin(["SGRAF SGR", "CAMERA random BERT"])
    clean = table[(table["value"] == "reproduced") | ((table["value"] == "third") & ~slips)]
    assert len(clean) == 70
    assert kinds(clean, label=["dataset", "method", "value"]) == []
    shuffled = clean.sample(frac=1, random_state=0)[list(reversed(clean.columns))]
    assert kinds(shuffled, label=["dataset", "method", "value"]) == []


@pytest.fixture(scope="module")
def seeds() -> pd.DataFrame:
    table = published("rao2022_ten_seeds")
    return table.astype(dict.fromkeys(METRICS, float))


def scores(seeds: pd.DataFrame, system: str, metric: str) -> np.ndarray:
    return seeds.loc[seeds["system"] == system, metric].to_numpy()


def test_the_claimed_gain_from_scan_to_vsrn_holds_in_one_direction(seeds: pd.DataFrame) -> None:
    """Printed: i2t R@1 67.9 -> 71.3, a gain of 3.4; over ten seeds it is 0.64, which chance makes in three of ten."""
    i2t = welch(scores(seeds, "SCAN i-t AVG", "i2t R@1"), scores(seeds, "VSRN", "i2t R@1"))
    assert i2t.difference == pytest.approx(0.64)
    assert i2t.t == pytest.approx(1.09, abs=0.005)
    assert i2t.p_value == pytest.approx(0.30, abs=0.005)
    assert i2t.low < 0 < i2t.high < 3.4
    t2i = welch(scores(seeds, "SCAN i-t AVG", "t2i R@1"), scores(seeds, "VSRN", "t2i R@1"))
    assert t2i.difference == pytest.approx(5.49)
    assert t2i.low > 4
    assert t2i.p_value < 1e-6


def test_welch_equals_scipy(seeds: pd.DataFrame) -> None:
    from scipy.stats import ttest_ind

    for system in ("VSE++", "CAMERA random BERT"):
        one, two = scores(seeds, "VSRN", "i2t R@1"), scores(seeds, system, "i2t R@1")[:7]
        ours, theirs = welch(one, two, level=0.9), ttest_ind(two, one, equal_var=False)
        interval = theirs.confidence_interval(0.9)
        np.testing.assert_allclose(
            [ours.t, ours.df, ours.p_value, ours.low, ours.high],
            [theirs.statistic, theirs.df, theirs.pvalue, interval.low, interval.high],
        )
        assert (ours.n_first, ours.n_second) == (10, 7)


@pytest.mark.parametrize(
    ("first", "second"), [([1.0], [1.0, 2.0]), ([1.0, np.nan], [1.0, 2.0]), ([1.0, 1.0], [2.0, 2.0])]
)
def test_welch_refuses_what_says_nothing(first: list[float], second: list[float]) -> None:
    with pytest.raises(ValueError, match=r"two or more finite scores|neither system varies"):
        welch(first, second)


# ---- real tables: K. Schall et al., 2024, and E. Bugliarello et al., 2022 -------------------------------------------


def test_the_misprinted_average_is_found() -> None:
    audit = audit_table(
        published("schall2024_average"), label="model", averages={"AVG": ["mean of the 14 columns"]}
    )  # fmt: skip
    (found,) = audit.defects
    assert (found.kind, found.certainty, found.rows) == ("wrong average", "proof", ("GPR-FT",))
    assert found.what == "AVG of GPR-FT is 68.4, but its row gives 72.80"
    assert dict(audit.checked)["wrong average"] == 5


@pytest.mark.parametrize("name", ["ir_0", "ir_0.mt", "tr_0", "tr_0.mt"])
def test_a_table_whose_averages_follow_passes(shared, name: str) -> None:  # type: ignore[no-untyped-def]
    """The published mean is over the seven translated languages; with English in it, no row would follow."""
    table = pd.read_csv(shared(f"data/iglue_real_ranks/paper_xFlickrCO_{name}.csv"), dtype=str)
    languages = ["de", "es", "id", "ja", "ru", "tr", "zh"]
    assert kinds(table, label="model", averages={"avg": languages}) == []
    assert kinds(table, label="model", averages={"avg": ["en", *languages]}) == ["wrong average"] * len(table)


# ---- planted slips --------------------------------------------------------------------------------------------------


def clean_table(n: int = 12, seed: int = 0) -> dict[str, list[str]]:
    """Concave hit curves, their sum and mean, as a paper prints them."""
    rng = np.random.default_rng(seed)
    one = rng.uniform(20, 60, n)
    five = one + (100 - one) * rng.uniform(0.4, 0.6, n)
    ten = five + (100 - five) * rng.uniform(0.3, 0.5, n)
    table = {"name": [f"system {i}" for i in range(n)]}
    for name, values in {"R@1": one, "R@5": five, "R@10": ten, "mean": (one + five + ten) / 3}.items():
        table[name] = [f"{value:.1f}" for value in values]
    table["rSum"] = [f"{value:.1f}" for value in one + five + ten]
    return table


HOW = {"label": "name", "averages": {"mean": ["R@1", "R@5", "R@10"]}, "sums": {"rSum": ["R@1", "R@5", "R@10"]}}


@pytest.mark.parametrize("seed", range(30))
def test_a_valid_table_gives_nothing(seed: int) -> None:
    """Averages are of the unrounded numbers: rounding alone is never reported."""
    audit = audit_table(clean_table(seed=seed), **HOW)
    assert audit.defects == ()
    assert {found.verdict for found in audit.findings()} == {"ok"}
    assert min(count for _, count in audit.checked) > 0


PLAIN = {"label": "name", "other": ["mean", "rSum"]}


def planted(column: str, row: int, text: str) -> list[str]:
    table = clean_table()
    table[column][row] = text
    return kinds(table, **PLAIN)


@pytest.mark.parametrize(
    ("column", "text", "kind"),
    [
        ("R@1", "=B3+B4", "non-numeric cell"),
        ("R@5", "12,3", "non-numeric cell"),
        ("R@10", "100.1", "value out of range"),
        ("R@1", "-0.1", "value out of range"),
    ],
)
def test_a_planted_cell_is_found(column: str, text: str, kind: str) -> None:
    assert planted(column, 4, text) == [kind]


def test_missing_cells_and_marks_are_no_slips() -> None:
    table = clean_table()
    for row, text in enumerate(["-", "", "n/a", "**{}**", "{} ± 0.3", "{}%", " {}†"]):
        table["R@1"][row] = text.format(table["R@1"][row])
    table["R@5"][8] = None  # type: ignore[call-overload]
    table["R@10"][9] = float("nan")  # type: ignore[call-overload]
    assert kinds(table, **HOW) == []


def test_order_is_a_proof_from_the_last_digit_on() -> None:
    table = clean_table()
    table["R@5"][3] = table["R@10"][3] = "77.7"
    assert kinds(table, **PLAIN) == []
    table["R@5"][3] = "77.8"
    assert kinds(table, **PLAIN) == ["impossible order"]
    table["R@10"] = ["78" if row == 3 else f"{float(cell):.0f}" for row, cell in enumerate(table["R@10"])]
    table["R@5"][3] = "78.4"
    assert kinds(table, **PLAIN) == [], "78 may be 78.4"
    table["R@5"][3] = "78.6"
    assert kinds(table, **PLAIN) == ["impossible order"]


def test_a_missing_middle_does_not_hide_an_order() -> None:
    table = clean_table()
    table["R@5"][2], table["R@10"][2] = "-", "1.0"
    assert kinds(table, **PLAIN) == ["impossible order"]


def test_directions_and_versions_are_curves_of_their_own() -> None:
    table = {
        "i2t R@1": ["50.0"],
        "t2i R@5": ["40.0"],
        "i2t R@5": ["60.0"],
        "t2i R@1": ["30.0"],
        "P@1": ["9"],
        "P@5": ["2"],
    }
    assert kinds(table) == []
    swapped = {"Recall@5 (zh)": ["40.0"], "Recall@1 (zh)": ["41.0"], "Recall@1 (de)": ["70.0"]}
    assert kinds(swapped) == ["impossible order"]


@pytest.mark.parametrize("column", ["mean", "rSum"])
def test_an_average_is_wrong_beyond_what_all_rounding_explains(column: str) -> None:
    table = {"name": ["a"], "R@1": ["10.0"], "R@5": ["20.0"], "R@10": ["30.0"], "mean": ["20.0"], "rSum": ["60.0"]}
    slack = 0.1 if column == "mean" else 0.2
    for off, expected in (
        (slack, []),
        (-slack, []),
        (slack + 0.1, ["wrong average"]),
        (-slack - 0.1, ["wrong average"]),
    ):
        changed = table | {column: [f"{float(table[column][0]) + off:.1f}"]}
        assert kinds(changed, **HOW) == expected, off


def test_a_repeated_row_needs_all_cells_and_says_something() -> None:
    table = clean_table()
    for column in ("R@1", "R@5", "R@10", "mean", "rSum"):
        table[column][7] = table[column][2]
    assert kinds(table, **HOW) == ["repeated row"]
    table["R@10"][7] = f"{float(table['R@10'][7]) + 0.1:.1f}"
    assert kinds(table, **PLAIN) == []
    perfect = {"R@1": ["100.0"] * 3, "R@5": ["100.0"] * 3, "R@10": ["100.0"] * 3}
    assert kinds(perfect) == [], "rows at the end of the range say nothing"
    assert kinds({"R@1": ["41.0"] * 2, "R@5": ["60.0"] * 2}) == [], "two cells are too few"


def test_a_bend_that_sampling_can_make_is_not_reported() -> None:
    """An untrained model gains evenly: hits 1, 5, 10 of 100 at best, and here a little less in the middle."""
    chance = {"R@1": ["1.0"], "R@5": ["4.0"], "R@10": ["10.0"]}
    assert kinds(chance) == []
    assert kinds(chance, n_queries=25_000) == ["bent curve"]
    assert kinds({"R@1": ["32.0"], "R@5": ["32.4"], "R@10": ["75.2"]}) == ["bent curve"]
    assert kinds({"R@1": ["1"], "R@5": ["5"], "R@10": ["11"]}, n_queries=25_000) == [], "1.4, 5.4 and 10.5 are even"
    assert kinds({"R@1": ["0.32"], "R@5": ["0.324"], "R@10": ["0.752"]}, high=1.0) == ["bent curve"]


def test_false_alarms_of_the_bend_stay_below_one_per_cent() -> None:
    """500 tables of ten random rankers, 100 queries each, at the edge of the rule: even gain from place to place."""
    rng = np.random.default_rng(0)
    ranks = rng.integers(1, 21, (500, 10, 100))
    alarms = 0
    for table in ranks:
        shares = {f"R@{k}": [f"{x:.1f}" for x in 100 * (table <= k).mean(axis=1)] for k in (1, 5, 10)}
        alarms += "bent curve" in kinds(shares)
    assert alarms <= 10


def test_columns_that_are_no_shares_are_left_alone() -> None:
    table = clean_table() | {"year": ["2019"] * 12, "code": ["yes"] * 12}
    with pytest.raises(ValueError, match=r"column 'code' holds no number .* label= .* other="):
        kinds(table, **HOW)
    assert set(kinds(table, **HOW, other=["code"])) == {"value out of range"}
    assert kinds(table, **HOW, other=["year", "code"]) == []


def test_findings_and_rows_say_the_same() -> None:
    table = clean_table()
    table["R@1"][0], table["R@5"][1] = "x", "99.9"
    audit = audit_table(table, **PLAIN)
    verdicts = {found.name: found.verdict for found in audit.findings()}
    assert list(verdicts) == [f"table/{kind}" for kind in KINDS]
    assert verdicts["table/non-numeric cell"] == verdicts["table/impossible order"] == "problem"
    assert verdicts["table/wrong average"] == "not measurable"
    assert [row["rows"] for row in audit.rows()] == ["system 0", "system 1"]


@pytest.mark.parametrize(
    ("table", "how", "message"),
    [
        ({}, {}, "same number of cells"),
        ({"a": []}, {}, "at least one"),
        ({"a": ["1"], "b": []}, {}, "same number of cells"),
        ({"a": ["1"]}, {"label": "name"}, "no column 'name' in the table; there are a"),
        ({"a": ["1"]}, {"averages": {"a": ["b"]}}, "no column 'b'"),
        ({"a": ["1"]}, {"low": 1.0, "high": 1.0}, "low must be below high"),
    ],
)
def test_broken_tables_are_refused(table: dict, how: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        audit_table(table, **how)
