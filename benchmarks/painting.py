"""Paint photographs: `python benchmarks/painting.py`, on images that come with scikit-image and scikit-learn.

Paints each at 512 px with given stroke budgets, by error and on an even grid of tiles (the published way) that tries as
many strokes. Measures L2 and SSIM, and the error along the borders of the tiles relative to the error elsewhere. Writes
a report, NAME.json, and its table, NAME.table.md; --sheets keeps the paintings.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from lpaint.files import write_json, write_text
from lpaint.metrics import l2, ssim
from lpaint.painting.engine.resample import resize, scaled_size
from lpaint.painting.io.image import read_image, write_image
from lpaint.painting.onnx_model import OnnxPainter, packaged_model
from lpaint.painting.picture import Plan, paint_picture

ROOT = Path(__file__).parents[1]
LONGEST = 512
IMAGES = {
    "skimage": [
        *("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "hubble_deep_field.jpg", "motorcycle_left.png"),
        *("text.png", "coins.png", "retina.jpg", "camera.png"),
    ],
    "sklearn": ["china.jpg", "flower.jpg"],
}
# Budget: tiles per side and steps per tile of an even grid that tries as many strokes, or up to 4% more.
GRIDS = {500: (4, 6), 1000: (4, 12), 5000: (8, 16)}
# Pixels this close to a border count as along it.
BORDER = 2


def main(
    onnx: Annotated[Path | None, typer.Option(help="The agent.  [default: the one that comes with lpaint]")] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 = all cores.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = ROOT / "docs/study",
    report_name: Annotated[str, typer.Option("--name", help="Name of the report.")] = "painting",
    sheets: Annotated[Path | None, typer.Option(help="Folder for the paintings.")] = None,
) -> None:
    """Paint all images both ways."""
    model = OnnxPainter(onnx or packaged_model(), "cpu", threads)
    report: dict[str, Any] = {}
    for name, path in _images():
        image = read_image(path)
        _, height, width = image.shape
        height, width = scaled_size(height, width, LONGEST)
        image = np.clip(resize(image[None], height, width)[0], 0, 1)
        report[name] = {}
        for budget, (divide, steps) in GRIDS.items():
            plans = {"by error": Plan(strokes=budget), "even grid": Plan(divide=divide, steps=steps)}
            for way, plan in plans.items():
                painted = paint_picture(model, image, plan)
                canvas = painted.canvas(model)
                report[name][f"{way}, {budget}"] = _measure(canvas, image, len(painted.strokes), divide)
                if sheets is not None:
                    sheets.mkdir(parents=True, exist_ok=True)
                    write_image(sheets / f"{Path(name).stem}_{way.split()[1]}_{budget}.png", canvas)
        write_json(out / f"{report_name}.json", report)
        write_text(out / f"{report_name}.table.md", table(report))
        print(name, report[name], flush=True)


def _images() -> list[tuple[str, Path]]:
    folders = {"skimage": "skimage/data", "sklearn": "sklearn/datasets/images"}
    found = []
    for package, names in IMAGES.items():
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            continue
        folder = Path(spec.origin).parents[1] / folders[package]
        found += [(name, folder / name) for name in names if (folder / name).is_file()]
    return found


def _measure(canvas: np.ndarray, image: np.ndarray, strokes: int, divide: int) -> dict[str, float]:
    error = np.square(canvas - image).mean(0)
    along = np.zeros(error.shape, bool)
    for axis, side in enumerate(error.shape):
        borders = np.linspace(0, side, divide + 1).round().astype(int)[1:-1]
        near = np.abs(np.arange(side)[:, None] + 0.5 - borders).min(1) <= BORDER
        along |= near[:, None] if axis == 0 else near
    return {
        "strokes": strokes,
        "l2": round(float(l2(canvas[None], image[None])[0]), 6),
        "ssim": round(float(ssim(canvas[None], image[None])[0]), 4),
        "error_along_borders": round(float(error[along].mean()), 6),
        "error_elsewhere": round(float(error[~along].mean()), 6),
    }


def table(report: dict[str, Any]) -> str:
    """The report as a Markdown table: L2 / SSIM, by error against the even grid; and the borders' share of error."""
    head = "| picture | " + " | ".join(f"by error, {budget} | even grid, {budget}" for budget in GRIDS)
    lines = [head + " |\n|" + "---|" * (2 * len(GRIDS) + 1)]
    for name, cells in report.items():
        pairs = (cells[f"{way}, {budget}"] for budget in GRIDS for way in ("by error", "even grid"))
        lines.append(f"| {name} | " + " | ".join(f"{cell['l2']:.4f} / {cell['ssim']:.3f}" for cell in pairs) + " |")
    lines += ["", "| error along tile borders over error elsewhere | median | largest |\n|---|---|---|"]
    for key in (f"{way}, {budget}" for budget in GRIDS for way in ("by error", "even grid")):
        ratios = [cells[key]["error_along_borders"] / cells[key]["error_elsewhere"] for cells in report.values()]
        lines.append(f"| {key} | {np.median(ratios):.2f} | {max(ratios):.2f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
