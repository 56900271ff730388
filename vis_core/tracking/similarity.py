"""How alike the objects of one frame are to the objects in memory.

Shapes: N current objects, M objects in memory, D values of an embedding.
"""

from __future__ import annotations

import torch


def dot_product_logits(embeds: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """Logits of "object i is reference j", with the constant 0 for "object i is new" in front.

    Plain dot products: no normalisation and no temperature (MaskTrack R-CNN, arXiv 1905.04804, equation 1).

    Args:
        embeds: (N, D) float.
        references: (M, D) float.

    Returns:
        (N, 1 + M) float; column 0 is "new".
    """
    return torch.nn.functional.pad(embeds @ references.T, (1, 0))


def pairwise_iou(boxes1: torch.Tensor, boxes2: torch.Tensor, min_union: float = 1e-6) -> torch.Tensor:
    """Intersection over union of every pair, 0 for boxes without area.

    Args:
        boxes1: (N, 4) as x0, y0, x1, y1 in continuous coordinates, pixels.
        boxes2: (M, 4), the same.
        min_union: the union's area is taken as no less than this, in square pixels.

    Returns:
        (N, M) float in [0, 1].
    """
    area1 = (boxes1[:, 2:] - boxes1[:, :2]).prod(dim=1)  # (N,)
    area2 = (boxes2[:, 2:] - boxes2[:, :2]).prod(dim=1)  # (M,)
    low = torch.maximum(boxes1[:, None, :2], boxes2[None, :, :2])
    high = torch.minimum(boxes1[:, None, 2:], boxes2[None, :, 2:])
    intersection = (high - low).clamp(min=0).prod(dim=2)  # (N, M)
    union = area1[:, None] + area2[None, :] - intersection
    return intersection / union.clamp(min=min_union)
