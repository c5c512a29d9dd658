"""Packing pictures and reading them back."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lpaint.data.dataset import PreparedData
from lpaint.data.prepare import prepare
from lpaint.data.schema import check_manifest
from lpaint.errors import DataError
from lpaint.runtime.params import Params
from lpaint.tracking import NullTracker
from stages import prepare as stage
from stages import source as source_stage
from tests.helpers.pictures import celeba_zip, data_params, jpeg, mean_shade


def _folder(root: Path, count: int, bad: tuple[str, ...] = ()) -> Params:
    """``count`` grey pictures 00.jpg, 01.jpg, ... of shades 0, 5, 10, ..., and bad files."""
    pictures = root / "pictures"
    pictures.mkdir()
    for rank in range(count):
        (pictures / f"{rank:02d}.jpg").write_bytes(jpeg(5 * rank))
    for name in bad:
        (pictures / name).write_bytes(jpeg(0)[:200] if name.endswith("cut.jpg") else b"no picture")
    return data_params(source="folder", path=str(pictures))


def _allowing(params: Params, **data: float) -> Params:
    return params.model_copy(update={"data": params.data.model_copy(update=data)})


def test_packs_rows_in_the_order_of_names(tmp_path: Path) -> None:
    summary = prepare(_folder(tmp_path, 10), tmp_path / "out")
    data = PreparedData.load(tmp_path / "out")
    assert isinstance(data.images, np.memmap)
    assert data.images.dtype == np.uint8 and data.images.shape == (10, 16, 16, 3) and data.size == 16
    assert [mean_shade(image) for image in data.images] == pytest.approx([5 * rank for rank in range(10)], abs=1)
    assert data.names(np.array([3, 1])) == ["03.jpg", "01.jpg"]
    assert (data.manifest["width"] == 24).all() and (data.manifest["height"] == 20).all()
    assert data.digest == summary["digest"] and "seconds" not in summary
    assert Image.open(tmp_path / "out" / "preview.png").size == (9 * 16, 4 * 16)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "pictures"]


def test_corrupt_files_are_skipped_with_a_reason_and_counted(tmp_path: Path) -> None:
    params = _allowing(_folder(tmp_path, 8, bad=("03b.png", "04cut.jpg")), max_bad_fraction=0.2)
    summary = prepare(params, tmp_path / "out")
    data = PreparedData.load(tmp_path / "out")
    bad = data.manifest.loc[~data.manifest["ok"]]
    assert list(bad["name"]) == ["03b.png", "04cut.jpg"] and (bad["index"] == -1).all() and (bad["split"] == "").all()
    assert bad["reason"].iloc[0] == "is not an image that can be read"
    assert "0x" not in bad["reason"].iloc[1] and bad["reason"].iloc[1]
    assert len(data.images) == summary["images"] == 8 and summary["bad"] == 2
    assert [mean_shade(image) for image in data.images] == pytest.approx([5 * rank for rank in range(8)], abs=1)


def test_too_many_corrupt_files_fail_and_leave_what_was_there(tmp_path: Path) -> None:
    params = _folder(tmp_path, 8, bad=("03b.png",))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "before").touch()
    with pytest.raises(DataError, match=r"1 of 9 images cannot be read.*first is 03b\.png.*raise the fraction"):
        prepare(params, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["before"]
    assert not (tmp_path / "out.partial").exists()


def test_nothing_readable_fails_whatever_is_allowed(tmp_path: Path) -> None:
    params = _allowing(_folder(tmp_path, 0, bad=("a.png", "b.png")), max_bad_fraction=1.0)
    with pytest.raises(DataError, match="none of the 2 images"):
        prepare(params, tmp_path / "out")


def test_official_split_is_kept_and_a_part_falls_back(tmp_path: Path) -> None:
    whole = celeba_zip(tmp_path / "whole.zip", [1, 2, 3, 162771, 182638])
    prepare(data_params(source="celeba", path=str(whole)), tmp_path / "out")
    data = PreparedData.load(tmp_path / "out")
    assert [list(data.split(name)) for name in ("train", "validation", "test")] == [[0, 1, 2], [3], [4]]
    part = celeba_zip(tmp_path / "part.zip", range(1, 11))
    prepare(data_params(source="celeba", path=str(part), test_fraction=0.3), tmp_path / "out")
    data = PreparedData.load(tmp_path / "out")
    assert [len(data.split(name)) for name in ("train", "validation", "test")] == [6, 1, 3]


@pytest.mark.parametrize(("validation", "test"), [(0.0, 0.0), (0.6, 0.39), (0.98, 0.01)])
def test_every_split_has_an_image_and_none_is_shared(tmp_path: Path, validation: float, test: float) -> None:
    params = _allowing(_folder(tmp_path, 4), validation_fraction=validation, test_fraction=test)
    prepare(params, tmp_path / "out")
    data = PreparedData.load(tmp_path / "out")
    splits = [data.split(name) for name in ("train", "validation", "test")]
    assert all(len(rows) and rows.dtype == np.int64 for rows in splits)
    assert sorted(np.concatenate(splits)) == [0, 1, 2, 3]


def test_two_images_are_too_few(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only 2 readable images"):
        prepare(_folder(tmp_path, 2), tmp_path / "out")


def test_limit_takes_images_from_everywhere(tmp_path: Path) -> None:
    prepare(_allowing(_folder(tmp_path, 12), limit=4), tmp_path / "out")
    assert list(PreparedData.load(tmp_path / "out").manifest["name"]) == ["00.jpg", "03.jpg", "06.jpg", "09.jpg"]


def test_the_seed_decides_the_split_and_nothing_else_the_digest(tmp_path: Path) -> None:
    def digest(out: str, seed: int, workers: int) -> str:
        params = data_params(seed=seed, source="synthetic", limit=150, workers=workers)
        # The seed of the training has no say in what it is trained on.
        params = params.model_copy(update={"base": params.base.model_copy(update={"seed": workers})})
        return prepare(params, tmp_path / out)["digest"]

    first = digest("first", 0, 1)
    # 150 images are enough for worker processes to be started.
    assert digest("second", 0, 2) == first != digest("third", 1, 1)
    for name in ("images.npy", "manifest.parquet", "summary.json", "preview.png"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name


def test_schema_refuses_a_wrong_manifest() -> None:
    rows = {"index": [0, -1], "name": ["a", "b"], "split": ["train", ""], "ok": [True, False], "reason": ["", "bad"]}
    good = pd.DataFrame(rows | {"width": [4, 0], "height": [4, 0]})
    check_manifest(good, "here")
    wrong = [
        good.assign(split=["training", ""]),
        good.assign(name=["a", "a"]),
        good.assign(index=[-1, -1]),
        good.assign(ok=[True, True], index=[0, 0], reason=["", ""]),
        good.assign(reason=["", ""]),
        good.drop(columns="width"),
        good.assign(more=1),
    ]
    for table in wrong:
        with pytest.raises(DataError, match="here: the manifest is not as it should be"):
            check_manifest(table, "here")


def test_loading_what_is_missing_or_damaged_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"images\.npy.*dvc repro prepare"):
        PreparedData.load(tmp_path / "nowhere")
    params, out = _folder(tmp_path, 4), tmp_path / "out"

    def refused(name: str, content: bytes) -> None:
        prepare(params, out)
        (out / name).write_bytes(content)
        with pytest.raises(DataError, match=re.escape(str(out))) as caught:
            PreparedData.load(out)
        assert "dvc repro" in str(caught.value) and "\n" not in str(caught.value)

    for name in ("images.npy", "manifest.parquet", "summary.json"):
        refused(name, b"")
        refused(name, b"nonsense")
    prepare(params, out)
    fewer = out / "fewer.npy"
    np.save(fewer, np.load(out / "images.npy")[:2])
    refused("images.npy", fewer.read_bytes())


class _Recorder(NullTracker):
    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.images: list[str] = []
        self.tags: dict[str, str] = {}

    def log_metrics(self, metrics: dict[str, float], step: int = 0) -> None:
        self.metrics |= metrics

    def log_image(self, name: str, image: np.ndarray, step: int | None = None) -> None:
        assert image.dtype == np.uint8 and image.ndim == 3
        self.images.append(name)

    def set_tags(self, tags: dict[str, str]) -> None:
        self.tags |= tags


def test_stage_logs_counts_preview_and_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recorder = _Recorder()
    stage.run(_folder(tmp_path, 6), recorder)
    summary = json.loads((tmp_path / "data/prepared/summary.json").read_text())
    assert recorder.metrics["data/images"] == 6 and recorder.metrics["data/train"] == 4
    assert recorder.images == ["preview"] and recorder.tags["data.digest"] == summary["digest"]


def test_noted_digest_follows_the_archive(tmp_path: Path) -> None:
    out = tmp_path / "data" / "source.json"
    params = data_params(source="celeba", path=str(celeba_zip(tmp_path / "c.zip", [1, 2, 3])))
    source_stage.write_digest(params, out)
    first = out.read_text()
    source_stage.write_digest(params, out)
    assert out.read_text() == first
    celeba_zip(tmp_path / "c.zip", [1, 2, 3, 4])
    source_stage.write_digest(params, out)
    assert out.read_text() != first


def test_watched_folder_holds_one_link_to_the_archive_in_use(tmp_path: Path) -> None:
    folder = tmp_path / "watch"
    folder.mkdir()
    (folder / "README.md").write_text("stays")
    for name in ("a.zip", "b.zip"):
        archive = celeba_zip(tmp_path / name, [1])
        source_stage.link_files(data_params(source="celeba", path=str(archive)), folder)
        assert {path.name for path in folder.iterdir()} == {"README.md", name}
        assert (folder / name).resolve() == archive.resolve()
    archive.unlink()
    for params in (data_params(source="celeba", path=str(archive)), data_params(source="synthetic", limit=3)):
        source_stage.link_files(params, folder)
        assert [path.name for path in folder.iterdir()] == ["README.md"]
