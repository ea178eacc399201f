"""UMAP, the map everybody draws: neighbourhoods are kept where two dimensions allow, distances are not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from workbench.types import FloatArray, unit_vectors


def umap_map(
    *sides: npt.ArrayLike, n_neighbors: int = 15, min_dist: float = 0.1, seed: int = 0
) -> tuple[FloatArray, ...]:
    """Both sides of a collection (or any number of groups) on one two-dimensional UMAP by cosine distance.

    sides : (n_i, dim) vectors, laid out together. n_neighbors : 2 up to one less than all vectors; few draw what is
    near, many draw the whole. min_dist : 0 to 1, how tightly points are packed.
    Returns one (n_i, 2) array per side. The layout follows from the seed on one machine, and changes with the seed, the
    settings and the versions: distances between clouds, their sizes and their shapes are no measurements. What can be
    measured is in :func:`workbench.diagnostics.modality_gap`.
    Raises ValueError for different widths, a vector of length zero, or fewer than four vectors.
    Source: L. McInnes, J. Healy, J. Melville, "UMAP: Uniform Manifold Approximation and Projection for Dimension
    Reduction", 2018, https://arxiv.org/abs/1802.03426; computed by the umap-learn package.

    >>> rng = np.random.default_rng(0)
    >>> images, texts = umap_map(rng.normal(size=(30, 8)), rng.normal(size=(20, 8)))  # doctest: +SKIP
    >>> images.shape, texts.shape  # doctest: +SKIP
    ((30, 2), (20, 2))
    """
    from umap import UMAP

    vectors = [unit_vectors(side) for side in sides]
    widths = {part.shape[1] for part in vectors}
    total = sum(map(len, vectors))
    if len(widths) != 1 or total < 4:
        shapes = ", ".join(str(part.shape) for part in vectors)
        raise ValueError(f"a map needs at least four vectors of one width; got {shapes or 'none'}")
    if not 2 <= n_neighbors < total:
        raise ValueError(f"n_neighbors must lie in 2..{total - 1} for {total} vectors; got {n_neighbors}")
    reducer = UMAP(metric="cosine", n_neighbors=n_neighbors, min_dist=min_dist, random_state=seed, n_jobs=1)
    where = np.asarray(reducer.fit_transform(np.concatenate(vectors)), np.float64)
    return tuple(np.split(where, np.cumsum([len(part) for part in vectors])[:-1]))
