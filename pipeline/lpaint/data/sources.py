"""Where pictures come from: a CelebA archive or folder, any folder of images, or the synthetic generator.

A source lists its entries cheaply in the parent process and loads them one by one in workers. Adding one is one class
and one line in ``open_source``.
"""

import hashlib
import io
import re
import zipfile
from pathlib import Path
from typing import Protocol

from PIL import Image, ImageOps

from lpaint.data import synthetic
from lpaint.errors import DataError
from lpaint.params import Params
from lpaint.paths import resolve_data_path

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
_CELEBA_NAME = re.compile(r"(?:.*/)?(\d{6})\.jpg")
# The official partition of CelebA (list_eval_partition.txt): first id after the training and the validation split.
_VALIDATION_FROM, _TEST_FROM = 162771, 182638


class Source(Protocol):
    """Entries by name; ``load`` is called in worker processes, so a source must pickle."""

    def names(self) -> list[str]:
        """All entries, sorted. Raises DataError when there are none."""
        ...

    def load(self, name: str, size: int) -> Image.Image:
        """Decode one entry, upright, in RGB; ``size`` is the side it will be reduced to, a hint for decoders."""
        ...

    def splits(self, names: list[str]) -> list[str] | None:
        """Official split of each entry, or None where there is none or only a part of it is here."""
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
        found = (path for path in self.root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
        names = sorted(path.relative_to(self.root).as_posix() for path in found)
        if not names:
            raise DataError(f"{self.root}: holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}); check data.path")
        return names

    def load(self, name: str, size: int) -> Image.Image:
        """See ``Source``."""
        return _decode((self.root / name).read_bytes(), size)

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
        names = sorted(name for name in self._open().namelist() if Path(name).suffix.lower() in IMAGE_SUFFIXES)
        if not names:
            raise DataError(f"{self.path}: the archive holds no images; data.path must be an img_align_celeba.zip")
        return names

    def load(self, name: str, size: int) -> Image.Image:
        """See ``Source``; the archive's checksum of the entry is verified."""
        return _decode(self._open().read(name), size)

    def splits(self, names: list[str]) -> list[str] | None:
        """The official split by id."""
        return _celeba_splits(names)

    def digest(self) -> str:
        """Of the archive's directory: names, sizes and checksums."""
        return _sha256("\n".join(f"{i.filename} {i.file_size} {i.CRC}" for i in self._open().infolist()))

    def _open(self) -> zipfile.ZipFile:
        if self._archive is None:
            try:
                self._archive = zipfile.ZipFile(self.path)
            except (zipfile.BadZipFile, OSError) as error:
                raise DataError(f"{self.path}: is no readable zip archive ({error}); download it again") from None
        return self._archive


class Synthetic:
    """Our own generator; entry n is picture n of the seed."""

    def __init__(self, seed: int, count: int) -> None:
        self.seed, self.count = seed, count

    def names(self) -> list[str]:
        """synthetic/000000 and so on."""
        return [f"synthetic/{index:06d}" for index in range(self.count)]

    def load(self, name: str, size: int) -> Image.Image:
        """See ``Source``."""
        return synthetic.draw(self.seed, int(name.rsplit("/", 1)[1]), size)

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
        return Synthetic(params.base.seed, data.limit)
    path = resolve_data_path(data.path)
    if not path.exists():
        raise DataError(f"{path}: data.path does not exist; correct it, or set data.source to synthetic")
    if data.source == "folder":
        if not path.is_dir():
            raise DataError(f"{path}: data.source is folder, but this is a file; give the folder that holds the images")
        return Folder(path)
    return CelebaFolder(path) if path.is_dir() else CelebaZip(path)


def _celeba_splits(names: list[str]) -> list[str] | None:
    matches = [_CELEBA_NAME.fullmatch(name) for name in names]
    if not all(matches):
        return None
    ids = [int(match.group(1)) for match in matches if match]
    splits = ["train" if i < _VALIDATION_FROM else "validation" if i < _TEST_FROM else "test" for i in ids]
    return splits if len(set(splits)) == 3 else None


def _decode(content: bytes, size: int) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    # JPEG can be decoded at half or a quarter of its size at no loss, as long as reduction still follows.
    image.draft("RGB", (2 * size, 2 * size))
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        # 16-bit grey; Pillow's own conversion would clip instead of scale.
        return image.convert("I").point(lambda value: value / 257).convert("L").convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
