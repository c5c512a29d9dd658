"""The best colour of a stroke whose shape is given; ``lpaint.strokes.fit_colour`` in numpy, for painting."""

import numpy as np

# Paint, in pixels fully covered, at which the fitted colour and the wished one weigh alike.
_RIDGE = 1.0


def fit_colour(canvas: np.ndarray, alpha: np.ndarray, colour: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The least-squares colour [..., 3] of strokes with opacity ``alpha`` [..., H, W], in [0, 1].

    ``canvas`` and ``target`` [..., 3, H, W] in [0, 1]; ``colour`` [..., 3], what the actor wished, decides where there
    is next to no paint.
    """
    alpha = alpha[..., None, :, :]
    missing = (alpha * (target - canvas * (1 - alpha))).sum((-2, -1))
    paint = np.square(alpha).sum((-2, -1))
    return np.clip((missing + _RIDGE * colour) / (paint + _RIDGE), 0, 1).astype(np.float32)
