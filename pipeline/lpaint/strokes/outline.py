"""Strokes in vector form: closed outlines of cubic Bézier curves, and opacities along an axis.

Points are (row, column) in frame coordinates. ``...`` are any leading dimensions. All operations can be exported to
ONNX; gradients are not needed.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Outline(NamedTuple):
    """The vector form of N strokes of M pieces each, which are painted one after the other.

    Attributes:
        path: [N, M, S, 4, 2], a closed chain of S cubic Bézier curves for each piece, filled by the nonzero rule.
        axis: [N, M, 2, 2], ends of the line along which a piece's opacity changes; beyond them it is constant.
        stops: [N, M, K, 2], offsets on that line, 0..1 and never decreasing, and opacities; linear in between.
    """

    path: Tensor
    axis: Tensor
    stops: Tensor


def uniform_outline(path: Tensor, opacity: Tensor) -> Outline:
    """The outline of strokes with one piece [N, S, 4, 2] and one opacity [N]."""
    stop = torch.stack([torch.zeros_like(opacity), opacity], -1)
    return Outline(path[:, None], path[:, None, :2, 0] * 0, stop[:, None, None])


def polygon(corners: Tensor) -> Tensor:
    """The closed polygon of ``corners`` [..., K, 2]: [..., K, 4, 2]."""
    return polyline(torch.cat([corners, corners[..., :1, :]], -2))


def polyline(points: Tensor) -> Tensor:
    """Straight segments through ``points`` [..., K, 2]: [..., K - 1, 4, 2]."""
    start, end = points[..., :-1, :], points[..., 1:, :]
    third = (end - start) / 3
    return torch.stack([start, start + third, end - third, end], -2)


def smooth_curve(points: Tensor) -> Tensor:
    """A smooth chain through ``points`` [..., K, 2], K >= 3, evenly spaced in the parameter: [..., K - 1, 4, 2].

    Tangents are central differences, at the ends one-sided differences of the same order.
    """
    first = 2 * points[..., 1:2, :] - 1.5 * points[..., :1, :] - 0.5 * points[..., 2:3, :]
    last = 1.5 * points[..., -1:, :] - 2 * points[..., -2:-1, :] + 0.5 * points[..., -3:-2, :]
    third = torch.cat([first, (points[..., 2:, :] - points[..., :-2, :]) / 2, last], -2) / 3
    start, end = points[..., :-1, :], points[..., 1:, :]
    return torch.stack([start, start + third[..., :-1, :], end - third[..., 1:, :], end], -2)


def arc(centre: Tensor, radius: Tensor, towards: Tensor, span: Tensor, pieces: int) -> Tensor:
    """A circular arc as ``pieces`` cubic curves: [..., pieces, 4, 2].

    The error of a piece of 90 degrees is below 0.0003 of the radius.

    Args:
        centre: [..., 2].
        radius: [...].
        towards: [..., 2], unit vector from the centre to the arc's start.
        span: [...], angle in radians; positive turns the row axis towards the column axis.
    """
    steps = torch.arange(pieces + 1, device=span.device, dtype=span.dtype) / pieces
    angle = span[..., None] * steps
    ahead, aside = towards[..., None, :], torch.stack([-towards[..., 1], towards[..., 0]], -1)[..., None, :]
    cosine, sine = torch.cos(angle)[..., None], torch.sin(angle)[..., None]
    spoke, tangent = ahead * cosine + aside * sine, aside * cosine - ahead * sine
    handle = (4 / 3 * torch.tan(span / (4 * pieces)))[..., None, None] * tangent
    near = torch.stack([spoke[..., :-1, :], (spoke + handle)[..., :-1, :]], -2)
    far = torch.stack([(spoke - handle)[..., 1:, :], spoke[..., 1:, :]], -2)
    return centre[..., None, None, :] + radius[..., None, None, None] * torch.cat([near, far], -2)


def disc(centre: Tensor, radius: Tensor) -> Tensor:
    """The whole circle as four curves: [..., 4, 4, 2]; see ``arc``."""
    towards = torch.zeros_like(centre)
    towards[..., 0] = 1
    return arc(centre, radius, towards, torch.full_like(radius, 2 * math.pi), 4)
