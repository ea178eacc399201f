"""Text encoders of sentence-transformers: equal to the library itself, from tiny models made here."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from workbench.datasets.collection import Side
from workbench.encoders import EncoderError, TwoStageEncoder, load
from workbench.encoders.encode import encode
from workbench.encoders.store import Store

pytest.importorskip("sentence_transformers", reason="the optional extra 'text' is not installed")

VOCABULARY = """[PAD] [UNK] [CLS] [SEP] [MASK] a the red blue green circle square star two three dot dots ##s on of
photo query : document and with above below big small cat dog house tree ! ? , . ##ing walk run in under left right"""
WORDS = VOCABULARY.split()
LENGTH = 40
TEXTS = ["two red circles", "a blue square on the star " * 5, "", "dot " * 70, "unknowable {0}", "a dog and a cat"]


def transformer(folder: Path, kind: str) -> None:
    """A random transformer of two layers with a word-piece tokenizer."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast, LlamaConfig, LlamaModel

    tokenizer = BertTokenizerFast(
        vocab={word: row for row, word in enumerate(WORDS)}, padding_side="left" if kind == "llama" else "right"
    )
    tokenizer.save_pretrained(folder)
    sizes = {
        "vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 64, "pad_token_id": 0,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = LlamaModel(LlamaConfig(**sizes)) if kind == "llama" else BertModel(BertConfig(**sizes))
    model.save_pretrained(folder)


def saved(folder: Path, *, kind: str = "bert", mode: str = "mean", include_prompt: bool = True, **options: Any) -> Any:
    """A sentence-transformers model, also written to ``folder``."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    transformer(folder.parent / f"{folder.name}-base", kind)
    first = Transformer(str(folder.parent / f"{folder.name}-base"))
    first.max_seq_length = LENGTH
    modules = [first, Pooling(16, pooling_mode=mode, include_prompt=include_prompt), Dense(16, 12), Normalize()]
    model = SentenceTransformer(modules=modules, device="cpu", **options)
    model.save(str(folder))
    return model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    return saved(folder), folder


@pytest.fixture
def copy(made: tuple[Any, Path], tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(made[1], tmp_path / "copy"))


def test_vectors_are_those_of_the_library(made: tuple[Any, Path]) -> None:
    encoder = load(f"sentence-transformers:{made[1]}")
    vectors = encoder.encode_text(TEXTS)
    assert vectors.shape == (6, 12)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, made[0].encode(TEXTS), atol=1e-6)
    assert np.ptp(vectors, axis=0).max() > 1e-3


def test_left_padding_and_last_token(tmp_path: Path) -> None:
    model = saved(tmp_path / "llama", kind="llama", mode="lasttoken")
    encoder = load(f"sentence-transformers:{tmp_path / 'llama'}")
    mask = encoder.prepare("text", ["a dog"])[0][1]
    assert mask.tolist() == [0] * (LENGTH - 4) + [1] * 4
    np.testing.assert_allclose(encoder.encode_text(TEXTS), model.encode(TEXTS), atol=1e-5)


def test_prepared_texts_depend_on_no_neighbour(made: tuple[Any, Path]) -> None:
    encoder = load(f"sentence-transformers:{made[1]}")
    together = encoder.prepare("text", TEXTS)
    assert together.shape == (6, 3, LENGTH)
    for row, text in enumerate(TEXTS):
        np.testing.assert_array_equal(encoder.prepare("text", [text])[0], together[row])
    assert encoder.prepare("text", []).shape == (0, 3, LENGTH)
    vectors = encoder.forward("text", together)
    np.testing.assert_allclose(encoder.forward("text", together[::-1])[::-1], vectors, atol=1e-6)
    alone = np.stack([together[1]] * 6)
    np.testing.assert_allclose(encoder.forward("text", alone)[0], vectors[1], atol=1e-6)


def test_description(made: tuple[Any, Path]) -> None:
    encoder = load(f"sentence-transformers:{made[1]}")
    about = encoder.describe()
    assert isinstance(encoder, TwoStageEncoder)
    assert about["name"] == encoder.name == "sentence-transformers:tiny-bert"
    assert (about["max_seq_length"], about["arch"], about["precision"]) == (LENGTH, "BertModel", "fp32")
    assert about["modules"][0] == {
        "type": "Pooling", "embedding_dimension": "16", "pooling_mode": "mean", "include_prompt": "True",
    }  # fmt: skip
    assert {"sentence-transformers", "transformers", "tokenizers", "torch"} == set(about["versions"])
    assert str(made[1].parent) not in json.dumps(about)
    assert about == load(f"sentence-transformers:{made[1]}").describe()
    assert encoder.truncated([*TEXTS, "dot " * (LENGTH - 2), "dot " * (LENGTH - 1)]).tolist() == [
        False, False, False, True, False, False, False, True,
    ]  # fmt: skip


def test_another_tokenizer_or_pooling_is_another_description(made: tuple[Any, Path], copy: Path) -> None:
    first = load(f"sentence-transformers:{made[1]}").describe()
    edit(copy / "tokenizer_config.json", lambda config: {**config, "do_lower_case": not config["do_lower_case"]})
    assert load(f"sentence-transformers:{copy}").describe()["tokenizer_sha256"] != first["tokenizer_sha256"]
    edit(copy / "1_Pooling" / "config.json", lambda config: {**config, "pooling_mode": "cls"})
    assert load(f"sentence-transformers:{copy}").describe()["modules"] != first["modules"]


def test_there_is_no_image_side(made: tuple[Any, Path]) -> None:
    encoder = load(f"sentence-transformers:{made[1]}", text_template="a photo of {}")
    assert encoder.kinds == ("text",)
    for call in (lambda: encoder.encode_image([]), lambda: encoder.prepare("image", [])):
        with pytest.raises(EncoderError, match=r"tiny-bert encodes texts only; got 'image'\. For pictures use"):
            call()


def test_template_and_store(made: tuple[Any, Path], tmp_path: Path) -> None:
    encoder = load(f"sentence-transformers:{made[1]}", text_template="a photo of {}!")
    side = Side("query", ("1", "2", "3"), ("red star", "dog", "red star"))
    done = encode(encoder, side, batch_size=4, store=Store(tmp_path))
    expected = made[0].encode([f"a photo of {text}!" for text in side.content])
    np.testing.assert_allclose(done.embeddings.vectors, expected, atol=1e-6)
    again = encode(encoder, side, batch_size=4, store=Store(tmp_path))
    assert (done.n_encoded, again.n_encoded, again.n_cached) == (2, 0, 2)


@pytest.mark.parametrize(("precision", "bits"), [("bf16", 8), ("fp16", 11)])
def test_lower_precision(made: tuple[Any, Path], precision: str, bits: int) -> None:
    full, low = (load(f"sentence-transformers:{made[1]}", precision=name) for name in ("fp32", precision))
    assert {str(tensor.dtype) for tensor in low._model.parameters()} == {
        {"bf16": "torch.bfloat16", "fp16": "torch.float16"}[precision]
    }
    error = np.abs(full.encode_text(TEXTS) - low.encode_text(TEXTS)).max()
    assert 0 < error < 2.0 ** (3 - bits)
    assert low.describe() == {**full.describe(), "precision": precision}


@pytest.mark.parametrize("include_prompt", [True, False])
def test_default_prompt(tmp_path: Path, include_prompt: bool) -> None:
    prompts = {"query": "query : ", "document": "document : "}
    model = saved(tmp_path / "prompted", prompts=prompts, default_prompt_name="query", include_prompt=include_prompt)
    encoder = load(f"sentence-transformers:{tmp_path / 'prompted'}")
    np.testing.assert_allclose(encoder.encode_text(TEXTS), model.encode(TEXTS), atol=1e-6)
    assert encoder.describe()["prompt"] == "query : "
    assert encoder.truncated(["dot " * (LENGTH - 4), "dot " * (LENGTH - 3)]).tolist() == [False, True]


def test_unused_prompts_are_stated(copy: Path) -> None:
    config = json.loads((copy / "config_sentence_transformers.json").read_text())
    config["prompts"] = {"query": "query : ", "document": ""}
    (copy / "config_sentence_transformers.json").write_text(json.dumps(config))
    said = load(f"sentence-transformers:{copy}").describe()["assumptions"]
    assert said == ["the model knows prompts and none was used: query = 'query : '; text_template can add one"]


def tensors(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def as_pickle(folder: Path, part: str = "") -> None:
    import torch
    from safetensors.torch import load_file

    path = folder / part / "model.safetensors"
    torch.save(load_file(path), folder / part / "pytorch_model.bin")
    path.unlink()


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def first_type(modules: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [{**modules[0], "type": kind}, *modules[1:]]


def own_code(folder: Path) -> None:
    (folder / "mine.py").write_text("open('exploded', 'w')\nclass Own: pass\n")
    edit(folder / "modules.json", lambda modules: first_type(modules, "mine.Own"))


def own_model(folder: Path) -> None:
    (folder / "mine.py").write_text("open('exploded', 'w')\nclass Model: pass\nclass Config: pass\n")
    own = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}
    edit(folder / "config.json", lambda config: {**config, **own})


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no modules": (lambda folder: (folder / "modules.json").unlink(), "has no modules.json, so its pooling would be a"),
    "modules no json": (lambda folder: (folder / "modules.json").write_text("{"), "cannot be read as JSON"),
    "modules no list": (lambda folder: (folder / "modules.json").write_text("{}"), "must hold a list of modules; got"),
    "pickle": (as_pickle, r"keeps weights in pytorch_model\.bin, a pickle, which is never read; save it"),
    "pickle in dense": (lambda folder: as_pickle(folder, "2_Dense"), r"keeps weights in pytorch_model\.bin, a pickle"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), r"no weights: no \*\.safetensors file"),
    "own code": (own_code, r"needs code of its own \(mine\.Own\), which is never run"),
    "os": (
        lambda folder: edit(folder / "modules.json", lambda modules: first_type(modules, "os.abort")),
        r"needs code of its own \(os\.abort\)",
    ),
    "own model class": (own_model, r"copy cannot be loaded: "),
    "missing tensor": (
        lambda folder: tensors(folder, lambda all_: {k: v for k, v in all_.items() if "layer.1.output" not in k}),
        r"4 tensors are missing .*\(encoder\.layer\.1\.output\.LayerNorm\.bias, .*\.\.\.\) and would be random",
    ),
    "another shape": (
        lambda folder: edit(folder / "config.json", lambda config: {**config, "vocab_size": 90}),
        r"missing from the file or of another shape|have other shapes than config\.json asks for",
    ),
    "cut": (
        lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-99]),
        "cannot be loaded: ",
    ),
    "foreign activation": (
        lambda folder: edit(folder / "2_Dense" / "config.json", lambda c: {**c, "activation_function": "os.abort"}),
        "refused, because sentence-transformers warned: .*os.abort",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_folders(copy: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy.parent)
    make, message = BAD[case]
    make(copy)
    with pytest.raises(EncoderError, match=message) as caught:
        load("sentence-transformers:./copy")
    assert "sentence-transformers:copy" in str(caught.value)
    assert str(copy.parent) not in str(caught.value)
    assert not (copy.parent / "exploded").exists()


def test_a_missing_pooler_is_stated_and_does_not_change_with_chance(copy: Path, made: tuple[Any, Path]) -> None:
    tensors(copy, lambda all_: {key: value for key, value in all_.items() if not key.startswith("pooler.")})
    first, second = (load(f"sentence-transformers:{copy}") for _ in range(2))
    assert first.describe() == second.describe()
    assert first.describe()["assumptions"] == ["2 tensors of a pooler that no vector depends on are not in the file"]
    np.testing.assert_allclose(first.encode_text(TEXTS), made[0].encode(TEXTS), atol=1e-6)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "needs a name or a folder"),
        ("./nowhere", "no folder .*nowhere; relative paths"),
        ("a/b/c", "a hub name is NAME or ORG/NAME"),
    ],
)
def test_sources(source: str, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        load(f"sentence-transformers:{source}")


@pytest.mark.parametrize("forbidden", [True, False])
def test_unknown_name_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forbidden: bool) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", forbidden)
    monkeypatch.setattr(constants, "ENDPOINT", "https://127.0.0.1:1")
    begun = time.monotonic()
    why = "HF_HUB_OFFLINE is set" if forbidden else r"no network: no answer from https://127\.0\.0\.1:1"
    with pytest.raises(EncoderError, match=rf"not on this machine .*\({why}.*sentence-transformers:PATH"):
        load("sentence-transformers:no-such-model")
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("length", [None, 0, 10**30, 512.5])
def test_a_length_without_bound_is_refused(length: Any) -> None:
    from workbench.encoders.sentences import _length

    with pytest.raises(EncoderError, match=r"states no usable max_seq_length .*model\.max_seq_length = 256"):
        _length(SimpleNamespace(max_seq_length=length), "named")


def test_name_from_the_hub_cache(made: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "models--sentence-transformers--tiny-bert"
    shutil.copytree(made[1], folder / "snapshots" / ("1" * 40))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("1" * 40)
    encoder = load("sentence-transformers:tiny-bert")
    assert encoder.name == "sentence-transformers:tiny-bert"
    np.testing.assert_allclose(encoder.encode_text(TEXTS), made[0].encode(TEXTS), atol=1e-6)


def test_loading_is_quiet_and_leaves_the_settings(copy: Path, capfd: pytest.CaptureFixture) -> None:
    from transformers.utils import logging as shown

    tensors(copy, lambda all_: {key: value for key, value in all_.items() if not key.startswith("pooler.")})
    before = (shown.is_progress_bar_enabled(), shown.get_verbosity())
    capfd.readouterr()
    load(f"sentence-transformers:{copy}")
    assert (shown.is_progress_bar_enabled(), shown.get_verbosity()) == before
    assert capfd.readouterr().err == ""


def test_without_the_library_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(EncoderError, match=r'cannot be imported .*pip install "retrieval-workbench\[text\]"'):
        load("sentence-transformers:anything")
