"""``lpaint doctor``: check that all that painting and training need is installed and works."""

import json
import platform
import sqlite3
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
    """What was checked, what was found, and whether it is as it should be."""

    subject: str
    text: str
    ok: bool = True


def examine(onnx: Path | None, fix: bool = False) -> list[Finding]:
    """Check everything; all findings.

    Args:
        onnx: the model to paint a small image with; None = the one that comes with lpaint.
        fix: repair what moving the repository broke.
    """
    findings = [Finding("lpaint", f"{__version__}, Python {platform.python_version()}, {platform.platform()}")]
    findings += [_package(name) for name in _BASE]
    missing = [name for name in _PIPELINE if _version(name) is None]
    text = (
        f"not installed: {', '.join(missing)}; pip install '.[pipeline]' in the repository" if missing else "complete"
    )
    findings.append(Finding("pipeline (for training)", text))
    findings += _dvc() + _code() + _links(fix)
    if not missing:
        findings += _tracking(fix)
    findings.append(_runtime())
    if findings[-1].ok:
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
    return Finding(name, version or f"is not installed; pip install {name}", ok=version is not None)


def _dvc() -> list[Finding]:
    """Check DVC's list of locks. DVC cannot read it if it was killed while writing it."""
    path = Path(".dvc/tmp/rwlock")
    if not path.is_file():
        return []
    try:
        json.loads(path.read_bytes())
    except ValueError:
        advice = "was cut short when DVC was killed, and DVC refuses to run; delete it while DVC is not running"
        return [Finding("DVC", f"{path} {advice}", ok=False)]
    return [Finding("DVC", f"{path} can be read")]


def _code() -> list[Finding]:
    """Check that lpaint runs this repository's code. A copied virtual environment runs that of the original."""
    from lpaint.runtime.paths import mismatched_install

    code = mismatched_install()
    if code is None:
        return []
    text = f"lpaint comes from {code}, not from this repository; remove .venv here and run make setup"
    return [Finding("code", text, ok=False)]


def _links(fix: bool) -> list[Finding]:
    """Find broken links to the data, with which DVC refuses to run. The stage ``source`` makes new ones."""
    dead = [path for path in Path("data/watch").glob("*") if path.is_symlink() and not path.exists()]
    if not dead:
        return []
    names = ", ".join(str(path) for path in dead)
    if not fix:
        advice = "restore the file it links to, or remove the link: lpaint doctor --fix"
        return [Finding("data", f"{names} is a broken link, and DVC refuses to run; {advice}", ok=False)]
    for path in dead:
        path.unlink()
    return [Finding("data", f"{names} was a broken link and is removed; the stage source links data.path again")]


def _tracking(fix: bool) -> list[Finding]:
    """Check that MLflow's own database looks for artifacts in this repository."""
    from lpaint.tracking.mlflow_store import relocate_own_store, stale_store_root, store_exists

    if not store_exists(None):
        return []
    try:
        old = stale_store_root()
        if old is None:
            return [Finding("MLflow", "its store looks for artifacts where they are")]
        if fix:
            return [Finding("MLflow", relocate_own_store())]
    except (OSError, sqlite3.Error) as error:
        return [Finding("MLflow", f"mlflow.db cannot be used ({error}); restore it, or move it away", ok=False)]
    problem = f"mlflow.db looks for artifacts in {old}, where this repository was"
    advice = "lpaint doctor --fix repairs that, and so does the next stage, compare, promote or pull"
    return [Finding("MLflow", f"{problem}; {advice}", ok=False)]


def _runtime() -> Finding:
    found = {name: version for name in _RUNTIMES if (version := _version(name))}
    if len(found) > 1:
        return Finding(
            "ONNX Runtime",
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other; "
            "pip uninstall both, then install only one",
            ok=False,
        )
    if not found:
        return Finding("ONNX Runtime", "is not installed; pip install onnxruntime-gpu, or onnxruntime", ok=False)
    ((name, version),) = found.items()
    try:
        import onnxruntime
    except ImportError as error:
        return Finding("ONNX Runtime", f"{name} {version} cannot be imported ({error}); install it again", ok=False)
    return Finding("ONNX Runtime", f"{name} {version}; providers {', '.join(onnxruntime.get_available_providers())}")


def _painting(onnx: Path | None) -> list[Finding]:
    """Check that the model paints, on the GPU if there is one."""
    from lpaint.painting.gpu import find_gpu
    from lpaint.painting.onnx_model import OnnxPainter, packaged_model
    from lpaint.painting.picture import Plan, paint_picture

    path = onnx or packaged_model()
    gpu = find_gpu()
    gpu_finding = Finding(
        _GPU, gpu.problem if gpu.problem else "an NVIDIA GPU answers", ok=not (gpu.present and gpu.problem)
    )
    try:
        model = OnnxPainter(path)
        painted = paint_picture(model, np.full((3, 32, 32), 0.5, np.float32), Plan(strokes=5))
    except LpaintError as error:
        return [gpu_finding, Finding("model", str(error), ok=False)]
    if gpu.present:
        text = model.gpu_problem or "an NVIDIA GPU answers, and painting uses it"
        gpu_finding = Finding(_GPU, text, ok=not model.gpu_problem)
    else:
        gpu_finding = Finding(_GPU, f"{gpu.problem}; painting uses the CPU")
    strokes = f"{model.family} strokes on the {model.device}"
    return [gpu_finding, Finding("model", f"{path} paints {strokes}; {len(painted.strokes)} painted on a grey image")]


def _training() -> Finding:
    """Check whether torch can use a GPU. It is a problem if ONNX Runtime finds a GPU and torch does not."""
    from lpaint.training.device import cuda_problem

    subject, problem = "GPU for training", cuda_problem()
    if not problem:
        return Finding(subject, "torch uses it")
    try:
        from lpaint.painting.gpu import find_gpu

        present = find_gpu().present
    except ImportError:
        present = False
    return Finding(subject, f"{problem}; training uses the CPU", ok=not present)
