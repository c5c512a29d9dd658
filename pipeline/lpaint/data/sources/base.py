"""Interfaces of image sources."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from lpaint.data.decode import DecodedImage
from lpaint.errors import DataError
from lpaint.images.suffixes import READABLE

IMAGE_SUFFIXES = frozenset(READABLE)


class Loader(Protocol):
    """Loads entries in a worker process. It is pickled for each task, so it must be small."""

    def load(self, name: str, size: int) -> DecodedImage:
        """Decode one entry; ``size`` is the side in pixels that it will be reduced to, a hint for decoders.

        Raises:
            DataError: the entry cannot be read; the text is only the reason.
            Exception: whatever the decoder raises on damaged content.
        """
        ...


class Source(ABC):
    """A data set of named entries. The parent process lists them; workers load them one by one."""

    @abstractmethod
    def names(self) -> list[str]:
        """Names of all entries, sorted. Raises DataError if there are none."""

    @abstractmethod
    def load(self, name: str, size: int) -> DecodedImage:
        """Decode one entry, as ``Loader.load``."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A text that changes with the source's content; must be cheap to compute."""

    def loader(self, names: Sequence[str]) -> Loader:
        """A loader of ``names`` for a worker."""
        return self

    def unpack(self, folder: Path) -> None:  # noqa: B027  # most sources need nothing
        """Write files that ``load`` needs for random access to ``folder``. Called before the first load."""

    def unpacked_bytes(self) -> int:
        """Size in bytes of the files that ``unpack`` writes."""
        return 0

    def splits(self, names: list[str]) -> list[str] | None:
        """Official split of each entry; None if there are no splits. A missing split is drawn from ``train``."""
        return None

    def watched_files(self) -> list[Path]:
        """Files that DVC watches for changes."""
        return []


def is_image_entry(name: str) -> bool:
    """Whether an entry has an image suffix and is not hidden, nor added by macOS (__MACOSX/._000001.jpg)."""
    path = PurePosixPath(name)
    hidden = any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden


def check_utf8_names(origin: Path, names: list[str]) -> list[str]:
    """Return the names if all can be written as UTF-8.

    Raises:
        DataError: with the first name that cannot.
    """
    for name in names:
        if not name.isascii() and name != name.encode("utf-8", "replace").decode("utf-8"):
            raise DataError(f"{origin}: the file name {name!a} is not valid UTF-8; rename the file")
    return names


def sha256(text: str) -> str:
    """Hexadecimal digest of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
