"""HOTA, DetA and AssA on tubes: how well objects are found and how well they are followed, as two numbers.

J. Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking", IJCV 2021. The similarity of two
objects in a frame is the IoU of their masks. HOTA ignores scores, so tracks are first filtered by `min_score`.

Shapes: D tracks and G objects of one class in one video, T frames, A localisation thresholds, K categories.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from vis_core.evaluation.ground_truth import GroundTruth
from vis_core.evaluation.results import Results
from vis_core.evaluation.tube_iou import frame_ious
from vis_core.evaluation.tubes import decode_tubes

THRESHOLDS = np.arange(0.05, 0.99, 0.05)
_TOLERANCE = np.finfo(np.float64).eps


@dataclass
class _Counts:
    """Sums over frames, each float64 (A,): matches, misses, false positives, and sums over the matches of the
    association accuracy, recall and precision of their pair of tracks and of their IoU."""

    tp: np.ndarray = field(default_factory=lambda: np.zeros(len(THRESHOLDS)))
    fn: np.ndarray = field(default_factory=lambda: np.zeros(len(THRESHOLDS)))
    fp: np.ndarray = field(default_factory=lambda: np.zeros(len(THRESHOLDS)))
    accuracy: np.ndarray = field(default_factory=lambda: np.zeros(len(THRESHOLDS)))
    recall: np.ndarray = field(default_factory=lambda: np.zeros(len(THRESHOLDS)))
    precision: np.ndarray = field(default_factory=lambda: np.zeros(len(THRESHOLDS)))
    iou: np.ndarray = field(default_factory=lambda: np.zeros(len(THRESHOLDS)))

    def add(self, other: _Counts) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass(frozen=True)
class Hota:
    """HOTA and its parts in [0, 1], each float64 (A,) over ``THRESHOLDS``; the published numbers are their means.

    ``deta`` = TP / (TP + FN + FP), ``detre`` and ``detpr`` its recall and precision; ``assa`` the mean over the matches
    of TPA / (TPA + FNA + FPA), ``assre`` and ``asspr`` likewise; ``loca`` the mean IoU of the matches;
    ``hota`` = sqrt(deta * assa).
    """

    hota: np.ndarray
    deta: np.ndarray
    assa: np.ndarray
    detre: np.ndarray
    detpr: np.ndarray
    assre: np.ndarray
    asspr: np.ndarray
    loca: np.ndarray

    def summary(self) -> dict[str, float]:
        names = ("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA")
        return {name: float(getattr(self, name.lower()).mean()) for name in names}


@dataclass(frozen=True)
class HotaMetrics:
    """``classes``: by category id, of those that occur. ``mean``: the average of these over classes. ``pooled``: from
    the sums over all classes, so that frequent ones weigh more."""

    classes: dict[int, Hota]
    mean: Hota
    pooled: Hota


def evaluate_hota(
    gt: GroundTruth | dict | str | os.PathLike,
    results: Results | Sequence[dict] | str | os.PathLike,
    *,
    min_score: float = 0.0,
    video_ids: Iterable[int] | None = None,
) -> HotaMetrics:
    """HOTA of all tracks with a score of at least ``min_score``, by class, all videos of a class taken together.

    Crowd objects are left out. Raises DataError for malformed input.
    """
    ground_truth, results = GroundTruth.load(gt), Results.load(results)
    counts: dict[int, _Counts] = {}
    for video_id in sorted(ground_truth.videos if video_ids is None else set(video_ids)):
        objects = [track for track in ground_truth.tracks(video_id) if not track.is_crowd]
        tracks = [track for track in results.tracks(video_id) if track.score >= min_score]
        for category in {track.category_id for track in (*objects, *tracks)} & ground_truth.categories.keys():
            of_class = _video_counts(
                [track.segmentations for track in tracks if track.category_id == category],
                [track.segmentations for track in objects if track.category_id == category],
                f"video {video_id}, category {category}",
            )
            counts.setdefault(category, _Counts()).add(of_class)
    classes = {category: _metrics(counts[category]) for category in sorted(counts)}
    pooled = _Counts()
    for of_class in counts.values():
        pooled.add(of_class)
    means = {
        name: np.mean([getattr(metrics, name) for metrics in classes.values()] or [np.zeros(len(THRESHOLDS))], axis=0)
        for name in Hota.__dataclass_fields__
    }
    return HotaMetrics(classes, Hota(**means), _metrics(pooled))


def _video_counts(tracks: Sequence[Sequence], objects: Sequence[Sequence], where: str) -> _Counts:
    """Counts of one class in one video."""
    d_tubes = decode_tubes(tracks, lambda n: f"result {n} of {where}")
    g_tubes = decode_tubes(objects, lambda n: f"annotation {n} of {where}")
    ious = frame_ious(d_tubes, g_tubes)  # (T, D, G)
    frames = len(ious)
    d_present, g_present = (
        np.pad(tubes.frame_areas() > 0, ((0, 0), (0, frames - tubes.index.shape[1]))) for tubes in (d_tubes, g_tubes)
    )
    return count_matches(ious, d_present, g_present)


def count_matches(ious: np.ndarray, d_present: np.ndarray, g_present: np.ndarray) -> _Counts:
    """Match frame by frame, for all thresholds.

    In each frame the assignment maximises the sum of IoU times alignment, the latter being the Jaccard index of the
    two tracks over the whole video, counted softly: a pair's IoU over what its row and column sum to. A pair then
    counts for the thresholds that its IoU reaches.

    Args:
        ious: float64 (T, D, G); d_present: bool (D, T); g_present: bool (G, T).
    """
    d_frames, g_frames = d_present.sum(axis=1), g_present.sum(axis=1)
    shares = ious.sum(axis=1, keepdims=True) + ious.sum(axis=2, keepdims=True) - ious
    soft = np.divide(ious, shares, out=np.zeros_like(ious), where=shares > _TOLERANCE).sum(axis=0)  # (D, G)
    either = np.maximum(d_frames[:, None] + g_frames[None] - soft, 1)
    alignment = soft / either

    matches = np.zeros((len(THRESHOLDS), *soft.shape))  # frames in which track d is matched to object g
    counts = _Counts()
    for frame, similarity in enumerate(ious):
        d, g = linear_sum_assignment(similarity * alignment, maximize=True)
        hit = similarity[d, g] >= THRESHOLDS[:, None] - _TOLERANCE  # (A, pairs)
        matches[:, d, g] += hit
        matched = hit.sum(axis=1)
        counts.tp += matched
        counts.fn += g_present[:, frame].sum() - matched
        counts.fp += d_present[:, frame].sum() - matched
        counts.iou += (hit * similarity[d, g]).sum(axis=1)
    total = d_frames[:, None] + g_frames[None]
    counts.accuracy = (matches * matches / np.maximum(1, total - matches)).sum(axis=(1, 2))
    counts.recall = (matches * matches / np.maximum(1, g_frames[None])).sum(axis=(1, 2))
    counts.precision = (matches * matches / np.maximum(1, d_frames[:, None])).sum(axis=(1, 2))
    return counts


def _metrics(counts: _Counts) -> Hota:
    tp = np.maximum(1, counts.tp)
    deta = counts.tp / np.maximum(1, counts.tp + counts.fn + counts.fp)
    assa = counts.accuracy / tp
    return Hota(
        hota=np.sqrt(deta * assa),
        deta=deta,
        assa=assa,
        detre=counts.tp / np.maximum(1, counts.tp + counts.fn),
        detpr=counts.tp / np.maximum(1, counts.tp + counts.fp),
        assre=counts.recall / tp,
        asspr=counts.precision / tp,
        loca=np.where(counts.tp > 0, counts.iou / tp, 1.0),
    )
