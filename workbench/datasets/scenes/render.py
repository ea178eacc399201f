"""Drawing a scene with whole numbers only, so that every pixel is the same on every machine.

Each object is a sprite: its outline is tested on a grid four times finer than the pixels, and the share of the samples
inside is its coverage. Sprites are made once per image size and pasted.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from workbench.datasets.scenes.world import GRID, Object, Scene

PALETTE = {
    "red": (200, 36, 48), "orange": (240, 138, 22), "yellow": (246, 218, 48), "green": (0, 140, 96),
    "blue": (24, 88, 196), "purple": (170, 92, 204), "black": (36, 36, 42), "white": (252, 252, 250),
}  # fmt: skip
BACKDROP = {
    "gray": (154, 155, 158), "beige": (238, 218, 184), "pink": (243, 186, 194), "light blue": (164, 206, 240),
    "light green": (170, 212, 140),
}  # fmt: skip
_INK = {"yellow": (150, 112, 0), "white": (120, 124, 136)}  # the second colour of light objects; others get near-white
_DIAMETER = {"small": 12, "large": 19}  # in 64ths of the image
_FINE = 4
# Outlines in per cent of the radius; y points down.
_POLYGONS = {
    "square": ((-84, -84), (84, -84), (84, 84), (-84, 84)),
    "triangle": ((0, -94), (98, 82), (-98, 82)),
    "diamond": ((0, -100), (72, 0), (0, 100), (-72, 0)),
    "star": (
        (0, -100), (27, -33), (98, -29), (43, 17), (61, 86),
        (0, 47), (-61, 86), (-43, 17), (-98, -29), (-27, -33),
    ),
    "heart": ((0, 92), (84, 5), (48, -30), (-48, -30), (-84, 5)),
    "cross": (
        (-36, -96), (36, -96), (36, -36), (96, -36), (96, 36), (36, 36),
        (36, 96), (-36, 96), (-36, 36), (-96, 36), (-96, -36), (-36, -36),
    ),
}  # fmt: skip


def render(scene: Scene, size: int = 64, *, shift: tuple[int, int] = (0, 0), brightness: int = 0) -> np.ndarray:
    """The picture of a scene, uint8 (size, size, 3).

    shift : (down, right) in pixels, by which the whole picture moves; the edge is repeated. brightness : per cent by
    which all values rise or fall. Both are for near-duplicates: other pixels, same meaning.

    >>> from workbench.datasets.scenes.world import Object
    >>> image = render(Scene((Object("square", "red", "large", "plain", 1, 1),), "gray"))
    >>> image.shape, image[32, 32].tolist(), image[0, 0].tolist()
    ((64, 64, 3), [200, 36, 48], [160, 161, 164])
    """
    if size < 16:
        raise ValueError(f"size is {size} pixels; shapes and textures need at least 16")
    image = _backdrop(scene.background, size).copy()
    for thing in scene.objects:
        _paste(image, thing, size)
    if shift != (0, 0):
        rows, columns = (np.clip(np.arange(size) - step, 0, size - 1) for step in shift)
        image = image[rows][:, columns]
    if brightness:
        image = np.minimum(image * (100 + brightness) // 100, 255)
    return image.astype(np.uint8)


def _paste(image: np.ndarray, thing: Object, size: int) -> None:
    """Blend one sprite into the image in place."""
    paint, holes = _sprite(thing.shape, thing.color, thing.size, thing.texture, size)
    side = len(paint)
    top, left = (
        min(max(size * (2 * cell + 1) // (2 * GRID) - side // 2 + nudge * size // 64, 0), size - side)
        for cell, nudge in ((thing.row, thing.nudge[0]), (thing.column, thing.nudge[1]))
    )
    patch = image[top : top + side, left : left + side]
    patch *= holes
    patch += paint
    patch >>= 4


@lru_cache(maxsize=64)
def _backdrop(background: str, size: int) -> np.ndarray:
    """A soft vertical gradient, uint16 (size, size, 3)."""
    rows = 6 - 12 * np.arange(size) // size
    column = np.array(BACKDROP[background])[None, :] + rows[:, None]
    return np.ascontiguousarray(np.broadcast_to(column[:, None, :], (size, size, 3))).astype(np.uint16)


@lru_cache(maxsize=4096)
def _sprite(shape: str, color: str, scale: str, texture: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(paint, holes): the sums of the colour samples plus rounding, and the samples outside, of 16 per pixel."""
    side = max(5, _DIAMETER[scale] * size // 64)
    inside = _inside(shape, side * _FINE)
    rim = inside & ~_eroded(inside, max(1, _FINE * size // 96))
    base = np.array(PALETTE[color])
    ink = np.array(_INK.get(color, (250, 248, 244)))
    samples = np.where(_pattern(texture, side * _FINE, scale, size)[:, :, None], ink, base)
    samples = np.where(rim[:, :, None], base * 38 // 100, samples) * inside[:, :, None]
    paint = samples.reshape(side, _FINE, side, _FINE, 3).sum((1, 3))
    covered = inside.reshape(side, _FINE, side, _FINE).sum((1, 3))
    return (paint + 8).astype(np.uint16), (16 - covered)[:, :, None].astype(np.uint16)


@lru_cache(maxsize=128)
def _inside(shape: str, side: int) -> np.ndarray:
    """Which of the (side, side) samples lie inside the outline. Whole numbers: 100 is the radius times ``side``."""
    line = (2 * np.arange(side, dtype=np.int64) + 1 - side) * 100
    x, y = line[None, :], line[:, None]

    def disc(cx: int, cy: int, radius: int) -> np.ndarray:
        return np.asarray((x - cx * side) ** 2 + (y - cy * side) ** 2 <= (radius * side) ** 2)

    if shape == "circle":
        return disc(0, 0, 98)
    if shape == "moon":
        return np.asarray(disc(6, 0, 98) & ~disc(52, -14, 80))
    inside = _inside_polygon(_POLYGONS[shape], x, y, side)
    return inside | disc(48, -30, 50) | disc(-48, -30, 50) if shape == "heart" else inside


def _inside_polygon(corners: tuple[tuple[int, int], ...], x: np.ndarray, y: np.ndarray, side: int) -> np.ndarray:
    """Even-odd rule: a sample is inside if a ray to the right crosses the outline an odd number of times."""
    inside = np.zeros(np.broadcast_shapes(x.shape, y.shape), bool)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        if y0 == y1:
            continue
        if y0 > y1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        crosses = (y0 * side <= y) & (y < y1 * side)
        left_of_edge = (x - x0 * side) * (y1 - y0) < (y - y0 * side) * (x1 - x0)
        inside ^= crosses & left_of_edge
    return inside


def _eroded(inside: np.ndarray, steps: int) -> np.ndarray:
    """The samples whose neighbours up to ``steps`` away along rows and columns are inside as well."""
    side = len(inside)
    padded = np.pad(inside, steps)
    shifted = [padded[i : i + side, steps : steps + side] for i in range(2 * steps + 1)]
    shifted += [padded[steps : steps + side, i : i + side] for i in range(2 * steps + 1)]
    return np.asarray(np.logical_and.reduce(shifted))


def _pattern(texture: str, side: int, scale: str, size: int) -> np.ndarray:
    """Where the second colour goes, bool (side, side): slanted stripes, dots, or a chessboard."""
    line = np.arange(side) - side // 2
    x, y = line[None, :], line[:, None]
    if texture == "striped":
        band = max(1, 13 * size // 64)
        return np.asarray((x + y) // band % 2 == 0)
    if texture == "dotted":
        step = max(2, (18 if scale == "small" else 22) * size // 64)
        dx, dy = (x + step // 2) % step - step // 2, (y + step // 2) % step - step // 2
        return np.asarray(100 * (dx**2 + dy**2) <= 9 * step**2)
    if texture == "checked":
        cell = max(1, (12 if scale == "small" else 17) * size // 64)
        return np.asarray((x // cell + y // cell) % 2 == 0)
    return np.zeros((side, side), bool)
