"""How close a painting is to its picture. No discriminator can move these judges."""

import numpy as np
from skimage.metrics import structural_similarity

_BEST_PSNR = 100.0


def l2(canvas: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean squared error over pixels and channels: [B, 3, H, W] in [0, 1] -> [B]."""
    return np.square(canvas - target).mean((1, 2, 3), dtype=np.float64)


def psnr(canvas: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB, -10 log10(L2), at most 100 (equal pictures): [B, 3, H, W] -> [B]."""
    return np.minimum(_BEST_PSNR, -10 * np.log10(np.maximum(l2(canvas, target), 1e-20)))


def reward(canvas: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Share of a black canvas's error that the painting removed, (L_0 - L_T) / L_0: [B, 3, H, W] -> [B].

    At most 1; below 0 where the painting is worse than black. A black picture, which has no error to remove, counts
    as 1 if it is left black and as 0 if not.
    """
    start, end = l2(np.zeros_like(target), target), l2(canvas, target)
    return np.where(start > 0, 1 - end / np.where(start > 0, start, 1), end == 0)


def ssim(canvas: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Structural similarity (Wang et al. 2004), uniform 7 x 7 window, channels averaged: [B, 3, H, W] -> [B].

    Pictures are in [0, 1], each side at least 7 pixels.
    """
    values = [
        structural_similarity(mine, theirs, data_range=1.0, channel_axis=0)
        for mine, theirs in zip(canvas, target, strict=True)
    ]
    return np.array(values, np.float64)
