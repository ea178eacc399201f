"""Train the built-in tiny CLIP: an open_clip model for the procedural scenes or emoji, in minutes on two cores.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021,
https://arxiv.org/abs/2103.00020. It differs in everything that is size: a small residual network, a small text
transformer, captions in English and German with a little French and Spanish, and no Japanese.

The same seed, number of threads, versions and kind of processor give the same weights; another number of threads or
another processor sums in another order and gives slightly different ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from workbench.adapt.merges import learn_merges, merges_file
from workbench.datasets import scenes as world
from workbench.encoders import EncoderError, words
from workbench.files import canonical_json, write_atomically

LANGUAGES = {"en": 0.45, "de": 0.45, "fr": 0.05, "es": 0.05}
MEAN, STD = (0.72, 0.72, 0.73), (0.19, 0.18, 0.18)
VISION = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 32}
TEXT = {"context_length": 40, "width": 128, "heads": 4, "layers": 2}
SCHEMA = 1
STEPS, BATCH_SIZE = 900, 256
SCENE_MERGES, EMOJI_MERGES, COMMON = 4000, 1500, 3  # words of emoji names that occur thrice teach the tokenizer
WARM_UP, COOL_DOWN = 50, 0.3


@dataclass(frozen=True)
class Recipe:
    """All that fixes a training run.

    steps, batch_size, seed : of the stream of ``scenes.training_batch`` and of the first weights. learning_rate : its
    peak, between a linear rise at the start and a linear fall at the end. weight_decay : of matrices only.
    languages : share of the captions. bf16 : matrix products and convolutions of the training in bfloat16, weights in
    float32. embed_dim, vision, text : the open_clip architecture. threads : of torch. dataset : where the batches come
    from.
    """

    steps: int = STEPS
    batch_size: int = BATCH_SIZE
    seed: int = 0
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    languages: Mapping[str, float] = field(default_factory=lambda: dict(LANGUAGES))
    embed_dim: int = 128
    vision: Mapping[str, Any] = field(default_factory=lambda: dict(VISION))
    text: Mapping[str, Any] = field(default_factory=lambda: dict(TEXT))
    bf16: bool = True
    threads: int = 2
    dataset: str = "scenes"


def recipe_for(dataset: str, **dials: Any) -> Recipe:
    """The recipe for a data set: for emoji all languages alike, and room for longer texts."""
    if dataset.partition(":")[0] == "emoji":
        from workbench.datasets.emoji import LANGUAGES as named

        dials = {"languages": dict.fromkeys(named, 1.0), "text": {**TEXT, "context_length": 64}, **dials}
    return Recipe(dataset=dataset, **dials)


@dataclass(frozen=True)
class Trained:
    """Where the checkpoint lies, how many steps were made now, and the loss at the end (mean of the last steps)."""

    folder: Path
    steps_now: int
    final_loss: float


def train_tiny_clip(
    out: Path | str,
    *,
    steps: int = STEPS,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    resume: bool = True,
    progress: bool | None = None,
    threads: int = 2,
    dataset: str = "scenes",
    recipe: Recipe | None = None,
    save_every: int = 100,
    stop_after: int | None = None,
) -> Trained:
    """Train, and write a folder that ``load("open_clip:local-dir:OUT")`` reads.

    dataset : "scenes", "emoji" or "emoji:FONT.ttf", of which the train split teaches. recipe : all dials at once; it
    then replaces dataset, steps, batch_size, seed and threads. resume : continue from
    ``OUT/checkpoint`` when it is there and was made by the same recipe (anything else there is an error); the result
    is that of an uninterrupted run; a folder that the same recipe finished is left as it is. stop_after : make at most
    this many steps now and leave a checkpoint.
    """
    chosen = recipe or recipe_for(dataset, steps=steps, batch_size=batch_size, seed=seed, threads=threads)
    if chosen.steps < 1 or chosen.batch_size < 2:
        raise ValueError(f"steps must be at least 1 and batch_size at least 2; got {chosen.steps}, {chosen.batch_size}")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    if resume and (done := _finished(folder, chosen)) is not None:
        return done
    with _torch_settings(chosen):
        run = _start(folder, chosen)
        if resume:
            _restore(run, folder / "checkpoint")
        first = run.step
        last = chosen.steps if stop_after is None else min(chosen.steps, first + stop_after)
        for _ in _bar(_steps(run, last), first, chosen.steps, progress):
            if run.step % save_every == 0 or run.step == last:
                _save(run, folder / "checkpoint")
        if run.step == chosen.steps:
            _finish(run, folder)
    return Trained(folder, run.step - first, float(np.mean(run.losses[-50:])))


def _finished(folder: Path, recipe: Recipe) -> Trained | None:
    """What the manifest says when this recipe has run to its end here before."""
    from workbench.encoders.openclip import MANIFEST, PROBE, WEIGHTS

    if not all((folder / name).exists() for name in (MANIFEST, PROBE, WEIGHTS)) or (folder / "checkpoint").exists():
        return None
    manifest = json.loads((folder / MANIFEST).read_bytes())
    if manifest.get("recipe") != _plain(recipe):
        return None
    return Trained(folder, 0, float(manifest["loss"][-1]["loss"]))


@dataclass(frozen=True)
class _Lessons:
    """What is taught: batch(step) -> (images uint8 (n, size, size, 3), one caption each), a pure function of step.

    texts : what the tokenizer learns its merges from, and how many. words : all that captions hold; none: any.
    """

    batch: Callable[[int], tuple[np.ndarray, list[str]]]
    texts: list[str]
    n_merges: int
    words: list[str]
    about: dict[str, Any]


def _lessons(recipe: Recipe) -> _Lessons:
    """The stream that the recipe names."""
    kind, _, where = recipe.dataset.partition(":")
    if kind == "emoji":
        return _emoji_lessons(recipe, where)
    if recipe.dataset != "scenes":
        raise ValueError(f"tiny-clip learns from scenes or emoji; got {recipe.dataset!r}")
    how: dict[str, Any] = {"seed": recipe.seed, "size": recipe.vision["image_size"], "languages": recipe.languages}
    equal = dict.fromkeys(recipe.languages, 1 / len(recipe.languages))
    captions = world.training_batch(0, seed=recipe.seed, batch_size=1024, languages=equal)[1]
    known = vocabulary(list(recipe.languages))
    about = {"name": "scenes", "completeness": world.COMPLETENESS, "paraphrase": world.PARAPHRASE}
    return _Lessons(
        lambda step: world.training_batch(step, batch_size=recipe.batch_size, **how), [*captions, *known],
        SCENE_MERGES, known, about,
    )  # fmt: skip


def _emoji_lessons(recipe: Recipe, font: str) -> _Lessons:
    from workbench.datasets.emoji import lessons

    taught = lessons(font, size=recipe.vision["image_size"], languages=tuple(recipe.languages))
    how: dict[str, Any] = {"seed": recipe.seed, "batch_size": recipe.batch_size, "languages": recipe.languages}
    counts = Counter(word for names in taught.names.values() for name in names for word in words(name))
    common = [word for word, count in counts.items() for _ in range(count) if count >= COMMON]
    about = {"name": "emoji", "source": taught.source}
    return _Lessons(lambda step: taught.batch(step, **how), common, EMOJI_MERGES, [], about)


@dataclass
class _Run:
    """The moving parts of a training run."""

    recipe: Recipe
    lessons: _Lessons
    model: Any
    tokenizer: Any
    optimizer: Any
    step: int = 0
    losses: list[float] = field(default_factory=list)


@contextlib.contextmanager
def _torch_settings(recipe: Recipe) -> Iterator[None]:
    """Threads, determinism and the random state, put back at the end."""
    import torch

    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.set_num_threads(recipe.threads)
        torch.use_deterministic_algorithms(True)
        torch.manual_seed(recipe.seed)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(strict)


def vocabulary(languages: Sequence[str]) -> list[str]:
    """Every word that training captions in these languages can hold, in alphabetical order."""
    return sorted({word for language in languages for entry in world.vocabulary(language) for word in words(entry)})


def _start(folder: Path, recipe: Recipe) -> _Run:
    """Write tokenizer and configuration, and build a model with fresh weights."""
    import torch

    from workbench.encoders.openclip import CONFIG, MERGES, untrained

    lessons = _lessons(recipe)
    merges = learn_merges(lessons.texts, n_merges=lessons.n_merges)
    write_atomically(folder / MERGES, merges_file(merges))
    write_atomically(folder / CONFIG, _pretty(_config(recipe, vocab_size=512 + len(merges) + 2)))
    model, tokenizer = untrained(folder)
    model.visual.to(memory_format=torch.channels_last)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), foreach=True)
    return _Run(recipe, lessons, model.train(), tokenizer, optimizer)


def _config(recipe: Recipe, *, vocab_size: int) -> dict[str, Any]:
    """``open_clip_config.json``."""
    model = {
        "embed_dim": recipe.embed_dim,
        "quick_gelu": False,
        "vision_cfg": dict(recipe.vision),
        "text_cfg": {**recipe.text, "vocab_size": vocab_size},
    }
    preprocess = {
        "mean": list(MEAN), "std": list(STD), "interpolation": "bicubic", "resize_mode": "squash",
        "size": recipe.vision["image_size"],
    }  # fmt: skip
    return {"model_cfg": model, "preprocess_cfg": preprocess}


def _learning_rate(recipe: Recipe, step: int) -> float:
    """Rising over 50 steps, constant, and falling linearly to zero over the last 30 %."""
    left = (recipe.steps - step) / max(1.0, COOL_DOWN * recipe.steps)
    return recipe.learning_rate * min(1.0, (step + 1) / WARM_UP, left)


def _batch(run: _Run, step: int) -> tuple[Any, Any]:
    """(pixels (n, 3, size, size) float32, token ids (n, context)) of one step; a pure function of recipe and step."""
    import torch

    images, captions = run.lessons.batch(step)
    scale = np.float32(255) * np.array(STD, np.float32)
    pixels = (images - np.float32(255) * np.array(MEAN, np.float32)) / scale
    return torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2), run.tokenizer(captions)


def _steps(run: _Run, last: int) -> Iterator[float]:
    """Train up to step ``last``; the next batch is made while the present one is learned."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(_batch, run, run.step) if run.step < last else None
        while run.step < last:
            pixels, ids = waiting.result()
            if run.step + 1 < last:
                waiting = pool.submit(_batch, run, run.step + 1)
            run.losses.append(_learn(run, pixels, ids))
            run.step += 1
            yield run.losses[-1]


def _learn(run: _Run, pixels: Any, ids: Any) -> float:
    """One step on the symmetric cross-entropy of image-text scores (the InfoNCE loss of CLIP)."""
    import torch
    from torch.nn.functional import cross_entropy

    for group in run.optimizer.param_groups:
        group["lr"] = _learning_rate(run.recipe, run.step)
    with torch.autocast("cpu", torch.bfloat16, enabled=run.recipe.bf16):
        images, texts = run.model.encode_image(pixels), _text_vectors(run.model, ids)
    images, texts = (torch.nn.functional.normalize(side.float(), dim=1) for side in (images, texts))
    scores = run.model.logit_scale.exp() * images @ texts.T
    target = torch.arange(len(scores))
    loss = (cross_entropy(scores, target) + cross_entropy(scores.T, target)) / 2
    run.optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    run.optimizer.step()
    with torch.no_grad():
        run.model.logit_scale.clamp_(0, math.log(100))
    return float(loss.detach())


def _text_vectors(model: Any, ids: Any, parts: int = 4) -> Any:
    """``model.encode_text(ids)``, faster: texts of like length go together, without the padding behind the longest.

    The same result, because the causal mask keeps the end token from seeing what follows it.
    """
    import torch

    ends = ids.argmax(dim=1)
    order = torch.argsort(ends, stable=True)
    pooled = []
    for rows in order.chunk(parts):
        length = int(ends[rows].max()) + 1
        hidden = model.token_embedding(ids[rows, :length]) + model.positional_embedding[:length]
        hidden = model.ln_final(model.transformer(hidden, attn_mask=model.attn_mask[:length, :length]))
        pooled.append(hidden[torch.arange(len(rows)), ends[rows]])
    return (torch.cat(pooled) @ model.text_projection)[torch.argsort(order)]


def _bar(steps: Iterator[float], first: int, total: int, progress: bool | None) -> Iterator[float]:
    """The same losses with a progress bar on stderr; quiet when stderr is no terminal, unless asked for."""
    from tqdm import tqdm

    shown = sys.stderr.isatty() if progress is None else progress
    with tqdm(total=total, initial=first, desc="train", unit="step", disable=not shown, file=sys.stderr) as bar:
        for loss in steps:
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update()
            yield loss


def _tensors(run: _Run) -> dict[str, Any]:
    """All tensors of the run under flat names: the model's, and the optimiser's by parameter number."""
    tensors = {f"model/{name}": value for name, value in run.model.state_dict().items()}
    for number, state in run.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{name}": value for name, value in state.items()}
    return {name: value.detach().contiguous().clone() for name, value in tensors.items()}


def _save(run: _Run, folder: Path) -> None:
    """Tensors first, under the hash of their bytes, then the JSON that names them: a kill leaves the older pair."""
    from safetensors.torch import save

    data = save(_tensors(run))
    name = f"tensors-{hashlib.sha256(data).hexdigest()[:16]}.safetensors"
    write_atomically(folder / name, data)
    state = {"schema": SCHEMA, "recipe": _plain(run.recipe), "step": run.step, "losses": run.losses, "tensors": name}
    write_atomically(folder / "state.json", canonical_json(state))
    for old in folder.glob("tensors-*.safetensors"):
        if old.name != name:
            old.unlink(missing_ok=True)


def _restore(run: _Run, folder: Path) -> None:
    """Continue where a checkpoint stopped, if there is one."""
    from safetensors.torch import load

    if not (folder / "state.json").exists():
        return
    state = json.loads((folder / "state.json").read_bytes())
    if state["recipe"] != _plain(run.recipe):
        raise ValueError(
            f"the checkpoint in {folder} was made by another recipe ({state['recipe']}); pass resume=False to start "
            "again, or choose another folder"
        )
    data = (folder / state["tensors"]).read_bytes()
    if hashlib.sha256(data).hexdigest()[:16] not in state["tensors"]:
        raise EncoderError(f"{state['tensors']} in {folder} is damaged; pass resume=False to start again")
    tensors = load(data)
    prefix = "model/"
    run.model.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    optimizer = run.optimizer.state_dict()
    for name, value in tensors.items():
        if name.startswith("optimizer/"):
            _, number, key = name.split("/")
            optimizer["state"].setdefault(int(number), {})[key] = value
    run.optimizer.load_state_dict(optimizer)
    run.step, run.losses = state["step"], state["losses"]


def _finish(run: _Run, folder: Path) -> None:
    """Write weights, manifest and probe; the checkpoint is no longer needed."""
    from safetensors.torch import save

    from workbench.encoders import openclip
    from workbench.encoders.fingerprint import measure_probe, tokenizer_digest, versions, weights_digest

    state = {name: value.detach().contiguous().clone() for name, value in run.model.eval().state_dict().items()}
    manifest = {
        "schema": SCHEMA,
        "name": "tiny-clip",
        "arch": "tiny-clip",
        "config": json.loads((folder / openclip.CONFIG).read_bytes()),
        "weights_sha256": weights_digest(state),
        "tokenizer_sha256": tokenizer_digest(run.tokenizer),
        "recipe": _plain(run.recipe),
        "data": {**run.lessons.about, "split": "train"},
        "versions": versions(),
        "loss": _loss_summary(run.losses),
        **({"vocabulary": run.lessons.words} if run.lessons.words else {}),
    }
    for name in (openclip.MANIFEST, openclip.PROBE):
        (folder / name).unlink(missing_ok=True)
    write_atomically(folder / openclip.WEIGHTS, save(state))
    encoder = openclip.load_local_dir(folder, name="tiny-clip")
    write_atomically(folder / openclip.PROBE, _pretty(measure_probe(encoder)))
    write_atomically(folder / openclip.MANIFEST, _pretty(manifest))
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)


def _loss_summary(losses: Sequence[float], points: int = 20) -> list[dict[str, float]]:
    """The loss curve in at most 20 points: mean over equal stretches of steps."""
    parts = np.array_split(np.asarray(losses), min(points, len(losses)))
    ends = np.cumsum([len(part) for part in parts])
    return [{"step": int(end), "loss": round(float(part.mean()), 4)} for end, part in zip(ends, parts, strict=True)]


def _plain(recipe: Recipe) -> dict[str, Any]:
    """As JSON; of a font only its name, and of scenes, which recipes once could not choose, nothing."""
    plain = dict(json.loads(json.dumps(asdict(recipe))))
    kind, _, font = plain.pop("dataset").partition(":")
    return plain if kind == "scenes" else {**plain, "dataset": f"{kind}:{Path(font).name}" if font else kind}


def _pretty(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()
