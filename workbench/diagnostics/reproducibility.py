"""A certificate for two runs: what they say differs, which layer moved first, and where the change dies out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

from workbench.diagnostics.layer_differences import LAYERS, LayerDifference, angles_between, compared, counted
from workbench.diagnostics.run_evidence import Answers, Evidence, Items, Truth

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "CAUSES", "LAYERS", "Answers", "Cause", "Certificate", "Difference", "Evidence", "Items", "LayerDifference",
    "Truth", "angles_between", "certificate",
]  # fmt: skip


class Cause(NamedTuple):
    """A kind of declared difference: the facts that state it, and the layers it can be the first to touch."""

    name: str
    facts: tuple[str, ...]
    first_touches: tuple[str, ...]


ANYTHING = LAYERS
MODEL = ("inputs", "embeddings")
SEARCHED = ("scores", "ranks", "per-query", "aggregate")
CAUSES = (
    Cause("data", ("parameters.dataset", "parameters.split", "parameters.n_images", "parameters.bad_images",
                   "parameters.scenes_languages", "card.*"), ("items", "truth", "embeddings", "scores", "ranks")),
    Cause("share", ("parameters.share",), ("items", "inputs")),
    Cause("judgements", ("parameters.qrels",), ("items", "truth")),
    Cause("resize filter", ("encoder.preprocess.interpolation",), ("inputs",)),
    Cause("preprocessing", ("encoder.preprocess.*", "encoder.image_reader"), ("inputs",)),
    Cause("text template", ("parameters.text_template", "encoder.text_template"), MODEL),
    Cause("context length", ("encoder.context_length",), ("inputs",)),
    Cause("tokenizer", ("encoder.tokenizer*",), ("inputs",)),
    Cause("precision", ("parameters.precision", "encoder.precision"), ("embeddings",)),
    Cause("batch size", ("parameters.batch_size",), ("embeddings",)),
    Cause("similarity", ("parameters.similarity",), ("embeddings",)),
    Cause("software versions", ("workbench", "git_revision", "versions.*", "encoder.versions.*"), ANYTHING),
    Cause("checkpoint", ("parameters.encoder", "encoder.*"), MODEL),
    Cause("threads", ("hardware.threads",), ("embeddings", "scores")),
    Cause("hardware", ("hardware.*",), ("embeddings", "scores")),
    Cause("search", ("protocol.search", "protocol.gallery", "parameters.gallery_size"), SEARCHED),
    Cause("tie order", ("protocol.ties",), ("ranks",)),
    Cause("list depth", ("parameters.depth", "parameters.k", "parameters.short_lists", "protocol.short lists"),
          ("ranks", "per-query", "aggregate")),
    Cause("seed", ("parameters.seed",), ("items", "aggregate")),
    Cause("resamples", ("parameters.n_resamples",), ("aggregate",)),
    Cause("metrics", ("parameters.metrics", "protocol.*"), ("per-query", "aggregate")),
    Cause("report settings", ("report", "parameters.*"), ()),
)  # fmt: skip
"""The first entry that names a fact decides. "data" also stands for ready-made vectors and ranked lists."""
DRAWING = ("matplotlib", "papermill", "nbconvert", "umap-learn", "pyarrow", "pandas")


@dataclass(frozen=True)
class Difference:
    """One fact that the two runs state differently; None where a run does not state it."""

    name: str
    first: Any
    second: Any

    def __str__(self) -> str:
        return f"{self.name}: {_shown(self.first)} -> {_shown(self.second)}"


@dataclass(frozen=True)
class Certificate:
    """Two runs compared layer by layer.

    first, second : names of the runs. declared : facts of the manifests that differ. layers : in the order items,
    truth, inputs, embeddings, scores, ranks, per-query, aggregate. causes : the kinds of declared difference that can
    explain the first observed layer, such as "precision". legitimate : what differs between any two runs (time,
    timings, memory, folder) and proves nothing. files : files of both runs whose digests differ. notes : sentences on
    what limits the comparison.
    """

    first: str
    second: str
    declared: tuple[Difference, ...]
    layers: tuple[LayerDifference, ...]
    causes: tuple[str, ...]
    legitimate: tuple[Difference, ...] = ()
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def observed(self) -> tuple[LayerDifference, ...]:
        """The layers that differ."""
        return tuple(layer for layer in self.layers if layer.status == "differs")

    @property
    def first_observed(self) -> str:
        """The first layer that differs; empty when none does."""
        return self.observed[0].layer if self.observed else ""

    @property
    def dies_out_after(self) -> str:
        """The last layer that differs: "scores" when no rank moved, "aggregate" when the change arrives at the end."""
        return self.observed[-1].layer if self.observed else ""

    @property
    def identical(self) -> bool:
        """No layer and no file differs, and at least the items were compared. What is declared does not count."""
        return not self.observed and not self.files and any(layer.status == "same" for layer in self.layers)

    @property
    def verdict(self) -> str:
        """One sentence: what moved first, why, how far it came."""
        if not self.observed:
            return _unmoved(self)
        return f"{_moved(self)} {_explained(self)}"

    def layer(self, name: str) -> LayerDifference:
        """One layer by its name, an entry of LAYERS."""
        known = {layer.layer: layer for layer in self.layers}
        if name not in known:
            raise KeyError(f"no layer {name!r}; there are {', '.join(known)}")
        return known[name]

    def rows(self) -> list[dict[str, Any]]:
        """One row per layer, ready for a table."""
        return [
            {"layer": one.layer, "status": one.status, "compared": one.n_compared, "changed": one.n_changed,
             "largest": one.largest, "mean": one.mean, "unit": one.unit, "what": one.text}
            for one in self.layers
        ]  # fmt: skip

    def table(self) -> pd.DataFrame:
        """:meth:`rows` as a table, the layers as its index."""
        import pandas as pd

        return pd.DataFrame(self.rows()).set_index("layer")

    def flat(self) -> dict[str, float]:
        """Share of things that changed, by ``changed/layer``; layers that cannot be compared are left out."""
        known = [one for one in self.layers if one.n_compared]
        return {f"changed/{one.layer}": one.n_changed / one.n_compared for one in known}

    def __str__(self) -> str:
        parts = {
            "declared": self.declared, "legitimately different": self.legitimate, "files that differ": self.files,
            "notes": self.notes,
        }  # fmt: skip
        lines = [f"{self.first}  |  {self.second}", self.verdict]
        lines += [f"  {one.layer:<10} {one.status:<14} {one.text}" for one in self.layers]
        for title, items in parts.items():
            lines += [f"{title}:", *(f"  {item}" for item in items)] if items else []
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        import html

        facts = "".join(f"<li>{html.escape(str(one))}</li>" for one in self.declared)
        declared = f"<p>Declared:</p><ul>{facts}</ul>" if facts else "<p>Nothing declared differs.</p>"
        table = self.table().to_html(float_format=lambda value: f"{value:.3g}", na_rep="")
        return f"<p>{html.escape(self.verdict)}</p>{table}{declared}"


def certificate(first: Evidence, second: Evidence) -> Certificate:
    """Compare two runs: what they declare, and what is observed in every layer.

    Layers are compared on what both runs have, matched by content and by id. A cause is named for the first observed
    layer when a declared difference of its kind can be the first to touch that layer, or an earlier layer that could
    not be compared. Which layer each kind can touch first: :data:`CAUSES`.

    >>> import numpy as np
    >>> def run(name, score, precision):
    ...     sides = Items("image", ("i",), ("x",), ("p",), ("",)), Items("text", ("t",), ("y",), ("q",), ("",))
    ...     answers = Answers("t2i", True, np.array([0]), np.array([0]), np.array([score]), {"hit@1": np.array([1.0])})
    ...     facts = {"parameters.precision": precision}
    ...     return Evidence(name, "encoder", facts, {}, sides, None, (answers,), {"t2i/hit@1": {"value": 1.0}})
    >>> found = certificate(run("a", 0.5, "fp32"), run("b", 0.25, "bf16"))
    >>> found.first_observed, found.dies_out_after, found.causes, found.layer("scores").largest
    ('scores', 'scores', ('precision',), 0.25)
    """
    declared = _differences(first.declared, second.declared)
    layers = compared(first, second)
    shared = [name for name in first.files if name in second.files]
    return Certificate(
        first.name,
        second.name,
        declared,
        layers,
        causes=explain(declared, layers),
        legitimate=_differences(first.incidental, second.incidental),
        files=tuple(name for name in shared if first.files[name] != second.files[name]),
        notes=tuple(_notes(first, second)),
    )


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[Difference, ...]:
    names = dict.fromkeys([*first, *second])
    return tuple(
        Difference(name, first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)
    )


def cause_of(name: str) -> Cause:
    """The kind of a declared difference, by the name of the fact.

    >>> cause_of("parameters.batch_size").first_touches, cause_of("encoder.weights_sha256").name
    (('embeddings',), 'checkpoint')
    """
    if name.rpartition(".")[2] in DRAWING:
        return Cause("drawing software", (), ())
    found = (cause for cause in CAUSES if any(fnmatchcase(name, fact) for fact in cause.facts))
    return next(found, Cause(name, (name,), ()))


def explain(declared: Iterable[Difference], layers: Iterable[LayerDifference]) -> tuple[str, ...]:
    """The kinds of declared difference that can be what the first observed layer shows, each named once."""
    status = {layer.layer: layer.status for layer in layers}
    observed = [name for name in LAYERS if status.get(name) == "differs"]
    if not observed:
        return ()
    position = LAYERS.index(observed[0])
    hidden = [observed[0]]
    for name in reversed(LAYERS[:position]):
        if status.get(name) != "not comparable":
            break
        hidden.append(name)
    causes = {cause.name: cause for cause in (cause_of(one.name) for one in declared)}
    named = [name for name, cause in causes.items() if set(cause.first_touches) & set(hidden)]
    return tuple(sorted(named, key=lambda name: causes[name].first_touches == ANYTHING))


def _notes(first: Evidence, second: Evidence) -> Iterable[str]:
    other_machine = any(one.name.startswith("hardware.") for one in _differences(first.declared, second.declared))
    for one in (first, second):
        cached = one.incidental.get("vectors.from cache", 0)
        if cached and other_machine:
            yield f"{one.name} read {cached:,} vectors from the cache: its threads and hardware did not make them."
    for one, other in ((first, second), (second, first)):
        alone = [name for name in one.files if name not in other.files]
        if alone and other.files and first.kind == second.kind:
            yield f"Only {one.name} has {', '.join(sorted(alone))}."
    if first.kind != second.kind:
        yield f"Two kinds of run: {first.kind} and {second.kind}."


def _unmoved(found: Certificate) -> str:
    kinds = dict.fromkeys(cause_of(one.name).name for one in found.declared)
    declared = f"declared, nothing moved: {', '.join(kinds)}" if kinds else "nothing declared differs"
    if found.identical:
        same = sum(layer.status == "same" for layer in found.layers)
        return f"Identical in all {same} layers that can be compared; {declared}."
    if found.files:
        return f"No layer moved, but {', '.join(found.files)} differ; {declared}."
    return f"Nothing can be compared; {declared}."


def _moved(found: Certificate) -> str:
    at = found.observed[0]
    if found.dies_out_after == LAYERS[-1]:
        all_same = all(layer.status == "same" for layer in found.layers[:-1])
        before = "nothing before it moved" if all_same else "nothing before it that can be compared moved"
        end = "the change reaches the aggregate" if at.layer != LAYERS[-1] else before
    else:
        rest = found.layers[LAYERS.index(found.dies_out_after) + 1 :]
        compared_all = all(layer.status == "same" for layer in rest)
        last = found.dies_out_after
        end = f"the change dies out after {last}" if compared_all else f"what follows {last} cannot all be compared"
    return f"First observed in {at.layer} ({_in_short(at)}); {end}."


def _in_short(layer: LayerDifference) -> str:
    """The data themselves by name; of everything else how much moved and how far."""
    things = {"embeddings": "vectors", "scores": "scores", "aggregate": "metrics"}.get(layer.layer, layer.unit)
    if layer.layer in ("items", "truth"):
        return layer.text.removesuffix(".")
    size = (
        f", by at most {layer.largest:.3g} {layer.unit}" if layer.layer == "embeddings" and layer.largest >= 0 else ""
    )
    return f"{layer.n_changed:,} of {layer.n_compared:,} {things}{size}"


def _explained(found: Certificate) -> str:
    if found.causes:
        by_kind = {name: [one for one in found.declared if cause_of(one.name).name == name] for name in found.causes}
        facts = "; ".join(f"{name} ({counted_facts(facts)})" for name, facts in by_kind.items())
        return f"Declared and able to explain it: {facts}."
    return "Nothing declared explains it."


def counted_facts(facts: list[Difference]) -> str:
    """The first fact, and how many more of its kind."""
    return str(facts[0]) + (f" and {counted(len(facts) - 1, 'other fact')}" if len(facts) > 1 else "")


def _shown(value: Any) -> str:
    text = "not stated" if value is None else repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
