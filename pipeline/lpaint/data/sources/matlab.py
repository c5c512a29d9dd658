"""Streams a large uint8 array of a MATLAB v5 file. scipy reads arrays only as a whole, 1.6 GB for SVHN's extra.

Source: "MAT-File Format", MathWorks. The file has a header of 128 bytes and then elements: a tag (type and length, 32
bits each) and data, padded to 8 bytes. A compressed element inflates to an element.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lpaint.data.decode import describe_error
from lpaint.errors import DataError

_HEADER, _COMPRESSED, _MATRIX, _UINT8, _UINT8_CLASS = 128, 15, 14, 2, 9
_SIGNATURE = b"MATLAB 5.0 MAT-file"
_CHUNK_BYTES = 1 << 20
# A longer name or list of dimensions is taken as damaged.
_MAX_HEADER_BYTES = 4096


def stream_array(path: Path, name: str, expected: int) -> Iterator[bytes]:
    """Yield the ``expected`` bytes of the uint8 array ``name`` in pieces, in the file's order (first axis fastest).

    Raises:
        DataError: the file has no such array, is damaged, or has another number of bytes.
    """
    try:
        with path.open("rb") as stream:
            for element in _elements(stream):
                if _read_name(element) == name:
                    yield from _read_data(element, expected)
                    return
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise DataError(f"{path}: its array {name} is damaged ({describe_error(error)}); download it again") from None
    raise DataError(f"{path}: holds no array {name} of bytes; download it again")


def check_complete(path: Path) -> None:
    """Check that a MATLAB v5 file has all bytes of its elements; other files pass.

    Raises:
        DataError: it is truncated or empty.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        header = stream.read(_HEADER)
        if size and not header.startswith(_SIGNATURE[:size]):
            return
        order = "<" if header[126:] == b"IM" else ">"
        place = _HEADER if size >= _HEADER else 0
        needed = _HEADER
        while size > place >= _HEADER:
            stream.seek(place)
            tag = stream.read(8)
            needed = place + 8 + (struct.unpack(f"{order}I", tag[4:])[0] if len(tag) == 8 else 0)
            place = needed
    if size < needed:
        raise DataError(f"{path}: is cut off: it has {size:,} bytes and needs at least {needed:,}; download it again")


class _Element:
    """Reads one element of a file from its tag on, and inflates it if it is compressed."""

    def __init__(self, stream: BinaryIO, order: str, length: int, compressed: bool) -> None:
        self._stream, self._order, self._left = stream, order, length
        self._inflate = zlib.decompressobj() if compressed else None

    def read_some(self, count: int) -> bytes:
        """Read 1 to ``count`` bytes; empty at the end."""
        if self._inflate is None:
            return self._read_raw(count)
        while True:
            packed = self._inflate.unconsumed_tail or self._read_raw(_CHUNK_BYTES)
            content = self._inflate.decompress(packed, count)
            if content or not packed:
                return content

    def read_exactly(self, count: int) -> bytes:
        """Read exactly ``count`` bytes."""
        content = b""
        while len(content) < count:
            piece = self.read_some(count - len(content))
            if not piece:
                raise EOFError("it ends too early")
            content += piece
        return content

    def read_uint32(self, count: int) -> tuple[int, ...]:
        """Read ``count`` unsigned 32-bit numbers."""
        return struct.unpack(f"{self._order}{count}I", self.read_exactly(4 * count))

    def read_subelement(self) -> bytes:
        """Read the data of a short sub-element."""
        (kind,) = self.read_uint32(1)
        if kind >> 16:
            # The tag itself has up to four bytes of data.
            return self.read_exactly(4)[: kind >> 16]
        (length,) = self.read_uint32(1)
        if length > _MAX_HEADER_BYTES:
            raise ValueError(f"a header of {length:,} bytes")
        return self.read_exactly(length + -length % 8)[:length]

    def finish(self) -> None:
        """Read the padding and the end, where zlib verifies the checksum of compressed data."""
        padding = 0
        while piece := self.read_some(8):
            padding += len(piece)
            if padding > 7:
                raise ValueError("it is longer than it says")
        if self._inflate is not None and not self._inflate.eof:
            raise EOFError("it ends too early")

    def _read_raw(self, count: int) -> bytes:
        piece = self._stream.read(min(count, self._left))
        self._left -= len(piece)
        return piece


def _elements(stream: BinaryIO) -> Iterator[_Element]:
    order = "<" if stream.read(_HEADER)[126:] == b"IM" else ">"
    place = _HEADER
    while tag := stream.read(8):
        kind, length = struct.unpack(f"{order}II", tag)
        if kind == _COMPRESSED:
            yield _Element(stream, order, length, compressed=True)
        else:
            stream.seek(place)
            yield _Element(stream, order, 8 + length, compressed=False)
        place += 8 + length
        stream.seek(place)


def _read_name(element: _Element) -> str:
    """Read up to the data of a uint8 array; returns its name, or an empty text for other elements."""
    kind, _ = element.read_uint32(2)
    if kind != _MATRIX:
        return ""
    _, _, flags, _ = element.read_uint32(4)
    element.read_subelement()
    name = element.read_subelement().decode("latin-1")
    return name if flags & 0xFF == _UINT8_CLASS else ""


def _read_data(element: _Element, expected: int) -> Iterator[bytes]:
    kind, length = element.read_uint32(2)
    if kind != _UINT8 or length != expected:
        raise ValueError(f"{length:,} bytes of type {kind} where {expected:,} of type {_UINT8} are called for")
    left = expected
    while left:
        piece = element.read_some(min(_CHUNK_BYTES, left))
        if not piece:
            raise EOFError("it ends too early")
        left -= len(piece)
        yield piece
    element.finish()
