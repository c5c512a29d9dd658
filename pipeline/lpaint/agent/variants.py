"""Other update rules than model-based DDPG, as far as they differ from it."""

import torch
from torch import Tensor

from lpaint.agent.ddpg import Ddpg, Metrics, State


class Td3(Ddpg):
    """Twin delayed DDPG (Fujimoto et al. 2018, arXiv 1802.09477), with the renderer as its model.

    Two critics, of which goals take the lesser value (section 4.2) and the actor's loss the first; the actor and the
    targets of actor and critics move at every ``policy_delay``-th update only (5.2 and algorithm 1); noise is added to
    the target actor's strokes, N(0, smoothing^2) clipped to +-smoothing_clip, and the sum is kept in [0, 1] (5.3). The
    paper's actions span [-1, 1]; strokes span half of that, so its 0.2 and 0.5 are 0.1 and 0.25 here.
    """

    def _actor_is_due(self) -> bool:
        return (self.updates + 1) % self.settings.td3.policy_delay == 0

    def _target_strokes(self, canvas: Tensor, target: Tensor, fraction: Tensor, rng: torch.Generator) -> Tensor:
        strokes, td3 = super()._target_strokes(canvas, target, fraction, rng), self.settings.td3
        noise = torch.randn(strokes.shape, generator=rng, device=strokes.device) * td3.smoothing
        return (strokes + noise.clamp(-td3.smoothing_clip, td3.smoothing_clip)).clamp(0, 1)


class ModelFreeDdpg(Ddpg):
    """Plain DDPG (Lillicrap et al. 2016, arXiv 1509.02971), the comparison of Huang et al. 2019, section 4.3.

    The critic learns Q(s, a) of a stored action from what it was paid, and the actor learns through the critic alone;
    no gradient passes through the renderer:

        Q(s, a) <- r(s, a) + gamma (1 - done) Q_target(s', target_actor(s'))
        actor   <- ascend Q(s, actor(s))
    """

    @property
    def has_critic(self) -> bool:
        """Always: without a critic the actor would learn nothing."""
        return True

    @property
    def errorless_step(self) -> int | None:
        """None: the critic learns the reward of the last step, too."""
        return None

    @torch.no_grad()
    def _goal(self, state: State, rng: torch.Generator) -> Tensor:
        later = state.step + 1
        fraction = later / self.settings.max_steps
        strokes = self._target_strokes(state.after, state.target, fraction, rng)
        value = self._values(self.critic_target, state.after, state.target, fraction, strokes).amin(0)
        reward = self.reward(state.before, state.after, state.target)
        return reward + self.discount * (later < self.settings.max_steps).float() * value

    def _prediction(self, state: State) -> Tensor:
        fraction = state.step / self.settings.max_steps
        return self._values(self.critic, state.before, state.target, fraction, state.strokes)

    def _worth(self, state: State) -> tuple[Tensor, Metrics]:
        fraction = state.step / self.settings.max_steps
        strokes = self.policy(state.before, state.target, fraction)
        worth = self._values(self.critic, state.before, state.target, fraction, strokes)[0]
        return worth, {"actor/value": worth.detach().mean()}
