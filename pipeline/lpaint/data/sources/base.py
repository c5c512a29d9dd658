"""What every source of pictures can do."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from lpaint.data.decode import Picture
from lpaint.errors import DataError
from lpaint.images.suffixes import READABLE

IMAGE_SUFFIXES = frozenset(READABLE)


class Loader(Protocol):
    """What a worker process decodes with; it must pickle, and be light."""

    def load(self, name: str, size: int) -> Picture:
        """Decode one entry; ``size`` is the side it will be reduced to, a hint for decoders.

        Whatever damaged content provokes is raised; a ``DataError`` holds only the reason.
        """
        ...


class Source(ABC):
    """Entries by name, listed cheaply in the parent process and loaded one by one in workers."""

    @abstractmethod
    def names(self) -> list[str]:
        """All entries, sorted. Raises DataError when there are none."""

    @abstractmethod
    def load(self, name: str, size: int) -> Picture:
        """See ``Loader``."""

    @abstractmethod
    def digest(self) -> str:
        """Changes when the source's content does; must be cheap."""

    def loader(self, names: Sequence[str]) -> Loader:
        """What is needed to load ``names``, to be sent to a worker."""
        return self

    def unpack(self, folder: Path) -> None:  # noqa: B027  # most sources need nothing
        """Lay out in ``folder`` what ``load`` needs and cannot find at random in the source; before the first load."""

    def unpacked_bytes(self) -> int:
        """Bytes that ``unpack`` writes."""
        return 0

    def splits(self, names: list[str]) -> list[str] | None:
        """Official split of each entry, or None where there is none; one that is missing is drawn from ``train``."""
        return None

    def files(self) -> list[Path]:
        """The files whose change DVC should notice by itself."""
        return []


def is_picture(name: str) -> bool:
    """By its suffix; hidden files and what macOS adds to archives (__MACOSX/._000001.jpg) are none."""
    path = PurePosixPath(name)
    hidden = any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden


def checked(origin: Path, names: list[str]) -> list[str]:
    """The names, all of which can be written as UTF-8.

    Raises:
        DataError: naming the first that cannot.
    """
    for name in names:
        if not name.isascii() and name != name.encode("utf-8", "replace").decode("utf-8"):
            raise DataError(f"{origin}: the file name {name!a} is not valid UTF-8; rename the file")
    return names


def sha256(text: str) -> str:
    """Hexadecimal digest of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
