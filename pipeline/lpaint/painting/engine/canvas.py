"""What a painting is made of, and the canvases that it grows on.

Pictures of any aspect are squashed to a unit square; a tile is a box of pixels in it. Every stroke is kept with its
*frame*, the box (top, left, height, width) in the unit square in which the model placed it, so that the same strokes
can be drawn at any size. Strokes are not cut at the edges of their tile.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from lpaint.painting.engine.candidates import gains
from lpaint.painting.engine.colour import COLOUR, fit_colour
from lpaint.painting.engine.geometry import Box, corner_and_sides, pixel_coordinates
from lpaint.painting.engine.resample import resize

# Strokes of more pixels than a few times this many are first looked at on about so many of them.
_GLANCED_AT = 2048


class PaintingModel(Protocol):
    """What the painter needs of a trained model; float32 arrays in and out.

    ``fitted``: a stroke takes the best colour for its shape instead of the model's own; ``start``: the bare canvas is
    ``black``, ``white`` or of the picture's ``mean`` colour; ``reach``: how far paint lies outside its frame, in sides;
    ``protocol``: ``search`` or ``episode``, see ``painter.paint_as_trained``.
    """

    canvas: int
    bundle: int
    max_steps: int
    zoom: tuple[int, ...]
    reach: float
    fitted: bool
    start: str
    protocol: str

    def act(self, canvas: np.ndarray, target: np.ndarray, fraction: np.ndarray) -> np.ndarray:
        """Canvas and target [B, 3, S, S] in [0, 1], step fraction [B] -> strokes [B, bundle, parameters]."""
        ...

    def rasterise(self, shape: np.ndarray, rows: np.ndarray, columns: np.ndarray, pitch: np.ndarray) -> np.ndarray:
        """Shapes [N, parameters - 3], pixel centres [N, h] and [N, w] and pixel size [N, 2] -> opacity [N, h, w]."""
        ...

    def bounds(self, shape: np.ndarray) -> np.ndarray:
        """Shapes [N, parameters - 3] -> [N, 4]: top, left, bottom, right of all paint but a soft half pixel."""
        ...


@dataclass(frozen=True)
class Strokes:
    """Strokes in painting order.

    ``frames``: [N, 4], top, left, height and width in the unit square; ``values``: [N, P] in [0, 1];
    ``background``: red, green and blue of the bare canvas, in [0, 1].
    """

    frames: np.ndarray
    values: np.ndarray
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __len__(self) -> int:
        return len(self.frames)

    def large_first(self) -> "Strokes":
        """The same strokes, those of larger frames first; frames of one size keep their order."""
        order = np.argsort(-np.round(self.frames[:, 2] * self.frames[:, 3], 6), kind="stable")
        return Strokes(self.frames[order], self.values[order], self.background)


@dataclass
class Painting:
    """What ``paint_by_error`` and ``paint_grid`` return for B pictures.

    ``snapshots``: stroke budget -> canvases [B, 3, H, W]; ``strokes``: one ``Strokes`` a picture.
    """

    snapshots: dict[int, np.ndarray]
    strokes: list[Strokes]


@dataclass
class Easel:
    """Canvases in work and what is on them. ``background`` [B, 3] is the bare canvases' colour."""

    target: np.ndarray
    canvas: np.ndarray
    background: np.ndarray
    budgets: list[int]
    used: np.ndarray
    snapshots: dict[int, np.ndarray]
    parameters: int = COLOUR
    frames: list[list[np.ndarray]] = field(default_factory=list)
    values: list[list[np.ndarray]] = field(default_factory=list)

    @classmethod
    def start(
        cls,
        model: PaintingModel,
        target: np.ndarray,
        budgets: Sequence[int],
        given: tuple[float, float, float] | None = None,
    ) -> "Easel":
        """Bare canvases for ``target`` [B, 3, H, W], of colour ``given``, or as ``model.start`` says."""
        count = len(target)
        background = (
            target.mean((2, 3)) if model.start == "mean" else np.full((count, 3), float(model.start == "white"))
        )
        if given is not None:
            background = np.tile(np.array(given), (count, 1))
        canvas = np.empty_like(target)
        canvas[:] = background[:, :, None, None]
        snapshots = {budget: canvas.copy() for budget in budgets}
        frames: list[list[np.ndarray]] = [[] for _ in range(count)]
        values: list[list[np.ndarray]] = [[] for _ in range(count)]
        return cls(
            target, canvas, background, sorted(budgets), np.zeros(count, int), snapshots, frames=frames, values=values
        )

    @property
    def full(self) -> np.ndarray:
        return self.used >= self.budgets[-1]

    def see(self, model: PaintingModel, who: Sequence[int], boxes: Sequence[Box], fraction: np.ndarray) -> np.ndarray:
        """What the model proposes in ``boxes[i]`` (all of one size) of picture ``who[i]``: [n, bundle, P]."""
        seen = [resize(_cut(image, who, boxes), model.canvas, model.canvas) for image in (self.canvas, self.target)]
        strokes = np.array(model.act(seen[0], seen[1], fraction.astype(np.float32)))
        self.parameters = strokes.shape[2]
        return strokes

    def lay(self, model: PaintingModel, b: int, box: Box, values: np.ndarray, window: Box, alpha: np.ndarray) -> bool:
        """Lay one stroke [P], of opacity [h, w] on ``window``, if that lowers the squared error; whether it did."""
        if self.used[b] >= self.budgets[-1]:
            return False
        canvas, target = (image[b][:, *window.slices()] for image in (self.canvas, self.target))
        if model.fitted:
            values[-COLOUR:] = fit_colour(canvas, alpha[None], values[None, -COLOUR:], target)[0]
        after = canvas + alpha * (values[-COLOUR:, None, None] - canvas)
        if np.square(after - target).sum() >= np.square(canvas - target).sum():
            return False
        canvas[:] = after
        self._record(b, box, values)
        return True

    def lay_all(self, model: PaintingModel, b: int, box: Box, strokes: np.ndarray) -> None:
        """Lay strokes [n, P] in order, whether they help or not, until the largest budget is used up."""
        height, width = self.target.shape[2:]
        windows = bounding_windows(model, strokes, np.tile(corner_and_sides(box), (len(strokes), 1)), height, width)
        for values, window in zip(strokes[: self.budgets[-1] - self.used[b]], windows, strict=False):
            if window.height * window.width:
                canvas, target = (image[b][:, *window.slices()] for image in (self.canvas, self.target))
                places = pixel_coordinates(corner_and_sides(box)[None], [window])
                alpha = model.rasterise(values[None, :-COLOUR], *places)
                if model.fitted:
                    values[-COLOUR:] = fit_colour(canvas, alpha, values[None, -COLOUR:], target)[0]
                canvas += alpha[0] * (values[-COLOUR:, None, None] - canvas)
            self._record(b, box, values)

    def draw_and_lay(self, model: PaintingModel, b: int, box: Box, strokes: np.ndarray) -> bool:
        """Lay strokes [n, P] in order, each drawn on its own bounds; whether any was kept."""
        height, width = self.target.shape[2:]
        windows = bounding_windows(model, strokes, np.tile(corner_and_sides(box), (len(strokes), 1)), height, width)
        kept = False
        for values, window in zip(strokes, windows, strict=True):
            if not window.height * window.width:
                continue
            places = pixel_coordinates(corner_and_sides(box)[None], [window])
            if self._looks_useful(model, b, values, window, places):
                kept |= self.lay(model, b, box, values, window, model.rasterise(values[None, :-COLOUR], *places)[0])
        return kept

    def _looks_useful(
        self, model: PaintingModel, b: int, values: np.ndarray, window: Box, places: tuple[np.ndarray, ...]
    ) -> bool:
        """Whether a large stroke [P] helps on every n-th pixel, which is quick to tell; True for a small one."""
        every = math.isqrt(window.height * window.width // _GLANCED_AT)
        if every < 2:
            return True
        rows, columns, pitch = places
        alpha = model.rasterise(values[None, :-COLOUR], rows[:, ::every], columns[:, ::every], pitch)
        bare, wanted = (image[b][:, *window.slices()][:, ::every, ::every] for image in (self.canvas, self.target))
        return bool(gains(values[None], alpha, bare, wanted, model.fitted)[0] > 0)

    def _record(self, b: int, box: Box, values: np.ndarray) -> None:
        """Note a stroke that is on canvas ``b``, and the canvas itself where a budget is reached."""
        height, width = self.target.shape[2:]
        self.used[b] += 1
        self.frames[b].append(corner_and_sides(box) / [height, width, height, width])
        self.values[b].append(values)
        if self.used[b] in self.snapshots:
            self.snapshots[int(self.used[b])][b] = self.canvas[b]

    def finish(self) -> Painting:
        """The painting; budgets that a picture did not use up show its last canvas."""
        for budget, snapshot in self.snapshots.items():
            unfinished = self.used < budget
            snapshot[unfinished] = self.canvas[unfinished]
        width = self.parameters
        strokes = [
            Strokes(
                np.array(frames, np.float32).reshape(-1, 4),
                np.array(values, np.float32).reshape(-1, width),
                (float(red), float(green), float(blue)),
            )
            for frames, values, (red, green, blue) in zip(self.frames, self.values, self.background, strict=True)
        ]
        return Painting(self.snapshots, strokes)


def bounding_windows(
    model: PaintingModel, values: np.ndarray, frames: np.ndarray, height: int, width: int
) -> list[Box]:
    """Windows that hold all paint of strokes [N, P] in ``frames`` [N, 4] (pixels), cut to a height x width raster."""
    if not len(values):
        return []
    corner, side = np.tile(frames[:, :2], 2), np.tile(frames[:, 2:], 2)
    bounds = corner + side * model.bounds(values[:, :-COLOUR])
    # A pixel more on each side for the soft edge.
    low = np.clip(np.floor(bounds[:, :2]) - 1, 0, [height, width]).astype(int)
    high = np.clip(np.ceil(bounds[:, 2:]) + 1, low, [height, width]).astype(int)
    return [Box(*map(int, (*start, *(stop - start)))) for start, stop in zip(low, high, strict=True)]


def _cut(images: np.ndarray, who: Sequence[int], boxes: Sequence[Box]) -> np.ndarray:
    """Box i, all of one size, out of image ``who[i]``: [B, 3, H, W] -> [len(who), 3, h, w]."""
    return np.stack([images[b][:, *box.slices()] for b, box in zip(who, boxes, strict=True)])
