"""What every feature extractor promises."""

from abc import ABCMeta, abstractmethod

import torch
from detectron2.layers import ShapeSpec
from torch import nn


class Backbone(nn.Module, metaclass=ABCMeta):
    """Turns an image batch into named feature maps.

    A subclass sets ``_out_features`` (names, in order), ``_out_feature_channels`` and ``_out_feature_strides``
    (dicts by name), or overrides :meth:`output_shape`.
    """

    @abstractmethod
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """(N, C, H, W) images -> {name: (N, C_name, H / stride, W / stride)}."""

    @property
    def size_divisibility(self) -> int:
        """Input height and width must be multiples of this; 0 when any size will do."""
        return 0

    @property
    def padding_constraints(self) -> dict[str, int]:
        """Further wishes about the padding of a batch, in the form ``ImageList.from_tensors`` takes."""
        return {}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride (input pixels a feature step) of every map that :meth:`forward` returns."""
        return {
            name: ShapeSpec(channels=self._out_feature_channels[name], stride=self._out_feature_strides[name])
            for name in self._out_features
        }
