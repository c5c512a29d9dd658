"""The agent's training loop: rounds of episodes and updates, with validation, checkpoints and resumption."""

import math
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from lpaint import ranks
from lpaint.agent.build import build_agent
from lpaint.agent.environment import Compositor, rollout
from lpaint.agent.exploration import build_exploration
from lpaint.agent.model import TorchPaintingModel, build_actor
from lpaint.agent.networks import Actor
from lpaint.agent.pictures import Pictures
from lpaint.checkpoint import ResumeState, generator_state, restore_generator
from lpaint.data.dataset import PreparedData
from lpaint.device import Compute, peak_memory
from lpaint.errors import TrainingError
from lpaint.metrics import l2, psnr, reward
from lpaint.painting.painter import paint_by_error
from lpaint.params import Params
from lpaint.plots import sheet
from lpaint.replay import Sample, build_replay
from lpaint.strokes import Rasteriser, get_family
from lpaint.tracking import Tracker

# Settings that are of all ranks together, of which each takes its share.
_SHARED = ("batch_size", "environments")


@dataclass
class Progress:
    """Where a training stands; part of its checkpoint."""

    update: int = 0
    rounds: int = 0
    transitions: int = 0
    seconds: float = 0.0
    best_l2: float = math.inf
    curve: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class TrainingResult:
    """What a training leaves: the best actor's weights, its curve, and the settings to rebuild it from."""

    actor: Actor
    settings: dict[str, Any]
    progress: Progress


def actor_settings(params: Params, data: PreparedData) -> dict[str, Any]:
    """What an actor's weights file says of itself."""
    agent = params.agent
    return {
        "canvas": params.stroke.canvas,
        "family": params.stroke.family,
        "bundle": agent.bundle,
        "max_steps": agent.max_steps,
        "zoom": agent.zoom,
        "fit_colours": agent.fit_colours,
        "start": agent.start,
        "width": agent.actor.width,
        "head": agent.actor.head,
        "blocks": agent.actor.blocks,
        "norm": agent.actor.norm,
        "algorithm": agent.algorithm,
        "gan": agent.gan,
        "replay": agent.replay,
        "seed": params.base.seed,
        "data_source": params.data.source,
        "data_digest": data.digest,
    }


class _Means:
    """Means of logged scalars that need not all be logged every time."""

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: Counter[str] = Counter()

    def add(self, metrics: dict[str, torch.Tensor]) -> None:
        for name, value in metrics.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] += 1

    def read(self) -> dict[str, float]:
        """Means over all ranks, too."""
        if not self._sums:
            return {}
        # The only place where a round waits for the device.
        sums = ranks.mean(torch.stack(list(self._sums.values()))).tolist()
        return {name: total / self._counts[name] for name, total in zip(self._sums, sums, strict=True)}


class AgentTraining:
    """A training that can be stopped after any round and goes on from its last checkpoint.

    Where several ranks train, each has its share of environments, replay and batches, and a random stream of its own;
    networks are the same on all. Rank 0 alone validates, reports and writes the checkpoint, which holds all ranks'.

    Args:
        params: all parameters; ``stroke``, ``agent`` and ``base.seed`` matter.
        data: the prepared images.
        compute: device, precision, threads.
        rasteriser: gives what draws shapes on a canvas of a side in pixels, exactly or by a network.
        resume: where checkpoints go.
        tracker: receives metrics and painted sheets.
    """

    def __init__(
        self,
        params: Params,
        data: PreparedData,
        compute: Compute,
        rasteriser: Callable[[int], Rasteriser],
        resume: ResumeState,
        tracker: Tracker,
    ) -> None:
        self.params, self.compute = params, compute
        shares = {name: ranks.share(getattr(params.agent, name), f"agent.{name}") for name in _SHARED}
        self.settings = params.agent.model_copy(update=shares)
        self.resume, self.tracker = resume, tracker
        device, seed = compute.torch_device, params.base.seed
        family, self._rasteriser = get_family(params.stroke.family), rasteriser
        # Initialisation draws from torch's global generator; it is set here and used nowhere else.
        torch.manual_seed(seed)
        self.actor_settings = actor_settings(params, data)
        self.actor = build_actor(self.actor_settings)
        self.agent = build_agent(self.settings, self.actor, compute)
        self.episode = self.settings.environments * self.settings.max_steps * len(self.settings.zoom)
        self._images = torch.from_numpy(data.images).to(device)
        self._train = torch.from_numpy(data.split("train").copy())
        self._family = family
        self.rng = torch.Generator(device).manual_seed(ranks.seed(seed, ranks.rank()))
        self.exploration = build_exploration(self.agent, self.settings, self.rng)
        rows = data.split("validation")[: self.settings.validation.images]
        self.validation_targets = np.ascontiguousarray(data.images[rows].transpose(0, 3, 1, 2), dtype=np.float32) / 255
        self.progress = Progress()
        self.best = self._actor_state()
        state = self._load()
        if state is not None:
            self.progress = Progress(**state["progress"])
        self._set_canvas()
        if state is not None:
            self._restore(state)
        networks = self.agent.networks()
        ranks.copy_first([value for network in networks for value in network.state_dict().values()])

    def run(self, on_round: Callable[[Progress], None] | None = None) -> TrainingResult:
        """Train to ``agent.updates``; ``on_round`` is called after each round and may raise to stop.

        Raises:
            TrainingError: a loss or a weight is no longer finite.
        """
        total = self.settings.updates
        hidden = not (ranks.leads() and sys.stderr.isatty())
        bar = tqdm(total=total, initial=self.progress.update, unit="update", disable=hidden)
        with bar:
            while self.progress.update < total:
                started, before = time.perf_counter(), self.progress.update
                metrics = self._round()
                self.progress.seconds += time.perf_counter() - started
                done = self.progress.update
                bar.update(done - before)
                self._check_finite(metrics)
                if metrics:
                    self._log(metrics, done - before, time.perf_counter() - started)
                if ranks.leads() and self._passed(before, self.settings.validation.every):
                    self._validate()
                if self._passed(before, self.settings.checkpoint_every):
                    self._save()
                if on_round is not None:
                    on_round(self.progress)
        ranks.copy_first(list(self.best.values()))
        self.actor.load_state_dict(self.best)
        return TrainingResult(self.actor.eval(), self.actor_settings, self.progress)

    def _round(self) -> dict[str, float]:
        """One round of episodes into the replay, then updates; mean metrics of the updates."""
        self.actor.eval()
        if self.pictures.canvas != self._canvas():
            self._set_canvas()
        self.exploration.begin()
        for transitions in rollout(self.pictures, self.painter, self.exploration.policy, self.settings, self.rng):
            self.replay.add(transitions)
        self.progress.rounds += 1
        self.progress.transitions += self.episode * ranks.count()
        if self.progress.rounds < self.settings.warmup_rounds:
            return {}
        means = _Means()
        if self.settings.exploration != "none":
            means.add(self.exploration.adapt(self.agent.state(self._even_sample())))
        self.actor.train()
        if self.progress.update == 0:
            self.agent.warm_up_discriminator(self.replay, self.rng)
        for _ in range(min(self.settings.updates_per_round, self.settings.updates - self.progress.update)):
            share = self.progress.update / self.settings.updates
            beta = self.settings.per.beta + (1 - self.settings.per.beta) * share
            means.add(self.agent.update(self.replay, beta, self._learning_rate_factor(share), self.rng))
            self.progress.update += 1
        return means.read()

    def _even_sample(self) -> Sample:
        return self.replay.sample_evenly(self.settings.batch_size, self.rng)

    def _canvas(self) -> int:
        """Side of the canvas at this point of the training."""
        curriculum = self.settings.curriculum
        early = self.progress.update < curriculum.share * self.settings.updates
        # A neural renderer draws one size only.
        return curriculum.canvas if early and self.settings.renderer == "exact" else self.params.stroke.canvas

    def _set_canvas(self) -> None:
        """Pictures, painter and an empty replay for the canvas of now."""
        canvas, device, settings = self._canvas(), self.compute.torch_device, self.settings
        self.pictures = Pictures(self._images, self._train, canvas, settings.zoom, device)
        self.painter = Compositor(self._family, self._rasteriser(canvas), settings.fit_colours)
        self.agent.show(self.pictures, self.painter)
        capacity, action = settings.replay_rounds * self.episode, (settings.bundle, self._family.parameters)
        self.replay = build_replay(settings.replay, capacity, canvas, action, device, settings.per)

    def _learning_rate_factor(self, share: float) -> float:
        rise = min(1.0, (self.progress.update + 1) / max(1, self.settings.warmup_updates))
        if self.settings.schedule == "cosine":
            return rise * 0.5 * (1 + math.cos(math.pi * share))
        return rise * self.settings.decay_by ** sum(share >= decay for decay in self.settings.decay_at)

    def _passed(self, before: int, every: int) -> bool:
        """Whether this round crossed a multiple of ``every`` updates or ended the training."""
        done = self.progress.update
        return done > before and (done // every > before // every or done >= self.settings.updates)

    def _check_finite(self, metrics: dict[str, float]) -> None:
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        if bad:
            raise TrainingError(
                f"train_agent: {bad[0]} was no longer finite in the updates before {self.progress.update}; the last "
                f"good checkpoint is in {self.resume.directory}; lower the learning rates or agent.max_gradient_norm"
            )

    def _log(self, metrics: dict[str, float], updates: int, seconds: float) -> None:
        speed = {"charts/updates_per_second": updates / seconds}
        self.tracker.log_metrics(metrics | speed, self.progress.update)

    @torch.no_grad()
    def _validate(self) -> None:
        actor = self._judged()
        actor.eval()
        model = TorchPaintingModel(actor, self.actor_settings, self.compute)
        budget = self.settings.validation.strokes
        targets = self.validation_targets
        # The painter of least effort: quick, and it ranks actors as the others do.
        canvas = paint_by_error(model, targets, [budget], effort=1).snapshots[budget]
        row = {
            "update": self.progress.update,
            "transitions": self.progress.transitions,
            "samples": self.progress.update * self.params.agent.batch_size,
            "seconds": self.progress.seconds,
            "peak_memory_mib": round(peak_memory(), 1),
            "l2": float(l2(canvas, targets).mean()),
            "psnr": float(psnr(canvas, targets).mean()),
            "reward": float(reward(canvas, targets).mean()),
        }
        self.progress.curve.append(row)
        names = ("l2", "psnr", "reward")
        metrics = {f"validation/{name}": row[name] for name in names}
        charts = {f"charts/{name}": row[name] for name in ("seconds", "transitions", "peak_memory_mib")}
        self.tracker.log_metrics(metrics | charts, self.progress.update)
        shown = min(8, len(targets))
        self.tracker.log_image("validation", sheet([list(targets[:shown]), list(canvas[:shown])]), self.progress.update)
        tqdm.write(
            f"update {row['update']}: L2 {row['l2']:.5f}, reward {row['reward']:.4f} at {budget} strokes, "
            f"{row['seconds']:.0f} s",
            file=sys.stderr,
        )
        if row["l2"] < self.progress.best_l2:
            self.progress.best_l2 = row["l2"]
            self.best = self._actor_state()

    def _actor_state(self) -> dict[str, torch.Tensor]:
        return {name: value.detach().clone() for name, value in self._judged().state_dict().items()}

    def _judged(self) -> Actor:
        """The actor that is validated and kept."""
        averaged: Actor = self.agent.actor_target  # type: ignore[assignment]  # a copy of the actor
        return averaged if self.settings.actor.average else self.actor

    def _save(self) -> None:
        parts = ranks.gather({"replay": self.replay.state_dict(), "rng": generator_state(self.rng)})
        if not ranks.leads():
            return
        self.resume.save(
            {
                "progress": vars(self.progress),
                "agent": self.agent.state_dict(),
                "exploration": self.exploration.state_dict(),
                "best": self.best,
                "ranks": parts,
            }
        )

    def _load(self) -> dict[str, Any] | None:
        """The last checkpoint with this rank's part of it as ``own``; None where there is none."""
        device = self.compute.torch_device
        state = self.resume.load("cpu" if ranks.count() > 1 else device) if ranks.leads() else None
        return ranks.spread(state, device)

    def _restore(self, state: dict[str, Any]) -> None:
        self.agent.load_state_dict(state["agent"])
        self.exploration.load_state_dict(state["exploration"])
        self.replay.load_state_dict(state["own"]["replay"])
        restore_generator(self.rng, state["own"]["rng"])
        self.best = state["best"]
        if ranks.leads():
            print(f"resumed at update {self.progress.update}", flush=True)
