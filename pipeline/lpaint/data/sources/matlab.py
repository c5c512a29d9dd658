"""One large uint8 array of a MATLAB v5 file as a stream: scipy reads such arrays only whole, 1.6 GB for SVHN's extra.

The format is described in "MAT-File Format", MathWorks: a header of 128 bytes, then elements of a tag (type and length,
32 bits each) and data, padded to 8 bytes; a compressed element inflates to an element.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lpaint.data.decode import explain
from lpaint.errors import DataError

_HEADER, _COMPRESSED, _MATRIX, _UINT8, _UINT8_CLASS = 128, 15, 14, 2, 9
_SIGNATURE = b"MATLAB 5.0 MAT-file"
_PIECE = 1 << 20
# The longest name or list of dimensions that is read.
_LONGEST = 4096


def stream_array(path: Path, name: str, expected: int) -> Iterator[bytes]:
    """The ``expected`` bytes of the uint8 array ``name`` in pieces, in the file's order (first dimension fastest).

    Raises:
        DataError: the file has no such array, is damaged, or holds another number of bytes.
    """
    try:
        with path.open("rb") as stream:
            for element in _elements(stream):
                if _begin(element) == name:
                    yield from _data(element, expected)
                    return
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise DataError(f"{path}: its array {name} is damaged ({explain(error)}); download it again") from None
    raise DataError(f"{path}: holds no array {name} of bytes; download it again")


def check_whole(path: Path) -> None:
    """Whether a MATLAB v5 file has all bytes of its elements; files of other kinds are passed over.

    Raises:
        DataError: it is cut off, or empty.
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
    """Reads one element of a file from its tag on, inflated where it is compressed."""

    def __init__(self, stream: BinaryIO, order: str, length: int, compressed: bool) -> None:
        self._stream, self._order, self._left = stream, order, length
        self._inflate = zlib.decompressobj() if compressed else None

    def some(self, count: int) -> bytes:
        """From 1 to ``count`` bytes; none at the end."""
        if self._inflate is None:
            return self._raw(count)
        while True:
            packed = self._inflate.unconsumed_tail or self._raw(_PIECE)
            content = self._inflate.decompress(packed, count)
            if content or not packed:
                return content

    def read(self, count: int) -> bytes:
        """Exactly ``count`` bytes."""
        content = b""
        while len(content) < count:
            piece = self.some(count - len(content))
            if not piece:
                raise EOFError("it ends too early")
            content += piece
        return content

    def numbers(self, count: int) -> tuple[int, ...]:
        """``count`` numbers of 32 bits."""
        return struct.unpack(f"{self._order}{count}I", self.read(4 * count))

    def part(self) -> bytes:
        """A short sub-element's data."""
        (kind,) = self.numbers(1)
        if kind >> 16:
            # Up to four bytes of data lie in the tag itself.
            return self.read(4)[: kind >> 16]
        (length,) = self.numbers(1)
        if length > _LONGEST:
            raise ValueError(f"a header of {length:,} bytes")
        return self.read(length + -length % 8)[:length]

    def finish(self) -> None:
        """The padding, then the end, where the compressed data's checksum is compared."""
        padding = 0
        while piece := self.some(8):
            padding += len(piece)
            if padding > 7:
                raise ValueError("it is longer than it says")
        if self._inflate is not None and not self._inflate.eof:
            raise EOFError("it ends too early")

    def _raw(self, count: int) -> bytes:
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


def _begin(element: _Element) -> str:
    """The name of an array of bytes, read up to its data; empty for anything else."""
    kind, _ = element.numbers(2)
    if kind != _MATRIX:
        return ""
    _, _, flags, _ = element.numbers(4)
    element.part()
    name = element.part().decode("latin-1")
    return name if flags & 0xFF == _UINT8_CLASS else ""


def _data(element: _Element, expected: int) -> Iterator[bytes]:
    kind, length = element.numbers(2)
    if kind != _UINT8 or length != expected:
        raise ValueError(f"{length:,} bytes of type {kind} where {expected:,} of type {_UINT8} are called for")
    left = expected
    while left:
        piece = element.some(min(_PIECE, left))
        if not piece:
            raise EOFError("it ends too early")
        left -= len(piece)
        yield piece
    element.finish()
