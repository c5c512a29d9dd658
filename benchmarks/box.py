"""Measure the packaged painter on unseen faces: `python benchmarks/box.py --data img_align_celeba.zip`.

Paints held-out CelebA faces at 128 px, one call each, as `lpaint paint` does, and reports error and seconds. Several
agents take turns on every face. Writes NAME.json and its table, NAME.table.md, and no images.
"""

import time
from pathlib import Path
from statistics import mean, median
from typing import Annotated, Any

import numpy as np
import typer

from lpaint import Painter
from lpaint.data.decode import fit_to_square
from lpaint.data.sources import open_source_path
from lpaint.files import write_json, write_text
from lpaint.metrics import l2, psnr, ssim

ROOT = Path(__file__).parents[1]
SIDE = 128
BOX = "box"


def main(
    data: Annotated[Path, typer.Option(help="CelebA's archive or folder.")],
    ids: Annotated[str, typer.Option(help="Ids of the first and last face.")] = "8501-9000",
    every: Annotated[int, typer.Option(min=1, help="Use every N-th of these faces.")] = 5,
    onnx: Annotated[list[str] | None, typer.Option(help="NAME=FILE of more agents.")] = None,
    strokes: Annotated[str, typer.Option(help="Stroke budgets, comma-separated.")] = "100,200,400,1000",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 = all cores.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = ROOT / "docs/study",
    report_name: Annotated[str, typer.Option("--name", help="Name of the report.")] = "box",
) -> None:
    """Paint all faces with all agents."""
    files = dict(each.split("=", 1) for each in onnx or [])
    painters = {BOX: Painter(device="cpu", threads=threads)}
    painters |= {name: Painter(file, device="cpu", threads=threads) for name, file in files.items()}
    faces = _faces(data, ids, every)
    report: dict[str, Any] = {"images": len(faces), "side": SIDE, "threads": threads, "agents": {}}
    for name in painters:
        report["agents"][name] = {}
    for budget in map(int, strokes.split(",")):
        found: dict[str, list[dict[str, float]]] = {name: [] for name in painters}
        for face in faces:
            for name, painter in painters.items():
                found[name].append(_measure(painter, face, budget))
        for name, rows in found.items():
            figures = {key: round(mean(row[key] for row in rows), 6) for key in ("l2", "psnr", "ssim")}
            seconds = [row["seconds"] for row in rows]
            figures |= {"seconds": round(median(seconds), 3), "slowest": round(max(seconds), 3)}
            report["agents"][name][str(budget)] = figures
            print(name, budget, figures, flush=True)
    write_json(out / f"{report_name}.json", report)
    write_text(out / f"{report_name}.table.md", table(report))


def table(report: dict[str, Any]) -> str:
    """The report as a Markdown table."""
    lines = ["| agent | strokes | L2 | PSNR, dB | SSIM | seconds, median | slowest |", "|---" * 7 + "|"]
    for name, budgets in report["agents"].items():
        for budget, row in budgets.items():
            lines.append(
                f"| {name} | {budget} | {row['l2']:.5f} | {row['psnr']:.2f} | {row['ssim']:.3f} "
                f"| {row['seconds']:.2f} | {row['slowest']:.2f} |"
            )
    return "\n".join(lines) + "\n"


def _faces(data: Path, ids: str, every: int) -> list[np.ndarray]:
    """Faces as in training: the whole image, stretched to SIDE x SIDE, uint8."""
    first, last = map(int, ids.split("-"))
    source = open_source_path("celeba", data)
    wanted = [name for name in source.names() if first <= int(Path(name).stem) <= last][::every]
    return [fit_to_square(source.load(name, SIDE).image, SIDE, "stretch") for name in wanted]


def _measure(painter: Painter, face: np.ndarray, budget: int) -> dict[str, float]:
    started = time.perf_counter()
    artwork = painter.paint(face, strokes=budget)
    pixels = artwork.pixels()
    seconds = time.perf_counter() - started
    canvas, target = (each.astype(np.float32).transpose(2, 0, 1)[None] / 255 for each in (pixels, face))
    metrics = {"l2": l2, "psnr": psnr, "ssim": ssim}
    return {name: float(metric(canvas, target)[0]) for name, metric in metrics.items()} | {"seconds": seconds}


if __name__ == "__main__":
    typer.run(main)
