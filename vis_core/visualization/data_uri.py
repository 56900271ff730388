"""Pictures and files as data URIs, so that a page needs no other file."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np


def jpeg_uri(image: np.ndarray, quality: int, width: int | None = None) -> str:
    """Data URI of the JPEG of ``image``, (H, W, 3) uint8 RGB, resized to ``width`` pixels if given."""
    image = np.ascontiguousarray(image[:, :, ::-1])
    if width is not None:
        height = max(1, round(image.shape[0] * width / image.shape[1]))
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return _uri(data.tobytes(), "image/jpeg")


def file_uri(path: str | Path, mime: str) -> str:
    """Data URI of a file."""
    return _uri(Path(path).read_bytes(), mime)


def _uri(data: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"
