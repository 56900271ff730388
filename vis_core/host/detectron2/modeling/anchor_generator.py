"""Anchor boxes on feature maps (Ren et al., NeurIPS 2015)."""

import math

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes
from detectron2.utils.registry import Registry
from torch import nn

ANCHOR_GENERATOR_REGISTRY = Registry("ANCHOR_GENERATOR")
ANCHOR_GENERATOR_REGISTRY.__doc__ = "Callables ``(cfg, input_shape: list[ShapeSpec]) -> anchor generator``."


class _Buffers(nn.Module):
    """A list of constant tensors that move with the module but are not part of checkpoints."""

    def __init__(self, tensors):
        super().__init__()
        for i, tensor in enumerate(tensors):
            self.register_buffer(str(i), tensor, persistent=False)

    def __len__(self):
        return len(self._buffers)

    def __iter__(self):
        return iter(self._buffers.values())


def _per_level(values, num_levels: int, name: str) -> list:
    """One list of numbers a level, from such lists, from a single one, or from plain numbers for all levels."""
    values = list(values)
    if not isinstance(values[0], (list, tuple)):
        values = [values]
    if len(values) == 1:
        values = values * num_levels
    assert len(values) == num_levels, f"anchor {name} are given for {len(values)} levels, there are {num_levels}"
    return values


def base_anchors(sizes, aspect_ratios) -> torch.Tensor:
    """Anchors around the origin: (len(sizes) * len(aspect_ratios), 4) float32, x0 y0 x1 y1, sizes outermost.

    ``size`` is the square root of the area in pixels, ``aspect_ratio`` is height / width.
    """
    halves = []
    for size in sizes:
        for ratio in aspect_ratios:
            width = math.sqrt(size**2.0 / ratio)
            halves.append((width / 2.0, ratio * width / 2.0))
    return torch.tensor([(-w, -h, w, h) for w, h in halves])


class DefaultAnchorGenerator(nn.Module):
    """The same few boxes, centred on every cell of every feature map.

    Args:
        sizes, aspect_ratios: one list for each level, or a single one for all.
        strides: input pixels per cell, for each level.
        offset: where in its cell the first anchor's centre lies, in strides; in [0, 1).
    """

    box_dim: int = 4

    @configurable
    def __init__(self, *, sizes, aspect_ratios, strides, offset: float = 0.5):
        super().__init__()
        assert 0.0 <= offset < 1.0, f"anchor offset {offset} is not in [0, 1)"
        self.strides = list(strides)
        self.offset = offset
        sizes = _per_level(sizes, len(self.strides), "sizes")
        aspect_ratios = _per_level(aspect_ratios, len(self.strides), "aspect ratios")
        self.cell_anchors = _Buffers(base_anchors(s, r) for s, r in zip(sizes, aspect_ratios))

    @classmethod
    def from_config(cls, cfg, input_shape: list[ShapeSpec]):
        return {
            "sizes": cfg.MODEL.ANCHOR_GENERATOR.SIZES,
            "aspect_ratios": cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS,
            "strides": [shape.stride for shape in input_shape],
            "offset": cfg.MODEL.ANCHOR_GENERATOR.OFFSET,
        }

    @property
    def num_anchors(self) -> list[int]:
        """Anchors in a cell, for each level."""
        return [len(anchors) for anchors in self.cell_anchors]

    num_cell_anchors = num_anchors

    def forward(self, features: list[torch.Tensor]) -> list[Boxes]:
        """Feature maps (N, C, H, W) -> for each level H * W * A boxes, by row, then column, then base anchor."""
        return [
            Boxes(self._grid_anchors(feature.shape[-2:], stride, anchors))
            for feature, stride, anchors in zip(features, self.strides, self.cell_anchors)
        ]

    def _grid_anchors(self, size, stride: int, anchors: torch.Tensor) -> torch.Tensor:
        start = self.offset * stride
        ys, xs = (
            torch.arange(start, n * stride, step=stride, dtype=torch.float32, device=anchors.device) for n in size
        )
        y, x = torch.meshgrid(ys, xs, indexing="ij")
        shifts = torch.stack([x, y, x, y], dim=-1)  # (H, W, 4)
        return (shifts[:, :, None] + anchors).reshape(-1, 4)


ANCHOR_GENERATOR_REGISTRY.register(DefaultAnchorGenerator)


def build_anchor_generator(cfg, input_shape: list[ShapeSpec]):
    """Build the anchor generator that ``cfg.MODEL.ANCHOR_GENERATOR.NAME`` names."""
    return ANCHOR_GENERATOR_REGISTRY.get(cfg.MODEL.ANCHOR_GENERATOR.NAME)(cfg, input_shape)
