"""Decoding pictures, for painting and for data preparation. Only this module opens pictures of users with Pillow.

``open_picture`` reads a file and turns it upright. ``flatten`` converts any mode to 8-bit RGB or to grey in [0, 1].

| mode | values | becomes |
|---|---|---|
| 1 | 0, 1 | black, white |
| L | 0..255 | grey |
| P | index | the colours of its palette |
| RGB, RGBX | 0..255 | as it is |
| LA, PA, RGBA | 0..255 | colour and alpha |
| La, RGBa | 0..255, colour times alpha | colour divided by alpha, and alpha |
| P with tRNS | index | colour, and the alpha of its palette |
| 1, L, I;16, RGB with tRNS | as above and below | pixels of exactly that value are transparent |
| CMYK | 0..255 | RGB without a profile by (255 - C)(255 - K) / 255; a JPEG is inverted, as Adobe writes it |
| YCbCr, HSV | 0..255 | RGB |
| LAB | L 0..255, a and b with 0 at 128 | sRGB |
| I;16, I;16B, I;16L, I;16N | 0..65535 | grey, white at 65535 (TIFF of 12 bits: 4095) |
| I | 0..65535 or more | grey, white at 65535 (TIFF of signed 16 bits: 32767); beyond that at the largest value |
| F | 0..1, 0..255, 0..65535 or any | grey, white as below; NaN is black |

Floating point has no agreed white. White is the smallest of 1, 255 and 65535 that is at least half of the largest
finite value, since sharpening and resampling overshoot. If that value is above 131070, it is white itself. Values below
0 are black, values above white are white.

An embedded ICC profile is converted to sRGB, except for I and F. Only the first frame of an animation is read.

This module imports little, because every worker process of the data preparation loads it.
"""

import io
import re
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError, features

# Formats that Pillow may open: not EPS, which starts Ghostscript, nor any that no camera, scanner or bitmap editor
# writes. TGA comes last: it has no signature.
FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI", "TIFF", "WEBP", "TGA"
)  # fmt: skip
WHITE = (1.0, 1.0, 1.0)
# Formats that store rows in order, so that a file that is cut off holds a part of the picture.
_BY_ROWS = frozenset({"BMP", "DIB", "JPEG", "MPO", "PCX", "PNG", "PPM", "TGA", "TIFF"})
_END_OF_JPEG = b"\xff\xd9"
# JPEG: the marker that starts a segment, and a restart marker, which lies in the data of a scan.
_SEGMENT, _RESTART = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])"), re.compile(rb"\xff[\xd0-\xd7]")
# Pseudorandom bytes without 255, which would start a marker.
_NOISE = bytes(value * value * 73 % 251 for value in range(11, 139))
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
# Candidates for the white of floating point, and the factor by which a picture may exceed its white.
_WHITES, _OVERSHOOT = (1.0, 255.0, 65535.0), 2.0
# PNG gives the transparent colour in stored values, while Pillow converts the pixels to 8 bits: scale by raw mode.
_WIDENED = {"L;2": 85, "L;4": 17}
_CUT_OFF = ("is cut off: the file ends before its picture does", "get a whole copy")


class UndecodableError(Exception):
    """A picture cannot be read: ``str`` is the reason ("is no image"), ``advice`` says what to do."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.advice = advice


@dataclass(frozen=True)
class GreyLevels:
    """How grey of more than 8 bits is stored.

    Attributes:
        white: the value of white; None where the file does not give it.
        inverted: 0 is white.
        unsigned: integers of 32 bits are unsigned.
    """

    white: float | None = None
    inverted: bool = False
    unsigned: bool = False


@dataclass(frozen=True)
class OpenedImage:
    """A decoded picture.

    Attributes:
        image: the picture in its own mode, upright.
        size: width and height of the whole picture, upright; ``image`` is smaller if it was reduced during decoding.
        levels: how grey is stored.
        flaw: what is wrong with a file that could still be read ("is cut off: ..."), else empty.
    """

    image: Image.Image
    size: tuple[int, int]
    levels: GreyLevels = GreyLevels()
    flaw: str = ""


def open_picture(
    source: Path | BinaryIO, strict: bool = False, side: int | None = None, most_pixels: int | None = None
) -> OpenedImage:
    """Open and decode a picture, and apply its EXIF orientation.

    Args:
        source: a file, or a binary stream that can seek.
        strict: refuse a file that is cut off; otherwise at least half of its rows must be complete.
        side: the side in pixels to which the caller will reduce the picture; a JPEG is decoded at a half or a quarter
            of its size if both sides stay at least twice this long.
        most_pixels: the most pixels that are decoded; None = Pillow's own limit alone.

    Raises:
        UndecodableError: the format cannot be read, the file is cut off, or it has too many pixels.
        Exception: the bytes are damaged; Pillow's decoders raise many types: OSError, SyntaxError, struct.error, ...
    """
    if isinstance(source, Path):
        # A stream, not the name: Pillow maps a TIFF by name into memory, and garbles it if its EXIF data rotate it.
        with source.open("rb") as stream:
            return open_picture(stream, strict, side, most_pixels)
    head = source.read(12)
    brand = head[8:] if head[4:8] == b"ftyp" else b""
    formats = (*FORMATS, "HEIF") if brand in _HEIF_BRANDS and _heif_is_read() else FORMATS
    with warnings.catch_warnings():
        # Pillow warns of odd metadata, which does not matter, and at half of its own limit of pixels.
        warnings.simplefilter("ignore")
        try:
            with Image.open(source, formats=formats) as image:
                return _decoded(image, source, strict, side, most_pixels)
        except UnidentifiedImageError:
            raise _unidentified(brand) from None
        except Image.DecompressionBombError:
            raise UndecodableError("has too many pixels to be safe", "make it smaller first") from None


def open_png(path: Path) -> np.ndarray:
    """The pixels [H, W, 3] uint8 of a PNG that lpaint wrote."""
    with Image.open(path, formats=("PNG",)) as image:
        return np.asarray(image.convert("RGB"))


def flatten(
    image: Image.Image, matte: tuple[float, float, float] = WHITE, levels: GreyLevels = GreyLevels()
) -> tuple[Image.Image, Image.Image | None]:
    """Colour and alpha of a picture of any mode, by the module's table.

    Args:
        image: the picture; its ``info`` may be changed.
        matte: red, green and blue in [0, 1] of what lies behind transparent pixels.
        levels: how grey of more than 8 bits is stored.

    Returns:
        The picture in mode RGB, or in mode F with grey in [0, 1] if it has more than 8 bits and no transparency;
        and its alpha in mode L, None where all is opaque.
    """
    colours, alpha = _separated(image, levels)
    profile = image.info.get("icc_profile")
    if profile and colours.mode != "F":
        colours = _to_srgb(colours, profile)
    if alpha is not None and alpha.getextrema() == (255, 255):
        alpha = None
    if alpha is None:
        return (colours if colours.mode == "F" else colours.convert("RGB")), None
    layer = to_8_bit(colours).convert("RGB")
    layer.putalpha(alpha)
    background = Image.new("RGBA", layer.size, tuple(round(255 * value) for value in matte))
    return Image.alpha_composite(background, layer).convert("RGB"), alpha


def to_8_bit(image: Image.Image) -> Image.Image:
    """A picture of mode F, grey in [0, 1], in mode L; any other picture unchanged."""
    if image.mode != "F":
        return image
    return Image.fromarray((np.asarray(image) * 255 + 0.5).astype(np.uint8))


def to_unit(values: np.ndarray) -> np.ndarray:
    """Numbers of any type as float32 in [0, 1].

    White is 1 for booleans, 255 for uint8, 65535 for uint16, the smaller of the two that holds all values for other
    integers, and for floating point as in the module's description.
    """
    whites = {"b": (1.0,), "f": _WHITES}.get(values.dtype.kind, _WHITES[1:])
    if values.dtype in (np.uint8, np.uint16):
        return values.astype(np.float32) / np.iinfo(values.dtype).max
    overshoot = _OVERSHOOT if values.dtype.kind == "f" else 1.0
    return _scaled(values.astype(np.float32), whites, overshoot)


def _decoded(
    image: ImageFile.ImageFile, source: BinaryIO, strict: bool, side: int | None, most_pixels: int | None
) -> OpenedImage:
    width, height = image.size
    if side is not None:
        image.draft("RGB", (2 * side, 2 * side))
    if most_pixels is not None and image.width * image.height > most_pixels:
        raise UndecodableError(
            f"has {width} x {height} pixels, more than the {most_pixels:,} that are read", "make it smaller first"
        )
    stored = _raw_mode(image)
    _scale_transparent_colour(image, stored)
    # Read before decoding, which removes it from a PNG's info.
    by_rows = image.format in _BY_ROWS and not image.info.get("interlace")
    flaw, whole = "", image
    try:
        image.load()
    except OSError as error:
        if not str(error).startswith("image file is truncated"):
            raise
        if strict or not by_rows:
            raise UndecodableError(*_CUT_OFF) from None
        whole, flaw = _recovered(image, source)
    upright = ImageOps.exif_transpose(whole)
    if (upright.width > upright.height) != (whole.width > whole.height):
        width, height = height, width
    return OpenedImage(upright, (width, height), _grey_levels(image, stored), flaw)


def _recovered(image: ImageFile.ImageFile, source: BinaryIO) -> tuple[ImageFile.ImageFile, str]:
    """The decodable part of a file that is cut off, and a description of what is missing.

    Pillow's LOAD_TRUNCATED_IMAGES is not used: it is global, also for other threads.
    """
    whole, missing = _recovered_jpeg(source) if image.format in ("JPEG", "MPO") else _recovered_rows(image, source)
    flaw = (
        f"is cut off: {missing:,} of its {whole.height:,} rows {'is' if missing == 1 else 'are'} missing or incomplete"
        if missing
        else "is cut off: its end is missing"
    )
    if missing > whole.height / 2:
        raise UndecodableError(flaw, "get a whole copy")
    return whole, flaw


def _recovered_rows(image: ImageFile.ImageFile, source: BinaryIO) -> tuple[ImageFile.ImageFile, int]:
    """The rows up to the end of the file, and how many are missing or incomplete.

    The file is decoded twice, over black and over white: pixels that differ were not decoded.
    """
    _keep_decoded(image)
    if image.im.size != image.size:
        # A TIFF that its EXIF data rotate: Pillow would have rotated it at the end.
        raise UndecodableError(*_CUT_OFF)
    source.seek(0)
    again = Image.open(source, formats=(image.format or "",))
    bands = len(image.getbands())
    again.im = Image.new(image.mode, image.size, 255 if bands == 1 else (255,) * bands).im
    try:
        again.load()
    except OSError:
        _keep_decoded(again)
    return image, len(_rows_that_differ(image, again))


def _keep_decoded(image: ImageFile.ImageFile) -> None:
    """Make Pillow accept what its decoder wrote before the file ended."""
    image.tile = []
    image.load()


def _recovered_jpeg(source: BinaryIO) -> tuple[ImageFile.ImageFile, int]:
    """What libjpeg decodes once an end marker is appended, and how many rows are missing or incomplete.

    libjpeg fills the rest with grey. The file is decoded again with noise before the end marker: the two pictures
    differ from where the data end. After a complete scan, libjpeg skips the noise.
    """
    source.seek(0)
    # Without the first byte of a marker, if the file ends with one.
    content = source.read().rstrip(b"\xff")
    scans, end = _scans(content)
    if not scans:
        raise UndecodableError(*_CUT_OFF)
    content = content[:end]
    image = _loaded_jpeg(content + _END_OF_JPEG)
    if len(scans) > 1:
        # Every row is there since the first scan of a progressive JPEG; later scans add detail.
        return image, 0
    # Restart markers count from 0 to 7. The data may end where the next one is due.
    restarts = _RESTART.findall(content, scans[0])
    due = bytes((0xFF, 0xD0 + (restarts[-1][1] + 1) % 8)) if restarts else b"\xff\xd0"
    noisy = _loaded_jpeg(content + _NOISE + due + _NOISE + _END_OF_JPEG)
    differ = _rows_that_differ(image, noisy)
    return image, image.height - differ[0] if differ else 0


def _loaded_jpeg(content: bytes) -> ImageFile.ImageFile:
    image = Image.open(io.BytesIO(content), formats=("JPEG",))
    image.load()
    return image


def _scans(content: bytes) -> tuple[list[int], int]:
    """Offsets of the data of each scan of a JPEG, and of the end of the last segment or scan that can be decoded."""
    starts: list[int] = []
    at = 2
    while (marker := _SEGMENT.search(content, at)) and marker[1] != _END_OF_JPEG[1:]:
        at = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2], "big")
        if at > len(content) or at < marker.end() + 2:
            # The tables of the next scan are cut off.
            return starts, marker.start()
        if marker[1] == b"\xda":
            starts.append(at)
    return starts, len(content)


def _rows_that_differ(one: Image.Image, other: Image.Image) -> list[int]:
    # By bytes: NaN is unequal to itself.
    rows = zip(np.asarray(one), np.asarray(other), strict=True)
    return [index for index, (first, second) in enumerate(rows) if first.tobytes() != second.tobytes()]


@lru_cache(maxsize=1)
def _heif_is_read() -> bool:
    """Whether pillow-heif is installed; registers its format with Pillow."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _unidentified(brand: bytes) -> UndecodableError:
    if brand in _HEIF_BRANDS and not _heif_is_read():
        return UndecodableError(
            "is a HEIC picture, which needs the package pillow-heif",
            "install it by pip install 'lpaint[heic]', or save the picture as JPEG",
        )
    if brand in (b"avif", b"avis") and not features.check("avif"):
        return UndecodableError(
            "is an AVIF picture, and the installed Pillow was built without AVIF",
            "install Pillow 11.3 or later from PyPI, or save the picture as PNG",
        )
    return UndecodableError("is not an image that can be read", "give a PNG, JPEG, WebP, AVIF, TIFF, GIF or BMP")


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """Pillow's name for the stored pixels, e.g. I;16B; known only before they are decoded."""
    if not image.tile:
        return ""
    stored = image.tile[0].args
    first = stored[0] if isinstance(stored, tuple) and stored else stored
    return first if isinstance(first, str) else ""


def _scale_transparent_colour(image: Image.Image, stored: str) -> None:
    """Convert the transparent colour to the scale of the decoded pixels."""
    key = image.info.get("transparency")
    if stored in _WIDENED and isinstance(key, int):
        image.info["transparency"] = key * _WIDENED[stored]
    elif stored == "RGB;16B" and isinstance(key, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _grey_levels(image: Image.Image, stored: str) -> GreyLevels:
    white = {"I;12": 4095.0, "I;16S": 32767.0, "I;16BS": 32767.0}.get(stored)
    # Where 0 is white in a TIFF, Pillow inverts 8 bits but not more. Tag 262: PhotometricInterpretation.
    tags = getattr(image, "tag_v2", {})
    return GreyLevels(white, tags.get(262) == 0, stored == "I;32N")


def _separated(image: Image.Image, levels: GreyLevels) -> tuple[Image.Image, Image.Image | None]:
    """Colours in mode L, RGB, CMYK, LAB or F (grey in [0, 1]), and alpha in mode L."""
    key = image.info.get("transparency")
    if image.mode == "La":
        image = image.convert("LA")
    elif image.mode in ("PA", "RGBa") or (image.mode == "P" and image.has_transparency_data):
        image = image.convert("RGBA")
    if image.mode in ("LA", "RGBA"):
        return image.convert(image.mode[:-1]), image.getchannel("A")
    # Removed: Pillow would convert it with the pixels, and cannot always.
    image.info.pop("transparency", None)
    alpha = _alpha_by_key(image, key)
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey(image, levels), alpha
    return (image if image.mode in ("L", "RGB", "CMYK", "LAB") else image.convert("RGB")), alpha


def _alpha_by_key(image: Image.Image, key: object) -> Image.Image | None:
    """Alpha of a picture whose pixels of the value ``key`` are transparent; None if ``key`` is no value."""
    if image.mode == "RGB" and isinstance(key, tuple) and len(key) == 3:
        hidden = (np.asarray(image) == np.array(key)).all(2)
    elif image.mode == "1" and isinstance(key, int):
        hidden = np.asarray(image) == bool(key)
    elif (image.mode in ("L", "I") or image.mode.startswith("I;16")) and isinstance(key, int):
        hidden = np.asarray(image) == key
    else:
        return None
    return Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8))


def _deep_grey(image: Image.Image, levels: GreyLevels) -> Image.Image:
    """Grey of more than 8 bits in [0, 1]; Pillow's conversion to 8 bits clips instead of scaling."""
    whites = (levels.white,) if levels.white is not None else _WHITES if image.mode == "F" else _WHITES[2:]
    overshoot = _OVERSHOOT if image.mode == "F" else 1.0
    values = np.asarray(image)
    if levels.unsigned:
        # Pillow holds them as signed integers.
        values = values.view(np.uint32)
    grey = _scaled(values.astype(np.float32), whites, overshoot)
    return Image.fromarray(1 - grey if levels.inverted else grey)


def _scaled(values: np.ndarray, whites: tuple[float, ...], overshoot: float) -> np.ndarray:
    """Float32 in [0, 1], divided by the smallest white that holds all ``values``, or else by the largest of them."""
    finite = np.isfinite(values)
    top = float(values.max(where=finite, initial=0))
    white = next((white for white in whites if top <= overshoot * white), top)
    return np.clip(np.nan_to_num(values / np.float32(white), nan=0, posinf=1, neginf=0), 0, 1)


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The picture in sRGB; unchanged if the profile is damaged or does not suit its mode."""
    for mode in dict.fromkeys((image.mode, "RGB")):
        try:
            converted = ImageCms.applyTransform(image.convert(mode), _transform(profile, mode))
        except (ImageCms.PyCMSError, OSError, ValueError):
            continue
        if converted is not None:
            return converted
    return image


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
