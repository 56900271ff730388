"""Pieces that more than one method uses. Importing the package registers its backbones, RPN and ROI heads."""

from vis_core.modeling.mmdet import MMDetROIHeads, MMDetRPN
from vis_core.modeling.norm import FrozenStatsBatchNorm2d, freeze_bn_statistics
from vis_core.modeling.small_resnet import build_small_resnet_backbone, build_small_resnet_fpn_backbone

__all__ = [
    "FrozenStatsBatchNorm2d",
    "MMDetROIHeads",
    "MMDetRPN",
    "build_small_resnet_backbone",
    "build_small_resnet_fpn_backbone",
    "freeze_bn_statistics",
]
