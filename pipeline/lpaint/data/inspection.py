"""``lpaint data check``: detects the data source at a path and checks whether it can be used as ``data.path``."""

import os
import shutil
import time
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from lpaint.data.decode import describe_error, fit_to_square
from lpaint.data.packing import packed_bytes
from lpaint.data.progress import ProgressMeter, format_duration
from lpaint.data.sources import Loader, Source, open_source_path
from lpaint.data.sources.archive import read_directory
from lpaint.data.sources.arrays import ArraySource
from lpaint.data.sources.base import IMAGE_SUFFIXES, is_image_entry
from lpaint.data.sources.celeba import LAST_ID
from lpaint.data.sources.folder import Folder
from lpaint.errors import DataError

# For each source: the recommended profile, and the side of its packed images in pixels.
_PROFILES = {"celeba": ("faces-cpu", 128), "folder": ("imagenet", 128), "mnist": ("mnist", 32), "svhn": ("svhn", 32)}
_SAMPLE = 400
_CHUNK = 64
_MAX_SHOWN = 5
# The committed data.max_bad_fraction.
_MAX_BAD_FRACTION = 0.01
_MAX_SINGLE_PROCESS = 4 * _SAMPLE
# Arrays of up to so many bytes are always read completely, which takes a second or two.
_MAX_QUICK_BYTES = 1 << 29
_ChunkResult = tuple[list[tuple[str, int, int, str]], float]


@dataclass
class DataReport:
    """Result of the check. ``problems`` and unreadable images make a path not ``usable``; ``notes`` do not."""

    path: str
    usable: bool = False
    source: str = ""
    profile: str = ""
    holds: str = ""
    images: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, str] = field(default_factory=dict)
    examined: int = 0
    bad: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    packed_bytes: int = 0
    free_bytes: int = 0
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return asdict(self)

    def table(self) -> dict[str, object]:
        """Rows to print: label and text."""
        rows: dict[str, object] = {"path": self.path, "verdict": "usable" if self.usable else "not usable"}
        if self.holds:
            rows["holds"] = self.holds
        if self.images:
            rows["images"] = f"{self.images:,}"
            rows["splits"] = ", ".join(f"{name} {count:,}" for name, count in self.splits.items()) or "drawn at random"
            rows["sizes"] = ", ".join(f"{name} {size}" for name, size in self.sizes.items())
            rows["examined"] = f"{self.examined:,}, of which {len(self.bad):,} cannot be read"
            rows |= {f"  {name}": reason for name, reason in list(self.bad.items())[:_MAX_SHOWN]}
        rows |= {f"problem {at}": text for at, text in enumerate(self.problems, 1)}
        rows |= {f"note {at}": text for at, text in enumerate(self.notes, 1)}
        if self.usable:
            workers, size = os.cpu_count() or 1, _PROFILES[self.source][1]
            rows["preparation"] = (
                f"{self.packed_bytes / 2**30:.2f} GiB at {size} px ({self.free_bytes / 2**30:.1f} GiB free), about "
                f"{format_duration(self.seconds)} in {workers} processes"
            )
            rows["to use it"] = (
                f"lpaint profile apply {self.profile}; then in params.yaml data.source: {self.source}, "
                f"data.path: {self.path}"
            )
        return rows


def inspect(path: Path, check_all: bool = False, progress: bool = False) -> DataReport:
    """Check ``path``: decode a sample of its images, or all of them with ``check_all``. Nothing is written."""
    report = DataReport(str(path))
    try:
        kind = _detect_source(path)
        source = open_source_path(kind, path)
        report.source, report.profile = kind, _PROFILES[kind][0]
        report.holds = _describe(kind, path)
        _check_images(report, source, check_all, progress)
    except DataError as error:
        report.problems.append(str(error))
    shares = len(report.bad) / max(1, report.examined)
    if shares > _MAX_BAD_FRACTION:
        report.problems.append(
            f"{shares:.1%} of the examined images cannot be read; prepare allows {_MAX_BAD_FRACTION:.0%}"
        )
    report.usable = not report.problems
    return report


def _detect_source(path: Path) -> str:
    """The source that can read ``path``."""
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder; check the name")
    if path.is_dir():
        return _detect_folder_source(path)
    name = path.name.lower()
    if name.endswith((".tar", ".tar.gz", ".tgz")):
        raise DataError(f"{path}: is a tar archive; unpack it and give the folder, or pack the images as .zip")
    if "ubyte" in name or name.endswith(".mat") or path.suffix in IMAGE_SUFFIXES:
        raise DataError(f"{path}: is one file of a data set; give the folder that holds it")
    if path.suffix.lower() != ".zip" and not zipfile.is_zipfile(path):
        raise DataError(f"{path}: is no folder and no zip archive; give one that holds images")
    return "celeba"


def _detect_folder_source(path: Path) -> str:
    # Sources also find an array file in a folder of the same name.
    files = {child.name for child in path.iterdir() if child.is_file() or _is_array_folder(child)}
    if any(name.startswith(("train-images", "t10k-images")) for name in files):
        return "mnist"
    if any(name.endswith("_32x32.mat") for name in files):
        return "svhn"
    try:
        names = Folder(path).names()
    except DataError:
        patterns = ("*[-.]idx3-ubyte*", "*_32x32.mat", "*.zip")
        near = [found for pattern in patterns for found in sorted(path.rglob(pattern)) if found.is_file()]
        if near:
            found = near[0] if near[0].suffix == ".zip" else near[0].parent
            if _is_array_folder(found):
                found = found.parent
            raise DataError(f"{path}: holds no images itself; perhaps you mean {found}") from None
        raise
    return "celeba" if open_source_path("celeba", path).splits(names) else "folder"


def _is_array_folder(path: Path) -> bool:
    """Whether ``path`` is a folder that holds an array file of the same name, with or without .gz."""
    stem = path.name.removesuffix(".gz")
    if not path.is_dir() or not stem.endswith(("-ubyte", "_32x32.mat")):
        return False
    return any((path / name).is_file() for name in (stem, f"{stem}.gz"))


def _describe(kind: str, path: Path) -> str:
    if kind == "mnist":
        return "MNIST, or a data set in its form: idx files"
    if kind == "svhn":
        return "SVHN, cropped digits: MATLAB files"
    if kind == "folder":
        classes = {PurePosixPath(name).parent for name in Folder(path).names()}
        return f"a folder of images in {len(classes):,} subfolders" if len(classes) > 1 else "a folder of images"
    return "CelebA, the unpacked folder" if path.is_dir() else "a zip archive of images, as CelebA's is"


def _check_images(report: DataReport, source: Source, check_all: bool, progress: bool) -> None:
    names = source.names()
    size = _PROFILES[report.source][1]
    report.images = len(names)
    if len(names) < 3:
        report.problems.append(
            f"{report.path}: holds only {len(names)} images, too few for training, validation and test"
        )
    official = source.splits(names)
    report.splits = dict(Counter(official or []))
    report.packed_bytes = packed_bytes(size, len(names)) + source.unpacked_bytes()
    report.free_bytes = shutil.disk_usage(Path.cwd()).free
    if report.packed_bytes > report.free_bytes:
        report.problems.append(
            f"{report.packed_bytes / 2**30:.1f} GiB are needed here, but the disk has "
            f"{report.free_bytes / 2**30:.1f} GiB free; free some, or set data.limit"
        )
    _check_names(report, source, names)
    with TemporaryDirectory() as scratch:
        if isinstance(source, ArraySource):
            if check_all or source.unpacked_bytes() <= _MAX_QUICK_BYTES:
                report.problems += source.verify()
            if report.problems:
                return
            names = source.unpack_sample(Path(scratch))
        elif not check_all:
            names = [names[at * len(names) // _SAMPLE] for at in range(_SAMPLE)] if len(names) > _SAMPLE else names
        report.seconds = _decode(report, source, names, size, progress) * report.images / len(names)


def _check_names(report: DataReport, source: Source, names: list[str]) -> None:
    """Checks without decoding: duplicate and unsafe names, missing images, broken links, other files."""
    path = Path(report.path)
    if report.source == "celeba":
        if report.splits and len(names) < LAST_ID:
            report.notes.append(f"{LAST_ID - len(names):,} of CelebA's {LAST_ID:,} images are not there")
        if not report.splits:
            report.notes.append("not CelebA's names, or only a part of them, so there is no official split")
    if report.source == "celeba" and path.is_file():
        directory = read_directory(path)
        twice = [name for name, count in Counter(name for name, _ in directory).items() if count > 1]
        if twice:
            report.notes.append(f"{len(twice):,} names come twice, such as {twice[0]}; the last one counts")
        unsafe = {name: entry.problem for name, entry in directory if entry.problem and is_image_entry(name)}
        if unsafe:
            first, reason = next(iter(unsafe.items()))
            report.notes.append(f"{len(unsafe):,} entries are never read; the first, {first}, {reason}")
    if isinstance(source, Folder):
        others = [item for item in path.rglob("*") if item.is_symlink() or item.is_file()]
        broken = [item for item in others if not item.exists()]
        if broken:
            report.notes.append(f"{len(broken):,} links lead nowhere, such as {broken[0].name}")
        ignored = len(others) - len(broken) - len(names)
        if ignored > 0:
            report.notes.append(f"{ignored:,} files are no images by their suffix, and are left out")


def _decode(report: DataReport, source: Source, names: Sequence[str], size: int, progress: bool) -> float:
    """Decode ``names``; returns the estimated seconds with one process for each core."""
    chunks = [names[at : at + _CHUNK] for at in range(0, len(names), _CHUNK)]
    tasks = ((source.loader(chunk), chunk, size) for chunk in chunks)
    workers = os.cpu_count() or 1
    if len(names) <= _MAX_SINGLE_PROCESS:
        return _collect(report, map(_decode_chunk, tasks), len(names), progress) / workers
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        return _collect(report, pool.map(_decode_chunk, tasks), len(names), progress) / workers


def _collect(report: DataReport, results: Iterable[_ChunkResult], count: int, progress: bool) -> float:
    """Add the results to ``report``; returns the total decoding time in seconds."""
    seen: Counter[tuple[int, int]] = Counter()
    seconds = 0.0
    with closing(ProgressMeter(count, 0, progress and count > _SAMPLE, "check")) as meter:
        for images, chunk_seconds in results:
            seconds += chunk_seconds
            meter.advance(len(images))
            report.examined += len(images)
            for name, width, height, reason in images:
                if reason:
                    report.bad[name] = reason
                else:
                    seen[width, height] += 1
    if seen:
        area = sorted(seen, key=lambda each: (each[0] * each[1], each))
        chosen = {"smallest": area[0], "largest": area[-1], "most frequent": seen.most_common(1)[0][0]}
        report.sizes = {what: f"{width} x {height}" for what, (width, height) in chosen.items()}
    return seconds


def _decode_chunk(task: tuple[Loader, Sequence[str], int]) -> _ChunkResult:
    """Name, width, height and error of each image, and the decoding time in seconds."""
    loader, names, size = task
    started = time.perf_counter()
    images = []
    for name in names:
        try:
            loaded = loader.load(name, size)
            fit_to_square(loaded.image, size, "crop")
            images.append((name, loaded.width, loaded.height, ""))
        except Exception as error:
            # Decoders raise exceptions of many types on damaged files.
            images.append((name, 0, 0, describe_error(error)))
    return images, time.perf_counter() - started
