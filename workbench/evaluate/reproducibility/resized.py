"""An encoder whose pictures are resized with another interpolation, where it says how it resizes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.datasets import Side
from workbench.datasets.pictures import open_picture
from workbench.encoders import TwoStageEncoder
from workbench.encoders.openclip import preprocessing

OTHER = {"bicubic": "bilinear", "bilinear": "bicubic"}


class Resized:
    """The encoder with another first stage for pictures; texts and the model itself are untouched."""

    def __init__(self, encoder: Any, transform: Any, interpolation: str) -> None:
        self.name, self._encoder, self._transform, self._interpolation = encoder.name, encoder, transform, interpolation

    def prepare(self, modality: str, items: Sequence[Any]) -> np.ndarray:
        if modality != "image":
            return self._encoder.prepare(modality, items)
        return np.stack([self._transform(image.convert("RGB")).numpy() for image in items])

    def forward(self, modality: str, array: np.ndarray) -> np.ndarray:
        return self._encoder.forward(modality, array)

    def encode_image(self, images: Sequence[Any]) -> np.ndarray:
        return self.forward("image", self.prepare("image", images))

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        return self.forward("text", self.prepare("text", texts))

    def describe(self) -> dict[str, Any]:
        about = self._encoder.describe()
        return {**about, "preprocess": {**about["preprocess"], "interpolation": self._interpolation}}


def resized(encoder: Any, images: Side) -> tuple[Resized, str]:
    """(the encoder with another interpolation, from what to what).

    The preprocessing that it describes is first rebuilt unchanged and must give the same pixels for the first picture.
    ValueError with the reason where it describes none, or another than it uses.
    """
    if images.kind != "image":
        raise ValueError(f"the {images.plural} are no pictures, so nothing is resized")
    about = encoder.describe() if isinstance(encoder, TwoStageEncoder) else {}
    stated = about.get("preprocess")
    if not isinstance(stated, dict) or not {"size", "mean", "std", "interpolation"} <= set(stated):
        raise ValueError(f"{encoder.name} does not say how it resizes pictures (no preprocess in its description)")
    picture, now = open_picture(images.content[0]), stated["interpolation"]
    known = encoder.prepare("image", [picture])
    rebuilt = Resized(encoder, preprocessing(stated, now), now).prepare("image", [picture])
    if rebuilt.shape != known.shape or not np.array_equal(rebuilt, known):
        raise ValueError(f"the preprocessing that {encoder.name} describes does not give its own pixels")
    other = OTHER.get(now, "bicubic")
    changed = Resized(encoder, preprocessing(stated, other), other)
    same = np.array_equal(changed.prepare("image", [picture]), known)
    what = f"resized {now} → {other}"
    return changed, what + ", which moves no pixel of the first picture: it has the model's size" * same
