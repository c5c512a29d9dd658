"""Where pictures come from: a CelebA archive or folder, any folder of images, or the synthetic generator.

A source lists its entries cheaply in the parent process and loads them one by one in workers. Adding one is one class
and one line in ``open_source``.
"""

import hashlib
import re
import zipfile
from pathlib import Path, PurePosixPath
from typing import Protocol

from lpaint.data import synthetic
from lpaint.data.decode import Picture, decode, explain
from lpaint.errors import DataError
from lpaint.params import Params
from lpaint.paths import resolve_data_path

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
_CELEBA_NAME = re.compile(r"(?:.*/)?(\d{6})\.jpg")
# The official partition of CelebA (list_eval_partition.txt): first ids of validation and test, and the last id.
_VALIDATION_FROM, _TEST_FROM, _LAST = 162771, 182638, 202599


class Source(Protocol):
    """Entries by name; ``load`` is called in worker processes, so a source must pickle."""

    def names(self) -> list[str]:
        """All entries, sorted. Raises DataError when there are none."""
        ...

    def load(self, name: str, size: int) -> Picture:
        """Decode one entry; ``size`` is the side it will be reduced to, a hint for decoders."""
        ...

    def splits(self, names: list[str]) -> list[str] | None:
        """Official split of each entry, or None where there is none or one of the three would be empty."""
        ...

    def digest(self) -> str:
        """Changes when the source's content does; must be cheap."""
        ...


class Folder:
    """Images in a folder, at any depth."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Relative paths of everything with an image's suffix."""
        found = (path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())
        names = sorted(filter(_is_picture, found))
        if not names:
            raise DataError(f"{self.root}: holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}); check data.path")
        return _checked(self.root, names)

    def load(self, name: str, size: int) -> Picture:
        """See ``Source``."""
        return decode((self.root / name).read_bytes(), size)

    def splits(self, names: list[str]) -> list[str] | None:
        """None: a folder has no official split."""
        return None

    def digest(self) -> str:
        """Of names, sizes and modification times."""
        entries = []
        for name in self.names():
            status = (self.root / name).stat()
            entries.append(f"{name} {status.st_size} {status.st_mtime_ns}")
        return _sha256("\n".join(entries))


class CelebaFolder(Folder):
    """The unpacked folder img_align_celeba."""

    def splits(self, names: list[str]) -> list[str] | None:
        """The official split by id."""
        return _celeba_splits(names)


class CelebaZip:
    """img_align_celeba.zip, read without unpacking. Each process opens the archive for itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive: zipfile.ZipFile | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_archive": None}

    def names(self) -> list[str]:
        """The archive's images."""
        # A set: an archive may hold the same name twice, of which readers see the last.
        names = sorted(set(filter(_is_picture, self._open().namelist())))
        if not names:
            raise DataError(f"{self.path}: the archive holds no images; data.path must be an img_align_celeba.zip")
        return _checked(self.path, names)

    def load(self, name: str, size: int) -> Picture:
        """See ``Source``; the archive's checksum of the entry is verified."""
        return decode(self._open().read(name), size)

    def splits(self, names: list[str]) -> list[str] | None:
        """The official split by id."""
        return _celeba_splits(names)

    def digest(self) -> str:
        """Of the archive's directory: names, sizes and checksums."""
        self.names()  # An archive without images is an error already here.
        return _sha256(
            "\n".join(f"{entry.filename} {entry.file_size} {entry.CRC}" for entry in self._open().infolist())
        )

    def _open(self) -> zipfile.ZipFile:
        if self._archive is None:
            try:
                self._archive = zipfile.ZipFile(self.path)
            except (zipfile.BadZipFile, OSError) as error:
                raise DataError(
                    f"{self.path}: is no readable zip archive ({explain(error)}); download it again"
                ) from None
        return self._archive


class Synthetic:
    """Our own generator; entry n is picture n of the seed."""

    def __init__(self, seed: int, count: int) -> None:
        self.seed, self.count = seed, count

    def names(self) -> list[str]:
        """synthetic/000000 and so on."""
        return [f"synthetic/{index:06d}" for index in range(self.count)]

    def load(self, name: str, size: int) -> Picture:
        """See ``Source``."""
        return Picture(synthetic.draw(self.seed, int(name.rsplit("/", 1)[1]), size), size, size)

    def splits(self, names: list[str]) -> list[str] | None:
        """None."""
        return None

    def digest(self) -> str:
        """Of the generator's version and the seed."""
        return _sha256(f"{synthetic.VERSION} {self.seed} {self.count}")


def open_source(params: Params) -> Source:
    """The source that ``params.data`` names.

    Raises:
        DataError: ``data.path`` does not exist or is not of the source's kind.
    """
    data = params.data
    if data.source == "synthetic":
        return Synthetic(data.seed, data.limit)
    path = resolve_data_path(data.path)
    if not path.exists():
        raise DataError(f"{path}: data.path does not exist; correct it, or set data.source to synthetic")
    if data.source == "folder":
        if not path.is_dir():
            raise DataError(f"{path}: data.source is folder, but this is a file; give the folder that holds the images")
        return Folder(path)
    return CelebaFolder(path) if path.is_dir() else CelebaZip(path)


def _is_picture(name: str) -> bool:
    """By its suffix; hidden files and what macOS adds to archives (__MACOSX/._000001.jpg) are none."""
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden


def _checked(origin: Path, names: list[str]) -> list[str]:
    for name in names:
        if not name.isascii() and name != name.encode("utf-8", "replace").decode("utf-8"):
            raise DataError(f"{origin}: the file name {name!a} is not valid UTF-8; rename the file")
    return names


def _celeba_splits(names: list[str]) -> list[str] | None:
    matches = [_CELEBA_NAME.fullmatch(name) for name in names]
    if not all(matches):
        return None
    ids = [int(match.group(1)) for match in matches if match]
    if min(ids) < 1 or max(ids) > _LAST:
        return None
    splits = ["train" if i < _VALIDATION_FROM else "validation" if i < _TEST_FROM else "test" for i in ids]
    return splits if len(set(splits)) == 3 else None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
