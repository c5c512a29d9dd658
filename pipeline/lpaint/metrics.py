"""Metrics of how close a painting is to its target. No discriminator influences them."""

import numpy as np
import torch
from scipy.ndimage import correlate1d
from skimage.metrics import structural_similarity

_BEST_PSNR = 100.0
# Wang et al. 2003, section 3.2: weights of the five scales, from fine to coarse.
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# Side of the MS-SSIM window, pixels.
_WINDOW = 11
# Xue et al. 2014, section III: keeps similarities finite where both images are flat (170 on their 0..255 scale).
_GMSD_CONSTANT = 170 / 255**2


def l2(canvas: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean squared error over pixels and channels: [B, 3, H, W] in [0, 1] -> [B]."""
    return np.square(canvas - target).mean((1, 2, 3), dtype=np.float64)


def psnr(canvas: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB, -10 log10(L2), at most 100 (equal images): [B, 3, H, W] -> [B]."""
    return np.minimum(_BEST_PSNR, -10 * np.log10(np.maximum(l2(canvas, target), 1e-20)))


def reward(canvas: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Share of a black canvas's error that the painting removed, (L_0 - L_T) / L_0: [B, 3, H, W] -> [B].

    At most 1; below 0 if the painting is worse than black. A black target has no error to remove: 1 if the canvas is
    black too, else 0.
    """
    start, end = l2(np.zeros_like(target), target), l2(canvas, target)
    return np.where(start > 0, 1 - end / np.where(start > 0, start, 1), end == 0)


def ssim(canvas: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Structural similarity (Wang et al. 2004), uniform 7 x 7 window, channels averaged: [B, 3, H, W] -> [B].

    Images are in [0, 1], each side at least 7 pixels.
    """
    values = [
        structural_similarity(mine, theirs, data_range=1.0, channel_axis=0)
        for mine, theirs in zip(canvas, target, strict=True)
    ]
    return np.array(values, np.float64)


def ms_ssim(canvas: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Multi-scale structural similarity (Wang et al. 2003), channels averaged: [B, 3, H, W] in [0, 1] -> [B].

    Each of the five published scales halves the image. Those scales are used on which a Gaussian window of 11 pixels
    fits into the image (four at 128 px), with their weights scaled to a sum of 1. Each side is at least 11 pixels.
    """
    # This import takes half a second, and training needs only the other metrics.
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as similarity

    side = min(canvas.shape[2:])
    fitting = (n for n in range(len(_SCALE_WEIGHTS), 0, -1) if side // 2 ** (n - 1) >= _WINDOW)
    # Between 88 and 90 px torchmetrics requires a larger image than a fourth scale needs.
    scales = next(n for n in fitting if side > (_WINDOW - 1) * max(1, n - 1) ** 2)
    weights = np.array(_SCALE_WEIGHTS[:scales])
    mine, theirs = (torch.from_numpy(np.ascontiguousarray(images)) for images in (canvas, target))
    betas = tuple((weights / weights.sum()).tolist())
    values = similarity(mine, theirs, kernel_size=_WINDOW, reduction="none", data_range=1.0, betas=betas)
    return np.asarray(values, np.float64)


def gmsd(canvas: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Gradient magnitude similarity deviation (Xue et al. 2014, arXiv 1308.3052, equations 4 to 7); 0 is best.

    [B, 3, H, W] in [0, 1] -> [B]. Computed on the luminance, averaged down by 2, with Prewitt gradients and zeros
    beyond the border, as in the authors' code.
    """

    def gradient_magnitude(images: np.ndarray) -> np.ndarray:
        grey = np.tensordot(images.astype(np.float64), [0.299, 0.587, 0.114], ([1], [0]))
        _, height, width = grey.shape
        even = grey[:, : height // 2 * 2, : width // 2 * 2]
        half = even.reshape(len(grey), height // 2, 2, width // 2, 2).mean((2, 4))
        # Prewitt: difference along one axis, mean of three along the other.
        gradients = (
            correlate1d(correlate1d(half, [-1, 0, 1], along, mode="constant"), [1 / 3] * 3, across, mode="constant")
            for along, across in ((1, 2), (2, 1))
        )
        return np.sqrt(sum(gradient**2 for gradient in gradients))

    mine, theirs = gradient_magnitude(canvas), gradient_magnitude(target)
    similarity = (2 * mine * theirs + _GMSD_CONSTANT) / (mine**2 + theirs**2 + _GMSD_CONSTANT)
    return similarity.std((1, 2))
