"""Deterministic transforms that fvcore does not have: resizing by Pillow, rotation, colour functions.

Coordinates are continuous: the pixel of column i and row j covers [i, i+1) x [j, j+1), with its centre half a pixel
further than its indices.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from fvcore.transforms.transform import CropTransform, NoOpTransform, Transform, TransformList
from PIL import Image

__all__ = ["ColorTransform", "PILColorTransform", "ResizeTransform", "RotationTransform"]

_TORCH_MODE = {
    Image.Resampling.NEAREST: "nearest",
    Image.Resampling.BILINEAR: "bilinear",
    Image.Resampling.BICUBIC: "bicubic",
}


def _cv2():
    # imported on first use: OpenCV may be switched off (DETECTRON2_DISABLE_CV2), and only rotation needs it
    import cv2

    return cv2


def _resize_pillow(image: np.ndarray, height: int, width: int, interp: int) -> np.ndarray:
    """uint8 (H, W), (H, W, 1) or (H, W, 3) -> the same layout at (height, width)."""
    single_channel = image.ndim == 3 and image.shape[2] == 1
    picture = Image.fromarray(image[:, :, 0] if single_channel else image)
    resized = np.array(picture.resize((width, height), interp))  # a copy, since Pillow's own buffer is read-only
    return resized[:, :, None] if single_channel else resized


def _resize_torch(image: np.ndarray, height: int, width: int, interp: int) -> np.ndarray:
    """(H, W), (H, W, C) or (H, W, A, B) of a floating type -> the same layout at (height, width), not antialiased."""
    # flips hand on views with negative strides, which torch refuses
    x = torch.from_numpy(np.ascontiguousarray(image))
    trailing = x.shape[2:]
    x = x.reshape(x.shape[0], x.shape[1], -1).permute(2, 0, 1)[None]  # (1, C, H, W)
    mode = _TORCH_MODE[interp]
    x = F.interpolate(x, (height, width), mode=mode, align_corners=None if mode == "nearest" else False)
    return x[0].permute(1, 2, 0).reshape(height, width, *trailing).numpy()


class ResizeTransform(Transform):
    """Resize (h, w) to (new_h, new_w).

    uint8 images go through Pillow, which antialiases when it shrinks; other types through
    :func:`torch.nn.functional.interpolate`. Segmentations are resized with nearest neighbour.
    """

    def __init__(self, h: int, w: int, new_h: int, new_w: int, interp: int | None = None):
        super().__init__()
        if interp is None:
            interp = Image.Resampling.BILINEAR
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        assert img.shape[:2] == (self.h, self.w), f"expected size {(self.h, self.w)}, got an image of {img.shape}"
        assert img.ndim <= 4, f"expected at most 4 dimensions, got {img.shape}"
        resize = _resize_pillow if img.dtype == np.uint8 else _resize_torch
        return resize(img, self.new_h, self.new_w, self.interp if interp is None else interp)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        coords[:, 0] = coords[:, 0] * (self.new_w / self.w)
        coords[:, 1] = coords[:, 1] * (self.new_h / self.h)
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=Image.Resampling.NEAREST)

    def inverse(self) -> Transform:
        return ResizeTransform(self.new_h, self.new_w, self.h, self.w, self.interp)


class RotationTransform(Transform):
    """Rotate an (h, w) image counter-clockwise by ``angle`` degrees.

    Args:
        expand: enlarge the canvas so that the whole rotated image fits; otherwise the size stays.
        center: (x, y) the image turns around; default its middle. With ``expand`` it has no effect on the result.
        interp: an OpenCV interpolation flag for images (segmentations are always nearest); default linear.
    """

    def __init__(self, h: int, w: int, angle: float, expand: bool = True, center=None, interp: int | None = None):
        super().__init__()
        middle = np.array((w / 2, h / 2))
        if center is None:
            center = middle
        if interp is None:
            interp = _cv2().INTER_LINEAR
        self._set_attributes(locals())
        del self.middle

        cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        rotation = np.array([[cos, sin], [-sin, cos]])  # counter-clockwise, since y points down
        if expand:
            extent = np.abs(rotation) @ (w, h)
            self.bound_w, self.bound_h = (int(x) for x in np.rint(extent))
            # the middle of the image moves to the middle of the new canvas
            offset = np.array((self.bound_w / 2, self.bound_h / 2)) - rotation @ middle
        else:
            self.bound_w, self.bound_h = w, h
            offset = np.asarray(center, dtype=float) - rotation @ center
        self._coords_matrix = matrix = np.column_stack([rotation, offset])  # (2, 3)
        # the same map between pixel indices, whose centres lie half a pixel further: i' + .5 = A (i + .5) + b
        self._image_matrix = matrix.copy()
        self._image_matrix[:, 2] += matrix[:, :2].sum(axis=1) * 0.5 - 0.5

    def _is_identity(self) -> bool:
        return self.angle % 360 == 0

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        if len(img) == 0 or self._is_identity():
            return img
        assert img.shape[:2] == (self.h, self.w), f"expected size {(self.h, self.w)}, got an image of {img.shape}"
        flags = self.interp if interp is None else interp
        return _cv2().warpAffine(img, self._image_matrix, (self.bound_w, self.bound_h), flags=flags)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        coords = np.asarray(coords, dtype=float)
        if len(coords) == 0 or self._is_identity():
            return coords
        return coords @ self._coords_matrix[:, :2].T + self._coords_matrix[:, 2]

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=_cv2().INTER_NEAREST)

    def inverse(self) -> Transform:
        """Rotate back and cut out the original area; only for ``expand=True``, which loses nothing."""
        if not self.expand:
            raise NotImplementedError("a rotation that cut off corners cannot be inverted")
        if self._is_identity():
            return NoOpTransform()
        back = RotationTransform(self.bound_h, self.bound_w, -self.angle, True, None, self.interp)
        crop = CropTransform((back.bound_w - self.w) // 2, (back.bound_h - self.h) // 2, self.w, self.h)
        return TransformList([back, crop])


class ColorTransform(Transform):
    """Change colours with ``op(image) -> image``; coordinates and segmentations stay as they are."""

    def __init__(self, op: Callable[[np.ndarray], np.ndarray]):
        if not callable(op):
            raise ValueError("op must be a function of the image")
        super().__init__()
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return self.op(img)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return segmentation

    def inverse(self) -> Transform:
        return NoOpTransform()


class PILColorTransform(ColorTransform):
    """Change colours with ``op(PIL.Image) -> PIL.Image``; the array must be something Pillow understands."""

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return np.asarray(self.op(Image.fromarray(img)))
