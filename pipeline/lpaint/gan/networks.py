"""Discriminator networks on pairs of pictures."""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from lpaint.layers import TranslatedReLU


class PairDiscriminator(nn.Module):
    """The 2019 code's discriminator: five-wide strided convolutions with weight norm and translated ReLUs.

    Six input channels, canvas beside target; ``width`` channels after the first convolution, doubled by each of the
    next three; mean over what is left of the picture; one unbounded score. No batch norm, which a gradient penalty
    forbids (Gulrajani et al. 2017, section 4).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 6
        for outputs in (width, 2 * width, 4 * width, 8 * width):
            layers += [weight_norm(nn.Conv2d(inputs, outputs, 5, 2, 2)), TranslatedReLU(outputs)]
            inputs = outputs
        self.trunk = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1))
        self.trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs leave it out

    def forward(self, pair: Tensor) -> Tensor:
        """[B, 6, S, S] in [0, 1] -> scores [B]; higher is closer to a pair of equal pictures."""
        return self.trunk(pair).squeeze(1)


def pair(canvas: Tensor, target: Tensor) -> Tensor:
    """Canvas and target [B, 3, S, S] stacked to the discriminator's input [B, 6, S, S]."""
    return torch.cat([canvas, target], 1).contiguous(memory_format=torch.channels_last)
