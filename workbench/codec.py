"""Frozen results to plain JSON and back, exactly: floats by shortest repr, arrays with their type, NaN as null."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

SCHEMA = 1


def to_plain(value: Any) -> Any:
    """JSON values for a result: dataclasses, arrays, tuples and numbers keep enough to be restored.

    >>> to_plain((1, np.array([0.5, np.nan])))
    {'tuple': [1, {'array': 'float64', 'shape': [2], 'values': [0.5, None]}]}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {
            "result": type(value).__name__,
            "fields": {item.name: to_plain(getattr(value, item.name)) for item in fields(value)},
        }
    if isinstance(value, np.ndarray):
        return {"array": value.dtype.name, "shape": list(value.shape), "values": _array_values(value)}
    if isinstance(value, tuple):
        return {"tuple": [to_plain(item) for item in value]}
    if isinstance(value, list):
        return [to_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {"mapping": [[to_plain(key), to_plain(item)] for key, item in value.items()]}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be written to a run folder; use arrays, numbers, text, tuples")


def _array_values(array: np.ndarray) -> list[Any]:
    if array.dtype.kind == "f":
        return [item if math.isfinite(item) else None for item in array.ravel().tolist()]
    if array.dtype.kind in "biuU":
        return list(array.ravel().tolist())
    raise TypeError(f"an array of {array.dtype} cannot be written to a run folder")


def from_plain(plain: Any, types: Mapping[str, type]) -> Any:
    """The inverse of :func:`to_plain`; ``types`` are the dataclasses that may be restored, by name."""
    if isinstance(plain, list):
        return [from_plain(item, types) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if "result" in plain:
        if plain["result"] not in types:
            raise ValueError(f"unknown result {plain['result']!r} in this run; known are {sorted(types)}")
        found = {name: from_plain(value, types) for name, value in plain["fields"].items()}
        return types[plain["result"]](**found)
    if "array" in plain:
        values = plain["values"]
        if plain["array"].startswith("float"):
            values = [math.nan if item is None else item for item in values]
        kind = str if plain["array"].startswith("str") else plain["array"]
        array = np.array(values, dtype=kind).reshape(plain["shape"])
        array.flags.writeable = False
        return array
    if "tuple" in plain:
        return tuple(from_plain(item, types) for item in plain["tuple"])
    if "mapping" in plain:
        return {from_plain(key, types): from_plain(value, types) for key, value in plain["mapping"]}
    if "float" in plain:
        return float(plain["float"])
    raise ValueError(f"unreadable value with the keys {sorted(plain)}")
