"""Training in several processes: the same result as in one, and no process that outlives another."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from lpaint.agent.state import TrainState
from lpaint.agent.trainer import AgentTraining
from lpaint.errors import DataError, MisfitError, ParamsError, TrainingError
from lpaint.runtime.params import Params
from lpaint.training import distributed, optim
from lpaint.training.checkpoint import CheckpointManager
from tests.helpers.checkpoints import last_state
from tests.helpers.ranked import Streams, agent_of, as_if_two, in_ranks
from tests.helpers.tiny import ROOT, tiny_params, write_params

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

    def adam(network: nn.Module, rate: float, betas: tuple[float, float] = (0.9, 0.999)) -> Any:
        return torch.optim.Adam(network.parameters(), rate, betas, eps=1e-2)

    patch.setattr(optim, "adam", adam)


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


class StoppedError(Exception):
    """Stands for a kill between two rounds."""


def _resume_in_ranks(root: Path, folder: Path) -> tuple[Tensor, Tensor, TrainState, TrainState]:
    """Actors of an unbroken and of a resumed training, where the latter stood, and where it ended."""

    def stop(progress: TrainState) -> None:
        if progress.update == 8:
            raise StoppedError

    whole = agent_of(tiny_params(), root, folder / "whole").run()
    with pytest.raises(StoppedError):
        agent_of(tiny_params(), root, folder / "parts").run(stop)
    parts = agent_of(tiny_params(), root, folder / "parts")
    stood = TrainState(**vars(parts.progress))
    result = parts.run()
    return _flat(whole.actor), _flat(result.actor), stood, result.progress


def test_resumed_ranks_end_with_the_weights_of_unbroken_ones(chain: Path, tmp_path: Path) -> None:
    results = in_ranks(2, tmp_path, _resume_in_ranks, chain, tmp_path / "resume")
    for whole, resumed, stood, ended in results:
        assert torch.equal(whole, resumed) and torch.equal(resumed, results[0][0])
        assert stood.update == 8 and ended.update == 16
        # Of all ranks: 4 rounds of 4 environments, 3 steps at each of 2 scales.
        assert ended.transitions == 4 * 4 * 6
    state = last_state(CheckpointManager(tmp_path / "resume/parts"))
    assert state is not None
    first, second = (part["replay"]["columns"]["strokes"] for part in state["ranks"])
    assert first.shape == second.shape and not torch.equal(first, second)


def _communicate() -> list[Any]:
    """Use every collective on two ranks; then rank 1 fails while rank 0 waits for it."""
    part = torch.tensor([[1.0, 4.0], [2.0, 9.0]][distributed.rank()])
    state = {"common": part, "ranks": [{"for": 0}, {"for": 1}]} if distributed.is_main() else None
    received = distributed.scatter_state(state, torch.device("cpu"))
    assert received is not None
    assert distributed.broadcast({"mine": distributed.rank()}) == {"mine": 0}
    misfits: tuple[dict[str, Any], ...] = ({"common": 1}, {"ranks": [{}]})
    for misfit in misfits:
        if distributed.is_main():
            with pytest.raises(MisfitError, match="processes, and 2 are running"):
                distributed.scatter_state(misfit, torch.device("cpu"))
    with pytest.raises(ParamsError) as uneven:
        distributed.per_rank(5, "agent.batch_size")
    unequal = ""
    try:
        distributed.check_equal({"seed": 0, "data": ["a", "b"][distributed.rank()]})
    except TrainingError as error:
        unequal = str(error)
    torch.save(
        [
            distributed.all_reduce_std(part),
            distributed.all_reduce_max(part),
            distributed.all_reduce_mean(part),
            distributed.all_gather(part),
            distributed.average_gradients([part, part[:1]]),
            distributed.gather_states({"rank": distributed.rank()}),
            received,
            str(uneven.value),
            unequal,
        ],
        f"{os.environ['OUT']}/{distributed.rank()}.pt",
    )
    if not distributed.is_main():
        raise DataError("picture 7: is damaged; delete it")
    distributed.all_reduce_mean(part)
    raise AssertionError("the other rank is gone")


def test_collectives_give_what_one_process_would_compute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUT", str(tmp_path))
    first, second = in_ranks(2, tmp_path / "ends", _communicate)
    assert "picture 7: is damaged" in second
    assert first.strip().endswith("SystemExit: 5"), "the first ends with the second's code and no word"
    both = torch.tensor([1.0, 4.0, 2.0, 9.0])
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found[0] == pytest.approx(both.std().item())
        assert found[1].tolist() == [2, 9] and found[2].tolist() == [1.5, 6.5] and torch.equal(found[3], both)
        assert [value.tolist() for value in found[4]] == [[1.5, 6.5], [1.5]]
        assert found[5] == ([{"rank": 0}, {"rank": 1}] if rank == 0 else [])
        assert found[6]["common"].tolist() == [1, 4] and found[6]["own"] == {"for": rank}
        assert found[7] == "agent.batch_size: 5 cannot be shared evenly by 2 processes; make it a multiple of 2"
        assert bool(found[8]) == (rank == 1)
    assert found[8].startswith("rank 1 has another data than rank 0; give every machine the same params.yaml")


def test_one_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with distributed.process_group() as leads:
        assert leads and distributed.world_size() == 1 and not dist.is_initialized()
        value = torch.ones(2, requires_grad=True)
        assert all(
            reduce(value) is value
            for reduce in (distributed.all_reduce_mean, distributed.all_gather, distributed.all_reduce_max)
        )
        assert distributed.rank_seed(5, 0) == 5 != distributed.rank_seed(5, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LPAINT_RANKS_TIMEOUT", "soon")
    with (
        pytest.raises(ParamsError, match="LPAINT_RANKS_TIMEOUT is 'soon'; give a whole number"),
        distributed.process_group(),
    ):
        pass


@pytest.fixture
def root(chain: Path, tmp_path: Path) -> Path:
    """A repository whose data are prepared."""
    (tmp_path / "data").symlink_to(chain / "data")
    return tmp_path


def _start(root: Path, *command: str) -> "subprocess.Popen[str]":
    (root / "out.txt").unlink(missing_ok=True)
    with (root / "out.txt").open("w") as out:
        return subprocess.Popen(
            [sys.executable, "-m", *command, "stages.train_agent"],
            cwd=root,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "pipeline"), str(ROOT)])},
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
        )


def _ranks_at_work(root: Path, job: "subprocess.Popen[str]") -> list[int]:
    """The processes of a job, by rank, once there is a checkpoint."""
    deadline = time.monotonic() + 240
    while not list(root.glob(".lpaint/resume/train_agent-*/checkpoint-*.pt")):
        assert job.poll() is None and time.monotonic() < deadline, (root / "out.txt").read_text()
        time.sleep(0.02)
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(job.pid)], capture_output=True, text=True, check=True)
    return sorted(int(pid) for pid in children.stdout.split())


TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m")


def test_a_killed_rank_ends_the_job_with_a_sentence_and_the_same_command_goes_on(root: Path) -> None:
    write_params(root, base={"tracking": "jsonl"}, agent={"updates": 40})
    job = _start(root, *TORCHRUN)
    victim = _ranks_at_work(root, job)[1]
    os.kill(victim, signal.SIGKILL)
    assert job.wait(240) == 1
    out = (root / "out.txt").read_text()
    assert [line for line in out.splitlines() if line.startswith(("error: ", "train_agent: "))] == [
        f"error: rank 1 (process {victim}) of 2 was killed; "
        "run the same command again to go on from the last checkpoint"
    ]
    assert "pipeline/lpaint" not in out, "a traceback of our own"
    assert not (root / "models").exists()

    assert _start(root, *TORCHRUN).wait(240) == 0
    out = (root / "out.txt").read_text()
    assert out.count("resumed at update") == 1
    report = json.loads((root / "reports/training.json").read_text())
    assert report["samples"] == 40 * 8 and (root / "models/actor.safetensors").is_file()
    assert not list(root.glob(".lpaint/resume/*/checkpoint-*.pt"))
    runs = list(root.glob(".lpaint/tracking/*.jsonl"))
    assert len(runs) == 1 and '"compute.ranks": "2"' in runs[0].read_text(), "rank 0 alone reports"


def test_ranks_that_a_setting_asks_for_end_by_one_sentence(root: Path) -> None:
    write_params(root, base={"tracking": "jsonl"}, agent={"updates": 1000, "processes": 2})
    job = _start(root)
    _ranks_at_work(root, job)
    job.terminate()
    assert job.wait(240) == 130
    lines = [line for line in (root / "out.txt").read_text().splitlines() if line.startswith("train_agent: ")]
    assert lines == [
        "train_agent: ends with a checkpoint after this round; once more to stop at once",
        "train_agent: interrupted; run the same command again to go on",
    ]
    (found,) = root.glob(".lpaint/resume/train_agent-*/about.json")
    assert json.loads(found.read_text())["note"].startswith("update ")


def test_totals_that_cannot_be_shared_are_refused_once(root: Path) -> None:
    write_params(root, base={"tracking": "jsonl"}, agent={"environments": 5, "processes": 2})
    assert _start(root).wait(240) == 2
    assert (root / "out.txt").read_text() == (
        "error: agent.environments: 5 cannot be shared evenly by 2 processes; make it a multiple of 2\n"
    )
