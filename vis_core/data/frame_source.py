"""The front door to videos: :func:`open_video`, and the sources for images and arrays."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vis_core.errors import DataError, FrameError

from .frame_base import DEFAULT_FPS, PREFETCH_FRAMES, FrameReader, FrameSource
from .image_pixels import UNREADABLE, read_rgb
from .video_file import VideoFile

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


class ImageSource(FrameSource, FrameReader):
    """Image files as a video, in the order given, their pixels as :func:`read_rgb` gives them."""

    def __init__(self, paths: Sequence[str | Path], name: str, fps: float = DEFAULT_FPS, **options):
        super().__init__(name, fps, **options)
        if not paths:
            raise DataError(f"{name}: no frames")
        self.paths = [str(p) for p in paths]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def file_names(self) -> list[str]:
        return [f"{path.parent.name}/{path.name}" for path in map(Path, map(os.path.abspath, self.paths))]

    def open_reader(self) -> FrameReader:
        return self

    @property
    def reader(self) -> FrameReader:
        return self

    def read(self, index: int) -> np.ndarray:
        try:
            return read_rgb(self.paths[index])
        except FileNotFoundError as e:
            raise DataError(f"{self.describe(index)}: file not found") from e
        except UNREADABLE as e:
            raise FrameError(f"{self.describe(index)}: cannot be read as an image ({e})") from e

    def describe(self, index: int) -> str:
        return f"{self.paths[index]} (frame {index})"


class ArraySource(FrameSource, FrameReader):
    """Frames in memory: an array (T, H, W, 3) or a sequence of arrays (H, W, 3), uint8 RGB. Nothing is copied."""

    def __init__(
        self, frames: Sequence[np.ndarray] | np.ndarray, name: str = "array", fps: float = DEFAULT_FPS, **options
    ):
        super().__init__(name, fps, **options)
        if not len(frames):
            raise DataError(f"{name}: no frames")
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def open_reader(self) -> FrameReader:
        return self

    @property
    def reader(self) -> FrameReader:
        return self

    def read(self, index: int) -> np.ndarray:
        frame = np.asarray(self.frames[index])
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise DataError(
                f"{self.describe(index)}: expected uint8 of shape (H, W, 3), got {frame.dtype} of shape {frame.shape}"
            )
        return frame


def open_video(
    video: str | Path | Sequence,
    fps: float | None = None,
    skip_bad: bool = False,
    prefetch_frames: int = PREFETCH_FRAMES,
) -> FrameSource:
    """Open anything that is a video.

    Args:
        video: a video file in any container and codec that FFmpeg knows; a folder of images (.jpg, .jpeg, .png,
            .bmp, .webp; in natural order, so that 2.jpg comes before 10.jpg); one image; a sequence of image paths;
            an array (T, H, W, 3) or a sequence of arrays (H, W, 3), uint8 RGB; or a FrameSource, returned as it is.
        fps: frames per second; None takes the file's own, or 10 for images and arrays.
        skip_bad: warn about broken frames instead of raising; the module's text says what takes their place.
        prefetch_frames: frames that an iteration reads ahead; 0 uses no thread.

    Raises:
        DataError: nothing there, no frames in it, not a video, or (unless ``skip_bad``) truncated.
    """
    if isinstance(video, FrameSource):
        return video
    options = {"skip_bad": skip_bad, "prefetch_frames": prefetch_frames}
    if isinstance(video, (str, Path)):
        return _open_path(Path(video), fps, options)
    if len(video) and isinstance(video[0], (str, Path)):
        return ImageSource(video, name=str(Path(video[0]).parent), fps=fps or DEFAULT_FPS, **options)
    return ArraySource(video, fps=fps or DEFAULT_FPS, **options)


def _open_path(path: Path, fps: float | None, options: dict) -> FrameSource:
    if path.is_dir():
        images = sorted(
            (p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")),
            key=lambda p: natural_key(p.name),
        )
        if not images:
            raise DataError(f"{path}: the folder holds no images ({', '.join(IMAGE_SUFFIXES)})")
        return ImageSource(images, name=str(path), fps=fps or DEFAULT_FPS, **options)
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageSource([path], name=str(path), fps=fps or DEFAULT_FPS, **options)
    return VideoFile(path, fps=fps, **options)


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key under which numbers within names count by value, and a name comes before those that go on from it."""
    parts = [(int(part), "") if part.isdecimal() else (-1, part.casefold()) for part in re.split(r"(\d+)", name)]
    return [*parts, (-2, name)]  # below both kinds of part
