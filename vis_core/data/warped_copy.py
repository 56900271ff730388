"""Pseudo-clips as SeqFormer and VMT make them: an image among copies seen from elsewhere, some with motion blur."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from detectron2.data import transforms as T
from fvcore.transforms.transform import NoOpTransform, Transform, TransformList

from vis_core.data.clip_transforms import FrameTransform
from vis_core.data.photometric import motion_blur_kernel, shift_colors
from vis_core.errors import ConfigError

BRIGHTNESS = 40  # largest shift
HUE_SATURATION = 5
LARGEST_INSET = 0.22  # of a side; from 0.24 on corners of the image can get behind the perspective's horizon


class WarpedCopy:
    """One frame, drawn at random, stays; of each other one colours, perspective, place and angle change, in this order,
    with draws of its own, and it may be blurred. The images keep their size.

    Args:
        angle: largest rotation either way around the image's middle, in degrees.
        shift: largest translation along each side, as a share of it.
        perspective: standard deviation of how far each corner of what is seen moves inwards, as a share of the sides.
        blur_prob: share of the copies that have motion blur.
        blur_sizes: odd kernel sizes in pixels of the original image, of which one is drawn.
    """

    def __init__(self, angle: float, shift: float, perspective: float, blur_prob: float, blur_sizes: Sequence[int]):
        if blur_prob and (not blur_sizes or any(size < 3 or size % 2 == 0 for size in blur_sizes)):
            raise ConfigError(f"INPUT.PSEUDO.BLUR_SIZES {list(blur_sizes)}: one or more odd numbers from 3 on")
        self.angle, self.shift, self.perspective = angle, shift, perspective
        self.blur_prob, self.blur_sizes = blur_prob, list(blur_sizes)

    def start_clip(self, num_frames: int) -> FrameTransform:
        still = np.random.randint(num_frames)
        frames = iter(range(num_frames))
        return lambda image: NoOpTransform() if next(frames) == still else self._draw(*image.shape[:2])

    def _draw(self, h: int, w: int) -> Transform:
        steps = [
            self._colors(),
            HomographyTransform(h, w, perspective_matrix(self._insets(), h, w)),
            HomographyTransform(h, w, self._motion(h, w)),
        ]
        if np.random.rand() < self.blur_prob:
            kernel = motion_blur_kernel(
                int(np.random.choice(self.blur_sizes)), np.random.uniform(0, 360), np.random.rand()
            )
            steps.append(T.ColorTransform(lambda image: cv2.filter2D(image, -1, kernel)))
        return TransformList(steps)

    def _colors(self) -> Transform:
        changes = {
            "brightness": int(np.random.randint(-BRIGHTNESS, BRIGHTNESS + 1)),
            "hue_saturation": int(np.random.randint(-HUE_SATURATION, HUE_SATURATION + 1)),
        }
        kept = np.random.permutation(list(changes))[: np.random.randint(1, 3)]  # one of them or both
        return T.ColorTransform(lambda image: shift_colors(image, **{name: changes[name] for name in kept}))

    def _insets(self) -> np.ndarray:
        return np.minimum(np.abs(np.random.normal(0, self.perspective, (4, 2))), LARGEST_INSET)

    def _motion(self, h: int, w: int) -> np.ndarray:
        angle = np.deg2rad(np.random.uniform(-self.angle, self.angle))
        dx, dy = np.random.uniform(-self.shift, self.shift, 2) * (w, h)
        cos, sin = np.cos(angle), np.sin(angle)
        turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        return _translation(w / 2 + dx, h / 2 + dy) @ turn @ _translation(-w / 2, -h / 2)


class HomographyTransform(Transform):
    """Map an image (h, w) by a homography (3, 3) of points (x, y, 1), the middle of pixel i being i + 0.5; its size
    stays, and what comes from outside is black."""

    def __init__(self, h: int, w: int, matrix: np.ndarray):
        super().__init__()
        self.h, self.w, self.matrix = h, w, matrix

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        points = coords @ self.matrix[:, :2].T + self.matrix[:, 2]
        return points[:, :2] / points[:, 2:]

    def apply_image(self, img: np.ndarray, interp: int = cv2.INTER_LINEAR) -> np.ndarray:
        # OpenCV counts from the middle of the first pixel.
        matrix = _translation(-0.5, -0.5) @ self.matrix @ _translation(0.5, 0.5)
        return cv2.warpPerspective(img, matrix, (self.w, self.h), flags=interp)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, cv2.INTER_NEAREST)


def perspective_matrix(insets: np.ndarray, h: int, w: int) -> np.ndarray:
    """Homography (3, 3) that stretches a quadrilateral over the image.

    ``insets`` (4, 2): how far its corners (top left, top right, bottom right, bottom left) lie inside of the image's,
    along x and y, as shares of width and height.
    """
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
    seen = corners + insets * (1 - 2 * corners)
    size = np.array([w, h])
    return cv2.getPerspectiveTransform((seen * size).astype(np.float32), (corners * size).astype(np.float32))


def _translation(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)
