"""Pieces that more than one method uses. Importing the package registers its backbones, heads and models."""

from vis_core.modeling.clip_transformer import ClipTransformer
from vis_core.modeling.cpu_inference import for_inference, with_winograd
from vis_core.modeling.deformable_attention import MSDeformAttn, grid_points, sampling_locations
from vis_core.modeling.mask2former import MaskFormer, MaskFormerHead, add_mask2former_config
from vis_core.modeling.mmdet import MMDetROIHeads, MMDetRPN
from vis_core.modeling.mmdet_legacy import LegacyAnchorGenerator, LegacyROIHeads, LegacyRPN
from vis_core.modeling.norm import FrozenStatsBatchNorm2d, freeze_bn_statistics
from vis_core.modeling.small_resnet import build_small_resnet_backbone, build_small_resnet_fpn_backbone
from vis_core.modeling.swin import D2SwinTransformer
from vis_core.modeling.visible import visible

__all__ = [
    "ClipTransformer",
    "D2SwinTransformer",
    "FrozenStatsBatchNorm2d",
    "LegacyAnchorGenerator",
    "LegacyROIHeads",
    "LegacyRPN",
    "MMDetROIHeads",
    "MMDetRPN",
    "MSDeformAttn",
    "MaskFormer",
    "MaskFormerHead",
    "add_mask2former_config",
    "build_small_resnet_backbone",
    "build_small_resnet_fpn_backbone",
    "for_inference",
    "freeze_bn_statistics",
    "grid_points",
    "sampling_locations",
    "visible",
    "with_winograd",
]
