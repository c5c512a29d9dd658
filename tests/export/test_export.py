"""Exported files against torch, and what they say of themselves."""

import base64
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from lpaint.agent.torch_model import load_actor
from lpaint.export.onnx import MODELS, actor_metadata, export_actor, parity
from lpaint.painting.onnx_model import OnnxPainter, describe, read_metadata
from lpaint.renderer.networks import load_renderer
from lpaint.strokes import get_family, pixel_centres
from tests.helpers.tiny import tiny_params


@pytest.fixture(scope="module")
def painter(chain: Path) -> OnnxPainter:
    return OnnxPainter(chain / "exports/actor.onnx", "cpu", threads=1)


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_actor_agrees_with_torch(chain: Path, painter: OnnxPainter, batch: int) -> None:
    actor, _ = load_actor(chain / "models/actor.safetensors")
    rng = torch.Generator().manual_seed(batch)
    canvas, target = (torch.rand(batch, 3, 16, 16, generator=rng) for _ in range(2))
    fraction = torch.rand(batch, generator=rng)
    with torch.no_grad():
        expected = actor(canvas, target, fraction).numpy()
    strokes = painter.act(canvas.numpy(), target.numpy(), fraction.numpy())
    assert strokes.shape == (batch, 2, 13)
    np.testing.assert_allclose(strokes, expected, atol=1e-5)


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 16, 16), (2, 40, 24), (16, 7, 130)])
def test_rasteriser_draws_any_size_like_torch(painter: OnnxPainter, batch: int, height: int, width: int) -> None:
    family = get_family("bezier")
    shape = family.sample(batch, torch.Generator().manual_seed(batch))
    rows = ((torch.arange(height) + 0.5) / height).expand(batch, -1)
    columns = ((torch.arange(width) + 0.5) / width).expand(batch, -1)
    pitch = torch.tensor([[1 / height, 1 / width]]).expand(batch, -1)
    expected = family.rasterise(shape, rows, columns, pitch).numpy()
    alpha = painter.rasterise(shape.numpy(), rows.numpy(), columns.numpy(), pitch.numpy())
    assert alpha.shape == (batch, height, width) and expected.max() > 0.1
    # A pixel on a stroke's edge may tip with the last bit of a distance; all others agree.
    assert np.abs(alpha - expected).mean() < 1e-5


def test_neural_renderer_agrees_with_torch(chain: Path) -> None:
    renderer = load_renderer(chain / "models/renderer.safetensors")
    session = ort.InferenceSession(chain / "exports/renderer.onnx", providers=["CPUExecutionProvider"])
    shape = get_family("bezier").sample(5, torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = renderer(shape).numpy()
    (alpha,) = session.run(None, {session.get_inputs()[0].name: shape.numpy()})
    np.testing.assert_allclose(alpha, expected, atol=1e-5)


def test_one_file_holds_everything(chain: Path) -> None:
    path = chain / "exports/actor.onnx"
    model = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert not any(onnx.external_data_helper.uses_external_data(tensor) for tensor in model.graph.initializer)
    for name in ("rasteriser", "outline"):
        embedded = base64.b64decode(read_metadata(path)[name])
        assert embedded == (chain / f"exports/{name}.onnx").read_bytes()
    assert model.opset_import[0].version == tiny_params().export.opset


def test_metadata_tells_how_to_paint_and_where_the_model_is_from(chain: Path) -> None:
    facts = describe(chain / "exports/actor.onnx")
    expected = {
        "schema_version": "1",
        "canvas": "16",
        "bundle": "2",
        "max_steps": "3",
        "fit_colours": tiny_params().agent.fit_colours,
        "start": tiny_params().agent.start,
        "zoom": "[1, 2]",
        "family": "bezier",
        "stroke_parameters": "13",
        "value_range": "0..1",
        "gan": "wgan_gp",
        "replay": "prioritized",
        "algorithm": "ddpg",
        "seed": "0",
        "data_source": "synthetic",
    }
    assert expected.items() <= facts.items()
    assert len(facts["mlflow_run_id"]) == 32
    assert facts["tensors"]["strokes"] == ["batch", 2, 13]


def test_parity_report_covers_every_file_and_batch(chain: Path) -> None:
    report = json.loads((chain / "exports/parity.json").read_text())
    for name in MODELS:
        assert {key.split(" ")[0] for key in report[name]} == {"1", "2", "16"}
        assert max(report[name].values()) < 1e-4


def test_pixel_centres_are_what_the_exported_rasteriser_is_fed() -> None:
    rows, columns, pitch = pixel_centres(1, 4)
    assert rows[0].tolist() == columns[0].tolist() == [0.125, 0.375, 0.625, 0.875]
    assert pitch.tolist() == [[0.25, 0.25]]


def test_half_precision_halves_the_file_and_keeps_the_strokes(chain: Path, tmp_path: Path) -> None:
    actor, spec = load_actor(chain / "models/actor.safetensors")
    family = get_family(spec.family)
    whole, half = chain / "exports/actor.onnx", tmp_path / "actor.onnx"
    parts = (chain / "exports/rasteriser.onnx", chain / "exports/outline.onnx")
    export_actor(actor, half, 20, actor_metadata(spec, family, "", ""), *parts, half=True)
    weights = [sum(len(w.raw_data) for w in onnx.load(path).graph.initializer) for path in (whole, half)]
    assert weights[1] < 0.6 * weights[0]
    inputs = (torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16), torch.rand(2))
    assert 0 < parity(actor, half, inputs) < 5e-3
    assert OnnxPainter(half, "cpu").bundle == spec.bundle
