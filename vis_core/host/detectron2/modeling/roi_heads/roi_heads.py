"""Per-region heads: sampling of proposals for training, and the box and mask branches."""

from abc import ABCMeta, abstractmethod

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec, nonzero_tuple
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou
from detectron2.utils.events import get_event_storage
from detectron2.utils.registry import Registry
from torch import nn

from ..matcher import Matcher
from ..poolers import ROIPooler
from ..proposal_generator.proposal_utils import add_ground_truth_to_proposals
from ..sampling import subsample_labels
from .box_head import build_box_head
from .fast_rcnn import FastRCNNOutputLayers
from .mask_head import build_mask_head

ROI_HEADS_REGISTRY = Registry("ROI_HEADS")
ROI_HEADS_REGISTRY.__doc__ = (
    "Callables ``(cfg, input_shape: {name: ShapeSpec}) -> module``; the module maps "
    "``(images, features, proposals, targets)`` to (instances, losses)."
)


def build_roi_heads(cfg, input_shape: dict[str, ShapeSpec]):
    """Build the heads that ``cfg.MODEL.ROI_HEADS.NAME`` names."""
    return ROI_HEADS_REGISTRY.get(cfg.MODEL.ROI_HEADS.NAME)(cfg, input_shape)


def select_foreground_proposals(
    proposals: list[Instances], bg_label: int
) -> tuple[list[Instances], list[torch.Tensor]]:
    """Each image's proposals whose ``gt_classes`` is neither ``bg_label`` nor -1, and the bool mask that picks them."""
    masks = [(p.gt_classes != -1) & (p.gt_classes != bg_label) for p in proposals]
    return [p[nonzero_tuple(mask)[0]] for p, mask in zip(proposals, masks)], masks


class ROIHeads(nn.Module, metaclass=ABCMeta):
    """Labels and samples proposals for training; subclasses add the heads.

    Args:
        num_classes: foreground classes; this number itself is the background class.
        batch_size_per_image, positive_fraction: proposals of an image to train on, and the share of foreground at
            most.
        proposal_matcher: assigns proposals to ground truth by IoU.
        proposal_append_gt: adds the ground-truth boxes to the proposals before sampling.
    """

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        batch_size_per_image: int,
        positive_fraction: float,
        proposal_matcher: Matcher,
        proposal_append_gt: bool = True,
    ):
        super().__init__()
        self.num_classes = num_classes
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        self.proposal_matcher = proposal_matcher
        self.proposal_append_gt = proposal_append_gt

    @classmethod
    def from_config(cls, cfg):
        heads = cfg.MODEL.ROI_HEADS
        return {
            "num_classes": heads.NUM_CLASSES,
            "batch_size_per_image": heads.BATCH_SIZE_PER_IMAGE,
            "positive_fraction": heads.POSITIVE_FRACTION,
            "proposal_matcher": Matcher(heads.IOU_THRESHOLDS, heads.IOU_LABELS, allow_low_quality_matches=False),
            "proposal_append_gt": heads.PROPOSAL_APPEND_GT,
        }

    @torch.no_grad()
    def label_and_sample_proposals(self, proposals: list[Instances], targets: list[Instances]) -> list[Instances]:
        """Choose the proposals of each image to train on, foreground first.

        Args:
            proposals: with ``proposal_boxes`` and ``objectness_logits``.
            targets: with ``gt_boxes``, ``gt_classes`` and any further ``gt_*`` fields.

        Returns the chosen proposals with ``gt_classes`` (``num_classes`` is background, -1 ignored) and, in images
        that have objects, every ``gt_*`` field of the object each proposal overlaps most (meaningless for background).
        """
        if self.proposal_append_gt:
            proposals = add_ground_truth_to_proposals(targets, proposals)
        chosen = []
        num_fg = num_bg = 0
        for image_proposals, image_targets in zip(proposals, targets):
            iou = pairwise_iou(image_targets.gt_boxes, image_proposals.proposal_boxes)
            matches, labels = self.proposal_matcher(iou)
            sampled, gt_classes = self._sample_proposals(matches, labels, image_targets.gt_classes)
            picked = image_proposals[sampled]
            picked.gt_classes = gt_classes
            if len(image_targets) > 0:
                objects = matches[sampled]
                for name, value in image_targets.get_fields().items():
                    if name.startswith("gt_") and not picked.has(name):
                        picked.set(name, value[objects])
            background = int((gt_classes == self.num_classes).sum())
            num_bg += background
            num_fg += gt_classes.numel() - background
            chosen.append(picked)
        storage = get_event_storage()
        storage.put_scalar("roi_head/num_fg_samples", num_fg / len(targets))
        storage.put_scalar("roi_head/num_bg_samples", num_bg / len(targets))
        return chosen

    def _sample_proposals(
        self, matches: torch.Tensor, labels: torch.Tensor, gt_classes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """From a matcher's (R,) answers and the objects' classes: chosen indices, foreground first, and classes."""
        if gt_classes.numel() > 0:
            classes = gt_classes[matches]
            classes[labels == 0] = self.num_classes
            classes[labels == -1] = -1
        else:
            classes = torch.full_like(matches, self.num_classes)
        sampled = torch.cat(
            subsample_labels(classes, self.batch_size_per_image, self.positive_fraction, self.num_classes)
        )
        return sampled, classes[sampled]

    @abstractmethod
    def forward(
        self,
        images: ImageList,
        features: dict[str, torch.Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, torch.Tensor]]:
        """(sampled proposals, losses) in training, (detections, {}) otherwise."""


def _pooler_and_shape(cfg_head, in_features, input_shape) -> tuple[ROIPooler, ShapeSpec]:
    """Pooler by a head's POOLER_* keys over the named maps, and the shape it gives to one box."""
    channels = {input_shape[name].channels for name in in_features}
    assert len(channels) == 1, f"the levels of the ROI heads have different channels: {sorted(channels)}"
    side = cfg_head.POOLER_RESOLUTION
    pooler = ROIPooler(
        output_size=side,
        scales=[1.0 / input_shape[name].stride for name in in_features],
        sampling_ratio=cfg_head.POOLER_SAMPLING_RATIO,
        pooler_type=cfg_head.POOLER_TYPE,
    )
    return pooler, ShapeSpec(channels=channels.pop(), height=side, width=side)


@ROI_HEADS_REGISTRY.register()
class StandardROIHeads(ROIHeads):
    """A box head and, where given, a mask head, each with features pooled of its own.

    Args:
        box_in_features, mask_in_features: names of the maps to pool from, finest first.
        box_pooler, mask_pooler: make (R, C, S, S) features of boxes; without ``mask_pooler`` the mask head gets the
            maps themselves.
        box_head: maps pooled features to what ``box_predictor`` takes.
        box_predictor: a :class:`FastRCNNOutputLayers` or its like.
        mask_head: a :class:`BaseMaskRCNNHead` or its like.
        train_on_pred_boxes: trains the mask head on the box branch's predictions instead of the proposals.
    """

    @configurable
    def __init__(
        self,
        *,
        box_in_features: list[str],
        box_pooler: ROIPooler,
        box_head: nn.Module,
        box_predictor: nn.Module,
        mask_in_features: list[str] | None = None,
        mask_pooler: ROIPooler | None = None,
        mask_head: nn.Module | None = None,
        train_on_pred_boxes: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.in_features = self.box_in_features = box_in_features
        self.box_pooler = box_pooler
        self.box_head = box_head
        self.box_predictor = box_predictor
        self.mask_on = mask_in_features is not None
        if self.mask_on:
            self.mask_in_features = mask_in_features
            self.mask_pooler = mask_pooler
            self.mask_head = mask_head
        self.train_on_pred_boxes = train_on_pred_boxes

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]):
        if cfg.MODEL.KEYPOINT_ON:
            raise NotImplementedError("MODEL.KEYPOINT_ON needs the official detectron2 package")
        return (
            super().from_config(cfg)
            | {"train_on_pred_boxes": cfg.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES}
            | cls._init_box_head(cfg, input_shape)
            | cls._init_mask_head(cfg, input_shape)
        )

    @classmethod
    def _init_box_head(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        pooler, shape = _pooler_and_shape(cfg.MODEL.ROI_BOX_HEAD, in_features, input_shape)
        head = build_box_head(cfg, shape)
        return {
            "box_in_features": in_features,
            "box_pooler": pooler,
            "box_head": head,
            "box_predictor": FastRCNNOutputLayers(cfg, head.output_shape),
        }

    @classmethod
    def _init_mask_head(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        if not cfg.MODEL.MASK_ON:
            return {}
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        pooler, shape = _pooler_and_shape(cfg.MODEL.ROI_MASK_HEAD, in_features, input_shape)
        return {"mask_in_features": in_features, "mask_pooler": pooler, "mask_head": build_mask_head(cfg, shape)}

    def forward(self, images, features, proposals, targets=None):
        """See :meth:`ROIHeads.forward`; ``images`` is not read. Losses are those of the box and the mask head."""
        if self.training:
            assert targets is not None, "ROI heads need targets in training"
            proposals = self.label_and_sample_proposals(proposals, targets)
            losses = self._forward_box(features, proposals)
            losses.update(self._forward_mask(features, proposals))
            return proposals, losses
        instances = self._forward_box(features, proposals)
        return self.forward_with_given_boxes(features, instances), {}

    def forward_with_given_boxes(
        self, features: dict[str, torch.Tensor], instances: list[Instances]
    ) -> list[Instances]:
        """Add to instances with ``pred_boxes`` and ``pred_classes`` what the heads behind the box head predict."""
        assert not self.training, "forward_with_given_boxes is for inference"
        assert instances[0].has("pred_boxes") and instances[0].has("pred_classes"), "instances lack boxes or classes"
        return self._forward_mask(features, instances)

    def _forward_box(self, features: dict[str, torch.Tensor], proposals: list[Instances]):
        """Losses in training, detections otherwise."""
        maps = [features[name] for name in self.box_in_features]
        pooled = self.box_pooler(maps, [p.proposal_boxes for p in proposals])  # (R, C, S, S)
        predictions = self.box_predictor(self.box_head(pooled))
        if not self.training:
            return self.box_predictor.inference(predictions, proposals)[0]
        losses = self.box_predictor.losses(predictions, proposals)
        if self.train_on_pred_boxes:
            with torch.no_grad():
                predicted = self.box_predictor.predict_boxes_for_gt_classes(predictions, proposals)
            for image_proposals, boxes in zip(proposals, predicted):
                image_proposals.proposal_boxes = Boxes(boxes)
        return losses

    def _forward_mask(self, features: dict[str, torch.Tensor], instances: list[Instances]):
        """Losses on the foreground proposals in training, instances with ``pred_masks`` otherwise."""
        if not self.mask_on:
            return {} if self.training else instances
        if self.training:
            instances, _ = select_foreground_proposals(instances, self.num_classes)
        maps = {name: features[name] for name in self.mask_in_features}
        if self.mask_pooler is not None:
            boxes = [x.proposal_boxes if self.training else x.pred_boxes for x in instances]
            maps = self.mask_pooler(list(maps.values()), boxes)
        return self.mask_head(maps, instances)
