"""The train split as an endless stream: pictures with one name each, in a language drawn anew every time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from workbench.datasets.collection import Collection

WHITE = 255


@dataclass(frozen=True, eq=False)
class Lessons:
    """pixels (n, size, size, 3) uint8; names : language -> n names; font : what the pictures were drawn from."""

    pixels: np.ndarray
    names: Mapping[str, tuple[str, ...]]
    source: str

    def batch(
        self, step: int, *, seed: int = 0, batch_size: int = 256, languages: Mapping[str, float] | None = None
    ) -> tuple[np.ndarray, list[str]]:
        """Batch number ``step``: images uint8 (batch_size, size, size, 3) and a caption for each.

        A pure function of its arguments. No emoji comes twice in a batch of at most n. Each picture is moved by up to a
        sixteenth of its side. languages : language -> probability; default all alike.
        """
        rng = np.random.default_rng([seed, step])
        n, size = self.pixels.shape[:2]
        shares = dict.fromkeys(self.names, 1.0) if languages is None else dict(languages)
        weights = np.array(list(shares.values())) / sum(shares.values())
        rows = rng.choice(n, size=batch_size, replace=batch_size > n)
        spoken = rng.choice(len(shares), size=batch_size, p=weights)
        captions = [self.names[list(shares)[which]][row] for row, which in zip(rows, spoken, strict=True)]
        most = size // 16
        shifts = rng.integers(-most, most + 1, size=(batch_size, 2))
        images = np.full((batch_size, size, size, 3), WHITE, np.uint8)
        for image, row, (down, right) in zip(images, rows, shifts.tolist(), strict=True):
            _part(image, down, right)[:] = _part(self.pixels[row], -down, -right)
        return images, captions


def _part(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """What is left of a picture when its first ``down`` rows and ``right`` columns go; from the end if negative."""
    rows, columns = (slice(step, None) if step >= 0 else slice(None, step) for step in (down, right))
    return image[rows, columns]


def lessons_from(collection: Collection, *, size: int) -> Lessons:
    """The pictures of a collection, made smaller as an encoder with input of this size does, and their names."""
    from PIL import Image

    pictures = [
        np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC))
        for pixels in collection.images.content
    ]
    spoken = np.asarray(collection.texts.columns["language"])
    names = {
        str(language): tuple(collection.texts.content[i] for i in np.flatnonzero(spoken == language).tolist())
        for language in dict.fromkeys(spoken.tolist())
    }
    return Lessons(np.stack(pictures), names, collection.card.source)
