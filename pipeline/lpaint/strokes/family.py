"""The base class of all stroke families."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lpaint.strokes.outline import Outline

COLOUR = ("red", "green", "blue")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a shape, in [0, 1]; ``meaning`` says what it is and what its ends are."""

    name: str
    meaning: str


class StrokeFamily(ABC):
    """A kind of brush: the meaning of its parameters, its exact rasteriser and its outline.

    A stroke is ``parameters`` numbers in [0, 1]: first those of its ``shape``, then red, green and blue. Coordinates of
    the shape are relative to the stroke's *frame*, the unit square. x is the row and y the column, as in the 2019 code.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    shape: ClassVar[tuple[Parameter, ...]]
    overhang: ClassVar[float]
    """The largest distance of paint from the frame, as a share of the frame's side."""

    @property
    def shape_parameters(self) -> int:
        """The number of parameters of the shape."""
        return len(self.shape)

    @property
    def parameters(self) -> int:
        """The number of parameters of a stroke: shape and colour."""
        return len(self.shape) + len(COLOUR)

    @abstractmethod
    def rasterise(self, shape: Tensor, rows: Tensor, columns: Tensor, pixel_size: Tensor) -> Tensor:
        """Opacity of each stroke at each pixel, antialiased and differentiable in ``shape`` almost everywhere.

        Args:
            shape: [N, shape_parameters], in [0, 1].
            rows: [N, H], pixel centres in frame coordinates; they may be outside [0, 1].
            columns: [N, W], the same.
            pixel_size: [N, 2], height and width of a pixel in frame coordinates.

        Returns:
            [N, H, W], in [0, 1].
        """

    @abstractmethod
    def bounds(self, shape: Tensor) -> Tensor:
        """Bounding boxes of each stroke's paint, without the antialiased half pixel at its edge.

        Args:
            shape: [N, shape_parameters], in [0, 1].

        Returns:
            [N, 4]: top, left, bottom, right in frame coordinates.
        """

    @abstractmethod
    def outline(self, shape: Tensor) -> Outline:
        """The strokes in vector form; they cover what ``rasterise`` paints.

        Args:
            shape: [N, shape_parameters], in [0, 1].
        """

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Random shapes to train a renderer on, uniform as in the 2019 code: [count, shape_parameters]."""
        return torch.rand(count, self.shape_parameters, generator=generator, device=generator.device)


def pixel_centres(count: int, size: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    """``rows``, ``columns`` and ``pixel_size`` of ``count`` frames that each fill a ``size`` x ``size`` raster."""
    centres = ((torch.arange(size, device=device) + 0.5) / size).expand(count, size)
    return centres, centres, torch.full((count, 2), 1.0 / size, device=device)
