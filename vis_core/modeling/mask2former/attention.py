"""Blocks of the query decoder: attention and feed-forward network, each with residual and layer norm after it.

Shapes: B images, Q queries, S tokens, C channels.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from vis_core.modeling.attention import Attention


class SelfAttentionLayer(nn.Module):
    """Queries attend to each other; their positions steer where, and are not passed on."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.self_attn = Attention(dim, num_heads)
        self.norm = nn.LayerNorm(dim)

    def forward(self, queries: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """(B, Q, C), (1, Q, C) -> (B, Q, C)."""
        placed = queries + positions
        return self.norm(queries + self.self_attn(placed, placed, queries))


class CrossAttentionLayer(nn.Module):
    """Queries attend to tokens of a map."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.multihead_attn = Attention(dim, num_heads)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        queries: torch.Tensor,
        positions: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        allowed: torch.Tensor,
    ) -> torch.Tensor:
        """(B, Q, C), (1, Q, C), twice (B, S, C), (B, Q, S) bool -> (B, Q, C)."""
        return self.norm(queries + self.multihead_attn(queries + positions, keys, values, allowed))


class FeedForwardLayer(nn.Module):
    """Two linear layers with ReLU between."""

    def __init__(self, dim: int, dim_feedforward: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, dim_feedforward)
        self.linear2 = nn.Linear(dim_feedforward, dim)
        self.norm = nn.LayerNorm(dim)
        nn.init.xavier_uniform_(self.linear1.weight)
        nn.init.xavier_uniform_(self.linear2.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, Q, C) -> (B, Q, C)."""
        return self.norm(x + self.linear2(F.relu_(self.linear1(x))))
