"""Networks from a stroke's shape numbers to its opacity map."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lpaint.errors import ParamsError
from lpaint.weights import load_weights


class NeuralRenderer(nn.Module, ABC):
    """From shape numbers to an opacity map; a subclass gives the map before the sigmoid."""

    @abstractmethod
    def logits(self, shape: Tensor) -> Tensor:
        """Opacity before the sigmoid: [N, shape_parameters] in [0, 1] -> [N, canvas, canvas]."""

    def forward(self, shape: Tensor) -> Tensor:
        """Opacity map: [N, shape_parameters] in [0, 1] -> [N, canvas, canvas] in [0, 1]."""
        return torch.sigmoid(self.logits(shape))


class PublishedRenderer(NeuralRenderer):
    """The neural renderer of Huang et al. 2019 (arXiv 1903.04411, section 3.3).

    Four fully connected layers, then six convolutions with three sub-pixel (PixelShuffle) upsamplings, each doubling
    the side. The published network starts from 16 x 16 and draws 128 x 128; for another canvas it starts from
    canvas / 8, everything else being the same.
    """

    def __init__(self, shape_parameters: int, canvas: int) -> None:
        super().__init__()
        self.start = canvas // 8
        self.dense = nn.ModuleList(
            nn.Linear(a, b)
            for a, b in ((shape_parameters, 512), (512, 1024), (1024, 2048), (2048, 16 * self.start * self.start))
        )
        channels = ((16, 32), (32, 32), (8, 16), (16, 16), (4, 8), (8, 4))
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in channels)

    def logits(self, shape: Tensor) -> Tensor:
        """See ``NeuralRenderer``."""
        x = shape
        for layer in self.dense:
            x = F.relu(layer(x))
        x = x.view(-1, 16, self.start, self.start)
        for first, second in zip(self.convolutions[0::2], self.convolutions[1::2], strict=True):
            x = F.pixel_shuffle(second(F.relu(first(x))), 2)
        return x.squeeze(1)


_NETWORKS = {"published": PublishedRenderer}


def build_renderer(network: str, shape_parameters: int, canvas: int) -> NeuralRenderer:
    """A fresh neural renderer by its registered name.

    Raises:
        ParamsError: there is no such network.
    """
    if network not in _NETWORKS:
        known = ", ".join(sorted(_NETWORKS))
        raise ParamsError(f"renderer.network: there is no network {network!r}; choose one of {known}")
    return _NETWORKS[network](shape_parameters, canvas)


def renderer_settings(network: str, family: str, shape_parameters: int, canvas: int) -> dict[str, Any]:
    """What a renderer's weights file says of itself."""
    return {"network": network, "family": family, "shape_parameters": shape_parameters, "canvas": canvas}


def load_renderer(path: Path) -> NeuralRenderer:
    """The trained renderer in ``path``, in evaluation mode.

    Raises:
        ModelError: the file is missing or no renderer's.
    """
    state, settings = load_weights(path, "pretrain_renderer")
    network = build_renderer(settings["network"], settings["shape_parameters"], settings["canvas"])
    network.load_state_dict(state)
    return network.eval()
