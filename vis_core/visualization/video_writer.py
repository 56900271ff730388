"""Writing mp4 files that browsers play."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from vis_core.errors import DataError

_BT709 = 1  # ISO/IEC 23091-2: primaries, transfer and matrix of HDTV all have this number


class VideoWriter:
    """H.264 in mp4, as a context manager. Frames are uint8 (H, W, 3) RGB, all of one size.

    The file appears under its name when the block ends without an exception, and not at all otherwise. Odd sizes are
    padded by one row or column (H.264 wants even ones); the index comes first, so that playing can start at once.

    Args:
        path: the file; folders are made, a file of that name is replaced.
        fps: frames per second.
        crf: quality, 0 (lossless) to 51; about 6 more halves the file.

    Raises DataError if the file cannot be written.
    """

    def __init__(self, path: str | Path, fps: float, crf: int = 20):
        self.path = Path(path)
        self._fps = Fraction(fps).limit_denominator(1001)
        self._crf = crf
        self._partial = self.path.with_name(f".{self.path.name}.partial.mp4")
        self._container = None
        self._reformatter = VideoReformatter()
        self._size: tuple[int, int] | None = None

    def __enter__(self) -> VideoWriter:
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append one frame. Raises ValueError if it is no RGB image or differs in size from the first."""
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"expected uint8 of shape (H, W, 3), got {frame.dtype} of shape {frame.shape}")
        if self._container is None:
            self._open(*frame.shape[:2])
        if frame.shape[:2] != self._size:
            raise ValueError(f"frame of size {frame.shape[:2]} in a video of size {self._size}")
        pad = [(0, s % 2) for s in self._size]
        if any(p[1] for p in pad):
            frame = np.pad(frame, (*pad, (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = self._reformatter.reformat(
            picture, format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        self._mux(picture)

    def __exit__(self, kind, error, traceback) -> None:
        if self._container is None:
            return
        try:
            if kind is None:
                self._mux(None)
            self._container.close()
            if kind is None:
                self._partial.replace(self.path)
        except (av.error.FFmpegError, OSError) as e:
            raise self._failure(e) from e
        finally:
            self._partial.unlink(missing_ok=True)

    def _open(self, height: int, width: int) -> None:
        self._size = (height, width)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(self._partial), "w", format="mp4", options={"movflags": "+faststart"})
            options = {"crf": str(self._crf), "preset": "veryfast"}  # half the time of x264's default, files alike
            self._stream = self._container.add_stream("h264", rate=self._fps, options=options)
        except (av.error.FFmpegError, OSError) as e:
            raise self._failure(e) from e
        self._stream.height, self._stream.width = height + height % 2, width + width % 2
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.color_range = ColorRange.MPEG
        context.colorspace = context.color_primaries = context.color_trc = _BT709

    def _mux(self, picture: av.VideoFrame | None) -> None:
        try:
            self._container.mux(self._stream.encode(picture))
        except (av.error.FFmpegError, OSError) as e:
            raise self._failure(e) from e

    def _failure(self, error: Exception) -> DataError:
        return DataError(f"{self.path}: cannot be written: {getattr(error, 'strerror', None) or error}")
