"""ResNet (He et al., CVPR 2016) and ResNeXt (Xie et al., CVPR 2017) as feature extractors."""

import math

import torch.nn.functional as F
from detectron2.layers import CNNBlockBase, Conv2d, ShapeSpec, get_norm
from fvcore.nn.weight_init import c2_msra_fill
from torch import nn

from .backbone import Backbone
from .build import BACKBONE_REGISTRY


def _conv(in_channels: int, out_channels: int, norm, kernel_size: int, **kwargs) -> Conv2d:
    """A bias-free convolution that keeps the size at stride 1, followed by its norm."""
    padding = kwargs.get("dilation", 1) * (kernel_size // 2)
    return Conv2d(
        in_channels, out_channels, kernel_size, padding=padding, bias=False, norm=get_norm(norm, out_channels), **kwargs
    )


class BasicStem(CNNBlockBase):
    """7x7 convolution of stride 2, norm, ReLU, then 3x3 max pooling of stride 2: (N, C, H, W) at stride 4."""

    def __init__(self, in_channels: int = 3, out_channels: int = 64, norm="BN"):
        super().__init__(in_channels, out_channels, 4)
        self.conv1 = _conv(in_channels, out_channels, norm, 7, stride=2)
        c2_msra_fill(self.conv1)

    def forward(self, x):
        return F.max_pool2d(F.relu_(self.conv1(x)), kernel_size=3, stride=2, padding=1)


class BasicBlock(CNNBlockBase):
    """Two 3x3 convolutions and a shortcut, the block of ResNet-18 and -34."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, norm="BN"):
        super().__init__(in_channels, out_channels, stride)
        # Construction order is part of the contract: it decides which random numbers a seed gives each layer.
        self.shortcut = None
        if in_channels != out_channels:
            self.shortcut = _conv(in_channels, out_channels, norm, 1, stride=stride)
        self.conv1 = _conv(in_channels, out_channels, norm, 3, stride=stride)
        self.conv2 = _conv(out_channels, out_channels, norm, 3)
        for layer in (self.conv1, self.conv2, self.shortcut):
            if layer is not None:
                c2_msra_fill(layer)

    def forward(self, x):
        out = self.conv2(F.relu_(self.conv1(x)))
        out += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(out)


class BottleneckBlock(CNNBlockBase):
    """1x1, 3x3 and 1x1 convolutions and a shortcut, the block of ResNet-50 and deeper.

    ``num_groups`` and ``dilation`` belong to the 3x3 convolution. ``stride_in_1x1`` puts the stride on the first
    1x1 convolution (the original weights of MSRA) instead of the 3x3 one (torchvision, ResNeXt).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        num_groups: int = 1,
        norm="BN",
        stride_in_1x1: bool = False,
        dilation: int = 1,
    ):
        super().__init__(in_channels, out_channels, stride)
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        # Construction order is part of the contract: it decides which random numbers a seed gives each layer.
        self.shortcut = None
        if in_channels != out_channels:
            self.shortcut = _conv(in_channels, out_channels, norm, 1, stride=stride)
        self.conv1 = _conv(in_channels, bottleneck_channels, norm, 1, stride=stride_1x1)
        self.conv2 = _conv(
            bottleneck_channels,
            bottleneck_channels,
            norm,
            3,
            stride=stride_3x3,
            groups=num_groups,
            dilation=dilation,
        )
        self.conv3 = _conv(bottleneck_channels, out_channels, norm, 1)
        for layer in (self.conv1, self.conv2, self.conv3, self.shortcut):
            if layer is not None:
                c2_msra_fill(layer)

    def forward(self, x):
        out = F.relu_(self.conv1(x))
        out = F.relu_(self.conv2(out))
        out = self.conv3(out)
        out += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(out)


class ResNet(Backbone):
    """A stem followed by stages ``res2``, ``res3``, ... of blocks.

    Args:
        stem: module with ``stride`` and ``out_channels``.
        stages: one list of blocks (each with ``stride`` and ``out_channels``) a stage.
        num_classes: adds global average pooling and a linear classifier, whose output is called ``linear``.
        out_features: names to return, of ``stem``, ``res2``, ..., ``linear``; default the last thing there is.
            Stages behind the last one needed are dropped.
        freeze_at: see :meth:`freeze`.
    """

    def __init__(self, stem, stages, num_classes: int | None = None, out_features=None, freeze_at: int = 0):
        super().__init__()
        self.num_classes = num_classes
        self.stem = stem
        names = [f"res{i}" for i in range(2, 2 + len(stages))]
        if out_features is None:
            out_features = [names[-1] if num_classes is None else "linear"]
        if "linear" not in out_features:
            needed = max((names.index(f) + 1 for f in out_features if f in names), default=0)
            names, stages = names[:needed], stages[:needed]

        stride, channels = stem.stride, stem.out_channels
        self._out_feature_strides = {"stem": stride}
        self._out_feature_channels = {"stem": channels}
        for name, blocks in zip(names, stages):
            assert len(blocks) > 0, f"stage {name} has no block"
            self.add_module(name, nn.Sequential(*blocks))
            stride *= math.prod(block.stride for block in blocks)
            channels = blocks[-1].out_channels
            self._out_feature_strides[name] = stride
            self._out_feature_channels[name] = channels
        self.stage_names = tuple(names)

        if num_classes is not None:
            self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
            self.linear = nn.Linear(channels, num_classes)
            # Goyal et al. 2017, section 5.1: the classifier starts from a Gaussian of std 0.01.
            nn.init.normal_(self.linear.weight, std=0.01)
        self._out_features = list(out_features)
        children = {name for name, _ in self.named_children()}
        for name in self._out_features:
            assert name in children, f"out feature {name!r} is none of {', '.join(sorted(children))}"
        self.freeze(freeze_at)

    def forward(self, x):
        """(N, C, H, W) -> {name: (N, C_name, H / stride, W / stride)}; ``linear`` is (N, num_classes)."""
        assert x.dim() == 4, f"expected images of shape (N, C, H, W), got {tuple(x.shape)}"
        outputs = {}
        for name in ("stem", *self.stage_names):
            x = getattr(self, name)(x)
            if name in self._out_features:
                outputs[name] = x
        if "linear" in self._out_features:
            outputs["linear"] = self.linear(self.avgpool(x).flatten(1))
        return outputs

    def output_shape(self):
        return {
            name: ShapeSpec(channels=self._out_feature_channels[name], stride=self._out_feature_strides[name])
            for name in self._out_features
            if name != "linear"
        }

    def freeze(self, freeze_at: int = 0):
        """Freeze the stem (``freeze_at`` >= 1) and the stages up to ``res{freeze_at}``; returns self.

        Frozen blocks get no gradient and their batch norms become constant.
        """
        if freeze_at >= 1:
            self.stem.freeze()
        for number, name in enumerate(self.stage_names, start=2):
            if freeze_at >= number:
                for block in getattr(self, name):
                    block.freeze()
        return self

    @staticmethod
    def make_stage(block_class, num_blocks: int, *, in_channels: int, out_channels: int, **kwargs) -> list:
        """List of ``num_blocks`` blocks, the first of which goes from ``in_channels`` to ``out_channels``.

        ``kwargs`` go to every block; those named ``x_per_block`` are lists that give each block its own ``x``.
        """
        own = {key: kwargs.pop(key) for key in list(kwargs) if key.endswith("_per_block")}
        for key, values in own.items():
            assert len(values) == num_blocks, f"{key} has {len(values)} entries for {num_blocks} blocks"
            assert key.removesuffix("_per_block") not in kwargs, f"{key} is given both per block and for all"
        blocks = []
        for i in range(num_blocks):
            ours = {key.removesuffix("_per_block"): values[i] for key, values in own.items()}
            blocks.append(block_class(in_channels=in_channels, out_channels=out_channels, **ours, **kwargs))
            in_channels = out_channels
        return blocks


make_stage = ResNet.make_stage

_BLOCKS_PER_STAGE = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3], 152: [3, 8, 36, 3]}


@BACKBONE_REGISTRY.register()
def build_resnet_backbone(cfg, input_shape: ShapeSpec) -> ResNet:
    """ResNet or ResNeXt by ``cfg.MODEL.RESNETS``, frozen by ``cfg.MODEL.BACKBONE.FREEZE_AT``."""
    settings = cfg.MODEL.RESNETS
    depth, norm = settings.DEPTH, settings.NORM
    basic = depth in (18, 34)
    assert settings.RES5_DILATION in (1, 2), f"MODEL.RESNETS.RES5_DILATION is {settings.RES5_DILATION}, not 1 or 2"
    if any(settings.DEFORM_ON_PER_STAGE):
        raise NotImplementedError("MODEL.RESNETS.DEFORM_ON_PER_STAGE needs the official detectron2 package")
    if basic:
        assert settings.RES2_OUT_CHANNELS == 64, f"MODEL.RESNETS.RES2_OUT_CHANNELS must be 64 for ResNet-{depth}"
        assert settings.RES5_DILATION == 1, f"MODEL.RESNETS.RES5_DILATION must be 1 for ResNet-{depth}"
        assert settings.NUM_GROUPS == 1, f"MODEL.RESNETS.NUM_GROUPS must be 1 for ResNet-{depth}"

    stem = BasicStem(in_channels=input_shape.channels, out_channels=settings.STEM_OUT_CHANNELS, norm=norm)
    in_channels, out_channels = settings.STEM_OUT_CHANNELS, settings.RES2_OUT_CHANNELS
    bottleneck_channels = settings.NUM_GROUPS * settings.WIDTH_PER_GROUP
    stages = []
    # All four stages are built even where later ones are dropped, so that a seed always gives the same weights.
    for number, num_blocks in enumerate(_BLOCKS_PER_STAGE[depth], start=2):
        dilation = settings.RES5_DILATION if number == 5 else 1
        first_stride = 1 if number == 2 or dilation == 2 else 2
        kwargs = {"stride_per_block": [first_stride] + [1] * (num_blocks - 1), "norm": norm}
        if not basic:
            kwargs |= {
                "bottleneck_channels": bottleneck_channels,
                "num_groups": settings.NUM_GROUPS,
                "stride_in_1x1": settings.STRIDE_IN_1X1,
                "dilation": dilation,
            }
        block_class = BasicBlock if basic else BottleneckBlock
        stages.append(make_stage(block_class, num_blocks, in_channels=in_channels, out_channels=out_channels, **kwargs))
        in_channels, out_channels, bottleneck_channels = out_channels, out_channels * 2, bottleneck_channels * 2
    return ResNet(stem, stages, out_features=settings.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT)
