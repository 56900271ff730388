"""Tubes: the one form in which results exist outside a model.

A :class:`Tube` is one object through one video: a class, a score and one run-length mask (or None) a frame.
Models hand each frame's masks to a :class:`TubeBuilder`, which encodes them at once, so that no array of the
size of a video ever exists.

Shapes: N instances, (H, W) the video's own size, T frames. A run-length mask ("RLE") is COCO's compressed form,
``{"size": [H, W], "counts": str}``, column-major, first run background.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch

from vis_core import rle as codec

RLE = dict


def encode_masks(masks: torch.Tensor | np.ndarray) -> list[RLE]:
    """Encode boolean masks (N, H, W), on any device, to N RLEs with ``str`` counts.

    Other dtypes count as foreground wherever they are not zero. What leaves the device is not the masks but the
    positions where foreground begins and ends.
    """
    masks = _boolean(masks)
    if len(masks) == 0:
        return []
    if masks.device.type == "cpu":
        size = list(masks.shape[1:])
        return [{"size": size.copy(), "counts": text} for text in codec.encode_dense(masks.contiguous().numpy())]
    return _encode_edges(_edges(masks), masks.shape[1])


def _boolean(masks: torch.Tensor | np.ndarray) -> torch.Tensor:
    masks = torch.as_tensor(masks)
    if masks.dim() != 3:
        raise ValueError(f"masks: expected shape (N, H, W), got {tuple(masks.shape)}")
    return masks.detach().to(torch.bool)


def _edges(masks: torch.Tensor) -> torch.Tensor:
    """Boolean (N, W * H): the pixels that differ from the one before in column-major order. Does not synchronise."""
    columns = masks.transpose(1, 2).flatten(1)
    edges = columns.clone()
    edges[:, 1:] ^= columns[:, :-1]
    return edges


def _encode_edges(edges: torch.Tensor, height: int) -> list[RLE]:
    """RLEs of the masks that have these edges. Only the edges' positions leave the device."""
    num_masks, num_pixels = edges.shape
    mask, position = edges.nonzero().cpu().unbind(1)
    changes = np.split(position.numpy(), np.searchsorted(mask.numpy(), np.arange(1, num_masks)))
    size = [height, num_pixels // height]
    return [{"size": size.copy(), "counts": codec.encode_changes(places, num_pixels)} for places in changes]


def _encode_on_stream(edges: torch.Tensor, height: int, stream: torch.cuda.Stream | None) -> list[RLE]:
    with torch.cuda.stream(stream):  # a thread would start on the default one
        return _encode_edges(edges, height)


def decode_mask(rle: RLE) -> np.ndarray:
    """Decode one RLE (counts ``str``, ``bytes`` or a list of runs) to a boolean array (H, W).

    Raises DataError if it is malformed (COCO's own decoder hangs or crashes on some such strings).
    """
    return codec.decode(rle)


@dataclass
class Tube:
    """One object through a video.

    Attributes:
        category: contiguous class index, 0-based (not the data set's own id).
        score: confidence in [0, 1] for models that give probabilities.
        segmentations: one RLE, or None where the object is not visible, for each of the T frames.
            Tubes that differ only in class or score may share one list; treat it as read-only.
        track_id: identity within the video, unique unless one object is reported under several classes.
        frame_scores: by frame the confidence of the detection there, None where there is none; for pictures only.
    """

    category: int
    score: float
    segmentations: Sequence[RLE | None] = field(repr=False)
    track_id: int | None = None
    frame_scores: Sequence[float | None] | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.segmentations)

    def to_json(self, video_id: int, category_id: int | None = None) -> dict:
        """Entry of a YouTube-VIS results file. ``category_id`` is the data set's id (default: ``category``)."""
        return {
            "video_id": video_id,
            "category_id": self.category if category_id is None else category_id,
            "score": float(self.score),
            "segmentations": list(self.segmentations),
        }


class _Track:
    """What a builder knows of one object so far."""

    __slots__ = ("labels", "scores", "segmentations")

    def __init__(self) -> None:
        self.segmentations: dict[int, RLE] = {}
        self.scores: list[tuple[int, float]] = []  # of a frame
        self.labels: Counter = Counter()


class TubeBuilder:
    """Collects a video's tubes frame by frame; masks are run-length encoded as they arrive.

    Memory grows with the compressed masks only. Frames may come in any order; a second mask of the same object in
    the same frame replaces the first, while both scores and labels count.

    Masks on an accelerator do not stop the caller: their edges are queued there, and a thread fetches and encodes them
    while the next frames run, at most ``MAX_PENDING`` frames behind.
    """

    MAX_PENDING = 8

    def __init__(self) -> None:
        self._tracks: dict[Hashable, _Track] = {}
        self._pending: deque[tuple[Future, int, list]] = deque()
        self._thread: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return len(self._tracks)

    def add_frame(
        self,
        frame: int,
        track_ids: Sequence[int] | torch.Tensor,
        masks: torch.Tensor | np.ndarray,
        scores: Sequence[float] | torch.Tensor | None = None,
        labels: Sequence[int] | torch.Tensor | None = None,
    ) -> None:
        """Add one frame's objects: ``masks`` (N, H, W) bool and, for each, its identity, score and class."""
        track_ids = _to_list(track_ids)
        scores = [None] * len(track_ids) if scores is None else _to_list(scores)
        labels = [None] * len(track_ids) if labels is None else _to_list(labels)
        if not len(track_ids) == len(masks) == len(scores) == len(labels):
            raise ValueError(
                f"lengths differ: {len(track_ids)} track_ids, {len(masks)} masks, "
                f"{len(scores)} scores, {len(labels)} labels"
            )
        if isinstance(masks, torch.Tensor) and masks.device.type != "cpu" and len(masks):
            self._encode_later(frame, track_ids, masks)
        else:
            self._collect(0)
            self._open(track_ids)
            self._store(frame, track_ids, encode_masks(masks))
        for track_id, score, label in zip(track_ids, scores, labels):
            track = self._tracks[track_id]
            if score is not None:
                track.scores.append((frame, score))
            if label is not None:
                track.labels[label] += 1

    def _encode_later(self, frame: int, track_ids: list, masks: torch.Tensor) -> None:
        self._open(track_ids)  # the order of first appearance must not wait for the thread
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="encode-masks")
        edges = _edges(_boolean(masks))
        stream = torch.cuda.current_stream(masks.device) if masks.is_cuda else None
        future = self._thread.submit(_encode_on_stream, edges, masks.shape[1], stream)
        self._pending.append((future, frame, track_ids))
        self._collect(self.MAX_PENDING)

    def _open(self, track_ids: list) -> None:
        for track_id in track_ids:
            self._tracks.setdefault(track_id, _Track())

    def _collect(self, max_pending: int) -> None:
        """Wait until no more than ``max_pending`` frames are being encoded."""
        while len(self._pending) > max_pending:
            future, frame, track_ids = self._pending.popleft()
            self._store(frame, track_ids, future.result())

    def _store(self, frame: int, track_ids: list, rles: list[RLE]) -> None:
        for track_id, rle in zip(track_ids, rles):
            if track_id in self._tracks:
                self._tracks[track_id].segmentations[frame] = rle

    def discard(self, track_id: Hashable) -> None:
        """Forget an object and its masks. Its identity must not be used again."""
        del self._tracks[track_id]

    def segmentations(self, track_id: int, num_frames: int) -> list[RLE | None]:
        """The object's masks as one list of ``num_frames`` entries, None where it was not seen.

        Query-based methods report one object under several classes: they build each Tube around this one list.
        """
        self._collect(0)
        masks = self._tracks[track_id].segmentations
        return [masks.get(frame) for frame in range(num_frames)]

    def build(self, num_frames: int) -> list[Tube]:
        """All tubes in order of first appearance: score = mean over frames, class = most frequent label, the
        smallest on ties (the rule of MaskTrack R-CNN's result writer)."""
        return [
            Tube(
                category=min(track.labels, key=lambda label: (-track.labels[label], label)),
                score=float(np.mean([score for _, score in track.scores])),
                segmentations=self.segmentations(track_id, num_frames),
                track_id=track_id,
                frame_scores=by_frame(track.scores, num_frames),
            )
            for track_id, track in self._tracks.items()
        ]


def by_frame(values: Sequence[tuple[int, float]], num_frames: int) -> list[float | None]:
    """(frame, value) pairs as one list of ``num_frames`` entries; None where there is none, of several the last."""
    found = dict(values)
    return [found.get(frame) for frame in range(num_frames)]


def _to_list(values) -> list:
    return values.tolist() if isinstance(values, (torch.Tensor, np.ndarray)) else list(values)
