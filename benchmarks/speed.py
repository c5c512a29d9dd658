"""How fast this machine trains and paints: `python benchmarks/speed.py`. Prints a table, and JSON with --json FILE.

Every figure is a median over repetitions, after a warm-up; nothing is written but the report. Needs no data set.
"""

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from lpaint.agent.ddpg import Ddpg
from lpaint.agent.environment import Compositor, Pictures, rollout
from lpaint.agent.networks import Actor, Critic
from lpaint.data import synthetic
from lpaint.device import Compute, choose_compute
from lpaint.gan import PairDiscriminator
from lpaint.painting.model import OnnxPainter
from lpaint.painting.picture import Plan, paint_picture
from lpaint.painting.resample import resize
from lpaint.params import Params, load_params
from lpaint.replay import build_replay
from lpaint.strokes import exact_rasteriser, get_family, pixel_centres

ROOT = Path(__file__).parents[1]
ACTOR = ROOT / "exports/actor.onnx"


class Stopwatch:
    """Median seconds of a call, with the device's queue emptied before the clock is read."""

    def __init__(self, compute: Compute, repetitions: int) -> None:
        self.compute, self.repetitions = compute, repetitions

    def __call__(self, action: Callable[[], Any]) -> float:
        action()
        action()
        seconds = []
        for _ in range(self.repetitions):
            self._wait()
            started = time.perf_counter()
            action()
            self._wait()
            seconds.append(time.perf_counter() - started)
        return statistics.median(seconds)

    def _wait(self) -> None:
        if self.compute.device == "cuda":
            torch.cuda.synchronize()


def training(params: Params, compute: Compute, clock: Stopwatch) -> dict[str, float]:
    """Seconds of the rasteriser, an update and a round of episodes at the sizes of ``params``."""
    settings, canvas, device = params.agent, params.stroke.canvas, compute.torch_device
    family = get_family(params.stroke.family)
    torch.manual_seed(0)
    images = torch.randint(0, 256, (256, params.data.size, params.data.size, 3), dtype=torch.uint8)
    pictures = Pictures(images, torch.arange(256), canvas, settings.zoom, device)
    painter = Compositor(family, exact_rasteriser(family, canvas, compute.compile))
    actor = Actor(canvas, settings.bundle, family.parameters, settings.actor.width)
    discriminator = PairDiscriminator(settings.discriminator.width) if settings.gan != "none" else None
    critic = Critic(settings.critic.width)
    agent = Ddpg(settings, actor, critic, discriminator, pictures, painter, compute)
    episode = settings.environments * settings.max_steps * len(settings.zoom)
    replay = build_replay(settings.replay, 2 * episode, canvas, device, settings.per)
    rng = torch.Generator(device).manual_seed(0)

    def play() -> None:
        steps = (settings.environments, settings.max_steps, settings.flip)
        for transitions in rollout(pictures, painter, agent.policy, *steps, rng):
            replay.add(transitions)

    shape = family.sample(settings.batch_size * settings.bundle, rng).requires_grad_()
    places = pixel_centres(len(shape), canvas, device)

    def rasterise() -> None:
        family.rasterise(shape, *places).sum().backward()

    return {
        f"round of {episode} transitions, s": clock(play),
        f"update of {settings.batch_size}, s": clock(lambda: agent.update(replay, 0.5, 1.0, rng)),
        f"rasterise {len(shape)} strokes and back, uncompiled, s": clock(rasterise),
    }


def painting(onnx: Path, device: str, clock: Stopwatch) -> dict[str, float]:
    """Seconds to paint synthetic portraits with an exported agent, start-up not counted."""
    model = OnnxPainter(onnx, device)
    small, large = _portrait(128, 128), _portrait(768, 1024)
    return {
        "200 strokes at 128 x 128, s": clock(lambda: paint_picture(model, small, Plan(strokes=200))),
        "500 strokes at 1024 x 768, s": clock(lambda: paint_picture(model, large, Plan(strokes=500))),
        "grid of 4 x 4 at 1024 x 768, s": clock(lambda: paint_picture(model, large, Plan(divide=4))),
    }


def _portrait(height: int, width: int) -> np.ndarray:
    portrait = synthetic.draw(20_001, 0, max(height, width))
    return resize(np.asarray(portrait, np.float32).transpose(2, 0, 1) / 255, height, width)


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here too.")] = None,
    params_file: Annotated[Path, typer.Option("--params", help="Sizes to measure at.")] = ROOT / "params.yaml",
    onnx: Annotated[Path, typer.Option(help="The agent to paint with; none there, none measured.")] = ACTOR,
    repetitions: Annotated[int, typer.Option(min=1)] = 5,
) -> None:
    """Measure training and painting at the sizes of params.yaml, on the device that it asks for."""
    params = load_params(params_file)
    compute = choose_compute(params.base)
    clock = Stopwatch(compute, repetitions)
    where = torch.cuda.get_device_name() if compute.device == "cuda" else platform.processor() or platform.machine()
    figures = training(params, compute, clock)
    if onnx.is_file():
        figures |= painting(onnx, compute.device, clock)
    print(f"{where}; {compute}; median of {repetitions}")
    for name, seconds in figures.items():
        print(f"{seconds:9.4f}  {name}")
    if json_file is not None:
        report = {"machine": where, "compute": compute.as_dict(), "repetitions": repetitions, "figures": figures}
        json_file.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
