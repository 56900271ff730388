"""Shapes that people draw -> run-length masks; masks -> label maps.

Coordinates are in pixels, x right, y down; pixel i covers [i, i + 1). Polygons are filled by COCO's rule, as they are
everywhere else in training and evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pycocotools.mask as coco_mask

from vis_core.data.annotation_file import fail
from vis_core.data.masks import checked_mask
from vis_core.errors import DataError
from vis_core.tube import RLE, decode_mask, encode_masks


def polygon_rle(points: Sequence, height: int, width: int, where: str) -> RLE | None:
    """Mask of a polygon [(x, y), ...] of at least three corners; None if it covers no pixel.

    Raises DataError for coordinates that are no numbers or lie absurdly far outside.
    """
    corners = _numbers(points, where)
    if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3:
        raise DataError(f"{where}: a polygon needs three corners [x, y] or more")
    limit = 10 * max(height, width) + 1000
    if np.abs(corners).max() > limit:
        raise DataError(f"{where}: corner {corners[np.abs(corners).max(1).argmax()].tolist()} lies far outside")
    return as_rle(coco_mask.frPyObjects([corners.ravel().tolist()], height, width)[0])


def box_rle(
    x0: float, y0: float, x1: float, y1: float, height: int, width: int, where: str, degrees: float = 0.0
) -> RLE | None:
    """Mask of a box given by two opposite corners, turned clockwise about its middle."""
    x0, y0, x1, y1, degrees = _numbers([x0, y0, x1, y1, degrees], where)
    corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    return polygon_rle(rotated(corners, (x0 + x1) / 2, (y0 + y1) / 2, degrees), height, width, where)


def ellipse_rle(
    x: float, y: float, rx: float, ry: float, height: int, width: int, where: str, degrees: float = 0.0
) -> RLE | None:
    """Pixels whose middle lies within an ellipse about (x, y) with half-axes rx, ry, turned clockwise."""
    x, y, rx, ry, degrees = _numbers([x, y, rx, ry, degrees], where)
    if rx <= 0 or ry <= 0:
        return None
    angle = np.deg2rad(degrees)
    dy, dx = np.mgrid[:height, :width] + 0.5
    dy, dx = dy - y, dx - x
    u, v = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
    return mask_rle((u / rx) ** 2 + (v / ry) ** 2 <= 1)


def patch_rle(patch: np.ndarray, left: int, top: int, height: int, width: int) -> RLE | None:
    """Mask of a boolean patch (h, w) laid into the frame at (left, top); what reaches outside is cut off."""
    mask = np.zeros((height, width), bool)
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + patch.shape[0], height), min(left + patch.shape[1], width)
    if y0 < y1 and x0 < x1:
        mask[y0:y1, x0:x1] = patch[y0 - top : y1 - top, x0 - left : x1 - left]
    return mask_rle(mask)


def mask_rle(mask: np.ndarray) -> RLE | None:
    """RLE of a boolean mask (H, W), None if it is empty."""
    return encode_masks(np.ascontiguousarray(mask)[None])[0] if mask.any() else None


def annotation_rle(where: str, field: str, mask, height: int, width: int) -> RLE | None:
    """RLE of a mask in any spelling of COCO's (run lengths as text or list, polygons), None if it is empty.

    Raises DataError for anything else, also for a polygon that training would leave out.
    """
    checked = checked_mask(where, field, mask, height, width)
    if isinstance(mask, list):
        if len(checked or []) < len(mask):
            fail(where, field, "a polygon needs an even number of coordinates, at least 6")
        field_of = f"{where}, field '{field}'"
        parts = [polygon_rle(np.reshape(part, (-1, 2)), height, width, field_of) for part in mask]
        return union([part for part in parts if part])
    return None if checked is None else as_rle(checked)


def as_rle(rle: dict) -> RLE | None:
    """With ``counts`` as text; None if it has no pixel."""
    if not coco_mask.area(rle):
        return None
    counts = rle["counts"]
    return {"size": [int(v) for v in rle["size"]], "counts": counts if isinstance(counts, str) else counts.decode()}


def union(rles: Sequence[RLE]) -> RLE | None:
    """All pixels of all masks."""
    if len(rles) < 2:
        return rles[0] if rles else None
    return as_rle(coco_mask.merge(list(rles)))


def add_mask(masks: dict[int, RLE], frame: int, rle: RLE | None) -> None:
    """Add a part of an object to its masks, in place."""
    if rle is not None:
        masks[frame] = union([masks[frame], rle]) if frame in masks else rle


def rotated(points: np.ndarray, x: float, y: float, degrees: float) -> np.ndarray:
    """Points (N, 2) turned about (x, y), clockwise as seen on a screen."""
    if not degrees:
        return points
    sin, cos = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    return (points - (x, y)) @ np.array([(cos, sin), (-sin, cos)]) + (x, y)


def label_map(values: Sequence[int], rles: Sequence[RLE], height: int, width: int) -> tuple[np.ndarray, int]:
    """Masks painted into one map (H, W) uint16, 0 where there is none, and how many pixels two of them wanted.

    Where masks overlap the smallest lies on top.
    """
    labels, num_shared = np.zeros((height, width), np.uint16), 0
    for i in sorted(range(len(rles)), key=lambda i: (-int(coco_mask.area(rles[i])), i)):
        mask = decode_mask(rles[i])
        num_shared += int(np.count_nonzero(labels[mask]))
        labels[mask] = values[i]
    return labels, num_shared


def masks_of_map(labels: np.ndarray) -> dict[int, RLE]:
    """Value -> mask of a label map (H, W), without 0."""
    values = np.unique(labels)
    values = values[values != 0]
    return {int(value): encode_masks((labels == value)[None])[0] for value in values}


def _numbers(values, where: str) -> np.ndarray:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{where}: coordinates are not numbers") from None
    if not np.isfinite(array).all():
        raise DataError(f"{where}: coordinates are not finite")
    return array
