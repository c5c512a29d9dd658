"""PNG plots and sheets of images, without matplotlib's global state."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from lpaint.files import atomic_write

Series = tuple[Sequence[float], Sequence[float]]
Band = tuple[Sequence[float], Sequence[float], Sequence[float]]
_CAPTION_HEIGHT = 16
_MOST_TICKS = 10


def save_curves(
    path: Path,
    title: str,
    x_label: str,
    y_label: str,
    series: Mapping[str, Series],
    *,
    log_x: bool = False,
    log_y: bool = False,
    bands: Mapping[str, Band] | None = None,
    legend: bool = False,
    ticks: Mapping[int, str] | None = None,
) -> None:
    """Plot named (x, y) series, and shaded bands (x, low, high), to a PNG file.

    A band with the name of a series has its colour; other bands are named in the legend. ``legend``: show one even for
    a single series. ``ticks``: labels of x values on a logarithmic axis; other values show their number.
    """
    figure, axes = _figure()
    colours = {name: f"C{i}" for i, name in enumerate(series)}
    for name, (x, low, high) in (bands or {}).items():
        axes.fill_between(x, low, high, alpha=0.2, label=None if name in series else name, color=colours.get(name))
    for name, (x, y) in series.items():
        axes.plot(x, y, label=name, marker="." if len(x) < 40 else "")
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    if log_x:
        axes.set_xscale("log")
        measured = sorted({value for x, _ in series.values() for value in x})
        if len(measured) <= _MOST_TICKS:
            # Default labels between powers of ten read "3 x 10^1". Label the measured values instead.
            labels = [(ticks or {}).get(int(value), f"{value:g}") for value in measured]
            axes.set_xticks(measured, labels, minor=False)
            axes.set_xticks([], minor=True)
    # A log axis needs a positive value.
    if log_y and any(value > 0 for _, y in series.values() for value in y):
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    if legend or len(series) + len(bands or {}) > 1:
        axes.legend()
    with atomic_write(path) as temporary:
        figure.savefig(temporary)


def save_bars(path: Path, title: str, y_label: str, bars: Mapping[str, tuple[float, float]]) -> None:
    """Plot named bars to a PNG file. Each is (height, half-width of its interval or 0)."""
    figure, axes = _figure()
    heights, errors = zip(*bars.values(), strict=True)
    axes.bar(list(bars), heights, yerr=errors if any(errors) else None, capsize=4)
    axes.set(title=title, ylabel=y_label)
    axes.tick_params(axis="x", rotation=30 if len(bars) > 4 else 0)
    axes.grid(alpha=0.3, axis="y")
    with atomic_write(path) as temporary:
        figure.savefig(temporary)


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def sheet(
    rows: Sequence[Sequence[np.ndarray]], scale: int = 1, gap: int = 2, captions: Sequence[str] = ()
) -> np.ndarray:
    """Lay out images [3, H, W] in [0, 1], all of one size, in rows on white: uint8 [height, width, 3].

    ``scale`` repeats every pixel; ``gap`` is the white space between images, pixels; ``captions`` stand above the
    columns in a strip of 16 pixels, cut off at the width of their column.
    """
    height, width = rows[0][0].shape[1:]
    tall, wide = height * scale + gap, width * scale + gap
    head = _CAPTION_HEIGHT if captions else 0
    out = np.full((head + len(rows) * tall + gap, max(map(len, rows)) * wide + gap, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            pixels = to_uint8_hwc(image).repeat(scale, 0).repeat(scale, 1)
            top, left = head + gap + i * tall, gap + j * wide
            out[top : top + height * scale, left : left + width * scale] = pixels
    for j, caption in enumerate(captions):
        left = gap + j * wide
        out[:head, left : left + width * scale] = _write(caption, head, width * scale)
    return out


def _write(text: str, height: int, width: int) -> np.ndarray:
    """Render black text on a white strip: uint8 [height, width, 3]."""
    strip = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(strip).text((1, 2), text, fill="black", font=ImageFont.load_default(11))
    return np.asarray(strip)


def to_uint8_hwc(image: np.ndarray) -> np.ndarray:
    """Clip and round an image: [3, H, W] in [0, 1] -> uint8 [H, W, 3]."""
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)


def save_image(path: Path, image: np.ndarray) -> None:
    """Write a uint8 [H, W, 3] image. The file suffix selects the format."""
    with atomic_write(path) as temporary:
        Image.fromarray(image).save(temporary)
