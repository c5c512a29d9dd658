"""Reading every kind of picture, and writing whole files or none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from lpaint.errors import ImageError, ParamsError
from lpaint.painting.io.image import canvas_to_pixels, from_pillow, parse_colour, read_image, read_picture, write_image
from lpaint.painting.io.outputs import Saving, check_output

HALF = 128 / 255


def _saved(path: Path, image: Image.Image, **options: Any) -> Path:
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
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
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
        check_output(tmp_path / "x.bmp", Saving())
    with pytest.raises(ImageError, match="does not exist; make it first"):
        check_output(tmp_path / "nowhere" / "x.png", Saving())


def test_colour_profiles_are_converted_to_srgb(tmp_path: Path) -> None:
    # A profile whose red and green are swapped: what is stored as red is meant as green.
    primaries = ImageCms.createProfile("sRGB")
    swapped = bytearray(ImageCms.ImageCmsProfile(primaries).tobytes())
    places = {bytes(swapped[at : at + 4]): at for at in range(132, 132 + 12 * swapped[131], 12)}
    red, green = places[b"rXYZ"], places[b"gXYZ"]
    swapped[red : red + 4], swapped[green : green + 4] = b"gXYZ", b"rXYZ"
    image = Image.new("RGB", (4, 4), (255, 0, 0))
    pixels = read_image(_saved(tmp_path / "swapped.png", image, icc_profile=bytes(swapped))).mean((1, 2))
    assert pixels[1] > 0.9 > 0.2 > pixels[0]
    plain = read_image(_saved(tmp_path / "plain.png", image, icc_profile=ImageCms.ImageCmsProfile(primaries).tobytes()))
    np.testing.assert_allclose(plain.mean((1, 2)), [1, 0, 0], atol=0.01)
    damaged = read_image(_saved(tmp_path / "damaged.png", image, icc_profile=b"no profile"))
    np.testing.assert_allclose(damaged.mean((1, 2)), [1, 0, 0], atol=0.01)


def test_transparency_is_laid_on_the_matte_and_remembered(tmp_path: Path) -> None:
    image = Image.new("RGBA", (4, 2), (255, 0, 0, 51))
    picture = read_picture(_saved(tmp_path / "clear.png", image), matte=(0.0, 0.0, 1.0))
    np.testing.assert_allclose(picture.colour[:, 0, 0], [0.2, 0, 0.8], atol=0.005)
    assert picture.alpha is not None and picture.alpha.shape == (2, 4)
    np.testing.assert_allclose(picture.alpha, 0.2, atol=0.001)
    assert canvas_to_pixels(picture.colour, picture.alpha)[0, 0].tolist() == [51, 0, 204, 51]
    assert read_picture(_saved(tmp_path / "opaque.png", Image.new("RGBA", (2, 2), "red"))).alpha is None


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _saved(tmp_path / "large.png", Image.new("1", (300, 300)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    with pytest.raises(ImageError, match="has too many pixels to be safe"):
        read_image(path)


def test_colours_have_names_or_numbers() -> None:
    assert parse_colour("white") == (1, 1, 1) and parse_colour("#ff0033") == (1, 0, 0.2)
    with pytest.raises(ParamsError, match="'mud' is no colour"):
        parse_colour("mud")


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ImageError, match="nothing to paint"):
        from_pillow(Image.new("RGB", (0, 5)))


def test_large_pictures_are_averaged_down_as_they_are_read(tmp_path: Path) -> None:
    stripes = np.zeros((40, 80, 3), np.uint8)
    stripes[:, ::2] = 200
    path = _saved(tmp_path / "stripes.png", Image.fromarray(stripes))
    picture = read_picture(path, longest=20)
    assert picture.colour.shape == (3, 10, 20) and picture.size == (40, 80)
    np.testing.assert_allclose(picture.colour, 100 / 255, atol=0.003)
    assert read_picture(path, longest=80).colour.shape == (3, 40, 80)
    grey = _saved(tmp_path / "grey.png", Image.fromarray(np.full((40, 80), 32768, np.uint16)))
    np.testing.assert_allclose(read_picture(grey, longest=20).colour, np.full((3, 10, 20), 0.5), atol=0.001)
