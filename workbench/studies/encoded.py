"""Scenes as vectors of the built-in encoder, for studies that want pictures and captions instead of drawn vectors."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from workbench.datasets.scenes import scenes
from workbench.types import Relevance, unit_vectors

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class EncodedScenes:
    """texts (n_texts, dim), images (n_images, dim), both of length one; relevance (n_texts, n_images); text_image
    (n_texts,) the image that a text was written for."""

    texts: Vectors
    images: Vectors
    relevance: Relevance
    text_image: npt.NDArray[np.int64]


def encoded_scenes(*, n_images: int, seed: int, **dials: Any) -> EncodedScenes:
    """A collection of :func:`workbench.datasets.scenes.scenes` under tiny-clip, kept for the next question.

    dials : as for ``scenes``, values that can be hashed. The encoder is loaded once in a process.
    """
    return _encoded(n_images, seed, tuple(sorted(dials.items())))


@functools.cache
def tiny_clip() -> Any:
    """The built-in encoder."""
    from workbench.encoders import load

    return load("tiny-clip")


@functools.lru_cache(maxsize=32)
def _encoded(n_images: int, seed: int, dials: tuple[tuple[str, Any], ...]) -> EncodedScenes:
    from PIL import Image

    world = scenes(n_images=n_images, seed=seed, **dict(dials))
    pictures = [Image.fromarray(picture) for picture in world.images.content]
    images, texts = tiny_clip().encode_image(pictures), tiny_clip().encode_text(list(world.texts.content))
    return EncodedScenes(
        unit_vectors(texts), unit_vectors(images), world.relevance, np.asarray(world.text_image, np.int64)
    )
