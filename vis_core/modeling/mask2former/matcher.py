"""Which query answers for which object (Mask2Former, arXiv 2112.01527, section 3.3: costs at random points).

Shapes: B images, Q queries, K classes, N objects of an image, P points, (h, w) mask logits, (H, W) target masks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from detectron2.projects.point_rend.point_features import point_sample
from scipy.optimize import linear_sum_assignment
from torch.nn import functional as F

from vis_core.modeling.set_prediction import Match


class MaskTargets(NamedTuple):
    """The objects of one image: ``labels`` (N,) int64 and ``masks`` (N, H, W) bool."""

    labels: torch.Tensor
    masks: torch.Tensor


class MaskMatcher:
    """The cheapest one-to-one assignment, by class, by mask at random points, and by their overlap."""

    @configurable
    def __init__(
        self,
        *,
        class_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        num_points: int = 12544,
    ) -> None:
        self.class_weight = class_weight
        self.mask_weight = mask_weight
        self.dice_weight = dice_weight
        self.num_points = num_points

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        node = cfg.MODEL.MASK_FORMER
        return {
            "class_weight": node.CLASS_WEIGHT,
            "mask_weight": node.MASK_WEIGHT,
            "dice_weight": node.DICE_WEIGHT,
            "num_points": node.TRAIN_NUM_POINTS,
        }

    @torch.no_grad()
    def __call__(self, outputs: Mapping[str, torch.Tensor], targets: Sequence[MaskTargets]) -> list[Match]:
        """Match every image of a batch on its own; each draws its points anew.

        Args:
            outputs: ``pred_logits`` (B, Q, K + 1) and ``pred_masks`` (B, Q, h, w) logits.
            targets: B images' objects, in the same (share of the) area as the mask logits.

        Returns:
            B pairs of queries and objects, on the CPU; min(Q, N) of each.
        """
        logits, masks = outputs["pred_logits"], outputs["pred_masks"]
        with torch.autocast(logits.device.type, enabled=False):
            return [self._match(*image) for image in zip(logits.float(), masks.float(), targets)]

    def _match(self, logits: torch.Tensor, masks: torch.Tensor, targets: MaskTargets) -> Match:
        points = torch.rand(1, self.num_points, 2, device=masks.device)
        cost = -self.class_weight * logits.softmax(dim=-1)[:, targets.labels]  # (Q, N)
        if len(targets.labels):
            predicted = point_sample(masks[None], points, align_corners=False)[0]  # (Q, P)
            wanted = point_sample(targets.masks[None].to(masks), points, align_corners=False)[0]  # (N, P)
            cost += self.mask_weight * pairwise_bce(predicted, wanted)
            cost += self.dice_weight * pairwise_dice(predicted, wanted)
        # Overflown masks of a step that the gradient scaler will skip must not stop the training.
        queries, objects = linear_sum_assignment(cost.nan_to_num().cpu().numpy())
        return torch.as_tensor(queries, dtype=torch.int64), torch.as_tensor(objects, dtype=torch.int64)


def pairwise_bce(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean binary cross entropy of every pair.

    Args:
        logits: (Q, P).
        targets: (N, P) probabilities.

    Returns:
        (Q, N).
    """
    # t softplus(-z) + (1 - t) softplus(z) = softplus(z) - t z
    return (F.softplus(logits).sum(dim=1, keepdim=True) - logits @ targets.T) / logits.shape[1]


def pairwise_dice(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """1 - (smoothed) Dice coefficient of every pair; arguments and result as of :func:`pairwise_bce`."""
    probabilities = logits.sigmoid()
    total = probabilities.sum(dim=1, keepdim=True) + targets.sum(dim=1)
    return 1 - (2 * probabilities @ targets.T + 1) / (total + 1)
