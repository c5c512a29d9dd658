"""Sections of `benchmarks/gpu.py` on whole trainings: the profile celeba, and an interrupted training."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_setup import Findings, Job, compute_for, on_gpu, rounded, wait
from lpaint.agent.state import TrainState
from lpaint.agent.torch_model import save_actor
from lpaint.agent.trainer import AgentTraining
from lpaint.data.dataset import PreparedData
from lpaint.data.prepare import prepare
from lpaint.renderer.networks import canvas_rasterisers, renderer_settings
from lpaint.renderer.training import RendererTraining
from lpaint.runtime.artifacts import ACTOR_WEIGHTS, PREPARED_DATA, RENDERER_WEIGHTS
from lpaint.runtime.params import Params, merge_values, parse_params
from lpaint.strokes import get_family
from lpaint.tracking import NullTracker
from lpaint.training.checkpoint import CheckpointManager
from lpaint.training.device import Compute
from lpaint.training.weights import save_weights

# Rounds that are timed to plan the training, of which the first is not counted.
_TIMED_ROUNDS = 6
# Share of the time that is planned for rounds; validations and checkpoints take the rest.
_SHARE_OF_ROUNDS = 0.85
_VALIDATIONS = 3
_RESUME_UPDATES, _STOPPED_AT = 12, 8


class _Stopped(BaseException):
    """Ends a training from outside; lpaint catches no such exception."""


def training_params(job: Job, updates: int) -> Params:
    """The profile celeba on the prepared pictures, for ``updates`` updates."""
    every = max(1, updates // _VALIDATIONS)
    overlay: dict[str, Any] = {
        "data": data_overlay(job),
        "agent": {
            "updates": updates,
            "validation": {"every": every, "images": 32, "strokes": 100},
            "checkpoint_every": every,
        },
        "renderer": {"updates": 3000, "validate_every": 1000, "validation_strokes": 512},
        "evaluate": {"images": 24, "strokes": [25, 50, 100, 200, 500]},
    }
    return job.params("celeba", **overlay)


def data_overlay(job: Job) -> dict[str, Any]:
    """The section ``data``: the faces, or synthetic pictures."""
    if job.faces:
        return {"source": "celeba", "path": job.faces, "limit": 60 if job.smoke else 0}
    return {"source": "synthetic", "path": "", "limit": 60 if job.smoke else 2000}


def prepared(job: Job, findings: Findings) -> None:
    """Pack the pictures."""
    started = time.perf_counter()
    if not PREPARED_DATA.exists():
        prepare(training_params(job, 100), PREPARED_DATA)
    data = PreparedData.load(PREPARED_DATA)
    findings["pictures"] = len(data.images)
    findings["MiB"] = rounded(data.images.nbytes / 2**20)
    findings["preparation, s"] = rounded(time.perf_counter() - started)


def train(job: Job, findings: Findings) -> None:
    """The neural renderer for a few seconds, then the agent for ``job.seconds``."""
    deadline = time.perf_counter() + job.seconds
    data = PreparedData.load(PREPARED_DATA)
    params = training_params(job, 1000)
    compute = compute_for(params)
    findings["compute"] = compute.as_dict()
    with findings.attempt("renderer"):
        findings["renderer"] = _train_renderer(params, compute)

    def build(settings: Params, folder: str) -> AgentTraining:
        shutil.rmtree(folder, ignore_errors=True)
        rasterisers = canvas_rasterisers(get_family(settings.stroke.family), compute)
        return AgentTraining(settings, data, compute, rasterisers, CheckpointManager(Path(folder)), NullTracker())

    seconds = _time_rounds(build, params, 2 if job.smoke else _TIMED_ROUNDS)
    left = deadline - time.perf_counter()
    rounds = max(1, int(_SHARE_OF_ROUNDS * left / min(seconds[1:])))
    updates = min(rounds, 4 if job.smoke else rounds) * params.agent.updates_per_round
    findings["plan"] = {"rounds, s": seconds, "updates": updates, "time, s": rounded(left)}
    training = build(training_params(job, updates), "checkpoints/agent")
    findings["agent"] = _train_agent(training, deadline)
    if on_gpu():
        memory = {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
        findings["GPU memory, MiB"] = {name: rounded(value / 2**20) for name, value in memory.items()}


def _train_renderer(params: Params, compute: Compute) -> dict[str, Any]:
    started = time.perf_counter()
    shutil.rmtree("checkpoints/renderer", ignore_errors=True)
    training = RendererTraining(params, compute, CheckpointManager(Path("checkpoints/renderer")), NullTracker())
    network = training.run()
    wait()
    seconds = time.perf_counter() - started
    save_weights(RENDERER_WEIGHTS, network, renderer_settings(params.renderer, params.stroke))
    updates = params.renderer.updates
    return {"updates": updates, "s": rounded(seconds), "last validation": training.progress.curve[-1]}


def _time_rounds(build: Callable[[Params, str], AgentTraining], params: Params, rounds: int) -> list[float]:
    """Seconds of each of the first rounds of a training at its final canvas size, with their updates."""
    values = params.model_dump(by_alias=True)
    endless = {"updates": 1_000_000, "checkpoint_every": 1_000_000, "validation": {"every": 1_000_000}}
    merge_values(values["agent"], endless | {"curriculum": {"share": 0.0}})
    training = build(parse_params(values, "timed rounds"), "checkpoints/timed")
    seconds: list[float] = []
    mark = time.perf_counter()

    def on_round(progress: TrainState) -> None:
        nonlocal mark
        wait()
        seconds.append(rounded(time.perf_counter() - mark))
        mark = time.perf_counter()
        if progress.rounds >= rounds:
            raise _Stopped

    _run(training, on_round)
    return seconds


def _train_agent(training: AgentTraining, deadline: float) -> dict[str, Any]:
    """Train until ``deadline`` at most, and save the best actor."""
    started = time.perf_counter()

    def on_round(progress: TrainState) -> None:
        if time.perf_counter() > deadline:
            raise _Stopped

    finished = _run(training, on_round)
    wall = time.perf_counter() - started
    progress = training.progress
    if not finished:
        row = training.validator.run(training.actor, progress)
        if row["l2"] > progress.best_l2:
            training.actor.load_state_dict(training.best_weights)
    save_actor(ACTOR_WEIGHTS, training.actor.eval(), training.actor_spec)
    checkpoints = [path.stat().st_size for path in training.resume.checkpoints]
    training.resume.clear()
    return {
        "finished": finished,
        "updates": progress.update,
        "s": rounded(wall),
        "rounds, s": rounded(progress.seconds),
        "update with its share of a round, ms": rounded(progress.seconds / max(1, progress.update) * 1000),
        "checkpoint, MiB": rounded(max(checkpoints, default=0) / 2**20),
        "curve": progress.curve,
    }


def _run(training: AgentTraining, on_round: Callable[[TrainState], None]) -> bool:
    """Run a training; returns whether it came to its end."""
    try:
        training.run(on_round)
    except _Stopped:
        return False
    return True


def resume(job: Job, findings: Findings) -> None:
    """A training that stops and resumes must equal one that does not, to the bit, with deterministic kernels."""
    # cuBLAS reads it at its first use.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    network = {"width": 8}
    overlay: dict[str, Any] = {
        "base": {"precision": "auto"},
        "data": {"source": "synthetic", "path": "", "limit": 40, "size": 64, "workers": 1},
        "stroke": {"canvas": 32},
        "agent": {
            "updates": _RESUME_UPDATES,
            "updates_per_round": 4,
            "batch_size": 8,
            "environments": 4,
            "max_steps": 2,
            "actor": network,
            "critic": network,
            "discriminator": {"width": 8, "warmup_updates": 1},
            "curriculum": {"share": 0.0},
            "validation": {"every": 4, "images": 2, "strokes": 10},
            "checkpoint_every": 4,
        },
    }
    # The committed agent has a critic, prioritised replay and a GAN.
    params = job.params(**overlay)
    compute = compute_for(params, deterministic=True, compile="off")
    prepare(params, Path("resume/data"))
    data = PreparedData.load(Path("resume/data"))

    def run(name: str, stop: int = _RESUME_UPDATES + 1) -> AgentTraining:
        rasterisers = canvas_rasterisers(get_family(params.stroke.family), compute)
        checkpoints = CheckpointManager(Path("resume") / name)
        training = AgentTraining(params, data, compute, rasterisers, checkpoints, NullTracker())

        def on_round(progress: TrainState) -> None:
            if progress.update >= stop:
                raise _Stopped

        _run(training, on_round)
        return training

    for name in ("whole", "broken"):
        shutil.rmtree(Path("resume") / name, ignore_errors=True)
    whole = run("whole")
    run("broken", _STOPPED_AT)
    kept = len(CheckpointManager(Path("resume/broken")).checkpoints)
    resumed = run("broken")
    findings["compute"] = compute.as_dict()
    findings["checkpoints before the resumption"] = kept
    findings["largest difference"] = largest = _difference(whole, resumed)
    findings["same random stream"] = same = torch.equal(whole.rng.get_state(), resumed.rng.get_state())
    if largest or not same or not kept:
        findings["equal"] = {"error": "the resumed training differs from the uninterrupted one"}


def _difference(first: AgentTraining, second: AgentTraining) -> float:
    """Largest difference between the weights of two trainings, in all networks."""
    largest = 0.0
    for one, other in zip(first.agent.networks(), second.agent.networks(), strict=True):
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
            largest = max(largest, float((a.double() - b.double()).abs().max()))
    return largest
