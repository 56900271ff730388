"""What is in a data set: counts, lengths, sizes, how much objects hide each other, which classes meet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pycocotools.mask as coco_mask

from vis_core.data.formats.labels import Labels, Video

OCCLUSION_LEVELS = ("no_occlusion", "slight_occlusion", "severe_occlusion")


@dataclass
class ClassStatistics:
    """Of one class: tracks, videos it is in, masks, and frames per track on average."""

    name: str
    tracks: int = 0
    videos: int = 0
    masks: int = 0

    @property
    def frames_per_track(self) -> float:
        return self.masks / self.tracks if self.tracks else 0.0


@dataclass
class Statistics:
    """Of a data set.

    Attributes:
        video_lengths: frames of each video; ``frame_sizes``: "height x width" -> videos.
        track_lengths: frames in which each track can be seen.
        track_spans: frames from each track's first to last appearance.
        gaps: how often each track is gone and comes back.
        mask_sides: square root of each mask's share of its frame: 0.5 is half as wide and high as the frame.
        objects_per_frame, tracks_per_video: counts.
        motion: how far each mask's centre moves to the next frame, in units of the mask's own side.
        box_occlusion: of each frame with objects, the share of the boxes' union that two or more of them cover (OVIS).
        occlusion_levels: masks by the annotators' level, where the file has such.
        meetings: (K, K) videos that have both classes; on the diagonal videos with two or more tracks of the class.
    """

    classes: list[ClassStatistics]
    video_lengths: list[int] = field(default_factory=list)
    frame_sizes: Counter = field(default_factory=Counter)
    track_lengths: list[int] = field(default_factory=list)
    track_spans: list[int] = field(default_factory=list)
    gaps: list[int] = field(default_factory=list)
    mask_sides: list[float] = field(default_factory=list)
    objects_per_frame: list[int] = field(default_factory=list)
    tracks_per_video: list[int] = field(default_factory=list)
    motion: list[float] = field(default_factory=list)
    box_occlusion: list[float] = field(default_factory=list)
    occlusion_levels: Counter = field(default_factory=Counter)
    meetings: np.ndarray | None = None

    def summary(self) -> dict[str, float | int]:
        """The numbers that stand for the data set."""
        lengths = self.track_lengths
        return {
            "videos": len(self.video_lengths),
            "frames": sum(self.video_lengths),
            "tracks": len(lengths),
            "masks": sum(lengths),
            "classes": len(self.classes),
            "frames per video": _mean(self.video_lengths),
            "tracks per video": _mean(self.tracks_per_video),
            "objects per frame": _mean(self.objects_per_frame),
            "frames per track": _mean(lengths),
            "tracks that come back": sum(1 for gap in self.gaps if gap),
            "median mask side": float(np.median(self.mask_sides)) if self.mask_sides else 0.0,
            "median motion": float(np.median(self.motion)) if self.motion else 0.0,
            "box occlusion": _mean(self.box_occlusion),
        }

    def to_json(self) -> dict:
        """Summary, classes and meetings."""
        return {
            "summary": self.summary(),
            "classes": [
                {"name": c.name, "tracks": c.tracks, "videos": c.videos, "masks": c.masks} for c in self.classes
            ],
            "frame_sizes": dict(self.frame_sizes),
            "occlusion_levels": dict(self.occlusion_levels),
            "meetings": self.meetings.tolist(),
        }


def data_statistics(
    labels: Labels,
    raw: dict | None = None,
    track: Callable[[Sequence, str], Iterable] = lambda items, what: items,
) -> Statistics:
    """Statistics of ``labels``; crowds are left out.

    Args:
        raw: contents of the json, for the annotators' occlusion levels.
        track: wraps what is worked through, to show progress.
    """
    names = sorted(labels.categories, key=lambda name: labels.categories[name])
    result = Statistics([ClassStatistics(name) for name in names])
    place = {name: k for k, name in enumerate(names)}
    result.meetings = np.zeros((len(names), len(names)), int)
    for video in track(labels.videos, "videos"):
        _add_video(result, video, place)
    for entry in (raw or {}).get("annotations") or []:
        result.occlusion_levels.update(level for level in entry.get("occlusion") or [] if level in OCCLUSION_LEVELS)
    return result


def histogram(values: Sequence[float], num_bins: int = 12) -> list[tuple[str, int]]:
    """(label, count) of at most ``num_bins`` equally wide bins.

    Whole numbers get bins of whole numbers. Other values begin at 0, in round steps; the last bin takes a long tail.
    """
    if not len(values):
        return []
    low, high = min(values), max(values)
    if all(isinstance(value, int) for value in values):
        width = -(-(high - low + 1) // num_bins)
        starts = range(low, high + 1, width)
        counts = Counter((value - low) // width for value in values)
        return [(f"{s}" if width == 1 else f"{s}–{s + width - 1}", counts[i]) for i, s in enumerate(starts)]
    reach = max(float(np.quantile(values, 0.98)), 1e-6)
    step = next(s for s in (m * 10.0**e for e in range(-8, 9) for m in (1, 2, 5)) if reach <= s * num_bins)
    counts = Counter(min(int(value / step), num_bins - 1) for value in values)
    num_bins = max(counts) + 1
    decimals = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    labels = [f"{i * step:.{decimals}f}" for i in range(num_bins)]
    if high > num_bins * step:
        labels[-1] = f"≥ {labels[-1]}"
    return [(label, counts[i]) for i, label in enumerate(labels)]


def _add_video(result: Statistics, video: Video, place: dict[str, int]) -> None:
    tracks = [track for track in video.tracks if not track.iscrowd]
    length = len(video.file_names)
    result.video_lengths.append(length)
    result.frame_sizes[f"{video.height} x {video.width}"] += 1
    result.tracks_per_video.append(len(tracks))
    boxes: list[list[np.ndarray]] = [[] for _ in range(length)]
    for track in tracks:
        places = sorted(track.masks)
        rles = [track.masks[t] for t in places]
        if rles:
            corners = coco_mask.toBbox(rles)  # (n, 4) x, y, w, h
            sides = np.sqrt(coco_mask.area(rles).astype(float))
            result.mask_sides += (sides / np.sqrt(video.height * video.width)).tolist()
            middles = corners[:, :2] + corners[:, 2:] / 2
            steps = np.linalg.norm(np.diff(middles, axis=0), axis=1) / sides[:-1]
            result.motion += steps[np.diff(places) == 1].tolist()
            for t, box in zip(places, corners):
                boxes[t].append(box)
        result.track_lengths.append(len(places))
        result.track_spans.append(places[-1] - places[0] + 1 if places else 0)
        result.gaps.append(int(np.count_nonzero(np.diff(places) > 1)))
        statistics = result.classes[place[track.category]]
        statistics.tracks += 1
        statistics.masks += len(places)
    result.objects_per_frame += [len(found) for found in boxes]
    result.box_occlusion += [box_occlusion(np.stack(found)) for found in boxes if found]
    counts = Counter(place[track.category] for track in tracks)
    for k, count in counts.items():
        result.classes[k].videos += 1
        for other in counts:
            result.meetings[k, other] += other != k or count > 1


def box_occlusion(boxes: np.ndarray) -> float:
    """Share of the union of boxes (N, 4), x, y, w, h in pixels, that at least two of them cover.

    The frame's "bounding box occlusion rate" of Qi et al., "Occluded Video Instance Segmentation", IJCV 2022.
    """
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    xs, ys = np.unique(corners[:, [0, 2]]), np.unique(corners[:, [1, 3]])
    covered = np.zeros((len(ys) - 1, len(xs) - 1), int)  # how many boxes lie over each cell of the grid of all edges
    for x0, y0, x1, y1 in corners:
        covered[
            np.searchsorted(ys, y0) : np.searchsorted(ys, y1), np.searchsorted(xs, x0) : np.searchsorted(xs, x1)
        ] += 1
    areas = np.diff(ys)[:, None] * np.diff(xs)[None, :]
    return float(areas[covered > 1].sum() / areas[covered > 0].sum())


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0
