"""Encode one side of a collection through the store, and check that an encoder is what it claims to be.

Every batch has the same shape: the last one is padded with copies of its last item, whose vectors are thrown away. So
a vector does not depend on how many items there are, nor on which were already stored.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from workbench.datasets.collection import BadItem, Member, Side, content_digest
from workbench.datasets.pictures import open_picture
from workbench.encoders import Encoder, EncoderError, TwoStageEncoder
from workbench.encoders.store import SCHEMA, Store
from workbench.types import Embeddings, unit_vectors

SHARD_ITEMS = 512
Batch = tuple[list[int], list[str], np.ndarray]  # rows of the side, input digests, vectors (n, dim)


@dataclass(frozen=True, eq=False)
class Encoded:
    """The vectors of one side and how they came about.

    embeddings : of the kept items, in the order of the side. kept (n_kept,) int64: their positions in the side.
    digests, input_digests : per kept item, SHA-256 of the content and of what entered the model (pixels after
        preprocessing, token ids; for an encoder without ``prepare`` the RGB pixels or the text).
    n_cached, n_encoded : distinct contents read from the store and encoded now; equal contents are encoded once.
    bad : items that could not be read, only with ``on_bad="record"``. warnings : one sentence each, from the store.
    """

    embeddings: Embeddings
    kept: np.ndarray
    digests: tuple[str, ...]
    input_digests: tuple[str, ...]
    n_cached: int
    n_encoded: int
    bad: tuple[BadItem, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class BatchInvariance:
    """How far the vectors of the same items lie apart when their place in a batch changes.

    max_abs_difference : largest difference of one coordinate of the unit vectors. max_cosine_error : largest
    1 - cosine, and max_angle the same in degrees. by_variant : the largest cosine error of each way of batching.
    """

    n_items: int
    max_abs_difference: float
    max_cosine_error: float
    max_angle: float
    by_variant: Mapping[str, float] = field(default_factory=dict)


def encode(
    encoder: Encoder,
    side: Side,
    *,
    batch_size: int = 64,
    on_bad: Literal["fail", "record"] = "fail",
    similarity: Literal["cosine", "dot"] = "cosine",
    store: Store | Literal["default", "off"] = "default",
    progress: bool | None = None,
) -> Encoded:
    """The embeddings of a side: from the store where it knows them, from the encoder otherwise.

    batch_size : items per batch; it is part of the cache key, because it is part of what fixes the last bits.
    on_bad : an unreadable item is an error ("fail") or is left out and listed ("record").
    similarity : "cosine" scales the vectors to length one, "dot" leaves them as the encoder gave them.
    store : an encoder that cannot :meth:`describe` itself is never stored, since its weights have no name.
    progress : a bar on stderr; by default only when stderr is a terminal.
    Images are opened one batch at a time, turned upright by their EXIF orientation and converted to RGB. A shard is
    stored after every 512 items, so a killed run continues where it stopped, with the same shards as if nothing had
    happened. Another run that encodes with the same key is waited for. A store that cannot be written (read-only,
    full) costs a warning, never the vectors.
    """
    _check_choice("on_bad", on_bad, ("fail", "record"))
    _check_choice("similarity", similarity, ("cosine", "dot"))
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; got {batch_size}")
    if not len(side.content):
        raise ValueError(f"the {side.modality} side has no content to encode; is it a collection of embeddings?")
    bad: dict[int, str] = {}
    digests = _digests(side, bad, on_bad)
    first = {digest: row for row, digest in reversed(list(enumerate(digests))) if digest}
    unique = sorted(first, key=first.__getitem__)
    shelf = _Shelf(encoder, side.kind, batch_size, store, shown=_is_shown(progress))
    known = shelf.read(unique)
    n_cached = len(known)
    if n_cached < len(unique):
        with shelf.locked():
            known |= shelf.read([digest for digest in unique if digest not in known])
            n_cached = len(known)
            chunks = [
                [row for row in chunk if digests[row] not in known]
                for chunk in _chunks([first[digest] for digest in unique], batch_size)
            ]
            record = _recorder(side, bad, on_bad)
            with _bar(sum(map(len, chunks)), side.modality, shelf.shown) as bar:
                for chunk in chunks:
                    rows, inputs, vectors = _joined(bar(_encode_rows(encoder, side, chunk, batch_size, record)))
                    names = [digests[row] for row in rows]
                    shelf.write(names, inputs, vectors)
                    known.update(zip(names, zip(vectors, inputs, strict=True), strict=True))
    return _assemble(encoder, side, digests, known, bad, similarity, n_cached, shelf.notes())


def batch_invariance(
    encoder: Encoder, side: Side, *, n: int = 16, n_alone: int = 4, batch_size: int = 64
) -> BatchInvariance:
    """Encode the first n items together, in reversed order, at other places of the batch, and a few alone.

    The cosine error of two unit vectors is ``1 - a . b = |a - b|^2 / 2``, computed in float64 from the difference, so
    that equal vectors give exactly 0. n_alone items are encoded as the only one of a padded batch.
    """
    rows = list(range(min(n, len(side), batch_size)))
    if not rows:
        raise ValueError(f"batch_invariance needs at least one item and n >= 1; got {len(side)} items and n = {n}")
    items = [_prepare(encoder, side.kind, _opened(side.content[row])) for row in rows]
    shift = batch_size - len(items)

    def run(order: Sequence[int], padding_first: bool = False) -> np.ndarray:
        batch = [items[row] for row in order]
        batch = [batch[0]] * shift + batch if padding_first else batch
        return _forward(encoder, side.kind, batch, batch_size)[-len(order) :].astype(np.float64)

    base = run(rows)
    tried = {"reversed": run(rows[::-1])[::-1], "at the end of the batch": run(rows, padding_first=True)}
    tried["alone"] = np.concatenate([run([row]) for row in rows[:n_alone]])
    return _compared(base, tried)


class _Shelf:
    """The part of a store that belongs to one encoder, modality and batch size, or nothing at all."""

    def __init__(self, encoder: Encoder, modality: str, batch_size: int, store: Store | str, *, shown: bool) -> None:
        self.store, self.shown = None, shown
        self.warnings: list[str] = []
        self.lost: dict[str, int] = {}
        if isinstance(store, str):
            _check_choice("store", store, ("default", "off"))
        if store == "off" or not isinstance(encoder, TwoStageEncoder):
            return
        self.store = store if isinstance(store, Store) else Store()
        self.key = {
            "schema": SCHEMA, "encoder": encoder.describe(), "modality": modality, "batch_size": batch_size,
            "torch": _torch_version(),
        }  # fmt: skip

    def read(self, digests: Sequence[str]) -> dict[str, tuple[np.ndarray, str]]:
        if self.store is None:
            return {}
        found = self.store.lookup(self.key, digests)
        self.warnings += found.warnings
        pairs = zip(found.vectors, found.input_digests, strict=True)
        return dict(zip([digests[row] for row in found.rows], pairs, strict=True))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One writer at a time; where nothing can be locked, nothing can be written either, and the work goes on."""
        with contextlib.ExitStack() as stack:
            if self.store is not None:
                with contextlib.suppress(OSError):
                    stack.enter_context(self.store.locked(self.key, self._waiting))
            yield

    def _waiting(self) -> None:
        from tqdm import tqdm

        self.warnings.append("another run was encoding these items; this one waited for it")
        if self.shown:
            tqdm.write("another run is encoding these items; waiting", file=sys.stderr)

    def write(self, digests: Sequence[str], inputs: Sequence[str], vectors: np.ndarray) -> None:
        if self.store is None:
            return
        try:
            self.store.append(self.key, digests, inputs, vectors)
        except OSError as error:
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
            why = (cause.strerror or type(cause).__name__).lower()
            self.lost[why] = self.lost.get(why, 0) + len(digests)

    def notes(self) -> tuple[str, ...]:
        """What happened to the store, without its place."""
        kept = (
            f"the cache cannot be written ({why}): {lost:,} vectors were not kept and will be encoded again next time; "
            "make space or set WORKBENCH_CACHE to a folder that can be written"
            for why, lost in self.lost.items()
        )
        return (*self.warnings, *kept)


def _torch_version() -> str:
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _check_choice(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}; got {value!r}")


def _recorder(side: Side, bad: dict[int, str], on_bad: str) -> Callable[[int, Exception], None]:
    """What to do with the item in a row that cannot be read."""

    def record(row: int, error: Exception) -> None:
        reason = _reason(side.content[row], error)
        if on_bad == "fail":
            raise ValueError(
                f"{side.modality} {side.ids[row]!r} cannot be read: {reason}; repair or remove it, or pass "
                "bad_images=record to leave such items out and list them"
            ) from error
        bad[row] = reason

    return record


def _reason(content: Any, error: Exception) -> str:
    """The file's name (never its folder) and why it cannot be read."""
    text = " ".join((error.strerror or str(error) if isinstance(error, OSError) else str(error)).split())
    if isinstance(content, Path):
        return f"{content.name}: {text.replace(str(content), content.name)}"
    return text


def _digests(side: Side, bad: dict[int, str], on_bad: str) -> list[str]:
    """One content digest per item, "" for an item that cannot even be read as bytes."""
    record, digests = _recorder(side, bad, on_bad), []
    for row, content in enumerate(side.content):
        digest = ""
        try:
            _check_content(content, side.kind)
            digest = content_digest(content)
        except (OSError, TypeError) as error:
            record(row, error)
        digests.append(digest)
    return digests


def _check_content(content: Any, modality: str) -> None:
    if modality == "text":
        fits = isinstance(content, str)
    else:
        fits = isinstance(content, Path | Member) or (
            isinstance(content, np.ndarray)
            and content.dtype == np.uint8
            and content.ndim == 3
            and content.shape[2] == 3
        )
    if not fits:
        shape = f" of {content.dtype} {content.shape}" if isinstance(content, np.ndarray) else ""
        expected = "a string" if modality == "text" else "a Path or a uint8 array (height, width, 3)"
        raise TypeError(f"expected {expected}; got {type(content).__name__}{shape}")


def _opened(content: Any) -> Any:
    """A text as it is; a picture upright, in RGB, fully decoded."""
    return content if isinstance(content, str) else open_picture(content)


def _encode_rows(
    encoder: Encoder, side: Side, rows: Sequence[int], batch_size: int, record: Callable[[int, Exception], None]
) -> Iterator[Batch]:
    """(rows, input digests, vectors) batch by batch; items that cannot be opened are recorded and skipped."""
    for start in range(0, len(rows), batch_size):
        good, inputs = [], []
        for row in rows[start : start + batch_size]:
            try:
                item = _opened(side.content[row])
            except Exception as error:  # Pillow's decoders raise many kinds; each means one unreadable file
                record(row, error)
                continue
            good.append(row)
            inputs.append(_prepare(encoder, side.kind, item))
        if good:
            vectors = _forward(encoder, side.kind, inputs, batch_size)
            _check_finite(vectors, [side.ids[row] for row in good], encoder.name)
            yield good, [_input_digest(item) for item in inputs], vectors


def _prepare(encoder: Encoder, modality: str, item: Any) -> Any:
    """One item as the model takes it, so that the full-size image can be forgotten; unchanged without a first stage."""
    return encoder.prepare(modality, [item])[0] if isinstance(encoder, TwoStageEncoder) else item


def _forward(encoder: Encoder, modality: str, inputs: list[Any], batch_size: int) -> np.ndarray:
    """Vectors (n, dim) float32 of at most ``batch_size`` prepared items, padded to exactly that many."""
    padded = inputs + inputs[-1:] * (batch_size - len(inputs))
    if isinstance(encoder, TwoStageEncoder):
        vectors = np.asarray(encoder.forward(modality, np.stack(padded)))
    else:
        vectors = np.asarray(encoder.encode_text(padded) if modality == "text" else encoder.encode_image(padded))
    if vectors.ndim != 2 or len(vectors) != batch_size:
        expected = f"({batch_size}, dim) for {batch_size} items"
        raise EncoderError(f"{encoder.name} must return {expected}; got shape {vectors.shape}")
    return vectors[: len(inputs)].astype(np.float32)


def _input_digest(prepared: Any) -> str:
    if isinstance(prepared, str | np.ndarray):
        return content_digest(prepared)
    return hashlib.sha256(f"{prepared.mode}{prepared.size}".encode() + prepared.tobytes()).hexdigest()


def _check_finite(vectors: np.ndarray, ids: Sequence[str], name: str) -> None:
    wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(wrong):
        raise EncoderError(
            f"{name} gave NaN or infinity for {len(wrong)} of {len(ids)} items, the first is {ids[wrong[0]]!r}; "
            "nothing of this batch was stored"
        )


def _chunks(rows: Sequence[int], batch_size: int) -> list[Sequence[int]]:
    """Whole batches, at least ``SHARD_ITEMS`` items. They do not depend on what is stored, so a continued run writes
    the shards of an uninterrupted one."""
    size = -(-SHARD_ITEMS // batch_size) * batch_size
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _joined(batches: Iterable[Batch]) -> Batch:
    """The batches as one; nothing at all gives no rows."""
    parts = list(batches)
    rows, inputs = [row for part in parts for row in part[0]], [digest for part in parts for digest in part[1]]
    return rows, inputs, np.concatenate([part[2] for part in parts]) if parts else np.empty((0, 0), np.float32)


def _is_shown(progress: bool | None) -> bool:
    return sys.stderr.isatty() if progress is None else progress


@contextlib.contextmanager
def _bar(total: int, modality: str, shown: bool) -> Iterator[Callable[[Iterable[Batch]], Iterator[Batch]]]:
    """Lets batches through and counts them on a progress bar on stderr."""
    from tqdm import tqdm

    with tqdm(total=total, desc=f"encode {modality}", unit="item", disable=not shown, file=sys.stderr) as bar:

        def counted(batches: Iterable[Batch]) -> Iterator[Batch]:
            for batch in batches:
                bar.update(len(batch[0]))
                yield batch

        yield counted


def _assemble(
    encoder: Encoder, side: Side, digests: Sequence[str], known: Mapping[str, tuple[np.ndarray, str]],
    bad: dict[int, str], similarity: str, n_cached: int, notes: tuple[str, ...],
) -> Encoded:  # fmt: skip
    """Put the vectors in the side's order; a copy of an unreadable item is unreadable too."""
    reasons = {digests[row]: reason for row, reason in bad.items() if digests[row]}
    lost = {row: bad.get(row) or reasons[digest] for row, digest in enumerate(digests) if digest not in known}
    kept = [row for row in range(len(side)) if row not in lost]
    if not kept:
        raise ValueError(f"none of the {len(side)} {side.modality} items could be read; the first: {lost[0]}")
    vectors = np.stack([known[digests[row]][0] for row in kept])
    if similarity == "cosine":
        vectors = unit_vectors(vectors)
    about = encoder.describe() if isinstance(encoder, TwoStageEncoder) else {"name": encoder.name}
    ids = tuple(side.ids[row] for row in kept)
    return Encoded(
        embeddings=Embeddings(vectors, ids, side.modality, {**about, "similarity": similarity}),
        kept=np.array(kept, np.int64),
        digests=tuple(digests[row] for row in kept),
        input_digests=tuple(known[digests[row]][1] for row in kept),
        n_cached=n_cached,
        n_encoded=len(known) - n_cached,
        bad=tuple(BadItem(side.ids[row], lost[row]) for row in sorted(lost)),
        warnings=notes,
    )


def _compared(base: np.ndarray, tried: Mapping[str, np.ndarray]) -> BatchInvariance:
    """Largest differences between unit vectors of ``base`` and of each variant's leading rows."""
    reference = base / np.linalg.norm(base, axis=1, keepdims=True)
    largest, errors = 0.0, {}
    for name, vectors in tried.items():
        difference = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) - reference[: len(vectors)]
        largest = max(largest, float(np.abs(difference).max()))
        errors[name] = float((difference**2).sum(axis=1).max() / 2)
    worst = max(errors.values())
    angle = float(np.degrees(2 * np.arcsin(min(1.0, np.sqrt(worst / 2)))))
    return BatchInvariance(len(base), largest, worst, angle, errors)
