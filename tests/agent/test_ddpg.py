"""One update of the agent: the critic's target by hand, and who learns from what."""

import copy
import io
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lpaint.agent.batch import load_batch
from lpaint.agent.ddpg import Ddpg
from lpaint.agent.environment import Compositor, rollout
from lpaint.agent.factory import build_agent
from lpaint.agent.networks import Actor
from lpaint.agent.targets import TargetSampler
from lpaint.agent.train_step import train_step
from lpaint.replay import PrioritizedReplay, Sample, Transitions, UniformReplay, View
from lpaint.runtime.params import Agent, load_params
from lpaint.strokes import exact_rasteriser, get_family
from lpaint.training import optim
from lpaint.training.device import Compute

FAMILY = get_family("bezier")
DEFAULTS = load_params(Path(__file__).parents[2] / "params.yaml").agent
RATE = {"width": 4, "learning_rate": 1e-3}
PLAIN: dict[str, Any] = {
    "gan": "none",
    "replay": "uniform",
    "zoom": [1],
    "max_steps": 3,
    "bundle": 1,
    "fit_colours": "never",
    "horizon": 1,
    "batch_size": 4,
    "discount": 0.8,
    "tau": 0.25,
    "max_gradient_norm": 0.0,
    "actor": RATE,
    "critic": RATE,
    "reward": {"l2": 1.0, "l2_form": "difference", "gan": 1.0, "gan_scale": "none"},
    "per": {"actor_sampling": "shared"},
    "discriminator": {"width": 4, "tau": 0.5, "warmup_updates": 3, "frozen": False},
    "wgan_gp": {"learning_rate": 1e-3},
}


def _settings(**changes: Any) -> Agent:
    values = DEFAULTS.model_dump()
    for layer in (PLAIN, changes):
        for key, value in layer.items():
            values[key] = {**values[key], **value} if isinstance(value, dict) else value
    return Agent.model_validate(values)


class _ConstantActor(nn.Module):
    """Strokes of one grey, whatever it sees."""

    def __init__(self, grey: float) -> None:
        super().__init__()
        self.grey = nn.Parameter(torch.tensor(grey))

    def forward(self, canvas: Tensor, target: Tensor, fraction: Tensor) -> Tensor:
        return self.grey.expand(len(canvas), 1, 13)


class _LinearCritic(nn.Module):
    """V = slope * mean(next_obs) + late * fraction."""

    def __init__(self, slope: float, late: float) -> None:
        super().__init__()
        self.slope, self.late = nn.Parameter(torch.tensor(slope)), nn.Parameter(torch.tensor(late))

    def forward(self, obs: Tensor, next_obs: Tensor, target: Tensor, fraction: Tensor) -> Tensor:
        return self.slope * next_obs.mean((1, 2, 3)) + self.late * fraction


class _Recorder(UniformReplay):
    """Always gives the same batch, and remembers what it was told and asked."""

    prioritized = True

    def __init__(self, steps: list[int], weights: list[float], device: str = "cpu") -> None:
        super().__init__(8, 4, (1, 13), device)
        self.weights, self.errors, self.draws = torch.tensor(weights), torch.empty(0), {"priority": 0, "uniform": 0}
        zero = torch.zeros(len(steps), dtype=torch.int64)
        view = View(zero, zero, zero, zero, zero > 0)
        obs, next_obs = (torch.full((len(steps), 3, 4, 4), value, dtype=torch.uint8) for value in (0, 51))
        self.add(Transitions(obs, next_obs, torch.full((len(steps), 1, 13), 0.3), view, torch.tensor(steps)))

    def sample(self, count: int, generator: torch.Generator, beta: float = 1.0) -> Sample:
        self.draws["priority"] += 1
        return self._gather(torch.arange(self.size), self.weights)

    def sample_uniformly(self, count: int, generator: torch.Generator) -> Sample:
        self.draws["uniform"] += 1
        return self._gather(torch.arange(self.size), torch.ones(self.size))

    def update_priorities(self, indices: Tensor, errors: Tensor) -> None:
        self.errors = errors.detach()


def _worked_agent(kind: type[Ddpg] = Ddpg, **changes: Any) -> Any:
    """White target, canvas 0 -> 0.2; strokes cover half; the target networks differ from the networks."""
    compositor = Compositor(FAMILY, lambda size: lambda shape: torch.full((len(shape), size, size), 0.5))
    actor: Any = _ConstantActor(0.4)
    critic: Any = _LinearCritic(2.0, 0.5)
    agent: Any = kind(_settings(**changes), actor, critic, compositor, None, Compute("cpu", "fp32", 1, False))
    with torch.no_grad():
        agent.actor_target.grey.fill_(0.6)
        agent.critic_target.slope.fill_(1.0)
        agent.critic_target.late.fill_(-0.3)
    return agent


# s' = 0.2, a' = 0.6 at half opacity: s'' = 0.4, r' = 0.8^2 - 0.6^2 = 0.28, V'(s'') = 0.4 - 0.3 * (step + 2) / 3.
ERRORS = [
    0.8 * (0.28 + 0.4 - 0.2) - (2 * 0.2 + 0.5 / 3),
    0.8 * 0.28 - (2 * 0.2 + 0.5 * 2 / 3),  # s'' is the finished painting: its value is zero
    0.0,  # s' is the finished painting
]


def _update(agent: Ddpg, replay: UniformReplay, targets: TargetSampler | None = None) -> dict[str, float]:
    """One training step on ``targets``, or on white ones."""
    white = torch.full((1, 4, 4, 3), 255, dtype=torch.uint8)
    targets = targets or TargetSampler(white, torch.tensor([0]), 4, [1], torch.device("cpu"))
    metrics = train_step(agent, replay, targets, torch.Generator(agent.compute.device).manual_seed(0), 1.0)
    return {name: value.item() for name, value in metrics.items()}


def test_the_critics_error_by_hand() -> None:
    agent, replay = _worked_agent(), _Recorder([0, 1, 2], [1.0, 0.5, 1.0])
    metrics = _update(agent, replay)
    assert replay.errors.tolist() == pytest.approx([abs(error) for error in ERRORS], abs=1e-6)
    assert metrics["losses/critic"] == pytest.approx((ERRORS[0] ** 2 + 0.5 * ERRORS[1] ** 2) / 3, abs=1e-6)
    assert metrics["critic/td_error"] == pytest.approx(sum(map(abs, ERRORS)) / 3, abs=1e-6)


def test_the_td_target_of_several_steps() -> None:
    # Two steps by hand: s'' = 0.4 and, by the same strokes, then 0.5: r'' = 0.6^2 - 0.5^2 = 0.11.
    agent, replay = _worked_agent(horizon=2), _Recorder([0, 1, 2], [1.0, 1.0, 1.0])
    _update(agent, replay)
    td_targets = [0.8 * 0.28 + 0.64 * 0.11, 0.8 * 0.28, 0.0]
    values = [2 * 0.2 + 0.5 / 3, 2 * 0.2 + 0.5 * 2 / 3, 0.0]
    expected = [abs(goal - value) for goal, value in zip(td_targets, values, strict=True)]
    assert replay.errors.tolist() == pytest.approx(expected, abs=1e-6)


def test_the_td_target_ends_in_the_value_after_n_steps() -> None:
    agent, replay = _worked_agent(horizon=2, max_steps=4), _Recorder([0], [1.0])
    _update(agent, replay)
    td_target = 0.8 * 0.28 + 0.64 * (0.11 + 0.5 - 0.3 * 3 / 4)
    assert replay.errors.item() == pytest.approx(abs(td_target - (2 * 0.2 + 0.5 / 4)), abs=1e-6)


def test_without_a_future_there_is_no_critic() -> None:
    agent, replay = _worked_agent(discount=0.0), _Recorder([0, 1, 2], [1.0, 1.0, 1.0])
    critic: Any = agent.critic
    metrics = _update(agent, replay)
    assert not any("critic" in name for name in metrics)
    assert metrics["losses/actor"] == pytest.approx(-0.36, abs=1e-6), "the reward alone"
    assert (critic.slope.item(), critic.late.item()) == (2.0, 0.5)


def test_a_bundle_is_discounted_stroke_by_stroke() -> None:
    agent = _worked_agent(bundle=3, discount=0.9)
    assert agent.discount == pytest.approx(0.729)


def test_the_critic_learns_from_its_own_loss_alone() -> None:
    # Its gradient is -2 mean(w * error * dV); the actor's loss, which runs through the critic, adds nothing to it.
    agent, replay = _worked_agent(), _Recorder([0, 1, 2], [1.0, 0.5, 1.0])
    critic: Any = agent.critic
    _update(agent, replay)
    slope = -2 / 3 * (ERRORS[0] * 0.2 + 0.5 * ERRORS[1] * 0.2)
    late = -2 / 3 * (ERRORS[0] / 3 + 0.5 * ERRORS[1] * 2 / 3)
    assert [critic.slope.grad.item(), critic.late.grad.item()] == pytest.approx([slope, late], abs=1e-6)
    assert critic.slope.item() == pytest.approx(2.0 - 1e-3, abs=1e-5), "Adam's first step is the learning rate"


def test_the_actors_loss_by_hand() -> None:
    # From black, 0.4 at half opacity: s' = 0.2, r = 1 - 0.8^2 = 0.36; V(s') = 0.4 + (step + 1) / 6, none at the end.
    agent = _worked_agent(critic={"learning_rate": 0.0})
    actor: Any = agent.actor
    metrics = _update(agent, _Recorder([0, 1, 2], [1.0, 0.5, 1.0]))
    assert metrics["actor/reward"] == pytest.approx(0.36, abs=1e-6)
    assert metrics["losses/actor"] == pytest.approx(-(3 * 0.36 + (0.4 + 1 / 6) + (0.4 + 2 / 6)) / 3, abs=1e-6)
    # d s' = 1/2; dr = 2 (1 - s') / 2 = 0.8; dV = 2 / 2, for two of the three.
    assert actor.grey.grad.item() == pytest.approx(-(0.8 + 2 / 3), abs=1e-5)
    assert actor.grey.item() == pytest.approx(0.4 + 1e-3, abs=1e-5)


def test_target_networks_move_by_tau() -> None:
    agent = _worked_agent(tau=0.25)
    actor, critic, slow_actor, slow_critic = agent.actor, agent.critic, agent.actor_target, agent.critic_target
    _update(agent, _Recorder([0, 1], [1.0, 1.0]))
    assert slow_actor.grey.item() == pytest.approx(0.75 * 0.6 + 0.25 * actor.grey.item(), abs=1e-6)
    assert slow_critic.slope.item() == pytest.approx(0.75 * 1.0 + 0.25 * critic.slope.item(), abs=1e-6)


def test_gradients_are_clipped_to_the_norm_and_reported_as_they_were() -> None:
    agent, replay = _worked_agent(max_gradient_norm=0.01), _Recorder([0, 1], [1.0, 1.0])
    metrics = _update(agent, replay)
    for network, name in ((agent.actor, "actor"), (agent.critic, "critic")):
        norm = torch.stack([value.grad.square() for value in network.parameters()]).sum().sqrt().item()
        assert norm == pytest.approx(0.01, rel=1e-3)
        assert metrics[f"{name}/gradient_norm"] > 0.1


def test_a_step_pairs_gradients_with_weights_whatever_their_order_in_memory() -> None:
    generator = torch.Generator().manual_seed(0)
    start, goal = torch.randn(2, 6, 4, 3, 3, generator=generator)
    stepped = []
    for layout in (torch.contiguous_format, torch.channels_last):
        weight = nn.Parameter(start.clone(memory_format=layout))
        optimiser = torch.optim.Adam([weight], lr=0.1, fused=True)
        for _ in range(3):
            # The gradient comes in the order of ``goal``, not in the weight's.
            optim.optimizer_step(((weight.contiguous() - goal) ** 2).sum(), [weight], optimiser, 0.0)
        stepped.append(weight.detach())
    torch.testing.assert_close(stepped[0], stepped[1])


def test_the_learning_rate_factor_scales_both_rates() -> None:
    agent = _worked_agent(critic={"learning_rate": 4e-3})
    agent.set_learning_rates(0.0, 0.5)
    rates = [optimiser.param_groups[0]["lr"] for optimiser in (agent.actor_optimiser, agent.critic_optimiser)]
    assert rates == [5e-4, 2e-3]


def test_each_network_follows_its_own_rates() -> None:
    actor, critic = ({"learning_rate": rate, "decayed_rates": [rate / 3]} for rate in (1e-3, 6e-4))
    agent = _worked_agent(decay_at=[0.5], actor=actor, critic=critic)
    for completed, divisor in ((0.49, 1), (0.5, 3)):
        agent.set_learning_rates(completed, 1.0)
        rates = [optimiser.param_groups[0]["lr"] for optimiser in (agent.actor_optimiser, agent.critic_optimiser)]
        assert rates == pytest.approx([1e-3 / divisor, 6e-4 / divisor])


@pytest.mark.parametrize(("sampling", "uniform"), [("shared", 0), ("uniform", 1)])
def test_the_actors_batch_is_sampled_as_set(sampling: str, uniform: int) -> None:
    replay = _Recorder([0, 1], [1.0, 1.0])
    _update(_worked_agent(per={"actor_sampling": sampling}), replay)
    assert replay.draws == {"priority": 1, "uniform": uniform}


# With the real networks


def _agent(device: str = "cpu", **changes: Any) -> tuple[Ddpg, PrioritizedReplay, TargetSampler]:
    """An agent, a replay with a round of its episodes, and the targets of these."""
    torch.manual_seed(0)
    settings = _settings(**{"gan": "wgan_gp", "zoom": [1, 2], "environments": 4, **changes})
    images = torch.randint(256, (4, 32, 32, 3), dtype=torch.uint8)
    targets = TargetSampler(images, torch.arange(4), 16, settings.zoom, torch.device(device))
    compositor = Compositor(FAMILY, partial(exact_rasteriser, FAMILY, compiled=False))
    actor = Actor(16, settings.bundle, FAMILY.parameters, 4, norm=settings.actor.norm)
    agent = build_agent(settings, actor, compositor, Compute(device, "fp32", 1, False))
    replay = PrioritizedReplay(32, 16, (settings.bundle, FAMILY.parameters), device)
    rng = torch.Generator(device).manual_seed(1)
    for transitions in rollout(targets, compositor, agent.policy, settings, rng):
        replay.add(transitions)
    return agent, replay, targets


def _warm_up(agent: Ddpg, replay: UniformReplay, targets: TargetSampler) -> None:
    rng = torch.Generator().manual_seed(0)
    agent.warm_up_discriminator(lambda: load_batch(replay.sample_uniformly(4, rng), targets), rng)


def _values(network: nn.Module) -> list[Tensor]:
    return [value.detach().clone() for value in network.state_dict().values()]


def _same(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(map(torch.equal, some, others))


@pytest.mark.parametrize("idle", ["actor", "critic"])
def test_each_loss_reaches_its_own_network_alone(idle: str) -> None:
    still: dict[str, Any] = {idle: {"learning_rate": 0.0}}
    agent, replay, targets = _agent(**still)
    before = {name: [p.detach().clone() for p in getattr(agent, name).parameters()] for name in ("actor", "critic")}
    _update(agent, replay, targets)
    for name, values in before.items():
        same = [torch.equal(a, b) for a, b in zip(values, getattr(agent, name).parameters(), strict=True)]
        # So narrow a network may have a block whose ReLUs are all off.
        assert all(same) if name == idle else sum(same) < len(same) / 4


@pytest.mark.parametrize("norm", ["own", "online"])
def test_target_strokes_use_the_batch_norm_statistics_that_are_set(norm: str) -> None:
    agent, replay, targets = _agent(target_norm=norm)
    batch = load_batch(replay.sample_uniformly(8, torch.Generator().manual_seed(0)), targets)
    td_target = agent._td_target(batch, torch.Generator())
    for name, value in agent.actor_target.named_buffers():
        if name.endswith("running_mean"):
            value += 1.0
    assert torch.equal(agent._td_target(batch, torch.Generator()), td_target) == (norm == "own")
    _update(agent, replay, targets)
    copied = _same(list(agent.actor_target.buffers()), list(agent.actor.buffers()))
    assert copied == (norm == "online") == (not agent.actor_target.training) and agent.actor.training
    assert not any(value.requires_grad for value in agent.actor_target.parameters())


@pytest.mark.parametrize("frozen", [False, True])
def test_a_frozen_discriminator_stays_as_it_is(frozen: bool) -> None:
    agent, replay, targets = _agent(discriminator={"frozen": frozen})
    assert agent.discriminator_trainer is not None
    gan, target = agent.discriminator_trainer.gan, agent.discriminator_trainer.target
    fresh = copy.deepcopy(gan)
    _warm_up(agent, replay, targets)
    warm = _values(gan)
    assert _same(_values(target), warm), "after the warm-up the target copy is the network"
    metrics = _update(agent, replay, targets)
    assert _same(_values(gan), _values(fresh)) == frozen
    assert _same(_values(gan), warm) == frozen
    assert ("losses/discriminator" in metrics) != frozen
    halfway = [(old + new) / 2 for old, new in zip(warm, _values(gan), strict=True)]
    for expected, value in zip(halfway, _values(target), strict=True):
        torch.testing.assert_close(value, expected)


def test_without_a_gan_there_is_no_discriminator() -> None:
    agent, replay, targets = _agent(gan="none")
    assert agent.discriminator_trainer is None and agent.reward.score is None
    _warm_up(agent, replay, targets)
    assert not any("discriminator" in name or name.startswith("gan/") for name in _update(agent, replay, targets))


def test_the_reward_is_the_target_discriminators() -> None:
    agent, *_ = _agent()
    assert agent.discriminator_trainer is not None and agent.reward.score is agent.discriminator_trainer.target


def test_the_critic_learns_its_target() -> None:
    # With next to no worth in the future every target is next to zero.
    agent, replay, targets = _agent(gan="none", discount=1e-9)
    losses = [_update(agent, replay, targets)["losses/critic"] for _ in range(40)]
    assert sum(losses[-5:]) < 0.1 * sum(losses[:5])


def test_the_actor_learns_to_earn_more() -> None:
    agent, replay, targets = _agent(gan="none", bundle=2, actor={"learning_rate": 3e-3}, discount=0.0)
    rewards = [_update(agent, replay, targets)["actor/reward"] for _ in range(40)]
    assert sum(rewards[-5:]) > sum(rewards[:5])


def test_a_restored_agent_goes_on_as_if_never_stopped() -> None:
    scaled = {"gan_scale": "running"}
    (first, replay, targets), (second, *_) = _agent(reward=scaled), _agent(reward=scaled)
    _update(first, replay, targets)
    file = io.BytesIO()
    torch.save({"agent": first.state_dict(), "replay": replay.state_dict()}, file)
    going_on = _update(first, replay, targets)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    second.load_state_dict(state["agent"])
    replay.load_state_dict(state["replay"])
    assert _update(second, replay, targets) == going_on
    for mine, theirs in zip(first.networks(), second.networks(), strict=True):
        assert _same(_values(mine), _values(theirs))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_an_update_on_the_gpu_is_an_update_on_the_cpu() -> None:
    found = [_update(*_agent(device)) for device in ("cpu", "cuda")]
    assert found[0].keys() == found[1].keys()
    assert all(torch.isfinite(torch.tensor(list(metrics.values()))).all() for metrics in found)
