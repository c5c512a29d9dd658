"""Images in a folder: flat, in class subfolders, or laid out like ImageNet with train/ and val/."""

from pathlib import Path, PurePosixPath

from lpaint.data.decode import MOST_BYTES, Picture, decode
from lpaint.data.sources.base import IMAGE_SUFFIXES, Source, checked, is_picture, sha256
from lpaint.errors import DataError

_SPLIT_FOLDERS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


class Folder(Source):
    """Images in a folder, at any depth. Links to files are followed, links to folders are not."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Relative paths of everything with an image's suffix."""
        found = (path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())
        names = sorted(filter(is_picture, found))
        if not names:
            raise DataError(f"{self.root}: holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}); check data.path")
        return checked(self.root, names)

    def load(self, name: str, size: int) -> Picture:
        """See ``Loader``."""
        path = self.root / name
        length = path.stat().st_size
        if length > MOST_BYTES:
            raise DataError(f"has {length:,} bytes, more than the {MOST_BYTES:,} that are read")
        return decode(path.read_bytes(), size)

    def splits(self, names: list[str]) -> list[str] | None:
        """By the uppermost subfolder, if all are called train, val (valid, validation) or test, and train is one."""
        tops = [parts[0] if len(parts := PurePosixPath(name).parts) > 1 else "" for name in names]
        if not set(tops) <= _SPLIT_FOLDERS.keys() or "train" not in tops or len(set(tops)) == 1:
            return None
        return [_SPLIT_FOLDERS[top] for top in tops]

    def digest(self) -> str:
        """Of names, sizes and modification times."""
        entries = []
        for name in self.names():
            status = (self.root / name).stat()
            entries.append(f"{name} {status.st_size} {status.st_mtime_ns}")
        return sha256("\n".join(entries))
