"""Plan which files ``lpaint paint`` reads and writes, before it paints anything."""

import errno
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from lpaint.errors import DataError, ImageError, LpaintError, ParamsError
from lpaint.files import is_partial, remove_stale_partials
from lpaint.images.suffixes import has_image_suffix
from lpaint.painting.io.image import STDIO
from lpaint.painting.io.outputs import Saving, check_kind, check_place

# Kinds of files and folders that are not painted: singular, plural.
_LEFT_OUT = {
    "hidden": ("hidden picture", "hidden pictures"),
    "partial": ("half-written file of an interrupted lpaint", "half-written files of an interrupted lpaint"),
    "link": ("broken link", "broken links"),
    "special": ("device or pipe", "devices and pipes"),
    "other": ("file of another kind", "files of other kinds"),
    "folder": ("folder, into which --recursive looks", "folders, into which --recursive looks"),
    "hidden_folder": ("hidden folder", "hidden folders"),
    "linked_folder": ("link to a folder", "links to folders"),
    "unreadable_folder": ("folder that cannot be opened", "folders that cannot be opened"),
    "out_dir": ("the folder of the paintings", "the folder of the paintings, found several times"),
    "named_twice": ("picture that was named twice", "pictures that were named twice"),
}
_MOST_SUFFIXES = 5


@dataclass(frozen=True)
class Job:
    """A picture and the output files of its painting; ``-`` is standard input or output.

    ``makes_folder``: create missing folders of the outputs. ``problem``: why the picture cannot be painted.
    """

    source: Path
    outputs: tuple[Path, ...]
    makes_folder: bool = False
    problem: LpaintError | None = None


@dataclass(frozen=True)
class Naming:
    """Where paintings go: to the files ``outputs``, or to ``out_dir`` in ``formats`` (suffixes without dot)."""

    outputs: tuple[Path, ...] = ()
    out_dir: Path | None = None
    formats: tuple[str, ...] = ("png",)

    @property
    def suffixes(self) -> set[str]:
        """Suffixes of the output files, in lower case."""
        named = {path.suffix.lower() for path in self.outputs if path != STDIO}
        if STDIO in self.outputs:
            named.add(f".{self.formats[0]}")
        return named or {f".{form}" for form in self.formats}


@dataclass
class LeftOut:
    """What folders hold that is not painted: the count of each kind, and the suffixes of other files."""

    counts: Counter[str] = field(default_factory=Counter)
    suffixes: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        parts = []
        for kind, words in _LEFT_OUT.items():
            if count := self.counts[kind]:
                number = "" if kind == "out_dir" else f"{count} "
                parts.append(f"{number}{words[count > 1]}")
                if kind == "other":
                    parts[-1] += f" ({self._suffixes()})"
        return ", ".join(parts)

    def _suffixes(self) -> str:
        named = sorted(suffix or "no suffix" for suffix in self.suffixes)
        return ", ".join(named[:_MOST_SUFFIXES]) + (", ..." if len(named) > _MOST_SUFFIXES else "")


def plan_jobs(images: list[Path], recursive: bool, naming: Naming, saving: Saving) -> tuple[list[Job], LeftOut]:
    """One job per picture, and what is left out. A folder stands for the pictures in it, sorted by name.

    A picture that is named twice is painted once. A job has a problem if its folder holds no pictures, or if another
    picture already has its output.

    Raises:
        ParamsError: options contradict each other, an output is its own picture, or a suffix is unknown.
        DataError: there are no pictures.
    """
    _check_naming(images, naming)
    left_out = LeftOut()
    jobs = []
    known: set[tuple[str, str]] = set()
    for image in images:
        if not _is_folder(image):
            found = [(image, Path())]
        else:
            left_here = LeftOut()
            found = sorted(_find_images(image, recursive, naming.out_dir, left_here))
            if not found:
                jobs.append(Job(image, (), problem=_no_images(image, recursive, left_here)))
            left_out.counts += left_here.counts
            left_out.suffixes |= left_here.suffixes
        for source, subfolder in found:
            # Two links count as two pictures; two paths to one file count as one.
            key = (os.path.realpath(source.parent), source.name)
            if source != STDIO and key in known:
                left_out.counts["named_twice"] += 1
                continue
            known.add(key)
            jobs.append(Job(source, _outputs(source, subfolder, naming), naming.out_dir is not None))
    problems = [job.problem for job in jobs if job.problem is not None]
    paintable = len(jobs) - len(problems)
    if not paintable:
        raise problems[0]
    if naming.outputs and paintable > 1:
        raise ParamsError(f"-o names the painting of one picture, but there are {paintable}; use --out-dir")
    return _checked_outputs(jobs, naming, saving), left_out


def _check_naming(images: list[Path], naming: Naming) -> None:
    if naming.outputs and naming.out_dir is not None:
        raise ParamsError("-o names files and --out-dir a folder; give the one or the other")
    folders = [image for image in images if _is_folder(image)]
    if folders and naming.out_dir is None:
        if naming.outputs:
            raise ParamsError(f"-o names the painting of one picture, but {folders[0]} is a folder; use --out-dir")
        raise ParamsError("paintings of a folder's pictures need a folder of their own; name it by --out-dir")
    for folder in folders:
        if naming.out_dir is not None and _same(folder, naming.out_dir):
            raise ParamsError(
                f"--out-dir {naming.out_dir}: is the folder of the pictures, and the next run would paint the "
                f"paintings; name another, such as {folder / 'painted'}"
            )
    if len(set(naming.outputs)) < len(naming.outputs):
        raise ParamsError("-o: the same output is named twice")


def _checked_outputs(jobs: list[Job], naming: Naming, saving: Saving) -> list[Job]:
    """The jobs. If two pictures have the same output, the first gets it and the second job gets a problem.

    Raises:
        ParamsError: an output would overwrite its own picture, or its suffix is unknown.
    """
    owners: dict[Path, Path] = {}
    checked = []
    for job in jobs:
        for output in job.outputs:
            check_kind(output, saving, f".{naming.formats[0]}" if output == STDIO else "")
            if output != STDIO and _same(output, job.source):
                raise ParamsError(f"{job.source}: the painting would overwrite the picture; name another output")
        taken = next((output for output in job.outputs if output in owners), None)
        if taken is not None:
            problem = ImageError(
                f"{job.source}: {taken} is the painting of {owners[taken]}; rename one of the pictures, or paint them "
                "one by one with -o"
            )
            job = replace(job, outputs=(), problem=problem)
        owners.update(dict.fromkeys(job.outputs, job.source))
        checked.append(job)
    return checked


def _find_images(top: Path, recursive: bool, out_dir: Path | None, left_out: LeftOut) -> Iterator[tuple[Path, Path]]:
    """Images in a folder, each with its subfolder relative to ``top``. The folder of the paintings is left out."""

    def count_unreadable(_: OSError) -> None:
        left_out.counts["unreadable_folder"] += 1

    for base, folders, files in os.walk(top, onerror=count_unreadable):
        here = Path(base)
        entered = []
        for name in folders:
            path = here / name
            kind = "out_dir" if out_dir is not None and _same(path, out_dir) else _folder_kind(path, recursive)
            if kind:
                left_out.counts[kind] += 1
            else:
                entered.append(name)
        folders[:] = entered
        for name in files:
            path = here / name
            kind = _file_kind(path)
            if not kind:
                yield path, here.relative_to(top)
            elif kind != "system":
                left_out.counts[kind] += 1
                if kind == "other":
                    left_out.suffixes.add(path.suffix.lower())


def _folder_kind(path: Path, recursive: bool) -> str:
    """Why a subfolder is not searched; empty if it is."""
    if path.name.startswith("."):
        return "hidden_folder"
    if not recursive:
        return "folder"
    return "linked_folder" if path.is_symlink() else ""


def _file_kind(path: Path) -> str:
    """Why a file in a folder is not painted: a key of ``_LEFT_OUT`` or ``system``. Empty if it is painted."""
    if is_partial(path):
        return "partial"
    if path.name.startswith("."):
        # macOS writes metadata of photo.jpg to ._photo.jpg. System files such as .DS_Store are not reported.
        return "hidden" if has_image_suffix(path) else "system"
    try:
        mode = path.stat().st_mode
    except OSError:
        return "link"
    if not has_image_suffix(path):
        return "system" if path.name in ("Thumbs.db", "desktop.ini") else "other"
    return "" if stat.S_ISREG(mode) else "special"


def _no_images(folder: Path, recursive: bool, left_out: LeftOut) -> DataError:
    besides = f" (left out: {left_out})" if str(left_out) else ""
    deeper = "" if recursive else "; --recursive looks into the folders in it"
    return DataError(f"{folder}: holds no pictures{besides}{deeper}")


def _outputs(source: Path, subfolder: Path, naming: Naming) -> tuple[Path, ...]:
    if naming.outputs:
        return naming.outputs
    if naming.out_dir is not None:
        stem = "stdin" if source == STDIO else source.stem
        return tuple(naming.out_dir / subfolder / f"{stem}.{suffix}" for suffix in naming.formats)
    if source == STDIO:
        return (STDIO,)
    return tuple(Path(f"{source.stem}.painted.{suffix}") for suffix in naming.formats)


def make_out_dir(folder: Path) -> None:
    """Make the folder of the paintings. Called after all checks, so that a refused command leaves no folder behind.

    Raises:
        ParamsError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParamsError(f"{folder}: cannot be made a folder ({error.strerror}); name another --out-dir") from None


def _is_folder(path: Path) -> bool:
    """``Path.is_dir``, but False where that raises, as for a name that is too long."""
    with suppress(OSError):
        return path.is_dir()
    return False


def _same(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same file or folder. False if one does not exist."""
    with suppress(OSError):
        return one.samefile(other)
    return False


def check_source(job: Job) -> None:
    """Refuse a picture that cannot be opened.

    Raises:
        LpaintError: the job has a problem, or its file cannot be read.
    """
    if job.problem is not None:
        raise job.problem
    if is_partial(job.source):
        raise ImageError(f"{job.source}: is a half-written file that an interrupted lpaint left; delete it")
    if job.source == STDIO:
        if sys.stdin is None:
            raise ImageError("standard input is closed; give it a picture by < FILE")
    else:
        try:
            job.source.stat()
        except FileNotFoundError:
            if job.source.is_symlink():
                raise ImageError(f"{job.source}: the link leads to a file that is not there; mend it") from None
            raise ImageError(f"{job.source}: there is no such file; check the name") from None
        except OSError as error:
            loops = error.errno == errno.ELOOP
            reason = "the link leads back to itself" if loops else error.strerror
            raise ImageError(f"{job.source}: cannot be read ({reason}); check the name and the permissions") from None


def outputs_to_write(job: Job, overwrite: bool, skip_existing: bool) -> list[Path]:
    """The outputs of a job to write; empty if all exist and are skipped.

    Raises:
        ImageError: an output cannot be written, or exists and may be neither overwritten nor skipped.
    """
    wanted = []
    for output in job.outputs:
        if output == STDIO:
            wanted.append(output)
            continue
        if job.makes_folder:
            _make_folder(output.parent)
        check_place(output)
        if not output.exists():
            wanted.append(output)
            continue
        if not overwrite and not skip_existing:
            raise ImageError(f"{output}: is there already; say --overwrite or --skip-existing, or name another output")
        if overwrite:
            wanted.append(output)
    return wanted


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"{folder}: cannot be made a folder ({error.strerror}); make room for it") from None


def sweep_outputs(outputs: Iterable[Path]) -> None:
    """Remove partial files of killed runs from the folders of the outputs."""
    for folder in {output.parent for output in outputs if output != STDIO}:
        remove_stale_partials(folder)
