"""Box and mask heads with the geometry of this folder."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.modeling.sampling import subsample_labels
from detectron2.structures import Instances

from vis_core.modeling.mmdet import ClampedBox2BoxTransform, MMDetROIHeads
from vis_core.modeling.mmdet_legacy.detections import LegacyOutputLayers
from vis_core.modeling.mmdet_legacy.mask_targets import PixelMasks
from vis_core.modeling.mmdet_legacy.pooler import LegacyROIPooler


@ROI_HEADS_REGISTRY.register()
class LegacyROIHeads(MMDetROIHeads):
    """:class:`MMDetROIHeads` with :class:`LegacyROIPooler`, :class:`LegacyOutputLayers` and :class:`PixelMasks`.

    Every object's own box is trained on, whatever else is drawn.
    """

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

    @torch.no_grad()
    def label_and_sample_proposals(self, proposals: list[Instances], targets: list[Instances]) -> list[Instances]:
        """As of StandardROIHeads."""
        chosen = super().label_and_sample_proposals(proposals, targets)
        for instances in chosen:
            if instances.has("gt_masks"):
                instances.gt_masks = PixelMasks(instances.gt_masks.tensor)
        return chosen

    def _sample_proposals(
        self, matches: torch.Tensor, labels: torch.Tensor, gt_classes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Indices of an image's chosen proposals, positives first, and their classes.

        Proposals drawn as usual, the objects' own boxes (they are the last proposals), and negatives up to the number
        that is asked for.
        """
        if len(gt_classes) == 0:
            return super()._sample_proposals(matches, labels, gt_classes)
        classes = gt_classes[matches].masked_fill(labels == 0, self.num_classes).masked_fill(labels == -1, -1)
        positive, negative = subsample_labels(
            classes, self.batch_size_per_image, self.positive_fraction, self.num_classes
        )
        if self.proposal_append_gt:
            own = torch.arange(len(classes) - len(gt_classes), len(classes), device=classes.device)
            own = own[(classes[own] >= 0) & (classes[own] < self.num_classes)]
            own = own[(own[:, None] != positive).all(dim=1)]
            positive = torch.cat([positive, own])
            negative = negative[: max(self.batch_size_per_image - len(positive), 0)]
        chosen = torch.cat([positive, negative])
        return chosen, classes[chosen]


def build_legacy_pooler(cfg: CfgNode, node: CfgNode, input_shape: dict) -> LegacyROIPooler:
    """The pooler of a head whose POOLER_* keys stand in ``node``, over ROI_HEADS.IN_FEATURES."""
    scales = tuple(1.0 / input_shape[name].stride for name in cfg.MODEL.ROI_HEADS.IN_FEATURES)
    return LegacyROIPooler(node.POOLER_RESOLUTION, scales, node.POOLER_SAMPLING_RATIO, cfg.MODEL.ROI_HEADS.FINEST_SCALE)
