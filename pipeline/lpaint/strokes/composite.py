"""Laying paint over paint."""

from torch import Tensor


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
