"""A run folder while it is written: claimed, kept by its owner, renamed when whole."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
from pathlib import Path
from types import TracebackType

from workbench.failures import described
from workbench.files import lock_folder, scrubbed, write_json
from workbench.meter import Meter
from workbench.runs.formats import SCHEMA

_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR)


class RunFolder:
    """A folder being written: ``NAME.partial`` until :meth:`finish` renames it, ``NAME.failed`` after :meth:`fail`.

    Runs of one name may be written at once: each gets a folder of its own, locked while its process lives. What a
    killed run of that name left is removed. As a context manager it keeps the folder as failed after any exception,
    also Ctrl-C and termination:

        with RunFolder(out, name, meter) as folder:
            ...
            path = folder.finish()

    out : made if needed. meter : its ``stage`` that is running is named in ``failure.json``.
    """

    def __init__(self, out: Path, name: str, meter: Meter | None = None) -> None:
        self.name, self.meter = name, meter or Meter()
        out.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(out, name)
        self.path, self._lock = _claimed(out, name)
        self.open = True

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self.open:
            self.fail(self.meter.current, described(error))

    def finish(self) -> Path:
        """Rename to the final name, with ``-2``, ``-3``, ... when it is taken."""
        for folder in (self.path, *(path for path in self.path.rglob("*") if path.is_dir())):
            _flush(folder)
        return self._rename("")

    def fail(self, where: str, error: str) -> Path:
        """Keep what there is, with ``failure.json`` saying where it stopped; raises nothing, however full the disk."""
        with contextlib.suppress(OSError):
            if self.path.is_dir():
                content = {"schema": SCHEMA, "stage": where, "error": scrubbed(error)}
                write_json(self.path / "failure.json", content)
        with contextlib.suppress(OSError):
            self._rename(".failed")
        self._release()
        return self.path

    def _rename(self, ending: str) -> Path:
        number = 1
        while True:
            target = self.path.parent / _numbered(self.name, number, ending)
            number += 1
            if os.path.lexists(target):
                continue
            try:
                os.rename(self.path, target)
            except OSError as error:
                if error.errno in _TAKEN:  # another run was faster
                    continue
                raise
            self.path = target
            _flush(target.parent)
            self._release()
            return target

    def _release(self) -> None:
        self.open = False
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _numbered(name: str, number: int, ending: str) -> str:
    return f"{name}{'' if number == 1 else f'-{number}'}{ending}"


def _claimed(out: Path, name: str) -> tuple[Path, int | None]:
    """A new folder and the lock on it. A folder that another run locked first, however new, is that run's."""
    number = 1
    while True:
        path = out / _numbered(name, number, ".partial")
        number += 1
        try:
            path.mkdir()
            return path, lock_folder(path)
        except (FileExistsError, BlockingIOError):
            continue


def _remove_abandoned(out: Path, name: str) -> None:
    """Remove unfinished folders of this name whose owner is dead: nobody holds their lock."""
    for path in [out / f"{name}.partial", *map(Path, glob.glob(f"{glob.escape(str(out / name))}-*.partial"))]:
        number = path.name[len(name) : -len(".partial")]
        if number and not number[1:].isdigit():
            continue
        with contextlib.suppress(BlockingIOError):
            lock = lock_folder(path)
            if lock is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)


def _flush(folder: Path) -> None:
    """Make the names in a folder last through a power cut, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
