"""The first two mask stages: dynamic convolutions on maps of stride 8 and 4.

Shapes: T frames of a clip, N chosen queries, C channels of a query, (h8, w8), (h4, w4) maps.
"""

from __future__ import annotations

import torch
from torch import nn

from projects.vmt.dynamic import dynamic_masks, num_parameters, resize_nearest, split_parameters
from projects.vmt.features import MaskMaps
from vis_core.modeling.attention import MLP
from vis_core.modeling.clip_transformer import inverse_sigmoid


class MaskHead(nn.Module):
    """Two MLPs that make convolutions from queries, and these convolutions."""

    def __init__(self, query_dim: int = 256, mask_dim: int = 8, dynamic_dim: int = 8) -> None:
        """
        Args:
            query_dim: C.
            mask_dim: channels of the maps.
            dynamic_dim: hidden channels of the dynamic convolutions.
        """
        super().__init__()
        self.dynamic_dim = dynamic_dim
        self.dims_in = (mask_dim + 2, mask_dim + 3)
        self.controller, self.controller_inc = (
            MLP(query_dim, query_dim, num_parameters(dim_in, dynamic_dim), 3) for dim_in in self.dims_in
        )
        init_controller(self.controller)
        init_controller(self.controller_inc)

    def coarse(self, queries: torch.Tensor, references: torch.Tensor, maps: MaskMaps) -> torch.Tensor:
        """First stage: queries (N, C), references (T, N, 2) in pixels, maps of T frames -> logits (T, N, h8, w8)."""
        weights = split_parameters(self.controller(queries), self.dims_in[0], self.dynamic_dim)
        return dynamic_masks(weights, maps.coarse, references, stride=8)

    def second(
        self, queries: torch.Tensor, references: torch.Tensor, maps: MaskMaps, coarse: torch.Tensor
    ) -> torch.Tensor:
        """Second stage, which sees the first one's logits (T, N, h8, w8): (T, N, h4, w4)."""
        weights = split_parameters(self.controller_inc(queries), self.dims_in[1], self.dynamic_dim)
        own = resize_nearest(coarse.sigmoid(), maps.second.shape[-2:])
        return dynamic_masks(weights, maps.second, references, stride=4, own=own)


def pixel_references(references: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Decoder references (..., 2 or 4), shares of the frame, as points (x, y) in pixels of (H, W): (..., 2)."""
    points = inverse_sigmoid(references[..., :2]).sigmoid()  # which keeps them 1e-5 away from the edges
    return points * points.new_tensor([size[1], size[0]])


def init_controller(mlp: MLP) -> None:
    """Weights by Xavier's rule, no bias."""
    for layer in mlp.layers:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
