"""Long videos as overlapping clips: which frames make a clip, and whose objects are whose.

Shapes: N objects of one clip, M of another, C channels of a query, (h, w) soft masks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from vis_core.tracking import UNMATCHED, cosine_similarity, optimal_association

SMOOTHING = 1e-6  # added to the union: two empty masks do not overlap


class Window(NamedTuple):
    """A clip of a video.

    Attributes:
        start: number of its first frame.
        frames: its frames; valid until the next window is asked for.
        first, stop: the frames [first, stop) of the video are decided by this window. Those of all windows together are
            the whole video, in order.
    """

    start: int
    frames: Sequence[Any]
    first: int
    stop: int


def sliding_windows(frames: Iterable[Any], length: int, overlap: int) -> Iterator[Window]:
    """Clips of ``length`` frames that share ``overlap`` frames with the one before; the last one may share more.

    The earlier of two windows decides the first half of the frames that they share. At most ``length`` frames are kept.
    A video that is not longer, or ``length`` 0, makes one window.
    """
    kept: deque = deque(maxlen=length or None)
    count = decided = 0
    due = length or None
    for frame in frames:
        if count == due:  # a window is full, and it is not the last one
            stop = count - overlap // 2
            yield Window(count - len(kept), kept, decided, stop)
            decided, due = stop, count + length - overlap
        kept.append(frame)
        del frame  # nor is it kept while the next one is fetched
        count += 1
    if count:
        yield Window(count - len(kept), kept, decided, count)


class SoftOverlap:
    """Intersection and union of soft masks, summed over frames."""

    def __init__(self) -> None:
        self._intersection = self._union = 0.0

    def add(self, masks: torch.Tensor, others: torch.Tensor) -> None:
        """One frame's probabilities (N, h, w) and (M, h, w)."""
        a, b = masks.flatten(1).double(), others.flatten(1).double()
        intersection = a @ b.T
        self._intersection = self._intersection + intersection
        self._union = self._union + a.sum(1)[:, None] + b.sum(1)[None] - intersection

    def iou(self) -> torch.Tensor:
        """(N, M) float64."""
        return self._intersection / (self._union + SMOOTHING)


def link_objects(
    iou: torch.Tensor,
    queries: torch.Tensor,
    others: torch.Tensor,
    iou_weight: float = 1.0,
    query_weight: float = 0.5,
    threshold: float = 0.3,
) -> list[int | None]:
    """Which object of the clip before each object is, one to one, by the greatest sum of affinities.

    Args:
        iou: (N, M) soft overlap in the frames that both clips show.
        queries, others: (N, C) and (M, C), compared by the cosine of their angle.
        iou_weight, query_weight: affinity is the mean of the two with these weights.
        threshold: least affinity of a pair.

    Returns:
        N indices into M, None for a new object.
    """
    similarity = cosine_similarity(queries.double(), others.double())
    affinity = (iou_weight * iou + query_weight * similarity) / (iou_weight + query_weight)
    columns = optimal_association(affinity.cpu().numpy(), threshold)
    return [None if column == UNMATCHED else column for column in columns]
