"""Benchmarks at tiny size: they run, report their figures, and compare equal work. Nothing is timed here."""

import json
import subprocess
import sys
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from lpaint.agent.train_step import train_step
from lpaint.bench.contention import _Training, bench_contention
from lpaint.bench.gans import bench_gans
from lpaint.bench.painting import bench_painting
from lpaint.bench.plain import contiguous, plain_optim
from lpaint.bench.preparation import bench_preparation
from lpaint.bench.rendering import bench_rendering
from lpaint.bench.replay import bench_replay
from lpaint.bench.timing import Report, interleaved
from lpaint.bench.training import _agent, bench_training
from lpaint.cli import main
from lpaint.errors import ParamsError, TrainingError
from lpaint.replay import UniformReplay
from lpaint.replay.buffer import Transitions, View
from lpaint.training.device import Compute
from tests.helpers.tiny import tiny_params, write_params

PLAIN = Compute("cpu", "fp32", 1, compile=False)


def test_actions_take_turns_and_warm_ups_do_not_count() -> None:
    order: list[str] = []
    medians = interleaved({name: partial(order.append, name) for name in "ab"}, repeats=3, warm_ups=2)
    assert "".join(order) == "ababababab"
    assert set(medians) == {"a", "b"} and min(medians.values()) >= 0


def test_a_report_is_a_table_and_json() -> None:
    report = Report("train", {"batch": 8})
    report.add("update", 0.25, "s")
    assert "batch 8" in report.table() and "0.25 s" in report.table()
    with pytest.raises(ParamsError, match="name another file"):
        report.save(Path(__file__) / "bench.json")
    content = json.loads(report.as_json())
    assert content["figures"] == {"update": {"value": 0.25, "unit": "s"}}
    assert content["machine"]["cores"] >= 1 and "torch" in content["machine"]["versions"]


def _replay(size: int, canvas: int) -> UniformReplay:
    rng = torch.Generator().manual_seed(1)
    obs, next_obs = (
        torch.randint(0, 256, (size, 3, canvas, canvas), dtype=torch.uint8, generator=rng) for _ in range(2)
    )
    zero = torch.zeros(size, dtype=torch.int64)
    view = View(torch.randint(40, (size,), generator=rng), zero, zero, zero, zero.bool())
    replay = UniformReplay(size, canvas, (1, 13))
    strokes = torch.rand(size, 1, 13, generator=rng)
    replay.add(Transitions(obs, next_obs, strokes, view, torch.randint(3, (size,), generator=rng)))
    return replay


@pytest.mark.parametrize("renderer", ["exact", "neural"])
def test_the_plain_update_is_the_same_mathematics(renderer: str) -> None:
    params = tiny_params(agent={"renderer": renderer, "replay": "uniform"})
    metrics, gradients, weights = [], [], []
    for steps in (nullcontext(), plain_optim()):
        with steps:
            agent, targets = _agent(params, PLAIN)
            rng = torch.Generator().manual_seed(2)
            told = train_step(agent, _replay(30, params.stroke.canvas), targets, rng, 0.5)
        metrics.append({name: float(value) for name, value in told.items()})
        gradients.append(
            torch.cat(
                [parameter.grad.flatten() for parameter in agent.actor.parameters() if parameter.grad is not None]
            )
        )
        assert agent.discriminator_trainer is not None
        networks = [agent.actor, agent.critic, agent.discriminator_trainer.gan]
        weights.append([value.detach() for network in networks for value in network.parameters()])
    # The actor is judged by a critic whose first step Adam has made of gradients as small as their rounding.
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-2, abs=5e-3)
    assert (gradients[0] - gradients[1]).norm() < 0.05 * gradients[1].norm()
    # Adam's first step is a sign: an element's is wrong only where its gradient is no more than rounding.
    for ours, plain in zip(*weights, strict=True):
        assert (ours - plain).abs().mean() < 0.1 * params.agent.actor.learning_rate


def test_the_plain_update_is_contiguous_throughout() -> None:
    agent, targets = _agent(tiny_params(agent={"replay": "uniform"}), PLAIN)
    contiguous(agent.critic)
    seen: list[bool] = []
    for module in agent.critic.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].is_contiguous()))
    train_step(agent, _replay(30, 16), targets, torch.Generator().manual_seed(0), 0.5)
    assert seen and all(seen)


def test_training_is_measured_against_the_plain_one() -> None:
    report = bench_training(tiny_params(), PLAIN, repeats=1)
    figures = {row.name: row.value for row in report.rows}
    assert figures["ratio of plain to ours"] == pytest.approx(figures["plain update"] / figures["update"])
    assert min(figures.values()) > 0


def test_every_other_benchmark_runs(chain: Path) -> None:
    params = tiny_params()
    reports = [
        bench_rendering(PLAIN, repeats=1),
        bench_replay(params.agent.per, PLAIN, repeats=1),
        bench_gans(params, PLAIN, repeats=1),
        bench_preparation(params, 64),
        bench_painting(chain / "exports/actor.onnx", "cpu", 1, repeats=1),
    ]
    for report in reports:
        assert report.rows and all(row.value > 0 for row in report.rows), report.title


def test_contention_is_measured_against_the_fair_share() -> None:
    report = bench_contention(tiny_params(), repeats=1, busy=(1,), trainings=(2,))
    figures = {row.name: row.value for row in report.rows}
    fair = max(1.0, 2 / report.sizes["cores"])
    assert figures["beside 1 busy: fair slowdown"] == fair == figures["2 trainings: fair slowdown"]
    assert min(figures.values()) > 0 and len(figures) == 7


def test_work_for_a_dead_training_is_an_error() -> None:
    training = _Training()
    training._process.kill()
    training._process.wait()
    with pytest.raises(TrainingError, match="a training ended early"):
        training.prepare(tiny_params())
    training.stop()


def test_busy_processes_end_with_the_one_that_started_them() -> None:
    script = (
        "import os\nfrom lpaint.bench.contention import busy_processes\n"
        "with busy_processes(1) as [busy]:\n    print(busy.pid, flush=True)\n    os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    process = Path(f"/proc/{int(done.stdout)}")
    for _ in range(100):
        if not process.exists() or ") Z " in (process / "stat").read_text():
            return
        time.sleep(0.1)
    pytest.fail("the busy process goes on")


def test_bench_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    write_params(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as done:
        main(["bench", "train", "--repeats", "1", "--save", "new.json", "--json", "old.json"])
    told = capsys.readouterr()
    assert not done.value.code and "ratio of plain to ours" in told.out
    assert told.err == "warning: bench --json FILE is now --save FILE; the next release drops the old name\n"
    assert json.loads(Path("new.json").read_text())["benchmark"] == "train"
    assert Path("old.json").read_text() == Path("new.json").read_text()
    with pytest.raises(SystemExit) as done:
        main(["bench", "train", "--profile", "none"])
    assert done.value.code == 2 and "profiles" in capsys.readouterr().err
