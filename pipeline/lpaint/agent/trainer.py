"""The agent's training loop: rounds of episodes and updates, with validation, checkpoints and resumption."""

import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from tqdm import tqdm

from lpaint.agent.batch import Batch, load_batch
from lpaint.agent.divergence import DivergenceError, RoundMetrics, check_weights
from lpaint.agent.environment import Compositor, rollout
from lpaint.agent.exploration import build_exploration
from lpaint.agent.factory import build_agent
from lpaint.agent.networks import Actor
from lpaint.agent.state import TrainingResult, TrainState, actor_spec
from lpaint.agent.statistics import estimate_statistics
from lpaint.agent.targets import TargetSampler, place_images, placement
from lpaint.agent.torch_model import build_actor
from lpaint.agent.train_step import train_step
from lpaint.agent.validation import Validator
from lpaint.data.dataset import PreparedData
from lpaint.errors import TrainingError
from lpaint.replay import build_replay, saved_canvas
from lpaint.runtime.interruption import defer_signals
from lpaint.runtime.messages import notify
from lpaint.runtime.params import Params
from lpaint.strokes import Rasteriser, get_family
from lpaint.tracking import Tracker
from lpaint.training import distributed
from lpaint.training.checkpoint import CheckpointManager, generator_state, restore_generator
from lpaint.training.device import Compute
from lpaint.training.restore import MisfitError, copy_into, entry, load_part

_MAX_ROLLBACKS = 3
# Batches from which the batch-norm statistics of averaged weights are estimated.
_STATISTICS_BATCHES = 16
# Settings that count over all ranks; each rank takes an equal part.
_DIVIDED = ("batch_size", "environments", "replay_transitions")


class AgentTraining:
    """A training that can stop after any round and resumes from its last checkpoint.

    With several ranks, each has a part of the environments, the replay and the batches, and a random stream of its own;
    all have equal networks. Rank 0 validates, reports and writes the checkpoint, which holds the state of all ranks.

    Args:
        params: all parameters; ``stroke``, ``agent``, ``evaluate.protocol`` and ``base.seed`` are used.
        data: the prepared images.
        compute: device, precision, threads.
        rasterisers: side of a canvas in pixels -> what draws shapes on it, exactly or by a neural renderer.
        resume: reads and writes checkpoints.
        tracker: receives metrics and sheets of paintings.
    """

    def __init__(
        self,
        params: Params,
        data: PreparedData,
        compute: Compute,
        rasterisers: Callable[[int], Rasteriser],
        resume: CheckpointManager,
        tracker: Tracker,
    ) -> None:
        self.params, self.compute = params, compute
        parts = {name: distributed.per_rank(getattr(params.agent, name), f"agent.{name}") for name in _DIVIDED}
        self.settings = params.agent.model_copy(update=parts)
        self.resume, self.tracker = resume, tracker
        device, seed = compute.torch_device, params.base.seed
        self._family = get_family(params.stroke.family)
        # Weights are initialised from torch's global generator, which nothing else uses.
        torch.manual_seed(seed)
        self.actor_spec = actor_spec(params, data)
        self.actor = build_actor(self.actor_spec)
        self.compositor = Compositor(self._family, rasterisers, self.settings.fit_colours)
        self.agent = build_agent(self.settings, self.actor, self.compositor, compute)
        self._images = place_images(data.images, device)
        tracker.set_tags({"data.pictures": placement(self._images)})
        if distributed.is_main():
            print(f"pictures: {data.images.nbytes / 2**20:,.0f} MiB, {placement(self._images)}", flush=True)
        self._train_rows = torch.from_numpy(data.split("train").copy())
        self.rng = torch.Generator(device).manual_seed(distributed.rank_seed(seed, distributed.rank()))
        self.exploration = build_exploration(self.agent, self.settings, self.rng)
        self.validator = Validator(params, data, self.actor_spec, compute, tracker)
        self.progress = TrainState()
        self.best_weights = self._copy_weights()
        if not self._restore():
            self._set_canvas(self._scheduled_canvas())
        elif distributed.is_main():
            print(f"resumed at update {self.progress.update}", flush=True)
        networks = self.agent.networks()
        distributed.broadcast_tensors([value for network in networks for value in network.state_dict().values()])

    def run(self, on_round: Callable[[TrainState], None] | None = None) -> TrainingResult:
        """Train to ``agent.updates``; ``on_round`` is called after each round and may raise to stop.

        After a first Ctrl-C or SIGTERM the round ends and a checkpoint is written.

        Raises:
            TrainingError: the training diverged, and ``agent.on_divergence`` is ``stop`` or rollbacks did not help.
            KeyboardInterrupt: the user stopped the training.
        """
        total = self.settings.updates
        hidden = not (distributed.is_main() and sys.stderr.isatty())
        bar = tqdm(total=total, initial=self.progress.update, unit="update", disable=hidden)
        notice = "train_agent: ends with a checkpoint after this round" if distributed.is_main() else ""
        with bar, defer_signals(notice) as interruption:
            while self.progress.update < total:
                started, before = time.perf_counter(), self.progress.update
                try:
                    metrics = self._run_round()
                except DivergenceError as divergence:
                    self._roll_back(divergence)
                    bar.update(self.progress.update - before)
                    continue
                self.progress.seconds += time.perf_counter() - started
                updates = self.progress.update - before
                bar.update(updates)
                if metrics:
                    self._log(metrics, updates, time.perf_counter() - started)
                if self._is_due(before, self.settings.validation.every):
                    self._estimate_statistics()
                    if distributed.is_main():
                        self._validate()
                if distributed.any_rank(interruption.requested):
                    self._save()
                    raise KeyboardInterrupt
                if self._is_due(before, self.settings.checkpoint_every):
                    self._save_if_possible()
                if on_round is not None:
                    on_round(self.progress)
        distributed.broadcast_tensors(list(self.best_weights.values()))
        self.actor.load_state_dict(self.best_weights)
        return TrainingResult(self.actor.eval(), self.actor_spec, self.progress)

    def _run_round(self) -> dict[str, float]:
        """Add one round of episodes to the replay, then update; returns the mean metrics of the updates."""
        self.actor.eval()
        if self.targets.canvas != self._scheduled_canvas():
            self._set_canvas(self._scheduled_canvas())
            self.agent.reward.reset_scale()
        self.exploration.resample_noise()
        for transitions in rollout(self.targets, self.compositor, self.exploration.policy, self.settings, self.rng):
            self.replay.add(transitions)
        self.progress.rounds += 1
        self.progress.transitions += self.settings.transitions_per_round * distributed.world_size()
        if self.progress.rounds < self.settings.warmup_rounds:
            return {}
        logged = RoundMetrics(self.progress.update)
        noise = {}
        if self.settings.exploration != "none":
            noise = self.exploration.adapt_noise(self._uniform_batch(self.rng))
        self.agent.train()
        if self.progress.update == 0:
            self.agent.warm_up_discriminator(lambda: self._uniform_batch(self.rng), self.rng)
        for _ in range(min(self.settings.updates_per_round, self.settings.updates - self.progress.update)):
            logged.add(noise | self._update())
            noise = {}
            self.progress.update += 1
        metrics = logged.read()
        check_weights(self.agent.networks(), self.progress.update)
        return metrics

    def _update(self) -> dict[str, torch.Tensor]:
        completed = self.progress.update / self.settings.updates
        beta = self.settings.per.beta + (1 - self.settings.per.beta) * completed
        self.agent.set_learning_rates(completed, self._learning_rate_factor())
        return train_step(self.agent, self.replay, self.targets, self.rng, beta)

    def _uniform_batch(self, rng: torch.Generator) -> Batch:
        return load_batch(self.replay.sample_uniformly(self.settings.batch_size, rng), self.targets)

    def _scheduled_canvas(self) -> int:
        """Side of the canvas, in pixels, at the current update."""
        curriculum = self.settings.curriculum
        early = self.progress.update < curriculum.share * self.settings.updates
        # A neural renderer draws one size only.
        return curriculum.canvas if early and self.settings.renderer == "exact" else self.params.stroke.canvas

    def _set_canvas(self, canvas: int) -> None:
        """Make targets and an empty replay for canvases of ``canvas`` pixels a side."""
        device, settings = self.compute.torch_device, self.settings
        self.targets = TargetSampler(self._images, self._train_rows, canvas, settings.zoom, device)
        sizes = settings.replay_capacity, canvas, (settings.bundle, self._family.parameters)
        # The old replay goes first: a replay can take half of a GPU.
        vars(self).pop("replay", None)
        self.replay = build_replay(settings.replay, *sizes, device, settings.per, self.agent.zero_error_step)

    def _learning_rate_factor(self) -> float:
        """Factor of the scheduled rates: it rises over the first updates, and each rollback halves it."""
        warmup = min(1.0, (self.progress.update + 1) / max(1, self.settings.warmup_updates))
        return warmup * 0.5**self.progress.rollbacks

    def _is_due(self, before: int, every: int) -> bool:
        """Whether the round that began at update ``before`` crossed a multiple of ``every`` or ended the training."""
        done = self.progress.update
        return done > before and (done // every > before // every or done >= self.settings.updates)

    def _roll_back(self, divergence: DivergenceError) -> None:
        """Continue from the last good checkpoint at half the learning rates, or give up.

        Raises:
            TrainingError: rollbacks are off, there is no checkpoint, or this is one rollback too many.
        """
        rollbacks = self.progress.rollbacks + 1
        enabled = self.settings.on_divergence == "step_back"
        if not (enabled and rollbacks <= _MAX_ROLLBACKS and self._restore()):
            kept = self.resume.checkpoints
            where = f"the last good checkpoint is in {kept[0].parent}" if kept else "there is no checkpoint yet"
            tried = f" after {rollbacks - 1} rollbacks" if rollbacks > 1 else ""
            other = "" if enabled else ", or set agent.on_divergence to step_back"
            raise TrainingError(
                f"train_agent: the training diverged{tried}: {divergence}; {where}; lower the learning rates or "
                f"agent.max_gradient_norm{other}"
            )
        self.progress.rollbacks = rollbacks
        notify(
            f"train_agent: the training diverged: {divergence}; it continues from update {self.progress.update} with "
            f"learning rates divided by {2**rollbacks}"
        )

    def _log(self, metrics: dict[str, float], updates: int, seconds: float) -> None:
        speed = {"charts/updates_per_second": updates / seconds}
        self.tracker.log_metrics(metrics | speed, self.progress.update)

    def _estimate_statistics(self) -> None:
        """Estimate the batch-norm statistics of averaged weights before they are validated and saved."""
        if not self.settings.actor.average:
            return
        # A random stream of its own: the frequency of validation must not change the training.
        number = self.progress.update * distributed.world_size() + distributed.rank()
        rng = torch.Generator(self.compute.torch_device).manual_seed(number)
        batches = (self._uniform_batch(rng) for _ in range(_STATISTICS_BATCHES))
        max_steps = self.settings.max_steps
        with self.compute.autocast():
            inputs = ((batch.obs, batch.target, batch.step / max_steps) for batch in batches)
            estimate_statistics(self._validated_actor(), inputs)

    def _validate(self) -> None:
        row = self.validator.run(self._validated_actor(), self.progress)
        if row["l2"] < self.progress.best_l2:
            self.progress.best_l2 = row["l2"]
            self.best_weights = self._copy_weights()

    def _copy_weights(self) -> dict[str, torch.Tensor]:
        return {name: value.detach().clone() for name, value in self._validated_actor().state_dict().items()}

    def _validated_actor(self) -> Actor:
        """The actor that is validated and saved: the online one or, with ``actor.average``, its moving average."""
        ema: Actor = self.agent.actor_target  # type: ignore[assignment]  # a copy of the actor
        return ema if self.settings.actor.average else self.actor

    def _save_if_possible(self) -> None:
        try:
            self._save()
        except TrainingError as error:
            # A later checkpoint may succeed; the training is worth more than its checkpoint.
            notify(f"warning: {error}; the training continues")

    def _save(self) -> None:
        parts = distributed.gather_states({"replay": self.replay.state_dict(), "rng": generator_state(self.rng)})
        if not distributed.is_main():
            return
        state = {
            "progress": self.progress.state_dict(),
            "agent": self.agent.state_dict(),
            "exploration": self.exploration.state_dict(),
            "best": self.best_weights,
            "ranks": parts,
        }
        self.resume.save(state, f"update {self.progress.update} of {self.settings.updates}")

    def _restore(self) -> bool:
        """Load the last usable checkpoint, with this rank's part of it; returns whether there is one.

        Raises:
            TrainingError: there are checkpoints, but none is usable.
        """
        if distributed.is_main():
            return self.resume.restore(self._load_on_all_ranks) or self._load_on_all_ranks(None)
        while True:
            try:
                return self._load_on_all_ranks(None)
            except MisfitError:
                # Rank 0 reports it, and sends the checkpoint before.
                continue

    def _load_on_all_ranks(self, state: dict[str, Any] | None) -> bool:
        """Load rank 0's ``state`` on every rank; returns whether there is one.

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
        """Load a checkpoint's ``state``; its entry ``own`` is this rank's part.

        Raises:
            MisfitError: it has other parts than this training.
        """
        progress = TrainState.load(state, "progress")
        own = entry(state, "own")
        # The replay's canvas, not the next round's: a round that crosses the curriculum's end keeps the small canvas.
        self._set_canvas(saved_canvas(entry(own, "replay")))
        load_part(self.agent, state, "agent")
        load_part(self.exploration, state, "exploration")
        load_part(self.replay, own, "replay")
        best = entry(state, "best")
        for name, value in self.best_weights.items():
            copy_into(value, best, name)
        restore_generator(self.rng, entry(own, "rng"))
        self.progress = progress
