"""Work in several processes that are joined as ``torchrun`` joins them, and one process that does the same as two."""

import os
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, multiprocessing

from lpaint.agent import trainer as agent_trainer
from lpaint.agent.trainer import AgentTraining
from lpaint.data.dataset import PreparedData
from lpaint.replay import PrioritizedReplay, Sample, Transitions, UniformReplay, build_replay
from lpaint.runtime.params import Params
from lpaint.strokes import exact_rasteriser, get_family
from lpaint.tracking import NullTracker
from lpaint.training.checkpoint import CheckpointManager
from lpaint.training.device import choose_compute
from lpaint.training.distributed import process_group, rank_seed


def in_ranks(count: int, folder: Path, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What ``work(*arguments)`` gave in each of ``count`` joined processes; what it raised is raised here."""
    folder.mkdir(parents=True, exist_ok=True)
    processes = multiprocessing.get_context("spawn")
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(count)}
    ranks = [
        processes.Process(target=_work, args=(place | {"RANK": str(rank)}, folder / f"{rank}.pt", work, arguments))
        for rank in range(count)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(240)
        process.kill()
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(count)]


def _work(environment: dict[str, str], out: Path, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ.update(environment, LPAINT_RANKS_TIMEOUT="200")
    torch.set_num_threads(1)
    try:
        with process_group():
            torch.save(work(*arguments), out)
    except BaseException:
        torch.save(traceback.format_exc(), out)
        raise


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def agent_of(params: Params, root: Path, folder: Path) -> AgentTraining:
    """A training on the prepared pictures of ``root``."""
    data, compute = PreparedData.load(root / "data/prepared"), choose_compute(params.base)
    rasterisers = partial(exact_rasteriser, get_family(params.stroke.family), compiled=False)
    return AgentTraining(params, data, compute, rasterisers, CheckpointManager(folder), NullTracker())


class Streams:
    """The random streams of two ranks, where one process draws for both: first the one's half of a batch."""

    def __init__(self, base: int) -> None:
        self.parts = [torch.Generator().manual_seed(rank_seed(base, rank)) for rank in range(2)]


class Shards:
    """The replays of two ranks, where one process samples for both."""

    def __init__(self, build: Callable[..., UniformReplay], kind: str, capacity: int, *rest: Any) -> None:
        self.parts = [build(kind, capacity // 2, *rest) for _ in range(2)]
        self.prioritized = self.parts[0].prioritized

    def add(self, transitions: Transitions) -> None:
        for part, half in zip(self.parts, _halves(transitions), strict=True):
            part.add(half)

    def sample(self, count: int, streams: Streams, beta: float) -> Sample:
        parts = [part.sample(count // 2, rng, beta) for part, rng in zip(self.parts, streams.parts, strict=True)]
        whole: Sample = _concatenated(parts)
        if not self.prioritized:
            return whole
        # The two have divided by the maxima of their own halves.
        weights = torch.cat([self._weights(part, half, beta) for part, half in zip(self.parts, parts, strict=True)])
        return Sample(whole.transitions, whole.indices, (weights / weights.max()).float())

    def sample_uniformly(self, count: int, streams: Streams) -> Sample:
        parts = [part.sample_uniformly(count // 2, rng) for part, rng in zip(self.parts, streams.parts, strict=True)]
        whole: Sample = _concatenated(parts)
        return whole

    def update_priorities(self, indices: Tensor, errors: Tensor) -> None:
        for part, *half in zip(self.parts, indices.chunk(2), errors.chunk(2), strict=True):
            part.update_priorities(*half)
        if self.prioritized:
            largest = torch.stack([part.max_priority for part in self.parts]).max()  # type: ignore[attr-defined]
            for part in self.parts:
                part.max_priority = largest  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, Any]:
        return {}

    @staticmethod
    def _weights(part: UniformReplay, sample: Sample, beta: float) -> Tensor:
        assert isinstance(part, PrioritizedReplay)
        return (part.size * part.tree[sample.indices] / part.tree.total) ** -beta


def _halves(transitions: Transitions) -> list[Transitions]:
    count = len(transitions.step)
    return [_taken(transitions, torch.arange(count)[half]) for half in (slice(count // 2), slice(count // 2, None))]


def _taken(transitions: Transitions, rows: Tensor) -> Transitions:
    return Transitions(*(getattr(transitions, field.name)[rows] for field in fields(Transitions)))


def _concatenated(parts: list[Any]) -> Any:
    """Data classes of batches, joined field by field."""
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    columns = {name: [getattr(part, name) for part in parts] for name in (f.name for f in fields(parts[0]))}
    return type(parts[0])(**{name: _concatenated(column) for name, column in columns.items()})


@contextmanager
def as_if_two() -> Iterator[None]:
    """One process draws, keeps and samples what two ranks would; all that it computes is one process's own."""
    build = build_replay
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agent_trainer, "build_replay", partial(Shards, build))
        patch.setattr(agent_trainer, "generator_state", lambda streams: torch.empty(0))
        for name in ("rand", "randn", "randint", "multinomial"):
            patch.setattr(torch, name, partial(_draw, getattr(torch, name)))
        yield


def _draw(draw: Callable[..., Tensor], *arguments: Any, generator: Any = None, **options: Any) -> Tensor:
    if not isinstance(generator, Streams):
        return draw(*arguments, generator=generator, **options)
    # What stands before the size: randint's bound.
    before, (size, *rest) = (arguments[:1], arguments[1:]) if draw.__name__ == "randint" else ((), arguments)
    return torch.cat(
        [draw(*before, _half(size, part), *rest, generator=rng, **options) for part, rng in enumerate(generator.parts)]
    )


def _half(size: Any, part: int) -> Any:
    """One rank's half of a size, or of a batch of chances."""
    if isinstance(size, Tensor):
        return size.chunk(2)[part]
    return size // 2 if isinstance(size, int) else (size[0] // 2, *size[1:])
