"""Image sources: CelebA, MNIST, SVHN, a folder of images, or the synthetic generator.

A source lists its entries in the parent process, which must be cheap, and loads them one by one in workers.

To add a source:

1. write its class in a module of this package (``Source`` in ``base``; ``ArraySource`` in ``arrays``);
2. add a line to ``_SOURCES`` below;
3. add its name to ``Data.source`` in ``lpaint/runtime/params.py``.

``lpaint data check`` detects it if ``lpaint/data/inspection.py`` has a rule for it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lpaint.data.sources.base import IMAGE_SUFFIXES, Loader, Source
from lpaint.data.sources.celeba import open_celeba
from lpaint.data.sources.folder import Folder
from lpaint.data.sources.generated import Synthetic
from lpaint.data.sources.mnist import Mnist
from lpaint.data.sources.svhn import Svhn
from lpaint.errors import DataError
from lpaint.runtime.paths import resolve_data_path

if TYPE_CHECKING:
    from lpaint.runtime.params import Params

__all__ = ["IMAGE_SUFFIXES", "Loader", "Source", "open_source", "open_source_path"]

# What opens `data.path`, by `data.source`.
_SOURCES: dict[str, Callable[[Path], Source]] = {"celeba": open_celeba, "folder": Folder, "mnist": Mnist, "svhn": Svhn}
# Sources whose path may be a file.
_ARCHIVES = ("celeba",)


def open_source(params: "Params") -> Source:
    """Open the source that ``params.data`` names.

    Raises:
        DataError: ``data.path`` does not exist or does not fit the source.
    """
    data = params.data
    if data.source == "synthetic":
        return Synthetic(data.seed, data.limit)
    return open_source_path(data.source, resolve_data_path(data.path))


def open_source_path(kind: str, path: Path) -> Source:
    """Open ``path`` as a source of ``kind``: celeba, folder, mnist or svhn.

    Raises:
        DataError: ``path`` does not exist or does not fit that kind.
    """
    if not path.exists():
        raise DataError(f"{path}: data.path does not exist; correct it, or set data.source to synthetic")
    if kind not in _ARCHIVES and not path.is_dir():
        raise DataError(f"{path}: data.source is {kind}, but this is a file; give the folder that holds the images")
    return _SOURCES[kind](path)
