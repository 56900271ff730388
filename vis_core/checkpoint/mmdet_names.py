"""mmdetection's names of the parts of Mask R-CNN in terms of Detectron2's."""

from __future__ import annotations

import re

import torch

from vis_core.checkpoint.resnet_names import rename_resnet

# (pattern, replacement), tried in order; the first that fits is used.
_RULES = (
    (r"neck\.lateral_convs\.(\d)\.conv\.", r"backbone.fpn_lateral{0}."),
    (r"neck\.fpn_convs\.(\d)\.conv\.", r"backbone.fpn_output{0}."),
    (r"rpn_head\.rpn_conv\.", r"proposal_generator.rpn_head.conv."),
    (r"rpn_head\.rpn_cls\.", r"proposal_generator.rpn_head.objectness_logits."),
    (r"rpn_head\.rpn_reg\.", r"proposal_generator.rpn_head.anchor_deltas."),
    (r"(?:roi_head\.)?bbox_head\.shared_fcs\.(\d)\.", r"roi_heads.box_head.fc{1}."),
    (r"(?:roi_head\.)?bbox_head\.fc_cls\.", r"roi_heads.box_predictor.cls_score."),
    (r"(?:roi_head\.)?bbox_head\.fc_reg\.", r"roi_heads.box_predictor.bbox_pred."),
    (r"(?:roi_head\.)?mask_head\.convs\.(\d)\.conv\.", r"roi_heads.mask_head.mask_fcn{1}."),
    (r"(?:roi_head\.)?mask_head\.upsample\.", r"roi_heads.mask_head.deconv."),
    (r"(?:roi_head\.)?mask_head\.conv_logits\.", r"roi_heads.mask_head.predictor."),
)
# What {0} and {1} add to the pattern's first group: FPN levels count from 2, heads' layers from 1.
_OFFSETS = (2, 1)
_COMPILED = tuple((re.compile(pattern), replacement) for pattern, replacement in _RULES)


def rename_mask_rcnn(key: str) -> str:
    """Detectron2's name for one of mmdetection's; a name that no rule fits stays as it is."""
    prefix, _, rest = key.partition(".")
    if prefix == "backbone" and rename_resnet(rest) != rest:
        return f"backbone.bottom_up.{rename_resnet(rest)}"
    for pattern, replacement in _COMPILED:
        found = pattern.match(key)
        if found:
            shifted = [str(int(found[1]) + offset) for offset in _OFFSETS] if found.re.groups else []
            return found.expand(replacement.format(*shifted)) + key[found.end() :]
    return key


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
