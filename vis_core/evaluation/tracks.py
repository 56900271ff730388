"""Tube AP and AR of a results file: the front door of the evaluation room.

The metric is that of the YouTube-VIS challenge (Yang et al., "Video Instance Segmentation", ICCV 2019), with the
occlusion levels of OVIS and the tube-boundary IoU of HQ-YTVIS as variants. docs/evaluation.md states every rule.
"""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

import numpy as np

from vis_core.errors import DataError
from vis_core.evaluation.accumulate import AREA_RANGES, OCCLUSION_RANGES, accumulate, mean_of_present, summarise
from vis_core.evaluation.boundary import DILATION_RATIO
from vis_core.evaluation.ground_truth import GroundTruth
from vis_core.evaluation.results import Results
from vis_core.evaluation.video import Protocol, evaluate_video

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackMetrics:
    """Result of :func:`evaluate_tracks`. Values are in [0, 1]; -1 in the arrays and ``stats`` means undefined.

    Attributes:
        stats: AP, AP50, AP75, APs, APm, APl, [APo_light, ...,] AR1, AR10, AR100, ARs, ARm, ARl [, ARo_light, ...].
        precision, scores: float64 (10, 101, K, 4, 3), with ``occlusion`` (10, 101, K, 4, 4, 3): IoU threshold, recall
            point, category, area range, [occlusion level,] limit on detections.
        recall: float64 (10, K, 4, 3) or (10, K, 4, 4, 3).
        category_ids: of the K entries of the category axis, ascending; empty for a class-agnostic run.
        per_category: name, AP, AP50, AR100 by category id; NaN where the category has no ground truth.
        notes: what was tolerated, and how often.
    """

    stats: dict[str, float]
    precision: np.ndarray = field(repr=False)
    recall: np.ndarray = field(repr=False)
    scores: np.ndarray = field(repr=False)
    category_ids: list[int] = field(repr=False)
    per_category: dict[int, dict] = field(repr=False)
    notes: dict[str, int] = field(default_factory=dict)


@dataclass
class _Pieces:
    """What accumulation needs of some videos, in ascending video id."""

    num_objects: np.ndarray
    verdicts: list[np.ndarray] = field(default_factory=list)
    scores: list[np.ndarray] = field(default_factory=list)
    ranks: list[np.ndarray] = field(default_factory=list)
    categories: list[np.ndarray] = field(default_factory=list)
    notes: Counter = field(default_factory=Counter)

    def extend(self, others: _Pieces) -> None:
        self.num_objects += others.num_objects
        self.verdicts += others.verdicts
        self.scores += others.scores
        self.ranks += others.ranks
        self.categories += others.categories
        self.notes += others.notes


def evaluate_tracks(
    gt: GroundTruth | dict | str | os.PathLike,
    results: Results | Sequence[dict] | str | os.PathLike,
    *,
    iou_type: str = "segm",
    occlusion: bool = False,
    video_ids: Iterable[int] | None = None,
    strict_lengths: bool = True,
    strict_entries: bool = False,
    class_agnostic: bool = False,
    dilation_ratio: float = DILATION_RATIO,
    workers: int = 1,
) -> TrackMetrics:
    """Tube AP and AR, bit-equal to the reference evaluator of YouTube-VIS.

    Args:
        gt: YouTube-VIS json, as path or parsed.
        results: results json, as path or parsed. Neither is modified.
        iou_type: ``"segm"``, or ``"boundary"`` for min(mask tube IoU, boundary tube IoU) as HQ-YTVIS defines it.
        occlusion: add the OVIS occlusion axis; needs ``occlusion`` tags in the annotations.
        video_ids: evaluate only these videos (all by default).
        strict_lengths: refuse tracks whose length, masks whose size differ from the video's, and scores that are not
            finite. False: reproduce what the reference silently does with them, and count it in ``notes``.
        strict_entries: refuse unknown categories and exact duplicates as well, instead of noting the former.
        class_agnostic: pool all categories.
        dilation_ratio: width of the boundary band as a share of the image diagonal.
        workers: processes to spread the videos over (started afresh: a script needs the ``__main__`` guard).

    Raises:
        DataError: naming file, entry or annotation, and field. A result of an unknown video and a malformed RLE are
            always refused.
    """
    ground_truth, results = GroundTruth.load(gt), Results.load(results)
    if iou_type not in ("segm", "boundary"):
        raise ValueError(f"iou_type: expected 'segm' or 'boundary', got {iou_type!r}")
    unknown = sorted(set(results.video_ids) - ground_truth.videos.keys())
    if unknown:
        raise DataError(f"{results.name}: video_id {unknown[0]} is not in {ground_truth.name} ({len(unknown)} such)")
    selected = _select(ground_truth, video_ids)
    protocol = Protocol(iou_type, occlusion, strict_lengths, strict_entries, class_agnostic, dilation_ratio)
    if workers > 1 and len(selected) > 1:
        pieces = _evaluate_in_processes(ground_truth, results, selected, protocol, workers)
    else:
        pieces = _evaluate_videos(ground_truth, results, selected, protocol)
    for note, count in pieces.notes.items():
        logger.warning("%d %s", count, note)
    return _metrics(ground_truth, pieces, protocol)


def _select(ground_truth: GroundTruth, video_ids: Iterable[int] | None) -> list[int]:
    selected = sorted(ground_truth.videos if video_ids is None else set(video_ids))
    missing = [video_id for video_id in selected if video_id not in ground_truth.videos]
    if missing:
        raise DataError(f"{ground_truth.name}: there is no video {missing[0]}, which was asked for")
    if not selected:
        raise DataError(f"{ground_truth.name}: there is no video to evaluate")
    return selected


def _evaluate_videos(
    ground_truth: GroundTruth, results: Results, video_ids: Sequence[int], protocol: Protocol
) -> _Pieces:
    num_categories = 1 if protocol.class_agnostic else len(ground_truth.categories)
    pieces = _Pieces(np.zeros((num_categories, protocol.num_settings), np.int64))
    for video_id in video_ids:
        outcome = evaluate_video(ground_truth, results, video_id, protocol)
        pieces.num_objects += outcome.num_objects
        pieces.verdicts.append(outcome.verdicts)
        pieces.scores.append(outcome.scores)
        pieces.ranks.append(outcome.ranks)
        pieces.categories.append(outcome.categories)
        pieces.notes += outcome.notes
    return pieces


def _evaluate_in_processes(
    ground_truth: GroundTruth, results: Results, video_ids: Sequence[int], protocol: Protocol, workers: int
) -> _Pieces:
    """The same from several processes. Chunks have about equal numbers of tracks and come back in their order."""
    tracks = np.cumsum([1 + results.count(video_id) for video_id in video_ids])
    num_chunks = min(4 * workers, len(video_ids))
    cuts = np.searchsorted(tracks, np.linspace(0, tracks[-1], num_chunks + 1)[1:-1])
    chunks = [chunk.tolist() for chunk in np.split(np.array(video_ids), cuts) if len(chunk)]
    # Fresh processes, not forks: the caller may hold CUDA or OpenMP threads.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [
            pool.submit(_evaluate_videos, ground_truth.subset(chunk), results.subset(chunk), chunk, protocol)
            for chunk in chunks
        ]
        try:
            pieces = futures[0].result()
            for future in futures[1:]:
                pieces.extend(future.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return pieces


def _metrics(ground_truth: GroundTruth, pieces: _Pieces, protocol: Protocol) -> TrackMetrics:
    precision, recall, scores = accumulate(
        np.concatenate(pieces.verdicts, axis=2),
        np.concatenate(pieces.scores),
        np.concatenate(pieces.ranks),
        np.concatenate(pieces.categories),
        pieces.num_objects,
    )
    if protocol.occlusion:  # the settings axis is area range by occlusion level
        axes = (len(AREA_RANGES), len(OCCLUSION_RANGES))
        precision, recall, scores = (
            array.reshape(*array.shape[:-2], *axes, array.shape[-1]) for array in (precision, recall, scores)
        )
    category_ids = [] if protocol.class_agnostic else ground_truth.category_ids
    return TrackMetrics(
        stats=summarise(precision, recall, protocol.occlusion),
        precision=precision,
        recall=recall,
        scores=scores,
        category_ids=category_ids,
        per_category=_per_category(ground_truth, category_ids, precision, recall, protocol.occlusion),
        notes=dict(pieces.notes),
    )


def _per_category(
    ground_truth: GroundTruth, category_ids: list[int], precision: np.ndarray, recall: np.ndarray, occlusion: bool
) -> dict[int, dict]:
    if occlusion:
        precision, recall = precision[:, :, :, :, 0], recall[:, :, :, 0]

    def mean(values: np.ndarray) -> float:
        value = mean_of_present(values)
        return math.nan if value < 0 else value

    return {
        category: {
            "name": ground_truth.categories[category],
            "AP": mean(precision[:, :, k, 0, -1]),
            "AP50": mean(precision[0, :, k, 0, -1]),
            "AR100": mean(recall[:, k, 0, -1]),
        }
        for k, category in enumerate(category_ids)
    }
