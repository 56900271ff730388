"""What is kept of a video while it streams by: class evidence and run-length masks of every track.

Shapes: T frames, N objects of a frame, K classes, (H, W) the video's own size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.config import CfgNode, configurable

from vis_core.config import check_choice
from vis_core.tube import RLE, Tube, TubeBuilder, by_frame

SCORE_TYPES = ("mean", "max")
MAX_PENDING = 16  # sums that may wait on the device, so that not every frame has to wait for it


class _Track:
    """One object so far. ``key`` names its masks: an identity that was removed and found again gets a new one."""

    __slots__ = ("evidence", "frame_scores", "key", "last_frame", "num_frames")

    def __init__(self, key: tuple[int, int], evidence: np.ndarray) -> None:
        self.key = key
        self.evidence = evidence  # (K + 1,) float64, sum or maximum of the logits
        self.frame_scores: list[tuple[int, float]] = []  # of a frame the greatest class probability
        self.num_frames = 0
        self.last_frame = -1


class VideoTracks:
    """The tracks of one video in order of creation."""

    @configurable
    def __init__(
        self, *, score_type: str = "mean", noise_start: int = 8, noise_seen: int = 3, noise_absent: int = 2
    ) -> None:
        """
        Args:
            score_type: a track's class logits are the "mean" or the elementwise "max" over the frames that saw it.
            noise_start: from the frame after this one on short-lived tracks are removed: those seen in fewer than
                ``noise_seen`` frames, and not in the last ``noise_absent``. The tracker is not told: a removed track
                that it finds again starts anew, at the end of the order and without its earlier frames.

        Raises:
            ConfigError: unknown ``score_type``.
        """
        check_choice("MODEL.CTVIS.TRACKER.SCORE_TYPE", score_type, SCORE_TYPES)
        self.score_type = score_type
        self.noise_start = noise_start
        self.noise_seen = noise_seen
        self.noise_absent = noise_absent
        self.reset()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        node = cfg.MODEL.CTVIS.TRACKER
        return {
            "score_type": node.SCORE_TYPE,
            "noise_start": node.NOISE_START,
            "noise_seen": node.NOISE_SEEN,
            "noise_absent": node.NOISE_ABSENT,
        }

    def reset(self) -> None:
        """Forget everything: a new video begins."""
        self._tracks: dict[int, _Track] = {}
        self._masks = TubeBuilder()
        self._pending: list[tuple[list[tuple[int, int]], torch.Tensor]] = []
        self._sums: dict[tuple[int, int], np.ndarray] = {}  # confidence and number of pixels of each track

    @property
    def ids(self) -> list[int]:
        return list(self._tracks)

    def __len__(self) -> int:
        return len(self._tracks)

    def add_frame(self, frame: int, ids: Sequence[int], logits: np.ndarray) -> list[int]:
        """Count one frame's objects: identities (N) and class logits (N, K + 1). Frames come in order.

        Returns:
            Identities that were removed as noise.
        """
        for id_, evidence, score in zip(ids, logits.astype(np.float64), best_probability(logits)):
            track = self._tracks.get(id_)
            if track is None:
                track = self._tracks[id_] = _Track((id_, frame), evidence)
            elif self.score_type == "mean":
                track.evidence = track.evidence + evidence
            else:
                track.evidence = np.maximum(track.evidence, evidence)
            track.frame_scores.append((frame, score))
            track.num_frames += 1
            track.last_frame = frame
        return self._remove_noise(frame) if frame > self.noise_start else []

    def add_masks(
        self, frame: int, ids: Sequence[int], masks: torch.Tensor, confidence: torch.Tensor, num_pixels: torch.Tensor
    ) -> None:
        """Keep the masks of objects that :meth:`add_frame` was told of for this frame.

        Args:
            masks: (N, H, W) bool, encoded at once.
            confidence: (N,) float, sum of the foreground probability over the pixels of each mask.
            num_pixels: (N,), their number.
        """
        keys = [self._tracks[id_].key for id_ in ids]
        self._masks.add_frame(frame, keys, masks)
        self._pending.append((keys, torch.stack([confidence.double(), num_pixels.double()], dim=1)))
        if len(self._pending) > MAX_PENDING:
            self._collect_sums()

    def logits(self) -> np.ndarray:
        """Class logits (len(self), K + 1) float32."""
        means = self.score_type == "mean"
        rows = [track.evidence / track.num_frames if means else track.evidence for track in self._tracks.values()]
        return np.stack(rows).astype(np.float32)

    def tubes(self, num_frames: int, num_outputs: int) -> list[Tube]:
        """The best ``num_outputs`` pairs of track and class, by class probability.

        A track may come under several classes; these tubes share one list of masks. The score is the probability
        times the mean foreground probability of the track's pixels, and does not change the order.
        """
        if not self._tracks:
            return []
        probabilities = torch.from_numpy(self.logits()).softmax(dim=1)[:, :-1]  # (tracks, K)
        num_classes = probabilities.shape[1]
        scores, picks = probabilities.flatten().topk(min(num_outputs, probabilities.numel()), sorted=True)
        self._collect_sums()
        tracks = list(self._tracks.items())
        segmentations: dict[int, list[RLE | None]] = {}
        tubes = []
        for score, pick in zip(scores.tolist(), picks.tolist()):
            id_, track = tracks[pick // num_classes]
            if id_ not in segmentations:
                segmentations[id_] = self._masks.segmentations(track.key, num_frames)
            confidence, num_pixels = self._sums[track.key].tolist()
            quality = confidence / (num_pixels + 1e-6)
            frame_scores = by_frame(track.frame_scores, num_frames)
            tubes.append(Tube(pick % num_classes, score * quality, segmentations[id_], id_, frame_scores))
        return tubes

    def _collect_sums(self) -> None:
        if not self._pending:
            return
        alive = {track.key for track in self._tracks.values()}
        values = torch.cat([values for _, values in self._pending]).cpu().numpy()
        for key, value in zip((key for keys, _ in self._pending for key in keys), values):
            if key in alive:
                self._sums[key] = self._sums.get(key, 0) + value
        self._pending.clear()

    def _remove_noise(self, frame: int) -> list[int]:
        noise = [
            id_
            for id_, track in self._tracks.items()
            if track.num_frames < self.noise_seen and frame - track.last_frame >= self.noise_absent
        ]
        for id_ in noise:
            key = self._tracks.pop(id_).key
            self._masks.discard(key)
            self._sums.pop(key, None)
        return noise


def best_probability(logits: np.ndarray) -> list[float]:
    """Greatest class probability of each of N objects, from logits (N, K + 1) whose last class is "no object"."""
    return torch.from_numpy(logits).softmax(dim=1)[:, :-1].amax(dim=1).tolist()
