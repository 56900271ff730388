"""What masks cost: focal and Dice losses on logits and on probabilities, with pixels that do not count.

SeqFormer (arXiv 2112.08275) and the table of weights in the release of Video Mask Transfiner (arXiv 2207.14012).

Shapes: N masks, P pixels (all frames of an instance in one row: a mask is a tube).
"""

from __future__ import annotations

import torch
from fvcore.nn import sigmoid_focal_loss
from torch.nn import functional as F

ALPHA, GAMMA = 0.25, 2.0  # of the focal losses: share of the positive ones, and how far what is easy counts less


def focal_loss(
    logits: torch.Tensor, targets: torch.Tensor, total: float | torch.Tensor, valid: torch.Tensor | None = None
) -> torch.Tensor:
    """Focal loss, mean over pixels and summed over masks, divided by ``total``.

    Args:
        logits: (N, P); no mask at all gives 0 with its graph intact.
        targets: (N, P) in {0, 1}.
        total: what the sum is divided by.
        valid: (N, P) bool, pixels that count (None: all); a mask without any costs nothing.
    """
    loss = sigmoid_focal_loss(logits, targets, alpha=ALPHA, gamma=GAMMA, reduction="none")
    return _mean_over_pixels(loss, valid).sum() / total


def focal_loss_of_probabilities(
    probabilities: torch.Tensor, targets: torch.Tensor, total: float | torch.Tensor, valid: torch.Tensor | None = None
) -> torch.Tensor:
    """:func:`focal_loss` of (N, P) probabilities in [0, 1], for masks that are no longer one logit a pixel."""
    certain = probabilities.clamp(1e-6, 1 - 1e-6)  # avoid log(0)
    right = torch.where(targets > 0.5, certain, 1 - certain)
    share = torch.where(targets > 0.5, ALPHA, 1 - ALPHA)
    return _mean_over_pixels(-share * (1 - right) ** GAMMA * right.log(), valid).sum() / total


def dice_loss(
    logits: torch.Tensor, targets: torch.Tensor, total: float | torch.Tensor, valid: torch.Tensor | None = None
) -> torch.Tensor:
    """1 - smoothed Dice coefficient of every tube, summed and divided by ``total``; as :func:`focal_loss`."""
    return dice_loss_of_probabilities(logits.sigmoid(), targets, total, valid)


def dice_loss_of_probabilities(
    probabilities: torch.Tensor, targets: torch.Tensor, total: float | torch.Tensor, valid: torch.Tensor | None = None
) -> torch.Tensor:
    """:func:`dice_loss` of probabilities (N, P)."""
    if valid is not None:
        probabilities, targets = probabilities * valid, targets * valid
    overlap = (probabilities * targets).sum(dim=1)
    return (1 - (2 * overlap + 1) / (probabilities.sum(dim=1) + targets.sum(dim=1) + 1)).sum() / total


def pairwise_focal_cost(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Matching cost: change of the focal loss if query q were assigned class k.

    Args:
        logits: (Q, K).
        labels: (N,) int64 classes.

    Returns:
        (Q, N), negative where the query is sure of the class already.
    """
    probabilities = logits.sigmoid()
    present = ALPHA * (1 - probabilities) ** GAMMA * -(probabilities + 1e-8).log()
    absent = (1 - ALPHA) * probabilities**GAMMA * -(1 - probabilities + 1e-8).log()
    return (present - absent)[:, labels]


def incoherence_labels(masks: torch.Tensor, size: tuple[int, int], threshold: float = 0.01) -> torch.Tensor:
    """Where a map of ``size`` cannot say what a finer mask says (the paper's incoherent regions).

    The mask is shrunk to ``size`` and blown up again; a cell is incoherent if its pixels change by more than
    ``threshold`` on (bilinear) average.

    Args:
        masks: (N, H, W) in [0, 1].
        size: (h, w) of the coarser map.

    Returns:
        (N, h, w) bool.
    """
    masks = masks[:, None].float()
    coarse = F.interpolate(masks, size=size, mode="bilinear", align_corners=False)
    change = (F.interpolate(coarse, size=masks.shape[-2:], mode="bilinear", align_corners=False) - masks).abs()
    return F.interpolate(change, size=size, mode="bilinear", align_corners=False)[:, 0] > threshold


def _mean_over_pixels(loss: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
    """(N, P) -> (N,), over the pixels that count."""
    if valid is None:
        return loss.mean(dim=1)
    return (loss * valid).sum(dim=1) / valid.sum(dim=1).clamp(min=1)
