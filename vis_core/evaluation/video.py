"""Evaluation of one video: decode its tubes once, compare them within categories, match them.

Shapes: D detections kept (at most 100 a category), G ground-truth objects, K categories, R settings (area range x
occlusion level), S IoU thresholds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vis_core.evaluation.accumulate import AREA_RANGES, IOU_THRESHOLDS, MAX_DETECTIONS, OCCLUSION_RANGES
from vis_core.evaluation.boundary import boundaries
from vis_core.evaluation.checks import Protocol, check_sizes, known_detections, known_objects
from vis_core.evaluation.ground_truth import GroundTruth, GroundTruthTrack
from vis_core.evaluation.matching import match_video
from vis_core.evaluation.results import Results, ResultTrack
from vis_core.evaluation.tube_iou import quotient, tube_sums
from vis_core.evaluation.tubes import DecodedTubes, decode_tubes


@dataclass(frozen=True)
class VideoOutcome:
    """Everything that :func:`evaluate_video` found out.

    Attributes:
        positions: int64 (D,), places of the kept detections in the results file, group by group, by falling score.
        objects: the video's ground truth, group by group in file order.
        categories: int64 (D,), index of each detection's category.
        scores: float64 (D,).
        ranks: int64 (D,), position within the group.
        d_begin, g_begin: int64 (groups + 1,), extents of the groups (categories present).
        iou: float64, the pairs of all groups, group after group, row (detection) by row.
        average_areas: float64 (D,), mean non-zero mask area per detection, pixels.
        verdicts, partners: (R, S, D), see :func:`vis_core.evaluation.matching.match_video`.
        num_objects: int64 (K, R), objects that count.
        notes: how often something was tolerated, by what it was.
    """

    positions: np.ndarray
    objects: list[GroundTruthTrack]
    categories: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray
    d_begin: np.ndarray
    g_begin: np.ndarray
    iou: np.ndarray
    average_areas: np.ndarray
    verdicts: np.ndarray
    partners: np.ndarray
    num_objects: np.ndarray
    notes: Counter = field(default_factory=Counter)


def evaluate_video(ground_truth: GroundTruth, results: Results, video_id: int, protocol: Protocol) -> VideoOutcome:
    """Compare one video's results with its ground truth. Raises DataError for what ``protocol`` refuses."""
    notes: Counter = Counter()
    category_index = {category: k for k, category in enumerate(ground_truth.category_ids)}
    objects = known_objects(ground_truth, video_id, category_index, protocol, notes)
    detections = known_detections(ground_truth, results, video_id, category_index, protocol, notes, objects)
    if protocol.class_agnostic:  # one group, pooled category by category
        detections = sorted(detections, key=lambda track: category_index[track.category_id])
        objects = sorted(objects, key=lambda track: category_index[track.category_id])
        category_index = dict.fromkeys(category_index, 0)

    # Groups: detections by category, then falling score, ties in file order; objects by category in file order.
    d_category = np.array([category_index[track.category_id] for track in detections], np.int64)
    d_score = np.array([track.score for track in detections], np.float64)
    order = np.lexsort((-d_score, d_category))
    d_category = d_category[order]
    ranks = np.arange(len(order)) - np.searchsorted(d_category, d_category)
    kept = ranks < MAX_DETECTIONS[-1]
    order, d_category, ranks = order[kept], d_category[kept], ranks[kept]
    detections = [detections[i] for i in order]
    objects = sorted(objects, key=lambda track: category_index[track.category_id])
    g_category = np.array([category_index[track.category_id] for track in objects], np.int64)
    present = np.union1d(d_category, g_category)
    d_begin = np.append(np.searchsorted(d_category, present), len(d_category))
    g_begin = np.append(np.searchsorted(g_category, present), len(g_category))

    d_tubes, g_tubes = _decode(ground_truth, results, video_id, detections, objects, np.isin(d_category, g_category))
    check_sizes(ground_truth, results, video_id, detections, d_tubes, protocol, notes)
    is_crowd = np.array([track.is_crowd for track in objects], bool)
    iou = _ious(d_tubes, g_tubes, d_begin, g_begin, is_crowd, ground_truth.videos[video_id].size, protocol)
    d_areas = d_tubes.average_areas()
    d_outside, g_ignore = _excluded(objects, g_tubes, is_crowd, d_areas, protocol)
    verdicts, partners = match_video(iou, d_begin, g_begin, d_outside, g_ignore, is_crowd, IOU_THRESHOLDS)

    num_objects = np.zeros((1 if protocol.class_agnostic else len(category_index), protocol.num_settings), np.int64)
    for g, category in enumerate(g_category):
        num_objects[category] += ~g_ignore[:, g]
    return VideoOutcome(
        positions=np.array([track.position for track in detections], np.int64),
        objects=objects,
        categories=d_category,
        scores=d_score[order],
        ranks=ranks,
        d_begin=d_begin,
        g_begin=g_begin,
        iou=iou,
        average_areas=d_areas,
        verdicts=verdicts,
        partners=partners,
        num_objects=num_objects,
        notes=notes,
    )


def _decode(
    ground_truth: GroundTruth,
    results: Results,
    video_id: int,
    detections: Sequence[ResultTrack],
    objects: Sequence[GroundTruthTrack],
    compared: np.ndarray,
) -> tuple[DecodedTubes, DecodedTubes]:
    """All tubes of the video; detections without a counterpart in the ground truth only for their areas."""

    def detection(n: int) -> str:
        return f"{results.name}: entry {detections[n].position} (video {video_id})"

    def annotation(n: int) -> str:
        return f"{ground_truth.name}: video {video_id}, annotation {objects[n].id}"

    return (
        decode_tubes([track.segmentations for track in detections], detection, compared),
        decode_tubes([track.segmentations for track in objects], annotation),
    )


def _ious(
    detections: DecodedTubes,
    objects: DecodedTubes,
    d_begin: np.ndarray,
    g_begin: np.ndarray,
    is_crowd: np.ndarray,
    size: tuple[int, int] | None,
    protocol: Protocol,
) -> np.ndarray:
    """IoU of every pair within a group; for boundaries the smaller of mask and boundary IoU, except with crowds."""
    iou = quotient(*tube_sums(detections, objects, d_begin, g_begin))
    if protocol.iou_type == "segm" or not len(iou):
        return iou
    pair_d = np.concatenate([np.repeat(np.arange(a, b), h - g) for a, b, g, h in _extents(d_begin, g_begin)])
    pair_g = np.concatenate([np.tile(np.arange(g, h), b - a) for a, b, g, h in _extents(d_begin, g_begin)])
    open_pairs = (iou > 0) & ~is_crowd[pair_g]  # of the others the boundary cannot lower the IoU
    d_wanted, g_wanted = np.zeros(detections.num_tracks, bool), np.zeros(objects.num_tracks, bool)
    d_wanted[pair_d[open_pairs]] = True
    g_wanted[pair_g[open_pairs]] = True
    d_bands = boundaries(detections, d_wanted, protocol.dilation_ratio)
    g_bands = boundaries(objects, g_wanted, protocol.dilation_ratio)
    boundary_iou = quotient(*tube_sums(d_bands, g_bands, d_begin, g_begin, empty_size=size))
    return np.where(open_pairs, np.minimum(iou, boundary_iou), iou)


def _extents(d_begin: np.ndarray, g_begin: np.ndarray):
    return zip(d_begin[:-1], d_begin[1:], g_begin[:-1], g_begin[1:])


def _excluded(
    objects: Sequence[GroundTruthTrack],
    tubes: DecodedTubes,
    is_crowd: np.ndarray,
    d_areas: np.ndarray,
    protocol: Protocol,
) -> tuple[np.ndarray, np.ndarray]:
    """Per setting: detections outside the area range (R, D), and objects that do not count (R, G)."""
    from_masks = tubes.average_areas()
    g_areas = np.array(
        [from_masks[n] if track.average_area is None else track.average_area for n, track in enumerate(objects)]
    )
    levels = np.array([math.nan if track.occlusion is None else track.occlusion for track in objects])
    d_outside, g_ignore = [], []
    for low, high in AREA_RANGES.values():
        outside = (g_areas < low) | (g_areas > high) | is_crowd
        for name, (least, most) in (OCCLUSION_RANGES if protocol.occlusion else {"all": (0, 1)}).items():
            d_outside.append((d_areas < low) | (d_areas > high))
            # NaN, an object without tags, is outside every level but "all".
            g_ignore.append(outside if name == "all" else outside | ~((levels >= least) & (levels <= most)))
    return np.array(d_outside), np.array(g_ignore)
