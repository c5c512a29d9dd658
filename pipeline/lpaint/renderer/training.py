"""Pretraining of a neural renderer on random strokes that the exact rasteriser draws on the device."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from lpaint.errors import TrainingError
from lpaint.renderer.losses import get_loss
from lpaint.renderer.networks import NeuralRenderer, build_renderer, renderer_settings
from lpaint.runtime.interruption import defer_signals
from lpaint.runtime.messages import notify
from lpaint.runtime.params import Params
from lpaint.strokes import exact_rasteriser, get_family
from lpaint.tracking import Tracker
from lpaint.training.checkpoint import CheckpointManager, generator_state, restore_generator
from lpaint.training.device import Compute
from lpaint.training.restore import entry, load_dataclass, load_part

_OPTIMISERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "radam": torch.optim.RAdam}
_WARMUP_UPDATES = 100


@dataclass
class RendererTrainState:
    """The progress of a pretraining, part of its checkpoint. Rows of ``curve``: update, train_l2, l1, l2."""

    update: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)


class RendererTraining:
    """Minimises ``renderer.loss`` between the opacity of the network and of the exact rasteriser; validates L1 and L2.

    Every batch has new random strokes, so the network cannot overfit. Validation uses fixed strokes of another seed.
    The learning rate has a warm-up, because the first steps of smooth activations may diverge without it.

    Huang et al. 2019 minimise the squared error (``l2``) in 500,000 updates of 64 strokes with Adam at 1e-4, divided by
    10 at 200,000 and 400,000. After a sigmoid the gradient of ``l2`` vanishes where the network is certain and wrong.
    With the higher learning rates of a short training it stays at the blank canvas. ``cross_entropy`` has the same
    minimum, the mean opacity, and no such plateau.
    """

    def __init__(self, params: Params, compute: Compute, resume: CheckpointManager, tracker: Tracker) -> None:
        self.settings, self.compute, self.resume, self.tracker = params.renderer, compute, resume, tracker
        self.device = compute.torch_device
        self.family = get_family(params.stroke.family)
        self.canvas = params.stroke.canvas
        torch.manual_seed(params.base.seed)
        self.network = build_renderer(renderer_settings(params.renderer, params.stroke)).to(self.device)
        self.optimiser = _OPTIMISERS[self.settings.optimiser](self.network.parameters(), self.settings.learning_rate)
        self._rasteriser = exact_rasteriser(self.family, self.canvas, compute.compile)
        self.loss = get_loss(self.settings.loss)
        self.rng = torch.Generator(self.device).manual_seed(params.base.seed)
        # base.seed is below 2**32, so it cannot be this seed.
        validation_rng = torch.Generator(self.device).manual_seed(2**40)
        self.validation_shapes = self.family.sample(self.settings.validation_strokes, validation_rng)
        self.progress = RendererTrainState()
        self._recent_losses: list[Tensor] = []
        self._restore()

    def run(self, on_update: Callable[[RendererTrainState], None] | None = None) -> NeuralRenderer:
        """Train to ``renderer.updates`` and return the network in evaluation mode.

        Raises:
            TrainingError: the loss is no longer finite, or no checkpoint can be written.
            KeyboardInterrupt: a signal asked the process to stop; a checkpoint has been written.
        """
        total, every = self.settings.updates, self.settings.validate_every
        bar = tqdm(total=total, initial=self.progress.update, unit="update", disable=not sys.stderr.isatty())
        with bar, defer_signals("pretrain_renderer: ends with a checkpoint after this update") as interruption:
            while self.progress.update < total:
                self._recent_losses.append(self._update())
                self.progress.update += 1
                bar.update()
                done = self.progress.update
                if done % every == 0 or done == total:
                    self._validate(torch.stack(self._recent_losses).mean().item())
                    self._recent_losses.clear()
                if interruption.requested:
                    self._save()
                    raise KeyboardInterrupt
                if done % self.settings.checkpoint_every == 0 and done < total:
                    self._save()
                if on_update is not None:
                    on_update(self.progress)
        return self.network.eval()

    @torch.no_grad()
    def draw(self, shape: Tensor) -> Tensor:
        """The exact opacity [N, S, S] of shapes [N, shape_parameters]."""
        return self._rasteriser(shape)

    def _update(self) -> Tensor:
        completed = self.progress.update / self.settings.updates
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.learning_rate * min(1.0, (self.progress.update + 1) / _WARMUP_UPDATES)
            group["lr"] *= 0.1 ** sum(completed >= at for at in self.settings.decay_at)
        shape = self.family.sample(self.settings.batch_size, self.rng)
        with self.compute.autocast():
            logits = self.network.logits(shape)
        logits, exact = logits.float(), self.draw(shape)
        loss = self.loss(logits, exact)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return (torch.sigmoid(logits.detach()) - exact).square().mean()

    @torch.no_grad()
    def _validate(self, train_l2: float) -> None:
        self.network.eval()
        difference = [self.network(part) - self.draw(part) for part in self.validation_shapes.split(256)]
        self.network.train()
        l1 = torch.cat([part.abs().mean((1, 2)) for part in difference]).mean().item()
        l2 = torch.cat([part.square().mean((1, 2)) for part in difference]).mean().item()
        if not (math.isfinite(train_l2) and math.isfinite(l2)):
            raise TrainingError(
                f"pretrain_renderer: the loss was no longer finite before update {self.progress.update}; the last good "
                f"checkpoint is kept in {self.resume.directory}; lower renderer.learning_rate"
            )
        self.progress.curve.append({"update": self.progress.update, "train_l2": train_l2, "l1": l1, "l2": l2})
        self.tracker.log_metrics(
            {"losses/train_l2": train_l2, "validation/l1": l1, "validation/l2": l2}, self.progress.update
        )
        notify(f"update {self.progress.update}: validation L1 {l1:.5f}, L2 {l2:.5f}", tqdm.write)

    def _save(self) -> None:
        if not all(torch.isfinite(value).all() for value in self._recent_losses):
            # The next validation reports it; earlier checkpoints are good.
            return
        state = {
            "progress": vars(self.progress),
            "recent": list(self._recent_losses),
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "rng": generator_state(self.rng),
        }
        self.resume.save(state, f"update {self.progress.update} of {self.settings.updates}")

    def _restore(self) -> None:
        if self.resume.restore(self._load):
            print(f"resumed at update {self.progress.update}", flush=True)

    def _load(self, state: dict[str, Any]) -> None:
        """Restore a checkpoint's ``state``.

        Raises:
            MisfitError: it has another structure.
        """
        load_part(self.network, state, "network")
        load_part(self.optimiser, state, "optimiser")
        self.progress = load_dataclass(RendererTrainState, state, "progress")
        self._recent_losses = [value.to(self.device, copy=True) for value in entry(state, "recent")]
        restore_generator(self.rng, entry(state, "rng"))
