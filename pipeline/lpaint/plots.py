"""PNG plots and sheets of pictures, without global state."""

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

    A band of a series' name is drawn in its colour; others are named in the legend. ``legend``: have one even if there
    is but one series. ``ticks``: labels of places on a logarithmic x axis; others are labelled by their number.
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
        places = sorted({value for x, _ in series.values() for value in x})
        if len(places) <= _MOST_TICKS:
            # Between two powers of ten the default labels read "3 x 10^1": show the measured places instead.
            axes.set_xticks(places, [(ticks or {}).get(int(place), f"{place:g}") for place in places], minor=False)
            axes.set_xticks([], minor=True)
    # Without a positive value there is nothing to show on a log axis.
    if log_y and any(value > 0 for _, y in series.values() for value in y):
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    if legend or len(series) + len(bands or {}) > 1:
        axes.legend()
    with atomic_write(path) as temporary:
        figure.savefig(temporary)


def save_bars(path: Path, title: str, y_label: str, bars: Mapping[str, tuple[float, float]]) -> None:
    """Plot named bars, (height, half-width of an interval around it or 0), to a PNG file."""
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
    """Pictures [3, H, W] in [0, 1], all of one size, laid out in rows on white: uint8 [height, width, 3].

    ``scale`` repeats every pixel; ``gap`` is the white space between pictures in pixels; ``captions`` stand above the
    columns in a strip of 16 pixels, cut off where they are wider than their column.
    """
    height, width = rows[0][0].shape[1:]
    tall, wide = height * scale + gap, width * scale + gap
    head = _CAPTION_HEIGHT if captions else 0
    out = np.full((head + len(rows) * tall + gap, max(map(len, rows)) * wide + gap, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            pixels = to_bytes(picture).repeat(scale, 0).repeat(scale, 1)
            top, left = head + gap + i * tall, gap + j * wide
            out[top : top + height * scale, left : left + width * scale] = pixels
    for j, caption in enumerate(captions):
        left = gap + j * wide
        out[:head, left : left + width * scale] = _write(caption, head, width * scale)
    return out


def _write(text: str, height: int, width: int) -> np.ndarray:
    """Black text on a white strip: uint8 [height, width, 3]."""
    strip = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(strip).text((1, 2), text, fill="black", font=ImageFont.load_default(11))
    return np.asarray(strip)


def to_bytes(picture: np.ndarray) -> np.ndarray:
    """[3, H, W] in [0, 1] -> uint8 [H, W, 3], rounded."""
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)


def save_image(path: Path, picture: np.ndarray) -> None:
    """Write a uint8 [H, W, 3] picture to a PNG (or any format of Pillow's, by suffix)."""
    with atomic_write(path) as temporary:
        Image.fromarray(picture).save(temporary)
