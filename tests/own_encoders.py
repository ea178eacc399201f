"""Encoders that a user might bring: plain objects with a name and two methods, made from real features and texts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def pixel_digest(image: Any) -> str:
    """The fingerprint of a PIL picture, by which a stored feature is found again."""
    upright = image.convert("RGB")
    return hashlib.sha256(f"{upright.size}".encode() + upright.tobytes()).hexdigest()


def features_by_pixels(files: Sequence[Path], features: np.ndarray) -> dict[str, np.ndarray]:
    from PIL import Image

    found = {}
    for path, row in zip(files, features, strict=True):
        with Image.open(path) as image:
            found[pixel_digest(image)] = row.astype(np.float64)
    return found


class Lsa:
    """Texts as truncated singular vectors of tf-idf, fitted on a corpus; it cannot read pictures."""

    name = "tf-idf lsa"

    def __init__(self, corpus: Sequence[str], dim: int = 100, **options: Any) -> None:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._words = TfidfVectorizer(sublinear_tf=True, **options)
        self._map = TruncatedSVD(dim, random_state=0).fit(self._words.fit_transform(corpus))

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        return self._map.transform(self._words.transform(texts)) + 1e-9

    def encode_image(self, images: Sequence[Any]) -> np.ndarray:
        raise NotImplementedError("this encoder reads texts only")


class MobileNetCca:
    """Stored MobileNet features and tf-idf texts in one space, by canonical correlation on training pairs."""

    name = "mobilenet + lsa by cca"

    def __init__(
        self, features: Mapping[str, np.ndarray], train: tuple[np.ndarray, Sequence[str]], dim: int = 64, **options: Any
    ) -> None:
        images, texts = train
        self._features, self._text = features, Lsa(texts, 150, **options)
        pictures, words = images.astype(np.float64), self._text.encode_text(texts)
        self._centres = pictures.mean(0), words.mean(0)
        white = [_whitening(side - centre) for side, centre in zip((pictures, words), self._centres, strict=True)]
        cross = white[0].T @ (pictures - self._centres[0]).T @ (words - self._centres[1]) @ white[1]
        left, strength, right = np.linalg.svd(cross / len(words), full_matrices=False)
        weight = strength[:dim]
        self._maps = white[0] @ left[:, :dim] * weight, white[1] @ right[:dim].T * weight

    def encode_image(self, images: Sequence[Any]) -> np.ndarray:
        rows = np.stack([self._features[pixel_digest(image)] for image in images])
        return (rows - self._centres[0]) @ self._maps[0]

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        return (self._text.encode_text(texts) - self._centres[1]) @ self._maps[1]


def _whitening(rows: np.ndarray, ridge: float = 0.1) -> np.ndarray:
    covariance = rows.T @ rows / len(rows)
    values, vectors = np.linalg.eigh(
        covariance + ridge * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    )
    return np.asarray(vectors / np.sqrt(values))
