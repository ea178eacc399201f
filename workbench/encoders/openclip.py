"""The open_clip adapter: the only file that imports open_clip.

open_clip loads forgivingly: missing weights leave a random model, a wrong image size or context length is interpolated
away, a wrong activation only warns. Here each of these is an error. A folder made by this package also carries
``training.json`` (configuration, tokenizer hash, weight hash) and ``probe.json`` (fixed inputs and the vectors they
must give); both are checked on every load.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workbench.encoders import EncoderError, nearest, words
from workbench.encoders.fingerprint import check_probe, differences, tokenizer_digest, versions, weights_digest

CONFIG, WEIGHTS, MERGES = "open_clip_config.json", "open_clip_model.safetensors", "bpe_merges.txt.gz"
MANIFEST, PROBE = "training.json", "probe.json"
_FILE_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".npz", ".npy")


class OpenClipEncoder:
    """An open_clip model in evaluation mode with its preprocessing and tokenizer.

    name : for people. manifest : the content of ``training.json``, or empty. assumptions : what the checkpoint does not
    state and open_clip filled in, one sentence each.
    """

    def __init__(
        self,
        model: Any,
        transform: Callable[[Any], Any],
        tokenizer: Callable[..., Any],
        *,
        name: str,
        arch: str,
        manifest: Mapping[str, Any] | None = None,
        assumptions: Sequence[str] = (),
    ) -> None:
        self.name, self.arch = name, arch
        self.manifest, self.assumptions = dict(manifest or {}), tuple(assumptions)
        self._model, self._transform, self._tokenizer = model.eval(), transform, tokenizer
        self.context_length = int(getattr(tokenizer, "context_length", 77))
        self._description = self._describe()

    def prepare(self, modality: str, items: Sequence[Any]) -> np.ndarray:
        """Images (PIL, RGB) -> (n, 3, height, width) float32; texts -> (n, context_length) int64 token ids."""
        if modality == "image":
            return np.stack([self._transform(image.convert("RGB")).numpy() for image in items])
        if modality == "text":
            return np.asarray(self._tokenizer(list(items)).numpy())
        raise EncoderError(f"{self.name} encodes 'image' and 'text'; got modality {modality!r}")

    def forward(self, modality: str, array: np.ndarray) -> np.ndarray:
        """(n, ...) from :meth:`prepare` -> (n, dim) float32, not normalised; no gradient, no random part."""
        import torch

        encode = self._model.encode_image if modality == "image" else self._model.encode_text
        with torch.inference_mode():
            return np.asarray(encode(torch.from_numpy(np.ascontiguousarray(array))).float().cpu().numpy())

    def encode_image(self, images: Sequence[Any]) -> np.ndarray:
        """n RGB PIL images -> (n, dim) float32."""
        return self.forward("image", self.prepare("image", images))

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """n texts -> (n, dim) float32."""
        return self.forward("text", self.prepare("text", texts))

    def describe(self) -> dict[str, Any]:
        """Plain JSON that fixes the vectors, and is the cache key: no path, no time."""
        return json.loads(json.dumps(self._description))

    def truncated(self, texts: Sequence[str]) -> np.ndarray:
        """(n,) bool: which texts are longer than the context and lose their end."""
        longer = self.context_length + 1
        last = self._tokenizer([*texts, ""], context_length=longer).numpy()[:, -1]
        return np.asarray(last[:-1] != last[-1])

    def unknown_words(self, texts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """For each text its words (runs of letters, lower case) that the training captions never contained."""
        known = self.manifest.get("vocabulary")
        if known is None:
            raise EncoderError(
                f"the training vocabulary of {self.name} is not stated, so unknown words cannot be named"
            )
        vocabulary = frozenset(known)
        return tuple(tuple(word for word in words(text) if word not in vocabulary) for text in texts)

    def _describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "arch": self.arch,
            "weights_sha256": weights_digest(self._model.state_dict()),
            "quick_gelu": uses_quick_gelu(self._model),
            "preprocess": json.loads(json.dumps(self._model.visual.preprocess_cfg)),
            "image_reader": "Pillow RGB, EXIF orientation applied",
            "tokenizer": type(self._tokenizer).__name__,
            "tokenizer_sha256": tokenizer_digest(self._tokenizer),
            "context_length": self.context_length,
            "precision": "fp32",
            "versions": versions(),
            "assumptions": list(self.assumptions),
        }


def require() -> str:
    """The version of open_clip, or an EncoderError saying why it cannot be imported and what to do."""
    try:
        import open_clip
    except (ImportError, OSError, RuntimeError) as error:  # torchvision of another build raises RuntimeError
        reason = " ".join(str(error).split())[:200]
        raise EncoderError(
            f"open_clip cannot be imported ({type(error).__name__}: {reason}); torch and torchvision must come from "
            "one index: pip install --force-reinstall torch torchvision. Ready-made vectors need neither"
        ) from error
    return str(open_clip.__version__)


def uses_quick_gelu(model: Any) -> bool:
    """Whether any activation of the model is x * sigmoid(1.702 x), as in OpenAI's models."""
    return any(type(module).__name__ == "QuickGELU" for module in model.modules())


def is_file_name(checkpoint: str) -> bool:
    """Whether what follows ``ARCH@`` means a file: it has a separator, begins with a dot, or ends like a checkpoint."""
    return (
        checkpoint.startswith((".", "~"))
        or "/" in checkpoint
        or "\\" in checkpoint
        or checkpoint.endswith(_FILE_ENDINGS)
    )


def load_local_dir(folder: Path, *, name: str) -> OpenClipEncoder:
    """A folder with ``open_clip_config.json`` and ``open_clip_model.safetensors``; no network is used.

    When ``training.json``, ``probe.json`` or ``bpe_merges.txt.gz`` lie there too, they are held against the model.
    """
    import open_clip

    config = _read_config(folder)
    manifest = _read_json(folder / MANIFEST) if (folder / MANIFEST).exists() else {}
    weights = _weights_file(folder)
    _check_config(config, manifest, folder)
    source = f"local-dir:{folder}"
    with _offline(), _strict(name):
        model, _, transform = open_clip.create_model_and_transforms(source, require_pretrained=True, weights_only=True)
        options = {"bpe_path": str(folder / MERGES)} if (folder / MERGES).exists() else {}
        tokenizer = open_clip.get_tokenizer(source, **options)
    _check_shapes(model, weights, name)
    _check_tokenizer(tokenizer, config, manifest, name)
    _check_weights(model, manifest, name)
    encoder = OpenClipEncoder(
        model, transform, tokenizer, name=name, arch=_arch_name(config, manifest), manifest=manifest,
        assumptions=_assumed_preprocessing(config.get("preprocess_cfg", {})),
    )  # fmt: skip
    if (folder / PROBE).exists():
        check_probe(encoder, _read_json(folder / PROBE))
    elif manifest:
        raise EncoderError(
            f"{name}: {PROBE} is missing beside {MANIFEST}; restore it, the checkpoint cannot be verified"
        )
    return encoder


def untrained(folder: Path) -> tuple[Any, Any]:
    """(model, tokenizer) of a folder's configuration, with weights drawn from torch's seed: only for training."""
    import open_clip

    source = f"local-dir:{folder}"
    with _offline(), _listening():
        model = open_clip.create_model(source, load_weights=False)
        return model, open_clip.get_tokenizer(source, bpe_path=str(folder / MERGES))


def load_file(arch: str, path: Path) -> OpenClipEncoder:
    """A known architecture with weights from a file. The file states neither activation nor preprocessing."""
    import open_clip

    _check_arch(arch)
    if not path.is_file():
        raise EncoderError(f"no checkpoint file at {path}; the path after '@' is relative to the current folder")
    name = f"open_clip:{arch}@{path.name}"
    with _strict(name):
        model, _, transform = open_clip.create_model_and_transforms(
            arch, pretrained=str(path), require_pretrained=True, weights_only=True
        )
        tokenizer = open_clip.get_tokenizer(arch)
    _check_shapes(model, path, name)
    activation = "QuickGELU" if uses_quick_gelu(model) else "GELU"
    assumed = (f"the activation is {activation} as in {arch}; the file does not state it", *_assumed_preprocessing({}))
    return OpenClipEncoder(model, transform, tokenizer, name=name, arch=arch, assumptions=assumed)


def load_tag(arch: str, tag: str) -> OpenClipEncoder:
    """A known architecture with published weights, downloaded on first use."""
    import open_clip

    _check_arch(arch)
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if not open_clip.is_pretrained_cfg(arch, tag):
        raise EncoderError(f"open_clip has no weights {tag!r} for {arch}: {nearest(tag, tags)} All: {', '.join(tags)}")
    name = f"open_clip:{arch}@{tag}"
    with _strict(name):
        model, _, transform = open_clip.create_model_and_transforms(
            arch, pretrained=tag, require_pretrained=True, weights_only=True
        )
        tokenizer = open_clip.get_tokenizer(arch)
    return OpenClipEncoder(model, transform, tokenizer, name=name, arch=arch)


def load_hub(repository: str) -> OpenClipEncoder:
    """Configuration, weights and tokenizer from a Hugging Face repository ``ORG/NAME``, downloaded on first use."""
    import open_clip

    if repository.count("/") != 1 or not all(repository.split("/")):
        raise EncoderError(f"a hub source is open_clip:hf-hub:ORG/NAME; got {repository!r}")
    name, source = f"open_clip:hf-hub:{repository}", f"hf-hub:{repository}"
    with _strict(name):
        model, _, transform = open_clip.create_model_and_transforms(source, require_pretrained=True, weights_only=True)
        tokenizer = open_clip.get_tokenizer(source)
        _check_shapes(model, Path(open_clip.pretrained.download_pretrained_from_hf(repository)), name)
    return OpenClipEncoder(model, transform, tokenizer, name=name, arch=repository)


def missing_tag(arch: str) -> EncoderError:
    """The error for ``open_clip:ARCH`` without weights: weights are never left random."""
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(arch)
    known = f"weights for it: {', '.join(tags)}" if tags else nearest(arch, open_clip.list_models())
    return EncoderError(
        f"open_clip:{arch} names no weights; write open_clip:ARCH@TAG or open_clip:ARCH@./file; {known}"
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path.name} in {path.parent} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise EncoderError(f"{path.name} in {path.parent} must hold a JSON object; got {type(content).__name__}")
    return content


def _read_config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise EncoderError(f"no folder {folder}; relative paths are relative to the current folder")
    if not (folder / CONFIG).is_file():
        raise EncoderError(f"{folder} has no {CONFIG}; a local model needs it beside {WEIGHTS}")
    config = _read_json(folder / CONFIG)
    if "model_cfg" not in config:
        raise EncoderError(f"{CONFIG} in {folder} has no 'model_cfg'; found {sorted(config)}")
    return config


def _weights_file(folder: Path) -> Path:
    """The file open_clip will choose; names it would only guess are refused."""
    names = (
        WEIGHTS, "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth",
        "model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth",
    )  # fmt: skip
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise EncoderError(f"no weights in {folder}; expected {WEIGHTS} (or one of {', '.join(names[1:])})")
    return found[0]


def _check_config(config: Mapping[str, Any], manifest: Mapping[str, Any], folder: Path) -> None:
    found = list(differences(manifest.get("config", config), config))
    if found:
        raise EncoderError(f"{CONFIG} in {folder} is not the one the weights were trained with: {'; '.join(found)}")


def _check_weights(model: Any, manifest: Mapping[str, Any], name: str) -> None:
    expected, got = manifest.get("weights_sha256"), weights_digest(model.state_dict())
    if expected not in (None, got):
        raise EncoderError(f"{name}: the weights hash to {got[:16]}..., but {MANIFEST} states {expected[:16]}...")


def _check_tokenizer(tokenizer: Any, config: Mapping[str, Any], manifest: Mapping[str, Any], name: str) -> None:
    expected, got = manifest.get("tokenizer_sha256"), tokenizer_digest(tokenizer)
    if expected not in (None, got):
        raise EncoderError(
            f"{name}: the tokenizer hashes to {got[:16]}..., but {MANIFEST} states {expected[:16]}...; is {MERGES} the "
            "file of the training?"
        )
    text = config["model_cfg"].get("text_cfg", {})
    size, rows = getattr(tokenizer, "vocab_size", None), text.get("vocab_size", 49408)
    if size is not None and text.get("pool_type", "argmax") == "argmax" and size != rows:
        raise EncoderError(
            f"{name}: the tokenizer has {size} tokens but the model {rows}; argmax pooling wants the end token to be "
            f"the last id, so another tokenizer pools the wrong word (is {MERGES} missing?)"
        )


def _check_shapes(model: Any, weights: Path, name: str) -> None:
    """open_clip interpolates position embeddings of another size without a word; here that is an error."""
    from open_clip.factory import load_state_dict

    if weights.suffix in (".npz", ".npy"):
        return
    stored = {key: tuple(value.shape) for key, value in load_state_dict(str(weights)).items()}
    for key, value in model.state_dict().items():
        got = stored.get(key, stored.get(key.removeprefix("text."), tuple(value.shape)))
        if "positional_embedding" in key and got != tuple(value.shape):
            raise EncoderError(
                f"{name}: {key} is {got} in the weights but {tuple(value.shape)} by the configuration; image_size, "
                "patch_size or context_length is not that of the training"
            )


def _check_arch(arch: str) -> None:
    import open_clip

    if arch not in open_clip.list_models():
        raise EncoderError(f"open_clip has no architecture {arch!r}: {nearest(arch, open_clip.list_models())}")


def _arch_name(config: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    model = config["model_cfg"]
    digest = hashlib.sha256(json.dumps(model, sort_keys=True).encode()).hexdigest()[:12]
    return str(manifest.get("arch", f"custom-{digest}"))


def _assumed_preprocessing(stated: Mapping[str, Any]) -> tuple[str, ...]:
    missing = [key for key in ("mean", "std", "interpolation", "resize_mode") if key not in stated]
    return (f"the checkpoint does not state {', '.join(missing)}: open_clip's defaults were used",) if missing else ()


class _Complaints(logging.Filter):
    """Keeps what open_clip logs at warning level or above, instead of showing it."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        ours = "open_clip" in record.pathname and record.levelno >= logging.WARNING
        if ours:
            self.messages.append(record.getMessage())
        return not ours


@contextlib.contextmanager
def _listening() -> Iterator[_Complaints]:
    """Collect open_clip's log messages; the placeholder keeps its first message from installing a log handler."""
    root, complaints, placeholder = logging.getLogger(), _Complaints(), logging.NullHandler()
    root.addFilter(complaints)
    root.addHandler(placeholder)
    try:
        yield complaints
    finally:
        root.removeFilter(complaints)
        root.removeHandler(placeholder)


@contextlib.contextmanager
def _strict(name: str) -> Iterator[None]:
    """Turn open_clip's warnings, logged or issued, and its errors into one :class:`EncoderError`."""
    try:
        with _listening() as logged, warnings.catch_warnings(record=True) as issued:
            warnings.simplefilter("always")
            yield
    except EncoderError:
        raise
    except Exception as error:
        raise EncoderError(f"{name} cannot be loaded: {_explained(error)}") from error
    complaints = logged.messages + [str(entry.message) for entry in issued if "open_clip" in entry.filename]
    if complaints:
        raise EncoderError(f"{name} was refused, because open_clip warned: {'; '.join(complaints)}")


def _explained(error: BaseException) -> str:
    """The error's first lines, with what to do when the reason is the network."""
    text = " ".join(str(error).split())[:600]
    signs = ("download", "offline", "connect", "resolve", "internet", "hub", "timed out", "HTTP")
    if any(sign.lower() in text.lower() for sign in signs):
        return (
            f"its files could not be downloaded ({text}). Check the network or unset HF_HUB_OFFLINE; or download once "
            "elsewhere and use open_clip:local-dir:PATH or open_clip:ARCH@./file"
        )
    return text


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Keep huggingface_hub from retrying the network for a model that is on the disk."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
