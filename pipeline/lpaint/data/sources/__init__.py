"""Where pictures come from: CelebA, MNIST, SVHN, any folder of images, or the synthetic generator.

A source lists its entries cheaply in the parent process and loads them one by one in workers. Adding one is one class
and one line in ``open_source``.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lpaint.data.sources.base import IMAGE_SUFFIXES, Loader, Source
from lpaint.data.sources.celeba import CelebaFolder, CelebaZip
from lpaint.data.sources.folder import Folder
from lpaint.data.sources.generated import Synthetic
from lpaint.data.sources.mnist import Mnist
from lpaint.data.sources.svhn import Svhn
from lpaint.errors import DataError
from lpaint.runtime.paths import resolve_data_path

if TYPE_CHECKING:
    from lpaint.runtime.params import Params

__all__ = ["IMAGE_SUFFIXES", "Loader", "Source", "open_path", "open_source"]

_FOLDERS: dict[str, Callable[[Path], Source]] = {"folder": Folder, "mnist": Mnist, "svhn": Svhn}


def open_source(params: "Params") -> Source:
    """The source that ``params.data`` names.

    Raises:
        DataError: ``data.path`` does not exist or is not of the source's kind.
    """
    data = params.data
    if data.source == "synthetic":
        return Synthetic(data.seed, data.limit)
    return open_path(data.source, resolve_data_path(data.path))


def open_path(kind: str, path: Path) -> Source:
    """What lies at ``path`` as a source of ``kind``: celeba, folder, mnist or svhn.

    Raises:
        DataError: ``path`` does not exist or is not of that kind.
    """
    if not path.exists():
        raise DataError(f"{path}: data.path does not exist; correct it, or set data.source to synthetic")
    if kind == "celeba":
        return CelebaFolder(path) if path.is_dir() else CelebaZip(path)
    if not path.is_dir():
        raise DataError(f"{path}: data.source is {kind}, but this is a file; give the folder that holds the images")
    return _FOLDERS[kind](path)
