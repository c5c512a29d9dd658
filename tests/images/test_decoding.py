"""Every mode and value range that a picture can have, by the decoder that painting and preparation share."""

import ast
import io
import struct
import sys
import types
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL
import pytest
from PIL import Image, ImageCms, features

from lpaint.data.decode import decode
from lpaint.errors import DataError, ImageError
from lpaint.images import decoding
from lpaint.images.decoding import FORMATS, UndecodableError, flatten, open_picture, to_unit
from lpaint.images.suffixes import READABLE
from lpaint.painting.io.image import from_pillow, read_picture
from tests.helpers.pictures import encoded

ROOT = Path(__file__).parents[2]
GREY16 = np.array([[0, 1000, 32768, 65535]], np.uint16)


def both(content: bytes, folder: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Colours [H, W, 3] in 0..255 and alpha, as painting reads them; the preparation must see the same colours."""
    path = folder / "picture"
    path.write_bytes(content)
    picture = read_picture(path)
    colour = picture.colour.transpose(1, 2, 0) * 255
    prepared = decode(content, 4096)
    assert prepared.image.mode == "RGB"
    np.testing.assert_allclose(np.asarray(prepared.image, np.float32), colour, atol=0.501)
    return colour, picture.alpha


def png(depth: int, colour_type: int, row: bytes, width: int, key: tuple[int, ...] = ()) -> bytes:
    """A PNG of one row, with a transparent colour ``key``: Pillow cannot write most of them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour_type, 0, 0, 0))
    transparent = chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)) if key else b""
    return (
        b"\x89PNG\r\n\x1a\n" + header + transparent + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    )


Order = Literal["<", ">"]


def tiff(
    values: np.ndarray, order: Order, sample_format: int, bits: int, photometric: int = 1, raw: bytes = b""
) -> bytes:
    """A grey TIFF of any number format and byte order ("<" or ">")."""
    height, width = values.shape
    data = raw or values.astype(values.dtype.newbyteorder(order)).tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height, 279: len(data)}
    tags[339] = sample_format
    fields = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    start = 8 + len(data) + len(data) % 2
    mark = b"II" if order == "<" else b"MM"
    directory = struct.pack(f"{order}H", len(tags)) + fields + bytes(4)
    return mark + struct.pack(f"{order}HI", 42, start) + data + bytes(len(data) % 2) + directory


ORANGE = (255, 128, 0)
CLEAR = (255, 127, 127)  # Half transparent red on white.


def _pa() -> Image.Image:
    image = Image.new("PA", (3, 2), (1, 128))
    image.putpalette([0, 0, 255, 255, 0, 0])
    return image


# Mode, its bytes or picture, and the colour that it is, in 0..255.
MODES: list[tuple[str, Any, tuple[float, ...]]] = [
    ("1", Image.new("1", (3, 2), 1), (255,) * 3),
    ("L", Image.new("L", (3, 2), 77), (77,) * 3),
    ("P", Image.new("RGB", (3, 2), ORANGE).quantize(4), ORANGE),
    ("RGB", Image.new("RGB", (3, 2), ORANGE), ORANGE),
    ("RGBX", Image.new("RGBX", (3, 2), (*ORANGE, 0)), ORANGE),
    ("LA", Image.new("LA", (3, 2), (0, 128)), (127,) * 3),
    ("La", Image.new("LA", (3, 2), (0, 128)).convert("La"), (127,) * 3),
    ("PA", _pa(), CLEAR),
    ("RGBA", Image.new("RGBA", (3, 2), (255, 0, 0, 128)), CLEAR),
    ("RGBa", Image.new("RGBA", (3, 2), (255, 0, 0, 128)).convert("RGBa"), CLEAR),
    ("CMYK", Image.new("CMYK", (3, 2), (0, 127, 255, 0)), ORANGE),
    ("YCbCr", Image.new("RGB", (3, 2), ORANGE).convert("YCbCr"), ORANGE),
    ("HSV", Image.new("RGB", (3, 2), ORANGE).convert("HSV"), ORANGE),
    ("LAB", Image.new("LAB", (3, 2), (138, 208, 195)), (251, 9, 11)),
    ("I", Image.new("I", (3, 2), 32768), (127.5,) * 3),
    ("I;16", Image.new("I;16", (3, 2), 32768), (127.5,) * 3),
    ("I;16L", Image.new("I;16L", (3, 2), 32768), (127.5,) * 3),
    ("I;16B", Image.new("I;16B", (3, 2), 32768), (127.5,) * 3),
    ("I;16N", Image.new("I;16N", (3, 2), 32768), (127.5,) * 3),
    ("F", Image.new("F", (3, 2), 0.25), (63.75,) * 3),
]


@pytest.mark.parametrize(("mode", "image", "expected"), MODES, ids=[mode for mode, *_ in MODES])
def test_every_mode_of_pillow(mode: str, image: Image.Image, expected: tuple[float, ...]) -> None:
    assert image.mode == mode
    colour = from_pillow(image).colour * 255
    assert colour.shape == (3, 2, 3) and colour.dtype == np.float32
    np.testing.assert_allclose(colour, np.broadcast_to(np.reshape(expected, (3, 1, 1)), (3, 2, 3)), atol=2)


def test_every_mode_is_documented() -> None:
    documented = decoding.__doc__ or ""
    for mode, *_ in MODES:
        assert f" {mode}," in documented or f" {mode} " in documented, f"{mode} is not in the table of the module"


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGB", "SGI"), ("1", "PNG"), ("L", "PNG"), ("L", "PPM"), ("P", "GIF"), ("LA", "PNG"), ("RGBA", "PNG"),
     ("CMYK", "TIFF"), ("YCbCr", "TIFF"), ("LAB", "TIFF"), ("I", "TIFF"), ("I;16", "PNG"), ("I;16B", "TIFF"),
     ("F", "TIFF"), ("RGB", "AVIF"), ("RGB", "WEBP"), ("RGB", "JPEG2000"), ("RGB", "QOI"),
     ("RGB", "TGA"), ("RGB", "PCX")],
)  # fmt: skip
def test_modes_in_files(mode: str, kind: str, tmp_path: Path) -> None:
    image, expected = next((image, colour) for name, image, colour in MODES if name == mode)
    if (mode, kind) == ("YCbCr", "TIFF") and int(PIL.__version__.split(".")[0]) < 13:
        pytest.skip("Pillow before 13 cannot read its own uncompressed YCbCr TIFF")
    if kind in ("AVIF", "PCX"):
        image = image.resize((32, 32))
    colour, _ = both(encoded(image, kind), tmp_path)
    np.testing.assert_allclose(colour.reshape(-1, 3)[0], expected, atol=4)


def test_palettes_with_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    colour, alpha = both(encoded(image, "PNG", transparency=bytes([0, 128, 255])), tmp_path)
    np.testing.assert_allclose(colour[0], [[255, 255, 255], [127, 255, 127], [0, 0, 255]], atol=1)
    assert alpha is not None
    np.testing.assert_allclose(alpha[0] * 255, [0, 128, 255], atol=0.1)
    colour, alpha = both(encoded(image, "PNG", transparency=1), tmp_path)
    np.testing.assert_allclose(colour[0], [[255, 0, 0], [255, 255, 255], [0, 0, 255]], atol=1)


@pytest.mark.parametrize(
    ("content", "grey", "opaque"),
    [
        (png(1, 0, b"\x40", 2, (0,)), [255, 255], [0, 1]),
        (png(1, 0, b"\x40", 2, (1,)), [0, 255], [1, 0]),
        (png(2, 0, b"\x1b", 4, (2,)), [0, 85, 255, 255], [1, 1, 0, 1]),
        (png(4, 0, b"\x0c", 2, (12,)), [0, 255], [1, 0]),
        (png(8, 0, b"\x00\x50", 2, (0,)), [255, 80], [0, 1]),
        (png(8, 2, bytes([1, 2, 3, 80, 80, 80]), 2, (1, 2, 3)), [255, 80], [0, 1]),
        (png(16, 0, GREY16.astype(">u2").tobytes(), 4, (1000,)), [0, 255, 127.5, 255], [1, 0, 1, 1]),
        (png(16, 2, struct.pack(">6H", 900, 2000, 3000, 20560, 20560, 20560), 2, (900, 2000, 3000)), [255, 80], [0, 1]),
        (png(16, 2, struct.pack(">6H", 0, 0, 5, 20560, 20560, 20560), 2, (0, 0, 5)), [255, 80], [0, 1]),
        (png(16, 4, struct.pack(">4H", 1000, 0, 20560, 65535), 2), [255, 80], [0, 1]),
    ],
    ids=["1 black", "1 white", "2 bits", "4 bits", "L", "RGB", "I;16", "RGB of 16 bits", "small RGB of 16", "LA of 16"],
)
def test_png_with_one_transparent_colour(
    content: bytes, grey: list[float], opaque: list[float], tmp_path: Path
) -> None:
    colour, alpha = both(content, tmp_path)
    np.testing.assert_allclose(colour[0], np.repeat(np.array(grey)[:, None], 3, 1), atol=0.51)
    assert alpha is not None and alpha[0].tolist() == opaque


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("values", "sample_format", "white"),
    [
        (GREY16, 1, 65535),
        (np.array([[-5, 0, 16384, 32767]], np.int16), 2, 32767),
        (np.array([[-5, 0, 32768, 65535]], np.int32), 2, 65535),
        (np.array([[0, 70_000, 1_000_000]], np.int32), 2, 1_000_000),
        (np.array([[0, 0.25, 1]], np.float32), 3, 1),
        (np.array([[-0.1, 0.5, 1.4]], np.float32), 3, 1),
        (np.array([[0, 64, 255]], np.float32), 3, 255),
        (np.array([[-7, 128, 262]], np.float32), 3, 255),
        (np.array([[0, 1000, 65535]], np.float32), 3, 65535),
        (np.array([[0, 1000, 70_000]], np.float32), 3, 65535),
        (np.array([[0, 1e5, 1e6]], np.float32), 3, 1e6),
        (np.array([[np.nan, 128, np.inf, -np.inf]], np.float32), 3, 255),
        (np.zeros((1, 3), np.float32), 3, 1),
    ],
)
def test_deep_grey(values: np.ndarray, sample_format: int, white: float, order: Order, tmp_path: Path) -> None:
    expected = np.clip(np.nan_to_num(values / white, nan=0, posinf=1, neginf=0), 0, 1) * 255
    colour, alpha = both(tiff(values, order, sample_format, values.dtype.itemsize * 8), tmp_path)
    assert alpha is None
    np.testing.assert_allclose(colour[0], np.repeat(expected.T, 3, 1), atol=0.01)


def test_deep_grey_of_odd_tiffs(tmp_path: Path) -> None:
    inverted = both(tiff(GREY16, "<", 1, 16, photometric=0), tmp_path)[0]
    np.testing.assert_allclose(inverted[0, :, 0], 255 - GREY16[0] / 257, atol=0.01)
    unsigned = both(tiff(np.array([[0, 2**31, 2**32 - 1]], np.uint32), "<", 1, 32), tmp_path)[0]
    np.testing.assert_allclose(unsigned[0, :, 0], [0, 127.5, 255], atol=0.01)
    twelve = both(tiff(np.zeros((1, 2), np.uint16), "<", 1, 12, raw=bytes([0x80, 0x0F, 0xFF])), tmp_path)[0]
    np.testing.assert_allclose(twelve[0, :, 0], [2048 / 4095 * 255, 255], atol=0.2)


def test_deep_pgm(tmp_path: Path) -> None:
    content = b"P5 3 1 1023\n" + np.array([0, 512, 1023], ">u2").tobytes()
    np.testing.assert_allclose(both(content, tmp_path)[0][0, :, 0], [0, 512 / 1023 * 255, 255], atol=0.1)


def test_cmyk_of_adobe_is_inverted(tmp_path: Path) -> None:
    content = encoded(Image.new("CMYK", (16, 16), (0, 127, 255, 0)), "JPEG", quality=95)
    assert b"Adobe" in content
    np.testing.assert_allclose(both(content, tmp_path)[0][8, 8], ORANGE, atol=6)


def _swapped() -> bytes:
    """An sRGB profile whose red and green are swapped."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    places = {bytes(profile[at : at + 4]): at for at in range(132, 132 + 12 * profile[131], 12)}
    red, green = places[b"rXYZ"], places[b"gXYZ"]
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_profiles_are_converted_in_preparation_too(mode: str, tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 4), (255, 0, 0)).convert(mode)
    if mode == "RGBA":
        image.putalpha(128)
    colour, alpha = both(encoded(image, "PNG", icc_profile=_swapped()), tmp_path)
    assert colour[0, 0, 1] > 230 and colour[0, 0, 0] < (140 if mode == "RGBA" else 50)
    assert (alpha is not None) == (mode == "RGBA")
    assert both(encoded(image, "PNG", icc_profile=b"no profile"), tmp_path)[0][0, 0, 0] > 250


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16", "I", "F", "CMYK"])
def test_orientation_is_applied_in_every_mode(mode: str, tmp_path: Path) -> None:
    kind = "TIFF" if mode in ("I", "F", "CMYK") else "PNG"
    image = Image.new("L", (4, 2), 0)
    image.putpixel((0, 0), 255)
    white = {"I;16": 65535, "I": 65535, "F": 1.0}.get(mode)
    if white is None:
        image = image.convert(mode)
    else:
        image = Image.fromarray((np.asarray(image) / 255 * white).astype({"I;16": "u2", "I": "i4", "F": "f4"}[mode]))
    assert image.mode == mode
    exif = Image.Exif()
    exif[0x0112] = 6
    colour, _ = both(encoded(image, kind, exif=exif), tmp_path)
    assert colour.shape == (4, 2, 3) and colour[0, 1].min() > 250 and colour.sum() < 256 * 3


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([False, True]), [0, 1]),
        (np.array([0, 51], np.uint8), [0, 0.2]),
        (np.array([0, 257 * 51], np.uint16), [0, 0.2]),
        (np.array([0, 51], np.int64), [0, 0.2]),
        (np.array([0, 65535], np.int32), [0, 1]),
        (np.array([0, 51, 255], np.float64), [0, 0.2, 1]),
        (np.array([0, 0.2, 1], np.float16), [0, 0.2, 1]),
    ],
)
def test_arrays_of_numbers(values: np.ndarray, expected: list[float]) -> None:
    assert to_unit(values).dtype == np.float32
    np.testing.assert_allclose(to_unit(values), expected, atol=1e-3)


def test_pictures_are_opened_in_one_place_with_a_list_of_formats() -> None:
    found = set()
    for path in [*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "stages").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Image.open", "PIL.Image.open"):
                assert "formats" in {keyword.arg for keyword in node.keywords}, f"{path}: names no formats"
                found.add(path.name)
    assert found == {"decoding.py"}
    assert not {"EPS", "PS", "WMF", "PSD", "HDF5", "GRIB", "BUFR"} & set(FORMATS)


def test_ghostscript_is_never_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import EpsImagePlugin

    def never(*_: object, **__: object) -> None:
        raise AssertionError("Ghostscript was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", never)
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n"
    for name in ("picture.eps", "picture.png"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match="is not an image that can be read; give a PNG"):
            read_picture(tmp_path / name)
    with pytest.raises(DataError, match="is not an image"):
        decode(content, 16)


# --- files that are cut off -------------------------------------------------------------------------------------------


def _picture() -> Image.Image:
    rows, columns = np.mgrid[0:200, 0:300]
    waves = 128 + 60 * np.sin(columns / 9) * np.cos(rows / 7)
    return Image.fromarray(np.stack([columns / 300 * 200 + 20, rows + 20, waves], 2).astype(np.uint8))


CUT = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("BMP", {}),
    ("TIFF", {}),
    ("PPM", {}),
    ("TGA", {}),
    ("PCX", {}),
]


@pytest.mark.parametrize("as_stream", [False, True], ids=["file", "stream"])
@pytest.mark.parametrize(("kind", "options"), CUT, ids=lambda value: str(value))
def test_the_last_rows_may_be_missing(kind: str, options: dict[str, Any], as_stream: bool, tmp_path: Path) -> None:
    content = encoded(_picture(), kind, **options)
    cut = content[: int(len(content) * 0.8)]
    path = tmp_path / "picture"
    path.write_bytes(cut)
    with pytest.raises(UndecodableError, match="is cut off: the file ends before its picture does"):
        open_picture(io.BytesIO(cut) if as_stream else path, strict=True)
    opened = open_picture(io.BytesIO(cut) if as_stream else path)
    assert opened.size == opened.image.size == (300, 200)
    colour, _ = flatten(opened.image)
    error = np.abs(np.asarray(colour, float) - np.asarray(_picture(), float)).mean((1, 2))
    assert (error < 6).mean() > 0.7, "the rows that are there are not right"
    if options:
        assert opened.flaw == "is cut off: its end is missing"
    else:
        missing = int(opened.flaw.split()[3])
        assert 20 <= missing <= 60 and opened.flaw.endswith("of its 200 rows are missing or incomplete")
        assert (error > 6).sum() <= missing + 20


def test_a_jpeg_without_its_end_marker_is_whole(tmp_path: Path) -> None:
    for options in ({}, {"progressive": True}):
        content = encoded(_picture(), "JPEG", quality=95, **options)
        path = tmp_path / "picture.jpg"
        path.write_bytes(content[:-2])
        picture = read_picture(path)
        assert picture.flaw == "is cut off: its end is missing"
        path.write_bytes(content)
        whole = read_picture(path)
        assert whole.flaw == "" and (picture.colour == whole.colour).all()
        # In the preparation it stays a bad one.
        with pytest.raises(DataError, match="is cut off"):
            decode(content[:-2], 300)


def _flaw(content: bytes) -> str:
    return open_picture(io.BytesIO(content)).flaw


def _ending_in(shade: int, first: int) -> np.ndarray:
    """A picture of 100 x 100 of which the rows from ``first`` on have one shade of grey."""
    pixels = np.asarray(_picture())[:100, :100].copy()
    pixels[first:] = shade
    return pixels


# Filler of a decoder, and shades that pictures really end in.
@pytest.mark.parametrize("shade", [0, 255])
@pytest.mark.parametrize("less", [10, 20])
@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PPM"])
def test_black_and_white_rows_are_not_missing_ones(kind: str, less: int, shade: int) -> None:
    picture = Image.fromarray(_ending_in(shade, first=40))
    assert _flaw(encoded(picture, kind)[:-less]) == "is cut off: 1 of its 100 rows is missing or incomplete"


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_an_all_black_bmp_lacks_its_last_row_only(mode: str) -> None:
    content = encoded(Image.new("RGB", (128, 100)).convert(mode), "BMP")
    assert _flaw(content[:-2]) == "is cut off: 1 of its 100 rows is missing or incomplete"
    # 40 of the rows of a file end 40 rows and a byte before it does.
    row = (len(content) - int.from_bytes(content[10:14], "little")) // 100
    assert _flaw(content[: -39 * row - 1]) == "is cut off: 40 of its 100 rows are missing or incomplete"
    with pytest.raises(UndecodableError, match="60 of its 100 rows are missing or incomplete"):
        _flaw(content[: -59 * row - 1])


@pytest.mark.parametrize("mode", ["I;16", "F", "CMYK", "LAB"])
def test_missing_rows_of_every_kind_of_pixels_are_counted(mode: str) -> None:
    content = encoded(Image.new(mode, (100, 100)), "TIFF")
    assert _flaw(content[:-1]) == "is cut off: 1 of its 100 rows is missing or incomplete"


def test_pixels_that_are_no_numbers_are_there() -> None:
    content = encoded(Image.fromarray(np.full((100, 100), np.nan, np.float32)), "TIFF")
    assert _flaw(content[:-1]) == "is cut off: 1 of its 100 rows is missing or incomplete"


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"restart_marker_blocks": 1}, {"restart_marker_blocks": 5}],
    ids=lambda value: str(value),
)
@pytest.mark.parametrize("shade", [127, 128])
def test_grey_rows_of_a_jpeg_are_not_missing_ones(shade: int, options: dict[str, Any]) -> None:
    content = encoded(Image.fromarray(_ending_in(shade, first=30)), "JPEG", **options)
    assert open_picture(io.BytesIO(content)).flaw == ""
    for less in (1, 2):
        opened = open_picture(io.BytesIO(content[:-less]))
        assert opened.flaw in ("", "is cut off: its end is missing")
        assert (np.asarray(opened.image) == np.asarray(Image.open(io.BytesIO(content)))).all()


def test_a_progressive_jpeg_may_end_anywhere_after_its_first_scan() -> None:
    content = encoded(_picture(), "JPEG", progressive=True)
    second = [place for place in range(len(content)) if content[place : place + 2] == b"\xff\xda"][1]
    for length in range(second, len(content), 5):
        # It may end within the tables between two scans.
        assert _flaw(content[:length]) in ("", "is cut off: its end is missing")


@pytest.mark.parametrize("options", [{}, {"restart_marker_blocks": 1}, {"restart_marker_blocks": 5}], ids=str)
def test_every_missing_row_of_a_jpeg_is_counted(options: dict[str, Any]) -> None:
    content = encoded(Image.fromarray(_ending_in(128, first=100)), "JPEG", **options)
    whole = np.asarray(Image.open(io.BytesIO(content)), int)
    for length in range(len(content) // 2, len(content) - 2, 7):
        try:
            opened = open_picture(io.BytesIO(content[:length]))
        except UndecodableError as error:
            assert int(str(error).split()[3]) > 50
            continue
        counted = 0 if opened.flaw.endswith("end is missing") else int(opened.flaw.split()[3])
        differ = np.flatnonzero(np.abs(np.asarray(opened.image) - whole).max((1, 2)))
        # A block of 16 rows more or less: colours are smoothed beyond the edge of a block.
        assert abs(counted - (100 - differ[0] if len(differ) else 0)) <= 16


@pytest.mark.parametrize(("kind", "options"), CUT, ids=lambda value: str(value))
@pytest.mark.parametrize("share", [0.05, 0.3])
def test_too_little_is_no_picture(kind: str, options: dict[str, Any], share: float, tmp_path: Path) -> None:
    content = encoded(_picture(), kind, **options)
    path = tmp_path / "picture"
    path.write_bytes(content[: int(len(content) * share)])
    if options and share > 0.1:
        assert read_picture(path).flaw == "is cut off: its end is missing"
        return
    with pytest.raises(ImageError, match=r"get a whole copy|is not an image"):
        read_picture(path)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "AVIF", "JPEG2000"])
def test_formats_that_are_all_or_nothing_are_refused(kind: str, tmp_path: Path) -> None:
    content = encoded(_picture(), kind)
    path = tmp_path / "picture"
    path.write_bytes(content[: int(len(content) * 0.8)])
    with pytest.raises(ImageError, match=r"get a whole copy|is not an image"):
        read_picture(path)


# --- AVIF and HEIC ----------------------------------------------------------------------------------------------------


def test_avif_is_read(tmp_path: Path) -> None:
    image = Image.new("RGBA", (32, 24), (255, 0, 0, 255))
    image.paste((0, 0, 255, 0), (0, 0, 16, 24))
    colour, alpha = both(encoded(image, "AVIF", quality=95), tmp_path)
    assert colour.shape == (24, 32, 3) and colour[12, 26, 0] > 245 and colour[12, 26, 2] < 12
    assert alpha is not None and alpha[12, 4] < 0.05 and colour[12, 4].min() > 240


def test_without_avif_one_sentence_says_which_pillow_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(_picture(), "AVIF")
    monkeypatch.setattr(decoding, "FORMATS", tuple(name for name in FORMATS if name != "AVIF"))
    monkeypatch.setattr(features, "check", lambda _: False)
    (tmp_path / "picture.avif").write_bytes(content)
    with pytest.raises(ImageError, match=r"AVIF picture.*install Pillow 11\.3 or later"):
        read_picture(tmp_path / "picture.avif")


@pytest.fixture()
def forgotten() -> Any:
    """Whether pillow-heif is there is asked anew, and what a test says is forgotten."""
    decoding._heif_is_read.cache_clear()
    yield
    decoding._heif_is_read.cache_clear()
    Image.OPEN.pop("HEIF", None)
    Image.ID[:] = [name for name in Image.ID if name != "HEIF"]


HEIC = struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic"


def test_without_pillow_heif_one_sentence_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: None
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "picture.heic").write_bytes(HEIC)
    with pytest.raises(ImageError) as caught:
        read_picture(tmp_path / "picture.heic")
    assert str(caught.value) == (
        f"{tmp_path}/picture.heic: is a HEIC picture, which needs the package pillow-heif; "
        "install it by pip install 'lpaint[heic]', or save the picture as JPEG"
    )
    with pytest.raises(DataError, match="is a HEIC picture, which needs the package pillow-heif"):
        decode(HEIC, 16)


def test_pillow_heif_is_used_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: None
) -> None:
    from PIL import ImageFile

    class Heif(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self) -> None:
            self._size, self._mode, self.tile = (3, 2), "RGB", []
            self.im = Image.new("RGB", (3, 2), ORANGE).im

    plugin = types.ModuleType("pillow_heif")
    plugin.register_heif_opener = lambda: Image.register_open("HEIF", Heif)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    np.testing.assert_allclose(both(HEIC, tmp_path)[0][0, 0], ORANGE)


def test_heic_is_read(tmp_path: Path, forgotten: None) -> None:
    heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    heif.from_pillow(Image.new("RGB", (64, 48), ORANGE)).save(stream, quality=95)
    np.testing.assert_allclose(both(stream.getvalue(), tmp_path)[0][20, 20], ORANGE, atol=8)


def test_every_suffix_that_is_taken_for_a_picture_can_be_decoded() -> None:
    Image.init()
    kinds = {suffix for suffix, kind in Image.EXTENSION.items() if kind in {*FORMATS, "MPO"}} | {".heic", ".heif"}
    assert kinds >= READABLE.keys()
    # What Pillow reads as well but what more often means something else.
    assert kinds - READABLE.keys() <= {".rgb", ".rgba", ".bw"}
