"""A sentence around every text: ``a photo of {}``, filled in by plain replacement and recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from workbench.encoders import Encoder, EncoderError, TwoStageEncoder


def templated(encoder: Encoder, template: str) -> Encoder:
    """The same encoder, whose texts are put in the place of ``{}`` first.

    The name stays; ``describe()`` gains "text_template". Braces, percent signs and format specifications in a text or
    elsewhere in the template mean nothing. Raises :class:`EncoderError` unless ``{}`` occurs exactly once.

    >>> class Lengths:
    ...     name = "lengths"
    ...     def encode_image(self, images): return np.zeros((len(images), 1))
    ...     def encode_text(self, texts): return np.array([[len(text)] for text in texts])
    >>> templated(Lengths(), "a photo of {}").encode_text(["{0!r}"]).tolist()
    [[16]]
    """
    check_template(template)
    return (TemplatedTwoStage if isinstance(encoder, TwoStageEncoder) else Templated)(encoder, template)


def check_template(template: str) -> None:
    """Raise :class:`EncoderError` unless ``{}`` occurs exactly once."""
    count = template.count("{}")
    if count != 1:
        raise EncoderError(
            f"text_template must hold {{}} exactly once, where the text goes; got {template!r} with {count} of them; "
            "write for example 'a photo of {}', or leave it empty"
        )


class Templated:
    """An encoder with its texts filled into ``text_template``; whatever else it can do is passed through."""

    def __init__(self, encoder: Any, template: str) -> None:
        self.name, self.text_template, self._encoder = encoder.name, template, encoder

    def filled(self, texts: Sequence[str]) -> list[str]:
        """The texts as the encoder gets them."""
        return [self.text_template.replace("{}", text) for text in texts]

    def encode_image(self, images: Sequence[Any]) -> np.ndarray:
        return self._encoder.encode_image(images)

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        return self._encoder.encode_text(self.filled(texts))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(self._encoder, name)
        return self._filling(found) if name in ("truncated", "unknown_words") else found

    def _filling(self, method: Callable[[Sequence[str]], Any]) -> Callable[[Sequence[str]], Any]:
        return lambda texts: method(self.filled(texts))


class TemplatedTwoStage(Templated):
    """The same for an encoder with two stages: the template is part of the first."""

    def prepare(self, modality: str, items: Sequence[Any]) -> np.ndarray:
        return self._encoder.prepare(modality, self.filled(items) if modality == "text" else items)

    def forward(self, modality: str, array: np.ndarray) -> np.ndarray:
        return self._encoder.forward(modality, array)

    def describe(self) -> dict[str, Any]:
        return {**self._encoder.describe(), "text_template": self.text_template}
