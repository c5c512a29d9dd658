"""Pixel art of a finished painting: few cells across, few colours, crisp edges."""

import re
from pathlib import Path

import numpy as np

from lpaint.errors import ImageError, ParamsError
from lpaint.painting.resample import resize

_HEX = re.compile(r"#?([0-9a-fA-F]{6})")
_ROUNDS = 50
# Floyd and Steinberg 1976: where a cell's error goes, and how much of it.
_SPREAD = ((0, 1, 7 / 16), (1, -1, 3 / 16), (1, 0, 5 / 16), (1, 1, 1 / 16))
# OKLab (Ottosson 2020): linear RGB to cone responses, and their cube roots to lightness and two colour axes.
_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def pixel_art(
    painting: np.ndarray, cells: int, palette: np.ndarray | int, height: int, width: int, dither: bool = False
) -> np.ndarray:
    """Turn a painting into pixel art.

    Args:
        painting: [3, H, W] in [0, 1].
        cells: cells across; as many down as keep them square.
        palette: colours [K, 3] uint8 to choose from, or how many to find (k-means in OKLab).
        height, width: size of the result; a cell's edges fall on whole pixels.
        dither: spread each cell's error over its neighbours (Floyd and Steinberg).

    Returns:
        [height, width, 3] uint8, in at most K colours; exactly K if that many were to be found and there are as many
        different cells.

    Raises:
        ParamsError: more cells than pixels.
    """
    down = check_cells(cells, height, width)
    small = resize(painting, down, cells).transpose(1, 2, 0).clip(0, 1)
    colours = find_palette(small.reshape(-1, 3), palette) if isinstance(palette, int) else palette
    chosen = _dithered(small, colours) if dither else _nearest(oklab(small), oklab(colours / 255))
    rows, columns = np.arange(height) * down // height, np.arange(width) * cells // width
    return colours[chosen][rows][:, columns]


def check_cells(cells: int, height: int, width: int) -> int:
    """Cells down, for so many across on ``height`` x ``width`` pixels.

    Raises:
        ParamsError: more cells than pixels.
    """
    down = max(1, round(cells * height / width))
    if cells > width or down > height:
        size = f"{width} x {height}"
        raise ParamsError(f"--pixel-art {cells}: the result has only {size} pixels; ask for fewer cells or more --size")
    return down


def find_palette(pixels: np.ndarray, count: int) -> np.ndarray:
    """``count`` colours [K, 3] uint8 for ``pixels`` [N, 3] in [0, 1], by k-means in OKLab; repeatable.

    The first centre is the colour nearest to the mean, each further one the colour farthest from all before it.
    """
    bytes_ = np.unique(np.round(pixels * 255).astype(np.uint8), axis=0)
    if len(bytes_) <= count:
        return bytes_
    points = oklab(np.round(pixels * 255) / 255)
    centres = points[[np.square(points - points.mean(0)).sum(1).argmin()]]
    while len(centres) < count:
        distance = _squared(points, centres).min(1)
        centres = np.concatenate([centres, points[[distance.argmax()]]])
    for _ in range(_ROUNDS):
        distance = _squared(points, centres)
        label = distance.argmin(1)
        moved = np.array([_centre(points, label == k, distance) for k in range(count)])
        if np.allclose(moved, centres, atol=1e-6):
            break
        centres = moved
    # The member nearest to a centre stands for it: a colour of the picture, and no two centres can share one.
    label = _squared(points, centres).argmin(1)
    distance = _squared(points, centres)
    chosen = [np.where(label == k, distance[:, k], np.inf).argmin() for k in np.unique(label)]
    return np.round(pixels[chosen] * 255).astype(np.uint8)


def read_palette(path: Path) -> np.ndarray:
    """Colours [K, 3] uint8 of a text file with one RRGGBB a line (.hex), or of a GIMP palette (.gpl).

    Raises:
        ImageError: the file cannot be read, or holds no colour.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"{path}: the palette cannot be read ({error}); give a text file of colours") from None
    colours = []
    for line in map(str.strip, lines):
        numbers = line.split()[:3]
        if lines[0].startswith("GIMP Palette") and len(numbers) == 3 and all(part.isdecimal() for part in numbers):
            colours.append([min(255, int(part)) for part in numbers])
        elif match := _HEX.fullmatch(line):
            colours.append(list(bytes.fromhex(match.group(1))))
    if not colours:
        raise ImageError(f"{path}: the palette holds no colour; write one RRGGBB a line")
    return np.unique(np.array(colours, np.uint8), axis=0)


def oklab(rgb: np.ndarray) -> np.ndarray:
    """sRGB [..., 3] in [0, 1] to OKLab, in which equal distances look alike."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((np.maximum(rgb, 0.04045) + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _CONES.T) @ _LAB.T


def _centre(points: np.ndarray, members: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Mean of a cluster; of an empty one, the point that is worst served."""
    return points[members].mean(0) if members.any() else points[distance.min(1).argmax()]


def _squared(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Squared distances [N, K]."""
    return np.square(points[:, None] - centres[None]).sum(2)


def _nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Index of the nearest centre, [...] for points [..., 3]."""
    return _squared(points.reshape(-1, 3), centres).argmin(1).reshape(points.shape[:-1])


def _dithered(cells: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Indices [H, W] of colours for cells [H, W, 3], row by row, each cell's error handed on."""
    left, targets = cells.astype(np.float64), oklab(colours / 255)
    height, width = cells.shape[:2]
    chosen = np.zeros((height, width), int)
    for i in range(height):
        for j in range(width):
            colour = left[i, j].clip(0, 1)
            chosen[i, j] = _nearest(oklab(colour), targets)
            error = colour - colours[chosen[i, j]] / 255
            for down, right, share in _SPREAD:
                if i + down < height and 0 <= j + right < width:
                    left[i + down, j + right] += share * error
    return chosen
