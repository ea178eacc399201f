"""A store of embeddings on disk: what was encoded once is not encoded again.

``ROOT/{16 hex of the key}/key.json`` says which encoder, modality and batch shape; beside it lie shards named by the
hash of their own bytes. A shard is written under a temporary name and then renamed, so a killed run leaves whole shards
or none. One run at a time writes into a folder; the lock on its ``.lock`` dies with its process. The store holds no
time and no path.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from workbench.files import cache_folder, canonical_hash, canonical_json, write_atomically

SCHEMA = 1
_SHARDS = "shard-*.safetensors"
_LOCK = ".lock"
_UNFINISHED = (".shard-*.tmp", ".key.json.*.tmp")


def shared_cache() -> Path | None:
    """The folder ``WORKBENCH_SHARED_CACHE`` names, looked at before the own cache and never written; None without."""
    chosen = os.environ.get("WORKBENCH_SHARED_CACHE")
    if not chosen:
        return None
    folder = Path(chosen).expanduser().absolute()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"WORKBENCH_SHARED_CACHE is {chosen!r}, which is no folder that can be read; give the folder that was "
            "WORKBENCH_CACHE when it was filled, or unset it"
        )
    return folder


def key_name(key: Mapping[str, Any]) -> str:
    """The folder name of a key: the first 16 hexadecimal digits of the SHA-256 of its canonical JSON."""
    return canonical_hash(dict(key))[:16]


@dataclass(frozen=True, eq=False)
class Found:
    """What a store knows of the digests it was asked for.

    rows (n_found,) int64: positions in the question, ascending. vectors (n_found, dim) float32 (dim 0 when nothing was
    found). input_digests : n_found hexadecimal strings. warnings : one sentence per damaged shard that was set aside.
    """

    rows: np.ndarray
    vectors: np.ndarray
    input_digests: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoreEntry:
    """One folder of the store: the encoder's name, the modality, distinct items, bytes on disk, and its key name."""

    key: str
    encoder: str
    modality: str
    items: int
    bytes: int


class DamagedShard(ValueError):
    """A shard whose bytes are not those it was written with."""


class Store:
    """Embeddings keyed by what made them and by the digest of the item.

    root : folder, by default ``cache_folder() / "embeddings"``; it is created by the first :meth:`append`.
    shared : the root of another store that is looked at first and never written, by default with the default ``root``
    that of :func:`shared_cache`.

    >>> import tempfile
    >>> store = Store(Path(tempfile.mkdtemp()))
    >>> key, digest = {"encoder": "toy", "modality": "text"}, "ab" * 32
    >>> store.append(key, [digest], [digest], np.array([[3.0, 4.0]]))
    >>> store.lookup(key, ["cd" * 32, digest]).rows
    array([1])
    """

    def __init__(self, root: Path | str | None = None, *, shared: Path | str | None = None) -> None:
        if root is None and shared is None and (given := shared_cache()):
            shared = given / "embeddings"
        self.root = cache_folder() / "embeddings" if root is None else Path(root).expanduser().absolute()
        self.shared = None if shared is None else Path(shared).expanduser().absolute()
        self._locks: dict[str, Any] = {}

    def folder(self, key: Mapping[str, Any]) -> Path:
        return self.root / key_name(key)

    @contextlib.contextmanager
    def locked(self, key: Mapping[str, Any], waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Keep other writers out of the folder of a key; ``waiting`` is called once if another one is at work.

        What killed writers left unfinished is removed. An OSError means that the folder cannot be written.
        """
        from filelock import FileLock, Timeout

        folder = self.folder(key)
        folder.mkdir(parents=True, exist_ok=True)
        lock = self._locks.setdefault(folder.name, FileLock(folder / _LOCK))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            waiting()
            lock.acquire(poll_interval=0.1)
        try:
            _remove_unfinished(folder)
            yield
        finally:
            lock.release()

    def append(
        self, key: Mapping[str, Any], digests: Sequence[str], input_digests: Sequence[str], vectors: np.ndarray
    ) -> None:
        """Add vectors (n, dim) for n item digests (64 hexadecimal digits each) as one shard."""
        if not len(digests) == len(input_digests) == len(vectors):
            raise ValueError(
                f"{len(digests)} digests, {len(input_digests)} input digests, {len(vectors)} vectors; "
                "lengths must agree"
            )
        if not len(digests):
            return
        folder, data = self.folder(key), _pack(digests, input_digests, vectors)
        try:
            with self.locked(key):
                _write_key(folder, key)
                path = folder / _shard_name(data)
                if not path.exists() or path.read_bytes() != data:
                    write_atomically(path, data)
        except OSError as error:
            raise OSError(
                f"the embedding store {self.root} cannot be written ({error}); set WORKBENCH_CACHE to a folder with "
                'space, or pass store="off"'
            ) from error

    def lookup(self, key: Mapping[str, Any], digests: Sequence[str]) -> Found:
        """The stored vectors of the digests, in the order asked. A damaged shard is set aside and reported."""
        wanted: dict[bytes, list[int]] = {}
        for row, digest in enumerate(digests):
            wanted.setdefault(bytes.fromhex(digest), []).append(row)
        parts: list[Part] = []
        warnings: list[str] = []
        own = self.folder(key)
        for folder in [own] if self.shared is None else [self.shared / own.name, own]:
            for path in _shards(folder):
                if not wanted:
                    break
                try:
                    part = _taken(_unpack(path, wanted.keys()), wanted)
                    parts += [part] if part[0] else []
                except FileNotFoundError:  # another run set it aside, or cleaned the store, since the folder was listed
                    continue
                except (DamagedShard, OSError) as error:
                    warnings.append(_reported(path, error, own=folder == own))
        return _as_found(parts, tuple(warnings))

    def list_entries(self) -> tuple[StoreEntry, ...]:
        """Every folder of the store, ordered by encoder, modality and key; damaged shards count no items."""
        entries = [_entry(folder) for folder in self._folders()]
        return tuple(sorted(entries, key=lambda entry: (entry.encoder, entry.modality, entry.key)))

    def clean(self) -> int:
        """Remove the store's own files and its empty folders; returns the bytes freed.

        Other files are left alone, and so is a folder that another run is writing into at this moment.
        """
        from filelock import FileLock, Timeout

        freed = 0
        for folder in self._folders():
            try:
                with FileLock(folder / _LOCK, blocking=False):
                    freed += _emptied(folder)
            except Timeout:
                continue
            with contextlib.suppress(OSError):  # a file that is not ours keeps its folder
                folder.rmdir()
        return freed

    def _folders(self) -> list[Path]:
        """Folders named like a key; anything else under the root is not the store's."""
        if not self.root.is_dir():
            return []
        named = (path for path in self.root.iterdir() if path.is_dir() and len(path.name) == 16)
        return sorted(path for path in named if set(path.name) <= set("0123456789abcdef"))


Part = tuple[list[int], list[str], np.ndarray]  # rows of the question, input digests, vectors


def _as_found(parts: Sequence[Part], warnings: tuple[str, ...]) -> Found:
    """The parts in the order of the question."""
    rows = np.array([row for part in parts for row in part[0]], np.int64)
    inputs = [digest for part in parts for digest in part[1]]
    order = np.argsort(rows)
    place, start = np.argsort(order), 0
    vectors = np.empty((len(rows), parts[0][2].shape[1] if parts else 0), np.float32)
    for found, _, block in parts:
        vectors[place[start : start + len(found)]] = block
        start += len(found)
    return Found(rows[order], vectors, tuple(inputs[position] for position in order.tolist()), warnings)


def _taken(shard: tuple[np.ndarray, np.ndarray, np.ndarray], wanted: dict[bytes, list[int]]) -> Part:
    """What the shard knows of ``wanted``, which loses it."""
    names, inputs = shard[0].tobytes(), shard[1].tobytes().hex()
    found = [
        (row, position)
        for position in range(len(shard[0]))
        for row in wanted.pop(names[32 * position : 32 * position + 32], ())
    ]
    rows, positions = [row for row, _ in found], [position for _, position in found]
    return rows, [inputs[64 * position : 64 * position + 64] for position in positions], shard[2][positions]


def _digest_rows(digests: Iterable[str]) -> np.ndarray:
    return np.array([np.frombuffer(bytes.fromhex(digest), np.uint8) for digest in digests], np.uint8).reshape(-1, 32)


def _pack(digests: Sequence[str], input_digests: Sequence[str], vectors: np.ndarray) -> bytes:
    from safetensors.numpy import save

    tensors = {
        "item_digest": _digest_rows(digests),
        "input_digest": _digest_rows(input_digests),
        "vectors": np.ascontiguousarray(vectors, np.float32),
    }
    return bytes(save(tensors))


def _shard_name(data: bytes) -> str:
    return f"shard-{hashlib.sha256(data).hexdigest()[:16]}.safetensors"


def _unpack(path: Path, wanted: Set[bytes] | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(item digests, input digests, vectors), after checking that the bytes have the hash in the name.

    A shard that holds none of the wanted digests is not read beyond its list of digests, and comes back empty.
    """
    from safetensors.numpy import load

    with path.open("rb") as file:
        if wanted is not None and wanted.isdisjoint(_index(file)):
            return np.empty((0, 32), np.uint8), np.empty((0, 32), np.uint8), np.empty((0, 0), np.float32)
        file.seek(0)
        data = file.read()
    if _shard_name(data) != path.name:
        raise DamagedShard(f"{len(data)} bytes do not have the hash in the name")
    tensors = load(data)
    return tensors["item_digest"], tensors["input_digest"], tensors["vectors"]


def _index(file: BinaryIO) -> set[bytes]:
    """The item digests of a shard, from its header and the bytes that the header points at."""
    try:
        size = int.from_bytes(file.read(8), "little")
        start, end = json.loads(file.read(min(size, 1 << 20)))["item_digest"]["data_offsets"]
        file.seek(8 + size + start)
        data = file.read(end - start)
        if len(data) != end - start:
            raise ValueError(f"{len(data)} bytes of {end - start}")
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise DamagedShard("its header cannot be read") from error
    return {data[place : place + 32] for place in range(0, len(data), 32)}


def _reported(path: Path, error: Exception, *, own: bool) -> str:
    """One sentence on a shard that cannot be used; a damaged one of the own store is set aside."""
    which = f"stored shard {path.name} in {path.parent.name}"
    if isinstance(error, OSError):
        return f"{which} cannot be read ({error.strerror}); its items are encoded again"
    if not own:
        return f"{which} of the shared cache is damaged ({error}); its items are encoded again"
    with contextlib.suppress(OSError):  # a read-only store is still readable
        os.replace(path, path.with_suffix(".damaged"))
    return f"{which} is damaged ({error}); it was set aside and its items are encoded again"


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob(_SHARDS))


def _write_key(folder: Path, key: Mapping[str, Any]) -> None:
    """Write key.json unless it is there and whole."""
    path, data = folder / "key.json", canonical_json(dict(key))
    if not path.exists() or path.read_bytes() != data:
        write_atomically(path, data)


def _own_files(folder: Path) -> Iterator[Path]:
    for pattern in ("key.json", _SHARDS, "shard-*.damaged", *_UNFINISHED):
        yield from sorted(folder.glob(pattern))


def _remove_unfinished(folder: Path) -> None:
    for pattern in _UNFINISHED:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def _emptied(folder: Path) -> int:
    """Remove the store's files, the lock last; returns their bytes."""
    freed = 0
    for path in _own_files(folder):
        freed += path.stat().st_size
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # where open files cannot be removed, the empty lock stays
        (folder / _LOCK).unlink()
    return freed


def _entry(folder: Path) -> StoreEntry:
    items: set[bytes] = set()
    for path in _shards(folder):
        with contextlib.suppress(DamagedShard):
            items.update(digest.tobytes() for digest in _unpack(path)[0])
    encoder, modality = _named(folder)
    return StoreEntry(folder.name, encoder, modality, len(items), sum(p.stat().st_size for p in _own_files(folder)))


def _named(folder: Path) -> tuple[str, str]:
    """Encoder name and modality of a folder; "unknown" when key.json is missing or damaged."""
    try:
        key = json.loads((folder / "key.json").read_bytes())
    except (OSError, ValueError):
        return "unknown", "unknown"
    encoder = key.get("encoder", "unknown")
    name = encoder.get("name", "unknown") if isinstance(encoder, dict) else str(encoder)
    return str(name), str(key.get("modality", "unknown"))
