"""Grids of small pictures with their captions: what was retrieved, seen at a glance and never trusted as markup."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.html.display import Display, escape

if TYPE_CHECKING:
    from PIL import Image

EDGE = 96
_MARKS = {
    True: ("wb-right", "✓", "relevant"),
    False: ("wb-wrong", "✗", "not relevant"),
    None: ("", "", ""),
}


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """One card of a grid.

    picture : a path, a uint8 array (height, width) or (height, width, 3 or 4), a Pillow image, or None when pictures
    are not to be shown. caption : any text, shown as text. line : rank and score, such as "rank 3 · 0.312".
    correct : True ✓, False ✗, None without a mark. alt : for readers who cannot see it; the caption by default.
    """

    picture: Any
    caption: str
    line: str = ""
    correct: bool | None = None
    alt: str = ""


def thumbnails(cards: Iterable[Thumbnail], *, caption: str, edge: int = EDGE, longest: int = 160) -> Display:
    """A grid of pictures: fitted into a square and never cropped, with caption, rank line and mark.

    caption : what is shown and by which rule it was chosen. edge : pixels of the square. longest : characters of a
    caption; what is cut off is said. The pictures lose their EXIF data (place, time, camera) after their orientation
    has been applied.
    """
    cards = list(cards)
    if not caption.strip():
        raise ValueError("a grid needs a caption with the rule by which its pictures were chosen")
    items = "".join(_card(card, edge, longest) for card in cards)
    body = (
        f'<figure class="wb wb-grid"><figcaption>{escape(caption)}</figcaption>'
        f'<ul style="--edge:{edge}px">{items}</ul></figure>'
    )
    lines = [f"{_MARKS[card.correct][1] or '-'} {card.line} {_cut(card.caption, longest)}" for card in cards]
    return Display(body, "\n".join([caption, *lines]))


def _card(card: Thumbnail, edge: int, longest: int) -> str:
    kind, mark, word = _MARKS[None if card.correct is None else bool(card.correct)]
    mark = f'<b aria-hidden="true">{mark}</b><span class="wb-sr">{word}</span> ' if mark else ""
    line = f'<p class="wb-line">{mark}{escape(card.line)}</p>' if mark or card.line else ""
    text = f'<p class="wb-caption" dir="auto">{escape(_cut(card.caption, longest))}</p>' if card.caption else ""
    return f'<li class="{kind}"><div class="wb-frame">{_picture(card, edge)}</div>{line}{text}</li>'


def _picture(card: Thumbnail, edge: int) -> str:
    if card.picture is None:
        return "<span>picture not shown</span>"
    kind, data, (width, height) = encoded(card.picture, edge=edge)
    alt = card.alt or _cut(card.caption, 120) or card.line or "picture without caption"
    pixels = ' class="wb-pixels"' if kind == "png" else ""
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return f'<img{pixels} alt="{escape(alt)}" width="{width}" height="{height}" src="{source}">'


def encoded(picture: Any, *, edge: int = EDGE) -> tuple[str, bytes, tuple[int, int]]:
    """("jpeg" or "png", bytes, (width, height) to show) of a picture fitted into a square of ``edge`` pixels.

    Pictures of at most half the edge are pixel art: kept as PNG and enlarged by a whole factor when shown.
    """
    from PIL import Image

    image = _opened(picture)
    factor = edge // max(image.size)
    file = io.BytesIO()
    if factor >= 2:
        image.save(file, format="PNG", optimize=True)
        return "png", file.getvalue(), (image.width * factor, image.height * factor)
    image.thumbnail((edge, edge), Image.Resampling.LANCZOS, reducing_gap=3.0)
    image.save(file, format="JPEG", quality=82, optimize=True)
    return "jpeg", file.getvalue(), image.size


def _opened(picture: Any) -> Image.Image:
    """The picture as RGB on white, upright, with nothing but its pixels."""
    from PIL import Image, ImageOps

    if isinstance(picture, (str, Path)):
        with Image.open(picture) as file:
            image = ImageOps.exif_transpose(file)
            image.load()
    else:
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    clean = Image.new("RGB", image.size)
    clean.paste(image.convert("RGB"))
    return clean


def _cut(text: str, longest: int) -> str:
    text = " ".join(str(text).split())
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters)"
