"""Model-based deep deterministic policy gradient (Huang et al. 2019, section 3.2): one update, in the order it happens.

The renderer is a known, differentiable model, so the critic is a V of the state that an action leads to, and the
step's own reward is added outside it:

    Q(s, a)  = r(s, a) + V(s')
    V(s')   <- gamma (1 - done) (r(s', a') + V_target(s'')),   a' = target_actor(s')
    actor   <- ascend r(s, actor(s)) + (1 - done) V(s')

V of a finished painting is zero by definition and is never asked of the network.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lpaint.agent.environment import Compositor
from lpaint.agent.reward import RewardModel
from lpaint.agent.schedule import learning_rate
from lpaint.agent.targets import Pictures
from lpaint.gan import DiscriminatorTrainer, pair
from lpaint.replay import Sample, UniformReplay
from lpaint.runtime.params import Agent
from lpaint.training import optim
from lpaint.training.device import Compute
from lpaint.training.restore import entry, load_part

Metrics = dict[str, Tensor]


@dataclass(frozen=True)
class State:
    """A batch as the networks see it.

    Canvases ``before`` and ``after`` and ``target`` [B, 3, S, S] in [0, 1], the ``strokes`` between them [B, K, P], and
    ``step`` [B] of the state before.
    """

    before: Tensor
    after: Tensor
    target: Tensor
    strokes: Tensor
    step: Tensor


class Ddpg:
    """Networks, their targets and optimisers, and the update rule.

    Args:
        settings: the ``agent`` section.
        actor, critic: fresh networks; a critic may give several values [C, B], of which goals take the least.
        adversary: the GAN, or None where ``agent.gan`` is none.
        compute: device and precision.

    ``show`` gives it pictures to learn on; it must be called before the first update.
    """

    pictures: Pictures
    painter: Compositor

    def __init__(
        self,
        settings: Agent,
        actor: nn.Module,
        critic: nn.Module,
        adversary: DiscriminatorTrainer | None,
        compute: Compute,
    ) -> None:
        self.settings, self.compute = settings, compute
        self.actor, self.critic = actor.to(compute.torch_device), critic.to(compute.torch_device)
        self.actor_target, self.critic_target = optim.frozen_copy(self.actor), optim.frozen_copy(self.critic)
        self.train()
        self.actor_optimiser = optim.adam(self.actor, settings.actor.learning_rate)
        self.critic_optimiser = optim.adam(self.critic, settings.critic.learning_rate)
        self.adversary = adversary
        self.reward = RewardModel(settings.reward, adversary.target if adversary else None, compute.torch_device)
        self.discount = settings.discount**settings.bundle
        self.updates = 0

    @property
    def has_critic(self) -> bool:
        """Whether there is a critic: a future that counts for nothing has the value 0, which no network need learn."""
        return self.settings.discount > 0

    @property
    def errorless_step(self) -> int | None:
        """The step whose transitions have a temporal-difference error of 0 by definition: no value follows the last."""
        return self.settings.max_steps - 1 if self.settings.max_steps > 1 else None

    def train(self) -> None:
        """Switch the actor to training mode, and its target to the mode that ``target_norm`` asks for."""
        self.actor.train()
        self.actor_target.train(self.settings.target_norm == "own")

    def show(self, pictures: Pictures, painter: Compositor) -> None:
        """Learn on these ``pictures``, which give targets for views, with what ``painter`` draws."""
        self.pictures, self.painter = pictures, painter

    def policy(self, canvas: Tensor, target: Tensor, fraction: Tensor) -> Tensor:
        """The actor's strokes under this run's precision; see ``Actor.forward``."""
        return self.act(self.actor, canvas, target, fraction)

    def act(self, actor: nn.Module, canvas: Tensor, target: Tensor, fraction: Tensor) -> Tensor:
        """Some actor's strokes under this run's precision; see ``Actor.forward``."""
        with self.compute.autocast():
            strokes: Tensor = actor(canvas, target, fraction)
        return strokes

    def update(
        self,
        replay: UniformReplay,
        beta: float,
        learning_rate_factor: float,
        rng: torch.Generator,
        share: float = 0.0,
    ) -> Metrics:
        """One update of discriminator, critic and actor; returns scalars to log, still on the device.

        Args:
            replay: what to sample from.
            beta: exponent of the importance weights, in [0, 1].
            learning_rate_factor: multiplies the scheduled rates of actor and critic.
            rng: the training's random stream.
            share: share of the training's updates that are made, which the schedule of the rates follows.
        """
        sample = replay.sample(self.settings.batch_size, rng, beta)
        state = self.state(sample)
        shared = not replay.prioritized or self.settings.per.actor_sampling == "shared"
        even = state if shared else self.state(replay.sample_evenly(self.settings.batch_size, rng))

        metrics = self._update_adversary(even, rng)
        for optimiser, network in (
            (self.actor_optimiser, self.settings.actor),
            (self.critic_optimiser, self.settings.critic),
        ):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(self.settings, network, share) * learning_rate_factor
        due = self._actor_is_due()
        if self.has_critic:
            metrics |= self._update_critic(state, sample, replay, rng)
            if due:
                optim.polyak_update(self.critic_target, self.critic, self.settings.tau)
        if due:
            metrics |= self._update_actor(even)
            online = self.settings.target_norm == "online"
            optim.polyak_update(self.actor_target, self.actor, self.settings.tau, buffers=online)
        self.updates += 1
        return metrics

    def warm_up_discriminator(self, replay: UniformReplay, rng: torch.Generator) -> None:
        """Discriminator updates before the agent's first, after which the target copy equals the network."""
        if self.adversary is None or self.adversary.settings.frozen:
            return
        for _ in range(self.adversary.settings.warmup_updates):
            self._update_adversary(self.state(replay.sample_evenly(self.settings.batch_size, rng)), rng)
        self.adversary.synchronise()

    def state(self, sample: Sample) -> State:
        """A sample as the networks see it."""
        transitions = sample.transitions
        before, after = (image.float() / 255 for image in (transitions.before, transitions.after))
        targets = self.pictures.targets(transitions.view)
        return State(before, after, targets, transitions.strokes, transitions.step)

    def networks(self) -> list[nn.Module]:
        """All networks, targets and the GAN's among them."""
        mine = [self.actor, self.critic, self.actor_target, self.critic_target]
        return [*mine, *([self.adversary.gan, self.adversary.target] if self.adversary else [])]

    def state_dict(self) -> dict[str, Any]:
        """Networks, targets, optimisers, the reward's scale, and how many updates were made."""
        return {name: part.state_dict() for name, part in self._parts().items()} | {"updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state_dict``'s state.

        Raises:
            MisfitError: it is of other parts.
        """
        for name, part in self._parts().items():
            load_part(part, state, name)
        self.updates = entry(state, "updates")

    def _actor_is_due(self) -> bool:
        """Whether this update moves the actor and all targets."""
        return True

    def _update_adversary(self, state: State, rng: torch.Generator) -> Metrics:
        """One discriminator step on the batch's next canvases."""
        if self.adversary is None:
            return {}
        return self.adversary.update(pair(state.target, state.target), pair(state.after, state.target), rng)

    def _update_critic(self, state: State, sample: Sample, replay: UniformReplay, rng: torch.Generator) -> Metrics:
        goal = self._goal(state, rng)
        value = self._prediction(state)
        error = goal - value
        assert error.shape[1:] == sample.weights.shape, "a [B, 1] loss would broadcast against weights [B]"
        loss = (sample.weights * error.square()).sum(0).mean()
        norm = optim.optimizer_step(
            loss, list(self.critic.parameters()), self.critic_optimiser, self.settings.max_gradient_norm
        )
        # One priority a transition; where there are two critics, the mean of what either is wrong by.
        replay.update_priorities(sample.indices, error.detach().abs().mean(0))
        return {
            "losses/critic": loss.detach(),
            "critic/value": value.detach().mean(),
            "critic/td_error": error.detach().abs().mean(),
            "critic/gradient_norm": norm,
        }

    @torch.no_grad()
    def _goal(self, state: State, rng: torch.Generator) -> Tensor:
        """What V(s') should be, [B]: the target actor's rewards over ``horizon`` steps, and the value beyond them."""
        max_steps = self.settings.max_steps
        canvas, goal, discount = state.after, torch.zeros(len(state.step), device=state.step.device), 1.0
        for ahead in range(1, self.settings.horizon + 1):
            step = state.step + ahead
            strokes = self._target_strokes(canvas, state.target, step / max_steps, rng)
            before, canvas = canvas, self.painter.paint(canvas, strokes, state.target)[0]
            discount *= self.discount
            goal = goal + discount * (step < max_steps).float() * self.reward(before, canvas, state.target)
        step = step + 1
        value = self._values(self.critic_target, before, canvas, state.target, step / max_steps).amin(0)
        return goal + discount * (step < max_steps).float() * value

    def _target_strokes(self, canvas: Tensor, target: Tensor, fraction: Tensor, rng: torch.Generator) -> Tensor:
        return self.act(self.actor_target, canvas, target, fraction)

    def _prediction(self, state: State) -> Tensor:
        """What the critic says that ``_goal`` should be: [C, B]."""
        later = (state.step + 1) / self.settings.max_steps
        going_on = (state.step + 1 < self.settings.max_steps).float()
        return going_on * self._values(self.critic, state.before, state.after, state.target, later)

    def _update_actor(self, state: State) -> Metrics:
        worth, metrics = self._worth(state)
        loss = -worth.mean()
        parameters = list(self.actor.parameters())
        norm = optim.optimizer_step(loss, parameters, self.actor_optimiser, self.settings.max_gradient_norm)
        return {"losses/actor": loss.detach(), "actor/gradient_norm": norm} | metrics

    def _worth(self, state: State) -> tuple[Tensor, Metrics]:
        """What the actor's strokes are worth, Q(s, actor(s)) [B], and scalars to log."""
        max_steps = self.settings.max_steps
        strokes = self.policy(state.before, state.target, state.step / max_steps)
        after = self.painter.imagine(state.before, strokes, state.target)
        later = state.step + 1
        reward = self.reward(state.before, after, state.target)
        worth = reward
        if self.has_critic:
            value = self._values(self.critic, state.before, after, state.target, later / max_steps)[0]
            worth = reward + (later < max_steps).float() * value
        return worth, {"actor/reward": reward.detach().mean()}

    def _values(self, critic: nn.Module, *seen: Tensor) -> Tensor:
        """Values [C, B] under this run's precision."""
        with self.compute.autocast():
            values: Tensor = critic(*seen)
        return values.view(-1, len(seen[0]))

    def _parts(self) -> dict[str, Any]:
        parts = {
            "actor": self.actor,
            "critic": self.critic,
            "actor_target": self.actor_target,
            "critic_target": self.critic_target,
            "actor_optimiser": self.actor_optimiser,
            "critic_optimiser": self.critic_optimiser,
            "adversary": self.adversary,
            "reward": self.reward,
        }
        return {name: part for name, part in parts.items() if part is not None}
