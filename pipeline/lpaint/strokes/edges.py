"""Antialiased edges that the families share: how much of a pixel an outline covers."""

import torch
from torch import Tensor


def as_maps(values: Tensor) -> tuple[Tensor, ...]:
    """The columns of [N, P], each [N, 1, 1], to be spread over maps [N, H, W]."""
    return tuple(part[:, None, None] for part in values.unbind(1))


def pixel_side(pitch: Tensor) -> Tensor:
    """Side of a square pixel of the same area: [N, 2] -> [N, 1, 1]."""
    return torch.sqrt(pitch[:, 0] * pitch[:, 1])[:, None, None]


def length(du: Tensor, dv: Tensor) -> Tensor:
    """Euclidean length, with a gradient also at zero."""
    return torch.sqrt(du * du + dv * dv + 1e-12)


def band(distance: Tensor, half_width: Tensor, pixel: Tensor) -> Tensor:
    """Share of the pixel-wide interval around ``distance`` that lies in [-half_width, half_width]: in [0, 1].

    What is thinner than a pixel fades in proportion, instead of breaking up.
    """
    overlap = torch.minimum(distance + pixel / 2, half_width) - torch.maximum(distance - pixel / 2, -half_width)
    return (overlap / pixel).clamp(0, 1)
