"""Data-parallel training in several processes (ranks), as ``torchrun`` starts them: each rank has a part of the batch.

- ``launch`` starts the processes where ``torchrun`` did not.
- ``session`` joins them to a process group and ends them together.
- ``collectives`` are the calls with which they exchange data.

In one process all of this does nothing.
"""

from lpaint.training.distributed.collectives import (
    all_gather,
    all_reduce_max,
    all_reduce_mean,
    all_reduce_std,
    any_rank,
    average_gradients,
    broadcast,
    broadcast_tensors,
    check_equal,
    gather_states,
    is_main,
    per_rank,
    pooled_moments,
    rank,
    rank_seed,
    scatter_state,
    world_size,
)
from lpaint.training.distributed.launch import launch
from lpaint.training.distributed.session import process_group, wait_for_main

__all__ = [
    "all_gather",
    "all_reduce_max",
    "all_reduce_mean",
    "all_reduce_std",
    "any_rank",
    "average_gradients",
    "broadcast",
    "broadcast_tensors",
    "check_equal",
    "gather_states",
    "is_main",
    "launch",
    "per_rank",
    "pooled_moments",
    "process_group",
    "rank",
    "rank_seed",
    "scatter_state",
    "wait_for_main",
    "world_size",
]
