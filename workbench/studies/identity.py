"""The code a study's numbers follow from, as one digest: its own module and all of the package that it uses."""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path


def code_digest(module: str) -> str:
    """SHA-256 over the sources of a module and of every ``workbench`` module it imports, at any depth, anywhere.

    Comments and layout count; packages other than this one do not (the manifest of a run has their versions).
    """
    seen = {module}
    waiting = [module]
    while waiting:
        new = set(_imported(waiting.pop())) - seen
        seen |= new
        waiting += sorted(new)
    whole = hashlib.sha256()
    for name in sorted(seen):
        whole.update(f"{name}\0{_source(name)}\0".encode())
    return whole.hexdigest()


@functools.cache
def _file(module: str) -> Path | None:
    found = find_spec(module)
    return Path(found.origin) if found and found.origin and found.origin.endswith(".py") else None


@functools.cache
def _source(module: str) -> str:
    path = _file(module)
    return path.read_text(encoding="utf-8") if path else ""


@functools.cache
def _imported(module: str) -> tuple[str, ...]:
    return tuple(sorted(set(_names(module))))


def _names(module: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(_source(module))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("workbench."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "workbench":
            base = node.module or ""
            inside = [f"{base}.{alias.name}" for alias in node.names]
            yield from (name for name in inside if _exists(name))
            if base != "workbench":
                yield base


@functools.cache
def _exists(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False
