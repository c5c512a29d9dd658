"""Make the pictures of the README from synthetic targets: run `python docs/pictures.py` after `dvc repro`."""

from pathlib import Path

import numpy as np

from lpaint.data import synthetic
from lpaint.painting.io.image import write_image
from lpaint.painting.io.pixelart import pixel_art
from lpaint.painting.onnx_model import OnnxPainter
from lpaint.painting.picture import Plan, paint_picture
from lpaint.plots import sheet

ROOT = Path(__file__).parents[1]
SIDE = 256
BUDGETS = (25, 100, 500, 2000)
# The values of --pixel-art 48 --palette 16 --size 384.
CELLS, COLOURS, SIDE_OF_CELLS = 48, 16, 384
# No training uses this seed.
SEED, PICTURES = 20_001, (10, 16, 9)


def main() -> None:
    """Paint three pictures with four stroke budgets at the cell size of the sheet, and turn the last into pixel art."""
    model = OnnxPainter(ROOT / "exports/actor.onnx", "cpu")
    rows, cells = [], []
    for index in PICTURES:
        picture = np.asarray(synthetic.draw(SEED, index, SIDE), np.float32).transpose(2, 0, 1) / 255
        rows.append(
            [picture, *(paint_picture(model, picture, Plan(strokes=budget)).canvas(model) for budget in BUDGETS)]
        )
        pixels = pixel_art(rows[-1][-1], CELLS, COLOURS, SIDE_OF_CELLS, SIDE_OF_CELLS, dither=False)
        cells.append(pixels.transpose(2, 0, 1).astype(np.float32) / 255)
    captions = ["target", *(f"{budget} strokes" for budget in BUDGETS)]
    write_image(ROOT / "docs/images/painting.jpg", sheet(rows, captions=captions).transpose(2, 0, 1) / 255)
    write_image(ROOT / "docs/images/pixel_art.png", sheet([cells]).transpose(2, 0, 1) / 255)


if __name__ == "__main__":
    main()
