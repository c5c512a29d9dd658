"""MNIST and whatever comes in its form: idx files, compressed by gzip or not.

The format is described at http://yann.lecun.com/exdb/mnist: two zero bytes, the type (8 = unsigned byte), the number of
dimensions, each dimension as a big-endian 32-bit number, then the data.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from lpaint.data.decode import explain
from lpaint.data.sources.arrays import MOST, ArraySource, Part, find_file
from lpaint.errors import DataError

_FILES = {"train": ("train-images", "train-labels"), "test": ("t10k-images", "t10k-labels")}
_PIECE = 1 << 20
_GZIP = b"\x1f\x8b"


class Mnist(ArraySource):
    """train-images-idx3-ubyte, train-labels-idx1-ubyte, and the same of t10k, each with or without .gz."""

    axes = (0, 1)

    def _find(self) -> dict[str, Part]:
        return {name: self._part(name, *files) for name, files in _FILES.items()}

    def _part(self, name: str, images: str, labels: str) -> Part:
        path, others = _locate(self.root, images, 3), _locate(self.root, labels, 1)
        count, *shape = _shape(path, 3)
        values = np.frombuffer(b"".join(_content(others, 1)), np.uint8)
        if len(values) != count:
            raise DataError(
                f"{others}: holds {len(values)} labels for the {count} images of {path.name}; take the pair"
            )
        return Part(name, values, tuple(shape), path, (others,))

    def _stream(self, part: Part) -> Iterator[bytes]:
        return _content(part.path, 3)


def _locate(root: Path, stem: str, dimensions: int) -> Path:
    """The idx file ``stem``, by its official name or with a dot in place of the hyphen, as some mirrors have it.

    Raises:
        DataError: there is none.
    """
    names = [f"{stem}{dash}idx{dimensions}-ubyte{suffix}" for dash in "-." for suffix in ("", ".gz")]
    found = find_file(root, names)
    if found is not None:
        return found
    raise DataError(f"{root}: has no {names[0]} and no {names[1]}; put the four files of MNIST there")


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as stream:
        zipped = stream.read(2) == _GZIP
    if not zipped and path.suffix == ".gz":
        raise DataError(f"{path}: is called .gz but is not gzip; download it again, or rename it if it is unpacked")
    return cast(BinaryIO, gzip.open(path)) if zipped else path.open("rb")


def _read(path: Path, stream: BinaryIO, count: int) -> bytes:
    try:
        return stream.read(count)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: is damaged ({explain(error)}); download it again") from None


def _shape(path: Path, dimensions: int) -> tuple[int, ...]:
    """What the header says."""
    with _open(path) as stream:
        return _header(path, stream, dimensions)


def _header(path: Path, stream: BinaryIO, dimensions: int) -> tuple[int, ...]:
    header = _read(path, stream, 4 + 4 * dimensions)
    magic = bytes([0, 0, 8, dimensions])
    if header[:4] != magic:
        raise DataError(
            f"{path}: begins with {header[:4].hex()} where an idx file of it has {magic.hex()}; take another"
        )
    if len(header) < 4 + 4 * dimensions:
        raise DataError(f"{path}: ends within its header; download it again")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    if not 0 < shape[0] <= MOST or not all(0 < side <= 1024 for side in shape[1:]):
        raise DataError(f"{path}: its header claims {' x '.join(map(str, shape))}; download it again")
    return shape


def _content(path: Path, dimensions: int) -> Iterator[bytes]:
    """The data in pieces, exactly as much as the header says."""
    with _open(path) as stream:
        left = math.prod(_header(path, stream, dimensions))
        expected = left
        while left:
            piece = _read(path, stream, min(_PIECE, left))
            if not piece:
                raise DataError(
                    f"{path}: holds {expected - left:,} bytes of data where its header calls for {expected:,}; "
                    "download it again"
                )
            left -= len(piece)
            yield piece
        # This also makes gzip compare its checksum.
        if _read(path, stream, 1):
            raise DataError(
                f"{path}: holds more than the {expected:,} bytes that its header calls for; download it again"
            )
