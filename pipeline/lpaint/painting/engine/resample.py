"""Resizing by weight matrices: a picture becomes rows @ picture @ columns.T, for any batch, in numpy alone."""

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=256)
def weights(source: int, size: int) -> np.ndarray:
    """Weights [size, source] that resize one axis of ``source`` pixels to ``size``; each row sums to 1.

    Shrinking averages area (every source pixel weighs by its overlap); enlarging interpolates linearly between pixel
    centres, holding the edge pixels. For whole ratios this equals torch's ``area`` and ``bilinear`` modes, in which
    the agent's training resizes.
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


def resize(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize [..., h, w] float32 to [..., height, width]; see ``weights`` for how."""
    if picture.shape[-2:] == (height, width):
        return picture
    rows, columns = weights(picture.shape[-2], height), weights(picture.shape[-1], width)
    return rows @ picture @ columns.T
