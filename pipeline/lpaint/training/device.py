"""Choice of device, precision, threads and compilation, by the machine's capabilities and never by timing.

One machine must always get the same choices, so that a resumed training continues exactly as it began.
"""

import importlib
import json
import os
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

# File in a resume folder: the number of threads that the training began with.
_THREADS_FILE = "threads.json"


@dataclass(frozen=True)
class Compute:
    """The device settings of ``params.base`` with ``auto`` resolved for this machine."""

    device: str
    precision: str
    threads: int
    compile: bool
    deterministic: bool = False

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.device)

    def autocast(self) -> Any:
        """Context for the forward pass of networks: bfloat16 autocast, or no change for fp32."""
        if self.precision == "bf16":
            return torch.autocast(self.device, torch.bfloat16)
        return nullcontext()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def key(self, base: Base) -> dict[str, Any]:
        """The part of a training's key: ``threads`` as requested (0 = all cores), not as resolved for this machine."""
        return self.as_dict() | {"threads": base.threads}


def choose_compute(base: Base) -> Compute:
    """Resolve ``auto`` for this machine, set torch's thread count and select this process's GPU.

    Processes that ``torchrun`` starts on one machine share its cores; each has a GPU of its own.

    Raises:
        DeviceError: ``base.device`` is ``cuda`` and torch finds no GPU, or there are more processes than GPUs.
    """
    has_cuda = torch.cuda.is_available()
    if base.device == "cuda" and not has_cuda:
        raise DeviceError(f"base.device is cuda, but {cuda_problem()}; set base.device to auto or cpu")
    device = "cuda" if has_cuda and base.device != "cpu" else "cpu"
    local_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if base.threads or local_ranks > 1:
        torch.set_num_threads(base.threads or max(1, _cores() // local_ranks))
    share_cores(torch.get_num_threads())
    if device == "cuda":
        _select_gpu(int(os.environ.get("LOCAL_RANK", "0")))
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = not base.deterministic
    if base.deterministic:
        # cuBLAS is deterministic only with a workspace of fixed size; it reads this variable at its first use.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(base.deterministic)
    precision = base.precision
    if precision == "auto":
        precision = "bf16" if _has_fast_bf16(device) else "fp32"
    compiles = base.compile == "on" or (base.compile == "auto" and _can_compile(device))
    return Compute(device, precision, torch.get_num_threads(), compiles, base.deterministic)


def restore_threads(compute: Compute, folder: Path, resuming: bool) -> Compute:
    """Use the thread count saved in the resume ``folder`` if ``resuming``, else save this machine's count there.

    Sums are rounded differently with another number of threads, so the resumed training would not be the same.
    """
    path = folder / _THREADS_FILE
    if not (resuming and path.exists()):
        write_json(path, {"threads": compute.threads})
        return compute
    threads = int(json.loads(path.read_text(encoding="utf-8"))["threads"])
    if threads != compute.threads:
        print(f"threads: {threads}, as the training began, not {compute.threads}", flush=True)
    return set_threads(compute, threads)


def set_threads(compute: Compute, threads: int) -> Compute:
    """Set torch's thread count and return ``compute`` with it."""
    if threads != compute.threads:
        torch.set_num_threads(threads)
        share_cores(threads)
    return replace(compute, threads=threads)


def describe_compute(base: Base, compute: Compute) -> str:
    """All choices on one line for a stage's output, with the reasons where ``auto`` found something missing."""
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
        # The first sentence is the reason; the others are advice and links.
        reason = one_line(error).partition(". ")[0].rstrip(".")
        return f"torch {torch.__version__} finds no GPU ({reason})"
    return f"torch {torch.__version__} finds no GPU"


def compile_problem(device: str) -> str:
    """Why torch.compile cannot work here; empty if it can.

    For CUDA it generates Triton kernels, whose launchers are compiled as C; for the CPU it generates C++. Both are
    Python modules and need Python.h.
    """
    if device == "cuda":
        try:
            importlib.import_module("triton")
        except Exception as error:
            # A Triton that does not fit the machine raises many types of errors.
            return f"Triton cannot be imported: {one_line(error)}"
        language, variable, names = "C", "CC", ["gcc", "clang"]
    else:
        language, variable, names = "C++", "CXX", ["clang++" if sys.platform == "darwin" else "g++"]
    # Like Triton and torch: if the variable is set, no other compiler is tried.
    named = os.environ.get(variable)
    if not any(shutil.which(name) for name in ([named] if named else names)):
        return f"no {language} compiler: {f'{variable} is {named}' if named else ' or '.join(names) + ' is not there'}"
    header = Path(sysconfig.get_path("include")) / "Python.h"
    return "" if header.is_file() else f"{header} is missing; install Python's development files"


def peak_memory() -> float:
    """Peak resident memory of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux's getrusage includes the parent's memory at the time of the fork.
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    # Not on Windows.
    import resource

    # In bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)


def _cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _select_gpu(process: int) -> None:
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
