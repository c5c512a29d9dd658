"""Compositing of strokes on canvases, and the best colour of a stroke."""

import torch
from torch import Tensor

# Weight of the proposed colour in the fit, in fully covered pixels.
_RIDGE = 1.0


def composite(canvas: Tensor, alpha: Tensor, colour: Tensor) -> Tensor:
    """Paint K strokes on each canvas in order: canvas <- canvas * (1 - alpha) + alpha * colour.

    Args:
        canvas: [B, 3, H, W], in [0, 1].
        alpha: [B, K, H, W], in [0, 1].
        colour: [B, K, 3], in [0, 1].

    Returns:
        The painted canvases, [B, 3, H, W]; the input is not changed.
    """
    for k in range(alpha.shape[1]):
        canvas = canvas + alpha[:, k, None] * (colour[:, k, :, None, None] - canvas)
    return canvas


def fit_colour(canvas: Tensor, alpha: Tensor, colour: Tensor, target: Tensor) -> Tensor:
    """The least-squares colour of a stroke of this shape for the target.

    It minimises sum (canvas (1 - alpha) + alpha c - target)^2 + r (c - colour)^2 over c. The second term matters only
    where there is hardly any paint. At the optimum the derivative of the error with respect to the colour is zero, so
    for the gradient of the shape the colour is a constant. It is returned as a constant, except for the small share of
    ``colour`` in it.

    Args:
        canvas, target: [B, 3, H, W], in [0, 1].
        alpha: [B, H, W], in [0, 1].
        colour: [B, 3], in [0, 1], the actor's proposal.

    Returns:
        [B, 3], in [0, 1].
    """
    with torch.no_grad():
        missing = torch.einsum("bhw,bchw->bc", alpha, target - canvas)
        squared = alpha.square()
        missing += torch.einsum("bhw,bchw->bc", squared, canvas)
        paint = squared.sum((1, 2))[:, None]
    return ((missing + _RIDGE * colour) / (paint + _RIDGE)).clamp(0, 1)
