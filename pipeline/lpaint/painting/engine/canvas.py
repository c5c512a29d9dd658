"""The canvases of a batch of pictures: proposals of strokes for them, and strokes applied to them.

Strokes are not cut at the edges of their tile.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lpaint.painting.engine.colour import fit_colour, gains
from lpaint.painting.engine.geometry import Box, corner_and_sides, paint_windows, pixel_coordinates
from lpaint.painting.engine.resample import resize
from lpaint.painting.engine.types import COLOUR, PaintingModel, SearchResult, Strokes

# A stroke with many more pixels than this is first tested on about this many of them.
_PREVIEW_PIXELS = 2048


@dataclass
class CanvasBatch:
    """The canvases of B pictures and the strokes applied to each.

    Attributes:
        target, canvas: [B, 3, H, W] in [0, 1].
        background: [B, 3], the bare canvases' colours in [0, 1].
        budgets: stroke counts at which canvases are kept, ascending; the last one is the limit.
        used: [B], strokes applied so far.
        snapshots: budget -> canvases [B, 3, H, W].
        parameters: numbers P of a stroke, known after the first proposal.
        frames, values: for each picture, its strokes' frames [4] in the unit square and numbers [P].
    """

    target: np.ndarray
    canvas: np.ndarray
    background: np.ndarray
    budgets: list[int]
    used: np.ndarray
    snapshots: dict[int, np.ndarray]
    frames: list[list[np.ndarray]]
    values: list[list[np.ndarray]]
    parameters: int = COLOUR

    @classmethod
    def bare(
        cls,
        model: PaintingModel,
        target: np.ndarray,
        budgets: Sequence[int],
        background: tuple[float, float, float] | None = None,
    ) -> "CanvasBatch":
        """Bare canvases for ``target`` [B, 3, H, W]; ``background`` None = as ``model.initial_canvas`` says."""
        count = len(target)
        if background is not None:
            colours = np.tile(np.array(background), (count, 1))
        elif model.initial_canvas == "mean":
            colours = target.mean((2, 3))
        else:
            colours = np.full((count, 3), float(model.initial_canvas == "white"))
        canvas = np.empty_like(target)
        canvas[:] = colours[:, :, None, None]
        snapshots = {budget: canvas.copy() for budget in budgets}
        frames: list[list[np.ndarray]] = [[] for _ in range(count)]
        values: list[list[np.ndarray]] = [[] for _ in range(count)]
        return cls(target, canvas, colours, sorted(budgets), np.zeros(count, int), snapshots, frames, values)

    @property
    def complete(self) -> np.ndarray:
        """[B], whether the largest budget is used up."""
        return self.used >= self.budgets[-1]

    def propose(
        self, model: PaintingModel, indices: Sequence[int], boxes: Sequence[Box], fraction: np.ndarray
    ) -> np.ndarray:
        """The model's strokes [n, bundle, P] for ``boxes[i]``, all of one size, of picture ``indices[i]``.

        ``fraction`` [n]: the step as a share of the episode.
        """
        views = [
            resize(_crop(image, indices, boxes), model.canvas, model.canvas) for image in (self.canvas, self.target)
        ]
        strokes = np.array(model.act(views[0], views[1], fraction.astype(np.float32)))
        self.parameters = strokes.shape[2]
        return strokes

    def apply(self, model: PaintingModel, b: int, box: Box, values: np.ndarray, window: Box, alpha: np.ndarray) -> bool:
        """Apply one stroke [P], of opacity [h, w] on ``window``, if that lowers the squared error.

        Returns:
            Whether the stroke was applied.
        """
        if self.used[b] >= self.budgets[-1]:
            return False
        canvas, target = (image[b][:, *window.slices()] for image in (self.canvas, self.target))
        if model.fits_colours:
            values[-COLOUR:] = fit_colour(canvas, alpha[None], values[None, -COLOUR:], target)[0]
        after = canvas + alpha * (values[-COLOUR:, None, None] - canvas)
        if np.square(after - target).sum() >= np.square(canvas - target).sum():
            return False
        canvas[:] = after
        self._record(b, box, values)
        return True

    def draw_and_apply(self, model: PaintingModel, b: int, box: Box, strokes: np.ndarray) -> bool:
        """Rasterise strokes [n, P] one by one and ``apply`` each; whether any was applied."""
        applied = False
        for values, window in zip(strokes, self._windows(model, box, strokes), strict=True):
            if not window.height * window.width:
                continue
            pixels = pixel_coordinates(corner_and_sides(box)[None], [window])
            if self._helps_on_preview(model, b, values, window, pixels):
                alpha = model.rasterise(values[None, :-COLOUR], *pixels)[0]
                applied |= self.apply(model, b, box, values, window, alpha)
        return applied

    def apply_all(self, model: PaintingModel, b: int, box: Box, strokes: np.ndarray) -> None:
        """Apply strokes [n, P] in order, whether they help or not, until the largest budget is used up."""
        windows = self._windows(model, box, strokes)
        for values, window in zip(strokes[: self.budgets[-1] - self.used[b]], windows, strict=False):
            if window.height * window.width:
                canvas, target = (image[b][:, *window.slices()] for image in (self.canvas, self.target))
                pixels = pixel_coordinates(corner_and_sides(box)[None], [window])
                alpha = model.rasterise(values[None, :-COLOUR], *pixels)
                if model.fits_colours:
                    values[-COLOUR:] = fit_colour(canvas, alpha, values[None, -COLOUR:], target)[0]
                canvas += alpha[0] * (values[-COLOUR:, None, None] - canvas)
            self._record(b, box, values)

    def result(self) -> SearchResult:
        """Snapshots and strokes; budgets that a picture did not use up show its last canvas."""
        for budget, snapshot in self.snapshots.items():
            unfinished = self.used < budget
            snapshot[unfinished] = self.canvas[unfinished]
        strokes = [
            Strokes(
                np.array(frames, np.float32).reshape(-1, 4),
                np.array(values, np.float32).reshape(-1, self.parameters),
                (float(red), float(green), float(blue)),
            )
            for frames, values, (red, green, blue) in zip(self.frames, self.values, self.background, strict=True)
        ]
        return SearchResult(self.snapshots, strokes)

    def _windows(self, model: PaintingModel, box: Box, strokes: np.ndarray) -> list[Box]:
        """Windows that hold all paint of strokes [n, P] placed in ``box``."""
        height, width = self.target.shape[2:]
        return paint_windows(model, strokes, np.tile(corner_and_sides(box), (len(strokes), 1)), height, width)

    def _helps_on_preview(
        self, model: PaintingModel, b: int, values: np.ndarray, window: Box, pixels: tuple[np.ndarray, ...]
    ) -> bool:
        """Whether a large stroke [P] gains on every n-th pixel, which is quick to compute; True for a small one."""
        stride = math.isqrt(window.height * window.width // _PREVIEW_PIXELS)
        if stride < 2:
            return True
        rows, columns, pixel_size = pixels
        alpha = model.rasterise(values[None, :-COLOUR], rows[:, ::stride], columns[:, ::stride], pixel_size)
        canvas, target = (image[b][:, *window.slices()][:, ::stride, ::stride] for image in (self.canvas, self.target))
        return bool(gains(values[None], alpha, canvas, target, model.fits_colours)[0] > 0)

    def _record(self, b: int, box: Box, values: np.ndarray) -> None:
        """Note a stroke that is on canvas ``b``, and the canvas itself where a budget is reached."""
        height, width = self.target.shape[2:]
        self.used[b] += 1
        self.frames[b].append(corner_and_sides(box) / [height, width, height, width])
        self.values[b].append(values)
        if self.used[b] in self.snapshots:
            self.snapshots[int(self.used[b])][b] = self.canvas[b]


def _crop(images: np.ndarray, indices: Sequence[int], boxes: Sequence[Box]) -> np.ndarray:
    """Box i, all of one size, out of image ``indices[i]``: [B, 3, H, W] -> [n, 3, h, w]."""
    return np.stack([images[b][:, *box.slices()] for b, box in zip(indices, boxes, strict=True)])
