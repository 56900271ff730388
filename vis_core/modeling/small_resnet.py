"""A ResNet-18 of any width, for models that must train on a CPU.

Detectron2's ResNet-18 is fixed at 64 to 512 channels, most of them wasted on images of 200 pixels.
"""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, ResNet
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem

from vis_core.errors import ConfigError


@BACKBONE_REGISTRY.register()
def build_small_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Basic blocks of ``MODEL.SMALL_RESNET.WIDTHS``; the stem has half the width of res2, at least 16.

    Raises ConfigError unless there are four widths, all different, and four block counts.
    """
    norm = cfg.MODEL.RESNETS.NORM
    widths, blocks = cfg.MODEL.SMALL_RESNET.WIDTHS, cfg.MODEL.SMALL_RESNET.BLOCKS
    if len(widths) != 4 or len(blocks) != 4 or len({*widths}) != 4:
        # Detectron2's basic block takes a shortcut without stride where the width stays.
        raise ConfigError(f"MODEL.SMALL_RESNET: needs 4 different WIDTHS and 4 BLOCKS, got {widths} and {blocks}")
    stem = BasicStem(in_channels=input_shape.channels, out_channels=max(16, widths[0] // 2), norm=norm)
    stages, in_channels = [], stem.out_channels
    for index, (width, num_blocks) in enumerate(zip(widths, blocks)):
        strides = [1 if index == 0 else 2] + [1] * (num_blocks - 1)
        stages.append(
            ResNet.make_stage(
                BasicBlock, num_blocks, stride_per_block=strides, in_channels=in_channels, out_channels=width, norm=norm
            )
        )
        in_channels = width
    return ResNet(stem, stages, out_features=cfg.MODEL.RESNETS.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT)


@BACKBONE_REGISTRY.register()
def build_small_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """:func:`build_small_resnet_backbone` below a feature pyramid with p6."""
    return FPN(
        bottom_up=build_small_resnet_backbone(cfg, input_shape),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
