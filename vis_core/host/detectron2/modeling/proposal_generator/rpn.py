"""Region proposal network (Ren et al., NeurIPS 2015) on feature pyramids."""

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec, cat
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou
from detectron2.utils.events import get_event_storage
from detectron2.utils.memory import retry_if_cuda_oom
from detectron2.utils.registry import Registry
from torch import nn

from ..anchor_generator import build_anchor_generator
from ..box_regression import Box2BoxTransform, box_regression_loss
from ..matcher import Matcher
from ..sampling import subsample_labels
from .build import PROPOSAL_GENERATOR_REGISTRY
from .proposal_utils import select_proposals

# Shapes below: N images, L levels, A anchors in a cell, R anchors of all levels together.

RPN_HEAD_REGISTRY = Registry("RPN_HEAD")
RPN_HEAD_REGISTRY.__doc__ = (
    "Callables ``(cfg, input_shape: list[ShapeSpec]) -> module``; the module maps L feature maps to L maps of "
    "objectness logits (N, A, H, W) and L maps of box deltas (N, A * 4, H, W)."
)


def build_rpn_head(cfg, input_shape: list[ShapeSpec]):
    """Build the head that ``cfg.MODEL.RPN.HEAD_NAME`` names."""
    return RPN_HEAD_REGISTRY.get(cfg.MODEL.RPN.HEAD_NAME)(cfg, input_shape)


@RPN_HEAD_REGISTRY.register()
class StandardRPNHead(nn.Module):
    """3x3 convolutions with ReLU, then two 1x1 convolutions for objectness and box deltas, shared by all levels.

    Args:
        in_channels: channels of every map.
        num_anchors: anchors in a cell, the same on every level.
        box_dim: numbers that describe a box.
        conv_dims: output channels of each 3x3 convolution; -1 keeps the number of channels.
    """

    @configurable
    def __init__(self, *, in_channels: int, num_anchors: int, box_dim: int = 4, conv_dims=(-1,)):
        super().__init__()
        convs = []
        for dim in conv_dims:
            assert dim == -1 or dim > 0, f"MODEL.RPN.CONV_DIMS has {dim}, expected -1 or a number of channels"
            out_channels = in_channels if dim == -1 else dim
            convs.append(Conv2d(in_channels, out_channels, kernel_size=3, padding=1, activation=nn.ReLU()))
            in_channels = out_channels
        if len(convs) == 1:
            self.conv = convs[0]
        else:
            self.conv = nn.Sequential()
            for i, conv in enumerate(convs):
                self.conv.add_module(f"conv{i}", conv)
        self.objectness_logits = nn.Conv2d(in_channels, num_anchors, kernel_size=1)
        self.anchor_deltas = nn.Conv2d(in_channels, num_anchors * box_dim, kernel_size=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)

    @classmethod
    def from_config(cls, cfg, input_shape: list[ShapeSpec]):
        channels = {shape.channels for shape in input_shape}
        assert len(channels) == 1, f"the levels of the RPN have different channels: {sorted(channels)}"
        anchor_generator = build_anchor_generator(cfg, input_shape)
        num_anchors = set(anchor_generator.num_anchors)
        assert len(num_anchors) == 1, f"the levels of the RPN have different numbers of anchors: {sorted(num_anchors)}"
        return {
            "in_channels": channels.pop(),
            "num_anchors": num_anchors.pop(),
            "box_dim": anchor_generator.box_dim,
            "conv_dims": cfg.MODEL.RPN.CONV_DIMS,
        }

    def forward(self, features: list[torch.Tensor]):
        """L maps (N, C, H, W) -> L maps (N, A, H, W) of logits and L maps (N, A * box_dim, H, W) of deltas."""
        hidden = [self.conv(x) for x in features]
        return [self.objectness_logits(x) for x in hidden], [self.anchor_deltas(x) for x in hidden]


@PROPOSAL_GENERATOR_REGISTRY.register()
class RPN(nn.Module):
    """Scores and refines anchors, and learns to do so.

    Args:
        in_features: names of the maps to use, one per level.
        head: maps features to logits and deltas.
        anchor_generator: maps features to one ``Boxes`` a level.
        anchor_matcher: assigns anchors to ground truth by IoU.
        box2box_transform: meaning of the deltas.
        batch_size_per_image, positive_fraction: anchors of an image in the loss, and the share of positives at most.
        pre_nms_topk, post_nms_topk: pairs (training, testing) of the candidates taken from a level and of the
            proposals kept for an image.
        nms_thresh: IoU above which the weaker of two proposals of one level goes.
        min_box_size: proposals whose sides do not exceed this (pixels) are dropped.
        anchor_boundary_thresh: >= 0: anchors that reach further out of the image (pixels) are ignored in the loss.
        loss_weight: for both losses, or a dict by loss name.
        box_reg_loss_type, smooth_l1_beta: see :func:`..box_regression.box_regression_loss`.
    """

    @configurable
    def __init__(
        self,
        *,
        in_features: list[str],
        head: nn.Module,
        anchor_generator: nn.Module,
        anchor_matcher: Matcher,
        box2box_transform: Box2BoxTransform,
        batch_size_per_image: int,
        positive_fraction: float,
        pre_nms_topk: tuple[int, int],
        post_nms_topk: tuple[int, int],
        nms_thresh: float = 0.7,
        min_box_size: float = 0.0,
        anchor_boundary_thresh: float = -1.0,
        loss_weight: float | dict[str, float] = 1.0,
        box_reg_loss_type: str = "smooth_l1",
        smooth_l1_beta: float = 0.0,
    ):
        super().__init__()
        self.in_features = in_features
        self.rpn_head = head
        self.anchor_generator = anchor_generator
        self.anchor_matcher = anchor_matcher
        self.box2box_transform = box2box_transform
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        self.pre_nms_topk = {True: pre_nms_topk[0], False: pre_nms_topk[1]}
        self.post_nms_topk = {True: post_nms_topk[0], False: post_nms_topk[1]}
        self.nms_thresh = nms_thresh
        self.min_box_size = float(min_box_size)
        self.anchor_boundary_thresh = anchor_boundary_thresh
        if not isinstance(loss_weight, dict):
            loss_weight = {"loss_rpn_cls": loss_weight, "loss_rpn_loc": loss_weight}
        self.loss_weight = loss_weight
        self.box_reg_loss_type = box_reg_loss_type
        self.smooth_l1_beta = smooth_l1_beta

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]):
        rpn = cfg.MODEL.RPN
        shapes = [input_shape[name] for name in rpn.IN_FEATURES]
        return {
            "in_features": rpn.IN_FEATURES,
            "anchor_generator": build_anchor_generator(cfg, shapes),
            "anchor_matcher": Matcher(rpn.IOU_THRESHOLDS, rpn.IOU_LABELS, allow_low_quality_matches=True),
            "head": build_rpn_head(cfg, shapes),
            "box2box_transform": Box2BoxTransform(weights=rpn.BBOX_REG_WEIGHTS),
            "batch_size_per_image": rpn.BATCH_SIZE_PER_IMAGE,
            "positive_fraction": rpn.POSITIVE_FRACTION,
            "pre_nms_topk": (rpn.PRE_NMS_TOPK_TRAIN, rpn.PRE_NMS_TOPK_TEST),
            "post_nms_topk": (rpn.POST_NMS_TOPK_TRAIN, rpn.POST_NMS_TOPK_TEST),
            "nms_thresh": rpn.NMS_THRESH,
            "min_box_size": cfg.MODEL.PROPOSAL_GENERATOR.MIN_SIZE,
            "anchor_boundary_thresh": rpn.BOUNDARY_THRESH,
            "loss_weight": {
                "loss_rpn_cls": rpn.LOSS_WEIGHT,
                "loss_rpn_loc": rpn.BBOX_REG_LOSS_WEIGHT * rpn.LOSS_WEIGHT,
            },
            "box_reg_loss_type": rpn.BBOX_REG_LOSS_TYPE,
            "smooth_l1_beta": rpn.SMOOTH_L1_BETA,
        }

    def forward(
        self, images: ImageList, features: dict[str, torch.Tensor], gt_instances: list[Instances] | None = None
    ) -> tuple[list[Instances], dict[str, torch.Tensor]]:
        """Proposals of N images and, in training, losses from ``gt_instances`` with ``gt_boxes``.

        Proposals have ``proposal_boxes`` and ``objectness_logits``, best first, and carry no gradient.
        Losses are ``loss_rpn_cls`` and ``loss_rpn_loc``; {} outside training.
        """
        maps = [features[name] for name in self.in_features]
        anchors = self.anchor_generator(maps)
        logit_maps, delta_maps = self.rpn_head(maps)
        logits = [x.permute(0, 2, 3, 1).flatten(1) for x in logit_maps]  # (N, H * W * A)
        box_dim = self.anchor_generator.box_dim
        deltas = [  # (N, A * 4, H, W) -> (N, H * W * A, 4)
            x.unflatten(1, (-1, box_dim)).permute(0, 3, 4, 1, 2).flatten(1, 3) for x in delta_maps
        ]
        losses = {}
        if self.training:
            assert gt_instances is not None, "the RPN needs gt_instances in training"
            labels, matched_boxes = self.label_and_sample_anchors(anchors, gt_instances)
            losses = self.losses(anchors, logits, labels, deltas, matched_boxes)
        return self.predict_proposals(anchors, logits, deltas, images.image_sizes), losses

    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Choose the anchors of each image's loss.

        Returns for each image labels (R,) int8: 1 positive, 0 negative, -1 not in the loss; and (R, 4) the
        ground-truth box each anchor belongs to (zeros in an image without objects).
        """
        anchors = Boxes.cat(anchors)
        all_labels, all_boxes = [], []
        for gt in gt_instances:
            iou = retry_if_cuda_oom(pairwise_iou)(gt.gt_boxes, anchors)
            matches, labels = retry_if_cuda_oom(self.anchor_matcher)(iou)
            labels = labels.to(anchors.device)
            if self.anchor_boundary_thresh >= 0:
                labels[~anchors.inside_box(gt.image_size, self.anchor_boundary_thresh)] = -1
            positive, negative = subsample_labels(labels, self.batch_size_per_image, self.positive_fraction, 0)
            labels = torch.full_like(labels, -1)
            labels[positive] = 1
            labels[negative] = 0
            all_labels.append(labels)
            has_gt = len(gt) > 0
            all_boxes.append(gt.gt_boxes[matches].tensor if has_gt else torch.zeros_like(anchors.tensor))
        return all_labels, all_boxes

    def losses(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[torch.Tensor],
        gt_labels: list[torch.Tensor],
        pred_anchor_deltas: list[torch.Tensor],
        gt_boxes: list[torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """Weighted losses of N images, each a sum over anchors divided by N * batch_size_per_image.

        Args:
            anchors: one ``Boxes`` a level.
            pred_objectness_logits, pred_anchor_deltas: for each level (N, R_level) and (N, R_level, 4).
            gt_labels, gt_boxes: as :meth:`label_and_sample_anchors` returns them.
        """
        num_images = len(gt_labels)
        labels = torch.stack(gt_labels)  # (N, R)
        positive = labels == 1
        sampled = labels >= 0
        num_positive = int(positive.sum())
        storage = get_event_storage()
        storage.put_scalar("rpn/num_pos_anchors", num_positive / num_images)
        storage.put_scalar("rpn/num_neg_anchors", (int(sampled.sum()) - num_positive) / num_images)

        source = Boxes.cat(anchors).tensor.expand(num_images, -1, -1)[positive]
        localization = box_regression_loss(
            cat(pred_anchor_deltas, dim=1)[positive],
            source,
            torch.stack(gt_boxes)[positive],
            self.box2box_transform,
            self.box_reg_loss_type,
            self.smooth_l1_beta,
        )
        objectness = F.binary_cross_entropy_with_logits(
            cat(pred_objectness_logits, dim=1)[sampled], labels[sampled].to(torch.float32), reduction="sum"
        )
        normalizer = self.batch_size_per_image * num_images
        losses = {"loss_rpn_cls": objectness / normalizer, "loss_rpn_loc": localization / normalizer}
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in losses.items()}

    @torch.no_grad()
    def predict_proposals(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[torch.Tensor],
        pred_anchor_deltas: list[torch.Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """Best proposals of every image; arguments as in :meth:`losses`, sizes as (height, width)."""
        top_boxes, top_logits = [], []
        for level_anchors, logits, deltas in zip(anchors, pred_objectness_logits, pred_anchor_deltas):
            # The best are chosen before decoding: thousands of anchors need no box.
            values, indices = logits.topk(min(self.pre_nms_topk[self.training], logits.shape[1]), dim=1)  # (N, k)
            best_deltas = deltas.gather(1, indices[..., None].expand(-1, -1, deltas.shape[-1]))
            best_anchors = level_anchors.tensor[indices.flatten()]  # (N * k, 4)
            boxes = self.box2box_transform.apply_deltas(best_deltas.flatten(0, 1), best_anchors)
            top_boxes.append(boxes.view(*indices.shape, 4))
            top_logits.append(values)
        return select_proposals(
            top_boxes,
            top_logits,
            image_sizes,
            self.nms_thresh,
            self.post_nms_topk[self.training],
            self.min_box_size,
            self.training,
        )
