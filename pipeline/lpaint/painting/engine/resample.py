"""Resizing by weight matrices in numpy: rows @ picture @ columns.T, for any batch."""

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=256)
def weights(source: int, size: int) -> np.ndarray:
    """Weights [size, source] that resize one axis of ``source`` pixels to ``size``; each row sums to 1.

    Shrinking averages areas: every source pixel weighs by its overlap. Enlarging interpolates linearly between pixel
    centres and repeats the edge pixels. For whole ratios this equals torch's ``area`` and ``bilinear`` modes, with
    which the agent's training resizes.
    """
    if size <= source:
        edges = np.arange(size + 1) * (source / size)
        cells = np.arange(source)
        overlap = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
        matrix = np.clip(overlap, 0, None) * (size / source)
    else:
        centres = np.clip((np.arange(size) + 0.5) * (source / size) - 0.5, 0, source - 1)
        matrix = np.clip(1 - np.abs(centres[:, None] - np.arange(source)), 0, None)
    matrix = matrix.astype(np.float32)
    matrix.flags.writeable = False
    return matrix


def scaled_size(height: int, width: int, longest: int) -> tuple[int, int]:
    """Height and width of the same aspect whose longer one is ``longest``; neither below 1."""
    factor = longest / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def resize(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize [..., h, w] float32 to [..., height, width], with the ``weights`` of each axis."""
    if picture.shape[-2:] == (height, width):
        return picture
    rows, columns = weights(picture.shape[-2], height), weights(picture.shape[-1], width)
    return rows @ picture @ columns.T
