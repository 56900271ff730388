"""Multi-scale deformable attention the usual way without a compiled extension: ``grid_sample`` on every level.

What the op is measured against, in benchmarks and tests.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F


def grid_sample_msda(
    value: torch.Tensor, spatial_shapes: Sequence[tuple[int, int]], locations: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """(N, Q, M * D); arguments as of :func:`vis_core.ops.ms_deform_attn`. Works in the type of the locations."""
    num_images, _, num_heads, dim = value.shape
    num_queries = locations.shape[1]
    levels = value.to(locations.dtype).split([height * width for height, width in spatial_shapes], dim=1)
    sampled = []
    for level, (height, width) in enumerate(spatial_shapes):
        maps = levels[level].permute(0, 2, 3, 1).reshape(num_images * num_heads, dim, height, width)
        grid = 2 * locations[:, :, :, level].transpose(1, 2).flatten(0, 1) - 1  # (N * M, Q, P, 2)
        sampled.append(F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False))
    samples = torch.cat(sampled, dim=-1)  # (N * M, D, Q, L * P)
    weights = weights.transpose(1, 2).reshape(num_images * num_heads, 1, num_queries, -1)
    out = (samples * weights).sum(-1)  # (N * M, D, Q)
    return out.view(num_images, num_heads * dim, num_queries).transpose(1, 2).to(value.dtype)
