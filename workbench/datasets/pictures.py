"""Opening pictures: any content of an image side becomes one upright RGB picture, or an error that says why not."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from workbench.datasets.collection import Member


def open_picture(content: Path | Member | np.ndarray) -> Any:
    """An upright RGB ``PIL.Image``, fully decoded. A decompression bomb is an error."""
    from PIL import Image, ImageOps

    if isinstance(content, np.ndarray):
        return Image.fromarray(content)
    source = io.BytesIO(content.read()) if isinstance(content, Member) else content
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(source) as image:
            image.load()
            return ImageOps.exif_transpose(image).convert("RGB")
