"""Feature pyramid network (Lin et al., CVPR 2017)."""

import itertools
import math

import torch.nn.functional as F
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from fvcore.nn.weight_init import c2_xavier_fill
from torch import nn

from .backbone import Backbone
from .build import BACKBONE_REGISTRY
from .resnet import build_resnet_backbone


class FPN(Backbone):
    """Adds a top-down path with lateral connections to a backbone.

    Args:
        bottom_up: the backbone.
        in_features: its maps to use, by ascending stride; strides must double from one to the next.
        out_channels: channels of every output map.
        norm: norm behind each convolution; a convolution has a bias only without one.
        top_block: module with ``num_levels`` and ``in_feature`` (a name of ``bottom_up``'s or of our outputs) that
            makes a list of ``num_levels`` coarser maps.
        fuse_type: ``"sum"`` or ``"avg"`` of the lateral and the top-down map.
        square_pad: > 0 asks for batches padded to squares of this side.

    Outputs are called ``p{s}`` at stride 2**s.
    """

    def __init__(
        self, bottom_up, in_features, out_channels, norm="", top_block=None, fuse_type="sum", square_pad: int = 0
    ):
        super().__init__()
        assert isinstance(bottom_up, Backbone), f"bottom_up is a {type(bottom_up)}, which is no Backbone"
        assert in_features, "FPN needs at least one input feature"
        assert fuse_type in ("sum", "avg"), f"fuse_type {fuse_type!r} is neither 'sum' nor 'avg'"
        shapes = bottom_up.output_shape()
        strides = [shapes[name].stride for name in in_features]
        for fine, coarse in itertools.pairwise(strides):
            assert coarse == 2 * fine, f"strides {strides} of {', '.join(in_features)} do not double"

        bias = norm == ""
        self._stages = [int(math.log2(stride)) for stride in strides]
        for stage, name in zip(self._stages, in_features):
            lateral = Conv2d(shapes[name].channels, out_channels, 1, bias=bias, norm=get_norm(norm, out_channels))
            output = Conv2d(out_channels, out_channels, 3, padding=1, bias=bias, norm=get_norm(norm, out_channels))
            c2_xavier_fill(lateral)
            c2_xavier_fill(output)
            self.add_module(f"fpn_lateral{stage}", lateral)
            self.add_module(f"fpn_output{stage}", output)
        self.top_block = top_block
        self.bottom_up = bottom_up
        self.in_features = tuple(in_features)

        extra = 0 if top_block is None else top_block.num_levels
        all_stages = self._stages + [self._stages[-1] + 1 + i for i in range(extra)]
        self._out_features = [f"p{stage}" for stage in all_stages]
        self._out_feature_strides = {f"p{stage}": 2**stage for stage in all_stages}
        self._out_feature_channels = {name: out_channels for name in self._out_features}
        self._size_divisibility = strides[-1]
        self._square_pad = square_pad
        self._fuse_type = fuse_type

    @property
    def size_divisibility(self) -> int:
        return self._size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        return {"square_size": self._square_pad}

    def forward(self, x):
        """(N, C, H, W) -> {"p2": (N, out_channels, H / 4, W / 4), ...}, finest first."""
        bottom_up = self.bottom_up(x)
        outputs = []
        merged = None
        for stage, name in zip(reversed(self._stages), reversed(self.in_features)):
            lateral = getattr(self, f"fpn_lateral{stage}")(bottom_up[name])
            if merged is None:
                merged = lateral
            else:
                merged = lateral + F.interpolate(merged, scale_factor=2.0, mode="nearest")
                if self._fuse_type == "avg":
                    merged /= 2
            outputs.append(getattr(self, f"fpn_output{stage}")(merged))
        outputs.reverse()
        if self.top_block is not None:
            name = self.top_block.in_feature
            source = bottom_up[name] if name in bottom_up else outputs[self._out_features.index(name)]
            outputs.extend(self.top_block(source))
        return dict(zip(self._out_features, outputs))


class LastLevelMaxPool(nn.Module):
    """p6: every second row and column of p5, as in the detector of the FPN paper."""

    num_levels = 1
    in_feature = "p5"

    def forward(self, x):
        return [F.max_pool2d(x, kernel_size=1, stride=2, padding=0)]


class LastLevelP6P7(nn.Module):
    """p6 and p7 by strided 3x3 convolutions, as in RetinaNet (Lin et al., ICCV 2017)."""

    num_levels = 2

    def __init__(self, in_channels: int, out_channels: int, in_feature: str = "res5"):
        super().__init__()
        self.in_feature = in_feature
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(out_channels, out_channels, 3, stride=2, padding=1)
        for layer in (self.p6, self.p7):
            c2_xavier_fill(layer)

    def forward(self, c5):
        p6 = self.p6(c5)
        return [p6, self.p7(F.relu(p6))]


@BACKBONE_REGISTRY.register()
def build_resnet_fpn_backbone(cfg, input_shape: ShapeSpec) -> FPN:
    """FPN by ``cfg.MODEL.FPN`` with a max-pooled last level, on :func:`build_resnet_backbone`."""
    return FPN(
        bottom_up=build_resnet_backbone(cfg, input_shape),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
