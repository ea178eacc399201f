"""What there is to choose from, and whether the installation is whole: the words behind `list` and `doctor`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import workbench

Rows = list[tuple[str, str]]
DISTRIBUTION = "retrieval-workbench"


def sections() -> dict[str, Rows]:
    """Title -> (name, one line) for everything that can be named in a parameter."""
    from workbench.datasets import FORMATS
    from workbench.datasets.cards import shipped_cards
    from workbench.encoders import FORMS
    from workbench.evaluate import audit_schema
    from workbench.metrics import METRICS, definition
    from workbench.normalize import METHODS
    from workbench.report import notebooks
    from workbench.studies import STUDIES

    datasets = list(FORMATS.items())
    datasets += [(f"card {name}", card.title) for name, card in shipped_cards().items()]
    metrics = [(_example(name), definition(_example(name))) for name in METRICS]
    return {
        "datasets": datasets,
        "encoders": [(form, _ENCODERS.get(form, "")) for form in FORMS],
        "metrics": metrics,
        "repairs": [(name, f"{method.kind}. {method.summary}") for name, method in METHODS.items()],
        "reports": [(name, path.name) for name, path in notebooks().items()],
        "studies": [(key, study.card.title) for key, study in STUDIES.items()],
        "parameters": [(name, f"{text} (default: {default})") for name, _, default, text in audit_schema().help()],
    }


_NEEDED = ("numpy", "scipy", "sklearn", "matplotlib", "pandas", "pyarrow", "papermill", "nbconvert", "ipykernel")
_FOR_PICTURES = ("torch", "torchvision")
_ENCODERS = {
    "tiny-clip": "the built-in model, trained on scenes; for trying out and teaching",
    "open_clip:ARCH@TAG": "a model of the open_clip zoo; downloads its weights on first use",
    "open_clip:ARCH@./file": "your weights for a known architecture, also a file of open_clip's trainer",
    "sentence-transformers:NAME": "a text encoder of the hub; downloads on first use; needs the extra 'text'",
    "sentence-transformers:./folder": "a text encoder saved by SentenceTransformer.save (safetensors)",
    "open_clip:local-dir:PATH": "a folder with open_clip_config.json and weights",
    "open_clip:hf-hub:ORG/NAME": "a model of the hub; downloads on first use",
}


def examine() -> list[tuple[bool, str, str]]:
    """(good, what, what was found) for each thing that has gone wrong on somebody's machine."""
    return [
        (sys.version_info >= (3, 11), "python", sys.version.split()[0]),
        _own_package(),
        _shipped("data/cards"),
        _shipped("data/models/tiny-clip"),
        _shipped("notebooks/reports/audit.ipynb"),
        *(_library(name) for name in _NEEDED),
        *(_library(name, needed=False) for name in _FOR_PICTURES),
        _attempt("open_clip", _open_clip),
        _cache(),
        _disk(),
    ]


def _own_package() -> tuple[bool, str, str]:
    """Another distribution on the index is called workbench too; whichever comes first on the path is imported."""
    place = Path(workbench.__file__).resolve().parent
    try:
        version = importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return False, "workbench", f"a folder {place.name} is imported, but {DISTRIBUTION} is not installed"
    try:
        other = importlib.metadata.version("workbench")
    except importlib.metadata.PackageNotFoundError:
        return True, "workbench", f"{DISTRIBUTION} {version}"
    return False, "workbench", (
        f"an unrelated distribution 'workbench' {other} is installed beside {DISTRIBUTION} {version} and shadows it or "
        f"will: pip uninstall workbench && pip install --force-reinstall --no-deps {DISTRIBUTION}"
    )  # fmt: skip


def _shipped(name: str) -> tuple[bool, str, str]:
    from workbench.shipped import find

    return _attempt(name, lambda: "found" if find(name) else "")


def _library(name: str, *, needed: bool = True) -> tuple[bool, str, str]:
    if importlib.util.find_spec(name) is None:
        text = "missing" if needed else "missing: only ready-made vectors can be audited"
        return not needed, name, text
    distribution = {"sklearn": "scikit-learn"}.get(name, name)
    return _attempt(name, lambda: importlib.metadata.version(distribution))


def _open_clip() -> str:
    """Imported, not only looked up: a torchvision of another build is installed and still does not load."""
    from workbench.encoders.openclip import require

    return require()


def _cache() -> tuple[bool, str, str]:
    from workbench.encoders.store import Store

    def tried() -> str:
        entries = Store().list_entries()
        return f"{sum(entry.items for entry in entries):,} items, {sum(entry.bytes for entry in entries) / 1e6:,.1f} MB"

    return _attempt("cache", tried)


def _disk() -> tuple[bool, str, str]:
    free = shutil.disk_usage(Path.cwd()).free
    return free > 2**30, "disk", f"{free / 1e9:,.1f} GB free here"


def _attempt(name: str, check: Callable[[], str]) -> tuple[bool, str, str]:
    try:
        return True, name, check()
    except (OSError, ImportError, ValueError, importlib.metadata.PackageNotFoundError) as error:
        return False, name, f"{type(error).__name__}: {error}"


def _example(name: str) -> str:
    """A metric name with a cutoff where it needs one."""
    from workbench.metrics import METRICS

    return f"{name}@10" if METRICS[name].cutoff == "required" else name
