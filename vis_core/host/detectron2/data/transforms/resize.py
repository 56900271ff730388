"""Augmentations that change an image's size."""

import sys

import numpy as np
from fvcore.transforms.transform import NoOpTransform, Transform
from PIL import Image

from .augmentation import Augmentation
from .transform import ResizeTransform

__all__ = ["Resize", "ResizeScale", "ResizeShortestEdge"]

BILINEAR = Image.Resampling.BILINEAR


class Resize(Augmentation):
    """Resize to a fixed ``shape``: (height, width), or one number for both."""

    def __init__(self, shape: int | tuple[int, int], interp: int = BILINEAR):
        shape = (shape, shape) if isinstance(shape, int) else tuple(shape)
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        return ResizeTransform(*image.shape[:2], *self.shape, self.interp)


class ResizeShortestEdge(Augmentation):
    """Resize the shorter side to a random length and keep the aspect ratio.

    Args:
        short_edge_length: lengths to choose from ("choice"), or (lowest, highest) ("range", both ends included);
            0 leaves the image alone.
        max_size: the longer side may not get longer than this; the shorter one then ends up below its length.
        sample_style: "range" or "choice".
        interp: a Pillow resampling filter.
    """

    def __init__(
        self,
        short_edge_length: int | list[int] | tuple[int, ...],
        max_size: int = sys.maxsize,
        sample_style: str = "range",
        interp: int = BILINEAR,
    ):
        assert sample_style in ("range", "choice"), f"sample_style must be 'range' or 'choice', got '{sample_style}'"
        if isinstance(short_edge_length, int):
            short_edge_length = (short_edge_length, short_edge_length)
        if sample_style == "range":
            assert len(short_edge_length) == 2, f"'range' needs (lowest, highest), got {short_edge_length}"
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        if self.sample_style == "range":
            size = np.random.randint(self.short_edge_length[0], self.short_edge_length[1] + 1)
        else:
            size = np.random.choice(self.short_edge_length)
        if size == 0:
            return NoOpTransform()
        h, w = image.shape[:2]
        return ResizeTransform(h, w, *self.get_output_shape(h, w, size, self.max_size), self.interp)

    @staticmethod
    def get_output_shape(oldh: int, oldw: int, short_edge_length: int, max_size: int) -> tuple[int, int]:
        """(height, width) after resizing; halves are rounded up."""
        scale = short_edge_length / min(oldh, oldw)
        # the shorter side is set, not computed, so that it cannot be off by a rounding error
        if oldh < oldw:
            newh, neww = float(short_edge_length), scale * oldw
        else:
            newh, neww = scale * oldh, float(short_edge_length)
        longer = max(newh, neww)
        if longer > max_size:
            newh, neww = newh * (max_size / longer), neww * (max_size / longer)
        return int(newh + 0.5), int(neww + 0.5)


class ResizeScale(Augmentation):
    """First half of large-scale jitter (arXiv:2012.07177): fit the image into a randomly scaled target area.

    The target is ``target_height`` x ``target_width`` times a uniform draw from [min_scale, max_scale]; the aspect
    ratio is kept. :class:`FixedSizeCrop` usually follows.
    """

    def __init__(
        self, min_scale: float, max_scale: float, target_height: int, target_width: int, interp: int = BILINEAR
    ):
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        h, w = image.shape[:2]
        jitter = np.random.uniform(self.min_scale, self.max_scale)
        scale = min(self.target_height * jitter / h, self.target_width * jitter / w)
        new_h, new_w = np.round([h * scale, w * scale]).astype(int)
        return ResizeTransform(h, w, int(new_h), int(new_w), self.interp)
