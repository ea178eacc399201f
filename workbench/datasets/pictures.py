"""Opening pictures: any content of an image side becomes one upright RGB picture, or an error that says why not.

What is known before a pixel is decoded decides: the file's size, its format and the width and height in its header.
Nothing here reads or changes Pillow's global limits or the warnings filter, so threads and other code cannot interfere.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO, Any

import numpy as np

from workbench.datasets.collection import Member

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
MEGAPIXELS = 100
FILE_BYTES = 512 * 2**20
ORIENTATION = 274


def open_picture(content: Path | Member | np.ndarray) -> Any:
    """An upright RGB ``PIL.Image``, fully decoded.

    content : a file or archive member (JPEG, PNG, WebP, GIF, BMP, TIFF, PPM, AVIF) or uint8 pixels (height, width, 3).
    The rules are those of the ecosystem, written down: the first frame of an animation; the EXIF orientation applied,
    a broken EXIF block ignored; transparency dropped, so that hidden colours show; CMYK in JPEG read as inverted, as
    Adobe writes it, without a colour profile; 16 bits per channel reduced to the upper eight, never clipped.
    Errors: OSError or ValueError with one sentence and no folder names: files of more than 512 MiB, more than 100
    megapixels (seen in the header, before decoding), formats other than these, whatever is cut off or damaged.
    Memory: below 24 bytes per pixel (WebP needs 20, the other formats 5 to 16) plus the bytes of the file, so at most
    2.4 GB for the largest picture.

    >>> open_picture(np.zeros((2, 3, 3), np.uint8)).size
    (3, 2)
    """
    from PIL import Image

    if isinstance(content, np.ndarray):
        if content.dtype != np.uint8 or content.ndim != 3 or content.shape[2] != 3:
            raise ValueError(f"pixels must be uint8 (height, width, 3); got {content.dtype} {content.shape}")
        return Image.fromarray(content)
    with _bytes_of(content) as file:
        start = file.read(64)
        try:
            image = _opened(file, start)
        except Refused:
            raise
        except Exception as error:  # decoders raise anything from SyntaxError to zlib.error
            raise OSError(f"{_format(start)} has a damaged header ({_short(error)}); save it again") from error
        _check_size(image.size)
        try:
            image.load()
            return _upright(_eight_bits(image)).convert("RGB")
        except Refused:
            raise
        except Exception as error:  # see above
            raise OSError(
                f"the {image.format} file is cut off or damaged ({_short(error)}); copy or download it again"
            ) from error


class Refused(OSError):
    """A picture that is not opened, with the sentence that says why."""


def _bytes_of(content: Path | Member) -> IO[bytes]:
    size = content.size if isinstance(content, Member) else _size_of(content)
    if size == 0:
        raise Refused("the file is empty (0 bytes); copy or download it again")
    if size > FILE_BYTES:
        raise Refused(f"the file has {size / 2**20:,.0f} MiB, the limit is {FILE_BYTES // 2**20} MiB; save it smaller")
    return io.BytesIO(content.read()) if isinstance(content, Member) else content.open("rb")


def _size_of(path: Path) -> int:
    try:
        if not path.is_file():
            what = "is a folder or a device" if path.exists() else "does not exist"
            raise Refused(f"the file {what}; give the path of a picture")
        return path.stat().st_size
    except Refused:
        raise
    except OSError as error:
        raise Refused(f"the file cannot be opened ({_short(error)}); check its name and permissions") from None


def _opened(file: IO[bytes], start: bytes) -> Any:
    """The picture with its header read, by the first format whose signature fits.

    ``Image.open`` would hold the size against a limit that any other code may change, so its factories are called.
    """
    from PIL import Image, ImageFile

    Image.init()
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise Refused(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is switched on, so that cut-off pictures would pass as grey ones; set "
            "it to False"
        )
    for name in FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))
        if factory is None or (accept is not None and accept(start[:16].ljust(16, b"\0")) is not True):
            continue
        file.seek(0)
        return factory(file, "")
    raise Refused(f"{_format(start)} is none of the formats that are read ({', '.join(FORMATS)}); convert or remove it")


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise Refused(f"the picture has {width} x {height} pixels; save it again")
    if width * height > MEGAPIXELS * 10**6:
        raise Refused(
            f"the picture has {width:,} x {height:,} pixels = {width * height / 1e6:,.1f} megapixels, the limit is "
            f"{MEGAPIXELS}; save it smaller, encoders see a few hundred pixels a side"
        )


def _eight_bits(image: Any) -> Any:
    """16-bit grey reduced to its upper eight bits, as Pillow does with 16-bit colour; other wide numbers refused."""
    from PIL import Image

    wide = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if wide:
        orientation = _orientation(image)
        narrow = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        narrow.getexif()[ORIENTATION] = orientation
        return narrow
    if image.mode in ("I", "F"):
        raise Refused(
            f"the picture holds 32-bit numbers (mode {image.mode}) whose range is not stated; save it with 8 or 16 bits"
        )
    image.info.pop("transparency", None)
    return image.convert("RGBA") if image.mode == "RGBa" else image


def _orientation(image: Any) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # a broken EXIF block says nothing about how to turn a sound picture
        return 1


def _upright(image: Any) -> Any:
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90,
    }  # fmt: skip
    turn = turns.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _format(start: bytes) -> str:
    """What the first bytes say: "the JPEG file", or how a file that is no picture begins."""
    signatures = {b"\xff\xd8": "JPEG", b"\x89PNG": "PNG", b"GIF8": "GIF", b"BM": "BMP", b"II": "TIFF", b"MM": "TIFF"}
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "the WebP file"
    known = next((name for mark, name in signatures.items() if start.startswith(mark)), "")
    text = start.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<svg", b"{", b"[")):
        return f"the file is text, not a picture: it begins with {start[:20].decode('ascii', 'replace')!r} and"
    return f"the {known} file" if known else f"the file begins with the bytes {start[:8].hex(' ')} and"


def _short(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:120] or type(error).__name__
