"""Stylised portraits: flat shapes first, then texture and light.

Flat fills are also labels: a region is selected by its exact colour, so hair and cloth need no masks for their texture.
"""

import numpy as np
from PIL import Image

from lpaint.data.synthetic.drawing import Colour, Pen, jitter, noise, random_colour, shade, to_image

_SKIN = ((255, 224, 196), (241, 194, 150), (224, 172, 120), (198, 134, 84), (141, 85, 50), (92, 56, 36))
_DARK_HAIR = ((24, 18, 16), (40, 28, 22), (62, 40, 26))
_HAIR = (*_DARK_HAIR, (110, 70, 38), (176, 128, 68), (222, 188, 120), (150, 60, 30), (190, 186, 182))
_IRIS = ((70, 45, 25), (60, 90, 130), (70, 100, 60), (30, 25, 20))
# Margin around the image, so that a rotation leaves no empty corners.
_MARGIN = 0.25


class Portrait:
    """Measures and colours of one person; lengths are in image sides."""

    def __init__(self, rng: np.random.Generator, side: int) -> None:
        self.rng, self.side = rng, side
        self.x, self.y = 0.5 + rng.normal(0, 0.04), 0.49 + rng.normal(0, 0.03)
        self.w = rng.uniform(0.17, 0.28)
        self.h = self.w * rng.uniform(1.22, 1.42)
        self.turn = float(np.clip(rng.normal(0, 0.4), -0.9, 0.9))
        tone = int(rng.integers(len(_SKIN)))
        self.skin = jitter(rng, _SKIN[tone], 6)
        hues = _DARK_HAIR if tone >= 3 and rng.random() < 0.75 else _HAIR
        # Varies brightness only: noise on single channels would turn dark hair green or purple.
        self.hair = jitter(rng, shade(hues[rng.integers(len(hues))], rng.uniform(0.75, 1.25)), 3)
        self.cloth = random_colour(rng, 0.8)
        self.front = self.x + 0.22 * self.turn * self.w
        self.light = np.array([rng.choice([-1, 1]) * rng.uniform(0.3, 0.9), -rng.uniform(0.1, 0.7)])

    def paint(self, background: np.ndarray) -> np.ndarray:
        """Draw the person on ``background``; both are pixels [side, side, 3] float32 in 0..255."""
        full = round((1 + 2 * _MARGIN) * self.side)
        layer = Image.new("RGBA", (full, full), (0, 0, 0, 0))
        self._draw_person(Pen(layer, self.side, _MARGIN))
        flat = np.asarray(layer)
        lit = to_image(self._apply_light(self._texture(flat[:, :, :3].astype(np.float32), flat)))
        lit.putalpha(layer.getchannel("A"))
        start = round(_MARGIN * self.side)
        centre = (self.x * self.side + start, (self.y + self.h) * self.side + start)
        lit = lit.rotate(float(self.rng.normal(0, 6)), Image.Resampling.BILINEAR, center=centre)
        lit = lit.crop((start, start, start + self.side, start + self.side))
        pixels = np.asarray(lit, np.float32)
        alpha = pixels[:, :, 3:] / 255
        return background * (1 - alpha) + pixels[:, :, :3] * alpha

    def _texture(self, pixels: np.ndarray, flat: np.ndarray) -> np.ndarray:
        rng, full = self.rng, len(flat)
        opaque = flat[:, :, 3] > 0
        hair = opaque & (flat[:, :, :3] == self.hair).all(2)
        strands = noise(rng, full, int(rng.integers(4, 14)), int(rng.integers(50, 110)), 1) * 0.35
        pixels[hair] *= (1 + strands + 0.25 * noise(rng, full, 7, 7, 2))[hair][:, None]
        cloth = opaque & (flat[:, :, :3] == self.cloth).all(2)
        grid = np.arange(full, dtype=np.float32) / self.side
        weave = noise(rng, full, 10, 6, 3) * 0.22
        pattern = rng.random()
        if pattern < 0.45:
            pitch, depth = rng.uniform(0.03, 0.09), rng.uniform(0.15, 0.5)
            weave = weave + depth * (np.sin(2 * np.pi * grid / pitch) > 0)[:, None]
            if pattern < 0.2:
                weave = weave + depth * (np.sin(2 * np.pi * grid / pitch) > 0)[None, :]
        pixels[cloth] *= (1 + weave)[cloth][:, None]
        return pixels

    def _apply_light(self, pixels: np.ndarray) -> np.ndarray:
        """Lambertian shading: an ellipsoid for the head and a slope for the rest, with warm shadows."""
        full = len(pixels)
        grid = np.arange(full, dtype=np.float32) / self.side - _MARGIN
        u = (grid[None, :] - self.x) / (1.3 * self.w)
        v = (grid[:, None] - self.y) / (1.3 * self.h)
        inside = np.clip(4 * (1.12 - np.hypot(u, v)), 0, 1)
        depth = np.sqrt(np.clip(1 - u * u - v * v, 0, 1))
        head = 0.55 + 0.5 * (self.light[0] * u + self.light[1] * v + 0.9 * depth)
        body = 0.85 + 0.25 * self.light[0] * np.clip(u / 2, -1, 1) - 0.12 * np.clip(v - 1, 0, 2)
        # Shadow of the head on neck and chest, away from the light.
        gap = np.hypot(u + 0.25 * self.light[0], (v - 0.8) * 1.5)
        body = body * (1 - 0.4 * np.clip(1.2 - 1.2 * gap, 0, 1))
        light = np.clip(inside * head + (1 - inside) * body, 0.2, 1.3)
        return pixels * np.stack([light**0.85, light, light**1.1], 2)

    def _draw_person(self, pen: Pen) -> None:
        rng, w, h, x, y = self.rng, self.w, self.h, self.x, self.y
        style = rng.random()
        if style < 0.45:
            drop = rng.uniform(0.5, 1.7) * h
            pen.ellipse(x, y - 0.12 * h, w * 1.3, h * 1.12, self.hair)
            wide = rng.uniform(1.15, 1.4) * w
            pen.box(x - wide, y - 0.2 * h, x + wide, y + drop, self.hair, 0.45 * w)
        elif style < 0.6:
            for _ in range(40):
                a, r = rng.uniform(-0.4, np.pi + 0.4), rng.uniform(0.75, 1.15)
                pen.ellipse(x + r * w * 1.1 * np.cos(a), y - h * 0.1 - r * h * np.sin(a), 0.3 * w, 0.3 * w, self.hair)
        elif style < 0.92:
            pen.ellipse(x, y - 0.2 * h, w * 1.08, h * 0.95, self.hair)
        self._body(pen)
        for sign in (-1, 1):
            if style >= 0.45 and sign * self.turn < 0.5:
                pen.ellipse(x + sign * w * 0.98, y + 0.05 * h, 0.12 * w, 0.18 * h, shade(self.skin, 0.86))
        jaw = rng.uniform(0.58, 0.76)
        pen.ellipse(x, y - 0.12 * h, w, 0.88 * h, self.skin)
        pen.ellipse(x + 0.06 * self.turn * w, y + 0.4 * h, w * jaw, h * 0.62, self.skin)
        pen.polygon(
            [(x - w, y - 0.05 * h), (x + w, y - 0.05 * h), (x + jaw * w, y + 0.5 * h), (x - jaw * w, y + 0.5 * h)],
            self.skin,
        )
        if rng.random() < 0.18:
            self._beard(pen)
        self._face(pen)
        if rng.random() < 0.12:
            self._hat(pen)
        elif style < 0.92:
            self._fringe(pen)

    def _body(self, pen: Pen) -> None:
        rng, w, h, x = self.rng, self.w, self.h, self.x
        shoulders = self.y + h * 1.38
        pen.box(x - 0.52 * w, self.y + 0.4 * h, x + 0.52 * w, shoulders + 0.4 * h, shade(self.skin, 0.9), 0.1 * w)
        broad = w * rng.uniform(1.75, 2.4)
        pen.ellipse(x, shoulders + 0.7 * h, broad, 0.7 * h, self.cloth)
        pen.box(x - broad, shoulders + 0.65 * h, x + broad, 2.0, self.cloth, 0.05)
        kind, low = rng.random(), rng.uniform(0.3, 0.8) * h
        collar = [(x - 0.53 * w, shoulders - 0.05 * h), (x + 0.53 * w, shoulders - 0.05 * h), (x, shoulders + low)]
        if kind < 0.4:
            pen.polygon(collar, shade(self.skin, 0.94))
        elif kind < 0.7:
            inner = jitter(rng, (235, 235, 232), 12) if rng.random() < 0.6 else random_colour(rng, 0.6)
            pen.polygon([(px + 0.4 * (px - x), py) for px, py in collar], inner)
            pen.polygon([(x - 0.3 * w, shoulders), (x + 0.3 * w, shoulders), (x, shoulders + 0.25 * h)], self.skin)
            if rng.random() < 0.5:
                tie = random_colour(rng, 0.9)
                pen.polygon([(x - 0.1 * w, shoulders + 0.2 * h), (x + 0.1 * w, shoulders + 0.2 * h), (x, 1.2)], tie)
        else:
            pen.ellipse(x, shoulders + 0.04 * h, 0.6 * w, 0.15 * h, shade(self.skin, 0.94))

    def _face(self, pen: Pen) -> None:
        rng, w, h, y, x = self.rng, self.w, self.h, self.y, self.front
        red, green, blue = self.skin
        flush = (min(255, int(red * 1.02)), int(green * 0.93), int(blue * 0.91))
        for sign in (-1, 1):
            pen.ellipse(x + sign * 0.5 * w, y + 0.3 * h, 0.22 * w, 0.14 * h, flush)
        iris, opening = jitter(rng, _IRIS[rng.integers(len(_IRIS))], 12), rng.uniform(0.06, 0.1) * h
        gaze, lift, bushy = rng.normal(0, 0.05) * w, rng.uniform(0.17, 0.24) * h, rng.uniform(0.05, 0.1) * w
        for sign in (-1, 1):
            # On a turned head the far eye is nearer to the nose and narrower.
            near = 1 - 0.25 * max(0.0, sign * self.turn)
            self._eye(pen, x + sign * 0.42 * w * near, y - 0.08 * h, near, opening, iris, gaze)
            ex, brow = x + sign * 0.42 * w * near, y - 0.08 * h - lift
            arch = [
                (ex - sign * 0.22 * w, brow + 0.03 * h),
                (ex, brow - 0.02 * h),
                (ex + sign * 0.26 * w, brow + 0.04 * h),
            ]
            pen.line(arch, shade(self.hair, 0.8), bushy)
        self._nose(pen)
        self._mouth(pen)
        if rng.random() < 0.16:
            frame = (30, 28, 30) if rng.random() < 0.7 else random_colour(rng, 0.7)
            dark = rng.random() < 0.3
            for sign in (-1, 1):
                if dark:
                    pen.ellipse(x + sign * 0.42 * w, y - 0.06 * h, 0.3 * w, 0.19 * h, (26, 24, 30))
                pen.ring(x + sign * 0.42 * w, y - 0.06 * h, 0.31 * w, 0.2 * h, 0.045 * w, frame)
                pen.line(
                    [(x + sign * 0.72 * w, y - 0.08 * h), (self.x + sign * 0.97 * w, y - 0.02 * h)], frame, 0.045 * w
                )
            pen.line([(x - 0.12 * w, y - 0.08 * h), (x + 0.12 * w, y - 0.08 * h)], frame, 0.045 * w)

    def _eye(self, pen: Pen, x: float, y: float, near: float, opening: float, iris: Colour, gaze: float) -> None:
        w, h = self.w, self.h
        half = 0.21 * w * near
        pen.ellipse(x, y - 0.03 * h, 1.3 * half, opening + 0.06 * h, shade(self.skin, 0.84))
        almond = np.linspace(-1, 1, 11)
        upper = [(x + half * t, y - opening * (1 - t * t)) for t in almond]
        lower = [(x + half * t, y + 0.75 * opening * (1 - t * t)) for t in almond[::-1]]
        pen.polygon(upper + lower, (240, 236, 232))
        pen.ellipse(x + gaze, y, 0.095 * w, min(0.075 * h, 0.95 * opening), iris)
        pen.ellipse(x + gaze, y, 0.045 * w, min(0.036 * h, 0.6 * opening), (12, 10, 10))
        pen.ellipse(x + gaze + 0.03 * w * np.sign(self.light[0]), y - 0.025 * h, 0.022 * w, 0.016 * h, (255, 255, 255))
        pen.line(upper, (36, 24, 22), 0.05 * w)
        pen.line(lower, shade(self.skin, 0.65), 0.02 * w)

    def _nose(self, pen: Pen) -> None:
        w, h, y, x = self.w, self.h, self.y, self.front + 0.06 * self.turn * self.w
        away = -float(np.sign(self.light[0]))
        broad = self.rng.uniform(0.12, 0.19) * w
        bridge = self.front - 0.02 * w
        pen.polygon(
            [(bridge, y - 0.05 * h), (x + away * broad, y + 0.28 * h), (x, y + 0.3 * h)], shade(self.skin, 0.88)
        )
        pen.ellipse(x, y + 0.29 * h, broad, 0.055 * h, shade(self.skin, 0.86))
        pen.ellipse(x, y + 0.26 * h, 0.6 * broad, 0.05 * h, shade(self.skin, 1.08))
        for sign in (-1, 1):
            pen.ellipse(x + sign * 0.5 * broad, y + 0.32 * h, 0.28 * broad, 0.018 * h, shade(self.skin, 0.5))

    def _mouth(self, pen: Pen) -> None:
        rng, w, h, x, y = self.rng, self.w, self.h, self.front + 0.03 * self.turn * self.w, self.y + 0.55 * self.h
        red, green, blue = self.skin
        strong = rng.uniform(0.45, 0.72)
        lips = jitter(rng, (min(255, int(red * 0.85) + 15), int(green * strong), int(blue * strong)), 8)
        half, smile = rng.uniform(0.27, 0.4) * w, rng.uniform(-0.01, 0.07) * h
        thick, spread = rng.uniform(0.05, 0.08) * h, np.linspace(-1, 1, 13)
        arc = [(x + half * t, y - smile * t * t) for t in spread]
        lower = [(px, py + thick * (1 - t * t)) for t, (px, py) in zip(spread[::-1], reversed(arc), strict=True)]
        upper = [
            (px, py - 0.6 * thick * (1 - t * t) * (0.75 + 0.5 * min(1, abs(3 * t))))
            for t, (px, py) in zip(spread[::-1], reversed(arc), strict=True)
        ]
        pen.polygon(arc + upper, shade(lips, 0.85))
        pen.polygon(arc + lower, lips)
        if rng.random() < 0.35:
            teeth = [
                (px, py + 0.6 * thick * (1 - t * t)) for t, (px, py) in zip(spread[::-1], reversed(arc), strict=True)
            ]
            pen.polygon(arc + teeth, (240, 236, 228))
        else:
            pen.line(arc, shade(lips, 0.5), 0.03 * w)

    def _beard(self, pen: Pen) -> None:
        w, h, y = self.w, self.h, self.y
        x = self.front
        if self.rng.random() < 0.7:
            angles = np.linspace(0, np.pi, 16)
            jaw = [(self.x + 0.9 * w * np.cos(a), y + 0.3 * h + 0.8 * h * np.sin(a)) for a in angles]
            inner = [(x + 0.5 * w * np.cos(a), y + 0.4 * h + 0.1 * h * np.sin(a)) for a in angles[::-1]]
            pen.polygon(jaw + inner, self.hair)
        pen.line([(x - 0.34 * w, y + 0.5 * h), (x, y + 0.43 * h), (x + 0.34 * w, y + 0.5 * h)], self.hair, 0.12 * w)

    def _hat(self, pen: Pen) -> None:
        w, h, x, y, hat = self.w, self.h, self.x, self.y, random_colour(self.rng, 0.8)
        if self.rng.random() < 0.5:
            angles = np.linspace(0, np.pi, 20)
            pen.polygon([(x + 1.1 * w * np.cos(a), y - 0.45 * h - 0.75 * h * np.sin(a)) for a in angles], hat)
            pen.box(x - 1.12 * w, y - 0.62 * h, x + 1.12 * w, y - 0.42 * h, shade(hat, 0.75), 0.1 * w)
            return
        pen.box(x - 0.98 * w, y - 1.35 * h, x + 0.98 * w, y - 0.55 * h, hat, 0.35 * w)
        pen.box(x - 0.98 * w, y - 0.8 * h, x + 0.98 * w, y - 0.6 * h, shade(hat, 0.55), 0.02 * w)
        pen.ellipse(x, y - 0.58 * h, 1.6 * w, 0.13 * h, shade(hat, 0.85))

    def _fringe(self, pen: Pen) -> None:
        rng, w, h, x, y = self.rng, self.w, self.h, self.x, self.y
        part, low = self.front + rng.uniform(-0.6, 0.6) * w, y - h * rng.uniform(0.42, 0.62)
        crown = [(x + 1.07 * w * np.cos(a), y - 0.14 * h - h * np.sin(a)) for a in np.linspace(0, np.pi, 24)]
        left = [(x - 1.02 * w, y - 0.02 * h), (x - 0.86 * w, y - 0.2 * h), (x - 0.6 * w, low)]
        right = [(x + 0.6 * w, low), (x + 0.86 * w, y - 0.2 * h), (x + 1.02 * w, y - 0.02 * h)]
        pen.polygon([*crown, *left, (part, low - 0.16 * h), *right], self.hair)
