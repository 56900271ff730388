"""The propagation loss: how well do the masks overlap that were carried to another frame?"""

from __future__ import annotations

import torch


def soft_iou_loss(probabilities: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """1 - soft IoU of each object: the sum of minima over that of maxima. Every object counts once, whatever its size.

    Args:
        probabilities: (N, H, W) float32 in [0, 1].
        masks: (N, H, W), 0 or 1.

    Returns:
        (N,) in [0, 1].
    """
    p, y = probabilities.flatten(1), masks.flatten(1).to(probabilities.dtype)
    return 1 - torch.minimum(p, y).sum(dim=1) / (torch.maximum(p, y).sum(dim=1) + 1e-6)
