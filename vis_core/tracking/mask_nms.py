"""Which detections of a frame are the same thing twice, by their masks.

Shapes: N masks, ordered by descending score, of (h, w) pixels.
"""

from __future__ import annotations

import torch

SMOOTHING = 1e-6  # added to intersection and union: two empty masks count as equal


def pairwise_mask_iou(masks: torch.Tensor) -> torch.Tensor:
    """Intersection over union of every pair, as one matrix product.

    Counts up to 2**24 pixels per mask are exact.

    Args:
        masks: (N, h, w) bool.

    Returns:
        (N, N) float32 in (0, 1].
    """
    flat = masks.flatten(1).float()  # (N, h * w)
    intersection = flat @ flat.T  # (N, N)
    area = intersection.diagonal()
    union = area[:, None] + area[None, :] - intersection
    return (intersection + SMOOTHING) / (union + SMOOTHING)


def mask_nms(masks: torch.Tensor, max_iou: float) -> torch.Tensor:
    """Greedy non-maximum suppression over all classes together.

    Args:
        masks: (N, h, w) bool, best first.
        max_iou: a mask that overlaps a better one that stays by more than this is suppressed.

    Returns:
        Ascending indices (M,) int64 of the masks that stay, on the masks' device.
    """
    suppresses = (pairwise_mask_iou(masks) > max_iou).cpu().numpy()
    stays = [True] * len(masks)
    for i in range(len(masks)):
        if stays[i]:
            for j in suppresses[i, i + 1 :].nonzero()[0]:
                stays[i + 1 + int(j)] = False
    kept = [i for i, stay in enumerate(stays) if stay]
    return torch.tensor(kept, dtype=torch.int64, device=masks.device)
