"""Masks of annotation files: checked, and brought to one of two forms.

A mask is a compressed run-length dict or a list of polygons [x0, y0, x1, y1, ...]. A broken run-length string can send
pycocotools into an endless loop, so nothing is handed to it unchecked.
"""

from __future__ import annotations

import numpy as np
import pycocotools.mask as coco_mask

from vis_core import rle as codec
from vis_core.errors import DataError

Mask = dict | list


def checked_mask(where: str, field: str, mask, height: int, width: int) -> Mask | None:
    """The mask as compressed run lengths, or those of its polygons that have three corners (None if none has).

    Raises:
        DataError: names ``where`` and ``field``; neither form, or run lengths that do not describe height * width.
    """
    where = f"{where}, field '{field}'"
    if isinstance(mask, dict):
        return compressed_rle(where, mask, height, width)
    if not isinstance(mask, list) or not all(
        isinstance(part, list) and all(isinstance(v, (int, float)) for v in part) for part in mask
    ):
        raise DataError(f"{where}: is neither a run-length mask nor a list of polygons")
    return [part for part in mask if has_corners(part)] or None


def has_corners(polygon: list) -> bool:
    """Whether a list [x0, y0, x1, y1, ...] has three corners or more, each with both coordinates."""
    return len(polygon) % 2 == 0 and len(polygon) >= 6


def compressed_rle(where: str, rle: dict, height: int, width: int) -> dict:
    """Run lengths given as a list become bytes; compressed ones (str or bytes) stay as they are."""
    counts, size = rle.get("counts"), rle.get("size")
    if not isinstance(size, (list, tuple)) or list(size) != [height, width]:
        raise DataError(f"{where}: mask size {size} is not the frame's [height, width] [{height}, {width}]")
    if isinstance(counts, (str, bytes)):
        codec.area(rle, where)
        return rle
    plain = isinstance(counts, list) and bool(counts) and all(isinstance(run, int) for run in counts)
    runs = np.array(counts) if plain else np.zeros(0)
    if runs.dtype.kind not in "iu" or runs.ndim != 1:
        raise DataError(f"{where}: 'counts' is neither a string nor a list of integers")
    if runs.min() < 0:
        raise DataError(f"{where}: 'counts' has a negative run")
    if runs.sum() != height * width:
        raise DataError(f"{where}: run lengths add up to {runs.sum()}, not to {height} x {width} = {height * width}")
    return coco_mask.frPyObjects(rle, height, width)


def checked_box(where: str, field: str, box) -> list[float]:
    """The box as it is. Raises DataError naming ``where`` and ``field`` unless it is four numbers in a list."""
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(v, (int, float)) for v in box):
        raise DataError(f"{where}, field '{field}': expected [x, y, w, h], found {box!r}")
    return box


def box_of_mask(mask: Mask) -> list[float]:
    """Box [x, y, w, h] of a compressed mask or of polygons."""
    if isinstance(mask, dict):
        return [float(v) for v in coco_mask.toBbox(mask)]
    xs = [x for part in mask for x in part[0::2]]
    ys = [y for part in mask for y in part[1::2]]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
