"""Decode in parallel, resize, pack: a source becomes ``data/prepared``."""

import hashlib
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from lpaint.data.decode import explain, square
from lpaint.data.schema import SPLITS, check_manifest
from lpaint.data.sources import Source, open_source
from lpaint.errors import DataError
from lpaint.files import write_json
from lpaint.params import Params

_CHUNK = 32
_WINDOWS_AHEAD = 6


@dataclass(frozen=True)
class _Decoded:
    """What became of one entry: its pixels are packed, or the reason says why there are none."""

    ok: bool
    reason: str
    width: int
    height: int


def prepare(params: Params, out: Path, progress: bool = False) -> dict[str, Any]:
    """Write images.npy, manifest.parquet, summary.json and preview.png to the folder ``out``; returns the summary.

    The folder appears whole or not at all. Memory does not depend on the number of images. With ``data.limit`` the
    images taken are spread evenly over the sorted entries, so that class subfolders and official splits keep their
    shares. ``progress`` shows a bar on stderr.

    Raises:
        DataError: the source is missing or empty, or more than ``data.max_bad_fraction`` of it is unreadable.
    """
    data = params.data
    source = open_source(params)
    names = source.names()
    if data.limit:
        names = _spread(names, data.limit)
    partial_folder = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial_folder, ignore_errors=True)
    partial_folder.mkdir(parents=True)
    try:
        table = _pack(params, source, names, partial_folder / "images.npy", progress)
        _check_bad(table, data.max_bad_fraction)
        _shorten(partial_folder / "images.npy", int(table["ok"].sum()))
        table["split"] = _splits(params, source, table)
        check_manifest(table, str(out))
        table.to_parquet(partial_folder / "manifest.parquet", index=False)
        summary = _summary(params, source, table, partial_folder)
        write_json(partial_folder / "summary.json", summary)
        _write_preview(partial_folder)
        shutil.rmtree(out, ignore_errors=True)
        partial_folder.rename(out)
    except BaseException:
        shutil.rmtree(partial_folder, ignore_errors=True)
        raise
    return summary


def source_digest(params: Params) -> str:
    """Digest of the source's content, cheap enough to ask before every run."""
    return open_source(params).digest()


def worker_count(params: Params) -> int:
    """Decoding processes that ``data.workers`` asks for; 0 = all cores."""
    return params.data.workers or os.cpu_count() or 1


def _spread(names: list[str], count: int) -> list[str]:
    """At most ``count`` names at even distances, in order."""
    if count >= len(names):
        return names
    return [names[at * len(names) // count] for at in range(count)]


def _pack(params: Params, source: Source, names: list[str], path: Path, progress: bool) -> pd.DataFrame:
    size = params.data.size
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (len(names), size, size, 3))
    rows: list[tuple[int, str, str, bool, str, int, int]] = []
    good = 0
    results = tqdm(_decode_all(params, source, names, path), total=len(names), unit="image", disable=not progress)
    for slot, (name, decoded) in enumerate(zip(names, results, strict=True)):
        # Bad entries leave gaps, which the good ones behind them close.
        if decoded.ok and good < slot:
            images[good] = images[slot]
        rows.append((good if decoded.ok else -1, name, "", decoded.ok, decoded.reason, decoded.width, decoded.height))
        good += decoded.ok
    images.flush()
    return pd.DataFrame(rows, columns=["index", "name", "split", "ok", "reason", "width", "height"])


def _shorten(path: Path, count: int) -> None:
    """Cut a packed array to its first ``count`` rows, copying in bounded pieces."""
    whole = np.load(path, mmap_mode="r")
    if len(whole) == count:
        return
    shorter = path.with_suffix(".short.npy")
    target = np.lib.format.open_memmap(shorter, "w+", np.uint8, (count, *whole.shape[1:]))
    for at in range(0, count, 4096):
        target[at : at + 4096] = whole[at : min(count, at + 4096)]
    target.flush()
    del target, whole
    shorter.replace(path)


def _decode_all(params: Params, source: Source, names: list[str], path: Path) -> Iterator[_Decoded]:
    """Decode every entry into its own row of the array in ``path``; what became of each, in order."""
    job = (source, params.data.size, params.data.fit, path)
    workers = worker_count(params)
    if workers == 1 or len(names) < 4 * _CHUNK:
        decode = _decoder(*job)
        yield from (decode(*task) for task in enumerate(names))
        return
    remaining = enumerate(names)
    try:
        with ProcessPoolExecutor(workers, get_context("spawn"), _employ, job) as pool:
            # Some windows of work ahead: what is decoded but not yet packed stays bounded, and nobody waits.
            ahead: deque[Iterator[_Decoded]] = deque()
            while window := list(islice(remaining, workers * _CHUNK)):
                ahead.append(pool.map(_work, window, chunksize=_CHUNK))
                if len(ahead) > _WINDOWS_AHEAD:
                    yield from ahead.popleft()
            for results in ahead:
                yield from results
    except BrokenProcessPool:
        raise DataError("data: a decoding process died, perhaps of too little memory; lower data.workers") from None


# What a worker process decodes with, and where to. It comes once, not with every task: a source keeps its archive open,
# and to open one of 200,000 entries takes a second. Pixels go straight into the mapped file, not through a pipe.
_employment: list[Callable[[int, str], _Decoded]] = []


def _employ(*job: Any) -> None:
    _employment.append(_decoder(*job))


def _decoder(source: Source, size: int, fit: str, path: Path) -> Callable[[int, str], _Decoded]:
    return partial(_decode_one, source, size, fit, np.load(path, mmap_mode="r+"))


def _work(task: tuple[int, str]) -> _Decoded:
    return _employment[-1](*task)


def _decode_one(source: Source, size: int, fit: str, images: np.ndarray, slot: int, name: str) -> _Decoded:
    try:
        picture = source.load(name, size)
        images[slot] = square(picture.image, size, fit)
    except Exception as error:
        # Decoders raise whatever a damaged file provokes; one bad image must not end the run.
        return _Decoded(False, explain(error), 0, 0)
    return _Decoded(True, "", picture.width, picture.height)


def _check_bad(table: pd.DataFrame, allowed: float) -> None:
    bad = table.loc[~table["ok"]]
    if len(bad) < len(table) and len(bad) <= allowed * len(table):
        return
    first = bad.iloc[0]
    where = f"the first is {first['name']} ({first['reason']})"
    if len(bad) == len(table):
        raise DataError(f"data: none of the {len(table)} images can be read, {where}; mend the source")
    raise DataError(
        f"data: {len(bad)} of {len(table)} images cannot be read, more than data.max_bad_fraction {allowed} allows, "
        f"{where}; mend the source or raise the fraction"
    )


def _splits(params: Params, source: Source, table: pd.DataFrame) -> list[str]:
    good = np.flatnonzero(table["ok"])
    official = source.splits(list(table["name"].iloc[good]))
    if official is not None:
        splits = np.full(len(table), "", dtype=object)
        splits[good] = official
        return list(splits)
    if len(good) < 3:
        raise DataError(f"data: only {len(good)} readable images, too few for training, validation and test; add some")
    order = np.random.default_rng([params.data.seed, 1]).permutation(good)
    # Every split gets at least one image, whatever the fractions.
    validation = min(max(1, round(params.data.validation_fraction * len(good))), len(good) - 2)
    test = min(max(1, round(params.data.test_fraction * len(good))), len(good) - 1 - validation)
    splits = np.full(len(table), "", dtype=object)
    splits[order] = "train"
    splits[order[:validation]] = "validation"
    splits[order[validation : validation + test]] = "test"
    return list(splits)


def _summary(params: Params, source: Source, table: pd.DataFrame, folder: Path) -> dict[str, Any]:
    with (folder / "images.npy").open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256")
    content.update(table.to_csv(index=False).encode())
    counts = table.loc[table["ok"], "split"].value_counts()
    return {
        "source": params.data.source,
        "size": params.data.size,
        "fit": params.data.fit,
        "images": int(table["ok"].sum()),
        "splits": {split: int(counts.get(split, 0)) for split in SPLITS},
        "bad": int((~table["ok"]).sum()),
        "digest": content.hexdigest(),
    }


def _write_preview(folder: Path) -> None:
    """A contact sheet of 36 images, spread evenly over the rows; black where there are fewer."""
    images = np.load(folder / "images.npy", mmap_mode="r")
    size = images.shape[1]
    shown = np.zeros((36, size, size, 3), np.uint8)
    count = min(36, len(images))
    shown[:count] = images[np.linspace(0, len(images) - 1, count).astype(int)]
    # [rows, columns, height, width, 3] -> [rows, height, columns, width, 3] -> one picture.
    sheet = shown.reshape(4, 9, size, size, 3).swapaxes(1, 2).reshape(4 * size, 9 * size, 3)
    Image.fromarray(sheet).save(folder / "preview.png")
