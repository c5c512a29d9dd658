"""CelebA, as its archive img_align_celeba.zip or as the unpacked folder."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from lpaint.data.decode import Picture, decode
from lpaint.data.sources.archive import Entry, read_directory, read_entry
from lpaint.data.sources.base import Loader, Source, checked, is_picture, sha256
from lpaint.data.sources.folder import Folder
from lpaint.errors import DataError

_NAME = re.compile(r"(?:.*/)?(\d{6})\.jpg")
# The official partition of CelebA (list_eval_partition.txt): first ids of validation and test, and the last id.
_VALIDATION_FROM, _TEST_FROM = 162771, 182638
LAST = 202599


class CelebaFolder(Folder):
    """The unpacked folder img_align_celeba."""

    def splits(self, names: list[str]) -> list[str] | None:
        """The official split by id."""
        return _splits(names)


class ZipEntries:
    """Some entries of an archive, for a worker: each process opens the file for itself and needs no directory of it."""

    def __init__(self, path: Path, entries: dict[str, Entry]) -> None:
        self.path, self.entries = path, entries
        self._file: BinaryIO | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "entries": self.entries, "_file": None}

    def load(self, name: str, size: int) -> Picture:
        """See ``Loader``; the archive's checksum of the entry is verified."""
        if self._file is None:
            self._file = self.path.open("rb")
        return decode(read_entry(self._file, self.entries[name]), size)


class CelebaZip(Source):
    """img_align_celeba.zip, read without unpacking; any archive of images does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: dict[str, Entry] = {}
        self._digest = ""

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_entries": {}, "_digest": ""}

    def names(self) -> list[str]:
        """The archive's images; of a name that comes twice, the last counts, as for other readers."""
        self._read()
        names = sorted(filter(is_picture, self._entries))
        if not names:
            raise DataError(f"{self.path}: the archive holds no images; data.path must be an img_align_celeba.zip")
        return checked(self.path, names)

    def load(self, name: str, size: int) -> Picture:
        """See ``Loader``."""
        return self.loader([name]).load(name, size)

    def loader(self, names: Sequence[str]) -> Loader:
        """The places of ``names`` alone: to read the directory of 200,000 takes a second and 100 MB."""
        self._read()
        return ZipEntries(self.path, {name: self._entries[name] for name in names})

    def splits(self, names: list[str]) -> list[str] | None:
        """The official split by id."""
        return _splits(names)

    def digest(self) -> str:
        """Of the archive's directory: names, sizes and checksums."""
        self.names()  # An archive without images is an error already here.
        return self._digest

    def files(self) -> list[Path]:
        """The archive."""
        return [self.path]

    def _read(self) -> None:
        if not self._entries:
            directory = read_directory(self.path)
            self._entries = dict(directory)
            self._digest = sha256("\n".join(f"{name} {entry.size} {entry.checksum}" for name, entry in directory))


def _splits(names: list[str]) -> list[str] | None:
    """None where a name is no id of CelebA's, or where one of the three would be empty."""
    matches = [_NAME.fullmatch(name) for name in names]
    if not all(matches):
        return None
    ids = [int(match.group(1)) for match in matches if match]
    if min(ids) < 1 or max(ids) > LAST:
        return None
    splits = ["train" if i < _VALIDATION_FROM else "validation" if i < _TEST_FROM else "test" for i in ids]
    return splits if len(set(splits)) == 3 else None
