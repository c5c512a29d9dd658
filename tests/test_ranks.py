"""Training in several processes: the same result as in one, and no process that outlives another."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from ranked import Streams, agent_of, as_if_two, in_ranks
from tiny import tiny_params
from torch import Tensor, nn

from lpaint.agent.training import AgentTraining
from lpaint.optimisation import Optimisation
from lpaint.params import Params

# Together they meet every place in which a batch enters otherwise than by a mean.
VARIANTS: dict[str, dict[str, Any]] = {
    "ddpg wgan_gp": {},
    "td3 fisher": {"algorithm": "td3", "gan": "fisher", "fisher": {"rho": 0.1}, "exploration": "gaussian"},
    "model-free dragan": {"algorithm": "model_free_ddpg", "gan": "dragan", "replay": "uniform"},
    "cramer": {"gan": "cramer", "cramer": {"references": 6}, "horizon": 2},
    "sagan": {"gan": "sagan", "reward": {"l2": 0}, "actor": {"norm": "layer", "head": "pooled"}},
}


@dataclass
class Learnt:
    """What a training learnt, network by network, how far that is from where it began, and what it logged."""

    networks: list[Tensor]
    moved: list[float]
    logged: dict[str, float]


def _learn(training: AgentTraining) -> Learnt:
    logged: dict[str, float] = {}
    training._log = lambda metrics, *_: logged.update(  # type: ignore[method-assign]
        {f"{training.progress.update} {name}": value for name, value in metrics.items()}
    )
    before = [_flat(network) for network in training.agent.networks()]
    training.run()
    after = [_flat(network) for network in training.agent.networks()]
    moved = [(new - old).norm().item() for new, old in zip(after, before, strict=True)]
    logged |= {f"{row['update']} l2": row["l2"] for row in training.progress.curve}
    return Learnt(after, moved, logged)


def _flat(network: nn.Module) -> Tensor:
    values = [value for value in network.state_dict().values() if value.is_floating_point()]
    return torch.cat([value.flatten().double() for value in values])


def _params(variant: str) -> Params:
    return tiny_params(agent={**VARIANTS[variant], "updates": 8, "updates_per_round": 4})


def _steady_adam(patch: pytest.MonkeyPatch) -> None:
    """Where a gradient is nearly 0, Adam divides rounding by rounding; a large epsilon takes that out of account."""

    def adam(self: Optimisation, network: nn.Module, rate: float, betas: tuple[float, float] = (0.9, 0.999)) -> Any:
        return torch.optim.Adam(network.parameters(), rate, betas, eps=1e-2)

    patch.setattr(Optimisation, "adam", adam)


def _learn_in_ranks(root: Path, folder: Path) -> dict[str, Learnt]:
    with pytest.MonkeyPatch.context() as patch:
        _steady_adam(patch)
        return {name: _learn(agent_of(_params(name), root, folder / name)) for name in VARIANTS}


@pytest.fixture(scope="module")
def in_two(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Learnt]]:
    """What either of two ranks learnt, by variant."""
    folder = tmp_path_factory.mktemp("two")
    return in_ranks(2, folder, _learn_in_ranks, chain, folder / "resume")


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_two_ranks_learn_what_one_process_learns_from_the_same_batches(
    chain: Path, tmp_path: Path, in_two: list[dict[str, Learnt]], monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    params, found = _params(variant), in_two[0][variant]
    _steady_adam(monkeypatch)
    with as_if_two():
        training = agent_of(params, chain, tmp_path)
        training.rng = training.exploration.rng = Streams(params.base.seed)  # type: ignore[assignment]
        expected = _learn(training)
    for mine, theirs, moved in zip(found.networks, expected.networks, expected.moved, strict=True):
        assert (mine - theirs).norm() < 0.01 * moved
    assert found.logged == pytest.approx(expected.logged, rel=2e-3, abs=1e-5)


def test_networks_are_the_same_on_all_ranks(in_two: list[dict[str, Learnt]]) -> None:
    for variant in VARIANTS:
        for first, second in zip(in_two[0][variant].networks, in_two[1][variant].networks, strict=True):
            assert torch.equal(first, second), variant
