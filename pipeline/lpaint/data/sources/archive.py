"""Reading entries of a zip archive without unpacking it; sizes and checksums in the archive are verified."""

import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from lpaint.data.decode import MAX_BYTES, describe_error
from lpaint.errors import DataError

_LOCAL_HEADER, _SIGNATURE = 30, b"PK\x03\x04"


class Entry(NamedTuple):
    """An entry's place in its archive; ``problem`` says why it must not be read, and is empty if it may be."""

    offset: int
    compressed_size: int
    size: int
    checksum: int
    deflated: bool
    problem: str


def read_directory(path: Path) -> list[tuple[str, Entry]]:
    """Names and places of all entries, in the archive's order; a name may occur twice.

    Raises:
        DataError: the file is no readable zip archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return [(info.filename, _entry(info)) for info in archive.infolist()]
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise DataError(f"{path}: is no readable zip archive ({describe_error(error)}); download it again") from None


def read_entry(archive: BinaryIO, entry: Entry) -> bytes:
    """An entry's content, with verified size and checksum; never expands more than the stated size.

    Raises:
        DataError: the text is only the reason.
        zlib.error: the compressed bytes are damaged.
    """
    if entry.problem:
        raise DataError(entry.problem)
    archive.seek(entry.offset)
    header = archive.read(_LOCAL_HEADER)
    if len(header) < _LOCAL_HEADER or not header.startswith(_SIGNATURE):
        raise DataError("is not where the archive's directory says")
    name, extra = struct.unpack_from("<HH", header, 26)
    archive.seek(entry.offset + _LOCAL_HEADER + name + extra)
    content = archive.read(entry.compressed_size)
    if entry.deflated:
        content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, entry.size + 1)
    if len(content) != entry.size:
        raise DataError(f"does not have the {entry.size:,} bytes that the archive's directory says")
    if zlib.crc32(content) != entry.checksum:
        raise DataError("its checksum is wrong")
    return content


def _entry(info: zipfile.ZipInfo) -> Entry:
    deflated = info.compress_type == zipfile.ZIP_DEFLATED
    return Entry(info.header_offset, info.compress_size, info.file_size, info.CRC, deflated, _problem(info))


def _problem(info: zipfile.ZipInfo) -> str:
    name = info.filename
    if name.startswith(("/", "\\")) or name[1:3] in (":/", ":\\"):
        return "has an absolute name"
    if ".." in PurePosixPath(name.replace("\\", "/")).parts:
        return "its name leads out of the archive"
    if info.is_dir():
        return "is a folder"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a symbolic link"
    if info.flag_bits & 1:
        return "is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"is compressed by method {info.compress_type}; only stored and deflated entries are read"
    # Compressed data may be slightly longer than their content.
    if max(info.file_size, info.compress_size - (1 << 16)) > MAX_BYTES:
        return f"has {info.file_size:,} bytes, more than the {MAX_BYTES:,} that are read"
    return ""
