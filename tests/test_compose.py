"""Mixing of two vectors: against definitions written out, with the policy of normalisation told apart."""

from __future__ import annotations

import math

import numpy as np
import pytest

from workbench.compose import Mixing, effective_weight, slerp


def sides(n: int = 7, dim: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return 9 * rng.normal(size=(n, dim)), rng.normal(size=(n, dim))


@pytest.mark.parametrize("inputs", ["unit", "raw"])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_a_mix_is_what_it_says_row_by_row(inputs: str, weight: float) -> None:
    first, second = sides()
    found = Mixing(weight, inputs=inputs)(first, second)  # type: ignore[arg-type]
    for row, (a, b) in enumerate(zip(first, second, strict=True)):
        if inputs == "unit":
            a, b = a / math.sqrt(a @ a), b / math.sqrt(b @ b)
        mixed = (1 - weight) * a + weight * b
        np.testing.assert_allclose(found[row], mixed / math.sqrt(mixed @ mixed), atol=1e-12)


def test_raw_and_unit_averages_differ_where_lengths_do() -> None:
    first, second = sides()
    raw, unit = Mixing(inputs="raw")(first, second), Mixing()(first, second)
    direction = first / np.linalg.norm(first, axis=1, keepdims=True)
    assert ((raw * direction).sum(1) > (unit * direction).sum(1)).all()
    np.testing.assert_allclose(Mixing(inputs="raw")(5 * first, 5 * second), raw)
    np.testing.assert_allclose(Mixing()(first / 9, second * 4), unit)


def test_the_weight_that_a_raw_average_really_has() -> None:
    first, second = sides()
    for weight in (0.2, 0.5):
        own = effective_weight(first, second, weight)
        raw = Mixing(weight, inputs="raw")(first, second)
        same = [Mixing(w)(first[i : i + 1], second[i : i + 1])[0] for i, w in enumerate(own.tolist())]
        np.testing.assert_allclose(raw, same, atol=1e-12)
    assert effective_weight(first, second).max() < 0.5


def test_slerp_walks_the_angle_evenly_and_stays_on_the_sphere() -> None:
    first, second = sides()
    u, v = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (first, second))
    whole = np.arccos((u * v).sum(1))
    for weight in (0.0, 0.25, 0.7, 1.0):
        found = slerp(first, second, weight)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-12)
        np.testing.assert_allclose(np.arccos(np.clip((found * u).sum(1), -1, 1)), weight * whole, atol=1e-7)
    np.testing.assert_allclose(slerp(first, second, 0.5), Mixing()(first, second), atol=1e-12)
    np.testing.assert_allclose(Mixing(0.25, path="arc")(first, second), slerp(first, second, 0.25))
    np.testing.assert_allclose(slerp(u, u, 0.3), u, atol=1e-12)


def test_inputs_are_not_changed_and_the_name_tells_the_policy() -> None:
    first, second = sides()
    before = first.copy(), second.copy()
    names = {str(one) for one in (Mixing(), Mixing(inputs="raw"), Mixing(path="arc"), Mixing(0.4))}
    Mixing()(first, second)
    np.testing.assert_array_equal(first, before[0])
    np.testing.assert_array_equal(second, before[1])
    assert len(names) == 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Mixing(1.2), "share of the second"),
        (lambda: Mixing(inputs="length"), "inputs is 'unit' or 'raw'"),  # type: ignore[arg-type]
        (lambda: Mixing(inputs="raw", path="arc"), "needs inputs='unit'"),
        (lambda: Mixing()(np.ones((2, 3)), np.ones((3, 3))), "row by row"),
        (lambda: Mixing()([[0.0, 0.0]], [[1.0, 0.0]]), "row 0 of the first vectors"),
        (lambda: Mixing()([[1.0, 0.0]], [[np.nan, 0.0]]), "row 0 of the second vectors"),
        (lambda: Mixing()([[1.0, 0.0]], [[-2.0, 0.0]]), "row 0 of the mixed vectors"),
        (lambda: slerp([[1.0, 0.0]], [[-2.0, 0.0]], 0.5), "opposite directions"),
        (lambda: effective_weight([[0.0]], [[0.0]]), "nothing to weigh"),
    ],
)
def test_errors_say_which_row_and_why(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
