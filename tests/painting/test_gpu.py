"""The GPU that paints: what is said where there is none, where it cannot be used, and where it fails."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from lpaint import Painter
from lpaint.doctor import examine
from lpaint.errors import DeviceError, ModelError
from lpaint.painting import gpu, onnx_model
from lpaint.painting.gpu import CUDA, find_gpu
from lpaint.painting.onnx_model import OnnxPainter, has_cuda

_COMPILER = shutil.which("cc")
_DRIVER = """
int cuInit(unsigned flags) { return INIT; }
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
"""
Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
no_gpu = pytest.mark.skipif(has_cuda(), reason="a GPU answers here")
no_compiler = pytest.mark.skipif(
    _COMPILER is None or sys.platform != "linux", reason="the fake driver needs a C compiler and Linux"
)


def _build_driver(folder: Path, init: int = 0, count: int = 1) -> Path:
    """A driver that answers cuInit with ``init`` and has ``count`` GPUs, of which nothing more can be had."""
    folder.mkdir()
    (folder / "driver.c").write_text(_DRIVER)
    command = [str(_COMPILER), "-shared", "-fPIC", f"-DINIT={init}", f"-DCOUNT={count}", str(folder / "driver.c")]
    subprocess.run([*command, "-o", str(folder / "libcuda.so.1")], check=True)
    return folder


@pytest.fixture
def with_driver(tmp_path: Path, picture: Path) -> Run:
    """Calls the command in a process that finds the fake driver, and no CUDA library."""

    def call(*arguments: object, **driver: int) -> "subprocess.CompletedProcess[bytes]":
        folder = _build_driver(tmp_path / f"driver{len(list(tmp_path.iterdir()))}", **driver)
        environment = os.environ | {"LD_LIBRARY_PATH": str(folder)}
        script = "from lpaint.cli import main; main()"
        command = [sys.executable, "-c", script, *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)

    return call


def _built_for_cuda() -> bool:
    return CUDA in ort.get_available_providers()


@no_gpu
@no_compiler
@pytest.mark.skipif(not _built_for_cuda(), reason="ONNX Runtime is the CPU package")
def test_missing_cuda_libraries_leave_auto_on_the_cpu_and_both_streams_clean(with_driver: Run, picture: Path) -> None:
    done = with_driver("paint", picture, "--strokes", 5, "-o", "-")
    assert done.returncode == 0 and done.stdout.startswith(b"\x89PNG")
    lines = done.stderr.decode().splitlines()
    assert lines[0].startswith("warning: painting on the CPU: an NVIDIA GPU answers, but ONNX Runtime cannot use it")
    assert "libcublas" in lines[0] and "onnxruntime-gpu[cuda,cudnn]" in lines[0]
    assert not any("onnxruntime:Default" in line or "Failed to load" in line for line in lines)
    done = with_driver("paint", picture, "--strokes", 5, "--json", "--overwrite", "-o", "a.png")
    assert json.loads(done.stdout) and b"painting on the CPU" in done.stderr
    done = with_driver("paint", picture, "--strokes", 5, "--quiet", "-o", "b.png")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@no_gpu
@no_compiler
@pytest.mark.skipif(not _built_for_cuda(), reason="ONNX Runtime is the CPU package")
def test_missing_cuda_libraries_are_exit_code_4_where_cuda_is_asked_for(with_driver: Run, picture: Path) -> None:
    done = with_driver("paint", picture, "--device", "cuda", "--strokes", 5, "-o", "-")
    assert (done.returncode, done.stdout) == (4, b"")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("error: device cuda: an NVIDIA GPU answers, but ONNX Runtime cannot use it (libcublas")


@no_gpu
@no_compiler
@pytest.mark.skipif(not _built_for_cuda(), reason="ONNX Runtime is the CPU package")
def test_doctor_names_the_missing_libraries(with_driver: Run) -> None:
    done = with_driver("doctor")
    lines = [line for line in done.stdout.decode().splitlines() if "GPU for painting" in line]
    assert done.returncode == 1 and len(lines) == 1
    assert lines[0].startswith("PROBLEM  GPU for painting: an NVIDIA GPU answers, but") and "libcublas" in lines[0]
    assert "Failed to load" not in done.stdout.decode() and done.stderr == b""


@no_gpu
@no_compiler
@pytest.mark.parametrize(
    ("driver", "words"),
    [
        ({"count": 0}, "no NVIDIA GPU answers here: the driver has none"),
        ({"init": 100}, "no NVIDIA GPU answers here: the driver has none"),
        ({"init": 803}, "no NVIDIA GPU answers here: its driver fails with CUDA error 803"),
    ],
)
def test_a_driver_without_a_gpu_is_told_from_one_that_fails(
    with_driver: Run, picture: Path, driver: dict[str, int], words: str
) -> None:
    done = with_driver("paint", picture, "--device", "cuda", **driver)
    assert done.returncode == 4 and words in done.stderr.decode()
    done = with_driver("paint", picture, "--strokes", 5, "-o", "c.png", **driver)
    assert done.returncode == 0 and done.stderr.decode().startswith("painting on the CPU\n")


def test_the_cpu_package_is_told_from_a_missing_gpu(
    actor: Path, monkeypatch: pytest.MonkeyPatch, picture: Path
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(gpu, "_ask_driver", lambda: "")
    assert find_gpu().present
    with pytest.raises(
        DeviceError, match=r"^device cuda: an NVIDIA GPU answers, but the installed ONNX Runtime .* is "
    ):
        OnnxPainter(actor, "cuda")
    with pytest.warns(RuntimeWarning, match="is the CPU package; pip uninstall onnxruntime, then pip install"):
        assert Painter(actor).model.device == "cpu"
    (seen,) = [finding for finding in examine(actor) if finding.subject == "GPU for painting"]
    assert not seen.ok and "is the CPU package" in seen.text
    monkeypatch.setattr(gpu, "_ask_driver", lambda: "there is no driver (libcuda.so.1)")
    with pytest.raises(DeviceError, match=r"no NVIDIA GPU answers here: there is no driver .* is the CPU package"):
        OnnxPainter(actor, "cuda")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Painter(actor).model.device == "cpu", "nobody misses a GPU that is not there"
    (seen,) = [finding for finding in examine(actor) if finding.subject == "GPU for painting"]
    assert seen.ok and "painting uses the CPU" in seen.text


@pytest.mark.parametrize(("version", "words"), [("14.2", "CUDA 14 and cuDNN"), (None, "release notes name and cuDNN")])
def test_the_advised_cuda_is_the_one_of_the_installed_package(
    monkeypatch: pytest.MonkeyPatch, version: str | None, words: str
) -> None:
    from onnxruntime.capi import build_and_package_info

    if version is None:
        monkeypatch.delattr(build_and_package_info, "cuda_version", raising=False)
    else:
        monkeypatch.setattr(build_and_package_info, "cuda_version", version, raising=False)
    assert words in str(gpu.unusable("a reason"))


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> type[ort.InferenceSession]:
    """Sessions on the CPU that say they are on the GPU; ``fails`` has them fail as a full GPU does."""

    class Pretended(ort.InferenceSession):
        fails = False

        def __init__(self, content: bytes, options: Any, providers: list[Any], **settings: Any) -> None:
            self.claimed = [each if isinstance(each, str) else each[0] for each in providers]
            super().__init__(content, options, providers=["CPUExecutionProvider"], **settings)

        def get_providers(self) -> list[str]:
            return self.claimed

        def run(self, *arguments: Any) -> Any:
            if self.fails and CUDA in self.claimed:
                raise RuntimeError("CUDA failure 2: out of memory")
            return super().run(*arguments)

    monkeypatch.setattr(ort, "InferenceSession", Pretended)
    monkeypatch.setattr(ort, "preload_dlls", lambda: print("Failed to load libnothing.so: no"))
    monkeypatch.setattr(onnx_model, "find_gpu", lambda: gpu.Gpu(True))
    monkeypatch.setattr(gpu, "find_gpu", lambda: gpu.Gpu(True))
    return Pretended


def test_a_gpu_that_cannot_run_the_model_leaves_auto_on_the_cpu(pretended: Any, actor: Path) -> None:
    assert OnnxPainter(actor).device == "cuda"
    pretended.fails = True
    found = OnnxPainter(actor)
    assert found.device == "cpu" and "out of memory" in found.gpu_problem
    with pytest.raises(DeviceError, match="out of memory"):
        OnnxPainter(actor, "cuda")


def test_a_gpu_that_fails_while_it_paints_is_one_sentence(
    pretended: Any, lpaint: Callable[..., Any], actor: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = OnnxPainter.rasterise

    def fail(self: OnnxPainter, *arguments: np.ndarray) -> np.ndarray:
        pretended.fails = True
        return loaded(self, *arguments)

    monkeypatch.setattr(OnnxPainter, "rasterise", fail)
    outcome = lpaint("paint", picture, "--onnx", actor, "--strokes", 5)
    assert outcome.code == 1 and "the GPU failed while it painted (CUDA failure 2: out of memory)" in outcome.sentence
    assert not Path("meadow.painted.png").exists()


def test_a_damaged_model_is_the_models_fault_also_on_a_gpu(pretended: Any, tmp_path: Path) -> None:
    damaged = tmp_path / "actor.onnx"
    damaged.write_bytes(b"no model")
    for device in ("auto", "cuda"):
        with pytest.raises(ModelError, match="is no usable ONNX model"):
            OnnxPainter(damaged, device)
