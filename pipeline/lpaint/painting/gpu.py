"""The GPU for painting: whether there is one, whether ONNX Runtime can use it, and if not, why and what to do.

ONNX Runtime lists CUDA whenever its package was built for it, and falls back to the CPU while it prints to standard
output and standard error. So this module asks the driver first and captures what ONNX Runtime prints.
"""

import ctypes
import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass

import onnxruntime as ort

from lpaint.errors import one_line

CUDA = "CUDAExecutionProvider"
_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
# CUDA_ERROR_NO_DEVICE
_NO_DEVICE = 100
# The default tries all of cuDNN's algorithms for every new shape, and a painting uses batches of many sizes.
_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC"}
# ONNX Runtime's severities: 2 is a warning, its default; 4 is fatal.
_WARNING, _FATAL = 2, 4


@dataclass(frozen=True)
class Gpu:
    """What is known of the GPU before a model is loaded onto it.

    Attributes:
        present: an NVIDIA driver answers and has a GPU.
        problem: why ONNX Runtime cannot use a GPU here, and what to do; empty if no problem is known.
    """

    present: bool
    problem: str = ""


class GpuError(Exception):
    """ONNX Runtime cannot use the GPU; the message says why and what to do.

    Attributes:
        present: whether there is a GPU at all.
    """

    def __init__(self, problem: str, present: bool = True) -> None:
        super().__init__(problem)
        self.present = present


def find_gpu() -> Gpu:
    """Ask the driver for GPUs, and ONNX Runtime whether it was built for them."""
    missing = _ask_driver()
    built = CUDA in ort.get_available_providers()
    if missing:
        beside = "" if built else ", and the installed ONNX Runtime is the CPU package"
        return Gpu(False, f"no NVIDIA GPU answers here: {missing}{beside}")
    if not built:
        return Gpu(
            True,
            f"an NVIDIA GPU answers, but the installed ONNX Runtime {ort.__version__} is the CPU package; "
            "pip uninstall onnxruntime, then pip install onnxruntime-gpu",
        )
    return Gpu(True)


def open_on_gpu(content: bytes, options: ort.SessionOptions) -> ort.InferenceSession:
    """An ONNX Runtime session on the GPU.

    Raises:
        GpuError: there is no GPU, ONNX Runtime cannot use it, or the model is damaged.
    """
    gpu = find_gpu()
    if gpu.problem:
        raise GpuError(gpu.problem, gpu.present)
    missing = _preload_libraries()
    try:
        with _quiet():
            # Without the fallback, ONNX Runtime raises the error that it would otherwise print.
            session = ort.InferenceSession(
                content, options, providers=[(CUDA, _OPTIONS), "CPUExecutionProvider"], enable_fallback=False
            )
    except Exception as error:
        # ONNX Runtime's exceptions have no common base class but Exception.
        raise unusable(error) from None
    if CUDA not in session.get_providers():
        raise unusable(missing or "it does not say why")
    # A failure during a painting must raise, too, and not fall back.
    session.disable_fallback()
    return session


def unusable(reason: object) -> GpuError:
    """The error for a GPU that is present but cannot be used."""
    return GpuError(f"an NVIDIA GPU answers, but ONNX Runtime cannot use it ({one_line(reason)}); {_advice()}")


def _advice() -> str:
    """Which CUDA the installed ONNX Runtime needs, and how to get it."""
    version = _built_with()
    needed = f"CUDA {version}" if version else "the CUDA version that its release notes name"
    return f"it needs {needed} and cuDNN 9, which pip install 'onnxruntime-gpu[cuda,cudnn]' brings"


@contextmanager
def _quiet() -> Iterator[io.StringIO]:
    """Capture what ONNX Runtime prints while it looks for CUDA, with its log switched off."""
    printed = io.StringIO()
    ort.set_default_logger_severity(_FATAL)
    try:
        with redirect_stdout(printed):
            yield printed
    finally:
        # The previous severity cannot be read; a warning is the default.
        ort.set_default_logger_severity(_WARNING)


def _preload_libraries() -> str:
    """Load the CUDA libraries of pip packages; names the missing ones, or is empty."""
    with _quiet() as printed:
        ort.preload_dlls()
    # It tries pip's folders, then the system's: libraries that also fail the second attempt are printed.
    missing = dict.fromkeys(re.findall(r"Failed to load ([^\s/\\:]+):", printed.getvalue()))
    return f"{', '.join(missing)} cannot be loaded" if missing else ""


def _ask_driver() -> str:
    """Why the driver has no GPU; empty if it has one."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return f"there is no driver ({_DRIVER})"
    count = ctypes.c_int()
    failure = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if failure not in (0, _NO_DEVICE):
        return f"its driver fails with CUDA error {failure}; restart the machine, or install the driver again"
    if failure or count.value < 1:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        return "the driver has none" + (f" (CUDA_VISIBLE_DEVICES is {visible!r})" if visible is not None else "")
    return ""


def _built_with() -> str:
    """The major CUDA version that the installed ONNX Runtime was built with; empty if unknown."""
    try:
        from onnxruntime.capi import build_and_package_info
    except ImportError:
        return ""
    return str(getattr(build_and_package_info, "cuda_version", "") or "").partition(".")[0]
