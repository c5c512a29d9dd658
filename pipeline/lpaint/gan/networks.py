"""Discriminator networks on pairs of pictures: one trunk of four strided convolutions, normalised in two ways."""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from lpaint.training.layers import TranslatedReLU

# Cells of the last feature map of SAGAN's discriminator, over which it sums.
_CELLS = 16


class PairDiscriminator(nn.Module):
    """The 2019 code's discriminator: five-wide strided convolutions with weight norm and translated ReLUs.

    Six input channels, canvas beside target; ``width`` channels after the first convolution, doubled by each of the
    next three. ``head``: ``linear``, the mean over what is left of the picture and a linear layer on it, or
    ``convolution``, one more strided convolution to ``outputs`` channels and the mean of these, as in the 2019 code
    (274,886 weights at width 16 with ``thresholds`` of ``layer``). ``outputs`` unbounded numbers. No batch norm, which
    a gradient penalty forbids (Gulrajani et al. 2017, section 4).
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

    def forward(self, pair: Tensor) -> Tensor:
        """[B, 6, S, S] in [0, 1] -> [B], or features [B, outputs] where there is more than one."""
        out: Tensor = self.trunk(pair)
        return out.squeeze(1) if self.outputs == 1 else out


class SpectralDiscriminator(nn.Module):
    """The same trunk with every weight divided by its largest singular value (Miyato et al. 2018, arXiv 1802.05957).

    Four-wide strided convolutions and leaky ReLUs of slope 0.1 as in that paper's table 3; channels as in
    ``PairDiscriminator``, so that GANs differ in what they are about and not in size. The last features are summed over
    4 x 4 cells, as in SAGAN: their mean over the picture times 16, so that a score has the same scale on a canvas of
    any size. ``attention`` (see ``attention.py``), if any, sits at a quarter of the picture's side, as in SAGAN at
    128 px. In training mode each call takes one step of the power iteration.
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
def renew_spectral_norms(network: nn.Module) -> None:
    """One step of the power iteration for every spectral norm in ``network``, whose weights changed.

    A running average of weights needs its own singular vectors: with those of the network that it follows, or with old
    ones, its norm drifts away from 1.
    """
    for module in network.modules():
        if nn.utils.parametrize.is_parametrized(module, "weight"):
            norms: nn.Module = module.parametrizations["weight"]  # type: ignore[index, assignment]
            # Weight norm has no singular vectors to keep.
            if not list(norms.buffers()):
                continue
            training = norms.training
            norms.train()
            module.weight  # noqa: B018  # computing the weight is what takes the step
            norms.train(training)


def _channels(width: int) -> tuple[int, ...]:
    return width, 2 * width, 4 * width, 8 * width


def pair(canvas: Tensor, target: Tensor) -> Tensor:
    """Canvas and target [B, 3, S, S] stacked to the discriminator's input [B, 6, S, S]."""
    return torch.cat([canvas, target], 1).contiguous(memory_format=torch.channels_last)
