"""Pixel art from a finished painting: few cells, few colours, sharp edges."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lpaint.errors import ImageError, ParamsError
from lpaint.painting.engine.resample import resize

_HEX = re.compile(r"#?([0-9a-fA-F]{6})")
_ROUNDS = 50
# A palette is fitted to at most this many points.
_MOST_POINTS = 1 << 14
# Cells converted and distances computed at a time. OpenBLAS multiplies matrices of this size on one thread; several
# threads on busy cores would wait for each other ten times as long as they compute.
_CHUNK = 1 << 11
_DISTANCES = 1 << 16
# Error diffusion (Floyd and Steinberg 1976): rows down, columns right, share of the cell's error.
_DIFFUSION = ((0, 1, 7 / 16), (1, -1, 3 / 16), (1, 0, 5 / 16), (1, 1, 1 / 16))
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
        dither: diffuse each cell's error to its neighbours (Floyd and Steinberg).

    Returns:
        [height, width, 3] uint8 in at most K colours; in exactly K if ``palette`` is a number and there are as many
        different cells.

    Raises:
        ParamsError: there are more cells than pixels.
    """
    down = check_cells(cells, height, width)
    small = resize(painting, down, cells).transpose(1, 2, 0).clip(0, 1)
    colours = find_palette(small.reshape(-1, 3), palette) if isinstance(palette, int) else palette
    chosen = (_dithered if dither else _nearest)(small, colours / 255)
    rows, columns = np.arange(height) * down // height, np.arange(width) * cells // width
    return colours[chosen][rows][:, columns]


def check_cells(cells: int, height: int, width: int) -> int:
    """The number of cells down for ``cells`` across on ``height`` x ``width`` pixels.

    Raises:
        ParamsError: there are more cells than pixels.
    """
    down = max(1, round(cells * height / width))
    if cells > width or down > height:
        size = f"{width} x {height}"
        raise ParamsError(f"--pixel-art {cells}: the result has only {size} pixels; ask for fewer cells or more --size")
    return down


def find_palette(pixels: np.ndarray, count: int) -> np.ndarray:
    """``count`` colours [K, 3] uint8 for ``pixels`` [N, 3] in [0, 1], by k-means in OKLab; deterministic.

    The first centre is the colour nearest to the mean, each further one is the colour farthest from all before it. Time
    and memory are bounded: above ``_MOST_POINTS`` different colours, those that share the upper bits of all channels
    become one point at their mean, with their weight, so that no rare colour is lost.
    """
    codes, weights = np.unique(_codes(pixels), return_counts=True)
    if len(codes) <= count:
        return _bytes(codes)
    # group[i]: the point to which colour i belongs.
    groups, group, shift = codes, np.arange(len(codes)), 0
    while len(groups) > _MOST_POINTS:
        shift += 1
        groups, group = np.unique(_coarse(codes, shift), return_inverse=True)
    share = np.bincount(group, weights)
    mean = np.stack([np.bincount(group, weights * channel) for channel in _bytes(codes).T], 1) / share[:, None]
    points = oklab(mean / 255)
    centres = _k_means(points, share, count)
    # Each centre is replaced by its nearest member: a colour of the picture that no other centre can share.
    label, distance = _assign(points, centres)
    order = np.lexsort((distance, label))
    chosen = order[np.unique(label[order], return_index=True)[1]]
    return np.array([_member(codes[group == point], centres[label[point]]) for point in chosen])


def read_palette(path: Path) -> np.ndarray:
    """Colours [K, 3] uint8 of a text file with one RRGGBB a line (.hex), or of a GIMP palette (.gpl).

    Raises:
        ImageError: the file cannot be read, or has no colour.
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
    """sRGB [..., 3] in [0, 1] to OKLab, a perceptually uniform space (Ottosson 2020)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((np.maximum(rgb, 0.04045) + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _CONES.T) @ _LAB.T


def _codes(pixels: np.ndarray) -> np.ndarray:
    """Colours [N, 3] in [0, 1] as numbers 0xRRGGBB [N]."""
    codes = np.empty(len(pixels), np.int32)
    for part in _chunks(len(pixels)):
        red, green, blue = np.round(pixels[part] * 255).astype(np.int32).T
        codes[part] = red << 16 | green << 8 | blue
    return codes


def _bytes(codes: np.ndarray) -> np.ndarray:
    """Numbers 0xRRGGBB [N] as colours [N, 3] uint8."""
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], 1).astype(np.uint8)


def _coarse(codes: np.ndarray, shift: int) -> np.ndarray:
    """Codes without the lowest ``shift`` bits of each channel."""
    kept = 255 >> shift << shift
    return codes & (kept << 16 | kept << 8 | kept)


def _member(codes: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The colour [3] uint8 of ``codes`` that is nearest to ``centre``."""
    colours = _bytes(codes)
    return colours[np.square(oklab(colours / 255) - centre).sum(1).argmin()]


def _k_means(points: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """Centres [count, 3] of ``points`` [N, 3] with ``weights`` [N], by k-means."""
    mean = np.average(points, axis=0, weights=weights)
    centres = points[[np.square(points - mean).sum(1).argmin()]]
    distance = np.full(len(points), np.inf)
    while len(centres) < count:
        distance = np.minimum(distance, np.square(points - centres[-1]).sum(1))
        centres = np.concatenate([centres, points[[distance.argmax()]]])
    for _ in range(_ROUNDS):
        label, distance = _assign(points, centres)
        share = np.bincount(label, weights, count)
        sums = np.stack([np.bincount(label, weights * axis, count) for axis in points.T], 1)
        moved = sums / np.maximum(share, 1)[:, None]
        empty = np.flatnonzero(share == 0)
        # A centre without members moves to one of the points farthest from their centres.
        moved[empty] = points[np.argsort(-distance, kind="stable")[: len(empty)]]
        if np.allclose(moved, centres, atol=1e-6):
            break
        centres = moved
    return centres


def _chunks(count: int, size: int = _CHUNK) -> Iterator[slice]:
    """Slices of ``size`` that cover ``count`` cells."""
    return (slice(start, start + size) for start in range(0, count, size))


def _assign(points: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the nearest centre and the squared distance to it, both [N], for points [N, 3]."""
    label, distance = np.empty(len(points), np.intp), np.empty(len(points))
    # |p - c|^2 = |p|^2 + (|c|^2 - 2 p c): the term in brackets decides, and is one matrix product.
    factors = np.concatenate([-2 * centres.T, np.square(centres).sum(1)[None]])
    for part in _chunks(len(points), max(1, _DISTANCES // len(centres))):
        chunk = points[part]
        score = np.concatenate([chunk, np.ones((len(chunk), 1))], 1) @ factors
        label[part] = score.argmin(1)
        distance[part] = score[np.arange(len(chunk)), label[part]] + np.square(chunk).sum(1)
    return label, np.maximum(distance, 0)


def _nearest(cells: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Index [H, W] of the colour [K, 3] in [0, 1] nearest in OKLab to each cell [H, W, 3] in [0, 1]."""
    flat, targets = cells.reshape(-1, 3), oklab(colours)
    chosen = np.empty(len(flat), np.int32)
    for part in _chunks(len(flat)):
        chosen[part] = _assign(oklab(flat[part].astype(np.float64)), targets)[0]
    return chosen.reshape(cells.shape[:-1])


def _dithered(cells: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Index [H, W] of a colour [K, 3] in [0, 1] for each cell [H, W, 3], with error diffusion.

    A cell depends on its left neighbour and on three cells above it, so all cells of equal column + 2 * row (a
    wavefront) are computed at once. ``diffused`` [4, H + 1, 3] is the error that reaches the cells of this wavefront
    and of the next three, one cell a row.
    """
    targets = oklab(colours)
    height, width = cells.shape[:2]
    chosen = np.zeros((height, width), np.int32)
    diffused = np.zeros((4, height + 1, 3))
    for wave in range(width + 2 * (height - 1)):
        rows = np.arange(max(0, (wave - width + 2) // 2), min(height - 1, wave // 2) + 1)
        columns = wave - 2 * rows
        colour = (cells[rows, columns] + diffused[wave % 4, rows]).clip(0, 1)
        index = _assign(oklab(colour), targets)[0]
        chosen[rows, columns] = index
        error = colour - colours[index]
        diffused[wave % 4] = 0
        for down, right, share in _DIFFUSION:
            diffused[(wave + 2 * down + right) % 4, rows + down] += share * error
    return chosen
