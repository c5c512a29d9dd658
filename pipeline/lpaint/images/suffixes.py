"""Which files of a folder are pictures, for painting and for data preparation."""

from collections.abc import Mapping
from pathlib import PurePath

# Suffixes of pictures in a folder, and their formats. A file that the user names is tried whatever its suffix. Left out
# are suffixes that Pillow reads but that more often mean something else: .rgb (raw data), .gbr (Gerber), .msp
# (installers), .pcd (point clouds) and the like.
READABLE: Mapping[str, str] = {
    ".png": "PNG",
    ".apng": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".mpo": "JPEG, several pictures",
    ".webp": "WebP",
    ".avif": "AVIF",
    ".avifs": "AVIF",
    ".heic": "HEIC",
    ".heif": "HEIC",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".dib": "BMP",
    ".jp2": "JPEG 2000",
    ".j2k": "JPEG 2000",
    ".j2c": "JPEG 2000",
    ".jpc": "JPEG 2000",
    ".jpf": "JPEG 2000",
    ".jpx": "JPEG 2000",
    ".pbm": "Netpbm",
    ".pgm": "Netpbm",
    ".ppm": "Netpbm",
    ".pnm": "Netpbm",
    ".pfm": "Netpbm",
    ".tga": "TGA",
    ".icb": "TGA",
    ".vda": "TGA",
    ".vst": "TGA",
    ".qoi": "QOI",
    ".pcx": "PCX",
    ".sgi": "SGI",
    ".ico": "icon",
}


def has_image_suffix(path: PurePath) -> bool:
    """Whether a file found in a folder is taken for a picture, by its suffix."""
    return path.suffix.lower() in READABLE
