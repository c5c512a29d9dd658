"""Metrics with values worked out by hand, and sheets and plots."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lpaint.metrics import gmsd, l2, ms_ssim, psnr, reward, ssim
from lpaint.plots import save_curves, save_image, sheet, to_uint8_hwc


def _flat(*values: float, side: int = 8) -> np.ndarray:
    """One flat grey picture a value: [len(values), 3, side, side]."""
    return np.stack([np.full((3, side, side), value, np.float32) for value in values])


def test_l2_is_the_mean_over_pixels_and_channels_of_each_picture() -> None:
    canvas, target = _flat(0, 0, 0), _flat(0, 0.5, 1)
    target[0, 1, 0, 0] = 1  # one channel of one of 64 pixels
    assert l2(canvas, target) == pytest.approx([1 / (3 * 64), 0.25, 1])


def test_psnr_is_20_db_at_a_tenth_off_and_capped_at_100() -> None:
    assert psnr(_flat(0.5, 0.25, 0.3), _flat(0.6, 0.75, 0.3)) == pytest.approx([20, 6.0206, 100], abs=1e-3)


def test_reward_is_the_share_of_the_black_canvas_error_that_is_gone() -> None:
    target = _flat(0.8, 0.8, 0.8, 0.4)
    canvas = _flat(0.0, 0.4, 0.8, 1.0)
    assert reward(canvas, target) == pytest.approx([0, 0.75, 1, 1 - 0.36 / 0.16], abs=1e-5)


def test_reward_of_a_black_picture_is_finite() -> None:
    assert reward(_flat(0, 0.5), _flat(0, 0)).tolist() == [1, 0]


def test_ssim_of_flat_pictures_is_the_luminance_term() -> None:
    mine, theirs, c1 = 0.2, 0.6, 0.01**2
    expected = (2 * mine * theirs + c1) / (mine**2 + theirs**2 + c1)
    assert ssim(_flat(mine, theirs), _flat(theirs, theirs)) == pytest.approx([expected, 1], abs=1e-5)


def test_ssim_falls_when_structure_is_lost_at_equal_l2() -> None:
    rng = np.random.default_rng(0)
    target = rng.random((1, 3, 32, 32), np.float32) * 0.5 + 0.25
    noise = np.where(rng.random(target.shape) < 0.5, -0.1, 0.1).astype(np.float32)
    shifted, noisy = target + 0.1, target + noise
    assert l2(shifted, target) == pytest.approx(l2(noisy, target), rel=1e-4)
    assert ssim(shifted, target)[0] > ssim(noisy, target)[0] + 0.05


def test_sheet_puts_pictures_in_rows_with_white_between() -> None:
    black, grey = _flat(0, 0.5, side=2)
    picture = sheet([[black, grey], [grey]], scale=2, gap=1)
    assert picture.shape == (11, 11, 3) and picture.dtype == np.uint8
    assert (picture[1:5, 1:5] == 0).all() and (picture[1:5, 6:10] == 128).all()
    assert (picture[6:10, 1:5] == 128).all() and (picture[6:10, 6:10] == 255).all()
    assert (picture[0] == 255).all() and (picture[:, 5] == 255).all()


def test_captions_stand_above_their_column_and_leave_the_pictures_alone() -> None:
    black, grey = _flat(0, 0.5, side=40)
    plain, titled = sheet([[black, grey]]), sheet([[black, grey]], captions=["", "a caption wider than its column"])
    assert (titled[16:] == plain).all()
    assert (titled[:16, :44] == 255).all() and (titled[:16, 44:84] < 128).any() and (titled[:16, 84:] == 255).all()


def test_bytes_are_rounded_and_clipped() -> None:
    assert to_uint8_hwc(np.array([-1, 0.5, 2], np.float32).reshape(3, 1, 1)).tolist() == [[[0, 128, 255]]]


def test_images_and_plots_are_whole_files(tmp_path: Path) -> None:
    save_image(tmp_path / "deep" / "image.png", np.full((3, 4, 3), 7, np.uint8))
    series = {"a": ([1, 10, 100], [1.0, 0.1, 0.01]), "b": ([1, 10], [2.0, 3.0])}
    save_curves(
        tmp_path / "curve.png", "t", "x", "y", series, log_x=True, log_y=True, bands={"c": ([1, 2], [1, 1], [2, 2])}
    )
    assert (np.asarray(Image.open(tmp_path / "deep" / "image.png")) == 7).all()
    assert Image.open(tmp_path / "curve.png").size[0] > 400
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve.png", "deep"]


def _distorted() -> tuple[np.ndarray, np.ndarray]:
    """Two pictures of noise; of their copies, the contrast is less and some rows are upside down."""
    target = np.random.default_rng(0).random((2, 3, 32, 40))
    canvas = target * 0.7 + 0.1
    canvas[:, :, 8:20] = target[:, :, 8:20][..., ::-1]
    return canvas, target


def test_gmsd_is_that_of_another_implementation() -> None:
    # Figures of piq 0.8.0 (gmsd, data_range 1) for the same pictures.
    assert gmsd(*_distorted()) == pytest.approx([0.1330, 0.1235], abs=2e-3)
    target = _distorted()[1]
    assert gmsd(target, target) == pytest.approx([0, 0], abs=1e-12)


def test_ms_ssim_of_equal_pictures_is_one_and_falls_with_noise() -> None:
    target = np.random.default_rng(0).random((2, 3, 128, 128), np.float32)
    noise = np.random.default_rng(1).normal(0, 1, target.shape).astype(np.float32)
    values = [ms_ssim(np.clip(target + strength * noise, 0, 1), target).mean() for strength in (0, 0.05, 0.2)]
    assert values[0] == pytest.approx(1, abs=1e-5) and values[0] > values[1] > values[2] > 0


@pytest.mark.parametrize(("side", "scales"), [(11, 1), (32, 2), (64, 3), (128, 4), (256, 5)])
def test_ms_ssim_uses_as_many_scales_as_fit(side: int, scales: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, ...]] = []

    def spy(*_: object, betas: tuple[float, ...], **__: object) -> list[float]:
        seen.append(betas)
        return [1.0]

    monkeypatch.setattr("torchmetrics.functional.image.multiscale_structural_similarity_index_measure", spy)
    ms_ssim(*np.zeros((2, 1, 3, side, side), np.float32))
    assert len(seen[0]) == scales and sum(seen[0]) == pytest.approx(1)
