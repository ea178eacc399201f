"""Opening pictures: odd but sound ones have the right pixels, broken ones a sentence, none costs the machine."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from workbench.datasets import Member
from workbench.datasets.pictures import open_picture

WIDE = [0, 128 * 257, 65535, 300]  # two bytes per sample; their upper bytes are 0, 128, 255, 1
COLOURS = np.random.default_rng(3).integers(0, 255, (64, 48, 3), dtype=np.uint8)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, kind: int, rows: bytes, *, extra: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[bytes], Image.Image]:
    """Opens bytes as a file and as a member of an archive; both must give the same picture."""

    def of(data: bytes) -> Image.Image:
        path = tmp_path / "secret-folder" / "picture.bin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"before" + data + b"after")
        from_member = open_picture(Member(path, "picture.bin", 6, len(data)))
        path.write_bytes(data)
        found = open_picture(path)
        assert found.mode == from_member.mode == "RGB"
        assert found.tobytes() == from_member.tobytes()
        return found

    return of


def row(picture: Image.Image) -> list[tuple[int, ...]]:
    return [picture.getpixel((x, 0)) for x in range(picture.width)]


def test_sixteen_bits_are_scaled_not_clipped(opened: Callable[[bytes], Image.Image]) -> None:
    grey = [(value >> 8,) * 3 for value in WIDE]
    assert row(opened(png(4, 1, 16, 0, b"\0" + struct.pack(">4H", *WIDE)))) == grey
    assert row(opened(png(1, 1, 16, 2, b"\0" + struct.pack(">3H", *WIDE[:3])))) == [(0, 128, 255)]
    for kind in ("TIFF", "PPM"):
        assert row(opened(encoded(Image.fromarray(np.array([WIDE], np.uint16)), kind))) == grey
    with pytest.raises(OSError, match=r"32-bit numbers .mode I. whose range is not stated"):
        opened(encoded(Image.fromarray(np.array([WIDE], np.int32)), "TIFF"))


def test_transparency_is_dropped_and_hidden_colours_show(opened: Callable[[bytes], Image.Image]) -> None:
    assert row(opened(encoded(Image.new("RGBA", (1, 2), (200, 10, 20, 0)), "PNG"))) == [(200, 10, 20)]
    palette = Image.new("P", (2, 1))
    palette.putpalette([1, 2, 3, 9, 8, 7])
    palette.putpixel((1, 0), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert row(opened(encoded(palette, "PNG", transparency=b"\x00\x80"))) == [(1, 2, 3), (9, 8, 7)]
    assert row(opened(encoded(Image.new("1", (1, 2), 1), "PNG"))) == [(255, 255, 255)]


def test_cmyk_with_and_without_the_marker_of_adobe(opened: Callable[[bytes], Image.Image]) -> None:
    data = encoded(Image.new("CMYK", (16, 24), (255, 0, 0, 0)), "JPEG", quality=95)
    marker = data.index(b"\xff\xee")
    length = struct.unpack(">H", data[marker + 2 : marker + 4])[0]
    for variant in (data, data[:marker] + data[marker + 2 + length :]):
        assert np.abs(np.array(opened(variant).getpixel((8, 8))) - (0, 255, 255)).max() <= 2


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})])
def test_the_first_frame_counts(opened: Callable[[bytes], Image.Image], kind: str, options: dict[str, Any]) -> None:
    red, green = Image.new("RGB", (8, 6), (255, 0, 0)), Image.new("RGB", (8, 6), (0, 255, 0))
    assert opened(encoded(red, kind, save_all=True, append_images=[green], **options)).getpixel((3, 3)) == (255, 0, 0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 10))
def test_orientation(opened: Callable[[bytes], Image.Image], kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(kind, {})
    data = encoded(Image.fromarray(COLOURS), kind, exif=exif, **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = ImageOps.exif_transpose(image).convert("RGB")
    found = opened(data)
    assert found.size == ((64, 48) if orientation in (5, 6, 7, 8) else (48, 64))
    assert found.tobytes() == expected.tobytes()


def test_orientation_of_sixteen_bits(opened: Callable[[bytes], Image.Image]) -> None:
    exif = Image.Exif()
    exif[274] = 6
    data = encoded(Image.fromarray(np.array([WIDE, WIDE], np.uint16)), "PNG", exif=exif)
    found = opened(data)
    assert (found.size, [found.getpixel((0, y))[0] for y in range(4)]) == ((2, 4), [0, 128, 255, 1])


def test_a_broken_exif_block_spoils_nothing(opened: Callable[[bytes], Image.Image]) -> None:
    data = encoded(Image.fromarray(COLOURS), "JPEG", progressive=True)
    block = b"\xff\xe1" + struct.pack(">H", 20) + b"Exif\0\0II*\0\xff\xff\xff\xffabcd"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert opened(data[:2] + block + data[2:]).tobytes() == opened(data).tobytes()


def cut(kind: str) -> bytes:
    data = encoded(Image.fromarray(COLOURS), kind)
    return data[: len(data) // 2]


BROKEN = {
    "empty": (b"", r"the file is empty \(0 bytes\)"),
    "web page": (b"<!DOCTYPE html><html>404", "is text, not a picture: it begins with '<!DOCTYPE html>"),
    "vector": (b"<svg xmlns='x'/>", "is text, not a picture"),
    "program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "bytes 25 21 50 53.* none of the formats"),
    "one byte": (b"P", "none of the formats that are read"),
    "cut JPEG": (cut("JPEG"), "the JPEG file is cut off or damaged .*; copy or download it again"),
    "cut PNG": (cut("PNG"), "the PNG file is cut off or damaged"),
    "cut GIF": (cut("GIF"), "the GIF file is cut off or damaged"),
    "cut WebP": (cut("WEBP"), "the WebP file has a damaged header"),
    "cut header": (cut("JPEG")[:30], "the JPEG file has a damaged header"),
    "text bomb": (
        png(1, 1, 8, 0, b"\0\1", extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 80_000_000))),
        "the PNG file has a damaged header .Decompressed data too large",
    ),
    "many texts": (
        png(1, 1, 8, 0, b"\0\1", extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 10**6)) * 100),
        "Too much memory used in text chunks",
    ),
    "20,000 squared": (
        png(20_000, 20_000, 8, 0, b""),
        r"20,000 x 20,000 pixels = 400\.0 megapixels, the limit is 100; save it smaller",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_pictures(opened: Callable[[bytes], Image.Image], name: str) -> None:
    data, message = BROKEN[name]
    with pytest.raises(OSError, match=message) as caught:
        opened(data)
    assert "secret-folder" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_long_picture_is_fine(opened: Callable[[bytes], Image.Image]) -> None:
    found = opened(png(20_000, 50, 8, 0, (b"\0" + b"\7" * 20_000) * 50))
    assert (found.size, found.getpixel((19_999, 49))) == ((20_000, 50), (7, 7, 7))


def test_what_is_no_file(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.png")
    for path, message in (
        (tmp_path, "is a folder or a device"), (tmp_path / "none.png", "does not exist"),
        (tmp_path / "pipe.png", "is a folder or a device"), (Path("x" * 5000), "does not exist|cannot be opened"),
    ):  # fmt: skip
        with pytest.raises(OSError, match=message):
            open_picture(path)
    with pytest.raises(ValueError, match=r"uint8 .height, width, 3.; got float64 \(2, 3\)"):
        open_picture(np.zeros((2, 3)))


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large.webp").open("wb") as file:
        file.write(b"RIFF    WEBP")
        file.truncate(600 * 2**20)
    with pytest.raises(OSError, match="the file has 600 MiB, the limit is 512 MiB"):
        open_picture(tmp_path / "large.webp")


def test_global_limits_of_pillow_change_nothing(
    opened: Callable[[bytes], Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded(Image.fromarray(COLOURS), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert opened(data).size == (48, 64)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(OSError, match=r"400\.0 megapixels"):
        opened(BROKEN["20,000 squared"][0])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(OSError, match=r"LOAD_TRUNCATED_IMAGES is switched on.*set it to False"):
        opened(cut("JPEG"))


def test_threads_do_not_race(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(encoded(Image.fromarray(COLOURS), "PNG"))
    (tmp_path / "large.png").write_bytes(BROKEN["20,000 squared"][0])
    before, wrong = list(warnings.filters), []

    def work() -> None:
        for _ in range(40):
            if open_picture(tmp_path / "good.png").size != (48, 64):
                wrong.append("size")
            try:
                open_picture(tmp_path / "large.png")
                wrong.append("not refused")
            except OSError:
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert warnings.filters == before


def test_memory_stays_below_the_stated_bound(tmp_path: Path) -> None:
    pixels = np.repeat(np.repeat(np.random.default_rng(0).integers(0, 255, (300, 250, 4), np.uint8), 10, 0), 10, 1)
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / "turned.webp").write_bytes(encoded(Image.fromarray(pixels), "WEBP", exif=exif))
    code = (
        "import resource, sys; from pathlib import Path; from PIL import Image\n"
        "from workbench.datasets.pictures import open_picture\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "Image.init(); before = peak(); open_picture(Path(sys.argv[1])); print(peak() - before)"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "turned.webp")]
    found = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=60)
    assert int(found.stdout) < 24 * 3000 * 2500
