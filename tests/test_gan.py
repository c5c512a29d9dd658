"""WGAN-GP's loss and penalty worked out by hand, and the pair discriminator."""

import copy

import pytest
import torch
from torch import Tensor, nn

from lpaint.errors import ParamsError
from lpaint.gan import PairDiscriminator, build_gan, gan_names, pair
from lpaint.gan.wgan_gp import WganGp
from lpaint.params import Discriminator

SETTINGS = Discriminator(width=4, learning_rate=3e-4, gradient_penalty=10.0, tau=0.01, warmup_updates=0, frozen=False)


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class _Linear(nn.Module):
    """D(x) = w . x, whose slope is w everywhere; |w| = ``norm``."""

    def __init__(self, norm: float, side: int = 4) -> None:
        super().__init__()
        weight = torch.rand(6 * side * side, generator=_rng(9)) - 0.3
        self.weight = nn.Parameter(weight * norm / weight.norm())

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight


def _pairs(count: int = 8, side: int = 4) -> tuple[Tensor, Tensor]:
    real, fake = torch.rand(2, count, 6, side, side, generator=_rng(1))
    return real, fake


@pytest.mark.parametrize(("norm", "penalty"), [(3.0, 4.0), (1.0, 0.0), (0.25, 0.5625)])
def test_penalty_of_a_linear_discriminator(norm: float, penalty: float) -> None:
    real, fake = _pairs()
    score = _Linear(norm)
    loss, metrics = WganGp(10.0).loss(score, real, fake, _rng())
    distance = (score(real).mean() - score(fake).mean()).item()
    assert metrics["gradient_penalty"].item() == pytest.approx(penalty, abs=1e-5)
    assert metrics["wasserstein"].item() == pytest.approx(distance, abs=1e-6)
    assert loss.item() == pytest.approx(-distance + 10 * penalty, abs=1e-4)


def test_the_penalty_is_learnt_from() -> None:
    # Real and fake alike, only the penalty is left: its derivative in w is 2 * 10 * (|w| - 1) * w / |w|.
    real, _ = _pairs()
    score = _Linear(3.0)
    loss, _ = WganGp(10.0).loss(score, real, real, _rng())
    (slope,) = torch.autograd.grad(loss, score.weight)
    torch.testing.assert_close(slope, 2 * 10 * (3 - 1) * score.weight.detach() / 3, rtol=1e-3, atol=1e-4)


def test_descending_the_loss_raises_real_pairs_over_fake_ones() -> None:
    score = _Linear(1.0)
    loss, _ = WganGp(0.0).loss(score, torch.ones(4, 6, 4, 4), torch.zeros(4, 6, 4, 4), _rng())
    (slope,) = torch.autograd.grad(loss, score.weight)
    torch.testing.assert_close(slope, -torch.ones_like(slope))


def test_the_penalty_is_taken_between_real_and_fake_with_one_share_a_pair() -> None:
    seen: list[Tensor] = []

    def score(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x.square().flatten(1).sum(1) / 2  # the slope is x itself

    real, fake = torch.ones(16, 6, 4, 4), torch.zeros(16, 6, 4, 4)
    _, metrics = WganGp(1.0).loss(score, real, fake, _rng())
    (between,) = (x for x in seen if not torch.equal(x, real) and not torch.equal(x, fake))
    share = between[:, 0, 0, 0]
    assert torch.equal(between, share.view(-1, 1, 1, 1).expand_as(between))
    assert share.min() >= 0 and share.max() <= 1 and len(share.unique()) == 16
    assert metrics["gradient_penalty"].item() == pytest.approx((share * 96**0.5 - 1).square().mean().item(), rel=1e-4)


def test_a_flat_discriminator_has_a_finite_gradient() -> None:
    score = _Linear(1.0)
    nn.init.zeros_(score.weight)
    loss, _ = WganGp(10.0).loss(score, *_pairs(), _rng())
    (slope,) = torch.autograd.grad(loss, score.weight)
    assert torch.isfinite(slope).all()


def test_the_discriminator_learns_to_tell_pairs_apart() -> None:
    torch.manual_seed(0)
    discriminator = PairDiscriminator(4)
    target, canvas = torch.rand(2, 64, 3, 16, 16, generator=_rng(2))
    target = target * 0.2 + torch.rand(64, 3, 1, 1, generator=_rng(3)) * 0.8
    real, fake = pair(target, target), pair(canvas, target)
    gan, rng = build_gan("wgan_gp", SETTINGS), _rng(4)
    assert gan is not None
    optimiser = torch.optim.Adam(discriminator.parameters(), 2e-3, betas=(0.5, 0.999))
    untrained = copy.deepcopy(discriminator)
    for _ in range(100):
        loss, _ = gan.loss(discriminator, real[:48], fake[:48], rng)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        before = untrained(real[48:]) - untrained(fake[48:])
        after = discriminator(real[48:]) - discriminator(fake[48:])
    assert (after > 0).float().mean() > 0.9, "on pairs that it did not learn from"
    assert after.mean() > before.mean().abs() + 0.1


def test_scores_are_one_a_pair_and_independent_of_the_batch() -> None:
    discriminator = PairDiscriminator(4)
    pairs = torch.rand(5, 6, 32, 32, generator=_rng(5))
    scores = discriminator(pairs)
    assert scores.shape == (5,)
    torch.testing.assert_close(torch.cat([discriminator(one[None]) for one in pairs]), scores)
    assert len(scores.unique()) == 5


def test_a_pair_is_the_canvas_beside_the_target() -> None:
    canvas, target = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    assert pair(canvas, target)[:, :, 0, 0].tolist() == [[0, 0, 0, 1, 1, 1]] * 2


def test_gans_are_found_by_name() -> None:
    assert gan_names() == ["wgan_gp"]
    assert build_gan("none", SETTINGS) is None
    gan = build_gan("wgan_gp", SETTINGS)
    assert isinstance(gan, WganGp) and gan.gradient_penalty == 10.0
    with pytest.raises(ParamsError, match=r"'dcgan'.*wgan_gp"):
        build_gan("dcgan", SETTINGS)
