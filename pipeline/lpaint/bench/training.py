"""``lpaint bench train``: time of an update of the agent against a plain update, and of a round of episodes."""

from collections.abc import Callable

import torch

from lpaint.agent.ddpg import Ddpg
from lpaint.agent.environment import Compositor, rollout
from lpaint.agent.factory import build_agent
from lpaint.agent.networks import Actor
from lpaint.agent.targets import Pictures, place_images
from lpaint.bench.plain import contiguous, plain_optim
from lpaint.bench.timing import Report, interleaved
from lpaint.renderer.networks import build_renderer, canvas_rasterisers, renderer_settings
from lpaint.replay import UniformReplay, build_replay
from lpaint.runtime.params import Params
from lpaint.strokes import get_family
from lpaint.training.device import Compute

_PICTURES = 256
# Every step of an episode takes the same time.
_MOST_STEPS = 5


def bench_training(params: Params, compute: Compute, repeats: int) -> Report:
    """Seconds of an update, plain and as trained, their ratio, and of a round of episodes, at the sizes of ``params``.

    Images are noise and weights are random; neither changes the work.
    """
    settings, canvas, device = params.agent, params.stroke.canvas, compute.torch_device
    plain = Compute(compute.device, "fp32", compute.threads, compile=False)
    agent = _agent(params, compute)
    with plain_optim():
        plain_agent = _agent(params, plain)
    for network in plain_agent.networks():
        contiguous(network)
    rng = torch.Generator(device).manual_seed(0)
    steps = min(settings.max_steps, _MOST_STEPS)
    shortened = settings.model_copy(update={"max_steps": steps})
    episode = shortened.round_transitions
    action = settings.bundle, get_family(params.stroke.family).parameters
    replay = build_replay(settings.replay, episode, canvas, action, device, settings.per)

    def play() -> None:
        for transitions in rollout(agent.pictures, agent.painter, agent.policy, shortened, rng):
            replay.add(transitions)

    play()

    def update_plainly() -> None:
        with plain_optim():
            plain_agent.update(replay, 0.5, 1.0, rng)

    actions: dict[str, Callable[[], object]] = {
        "update": _updating(agent, replay, rng),
        "plain update": update_plainly,
    }
    actions[f"round of {episode} transitions"] = play
    seconds = interleaved(actions, repeats, waiting(compute))
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
    report.add("transitions a second", episode / seconds[f"round of {episode} transitions"], "/s")
    return report


def prepare_update(params: Params, compute: Compute) -> Callable[[], object]:
    """A function that runs one update of a new agent on the transitions of one step, at the sizes of ``params``."""
    settings, device = params.agent, compute.torch_device
    agent, rng = _agent(params, compute), torch.Generator(device).manual_seed(0)
    one_step = settings.model_copy(update={"max_steps": 1})
    action = settings.bundle, get_family(params.stroke.family).parameters
    sizes = one_step.round_transitions, params.stroke.canvas, action
    replay = build_replay(settings.replay, *sizes, device, settings.per)
    for transitions in rollout(agent.pictures, agent.painter, agent.policy, one_step, rng):
        replay.add(transitions)
    return _updating(agent, replay, rng)


def waiting(compute: Compute) -> Callable[[], None]:
    """A function that waits until the device is idle, for use before the clock is read."""
    return torch.cuda.synchronize if compute.device == "cuda" else lambda: None


def _agent(params: Params, compute: Compute) -> Ddpg:
    settings, canvas = params.agent, params.stroke.canvas
    family = get_family(params.stroke.family)
    torch.manual_seed(0)
    images = torch.randint(0, 256, (_PICTURES, params.data.size, params.data.size, 3), dtype=torch.uint8)
    images = place_images(images.numpy(), compute.torch_device)
    pictures = Pictures(images, torch.arange(_PICTURES), canvas, settings.zoom, compute.torch_device)
    shape = settings.actor
    sizes = (canvas, settings.bundle, family.parameters, shape.width)
    actor = Actor(*sizes, shape.head, shape.blocks, shape.norm, settings.counts_steps)
    network = None
    if settings.renderer == "neural":
        network = build_renderer(renderer_settings(params.renderer, params.stroke)).eval()
    painter = Compositor(family, canvas_rasterisers(family, compute, network)(canvas), settings.fit_colours)
    agent = build_agent(settings, actor, compute)
    agent.show(pictures, painter)
    return agent


def _updating(agent: Ddpg, replay: UniformReplay, rng: torch.Generator) -> Callable[[], object]:
    return lambda: agent.update(replay, 0.5, 1.0, rng)
