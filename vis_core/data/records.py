"""YouTube-VIS style json -> dataset records, one dict per video:

    {"file_names": [str] * T, "height", "width", "length": T, "video_id",
     "annotations": [[{"iscrowd", "category_id", "id", "bbox", "bbox_mode", "segmentation"}, ...]] * T}

``category_id`` is contiguous, ``id`` is the track's identity over the frames, ``bbox`` is [x, y, w, h] in pixels and
``segmentation`` a compressed run-length mask or a list of polygons. A video without ground truth has T empty lists.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from detectron2.structures import BoxMode

from vis_core.data.annotation_file import (
    fail,
    integer_field,
    is_key_of,
    read_annotation_file,
    read_annotations,
    read_categories,
)
from vis_core.data.masks import box_of_mask, checked_box, checked_mask
from vis_core.data.metadata import set_categories
from vis_core.data.paths import below

logger = logging.getLogger(__name__)
PROGRESS_SECONDS = 10.0


def load_ytvis_json(
    json_file: str | Path,
    image_root: str | Path,
    dataset_name: str | None = None,
    mask_field: str = "segmentations",
) -> list[dict]:
    """Records in ascending video id.

    Args:
        image_root: folder that the file's names are relative to.
        dataset_name: whose metadata get (or must already have) the file's categories.
        mask_field: where a track's masks lie; a track without it, or with null, falls back to "segmentations"
            (HQ-YTVIS keeps its better masks in "segmentations_refined").

    Boxes that are missing are derived from the masks.

    Raises:
        DataError: names file, video id, annotation id and field of the first thing that cannot be used.
    """
    start = time.perf_counter()
    data = read_annotation_file(json_file, "ytvis")
    categories = read_categories(json_file, data)
    contiguous = {category_id: i for i, category_id in enumerate(categories)}
    if dataset_name is not None:
        set_categories(dataset_name, json_file, categories)

    records: dict[int, dict] = {}
    for video in data["videos"]:
        record = _video_record(str(json_file), video, str(image_root))
        if record["video_id"] in records:
            fail(f"{json_file}: video {record['video_id']}", "id", "occurs twice")
        records[record["video_id"]] = record

    annotations = read_annotations(json_file, data)
    seen: set[tuple[int, int]] = set()
    dropped, last_message = 0, start
    for i, annotation in enumerate(annotations):
        dropped += _add_track(str(json_file), annotation, records, contiguous, mask_field, seen)
        if (now := time.perf_counter()) - last_message > PROGRESS_SECONDS:
            last_message = now
            logger.info("%s: %d of %d tracks read", json_file, i + 1, len(annotations))

    if dropped:
        logger.warning("%s: skipped %d masks whose polygons have less than three corners", json_file, dropped)
    if list(categories) != list(range(1, len(categories) + 1)):
        logger.warning("%s: category ids are not 1..%d; contiguous ids follow their order", json_file, len(categories))
    logger.info(
        "%s: %d videos, %d tracks%s, %.1f s",
        json_file,
        len(records),
        len(annotations),
        "" if annotations else " (no ground truth)",
        time.perf_counter() - start,
    )
    return [records[video_id] for video_id in sorted(records)]


def _video_record(json_file: str, video: dict, image_root: str) -> dict:
    if not isinstance(video, dict) or not isinstance(video.get("id"), int):
        fail(json_file, "videos", f"entry {str(video)[:80]} has no integer 'id'")
    where = f"{json_file}: video {video['id']}"
    names = video.get("file_names")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        fail(where, "file_names", "expected a list of file names, one per frame")
    length = integer_field(where, video, "length") if video.get("length") is not None else len(names)
    if length > len(names):
        fail(where, "length", f"is {length}, but there are {len(names)} file_names")
    return {
        "file_names": [below(image_root, name, where, "file_names") for name in names[:length]],
        "height": integer_field(where, video, "height"),
        "width": integer_field(where, video, "width"),
        "length": length,
        "video_id": video["id"],
        "annotations": [[] for _ in range(length)],
    }


def _add_track(json_file, annotation, records, contiguous, mask_field, seen) -> int:
    """Add one track to its video's record; returns how many of its masks had to be dropped."""
    track_id, video_id = annotation.get("id"), annotation.get("video_id")
    where = f"{json_file}: video {video_id}, annotation {track_id}"
    if video_id is None and "image_id" in annotation:
        fail(where, "video_id", "is missing, but there is an 'image_id': a COCO annotation?")
    if not is_key_of(video_id, records):
        fail(where, "video_id", "no such video in this file")
    if not isinstance(track_id, int):
        fail(where, "id", f"expected an integer, found {track_id!r}")
    if (video_id, track_id) in seen:
        fail(where, "id", "occurs twice in this video")
    seen.add((video_id, track_id))
    category_id = annotation.get("category_id")
    if not is_key_of(category_id, contiguous):
        fail(where, "category_id", f"{category_id!r} is not among the file's categories")

    record = records[video_id]
    field = mask_field if annotation.get(mask_field) is not None else "segmentations"
    masks = _per_frame(where, annotation, field, record["length"])
    boxes = _per_frame(where, annotation, "bboxes", record["length"]) if annotation.get("bboxes") else None
    dropped = 0
    for t, mask in enumerate(masks):
        if not mask:
            continue
        here = f"{where}, frame {t}"
        mask = checked_mask(here, field, mask, record["height"], record["width"])
        if mask is None:
            dropped += 1
            continue
        record["annotations"][t].append(
            {
                "iscrowd": annotation.get("iscrowd", 0),
                "category_id": contiguous[category_id],
                "id": track_id,
                "bbox": checked_box(here, "bboxes", (boxes and boxes[t]) or box_of_mask(mask)),
                "bbox_mode": BoxMode.XYWH_ABS,
                "segmentation": mask,
            }
        )
    return dropped


def _per_frame(where: str, annotation: dict, field: str, length: int) -> list:
    values = annotation.get(field)
    if not isinstance(values, list):
        fail(where, field, "is missing" if values is None else f"expected a list, found a {type(values).__name__}")
    if len(values) != length:
        fail(where, field, f"has {len(values)} entries, the video has {length} frames")
    return values
