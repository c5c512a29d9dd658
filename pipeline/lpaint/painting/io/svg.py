"""Paintings as SVG: every stroke is a path with its opacity, in painting order."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from lpaint.painting.engine.types import COLOUR, Strokes
from lpaint.painting.io.image import writing

# Coordinates are whole numbers, this many to a frame's side: at least 100 to a pixel of the model's canvas.
_UNITS = 10_000
_BATCH = 1024
# Opacities that differ by less than this look the same.
_SAME_OPACITY = 1 / 255


class VectorModel(Protocol):
    """What writing SVG needs of a model."""

    def outline(self, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Shapes [N, P - 3] -> path [N, M, S, 4, 2], axis [N, M, 2, 2], stops [N, M, K, 2] of ``strokes.Outline``."""
        ...


def write_svg(path: Path, model: VectorModel, strokes: Strokes, height: int, width: int) -> None:
    """Write ``svg_lines`` to a file, whole or not at all.

    Raises:
        ImageError: the file cannot be written.
    """
    with writing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in svg_lines(model, strokes, height, width))


def svg_lines(model: VectorModel, strokes: Strokes, height: int, width: int) -> Iterator[str]:
    """An SVG 1.1 document of ``width`` x ``height`` user units, line by line.

    A stroke's coordinates are those of its frame. Consecutive strokes of one frame share a group, whose transform
    places the frame and stretches it if it is not square, as painting does. Colours mix in sRGB, the default of SVG and
    of painting.
    """
    yield f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    yield f'<rect width="{width}" height="{height}" fill="{_hex(np.array(strokes.background))}"/>'
    frame: np.ndarray | None = None
    for at in range(0, len(strokes), _BATCH):
        part = slice(at, at + _BATCH)
        frames, values = strokes.frames[part], strokes.values[part]
        outlines = zip(*model.outline(values[:, :-COLOUR]), strict=True)
        for i, (path, axis, stops) in enumerate(outlines):
            if frame is None or not np.array_equal(frame, frames[i]):
                if frame is not None:
                    yield "</g>"
                frame = frames[i]
                yield _group(frame, height, width)
            for piece in range(len(path)):
                yield from _piece(
                    f"s{at + i}_{piece}", path[piece], axis[piece], stops[piece], _hex(values[i, -COLOUR:])
                )
    if frame is not None:
        yield "</g>"
    yield "</svg>"


def _group(frame: np.ndarray, height: int, width: int) -> str:
    top, left, tall, wide = frame.astype(np.float64) * [height, width, height, width]
    return f'<g transform="matrix({wide / _UNITS:.8g} 0 0 {tall / _UNITS:.8g} {left:.6g} {top:.6g})">'


def _piece(name: str, path: np.ndarray, axis: np.ndarray, stops: np.ndarray, colour: str) -> Iterator[str]:
    """One path, after its gradient if its opacity varies; nothing if it is invisible."""
    opacities = stops[:, 1]
    if opacities.max() < _SAME_OPACITY / 2:
        return
    if np.ptp(opacities) < _SAME_OPACITY:
        opacity = opacities.mean()
        seen = "" if opacity > 1 - _SAME_OPACITY / 2 else f' fill-opacity="{_number(opacity)}"'
        yield f'<path fill="{colour}"{seen} d="{_commands(path)}"/>'
        return
    (y1, x1), (y2, x2) = _whole(axis)
    ends = f'x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"'
    steps = "".join(
        f'<stop offset="{_number(offset)}" stop-color="{colour}" stop-opacity="{_number(opacity)}"/>'
        for offset, opacity in stops
    )
    yield f'<linearGradient id="{name}" gradientUnits="userSpaceOnUse" {ends}>{steps}</linearGradient>'
    yield f'<path fill="url(#{name})" d="{_commands(path)}"/>'


def _commands(path: np.ndarray) -> str:
    """A closed chain [S, 4, 2] as path data: an absolute start, then relative curves, which are shorter."""
    points = _whole(path)[..., ::-1]
    curves = points[:, 1:] - points[:, :1]
    drawn = "".join("c" + _joined(curve.ravel()) for curve in curves if curve.any())
    return f"M{_joined(points[0, 0])}{drawn}z"


def _joined(numbers: np.ndarray) -> str:
    """Numbers as SVG reads them with the fewest characters: a minus sign separates too."""
    return "".join(f"{number}" if number < 0 or not i else f" {number}" for i, number in enumerate(numbers.tolist()))


def _whole(points: np.ndarray) -> np.ndarray:
    return np.round(points.astype(np.float64) * _UNITS).astype(np.int64)


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _hex(colour: np.ndarray) -> str:
    return "#" + bytes(np.round(np.clip(colour, 0, 1) * 255).astype(np.uint8)).hex()
