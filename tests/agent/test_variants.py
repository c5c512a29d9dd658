"""TD3, model-free DDPG and exploration: what they do otherwise than DDPG, by hand, and that each trains."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lpaint.agent.batch import Batch, load_batch
from lpaint.agent.exploration import GaussianNoise, ParameterNoise, build_exploration
from lpaint.agent.networks import ActionCritic, Actor, TwinCritic
from lpaint.agent.variants import ModelFreeDdpg, Td3
from lpaint.errors import ParamsError
from lpaint.training import optim
from tests.agent.test_ddpg import DEFAULTS, _agent, _Recorder, _settings, _update, _worked_agent
from tests.agent.test_resume import _agent as _training
from tests.helpers.tiny import tiny_params

LAYER = {"width": 4, "learning_rate": 1e-3, "norm": "layer"}


class _LinearTwin(nn.Module):
    """Two critics: slope * mean(next_obs), and that plus a constant."""

    def __init__(self, slope: float, more: float) -> None:
        super().__init__()
        self.slope, self.more = nn.Parameter(torch.tensor(slope)), nn.Parameter(torch.tensor(more))

    def forward(self, obs: Tensor, next_obs: Tensor, target: Tensor, fraction: Tensor) -> Tensor:
        first = self.slope * next_obs.mean((1, 2, 3))
        return torch.stack([first, first + self.more])


def _td3(**changes: Any) -> Any:
    agent = _worked_agent(Td3, td3={"smoothing": 0.0, "policy_delay": 2} | changes)
    agent.critic, agent.critic_target = _LinearTwin(2.0, 0.1), _LinearTwin(1.0, -0.3)
    agent.critic_optimiser = optim.adam(agent.critic, 1e-3)
    return agent


def test_td3s_td_target_is_the_lesser_value_and_both_critics_learn_it() -> None:
    # As in DDPG's example, but V'(s'') is the lesser of 0.4 and 0.1; the critics say 0.4 and 0.5 of s' = 0.2.
    agent, replay = _td3(), _Recorder([0], [1.0])
    metrics = _update(agent, replay)
    td_target = 0.8 * (0.28 + 0.1)
    errors = [td_target - 0.4, td_target - 0.5]
    assert metrics["losses/critic"] == pytest.approx(sum(error**2 for error in errors), abs=1e-6)
    assert replay.errors.tolist() == pytest.approx([sum(map(abs, errors)) / 2], abs=1e-6)


def test_td3s_actor_and_all_targets_move_at_every_second_update() -> None:
    agent, replay = _td3(), _Recorder([0, 1], [1.0, 1.0])

    def delayed() -> list[float]:
        return [
            value.item() for value in (agent.actor.grey, agent.actor_target.grey, *agent.critic_target.parameters())
        ]

    for number in range(4):
        before, slope = delayed(), agent.critic.slope.item()
        metrics = _update(agent, replay)
        moved = [a != b for a, b in zip(before, delayed(), strict=True)]
        assert moved == [number % 2 == 1] * len(moved) and ("losses/actor" in metrics) == (number % 2 == 1)
        assert agent.critic.slope.item() != slope, "the critics learn at every update"


def test_td3s_noise_is_the_published_one_by_default() -> None:
    # Fujimoto et al. 2018, section 6.1: 0.2 and 0.5 for actions in [-1, 1], whose range is twice that of strokes.
    assert (DEFAULTS.td3.smoothing, DEFAULTS.td3.smoothing_clip) == (0.2 / 2, 0.5 / 2)


def test_td3s_target_strokes_are_blurred_within_bounds() -> None:
    agent = _td3(smoothing=0.1, smoothing_clip=0.15)
    canvas = torch.zeros(500, 3, 4, 4)
    strokes = agent._target_strokes(canvas, canvas, torch.zeros(500), torch.Generator().manual_seed(0))
    assert strokes.mean().item() == pytest.approx(0.6, abs=0.01)
    assert (strokes - 0.6).abs().max().item() == pytest.approx(0.15, abs=1e-5)
    assert strokes.std().item() == pytest.approx(0.088, abs=0.01), "N(0, 0.1) clipped at 1.5 deviations"
    agent.actor_target.grey.data.fill_(0.99)
    assert agent._target_strokes(canvas, canvas, torch.zeros(500), torch.Generator().manual_seed(0)).max() == 1.0


class _LinearQ(nn.Module):
    """Q = slope * mean(strokes) + late * fraction."""

    def __init__(self, slope: float, late: float) -> None:
        super().__init__()
        self.slope, self.late = nn.Parameter(torch.tensor(slope)), nn.Parameter(torch.tensor(late))

    def forward(self, canvas: Tensor, target: Tensor, fraction: Tensor, strokes: Tensor) -> Tensor:
        return self.slope * strokes.mean((1, 2)) + self.late * fraction


def test_model_free_ddpg_by_hand() -> None:
    agent = _worked_agent(ModelFreeDdpg, critic={"learning_rate": 0.0})
    agent.critic, agent.critic_target = _LinearQ(2.0, 0.5), _LinearQ(1.0, -0.3)
    agent.critic_optimiser = optim.adam(agent.critic, 0.0)
    replay = _Recorder([0, 1, 2], [1.0, 0.5, 1.0])
    metrics = _update(agent, replay)
    # The stored step: 0 -> 0.2 before white earns 1 - 0.8^2 = 0.36 by strokes of 0.3; the target actor's are 0.6.
    td_targets = [0.36 + 0.8 * (0.6 - 0.3 / 3), 0.36 + 0.8 * (0.6 - 0.3 * 2 / 3), 0.36]
    values = [2 * 0.3 + 0.5 * step / 3 for step in range(3)]
    errors = [goal - value for goal, value in zip(td_targets, values, strict=True)]
    assert replay.errors.tolist() == pytest.approx([abs(error) for error in errors], abs=1e-6)
    # The actor's strokes are 0.4: Q = 0.8 + 0.5 * step / 3; its gradient comes through Q alone.
    assert metrics["losses/actor"] == pytest.approx(-(0.8 + 0.5 / 3), abs=1e-6)
    assert agent.actor.grey.grad.item() == pytest.approx(-2.0, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algorithm": "td3", "discount": 0}, r"algorithm: td3 trains critics"),
        ({"algorithm": "model_free_ddpg", "horizon": 2}, r"horizon: n-step targets use the renderer"),
        ({"exploration": "parameter"}, r"exploration: parameter noise relies on layer norm; set actor.norm"),
        ({"gan": "dcgan"}, r"agent.gan is 'dcgan': input should be 'none', 'wgan_gp', 'dragan'"),
        ({"dragan": {"rho": 1}}, r"unknown key agent.dragan.rho"),
        ({"sngan": {"betas": [0.5]}}, r"agent.sngan.betas is \[0.5\]: list should have at least 2 items"),
    ],
)
def test_settings_that_make_no_sense_together_are_refused(changes: dict[str, Any], message: str) -> None:
    changes = {"replay": "uniform", **changes}
    with pytest.raises(ParamsError, match=message):
        tiny_params(agent=changes)


# Networks


def test_twin_critics_differ_and_action_critics_see_the_strokes() -> None:
    torch.manual_seed(0)
    canvas, target = torch.rand(2, 3, 3, 16, 16)
    fraction = torch.rand(3)
    values = TwinCritic(4)(canvas, target, target, fraction)
    assert values.shape == (2, 3) and not torch.allclose(values[0], values[1])
    critic, strokes = ActionCritic(4, 10), torch.rand(3, 2, 5, requires_grad=True)
    values = critic(canvas, target, fraction, strokes)
    assert values.shape == (3,)
    (slope,) = torch.autograd.grad(values.sum(), strokes)
    assert (slope != 0).all()


def test_an_actor_with_layer_norm_has_no_running_statistics() -> None:
    torch.manual_seed(0)
    actor = Actor(16, 2, 13, 4, "attention", norm="layer")
    assert not list(actor.buffers())
    pictures = torch.rand(2, 4, 3, 16, 16)
    assert torch.allclose(actor.train()(*pictures, torch.zeros(4)), actor.eval()(*pictures, torch.zeros(4)))


# Exploration


def _exploring(kind: str, **changes: Any) -> tuple[Any, Batch, Any]:
    """An agent, a batch of its transitions, and its exploration."""
    agent, replay, targets = _agent(gan="none", exploration=kind, actor=LAYER, **changes)
    rng = torch.Generator().manual_seed(3)
    batch = load_batch(replay.sample_uniformly(8, torch.Generator().manual_seed(4)), targets)
    return agent, batch, build_exploration(agent, agent.settings, rng)


def test_gaussian_noise_has_its_deviation_and_stays_in_bounds() -> None:
    agent, batch, exploration = _exploring("gaussian", noise={"std": 0.1})
    assert isinstance(exploration, GaussianNoise)
    inputs = batch.obs, batch.target, batch.step / 3
    agent.actor.eval()
    noisy = torch.stack([exploration.policy(*inputs) for _ in range(200)])
    assert noisy.min() >= 0 and noisy.max() <= 1
    inside = agent.policy(*inputs)
    middle = (inside > 0.35) & (inside < 0.65)
    assert middle.any()
    assert (noisy - inside)[:, middle].std().item() == pytest.approx(0.1, rel=0.1)
    assert exploration.adapt_noise(batch) == {} and exploration.state_dict() == {}


def test_parameter_noise_leaves_the_actor_and_its_normalisation_alone() -> None:
    agent, _, exploration = _exploring("parameter")
    assert isinstance(exploration, ParameterNoise)
    before = {name: value.clone() for name, value in agent.actor.state_dict().items()}
    exploration.resample_noise()
    perturbed = exploration._perturbed.state_dict()
    assert all(torch.equal(before[name], value) for name, value in agent.actor.state_dict().items())
    moved = {name for name, value in before.items() if not torch.equal(perturbed[name], value)}
    assert moved and not any("norm" in name for name in moved)
    assert {name for name in before if "weight" in name and before[name].ndim == 4} <= moved
    noise = torch.cat([(perturbed[name] - before[name]).flatten() for name in sorted(moved)])
    assert noise.std().item() == pytest.approx(exploration.sigma.item(), rel=0.05)


def test_parameter_noise_adapts_until_strokes_differ_as_much_as_set() -> None:
    agent, batch, exploration = _exploring("parameter", noise={"std": 0.03, "adaptation": 1.2})
    agent.actor.eval()
    distances = []
    for sigma in (1e-4, 1.0):
        exploration.sigma.fill_(sigma)
        for _ in range(60):
            exploration.resample_noise()
            distances.append(exploration.adapt_noise(batch)["exploration/distance"].item())
        assert sum(distances[-20:]) / 20 == pytest.approx(0.03, rel=0.35)
    assert distances[0] < 0.003 and distances[60] > 0.1
    restored = _exploring("parameter")[2]
    restored.load_state_dict(exploration.state_dict())
    assert restored.sigma == exploration.sigma


# Each trains


@pytest.mark.parametrize(
    "changes",
    [
        {"algorithm": "td3"},
        {"algorithm": "model_free_ddpg"},
        {"algorithm": "model_free_ddpg", "discount": 0, "replay": "uniform"},
        {"exploration": "gaussian"},
        {"exploration": "parameter", "actor": {"norm": "layer"}},
        {"horizon": 3},
        {"per": {"stratified": False}},
        *({"gan": gan} for gan in ("dragan", "fisher", "cramer", "sngan", "sagan", "sagan_linear")),
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_each_variant_trains_and_resumes_to_the_same_weights(
    changes: dict[str, Any], chain: Path, tmp_path: Path
) -> None:
    params = tiny_params(agent=changes)
    whole = _training(params, chain, tmp_path / "whole").run()
    first = _training(params, chain, tmp_path / "parts")

    def stop(progress: Any) -> None:
        if progress.update >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.run(stop)
    parts = _training(params, chain, tmp_path / "parts").run()
    for name, value in whole.actor.state_dict().items():
        assert torch.equal(value, parts.actor.state_dict()[name]), name
    assert whole.progress.curve[-1]["l2"] == parts.progress.curve[-1]["l2"]


def test_settings_of_tests_are_valid() -> None:
    assert _settings(exploration="parameter", actor=LAYER).actor.norm == "layer"
