"""``lpaint bench train``: time of an update of the agent against a plain update, and of a round of episodes."""

from collections.abc import Callable

import torch

from lpaint.agent.ddpg import Ddpg
from lpaint.agent.environment import Compositor, rollout
from lpaint.agent.factory import build_agent
from lpaint.agent.networks import Actor
from lpaint.agent.targets import TargetSampler, place_images
from lpaint.agent.train_step import train_step
from lpaint.bench.plain import contiguous, plain_optim
from lpaint.bench.timing import Report, interleaved
from lpaint.renderer.networks import build_renderer, canvas_rasterisers, renderer_settings
from lpaint.replay import UniformReplay, build_replay
from lpaint.runtime.params import Params
from lpaint.strokes import get_family
from lpaint.training.device import Compute

_IMAGES = 256
# Every step of an episode takes the same time.
_MOST_STEPS = 5
# Exponent of the importance weights; its value does not change the work.
_BETA = 0.5


def bench_training(params: Params, compute: Compute, repeats: int) -> Report:
    """Seconds of an update, plain and as trained, their ratio, and of a round of episodes, at the sizes of ``params``.

    Images are noise and weights are random; neither changes the work.
    """
    settings, canvas, device = params.agent, params.stroke.canvas, compute.torch_device
    plain = Compute(compute.device, "fp32", compute.threads, compile=False)
    agent, targets = _agent(params, compute)
    with plain_optim():
        plain_agent, _ = _agent(params, plain)
    for network in plain_agent.networks():
        contiguous(network)
    rng = torch.Generator(device).manual_seed(0)
    steps = min(settings.max_steps, _MOST_STEPS)
    shortened = settings.model_copy(update={"max_steps": steps})
    transitions_per_round = shortened.transitions_per_round
    action = settings.bundle, get_family(params.stroke.family).parameters
    replay = build_replay(settings.replay, transitions_per_round, canvas, action, device, settings.per)

    def run_round() -> None:
        for transitions in rollout(targets, agent.compositor, agent.policy, shortened, rng):
            replay.add(transitions)

    run_round()

    def plain_update() -> None:
        with plain_optim():
            train_step(plain_agent, replay, targets, rng, _BETA)

    actions: dict[str, Callable[[], object]] = {
        "update": _updating(agent, replay, targets, rng),
        "plain update": plain_update,
    }
    round_name = f"round of {transitions_per_round} transitions"
    actions[round_name] = run_round
    seconds = interleaved(actions, repeats, synchronizer(compute))
    sizes = {
        "canvas": canvas,
        "batch": settings.batch_size,
        "width": settings.actor.width,
        "renderer": settings.renderer if settings.renderer == "exact" else f"neural ({params.renderer.network})",
        "replay": settings.replay,
        "gan": settings.gan,
        "device": compute.device,
        "precision": compute.precision,
        "threads": compute.threads,
        "repeats": repeats,
    }
    report = Report("train", sizes)
    for name, value in seconds.items():
        report.add(name, value, "s")
    report.add("ratio of plain to ours", seconds["plain update"] / seconds["update"], "")
    report.add("transitions a second", transitions_per_round / seconds[round_name], "/s")
    return report


def prepare_update(params: Params, compute: Compute) -> Callable[[], object]:
    """A function that runs one update of a new agent on the transitions of one step, at the sizes of ``params``."""
    settings, device = params.agent, compute.torch_device
    (agent, targets), rng = _agent(params, compute), torch.Generator(device).manual_seed(0)
    one_step = settings.model_copy(update={"max_steps": 1})
    action = settings.bundle, get_family(params.stroke.family).parameters
    sizes = one_step.transitions_per_round, params.stroke.canvas, action
    replay = build_replay(settings.replay, *sizes, device, settings.per)
    for transitions in rollout(targets, agent.compositor, agent.policy, one_step, rng):
        replay.add(transitions)
    return _updating(agent, replay, targets, rng)


def synchronizer(compute: Compute) -> Callable[[], None]:
    """A function that waits until the device is idle, for use before the clock is read."""
    return torch.cuda.synchronize if compute.device == "cuda" else lambda: None


def _agent(params: Params, compute: Compute) -> tuple[Ddpg, TargetSampler]:
    """A fresh agent, and targets of noise for it."""
    settings, canvas = params.agent, params.stroke.canvas
    family = get_family(params.stroke.family)
    torch.manual_seed(0)
    images = torch.randint(0, 256, (_IMAGES, params.data.size, params.data.size, 3), dtype=torch.uint8)
    images = place_images(images.numpy(), compute.torch_device)
    targets = TargetSampler(images, torch.arange(_IMAGES), canvas, settings.zoom, compute.torch_device)
    shape = settings.actor
    sizes = (canvas, settings.bundle, family.parameters, shape.width)
    actor = Actor(*sizes, shape.head, shape.blocks, shape.norm, settings.counts_steps)
    network = None
    if settings.renderer == "neural":
        network = build_renderer(renderer_settings(params.renderer, params.stroke)).eval()
    compositor = Compositor(family, canvas_rasterisers(family, compute, network), settings.fit_colours)
    return build_agent(settings, actor, compositor, compute), targets


def _updating(agent: Ddpg, replay: UniformReplay, targets: TargetSampler, rng: torch.Generator) -> Callable[[], object]:
    return lambda: train_step(agent, replay, targets, rng, _BETA)
