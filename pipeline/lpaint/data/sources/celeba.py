"""CelebA, as its archive img_align_celeba.zip or as the unpacked folder."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from lpaint.data.decode import DecodedImage, decode
from lpaint.data.sources.archive import Entry, read_directory, read_entry
from lpaint.data.sources.base import Loader, Source, check_utf8_names, is_image_entry, sha256
from lpaint.data.sources.folder import Folder
from lpaint.errors import DataError

_NAME = re.compile(r"(?:.*/)?(\d{6})\.jpg")
# The official partition of CelebA (list_eval_partition.txt): first ids of validation and test, and the last id.
_VALIDATION_FROM, _TEST_FROM = 162771, 182638
LAST_ID = 202599


class CelebaFolder(Folder):
    """The unpacked folder img_align_celeba."""

    def splits(self, names: list[str]) -> list[str] | None:
        """The official split by id."""
        return _splits(names)


class ZipEntries:
    """Loads some entries of an archive in a worker, which opens the file itself and does not read its directory."""

    def __init__(self, path: Path, entries: dict[str, Entry]) -> None:
        self.path, self.entries = path, entries
        self._file: BinaryIO | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "entries": self.entries, "_file": None}

    def load(self, name: str, size: int) -> DecodedImage:
        if self._file is None:
            self._file = self.path.open("rb")
        return decode(read_entry(self._file, self.entries[name]), size)


def open_celeba(path: Path) -> Source:
    """The archive or the folder at ``path``."""
    return CelebaFolder(path) if path.is_dir() else CelebaZip(path)


class CelebaZip(Source):
    """img_align_celeba.zip, or any other zip archive of images, read without unpacking."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: dict[str, Entry] = {}
        self._fingerprint = ""

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_entries": {}, "_digest": ""}

    def names(self) -> list[str]:
        """Names of the archive's images. Of duplicate names the last entry is used, as other readers do."""
        self._read()
        names = sorted(filter(is_image_entry, self._entries))
        if not names:
            raise DataError(f"{self.path}: the archive holds no images; data.path must be an img_align_celeba.zip")
        return check_utf8_names(self.path, names)

    def load(self, name: str, size: int) -> DecodedImage:
        return self.loader([name]).load(name, size)

    def loader(self, names: Sequence[str]) -> Loader:
        """A loader with the places of ``names`` only: reading a directory of 200,000 takes a second and 100 MB."""
        self._read()
        return ZipEntries(self.path, {name: self._entries[name] for name in names})

    def splits(self, names: list[str]) -> list[str] | None:
        """The official split by id."""
        return _splits(names)

    def fingerprint(self) -> str:
        """Digest of the archive's directory: names, sizes and checksums."""
        self.names()  # Raises DataError if the archive has no images.
        return self._fingerprint

    def watched_files(self) -> list[Path]:
        """The archive."""
        return [self.path]

    def _read(self) -> None:
        if not self._entries:
            directory = read_directory(self.path)
            self._entries = dict(directory)
            self._fingerprint = sha256("\n".join(f"{name} {entry.size} {entry.checksum}" for name, entry in directory))


def _splits(names: list[str]) -> list[str] | None:
    """Official splits; None if a name has no CelebA id, or if one of the three splits would be empty."""
    matches = [_NAME.fullmatch(name) for name in names]
    if not all(matches):
        return None
    ids = [int(match.group(1)) for match in matches if match]
    if min(ids) < 1 or max(ids) > LAST_ID:
        return None
    splits = ["train" if i < _VALIDATION_FROM else "validation" if i < _TEST_FROM else "test" for i in ids]
    return splits if len(set(splits)) == 3 else None
