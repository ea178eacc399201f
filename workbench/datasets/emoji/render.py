"""Drawing emoji: one square picture on white for each, or the reason why the font has none."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.datasets.emoji.families import TAG_END, Emoji
from workbench.datasets.emoji.fonts import Font

NOBODYS = ("\U0010fffd", "🇽🇽")  # no emoji: what a font draws for them stands for all that it does not know
IN_PIECES, WITHOUT_TAGS = "several glyphs side by side", "drawn without its tags"
NO_GLYPH, STAND_IN = "no glyph", "a sign for anything unknown"


@dataclass(frozen=True, eq=False)
class Pictures:
    """pixels (n, size, size, 3) uint8 of the emoji that the font has, their code points, and why others are left out.

    left_out : code points -> reason.
    """

    pixels: np.ndarray
    texts: tuple[str, ...]
    left_out: Mapping[str, str]


def render(font: Font, emoji: Sequence[Emoji], *, size: int, progress: bool | None = None) -> Pictures:
    """All pictures at once, some seconds. A bar shows on a terminal, or as ``progress`` says."""
    from tqdm import tqdm

    pixels = np.empty((len(emoji), size, size, 3), np.uint8)
    texts: list[str] = []
    left_out: dict[str, str] = {}
    shown = sys.stderr.isatty() if progress is None else progress
    unknown = {_drawn(font, text).tobytes() for text in NOBODYS}
    for one in tqdm(emoji, desc="draw", unit="emoji", disable=not shown, file=sys.stderr):
        image = _drawn(font, one.text)
        reason = _missing(font, one.text, image, unknown)
        if reason:
            left_out[one.text] = reason
        else:
            pixels[len(texts)] = _on_white(image, size)
            texts.append(one.text)
    return Pictures(pixels[: len(texts)], tuple(texts), left_out)


def _drawn(font: Font, text: str) -> Any:
    """What the font draws, on a transparent canvas that just holds it."""
    from PIL import Image, ImageDraw

    left, top, right, bottom = font.opened.getbbox(text)
    canvas = Image.new("RGBA", (max(1, int(right - left)), max(1, int(bottom - top))), (255, 255, 255, 0))
    ImageDraw.Draw(canvas).text((-left, -top), text, font=font.opened, embedded_color=True)
    return canvas


def _missing(font: Font, text: str, image: Any, unknown: set[bytes]) -> str:
    """Why this is no picture of the emoji, "" if it is one.

    What a font does not know as one sequence it draws as several glyphs, so that the line gets wider than one emoji.
    Tags, which make the flags of England, Scotland and Wales, have no width: without them a black flag is left. For a
    country that it does not know, Noto has a flag with a question mark.
    """
    if font.opened.getlength(text) > 1.5 * font.advance:
        return IN_PIECES
    data = image.tobytes()
    if not np.asarray(image)[..., 3].any():
        return NO_GLYPH
    if data in unknown:
        return STAND_IN
    if TAG_END in text and data == _drawn(font, text[0]).tobytes():
        return WITHOUT_TAGS
    return ""


def _on_white(image: Any, size: int) -> np.ndarray:
    """In the middle of a white square, without transparency, at the size asked for."""
    from PIL import Image

    side = max(image.size)
    square = Image.new("RGBA", (side, side), (255, 255, 255, 255))
    square.alpha_composite(image, ((side - image.width) // 2, (side - image.height) // 2))
    return np.asarray(square.convert("RGB").resize((size, size), Image.Resampling.LANCZOS))
