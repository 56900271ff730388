"""A video's frames as a network takes them: resized, channels first, lazily."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

import numpy as np
import torch

from vis_core.data.frame_source import FrameSource
from vis_core.data.frame_stream import FrameStream
from vis_core.data.prefetch import prefetch
from vis_core.data.resize import resize_transform
from vis_core.errors import ConfigError, DataError

CHANNEL_ORDERS = ("RGB", "BGR")


class NetworkFrames(Sequence):
    """T uint8 tensors (3, h, w) made from a FrameSource when they are asked for.

    Iterating decodes and resizes ahead in threads and keeps no frame.

    Args:
        short, long: short side of the result and upper bound of the long one; ``short`` 0 keeps the size.
        backend: "pillow", "pillow_floor" or "opencv", see :func:`vis_core.data.resize.resize_transform`.
        channel_order: "RGB" or "BGR".
        size: (height, width) every frame must have.
    """

    def __init__(
        self,
        source: FrameSource | FrameStream,
        short: int,
        long: int,
        backend: str = "pillow",
        channel_order: str = "RGB",
        size: tuple[int, int] | None = None,
        prefetch_frames: int = 2,
    ):
        if channel_order not in CHANNEL_ORDERS:
            raise ConfigError(f"INPUT.FORMAT '{channel_order}' is not one of {', '.join(CHANNEL_ORDERS)}")
        self.source = source
        self.short, self.long, self.backend = short, long, backend
        self.channel_order = channel_order
        self.size = size
        self.prefetch_frames = prefetch_frames

    @classmethod
    def from_config(
        cls,
        cfg,
        source: FrameSource | FrameStream,
        size: tuple[int, int] | None = None,
        prefetch_frames: int | None = None,
    ) -> NetworkFrames:
        """As the config says; ``prefetch_frames`` overrides it. Of a FrameStream there is no length and no index.

        Raises ConfigError for a size that no image can have.
        """
        for key, least in (("MIN_SIZE_TEST", 0), ("MAX_SIZE_TEST", 1)):
            if cfg.INPUT[key] < least:
                raise ConfigError(f"INPUT.{key}: {cfg.INPUT[key]}, but a size has to be at least {least}")
        return cls(
            source,
            short=cfg.INPUT.MIN_SIZE_TEST,
            long=cfg.INPUT.MAX_SIZE_TEST,
            backend=cfg.INPUT.RESIZE_BACKEND,
            channel_order=cfg.INPUT.FORMAT,
            size=size,
            prefetch_frames=cfg.TEST.PREFETCH_FRAMES if prefetch_frames is None else prefetch_frames,
        )

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self._prepare(self.source[index], index % len(self))

    def __iter__(self) -> Iterator[torch.Tensor]:
        return prefetch(self._frames(), self.prefetch_frames)

    def _frames(self) -> Iterator[torch.Tensor]:
        with closing(iter(self.source)) as frames:
            for index, frame in enumerate(frames):
                yield self._prepare(frame, index)

    def _prepare(self, frame: np.ndarray, index: int) -> torch.Tensor:
        if self.size is not None and frame.shape[:2] != tuple(self.size):
            raise DataError(
                f"{self.source.describe(index)}: height and width are {list(frame.shape[:2])}, "
                f"the annotation file says {list(self.size)}"
            )
        if self.channel_order == "BGR":
            frame = frame[:, :, ::-1]
        frame = resize_transform(*frame.shape[:2], self.short, self.long, self.backend).apply_image(
            np.ascontiguousarray(frame)
        )
        return torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1)))
