"""Model-based deep deterministic policy gradient (Huang et al. 2019, section 3.2): one update, in the order it happens.

The renderer is a known, differentiable model, so the critic is a V of the state that an action leads to, and the
step's own reward is added outside it:

    Q(s, a)  = r(s, a) + V(s')
    V(s')   <- gamma (1 - done) (r(s', a') + V_target(s'')),   a' = target_actor(s')
    actor   <- ascend r(s, actor(s)) + (1 - done) V(s')

V of a finished painting is zero by definition and is never asked of the network.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lpaint.agent.environment import Compositor
from lpaint.agent.networks import Actor, Critic
from lpaint.agent.pictures import Pictures
from lpaint.agent.reward import RewardModel
from lpaint.device import Compute
from lpaint.gan import PairDiscriminator, build_gan, pair
from lpaint.params import Agent
from lpaint.replay import Sample, UniformReplay

Metrics = dict[str, Tensor]


@dataclass(frozen=True)
class State:
    """A batch as the networks see it: canvases and target [B, 3, S, S] in [0, 1], ``step`` [B] of the state before."""

    before: Tensor
    after: Tensor
    target: Tensor
    step: Tensor


class Ddpg:
    """Networks, their targets and optimisers, and the update rule.

    Args:
        settings: the ``agent`` section.
        actor, critic: fresh networks.
        discriminator: fresh, or None where ``agent.gan`` is none.
        compute: device and precision.

    ``show`` gives it pictures to learn on; it must be called before the first update.
    """

    pictures: Pictures
    painter: Compositor

    def __init__(
        self,
        settings: Agent,
        actor: Actor,
        critic: Critic,
        discriminator: PairDiscriminator | None,
        compute: Compute,
    ) -> None:
        self.settings, self.compute = settings, compute
        device = compute.torch_device
        self.actor, self.critic = actor.to(device), critic.to(device)
        self.actor_target, self.critic_target = _frozen_copy(self.actor), _frozen_copy(self.critic)
        self.actor_optimiser = _adam(self.actor, settings.actor.learning_rate)
        self.critic_optimiser = _adam(self.critic, settings.critic.learning_rate)
        self.gan = build_gan(settings.gan, settings.discriminator)
        self.discriminator = self.discriminator_target = self.discriminator_optimiser = None
        if discriminator is not None:
            self.discriminator = discriminator.to(device)
            self.discriminator_target = _frozen_copy(self.discriminator)
            rate = settings.discriminator.learning_rate
            self.discriminator_optimiser = _adam(self.discriminator, rate, betas=(0.5, 0.999))
        self.reward = RewardModel(settings.reward, self.discriminator_target, device)
        self.discount = settings.discount**settings.bundle
        # A future that counts for nothing has the value 0, which no network need learn.
        self.far_sighted = settings.discount > 0

    def show(self, pictures: Pictures, painter: Compositor) -> None:
        """Learn on these ``pictures``, which give targets for views, with what ``painter`` draws."""
        self.pictures, self.painter = pictures, painter

    def policy(self, canvas: Tensor, target: Tensor, fraction: Tensor) -> Tensor:
        """The actor's strokes under this run's precision; see ``Actor.forward``."""
        with self.compute.autocast():
            return self.actor(canvas, target, fraction)

    def update(self, replay: UniformReplay, beta: float, learning_rate_factor: float, rng: torch.Generator) -> Metrics:
        """One update of discriminator, critic and actor; returns scalars to log, still on the device."""
        sample = replay.sample(self.settings.batch_size, rng, beta)
        state = self._state(sample)
        shared = not replay.prioritized or self.settings.per.actor_sampling == "shared"
        even = state if shared else self._state(replay.sample_evenly(self.settings.batch_size, rng))

        metrics = self.update_discriminator(even, rng)
        self.reward.observe(even.before, even.after, even.target)
        for optimiser, network in (
            (self.actor_optimiser, self.settings.actor),
            (self.critic_optimiser, self.settings.critic),
        ):
            for group in optimiser.param_groups:
                group["lr"] = network.learning_rate * learning_rate_factor
        if self.far_sighted:
            metrics |= self._update_critic(state, sample, replay)
            self.follow(self.critic_target, self.critic, self.settings.tau)
        metrics |= self._update_actor(even)
        self.follow(self.actor_target, self.actor, self.settings.tau)
        return metrics

    def update_discriminator(self, state: State, rng: torch.Generator) -> Metrics:
        """One discriminator step on the batch's next canvases, and its target copy's step."""
        if self.gan is None or self.discriminator is None or self.settings.discriminator.frozen:
            return {}
        assert self.discriminator_optimiser is not None and self.discriminator_target is not None
        real, fake = pair(state.target, state.target), pair(state.after, state.target)
        network = self.discriminator
        with self.compute.autocast():
            loss, metrics = self.gan.loss(lambda pairs: network(pairs).float(), real, fake, rng)
        parameters = list(self.discriminator.parameters())
        self.descend(loss, parameters, self.discriminator_optimiser, 0.0)
        self.follow(self.discriminator_target, self.discriminator, self.settings.discriminator.tau)
        return {"losses/discriminator": loss.detach()} | {f"gan/{key}": value for key, value in metrics.items()}

    def warm_up_discriminator(self, replay: UniformReplay, rng: torch.Generator) -> None:
        """Discriminator updates before the agent's first, after which the target copy equals the network."""
        if self.discriminator is None or self.discriminator_target is None or self.settings.discriminator.frozen:
            return
        for _ in range(self.settings.discriminator.warmup_updates):
            self.update_discriminator(self._state(replay.sample_evenly(self.settings.batch_size, rng)), rng)
        self.discriminator_target.load_state_dict(self.discriminator.state_dict())

    def _update_critic(self, state: State, sample: Sample, replay: UniformReplay) -> Metrics:
        max_steps = self.settings.max_steps
        later = (state.step + 1) / max_steps
        going_on = (state.step + 1 < max_steps).float()
        goal = self._goal(state)
        value = going_on * self._value(self.critic, state.before, state.after, state.target, later)
        error = goal - value
        assert error.shape == sample.weights.shape, "a [B, 1] loss would broadcast against weights [B]"
        loss = (sample.weights * error.square()).mean()
        norm = self.descend(
            loss, list(self.critic.parameters()), self.critic_optimiser, self.settings.max_gradient_norm
        )
        replay.update_priorities(sample.indices, error)
        return {
            "losses/critic": loss.detach(),
            "critic/value": value.detach().mean(),
            "critic/td_error": error.detach().abs().mean(),
            "critic/gradient_norm": norm,
        }

    @torch.no_grad()
    def _goal(self, state: State) -> Tensor:
        """What V(s') should be, [B]: the target actor's rewards over ``horizon`` steps, and the value beyond them."""
        max_steps = self.settings.max_steps
        canvas, goal, discount = state.after, torch.zeros(len(state.step), device=state.step.device), 1.0
        for ahead in range(1, self.settings.horizon + 1):
            step = state.step + ahead
            with self.compute.autocast():
                strokes = self.actor_target(canvas, state.target, step / max_steps)
            before, canvas = canvas, self.painter.paint(canvas, strokes, state.target)[0]
            discount *= self.discount
            goal = goal + discount * (step < max_steps).float() * self.reward(before, canvas, state.target)
        step = step + 1
        value = self._value(self.critic_target, before, canvas, state.target, step / max_steps)
        return goal + discount * (step < max_steps).float() * value

    def _update_actor(self, state: State) -> Metrics:
        max_steps = self.settings.max_steps
        with self.compute.autocast():
            strokes = self.actor(state.before, state.target, state.step / max_steps)
        after = self.painter.imagine(state.before, strokes, state.target)
        later = state.step + 1
        reward = self.reward(state.before, after, state.target)
        worth = reward
        if self.far_sighted:
            value = self._value(self.critic, state.before, after, state.target, later / max_steps)
            worth = reward + (later < max_steps).float() * value
        loss = -worth.mean()
        norm = self.descend(loss, list(self.actor.parameters()), self.actor_optimiser, self.settings.max_gradient_norm)
        return {
            "losses/actor": loss.detach(),
            "actor/reward": reward.detach().mean(),
            "actor/gradient_norm": norm,
        }

    def _value(self, critic: nn.Module, before: Tensor, after: Tensor, target: Tensor, fraction: Tensor) -> Tensor:
        with self.compute.autocast():
            return critic(before, after, target, fraction)

    def _state(self, sample: Sample) -> State:
        transitions = sample.transitions
        before, after = (image.float() / 255 for image in (transitions.before, transitions.after))
        return State(before, after, self.pictures.targets(transitions.view), transitions.step)

    def descend(
        self, loss: Tensor, parameters: list[nn.Parameter], optimiser: torch.optim.Optimizer, limit: float
    ) -> Tensor:
        """One optimiser step on ``parameters`` only, clipped to norm ``limit`` if above 0; returns the gradient's norm.

        Gradients are asked of these parameters alone: the networks that a loss passes through get no backward pass of
        their weights.
        """
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            # torch's fused Adam on the CPU pairs elements by their order in memory, whatever the strides say.
            same = gradient.stride() == parameter.stride()
            parameter.grad = gradient if same else torch.empty_like(parameter).copy_(gradient)
        norm = nn.utils.clip_grad_norm_(parameters, limit if limit else float("inf"))
        optimiser.step()
        return norm

    @torch.no_grad()
    def follow(self, slow: nn.Module, fast: nn.Module, rate: float) -> None:
        """Polyak averaging of parameters; buffers (running statistics of batch norm) are copied."""
        torch._foreach_lerp_(list(slow.parameters()), list(fast.parameters()), rate)
        for slow_buffer, buffer in zip(slow.buffers(), fast.buffers(), strict=True):
            slow_buffer.copy_(buffer)

    def state_dict(self) -> dict[str, Any]:
        """Networks, targets, optimisers and the reward's scale."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state_dict``'s state."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        names = (
            "actor",
            "critic",
            "actor_target",
            "critic_target",
            "actor_optimiser",
            "critic_optimiser",
            "discriminator",
            "discriminator_target",
            "discriminator_optimiser",
            "reward",
        )
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def _adam(network: nn.Module, rate: float, betas: tuple[float, float] = (0.9, 0.999)) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=rate, betas=betas, fused=True)


def _frozen_copy(network: nn.Module) -> Any:
    return copy.deepcopy(network).requires_grad_(False).eval()
