"""What the sections of `benchmarks/gpu.py` share: findings, parameters, timing, and an agent that is ready to train."""

import json
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lpaint.agent.ddpg import Ddpg, Metrics
from lpaint.agent.environment import rollout
from lpaint.agent.exploration import build_exploration
from lpaint.agent.targets import TargetSampler
from lpaint.agent.train_step import train_step
from lpaint.bench.training import _agent
from lpaint.replay import build_replay
from lpaint.runtime.params import Params, load_params, merge_values, parse_params
from lpaint.runtime.profiles import params_with_profile
from lpaint.strokes import get_family
from lpaint.training.device import Compute, choose_compute

ROOT = Path(__file__).resolve().parents[1]
# The exponent of the importance weights does not change the work.
_BETA = 0.5
# Episodes of the timed agents have this many steps; more would only fill the replay.
_STEPS = 3
# Sizes of --smoke.
SMALL: dict[str, Any] = {
    "base": {"threads": 1, "compile": "off"},
    "data": {"size": 64},
    "stroke": {"canvas": 32},
    "renderer": {"updates": 20, "batch_size": 8, "validation_strokes": 16, "validate_every": 10},
    "agent": {
        "batch_size": 8,
        "environments": 4,
        "max_steps": 2,
        "replay_transitions": 0,
        "warmup_rounds": 1,
        "updates_per_round": 4,
        "actor": {"width": 8},
        "critic": {"width": 8},
        "discriminator": {"width": 8, "warmup_updates": 1},
        "curriculum": {"share": 0.0},
        "validation": {"images": 2, "strokes": 10},
    },
    "evaluate": {"images": 3, "strokes": [10, 25], "timelapses": 0},
}


@dataclass(frozen=True)
class Job:
    """What a section is asked to do.

    Attributes:
        work: folder of data, models and checkpoints; the current folder of the section's process.
        faces: CelebA's archive or folder; empty = synthetic pictures.
        smoke: use the smallest sizes.
        seconds: time for the training.
    """

    work: Path
    faces: str
    smoke: bool
    seconds: float

    @classmethod
    def parse(cls, text: str) -> "Job":
        """A job from the runner's JSON."""
        values = json.loads(text)
        return cls(Path(values["work"]), values["faces"], values["smoke"], values["seconds"])

    def params(self, profile: str | None = None, **overlay: Any) -> Params:
        """The committed parameters, or a profile's, with ``overlay`` and the sizes of a smoke run merged into them."""
        params = params_with_profile(ROOT, profile) if profile else load_params(ROOT / "params.yaml")
        values = params.model_dump(by_alias=True)
        for layer in (overlay, SMALL if self.smoke else {}):
            merge_values(values, layer)
        return parse_params(values, "benchmarks/gpu.py")


class Findings:
    """The findings of a section. Each is in its file as soon as it is set."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.values: dict[str, Any] = {}
        path.parent.mkdir(parents=True, exist_ok=True)

    def __setitem__(self, key: str, value: Any) -> None:
        self.values[key] = value
        self._path.write_text(json.dumps(self.values, indent=1, default=str), encoding="utf-8")

    @contextmanager
    def attempt(self, key: str) -> Iterator[None]:
        """Record an error of the block as finding ``key``; the section continues."""
        try:
            yield
        except Exception as error:
            self[key] = describe_error(error)


def describe_error(error: BaseException) -> dict[str, str]:
    """An error and the lines that raised it, innermost first."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if str(ROOT) in frame.filename]
    lines = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames[-4:])]
    return {"error": f"{type(error).__name__}: {str(error)[:500]}", "where": " < ".join(lines)}


def compute_for(params: Params, **base: Any) -> Compute:
    """Device and precision that ``params`` select, with changes of the section ``base``."""
    return choose_compute(params.base.model_copy(update=base))


def on_gpu() -> bool:
    """Whether torch finds a GPU."""
    return torch.cuda.is_available()


def wait() -> None:
    """Wait until the GPU is idle."""
    if on_gpu():
        torch.cuda.synchronize()


def rounded(value: float) -> float:
    """``value`` with four significant digits."""
    return float(f"{value:.4g}")


def milliseconds(action: Callable[[], object], repeats: int) -> dict[str, float]:
    """Time of an action in milliseconds.

    ``median``: each call timed alone, until the GPU is idle. ``burst``: a mean over calls in a row. ``host``: the part
    of ``burst`` until the CPU has issued all calls. If ``host`` is as large as ``burst``, the GPU waits for the CPU.
    """
    wait()
    alone = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        wait()
        alone.append(time.perf_counter() - started)
    started = time.perf_counter()
    for _ in range(repeats):
        action()
    issued = time.perf_counter() - started
    wait()
    burst = time.perf_counter() - started
    seconds = {"median": statistics.median(alone), "burst": burst / repeats, "host": issued / repeats}
    return {name: rounded(value * 1000) for name, value in seconds.items()}


class ReadyAgent:
    """A new agent on images of noise, with a filled replay.

    Args:
        params: all parameters; episodes are shortened.
        compute: device and precision.
        mapped: keep the images in host memory, as if they did not fit on the GPU.

    Attributes:
        rng: the random stream of the updates.
        steps: environment steps of a round.
    """

    def __init__(self, params: Params, compute: Compute, mapped: bool = False) -> None:
        self.settings = params.agent.model_copy(update={"max_steps": min(_STEPS, params.agent.max_steps)})
        self.agent: Ddpg
        self.targets: TargetSampler
        self.agent, self.targets = _agent(params, compute)
        device, settings, canvas = compute.torch_device, self.settings, params.stroke.canvas
        if mapped:
            host = self.targets.images.cpu()
            self.targets = TargetSampler(host, torch.arange(len(host)), canvas, settings.zoom, device)
        self.rng = torch.Generator(device).manual_seed(0)
        self.exploration = build_exploration(self.agent, settings, self.rng)
        action = settings.bundle, get_family(params.stroke.family).parameters
        sizes = settings.transitions_per_round, canvas, action
        self.replay = build_replay(settings.replay, *sizes, device, settings.per, self.agent.zero_error_step)
        self.steps = settings.max_steps * len(settings.zoom)
        self.agent.actor.eval()
        self.play_round()
        self.agent.train()

    def play_round(self) -> None:
        """Paint one episode in every environment and store it."""
        self.exploration.resample_noise()
        policy = self.exploration.policy
        for transitions in rollout(self.targets, self.agent.compositor, policy, self.settings, self.rng):
            self.replay.add(transitions)

    def update(self) -> Metrics:
        """One update; returns its metrics on the device."""
        return train_step(self.agent, self.replay, self.targets, self.rng, _BETA)
