"""Pictures, archives and parameters that the tests of the data share."""

import gzip
import io
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from lpaint.runtime.params import Params

DEFAULTS = Path(__file__).parents[2] / "params.yaml"


def data_params(**data: Any) -> "Params":
    """The committed parameters with small pictures, one worker, and ``data`` on top."""
    from lpaint.runtime.params import load_params

    params = load_params(DEFAULTS)
    small: dict[str, Any] = {"size": 16, "workers": 1, "limit": 0, "max_bad_fraction": 0.0, **data}
    return params.model_copy(update={"data": params.data.model_copy(update=small)})


def jpeg(shade: int, width: int = 24, height: int = 20, **options: Any) -> bytes:
    """A plain grey JPEG."""
    return encoded(Image.new("RGB", (width, height), (shade, shade, shade)), "JPEG", **options)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of an image file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def write_zip(path: Path, entries: dict[str, bytes]) -> Path:
    """An archive of ``entries``."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def celeba_zip(path: Path, ids: Iterable[int]) -> Path:
    """An archive laid out like img_align_celeba.zip; the shade tells the entry's rank."""
    return write_zip(path, {f"img_align_celeba/{i:06d}.jpg": jpeg(10 * rank) for rank, i in enumerate(ids)})


def mean_shade(pixels: np.ndarray) -> float:
    """Mean over all pixels and channels, 0..255."""
    return float(pixels.astype(np.float64).mean())


def idx(values: np.ndarray) -> bytes:
    """A uint8 array in MNIST's format."""
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(np.uint8).tobytes()


def write_mnist(root: Path, train: int = 12, test: int = 4, zipped: bool = True) -> Path:
    """The four files of MNIST; picture n of a part is a ramp that begins at n."""
    root.mkdir(parents=True, exist_ok=True)
    for stem, count in (("train", train), ("t10k", test)):
        ramps = np.arange(28 * 28).reshape(1, 28, 28) // 4 + np.arange(count)[:, None, None]
        for name, values in (
            (f"{stem}-images-idx3-ubyte", ramps),
            (f"{stem}-labels-idx1-ubyte", np.arange(count) % 10),
        ):
            content = idx(values)
            path = root / (f"{name}.gz" if zipped else name)
            path.write_bytes(gzip.compress(content) if zipped else content)
    return root


def svhn_picture(index: int) -> np.ndarray:
    """Pixels [32, 32, 3] of which no two are alike: red tells the row, green the column, blue the picture."""
    picture = np.full((32, 32, 3), index % 256, np.uint8)
    picture[:, :, 0] = 8 * np.arange(32)[:, None]
    picture[:, :, 1] = 8 * np.arange(32)
    return picture


def write_svhn(root: Path, compressed: bool = True, **counts: int) -> Path:
    """SVHN's files, e.g. train=12, test=4, extra=5; labels run from 1 to 10."""
    from scipy.io import savemat

    root.mkdir(parents=True, exist_ok=True)
    for name, count in (counts or {"train": 12, "test": 4}).items():
        pictures = np.stack([svhn_picture(index) for index in range(count)], axis=3)
        labels = (np.arange(count) % 10 + 1).astype(np.uint8)[:, None]
        savemat(root / f"{name}_32x32.mat", {"X": pictures, "y": labels}, do_compression=compressed)
    return root
