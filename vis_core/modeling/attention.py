"""Parts of every transformer here: multi-head attention and a stack of linear layers.

Shapes: B images, Q queries, S tokens, C channels, M heads.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head attention with the parameters of ``nn.MultiheadAttention``, through PyTorch's fused kernels.

    A mask is shared by all heads and not copied for them.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0) -> None:
        """``dropout``: probability of a weight to be left out in training."""
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, allowed: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Args:
            query: (B, Q, C).
            key, value: (B, S, C).
            allowed: (B, Q, S) bool, what may be attended to; at least one token for every query.

        Returns:
            (B, Q, C).
        """
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        projected = (F.linear(x, weight, bias) for x, weight, bias in zip((query, key, value), weights, biases))
        q, k, v = (x.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for x in projected)  # (B, M, Q or S, C / M)
        mask = None if allowed is None else allowed[:, None]
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Linear layers with ReLU between them; none after the last."""

    def __init__(self, dim_in: int, dim_hidden: int, dim_out: int, num_layers: int) -> None:
        super().__init__()
        dims = [dim_in] + [dim_hidden] * (num_layers - 1) + [dim_out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(dims))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., dim_in) -> (..., dim_out)."""
        for layer in self.layers[:-1]:
            x = F.relu_(layer(x))
        return self.layers[-1](x)
