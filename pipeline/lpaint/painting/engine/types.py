"""What the search works with: the model's interface, strokes, and the result for a batch of pictures."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

# A stroke is P numbers: P - COLOUR of its shape, then red, green and blue.
COLOUR = 3


class PaintingModel(Protocol):
    """What the search needs of a trained model; float32 arrays in and out.

    Attributes:
        canvas: side S in pixels of the square canvas and target that ``act`` takes.
        bundle: strokes that ``act`` returns for each canvas.
        max_steps: steps of an episode, of one bundle each.
        zoom: scales of the training, ascending; a tile at scale d has a d-th of the picture's sides.
        overhang: how far paint may lie outside its frame, as a share of the frame's side.
        fits_colours: a stroke takes the least-squares colour for its shape instead of the model's own.
        initial_canvas: ``black``, ``white``, or ``mean`` for the picture's mean colour.
        protocol: ``search`` or ``episode``, see ``search.paint``.
    """

    canvas: int
    bundle: int
    max_steps: int
    zoom: tuple[int, ...]
    overhang: float
    fits_colours: bool
    initial_canvas: str
    protocol: str

    def act(self, canvas: np.ndarray, target: np.ndarray, fraction: np.ndarray) -> np.ndarray:
        """Canvas and target [B, 3, S, S] in [0, 1], step fraction [B] -> strokes [B, bundle, P]."""
        ...

    def rasterise(self, shape: np.ndarray, rows: np.ndarray, columns: np.ndarray, pixel_size: np.ndarray) -> np.ndarray:
        """Shapes [N, P - 3], pixel centres [N, h] and [N, w] and pixel size [N, 2] -> opacity [N, h, w]."""
        ...

    def bounds(self, shape: np.ndarray) -> np.ndarray:
        """Shapes [N, P - 3] -> [N, 4]: top, left, bottom, right of all paint but a soft half pixel."""
        ...


@dataclass(frozen=True)
class Strokes:
    """Strokes in painting order.

    A stroke's *frame* is the box in the unit square in which the model placed it. The picture, of any aspect, is
    squashed to that square, so the same strokes can be drawn at any size.

    Attributes:
        frames: [N, 4], top, left, height and width in the unit square.
        values: [N, P] in [0, 1]; shape numbers refer to the frame.
        background: red, green and blue of the bare canvas, in [0, 1].
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


@dataclass(frozen=True)
class SearchResult:
    """Canvases and strokes of B pictures.

    Attributes:
        snapshots: stroke budget -> canvases [B, 3, H, W] in [0, 1].
        strokes: one ``Strokes`` a picture.
    """

    snapshots: dict[int, np.ndarray]
    strokes: list[Strokes]
