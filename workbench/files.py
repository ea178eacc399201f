"""Writing files whole or not at all, JSON with one spelling, locked folders, and text without places or names."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import re
import secrets
import socket
import sys
from pathlib import Path
from typing import Any

_PART = r"[^\s/\\'\"<>|:;,()\[\]{}]+"
_PARTS = rf"(?:{_PART}(?: (?!~){_PART}(?=[/\\]))*[/\\]*)*"
_ABSOLUTE = re.compile(rf"(?<![\w./~\\-])(?:~\w*/|/(?![/\s])|[A-Za-z]:[/\\]+|\\\\+(?=\w)){_PARTS}")
_QUOTED = re.compile(r"""(['"])((?:~\w*/|/|[A-Za-z]:[/\\]|\\\\)[^'"\n]*)\1""")
_NOBODY = {"root", "user", "admin", "localhost"}


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


def lock_folder(path: Path) -> int | None:
    """An exclusive lock on an existing folder that dies with its process: a descriptor to be closed with ``os.close``.

    BlockingIOError : another owner is alive, or the folder went away. None : this system cannot lock folders (Windows,
    some network file systems). The lock follows the folder through a rename.
    """
    if sys.platform == "win32":
        return None
    import fcntl

    descriptor = None
    try:
        descriptor = os.open(path, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return descriptor
        problem: OSError = FileNotFoundError()
    except OSError as error:
        problem = error
    if descriptor is not None:
        os.close(descriptor)
    if isinstance(problem, BlockingIOError | FileNotFoundError):
        raise BlockingIOError(f"{path} is in use or gone") from problem
    return None


def scrubbed(text: str) -> str:
    """A message that may leave the machine: of absolute paths the last part, no user name and no host name.

    >>> scrubbed("cannot read '/home/ada/My Photos/cat.png': t2i/hit@1 of C:\\\\Users\\\\ada\\\\x.csv, see https://a.org/b")
    "cannot read '.../cat.png': t2i/hit@1 of .../x.csv, see https://a.org/b"
    """
    text = re.sub(rf"{re.escape(str(Path.home()))}(?!\w)", "~", text.replace("file:///", "/"))
    text = _QUOTED.sub(lambda found: f"{found[1]}{_last_part(found[2])}{found[1]}", text)
    text = _ABSOLUTE.sub(lambda found: _last_part(found[0]), text)
    for name, instead in _names().items():
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", instead, text)
    return text


def _last_part(path: str) -> str:
    if path == "~":
        return "..."
    return ".../" + re.split(r"[/\\]+", path.rstrip("/\\"))[-1].removeprefix("~")


def _names() -> dict[str, str]:
    """What this machine and its user are called, longest first, each with the word that takes its place."""
    found: dict[str, str] = {}
    with contextlib.suppress(Exception):  # an account without a name has none to leak
        found[getpass.getuser()] = "(user)"
    found[Path.home().name] = "(user)"
    host = socket.gethostname()
    found.update({host: "(host)", host.partition(".")[0]: "(host)"})
    return {name: found[name] for name in sorted(found, key=len, reverse=True) if len(name) > 2 and name not in _NOBODY}


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
