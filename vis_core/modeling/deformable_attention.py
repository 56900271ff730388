"""The layer around :func:`vis_core.ops.ms_deform_attn`: where a query looks, and how much each place counts.

Deformable DETR, Zhu et al., ICLR 2021, arXiv 2010.04159. Parameter names are those of its release, which every method
built on it shares.

Shapes: N images, Q queries, S tokens of all levels together, C channels, M heads, L levels, P points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from vis_core.ops import ms_deform_attn


class MSDeformAttn(nn.Module):
    """Every query takes samples from L feature maps, at offsets from a reference point that it chooses itself."""

    def __init__(self, dim: int = 256, num_levels: int = 3, num_heads: int = 8, num_points: int = 4) -> None:
        """
        Args:
            dim: C, a multiple of ``num_heads``.
            num_levels: L.
            num_heads: M.
            num_points: P, samples of a head and level.

        Raises:
            ValueError: ``dim`` cannot be shared among the heads.
        """
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim: {dim} is not a multiple of {num_heads} heads")
        self.num_levels = num_levels
        self.num_heads = num_heads
        self.num_points = num_points
        self.sampling_offsets = nn.Linear(dim, num_heads * num_levels * num_points * 2)
        self.attention_weights = nn.Linear(dim, num_heads * num_levels * num_points)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """At first all points count the same, and head m's lie 1 to P steps from the reference in direction m."""
        angles = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        directions /= directions.abs().amax(dim=-1, keepdim=True)  # onto the square around the reference
        steps = torch.arange(1, self.num_points + 1).view(1, 1, -1, 1)
        offsets = directions.view(-1, 1, 1, 2) * steps  # (M, 1, P, 2)
        with torch.no_grad():
            self.sampling_offsets.weight.zero_()
            self.sampling_offsets.bias.copy_(offsets.expand(-1, self.num_levels, -1, -1).flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        query: torch.Tensor,
        references: torch.Tensor,
        source: torch.Tensor,
        spatial_shapes: Sequence[tuple[int, int]],
        padding: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attend and project.

        Args:
            query: (N, Q, C).
            references: (N or 1, Q, L or 1, 2 or 4), as of :func:`sampling_locations`.
            source: (N, S, C) tokens of the maps.
            spatial_shapes: (height, width) of the L maps.
            padding: (N, S) bool, tokens that count as zero.

        Returns:
            (N, Q, C).
        """
        return self.output_proj(self.sample(query, references, source, spatial_shapes, padding))

    def sample(
        self,
        query: torch.Tensor,
        references: torch.Tensor,
        source: torch.Tensor,
        spatial_shapes: Sequence[tuple[int, int]],
        padding: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """:meth:`forward` without the last projection."""
        num_images, num_queries = query.shape[:2]
        value = self.value_proj(source)
        if padding is not None:
            value = value.masked_fill(padding[..., None], 0)
        value = value.view(num_images, -1, self.num_heads, value.shape[-1] // self.num_heads)  # (N, S, M, C / M)
        per_query = (num_images, num_queries, self.num_heads, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(query).view(*per_query, 2)
        weights = softmax_of_few(self.attention_weights(query).view(num_images, num_queries, self.num_heads, -1))
        locations = sampling_locations(references, offsets, spatial_shapes)
        return ms_deform_attn(value, spatial_shapes, locations, weights.view(per_query))


def softmax_of_few(x: torch.Tensor) -> torch.Tensor:
    """Softmax over the last dimension, which is short."""
    if x.device.type != "cpu" or x.requires_grad:
        return x.softmax(dim=-1)
    # PyTorch's CPU kernel works on whole vectors only across the other dimensions: ten times as fast for a dozen.
    return x.movedim(-1, 0).contiguous().softmax(dim=0).movedim(0, -1).contiguous()


def sampling_locations(
    references: torch.Tensor, offsets: torch.Tensor, spatial_shapes: Sequence[tuple[int, int]]
) -> torch.Tensor:
    """Where samples are taken, in shares of the maps.

    Args:
        references: (N or 1, Q, L or 1, 2) points (x, y), or (..., 4) boxes (x, y of the centre, width, height); a
            level's own or the same for all; [0, 1] is inside the map.
        offsets: (N, Q, M, L, P, 2) as (x, y); pixels of each level from a point, or in units of 1 / (2 P) box sizes
            from a box's centre.
        spatial_shapes: (height, width) of the L maps.

    Returns:
        (N, Q, M, L, P, 2).
    """
    num_points = offsets.shape[4]
    centres = references[:, :, None, :, None, :2]
    if references.shape[-1] == 4:
        return centres + offsets / num_points * references[:, :, None, :, None, 2:] * 0.5
    sizes = torch.tensor([(w, h) for h, w in spatial_shapes], dtype=offsets.dtype, device=offsets.device)
    # One long vector: on the CPU broadcasting over many short axes takes several times as long.
    divisors = sizes[:, None].expand(offsets.shape[2:]).flatten()
    return centres + (offsets.flatten(2) / divisors).view(offsets.shape)


def grid_points(spatial_shapes: Sequence[tuple[int, int]], device: torch.device | str | None = None) -> torch.Tensor:
    """(S, 2) float32 centres (x, y) of all pixels of the maps, in shares of each map, row by row."""
    levels = []
    for height, width in spatial_shapes:
        y = (torch.arange(height, device=device) + 0.5) / height
        x = (torch.arange(width, device=device) + 0.5) / width
        levels.append(torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1).flatten(0, 1))
    return torch.cat(levels)
