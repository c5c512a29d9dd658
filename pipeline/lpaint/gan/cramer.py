"""Cramér GAN: the energy distance between learnt features (Bellemare et al. 2017, arXiv 1705.10743)."""

from typing import Self

import torch
from torch import Tensor, nn

from lpaint.gan.base import Gan, Metrics, gradient_norms, interpolate
from lpaint.gan.networks import PairDiscriminator
from lpaint.runtime.params import Agent, CramerSettings
from lpaint.training import distributed


class Cramer(Gan):
    """Maximise the energy distance between real and fake features h, with a gradient penalty on the witness function.

    Section 4, equation 5: 2 E||h(r) - h(f)|| - E||h(r) - h(r')|| - E||h(f) - h(f')||, where r and r' are independent
    real pairs, f and f' fake ones. The expectations are over all pairs of *different* members of a batch, so the
    estimate is unbiased, as the paper demands. The penalty is lambda E[(||grad w(x)||_2 - 1)^2] at points between real
    and fake pairs, as in WGAN-GP (algorithm 1 of the paper).

    The score is the witness w(x) = E||h(x) - h(f)|| - E||h(x) - h(r)||: how much farther x is from the fake pairs than
    from the real ones. Its expectations are over the newest ``references`` pairs of each kind, whose features are two
    buffers, saved with the network. (The paper replaces the second term by ||h(x)||, for tasks where only one real
    sample is available.)
    """

    name = "cramer"
    summary = "energy distance of learnt features, gradient penalty on its witness (Bellemare et al. 2017)"
    real_references: Tensor
    fake_references: Tensor

    def __init__(self, network: nn.Module, settings: CramerSettings) -> None:
        super().__init__(network)
        self.settings = settings
        for name in ("real_references", "fake_references"):
            self.register_buffer(name, torch.zeros(settings.references, settings.features))

    @classmethod
    def build(cls, agent: Agent) -> Self:
        return cls(PairDiscriminator.build(agent, agent.cramer.features), agent.cramer)

    def forward(self, pairs: Tensor) -> Tensor:
        """Scores [B] of pairs [B, 6, S, S], relative to the reference pairs."""
        return witness(self._features(pairs), self.real_references, self.fake_references)

    def loss(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        on_real, on_fake = (distributed.all_gather(self._features(pairs)) for pairs in (real, fake))
        distance = energy_distance(on_real, on_fake)
        norms = gradient_norms(
            lambda pairs: witness(self._features(pairs), on_real, on_fake), interpolate(real, fake, generator)
        )
        penalty = (norms - 1).square().mean()
        loss = -distance + self.settings.gradient_penalty * penalty
        return loss, {"energy_distance": distance.detach(), "gradient_penalty": penalty.detach()}

    @torch.no_grad()
    def update_references(self, real: Tensor, fake: Tensor) -> None:
        """Add the batch's features to the references in place of the oldest ones."""
        count = min(len(real), self.settings.references)
        for references, pairs in ((self.real_references, real), (self.fake_references, fake)):
            newest = distributed.all_gather(self._features(pairs[:count]))[: len(references)]
            references.copy_(torch.cat([references[len(newest) :], newest]))

    def _features(self, pairs: Tensor) -> Tensor:
        features: Tensor = self.network(pairs).float()
        return features


def distances(some: Tensor, others: Tensor) -> Tensor:
    """Euclidean distances [N, M] between features [N, F] and [M, F], twice differentiable everywhere."""
    return ((some[:, None] - others[None]).square().sum(2) + 1e-12).sqrt()


def energy_distance(real: Tensor, fake: Tensor) -> Tensor:
    """Unbiased estimate of the energy distance between two samples [N, F] and [M, F]; N and M are at least 2."""

    def mean_distance(sample: Tensor) -> Tensor:
        count = len(sample)
        different = 1 - torch.eye(count, device=sample.device)
        return (distances(sample, sample) * different).sum() / (count * (count - 1))

    return 2 * distances(real, fake).mean() - mean_distance(real) - mean_distance(fake)


def witness(features: Tensor, real: Tensor, fake: Tensor) -> Tensor:
    """How much farther features [B, F] are from the fake ones [M, F] than from the real ones [N, F]: [B]."""
    return distances(features, fake).mean(1) - distances(features, real).mean(1)
