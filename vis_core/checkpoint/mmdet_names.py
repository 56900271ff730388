"""mmdetection's names of the parts of Mask R-CNN in terms of Detectron2's."""

from __future__ import annotations

import re

import torch

# (pattern, replacement), tried in order; the first that fits is used.
_RULES = (
    (r"backbone\.conv1\.", r"backbone.bottom_up.stem.conv1."),
    (r"backbone\.bn1\.", r"backbone.bottom_up.stem.conv1.norm."),
    (r"backbone\.layer(\d)\.(\d+)\.conv(\d)\.", r"backbone.bottom_up.res{0}.\2.conv\3."),
    (r"backbone\.layer(\d)\.(\d+)\.bn(\d)\.", r"backbone.bottom_up.res{0}.\2.conv\3.norm."),
    (r"backbone\.layer(\d)\.(\d+)\.downsample\.0\.", r"backbone.bottom_up.res{0}.\2.shortcut."),
    (r"backbone\.layer(\d)\.(\d+)\.downsample\.1\.", r"backbone.bottom_up.res{0}.\2.shortcut.norm."),
    (r"neck\.lateral_convs\.(\d)\.conv\.", r"backbone.fpn_lateral{1}."),
    (r"neck\.fpn_convs\.(\d)\.conv\.", r"backbone.fpn_output{1}."),
    (r"rpn_head\.rpn_conv\.", r"proposal_generator.rpn_head.conv."),
    (r"rpn_head\.rpn_cls\.", r"proposal_generator.rpn_head.objectness_logits."),
    (r"rpn_head\.rpn_reg\.", r"proposal_generator.rpn_head.anchor_deltas."),
    (r"(?:roi_head\.)?bbox_head\.shared_fcs\.(\d)\.", r"roi_heads.box_head.fc{2}."),
    (r"(?:roi_head\.)?bbox_head\.fc_cls\.", r"roi_heads.box_predictor.cls_score."),
    (r"(?:roi_head\.)?bbox_head\.fc_reg\.", r"roi_heads.box_predictor.bbox_pred."),
    (r"(?:roi_head\.)?mask_head\.convs\.(\d)\.conv\.", r"roi_heads.mask_head.mask_fcn{2}."),
    (r"(?:roi_head\.)?mask_head\.upsample\.", r"roi_heads.mask_head.deconv."),
    (r"(?:roi_head\.)?mask_head\.conv_logits\.", r"roi_heads.mask_head.predictor."),
)
# What {0}, {1} and {2} add to the pattern's first group: layer1 is res2, FPN levels count from 2, heads' layers from 1.
_OFFSETS = (1, 2, 1)
_COMPILED = tuple((re.compile(pattern), replacement) for pattern, replacement in _RULES)


def rename_mask_rcnn(key: str) -> str:
    """Detectron2's name for one of mmdetection's; a name that no rule fits stays as it is."""
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
