"""One training in several processes, the ranks, as ``torchrun`` starts them: each has a share of every batch.

``launch`` starts processes where ``torchrun`` did not; ``session`` joins and parts them; ``collectives`` is what they
tell each other while they train. Where there is one process, all of it does nothing.
"""

from lpaint.training.distributed.collectives import (
    agree,
    anywhere,
    averaged,
    copy_first,
    count,
    deviation,
    gather,
    largest,
    leads,
    mean,
    pooled,
    rank,
    seed,
    share,
    spread,
    told_by_first,
    whole,
)
from lpaint.training.distributed.launch import launch
from lpaint.training.distributed.session import together, wait_for_first

__all__ = [
    "agree",
    "anywhere",
    "averaged",
    "copy_first",
    "count",
    "deviation",
    "gather",
    "largest",
    "launch",
    "leads",
    "mean",
    "pooled",
    "rank",
    "seed",
    "share",
    "spread",
    "together",
    "told_by_first",
    "wait_for_first",
    "whole",
]
