"""What is refused, what is tolerated and noted, and the checks of a whole results file before it is submitted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from vis_core.errors import DataError
from vis_core.evaluation.accumulate import AREA_RANGES, OCCLUSION_RANGES
from vis_core.evaluation.boundary import DILATION_RATIO
from vis_core.evaluation.ground_truth import GroundTruth, GroundTruthTrack
from vis_core.evaluation.results import Results, ResultTrack
from vis_core.evaluation.tubes import DecodedTubes, decode_tubes
from vis_core.rle import area


@dataclass(frozen=True)
class Protocol:
    """What to compute and what to refuse; see :func:`vis_core.evaluation.tracks.evaluate_tracks`."""

    iou_type: str = "segm"
    occlusion: bool = False
    strict_lengths: bool = True
    strict_entries: bool = False
    class_agnostic: bool = False
    dilation_ratio: float = DILATION_RATIO

    @property
    def num_settings(self) -> int:
        return len(AREA_RANGES) * (len(OCCLUSION_RANGES) if self.occlusion else 1)


def trackless_note(ground_truth: GroundTruth, results: Results, video_ids: Collection[int]) -> str | None:
    """One line that says how many of these videos have no result, None if there is none: often the wrong ids."""
    with_track = set(results.video_ids)
    empty = sum(1 for video_id in video_ids if video_id not in with_track)
    return f"note: {empty} of {len(video_ids)} videos have no track" if empty else None


def known_objects(
    ground_truth: GroundTruth, video_id: int, categories: Collection[int], protocol: Protocol, notes: Counter
) -> list[GroundTruthTrack]:
    """The video's objects of known category, checked."""
    objects = []
    for track in ground_truth.tracks(video_id):
        if protocol.strict_lengths:
            ground_truth.check_track(track)
        if track.category_id not in categories:
            if protocol.strict_lengths:
                raise DataError(
                    f"{ground_truth.name}: video {video_id}, annotation {track.id}: "
                    f"category_id {track.category_id} is not in 'categories'"
                )
            notes["annotations of a category that the ground truth does not list were left out"] += 1
            continue
        if protocol.occlusion and track.occlusion is None:
            notes["annotations without any occlusion tag count in no occlusion level"] += 1
        objects.append(track)
    return objects


def known_detections(
    ground_truth: GroundTruth,
    results: Results,
    video_id: int,
    categories: Collection[int],
    protocol: Protocol,
    notes: Counter,
    objects: list[GroundTruthTrack],
) -> list[ResultTrack]:
    """The video's detections of known category, checked."""
    video = ground_truth.videos[video_id]
    length = video.length or (len(objects[0].segmentations) if objects else None)
    detections, seen = [], {}
    for track in results.tracks(video_id):
        where = f"{results.name}: entry {track.position} (video {video_id})"
        if length is not None and len(track.segmentations) != length:
            if protocol.strict_lengths:
                raise DataError(f"{where}: {len(track.segmentations)} segmentations, the video has {length} frames")
            notes["tracks of another length than their video: only common frames were compared"] += 1
        if protocol.strict_lengths and not math.isfinite(track.score):
            raise DataError(f"{where}: 'score' is {track.score}")
        if protocol.strict_entries:
            twins = seen.setdefault((track.category_id, track.score), [])
            twin = next((other for other in twins if other.segmentations == track.segmentations), None)
            if twin is not None and _has_pixels(track, where):
                raise DataError(f"{where}: the same track as entry {twin.position}")
            twins.append(track)
        if track.category_id not in categories:
            if protocol.strict_entries:
                raise DataError(f"{where}: category_id {track.category_id} is not in {ground_truth.name}")
            notes["tracks of a category that the ground truth does not list were left out"] += 1
            continue
        detections.append(track)
    return detections


def _has_pixels(track: ResultTrack, where: str) -> bool:
    """False for what a network found nothing for: two such tracks are no sign of results that were joined twice."""
    return any(mask is not None and area(mask, where) for mask in track.segmentations)


def check_sizes(
    ground_truth: GroundTruth,
    results: Results,
    video_id: int,
    detections: Sequence[ResultTrack],
    tubes: DecodedTubes,
    protocol: Protocol,
    notes: Counter,
) -> None:
    """Every mask has the video's size, where the ground truth tells it."""
    size = ground_truth.videos[video_id].size
    if size is None:
        return
    wrong = (tubes.sizes != size).any(axis=1)
    if not wrong.any():
        return
    mask = int(np.argmax(wrong))
    track, frame = (int(i[0]) for i in np.nonzero(tubes.index == mask))
    if protocol.strict_lengths:
        raise DataError(
            f"{results.name}: entry {detections[track].position} (video {video_id}), frame {frame}: "
            f"mask of size {tubes.sizes[mask].tolist()}, the video has {list(size)}"
        )
    notes["masks of another size than their video count as absent on both sides"] += int(wrong.sum())


def check_video_ids(ground_truth: GroundTruth, results: Results) -> None:
    """Raise DataError if a result is of a video that the ground truth does not list."""
    unknown = sorted(set(results.video_ids) - ground_truth.videos.keys())
    if unknown:
        raise DataError(f"{results.name}: video_id {unknown[0]} is not in {ground_truth.name} ({len(unknown)} such)")


def check_submission(ground_truth: GroundTruth, results: Results, progress: Callable[[], None] | None = None) -> None:
    """Check everything that an evaluation server would stumble over, video by video.

    Ids, lengths, sizes, run-length strings (servers read no other spelling), exact duplicates, and scores, which have
    to lie in [0, 1]. ``progress`` is called after each video. Raises DataError for the first problem.
    """
    check_video_ids(ground_truth, results)
    protocol = Protocol(strict_lengths=True, strict_entries=True)
    for video_id in results.video_ids:
        tracks = known_detections(ground_truth, results, video_id, ground_truth.categories, protocol, Counter(), [])
        tubes = decode_tubes(
            [track.segmentations for track in tracks],
            lambda n: f"{results.name}: entry {tracks[n].position} (video {video_id})",  # noqa: B023
            [False] * len(tracks),
        )
        check_sizes(ground_truth, results, video_id, tracks, tubes, protocol, Counter())
        for track in tracks:
            where = f"{results.name}: entry {track.position} (video {video_id})"
            if not 0 <= track.score <= 1:
                raise DataError(f"{where}: 'score' is {track.score}, expected 0 to 1")
            if any(mask and not isinstance(mask["counts"], str) for mask in track.segmentations):
                raise DataError(f"{where}: a mask's 'counts' is not a string, the only form that servers read")
        if progress:
            progress()
