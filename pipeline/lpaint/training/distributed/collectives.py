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


def count() -> int:
    """How many ranks there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which rank this process is, from 0."""
    return dist.get_rank() if count() > 1 else 0


def leads() -> bool:
    """Whether this is rank 0, which alone validates, reports and writes."""
    return rank() == 0


def share(total: int, name: str) -> int:
    """This rank's share of ``total``, the parameter ``name``.

    Raises:
        ParamsError: it cannot be shared evenly.
    """
    if total % count():
        raise ParamsError(
            f"{name}: {total} cannot be shared evenly by {count()} processes; make it a multiple of {count()}"
        )
    return total // count()


def seed(base: int, number: int) -> int:
    """The seed of the random stream of rank ``number``; rank 0 has the ``base`` seed itself."""
    return int(np.random.SeedSequence((base, number)).generate_state(1, np.uint64)[0]) if number else base


def mean(value: Tensor) -> Tensor:
    """The ranks' mean of a tensor, differentiable."""
    return value if count() == 1 else _total(value) / count()


def whole(part: Tensor) -> Tensor:
    """The whole batch [B, ...] of this rank's part [B / ranks, ...], in the order of ranks, differentiable."""
    return part if count() == 1 else _everyones(part).flatten(0, 1)


def pooled(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance over the whole batch, from those over equally large parts; differentiable."""
    if count() == 1:
        return mean, variance
    means, variances = _everyones(torch.stack([mean, variance])).unbind(1)
    mean = means.mean(0)
    return mean, variances.mean(0) + (means - mean).square().mean(0)


def deviation(part: Tensor) -> Tensor:
    """Standard deviation of all numbers of the whole batch, unbiased as ``Tensor.std``."""
    if count() == 1:
        return part.std()
    variance, middle = torch.var_mean(part, correction=0)
    numbers = part.numel() * count()
    return (pooled(middle, variance)[1] * numbers / (numbers - 1)).sqrt()


def largest(value: Tensor) -> Tensor:
    """The ranks' maximum of a tensor."""
    return value if count() == 1 else _reduced(value, dist.ReduceOp.MAX)


def anywhere(fact: bool) -> bool:
    """Whether something is so on any rank."""
    return fact if count() == 1 else bool(largest(torch.tensor(float(fact))) > 0)


def averaged(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """The ranks' means of many tensors, told all at once."""
    if count() == 1:
        return tensors
    flat = _reduced(torch.cat([tensor.flatten() for tensor in tensors]), dist.ReduceOp.SUM) / count()
    sizes = [tensor.numel() for tensor in tensors]
    return [part.view(tensor.shape) for part, tensor in zip(flat.split(sizes), tensors, strict=True)]


@torch.no_grad()
def copy_first(tensors: Sequence[Tensor]) -> None:
    """Overwrite tensors by rank 0's."""
    if count() == 1:
        return
    for tensor in tensors:
        told = tensor.contiguous()
        with _in_touch():
            dist.broadcast(told, 0)
        tensor.copy_(told)


def gather(own: dict[str, Any]) -> list[dict[str, Any]]:
    """On rank 0 every rank's state (tensors, numbers, strings, mappings) with tensors on the CPU; elsewhere nothing."""
    if count() == 1:
        return [own]
    packed: list[Any] | None = [None] * count() if leads() else None
    with _in_touch():
        dist.gather_object(_pack(own), packed)
    return [_unpack(part, "cpu") for part in packed or []]


def spread(state: dict[str, Any] | None, device: torch.device) -> dict[str, Any] | None:
    """Give every rank what rank 0 read: all of it but ``ranks``, a list of which each gets its own entry as ``own``.

    Rank 0's ``state`` may be None, which all are given then; the others' is not looked at.

    Raises:
        MisfitError: on rank 0, before anything is told: the state is of another number of ranks.
    """
    parts = state.get("ranks", []) if state is not None and leads() else []
    if state is not None and leads() and len(parts) != count():
        raise MisfitError(f"it is of {len(parts)} processes, and these are {count()}")
    if count() == 1:
        return None if state is None else {**state, "own": parts[0]}
    common: list[Any] = [None]
    packed: list[Any] = [None] * count()
    if leads() and state is not None:
        common = [_pack({name: value for name, value in state.items() if name != "ranks"})]
        packed = [_pack(part) for part in parts]
    own: list[Any] = [None]
    with _in_touch():
        dist.broadcast_object_list(common)
        dist.scatter_object_list(own, packed if leads() else None)
    return None if own[0] is None else {**_unpack(common[0], device), "own": _unpack(own[0], device)}


def told_by_first(value: Any) -> Any:
    """Rank 0's ``value`` (JSON) on every rank."""
    if count() == 1:
        return value
    told = [value]
    with _in_touch():
        dist.broadcast_object_list(told)
    return told[0]


def agree(facts: dict[str, Any]) -> None:
    """Make sure that every rank has rank 0's ``facts`` (JSON values).

    Raises:
        TrainingError: this rank has others.
    """
    if count() == 1:
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
    return _total(torch.stack([own if other == rank() else empty for other in range(count())]))


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
