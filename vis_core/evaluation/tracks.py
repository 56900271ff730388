"""Tube AP and AR of a results file: the front door of the evaluation room.

The metric is that of the YouTube-VIS challenge (Yang et al., "Video Instance Segmentation", ICCV 2019), with the
occlusion levels of OVIS and the tube-boundary IoU of HQ-YTVIS as variants. docs/evaluation.md states every rule.
"""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context

import numpy as np

from vis_core.errors import DataError
from vis_core.evaluation.accumulate import AREA_RANGES, OCCLUSION_RANGES, accumulate, mean_of_present, summarise
from vis_core.evaluation.boundary import DILATION_RATIO
from vis_core.evaluation.checks import Protocol, check_video_ids
from vis_core.evaluation.ground_truth import GroundTruth
from vis_core.evaluation.results import Results
from vis_core.evaluation.video import VideoOutcome, evaluate_video

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
    options = {
        "iou_type": iou_type,
        "occlusion": occlusion,
        "strict_lengths": strict_lengths,
        "strict_entries": strict_entries,
        "class_agnostic": class_agnostic,
        "dilation_ratio": dilation_ratio,
    }
    return evaluate_splits(gt, results, {"all": video_ids}, workers=workers, **options)["all"]


def evaluate_splits(
    gt: GroundTruth | dict | str | os.PathLike,
    results: Results | Sequence[dict] | str | os.PathLike,
    splits: Mapping[str, Iterable[int] | None],
    *,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
    **options,
) -> dict[str, TrackMetrics]:
    """Metrics of several groups of videos (YouTube-VIS 2022's short and long ones, say) from one pass over the videos.

    Args:
        splits: video ids by name; None stands for all videos. Groups may overlap.
        progress: called with the number of videos that have been dealt with since the last call.
        options: as of :func:`evaluate_tracks`.
    """
    ground_truth, results = GroundTruth.load(gt), Results.load(results)
    protocol = Protocol(**options)
    if protocol.iou_type not in ("segm", "boundary"):
        raise ValueError(f"iou_type: expected 'segm' or 'boundary', got {protocol.iou_type!r}")
    check_video_ids(ground_truth, results)
    selected = {name: _select(ground_truth, video_ids) for name, video_ids in splits.items()}
    if ground_truth.has_refined_masks:
        logger.info("%s: 'segmentations_refined' takes the place of 'segmentations' throughout.", ground_truth.name)
    outcomes = _evaluate_all(
        ground_truth, results, sorted(set().union(*selected.values())), protocol, workers, progress
    )
    notes = sum((outcome.notes for outcome in outcomes.values()), Counter())
    for note, count in notes.items():
        logger.warning("%d %s", count, note)
    return {
        name: _metrics(ground_truth, [outcomes[video_id] for video_id in video_ids], protocol)
        for name, video_ids in selected.items()
    }


def _select(ground_truth: GroundTruth, video_ids: Iterable[int] | None) -> list[int]:
    selected = sorted(ground_truth.videos if video_ids is None else set(video_ids))
    missing = [video_id for video_id in selected if video_id not in ground_truth.videos]
    if missing:
        raise DataError(f"{ground_truth.name}: there is no video {missing[0]}, which was asked for")
    if not selected:
        raise DataError(f"{ground_truth.name}: there is no video to evaluate")
    return selected


def _evaluate_all(
    ground_truth: GroundTruth,
    results: Results,
    video_ids: Sequence[int],
    protocol: Protocol,
    workers: int,
    progress: Callable[[int], None] | None,
) -> dict[int, VideoOutcome]:
    report = progress or (lambda count: None)
    outcomes: dict[int, VideoOutcome] = {}
    if workers == 1 or len(video_ids) == 1:
        for video_id in video_ids:
            outcomes |= _evaluate_videos(ground_truth, results, [video_id], protocol)
            report(1)
        return outcomes
    # Chunks of about equal numbers of tracks.
    tracks = np.cumsum([1 + results.count(video_id) for video_id in video_ids])
    cuts = np.searchsorted(tracks, np.linspace(0, tracks[-1], min(4 * workers, len(video_ids)) + 1)[1:-1])
    chunks = [chunk.tolist() for chunk in np.split(np.array(video_ids), cuts) if len(chunk)]
    # Fresh processes, not forks: the caller may hold CUDA or OpenMP threads.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [
            pool.submit(_evaluate_videos, ground_truth.subset(chunk), results.subset(chunk), chunk, protocol)
            for chunk in chunks
        ]
        try:
            for future, chunk in zip(futures, chunks):
                outcomes.update(future.result())
                report(len(chunk))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return outcomes


def _evaluate_videos(
    ground_truth: GroundTruth, results: Results, video_ids: Sequence[int], protocol: Protocol
) -> dict[int, VideoOutcome]:
    """Outcomes by video, without what accumulation does not need."""
    outcomes = {}
    for video_id in video_ids:
        outcome = evaluate_video(ground_truth, results, video_id, protocol)
        outcomes[video_id] = replace(outcome, objects=[], iou=np.empty(0), partners=np.empty(0, np.int32))
    return outcomes


def _metrics(ground_truth: GroundTruth, outcomes: Sequence[VideoOutcome], protocol: Protocol) -> TrackMetrics:
    """Metrics of videos in ascending id."""
    precision, recall, scores = accumulate(
        np.concatenate([outcome.verdicts for outcome in outcomes], axis=2),
        np.concatenate([outcome.scores for outcome in outcomes]),
        np.concatenate([outcome.ranks for outcome in outcomes]),
        np.concatenate([outcome.categories for outcome in outcomes]),
        sum(outcome.num_objects for outcome in outcomes),
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
        notes=dict(sum((outcome.notes for outcome in outcomes), Counter())),
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
