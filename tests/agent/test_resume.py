"""N + N = 2N: a training that was stopped and resumed ends with exactly the weights of an unbroken one."""

import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from lpaint.agent.batch import load_batch
from lpaint.agent.divergence import DivergenceError, RoundMetrics
from lpaint.agent.networks import _network_input
from lpaint.agent.schedule import learning_rate
from lpaint.agent.state import TrainingResult, TrainState
from lpaint.agent.trainer import AgentTraining
from lpaint.data.dataset import PreparedData
from lpaint.errors import TrainingError
from lpaint.renderer.networks import canvas_rasterisers, load_renderer
from lpaint.renderer.training import RendererTraining, RendererTrainState
from lpaint.runtime.params import Params
from lpaint.strokes import exact_rasteriser, get_family
from lpaint.tracking import NullTracker
from lpaint.training.checkpoint import CheckpointManager
from lpaint.training.device import choose_compute
from tests.helpers.checkpoints import last_state
from tests.helpers.commands import DeadTerminal
from tests.helpers.tiny import tiny_params


class StoppedError(Exception):
    """Stands for a kill between two rounds."""


def _agent(params: Params, chain: Path, folder: Path) -> AgentTraining:
    data, compute = PreparedData.load(chain / "data/prepared"), choose_compute(params.base)
    rasterisers = partial(exact_rasteriser, get_family(params.stroke.family), compiled=False)
    return AgentTraining(params, data, compute, rasterisers, CheckpointManager(folder), NullTracker())


def _stop_at(update: int) -> Any:
    def check(progress: TrainState | RendererTrainState) -> None:
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
        return RendererTraining(
            params, choose_compute(params.base), CheckpointManager(tmp_path / folder), NullTracker()
        )

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
    training = RendererTraining(params, choose_compute(params.base), CheckpointManager(tmp_path), NullTracker())
    training.run()
    blank = training.draw(training.validation_shapes).square().mean().item()
    assert training.progress.curve[-1]["l2"] < 0.8 * blank


def test_agent_stops_at_a_loss_that_is_not_finite(chain: Path, tmp_path: Path) -> None:
    training = _agent(tiny_params(), chain, tmp_path)
    with torch.no_grad():
        next(training.agent.critic.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"nan in update 1; there is no checkpoint yet; lower the learning rates"):
        training.run()
    assert not training.resume.checkpoints


def test_frozen_discriminator_stays_as_it_was(chain: Path, tmp_path: Path) -> None:
    training = _agent(tiny_params(agent={"discriminator": {"frozen": True}}), chain, tmp_path)
    assert training.agent.discriminator_trainer is not None
    before = [parameter.clone() for parameter in training.agent.discriminator_trainer.gan.parameters()]
    training.run()
    after = list(training.agent.discriminator_trainer.gan.parameters())
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
    training = AgentTraining(params, data, compute, rasterisers, CheckpointManager(tmp_path), NullTracker())
    start = training.best_weights
    result = training.run()
    assert result.progress.update == 8
    assert any(not torch.equal(value, start[name]) for name, value in training.agent.actor.state_dict().items())


@pytest.mark.parametrize("replay", ["prioritized", "uniform"])
def test_a_curriculum_begins_small_and_resumes_after_every_round(
    chain: Path, tmp_path: Path, replay: str, capsys: pytest.CaptureFixture[str]
) -> None:
    params = tiny_params(stroke={"canvas": 32}, agent={"replay": replay, "curriculum": {"canvas": 16, "share": 0.5}})
    sizes = []
    whole = _agent(params, chain, tmp_path / "whole")
    result = whole.run(lambda _: sizes.append((whole.targets.canvas, whole.replay.size)))
    assert [size for size, _ in sizes] == [16, 16, 32, 32]
    assert sizes[2][1] == sizes[0][1] < sizes[1][1], "the replay starts anew with the canvas"
    assert result.spec.canvas == 32
    # The round that ends at update 8 crosses the boundary: its checkpoint holds small canvases.
    for stop in (4, 8, 12):
        with pytest.raises(StoppedError):
            _agent(params, chain, tmp_path / str(stop)).run(_stop_at(stop))
        resumed = _agent(params, chain, tmp_path / str(stop)).run()
        assert f"resumed at update {stop}" in capsys.readouterr().out
        assert torch.equal(_weights(resumed), _weights(result))


@pytest.mark.parametrize("target_norm", ["own", "online"])
def test_the_moving_average_is_saved_with_statistics_of_its_own(chain: Path, tmp_path: Path, target_norm: str) -> None:
    agent = {
        "actor": {"average": True, "learning_rate": 0.01},
        "tau": 0.02,
        "target_norm": target_norm,
        "validation": {"every": 16},
    }
    training = _agent(tiny_params(agent=agent), chain, tmp_path)
    kept = training.run().actor.state_dict()
    ema = training.agent.actor_target.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in ema.items())
    # The first layer sees the pictures alone, so its statistics follow from its weights.
    training.agent.actor_target.eval()
    rng = torch.Generator().manual_seed(9)
    batch = load_batch(training.replay.sample_uniformly(256, rng), training.targets)
    trunk: Any = training.agent.actor_target.trunk
    convolution, norm = trunk[:2]
    seen = _network_input(batch.obs, batch.target, fraction=batch.step / training.settings.max_steps)
    own = convolution(seen).mean((0, 2, 3))
    spread = convolution(seen).std((0, 2, 3))
    assert ((norm.running_mean - own).abs() < 0.1 * spread).all()


def test_validating_the_moving_average_does_not_change_the_training(chain: Path, tmp_path: Path) -> None:
    ends = []
    for every in (4, 16):
        settings = {"actor": {"average": True}, "validation": {"every": every}}
        training = _agent(tiny_params(agent=settings), chain, tmp_path / str(every))
        training.run()
        ends.append((list(training.agent.critic.parameters()), training.rng.get_state()))
    assert all(torch.equal(a, b) for a, b in zip(ends[0][0], ends[1][0], strict=True))
    assert torch.equal(ends[0][1], ends[1][1])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"schedule": "step", "decay_at": [0.5], "decay_by": 0.1}, [1.0, 1.0, 0.1, 0.1]),
        ({"schedule": "cosine"}, [1.0, 0.853553, 0.5, 0.146447]),
        ({"schedule": "step", "decay_at": [], "warmup_updates": 10}, [0.1, 0.5, 0.9, 1.0]),
        ({"decay_at": [0.2, 0.5], "actor": {"decayed_rates": [3e-5, 6e-6]}}, [1.0, 0.1, 0.02, 0.02]),
    ],
)
def test_learning_rates_follow_their_schedule(
    chain: Path, tmp_path: Path, settings: dict[str, Any], expected: list[float]
) -> None:
    training = _agent(tiny_params(agent=settings), chain, tmp_path)
    factors = []
    for training.progress.update in (0, 4, 8, 12):
        rate = learning_rate(training.settings, training.settings.actor, training.progress.update / 16)
        factors.append(rate / 3e-4 * training._learning_rate_factor())
    assert factors == pytest.approx(expected, abs=1e-5)


def test_a_training_rolls_back_to_half_the_learning_rates(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = _agent(tiny_params(agent={"on_divergence": "step_back", "checkpoint_every": 4}), chain, tmp_path)
    spoilt: list[float] = []

    def spoil(progress: TrainState) -> None:
        if progress.update == 8 and not spoilt:
            spoilt.append(training._learning_rate_factor())
            with torch.no_grad():
                next(training.agent.critic.parameters()).fill_(float("nan"))

    result = training.run(spoil)
    assert "it continues from update 8 with learning rates divided by 2" in capsys.readouterr().err
    assert result.progress.update == 16 and result.progress.rollbacks == 1
    assert training._learning_rate_factor() == pytest.approx(spoilt[0] / 2)
    assert all(torch.isfinite(value).all() for value in result.actor.state_dict().values())


def test_a_training_that_always_diverges_gives_up(chain: Path, tmp_path: Path) -> None:
    training = _agent(tiny_params(agent={"on_divergence": "step_back", "checkpoint_every": 8}), chain, tmp_path)

    def spoil(progress: TrainState) -> None:
        if progress.update >= 8:
            with torch.no_grad():
                next(training.agent.actor.parameters()).fill_(float("nan"))

    with pytest.raises(TrainingError, match=r"diverged after 3 rollbacks: .*; the last good checkpoint is in "):
        training.run(spoil)
    kept = last_state(training.resume)
    assert kept is not None and all(torch.isfinite(value).all() for value in kept["agent"]["actor"].values())


@pytest.mark.parametrize("value", [float("inf"), 1e9])
def test_the_offending_update_is_named(value: float) -> None:
    metrics = RoundMetrics(40)
    for loss in (0.5, -value, 1.0):
        metrics.add({"losses/actor": torch.tensor(loss), "losses/other": torch.tensor(1.0)})
    with pytest.raises(DivergenceError, match=r"losses/actor was -(inf|1e\+09) in update 42"):
        metrics.read()


def test_metrics_that_are_not_always_logged_are_means_of_what_was() -> None:
    metrics = RoundMetrics(0)
    metrics.add({"critic": torch.tensor(1.0), "actor": torch.tensor(5.0)})
    metrics.add({"critic": torch.tensor(2.0)})
    assert metrics.read() == {"critic": 1.5, "actor": 5.0}


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_training_with_a_checkpoint(
    chain: Path, tmp_path: Path, signum: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    params = tiny_params(agent={"checkpoint_every": 16})
    whole = _agent(params, chain, tmp_path / "whole").run()
    with pytest.raises(KeyboardInterrupt):
        _agent(params, chain, tmp_path / "parts").run(
            lambda progress: signal.raise_signal(signum) if progress.update == 4 else None
        )
    assert "ends with a checkpoint after this round; once more to stop at once" in capsys.readouterr().err
    parts = _agent(params, chain, tmp_path / "parts")
    assert parts.progress.update == 8, "the round that was begun is ended, though no checkpoint was due"
    assert torch.equal(_weights(parts.run()), _weights(whole))


def test_a_terminal_that_is_closed_ends_the_training_with_a_checkpoint(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = tiny_params(agent={"checkpoint_every": 16, "validation": {"every": 8}})
    whole = _agent(params, chain, tmp_path / "whole").run()

    def close(progress: TrainState) -> None:
        if progress.update == 4:
            monkeypatch.setattr(sys, "stderr", DeadTerminal())
            signal.raise_signal(signal.SIGHUP)

    with pytest.raises(KeyboardInterrupt):
        _agent(params, chain, tmp_path / "parts").run(close)
    parts = _agent(params, chain, tmp_path / "parts")
    assert parts.progress.update == 8 and len(parts.progress.curve) == 1, "the round with its validation is kept"
    assert torch.equal(_weights(parts.run()), _weights(whole))


def test_warnings_that_nobody_can_be_told_do_not_end_a_training(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint that is passed over, and one that cannot be written."""

    def fail(state: object, path: Path) -> None:
        raise OSError(28, "No space left on device")

    params = tiny_params(agent={"checkpoint_every": 4})
    with pytest.raises(StoppedError):
        _agent(params, chain, tmp_path).run(_stop_at(12))
    CheckpointManager(tmp_path).checkpoints[0].write_bytes(b"damaged")
    monkeypatch.setattr(sys, "stderr", DeadTerminal())
    training = _agent(params, chain, tmp_path)
    assert training.progress.update == 8
    monkeypatch.setattr(torch, "save", fail)
    assert training.run().progress.update == 16


def test_a_second_signal_stops_at_once(chain: Path, tmp_path: Path) -> None:
    training = _agent(tiny_params(agent={"checkpoint_every": 16}), chain, tmp_path)

    def twice(progress: TrainState) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        training.run(twice)
    assert not training.resume.checkpoints


def test_a_signal_ends_the_pretraining_with_a_checkpoint(tmp_path: Path) -> None:
    def training(folder: str) -> RendererTraining:
        params = tiny_params()
        return RendererTraining(
            params, choose_compute(params.base), CheckpointManager(tmp_path / folder), NullTracker()
        )

    whole = training("whole")
    whole.run()
    with pytest.raises(KeyboardInterrupt):
        training("parts").run(lambda progress: signal.raise_signal(signal.SIGTERM) if progress.update == 13 else None)
    parts = training("parts")
    assert parts.progress.update == 14
    parts.run()
    assert parts.progress.curve == whole.progress.curve, "its training error, too, is of all updates"


def test_a_terminal_that_is_closed_ends_the_pretraining_with_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = tiny_params(renderer={"validate_every": 7})

    def training() -> RendererTraining:
        return RendererTraining(params, choose_compute(params.base), CheckpointManager(tmp_path), NullTracker())

    def close(progress: RendererTrainState) -> None:
        if progress.update == 13:
            monkeypatch.setattr(sys, "stderr", DeadTerminal())
            signal.raise_signal(signal.SIGHUP)

    with pytest.raises(KeyboardInterrupt):
        training().run(close)
    kept = training().progress
    assert kept.update == 14 and len(kept.curve) == 2, "the validation of this update is kept"


def test_a_training_goes_on_where_no_checkpoint_can_be_written(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(state: object, path: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(torch, "save", fail)
        result = _agent(tiny_params(), chain, tmp_path).run()
    assert result.progress.update == 16
    assert "no checkpoint can be written there (" in capsys.readouterr().err


def test_deterministic_kernels_can_be_asked_for(chain: Path, tmp_path: Path) -> None:
    try:
        training = _agent(tiny_params(base={"deterministic": True}), chain, tmp_path)
        assert training.compute.deterministic and torch.are_deterministic_algorithms_enabled()
        training.run()
    finally:
        torch.use_deterministic_algorithms(False)
