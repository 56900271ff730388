"""Axis-aligned boxes. Symbols: N, M numbers of boxes."""

from collections.abc import Iterator

import torch
from torch import Tensor

from .box_mode import BoxMode

__all__ = [
    "BoxMode",
    "Boxes",
    "matched_pairwise_iou",
    "pairwise_intersection",
    "pairwise_ioa",
    "pairwise_iou",
    "pairwise_point_box_distance",
]


class Boxes:
    """N boxes (x0, y0, x1, y1) in continuous pixel coordinates: ``.tensor`` is float32 (N, 4), width is x1 - x0."""

    def __init__(self, tensor):
        """
        Args:
            tensor: (N, 4) numbers; a tensor keeps its device, anything else goes to the CPU.

        Raises:
            AssertionError: for another shape; any empty input stands for no boxes.
        """
        if isinstance(tensor, Tensor):
            tensor = tensor.to(torch.float32)
        else:
            tensor = torch.as_tensor(tensor, dtype=torch.float32, device="cpu")
        if tensor.numel() == 0:
            tensor = tensor.reshape(-1, 4)
        assert tensor.dim() == 2 and tensor.shape[1] == 4, f"boxes must be (N, 4), got {tuple(tensor.shape)}"
        self.tensor = tensor

    def clone(self) -> "Boxes":
        return Boxes(self.tensor.clone())

    def to(self, device) -> "Boxes":
        return Boxes(self.tensor.to(device=device))

    @property
    def device(self) -> torch.device:
        return self.tensor.device

    def area(self) -> Tensor:
        """(N,)"""
        x0, y0, x1, y1 = self.tensor.unbind(1)
        return (x1 - x0) * (y1 - y0)

    def clip(self, box_size: tuple[int, int]) -> None:
        """Clip, in place, to an image of size ``box_size`` = (height, width).

        Raises:
            AssertionError: if a coordinate is not finite.
        """
        assert torch.isfinite(self.tensor).all(), "box coordinates must be finite"
        h, w = box_size
        x0, y0, x1, y1 = self.tensor.unbind(1)
        self.tensor = torch.stack((x0.clamp(0, w), y0.clamp(0, h), x1.clamp(0, w), y1.clamp(0, h)), dim=1)

    def nonempty(self, threshold: float = 0.0) -> Tensor:
        """(N,) bool: is the box wider and higher than ``threshold`` pixels?"""
        size = self.tensor[:, 2:] - self.tensor[:, :2]
        return (size > threshold).all(dim=1)

    def inside_box(self, box_size: tuple[int, int], boundary_threshold: float = 0) -> Tensor:
        """(N,) bool: is the box within an image of (height, width), give or take ``boundary_threshold`` pixels?"""
        h, w = box_size
        x0, y0, x1, y1 = self.tensor.unbind(1)
        t = boundary_threshold
        return (x0 >= -t) & (y0 >= -t) & (x1 < w + t) & (y1 < h + t)

    def get_centers(self) -> Tensor:
        """(N, 2) x, y"""
        return (self.tensor[:, :2] + self.tensor[:, 2:]) / 2

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Scale, in place."""
        self.tensor[:, 0::2] *= scale_x
        self.tensor[:, 1::2] *= scale_y

    @classmethod
    def cat(cls, boxes_list: list["Boxes"]) -> "Boxes":
        """All boxes in one object; no boxes for an empty list."""
        assert isinstance(boxes_list, list | tuple)
        assert all(isinstance(b, Boxes) for b in boxes_list)
        if not boxes_list:
            return cls(torch.empty(0))
        return cls(torch.cat([b.tensor for b in boxes_list], dim=0))

    def __getitem__(self, item) -> "Boxes":
        """Boxes at an int (one box), a slice, or a bool or integer tensor."""
        if isinstance(item, int):
            return Boxes(self.tensor[item].view(1, -1))
        selected = self.tensor[item]
        assert selected.dim() == 2, f"index {item} does not select boxes"
        return Boxes(selected)

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        """One (4,) tensor after the other."""
        yield from self.tensor

    def __repr__(self) -> str:
        return f"Boxes({self.tensor})"


def pairwise_intersection(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """(N, M) areas of intersection."""
    a, b = boxes1.tensor[:, None], boxes2.tensor[None]  # (N, 1, 4), (1, M, 4)
    size = torch.min(a[..., 2:], b[..., 2:]) - torch.max(a[..., :2], b[..., :2])  # (N, M, 2)
    return size.clamp_(min=0).prod(dim=2)


def pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """(N, M) intersection over union; 0 where boxes do not meet, so also for boxes without area."""
    intersection = pairwise_intersection(boxes1, boxes2)
    union = boxes1.area()[:, None] + boxes2.area() - intersection
    return _divide_where_positive(intersection, union)


def pairwise_ioa(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """(N, M) intersection over the area of the second box."""
    intersection = pairwise_intersection(boxes1, boxes2)
    return _divide_where_positive(intersection, boxes2.area().expand_as(intersection))


def matched_pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """(N,) intersection over union of the i-th box of one with the i-th box of the other."""
    assert len(boxes1) == len(boxes2), f"{len(boxes1)} boxes cannot be matched with {len(boxes2)}"
    a, b = boxes1.tensor, boxes2.tensor
    size = torch.min(a[:, 2:], b[:, 2:]) - torch.max(a[:, :2], b[:, :2])  # (N, 2)
    intersection = size.clamp(min=0).prod(dim=1)
    return intersection / (boxes1.area() + boxes2.area() - intersection)


def pairwise_point_box_distance(points: Tensor, boxes: Boxes) -> Tensor:
    """(N, M, 4) signed distances of N points (x, y) to the left, top, right and bottom side of M boxes.

    A point is inside a box where all four are positive.
    """
    x, y = points.unsqueeze(2).unbind(1)  # (N, 1) each
    x0, y0, x1, y1 = boxes.tensor.unsqueeze(0).unbind(2)  # (1, M) each
    return torch.stack([x - x0, y - y0, x1 - x, y1 - y], dim=2)


def _divide_where_positive(intersection: Tensor, whole: Tensor) -> Tensor:
    return torch.where(intersection > 0, intersection / whole, intersection.new_zeros(1))
