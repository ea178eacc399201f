"""Encoders: what turns images and texts into vectors, and :func:`load`, which finds one by its source string.

An encoder is any object with ``name``, ``encode_image(images)`` and ``encode_text(texts)``. One that also has the two
stages ``prepare`` and ``forward`` and can ``describe`` itself gets a cache, a probe and an entry in the manifest.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np


class EncoderError(ValueError):
    """An encoder that cannot be found, cannot be loaded, or is not what its manifest says it is."""


@runtime_checkable
class Encoder(Protocol):
    """The least an encoder must have.

    encode_image : n RGB ``PIL.Image`` -> (n, dim). encode_text : n strings -> (n, dim), the same dim.
    """

    name: str

    def encode_image(self, images: Sequence[Any]) -> np.ndarray: ...

    def encode_text(self, texts: Sequence[str]) -> np.ndarray: ...


@runtime_checkable
class TwoStageEncoder(Encoder, Protocol):
    """An encoder whose preprocessing and model are separate, so that what entered the model can be hashed.

    prepare : n items of "image" or "text" -> (n, ...) pixels after preprocessing, or token ids.
    forward : such an array -> (n, dim) float32. ``encode_image`` and ``encode_text`` are ``forward`` after ``prepare``.
    describe : plain JSON values that fix the vectors: weights, architecture, preprocessing, tokenizer, precision,
        versions. It is the cache key and goes into the manifest; it holds no path and no time.
    """

    def prepare(self, modality: str, items: Sequence[Any]) -> np.ndarray: ...

    def forward(self, modality: str, array: np.ndarray) -> np.ndarray: ...

    def describe(self) -> dict[str, Any]: ...


def nearest(given: str, known: Sequence[str]) -> str:
    """The end of an error message: the most similar known name, or all of them when none is similar.

    >>> nearest("tiny-clop", ["tiny-clip", "open_clip:ARCH@TAG"])
    "did you mean 'tiny-clip'?"
    """
    close = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "known are: " + ", ".join(known)


def words(text: str) -> list[str]:
    """Runs of letters, lower case.

    >>> words("Two RED dots, d'accord?")
    ['two', 'red', 'dots', 'd', 'accord']
    """
    return "".join(letter if letter.isalpha() else " " for letter in text.lower()).split()


PRECISIONS = ("fp32", "bf16", "fp16")


def _tiny_clip(rest: str, precision: str) -> Encoder:
    from workbench.encoders.openclip import load_local_dir, require
    from workbench.shipped import find

    if rest:
        raise EncoderError(f"'tiny-clip' takes nothing after it; got 'tiny-clip:{rest}'")
    require()
    return load_local_dir(find("data/models/tiny-clip"), name="tiny-clip", precision=precision)


def _open_clip(rest: str, precision: str) -> Encoder:
    from workbench.encoders import openclip

    openclip.require()
    if rest.startswith("local-dir:"):
        folder = Path(rest.removeprefix("local-dir:")).expanduser().absolute()
        return openclip.load_local_dir(folder, name=f"open_clip:local-dir:{folder.name}", precision=precision)
    if rest.startswith("hf-hub:"):
        return openclip.load_hub(rest.removeprefix("hf-hub:"), precision=precision)
    arch, at, checkpoint = rest.partition("@")
    if not at or not arch or not checkpoint:
        raise openclip.missing_tag(arch)
    if openclip.is_file_name(checkpoint):
        return openclip.load_file(arch, Path(checkpoint).expanduser().absolute(), precision=precision)
    return openclip.load_tag(arch, checkpoint, precision=precision)


def _sentence_transformers(rest: str, precision: str) -> Encoder:
    from workbench.encoders.sentences import load_sentences

    return load_sentences(rest, precision=precision)


SOURCES: dict[str, Callable[[str, str], Encoder]] = {
    "tiny-clip": _tiny_clip,
    "open_clip": _open_clip,
    "sentence-transformers": _sentence_transformers,
}
FORMS = (
    "tiny-clip", "open_clip:ARCH@TAG", "open_clip:ARCH@./file", "open_clip:local-dir:PATH", "open_clip:hf-hub:ORG/NAME",
    "sentence-transformers:NAME", "sentence-transformers:./folder",
)  # fmt: skip


def load(source: str, *, precision: str = "fp32", text_template: str = "") -> Encoder:
    """The encoder of a source string; relative paths are relative to the current folder.

    ``tiny-clip`` is the checkpoint that travels with the package, read by the very code of ``open_clip:local-dir:``.
    ``open_clip:ARCH@TAG``, ``open_clip:hf-hub:ORG/NAME`` and ``sentence-transformers:NAME`` download weights on first
    use; the others need no network.
    precision : "fp32", "bf16" or "fp16", what the model computes in; its vectors come out as float32 either way.
    text_template : ``a photo of {}`` puts every text in the place of ``{}``; empty for none.
    Raises :class:`EncoderError` for an unknown source (with the nearest known one), missing or altered weights, a
    configuration or a tokenizer that does not fit the weights. Weights are never left random.

    >>> load("tiny-clop")
    Traceback (most recent call last):
    workbench.encoders.EncoderError: unknown encoder 'tiny-clop': did you mean 'tiny-clip'? Forms: tiny-clip, ...
    """
    from workbench.encoders.template import check_template, templated

    kind, _, rest = source.strip().partition(":")
    if kind not in SOURCES:
        hint = nearest(kind, list(SOURCES))
        raise EncoderError(
            f"unknown encoder {source!r}: {hint}{'' if hint[-1] == '?' else '.'} Forms: {', '.join(FORMS)}"
        )
    if precision not in PRECISIONS:
        raise EncoderError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}")
    if text_template:
        check_template(text_template)
    encoder = SOURCES[kind](rest, precision)
    return templated(encoder, text_template) if text_template else encoder


def checked(encoder: Any) -> Encoder:
    """An encoder object of the user's own, whose every answer is looked at before it is used.

    Raises :class:`EncoderError` at once unless it has a name (a string), ``encode_image`` and ``encode_text``; and at
    each call that fails or returns anything but one row of numbers per item, with as many columns for images as for
    texts. torch tensors, also with gradients or on a GPU, become numpy arrays. NaN is left to ``encode``, which knows
    the ids. An encoder from :func:`load` comes back as it is.

    >>> class Named:
    ...     name = "named"
    >>> checked(Named())
    Traceback (most recent call last):
    workbench.encoders.EncoderError: an encoder needs name, encode_image(images) and encode_text(texts); got Named ...
    """
    from workbench.encoders.guard import guarded

    return guarded(encoder)
