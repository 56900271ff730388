"""Features of a video's frames, for a pass forwards and one backwards, within a stated amount of memory.

Shapes: (h, w) a frame as the network takes it, (H, W) padded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from detectron2.structures import ImageList

if TYPE_CHECKING:
    from projects.seq_mask_rcnn.model import SeqMaskRCNN
    from projects.seq_mask_rcnn.propagation import PropagationHead

# Frames that are read in one go, in order, on the way back: video files are slow to read backwards.
FRAMES_PER_READ = 16


class FrameFeatures:
    """One frame's features, each computed when it is asked for first."""

    def __init__(self, model: SeqMaskRCNN, head: PropagationHead, image: torch.Tensor) -> None:
        """``head``: the model's, or its faster twin. ``image``: (3, h, w) in ``INPUT.FORMAT``."""
        self._model = model
        self._head = head
        self._image = image

    @property
    def image_size(self) -> tuple[int, int]:
        """(h, w)."""
        return tuple(self._image.shape[-2:])

    @property
    def canvas_size(self) -> tuple[int, int]:
        """(H, W)."""
        multiple = max(self._model.backbone.size_divisibility, 1)
        height, width = (-(-side // multiple) * multiple for side in self.image_size)
        return height, width

    @property
    def grid_size(self) -> tuple[int, int]:
        """Of the memory, cells of 16 x 16 pixels."""
        height, width = self.canvas_size
        return height // 16, width // 16

    @property
    def images(self) -> ImageList:
        """The normalised, padded image (1, 3, H, W)."""
        return self._model.preprocess_image([{"image": self._image}])

    @cached_property
    def maps(self) -> dict[str, torch.Tensor]:
        """p2 to p6, and, until :attr:`skips` are known, res2 and res3."""
        # Also inside an autocast, which is for the propagation head: RoIAlign does not know every number type.
        with torch.autocast(self._model.device.type, enabled=False):
            return self._model.features(self.images.tensor)

    @cached_property
    def query(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Key and value with which a memory is read."""
        return self._head.query(self.maps["p2"])

    @cached_property
    def skips(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What the frame contributes to decoding."""
        return self._head.skips(self.maps.pop("res2"), self.maps.pop("res3"))

    @cached_property
    def nothing(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Key and value that the frame would leave in a memory without any object."""
        height, width = self.canvas_size
        return self._head.memorise(self.maps["p2"], self.maps["p2"].new_zeros(1, height, width))

    def num_bytes(self) -> int:
        """Memory of what is computed."""
        held = [self._image, *self.__dict__.get("maps", {}).values()]
        held += [x for name in ("query", "skips", "nothing") for x in self.__dict__.get(name, ())]
        return sum(x.nbytes for x in held)


class FeatureWindow:
    """Frames of a video, once forwards and once backwards; the last ones' features are kept in between.

    A frame whose features did not fit is read and computed a second time, never more often.
    """

    def __init__(
        self, images: Sequence[torch.Tensor], make: Callable[[torch.Tensor], FrameFeatures], budget: int
    ) -> None:
        """
        Args:
            images: T frames (3, h, w); iterated once, then indexed.
            make: builds a frame's features.
            budget: bytes that kept features may take.
        """
        self._images = images
        self._make = make
        self._budget = budget
        self._kept: dict[int, FrameFeatures] = {}
        self._held = 0

    def forward(self) -> Iterator[tuple[int, FrameFeatures]]:
        """All frames with their numbers, in order. What is computed for a frame by the time of the next one counts."""
        for t, image in enumerate(self._images):
            features = self._make(image)
            yield t, features
            self._kept[t] = features
            self._held += features.num_bytes()
            while self._held > self._budget:
                self._drop(next(iter(self._kept)))

    def backward(self, start: int) -> Iterator[tuple[int, FrameFeatures]]:
        """Frames from ``start`` to 0. What was kept is let go frame by frame."""
        for t in [t for t in self._kept if t > start]:
            self._drop(t)
        images: dict[int, torch.Tensor] = {}
        for t in range(start, -1, -1):
            if t in self._kept:
                yield t, self._drop(t)
                continue
            if t not in images:
                images = {i: self._images[i] for i in range(max(t + 1 - FRAMES_PER_READ, 0), t + 1)}
            yield t, self._make(images.pop(t))

    def _drop(self, t: int) -> FrameFeatures:
        features = self._kept.pop(t)
        self._held -= features.num_bytes()
        return features
