"""Colour augmentations beyond Detectron2's brightness, contrast and saturation; masks and boxes stay.

As those of clip_transforms.py; every frame has draws of its own.
"""

from __future__ import annotations

import cv2
import numpy as np
from detectron2.data import transforms as T
from detectron2.projects.point_rend import ColorAugSSDTransform
from fvcore.transforms.transform import Transform

from vis_core.data.clip_transforms import FrameTransform
from vis_core.data.seeding import seeded


class PhotometricDistortion:
    """SSD's distortion (Liu et al., ECCV 2016): brightness, contrast, saturation, hue and the order of the channels,
    each changed with probability 1/2. Values are clipped to 0-255 (in SeqFormer's and VMT's code they wrap).
    """

    def __init__(self, image_format: str):
        self.distortion = ColorAugSSDTransform(image_format)

    def start_clip(self, num_frames: int) -> FrameTransform:
        return self._draw

    def _draw(self, image: np.ndarray) -> Transform:
        channels = np.random.permutation(3) if np.random.rand() < 0.5 else np.arange(3)
        # Detectron2's transform draws whenever it is applied; its own seed lets it do the same each time.
        seed = int(np.random.randint(2**32, dtype=np.uint32))

        def distort(image: np.ndarray) -> np.ndarray:
            with seeded(seed):
                return np.ascontiguousarray(self.distortion.apply_image(image)[..., channels])

        return T.ColorTransform(distort)


def shift_colors(image: np.ndarray, brightness: int = 0, hue_saturation: int = 0) -> np.ndarray:
    """Add ``brightness`` to all channels of an image (H, W, 3) uint8, or ``hue_saturation`` to both hue (a full turn
    is 256, so it wraps) and saturation. RGB or BGR: mirrored draws make up for the hue's other sense of rotation.
    """
    if brightness:
        image = np.clip(image.astype(np.int16) + brightness, 0, 255).astype(np.uint8)
    if hue_saturation:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL).astype(np.int16)
        hsv[..., 0] = (hsv[..., 0] + hue_saturation) % 256
        hsv[..., 1] = np.clip(hsv[..., 1] + hue_saturation, 0, 255)
        image = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB_FULL)
    return image


def motion_blur_kernel(size: int, angle: float, lean: float) -> np.ndarray:
    """Float32 (size, size), sum 1: a line through the middle, turned by ``angle`` degrees from the vertical.

    ``lean`` in [0, 1]: 1/2 weighs the line evenly, 0 and 1 let it fade out towards one end.
    """
    kernel = np.zeros((size, size), np.float32)
    kernel[:, size // 2] = np.linspace(lean, 1 - lean, size)
    middle = ((size - 1) / 2, (size - 1) / 2)
    kernel = cv2.warpAffine(kernel, cv2.getRotationMatrix2D(middle, angle, 1.0), (size, size))
    return kernel / kernel.sum()
