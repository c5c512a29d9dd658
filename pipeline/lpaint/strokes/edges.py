"""Antialiasing that the families share: how much of a pixel a stroke covers."""

import torch
from torch import Tensor


def as_maps(values: Tensor) -> tuple[Tensor, ...]:
    """The P columns of [N, P], each as [N, 1, 1] to broadcast over maps [N, H, W]."""
    return tuple(part[:, None, None] for part in values.unbind(1))


def pixel_side(pixel_size: Tensor) -> Tensor:
    """Side of a square pixel of the same area: [N, 2] -> [N, 1, 1]."""
    return torch.sqrt(pixel_size[:, 0] * pixel_size[:, 1])[:, None, None]


def length(du: Tensor, dv: Tensor) -> Tensor:
    """Euclidean length, with a finite gradient at zero."""
    return torch.sqrt(du * du + dv * dv + 1e-12)


def band(distance: Tensor, half_width: Tensor, pixel: Tensor) -> Tensor:
    """The share of the pixel-wide interval around ``distance`` that is in [-half_width, half_width], in [0, 1].

    A band thinner than a pixel fades in proportion to its width, without gaps.
    """
    overlap = torch.minimum(distance + pixel / 2, half_width) - torch.maximum(distance - pixel / 2, -half_width)
    return (overlap / pixel).clamp(0, 1)
