"""What a path holds and whether ``data.path`` may name it: ``lpaint data check``."""

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

from lpaint.data.decode import explain, square
from lpaint.data.packing import packed_bytes
from lpaint.data.progress import Meter, duration
from lpaint.data.sources import Loader, Source, open_path
from lpaint.data.sources.archive import read_directory
from lpaint.data.sources.arrays import ArraySource
from lpaint.data.sources.base import IMAGE_SUFFIXES, is_picture
from lpaint.data.sources.celeba import LAST
from lpaint.data.sources.folder import Folder
from lpaint.errors import DataError

# For each source: the profile to begin with, and the side of its packed pictures.
_PROFILES = {"celeba": ("faces-cpu", 128), "folder": ("imagenet", 128), "mnist": ("mnist", 32), "svhn": ("svhn", 32)}
_SAMPLE = 400
_CHUNK = 64
_SHOWN = 5
# The committed data.max_bad_fraction.
_MOST_BAD = 0.01
_IN_ONE_PROCESS = 4 * _SAMPLE
# Arrays up to here are read whole in any case; that takes a second or two.
_QUICK = 1 << 29
_Chunk = tuple[list[tuple[str, int, int, str]], float]


@dataclass
class Findings:
    """What was found; ``problems`` and unreadable images decide whether it is ``usable``, ``notes`` do not."""

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
        """The same in words."""
        rows: dict[str, object] = {"path": self.path, "verdict": "usable" if self.usable else "not usable"}
        if self.holds:
            rows["holds"] = self.holds
        if self.images:
            rows["images"] = f"{self.images:,}"
            rows["splits"] = ", ".join(f"{name} {count:,}" for name, count in self.splits.items()) or "drawn at random"
            rows["sizes"] = ", ".join(f"{name} {size}" for name, size in self.sizes.items())
            rows["examined"] = f"{self.examined:,}, of which {len(self.bad):,} cannot be read"
            rows |= {f"  {name}": reason for name, reason in list(self.bad.items())[:_SHOWN]}
        rows |= {f"problem {at}": text for at, text in enumerate(self.problems, 1)}
        rows |= {f"note {at}": text for at, text in enumerate(self.notes, 1)}
        if self.usable:
            workers, size = os.cpu_count() or 1, _PROFILES[self.source][1]
            rows["preparation"] = (
                f"{self.packed_bytes / 2**30:.2f} GiB at {size} px ({self.free_bytes / 2**30:.1f} GiB free), about "
                f"{duration(self.seconds)} in {workers} processes"
            )
            rows["to use it"] = (
                f"lpaint profile apply {self.profile}; then in params.yaml data.source: {self.source}, "
                f"data.path: {self.path}"
            )
        return rows


def inspect(path: Path, everything: bool = False, progress: bool = False) -> Findings:
    """Say what ``path`` holds; decode a sample of it, or ``everything``. Nothing is written."""
    findings = Findings(str(path))
    try:
        kind = _recognise(path)
        source = open_path(kind, path)
        findings.source, findings.profile = kind, _PROFILES[kind][0]
        findings.holds = _describe(kind, path)
        _examine(findings, source, everything, progress)
    except DataError as error:
        findings.problems.append(str(error))
    shares = len(findings.bad) / max(1, findings.examined)
    if shares > _MOST_BAD:
        findings.problems.append(f"{shares:.1%} of the examined images cannot be read; prepare allows {_MOST_BAD:.0%}")
    findings.usable = not findings.problems
    return findings


def _recognise(path: Path) -> str:
    """The source that fits ``path``."""
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder; check the name")
    if path.is_dir():
        return _recognise_folder(path)
    name = path.name.lower()
    if name.endswith((".tar", ".tar.gz", ".tgz")):
        raise DataError(f"{path}: is a tar archive; unpack it and give the folder, or pack the images as .zip")
    if "ubyte" in name or name.endswith(".mat") or path.suffix in IMAGE_SUFFIXES:
        raise DataError(f"{path}: is one file of a data set; give the folder that holds it")
    if path.suffix.lower() != ".zip" and not zipfile.is_zipfile(path):
        raise DataError(f"{path}: is no folder and no zip archive; give one that holds images")
    return "celeba"


def _recognise_folder(path: Path) -> str:
    # Also in a folder of the same name, where the sources find them, too.
    files = {child.name for child in path.iterdir() if child.is_file() or _holds_arrays(child)}
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
            if _holds_arrays(found):
                found = found.parent
            raise DataError(f"{path}: holds no images itself; perhaps {found} is what you mean") from None
        raise
    return "celeba" if open_path("celeba", path).splits(names) else "folder"


def _holds_arrays(path: Path) -> bool:
    """Whether a folder is that of one array file of the same name, with or without .gz."""
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


def _examine(findings: Findings, source: Source, everything: bool, progress: bool) -> None:
    names = source.names()
    size = _PROFILES[findings.source][1]
    findings.images = len(names)
    if len(names) < 3:
        findings.problems.append(
            f"{findings.path}: holds only {len(names)} images, too few for training, validation and test"
        )
    official = source.splits(names)
    findings.splits = dict(Counter(official or []))
    findings.packed_bytes = packed_bytes(size, len(names)) + source.unpacked_bytes()
    findings.free_bytes = shutil.disk_usage(Path.cwd()).free
    if findings.packed_bytes > findings.free_bytes:
        findings.problems.append(
            f"{findings.packed_bytes / 2**30:.1f} GiB are needed here, but the disk has "
            f"{findings.free_bytes / 2**30:.1f} GiB free; free some, or set data.limit"
        )
    _look_around(findings, source, names)
    with TemporaryDirectory() as scratch:
        if isinstance(source, ArraySource):
            if everything or source.unpacked_bytes() <= _QUICK:
                findings.problems += source.verify()
            if findings.problems:
                return
            names = source.unpack_sample(Path(scratch))
        elif not everything:
            names = [names[at * len(names) // _SAMPLE] for at in range(_SAMPLE)] if len(names) > _SAMPLE else names
        findings.seconds = _decode(findings, source, names, size, progress) * findings.images / len(names)


def _look_around(findings: Findings, source: Source, names: list[str]) -> None:
    """What can be seen without decoding: names that come twice or lead astray, missing ones, other files."""
    path = Path(findings.path)
    if findings.source == "celeba":
        if findings.splits and len(names) < LAST:
            findings.notes.append(f"{LAST - len(names):,} of CelebA's {LAST:,} images are not there")
        if not findings.splits:
            findings.notes.append("not CelebA's names, or only a part of them, so there is no official split")
    if findings.source == "celeba" and path.is_file():
        directory = read_directory(path)
        twice = [name for name, count in Counter(name for name, _ in directory).items() if count > 1]
        if twice:
            findings.notes.append(f"{len(twice):,} names come twice, such as {twice[0]}; the last one counts")
        unsafe = {name: entry.problem for name, entry in directory if entry.problem and is_picture(name)}
        if unsafe:
            first, reason = next(iter(unsafe.items()))
            findings.notes.append(f"{len(unsafe):,} entries are never read; the first, {first}, {reason}")
    if isinstance(source, Folder):
        others = [item for item in path.rglob("*") if item.is_symlink() or item.is_file()]
        broken = [item for item in others if not item.exists()]
        if broken:
            findings.notes.append(f"{len(broken):,} links lead nowhere, such as {broken[0].name}")
        ignored = len(others) - len(broken) - len(names)
        if ignored > 0:
            findings.notes.append(f"{ignored:,} files are no images by their suffix, and are left out")


def _decode(findings: Findings, source: Source, names: Sequence[str], size: int, progress: bool) -> float:
    """Decode ``names``; returns the seconds that as many processes as there are cores would take for them."""
    chunks = [names[at : at + _CHUNK] for at in range(0, len(names), _CHUNK)]
    tasks = ((source.loader(chunk), chunk, size) for chunk in chunks)
    workers = os.cpu_count() or 1
    if len(names) <= _IN_ONE_PROCESS:
        return _collect(findings, map(_decode_chunk, tasks), len(names), progress) / workers
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        return _collect(findings, pool.map(_decode_chunk, tasks), len(names), progress) / workers


def _collect(findings: Findings, results: Iterable[_Chunk], count: int, progress: bool) -> float:
    """Take in what was decoded; returns the seconds that it took."""
    seen: Counter[tuple[int, int]] = Counter()
    seconds = 0.0
    with closing(Meter(count, 0, progress and count > _SAMPLE, "check")) as meter:
        for pictures, took in results:
            seconds += took
            meter.advance(len(pictures))
            findings.examined += len(pictures)
            for name, width, height, reason in pictures:
                if reason:
                    findings.bad[name] = reason
                else:
                    seen[width, height] += 1
    if seen:
        area = sorted(seen, key=lambda each: (each[0] * each[1], each))
        chosen = {"smallest": area[0], "largest": area[-1], "most frequent": seen.most_common(1)[0][0]}
        findings.sizes = {what: f"{width} x {height}" for what, (width, height) in chosen.items()}
    return seconds


def _decode_chunk(task: tuple[Loader, Sequence[str], int]) -> _Chunk:
    """Name, width, height and reason of each picture, and the seconds that they took."""
    loader, names, size = task
    started = time.perf_counter()
    pictures = []
    for name in names:
        try:
            picture = loader.load(name, size)
            square(picture.image, size, "crop")
            pictures.append((name, picture.width, picture.height, ""))
        except Exception as error:
            # As in the preparation: decoders raise whatever a damaged file provokes.
            pictures.append((name, 0, 0, explain(error)))
    return pictures, time.perf_counter() - started
