"""Writing files whole or not at all, and JSON with one spelling."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any


def write_atomically(path: Path, data: bytes) -> None:
    """Write a temporary file in the same folder, flush it to the disk, and rename it over ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """JSON for people: two blanks of indent, UTF-8 kept readable, NaN refused, a newline at the end."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, (text + "\n").encode("utf-8", "backslashreplace"))


def canonical_json(value: Any) -> bytes:
    """One byte string per JSON value: sorted keys, no spaces, NaN refused.

    >>> canonical_json({"b": 1, "a": [0.5]})
    b'{"a":[0.5],"b":1}'
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace")


def canonical_hash(value: Any) -> str:
    """SHA-256 of the canonical JSON, hexadecimal.

    >>> canonical_hash({"b": 1, "a": 2}) == canonical_hash({"a": 2, "b": 1})
    True
    """
    return hashlib.sha256(canonical_json(value)).hexdigest()
