"""Reading every kind of picture, and writing whole files or none."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lpaint.errors import ImageError, ParamsError
from lpaint.painting.image import check_writable, read_image, write_image

HALF = 128 / 255


def _saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("rgb.png", Image.new("RGB", (3, 2), (255, 128, 0)), (1, HALF, 0)),
        ("grey.png", Image.new("L", (3, 2), 128), (HALF,) * 3),
        ("bits.png", Image.new("1", (3, 2), 1), (1, 1, 1)),
        ("palette.gif", Image.new("RGB", (3, 2), (255, 128, 0)).quantize(4), (1, HALF, 0)),
        ("cmyk.tif", Image.new("CMYK", (3, 2), (0, 127, 255, 0)), (1, HALF, 0)),
        ("sixteen.png", Image.fromarray(np.full((2, 3), 32768, np.uint16)), (0.5,) * 3),
        ("float.tif", Image.fromarray(np.full((2, 3), 0.25, np.float32)), (0.25,) * 3),
        ("clear.png", Image.new("RGBA", (3, 2), (0, 0, 0, 0)), (1, 1, 1)),
        ("half.png", Image.new("RGBA", (3, 2), (255, 0, 0, 128)), (1, 127 / 255, 127 / 255)),
        ("grey-alpha.png", Image.new("LA", (3, 2), (0, 0)), (1, 1, 1)),
    ],
)
def test_modes(tmp_path: Path, name: str, image: Image.Image, expected: tuple[float, ...]) -> None:
    pixels = read_image(_saved(tmp_path / name, image))
    assert pixels.shape == (3, 2, 3) and pixels.dtype == np.float32
    np.testing.assert_allclose(pixels.mean((1, 2)), expected, atol=0.01)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 2))
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # Shown turned by 90 degrees clockwise: the top left pixel comes to the top right.
    pixels = read_image(_saved(tmp_path / "turned.png", image, exif=exif))
    assert pixels.shape == (3, 4, 2)
    assert pixels[0, 0, 1] == 1 and pixels.sum() == 3


def _bad(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / f"{kind}.jpg"
    if kind == "text":
        path.write_text("this is a letter, not a picture")
    elif kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "truncated":
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:-600])
    return path


@pytest.mark.parametrize("kind", ["missing", "text", "empty", "folder", "truncated"])
def test_unreadable_pictures_are_one_sentence(tmp_path: Path, kind: str) -> None:
    path = _bad(tmp_path, kind)
    with pytest.raises(ImageError) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message and ";" in message


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_written_picture_reads_back(tmp_path: Path, suffix: str) -> None:
    picture = np.tile(np.linspace(-0.2, 1.2, 32, dtype=np.float32), (3, 32, 1))
    write_image(tmp_path / f"out{suffix}", picture)
    back = read_image(tmp_path / f"out{suffix}")
    assert np.abs(back - picture.clip(0, 1)).mean() < (0.005 if suffix == ".png" else 0.02)
    assert [path.name for path in tmp_path.iterdir()] == [f"out{suffix}"]


def test_outputs_that_cannot_be_are_refused_beforehand(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"cannot write \.bmp; use \.png"):
        check_writable(tmp_path / "x.bmp")
    with pytest.raises(ImageError, match="does not exist; make it first"):
        check_writable(tmp_path / "nowhere" / "x.png")
