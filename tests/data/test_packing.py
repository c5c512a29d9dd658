"""A preparation that is cut at any moment goes on where it was, and ends as an unbroken one."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from lpaint.data import packing, prepare
from lpaint.data.dataset import PreparedData
from lpaint.data.journal import Journal
from lpaint.data.prepare import prepare_resumably
from lpaint.data.progress import ProgressMeter, format_duration
from lpaint.data.sources.celeba import ZipEntries
from lpaint.data.worker import EntryResult
from lpaint.errors import DataError
from lpaint.runtime.params import Params
from tests.helpers.commands import heed_interrupts
from tests.helpers.pictures import celeba_zip, data_params, jpeg, write_zip
from tests.helpers.tiny import ROOT, write_params

FILES = ("images.npy", "manifest.parquet", "summary.json", "preview.png")
KEY = {"names": "a"}


class CutError(Exception):
    """The crash."""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository's root, in which every chunk is committed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(packing, "_COMMIT_EVERY", 0.0)
    return tmp_path


def _archive(root: Path, count: int = 200) -> Params:
    """Pictures of which every seventh is damaged."""
    entries = {f"{i:06d}.jpg": jpeg(i)[: 300 if i % 7 == 3 else None] for i in range(count)}
    write_zip(root / "faces.zip", entries)
    return data_params(source="celeba", path=str(root / "faces.zip"), max_bad_fraction=0.2)


def _content(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


def _state(root: Path) -> Path:
    (journal,) = (root / ".lpaint" / "resume").glob("prepare-*/journal.jsonl")
    return journal.parent


def _cut_after(monkeypatch: pytest.MonkeyPatch, chunks: int, error: type[BaseException] = CutError) -> None:
    """Let the next packing die after so many chunks, before or behind their commit."""
    compact = packing._Packer._compact
    seen = []

    def cut(self: Any, chunk: Any) -> None:
        seen.append(chunk)
        if len(seen) > chunks:
            raise error
        compact(self, chunk)

    monkeypatch.setattr(packing._Packer, "_compact", cut)


@pytest.mark.parametrize("chunks", [0, 1, 3, 6])
@pytest.mark.parametrize("error", [CutError, KeyboardInterrupt])
def test_an_interrupted_preparation_resumes_and_equals_an_uninterrupted_one(
    root: Path, capsys: pytest.CaptureFixture[str], chunks: int, error: type[BaseException]
) -> None:
    params = _archive(root)
    prepare.prepare(params, root / "whole")
    with pytest.MonkeyPatch.context() as patch:
        _cut_after(patch, chunks, error)
        with pytest.raises(error):
            prepare_resumably(params, root / "out", progress=False)
    assert not (root / "out").exists()
    summary = prepare_resumably(params, root / "out", progress=False)
    told = capsys.readouterr().out
    assert told == (f"resumed at image {32 * chunks}\n" if chunks else "")
    assert _content(root / "out") == _content(root / "whole")
    assert summary["bad"] == sum(i % 7 == 3 for i in range(200))
    assert not list((root / ".lpaint/resume").glob("prepare-*/*")), "a finished preparation leaves no state"


def test_a_lost_tail_of_the_journal_is_decoded_again(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = _archive(root)
    prepare.prepare(params, root / "whole")
    for damage in (b"", b'{"from": 64, "rows": [[24, 2', b"\0" * 50 + b"\n", b'{"from": 1, "rows": []}\n', b"5\n"):
        with pytest.MonkeyPatch.context() as patch:
            _cut_after(patch, 5)
            with pytest.raises(CutError):
                prepare_resumably(params, root / "out", progress=False)
        journal = _state(root) / "journal.jsonl"
        key, first, *_ = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(key + first + damage)
        rows = json.loads(first)["rows"]
        # What was packed behind it may be anything.
        with (_state(root) / "prepared/images.npy").open("rb+") as stream:
            stream.seek(128 + sum(not isinstance(row, str) for row in rows) * 768)
            stream.write(b"\xaa" * 20_000)
        prepare_resumably(params, root / "out", progress=False)
        assert capsys.readouterr().out == f"resumed at image {len(rows)}\n"
        assert _content(root / "out") == _content(root / "whole")


@pytest.mark.parametrize("kept", [None, 1000])
def test_a_journal_without_its_pixels_counts_for_nothing(
    root: Path, capsys: pytest.CaptureFixture[str], kept: int | None
) -> None:
    params = _archive(root)
    with pytest.MonkeyPatch.context() as patch:
        _cut_after(patch, 3)
        with pytest.raises(CutError):
            prepare_resumably(params, root / "out", progress=False)
    images = _state(root) / "prepared/images.npy"
    images.unlink() if kept is None else os.truncate(images, kept)
    prepare_resumably(params, root / "out", progress=False)
    told = capsys.readouterr()
    assert "resumed" not in told.out and "pixels are missing; starting over" in told.err
    prepare.prepare(params, root / "whole")
    assert _content(root / "out") == _content(root / "whole")


def test_other_images_or_sizes_begin_anew_and_other_fractions_go_on(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = _archive(root)
    strict = params.model_copy(update={"data": params.data.model_copy(update={"max_bad_fraction": 0.0})})
    with pytest.raises(DataError, match="raise the fraction"):
        prepare_resumably(strict, root / "out", progress=False)
    assert not (root / "out").exists()
    larger = params.model_copy(update={"data": params.data.model_copy(update={"size": 20})})
    prepare_resumably(larger, root / "out", progress=False)
    assert capsys.readouterr().out == "" and PreparedData.load(root / "out").size == 20
    prepare_resumably(params, root / "out", progress=False)
    assert capsys.readouterr().out == "resumed at image 200\n", "nothing was decoded again"
    celeba_zip(root / "faces.zip", range(1, 9))
    assert prepare_resumably(params, root / "out", progress=False)["images"] == 8
    assert "resumed" not in capsys.readouterr().out


def test_a_drive_that_was_disconnected_is_read_again(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def disconnected(self: Any, name: str, size: int) -> None:
        raise OSError(5, "Input/output error")

    params = data_params(source="celeba", path=str(celeba_zip(root / "faces.zip", range(1, 21))))
    with monkeypatch.context() as patch:
        patch.setattr(ZipEntries, "load", disconnected)
        with pytest.raises(DataError, match="none of the 20 images can be read"):
            prepare_resumably(params, root / "out", progress=False)
    assert prepare_resumably(params, root / "out", progress=False)["bad"] == 0
    assert "20 images could not be read; starting over" in capsys.readouterr().err


def test_the_journal_takes_in_what_it_wrote(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", KEY)
    journal.commit([EntryResult(3, 4), EntryResult(0, 0, "is bad: ä")])
    journal.commit([EntryResult(5, 6)])
    journal.close()
    again = Journal(tmp_path / "j", KEY)
    assert (len(again), again.good_count, again.reasons) == (3, 2, {1: "is bad: ä"})
    assert (list(again.widths), list(again.heights)) == ([3, 0, 5], [4, 0, 6])
    again.close()
    other = Journal(tmp_path / "j", {"names": "b"})
    assert len(other) == 0 and json.loads((tmp_path / "j").read_text()) == {"names": "b"}
    other.close()


def test_pixels_are_flushed_before_the_journal_claims_them(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync = os.fsync

    def flushed(file: int) -> None:
        order.append(Path(f"/proc/self/fd/{file}").readlink().name)
        fsync(file)

    monkeypatch.setattr(os, "fsync", flushed)
    prepare_resumably(_archive(root, 40), root / "out", progress=False)
    names = [name for name in order if name in ("images.npy", "journal.jsonl")]
    # The journal's first line says what is packed, and claims nothing.
    assert names[0] == "journal.jsonl" and names[-1] == "images.npy"
    assert names.count("journal.jsonl") > 1
    for before, name in pairwise(names):
        assert name != "journal.jsonl" or before == "images.npy"


def test_a_full_disk_is_known_before_an_hour_is_spent(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 1000))
    with pytest.raises(DataError, match=re.escape("200 images take 0.0 GiB more, but the disk has 0.0 GiB free")):
        prepare_resumably(_archive(root), root / "out", progress=False)
    assert not (root / "out").exists()


def test_a_disk_that_fills_up_ends_the_run_and_loses_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    params, pwrite = _archive(root), os.pwrite

    def full(file: int, content: bytes, place: int) -> int:
        if place > 100 * 768:
            raise OSError(28, "No space left on device")
        return pwrite(file, content, place)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(DataError, match=r"cannot be written \(No space left on device\); .*again to resume"):
            prepare_resumably(params, root / "out", progress=False)
    assert prepare_resumably(params, root / "out", progress=False)["bad"] == 29
    assert capsys.readouterr().out == "resumed at image 96\n"


def test_another_file_system_gets_a_whole_copy(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params, rename = _archive(root), Path.rename
    (root / "out").mkdir()
    (root / "out" / "before").touch()

    def elsewhere(self: Path, target: Path) -> Path:
        if ".lpaint" in str(self):
            assert (root / "out" / "before").exists() or not (root / "out").exists()
            raise OSError(18, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", elsewhere)
    prepare_resumably(params, root / "out", progress=False)
    assert sorted(path.name for path in (root / "out").iterdir()) == sorted(FILES)
    assert not (root / "out.partial").exists()


@pytest.mark.parametrize(
    "name", ["../1.jpg", "/etc/1.jpg", "a/../../1.jpg", "C:\\1.jpg", "link.jpg", "bomb.jpg", "liar.jpg"]
)
def test_entries_that_must_not_be_read_are_skipped_with_a_reason(root: Path, name: str) -> None:
    import zipfile

    with zipfile.ZipFile(root / "faces.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(9):
            archive.writestr(f"{i}.jpg", jpeg(i))
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_DEFLATED
        if name == "link.jpg":
            info.external_attr = 0o120777 << 16
        archive.writestr(
            info, bytes(1 << 27) if name == "bomb.jpg" else bytes(1 << 16) if name == "liar.jpg" else jpeg(9)
        )
    if name == "liar.jpg":
        content = (root / "faces.zip").read_bytes()
        at = content.rindex(b"PK\1\2")
        (root / "faces.zip").write_bytes(content[: at + 24] + b"\x10\0\0\0" + content[at + 28 :])
    params = data_params(source="celeba", path=str(root / "faces.zip"), max_bad_fraction=0.2)
    prepare_resumably(params, root / "out", progress=False)
    manifest = PreparedData.load(root / "out").manifest
    bad = manifest.loc[~manifest["ok"]]
    words = {
        "link.jpg": "is a symbolic link",
        "bomb.jpg": "has 134,217,728 bytes, more than",
        "liar.jpg": "does not have the 16 bytes",
    }
    expected = words.get(name, "absolute name" if name[0] in "/C" else "leads out of the archive")
    assert list(bad["name"]) == [name] and expected in bad["reason"].iloc[0]


def test_a_picture_of_too_many_pixels_is_not_decoded(root: Path) -> None:
    (root / "pictures").mkdir()
    for i in range(9):
        (root / "pictures" / f"{i}.jpg").write_bytes(jpeg(i))
    Image.new("1", (9000, 9000)).save(root / "pictures" / "bomb.png")
    Image.new("1", (20000, 20000)).save(root / "pictures" / "worse.png")
    prepare_resumably(data_params(source="folder", path="pictures", max_bad_fraction=0.2), root / "out", progress=False)
    manifest = PreparedData.load(root / "out").manifest.set_index("name")
    assert manifest.loc["bomb.png", "reason"] == "has 9000 x 9000 pixels, more than the 67,108,864 that are read"
    assert "too many pixels to be safe" in str(manifest.loc["worse.png", "reason"])


def test_progress_is_lines_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    meter = ProgressMeter(10_000, 1000, enabled=True)
    for now[0] in (10.0, 30.0, 40.0, 60.0):
        meter.advance(1000)
    meter.close()
    assert capsys.readouterr().err == (
        "prepare: 3,000 of 10,000 images, 67 images/s, 1 min 45 s left\n"
        "prepare: 5,000 of 10,000 images, 67 images/s, 1 min 15 s left\n"
    )
    assert [format_duration(seconds) for seconds in (5.4, 59.6, 7200)] == ["5 s", "1 min 0 s", "2 h 0 min"]


def _start(root: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "pipeline"), str(ROOT)])}
    return subprocess.Popen(
        [sys.executable, "-m", "stages.prepare"],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
        start_new_session=True,
    )


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_killed_stage_leaves_no_workers_and_resumes(root: Path, signum: signal.Signals) -> None:
    entries = {f"{i:06d}.jpg": jpeg(i % 250, 640, 480) for i in range(3000)}
    write_zip(root / "faces.zip", entries)
    data = {"source": "celeba", "path": "faces.zip", "limit": 0, "workers": 2}
    write_params(root, base={"tracking": "jsonl"}, data=data)
    stage = _start(root)
    images = ".lpaint/resume/prepare-*/prepared/images.npy"
    while not (packed := list(root.glob(images))) or packed[0].stat().st_size < 300 * 32 * 32 * 3:
        assert stage.poll() is None, stage.communicate()
        time.sleep(0.01)
    children = psutil.Process(stage.pid).children(recursive=True)
    if signum == signal.SIGHUP:
        # A terminal that is closed tells the workers, too.
        os.killpg(stage.pid, signum)
    else:
        stage.send_signal(signum)
    out, err = stage.communicate(timeout=60)
    _, left = psutil.wait_procs(children, timeout=30)
    assert not left and not (root / "data/prepared").exists()
    if signum != signal.SIGKILL:
        sentence = "prepare: interrupted; run the same command again to go on\n"
        assert stage.returncode == 130
        # Python's own resource tracker does not survive SIGHUP, and says so.
        assert err == sentence or (signum == signal.SIGHUP and sentence in err)
    again = _start(root)
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert "3000 images packed" in out
    # A kill may come before the first commit; an interruption commits what there is.
    assert signum == signal.SIGKILL or "resumed at image " in out
    means = PreparedData.load(root / "data/prepared").images[:, 4, 4, 0]
    assert np.abs(means.astype(int) - np.arange(3000) % 250).max() <= 1
