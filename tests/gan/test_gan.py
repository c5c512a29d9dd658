"""Every GAN by one contract, and what is special in each worked out by hand."""

import copy
import io
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lpaint.agent.environment import Compositor
from lpaint.agent.reward import RewardModel
from lpaint.errors import ParamsError
from lpaint.gan import DiscriminatorTrainer, Gan, build_gan, gan_names, gan_summaries, pair
from lpaint.gan.attention import LinearAttention, SelfAttention
from lpaint.gan.base import gradient_norms
from lpaint.gan.cramer import Cramer, energy_distance, witness
from lpaint.gan.dragan import Dragan
from lpaint.gan.fisher import Fisher
from lpaint.gan.hinge import Sngan
from lpaint.gan.networks import PairDiscriminator, SpectralDiscriminator, update_spectral_norms
from lpaint.gan.wgan_gp import WganGp
from lpaint.runtime.params import Agent, load_params
from lpaint.strokes import exact_rasteriser, get_family
from lpaint.training.device import Compute

DEFAULTS = load_params(Path(__file__).parents[2] / "params.yaml").agent
CPU = Compute("cpu", "fp32", 1, compile=False)
SPECTRAL = ["sngan", "sagan", "sagan_linear"]


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _settings(name: str, rate: float = 2e-3, **discriminator: Any) -> Agent:
    values = DEFAULTS.model_dump()
    values["gan"] = name
    values["discriminator"] |= {"width": 8, "tau": 0.5, "warmup_updates": 0} | discriminator
    for gan in gan_names():
        values[gan]["learning_rate"] = rate
    values["cramer"]["features"] = 16
    return Agent.model_validate(values)


def _gan(name: str, seed: int = 0) -> Gan:
    torch.manual_seed(seed)
    gan = build_gan(_settings(name))
    assert gan is not None
    return gan


def _trainer(name: str, **discriminator: Any) -> DiscriminatorTrainer:
    settings = _settings(name, **discriminator)
    return DiscriminatorTrainer(_gan(name), settings.discriminator, settings.adam, CPU)


def _pictures(count: int, side: int = 16) -> Tensor:
    """Smooth pictures [count, 3, side, side]."""
    coarse = torch.rand(count, 3, 4, 4, generator=_rng(2))
    return F.interpolate(coarse, side, mode="bilinear").clamp(0, 1)


def _toy(count: int = 48) -> tuple[Tensor, Tensor]:
    """What any discriminator must learn to tell apart: clean pairs and pairs with a noisy canvas."""
    target = _pictures(count)
    noise = torch.rand(target.shape, generator=_rng(3))
    return pair(target, target), pair(target * 0.5 + noise * 0.5, target)


# The contract


@pytest.mark.parametrize("name", gan_names())
@pytest.mark.parametrize("side", [16, 32])
def test_scores_are_one_a_pair_and_independent_of_the_batch(name: str, side: int) -> None:
    gan = _gan(name).eval()
    pairs = torch.rand(5, 6, side, side, generator=_rng(5))
    gan.update_references(*torch.rand(2, 40, 6, side, side, generator=_rng(6)))
    scores = gan(pairs)
    assert scores.shape == (5,) and scores.dtype == torch.float32
    torch.testing.assert_close(torch.cat([gan(one[None]) for one in pairs]), scores, rtol=1e-4, atol=1e-5)
    assert len(scores.unique()) == 5


@pytest.mark.parametrize("name", gan_names())
def test_a_gan_learns_to_tell_clean_from_noisy(name: str) -> None:
    real, fake = _toy(160)
    trainer, rng = _trainer(name), _rng(4)
    batches = [(real[at : at + 32], fake[at : at + 32]) for at in range(0, 128, 32)] * 75
    losses = [trainer.update(*batch, rng)["losses/discriminator"] for batch in batches]
    assert torch.isfinite(torch.stack(losses)).all()
    assert sum(losses[-10:]) < sum(losses[:10]), "the loss falls"
    # On pairs that it did not learn from, every score rises as the canvas moves to its target.
    with torch.no_grad():
        blends = [trainer.target(torch.lerp(fake[128:], real[128:], share)) for share in (0.0, 0.5, 1.0)]
    rises = torch.stack([(later > earlier).float().mean() for earlier, later in pairwise(blends)])
    assert rises.min() >= 0.8 and (blends[-1] > blends[0]).float().mean() > 0.9


@pytest.mark.parametrize("name", gan_names())
def test_the_same_seed_gives_the_same_training(name: str) -> None:
    real, fake = _toy(8)
    trained = []
    for _ in range(2):
        trainer = _trainer(name)
        for _ in range(3):
            trainer.update(real, fake, _rng(7))
        trained.append(trainer.state_dict())
    for kind in ("gan", "target"):
        for key, value in trained[0][kind].items():
            assert torch.equal(value, trained[1][kind][key]), key


@pytest.mark.parametrize("name", gan_names())
def test_a_restored_gan_goes_on_as_if_never_stopped(name: str) -> None:
    real, fake = _toy(8)
    first, second = _trainer(name), _trainer(name)
    for _ in range(3):
        first.update(real, fake, _rng(8))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(first.target(fake), second.target(fake))
    told = [{key: float(value) for key, value in each.update(real, fake, _rng(9)).items()} for each in (first, second)]
    assert told[0] == told[1]
    assert torch.equal(first.target(fake), second.target(fake))


@pytest.mark.parametrize("name", gan_names())
def test_the_reward_reaches_the_strokes(name: str) -> None:
    family = get_family("bezier")
    compositor = Compositor(family, partial(exact_rasteriser, family, compiled=False))
    trainer, target = _trainer(name), _pictures(4)
    trainer.update(*_toy(8), _rng(1))
    reward = RewardModel(DEFAULTS.reward.model_copy(update={"l2": 0.0}), trainer.target, torch.device("cpu"))
    strokes = torch.full((4, 2, family.parameters), 0.5, requires_grad=True)
    black = torch.zeros_like(target)
    (slope,) = torch.autograd.grad(reward(black, compositor.predict(black, strokes, target), target).sum(), strokes)
    assert torch.isfinite(slope).all() and (slope.abs().sum((0, 1)) > 0).sum() >= 8, "shape and colour both"


@pytest.mark.parametrize("name", gan_names())
def test_a_frozen_gan_learns_nothing_and_still_scores(name: str) -> None:
    trainer, (real, fake) = _trainer(name, frozen=True), _toy(40)
    before = copy.deepcopy(list(trainer.gan.parameters()))
    assert trainer.update(real, fake, _rng()) == {}
    assert all(map(torch.equal, before, trainer.gan.parameters()))
    assert len(trainer.target(fake).unique()) == 40


@pytest.mark.parametrize("name", gan_names())
def test_the_target_is_a_polyak_average_and_keeps_its_own_buffers(name: str) -> None:
    trainer, (real, fake) = _trainer(name), _toy(8)
    before = [value.clone() for value in trainer.target.parameters()]
    trainer.update(real, fake, _rng())
    for old, fast, slow in zip(before, trainer.gan.parameters(), trainer.target.parameters(), strict=True):
        torch.testing.assert_close(slow, (old + fast) / 2)
    assert not any(value.requires_grad for value in trainer.target.parameters())


@pytest.mark.parametrize("name", gan_names())
def test_a_gan_works_in_half_precision(name: str) -> None:
    settings = _settings(name)
    compute = Compute("cpu", "bf16", 1, compile=False)
    trainer = DiscriminatorTrainer(_gan(name), settings.discriminator, settings.adam, compute)
    told = trainer.update(*_toy(8), _rng())
    assert all(torch.isfinite(value).all() for value in told.values())
    assert all(torch.isfinite(value).all() for value in trainer.gan.parameters())


def test_gans_are_found_by_name() -> None:
    assert gan_names() == ["wgan_gp", "dragan", "fisher", "cramer", "sngan", "sagan", "sagan_linear"]
    assert list(gan_summaries()) == gan_names() and all(gan_summaries().values())
    assert build_gan(_settings("none")) is None
    assert isinstance(build_gan(_settings("wgan_gp")), WganGp)
    with pytest.raises(ParamsError, match=r"'dcgan'.*wgan_gp, dragan"):
        build_gan(DEFAULTS.model_copy(update={"gan": "dcgan"}))


def test_params_know_the_gans_of_the_registry() -> None:
    known = Agent.model_fields["gan"].annotation.__args__  # type: ignore[union-attr]
    assert list(known) == ["none", *gan_names()]


def test_a_pair_is_the_canvas_beside_the_target() -> None:
    canvas, target = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    assert pair(canvas, target)[:, :, 0, 0].tolist() == [[0, 0, 0, 1, 1, 1]] * 2


# Gradient penalties


class _Linear(nn.Module):
    """D(x) = w . x, whose slope is w everywhere; |w| = ``norm``."""

    def __init__(self, norm: float, side: int = 4) -> None:
        super().__init__()
        weight = torch.rand(6 * side * side, generator=_rng(9)) - 0.3
        self.weight = nn.Parameter(weight * norm / weight.norm())

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight


class _Recorder(nn.Module):
    """D(x) = |x|^2 / 2, whose slope is x; remembers where it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach())
        return x.square().flatten(1).sum(1) / 2


def _pairs(count: int = 8, side: int = 4) -> tuple[Tensor, Tensor]:
    real, fake = torch.rand(2, count, 6, side, side, generator=_rng(1))
    return real, fake


def _wgan(network: nn.Module, penalty: float = 10.0) -> WganGp:
    return WganGp(network, DEFAULTS.wgan_gp.model_copy(update={"gradient_penalty": penalty}))


@pytest.mark.parametrize(("norm", "penalty"), [(3.0, 4.0), (1.0, 0.0), (0.25, 0.5625)])
@pytest.mark.parametrize("kind", [WganGp, Dragan])
def test_penalty_of_a_linear_discriminator(kind: Any, norm: float, penalty: float) -> None:
    real, fake = _pairs()
    score = _Linear(norm)
    section = DEFAULTS.wgan_gp if kind is WganGp else DEFAULTS.dragan
    loss, metrics = kind(score, section).loss(real, fake, _rng())
    assert metrics["gradient_penalty"].item() == pytest.approx(penalty, abs=1e-5)
    apart = -metrics["wasserstein"] if kind is WganGp else metrics["logistic"]
    assert loss.item() == pytest.approx(apart.item() + 10 * penalty, abs=1e-4)


def test_the_wasserstein_distance_is_the_difference_of_means() -> None:
    real, fake = _pairs()
    score = _Linear(1.0)
    _, metrics = _wgan(score).loss(real, fake, _rng())
    assert metrics["wasserstein"].item() == pytest.approx((score(real).mean() - score(fake).mean()).item(), abs=1e-6)


def test_the_penalty_is_learnt_from() -> None:
    # Real and fake alike, only the penalty is left: its derivative in w is 2 * 10 * (|w| - 1) * w / |w|.
    real, _ = _pairs()
    score = _Linear(3.0)
    loss, _ = _wgan(score).loss(real, real, _rng())
    (slope,) = torch.autograd.grad(loss, score.weight)
    torch.testing.assert_close(slope, 2 * 10 * (3 - 1) * score.weight.detach() / 3, rtol=1e-3, atol=1e-4)


def test_the_wasserstein_penalty_is_taken_between_real_and_fake_with_one_share_a_pair() -> None:
    score = _Recorder()
    real, fake = torch.ones(16, 6, 4, 4), torch.zeros(16, 6, 4, 4)
    _, metrics = _wgan(score, 1.0).loss(real, fake, _rng())
    (middle,) = (x for x in score.seen if not torch.equal(x, real) and not torch.equal(x, fake))
    share = middle[:, 0, 0, 0]
    assert torch.equal(middle, share.view(-1, 1, 1, 1).expand_as(middle))
    assert share.min() >= 0 and share.max() <= 1 and len(share.unique()) == 16
    assert metrics["gradient_penalty"].item() == pytest.approx((share * 96**0.5 - 1).square().mean().item(), rel=1e-4)


def test_dragans_penalty_is_taken_around_real_pairs_whatever_the_fake_ones() -> None:
    score = _Recorder()
    real = _pairs(64)[0]
    Dragan(score, DEFAULTS.dragan).loss(real, real * 0 - 100, _rng())
    noise = score.seen[0] - real
    assert noise.std().item() == pytest.approx(0.5 * real.std().item(), rel=0.05)
    assert abs(noise.mean().item()) < 0.02 and noise[:, 3:].std() > 0.1, "the target's half too"


def test_dragan_is_logistic() -> None:
    # D(real) = 2, D(fake) = -1: -log s(2) - log(1 - s(-1)) = log(1 + e^-2) + log(1 + e^-1).
    real, fake = torch.full((4, 6, 4, 4), 2.0), torch.full((4, 6, 4, 4), -1.0)
    score = _Linear(1.0)
    with torch.no_grad():
        score.weight.fill_(1 / 96)
    _, metrics = Dragan(score, DEFAULTS.dragan).loss(real, fake, _rng())
    assert metrics["logistic"].item() == pytest.approx(0.126928 + 0.313262, abs=1e-4)
    assert metrics["accuracy"].item() == 1.0


def test_a_flat_discriminator_has_a_finite_gradient() -> None:
    score = _Linear(1.0)
    nn.init.zeros_(score.weight)
    loss, _ = _wgan(score).loss(*_pairs(), _rng())
    (slope,) = torch.autograd.grad(loss, score.weight)
    assert torch.isfinite(slope).all()


# Fisher GAN


def test_fishers_lagrangian_and_its_multiplier_by_hand() -> None:
    # D is 3 on real and 1 on fake pairs: distance 2, constraint (9 + 1) / 2 = 5.
    real, fake = torch.full((4, 6, 4, 4), 3.0), torch.full((4, 6, 4, 4), 1.0)
    score = _Linear(1.0)
    with torch.no_grad():
        score.weight.fill_(1 / 96)
    gan = Fisher(score, DEFAULTS.fisher.model_copy(update={"rho": 0.1}))
    gan.multiplier.fill_(0.25)
    loss, metrics = gan.loss(real, fake, _rng())
    assert loss.item() == pytest.approx(-(2 + 0.25 * (1 - 5) - 0.05 * (5 - 1) ** 2), abs=1e-5)
    assert metrics["constraint"].item() == pytest.approx(5, abs=1e-5)
    gan.on_step(metrics)
    assert gan.multiplier.item() == pytest.approx(0.25 + 0.1 * 4, abs=1e-5)
    assert "multiplier" in gan.state_dict()


def test_fishers_second_moments_go_to_one() -> None:
    torch.manual_seed(0)
    settings = DEFAULTS.fisher.model_copy(update={"rho": 0.01, "learning_rate": 1e-3})
    shared = _settings("fisher").discriminator
    trainer = DiscriminatorTrainer(Fisher(PairDiscriminator(4), settings), shared, settings, CPU)
    real, fake = _toy()
    seen = [trainer.update(real, fake, _rng())["gan/constraint"].item() for _ in range(450)]
    assert sum(seen[-100:]) / 100 == pytest.approx(1.0, abs=0.1)
    assert seen[0] < 0.1 and max(seen) > 2, "it began below, and went beyond before it came back"


# Cramér GAN


def test_the_energy_distance_is_the_brute_force_sum() -> None:
    real, fake = torch.randn(5, 3, generator=_rng(1)), torch.randn(4, 3, generator=_rng(2)) + 1

    def mean(pairs: list[tuple[Tensor, Tensor]]) -> float:
        return sum(float(((a - b) ** 2).sum() ** 0.5) for a, b in pairs) / len(pairs)

    cross = mean([(r, f) for r in real for f in fake])
    among_real = mean([(real[i], real[j]) for i in range(5) for j in range(5) if i != j])
    among_fake = mean([(fake[i], fake[j]) for i in range(4) for j in range(4) if i != j])
    expected = 2 * cross - among_real - among_fake
    assert energy_distance(real, fake).item() == pytest.approx(expected, abs=1e-5)
    first = witness(real[:1], real[1:], fake)
    expected = mean([(real[0], f) for f in fake]) - mean([(real[0], r) for r in real[1:]])
    assert first.item() == pytest.approx(expected, abs=1e-5)


def test_the_energy_distance_of_one_distribution_is_zero_on_average() -> None:
    rng = _rng(3)
    found = [energy_distance(*torch.randn(2, 8, 4, generator=rng)).item() for _ in range(800)]
    assert abs(sum(found) / len(found)) < 0.02, "the estimate is unbiased"


def test_cramers_references_are_the_newest_pairs_of_either_kind() -> None:
    torch.manual_seed(0)
    settings = DEFAULTS.cramer.model_copy(update={"features": 5, "references": 3})
    gan = Cramer(PairDiscriminator(4, 5), settings)
    real, fake = _toy(4)
    gan.update_references(real, fake)
    with torch.no_grad():
        torch.testing.assert_close(gan.real_references, gan.network(real[:3]))
        gan.update_references(real[3:], fake[3:])
        torch.testing.assert_close(gan.fake_references, gan.network(fake[[1, 2, 3]]))
        features = gan.network(real)
    torch.testing.assert_close(gan(real), witness(features, gan.real_references, gan.fake_references))


class _LinearFeature(_Linear):
    """One feature, h(x) = w . x, with all weights positive."""

    def __init__(self, norm: float) -> None:
        super().__init__(norm)
        self.weight.data.fill_(norm / 96**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, None]


@pytest.mark.parametrize(("norm", "penalty"), [(0.5, 0.0), (1.5, 4.0)])
def test_cramers_penalty_of_a_linear_feature(norm: float, penalty: float) -> None:
    # From black to white h rises by |w| a step, away from every fake pair and towards every real one: slope 2 |w|.
    real, fake = torch.ones(4, 6, 4, 4), torch.zeros(4, 6, 4, 4)
    gan = Cramer(_LinearFeature(norm), DEFAULTS.cramer)
    loss, metrics = gan.loss(real, fake, _rng())
    assert metrics["gradient_penalty"].item() == pytest.approx(penalty, abs=1e-4)
    assert metrics["energy_distance"].item() == pytest.approx(2 * norm * 96**0.5, rel=1e-4)
    assert loss.item() == pytest.approx(10 * penalty - 2 * norm * 96**0.5, rel=1e-3)


# Spectral norms and attention


def _norms(network: nn.Module) -> list[float]:
    """Largest singular values of the weights as they are used, in evaluation mode."""
    network.eval()
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    return [torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2).item() for layer in layers]


@pytest.mark.parametrize("name", SPECTRAL)
def test_spectral_norms_are_one_in_the_network_and_in_its_slow_copy(name: str) -> None:
    # At the default rate. The power iteration, one step an update, lags behind weights that move.
    trainer, (real, fake) = _trainer(name, rate=4e-4, tau=0.05), _toy(16)
    rng = _rng()
    for _ in range(60):
        trainer.update(real, fake, rng)
    for network, lag in ((trainer.gan, 0.4), (trainer.target, 0.1)):
        norms = _norms(network)
        assert norms == pytest.approx([1.0] * len(norms), abs=lag)
        for _ in range(100):
            update_spectral_norms(network)
        assert _norms(network) == pytest.approx([1.0] * len(norms), abs=0.05)


@pytest.mark.parametrize("name", ["sngan", "sagan", "sagan_linear"])
def test_a_score_has_one_scale_on_canvases_of_any_size(name: str) -> None:
    gan = _gan(name).eval()
    small = torch.rand(4, 6, 1, 1).expand(4, 6, 64, 64)
    scores = [gan(small), gan(small[:, :, :1, :1].expand(4, 6, 128, 128))]
    # Borders are padded, which is all that tells one even picture from the other.
    spread = [score.max() - score.min() for score in scores]
    assert 0.6 < (spread[0] / spread[1]).item() < 1.6


def test_the_published_discriminator_has_the_2019_codes_weights() -> None:
    network = PairDiscriminator(16, head="convolution", thresholds="layer")
    assert sum(value.numel() for value in network.parameters()) == 274_886
    assert network(torch.rand(2, 6, 128, 128)).shape == (2,)


def test_without_updates_a_slow_copys_norm_would_drift() -> None:
    torch.manual_seed(0)
    network = SpectralDiscriminator(4)
    with torch.no_grad():
        for module in network.modules():
            if nn.utils.parametrize.is_parametrized(module, "weight"):
                original = module.parametrizations["weight"].original  # type: ignore[index, union-attr]
                original.copy_(torch.randn(original.shape, generator=_rng(5)))
    assert max(abs(norm - 1) for norm in _norms(network)) > 0.3
    for _ in range(30):
        update_spectral_norms(network)
    assert _norms(network) == pytest.approx([1.0] * 5, abs=0.02)
    assert not network.training, "left in the mode that it was found in"


@pytest.mark.parametrize("attention", [SelfAttention, LinearAttention])
def test_attention_begins_as_no_attention(attention: type[SelfAttention]) -> None:
    torch.manual_seed(0)
    layer, x = attention(16).eval(), torch.randn(2, 16, 4, 4)
    assert torch.equal(layer(x), x)
    with torch.no_grad():
        layer.gate.fill_(1.0)
    assert not torch.allclose(layer(x), x)
    (slope,) = torch.autograd.grad(layer(x).square().sum(), layer.gate)
    assert slope.abs() > 0, "the gate is learnt"


def test_full_attention_by_hand() -> None:
    query, key, value = torch.randn(3, 1, 2, 5, generator=_rng(1))
    weights = torch.softmax(torch.einsum("bdi,bdj->bij", query, key), 2)
    expected = torch.einsum("bij,bej->bei", weights, value)
    torch.testing.assert_close(SelfAttention(8).attend(query, key, value), expected)


def test_linear_attention_by_hand() -> None:
    query, key, value = torch.randn(3, 1, 2, 5, generator=_rng(1))
    # As one map of cells to cells: what a softmax over channels of the query sees of keys that sum to 1 over cells.
    weights = torch.einsum("bdi,bdj->bij", query.softmax(1), key.softmax(2))
    torch.testing.assert_close(weights.sum(2), torch.ones(1, 5))
    expected = torch.einsum("bij,bej->bei", weights, value)
    torch.testing.assert_close(LinearAttention(8).attend(query, key, value), expected)


def test_the_hinge_by_hand() -> None:
    # D is 0.25 on real pairs and 0.5 on fake ones: 0.75 + 1.5; beyond the margins nothing is lost.
    real, fake = torch.full((4, 6, 4, 4), 0.25), torch.full((4, 6, 4, 4), 0.5)
    score = _Linear(1.0)
    with torch.no_grad():
        score.weight.fill_(1 / 96)
    gan = Sngan(score)
    assert gan.loss(real, fake, _rng())[0].item() == pytest.approx(2.25, abs=1e-5)
    assert gan.loss(real * 8, fake * -4, _rng())[0].item() == 0.0


def test_a_score_does_not_depend_on_how_the_slope_is_asked_for() -> None:
    gan = _wgan(_Linear(2.0))
    torch.testing.assert_close(gradient_norms(gan, _pairs()[0]), torch.full((8,), 2.0))
