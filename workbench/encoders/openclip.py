"""The open_clip adapter: the only file that imports open_clip.

open_clip loads forgivingly: missing weights leave a random model, a wrong image size or context length is interpolated
away, a wrong activation only warns. Here each of these is an error. A folder made by this package also carries
``training.json`` (configuration, tokenizer hash, weight hash) and ``probe.json`` (fixed inputs and the vectors they
must give); both are checked on every load.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from workbench.encoders import EncoderError, nearest, network, words
from workbench.encoders.checkpoints import fill, likely, read
from workbench.encoders.complaints import listening, strict
from workbench.encoders.fingerprint import (
    check_probe,
    differences,
    dtype,
    lacking,
    tokenizer_digest,
    versions,
    weights_digest,
)

CONFIG, WEIGHTS, MERGES = "open_clip_config.json", "open_clip_model.safetensors", "bpe_merges.txt.gz"
MANIFEST, PROBE = "training.json", "probe.json"
_FILE_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".npz", ".npy")
_UNFILLED = {"load_weights": False, "pretrained_text": False}  # every tensor is put in by `_fill`, or it is an error


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
        self.precision = "fp32"
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
        inputs = torch.from_numpy(np.ascontiguousarray(array))
        with torch.inference_mode(), lacking(self.name, self.precision):
            inputs = inputs.to(dtype(self.precision)) if inputs.is_floating_point() else inputs
            return np.asarray(encode(inputs).float().cpu().numpy())

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

    def lowered(self, model: Any, precision: str) -> OpenClipEncoder:
        """The same encoder computing in ``precision``, with a model of that precision and the same weights."""
        other = copy.copy(self)
        model.load_state_dict(self._model.state_dict(), strict=True)
        other._model, other.precision = model.eval(), precision
        other._description = {**self._description, "precision": precision}
        size = self._model.visual.preprocess_cfg["size"]
        height, width = (size, size) if isinstance(size, int) else size
        other.forward("image", np.zeros((1, 3, height, width), np.float32))
        other.forward("text", self.prepare("text", [""]))
        return other

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


def load_local_dir(folder: Path, *, name: str, precision: str = "fp32") -> OpenClipEncoder:
    """A folder with ``open_clip_config.json`` and ``open_clip_model.safetensors``; no network is used.

    When ``training.json``, ``probe.json`` or ``bpe_merges.txt.gz`` lie there too, they are held against the model.
    """
    import open_clip

    config = _read_config(folder)
    manifest = _read_json(folder / MANIFEST) if (folder / MANIFEST).exists() else {}
    weights = _weights_file(folder)
    _check_config(config, manifest, folder)
    source = f"local-dir:{folder}"
    with network.offline(), strict(name):
        model, _, transform = open_clip.create_model_and_transforms(source, **_UNFILLED)
        _fill(model, weights, name)
        options = {"bpe_path": str(folder / MERGES)} if (folder / MERGES).exists() else {}
        tokenizer = open_clip.get_tokenizer(source, **options)
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
    return _in_precision(encoder, source, precision)


def untrained(folder: Path) -> tuple[Any, Any]:
    """(model, tokenizer) of a folder's configuration, with weights drawn from torch's seed: only for training."""
    import open_clip

    source = f"local-dir:{folder}"
    with network.offline(), listening():
        model = open_clip.create_model(source, load_weights=False)
        return model, open_clip.get_tokenizer(source, bpe_path=str(folder / MERGES))


def load_file(arch: str, path: Path, *, precision: str = "fp32") -> OpenClipEncoder:
    """A known architecture with weights from a file, also one that open_clip's trainer wrote.

    The file states neither activation nor preprocessing, so what was assumed is listed, with how many tensors matched.
    """
    import open_clip

    _check_arch(arch)
    if not path.is_file():
        raise EncoderError(f"no checkpoint file at {path}; the path after '@' is relative to the current folder")
    name = f"open_clip:{arch}@{path.name}"
    with strict(name), network.hub():
        model, _, transform = open_clip.create_model_and_transforms(arch, **_UNFILLED)
        matched = _fill(model, path, name)
        tokenizer = open_clip.get_tokenizer(arch)
    activation = "QuickGELU" if uses_quick_gelu(model) else "GELU"
    assumed = (
        f"{path.name}: {matched}", f"the activation is {activation} as in {arch}; the file does not state it",
        *_assumed_preprocessing({}),
    )  # fmt: skip
    encoder = OpenClipEncoder(model, transform, tokenizer, name=name, arch=arch, assumptions=assumed)
    return _in_precision(encoder, arch, precision)


def load_tag(arch: str, tag: str, *, precision: str = "fp32") -> OpenClipEncoder:
    """A known architecture with published weights, downloaded on first use."""
    import open_clip

    _check_arch(arch)
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if not open_clip.is_pretrained_cfg(arch, tag):
        raise EncoderError(f"open_clip has no weights {tag!r} for {arch}: {nearest(tag, tags)} All: {', '.join(tags)}")
    name = f"open_clip:{arch}@{tag}"
    published = open_clip.get_pretrained_cfg(arch, tag)
    with strict(name), network.hub():
        path = _downloaded(published, name)
        model, _, transform = open_clip.create_model_and_transforms(arch, pretrained=tag, **_UNFILLED)
        _fill(model, path, name)
        tokenizer = open_clip.get_tokenizer(arch)
    return _in_precision(OpenClipEncoder(model, transform, tokenizer, name=name, arch=arch), arch, precision)


def load_hub(repository: str, *, precision: str = "fp32") -> OpenClipEncoder:
    """Configuration, weights and tokenizer from a Hugging Face repository ``ORG/NAME``, downloaded on first use."""
    import open_clip

    if repository.count("/") != 1 or not all(repository.split("/")):
        raise EncoderError(f"a hub source is open_clip:hf-hub:ORG/NAME; got {repository!r}")
    name, source = f"open_clip:hf-hub:{repository}", f"hf-hub:{repository}"
    with strict(name), network.hub():
        path = Path(open_clip.pretrained.download_pretrained_from_hf(repository))
        model, _, transform = open_clip.create_model_and_transforms(source, **_UNFILLED)
        _fill(model, path, name)
        tokenizer = open_clip.get_tokenizer(source)
    return _in_precision(OpenClipEncoder(model, transform, tokenizer, name=name, arch=repository), source, precision)


def preprocessing(stated: Mapping[str, Any], interpolation: str) -> Any:
    """The transform of pictures that ``describe()["preprocess"]`` states, with another interpolation."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    known = {name: tuple(value) if isinstance(value, list) else value for name, value in stated.items()}
    return image_transform_v2(PreprocessCfg(**{**known, "interpolation": interpolation}), is_train=False)


def _downloaded(published: Mapping[str, Any], name: str) -> Path:
    """The file of a tag: from the hub, or from an address that answers, unless it was downloaded before."""
    from open_clip import factory

    url = "" if published.get("hf_hub") else str(published.get("url", ""))
    cached = Path("~/.cache/clip").expanduser() / url.rsplit("/", 1)[-1]
    if url and not cached.is_file() and not network.reachable(url):
        raise EncoderError(
            f"{name}: its files are not on this machine and could not be downloaded (no answer from {url}). "
            f"{network.advice()}; this file belongs into ~/.cache/clip"
        )
    return Path(factory.download_pretrained(published))


def _fill(model: Any, path: Path, name: str) -> str:
    """Every tensor of the model from a file, through open_clip's conversions of names but none of its resizing."""
    from open_clip import factory

    if path.suffix in (".npz", ".npy"):
        factory.load_checkpoint(model, str(path))
        return "big_vision weights, converted by open_clip"
    try:
        checkpoint = read(path)
    except EncoderError as error:
        raise EncoderError(f"{name} cannot be loaded: {error}") from error
    converted = _converted(model, dict(checkpoint.tensors))
    return fill(model, replace(checkpoint, tensors=converted), name=name, hint=_likely)


def _converted(model: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Names and shapes of older and of other formats as the model has them; what no vector depends on is made fit."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    state = convert_state_dict(model, state)
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    for key in ("logit_scale", "logit_bias"):
        own = getattr(model, key, None)
        if own is not None and key in state and state[key].numel() == own.numel():
            state[key] = state[key].reshape(own.shape)
        elif own is not None and key == "logit_bias" and key not in state:
            state[key] = own.detach().clone()
    positions = "text.transformer.embeddings.position_ids"
    return {key: value for key, value in state.items() if key != positions or positions in model.state_dict()}


def _likely(found: Mapping[str, tuple[int, ...]]) -> str:
    import open_clip

    return likely(found, {name: open_clip.get_model_config(name) for name in open_clip.list_models()})


def _in_precision(encoder: OpenClipEncoder, source: str, precision: str) -> OpenClipEncoder:
    """The encoder as it is for fp32; otherwise with a second model that open_clip builds for that precision."""
    import open_clip

    if precision == "fp32":
        return encoder
    with network.offline(), strict(encoder.name):
        return encoder.lowered(open_clip.create_model(source, precision=precision, **_UNFILLED), precision)


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
        raise EncoderError(f"{path.name} in {path.parent} cannot be read as JSON ({error}); copy it again") from error
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
        raise EncoderError(
            f"{name}: the weights hash to {got[:16]}..., but {MANIFEST} states {expected[:16]}...; they were changed "
            "or damaged, so copy the folder again"
        )


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
