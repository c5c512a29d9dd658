"""Data sets that come as large arrays, compressed as a whole: they are unpacked once, then read at random."""

import os
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from lpaint.data.decode import Picture
from lpaint.data.sources.base import Loader, Source, sha256
from lpaint.errors import DataError
from lpaint.files import atomic_write
from lpaint.runtime.provenance import digest_file

# The most pictures that a header may claim.
MOST = 10_000_000


@dataclass(frozen=True)
class Part:
    """The pictures of one file: their ``split``, ``labels`` [N] int, the ``shape`` of one as stored, and the files."""

    split: str
    labels: np.ndarray
    shape: tuple[int, ...]
    path: Path
    others: tuple[Path, ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes of all pictures."""
        return len(self.labels) * int(np.prod(self.shape))


class UnpackedArrays:
    """Pictures in unpacked files, for a worker; ``axes`` turns one as stored into [H, W] or [H, W, 3]."""

    def __init__(self, folder: Path, shapes: dict[str, tuple[int, ...]], axes: tuple[int, ...]) -> None:
        self.folder, self.shapes, self.axes = folder, shapes, axes

    def load(self, name: str, size: int) -> Picture:
        """See ``Loader``."""
        part, _, rest = name.partition("/")
        shape = self.shapes[part]
        length = int(np.prod(shape))
        with _unpacked(self.folder, part).open("rb") as stream:
            content = os.pread(stream.fileno(), length, int(rest.partition("-")[0]) * length)
        pixels = np.frombuffer(content, np.uint8).reshape(shape).transpose(self.axes)
        image = Image.fromarray(np.ascontiguousarray(pixels))
        return Picture(image.convert("RGB"), image.width, image.height)


class ArraySource(Source):
    """A folder of array files. Entries are called ``train/000017-5``: part, place in its file, label."""

    axes: tuple[int, ...]

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folder: Path | None = None

    @abstractmethod
    def _find(self) -> dict[str, Part]:
        """Name and content of every part. Raises DataError when a file is missing or not as it should be."""

    @abstractmethod
    def _stream(self, part: Part) -> Iterator[bytes]:
        """The bytes of a part's pictures, in pieces. Raises DataError where they are damaged, too few or too many."""

    @cached_property
    def parts(self) -> dict[str, Part]:
        """Name and content of every part."""
        return self._find()

    def names(self) -> list[str]:
        """See the class."""
        return [
            f"{name}/{index:06d}-{label}"
            for name, part in sorted(self.parts.items())
            for index, label in enumerate(part.labels.tolist())
        ]

    def load(self, name: str, size: int) -> Picture:
        """See ``Loader``; after ``unpack``."""
        return self.loader([name]).load(name, size)

    def loader(self, names: Sequence[str]) -> Loader:
        """The unpacked files alone."""
        assert self._folder is not None, "unpack comes first"
        return UnpackedArrays(self._folder, {name: part.shape for name, part in self.parts.items()}, self.axes)

    def unpack(self, folder: Path) -> None:
        """Write every part's pictures to a file of their own; those that are there already are kept."""
        self._folder = folder
        for name, part in self.parts.items():
            target = _unpacked(folder, name)
            if target.exists():
                continue
            with atomic_write(target) as temporary, temporary.open("wb") as stream:
                for piece in self._stream(part):
                    stream.write(piece)

    def unpack_sample(self, folder: Path) -> list[str]:
        """Write the beginning of every part's pictures instead; the names of those that are there."""
        self._folder = folder
        counts = {}
        for name, part in self.parts.items():
            piece = next(self._stream(part))
            _unpacked(folder, name).write_bytes(piece)
            counts[name] = len(piece) // int(np.prod(part.shape))
        return [
            name
            for name in self.names()
            if int(name.partition("/")[2].partition("-")[0]) < counts[name.partition("/")[0]]
        ]

    def unpacked_bytes(self) -> int:
        """See ``Source``."""
        return sum(part.bytes for part in self.parts.values())

    def verify(self) -> list[str]:
        """Read every byte; what is wrong, one sentence a damaged part."""
        problems = []
        for part in self.parts.values():
            try:
                for _ in self._stream(part):
                    pass
            except DataError as error:
                problems.append(str(error))
        return problems

    def splits(self, names: list[str]) -> list[str] | None:
        """The official split; validation is drawn from train."""
        return [self.parts[name.partition("/")[0]].split for name in names]

    def digest(self) -> str:
        """Of the files' content."""
        return sha256("\n".join(f"{path.name} {digest_file(path)}" for path in self.files()))

    def files(self) -> list[Path]:
        """Files of pictures and of labels."""
        return [path for part in self.parts.values() for path in (part.path, *part.others)]


def find_file(root: Path, names: Sequence[str]) -> Path | None:
    """The first of ``names`` in ``root``, or in a folder of its own that is called like one of them.

    Some sites and unpackers put each file into such a folder, e.g. train-images-idx3-ubyte/train-images-idx3-ubyte.
    """
    places = [root, *(root / name for name in names)]
    return next((place / name for place in places for name in names if (place / name).is_file()), None)


def _unpacked(folder: Path, part: str) -> Path:
    return folder / f"{part}.raw"
