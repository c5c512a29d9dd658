"""``lpaint doctor``: is everything here that painting and training need, and does it work?"""

import json
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from lpaint import __version__
from lpaint.errors import LpaintError

_BASE = ("numpy", "pillow", "typer", "av")
_PIPELINE = ("torch", "dvc", "mlflow", "onnx", "onnxscript", "pandera", "pydantic", "ruamel.yaml")
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
_GPU = "GPU for painting"


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, and whether it is as it should be."""

    subject: str
    text: str
    fine: bool = True


def examine(onnx: Path | None) -> list[Finding]:
    """All findings; the model at ``onnx``, or the one that comes with lpaint, is tried on a small picture."""
    findings = [Finding("lpaint", f"{__version__}, Python {platform.python_version()}, {platform.platform()}")]
    findings += [_package(name) for name in _BASE]
    missing = [name for name in _PIPELINE if _version(name) is None]
    text = (
        f"not installed: {', '.join(missing)}; pip install '.[pipeline]' in the repository" if missing else "complete"
    )
    findings.append(Finding("pipeline (for training)", text))
    findings += _dvc()
    findings.append(_runtime())
    if findings[-1].fine:
        findings += _painting(onnx)
    if "torch" not in missing:
        findings.append(_training())
    return findings


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _package(name: str) -> Finding:
    version = _version(name)
    return Finding(name, version or f"is not installed; pip install {name}", fine=version is not None)


def _dvc() -> list[Finding]:
    """DVC cannot read its own list of locks if it was killed while it wrote it."""
    path = Path(".dvc/tmp/rwlock")
    if not path.is_file():
        return []
    try:
        json.loads(path.read_bytes())
    except ValueError:
        advice = "was cut short when DVC was killed, and DVC refuses to run; delete it while no DVC is running"
        return [Finding("DVC", f"{path} {advice}", fine=False)]
    return [Finding("DVC", f"{path} can be read")]


def _runtime() -> Finding:
    found = {name: version for name in _RUNTIMES if (version := _version(name))}
    if len(found) > 1:
        return Finding(
            "ONNX Runtime",
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other; "
            "pip uninstall both, then install the one you want",
            fine=False,
        )
    if not found:
        return Finding("ONNX Runtime", "is not installed; pip install onnxruntime-gpu, or onnxruntime", fine=False)
    ((name, version),) = found.items()
    try:
        import onnxruntime
    except ImportError as error:
        return Finding("ONNX Runtime", f"{name} {version} cannot be imported ({error}); install it again", fine=False)
    return Finding("ONNX Runtime", f"{name} {version}; providers {', '.join(onnxruntime.get_available_providers())}")


def _painting(onnx: Path | None) -> list[Finding]:
    """Whether the model paints, and whether it does so on the GPU where there is one."""
    from lpaint.painting.gpu import find_gpu
    from lpaint.painting.model import OnnxPainter, packaged_model
    from lpaint.painting.picture import Plan, paint_picture

    path = onnx or packaged_model()
    gpu = find_gpu()
    seen = Finding(
        _GPU, gpu.problem if gpu.problem else "an NVIDIA GPU answers", fine=not (gpu.present and gpu.problem)
    )
    try:
        model = OnnxPainter(path)
        painted = paint_picture(model, np.full((3, 32, 32), 0.5, np.float32), Plan(strokes=5))
    except LpaintError as error:
        return [seen, Finding("model", str(error), fine=False)]
    if gpu.present:
        text = model.gpu_problem or "an NVIDIA GPU answers, and painting uses it"
        seen = Finding(_GPU, text, fine=not model.gpu_problem)
    else:
        seen = Finding(_GPU, f"{gpu.problem}; painting uses the CPU")
    strokes = f"{model.family} strokes on the {model.device}"
    return [seen, Finding("model", f"{path} paints {strokes}; {len(painted.strokes)} laid on a grey picture")]


def _training() -> Finding:
    """Whether torch can use a GPU; a GPU that ONNX Runtime sees and torch does not is a problem."""
    from lpaint.device import cuda_problem

    subject, problem = "GPU for training", cuda_problem()
    if not problem:
        return Finding(subject, "torch uses it")
    try:
        from lpaint.painting.gpu import find_gpu

        present = find_gpu().present
    except ImportError:
        present = False
    return Finding(subject, f"{problem}; training uses the CPU", fine=not present)
