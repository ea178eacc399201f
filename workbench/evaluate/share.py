"""What may leave the machine: applied to a prepared collection *before* anything is computed from it.

    prepared = withheld(prepared, parameters)        # after encoding, before the first analysis
    parameters = private_parameters(parameters)

Nothing downstream has then ever seen what must stay, so no output, no error message and no unfinished file can hold it.

"full"        thumbnails (re-encoded, so without EXIF and other metadata), captions, ids, metadata values
"no-images"   the same without any picture
"no-content"  pseudonyms and counts: no picture, caption, id, file name, metadata value, or hash of a single item

Pseudonyms are numbered in the order of the sorted true values, and padded: lists break ties by ascending id and groups
stand in the order of their names, so every number is the same as in a full report, to the last bit. What this cannot
hide: a pseudonym tells the alphabetical place of its id; names of columns, sizes of groups, ranks and scores stay; and
who holds the pictures and the encoder can hold a *guessed* caption against its ranks and scores. The content hash of
the whole collection stays too: it confirms a guess only to somebody who has every item and every id of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.datasets import BadItem, Card, Collection, Side
from workbench.datasets.cards import shipped_cards
from workbench.datasets.counts import normalized_caption
from workbench.files import scrubbed

if TYPE_CHECKING:
    from workbench.evaluate.prepare import Prepared

WIDTHS = ("no-content", "no-images", "full")  # narrow to wide
WITHHELD, FILE = "(withheld)", "(file)"
PUBLIC_SPLITS = ("", "all", "train", "restval", "val", "valid", "validation", "dev", "test", "cross-fit")
FILES = ("qrels", "metadata", "judged")
MISSING = {"", "nan", "None"}
ENCODER_FACTS = (
    "arch", "weights_sha256", "quick_gelu", "preprocess", "image_reader", "tokenizer", "tokenizer_sha256",
    "context_length", "precision", "text_template", "similarity", "dim", "versions", "assumptions",
)  # fmt: skip
REASONS = (
    ("no such file", "there is no such file"),
    ("the limit is", "it is too large"),
    ("bomb", "it is too large"),
    ("cut off", "it is cut off or damaged"),
    ("truncated", "it is cut off or damaged"),
    ("damaged", "it is cut off or damaged"),
    ("none of the formats", "it is of a format that is not read"),
    ("is empty", "it is empty"),
    ("permission", "it may not be opened"),
    ("be opened", "it may not be opened"),
)
_ABSOLUTE = re.compile(r"[/\\~]|[A-Za-z]:[/\\]|file:")


@dataclass(frozen=True)
class NamedEncoder:
    """What is left of an encoder after encoding: its name."""

    name: str


def check_share(parameters: Mapping[str, Any], card: Card | None = None) -> None:
    """Refuse to show more than the card allows, and to copy vectors beside a report that must hold no content.

    Call it with the parameters alone, before any work, and with the card before encoding. Raises ValueError.

    >>> check_share({"share": "full", "keep_embeddings": False}, Card("ours", share="no-images"))
    Traceback (most recent call last):
    ValueError: share='full' is more than the card of 'ours' allows (share='no-images'); pass share=no-images or ...
    """
    share = parameters["share"]
    if share == "no-content" and parameters.get("keep_embeddings"):
        raise ValueError(
            "keep_embeddings=true with share=no-content: vectors can be turned back into captions; drop one of the two"
        )
    if card is None:
        return
    if card.share not in WIDTHS:
        raise ValueError(
            f"the card of {card.name!r} has share={card.share!r}; write one of {', '.join(reversed(WIDTHS))}"
        )
    if WIDTHS.index(share) > WIDTHS.index(card.share):
        narrower = " or ".join(f"share={name}" for name in reversed(WIDTHS[: WIDTHS.index(card.share) + 1]))
        raise ValueError(
            f"share={share!r} is more than the card of {card.name!r} allows (share={card.share!r}); pass {narrower}"
        )


def private_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as they may be written: no place on this machine, with "no-content" no file name either.

    Applying it twice changes nothing more, and the result is still accepted by the notebook's schema.

    >>> given = {"share": "full", "dataset": "folder:/home/ada/cats", "encoder": "open_clip:ViT-B-32@/home/ada/w.pt"}
    >>> shown = private_parameters(given)
    >>> shown["dataset"], shown["encoder"]
    ('folder:.../cats', 'open_clip:ViT-B-32@.../w.pt')
    >>> private_parameters({**given, "share": "no-content"})["encoder"]
    'open_clip:ViT-B-32@(file)'
    """
    shown = dict(parameters)
    hide = parameters["share"] == "no-content"
    shown["dataset"] = _kind_only(parameters["dataset"]) if hide else scrubbed(_without_place(parameters["dataset"]))
    shown["encoder"] = _private(parameters["encoder"], hide, files=False)
    for name in FILES:
        if parameters.get(name):
            shown[name] = FILE if hide else scrubbed(_last_part(parameters[name]))
    for name in {"labels", "judges"} & set(parameters):
        shown[name] = [_private(entry, hide, files=name == "labels") for entry in parameters[name]]
    for name in ("split", "bank", "other_split"):
        if hide and parameters.get(name, "") not in PUBLIC_SPLITS:
            shown[name] = WITHHELD
    shown |= {"run": ""} if "run" in shown else {}
    return shown


def _private(entry: str, hide: bool, *, files: bool) -> str:
    """One entry of a list: files with a comma between, or an encoder."""
    if not files:
        return private_encoder(entry) if hide else scrubbed(_without_place(entry))
    return ",".join(FILE if hide else scrubbed(_last_part(part)) for part in entry.split(","))


def private_encoder(source: str) -> str:
    """An encoder's source without the name of a local file or folder; published names stay.

    >>> private_encoder("open_clip:local-dir:./acme"), private_encoder("open_clip:ViT-B-32@openai")
    ('open_clip:local-dir:(file)', 'open_clip:ViT-B-32@openai')
    """
    from workbench.encoders.openclip import is_file_name

    kind, colon, rest = source.partition(":")
    if not colon or rest.startswith("hf-hub:") or rest == WITHHELD:
        return source
    if rest.startswith("local-dir:"):
        return f"{kind}:local-dir:{FILE}"
    arch, at, checkpoint = rest.partition("@")
    if at:
        return f"{kind}:{arch}@{FILE}" if is_file_name(checkpoint) else source
    return f"{kind}:{FILE}" if is_file_name(rest) or Path(rest).exists() or kind == "embeddings" else source


def withheld(prepared: Prepared, parameters: Mapping[str, Any]) -> Prepared:
    """A prepared collection in which everything is absent that ``parameters["share"]`` keeps on this machine.

    Always : no place, user or host in what encoder, card, notes and reasons say. "no-images" : a picture side without
    content. "no-content" : see the head of this module; item digests become group numbers, so that equal items can
    still be counted, and the encoder is only a name. Sizes, order, relevance, vectors and counts are those of the
    input, which is not changed.
    """
    share = parameters["share"]
    if share not in WIDTHS:
        raise ValueError(f"share is {share!r}; expected one of {', '.join(reversed(WIDTHS))}")
    prepared = _writable(prepared)
    if share == "full":
        return prepared
    if share == "no-images":
        collection = prepared.collection
        sides: dict[str, Any] = {
            "images": _without_pictures(collection.images),
            "texts": _without_pictures(collection.texts),
        }
        changed = replace(collection, **sides)
        known = {name: sides[name] for name in sides if isinstance(getattr(prepared, name), Side)}
        return replace(prepared, collection=changed, **known)
    return _pseudonymous(prepared, parameters)


def _writable(prepared: Prepared) -> Prepared:
    """Without absolute paths, user and host name in what loaders, encoders and exceptions say, and all of it UTF-8."""
    collection, encoder = prepared.collection, prepared.encoder
    images, texts = encodable_side(collection.images), encodable_side(collection.texts)
    card: dict[str, Any] = {
        name: _message(value) for name, value in vars(collection.card).items() if isinstance(value, str)
    }
    ids = {images.modality: images.ids, texts.modality: texts.ids}
    vectors: dict[str, Any] = {
        name: side if isinstance(given, Side) else given if given.ids == side.ids else replace(given, ids=side.ids)
        for name, side in (("images", images), ("texts", texts)) for given in (getattr(prepared, name),)
    }  # fmt: skip
    changed = replace(
        collection,
        card=replace(collection.card, **card),
        images=images,
        texts=texts,
        embeddings={name: replace(given, ids=ids[name]) for name, given in collection.embeddings.items()},
        bad=tuple(BadItem(_encodable([item.id])[0], _message(item.reason)) for item in collection.bad),
        notes=tuple(map(_message, collection.notes)),
    )
    if encoder is not None and _message(encoder.name) != encoder.name:
        encoder = NamedEncoder(_message(encoder.name))
    about, notes = _each_text(prepared.about, _message), tuple(map(_message, prepared.notes))
    return replace(prepared, collection=changed, **vectors, about=about, notes=notes, encoder=encoder)


def _message(text: str) -> str:
    return scrubbed(_encodable([text])[0])


def _encodable(texts: Sequence[str]) -> Sequence[str]:
    """Lone surrogates, such as those of file names that are no UTF-8, written out: no file of a run can hold them.

    >>> _encodable(["cat", "\\udcff"])
    ['cat', '\\\\udcff']
    """
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return [text.encode("utf-8", "backslashreplace").decode() for text in texts]
    return texts


def encodable_side(side: Side) -> Side:
    """A side whose ids, texts and metadata are all UTF-8."""
    content = list(map(str, side.content)) if side.kind == "text" else []
    columns = {name: np.asarray(values) for name, values in side.columns.items()}
    values = [value for given in columns.values() if given.dtype.kind in "UO" for value in map(str, given.tolist())]
    said = [*side.ids, *columns, *content, *values]
    if _encodable(said) is said:
        return side
    return Side(
        side.modality,
        tuple(_encodable(side.ids)),
        _encodable(content) if content else side.content,
        {_encodable([name])[0]: _encodable_values(values) for name, values in columns.items()},
    )


def _encodable_values(values: np.ndarray) -> np.ndarray:
    return np.array(_encodable(values.tolist())) if values.dtype.kind == "U" else values


def _without_pictures(side: Side) -> Side:
    return replace(side, content=()) if side.kind == "image" else side


def _pseudonymous(prepared: Prepared, parameters: Mapping[str, Any]) -> Prepared:
    collection = _pseudonymous_collection(prepared.collection, parameters["dataset"])
    new = {"images": collection.images, "texts": collection.texts}
    vectors: dict[str, Any] = {
        name: side if isinstance(given, Side) else replace(given, ids=side.ids, source={})
        for name, side in new.items() for given in (getattr(prepared, name),)
    }  # fmt: skip
    name = _encoder_name(prepared.encoder, parameters["encoder"])
    return replace(
        prepared,
        collection=collection,
        **vectors,
        image_digests=_group_numbers(prepared.image_digests),
        text_digests=_group_numbers(prepared.text_digests),
        image_inputs=("",) * len(prepared.image_inputs),
        text_inputs=("",) * len(prepared.text_inputs),
        encoder=None if prepared.encoder is None else NamedEncoder(name),
        about=_facts(prepared.about, None if prepared.encoder is None else name),
        notes=_counted(prepared.notes),
    )


def _pseudonymous_collection(collection: Collection, source: str) -> Collection:
    images, texts = collection.images, collection.texts
    alike = images.modality == texts.modality  # one id on both sides is then one item
    rename = {side.modality: _pseudonyms(side.ids, side.modality) for side in (images, texts)}
    if alike:
        rename = {images.modality: _pseudonyms({*images.ids, *texts.ids}, images.modality)}
    columns = _columns(images, texts)
    captions = _captions(images, texts)
    sides = [
        Side(
            side.modality, tuple(rename[side.modality][name] for name in side.ids), captions[place], columns[place]
        )
        for place, side in enumerate((images, texts))
    ]  # fmt: skip
    return replace(
        collection,
        card=_card(collection.card, source),
        images=sides[0],
        texts=sides[1],
        embeddings={
            modality: replace(given, ids=tuple(rename[modality][name] for name in given.ids), source={})
            for modality, given in collection.embeddings.items()
        },
        bad=_bad(collection.bad),
        notes=_counted(collection.notes),
    )


def _pseudonyms(names: Iterable[str], prefix: str, key: Callable[[str], Any] | None = None) -> dict[str, str]:
    """True name -> ``prefix-number``, so that both sort alike.

    >>> _pseudonyms(["b", "a", "c"], "image")["c"]
    'image-3'
    """
    ordered = sorted(set(names), key=key)
    width = len(str(len(ordered)))
    return {name: f"{prefix}-{number:0{width}d}" for number, name in enumerate(ordered, start=1)}


def _captions(*sides: Side) -> list[list[str] | tuple[()]]:
    """Texts as tokens: equal :func:`normalized_caption` forms have equal tokens. Pictures leave nothing."""
    found: list[list[str] | tuple[()]] = []
    for side in sides:
        if side.kind != "text":
            found.append(())
            continue
        forms = [normalized_caption(str(text)) for text in side.content]
        tokens = _pseudonyms(forms, "caption" if side.modality == "text" else f"{side.modality} content")
        found.append([tokens[form] for form in forms])
    return found


def _columns(*sides: Side) -> list[dict[str, np.ndarray]]:
    """Metadata values as pseudonyms, one numbering per column name over both sides; missing values stay missing."""
    found: list[dict[str, np.ndarray]] = [{} for _ in sides]
    for name in dict.fromkeys(name for side in sides for name in side.columns):
        given = {place: np.asarray(side.columns[name]) for place, side in enumerate(sides) if name in side.columns}
        texts = {place: [str(value).strip() for value in values.tolist()] for place, values in given.items()}
        hide = _hider(name, {value for values in texts.values() for value in values} - MISSING)
        for place, values in given.items():
            hidden = np.array([hide(text) for text in texts[place]])
            found[place][name] = hidden.astype(float) if values.dtype.kind in "iuf" else hidden
    return found


def _hider(name: str, stated: set[str]) -> Callable[[str], str]:
    """Numbers become the place of their value among the different values, so that quantiles cut at the same items."""
    numbers = {value: _number(value) for value in stated}
    if None not in numbers.values():
        places = {number: place for place, number in enumerate(sorted({*numbers.values()}), start=1)}  # type: ignore[type-var]
        width = len(str(len(places)))
        return lambda value: f"{places[numbers[value]]:0{width}d}" if value in stated else value
    names = _pseudonyms(stated, name)
    return lambda value: names.get(value, value)


def _number(text: str) -> float | None:
    try:
        value = float("x" if "_" in text else text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _group_numbers(digests: Sequence[str]) -> tuple[str, ...]:
    """Equal digests, equal numbers, in order of first appearance; an empty digest stays empty.

    >>> _group_numbers(["ff", "0a", "ff", ""])
    ('content-1', 'content-2', 'content-1', '')
    """
    number = {digest: place for place, digest in enumerate(dict.fromkeys(filter(None, digests)), start=1)}
    width = len(str(len(number)))
    return tuple(f"content-{number[digest]:0{width}d}" if digest else "" for digest in digests)


def _bad(items: Sequence[BadItem]) -> tuple[BadItem, ...]:
    names = _pseudonyms((item.id for item in items), "unreadable")
    return tuple(BadItem(names[item.id], _reason(item.reason)) for item in items)


def _reason(text: str) -> str:
    """The kind of a reason, in words of this file."""
    found = text.casefold()
    return next((kind for sign, kind in REASONS if sign in found), "it could not be read")


def _counted(notes: Sequence[str]) -> tuple[str, ...]:
    plural = "s" if len(notes) > 1 else ""
    return (f"{len(notes)} note{plural} on the data withheld (share=no-content).",) if notes else ()


def _card(card: Card, source: str) -> Card:
    """What the owner states stays; a name made from that of a file or a folder goes."""
    if card.name == source or shipped_cards().get(card.name) == card:
        return card
    made = not source or any(re.search(rf"(?<!\w){re.escape(part)}(?!\w)", card.name) for part in _parts(source))
    return replace(card, name="withheld") if made else card


def _parts(source: str) -> set[str]:
    """The names of the files and folders a source names and of those they lie in, with and without their endings."""
    where = source.partition(":")[2]
    pieces = {where, *where.rpartition(",")[::2]} - {""}
    paths = [path for piece in pieces for path in (Path(piece).expanduser(), Path(piece).expanduser().resolve())]
    names = {name for path in paths for name in (path.name, path.stem, path.parent.name)}
    return names - {"", "..", "."}


def _encoder_name(encoder: Any, source: str) -> str:
    """The private source it was loaded from; an own object keeps its name unless that looks like a place."""
    if source:
        return private_encoder(source)
    name = str(getattr(encoder, "name", ""))
    return WITHHELD if "/" in name or "\\" in name else name


def _facts(about: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """The known facts about an encoder, by name; all others are counted and left out."""
    if name is None:
        return {key: value for key, value in about.items() if key in ("source", "dim")}
    kept = {key: _each_text(about[key], _pathless) for key in ENCODER_FACTS if key in about}
    left_out = len(set(about) - set(kept) - {"source", "name"})
    return {"source": name, "name": name, **kept, **({"withheld facts": left_out} if left_out else {})}


def _pathless(text: str) -> str:
    return WITHHELD if "/" in text or "\\" in text else text


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    """Plain JSON with every text changed, also in keys; what is no plain JSON is first made a text."""
    if isinstance(value, Mapping):
        return {change(str(key)): _each_text(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_each_text(item, change) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else change(str(value))


def _kind_only(source: str) -> str:
    kind, colon, _ = source.partition(":")
    return f"{kind}:{WITHHELD}" if colon else source


def _without_place(source: str) -> str:
    """A source whose paths do not say where they lie: absolute and climbing ones keep their last part."""
    kind, colon, where = source.partition(":")
    if not colon:
        return source
    if kind == "karpathy":
        listing, comma, folder = where.rpartition(",")
        return f"{kind}:{_last_part(listing)}{comma}{_last_part(folder)}"
    before, path = re.fullmatch(r"(local-dir:|hf-hub:|[^/\\@]*@)?(.*)", where, re.DOTALL).groups("")  # type: ignore[union-attr]
    return f"{kind}:{before}{path if before == 'hf-hub:' else _last_part(path)}"


def _last_part(path: str) -> str:
    """An absolute path, or one that leaves its folder, as ``.../name``; others as they are.

    >>> _last_part("/home/ada/cats"), _last_part("data/cats"), _last_part("../../ada/cats/")
    ('.../cats', 'data/cats', '.../cats')
    """
    plain = path.replace("\\", "/")
    if not _ABSOLUTE.match(path) and ".." not in plain.split("/"):
        return path
    last = plain.rstrip("/").rpartition("/")[2]
    return f".../{last}" if last not in ("", "~", "..") else "..."
