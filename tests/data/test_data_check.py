"""``lpaint data check``: what a path holds, what is wrong with it, and the exit code."""

import json
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from lpaint.data import inspection
from tests.helpers.pictures import celeba_zip, jpeg, write_mnist, write_svhn, write_zip


def _classes(root: Path) -> Path:
    for name in ("train/a", "train/b", "val/a"):
        (root / name).mkdir(parents=True)
        for i in range(4):
            (root / name / f"{i}.JPEG").write_bytes(jpeg(i, 40 + i, 30))
    (root / "notes.txt").touch()
    (root / "broken.jpg").symlink_to("nowhere")
    return root


def test_every_kind_is_recognised(lpaint, tmp_path: Path) -> None:
    official = [1, 2, 162771, 182638]
    folder = tmp_path / "celeba"
    folder.mkdir()
    for i in official:
        (folder / f"{i:06d}.jpg").write_bytes(jpeg(0))
    cases = {
        write_mnist(tmp_path / "mnist"): ("mnist", "mnist", 16, {"train": 12, "test": 4}),
        write_svhn(tmp_path / "svhn"): ("svhn", "svhn", 16, {"train": 12, "test": 4}),
        _classes(tmp_path / "classes"): ("folder", "imagenet", 12, {"train": 8, "validation": 4}),
        celeba_zip(tmp_path / "a.zip", official): ("celeba", "faces-cpu", 4, {"train": 2, "validation": 1, "test": 1}),
        folder: ("celeba", "faces-cpu", 4, {"train": 2, "validation": 1, "test": 1}),
    }
    for path, (source, profile, images, splits) in cases.items():
        outcome = lpaint("data", "check", path, "--json")
        found = json.loads(outcome.out)
        assert outcome.code == 0 and found["usable"] and not found["problems"], found
        assert (found["source"], found["profile"], found["images"], found["splits"]) == (
            source,
            profile,
            images,
            splits,
        )
        assert found["examined"] == images and found["seconds"] > 0 and found["packed_bytes"] > 0
        assert found["profile"] in {path.stem for path in (Path(__file__).parents[2] / "profiles").glob("*.yaml")}


def test_the_text_says_how_to_use_it_and_what_to_know(lpaint, tmp_path: Path) -> None:
    outcome = lpaint("data", "check", _classes(tmp_path / "classes"))
    assert outcome.code == 0 and outcome.err == ""
    for words in (
        "usable",
        "a folder of images in 3 subfolders",
        "train 8, validation 4",
        "smallest 40 x 30, largest 43 x 30",
        "1 links lead nowhere, such as broken.jpg",
        "1 files are no images by their suffix",
        "lpaint profile apply imagenet; then in params.yaml data.source: folder",
    ):
        assert words in outcome.out, words


def test_damage_is_counted_in_a_sample_or_in_all(lpaint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "_SAMPLE", 10)
    entries = {f"{i:03d}.jpg": jpeg(i)[: 300 if i == 7 else None] for i in range(200)}
    write_zip(tmp_path / "a.zip", entries)
    sample = json.loads(lpaint("data", "check", "a.zip", "--json").out)
    assert (sample["examined"], sample["bad"]) == (10, {})
    whole = json.loads(lpaint("data", "check", "a.zip", "--json", "--all").out)
    assert whole["examined"] == 200 and list(whole["bad"]) == ["007.jpg"] and whole["usable"], "one of 200 is allowed"
    entries["008.jpg"] = entries["009.jpg"] = b"no picture"
    write_zip(tmp_path / "a.zip", entries)
    outcome = lpaint("data", "check", "a.zip", "--all")
    assert outcome.code == 5 and "1.5% of the examined images cannot be read" in outcome.out
    assert "008.jpg" in outcome.out and "is not an image" in outcome.out


def test_all_goes_through_worker_processes_where_there_are_many(
    lpaint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "_MAX_SINGLE_PROCESS", 100)
    monkeypatch.setattr("lpaint.data.inspection.os.cpu_count", lambda: 2)
    write_zip(tmp_path / "a.zip", {f"{i:03d}.jpg": jpeg(i)[: 300 if i == 150 else None] for i in range(160)})
    found = json.loads(lpaint("data", "check", "a.zip", "--json", "--all").out)
    assert found["examined"] == 160 and list(found["bad"]) == ["150.jpg"]


def test_unsafe_entries_of_an_archive_are_reported(lpaint, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        for name in ("1.jpg", "2.jpg", "3.jpg", "3.jpg", "../4.jpg"):
            archive.writestr(name, jpeg(0))
    outcome = lpaint("data", "check", "a.zip")
    assert outcome.code == 5 and "25.0% of the examined images cannot be read" in outcome.out
    assert "1 names come twice, such as 3.jpg" in outcome.out
    assert "1 entries are never read; the first, ../4.jpg, its name leads out of the archive" in outcome.out


def test_missing_images_of_celeba_are_counted(lpaint, tmp_path: Path) -> None:
    outcome = lpaint("data", "check", celeba_zip(tmp_path / "a.zip", [1, 162771, 182638]))
    assert outcome.code == 0 and "202,596 of CelebA's 202,599 images are not there" in outcome.out


def test_what_cannot_be_used_is_exit_code_5_and_one_sentence(lpaint, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "near").mkdir()
    write_mnist(tmp_path / "near" / "MNIST" / "raw")
    (tmp_path / "text.zip").write_text("no archive")
    (tmp_path / "text.txt").write_text("no archive")
    (tmp_path / "images.tar").touch()
    Image.new("RGB", (4, 4)).save(tmp_path / "one.png")
    (write_mnist(tmp_path / "part") / "t10k-images-idx3-ubyte.gz").unlink()
    cut = write_mnist(tmp_path / "cut") / "train-images-idx3-ubyte.gz"
    cut.write_bytes(cut.read_bytes()[:-40])
    few = write_zip(tmp_path / "few.zip", {"1.jpg": jpeg(0), "2.jpg": jpeg(0)})
    for path, words in (
        ("nowhere", "there is no such file or folder"),
        ("empty", "holds no images"),
        ("near", "perhaps you mean near/MNIST/raw"),
        ("text.zip", "is no readable zip archive"),
        ("text.txt", "is no folder and no zip archive"),
        ("images.tar", "unpack it and give the folder"),
        ("one.png", "give the folder that holds it"),
        ("part", "has no t10k-images-idx3-ubyte"),
        ("cut", "is damaged (Compressed file ended"),
        (few, "only 2 images, too few"),
    ):
        outcome = lpaint("data", "check", path)
        assert outcome.code == 5 and words in outcome.out and outcome.err == "", outcome
        found = json.loads(lpaint("data", "check", path, "--json").out)
        assert not found["usable"] and len(found["problems"]) == 1 and "\n" not in found["problems"][0]


def test_arrays_in_folders_of_their_own_names_are_recognised_or_named(lpaint, tmp_path: Path) -> None:
    root = write_mnist(tmp_path / "deep" / "raw")
    for path in list(root.iterdir()):
        content = path.read_bytes()
        path.unlink()
        path.mkdir()
        (path / path.name).write_bytes(content)
    found = json.loads(lpaint("data", "check", root, "--json").out)
    assert found["usable"] and found["source"] == "mnist" and found["images"] == 16
    outcome = lpaint("data", "check", tmp_path / "deep")
    assert outcome.code == 5 and f"perhaps you mean {root}" in outcome.out
    for path in root.iterdir():
        if path.name.startswith(("t10k", "train-labels")):
            (path / path.name).unlink()
    outcome = lpaint("data", "check", root)
    assert outcome.code == 5 and "has no train-labels-idx1-ubyte" in outcome.out and "perhaps" not in outcome.out


def test_a_lack_of_room_is_a_problem(lpaint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr("lpaint.data.inspection.shutil.disk_usage", lambda _: usage)
    outcome = lpaint("data", "check", celeba_zip(tmp_path / "a.zip", range(1, 9)))
    assert outcome.code == 5 and "but the disk has 0.0 GiB free" in outcome.out
