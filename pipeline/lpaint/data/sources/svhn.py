"""Street View House Numbers, format 2 (cropped digits): train_32x32.mat, test_32x32.mat, optionally extra_32x32.mat.

Each file has X [32, 32, 3, N] uint8 (row, column, channel, image; the first fastest) and y [N, 1], with 10 for zero.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lpaint.data.decode import describe_error
from lpaint.data.sources.arrays import MAX_IMAGES, ArrayFile, ArraySource, find_file
from lpaint.data.sources.matlab import check_complete, stream_array
from lpaint.errors import DataError

_SPLITS = {"train": "train", "test": "test", "extra": "train"}
_IMAGE_SHAPE = (32, 32, 3)


class Svhn(ArraySource):
    """A folder of SVHN's MATLAB files; images of extra are training images."""

    # Stored channel by channel, column by column.
    axes = (2, 1, 0)

    def _find_parts(self) -> dict[str, ArrayFile]:
        parts = {}
        for name, split in _SPLITS.items():
            path = find_file(self.root, [f"{name}_32x32.mat"])
            if path is not None:
                parts[name] = ArrayFile(split, _labels(path), _IMAGE_SHAPE[::-1], path)
            elif name != "extra":
                raise DataError(f"{self.root}: has no {name}_32x32.mat; put train_32x32.mat and test_32x32.mat there")
        return parts

    def _stream(self, part: ArrayFile) -> Iterator[bytes]:
        return stream_array(part.path, "X", part.bytes)


def _labels(path: Path) -> np.ndarray:
    """Digits [N] in 0..9, one for each image."""
    # Imported here: worker processes need no scipy.
    from scipy.io import loadmat, whosmat

    check_complete(path)
    shapes = {name: (shape, kind) for name, shape, kind in _call_scipy(path, whosmat)}
    if shapes.keys() == {"X"}:
        # The last array is missing; the file does not say how many there should be.
        raise DataError(f"{path}: holds X but no y, so it is cut off after X; download it again")
    if not {"X", "y"} <= shapes.keys():
        held = ", ".join(sorted(shapes)) or "nothing"
        raise DataError(f"{path}: holds {held} where SVHN's cropped digits have X and y; take format 2 of SVHN")
    (*picture, count), kind = shapes["X"]
    if tuple(picture) != _IMAGE_SHAPE or kind != "uint8" or not 0 < count <= MAX_IMAGES:
        found = " x ".join(map(str, shapes["X"][0]))
        raise DataError(f"{path}: X is {kind} {found} where uint8 32 x 32 x 3 x N is called for; take format 2 of SVHN")
    # Checked before reading: a damaged header may state any size.
    size = int(np.prod(shapes["y"][0]))
    if size != count:
        raise DataError(f"{path}: holds {size} labels for {count} images; download it again")
    labels = np.asarray(_call_scipy(path, lambda file: loadmat(file, variable_names=["y"]))["y"]).reshape(-1)
    if labels.dtype.kind not in "uif" or not np.isin(labels, np.arange(11)).all():
        raise DataError(f"{path}: y holds other labels than 0 to 10; take format 2 of SVHN")
    return labels.astype(np.int64) % 10


def _call_scipy(path: Path, read: Any) -> Any:
    """Call a reader of scipy, and turn its exceptions, of many types, into DataError."""
    try:
        return read(str(path))
    except NotImplementedError:
        raise DataError(
            f"{path}: is a MATLAB v7.3 file, where SVHN's are v5; download it again, or save it with -v7"
        ) from None
    except Exception as error:
        raise DataError(f"{path}: is no readable MATLAB file ({describe_error(error)}); download it again") from None
