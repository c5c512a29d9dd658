"""Synthetic images in place of photographs: flat and shaded regions, edges at all scales, light, texture, colour.

Each image is drawn at twice its size and reduced.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from lpaint.data.synthetic.drawing import (
    Pen,
    as_float,
    blend,
    clouds,
    gradient,
    jitter,
    noise,
    random_colour,
    shade,
    to_image,
)
from lpaint.data.synthetic.portrait import Portrait

# Change it with every change of an image, so that prepared data are made again.
VERSION = "synthetic-2"

_SKIES = ((120, 170, 230), (240, 170, 110), (60, 70, 120), (190, 200, 210), (225, 150, 150))
_LAND_COLOURS = ((92, 112, 58), (140, 120, 70), (70, 84, 92), (60, 92, 70), (150, 98, 66))


def draw(seed: int, index: int, size: int) -> Image.Image:
    """Image ``index`` of ``seed``: RGB, size x size; 70% portraits, 15% dead leaves, 12% landscapes, 3% clouds."""
    rng = np.random.default_rng([seed, index, 20])
    kind = rng.random()
    side = 2 * size
    if kind < 0.7:
        pixels = Portrait(rng, side).paint(_background(rng, side))
    elif kind < 0.85:
        pixels = dead_leaves(rng, side)
    elif kind < 0.97:
        pixels = landscape(rng, side)
    else:
        pixels = clouds(rng, side, random_colour(rng, 0.8), random_colour(rng, 0.8))
    return _apply_camera(rng, pixels).resize((size, size), Image.Resampling.BOX)


def _apply_camera(rng: np.random.Generator, pixels: np.ndarray) -> Image.Image:
    """Camera effects: exposure, a slight blur, grain."""
    side = len(pixels)
    grain = rng.normal(0, rng.uniform(0, 4), (side // 2, side // 2, 1)).astype(np.float32)
    exposed = pixels * rng.uniform(0.85, 1.12) + rng.uniform(-8, 8) + grain.repeat(2, 0).repeat(2, 1)
    return to_image(exposed).filter(ImageFilter.GaussianBlur(side / 256 * rng.uniform(0.2, 1.3)))


def _background(rng: np.random.Generator, side: int) -> np.ndarray:
    """Background of a portrait: plain, textured, or out of focus."""
    kind = rng.random()
    if kind < 0.35:
        return gradient(rng, side, 0.6)
    if kind < 0.55:
        return gradient(rng, side, 0.6) * (1 + rng.uniform(0.05, 0.25) * noise(rng, side, 12, 12, 4))[:, :, None]
    if kind < 0.7:
        return clouds(rng, side, random_colour(rng, 0.5), random_colour(rng, 0.5))
    scene = dead_leaves(rng, side) if kind < 0.88 else landscape(rng, side)
    return np.asarray(to_image(scene).filter(ImageFilter.GaussianBlur(side / rng.uniform(12, 50))), np.float32)


def dead_leaves(rng: np.random.Generator, side: int) -> np.ndarray:
    """Occluding shapes with power-law sizes, the statistics of natural scenes (Lee, Mumford, Huang, 2001).

    Returns pixels [side, side, 3] float32. Each leaf has a colour, a light gradient and a texture strength.
    """
    count = int(rng.integers(60, 320))
    labels = Image.new("I", (side, side), 0)
    pen = ImageDraw.Draw(labels)
    # Radii have density r^-2, by inversion. Natural scenes have r^-3, which makes small images mostly confetti. Large
    # leaves are mostly at the back.
    small, large = rng.uniform(0.02, 0.06), rng.uniform(0.3, 0.6)
    radii = side / rng.uniform(1 / large, 1 / small, count)
    radii = radii[np.argsort(-radii * rng.lognormal(0, 0.6, count))]
    centres = rng.uniform(0, side, (count, 2))
    for label, (radius, centre) in enumerate(zip(radii, centres, strict=True), start=1):
        _leaf(rng, pen, centre, radius, label)
    index = np.asarray(labels)
    palette = [random_colour(rng, 0.85) for _ in range(8)]
    colours = np.array([jitter(rng, palette[rng.integers(8)], 24) for _ in range(count + 1)], np.float32)
    grid = np.linspace(-1, 1, side, dtype=np.float32)
    slopes = rng.normal(0, 0.22, (count + 1, 2)).astype(np.float32)
    light = 1 + slopes[index, 0] * grid[None, :] + slopes[index, 1] * grid[:, None]
    rough = (rng.uniform(0, 0.3, count + 1) * (rng.random(count + 1) < 0.6)).astype(np.float32)
    stripes = noise(rng, side, 40, int(rng.integers(6, 40)), 2)
    return colours[index] * (light + rough[index] * stripes)[:, :, None]


def _leaf(rng: np.random.Generator, pen: ImageDraw.ImageDraw, centre: np.ndarray, radius: float, label: int) -> None:
    kind, turn = rng.integers(3), rng.uniform(0, 2 * np.pi)
    if kind == 0:
        angles, ratio = np.linspace(0, 2 * np.pi, 28, endpoint=False), rng.uniform(0.35, 1)
    else:
        angles, ratio = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7)))), 1.0
    if kind == 2:
        # A long, thin bar.
        angles, ratio = np.pi / 4 + np.arange(4) * np.pi / 2, rng.uniform(0.08, 0.4)
    across, along = radius * np.cos(angles), ratio * radius * np.sin(angles)
    x = centre[0] + across * np.cos(turn) - along * np.sin(turn)
    y = centre[1] + across * np.sin(turn) + along * np.cos(turn)
    pen.polygon([(float(px), float(py)) for px, py in zip(x, y, strict=True)], fill=label)


def landscape(rng: np.random.Generator, side: int) -> np.ndarray:
    """Sky with a sun, hills that fade with distance, often water; pixels [side, side, 3] float32."""
    sky = jitter(rng, _SKIES[rng.integers(len(_SKIES))], 22)
    horizon = jitter(rng, shade(sky, 1.35), 20)
    down = np.linspace(0, 1, side, dtype=np.float32)[:, None].repeat(side, 1)
    pixels = blend(np.clip(2 * down, 0, 1), sky, horizon)
    if rng.random() < 0.6:
        cover = np.clip(noise(rng, side, 5, 2, 5) - rng.uniform(-0.3, 0.5), 0, 1)[:, :, None] * (1 - down[:, :, None])
        pixels = pixels * (1 - cover) + cover * as_float(shade(horizon, 1.2))
    pixels = _sun(rng, pixels)
    base, layers = rng.uniform(0.4, 0.65), int(rng.integers(2, 5))
    land = jitter(rng, _LAND_COLOURS[rng.integers(len(_LAND_COLOURS))], 20)
    columns = np.linspace(0, 1, side)
    for layer in range(layers):
        near = (layer + 1) / layers
        waves = np.zeros(side)
        for frequency in (1, 2, 3, 7, 15):
            height = rng.normal(0, 0.05 / frequency)
            waves += height * np.sin(2 * np.pi * frequency * (columns + rng.random()))
        inside = down >= (base + (1 - base) * layer / layers + waves)[None, :]
        fill = as_float(land) * near * 0.85 + as_float(horizon) * (1 - near)
        rough = 1 + 0.3 * near * noise(rng, side, 16 + 20 * layer, 10 + 10 * layer, 3)
        pixels[inside] = ((fill + rng.normal(0, 10, 3).astype(np.float32)) * rough[:, :, None])[inside]
    return _sea(rng, pixels, sky, horizon) if rng.random() < 0.45 else pixels


def _sun(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    side = len(pixels)
    grid = np.linspace(0, 1, side, dtype=np.float32)
    x, y, radius = rng.random(), rng.uniform(0.05, 0.45), rng.uniform(0.02, 0.07)
    distance = np.hypot(grid[None, :] - x, grid[:, None] - y)
    disc = np.clip((radius - distance) * side / 2 + 0.5, 0, 1)
    glow = 0.5 * np.exp(-(((distance - radius).clip(0)) / (3 * radius)))
    strength = np.maximum(disc, glow)[:, :, None]
    return pixels * (1 - strength) + strength * as_float(jitter(rng, (255, 240, 205), 8))


def _sea(
    rng: np.random.Generator, pixels: np.ndarray, sky: tuple[int, int, int], horizon: tuple[int, int, int]
) -> np.ndarray:
    side = len(pixels)
    shore = rng.uniform(0.68, 0.9)
    top = int(shore * side)
    mix = np.linspace(0, 1, side - top, dtype=np.float32)[:, None].repeat(side, 1)
    pixels[top:] = blend(mix, shade(horizon, 0.85), shade(sky, 0.5))
    image = to_image(pixels)
    pen = Pen(image, side)
    for _ in range(40):
        x, y = rng.random(), rng.uniform(shore, 1)
        pen.line([(x, y), (x + rng.uniform(0.02, 0.12), y)], shade(horizon, rng.uniform(0.6, 1.1)), 0.006)
    return np.asarray(image, np.float32)
