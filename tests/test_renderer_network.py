"""The published neural renderer: its shape, its size, and its weights on disk."""

from pathlib import Path

import pytest
import torch

from lpaint.errors import ModelError, ParamsError
from lpaint.renderer.networks import build_renderer, load_renderer, renderer_settings
from lpaint.weights import save_weights


@pytest.mark.parametrize("canvas", [16, 32])
def test_the_renderer_draws_its_canvas(canvas: int) -> None:
    torch.manual_seed(0)
    network = build_renderer("published", 10, canvas)
    shape = torch.rand(3, 10)
    alpha, logits = network(shape), network.logits(shape)
    assert alpha.shape == logits.shape == (3, canvas, canvas)
    assert alpha.min() >= 0 and alpha.max() <= 1
    torch.testing.assert_close(alpha, logits.sigmoid())
    assert not torch.equal(alpha[0], alpha[1])


def test_the_published_canvas_has_the_published_layers() -> None:
    with torch.device("meta"):
        network = build_renderer("published", 10, 128)
    sizes = [tuple(value.shape) for name, value in network.named_parameters() if name.endswith("weight")]
    assert sizes[:4] == [(512, 10), (1024, 512), (2048, 1024), (4096, 2048)]
    assert [size[:2] for size in sizes[4:]] == [(32, 16), (32, 32), (16, 8), (16, 16), (8, 4), (4, 8)]


def test_the_shape_gets_a_gradient() -> None:
    torch.manual_seed(0)
    network = build_renderer("published", 10, 16)
    shape = torch.rand(4, 10, requires_grad=True)
    (gradient,) = torch.autograd.grad(network.logits(shape).square().sum(), shape)
    assert torch.isfinite(gradient).all() and (gradient != 0).all()


def test_a_loaded_renderer_is_the_saved_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, path = build_renderer("published", 10, 16), tmp_path / "renderer.safetensors"
    save_weights(path, network, renderer_settings("published", "bezier", 10, 16))
    loaded, shape = load_renderer(path), torch.rand(2, 10)
    assert not loaded.training
    assert torch.equal(loaded(shape), network(shape))


def test_missing_weights_name_the_stage_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="dvc repro pretrain_renderer"):
        load_renderer(tmp_path / "renderer.safetensors")


def test_an_unknown_network_is_an_error() -> None:
    with pytest.raises(ParamsError, match=r"'enhanced_9000'.*published"):
        build_renderer("enhanced_9000", 10, 16)
