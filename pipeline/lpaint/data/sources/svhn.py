"""Street View House Numbers, format 2 (cropped digits): train_32x32.mat, test_32x32.mat and, if there, extra_32x32.mat.

Each holds X [32, 32, 3, N] uint8 (row, column, channel, picture; the first fastest) and y [N, 1], in which 10 is zero.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lpaint.data.decode import explain
from lpaint.data.sources.arrays import MOST, ArraySource, Part, find_file
from lpaint.data.sources.matlab import check_whole, stream_array
from lpaint.errors import DataError

_SPLITS = {"train": "train", "test": "test", "extra": "train"}
_PICTURE = (32, 32, 3)


class Svhn(ArraySource):
    """A folder of SVHN's MATLAB files; what is in extra is for training."""

    # Stored channel by channel, column by column.
    axes = (2, 1, 0)

    def _find(self) -> dict[str, Part]:
        parts = {}
        for name, split in _SPLITS.items():
            path = find_file(self.root, [f"{name}_32x32.mat"])
            if path is not None:
                parts[name] = Part(split, _labels(path), _PICTURE[::-1], path)
            elif name != "extra":
                raise DataError(f"{self.root}: has no {name}_32x32.mat; put train_32x32.mat and test_32x32.mat there")
        return parts

    def _stream(self, part: Part) -> Iterator[bytes]:
        return stream_array(part.path, "X", part.bytes)


def _labels(path: Path) -> np.ndarray:
    """Digits 0..9 [N], one for each picture."""
    # Imported here: worker processes need no scipy.
    from scipy.io import loadmat, whosmat

    check_whole(path)
    shapes = {name: (shape, kind) for name, shape, kind in _attempt(path, whosmat)}
    if shapes.keys() == {"X"}:
        # The last array lacks altogether; nothing in the file says that there should be one.
        raise DataError(f"{path}: holds X but no y, so it is cut off after X; download it again")
    if not {"X", "y"} <= shapes.keys():
        held = ", ".join(sorted(shapes)) or "nothing"
        raise DataError(f"{path}: holds {held} where SVHN's cropped digits have X and y; take format 2 of SVHN")
    (*picture, count), kind = shapes["X"]
    if tuple(picture) != _PICTURE or kind != "uint8" or not 0 < count <= MOST:
        found = " x ".join(map(str, shapes["X"][0]))
        raise DataError(f"{path}: X is {kind} {found} where uint8 32 x 32 x 3 x N is called for; take format 2 of SVHN")
    # Checked before they are read: a header may claim any size.
    size = int(np.prod(shapes["y"][0]))
    if size != count:
        raise DataError(f"{path}: holds {size} labels for {count} images; download it again")
    labels = np.asarray(_attempt(path, lambda file: loadmat(file, variable_names=["y"]))["y"]).reshape(-1)
    if labels.dtype.kind not in "uif" or not np.isin(labels, np.arange(11)).all():
        raise DataError(f"{path}: y holds other labels than 0 to 10; take format 2 of SVHN")
    return labels.astype(np.int64) % 10


def _attempt(path: Path, read: Any) -> Any:
    """What scipy reads; it raises whatever it stumbles over."""
    try:
        return read(str(path))
    except NotImplementedError:
        raise DataError(
            f"{path}: is a MATLAB v7.3 file, where SVHN's are v5; download it again, or save it with -v7"
        ) from None
    except Exception as error:
        raise DataError(f"{path}: is no readable MATLAB file ({explain(error)}); download it again") from None
