"""Pixel art: exact counts of cells and colours, crisp edges, palettes from files."""

import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lpaint.errors import ImageError, ParamsError
from lpaint.painting.io import pixelart
from lpaint.painting.io.pixelart import find_palette, oklab, pixel_art, read_palette


def _painting(height: int = 90, width: int = 120) -> np.ndarray:
    """Smooth colours: [3, height, width]."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    rows, columns = rows / height, columns / width
    return np.stack([rows, columns, (1 - rows) * columns])


def _colours(picture: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, picture.reshape(-1, 3).tolist()))


@pytest.mark.parametrize(("cells", "colours"), [(48, 16), (7, 3), (120, 64)])
def test_cells_and_colours_are_counted_exactly(cells: int, colours: int) -> None:
    art = pixel_art(_painting(), cells, colours, 360, 480)
    assert art.shape == (360, 480, 3) and art.dtype == np.uint8
    assert len(_colours(art)) == colours
    # Within a cell all is one colour; with 48 cells on 480 pixels a cell is 10 x 10.
    if cells == 48:
        blocks = art.reshape(36, 10, 48, 10, 3)
        assert (blocks == blocks[:, :1, :, :1]).all()
        assert (blocks[:, 0, 1:, 0] != blocks[:, 0, :-1, 0]).any()


def test_edges_fall_on_whole_pixels_of_any_size() -> None:
    art = pixel_art(_painting(), 7, 7, 75, 100)
    changes = (art[:, 1:] != art[:, :-1]).any((0, 2))
    assert changes.sum() <= 6 and set(np.flatnonzero(changes) + 1) <= {-(-100 * k // 7) for k in range(1, 7)}


def test_fewer_colours_than_asked_for_are_all_kept() -> None:
    flat = np.zeros((3, 20, 20), np.float32)
    flat[0, :, 10:] = 1
    assert _colours(pixel_art(flat, 10, 16, 20, 20)) == {(0, 0, 0), (255, 0, 0)}


def test_palette_is_found_where_the_colours_are() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[0.9, 0.1, 0.1], [0.1, 0.8, 0.2], [0.1, 0.2, 0.9]])
    pixels = np.concatenate([centre + rng.normal(0, 0.01, (100, 3)) for centre in centres]).clip(0, 1)
    found = find_palette(pixels, 3) / 255
    assert np.abs(found[:, None] - centres[None]).max(2).min(0).max() < 0.03
    assert np.array_equal(find_palette(pixels, 3), find_palette(pixels, 3))


def test_oklab_of_white_grey_and_blue() -> None:
    values = oklab(np.array([[1.0, 1, 1], [0, 0, 0], [0, 0, 1]]))
    np.testing.assert_allclose(values, np.array([[1, 0, 0], [0, 0, 0], [0.452, -0.032, -0.312]]), atol=2e-3)


def test_dithering_mixes_two_colours_to_the_grey_between() -> None:
    grey = np.full((3, 32, 32), 0.5, np.float32)
    palette = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
    plain, mixed = (pixel_art(grey, 32, palette, 32, 32, dither) for dither in (False, True))
    assert len(_colours(plain)) == 1 and len(_colours(mixed)) == 2
    assert mixed.mean() / 255 == pytest.approx(0.5, abs=0.02)


def test_palettes_are_read_from_files(tmp_path: Path) -> None:
    (tmp_path / "a.hex").write_text("ff0000\n#00FF00\n\n")
    (tmp_path / "b.gpl").write_text("GIMP Palette\nName: two\n#\n255 0 0 red\n  0 255 0\tgreen\n")
    for name in ("a.hex", "b.gpl"):
        assert read_palette(tmp_path / name).tolist() == [[0, 255, 0], [255, 0, 0]]
    (tmp_path / "c.hex").write_text("no colour\n")
    for name in ("c.hex", "missing.hex"):
        with pytest.raises(ImageError, match="palette"):
            read_palette(tmp_path / name)


def test_more_cells_than_pixels_is_an_error() -> None:
    with pytest.raises(ParamsError, match="ask for fewer cells or more --size"):
        pixel_art(_painting(), 200, 4, 90, 120)


def _noisy(height: int, width: int) -> np.ndarray:
    """A painting of more different colours than a palette is fitted to."""
    noise = np.random.default_rng(0).normal(0, 0.05, (3, height, width))
    return (_painting(height, width) + noise).clip(0, 1).astype(np.float32)


def _made(painting: np.ndarray, cells: int, palette: int, dither: bool = False) -> tuple[np.ndarray, float, float]:
    """Pixel art of a painting's own size, and the seconds of CPU and MiB that it took."""
    tracemalloc.start()
    began = time.process_time()
    _, height, width = painting.shape
    art = pixel_art(painting, cells, palette, height, width, dither)
    seconds, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return art, seconds, peak


@pytest.mark.parametrize("dither", [False, True])
def test_many_cells_take_seconds_and_little_memory(dither: bool) -> None:
    art, seconds, peak = _made(_noisy(400, 512), 512, 64, dither)
    assert len(_colours(art)) == 64
    # All distances at once would be 400 MiB; cell by cell, dithering takes 15 s.
    assert peak < 60 and seconds < 12
    assert np.array_equal(art, _made(_noisy(400, 512), 512, 64, dither)[0])


@pytest.mark.slow
@pytest.mark.parametrize("dither", [False, True])
def test_the_limits_of_cells_and_colours_take_seconds(dither: bool) -> None:
    art, seconds, peak = _made(_noisy(3072, 4096), 4096, 256, dither)
    assert len(_colours(art)) == 256 and peak < 1000 and seconds < 60


def test_a_palette_is_fitted_to_a_bounded_number_of_points(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = []
    fit = pixelart._k_means

    def count(points: np.ndarray, *rest: Any) -> np.ndarray:
        fitted.append(len(points))
        return fit(points, *rest)

    monkeypatch.setattr(pixelart, "_k_means", count)
    for height, width in ((40, 50), (400, 500)):
        find_palette(_noisy(height, width).reshape(3, -1).T, 8)
    assert 1900 < fitted[0] <= 2000 and 2000 < fitted[1] <= pixelart._MOST_POINTS


def test_a_palette_of_many_cells_is_as_good_and_keeps_a_rare_colour() -> None:
    cells = np.append(_noisy(300, 300).reshape(3, -1).T * [0.3, 1, 1], [[1, 0, 0]], 0)

    def error(palette: np.ndarray) -> float:
        distance = np.square(oklab(cells[::10])[:, None] - oklab(palette / 255)).sum(2)
        return float(distance.min(1).mean())

    found = find_palette(cells, 16)
    assert len(found) == 16 and [255, 0, 0] in found.tolist()
    assert error(found) < 1.1 * error(find_palette(cells[::10], 16))


def test_waves_dither_as_one_cell_after_the_other_does() -> None:
    art = pixel_art(_painting(20, 30), 30, 5, 20, 30, dither=True)
    palette = find_palette(_painting(20, 30).reshape(3, -1).T, 5)
    left = _painting(20, 30).transpose(1, 2, 0).astype(np.float64)
    for i in range(20):
        for j in range(30):
            colour = left[i, j].clip(0, 1)
            chosen = palette[np.square(oklab(colour) - oklab(palette / 255)).sum(1).argmin()]
            assert art[i, j].tolist() == chosen.tolist(), (i, j)
            error = colour - chosen / 255
            for down, right, share in ((0, 1, 7 / 16), (1, -1, 3 / 16), (1, 0, 5 / 16), (1, 1, 1 / 16)):
                if i + down < 20 and 0 <= j + right < 30:
                    left[i + down, j + right] += share * error
