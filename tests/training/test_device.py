"""The choice of device and precision."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from lpaint.errors import DeviceError
from lpaint.runtime.params import Base
from lpaint.training.device import Compute, choose_compute, compile_problem, describe_compute


@pytest.fixture
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def _base(**settings: Any) -> Base:
    return Base(
        **{
            "seed": 0,
            "device": "cpu",
            "precision": "fp32",
            "threads": 0,
            "compile": "off",
            "deterministic": False,
            "tracking": "mlflow",
            **settings,
        }
    )


@pytest.mark.usefixtures("_threads")
def test_explicit_choices_are_kept() -> None:
    assert choose_compute(_base(threads=1)) == Compute("cpu", "fp32", 1, False)
    compute = choose_compute(_base(precision="bf16", compile="on", threads=1))
    assert (compute.precision, compute.compile) == ("bf16", True)
    with compute.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_cuda_must_be_there_if_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=r"base\.device"):
        choose_compute(_base(device="cuda"))
    assert choose_compute(_base(device="auto")).device == "cpu"


@pytest.mark.usefixtures("_threads")
def test_processes_of_a_machine_share_its_cores_and_have_a_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(6), raising=False)
    assert choose_compute(_base()).threads == 3
    assert choose_compute(_base(threads=1)).threads == 1
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_compute(_base(device="cuda")).device == "cuda" and taken == [1]
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(DeviceError, match=r"base\.device: process 3 of this machine finds 2 GPUs; start no more"):
        choose_compute(_base(device="cuda"))


@pytest.mark.parametrize(("capable", "precision"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_follows_the_processor(monkeypatch: pytest.MonkeyPatch, capable: bool, precision: str) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": capable})
    assert choose_compute(_base(precision="auto")).precision == precision


def test_peak_memory_sees_what_was_taken_and_given_back() -> None:
    script = (
        "import numpy as np\nfrom lpaint.training.device import peak_memory\n"
        "before = peak_memory(); block = np.ones(1 << 30, np.uint8); del block; print(peak_memory() - before)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 500 < float(done.stdout) < 1200, "a block of 1024 MiB, less what the start of Python needed"


@pytest.fixture
def _equipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine that has all that torch.compile needs: folder of programs, headers, and Triton."""
    for name in ("g++", "clang++", "gcc", "include/Python.h"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / name))
    monkeypatch.setitem(sys.modules, "triton", ModuleType("triton"))
    return tmp_path


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_torch_compile_lacks_is_found(_equipped: Path, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    assert compile_problem(device) == ""
    compiler, variable = ("gcc", "CC") if device == "cuda" else ("g++", "CXX")
    monkeypatch.setenv(variable, "icx")
    assert compile_problem(device) == f"no {'C' if device == 'cuda' else 'C++'} compiler: {variable} is icx"
    (_equipped / "icx").touch(mode=0o755)
    assert compile_problem(device) == ""
    monkeypatch.delenv(variable)
    for name in (compiler, "clang++"):
        (_equipped / name).unlink()
    assert "is not there" in compile_problem(device)
    (_equipped / compiler).touch(mode=0o755)
    (_equipped / "clang++").touch(mode=0o755)
    (_equipped / "include/Python.h").unlink()
    assert "Python.h is missing" in compile_problem(device)


@pytest.mark.usefixtures("_equipped")
def test_cuda_is_not_compiled_for_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    base = _base(device="auto", compile="auto")
    compute = choose_compute(base)
    assert compute.compile and describe_compute(base, compute).endswith(", compiled")
    # An import of None fails.
    monkeypatch.setitem(sys.modules, "triton", None)
    compute = choose_compute(base)
    assert not compute.compile
    assert "on the GPU, fp32" in describe_compute(base, compute)
    assert "not compiled (Triton cannot be imported" in describe_compute(base, compute)
    assert choose_compute(_base(device="auto", compile="on")).compile, "who asks for it gets torch's own error"


def test_why_there_is_no_cuda_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040). Please update it.")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(DeviceError, match=r"is built without CUDA; set base\.device to auto or cpu"):
        choose_compute(_base(device="cuda"))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", fail)
    with pytest.raises(DeviceError, match=r"finds no GPU \(The NVIDIA driver on your system is too old \(found"):
        choose_compute(_base(device="cuda"))
    base = _base(device="auto")
    assert "the CPU (torch" in describe_compute(base, choose_compute(base))
    base = _base(device="cpu")
    assert "on the CPU, fp32, threads" in describe_compute(base, choose_compute(base))
