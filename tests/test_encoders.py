"""Loading encoders: what is altered, missing or unknown is refused with a reason; what loads gives stored vectors."""

from __future__ import annotations

import ast
import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.encoders import Encoder, EncoderError, TwoStageEncoder, load, words
from workbench.shipped import find

PACKAGE = Path(__file__).parent.parent / "workbench"
SMALL_ARCH = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def tiny() -> TwoStageEncoder:
    return load("tiny-clip")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the built-in checkpoint that a test may damage."""
    return Path(shutil.copytree(find("data/models/tiny-clip"), tmp_path / "copy"))


def edit(path: Path, change: Callable[[dict], None]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def load_copy(folder: Path) -> TwoStageEncoder:
    return load(f"open_clip:local-dir:{folder}")


def forget(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


def test_tiny_clip_reproduces_its_probe(tiny: TwoStageEncoder) -> None:
    stored = json.loads((find("data/models/tiny-clip") / "probe.json").read_text(encoding="utf-8"))
    y, x, channel = np.ogrid[:64, :64, :3]
    pattern = Image.fromarray(((x * 7 + y * 13 + channel * 29) % 256).astype(np.uint8))
    vector = tiny.encode_image([pattern])[0].astype(np.float64)
    expected = stored["image_vectors"][0]
    np.testing.assert_allclose((vector / np.linalg.norm(vector))[: len(expected)], expected, atol=stored["tolerance"])
    text = tiny.encode_text(["a red circle"])[0].astype(np.float64)
    np.testing.assert_allclose(
        (text / np.linalg.norm(text))[: len(expected)], stored["text_vectors"][1], atol=stored["tolerance"]
    )


def test_tiny_clip_is_an_ordinary_local_dir(tiny: TwoStageEncoder, copy: Path) -> None:
    other = load_copy(copy)
    texts = ["two red stars", "ein blaues Quadrat", ""]
    np.testing.assert_array_equal(tiny.encode_text(texts), other.encode_text(texts))
    assert {**tiny.describe(), "name": ""} == {**other.describe(), "name": ""}
    assert (tiny.name, other.name) == ("tiny-clip", "open_clip:local-dir:copy")


def test_relative_path_is_relative_to_the_current_folder(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy.parent)
    assert load("open_clip:local-dir:./copy").name == "open_clip:local-dir:copy"


def test_protocols_and_shapes(tiny: TwoStageEncoder) -> None:
    assert isinstance(tiny, Encoder)
    assert isinstance(tiny, TwoStageEncoder)
    images = [Image.new("RGB", (64, 64), "red"), Image.new("L", (30, 90), 9)]
    pixels, ids = tiny.prepare("image", images), tiny.prepare("text", ["a", "b", "c"])
    assert pixels.shape == (2, 3, 64, 64)
    assert pixels.dtype == np.float32
    vectors, words_ = tiny.forward("image", pixels), tiny.encode_text(["a", "b", "c"])
    assert vectors.dtype == words_.dtype == np.float32
    assert vectors.shape[0] == 2
    assert words_.shape == (3, vectors.shape[1])
    assert ids.shape == (3, tiny.describe()["context_length"])
    np.testing.assert_array_equal(vectors, tiny.encode_image(images))
    with pytest.raises(EncoderError, match="got modality 'audio'"):
        tiny.prepare("audio", [])


def test_pixels_are_scaled_by_the_stated_mean_and_deviation(tiny: TwoStageEncoder) -> None:
    array = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)
    stated = tiny.describe()["preprocess"]
    expected = (array / 255 - np.array(stated["mean"])) / np.array(stated["std"])
    got = tiny.prepare("image", [Image.fromarray(array)])[0]
    np.testing.assert_allclose(got, expected.transpose(2, 0, 1), atol=1e-5)


def test_forward_is_deterministic_and_keeps_its_input(tiny: TwoStageEncoder) -> None:
    ids = tiny.prepare("text", ["a red circle", "a moon"])
    before = ids.copy()
    np.testing.assert_array_equal(tiny.forward("text", ids), tiny.forward("text", ids))
    np.testing.assert_array_equal(ids, before)


def test_description_is_plain_json_without_paths(tiny: TwoStageEncoder) -> None:
    text = json.dumps(tiny.describe(), allow_nan=False)
    assert str(PACKAGE.parent) not in text
    assert str(Path.home()) not in text.replace('"/"', "")
    assert {"weights_sha256", "arch", "preprocess", "tokenizer_sha256", "precision", "versions"} <= set(
        json.loads(text)
    )
    tiny.describe()["arch"] = "changed by the caller"
    assert tiny.describe()["arch"] == "tiny-clip"


def test_shipped_files_hold_no_path_and_are_small() -> None:
    folder = find("data/models/tiny-clip")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8_000_000
    for name in ("training.json", "probe.json", "open_clip_config.json"):
        text = (folder / name).read_text(encoding="utf-8")
        assert "/" not in text.replace("N/A", ""), f"{name} holds a path"
        assert "\\\\" not in text


def test_end_token_has_the_largest_id(tiny: TwoStageEncoder) -> None:
    ids = tiny.prepare("text", ["", "a red circle", "日本 ☃", "two " * 100])
    largest = json.loads((find("data/models/tiny-clip") / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]
    assert (ids.max(axis=1) == largest["vocab_size"] - 1).all()
    assert ids[0].tolist()[:3] == [largest["vocab_size"] - 2, largest["vocab_size"] - 1, 0]


def test_truncated_begins_one_token_after_the_context(tiny: TwoStageEncoder) -> None:
    room = tiny.describe()["context_length"] - 2  # start and end token
    texts = ["red " * (room - 1), "red " * room, "red " * (room + 1), ""]
    assert tiny.truncated(texts).tolist() == [False, False, True, False]


def test_unknown_words(tiny: TwoStageEncoder) -> None:
    texts = ["A red CIRCLE and a dog", "ein großer blauer Kreis", "赤い円"]
    assert tiny.unknown_words(texts) == (("dog",), (), ("赤い円",))


def test_words_of_a_text() -> None:
    assert words("L'étoile, 2 Kreise_rot!") == ["l", "étoile", "kreise", "rot"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("tiny-clop", "unknown encoder 'tiny-clop': did you mean 'tiny-clip'?"),
        ("openclip:ViT-B-32@openai", "did you mean 'open_clip'?"),
        ("zzz", "known are: tiny-clip, open_clip"),
        ("tiny-clip:small", "takes nothing after it"),
        ("open_clip:ViT-B-32", "names no weights.*openai"),
        ("open_clip:ViT-B-33", "names no weights.*did you mean 'ViT-B-32'"),
        ("open_clip:ViT-B-33@openai", "no architecture 'ViT-B-33': did you mean 'ViT-B-32'"),
        ("open_clip:ViT-B-32@opnai", "no weights 'opnai' for ViT-B-32: did you mean 'openai'"),
        ("open_clip:RN50@./nothing.pt", r"no checkpoint file at .*nothing\.pt.*relative to the current folder"),
        ("open_clip:local-dir:./nowhere", "no folder .*nowhere; relative paths"),
        ("open_clip:hf-hub:only-a-name", "ORG/NAME; got 'only-a-name'"),
    ],
)
def test_unknown_sources_name_the_nearest(source: str, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        load(source)


@pytest.mark.parametrize("source", ["open_clip:hf-hub:nobody/nothing", "open_clip:RN50@openai"])
def test_without_network_the_message_says_so(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EncoderError, match=r"could not be downloaded.*Check the network.*HF_HUB_OFFLINE.*local-dir"):
        load(source)


def test_missing_weights(copy: Path) -> None:
    forget(copy, "open_clip_model.safetensors")
    with pytest.raises(EncoderError, match=r"no weights in .*open_clip_model\.safetensors"):
        load_copy(copy)


def test_weights_under_a_name_that_would_be_a_guess(copy: Path) -> None:
    (copy / "open_clip_model.safetensors").rename(copy / "epoch_3.safetensors")
    with pytest.raises(EncoderError, match="no weights in"):
        load_copy(copy)


def test_missing_or_broken_configuration(copy: Path) -> None:
    (copy / "open_clip_config.json").write_text("{")
    with pytest.raises(EncoderError, match="cannot be read as JSON"):
        load_copy(copy)
    (copy / "open_clip_config.json").write_text("{}")
    with pytest.raises(EncoderError, match="no 'model_cfg'"):
        load_copy(copy)
    forget(copy, "open_clip_config.json")
    with pytest.raises(EncoderError, match=r"has no open_clip_config\.json"):
        load_copy(copy)


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("vision_cfg", "image_size", 96),
        ("text_cfg", "context_length", 24),
        ("text_cfg", "vocab_size", 700),
        ("model_cfg", "quick_gelu", True),
        ("preprocess_cfg", "mean", [0.48, 0.46, 0.41]),
        ("preprocess_cfg", "resize_mode", "shortest"),
    ],
)
def test_altered_configuration_is_named(copy: Path, section: str, name: str, value: object) -> None:
    def change(config: dict) -> None:
        config.get(section, config["model_cfg"].get(section, config["model_cfg"]))[name] = value

    edit(copy / "open_clip_config.json", change)
    with pytest.raises(EncoderError, match=rf"{name} is .*trained with"):
        load_copy(copy)


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [("text_cfg", "context_length", 24), ("vision_cfg", "image_size", 96), ("text_cfg", "vocab_size", 700)],
)
def test_wrong_shape_is_refused_even_without_a_manifest(copy: Path, section: str, name: str, value: object) -> None:
    forget(copy, "training.json", "probe.json")
    edit(copy / "open_clip_config.json", lambda config: config["model_cfg"][section].update({name: value}))
    with pytest.raises(EncoderError, match=r"(positional|token)_embedding\S* is \(.*by the configuration"):
        load_copy(copy)


def test_wrong_activation_is_caught_by_the_probe_alone(copy: Path) -> None:
    forget(copy, "training.json")
    edit(copy / "open_clip_config.json", lambda config: config["model_cfg"].update(quick_gelu=True))
    with pytest.raises(EncoderError, match=r"text_vectors of the fixed inputs differ from probe\.json"):
        load_copy(copy)


def test_wrong_preprocessing_is_caught_by_the_probe_alone(copy: Path) -> None:
    forget(copy, "training.json")
    edit(copy / "open_clip_config.json", lambda config: config["preprocess_cfg"].update(mean=[0.6, 0.6, 0.6]))
    with pytest.raises(EncoderError, match="image_vectors of the fixed inputs differ"):
        load_copy(copy)


def test_another_tokenizer_is_refused(copy: Path) -> None:
    lines = gzip.decompress((copy / "bpe_merges.txt.gz").read_bytes()).decode().split("\n")
    reordered = [lines[0], *lines[:0:-1]]  # the same merges, hence as many tokens, in another order
    (copy / "bpe_merges.txt.gz").write_bytes(gzip.compress("\n".join(reordered).encode()))
    with pytest.raises(EncoderError, match="the tokenizer hashes to"):
        load_copy(copy)
    forget(copy, "training.json")
    with pytest.raises(EncoderError, match="other ids for the fixed texts"):
        load_copy(copy)
    forget(copy, "probe.json", "bpe_merges.txt.gz")
    with pytest.raises(EncoderError, match="the tokenizer has 49408 tokens but the model"):
        load_copy(copy)


def test_altered_weights_are_refused_by_hash_and_by_probe(copy: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = copy / "open_clip_model.safetensors"
    tensors = load_file(path)
    tensors["text_projection"] = tensors["text_projection"] * 1.0001
    save_file(tensors, path)
    with pytest.raises(EncoderError, match=r"the weights hash to .*training\.json states"):
        load_copy(copy)
    forget(copy, "training.json")
    load_copy(copy)  # a ten-thousandth is within the probe's tolerance, which is why the hash is kept
    tensors["text_projection"] = tensors["text_projection"][::-1].copy()
    save_file(tensors, path)
    with pytest.raises(EncoderError, match="text_vectors of the fixed inputs differ"):
        load_copy(copy)


def test_truncated_weights_file_is_refused(copy: Path) -> None:
    path = copy / "open_clip_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(EncoderError, match="cannot be loaded"):
        load_copy(copy)


def test_manifest_without_probe_is_refused(copy: Path) -> None:
    forget(copy, "probe.json")
    with pytest.raises(EncoderError, match=r"probe\.json is missing"):
        load_copy(copy)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small architecture known to open_clip as "Small" with a tag "own", and a file of random weights for it."""
    import open_clip
    import torch
    from open_clip import factory, pretrained
    from safetensors.torch import save_file

    path = tmp_path / "weights.safetensors"
    with torch.random.fork_rng(devices=[]):
        save_file(open_clip.CLIP(**SMALL_ARCH).state_dict(), path)
    monkeypatch.setitem(factory._MODEL_CONFIGS, "Small", json.loads(json.dumps(SMALL_ARCH)))
    monkeypatch.setitem(pretrained._PRETRAINED, "Small", {"own": {"mean": (0.5,) * 3, "std": (0.25,) * 3}})
    monkeypatch.setattr(factory, "download_pretrained", lambda *_, **__: str(path))
    monkeypatch.chdir(tmp_path)
    return path


def test_file_and_tag_give_the_same_text_vectors_and_state_what_was_assumed(small: Path) -> None:
    from_file, from_tag = load("open_clip:Small@./weights.safetensors"), load("open_clip:Small@own")
    texts = ["a", "b c", "d"]
    np.testing.assert_array_equal(from_file.encode_text(texts), from_tag.encode_text(texts))
    assert from_file.name == "open_clip:Small@weights.safetensors"
    assumed = " ".join(from_file.describe()["assumptions"])
    assert "the activation is GELU" in assumed
    assert "mean, std" in assumed
    assert from_tag.describe()["assumptions"] == []
    assert from_tag.describe()["preprocess"]["mean"] == [0.5] * 3
    with pytest.raises(EncoderError, match="vocabulary of open_clip:Small@own is not stated"):
        from_tag.unknown_words(texts)


def test_activation_warning_of_a_tag_is_an_error(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from open_clip import pretrained

    monkeypatch.setitem(pretrained._PRETRAINED["Small"], "own", {"quick_gelu": True})
    with pytest.raises(EncoderError, match=r"Small@own was refused, because open_clip warned: QuickGELU mismatch"):
        load("open_clip:Small@own")


@pytest.mark.parametrize(
    ("section", "name", "value"), [("text_cfg", "context_length", 9), ("vision_cfg", "image_size", 64)]
)
def test_positions_are_never_interpolated(
    small: Path, monkeypatch: pytest.MonkeyPatch, section: str, name: str, value: int
) -> None:
    from open_clip import factory

    other = json.loads(json.dumps(SMALL_ARCH))
    other[section][name] = value
    monkeypatch.setitem(factory._MODEL_CONFIGS, "Small", other)
    with pytest.raises(EncoderError, match=r"positional_embedding is \(.*by the configuration"):
        load("open_clip:Small@./weights.safetensors")


def test_pickles_are_not_executed(small: Path, tmp_path: Path) -> None:
    import torch

    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(EncoderError, match="cannot be loaded"):
        load("open_clip:Small@./bomb.pt")
    assert not (tmp_path / "exploded").exists()


def test_the_network_is_not_asked_for_a_local_model(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a local model asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert load_copy(copy).encode_text(["a star"]).shape[0] == 1


def test_loading_leaves_logging_and_offline_mode_alone(copy: Path) -> None:
    import logging

    from huggingface_hub import constants

    before = (constants.HF_HUB_OFFLINE, list(logging.getLogger().handlers))
    load_copy(copy)
    forget(copy, "open_clip_model.safetensors")
    with pytest.raises(EncoderError):
        load_copy(copy)
    assert (constants.HF_HUB_OFFLINE, list(logging.getLogger().handlers)) == before


def test_importing_the_layer_leaves_torch_out() -> None:
    code = (
        "import sys, workbench.encoders, workbench.encoders.store, workbench.encoders.encode; "
        "import workbench.encoders.openclip, workbench.encoders.fingerprint, workbench.adapt.tiny_clip; "
        "print([name for name in ('torch', 'open_clip', 'PIL', 'safetensors', 'tqdm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_one_file_imports_open_clip() -> None:
    importers = set()
    for path in PACKAGE.rglob("*.py"):
        if "_shipped" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "open_clip" for name in names):
                importers.add(path.relative_to(PACKAGE).as_posix())
    assert importers == {"encoders/openclip.py"}


def test_an_import_that_fails_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.__import__

    def broken(name: str, *rest: object, **options: object) -> object:
        if name == "open_clip":
            raise RuntimeError("operator torchvision::nms does not exist")
        return real(name, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(EncoderError, match=r"torchvision::nms does not exist.*must come from one index"):
        load("tiny-clip")
