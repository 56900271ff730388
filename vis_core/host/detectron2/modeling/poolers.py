"""Fixed-size features of boxes from a feature pyramid."""

import math

import torch
from detectron2.layers import ROIAlign, cat
from detectron2.structures import Boxes
from torch import nn
from torchvision.ops import RoIPool


def assign_boxes_to_levels(
    box_lists: list[Boxes], min_level: int, max_level: int, canonical_box_size: int, canonical_level: int
) -> torch.Tensor:
    """Pyramid level of every box (Lin et al., CVPR 2017, eq. 1), as (sum of lengths,) int64 from 0 for ``min_level``.

    A box of side ``canonical_box_size`` pixels belongs to ``canonical_level``; half the side is one level lower.
    """
    sides = torch.sqrt(cat([boxes.area() for boxes in box_lists]))
    levels = torch.floor(canonical_level + torch.log2(sides / canonical_box_size + 1e-8))
    return levels.clamp(min=min_level, max=max_level).to(torch.int64) - min_level


def convert_boxes_to_pooler_format(box_lists: list[Boxes]) -> torch.Tensor:
    """One ``Boxes`` an image -> (sum of lengths, 5) rows of image index, x0, y0, x1, y1."""
    boxes = cat([boxes.tensor for boxes in box_lists])
    lengths = torch.tensor([len(boxes) for boxes in box_lists], device=boxes.device)
    image_index = torch.repeat_interleave(
        torch.arange(len(box_lists), dtype=boxes.dtype, device=boxes.device), lengths, output_size=len(boxes)
    )
    return torch.cat([image_index[:, None], boxes], dim=1)


def _level_pooler(pooler_type: str, output_size, scale: float, sampling_ratio: int) -> nn.Module:
    if pooler_type == "ROIAlign":
        return ROIAlign(output_size, spatial_scale=scale, sampling_ratio=sampling_ratio, aligned=False)
    if pooler_type == "ROIAlignV2":
        return ROIAlign(output_size, spatial_scale=scale, sampling_ratio=sampling_ratio, aligned=True)
    if pooler_type == "ROIPool":
        return RoIPool(output_size, spatial_scale=scale)
    raise ValueError(f"pooler type {pooler_type!r} is none of ROIAlign, ROIAlignV2, ROIPool")


class ROIPooler(nn.Module):
    """Pools every box from the pyramid level that suits its size.

    Args:
        output_size: side of the result, or (height, width).
        scales: 1 / stride of each level, consecutive powers of two, finest level first.
        sampling_ratio: samples a bin and side for the aligning types; 0 chooses by the size of the bin.
        pooler_type: ``"ROIAlignV2"`` (pixel centres at half-integers), ``"ROIAlign"`` (at integers) or ``"ROIPool"``.
        canonical_box_size, canonical_level: see :func:`assign_boxes_to_levels`.
    """

    def __init__(
        self, output_size, scales, sampling_ratio: int, pooler_type: str, canonical_box_size=224, canonical_level=4
    ):
        super().__init__()
        self.output_size = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
        assert len(self.output_size) == 2, f"output size {output_size} has not two sides"
        self.level_poolers = nn.ModuleList(
            _level_pooler(pooler_type, self.output_size, scale, sampling_ratio) for scale in scales
        )
        levels = [-math.log2(scale) for scale in scales]
        self.min_level, self.max_level = int(levels[0]), int(levels[-1])
        expected = list(range(self.min_level, self.min_level + len(levels)))
        assert levels == expected and self.min_level > 0, f"scales {scales} are not consecutive powers of 1/2"
        assert canonical_box_size > 0, f"canonical box size {canonical_box_size} is not positive"
        self.canonical_box_size = canonical_box_size
        self.canonical_level = canonical_level

    def forward(self, x: list[torch.Tensor], box_lists: list[Boxes]) -> torch.Tensor:
        """Pool from one map (N, C, H, W) a level the boxes of N images, in input-image pixels.

        Returns (sum of lengths, C, output height, output width) in the order of the boxes.
        """
        assert len(x) == len(self.level_poolers), f"{len(x)} maps for {len(self.level_poolers)} levels"
        assert len(box_lists) == x[0].shape[0], f"{len(box_lists)} lists of boxes for {x[0].shape[0]} images"
        if sum(len(boxes) for boxes in box_lists) == 0:
            return x[0].new_zeros((0, x[0].shape[1], *self.output_size))
        rois = convert_boxes_to_pooler_format(box_lists)
        if len(self.level_poolers) == 1:
            return self.level_poolers[0](x[0], rois)

        levels = assign_boxes_to_levels(
            box_lists, self.min_level, self.max_level, self.canonical_box_size, self.canonical_level
        )
        order = torch.argsort(levels, stable=True)
        counts = torch.bincount(levels, minlength=len(x)).tolist()
        # A level without boxes is pooled too: every map then takes part in the backward pass, as DDP demands.
        pooled = torch.cat(
            [pool(fmap, part) for pool, fmap, part in zip(self.level_poolers, x, rois[order].split(counts))]
        )
        return pooled.index_select(0, torch.argsort(order))
