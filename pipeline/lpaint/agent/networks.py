"""Actor and critics: ResNets over images and coordinate channels (Huang et al. 2019, section 3.4)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from lpaint.training.layers import BatchNorm2d, TranslatedReLU


class Actor(nn.Module):
    """Policy: (canvas, target, step fraction) -> a bundle of strokes.

    A ResNet with normalised layers and a sigmoid output. Its nine input channels are canvas (3), target (3), the step
    fraction, and two coordinate channels (CoordConv, Liu et al. 2018).

    Args:
        canvas: side of the training's canvas in pixels. The network accepts any size.
        bundle: strokes per step.
        stroke_parameters: numbers per stroke.
        width: channels of the first of four stages (64 as published).
        head: ``pooled``, a linear layer on the mean of the last features (as published); or ``attention``, with which
            each stroke attends to places of its own (see ``_AttentionHead``).
        blocks: blocks per stage (2 as published: a ResNet-18).
        norm: ``batch`` (as published); or ``layer`` (Ba et al. 2016, over channels and positions), with which noise on
            the weights has the same effect in every layer.
        counts_steps: whether the step fraction is an input; False replaces it by 0. With ``agent.discount`` 0 the best
            strokes do not depend on the step, and the search nearly always paints at step 0.
    """

    def __init__(
        self,
        canvas: int,
        bundle: int,
        stroke_parameters: int,
        width: int,
        head: str = "pooled",
        blocks: int = 2,
        norm: str = "batch",
        counts_steps: bool = True,
    ) -> None:
        super().__init__()
        self.canvas, self.bundle, self.stroke_parameters = canvas, bundle, stroke_parameters
        self.counts_steps = counts_steps
        stages = _stages(9, width, _LayerNormBlock if norm == "layer" else _BatchNormBlock, blocks)
        if head == "pooled":
            self.trunk = _channels_last(
                nn.Sequential(
                    *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, bundle * stroke_parameters)
                )
            )
        else:
            self.trunk = _channels_last(nn.Sequential(*stages))
            self.head = _AttentionHead(2 * width, 8 * width, bundle, stroke_parameters)
            # The stem and the first two stages give the fine features, at an eighth of the image's side.
            self._fine_layers = len(stages) - 2 * blocks

    def forward(self, canvas: Tensor, target: Tensor, fraction: Tensor) -> Tensor:
        """Choose strokes.

        Args:
            canvas: [B, 3, S, S], in [0, 1].
            target: [B, 3, S, S], in [0, 1].
            fraction: [B], step / max_steps, in [0, 1). In TD targets it reaches 1 (more with a longer horizon) on rows
                whose result is multiplied by 0.

        Returns:
            [B, bundle, stroke_parameters], in [0, 1].
        """
        if not self.counts_steps:
            fraction = torch.zeros_like(fraction)
        inputs = _network_input(canvas, target, fraction=fraction)
        if hasattr(self, "head"):
            fine = self.trunk[: self._fine_layers](inputs)
            out = self.head(fine, self.trunk[self._fine_layers :](fine), canvas, target)
        else:
            out = self.trunk(inputs)
        return torch.sigmoid(out.float()).view(-1, self.bundle, self.stroke_parameters)


class _AttentionHead(nn.Module):
    """Cross-attention with one query per stroke, and one head (Vaswani et al. 2017, arXiv 1706.03762, equation 1).

    The queries come from the mean of the coarse features, the keys from the cells of the fine features. The values of a
    cell are its features, its coordinates, and the colours of canvas and target there. A small network maps the
    attended values and the mean to the stroke's parameters; its colour is the attended target colour plus a correction.
    """

    def __init__(self, fine: int, coarse: int, bundle: int, stroke_parameters: int, keys: int = 32) -> None:
        super().__init__()
        self.bundle, self.keys = bundle, keys
        self.key = nn.Conv2d(fine, keys, 1)
        self.query = nn.Linear(coarse, bundle * keys)
        self.from_mean = nn.Linear(coarse, bundle * 128)
        # Coordinates (2), canvas (3) and target (3) beside the features.
        self.from_look = nn.Linear(fine + 8, 128)
        self.out = nn.Linear(128, stroke_parameters)

    def forward(self, fine: Tensor, coarse: Tensor, canvas: Tensor, target: Tensor) -> Tensor:
        """[B, fine, h, w], [B, coarse, h', w'] and images [B, 3, S, S] -> [B, bundle, stroke_parameters], unbounded.

        The last three parameters of a stroke are its colour's.
        """
        batch, _, height, width = fine.shape
        mean = coarse.mean((2, 3))
        query = self.query(mean).view(batch, self.bundle, self.keys)
        attention = torch.softmax((query @ self.key(fine).flatten(2)).float() / self.keys**0.5, 2)
        row, column = torch.meshgrid(
            torch.linspace(0, 1, height, device=fine.device),
            torch.linspace(0, 1, width, device=fine.device),
            indexing="ij",
        )
        places = torch.stack([row, column]).expand(batch, -1, -1, -1)
        small = [F.adaptive_avg_pool2d(image, (height, width)) for image in (canvas, target)]
        attended = attention @ torch.cat([fine.float(), places, *small], 1).flatten(2).transpose(1, 2)
        hidden = F.relu(self.from_look(attended) + self.from_mean(mean).view(batch, self.bundle, -1))
        out = self.out(hidden).float()
        colour = torch.logit(attended[..., -3:].float().clamp(0.02, 0.98))
        return torch.cat([out[..., :-3], out[..., -3:] + colour], 2)


class Critic(nn.Module):
    """Value of the state that an action leads to, V(obs, next_obs, target, next step fraction).

    A ResNet-18 with weight normalisation and translated ReLUs (Xiang and Li 2017), as published; twelve input channels.
    ``thresholds``: see ``TranslatedReLU``.
    """

    def __init__(self, width: int, thresholds: str = "channel") -> None:
        super().__init__()
        stages = _stages(12, width, _weight_norm_block(thresholds), 2)
        self.trunk = _channels_last(
            nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, 1))
        )

    def forward(self, obs: Tensor, next_obs: Tensor, target: Tensor, fraction: Tensor) -> Tensor:
        """[B, 3, S, S] images in [0, 1] and ``fraction`` [B] -> values [B].

        ``fraction`` is in (0, 1); where the value is multiplied by 0 it is 1, in TD targets also above 1.
        """
        return self.trunk(_network_input(obs, next_obs, target, fraction=fraction)).float().squeeze(1)


class TwinCritic(nn.Module):
    """Two critics with different initial weights (Fujimoto et al. 2018, arXiv 1802.09477, section 4.2)."""

    def __init__(self, width: int, thresholds: str = "channel") -> None:
        super().__init__()
        self.critics = nn.ModuleList(Critic(width, thresholds) for _ in range(2))

    def forward(self, obs: Tensor, next_obs: Tensor, target: Tensor, fraction: Tensor) -> Tensor:
        """As ``Critic.forward``; values [2, B]."""
        return torch.stack([critic(obs, next_obs, target, fraction) for critic in self.critics])


class ActionCritic(nn.Module):
    """Value of an action, Q(canvas, target, step fraction, strokes).

    ``Critic``'s ResNet with nine input channels; the strokes join its pooled features before two linear layers
    (Lillicrap et al. 2016, arXiv 1509.02971, section 7: actions enter after the convolutions).
    """

    def __init__(self, width: int, action: int, thresholds: str = "channel") -> None:
        super().__init__()
        stages = _stages(9, width, _weight_norm_block(thresholds), 2)
        self.trunk = _channels_last(nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten()))
        self.head = nn.Sequential(nn.Linear(8 * width + action, 256), nn.ReLU(), nn.Linear(256, 1))

    def forward(self, canvas: Tensor, target: Tensor, fraction: Tensor, strokes: Tensor) -> Tensor:
        """[B, 3, S, S] images in [0, 1], ``fraction`` [B] and ``strokes`` [B, K, P] in [0, 1] -> values [B]."""
        features = self.trunk(_network_input(canvas, target, fraction=fraction))
        values: Tensor = self.head(torch.cat([features.float(), strokes.flatten(1)], 1)).float().squeeze(1)
        return values


def _network_input(*images: Tensor, fraction: Tensor) -> Tensor:
    """Images, a constant plane of the step fraction and two coordinate planes, stacked as channels."""
    batch, _, height, width = images[0].shape
    row = torch.linspace(0, 1, height, device=fraction.device, dtype=fraction.dtype)
    column = torch.linspace(0, 1, width, device=fraction.device, dtype=fraction.dtype)
    plane = (batch, 1, height, width)
    planes = (fraction.view(-1, 1, 1, 1).expand(plane), row.view(1, 1, -1, 1).expand(plane), column.expand(plane))
    return torch.cat([*images, *planes], 1).contiguous(memory_format=torch.channels_last)


class _BatchNormBlock(nn.Module):
    norm: Callable[[int], nn.Module] = BatchNorm2d

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = self.norm(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = self.norm(outputs)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.skip = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), self.norm(outputs))

    @classmethod
    def stem(cls, inputs: int, width: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, width, 3, 2, 1, bias=False), cls.norm(width), nn.ReLU()]

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(out)) + self.skip(x))


class _LayerNormBlock(_BatchNormBlock):
    norm = partial(nn.GroupNorm, 1)


class _WeightNormBlock(nn.Module):
    thresholds = "channel"

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = weight_norm(nn.Conv2d(inputs, outputs, 3, stride, 1))
        self.first_activation = TranslatedReLU(outputs, self.thresholds)
        self.second = weight_norm(nn.Conv2d(outputs, outputs, 3, 1, 1))
        self.second_activation = TranslatedReLU(outputs, self.thresholds)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.skip = weight_norm(nn.Conv2d(inputs, outputs, 1, stride))

    @classmethod
    def stem(cls, inputs: int, width: int) -> list[nn.Module]:
        return [weight_norm(nn.Conv2d(inputs, width, 3, 2, 1)), TranslatedReLU(width, cls.thresholds)]

    def forward(self, x: Tensor) -> Tensor:
        out = self.first_activation(self.first(x))
        return self.second_activation(self.second(out) + self.skip(x))


class _LayerThresholdBlock(_WeightNormBlock):
    thresholds = "layer"


def _weight_norm_block(thresholds: str) -> type[_WeightNormBlock]:
    return _LayerThresholdBlock if thresholds == "layer" else _WeightNormBlock


def _stages(inputs: int, width: int, block: Any, blocks: int) -> list[nn.Module]:
    """A stem and four stages of blocks, each stage halving the side and, after the first, doubling the channels."""
    layers: list[nn.Module] = block.stem(inputs, width)
    channels = width
    for multiple in (1, 2, 4, 8):
        layers.append(block(channels, width * multiple, 2))
        layers += [block(width * multiple, width * multiple, 1) for _ in range(blocks - 1)]
        channels = width * multiple
    return layers


def _channels_last(network: nn.Sequential) -> nn.Sequential:
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    return network
