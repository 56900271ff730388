"""Box and mask heads by mmdetection's rules."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.modeling import ROI_HEADS_REGISTRY, StandardROIHeads
from torch import nn

from vis_core.modeling.mmdet.box_coder import ClampedBox2BoxTransform
from vis_core.modeling.mmdet.matcher import LowQualityMatcher
from vis_core.modeling.mmdet.pooler import MMDetROIPooler


@ROI_HEADS_REGISTRY.register()
class MMDetROIHeads(StandardROIHeads):
    """Detectron2's heads with mmdetection's level rule, box bounds, matching and first values.

    An object claims the proposal that overlaps it most (from ``ROI_HEADS.IOU_THRESHOLDS[0]`` on) even from another
    object; the mask predictor starts from Kaiming's normal distribution instead of a narrow one.
    """

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict) -> dict:
        kwargs = super().from_config(cfg, input_shape)
        node = cfg.MODEL.ROI_HEADS
        kwargs["proposal_matcher"] = LowQualityMatcher(node.IOU_THRESHOLDS, node.IOU_LABELS, node.IOU_THRESHOLDS[0])
        return kwargs

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict) -> dict:
        kwargs = super()._init_box_head(cfg, input_shape)
        node = cfg.MODEL.ROI_BOX_HEAD
        kwargs["box_pooler"] = build_pooler(cfg, node, input_shape)
        kwargs["box_predictor"].box2box_transform = ClampedBox2BoxTransform(weights=node.BBOX_REG_WEIGHTS)
        return kwargs

    @classmethod
    def _init_mask_head(cls, cfg: CfgNode, input_shape: dict) -> dict:
        kwargs = super()._init_mask_head(cfg, input_shape)
        if kwargs:
            kwargs["mask_pooler"] = build_pooler(cfg, cfg.MODEL.ROI_MASK_HEAD, input_shape)
            nn.init.kaiming_normal_(kwargs["mask_head"].predictor.weight, mode="fan_out", nonlinearity="relu")
        return kwargs


def build_pooler(
    cfg: CfgNode, node: CfgNode, input_shape: dict, in_features: list[str] | None = None
) -> MMDetROIPooler:
    """The pooler of a head whose POOLER_* keys stand in ``node``, over ``in_features`` (ROI_HEADS.IN_FEATURES)."""
    in_features = in_features or cfg.MODEL.ROI_HEADS.IN_FEATURES
    scales = tuple(1.0 / input_shape[name].stride for name in in_features)
    return MMDetROIPooler(node.POOLER_RESOLUTION, scales, node.POOLER_SAMPLING_RATIO, cfg.MODEL.ROI_HEADS.FINEST_SCALE)
