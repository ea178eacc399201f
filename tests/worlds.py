"""Small worlds with a known answer, as files and as arrays. Queries and gallery always differ in number."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def paired_vectors(
    *, n_images: int = 60, captions: int = 3, dim: int = 16, noise: float = 0.8, hub: float = 0.0, seed: int = 0
) -> dict[str, np.ndarray]:
    """Images at random on the sphere, captions = own image + noise. hub > 0 pulls one image towards all captions."""
    rng = np.random.default_rng(seed)
    images = unit(rng.normal(size=(n_images, dim)))
    own = np.repeat(np.arange(n_images), captions)
    texts = unit(images[own] + noise * rng.normal(size=(len(own), dim)) / np.sqrt(dim))
    if hub:
        shift = np.zeros(dim)
        shift[0] = hub
        texts, images = unit(texts + shift), images.copy()
        images[3] = unit((images[3] + 4 * shift)[None])[0]
    return {
        "image": images.astype(np.float32), "text": texts.astype(np.float32), "text_image": own,
        "caption": np.array([f"caption {row} of image {image}" for row, image in enumerate(own)]),
    }  # fmt: skip


def write_vectors(path: Path, **options: object) -> str:
    """The same as a file; returns its source string."""
    np.savez(path, **paired_vectors(**options))  # type: ignore[arg-type]
    return f"embeddings:{path}"
