"""The frames of a video file as images, for labelling and training."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from vis_core.data.formats.paths import new_folder
from vis_core.data.frame_base import FrameSource
from vis_core.errors import ConfigError

_QUALITY = 95


def extract_frames(
    source: FrameSource,
    folder: Path,
    every: int = 1,
    short_side: int | None = None,
    on_frame: Callable[[], None] = lambda: None,
) -> int:
    """Write 00000.jpg, 00001.jpg, ... into a new folder; returns how many.

    Args:
        every: keep one of so many frames.
        short_side: shrink frames whose shorter side is longer than this, in pixels.
        on_frame: called after every frame of the video.

    Raises DataError if the video cannot be read, or the folder exists; ConfigError for a step or side below 1.
    """
    if every < 1 or (short_side is not None and short_side < 1):
        raise ConfigError("--every and --short-side: must be at least 1")
    count = 0
    with new_folder(folder) as partial, closing(iter(source)) as frames:
        for t, frame in enumerate(frames):
            if t % every == 0:
                scale = 1.0 if short_side is None else min(1.0, short_side / min(frame.shape[:2]))
                if scale < 1:
                    frame = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
                bgr = np.ascontiguousarray(frame[:, :, ::-1])
                _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
                (partial / f"{count:05d}.jpg").write_bytes(data.tobytes())
                count += 1
            on_frame()
    return count
