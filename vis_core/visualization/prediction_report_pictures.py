"""Small pictures of every track for the prediction report."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from vis_core.tube import Tube
from vis_core.visualization.data_uri import jpeg_uri
from vis_core.visualization.overlay import mask_box

PER_TRACK = 10
_SIZE = (120, 90)  # width and height that a picture fits into
_MARGIN = 0.25  # of the box's sides around it
_QUALITY = 78


class Thumbnails:
    """Collects pictures of tracks while their video is drawn: call :meth:`add` for every frame.

    Args:
        tubes: by key; each gets pictures of up to ``PER_TRACK`` of the frames in which it can be seen, evenly spaced.
    """

    def __init__(self, tubes: Mapping[int, Tube]):
        self._tubes = tubes
        self._wanted: dict[int, list[int]] = {}
        for key, tube in tubes.items():
            seen = [t for t, rle in enumerate(tube.segmentations) if rle and mask_box(rle)]
            picks = np.unique(np.linspace(0, len(seen) - 1, PER_TRACK).round().astype(int)) if seen else []
            for pick in picks:
                self._wanted.setdefault(seen[pick], []).append(key)
        self.pictures: dict[int, list[tuple[int, str]]] = {key: [] for key in tubes}  # (frame, data URI)

    def add(self, index: int, frame: np.ndarray, drawn: np.ndarray) -> None:
        """Cut the tracks that want a picture of frame ``index`` out of ``drawn``, which may be enlarged."""
        scale = drawn.shape[0] // frame.shape[0]
        for key in self._wanted.get(index, ()):
            box = mask_box(self._tubes[key].segmentations[index])
            self.pictures[key].append((index, jpeg_uri(_cut(drawn, [scale * v for v in box]), _QUALITY)))


def _cut(image: np.ndarray, box: list[int]) -> np.ndarray:
    """The box with a margin, made to fit into ``_SIZE``."""
    x0, y0, x1, y1 = box
    dx, dy = round(_MARGIN * (x1 - x0)) + 2, round(_MARGIN * (y1 - y0)) + 2
    part = image[max(y0 - dy, 0) : y1 + dy, max(x0 - dx, 0) : x1 + dx]
    ratio = min(_SIZE[0] / part.shape[1], _SIZE[1] / part.shape[0])
    size = (max(round(part.shape[1] * ratio), 1), max(round(part.shape[0] * ratio), 1))
    return cv2.resize(part, size, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC)
