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
    affinity: torch.Tensor,
    scores: torch.Tensor,
    other_scores: torch.Tensor,
    threshold: float = 0.3,
    confidence: float = 0.25,
) -> list[int | None]:
    """Which object of the clip before each object is, one to one, by the greatest sum of weighted affinities (ours).

    Several objects of a clip may be doubles of one, with nearly the same masks. Weighted with both objects' confidence,
    sure ones go to sure ones.

    Args:
        affinity: (N, M), see :func:`pair_affinity`.
        scores, other_scores: (N,) and (M,) probability of the best class, in [0, 1].
        threshold: least affinity of a pair.
        confidence: power of the product of both scores that an affinity is multiplied with; 0 = not weighted.

    Returns:
        N indices into M, None for a new object.
    """
    weights = (scores.double()[:, None] * other_scores.double()[None]) ** confidence
    gain = torch.where(affinity >= threshold, affinity * weights, 0.0)
    columns = optimal_association(gain.cpu().numpy(), -torch.inf)
    allowed = (affinity >= threshold).tolist()
    return [column if column != UNMATCHED and allowed[row][column] else None for row, column in enumerate(columns)]


def pair_affinity(
    iou: torch.Tensor, queries: torch.Tensor, others: torch.Tensor, iou_weight: float = 1.0, query_weight: float = 0.5
) -> torch.Tensor:
    """How alike objects of two clips are, (N, M) float64: the weighted mean of overlap and likeness of queries (ours).

    Args:
        iou: (N, M) soft overlap in the frames that both clips show.
        queries, others: (N, C) and (M, C), compared by the cosine of their angle.
        iou_weight, query_weight: weights of the two.
    """
    similarity = cosine_similarity(queries.double(), others.double())
    return (iou_weight * iou + query_weight * similarity) / (iou_weight + query_weight)


class QueryMemory:
    """The last query of each object of a video, so that one that was away for a clip or more is known again (ours).

    Besides those of the clip before it holds the ``capacity`` objects that were last seen.
    """

    def __init__(self, capacity: int = 100, threshold: float = 0.8) -> None:
        """
        Args:
            capacity: absent objects that are remembered; 0 = none.
            threshold: least cosine of the angle between two queries of one object.
        """
        self.capacity = capacity
        self.threshold = threshold
        self._queries: dict[int, torch.Tensor] = {}  # identity -> (C,) float64, the latest last
        self._shown: set[int] = set()  # identities of the clip before

    def recall(self, links: Sequence[int | None], queries: torch.Tensor) -> list[int | None]:
        """Identities of a clip's objects, None for those not linked; absent objects are put in where queries fit.

        Args:
            links: N identities of the clip before, None for objects that are not among them.
            queries: (N, C).
        """
        links = list(links)
        absent = [id_ for id_ in self._queries if id_ not in self._shown]
        free = [row for row, id_ in enumerate(links) if id_ is None]
        if not absent or not free:
            return links
        similarity = cosine_similarity(queries[free].double(), torch.stack([self._queries[id_] for id_ in absent]))
        for row, column in zip(free, optimal_association(similarity.cpu().numpy(), self.threshold)):
            if column != UNMATCHED:
                links[row] = absent[column]
        return links

    def see(self, ids: Sequence[int], queries: torch.Tensor) -> None:
        """Remember the N objects of a clip by their queries (N, C)."""
        self._shown = set(ids)
        for id_, query in zip(ids, queries.double()):
            self._queries.pop(id_, None)
            self._queries[id_] = query.clone()  # not a view, which would keep the whole clip's
        while len(self._queries) > self.capacity + len(self._shown):
            del self._queries[next(iter(self._queries))]
