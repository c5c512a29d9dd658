"""Export to ONNX: a self-contained actor, the rasteriser, outline and renderer, and a comparison with torch."""

import base64
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel
from torch import Tensor, nn

from lpaint import __version__
from lpaint.agent.networks import Actor
from lpaint.errors import ModelError
from lpaint.export.modelcard import LICENCES
from lpaint.files import atomic_write
from lpaint.painting.actor_spec import ActorSpec
from lpaint.painting.onnx_model import OUTLINE, PREFIX, RASTERISER, SCHEMA_VERSION
from lpaint.strokes import Outline, StrokeFamily, pixel_centres

# Largest allowed difference of an export from torch; a stroke's numbers are in [0, 1]. Only the actor can have half
# precision.
TOLERANCE = 1e-4
HALF_TOLERANCE = 5e-3
MODELS = ("actor", "renderer", "rasteriser", "outline")


class _Rasteriser(nn.Module):
    """A family's exact rasteriser as a module, for the exporter."""

    def __init__(self, family: StrokeFamily) -> None:
        super().__init__()
        self.family = family

    def forward(self, shape: Tensor, rows: Tensor, columns: Tensor, pitch: Tensor) -> tuple[Tensor, Tensor]:
        return self.family.rasterise(shape, rows, columns, pitch), self.family.bounds(shape)


class _Outline(nn.Module):
    """A family's vector form as a module, for the exporter."""

    def __init__(self, family: StrokeFamily) -> None:
        super().__init__()
        self.family = family

    def forward(self, shape: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        path, axis, stops = self.family.outline(shape)
        return path, axis, stops


def export_actor(
    actor: Actor,
    path: Path,
    opset: int,
    metadata: dict[str, str],
    rasteriser: Path,
    outline: Path,
    half: bool = False,
) -> None:
    """Write ``actor`` to ``path``, with ``metadata``, which also gets the files ``rasteriser`` and ``outline``.

    Inputs: canvas and target [B, 3, S, S], fraction [B]. Output: strokes [B, bundle, parameters]. B is dynamic. With
    ``half`` the weights are float16; inputs and outputs stay float32.
    """
    size = actor.canvas
    example = (torch.rand(2, 3, size, size), torch.rand(2, 3, size, size), torch.rand(2))
    batch = torch.export.Dim("batch")
    files = {RASTERISER: rasteriser, OUTLINE: outline}
    embedded = {name: base64.b64encode(file.read_bytes()).decode() for name, file in files.items()}
    shapes = ({0: batch}, {0: batch}, {0: batch})
    _export(
        actor.eval(),
        path,
        example,
        ["canvas", "target", "fraction"],
        ["strokes"],
        shapes,
        opset,
        metadata | embedded,
        half,
    )


def export_rasteriser(family: StrokeFamily, path: Path, opset: int) -> None:
    """Write the exact rasteriser: shape [N, P], rows [N, h], columns [N, w], pitch [N, 2] -> opacity [N, h, w].

    The second output is the strokes' bounds [N, 4], as in ``StrokeFamily.bounds``. N, h and w are dynamic.
    """
    count, height, width = (torch.export.Dim(name) for name in ("count", "height", "width"))
    generator = torch.Generator().manual_seed(0)
    rows, columns, pitch = torch.rand(3, 5), torch.rand(3, 6), torch.rand(3, 2)
    example = (family.sample(3, generator), rows, columns, pitch)
    shapes = ({0: count}, {0: count, 1: height}, {0: count, 1: width}, {0: count})
    names = ["shape", "rows", "columns", "pitch"]
    _export(_Rasteriser(family), path, example, names, ["alpha", "bounds"], shapes, opset, {"family": family.name})


def export_outline(family: StrokeFamily, path: Path, opset: int) -> None:
    """Write the vector form: shape [N, P] -> path, axis and stops, as in ``strokes.Outline``. N is dynamic."""
    example = (family.sample(3, torch.Generator().manual_seed(0)),)
    shapes = ({0: torch.export.Dim("count")},)
    _export(_Outline(family), path, example, ["shape"], list(Outline._fields), shapes, opset, {"family": family.name})


def export_renderer(renderer: nn.Module, family: StrokeFamily, path: Path, opset: int) -> None:
    """Write the neural renderer: shape [N, shape_parameters] -> opacity [N, S, S]. N is dynamic."""
    example = (family.sample(2, torch.Generator().manual_seed(0)),)
    _export(
        renderer.eval(),
        path,
        example,
        ["shape"],
        ["alpha"],
        ({0: torch.export.Dim("count")},),
        opset,
        {"family": family.name},
    )


def actor_metadata(spec: ActorSpec, family: StrokeFamily, commit: str, run_id: str) -> dict[str, str]:
    """The metadata of an exported actor, without ``PREFIX``; ``commit`` and ``run_id`` say what made it."""
    return spec.to_metadata() | {
        "schema_version": SCHEMA_VERSION,
        "stroke_parameters": str(family.parameters),
        "value_range": "0..1",
        "reach": str(family.overhang),
        "licence": LICENCES[spec.data_source],
        "git_commit": commit,
        "mlflow_run_id": run_id,
        "created_by": f"lpaint {__version__}",
    }


def parity(module: nn.Module, path: Path, inputs: Sequence[Tensor]) -> float:
    """Largest absolute difference between torch and ONNX Runtime on the CPU for one set of inputs."""
    return max(float(np.abs(expected - found).max()) for expected, found in _outputs(module, path, inputs))


def rasteriser_parity(family: StrokeFamily, path: Path, inputs: Sequence[Tensor]) -> float:
    """The larger of two differences: mean absolute difference of a stroke's opacity map, and difference of a bound.

    The opacity's is a mean over pixels: rounding may decide a single pixel at a stroke's edge either way.
    """
    (alpha, onnx_alpha), bounds = _outputs(_Rasteriser(family), path, inputs)
    means = np.abs(alpha - onnx_alpha).mean((1, 2))
    return max(float(means.max()), float(np.abs(bounds[0] - bounds[1]).max()))


def outline_parity(family: StrokeFamily, path: Path, shape: Tensor) -> float:
    """Largest absolute difference of a coordinate or an opacity of the strokes' vector form."""
    return parity(_Outline(family), path, (shape,))


def parity_report(
    actor: Actor, renderer: nn.Module, family: StrokeFamily, folder: Path, half: bool = False
) -> dict[str, Any]:
    """Differences of all four models from torch at batch sizes 1, 2 and 16, and of the rasteriser at two sizes.

    ``half``: the actor was exported in half precision, which has a larger tolerance.

    Raises:
        ModelError: a difference is above its tolerance.
    """
    generator = torch.Generator().manual_seed(0)
    tolerance = dict.fromkeys(MODELS, TOLERANCE) | ({"actor": HALF_TOLERANCE} if half else {})
    report: dict[str, Any] = {"tolerance": tolerance, "actor": {}, "renderer": {}, "rasteriser": {}, "outline": {}}
    for batch in (1, 2, 16):
        images = torch.rand(2, batch, 3, actor.canvas, actor.canvas, generator=generator)
        inputs = (*images, torch.rand(batch, generator=generator))
        report["actor"][str(batch)] = parity(actor.cpu().eval(), folder / "actor.onnx", inputs)
        shape = family.sample(batch, generator)
        report["renderer"][str(batch)] = parity(renderer.cpu(), folder / "renderer.onnx", (shape,))
        report["outline"][str(batch)] = outline_parity(family, folder / "outline.onnx", shape)
        for side in (32, 100):
            inputs = (shape, *pixel_centres(batch, side))
            name = f"{batch} x {side} px"
            report["rasteriser"][name] = rasteriser_parity(family, folder / "rasteriser.onnx", inputs)
    for model in MODELS:
        worst = max(report[model].values())
        if not worst <= tolerance[model]:
            raise ModelError(
                f"{folder / model}.onnx: ONNX Runtime differs from torch by {worst:.2g}, over {tolerance[model]}; "
                "set export.precision to fp32, or report it"
            )
    return report


def _outputs(module: nn.Module, path: Path, inputs: Sequence[Tensor]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each output, from torch and from ONNX Runtime."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    found = session.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})
    with torch.no_grad():
        expected = module(*inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    return [(torch_value.numpy(), onnx_value) for torch_value, onnx_value in zip(expected, found, strict=True)]


def _export(
    module: nn.Module,
    path: Path,
    example: tuple[Tensor, ...],
    inputs: list[str],
    outputs: list[str],
    dynamic: tuple[dict[int, Any], ...],
    opset: int,
    metadata: dict[str, str],
    half: bool = False,
) -> None:
    with atomic_write(path) as temporary, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The exporter warns about missing torchvision operators, which are not used.
        logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module,
            example,
            dynamo=True,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=dynamic,
            opset_version=opset,
            external_data=False,
            verbose=False,
        )
        assert program is not None
        model = program.model_proto
        if half:
            model = convert_float_to_float16(model, keep_io_types=True)
            # The converter appends its casts at the end, but nodes must be in topological order.
            OnnxModel(model).topological_sort()
        onnx.helper.set_model_props(model, {PREFIX + name: value for name, value in metadata.items()})
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, temporary)
