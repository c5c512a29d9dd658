"""Reading prepared images."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lpaint.data.schema import check_manifest
from lpaint.errors import DataError, one_line


@dataclass(frozen=True)
class PreparedData:
    """Prepared images: ``images`` [N, size, size, 3] uint8, memory-mapped; ``manifest`` as in ``schema.MANIFEST``."""

    images: np.ndarray
    manifest: pd.DataFrame
    digest: str

    @classmethod
    def load(cls, folder: Path) -> "PreparedData":
        """Open the output of the prepare stage.

        Raises:
            DataError: a file is missing or damaged.
        """
        try:
            # Copy-on-write: torch needs writable memory, and nothing is written to the disk.
            images = np.load(folder / "images.npy", mmap_mode="c")
            manifest = pd.read_parquet(folder / "manifest.parquet")
            digest = str(json.loads((folder / "summary.json").read_text(encoding="utf-8"))["digest"])
        except FileNotFoundError as error:
            raise DataError(f"{error.filename}: there is no such file; run `dvc repro prepare`") from None
        except Exception as error:
            # Readers raise exceptions of many types on damaged files; numpy even those of Python's tokenizer.
            raise DataError(f"{folder}: cannot be read ({one_line(error)}); run `dvc repro -f prepare`") from None
        check_manifest(manifest, str(folder))
        shape = (int(manifest["ok"].sum()), *images.shape[1:2] * 2, 3)
        if images.dtype != np.uint8 or images.shape != shape:
            raise DataError(
                f"{folder}: images.npy holds {images.dtype} {images.shape} where the manifest calls for uint8 {shape}; "
                "run `dvc repro -f prepare`"
            )
        return cls(images, manifest, digest)

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return int(self.images.shape[1])

    def split(self, name: str) -> np.ndarray:
        """Rows [M] int64 of ``images`` in ``train``, ``validation`` or ``test``.

        Raises:
            DataError: the split is empty.
        """
        rows = self.manifest.loc[(self.manifest["split"] == name) & self.manifest["ok"], "index"].to_numpy(np.int64)
        if not len(rows):
            raise DataError(f"data: the {name} split is empty; raise data.limit or data.{name}_fraction")
        return rows

    def names(self, rows: np.ndarray) -> list[str]:
        """Source entry names of ``rows``."""
        by_row = self.manifest.loc[self.manifest["ok"]].set_index("index")["name"]
        return list(by_row.loc[rows])
