"""Batch-norm statistics for averaged weights.

The running statistics of a network describe its own activations. A network with averaged weights has other activations:
neither the online network's statistics nor their average fit (Izmailov et al. 2018, arXiv 1803.05407, section 3.2).
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lpaint.training.layers import BatchNorm2d


@torch.no_grad()
def estimate_statistics(network: nn.Module, batches: Iterable[tuple[Tensor, ...]]) -> None:
    """Set the running statistics of ``network`` to their means over ``batches`` of its inputs.

    Every rank must call this with the same number of batches; the statistics are over all ranks. A network without
    batch norm does not change.
    """
    norms = [module for module in network.modules() if isinstance(module, BatchNorm2d)]
    if not norms:
        return
    training, momenta = network.training, [norm.momentum for norm in norms]
    network.train()
    for number, inputs in enumerate(batches, 1):
        for norm in norms:
            # The weight of the new batch in a mean over all batches so far.
            norm.momentum = 1 / number
        network(*inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.train(training)
