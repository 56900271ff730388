"""Names of the published weights in terms of this model's.

Two families are recognised: the released Seq Mask R-CNN files (finetuned or main stage), and Mask R-CNN files of
mmdetection before version 2, whose geometry this model has, as a start of the main stage.
"""

from __future__ import annotations

from collections.abc import Collection

import torch

from vis_core.checkpoint import background_last, register_converter, rename_mask_rcnn

StateDict = dict[str, torch.Tensor]

_DETECTOR = {"rpn_head.rpn_conv.weight", "bbox_head.fc_cls.weight", "mask_head.conv_logits.weight"}
# A second mask head that the released model carries and never runs.
_UNUSED = ("prop_head.convs.", "prop_head.upsample.", "prop_head.conv_logits.")


def is_released(keys: Collection[str]) -> bool:
    """Whether these are the keys of a released Seq Mask R-CNN, with or without ``module.`` in front."""
    return {*_DETECTOR, "prop_head.enc_pos.weight"} <= {key.removeprefix("module.") for key in keys}


def is_mmdet_1(keys: Collection[str]) -> bool:
    """Whether these are the keys of a Mask R-CNN of mmdetection before version 2."""
    keys = {key.removeprefix("module.") for key in keys}
    return keys >= _DETECTOR and not any(key.startswith(("prop_head.", "track_head.")) for key in keys)


def convert(state_dict: StateDict) -> StateDict:
    """Rename all tensors and bring the heads' rows into this model's order; the propagation head keeps its names.

    What the released model never uses is dropped, and so is ``num_batches_tracked``: statistics are not updated. A name
    that no rule fits is passed on unchanged, so that loading reports it.
    """
    out = {}
    for key, value in state_dict.items():
        key = key.removeprefix("module.")
        if not key.endswith("num_batches_tracked") and not key.startswith(_UNUSED):
            out[rename_mask_rcnn(key)] = background_last(key, value)
    return out


register_converter("Seq Mask R-CNN", is_released, convert)
register_converter("mmdetection 1 Mask R-CNN", is_mmdet_1, convert)
