"""Features of a box for classification and regression."""

import math

from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.utils.registry import Registry
from fvcore.nn.weight_init import c2_msra_fill, c2_xavier_fill
from torch import nn

ROI_BOX_HEAD_REGISTRY = Registry("ROI_BOX_HEAD")
ROI_BOX_HEAD_REGISTRY.__doc__ = (
    "Callables ``(cfg, input_shape: ShapeSpec) -> module`` with ``output_shape``; the module maps pooled features "
    "(R, C, S, S) to (R, D) or (R, D, S', S')."
)


def build_box_head(cfg, input_shape: ShapeSpec):
    """Build the head that ``cfg.MODEL.ROI_BOX_HEAD.NAME`` names."""
    return ROI_BOX_HEAD_REGISTRY.get(cfg.MODEL.ROI_BOX_HEAD.NAME)(cfg, input_shape)


@ROI_BOX_HEAD_REGISTRY.register()
class FastRCNNConvFCHead(nn.Sequential):
    """3x3 convolutions, then fully connected layers, each followed by ReLU.

    (R, C, S, S) -> (R, fc_dims[-1]), or (R, conv_dims[-1], S, S) without fully connected layers.

    Args:
        input_shape: channels, height and width of the pooled features.
        conv_dims: output channels of each convolution.
        fc_dims: output size of each fully connected layer.
        conv_norm: norm behind each convolution; a convolution has a bias only without one.
    """

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, conv_dims: list[int], fc_dims: list[int], conv_norm=""):
        super().__init__()
        assert len(conv_dims) + len(fc_dims) > 0, "a box head needs at least one layer"
        channels = input_shape.channels
        convs, fcs = [], []
        for i, dim in enumerate(conv_dims, start=1):
            conv = Conv2d(
                channels,
                dim,
                kernel_size=3,
                padding=1,
                bias=not conv_norm,
                norm=get_norm(conv_norm, dim),
                activation=nn.ReLU(),
            )
            self.add_module(f"conv{i}", conv)
            convs.append(conv)
            channels = dim
        self._output_shape = ShapeSpec(channels=channels, height=input_shape.height, width=input_shape.width)

        size = math.prod((channels, input_shape.height, input_shape.width))
        for i, dim in enumerate(fc_dims, start=1):
            if i == 1:
                self.add_module("flatten", nn.Flatten())
            fc = nn.Linear(size, dim)
            self.add_module(f"fc{i}", fc)
            self.add_module(f"fc_relu{i}", nn.ReLU())
            fcs.append(fc)
            size = dim
            self._output_shape = ShapeSpec(channels=dim)
        for conv in convs:
            c2_msra_fill(conv)
        for fc in fcs:
            c2_xavier_fill(fc)

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec):
        head = cfg.MODEL.ROI_BOX_HEAD
        return {
            "input_shape": input_shape,
            "conv_dims": [head.CONV_DIM] * head.NUM_CONV,
            "fc_dims": [head.FC_DIM] * head.NUM_FC,
            "conv_norm": head.NORM,
        }

    @property
    def output_shape(self) -> ShapeSpec:
        """Shape of one box's features."""
        return self._output_shape
