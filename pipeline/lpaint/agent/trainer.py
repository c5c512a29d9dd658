"""The agent's training loop: rounds of episodes and updates, with validation, checkpoints and resumption."""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from lpaint.agent.divergence import DivergenceError, RoundMetrics, check_weights
from lpaint.agent.environment import Compositor, rollout
from lpaint.agent.exploration import build_exploration
from lpaint.agent.factory import build_agent
from lpaint.agent.networks import Actor
from lpaint.agent.state import Progress, TrainingResult, actor_settings
from lpaint.agent.statistics import estimate_statistics
from lpaint.agent.targets import Pictures, place_images, placement
from lpaint.agent.torch_model import TorchPaintingModel, build_actor
from lpaint.data.dataset import PreparedData
from lpaint.errors import TrainingError
from lpaint.metrics import l2, psnr, reward
from lpaint.painting.engine.search import paint
from lpaint.plots import sheet
from lpaint.replay import Sample, build_replay
from lpaint.runtime.interruption import defer_signals
from lpaint.runtime.messages import notify
from lpaint.runtime.params import Params
from lpaint.strokes import Rasteriser, get_family
from lpaint.tracking import Tracker
from lpaint.training import distributed
from lpaint.training.checkpoint import CheckpointManager, generator_state, restore_generator
from lpaint.training.device import Compute, peak_memory
from lpaint.training.restore import MisfitError, copy_into, entry, load_dataclass, load_part

_MOST_SETBACKS = 3
# From which the batch-norm statistics of averaged weights are estimated.
_STATISTICS_BATCHES = 16
# Settings that are of all ranks together, of which each takes its share.
_SHARED = ("batch_size", "environments", "replay_transitions")


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
        resume: CheckpointManager,
        tracker: Tracker,
    ) -> None:
        self.params, self.compute = params, compute
        shares = {name: distributed.per_rank(getattr(params.agent, name), f"agent.{name}") for name in _SHARED}
        self.settings = params.agent.model_copy(update=shares)
        self.resume, self.tracker = resume, tracker
        device, seed = compute.torch_device, params.base.seed
        family, self._rasteriser = get_family(params.stroke.family), rasteriser
        # Initialisation draws from torch's global generator; it is set here and used nowhere else.
        torch.manual_seed(seed)
        self.actor_settings = actor_settings(params, data)
        self.actor = build_actor(self.actor_settings)
        self.agent = build_agent(self.settings, self.actor, compute)
        self._images = place_images(data.images, device)
        tracker.set_tags({"data.pictures": placement(self._images)})
        if distributed.is_main():
            print(f"pictures: {data.images.nbytes / 2**20:,.0f} MiB, {placement(self._images)}", flush=True)
        self._train = torch.from_numpy(data.split("train").copy())
        self._family = family
        self.rng = torch.Generator(device).manual_seed(distributed.rank_seed(seed, distributed.rank()))
        self.exploration = build_exploration(self.agent, self.settings, self.rng)
        rows = data.split("validation")[: self.settings.validation.images]
        self.validation_targets = np.ascontiguousarray(data.images[rows].transpose(0, 3, 1, 2), dtype=np.float32) / 255
        self.progress = Progress()
        self.best = self._actor_state()
        if not self._restore():
            self._set_canvas(self._canvas())
        elif distributed.is_main():
            print(f"resumed at update {self.progress.update}", flush=True)
        networks = self.agent.networks()
        distributed.broadcast_tensors([value for network in networks for value in network.state_dict().values()])

    def run(self, on_round: Callable[[Progress], None] | None = None) -> TrainingResult:
        """Train to ``agent.updates``; ``on_round`` is called after each round and may raise to stop.

        A first Ctrl-C or SIGTERM lets the round end and a checkpoint be written.

        Raises:
            TrainingError: the training diverged, and ``agent.on_divergence`` is ``stop`` or did not help.
            KeyboardInterrupt: somebody asked for the end.
        """
        total = self.settings.updates
        hidden = not (distributed.is_main() and sys.stderr.isatty())
        bar = tqdm(total=total, initial=self.progress.update, unit="update", disable=hidden)
        promise = "train_agent: ends with a checkpoint after this round" if distributed.is_main() else ""
        with bar, defer_signals(promise) as interruption:
            while self.progress.update < total:
                started, before = time.perf_counter(), self.progress.update
                try:
                    metrics = self._round()
                except DivergenceError as divergence:
                    self._step_back(divergence)
                    bar.update(self.progress.update - before)
                    continue
                self.progress.seconds += time.perf_counter() - started
                done = self.progress.update
                bar.update(done - before)
                if metrics:
                    self._log(metrics, done - before, time.perf_counter() - started)
                if self._passed(before, self.settings.validation.every):
                    self._estimate_statistics()
                    if distributed.is_main():
                        self._validate()
                if distributed.any_rank(interruption.requested):
                    self._save()
                    raise KeyboardInterrupt
                if self._passed(before, self.settings.checkpoint_every):
                    self._save_if_possible()
                if on_round is not None:
                    on_round(self.progress)
        distributed.broadcast_tensors(list(self.best.values()))
        self.actor.load_state_dict(self.best)
        return TrainingResult(self.actor.eval(), self.actor_settings, self.progress)

    def _round(self) -> dict[str, float]:
        """One round of episodes into the replay, then updates; mean metrics of the updates."""
        self.actor.eval()
        if self.pictures.canvas != self._canvas():
            self._set_canvas(self._canvas())
            self.agent.reward.forget_scale()
        self.exploration.begin()
        for transitions in rollout(self.pictures, self.painter, self.exploration.policy, self.settings, self.rng):
            self.replay.add(transitions)
        self.progress.rounds += 1
        self.progress.transitions += self.settings.round_transitions * distributed.world_size()
        if self.progress.rounds < self.settings.warmup_rounds:
            return {}
        logged = RoundMetrics(self.progress.update)
        adapted = {}
        if self.settings.exploration != "none":
            adapted = self.exploration.adapt(self.agent.state(self._even_sample()))
        self.agent.train()
        if self.progress.update == 0:
            self.agent.warm_up_discriminator(self.replay, self.rng)
        for _ in range(min(self.settings.updates_per_round, self.settings.updates - self.progress.update)):
            share = self.progress.update / self.settings.updates
            beta = self.settings.per.beta + (1 - self.settings.per.beta) * share
            factor = self._learning_rate_factor()
            logged.add(adapted | self.agent.update(self.replay, beta, factor, self.rng, share))
            adapted = {}
            self.progress.update += 1
        metrics = logged.read()
        check_weights(self.agent.networks(), self.progress.update)
        return metrics

    def _even_sample(self) -> Sample:
        return self.replay.sample_evenly(self.settings.batch_size, self.rng)

    def _canvas(self) -> int:
        """Side of the canvas at this point of the training."""
        curriculum = self.settings.curriculum
        early = self.progress.update < curriculum.share * self.settings.updates
        # A neural renderer draws one size only.
        return curriculum.canvas if early and self.settings.renderer == "exact" else self.params.stroke.canvas

    def _set_canvas(self, canvas: int) -> None:
        """Pictures, painter and an empty replay for canvases of ``canvas`` pixels a side."""
        device, settings = self.compute.torch_device, self.settings
        self.pictures = Pictures(self._images, self._train, canvas, settings.zoom, device)
        self.painter = Compositor(self._family, self._rasteriser(canvas), settings.fit_colours)
        self.agent.show(self.pictures, self.painter)
        sizes = settings.replay_capacity, canvas, (settings.bundle, self._family.parameters)
        errorless = self.agent.errorless_step
        # Not beside the new one: a replay can take half of a GPU.
        vars(self).pop("replay", None)
        self.replay = build_replay(settings.replay, *sizes, device, settings.per, errorless)

    def _learning_rate_factor(self) -> float:
        """Of the scheduled rates: they rise over the first updates, and are halved by every step back."""
        rise = min(1.0, (self.progress.update + 1) / max(1, self.settings.warmup_updates))
        return rise * 0.5**self.progress.setbacks

    def _passed(self, before: int, every: int) -> bool:
        """Whether this round crossed a multiple of ``every`` updates or ended the training."""
        done = self.progress.update
        return done > before and (done // every > before // every or done >= self.settings.updates)

    def _step_back(self, divergence: DivergenceError) -> None:
        """Go on from the last good checkpoint at half the learning rates, or give up.

        Raises:
            TrainingError: that is not wanted, not possible, or was tried often enough.
        """
        setbacks = self.progress.setbacks + 1
        wanted = self.settings.on_divergence == "step_back"
        if not (wanted and setbacks <= _MOST_SETBACKS and self._restore()):
            kept = self.resume.checkpoints
            where = f"the last good checkpoint is in {kept[0].parent}" if kept else "there is no checkpoint yet"
            tried = f" after {setbacks - 1} steps back" if setbacks > 1 else ""
            other = "" if wanted else ", or set agent.on_divergence to step_back"
            raise TrainingError(
                f"train_agent: the training diverged{tried}: {divergence}; {where}; lower the learning rates or "
                f"agent.max_gradient_norm{other}"
            )
        self.progress.setbacks = setbacks
        notify(
            f"train_agent: the training diverged: {divergence}; it goes on from update {self.progress.update} with "
            f"learning rates divided by {2**setbacks}"
        )

    def _log(self, metrics: dict[str, float], updates: int, seconds: float) -> None:
        speed = {"charts/updates_per_second": updates / seconds}
        self.tracker.log_metrics(metrics | speed, self.progress.update)

    def _estimate_statistics(self) -> None:
        """Give averaged weights batch-norm statistics of their own, before they are judged and kept."""
        if not self.settings.actor.average:
            return
        # A stream of its own: how often a training is validated must not change it.
        number = self.progress.update * distributed.world_size() + distributed.rank()
        rng = torch.Generator(self.compute.torch_device).manual_seed(number)
        states = (
            self.agent.state(self.replay.sample_evenly(self.settings.batch_size, rng))
            for _ in range(_STATISTICS_BATCHES)
        )
        max_steps = self.settings.max_steps
        with self.compute.autocast():
            inputs = ((state.before, state.target, state.step / max_steps) for state in states)
            estimate_statistics(self._judged(), inputs)

    @torch.no_grad()
    def _validate(self) -> None:
        actor = self._judged()
        actor.eval()
        model = TorchPaintingModel(actor, self.actor_settings, self.compute)
        budget = self.params.validation_strokes
        targets = self.validation_targets
        # The painter of least effort: quick, and it ranks actors as the others do.
        canvas = paint(model, targets, [budget], effort=1).snapshots[budget]
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
        notify(
            f"update {row['update']}: L2 {row['l2']:.5f}, reward {row['reward']:.4f} at {budget} strokes, "
            f"{row['seconds']:.0f} s",
            tqdm.write,
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

    def _save_if_possible(self) -> None:
        try:
            self._save()
        except TrainingError as error:
            # A later one may succeed, and hours of training are worth more than the means to repeat them.
            notify(f"warning: {error}; the training goes on")

    def _save(self) -> None:
        parts = distributed.gather_states({"replay": self.replay.state_dict(), "rng": generator_state(self.rng)})
        if not distributed.is_main():
            return
        state = {
            "progress": vars(self.progress),
            "agent": self.agent.state_dict(),
            "exploration": self.exploration.state_dict(),
            "best": self.best,
            "ranks": parts,
        }
        self.resume.save(state, f"update {self.progress.update} of {self.settings.updates}")

    def _restore(self) -> bool:
        """Take up the last checkpoint that can be used, with this rank's part of it; whether there is one.

        Raises:
            TrainingError: there are checkpoints, and none can be used.
        """
        if distributed.is_main():
            return self.resume.restore(self._offer) or self._offer(None)
        while True:
            try:
                return self._offer(None)
            except MisfitError:
                # Rank 0 says so, and offers the one before.
                continue

    def _offer(self, state: dict[str, Any] | None) -> bool:
        """Take up rank 0's ``state`` on every rank; whether there is one.

        Raises:
            MisfitError: it does not fit on one of the ranks.
        """
        state = distributed.scatter_state(state, torch.device("cpu"))
        if state is None:
            return False
        misfit = None
        try:
            self._load(state)
        except MisfitError as error:
            misfit = error
        if distributed.any_rank(misfit is not None):
            raise misfit or MisfitError("not on another rank")
        return True

    def _load(self, state: dict[str, Any]) -> None:
        """Take up a checkpoint's ``state``, of which ``own`` is this rank's.

        Raises:
            MisfitError: it was saved by code that kept other things.
        """
        progress = load_dataclass(Progress, state, "progress")
        own = entry(state, "own")
        # Not the canvas of the next round: the round that crosses the curriculum's boundary ends on the canvas before.
        self._set_canvas(_canvas_of(entry(own, "replay")))
        load_part(self.agent, state, "agent")
        load_part(self.exploration, state, "exploration")
        load_part(self.replay, own, "replay")
        best = entry(state, "best")
        for name, value in self.best.items():
            copy_into(value, best, name)
        restore_generator(self.rng, entry(own, "rng"))
        self.progress = progress


def _canvas_of(replay: dict[str, Any]) -> int:
    """Side of the canvases in a replay's saved state."""
    side: int = entry(entry(replay, "columns"), "before").shape[-1]
    return side
