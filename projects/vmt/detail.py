"""Which pixels of a frame are refined, and where its boxes lie.

Shapes: N instances of a frame, (h2, w2) a map of stride 2, P selected pixels.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from projects.vmt.dynamic import resize_nearest
from vis_core.errors import ConfigError

SAMPLINGS = ("random", "strided")
SEED = 0


def near_contours(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Pixels around the contour of the union of a frame's masks.

    Twice the places where a pixel and its eight neighbours at distance 3 do not cancel out: bands of some six pixels on
    either side. Masks that end at the frame's edge have a contour there; where two masks meet there is none.

    Args:
        logits: (T, N, h4, w4) of the second stage.
        size: (h2, w2).

    Returns:
        (T, h2, w2) bool.
    """
    inside = (logits.sigmoid() > 0.5).any(dim=1, keepdim=True)
    union = resize_nearest(inside.to(torch.float32), size)  # (T, 1, h2, w2)
    return _uneven(_uneven(union))[:, 0].bool()


def _uneven(x: torch.Tensor) -> torch.Tensor:
    kernel = x.new_full((1, 1, 3, 3), -1.0)
    kernel[..., 1, 1] = 8.0
    return (F.conv2d(x, kernel, padding=3, dilation=3) != 0).to(x.dtype)


def check_sampling(sampling: str) -> None:
    """Raise ConfigError unless ``sampling`` is one of ``SAMPLINGS``."""
    if sampling not in SAMPLINGS:
        raise ConfigError(f"MODEL.VMT.POINT_SAMPLING: '{sampling}' is not one of {', '.join(SAMPLINGS)}")


def pick_points(selected: torch.Tensor, max_points: int, sampling: str) -> torch.Tensor:
    """Flat indices (P,) int64 of a frame's selected pixels, in ascending order, at most ``max_points`` (0 = all).

    Args:
        selected: (h2, w2) bool.
        sampling: which ones, if there are more: "random", by a generator of its own, or "strided", evenly spaced.
    """
    points = selected.flatten().nonzero().squeeze(1)
    if not max_points or len(points) <= max_points:
        return points
    if sampling == "random":
        order = torch.randperm(len(points), generator=torch.Generator().manual_seed(SEED))
        kept = order[:max_points].sort().values
    else:
        kept = torch.arange(max_points) * len(points) // max_points
    return points[kept.to(points.device)]


def box_masks(boxes: torch.Tensor, size: tuple[int, int], clamp: bool = False) -> torch.Tensor:
    """Boxes as masks.

    Args:
        boxes: (N, 4) as x1, y1, x2, y2 in pixels of the map, truncated to whole ones here.
        size: (h2, w2).
        clamp: what lies beyond the frame's edge is cut off. Otherwise, as in the release, a negative corner counts from
            the far side, as in a Python slice: most such boxes come out empty.

    Returns:
        (N, h2, w2) float32, 0 or 1.
    """
    x1, y1, x2, y2 = boxes.trunc().to(torch.int64).unbind(1)
    rows, columns = (
        _span(low, high, side, clamp, boxes.device) for low, high, side in ((y1, y2, size[0]), (x1, x2, size[1]))
    )
    return (rows[:, :, None] & columns[:, None]).float()


def _span(low: torch.Tensor, high: torch.Tensor, size: int, clamp: bool, device: torch.device) -> torch.Tensor:
    """(N, size) bool: the indices in [low:high]."""
    if not clamp:
        low, high = (torch.where(x < 0, x + size, x) for x in (low, high))
    index = torch.arange(size, device=device)
    return (index >= low[:, None]) & (index < high[:, None])
