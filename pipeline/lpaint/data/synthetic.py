"""Our own pictures: stylised portraits, dead leaves and landscapes, deterministic by seed and index.

They stand in for photographs where none may be used: flat and shaded regions, edges at all scales, soft and hard
light, varied colour. Everything is drawn on a canvas of twice the size in units of its side and reduced.
"""

import colorsys

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

VERSION = "synthetic-1"

Colour = tuple[int, int, int]
Points = list[tuple[float, float]]

_SKIN = ((255, 224, 196), (241, 194, 150), (224, 172, 120), (198, 134, 84), (141, 85, 50), (92, 56, 36))
_HAIR = ((30, 22, 18), (62, 40, 26), (110, 70, 38), (176, 128, 68), (222, 188, 120), (150, 60, 30), (190, 186, 182))


def draw(seed: int, index: int, size: int) -> Image.Image:
    """Picture ``index`` of ``seed``: RGB, size x size. About 7 in 10 are portraits."""
    rng = np.random.default_rng([seed, index, 20])
    kind = rng.random()
    side = 2 * size
    if kind < 0.7:
        image = _portrait(rng, side)
    elif kind < 0.85:
        image = _dead_leaves(rng, side)
    else:
        image = _landscape(rng, side)
    return image.resize((size, size), Image.Resampling.BOX)


def _portrait(rng: np.random.Generator, side: int) -> Image.Image:
    face = _Face(rng, side)
    image = _background(rng, side)
    layer = image.copy()
    face.draw(ImageDraw.Draw(layer), rng)
    layer = layer.rotate(rng.normal(0, 7), Image.Resampling.BILINEAR, center=face.centre)
    # The turn bares corners; the background shows there.
    turned = Image.new("L", image.size, 255).rotate(0)
    image = Image.composite(layer, image, ImageChops.multiply(turned, _inside(layer)))
    return _light(rng, image)


def _inside(layer: Image.Image) -> Image.Image:
    """White where a rotated layer has paint; rotation fills bared corners with black."""
    grey = layer.convert("L").point(lambda value: 255 if value > 0 else 0)
    return grey.filter(ImageFilter.MinFilter(3))


class _Face:
    """Measures and colours of one portrait; units of the picture's side, turned to pixels when drawn."""

    def __init__(self, rng: np.random.Generator, side: int) -> None:
        self.side = side
        self.x, self.y = 0.5 + rng.normal(0, 0.035), 0.5 + rng.normal(0, 0.03)
        self.width = rng.uniform(0.2, 0.27)
        self.height = self.width * rng.uniform(1.2, 1.45)
        self.turn = rng.normal(0, 0.25)
        self.skin = _vary(rng, _SKIN[rng.integers(len(_SKIN))], 6)
        self.hair = _vary(rng, _HAIR[rng.integers(len(_HAIR))], 14)
        self.centre = (self.x * side, self.y * side)

    def draw(self, pen: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
        w, h, x, y = self.width, self.height, self.x, self.y
        long_hair = rng.random() < 0.5
        if long_hair:
            drop = rng.uniform(0.5, 1.3) * h
            self._ellipse(pen, x, y - 0.1 * h, w * 1.32, h * 1.15, self.hair)
            self._box(pen, x - 1.3 * w, y - 0.1 * h, x + 1.3 * w, y + drop, self.hair, 0.25 * w)
        else:
            self._ellipse(pen, x, y - 0.22 * h, w * 1.12, h * 0.95, self.hair)
        self._body(pen, rng)
        for sign in (-1, 1):
            self._ellipse(pen, x + sign * w * 0.98, y + 0.05 * h, 0.12 * w, 0.17 * h, _shade(self.skin, 0.85))
        self._ellipse(pen, x, y, w, h, self.skin)
        self._ellipse(pen, x, y + 0.45 * h, w * 0.72, h * 0.58, self.skin)
        self._cheeks(pen)
        self._fringe(pen, rng)
        self._features(pen, rng)

    def _body(self, pen: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
        w, h, x, y = self.width, self.height, self.x, self.y
        cloth = _random_colour(rng, 0.7)
        shoulders = y + h * 1.42
        self._box(pen, x - 0.5 * w, y + 0.6 * h, x + 0.5 * w, shoulders + 0.3 * h, _shade(self.skin, 0.75), 0.1 * w)
        broad = w * rng.uniform(1.8, 2.4)
        self._ellipse(pen, x, shoulders + 0.75 * h, broad, 0.85 * h, cloth)
        kind = rng.random()
        if kind < 0.4:
            self._polygon(pen, [(x - 0.5 * w, shoulders - 0.1 * h), (x + 0.5 * w, shoulders - 0.1 * h), (x, shoulders + 0.6 * h)], _shade(self.skin, 0.9))
        elif kind < 0.7:
            light = _shade(cloth, 1.5)
            self._polygon(pen, [(x - 0.55 * w, shoulders - 0.1 * h), (x, shoulders + 0.35 * h), (x - 0.75 * w, shoulders + 0.4 * h)], light)
            self._polygon(pen, [(x + 0.55 * w, shoulders - 0.1 * h), (x, shoulders + 0.35 * h), (x + 0.75 * w, shoulders + 0.4 * h)], light)
        else:
            self._ellipse(pen, x, shoulders, 0.6 * w, 0.16 * h, self.skin)

    def _cheeks(self, pen: ImageDraw.ImageDraw) -> None:
        w, h, x, y = self.width, self.height, self.x, self.y
        red, green, blue = self.skin
        flush = (min(255, int(red * 1.04)), int(green * 0.9), int(blue * 0.88))
        for sign in (-1, 1):
            self._ellipse(pen, x + sign * 0.55 * w + self._shift(0.2), y + 0.3 * h, 0.24 * w, 0.15 * h, flush)

    def _fringe(self, pen: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
        w, h, x, y = self.width, self.height, self.x, self.y
        if rng.random() < 0.12:
            hat = _random_colour(rng, 0.8)
            self._box(pen, x - 1.05 * w, y - 1.3 * h, x + 1.05 * w, y - 0.55 * h, hat, 0.4 * w)
            self._box(pen, x - 1.5 * w, y - 0.66 * h, x + 1.5 * w, y - 0.5 * h, _shade(hat, 0.7), 0.08 * w)
            return
        if rng.random() < 0.1:
            return
        # Hair over the forehead: the top of the head outside a parting's two arcs.
        part = x + rng.uniform(-0.6, 0.6) * w
        low = y - h * rng.uniform(0.35, 0.6)
        crown = [(x + 1.06 * w * np.cos(a), y - 0.12 * h - 1.0 * h * np.sin(a)) for a in np.linspace(0, np.pi, 24)]
        self._polygon(pen, [*crown, (x - 0.98 * w, y - 0.1 * h), (x - 0.8 * w, low), (part, low - 0.22 * h), (x + 0.8 * w, low), (x + 0.98 * w, y - 0.1 * h)], self.hair)
        for _ in range(10):
            angle = rng.uniform(0.3, np.pi - 0.3)
            start = (x + 0.95 * w * np.cos(angle), y - 0.12 * h - 0.9 * h * np.sin(angle))
            end = (x + 0.75 * w * np.cos(angle) + rng.normal(0, 0.02), start[1] + 0.25 * h)
            self._line(pen, [start, end], _shade(self.hair, rng.uniform(0.7, 1.45)), 0.05 * w)

    def _features(self, pen: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
        w, h, y = self.width, self.height, self.y
        x = self.x + self._shift(0.3)
        iris = _vary(rng, ((70, 45, 25), (60, 90, 130), (70, 100, 60), (30, 25, 20))[rng.integers(4)], 12)
        open_eye = rng.uniform(0.07, 0.11)
        brow_lift, gaze = rng.uniform(0.17, 0.26), rng.normal(0, 0.04) * w
        for sign in (-1, 1):
            ex, ey = x + sign * 0.42 * w, y - 0.08 * h
            self._ellipse(pen, ex, ey, 0.26 * w, (open_eye + 0.05) * h, _shade(self.skin, 0.78))
            self._ellipse(pen, ex, ey, 0.2 * w, open_eye * h, (244, 240, 236))
            self._ellipse(pen, ex + gaze, ey, 0.1 * w, 0.08 * h, iris)
            self._ellipse(pen, ex + gaze, ey, 0.05 * w, 0.042 * h, (12, 10, 10))
            self._ellipse(pen, ex + gaze - 0.03 * w, ey - 0.025 * h, 0.022 * w, 0.016 * h, (255, 255, 255))
            self._line(pen, [(ex - 0.21 * w, ey), (ex, ey - open_eye * h), (ex + 0.21 * w, ey)], (40, 26, 22), 0.045 * w)
            brow = ey - brow_lift * h
            self._line(pen, [(ex - sign * 0.24 * w, brow + 0.02 * h), (ex, brow - 0.03 * h), (ex + sign * 0.26 * w, brow + 0.03 * h)], _shade(self.hair, 0.75), 0.075 * w)
        side = 1 if rng.random() < 0.5 else -1
        self._polygon(pen, [(x, y - 0.08 * h), (x + side * 0.16 * w, y + 0.3 * h), (x - side * 0.02 * w, y + 0.32 * h)], _shade(self.skin, 0.86))
        self._ellipse(pen, x, y + 0.31 * h, 0.15 * w, 0.05 * h, _shade(self.skin, 0.8))
        self._ellipse(pen, x, y + 0.27 * h, 0.07 * w, 0.045 * h, _shade(self.skin, 1.12))
        self._mouth(pen, rng, x)
        if rng.random() < 0.15:
            self._beard(pen, rng, x)
        if rng.random() < 0.15:
            for sign in (-1, 1):
                self._ring(pen, x + sign * 0.42 * w, y - 0.07 * h, 0.31 * w, 0.19 * h, 0.04 * w)
            self._line(pen, [(x - 0.12 * w, y - 0.08 * h), (x + 0.12 * w, y - 0.08 * h)], (30, 28, 30), 0.04 * w)

    def _mouth(self, pen: ImageDraw.ImageDraw, rng: np.random.Generator, x: float) -> None:
        w, h, y = self.width, self.height, self.y + 0.55 * self.height
        red, green, blue = self.skin
        lips = _vary(rng, (min(255, int(red * 0.85) + 20), int(green * 0.5), int(blue * 0.52)), 12)
        half, smile = rng.uniform(0.26, 0.4) * w, rng.uniform(-0.01, 0.07) * h
        arc = [(x + half * t, y - smile * t * t) for t in np.linspace(-1, 1, 9)]
        thick = rng.uniform(0.05, 0.09) * h
        lower = [(px, py + thick * (1 - ((px - x) / half) ** 2)) for px, py in reversed(arc)]
        upper = [(px, py - 0.6 * thick * (1 - ((px - x) / half) ** 2)) for px, py in reversed(arc)]
        self._polygon(pen, arc + lower, lips)
        self._polygon(pen, arc + upper, _shade(lips, 0.85))
        if rng.random() < 0.35:
            teeth = [(px, py + 0.45 * thick * (1 - ((px - x) / half) ** 2)) for px, py in reversed(arc)]
            self._polygon(pen, arc + teeth, (240, 236, 228))
        else:
            self._line(pen, arc, _shade(lips, 0.5), 0.03 * w)

    def _beard(self, pen: ImageDraw.ImageDraw, rng: np.random.Generator, x: float) -> None:
        w, h, y = self.width, self.height, self.y
        self._line(pen, [(x - 0.3 * w, y + 0.48 * h), (x, y + 0.42 * h), (x + 0.3 * w, y + 0.48 * h)], self.hair, 0.1 * w)
        if rng.random() < 0.6:
            jaw = [(self.x + 0.85 * w * np.cos(a), y + 0.35 * h + 0.72 * h * np.sin(a)) for a in np.linspace(0, np.pi, 16)]
            inner = [(self.x + 0.5 * w * np.cos(a), y + 0.5 * h + 0.3 * h * np.sin(a)) for a in np.linspace(np.pi, 0, 16)]
            self._polygon(pen, jaw + inner, self.hair)

    def _shift(self, amount: float) -> float:
        """Sideways shift of what lies on the front of a turned head."""
        return self.turn * amount * self.width

    def _ellipse(self, pen: ImageDraw.ImageDraw, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        pen.ellipse([(v * self.side) for v in (x - rx, y - ry, x + rx, y + ry)], fill=fill)

    def _ring(self, pen: ImageDraw.ImageDraw, x: float, y: float, rx: float, ry: float, thick: float) -> None:
        pen.ellipse([v * self.side for v in (x - rx, y - ry, x + rx, y + ry)], outline=(30, 28, 30), width=max(1, int(thick * self.side)))

    def _box(self, pen: ImageDraw.ImageDraw, x0: float, y0: float, x1: float, y1: float, fill: Colour, radius: float) -> None:
        pen.rounded_rectangle([v * self.side for v in (x0, y0, x1, y1)], radius * self.side, fill=fill)

    def _polygon(self, pen: ImageDraw.ImageDraw, points: Points, fill: Colour) -> None:
        pen.polygon([(x * self.side, y * self.side) for x, y in points], fill=fill)

    def _line(self, pen: ImageDraw.ImageDraw, points: Points, fill: Colour, width: float) -> None:
        pen.line([(x * self.side, y * self.side) for x, y in points], fill=fill, width=max(1, round(width * self.side)), joint="curve")


def _light(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """Directional light over the whole picture, a little blur on its shading, and film grain."""
    side = image.width
    grid = np.linspace(-1, 1, side, dtype=np.float32)
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.4)
    slope = np.cos(angle) * grid[None, :] + np.sin(angle) * grid[:, None]
    sharp = np.asarray(image, np.float32)
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(side / rng.uniform(40, 120))), np.float32)
    lit = (0.55 * sharp + 0.45 * soft) * (1 + strength * slope)[:, :, None] * rng.uniform(0.8, 1.1)
    grain = rng.normal(0, rng.uniform(0, 7), (side // 2, side // 2, 1)).astype(np.float32)
    return Image.fromarray(np.clip(lit + grain.repeat(2, 0).repeat(2, 1), 0, 255).astype(np.uint8))


def _background(rng: np.random.Generator, side: int) -> Image.Image:
    kind = rng.random()
    if kind < 0.55:
        return _gradient(rng, side)
    if kind < 0.8:
        return _dead_leaves(rng, side).filter(ImageFilter.GaussianBlur(side / rng.uniform(10, 30)))
    return _clouds(rng, side, _random_colour(rng, 0.5), _random_colour(rng, 0.5))


def _gradient(rng: np.random.Generator, side: int) -> Image.Image:
    grid = np.linspace(0, 1, side)
    angle = rng.uniform(0, 2 * np.pi)
    mix = np.cos(angle) * (grid[None, :] - 0.5) + np.sin(angle) * (grid[:, None] - 0.5) + 0.5
    return _blend(np.clip(mix, 0, 1), _random_colour(rng, 0.6), _random_colour(rng, 0.6))


def _clouds(rng: np.random.Generator, side: int, first: Colour, second: Colour) -> Image.Image:
    """Fractal noise between two colours: octaves of smooth random grids."""
    total = np.zeros((side, side))
    for octave in range(1, 6):
        cells = rng.random((2**octave + 1, 2**octave + 1)).astype(np.float32)
        smooth = Image.fromarray(cells).resize((side, side), Image.Resampling.BICUBIC)
        total += np.asarray(smooth) / 2**octave
    total = (total - total.min()) / (np.ptp(total) + 1e-9)
    return _blend(total, first, second)


def _blend(mix: np.ndarray, first: Colour, second: Colour) -> Image.Image:
    pixels = np.array(first) * (1 - mix[:, :, None]) + np.array(second) * mix[:, :, None]
    return Image.fromarray(pixels.astype(np.uint8))


def _dead_leaves(rng: np.random.Generator, side: int) -> Image.Image:
    """Occluding shapes with power-law sizes (Lee, Mumford and Huang 2001), the statistics of natural scenes."""
    image = _gradient(rng, side)
    pen = ImageDraw.Draw(image)
    palette = [_random_colour(rng, 0.8) for _ in range(8)]
    for _ in range(int(rng.integers(40, 160))):
        radius = min(0.35, 0.02 * (1 - rng.random()) ** -0.6) * side
        x, y = rng.random(2) * side
        fill = _vary(rng, palette[rng.integers(8)], 22)
        shape = rng.integers(3)
        if shape == 0:
            ratio = rng.uniform(0.4, 1)
            pen.ellipse([x - radius, y - radius * ratio, x + radius, y + radius * ratio], fill=fill)
        elif shape == 1:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
            pen.polygon([(x + radius * np.cos(a), y + radius * np.sin(a)) for a in angles], fill=fill)
        else:
            ends = rng.normal(0, 1.5 * radius, (3, 2)) + (x, y)
            pen.line([tuple(end) for end in ends], fill=fill, width=max(1, int(radius / 3)), joint="curve")
    return image


def _landscape(rng: np.random.Generator, side: int) -> Image.Image:
    """Sky with a sun, rows of hills that fade with distance, sometimes water."""
    sky = _vary(rng, ((120, 170, 230), (240, 170, 110), (60, 70, 120), (190, 200, 210))[rng.integers(4)], 25)
    horizon = _vary(rng, _shade(sky, 1.35), 20)
    image = _clouds(rng, side, sky, horizon) if rng.random() < 0.5 else _blend(np.linspace(0, 1, side)[:, None].repeat(side, 1), sky, horizon)
    pen = ImageDraw.Draw(image)
    sun, radius = rng.random(2) * (side, 0.45 * side), rng.uniform(0.02, 0.08) * side
    pen.ellipse([*(sun - radius), *(sun + radius)], fill=_vary(rng, (255, 240, 200), 10))
    ground = _random_colour(rng, 0.55)
    base, layers = rng.uniform(0.35, 0.6), int(rng.integers(2, 5))
    x = np.linspace(0, 1, 60)
    for layer in range(layers):
        near = (layer + 1) / layers
        ridge = base + (1 - base) * layer / layers
        waves = sum(rng.normal(0, 0.05 / f) * np.sin(2 * np.pi * f * (x + rng.random())) for f in (1, 2, 3, 5, 9))
        fill = tuple(int(near * g * 0.8 + (1 - near) * h) for g, h in zip(ground, horizon, strict=True))
        top = [(px * side, (ridge + wave) * side) for px, wave in zip(x, waves, strict=True)]
        pen.polygon([(0, side), *top, (side, side)], fill=_vary(rng, fill, 14))
    if rng.random() < 0.4:
        shore = rng.uniform(0.75, 0.92) * side
        pen.rectangle([0, shore, side, side], fill=_vary(rng, _shade(sky, 0.7), 15))
        for _ in range(25):
            px, py = rng.random() * side, rng.uniform(shore, side)
            pen.line([px, py, px + rng.uniform(0.02, 0.12) * side, py], fill=_shade(horizon, rng.uniform(0.8, 1.1)), width=2)
    return _light(rng, image)


def _random_colour(rng: np.random.Generator, saturation: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), rng.random() * saturation, rng.uniform(0.12, 1.0))
    return int(red * 255), int(green * 255), int(blue * 255)


def _vary(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    red, green, blue = (int(np.clip(part + rng.normal(0, spread), 0, 255)) for part in colour)
    return red, green, blue


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255, int(part * factor)) for part in colour)
    return red, green, blue
