"""The API reference from the docstrings, as pages that open offline: python docs/reference.py FOLDER [module ...]

Docstrings here say "name : what it is" line by line. Markdown would run these lines together, so they become a list.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
THEME = ROOT / "docs" / "theme"
_NAME = r"[a-z_]\w*(?: \([^()]*\))?"
_ITEM = re.compile(rf"(?:^|(?<=[.;)] ))({_NAME}(?:,? (?:and )?{_NAME})*) : ")
_AFTER_A_LIST = re.compile(r"(?<=[.;)]) (?=(?:Gives|Returns|Errors?:|Cost:|Same seed))")


def listed(docstring: str) -> str:
    """The docstring with every parameter an item of a list; examples and formulas stay as they are.

    >>> print(listed("What for.\\n\\nk : how many. ids : names,\\n    one each. Errors: k < 1.\\n\\n    a : b"))
    What for.
    <BLANKLINE>
    - **k** : how many.
    - **ids** : names, one each.
    <BLANKLINE>
    Errors: k < 1.
    <BLANKLINE>
        a : b
    """
    paragraphs = re.split(r"\n[ \t]*\n", docstring)
    return "\n\n".join(part for paragraph in paragraphs for part in _parts(paragraph))


def _parts(paragraph: str) -> Iterator[str]:
    if paragraph.startswith((" ", ">>>", "|", "- ", "* ", "\n")) or not _ITEM.search(joined := _on_one_line(paragraph)):
        yield paragraph
        return
    before, *found = _ITEM.split(joined)
    if before.strip():
        yield before.strip()
    items = []
    for name, text in zip(found[::2], found[1::2], strict=True):
        said, *after = _AFTER_A_LIST.split(text.strip(), maxsplit=1)
        items.append(f"- **{name}** : {said}")
        if after:
            yield "\n".join(items)
            yield after[0]
            items = []
    if items:
        yield "\n".join(items)


def _on_one_line(paragraph: str) -> str:
    return " ".join(line.strip() for line in paragraph.splitlines())


def _text(annotation: Any) -> str:
    return re.sub(r"\b(typing|collections\.abc)\.", "", inspect.formatannotation(annotation))


def _with_short_types(signature: inspect.Signature) -> inspect.Signature:
    """The names that array types have in the source, for what they stand for."""
    import numpy as np
    import numpy.typing as npt

    arrays = {"ArrayLike": npt.ArrayLike, "DTypeLike": npt.DTypeLike, "Array": npt.NDArray[Any],
              "IntArray": npt.NDArray[np.int64], "FloatArray": npt.NDArray[np.float64]}  # fmt: skip
    known = arrays | {f"{name} | None": kind | None for name, kind in arrays.items()}
    texts = sorted(((_text(kind), name) for name, kind in known.items()), key=lambda pair: -len(pair[0]))

    def short(annotation: Any) -> Any:
        text = _text(annotation)
        for long, name in texts:
            text = text.replace(long, name)
        return annotation if text == _text(annotation) else type(text, (), {"__module__": "builtins"})

    parameters = [each.replace(annotation=short(each.annotation)) for each in signature.parameters.values()]
    return type(signature)(parameters, return_annotation=short(signature.return_annotation))


def public(package: str = "workbench") -> list[str]:
    """The package and every module in it without a leading underscore, also those that an ``__all__`` leaves out."""
    found = [package]
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not any(part.startswith("_") for part in module.name.split(".")):
            found.append(module.name)
    return found


def write(folder: Path, modules: Sequence[str]) -> None:
    """A page for each of these modules. A module that cannot be imported is an error.

    Values that are paths are shown without the folder of this machine.
    """
    import pdoc
    from jinja2 import pass_context

    filters = pdoc.render.env.filters
    before = dict(filters)

    @pass_context
    def to_markdown(context: Any, docstring: str) -> str:
        return str(before["to_markdown"](context, listed(docstring)))

    def format_signature(signature: inspect.Signature, colon: bool) -> Any:
        return before["format_signature"](_with_short_types(signature), colon)

    settings = {"docformat": "restructuredtext", "footer_text": "workbench", "show_source": False}
    pdoc.render.configure(**settings, template_directory=THEME)
    filters.update(to_markdown=to_markdown, format_signature=format_signature)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            # Types that only a type checker imports are shown as they are written.
            warnings.filterwarnings("ignore", message="Error parsing type annotation")
            # A package that is named brings its modules along, and they are named too.
            warnings.filterwarnings("ignore", message="The module specification .* has already been added")
            pdoc.pdoc(*modules, output_directory=folder)
    finally:
        filters.update(before)
    for page in [*folder.rglob("*.html"), *folder.rglob("*.js")]:
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace(str(ROOT), "..."), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2:] or public())
