"""Drawing strokes at any size: the final painting and the frames of a time-lapse.

Not part of the engine: training does not draw finished paintings, so an edit here need not train anew.
"""

from collections.abc import Iterator

import numpy as np

from lpaint.painting.engine.geometry import MAX_PIXELS, bands, paint_windows, pixel_coordinates
from lpaint.painting.engine.types import COLOUR, PaintingModel, Strokes


def draw_strokes(model: PaintingModel, strokes: Strokes, height: int, width: int) -> Iterator[np.ndarray]:
    """Draw strokes on a bare canvas of any size.

    Yields:
        The bare canvas [3, height, width] in [0, 1], then the canvas after each stroke. The array is the same one each
        time, so memory holds one canvas; copy it to keep it.
    """
    canvas = np.empty((3, height, width), np.float32)
    canvas[:] = np.array(strokes.background)[:, None, None]
    yield canvas
    frames = strokes.frames.astype(np.float64) * [height, width, height, width]
    windows = paint_windows(model, strokes.values, frames, height, width)
    for values, frame, window in zip(strokes.values, frames, windows, strict=True):
        for band in bands(window, MAX_PIXELS):
            alpha = model.rasterise(values[None, :-COLOUR], *pixel_coordinates(frame[None], [band]))[0]
            piece = canvas[:, *band.slices()]
            piece += alpha * (values[-COLOUR:, None, None] - piece)
        yield canvas
