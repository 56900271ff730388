"""Resizing: Pillow's antialiased bilinear one, or OpenCV's plain bilinear one for weights that were trained with it."""

from __future__ import annotations

import cv2
import numpy as np
from detectron2.data import transforms as T
from fvcore.transforms.transform import NoOpTransform, Transform

from vis_core.errors import ConfigError

BACKENDS = ("pillow", "pillow_floor", "opencv")


class OpenCVResizeTransform(Transform):
    """Resize (h, w) to (new_h, new_w): images bilinear without antialiasing, segmentations nearest neighbour."""

    def __init__(self, h: int, w: int, new_h: int, new_w: int):
        super().__init__()
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return cv2.resize(img, (self.new_w, self.new_h), interpolation=cv2.INTER_LINEAR)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return cv2.resize(segmentation, (self.new_w, self.new_h), interpolation=cv2.INTER_NEAREST)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords * np.array([self.new_w / self.w, self.new_h / self.h])

    def inverse(self) -> Transform:
        return OpenCVResizeTransform(self.new_h, self.new_w, self.h, self.w)


def fit_size(height: int, width: int, short: int, long: int) -> tuple[int, int]:
    """(height, width) after one scale factor that fits the image into ``short`` x ``long``, enlarging it if need be.

    mmdetection's rule. Detectron2 scales in two steps and rounds differently for a few very elongated images.
    """
    scale = min(long / max(height, width), short / min(height, width))
    return int(height * scale + 0.5), int(width * scale + 0.5)


def floor_size(height: int, width: int, short: int, long: int) -> tuple[int, int]:
    """(height, width) with the short side ``short``, or less for the long one to be at most ``long``, by DETR's rule.

    The long side is cut to whole pixels; Detectron2 rounds it.
    """
    low, high = min(height, width), max(height, width)
    if high / low * short > long:
        short = max(1, round(long * low / high))
    if height < width:
        return short, int(short * width / height)
    return int(short * height / width), short


def resize_transform(height: int, width: int, short: int, long: int, backend: str = "pillow") -> Transform:
    """Transform that brings an image of (height, width) to short side ``short``, the long side at most ``long``.

    ``short`` 0 leaves the image as it is. ``backend``: "pillow" with Detectron2's size rule, "pillow_floor" with
    DETR's (:func:`floor_size`), "opencv" with mmdetection's (:func:`fit_size`).
    """
    check_backend(backend)
    if short == 0:
        return NoOpTransform()
    rules = {"pillow": T.ResizeShortestEdge.get_output_shape, "pillow_floor": floor_size, "opencv": fit_size}
    size = rules[backend](height, width, short, long)
    new_height, new_width = (max(1, side) for side in size)  # the short side of a very elongated image rounds to 0
    kind = OpenCVResizeTransform if backend == "opencv" else T.ResizeTransform
    return kind(height, width, new_height, new_width)


def check_backend(backend: str) -> None:
    """Raise ConfigError unless ``backend`` is one of ``BACKENDS``."""
    if backend not in BACKENDS:
        raise ConfigError(f"INPUT.RESIZE_BACKEND '{backend}' is unknown; known: {', '.join(BACKENDS)}")
