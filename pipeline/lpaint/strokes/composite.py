"""Laying paint over paint."""

import torch
from torch import Tensor

# Paint, in pixels fully covered, at which the fitted colour and the wished one weigh alike.
_RIDGE = 1.0


def composite(canvas: Tensor, alpha: Tensor, colour: Tensor) -> Tensor:
    """Lay K strokes over each canvas in order: canvas <- canvas * (1 - alpha) + alpha * colour.

    Args:
        canvas: [B, 3, H, W], in [0, 1].
        alpha: [B, K, H, W], in [0, 1].
        colour: [B, K, 3], in [0, 1].

    Returns:
        The painted canvases, [B, 3, H, W]; the input is left as it was.
    """
    for k in range(alpha.shape[1]):
        canvas = canvas + alpha[:, k, None] * (colour[:, k, :, None, None] - canvas)
    return canvas


def fit_colour(canvas: Tensor, alpha: Tensor, colour: Tensor, target: Tensor) -> Tensor:
    """The colour that brings a stroke of this shape closest to the target, in the least-squares sense.

    It minimises sum (canvas (1 - alpha) + alpha c - target)^2 + r (c - colour)^2 over c. The second term decides where
    there is next to no paint, and there only. At the optimum the error's derivative by the colour is zero, so the
    gradient of the squared error reaches the shape as if the colour were a constant, and as a constant it is returned,
    but for the small share that ``colour`` has in it.

    Args:
        canvas, target: [B, 3, H, W], in [0, 1].
        alpha: [B, H, W], in [0, 1].
        colour: [B, 3], in [0, 1], what the actor wished.

    Returns:
        [B, 3], in [0, 1].
    """
    with torch.no_grad():
        missing = torch.einsum("bhw,bchw->bc", alpha, target - canvas)
        squared = alpha.square()
        missing += torch.einsum("bhw,bchw->bc", squared, canvas)
        paint = squared.sum((1, 2))[:, None]
    return ((missing + _RIDGE * colour) / (paint + _RIDGE)).clamp(0, 1)
