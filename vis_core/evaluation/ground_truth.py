"""Ground truth of a VIS data set for evaluation: the YouTube-VIS json, read and checked, never changed.

Official val and test files have no ``annotations`` key, or null, or an empty list; all three mean "no ground truth".
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pycocotools.mask as coco_mask

from vis_core.errors import DataError
from vis_core.evaluation.entries import FileEntries, MemoryEntries, read_without

OCCLUSION_LEVEL = {"no_occlusion": 0.0, "slight_occlusion": 0.25, "severe_occlusion": 0.75}


@dataclass(frozen=True)
class Video:
    """One video of the ground truth. ``height``, ``width``, ``length`` are None where the file does not say."""

    id: int
    height: int | None
    width: int | None
    length: int | None
    file_names: tuple[str, ...] = field(default=(), repr=False)

    @property
    def size(self) -> tuple[int, int] | None:
        return None if self.height is None or self.width is None else (self.height, self.width)


@dataclass(frozen=True)
class GroundTruthTrack:
    """One annotated object.

    Attributes:
        segmentations: per frame an RLE with compressed or listed counts, or None (polygons are rasterised already).
        average_area: mean of the non-zero entries of the file's ``areas``, or None if they have to come from the masks.
        occlusion: OVIS score in [0, 1], or None without any tag.
    """

    id: int
    video_id: int
    category_id: int
    is_crowd: bool
    segmentations: Sequence[dict | None] = field(repr=False)
    average_area: float | None
    occlusion: float | None


class GroundTruth:
    """The ground truth of one data set, with its annotations grouped by video.

    Args:
        data: the json's content. It is not modified; segmentations are shared, not copied.
        name: what error messages call it, usually the file's path.
        entries: the annotations, where they stay in the file.
    """

    def __init__(self, data: dict, name: str = "ground truth", entries: FileEntries | None = None) -> None:
        self.name = name
        if not isinstance(data, dict):
            raise DataError(f"{name}: expected a YouTube-VIS json object, found a {type(data).__name__}")
        for key in ("videos", "categories"):
            if not isinstance(data.get(key), list):
                hint = " (this looks like COCO; evaluation needs the YouTube-VIS form)" if "images" in data else ""
                raise DataError(f"{name}: field '{key}' is missing or not a list{hint}")
        self.videos: dict[int, Video] = {v.id: v for v in (self._video(entry) for entry in data["videos"])}
        if len(self.videos) != len(data["videos"]):
            raise DataError(f"{name}: two entries of 'videos' have the same id")
        self.categories: dict[int, str] = {}
        for entry in data["categories"]:
            if not isinstance(entry, dict) or "id" not in entry:
                raise DataError(f"{name}: an entry of 'categories' has no 'id'")
            self.categories[entry["id"]] = str(entry.get("name", entry["id"]))
        self._entries = MemoryEntries(data.get("annotations") or [], name, "annotation") if entries is None else entries
        unknown = sorted(set(self._entries.video_ids) - self.videos.keys())
        if unknown:
            raise DataError(f"{name}: an annotation's video_id {unknown[0]} is not in 'videos'")

    @classmethod
    def load(cls, source: GroundTruth | dict | str | os.PathLike) -> GroundTruth:
        """From a path, the parsed json, or (returned as it is) a GroundTruth. Raises DataError naming the file."""
        if isinstance(source, GroundTruth):
            return source
        if isinstance(source, dict):
            return cls(source)
        path = os.fspath(source)
        data, annotations = read_without(path, "annotations")
        return cls(data, path, None if annotations is None else FileEntries(path, "annotation", *annotations))

    @property
    def category_ids(self) -> list[int]:
        """Sorted; the order of the category axis of all metric arrays."""
        return sorted(self.categories)

    @property
    def has_annotations(self) -> bool:
        return len(self._entries) > 0

    @property
    def has_occlusion(self) -> bool:
        """The annotations carry OVIS occlusion tags: the first one does."""
        first = next(iter(self._entries.video_ids), None)
        return first is not None and bool(self._entries.of(first)[0][1].get("occlusion"))

    @property
    def has_refined_masks(self) -> bool:
        """The annotations carry the refined masks of HQ-YTVIS, which are then used throughout: the first one does."""
        first = next(iter(self._entries.video_ids), None)
        return first is not None and self._entries.of(first)[0][1].get("segmentations_refined") is not None

    def subset(self, video_ids: Iterable[int]) -> GroundTruth:
        """What another process needs to evaluate these videos."""
        part = copy.copy(self)
        part._entries = self._entries.subset(video_ids)
        return part

    def count(self, video_id: int) -> int:
        """Number of the video's annotated objects."""
        return self._entries.count(video_id)

    def tracks(self, video_id: int) -> list[GroundTruthTrack]:
        """The video's annotated objects in file order."""
        video = self.videos[video_id]
        return [self._track(entry, video) for _, entry in self._entries.of(video_id)]

    def check_track(self, track: GroundTruthTrack) -> None:
        """Raise DataError unless the track's list has the video's length and every mask the video's size."""
        video = self.videos[track.video_id]
        where = f"{self.name}: video {video.id}, annotation {track.id}"
        if video.length is not None and len(track.segmentations) != video.length:
            raise DataError(
                f"{where}: 'segmentations' has {len(track.segmentations)} entries, the video {video.length} frames"
            )
        for frame, rle in enumerate(track.segmentations):
            if rle is not None and video.size is not None and tuple(rle["size"]) != video.size:
                raise DataError(
                    f"{where}, frame {frame}: mask of size {list(rle['size'])}, the video has {list(video.size)}"
                )

    def _video(self, entry: dict) -> Video:
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), int):
            raise DataError(f"{self.name}: an entry of 'videos' has no integer 'id'")
        file_names = tuple(entry.get("file_names") or ())
        length = entry.get("length") or len(file_names) or None
        return Video(entry["id"], entry.get("height"), entry.get("width"), length, file_names)

    def _track(self, entry: dict, video: Video) -> GroundTruthTrack:
        where = f"{self.name}: video {video.id}, annotation {entry.get('id')}"
        for key in ("category_id", "segmentations"):
            if key not in entry:
                raise DataError(f"{where}: field '{key}' is missing")
        if not isinstance(entry["segmentations"], list):
            raise DataError(f"{where}: 'segmentations' is not a list")
        areas = entry.get("areas")
        return GroundTruthTrack(
            id=entry.get("id", -1),
            video_id=video.id,
            category_id=entry["category_id"],
            is_crowd=bool(entry.get("iscrowd", 0)),
            segmentations=_masks(entry, video, where),
            average_area=None if areas is None else average_area(areas),
            occlusion=occlusion_score(entry["occlusion"], where) if entry.get("occlusion") is not None else None,
        )


def average_area(areas: Sequence[float | None]) -> float:
    """Mean of the entries that are neither null nor zero, 0 if there are none (rule 2.2 of the metric)."""
    present = [area for area in areas if area]
    return float(np.mean(np.array(present, dtype=np.float64))) if present else 0.0


def occlusion_score(tags: Sequence[str | None], where: str) -> float | None:
    """OVIS: mean level of the more occluded half (rounded up) of the tagged frames; None if no frame is tagged."""
    try:
        levels = sorted((OCCLUSION_LEVEL[tag] for tag in tags if tag is not None), reverse=True)
    except KeyError as error:
        raise DataError(f"{where}: 'occlusion' holds the unknown tag {error}") from None
    if not levels:
        return None
    worst = levels[: math.ceil(len(levels) / 2)]
    return sum(worst) / len(worst)


def _masks(entry: dict, video: Video, where: str) -> list[dict | None]:
    """An annotation's masks as RLEs: the refined ones of HQ-YTVIS where the annotation has them, falsy entries None."""
    refined = entry.get("segmentations_refined")
    segmentations = entry["segmentations"] if refined is None else refined
    masks: list[dict | None] = []
    for frame, mask in enumerate(segmentations):
        if not mask:
            masks.append(None)
        elif isinstance(mask, list):
            masks.append(_rasterise(mask, video, f"{where}, frame {frame}"))
        elif isinstance(mask, dict) and "size" in mask and "counts" in mask:
            masks.append(mask)
        else:
            raise DataError(f"{where}, frame {frame}: a segmentation is neither null, polygons nor an RLE")
    return masks


def _rasterise(polygons: list, video: Video, where: str) -> dict:
    """The union of a frame's polygons, drawn by COCO's rules at the video's size."""
    if video.size is None:
        raise DataError(f"{where}: polygons need the video's 'height' and 'width'")
    for part in polygons:
        numbers = isinstance(part, list) and all(isinstance(x, (int, float)) and math.isfinite(x) for x in part)
        if not numbers or len(part) < 6 or len(part) % 2:
            raise DataError(f"{where}: a polygon needs an even number of coordinates, at least 6")
    return coco_mask.merge(coco_mask.frPyObjects(polygons, *video.size))
