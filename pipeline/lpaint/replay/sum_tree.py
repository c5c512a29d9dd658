"""A sum tree: sampling in proportion to priority in O(log N)."""

import torch
from torch import Tensor


class SumTree:
    """Complete binary tree. Leaves hold priorities; each inner node holds the sum of its two children.

    ::

                 10               node 1
              3      7            nodes 2, 3
            1  2   3   4          leaves: nodes 4 to 7

    The nodes are one array; the children of node i are 2 i and 2 i + 1. The number of leaves is the capacity rounded up
    to a power of two, so that all leaves are on the last level. float64: in float32 rounding lets a search end on a
    leaf of priority 0. All operations take batches of indices and run on the tree's device without synchronising.
    """

    def __init__(self, capacity: int, device: torch.device | str = "cpu") -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}, but must be at least 1")
        self.capacity = capacity
        self.depth = max(1, (capacity - 1).bit_length())
        self.leaves = 1 << self.depth
        self.nodes = torch.zeros(2 * self.leaves, dtype=torch.float64, device=device)

    @property
    def total(self) -> Tensor:
        """Sum of all priorities, a scalar tensor."""
        return self.nodes[1]

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Priorities [B] of the leaves ``indices`` [B]."""
        return self.nodes[indices + self.leaves]

    def set(self, indices: Tensor, priorities: Tensor) -> None:
        """Set the priorities [B] of the leaves ``indices`` [B], and the sums above them.

        An index may repeat, with the same priority.
        """
        node = indices + self.leaves
        self.nodes[node] = priorities.to(self.nodes.dtype)
        for _ in range(self.depth):
            node = node // 2
            self.nodes[node] = self.nodes[2 * node] + self.nodes[2 * node + 1]

    def find(self, mass: Tensor) -> Tensor:
        """Leaves [B] in which the cumulative priority first exceeds ``mass`` [B], each in [0, total)."""
        mass = mass.to(self.nodes.dtype)
        node = torch.ones_like(mass, dtype=torch.int64)
        for _ in range(self.depth):
            left = self.nodes[2 * node]
            # A right half of sum 0 is never entered, even if rounding makes `mass` too large.
            goes_right = (mass >= left) & (self.nodes[2 * node + 1] > 0)
            mass = torch.where(goes_right, mass - left, mass)
            node = 2 * node + goes_right.long()
        return node - self.leaves
