"""`from lpaint import Painter`."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import lpaint
from lpaint import Painter
from lpaint.errors import ImageError, ModelError, ParamsError


@pytest.fixture(scope="module")
def painter(actor: Path) -> Painter:
    return Painter(actor, device="cpu", threads=1)


def _ramp() -> np.ndarray:
    rows = np.linspace(0, 1, 20, dtype=np.float32)
    return np.stack([np.tile(rows[:, None], 30), np.full((20, 30), 0.5), np.full((20, 30), 0.2)], 2)


def test_arrays_images_and_paths_are_the_same_picture(painter: Painter, tmp_path: Path) -> None:
    pixels = np.round(_ramp() * 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "ramp.png")
    pictures = (pixels, _ramp(), Image.fromarray(pixels), tmp_path / "ramp.png", str(tmp_path / "ramp.png"))
    paintings = [painter.paint(picture, strokes=6).pixels() for picture in pictures]
    assert paintings[0].shape == (20, 30, 3) and paintings[0].dtype == np.uint8
    assert all((painting == paintings[0]).all() for painting in paintings)
    assert painter.paint(_ramp()[..., 0], strokes=3).pixels().shape == (20, 30, 3)


def test_arrays_of_other_numbers_have_their_own_white(painter: Painter) -> None:
    pixels = np.round(_ramp() * 255).astype(np.uint8)
    expected = painter.paint(pixels, strokes=6).pixels()
    for same in (pixels.astype(np.int64), pixels.astype(np.float32), pixels.astype(np.uint16) * 257):
        assert (painter.paint(same, strokes=6).pixels() == expected).all(), same.dtype


def test_a_file_that_is_cut_off_is_warned_of_or_refused(painter: Painter, tmp_path: Path) -> None:
    path = tmp_path / "ramp.jpg"
    Image.fromarray(np.round(_ramp() * 255).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.warns(UserWarning, match=r"ramp\.jpg: is cut off: its end is missing; it is painted as far as it goes"):
        painter.paint(path, strokes=3)
    with pytest.raises(ImageError, match="get a whole copy"):
        painter.paint(path, strokes=3, strict=True)


def test_an_artwork_can_be_watched_and_drawn_at_any_size(painter: Painter) -> None:
    artwork = painter.paint(_ramp(), strokes=9)
    assert artwork.size == (30, 20) and len(artwork) == len(artwork.strokes) == 9
    seen = [(canvas.copy(), stroke) for canvas, stroke in artwork.watch(width=60)]
    assert [stroke for _, stroke in seen] == artwork.strokes
    assert seen[0][0].shape == (3, 40, 60)
    assert len(seen[0][1].shape) == 10 and len(seen[0][1].colour) == 3
    np.testing.assert_allclose(seen[-1][0].transpose(1, 2, 0) * 255, artwork.pixels(height=40), atol=1)
    assert artwork.pixels(7, 5).shape == (5, 7, 3)
    with pytest.raises(ParamsError, match="both sides must be at least 1"):
        artwork.pixels(0, 5)


def test_an_artwork_is_saved_and_loaded(painter: Painter, tmp_path: Path) -> None:
    artwork = painter.paint(_ramp(), strokes=9, size=(45, 30))
    artwork.save(tmp_path / "a.json", tmp_path / "a.png")
    again = painter.load(tmp_path / "a.json")
    assert again.size == (45, 30) and np.abs(again.pixels().astype(int) - artwork.pixels()).max() <= 2
    assert Image.open(tmp_path / "a.png").size == (45, 30)
    with pytest.raises(ParamsError, match=r"cannot write \.pdf"):
        artwork.save(tmp_path / "a.pdf")


def test_what_is_no_picture_is_refused(painter: Painter) -> None:
    for bad in (np.zeros((2, 3, 5)), np.zeros((0, 4, 3)), np.zeros(7)):
        with pytest.raises(ImageError, match="is no picture"):
            painter.paint(bad)
    with pytest.raises(ImageError, match="NaN or infinite"):
        painter.paint(np.full((4, 4, 3), np.nan))
    with pytest.raises(ParamsError, match="at least 1"):
        painter.paint(_ramp(), strokes=0)
    with pytest.raises(ModelError, match="there is no such model"):
        Painter("nowhere.onnx")
    with pytest.raises(AttributeError, match="no attribute 'Brush'"):
        _ = lpaint.Brush


def test_the_examples_of_the_docs_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    text = (Path(__file__).parents[1] / "docs/python.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)).replace("width=6000", "width=60")
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.round(_ramp() * 255).astype(np.uint8)).save("photo.jpg")
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["large"].shape == (40, 60, 3) and Path("after_10.png").exists() and Path("photo.mp4").exists()
    assert len(capsys.readouterr().out.splitlines()) == len(names["artwork"])


def test_ground_is_the_deprecated_name_of_background(painter: Painter) -> None:
    colour = (1.0, 0.5, 0.0)
    with pytest.warns(DeprecationWarning, match=r"ground=\.\.\.\) is called background= now; the next release removes"):
        old = painter.paint(_ramp(), strokes=3, ground=colour)
    assert (old.pixels() == painter.paint(_ramp(), strokes=3, background=colour).pixels()).all()
    assert (old.pixels() != painter.paint(_ramp(), strokes=3).pixels()).any()
