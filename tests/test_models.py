"""Models from outside: training files, hub folders, sentence encoders, templates, precisions, objects of one's own."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from workbench.datasets.collection import Side
from workbench.encoders import Encoder, EncoderError, TwoStageEncoder, checked, load, network
from workbench.encoders.encode import encode
from workbench.encoders.store import Store
from workbench.encoders.template import templated

ARCH = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}
TEXTS = ["a red circle", "two dots", "", "日本 {0!r} %s"]


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    """Random weights of the small architecture, the same in every run."""
    import open_clip
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return open_clip.CLIP(**ARCH).state_dict()


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """open_clip knows the architecture as "Small", and another as "Other"; the current folder is empty."""
    from open_clip import factory

    other = json.loads(json.dumps(ARCH))
    other["vision_cfg"]["width"] = 24
    monkeypatch.setitem(factory._MODEL_CONFIGS, "Small", json.loads(json.dumps(ARCH)))
    monkeypatch.setitem(factory._MODEL_CONFIGS, "Other", other)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def training_file(state: dict[str, Any], path: Path, prefix: str = "module.") -> None:
    """As open_clip's trainer saves: with an optimizer that has run, and a gradient scaler."""
    import torch

    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight])
    weight.grad = torch.ones(3)
    optimizer.step()
    content = {
        "epoch": 3, "name": "run", "state_dict": {prefix + key: value for key, value in state.items()},
        "optimizer": optimizer.state_dict(), "scaler": {"scale": 65536.0, "growth_interval": 2000},
    }  # fmt: skip
    torch.save(content, path)


def reference(state: dict[str, Any], texts: list[str]) -> np.ndarray:
    """The vectors by open_clip alone."""
    import open_clip
    import torch

    model = open_clip.CLIP(**ARCH).eval()
    model.load_state_dict(state)
    with torch.inference_mode():
        return model.encode_text(open_clip.SimpleTokenizer(context_length=12)(texts)).numpy()


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_training_file(known: Path, state: dict[str, Any], prefix: str) -> None:
    training_file(state, known / "epoch_3.pt", prefix)
    encoder = load("open_clip:Small@./epoch_3.pt")
    np.testing.assert_array_equal(encoder.encode_text(TEXTS), reference(state, TEXTS))
    said = encoder.describe()["assumptions"][0]
    n = len(state)
    removed = f"; prefix {prefix} removed" if prefix else ""
    assert said == f"epoch_3.pt: {n} of {n} tensors matched; epoch, name, optimizer, scaler ignored{removed}"
    assert encoder.name == "open_clip:Small@epoch_3.pt"
    assert str(known) not in json.dumps(encoder.describe())


def test_every_kind_of_file_gives_the_same_vectors(known: Path, state: dict[str, Any]) -> None:
    import torch
    from safetensors.torch import save_file

    torch.save(state, "plain.pt")
    torch.save(state, "old.pth", _use_new_zipfile_serialization=False)
    torch.save({**state, "input_resolution": torch.tensor(32), "vocab_size": torch.tensor(49408)}, "numbers.bin")
    save_file(state, "weights.safetensors")
    save_file({"module." + key: value for key, value in state.items()}, "misnamed.pt")
    expected = reference(state, TEXTS)
    digests = set()
    for name in ("plain.pt", "old.pth", "numbers.bin", "weights.safetensors", "misnamed.pt"):
        encoder = load(f"open_clip:Small@./{name}")
        np.testing.assert_array_equal(encoder.encode_text(TEXTS), expected, err_msg=name)
        digests.add(encoder.describe()["weights_sha256"])
    assert len(digests) == 1


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_weights_stored_in_another_precision_are_widened_and_said_so(
    known: Path, state: dict[str, Any], kind: str
) -> None:
    import torch

    stored = {key: value.to(getattr(torch, kind)) for key, value in state.items()}
    torch.save({"state_dict": stored}, "half.pt")
    encoder = load("open_clip:Small@./half.pt")
    widened = {key: value.float() for key, value in stored.items()}
    np.testing.assert_array_equal(encoder.encode_text(TEXTS), reference(widened, TEXTS))
    assert f"stored as {kind}, read as float32" in encoder.describe()["assumptions"][0]


def write(name: str, content: bytes) -> None:
    Path(name).write_bytes(content)


def cut(state: dict[str, Any], name: str) -> None:
    import torch
    from safetensors.torch import save_file

    save_file(state, name) if name.endswith("safetensors") else torch.save(state, name)
    write(name, Path(name).read_bytes()[:-2000])


def another_zip(name: str) -> None:
    with Path(name).open("wb") as file:
        np.savez(file, a=np.ones(3))


def save(content: Any) -> None:
    import torch

    torch.save(content, "bad.pt")


def changed(state: dict[str, Any], **tensors: Any) -> dict[str, Any]:
    return {**state, **{key.replace("__", "."): value for key, value in tensors.items()}}


BAD: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "empty file": (lambda _: write("bad.pt", b""), r"is empty \(0 bytes\); copy or download"),
    "lfs pointer": (
        lambda _: write("bad.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        "git-lfs pointer; fetch the real file with git lfs pull",
    ),
    "html": (lambda _: write("bad.pt", b"\n<!DOCTYPE html><html>Sign in"), "is a web page; .* a login"),
    "text": (lambda _: write("bad.pt", b'{"weight_map": {}}'), r"is text, beginning '\{\"weight_map"),
    "binary": (lambda _: write("bad.pt", b"GGUF\x03\x00\x00\x00" + bytes(64)), "begins with the bytes 47 47 55 46"),
    "cut torch": (lambda state: cut(state, "bad.pt"), r"bad\.pt \([\d,]+ bytes\) is cut short"),
    "cut safetensors": (lambda state: cut(state, "bad.safetensors"), r"bytes\) is cut short or damaged"),
    "another zip": (lambda _: another_zip("bad.pt"), "is cut short, damaged or no torch file"),
    "objects": (
        lambda state: save({"state_dict": state, "args": Namespace(lr=1)}),
        r"holds Python objects \(argparse\.Namespace\).*save only the state_dict, or convert it to safetensors",
    ),
    "empty dict": (lambda _: save({}), "holds no tensors: it is empty"),
    "empty state": (lambda _: save({"state_dict": {}, "epoch": 1}), "its 'state_dict' is empty"),
    "a tensor": (lambda state: save(state["logit_scale"]), "holds one Tensor; expected a dictionary of tensors"),
    "nested": (
        lambda state: save({"model": state, "step": 3}),
        r"no state dict: 2 not tensors \(model, step\); the weights may be inside 'model': save only",
    ),
    "adapter": (
        lambda state: save({f"base.lora_{side}.weight": state["text_projection"] for side in "AB"}),
        "is an adapter: 2 of its 2 tensors are such as 'base.lora_A.weight'; merge it",
    ),
    "missing": (
        lambda state: save({key: value for key, value in state.items() if "ln_final" not in key}),
        r"only \d+ of \d+ tensors .*2 missing \(ln_final\.weight, ln_final\.bias\)",
    ),
    "unexpected": (
        lambda state: save({**state, "head.weight": state["logit_scale"]}),
        r"1 unexpected \(head\.weight\)",
    ),
    "wrapped": (
        lambda state: save({"clip." + key: value for key, value in state.items()}),
        r"only 0 of .*All unexpected names begin with 'clip\.': save the state_dict of the model inside",
    ),
    "context": (
        lambda state: save(changed(state, positional_embedding=state["positional_embedding"][:9])),
        r"positional_embedding is \(9, 8\) in the weights but \(12, 8\) by the configuration.*context_length is not",
    ),
    "image size": (
        lambda state: save(
            {**state, "visual.positional_embedding": state["visual.positional_embedding"].repeat(2, 1)[:26]}
        ),
        r"visual\.positional_embedding is \(26, 16\) in the weights but \(17, 16\).*image_size, patch_size or",
    ),
    "quantised": (
        lambda state: save(changed(state, text_projection=state["text_projection"].char())),
        r"text_projection is int8 \(quantised\?\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(known: Path, state: dict[str, Any], case: str) -> None:
    make, message = BAD[case]
    make(state)
    name = "bad.safetensors" if case == "cut safetensors" else "bad.pt"
    with pytest.raises(EncoderError, match=message) as caught:
        load(f"open_clip:Small@./{name}")
    assert f"open_clip:Small@{name}" in str(caught.value)
    assert str(known) not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_wrong_architecture_names_the_right_one(known: Path, state: dict[str, Any]) -> None:
    training_file(state, known / "epoch_3.pt")
    with pytest.raises(EncoderError, match=r"These shapes are those of Small: try open_clip:Small@\./file"):
        load("open_clip:Other@./epoch_3.pt")


def test_real_configurations_are_told_apart() -> None:
    import open_clip
    import torch

    from workbench.encoders.checkpoints import likely, shapes

    configs = {name: open_clip.get_model_config(name) for name in open_clip.list_models()}
    with torch.device("meta"):
        for arch in ("ViT-B-32", "ViT-B-16", "ViT-L-14-336"):
            config = open_clip.get_model_config(arch)
            found = likely(shapes(open_clip.CLIP(**config).state_dict()), configs)
            assert f" {arch}," in found or f" {arch}:" in found, found


def test_a_torchscript_archive_is_named(known: Path) -> None:
    import torch

    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 3), torch.ones(1, 2)), "bad.pt")
    with pytest.raises(EncoderError, match="is a TorchScript archive, which is code"):
        load("open_clip:Small@./bad.pt")


def hub_folder(cache: Path, files: dict[str, bytes], repository: str = "org/small") -> None:
    """What huggingface_hub keeps of a downloaded repository."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    for name, content in files.items():
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).write_bytes(content)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache and a hub that is never asked."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def small_files(state: dict[str, Any]) -> dict[str, bytes]:
    from safetensors.torch import save as to_bytes

    config = {"model_cfg": ARCH, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    return {"open_clip_config.json": json.dumps(config).encode(), "open_clip_model.safetensors": to_bytes(state)}


def test_hub_repository_from_the_cache(cache: Path, state: dict[str, Any]) -> None:
    hub_folder(cache, small_files(state))
    encoder = load("open_clip:hf-hub:org/small")
    np.testing.assert_array_equal(encoder.encode_text(TEXTS), reference(state, TEXTS))
    assert encoder.name == "open_clip:hf-hub:org/small"
    assert encoder.describe()["preprocess"]["mean"] == [0.5] * 3
    assert str(cache) not in json.dumps(encoder.describe())


def test_hub_repository_with_a_pickle_that_needs_code(cache: Path, state: dict[str, Any], tmp_path: Path) -> None:
    import torch

    torch.save({"state_dict": state, "args": Namespace()}, tmp_path / "x")
    files = {**small_files(state), "open_clip_pytorch_model.bin": (tmp_path / "x").read_bytes()}
    del files["open_clip_model.safetensors"]
    hub_folder(cache, files)
    with pytest.raises(EncoderError, match=r"org/small cannot be loaded: .*holds Python objects \(argparse"):
        load("open_clip:hf-hub:org/small")


def test_tag_from_the_hub_cache(
    known: Path, cache: Path, state: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from open_clip import pretrained

    tag = {"hf_hub": "org/small/epoch.pt", "mean": (0.5,) * 3, "std": (0.25,) * 3}
    monkeypatch.setitem(pretrained._PRETRAINED, "Small", {"own": tag})
    training_file(state, known / "epoch.pt")
    hub_folder(cache, {"epoch.pt": (known / "epoch.pt").read_bytes()})
    encoder = load("open_clip:Small@own")
    np.testing.assert_array_equal(encoder.encode_text(TEXTS), reference(state, TEXTS))
    assert encoder.describe()["assumptions"] == []


def test_local_folder_with_a_training_file(state: dict[str, Any], tmp_path: Path) -> None:
    for name, content in small_files(state).items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "open_clip_model.safetensors").unlink()
    training_file(state, tmp_path / "open_clip_pytorch_model.bin", "module._orig_mod.")
    encoder = load(f"open_clip:local-dir:{tmp_path}")
    np.testing.assert_array_equal(encoder.encode_text(TEXTS), reference(state, TEXTS))


@pytest.mark.parametrize("source", ["open_clip:hf-hub:org/none", "open_clip:RN50@openai", "open_clip:Small@direct"])
def test_a_silent_network_is_named_at_once(
    source: str, known: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants
    from open_clip import pretrained

    monkeypatch.setenv("HOME", str(known))
    monkeypatch.setitem(pretrained._PRETRAINED, "Small", {"direct": {"url": "https://127.0.0.1:1/small.pt"}})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "https://127.0.0.1:1")
    begun = time.monotonic()
    with pytest.raises(EncoderError) as caught:
        load(source)
    assert time.monotonic() - begun < 10
    said = str(caught.value)
    for part in ("no answer from https://127.0.0.1:1", "HF_HUB_OFFLINE", "local-dir:PATH", "HF_HUB_CACHE"):
        assert part in said
    assert constants.HF_HUB_OFFLINE is False


def test_what_was_downloaded_before_needs_no_network(
    cache: Path, state: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "https://127.0.0.1:1")
    hub_folder(cache, small_files(state))
    assert load("open_clip:hf-hub:org/small").encode_text(TEXTS).shape == (4, 8)


def test_a_proxy_is_asked_instead_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert network.reachable(f"http://127.0.0.1:{port}/x")
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{port}")
        assert network.reachable("https://nowhere.invalid")
    assert not network.reachable("https://nowhere.invalid")


@pytest.mark.parametrize(("precision", "bits"), [("bf16", 8), ("fp16", 11)])
def test_lower_precision_is_really_computed_in(precision: str, bits: int) -> None:
    import torch

    full, low = load("tiny-clip"), load("tiny-clip", precision=precision)
    image = [Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))]
    seen: set[Any] = set()
    for module in low._model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            module.register_forward_hook(lambda _, given, out: seen.update({given[0].dtype, out.dtype}))
    for given, method in ((image, "encode_image"), (TEXTS, "encode_text")):
        a, b = getattr(full, method)(given), getattr(low, method)(given)
        assert b.dtype == np.float32
        error = np.linalg.norm(a - b, axis=1) / np.linalg.norm(a, axis=1)
        assert 0 < error.max() < 2.0 ** (5 - bits)
    assert seen == {{"bf16": torch.bfloat16, "fp16": torch.float16}[precision]}
    assert low.describe() == {**full.describe(), "precision": precision}
    assert low.unknown_words(["a dog"]) == full.unknown_words(["a dog"])
    assert full.describe()["precision"] == "fp32"


def test_lower_precision_of_a_file(known: Path, state: dict[str, Any]) -> None:
    training_file(state, known / "epoch_3.pt")
    full, low = (load("open_clip:Small@./epoch_3.pt", precision=name) for name in ("fp32", "bf16"))
    assert low.describe() == {**full.describe(), "precision": "bf16"}
    np.testing.assert_allclose(low.encode_text(TEXTS), full.encode_text(TEXTS), atol=0.05)


def test_precisions_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EncoderError, match="precision must be one of fp32, bf16, fp16; got 'int8'"):
        load("tiny-clip", precision="int8")
    encoder = load("tiny-clip", precision="fp16")

    def lacks(*_: Any) -> None:
        raise RuntimeError("\"addmm_impl_cpu_\" not implemented for 'Half'")

    monkeypatch.setattr(encoder._model, "encode_text", lacks)
    with pytest.raises(EncoderError, match=r"cannot compute in fp16 .*'Half'\); try precision=fp32 or bf16"):
        encoder.encode_text(["a"])


class Counting:
    """An encoder of the simplest kind: how long a text is, how wide a picture."""

    name = "counting"

    def encode_image(self, images: Any) -> np.ndarray:
        return np.array([[float(image.width), 1.0] for image in images])

    def encode_text(self, texts: Any) -> np.ndarray:
        return np.array([[float(len(text)), 1.0] for text in texts])


def test_template_is_plain_replacement() -> None:
    template = "{0} 100%s {{{}}} of {x!r}"
    seen: list[str] = []

    class Listening(Counting):
        def encode_text(self, texts: Any) -> np.ndarray:
            seen.extend(texts)
            return super().encode_text(texts)

    texts = ["{}", "{0.__class__}", "%d", "{x"]
    templated(Listening(), template).encode_text(texts)
    assert seen == ["{0} 100%s {{" + text + "}} of {x!r}" for text in texts]


@pytest.mark.parametrize("template", ["a photo", "{} and {}", "{0}", "{ }"])
def test_template_without_exactly_one_place(template: str) -> None:
    with pytest.raises(EncoderError, match=r"text_template must hold \{\} exactly once"):
        load("tiny-clip", text_template=template)


def test_template_on_a_two_stage_encoder() -> None:
    plain, wrapped = load("tiny-clip"), load("tiny-clip", text_template="a photo of {}")
    assert isinstance(wrapped, TwoStageEncoder)
    assert wrapped.name == plain.name
    assert wrapped.describe() == {**plain.describe(), "text_template": "a photo of {}"}
    full = [f"a photo of {text}" for text in TEXTS]
    np.testing.assert_array_equal(wrapped.prepare("text", TEXTS), plain.prepare("text", full))
    np.testing.assert_array_equal(wrapped.encode_text(TEXTS), plain.encode_text(full))
    image = [Image.new("RGB", (70, 64), "red")]
    np.testing.assert_array_equal(wrapped.encode_image(image), plain.encode_image(image))
    room = plain.context_length - 2
    assert plain.truncated(["red " * room]).tolist() == [False]
    assert wrapped.truncated(["red " * room, "red"]).tolist() == [True, False]
    assert wrapped.unknown_words(["red"]) == plain.unknown_words(["a photo of red"])


def test_template_on_a_plain_object_stays_plain() -> None:
    wrapped = templated(Counting(), "{}!")
    assert isinstance(wrapped, Encoder)
    assert not isinstance(wrapped, TwoStageEncoder)
    assert wrapped.encode_text(["ab"])[0, 0] == 3
    assert not hasattr(wrapped, "truncated")


def test_template_is_part_of_the_cache_key(tmp_path: Path) -> None:
    store = Store(tmp_path)
    side = Side("text", ("1", "2", "3"), ("red", "blue", "red"))
    counts = []
    for template in ("", "a {}", "", "a {}", "the {}"):
        done = encode(load("tiny-clip", text_template=template), side, batch_size=4, store=store)
        counts.append((done.n_encoded, done.n_cached))
    assert counts == [(2, 0), (2, 0), (0, 2), (0, 2), (2, 0)]


def without(name: str) -> Any:
    members = {key: value for key, value in vars(Counting).items() if key in ("name", "encode_image", "encode_text")}
    del members[name]
    return type("Partial", (), members)()


def answering(answer: Callable[[Any], Any]) -> Any:
    return type("Own", (), {"name": "own", "encode_image": Counting().encode_image,
                            "encode_text": lambda self, texts: answer(texts)})()  # fmt: skip


def fails(_: Any) -> None:
    raise KeyError("vocabulary")


@pytest.mark.parametrize("missing", ["name", "encode_image", "encode_text"])
def test_an_object_that_lacks_something(missing: str) -> None:
    with pytest.raises(EncoderError, match=r"an encoder needs name, encode_image\(images\) .*Partial with") as caught:
        checked(without(missing))
    assert missing not in str(caught.value).split(" with ")[1]


@pytest.mark.parametrize("name", ["", "  ", None, 7, Path("x")])
def test_a_name_must_be_a_string(name: Any) -> None:
    encoder = Counting()
    encoder.name = name
    with pytest.raises(EncoderError, match="name must be a string that is not empty"):
        checked(encoder)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda texts: np.ones((2, 2)), r"own\.encode_text must return \(3, dim\) for 3 items; got shape \(2, 2\)"),
        (lambda texts: np.ones(3), r"\(3, dim\) for 3 items; got shape \(3,\)"),
        (lambda texts: np.ones((3, 0)), r"got shape \(3, 0\)"),
        (lambda texts: [[1.0, 2.0]] * 3, r"a numpy array or a torch tensor; got list of 3; np\.stack"),
        (lambda texts: None, "got NoneType"),
        (lambda texts: np.array([["a", "b"]] * 3), "real numbers; got dtype <U1"),
        (lambda texts: np.ones((3, 2), complex), "real numbers; got dtype complex128"),
        (fails, r"own\.encode_text failed on 3 items: KeyError: 'vocabulary'"),
    ],
)
def test_wrong_answers_of_an_object(answer: Callable[[Any], Any], message: str) -> None:
    encoder = checked(answering(answer))
    assert encoder.encode_image([Image.new("RGB", (5, 4))] * 2).tolist() == [[5, 1], [5, 1]]
    with pytest.raises(EncoderError, match=message) as caught:
        encoder.encode_text(["a", "b", "c"])
    if answer is fails:
        assert isinstance(caught.value.__cause__, KeyError)


def test_two_sides_of_different_length() -> None:
    encoder = checked(answering(lambda texts: np.ones((len(texts), 5))))
    encoder.encode_text(["a"])
    with pytest.raises(EncoderError, match="encode_image gave 2 numbers per image, before it were 5 per text"):
        encoder.encode_image([Image.new("RGB", (5, 4))])


def test_nan_is_named_with_its_id() -> None:
    def answer(texts: Any) -> np.ndarray:
        return np.array([[np.nan if text == "bad" else 1.0, 2.0] for text in texts])

    side = Side("text", ("x", "y", "z"), ("a", "bad", "c"))
    with pytest.raises(EncoderError, match=r"own gave NaN or infinity for 1 of 3 items, the first is 'y'"):
        encode(checked(answering(answer)), side, batch_size=4)


def test_tensors_become_arrays() -> None:
    import torch

    for kind in (torch.float32, torch.bfloat16):
        made = checked(answering(lambda texts, kind=kind: torch.ones((3, 2), dtype=kind, requires_grad=True) * 2))
        vectors = made.encode_text(["a", "b", "c"])
        assert isinstance(vectors, np.ndarray)
        assert vectors.tolist() == [[2, 2]] * 3


def test_a_class_and_a_loaded_encoder() -> None:
    with pytest.raises(EncoderError, match=r"Counting is a class; pass an object of it, such as Counting\(\)"):
        checked(Counting)
    loaded = load("tiny-clip")
    assert checked(loaded) is loaded
    own = checked(Counting())
    assert not isinstance(own, TwoStageEncoder)
    assert checked(own) is own


def test_an_object_with_two_stages() -> None:
    class Own(Counting):
        about: Any = None

        def prepare(self, modality: str, items: Any) -> np.ndarray:
            return np.array([[len(item)] for item in items])

        def forward(self, modality: str, array: np.ndarray) -> np.ndarray:
            return array[:1] if (array == 9).any() else array * [[1.0, 2.0]]

        def describe(self) -> Any:
            return self.about

    Own.about = {"weights": "v1"}
    encoder = checked(Own())
    assert isinstance(encoder, TwoStageEncoder)
    assert encoder.forward("text", encoder.prepare("text", ["ab", "abc"])).tolist() == [[2, 4], [3, 6]]
    with pytest.raises(EncoderError, match=r"counting\.forward must return \(2, dim\) for 2 items; got shape \(1, 1\)"):
        encoder.forward("text", np.array([[9], [1]]))
    for about, message in (([1], "got list"), ({"x": np.ones(2)}, "not JSON"), ({"x": float("nan")}, "JSON")):
        Own.about = about
        with pytest.raises(EncoderError, match=rf"describe must return a dictionary of plain JSON values.*{message}"):
            checked(Own())
