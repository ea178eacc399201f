"""From a source string to two sets of vectors (or of ranked lists) with the truth between them: all before a score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from workbench import datasets, encoders
from workbench.datasets import Collection, Counts, Side, content_digest, count, take_images
from workbench.datasets.metadata import described_by
from workbench.encoders.encode import BatchInvariance, Encoded, batch_invariance, encode
from workbench.encoders.template import templated
from workbench.evaluate.share import check_share
from workbench.files import canonical_hash
from workbench.types import Embeddings, Relevance, unit_vectors


@dataclass(frozen=True, eq=False)
class Direction:
    """One way of asking: which side are the queries, which the gallery, what is right, what belongs together.

    clusters, gallery_clusters : the image that each query and each item belongs to, in one numbering.
    queries, gallery : vectors with their ids; where only ranked lists are known, the sides without vectors.
    query_digests, gallery_digests : what tells their contents apart; empty: their vectors do.
    """

    name: str
    queries: Embeddings | Side
    gallery: Embeddings | Side
    relevance: Relevance
    clusters: np.ndarray
    gallery_clusters: np.ndarray
    query_digests: tuple[str, ...] = ()
    gallery_digests: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Prepared:
    """A collection with vectors (or ranked lists) for every item that is left, and what was learned on the way.

    image_digests, text_digests : per item, of the content, or of the vector where only vectors are known.
    image_inputs, text_inputs : per item, of what entered the model; empty strings where only vectors are known.
    encoder : the encoder object, None for ready-made vectors. about : its description, plain JSON.
    invariance : the batch probe of the worse of the two sides, None for ready-made vectors.
    norms : (shortest, longest) vector before scaling, per modality, for ready-made vectors.
    content_hash : of ids, contents and relevance: two collections with the same hash are the same test.
    """

    collection: Collection
    counts: Counts
    images: Embeddings | Side
    texts: Embeddings | Side
    image_digests: tuple[str, ...]
    text_digests: tuple[str, ...]
    image_inputs: tuple[str, ...]
    text_inputs: tuple[str, ...]
    encoder: Any
    about: Mapping[str, Any]
    invariance: BatchInvariance | None
    norms: Mapping[str, tuple[float, float]]
    n_cached: int
    n_encoded: int
    notes: tuple[str, ...]
    content_hash: str = ""

    @property
    def judged(self) -> bool:
        """Whether anything is known to be right."""
        return self.collection.relevance.n_positives > 0

    def directions(self) -> tuple[Direction, ...]:
        """Text to image first. Captions of one image are one cluster; a text without an image is its own."""
        own = self.collection.text_image
        images = np.arange(len(self.images))
        texts = np.where(own >= 0, own, len(images) + np.arange(len(own)))
        first, second = self.texts.modality[0], self.images.modality[0]
        relevance = self.collection.relevance
        digests = self.text_digests, self.image_digests
        forward = Direction(f"{first}2{second}", self.texts, self.images, relevance, texts, images, *digests)
        if self.collection.one_way:
            return (forward,)
        return forward, Direction(
            f"{second}2{first}", self.images, self.texts, relevance.T, images, texts, *digests[::-1]
        )


def load_collection(parameters: Mapping[str, Any], *, split: str | None = None) -> Collection:
    """The collection that the parameters name.

    split : another split, the bank of a repair. It keeps its own relevance and has no columns: ``qrels`` and
    ``metadata`` name the items that are scored. Both may name images that ``n_images`` cuts off.
    """
    options: dict[str, Any] = {}
    if parameters["dataset"] == "scenes":
        options = {"seed": parameters["seed"], "languages": tuple(parameters["scenes_languages"])}
    n_images, bank = parameters["n_images"], split is not None
    described = bool(parameters["metadata"]) and not bank
    collection = datasets.load(
        parameters["dataset"],
        split=parameters["split"] if split is None else split,
        n_images=0 if described and not options else n_images,
        on_bad=parameters["bad_images"],
        qrels="" if bank else parameters["qrels"],
        options=options,
    )
    if described:
        collection = described_by(collection, Path(parameters["metadata"]))
        if 0 < n_images < len(collection.images):
            collection = take_images(collection, np.arange(n_images))
    if bank:
        check_share(parameters, collection.card)
        collection = take_images(collection, np.unique(collection.text_image[collection.text_image >= 0]))
    else:
        _check_request(collection, parameters)
    return collection


def _check_request(collection: Collection, parameters: Mapping[str, Any]) -> None:
    """What can be said to be wrong before any vector is computed."""
    check_share(parameters, collection.card)
    columns_asked_for(collection, parameters)
    size, lists = parameters["gallery_size"], collection.lists
    if size and lists is None:
        raise ValueError(
            f"gallery_size belongs to dataset=run:..., elsewhere the gallery is counted; got {size}; leave it at 0"
        )
    if size and lists is not None and size < lists.n_gallery:
        raise ValueError(
            f"gallery_size={size}, but the lists and judgements name {lists.n_gallery} different items; give the "
            "number of items that the system searches, or 0 when it is not known"
        )


def columns_asked_for(collection: Collection, parameters: Mapping[str, Any]) -> list[str]:
    """The columns of ``slices``; without any the language, where the texts state more than one."""
    known = [*collection.texts.columns, *collection.images.columns]
    for name in parameters["slices"]:
        if name not in known:
            have = ", ".join(dict.fromkeys(known)) or "none; bring some with metadata=FILE"
            raise ValueError(f"slices: there is no column {name!r}; the data have {have}")
    if parameters["slices"]:
        return list(parameters["slices"])
    languages = collection.texts.columns.get("language", ())
    return ["language"] if len(set(map(str, languages))) > 1 else []


def load_encoder(given: Any, collection: Collection, parameters: Mapping[str, Any]) -> Any:
    """The encoder object: as given, or loaded from its source string; None when the data bring their own vectors."""
    if collection.embeddings or collection.lists is not None:
        own = "vectors" if collection.embeddings else "ranked lists"
        if given not in ("", None):
            raise ValueError(
                f"dataset={collection.card.name!r} brings its own {own}, so encoder must stay empty; got {given!r}"
            )
        for name in ("precision", "text_template"):
            if parameters[name] not in ("", "fp32"):
                raise ValueError(
                    f"{name}={parameters[name]!r} has no effect: no encoder runs on ready-made {own}; leave it out"
                )
        return None
    if isinstance(given, str):
        how = {name: parameters[name] for name in ("precision", "text_template")}
        return encoders.load(given or "tiny-clip", **how)
    if parameters["precision"] != "fp32":
        raise ValueError(
            f"precision={parameters['precision']!r} cannot be set for an encoder object, which computes as it likes; "
            "convert the model yourself and leave precision at fp32"
        )
    model = encoders.checked(given)
    return templated(model, parameters["text_template"]) if parameters["text_template"] else model


def prepare(parameters: Mapping[str, Any], encoder: Any = None, *, progress: bool | None = None) -> Prepared:
    """Load, encode and count. ``encoder`` is an object that takes the place of ``parameters["encoder"]``."""
    collection = load_collection(parameters)
    model = load_encoder(parameters["encoder"] if encoder is None else encoder, collection, parameters)
    return vectors_of(collection, model, parameters, progress=progress)


def prepare_bank(prepared: Prepared, parameters: Mapping[str, Any], *, progress: bool | None = None) -> Prepared | None:
    """The split that estimates the repairs, or None for cross-fitting. An image in both splits is refused."""
    if not parameters["repairs"] or parameters["bank"] == "cross-fit":
        return None
    split = parameters["bank"]
    try:
        collection = load_collection(parameters, split=split)
    except ValueError as error:
        raise ValueError(f"bank={split!r}: {error}; or use bank=cross-fit, which needs no second split") from error
    bank = vectors_of(collection, prepared.encoder, parameters, progress=progress)
    shared = set(prepared.image_digests) & set(bank.image_digests)
    if shared:
        raise ValueError(
            f"{len(shared)} images of the bank split {split!r} are also in the scored split (same content), so it has "
            "seen the test. Remove them, or use bank=cross-fit"
        )
    return bank


def vectors_of(
    collection: Collection, model: Any, parameters: Mapping[str, Any], *, progress: bool | None = None
) -> Prepared:
    """Vectors for both sides of a collection; images that cannot be read leave with their captions."""
    prepared = _vectors_of(collection, model, parameters, progress)
    return replace(prepared, content_hash=_content_hash(prepared))


def _vectors_of(collection: Collection, model: Any, parameters: Mapping[str, Any], progress: bool | None) -> Prepared:
    if collection.lists is not None:
        return _listed(collection)
    if model is None:
        return _ready_made(collection, parameters["similarity"])
    how: dict[str, Any] = {
        "batch_size": parameters["batch_size"], "on_bad": parameters["bad_images"],
        "similarity": parameters["similarity"], "progress": progress,
    }  # fmt: skip
    check_kinds(model, collection)
    images = encode(model, collection.images, **how)
    if images.bad:
        collection = replace(take_images(collection, images.kept), bad=collection.bad + images.bad)
    texts = encode(model, collection.texts, **how)
    return _encoded(collection, model, images, texts, parameters["batch_size"])


def check_kinds(model: Any, collection: Collection) -> None:
    """Refuse an encoder that cannot read one of the sides."""
    for side in (collection.images, collection.texts):
        if side.kind not in (known := getattr(model, "kinds", ("image", "text"))):
            raise ValueError(
                f"{model.name} reads {' and '.join(known)} only, but the {side.modality} side of "
                f"{collection.card.name!r} holds {side.kind}s; choose an encoder for both, such as open_clip:ARCH@TAG"
            )


def _encoded(collection: Collection, model: Any, images: Encoded, texts: Encoded, batch_size: int) -> Prepared:
    own = {"name": model.name, "text_template": getattr(model, "text_template", "")}
    about = model.describe() if isinstance(model, encoders.TwoStageEncoder) else own
    return Prepared(
        collection=collection,
        counts=count(collection, images.digests),
        images=images.embeddings,
        texts=texts.embeddings,
        image_digests=images.digests,
        text_digests=texts.digests,
        image_inputs=images.input_digests,
        text_inputs=texts.input_digests,
        encoder=model,
        about={"source": model.name, **about},
        invariance=max(
            (batch_invariance(model, side, batch_size=batch_size) for side in (collection.images, collection.texts)),
            key=lambda probed: probed.max_cosine_error,
        ),
        norms={},
        n_cached=images.n_cached + texts.n_cached,
        n_encoded=images.n_encoded + texts.n_encoded,
        notes=images.warnings + texts.warnings,
    )


def _content_hash(prepared: Prepared) -> str:
    relevance, lists = prepared.collection.relevance, prepared.collection.lists
    return canonical_hash(
        [
            list(zip(prepared.images.ids, prepared.image_digests, strict=True)),
            list(zip(prepared.texts.ids, prepared.text_digests, strict=True)),
            relevance.queries.tolist(), relevance.items.tolist(), relevance.grades.tolist(),
            *([] if lists is None else [lists.depths.tolist(), lists.items.tolist(), lists.scores.tolist()]),
        ]
    )  # fmt: skip


def _listed(collection: Collection) -> Prepared:
    """A system that is known by its answers alone."""
    unknown = ("",)
    return Prepared(
        collection=collection,
        counts=count(collection),
        images=collection.images,
        texts=collection.texts,
        image_digests=unknown * len(collection.images),
        text_digests=unknown * len(collection.texts),
        image_inputs=unknown * len(collection.images),
        text_inputs=unknown * len(collection.texts),
        encoder=None,
        about={"source": "ranked lists only"},
        invariance=None,
        norms={},
        n_cached=0,
        n_encoded=0,
        notes=(),
    )


def _ready_made(collection: Collection, similarity: str) -> Prepared:
    given = [collection.embeddings[side.modality] for side in (collection.images, collection.texts)]
    digests = [[content_digest(row) for row in vectors.vectors] for vectors in given]
    if len(collection.texts.content):
        digests[1] = [content_digest(text) for text in collection.texts.content]
    lengths = {vectors.modality: np.linalg.norm(vectors.vectors.astype(np.float64), axis=1) for vectors in given}
    scaled = [
        replace(vectors, vectors=unit_vectors(vectors.vectors)) if similarity == "cosine" else vectors
        for vectors in given
    ]
    empty: Sequence[str] = ("",)
    return Prepared(
        collection=collection,
        counts=count(collection),
        images=scaled[0],
        texts=scaled[1],
        image_digests=tuple(digests[0]),
        text_digests=tuple(digests[1]),
        image_inputs=tuple(empty) * len(given[0]),
        text_inputs=tuple(empty) * len(given[1]),
        encoder=None,
        about={"source": "ready-made vectors", "dim": given[0].dim},
        invariance=None,
        norms={name: (float(values.min()), float(values.max())) for name, values in lengths.items()},
        n_cached=0,
        n_encoded=0,
        notes=(),
    )
