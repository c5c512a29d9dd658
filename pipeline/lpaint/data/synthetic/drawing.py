"""Drawing tools of the synthetic images: colours, smooth fields, and a pen in units of the image side."""

import colorsys

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Points = list[tuple[float, float]]


class Pen:
    """Draws flat shapes. Coordinates, radii and widths are in image sides, x to the right, y down."""

    def __init__(self, image: Image.Image, side: int, margin: float = 0.0) -> None:
        self._draw = ImageDraw.Draw(image)
        self._side, self._margin = side, margin

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        """Filled ellipse around (x, y)."""
        self._draw.ellipse(self._to_pixels([(x - rx, y - ry), (x + rx, y + ry)]), fill=fill)

    def ring(self, x: float, y: float, rx: float, ry: float, width: float, fill: Colour) -> None:
        """Outline of an ellipse."""
        self._draw.ellipse(
            self._to_pixels([(x - rx, y - ry), (x + rx, y + ry)]), outline=fill, width=self._width(width)
        )

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: Colour, radius: float) -> None:
        """Filled rectangle with round corners."""
        self._draw.rounded_rectangle(self._to_pixels([(x0, y0), (x1, y1)]), radius * self._side, fill=fill)

    def polygon(self, points: Points, fill: Colour) -> None:
        """Filled polygon."""
        self._draw.polygon(self._to_pixels(points), fill=fill)

    def line(self, points: Points, fill: Colour, width: float) -> None:
        """Polyline with round joints."""
        self._draw.line(self._to_pixels(points), fill=fill, width=self._width(width), joint="curve")

    def _to_pixels(self, points: Points) -> list[float]:
        return [float((part + self._margin) * self._side) for point in points for part in point]

    def _width(self, width: float) -> int:
        return max(1, round(width * self._side))


def random_colour(rng: np.random.Generator, saturation: float) -> Colour:
    """Any hue, saturated up to ``saturation``, from dark to bright."""
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), rng.random() * saturation, rng.uniform(0.12, 1.0))
    return int(red * 255), int(green * 255), int(blue * 255)


def jitter(rng: np.random.Generator, colour: Colour, deviation: float) -> Colour:
    """The colour with normal noise of standard deviation ``deviation`` (of 255) on each channel."""
    red, green, blue = (int(np.clip(part + rng.normal(0, deviation), 0, 255)) for part in colour)
    return red, green, blue


def shade(colour: Colour, factor: float) -> Colour:
    """Darker (factor below 1) or brighter."""
    red, green, blue = (min(255, int(part * factor)) for part in colour)
    return red, green, blue


def as_float(colour: Colour) -> np.ndarray:
    """The colour as [3] float32."""
    return np.array(colour, np.float32)


def noise(rng: np.random.Generator, side: int, rows: int, columns: int, octaves: int = 1) -> np.ndarray:
    """Smooth noise [side, side] float32 in about -1..1: a sum of random grids, the first of rows x columns cells.

    Each octave doubles the cells and halves the amplitude. Unequal rows and columns give strands.
    """
    total = np.zeros((side, side), np.float32)
    for octave in range(octaves):
        shape = (min(side, rows << octave) + 1, min(side, columns << octave) + 1)
        cells = Image.fromarray(rng.uniform(-1, 1, shape).astype(np.float32))
        total += np.asarray(cells.resize((side, side), Image.Resampling.BICUBIC)) / 2**octave
    return total


def ramp(rng: np.random.Generator, side: int) -> np.ndarray:
    """Linear slope [side, side] float32 in 0..1 in a random direction."""
    grid = np.linspace(-0.5, 0.5, side, dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    return np.clip(np.cos(angle) * grid[None, :] + np.sin(angle) * grid[:, None] + 0.5, 0, 1)


def blend(mix: np.ndarray, first: Colour, second: Colour) -> np.ndarray:
    """Pixels [H, W, 3] float32 in 0..255: ``first`` where ``mix`` [H, W] is 0, ``second`` where it is 1."""
    return (1 - mix[:, :, None]) * as_float(first) + mix[:, :, None] * as_float(second)


def gradient(rng: np.random.Generator, side: int, saturation: float) -> np.ndarray:
    """Linear gradient between two random colours, as pixels [side, side, 3] float32."""
    return blend(ramp(rng, side), random_colour(rng, saturation), random_colour(rng, saturation))


def clouds(rng: np.random.Generator, side: int, first: Colour, second: Colour) -> np.ndarray:
    """Fractal noise between two colours, as pixels [side, side, 3] float32."""
    field = noise(rng, side, 2, 3, octaves=5)
    return blend(np.clip(0.5 + 0.5 * field, 0, 1), first, second)


def to_image(pixels: np.ndarray) -> Image.Image:
    """An RGB image of pixels [H, W, 3] in 0..255, clipped."""
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
