"""Model-based deep deterministic policy gradient (DDPG; Huang et al. 2019, section 3.2): the update rule.

The renderer is a known, differentiable model of the environment. So the critic is a state value V of the canvas that an
action leads to, and the reward of the action is added outside the critic:

    Q(s, a)  = r(s, a) + V(s')
    V(s')   <- gamma (1 - done) (r(s', a') + V_target(s'')),   a' = target_actor(s')
    actor   <- ascend r(s, actor(s)) + (1 - done) V(s')

``done`` is 1 at step ``max_steps`` - 1, at each scale of the episode. The value of a finished painting is 0 by
definition. The network is evaluated there, too, with the rest of the batch, and its output is multiplied by 0.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lpaint.agent.batch import Batch
from lpaint.agent.environment import Compositor
from lpaint.agent.reward import RewardModel
from lpaint.agent.schedule import learning_rate
from lpaint.gan import DiscriminatorTrainer, pair
from lpaint.runtime.params import Agent
from lpaint.training import optim
from lpaint.training.device import Compute
from lpaint.training.restore import entry, load_part

Metrics = dict[str, Tensor]


class Ddpg:
    """Networks, their target networks and optimisers, and the update rule.

    Args:
        settings: the ``agent`` section.
        actor, critic: fresh networks. A critic returns values [B], or [C, B] for C critics: the TD target takes their
            minimum.
        compositor: draws strokes on canvases; the model of the environment.
        discriminator_trainer: the GAN, or None where ``agent.gan`` is none.
        compute: device and precision.
    """

    def __init__(
        self,
        settings: Agent,
        actor: nn.Module,
        critic: nn.Module,
        compositor: Compositor,
        discriminator_trainer: DiscriminatorTrainer | None,
        compute: Compute,
    ) -> None:
        self.settings, self.compositor, self.compute = settings, compositor, compute
        self.actor, self.critic = actor.to(compute.torch_device), critic.to(compute.torch_device)
        self.actor_target, self.critic_target = optim.frozen_copy(self.actor), optim.frozen_copy(self.critic)
        self.train()
        self.actor_optimiser = optim.adam(self.actor, settings.actor.learning_rate)
        self.critic_optimiser = optim.adam(self.critic, settings.critic.learning_rate)
        self.discriminator_trainer = discriminator_trainer
        score = discriminator_trainer.target if discriminator_trainer else None
        self.reward = RewardModel(settings.reward, score, compute.torch_device)
        self.discount = settings.discount**settings.bundle
        self.updates = 0

    @property
    def has_critic(self) -> bool:
        """Whether a critic is trained. With ``discount`` 0 every value is 0, so there is nothing to learn."""
        return self.settings.discount > 0

    @property
    def zero_error_step(self) -> int | None:
        """The step whose transitions have a TD error of 0 by definition: the last at each scale of the episode."""
        return self.settings.max_steps - 1 if self.settings.max_steps > 1 else None

    def train(self) -> None:
        """Switch the actor to training mode, and the target actor to the mode that ``target_norm`` selects."""
        self.actor.train()
        self.actor_target.train(self.settings.target_norm == "own")

    def policy(self, canvas: Tensor, target: Tensor, fraction: Tensor) -> Tensor:
        """Strokes of the online actor under this run's precision; see ``Actor.forward``."""
        return self.act(self.actor, canvas, target, fraction)

    def act(self, actor: nn.Module, canvas: Tensor, target: Tensor, fraction: Tensor) -> Tensor:
        """Strokes of any actor under this run's precision; see ``Actor.forward``."""
        with self.compute.autocast():
            strokes: Tensor = actor(canvas, target, fraction)
        return strokes

    def set_learning_rates(self, completed: float, factor: float) -> None:
        """Set the rates of actor and critic: the scheduled rate times ``factor``.

        ``completed`` is the fraction of the training's updates that are done, in [0, 1].
        """
        for optimiser, network in (
            (self.actor_optimiser, self.settings.actor),
            (self.critic_optimiser, self.settings.critic),
        ):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(self.settings, network, completed) * factor

    def update(self, batch: Batch, actor_batch: Batch, rng: torch.Generator) -> tuple[Tensor | None, Metrics]:
        """Make at most one optimizer step each for discriminator, critic and actor, in this order.

        Each target network follows its own network right after that step: the critic's before the actor's step.

        Args:
            batch: the critic learns on it.
            actor_batch: discriminator and actor learn on it; it may be ``batch``.
            rng: the random stream of the training.

        Returns:
            Absolute TD errors [B] of ``batch`` (None without a critic), and scalars to log, still on the device.
        """
        metrics = self._update_discriminator(actor_batch, rng)
        td_errors = None
        updates_actor = self._updates_actor()
        if self.has_critic:
            td_errors, critic_metrics = self._update_critic(batch, rng)
            metrics |= critic_metrics
            if updates_actor:
                optim.polyak_update(self.critic_target, self.critic, self.settings.tau)
        if updates_actor:
            metrics |= self._update_actor(actor_batch)
            online = self.settings.target_norm == "online"
            optim.polyak_update(self.actor_target, self.actor, self.settings.tau, buffers=online)
        self.updates += 1
        return td_errors, metrics

    def warm_up_discriminator(self, sample_batch: Callable[[], Batch], rng: torch.Generator) -> None:
        """Update the discriminator alone, then copy it to its target; called before the first ``update``."""
        trainer = self.discriminator_trainer
        if trainer is None or trainer.settings.frozen:
            return
        for _ in range(trainer.settings.warmup_updates):
            self._update_discriminator(sample_batch(), rng)
        trainer.synchronise()

    def networks(self) -> list[nn.Module]:
        """All networks, with the target networks and the GAN's."""
        own = [self.actor, self.critic, self.actor_target, self.critic_target]
        trainer = self.discriminator_trainer
        return [*own, *([trainer.gan, trainer.target] if trainer else [])]

    def state_dict(self) -> dict[str, Any]:
        """Networks, target networks, optimisers, the reward's scale, and the number of updates."""
        return {name: part.state_dict() for name, part in self._parts().items()} | {"updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state_dict``'s state.

        Raises:
            MisfitError: it is of other parts.
        """
        for name, part in self._parts().items():
            load_part(part, state, name)
        self.updates = entry(state, "updates")

    def _updates_actor(self) -> bool:
        """Whether this update trains the actor and moves all target networks."""
        return True

    def _update_discriminator(self, batch: Batch, rng: torch.Generator) -> Metrics:
        if self.discriminator_trainer is None:
            return {}
        real, fake = pair(batch.target, batch.target), pair(batch.next_obs, batch.target)
        return self.discriminator_trainer.update(real, fake, rng)

    def _update_critic(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, Metrics]:
        td_target = self._td_target(batch, rng)
        value = self._critic_value(batch)
        td_error = td_target - value
        assert td_error.shape[1:] == batch.weights.shape, "a [B, 1] loss would broadcast against weights [B]"
        loss = (batch.weights * td_error.square()).sum(0).mean()
        norm = optim.optimizer_step(
            loss, list(self.critic.parameters()), self.critic_optimiser, self.settings.max_gradient_norm
        )
        metrics = {
            "losses/critic": loss.detach(),
            "critic/value": value.detach().mean(),
            "critic/td_error": td_error.detach().abs().mean(),
            "critic/gradient_norm": norm,
        }
        # One priority per transition: the mean over the critics.
        return td_error.detach().abs().mean(0), metrics

    @torch.no_grad()
    def _td_target(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """The n-step TD target of V(s') [B]: n rewards of the target actor, and the target value of the last canvas."""
        max_steps, n_step = self.settings.max_steps, self.settings.horizon
        canvas, td_target, discount = batch.next_obs, torch.zeros(len(batch.step), device=batch.step.device), 1.0
        for ahead in range(1, n_step + 1):
            step = batch.step + ahead
            strokes = self._target_strokes(canvas, batch.target, step / max_steps, rng)
            obs, canvas = canvas, self.compositor.step(canvas, strokes, batch.target)[0]
            discount *= self.discount
            td_target = td_target + discount * (step < max_steps).float() * self.reward(obs, canvas, batch.target)
        step = step + 1
        value = self._values(self.critic_target, obs, canvas, batch.target, step / max_steps).amin(0)
        return td_target + discount * (step < max_steps).float() * value

    def _target_strokes(self, canvas: Tensor, target: Tensor, fraction: Tensor, rng: torch.Generator) -> Tensor:
        return self.act(self.actor_target, canvas, target, fraction)

    def _critic_value(self, batch: Batch) -> Tensor:
        """The online critics' values [C, B] for the transitions, to be compared with ``_td_target``."""
        next_step = batch.step + 1
        not_done = (next_step < self.settings.max_steps).float()
        fraction = next_step / self.settings.max_steps
        return not_done * self._values(self.critic, batch.obs, batch.next_obs, batch.target, fraction)

    def _update_actor(self, batch: Batch) -> Metrics:
        objective, metrics = self._policy_objective(batch)
        loss = -objective.mean()
        parameters = list(self.actor.parameters())
        norm = optim.optimizer_step(loss, parameters, self.actor_optimiser, self.settings.max_gradient_norm)
        return {"losses/actor": loss.detach(), "actor/gradient_norm": norm} | metrics

    def _policy_objective(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Q(s, actor(s)) [B], which the actor maximises, and scalars to log."""
        max_steps, next_step = self.settings.max_steps, batch.step + 1
        strokes = self.policy(batch.obs, batch.target, batch.step / max_steps)
        next_obs = self.compositor.predict(batch.obs, strokes, batch.target)
        reward = self.reward(batch.obs, next_obs, batch.target)
        objective = reward
        if self.has_critic:
            value = self._values(self.critic, batch.obs, next_obs, batch.target, next_step / max_steps)[0]
            objective = reward + (next_step < max_steps).float() * value
        return objective, {"actor/reward": reward.detach().mean()}

    def _values(self, critic: nn.Module, *inputs: Tensor) -> Tensor:
        """Values [C, B] under this run's precision."""
        with self.compute.autocast():
            values: Tensor = critic(*inputs)
        return values.view(-1, len(inputs[0]))

    def _parts(self) -> dict[str, Any]:
        """The parts by their names in a checkpoint."""
        parts = {
            "actor": self.actor,
            "critic": self.critic,
            "actor_target": self.actor_target,
            "critic_target": self.critic_target,
            "actor_optimiser": self.actor_optimiser,
            "critic_optimiser": self.critic_optimiser,
            "adversary": self.discriminator_trainer,
            "reward": self.reward,
        }
        return {name: part for name, part in parts.items() if part is not None}
