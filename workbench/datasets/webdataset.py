"""``webdataset:SHARDS``: tar files of pictures with ``.txt`` or ``.json`` beside them, as img2dataset writes them.

Nothing is unpacked. The headers of an uncompressed tar say where each member lies; captions are read from there at
once, pictures when they are needed.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

import numpy as np

from workbench.datasets.cards import card_of
from workbench.datasets.collection import BadItem, Collection, Member, Side
from workbench.datasets.folder import PICTURES, pair_up
from workbench.datasets.pictures import FILE_BYTES
from workbench.datasets.tables import metadata_columns, parse_json, plain_reason, require_file

TEXT_BYTES = 2**20
HEADER_BYTES = 2**20
MEMBERS = 5_000_000
SHARDS = 100_000
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
READ = {**dict.fromkeys(PICTURES, FILE_BYTES), ".txt": TEXT_BYTES, ".json": TEXT_BYTES}
FAILED = "img2dataset could not download it"
_RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")
_SAMPLE = re.compile(r"^((?:.*/)?[^./][^./]*)\.([^/]*)$")


@dataclass
class _Sample:
    """The members of one key."""

    key: str
    archive: Path
    seen: set[str] = field(default_factory=set)
    picture: Member | None = None
    caption: str = ""
    columns: dict[str, Any] = field(default_factory=dict)
    captions: list[str] = field(default_factory=list)
    wrong: str = ""


@dataclass
class _Gathered:
    """What the shards held: samples by ``shard/key``, what could not be read, endings that are not read, members."""

    samples: dict[str, _Sample] = field(default_factory=dict)
    bad: list[BadItem] = field(default_factory=list)
    other: Counter[str] = field(default_factory=Counter)
    members: int = 0


def load_webdataset(where: str, *, on_bad: str = "fail") -> Collection:
    """Pictures and captions from tar files in the layout of webdataset and img2dataset.

    where : a tar, a folder of tars, a range such as ``shards/{00000..00012}.tar``, or several of these with commas
        between them. A member is ``KEY.jpg`` (or another picture), ``KEY.txt`` (the caption) or ``KEY.json`` (columns,
        and the ``caption``, or a list of them, where there is no ``.txt``); the key ends at the first dot.
    on_bad : "fail" or "record" for what cannot be read: members that lead out of the archive, links, devices, sparse
        or cut-off members, captions above 1 MiB, pictures above 512 MiB, a key without a picture, a damaged archive.
        What img2dataset itself marks as failed (``status`` other than success) is always recorded.
    The ids are ``SHARD/KEY``, so that they do not depend on which shards are given; a repeated one is an error.
    Pictures without a caption stay as distractors. At most 5,000,000 members are read.
    """
    shards = _shards(where)
    found = _Gathered()
    for shard in shards:
        _gather(shard, found)
    samples = [sample for sample in found.samples.values() if _is_sound(sample, found)]
    failed = [item for item in found.bad if not item.reason.startswith(FAILED)]
    if failed and on_bad != "record":
        raise ValueError(
            f"webdataset: {len(failed)} items cannot be read, the first is {failed[0].id[:120]!r}: {failed[0].reason}; "
            "repair the archive, or use bad_images=record to list and leave them out"
        )
    if not samples:
        raise ValueError(
            f"webdataset: no picture in {len(shards)} archives ({_endings(found) or 'they are empty'}); expected "
            f"members KEY.jpg, .png or .webp with KEY.txt or KEY.json"
            + (f"; the first problem is {found.bad[0].id[:120]!r}: {found.bad[0].reason}" if found.bad else "")
        )
    return _paired(samples, found, shards)


def _shards(where: str) -> list[Path]:
    """The archives meant, in the order given; those of a folder by name."""
    if re.match(r"^\w{2,}:", where) and not os.path.exists(where):
        raise ValueError(f"webdataset:{where} is not a local path; download the shards first")
    parts = [where] if os.path.exists(where) else re.split(r",(?![^{]*\})", where)
    names = (name for part in parts if part.strip() for name in _expanded(part.strip()))
    paths = [Path(name) for name in islice(names, SHARDS + 1)]
    if len(paths) > SHARDS:
        raise ValueError(f"webdataset: the pattern names more than {SHARDS:,} shards; give fewer")
    found: list[Path] = []
    for path in paths:
        tars = sorted(path.glob("*.tar")) if os.path.isdir(path) else [path]
        if not tars:
            raise FileNotFoundError(f"webdataset:{path} holds no .tar file; give a folder of shards")
        found += tars
    if not found:
        raise ValueError(
            f"webdataset:{where} names no archive; give a .tar, a folder of them, or shards/{{000..012}}.tar"
        )
    for path in found:
        require_file(path)
    return found


def _expanded(name: str) -> Iterator[str]:
    """A name with its first ``{000..012}`` or ``{a,b}`` spelt out, and so on for the others."""
    numbers, words = _RANGE.search(name), re.search(r"\{([^{}]*,[^{}]*)\}", name)
    match = numbers or words
    if match is None or os.path.exists(name):
        yield name
        return
    if numbers:
        first, last = int(numbers[1]), int(numbers[2])
        if not 0 <= last - first < SHARDS:
            raise ValueError(f"webdataset: the range {match[0]} must rise and hold at most {SHARDS:,} shards")
        inner = [str(number).zfill(len(numbers[1])) for number in range(first, last + 1)]
    else:
        inner = match[1].split(",")
    for word in inner:
        yield from _expanded(name[: match.start()] + word + name[match.end() :])


class _Guarded:
    """A file of which no single header can ask for much: tarfile reads as many bytes as a header says it has."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= HEADER_BYTES:
            raise ValueError(f"a header claims {size:,} bytes, at most {HEADER_BYTES:,} are read")
        return self.file.read(size)


def _gather(shard: Path, found: _Gathered) -> None:
    """List one archive; what stops the listing is one bad item with the archive's name."""
    with shard.open("rb") as file:
        start = file.read(6)
        compression = next((name for mark, name in COMPRESSED.items() if start.startswith(mark)), "")
        if compression:
            raise ValueError(
                f"webdataset: {shard.name} is compressed with {compression}, so its pictures cannot be read where they "
                "lie; decompress it to a plain .tar"
            )
        file.seek(0)
        try:
            for info in _members(file):
                found.members += 1
                if found.members > MEMBERS:
                    raise _Refused(f"webdataset: more than {MEMBERS:,} members; give fewer shards")
                if not info.isdir():
                    _take(shard, info, file, found)
        except _Refused:
            raise
        except Exception as error:  # tarfile raises anything from HeaderError to RecursionError on damaged headers
            found.bad.append(BadItem(shard.name, f"the archive cannot be read further ({plain_reason(error)})"))


class _Refused(ValueError):
    """An error whatever the policy: what was asked for cannot be meant."""


def _members(file: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    """The members in order; an archive that stops without its end mark is an error after the last one."""
    size = file.seek(0, 2)
    file.seek(0)
    with tarfile.open(fileobj=_Guarded(file), mode="r:", errors="surrogateescape") as archive:  # type: ignore[call-overload]
        while (info := archive.next()) is not None:
            archive.members.clear()
            if info.size < 0:
                raise ValueError(f"the member {info.name[:120]!r} claims a size of {info.size}")
            position = file.tell()
            yield info
            if info.isreg() and info.offset_data + info.size > size:
                return
            file.seek(position)
        file.seek(archive.offset)
        block = file.read(tarfile.BLOCKSIZE)
    if not block:
        raise ValueError("it has no end mark, so members may be missing: it was cut off; copy it again")
    if block.strip(b"\0"):
        raise ValueError(f"the header at byte {archive.offset:,} is damaged")


def _take(shard: Path, info: tarfile.TarInfo, file: IO[bytes], found: _Gathered) -> None:
    """Add one member to the sample of its key."""
    name = info.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").removeprefix("./")
    stem = shard.name.removesuffix(".tar")
    reason = _refused(info, name, file)
    match = _SAMPLE.match(name)
    ending = f".{match[2].lower()}" if match else PurePosixPath(name).suffix or "no ending"
    if not reason and ending not in READ:
        found.other[ending[:40]] += 1
        return
    if not reason and info.size > READ[ending]:
        reason = f"it has {info.size:,} bytes, the limit for {ending} is {READ[ending]:,}"
    if match is None:
        found.bad.append(BadItem(f"{stem}/{name}", reason))
        return
    key = f"{stem}/{match[1]}"
    sample = found.samples.setdefault(key, _Sample(key, shard))
    if sample.archive != shard:
        raise _Refused(
            f"webdataset: the key {key[:120]!r} is in {sample.archive} and in {shard}; rename one of the two archives"
        )
    if ending in sample.seen:
        reason = reason or f"its {ending} occurs twice"
    sample.seen.add(ending)
    member = Member(shard, name, info.offset_data, info.size)
    if reason:
        sample.wrong = sample.wrong or f"{PurePosixPath(name).name}: {reason}"
    elif ending in PICTURES:
        sample.wrong = sample.wrong or (f"it has two pictures, also {name}" if sample.picture else "")
        sample.picture = sample.picture or member
    else:
        _read_text(sample, ending, member, file)


def _refused(info: tarfile.TarInfo, name: str, file: IO[bytes]) -> str:
    """Why a member is not read at all, "" when it is."""
    plain = name.replace("\\", "/")
    if not info.isreg() or info.issparse():
        kind = "a sparse file" if info.issparse() else "a link" if info.issym() or info.islnk() else "a special file"
        return f"it is {kind}, and only ordinary files are read"
    if PurePosixPath(plain).is_absolute() or PureWindowsPath(plain).drive or ".." in PurePosixPath(plain).parts:
        return "its name leads out of the archive"
    return "" if info.offset_data + info.size <= file.seek(0, 2) else "the archive ends inside it; copy it again"


def _read_text(sample: _Sample, ending: str, member: Member, file: IO[bytes]) -> None:
    """The caption of a .txt, or the columns and captions of a .json."""
    file.seek(member.offset)
    try:
        text = file.read(member.size).decode("utf-8-sig")
        if ending == ".txt":
            sample.caption = text.strip()
            return
        values = parse_json(text, member.name, nan_is_null=True)
    except ValueError as error:
        sample.wrong = f"its {ending} cannot be read ({plain_reason(error)})"
        return
    if not isinstance(values, dict):
        sample.wrong = f"its .json must be an object; got {type(values).__name__}"
        return
    given = values.pop("caption", None)
    captions = given if isinstance(given, list) else [given]
    sample.captions = [str(text).strip() for text in captions if text is not None and str(text).strip()]
    sample.columns = {
        name: json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
        for name, value in values.items()
    }


def _is_sound(sample: _Sample, found: _Gathered) -> bool:
    """Whether a sample can be used; if not, it is listed with its reason."""
    status = str(sample.columns.get("status") or "success")
    reason = sample.wrong
    if not reason and sample.picture is None:
        message = str(sample.columns.get("error_message") or status)[:120]
        reason = f"{FAILED}: {message}" if status != "success" else "there is no picture with its key"
    if reason:
        found.bad.append(BadItem(sample.key, reason))
    return not reason


def _paired(samples: list[_Sample], found: _Gathered, shards: list[Path]) -> Collection:
    texts = [
        (row, text) for row, one in enumerate(samples) for text in ([one.caption] if one.caption else one.captions)
    ]
    if not texts:
        raise ValueError(f"webdataset: none of the {len(samples)} pictures has a caption; add KEY.txt or KEY.json")
    text_image = np.array([row for row, _ in texts])
    counted: Counter[int] = Counter()
    ids = []
    for row, _ in texts:
        ids.append(f"{samples[row].key}#{counted[row]}")
        counted[row] += 1
    columns = metadata_columns([sample.columns for sample in samples], ("caption",))
    images = Side("image", tuple(one.key for one in samples), [one.picture for one in samples], columns)
    own = {name: values[text_image] for name, values in columns.items()}
    name = shards[0].name.removesuffix(".tar") if len(shards) == 1 else f"{len(shards)} shards"
    captions = Side("text", tuple(ids), [text for _, text in texts], own)
    return pair_up(
        card_of(shards[0].parent, f"webdataset {name}"), images, captions, text_image, tuple(found.bad),
        (f"{_endings(found)} were not read",) if found.other else (),
    )  # fmt: skip


def _endings(found: _Gathered) -> str:
    listed = ", ".join(f"{number:,} x {ending}" for ending, number in found.other.most_common(5))
    return f"members with other endings ({listed})" if listed else ""
