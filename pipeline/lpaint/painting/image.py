"""Reading any picture as RGB floats, and writing still pictures whole or not at all."""

import io
import struct
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageColor, ImageOps, UnidentifiedImageError

from lpaint.errors import ImageError, ParamsError
from lpaint.files import replacing

WHITE = (1.0, 1.0, 1.0)
STDIO = Path("-")


@dataclass(frozen=True)
class Picture:
    """``colour`` [3, h, w] float32 in [0, 1], sRGB; ``alpha`` [H, W] in [0, 1], or None where all is opaque.

    ``size``: H and W, those of the file; h and w are smaller where the picture was read at most so long.
    """

    colour: np.ndarray
    size: tuple[int, int]
    alpha: np.ndarray | None = None


def read_image(path: Path, matte: tuple[float, float, float] = WHITE) -> np.ndarray:
    """``read_picture``'s colours alone."""
    return read_picture(path, matte).colour


def read_picture(path: Path, matte: tuple[float, float, float] = WHITE, longest: int | None = None) -> Picture:
    """A picture of any size and mode; ``-`` reads standard input.

    EXIF orientation is applied; an embedded colour profile is converted to sRGB; transparency is laid on ``matte`` (and
    its alpha returned beside); grey, CMYK, palette and 16-bit pictures are converted; of an animation the first frame
    is taken. Colours of a picture whose longer side is above ``longest`` pixels are averaged down to it, before they
    take memory as floats.

    Raises:
        ImageError: missing, unreadable, damaged, or of an absurd size.
    """
    name = "standard input" if path == STDIO else str(path)
    try:
        source: Path | BinaryIO = io.BytesIO(sys.stdin.buffer.read()) if path == STDIO else path
        with warnings.catch_warnings():
            # Pillow warns of half of what it refuses; such pictures are painted.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(source) as image:
                image.load()
                return _converted(ImageOps.exif_transpose(image), matte, longest)
    except FileNotFoundError:
        raise ImageError(f"{name}: there is no such file; check the name") from None
    except UnidentifiedImageError:
        raise ImageError(
            f"{name}: is not an image that can be read; give a PNG, JPEG, WebP, TIFF, GIF or BMP"
        ) from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: has too many pixels to be safe; make it smaller first") from None
    except MemoryError:
        raise ImageError(f"{name}: does not fit into memory; make it smaller first") from None
    except Exception as error:
        # On damaged bytes Pillow's decoders raise whatever they stumble over: OSError, SyntaxError, struct.error, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name}: the image is damaged or cannot be read ({reason}); get a whole copy") from None


def from_pillow(image: Image.Image, matte: tuple[float, float, float] = WHITE, longest: int | None = None) -> Picture:
    """A Pillow image as ``read_picture`` gives it.

    Raises:
        ImageError: it has no pixels, or cannot be decoded.
    """
    if not min(image.size):
        raise ImageError(f"an image of {image.width} x {image.height} pixels has nothing to paint")
    try:
        return _converted(ImageOps.exif_transpose(image), matte, longest)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(f"the image cannot be decoded ({' '.join(str(error).split())}); get a whole copy") from None


def parse_colour(text: str) -> tuple[float, float, float]:
    """A colour's name or ``#rrggbb`` as red, green and blue in [0, 1].

    Raises:
        ParamsError: there is no such colour.
    """
    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise ParamsError(f"{text!r} is no colour; give a name such as white, or #rrggbb") from None
    return red / 255, green / 255, blue / 255


def _converted(image: Image.Image, matte: tuple[float, float, float], longest: int | None = None) -> Picture:
    alpha, size = None, (image.height, image.width)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"), np.float32) / 255
        if alpha.min() == 1:
            alpha = None
    profile = image.info.get("icc_profile")
    if profile and not image.mode.startswith(("I", "F")):
        image = _to_srgb(image, profile)
    if image.mode.startswith("I") or image.mode == "F":
        # 16-bit grey. Pillow's own conversion to 8 bits clips instead of scaling.
        grey = np.asarray(image, np.float32)
        scale = 1.0 if image.mode == "F" and grey.max(initial=0) <= 1 else 65535.0
        image, whole = Image.fromarray(np.nan_to_num(np.clip(grey / scale, 0, 1))), 1.0
    else:
        if alpha is not None:
            ground = Image.new("RGBA", image.size, tuple(round(255 * value) for value in matte))
            image = Image.alpha_composite(ground, image.convert("RGBA"))
        image, whole = image.convert("RGB"), 255.0
    if longest is not None and max(size) > longest:
        factor = longest / max(size)
        smaller = max(1, round(image.width * factor)), max(1, round(image.height * factor))
        image = image.resize(smaller, Image.Resampling.BOX)
    pixels = np.asarray(image, np.float32) / whole
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, 2)
    return Picture(np.ascontiguousarray(pixels.transpose(2, 0, 1)), size, alpha)


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The picture in sRGB, its alpha kept; as it is where the profile is damaged or not for pictures of its mode."""
    colours = image.convert("RGB") if image.mode in ("RGBA", "P", "PA") else image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(colours, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    if converted is not None and image.mode == "RGBA":
        converted.putalpha(image.getchannel("A"))
    return converted or image


def to_pixels(canvas: np.ndarray, alpha: np.ndarray | None = None) -> np.ndarray:
    """[3, H, W] in [0, 1] -> uint8 [H, W, 3], or [H, W, 4] with ``alpha`` [H, W] in [0, 1]."""
    channels = len(canvas) + (alpha is not None)
    pixels = np.empty((*canvas.shape[1:], channels), np.uint8)
    # Channel by channel: a float copy of a large canvas would double its memory.
    for i, channel in enumerate(canvas):
        pixels[:, :, i] = np.round(np.clip(channel, 0, 1) * 255)
    if alpha is not None:
        pixels[:, :, 3] = np.round(alpha * 255)
    return pixels


def write_image(path: Path, picture: np.ndarray) -> None:
    """Write [3, H, W] in [0, 1] to a PNG, JPEG or WebP file, by suffix.

    Raises:
        ImageError: the file cannot be written.
    """
    write_pixels(path, to_pixels(picture))


def write_pixels(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 [H, W, 3 or 4] as it is; see ``write_image``."""
    with writing(path) as temporary:
        try:
            # PNG is lossless whatever the quality; above 95, JPEG only gets larger.
            Image.fromarray(pixels).save(temporary, quality=95)
        except (ValueError, SyntaxError, struct.error) as error:
            # Encoders refuse in their own words, WebP's by a ValueError.
            reason = " ".join(str(error).split())
            raise ImageError(f"{path}: cannot be encoded ({reason}); write PNG, or a smaller painting") from None


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary name that takes ``path``'s place on success.

    Raises:
        ImageError: the file cannot be written.
    """
    try:
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        raise ImageError(f"{path}: cannot be written ({error.strerror or error}); choose another place by -o") from None
    except MemoryError:
        raise ImageError(f"{path}: writing it needs more memory than there is; make the painting smaller") from None
