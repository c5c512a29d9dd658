"""The best colour of a stroke whose shape is given; ``lpaint.strokes.fit_colour`` in numpy, for painting."""

import numpy as np

# A stroke ends with its colour; what comes before is its shape.
COLOUR = 3
# Paint, in pixels fully covered, at which the fitted colour and the wished one weigh alike.
_RIDGE = 1.0


def fit_colour(canvas: np.ndarray, alpha: np.ndarray, colour: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The least-squares colour [K, 3] of each of K strokes alone, in [0, 1].

    ``canvas`` and ``target`` [3, H, W] in [0, 1], ``alpha`` [K, H, W]; ``colour`` [K, 3], what the actor wished,
    decides where there is next to no paint.
    """
    paint, squared = alpha.reshape(len(alpha), -1), np.square(alpha).reshape(len(alpha), -1)
    bare, missing = canvas.reshape(COLOUR, -1).T, (target - canvas).reshape(COLOUR, -1).T
    best = paint @ missing + squared @ bare + _RIDGE * colour
    return np.clip(best / (squared.sum(1)[:, None] + _RIDGE), 0, 1).astype(np.float32)
