"""Decoding pictures, for painting and for preparation: the only place where Pillow opens a file.

``open_picture`` reads a file and turns it upright; ``flatten`` brings any mode to 8-bit RGB or to grey in [0, 1].

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

White of floating point is not agreed on. It is the smallest of 1, 255 and 65535 of which the largest finite value is at
most the double, as sharpening and resampling overshoot; beyond 131070 it is the largest finite value itself. Values
below 0 are black, values above white are white.

An embedded ICC profile is converted to sRGB, except for I and F. Of an animation the first frame is read.

Imports little: every worker process of the preparation loads it.
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

# What Pillow may open. Never EPS, which starts Ghostscript, nor what no camera, scanner or painter of bitmaps writes.
# TGA comes last: it has no signature.
FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI", "TIFF", "WEBP", "TGA"
)  # fmt: skip
WHITE = (1.0, 1.0, 1.0)
# Formats whose rows come one after the other, so that a file that is cut off holds a part of the picture.
_BY_ROWS = frozenset({"BMP", "DIB", "JPEG", "MPO", "PCX", "PNG", "PPM", "TGA", "TIFF"})
_END_OF_JPEG = b"\xff\xd9"
# In a JPEG: the marker that starts a segment, and a restart marker, which stands in the data of a scan.
_SEGMENT, _RESTART = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])"), re.compile(rb"\xff[\xd0-\xd7]")
# Bytes without order and without 255, which would start a marker.
_NOISE = bytes(value * value * 73 % 251 for value in range(11, 139))
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
# Whites of floating point, and by how much a picture may exceed its white.
_WHITES, _OVERSHOOT = (1.0, 255.0, 65535.0), 2.0
# PNG states the transparent colour as it is stored; Pillow widens or narrows the pixels to 8 bits.
_WIDENED = {"L;2": 85, "L;4": 17}
_CUT_OFF = ("is cut off: the file ends before its picture does", "get a whole copy")


class UndecodableError(Exception):
    """A picture that cannot be read: ``str`` is the reason ("is no image"), ``advice`` what to do."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.advice = advice


@dataclass(frozen=True)
class Levels:
    """How deep grey is stored: ``white`` where the file tells; 0 is white (``inverted``); 32 bits are ``unsigned``."""

    white: float | None = None
    inverted: bool = False
    unsigned: bool = False


@dataclass(frozen=True)
class Opened:
    """A picture in its own mode, upright.

    ``size``: width and height of the whole picture, upright; the image is smaller where it was reduced as it was read.
    ``flaw``: what is wrong with the file although it could be read ("is cut off: ..."), else empty.
    """

    image: Image.Image
    size: tuple[int, int]
    levels: Levels = Levels()
    flaw: str = ""


def open_picture(
    source: Path | BinaryIO, strict: bool = False, side: int | None = None, most_pixels: int | None = None
) -> Opened:
    """Open and decode a picture, and apply its EXIF orientation.

    Args:
        source: a file, or a binary stream that can seek.
        strict: refuse a file that is cut off; otherwise at least half of its rows must be there.
        side: both sides will be reduced to at least this; a JPEG is decoded at a half or a quarter where that suffices.
        most_pixels: the most pixels that are decoded; None = Pillow's own limit alone.

    Raises:
        UndecodableError: of a kind that cannot be read, cut off, or with too many pixels.
        Exception: on damaged bytes, whatever Pillow's decoders stumble over: OSError, SyntaxError, struct.error, ...
    """
    if isinstance(source, Path):
        # A stream, not the name: a TIFF that Pillow maps into memory is garbled where its EXIF data turn it.
        with source.open("rb") as stream:
            return open_picture(stream, strict, side, most_pixels)
    head = source.read(12)
    brand = head[8:] if head[4:8] == b"ftyp" else b""
    formats = (*FORMATS, "HEIF") if brand in _HEIF_BRANDS and _heif_is_read() else FORMATS
    with warnings.catch_warnings():
        # Pillow warns of odd metadata, which does not matter, and of half of the pixels that it refuses.
        warnings.simplefilter("ignore")
        try:
            with Image.open(source, formats=formats) as image:
                return _decoded(image, source, strict, side, most_pixels)
        except UnidentifiedImageError:
            raise _unidentified(brand) from None
        except Image.DecompressionBombError:
            raise UndecodableError("has too many pixels to be safe", "make it smaller first") from None


def open_png(path: Path) -> np.ndarray:
    """The pixels [H, W, 3] uint8 of a PNG that lpaint wrote itself."""
    with Image.open(path, formats=("PNG",)) as image:
        return np.asarray(image.convert("RGB"))


def flatten(
    image: Image.Image, matte: tuple[float, float, float] = WHITE, levels: Levels = Levels()
) -> tuple[Image.Image, Image.Image | None]:
    """Colour and alpha of a picture of any mode; see the module's table.

    Args:
        image: the picture, e.g. of ``open_picture``; its ``info`` may be changed.
        matte: red, green and blue in [0, 1] that transparency is laid on.
        levels: how deep grey is stored.

    Returns:
        The picture in mode RGB, or in mode F with grey in [0, 1] where it has more than 8 bits and no transparency;
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
    """Grey in [0, 1] as 8 bits; any other picture as it is."""
    if image.mode != "F":
        return image
    return Image.fromarray((np.asarray(image) * 255 + 0.5).astype(np.uint8))


def to_unit(values: np.ndarray) -> np.ndarray:
    """Numbers of any type as float32 in [0, 1]; white is found as for a picture of such values.

    Booleans have white at 1, uint8 at 255, uint16 at 65535, other integers at the smaller of the two that holds all,
    and floating point as the module's table says.
    """
    whites = {"b": (1.0,), "f": _WHITES}.get(values.dtype.kind, _WHITES[1:])
    if values.dtype in (np.uint8, np.uint16):
        return values.astype(np.float32) / np.iinfo(values.dtype).max
    overshoot = _OVERSHOOT if values.dtype.kind == "f" else 1.0
    return _scaled(values.astype(np.float32), whites, overshoot)


def _decoded(
    image: ImageFile.ImageFile, source: BinaryIO, strict: bool, side: int | None, most_pixels: int | None
) -> Opened:
    width, height = image.size
    if side is not None:
        image.draft("RGB", (2 * side, 2 * side))
    if most_pixels is not None and image.width * image.height > most_pixels:
        raise UndecodableError(
            f"has {width} x {height} pixels, more than the {most_pixels:,} that are read", "make it smaller first"
        )
    stored = _raw_mode(image)
    _mend_key(image, stored)
    # Asked before decoding: PNG forgets it then.
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
    return Opened(upright, (width, height), _levels(image, stored), flaw)


def _recovered(image: ImageFile.ImageFile, source: BinaryIO) -> tuple[ImageFile.ImageFile, str]:
    """What can be decoded of a file that is cut off, and a few words on what is missing.

    Pillow's LOAD_TRUNCATED_IMAGES is not used: it holds for a whole process, threads of others included.
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

    The file is decoded again, over white: the decoder left out every pixel that is still white here and black there.
    """
    _keep_decoded(image)
    if image.im.size != image.size:
        # A TIFF that its EXIF data turn, and that was to be turned at the end.
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
    """Let Pillow take what its decoder wrote before the file ended for the picture."""
    image.tile = []
    image.load()


def _recovered_jpeg(source: BinaryIO) -> tuple[ImageFile.ImageFile, int]:
    """What libjpeg decodes if the file gets an end marker, and how many rows are missing or incomplete.

    libjpeg fills the rest with grey. The file is decoded again with noise before the end marker: the two pictures
    differ from the place on where the data end. After a complete scan, libjpeg skips the noise.
    """
    source.seek(0)
    # The first byte of a marker, if the file ends with one.
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
    """Where the data of each scan of a JPEG start, and where the last segment or scan ends that can be decoded."""
    starts: list[int] = []
    at = 2
    while (marker := _SEGMENT.search(content, at)) and marker[1] != _END_OF_JPEG[1:]:
        at = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2], "big")
        if at > len(content) or at < marker.end() + 2:
            # Tables of the next scan that are cut off.
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
    """Whether pillow-heif is installed; Pillow knows its format from then on."""
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
            "is an AVIF picture, which the Pillow that is installed was built without",
            "install Pillow 11.3 or later from PyPI, or save the picture as PNG",
        )
    return UndecodableError("is not an image that can be read", "give a PNG, JPEG, WebP, AVIF, TIFF, GIF or BMP")


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """Pillow's name of how pixels are stored, e.g. I;16B; known until they are decoded."""
    if not image.tile:
        return ""
    stored = image.tile[0].args
    first = stored[0] if isinstance(stored, tuple) and stored else stored
    return first if isinstance(first, str) else ""


def _mend_key(image: Image.Image, stored: str) -> None:
    """Bring the transparent colour to the scale of the decoded pixels."""
    key = image.info.get("transparency")
    if stored in _WIDENED and isinstance(key, int):
        image.info["transparency"] = key * _WIDENED[stored]
    elif stored == "RGB;16B" and isinstance(key, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _levels(image: Image.Image, stored: str) -> Levels:
    white = {"I;12": 4095.0, "I;16S": 32767.0, "I;16BS": 32767.0}.get(stored)
    # Pillow turns 8 bits of a TIFF in which 0 is white, but not more. Tag 262: PhotometricInterpretation.
    tags = getattr(image, "tag_v2", {})
    return Levels(white, tags.get(262) == 0, stored == "I;32N")


def _separated(image: Image.Image, levels: Levels) -> tuple[Image.Image, Image.Image | None]:
    """Colours in mode L, RGB, CMYK, LAB or F (grey in [0, 1]), and alpha in mode L."""
    key = image.info.get("transparency")
    if image.mode == "La":
        image = image.convert("LA")
    elif image.mode in ("PA", "RGBa") or (image.mode == "P" and image.has_transparency_data):
        image = image.convert("RGBA")
    if image.mode in ("LA", "RGBA"):
        return image.convert(image.mode[:-1]), image.getchannel("A")
    # Taken out: Pillow would convert it along with the pixels, and cannot always.
    image.info.pop("transparency", None)
    alpha = _alpha_by_key(image, key)
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey(image, levels), alpha
    return (image if image.mode in ("L", "RGB", "CMYK", "LAB") else image.convert("RGB")), alpha


def _alpha_by_key(image: Image.Image, key: object) -> Image.Image | None:
    """Alpha of a picture of which pixels of the value ``key`` are transparent; None where it names no value."""
    if image.mode == "RGB" and isinstance(key, tuple) and len(key) == 3:
        hidden = (np.asarray(image) == np.array(key)).all(2)
    elif image.mode == "1" and isinstance(key, int):
        hidden = np.asarray(image) == bool(key)
    elif (image.mode in ("L", "I") or image.mode.startswith("I;16")) and isinstance(key, int):
        hidden = np.asarray(image) == key
    else:
        return None
    return Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8))


def _deep_grey(image: Image.Image, levels: Levels) -> Image.Image:
    """Grey of more than 8 bits in [0, 1]; Pillow's own conversion to 8 bits clips instead of scaling."""
    whites = (levels.white,) if levels.white is not None else _WHITES if image.mode == "F" else _WHITES[2:]
    overshoot = _OVERSHOOT if image.mode == "F" else 1.0
    values = np.asarray(image)
    if levels.unsigned:
        # Pillow keeps them as signed ones.
        values = values.view(np.uint32)
    grey = _scaled(values.astype(np.float32), whites, overshoot)
    return Image.fromarray(1 - grey if levels.inverted else grey)


def _scaled(values: np.ndarray, whites: tuple[float, ...], overshoot: float) -> np.ndarray:
    """Float32 in [0, 1], by the smallest white that holds all ``values`` or else by the largest of them."""
    finite = np.isfinite(values)
    top = float(values.max(where=finite, initial=0))
    white = next((white for white in whites if top <= overshoot * white), top)
    return np.clip(np.nan_to_num(values / np.float32(white), nan=0, posinf=1, neginf=0), 0, 1)


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The picture in sRGB; as it is where the profile is damaged or not for pictures of its mode."""
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
