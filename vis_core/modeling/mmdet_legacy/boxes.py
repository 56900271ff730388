"""Bounds of boxes."""

from __future__ import annotations

import torch


def clip_boxes(boxes: torch.Tensor, image_size: tuple[int, int]) -> torch.Tensor:
    """Clip so that a box's first and last pixel lie in the image: no box becomes empty.

    Args:
        boxes: (..., 4) float, x1 y1 x2 y2, pixels.
        image_size: (H, W).

    Returns:
        (..., 4) with x1 in [0, W - 1], x2 in [1, W], and likewise y.
    """
    height, width = image_size
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack(
        [x1.clamp(0, width - 1), y1.clamp(0, height - 1), x2.clamp(1, width), y2.clamp(1, height)], dim=-1
    )
