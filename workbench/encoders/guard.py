"""What an encoder object from outside is asked for, and how each wrong answer is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from workbench.encoders import Encoder, EncoderError, TwoStageEncoder

_NEEDED = ("name", "encode_image", "encode_text")


def guarded(encoder: Any) -> Encoder:
    """The encoder with its answers checked; see :func:`workbench.encoders.checked`."""
    if type(encoder).__module__.startswith("workbench.encoders."):
        return encoder
    if isinstance(encoder, type):
        raise EncoderError(f"{encoder.__name__} is a class; pass an object of it, such as {encoder.__name__}()")
    has = [name for name in _NEEDED if hasattr(encoder, name)]
    if has != list(_NEEDED):
        raise EncoderError(
            f"an encoder needs name, encode_image(images) and encode_text(texts); got {type(encoder).__name__} with "
            f"{', '.join(has) or 'none of them'}"
        )
    if not isinstance(encoder.name, str) or not encoder.name.strip():
        raise EncoderError(
            f"an encoder's name must be a string that is not empty, since reports and run folders are named by it; "
            f"{type(encoder).__name__}.name is {encoder.name!r}"
        )
    uncallable = [name for name in _NEEDED[1:] if not callable(getattr(encoder, name))]
    if uncallable:
        raise EncoderError(f"{encoder.name}.{uncallable[0]} must be a method; got {getattr(encoder, uncallable[0])!r}")
    return (GuardedTwoStage if isinstance(encoder, TwoStageEncoder) else Guarded)(encoder)


class Guarded:
    """An encoder of the user's own; whatever else it can do is passed through."""

    def __init__(self, encoder: Any) -> None:
        self.name, self._encoder = encoder.name, encoder
        self._dims: dict[str, int] = {}

    def encode_image(self, images: Sequence[Any]) -> np.ndarray:
        return self._vectors("image", "encode_image", self._encoder.encode_image, images)

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        return self._vectors("text", "encode_text", self._encoder.encode_text, texts)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._encoder, name)

    def _vectors(self, modality: str, method: str, function: Callable[..., Any], *arguments: Any) -> np.ndarray:
        n = len(arguments[-1])
        vectors = as_array(self._called(method, n, function, *arguments), f"{self.name}.{method}")
        if vectors.ndim != 2 or len(vectors) != n or not vectors.shape[1]:
            raise EncoderError(f"{self.name}.{method} must return ({n}, dim) for {n} items; got shape {vectors.shape}")
        if vectors.dtype.kind not in "fiu":
            raise EncoderError(f"{self.name}.{method} must return real numbers; got dtype {vectors.dtype}")
        self._check_dim(modality, method, vectors.shape[1])
        return vectors

    def _called(self, method: str, n: int, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except EncoderError:
            raise
        except Exception as error:
            reason = ": ".join(filter(None, [type(error).__name__, " ".join(str(error).split())[:300]]))
            raise EncoderError(
                f"{self.name}.{method} failed{f' on {n} items' if n else ''}: {reason}; "
                "call it alone on a few of them to see the whole error"
            ) from error

    def _check_dim(self, modality: str, method: str, dim: int) -> None:
        self._dims.setdefault(modality, dim)
        for other, known in self._dims.items():
            if dim != known:
                raise EncoderError(
                    f"{self.name} must give images and texts vectors of one length; {method} gave {dim} numbers per "
                    f"{modality}, before it were {known} per {other}; is a projection missing?"
                )


class GuardedTwoStage(Guarded):
    """The same for an encoder with two stages."""

    def __init__(self, encoder: Any) -> None:
        super().__init__(encoder)
        self.describe()

    def prepare(self, modality: str, items: Sequence[Any]) -> np.ndarray:
        array = as_array(
            self._called("prepare", len(items), self._encoder.prepare, modality, items), f"{self.name}.prepare"
        )
        if not array.ndim or len(array) != len(items):
            raise EncoderError(
                f"{self.name}.prepare must return one row per {modality}, {len(items)} in all; got shape {array.shape}"
            )
        return array

    def forward(self, modality: str, array: np.ndarray) -> np.ndarray:
        return self._vectors(modality, "forward", self._encoder.forward, modality, array)

    def describe(self) -> dict[str, Any]:
        about = self._called("describe", 0, self._encoder.describe)
        try:
            if not isinstance(about, dict):
                raise TypeError(f"got {type(about).__name__}")
            return json.loads(json.dumps(about, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise EncoderError(
                f"{self.name}.describe must return a dictionary of plain JSON values, as it is the cache key: {error}"
            ) from error


def as_array(answer: Any, source: str) -> np.ndarray:
    """A numpy array as it is, a torch tensor detached and on the CPU; anything else is an error."""
    if hasattr(answer, "detach") and hasattr(answer, "cpu"):
        tensor = answer.detach().cpu()
        return np.asarray((tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy())
    if isinstance(answer, np.ndarray):
        return answer
    length = f" of {len(answer)}" if hasattr(answer, "__len__") else ""
    raise EncoderError(
        f"{source} must return a numpy array or a torch tensor; got {type(answer).__name__}{length}; "
        "np.stack(list_of_vectors) makes one"
    )
