"""Images in a folder: flat, in class subfolders, or in train/ and val/ like ImageNet."""

from pathlib import Path, PurePosixPath

from lpaint.data.decode import MAX_BYTES, DecodedImage, decode
from lpaint.data.sources.base import IMAGE_SUFFIXES, Source, check_utf8_names, is_image_entry, sha256
from lpaint.errors import DataError

_SPLIT_FOLDERS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


class Folder(Source):
    """All images below a folder. Links to files are followed, links to folders are not."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Relative paths of all files with an image suffix."""
        found = (path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())
        names = sorted(filter(is_image_entry, found))
        if not names:
            raise DataError(f"{self.root}: holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}); check data.path")
        return check_utf8_names(self.root, names)

    def load(self, name: str, size: int) -> DecodedImage:
        path = self.root / name
        length = path.stat().st_size
        if length > MAX_BYTES:
            raise DataError(f"has {length:,} bytes, more than the {MAX_BYTES:,} that are read")
        return decode(path.read_bytes(), size)

    def splits(self, names: list[str]) -> list[str] | None:
        """Splits by top-level subfolder, if all are named train, val (valid, validation) or test, and train exists."""
        tops = [parts[0] if len(parts := PurePosixPath(name).parts) > 1 else "" for name in names]
        if not set(tops) <= _SPLIT_FOLDERS.keys() or "train" not in tops or len(set(tops)) == 1:
            return None
        return [_SPLIT_FOLDERS[top] for top in tops]

    def fingerprint(self) -> str:
        """Digest of names, sizes and modification times."""
        entries = []
        for name in self.names():
            status = (self.root / name).stat()
            entries.append(f"{name} {status.st_size} {status.st_mtime_ns}")
        return sha256("\n".join(entries))
