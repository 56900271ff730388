"""Label maps in palette PNG files, as DAVIS keeps masks: one byte per pixel, 0 = background, k = object k."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from vis_core.atomic import replacing
from vis_core.data.image_pixels import UNREADABLE
from vis_core.errors import DataError

VOID = 255  # neither object nor background
_MODES = ("P", "L", "1")  # Pillow's names
_TWO_BYTE_MODES = ("I", "I;16", "I;16B")


def label_colors() -> np.ndarray:
    """uint8 (256, 3) RGB: the colour of label k, whose bits are dealt out to the three channels, highest first, as in
    PASCAL VOC and DAVIS."""
    labels = np.arange(256)
    colors = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= ((labels >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colors


def write_label_map(path: str | Path, labels: np.ndarray) -> None:
    """Save labels uint8 (H, W); folders are made. Raises DataError if the place cannot be written."""
    image = Image.fromarray(np.ascontiguousarray(labels, dtype=np.uint8)).convert("P")
    image.putpalette(label_colors().ravel().tolist())
    with replacing(path) as partial:
        image.save(partial)


def read_label_map(path: str | Path, two_bytes: bool = False) -> np.ndarray:
    """Labels uint8 (H, W) of a palette or grey image; with ``two_bytes`` int64, as MOTS keeps larger numbers.

    Raises DataError naming the file, also if its pixels are colours instead of labels.
    """
    modes = _MODES + _TWO_BYTE_MODES if two_bytes else _MODES
    try:
        with Image.open(path) as image:
            if image.mode not in modes:
                raise DataError(f"{path}: expected a palette or grey image of labels, its pixels are {image.mode}")
            return np.array(image, dtype=np.int64 if two_bytes else np.uint8)
    except UNREADABLE as e:
        raise DataError(f"{path}: cannot be read as an image ({' '.join(str(e).split())})") from e
