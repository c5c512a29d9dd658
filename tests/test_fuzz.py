"""Damaged files and odd sizes: an error sentence or a right result, and nothing else."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import QUICK, SLOW, Damage, cut, damage, mutated
from PIL import Image

from lpaint import Painter
from lpaint.errors import LpaintError
from lpaint.painting.image import read_picture
from lpaint.painting.model import OnnxPainter
from lpaint.painting.strokefile import read_strokes


@pytest.fixture(scope="module")
def painter(chain: Path) -> Painter:
    return Painter(chain / "exports/actor.onnx", device="cpu", threads=1)


def _encoded(kind: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (24, 31, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
@given(damage=damage, cut=cut)
@QUICK
def test_mutated_pictures(kind: str, damage: Damage, cut: float, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(mutated(_encoded(kind), damage, cut))
    try:
        picture = read_picture(path)
    except LpaintError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    else:
        assert picture.colour.shape[0] == 3 and np.isfinite(picture.colour).all()
        assert picture.colour.min() >= 0 and picture.colour.max() <= 1


@given(damage=damage, cut=cut)
@SLOW
def test_mutated_models(chain: Path, tmp_path: Path, damage: Damage, cut: float) -> None:
    path = tmp_path / "actor.onnx"
    content = (chain / "exports/actor.onnx").read_bytes()
    # What says what the model is lies at the end; weights, which may be anything, before it.
    path.write_bytes(mutated(content, [(0.97 + 0.03 * place, value) for place, value in damage], max(cut, 0.67)))
    try:
        OnnxPainter(path, "cpu", threads=1)
    except LpaintError as error:
        assert "\n" not in str(error) and str(path) in str(error)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@given(key=st.sampled_from(["format", "version", "family", "width", "ground", "strokes", "row"]), value=json_values)
@QUICK
def test_mutated_strokes(key: str, value: object, tmp_path: Path) -> None:
    row = {"frame": [0, 0, 1, 1], "shape": [0.5, 0.5], "colour": [0, 0, 0]}
    content = {"format": "lpaint.strokes", "version": 1, "family": "bezier", "width": 4, "height": 3}
    content |= {"ground": [0, 0, 0], "strokes": [row, row]}  # type: ignore[dict-item]
    if key == "row":
        content["strokes"] = [row, value]  # type: ignore[assignment]
    else:
        content[key] = value  # type: ignore[assignment]
    path = tmp_path / "strokes.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    try:
        found = read_strokes(path)
    except LpaintError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    else:
        assert np.isfinite(found.strokes.values).all()


@given(height=st.integers(1, 70), width=st.integers(1, 70), strokes=st.integers(1, 6), seed=st.integers(0, 99))
@SLOW
def test_any_size_is_painted(painter: Painter, height: int, width: int, strokes: int, seed: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    artwork = painter.paint(picture, strokes=strokes, effort=2)
    pixels = artwork.pixels()
    assert pixels.shape == picture.shape and len(artwork) <= strokes
    after, before = (np.square(canvas / 255 - picture / 255).mean() for canvas in (pixels.astype(float), 0 * pixels))
    assert after <= before + 1e-3


@pytest.mark.parametrize(("height", "width"), [(1, 10_000), (10_000, 1), (1, 1)])
def test_extreme_shapes_are_painted(painter: Painter, height: int, width: int) -> None:
    assert painter.paint(np.full((height, width, 3), 200, np.uint8), strokes=3).pixels().shape == (height, width, 3)
