"""Photometric augmentation of SSD (Liu et al., ECCV 2016)."""

import random

import cv2
import numpy as np
from fvcore.transforms.transform import Transform


class ColorAugSSDTransform(Transform):
    """Each with probability 1/2: brightness, contrast, saturation and hue change; contrast comes second or last.

    Coordinates and segmentations stay. Draws from Python's ``random``.

    Args:
        img_format: ``"RGB"`` or ``"BGR"``, the channel order of images.
        brightness_delta: largest shift, of values 0 to 255.
        contrast_low, contrast_high, saturation_low, saturation_high: ranges of the factors.
        hue_delta: largest shift, in steps of two degrees.
    """

    def __init__(
        self,
        img_format: str,
        brightness_delta: int = 32,
        contrast_low: float = 0.5,
        contrast_high: float = 1.5,
        saturation_low: float = 0.5,
        saturation_high: float = 1.5,
        hue_delta: int = 18,
    ):
        super().__init__()
        assert img_format in ("RGB", "BGR"), f"image format {img_format!r} is neither RGB nor BGR"
        self.is_rgb = img_format == "RGB"
        self.brightness_delta = brightness_delta
        self.contrast_range = (contrast_low, contrast_high)
        self.saturation_range = (saturation_low, saturation_high)
        self.hue_delta = hue_delta

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return segmentation

    def apply_image(self, img: np.ndarray, interp=None) -> np.ndarray:
        """(H, W, 3) uint8 -> the same."""
        if self.is_rgb:
            img = img[:, :, ::-1]
        img = self._brightness(img)
        if random.randrange(2):
            img = self._hue(self._saturation(self._contrast(img)))
        else:
            img = self._contrast(self._hue(self._saturation(img)))
        if self.is_rgb:
            img = img[:, :, ::-1]
        return img

    def _brightness(self, img):
        if random.randrange(2):
            return _scale_shift(img, shift=random.uniform(-self.brightness_delta, self.brightness_delta))
        return img

    def _contrast(self, img):
        if random.randrange(2):
            return _scale_shift(img, scale=random.uniform(*self.contrast_range))
        return img

    def _saturation(self, img):
        if random.randrange(2):
            hsv = cv2.cvtColor(img, cv2.COLOR_BGR2HSV)
            hsv[:, :, 1] = _scale_shift(hsv[:, :, 1], scale=random.uniform(*self.saturation_range))
            return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
        return img

    def _hue(self, img):
        if random.randrange(2):
            hsv = cv2.cvtColor(img, cv2.COLOR_BGR2HSV)
            # OpenCV's 8-bit hue runs from 0 to 179.
            hsv[:, :, 0] = (hsv[:, :, 0].astype(int) + random.randint(-self.hue_delta, self.hue_delta)) % 180
            return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
        return img


def _scale_shift(img: np.ndarray, scale: float = 1, shift: float = 0) -> np.ndarray:
    """``img * scale + shift`` in float32, clipped and truncated to uint8."""
    return np.clip(img.astype(np.float32) * scale + shift, 0, 255).astype(np.uint8)
