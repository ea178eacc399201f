"""Files of weights: what is in them, read without running any code in them, and whether it fits a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.encoders import EncoderError

PREFIXES = ("module.", "_orig_mod.")
_OPENAI_NUMBERS = ("input_resolution", "context_length", "vocab_size")
_HEAD = 512
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The tensors of a file by name, without ``prefixes`` (of DistributedDataParallel and torch.compile).

    ignored : what else lies in the file, such as the optimizer of a training run.
    """

    file: str
    tensors: Mapping[str, Any]
    ignored: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()


def read(path: Path) -> Checkpoint:
    """A safetensors file or a torch file (a state dict, or a training file with one inside), told apart by content.

    Raises :class:`EncoderError` for a file that is empty, cut short, text, a Git LFS pointer, a web page, a TorchScript
    archive, an adapter, or a pickle that needs code; torch files are read with ``weights_only=True``.
    """
    kind = _kind(path)
    content = _read_safetensors(path) if kind == "safetensors" else _read_torch(path, kind)
    state, ignored = _state(content, path.name)
    tensors, prefixes = _without_prefixes(state)
    adapters = [key for key in tensors if "lora_" in key or ".adapter" in key]
    if adapters:
        raise EncoderError(
            f"{path.name} is an adapter: {len(adapters)} of its {len(tensors)} tensors are such as {adapters[0]!r}; "
            "merge it into the full model (merge_and_unload in peft) and save that model's state_dict"
        )
    return Checkpoint(path.name, tensors, ignored, prefixes)


def fill(model: Any, checkpoint: Checkpoint, *, name: str, hint: Callable[[Mapping[str, Shape]], str]) -> str:
    """Put every tensor of the checkpoint into the model and say how many; raise unless each has its counterpart.

    hint : from the shapes by name, a sentence on which model they belong to, or "".
    """
    expected, found = model.state_dict(), checkpoint.tensors
    missing = [key for key in expected if key not in found]
    unexpected = [key for key in found if key not in expected]
    wrong = [text for key in expected if key in found and (text := _misfit(key, expected[key], found[key]))]
    if missing or unexpected or wrong:
        parts = [_few("missing", missing), _few("unexpected", unexpected), _few("of another kind", wrong)]
        matched = len(expected) - len(missing) - len(wrong)
        raise EncoderError(
            f"{name}: only {matched} of {len(expected)} tensors of the model match {checkpoint.file}: "
            f"{'; '.join(filter(None, parts))}. {_reason(missing, unexpected, wrong)}{hint(shapes(found))}"
        )
    model.load_state_dict(dict(found), strict=True)
    return _report(checkpoint, len(expected))


def shapes(tensors: Mapping[str, Any]) -> dict[str, Shape]:
    """Shape of each tensor by name."""
    return {key: tuple(value.shape) for key, value in tensors.items()}


def likely(found: Mapping[str, Shape], configs: Mapping[str, Mapping[str, Any]]) -> str:
    """A sentence naming the open_clip architectures (ViT with a plain text tower) that have these shapes, or "".

    >>> likely({"visual.class_embedding": (8,)}, {})
    ''
    """
    dims = _dims_of_shapes(found)
    fits = [name for name, config in configs.items() if dims and _dims_of_config(config) == dims]
    return f" These shapes are those of {', '.join(fits[:4])}: try open_clip:{fits[0]}@./file" if fits else ""


def _kind(path: Path) -> str:
    """ "safetensors", "zip" or "pickle", by the first bytes; anything else is an error that says what it is."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise EncoderError(f"{path.name} cannot be read: {error.strerror or error}") from error
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        return "safetensors"
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head.startswith(b"\x80"):
        return "pickle"
    raise EncoderError(f"{path.name} holds no weights: {_what_it_is(head)}")


def _what_it_is(head: bytes) -> str:
    if not head:
        return "it is empty (0 bytes); copy or download it again"
    if head.startswith(b"version https://git-lfs"):
        return "this is a git-lfs pointer; fetch the real file with git lfs pull"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "this is a web page; the download needs another address or a login"
    if head.isascii() and all(byte >= 32 or byte in b"\t\n\r" for byte in head):
        return f"this is text, beginning {head[:40].decode().strip()!r}; a safetensors or torch file is needed"
    return f"it begins with the bytes {head[:8].hex(' ')}, neither a safetensors nor a torch file"


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise EncoderError(
            f"{path.name} ({path.stat().st_size:,} bytes) is cut short or damaged: {_one_line(error)}; copy or "
            "download it again"
        ) from error


def _read_torch(path: Path, kind: str) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=kind == "zip")
    except Exception as error:  # torch raises many kinds: UnpicklingError, RuntimeError, EOFError, KeyError, ...
        raise EncoderError(f"{path.name} {_why_not(error, path.stat().st_size)}") from error


def _why_not(error: Exception, size: int) -> str:
    text = _one_line(error)
    if "TorchScript" in text:
        return (
            "is a TorchScript archive, which is code; load it where it is trusted and save only the state_dict: "
            "torch.save(model.state_dict(), ...)"
        )
    if re.search(r"Unsupported global|Unsupported class|Unsupported operand|Trying to call reduce|instantiate", text):
        found = re.search(r"GLOBAL ([\w.]+)", text)
        named = f" ({found[1]})" if found else ""
        return (
            f"holds Python objects{named}, which would run code when read; load it where it is trusted and save only "
            "the state_dict, or convert it to safetensors"
        )
    return f"({size:,} bytes) is cut short, damaged or no torch file: {text[:200]}; copy or download it again"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _state(content: Any, file: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The state dict inside what was read, and the names of what lies beside it."""
    from torch import Tensor

    if not isinstance(content, dict):
        raise EncoderError(f"{file} holds one {type(content).__name__}; expected a dictionary of tensors by name")
    inner = content.get("state_dict", content)
    if not isinstance(inner, dict) or not inner:
        where = "its 'state_dict'" if "state_dict" in content else "it"
        raise EncoderError(f"{file} holds no tensors: {where} is empty; expected a dictionary of tensors by name")
    ignored = tuple(str(key) for key in content if key != "state_dict") if inner is not content else ()
    others = [str(key) for key, value in inner.items() if not isinstance(value, Tensor)]
    if others:
        nested = [key for key in others if isinstance(inner[key], dict)] if inner is content else []
        advice = f"the weights may be inside {nested[0]!r}: " if nested else ""
        raise EncoderError(
            f"{file} is no state dict: {_few('not tensors', others)}; {advice}save only the model's state_dict, plain "
            "or under the name 'state_dict'"
        )
    kept = {str(key): value for key, value in inner.items() if key not in _OPENAI_NUMBERS}
    return kept, ignored + tuple(key for key in _OPENAI_NUMBERS if key in inner)


def _without_prefixes(state: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    removed: list[str] = []
    while prefix := next((prefix for prefix in PREFIXES if state and all(key.startswith(prefix) for key in state)), ""):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
        removed.append(prefix)
    return state, tuple(removed)


def _misfit(key: str, expected: Any, found: Any) -> str:
    want, got = tuple(expected.shape), tuple(found.shape)
    if want != got:
        return f"{key} is {got} in the weights but {want} by the configuration"
    floating = str(found.dtype) in ("torch.float16", "torch.bfloat16", "torch.float32", "torch.float64")
    if expected.dtype.is_floating_point and not floating:
        return f"{key} is {str(found.dtype).removeprefix('torch.')} (quantised?) where floating point is needed"
    return ""


def _few(what: str, names: Sequence[str], n: int = 3) -> str:
    return f"{len(names)} {what} ({', '.join(names[:n])}{', ...' if len(names) > n else ''})" if names else ""


def _reason(missing: Sequence[str], unexpected: Sequence[str], wrong: Sequence[str]) -> str:
    if not missing and not unexpected and all("positional_embedding" in text for text in wrong):
        return "image_size, patch_size or context_length is not that of the training"
    first = unexpected[0].split(".")[0] + "." if unexpected else ""
    if first and len(missing) <= len(unexpected) and all(key.startswith(first) for key in unexpected) and not wrong:
        return f"All unexpected names begin with {first!r}: save the state_dict of the model inside that wrapper"
    return "The weights are of another architecture, or incomplete"


def _report(checkpoint: Checkpoint, n: int) -> str:
    parts = [f"{n} of {n} tensors matched"]
    parts += [f"{', '.join(checkpoint.ignored)} ignored"] if checkpoint.ignored else []
    parts += [f"prefix {''.join(checkpoint.prefixes)} removed"] if checkpoint.prefixes else []
    kinds = sorted({str(value.dtype).removeprefix("torch.") for value in checkpoint.tensors.values()})
    stored = [kind for kind in kinds if kind in ("float16", "bfloat16", "float64")]
    parts += [f"stored as {', '.join(stored)}, read as float32"] if stored else []
    return "; ".join(parts)


def _dims_of_shapes(found: Mapping[str, Shape]) -> dict[str, int]:
    """Sizes that tell one architecture from another; empty when the names are not those of a ViT with text tower."""
    text = "text." if "text.token_embedding.weight" in found else ""
    try:
        vocabulary, width = found[f"{text}token_embedding.weight"]
        return {
            "embed_dim": found["visual.proj"][1], "text width": width, "vocabulary": vocabulary,
            "context": found[f"{text}positional_embedding"][0],
            "text layers": _layers(found, f"{text}transformer."),
            "vision width": found["visual.conv1.weight"][0], "patch": found["visual.conv1.weight"][2],
            "positions": found["visual.positional_embedding"][0],
            "vision layers": _layers(found, "visual.transformer."),
        }  # fmt: skip
    except (KeyError, ValueError, IndexError):
        return {}


def _layers(found: Mapping[str, Shape], tower: str) -> int:
    return sum(key.startswith(f"{tower}resblocks.") and key.endswith("ln_1.weight") for key in found)


def _dims_of_config(config: Mapping[str, Any]) -> dict[str, int]:
    """The same sizes by an open_clip configuration, whose defaults are filled in."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    image, patch = vision.get("image_size", 224), vision.get("patch_size", 16)
    if "timm_model_name" in vision or "hf_model_name" in text or not (isinstance(image, int) and patch):
        return {}
    return {
        "embed_dim": config["embed_dim"], "text width": text.get("width", 512),
        "vocabulary": text.get("vocab_size", 49408), "context": text.get("context_length", 77),
        "text layers": text.get("layers", 12),
        "vision width": vision.get("width", 768), "patch": patch, "positions": (image // patch) ** 2 + 1,
        "vision layers": vision.get("layers", 12),
    }  # fmt: skip
