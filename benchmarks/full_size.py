"""Prepare a data set of CelebA's size: `python benchmarks/full_size.py --folder DIR`.

Writes an archive of as many JPEGs as CelebA has, with the official names and size (synthetic images: a few are drawn,
then rotated, cropped and tinted, so that all differ). Then runs the prepare stage in its own process: once to its end,
and once killed (SIGKILL of the stage alone, so that its workers become orphans) after half of the images and started
again. Prints the peak memory of all processes together, images per second, and whether both results are equal byte for
byte. Needs disk space for the archive and twice the packed images.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer
from PIL import Image, ImageEnhance
from ruamel.yaml import YAML

from lpaint.data import synthetic
from lpaint.files import write_json
from lpaint.runtime.provenance import digest_file

ROOT = Path(__file__).parents[1]
# CelebA's aligned images.
WIDTH, HEIGHT, COUNT = 178, 218, 202_599
DRAWN = 96
FILES = ("images.npy", "manifest.parquet", "summary.json", "preview.png")


def main(
    folder: Annotated[Path, typer.Option(help="Working folder; the files made there are deleted.")],
    count: Annotated[int, typer.Option(min=300, help="Number of images.")] = COUNT,
    size: Annotated[int, typer.Option(min=16, help="Side of the packed images, pixels.")] = 128,
    workers: Annotated[int, typer.Option(min=0, help="Decoding processes; 0 = all cores.")] = 0,
    save: Annotated[
        Path | None, typer.Option("--save", "--json", help="Also write the figures to a JSON file.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the archive, and use an existing one.")] = False,
) -> None:
    """Measure one whole preparation and one that is killed half-way."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / "img_align_celeba.zip"
    if not (keep and archive.exists()):
        _write_archive(archive, count)
    report: dict[str, Any] = {"pictures": count, "size": size, "workers": workers or os.cpu_count()}
    report["archive_gib"] = round(archive.stat().st_size / 2**30, 2)
    digests = []
    for name in ("unbroken", "killed"):
        root = folder / name
        _write_root(root, archive, size, workers)
        if name == "killed":
            report["killed"] = _run(root, count, kill_at=count // 2)
        report["unbroken" if name == "unbroken" else "resumed"] = _run(root, count)
        digests.append({file: digest_file(root / "data/prepared" / file) for file in FILES})
        shutil.rmtree(root)
    if not keep:
        archive.unlink()
    report["identical"] = digests[0] == digests[1]
    print(table(report))
    if save is not None:
        write_json(save, report)
    if not report["identical"]:
        sys.exit("error: the resumed preparation differs from the unbroken one")


def _write_archive(path: Path, count: int) -> None:
    with zipfile.ZipFile(path, "w") as archive, get_context("spawn").Pool() as pool:
        for at, content in enumerate(pool.imap(_jpeg, range(count), chunksize=256), 1):
            archive.writestr(f"img_align_celeba/{at:06d}.jpg", content)


_drawn: list[Image.Image] = []


def _jpeg(index: int) -> bytes:
    if not _drawn:
        _drawn.extend(synthetic.draw(0, at, HEIGHT + 40) for at in range(DRAWN))
    rng = np.random.default_rng(index)
    image = _drawn[rng.integers(DRAWN)].rotate(float(rng.uniform(-8, 8)))
    left, top = int(rng.integers(40 + HEIGHT - WIDTH)), int(rng.integers(40))
    image = image.crop((left, top, left + WIDTH, top + HEIGHT))
    image = ImageEnhance.Color(image).enhance(float(rng.uniform(0.5, 1.5)))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90)
    return stream.getvalue()


def _write_root(root: Path, archive: Path, size: int, workers: int) -> None:
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["data"].update(source="celeba", path=str(archive), limit=0, size=size, fit="stretch", workers=workers)
    with (root / "params.yaml").open("w", encoding="utf-8") as stream:
        yaml.dump(params, stream)


def _run(root: Path, count: int, kill_at: int | None = None) -> dict[str, Any]:
    """Run the stage in ``root``; kill it once ``kill_at`` images are in its journal."""
    paths = os.pathsep.join([str(ROOT / "pipeline"), str(ROOT)])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
    started = time.perf_counter()
    stage = subprocess.Popen(
        [sys.executable, "-m", "stages.prepare"],
        cwd=root,
        env=environment | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    )
    memory = Memory(stage.pid)
    if kill_at is not None:
        while stage.poll() is None and _journalled(root) < kill_at:
            time.sleep(0.2)
        orphans = psutil.Process(stage.pid).children(recursive=True)
        stage.kill()
        stage.wait()
        _, left = psutil.wait_procs(orphans, timeout=10)
        return {
            "images": _journalled(root),
            "seconds": round(time.perf_counter() - started, 1),
            "orphans_left": len(left),
            **memory.stop(),
        }
    output, _ = stage.communicate()
    if stage.returncode:
        sys.exit(f"error: the stage ended with {stage.returncode}: {output}")
    seconds = time.perf_counter() - started
    resumed = int(output.split("resumed at image ")[1].split()[0]) if "resumed at image" in output else 0
    packed = (root / "data/prepared/images.npy").stat().st_size
    return {
        "resumed_at": resumed,
        "seconds": round(seconds, 1),
        "images_per_second": round((count - resumed) / seconds),
        "packed_gib": round(packed / 2**30, 2),
        **memory.stop(),
    }


def _journalled(root: Path) -> int:
    """Number of images in the journal of the preparation in ``root``."""
    done = 0
    for path in root.glob(".lpaint/resume/prepare-*/journal.jsonl"):
        *lines, _ = path.read_text(encoding="utf-8").split("\n")
        if len(lines) > 1:
            last = json.loads(lines[-1])
            done = last["from"] + len(last["rows"])
    return done


class Memory:
    """Peak memory of a process and its children together, sampled ten times a second, MiB.

    ``rss`` counts every mapped page, shared pages once per process. ``anonymous`` (RssAnon) leaves out pages of files,
    which the system can drop at any time.
    """

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._peak = {"rss": 0, "anonymous": 0, "largest_rss": 0, "processes": 0}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, int]:
        """The figures."""
        self._end.set()
        self._thread.join()
        return {name if name == "processes" else f"{name}_mib": value for name, value in self._peak.items()}

    def _watch(self) -> None:
        while not self._end.wait(0.1):
            held = []
            try:
                for process in [self._process, *self._process.children(recursive=True)]:
                    text = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
                    held.append([_kib(text, "VmRSS"), _kib(text, "RssAnon")])
            except (psutil.Error, OSError):
                continue
            now = {
                "rss": sum(rss for rss, _ in held) >> 10,
                "anonymous": sum(anonymous for _, anonymous in held) >> 10,
                "largest_rss": max(rss for rss, _ in held) >> 10,
                "processes": len(held),
            }
            self._peak = {name: max(value, now[name]) for name, value in self._peak.items()}


def _kib(status: str, name: str) -> int:
    found = [line for line in status.splitlines() if line.startswith(f"{name}:")]
    # A process that has just ended reports no memory.
    return int(found[0].split()[1]) if found else 0


def table(report: dict[str, Any]) -> str:
    """The report as text."""
    lines = [f"{name}: {value}" for name, value in report.items() if not isinstance(value, dict)]
    names = list(dict.fromkeys(name for run in report.values() if isinstance(run, dict) for name in run))
    runs = {name: run for name, run in report.items() if isinstance(run, dict)}
    lines += ["", "| | " + " | ".join(runs) + " |", "|---|" + "---|" * len(runs)]
    lines += [f"| {name} | " + " | ".join(str(run.get(name, "")) for run in runs.values()) + " |" for name in names]
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
