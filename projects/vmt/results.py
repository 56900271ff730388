"""What becomes of a video's objects: class logits over its clips, run-length masks, and tubes in the end.

Shapes: N objects of a clip, K logits, (H, W) the video's own size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vis_core import rle
from vis_core.tube import Tube, TubeBuilder


class VideoObjects:
    """The objects of one video in order of first appearance."""

    def __init__(self) -> None:
        self._logits: dict[int, np.ndarray] = {}  # sums over frames, (K,) float64
        self._num_frames: dict[int, int] = {}
        self._masks = TubeBuilder()

    def add_clip(self, ids: Sequence[int | None], logits: torch.Tensor, num_frames: int) -> list[int]:
        """Count the objects of a clip that decides ``num_frames`` frames.

        Args:
            ids: identities, None for new objects.
            logits: (N, K).

        Returns:
            N identities.
        """
        evidence = logits.detach().double().cpu().numpy() * num_frames
        known = []
        for id_, row in zip(ids, evidence):
            id_ = len(self._logits) if id_ is None else id_
            self._logits[id_] = self._logits.get(id_, 0.0) + row
            self._num_frames[id_] = self._num_frames.get(id_, 0) + num_frames
            known.append(id_)
        return known

    def add_masks(self, frame: int, ids: Sequence[int], masks: torch.Tensor) -> None:
        """One frame's masks (N, H, W) bool, encoded at once."""
        self._masks.add_frame(frame, ids, masks)

    def logits(self) -> torch.Tensor:
        """(objects, K) float32, means over the frames of the clips that each object was found in."""
        rows = [total / self._num_frames[id_] for id_, total in self._logits.items()]
        return torch.from_numpy(np.stack(rows)).float()

    def coverage(self, num_frames: int) -> torch.Tensor:
        """(objects, 1) float32, the share of the video's frames whose clips found the object."""
        return torch.tensor(list(self._num_frames.values()), dtype=torch.float32)[:, None] / num_frames

    def tubes(
        self,
        num_frames: int,
        num_outputs: int,
        min_score: float,
        num_classes: int,
        class_offset: int,
        coverage_power: float = 0.0,
    ) -> list[Tube]:
        """The best pairs of object and class, those of one object next to each other.

        Args:
            num_frames: of the video.
            num_outputs: number of pairs, at most; objects without any pixel and logits without a class are left out
                afterwards.
            min_score: pairs below have a score, but no masks.
            num_classes: of the data set.
            class_offset: logit i is class i - ``class_offset``.
            coverage_power: an object's probabilities are multiplied by its :meth:`coverage` to this power (ours): clips
                that did not find it speak against it. Nothing changes where one clip is the whole video.
        """
        if not self._logits:
            return []
        scores = self.logits().sigmoid() * self.coverage(num_frames) ** coverage_power  # (objects, K)
        num_logits = scores.shape[1]
        best, picks = scores.flatten().topk(min(num_outputs, scores.numel()), sorted=True)
        by_object: dict[int, list[tuple[int, float]]] = {}
        for score, pick in zip(best.tolist(), picks.tolist()):
            by_object.setdefault(pick // num_logits, []).append((pick % num_logits - class_offset, score))
        ids = list(self._logits)
        tubes = []
        for row, pairs in by_object.items():
            segmentations = self._masks.segmentations(ids[row], num_frames)
            if not any(mask is not None and rle.area(mask) for mask in segmentations):
                continue
            for category, score in pairs:
                if 0 <= category < num_classes:
                    masks = segmentations if score >= min_score else [None] * num_frames
                    tubes.append(Tube(category, score, masks, track_id=ids[row]))
        return tubes
