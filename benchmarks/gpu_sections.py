"""The process of one section of `benchmarks/gpu.py`, which starts it with the section's name and a job as JSON."""

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.gpu_painting import evaluate, export, ort
from benchmarks.gpu_setup import (
    ROOT,
    Findings,
    Job,
    compute_for,
    describe_error,
    milliseconds,
    on_gpu,
    rounded,
    wait,
)
from benchmarks.gpu_training import prepared, resume, train
from benchmarks.gpu_updates import kinds, update
from lpaint.bench.gans import bench_gans
from lpaint.bench.rendering import bench_rendering
from lpaint.bench.replay import bench_replay
from lpaint.bench.timing import Report
from lpaint.bench.training import bench_training
from lpaint.runtime.provenance import git_commit
from lpaint.training.device import describe_compute

_PACKAGES = (
    *("torch", "triton", "numpy", "pandas", "pyarrow", "pillow", "safetensors", "torchmetrics", "av"),
    *("onnx", "onnxruntime", "onnxruntime-gpu", "onnxscript", "pydantic", "ruamel.yaml", "pandera"),
    *("pytest", "dvc", "mlflow", "nvidia-cudnn-cu13", "nvidia-cublas"),
)
_SMI = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version,clocks.sm,power.limit", "--format=csv,noheader"]
_LAUNCHES = 1000


def main() -> None:
    """Run a section. Its findings are in WORK/findings; an error is one of them, and the exit code is 1."""
    name, job = sys.argv[1], Job.parse(sys.argv[2])
    findings = Findings(job.work / "findings" / f"{name}.json")
    try:
        _SECTIONS[name](job, findings)
    except BaseException as error:
        findings["failure"] = describe_error(error)
        raise
    print(f"{name}: {', '.join(findings.values)}", flush=True)


def env(job: Job, findings: Findings) -> None:
    """Versions, the device, and its speed in three numbers."""
    findings["versions"] = {name: _version(name) for name in _PACKAGES} | {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
    }
    findings["commit"] = git_commit()
    findings["programs"] = {name: shutil.which(name) for name in ("cc", "gcc", "g++", "clang", "nvcc", "git")}
    device = "cpu"
    if on_gpu():
        device, properties = "cuda", torch.cuda.get_device_properties(0)
        findings["GPU"] = {
            "name": properties.name,
            "memory, MiB": properties.total_memory >> 20,
            "multiprocessors": properties.multi_processor_count,
            "capability": torch.cuda.get_device_capability(),
            "CUDA": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),
            "nvidia-smi": _smi(),
        }
    with findings.attempt("speed"):
        findings["speed"] = _speed(device, job.smoke)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        params = job.params()
        compute = compute_for(params)
    findings["compute"] = compute.as_dict() | {"sentence": describe_compute(params.base, compute)}
    findings["warnings"] = [str(each.message)[:200] for each in caught]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _smi() -> str:
    try:
        return subprocess.run(_SMI, capture_output=True, text=True, check=False, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi: {error}"


def _speed(device: str, smoke: bool) -> dict[str, float]:
    numbers, side = (1 << 16, 64) if smoke else (1 << 28, 8192)
    source = torch.randn(numbers, device=device)
    target = torch.empty_like(source)
    copied = milliseconds(lambda: target.copy_(source), 5)["burst"]
    matrix = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    multiplied = milliseconds(lambda: matrix @ matrix, 5)["burst"]
    tiny = torch.zeros(8, device=device)
    launched = milliseconds(lambda: [tiny.add_(1) for _ in range(_LAUNCHES)], 3)["burst"]
    wait()
    return {
        # Read and written.
        "copy, TB/s": rounded(2 * source.nbytes / copied / 1e9),
        "bfloat16 product, TFLOP/s": rounded(2 * side**3 / multiplied / 1e9),
        "launch of a kernel, us": rounded(launched * 1000 / _LAUNCHES),
    }


def tests(job: Job, findings: Findings) -> None:
    """The tests marked `gpu`. They are skipped without a GPU."""
    if importlib.util.find_spec("pytest") is None:
        findings["result"] = "not run: pytest is not installed"
        return
    marked = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text("utf-8")]
    # Without pyproject.toml: its options name plug-ins that may not be installed.
    options = ["-c", os.devnull, "--rootdir", str(ROOT), "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", *options, *map(str, marked)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-400:]]
    findings["result"] = lines[-1]
    # Files that need packages which are missing give errors, not failures.
    failed = re.search(r"(\d+) failed", lines[-1])
    findings["output"] = (done.stdout + done.stderr)[-3000:] if failed or "error" in lines[-1] else ""
    if failed:
        findings["failed"] = {"error": lines[-1]}


def bench(job: Job, findings: Findings) -> None:
    """The benchmarks of `lpaint bench`."""
    repeats = 1 if job.smoke else 5
    compute = compute_for(job.params())
    discriminators = job.params(agent={"batch_size": 96}, stroke={"canvas": 128})
    benchmarks: dict[str, Callable[[], Report]] = {
        "replay": lambda: bench_replay(job.params().agent.per, compute, repeats),
        "gans": lambda: bench_gans(discriminators, compute, repeats),
        "train, celeba": lambda: bench_training(job.params("celeba"), compute, repeats),
        "train, paper": lambda: bench_training(job.params("paper"), compute, repeats),
        "render": lambda: bench_rendering(compute, repeats),
    }
    for name, measure in benchmarks.items():
        with findings.attempt(name):
            report = measure()
            figures = {f"{row.name}, {row.unit}" if row.unit else row.name: rounded(row.value) for row in report.rows}
            findings[name] = {"sizes": report.sizes} | figures


_SECTIONS: dict[str, Callable[[Job, Findings], Any]] = {
    "env": env,
    "tests": tests,
    "kinds": kinds,
    "update": update,
    "prepared": prepared,
    "train": train,
    "export": export,
    "evaluate": evaluate,
    "ort": ort,
    "resume": resume,
    "bench": bench,
}

if __name__ == "__main__":
    main()
