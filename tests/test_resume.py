"""N + N = 2N: a training that was stopped and resumed ends with exactly the weights of an unbroken one."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_params

from lpaint.agent.training import AgentTraining, Progress, TrainingResult
from lpaint.checkpoint import ResumeState
from lpaint.data.dataset import PreparedData
from lpaint.device import choose_compute
from lpaint.errors import TrainingError
from lpaint.params import Params
from lpaint.renderer.networks import canvas_rasterisers, load_renderer
from lpaint.renderer.training import RendererProgress, RendererTraining
from lpaint.strokes import exact_rasteriser, get_family
from lpaint.tracking import NullTracker


class StoppedError(Exception):
    """Stands for a kill between two rounds."""


def _agent(params: Params, chain: Path, folder: Path) -> AgentTraining:
    data, compute = PreparedData.load(chain / "data/prepared"), choose_compute(params.base)
    rasterisers = partial(exact_rasteriser, get_family(params.stroke.family), compiled=False)
    return AgentTraining(params, data, compute, rasterisers, ResumeState(folder), NullTracker())


def _stop_at(update: int) -> Any:
    def check(progress: Progress | RendererProgress) -> None:
        if progress.update >= update:
            raise StoppedError

    return check


def _weights(result: TrainingResult) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in result.actor.state_dict().values()])


@pytest.mark.parametrize("replay", ["prioritized", "uniform"])
def test_resumed_agent_equals_unbroken_one(
    chain: Path, tmp_path: Path, replay: str, capsys: pytest.CaptureFixture[str]
) -> None:
    params = tiny_params(agent={"replay": replay})
    whole = _agent(params, chain, tmp_path / "whole").run()
    with pytest.raises(StoppedError):
        # After a round whose checkpoint was written: nothing is lost.
        _agent(params, chain, tmp_path / "parts").run(_stop_at(8))
    parts = _agent(params, chain, tmp_path / "parts")
    assert "resumed at update 8" in capsys.readouterr().out
    result = parts.run()
    assert torch.equal(_weights(result), _weights(whole))
    assert [row["l2"] for row in result.progress.curve] == [row["l2"] for row in whole.progress.curve]
    assert result.progress.transitions == whole.progress.transitions


def test_work_since_the_last_checkpoint_is_redone_alike(chain: Path, tmp_path: Path) -> None:
    params = tiny_params(agent={"checkpoint_every": 8})
    whole = _agent(params, chain, tmp_path / "whole").run()
    with pytest.raises(StoppedError):
        _agent(params, chain, tmp_path / "parts").run(_stop_at(12))
    parts = _agent(params, chain, tmp_path / "parts")
    assert parts.progress.update == 8
    assert torch.equal(_weights(parts.run()), _weights(whole))


def test_another_seed_is_another_training(chain: Path, tmp_path: Path) -> None:
    first = _agent(tiny_params(), chain, tmp_path / "a").run()
    second = _agent(tiny_params(base={"seed": 1}), chain, tmp_path / "b").run()
    assert not torch.equal(_weights(first), _weights(second))


def test_resumed_renderer_equals_unbroken_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = tiny_params()

    def training(folder: str) -> RendererTraining:
        return RendererTraining(params, choose_compute(params.base), ResumeState(tmp_path / folder), NullTracker())

    whole = training("whole")
    whole.run()
    with pytest.raises(StoppedError):
        training("parts").run(_stop_at(25))
    parts = training("parts")
    assert "resumed at update 20" in capsys.readouterr().out
    parts.run()
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, parts.network.state_dict()[name]), name
    assert parts.progress.curve == whole.progress.curve


def test_renderer_learns_more_than_the_blank_canvas(tmp_path: Path) -> None:
    settings = {"updates": 400, "batch_size": 32, "validate_every": 400, "validation_strokes": 128}
    params = tiny_params(renderer=settings)
    training = RendererTraining(params, choose_compute(params.base), ResumeState(tmp_path), NullTracker())
    training.run()
    blank = training.draw(training.validation_shapes).square().mean().item()
    assert training.progress.curve[-1]["l2"] < 0.8 * blank


def test_agent_stops_at_a_loss_that_is_not_finite(chain: Path, tmp_path: Path) -> None:
    training = _agent(tiny_params(), chain, tmp_path)
    with torch.no_grad():
        next(training.agent.critic.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"no longer finite in the updates before 4; .*lower the learning rates"):
        training.run()
    assert not (tmp_path / "checkpoint.pt").exists()


def test_frozen_discriminator_stays_as_it_was(chain: Path, tmp_path: Path) -> None:
    training = _agent(tiny_params(agent={"discriminator": {"frozen": True}}), chain, tmp_path)
    assert training.agent.adversary is not None
    before = [parameter.clone() for parameter in training.agent.adversary.gan.parameters()]
    training.run()
    after = list(training.agent.adversary.gan.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    "agent",
    [
        {"gan": "none"},
        {"reward": {"l2": 0}},
        {"renderer": "neural"},
        {"zoom": [1], "reward": {"l2_form": "difference", "gan_scale": "none"}},
        {"per": {"actor_sampling": "shared"}},
    ],
    ids=["no gan", "gan alone", "neural renderer", "as published", "shared batch"],
)
def test_every_variant_trains(chain: Path, tmp_path: Path, agent: dict[str, Any]) -> None:
    params = tiny_params(agent={**agent, "updates": 8})
    data, compute = PreparedData.load(chain / "data/prepared"), choose_compute(params.base)
    network = load_renderer(chain / "models/renderer.safetensors") if params.agent.renderer == "neural" else None
    rasterisers = canvas_rasterisers(get_family(params.stroke.family), compute, network)
    training = AgentTraining(params, data, compute, rasterisers, ResumeState(tmp_path), NullTracker())
    start = training.best
    result = training.run()
    assert result.progress.update == 8
    assert any(not torch.equal(value, start[name]) for name, value in training.agent.actor.state_dict().items())


def test_a_curriculum_begins_small_and_resumes_at_either_size(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = tiny_params(stroke={"canvas": 32}, agent={"curriculum": {"canvas": 16, "share": 0.5}})
    sizes = []
    whole = _agent(params, chain, tmp_path / "whole")
    result = whole.run(lambda _: sizes.append((whole.pictures.canvas, whole.replay.size)))
    assert [size for size, _ in sizes] == [16, 16, 32, 32]
    assert sizes[2][1] == sizes[0][1] < sizes[1][1], "the replay starts anew with the canvas"
    assert result.settings["canvas"] == 32
    for stop in (4, 12):
        with pytest.raises(StoppedError):
            _agent(params, chain, tmp_path / str(stop)).run(_stop_at(stop))
        resumed = _agent(params, chain, tmp_path / str(stop)).run()
        assert f"resumed at update {stop}" in capsys.readouterr().out
        assert torch.equal(_weights(resumed), _weights(result))


def test_the_average_is_kept_where_it_is_asked_for(chain: Path, tmp_path: Path) -> None:
    training = _agent(tiny_params(agent={"actor": {"average": True}}), chain, tmp_path)
    result = training.run()
    assert min(result.progress.curve, key=lambda row: row["l2"])["update"] == 16, "or the comparison tells nothing"
    kept = result.actor.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in training.agent.actor_target.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"schedule": "step", "decay_at": [0.5], "decay_by": 0.1}, [1.0, 1.0, 0.1, 0.1]),
        ({"schedule": "cosine"}, [1.0, 0.853553, 0.5, 0.146447]),
        ({"schedule": "step", "decay_at": [], "warmup_updates": 10}, [0.1, 0.5, 0.9, 1.0]),
    ],
)
def test_learning_rates_follow_their_schedule(
    chain: Path, tmp_path: Path, settings: dict[str, Any], expected: list[float]
) -> None:
    training = _agent(tiny_params(agent=settings), chain, tmp_path)
    factors = []
    for training.progress.update in (0, 4, 8, 12):
        factors.append(training._learning_rate_factor(training.progress.update / 16))
    assert factors == pytest.approx(expected, abs=1e-5)
