"""What `lpaint` makes of files: limits of formats, odd names, folders, interruptions, full and closed streams."""

import fcntl
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lpaint import Painter
from lpaint.errors import ImageError, ParamsError
from lpaint.painting import picture as painting_picture
from lpaint.painting.engine.types import Strokes
from lpaint.painting.io import outputs as painting_outputs
from lpaint.painting.io.formats import LONGEST_STROKES_SIDE, WRITABLE, check_size
from lpaint.painting.io.image import write_pixels
from lpaint.painting.io.pixelart import read_palette
from lpaint.painting.io.strokefile import read_strokes, write_strokes
from tests.helpers.commands import heed_interrupts, listing

FEW = ("--strokes", 3, "--device", "cpu", "--threads", 1)
CALL = [sys.executable, "-c", "from lpaint.cli import main; main()"]


def _wide(path: Path, width: int, height: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (200, 120, 40)).save(path)
    return path


@pytest.fixture
def paintings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int] | None]:
    """The sizes of the paintings that were begun."""
    begun: list[tuple[int, int] | None] = []
    paint = painting_picture.paint_picture

    def counted(model: Any, picture: Any, plan: Any, size: Any = None, on_progress: Any = None) -> Any:
        begun.append(size)
        return paint(model, picture, plan, size, on_progress)

    monkeypatch.setattr(painting_picture, "paint_picture", counted)
    return begun


# What a kind of file can hold


@pytest.mark.parametrize("suffix", [suffix for suffix, kind in WRITABLE.items() if kind.longest is not None])
def test_the_limits_of_formats_are_those_of_their_encoders(tmp_path: Path, suffix: str) -> None:
    longest = WRITABLE[suffix].longest
    assert longest is not None
    path = tmp_path / f"long{suffix}"

    def write(side: int) -> None:
        if suffix == ".json":
            nothing = Strokes(np.zeros((0, 4), np.float32), np.zeros((0, 13), np.float32), (0, 0, 0))
            write_strokes(path, "bezier", nothing, 1, side)
            read_strokes(path)
        else:
            write_pixels(path, np.zeros((1, side, 3), np.uint8))

    check_size("long", suffix, 1, longest)
    write(longest)
    for sides in ((1, longest + 1), (longest + 1, 1)):
        with pytest.raises(ImageError, match=f"holds at most {longest:,} pixels a side"):
            check_size("long", suffix, *sides)
    with pytest.raises(ImageError) as caught:
        write(longest + 1)
    assert "\n" not in str(caught.value) and listing(tmp_path) <= {path.name}


def test_a_painting_too_large_for_its_format_fails_alone_and_at_once(lpaint, tmp_path, paintings) -> None:
    wide, small = _wide(tmp_path / "in/a.png", 16_384), _wide(tmp_path / "in/b.png", 30)
    outcome = lpaint("paint", wide, small, *FEW, "--out-dir", "out", "--format", "png", "--format", "webp")
    assert outcome.code == 1 and "out/a.webp: WebP holds at most 16,383 pixels a side" in outcome.sentence
    assert paintings == [(2, 30)] and listing(tmp_path / "out") == {"b.png", "b.webp"}
    outcome = lpaint("paint", small, *FEW, "--size", "65501x2", "-o", "-", "--format", "jpg")
    assert outcome.code == 1 and "standard output: JPEG holds at most 65,500" in outcome.sentence
    assert len(paintings) == 1


def test_render_and_save_know_the_limits_too(lpaint, tmp_path, monkeypatch) -> None:
    lpaint("paint", _wide(tmp_path / "a.png", 30), *FEW, "-o", "a.json")
    drawn: list[Path] = []
    monkeypatch.setattr(painting_outputs, "save", lambda path, *_: drawn.append(path))
    for name, words in (("b.webp", "16,383"), ("b.jpg", "65,500"), ("b.json", "65,536")):
        outcome = lpaint("render", "a.json", "--size", "65537x2", "-o", "b.png", "-o", name)
        assert outcome.code == 1 and f"{words} pixels a side" in outcome.sentence and not drawn
    artwork = Painter(device="cpu", threads=1).paint(np.zeros((2, 30, 3)), strokes=2, size=(16_384, 2))
    with pytest.raises(ImageError, match="WebP holds at most"):
        artwork.save(tmp_path / "c.png", tmp_path / "c.webp")
    assert listing(tmp_path) == {"a.png", "a.json"}


def test_time_lapses_that_cannot_be_are_refused_before_painting(lpaint, tmp_path, paintings) -> None:
    picture = _wide(tmp_path / "a.png", 30)
    long = ("--fps", 120, "--seconds", 3600)
    outcome = lpaint("paint", picture, *FEW, *long, "-o", "a.gif")
    assert outcome.code == 2 and "at most 100,000 frames, not 432,000" in outcome.sentence and not paintings
    lpaint("paint", picture, *FEW, "-o", "a.json")
    assert "at most 100,000 frames" in lpaint("replay", "a.json", *long).sentence
    artwork = Painter(device="cpu", threads=1).load(tmp_path / "a.json")
    with pytest.raises(ParamsError, match="1 to 120 frames a second, not 0"):
        artwork.save(tmp_path / "a.mp4", fps=0)
    assert lpaint("paint", picture, *FEW, "--pixel-art", 31, "-o", "b.png").code == 1 and len(paintings) == 1


def test_any_failure_of_one_picture_leaves_the_others(lpaint, tmp_path, monkeypatch) -> None:
    pictures = [_wide(tmp_path / f"in/{name}.png", width) for name, width in (("a", 20), ("b", 21), ("c", 22))]
    paint = painting_picture.paint_picture
    errors = {20: RuntimeError("nobody foresaw this"), 21: MemoryError()}

    def failing(model: Any, picture: np.ndarray, *rest: Any) -> Any:
        if picture.shape[2] in errors:
            raise errors[picture.shape[2]]
        return paint(model, picture, *rest)

    monkeypatch.setattr(painting_picture, "paint_picture", failing)
    outcome = lpaint("paint", *pictures, *FEW, "--out-dir", "out")
    assert outcome.code == 70 and "RuntimeError: nobody foresaw this" in outcome.err
    assert "because of a bug in lpaint" in outcome.err and "needs more memory than there is" in outcome.err
    assert "2 of 3 pictures failed" in outcome.err and listing(tmp_path / "out") == {"c.png"}


# Names


@pytest.mark.parametrize("stem", ["a" * 247, "a" * 249, "a" * 251, "画" * 80, "\N{FAMILY}" * 62])
def test_long_names_fail_before_painting_and_alone(lpaint, tmp_path, paintings, stem) -> None:
    long, short = _wide(tmp_path / "in/x.png", 30), _wide(tmp_path / "in/b.png", 31)
    long = long.rename(long.with_name(f"{stem}.png"))
    fits = len(os.fsencode(f"{stem}.painted.png")) <= 255
    outcome = lpaint("paint", long, short, *FEW)
    assert outcome.code == (0 if fits else 1)
    if not fits:
        assert f"{stem}.painted.png: the name has" in outcome.sentence and "255 are the most" in outcome.sentence
    assert paintings == [(2, 30)] * fits + [(2, 31)] and Path("b.painted.png").exists()
    # Where the painting's name is as long as the picture's, it can be written.
    assert lpaint("paint", long, *FEW, "-o", f"{stem}.png").code == 0
    assert lpaint("paint", long, short, *FEW, "--out-dir", "out").code == 0
    fits = len(os.fsencode(f"{stem}.webp")) <= 255
    assert lpaint("paint", long, short, *FEW, "--out-dir", "out", "--format", "webp").code == (0 if fits else 1)
    assert listing(tmp_path / "out") >= {f"{stem}.png", "b.png", "b.webp"}


@pytest.mark.pipeline
def test_names_that_no_disk_takes_are_one_sentence(lpaint, tmp_path) -> None:
    picture, endless = _wide(tmp_path / "a.png", 30), "a" * 300
    lpaint("paint", picture, *FEW, "-o", "a.json")
    for arguments, code in (
        (("paint", f"{endless}.png", *FEW), 1),
        (("paint", "x/" * 3000 + "x.png", *FEW), 1),
        (("paint", picture, *FEW, "-o", f"{endless}.png"), 1),
        (("paint", picture, *FEW, "-o", f"{endless}/a.png"), 1),
        (("paint", picture, *FEW, "--out-dir", endless), 2),
        (("paint", picture, *FEW, "--onnx", endless), 3),
        (("render", f"{endless}.json", "-o", "b.png"), 1),
        (("render", "a.json", "-o", f"{endless}.png"), 1),
        (("data", "check", endless), 1),
        (("info", endless), 3),
    ):
        outcome = lpaint(*arguments)
        assert outcome.code == code and outcome.sentence, arguments
    assert lpaint("paint", f"{endless}.png", picture, *FEW).code == 1 and Path("a.painted.png").exists()
    with pytest.raises(ImageError, match="the name has 304 bytes"):
        Painter(device="cpu", threads=1).load(tmp_path / "a.json").save(tmp_path / f"{endless}.png")


def test_names_that_the_terminal_cannot_show_are_printed_with_escapes(tmp_path) -> None:
    name = os.fsdecode(b"\xff") + "画.png"
    _wide(tmp_path / "a.png", 30).rename(tmp_path / name)
    call = [*CALL, "paint", name, *map(str, FEW), "-o", f"b{name}"]
    done = subprocess.run(
        call, cwd=tmp_path, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "latin-1:strict"}, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"b\\udcff\\u753b.png: 3 strokes\n")


# Folders


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """An album with two pictures and two links of four sorts that are not painted, and folders in it."""
    album = tmp_path / "album"
    picture = _wide(album / "a.png", 30)
    for name in ("b.jfif", "._a.png", ".x.123.partial.png", ".lpaint-7-0123abcd.partial.png", "sub.png/c.png"):
        (album / name).parent.mkdir(exist_ok=True)
        shutil.copy(picture, album / name)
    for name in ("notes.txt", "noext", ".DS_Store", "Thumbs.db"):
        (album / name).touch()
    (album / "dead.png").symlink_to("nowhere.png")
    (album / "loop.png").symlink_to("loop.png")
    (album / "link.png").symlink_to("a.png")
    (album / "folder").symlink_to("sub.png")
    os.mkfifo(album / "pipe.png")
    return album


def test_what_is_no_picture_is_left_out_and_counted(lpaint, tmp_path, mixed) -> None:
    outcome = lpaint("paint", mixed, *FEW, "--out-dir", "out")
    assert outcome.code == 0 and listing(tmp_path / "out") == {"a.png", "b.png", "link.png"}
    assert outcome.err.splitlines() == [
        "left out: 1 hidden picture, 2 half-written files of an interrupted lpaint, 2 broken links, 1 device or pipe, "
        "2 files of other kinds (.txt, no suffix), 2 folders, into which --recursive looks"
    ]
    outcome = lpaint("paint", mixed, *FEW, "-r", "--out-dir", "out", "--skip-existing", "--json")
    summary = json.loads(outcome.out)
    assert outcome.err == "" and summary["left_out"]["linked_folder"] == 1 and "folder" not in summary["left_out"]
    assert [each["outputs"] for each in summary["painted"]] == [["out/sub.png/c.png"]]


def test_named_singly_a_picture_may_be_called_anything(lpaint, tmp_path, mixed) -> None:
    (mixed / "a.png").rename(mixed / "._photo.xyz")
    named = [mixed / "._photo.xyz", mixed / "b.jfif", mixed / "sub.png/c.png"]
    assert lpaint("paint", *named, *FEW, "--out-dir", "out").code == 0
    for name, words in (
        (".x.123.partial.png", "is a half-written file"),
        ("dead.png", "leads to a file that is not there"),
        ("loop.png", "leads back to itself"),
    ):
        outcome = lpaint("paint", mixed / name, mixed / "b.jfif", *FEW, "--out-dir", f"out {name}")
        assert outcome.code == 1 and words in outcome.sentence and listing(tmp_path / f"out {name}") == {"b.png"}


def test_paintings_in_the_folder_of_pictures_are_not_painted_again(lpaint, tmp_path) -> None:
    for name in ("a", "deep/b"):
        _wide(tmp_path / f"album/{name}.png", 30)
    expected = {"a.png", "deep/b.png", "deep/out/a.png", "deep/out/deep/b.png"}
    for _ in range(2):
        outcome = lpaint("paint", "album", "-r", *FEW, "--out-dir", "album/deep/out", "--overwrite")
        assert outcome.code == 0 and listing(tmp_path / "album") == expected
    assert "left out: the folder of the paintings" in outcome.err
    (tmp_path / "elsewhere").symlink_to("album/deep/out")
    assert lpaint("paint", "album", "-r", *FEW, "--out-dir", "elsewhere", "--overwrite").code == 0
    assert listing(tmp_path / "album") == expected
    outcome = lpaint("paint", "album", "-r", *FEW, "--out-dir", "album/deep/..")
    assert outcome.code == 2 and "the next run would paint the paintings" in outcome.sentence
    assert listing(tmp_path / "album") == expected


def test_an_empty_folder_among_several_does_not_end_the_run(lpaint, tmp_path) -> None:
    picture = _wide(tmp_path / "album/a.png", 30)
    (tmp_path / "none").mkdir()
    outcome = lpaint("paint", "none", "album", *FEW, "--out-dir", "out")
    assert outcome.code == 1 and "error: none: holds no pictures" in outcome.sentence
    assert listing(tmp_path / "out") == {"a.png"}
    outcome = lpaint("paint", "none", *FEW, "--out-dir", "out")
    assert outcome.code == 5 and "holds no pictures" in outcome.sentence
    picture.rename(picture.with_name("a.txt"))
    outcome = lpaint("paint", "album", *FEW, "--out-dir", "out")
    assert outcome.code == 5 and "(left out: 1 file of another kind (.txt))" in outcome.sentence


def test_a_picture_that_is_named_twice_is_painted_once(lpaint, tmp_path, paintings) -> None:
    picture = _wide(tmp_path / "in/a.png", 30)
    outcome = lpaint("paint", picture, "in/a.png", "in/../in/a.png", "in", *FEW, "--out-dir", "out")
    assert outcome.code == 0 and len(paintings) == 1 and "3 pictures that were named twice" in outcome.err
    assert lpaint("paint", picture, picture, *FEW, "-o", "b.png").code == 0


# Options


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--dither",), "--dither is for pixel art"),
        (("--palette", 8), "--palette is for pixel art"),
        (("--palette", "no.hex"), "--palette is for pixel art"),
        (("--pixel-art", 4, "--alpha", "keep"), "pixel art has no transparency"),
        (("--pixel-art", 4, "-o", "-", "--format", "jpg"), "only PNG keeps its colours exact"),
        (("--alpha", "keep", "-o", "a.jpg"), "only PNG and WebP stills can be transparent"),
        (("--alpha", "keep", "--animate", "-o", "a.webp"), "only PNG and WebP stills can be transparent"),
        (("--animate",), "--animate is for time-lapses"),
        (("--animate", "-o", "a.png"), "--animate is for time-lapses"),
        (("--fps", 5), "--fps is for time-lapses"),
        (("--seconds", 5, "-o", "a.webp"), "or .webp with --animate"),
        (("--format", "jpg", "-o", "a.png"), "--format is for outputs that -o does not name"),
        (("--format", "jpg", "--format", "png", "-o", "-"), "standard output takes one painting"),
        (("--quiet", "--verbose"), "contradict each other"),
    ],
)
def test_options_without_their_partner_are_exit_code_2(lpaint, tmp_path, paintings, arguments, words) -> None:
    outcome = lpaint("paint", _wide(tmp_path / "in/a.png", 30), *FEW, *arguments)
    assert outcome.code == 2 and words in outcome.sentence and not paintings
    assert listing(tmp_path) == {"in/a.png"}


def test_other_commands_refuse_options_without_their_partner(lpaint, tmp_path) -> None:
    lpaint("paint", _wide(tmp_path / "a.png", 30), *FEW, "-o", "a.json")
    for arguments in (
        ("render", "a.json", "-o", "b.png", "--animate"),
        ("render", "a.json", "-o", "b.png", "--fps", 5),
        ("render", "a.json", "-o", "b.png", "-o", "./b.png"),
        ("bench", "gans", "--onnx", "a.onnx"),
        ("bench", "paint", "--pictures", 100),
        ("resume", "clean", "--all", "--older-than", 5),
        ("resume", "clean", "train", "--all"),
    ):
        outcome = lpaint(*arguments)
        assert outcome.code == 2 and outcome.sentence, arguments


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_strokes_files_may_begin_with_a_byte_order_mark(lpaint, tmp_path, encoding) -> None:
    lpaint("paint", _wide(tmp_path / "a.png", 30), *FEW, "-o", "a.json")
    text = Path("a.json").read_text(encoding="utf-8")
    Path("b.json").write_text(text, encoding=encoding)
    assert lpaint("render", "b.json", "-o", "c.json").code == 0
    assert Path("c.json").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("text", ["ff0000\n00ff00\n", "GIMP Palette\n255 0 0\n0 255 0\n"])
def test_palettes_may_begin_with_a_byte_order_mark(tmp_path, text) -> None:
    (tmp_path / "palette").write_text(text, encoding="utf-8-sig")
    assert read_palette(tmp_path / "palette").tolist() == [[0, 255, 0], [255, 0, 0]]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--alpha", "keep", "--format", "jpg"), 2),
        (("-o", "a.png"), 2),
        (("--onnx", "nowhere.onnx"), 3),
    ],
)
def test_a_refused_command_makes_no_folder(lpaint, tmp_path, options, code) -> None:
    _wide(tmp_path / "in/a.png", 30)
    assert lpaint("paint", "in/a.png", *FEW, "--out-dir", "made", *options).code == code
    assert not (tmp_path / "made").exists()


# Interruptions


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_half_written(tmp_path, number) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    call = [*CALL, "paint", "noise.png", *map(str, FEW), "--out-dir", "out", "--format", "gif", "--seconds", "3000"]
    running = subprocess.Popen(call, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts)
    try:
        for _ in range(600):
            if listing(tmp_path / "out"):
                break
            time.sleep(0.1)
        (partial,) = listing(tmp_path / "out")
        running.send_signal(number)
        _, said = running.communicate(timeout=60)
    finally:
        running.kill()
    assert partial.startswith(".lpaint-") and partial.endswith(".partial.gif")
    assert running.returncode == 130 and said == "interrupted; nothing half-written was left\n"
    assert listing(tmp_path) == {"noise.png"}


def test_a_terminal_that_is_closed_ends_the_batch(tmp_path) -> None:
    """Each of the others would be painted at once."""
    pictures = [_wide(tmp_path / f"{name}.png", 30).name for name in "abc"]
    script = (
        "import time\n"
        "from lpaint.painting import picture\n"
        "paint = picture.paint_picture\n"
        "def slow(*arguments):\n"
        "    picture.paint_picture = paint\n"
        "    time.sleep(60)\n"
        "picture.paint_picture = slow\n"
        "from lpaint.cli import main\n"
        "main()"
    )
    terminal, theirs = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-c", script, "paint", *pictures, *map(str, FEW), "--out-dir", "out"],
        cwd=tmp_path,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    shown = b""
    try:
        while b"a.png" not in shown:
            shown += os.read(terminal, 1000)
        os.close(terminal)
        assert running.wait(50) == 130
    finally:
        running.kill()
        running.wait()
    assert listing(tmp_path / "out") == set()


def test_nohup_stays_in_force(tmp_path) -> None:
    _wide(tmp_path / "a.png", 30)
    script = (
        "import os, signal\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from lpaint.painting import picture\n"
        "paint = picture.paint_picture\n"
        "def hung_up(*arguments):\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    return paint(*arguments)\n"
        "picture.paint_picture = hung_up\n"
        "from lpaint.cli import main\n"
        "main()"
    )
    call = [sys.executable, "-c", script, "paint", "a.png", *map(str, FEW)]
    assert subprocess.run(call, cwd=tmp_path, check=False).returncode == 0
    assert (tmp_path / "a.painted.png").exists()


def test_old_leavings_are_swept_from_where_paintings_go(lpaint, tmp_path) -> None:
    picture = _wide(tmp_path / "in/a.png", 30)
    (tmp_path / "out").mkdir()
    old, fresh, foreign = (tmp_path / "out" / f".lpaint-7-{i}.partial.png" for i in range(3))
    for path, days in ((old, 2), (fresh, 0), (foreign, 2)):
        path.touch()
        os.utime(path, (time.time() - 86400 * days,) * 2)
    foreign.rename(tmp_path / "out/.film.2024.partial.mkv")
    assert lpaint("paint", picture, *FEW, "--out-dir", "out").code == 0
    assert listing(tmp_path / "out") == {"a.png", fresh.name, ".film.2024.partial.mkv"}


# Standard streams


def _streams(tmp_path: Path, arguments: str, streams: str) -> subprocess.CompletedProcess[str]:
    """Call the command in a shell, with its streams redirected."""
    _wide(tmp_path / "a.png", 30)
    shutil.copy(tmp_path / "a.png", tmp_path / "a.png.copy")
    few = " ".join(map(str, FEW))
    call = f"{sys.executable} -c 'from lpaint.cli import main; main()' {arguments.replace('FEW', few)} {streams}"
    # Buffered as users have it: what is left in the buffer fails once more when Python ends.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {call}"],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize(
    "arguments",
    [
        "paint a.png FEW -o -",
        "paint a.png FEW --out-dir out",
        "paint a.png a.png.copy FEW --out-dir out",
        "paint a.png FEW --out-dir out --json",
        "info MODEL",
        "doctor",
        "resume list",
        "--help",
        "--version",
        "paint --help",
    ],
)
def test_a_full_standard_output_is_one_sentence(tmp_path, arguments) -> None:
    model = Path(painting_outputs.__file__).parents[2] / "pretrained/actor.onnx"
    done = _streams(tmp_path, arguments.replace("MODEL", str(model)), ">/dev/full")
    assert done.returncode == 1 and "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    (sentence,) = [line for line in done.stderr.splitlines() if line != "painting on the CPU"]
    assert sentence.startswith("error: ") and "No space left on device" in sentence
    named = [Path(word) for word in arguments.split() if word.startswith("a.png")] if "--out-dir" in arguments else []
    assert listing(tmp_path / "out") == {f"{path.stem}.png" for path in named}


@pytest.mark.parametrize(
    ("arguments", "streams", "code", "said"),
    [
        ("paint a.png FEW -o -", "| true", 1, "error: standard output: cannot be written (Broken pipe)\n"),
        (
            "paint a.png FEW",
            "| true",
            1,
            "error: standard output: the reader closed the pipe; no painting is lost\n",
        ),
        ("info a.png.onnx --json", "2>&1 | true", None, ""),
        ("--help", "| true", None, ""),
        ("paint a.png FEW -o -", ">&-", 1, "error: standard output is closed; name a file by -o\n"),
        ("paint - FEW -o b.png", "<&-", 1, "error: standard input is closed; give it a picture by < FILE\n"),
        ("paint a.png FEW", ">&-", 0, ""),
        ("paint a.png FEW", "2>&-", 0, ""),
        ("paint a.png FEW", "<&- >&- 2>&-", 0, ""),
    ],
)
def test_closed_streams_are_one_sentence(tmp_path, arguments, streams, code, said) -> None:
    done = _streams(tmp_path, arguments, streams)
    assert code is None or done.returncode == code
    assert done.stderr == said
    if arguments == "paint a.png FEW":
        assert Image.open(tmp_path / "a.painted.png").size == (30, 2)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_standard_error_ends_no_batch(tmp_path) -> None:
    _wide(tmp_path / "b.png", 31)
    done = _streams(tmp_path, "paint nowhere.png a.png b.png FEW --out-dir out", "2>/dev/full")
    assert done.returncode == 1 and listing(tmp_path / "out") == {"a.png", "b.png"}


def test_a_strokes_file_at_its_limit_can_be_read(tmp_path) -> None:
    nothing = Strokes(np.zeros((0, 4), np.float32), np.zeros((0, 13), np.float32), (0, 0, 0))
    write_strokes(tmp_path / "a.json", "bezier", nothing, 1, LONGEST_STROKES_SIDE)
    assert read_strokes(tmp_path / "a.json").width == LONGEST_STROKES_SIDE
