"""Frames that arrive one by one, of unknown number: a camera, a network stream, a generator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np

from vis_core.data.frame_base import DEFAULT_FPS
from vis_core.errors import DataError


class FrameStream:
    """An iterable of frames, uint8 (H, W, 3) RGB, that can be read once.

    A frame is asked for when the one before has been dealt with, so that a camera's frames are fresh, and none is
    kept. The size is that of the first frame, which is fetched at once.

    Raises DataError if there is no first frame, and while iterating for a frame that is no image or of another size.

    Attributes:
        name, fps, height, width: as of a :class:`vis_core.data.FrameSource`.
    """

    def __init__(self, frames: Iterable[np.ndarray], name: str = "stream", fps: float = DEFAULT_FPS):
        self.name = name
        self.fps = fps
        self._frames = iter(frames)
        first = next(self._frames, None)
        if first is None:
            raise DataError(f"{name}: no frames")
        self.height, self.width = self._checked(first, 0, None).shape[:2]
        self._first = [first]

    def __iter__(self) -> Iterator[np.ndarray]:
        first, self._first = self._first, []
        for index, frame in enumerate(chain(first, self._frames)):
            yield self._checked(frame, index, (self.height, self.width))

    def describe(self, index: int) -> str:
        """Where frame ``index`` comes from, as error messages name it."""
        return f"{self.name}: frame {index}"

    def _checked(self, frame: np.ndarray, index: int, size: tuple[int, int] | None) -> np.ndarray:
        frame = np.asarray(frame)
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise DataError(
                f"{self.describe(index)}: expected uint8 of shape (H, W, 3), got {frame.dtype} of shape {frame.shape}"
            )
        if size is not None and frame.shape[:2] != size:
            raise DataError(
                f"{self.describe(index)}: size {frame.shape[1]}x{frame.shape[0]} differs from the first frame's "
                f"{size[1]}x{size[0]}"
            )
        return frame
