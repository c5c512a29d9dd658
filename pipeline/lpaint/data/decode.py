"""Decoding of an image file to an upright RGB image. Imports little, because every worker process loads it."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lpaint.errors import DataError, one_line
from lpaint.images.decoding import UndecodableError, flatten, open_picture, to_8_bit

# Limits for one file, so that several worker processes together do not run out of memory.
MAX_BYTES = 1 << 26
MAX_PIXELS = 1 << 26


@dataclass(frozen=True)
class DecodedImage:
    """An RGB ``image``, and the ``width`` and ``height`` in pixels of its upright original."""

    image: Image.Image
    width: int
    height: int


def decode(content: bytes, size: int) -> DecodedImage:
    """Decode an image of any mode with ``lpaint.images.decoding``: transparency on white, 16 bits scaled to 8.

    ``size`` is the side in pixels that it will be reduced to.

    Raises:
        DataError: unknown format, truncated, or more than MAX_PIXELS pixels; the text is only the reason.
        Exception: whatever Pillow raises on damaged content.
    """
    try:
        opened = open_picture(io.BytesIO(content), strict=True, side=size, most_pixels=MAX_PIXELS)
    except UndecodableError as error:
        raise DataError(str(error)) from None
    colours, _ = flatten(opened.image, levels=opened.levels)
    return DecodedImage(to_8_bit(colours).convert("RGB"), *opened.size)


def fit_to_square(image: Image.Image, size: int, fit: str) -> np.ndarray:
    """Pixels [size, size, 3] uint8: the largest centred square (``fit`` "crop") or the whole image ("stretch")."""
    if fit == "crop":
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(image)


def describe_error(error: Exception) -> str:
    """A short reason why an image cannot be read; the same in every run, with no memory addresses and paths."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return one_line(error, 200)
