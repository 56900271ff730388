"""Pixels of an image file as a frame, whatever they are stored as: prediction and training see the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

# What Pillow's decoders raise for a damaged file.
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
_TWO_BYTE_MODES = ("I;16", "I;16L", "I;16B", "I;16N")  # Pillow's names
# Formats of which one file can be a whole video. A JPEG may hold more images too (MPO): previews, or the other eye's.
_ANIMATED = ("WEBP", "PNG")


def read_rgb(path: str | Path) -> np.ndarray:
    """Image (H, W, 3) uint8. EXIF orientation is applied; grey, palette and RGBA become RGB, 16 bits the upper 8.

    Raises one of :data:`UNREADABLE`; ValueError also for an animation, and for numbers without a known range.
    """
    with Image.open(path) as image:
        if image.format in _ANIMATED and getattr(image, "n_frames", 1) > 1:
            raise ValueError(f"an animation of {image.n_frames} images: save it as .gif, as .mp4 or as single images")
        return np.array(_eight_bits(_upright(image), image.format).convert("RGB"))


def _upright(image: Image.Image) -> Image.Image:
    try:
        image.getexif()
    except Exception:  # broken EXIF data comes as many kinds of error and is no reason to lose the image
        return image
    return ImageOps.exif_transpose(image)


def _eight_bits(image: Image.Image, file_format: str) -> Image.Image:
    """Pillow's own conversion would cut every value above 255 off: 16 bits would become white."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits")
    if image.mode not in (*_TWO_BYTE_MODES, "I"):
        return image
    values = np.asarray(image)
    if values.size and not 0 <= values.min() <= values.max() < 2**16:
        raise ValueError("its pixels have more than 16 bits; save it with 8 or 16")
    if image.mode == "I" and file_format != "PNG" and values.max(initial=0) < 2**8:  # 8 bits in a large type
        return image  # (a PNG's mode "I" is what older Pillows say for 16 bits)
    return Image.fromarray((values >> 8).astype(np.uint8))
