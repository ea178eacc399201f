"""Shares of variance against statsmodels-free slow sums, planted effects, exact permutations and stated coverage."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest

from workbench.statistics.factors import factor_ablation, factor_effects
from workbench.statistics.seeds import best_of_seeds


def world(
    seed: int, n_seeds: int, a: tuple[float, ...], b: tuple[float, ...], *, noise: float = 1.0, by_seed: float = 0.5,
    wobble: float = 0.0,
) -> np.ndarray:  # fmt: skip
    """(n_seeds, len(a), len(b)): planted effects, a shift of each seed, a seed's own taste in a, and noise."""
    rng = np.random.default_rng(seed)
    effects = np.add.outer(np.array(a), np.array(b)) + rng.normal(0, by_seed, (n_seeds, 1, 1))
    return effects + rng.normal(0, wobble, (n_seeds, len(a), 1)) + rng.normal(0, noise, (n_seeds, len(a), len(b)))


def long(values: np.ndarray) -> dict[str, np.ndarray]:
    places = np.indices(values.shape).reshape(3, -1)
    return {"seed": places[0], "a": places[1], "b": places[2], "value": values.ravel()}


STRONG = {"a": (-2.0, 0.0, 2.0), "b": (-0.5, 0.5), "wobble": 0.5}
WEAK = {"a": (-0.5, 0.0, 0.5), "b": (-0.3, 0.3)}
NONE = {"a": (0.0, 0.0, 0.0), "b": (0.0, 0.0)}


# ---- arithmetic -----------------------------------------------------------------------------------------------------


def test_shares_equal_sums_over_runs() -> None:
    values = world(1, 4, **STRONG)
    frame = pd.DataFrame(long(values))
    found = factor_effects(frame, ["a", "b"], n_resamples=100)
    mean, total = frame.value.mean(), ((frame.value - frame.value.mean()) ** 2).sum()
    for name in ("a", "b"):
        by_level = frame.groupby(name).value.transform("mean")
        between = ((by_level - mean) ** 2).sum()
        both = frame.groupby([name, "seed"]).value.transform("mean")
        left = ((both - by_level - frame.groupby("seed").value.transform("mean") + mean) ** 2).sum()
        levels = frame[name].nunique()
        chance = left / ((levels - 1) * (4 - 1)) * (levels - 1)
        assert found[name].raw == pytest.approx(between / total)
        assert found[name].share == pytest.approx((between - chance) / total)
        assert found[name].means == pytest.approx(tuple(frame.groupby(name).value.mean()))
    seeds = ((frame.groupby("seed").value.transform("mean") - mean) ** 2).sum()
    assert found.between_seeds == pytest.approx(seeds / total)
    parts = found["a"].raw + found["b"].raw + found.interactions + found.between_seeds + found.rest
    assert parts == pytest.approx(1.0)
    assert [row["source"] for row in found.table()] == ["a", "b", "interactions", "seeds", "rest"]


def test_pure_effects_fall_where_they_were_put() -> None:
    apart = factor_effects(long(world(0, 3, (0.0, 3.0, 3.0), (0.0, 1.0), noise=0, by_seed=0)), ["a", "b"])
    assert apart["a"].share == pytest.approx(2.0 / 2.25)  # variances 2 and 1/4
    assert apart["b"].share == pytest.approx(0.25 / 2.25)
    assert apart["a"].low == pytest.approx(apart["a"].high) == pytest.approx(apart["a"].share)
    crossed = np.zeros((3, 2, 2)) + np.array([[1.0, -1.0], [-1.0, 1.0]])
    found = factor_effects(long(crossed), ["a", "b"])
    assert (found["a"].share, found.interactions) == pytest.approx((0.0, 1.0))
    seeds = np.zeros((3, 2, 2)) + np.array([1.0, 2.0, 4.0])[:, None, None]
    assert factor_effects(long(seeds), ["a", "b"]).between_seeds == pytest.approx(1.0)


def test_scale_shift_and_order_of_rows_do_not_matter() -> None:
    values = world(2, 5, **WEAK)
    plain = factor_effects(long(values), ["a", "b"], n_resamples=200)
    moved = factor_effects(long(1000 + 10 * values), ["a", "b"], n_resamples=200)
    assert [one.share for one in moved.effects] == pytest.approx([one.share for one in plain.effects])
    assert [one.p_value for one in moved.effects] == [one.p_value for one in plain.effects]
    mixed = pd.DataFrame(long(values)).sample(frac=1, random_state=3)
    again = factor_effects(mixed, ["b", "a"], n_resamples=200)
    assert again["a"].share == pytest.approx(plain["a"].share)
    assert again["b"].raw == pytest.approx(plain["b"].raw)


def test_same_seed_same_bytes() -> None:
    table = long(world(3, 5, **WEAK))
    first, second = (factor_effects(table, ["a", "b"], n_resamples=200, seed=4) for _ in range(2))
    assert first.effects == second.effects
    assert factor_effects(table, ["a", "b"], n_resamples=200, seed=5).effects != first.effects


def test_the_p_value_is_that_of_all_relabellings() -> None:
    """Four seeds, three levels: all 6 ** 4 ways to change places within the seeds."""
    values = world(7, 4, (0.0, 0.4, 0.9), (0.0, 0.0))
    by_seed = values.mean(axis=2)
    observed = by_seed.mean(axis=0).var()
    ways = [list(permutations(row)) for row in by_seed]
    every = [np.mean(chosen, axis=0).var() for chosen in product(*ways)]
    exact = np.mean([one >= observed - 1e-12 for one in every])
    found = factor_effects(long(values), ["a", "b"], n_resamples=20_000)["a"].p_value
    assert 0.01 < exact < 0.9
    assert found == pytest.approx(exact, abs=0.015)


def test_difference_of_shares_and_best_of_a_combination() -> None:
    values = world(5, 8, **STRONG)
    found = factor_effects(long(values), ["a", "b"])
    value, low, high = found.more("a", "b")
    assert value == pytest.approx(found["a"].share - found["b"].share)
    assert 0 < low < value < high
    one = found.best_of(3.0, 10, a="2", b="0")
    assert one == best_of_seeds(values[:, 2, 0], 3.0, best_of=10)


# ---- statistics -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [5, 10])
@pytest.mark.parametrize("planted", [STRONG, WEAK, NONE], ids=["strong", "weak", "none"])
def test_intervals_hold_the_planted_shares(planted: dict[str, object], n_seeds: int) -> None:
    truth = factor_effects(long(world(99, 4000, **planted)), ["a", "b"], n_resamples=100)  # type: ignore[arg-type]
    n, held, rejected = 200, {"a": 0, "b": 0}, {"a": 0, "b": 0}
    for seed in range(n):
        table = long(world(seed, n_seeds, **planted))  # type: ignore[arg-type]
        found = factor_effects(table, ["a", "b"], n_resamples=300, seed=seed)
        for name in held:
            held[name] += found[name].low <= truth[name].share <= found[name].high
            rejected[name] += found[name].p_value <= 0.05
    for name in held:
        assert held[name] >= 0.88 * n, f"{held[name] / n:.0%} of the intervals hold the share of {name}"
        if planted is NONE:
            assert rejected[name] <= 0.1 * n, f"{rejected[name] / n:.0%} false alarms for {name}"
    if planted is STRONG:
        assert rejected["a"] == n


def test_more_levels_explain_no_more_by_chance() -> None:
    """Without any effect the raw share grows with the number of levels, the share net of chance does not."""
    found = [factor_effects(long(world(seed, 5, **NONE)), ["a", "b"], n_resamples=100) for seed in range(200)]
    raw = [np.mean([one[name].raw for one in found]) for name in ("a", "b")]
    net = [np.mean([one[name].share for one in found]) for name in ("a", "b")]
    assert raw[0] > 1.6 * raw[1] > 0.03
    assert np.abs(net).max() < 0.01


# ---- tables ---------------------------------------------------------------------------------------------------------


def test_an_ablation_is_the_whole_grid() -> None:
    calls = []

    def train(seed: int, loss: str, head: str) -> float:
        calls.append((loss, head, seed))
        return float(len(loss) + 10 * len(head) + 100 * seed)

    table = factor_ablation(train, {"loss": ("s", "hh"), "head": ("x", "yy", "zzz")}, seeds=[4, 7])
    assert calls == list(product(("s", "hh"), ("x", "yy", "zzz"), (4, 7)))
    assert table["value"][calls.index(("hh", "zzz", 7))] == 732.0
    assert factor_effects(table, ["loss", "head"], n_resamples=100)["head"].gap == 20.0
    with pytest.raises(ValueError, match="other than 'seed'"):
        factor_ablation(train, {"seed": ("a",)}, seeds=[0])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"value": [1.0, 2.0, 3.0, np.nan]}, "1 runs have no finite score"),
        ({"value": [1.0] * 4}, "all runs have the same score"),
        ({"loss": ["a"] * 4}, "'loss' has fewer than two options"),
        ({"seed": [0, 0, 1, 2]}, "exactly one run with every seed; 0 of seed 1 with b"),
        ({"seed": [0, 0, 0, 1]}, "exactly one run with every seed; 2 of seed 0 with a"),
        ({"seed": [0, 0, 1]}, "same number of cells"),
    ],
)
def test_refuses(change: dict[str, list[object]], match: str) -> None:
    table: dict[str, list[object]] = {"loss": ["a", "b", "a", "b"], "seed": [0, 0, 1, 1], "value": [1.0, 2.0, 3.0, 5.0]}
    assert factor_effects(table, ["loss"], n_resamples=100).warnings
    with pytest.raises(ValueError, match=match):
        factor_effects({**table, **change}, ["loss"])


def test_refuses_columns_and_single_seeds() -> None:
    table = {"loss": ["a", "b"], "seed": [0, 0], "value": [1.0, 2.0]}
    with pytest.raises(ValueError, match="at least two seeds"):
        factor_effects(table, ["loss"])
    with pytest.raises(ValueError, match="no column 'head'"):
        factor_effects(table, ["head"])
    with pytest.raises(ValueError, match="different columns"):
        factor_effects(table, ["loss", "seed"])
    whole = factor_effects({"loss": list("abab"), "seed": [0, 0, 1, 1], "value": [1, 2, 3, 5]}, ["loss"])
    with pytest.raises(KeyError, match="no factor 'head'; there are loss"):
        whole["head"]
    with pytest.raises(ValueError, match="one level each of loss"):
        whole.best_of(1.0, 2, head="a")
