"""What open_clip logs or warns about while it loads, collected: for an audit each of these is an error."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

from workbench.encoders import EncoderError, network


class _Complaints(logging.Filter):
    """Keeps what open_clip logs at warning level or above, instead of showing it."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        ours = "open_clip" in record.pathname and record.levelno >= logging.WARNING
        if ours and "initialized randomly" not in record.getMessage():
            self.messages.append(record.getMessage())
        return not ours


@contextlib.contextmanager
def listening() -> Iterator[_Complaints]:
    """Collect open_clip's log messages; the placeholder keeps its first message from installing a log handler."""
    root, complaints, placeholder = logging.getLogger(), _Complaints(), logging.NullHandler()
    root.addFilter(complaints)
    root.addHandler(placeholder)
    try:
        yield complaints
    finally:
        root.removeFilter(complaints)
        root.removeHandler(placeholder)


@contextlib.contextmanager
def strict(name: str) -> Iterator[None]:
    """Turn open_clip's warnings, logged or issued, and its errors into one :class:`EncoderError`."""
    try:
        with listening() as logged, warnings.catch_warnings(record=True) as issued:
            warnings.simplefilter("always")
            yield
    except EncoderError:
        raise
    except Exception as error:
        raise EncoderError(f"{name} cannot be loaded: {network.explained(error)}") from error
    complaints = logged.messages + [str(entry.message) for entry in issued if "open_clip" in entry.filename]
    if complaints:
        raise EncoderError(f"{name} was refused, because open_clip warned: {'; '.join(complaints)}")
