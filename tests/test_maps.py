"""The UMAP map: laid out together, the same for the same seed, errors in words."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.diagnostics.maps import umap_map


@pytest.mark.slow
def test_groups_that_lie_apart_are_drawn_apart_and_the_seed_decides() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(40, 8)) + 6 * np.eye(8)[0], rng.normal(size=(25, 8)) + 6 * np.eye(8)[1]
    before = first.copy()
    left, right = umap_map(first, second, n_neighbors=10, seed=1)
    assert (left.shape, right.shape) == ((40, 2), (25, 2))
    assert np.array_equal(first, before)
    centres = left.mean(axis=0), right.mean(axis=0)
    closer = [np.linalg.norm(left - centre, axis=1) for centre in centres]
    assert (closer[0] < closer[1]).mean() > 0.95
    again, _ = umap_map(first * 7, second, n_neighbors=10, seed=1)  # cosine: lengths do not count
    assert np.allclose(left, again, atol=1e-3)
    other, _ = umap_map(first, second, n_neighbors=10, seed=2)
    assert not np.allclose(left, other, atol=0.1)


@pytest.mark.parametrize(
    ("sides", "more", "said"),
    [
        ([np.ones((5, 3)), np.ones((5, 4))], {}, r"one width; got \(5, 3\), \(5, 4\)"),
        ([np.ones((3, 3))], {}, "at least four vectors"),
        ([], {}, "got none"),
        ([np.ones((5, 3))], {"n_neighbors": 5}, r"2\.\.4 for 5 vectors; got 5"),
        ([np.zeros((5, 3))], {"n_neighbors": 2}, "zero"),
    ],
)
def test_bad_input_is_named(sides: list[np.ndarray], more: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        umap_map(*sides, **more)
