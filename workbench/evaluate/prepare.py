"""From a source string to two sets of vectors with the truth between them: everything before the first score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workbench import datasets, encoders
from workbench.datasets import Collection, Counts, content_digest, count, take_images
from workbench.encoders.encode import BatchInvariance, Encoded, batch_invariance, encode
from workbench.types import Embeddings, Relevance, unit_vectors


@dataclass(frozen=True, eq=False)
class Direction:
    """One way of asking: which side are the queries, which the gallery, what is right, what belongs together.

    clusters, gallery_clusters : the image that each query and each item belongs to, in one numbering.
    """

    name: str
    queries: Embeddings
    gallery: Embeddings
    relevance: Relevance
    clusters: np.ndarray
    gallery_clusters: np.ndarray


@dataclass(frozen=True, eq=False)
class Prepared:
    """A collection with vectors for every item that is left, and what was learned on the way.

    image_digests, text_digests : per item, of the content, or of the vector where only vectors are known.
    image_inputs, text_inputs : per item, of what entered the model; empty strings where only vectors are known.
    encoder : the encoder object, None for ready-made vectors. about : its description, plain JSON.
    invariance : the batch probe of the worse of the two sides, None for ready-made vectors.
    norms : (shortest, longest) vector before scaling, per modality, for ready-made vectors.
    """

    collection: Collection
    counts: Counts
    images: Embeddings
    texts: Embeddings
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

    def directions(self) -> tuple[Direction, Direction]:
        """Text to image first. Captions of one image are one cluster; a text without an image is its own."""
        own = self.collection.text_image
        images = np.arange(len(self.images))
        texts = np.where(own >= 0, own, len(images) + np.arange(len(own)))
        first, second = self.texts.modality[0], self.images.modality[0]
        relevance = self.collection.relevance
        return (
            Direction(f"{first}2{second}", self.texts, self.images, relevance, texts, images),
            Direction(f"{second}2{first}", self.images, self.texts, relevance.T, images, texts),
        )


def load_collection(parameters: Mapping[str, Any], *, split: str | None = None) -> Collection:
    """The collection that the parameters name; ``split`` overrides theirs (for the bank of a repair)."""
    options: dict[str, Any] = {}
    if parameters["dataset"] == "scenes":
        options = {"seed": parameters["seed"], "languages": tuple(parameters["scenes_languages"])}
    return datasets.load(
        parameters["dataset"],
        split=parameters["split"] if split is None else split,
        n_images=parameters["n_images"],
        on_bad=parameters["bad_images"],
        options=options,
    )


def load_encoder(given: Any, collection: Collection) -> Any:
    """The encoder object: as given, or loaded from its source string; None when the data bring their own vectors."""
    if collection.embeddings:
        if given not in ("", None):
            raise ValueError(
                f"dataset={collection.card.name!r} brings its own vectors, so encoder must stay empty; got {given!r}"
            )
        return None
    if isinstance(given, str):
        return encoders.load(given or "tiny-clip")
    if not isinstance(given, encoders.Encoder):
        has = [name for name in ("name", "encode_image", "encode_text") if hasattr(given, name)]
        raise TypeError(
            f"an encoder needs name, encode_image(images) and encode_text(texts); got {type(given).__name__} "
            f"with {', '.join(has) or 'none of them'}"
        )
    return given


def prepare(parameters: Mapping[str, Any], encoder: Any = None, *, progress: bool | None = None) -> Prepared:
    """Load, encode and count. ``encoder`` is an object that takes the place of ``parameters["encoder"]``."""
    collection = load_collection(parameters)
    model = load_encoder(parameters["encoder"] if encoder is None else encoder, collection)
    return vectors_of(collection, model, parameters, progress=progress)


def prepare_bank(prepared: Prepared, parameters: Mapping[str, Any], *, progress: bool | None = None) -> Prepared | None:
    """The split that estimates the repairs, or None for cross-fitting. An image in both splits is refused."""
    if not parameters["repairs"] or parameters["bank"] == "cross-fit":
        return None
    split = parameters["bank"]
    bank = vectors_of(load_collection(parameters, split=split), prepared.encoder, parameters, progress=progress)
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
    if model is None:
        return _ready_made(collection, parameters["similarity"])
    how: dict[str, Any] = {
        "batch_size": parameters["batch_size"], "on_bad": parameters["bad_images"],
        "similarity": parameters["similarity"], "progress": progress,
    }  # fmt: skip
    images = encode(model, collection.images, **how)
    if images.bad:
        collection = replace(take_images(collection, images.kept), bad=collection.bad + images.bad)
    texts = encode(model, collection.texts, **how)
    return _encoded(collection, model, images, texts, parameters["batch_size"])


def _encoded(collection: Collection, model: Any, images: Encoded, texts: Encoded, batch_size: int) -> Prepared:
    about = model.describe() if isinstance(model, encoders.TwoStageEncoder) else {"name": model.name}
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


def _ready_made(collection: Collection, similarity: str) -> Prepared:
    given = [collection.embeddings[side.modality] for side in (collection.images, collection.texts)]
    digests = [[content_digest(row) for row in vectors.vectors] for vectors in given]
    if len(collection.texts.content):
        digests[1] = [content_digest(text) for text in collection.texts.content]
    lengths = {vectors.modality: np.linalg.norm(vectors.vectors, axis=1, keepdims=False) for vectors in given}
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
