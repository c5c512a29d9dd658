"""`lpaint paint` on many files and in every format, and drawing its strokes files again."""

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import resvg_py
from PIL import Image

from lpaint.painting.onnx_model import describe, packaged_model
from tests.helpers.commands import heed_interrupts, listing


def _pixels(path: Path | str) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), np.float32) / 255


def test_one_painting_in_every_kind_of_file(lpaint, actor, picture) -> None:
    kinds = ("png", "jpg", "webp", "svg", "json", "mp4", "gif")
    named = [part for kind in kinds for part in ("-o", f"out.{kind}")]
    outcome = lpaint("paint", picture, "--onnx", actor, "--strokes", 30, *named, "--seconds", 1, "--fps", 10)
    assert outcome.code == 0 and outcome.out.count("30 strokes") == len(kinds)
    still = _pixels("out.png")
    assert np.abs(_pixels("out.jpg") - still).mean() < 0.02 and np.abs(_pixels("out.webp") - still).mean() < 0.02
    drawn = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(Path("out.svg").read_text()))))
    assert np.abs(np.asarray(drawn.convert("RGB"), np.float32) / 255 - still).mean() < 0.04
    # Ten frames and two seconds of the last: each opened by another program than wrote it.
    with av.open("out.mp4") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 30 and frames[0].max() < 30
    assert np.abs(frames[-1] / 255 - still).mean() < 0.04
    gif: Any = Image.open("out.gif")
    assert gif.n_frames == 30 and gif.info["duration"] == 100 and gif.info["loop"] == 0
    gif.seek(29)
    assert np.abs(np.asarray(gif.convert("RGB"), np.float32) / 255 - still).mean() < 0.05
    content = json.loads(Path("out.json").read_text())
    assert (content["format"], content["version"], content["family"]) == ("lpaint.strokes", 1, "bezier")
    assert len(content["strokes"]) == 30 and (content["width"], content["height"]) == (60, 40)


def test_webp_is_animated_only_with_animate(lpaint, actor, picture) -> None:
    options = ("--onnx", actor, "--strokes", 8)
    lpaint("paint", picture, *options, "-o", "still.webp")
    lpaint("paint", picture, *options, "-o", "animated.webp", "--animate", "--seconds", 1)
    still: Any = Image.open("still.webp")
    animated: Any = Image.open("animated.webp")
    assert still.n_frames == 1 < animated.n_frames


def test_strokes_are_rendered_again_at_any_size(lpaint, actor, picture) -> None:
    lpaint("paint", picture, "--onnx", actor, "--strokes", 30, "-o", "a.json", "-o", "a.png")
    assert lpaint("render", "a.json", "--onnx", actor, "-o", "same.png").out == "same.png: 30 strokes\n"
    assert np.abs(_pixels("same.png") - _pixels("a.png")).max() <= 2 / 255
    assert lpaint("render", "a.json", "--onnx", actor, "-o", "big.png", "--scale", 3).code == 0
    big = _pixels("big.png")
    assert big.shape == (120, 180, 3)
    assert np.abs(big.reshape(40, 3, 60, 3, 3).mean((1, 3)) - _pixels("a.png")).mean() < 0.01
    assert lpaint("render", "a.json", "--onnx", actor, "-o", "copy.json").code == 0
    assert json.loads(Path("copy.json").read_text()) == json.loads(Path("a.json").read_text())
    outcome = lpaint("animate", "a.json", "--onnx", actor, "--seconds", 1)
    assert outcome.code == 0 and outcome.err == ""
    with av.open("a.mp4") as container:
        assert sum(1 for _ in container.decode(video=0)) == 75
    assert "is no time-lapse" in lpaint("animate", "a.json", "-o", "a.png").sentence
    assert "is there already" in lpaint("render", "a.json", "--onnx", actor, "-o", "a.png").sentence


def test_replay_is_the_old_name_of_animate(lpaint, actor, picture) -> None:
    lpaint("paint", picture, "--onnx", actor, "--strokes", 3, "-o", "a.json")
    outcome = lpaint("replay", "a.json", "--onnx", actor, "-o", "a.gif", "--seconds", 1)
    assert outcome.code == 0 and outcome.out == "a.gif: 3 strokes\n"
    assert outcome.err == "warning: lpaint replay is now lpaint animate; the next release drops the old name\n"


def test_strokes_of_another_family_need_another_model(lpaint, actor, picture) -> None:
    lpaint("paint", picture, "--onnx", actor, "--strokes", 3, "-o", "a.json")
    content = json.loads(Path("a.json").read_text())
    Path("b.json").write_text(json.dumps(content | {"family": "circle"}))
    outcome = lpaint("render", "b.json", "--onnx", actor, "-o", "b.png")
    assert outcome.code == 3 and "of family circle" in outcome.sentence


def _changed(content: dict, **changes: object) -> dict:
    return {**content, **changes}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: [], '"format" is not'),
        (lambda c: _changed(c, version=2), '"version" is not 1'),
        (lambda c: _changed(c, width=0), '"width" and "height" must be'),
        (lambda c: {k: v for k, v in c.items() if k != "ground"}, "'ground' is missing"),
        (lambda c: _changed(c, strokes={}), '"strokes" is not a list'),
        (lambda c: _changed(c, strokes=[c["strokes"][0], {**c["strokes"][0], "shape": [0.5]}]), "different numbers"),
        (lambda c: _changed(c, strokes=[{**c["strokes"][0], "colour": [0, 0, 7]}]), "the colour of stroke 0"),
        (lambda c: _changed(c, strokes=[{**c["strokes"][0], "frame": [0, 0, 0, 1]}]), "has no area"),
        (lambda c: _changed(c, strokes=[{**c["strokes"][0], "frame": ["a", 0, 1, 1]}]), "is not 4 numbers"),
        (lambda c: _changed(c, strokes=[5]), "is no strokes file"),
    ],
)
def test_bad_strokes_files_are_one_sentence(lpaint, actor, picture, change, words) -> None:
    lpaint("paint", picture, "--onnx", actor, "--strokes", 3, "-o", "a.json")
    Path("bad.json").write_text(json.dumps(change(json.loads(Path("a.json").read_text()))))
    outcome = lpaint("render", "bad.json", "--onnx", actor, "-o", "b.png")
    assert outcome.code == 1 and words in outcome.sentence and not Path("b.png").exists()


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"format": NaN', "\xff"])
def test_files_that_are_no_json_are_one_sentence(lpaint, actor, text) -> None:
    Path("bad.json").write_text(text, encoding="latin-1")
    outcome = lpaint("render", "bad.json", "--onnx", actor, "-o", "b.png")
    assert outcome.code == 1 and "bad.json" in outcome.sentence


# Many files


@pytest.fixture
def album(picture: Path) -> Path:
    """A folder with three pictures, one of them deeper, a damaged one, and a text."""
    folder = picture.parent
    (folder / "deep").mkdir()
    Image.open(picture).save(folder / "deep" / "hill.jpg")
    Image.open(picture).save(folder / "-dash é.png")
    (folder / "broken.png").write_bytes(picture.read_bytes()[:60])
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_folders_are_painted_and_mirrored(lpaint, actor, album, tmp_path) -> None:
    options = ("--onnx", actor, "--strokes", 4, "--out-dir", "out")
    outcome = lpaint("paint", album, *options, "--recursive", "--format", "webp", "--format", "json")
    assert outcome.code == 1 and "broken.png" in outcome.err
    assert "1 of 4 pictures failed" in outcome.err
    stems = ("meadow", "deep/hill", "-dash é")
    assert listing(tmp_path / "out") == {f"{stem}.{kind}" for stem in stems for kind in ("webp", "json")}
    assert lpaint("paint", album, *options, "--fail-fast").code == 1
    assert listing(tmp_path / "out") >= {"-dash é.png"} and not (tmp_path / "out/meadow.png").exists()


def test_folders_need_an_out_dir_and_pictures(lpaint, actor, album, tmp_path) -> None:
    outcome = lpaint("paint", album, "--onnx", actor)
    assert outcome.code == 2 and "name it by --out-dir" in outcome.sentence
    (tmp_path / "none").mkdir()
    outcome = lpaint("paint", tmp_path / "none", "--onnx", actor, "--out-dir", "out")
    assert outcome.code == 5 and "holds no pictures; --recursive" in outcome.sentence


def test_nothing_is_overwritten_without_overwrite(lpaint, actor, picture) -> None:
    options = ("paint", picture, "--onnx", actor, "--strokes", 4)
    Path("meadow.painted.png").write_bytes(b"precious")
    outcome = lpaint(*options)
    assert outcome.code == 1 and "is there already; say --overwrite or --skip-existing" in outcome.sentence
    outcome = lpaint(*options, "--skip-existing")
    assert outcome.code == 0 and "is painted already" in outcome.out
    assert Path("meadow.painted.png").read_bytes() == b"precious"
    assert lpaint(*options, "--overwrite").code == 0 and Image.open("meadow.painted.png").size == (60, 40)


def test_the_summary_is_json(lpaint, actor, album) -> None:
    outcome = lpaint("paint", album, "--onnx", actor, "--strokes", 4, "--out-dir", "out", "--json")
    summary = json.loads(outcome.out)
    assert outcome.code == 1 and len(summary["painted"]) == 2 and not summary["skipped"]
    assert summary["failed"][0]["input"].endswith("broken.png") and "is cut off" in summary["failed"][0]["error"]
    painted = summary["painted"][0]
    assert painted["outputs"] == ["out/-dash é.png"] and painted["strokes"] == 4
    assert (painted["width"], painted["height"]) == (60, 40) and painted["seconds"] > 0


def test_quiet_and_verbose(lpaint, actor, picture) -> None:
    outcome = lpaint("paint", picture, "--onnx", actor, "--strokes", 4, "-q")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    outcome = lpaint("paint", picture, "--onnx", actor, "--strokes", 4, "-v", "--size", "30", "-o", "v.png")
    assert outcome.out.startswith("v.png: 4 strokes, 30 x 20, ")


def test_sizes(lpaint, actor, picture) -> None:
    for arguments, size in (
        (("--size", "30"), (30, 20)),
        (("--size", "30x40"), (30, 40)),
        (("--scale", "1.5"), (90, 60)),
    ):
        assert (
            lpaint("paint", picture, "--onnx", actor, "--strokes", 4, *arguments, "-o", "s.png", "--overwrite").code
            == 0
        )
        assert Image.open("s.png").size == size
    outcome = lpaint("paint", picture, "--onnx", actor, "--scale", "1000")
    assert outcome.code == 1 and "60000 x 40000 pixels is too large" in outcome.sentence


def test_transparency_is_kept_if_asked_for(lpaint, actor, tmp_path) -> None:
    pixels = np.zeros((20, 30, 4), np.uint8)
    pixels[5:15, 5:25] = (200, 40, 40, 255)
    Image.fromarray(pixels).save("badge.png")
    options = ("paint", "badge.png", "--onnx", actor, "--strokes", 10)
    lpaint(*options, "--alpha", "keep", "-o", "kept.png")
    kept = np.asarray(Image.open("kept.png"))
    assert kept.shape == (20, 30, 4) and (kept[..., 3] == pixels[..., 3]).all()
    lpaint(*options, "--background", "#0000ff", "-o", "flat.png")
    flat = np.asarray(Image.open("flat.png"))
    assert flat.shape == (20, 30, 3) and flat[0, 0, 2] > 200 > 60 > flat[0, 0, 0]


def test_standard_input_and_output(actor, picture, tmp_path) -> None:
    call = [sys.executable, "-c", "from lpaint.cli import main; main()", "paint", "-", "--onnx", str(actor)]
    options = ["--strokes", "5", "--device", "cpu"]

    def run(content: bytes, *more: str) -> subprocess.CompletedProcess[bytes]:
        command = [*call, *options, *more]
        return subprocess.run(command, input=content, capture_output=True, cwd=tmp_path, check=False)

    done = run(picture.read_bytes())
    assert done.returncode == 0 and Image.open(io.BytesIO(done.stdout)).size == (60, 40)
    assert done.stderr == b"-: 5 strokes\n"
    done = run(b"no picture")
    assert done.returncode == 1 and done.stdout == b"" and b"error: standard input: is not an image" in done.stderr
    done = subprocess.run(
        [*call, *options, "--format", "svg", "-q"],
        input=picture.read_bytes(),
        capture_output=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.stdout.startswith(b"<svg") and done.stderr == b""


def test_read_only_folders_are_one_sentence(lpaint, actor, picture, tmp_path, monkeypatch) -> None:
    # Root may write anywhere, so the system's refusal is made.
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image.Image, "save", refuse)
    outcome = lpaint("paint", picture, "--onnx", actor, "--strokes", 4)
    assert outcome.code == 1 and "cannot be written (Permission denied)" in outcome.sentence
    assert listing(tmp_path) == {"in/meadow.png"}


def test_a_full_disk_leaves_nothing_half_written(lpaint, actor, picture, tmp_path, monkeypatch) -> None:
    def fill(self: Path, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lpaint.painting.io.strokefile.json.dumps", fill)
    outcome = lpaint("paint", picture, "--onnx", actor, "--strokes", 4, "-o", "a.json")
    assert outcome.code == 1 and "No space left on device" in outcome.sentence
    assert listing(tmp_path) == {"in/meadow.png"}


@pytest.mark.pipeline
def test_doctor_finds_what_is_wrong(lpaint, actor, tmp_path, monkeypatch) -> None:
    outcome = lpaint("doctor", "--onnx", actor)
    assert outcome.code == 0 and "PROBLEM" not in outcome.out and "paints bezier strokes" in outcome.out
    outcome = lpaint("doctor", "--onnx", "nowhere.onnx")
    assert outcome.code == 1 and "PROBLEM  model: nowhere.onnx: there is no such model" in outcome.out
    monkeypatch.setattr("lpaint.doctor._version", lambda name: "1.0")
    outcome = lpaint("doctor", "--onnx", actor)
    assert outcome.code == 1 and "are both installed and overwrite each other" in outcome.out


def test_doctor_finds_locks_that_a_killed_dvc_left(lpaint, actor, tmp_path) -> None:
    locks = tmp_path / ".dvc/tmp/rwlock"
    locks.parent.mkdir(parents=True)
    locks.touch()
    outcome = lpaint("doctor", "--onnx", actor)
    assert outcome.code == 1 and "PROBLEM  DVC: .dvc/tmp/rwlock was cut short" in outcome.out
    locks.write_text("{}")
    assert lpaint("doctor", "--onnx", actor).code == 0


def test_the_packaged_painter_is_the_default(lpaint, picture) -> None:
    outcome = lpaint("paint", picture, "--strokes", 20, "--device", "cpu")
    assert outcome.code == 0 and outcome.out == "meadow.painted.png: 20 strokes\n"
    painted, target = _pixels("meadow.painted.png"), _pixels(picture)
    assert np.square(painted - target).mean() < 0.3 * np.square(target).mean()


def test_ctrl_c_leaves_nothing_half_written(actor, tmp_path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    call = [sys.executable, "-c", "from lpaint.cli import main; main()", "paint", "noise.png", "--onnx", str(actor)]
    call += ["--strokes", "100000"]
    running = subprocess.Popen(call, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts)
    assert running.stderr is not None
    # It says where it computes once the model is loaded, and then paints for minutes.
    first = running.stderr.readline()
    time.sleep(0.5)
    running.send_signal(signal.SIGINT)
    try:
        _, rest = running.communicate(timeout=60)
    finally:
        running.kill()
    assert first.startswith("painting on the ") and running.returncode == 130
    assert "Traceback" not in rest
    assert listing(tmp_path) == {"noise.png"}


def test_the_packaged_painter_is_small_and_described() -> None:
    path = packaged_model()
    facts = describe(path)
    assert facts["bytes"] <= 12_000_000 and facts["family"] == "bezier" and facts["data_source"] == "synthetic"
    assert "free of any data set's licence" in facts["licence"]
    assert "free of any data set's licence" in (path.parent / "MODEL_CARD.md").read_text(encoding="utf-8")
