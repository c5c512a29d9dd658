"""Discriminator networks on pairs: four strided convolutions with weight norm or spectral norm."""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from lpaint.runtime.params import Agent
from lpaint.training.layers import TranslatedReLU

# SAGAN's discriminator sums over the 4 x 4 cells of its last feature map.
_CELLS = 16


class PairDiscriminator(nn.Module):
    """The discriminator of the 2019 code: 5 x 5 strided convolutions with weight norm and translated ReLUs.

    There is no batch norm: a gradient penalty forbids it (Gulrajani et al. 2017, section 4). With ``width`` 16,
    ``head`` ``convolution`` and ``thresholds`` ``layer`` it has the 274,886 weights of the 2019 code.

    Args:
        width: channels after the first convolution; each of the next three doubles them.
        outputs: unbounded numbers for each pair.
        head: ``linear``, the mean over the last feature map and a linear layer, or ``convolution``, one more strided
            convolution to ``outputs`` channels and their means, as in the 2019 code.
        thresholds: see ``TranslatedReLU``.
    """

    def __init__(self, width: int, outputs: int = 1, head: str = "linear", thresholds: str = "channel") -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 6
        for channels in _channels(width):
            layers += [weight_norm(nn.Conv2d(inputs, channels, 5, 2, 2)), TranslatedReLU(channels, thresholds)]
            inputs = channels
        self.outputs = outputs
        mean = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        if head == "convolution":
            layers += [weight_norm(nn.Conv2d(inputs, outputs, 5, 2, 2)), *mean]
        else:
            layers += [*mean, nn.Linear(inputs, outputs)]
        self.trunk = nn.Sequential(*layers)
        self.trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs leave it out

    @classmethod
    def build(cls, agent: Agent, outputs: int = 1) -> Self:
        """The network with the settings of ``agent``."""
        settings = agent.discriminator
        return cls(settings.width, outputs, settings.head, agent.thresholds)

    def forward(self, pair: Tensor) -> Tensor:
        """[B, 6, S, S] in [0, 1] -> [B], or features [B, outputs] if ``outputs`` is above 1."""
        out: Tensor = self.trunk(pair)
        return out.squeeze(1) if self.outputs == 1 else out


class SpectralDiscriminator(nn.Module):
    """Strided convolutions with every weight divided by its largest singular value (Miyato et al. 2018, 1802.05957).

    4 x 4 kernels and leaky ReLUs of slope 0.1 as in that paper's table 3; as many channels as ``PairDiscriminator``, so
    that GANs do not differ in size. SAGAN sums the last features over 4 x 4 cells. Here it is their mean times 16, so
    that a score has the same scale on a canvas of any size. ``attention``, if any, is at a quarter of the canvas's
    side, as in SAGAN at 128 px. In training mode each call takes one step of the power iteration.
    """

    def __init__(self, width: int, attention: type[nn.Module] | None = None) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 6
        for depth, channels in enumerate(_channels(width)):
            layers += [spectral_norm(nn.Conv2d(inputs, channels, 4, 2, 1)), nn.LeakyReLU(0.1)]
            if attention is not None and depth == 1:
                layers.append(attention(channels))
            inputs = channels
        self.trunk = nn.Sequential(*layers)
        self.trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs leave it out
        self.score = spectral_norm(nn.Linear(inputs, 1))

    def forward(self, pair: Tensor) -> Tensor:
        """[B, 6, S, S] in [0, 1] -> scores [B]."""
        return self.score(_CELLS * self.trunk(pair).float().mean((2, 3))).squeeze(1)


@torch.no_grad()
def update_spectral_norms(network: nn.Module) -> None:
    """Take one step of the power iteration for every spectral norm in ``network``, in place.

    A Polyak average of weights needs singular vectors of its own: with those of the online network, or with old ones,
    its spectral norm drifts away from 1.
    """
    for module in network.modules():
        if nn.utils.parametrize.is_parametrized(module, "weight"):
            norms: nn.Module = module.parametrizations["weight"]  # type: ignore[index, assignment]
            # Weight norm has no buffers: it needs no singular vectors.
            if not list(norms.buffers()):
                continue
            training = norms.training
            norms.train()
            module.weight  # noqa: B018  # computing the weight takes the step
            norms.train(training)


def _channels(width: int) -> tuple[int, ...]:
    return width, 2 * width, 4 * width, 8 * width


def pair(canvas: Tensor, target: Tensor) -> Tensor:
    """Stack canvas and target [B, 3, S, S] to the discriminator's input [B, 6, S, S]."""
    return torch.cat([canvas, target], 1).contiguous(memory_format=torch.channels_last)
