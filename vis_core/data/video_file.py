"""Video files through PyAV: exact length, exact random access, exact pixels."""

from __future__ import annotations

import gc
import itertools
import os
import threading
from collections import OrderedDict
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from vis_core.errors import FrameError

from .frame_base import DEFAULT_FPS, WAY_PAST, FrameReader, FrameSource, logger
from .video_index import VideoIndex, index_video, open_stream, reason

# Decoded frames kept for stepping back and forth; a step back would otherwise decode again from the last keyframe.
_KEPT_FRAMES = 8
# Matrix coefficients (ISO/IEC 23091-2: BT.709, FCC, SMPTE 240M, BT.2020) that the scaler knows by the same number.
# Everything else, also what the file leaves open, is taken for BT.601.
_KNOWN_MATRICES = (1, 4, 7, 9)
_BT601 = 5

# PyAV's containers and streams refer to each other. A closed decoder (tens of MB) stays until the garbage collector
# comes by, which can be hundreds of videos later; calling it each time would cost more than opening the file.
_COLLECT_EVERY = 8
_closed_readers = itertools.count(1)


class VideoFile(FrameSource):
    """A video file. Opening it reads through the file once without decoding, to know its frames.

    Frame t is the t-th frame in order of display; frames are as far apart as the file has them (no resampling to a
    constant rate). Rotation and mirroring in the file's metadata are applied; pixel aspect ratios are not.
    """

    def __init__(self, path: str | Path, fps: float | None = None, **options):
        super().__init__(str(path), DEFAULT_FPS, **options)
        self.path = str(path)
        self.index = index_video(self.path)
        self.fps = fps or self.index.fps or DEFAULT_FPS
        if self.index.truncated:
            if not self.skip_bad:
                raise FrameError(f"{path}: frame {len(self)}: {self.index.truncated}{WAY_PAST}")
            logger.warning("%s: %s; the %d frames before are used", path, self.index.truncated, len(self))
        self._local = threading.local()  # decoders cannot be shared by threads, nor survive a fork

    def __len__(self) -> int:
        return self.index.length

    def open_reader(self) -> FrameReader:
        return VideoReader(self.path, self.index)

    @property
    def reader(self) -> FrameReader:
        if getattr(self._local, "pid", None) != os.getpid():
            self._local.pid, self._local.reader = os.getpid(), self.open_reader()
        return self._local.reader

    def __getstate__(self) -> dict:
        return {k: v for k, v in self.__dict__.items() if k != "_local"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _local=threading.local())


class VideoReader(FrameReader):
    """Decodes single frames: goes on from the last one where that is shorter, else from the keyframe before."""

    def __init__(self, path: str, index: VideoIndex):
        self._path = path
        self._index = index
        self._reformatter = VideoReformatter()  # one for all frames: setting up a conversion costs as much as doing it
        self._kept: OrderedDict[int, av.VideoFrame] = OrderedDict()
        self._missing: set[int] = set()
        self._matrix: np.ndarray | None = None
        self._matrix_known = False
        self._last_error: Exception | None = None
        self._container, self._stream = open_stream(path)
        self._start(first=0, exact=False)

    def close(self) -> None:
        self._kept.clear()
        self._container.close()
        del self._container, self._stream, self._frames
        if next(_closed_readers) % _COLLECT_EVERY == 0:
            gc.collect()

    def read(self, index: int) -> np.ndarray:
        frame = self._kept.get(index)
        if frame is None and index not in self._missing:
            key, timestamp = self._index.keyframe_before(index)
            if index <= self._at or key > self._at + 1:
                self._seek(key, timestamp)
            frame = self._decode_until(index)
            if frame is None and not self._exact:
                # Damage (with several threads an error takes sound frames along), a stream without clean entry points
                # (gradual refresh), or an imprecise seek. The long way settles which frames there are.
                self._reopen()
                frame = self._decode_until(index)
        if frame is None:
            cause = f" ({reason(self._last_error)})" if self._last_error else ""
            raise FrameError(f"{self._path}: frame {index} cannot be decoded{cause}")
        return self._to_array(frame)

    def _seek(self, key: int, timestamp: int | None) -> None:
        if timestamp is None:
            self._reopen()
        else:
            self._container.seek(timestamp, stream=self._stream, backward=True)
            self._start(first=key, exact=False)

    def _reopen(self) -> None:
        """Back to the very start, in the way that works in every container; one decoding thread from now on."""
        self.close()
        self._container, self._stream = open_stream(self._path, threads=False)
        self._start(first=0, exact=True)

    def _start(self, first: int, exact: bool) -> None:
        self._kept.clear()
        self._first = first  # frames shown before it may refer to what was not decoded: they are not to be trusted
        self._exact = exact  # what does not come now never comes
        self._at = -1  # index of the last decoded frame
        self._frames = self._index.decode(self._container, self._stream, self._note_error)

    def _note_error(self, error: Exception) -> None:
        self._last_error = error

    def _decode_until(self, index: int) -> av.VideoFrame | None:
        """Decode up to frame ``index``; None if it does not come."""
        for number, frame in self._frames:
            if number < self._first:
                continue
            self._pass_over(number)
            self._at = number
            self._kept[number] = frame
            if len(self._kept) > _KEPT_FRAMES:
                self._kept.popitem(last=False)
            if number >= index:
                return frame if number == index else None
        self._pass_over(self._index.length)
        self._at = self._index.length
        return None

    def _pass_over(self, number: int) -> None:
        if self._exact:
            self._missing.update(range(self._at + 1, number))

    def _to_array(self, frame: av.VideoFrame) -> np.ndarray:
        # Said outright, because older PyAV takes every video for standard definition. RGB has no use for the second
        # one, but only a difference between the two makes PyAV look at the first.
        matrix = int(frame.colorspace) if frame.colorspace in _KNOWN_MATRICES else _BT601
        array = self._reformatter.reformat(
            frame, format="rgb24", src_colorspace=matrix, dst_colorspace=_BT601
        ).to_ndarray()
        if not self._matrix_known:
            # Once a file, not once a frame: reading it ties the frame into a reference cycle, and memory would wait
            # for the garbage collector.
            self._matrix, self._matrix_known = _display_matrix(frame), True
        return _orient(array, self._matrix)


def _display_matrix(frame: av.VideoFrame) -> np.ndarray | None:
    data = frame.side_data.get("DISPLAYMATRIX")
    return None if data is None else np.frombuffer(bytes(data), dtype=np.int32).reshape(3, 3).copy()


def _orient(array: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """Turn and mirror (H, W, 3) as a display matrix says: a pixel at (x, y) is shown at (x, y) @ matrix[:2, :2].

    Only the eight turns and mirrorings by right angles change anything; other angles go to the nearest of them.
    """
    if matrix is None:
        return array
    (a, b), (c, d) = matrix[:2, :2].astype(np.int64)
    if abs(a) + abs(d) < abs(b) + abs(c):  # x and y change places
        array = array.transpose(1, 0, 2)
        flip_x, flip_y = c < 0, b < 0
    else:
        flip_x, flip_y = a < 0, d < 0
    return np.ascontiguousarray(array[:: -1 if flip_y else 1, :: -1 if flip_x else 1])
