"""The prepare stage: writes packed images, their manifest, a summary and a preview to ``data/prepared``."""

import errno
import hashlib
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from lpaint.data.journal import Journal
from lpaint.data.packing import PACKED_FOLDER, VERSION, pack, packed_bytes
from lpaint.data.schema import SPLITS, check_manifest
from lpaint.data.sources import Source, open_source
from lpaint.errors import DataError
from lpaint.files import write_json
from lpaint.runtime.params import Params
from lpaint.runtime.resume import resume_folder


def prepare(params: Params, out: Path, progress: bool = False) -> dict[str, Any]:
    """Write images.npy, manifest.parquet, summary.json and preview.png to the folder ``out``; returns the summary.

    The folder is written atomically. Memory does not grow with the number of images, except for their names and sizes.
    ``data.limit`` takes images at even distances from the sorted entries, so that class subfolders and official splits
    keep their shares. Rows alternate between subfolders, so that the first rows of a split have all classes.
    ``progress`` reports progress on stderr.

    Raises:
        DataError: the source is missing or empty, more than ``data.max_bad_fraction`` of it is unreadable, or the disk
            is too small.
    """
    scratch = out.with_name(f"{out.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        return _prepare(params, open_source(params), scratch, out, progress)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def prepare_resumably(params: Params, out: Path, progress: bool = True) -> dict[str, Any]:
    """``prepare`` that resumes an interrupted or killed earlier call.

    Resume state is in the repository's .lpaint/resume/. It also stays after an error, so that raising
    ``data.max_bad_fraction`` decodes nothing twice.
    """
    source, data = open_source(params), params.data
    key = {
        "source": data.source,
        "digest": source.fingerprint(),
        "limit": data.limit,
        "size": data.size,
        "fit": data.fit,
    }
    with resume_folder("prepare", {**key, "version": VERSION}, work="preparation") as state:
        summary = _prepare(params, source, state, out, progress)
        shutil.rmtree(state, ignore_errors=True)
    return summary


def _prepare(params: Params, source: Source, state: Path, out: Path, progress: bool) -> dict[str, Any]:
    data = params.data
    names = source.names()
    if data.limit:
        names = _evenly_spaced(names, data.limit)
    names = _interleave_folders(names)
    needed = packed_bytes(data.size, len(names))
    _check_disk_space(state, needed + source.unpacked_bytes() - _disk_usage(state), len(names))
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.parent.stat().st_dev != state.stat().st_dev:
        _check_disk_space(out.parent, needed, len(names))
    source.unpack(state)
    journal = pack(data, source, names, state, progress)
    table = _manifest(names, journal)
    _check_bad_fraction(table, data.max_bad_fraction)
    table["split"] = _splits(params, source, table)
    check_manifest(table, str(out))
    packed = state / PACKED_FOLDER
    table.to_parquet(packed / "manifest.parquet", index=False)
    summary = _summary(params, table, packed)
    write_json(packed / "summary.json", summary)
    _write_preview(packed)
    _move_folder(packed, out)
    return summary


def _evenly_spaced(names: list[str], count: int) -> list[str]:
    """At most ``count`` names at even distances, in order."""
    if count >= len(names):
        return names
    return [names[at * len(names) // count] for at in range(count)]


def _interleave_folders(names: list[str]) -> list[str]:
    """The first name of every folder, then the second of every folder, and so on."""
    counts: Counter[str] = Counter()
    ordered = []
    for name in names:
        folder = name.rpartition("/")[0]
        ordered.append((counts[folder], name))
        counts[folder] += 1
    return [name for _, name in sorted(ordered)]


def _check_disk_space(folder: Path, needed: int, count: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder}: {count:,} images take {needed / 2**30:.1f} GiB more, but the disk has {free / 2**30:.1f} GiB "
            "free; free some (unfinished preparations are in .lpaint/resume), or lower data.limit or data.size"
        )


def _disk_usage(folder: Path) -> int:
    """Bytes on the disk that the files in ``folder`` use; holes in sparse files count as 0."""
    return sum(512 * path.stat().st_blocks for path in folder.rglob("*"))


def _move_folder(folder: Path, out: Path) -> None:
    """Rename ``folder`` to ``out``; on another file system copy it first."""
    try:
        _replace(out, lambda: folder.rename(out))
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        partial = out.with_name(f"{out.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(folder, partial)
        _replace(out, lambda: partial.rename(out))


def _replace(out: Path, rename: Callable[[], object]) -> None:
    shutil.rmtree(out, ignore_errors=True)
    rename()


def _manifest(names: list[str], journal: Journal) -> pd.DataFrame:
    """The manifest with empty splits."""
    ok = np.ones(len(names), bool)
    ok[list(journal.reasons)] = False
    return pd.DataFrame(
        {
            "index": np.where(ok, np.cumsum(ok) - 1, -1),
            "name": names,
            "split": "",
            "ok": ok,
            "reason": [journal.reasons.get(at, "") for at in range(len(names))],
            "width": np.array(journal.widths, np.int64),
            "height": np.array(journal.heights, np.int64),
        }
    )


def _check_bad_fraction(table: pd.DataFrame, allowed: float) -> None:
    bad = table.loc[~table["ok"]]
    if len(bad) < len(table) and len(bad) <= allowed * len(table):
        return
    first = bad.iloc[0]
    where = f"the first is {first['name']} ({first['reason']})"
    if len(bad) == len(table):
        raise DataError(f"data: none of the {len(table)} images can be read, {where}; repair the source")
    raise DataError(
        f"data: {len(bad)} of {len(table)} images cannot be read, more than data.max_bad_fraction {allowed} allows, "
        f"{where}; repair the source or raise the fraction"
    )


def _splits(params: Params, source: Source, table: pd.DataFrame) -> list[str]:
    """Official splits of the good images; missing ones are drawn at random from the official ``train``, or from all."""
    good = np.flatnonzero(table["ok"])
    splits = np.full(len(table), "", dtype=object)
    splits[good] = source.splits(list(table["name"].iloc[good])) or "train"
    pool = np.flatnonzero(splits == "train")
    fractions = {"validation": params.data.validation_fraction, "test": params.data.test_fraction}
    missing = [split for split in fractions if split not in set(splits)]
    if len(pool) <= len(missing):
        raise DataError(
            f"data: only {len(pool)} readable images, too few for training, {' and '.join(missing)}; add some"
        )
    order = np.random.default_rng([params.data.seed, 1]).permutation(pool)
    taken = 0
    for at, split in enumerate(missing):
        # Every split gets at least one image, whatever the fractions.
        most = len(pool) - taken - (len(missing) - at)
        count = min(max(1, round(fractions[split] * len(pool))), most)
        splits[order[taken : taken + count]] = split
        taken += count
    return list(splits)


def _summary(params: Params, table: pd.DataFrame, folder: Path) -> dict[str, Any]:
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
    """Write a contact sheet of 36 images at even distances; empty cells are black."""
    images = np.load(folder / "images.npy", mmap_mode="r")
    size = images.shape[1]
    shown = np.zeros((36, size, size, 3), np.uint8)
    count = min(36, len(images))
    shown[:count] = images[np.linspace(0, len(images) - 1, count).astype(int)]
    # [rows, columns, height, width, 3] -> [rows, height, columns, width, 3] -> one image.
    sheet = shown.reshape(4, 9, size, size, 3).swapaxes(1, 2).reshape(4 * size, 9 * size, 3)
    Image.fromarray(sheet).save(folder / "preview.png")
