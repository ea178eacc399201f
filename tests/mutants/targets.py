"""What is mutated, by which tests, and what is left out, each with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

PACKAGES = ("metrics", "statistics", "search")

#: The suite: test files by pattern. A file is used for every package that it imports.
TESTS = (
    "test_metrics*.py", "test_explain*.py", "test_statistics*.py", "test_gallery*.py", "test_seeds*.py",
    "test_search*.py", "test_more_core.py",
)  # fmt: skip

#: Tests left out by marker, and by words in their names: compiled kernels and torch are not on trial, and what runs
#: another library's code beside ours, or measures a process of its own, is too slow.
MARKERS = "not slow"
WORDS = "not compiled and not bfloat16 and not torch and not the_tool_itself and not memory_allowed"

#: Modules that cannot be imported while mutants run.
ABSENT = ("torch",)

#: Files that are not mutated.
SKIPPED_FILES = {
    "workbench/search/compiled.py": "calls the numba loops, held against their numpy twins in plain.py",
    "workbench/search/loops.py": "numba loops, held against their numpy twins in plain.py",
}

#: Functions, classes, variables and arguments (file and dotted name, both may be patterns) that are not mutated.
SKIPPED_NAMES = {
    ("workbench/*/*.py", "*.seed"): "default seed: any other one is as good",
    ("workbench/search/*.py", "_BFLOAT16_ROUNDING"): "used with torch only",
    ("workbench/search/*.py", "TorchProduct"): "runs on torch",
    ("workbench/search/*.py", "Bfloat16Product"): "runs on torch",
    ("workbench/search/*.py", "_has_bfloat16_units"): "asks the processor whether torch pays: speed only",
    ("workbench/search/*.py", "Side.release"): "gives back pages of a file, which are read again: memory only",
    ("workbench/search/*.py", "*.step"): "length of a working chunk: memory and speed only",
    ("workbench/search/*.py", "*.crowded"): "how full a row is when it is settled: memory and speed only",
    ("workbench/search/*.py", "_state_bytes"): "estimate of memory: only the size of tiles depends on it",
    ("workbench/search/*.py", "_tile_shape"): "size of a tile: memory and speed only, measured by its own test",
    ("workbench/search/*.py", "*.state_bytes"): "estimate of memory: only the size of tiles depends on it",
    ("workbench/search/*.py", "Plain.tile_limits"): "size of a tile: memory and speed only",
    ("workbench/search/*.py", "_COMPILE_FROM"): "when compiled kernels are loaded: speed only",
    ("workbench/search/*.py", "_BFLOAT16_FROM"): "when torch is loaded: speed only",
    ("workbench/search/*.py", "scan.memory"): "default of a parameter that changes the speed, not the results",
    ("workbench/search/*.py", "CHUNK_NUMBERS"): "length of a working chunk: memory and speed only",
    ("workbench/search/*.py", "_PAIRS_PER_POSITIVE"): "when a finer product is taken: speed only",
    ("workbench/search/*.py", "_SMALL"): "which of two ways to sum exponentials, with equal results: speed only",
    ("workbench/search/*.py", "_FEW"): "where two ways to count with equal results take turns: speed only",
    ("workbench/statistics/bootstrap.py", "_CHUNK"): "numbers held at a time: memory and speed only",
    ("workbench/statistics/bootstrap.py", "_draws.rows"): "rows drawn at a time: memory and speed only",
    ("workbench/statistics/randomization.py", "_CHUNK"): "numbers held at a time: memory and speed only",
    ("workbench/statistics/randomization.py", "_flipped.rows"): "rows drawn at a time: memory and speed only",
    ("workbench/statistics/systems.py", "_CHUNK"): "numbers held at a time: memory and speed only",
    ("workbench/statistics/systems.py", "_flipped.rows"): "rows drawn at a time: memory and speed only",
    ("workbench/metrics/kernels.py", "_mean_reciprocal.rows"): "groups looked at together: memory and speed only",
}


def source_files(root: Path, only: Sequence[str] = ()) -> list[str]:
    """Paths of the files on trial, relative to the checkout; ``only`` keeps those below one of the given paths."""
    found = []
    for package in PACKAGES:
        folder = root / "workbench" / package
        found += sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    names = [path.relative_to(root).as_posix() for path in found if path.exists()]
    kept = [name for name in names if name not in SKIPPED_FILES and _is_below(name, only)]
    if not kept:
        raise ValueError(f"no file to mutate below {', '.join(only)}; there are {', '.join(names)}")
    return kept


def _is_below(name: str, only: Sequence[str]) -> bool:
    return not only or any(name == path.strip("/") or name.startswith(path.strip("/") + "/") for path in only)


def package_of(file: str) -> str:
    """
    >>> package_of("workbench/metrics/kernels.py"), package_of("workbench/statistics.py")
    ('metrics', 'statistics')
    """
    return file.split("/")[1].removesuffix(".py")


def skipped_names(file: str) -> frozenset[str]:
    return frozenset(name for path, name in SKIPPED_NAMES if fnmatchcase(file, path))


def suite(root: Path, package: str) -> list[str]:
    """The test files that import the package, those named after it first, and the package itself for its doctests."""
    files = sorted({path for pattern in TESTS for path in (root / "tests").glob(pattern)})
    needle = f"workbench.{package}"
    using = [path for path in files if needle in path.read_text(encoding="utf-8")]
    using.sort(key=lambda path: (not path.name.startswith(f"test_{package}"), path.name))
    modules = [name for name in source_files(root) if package_of(name) == package]
    return [path.relative_to(root).as_posix() for path in using] + modules
