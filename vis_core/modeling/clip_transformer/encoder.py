"""Encoder of the clip transformer: deformable self-attention over the levels of every frame by itself.

Shapes: N frames (of all clips), S tokens of all levels, C channels, L levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from vis_core.modeling.deformable_attention import grid_points
from vis_core.modeling.deformable_encoder_layer import DeformableEncoderLayer


class ClipEncoder(nn.Module):
    """Layers that refine the tokens of all levels. Frames do not see each other."""

    def __init__(self, num_layers: int, **layer) -> None:
        """
        Args:
            num_layers: number of layers.
            layer: arguments of :class:`DeformableEncoderLayer`.
        """
        super().__init__()
        self.layers = nn.ModuleList(DeformableEncoderLayer(**layer) for _ in range(num_layers))

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
