"""One picture's bytes to an upright RGB image. Imports little: every worker process loads it."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lpaint.errors import DataError, one_line
from lpaint.images.decoding import UndecodableError, flatten, open_picture, to_8_bit

# The longest file and the largest picture that are read: a few such in as many processes must not fill the memory.
MOST_BYTES = 1 << 26
MOST_PIXELS = 1 << 26


@dataclass(frozen=True)
class Picture:
    """A decoded ``image`` in RGB, and the ``width`` and ``height`` in pixels that its original has upright."""

    image: Image.Image
    width: int
    height: int


def decode(content: bytes, size: int) -> Picture:
    """Decode a picture of any mode, see ``lpaint.images.decoding``: transparency laid on white, 16 bits scaled to 8.

    ``size`` is the side that it will be reduced to.

    Raises:
        DataError: of a kind that cannot be read, cut off, or of more than MOST_PIXELS pixels; it holds only the reason.
        Exception: whatever Pillow raises on damaged content.
    """
    try:
        opened = open_picture(io.BytesIO(content), strict=True, side=size, most_pixels=MOST_PIXELS)
    except UndecodableError as error:
        raise DataError(str(error)) from None
    colours, _ = flatten(opened.image, levels=opened.levels)
    return Picture(to_8_bit(colours).convert("RGB"), *opened.size)


def square(image: Image.Image, size: int, fit: str) -> np.ndarray:
    """Pixels [size, size, 3] uint8 of the largest centred square (``fit`` crop) or of the whole, squeezed (stretch)."""
    if fit == "crop":
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(image)


def explain(error: Exception) -> str:
    """A short sentence on why a picture is bad, the same in every run: no addresses in memory, no absolute paths."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return one_line(error, 200)
