"""Everything that is wrong with a YouTube-VIS json, told at once, and repaired where that is safe.

An error keeps training or evaluation from using the file, or makes it use something else than was meant; a warning is
worth a look. A repair is safe if it follows from the rest of the file: boxes and areas from masks, a length from its
list of files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pycocotools.mask as coco_mask

from vis_core.data.annotation_file import read_annotation_file
from vis_core.data.formats.paths import image_size
from vis_core.data.formats.regions import annotation_rle
from vis_core.data.paths import inside, leads_out
from vis_core.errors import DataError

_BOX_TOLERANCE = 1.5  # pixels that a box may differ from its mask's: others count pixels or corners
_AREA_TOLERANCE = 0.02  # share that an area may differ: others fill polygons by other rules


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong; ids and frame are None where it is not about one."""

    severity: str  # "error" or "warning"
    field: str
    message: str
    video: object = None
    annotation: object = None
    frame: int | None = None
    repair: Callable[[], None] | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        places = [("video", self.video), ("annotation", self.annotation), ("frame", self.frame)]
        where = ", ".join(f"{name} {value}" for name, value in places if value is not None)
        fixable = " [fixable]" if self.repair else ""
        return f"{self.severity}: {where + ', ' if where else ''}field '{self.field}': {self.message}{fixable}"

    def to_json(self) -> dict:
        names = ("severity", "video", "annotation", "frame", "field", "message")
        return {name: getattr(self, name) for name in names} | {"fixable": self.repair is not None}


def check_annotations(
    json_file: Path,
    frames: Path | None = None,
    track: Callable[[Sequence, str], Iterable] = lambda items, what: items,
) -> tuple[dict, list[Problem]]:
    """The file's contents and all that is wrong with them.

    Args:
        frames: folder that file names are relative to; None: frames are not looked at.
        track: wraps what is worked through, to show progress.

    Raises DataError only if the file is no json of videos at all.
    """
    data = read_annotation_file(json_file, "ytvis")
    checker = _Checker(data)
    checker.categories()
    checker.videos(frames, track)
    checker.annotations(track)
    checker.unused()
    return data, checker.problems


def repair(problems: Sequence[Problem]) -> int:
    """Apply all safe repairs to the contents that the problems were found in; returns how many."""
    repairs = [problem.repair for problem in problems if problem.repair]
    for apply in repairs:
        apply()
    return len(repairs)


class _Checker:
    def __init__(self, data: dict):
        self.data = data
        self.problems: list[Problem] = []
        self.category_ids: set[int] = set()
        self.by_id: dict[int, dict] = {}

    def _error(self, field: str, message: str, **where) -> None:
        self.problems.append(Problem("error", field, message, **where))

    def _warning(self, field: str, message: str, **where) -> None:
        self.problems.append(Problem("warning", field, message, **where))

    def categories(self) -> None:
        entries = self.data.get("categories")
        if not isinstance(entries, list) or not entries:
            self._error("categories", "is missing or empty")
            return
        names: Counter = Counter()
        for entry in entries:
            if not isinstance(entry, dict) or not _is_int(entry.get("id")) or not isinstance(entry.get("name"), str):
                self._error("categories", f"{str(entry)[:80]} has no integer 'id' or no 'name'")
                continue
            if entry["id"] in self.category_ids:
                self._error("categories", f"id {entry['id']} occurs twice")
            self.category_ids.add(entry["id"])
            names[entry["name"]] += 1
        for name, count in names.items():
            if count > 1:
                self._error("categories", f"name '{name}' occurs {count} times")
        if self.category_ids != set(range(1, len(self.category_ids) + 1)):
            self._warning("categories", f"ids are not 1 to {len(self.category_ids)}; contiguous ids follow their order")

    def videos(self, frames: Path | None, track: Callable) -> None:
        if not self.data["videos"]:
            self._error("videos", "is empty")
        for entry in track(self.data["videos"], "videos"):
            if not isinstance(entry, dict) or not _is_int(entry.get("id")):
                self._error("videos", f"entry {str(entry)[:80]} has no integer 'id'")
                continue
            where = {"video": entry["id"]}
            if entry["id"] in self.by_id:
                self._error("id", "occurs twice among the videos", **where)
                continue
            self.by_id[entry["id"]] = entry
            for side in ("height", "width"):
                if not _is_int(entry.get(side)) or entry[side] <= 0:
                    self._error(side, f"expected a positive integer, found {entry.get(side)!r}", **where)
            names = entry.get("file_names")
            if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
                self._error("file_names", "expected a list of file names, one per frame", **where)
                continue
            self._length(entry, len(names), where)
            self._file_names(entry, where)
            if frames is not None:
                self._frames(entry, frames, where)

    def _length(self, entry: dict, count: int, where: dict) -> None:
        length = entry.get("length")
        if length is None:
            self._warning("length", f"is missing; {count} file_names", **where, repair=_setter(entry, "length", count))
        elif not _is_int(length) or length <= 0:
            self._error("length", f"expected a positive integer, found {length!r}", **where)
        elif length > count:
            self._error("length", f"is {length}, but there are {count} file_names", **where)
        elif length < count:
            self._warning("length", f"is {length}: the last {count - length} of {count} file_names are unused", **where)

    def _file_names(self, entry: dict, where: dict) -> None:
        names = entry["file_names"]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            self._warning("file_names", f"'{twice[0]}' occurs twice ({len(twice)} such)", **where)
        if any("\\" in name for name in names):
            plain = [name.replace("\\", "/") for name in names]
            message = f"'{next(name for name in names if chr(92) in name)}' is a path of Windows only"
            self._error("file_names", message, **where, repair=_setter(entry, "file_names", plain))
        outside = next((name for name in names if leads_out(name)), None)
        if outside is not None:
            self._error("file_names", f"{outside!r} leads out of the folder of frames", **where)

    def _frames(self, entry: dict, frames: Path, where: dict) -> None:
        size = (entry.get("height"), entry.get("width"))
        for t, name in enumerate(entry["file_names"]):
            try:
                found = image_size(inside(frames, name, str(frames)))
            except DataError as e:
                self._error("file_names", str(e), **where, frame=t)
                continue
            if found != size:
                self._error("height, width", f"are {size}, but {name} has {found}", **where, frame=t)

    def annotations(self, track: Callable) -> None:
        entries = self.data.get("annotations")
        if entries is None:
            self._warning("annotations", "is missing: nothing to train on or to evaluate with")
            return
        if not isinstance(entries, list):
            self._error("annotations", f"expected a list, found a {type(entries).__name__}")
            return
        seen = Counter(entry["id"] for entry in entries if isinstance(entry, dict) and _is_int(entry.get("id")))
        texts: dict[tuple, object] = {}
        for entry in track(entries, "tracks"):
            if not isinstance(entry, dict):
                self._error("annotations", f"entry {str(entry)[:80]} is not an object")
                continue
            number = entry.get("id")
            where = {"video": entry.get("video_id"), "annotation": number}
            if not _is_int(number):
                self._error("id", f"expected an integer, found {number!r}", **where)
            elif seen[number] > 1:
                self._error("id", f"occurs {seen[number]} times", **where)
            if not _is_int(entry.get("category_id")) or entry["category_id"] not in self.category_ids:
                self._error("category_id", f"{entry.get('category_id')!r} is not among the categories", **where)
            if entry.get("iscrowd", 0) not in (0, 1):
                self._error("iscrowd", f"expected 0 or 1, found {entry['iscrowd']!r}", **where)
            video = self.by_id.get(entry["video_id"]) if _is_int(entry.get("video_id")) else None
            if video is None:
                hint = ": a COCO annotation?" if "image_id" in entry else ""
                self._error("video_id", f"no video {entry.get('video_id')!r} in this file{hint}", **where)
                continue
            rles, broken = self._masks(entry, video, where)
            if rles is None:
                continue
            self._boxes(entry, rles, broken, where)
            self._areas(entry, rles, broken, where)
            self._copies(entry, video, where)
            if broken:
                continue
            twin = texts.setdefault((entry["video_id"], *(rle and rle["counts"] for rle in rles)), number)
            if twin != number and any(rles):
                self._warning("segmentations", f"the same masks as annotation {twin}", **where)

    def _masks(self, entry: dict, video: dict, where: dict) -> tuple[list[dict | None] | None, set[int]]:
        """The masks of a track's frames, None if they cannot be told; and the frames, None among these, whose mask is
        malformed: what else the file says of them cannot be judged by the mask."""
        masks, length = entry.get("segmentations"), video.get("length")
        if not _is_int(length):
            length = len(video["file_names"]) if isinstance(video.get("file_names"), list) else None
        if not isinstance(masks, list):
            self._error(
                "segmentations", "is missing" if masks is None else "expected a list, one mask per frame", **where
            )
            return None, set()
        if length is not None and len(masks) != length:
            self._error("segmentations", f"has {len(masks)} entries, the video has {length} frames", **where)
            return None, set()
        height, width = video.get("height"), video.get("width")
        if not _is_int(height) or not _is_int(width) or min(height, width) <= 0:
            return None, set()
        rles: list[dict | None] = []
        broken: set[int] = set()
        for t, mask in enumerate(masks):
            rle = None
            if mask is not None:
                try:
                    rle = annotation_rle("", "segmentations", mask, height, width)
                except (DataError, TypeError, ValueError, OverflowError) as e:
                    broken.add(t)
                    message = " ".join(str(e).removeprefix(", field 'segmentations': ").split())
                    self._error("segmentations", message, **where, frame=t)
                else:
                    if rle is None:
                        nothing = _setter(masks, t, None)
                        self._warning(
                            "segmentations", "has no pixel; null means that", **where, frame=t, repair=nothing
                        )
            rles.append(rle)
        if not any(rles) and not broken:
            drop = _remover(self.data["annotations"], entry)
            self._warning("segmentations", "no frame has a mask: an object that nobody can find", **where, repair=drop)
        return rles, broken

    def _boxes(self, entry: dict, rles: list, broken: set[int], where: dict) -> None:
        right = [coco_mask.toBbox(rle).tolist() if rle else None for rle in rles]
        put = None if broken else _setter(entry, "bboxes", right)
        boxes = entry.get("bboxes")
        if boxes is None:
            self._warning("bboxes", "is missing; it follows from the masks", **where, repair=put)
            return
        if not isinstance(boxes, list) or len(boxes) != len(rles):
            self._error("bboxes", f"expected a list of {len(rles)}, one per frame", **where, repair=put)
            return
        for t, (box, wanted) in enumerate(zip(boxes, right)):
            if box is not None and not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
                self._error("bboxes", f"expected [x, y, w, h], found {str(box)[:60]}", **where, frame=t, repair=put)
            elif t in broken:
                continue
            elif (not box) != (wanted is None):
                missing = "there is a mask, but no box" if wanted else "there is a box, but no mask"
                self._warning("bboxes", missing, **where, frame=t, repair=put)
            elif wanted and _corner_distance(box, wanted) > _BOX_TOLERANCE:
                self._warning("bboxes", f"is {box}, but the mask's is {wanted}", **where, frame=t, repair=put)

    def _areas(self, entry: dict, rles: list, broken: set[int], where: dict) -> None:
        areas = entry.get("areas")
        if areas is None:
            return
        right = [int(coco_mask.area(rle)) if rle else None for rle in rles]
        put = None if broken else _setter(entry, "areas", right)
        if not isinstance(areas, list) or len(areas) != len(rles):
            self._error("areas", f"expected a list of {len(rles)}, one per frame", **where, repair=put)
            return
        for t, (area, wanted) in enumerate(zip(areas, right)):
            if t in broken:
                continue
            wrong = not _is_number(area) if wanted else bool(area)
            if wrong or (wanted and abs(area - wanted) > max(2, _AREA_TOLERANCE * wanted)):
                self._warning("areas", f"is {area}, but the mask has {wanted or 0}", **where, frame=t, repair=put)

    def _copies(self, entry: dict, video: dict, where: dict) -> None:
        for name in ("height", "width", "length"):
            if entry.get(name) is not None and video.get(name) is not None and entry[name] != video[name]:
                message = f"is {entry[name]}, but the video's is {video[name]}"
                self._warning(name, message, **where, repair=_setter(entry, name, video[name]))

    def unused(self) -> None:
        entries = self.data.get("annotations")
        if not isinstance(entries, list) or not entries:
            return
        entries = [entry for entry in entries if isinstance(entry, dict)]
        with_objects = {entry.get("video_id") for entry in entries if _is_int(entry.get("video_id"))}
        for number in sorted(self.by_id.keys() - with_objects):
            self._warning("annotations", "no object in the whole video", video=number)
        used = {entry.get("category_id") for entry in entries if _is_int(entry.get("category_id"))}
        for number in sorted(self.category_ids - used):
            self._warning("categories", f"no object of class {number}")


def _corner_distance(box: list, other: list) -> float:
    corners = [np.array([x, y, x + w, y + h], dtype=np.float64) for x, y, w, h in (box, other)]
    return float(np.abs(corners[0] - corners[1]).max())


def _is_int(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))


def _setter(holder, key, value) -> Callable[[], None]:
    return lambda: holder.__setitem__(key, value)


def _remover(items: list, item: object) -> Callable[[], None]:
    def remove() -> None:
        items[:] = [other for other in items if other is not item]

    return remove
