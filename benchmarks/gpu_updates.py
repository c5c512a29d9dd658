"""Sections of `benchmarks/gpu.py` on single updates: every kind of agent, and the time of an update."""

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu_setup import (
    Findings,
    Job,
    ReadyAgent,
    compute_for,
    describe_error,
    milliseconds,
    on_gpu,
    rounded,
    wait,
)
from lpaint.agent.ddpg import Metrics
from lpaint.gan import gan_names
from lpaint.runtime.params import merge_values, parse_params
from lpaint.training import optim
from lpaint.training.device import compile_problem

_REPEATS = 12
# Kernels with the most GPU time that are listed.
_LISTED_KERNELS = 12
_SIZES: dict[str, Any] = {
    "data": {"size": 64},
    "stroke": {"canvas": 32},
    "agent": {
        "batch_size": 8,
        "environments": 4,
        "max_steps": 3,
        "actor": {"width": 8},
        "critic": {"width": 8},
        "discriminator": {"width": 8},
    },
}
# Changes of the section `agent`, by the name in the findings.
_VARIANTS: dict[str, dict[str, Any]] = {
    "td3": {"algorithm": "td3"},
    "model_free_ddpg": {"algorithm": "model_free_ddpg"},
    "3-step targets, edges": {"horizon": 3, "reward": {"edges": 2.0}},
    "layer norm": {"actor": {"norm": "layer"}},
    "gaussian noise": {"exploration": "gaussian"},
    "parameter noise": {"exploration": "parameter", "actor": {"norm": "layer"}},
    "pooled head, carried strokes, fitted colours": {
        "actor": {"head": "pooled"},
        "carry": "strokes",
        "fit_colours": "always",
    },
    "discount 0, averaged actor": {"discount": 0, "replay": "uniform", "actor": {"average": True}},
    "online target norm, layer thresholds, convolution head": {
        "target_norm": "online",
        "thresholds": "layer",
        "discriminator": {"head": "convolution"},
    },
    "neural renderer": {"renderer": "neural"},
}
_MAPPED = "mapped pictures"
# The kinds that also run with deterministic kernels.
_DETERMINISTIC = ("wgan_gp, prioritized", "sngan, uniform", "sagan, uniform", "td3", "layer norm")
# A smoke run tests every n-th of the GANs.
_SMOKE_STEP = 7


def kinds(job: Job, findings: Findings) -> None:
    """Two updates of each kind of agent; where an update or a round waits for the GPU; deterministic kernels."""
    # cuBLAS reads it at its first use.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    gans = [(gan, replay) for gan in ("none", *gan_names()) for replay in ("uniform", "prioritized")]
    chosen = {
        f"{gan}, {replay}": {"gan": gan, "replay": replay} for gan, replay in gans[:: _SMOKE_STEP if job.smoke else 1]
    }
    chosen |= _VARIANTS | {_MAPPED: {}}
    found: dict[str, Any] = {}
    deterministic: dict[str, Any] = {}
    for name, changes in chosen.items():
        for results, strict in ((found, False), (deterministic, True)):
            if strict and name not in _DETERMINISTIC:
                continue
            try:
                results[name] = _try_kind(job, name, changes, strict)
            except Exception as error:
                results[name] = describe_error(error)
        findings["kinds"], findings["deterministic"] = found, deterministic
    torch.use_deterministic_algorithms(False)


def _try_kind(job: Job, name: str, changes: dict[str, Any], deterministic: bool) -> dict[str, Any]:
    values = job.params(**_SIZES).model_dump(by_alias=True)
    merge_values(values["agent"], changes)
    params = parse_params(values, name)
    compute = compute_for(params, compile="off", deterministic=deterministic)
    ready = ReadyAgent(params, compute, mapped=name == _MAPPED)
    for _ in range(2):
        metrics = ready.update()
    wrong = [key for key, value in metrics.items() if not torch.isfinite(value).all()]
    if wrong:
        return {"error": f"not finite: {', '.join(wrong)}"}
    if deterministic or not on_gpu():
        return {"finite": True}
    return {"finite": True, "waits of an update": _waits(ready.update), "waits of a round": _waits(ready.play_round)}


def _waits(action: Callable[[], object]) -> dict[str, int]:
    """The lines that make the CPU wait for the GPU, and how often each does in one call."""
    found: dict[str, int] = {}
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            action()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for each in caught:
        if "synchronizing CUDA operation" in str(each.message):
            line = f"{Path(each.filename).name}:{each.lineno}"
            found[line] = found.get(line, 0) + 1
    return found


def update(job: Job, findings: Findings) -> None:
    """Time of an update at the sizes of three profiles: compiled and not, GPU time by kernel, as a CUDA graph."""
    for profile_name in ("celeba", "paper", None):
        name = profile_name or "default"
        # The neural renderer of `paper` is not compiled.
        for compiled in ("off",) if job.smoke or profile_name == "paper" else ("on", "off"):
            with findings.attempt(f"{name}, compile {compiled}"):
                findings[f"{name}, compile {compiled}"] = _time_update(job, profile_name, compiled)
        if on_gpu():
            with findings.attempt(f"{name}, CUDA graph"):
                findings[f"{name}, CUDA graph"] = _time_graph(job, profile_name)


def _time_update(job: Job, profile_name: str | None, compiled: str) -> dict[str, Any]:
    params = job.params(profile_name, base={"precision": "auto"})
    compute = compute_for(params, compile=compiled)
    problem = compile_problem(compute.device) if compute.compile else ""
    if problem:
        return {"not compiled": problem}
    if on_gpu():
        torch.cuda.reset_peak_memory_stats()
    ready = ReadyAgent(params, compute)
    started = time.perf_counter()
    for _ in range(3):
        ready.update()
    wait()
    found: dict[str, Any] = {
        "precision": compute.precision,
        "batch": params.agent.batch_size,
        "first three updates, s": rounded(time.perf_counter() - started),
        "update, ms": milliseconds(ready.update, 2 if job.smoke else _REPEATS),
        "step of all environments, ms": rounded(milliseconds(ready.play_round, 2)["median"] / ready.steps),
        "kernels": _profile(ready.update),
    }
    if on_gpu():
        found["GPU memory, MiB"] = rounded(torch.cuda.max_memory_allocated() / 2**20)
    return found


def _profile(action: Callable[[], object]) -> dict[str, Any]:
    """Number and time of the kernels of one call, and the kernels with the most time: [calls, ms]."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu() else [])]
    with profile(activities=activities) as profiled:
        action()
        wait()
    kernels = [event for event in profiled.events() or [] if event.device_type.name == "CUDA"]
    totals: dict[str, list[float]] = {}
    for kernel in kernels:
        total = totals.setdefault(kernel.name[:80], [0, 0.0])
        total[0] += 1
        total[1] += kernel.device_time / 1000
    most = sorted(totals.items(), key=lambda item: -item[1][1])[:_LISTED_KERNELS]
    return {
        "count": len(kernels),
        "ms": rounded(sum(ms for _, ms in totals.values())),
        "most": {name: [count, rounded(ms)] for name, (count, ms) in most},
    }


def _time_graph(job: Job, profile_name: str | None) -> dict[str, Any]:
    """Time of an update that is captured as one CUDA graph and replayed; lpaint itself does not do this yet."""
    params = job.params(profile_name, base={"precision": "auto"})
    with _capturable_adam():
        ready = ReadyAgent(params, compute_for(params, compile="auto"))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(4):
            ready.update()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(ready.rng)
    with torch.cuda.graph(graph):
        metrics = ready.update()
    found: dict[str, Any] = {"update, ms": milliseconds(graph.replay, _REPEATS)}
    before = _as_numbers(metrics)
    graph.replay()
    after = _as_numbers(metrics)
    return found | {"every replay draws another batch": before != after, "metrics": after}


def _as_numbers(metrics: Metrics) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


@contextmanager
def _capturable_adam() -> Iterator[None]:
    """Optimisers that are built in the block can be captured in a CUDA graph."""

    def adam(network: nn.Module, learning_rate: float, betas: tuple[float, float] = (0.9, 0.999)) -> torch.optim.Adam:
        return torch.optim.Adam(network.parameters(), learning_rate, betas, fused=True, capturable=True)

    usual = optim.adam
    optim.adam = adam
    try:
        yield
    finally:
        optim.adam = usual
