"""MNIST and data sets in its format: idx files, with or without gzip.

Source: http://yann.lecun.com/exdb/mnist. An idx file has two zero bytes, the type (8 = unsigned byte), the number of
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

from lpaint.data.decode import describe_error
from lpaint.data.sources.arrays import MAX_IMAGES, ArrayFile, ArraySource, find_file
from lpaint.errors import DataError

_FILES = {"train": ("train-images", "train-labels"), "test": ("t10k-images", "t10k-labels")}
_CHUNK_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"


class Mnist(ArraySource):
    """train-images-idx3-ubyte, train-labels-idx1-ubyte and the t10k files, each with or without .gz."""

    axes = (0, 1)

    def _find_parts(self) -> dict[str, ArrayFile]:
        return {name: self._part(name, *files) for name, files in _FILES.items()}

    def _part(self, name: str, images: str, labels: str) -> ArrayFile:
        path, labels_path = _find_idx_file(self.root, images, 3), _find_idx_file(self.root, labels, 1)
        count, *shape = _shape(path, 3)
        values = np.frombuffer(b"".join(_content(labels_path, 1)), np.uint8)
        if len(values) != count:
            raise DataError(
                f"{labels_path}: holds {len(values)} labels for the {count} images of {path.name}; take the pair"
            )
        return ArrayFile(name, values, tuple(shape), path, (labels_path,))

    def _stream(self, part: ArrayFile) -> Iterator[bytes]:
        return _content(part.path, 3)


def _find_idx_file(root: Path, stem: str, dimensions: int) -> Path:
    """The path of the idx file ``stem``, by its official name or with a dot instead of the hyphen, as on some mirrors.

    Raises:
        DataError: it is missing.
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
        raise DataError(f"{path}: is damaged ({describe_error(error)}); download it again") from None


def _shape(path: Path, dimensions: int) -> tuple[int, ...]:
    """The shape in the header."""
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
    if not 0 < shape[0] <= MAX_IMAGES or not all(0 < side <= 1024 for side in shape[1:]):
        raise DataError(f"{path}: its header claims {' x '.join(map(str, shape))}; download it again")
    return shape


def _content(path: Path, dimensions: int) -> Iterator[bytes]:
    """Yield the data in pieces, exactly as much as the header says."""
    with _open(path) as stream:
        left = math.prod(_header(path, stream, dimensions))
        expected = left
        while left:
            piece = _read(path, stream, min(_CHUNK_BYTES, left))
            if not piece:
                raise DataError(
                    f"{path}: holds {expected - left:,} bytes of data where its header calls for {expected:,}; "
                    "download it again"
                )
            left -= len(piece)
            yield piece
        # This read also makes gzip verify its checksum.
        if _read(path, stream, 1):
            raise DataError(
                f"{path}: holds more than the {expected:,} bytes that its header calls for; download it again"
            )
