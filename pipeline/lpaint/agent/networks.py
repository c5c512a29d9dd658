"""Actor and critic: ResNet-18s over images and coordinate channels (Huang et al. 2019, section 3.4)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from lpaint.layers import TranslatedReLU


class Actor(nn.Module):
    """Policy: (canvas, target, step fraction) -> a bundle of strokes.

    A ResNet-18 with batch normalisation and a sigmoid head. Its nine input channels are canvas (3), target (3), the
    step fraction, and two coordinate channels (CoordConv, Liu et al. 2018). ``width`` is the number of channels of the
    first of the four stages (64 as published). Size-agnostic, but trained at ``canvas`` pixels.
    """

    def __init__(self, canvas: int, bundle: int, stroke_parameters: int, width: int) -> None:
        super().__init__()
        self.canvas, self.bundle, self.stroke_parameters = canvas, bundle, stroke_parameters
        self.trunk = _resnet18(9, bundle * stroke_parameters, width, _BatchNormBlock)

    def forward(self, canvas: Tensor, target: Tensor, fraction: Tensor) -> Tensor:
        """Choose strokes.

        Args:
            canvas: [B, 3, S, S], in [0, 1].
            target: [B, 3, S, S], in [0, 1].
            fraction: [B], step / max_steps, in [0, 1).

        Returns:
            [B, bundle, stroke_parameters], in [0, 1].
        """
        out = self.trunk(_with_planes(canvas, target, fraction=fraction))
        return torch.sigmoid(out.float()).view(-1, self.bundle, self.stroke_parameters)


class Critic(nn.Module):
    """Value of the state that an action leads to, V(canvas before, canvas after, target, step fraction after).

    A ResNet-18 with weight normalisation and translated ReLUs (Xiang and Li 2017), as published; twelve input channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.trunk = _resnet18(12, 1, width, _WeightNormBlock)

    def forward(self, before: Tensor, after: Tensor, target: Tensor, fraction: Tensor) -> Tensor:
        """[B, 3, S, S] images in [0, 1] and ``fraction`` [B] in (0, 1] -> values [B]."""
        return self.trunk(_with_planes(before, after, target, fraction=fraction)).float().squeeze(1)


def _with_planes(*images: Tensor, fraction: Tensor) -> Tensor:
    """Images, a constant plane of the step fraction and two coordinate planes, stacked as channels."""
    batch, _, height, width = images[0].shape
    row = torch.linspace(0, 1, height, device=fraction.device, dtype=fraction.dtype)
    column = torch.linspace(0, 1, width, device=fraction.device, dtype=fraction.dtype)
    plane = (batch, 1, height, width)
    planes = (fraction.view(-1, 1, 1, 1).expand(plane), row.view(1, 1, -1, 1).expand(plane), column.expand(plane))
    return torch.cat([*images, *planes], 1).contiguous(memory_format=torch.channels_last)


class _BatchNormBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.skip = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    @staticmethod
    def stem(inputs: int, width: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(out)) + self.skip(x))


class _WeightNormBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = weight_norm(nn.Conv2d(inputs, outputs, 3, stride, 1))
        self.first_activation = TranslatedReLU(outputs)
        self.second = weight_norm(nn.Conv2d(outputs, outputs, 3, 1, 1))
        self.second_activation = TranslatedReLU(outputs)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.skip = weight_norm(nn.Conv2d(inputs, outputs, 1, stride))

    @staticmethod
    def stem(inputs: int, width: int) -> list[nn.Module]:
        return [weight_norm(nn.Conv2d(inputs, width, 3, 2, 1)), TranslatedReLU(width)]

    def forward(self, x: Tensor) -> Tensor:
        out = self.first_activation(self.first(x))
        return self.second_activation(self.second(out) + self.skip(x))


def _resnet18(inputs: int, outputs: int, width: int, block: Any) -> nn.Sequential:
    """Four stages of two blocks, each stage halving the side and, after the first, doubling the channels."""
    layers: list[nn.Module] = block.stem(inputs, width)
    channels = width
    for multiple in (1, 2, 4, 8):
        layers += [block(channels, width * multiple, 2), block(width * multiple, width * multiple, 1)]
        channels = width * multiple
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs)]
    network = nn.Sequential(*layers)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs leave it out
    return network
