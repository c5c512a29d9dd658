"""What the ranks of a training tell each other. With one rank every function gives back what it was given.

A loss over a batch is a mean, so the mean of the ranks' gradients is the gradient of the whole batch, as long as what
enters a loss in another way than by a mean (statistics of batch norm, distances within a batch) is taken over the whole
batch too. The sums here may be differentiated, which sums the ranks' slopes in turn: with ``averaged`` gradients the
result is the whole batch's.

All ranks must make the same calls in the same order. One that another rank no longer answers raises ``LostRankError``.
"""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from lpaint.errors import MisfitError, ParamsError, TrainingError


class LostRankError(TrainingError):
    """Another rank ended, or was not heard of for too long."""


def world_size() -> int:
    """How many ranks there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which rank this process is, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def is_main() -> bool:
    """Whether this is rank 0, which alone validates, reports and writes."""
    return rank() == 0


def per_rank(total: int, name: str) -> int:
    """This rank's share of ``total``, the parameter ``name``.

    Raises:
        ParamsError: it cannot be shared evenly.
    """
    if total % world_size():
        raise ParamsError(
            f"{name}: {total} cannot be shared evenly by {world_size()} processes; make it a multiple of {world_size()}"
        )
    return total // world_size()


def rank_seed(base: int, number: int) -> int:
    """The seed of the random stream of rank ``number``; rank 0 has the ``base`` seed itself."""
    return int(np.random.SeedSequence((base, number)).generate_state(1, np.uint64)[0]) if number else base


def all_reduce_mean(value: Tensor) -> Tensor:
    """The ranks' mean of a tensor, differentiable."""
    return value if world_size() == 1 else _total(value) / world_size()


def all_gather(part: Tensor) -> Tensor:
    """The whole batch [B, ...] of this rank's part [B / ranks, ...], in the order of ranks, differentiable."""
    return part if world_size() == 1 else _everyones(part).flatten(0, 1)


def pooled_moments(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance over the whole batch, from those over equally large parts; differentiable."""
    if world_size() == 1:
        return mean, variance
    means, variances = _everyones(torch.stack([mean, variance])).unbind(1)
    mean = means.mean(0)
    return mean, variances.mean(0) + (means - mean).square().mean(0)


def all_reduce_std(part: Tensor) -> Tensor:
    """Standard deviation of all numbers of the whole batch, unbiased as ``Tensor.std``."""
    if world_size() == 1:
        return part.std()
    variance, middle = torch.var_mean(part, correction=0)
    numbers = part.numel() * world_size()
    return (pooled_moments(middle, variance)[1] * numbers / (numbers - 1)).sqrt()


def all_reduce_max(value: Tensor) -> Tensor:
    """The ranks' maximum of a tensor."""
    return value if world_size() == 1 else _reduced(value, dist.ReduceOp.MAX)


def any_rank(fact: bool) -> bool:
    """Whether something is so on any rank."""
    return fact if world_size() == 1 else bool(all_reduce_max(torch.tensor(float(fact))) > 0)


def average_gradients(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """The ranks' means of many tensors, told all at once."""
    if world_size() == 1:
        return tensors
    flat = _reduced(torch.cat([tensor.flatten() for tensor in tensors]), dist.ReduceOp.SUM) / world_size()
    sizes = [tensor.numel() for tensor in tensors]
    return [part.view(tensor.shape) for part, tensor in zip(flat.split(sizes), tensors, strict=True)]


@torch.no_grad()
def broadcast_tensors(tensors: Sequence[Tensor]) -> None:
    """Overwrite tensors by rank 0's."""
    if world_size() == 1:
        return
    for tensor in tensors:
        told = tensor.contiguous()
        with _in_touch():
            dist.broadcast(told, 0)
        tensor.copy_(told)


def gather_states(own: dict[str, Any]) -> list[dict[str, Any]]:
    """On rank 0 every rank's state (tensors, numbers, strings, mappings) with tensors on the CPU; elsewhere nothing."""
    if world_size() == 1:
        return [own]
    packed: list[Any] | None = [None] * world_size() if is_main() else None
    with _in_touch():
        dist.gather_object(_pack(own), packed)
    return [_unpack(part, "cpu") for part in packed or []]


def scatter_state(state: dict[str, Any] | None, device: torch.device) -> dict[str, Any] | None:
    """Give every rank what rank 0 read: all of it but ``ranks``, a list of which each gets its own entry as ``own``.

    Rank 0's ``state`` may be None, which all are given then; the others' is not looked at.

    Raises:
        MisfitError: on rank 0, before anything is told: the state is of another number of ranks.
    """
    parts = state.get("ranks", []) if state is not None and is_main() else []
    if state is not None and is_main() and len(parts) != world_size():
        raise MisfitError(f"it is of {len(parts)} processes, and these are {world_size()}")
    if world_size() == 1:
        return None if state is None else {**state, "own": parts[0]}
    common: list[Any] = [None]
    packed: list[Any] = [None] * world_size()
    if is_main() and state is not None:
        common = [_pack({name: value for name, value in state.items() if name != "ranks"})]
        packed = [_pack(part) for part in parts]
    own: list[Any] = [None]
    with _in_touch():
        dist.broadcast_object_list(common)
        dist.scatter_object_list(own, packed if is_main() else None)
    return None if own[0] is None else {**_unpack(common[0], device), "own": _unpack(own[0], device)}


def broadcast(value: Any) -> Any:
    """Rank 0's ``value`` (JSON) on every rank."""
    if world_size() == 1:
        return value
    told = [value]
    with _in_touch():
        dist.broadcast_object_list(told)
    return told[0]


def check_equal(facts: dict[str, Any]) -> None:
    """Make sure that every rank has rank 0's ``facts`` (JSON values).

    Raises:
        TrainingError: this rank has others.
    """
    if world_size() == 1:
        return
    mine = {name: json.dumps(value, sort_keys=True) for name, value in facts.items()}
    told = [mine]
    with _in_touch():
        dist.broadcast_object_list(told)
    for name, value in mine.items():
        if value != told[0][name]:
            raise TrainingError(
                f"rank {rank()} was given another {name} than rank 0; "
                "give every machine the same params.yaml, the same data and the same kind of device"
            )


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _reduced(value, dist.ReduceOp.SUM)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        return _total(slopes[0])


def _total(value: Tensor) -> Tensor:
    total: Tensor = _Total.apply(value)
    return total


def _everyones(own: Tensor) -> Tensor:
    """All ranks' tensors, [ranks, ...]. A sum with gaps: gloo has no other way that can be differentiated."""
    empty = torch.zeros_like(own)
    return _total(torch.stack([own if other == rank() else empty for other in range(world_size())]))


def _reduced(value: Tensor, operation: Any) -> Tensor:
    result = value.detach().clone(memory_format=torch.contiguous_format)
    with _in_touch():
        dist.all_reduce(result, operation)
    return result


@contextmanager
def _in_touch() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # Of gloo's sentence only what follows the place in its source.
        reason = str(error).split("] ", 1)[-1].splitlines()[0].rstrip(".")
        raise LostRankError(lost_touch(reason)) from None


def lost_touch(reason: str) -> str:
    """The sentence on ranks of which nothing more is known."""
    return (
        f"rank {rank()} lost touch with the others ({reason}); look for what ended them, "
        "then run the same command again to go on from the last checkpoint"
    )


def _pack(state: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


def _unpack(packed: bytes, device: torch.device | str) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(io.BytesIO(packed), map_location=device, weights_only=True)
    return state
