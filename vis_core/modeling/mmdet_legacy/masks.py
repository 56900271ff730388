"""Masks of boxes on the image."""

from __future__ import annotations

import cv2
import numpy as np
import torch


def paste_masks(
    masks: torch.Tensor, boxes: torch.Tensor, image_size: tuple[int, int], threshold: float | None = 0.5
) -> torch.Tensor:
    """Resize each mask to the pixels from its box's first to its last, both cut to whole numbers, and put it there.

    The original works on a canvas whose size may be a row or column short of the image's, and crashes when a box
    reaches that far; this one works on the image's.

    Args:
        masks: (N, S, S) float32 probabilities.
        boxes: (N, 4) float, x1 y1 x2 y2, pixels, clipped to the image (:func:`clip_boxes`).
        image_size: (H, W).
        threshold: a pixel belongs to the object above it; None: give the probabilities themselves.

    Returns:
        (N, H, W) bool, or float32 without ``threshold``, on the masks' device.
    """
    height, width = image_size
    canvas = np.zeros((len(masks), height, width), np.float32)
    # Numbers of the first and the last pixel.
    corners = torch.cat([boxes[:, :2], boxes[:, 2:] - 1], dim=1).cpu().numpy().astype(np.int64)
    for out, mask, (x1, y1, x2, y2) in zip(canvas, masks.detach().float().cpu().numpy(), corners):
        size = (max(int(x2 - x1) + 1, 1), max(int(y2 - y1) + 1, 1))
        resized = cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR)
        out[y1 : y1 + size[1], x1 : x1 + size[0]] = resized[: height - y1, : width - x1]
    pasted = canvas if threshold is None else canvas > threshold
    return torch.from_numpy(pasted).to(masks.device)
