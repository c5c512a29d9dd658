"""Reading any picture as RGB floats, and writing still pictures whole or not at all."""

import io
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageColor, ImageOps

from lpaint.errors import ImageError, ParamsError, one_line
from lpaint.files import atomic_write
from lpaint.images.decoding import WHITE, OpenedImage, UndecodableError, flatten, open_picture

STDIO = Path("-")


@dataclass(frozen=True)
class InputImage:
    """A picture to paint.

    Attributes:
        colour: [3, h, w] float32 in [0, 1], sRGB.
        size: H and W of the file; h and w are smaller if the longer side was limited.
        alpha: [H, W] in [0, 1]; None where all is opaque.
        flaw: what is wrong with a file that could still be read ("is cut off: ..."), else empty.
    """

    colour: np.ndarray
    size: tuple[int, int]
    alpha: np.ndarray | None = None
    flaw: str = ""


def read_image(path: Path, matte: tuple[float, float, float] = WHITE) -> np.ndarray:
    """The colours of ``read_picture``."""
    return read_picture(path, matte).colour


def read_picture(
    path: Path, matte: tuple[float, float, float] = WHITE, longest: int | None = None, strict: bool = False
) -> InputImage:
    """Read a picture of any size and of any mode that ``lpaint.images.decoding`` lists.

    Args:
        path: the file; ``-`` reads standard input.
        matte: red, green and blue in [0, 1] of what lies behind transparent pixels.
        longest: the most pixels of the longer side; colours are averaged down before they take memory as floats.
        strict: refuse a file that is cut off; otherwise it is read as far as it goes and has a ``flaw``.

    Raises:
        ImageError: the file is missing, unreadable, damaged, or has too many pixels.
    """
    name = "standard input" if path == STDIO else str(path)
    try:
        source: Path | BinaryIO = io.BytesIO(sys.stdin.buffer.read()) if path == STDIO else path
        opened = open_picture(source, strict)
        return _converted(opened, matte, longest)
    except FileNotFoundError:
        raise ImageError(f"{name}: there is no such file; check the name") from None
    except UndecodableError as error:
        raise ImageError(f"{name}: {error}; {error.advice}") from None
    except MemoryError:
        raise ImageError(f"{name}: does not fit into memory; make it smaller first") from None
    except Exception as error:
        # On damaged bytes Pillow's decoders raise many types: OSError, SyntaxError, struct.error, ...
        reason = one_line(error)
        raise ImageError(f"{name}: the image is damaged or cannot be read ({reason}); get a whole copy") from None


def from_pillow(
    image: Image.Image, matte: tuple[float, float, float] = WHITE, longest: int | None = None
) -> InputImage:
    """Convert a Pillow image; arguments as in ``read_picture``.

    Raises:
        ImageError: the image has no pixels, or cannot be decoded.
    """
    if not min(image.size):
        raise ImageError(f"an image of {image.width} x {image.height} pixels has nothing to paint")
    try:
        upright = ImageOps.exif_transpose(image)
        return _converted(OpenedImage(upright, upright.size), matte, longest)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(f"the image cannot be decoded ({one_line(error)}); get a whole copy") from None


def parse_colour(text: str) -> tuple[float, float, float]:
    """Red, green and blue in [0, 1] of a colour's name or ``#rrggbb``.

    Raises:
        ParamsError: the text is no colour.
    """
    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise ParamsError(f"{text!r} is no colour; give a name such as white, or #rrggbb") from None
    return red / 255, green / 255, blue / 255


def _converted(opened: OpenedImage, matte: tuple[float, float, float], longest: int | None) -> InputImage:
    width, height = opened.size
    image, mask = flatten(opened.image, matte, opened.levels)
    if longest is not None and max(width, height) > longest:
        factor = longest / max(width, height)
        image = image.resize((max(1, round(width * factor)), max(1, round(height * factor))), Image.Resampling.BOX)
    values = np.asarray(image, np.float32)
    # Grey of more than 8 bits is in [0, 1] already.
    pixels = np.repeat(values[:, :, None], 3, 2) if image.mode == "F" else values / np.float32(255)
    alpha = None if mask is None else np.asarray(mask, np.float32) / 255
    return InputImage(np.ascontiguousarray(pixels.transpose(2, 0, 1)), (height, width), alpha, opened.flaw)


def canvas_to_pixels(canvas: np.ndarray, alpha: np.ndarray | None = None) -> np.ndarray:
    """A canvas [3, H, W] in [0, 1] as uint8 [H, W, 3], or [H, W, 4] with ``alpha`` [H, W] in [0, 1]."""
    channels = len(canvas) + (alpha is not None)
    pixels = np.empty((*canvas.shape[1:], channels), np.uint8)
    # Channel by channel: a float copy of a large canvas would double its memory.
    for i, channel in enumerate(canvas):
        pixels[:, :, i] = np.round(np.clip(channel, 0, 1) * 255)
    if alpha is not None:
        pixels[:, :, 3] = np.round(alpha * 255)
    return pixels


def write_image(path: Path, picture: np.ndarray) -> None:
    """Write a canvas [3, H, W] in [0, 1] to a PNG, JPEG or WebP file; the suffix selects the format.

    Raises:
        ImageError: the file cannot be written.
    """
    write_pixels(path, canvas_to_pixels(picture))


def write_pixels(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 [H, W, 3 or 4]; formats and errors as in ``write_image``."""
    with writing(path) as temporary:
        try:
            # PNG ignores the quality; above 95, JPEG files only get larger.
            Image.fromarray(pixels).save(temporary, quality=95)
        except (ValueError, SyntaxError, struct.error) as error:
            # What Pillow's encoders raise; WebP's raises ValueError.
            reason = one_line(error)
            raise ImageError(f"{path}: cannot be encoded ({reason}); write PNG, or a smaller painting") from None


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` on success.

    Raises:
        ImageError: the file cannot be written.
    """
    try:
        with atomic_write(path) as temporary:
            yield temporary
    except OSError as error:
        raise ImageError(f"{path}: cannot be written ({error.strerror or error}); choose another place by -o") from None
    except MemoryError:
        raise ImageError(f"{path}: writing it needs more memory than there is; make the painting smaller") from None
