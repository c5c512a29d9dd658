"""The best colour of a stroke whose shape is given; ``lpaint.strokes.fit_colour`` in numpy, for painting."""

from dataclasses import dataclass

import numpy as np

# A stroke ends with its colour; what comes before is its shape.
COLOUR = 3
# Paint, in pixels fully covered, at which the fitted colour and the wished one weigh alike.
_RIDGE = 1.0


@dataclass(frozen=True)
class Moments:
    """What the best colours of K strokes, and what they gain, are made of: sums over the pixels of one window.

    With a the opacity, c the canvas and r what is missing of the target: ``pulled`` sum a r and ``covered`` sum a^2 c,
    [K, 3]; ``weight`` sum a^2, [K, 1]; ``paint`` and ``squared`` are a and a^2, [K, n]; ``bare`` and ``missing`` are c
    and r, [n, 3].
    """

    paint: np.ndarray
    squared: np.ndarray
    bare: np.ndarray
    missing: np.ndarray
    pulled: np.ndarray
    covered: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, canvas: np.ndarray, alpha: np.ndarray, target: np.ndarray) -> "Moments":
        """From ``canvas`` and ``target`` [3, H, W] in [0, 1] and ``alpha`` [K, H, W]."""
        paint, squared = alpha.reshape(len(alpha), -1), np.square(alpha).reshape(len(alpha), -1)
        bare, missing = canvas.reshape(COLOUR, -1).T, (target - canvas).reshape(COLOUR, -1).T
        return cls(paint, squared, bare, missing, paint @ missing, squared @ bare, squared.sum(1)[:, None])

    def best_colour(self, wished: np.ndarray) -> np.ndarray:
        """See ``fit_colour``."""
        best = self.pulled + self.covered + _RIDGE * wished
        return np.clip(best / (self.weight + _RIDGE), 0, 1).astype(np.float32)

    def gains(self, colour: np.ndarray) -> np.ndarray:
        """How much each stroke alone would lower the squared error in ``colour`` [K, 3]: [K]."""
        # |r|^2 - |r - a (colour - c)|^2, expanded so that no [K, 3, h, w] is made.
        helps = self.pulled * colour - self.paint @ (self.missing * self.bare)
        costs = self.weight * np.square(colour) - 2 * colour * self.covered + self.squared @ np.square(self.bare)
        gained: np.ndarray = (2 * helps - costs).sum(1)
        return gained


def fit_colour(canvas: np.ndarray, alpha: np.ndarray, colour: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The least-squares colour [K, 3] of each of K strokes alone, in [0, 1].

    ``canvas`` and ``target`` [3, H, W] in [0, 1], ``alpha`` [K, H, W]; ``colour`` [K, 3], what the actor wished,
    decides where there is next to no paint.
    """
    return Moments.of(canvas, alpha, target).best_colour(colour)
