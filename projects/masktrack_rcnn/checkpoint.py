"""Names of the published weights in terms of this model's.

Three families are recognised: mmtracking / mmdetection 3 (``detector.`` and ``track_head.`` in front), mmdetection's
Mask R-CNN on COCO (no prefix, 80 classes: its class-specific layers do not fit and stay fresh), and the authors' file
of 2019 (no prefix, background first; it was trained with another box geometry and loads with degraded accuracy).
"""

from __future__ import annotations

import re
from collections.abc import Collection

import torch

from vis_core.checkpoint import background_last, register_converter, rename_mask_rcnn

StateDict = dict[str, torch.Tensor]

_TRACK_HEAD = re.compile(r"track_head\.(?:embed_head\.)?fcs\.(\d)\.")


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
        out[rename(key)] = background_last(key, value) if background_first else value
    return out


def rename(key: str) -> str:
    """This model's name for one published name."""
    found = _TRACK_HEAD.match(key)
    if found:
        return f"track_head.fc{int(found[1]) + 1}.{key[found.end() :]}"
    return rename_mask_rcnn(key.removeprefix("detector."))


register_converter("mmtracking / mmdetection 3 MaskTrack R-CNN", is_mmtracking, convert)
register_converter("mmdetection Mask R-CNN", is_mmdet_mask_rcnn, convert)
register_converter("MaskTrack R-CNN of 2019", is_original, convert)
