"""The encoder layer of Deformable DETR (Zhu et al., ICLR 2021, arXiv 2010.04159), under the names of its release.

Shapes: N images, S tokens of all levels together, C channels, L levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from vis_core.modeling.deformable_attention import MSDeformAttn


class DeformableEncoderLayer(nn.Module):
    """Deformable self-attention and a feed-forward network, each with residual and layer norm after it."""

    def __init__(
        self, dim: int, dim_feedforward: int, num_levels: int, num_heads: int, num_points: int, dropout: float = 0.0
    ) -> None:
        """
        Args:
            dim: C.
            dim_feedforward: channels between the two linear layers.
            num_levels, num_heads, num_points: of :class:`MSDeformAttn`.
            dropout: probability, of what is added to the tokens and of the channels in between.
        """
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
        padding: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """New tokens.

        Args:
            x: (N, S, C) tokens.
            positions: (N or 1, S, C), their positional encodings.
            references: (N or 1, S, L or 1, 2), where each token is, as of :func:`sampling_locations`.
            shapes: (height, width) of the L maps.
            padding: (N, S) bool, tokens that count as zero.

        Returns:
            (N, S, C).
        """
        x = self.norm1(x + self.dropout(self.self_attn(x + positions, references, x, shapes, padding)))
        hidden = self.dropout(F.relu_(self.linear1(x)))
        return self.norm2(x + self.dropout(self.linear2(hidden)))
