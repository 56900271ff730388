"""Masks inside boxes (Mask R-CNN, He et al., ICCV 2017)."""

from abc import ABCMeta, abstractmethod

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import Conv2d, ConvTranspose2d, ShapeSpec, cat, get_norm
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage
from detectron2.utils.registry import Registry
from fvcore.nn.weight_init import c2_msra_fill
from torch import nn

ROI_MASK_HEAD_REGISTRY = Registry("ROI_MASK_HEAD")
ROI_MASK_HEAD_REGISTRY.__doc__ = (
    "Callables ``(cfg, input_shape: ShapeSpec) -> module``; the module maps (pooled features, instances) to losses in "
    "training and to instances with ``pred_masks`` otherwise."
)


def build_mask_head(cfg, input_shape: ShapeSpec):
    """Build the head that ``cfg.MODEL.ROI_MASK_HEAD.NAME`` names."""
    return ROI_MASK_HEAD_REGISTRY.get(cfg.MODEL.ROI_MASK_HEAD.NAME)(cfg, input_shape)


def _logits_of_class(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """(R, K, S, S) and (R,) -> (R, S, S); the only map there is where K = 1."""
    if logits.shape[1] == 1:
        return logits[:, 0]
    return logits[torch.arange(len(logits), device=logits.device), classes]


def mask_rcnn_loss(pred_mask_logits: torch.Tensor, instances: list[Instances], vis_period: int = 0) -> torch.Tensor:
    """Mean binary cross entropy of the masks of each box's own class.

    Args:
        pred_mask_logits: (R, K, S, S), or (R, 1, S, S) for all classes, of all images' boxes together.
        instances: with ``proposal_boxes``, ``gt_classes`` and ``gt_masks``; targets are the masks cropped to the
            boxes and resized to S x S.
        vis_period: > 0: predictions and targets become an image in the event storage every so many iterations.
    """
    side = pred_mask_logits.shape[-1]
    assert pred_mask_logits.shape[-2] == side, f"masks must be square, got {tuple(pred_mask_logits.shape)}"
    instances = [x for x in instances if len(x) > 0]
    if not instances:
        return pred_mask_logits.sum() * 0
    targets = cat(
        [x.gt_masks.crop_and_resize(x.proposal_boxes.tensor, side).to(pred_mask_logits.device) for x in instances]
    )  # (R, S, S) bool
    logits = _logits_of_class(pred_mask_logits, cat([x.gt_classes for x in instances]).to(torch.int64))
    _log_masks(logits.detach(), targets, vis_period)
    return F.binary_cross_entropy_with_logits(logits, targets.to(torch.float32), reduction="mean")


def _log_masks(logits: torch.Tensor, targets: torch.Tensor, vis_period: int) -> None:
    """Put pixel accuracy and error rates of (R, S, S) logits against bool targets into the event storage."""
    wrong = (logits > 0.0) != targets
    num_pixels, num_positive = targets.numel(), targets.sum().item()
    num_wrong, num_missed = wrong.sum().item(), (wrong & targets).sum().item()
    storage = get_event_storage()
    storage.put_scalar("mask_rcnn/accuracy", 1 - num_wrong / max(num_pixels, 1.0))
    storage.put_scalar("mask_rcnn/false_positive", (num_wrong - num_missed) / max(num_pixels - num_positive, 1.0))
    storage.put_scalar("mask_rcnn/false_negative", num_missed / max(num_positive, 1.0))
    if vis_period > 0 and storage.iter % vis_period == 0:
        pairs = torch.cat([logits.sigmoid(), targets.to(logits.dtype)], dim=2)  # (R, S, 2S)
        for i, pair in enumerate(pairs):
            storage.put_image(f"Left: mask prediction;   Right: mask GT ({i})", pair.expand(3, -1, -1))


def mask_rcnn_inference(pred_mask_logits: torch.Tensor, pred_instances: list[Instances]) -> None:
    """Set ``pred_masks``, (R, 1, S, S) probabilities of the predicted class, on each image's instances.

    ``pred_mask_logits`` is (sum of R, K, S, S), or (sum of R, 1, S, S) for all classes.
    """
    classes = cat([x.pred_classes for x in pred_instances])
    masks = _logits_of_class(pred_mask_logits, classes)[:, None].sigmoid()
    for instances, own in zip(pred_instances, masks.split([len(x) for x in pred_instances])):
        instances.pred_masks = own


class BaseMaskRCNNHead(nn.Module, metaclass=ABCMeta):
    """Mask loss and mask inference around a network that a subclass supplies as :meth:`layers`.

    Args:
        loss_weight: factor of ``loss_mask``.
        vis_period: see :func:`mask_rcnn_loss`.
    """

    @configurable
    def __init__(self, *, loss_weight: float = 1.0, vis_period: int = 0):
        super().__init__()
        self.loss_weight = loss_weight
        self.vis_period = vis_period

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec):
        return {"vis_period": cfg.VIS_PERIOD}

    def forward(self, x: torch.Tensor, instances: list[Instances]):
        """Pooled (R, C, S, S) -> {"loss_mask": ...} in training, otherwise ``instances`` with ``pred_masks``."""
        logits = self.layers(x)
        if self.training:
            return {"loss_mask": mask_rcnn_loss(logits, instances, self.vis_period) * self.loss_weight}
        mask_rcnn_inference(logits, instances)
        return instances

    @abstractmethod
    def layers(self, x: torch.Tensor) -> torch.Tensor:
        """(R, C, S, S) features -> (R, K or 1, S', S') mask logits."""


@ROI_MASK_HEAD_REGISTRY.register()
class MaskRCNNConvUpsampleHead(BaseMaskRCNNHead, nn.Sequential):
    """3x3 convolutions, a 2x2 deconvolution that doubles the size, a 1x1 convolution to one logit a class.

    Args:
        input_shape: channels of the pooled features.
        num_classes: K, or 1 for one mask for all classes.
        conv_dims: output channels of each convolution, and at last of the deconvolution.
        conv_norm: norm behind each convolution; a convolution has a bias only without one.
    """

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, num_classes: int, conv_dims: list[int], conv_norm="", **kwargs):
        super().__init__(**kwargs)
        assert conv_dims, "conv_dims needs at least the deconvolution's channels"
        channels = input_shape.channels
        to_fill = []
        for i, dim in enumerate(conv_dims[:-1], start=1):
            conv = Conv2d(
                channels,
                dim,
                kernel_size=3,
                padding=1,
                bias=not conv_norm,
                norm=get_norm(conv_norm, dim),
                activation=nn.ReLU(),
            )
            self.add_module(f"mask_fcn{i}", conv)
            to_fill.append(conv)
            channels = dim
        self.deconv = ConvTranspose2d(channels, conv_dims[-1], kernel_size=2, stride=2)
        self.deconv_relu = nn.ReLU()
        self.predictor = Conv2d(conv_dims[-1], num_classes, kernel_size=1)
        for layer in (*to_fill, self.deconv):
            c2_msra_fill(layer)
        nn.init.normal_(self.predictor.weight, std=0.001)
        nn.init.zeros_(self.predictor.bias)

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec):
        head = cfg.MODEL.ROI_MASK_HEAD
        return super().from_config(cfg, input_shape) | {
            "input_shape": input_shape,
            "num_classes": 1 if head.CLS_AGNOSTIC_MASK else cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "conv_dims": [head.CONV_DIM] * (head.NUM_CONV + 1),
            "conv_norm": head.NORM,
        }

    def layers(self, x):
        for layer in self:
            x = layer(x)
        return x
