"""Box and mask heads with the geometry of this folder."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.modeling import ROI_HEADS_REGISTRY

from vis_core.modeling.mmdet import ClampedBox2BoxTransform, MMDetROIHeads
from vis_core.modeling.mmdet_legacy.detections import LegacyOutputLayers
from vis_core.modeling.mmdet_legacy.pooler import LegacyROIPooler


@ROI_HEADS_REGISTRY.register()
class LegacyROIHeads(MMDetROIHeads):
    """:class:`MMDetROIHeads` with :class:`LegacyROIPooler` and :class:`LegacyOutputLayers`."""

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict) -> dict:
        kwargs = super()._init_box_head(cfg, input_shape)
        node = cfg.MODEL.ROI_BOX_HEAD
        kwargs["box_pooler"] = build_legacy_pooler(cfg, node, input_shape)
        kwargs["box_predictor"] = LegacyOutputLayers(cfg, kwargs["box_head"].output_shape)
        kwargs["box_predictor"].box2box_transform = ClampedBox2BoxTransform(weights=node.BBOX_REG_WEIGHTS)
        return kwargs

    @classmethod
    def _init_mask_head(cls, cfg: CfgNode, input_shape: dict) -> dict:
        kwargs = super()._init_mask_head(cfg, input_shape)
        if kwargs:
            kwargs["mask_pooler"] = build_legacy_pooler(cfg, cfg.MODEL.ROI_MASK_HEAD, input_shape)
        return kwargs


def build_legacy_pooler(cfg: CfgNode, node: CfgNode, input_shape: dict) -> LegacyROIPooler:
    """The pooler of a head whose POOLER_* keys stand in ``node``, over ROI_HEADS.IN_FEATURES."""
    scales = tuple(1.0 / input_shape[name].stride for name in cfg.MODEL.ROI_HEADS.IN_FEATURES)
    return LegacyROIPooler(node.POOLER_RESOLUTION, scales, node.POOLER_SAMPLING_RATIO, cfg.MODEL.ROI_HEADS.FINEST_SCALE)
