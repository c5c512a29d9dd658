"""Strokes as vectors, drawn by another program (resvg) and held against the exact rasteriser."""

import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import resvg_py
import torch
from PIL import Image

from lpaint.errors import ImageError
from lpaint.painting.engine.types import Strokes
from lpaint.painting.io.svg import svg_lines, write_svg
from lpaint.painting.onnx_model import OnnxPainter
from lpaint.painting.render import draw_strokes
from lpaint.strokes import StrokeFamily, family_names, get_family, pixel_centres

# Mean absolute difference of opacity at 128 px. Opacity along a curve is simplified to a straight axis, bristles to a
# dozen ribbons; everything else is exact but for the edges' antialiasing.
TOLERANCE = {"bezier": 6e-3, "brush": 2e-2}
EXACT = 1e-3


class Vectors:
    """A family behind the interface that SVG needs."""

    def __init__(self, family: StrokeFamily) -> None:
        self.family = family

    def outline(self, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        path, axis, stops = self.family.outline(torch.from_numpy(shape))
        return path.numpy(), axis.numpy(), stops.numpy()


def _rendered(document: str) -> np.ndarray:
    """[3, H, W] in [0, 1]."""
    image = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=document)))).convert("RGB")
    return np.asarray(image, np.float32).transpose(2, 0, 1) / 255


def _document(model: Vectors, values: np.ndarray, frame: tuple[float, ...], height: int, width: int) -> str:
    frames = np.tile(np.array([frame], np.float32), (len(values), 1))
    return "\n".join(svg_lines(model, Strokes(frames, values), height, width))


@pytest.mark.parametrize("name", family_names())
def test_a_vector_stroke_covers_what_the_rasteriser_paints(name: str) -> None:
    family = get_family(name)
    shape = family.sample(30, torch.Generator().manual_seed(1))
    exact = family.rasterise(shape, *pixel_centres(len(shape), 128)).numpy()
    white = np.ones((1, 3), np.float32)
    drawn = np.stack(
        [
            _rendered(_document(Vectors(family), np.concatenate([one[None], white], 1), (0, 0, 1, 1), 128, 128))[0]
            for one in shape.numpy()
        ]
    )
    assert exact.mean() > 0.01
    assert np.abs(drawn - exact).mean() < TOLERANCE.get(name, EXACT)


def test_a_curve_bent_tighter_than_its_radius_has_no_holes() -> None:
    family = get_family("bezier_opaque")
    shape = torch.tensor([[0.3, 0.3, 1.0, 0.0, 0.6, 0.5, 1.0, 0.8], [0.4, 0.4, 1.0, 0.0, 0.6, 0.6, 0.2, 1.0]])
    for one, exact in zip(shape, family.rasterise(shape, *pixel_centres(2, 128)).numpy(), strict=True):
        values = np.concatenate([one.numpy(), np.ones(3, np.float32)])[None]
        drawn = _rendered(_document(Vectors(family), values, (0, 0, 1, 1), 128, 128))[0]
        assert drawn[exact == 1].min() > 0.9


def test_frames_that_are_not_square_stretch_their_strokes() -> None:
    family = get_family("circle")
    values = np.array([[0.5, 0.5, 0.9, 1.0, 1.0, 1.0, 1.0]], np.float32)
    drawn = _rendered(_document(Vectors(family), values, (0.5, 0.25, 0.5, 0.25), 100, 200))[0]
    rows, columns = np.nonzero(drawn > 0.5)
    # A disc of radius 0.3 in a frame of 50 x 50 pixels at (50, 50).
    assert (rows.min(), rows.max()) == pytest.approx((60, 89), abs=1)
    assert (columns.min(), columns.max()) == pytest.approx((60, 89), abs=1)


def test_a_painting_as_svg_looks_like_its_raster(chain: Path, tmp_path: Path) -> None:
    model = OnnxPainter(chain / "exports/actor.onnx", "cpu", threads=1)
    rng = np.random.default_rng(0)
    values = rng.random((60, 13), dtype=np.float32)
    frames = np.repeat(np.array([[0, 0, 1, 1], [0.25, 0, 0.5, 0.5]], np.float32), 30, 0)
    path = tmp_path / "painting.svg"
    write_svg(path, model, Strokes(frames, values), 90, 120)
    *_, canvas = draw_strokes(model, Strokes(frames, values), 90, 120)
    drawn = _rendered(path.read_text(encoding="utf-8"))
    assert drawn.shape == canvas.shape and canvas.std() > 0.1
    assert np.abs(drawn - canvas).mean() < 0.03
    root = ElementTree.parse(path).getroot()
    assert root.attrib["viewBox"] == "0 0 120 90"
    assert len(root.findall("{*}g")) == 2, "neighbours in one frame share a group"
    assert 50 <= len(root.findall("{*}g/{*}path")) <= 60


def test_a_painting_without_strokes_is_black(tmp_path: Path) -> None:
    nothing = Strokes(np.zeros((0, 4), np.float32), np.zeros((0, 7), np.float32))
    document = "\n".join(svg_lines(Vectors(get_family("circle")), nothing, 20, 30))
    assert _rendered(document).shape == (3, 20, 30) and _rendered(document).max() == 0


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    nothing = Strokes(np.zeros((0, 4), np.float32), np.zeros((0, 7), np.float32))
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match="choose another place"):
        write_svg(tmp_path / "file" / "x.svg", Vectors(get_family("circle")), nothing, 20, 30)
