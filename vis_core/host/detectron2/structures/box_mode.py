"""The ways to write a box as numbers."""

from enum import IntEnum, unique

import numpy as np
import torch

_Box = list | tuple | torch.Tensor | np.ndarray


@unique
class BoxMode(IntEnum):
    """How a box is parametrised. An int, so that it can be written to json."""

    XYXY_ABS = 0
    """(x0, y0, x1, y1) in pixels"""
    XYWH_ABS = 1
    """(x0, y0, width, height) in pixels"""
    XYXY_REL = 2
    """(x0, y0, x1, y1) as fractions of the image's size; conversion is not supported"""
    XYWH_REL = 3
    """(x0, y0, width, height) as fractions of the image's size; conversion is not supported"""
    XYWHA_ABS = 4
    """(centre x, centre y, width, height, degrees counter-clockwise)"""

    @staticmethod
    def convert(box: _Box, from_mode: "BoxMode", to_mode: "BoxMode") -> _Box:
        """Convert one box (a list or tuple of 4 or 5 numbers) or N boxes (an Nx4 or Nx5 array or tensor).

        Returns:
            boxes of the same type, a new object; the very same object when the modes are equal.

        Raises:
            AssertionError: for wrong lengths and for relative modes.
            NotImplementedError: for a pair of modes without conversion.
        """
        if from_mode == to_mode:
            return box
        relative = (BoxMode.XYXY_REL, BoxMode.XYWH_REL)
        assert from_mode not in relative and to_mode not in relative, "relative boxes cannot be converted"
        source, target = BoxMode(from_mode), BoxMode(to_mode)

        if isinstance(box, list | tuple):
            assert len(box) in (4, 5), f"a box is 4 or 5 numbers, got {len(box)}"
            converted = _convert(torch.tensor(box)[None], source, target)
            return type(box)(converted.flatten().tolist())
        if isinstance(box, np.ndarray):
            return _convert(torch.from_numpy(np.ascontiguousarray(box)), source, target).numpy()
        return _convert(box, source, target)


def _convert(boxes: torch.Tensor, source: BoxMode, target: BoxMode) -> torch.Tensor:
    width = 5 if source == BoxMode.XYWHA_ABS else 4
    assert boxes.shape[-1] == width, f"{source.name} boxes have {width} numbers, got shape {tuple(boxes.shape)}"
    if (source, target) == (BoxMode.XYWH_ABS, BoxMode.XYXY_ABS):
        return torch.cat([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], dim=-1)
    if (source, target) == (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS):
        return torch.cat([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], dim=-1)
    if (source, target) == (BoxMode.XYWHA_ABS, BoxMode.XYXY_ABS):
        return _rotated_to_hull(boxes)
    if (source, target) == (BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS):
        size = boxes[..., 2:]
        return torch.cat([boxes[..., :2] + size / 2, size, torch.zeros_like(size[..., :1])], dim=-1)
    raise NotImplementedError(f"no conversion from {source.name} to {target.name}")


def _rotated_to_hull(boxes: torch.Tensor) -> torch.Tensor:
    """Axis-aligned hull of rotated boxes, computed in float64."""
    center_x, center_y, w, h, angle = boxes.double().unbind(-1)
    theta = torch.deg2rad(angle)
    cos, sin = theta.cos().abs(), theta.sin().abs()
    half_w, half_h = (cos * w + sin * h) / 2, (cos * h + sin * w) / 2
    hull = [center_x - half_w, center_y - half_h, center_x + half_w, center_y + half_h]
    return torch.stack(hull, dim=-1).to(boxes.dtype)
