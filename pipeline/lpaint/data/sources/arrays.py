"""Data sets of large compressed arrays: they are unpacked once for random access."""

import os
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from lpaint.data.decode import DecodedImage
from lpaint.data.sources.base import Loader, Source, sha256
from lpaint.errors import DataError
from lpaint.files import atomic_write
from lpaint.runtime.provenance import digest_file

# A header with more images is taken as damaged.
MAX_IMAGES = 10_000_000


@dataclass(frozen=True)
class ArrayFile:
    """Images of one file: ``split``, ``labels`` [N] int, stored ``shape`` of one image, and the paths of the files."""

    split: str
    labels: np.ndarray
    shape: tuple[int, ...]
    path: Path
    label_files: tuple[Path, ...] = ()

    @property
    def bytes(self) -> int:
        """Size of all images in bytes."""
        return len(self.labels) * int(np.prod(self.shape))


class UnpackedArrays:
    """Loads images of unpacked files in a worker; ``axes`` transposes a stored image to [H, W] or [H, W, 3]."""

    def __init__(self, folder: Path, shapes: dict[str, tuple[int, ...]], axes: tuple[int, ...]) -> None:
        self.folder, self.shapes, self.axes = folder, shapes, axes

    def load(self, name: str, size: int) -> DecodedImage:
        part, _, rest = name.partition("/")
        shape = self.shapes[part]
        length = int(np.prod(shape))
        with _unpacked_path(self.folder, part).open("rb") as stream:
            content = os.pread(stream.fileno(), length, int(rest.partition("-")[0]) * length)
        pixels = np.frombuffer(content, np.uint8).reshape(shape).transpose(self.axes)
        image = Image.fromarray(np.ascontiguousarray(pixels))
        return DecodedImage(image.convert("RGB"), image.width, image.height)


class ArraySource(Source):
    """A folder of array files. Entry names such as ``train/000017-5`` have the part, the index and the label."""

    axes: tuple[int, ...]

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folder: Path | None = None

    @abstractmethod
    def _find_parts(self) -> dict[str, ArrayFile]:
        """All parts by name. Raises DataError if a file is missing or invalid."""

    @abstractmethod
    def _stream(self, part: ArrayFile) -> Iterator[bytes]:
        """The bytes of a part's images, in pieces. Raises DataError if they are damaged, too few or too many."""

    @cached_property
    def parts(self) -> dict[str, ArrayFile]:
        """All parts by name."""
        return self._find_parts()

    def names(self) -> list[str]:
        return [
            f"{name}/{index:06d}-{label}"
            for name, part in sorted(self.parts.items())
            for index, label in enumerate(part.labels.tolist())
        ]

    def load(self, name: str, size: int) -> DecodedImage:
        """Load an entry; ``unpack`` must have been called before."""
        return self.loader([name]).load(name, size)

    def loader(self, names: Sequence[str]) -> Loader:
        """A loader that has only the unpacked files."""
        assert self._folder is not None, "call unpack first"
        return UnpackedArrays(self._folder, {name: part.shape for name, part in self.parts.items()}, self.axes)

    def unpack(self, folder: Path) -> None:
        """Write the images of each part to a file of its own; existing files are kept."""
        self._folder = folder
        for name, part in self.parts.items():
            target = _unpacked_path(folder, name)
            if target.exists():
                continue
            with atomic_write(target) as temporary, temporary.open("wb") as stream:
                for piece in self._stream(part):
                    stream.write(piece)

    def unpack_sample(self, folder: Path) -> list[str]:
        """Write only the first images of each part; returns their entry names."""
        self._folder = folder
        counts = {}
        for name, part in self.parts.items():
            piece = next(self._stream(part))
            _unpacked_path(folder, name).write_bytes(piece)
            counts[name] = len(piece) // int(np.prod(part.shape))
        return [
            name
            for name in self.names()
            if int(name.partition("/")[2].partition("-")[0]) < counts[name.partition("/")[0]]
        ]

    def unpacked_bytes(self) -> int:
        return sum(part.bytes for part in self.parts.values())

    def verify(self) -> list[str]:
        """Read every byte; returns one sentence for each damaged part."""
        problems = []
        for part in self.parts.values():
            try:
                for _ in self._stream(part):
                    pass
            except DataError as error:
                problems.append(str(error))
        return problems

    def splits(self, names: list[str]) -> list[str] | None:
        """The official splits; there is no validation split, so it is drawn from train."""
        return [self.parts[name.partition("/")[0]].split for name in names]

    def fingerprint(self) -> str:
        """Digest of the files' content."""
        return sha256("\n".join(f"{path.name} {digest_file(path)}" for path in self.watched_files()))

    def watched_files(self) -> list[Path]:
        """Files of images and labels."""
        return [path for part in self.parts.values() for path in (part.path, *part.label_files)]


def find_file(root: Path, names: Sequence[str]) -> Path | None:
    """The first existing file of ``names`` in ``root`` or in a subfolder with one of these names.

    Some archives put each file into a folder, e.g. train-images-idx3-ubyte/train-images-idx3-ubyte.
    """
    folders = [root, *(root / name for name in names)]
    return next((folder / name for folder in folders for name in names if (folder / name).is_file()), None)


def _unpacked_path(folder: Path, part: str) -> Path:
    return folder / f"{part}.raw"
