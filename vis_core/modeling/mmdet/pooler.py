"""RoI features from a feature pyramid, with mmdetection's choice of the level.

Shapes: L levels, B images, R boxes in all, S the output's side.
"""

from __future__ import annotations

import torch
from detectron2.structures import Boxes
from torch import nn

from vis_core.ops import ROIAlign


def assign_levels(boxes: torch.Tensor, num_levels: int, finest_scale: float = 56.0) -> torch.Tensor:
    """Pyramid level, 0 = finest, of each box: floor(log2(sqrt(area) / finest_scale + 1e-6)), clamped.

    Detectron2 adds 1e-8 to sqrt(area) / 224 instead; the two differ for boxes less than about 1e-4 px under a boundary.

    Args:
        boxes: (R, 4) float, pixels.

    Returns:
        (R,) int64 in [0, num_levels).
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sqrt()
    return torch.floor(torch.log2(sides / finest_scale + 1e-6)).clamp(min=0, max=num_levels - 1).long()


class MMDetROIPooler(nn.Module):
    """Pools every box from one level of a pyramid; called like Detectron2's ``ROIPooler``."""

    def __init__(
        self, output_size: int, scales: tuple[float, ...], sampling_ratio: int = 0, finest_scale: float = 56.0
    ) -> None:
        """
        Args:
            output_size: S.
            scales: feature pixels per image pixel, from the finest level on.
            sampling_ratio: samples per bin and axis; 0 = by the box's size.
            finest_scale: boxes with a side under twice this go to the finest level, pixels.
        """
        super().__init__()
        self.output_size = output_size
        self.finest_scale = finest_scale
        self.level_poolers = nn.ModuleList(
            ROIAlign((output_size, output_size), scale, sampling_ratio, aligned=True) for scale in scales
        )

    def forward(self, features: list[torch.Tensor], box_lists: list[Boxes]) -> torch.Tensor:
        """Pool ``box_lists`` (B, in pixels) from L maps (B, C, h, w) to (R, C, S, S), images in order."""
        boxes = torch.cat([boxes.tensor for boxes in box_lists])  # (R, 4)
        counts = torch.tensor([len(boxes) for boxes in box_lists], device=boxes.device)
        image = torch.repeat_interleave(torch.arange(len(box_lists), device=boxes.device), counts)
        rois = torch.cat([image[:, None].to(boxes.dtype), boxes], dim=1)  # (R, 5)
        levels = assign_levels(boxes, len(features), self.finest_scale)
        shape = (len(boxes), features[0].shape[1], self.output_size, self.output_size)
        pooled = features[0].new_zeros(shape)
        for level, (feature, pooler) in enumerate(zip(features, self.level_poolers)):
            rows = torch.nonzero(levels == level).squeeze(1)
            pooled.index_put_((rows,), pooler(feature, rois[rows]).to(pooled.dtype))
        return pooled
