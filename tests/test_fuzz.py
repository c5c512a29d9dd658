"""Damaged files and odd sizes: an error sentence or a right result, and nothing else."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from lpaint import Painter
from lpaint.data.decode import decode, describe_error, fit_to_square
from lpaint.errors import LpaintError
from lpaint.painting.io.image import read_picture
from lpaint.painting.io.strokefile import read_strokes
from lpaint.painting.onnx_model import OnnxPainter
from tests.helpers.mutations import QUICK, SLOW, Damage, cut, damage, mutated
from tests.helpers.pictures import encoded


@pytest.fixture(scope="module")
def painter(actor: Path) -> Painter:
    return Painter(actor, device="cpu", threads=1)


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


def _odd(kind: str) -> bytes:
    """A picture whose mode, transparency, profile or order of bytes is not what most have."""
    shades = np.random.default_rng(0).integers(0, 65535, (24, 31))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    colours = Image.fromarray((shades // 257).astype(np.uint8)).convert("RGB")
    kinds: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "grey of 16 bits": (Image.fromarray(shades.astype(np.uint16)), "PNG", {"transparency": 1000}),
        "other byte order": (Image.fromarray(shades.astype(">u2")), "TIFF", {}),
        "floating point": (Image.fromarray((shades / 257).astype(np.float32)), "TIFF", {"exif": exif}),
        "palette": (colours.quantize(16), "PNG", {"transparency": bytes(range(0, 256, 16))}),
        "CMYK": (colours.convert("CMYK"), "JPEG", {"exif": exif, "icc_profile": profile}),
        "progressive": (colours, "JPEG", {"progressive": True, "exif": exif}),
        "LAB": (Image.new("LAB", (31, 24), (90, 140, 120)), "TIFF", {"exif": exif}),
        "profile": (colours.convert("RGBA"), "PNG", {"icc_profile": profile, "exif": exif}),
        "PPM": (colours, "PPM", {}),
        "TGA": (colours, "TGA", {"compression": "tga_rle"}),
        "PCX": (colours, "PCX", {}),
        "AVIF": (colours, "AVIF", {}),
        "JPEG2000": (colours, "JPEG2000", {}),
        "QOI": (colours, "QOI", {}),
    }
    image, name, options = kinds[kind]
    return encoded(image, name, **options)


ODD = ["grey of 16 bits", "other byte order", "floating point", "palette", "CMYK", "progressive", "LAB", "profile"]


@pytest.mark.parametrize("kind", [*ODD, "PPM", "TGA", "PCX", "AVIF", "JPEG2000", "QOI"])
@given(damage=damage, cut=cut)
@QUICK
def test_mutated_pictures_of_odd_kinds(kind: str, damage: Damage, cut: float, tmp_path: Path) -> None:
    content = mutated(_odd(kind), damage, cut)
    path = tmp_path / "picture"
    path.write_bytes(content)
    flaws = []
    for strict in (False, True):
        try:
            picture = read_picture(path, strict=strict)
        except LpaintError as error:
            assert "\n" not in str(error) and str(path) in str(error)
        else:
            assert picture.colour.shape[0] == 3 and np.isfinite(picture.colour).all()
            assert picture.colour.min() >= 0 and picture.colour.max() <= 1
            assert picture.alpha is None or picture.alpha.shape == picture.colour.shape[1:]
            flaws.append(picture.flaw)
    assert len(flaws) != 2 or flaws == ["", ""], "what is cut off is refused where it should be"
    # The preparation lists it as a bad one or has its pixels; nothing else.
    try:
        pixels = fit_to_square(decode(content, 16).image, 16, "crop")
    except Exception as error:
        assert "\n" not in describe_error(error) and describe_error(error)
    else:
        assert pixels.shape == (16, 16, 3) and pixels.dtype == np.uint8


@given(damage=damage, cut=cut)
@SLOW
def test_mutated_models(actor: Path, tmp_path: Path, damage: Damage, cut: float) -> None:
    path = tmp_path / "actor.onnx"
    content = actor.read_bytes()
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
    content: dict[str, object] = {"format": "lpaint.strokes", "version": 1, "family": "bezier", "width": 4, "height": 3}
    content |= {"ground": [0, 0, 0], "strokes": [row, row]}
    if key == "row":
        content["strokes"] = [row, value]
    else:
        content[key] = value
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
