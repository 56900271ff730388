"""Labels that follow their objects calmly and keep clear of each other.

A position is the (x, y) of a label's top left corner in pixels, a size its (width, height).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .colors import text_color

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # x0, y0, x1, y1

_FOLLOW = 0.5  # share of the way to the wanted place that a label moves in one frame
_REST = 1.5  # pixels a label's object may move without the label following
_GAP = 2.0


def render_label(text: str, color: tuple[int, int, int], font_size: int) -> np.ndarray:
    """A rounded tag with text, (h, w, 4) uint8 RGBA."""
    font = ImageFont.load_default(size=font_size)
    left, _, right, _ = font.getbbox(text)
    ascent, descent = font.getmetrics()
    pad = max(2, round(font_size * 0.3))
    size = (int(right - left) + 2 * pad, ascent + descent + pad)
    big = Image.new("RGBA", (size[0] * 4, size[1] * 4), (*color, 0))  # drawn large for smooth corners
    ImageDraw.Draw(big).rounded_rectangle((0, 0, big.width - 1, big.height - 1), 4 * pad, (*color, 235))
    tag = big.resize(size, Image.Resampling.BOX)
    ImageDraw.Draw(tag).text((pad - left, pad / 2), text, (*text_color(color), 255), font=font)
    return np.array(tag)


def blit(image: np.ndarray, tag: np.ndarray, position: Point) -> None:
    """Draw an RGBA tag onto ``image`` (H, W, 3) uint8 in place; parts outside the image are left out."""
    x, y = round(position[0]), round(position[1])
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(x + tag.shape[1], image.shape[1]), min(y + tag.shape[0], image.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    part = tag[y0 - y : y1 - y, x0 - x : x1 - x]
    patch = image[y0:y1, x0:x1]
    patch[:] = cv2.blendLinear(
        np.ascontiguousarray(part[..., :3]),
        np.ascontiguousarray(patch),
        part[..., 3].astype(np.float32) / 255,
        1 - part[..., 3].astype(np.float32) / 255,
    )


class LabelLayout:
    """Places the labels of successive frames of one video of the given size."""

    def __init__(self, height: int, width: int):
        self._frame = (width, height)
        self._last: dict[Hashable, tuple[int, Point]] = {}

    def place(
        self, frame: int, boxes: Mapping[Hashable, Box], sizes: Mapping[Hashable, tuple[int, int]]
    ) -> dict[Hashable, Point]:
        """Positions of the labels of the objects with ``boxes`` in frame ``frame``.

        A label wants to be above its object's top left corner. It drifts there from where it was in the frame before,
        and gives way to labels that come earlier in ``boxes``; labels for which no room is left are not in the result.
        """
        taken: list[Box] = []
        placed: dict[Hashable, Point] = {}
        for key, box in boxes.items():
            size = sizes[key]
            position = self._free_place(self._wanted(key, frame, box, size), size, taken)
            if position is None:
                continue
            placed[key] = position
            taken.append((*position, position[0] + size[0], position[1] + size[1]))
            self._last[key] = (frame, position)
        return placed

    def _wanted(self, key: Hashable, frame: int, box: Box, size: tuple[int, int]) -> Point:
        goal = self._inside((box[0], box[1] - size[1] - _GAP), size)
        when, last = self._last.get(key, (None, goal))
        if when not in (frame, frame - 1):
            return goal
        dx, dy = goal[0] - last[0], goal[1] - last[1]
        distance = float(np.hypot(dx, dy))
        if distance <= _REST:
            return last
        # Far behind, a label hurries, or it would name a neighbour.
        step = max(_FOLLOW, 1 - 0.5 * max(size) / distance)
        return last[0] + step * dx, last[1] + step * dy

    def _inside(self, position: Point, size: tuple[int, int]) -> Point:
        return tuple(float(min(max(p, 0), max(f - s, 0))) for p, f, s in zip(position, self._frame, size))

    def _free_place(self, wanted: Point, size: tuple[int, int], taken: list[Box]) -> Point | None:
        """The free position nearest to ``wanted``: there, or touching one or two of the labels in the way."""
        columns = [wanted[0], *(t[2] + _GAP for t in taken), *(t[0] - size[0] - _GAP for t in taken)]
        rows = [wanted[1], *(t[3] + _GAP for t in taken), *(t[1] - size[1] - _GAP for t in taken)]
        candidates = [(x, wanted[1]) for x in columns] + [(wanted[0], y) for y in rows]
        candidates = {self._inside(c, size) for c in candidates}
        free = [c for c in candidates if not any(_overlap(c, size, t) for t in taken)]
        return min(free, key=lambda c: (abs(c[0] - wanted[0]) + abs(c[1] - wanted[1]), c), default=None)


def _overlap(position: Point, size: tuple[int, int], other: Box) -> bool:
    # Half a pixel of slack: positions are rounded when drawn.
    x, y = position
    return x < other[2] + 0.5 and other[0] < x + size[0] + 0.5 and y < other[3] + 0.5 and other[1] < y + size[1] + 0.5
