"""Names of the published weights in terms of this model's.

Three families are recognised: mmtracking / mmdetection 3 (``detector.`` and ``track_head.`` in front), mmdetection's
Mask R-CNN on COCO (no prefix, 80 classes: its class-specific layers do not fit and stay fresh), and the authors' file
of 2019 (no prefix, background first; it was trained with another box geometry and loads with degraded accuracy).
"""

from __future__ import annotations

import re
from collections.abc import Collection

import torch

from vis_core.checkpoint import register_converter

StateDict = dict[str, torch.Tensor]

# (pattern, replacement), tried in order on the name without "detector."; the first that fits is used.
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
    (r"track_head\.(?:embed_head\.)?fcs\.(\d)\.", r"track_head.fc{2}."),
)
# What {0}, {1} and {2} add to the pattern's first group: layer1 is res2, FPN levels count from 2, heads' layers from 1.
_OFFSETS = (1, 2, 1)
_COMPILED = tuple((re.compile(pattern), replacement) for pattern, replacement in _RULES)


def is_mmtracking(keys: Collection[str]) -> bool:
    """Whether these are the keys of a released MaskTrack R-CNN of mmtracking 0.x or mmdetection 3."""
    return {"detector.rpn_head.rpn_conv.weight", "track_head.embed_head.fcs.0.weight"} <= set(keys)


def is_mmdet_mask_rcnn(keys: Collection[str]) -> bool:
    """Whether these are the keys of an mmdetection 2 or 3 Mask R-CNN without tracking."""
    wanted = {"rpn_head.rpn_conv.weight", "roi_head.bbox_head.fc_cls.weight", "roi_head.mask_head.conv_logits.weight"}
    return wanted <= set(keys)


def is_original(keys: Collection[str]) -> bool:
    """Whether these are the keys of the authors' model of 2019."""
    return {"rpn_head.rpn_conv.weight", "bbox_head.fc_cls.weight", "track_head.fcs.0.weight"} <= set(keys)


def matches(keys: Collection[str]) -> bool:
    """Whether :func:`convert` knows this family of files."""
    return is_mmtracking(keys) or is_mmdet_mask_rcnn(keys) or is_original(keys)


def convert(state_dict: StateDict) -> StateDict:
    """Rename all tensors; values are passed on as they are, except for the background's place in the 2019 file.

    ``num_batches_tracked`` is dropped: the normalisation layers keep their statistics. A name that no rule fits is
    passed on unchanged, so that loading reports it.
    """
    background_first = is_original(state_dict)
    out = {}
    for key, value in state_dict.items():
        if key.endswith("num_batches_tracked"):
            continue
        out[rename(key)] = _background_last(key, value) if background_first else value
    return out


def rename(key: str) -> str:
    """This model's name for one published name."""
    short = key.removeprefix("detector.")
    for pattern, replacement in _COMPILED:
        found = pattern.match(short)
        if found:
            shifted = [str(int(found[1]) + offset) for offset in _OFFSETS] if found.re.groups else []
            return found.expand(replacement.format(*shifted)) + short[found.end() :]
    return key


def _background_last(key: str, value: torch.Tensor) -> torch.Tensor:
    """A 2019 head's rows, background first, in this model's order: background last, and none in boxes and masks."""
    if key.startswith("bbox_head.fc_cls."):
        return torch.cat([value[1:], value[:1]])
    if key.startswith("bbox_head.fc_reg."):
        return value[4:]
    if key.startswith("mask_head.conv_logits."):
        return value[1:]
    return value


register_converter("mmtracking / mmdetection 3 MaskTrack R-CNN", is_mmtracking, convert)
register_converter("mmdetection Mask R-CNN", is_mmdet_mask_rcnn, convert)
register_converter("MaskTrack R-CNN of 2019", is_original, convert)
