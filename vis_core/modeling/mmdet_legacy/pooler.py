"""RoI features half a cell further down and right."""

from __future__ import annotations

import torch
from torch import nn

from vis_core.modeling.mmdet.pooler import MMDetROIPooler
from vis_core.ops import ROIAlign


class LegacyROIAlign(ROIAlign):
    """RoIAlign that takes a cell's value to lie at the cell's corner.

    Unlike ``aligned=False``, which does so too, it does not enlarge boxes of less than a cell.
    """

    def __init__(self, output_size: tuple[int, int], spatial_scale: float, sampling_ratio: int) -> None:
        super().__init__(output_size, spatial_scale, sampling_ratio, aligned=True)

    def forward(self, input: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        """Pool (B, C, h, w) at ``rois`` (R, 5), image and box in pixels, to (R, C, *output_size)."""
        shifted = torch.cat([rois[:, :1], rois[:, 1:] + 0.5 / self.spatial_scale], dim=1)
        return super().forward(input, shifted)


class LegacyROIPooler(MMDetROIPooler):
    """mmdetection's choice of the level, and :class:`LegacyROIAlign`."""

    def __init__(
        self, output_size: int, scales: tuple[float, ...], sampling_ratio: int = 2, finest_scale: float = 56.0
    ) -> None:
        """As of MMDetROIPooler."""
        super().__init__(output_size, scales, sampling_ratio, finest_scale)
        self.level_poolers = nn.ModuleList(
            LegacyROIAlign((output_size, output_size), scale, sampling_ratio) for scale in scales
        )
