"""Which files ``lpaint paint`` reads and writes, worked out before any work is done."""

from dataclasses import dataclass
from pathlib import Path

from lpaint.errors import DataError, ImageError, ParamsError
from lpaint.painting.image import STDIO, is_picture
from lpaint.painting.outputs import Saving, check_output


@dataclass(frozen=True)
class Job:
    """A picture, and the files that its painting is written to; ``-`` is standard input or output."""

    source: Path
    outputs: tuple[Path, ...]


@dataclass(frozen=True)
class Naming:
    """Where paintings go: ``outputs`` name files, else ``out_dir`` and ``formats`` (suffixes without dot) do."""

    outputs: tuple[Path, ...] = ()
    out_dir: Path | None = None
    formats: tuple[str, ...] = ("png",)


def plan_jobs(images: list[Path], recursive: bool, naming: Naming, saving: Saving) -> list[Job]:
    """A job for each picture; folders are replaced by the pictures in them, sorted by name.

    Raises:
        ParamsError: options that contradict each other, two pictures with one output, or a suffix nobody can write.
        ImageError: a folder that does not exist.
        DataError: a folder without pictures.
    """
    pictures = [found for image in images for found in _pictures(image, recursive)]
    if naming.outputs and naming.out_dir is not None:
        raise ParamsError("-o names files and --out-dir a folder; give the one or the other")
    if naming.outputs and (len(pictures) > 1 or images[0].is_dir()):
        raise ParamsError(f"-o names the painting of one picture, but there are {len(pictures)}; use --out-dir")
    if any(image.is_dir() for image in images) and naming.out_dir is None:
        raise ParamsError("paintings of a folder's pictures need a folder of their own; name it by --out-dir")
    jobs = [Job(source, _outputs(source, place, naming)) for source, place in pictures]
    seen: dict[Path, Path] = {}
    for job in jobs:
        for output in job.outputs:
            if output != STDIO:
                if naming.out_dir is not None:
                    _make(output.parent)
                check_output(output, saving)
                if output.exists() and job.source.exists() and output.samefile(job.source):
                    raise ParamsError(f"{job.source}: the painting would overwrite the picture; name another output")
            other = seen.setdefault(output, job.source)
            if other is not job.source:
                raise ParamsError(f"{other} and {job.source} would both be painted to {output}; rename one of them")
        if len(set(job.outputs)) < len(job.outputs):
            raise ParamsError(f"{job.source}: the same output is named twice")
    return jobs


def _pictures(image: Path, recursive: bool) -> list[tuple[Path, Path]]:
    """Pictures at a path, each with its folder relative to it."""
    if not image.is_dir():
        return [(image, Path())]
    found = sorted(path for path in (image.rglob("*") if recursive else image.iterdir()) if is_picture(path))
    if not found:
        deeper = "" if recursive else "; --recursive looks into the folders in it"
        raise DataError(f"{image}: holds no pictures{deeper}")
    return [(path, path.parent.relative_to(image)) for path in found]


def _outputs(source: Path, place: Path, naming: Naming) -> tuple[Path, ...]:
    if naming.outputs:
        return naming.outputs
    if naming.out_dir is not None:
        stem = "stdin" if source == STDIO else source.stem
        return tuple(naming.out_dir / place / f"{stem}.{suffix}" for suffix in naming.formats)
    if source == STDIO:
        return (STDIO,)
    return tuple(Path(f"{source.stem}.painted.{suffix}") for suffix in naming.formats)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParamsError(f"{folder}: cannot be made a folder ({error.strerror}); name another --out-dir") from None


def outputs_to_write(job: Job, overwrite: bool, skip_existing: bool) -> list[Path]:
    """Those of a job's outputs that may be written; empty where there is nothing left to do.

    Raises:
        ImageError: an output is there already, and may neither be overwritten nor skipped.
    """
    wanted = []
    for output in job.outputs:
        if output == STDIO or not output.exists():
            wanted.append(output)
            continue
        if output.is_dir():
            raise ImageError(f"{output}: is a folder; name a file")
        if not overwrite and not skip_existing:
            raise ImageError(f"{output}: is there already; say --overwrite or --skip-existing, or name another output")
        if overwrite:
            wanted.append(output)
    return wanted
