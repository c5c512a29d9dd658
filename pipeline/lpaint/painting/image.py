"""Reading any picture as RGB floats, and writing pictures whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from lpaint.errors import ImageError, ParamsError
from lpaint.files import replacing

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
VECTORS = ".svg"
WRITABLE = (*PICTURES, VECTORS)


def read_image(path: Path) -> np.ndarray:
    """A picture of any size and mode as float32 [3, H, W] in [0, 1].

    EXIF orientation is applied, transparency is laid on white, grey, CMYK, palette and 16-bit pictures are converted.

    Raises:
        ImageError: missing, unreadable, damaged, or of an absurd size.
    """
    try:
        with Image.open(path) as image:
            image.load()
            upright = ImageOps.exif_transpose(image)
            pixels = _to_rgb(upright)
    except FileNotFoundError:
        raise ImageError(f"{path}: there is no such file; check the name") from None
    except UnidentifiedImageError:
        raise ImageError(
            f"{path}: is not an image that can be read; give a PNG, JPEG, WebP, TIFF, GIF or BMP"
        ) from None
    except Image.DecompressionBombError:
        raise ImageError(f"{path}: has too many pixels to be safe; make it smaller first") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise ImageError(f"{path}: the image is damaged or cannot be read ({reason}); get a whole copy") from None
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I") or image.mode == "F":
        # 16-bit grey. Pillow's own conversion to 8 bits clips instead of scaling.
        grey = np.asarray(image, np.float32)
        scale = 1.0 if image.mode == "F" and grey.max(initial=0) <= 1 else 65535.0
        return np.repeat(np.clip(grey / scale, 0, 1)[:, :, None], 3, 2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"), np.float32) / 255


def check_writable(path: Path) -> None:
    """Refuse an output that could not be written, before any work is done.

    Raises:
        ParamsError: unknown suffix.
        ImageError: the folder does not exist.
    """
    if path.suffix.lower() not in WRITABLE:
        raise ParamsError(f"{path}: cannot write {path.suffix or 'a file without suffix'}; use {', '.join(WRITABLE)}")
    if not path.parent.is_dir():
        raise ImageError(f"{path}: the folder {path.parent} does not exist; make it first")


def write_image(path: Path, picture: np.ndarray) -> None:
    """Write [3, H, W] in [0, 1] to a PNG, JPEG or WebP file, by suffix.

    Raises:
        ImageError: the file cannot be written.
    """
    write_pixels(path, np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0))


def write_pixels(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 [H, W, 3] as it is; see ``write_image``."""
    with writing(path) as temporary:
        Image.fromarray(pixels).save(temporary, quality=95)


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
