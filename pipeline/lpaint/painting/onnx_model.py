"""An exported actor: one ONNX file, run by ONNX Runtime, that also holds the rasteriser of its strokes."""

import base64
import binascii
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from lpaint.errors import DeviceError, ModelError, one_line
from lpaint.painting.actor_spec import PaintingSpec
from lpaint.painting.gpu import GpuError, find_gpu, open_on_gpu, unusable

PREFIX = "lpaint."
SCHEMA_VERSION = "1"
RASTERISER = "rasteriser"
OUTLINE = "outline"
_ACTOR_INPUTS = ["canvas", "target", "fraction"]


def packaged_model() -> Path:
    """The actor that comes with lpaint; ``lpaint/pretrained/MODEL_CARD.md`` has its licence and figures."""
    return Path(__file__).parents[1] / "pretrained" / "actor.onnx"


def has_cuda() -> bool:
    """Whether there is an NVIDIA driver, and ONNX Runtime is built for it."""
    return not find_gpu().problem


class OnnxPainter:
    """A ``PaintingModel`` that runs an exported file.

    Args:
        path: an ``actor.onnx`` that lpaint exported.
        device: ``auto``, ``cuda`` or ``cpu``.
        threads: CPU threads; 0 lets ONNX Runtime choose.

    Attributes:
        device: the device in use, ``cuda`` or ``cpu``.
        gpu_problem: why ``auto`` does not use the GPU, and what to do; empty if it does or there is none.

    Raises:
        ModelError: the file is missing, damaged or not lpaint's.
        DeviceError: ``device`` is ``cuda``, and CUDA cannot be used.
    """

    def __init__(self, path: Path, device: str = "auto", threads: int = 0) -> None:
        content = _read(path)
        self.gpu_problem = ""
        if device != "cpu":
            try:
                self._load(path, content, "cuda", threads)
                return
            except GpuError as error:
                # If the model is at fault, this raises a ModelError.
                self._load(path, content, "cpu", threads)
                if device == "cuda":
                    raise DeviceError(f"device cuda: {error}; or use the device cpu or auto") from None
                self.gpu_problem = str(error) if error.present else ""
                return
        self._load(path, content, "cpu", threads)

    def _load(self, path: Path, content: bytes, device: str, threads: int) -> None:
        self.device = device
        self._actor = _session(path, content, device, threads)
        self.metadata = read_metadata(path, self._actor)
        spec = PaintingSpec.from_metadata(self.metadata, path)
        self.canvas, self.bundle, self.max_steps = spec.canvas, spec.bundle, spec.max_steps
        self.zoom, self.family, self.protocol = spec.zoom, spec.family, spec.protocol
        self.fits_colours = spec.fit_colours != "never"
        self.initial_canvas = spec.initial_canvas
        try:
            # The key is older than the name.
            self.overhang = float(self.metadata["reach"])
            self.parameters = int(self.metadata["stroke_parameters"])
            rasteriser, self._outline_model = (
                base64.b64decode(self.metadata[name], validate=True) for name in (RASTERISER, OUTLINE)
            )
        except (KeyError, ValueError, TypeError, binascii.Error) as error:
            raise ModelError(f"{path}: its lpaint metadata is damaged ({error}); export it again") from None
        if not 0 <= self.overhang <= 2:
            raise ModelError(f"{path}: its lpaint metadata is damaged (reach is {self.overhang}); export it again")
        self._rasteriser = _session(path, rasteriser, self.device, threads)
        self._outline: ort.InferenceSession | None = None
        self._path = path
        if device == "cuda":
            self._try_gpu()

    def act(self, canvas: np.ndarray, target: np.ndarray, fraction: np.ndarray) -> np.ndarray:
        """Canvas and target [B, 3, S, S] in [0, 1], fraction [B] -> strokes [B, bundle, parameters]."""
        feed = zip(_ACTOR_INPUTS, (canvas, target, fraction), strict=True)
        (strokes,) = self._run(self._actor, dict(feed))
        return strokes

    def rasterise(self, shape: np.ndarray, rows: np.ndarray, columns: np.ndarray, pixel_size: np.ndarray) -> np.ndarray:
        """Shapes [N, P - 3], pixel centres [N, h] and [N, w], pixel size [N, 2] -> opacity [N, h, w]."""
        feed = {"shape": shape, "rows": rows, "columns": columns, "pitch": pixel_size}
        return self._draw(feed)[0]

    def bounds(self, shape: np.ndarray) -> np.ndarray:
        """Shapes [N, P - 3] -> boxes [N, 4] (top, left, bottom, right, in units of the frame) around each stroke."""
        pixel = np.zeros((len(shape), 1))
        return self._draw({"shape": shape, "rows": pixel, "columns": pixel, "pitch": np.ones((len(shape), 2))})[1]

    def outline(self, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Shapes [N, P - 3] -> the strokes' vector form: path [N, M, S, 4, 2], axis [N, M, 2, 2], stops [N, M, K, 2].

        Cubic curves with opacities along an axis, as in ``lpaint.strokes.Outline``.
        """
        if self._outline is None:
            # Loaded on first use: few paintings need vectors, and the model is small.
            self._outline = _session(self._path, self._outline_model, "cpu", 1)
        path, axis, stops = self._outline.run(None, {"shape": np.ascontiguousarray(shape, np.float32)})
        return path, axis, stops

    def _draw(self, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        return self._run(self._rasteriser, feed)

    def _run(self, session: ort.InferenceSession, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        values = {name: np.ascontiguousarray(value, np.float32) for name, value in feed.items()}
        if self.device == "cpu":
            return session.run(None, values)
        try:
            return session.run(None, values)
        except Exception as error:
            raise DeviceError(f"the GPU failed while it painted ({one_line(error)}); use the device cpu") from None

    def _try_gpu(self) -> None:
        """Compute and draw one bundle: some libraries are loaded only when they are first used."""
        try:
            blank = np.zeros((1, 3, self.canvas, self.canvas))
            strokes = self.act(blank, blank, np.zeros(1)).reshape(-1, self.parameters)
            self.bounds(strokes[:, : self.parameters - 3])
        except DeviceError as error:
            raise unusable(error) from None


def read_metadata(path: Path, session: ort.InferenceSession | None = None) -> dict[str, str]:
    """lpaint's metadata in an ONNX file, without the prefix.

    Raises:
        ModelError: the file is missing, damaged, or not lpaint's.
    """
    session = session or _session(path, _read(path), "cpu", 1)
    try:
        properties = session.get_modelmeta().custom_metadata_map
    except UnicodeDecodeError:
        raise ModelError(f"{path}: its metadata is damaged; export it again") from None
    metadata = {k.removeprefix(PREFIX): v for k, v in properties.items() if k.startswith(PREFIX)}
    if metadata.get("schema_version") != SCHEMA_VERSION:
        found = metadata.get("schema_version")
        what = "was not exported by lpaint" if found is None else f"has lpaint schema {found}, not {SCHEMA_VERSION}"
        raise ModelError(f"{path}: {what}; give an actor.onnx that `dvc repro export_onnx` wrote")
    if [value.name for value in session.get_inputs()] != _ACTOR_INPUTS:
        raise ModelError(f"{path}: is an lpaint file, but not an actor; give exports/actor.onnx")
    return metadata


def describe(path: Path) -> dict[str, Any]:
    """The facts for ``lpaint info``: metadata, inputs, outputs and the file's size in bytes."""
    session = _session(path, _read(path), "cpu", 1)
    metadata = read_metadata(path, session)
    embedded = {name: metadata.pop(name, "") for name in (RASTERISER, OUTLINE)}
    shapes = {value.name: value.shape for value in (*session.get_inputs(), *session.get_outputs())}
    return {
        **metadata,
        "protocol": metadata.get("protocol", PaintingSpec.protocol),
        "tensors": shapes,
        "embedded_bytes": {name: len(content) * 3 // 4 for name, content in embedded.items()},
        "bytes": path.stat().st_size,
    }


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelError(
            f"{path}: there is no such model; train one with `dvc repro`, or name another by --onnx"
        ) from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None


def _session(path: Path, content: bytes, device: str, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    # Waiting threads must sleep: spinning ones take cores from numpy and from other processes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if device == "cuda":
        return open_on_gpu(content, options)
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # ONNX Runtime has many exception types for files that it cannot parse; all derive from Exception.
        raise ModelError(
            f"{path}: is no usable ONNX model ({one_line(error)}); give an actor.onnx that lpaint exported"
        ) from None
