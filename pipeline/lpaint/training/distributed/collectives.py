"""Collective calls between the ranks of a training. With one rank every function returns its input.

The gradient of a mean over the batch is the mean of the ranks' gradients. Terms of a loss that are not means over the
batch (statistics of batch norm, distances within a batch) need the collectives here, which are differentiable: the
backward pass of a sum over ranks sums the gradients of all ranks. With ``average_gradients`` the result is the gradient
of the whole batch.

All ranks make the same calls in the same order. A call raises ``LostRankError`` if another rank no longer answers.
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
    """Another rank ended, or did not answer within the timeout."""


def world_size() -> int:
    """The number of ranks."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The rank of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def is_main() -> bool:
    """Whether this is rank 0. Only rank 0 validates, reports and writes files."""
    return rank() == 0


def per_rank(total: int, name: str) -> int:
    """This rank's share of ``total``, the value of the parameter ``name``.

    Raises:
        ParamsError: ``total`` is no multiple of the number of ranks.
    """
    if total % world_size():
        raise ParamsError(
            f"{name}: {total} cannot be shared evenly by {world_size()} processes; make it a multiple of {world_size()}"
        )
    return total // world_size()


def rank_seed(base: int, number: int) -> int:
    """The random seed of rank ``number``; rank 0 uses the ``base`` seed itself."""
    return int(np.random.SeedSequence((base, number)).generate_state(1, np.uint64)[0]) if number else base


def all_reduce_mean(value: Tensor) -> Tensor:
    """The mean of a tensor over ranks, differentiable."""
    return value if world_size() == 1 else _all_reduce_sum(value) / world_size()


def all_gather(part: Tensor) -> Tensor:
    """The whole batch [B, ...] from this rank's part [B / ranks, ...], in the order of ranks, differentiable."""
    return part if world_size() == 1 else _stack_ranks(part).flatten(0, 1)


def pooled_moments(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of the whole batch from those of equally large parts; differentiable."""
    if world_size() == 1:
        return mean, variance
    means, variances = _stack_ranks(torch.stack([mean, variance])).unbind(1)
    mean = means.mean(0)
    return mean, variances.mean(0) + (means - mean).square().mean(0)


def all_reduce_std(part: Tensor) -> Tensor:
    """Standard deviation of all elements of the whole batch, unbiased like ``Tensor.std``."""
    if world_size() == 1:
        return part.std()
    variance, mean = torch.var_mean(part, correction=0)
    count = part.numel() * world_size()
    return (pooled_moments(mean, variance)[1] * count / (count - 1)).sqrt()


def all_reduce_max(value: Tensor) -> Tensor:
    """The maximum of a tensor over ranks, element by element."""
    return value if world_size() == 1 else _all_reduce(value, dist.ReduceOp.MAX)


def any_rank(condition: bool) -> bool:
    """Whether ``condition`` is true on any rank."""
    return condition if world_size() == 1 else bool(all_reduce_max(torch.tensor(float(condition))) > 0)


def average_gradients(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """The means of many tensors over ranks, in one call."""
    if world_size() == 1:
        return tensors
    flat = _all_reduce(torch.cat([tensor.flatten() for tensor in tensors]), dist.ReduceOp.SUM) / world_size()
    sizes = [tensor.numel() for tensor in tensors]
    return [part.view(tensor.shape) for part, tensor in zip(flat.split(sizes), tensors, strict=True)]


@torch.no_grad()
def broadcast_tensors(tensors: Sequence[Tensor]) -> None:
    """Overwrite tensors by those of rank 0, in place."""
    if world_size() == 1:
        return
    for tensor in tensors:
        buffer = tensor.contiguous()
        with _lost_rank_errors():
            dist.broadcast(buffer, 0)
        tensor.copy_(buffer)


def gather_states(state: dict[str, Any]) -> list[dict[str, Any]]:
    """On rank 0 the states of all ranks (tensors, numbers, strings, mappings), tensors on the CPU; elsewhere []."""
    if world_size() == 1:
        return [state]
    packed: list[Any] | None = [None] * world_size() if is_main() else None
    with _lost_rank_errors():
        dist.gather_object(_pack(state), packed)
    return [_unpack(part, "cpu") for part in packed or []]


def scatter_state(state: dict[str, Any] | None, device: torch.device) -> dict[str, Any] | None:
    """Send rank 0's ``state`` to all ranks. Of its list ``ranks`` each rank gets its own entry only, as ``own``.

    If ``state`` of rank 0 is None, all ranks get None. ``state`` of the other ranks is ignored.

    Raises:
        MisfitError: on rank 0, before it sends anything: ``ranks`` has another length than the number of ranks.
    """
    parts = state.get("ranks", []) if state is not None and is_main() else []
    if state is not None and is_main() and len(parts) != world_size():
        raise MisfitError(f"it was saved by {len(parts)} processes, and {world_size()} are running")
    if world_size() == 1:
        return None if state is None else {**state, "own": parts[0]}
    common: list[Any] = [None]
    packed: list[Any] = [None] * world_size()
    if is_main() and state is not None:
        common = [_pack({name: value for name, value in state.items() if name != "ranks"})]
        packed = [_pack(part) for part in parts]
    received: list[Any] = [None]
    with _lost_rank_errors():
        dist.broadcast_object_list(common)
        dist.scatter_object_list(received, packed if is_main() else None)
    return None if received[0] is None else {**_unpack(common[0], device), "own": _unpack(received[0], device)}


def broadcast(value: Any) -> Any:
    """Rank 0's ``value`` (JSON) on every rank."""
    if world_size() == 1:
        return value
    buffer = [value]
    with _lost_rank_errors():
        dist.broadcast_object_list(buffer)
    return buffer[0]


def check_equal(values: dict[str, Any]) -> None:
    """Check that this rank has the same ``values`` (JSON) as rank 0.

    Raises:
        TrainingError: a value differs.
    """
    if world_size() == 1:
        return
    texts = {name: json.dumps(value, sort_keys=True) for name, value in values.items()}
    expected = broadcast(texts)
    for name, text in texts.items():
        if text != expected[name]:
            raise TrainingError(
                f"rank {rank()} has another {name} than rank 0; "
                "give every machine the same params.yaml, the same data and the same kind of device"
            )


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _all_reduce(value, dist.ReduceOp.SUM)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _all_reduce_sum(gradients[0])


def _all_reduce_sum(value: Tensor) -> Tensor:
    result: Tensor = _AllReduceSum.apply(value)
    return result


def _stack_ranks(part: Tensor) -> Tensor:
    """The tensors of all ranks, [ranks, ...]. A sum over zero-filled stacks, as gloo's gather is not differentiable."""
    empty = torch.zeros_like(part)
    return _all_reduce_sum(torch.stack([part if other == rank() else empty for other in range(world_size())]))


def _all_reduce(value: Tensor, operation: Any) -> Tensor:
    result = value.detach().clone(memory_format=torch.contiguous_format)
    with _lost_rank_errors():
        dist.all_reduce(result, operation)
    return result


@contextmanager
def _lost_rank_errors() -> Iterator[None]:
    """Turn torch's errors of communication into ``LostRankError``."""
    try:
        yield
    except RuntimeError as error:
        # gloo puts the place in its source before the reason.
        reason = str(error).split("] ", 1)[-1].splitlines()[0].rstrip(".")
        raise LostRankError(lost_rank_message(reason)) from None


def lost_rank_message(reason: str) -> str:
    """The error message where other ranks no longer answer."""
    return (
        f"rank {rank()} lost the connection to the other ranks ({reason}); look for what ended them, "
        "then run the same command again to go on from the last checkpoint"
    )


def _pack(state: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


def _unpack(packed: bytes, device: torch.device | str) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(io.BytesIO(packed), map_location=device, weights_only=True)
    return state
