"""Networks from a stroke's shape parameters to its opacity map."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lpaint.errors import ParamsError
from lpaint.runtime.params import Renderer, Stroke
from lpaint.strokes import Rasteriser, StrokeFamily, exact_rasteriser, get_family
from lpaint.training.device import Compute
from lpaint.training.weights import load_weights

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu}
# Input and output channels. After every second convolution PixelShuffle turns four channels into twice the side.
_CONVOLUTIONS = ((16, 32), (32, 32), (8, 16), (16, 16), (4, 8), (8, 4))
# Frequencies of the enhanced network's input features: pi and 2 pi.
_OCTAVES = 2


class NeuralRenderer(nn.Module, ABC):
    """A network that draws opacity maps; subclasses compute the logits."""

    @abstractmethod
    def logits(self, shape: Tensor) -> Tensor:
        """Opacity before the sigmoid: [N, shape_parameters] in [0, 1] -> [N, canvas, canvas]."""

    def forward(self, shape: Tensor) -> Tensor:
        """Opacity map: [N, shape_parameters] in [0, 1] -> [N, canvas, canvas] in [0, 1]."""
        return torch.sigmoid(self.logits(shape))


class PublishedRenderer(NeuralRenderer):
    """The neural renderer of Huang et al. 2019 (arXiv 1903.04411, section 3.3).

    Four fully connected layers, then six convolutions with three sub-pixel (PixelShuffle) upsamplings that double the
    side. The published network starts at 16 x 16 and draws 128 x 128. For another canvas the first side is canvas / 8;
    everything else is the same.
    """

    def __init__(self, shape_parameters: int, canvas: int) -> None:
        super().__init__()
        self.first_side = canvas // 8
        self.dense = nn.ModuleList(
            nn.Linear(a, b)
            for a, b in (
                (shape_parameters, 512),
                (512, 1024),
                (1024, 2048),
                (2048, 16 * self.first_side * self.first_side),
            )
        )
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in _CONVOLUTIONS)

    def logits(self, shape: Tensor) -> Tensor:
        x = shape
        for layer in self.dense:
            x = F.relu(layer(x))
        x = x.view(-1, 16, self.first_side, self.first_side)
        for first, second in zip(self.convolutions[0::2], self.convolutions[1::2], strict=True):
            x = F.pixel_shuffle(second(F.relu(first(x))), 2)
        return x.squeeze(1)


class EnhancedRenderer(NeuralRenderer):
    """A network with a third of the published network's weights and less error after the same training time.

    Its input are the shape parameters with their sines and cosines at two octaves (Tancik et al. 2020, arXiv
    2006.10739), so that the dense layers need not learn to distinguish close positions. It has two dense layers less, a
    smooth ``activation``, and the convolutions of the published network.
    """

    def __init__(self, shape_parameters: int, canvas: int, activation: str = "silu") -> None:
        super().__init__()
        self.first_side = canvas // 8
        self.activation = _ACTIVATIONS[activation]
        widths = (shape_parameters * (1 + 2 * _OCTAVES), 512, 1024, 16 * self.first_side * self.first_side)
        self.dense = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in _CONVOLUTIONS)

    def logits(self, shape: Tensor) -> Tensor:
        waves = [wave(math.pi * 2**octave * shape) for octave in range(_OCTAVES) for wave in (torch.sin, torch.cos)]
        x = torch.cat([2 * shape - 1, *waves], 1)
        for layer in self.dense:
            x = self.activation(layer(x))
        x = x.view(-1, 16, self.first_side, self.first_side)
        for first, second in zip(self.convolutions[0::2], self.convolutions[1::2], strict=True):
            x = F.pixel_shuffle(second(self.activation(first(x))), 2)
        return x.squeeze(1)


def build_renderer(settings: dict[str, Any]) -> NeuralRenderer:
    """A fresh neural renderer with the settings that ``renderer_settings`` returns.

    Raises:
        ParamsError: there is no such network.
    """
    network, size = settings["network"], (settings["shape_parameters"], settings["canvas"])
    if network == "published":
        return PublishedRenderer(*size)
    if network == "enhanced":
        return EnhancedRenderer(*size, settings["activation"])
    raise ParamsError(f"renderer.network: there is no network {network!r}; choose one of enhanced, published")


def neural_rasteriser(network: NeuralRenderer, compute: Compute) -> Rasteriser:
    """The network as a rasteriser, in the precision of ``compute`` up to the sigmoid; freezes its weights."""
    network.to(compute.torch_device).requires_grad_(False)

    def rasterise(shape: Tensor) -> Tensor:
        with compute.autocast():
            logits = network.logits(shape)
        return torch.sigmoid(logits.float())

    return rasterise


def canvas_rasterisers(
    family: StrokeFamily, compute: Compute, network: NeuralRenderer | None = None
) -> Callable[[int], Rasteriser]:
    """A function from a canvas's side in pixels to its rasteriser: exact, or ``network``, which has one size only."""
    if network is None:
        return partial(exact_rasteriser, family, compiled=compute.compile)
    neural = neural_rasteriser(network, compute)
    return lambda canvas: neural


def renderer_settings(renderer: Renderer, stroke: Stroke) -> dict[str, Any]:
    """The settings in a renderer's weights file, from which ``build_renderer`` can build it."""
    family = get_family(stroke.family)
    return {
        "network": renderer.network,
        "activation": renderer.activation,
        "family": family.name,
        "shape_parameters": family.shape_parameters,
        "canvas": stroke.canvas,
    }


def load_renderer(path: Path) -> NeuralRenderer:
    """The trained renderer in ``path``, in evaluation mode.

    Raises:
        ModelError: the file is missing or is no weights file.
    """
    state, settings = load_weights(path, "pretrain_renderer")
    network = build_renderer(settings)
    network.load_state_dict(state)
    return network.eval()
