"""Region proposals by mmdetection's rules."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY
from detectron2.modeling.proposal_generator import RPN

from vis_core.modeling.mmdet.box_coder import ClampedBox2BoxTransform
from vis_core.modeling.mmdet.matcher import LowQualityMatcher


@PROPOSAL_GENERATOR_REGISTRY.register()
class MMDetRPN(RPN):
    """Detectron2's RPN with three of mmdetection's choices.

    An object claims its best anchors only if they reach the negatives' threshold (``RPN.IOU_THRESHOLDS[0]``) and takes
    them from other objects; both losses are divided by the number of anchors that could be sampled, not by the number
    that was asked for; box sizes are bounded on both sides.
    """

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict) -> dict:
        kwargs = super().from_config(cfg, input_shape)
        node = cfg.MODEL.RPN
        kwargs["anchor_matcher"] = LowQualityMatcher(node.IOU_THRESHOLDS, node.IOU_LABELS, node.IOU_THRESHOLDS[0])
        kwargs["box2box_transform"] = ClampedBox2BoxTransform(weights=node.BBOX_REG_WEIGHTS)
        return kwargs

    def losses(
        self, anchors, pred_objectness_logits, gt_labels: list[torch.Tensor], pred_anchor_deltas, gt_boxes
    ) -> dict[str, torch.Tensor]:
        """As Detectron2's, with ``gt_labels`` (per image (R,): 1, 0 or -1 = not sampled) counted for the divisor."""
        losses = super().losses(anchors, pred_objectness_logits, gt_labels, pred_anchor_deltas, gt_boxes)
        asked = self.batch_size_per_image * len(gt_labels)
        counted = sum(self.count_sampled(labels) for labels in gt_labels).clamp(min=1)
        return {name: loss * (asked / counted) for name, loss in losses.items()}

    def count_sampled(self, labels: torch.Tensor) -> torch.Tensor:
        """How many of an image's anchors with ``labels`` (R,), 1, 0 or -1 = not sampled, the divisor counts."""
        return (labels >= 0).sum()
