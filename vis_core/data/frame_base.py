"""Videos as sequences of frames, whatever they come from.

A frame is a uint8 array (H, W, 3), RGB. Sources are lazy: a frame is read when it is asked for, and iterating reads a
few frames ahead in a thread, so memory does not grow with the length of the video.

Broken input raises a DataError that names file and frame, a FrameError where ``skip_bad`` would help. With that it is
a warning instead, and:

* a single frame that cannot be read shows the last good frame (at the start: the first good one), so that every
  index keeps meaning the same moment;
* frames that a truncated video file no longer holds are dropped from its end, and the length says so.
"""

from __future__ import annotations

import logging
import operator
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from vis_core.errors import DataError, FrameError

from .prefetch import prefetch

logger = logging.getLogger(__name__)

# Images carry no clock. It only matters for the speed of a video made from them.
DEFAULT_FPS = 10.0
PREFETCH_FRAMES = 4
_MAX_REPORTS = 10
WAY_PAST = "; skip_bad=True (vis predict: --skip-bad-frames) goes on without"


class FrameReader(ABC):
    """Reads single frames of a source; it may hold an open file. One thread at a time."""

    @abstractmethod
    def read(self, index: int) -> np.ndarray:
        """Frame ``index`` (0 <= index < length), (H, W, 3) uint8 RGB. Raises DataError if it cannot be read."""

    def close(self) -> None:  # noqa: B027  (readers that hold nothing open)
        """Release what is held open."""


class FrameSource(Sequence):
    """A video: ``source[t]`` is frame t, iterating gives all frames in order, prefetched.

    Indexing and any number of iterations may go on side by side.

    Attributes:
        name: for messages and file names of results.
        fps: frames per second (the mean, where they are not evenly spaced).
        skip_bad: see the module's text.
        prefetch_frames: how many frames an iteration reads ahead.
    """

    def __init__(self, name: str, fps: float, skip_bad: bool = False, prefetch_frames: int = PREFETCH_FRAMES):
        self.name = name
        self.fps = fps
        self.skip_bad = skip_bad
        self.prefetch_frames = prefetch_frames
        self._bad: set[int] = set()
        self._size: tuple[int, int] | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def open_reader(self) -> FrameReader:
        """A new, independent reader."""

    @property
    @abstractmethod
    def reader(self) -> FrameReader:
        """The reader behind indexing."""

    @property
    def file_names(self) -> list[str]:
        """Of the frames, below the folder that the video lies in; of a file those that ``vis data frames`` gives."""
        return [f"{Path(self.name).stem}/{t:05d}.jpg" for t in range(len(self))]

    @property
    def height(self) -> int:
        """Pixels of a frame as shown (rotation applied)."""
        return self._frame_size()[0]

    @property
    def width(self) -> int:
        """Pixels of a frame as shown (rotation applied)."""
        return self._frame_size()[1]

    def _frame_size(self) -> tuple[int, int]:
        if self._size is None:
            with closing(self._frames()) as frames:
                next(frames)  # notes the size of the first good frame
        return self._size

    def __getitem__(self, index: int) -> np.ndarray:
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name}: frame {index} of a video of {len(self)} frames")
        return self._read(self.reader, index % len(self), last_good=None)

    def __iter__(self) -> Iterator[np.ndarray]:
        return prefetch(self._frames(), self.prefetch_frames)

    def _frames(self) -> Iterator[np.ndarray]:
        last_good = None
        with closing(self.open_reader()) as reader:
            for index in range(len(self)):
                last_good = self._read(reader, index, last_good)
                yield last_good

    def _read(self, reader: FrameReader, index: int, last_good: np.ndarray | None) -> np.ndarray:
        """Frame ``index``, or what stands in for it. ``last_good`` saves looking for the frame before a bad one."""
        if index not in self._bad:
            try:
                return self._checked(reader.read(index), index)
            except DataError as e:
                if not self.skip_bad:
                    if isinstance(e, FrameError):
                        raise FrameError(f"{e}{WAY_PAST}") from e
                    raise
                self._report(e)
                self._bad.add(index)
        if last_good is not None:
            return last_good
        for other in (*range(index - 1, -1, -1), *range(index + 1, len(self))):
            if other not in self._bad:
                try:
                    return self._checked(reader.read(other), other)
                except DataError as e:
                    self._report(e)
                    self._bad.add(other)
        raise DataError(f"{self.name}: none of the {len(self)} frames can be read")

    def _report(self, error: DataError) -> None:
        if len(self._bad) < _MAX_REPORTS:
            logger.warning("%s; another frame is shown in its place", error)
        elif len(self._bad) == _MAX_REPORTS:
            logger.warning("%s: more frames cannot be read; not reported one by one", self.name)

    def _checked(self, frame: np.ndarray, index: int) -> np.ndarray:
        if self._size is None:
            self._size = frame.shape[:2]
        if frame.shape[:2] != self._size:
            raise DataError(
                f"{self.describe(index)}: size {frame.shape[1]}x{frame.shape[0]} differs from the video's "
                f"{self._size[1]}x{self._size[0]}"
            )
        return frame

    def describe(self, index: int) -> str:
        """Where frame ``index`` comes from, as error messages name it."""
        return f"{self.name}: frame {index}"
