"""Box deltas whose size change is bounded on both sides."""

from __future__ import annotations

import torch
from detectron2.modeling.box_regression import Box2BoxTransform


class ClampedBox2BoxTransform(Box2BoxTransform):
    """Detectron2's transform bounds only how much a box may grow; here shrinking has the same bound, a factor of
    exp(scale_clamp)."""

    def apply_deltas(self, deltas: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Decode ``deltas`` (N, 4k) against ``boxes`` (N, 4) to (N, 4k) boxes, float32."""
        _, _, width_weight, height_weight = self.weights
        deltas = deltas.float().clone()
        deltas[:, 2::4] = deltas[:, 2::4].clamp(min=-self.scale_clamp * width_weight)
        deltas[:, 3::4] = deltas[:, 3::4].clamp(min=-self.scale_clamp * height_weight)
        return super().apply_deltas(deltas, boxes)
