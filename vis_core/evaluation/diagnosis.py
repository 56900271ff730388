"""Why a results file has the AP it has: what is wrong with each track, and what AP50 each kind of error costs.

In the spirit of D. Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020, with
tube IoU in place of box IoU and one kind added: a track can follow its object well and still lose it or switch to
another.

A track that takes no object of its class at IoU 0.5 has, in this order of precedence,

* ``class``: IoU >= 0.5 with an object of another class;
* ``duplicate``: IoU >= 0.5 with an object of its class that a track of higher score has taken;
* ``association``: IoU of 0.1 to 0.5 with an object of its class, and frame by frame it is right, but of different
  objects, or of one object in only some of that object's frames;
* ``localisation``: the same IoU otherwise, the masks do not fit;
* ``both``: IoU of 0.1 to 0.5 with objects of other classes only;
* ``background``: IoU below 0.1 with everything.

An object that no track takes is ``missed`` unless a class, localisation or association error is about it.

What a kind costs is the AP50 gained by repairing only that kind: class, localisation and association errors become
true positives if their object is still free and vanish otherwise, other false positives vanish, missed objects are
forgotten.

Shapes: D tracks and G objects of one video, T frames.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from vis_core.evaluation.accumulate import RECALL_POINTS
from vis_core.evaluation.ground_truth import GroundTruth, GroundTruthTrack
from vis_core.evaluation.results import Results, ResultTrack
from vis_core.evaluation.tube_iou import frame_ious, quotient, tube_sums
from vis_core.evaluation.tubes import decode_tubes

FOREGROUND, BACKGROUND = 0.5, 0.1
KINDS = ("class", "localisation", "association", "both", "duplicate", "background", "missed")
_REPAIRED_BY_MATCHING = ("class", "localisation", "association")


@dataclass(frozen=True)
class TrackVerdict:
    """One predicted track: ``kind`` is ``"correct"``, ``"ignored"`` (took a crowd) or one of ``KINDS``; ``object_id``
    the object it took or comes closest to, None without any overlap; ``iou`` with that object."""

    video_id: int
    position: int
    category_id: int
    score: float
    kind: str
    object_id: int | None
    object_category_id: int | None
    iou: float


@dataclass(frozen=True)
class Diagnosis:
    """Result of :func:`diagnose`.

    Attributes:
        tracks: verdicts by video and, within it, falling score.
        missed: (video id, object id, category id) of missed objects.
        ap50: mean over classes with objects, in [0, 1]; NaN without any.
        cost: AP50 that repairing each of ``KINDS`` would gain; for ``missed``, if no object is found, all that lacks to
            1. NaN without any object.
        confusion: int64 (K + 1, K + 1): rows are objects' classes, columns those of the tracks that cover them (IoU >=
            0.5, whatever the class) by falling score; the last row counts tracks on no object, the last column objects
            without a track. Tracks with a score below ``min_score`` do not take part.
        category_ids: of the first K rows and columns.
    """

    tracks: list[TrackVerdict] = field(repr=False)
    missed: list[tuple[int, int, int]] = field(repr=False)
    ap50: float
    cost: dict[str, float]
    confusion: np.ndarray = field(repr=False)
    category_ids: list[int] = field(repr=False)
    min_score: float = 0.5

    def counts(self) -> dict[str, int]:
        """Number of errors of each of ``KINDS`` among the tracks of at least ``min_score``, and of missed objects."""
        kinds = [track.kind for track in self.tracks if track.score >= self.min_score]
        return {kind: kinds.count(kind) for kind in KINDS[:-1]} | {"missed": len(self.missed)}


def diagnose(
    gt: GroundTruth | dict | str | os.PathLike,
    results: Results | Sequence[dict] | str | os.PathLike,
    *,
    min_score: float = 0.5,
    max_tracks: int = 100,
    video_ids: Iterable[int] | None = None,
) -> Diagnosis:
    """Name every track's error. Of each video and class, the ``max_tracks`` tracks of highest score take part.

    Raises DataError for malformed input. Tracks of classes that the ground truth does not list are left out.
    """
    ground_truth, results = GroundTruth.load(gt), Results.load(results)
    category_ids = ground_truth.category_ids
    tracks: list[TrackVerdict] = []
    missed: list[tuple[int, int, int]] = []
    num_objects = dict.fromkeys(category_ids, 0)
    confusion = np.zeros((len(category_ids) + 1, len(category_ids) + 1), np.int64)
    for video_id in sorted(ground_truth.videos if video_ids is None else set(video_ids)):
        objects = [track for track in ground_truth.tracks(video_id) if track.category_id in num_objects]
        detections = _best(results.tracks(video_id), num_objects.keys(), max_tracks)
        iou, by_frame, g_present = _overlaps(video_id, detections, objects)
        verdicts = _verdicts(video_id, detections, objects, iou, by_frame, g_present)
        tracks += verdicts
        for truth in objects:
            num_objects[truth.category_id] += not truth.is_crowd
        explained = {track.object_id for track in verdicts if track.kind in ("correct", *_REPAIRED_BY_MATCHING)}
        missed += [
            (video_id, truth.id, truth.category_id)
            for truth in objects
            if not truth.is_crowd and truth.id not in explained
        ]
        confident = [d for d, track in enumerate(detections) if track.score >= min_score]
        _confuse(confusion, category_ids, [detections[d] for d in confident], objects, iou[confident])
    ap50 = _ap50(tracks, num_objects)
    cost = {kind: _cost(ap50, *_repaired(kind, tracks, missed, num_objects)) for kind in KINDS}
    return Diagnosis(tracks, missed, ap50, cost, confusion, category_ids, min_score)


def _best(tracks: Sequence[ResultTrack], categories: Iterable[int], limit: int) -> list[ResultTrack]:
    """By falling score, ties in file order, at most ``limit`` of each class."""
    room = dict.fromkeys(categories, limit)
    best = []
    for track in sorted(tracks, key=lambda track: -track.score):
        if room.get(track.category_id, 0) > 0:
            room[track.category_id] -= 1
            best.append(track)
    return best


def _overlaps(
    video_id: int, detections: Sequence[ResultTrack], objects: Sequence[GroundTruthTrack]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tube IoU (D, G), frame IoU (T, D, G), and the frames in which each object is present (G, T)."""
    d_tubes = decode_tubes(
        [track.segmentations for track in detections], lambda n: f"entry {detections[n].position} (video {video_id})"
    )
    g_tubes = decode_tubes(
        [track.segmentations for track in objects], lambda n: f"annotation {objects[n].id} (video {video_id})"
    )
    begins = np.array([0, len(detections)]), np.array([0, len(objects)])
    iou = quotient(*tube_sums(d_tubes, g_tubes, *begins)).reshape(len(detections), len(objects))
    by_frame = frame_ious(d_tubes, g_tubes)
    g_present = g_tubes.frame_areas() > 0
    return iou, by_frame, np.pad(g_present, ((0, 0), (0, len(by_frame) - g_present.shape[1])))


def _verdicts(
    video_id: int,
    detections: Sequence[ResultTrack],
    objects: Sequence[GroundTruthTrack],
    iou: np.ndarray,
    by_frame: np.ndarray,
    g_present: np.ndarray,
) -> list[TrackVerdict]:
    verdicts = []
    free = np.ones(len(objects), bool)
    crowd = np.array([truth.is_crowd for truth in objects], bool)
    classes = np.array([truth.category_id for truth in objects])
    for d, track in enumerate(detections):
        same = classes == track.category_id
        kind, g = _kind(iou[d], same, free, crowd)
        if kind == "correct":
            free[g] = False
        elif kind == "localisation" and _is_association_error(by_frame[:, d], g, same, g_present):
            kind = "association"
        truth = None if g is None else objects[g]
        verdicts.append(
            TrackVerdict(
                video_id,
                track.position,
                track.category_id,
                float(track.score),
                kind,
                None if truth is None else truth.id,
                None if truth is None else truth.category_id,
                0.0 if g is None else float(iou[d, g]),
            )
        )
    return verdicts


def _kind(iou: np.ndarray, same: np.ndarray, free: np.ndarray, crowd: np.ndarray) -> tuple[str, int | None]:
    """Kind (association errors still under localisation) and object of a track with these IoUs (G,)."""

    def best(candidates: np.ndarray, least: float) -> int | None:
        values = np.where(candidates, iou, -1.0)
        g = int(np.argmax(values)) if len(values) else 0
        return g if len(values) and values[g] >= least else None

    cases = (
        ("correct", same & free & ~crowd, FOREGROUND),
        ("ignored", same & crowd, FOREGROUND),
        ("class", ~same & ~crowd, FOREGROUND),
        ("duplicate", same & ~crowd, FOREGROUND),
        ("localisation", same & ~crowd, BACKGROUND),
        ("both", ~same & ~crowd, BACKGROUND),
        ("background", ~crowd, np.finfo(np.float64).tiny),
    )
    for kind, candidates, least in cases:
        g = best(candidates, least)
        if g is not None:
            return kind, g
    return "background", None


def _is_association_error(by_frame: np.ndarray, g: int, same: np.ndarray, g_present: np.ndarray) -> bool:
    """Whether a track (frame IoUs (T, G)) of too low tube IoU with object g owes that to switches or gaps.

    It does if it fits an object of its class (IoU >= 0.5) in most of the frames in which it overlaps any, and in some
    frames that object is another one, or in some frames of object g there is none.
    """
    best = by_frame[:, same].max(axis=1)  # (T,)
    overlapping, fits = best > 0, best >= FOREGROUND
    if 2 * fits.sum() < overlapping.sum() or not fits.any():
        return False
    on_object = by_frame[:, g] >= FOREGROUND
    return bool((fits & ~on_object).any() or (g_present[g] & ~overlapping).any())


def _confuse(
    confusion: np.ndarray,
    category_ids: Sequence[int],
    detections: Sequence[ResultTrack],
    objects: Sequence[GroundTruthTrack],
    iou: np.ndarray,
) -> None:
    index = {category: k for k, category in enumerate(category_ids)}
    free = np.array([not truth.is_crowd for truth in objects], bool)
    crowd = ~free
    for d, track in enumerate(detections):
        values = np.where(free, iou[d], -1.0)
        g = int(np.argmax(values)) if len(values) else 0
        if len(values) and values[g] >= FOREGROUND:
            free[g] = False
            confusion[index[objects[g].category_id], index[track.category_id]] += 1
        elif not (crowd & (iou[d] >= FOREGROUND)).any():
            confusion[-1, index[track.category_id]] += 1
    for g in np.flatnonzero(free):
        confusion[index[objects[g].category_id], -1] += 1


def _repaired(
    kind: str, tracks: Sequence[TrackVerdict], missed: Sequence[tuple[int, int, int]], num_objects: dict[int, int]
) -> tuple[list[TrackVerdict], dict[int, int]]:
    """Verdicts and numbers of objects as if there were no errors of this kind."""
    if kind == "missed":
        fewer = dict(num_objects)
        for _, _, category in missed:
            fewer[category] -= 1
        return list(tracks), fewer
    taken = {(track.video_id, track.object_id) for track in tracks if track.kind == "correct"}
    repaired = []
    for track in sorted(tracks, key=lambda track: -track.score):
        if track.kind != kind:
            repaired.append(track)
        elif kind in _REPAIRED_BY_MATCHING and (track.video_id, track.object_id) not in taken:
            taken.add((track.video_id, track.object_id))
            repaired.append(replace(track, category_id=track.object_category_id, kind="correct"))
    return repaired, num_objects


def _cost(ap50: float, tracks: Sequence[TrackVerdict], num_objects: dict[int, int]) -> float:
    """What is gained over ``ap50`` by what a repair leaves: all that lacks, if no object is left to be found."""
    return (_ap50(tracks, num_objects) if any(num_objects.values()) else 1.0) - ap50


def _ap50(tracks: Sequence[TrackVerdict], num_objects: dict[int, int]) -> float:
    """Mean over classes with objects of the 101-point interpolated AP."""
    values = []
    for category, count in num_objects.items():
        if count == 0:
            continue
        of_class = [track for track in tracks if track.category_id == category and track.kind != "ignored"]
        order = np.argsort([-track.score for track in of_class], kind="stable")
        hits = np.array([track.kind == "correct" for track in of_class], bool)[order]
        tp = np.cumsum(hits)
        precision = np.maximum.accumulate((tp / np.arange(1, len(hits) + 1))[::-1])[::-1]
        at = np.searchsorted(tp / count, RECALL_POINTS, side="left")
        values.append(np.append(precision, 0.0)[at].mean())
    return float(np.mean(values)) if values else float("nan")
