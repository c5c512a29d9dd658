"""Pictures, archives and parameters that the tests of the data share."""

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lpaint.params import Params, load_params

DEFAULTS = Path(__file__).parents[1] / "params.yaml"


def data_params(**data: Any) -> Params:
    """The committed parameters with small pictures, one worker, and ``data`` on top."""
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
