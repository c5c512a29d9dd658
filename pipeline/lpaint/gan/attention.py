"""Self-attention over feature maps for discriminators: SAGAN's, and one of linear cost in the number of pixels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm


class SelfAttention(nn.Module):
    """SAGAN's attention (Zhang et al. 2019, arXiv 1805.08318, equations 1 to 3): y = x + gate * v(attended h(x)).

    Every cell attends to every other: softmax over cells j of f(x_j) . g(x_i), unscaled as in the paper. f, g and h
    have an eighth of the channels. All four 1 x 1 convolutions have spectral norm 1. The gate is learnt and starts at
    0. Time and memory grow with the square of the number of cells.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // self.divisor)
        self.query, self.key, self.value = (spectral_norm(nn.Conv2d(channels, inner, 1)) for _ in range(3))
        self.out = spectral_norm(nn.Conv2d(inner, channels, 1))
        self.gate = nn.Parameter(torch.zeros(()))

    divisor = 8

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        attended = self.attend(query, key, value).unflatten(2, x.shape[2:])
        return x + self.gate.to(x.dtype) * self.out(attended)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Queries and keys [B, D, N] and values [B, E, N] -> [B, E, N]."""
        queries, keys, values = (part.transpose(1, 2) for part in (query, key, value))
        return F.scaled_dot_product_attention(queries, keys, values, scale=1.0).transpose(1, 2)


class LinearAttention(SelfAttention):
    """Efficient attention (Shen et al. 2021, arXiv 1812.01243, equation 4): softmax(Q) (softmax(K)^T V).

    The softmax of the keys is over cells, that of the queries over channels. So the product of keys and values, a
    matrix of channels by channels, is computed once for all cells: N D E multiplications instead of N N (D + E). The
    inner layers have half of x's channels instead of an eighth. Gate and spectral norms as in ``SelfAttention``.
    """

    divisor = 2

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        context = key.float().softmax(2).to(value.dtype) @ value.transpose(1, 2)
        return context.transpose(1, 2) @ query.float().softmax(1).to(value.dtype)
