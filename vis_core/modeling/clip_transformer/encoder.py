"""Encoder of the clip transformer: deformable self-attention over the levels of every frame by itself.

Shapes: N frames (of all clips), S tokens of all levels, C channels, L levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from vis_core.modeling.deformable_attention import MSDeformAttn, grid_points


class ClipEncoderLayer(nn.Module):
    """Deformable self-attention and a feed-forward network, each with residual and layer norm after it."""

    def __init__(
        self, dim: int, dim_feedforward: int, num_heads: int, num_levels: int, num_points: int, dropout: float
    ) -> None:
        super().__init__()
        self.self_attn = MSDeformAttn(dim, num_levels, num_heads, num_points)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, dim_feedforward)
        self.linear2 = nn.Linear(dim_feedforward, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.linear1.weight)
        nn.init.xavier_uniform_(self.linear2.weight)

    def forward(
        self,
        x: torch.Tensor,
        positions: torch.Tensor,
        references: torch.Tensor,
        shapes: Sequence[tuple[int, int]],
        padding: torch.Tensor | None,
    ) -> torch.Tensor:
        """(N, S, C) to the same; other arguments as of :class:`ClipEncoder`, references by level."""
        x = self.norm1(x + self.dropout(self.self_attn(x + positions, references, x, shapes, padding)))
        hidden = self.dropout(F.relu_(self.linear1(x)))
        return self.norm2(x + self.dropout(self.linear2(hidden)))


class ClipEncoder(nn.Module):
    """Layers that refine the tokens of all levels. Frames do not see each other."""

    def __init__(self, num_layers: int, **layer) -> None:
        """
        Args:
            num_layers: number of layers.
            layer: arguments of :class:`ClipEncoderLayer`.
        """
        super().__init__()
        self.layers = nn.ModuleList(ClipEncoderLayer(**layer) for _ in range(num_layers))

    def forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        shapes: Sequence[tuple[int, int]],
        padding: torch.Tensor | None = None,
        valid_ratios: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        Args:
            tokens: (N, S, C), levels one after the other, each row by row.
            positions: (N or 1, S, C), added to what chooses where to look.
            shapes: (height, width) of the L levels.
            padding: (N, S) bool, tokens that nobody sees.
            valid_ratios: (N, L, 2) of :func:`valid_ratios`, None without padding.

        Returns:
            (N, S, C).
        """
        references = token_references(shapes, valid_ratios, tokens.device)
        for layer in self.layers:
            tokens = layer(tokens, positions, references, shapes, padding)
        return tokens


def valid_ratios(paddings: Sequence[torch.Tensor]) -> torch.Tensor:
    """Shares of each level's width and height, in this order, that are not padding: (N, L, 2).

    Args:
        paddings: (N, h, w) bool of each level. The first row and the first column decide.
    """
    return torch.stack(
        [torch.stack([(~p[:, 0]).float().mean(dim=1), (~p[:, :, 0]).float().mean(dim=1)], dim=-1) for p in paddings],
        dim=1,
    )


def token_references(
    shapes: Sequence[tuple[int, int]], ratios: torch.Tensor | None, device: torch.device | str
) -> torch.Tensor:
    """Where every token lies, in shares of each level it looks at: (N, S, L, 2), or (1, S, 1, 2) without padding."""
    points = grid_points(shapes, device)  # (S, 2)
    if ratios is None:
        return points[None, :, None]
    sizes = torch.tensor([height * width for height, width in shapes], device=ratios.device)
    own = ratios.repeat_interleave(sizes, dim=1)  # (N, S, 2)
    return (points / own)[:, :, None] * ratios[:, None]
