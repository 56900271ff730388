"""The last stage as released: pixels near contours attend to each other, then masks are computed at stride 2.

Shapes: T frames, N instances, C channels of the map of stride 2, (h2, w2) this map, P pixels of a frame.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from torch import nn
from torch.nn import functional as F

from projects.vmt.detail import box_masks, check_sampling, near_contours, pick_points
from projects.vmt.dynamic import (
    double_size,
    num_parameters,
    pixel_centres,
    remaining_layers,
    resize_nearest,
    split_parameters,
)
from projects.vmt.features import MaskMaps
from projects.vmt.mask_head import init_controller
from vis_core.modeling.attention import MLP, Attention
from vis_core.modeling.mask2former.positional_encoding import sine_positional_encoding

STRIDE = 2
DILATIONS = (3, 5, 7, 1)
FUSED_DIM = 11  # channels that the dynamic convolutions read
NUM_OWN = 5  # channels of an instance's own beside the shared map
CHUNK_PIXELS = 2**16  # on a CPU instances are computed together up to so many pixels: buffers this small stay in caches


class RefineInputs(NamedTuple):
    """What a refiner gets of T frames of a clip, and of N instances.

    Attributes:
        maps: of the T frames, see :class:`projects.vmt.features.MaskMaps`; ``maps.base`` (T, C, h4, w4) is to be
            enlarged to stride 2.
        detail: (T, C, h2, w2), to be added to it where pixels are refined.
        coarse: (T, N, h8, w8) logits of the first stage.
        second: (T, N, h4, w4) logits of the second stage.
        queries: (N, 256) video queries.
        references: (T, N, 2) points (x, y), pixels of the image.
        boxes: (T, N, 4) as x1, y1, x2, y2, pixels of the image.
    """

    maps: MaskMaps
    detail: torch.Tensor
    coarse: torch.Tensor
    second: torch.Tensor
    queries: torch.Tensor
    references: torch.Tensor
    boxes: torch.Tensor


class RefineOutput(NamedTuple):
    """What a refiner makes of it.

    Attributes:
        masks: (T, N, 2 h2, 2 w2) logits.
        selected: (T, h2, w2) bool, the pixels that were refined.
        losses: of its own, by name, summed over instances, if there were labels; none for the release.
    """

    masks: torch.Tensor
    selected: torch.Tensor
    losses: dict[str, torch.Tensor]


class RefineLayer(nn.Module):
    """Self-attention and a feed-forward network, each with residual and layer norm after it."""

    def __init__(self, dim: int, num_heads: int, dim_feedforward: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(dim, num_heads, dropout)
        self.linear1 = nn.Linear(dim, dim_feedforward)
        self.linear2 = nn.Linear(dim_feedforward, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """(1, P, C), (1, P, C) -> (1, P, C)."""
        placed = x + positions
        x = self.norm1(x + self.dropout(self.self_attn(placed, placed, x)))
        return self.norm2(x + self.dropout(self.linear2(self.dropout(F.relu_(self.linear1(x))))))


class RefineEncoder(nn.Module):
    """Layers; no pixel at all is fine, too."""

    def __init__(self, num_layers: int, dim: int, num_heads: int, dim_feedforward: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(RefineLayer(dim, num_heads, dim_feedforward, dropout) for _ in range(num_layers))

    def forward(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """(1, P, C), (1, P, C) -> (1, P, C)."""
        if not x.shape[1]:
            return x
        for layer in self.layers:
            x = layer(x, positions)
        return x


class ReleaseRefiner(nn.Module):
    """The refinement of the released code. Frames do not see each other.

    Attributes:
        num_frames: frames of a clip that are refined together at test time.
        loss_names: of the losses that it has of its own.
    """

    num_frames = 1
    loss_names = ()

    @configurable
    def __init__(
        self,
        *,
        query_dim: int = 256,
        dim: int = 64,
        dynamic_dim: int = 8,
        num_layers: int = 3,
        num_heads: int = 4,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        max_points: int = 12000,
        point_sampling: str = "random",
        clamp_box_mask: bool = False,
    ) -> None:
        """
        Args:
            query_dim: of the video queries.
            dim: C.
            dynamic_dim: hidden channels of the dynamic convolutions.
            num_layers, num_heads, dim_feedforward, dropout: of the encoder.
            max_points, point_sampling: see :func:`projects.vmt.detail.pick_points`.
            clamp_box_mask: see :func:`projects.vmt.detail.box_masks`.
        """
        super().__init__()
        check_sampling(point_sampling)
        self.dynamic_dim = dynamic_dim
        self.max_points = max_points
        self.point_sampling = point_sampling
        self.clamp_box_mask = clamp_box_mask
        self.controller = MLP(query_dim, query_dim, num_parameters(FUSED_DIM, dynamic_dim), 3)
        init_controller(self.controller)
        self.encoder = RefineEncoder(num_layers, dim, num_heads, dim_feedforward, dropout)
        self.fuse = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(dim + NUM_OWN, dim // 2, 3, padding=dilation, dilation=dilation),
                nn.ReLU(),
                nn.Conv2d(dim // 2, dim // 2, 1),
                nn.ReLU(),
                nn.Conv2d(dim // 2, FUSED_DIM, 1),
                nn.ReLU(),
            )
            for dilation in DILATIONS
        )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        node = cfg.MODEL.VMT
        return {
            "query_dim": node.HIDDEN_DIM,
            "dim": node.REFINE_DIM,
            "dynamic_dim": node.DYNAMIC_DIM,
            "num_layers": node.REFINE_LAYERS,
            "num_heads": node.REFINE_NHEADS,
            "dim_feedforward": node.REFINE_DIM_FEEDFORWARD,
            "dropout": node.REFINE_DROPOUT,
            "max_points": node.MAX_POINTS,
            "point_sampling": node.POINT_SAMPLING,
            "clamp_box_mask": node.CLAMP_BOX_MASK,
        }

    def forward(self, inputs: RefineInputs, labels: torch.Tensor | None = None) -> RefineOutput:
        """Masks at full resolution; the release's refiner has no use for ``labels`` (N, T, 2 h2, 2 w2) bool."""
        size = inputs.detail.shape[-2:]
        selected = near_contours(inputs.second, size)
        maps = resize_nearest(inputs.maps.base, size) + selected[:, None] * inputs.detail  # (T, C, h2, w2)
        maps = torch.cat([self.encode_points(*frame) for frame in zip(maps, selected)])
        logits = self.masks(maps, inputs)
        return RefineOutput(double_size(logits), selected, {})

    def encode_points(self, maps: torch.Tensor, selected: torch.Tensor) -> torch.Tensor:
        """One frame's map (C, h2, w2), its selected pixels corrected: (1, C, h2, w2)."""
        points = pick_points(selected, self.max_points, self.point_sampling)
        encodings = sine_positional_encoding(*selected.shape, maps.shape[0], maps.device)
        nodes, positions = (x.flatten(1)[:, points].transpose(0, 1)[None] for x in (maps, encodings))  # (1, P, C)
        changes = self.encoder(nodes, positions)[0].transpose(0, 1)  # (C, P)
        return maps.flatten(1).index_add(1, points, changes.to(maps.dtype)).view_as(maps)[None]

    def masks(self, maps: torch.Tensor, inputs: RefineInputs) -> torch.Tensor:
        """Logits (T, N, h2, w2) from the corrected maps (T, C, h2, w2)."""
        size = maps.shape[-2:]
        weights = split_parameters(self.controller(inputs.queries), FUSED_DIM, self.dynamic_dim)
        own = self.own_channels(inputs, size)  # (T, N, 5, h2, w2)
        step = max(CHUNK_PIXELS // (size[0] * size[1]), 1) if maps.device.type == "cpu" else max(own.shape[1], 1)
        fused = torch.stack([self.fuse_frame(*frame, step) for frame in zip(maps, own)])  # (T, N, 11, h2, w2)
        return remaining_layers(weights, fused, start=0)

    def fuse_frame(self, maps: torch.Tensor, own: torch.Tensor, step: int) -> torch.Tensor:
        """What the dynamic convolutions read of one frame: the sum of four branches.

        The first convolution of each is linear: its share in the map is the same for all instances.

        Args:
            maps: (C, h2, w2).
            own: (N, 5, h2, w2).
            step: number of instances at a time.

        Returns:
            (N, 11, h2, w2).
        """
        dim = len(maps)
        fused = [own.new_zeros(0, FUSED_DIM, *maps.shape[1:])]
        shared = [_convolve(branch[0], maps[None], slice(0, dim), with_bias=True) for branch in self.fuse]
        for part in own.split(step):
            total = None
            for (first, _, second, _, third, _), common in zip(self.fuse, shared):
                x = _convolve(first, part, slice(dim, None), with_bias=False).add_(common)  # (n, C / 2, h2, w2)
                x = _pointwise(second, x.relu_().flatten(2)).relu_()
                x = _pointwise(third, x).relu_()
                total = x if total is None else total + x  # (n, 11, h2 * w2)
            fused.append(total.unflatten(2, maps.shape[1:]))
        return torch.cat(fused)

    def own_channels(self, inputs: RefineInputs, size: tuple[int, int]) -> torch.Tensor:
        """What instances bring: second and coarse probability, box mask, coordinates (x, y) of the
        reference relative to each pixel: (T, N, 5, h2, w2)."""
        second, coarse = (resize_nearest(x.sigmoid(), size) for x in (inputs.second, inputs.coarse))
        boxes = box_masks(inputs.boxes.flatten(0, 1) / STRIDE, size, self.clamp_box_mask).view_as(second)
        x = inputs.references[..., :1] - pixel_centres(size[1], STRIDE, second.device)  # (T, N, w2)
        y = inputs.references[..., 1:] - pixel_centres(size[0], STRIDE, second.device)  # (T, N, h2)
        relative = x[:, :, None].expand_as(second), y[..., None].expand_as(second)
        return torch.stack([second, coarse, boxes, *relative], dim=2)


def _convolve(conv: nn.Conv2d, x: torch.Tensor, channels: slice, with_bias: bool) -> torch.Tensor:
    """What these channels of a convolution's input contribute to its result."""
    bias = conv.bias if with_bias else None
    return F.conv2d(x, conv.weight[:, channels], bias, conv.stride, conv.padding, conv.dilation)


def _pointwise(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """A 1x1 convolution of (n, in, P) as a matrix product, which takes half of its time on a CPU: (n, out, P)."""
    weight = conv.weight.flatten(1).expand(len(x), -1, -1)
    return torch.baddbmm(conv.bias[:, None].expand(len(x), -1, 1), weight, x)
