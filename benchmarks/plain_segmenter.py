"""The segmenter as the published code runs it on a CPU: what ours is measured against, with the same weights.

The layers as they are built, batch norm and PyTorch's choice of kernels included; deformable attention by
``grid_sample``; attention by PyTorch's general function, with a mask copied for every head and
its averaged weights computed; and every decoder layer's prediction at full size, as in training.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from grid_sample_msda import grid_sample_msda
from torch.nn import functional as F

import projects.ctvis.model
from vis_core.modeling.attention import Attention
from vis_core.modeling.deformable_attention import MSDeformAttn
from vis_core.modeling.mask2former import MaskFormerHead


@contextmanager
def plain_segmenter() -> Iterator[None]:
    """Inside, every segmenter runs the plain way."""
    head = MaskFormerHead.forward
    with (
        mock.patch.object(MSDeformAttn, "forward", plain_deformable_attention),
        mock.patch.object(Attention, "forward", plain_attention),
        mock.patch.object(projects.ctvis.model, "for_inference", lambda module: module),
        mock.patch.object(MaskFormerHead, "forward", lambda self, features, with_aux: head(self, features, True)),
    ):
        yield


def plain_deformable_attention(
    self: MSDeformAttn, query: torch.Tensor, references: torch.Tensor, source: torch.Tensor, spatial_shapes, padding
) -> torch.Tensor:
    """Arguments as of MSDeformAttn.forward, references being points, ``padding`` None."""
    assert padding is None
    batch, num_queries, _ = query.shape
    samples = (batch, num_queries, self.num_heads, self.num_levels, self.num_points)
    value = self.value_proj(source).unflatten(2, (self.num_heads, -1))
    offsets = self.sampling_offsets(query).view(*samples, 2)
    weights = self.attention_weights(query).view(*samples[:3], -1).softmax(-1).view(samples)
    sizes = torch.tensor([(width, height) for height, width in spatial_shapes], dtype=query.dtype)
    locations = references[:, :, None, :, None, :] + offsets / sizes[None, None, None, :, None, :]
    return self.output_proj(grid_sample_msda(value, spatial_shapes, locations, weights))


def plain_attention(
    self: Attention, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, allowed: torch.Tensor | None = None
) -> torch.Tensor:
    """Arguments as of Attention.forward."""
    blocked = None
    if allowed is not None:
        blocked = (~allowed)[:, None].repeat(1, self.num_heads, 1, 1).flatten(0, 1)  # (B * M, Q, S)
    attended, _ = F.multi_head_attention_forward(
        *(x.transpose(0, 1) for x in (query, key, value)),
        embed_dim_to_check=query.shape[2],
        num_heads=self.num_heads,
        in_proj_weight=self.in_proj_weight,
        in_proj_bias=self.in_proj_bias,
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=self.out_proj.weight,
        out_proj_bias=self.out_proj.bias,
        attn_mask=blocked,
    )
    return attended.transpose(0, 1)
