"""The best colour of a stroke whose shape is given; ``lpaint.strokes.fit_colour`` in numpy, for painting."""

from dataclasses import dataclass

import numpy as np

from lpaint.painting.engine.types import COLOUR

# Ridge regression towards the model's own colour: fully covered pixels at which both colours weigh alike.
_RIDGE = 1.0


@dataclass(frozen=True)
class Moments:
    """Sums over the n pixels of one window, from which the best colours of K strokes and their gains follow.

    With a the opacity, c the canvas and r the residual, target - canvas.

    Attributes:
        alpha, alpha2: a and a^2, [K, n].
        canvas, residual: c and r, [n, 3].
        alpha_residual: sum of a r, [K, 3].
        alpha2_canvas: sum of a^2 c, [K, 3].
        alpha2_sum: sum of a^2, [K, 1].
    """

    alpha: np.ndarray
    alpha2: np.ndarray
    canvas: np.ndarray
    residual: np.ndarray
    alpha_residual: np.ndarray
    alpha2_canvas: np.ndarray
    alpha2_sum: np.ndarray

    @classmethod
    def of(cls, canvas: np.ndarray, alpha: np.ndarray, target: np.ndarray) -> "Moments":
        """From ``canvas`` and ``target`` [3, H, W] in [0, 1] and ``alpha`` [K, H, W]."""
        a, a2 = alpha.reshape(len(alpha), -1), np.square(alpha).reshape(len(alpha), -1)
        c, r = canvas.reshape(COLOUR, -1).T, (target - canvas).reshape(COLOUR, -1).T
        return cls(a, a2, c, r, a @ r, a2 @ c, a2.sum(1)[:, None])

    def best_colour(self, proposed: np.ndarray) -> np.ndarray:
        """The least-squares colour [K, 3] in [0, 1]; ``proposed`` [K, 3] as in ``fit_colour``."""
        best = self.alpha_residual + self.alpha2_canvas + _RIDGE * proposed
        return np.clip(best / (self.alpha2_sum + _RIDGE), 0, 1).astype(np.float32)

    def gains(self, colour: np.ndarray) -> np.ndarray:
        """How much each stroke alone would lower the squared error in ``colour`` [K, 3]: [K]."""
        # |r|^2 - |r - a (colour - c)|^2, expanded so that no [K, 3, h, w] is made.
        helps = self.alpha_residual * colour - self.alpha @ (self.residual * self.canvas)
        costs = self.alpha2_sum * np.square(colour) - 2 * colour * self.alpha2_canvas
        costs = costs + self.alpha2 @ np.square(self.canvas)
        gained: np.ndarray = (2 * helps - costs).sum(1)
        return gained


def fit_colour(canvas: np.ndarray, alpha: np.ndarray, colour: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The least-squares colour [K, 3] of each of K strokes alone, in [0, 1].

    ``canvas`` and ``target`` [3, H, W] in [0, 1], ``alpha`` [K, H, W]; ``colour`` [K, 3], what the model proposed,
    decides where there is next to no paint.
    """
    return Moments.of(canvas, alpha, target).best_colour(colour)


def gains(
    values: np.ndarray, alpha: np.ndarray, canvas: np.ndarray, target: np.ndarray, fits_colours: bool
) -> np.ndarray:
    """How much each of K strokes [K, P] alone would lower the squared error on one window: [K].

    ``alpha`` [K, h, w]; ``canvas`` and ``target`` [3, h, w]; ``fits_colours``: the strokes take the best colours for
    their shapes.
    """
    moments, colour = Moments.of(canvas, alpha, target), values[:, -COLOUR:]
    return moments.gains(moments.best_colour(colour) if fits_colours else colour)
