"""A store of embeddings on disk: what was encoded once is not encoded again.

``ROOT/{16 hex of the key}/key.json`` says which encoder, modality and batch shape; beside it lie shards named by the
hash of their own bytes. A shard is written under a temporary name and then renamed, so a killed run leaves whole shards
or none; two runs may write at once, because equal names mean equal bytes. The store holds no time and no path.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workbench.files import canonical_hash, canonical_json, write_atomically

SCHEMA = 1
_SHARDS = "shard-*.safetensors"


def cache_folder() -> Path:
    """Where the workbench may keep what it can make again: ``WORKBENCH_CACHE``, else the platform's cache folder."""
    chosen = os.environ.get("WORKBENCH_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "workbench"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "workbench"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "workbench"


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

    >>> import tempfile
    >>> store = Store(Path(tempfile.mkdtemp()))
    >>> key, digest = {"encoder": "toy", "modality": "text"}, "ab" * 32
    >>> store.append(key, [digest], [digest], np.array([[3.0, 4.0]]))
    >>> store.lookup(key, ["cd" * 32, digest]).rows
    array([1])
    """

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = cache_folder() / "embeddings" if root is None else Path(root).expanduser().absolute()

    def folder(self, key: Mapping[str, Any]) -> Path:
        return self.root / key_name(key)

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
        found: dict[int, tuple[np.ndarray, str]] = {}
        warnings: list[str] = []
        for path in _shards(self.folder(key)):
            if not wanted:
                break
            try:
                _take(_unpack(path), wanted, found)
            except FileNotFoundError:  # another run set it aside, or cleaned the store, since the folder was listed
                continue
            except DamagedShard as error:
                warnings.append(_set_aside(path, error))
        return _as_found(found, tuple(warnings))

    def list_entries(self) -> tuple[StoreEntry, ...]:
        """Every folder of the store, ordered by encoder, modality and key; damaged shards count no items."""
        entries = [_entry(folder) for folder in self._folders()]
        return tuple(sorted(entries, key=lambda entry: (entry.encoder, entry.modality, entry.key)))

    def clean(self) -> int:
        """Remove the store's own files and its empty folders; returns the bytes freed. Other files are left alone."""
        freed = 0
        for folder in self._folders():
            for path in _own_files(folder):
                freed += path.stat().st_size
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # a file that is not ours keeps its folder
                folder.rmdir()
        return freed

    def _folders(self) -> list[Path]:
        """Folders named like a key; anything else under the root is not the store's."""
        if not self.root.is_dir():
            return []
        named = (path for path in self.root.iterdir() if path.is_dir() and len(path.name) == 16)
        return sorted(path for path in named if set(path.name) <= set("0123456789abcdef"))


def _as_found(found: Mapping[int, tuple[np.ndarray, str]], warnings: tuple[str, ...]) -> Found:
    rows = sorted(found)
    vectors = np.stack([found[row][0] for row in rows]) if rows else np.empty((0, 0), np.float32)
    return Found(np.array(rows, np.int64), vectors, tuple(found[row][1] for row in rows), warnings)


def _take(
    shard: tuple[np.ndarray, np.ndarray, np.ndarray],
    wanted: dict[bytes, list[int]],
    found: dict[int, tuple[np.ndarray, str]],
) -> None:
    """Move what the shard knows from ``wanted`` to ``found``."""
    items, inputs, vectors = shard
    for position, digest in enumerate(items):
        for row in wanted.pop(digest.tobytes(), ()):
            found[row] = (vectors[position].copy(), inputs[position].tobytes().hex())


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


def _unpack(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(item digests, input digests, vectors), after checking that the bytes have the hash in the name."""
    from safetensors.numpy import load

    data = path.read_bytes()
    if _shard_name(data) != path.name:
        raise DamagedShard(f"{len(data)} bytes do not have the hash in the name")
    tensors = load(data)
    return tensors["item_digest"], tensors["input_digest"], tensors["vectors"]


def _set_aside(path: Path, error: Exception) -> str:
    with contextlib.suppress(OSError):  # a read-only store is still readable
        os.replace(path, path.with_suffix(".damaged"))
    return (
        f"stored shard {path.name} in {path.parent.name} is damaged ({error}); it was set aside and its items are "
        "encoded again"
    )


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob(_SHARDS))


def _write_key(folder: Path, key: Mapping[str, Any]) -> None:
    """Write key.json unless it is there and whole."""
    path, data = folder / "key.json", canonical_json(dict(key))
    if not path.exists() or path.read_bytes() != data:
        write_atomically(path, data)


def _own_files(folder: Path) -> Iterator[Path]:
    for pattern in ("key.json", _SHARDS, "shard-*.damaged", ".shard-*.tmp", ".key.json.*.tmp"):
        yield from sorted(folder.glob(pattern))


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
