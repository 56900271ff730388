"""Reading images and changing their channel order."""

import numpy as np
import torch
from detectron2.utils.file_io import PathManager
from PIL import Image

__all__ = ["convert_PIL_to_numpy", "convert_image_to_rgb", "read_image"]

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# ITU-R BT.601, analogue form: Y in [0, 1], U in +-0.436, V in +-0.615
_RGB_TO_YUV = np.array([[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]])
_YUV_TO_RGB = np.array([[1.0, 0.0, 1.13983], [1.0, -0.39465, -0.58060], [1.0, 2.03211, 0.0]])


def convert_PIL_to_numpy(image: Image.Image, format: str | None) -> np.ndarray:
    """Pillow image -> array.

    Args:
        format: "BGR", "YUV-BT.601", "L", another Pillow mode such as "RGB", or None to keep what is stored.

    Returns:
        uint8 (H, W, 3), for "L" (H, W, 1); float64 (H, W, 3) for "YUV-BT.601".
    """
    if format is not None:
        image = image.convert("RGB" if format in ("BGR", "YUV-BT.601") else format)
    array = np.array(image)
    if format == "L":
        return array[:, :, None]
    if format == "BGR":
        return array[:, :, ::-1]
    if format == "YUV-BT.601":
        return (array / 255.0) @ _RGB_TO_YUV.T
    return array


def convert_image_to_rgb(image: np.ndarray | torch.Tensor, format: str | None) -> np.ndarray:
    """(H, W, C) image in ``format`` (as in :func:`convert_PIL_to_numpy`) -> (H, W, 3) uint8 RGB for display."""
    if isinstance(image, torch.Tensor):
        image = image.cpu().numpy()
    if format == "BGR":
        return image[:, :, [2, 1, 0]]
    if format == "YUV-BT.601":
        return ((image @ _YUV_TO_RGB.T) * 255.0).clip(0, 255).astype(np.uint8)
    image = image.astype(np.uint8)
    if format == "L":
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if format is None or format == "RGB":
        return image
    return np.array(Image.fromarray(image).convert("RGB"))


def _turn_upright(image: Image.Image) -> Image.Image:
    """Undo the rotation or mirroring that the camera noted in the EXIF data."""
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # broken EXIF data comes as many kinds of error and is no reason to lose the image
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def read_image(file_name: str, format: str | None = None) -> np.ndarray:
    """Read an image file, turned upright.

    Args:
        file_name: any path that :class:`PathManager` knows.
        format: see :func:`convert_PIL_to_numpy`.

    Returns:
        (H, W, C) array in that format.
    """
    with PathManager.open(file_name, "rb") as f:
        return convert_PIL_to_numpy(_turn_upright(Image.open(f)), format)
