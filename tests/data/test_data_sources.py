"""Decoding, sources and the synthetic generator."""

import pickle
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from lpaint.data import sources, synthetic
from lpaint.data.decode import decode, fit_to_square
from lpaint.data.sources import open_source
from lpaint.errors import DataError
from lpaint.runtime.params import Data, Params
from tests.helpers.pictures import celeba_zip, data_params, encoded, jpeg, mean_shade, write_zip


def source_fingerprint(params: Params) -> str:
    return open_source(params).fingerprint()


def test_every_source_of_the_parameters_is_registered() -> None:
    assert set(get_args(Data.model_fields["source"].annotation)) == {*sources._SOURCES, "synthetic"}


def test_cmyk_comes_out_in_its_own_colour() -> None:
    picture = decode(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95), 8)
    red, green, blue = np.asarray(picture.image)[4, 4]
    assert picture.image.mode == "RGB" and red > 200 and green < 60 and blue < 60


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (257 * 100, 100), (65535, 255)])
def test_sixteen_bits_are_scaled_not_clipped(value: int, expected: int) -> None:
    deep = Image.fromarray(np.full((8, 8), value, np.uint16))
    assert mean_shade(np.asarray(decode(encoded(deep, "PNG"), 8).image)) == expected


def test_floating_point_in_unit_range_is_scaled() -> None:
    image = Image.fromarray(np.full((8, 8), 0.5, np.float32))
    assert mean_shade(np.asarray(decode(encoded(image, "TIFF"), 8).image)) == 128


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_on_white(mode: str) -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0)).convert(mode)
    options = {"transparency": 0} if mode == "P" else {}
    assert mean_shade(np.asarray(decode(encoded(clear, "PNG", **options), 8).image)) == 255


def test_exif_orientation_turns_the_picture_and_its_size() -> None:
    image = Image.new("RGB", (40, 20), "black")
    image.paste("white", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # The top of the stored picture is its right side: turn it a quarter clockwise.
    picture = decode(encoded(image, "JPEG", exif=exif), 64)
    assert picture.image.size == (20, 40) == (picture.width, picture.height)
    pixels = np.asarray(picture.image)
    assert pixels[5].mean() > 200 and pixels[35].mean() < 50


def test_size_is_the_originals_though_a_large_jpeg_is_decoded_small() -> None:
    picture = decode(jpeg(90, 640, 480), 16)
    assert (picture.width, picture.height) == (640, 480)
    assert picture.image.width < 640 and min(picture.image.size) >= 32


def test_crop_takes_the_centre_and_stretch_takes_all() -> None:
    image = Image.new("RGB", (48, 16), "black")
    image.paste("white", (16, 0, 32, 16))
    assert fit_to_square(image, 16, "crop").min() == 255
    assert fit_to_square(image, 16, "stretch")[:, 0].max() < 50
    assert fit_to_square(image, 16, "stretch").shape == (16, 16, 3)


def test_folder_lists_subfolders_in_order_without_hidden_or_other_files(tmp_path: Path) -> None:
    for name in ("b/2.PNG", "a/1.jpeg", "a/.hidden.png", "__MACOSX/3.png", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert open_source(data_params(source="folder", path=str(tmp_path))).names() == ["a/1.jpeg", "b/2.PNG"]


def test_celeba_folder_and_archive_agree_on_the_official_split(tmp_path: Path) -> None:
    ids = [1, 162770, 162771, 182637, 182638, 202599]
    official = ["train", "train", "validation", "validation", "test", "test"]
    archive = open_source(data_params(source="celeba", path=str(celeba_zip(tmp_path / "c.zip", ids))))
    assert archive.splits(archive.names()) == official
    for i in ids:
        (tmp_path / f"{i:06d}.jpg").write_bytes(jpeg(0))
    folder = open_source(data_params(source="celeba", path=str(tmp_path)))
    assert folder.splits(folder.names()) == official


@pytest.mark.parametrize("ids", [[1, 2, 162771], [1, 162771, 182638, 202600]])
def test_no_official_split_of_a_part_or_of_other_ids(tmp_path: Path, ids: list[int]) -> None:
    source = open_source(data_params(source="celeba", path=str(celeba_zip(tmp_path / "c.zip", ids))))
    assert source.splits(source.names()) is None


def test_an_opened_archive_can_go_to_another_process(tmp_path: Path) -> None:
    source = open_source(data_params(source="celeba", path=str(celeba_zip(tmp_path / "c.zip", [1, 2]))))
    source.load(source.names()[1], 16)
    copy = pickle.loads(pickle.dumps(source))
    assert mean_shade(np.asarray(copy.load(copy.names()[1], 16).image)) == pytest.approx(10, abs=1)


def test_bad_paths_are_one_sentence(tmp_path: Path) -> None:
    text = tmp_path / "text.zip"
    text.write_text("not an archive")
    empty = write_zip(tmp_path / "empty.zip", {"readme.txt": b"", "__MACOSX/._1.jpg": b""})
    (tmp_path / "folder").mkdir()
    cases = [
        ("celeba", tmp_path / "missing.zip", "does not exist"),
        ("celeba", text, "no readable zip"),
        ("celeba", empty, "holds no images"),
        ("folder", tmp_path / "folder", "holds no images"),
        ("folder", text, "this is a file"),
    ]
    for source, path, message in cases:
        with pytest.raises(DataError, match=message) as caught:
            source_fingerprint(data_params(source=source, path=str(path)))
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_source_fingerprint_follows_the_archives_content_and_nothing_else(tmp_path: Path) -> None:
    first = source_fingerprint(data_params(source="celeba", path=str(celeba_zip(tmp_path / "a.zip", [1, 2]))))
    moved = source_fingerprint(data_params(source="celeba", path=str(celeba_zip(tmp_path / "b.zip", [1, 2]))))
    other = source_fingerprint(data_params(source="celeba", path=str(celeba_zip(tmp_path / "a.zip", [1, 3]))))
    repainted = write_zip(
        tmp_path / "a.zip", {"img_align_celeba/000001.jpg": jpeg(0), "img_align_celeba/000002.jpg": jpeg(200)}
    )
    changed = source_fingerprint(data_params(source="celeba", path=str(repainted)))
    assert first == moved
    assert len({first, other, changed}) == 3


def test_source_fingerprint_of_a_folder_follows_its_files(tmp_path: Path) -> None:
    params = data_params(source="folder", path=str(tmp_path))
    (tmp_path / "1.jpg").write_bytes(jpeg(0))
    first = source_fingerprint(params)
    assert source_fingerprint(params) == first
    (tmp_path / "2.jpg").write_bytes(jpeg(0))
    assert source_fingerprint(params) != first


def test_synthetic_pictures_depend_on_seed_and_index_alone() -> None:
    pictures = [np.asarray(synthetic.draw(seed, index, 32)) for seed, index in ((0, 0), (0, 1), (1, 0))]
    assert np.array_equal(pictures[0], np.asarray(synthetic.draw(0, 0, 32)))
    assert not any(np.array_equal(pictures[0], other) for other in pictures[1:])


def test_synthetic_pictures_are_varied_and_of_any_size() -> None:
    pictures = np.stack([np.asarray(synthetic.draw(3, index, 32)) for index in range(40)]).astype(np.float64)
    assert pictures.shape == (40, 32, 32, 3)
    assert pictures.std(axis=(1, 2, 3)).min() > 4, "a picture is nearly flat"
    assert pictures.mean(axis=(1, 2)).std(axis=0).min() > 25, "mean colours hardly vary"
    assert synthetic.draw(0, 5, 100).size == (100, 100)
