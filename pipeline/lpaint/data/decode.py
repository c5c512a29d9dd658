"""One picture's bytes to an upright RGB image. Imports little: every worker process loads it."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from lpaint.errors import DataError

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
    """Decode a picture of any mode: EXIF orientation applied, transparency laid on white, 16 bits scaled to 8.

    ``size`` is the side that it will be reduced to. Raises DataError where there are more than MOST_PIXELS pixels, and
    whatever Pillow raises on damaged content.
    """
    image: Image.Image = Image.open(io.BytesIO(content))
    width, height = image.size
    # JPEG can be decoded at half or a quarter of its size at no loss, as long as reduction still follows.
    image.draft("RGB", (2 * size, 2 * size))
    if image.width * image.height > MOST_PIXELS:
        raise DataError(f"has {width} x {height} pixels, more than the {MOST_PIXELS:,} that are read")
    image.load()
    upright = ImageOps.exif_transpose(image)
    if (upright.width > upright.height) != (image.width > image.height):
        width, height = height, width
    return Picture(_to_rgb(upright), width, height)


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
    if isinstance(error, UnidentifiedImageError):
        return "is no image, or of a kind that cannot be read"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:200] or type(error).__name__


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _deep_grey(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits; Pillow's own conversion would clip instead of scale."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    # Floating point has no agreed white: 1, 255 or 65535, whichever holds all values.
    whites = (1.0, 255.0) if image.mode == "F" else ()
    white = next((limit for limit in whites if values.max() <= limit), 65535.0)
    return Image.fromarray(np.clip(values * (255 / white) + 0.5, 0, 255).astype(np.uint8)).convert("RGB")
