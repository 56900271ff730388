"""mmdetection's names of the parts of Mask R-CNN in terms of Detectron2's."""

from __future__ import annotations

import torch

from vis_core.checkpoint.renaming import rename, rules
from vis_core.checkpoint.resnet_names import RESNET_ROWS

# FPN levels count from 2, heads' layers from 1.
_ROWS = (
    (r"neck\.lateral_convs\.(\d)\.conv\.", r"backbone.fpn_lateral{}.", 2),
    (r"neck\.fpn_convs\.(\d)\.conv\.", r"backbone.fpn_output{}.", 2),
    (r"rpn_head\.rpn_conv\.", r"proposal_generator.rpn_head.conv.", 0),
    (r"rpn_head\.rpn_cls\.", r"proposal_generator.rpn_head.objectness_logits.", 0),
    (r"rpn_head\.rpn_reg\.", r"proposal_generator.rpn_head.anchor_deltas.", 0),
    (r"(?:roi_head\.)?bbox_head\.shared_fcs\.(\d)\.", r"roi_heads.box_head.fc{}.", 1),
    (r"(?:roi_head\.)?bbox_head\.fc_cls\.", r"roi_heads.box_predictor.cls_score.", 0),
    (r"(?:roi_head\.)?bbox_head\.fc_reg\.", r"roi_heads.box_predictor.bbox_pred.", 0),
    (r"(?:roi_head\.)?mask_head\.convs\.(\d)\.conv\.", r"roi_heads.mask_head.mask_fcn{}.", 1),
    (r"(?:roi_head\.)?mask_head\.upsample\.", r"roi_heads.mask_head.deconv.", 0),
    (r"(?:roi_head\.)?mask_head\.conv_logits\.", r"roi_heads.mask_head.predictor.", 0),
)
_RULES = (*rules(RESNET_ROWS, "backbone.", "backbone.bottom_up."), *rules(_ROWS))


def rename_mask_rcnn(key: str) -> str:
    """Detectron2's name for one of mmdetection's; a name that no rule fits stays as it is."""
    return rename(key, _RULES)


def background_last(key: str, value: torch.Tensor) -> torch.Tensor:
    """One tensor of a head of mmdetection before version 2, which has background first, in Detectron2's order.

    Background comes last among the classes, and has neither boxes nor masks. Other tensors pass as they are.
    """
    if key.startswith("bbox_head.fc_cls."):
        return torch.cat([value[1:], value[:1]])
    if key.startswith("bbox_head.fc_reg."):
        return value[4:]
    if key.startswith("mask_head.conv_logits."):
        return value[1:]
    return value
