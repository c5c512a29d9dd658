"""``lpaint bench gans``: time of an update of each discriminator, and of its reward with the gradient."""

from collections.abc import Callable

import torch
from torch import Tensor

from lpaint.bench.timing import Report, interleaved
from lpaint.bench.training import synchronizer
from lpaint.gan import DiscriminatorTrainer, build_gan, gan_names, pair
from lpaint.runtime.params import Params
from lpaint.training.device import Compute


def bench_gans(params: Params, compute: Compute, repeats: int) -> Report:
    """Milliseconds of an update and of a reward with its gradient, per GAN, at the sizes of ``params``."""
    agent, side, device = params.agent, params.stroke.canvas, compute.torch_device
    rng = torch.Generator(device).manual_seed(0)
    canvas, next_canvas, target = torch.rand(3, agent.batch_size, 3, side, side, generator=rng, device=device)
    actions: dict[str, Callable[[], object]] = {}
    for name in gan_names():
        chosen = agent.model_copy(update={"gan": name})
        torch.manual_seed(0)
        gan = build_gan(chosen)
        assert gan is not None
        discriminator = DiscriminatorTrainer(gan, chosen.discriminator, chosen.adam, compute)
        actions[f"update, {name}"] = _updating(discriminator, next_canvas, target, rng)
        actions[f"reward, {name}"] = _rewarding(discriminator, canvas, next_canvas, target)
    seconds = interleaved(actions, repeats, synchronizer(compute))
    sizes = {"canvas": side, "batch": agent.batch_size, "width": agent.discriminator.width}
    report = Report("gans", sizes | {"device": compute.device, "precision": compute.precision, "repeats": repeats})
    for name, value in seconds.items():
        report.add(name, value * 1000, "ms")
    return report


def _updating(
    discriminator: DiscriminatorTrainer, canvas: Tensor, target: Tensor, rng: torch.Generator
) -> Callable[[], object]:
    return lambda: discriminator.update(pair(target, target), pair(canvas, target), rng)


def _rewarding(
    discriminator: DiscriminatorTrainer, canvas: Tensor, next_canvas: Tensor, target: Tensor
) -> Callable[[], object]:
    painted = next_canvas.clone().requires_grad_()

    def run() -> Tensor:
        gain = discriminator.target(pair(painted, target)) - discriminator.target(pair(canvas, target))
        return torch.autograd.grad(gain.sum(), painted)[0]

    return run
