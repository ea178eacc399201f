"""The colour-emoji font of this machine: where it is, what it may be used for, and how to get one."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SIZES = (
    109,
    160,
    128,
    136,
    96,
    64,
)  # a font of bitmaps opens only at the size they have: Noto's at 109, Apple's at 160
_PLACES = {
    "darwin": ("/System/Library/Fonts/Apple Color Emoji.ttc",),
    "win32": ("C:/Windows/Fonts/seguiemj.ttf",),
    "linux": (
        "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",
        "/usr/share/fonts/google-noto-emoji/NotoColorEmoji.ttf",
        "/usr/share/fonts/google-noto-color-emoji-fonts/NotoColorEmoji.ttf",
        "/usr/share/fonts/noto/NotoColorEmoji.ttf",
    ),
}
_HOW = {
    "darwin": "it comes with macOS, as /System/Library/Fonts/Apple Color Emoji.ttc",
    "win32": "it comes with Windows, as C:/Windows/Fonts/seguiemj.ttf",
}
_INSTALL = (
    "install one: `apt install fonts-noto-color-emoji` (Debian, Ubuntu), `dnf install google-noto-color-emoji-fonts` "
    "(Fedora), `pacman -S noto-fonts-emoji` (Arch)"
)
_OPEN = {
    "Noto Color Emoji": "SIL Open Font License 1.1",
    "Twemoji Mozilla": "CC BY 4.0",
    "Twitter Color Emoji": "CC BY 4.0",
    "OpenMoji": "CC BY-SA 4.0",
}


class NoFont(FileNotFoundError):
    """There is no colour-emoji font, or not the one asked for."""


class NoShaping(RuntimeError):
    """Pillow cannot put skin tones, flags and joined emoji together."""


@dataclass(frozen=True)
class Font:
    """A font that draws emoji in colour, opened at the one size that is used.

    licence : of its pictures, "" where it is not known to be free. advance : width of one emoji.
    """

    path: Path
    name: str
    sha256: str
    licence: str
    advance: float
    opened: Any


def find_font(where: str = "") -> Path:
    """The file asked for, else the first of the known places, else what ``fc-match`` names. :class:`NoFont` without."""
    if where:
        if not Path(where).is_file():
            raise NoFont(f"emoji: there is no font file {where!r}; give the path of a .ttf, or `emoji` alone")
        return Path(where)
    places = [Path(place) for place in _PLACES.get(sys.platform, _PLACES["linux"])]
    found = next((place for place in places if place.is_file()), None) or _matched()
    if found is None:
        how = _HOW.get(sys.platform, _INSTALL)
        raise NoFont(f"emoji: no colour-emoji font was found; {how}, or name a file: dataset=emoji:FONT.ttf")
    return found


def _matched() -> Path | None:
    """What fontconfig has for emoji, if it is in colour."""
    program = shutil.which("fc-match")
    if program is None:
        return None
    asked = [program, "--format", "%{color}\t%{file}", "emoji:lang=und-zsye:color=true"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    color, _, file = said.partition("\t")
    return Path(file) if color == "True" and Path(file).is_file() else None


def open_font(path: Path) -> Font:
    """The font, at the size it can be drawn at. Errors: no text shaping, or a font without colour."""
    from PIL import Image, ImageDraw, ImageFont, features

    if not features.check("raqm"):
        raise NoShaping(
            "emoji: this Pillow has no Raqm, without which skin tones, flags and joined emoji fall into pieces; "
            "install FriBiDi, which its wheels load (`apt install libfribidi0`, `brew install fribidi`), and look "
            "again with `python -m PIL.features`"
        )
    opened = None
    for size in SIZES:
        try:
            opened = ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.RAQM)
            break
        except OSError:  # "invalid pixel size": its bitmaps have another one
            continue
    if opened is None:
        raise NoFont(f"emoji: {path.name} opens at none of the sizes {SIZES}; is it a font? Give another one")
    canvas = Image.new("RGBA", (200, 200))
    ImageDraw.Draw(canvas).text((0, 0), "😀", font=opened, embedded_color=True)
    red, green, blue, _ = canvas.convert("RGBA").split()
    if red.tobytes() == green.tobytes() == blue.tobytes():
        raise NoFont(
            f"emoji: {path.name} has no 😀 in colour that Pillow can draw; give a font with bitmaps, as Noto's"
        )
    name = str(opened.getname()[0])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Font(path, name, digest, _OPEN.get(name, ""), float(opened.getlength("😀")), opened)
