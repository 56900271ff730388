"""Tubes drawn over their video.

Each frame's masks are decoded when that frame is drawn and touched within their boxes only, so cost and memory follow
what is visible.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pycocotools.mask as coco_mask

from vis_core.errors import DataError
from vis_core.tube import RLE, Tube, decode_mask

from .colors import track_color
from .labels import LabelLayout, blit, render_label
from .video_writer import VideoWriter

if TYPE_CHECKING:
    from vis_core.data import FrameSource

_FILL = 0.45  # opacity of masks
_READABLE = 360  # pixels of the short side that labels need


class OverlayDrawer:
    """Draws the tubes of one video over its frames.

    A track keeps its colour for the whole video and over videos with equal ids. Of tubes that report one object under
    several classes, the one with the highest score is drawn.

    Args:
        tubes: masks at the video's own size; tubes without a track id are numbered by their place in the list.
        class_names: by ``Tube.category``; a missing name is written as the number.
        height, width: of the frames.
        scale: draw on frames enlarged by this whole factor.
        score_bars: a bar below each label that is as full as the score is high: the frame's own, where tubes have it.
        scores: write the score in the label; not of use for ground truth.
    """

    def __init__(
        self,
        tubes: Sequence[Tube],
        class_names: Sequence[str],
        height: int,
        width: int,
        scale: int = 1,
        score_bars: bool = False,
        scores: bool = True,
    ):
        self._size = (height, width)
        self._scale = scale
        self._tubes = one_per_object(tubes)
        height, width = scale * height, scale * width
        # Bodies of text and lines of the same visual weight from thumbnails to full HD.
        self._thickness = max(1, round(min(height, width) / 200))
        font_size = int(np.clip(round(min(height, width) / 30), 11, 32))
        self._colors = {key: track_color(key) for key in self._tubes}
        self._tags = {}
        for key, tube in self._tubes.items():
            text = track_name(tube, key, class_names) + (f"  {tube.score:.2f}" if scores else "")
            self._tags[key] = render_label(text, self._colors[key], font_size)
        self._bar_height = max(3, font_size // 3) if score_bars else 0
        self._layout = LabelLayout(height, width)

    def draw(self, frame: np.ndarray, index: int) -> np.ndarray:
        """Frame ``index``, (H, W, 3) uint8 RGB, with everything drawn on it: a new array (scale * H, scale * W, 3).

        Labels move smoothly if frames come in order. Raises DataError for masks that are malformed or of another size
        than the frame's.
        """
        if frame.shape[:2] != self._size:
            raise DataError(f"frame {index}: size {frame.shape[:2]} differs from the video's {self._size}")
        image = _enlarge(frame, self._scale, cv2.INTER_CUBIC) if self._scale > 1 else frame.copy()
        visible = {key: tube.segmentations[index] for key, tube in self._tubes.items() if tube.segmentations[index]}
        boxes = {}
        for key, rle in visible.items():
            if tuple(rle["size"]) != self._size:
                size = f"mask size {list(rle['size'])} differs from the video's {list(self._size)}"
                raise DataError(f"frame {index}, track {key}: {size}")
            mask = decode_mask(rle)  # first: the box of a malformed mask is not to be trusted
            box = mask_box(rle)
            if box is not None:
                x0, y0, x1, y1 = box
                inside = _enlarge_mask(mask[y0:y1, x0:x1].astype(np.uint8), self._scale)
                boxes[key] = tuple(self._scale * v for v in box)
                _draw_mask(image, inside, boxes[key], self._colors[key], self._thickness)
        sizes = {key: (self._tags[key].shape[1], self._tags[key].shape[0] + self._bar_height) for key in boxes}
        for key, position in self._layout.place(index, boxes, sizes).items():
            blit(image, self._tags[key], position)
            if self._bar_height:
                bar = score_bar(_score(self._tubes[key], index), sizes[key][0], self._bar_height - 1, self._colors[key])
                blit(image, bar, (position[0], position[1] + self._tags[key].shape[0] + 1))
        return image


def write_overlay(
    source: FrameSource,
    tubes: Sequence[Tube],
    class_names: Sequence[str],
    path: str | Path,
    progress: Callable[[], None] | None = None,
    score_bars: bool = False,
    sinks: Sequence[Callable[[int, np.ndarray, np.ndarray], None]] = (),
) -> Path:
    """Draw tubes over a video and write it as mp4 (see :class:`VideoWriter`); returns the path.

    Small videos are enlarged by a whole factor, to a short side of about 360 pixels, so that labels can be read.

    Args:
        source: the video.
        tubes: what to draw, all of it: select by score before. Each as long as the video.
        class_names: by ``Tube.category``.
        progress: called after every frame.
        score_bars: see :class:`OverlayDrawer`.
        sinks: called with every frame's number, the frame, and the frame as drawn, for what else is made of them.

    Raises DataError if a tube's length or mask size does not fit the video, or the file cannot be written.
    """
    for tube in tubes:
        if len(tube) != len(source):
            raise DataError(f"{source.name}: a tube of {len(tube)} frames for a video of {len(source)}")
    scale = readable_scale(source.height, source.width)
    drawer = OverlayDrawer(tubes, class_names, source.height, source.width, scale, score_bars)
    with VideoWriter(path, source.fps) as writer, closing(iter(source)) as frames:
        for index, frame in enumerate(frames):
            drawn = drawer.draw(frame, index)
            writer.write(drawn)
            for sink in sinks:
                sink(index, frame, drawn)
            if progress:
                progress()
    return Path(path)


def readable_scale(height: int, width: int) -> int:
    """The whole factor by which to enlarge frames so that labels can be read."""
    return max(1, round(_READABLE / min(height, width)))


def one_per_object(tubes: Sequence[Tube]) -> dict[int, Tube]:
    """Tubes by track id; the best of those that share an id or the very list of masks. Best tubes come first."""
    best: dict[int, Tube] = {}
    drawn_lists: set[int] = set()
    numbered = [(i if tube.track_id is None else tube.track_id, tube) for i, tube in enumerate(tubes)]
    for key, tube in sorted(numbered, key=lambda entry: -entry[1].score):
        if key not in best and id(tube.segmentations) not in drawn_lists:
            best[key] = tube
            drawn_lists.add(id(tube.segmentations))
    return best


def track_name(tube: Tube, key: int, class_names: Sequence[str]) -> str:
    """Class and id, as labels show them; the class's number where its name is not known."""
    known = 0 <= tube.category < len(class_names)
    return f"{class_names[tube.category] if known else tube.category} {key}"


def score_bar(score: float, width: int, height: int, color: tuple[int, int, int]) -> np.ndarray:
    """(height, width, 4) uint8 RGBA: the share ``score`` of it in ``color``, the rest dark."""
    bar = np.empty((height, width, 4), np.uint8)
    bar[:] = (20, 20, 20, 170)
    bar[:, : round(width * min(max(score, 0), 1))] = (*color, 255)
    return bar


def _score(tube: Tube, index: int) -> float:
    own = tube.frame_scores[index] if tube.frame_scores else None
    return tube.score if own is None else own


def mask_box(rle: RLE) -> tuple[int, int, int, int] | None:
    """(x0, y0, x1, y1) of the mask, end exclusive, without decoding it; None if it is empty."""
    x, y, w, h = (round(v) for v in coco_mask.toBbox(rle))
    return (x, y, x + w, y + h) if w and h else None


def _enlarge(image: np.ndarray, scale: int, interpolation: int) -> np.ndarray:
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=interpolation)


def _enlarge_mask(mask: np.ndarray, scale: int) -> np.ndarray:
    """(h, w) uint8 0/1 to (scale * h, scale * w), with smooth instead of stair-like edges."""
    if scale == 1:
        return np.ascontiguousarray(mask)
    return (_enlarge(mask * np.uint8(255), scale, cv2.INTER_LINEAR) > 127).astype(np.uint8)


def _draw_mask(
    image: np.ndarray, inside: np.ndarray, box: tuple[int, int, int, int], color: tuple[int, int, int], thickness: int
) -> None:
    """Tint and outline one mask in place; ``inside`` (y1 - y0, x1 - x0) uint8 is its part within ``box``."""
    x0, y0, x1, y1 = box
    patch = np.ascontiguousarray(image[y0:y1, x0:x1])
    tinted = cv2.addWeighted(patch, 1 - _FILL, np.full_like(patch, color), _FILL, 0)
    image[y0:y1, x0:x1] = cv2.copyTo(tinted, inside, patch)
    contours, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(x0, y0))
    cv2.drawContours(image, contours, -1, color, thickness, cv2.LINE_AA)
