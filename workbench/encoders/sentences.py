"""The sentence-transformers adapter: text encoders from a folder or the hub, weights from safetensors only."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workbench.encoders import EncoderError, network
from workbench.encoders.fingerprint import dtype, lacking, tokenizer_digest, versions, weights_digest

PACKAGES = ("torch", "sentence-transformers", "transformers", "tokenizers")
FEATURES = ("input_ids", "attention_mask", "token_type_ids")
_PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_FETCHED = ("*.json", "*.safetensors", "*.txt", "*.model")
_SHORTEST = 16


class SentenceEncoder:
    """A sentence-transformers model in evaluation mode; it has no images.

    kinds : what it encodes. name : for people. assumptions : what the model leaves open, one sentence each.
    """

    kinds = ("text",)

    def __init__(self, model: Any, *, name: str, precision: str = "fp32", assumptions: Sequence[str] = ()) -> None:
        self.name, self.precision, self.assumptions = name, precision, tuple(assumptions)
        self._model = model.eval()
        self._tokenizer, self._prompt = model.tokenizer, (model.prompts or {}).get(model.default_prompt_name or "", "")
        self.max_seq_length = _length(model, name)
        self._left = getattr(self._tokenizer, "padding_side", "right") == "left"
        self._prompt_length: int | None = None
        self._features = tuple(feature for feature in FEATURES if feature in self._tokens([""]))
        if "attention_mask" not in self._features:
            raise EncoderError(f"{name} gives no attention_mask, so its texts cannot be padded to one length")
        self._description = self._describe()
        self._model = self._model.to(dtype(precision))

    def prepare(self, modality: str, items: Sequence[str]) -> np.ndarray:
        """n texts -> (n, features, max_seq_length) int64: token ids, attention mask and, where used, token types."""
        self._check_modality(modality)
        shape = (len(items), len(self._features), self.max_seq_length)
        padded = np.zeros(shape, np.int64)
        padded[:, self._features.index("input_ids")] = self._tokenizer.pad_token_id or 0
        if not len(items):
            return padded
        tokens = self._tokens(items)
        for row, feature in enumerate(self._features):
            values = tokens[feature].numpy()
            n = values.shape[1]
            padded[:, row, slice(-n, None) if self._left else slice(n)] = values
        return padded

    def forward(self, modality: str, array: np.ndarray) -> np.ndarray:
        """(n, features, max_seq_length) -> (n, dim) float32, normalised only where the model itself does.

        Texts of similar length (16, 32, 64, ... tokens) run together, in batches filled up to n rows, so that a vector
        depends on its own text and on n, never on its neighbours, and short texts are not paid for as long ones.
        """
        self._check_modality(modality)
        used = array[:, self._features.index("attention_mask")].sum(axis=1)
        lengths = np.minimum(_SHORTEST * 2 ** np.ceil(np.log2(np.maximum(used, 1) / _SHORTEST)).clip(0), array.shape[2])
        vectors: np.ndarray | None = None
        for length in np.unique(lengths.astype(int)):
            rows = np.flatnonzero(lengths == length)
            filled = np.concatenate([rows, np.repeat(rows[-1:], len(array) - len(rows))])
            some = self._run(array[filled][:, :, -length:] if self._left else array[filled][:, :, :length])
            vectors = np.zeros((len(array), some.shape[1]), np.float32) if vectors is None else vectors
            vectors[rows] = some[: len(rows)]
        if vectors is None:
            raise EncoderError(f"{self.name} got no texts to encode")
        return vectors

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """n texts -> (n, dim) float32."""
        return self.forward("text", self.prepare("text", texts))

    def encode_image(self, images: Sequence[Any]) -> np.ndarray:
        """Always an error: there is no image side."""
        raise self._no_images("image")

    def describe(self) -> dict[str, Any]:
        """Plain JSON that fixes the vectors, and is the cache key: no path, no time."""
        return json.loads(json.dumps(self._description))

    def truncated(self, texts: Sequence[str]) -> np.ndarray:
        """(n,) bool: which texts, with the model's own prompt before them, are longer than ``max_seq_length``."""
        cut = [
            len(self._tokenizer(self._prompt + text, truncation=False, verbose=False)["input_ids"]) for text in texts
        ]
        return np.array(cut, dtype=int) > self.max_seq_length

    def _tokens(self, texts: Sequence[str]) -> Mapping[str, Any]:
        """What the model's own first stage makes of the texts, padded to the longest of them."""
        if hasattr(self._model, "preprocess"):
            found = self._model.preprocess(list(texts), prompt=self._prompt or None)
        else:
            found = self._model.tokenize([self._prompt + text for text in texts])
        self._prompt_length = found.get("prompt_length", self._prompt_length)
        return found

    def _run(self, array: np.ndarray) -> np.ndarray:
        import torch

        names = enumerate(self._features)
        features = {name: torch.from_numpy(np.ascontiguousarray(array[:, row])) for row, name in names}
        extra = {} if self._prompt_length is None else {"prompt_length": self._prompt_length}
        with torch.inference_mode(), lacking(self.name, self.precision):
            return np.asarray(self._model({**features, **extra})["sentence_embedding"].float().cpu().numpy())

    def _check_modality(self, modality: str) -> None:
        if modality != "text":
            raise self._no_images(modality)

    def _no_images(self, modality: str) -> EncoderError:
        return EncoderError(
            f"{self.name} encodes texts only; got {modality!r}. For pictures use an open_clip model, for texts against "
            "texts a data set of queries and documents"
        )

    def _describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "arch": type(self._model[0].auto_model).__name__,
            "weights_sha256": weights_digest(self._model.state_dict()),
            "modules": _modules(self._model),
            "prompt": self._prompt,
            "tokenizer": type(self._tokenizer).__name__,
            "tokenizer_sha256": tokenizer_digest(self._tokenizer),
            "max_seq_length": self.max_seq_length,
            "precision": self.precision,
            "versions": versions(PACKAGES),
            "assumptions": list(self.assumptions),
        }


def require() -> str:
    """The version of sentence-transformers, or an EncoderError saying how to get it."""
    try:
        import sentence_transformers
    except (ImportError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise EncoderError(
            f"sentence-transformers cannot be imported ({type(error).__name__}: {reason}); "
            'pip install "retrieval-workbench[text]"'
        ) from error
    return str(sentence_transformers.__version__)


def load_sentences(source: str, *, precision: str = "fp32") -> SentenceEncoder:
    """A model folder (``./folder``) or a name of the hub (``NAME`` means ``sentence-transformers/NAME``).

    Raises :class:`EncoderError` for an unknown name, a folder without ``modules.json``, pickled weights, tensors that
    are missing, and modules that would need code from the repository. ``trust_remote_code`` is never set.
    """
    if not source:
        raise EncoderError("sentence-transformers: needs a name or a folder, such as sentence-transformers:./my-model")
    require()
    local = source.startswith((".", "~", "/")) or "\\" in source or Path(source).is_dir()
    name = f"sentence-transformers:{Path(source).expanduser().absolute().name if local else source}"
    folder = Path(source).expanduser().absolute() if local else _fetched(source, name)
    transformer = folder / _check_folder(folder, name)
    model = _built(folder, name)
    assumptions = _complete(model, transformer, name)
    prompts = {key: text for key, text in (model.prompts or {}).items() if text}
    if prompts and not model.default_prompt_name:
        listed = ", ".join(f"{key} = {text!r}" for key, text in sorted(prompts.items()))
        assumptions.append(f"the model knows prompts and none was used: {listed}; text_template can add one")
    return SentenceEncoder(model, name=name, precision=precision, assumptions=assumptions)


def _fetched(source: str, name: str) -> Path:
    """The folder of a hub repository in the hub's cache; pickles and code are not even downloaded."""
    from huggingface_hub import snapshot_download

    repository = source if "/" in source else f"sentence-transformers/{source}"
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise EncoderError(f"{name}: a hub name is NAME or ORG/NAME, a folder begins with ./; got {source!r}")
    try:
        with network.hub():
            return Path(snapshot_download(repository, allow_patterns=list(_FETCHED)))
    except Exception as error:  # huggingface_hub raises many kinds: no network, no repository, no permission
        raise EncoderError(f"{name} cannot be loaded: {network.explained(error)}") from error


def _check_folder(folder: Path, name: str) -> str:
    """The subfolder of the transformer; raise unless every module is the library's own, with safetensors weights."""
    if not folder.is_dir():
        raise EncoderError(f"no folder {folder}; relative paths are relative to the current folder")
    if not (folder / "modules.json").is_file():
        raise EncoderError(
            f"{name} has no modules.json, so its pooling would be a guess; save it with SentenceTransformer.save"
        )
    modules = _json(folder / "modules.json", name)
    if not (isinstance(modules, list) and modules and all(isinstance(module, dict) for module in modules)):
        raise EncoderError(f"{name}: modules.json must hold a list of modules; got {type(modules).__name__}")
    foreign = [str(module.get("type")) for module in modules if not _own(str(module.get("type")))]
    if foreign:
        raise EncoderError(
            f"{name} needs code of its own ({', '.join(foreign)}), which is never run; take another model"
        )
    for path in sorted(folder.rglob("*")):
        if path.suffix in _PICKLED and path.is_file() and not list(path.parent.glob("*.safetensors")):
            raise EncoderError(
                f"{name} keeps weights in {path.name}, a pickle, which is never read; save it with safetensors: "
                "SentenceTransformer.save(folder, safe_serialization=True)"
            )
    first = str(modules[0].get("path", ""))
    if not list((folder / first).glob("*.safetensors")):
        raise EncoderError(f"{name} has no weights: no *.safetensors file beside modules.json; is the copy complete?")
    return first


def _own(kind: str) -> bool:
    return kind.startswith("sentence_transformers.")


def _json(path: Path, name: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(f"{name}: {path.name} cannot be read as JSON: {error}") from error


def _built(folder: Path, name: str) -> Any:
    """The model in float32 on the processor; a complaint of the library about falling back is an error."""
    from sentence_transformers import SentenceTransformer

    complaints = _Complaints()
    logger = logging.getLogger("sentence_transformers")
    logger.addHandler(complaints)
    try:
        with network.offline(), _quiet():
            model = SentenceTransformer(
                str(folder), device="cpu", local_files_only=True, model_kwargs={"use_safetensors": True}
            )
    except Exception as error:  # transformers, tokenizers and safetensors each raise their own kinds
        reason = " ".join(str(error).split()).replace(str(folder), folder.name)[:400]
        if "ignore_mismatched_sizes" in reason:
            reason = "tensors of the file have other shapes than config.json asks for"
        raise EncoderError(f"{name} cannot be loaded: {type(error).__name__}: {reason}") from error
    finally:
        logger.removeHandler(complaints)
    if complaints.messages:
        raise EncoderError(f"{name} was refused, because sentence-transformers warned: {complaints.messages[0]}")
    if not hasattr(model[0], "auto_model"):
        raise EncoderError(f"{name} begins with {type(model[0]).__name__}; only transformer models can be encoded")
    return model.float()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no report of transformers on stderr: what it reports is checked by `_complete`."""
    from transformers.utils import logging as shown

    bars, verbosity = shown.is_progress_bar_enabled(), shown.get_verbosity()
    shown.disable_progress_bar()
    shown.set_verbosity_error()
    try:
        yield
    finally:
        shown.set_verbosity(verbosity)
        if bars:
            shown.enable_progress_bar()


class _Complaints(logging.Handler):
    """Keeps the warnings that say that a setting was replaced by another."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if "falling back" in text or "Ignoring" in text:
            self.messages.append(text)


def _complete(model: Any, transformer: Path, name: str) -> list[str]:
    """Raise when the library left tensors random; those of a pooler, which no vector depends on, become zero."""
    with network.offline(), _quiet():
        _, found = type(model[0].auto_model).from_pretrained(
            str(transformer), output_loading_info=True, use_safetensors=True, local_files_only=True
        )
    missing = sorted(found["missing_keys"])
    wrong = [key for key in missing if "pooler." not in key] + [str(key[0]) for key in found["mismatched_keys"]]
    if wrong:
        raise EncoderError(
            f"{name}: {len(wrong)} tensors are missing from the file or of another shape ({', '.join(wrong[:3])}"
            f"{', ...' if len(wrong) > 3 else ''}) and would be random; is config.json that of the weights?"
        )
    for key, tensor in model[0].auto_model.state_dict().items():
        if key in missing:
            tensor.zero_()
    return [f"{len(missing)} tensors of a pooler that no vector depends on are not in the file"] if missing else []


def _length(model: Any, name: str) -> int:
    length = model.max_seq_length
    if not isinstance(length, int) or not 1 <= length <= 2**17:
        raise EncoderError(
            f"{name} states no usable max_seq_length ({length!r}); set it in the model and save it again: "
            "model.max_seq_length = 256"
        )
    return length


def _modules(model: Any) -> list[dict[str, Any]]:
    """Type and settings of the modules after the transformer, above all the pooling."""
    return [
        {"type": type(module).__name__, **{key: str(value) for key, value in _config(module).items()}}
        for module in list(model)[1:]
    ]


def _config(module: Any) -> dict[str, Any]:
    return dict(module.get_config_dict()) if hasattr(module, "get_config_dict") else {}
