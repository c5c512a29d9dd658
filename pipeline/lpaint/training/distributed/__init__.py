"""One training in several processes, the ranks, as ``torchrun`` starts them: each has a share of every batch.

``launch`` starts processes where ``torchrun`` did not; ``session`` joins and parts them; ``collectives`` is what they
tell each other while they train. Where there is one process, all of it does nothing.
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
