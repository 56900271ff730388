"""Augmentations that cut out a part of an image."""

import numpy as np
from fvcore.transforms.transform import CropTransform, PadTransform, Transform, TransformList

from .augmentation import Augmentation

__all__ = ["FixedSizeCrop", "RandomCrop", "RandomCrop_CategoryAreaConstraint"]


class RandomCrop(Augmentation):
    """Cut out a randomly placed rectangle.

    ``crop_size`` is a pair whose meaning ``crop_type`` says:

    * "relative": (height, width) as fractions of the image;
    * "relative_range": the fractions are drawn uniformly from [crop_size, 1), one draw per side;
    * "absolute": (height, width) in pixels, cut down to the image where it is smaller;
    * "absolute_range": both sides are drawn from [crop_size[0], crop_size[1]], cut down likewise.
    """

    def __init__(self, crop_type: str, crop_size: tuple[float, float]):
        known = ("relative", "relative_range", "absolute", "absolute_range")
        assert crop_type in known, f"crop_type must be one of {known}, got '{crop_type}'"
        self._init(locals())

    def get_crop_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of a crop in pixels for an image of ``image_size`` (height, width)."""
        h, w = image_size
        a, b = self.crop_size
        if self.crop_type == "relative":
            return int(h * a + 0.5), int(w * b + 0.5)
        if self.crop_type == "relative_range":
            lowest = np.asarray(self.crop_size, dtype=np.float32)
            fraction_h, fraction_w = lowest + np.random.rand(2) * (1 - lowest)
            return int(h * fraction_h + 0.5), int(w * fraction_w + 0.5)
        if self.crop_type == "absolute":
            return min(a, h), min(b, w)
        assert a <= b, f"absolute_range needs (lowest, highest), got {self.crop_size}"
        crop_h = np.random.randint(min(h, a), min(h, b) + 1)
        crop_w = np.random.randint(min(w, a), min(w, b) + 1)
        return crop_h, crop_w

    def get_transform(self, image: np.ndarray) -> Transform:
        return self._place(image.shape[:2])

    def _place(self, image_size: tuple[int, int]) -> CropTransform:
        """Draw a size and a position."""
        h, w = image_size
        crop_h, crop_w = self.get_crop_size(image_size)
        assert h >= crop_h and w >= crop_w, f"a crop of {(crop_h, crop_w)} does not fit into {image_size}"
        y0 = np.random.randint(h - crop_h + 1)
        x0 = np.random.randint(w - crop_w + 1)
        return CropTransform(x0, y0, crop_w, crop_h)


class RandomCrop_CategoryAreaConstraint(Augmentation):
    """:class:`RandomCrop` that looks for a crop in which no category of ``sem_seg`` covers too much.

    At most 10 places are tried; the last one is taken if none will do.

    Args:
        single_category_max_area: largest fraction of the (not ignored) crop that one category may cover;
            1 or more switches the constraint off.
        ignored_category: label that does not count.
    """

    def __init__(
        self,
        crop_type: str,
        crop_size: tuple[float, float],
        single_category_max_area: float = 1.0,
        ignored_category: int | None = None,
    ):
        self.crop_aug = RandomCrop(crop_type, crop_size)
        self._init(locals())

    def get_transform(self, image: np.ndarray, sem_seg: np.ndarray) -> Transform:
        if self.single_category_max_area >= 1.0:
            return self.crop_aug.get_transform(image)
        for _ in range(10):
            crop = self.crop_aug._place(sem_seg.shape[:2])
            labels, counts = np.unique(crop.apply_segmentation(sem_seg), return_counts=True)
            if self.ignored_category is not None:
                counts = counts[labels != self.ignored_category]
            if len(counts) > 1 and counts.max() < counts.sum() * self.single_category_max_area:
                break
        return crop


class FixedSizeCrop(Augmentation):
    """Second half of large-scale jitter: a random crop of ``crop_size`` (height, width), padded where the image ends.

    One draw decides both offsets. Padding goes to the right and the bottom.

    Args:
        pad: whether to pad up to the crop size.
        pad_value, seg_pad_value: what images and segmentations are padded with.
    """

    def __init__(
        self, crop_size: tuple[int, int], pad: bool = True, pad_value: float = 128.0, seg_pad_value: int = 255
    ):
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> TransformList:
        h, w = image.shape[:2]
        crop_h, crop_w = self.crop_size
        position = np.random.uniform(0.0, 1.0)
        y0 = int(np.round(max(h - crop_h, 0) * position))
        x0 = int(np.round(max(w - crop_w, 0) * position))
        transforms: list[Transform] = [CropTransform(x0, y0, crop_w, crop_h, w, h)]
        if self.pad:
            missing_h, missing_w = max(crop_h - h, 0), max(crop_w - w, 0)
            kept_h, kept_w = min(crop_h, h), min(crop_w, w)
            transforms.append(
                PadTransform(0, 0, missing_w, missing_h, kept_w, kept_h, self.pad_value, self.seg_pad_value)
            )
        return TransformList(transforms)
