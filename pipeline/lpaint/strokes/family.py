"""What every stroke family provides."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lpaint.strokes.outline import Outline

COLOUR = ("red", "green", "blue")


@dataclass(frozen=True)
class Parameter:
    """One of a shape's numbers, always in [0, 1], and what its ends mean."""

    name: str
    meaning: str


class StrokeFamily(ABC):
    """A kind of brush: the meaning of its numbers and its exact rasteriser.

    A stroke is ``parameters`` numbers in [0, 1]: first those of its ``shape``, then red, green, blue. The shape
    lives in the unit square of its *frame*; x is the row and y the column, as in the 2019 code.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    shape: ClassVar[tuple[Parameter, ...]]
    reach: ClassVar[float]
    """How far, at most, paint lies outside the frame, in sides of the frame."""

    @property
    def shape_parameters(self) -> int:
        """How many numbers describe the shape."""
        return len(self.shape)

    @property
    def parameters(self) -> int:
        """How many numbers describe a stroke: shape and colour."""
        return len(self.shape) + len(COLOUR)

    @abstractmethod
    def rasterise(self, shape: Tensor, rows: Tensor, columns: Tensor, pitch: Tensor) -> Tensor:
        """Opacity of each stroke at each pixel, antialiased and differentiable in ``shape`` almost everywhere.

        Args:
            shape: [N, shape_parameters], in [0, 1].
            rows: [N, H], pixel centres in the frame's own coordinates; they may lie outside [0, 1].
            columns: [N, W], likewise.
            pitch: [N, 2], height and width of a pixel in frame coordinates.

        Returns:
            [N, H, W], in [0, 1].
        """

    @abstractmethod
    def bounds(self, shape: Tensor) -> Tensor:
        """Boxes that hold all of each stroke's paint but the soft half pixel at its edge.

        Args:
            shape: [N, shape_parameters], in [0, 1].

        Returns:
            [N, 4]: top, left, bottom, right in frame coordinates.
        """

    @abstractmethod
    def outline(self, shape: Tensor) -> Outline:
        """The strokes as vectors, which cover what ``rasterise`` paints.

        Args:
            shape: [N, shape_parameters], in [0, 1].
        """

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Random shapes to teach a renderer with, uniform as in the 2019 code: [count, shape_parameters]."""
        return torch.rand(count, self.shape_parameters, generator=generator, device=generator.device)


def pixel_centres(count: int, size: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    """``rows``, ``columns`` and ``pitch`` of ``count`` frames that each fill a ``size`` x ``size`` raster."""
    centres = ((torch.arange(size, device=device) + 0.5) / size).expand(count, size)
    return centres, centres, torch.full((count, 2), 1.0 / size, device=device)
