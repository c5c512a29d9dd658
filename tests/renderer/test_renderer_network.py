"""The neural renderers: their shape, their size, their losses, and their weights on disk."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from lpaint.errors import ModelError, ParamsError
from lpaint.renderer.losses import get_loss, loss_names
from lpaint.renderer.networks import NeuralRenderer, build_renderer, load_renderer, renderer_settings
from lpaint.renderer.training import RendererTraining
from lpaint.runtime.params import Renderer
from lpaint.tracking import NullTracker
from lpaint.training.checkpoint import CheckpointManager
from lpaint.training.device import choose_compute
from lpaint.training.weights import save_weights
from tests.helpers.tiny import tiny_params

NETWORKS = list(get_args(Renderer.model_fields["network"].annotation))
every_network = pytest.mark.parametrize("network", NETWORKS)


def _settings(network: str, canvas: int = 16, activation: str = "silu") -> dict[str, Any]:
    return {"network": network, "activation": activation, "shape_parameters": 10, "canvas": canvas}


def _build(network: str, canvas: int = 16) -> NeuralRenderer:
    torch.manual_seed(0)
    return build_renderer(_settings(network, canvas))


def _weights(network: NeuralRenderer) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@every_network
@pytest.mark.parametrize("canvas", [16, 32])
def test_the_renderer_draws_its_canvas(network: str, canvas: int) -> None:
    renderer = _build(network, canvas)
    shape = torch.rand(3, 10)
    alpha, logits = renderer(shape), renderer.logits(shape)
    assert alpha.shape == logits.shape == (3, canvas, canvas)
    assert alpha.min() >= 0 and alpha.max() <= 1
    torch.testing.assert_close(alpha, logits.sigmoid())
    assert not torch.equal(alpha[0], alpha[1])


def test_the_published_canvas_has_the_published_layers() -> None:
    with torch.device("meta"):
        network = _build("published", 128)
    sizes = [tuple(value.shape) for name, value in network.named_parameters() if name.endswith("weight")]
    assert sizes[:4] == [(512, 10), (1024, 512), (2048, 1024), (4096, 2048)]
    assert [size[:2] for size in sizes[4:]] == [(32, 16), (32, 32), (16, 8), (16, 16), (8, 4), (4, 8)]


@pytest.mark.parametrize("canvas", [64, 128])
def test_the_enhanced_network_has_less_than_half_of_the_published_ones_weights(canvas: int) -> None:
    with torch.device("meta"):
        assert _weights(_build("enhanced", canvas)) < 0.5 * _weights(_build("published", canvas))


def test_the_activation_is_the_one_asked_for() -> None:
    shape, drawn = torch.rand(2, 10), []
    for activation in get_args(Renderer.model_fields["activation"].annotation):
        torch.manual_seed(0)
        drawn.append(build_renderer(_settings("enhanced", activation=activation)).logits(shape))
    assert not any(torch.allclose(drawn[i], drawn[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


@every_network
def test_the_shape_gets_a_gradient(network: str) -> None:
    shape = torch.rand(4, 10, requires_grad=True)
    (gradient,) = torch.autograd.grad(_build(network).logits(shape).square().sum(), shape)
    assert torch.isfinite(gradient).all() and (gradient != 0).all()


@every_network
def test_a_loaded_renderer_is_the_saved_one(network: str, tmp_path: Path) -> None:
    renderer, path = _build(network), tmp_path / "renderer.safetensors"
    save_weights(path, renderer, _settings(network))
    loaded, shape = load_renderer(path), torch.rand(2, 10)
    assert not loaded.training
    assert torch.equal(loaded(shape), renderer(shape))


def test_settings_name_all_that_building_needs() -> None:
    params = tiny_params(stroke={"family": "circle"})
    settings = renderer_settings(params.renderer, params.stroke)
    assert settings["shape_parameters"] == 4 and settings["family"] == "circle"
    build_renderer(settings)


@pytest.mark.parametrize("name", loss_names())
def test_every_loss_is_least_at_the_exact_opacity_and_falls_towards_it(name: str) -> None:
    loss = get_loss(name)
    exact = torch.zeros(2, 8, 8)
    exact[:, 2:6, 3:5] = 1
    good, fair, bad = (loss((exact * 2 - 1) * scale, exact) for scale in (8.0, 1.0, -1.0))
    assert 0 <= good < fair < bad


def test_edges_weigh_more_in_the_edge_loss() -> None:
    exact = torch.zeros(1, 9, 9)
    exact[:, :, 5:] = 1
    calm = (exact * 2 - 1) * 4
    beside, far = calm.clone(), calm.clone()
    beside[0, 4, 4], far[0, 4, 0] = 4.0, 4.0
    wrong = [get_loss("edge")(logits, exact) - get_loss("edge")(calm, exact) for logits in (beside, far)]
    assert wrong[0] == pytest.approx(4 * float(wrong[1]), rel=1e-4)


def test_losses_and_optimisers_are_those_that_params_accept(tmp_path: Path) -> None:
    assert sorted(get_args(Renderer.model_fields["loss"].annotation)) == loss_names()
    for optimiser in get_args(Renderer.model_fields["optimiser"].annotation):
        params = tiny_params(renderer={"optimiser": optimiser, "updates": 2})
        training = RendererTraining(params, choose_compute(params.base), CheckpointManager(tmp_path), NullTracker())
        training.run()
        assert type(training.optimiser).__name__.lower() == optimiser
        CheckpointManager(tmp_path).clear()


def test_missing_weights_name_the_stage_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="dvc repro pretrain_renderer"):
        load_renderer(tmp_path / "renderer.safetensors")


def test_an_unknown_network_is_an_error() -> None:
    with pytest.raises(ParamsError, match=r"'enhanced_9000'.*published"):
        _build("enhanced_9000")
