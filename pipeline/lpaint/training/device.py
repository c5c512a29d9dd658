"""What a stage computes on: device, precision, threads, compilation. Chosen by capability, never by a clock.

The same machine must always choose the same, or a resumed training would not be the same training.
"""

import importlib
import json
import os
import resource
import shutil
import sys
import sysconfig
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lpaint.errors import DeviceError, one_line
from lpaint.files import write_json
from lpaint.runtime.params import Base
from lpaint.training.threads import share_cores

# In a folder of resume state: the threads that its training began with.
_THREADS = "threads.json"


@dataclass(frozen=True)
class Compute:
    """The resolved choices of ``params.base``; ``as_dict`` goes into checkpoints and tracked runs."""

    device: str
    precision: str
    threads: int
    compile: bool
    deterministic: bool = False

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.device)

    def autocast(self) -> Any:
        """Context in which networks run: bfloat16 autocast, or nothing for fp32."""
        if self.precision == "bf16":
            return torch.autocast(self.device, torch.bfloat16)
        return nullcontext()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def key(self, base: Base) -> dict[str, Any]:
        """What of this decides which training it is: the threads asked for, 0 = all cores, not the cores found."""
        return self.as_dict() | {"threads": base.threads}


def choose_compute(base: Base) -> Compute:
    """Resolve ``auto`` against this machine, set torch's thread count and take this process's GPU.

    The processes that ``torchrun`` starts on a machine share its cores, and each has a GPU of its own.

    Raises:
        DeviceError: ``base.device`` is ``cuda`` and no CUDA device answers, or there are more processes than GPUs.
    """
    has_cuda = torch.cuda.is_available()
    if base.device == "cuda" and not has_cuda:
        raise DeviceError(f"base.device is cuda, but {cuda_problem()}; set base.device to auto or cpu")
    device = "cuda" if has_cuda and base.device != "cpu" else "cpu"
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if base.threads or beside > 1:
        torch.set_num_threads(base.threads or max(1, _cores() // beside))
    share_cores(torch.get_num_threads())
    if device == "cuda":
        _take_gpu(int(os.environ.get("LOCAL_RANK", "0")))
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = not base.deterministic
    if base.deterministic:
        # cuBLAS is deterministic with a workspace of fixed size only; it reads this when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(base.deterministic)
    precision = base.precision
    if precision == "auto":
        precision = "bf16" if _has_fast_bf16(device) else "fp32"
    compiles = base.compile == "on" or (base.compile == "auto" and _can_compile(device))
    return Compute(device, precision, torch.get_num_threads(), compiles, base.deterministic)


def keep_threads(compute: Compute, folder: Path, resumes: bool) -> Compute:
    """The training's own threads: of its resume ``folder`` if it ``resumes``, else this machine's, kept there.

    Another number would add in another order, and the resumed training would not be the same.
    """
    kept = folder / _THREADS
    if not (resumes and kept.exists()):
        write_json(kept, {"threads": compute.threads})
        return compute
    threads = int(json.loads(kept.read_text(encoding="utf-8"))["threads"])
    if threads != compute.threads:
        print(f"threads: {threads}, as the training began, not {compute.threads}", flush=True)
    return use_threads(compute, threads)


def use_threads(compute: Compute, threads: int) -> Compute:
    """Compute with another number of threads than was chosen."""
    if threads != compute.threads:
        torch.set_num_threads(threads)
        share_cores(threads)
    return replace(compute, threads=threads)


def describe_compute(base: Base, compute: Compute) -> str:
    """What a stage computes on, for its output: every choice, and why where ``auto`` had to do without something."""
    missing = cuda_problem() if base.device == "auto" and compute.device == "cpu" else ""
    device = "the GPU" if compute.device == "cuda" else "the CPU"
    compiled = "compiled" if compute.compile else "not compiled"
    if base.compile == "auto" and not compute.compile:
        compiled += f" ({compile_problem(compute.device)})"
    choices = [device + (f" ({missing})" if missing else ""), compute.precision, f"threads {compute.threads}", compiled]
    return f"computes on {', '.join(choices)}" + (", deterministic" if compute.deterministic else "")


def cuda_problem() -> str:
    """Why torch cannot use a GPU here; empty if it can."""
    if torch.cuda.is_available():
        return ""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        # Its first sentence is the reason; the others are advice and links.
        reason = one_line(error).partition(". ")[0].rstrip(".")
        return f"torch {torch.__version__} finds no GPU ({reason})"
    return f"torch {torch.__version__} finds no GPU"


def compile_problem(device: str) -> str:
    """What torch.compile lacks here; empty if it has all.

    For CUDA it writes Triton kernels, and Triton compiles its launchers in C; for the CPU it writes C++.
    Both are Python modules and include Python.h.
    """
    if device == "cuda":
        try:
            importlib.import_module("triton")
        except Exception as error:
            # A Triton that does not fit the machine fails in many ways.
            return f"Triton cannot be imported: {one_line(error)}"
        language, variable, names = "C", "CC", ["gcc", "clang"]
    else:
        language, variable, names = "C++", "CXX", ["clang++" if sys.platform == "darwin" else "g++"]
    # As Triton and torch do: the variable alone counts where it is set.
    named = os.environ.get(variable)
    if not any(shutil.which(name) for name in ([named] if named else names)):
        return f"no {language} compiler: {f'{variable} is {named}' if named else ' or '.join(names) + ' is not there'}"
    header = Path(sysconfig.get_path("include")) / "Python.h"
    return "" if header.is_file() else f"{header} is missing; install Python's development files"


def peak_memory() -> float:
    """The most memory that this process has had resident so far, MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux's getrusage counts what the parent had when it started this process.
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    # In bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _take_gpu(process: int) -> None:
    found = torch.cuda.device_count()
    if process >= found:
        raise DeviceError(
            f"base.device: process {process + 1} of this machine finds {found} GPUs; start no more processes than "
            "that, or set base.device to cpu"
        )
    torch.cuda.set_device(process)


def _has_fast_bf16(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _can_compile(device: str) -> bool:
    return not compile_problem(device)
