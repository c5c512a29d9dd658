"""``lpaint bench gans``: what updating each discriminator costs, and what asking it for the actor's reward costs."""

from collections.abc import Callable

import torch
from torch import Tensor

from lpaint.bench.timing import Report, interleaved
from lpaint.bench.training import waiting
from lpaint.gan import DiscriminatorTrainer, build_gan, gan_names, pair
from lpaint.runtime.params import Params
from lpaint.training.device import Compute


def bench_gans(params: Params, compute: Compute, repeats: int) -> Report:
    """Milliseconds of an update and of a reward with its gradient, by GAN, at the sizes of ``params``; in turns."""
    agent, canvas, device = params.agent, params.stroke.canvas, compute.torch_device
    rng = torch.Generator(device).manual_seed(0)
    before, after, target = torch.rand(3, agent.batch_size, 3, canvas, canvas, generator=rng, device=device)
    actions: dict[str, Callable[[], object]] = {}
    for name in gan_names():
        chosen = agent.model_copy(update={"gan": name})
        torch.manual_seed(0)
        gan = build_gan(chosen)
        assert gan is not None
        adversary = DiscriminatorTrainer(gan, chosen.discriminator, chosen.adam, compute)
        actions[f"update, {name}"] = _updating(adversary, after, target, rng)
        actions[f"reward, {name}"] = _rewarding(adversary, before, after, target)
    seconds = interleaved(actions, repeats, waiting(compute))
    sizes = {"canvas": canvas, "batch": agent.batch_size, "width": agent.discriminator.width}
    report = Report("gans", sizes | {"device": compute.device, "precision": compute.precision, "repeats": repeats})
    for name, value in seconds.items():
        report.add(name, value * 1000, "ms")
    return report


def _updating(
    adversary: DiscriminatorTrainer, after: Tensor, target: Tensor, rng: torch.Generator
) -> Callable[[], object]:
    return lambda: adversary.update(pair(target, target), pair(after, target), rng)


def _rewarding(adversary: DiscriminatorTrainer, before: Tensor, after: Tensor, target: Tensor) -> Callable[[], object]:
    painted = after.clone().requires_grad_()

    def ask() -> Tensor:
        gain = adversary.target(pair(painted, target)) - adversary.target(pair(before, target))
        return torch.autograd.grad(gain.sum(), painted)[0]

    return ask
