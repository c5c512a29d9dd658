"""Update rules other than model-based DDPG: what they change."""

import torch
from torch import Tensor

from lpaint.agent.batch import Batch
from lpaint.agent.ddpg import Ddpg, Metrics


class Td3(Ddpg):
    """Twin delayed DDPG (Fujimoto et al. 2018, arXiv 1802.09477), with the renderer as its model.

    - Two critics: the TD target takes their minimum (section 4.2), the actor's loss takes the first.
    - The actor and all target networks change at every ``policy_delay``-th update (section 5.2, algorithm 1).
    - The target actor's strokes get noise, N(0, smoothing^2) clipped to +-smoothing_clip, and are kept in [0, 1]
      (section 5.3). The paper's actions span [-1, 1] and strokes [0, 1], so its 0.2 and 0.5 become 0.1 and 0.25.
    """

    def _updates_actor(self) -> bool:
        return (self.updates + 1) % self.settings.td3.policy_delay == 0

    def _target_strokes(self, canvas: Tensor, target: Tensor, fraction: Tensor, rng: torch.Generator) -> Tensor:
        strokes, td3 = super()._target_strokes(canvas, target, fraction, rng), self.settings.td3
        noise = torch.randn(strokes.shape, generator=rng, device=strokes.device) * td3.smoothing
        return (strokes + noise.clamp(-td3.smoothing_clip, td3.smoothing_clip)).clamp(0, 1)


class ModelFreeDdpg(Ddpg):
    """Plain DDPG (Lillicrap et al. 2016, arXiv 1509.02971), the baseline of Huang et al. 2019, section 4.3.

    The critic learns Q(s, a) of the stored action from the stored reward. The actor learns through the critic alone; no
    gradient passes through the renderer:

        Q(s, a) <- r(s, a) + gamma (1 - done) Q_target(s', target_actor(s'))
        actor   <- ascend Q(s, actor(s))
    """

    @property
    def has_critic(self) -> bool:
        """Always True: the actor learns through the critic alone."""
        return True

    @property
    def zero_error_step(self) -> int | None:
        """None: the critic learns the reward of the last step, too."""
        return None

    @torch.no_grad()
    def _td_target(self, batch: Batch, rng: torch.Generator) -> Tensor:
        next_step = batch.step + 1
        fraction = next_step / self.settings.max_steps
        strokes = self._target_strokes(batch.next_obs, batch.target, fraction, rng)
        value = self._values(self.critic_target, batch.next_obs, batch.target, fraction, strokes).amin(0)
        reward = self.reward(batch.obs, batch.next_obs, batch.target)
        return reward + self.discount * (next_step < self.settings.max_steps).float() * value

    def _critic_value(self, batch: Batch) -> Tensor:
        fraction = batch.step / self.settings.max_steps
        return self._values(self.critic, batch.obs, batch.target, fraction, batch.action)

    def _policy_objective(self, batch: Batch) -> tuple[Tensor, Metrics]:
        fraction = batch.step / self.settings.max_steps
        strokes = self.policy(batch.obs, batch.target, fraction)
        objective = self._values(self.critic, batch.obs, batch.target, fraction, strokes)[0]
        return objective, {"actor/value": objective.detach().mean()}
