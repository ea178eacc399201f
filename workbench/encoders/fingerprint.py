"""What identifies a loaded model: hashes of its tensors and tokenizer, and its answers to fixed inputs."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from workbench.encoders import EncoderError, TwoStageEncoder
from workbench.types import unit_vectors

PACKAGES = ("torch", "open_clip_torch", "torchvision", "pillow", "ftfy")


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """The installed versions that may change a vector."""
    return {package: _version(package) for package in packages}


def dtype(precision: str) -> Any:
    """The torch dtype of "fp32", "bf16" or "fp16"."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


@contextlib.contextmanager
def lacking(name: str, precision: str) -> Iterator[None]:
    """Turn the error of a processor that lacks an operation in a lower precision into advice."""
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        if precision == "fp32" or isinstance(error, MemoryError):
            raise
        reason = " ".join(str(error).split())[:200]
        other = "bf16" if precision == "fp16" else "fp16"
        raise EncoderError(
            f"{name} cannot compute in {precision} on this machine ({reason}); try precision=fp32 or {other}"
        ) from error


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def differences(expected: Any, got: Any, path: str = "") -> Iterator[str]:
    """Where two JSON values differ, in words.

    >>> list(differences({"text_cfg": {"context_length": 20}}, {"text_cfg": {"context_length": 24}}))
    ['text_cfg.context_length is 24, trained with 20']
    """
    if isinstance(expected, dict) and isinstance(got, dict):
        for key in sorted({*expected, *got}):
            yield from differences(expected.get(key), got.get(key), f"{path}.{key}" if path else key)
    elif expected != got:
        yield f"{path} is {got!r}, trained with {expected!r}"


def weights_digest(state: Mapping[str, Any]) -> str:
    """SHA-256 over name, dtype, shape and bytes of every tensor, in the order of the names: independent of the file."""
    from torch import uint8

    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(memoryview(tensor.reshape(-1).view(uint8).numpy()) if tensor.numel() else b"")
    return digest.hexdigest()


def tokenizer_digest(tokenizer: Any) -> str:
    """SHA-256 of the tokenizer's vocabulary (token, id), merges and cleaning rule."""
    if hasattr(tokenizer, "encoder") and hasattr(tokenizer, "bpe_ranks"):
        clean = getattr(tokenizer.clean_fn, "__name__", "unknown")
        content = [sorted(tokenizer.encoder.items()), [list(pair) for pair in tokenizer.bpe_ranks], clean]
    else:
        inner = getattr(tokenizer, "tokenizer", tokenizer)
        vocabulary = inner.get_vocab() if hasattr(inner, "get_vocab") else {}
        content = [type(inner).__name__, sorted(vocabulary.items()), _fast_tokenizer(inner)]
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()


def _fast_tokenizer(tokenizer: Any) -> dict[str, Any]:
    """Normaliser, splitting, merges and special tokens of a tokenizer of the tokenizers library."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = json.loads(backend.to_str()) if backend is not None else {}
    return {key: value for key, value in rules.items() if key not in ("padding", "truncation")}


def probe_inputs() -> tuple[list[Any], list[str]]:
    """Three fixed pictures (arithmetic patterns of different shapes) and four fixed texts."""
    from PIL import Image

    def picture(height: int, width: int, step: int) -> Any:
        y, x, channel = np.ogrid[:height, :width, :3]
        return Image.fromarray(((x * step + y * (step + 6) + channel * 29) % 256).astype(np.uint8))

    images = [picture(64, 64, 7), picture(96, 80, 3), picture(50, 120, 11)]
    return images, ["", "a red circle", "Zwei große blaue Quadrate", "naïve 日本 &amp; 42"]


def measure_probe(encoder: TwoStageEncoder, *, numbers: int = 12, tolerance: float = 2e-4) -> dict[str, Any]:
    """A fingerprint: the token ids of the fixed texts and the first coordinates of the fixed inputs' unit vectors."""
    images, texts = probe_inputs()
    ids = encoder.prepare("text", texts)
    return {
        "schema": 1,
        "tolerance": tolerance,
        "token_ids": ids.tolist(),
        "image_vectors": _leading(encoder.encode_image(images), numbers),
        "text_vectors": _leading(encoder.forward("text", ids), numbers),
    }


def check_probe(encoder: TwoStageEncoder, stored: Mapping[str, Any]) -> None:
    """Raise unless the encoder gives the stored token ids, and the stored vectors within the stored tolerance."""
    now = measure_probe(encoder, numbers=len(stored["image_vectors"][0]), tolerance=stored["tolerance"])
    if now["token_ids"] != stored["token_ids"]:
        raise EncoderError(f"{encoder.name}: the tokenizer gives other ids for the fixed texts than probe.json holds")
    for kind in ("image_vectors", "text_vectors"):
        expected, got = np.array(stored[kind]), np.array(now[kind])
        worst = np.abs(expected - got).max() if expected.shape == got.shape else np.inf
        if not worst <= stored["tolerance"]:
            raise EncoderError(
                f"{encoder.name}: {kind} of the fixed inputs differ from probe.json by {worst:.2g} (allowed "
                f"{stored['tolerance']:.2g}); configuration, preprocessing or weights are not those of the training"
            )


def _leading(vectors: np.ndarray, numbers: int) -> list[list[float]]:
    return [[round(float(value), 6) for value in row[:numbers]] for row in unit_vectors(vectors)]
