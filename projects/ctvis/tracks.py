"""What is kept of a video while it streams by: class evidence and run-length masks of every track.

Shapes: T frames, N objects of a frame, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vis_core.errors import ConfigError
from vis_core.tube import RLE, Tube

SCORE_TYPES = ("mean", "max")


class _Track:
    """One object so far. ``masks`` holds the frames in which anything of it is visible."""

    __slots__ = ("confidence", "evidence", "last_frame", "masks", "num_frames", "num_pixels")

    def __init__(self) -> None:
        self.evidence: np.ndarray | None = None  # (K + 1,) float64, sum or maximum of the logits
        self.num_frames = 0
        self.last_frame = -1
        self.masks: dict[int, RLE] = {}
        self.confidence = 0.0
        self.num_pixels = 0


class VideoTracks:
    """The tracks of one video in order of creation.

    Args:
        score_type: a track's class logits are the "mean" or the elementwise "max" over the frames that saw it.
        noise_start: from the frame after this one on, short-lived tracks are removed: those seen in fewer than
            ``noise_seen`` frames, and not in the last ``noise_absent``. The tracker is not told: a removed track that
            it finds again starts anew, at the end of the order and without its earlier frames.

    Raises:
        ConfigError: unknown ``score_type``.
    """

    def __init__(
        self, score_type: str = "mean", noise_start: int = 8, noise_seen: int = 3, noise_absent: int = 2
    ) -> None:
        if score_type not in SCORE_TYPES:
            raise ConfigError(f"MODEL.CTVIS.TRACKER.SCORE_TYPE: unknown value '{score_type}' (choose from mean, max)")
        self.score_type = score_type
        self.noise_start = noise_start
        self.noise_seen = noise_seen
        self.noise_absent = noise_absent
        self._tracks: dict[int, _Track] = {}

    @property
    def ids(self) -> list[int]:
        return list(self._tracks)

    def __len__(self) -> int:
        return len(self._tracks)

    def add_frame(self, frame: int, ids: Sequence[int], logits: np.ndarray) -> list[int]:
        """Count one frame's objects: identities (N) and class logits (N, K + 1); frames come in order.

        Returns:
            Identities that were removed as noise.
        """
        for id_, evidence in zip(ids, logits.astype(np.float64)):
            track = self._tracks.setdefault(id_, _Track())
            if track.evidence is None:
                track.evidence = evidence
            elif self.score_type == "mean":
                track.evidence = track.evidence + evidence
            else:
                track.evidence = np.maximum(track.evidence, evidence)
            track.num_frames += 1
            track.last_frame = frame
        return self._remove_noise(frame) if frame > self.noise_start else []

    def add_mask(self, frame: int, id_: int, rle: RLE, num_pixels: int, confidence: float) -> None:
        """Keep one object's mask; not if the object was removed in the meantime.

        Args:
            num_pixels: of the mask; an empty one is as good as none.
            confidence: sum over its pixels of their foreground probability.
        """
        track = self._tracks.get(id_)
        if track is None or num_pixels == 0:
            return
        track.masks[frame] = rle
        track.num_pixels += num_pixels
        track.confidence += confidence

    def logits(self) -> np.ndarray:
        """Class logits (len(self), K + 1) float32."""
        means = self.score_type == "mean"
        rows = [t.evidence / t.num_frames if means else t.evidence for t in self._tracks.values()]
        return np.stack(rows).astype(np.float32)

    def tubes(self, num_frames: int, num_outputs: int) -> list[Tube]:
        """The best ``num_outputs`` pairs of track and class, by class probability.

        A track may come under several classes; these tubes share one list of masks. The score is the probability
        times the mean foreground probability of the track's pixels, and the order is not changed by the latter.
        """
        if not self._tracks:
            return []
        probabilities = torch.from_numpy(self.logits()).softmax(dim=1)[:, :-1]  # (tracks, K)
        num_classes = probabilities.shape[1]
        scores, picks = probabilities.flatten().topk(min(num_outputs, probabilities.numel()), sorted=True)
        ids = self.ids
        segmentations: dict[int, list[RLE | None]] = {}
        tubes = []
        for score, pick in zip(scores.tolist(), picks.tolist()):
            id_ = ids[pick // num_classes]
            track = self._tracks[id_]
            masks = segmentations.setdefault(id_, [track.masks.get(t) for t in range(num_frames)])
            quality = track.confidence / (track.num_pixels + 1e-6)
            tubes.append(Tube(pick % num_classes, score * quality, masks, track_id=id_))
        return tubes

    def _remove_noise(self, frame: int) -> list[int]:
        noise = [
            id_
            for id_, track in self._tracks.items()
            if track.num_frames < self.noise_seen and frame - track.last_frame >= self.noise_absent
        ]
        for id_ in noise:
            del self._tracks[id_]
        return noise
