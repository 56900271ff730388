"""Losses of Mask2Former (arXiv 2112.01527, section 3.3): class, mask and overlap of matched queries, at points where
the prediction is least certain.

Shapes: B images, Q queries, K classes, N matched pairs of all images, P points, (h, w) mask logits, (H, W) targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.projects.point_rend.point_features import get_uncertain_point_coords_with_randomness, point_sample
from torch import nn
from torch.nn import functional as F

from vis_core.modeling.mask2former.matcher import MaskMatcher, MaskTargets
from vis_core.modeling.set_prediction import Match, mean_num_objects


class MaskCriterion(nn.Module):
    """Matches, and weighs the losses of the last and of all earlier predictions alike."""

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        matcher: MaskMatcher,
        class_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        no_object_weight: float = 0.1,
        num_points: int = 12544,
        oversample_ratio: float = 3.0,
        importance_sample_ratio: float = 0.75,
    ) -> None:
        """
        Args:
            num_classes: K, without "no object".
            matcher: chooses the pairs.
            class_weight, mask_weight, dice_weight: what the losses are multiplied with.
            no_object_weight: how much a query without object counts in the class loss.
            num_points: P, where masks are compared; drawn for every pair, of ``oversample_ratio`` times as many
                random ones the least certain, up to a share of ``importance_sample_ratio``, and new ones.
        """
        super().__init__()
        self.num_classes = num_classes
        self.matcher = matcher
        self.weights = {"loss_ce": class_weight, "loss_mask": mask_weight, "loss_dice": dice_weight}
        self.num_points = num_points
        self.oversample_ratio = oversample_ratio
        self.importance_sample_ratio = importance_sample_ratio
        class_weights = torch.ones(num_classes + 1)
        class_weights[-1] = no_object_weight
        self.register_buffer("empty_weight", class_weights)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        node = cfg.MODEL.MASK_FORMER
        return {
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "matcher": MaskMatcher(cfg),
            "class_weight": node.CLASS_WEIGHT,
            "mask_weight": node.MASK_WEIGHT,
            "dice_weight": node.DICE_WEIGHT,
            "no_object_weight": node.NO_OBJECT_WEIGHT,
            "num_points": node.TRAIN_NUM_POINTS,
            "oversample_ratio": node.OVERSAMPLE_RATIO,
            "importance_sample_ratio": node.IMPORTANCE_SAMPLE_RATIO,
        }

    def forward(self, outputs: Mapping, targets: Sequence[MaskTargets]) -> tuple[dict[str, torch.Tensor], list[Match]]:
        """Weighted losses of a batch, and the pairs of the last prediction.

        Args:
            outputs: of the query decoder, with ``aux_outputs``.
            targets: B images' objects; masks of one size, which covers the area that the mask logits cover.

        Returns:
            ``loss_ce``, ``loss_mask`` and ``loss_dice``, for the earlier predictions with suffix ``_0``, ``_1``, ...;
            and B matches as of :class:`MaskMatcher`.
        """
        num_masks = mean_num_objects(sum(len(x.labels) for x in targets), outputs["pred_masks"].device)
        matches = self.matcher(outputs, targets)
        losses = self._losses(outputs, targets, matches, num_masks)
        for index, aux in enumerate(outputs.get("aux_outputs", ())):
            aux_losses = self._losses(aux, targets, self.matcher(aux, targets), num_masks)
            losses |= {f"{name}_{index}": loss for name, loss in aux_losses.items()}
        return losses, matches

    def _losses(self, outputs, targets, matches, num_masks) -> dict[str, torch.Tensor]:
        with torch.autocast(outputs["pred_masks"].device.type, enabled=False):
            loss_mask, loss_dice = self._mask_losses(outputs["pred_masks"], targets, matches, num_masks)
            losses = {
                "loss_ce": self._class_loss(outputs["pred_logits"].float(), targets, matches),
                "loss_mask": loss_mask,
                "loss_dice": loss_dice,
            }
        return {name: self.weights[name] * loss for name, loss in losses.items()}

    def _class_loss(self, logits, targets, matches) -> torch.Tensor:
        """Cross entropy over all queries, (B, Q, K + 1); those without object have class K."""
        labels = torch.full(logits.shape[:2], self.num_classes, dtype=torch.int64, device=logits.device)
        for row, target, (queries, objects) in zip(labels, targets, matches):
            row[queries.to(row.device)] = target.labels[objects.to(target.labels.device)]
        return F.cross_entropy(logits.transpose(1, 2), labels, self.empty_weight)

    def _mask_losses(self, masks, targets, matches, num_masks) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross entropy and Dice loss of the matched pairs at points, given mask logits (B, Q, h, w)."""
        device = masks.device
        images = torch.cat([torch.full_like(queries, image) for image, (queries, _) in enumerate(matches)])
        queries = torch.cat([queries for queries, _ in matches])
        predicted = masks[images.to(device), queries.to(device)].float()[:, None]  # (N, 1, h, w)
        wanted = torch.cat([target.masks[objects.to(device)] for target, (_, objects) in zip(targets, matches)])
        with torch.no_grad():
            points = get_uncertain_point_coords_with_randomness(
                predicted, lambda x: -x.abs(), self.num_points, self.oversample_ratio, self.importance_sample_ratio
            )  # (N, P, 2)
            labels = point_sample(wanted[:, None].float(), points, align_corners=False)[:, 0]  # (N, P) in [0, 1]
        logits = point_sample(predicted, points, align_corners=False)[:, 0]
        return mask_loss(logits, labels, num_masks), dice_loss(logits, labels, num_masks)


def mask_loss(logits: torch.Tensor, targets: torch.Tensor, num_masks: float | torch.Tensor) -> torch.Tensor:
    """Binary cross entropy, mean over points and summed over masks, divided by ``num_masks``.

    Args:
        logits: (N, P); no mask at all gives 0 with its graph intact.
        targets: (N, P) in [0, 1].
    """
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1).sum() / num_masks


def dice_loss(logits: torch.Tensor, targets: torch.Tensor, num_masks: float | torch.Tensor) -> torch.Tensor:
    """1 - smoothed Dice coefficient, summed over masks; arguments as of :func:`mask_loss`."""
    probabilities = logits.sigmoid()
    overlap = (probabilities * targets).sum(dim=1)
    return (1 - (2 * overlap + 1) / (probabilities.sum(dim=1) + targets.sum(dim=1) + 1)).sum() / num_masks
