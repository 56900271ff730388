"""The random augmentations; resizing, cropping and colour have files of their own."""

import numpy as np
from fvcore.transforms.transform import HFlipTransform, NoOpTransform, Transform, VFlipTransform

from .augmentation import AugInput, Augmentation, _as_augmentation
from .color import RandomBrightness, RandomContrast, RandomLighting, RandomSaturation
from .crop import FixedSizeCrop, RandomCrop, RandomCrop_CategoryAreaConstraint
from .resize import Resize, ResizeScale, ResizeShortestEdge
from .transform import RotationTransform

__all__ = [
    "FixedSizeCrop",
    "RandomApply",
    "RandomBrightness",
    "RandomContrast",
    "RandomCrop",
    "RandomCrop_CategoryAreaConstraint",
    "RandomFlip",
    "RandomLighting",
    "RandomRotation",
    "RandomSaturation",
    "Resize",
    "ResizeScale",
    "ResizeShortestEdge",
]


class RandomApply(Augmentation):
    """Apply an augmentation or transform with probability ``prob``; one draw decides."""

    def __init__(self, tfm_or_aug: Augmentation | Transform, prob: float = 0.5):
        assert 0.0 <= prob <= 1.0, f"prob must lie in [0, 1], got {prob}"
        self.aug = _as_augmentation(tfm_or_aug)
        self.prob = prob

    def _happens(self) -> bool:
        return self._rand_range() < self.prob

    def get_transform(self, *inputs) -> Transform:
        return self.aug.get_transform(*inputs) if self._happens() else NoOpTransform()

    def __call__(self, aug_input: AugInput) -> Transform:
        return self.aug(aug_input) if self._happens() else NoOpTransform()


class RandomFlip(Augmentation):
    """Flip with probability ``prob``, either horizontally or vertically."""

    def __init__(self, prob: float = 0.5, *, horizontal: bool = True, vertical: bool = False):
        if horizontal == vertical:
            raise ValueError("choose one of horizontal and vertical; for both, use two flips")
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        h, w = image.shape[:2]
        if self._rand_range() >= self.prob:
            return NoOpTransform()
        return HFlipTransform(w) if self.horizontal else VFlipTransform(h)


class RandomRotation(Augmentation):
    """Rotate counter-clockwise by a random angle.

    Args:
        angle: degrees: (lowest, highest) for "range", values to choose from for "choice", or one number.
        expand: enlarge the canvas so that nothing is cut off.
        center: centres of rotation as fractions (x, y) of the image: ((x0, y0), (x1, y1)) spans a rectangle for
            "range", a list to choose from for "choice"; None is the middle.
        sample_style: "range" or "choice".
        interp: an OpenCV interpolation flag.
    """

    def __init__(self, angle, expand: bool = True, center=None, sample_style: str = "range", interp: int | None = None):
        assert sample_style in ("range", "choice"), f"sample_style must be 'range' or 'choice', got '{sample_style}'"
        if isinstance(angle, float | int):
            angle = (angle, angle)
        if center is not None and isinstance(center[0], float | int):
            center = (center, center)
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        h, w = image.shape[:2]
        center = None
        if self.sample_style == "range":
            angle = np.random.uniform(self.angle[0], self.angle[1])
            if self.center is not None:
                (x0, y0), (x1, y1) = self.center
                center = np.random.uniform(x0, x1), np.random.uniform(y0, y1)
        else:
            angle = np.random.choice(self.angle)
            if self.center is not None:
                center = self.center[np.random.choice(len(self.center))]
        if angle % 360 == 0:
            return NoOpTransform()
        if center is not None:
            center = (w * center[0], h * center[1])
        return RotationTransform(h, w, angle, expand=self.expand, center=center, interp=self.interp)
