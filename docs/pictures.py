"""Make the README's pictures: `python docs/pictures.py`, after `dvc repro`. Their subjects are synthetic."""

from pathlib import Path

import numpy as np

from lpaint.data import synthetic
from lpaint.painting.model import OnnxPainter
from lpaint.painting.picture import Plan, paint_picture
from lpaint.plots import save_image, sheet

ROOT = Path(__file__).parents[1]
SIDE = 384
BUDGETS = (25, 100, 500)
# Portraits of a seed that no training uses.
SEED, PORTRAITS = 20_001, (0, 2, 5)


def main() -> None:
    """Paint three portraits at three budgets, at the exact size of the sheet's cells."""
    model = OnnxPainter(ROOT / "exports/actor.onnx", "cpu")
    rows = []
    for index in PORTRAITS:
        picture = np.asarray(synthetic.draw(SEED, index, SIDE), np.float32).transpose(2, 0, 1) / 255
        rows.append([picture, *(paint_picture(model, picture, Plan(strokes=budget))[0] for budget in BUDGETS)])
    captions = ["target", *(f"{budget} strokes" for budget in BUDGETS)]
    save_image(ROOT / "docs/images/painting.png", sheet(rows, captions=captions))


if __name__ == "__main__":
    main()
